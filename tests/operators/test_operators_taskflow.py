"""The page of recipes and the TaskFlow example: what they say is so, on the emulator."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, XCom

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from tests.fakes.airflow_versions import AIRFLOW_VERSION

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "recipes.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def page():
    """What the page defines, and the DAG that its blocks make."""
    names = {"__name__": "recipes"}
    with DAG("recipes", schedule=None) as dag:
        for number, code in enumerate(BLOCKS):
            exec(compile(code, f"block {number}", "exec"), names)
    return names, dag


@pytest.fixture
def recipe(page, world, documents):
    """The functions of the page's tasks, on a GeoCatalog with a collection and an item."""
    names, _ = page
    world.run(GeoCatalogCreateCollectionOperator(task_id="c", collection=documents("naip", title="NAIP")))
    client = GeoCatalogHook().client
    client.wait(client.create_item("naip", item("first")))
    return lambda name: names[name].function


def item(item_id, **members):
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
        "bbox": [1.0, 2.0, 1.0, 2.0],
        "properties": {"datetime": "2024-01-01T00:00:00Z"},
        "links": [],
        "assets": {},
        **members,
    }


def test_tasks_read_and_write_with_the_client(recipe):
    assert recipe("add_item")("naip", item("second", properties={"datetime": "2025-01-01T00:00:00Z"})) == "second"
    assert recipe("newest_item")("naip") == "second"
    assert recipe("replace_title")("naip", "another") == "another"


async def test_an_async_task_reads_many_at_once(recipe):
    assert await recipe("titles")(["naip"]) == {"naip": "NAIP"}


def test_a_usual_task_may_run_the_loop(recipe):
    assert recipe("titles_anywhere")(["naip"]) == {"naip": "NAIP"}


def test_what_is_begun_may_be_waited_for_by_another_task(recipe):
    client = GeoCatalogHook().client

    assert client.wait_for_operation(recipe("begin_to_delete")("naip", "first"), timeout=60).succeeded


def test_errors_are_told_apart_by_class_and_code(recipe):
    add = recipe("add_or_keep")

    assert add("naip", item("first")) == "kept"
    assert add("naip", item("second")) == "added"
    assert add("naip", item("third", assets={"image": {"href": "./image.tif"}})) == "left out"
    with pytest.raises(AirflowFailException, match="geometry"):
        add("naip", item("fourth", geometry="none"))


def test_windows_of_a_span_are_its_months(recipe):
    assert len(recipe("months")("2023-01-01", "2025-01-01")) == 24


def test_a_source_of_own_tasks_comes_and_goes(recipe, world, tokens, monkeypatch):
    storage = {"conn_type": "generic", "extra": {"sas_token": tokens()}}
    monkeypatch.setenv("AIRFLOW_CONN_GEOCATALOG_STORAGE", json.dumps(storage))
    source_id = recipe("add_own_source")(world.container)
    sources = GeoCatalogHook().client.list_sources

    assert [source.source_id for source in sources()] == [source_id]
    recipe("delete_own_source")(source_id)
    assert list(sources()) == []


def example():
    names = {"__name__": "example"}
    file = ROOT / "example_dags" / "geocatalog_taskflow.py"
    exec(compile(file.read_text(), str(file), "exec"), names)
    return names["dag"]


@pytest.mark.parametrize("which", ["page", "example"])
def test_the_source_is_deleted_after_every_group_whatever_becomes_of_them(which, page):
    dag = page[1] if which == "page" else example()
    add, delete = dag.get_task("add_source"), dag.get_task("delete_source")
    checks = [task_id for task_id in dag.task_ids if task_id in {"fill.check", "fill.verify"}]

    assert (add.is_setup, delete.is_teardown, delete.on_failure_fail_dagrun) == (True, True, False)
    assert delete.upstream_task_ids >= {*checks, "add_source"}
    assert dag.get_task("fill.create").upstream_task_ids >= {"add_source"}
    assert dag.get_task("fill.ingest").get_closest_mapped_task_group().group_id == "fill"


@pytest.mark.skipif(AIRFLOW_VERSION >= (3, 2), reason="async tasks came with Airflow 3.2")
def test_an_async_task_fails_before_airflow_knows_them(page):
    with DAG("alone", schedule=None):
        operator = page[0]["titles"](["naip"]).operator

    def run():
        with closing(operator.execute({})) as coroutine:
            XCom.serialize_value(coroutine)

    with pytest.raises((RuntimeError, TypeError), match=r"Airflow 3\.2|coroutine"):
        run()
