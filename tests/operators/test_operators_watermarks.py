"""What tasks remember over DAG runs and over tries, in a real Airflow."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import textwrap

import pytest
from airflow.providers.common.compat.sdk import Asset
from airflow.triggers.base import BaseTrigger

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.operators.watermarks import CheckpointStore, WatermarkStore

HAS_ASSET_STATE = hasattr(BaseTrigger, "render_template_fields")  # both came with Airflow 3.3
ASSET = Asset("scenes")
DAGS = textwrap.dedent(
    """
    import json
    import sys

    import pendulum
    from airflow.providers.common.compat.sdk import DAG, Asset, get_current_context, task
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
    from airflow_provider_geocatalog.operators.watermarks import CheckpointStore, WatermarkStore

    SCENES = Asset("scenes")
    # Airflow 3.0 refuses to run a task whose assets no scheduler has seen.
    OUTLETS = [SCENES] if hasattr(BaseTrigger, "render_template_fields") else []

    with DAG("remembering", schedule=None, start_date=pendulum.datetime(2024, 1, 1, tz="UTC")) as dag:

        @task(outlets=OUTLETS)
        def remember():
            from airflow.providers.common.compat.sdk import Variable

            context = get_current_context()
            conf = context["dag_run"].conf
            if "variable" in conf:
                Variable.set("geocatalog_watermark__scenes", conf["variable"])
            name = conf.get("name", "scenes")
            store = WatermarkStore.of(context, name, SCENES if conf.get("asset") else None, field="updated")
            told = {"where": store.describe()}
            try:
                told["before"] = store.get()
                if "value" in conf:
                    told["returned"] = store.set({"value": conf["value"]}, may_go_back=conf.get("back", False))
                told["after"] = store.get()
            except GeoCatalogInvalidInput as error:
                told["error"] = str(error)
            told["variable"] = Variable.get("geocatalog_watermark__scenes", None)
            with open(conf["answer"], "w") as file:
                json.dump(told, file)

        @task
        def resume():
            context = dict(get_current_context())
            conf, told = context["dag_run"].conf, {}
            for name in ("task state", "Variable"):
                if name == "Variable":
                    context.pop("task_state_store", None)
                store = CheckpointStore.of(context)
                store.clear()  # of nothing
                seen = [store.get()]
                store.set({"done": 60})
                store.set({"done": 61, "ids": ["ü" * 40] * 700})
                seen.append(CheckpointStore.of(context).get())
                store.clear()
                told[name] = [store.describe(), *seen, store.get()]
            with open(conf["answer"] + ".checkpoint", "w") as file:
                json.dump(told, file)

        @task.short_circuit
        def is_first():
            return not get_current_context()["dag_run"].conf["number"]

        is_first() >> [resume()]
        remember()

    if __name__ == "__main__":
        from airflow.utils.db import initdb

        initdb()
        for conf in json.loads(sys.argv[1]):
            dag.test(run_conf=conf)
    """
)
#: One DAG run after the other.
RUNS = {
    "first": {"value": "2024-02-01T00:00:00Z"},
    "older": {"value": "2024-01-31T23:59:59.9+00:00"},
    "newer": {"value": "2024-02-01T03:00:00+02:00"},
    "back": {"value": "2024-01-15T00:00:00Z", "back": True},
    "with an asset": {"value": "2024-03-01T00:00:00Z", "asset": True},
    "with an asset, older": {"value": "2024-02-01T00:00:00Z", "asset": True},
    "from the environment": {"value": "2024-04-01T00:00:00Z", "asset": True, "name": "seeded"},
    "by hand": {"variable": "2024-05-01T00:00:00Z"},
    "rubbish": {"variable": '{"value": 7}', "value": "2024-06-01T00:00:00Z"},
    "other field": {"variable": '{"value": "2024-06-01T00:00:00Z", "field": "datetime"}'},
}


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """Carry out the DAG runs, and return what they told."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    (home / "dags" / "remembering.py").write_text(DAGS)
    answers = {name: home / f"answer-{number}" for number, name in enumerate(RUNS)}
    confs = [
        {**conf, "number": number, "answer": str(answers[name])} for number, (name, conf) in enumerate(RUNS.items())
    ]
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_VAR_GEOCATALOG_WATERMARK__SEEDED": "2024-03-31T00:00:00Z",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, str(home / "dags" / "remembering.py"), json.dumps(confs)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = {name: json.loads(answer.read_text()) for name, answer in answers.items()}
    told["checkpoint"] = json.loads((home / "answer-0.checkpoint").read_text())
    return told


@dataclasses.dataclass
class Instance:
    dag_id: str = "dag"
    task_id: str = "group.task"
    run_id: str = "scheduled__2024-01-01T00:00:00+00:00"
    map_index: int = -1


def test_a_watermark_is_kept_over_runs_in_a_variable(airflow):
    first, older = airflow["first"], airflow["older"]
    assert first["before"] is None
    assert first["where"] == "the Airflow Variable geocatalog_watermark__scenes"
    assert first["after"] == first["returned"] == older["before"]
    assert first["after"]["value"] == "2024-02-01T00:00:00Z"
    assert first["after"]["field"] == "updated"
    assert first["after"]["run_id"].startswith("manual__")


def test_a_watermark_goes_back_only_when_it_is_told_to(airflow):
    assert airflow["older"]["returned"] == airflow["older"]["after"] == airflow["first"]["after"]
    assert airflow["newer"]["after"]["value"] == RUNS["newer"]["value"]  # later only if the time zone counts
    assert airflow["back"]["after"]["value"] == "2024-01-15T00:00:00Z"


@pytest.mark.skipif(not HAS_ASSET_STATE, reason="assets of this Airflow have no state")
def test_the_state_of_an_asset_takes_over_what_a_variable_had(airflow):
    taken, older = airflow["with an asset"], airflow["with an asset, older"]
    assert taken["where"] == "geocatalog_watermark__scenes in the state of the asset scenes"
    assert taken["before"]["value"] == "2024-01-15T00:00:00Z"
    assert taken["after"]["value"] == "2024-03-01T00:00:00Z"
    assert taken["variable"] is None
    assert older["before"] == older["after"] == taken["after"]
    seeded = airflow["from the environment"]  # which nobody can delete
    assert (seeded["before"]["value"], seeded["after"]["value"]) == ("2024-03-31T00:00:00Z", "2024-04-01T00:00:00Z")


@pytest.mark.skipif(HAS_ASSET_STATE, reason="assets of this Airflow have a state")
def test_without_state_an_asset_makes_no_difference(airflow):
    assert airflow["with an asset"]["where"] == "the Airflow Variable geocatalog_watermark__scenes"
    assert airflow["with an asset"]["after"]["value"] == "2024-03-01T00:00:00Z"


def test_a_watermark_may_be_set_by_hand_to_a_moment(airflow):
    assert airflow["by hand"]["before"] == {"value": "2024-05-01T00:00:00Z"}


@pytest.mark.parametrize(("run", "says"), [("rubbish", "is no watermark; set it to"), ("other field", "'datetime'")])
def test_what_is_no_watermark_is_not_overwritten(airflow, run, says):
    assert says in airflow[run]["error"]
    assert "or delete it to begin anew" in airflow[run]["error"]
    assert airflow[run]["variable"] == RUNS[run]["variable"]


def test_a_checkpoint_is_kept_until_it_is_cleared(airflow):
    for where, (described, nothing, kept, cleared) in airflow["checkpoint"].items():
        assert (nothing, cleared) == (None, None)
        assert kept == {"done": 61, "ids": ["ü" * 40] * 700}
        assert where in described or where == "task state"


def test_checkpoints_of_task_instances_have_names_of_their_own():
    instances = [
        Instance(),
        Instance(map_index=0),
        Instance(run_id="scheduled__2024-01-01T00-00-00-00-00"),
        Instance(dag_id="dag__group.task", task_id="scheduled"),
        *(Instance("d" * 250, "t" * 250, "r" * 249 + last, 1000) for last in "ab"),
    ]
    names = {CheckpointStore.of({"ti": one}).describe().rsplit(" ", 1)[1] for one in instances}
    assert len(names) == len(instances)
    assert all(name.startswith("geocatalog_checkpoint__d") and len(name) <= 200 for name in names)
    assert all(set(name).isdisjoint(":+/?#% ") for name in names)


def test_what_is_no_checkpoint_counts_as_none(monkeypatch):
    store = CheckpointStore.of({"ti": Instance()})
    key = store.describe().rsplit(" ", 1)[1]
    for text, found in {'{"done": 1}': {"done": 1}, "[1]": None, "{": None}.items():
        monkeypatch.setenv(f"AIRFLOW_VAR_{key.upper()}", text)
        assert store.get() == found


@pytest.mark.parametrize("name", ["", "a b", "a/b", "{{ x }}", "n" * 201, None, 7])
def test_names_that_cannot_be_part_of_a_key_are_refused(name):
    with pytest.raises(GeoCatalogInvalidInput, match="the name of a watermark"):
        WatermarkStore.of({"ti": Instance()}, name)


@pytest.mark.parametrize("value", [{}, {"value": None}, {"value": "soon"}, {"value": 5}])
def test_a_watermark_is_a_moment(value):
    with pytest.raises(GeoCatalogInvalidInput, match="needs a moment"):
        WatermarkStore.of({"ti": Instance()}, "scenes").set(value)


@pytest.mark.skipif(not HAS_ASSET_STATE, reason="assets of this Airflow have no state")
@pytest.mark.parametrize("inlets", [None, [Asset("others")]])
def test_an_asset_that_is_not_the_tasks_is_refused(inlets):
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

    context = {"ti": Instance(), "task_state_store": object()}
    if inlets:
        context["asset_state_store"] = AssetStateStoreAccessors(inlets)
    with pytest.raises(GeoCatalogInvalidInput, match="no inlet or outlet of the task"):
        WatermarkStore.of(context, "scenes", ASSET)
