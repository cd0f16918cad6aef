"""Failures that explain themselves: code, meaning, counts, link, no secret; retried only where that can help."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

from airflow_provider_geocatalog.api.errors import (
    GeoCatalogError,
    GeoCatalogOperationFailed,
    GeoCatalogServerError,
    GeoCatalogWaitTimeout,
)
from airflow_provider_geocatalog.api.fault_codes import FAULT_CODES
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.operators.ingestion import (
    GeoCatalogCreateIngestionOperator,
    GeoCatalogRunIngestionOperator,
)
from airflow_provider_geocatalog.operators.sources import GeoCatalogEnsureIngestionSourceOperator
from airflow_provider_geocatalog.sensors.ingestion import GeoCatalogOperationSensor

SECRETS = ("failuresTestSignature%2Bx%3D", "failures-test-bearer-token")
MESSAGE = "Reason: refused. Source: https://x.blob.core.windows.net/c/a.tif?sv=2023&sig={}. Authorization: Bearer {}"
ENDLESS = pytest.mark.parametrize("world", [{"items_per_second": 0.01}], indirect=True)


@pytest.fixture
def ready(world, documents, catalog):
    """A world with a collection, a source and a definition."""
    catalog(world.folder, 2)
    world.run(GeoCatalogCreateCollectionOperator(task_id="c", collection=documents()))
    storage = {"container_url": world.container, "sas_token_conn_id": "geocatalog_storage"}
    world.run(GeoCatalogEnsureIngestionSourceOperator(task_id="s", **storage))
    url = f"{world.container}/catalog.json"
    world.ingestion_id = world.run(
        GeoCatalogCreateIngestionOperator(task_id="i", collection_id="demo", catalog_url=url, run_key="k", **storage)
    )
    return world


def running(world, **arguments):
    return GeoCatalogRunIngestionOperator(
        **{
            "task_id": "run",
            "collection_id": "demo",
            "ingestion_id": world.ingestion_id,
            "if_run_exists": "new",
            "poll_interval": 0.1,
            **arguments,
        }
    )


def newest_run(world):
    runs = world.server.emulator.world.collections["demo"].ingestions[world.ingestion_id].runs
    return list(runs.values())[-1].id


def failure_of(call):
    with pytest.raises((GeoCatalogError, AirflowFailException)) as caught:
        call()
    return caught.value


def missing_from(error, *parts):
    """Return what a message lacks, and the secrets that it has."""
    text = str(error)
    return [part for part in parts if part.lower() not in text.lower()] + [
        secret for secret in SECRETS if secret in text
    ]


def test_every_documented_code_of_a_run_is_explained_and_retried_as_classified(ready):
    wrong = {}
    for number, (code, known) in enumerate(FAULT_CODES.items()):
        ready.server.emulator.faults.clear()
        ready.server.emulator.faults.add("end_operation", status="Failed", code=code, message=MESSAGE.format(*SECRETS))
        deferrable = number % 2 == 0

        error = failure_of(lambda deferrable=deferrable: ready.run(running(ready, deferrable=deferrable)))

        run_id = newest_run(ready)
        link = f"{ready.server.url}/inma/operations/{run_id}?api-version=2026-04-15"
        parts = (
            code,
            "Reason: refused",
            known.meaning,
            known.action,
            "2 of 2 items done",
            "Failed at",
            f"run {run_id}",
        )
        lacking = missing_from(error, *parts, link)
        expected = GeoCatalogOperationFailed if known.transient else GeoCatalogTaskFailed
        if lacking or type(error) is not expected or str(error).count(link) != 1:
            wrong[code] = (lacking, type(error), str(error))
    assert wrong == {}


def test_every_documented_code_of_an_item_operation_is_explained(ready):
    client = GeoCatalogHook().client
    wrong = {}
    for number, (code, known) in enumerate(FAULT_CODES.items()):
        ready.server.emulator.faults.clear()
        message = MESSAGE.format(*SECRETS)
        ready.server.emulator.faults.add("fail_items", code=code, message=message, types=["AddItem"])
        operation_id = client.create_item("demo", _item(f"item-{number}")).operation.operation_id
        sensor = GeoCatalogOperationSensor(
            task_id="w", operation_id=operation_id, deferrable=number % 2 == 0, poke_interval=0.1
        )

        error = failure_of(lambda sensor=sensor: ready.run(sensor))
        of_client = failure_of(lambda: client.wait_for_operation(operation_id, poll_interval=0.1))  # noqa: B023

        parts = (code, "Reason: refused", known.meaning, known.action, "1 of 1 items done", operation_id, "Failed at")
        lacking = missing_from(error, *parts, f"{ready.server.url}/inma/operations/{operation_id}?api-version=")
        # What has ended stays so for a sensor; whoever can do the work again may.
        transient = known.transient
        if code == "ErrorsInBatchOperation":  # says that items failed, and nothing of why
            lacking, transient = [part for part in lacking if part not in (known.meaning, known.action)], True
        if lacking or type(error) is not AirflowFailException or of_client.retryable is not transient:
            wrong[code] = (lacking, type(error), of_client.retryable, str(error))
    assert wrong == {}


def _item(item_id):
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "collection": "demo",
        "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
        "bbox": [1.0, 2.0, 1.0, 2.0],
        "properties": {"datetime": "2024-01-01T00:00:00Z"},
        "links": [],
        "assets": {},
    }


@pytest.mark.parametrize("deferrable", [True, False])
def test_failed_items_come_with_counts_states_and_a_link(ready, deferrable):
    ready.server.emulator.faults.add("fail_items", items=["item-0"], message=MESSAGE.format(*SECRETS))

    error = failure_of(lambda: ready.run(running(ready, deferrable=deferrable)))

    parts = ("1 failed items", "2 of 2 items done", "Last states:", f"/operations/{newest_run(ready)}?api-version=")
    assert missing_from(error, *parts, "max_failed_items") == []


@ENDLESS
def test_a_cancelled_run_says_how_far_it_was(ready):
    client = GeoCatalogHook().client
    run_id = ready.run(running(ready, wait_for_completion=False))["run_id"]
    while str(client.get_operation(run_id).status) != "Running":
        pass
    client.cancel_operation(run_id)

    error = failure_of(
        lambda: ready.run(GeoCatalogOperationSensor(task_id="w", operation_id=run_id, poke_interval=0.1))
    )

    parts = ("was cancelled", "0 of 2 items done", "Last states: ", "Canceled at", "Run it again", "?api-version=")
    assert missing_from(error, *parts) == []


@ENDLESS
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_timeout_says_how_far_the_run_was(ready, deferrable):
    error = failure_of(lambda: ready.run(running(ready, deferrable=deferrable, timeout=1)))

    assert isinstance(error, GeoCatalogWaitTimeout)
    run_id = newest_run(ready)
    parts = ("did not end within 1 s: it is Running with 0 of 2 items done (0 %)", run_id, f"{run_id}?api-version=")
    assert missing_from(error, *parts) == []


@ENDLESS
def test_an_execution_timeout_says_how_far_the_run_was_and_cancels_it(ready):
    timeouts = pytest.importorskip("airflow.sdk.execution_time.timeout")

    with pytest.raises(AirflowTaskTimeout) as caught, timeouts.timeout(seconds=2):
        ready.run(running(ready, deferrable=False))

    run_id = newest_run(ready)
    assert missing_from(caught.value, "it is Running with 0 of 2 items done", f"{run_id}?api-version=") == []
    assert ready.writes.count("cancel_operation") == 1


@ENDLESS
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_run_that_cannot_be_read_is_told_with_what_the_service_said(ready, deferrable):
    ready.server.emulator.faults.add("status", status=503, operations=["get_run", "list_operations"], skip=2, times=6)

    error = failure_of(lambda: ready.run(running(ready, deferrable=deferrable, outage_budget=0.2)))

    assert isinstance(error, GeoCatalogServerError | GeoCatalogWaitTimeout)
    assert missing_from(error, "answered 503", "[request id ", f"/operations/{newest_run(ready)}?api-version=") == []


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_operation_that_does_not_exist_fails_its_sensor_with_the_request_id(world, deferrable):
    missing = "00000000-0000-0000-0000-000000000000"

    error = failure_of(lambda: world.run(GeoCatalogOperationSensor(task_id="w", operation_id=missing)))

    assert isinstance(error, AirflowFailException)
    assert missing_from(error, "answered 404", "[request id ", "Check the id", f"{missing}?api-version=") == []
