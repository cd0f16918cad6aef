"""What comes between a start and its wait, or between a wait and its end: a lost trigger, a time-out."""

from __future__ import annotations

import signal
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_provider_geocatalog.api.errors import GeoCatalogWaitTimeout
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.operators.ingestion import GeoCatalogBulkIngestionOperator
from airflow_provider_geocatalog.operators.sources import GeoCatalogEnsureIngestionSourceOperator

CRASHED = ("__fail__", {"error": "Trigger failure", "traceback": ["it crashed"]})
LATE = ("__fail__", {"error": "Trigger timeout"})
SLOW = pytest.mark.parametrize("world", [{"items_per_second": 0.2}], indirect=True)


@pytest.fixture
def deferred(world, documents, catalog, task_instance):
    """An operator that waits for a slow run, its context, and what it deferred with."""
    world.run(GeoCatalogCreateCollectionOperator(task_id="c", collection=documents()))
    world.run(
        GeoCatalogEnsureIngestionSourceOperator(
            task_id="s", container_url=world.container, sas_token_conn_id="geocatalog_storage"
        )
    )
    catalog(world.folder)

    def operator(**options):
        return GeoCatalogBulkIngestionOperator(
            task_id="ingest",
            collection_id="demo",
            catalog_url=f"{world.container}/catalog.json",
            check_catalog=False,
            run_key="key",
            **{"deferrable": True, **options},
        )

    def defer(**options):
        context = {"ti": task_instance()}
        with pytest.raises(TaskDeferred) as left:
            operator(**options).execute(context)
        return operator(**options), context, left.value

    return defer


def lose(operator, context, how=CRASHED):
    """Resume after a lost trigger, and return what the task defers with."""
    with pytest.raises(TaskDeferred) as again:
        operator.resume_execution(*how, context)
    return again.value


@SLOW
def test_the_task_waits_again_for_the_same_run_until_the_same_moment(world, deferred):
    operator, context, first = deferred()

    again = lose(operator, context)

    before, after = first.trigger.serialize()[1], again.trigger.serialize()[1]
    assert [before[name] for name in ("run_id", "deadline", "started")] == [
        after[name] for name in ("run_id", "deadline", "started")
    ]
    assert again.method_name == "execute_complete"
    assert world.writes.count("create_run") == 1
    assert "cancel_operation" not in world.writes


@SLOW
def test_a_trigger_that_is_lost_again_and_again_fails_the_task_and_the_run_goes_on(world, deferred):
    operator, context, _ = deferred()
    for _ in range(3):
        lose(operator, context)

    with pytest.raises(Exception, match="Trigger failure"):
        operator.resume_execution(*CRASHED, context)

    assert "cancel_operation" not in world.writes


@SLOW
@pytest.mark.parametrize("how", [CRASHED, LATE])
def test_when_the_time_is_over_the_run_is_cancelled(world, deferred, how):
    operator, context, _ = deferred(timeout=0.01)
    time.sleep(0.02)

    with pytest.raises(GeoCatalogWaitTimeout, match="0 of 3 items done"):
        operator.resume_execution(*how, context)

    assert world.writes.count("cancel_operation") == 1


def test_a_run_that_has_ended_meanwhile_is_judged(world, deferred):
    world.server.emulator.faults.add("hold", status="Running", times=1)
    operator, context, _ = deferred()
    world.server.emulator.faults.clear()
    world.server.emulator.settle()

    summary = operator.resume_execution(*CRASHED, context)

    assert summary["items"]["succeeded"] == 3
    assert summary["adopted"] is False


@SLOW
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_time_out_during_the_first_look_cancels_what_was_started(world, deferred, deferrable):
    def time_is_over(*_):
        raise AirflowTaskTimeout("the task's time is over")

    world.server.emulator.faults.add("latency", seconds=5, operations="get_run")
    before = signal.signal(signal.SIGALRM, time_is_over)
    signal.setitimer(signal.ITIMER_REAL, 2)  # as Airflow's execution_timeout does it
    try:
        with pytest.raises(AirflowTaskTimeout):
            deferred(deferrable=deferrable)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert world.writes.count("create_run") == 1
    assert world.writes.count("cancel_operation") == 1
