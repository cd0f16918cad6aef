"""Replacing and deleting items, on the emulator."""

from __future__ import annotations

import datetime
import json
import signal
import threading
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_geocatalog.api.errors import (
    GeoCatalogError,
    GeoCatalogItemsFailed,
    GeoCatalogServerError,
    GeoCatalogWaitTimeout,
)
from airflow_provider_geocatalog.api.managed_storage import managed_container
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.operators.item_changes import (
    GeoCatalogDeleteItemsOperator,
    GeoCatalogReplaceItemsOperator,
)
from airflow_provider_geocatalog.operators.items import GeoCatalogCreateItemsOperator
from tests.fakes.clock import FakeClock
from tests.fakes.items import stac_item

FAST = {"task_id": "changes", "collection_id": "demo", "poll_interval": 0.1, "min_poll_interval": 0.1}


def items(count=3, **properties):
    found = [stac_item(f"item-{number}") for number in range(count)]
    for item in found:
        item["properties"] |= properties
    return found


@pytest.fixture
def ready(world, documents):
    """A world with the collection and three items."""
    world.run(GeoCatalogCreateCollectionOperator(task_id="c", collection=documents()))
    load(world, items())
    return world


@pytest.fixture
def unhurried(ready):
    """A world of which the client does not feel the pauses that it makes."""
    FakeClock(time.time()).drive(GeoCatalogHook().client)
    return ready


def load(world, documents):
    if documents:
        world.run(
            GeoCatalogCreateItemsOperator(
                task_id="i", collection_id="demo", items=documents, poll_interval=0.1, min_poll_interval=0.1
            )
        )
    world.server.emulator.requests.clear()


def replace(**arguments):
    return GeoCatalogReplaceItemsOperator(**{**FAST, "items": items(colour="red"), **arguments})


def delete(**arguments):
    return GeoCatalogDeleteItemsOperator(**{**FAST, "confirm_items": 10, **arguments})


def stored(world):
    return {item_id: item.document for item_id, item in world.server.emulator.world.collections["demo"].items.items()}


def colours(world):
    return {item_id: item["properties"].get("colour") for item_id, item in stored(world).items()}


# --- replacing --------------------------------------------------------------------------------------------------------


def test_items_are_replaced_in_place_by_one_operation_each(ready):
    result = ready.run(replace())

    assert result == {
        "collection_id": "demo",
        "items": {"total": 3, "succeeded": 3, "failed": 0, "pending": 0},
        "replaced": 3,
        "created": 0,
        "skipped": 0,
    }
    assert colours(ready) == dict.fromkeys(["item-0", "item-1", "item-2"], "red")
    assert ready.writes == ["replace_item"] * 3


def test_missing_items_fail_the_task_before_anything_is_sent(ready):
    with pytest.raises(GeoCatalogTaskFailed, match="2 of 5 items are not in collection 'demo': item-3, item-4"):
        ready.run(replace(items=items(5)))

    assert ready.writes == []


def test_missing_items_can_be_left_out(ready):
    result = ready.run(replace(items=items(5, colour="red"), if_missing="skip"))

    assert (result["replaced"], result["skipped"], result["items"]["total"]) == (3, 2, 3)
    assert sorted(stored(ready)) == ["item-0", "item-1", "item-2"]


def test_missing_items_can_be_created(ready):
    result = ready.run(replace(items=items(5, colour="red"), if_missing="create"))

    assert (result["replaced"], result["created"], result["skipped"]) == (3, 2, 0)
    assert colours(ready) == {f"item-{number}": "red" for number in range(5)}


def test_an_item_that_turns_out_to_be_there_is_replaced_instead(ready):
    """Somebody creates it between the look and the writing: its creation fails in the operation."""
    hides = ready.server.emulator.faults.add(
        "status", status=503, operations="create_item", times=1, handled=True, retry_after=0
    )

    result = ready.run(replace(items=items(4, colour="red"), if_missing="create"))

    assert hides.hits == 1  # the answer was lost, the item was created all the same
    assert colours(ready)["item-3"] == "red"
    assert result["items"] == {"total": 4, "succeeded": 4, "failed": 0, "pending": 0}


def test_an_item_that_is_gone_when_it_is_replaced_counts_as_missing(ready):
    ready.server.emulator.faults.add("fail_items", items=["item-1"], code="NoRecordsToUpdate", times=1)

    assert ready.run(replace(if_missing="skip"))["skipped"] == 1


def test_failures_are_told_by_item_and_the_others_stay(ready):
    ready.server.emulator.faults.add(
        "fail_items", items=["item-1"], code="IngestionResourceForbidden", message="Forbidden access."
    )

    with pytest.raises(GeoCatalogTaskFailed) as caught:
        ready.run(replace())

    error = caught.value.error
    assert isinstance(error, GeoCatalogItemsFailed)
    assert "1 items could not be replaced: item-1: IngestionResourceForbidden, " in str(error)
    assert "Forbidden access" in str(error)
    assert "Check the ingestion source" in str(error)
    assert error.summary["items"] == {"total": 3, "succeeded": 2, "failed": 1, "pending": 0}
    assert colours(ready) == {"item-0": "red", "item-1": None, "item-2": "red"}


def test_tolerated_failures_are_in_the_result(ready):
    ready.server.emulator.faults.add("fail_items", items=["item-1"], code="EmptyAsset", message="Zero bytes.")

    result = ready.run(replace(max_failed_items=1))

    [failed] = result["failed_items"]
    assert (failed["id"], failed["code"]) == ("item-1", "EmptyAsset")
    assert "Zero bytes" in failed["message"]
    assert "repair or leave it out" in failed["hint"]
    assert json.loads(json.dumps(result)) == result


def test_a_failure_that_may_pass_is_left_to_a_retry_which_repeats_all(ready):
    ready.server.emulator.faults.add("fail_items", items=["item-1"], code="InternalError", times=1)

    with pytest.raises(GeoCatalogItemsFailed) as caught:
        ready.run(replace())
    assert caught.value.retryable

    assert ready.run(replace(), try_number=2)["replaced"] == 3


def test_many_items_are_replaced_at_once(ready):
    load(ready, items(60)[3:])
    ready.server.emulator.faults.add("latency", operations="replace_item", seconds=0.2)
    began = time.monotonic()

    assert ready.run(replace(items=items(60, colour="red")))["replaced"] == 60

    assert time.monotonic() - began < 60 * 0.2 / 2
    reads = [request for request in ready.server.emulator.requests if request.operation == "get_operation"]
    assert len(reads) <= 60


def test_lost_and_failing_answers_are_tried_again(ready):
    ready.server.emulator.faults.add("drop", operations="replace_item", handled=True, times=2)
    ready.server.emulator.faults.add("status", operations="get_operation", status=503, retry_after=0, times=2)

    assert ready.run(replace())["replaced"] == 3
    assert set(colours(ready).values()) == {"red"}


def test_a_refused_credential_ends_it_at_once(ready):
    load(ready, items(50)[3:])
    ready.server.emulator.faults.add("status", operations="replace_item", status=403)

    with pytest.raises(GeoCatalogTaskFailed, match="403"):
        ready.run(replace(items=items(50)))

    assert ready.writes.count("replace_item") < 40


def test_a_service_that_is_down_ends_it_before_every_item_was_tried(unhurried):
    load(unhurried, items(100)[3:])
    unhurried.server.emulator.faults.add("status", operations="replace_item", status=503)

    with pytest.raises(GeoCatalogServerError):
        unhurried.run(replace(items=items(100)))

    tried = {r.path for r in unhurried.server.emulator.requests if r.operation == "replace_item"}
    assert len(tried) < 50


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"items": []}, "there are no items"),
        ({"items": [{**stac_item("a"), "collection": "other"}]}, "'collection' is 'other' instead of 'demo'"),
        ({"items": [stac_item("a"), stac_item("a")]}, "item id 'a' occurs more than once"),
        ({"if_missing": "maybe"}, "if_missing is 'maybe'"),
        ({"collection_id": ""}, "the items cannot be sent"),
    ],
)
def test_bad_arguments_send_nothing(ready, arguments, told):
    with pytest.raises(GeoCatalogTaskFailed, match=told):
        ready.run(replace(**arguments))

    assert not ready.server.emulator.requests


def test_hrefs_into_managed_storage_are_refused(ready):
    item = stac_item("item-0")
    item["assets"]["image"]["href"] = (
        f"https://x.blob.core.windows.net/{managed_container('demo')}/08a/item-0/image.tif"
    )

    with pytest.raises(GeoCatalogTaskFailed, match="asset 'image': its href leads into the GeoCatalog's own storage"):
        ready.run(replace(items=item))


def test_a_missing_collection_is_told(world):
    with pytest.raises(GeoCatalogTaskFailed, match="collection 'demo' does not exist"):
        world.run(replace())


def test_a_dry_run_lists_what_would_be_written(ready):
    result = ready.run(replace(items=items(4), if_missing="create", dry_run=True))

    assert ready.writes == []
    assert [(write["method"], write["path"], write["subject"]) for write in result["plan"]] == [
        ("PUT", "/collections/demo/items/item-0", "item-0"),
        ("PUT", "/collections/demo/items/item-1", "item-1"),
        ("PUT", "/collections/demo/items/item-2", "item-2"),
        ("POST", "/collections/demo/items", "item-3"),
    ]
    assert result["items"]["pending"] == 4


# --- stopping ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def held(ready):
    """A world in which operations do not end."""
    ready.server.emulator.faults.add("hold", status="Running")
    return ready


def test_a_wait_that_takes_too_long_cancels_what_has_not_ended(held):
    with pytest.raises(GeoCatalogWaitTimeout, match="0 of 3 items done"):
        held.run(replace(timeout=1.0))

    assert held.writes.count("cancel_operation") == 3


def test_nothing_is_cancelled_if_it_is_not_to_be(held):
    with pytest.raises(GeoCatalogWaitTimeout):
        held.run(replace(timeout=1.0, cancel_on_kill=False))

    assert "cancel_operation" not in held.writes


def test_the_tasks_own_time_out_cancels_what_has_not_ended(held):
    def ring(*_):
        raise AirflowTaskTimeout("too long")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(AirflowTaskTimeout):
            held.run(replace(execution_timeout=datetime.timedelta(seconds=300)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert held.writes.count("cancel_operation") == 3


@pytest.mark.parametrize(("state", "cancelled"), [("failed", 3), ("running", 0)])
def test_a_stop_cancels_unless_only_the_worker_stops(held, monkeypatch, state, cancelled):
    runner = pytest.importorskip(
        "airflow.sdk.execution_time.task_runner", reason="Airflow 2 asks its database for a task's state"
    )

    monkeypatch.setattr(runner.RuntimeTaskInstance, "get_task_states", lambda **_: {"run": {"task": state}})
    operator, caught = replace(), []

    def work():
        try:
            held.run(operator)
        except GeoCatalogError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while held.writes.count("replace_item") < 3:
        time.sleep(0.05)
    time.sleep(0.3)
    operator.on_kill()
    thread.join(timeout=30)

    assert caught[0].retryable
    assert held.writes.count("cancel_operation") == cancelled


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_items_are_deleted_by_their_ids(ready):
    result = ready.run(delete(ids=["item-0", "item-2", "item-0", "item-9"]))

    assert result == {
        "collection_id": "demo",
        "items": {"total": 2, "succeeded": 2, "failed": 0, "pending": 0},
        "deleted": 2,
        "missing": 1,
    }
    assert list(stored(ready)) == ["item-1"]


def test_items_are_deleted_by_a_search(ready):
    load(ready, [{**stac_item("late"), "properties": {"datetime": "2025-06-01T00:00:00Z"}}])

    result = ready.run(delete(search={"datetime": "2024-01-01T00:00:00Z/2024-12-31T00:00:00Z"}, confirm_items=3))

    assert result["deleted"] == 3
    assert list(stored(ready)) == ["late"]


def test_an_explicit_empty_search_means_every_item(ready):
    assert ready.run(delete(search={}, confirm_items="3"))["deleted"] == 3
    assert stored(ready) == {}


@pytest.mark.parametrize("which", [{"search": {}}, {"ids": ["item-0", "item-1", "item-2"]}])
def test_more_items_than_were_confirmed_are_not_deleted(ready, which):
    with pytest.raises(GeoCatalogTaskFailed, match="3 items of collection 'demo' would be deleted, but at most 2"):
        ready.run(delete(confirm_items=2, **which))

    assert ready.writes == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "give either ids or search"),
        ({"ids": ["a"], "search": {}}, "give either ids or search"),
        ({"ids": "item-1"}, "ids has to be a list"),
        ({"ids": [1]}, "ids has to be a list"),
        ({"search": {"datetime": ""}}, "'datetime' of search has no value"),
        ({"search": {"filter": None}}, "'filter' of search has no value"),
        ({"search": {"collections": ["demo"]}}, "no condition 'collections'"),
        ({"search": {"bbox": [1, 2]}}, "a bounding box has 4 or 6 numbers"),
        ({"search": "all"}, "search has to be an object"),
        ({"search": {}, "confirm_items": "all"}, "confirm_items has to be a whole number"),
        ({"search": {}, "confirm_items": -1}, "confirm_items has to be a whole number"),
        ({"search": {}, "collection_id": ".."}, "items cannot be deleted"),
    ],
)
def test_bad_arguments_delete_nothing(ready, arguments, told):
    with pytest.raises(GeoCatalogTaskFailed, match=told):
        ready.run(delete(**arguments))

    assert not ready.server.emulator.requests


def test_no_ids_are_nothing_to_do(ready):
    assert ready.run(delete(ids="[]"))["items"]["total"] == 0
    assert ready.writes == []


def test_missing_ids_can_fail_the_task_but_not_its_retry(ready):
    wanted = {"ids": ["item-0", "item-9"], "if_missing": "fail"}

    with pytest.raises(GeoCatalogTaskFailed, match="1 items are not in collection 'demo': item-9"):
        ready.run(delete(**wanted))
    assert ready.writes == []

    assert ready.run(delete(**wanted), try_number=2)["deleted"] == 1


def test_what_an_earlier_try_has_deleted_is_no_failure(ready):
    """The read side still shows it, the operation says that there is nothing to delete."""
    ready.server.emulator.faults.add("fail_items", items=["item-1"], code="NoRecordsToDelete")

    result = ready.run(delete(ids=["item-0", "item-1"], gone_within=0), try_number=2)

    assert (result["deleted"], result["missing"], result["items"]["failed"]) == (1, 1, 0)


def test_an_item_that_cannot_be_deleted_is_told(ready):
    ready.server.emulator.faults.add("fail_items", items=["item-1"], code="InvalidInputData", message="No.")

    with pytest.raises(GeoCatalogTaskFailed, match="1 items could not be deleted: item-1: InvalidInputData"):
        ready.run(delete(search={}))

    assert list(stored(ready)) == ["item-1"]


@pytest.mark.parametrize("world", [{"deleted_item_lag": 2.0}], indirect=True)
def test_the_task_ends_when_items_are_gone(ready):
    ready.run(delete(ids=["item-0"]))

    assert sorted(stored(ready)) == ["item-1", "item-2"]


@pytest.mark.parametrize("world", [{"deleted_item_lag": 600.0}], indirect=True)
def test_items_that_do_not_vanish_are_told(unhurried):
    with pytest.raises(GeoCatalogWaitTimeout, match="180 s later 2 of them can still be read: item-0, item-1"):
        unhurried.run(delete(ids=["item-0", "item-1"]))


def test_a_dry_run_of_a_deletion_deletes_nothing(ready):
    result = ready.run(delete(search={}, dry_run=True))

    assert ready.writes == []
    assert [write["subject"] or write["path"] for write in result["plan"]] == ["item-2", "item-1", "item-0"]
    assert result["items"] == {"total": 3, "succeeded": 0, "failed": 0, "pending": 3}
