"""
Every code block of the documentation does what it says: Python runs, commands exist, data parses.

A Python block goes on from those before it on its page. ``<!-- fragment: why -->`` before a block says that it cannot
run here: then it has to compile, and what it imports has to be there. ``<!-- path/to/file.py -->`` says that it is a
file of the example that ``tests/emulator`` runs.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.emulator.__main__ import _parser as emulator_parser
from airflow_provider_geocatalog.provider_info import get_provider_info
from tests.fakes.tasks import TOKEN, TaskInstance, execute

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "airflow_provider_geocatalog"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]+) -->\n)?(?P<indent> *)```(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Docstrings whose block ends in an error on the emulator, and what it says.
ENDING_IN = {"hooks.geocatalog.GeoCatalogHook.get_sdk_client": "NotEmulated"}
#: Modules whose public names docstrings take for granted, beside those of their own, of Airflow and of the provider's
#: modules that Airflow lists.
GIVEN = ("transfer.sources",)


@dataclass(frozen=True)
class Block:
    """A code block, and where it is."""

    place: str
    language: str
    code: str
    mark: str = ""

    def __str__(self) -> str:
        return self.place

    @property
    def is_fragment(self) -> bool:
        return self.mark.startswith("fragment:")

    @property
    def is_file(self) -> bool:
        return self.mark.endswith(".py")

    @property
    def is_test(self) -> bool:
        return not self.mark and "def test_" in self.code


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in BLOCK.finditer(text):
        if not match["language"].startswith("{"):  # these are directives of the site
            place = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, match.start('code'))}"
            code = textwrap.dedent(match["code"])
            found.append(Block(place, match["language"], code, match["mark"] or ""))
    return found


BLOCKS = {page: blocks_of(page) for page in PAGES}


def every(*languages: str) -> Any:
    found = [block for blocks in BLOCKS.values() for block in blocks if block.language in languages]
    return pytest.mark.parametrize("block", found, ids=str)


def docstring_blocks() -> list[Block]:
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        tree = ast.parse(file.read_text())
        for name, node in [(module, tree), *named(tree, module)]:
            for match in re.finditer(r"^\.\. code-block:: (\w+)\n\n((?:    .*\n|\n)+)", documented(node), re.MULTILINE):
                found.append(Block(name, match[1], textwrap.dedent(match[2])))
    return found


def named(node: ast.AST, prefix: str) -> list[tuple[str, Any]]:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    inner = [(f"{prefix}.{one.name}", one) for one in ast.iter_child_nodes(node) if isinstance(one, kinds)]
    return inner + [entry for name, one in inner for entry in named(one, name)]


def documented(node: Any) -> str:
    return f"{ast.get_docstring(node) or ''}\n"


DOCSTRINGS = docstring_blocks()


# --- Python ----------------------------------------------------------------------------------------------------------


def item(item_id: str) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
        "bbox": [1.0, 2.0, 1.0, 2.0],
        "properties": {"datetime": "2024-01-01T00:00:00Z"},
        "links": [],
        "assets": {},
    }


COLLECTION = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": "naip",
    "description": "what the pages speak of",
    "license": "CC-BY-4.0",
    "links": [],
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A GeoCatalog with the collection that pages speak of, the default connection to it, and a folder to be in."""
    from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

    monkeypatch.chdir(tmp_path)
    (tmp_path / "naip.json").write_text(json.dumps(COLLECTION))
    with EmulatorServer(Emulator(EmulatorSettings.fast(admin_tokens=(TOKEN,)))) as server:
        extra = {"auth_method": "static_token"}
        connection = {"conn_type": "geocatalog", "host": server.url, "password": TOKEN, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_GEOCATALOG_DEFAULT", json.dumps(connection))
        client = GeoCatalogHook().client
        client.wait(client.create_collection(COLLECTION))
        client.wait(client.create_item("naip", item("first")))
        yield client


def run(blocks: list[Block], names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run blocks one after the other, in a DAG that they need not make; return what they have defined."""
    from airflow.providers.common.compat.sdk import DAG

    names = names or {"__name__": "a_page"}
    with DAG("a_page", schedule=None):
        for block in blocks:
            exec(compile(block.code, block.place, "exec"), names)
    return names


def runnable(page: Path) -> list[Block]:
    return [block for block in BLOCKS[page] if block.language == "python" and not (block.mark or block.is_test)]


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, client) -> None:
    run(runnable(page))


async def test_the_readmes_tasks_do_what_they_say(client) -> None:
    names = run(runnable(ROOT / "README.md"))

    assert names["add_item"].function(item("second"))["id"] == "second"
    assert set(await names["item_ids"].function("naip")) == {"first", "second"}


async def test_the_tasks_of_the_page_of_operations_do_what_they_say(client) -> None:
    names = run(runnable(ROOT / "docs" / "operations.md"))

    assert names["count_items"].function("naip") == 1
    assert await names["describe"].function("naip") == COLLECTION["description"]
    assert names["add_item"].function(item("second"))["id"] == "second"


def test_the_deletion_and_the_creation_of_a_collection_do_what_they_say(client) -> None:
    names = run(runnable(ROOT / "docs" / "collections.md"))

    assert execute(names["delete"], TaskInstance())["action"] == "deleted"
    assert execute(names["create"], TaskInstance())["action"] == "created"
    assert list(client.list_items("naip")) == []


def test_the_apply_of_a_document_does_what_it_says(client, tmp_path: Path) -> None:
    page = ROOT / "docs" / "collection-as-code.md"
    [document] = [block.code for block in BLOCKS[page] if block.language == "yaml"]
    without_files = re.sub(r"^assets:\n(  .*\n)+", "", document, flags=re.MULTILINE)
    (tmp_path / "collections").mkdir()
    (tmp_path / "collections" / "naip.yaml").write_text(without_files)
    client.wait(client.delete_collection("naip"))
    names = run(runnable(page))
    names["apply"].approved_plan = execute(names["plan"], TaskInstance())

    execute(names["apply"], TaskInstance())

    assert execute(names["check"], TaskInstance())["in_line"]
    assert client.get_collection("naip")["title"] == "NAIP"


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.is_test for b in BLOCKS[page])], ids=lambda p: p.name)
def test_tests_on_a_page_pass(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(block for block in BLOCKS[page] if block.is_test):
        (tmp_path / f"test_block_{number}.py").write_text(block.code)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["airflow_provider_geocatalog.emulator.pytest_plugin"]\n')
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-c", os.devnull, "--rootdir", "."]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def check_fragment(block: Block, known: set[str]) -> None:
    """Compile, import what is imported, and find every name that is used."""
    tree = ast.parse(block.code)
    known = {*known, *vars(builtins)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{block}: {node.module} has no {', '.join(missing)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            known |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            known.add(node.id)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assert used <= known, f"{block}: {', '.join(used - known)} is not known"


@pytest.mark.parametrize("block", [b for blocks in BLOCKS.values() for b in blocks if b.is_fragment], ids=str)
def test_a_fragment_compiles_and_what_it_names_is_there(block: Block) -> None:
    check_fragment(block, set())


@pytest.mark.parametrize("block", [b for blocks in BLOCKS.values() for b in blocks if b.is_file], ids=lambda b: b.mark)
def test_a_block_that_is_a_file_compiles(block: Block) -> None:
    assert ast.parse(block.code).body


def test_every_mark_is_one_that_is_known() -> None:
    marked = [block for blocks in BLOCKS.values() for block in blocks if block.mark and block.language == "python"]

    assert [str(block) for block in marked if not (block.is_fragment or block.is_file)] == []


@pytest.mark.parametrize("block", DOCSTRINGS, ids=str)
def test_the_code_of_a_docstring_runs(block: Block, client) -> None:
    assert block.language == "python"
    module = importlib.import_module(".".join([PACKAGE.name, *module_of(block.place)]))
    names = {**given(), **dict(inspect.getmembers(module))}
    if leaves_out(block.code):
        check_fragment(block, set(names))
    elif expected := ENDING_IN.get(block.place):
        with pytest.raises(Exception, match=expected):
            run([block], names)
    else:
        run([block], names)


def given() -> dict[str, Any]:
    info = get_provider_info()
    entries = [entry for kind in ("operators", "sensors", "hooks", "triggers") for entry in info[kind]]
    listed = [name for entry in entries for name in entry["python-modules"]]
    names = {}
    for name in ["airflow.sdk", *listed, *(f"{PACKAGE.name}.{name}" for name in GIVEN)]:
        module = importlib.import_module(name)
        names.update({one: getattr(module, one) for one in getattr(module, "__all__", dir(module))})
    return names


def module_of(place: str) -> list[str]:
    parts = place.split(".")
    while not (PACKAGE.joinpath(*parts).with_suffix(".py").exists() or PACKAGE.joinpath(*parts).is_dir()):
        parts.pop()
    return [part for part in parts if part != "__init__"]


def leaves_out(code: str) -> bool:
    """Return whether a call has an argument ``...``: the mark of a docstring's block that cannot run as it stands."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return any(isinstance(one, ast.Constant) and one.value is ... for call in calls for one in call.args)


def test_docstrings_that_end_in_an_error_exist() -> None:
    assert set(ENDING_IN) <= {block.place for block in DOCSTRINGS}


# --- commands and data -----------------------------------------------------------------------------------------------


def test_every_block_says_its_language() -> None:
    found = {block.place: block.language for blocks in BLOCKS.values() for block in blocks}

    assert {place: one for place, one in found.items() if one not in {"python", "shell", "json", "yaml", "text"}} == {}


@every("json")
def test_json_parses(block: Block) -> None:
    assert json.loads(block.code)


@every("yaml")
def test_yaml_parses(block: Block) -> None:
    assert yaml.safe_load(block.code)


@every("shell")
def test_commands_exist(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, environment = recorded(block.code, tmp_path)

    assert calls or environment
    for name, arguments in calls:
        CHECKS[name](arguments)
    for name, value in environment.items():
        check_variable(name, value, monkeypatch)


#: Stands for a command: writes down how it was called, with what it finds in the environment. It writes once: the
#: commands of a pipe run at the same time.
RECORDER = """#!{bash}
call=("${{0##*/}}" "$@" $'\\1')
printf '%s\\0' "${{call[@]}}" >> "$RECORD"
for name in "${{!AIRFLOW@}}" "${{!GEOCATALOG@}}"; do printf '%s\\0' "$name=${{!name}}" >> "$RECORD.env"; done
"""


def recorded(code: str, folder: Path) -> tuple[list[tuple[str, list[str]]], dict[str, str]]:
    """Run commands in a shell that has nothing but recorders for them; return the calls and variables."""
    bash = str(shutil.which("bash"))
    for name in [*CHECKS, ".venv/bin/python"]:
        path = folder / name if "/" in name else folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(RECORDER.format(bash=bash))
        path.chmod(0o755)
    (folder / "collections").mkdir()
    record = folder / "record"
    finish = 'for name in "${!AIRFLOW@}" "${!GEOCATALOG@}"; do printf \'%s\\0\' "$name=${!name}" >> "$RECORD.env"; done'
    done = subprocess.run(
        [bash, "--norc", "-eu", "-c", f"{code}\n{finish}"],
        cwd=folder,
        env={"PATH": str(folder / "bin"), "RECORD": str(record)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = record.read_text() if record.exists() else ""
    calls = [entry.split("\0")[:-1] for entry in written.split("\1\0")[:-1]]
    variables = folder / "record.env"
    pairs = variables.read_text().split("\0")[:-1] if variables.exists() else []
    return [(call[0], call[1:]) for call in calls], dict(pair.split("=", 1) for pair in pairs)


def check_make(arguments: list[str]) -> None:
    settings = {*re.findall(r"\$\((\w+)\)", MAKEFILE), *re.findall(r"^export (.*)$", MAKEFILE, re.MULTILINE)[0].split()}
    for argument in arguments:
        if "=" in argument:
            assert argument.partition("=")[0] in settings
        else:
            assert re.search(rf"^{re.escape(argument)}:.*## ", MAKEFILE, re.MULTILINE), f"no target {argument}"


def check_airflow(arguments: list[str]) -> None:
    from airflow.cli.cli_parser import get_parser

    get_parser().parse_args(arguments)


def check_python(arguments: list[str]) -> None:
    from airflow_provider_geocatalog.collection_cli import _parser as collection_parser

    parsers = {"emulator": emulator_parser, "collection_cli": collection_parser}
    assert arguments[0] == "-m"
    package, _, name = arguments[1].partition(".")
    assert package == PACKAGE.name
    parsers[name]().parse_args(arguments[2:])


def check_pip(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    for wanted in arguments[1:]:
        wheel = f"dist/{PROJECT['name'].replace('-', '_')}-*.whl"
        extra = re.fullmatch(rf"{PROJECT['name']}(?:\[([\w,-]+)\])?", wanted)
        assert wanted == wheel or extra, wanted
        if extra and extra[1]:
            assert set(extra[1].split(",")) <= set(PROJECT["optional-dependencies"])


def check_pytest(arguments: list[str]) -> None:
    for option, value in pairwise(arguments):
        if option == "-W":
            module, _, name = value.rpartition(":")[2].rpartition(".")
            assert issubclass(getattr(importlib.import_module(module), name), Warning)


CHECKS: dict[str, Any] = {
    "airflow": check_airflow,
    "grep": lambda arguments: None,
    "make": check_make,
    "pip": check_pip,
    "pytest": check_pytest,
    "python": check_python,
}


def check_variable(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.common.compat.sdk import BaseHook, conf

    if match := re.fullmatch(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+)", name):
        assert conf.has_option(match[1].lower(), match[2].lower()), name
    elif name.startswith("AIRFLOW_CONN_"):
        monkeypatch.setenv(name, value)
        assert BaseHook.get_connection(name.removeprefix("AIRFLOW_CONN_").lower()).conn_type == "geocatalog"
    else:
        assert name == "AIRFLOW_HOME" or name in (PACKAGE / "collection_cli.py").read_text(), name
