"""Triggers for asset watchers: new items in a STAC API, and ingestion sources that are about to expire."""

from __future__ import annotations

import asyncio
import json
import logging
import runpy
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.models.trigger import Trigger

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.operators.sources import GeoCatalogEnsureIngestionSourceOperator
from airflow_provider_geocatalog.transfer.sources import StacApiSource
from airflow_provider_geocatalog.triggers.watchers import GeoCatalogSourceExpiringTrigger, StacApiNewItemsTrigger
from tests.fakes.airflow_versions import ByAsset
from tests.fakes.stubborn_stac_api import StubbornStacApi, tiny_items

EXAMPLES = Path(__file__).parents[2] / "example_dags"
START = "2024-01-01T00:00:00Z"


class Store:
    """Stands in for Airflow's accessor of an asset's state."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def aget(self, key):
        return json.loads(self.values[key]) if key in self.values else None

    async def aset(self, key, value) -> None:
        self.values[key] = json.dumps(value)


def stored(trigger, store=None):
    """Return what a triggerer makes of a watcher's trigger."""
    row = Trigger.from_object(trigger)
    made = type(trigger)(**row.kwargs)
    made.asset_state_store = store
    return made


@asynccontextmanager
async def watching(trigger):
    """Have a trigger run on its own, and yield what it fires."""
    fired: list[dict] = []

    async def work() -> None:
        async for event in trigger.run():
            fired.append(json.loads(json.dumps(event.payload)))

    task = asyncio.create_task(work())
    try:
        yield fired
    finally:
        is_over = task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert not is_over


async def until(condition, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.01)


async def looks(counted, count: int = 3) -> None:
    before = len(counted())
    await until(lambda: len(counted()) >= before + count)


def run(scenario) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 30)

    asyncio.run(bounded())


@pytest.fixture
def said(caplog, capsys):
    """Return what was logged so far; Airflow 3 has a way of its own to print what triggers log."""
    caplog.set_level(logging.INFO)
    printed = []

    def said() -> str:
        printed.append(capsys.readouterr().out)
        return "".join(printed) + caplog.text

    return said


# --- new items --------------------------------------------------------------------------------------------------------


@pytest.fixture
def api():
    with StubbornStacApi(tiny_items(10, start=START)) as api:
        yield api


def arrived(api, store=None, **options) -> StacApiNewItemsTrigger:
    source = StacApiSource(url=api.url, collections="demo", max_retries=0)
    return stored(StacApiNewItemsTrigger(source=source, **{"poll_interval": 0.1, "after": START, **options}), store)


def newer(number: int) -> dict:
    [item] = tiny_items(1, start=(datetime(2024, 2, 1, tzinfo=UTC) + timedelta(hours=number)).isoformat())
    return {**item, "id": f"new-{number}"}


def test_new_items_are_told_once_with_the_window_that_holds_them(api):
    async def scenario() -> None:
        async with watching(arrived(api, overlap=60)) as fired:
            await until(lambda: fired)
            api.put(newer(1))
            api.put(newer(2))
            await until(lambda: sum(event["count"] for event in fired) == 11)
            await looks(lambda: api.requests)
        assert fired[0]["count"] == 9  # those after the first
        assert fired[0]["window"]["start"] == "2023-12-31T23:59:00Z"
        assert fired[0]["window"]["field"] == "updated"
        assert fired[0]["bbox"] == [8.0, 47.0, 8.0, 47.0]
        assert {name for event in fired[1:] for name in event["ids"]} == {"new-1", "new-2"}
        assert fired[-1]["watermark"] == "2024-02-01T02:00:00Z"
        assert fired[0]["source"].startswith("STAC API http://127.0.0.1")

    run(scenario)


def test_without_a_moment_only_what_comes_later_is_new(api):
    async def scenario() -> None:
        async with watching(arrived(api, after=None)) as fired:
            await looks(lambda: api.requests, 6)
            assert fired == []
            [item] = tiny_items(1, start=datetime.now(UTC).isoformat())
            api.put({**item, "id": "today"})
            await until(lambda: fired)
        assert fired[0]["ids"] == ["today"]

    run(scenario)


def test_the_watermark_outlives_a_restart(api):
    store = Store()

    async def scenario() -> None:
        async with watching(arrived(api, store)) as fired:
            await until(lambda: store.values)
            assert fired[0]["count"] == 9
        api.put(newer(1))
        async with watching(arrived(api, store)) as fired:
            await until(lambda: fired)
            assert fired[0]["ids"] == ["new-1"]

    run(scenario)


def test_a_source_that_fails_is_looked_at_again(api, said):
    async def scenario() -> None:
        api.failures = [500, "drop", "html", 503] * 2
        async with watching(arrived(api)) as fired:
            await until(lambda: fired)

    run(scenario)
    assert "Looking for new items fails and goes on" in said()


@asynccontextmanager
async def sharing(*triggers):
    """Have Airflow's own manager feed triggers, as its triggerer does; yield what each fires, and how to join."""
    streams = pytest.importorskip("airflow.triggers.shared_stream", reason="shared streams came with Airflow 3.3")
    manager, tasks = streams.SharedStreamManager(), []

    def join(trigger) -> list[dict]:
        stream = manager.subscribe(trigger_id=len(tasks), trigger=trigger, key=trigger.shared_stream_key())
        fired: list[dict] = []

        async def work() -> None:
            async for event in trigger.filter_shared_stream(stream):
                fired.append(event.payload)

        tasks.append(asyncio.create_task(work()))
        return fired

    try:
        yield [join(trigger) for trigger in triggers], join
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await manager.stop_all()


def test_triggers_with_one_source_share_their_looks(api):
    triggers = [arrived(api, min_items=1), arrived(api, min_items=2), arrived(api, min_items=3, overlap=60)]

    async def scenario() -> None:
        async with sharing(*triggers) as (fired, _):
            await until(lambda: all(fired))
            assert [one[0]["count"] for one in fired] == [9, 9, 9]
            await looks(lambda: api.searches)
            before, began = len(api.searches), time.monotonic()
            await looks(lambda: api.searches, 10)
            # Each for itself, they would look three times as often.
            assert len(api.searches) - before <= 1.5 * (time.monotonic() - began) / 0.1 + 2
            api.put(newer(1))
            await until(lambda: len(fired[0]) == 2)
            await looks(lambda: api.searches)
            assert [len(one) for one in fired] == [2, 1, 1]
            api.put(newer(2))
            await until(lambda: len(fired[0]) == 3 and len(fired[1]) == 2)
            assert fired[0][2]["ids"] == ["new-2"]
            assert sorted(fired[1][1]["ids"]) == ["new-1", "new-2"]  # also what another one has told already
            assert len(fired[2]) == 1

    run(scenario)


def test_a_trigger_that_was_away_catches_up_with_those_that_were_there(api):
    store = Store()

    async def scenario() -> None:
        async with sharing(arrived(api, store, overlap=60)):
            await until(lambda: store.values)
        api.put(newer(1))
        async with sharing(arrived(api)) as ((there,), join):
            await until(lambda: there)
            await looks(lambda: api.searches)
            back = join(arrived(api, store, overlap=60))
            await until(lambda: back)
            api.put(newer(2))
            await until(lambda: len(back) == 2 and len(there) == 2)
            assert [one["ids"] for one in back] == [["new-1"], ["new-2"]]
            assert there[1]["ids"] == ["new-2"]

    run(scenario)


def test_too_few_new_items_are_waited_for(api):
    async def scenario() -> None:
        async with watching(arrived(api, after="2024-01-15T00:00:00Z", min_items=2)) as fired:
            api.put(newer(1))
            await looks(lambda: api.requests, 4)
            assert fired == []
            api.put(newer(2))
            await until(lambda: fired)
        assert fired[0]["count"] == 2

    run(scenario)


@pytest.mark.parametrize("wrong", [{"field": "id"}, {"after": "soon"}, {"poll_interval": 0}, {"min_items": 0}])
def test_wrong_arguments_are_refused_where_the_dag_is_read(wrong):
    with pytest.raises(GeoCatalogInvalidInput):
        StacApiNewItemsTrigger(source=StacApiSource(url="http://127.0.0.1:1"), **wrong)


def test_a_source_with_a_function_is_refused():
    with pytest.raises(GeoCatalogInvalidInput, match="cannot be sent to the triggerer"):
        StacApiNewItemsTrigger(source=StacApiSource(url="http://127.0.0.1:1", headers=dict))


# --- expiring sources -------------------------------------------------------------------------------------------------


@pytest.fixture
def register(world, tokens, monkeypatch):
    """See to it that the container has a source whose token lives for so many hours."""

    def register(hours: float) -> str:
        storage = {"conn_type": "generic", "extra": {"sas_token": tokens(hours=hours)}}
        monkeypatch.setenv("AIRFLOW_CONN_GEOCATALOG_STORAGE", json.dumps(storage))
        result = world.run(
            GeoCatalogEnsureIngestionSourceOperator(
                task_id="source",
                container_url=world.container,
                sas_token_conn_id="geocatalog_storage",
                rotate="always",
                min_lifetime=1,
            )
        )
        return result["source_id"]

    return register


def expiring(store=None, **options) -> GeoCatalogSourceExpiringTrigger:
    return stored(GeoCatalogSourceExpiringTrigger(**{"poll_interval": 0.1, **options}), store)


def test_a_token_that_is_about_to_expire_is_told_once(world, register, tokens):
    lists = lambda: [one for one in world.server.emulator.requests.copy() if one.operation == "list_sources"]  # noqa: E731

    async def scenario() -> None:
        source_id = await asyncio.to_thread(register, 100)
        async with watching(expiring(expires_within=24 * 3600)) as fired:
            await looks(lists)
            assert fired == []
            await asyncio.to_thread(register, 20)
            await until(lambda: fired)
            await looks(lists)
            assert len(fired) == 1
            assert fired[0]["source_id"] == source_id
            assert fired[0]["container_url"] == world.container
            assert 19 * 3600 < fired[0]["seconds_left"] <= 20 * 3600
            assert "sig=" not in json.dumps(fired)
            await asyncio.to_thread(register, 10)  # another token
            await until(lambda: len(fired) == 2)
            await looks(lists)
            assert len(fired) == 2

    run(scenario)


def test_what_was_told_is_remembered_over_a_restart(world, register):
    store = Store()

    async def scenario() -> None:
        await asyncio.to_thread(register, 1)
        async with watching(expiring(store)) as fired:
            await until(lambda: store.values)
            assert len(fired) == 1
        async with watching(expiring(store)) as fired:
            await looks(lambda: world.server.emulator.requests.copy(), 6)
            assert fired == []

    run(scenario)


def test_other_containers_are_left_alone(world, register):
    async def scenario() -> None:
        await asyncio.to_thread(register, 1)
        other = expiring(containers=["https://other.blob.core.windows.net/box"])
        async with watching(other) as fired, watching(expiring(containers=[f"{world.container}/"])) as wanted:
            await until(lambda: wanted)
            await looks(lambda: world.server.emulator.requests.copy(), 4)
            assert fired == []

    run(scenario)


def test_a_catalog_that_fails_is_looked_at_again(world, register, said):
    async def scenario() -> None:
        await asyncio.to_thread(register, 1)
        world.server.emulator.faults.add("status", status=400, times=2, operations="list_sources")
        async with watching(expiring()) as fired:
            await until(lambda: fired)

    run(scenario)
    assert "Looking for expiring ingestion sources fails and goes on" in said()


def test_triggers_on_one_connection_share_their_looks():
    one, other = expiring(expires_within=60), expiring(expires_within=120)
    assert one.shared_stream_key() == other.shared_stream_key() is not None
    assert one.shared_stream_key() != expiring(poll_interval=7).shared_stream_key()
    assert one.shared_stream_key() != expiring(geocatalog_conn_id="other").shared_stream_key()


@pytest.mark.parametrize("wrong", [{"containers": "https://a"}, {"expires_within": 0}, {"poll_interval": float("nan")}])
def test_wrong_limits_are_refused_where_the_dag_is_read(wrong):
    with pytest.raises((ValueError, GeoCatalogInvalidInput), match=next(iter(wrong))):
        GeoCatalogSourceExpiringTrigger(**wrong)


# --- in DAGs and in the database --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trigger",
    [
        StacApiNewItemsTrigger(source=StacApiSource(url="https://example.com", collections=["a"]), min_items=2),
        GeoCatalogSourceExpiringTrigger(containers=["https://b.example.com/x", "https://a.example.com/x"]),
    ],
)
def test_a_trigger_comes_out_of_the_database_as_it_went_in(trigger):
    row = Trigger.from_object(trigger)
    again = type(trigger)(**row.kwargs, of_a_later_version={"any": 1})
    assert again.serialize() == trigger.serialize()


def test_the_examples_parse_with_and_without_watchers(monkeypatch):
    import airflow

    with_watchers = {"geocatalog_assets_produce", "geocatalog_assets_consume", "geocatalog_assets_watch"}
    if int(airflow.__version__.split(".")[0]) < 3:
        with_watchers.discard("geocatalog_assets_watch")
    assert dags("geocatalog_assets") == with_watchers
    with suppress(ImportError):
        import airflow.sdk

        monkeypatch.delattr(airflow.sdk, "AssetWatcher", raising=False)
        monkeypatch.setitem(airflow.sdk.__dict__, "__getattr__", _no_watcher(airflow.sdk.__getattr__))
    assert dags("geocatalog_assets") == {"geocatalog_assets_produce", "geocatalog_assets_consume"}
    assert dags("geocatalog_watch_operations") == set()


def _no_watcher(getattribute):
    def __getattr__(name):
        if name == "AssetWatcher":
            raise AttributeError(name)
        return getattribute(name)

    return __getattr__


def dags(example: str) -> set[str]:
    found = runpy.run_path(str(EXAMPLES / f"{example}.py")).values()
    return {thing.dag_id for thing in found if hasattr(thing, "dag_id") and hasattr(thing, "task_dict")}


def test_the_example_reads_what_its_watchers_fire(capsys):
    pytest.importorskip("airflow.sdk", reason="watchers came with Airflow 3")
    example = runpy.run_path(str(EXAMPLES / "geocatalog_assets.py"))
    payloads = [
        {"source": "STAC API x", "count": 3, "watermark": START},
        {"source_id": "1", "container_url": "https://a/b", "expires_at": START},
    ]
    events = ByAsset()
    events[example["sources"]] = [SimpleNamespace(extra={"payload": one}) for one in payloads]
    assert example["watch"].get_task("report_events").python_callable(events) == payloads
    change = {"collection_id": "demo", "counts": {"created": 1}, "bbox": None, "interval": None}
    events = ByAsset()
    events[example["collection"]] = [SimpleNamespace(extra=change)]
    assert example["consume"].get_task("report_changes").python_callable(events) == [change]
    assert "3 new items" in (printed := capsys.readouterr().out)
    assert "demo: {'created': 1}" in printed
