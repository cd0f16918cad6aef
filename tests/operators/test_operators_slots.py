"""The slot guard: bulk runs are started only while fewer than a number are active, whoever started those."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput, GeoCatalogWaitTimeout
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.operators.ingestion import (
    GeoCatalogBulkIngestionOperator,
    GeoCatalogCreateIngestionOperator,
    GeoCatalogRunIngestionOperator,
)
from airflow_provider_geocatalog.operators.sources import GeoCatalogEnsureIngestionSourceOperator
from airflow_provider_geocatalog.run_slots import SlotsTaken, start_lock
from airflow_provider_geocatalog.triggers.run_slots import GeoCatalogRunSlotTrigger
from tests.fakes.tasks import TaskInstance

CRASHED = ("__fail__", {"error": "Trigger failure", "traceback": ["it crashed"]})
SLOW = pytest.mark.parametrize("world", [{"items_per_second": 4, "max_concurrent_runs": 16}], indirect=True)
#: Runs take as long as this emulator lives.
ENDLESS = pytest.mark.parametrize("world", [{"items_per_second": 0.001}], indirect=True)


@pytest.fixture
def ready(world, documents, catalog):
    """A world with two collections, the container's source, and a catalog of three items."""
    for name in ("demo", "other"):
        world.run(GeoCatalogCreateCollectionOperator(task_id="c", collection=documents(name)))
    world.run(
        GeoCatalogEnsureIngestionSourceOperator(
            task_id="s", container_url=world.container, sas_token_conn_id="geocatalog_storage"
        )
    )
    catalog(world.folder)
    return world


def bulk(world, **arguments):
    defaults = {
        "task_id": "ingest",
        "collection_id": "demo",
        "catalog_url": f"{world.container}/catalog.json",
        "check_catalog": False,
        "run_key": "key",
        "poll_interval": 0.3,
        "min_poll_interval": 0.1,
        "max_active_runs": 1,
        "deferrable": True,
    }
    return GeoCatalogBulkIngestionOperator(**{**defaults, **arguments})


def follow(make, ti):
    """Execute a task through all of its deferrals, with a new operator after each, as workers do."""
    context = {"ti": ti}

    def attempt(work):
        operator = make()
        operator.first_delay = 0.0
        try:
            return None, work(operator)
        except TaskDeferred as deferred:
            return deferred, None

    deferred, result = attempt(lambda operator: operator.execute(context))
    while deferred is not None:
        method, trigger = deferred.method_name, deferred.trigger
        event = fire(type(trigger)(**json.loads(json.dumps(trigger.serialize()[1]))))
        deferred, result = attempt(lambda operator, do=method, told=event: getattr(operator, do)(context, event=told))
    return result


def fire(trigger):
    async def first():
        return (await anext(trigger.run())).payload

    return asyncio.run(first())


def defer(operator, **task_instance):
    """Execute an operator that defers, and return what it defers with, and its context."""
    context = {"ti": TaskInstance(**task_instance)}
    operator.first_delay = 0.0
    with pytest.raises(TaskDeferred) as left:
        operator.execute(context)
    return left.value, context


def resume(operator, deferred, context):
    operator.first_delay = 0.0
    return getattr(operator, deferred.method_name)(context, event=fire(deferred.trigger))


def start_foreign_run(collection_id="other", url="https://example.com/x/catalog.json"):
    client = GeoCatalogHook().client
    body = {"importType": "StaticCatalog", "sourceCatalogUrl": url, "displayName": "somebody else's"}
    return client.create_run(collection_id, client.create_ingestion(collection_id, body).ingestion_id)


@pytest.fixture
def foreign_run(ready):
    return start_foreign_run(url=f"{ready.container}/catalog.json")


def runs(world):
    with world.server.emulator.world.lock:
        collections = list(world.server.emulator.world.collections.values())
        return [run for one in collections for i in one.ingestions.values() for run in i.runs.values()]


def most_at_once(world):
    """The most runs that were active at the same time, by the emulator's own record of them."""
    marks = []
    for run in runs(world):
        history = run.operation.history
        marks += [(run.operation.created, 1), (history[-1].at, -1)]
    level = most = 0
    for _, change in sorted(marks):
        level += change
        most = max(most, level)
    return most


# --- the limit --------------------------------------------------------------------------------------------------------


@SLOW
@pytest.mark.parametrize("deferrable", [True, False])
def test_six_ingestions_of_two_dags_are_two_at_a_time_and_each_is_done_once(ready, deferrable):
    def ingest(number):
        ti = TaskInstance(dag_id=f"dag-{number % 2}", task_id=f"ingest-{number}")
        options = {"run_key": str(number), "max_active_runs": 2, "deferrable": deferrable}
        return follow(lambda: bulk(ready, collection_id=("demo", "other")[number % 2], **options), ti)

    with ThreadPoolExecutor(6) as pool:
        summaries = list(pool.map(ingest, range(6)))

    assert [summary["status"] for summary in summaries] == ["Succeeded"] * 6
    assert len({summary["run_id"] for summary in summaries}) == 6
    assert ready.writes.count("create_run") == 6
    assert most_at_once(ready) == 2


@ENDLESS
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_foreign_run_that_never_ends_is_named_when_the_time_is_over(ready, foreign_run, deferrable):
    with pytest.raises(GeoCatalogWaitTimeout) as caught:
        follow(lambda: bulk(ready, timeout=0.5, deferrable=deferrable), TaskInstance())

    for part in ("no slot for a run within 0 s", "max_active_runs is 1", f"run {foreign_run.run_id} into 'other'"):
        assert part in str(caught.value), part
    assert ready.writes.count("create_run") == 1  # the foreign one
    assert "cancel_operation" not in ready.writes


@ENDLESS
def test_the_limit_is_the_tasks_own(ready, foreign_run):
    assert follow(lambda: bulk(ready, max_active_runs=2, wait_for_completion=False), TaskInstance())["status"]
    assert ready.run(bulk(ready, run_key="other", max_active_runs=None, wait_for_completion=False))["status"]


@ENDLESS
def test_operations_on_items_and_collections_take_no_slot(ready, documents):
    ready.server.emulator.faults.add("hold", status="Running", types=["AddItem", "AddCollection"])
    client = GeoCatalogHook().client
    client.create_collection(documents("third"))
    client.create_item("demo", json.loads((ready.folder / "child" / "items" / "item-0.json").read_text()))

    assert follow(lambda: bulk(ready, wait_for_completion=False), TaskInstance())["status"] == "Pending"


@pytest.mark.parametrize("world", [{"items_per_second": 0.001, "cancel_seconds": 0.3}], indirect=True)
def test_a_run_of_the_two_step_operators_waits_as_well_and_goes_on_when_a_slot_is_free(ready, foreign_run):
    ingestion_id = ready.run(
        GeoCatalogCreateIngestionOperator(
            task_id="define",
            collection_id="demo",
            catalog_url=f"{ready.container}/catalog.json",
            check_catalog=False,
            run_key="two steps",
        )
    )
    options = {"poll_interval": 0.3, "max_active_runs": 1, "deferrable": True, "wait_for_completion": False}

    def run():
        return GeoCatalogRunIngestionOperator(task_id="run", collection_id="demo", ingestion_id=ingestion_id, **options)

    deferred, context = defer(run())
    threading.Timer(1.0, lambda: GeoCatalogHook().client.cancel_operation(foreign_run.run_id)).start()

    assert resume(run(), deferred, context)["ingestion_id"] == ingestion_id
    assert GeoCatalogHook().client.get_operation(foreign_run.run_id).status.word == "Canceled"


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_a_limit_that_makes_no_sense_is_refused_when_the_operator_is_made(ready, value):
    with pytest.raises(GeoCatalogInvalidInput, match="max_active_runs"):
        bulk(ready, max_active_runs=value)


# --- once, whatever happens -------------------------------------------------------------------------------------------


@ENDLESS
def test_a_run_that_an_earlier_try_has_started_is_adopted_whatever_is_active(ready):
    first = follow(lambda: bulk(ready, wait_for_completion=False), TaskInstance())
    start_foreign_run(url=f"{ready.container}/catalog.json")

    again = follow(lambda: bulk(ready, wait_for_completion=False), TaskInstance(try_number=2))

    assert (again["run_id"], again["adopted"]) == (first["run_id"], True)


@ENDLESS
def test_a_task_killed_while_it_waits_has_started_nothing_and_a_retry_waits_again(ready, foreign_run):
    defer(bulk(ready))  # and its trigger is cancelled, or its worker killed

    deferred, _ = defer(bulk(ready), try_number=2)

    assert deferred.method_name == "execute_in_slot"
    assert ready.writes.count("create_run") == 1  # the foreign one
    assert ready.writes.count("create_ingestion") == 2


@ENDLESS
def test_a_slot_that_is_taken_after_all_is_waited_for_again_in_the_same_place_of_the_line(ready):
    deferred, context = defer(bulk(ready))
    event = fire(deferred.trigger)
    start_foreign_run(url=f"{ready.container}/catalog.json")

    assert event["outcome"] == "turn"
    operator = bulk(ready)
    with pytest.raises(TaskDeferred) as again:
        operator.execute_in_slot(context, event=event)

    before, after = deferred.trigger.serialize()[1], again.value.trigger.serialize()[1]
    assert [before[name] for name in ("started", "deadline")] == [after[name] for name in ("started", "deadline")]
    assert ready.writes.count("create_run") == 1


@ENDLESS
def test_a_lost_trigger_is_got_over_a_few_times(ready, foreign_run):
    _, context = defer(bulk(ready))

    for _ in range(3):
        operator = bulk(ready)
        with pytest.raises(TaskDeferred) as again:
            operator.resume_execution(*CRASHED, context)
        assert again.value.method_name == "execute_in_slot"
    with pytest.raises(Exception, match="Trigger failure"):
        bulk(ready).resume_execution(*CRASHED, context)

    assert ready.writes.count("create_run") == 1


def test_a_lost_trigger_of_the_wait_for_the_run_is_another_matter(ready):
    hold = ready.server.emulator.faults.add("hold", status="Running")
    deferred, context = defer(bulk(ready))
    operator = bulk(ready)
    with pytest.raises(TaskDeferred) as waiting:
        resume(operator, deferred, context)
    ready.server.emulator.faults.remove(hold)
    ready.server.emulator.settle()

    assert waiting.value.method_name == "execute_complete"
    assert bulk(ready).resume_execution(*CRASHED, context)["items"]["succeeded"] == 3
    assert ready.writes.count("create_run") == 1


@ENDLESS
def test_the_wait_counts_to_the_execution_timeout_and_not_to_the_time_out_of_the_run(ready):
    limits = {"timeout": 100, "execution_timeout": datetime.timedelta(seconds=150)}
    deferred, context = defer(bulk(ready, **limits))
    event = fire(deferred.trigger)
    assert event["deadline"] - event["began"] == 100
    event["began"] -= 80  # it had to wait for so long
    operator = bulk(ready, **limits)
    with pytest.raises(TaskDeferred) as waiting:
        operator.execute_in_slot(context, event=event)

    left = waiting.value.trigger.serialize()[1]["deadline"] - time.time()
    assert 40 < left <= 70


@ENDLESS
def test_nothing_is_started_when_the_execution_timeout_is_over_and_a_slot_is_free(ready):
    limits = {"execution_timeout": datetime.timedelta(seconds=100)}
    deferred, context = defer(bulk(ready, **limits))
    event = fire(deferred.trigger)
    event |= {"began": event["began"] - 101, "deadline": event["deadline"] - 101}
    with pytest.raises(GeoCatalogWaitTimeout, match="no slot for a run within 100 s"):
        bulk(ready, **limits).execute_in_slot(context, event=event)
    assert "create_run" not in ready.writes


# --- the trigger ------------------------------------------------------------------------------------------------------


def slot_trigger(**arguments):
    return GeoCatalogRunSlotTrigger(**{"max_active_runs": 1, "poll_interval": 0.2, "first_delay": 0.0, **arguments})


@ENDLESS
def test_triggers_go_one_after_the_other_and_share_their_looks(ready):
    now = time.time()
    gone = []

    async def wait(number):
        await anext(slot_trigger(max_active_runs=2, started=now + number, deadline=now + 5).run())
        gone.append(number)

    async def all_of_them():
        tasks = [asyncio.create_task(wait(number)) for number in reversed(range(20))]
        await asyncio.sleep(2)
        let_go = list(gone)
        for task in tasks:
            task.cancel()
        return let_go

    before = len(ready.server.emulator.requests.copy())
    let_go = asyncio.run(all_of_them())

    assert sorted(let_go) == [0, 1]  # no run has shown, and no more are let go than there are slots
    looks = [r for r in list(ready.server.emulator.requests.copy())[before:] if r.operation == "list_operations"]
    assert len(looks) < 20 * 4 * 3


def test_a_slot_is_given_away_again_when_its_run_has_come_and_gone(ready):
    async def one_after_the_other():
        first = slot_trigger(started=1.0, deadline=time.time() + 60)
        yield (await anext(first.run())).payload["outcome"]
        run = await asyncio.to_thread(start_foreign_run, url=f"{ready.container}/catalog.json")
        await asyncio.to_thread(GeoCatalogHook().client.wait_for_operation, run.run_id, timeout=30)
        yield (await anext(slot_trigger(started=2.0, deadline=time.time() + 20).run())).payload["outcome"]

    async def outcomes():
        return [outcome async for outcome in one_after_the_other()]

    assert asyncio.run(outcomes()) == ["turn", "turn"]


@ENDLESS
def test_an_outage_is_ridden_out_and_a_refusal_is_left_to_the_worker(ready, foreign_run, reconnect):
    rule = ready.server.emulator.faults.add("status", status=503, operations="list_operations")
    threading.Timer(1.0, lambda: ready.server.emulator.faults.remove(rule)).start()
    assert fire(slot_trigger(max_active_runs=2, deadline=time.time() + 60))["outcome"] == "turn"

    reconnect(token="another")
    assert fire(slot_trigger(deadline=time.time() + 60))["outcome"] == "unreadable"


def test_a_trigger_makes_itself_again(ready):
    path, arguments = slot_trigger(echo={"ingestion_id": "x"}, deadline=2.0, started=1.0).serialize()

    assert path == f"{GeoCatalogRunSlotTrigger.__module__}.{GeoCatalogRunSlotTrigger.__qualname__}"
    assert GeoCatalogRunSlotTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


# --- the lock ---------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from airflow_provider_geocatalog.run_slots import start_lock

with start_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_held_against_other_processes_and_let_go_by_a_killed_one():
    url = f"https://lock-{os.getpid()}.example.com"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    entered = threading.Event()

    def enter():
        with suppress(SlotsTaken), start_lock(url):
            entered.set()

    try:
        assert holder.stdout.readline() == b"held\n"
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.5)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert entered.wait(30)
    thread.join()


def test_other_geocatalogs_are_not_kept_from_starting():
    with start_lock("https://one.example.com"), start_lock("https://two.example.com"):
        pass
