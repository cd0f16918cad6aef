"""Links from tasks: while they wait, after they have ended, after they have failed, and for sensors."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import requests
from airflow.providers.common.compat.sdk import TaskDeferred, XCom

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.links import LINKS
from airflow_provider_geocatalog.operators.base import GeoCatalogOperator, GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.operators.items import GeoCatalogCreateItemsOperator
from airflow_provider_geocatalog.operators.sources import GeoCatalogRotateIngestionSourcesOperator
from airflow_provider_geocatalog.provider_info import get_provider_info
from airflow_provider_geocatalog.sensors.ingestion import GeoCatalogOperationSensor
from airflow_provider_geocatalog.sensors.items import GeoCatalogItemsSensor
from airflow_provider_geocatalog.triggers.ingestion import GeoCatalogOperationTrigger
from tests.fakes.items import stac_item
from tests.fakes.tasks import TOKEN, TaskInstance

COLLECTION, OPERATION, SOURCES = (link.name for link in LINKS)


@pytest.fixture
def links(monkeypatch):
    """Return the links of a task instance, as Airflow evaluates them: with nothing but its XComs."""

    def links(ti: TaskInstance) -> dict[str, str]:
        monkeypatch.setattr(XCom, "get_value", lambda *, ti_key, key: ti.xcoms.get(key) if ti_key is ti else None)
        return {link.name: link.get_link(SimpleNamespace(), ti_key=ti) for link in LINKS}

    return links


@pytest.fixture
def made(world, documents):
    client = GeoCatalogHook().client
    client.wait(client.create_collection(documents("demo")))
    return world


def answer(url: str) -> dict:
    assert TOKEN not in url
    got = requests.get(url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
    assert got.status_code == 200, url
    return got.json()


def test_links_lead_to_what_the_task_worked_on(made, links):
    ti = TaskInstance()
    result = GeoCatalogCreateItemsOperator(task_id="task", collection_id="demo", items=[stac_item("a")]).execute(
        {"ti": ti}
    )
    told = links(ti)
    assert answer(told[COLLECTION])["id"] == "demo"
    assert answer(told[OPERATION])["id"] == result["operation_id"]
    assert isinstance(answer(told[SOURCES])["value"], list)


def test_a_sensor_that_ends_in_the_triggerer_has_links(made, links):
    operation = GeoCatalogHook().client.create_item("demo", stac_item("a"))
    trigger = GeoCatalogOperationTrigger(operation_id=operation.operation.operation_id, ends_task=True, first_delay=0)

    async def first():
        return await anext(trigger.run())

    event = asyncio.run(first())
    ti = TaskInstance()
    ti.xcoms.update(event.xcoms)
    told = links(ti)
    assert answer(told[COLLECTION])["id"] == "demo"
    assert answer(told[OPERATION])["id"] == trigger.operation_id
    assert isinstance(answer(told[SOURCES])["value"], list)
    if hasattr(LINKS[0], "xcom_key"):  # where Airflow takes them from if no worker has evaluated them
        assert {link.name: event.xcoms[link.xcom_key] for link in LINKS} == told


def test_links_are_there_while_the_task_is_deferred(made, links):
    made.server.emulator.faults.add("hold", status="Pending", types=["AddItem"])
    ti = TaskInstance()
    operator = GeoCatalogCreateItemsOperator(
        task_id="task", collection_id="demo", items=[stac_item("a")], deferrable=True
    )
    with pytest.raises(TaskDeferred):
        operator.execute({"ti": ti})
    assert answer(links(ti)[OPERATION])["status"] == "Pending"


def test_links_are_there_when_the_task_has_failed(made, links):
    made.server.emulator.faults.add("fail_items", items=["a"], code="InvalidAssetHref", message="no")
    ti = TaskInstance()
    with pytest.raises(Exception, match="fail"):
        GeoCatalogCreateItemsOperator(task_id="task", collection_id="demo", items=[stac_item("a")]).execute({"ti": ti})
    assert answer(links(ti)[OPERATION])["status"] == "Failed"


def test_a_collection_is_linked_before_and_after_it_is_there(world, links, documents, tmp_path):
    import json

    given, read = TaskInstance(), TaskInstance()
    world.server.emulator.faults.add("hold", status="Pending", types=["AddCollection"])
    with pytest.raises(TaskDeferred):
        GeoCatalogCreateCollectionOperator(task_id="task", collection=documents("demo"), deferrable=True).execute(
            {"ti": given}
        )
    assert urlsplit(links(given)[COLLECTION]).path == "/stac/collections/demo"
    world.server.emulator.faults.clear()
    (tmp_path / "other.json").write_text(json.dumps(documents("other")))
    GeoCatalogCreateCollectionOperator(task_id="task", collection=str(tmp_path / "other.json")).execute({"ti": read})
    assert answer(links(read)[COLLECTION])["id"] == "other"


def test_a_task_without_collection_and_operation_has_the_other_links(world, links):
    ti = TaskInstance()
    GeoCatalogRotateIngestionSourcesOperator(task_id="task", sas_token_conn_id="geocatalog_storage").execute({"ti": ti})
    told = links(ti)
    assert (told[COLLECTION], told[OPERATION]) == ("", "")
    assert answer(told[SOURCES])["value"] == []


def test_sensors_have_links(made, links):
    started = GeoCatalogHook().client.create_item("demo", stac_item("a"))
    waiting, looking = TaskInstance(), TaskInstance()
    GeoCatalogOperationSensor(task_id="task", operation_id=started.operation.operation_id, poke_interval=0.1).execute(
        {"ti": waiting}
    )
    GeoCatalogItemsSensor(task_id="task", collection_id="demo", ids=["a"], poke_interval=0.1).execute({"ti": looking})
    assert answer(links(waiting)[OPERATION])["id"] == started.operation.operation_id
    assert answer(links(looking)[COLLECTION])["id"] == "demo"


def test_no_task_has_links_before_it_has_begun(links):
    assert set(links(TaskInstance()).values()) == {""}


def test_a_connection_that_cannot_be_used_is_the_tasks_own_error(monkeypatch, links):
    monkeypatch.setenv("AIRFLOW_CONN_GEOCATALOG_DEFAULT", '{"conn_type": "geocatalog", "host": "ftp://nowhere"}')
    ti = TaskInstance()
    with pytest.raises(GeoCatalogTaskFailed, match="nowhere"):
        GeoCatalogCreateItemsOperator(task_id="task", collection_id="demo", items=[stac_item("a")]).execute({"ti": ti})
    assert set(links(ti).values()) == {""}


def test_airflow_knows_every_link_of_an_operator():
    named = {f"{type(link).__module__}.{type(link).__qualname__}" for link in GeoCatalogOperator.operator_extra_links}
    assert named == set(get_provider_info()["extra-links"])
    assert len({link.xcom_key for link in LINKS if hasattr(link, "xcom_key")} or named) == len(named)
