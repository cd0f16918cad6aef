"""Links of a task in Airflow's UI: they are shown, and lead to the right documents."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
import requests

from airflow_provider_geocatalog.links import LINKS
from tests.fakes.real_world import BULK, COLLECTION, SINGLE, TOKEN, wait_until

# The run of the example, which takes longest, goes on while the others are looked at.
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600), pytest.mark.usefixtures("bulk_run")]

COLLECTION_LINK, OPERATION_LINK, SOURCES_LINK = (link.name for link in LINKS)
SENSOR = "browser_sensor"


def _shown(tab, dag_id: str, run_id: str, task_id: str, *names: str) -> dict[str, str]:
    """Open a task instance's page and return the addresses of its links, once those that are named are there."""
    tab.open(f"/dags/{dag_id}/runs/{quote(run_id, safe='')}/tasks/{task_id}/details")
    for name in names:
        tab.page.get_by_role("link", name=name, exact=True).wait_for()
    found = {}
    for link in LINKS:
        for anchor in tab.page.get_by_role("link", name=link.name, exact=True).all():
            found[link.name] = str(anchor.get_attribute("href"))
            assert anchor.get_attribute("target") == "_blank"
    assert set(found) == set(names)
    assert not [url for url in found.values() if TOKEN in url]
    return found


def _answer(url: str) -> Any:
    got = requests.get(url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
    assert got.status_code == 200, (url, got.text)
    return got.json()


@pytest.fixture
def held(world):
    """A fault by which runs do not end before it is removed."""
    fault = world.emulator.faults.add("hold", status="Running", types=["IngestionStaticCatalog"])
    yield fault
    world.emulator.faults.remove(fault.id)


def test_links_of_tasks_that_wait(tab, world, held):
    run_id = world.trigger(SINGLE, catalog_url=world.catalog("linked", 1))
    wait_until("the task is deferred", lambda: world.state(SINGLE, run_id) == "deferred", 90)
    (run,) = world.runs(run_id)
    ingestions = world.emulator.world.collections[COLLECTION].ingestions.values()
    (ingestion_id,) = (one.id for one in ingestions if run.id in one.runs)
    sensor_run_id = world.airflow.trigger(SENSOR, {"ingestion_id": ingestion_id, "run_id": run.id})

    shown = _shown(tab, SINGLE, run_id, "ingest", COLLECTION_LINK, OPERATION_LINK, SOURCES_LINK)

    operation = _answer(shown[OPERATION_LINK])
    assert (operation["id"], operation["status"]) == (run.operation.id, "Running")
    assert _answer(shown[COLLECTION_LINK])["id"] == COLLECTION
    wait_until("the sensor is deferred", lambda: world.state(SENSOR, sensor_run_id) == "deferred", 90)
    assert _shown(tab, SENSOR, sensor_run_id, "ingest", *shown) == shown
    world.emulator.faults.remove(held.id)
    assert world.ended(SINGLE, run_id)["state"] == world.ended(SENSOR, sensor_run_id)["state"] == "success"
    assert _answer(shown[OPERATION_LINK])["status"] == "Succeeded"


def test_links_of_a_task_that_has_failed(tab, world):
    run_id = world.trigger(SINGLE, catalog_url=world.catalog("unlucky", 1, broken="unlucky-00"))
    assert world.ended(SINGLE, run_id)["state"] == "failed"

    shown = _shown(tab, SINGLE, run_id, "ingest", COLLECTION_LINK, OPERATION_LINK, SOURCES_LINK)

    (run,) = world.runs(run_id)
    assert (_answer(shown[OPERATION_LINK])["id"], run.operation.status) == (run.operation.id, "Failed")
    assert _answer(shown[COLLECTION_LINK])["id"] == COLLECTION


def test_links_of_an_example(tab, world, bulk_run):
    assert world.ended(BULK, bulk_run, timeout=240)["state"] == "success"
    collection_id = world.airflow.xcom(BULK, bulk_run, "create_collection")["collection_id"]

    shown = _shown(tab, BULK, bulk_run, "ingest", COLLECTION_LINK, OPERATION_LINK, SOURCES_LINK)

    assert _answer(shown[COLLECTION_LINK])["id"] == collection_id
    summary = world.airflow.xcom(BULK, bulk_run, "ingest")
    assert _answer(shown[OPERATION_LINK])["id"] == summary["run_id"]
    listed = {source["id"] for source in _answer(shown[SOURCES_LINK])["value"]}
    urls = {source.container_url for source in world.emulator.world.sources.values() if source.id in listed}
    assert urls == {world.storage.url, world.small.url}
    others = _shown(tab, BULK, bulk_run, "configure_collection", COLLECTION_LINK, SOURCES_LINK)
    assert others == {name: shown[name] for name in (COLLECTION_LINK, SOURCES_LINK)}
