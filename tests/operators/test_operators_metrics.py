"""Metrics of waits as they leave Airflow's processes, and progress lines."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.operators.ingestion import GeoCatalogCreateIngestionOperator
from airflow_provider_geocatalog.operators.sources import GeoCatalogEnsureIngestionSourceOperator
from tests.fakes.airflow_versions import AIRFLOW_VERSION
from tests.fakes.metrics_collector import metrics_collector

if AIRFLOW_VERSION < (3, 3):
    pytest.skip("metrics are set up differently before Airflow 3.3", allow_module_level=True)
pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")

#: Sets metrics up as the processes of Airflow do it that run triggers or tasks.
PROCESSES = {
    "triggerer": """
from airflow._shared.observability.metrics import stats
from airflow.observability.metrics import stats_utils

stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)
""",
    "worker": """
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils

stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)
""",
}
TRIGGERS = """
import asyncio, sys, time

from airflow_provider_geocatalog.triggers.ingestion import GeoCatalogOperationTrigger


if within := OPTIONS.pop("within", None):
    OPTIONS["deadline"] = time.time() + within  # from now: on a busy machine the start takes its time


def trigger(operation_id):
    return GeoCatalogOperationTrigger(
        operation_id=operation_id, poll_interval=0.2, first_delay=0, started=time.time() - 100, **OPTIONS
    )


async def fire(operation_id):
    print((await anext(trigger(operation_id).run())).payload, flush=True)


async def main():
    await asyncio.gather(*map(fire, sys.argv[1:]))
    await asyncio.sleep(1)  # a last export


asyncio.run(main())
"""
OPERATOR = """
import sys, time

from airflow_provider_geocatalog.operators.ingestion import GeoCatalogRunIngestionOperator


class TaskInstance:
    try_number, map_index = 1, -1

    def xcom_push(self, key, value):
        pass


operator = GeoCatalogRunIngestionOperator(
    task_id="t", collection_id="demo", ingestion_id=sys.argv[1], poll_interval=0.2, deferrable=False
)
operator.execute({"ti": TaskInstance()})
time.sleep(1)
"""


@pytest.fixture
def ingestion_id(world, documents, catalog):
    catalog(world.folder, 6)
    world.run(GeoCatalogCreateCollectionOperator(task_id="c", collection=documents()))
    storage = {"container_url": world.container, "sas_token_conn_id": "geocatalog_storage"}
    world.run(GeoCatalogEnsureIngestionSourceOperator(task_id="s", **storage))
    url = f"{world.container}/catalog.json"
    return world.run(
        GeoCatalogCreateIngestionOperator(task_id="i", collection_id="demo", catalog_url=url, run_key="k", **storage)
    )


@pytest.fixture
def collector():
    with metrics_collector() as made:
        yield made


@pytest.fixture
def start(collector):
    """Run code in a process of its own that tells the collector."""
    started = []

    def run(process, code, *arguments, **options):
        text = f"OPTIONS = {options!r}\n{PROCESSES[process]}\n{code}"
        made = subprocess.Popen(
            [sys.executable, "-c", text, *arguments],
            env={**os.environ, **collector.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(made)
        return made

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def ended(process):
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def until(condition, timeout=120):
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


SLOW = pytest.mark.parametrize("world", [{"items_per_second": 2, "pending_seconds": 0.1}], indirect=True)
TAGS = {"conn_id": "geocatalog_default", "collection_id": "demo"}
LOGGING = "import logging\n\nlogging.basicConfig(level=logging.INFO)\n"


def half_done(world, run_id):
    """Stop the time of the service when a run has begun to ingest."""
    client = GeoCatalogHook().client
    until(lambda: 0 < client.get_operation(run_id).to_summary()["items"]["succeeded"] < 5)
    world.server.emulator.clock.freeze()


@SLOW
def test_waits_are_counted_once_and_add_up_to_their_gauges(world, ingestion_id, collector, start):
    client = GeoCatalogHook().client
    runs = [client.create_run("demo", ingestion_id).operation.operation_id for _ in range(2)]
    half_done(world, runs[0])

    process = start("triggerer", LOGGING + TRIGGERS, *runs)
    until(lambda: collector.points("geocatalog.wait.items.total", **TAGS))
    world.server.emulator.clock.run()
    output = ended(process)

    assert max(collector.points("geocatalog.wait.items.total", **TAGS)) == 12
    assert collector.points("geocatalog.wait.items.total", **TAGS)[-1] == 0  # nothing is waited for any more
    assert any(0 < value < 12 for value in collector.points("geocatalog.wait.items.pending", **TAGS))
    assert collector.points("geocatalog.wait.ended", **TAGS, outcome="succeeded")[-1] == 2
    assert collector.points("geocatalog.wait.duration", **TAGS, outcome="succeeded")[-1] == 2
    assert collector.points("geocatalog.items", **TAGS, outcome="succeeded")[-1] == 12
    assert collector.points("geocatalog.items", outcome="failed") == []
    lines = [line for line in output.splitlines() if f"Operation {runs[0]} is" in line]
    assert any("items done (" in line and "items/s, about" in line for line in lines), output
    assert len(lines) <= 8


@SLOW
def test_the_wait_of_a_worker_is_counted_as_well(world, ingestion_id, collector, start):
    run_id = GeoCatalogHook().client.create_run("demo", ingestion_id).operation.operation_id
    half_done(world, run_id)

    process = start("worker", OPERATOR, ingestion_id)
    until(lambda: collector.points("geocatalog.wait.items.total", **TAGS))
    world.server.emulator.clock.run()
    ended(process)

    assert max(collector.points("geocatalog.wait.items.total", **TAGS)) == 6
    assert collector.points("geocatalog.wait.items.total", **TAGS)[-1] == 0
    assert collector.points("geocatalog.wait.ended", **TAGS, outcome="succeeded")[-1] == 1
    assert collector.points("geocatalog.items", **TAGS, outcome="succeeded")[-1] == 6


@pytest.mark.parametrize("world", [{"items_per_second": 0.01}], indirect=True)
def test_a_wait_that_moves_to_another_triggerer_is_counted_when_it_ends(world, ingestion_id, collector, start):
    run_id = GeoCatalogHook().client.create_run("demo", ingestion_id).operation.operation_id
    first = start("triggerer", TRIGGERS, run_id)
    until(lambda: collector.points("geocatalog.wait.items.total", **TAGS))
    first.terminate()
    first.wait()
    second = start("triggerer", TRIGGERS, run_id)
    began = len(collector.points("geocatalog.wait.items.total", **TAGS))
    until(lambda: len(collector.points("geocatalog.wait.items.total", **TAGS)) > began)
    GeoCatalogHook().client.cancel_operation(run_id)

    ended(second)

    counted = {tags["outcome"] for tags in collector.tags("geocatalog.wait.ended")}
    assert (counted, set(collector.points("geocatalog.wait.ended"))) == ({"canceled"}, {1})


@pytest.mark.parametrize("world", [{"items_per_second": 0.01}], indirect=True)
def test_waits_without_an_end_have_outcomes_of_their_own(world, ingestion_id, collector, start):
    run_id = GeoCatalogHook().client.create_run("demo", ingestion_id).operation.operation_id
    nothing = "00000000-0000-0000-0000-000000000000"

    ended(start("triggerer", TRIGGERS, run_id, nothing, within=8))

    assert {tags["outcome"] for tags in collector.tags("geocatalog.wait.ended")} == {"timeout", "unreadable"}
    assert collector.points("geocatalog.items") == []
