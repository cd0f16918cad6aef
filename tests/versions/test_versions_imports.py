"""What this Airflow makes of the modules, the example DAGs and the metadata; ``make test-matrix`` asks several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_geocatalog.provider_info import get_provider_info
from tests.fakes.versions_table import supported

PROBE = Path(__file__).with_name("versions_probe.py")
#: Modules that say with an error which Airflow they need, and the version.
NEED_LATER = {"airflow_provider_geocatalog.retry_policies": (3, 3)}
#: Example DAGs that leave themselves out, as their first lines say.
EXAMPLES_NEED_LATER = {"geocatalog_watch_operations": (3, 0)}


@pytest.fixture(scope="module")
def told(own_airflow, tmp_path_factory):
    path = tmp_path_factory.mktemp("told") / "told.json"
    own_airflow.run(str(PROBE), str(path))
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def version(told) -> tuple[int, ...]:
    return tuple(int(part) for part in told["airflow"].split(".")[:2])


def test_every_module_can_be_imported(told, version):
    modules = told["modules"]
    listed = {
        name
        for kind in ("operators", "sensors", "hooks", "triggers")
        for entry in get_provider_info()[kind]
        for name in entry["python-modules"]
    }
    too_early = {name for name, needed in NEED_LATER.items() if version < needed}

    assert listed <= set(modules)
    assert {name: said for name, said in modules.items() if said != "imported" and name not in too_early} == {}
    for name in too_early:
        assert "needs Airflow {}.{}".format(*NEED_LATER[name]) in modules[name]


def test_every_example_dag_parses_and_is_stored(told, version):
    too_early = {name for name, needed in EXAMPLES_NEED_LATER.items() if version < needed}

    assert len(told["examples"]) >= 5
    for name, dags in told["examples"].items():
        if name in too_early:
            assert dags == {}
        else:
            assert isinstance(dags, dict), f"{name}: {dags}"
            assert dags
            assert all(id_.startswith(name) and tasks for id_, tasks in dags.items()), dags


def test_airflow_lists_the_provider(own_airflow):
    listed = {row["package_name"]: row for row in own_airflow.command("providers", "list")}

    assert listed["airflow-provider-geocatalog"]["description"].startswith("Collections, ingestion sources")


def test_airflow_knows_the_hook(own_airflow):
    hooks = {row["connection_type"]: row for row in own_airflow.command("providers", "hooks")}

    assert hooks["geocatalog"]["class"].endswith("GeoCatalogHook")
    assert hooks["geocatalog"]["conn_id_attribute_name"] == "geocatalog_conn_id"
    assert hooks["geocatalog"]["hook_name"] == "Planetary Computer Pro GeoCatalog"


def test_airflow_takes_how_the_form_looks(own_airflow, version):
    if (3, 0) <= version < (3, 2):
        pytest.skip("the command of Airflow 3.0 and 3.1 shows nothing without FAB")

    assert {"field_behaviours": "geocatalog"} in own_airflow.command("providers", "behaviours")


def test_this_airflow_has_what_the_documentation_says(told, version):
    table = supported(version)
    documented = {name: table[name].startswith("yes") for name in told["features"]}

    assert told["features"] == documented
