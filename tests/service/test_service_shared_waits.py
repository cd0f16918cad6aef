"""One poll for many waits, against the emulator, whose record of requests says what was asked."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import time
import weakref
from collections import Counter
from functools import partial

import pytest

from airflow_provider_geocatalog.api.errors import (
    GeoCatalogAuthenticationError,
    GeoCatalogThrottled,
    GeoCatalogWaitTimeout,
)
from airflow_provider_geocatalog.api.flows.waiting import get_operation
from airflow_provider_geocatalog.api.waiting import PollPolicy, Waiting
from airflow_provider_geocatalog.auth import ConnectionSettings
from airflow_provider_geocatalog.client import GeoCatalogClient, SystemClock
from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.rate_limit import RateLimit
from airflow_provider_geocatalog.shared_waits import SharedWaits
from tests.fakes.clock import FakeClock

OLD, NEW = "shared-waits-old-token", "shared-waits-new-token"
QUICK = PollPolicy(interval=0.3, first=0.3, outage=60)
PATIENT = PollPolicy(interval=30, first=2, outage=1e9)
LISTS = 3  # requests for lists that fit on a page each


class Catalog:
    """An emulator with operations that go on until they are told to end, and a connection to it that may change."""

    def __init__(self, server: EmulatorServer) -> None:
        self.server, self.emulator = server, server.emulator
        self.token, self.connected = OLD, 0
        self.client = self.new_client()

    def new_client(self) -> GeoCatalogClient:
        settings = ConnectionSettings.from_fields(
            host=self.server.url,
            password=self.token,
            extra={"auth_method": "static_token", "requests_per_second": 1000},
        )
        return GeoCatalogClient(settings, rate_limit=RateLimit())

    async def connect(self) -> GeoCatalogClient:
        self.connected += 1
        await asyncio.sleep(0.01)  # Airflow is asked over a socket
        if self.client.settings.secret != self.token:
            self.client = self.new_client()
        return self.client

    def start(self, count: int) -> list[str]:
        engine, world = self.emulator.engine, self.emulator.world
        with world.lock:
            started = [
                engine.start_items("AddItem", "demo", self.emulator.clock.now(), [lambda at: None])
                for _ in range(count)
            ]
            return [operation.id for operation in started]

    def end(self, *operation_ids: str, status: str = "Succeeded") -> None:
        engine, world, now = self.emulator.engine, self.emulator.world, self.emulator.clock.now()
        with world.lock:
            for operation_id in operation_ids:
                engine.begin(world.operations[operation_id], now)
                engine.end(world.operations[operation_id], status, now, "GenericIngestionError", "told to")

    @property
    def asked(self) -> Counter[str | None]:
        return Counter(request.operation for request in self.emulator.requests)

    def waiting(self, name: str, policy: PollPolicy = QUICK, **options) -> Waiting:
        return Waiting(f"operation {name}", policy, started=options.pop("started", time.time()), **options)

    def wait(self, waits: SharedWaits, operation_id: str, *, first_delay: float = 0.05, read_as=None, **options):
        read = partial(get_operation, read_as or operation_id, once=True)
        return waits.wait(operation_id, self.waiting(operation_id, **options), read, first_delay=first_delay)

    def wait_all(self, waits: SharedWaits, operation_ids: list[str], **options) -> list[asyncio.Task]:
        return [asyncio.create_task(self.wait(waits, one, **options)) for one in operation_ids]


@pytest.fixture
def catalog():
    settings = EmulatorSettings.fast(admin_tokens=(OLD, NEW), pending_seconds=1e6)
    with EmulatorServer(Emulator(settings)) as server:
        found = Catalog(server)
        found.client.create_collection(
            {
                "id": "demo",
                "type": "Collection",
                "stac_version": "1.0.0",
                "description": "d",
                "license": "x",
                "links": [],
                "extent": {"spatial": {"bbox": [[0, 0, 1, 1]]}, "temporal": {"interval": [[None, None]]}},
            }
        )
        server.emulator.requests.clear()
        yield found


async def ended(tasks: list[asyncio.Task], within: float = 15.0) -> list:
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), within)


def words(operations) -> set[str]:
    return {operation.status.word for operation in operations}


# --- how much is asked ------------------------------------------------------------------------------------------------


async def test_requests_grow_with_pages_and_not_with_waits(catalog):
    ids, waits = catalog.start(450), SharedWaits(catalog.connect)
    began = time.monotonic()
    tasks = catalog.wait_all(waits, ids, policy=PollPolicy(interval=0.6, first=0.6))
    while catalog.asked["list_operations"] < LISTS + 2:  # the first of them has three pages
        await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    rounds = 1 + (time.monotonic() - began) / 0.54  # a tenth of the pause is jitter

    assert catalog.asked["get_operation"] == 0
    assert catalog.asked["list_operations"] <= rounds * (LISTS + 2)

    catalog.emulator.requests.clear()
    catalog.end(*ids)
    assert words(await ended(tasks)) == {"Succeeded"}
    assert sum(catalog.asked.values()) <= 2 * (LISTS + 3)  # what ended together is found on the newest pages


async def test_few_waits_are_read_one_by_one(catalog):
    catalog.start(450)
    ids, waits = catalog.start(2), SharedWaits(catalog.connect)
    tasks = catalog.wait_all(waits, ids)
    await asyncio.sleep(1)
    catalog.end(*ids)

    assert words(await ended(tasks)) == {"Succeeded"}
    assert catalog.asked["list_operations"] == 0


async def test_what_disappears_from_the_list_is_read_by_its_id(catalog):
    ids, waits = catalog.start(20), SharedWaits(catalog.connect)
    tasks = catalog.wait_all(waits, ids)
    await asyncio.sleep(0.5)
    catalog.end(ids[7], status="Failed")

    assert (await asyncio.wait_for(tasks[7], 5)).status.word == "Failed"
    assert {r.path for r in catalog.emulator.requests if r.operation == "get_operation"} == {
        f"/inma/operations/{ids[7]}"
    }
    assert not any(task.done() for task in tasks if task is not tasks[7])
    catalog.end(*ids[:7], *ids[8:])
    await ended(tasks)


async def test_a_wait_that_no_list_names_is_soon_left_out_of_them(catalog):
    real, waits = catalog.start(10), SharedWaits(catalog.connect)
    tasks = [asyncio.create_task(catalog.wait(waits, f"run-{one}", read_as=one)) for one in real]
    await asyncio.sleep(2)
    lists = catalog.asked["list_operations"]
    await asyncio.sleep(0.7)

    assert catalog.asked["list_operations"] == lists <= 2 * (LISTS + 1)
    catalog.end(*real)
    assert words(await ended(tasks)) == {"Succeeded"}


async def test_many_operations_of_others_do_not_make_lists_dearer_than_reads(catalog):
    ids, waits = catalog.start(10), SharedWaits(catalog.connect)
    catalog.start(3000)  # newer, so that ours are on the last of 16 pages
    tasks = catalog.wait_all(waits, ids)
    async with asyncio.timeout(30):
        while catalog.asked["get_operation"] < 20:
            await asyncio.sleep(0.1)

    assert catalog.asked["list_operations"] <= 16  # one look at all pages
    catalog.end(*ids)
    await ended(tasks)


async def test_all_who_wait_for_the_same_operation_hear_of_its_end(catalog):
    ids, waits = catalog.start(10), SharedWaits(catalog.connect)
    tasks = catalog.wait_all(waits, [*ids, *ids[:3], ids[0]])
    await asyncio.sleep(0.7)
    catalog.end(*ids)

    assert words(await ended(tasks)) == {"Succeeded"}


async def test_a_wait_that_begins_while_a_list_is_read_is_served_as_well(catalog):
    ids, waits = catalog.start(20), SharedWaits(catalog.connect)
    catalog.emulator.faults.add("latency", operations=("list_operations",), seconds=0.3)
    tasks = catalog.wait_all(waits, ids[:10])
    await asyncio.sleep(0.2)
    tasks += catalog.wait_all(waits, ids[10:], first_delay=0.0)
    await asyncio.sleep(0.1)
    catalog.end(*ids)

    assert words(await ended(tasks)) == {"Succeeded"}


async def test_hundreds_of_waits_that_begin_together_read_the_connection_once(catalog):
    ids, waits = catalog.start(300), SharedWaits(catalog.connect)
    tasks = catalog.wait_all(waits, ids)
    await asyncio.sleep(0.5)
    catalog.end(*ids)
    await ended(tasks)

    assert catalog.connected == 1


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "operation"), [(30, "list_operations"), (3, "get_operation")])
async def test_nothing_is_asked_before_a_retry_after_is_over(catalog, count, operation):
    ids, waits = catalog.start(count), SharedWaits(catalog.connect)
    tasks = catalog.wait_all(waits, ids)
    tasks += catalog.wait_all(waits, catalog.start(2), first_delay=0.8)  # due in the meantime
    await asyncio.sleep(0.5)
    catalog.emulator.faults.add("status", operations=(operation,), status=429, retry_after=1, times=1)
    await asyncio.sleep(1.8)
    catalog.end(*ids)
    await ended(tasks[:count])
    times = [(request.at, request.status) for request in catalog.emulator.requests]
    refused_at = next(at for at, status in times if status == 429)

    # What was on its way already, and arrived with it, does not count.
    assert min(at for at, _ in times if at > refused_at + 0.2) >= refused_at + 1
    for task in tasks:
        task.cancel()


async def test_an_outage_within_the_budget_costs_nothing_and_is_told_once(catalog, caplog):
    caplog.set_level(logging.INFO)
    ids, waits = catalog.start(50), SharedWaits(catalog.connect)
    tasks = catalog.wait_all(waits, ids)
    await asyncio.sleep(0.5)
    outage = catalog.emulator.faults.add("status", operations=("list_operations", "get_operation"), status=503)
    await asyncio.sleep(4)
    during = sum(request.status == 503 for request in catalog.emulator.requests)
    catalog.emulator.faults.remove(outage)
    await asyncio.sleep(1)
    catalog.end(*ids)

    assert words(await ended(tasks)) == {"Succeeded"}
    assert 3 <= during < 15
    for phrase in ("fails:", "works again"):
        told = Counter(record.args[0] for record in caplog.records if phrase in record.getMessage())
        assert told == {f"operation {one}": 1 for one in ids}


async def test_an_outage_beyond_the_budget_is_raised_by_every_wait(catalog):
    ids, waits = catalog.start(20), SharedWaits(catalog.connect)
    catalog.emulator.faults.add("status", status=408)
    tasks = catalog.wait_all(waits, ids, policy=PollPolicy(interval=0.3, first=0.3, outage=0.5))
    found = await ended(tasks)

    assert {type(error) for error in found} == {GeoCatalogThrottled}
    assert len({id(error) for error in found}) == 20  # tracebacks of their own


@pytest.mark.parametrize("status", [400, 403, 501])
async def test_where_lists_are_refused_each_wait_is_read_by_its_id(catalog, status):
    ids, waits = catalog.start(20), SharedWaits(catalog.connect)
    catalog.emulator.faults.add("status", operations=("list_operations",), status=status)
    tasks = catalog.wait_all(waits, ids)
    await asyncio.sleep(1.2)
    catalog.end(*ids)

    assert words(await ended(tasks)) == {"Succeeded"}
    assert catalog.asked["list_operations"] <= 2  # 403 may be a matter of the connection


async def test_a_list_that_is_no_list_is_left_alone(catalog):
    ids, waits = catalog.start(20), SharedWaits(catalog.connect)
    catalog.emulator.faults.add("html", operations=("list_operations",))
    tasks = catalog.wait_all(waits, ids)
    await asyncio.sleep(0.6)
    catalog.end(*ids)

    assert words(await ended(tasks)) == {"Succeeded"}


async def test_lists_that_keep_failing_while_reads_work_are_given_up(catalog):
    ids, waits = catalog.start(20), SharedWaits(catalog.connect, FakeClock(time.time()))
    catalog.emulator.faults.add("status", operations=("list_operations",), status=500)
    tasks = catalog.wait_all(waits, ids, policy=PATIENT)
    while catalog.asked["get_operation"] < 20:
        await asyncio.sleep(0.02)
    catalog.end(*ids)

    assert words(await ended(tasks)) == {"Succeeded"}


async def test_a_page_that_fails_once_is_asked_for_again(catalog):
    ids, waits = catalog.start(20), SharedWaits(catalog.connect)
    catalog.emulator.faults.add("status", operations=("list_operations",), status=500, times=2)
    seen = []
    tasks = catalog.wait_all(waits, ids, observe=lambda operation, now: seen.append(operation.operation_id))
    while len(seen) < 20:
        await asyncio.sleep(0.02)
    assert catalog.asked["get_operation"] == 0
    catalog.end(*ids)
    await ended(tasks)


async def test_a_word_that_nobody_knows_is_waited_on(catalog):
    ids, waits = catalog.start(20), SharedWaits(catalog.connect)
    shown = catalog.emulator.faults.add("show_status", word="Paused")
    seen = set()
    tasks = catalog.wait_all(waits, ids, observe=lambda operation, now: seen.add(operation.status.word))
    await asyncio.sleep(0.8)
    assert seen == {"Paused"}
    catalog.emulator.faults.remove(shown)
    catalog.end(*ids)

    assert words(await ended(tasks)) == {"Succeeded"}


# --- the connection ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 50])
async def test_a_credential_that_was_replaced_costs_no_wait(catalog, count):
    ids, waits = catalog.start(count), SharedWaits(catalog.connect)
    tasks = catalog.wait_all(waits, ids)
    await asyncio.sleep(1.2)
    catalog.token = NEW
    catalog.emulator.faults.add("expire_tokens")
    await asyncio.sleep(1)
    catalog.end(*ids)

    assert words(await ended(tasks)) == {"Succeeded"}
    assert catalog.connected == 2


async def test_a_credential_that_is_refused_for_good_ends_every_wait_with_few_requests(catalog):
    ids, waits = catalog.start(300), SharedWaits(catalog.connect)
    catalog.emulator.faults.add("status", status=401)
    found = await ended(catalog.wait_all(waits, ids))

    assert {type(error) for error in found} == {GeoCatalogAuthenticationError}
    assert len(catalog.emulator.requests) <= 8
    assert catalog.connected <= 3


async def test_a_connection_that_cannot_be_read_is_the_matter_of_who_begins_to_wait(catalog):
    ids, clock = catalog.start(2), FakeClock(time.time())
    is_there = True

    async def connect():
        if not is_there:
            raise LookupError("no such connection")
        return await catalog.connect()

    waits = SharedWaits(connect)
    first = asyncio.create_task(catalog.wait(waits, ids[0]))
    await asyncio.sleep(0.3)
    is_there = False
    waits_later = SharedWaits(connect, clock)
    with pytest.raises(LookupError):
        await catalog.wait(waits_later, ids[1])
    catalog.end(*ids)

    assert words(await ended([first])) == {"Succeeded"}


# --- time -------------------------------------------------------------------------------------------------------------


async def test_a_look_that_hangs_does_not_outlast_the_deadline_for_long(catalog):
    (operation_id,), clock = catalog.start(1), FakeClock()
    catalog.emulator.faults.add("latency", seconds=1.0)
    began = clock.now
    wait = catalog.wait(
        SharedWaits(catalog.connect, clock), operation_id, policy=PATIENT, started=began, deadline=began + 5
    )

    with pytest.raises(GeoCatalogWaitTimeout, match="could not be read"):
        await wait
    assert 5 <= clock.now - began <= 20


async def test_a_retry_after_beyond_the_deadline_is_not_broken_to_meet_it(catalog):
    (operation_id,) = catalog.start(1)
    catalog.emulator.faults.add("status", status=429, retry_after=1000)
    deadline = time.time() + 1
    with pytest.raises(GeoCatalogWaitTimeout):
        await catalog.wait(SharedWaits(catalog.connect), operation_id, deadline=deadline)

    assert 0 <= time.time() - deadline < 0.5
    assert len(catalog.emulator.requests) == 1


async def test_no_wait_takes_a_thread_and_none_holds_up_the_loop(catalog):
    ids, waits = catalog.start(1000), SharedWaits(catalog.connect)
    threads, lags = threading.active_count(), []

    async def watch():
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            lags.append(time.perf_counter() - began - 0.01)

    tasks = catalog.wait_all(waits, ids, first_delay=0.3)
    await asyncio.sleep(0.2)
    watchdog = asyncio.create_task(watch())
    await asyncio.sleep(1.5)
    assert threading.active_count() - threads <= 8 + 1  # reads at once, and the client's own
    catalog.end(*ids)
    await ended(tasks)
    watchdog.cancel()

    assert sorted(lags)[int(len(lags) * 0.9)] < 0.25  # the emulator is in this process, too


# --- what is left -----------------------------------------------------------------------------------------------------


async def test_cancelled_waits_leave_nothing_behind(catalog):
    ids, waits = catalog.start(100), SharedWaits(catalog.connect)
    before = asyncio.all_tasks()
    tasks = catalog.wait_all(waits, ids)
    observer = Observer()
    remembered = weakref.ref(observer)
    tasks.append(asyncio.create_task(catalog.wait(waits, ids[0], observe=observer.observe)))
    del observer
    await asyncio.sleep(0.6)
    assert len(waits) == 101
    while tasks:
        tasks.pop().cancel()
    async with asyncio.timeout(5):
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0.02)
    asked = len(catalog.emulator.requests)
    await asyncio.sleep(0.5)

    assert len(waits) == 0
    assert len(catalog.emulator.requests) == asked
    gc.collect()
    assert remembered() is None


class Observer:
    """Something that only its wait holds."""

    def observe(self, operation, now) -> None:
        """See nothing."""


async def test_cancelling_some_waits_does_not_disturb_the_others(catalog):
    ids, waits = catalog.start(60), SharedWaits(catalog.connect)
    tasks = catalog.wait_all(waits, ids)
    await asyncio.sleep(0.4)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.sleep(0.4)
    catalog.end(*ids)
    found = await ended(tasks)

    assert words(found[1::2]) == {"Succeeded"}
    assert all(isinstance(one, asyncio.CancelledError) for one in found[::2])


async def test_when_the_clock_fails_nobody_waits_for_ever(catalog):
    class Clock(SystemClock):
        works = True

        async def asleep(self, seconds):
            if not self.works:
                raise RuntimeError("the clock is broken")
            await super().asleep(seconds)

        def time(self):
            if not self.works:
                raise RuntimeError("the clock is broken")
            return super().time()

    clock = Clock()
    ids, waits = catalog.start(5), SharedWaits(catalog.connect, clock)
    tasks = catalog.wait_all(waits, ids)
    await asyncio.sleep(0.4)
    clock.works = False
    assert {type(error) for error in await ended(tasks, 5)} == {RuntimeError}
    clock.works = True
    again = catalog.wait_all(waits, ids)
    catalog.end(*ids)

    assert words(await ended(again)) == {"Succeeded"}


async def test_what_a_wait_logs_goes_where_its_own_task_logs(catalog):
    task_name: contextvars.ContextVar[str] = contextvars.ContextVar("task_name", default="nobody")
    said = []

    class Handler(logging.Handler):
        def emit(self, record):
            said.append((task_name.get(), record.getMessage()))

    ids, waits, handler = catalog.start(20), SharedWaits(catalog.connect), Handler()
    logger = logging.getLogger("airflow_provider_geocatalog.api.waiting")
    logger.addHandler(handler)

    async def task(operation_id):
        task_name.set(operation_id)
        return await catalog.wait(waits, operation_id)

    try:
        tasks = [asyncio.create_task(task(one)) for one in ids]
        await asyncio.sleep(0.5)
        outage = catalog.emulator.faults.add("status", operations=("list_operations",), status=408)
        await asyncio.sleep(0.6)
        catalog.emulator.faults.remove(outage)
        await asyncio.sleep(0.5)
        catalog.end(*ids)
        await ended(tasks)
    finally:
        logger.removeHandler(handler)

    assert {name for name, _ in said} == set(ids)
    assert all(name in message for name, message in said)


def test_waits_of_one_event_loop_do_not_meet_those_of_the_next(catalog):
    async def once():
        waits = SharedWaits(catalog.connect)
        (operation_id,) = catalog.start(1)
        task = asyncio.create_task(catalog.wait(waits, operation_id))
        await asyncio.sleep(0.2)
        catalog.end(operation_id)
        return await task

    assert words([asyncio.run(once()), asyncio.run(once())]) == {"Succeeded"}
