"""TaskFlow on real components: users' own tasks, mapped groups, a temporary source, and the slot guard across DAGs."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_geocatalog.api.flows.sources import find_source
from tests.fakes.real_world import World, client_of, real_world

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(420)]

EXAMPLE = "geocatalog_taskflow"
LIMIT = 2

DAGS = textwrap.dedent(
    """
    from __future__ import annotations

    import datetime

    import pendulum
    from airflow.providers.common.compat.sdk import DAG, BaseHook, setup, task, teardown

    from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
    from airflow_provider_geocatalog.operators.ingestion import GeoCatalogBulkIngestionOperator

    OPTIONS = {"schedule": None, "start_date": pendulum.datetime(2026, 1, 1, tz="UTC"), "default_args": {"retries": 0}}

    with DAG("real_own_tasks", params={"item": {}}, **OPTIONS):

        @task
        def add(params):
            client = GeoCatalogHook().client
            return client.wait(client.create_item("real", params["item"]), timeout=60).resource["id"]

        @task
        async def read(item_id):
            client = await GeoCatalogHook().aget_client()
            found = [item["id"] async for item in client.list_items.aio("real", limit=1000)]
            return {"read": (await client.get_item.aio("real", item_id))["id"], "listed": item_id in found}

        read(add())

    with DAG("real_setup", params={"container_url": "", "fails": False}, **OPTIONS):

        @setup
        def add_source(params):
            sas_token = BaseHook.get_connection("geocatalog_storage").extra_dejson["sas_token"]
            info = {"containerUrl": params["container_url"], "sasToken": sas_token}
            return GeoCatalogHook().client.create_source({"kind": "SasToken", "connectionInfo": info}).source_id

        @task
        def work(params):
            if params["fails"]:
                raise ValueError("it fails")

        @teardown
        def delete_source(source_id):
            GeoCatalogHook().client.delete_source(source_id)

        added = add_source()
        with delete_source(added).as_teardown(setups=added):
            work()

    for number in (1, 2):
        with DAG(f"real_guarded_{number}", params={"catalog_urls": []}, **OPTIONS):

            @task
            def catalogs(params):
                return params["catalog_urls"]

            GeoCatalogBulkIngestionOperator.partial(
                task_id="ingest",
                collection_id="real",
                sas_token_conn_id="geocatalog_storage",
                display_name="guarded",
                deferrable=True,
                poll_interval=2,
                max_active_runs=2,
                # Airflow fails a task at times whose worker is slow to end when it has deferred.
                retries=3,
                retry_delay=datetime.timedelta(seconds=1),
            ).expand(catalog_url=catalogs())
    """
)


@pytest.fixture(scope="module")
def taskflow(tmp_path_factory) -> Iterator[World]:
    """A world of its own: what others' tests have left active would take the slots."""
    with real_world(tmp_path_factory.mktemp("taskflow")) as world:
        folder = world.airflow.dags_folder
        (folder / "real_taskflow.py").write_text(DAGS)
        shutil.copy(Path(__file__).parents[2] / "example_dags" / f"{EXAMPLE}.py", folder)
        for name in ("real_own_tasks", "real_setup", "real_guarded_1", "real_guarded_2", EXAMPLE):
            world.airflow.wait_for_dag(name)
        yield world


@pytest.fixture(scope="module")
def sample(taskflow: World) -> World:
    """The world with the other container, whose source is nobody's."""
    return dataclasses.replace(taskflow, folder=taskflow.sample.catalog.parent, small=taskflow.storage)


def entry(world, name, **catalog):
    collection = {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": name,
        "description": "a test",
        "license": "CC-BY-4.0",
        "links": [],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
    }
    return {"collection": collection, "catalog_url": world.catalog(name, 3, **catalog)}


def source_of(world):
    return client_of(world).run(find_source(world.storage.url))


def writes_of_sources(world, since):
    return [r.operation for r in world.named("create_source", "delete_source", since=since) if r.status < 300]


def test_the_client_in_a_task_and_in_an_async_task(taskflow):
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "of-a-users-task",
        "collection": "real",
        "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
        "bbox": [1.0, 2.0, 1.0, 2.0],
        "properties": {"datetime": "2024-01-01T00:00:00Z"},
        "links": [],
        "assets": {},
    }
    run_id = taskflow.trigger("real_own_tasks", item=item)

    assert taskflow.ended("real_own_tasks", run_id, timeout=150)["state"] == "success"
    assert taskflow.airflow.xcom("real_own_tasks", run_id, "read") == {"read": item["id"], "listed": True}


@pytest.mark.parametrize("fails", [False, True])
def test_a_source_of_taskflow_tasks_goes_with_the_work_and_the_work_decides(sample, fails):
    since = len(sample.requests())
    run_id = sample.airflow.trigger("real_setup", {"container_url": sample.storage.url, "fails": fails})

    assert sample.ended("real_setup", run_id, timeout=150)["state"] == ("failed" if fails else "success")
    assert source_of(sample) is None
    assert writes_of_sources(sample, since) == ["create_source", "delete_source"]


@pytest.mark.parametrize("broken", ["", "flow-broken-00"])
def test_the_example_fills_many_collections_through_a_temporary_source(sample, broken):
    since = len(sample.requests())
    names = ["flow-broken", "flow-whole"] if broken else ["flow-one", "flow-two"]
    entries = [entry(sample, name, broken=broken) for name in names]
    run_id = sample.airflow.trigger(EXAMPLE, {"container_url": sample.storage.url, "entries": entries})

    run = sample.ended(EXAMPLE, run_id, timeout=300)

    tasks = sample.tasks(EXAMPLE, run_id)
    states = {index: tasks["fill.ingest", index][0] for index in range(2)}
    assert states == {0: "failed" if broken else "success", 1: "success"}
    assert tasks["delete_source", -1][0] == "success"
    assert source_of(sample) is None
    assert writes_of_sources(sample, since) == ["create_source", "delete_source"]
    assert run["state"] == ("failed" if broken else "success")
    assert sample.airflow.xcom(EXAMPLE, run_id, "fill.verify", 1) == {"collection_id": names[1], "readable": 3}


def test_two_dags_keep_to_the_limit_together_and_do_everything_once(taskflow):
    runs = {}
    for number in (1, 2):
        urls = [taskflow.catalog(f"guarded-{number}-{index}", 12) for index in range(3)]
        dag_id = f"real_guarded_{number}"
        runs[dag_id] = taskflow.trigger(dag_id, catalog_urls=urls)

    states = {dag_id: taskflow.ended(dag_id, run_id, timeout=300)["state"] for dag_id, run_id in runs.items()}

    started = taskflow.runs("guarded |")
    marks = [(run.operation.created, 1) for run in started] + [(run.operation.history[-1].at, -1) for run in started]
    level, most = 0, 0
    for _, change in sorted(marks):
        level += change
        most = max(most, level)
    assert states == dict.fromkeys(runs, "success")
    assert [run.operation.status for run in started] == ["Succeeded"] * 6
    assert most <= LIMIT  # on a slow machine runs are over before Airflow has got round to others
