"""Creating items, on the emulator."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from types import SimpleNamespace

import pystac
import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogItemsFailed, GeoCatalogWaitTimeout
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.operators.items import GeoCatalogCreateItemsOperator
from tests.fakes.clock import FakeClock
from tests.fakes.items import stac_item

SLOW = pytest.mark.parametrize("world", [{"items_per_second": 0.2}], indirect=True)
BOTH = pytest.mark.parametrize("deferrable", [True, False])


@pytest.fixture
def ready(world, documents):
    """A world with the collection."""
    world.run(GeoCatalogCreateCollectionOperator(task_id="c", collection=documents()))
    return world


@pytest.fixture
def jumping(ready):
    """A world whose client does not wait where it pauses."""
    FakeClock(time.time()).drive(GeoCatalogHook().client)
    return ready


def items(count=3):
    return [stac_item(f"item-{number}") for number in range(count)]


def create(**arguments):
    defaults = {
        "task_id": "items",
        "collection_id": "demo",
        "items": items(),
        "poll_interval": 0.1,
        "min_poll_interval": 0.1,
    }
    return GeoCatalogCreateItemsOperator(**{**defaults, **arguments})


def present(world):
    return sorted(world.server.emulator.world.collections["demo"].items)


def sent(world):
    return world.writes.count("create_item")


@BOTH
def test_items_are_created_in_one_operation(ready, deferrable):
    result = ready.run(create(deferrable=deferrable))

    assert present(ready) == ["item-0", "item-1", "item-2"]
    assert result.pop("operation_id") in ready.server.emulator.world.operations
    assert result == {
        "collection_id": "demo",
        "status": "Succeeded",
        "items": {"total": 3, "succeeded": 3, "failed": 0, "pending": 0},
        "skipped": 0,
        "adopted": False,
    }
    assert sent(ready) == 1


@pytest.mark.parametrize("form", ["dict", "pystac", "list of pystac", "pystac collection", "json", "path"])
def test_items_come_in_many_forms(ready, tmp_path, form):
    documents = items(1 if form in {"dict", "pystac"} else 2)
    feature_collection = {"type": "FeatureCollection", "features": documents}
    (ready.folder / "items.json").write_text(json.dumps(feature_collection))
    objects = [pystac.Item.from_dict(document) for document in documents]
    given = {
        "dict": documents[0],
        "pystac": objects[0],
        "list of pystac": objects,
        "pystac collection": pystac.ItemCollection(objects),
        "json": json.dumps(documents),
        "path": f"file://{ready.folder}/items.json",
    }

    ready.run(create(items=given[form]))

    assert present(ready) == [document["id"] for document in documents]


@BOTH
def test_items_that_are_there_are_skipped(ready, deferrable):
    ready.run(create(items=items(2)))

    result = ready.run(create(items=items(5), deferrable=deferrable))
    again = ready.run(create(items=items(5), deferrable=deferrable))

    assert (result["items"]["succeeded"], result["skipped"]) == (3, 2)
    assert (again["operation_id"], again["items"]["total"], again["skipped"]) == (None, 0, 5)
    assert sent(ready) == 2


def test_an_item_that_is_there_fails_the_task_if_it_is_to(ready):
    ready.run(create(items=items(1)))

    with pytest.raises(GeoCatalogTaskFailed, match="1 of 3 items are in collection 'demo' already: item-0"):
        ready.run(create(if_item_exists="fail"))

    assert present(ready) == ["item-0"]


def test_more_items_than_one_search_can_name_are_looked_for(ready):
    ready.run(create(items=items(230)))

    result = ready.run(create(items=items(231)))

    assert (result["items"]["total"], result["skipped"]) == (1, 230)


@pytest.mark.parametrize(
    ("arguments", "complaints"),
    [
        (
            {
                "items": [
                    {**stac_item("a/b"), "type": "Item"},
                    {**stac_item("twice"), "geometry": None},
                    {**stac_item("twice"), "collection": "other"},
                    {**stac_item("c"), "assets": {"x y": {"href": "./relative.tif"}}, "bbox": None},
                    {**stac_item("d"), "properties": {}},
                    "{}",
                ]
            },
            [
                "item 'a/b': an id has",
                "'type' is 'Item'",
                "item 'twice': 'geometry' is missing",
                "'collection' is 'other'",
                "item 'c', asset 'x y': a key has",
                "'href' is './relative.tif', not an absolute URL",
                "item 'c': 'bbox' is missing",
                "'properties.datetime' is missing",
                "item number 6 has no id",
                "item id 'twice' occurs more than once",
            ],
        ),
        ({"items": []}, ["there are no items"]),
        ({"items": [{**stac_item("x"), "assets": None}] * 40}, ["and 21 more problems"]),
        ({"items": "{"}, ["the items is not JSON"]),
        ({"items": "/nowhere/items.json"}, ["cannot be read"]),
        ({"collection_id": "a b", "items": [{}]}, ["collection id 'a b' may only", "item number 1 has no id"]),
        ({"if_item_exists": "replace"}, ["if_item_exists is 'replace'; expected one of 'skip', 'fail'"]),
    ],
)
def test_bad_input_is_refused_with_all_that_is_wrong_before_anything_is_sent(ready, arguments, complaints):
    before = len(ready.server.emulator.requests)

    with pytest.raises(GeoCatalogTaskFailed) as caught:
        ready.run(create(**arguments))

    for complaint in complaints:
        assert complaint in str(caught.value)
    assert len(ready.server.emulator.requests) == before


def test_items_need_their_collection(ready):
    with pytest.raises(GeoCatalogTaskFailed, match="404"):
        ready.run(create(collection_id="nowhere"))


@BOTH
@pytest.mark.parametrize("tolerated", [0, 1])
def test_failed_items_are_named(ready, deferrable, tolerated):
    ready.server.emulator.faults.add("fail_items", items="item-1", code="IngestionResourceUriNotFound")
    operator = create(deferrable=deferrable, max_failed_items=tolerated)

    if tolerated:
        assert ready.run(operator)["failed_items"] == ["item-1"]
    else:
        with pytest.raises(GeoCatalogItemsFailed, match="item-1 is not in the collection") as caught:
            ready.run(operator)
        assert "item-0" not in str(caught.value)
    assert present(ready) == ["item-0", "item-2"]


def test_a_deferred_task_tells_of_failed_items_though_their_file_is_gone(ready):
    faults = ready.server.emulator.faults
    faults.add("fail_items", items="item-1")
    held = faults.add("hold", status="Running", types="AddItem")
    file = ready.folder / "items.json"
    file.write_text(json.dumps(items()))
    operator = create(items=f"file://{file}", deferrable=True)
    operator.first_delay = 0.0
    context = {"ti": SimpleNamespace(try_number=1, xcom_push=lambda key, value: None)}
    with pytest.raises(TaskDeferred) as deferral:
        operator.execute(context)
    file.unlink()
    faults.remove(held)
    event = asyncio.run(anext(deferral.value.trigger.run()))

    with pytest.raises(GeoCatalogItemsFailed, match="1 failed items"):
        operator.execute_complete(context, event=event.payload)


def test_a_retry_sends_only_what_failed(ready):
    ready.server.emulator.faults.add("fail_items", items="item-1", times=1)
    with pytest.raises(GeoCatalogItemsFailed):
        ready.run(create(if_item_exists="fail"))

    result = ready.run(create(if_item_exists="fail"), try_number=2)

    assert (result["items"]["total"], result["skipped"]) == (1, 2)
    assert present(ready) == ["item-0", "item-1", "item-2"]


def test_a_cause_that_a_retry_cannot_mend_fails_the_task_for_good(ready):
    ready.server.emulator.faults.add("fail_items", items="item-0", code="StacValidationFailed")

    with pytest.raises(GeoCatalogTaskFailed, match="Validate the items"):
        ready.run(create(items=items(1)))


@pytest.mark.parametrize("world", [{"max_items_per_post": 2}], indirect=True)
def test_too_many_items_are_told_to_go_by_bulk_ingestion(ready):
    with pytest.raises(GeoCatalogTaskFailed, match="Use a bulk ingestion"):
        ready.run(create())


def _meanwhile(world, *ids):
    """Create items behind the operator's back, right before its own request is handled."""
    emulator = world.server.emulator
    emulator.faults.add("latency", operations="create_item", seconds=0.5, nth=1)

    def work():
        deadline = time.monotonic() + 5
        while not any(r.operation == "search" for r in list(emulator.requests)) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.15)
        features = [stac_item(item_id) for item_id in ids]
        client = GeoCatalogHook().client
        client.create_item("demo", {"type": "FeatureCollection", "features": features})

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_items_that_somebody_creates_at_the_same_time(ready, count, policy):
    thread = _meanwhile(ready, "item-0")
    try:
        if policy == "skip":
            ready.run(create(items=items(count)))
        else:
            with pytest.raises((GeoCatalogTaskFailed, GeoCatalogItemsFailed)):
                ready.run(create(items=items(count), if_item_exists="fail"))
    finally:
        thread.join()

    assert present(ready) == [f"item-{number}" for number in range(count)]


@pytest.mark.parametrize(
    "fault",
    [
        {"effect": "drop", "handled": True},
        {"effect": "status", "status": 504, "handled": True, "body": "html"},
        {"effect": "truncate"},
        {"effect": "html", "handled": True},
    ],
    ids=lambda fault: fault["effect"],
)
def test_a_lost_answer_is_looked_for_and_nothing_is_sent_twice(jumping, fault):
    jumping.server.emulator.faults.add(fault["effect"], operations="create_item", times=1, **_without_effect(fault))

    result = jumping.run(create())

    assert result["items"] == {"total": 3, "succeeded": 3, "failed": 0, "pending": 0}
    assert result["operation_id"] in jumping.server.emulator.world.operations
    assert present(jumping) == ["item-0", "item-1", "item-2"]
    assert sent(jumping) == 1


def _without_effect(fault):
    return {name: value for name, value in fault.items() if name != "effect"}


def test_a_lost_request_is_left_to_the_retry(jumping):
    jumping.server.emulator.faults.add("drop", operations="create_item", times=1)

    with pytest.raises(GeoCatalogError, match="POST") as caught:
        jumping.run(create())
    result = jumping.run(create(), try_number=2)

    assert caught.value.retryable
    assert (result["items"]["succeeded"], result["skipped"]) == (3, 0)
    assert present(jumping) == ["item-0", "item-1", "item-2"]


@SLOW
@BOTH
def test_an_operation_that_takes_too_long_is_cancelled_and_tells_how_far_it_was(ready, deferrable):
    with pytest.raises(GeoCatalogWaitTimeout, match="0 of 3 items done"):
        ready.run(create(timeout=0.6, deferrable=deferrable))

    assert ready.writes.count("cancel_operation") == 1
    assert "cancel_all_operations" not in ready.writes


@SLOW
def test_what_may_be_somebody_elses_is_waited_for_and_never_cancelled(ready):
    GeoCatalogHook().client.create_item("demo", stac_item("item-0"))
    before = list(ready.writes)

    with pytest.raises(GeoCatalogWaitTimeout, match="may be this task's own"):
        ready.run(create(timeout=0.6), try_number=2)

    assert ready.writes == before


@pytest.mark.parametrize("world", [{"items_per_second": 4}], indirect=True)
def test_an_operation_with_more_items_than_the_tasks_own_is_not_waited_for(ready):
    features = [stac_item(f"other-{number}") for number in range(40)]
    GeoCatalogHook().client.create_item("demo", {"type": "FeatureCollection", "features": features})
    time.sleep(0.1)

    result = ready.run(create(timeout=5), try_number=2)

    assert result["items"]["succeeded"] == 3


@BOTH
@pytest.mark.parametrize(("status", "times"), [(404, 2), (503, 2)])
def test_an_operation_that_cannot_be_read_at_first_is_waited_for_all_the_same(ready, deferrable, status, times):
    faults = ready.server.emulator.faults
    faults.add("status", status=status, operations=["get_operation"], times=times, retry_after=1)
    began = time.monotonic()

    result = ready.run(create(deferrable=deferrable))

    assert (result["status"], sent(ready)) == ("Succeeded", 1)
    assert time.monotonic() - began >= times


def test_an_event_of_another_version_may_lack_what_it_did_not_know(ready):
    operation_id = ready.run(create(wait_for_completion=False))["operation_id"]
    done = GeoCatalogHook().client.wait_for_operation(operation_id, poll_interval=0.1)

    result = create().execute_complete({}, {"outcome": "ended", "operation_id": operation_id})

    assert (result["status"], result["skipped"], result["adopted"]) == (done.status.word, 0, False)


@SLOW
def test_without_waiting_the_task_ends_when_the_items_are_accepted(ready):
    result = ready.run(create(wait_for_completion=False))

    assert ready.server.emulator.world.operations[result["operation_id"]].status in {"Pending", "Running"}
    assert (result["status"], result["items"]["total"]) == ("Pending", 0)
