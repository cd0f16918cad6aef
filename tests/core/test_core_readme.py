"""The README says what is true: its examples are good ones, and its tables are complete."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from airflow.providers.common.compat.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger

from airflow_provider_geocatalog.auth import AuthMethod, ConnectionSettings
from airflow_provider_geocatalog.emulator.__main__ import _parser
from airflow_provider_geocatalog.provider_info import CONNECTION_FIELDS, get_provider_info

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    return re.split(r"^## ", README.split(f"## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def run_python(code: str, tmp_path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_dag_block_makes_a_dag_of_five_lines(tmp_path: Path) -> None:
    [code] = [block for block in blocks("python") if "DAG" in block]
    assert len([line for line in code.splitlines() if line]) == 5
    code = code.replace("schedule=None):", "schedule=None) as the_dag:")
    shown = run_python(f"{code}\nprint(the_dag.dag_id, the_dag.task_ids)", tmp_path)
    assert shown == "ingest_naip ['ingest']"


def test_emulator_block_starts_an_emulator(tmp_path: Path) -> None:
    [code] = [block for block in blocks("python") if "EmulatorServer" in block]
    assert run_python(code, tmp_path).startswith("http://127.0.0.1:")


def test_blocks_of_the_guide_to_items_run_one_after_the_other(tmp_path: Path) -> None:
    code = blocks("python", (ROOT / "docs" / "item-ingestion.md").read_text())
    made = "print(type(mirror).__name__, len(sources), len(transforms), there.task_id)"
    assert run_python("\n".join([*code, made]), tmp_path) == "StacToGeoCatalogOperator 3 10 there"


def test_arguments_in_the_guide_to_items_exist() -> None:
    from airflow_provider_geocatalog.transfer import sources
    from airflow_provider_geocatalog.transfer import transforms as made

    guide = (ROOT / "docs" / "item-ingestion.md").read_text()
    table = guide.split("| Argument of `StacApiSource` |", 1)[1].split("\n\n", 1)[0]
    named = {name for row in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == set(inspect.signature(sources.StacApiSource).parameters)
    transforms = {
        name
        for name in made.__all__
        if isinstance(kind := getattr(made, name), type) and issubclass(kind, made.Transform)
    }
    assert transforms - {"Transform", "set_collection"} <= set(re.findall(r"`(\w+)\(", guide))


def provider_classes() -> set[str]:
    info = get_provider_info()
    names = [
        name
        for kind in ("operators", "sensors", "triggers")
        for entry in info[kind]
        for name in entry["python-modules"]
    ]
    modules = [importlib.import_module(name) for name in names]
    return {
        name
        for module in modules
        for name in module.__all__
        if isinstance(thing := getattr(module, name), type) and issubclass(thing, BaseOperator | BaseTrigger)
    }


def test_operators_table_names_what_exists_and_nothing_else() -> None:
    table = section("Operators, sensors, triggers")
    named = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert named == provider_classes()


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0] for requirement in wanted} - {project["name"]}
    missing = names - set(re.findall(r"`([\w-]+)`", section("Dependencies")))
    assert not missing


def test_connection_tables_are_complete() -> None:
    text = section("The connection")
    assert set(re.findall(r"extra `(\w+)` \|", text)) == set(CONNECTION_FIELDS)
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) - {"auth_method"} == {
        method.value for method in AuthMethod
    }


def test_connection_examples_are_the_same_connection(tmp_path: Path) -> None:
    examples = re.findall(r"AIRFLOW_CONN_GEOCATALOG_DEFAULT='(.*?)'", section("The connection"), re.DOTALL)
    code = (
        "import json, sys\n"
        "from airflow.providers.common.compat.sdk import BaseHook\n"
        "conn = BaseHook.get_connection('geocatalog_default')\n"
        "print(json.dumps([conn.host, conn.schema, conn.login, conn.password, conn.port, conn.extra_dejson]))"
    )
    settings = []
    for example in examples:
        shown = run_python(f"import os\nos.environ['AIRFLOW_CONN_GEOCATALOG_DEFAULT'] = {example!r}\n{code}", tmp_path)
        host, schema, login, password, port, extra = json.loads(shown)
        settings.append(
            ConnectionSettings.from_fields(
                host=host, schema=schema, login=login, password=password, port=port, extra=extra
            )
        )
    assert len(settings) == 2
    assert settings[0] == settings[1]
    assert settings[0].secret == "the client secret"


def test_emulator_flags_are_all_described() -> None:
    flags = {flag for action in _parser()._actions for flag in action.option_strings if flag.startswith("--")}
    assert flags - {"--help"} <= set(re.findall(r"--[a-z-]+", section("The emulator")))
