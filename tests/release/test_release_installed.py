"""
The wheel in a new environment, without the checkout, the extras and what the tests bring along.

Making the environment takes a minute or two: everything that Airflow needs is installed.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from airflow_provider_geocatalog import __version__
from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.provider_info import get_provider_info
from tests.fakes.items import stac_item

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_geocatalog"
NAME = "airflow-provider-geocatalog"
TOKEN = "release-test-token"
#: Packages and modules that need an extra, and which one. What is inside of a package needs it as well.
NEED_AN_EXTRA = {f"{PACKAGE}.emulator": "emulator", f"{PACKAGE}.sdk_client": "sdk"}
COLLECTION = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": "release",
    "description": "For the smoke test of a release.",
    "license": "CC-BY-4.0",
    "links": [],
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
}

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def told(installed):
    path = installed.folder / "told.json"
    installed.run("-I", str(Path(__file__).with_name("release_probe.py")), str(path))
    return json.loads(path.read_text())


def test_the_package_is_the_installed_one(installed, told):
    assert Path(told["folder"]).is_relative_to(installed.python.parents[1])
    assert told["version"] == told["airflow"]["version"] == __version__


def test_every_module_imports_or_names_the_extra_that_it_needs(told):
    modules = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in (ROOT / PACKAGE).rglob("*.py")
        if file.stem != "__main__"
    }
    assert set(told["modules"]) == modules
    for name, said in told["modules"].items():
        extra = next((extra for root, extra in NEED_AN_EXTRA.items() if f"{name}.".startswith(f"{root}.")), None)
        # What a package has imported before it failed stays imported.
        assert said == "imported" or f"install {NAME}[{extra}]" in said, f"{name}: {said}"
    assert {name for name in NEED_AN_EXTRA if told["modules"][name] == "imported"} == set()


def test_airflow_lists_the_provider_and_all_that_it_says_of_itself(installed):
    listed = installed.run("-m", "airflow", "providers", "list", "--output", "json").stdout
    [row] = [row for row in _json(listed) if row["package_name"] == NAME]
    assert row["version"].strip() == __version__

    shown = installed.run("-m", "airflow", "providers", "get", NAME, "--full", "--output", "json").stdout
    [row] = _json(shown)
    assert row["package-name"] == NAME
    assert set(get_provider_info()) <= set(row)


def test_airflow_knows_hook_triggers_links_and_assets(told):
    info = get_provider_info()
    known = told["airflow"]

    assert known["hook"] == info["connection-types"][0]["hook-class-name"]
    assert known["links"] == sorted(info["extra-links"])
    modules = {name for entry in info["triggers"] for name in entry["python-modules"]}
    assert set(known["triggers"]) == modules
    assert known["asset schemes"] == {"handler": True, "factory": True, "to openlineage": True}
    assert told["asset"] == "geocatalog://name.uksouth.example.com/naip"


def test_the_example_dags_inside_parse(told):
    assert told["examples"]["errors"] == {}
    assert told["examples"]["files"] == sorted(file.stem for file in (ROOT / "example_dags").glob("*.py"))


def test_the_example_dag_ingests_a_catalog_and_defers_on_the_way(installed, told, tmp_path):
    ids = ["one", "two"]
    links = [{"rel": "item", "href": f"./{name}.json"} for name in ids]
    documents = {name: stac_item(name) for name in ids} | {
        "catalog": {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "description": "d", "links": links},
        "collection": COLLECTION,
    }
    box = tmp_path / "box"
    box.mkdir()
    for name, document in documents.items():
        (box / f"{name}.json").write_text(json.dumps(document))
    # Slow enough for a wait in the triggerer.
    settings = EmulatorSettings.fast(
        admin_tokens=(TOKEN,), public_containers={"box": box}, pending_seconds=5.0, items_per_second=0.5
    )
    dag_id = "geocatalog_bulk_ingestion"
    dags = Path(installed.environment["AIRFLOW__CORE__DAGS_FOLDER"])
    dags.mkdir(parents=True)
    shutil.copy(Path(told["folder"]) / "example_dags" / f"{dag_id}.py", dags)
    installed.run("-m", "airflow", "db", "migrate")
    with EmulatorServer(Emulator(settings)) as server:
        connection = {"conn_type": "geocatalog", "host": server.url, "password": TOKEN}
        connection["extra"] = {"auth_method": "static_token"}
        conf = {
            "catalog_url": f"{server.url}/_emulator/storage/box/catalog.json",
            "collection": str(box / "collection.json"),
            "container_url": "",
        }
        done = installed.run(
            *("-m", "airflow", "dags", "test", dag_id, "2026-01-01", "--conf", json.dumps(conf)),
            AIRFLOW_CONN_GEOCATALOG_DEFAULT=json.dumps(connection),
        )
        requests = Counter(str(request.operation) for request in server.emulator.requests)
    output = done.stdout + done.stderr

    assert "2 items are readable in release" in output, output[-6000:]
    assert "DEFERRED" in output.upper()
    assert (requests["create_collection"], requests["create_run"]) == (1, 1)
    assert TOKEN not in output


def test_the_source_distribution_installs_as_well(installed, artefacts, told):
    """It comes last: it takes the wheel's place."""
    installed.install("--force-reinstall", "--no-deps", str(artefacts.sdist))

    listed = installed.run("-m", "airflow", "providers", "list", "--output", "json").stdout
    assert NAME in {row["package_name"] for row in _json(listed)}
    path = installed.folder / "told-again.json"
    installed.run("-I", str(Path(__file__).with_name("release_probe.py")), str(path))
    assert json.loads(path.read_text()) == told


def _json(output: str) -> list[dict[str, str]]:
    """Return the answer of an ``airflow`` command; lines of the log may come first."""
    return json.loads(output[output.index("[{") if "[{" in output else output.index("[\n") :])
