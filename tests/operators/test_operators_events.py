"""Events for asset watchers: which operations they tell of, how often, and what that costs the service."""

from __future__ import annotations

import asyncio
import json
import logging
import runpy
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.models.trigger import Trigger

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.ingestion import GeoCatalogBulkIngestionOperator
from airflow_provider_geocatalog.operators.sources import GeoCatalogEnsureIngestionSourceOperator
from airflow_provider_geocatalog.triggers.events import GeoCatalogOperationEndedTrigger
from tests.fakes.airflow_versions import AIRFLOW_VERSION, ByAsset

EXAMPLE = Path(__file__).parents[2] / "example_dags" / "geocatalog_watch_operations.py"
SECRET = "ZXZlbnRzLXRlc3Qtc2lnbmF0dXJl%3D"
ARGUMENTS = {
    "geocatalog_conn_id": "other",
    "collection_id": "c",
    "types": ["AddItem", "UpdateItem"],
    "outcomes": ["failed", "succeeded"],
    "max_failed_items": 4,
    "poll_interval": 12.5,
}
FIRST_LOOK = 4  # requests: the newest page, and what is active by each of its three words


class Operations:
    """Operations that go on until they are told to end."""

    def __init__(self, world) -> None:
        self.emulator = world.server.emulator

    def start(self, count: int = 1, *, kind: str = "AddItem", collection_id: str = "demo") -> list[str]:
        with self.emulator.world.lock:
            now, start = self.emulator.clock.now(), self.emulator.engine.start_items
            return [start(kind, collection_id, now, [lambda at: None], ["x"]).id for _ in range(count)]

    def end(self, *operation_ids: str, status: str = "Succeeded", failed: int = 0) -> None:
        with self.emulator.world.lock:
            for operation_id in operation_ids:
                operation, now = self.emulator.world.operations[operation_id], self.emulator.clock.now()
                self.emulator.engine.begin(operation, now)
                operation.counters.total, operation.counters.failed = 10, failed
                operation.counters.successful = 10 - failed
                code = None if status == "Succeeded" else "GenericIngestionError"
                self.emulator.engine.end(operation, status, now, code, code and f"sig={SECRET}")

    def forget(self, operation_id: str) -> None:
        with self.emulator.world.lock:
            del self.emulator.world.operations[operation_id]

    @property
    def asked(self) -> list[str]:
        """What was asked about operations, also where that was refused."""
        paths = [one.path for one in self.emulator.requests.copy() if one.method == "GET"]
        names = {"operations": "list_operations"}
        return [names.get(path.rsplit("/", 1)[1], "get_operation") for path in paths if "/inma/operations" in path]

    @property
    def statuses(self) -> list[int]:
        return [one.status for one in self.emulator.requests.copy()]


@pytest.fixture
def operations(world, documents):
    GeoCatalogHook().client.create_collection(documents())
    made = Operations(world)
    made.emulator.faults.add("hold", status="Pending", types=["AddItem", "UpdateItem"])
    made.emulator.requests.clear()
    return made


class Store:
    """Stands in for Airflow's accessor of an asset's state; the values go through JSON as they do there."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.failures = 0

    def _answer(self) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the api-server is away")

    async def aget(self, key, default=None):
        self._answer()
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key, value) -> None:
        self._answer()
        self.values[key] = json.dumps(value)

    @property
    def told(self) -> set[str]:
        return {one for value in self.values.values() for one in json.loads(value)["told"]}


class BlockingStore(Store):
    """As in Airflow 3.3.0 and 3.3.1."""

    aget = aset = None

    def get(self, key, default=None):
        return asyncio.run(Store.aget(self, key, default))

    def set(self, key, value) -> None:
        asyncio.run(Store.aset(self, key, value))


class StoreOfSeveralAssets:
    async def aget(self, key, default=None):
        raise ValueError("Task has 2 concrete inlets and outlets")


def quick(store=None, **options) -> GeoCatalogOperationEndedTrigger:
    """Return what a triggerer makes of a watcher's trigger."""
    row = Trigger.from_object(GeoCatalogOperationEndedTrigger(**{"poll_interval": 0.1, **options}))
    trigger = GeoCatalogOperationEndedTrigger(**row.kwargs)
    trigger.asset_state_store = store
    return trigger


class Watcher:
    """A trigger at work."""

    def __init__(self, events) -> None:
        self.fired: list[dict] = []
        self.task = asyncio.create_task(self._work(events))

    async def _work(self, events) -> None:
        async for event in events:
            json.dumps(event.payload)
            self.fired.append(event.payload)

    @property
    def ids(self) -> list[str]:
        return [event["operation_id"] for event in self.fired]

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def until(condition, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def watching(operations, *triggers):
    """Have triggers run on their own, and go on when all have looked at least once."""
    before = len(operations.asked)
    watchers = [Watcher(trigger.run()) for trigger in triggers]
    try:
        await until(lambda: len(operations.asked) >= before + len(triggers) * (FIRST_LOOK + 1))
        yield watchers
    finally:
        for watcher in watchers:
            await watcher.stop()


async def looks(operations, count: int = 3) -> None:
    """Wait until everybody has looked some more times."""
    before = len(operations.asked)
    await until(lambda: len(operations.asked) >= before + count)


def run(scenario) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 30)

    asyncio.run(bounded())


@pytest.fixture
def said(caplog, capsys):
    """Return what was logged so far; Airflow 3.1 has a way of its own to print what triggers log."""
    caplog.set_level(logging.INFO)
    printed = []

    def said() -> str:
        if AIRFLOW_VERSION >= (3, 1):  # earlier it is printed too, a second time
            printed.append(capsys.readouterr().out)
        return "".join(printed) + caplog.text

    return said


# --- which operations -------------------------------------------------------------------------------------------------


def test_each_way_of_ending_is_told_once(operations):
    fine, bad, partial = operations.start(3)
    stopped = operations.start()[0]

    async def scenario() -> None:
        async with watching(operations, quick()) as (watcher,):
            operations.end(fine)
            await until(lambda: watcher.ids == [fine])
            operations.end(bad, status="Failed", failed=10)
            operations.end(partial, failed=3)
            await until(lambda: set(watcher.ids) == {fine, bad, partial})
            operations.end(stopped, status="Canceled")
            await until(lambda: len(watcher.fired) == 4)
            await looks(operations)

        told = {event["operation_id"]: event for event in watcher.fired}
        assert {name: told[name]["outcome"] for name in told} == {
            fine: "succeeded",
            bad: "failed",
            partial: "failed",
            stopped: "canceled",
        }
        assert told[partial]["status"] == "Succeeded"
        assert told[partial]["items"] == {"total": 10, "succeeded": 7, "failed": 3, "pending": 0}
        assert told[bad]["error_code"] == "GenericIngestionError"
        assert told[fine] | {"created_at": "", "ended_at": "", "duration_seconds": 0} == {
            "operation_id": fine,
            "status": "Succeeded",
            "outcome": "succeeded",
            "type": "AddItem",
            "collection_id": "demo",
            "items": {"total": 10, "succeeded": 10, "failed": 0, "pending": 0},
            "error_code": None,
            "geocatalog_conn_id": "geocatalog_default",
            "created_at": "",
            "ended_at": "",
            "duration_seconds": 0,
        }
        assert told[fine]["ended_at"] >= told[fine]["created_at"]
        assert SECRET not in json.dumps(watcher.fired)

    run(scenario)


def test_a_bulk_run_is_told_of(operations, world, catalog):
    catalog(world.folder, 3)
    world.run(
        GeoCatalogEnsureIngestionSourceOperator(
            task_id="source", container_url=world.container, sas_token_conn_id="geocatalog_storage"
        )
    )
    ingest = GeoCatalogBulkIngestionOperator(
        task_id="ingest",
        collection_id="demo",
        catalog_url=f"{world.container}/catalog.json",
        container_url=world.container,
        sas_token_conn_id="geocatalog_storage",
        poll_interval=0.2,
    )

    async def scenario() -> None:
        async with watching(operations, quick(types=["IngestionStaticCatalog"])) as (watcher,):
            summary = await asyncio.to_thread(world.run, ingest)
            await until(lambda: watcher.fired)
            await looks(operations)
            (event,) = watcher.fired
            assert (event["operation_id"], event["outcome"]) == (summary["run_id"], "succeeded")
            assert event["items"]["succeeded"] == 3

    run(scenario)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"add", "update", "bad", "partial", "other"}),
        ({"collection_id": "demo"}, {"add", "update", "bad", "partial"}),
        ({"types": ["UpdateItem"]}, {"update"}),
        ({"outcomes": ["failed"]}, {"bad", "partial"}),
        ({"outcomes": ["failed"], "max_failed_items": 3}, {"bad"}),
        ({"outcomes": ["succeeded", "canceled"], "collection_id": "demo"}, {"add", "update"}),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_only_what_is_wanted_is_told(operations, documents, options, expected):
    GeoCatalogHook().client.create_collection(documents("other"))

    async def scenario() -> None:
        async with watching(operations, quick(**options), quick()) as (watcher, everything):
            (update,), (other,) = operations.start(kind="UpdateItem"), operations.start(collection_id="other")
            add, bad, partial = operations.start(3)
            operations.end(add, update, other)
            operations.end(bad, status="Failed", failed=10)
            operations.end(partial, failed=3)
            names = {add: "add", update: "update", bad: "bad", partial: "partial", other: "other"}
            await until(lambda: {*map(names.get, watcher.ids)} >= expected and names.keys() <= set(everything.ids))
            await looks(operations, 4)
            assert sorted(names[one] for one in watcher.ids if one in names) == sorted(expected)

    run(scenario)


def test_what_had_ended_before_is_not_told(operations):
    operations.end(*operations.start(3))
    time.sleep(0.01)

    async def scenario() -> None:
        async with watching(operations, quick()) as (watcher,):
            await looks(operations)
            assert watcher.fired == []

    run(scenario)


def test_an_operation_beyond_the_newest_page_is_told_when_it_ends(operations):
    (old,) = operations.start()
    operations.end(*operations.start(250))

    async def scenario() -> None:
        async with watching(operations, quick()) as (watcher,):
            operations.end(*operations.start(250))
            operations.end(old)
            await until(lambda: len(watcher.fired) >= 251)
            assert old in watcher.ids

    run(scenario)


def test_operations_that_are_old_are_looked_for_by_id_or_by_status(operations):
    few, many = operations.start(2), operations.start(60)
    operations.end(*operations.start(200))
    operations.emulator.clock.advance(3600)
    operations.start()

    async def scenario() -> None:
        async with watching(operations, quick(types=["AddItem"])) as (watcher,):
            operations.end(*many)
            await until(lambda: set(many) <= set(watcher.ids))
            seen = len(operations.asked)
            await looks(operations, 9)
            # Now there are two that the newest page does not show.
            assert operations.asked[seen:].count("get_operation") >= 4
            operations.end(*few)
            await until(lambda: set(few) <= set(watcher.ids))
            await until(lambda: operations.asked[-3:] == ["list_operations"] * 3)
            assert sorted(one for one in watcher.ids if one in {*few, *many}) == sorted([*few, *many])

    run(scenario)


def test_an_operation_that_is_gone_is_looked_for_no_more(operations):
    (old,) = operations.start()
    operations.emulator.clock.advance(3600)
    operations.start()

    async def scenario() -> None:
        async with watching(operations, quick()) as (watcher,):
            operations.forget(old)
            await until(lambda: "get_operation" in operations.asked)
            await until(lambda: operations.asked[-3:] == ["list_operations"] * 3)
            assert watcher.fired == []

    run(scenario)


def test_an_operation_that_cannot_be_read_keeps_nobody_else_waiting(operations):
    bad, good = operations.start(2)
    operations.end(*operations.start(200))
    operations.emulator.clock.advance(3600)
    operations.start()
    faults = operations.emulator.faults

    async def scenario() -> None:
        async with watching(operations, quick()) as (watcher,):
            fault = faults.add("status", status=400, operations="get_operation", path=bad)
            await until(lambda: 400 in operations.statuses)
            operations.end(bad, good)
            await until(lambda: good in watcher.ids)
            assert bad not in watcher.ids
            faults.remove(fault)
            await until(lambda: bad in watcher.ids)

    run(scenario)


# --- one poll for many ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def sharing(*triggers):
    """Have Airflow's own manager feed triggers, as its triggerer does."""
    streams = pytest.importorskip("airflow.triggers.shared_stream")
    manager, watchers = streams.SharedStreamManager(), []

    async def join(trigger) -> Watcher:
        key = trigger.shared_stream_key()
        stream = manager.subscribe(trigger_id=len(watchers), trigger=trigger, key=key)
        watchers.append(Watcher(trigger.filter_shared_stream(stream)))
        return watchers[-1]

    try:
        for trigger in triggers:
            await join(trigger)
        yield watchers, join
    finally:
        for watcher in watchers:
            await watcher.stop()
        await manager.stop_all()


def test_many_triggers_share_one_poll(operations):
    fine, bad = operations.start(2)
    stores = [Store() for _ in range(20)]
    triggers = [quick(store, outcomes=[("succeeded", "failed")[i % 2]]) for i, store in enumerate(stores)]

    async def scenario() -> None:
        async with sharing(*triggers) as (watchers, _):
            await until(lambda: all(store.values for store in stores))
            operations.end(fine)
            operations.end(bad, status="Failed", failed=1)
            await until(lambda: all(watcher.fired for watcher in watchers))
            assert [watcher.ids for watcher in watchers] == [[fine], [bad]] * 10
            before, began = len(operations.asked), time.monotonic()
            await looks(operations, 10)
            elapsed, asked = time.monotonic() - began, operations.asked
            # A request for each interval, whoever listens, and no look of anybody's own.
            assert len(asked) - before <= elapsed / 0.09 + 2
            assert set(asked) == {"list_operations"}

    run(scenario)


def test_a_trigger_that_joins_late_is_told_of_what_ends_from_then_on(operations):
    before, after = operations.start(2)

    async def scenario() -> None:
        async with sharing(quick()) as ((first, *_), join):
            await until(lambda: len(operations.asked) > FIRST_LOOK)
            operations.end(before)
            await until(lambda: first.ids == [before])
            late = await join(quick(collection_id="demo"))
            await looks(operations)
            operations.end(after)
            await until(lambda: late.fired)
            await looks(operations)
            assert (first.ids, late.ids) == ([before, after], [after])

    run(scenario)


def test_a_trigger_that_was_away_is_told_of_what_it_missed_while_others_were_there(operations):
    missed, kept = operations.start(2)
    store = Store()

    async def scenario() -> None:
        async with sharing(quick(store, collection_id="demo")):
            await until(lambda: store.values)
        async with sharing(quick()) as ((other, *_), join):
            await until(lambda: len(operations.asked) > 2 * FIRST_LOOK)
            operations.end(missed)
            await until(lambda: other.fired)
            operations.end(*operations.start(230))
            operations.emulator.clock.advance(3600)
            operations.end(*operations.start())
            await until(lambda: len(other.fired) == 232)
            await looks(operations)
            # More has happened than the poll that is shared still shows.
            back = await join(quick(store, collection_id="demo"))
            await until(lambda: len(back.fired) == 232)
            operations.end(kept)
            await until(lambda: kept in back.ids and kept in other.ids)
            assert back.ids[0] == missed
            assert len(set(back.ids)) == len(back.ids) == 233

    run(scenario)


def test_intervals_and_connections_have_polls_of_their_own():
    keys = {quick(**one).shared_stream_key() for one in ({}, {"poll_interval": 5}, {"geocatalog_conn_id": "other"})}

    assert len(keys) == 3
    assert quick(collection_id="c", types=["AddItem"]).shared_stream_key() in keys


# --- restarts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Store, BlockingStore], ids=["async", "blocking"])
def test_a_restart_loses_nothing_and_repeats_nothing(operations, make):
    store, (told, missed, still) = make(), operations.start(3)

    async def scenario() -> None:
        async with watching(operations, quick(store)) as (watcher,):
            operations.end(told)
            await until(lambda: watcher.ids == [told] and told in store.told)
        operations.end(missed)
        (short,) = operations.start()
        operations.end(short)
        async with watching(operations, quick(store)) as (watcher,):
            await until(lambda: len(watcher.fired) == 2)
            operations.end(still)
            await until(lambda: len(watcher.fired) == 3)
            await looks(operations)
            assert watcher.ids == [missed, short, still]

    run(scenario)


def test_without_a_place_for_it_nothing_is_remembered(operations):
    (missed,) = operations.start()

    async def scenario() -> None:
        async with watching(operations, quick()):
            pass
        operations.end(missed)
        await asyncio.sleep(0.01)
        async with watching(operations, quick()) as (watcher,):
            await looks(operations)
            assert watcher.fired == []

    run(scenario)


def test_triggers_of_one_asset_remember_apart(operations):
    store, (one,) = Store(), operations.start()

    async def scenario() -> None:
        async with watching(operations, quick(store), quick(store, outcomes=["succeeded"])) as watchers:
            await until(lambda: len(store.values) == 2)
            operations.end(one)
            await until(lambda: [watcher.ids for watcher in watchers] == [[one], [one]])

    run(scenario)


def test_several_assets_with_one_trigger_are_told_without_a_memory(operations, said):
    async def scenario() -> None:
        async with watching(operations, quick(StoreOfSeveralAssets())) as (watcher,):
            operations.end(*operations.start())
            await until(lambda: watcher.fired)

    run(scenario)
    assert said().count("not remembered") == 1


def test_a_store_that_fails_is_asked_again(operations, said):
    store, (missed,) = Store(), operations.start()

    async def scenario() -> None:
        async with watching(operations, quick(store)):
            await until(lambda: store.values)
        operations.end(missed)
        store.failures = 3
        async with watching(operations, quick(store)) as (watcher,):
            await until(lambda: watcher.ids == [missed])

    run(scenario)
    assert said().count("what was known fails") == 1


def test_what_cannot_be_read_is_started_anew(operations, said):
    store = Store()

    async def scenario() -> None:
        async with watching(operations, quick(store)):
            await until(lambda: store.values)
        store.values = dict.fromkeys(store.values, '{"of": "another version"}')
        async with watching(operations, quick(store)) as (watcher,):
            operations.end(*operations.start())
            await until(lambda: watcher.fired)

    run(scenario)
    assert said().count("started anew") == 1


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_an_outage_is_ridden_out_and_said_once(operations, said):
    (one,) = operations.start()
    faults = operations.emulator.faults

    async def scenario() -> None:
        async with sharing(quick(), quick(outcomes=["succeeded"])) as (watchers, _):
            await until(lambda: len(operations.asked) > FIRST_LOOK)
            outage = faults.add("status", status=429, operations="list_operations")
            await looks(operations, 4)
            operations.end(one)
            faults.remove(outage)
            await until(lambda: [watcher.ids for watcher in watchers] == [[one], [one]])

    run(scenario)
    assert said().count("Looking for ended operations fails") == 1
    assert said().count("Looking for ended operations works again") == 1


def test_the_pause_after_a_failure_is_the_one_that_the_service_asks_for(operations):
    async def scenario() -> None:
        async with watching(operations, quick()):
            operations.emulator.faults.add("status", status=429, retry_after=1, times=1)
            await until(lambda: 429 in operations.statuses)
            refused = time.monotonic()
            await looks(operations, 1)
            assert 0.9 <= time.monotonic() - refused <= 5

    run(scenario)


def test_a_connection_that_is_wrong_is_waited_for(operations, reconnect, said):
    async def scenario() -> None:
        reconnect(token="not-the-right-one")
        watcher = Watcher(quick().run())
        await looks(operations)
        reconnect()
        await until(lambda: operations.statuses[-1] == 200)
        await looks(operations, FIRST_LOOK)
        operations.end(*operations.start())
        await until(lambda: watcher.fired)
        await watcher.stop()

    run(scenario)
    assert said().count("Looking for ended operations fails") == 1


def test_the_event_loop_is_never_blocked(operations):
    operations.start(400)
    lags: list[float] = []

    async def measure() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            lags.append(time.perf_counter() - began - 0.01)

    async def scenario() -> None:
        operations.emulator.faults.add("latency", seconds=1.2, operations="list_operations")
        meter = asyncio.create_task(measure())
        async with watching(operations, quick()):
            meter.cancel()
        assert max(lags) < 1  # a machine may be slow by itself; a request would hold the loop up for longer

    run(scenario)


# --- in DAGs ---------------------------------------------------------------------------------------------------------


def test_the_example_reads_what_its_watcher_fires(operations, capsys):
    pytest.importorskip("airflow.sdk", reason="watchers came with Airflow 3")
    example = runpy.run_path(str(EXAMPLE))
    (watcher,) = example["ingestions"].watchers
    arguments = watcher.trigger.serialize()[1]

    async def scenario() -> None:
        async with watching(operations, quick(**{**arguments, "poll_interval": 0.1})) as (ended,):
            operations.end(*operations.start(kind="AddItem"), *operations.start(kind="IngestionStaticCatalog"))
            await until(lambda: ended.fired)
            event = SimpleNamespace(extra={"payload": ended.fired[0]})
            events = ByAsset()
            events[example["ingestions"]] = [event]
            report = example["dag"].get_task("report").python_callable
            assert report(events) == ended.fired

    run(scenario)
    assert "into demo: succeeded, 10 items of 10, 0 failed." in capsys.readouterr().out


# --- the database -----------------------------------------------------------------------------------------------------


def test_a_trigger_comes_out_of_the_database_as_it_went_in():
    trigger = GeoCatalogOperationEndedTrigger(**ARGUMENTS)
    row = Trigger.from_object(trigger)

    assert trigger.serialize()[1] == ARGUMENTS
    assert GeoCatalogOperationEndedTrigger(**row.kwargs, of_a_later_version={"any": 1}).serialize()[1] == ARGUMENTS
    assert GeoCatalogOperationEndedTrigger().serialize()[1].keys() == ARGUMENTS.keys()


def test_equal_triggers_are_one_for_airflow():
    hash_of = getattr(GeoCatalogOperationEndedTrigger, "hash", None)
    if hash_of is None:
        pytest.skip("event triggers came with Airflow 3")
    one = GeoCatalogOperationEndedTrigger(types=["B", "A", "B"], poll_interval=30)
    other = GeoCatalogOperationEndedTrigger(types=("A", "B"), poll_interval=30.0)

    assert hash_of(*one.serialize()) == hash_of(*other.serialize())
    assert hash_of(*one.serialize()) != hash_of(*GeoCatalogOperationEndedTrigger(types=["A"]).serialize())


@pytest.mark.parametrize(
    "wrong", [{"types": "AddItem"}, {"outcomes": ["Finished"]}, {"poll_interval": 0}, {"poll_interval": float("nan")}]
)
def test_wrong_arguments_are_refused_where_the_dag_is_read(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GeoCatalogOperationEndedTrigger(**wrong)
