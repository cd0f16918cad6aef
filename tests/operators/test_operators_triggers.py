"""Triggers as the triggerer sees them: through the database, on one event loop, one event each."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from importlib import import_module

import pytest
from airflow.models.trigger import Trigger
from airflow.triggers.base import BaseTrigger, TaskSuccessEvent

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.triggers.ingestion import GeoCatalogIngestionRunTrigger, GeoCatalogOperationTrigger

SECRET = "dHJpZ2dlcnMtdGVzdC1zaWduYXR1cmU%3D"
COMMON = {
    "geocatalog_conn_id": "other",
    "poll_interval": 12.5,
    "min_poll_interval": 1.5,
    "first_delay": 3.0,
    "started": 1_800_000_000.25,
    "deadline": 1_800_000_060.5,
    "outage_budget": 77.0,
    "cancel_on_kill": False,
    "ends_task": True,
    "max_failed_items": 4,
    "echo": {"own": True, "nested": {"list": [1, None, "ü"]}},
}
RUN = {"collection_id": "c", "ingestion_id": "i", "run_id": "r"}
TRIGGERS = [
    GeoCatalogOperationTrigger(operation_id="op", operation_url="https://g/inma/operations/op", **COMMON),
    GeoCatalogIngestionRunTrigger(**RUN, operation_id="op", **COMMON),
]
#: What version 0.1 of this provider wrote into the database.
OLD = {
    "geocatalog_conn_id": "geocatalog_default",
    "poll_interval": 0.1,
    "first_delay": 0.0,
    "deadline": None,
    "outage_budget": 3600.0,
    "cancel_on_kill": True,
    "echo": {},
}


def stored(trigger: BaseTrigger, **changes) -> BaseTrigger:
    """Return what a triggerer makes of a trigger that a worker has deferred to."""
    row = Trigger.from_object(trigger)
    kwargs = {**row.kwargs, **changes}
    return made(row.classpath, kwargs)


def made(classpath: str, kwargs: dict) -> BaseTrigger:
    module, name = Trigger(classpath=classpath, kwargs=kwargs).classpath.rsplit(".", 1)
    return getattr(import_module(module), name)(**Trigger(classpath=classpath, kwargs=kwargs).kwargs)


def fire(trigger: BaseTrigger) -> list:
    async def run() -> list:
        return [event async for event in trigger.run()]

    return asyncio.run(asyncio.wait_for(run(), 10))


@pytest.fixture
def operations(world, documents):
    """Start operations that go on until they are told to end."""
    emulator = world.server.emulator
    GeoCatalogHook().client.create_collection(documents())

    def start(count: int) -> list[str]:
        with emulator.world.lock:
            now = emulator.clock.now()
            started = [
                emulator.engine.start_items("AddItem", "demo", now, [lambda at: None], ["x"]) for _ in range(count)
            ]
            return [operation.id for operation in started]

    return start


@pytest.fixture
def end(world):
    emulator = world.server.emulator

    def end(*ids: str, status: str = "Succeeded") -> None:
        with emulator.world.lock:
            for operation_id in ids:
                operation, now = emulator.world.operations[operation_id], emulator.clock.now()
                emulator.engine.begin(operation, now)
                emulator.engine.end(operation, status, now, "GenericIngestionError", f"sig={SECRET}")

    return end


def quick(operation_id: str, **options) -> GeoCatalogOperationTrigger:
    return GeoCatalogOperationTrigger(
        **{"operation_id": operation_id, "poll_interval": 0.2, "min_poll_interval": 0.2, "first_delay": 0.05, **options}
    )


# --- the database -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: type(trigger).__name__)
def test_a_trigger_comes_out_of_the_database_as_it_went_in(trigger):
    assert stored(trigger).serialize() == trigger.serialize()
    assert json.loads(json.dumps(trigger.serialize()[1])) == trigger.serialize()[1]


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: type(trigger).__name__)
def test_every_argument_is_written(trigger):
    taken = {
        name
        for cls in type(trigger).__mro__
        if cls is not BaseTrigger and issubclass(cls, BaseTrigger)
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }

    assert set(trigger.serialize()[1]) == taken
    defaults = type(trigger)(**({"operation_id": "o"} if "operation_url" in taken else RUN)).serialize()[1]
    assert [name for name in COMMON if trigger.serialize()[1][name] == defaults[name]] == []


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: type(trigger).__name__)
def test_what_other_versions_write_is_read(trigger):
    newer = stored(trigger, of_a_later_version={"any": "thing"})
    assert newer.serialize() == trigger.serialize()

    needed = {name: value for name, value in trigger.serialize()[1].items() if name not in {*COMMON, "operation_url"}}
    older = made(trigger.serialize()[0], needed)
    assert older.serialize()[1].keys() == trigger.serialize()[1].keys()


@pytest.mark.parametrize("world", [{"pending_seconds": 1e6}], indirect=True)
def test_a_wait_that_an_earlier_version_began_goes_on(operations, end):
    (operation_id,) = operations(1)
    end(operation_id)
    path = "airflow_provider_geocatalog.triggers.ingestion.GeoCatalogOperationTrigger"
    (event,) = fire(made(path, {"operation_id": operation_id, "operation_url": None, **OLD}))

    assert event.payload["outcome"] == "ended"


def test_a_run_that_an_earlier_version_waited_for_is_read_by_its_own_ids(world, documents, catalog):
    client = GeoCatalogHook().client
    client.create_collection(documents())
    url = f"{world.container}/{catalog(world.folder)}"
    source = {"kind": "SasToken", "connectionInfo": {"containerUrl": world.container, "sasToken": _sas()}}
    client.create_source(source)
    ingestion = client.create_ingestion("demo", {"importType": "StaticCatalog", "sourceCatalogUrl": url})
    run = client.create_run("demo", ingestion.ingestion_id)
    ids = {"collection_id": "demo", "ingestion_id": ingestion.ingestion_id, "run_id": run.run_id}
    path = "airflow_provider_geocatalog.triggers.ingestion.GeoCatalogIngestionRunTrigger"
    (event,) = fire(made(path, {**ids, **OLD}))

    assert event.payload == {**ids, "outcome": "ended", "status": "Succeeded"}


def _sas() -> str:
    return f"sv=2023-01-03&st=2020-01-01T00:00:00Z&se=2099-01-01T00:00:00Z&sr=c&sp=rl&sig={SECRET}"


# --- events -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [{"pending_seconds": 1e6}], indirect=True)
@pytest.mark.parametrize("status", ["Succeeded", "Failed", "Canceled"])
def test_one_event_tells_the_end_and_gives_back_what_the_task_knew(operations, end, status):
    (operation_id,) = operations(1)
    end(operation_id, status=status)
    events = fire(quick(operation_id, echo={"own": True}))

    assert [event.payload for event in events] == [
        {"operation_id": operation_id, "operation_url": None, "own": True, "outcome": "ended", "status": status}
    ]


@pytest.mark.parametrize("world", [{"pending_seconds": 1e6}], indirect=True)
def test_success_may_end_the_task_without_a_worker(operations, end):
    good, bad = operations(2)
    end(good)
    end(bad, status="Failed")
    (success,), (failure,) = fire(quick(good, ends_task=True)), fire(quick(bad, ends_task=True))

    assert isinstance(success, TaskSuccessEvent)
    assert success.xcoms["return_value"]["operation_id"] == good
    assert json.loads(json.dumps(success.xcoms)) == success.xcoms
    assert failure.payload["status"] == "Failed"


@pytest.mark.parametrize("world", [{"pending_seconds": 1e6}], indirect=True)
def test_a_wait_whose_time_is_over_says_how_far_it_was(operations):
    (operation_id,) = operations(1)
    (event,) = fire(quick(operation_id, deadline=time.time() + 0.5))

    assert event.payload["outcome"] == "timeout"
    assert "Pending" in event.payload["message"]


@pytest.mark.parametrize("world", [{"pending_seconds": 1e6}], indirect=True)
@pytest.mark.parametrize(
    "told", [f"https://a.blob.core.windows.net/c?sv=1&sig={SECRET}", f"SharedAccessSig sig={SECRET}"]
)
def test_events_hold_no_secret(world, operations, reconnect, told):
    (operation_id,) = operations(1)
    world.server.emulator.faults.add("status", status=400, message=told)
    (event,) = fire(quick(operation_id))
    written = json.dumps([event.payload, quick(operation_id).serialize()])

    assert event.payload["outcome"] == "unreadable"
    assert SECRET not in written
    assert "operators-test-token" not in written


# --- the event loop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [{"pending_seconds": 1e6}], indirect=True)
def test_triggers_of_one_triggerer_share_their_polls_and_never_hold_up_the_loop(world, operations, end, caplog):
    ids = operations(60)
    world.server.emulator.requests.clear()
    # What blocks the loop for a request shows, even on a machine that is slow by itself.
    world.server.emulator.faults.add("latency", seconds=1.5)

    async def run() -> list:
        asyncio.get_running_loop().slow_callback_duration = 1.2
        tasks = [asyncio.create_task(_events(quick(one))) for one in ids]
        await asyncio.sleep(1)
        end(*ids)
        return await asyncio.wait_for(asyncio.gather(*tasks), 40)

    with caplog.at_level(logging.WARNING, logger="asyncio"):
        events = asyncio.run(run(), debug=True)

    assert {event.payload["status"] for (event,) in events} == {"Succeeded"}
    assert [record.getMessage() for record in caplog.records if "Executing" in record.getMessage()] == []
    asked = [request.operation for request in world.server.emulator.requests]
    assert len(asked) < 60  # for about four looks of each


async def _events(trigger: BaseTrigger) -> list:
    return [event async for event in trigger.run()]


@pytest.mark.parametrize("world", [{"pending_seconds": 1e6}], indirect=True)
def test_a_triggerer_that_stops_cancels_nothing_in_the_service(world, operations):
    (operation_id,) = operations(1)
    before = len(world.writes)

    async def run() -> int:
        trigger = quick(operation_id)
        task = asyncio.create_task(_events(trigger))
        await asyncio.sleep(0.5)
        assert len(GeoCatalogHook().shared_waits()) == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await trigger.cleanup()
        return len(GeoCatalogHook().shared_waits())

    assert asyncio.run(run()) == 0
    assert len(world.writes) == before


@pytest.mark.parametrize("world", [{"pending_seconds": 1e6, "reader_tokens": ("the-next-token",)}], indirect=True)
@pytest.mark.parametrize("count", [2, 20])
def test_a_token_that_is_replaced_while_triggers_wait_is_not_noticed(world, operations, end, reconnect, count):
    ids = operations(count)

    async def run() -> list:
        tasks = [asyncio.create_task(_events(quick(one))) for one in ids]
        await asyncio.sleep(1.2)
        reconnect(token="the-next-token")
        world.server.emulator.faults.add("expire_tokens")
        await asyncio.sleep(0.5)
        end(*ids)
        return await asyncio.wait_for(asyncio.gather(*tasks), 10)

    assert {event.payload.get("status") for (event,) in asyncio.run(run())} == {"Succeeded"}
    assert any(request.status == 401 for request in world.server.emulator.requests)
