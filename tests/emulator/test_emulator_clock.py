"""The emulator's time: moved, stopped, and faster than the machine's."""

from __future__ import annotations

import datetime
import math
import time

import pytest

from airflow_provider_geocatalog.emulator.clock import Clock, ManualClock

HOUR = 3600.0


def seconds_between(operation: dict[str, str]) -> float:
    start, end = (datetime.datetime.fromisoformat(operation[name]) for name in ("creationTime", "finishTime"))
    return (end - start).total_seconds()


# --- the clock itself -----------------------------------------------------------------------------------------------


def test_a_clock_follows_the_machines_unless_told_otherwise():
    assert abs(Clock().now() - time.time()) < 1


def test_a_clock_starts_stops_and_runs_faster():
    clock = Clock(1000.0, speed=0)
    assert (clock.now(), clock.speed) == (1000.0, 0)

    clock.run(1000)
    time.sleep(0.01)
    assert clock.now() >= 1010
    clock.freeze()
    stopped = clock.now()
    time.sleep(0.01)
    assert clock.now() == stopped
    clock.advance(5)
    assert clock.now() == stopped + 5
    clock.set(9999)
    assert clock.now() == 9999


@pytest.mark.parametrize(
    "move",
    [
        lambda clock: clock.advance(-1),
        lambda clock: clock.advance(math.nan),
        lambda clock: clock.advance(math.inf),
        lambda clock: clock.set(999),
        lambda clock: clock.set(1e15),
        lambda clock: clock.run(-1),
        lambda clock: clock.run(math.inf),
        lambda clock: clock.start_over(-1),
        lambda clock: Clock(math.nan),
    ],
)
def test_a_move_that_makes_no_sense_changes_nothing(move):
    clock = ManualClock(1000.0)
    with pytest.raises(ValueError, match=r"time|speed|moment"):
        move(clock)
    assert clock.now() == 1000.0


def test_the_wait_for_a_moment_depends_on_the_speed():
    clock = Clock(1000.0, speed=0)
    assert clock.machine_seconds_until(1001) == math.inf
    assert clock.machine_seconds_until(1000) == 0
    clock.run(100)
    assert 9 < clock.machine_seconds_until(2000) <= 10


# --- in the emulator ------------------------------------------------------------------------------------------------


def test_a_run_of_26_hours_takes_seconds(serve, new_client, catalogs):
    clock = Clock()
    client = new_client(serve(clock, items_per_second=200 / (26 * HOUR), pending_seconds=0.7))
    client.add_collection()
    path = client.start_run(catalogs.of(*(f"item-{number}" for number in range(200))))
    begin = time.monotonic()

    clock.advance(13 * HOUR)
    halfway = client.get(path).json()["operation"]
    clock.advance(14 * HOUR)
    done = client.get(path).json()["operation"]

    assert time.monotonic() - begin < 20  # on a busy machine
    assert (halfway["status"], halfway["totalSuccessfulItems"]) == ("Running", 99)
    assert (done["status"], done["totalSuccessfulItems"]) == ("Succeeded", 200)
    assert seconds_between(done) == pytest.approx(26 * HOUR, abs=5)


def test_runs_one_after_another_are_dated_as_if_somebody_had_waited(serve, new_client, catalogs):
    clock = ManualClock()
    client = new_client(serve(clock, items_per_second=1, max_concurrent_runs=1))
    client.add_collection()
    url = catalogs.of("a", "b", "c")
    paths = [client.start_run(url) for _ in range(3)]

    clock.advance(24 * HOUR)

    operations = [client.get(path).json()["operation"] for path in paths]
    assert [seconds_between(operation) for operation in operations] == [3, 6, 9]


def test_what_was_deleted_on_the_way_does_not_come_back(serve, new_client, catalogs, new_collection):
    clock = ManualClock()
    client = new_client(serve(clock, items_per_second=0.1, collection_tick=25))
    operation = client.post("/stac/collections", json=new_collection("demo"))
    clock.advance(25)
    path = client.start_run(catalogs.of("a", "b", "c", "d"))
    client.delete("/stac/collections/demo")
    clock.advance(HOUR)

    assert client.get(operation.headers["Location"]).json()["status"] == "Succeeded"
    run = client.get(f"/inma/operations/{path.rsplit('/', 1)[1]}").json()
    assert run["additionalInformation"]["TotalSuccessfulItems"] == "2"
    assert {one["errorCode"] for one in client.failures(run)} == {"CollectionDoesNotExist"}


def test_moving_the_clock_wakes_the_engine_without_a_request(serve, new_client, new_collection):
    clock = ManualClock()
    server = serve(clock, collection_tick=30)
    new_client(server).post("/stac/collections", json=new_collection("demo"))
    clock.advance(30)

    assert "demo" in server.emulator.world.collections
    assert server.emulator.settle()


def test_a_fast_clock_needs_no_moving(serve, new_client, new_collection):
    clock = Clock()
    client = new_client(serve(clock, collection_tick=HOUR))
    clock.freeze()
    poll = client.post("/stac/collections", json=new_collection("demo")).headers["Location"]
    time.sleep(0.05)
    assert client.get(poll).json()["status"] == "Pending"

    clock.run(1_000_000)
    client.poll(poll, lambda body: body["status"] == "Succeeded")


def test_the_engine_wakes_by_itself_when_a_frozen_clock_runs_again(serve, new_client, new_collection):
    clock = ManualClock()
    server = serve(clock, collection_tick=600)
    new_client(server).post("/stac/collections", json=new_collection("demo"))
    clock.run(100_000)
    deadline = time.monotonic() + 5
    while "demo" not in server.emulator.world.collections and time.monotonic() < deadline:
        time.sleep(0.002)

    assert "demo" in server.emulator.world.collections


def test_two_emulators_can_share_a_clock(serve, new_client, new_collection):
    clock = ManualClock()
    clients = [new_client(serve(clock, collection_tick=30)) for _ in range(2)]
    polls = [one.post("/stac/collections", json=new_collection("demo")).headers["Location"] for one in clients]
    clock.advance(30)

    statuses = [one.get(poll).json()["status"] for one, poll in zip(clients, polls, strict=True)]
    assert statuses == ["Succeeded", "Succeeded"]
