"""What an ended operation means to the task that waited for it, and how progress reads."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_geocatalog.api import errors
from airflow_provider_geocatalog.api.models import Counts, Fault, Operation
from airflow_provider_geocatalog.api.outcomes import is_success, require_success
from airflow_provider_geocatalog.api.progress import ProgressLog
from airflow_provider_geocatalog.api.statuses import Status

BATCH = Fault("ErrorsInBatchOperation", "some items failed")
CATALOG = Fault("InvalidStacCatalog", "type is Feature")


def ended(word, counts=None, fault=None):
    return Operation("op", Status(word), counts=counts, fault=fault)


@pytest.mark.parametrize(
    ("operation", "tolerated", "raised"),
    [
        (ended("Succeeded"), 0, None),
        (ended("Success", Counts(3, 3)), 0, None),
        (ended("FINISHED", Counts(3, 3)), 0, None),
        (ended("Succeeded", Counts(3, 2, 1)), 0, errors.GeoCatalogItemsFailed),
        (ended("Succeeded", Counts(3, 2, 1)), 1, None),
        (ended("Succeeded", Counts(3, 1, 2)), 1, errors.GeoCatalogItemsFailed),
        (ended("Failed", Counts(3, 2, 1), BATCH), 0, errors.GeoCatalogItemsFailed),
        (ended("Failed", Counts(3, 2, 1), BATCH), 1, None),
        (ended("Failed", Counts(3, 2, 1)), 1, None),
        (ended("Failed", Counts(3, 1, 1, 1), BATCH), 1, errors.GeoCatalogItemsFailed),
        (ended("Failed", Counts(3, 1, 1, 1), BATCH), 2, None),
        (ended("Failed", Counts(3, 2, 1), CATALOG), 9, errors.GeoCatalogOperationFailed),
        (ended("Failed", Counts(), BATCH), 9, errors.GeoCatalogOperationFailed),
        (ended("Failed", None, BATCH), 9, errors.GeoCatalogOperationFailed),
        (ended("Failed"), 9, errors.GeoCatalogOperationFailed),
        (ended("Canceled", Counts(3, 3)), 9, errors.GeoCatalogOperationCanceled),
        (ended("Cancelled"), 0, errors.GeoCatalogOperationCanceled),
    ],
)
def test_an_end_is_judged_by_status_counts_and_reason(operation, tolerated, raised):
    if raised is None:
        require_success(operation, what="it", max_failed_items=tolerated)
    else:
        with pytest.raises(raised):
            require_success(operation, what="it", max_failed_items=tolerated)
    assert is_success(operation, max_failed_items=tolerated) is (raised is None)


@pytest.mark.parametrize("word", ["Pending", "Running", "Canceling", "Resting"])
def test_what_has_not_ended_is_no_success(word):
    assert is_success(ended(word, Counts(1, 1))) is False


def test_an_error_carries_the_summary_the_code_and_the_named_items():
    with pytest.raises(errors.GeoCatalogItemsFailed) as caught:
        require_success(ended("Failed", Counts(3, 2, 1), BATCH), what="run 7", explained=["item-3: no bbox"])

    error = caught.value
    assert (error.code, error.summary["items"]["failed"], error.retryable) == ("ErrorsInBatchOperation", 1, True)
    assert "run 7 ended with 1 failed items" in str(error)
    assert "item-3: no bbox" in str(error)


def test_items_that_will_fail_again_are_not_worth_a_retry():
    with pytest.raises(errors.GeoCatalogItemsFailed) as caught:
        require_success(ended("Succeeded", Counts(3, 2, 1)), what="it", permanent=True)

    assert caught.value.retryable is False


def test_an_unknown_code_of_a_failure_may_pass():
    with pytest.raises(errors.GeoCatalogOperationFailed) as caught:
        require_success(ended("Failed", fault=Fault("NeverHeardOf", "hm")), what="it")

    assert (caught.value.retryable, caught.value.code) == (True, "NeverHeardOf")


def said(*polls):
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    log = logging.Logger("progress")
    log.addHandler(Keep())
    progress = ProgressLog(log, "run 7")
    for operation, now in polls:
        progress.observe(operation, now)
    return lines


def test_progress_tells_counts_rate_and_remaining_time():
    first, second = ended("Running", Counts(100, 10, 0, 90)), ended("Running", Counts(100, 29, 1, 70))

    lines = said((first, 1000.0), (second, 1010.0))

    assert lines[-1] == (
        "run 7 is Running: 30 of 100 items done (30 %), 1 failed, 70 pending, 2 items/s, about 35 s left."
    )


def test_progress_says_nothing_twice_within_three_minutes():
    poll = ended("Running", Counts(100, 10, 0, 90))

    lines = said(*[(poll, 1000.0 + 30 * n) for n in range(13)])

    assert len(lines) == 3
