"""What operators say in the asset events of their outlets."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_geocatalog.assets import collection_asset
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.asset_events import tell_outlets
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.collections import (
    GeoCatalogCreateCollectionOperator,
    GeoCatalogDeleteCollectionOperator,
    GeoCatalogUpdateCollectionOperator,
)
from airflow_provider_geocatalog.operators.documents import load_document
from airflow_provider_geocatalog.operators.ingestion import GeoCatalogBulkIngestionOperator
from airflow_provider_geocatalog.operators.item_changes import (
    GeoCatalogDeleteItemsOperator,
    GeoCatalogReplaceItemsOperator,
)
from airflow_provider_geocatalog.operators.items import GeoCatalogCreateItemsOperator
from airflow_provider_geocatalog.operators.sources import GeoCatalogEnsureIngestionSourceOperator
from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator
from tests.fakes.airflow_versions import ByAsset
from tests.fakes.items import stac_item
from tests.fakes.tasks import TaskInstance
from tests.fakes.transfers import ListSource, Store, items

EXTENT = {
    "spatial": {"bbox": [[-10, -9, 10, 9], [0, 0, 1, 1]]},
    "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]},
}
WHOLE = {"bbox": [-10, -9, 10, 9], "interval": ["2020-01-01T00:00:00Z", None]}


class OutletEvents(ByAsset):
    """As in a task's context: an event for each outlet."""

    def __missing__(self, uri: str) -> SimpleNamespace:
        return self.setdefault(uri, SimpleNamespace(extra={}))


@pytest.fixture
def told(world):
    """Execute an operator with the collection as its outlet, and return the event's extra."""
    asset = collection_asset(world.server.url, "demo")

    def told(kind, *, fails: type[Exception] | None = None, **arguments: Any) -> dict[str, Any]:
        operator = kind(task_id="task", outlets=[asset], **arguments)
        context: Any = {"ti": TaskInstance(), "task_state_store": Store(), "outlet_events": OutletEvents()}
        if fails:
            with pytest.raises(fails):
                operator.execute(context)
        else:
            operator.execute(context)
        return context["outlet_events"][asset].extra

    return told


@pytest.fixture
def made(world, documents):
    client = GeoCatalogHook().client
    client.wait(client.create_collection(documents("demo", extent=EXTENT)))
    return world


def test_a_bulk_ingestion_tells_its_counts_and_where_its_collection_is(made, told, catalog):
    url = f"{made.container}/{catalog(made.folder, 4)}"
    made.run(
        GeoCatalogEnsureIngestionSourceOperator(
            task_id="source", container_url=made.container, sas_token_conn_id="geocatalog_storage"
        )
    )
    extra = told(
        GeoCatalogBulkIngestionOperator,
        collection_id="demo",
        catalog_url=url,
        sas_token_conn_id="geocatalog_storage",
        run_key="once",
    )
    assert extra["collection_id"] == "demo"
    assert extra["counts"] == {"total": 4, "succeeded": 4, "failed": 0, "pending": 0}
    assert {name: extra[name] for name in WHOLE} == WHOLE
    assert extra["run_id"]
    assert extra["status"] == "Succeeded"


def test_created_items_tell_where_they_are(made, told):
    east, west = stac_item("east"), stac_item("west")
    east["bbox"] = [20.0, 2.0, 21.0, 3.0]
    west["properties"] = {"datetime": "2023-05-06T07:08:09Z"}
    extra = told(GeoCatalogCreateItemsOperator, collection_id="demo", items=[east, west])
    assert extra["counts"] == {"total": 2, "succeeded": 2, "failed": 0, "pending": 0, "skipped": 0}
    assert extra["bbox"] == [1.0, 2.0, 21.0, 3.0]
    assert extra["interval"] == ["2023-05-06T07:08:09Z", "2024-01-01T00:00:00Z"]


def test_replaced_and_deleted_items_tell_how_many_they_are(made, told):
    told(GeoCatalogCreateItemsOperator, collection_id="demo", items=[stac_item("a"), stac_item("b")])
    both = [stac_item("a"), stac_item("c")]
    replaced = told(GeoCatalogReplaceItemsOperator, collection_id="demo", items=both, if_missing="create")
    deleted = told(GeoCatalogDeleteItemsOperator, collection_id="demo", ids=["a", "c", "x"], confirm_items=2)
    assert (replaced["counts"]["replaced"], replaced["counts"]["created"]) == (1, 1)
    assert replaced["bbox"] == [1.0, 2.0, 1.0, 2.0]
    assert (deleted["counts"]["deleted"], deleted["counts"]["missing"]) == (2, 1)
    assert (deleted["bbox"], deleted["interval"]) == (None, None)


def test_a_transfer_tells_what_it_has_transferred(made, told):
    extra = told(StacToGeoCatalogOperator, collection_id="demo", source=ListSource(items(30)), min_poll_interval=0.02)
    assert extra["counts"]["created"] == 30
    assert extra["bbox"] == [1.0, 2.0, 1.0, 2.0]
    assert extra["interval"] == ["2024-01-01T00:00:00Z", "2024-01-02T05:00:00Z"]


def test_collections_tell_what_was_done_to_them(world, told, documents):
    created = told(GeoCatalogCreateCollectionOperator, collection=documents("demo", extent=EXTENT))
    deleted = told(GeoCatalogDeleteCollectionOperator, collection_id="demo")
    assert (created["action"], deleted["action"]) == ("created", "deleted")
    assert {name: created[name] for name in WHOLE} == WHOLE
    assert deleted["bbox"] is None


def test_a_task_that_was_deferred_tells_when_it_goes_on(made):
    asset = collection_asset(made.server.url, "demo")
    arguments = {"collection_id": "demo", "items": [stac_item("a")], "deferrable": True, "outlets": [asset]}
    context = {"ti": TaskInstance(), "task_state_store": Store(), "outlet_events": OutletEvents()}
    hold = made.server.emulator.faults.add("hold", status="Pending", types=["AddItem"])
    with pytest.raises(TaskDeferred) as deferred:
        GeoCatalogCreateItemsOperator(task_id="task", **arguments).execute(context)
    assert context["outlet_events"][asset].extra == {}
    made.server.emulator.faults.remove(hold.id)
    trigger = deferred.value.trigger.serialize()[1]
    event = {**trigger["echo"], "operation_id": trigger["operation_id"], "outcome": "succeeded"}
    wait_until_ended(trigger["operation_id"])
    resumed = GeoCatalogCreateItemsOperator(task_id="task", **arguments)
    resumed.resume_execution(deferred.value.method_name, {"event": event}, context)
    extra = context["outlet_events"][asset].extra
    assert (extra["counts"]["succeeded"], extra["bbox"]) == (1, [1.0, 2.0, 1.0, 2.0])
    assert extra["operation_id"] == trigger["operation_id"]


def wait_until_ended(operation_id: str) -> None:
    deadline = time.monotonic() + 10
    while not GeoCatalogHook().client.get_operation(operation_id).status.is_final:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_event_is_told_also_if_nobody_can_say_where_the_items_are(tmp_path):
    asset, events = collection_asset("http://127.0.0.1:1", "demo"), OutletEvents()
    gone = str(tmp_path / "gone.json")
    news = {"collection_id": "demo", "counts": {"created": 1}, "bbox": None}
    tell_outlets({"outlet_events": events}, [asset], news, extent=lambda: load_document(gone, "the items"))
    assert events[asset].extra == news


def test_an_asset_that_is_referred_to_by_its_name_is_told():
    sdk = pytest.importorskip("airflow.sdk", reason="Airflow 2 has no references to assets")
    reference = sdk.Asset.ref(name="naip")
    events = {reference: SimpleNamespace(extra={})}
    news = {"collection_id": "naip", "bbox": [1, 2, 3, 4]}
    # An alias has events of its own kind, which nothing is put into.
    tell_outlets({"outlet_events": events}, [reference, sdk.AssetAlias("some")], news, extent=dict)
    assert events[reference].extra == news


def test_a_dry_run_and_a_failure_tell_nothing(made, told):
    assert told(GeoCatalogCreateItemsOperator, collection_id="demo", items=[stac_item("a")], dry_run=True) == {}
    assert told(GeoCatalogCreateItemsOperator, collection_id="demo", items=[{}], fails=GeoCatalogTaskFailed) == {}


def test_nothing_is_asked_for_an_event_that_nobody_wants(made, told, documents):
    def reads() -> int:
        return [one.operation for one in made.server.emulator.requests].count("get_collection")

    before = reads()
    made.run(GeoCatalogUpdateCollectionOperator(task_id="task", collection=documents("demo", description="one")))
    without = reads() - before
    told(GeoCatalogUpdateCollectionOperator, collection=documents("demo", description="two"))
    assert reads() - before == 2 * without + 1
