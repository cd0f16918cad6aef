"""What cancels the work in the service, and what never does: each row of the table on real components."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.fakes.real_world import BLOCKING, MAPPED, POOL, POOLED, SINGLE, wait_until

if TYPE_CHECKING:
    from airflow_provider_geocatalog.emulator.state import Run
    from demo.airflow_stack import AirflowStack
    from tests.fakes.real_world import World

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(420)]

ENDLESS, SHORT = 300, 50  # items, one a second


@dataclass
class Row:
    """
    A task that something happens to while it waits.

    :param touch: What a user does to it; ``None``: it runs into its own time-out.
    :param state: What becomes of the task.
    """

    dag_id: str
    touch: str | None
    state: str
    items: int = ENDLESS
    conf: dict[str, Any] = field(default_factory=dict)
    map_index: int = -1
    run_id: str = ""
    run: Run = None  # type: ignore[assignment]

    @property
    def part(self) -> str:
        """What the name of its definition has in it."""
        return self.run_id if self.map_index < 0 else f"{self.run_id}/{self.map_index}"


#: One cancellation each.
STOPPED = {
    "mark failed": Row(SINGLE, "failed", "failed"),
    "mark success": Row(SINGLE, "success", "success"),
    "fail the DAG run": Row(SINGLE, "fail run", "failed"),
    "clear": Row(SINGLE, "clear", "success", SHORT),
    "clear, to start anew": Row(SINGLE, "clear", "success", SHORT, {"if_run_exists": "new"}),
    "mark one mapped task failed": Row(MAPPED, "failed", "failed", map_index=0),
    "clear one mapped task": Row(MAPPED, "clear", "success", SHORT, map_index=1),
    "mark failed, blocking": Row(BLOCKING, "failed", "failed"),
    "mark success, blocking": Row(BLOCKING, "success", "success"),
    "clear, blocking": Row(BLOCKING, "clear", "success", SHORT),
    "execution_timeout": Row("real_execution_timeout_deferred", None, "failed"),
    "execution_timeout, blocking": Row("real_execution_timeout_blocking", None, "failed"),
    "timeout": Row("real_wait_timeout_deferred", None, "failed"),
    "timeout, blocking": Row("real_wait_timeout_blocking", None, "failed"),
}


def start(world: World, name: str, row: Row) -> None:
    url = world.catalog(name.replace(" ", "-").replace(",", ""), row.items)
    row.run_id = world.trigger(row.dag_id, catalog_url=url, **row.conf)


def waiting(world: World, row: Row) -> Run:
    """Wait until a task waits for its run, and return the run."""
    if "blocking" in row.dag_id:
        wait_until("the run is there", lambda: world.runs(row.part), 90)
        (run,) = world.runs(row.part)
        wait_until("the worker polls", lambda: world.polls(run) > 1, 40)
        return run
    return world.polled_by_trigger(row.dag_id, row.run_id, row.part, row.map_index)


@pytest.fixture(scope="module")
def stopped(world) -> dict[str, Row]:
    """All rows at the same time, with what became of them."""
    airflow = world.airflow
    airflow.wait_healthy(60)
    mapped = [row for row in STOPPED.values() if row.dag_id == MAPPED]
    urls = [world.catalog(f"mapped-{row.map_index}", row.items) for row in mapped]
    mapped_run = world.trigger(MAPPED, catalog_urls=urls)
    for name, row in sorted(STOPPED.items(), key=lambda pair: -pair[1].items):  # those that end soon come last
        if row in mapped:
            row.run_id = mapped_run
        else:
            start(world, name, row)
    for row in sorted(STOPPED.values(), key=lambda row: row.items):
        if row.touch is not None:
            row.run = waiting(world, row)
            touch(airflow, row)
    for row in STOPPED.values():
        if row.touch is None:
            wait_until("its run was started", lambda row=row: world.runs(row.part), 60)
            (row.run,) = world.runs(row.part)
    for row in STOPPED.values():
        world.ended(row.dag_id, row.run_id, 150)
    return STOPPED


def touch(airflow: AirflowStack, row: Row) -> None:
    if row.touch == "clear":
        airflow.clear(row.dag_id, row.run_id, ["ingest" if row.map_index < 0 else ("ingest", row.map_index)])
    elif row.touch == "fail run":
        airflow.call("PATCH", f"/dags/{row.dag_id}/dagRuns/{row.run_id}", body={"state": "failed"})
    else:
        airflow.set_task_state(row.dag_id, row.run_id, "ingest", str(row.touch), map_index=row.map_index)


@pytest.mark.parametrize("name", STOPPED)
def test_a_stop_cancels_the_run_once(world, stopped, name):
    row = stopped[name]
    wait_until("the run is cancelled", lambda: row.run.operation.status == "Canceled", 30)
    # After a clear, the trigger and the task's next try may both ask at the same moment.
    assert world.cancellations(row.run) in [[204], *([[204, 204]] if row.touch == "clear" else [])]
    assert world.state(row.dag_id, row.run_id, row.map_index) == row.state


@pytest.mark.parametrize("name", [name for name, row in STOPPED.items() if row.touch == "clear"])
def test_a_cleared_task_starts_another_run_once_the_first_has_ended(world, stopped, name):
    row = stopped[name]
    old, new = world.runs(row.part)
    assert old is row.run
    assert (new.operation.status, world.cancellations(new)) == ("Succeeded", [])
    assert new.operation.created >= old.operation.history[-1].at
    summary = world.airflow.xcom(row.dag_id, row.run_id, "ingest", row.map_index)
    assert (summary["run_id"], summary["adopted"]) == (new.id, False)


@pytest.mark.parametrize("name", [name for name, row in STOPPED.items() if row.touch != "clear"])
def test_a_stopped_task_starts_nothing_else(world, stopped, name):
    row = stopped[name]
    assert world.runs(row.part) == [row.run]


@pytest.mark.parametrize("name", [name for name, row in STOPPED.items() if row.touch is None])
def test_a_task_that_timed_out_says_how_far_its_run_was(world, stopped, name):
    row = stopped[name]
    log = world.airflow.task_log(row.dag_id, row.run_id, "ingest")
    assert f"of {ENDLESS} items done" in log


def _set_slots(airflow: AirflowStack, slots: int) -> None:
    airflow.call("PATCH", f"/pools/{POOL}", body={"pool": POOL, "slots": slots, "include_deferred": False})


def test_a_clear_cancels_even_if_the_next_try_finds_no_worker(world):
    airflow = world.airflow
    airflow.call("POST", "/pools", body={"name": POOL, "slots": 4})
    rows = {name: Row(POOLED, "clear", "success", SHORT) for name in ("late", "late-fail")}
    for name, row in rows.items():
        start(world, name, row)
    for row in rows.values():
        row.run = waiting(world, row)
    _set_slots(airflow, 0)
    for row in rows.values():
        touch(airflow, row)
    for row in rows.values():
        wait_until("the run is cancelled", lambda row=row: row.run.operation.status == "Canceled", 30)
        assert world.state(POOLED, row.run_id) in {None, "scheduled"}
    airflow.set_task_state(POOLED, rows["late-fail"].run_id, "ingest", "failed")
    _set_slots(airflow, 4)

    assert world.ended(POOLED, rows["late"].run_id)["state"] == "success"
    assert [len(world.runs(row.part)) for row in rows.values()] == [2, 1]
    assert [world.cancellations(row.run) for row in rows.values()] == [[204], [204]]


# --- what never cancels -------------------------------------------------------------------------------------------


#: No cancellation, and the task ends with the true state.
SURVIVORS = {
    "deferred": Row(SINGLE, None, "success", 110),
    "worker killed": Row(BLOCKING, None, "success", SHORT),
    "worker evicted": Row(BLOCKING, None, "success", SHORT),
    "scheduler restarted": Row(BLOCKING, None, "success", 90),
}


def runner_of(world: World, row: Row) -> psutil.Process:
    """Return the process that executes a task."""
    needle = f"run_id={row.run_id}"
    for process, _ in world.airflow.task_processes():
        for child in [process, *process.children(recursive=True)]:
            try:
                if any(needle in file.path for file in child.open_files()) and not child.children():
                    return child
            except psutil.Error:
                continue
    raise AssertionError(f"no process executes {row}")


@pytest.fixture(scope="module")
def survivors(world) -> dict[str, Row]:
    """One disaster after the other."""
    airflow = world.airflow
    for name in ("deferred", "worker killed", "worker evicted"):
        start(world, name, SURVIVORS[name])
    for name in ("worker killed", "worker evicted", "deferred"):
        SURVIVORS[name].run = waiting(world, SURVIVORS[name])
    runner_of(world, SURVIVORS["worker killed"]).kill()
    evicted = runner_of(world, SURVIVORS["worker evicted"])
    evicted.terminate()
    time.sleep(3)
    evicted.kill()

    # Triggers lose their triggerer as they do when its heartbeat lapses; the next to look takes them up.
    assert world.query("UPDATE trigger SET triggerer_id = NULL RETURNING id")
    time.sleep(5)

    outage = world.emulator.faults.add("status", status=503, methods=["GET"])
    time.sleep(12)
    world.emulator.faults.remove(outage)

    airflow.kill("triggerer")
    airflow.start("triggerer")
    airflow.wait_healthy(60)
    airflow.restart("triggerer")
    airflow.wait_healthy(60)

    start(world, "scheduler restarted", SURVIVORS["scheduler restarted"])
    SURVIVORS["scheduler restarted"].run = waiting(world, SURVIVORS["scheduler restarted"])
    airflow.restart("scheduler")
    airflow.wait_healthy(60)
    for row in SURVIVORS.values():
        world.ended(row.dag_id, row.run_id, 150)
    return SURVIVORS


@pytest.mark.parametrize("name", SURVIVORS)
def test_a_disaster_cancels_nothing(world, survivors, name):
    row = survivors[name]
    assert world.state(row.dag_id, row.run_id) == row.state
    assert row.run.operation.status == "Succeeded"
    assert world.runs(row.part) == [row.run]
    assert world.cancellations(row.run) == []


def test_a_worker_that_died_is_followed_by_one_that_adopts(world, survivors):
    for name in ("worker killed", "worker evicted", "scheduler restarted"):
        row = survivors[name]
        state, tries = world.tasks(row.dag_id, row.run_id)["ingest", -1]
        assert state == "success"
        assert tries >= 2, name  # another disaster may have met the next try as well
        assert world.airflow.xcom(row.dag_id, row.run_id, "ingest")["adopted"] is True


def test_a_wait_that_moves_is_one_try(world, survivors):
    row = survivors["deferred"]
    assert world.tasks(row.dag_id, row.run_id) == {("ingest", -1): ("success", 1)}


def test_nothing_cancels_what_somebody_else_runs(world, stopped, survivors):
    assert world.named("cancel_all_operations") == []
    assert world.cancellations(survivors["deferred"].run) == []
