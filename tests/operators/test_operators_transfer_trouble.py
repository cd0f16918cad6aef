"""Transfers in trouble: every item is accounted for, and nothing is left open, whatever happens."""

from __future__ import annotations

import datetime
import json
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator
from airflow_provider_geocatalog.transfer.callables import CallableSource
from airflow_provider_geocatalog.transfer.files import ItemFilesSource
from tests.fakes.airflow_versions import attach
from tests.fakes.transfers import ListSource, Run, items

#: What becomes of an item; each is counted as exactly one of them.
FATES = ("outside", "filtered", "repeated", "unchanged", "skipped", "created", "updated", "set_aside", "failed")


@pytest.fixture
def made(world, documents):
    client = GeoCatalogHook().client
    client.wait(client.create_collection(documents("demo")))
    world.client = client
    world.faults = world.server.emulator.faults
    return world


def operator(source: Any, **arguments: Any) -> StacToGeoCatalogOperator:
    arguments = {"min_poll_interval": 0.02, "collection_id": "demo", **arguments}
    return StacToGeoCatalogOperator(task_id="task", source=source, **arguments)


def catalog(world: Any, collection_id: str = "demo") -> dict[str, dict[str, Any]]:
    return {item["id"]: item for item in world.client.list_items(collection_id, limit=1000)}


def add_up(counts: dict[str, int]) -> dict[str, int]:
    assert counts["seen"] == sum(counts[fate] for fate in FATES), counts
    return counts


# --- every item is accounted for --------------------------------------------------------------------------------------

FAULTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("drop"),
            st.fixed_dictionaries(
                {
                    "operations": st.sampled_from(["create_item", "replace_item"]),
                    "handled": st.booleans(),
                    "times": st.integers(1, 2),
                    "skip": st.integers(0, 3),
                }
            ),
        ),
        st.tuples(
            st.just("fail_items"),
            st.fixed_dictionaries(
                {
                    "item_pattern": st.sampled_from(["item-0000[02].", "item-00003[0-4]", "item-0000.7"]),
                    "code": st.sampled_from(["EmptyAsset", "InternalIntermitentError"]),
                    "times": st.integers(1, 30),
                }
            ),
        ),
        st.tuples(
            st.just("status"),
            st.fixed_dictionaries(
                {
                    "operations": st.just("create_item"),
                    "status": st.sampled_from([413, 400]),
                    "times": st.integers(1, 3),
                    "skip": st.integers(0, 3),
                }
            ),
        ),
    ),
    max_size=3,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=FAULTS,
    mode=st.sampled_from(["skip_unchanged", "upsert", "skip_existing", "create"]),
    there=st.integers(0, 45),
    repeated=st.integers(0, 5),
    sizes=st.tuples(st.integers(7, 60), st.integers(1, 25)),
    deferrable=st.booleans(),
)
@example(  # failures in a portion that ends with items of the one before
    faults=[("fail_items", {"item_pattern": "item-0000.7", "code": "EmptyAsset", "times": 19})],
    mode="skip_unchanged",
    there=0,
    repeated=3,
    sizes=(34, 1),
    deferrable=True,
)
def test_every_item_has_one_fate(made, documents, faults, mode, there, repeated, sizes, deferrable):
    collection_id = f"c{time.monotonic_ns()}"
    made.client.wait(made.client.create_collection(documents(collection_id)))
    if there:
        Run().execute(operator(ListSource(items(there)), collection_id=collection_id))
    held = [*items(20), *items(40, first=20, gsd=3)]
    held += held[:repeated]
    rules = [made.faults.add(effect, **options) for effect, options in faults]
    if deferrable:
        rules.append(made.faults.add("hold", types=["AddItem", "UpdateItem"], status="Running", seconds=0.15, times=6))
    work = operator(
        ListSource(held, page=23),
        collection_id=collection_id,
        mode=mode,
        max_failures=1000,
        portion_items=sizes[0],
        batch_items=sizes[1],
        deferrable=deferrable,
        defer_after=0.05,
    )
    try:
        counts = add_up(Run(run_id="again").execute(work)["counts"])
    finally:
        for rule in rules:
            made.faults.remove(rule)
    assert counts["seen"] == 60 + repeated
    found = catalog(made, collection_id)
    assert len(found) == there + counts["created"] if there <= 60 else counts["created"] == 0
    assert counts["sent"] >= counts["created"] + counts["updated"]
    if not counts["failed"]:
        assert counts["created"] == 60 - there
        as_they_are = {"skip_existing", "create"}
        changed = [one for one in held[20:60] if "gsd" not in found[one["id"]]["properties"]]
        assert mode in as_they_are or not changed


@pytest.mark.parametrize("is_handled", [True, False])
def test_lost_answers_are_cleared_up_after_a_deferral(made, is_handled):
    made.faults.add("drop", operations="create_item", handled=is_handled, times=2, skip=1)
    made.faults.add("hold", types=["AddItem"], status="Running", seconds=0.5)
    made.faults.add("fail_items", items=["item-000003", "item-000060"], code="EmptyAsset")
    run = Run()
    work = operator(ListSource(items(100)), batch_items=20, deferrable=True, defer_after=0.05, max_failures=2)
    counts = add_up(run.execute(work)["counts"])
    assert run.deferrals == 1
    assert (counts["created"], counts["failed"]) == (98, 2)
    assert len(catalog(made)) == 98
    # Five batches, those that were lost once more, and the items that failed by themselves.
    assert Counter(made.writes)["create_item"] <= 5 + 2 + 2


@pytest.mark.parametrize("break_off", [None, "deferral", "retry"])
def test_items_that_clash_with_settled_ones_are_set_aside(made, break_off):
    held = items(60)
    twin, shouted = json.loads(json.dumps([held[3], held[5]]))
    twin["properties"]["gsd"] = 7
    shouted["id"] = shouted["id"].upper()
    source = ListSource([*held, twin, shouted], page=20)
    work = operator(
        source,
        portion_items=20,
        batch_items=20,
        max_failures=2,
        deferrable=break_off == "deferral",
        defer_after=0.05,
    )
    run = Run()
    if break_off == "deferral":
        made.faults.add("hold", types=["AddItem"], status="Running", seconds=0.5, times=1)
    if break_off == "retry":
        source.fail_after = 60
        with pytest.raises(Exception, match="broke off"):
            run.execute(work)
        source.fail_after, run.ti.try_number = None, 2
    counts = add_up(run.execute(work)["counts"])
    assert (counts["created"], counts["updated"], counts["set_aside"]) == (60, 0, 2)
    there = catalog(made)
    assert shouted["id"] not in there
    assert "gsd" not in there[twin["id"]]["properties"]


@pytest.mark.parametrize("mode", ["upsert", "skip_unchanged"])
def test_a_source_that_differs_at_each_reading_comes_to_an_end(made, mode):
    made.faults.add("hold", types=["AddItem", "UpdateItem"], status="Running", seconds=0.3)
    readings: list[int] = []

    def scenes():
        readings.append(1)
        yield from items(60, updated=f"2026-01-0{len(readings)}T00:00:00Z")

    run = Run()
    work = operator(
        CallableSource(scenes), mode=mode, portion_items=20, batch_items=20, deferrable=True, defer_after=0.05
    )
    counts = add_up(run.execute(work)["counts"])
    assert run.deferrals == 1
    assert (counts["created"], counts["updated"]) == (60, 20)  # the first portion's items once more
    # The second reading has found that it is another one.
    assert {item["properties"]["updated"] for item in catalog(made).values()} == {"2026-01-03T00:00:00Z"}


def test_a_source_that_is_another_one_after_a_deferral_is_read_again(made):
    made.faults.add("hold", types=["AddItem"], status="Running", seconds=0.5, times=1)
    made.faults.add("fail_items", items=["item-000003"], code="InternalIntermitentError", times=1)
    calls: list[int] = []

    def scenes():
        calls.append(1)
        yield from items(30, first=0 if len(calls) == 1 else 10)

    run = Run()
    counts = add_up(run.execute(operator(CallableSource(scenes), deferrable=True, defer_after=0.05))["counts"])
    assert run.deferrals
    assert (counts["unchanged"], counts["created"]) == (20, 10)
    assert {f"item-{number:06}" for number in range(10, 40)} <= set(catalog(made))


@pytest.mark.parametrize(
    ("there", "request_name", "fate"), [(0, "create_item", "created"), (20, "replace_item", "updated")]
)
def test_what_an_earlier_try_has_under_way_is_not_sent_again(made, there, request_name, fate):
    if there:
        Run().execute(operator(ListSource(items(there))))
    made.faults.add("hold", types=["AddItem", "UpdateItem"], status="Running", seconds=1.5)
    refusal = made.faults.add("status", operations=request_name, status=403, code="Forbidden", skip=12)
    run = Run(run_id="again")
    work = operator(ListSource(items(20, gsd=2)), concurrency=1, batch_items=1)
    with pytest.raises(Exception, match="403"):
        run.execute(work)
    made.faults.remove(refusal)
    started = Counter(made.writes)[request_name]
    run.ti.try_number = 2
    counts = add_up(run.execute(work)["counts"])
    assert (counts["unchanged"], counts[fate]) == (12, 8)
    assert Counter(made.writes)[request_name] == started + 8


def test_what_no_json_can_hold_is_set_aside(made, tmp_path):
    held = items(6)
    held[0]["properties"]["when"] = datetime.datetime.now(datetime.UTC)
    held[1]["properties"]["x"] = float("nan")
    held[2][("a",)] = 3
    held[3]["self"] = held[3]
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    held[4]["properties"]["deep"] = deep
    held[5]["properties"]["x"] = {1, 2}

    def scenes():
        yield from held
        yield from (5, None, b"x", "\ud800", object())
        yield {"id": "\ud800x", "properties": {}}
        yield {"id": "x" * 100_000, "type": "Feature"}
        yield from items(2, first=100)

    dead = tmp_path / "dead.ndjson"
    result = Run().execute(operator(CallableSource(scenes), dead_letter_path=str(dead), max_failures=100))
    counts = add_up(result["counts"])
    assert (counts["created"], counts["set_aside"]) == (2, 13)
    lines = [json.loads(line, parse_constant=pytest.fail) for line in dead.read_text().splitlines()]
    assert len(lines) == 13
    assert all(line["reason"] for line in lines)
    assert len(json.dumps(result)) < 20_000


# --- the dead-letter file ---------------------------------------------------------------------------------------------


def test_lines_of_a_try_that_was_killed_before_it_had_settled_them_go(made, tmp_path):
    dead = tmp_path / "dead.ndjson"
    made.faults.add("fail_items", items=["item-000001"], code="EmptyAsset")
    passing = made.faults.add("fail_items", items=["item-000150"], code="EmptyAsset")
    run = Run()
    keep = run.store.set

    def killed(key: str, value: Any) -> None:
        if value["progress"]["portions"] == 2:
            raise RuntimeError("killed")
        keep(key, value)

    run.store.set = killed  # type: ignore[method-assign]
    work = operator(
        ListSource(items(300), page=100, parts=True), portion_items=100, dead_letter_path=str(dead), deferrable=True
    )
    with pytest.raises(RuntimeError):
        run.execute(work)
    assert len(dead.read_text().splitlines()) == 2
    run.store.set = keep  # type: ignore[method-assign]
    made.faults.remove(passing)
    run.ti.try_number = 2
    with pytest.raises(Exception, match="1 of 300 items"):
        run.execute(work)
    assert [json.loads(line)["id"] for line in dead.read_text().splitlines()] == ["item-000001"]


def test_the_dead_letter_file_can_be_in_an_object_store(made, tmp_path):
    import fsspec

    attach("memory", fs=fsspec.filesystem("memory"))
    bad = [f"item-{number:06}" for number in range(0, 90, 9)]
    rule = made.faults.add("fail_items", items=bad, code="EmptyAsset")
    dead = f"memory://box-{time.monotonic_ns()}/dead.ndjson"
    with pytest.raises(Exception, match="10 of 100 items"):
        Run().execute(operator(ListSource(items(100)), dead_letter_path=dead, portion_items=30))
    made.faults.remove(rule)
    again = dead.replace("dead.", "again.")
    result = Run(run_id="repair").execute(operator(ItemFilesSource(path=dead), dead_letter_path=again))
    assert result["counts"]["created"] == result["counts"]["seen"] == 10


@pytest.mark.parametrize("path", ["box", "box/", "box/*.ndjson", "**/dead.*"])
def test_a_dead_letter_file_among_what_is_read_is_refused(made, path):
    work = operator(ItemFilesSource(path=path), dead_letter_path="box/dead.ndjson")
    with pytest.raises(Exception, match="dead_letter_path is what is read"):
        Run().execute(work)


@pytest.mark.parametrize("has_file", [True, False])
def test_secrets_in_reasons_are_masked_everywhere(made, tmp_path, caplog, has_file):
    made.faults.add(
        "fail_items", items=["item-000003"], code="EmptyAsset", message="no https://x/y?sv=1&sig=topsecret1"
    )
    dead = tmp_path / "dead.ndjson"
    run = Run()
    with pytest.raises(Exception, match="1 of 10 items") as raised:
        run.execute(operator(ListSource(items(10)), dead_letter_path=str(dead) if has_file else None))
    told = [str(raised.value), caplog.text, json.dumps(run.ti.xcoms), dead.read_text() if has_file else ""]
    assert "https://x/y" in told[0]
    assert not [text for text in told if "topsecret1" in text]


# --- time and what is left open ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [None, {"operations": "create_item", "status": 403, "code": "Forbidden"}])
def test_a_source_is_closed_in_the_end(made, fault):
    closed: list[str] = []

    def scenes():
        try:
            yield from items(2000)
        finally:
            closed.append(threading.current_thread().name)

    before = set(threading.enumerate())
    if fault:
        made.faults.add("status", **fault)
    with suppress(Exception):
        Run().execute(operator(CallableSource(scenes), portion_items=100))
    assert closed
    for _ in range(250):  # for threads that have nothing left to do
        running = set(threading.enumerate()) - before
        left = [one.name for one in running if one.name.startswith("geocatalog-source")]
        if not left:
            break
        time.sleep(0.02)
    assert not left


def test_the_time_limit_holds_between_waits_as_well(made):
    def scenes():
        for item in items(1000):
            time.sleep(0.01)
            yield item

    run = Run()
    work = operator(CallableSource(scenes), portion_items=100, timeout=1.5)
    with pytest.raises(Exception, match="has not ended in time"):
        run.execute(work)
    there = len(catalog(made))
    assert 0 < there < 1000
    assert run.store.kept["geocatalog_checkpoint"]["progress"]["tally"]["seen"] > 0


def test_what_airflow_keeps_of_a_deferral_is_small(made):
    from airflow.providers.common.compat.sdk import TaskDeferred
    from cryptography.fernet import Fernet

    held = items(1000)
    for item in held:
        item["id"] += "_" + "x" * 100
    Run().execute(operator(ListSource(held)))
    for item in held:
        item["properties"]["gsd"] = 3
    made.faults.add("hold", types=["UpdateItem"], status="Running", seconds=5)
    run = Run(run_id="again")
    work = operator(ListSource(held), deferrable=True, defer_after=0.05)
    with pytest.raises(TaskDeferred) as deferred:
        work.execute(run.context)
    _, kept = deferred.value.trigger.serialize()
    assert len(type(deferred.value.trigger)(**kept).operations) == 1000
    for one in (kept, run.store.kept):
        encrypted = Fernet(Fernet.generate_key()).encrypt(json.dumps(one).encode())
        assert len(encrypted) < 65_535  # what a TEXT of MySQL holds


def test_the_bounds_of_items_across_the_antimeridian_go_around(made):
    held = items(2)
    held[0]["bbox"] = [170.0, -10.0, -170.0, 10.0]
    held[0]["geometry"] = {"type": "MultiPoint", "coordinates": [[170.0, -10.0], [-170.0, 10.0]]}
    assert Run().execute(operator(ListSource(held)))["bbox"] == [-180.0, -10.0, 180.0, 10.0]


# --- stops ------------------------------------------------------------------------------------------------------------


def test_a_users_stop_learns_what_requests_start_that_are_under_way(made, monkeypatch):
    made.faults.add("hold", types=["AddItem"], status="Running", seconds=30)
    made.faults.add("latency", operations="create_item", seconds=1.5)
    work, run = operator(ListSource(items(60)), batch_items=20), Run()

    def execute() -> None:
        with suppress(Exception):
            work.execute(run.context)

    working = threading.Thread(target=execute)
    working.start()
    while not [one for one in made.server.emulator.requests if one.operation == "search"]:
        time.sleep(0.02)
    time.sleep(0.7)  # the items are sent now, and the answers are still to come
    assert not work._transfer.active
    monkeypatch.setattr("airflow_provider_geocatalog.operators.transfer.is_still_running", lambda ti: False)
    work.on_kill()
    working.join(20)
    assert Counter(made.writes)["cancel_operation"] == Counter(made.writes)["create_item"] == 3
    assert not [one for one in made.client.list_operations(status="Running") if one.type == "AddItem"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_users_stop_cancels_what_the_task_has_under_way_and_nothing_else(made, number, monkeypatch):
    made.faults.add("hold", types=["AddItem"], status="Running", seconds=30)
    foreign = made.client.create_item("demo", items(1, first=900)[0])
    run = Run()
    work = operator(ListSource(items(60)), batch_items=20, deferrable=True, defer_after=0.05)
    if number == 2:  # which waits for what the first has started
        from airflow.providers.common.compat.sdk import TaskDeferred

        with pytest.raises(TaskDeferred):
            work.execute(run.context)
        run.ti.try_number = 2
    else:
        work = operator(ListSource(items(60)), batch_items=20)
    failed: list[BaseException] = []

    def execute() -> None:
        try:
            work.execute(run.context)
        except BaseException as error:
            failed.append(error)

    working = threading.Thread(target=execute)
    working.start()
    for _ in range(400):
        time.sleep(0.02)
        if work._transfer is not None and len(work._transfer.active) == 3:
            break
    time.sleep(0.2)
    monkeypatch.setattr("airflow_provider_geocatalog.operators.transfer.is_still_running", lambda ti: False)
    work.on_kill()
    working.join(20)
    assert failed
    canceled = [r for r in made.server.emulator.requests if r.operation == "cancel_operation"]
    assert len(canceled) == 3
    assert foreign.operation is not None
    assert made.client.get_operation(foreign.operation.operation_id).status.word == "Running"
