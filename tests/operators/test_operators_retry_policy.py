"""The retry policy: what it decides for each cause, and what happens where Airflow has no such thing."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys

import pytest

pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="this Airflow has no retry policies")

from airflow.providers.common.compat.sdk import DAG, task
from airflow.sdk import RetryAction, RetryPolicy

from airflow_provider_geocatalog.api import errors
from airflow_provider_geocatalog.api.flows.waiting import get_operation
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.retry_policies import GeoCatalogRetryPolicy
from airflow_provider_geocatalog.sensors.ingestion import GeoCatalogOperationSensor

POLICY = GeoCatalogRetryPolicy()
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def decided(error, try_number=1, policy=POLICY):
    decision = policy.evaluate(error, try_number, 5)
    return decision.action, decision.retry_delay and decision.retry_delay.total_seconds()


def refused():
    """Return what a single look at an operation raises."""
    with pytest.raises(errors.GeoCatalogError) as caught:
        GeoCatalogHook().run(get_operation("00000000-0000-0000-0000-000000000000", once=True))
    return caught.value


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, (RetryAction.FAIL, None)) for status in (400, 401, 403, 404, 409, 501)),
        (408, (RetryAction.RETRY, 120)),
        (429, (RetryAction.RETRY, 120)),
        (500, (RetryAction.RETRY, 60)),
        (503, (RetryAction.RETRY, 60)),
    ],
)
def test_answers_are_told_apart(world, status, expected):
    world.server.emulator.faults.add("status", status=status)

    assert decided(refused()) == expected


@pytest.mark.parametrize("status", [429, 503])
def test_what_the_service_asks_for_counts_more_than_any_delay(world, status):
    world.server.emulator.faults.add("status", status=status, retry_after=2400)

    assert decided(refused(), 4, GeoCatalogRetryPolicy(longest=600)) == (RetryAction.RETRY, 2400)


def test_a_refusal_is_no_less_final_for_a_retry_after(world):
    world.server.emulator.faults.add("status", status=403, retry_after=5)

    assert decided(refused()) == (RetryAction.FAIL, None)


def test_a_service_that_does_not_answer_is_asked_again_soon(world, reconnect):
    reconnect(url="http://127.0.0.1:9")

    assert decided(refused()) == (RetryAction.RETRY, 30)


def test_each_further_try_waits_twice_as_long_up_to_a_bound():
    error = errors.GeoCatalogThrottled("slow down")

    assert [decided(error, number)[1] for number in (1, 2, 3, 6, 40)] == [120, 240, 480, 3600, 3600]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.GeoCatalogOperationFailed("f", retryable=True), (RetryAction.RETRY, 300)),
        (errors.GeoCatalogOperationFailed("f", retryable=False), (RetryAction.FAIL, None)),
        (errors.GeoCatalogOperationCanceled("c"), (RetryAction.FAIL, None)),
        (errors.GeoCatalogItemsFailed("i", retryable=True), (RetryAction.RETRY, 300)),
        (errors.GeoCatalogWaitTimeout("t"), (RetryAction.RETRY, 60)),
        (errors.GeoCatalogInvalidInput("bad"), (RetryAction.FAIL, None)),
        # No token could be had: that has no delay of its own.
        (errors.GeoCatalogAuthenticationError("no token", retryable=True), (RetryAction.DEFAULT, None)),
        (ValueError("not ours"), (RetryAction.DEFAULT, None)),
        (KeyboardInterrupt(), (RetryAction.DEFAULT, None)),
    ],
)
def test_causes_are_told_apart(error, expected):
    assert decided(error) == expected


def test_the_reason_names_the_cause_and_no_secret():
    error = errors.GeoCatalogOperationFailed("?sig=abc", code="InternalError", retryable=True)

    reason = POLICY.evaluate(error, 1, 3).reason

    assert reason == "GeoCatalogOperationFailed (InternalError): trying again in 300 s"


def test_delays_can_be_chosen():
    policy = GeoCatalogRetryPolicy(throttled=5, longest=8)

    assert [decided(errors.GeoCatalogThrottled("x"), number, policy)[1] for number in (1, 2)] == [5, 8]


def test_a_policy_survives_its_serialisation():
    policy = GeoCatalogRetryPolicy(server_error=7)

    copy = GeoCatalogRetryPolicy.deserialize(json.loads(json.dumps(policy.serialize())))

    assert isinstance(copy, RetryPolicy)
    assert copy == policy


def test_dags_with_it_go_through_the_database():
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("d", start_date=START, schedule=None, default_args={"retry_policy": POLICY, "retries": 2}) as dag:
        GeoCatalogOperationSensor(task_id="single", operation_id="x")
        GeoCatalogOperationSensor.partial(task_id="mapped").expand(operation_id=["x", "y"])

        @task
        def own():
            pass

        own()

    kept = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))

    assert {name: kept.get_task(name).has_retry_policy for name in ("single", "mapped", "own")} == {
        "single": True,
        "mapped": True,
        "own": True,
    }
    assert dag.get_task("single").retry_policy is POLICY


WITHOUT_POLICIES = """
import sys

sys.modules["airflow.sdk.definitions.retry_policy"] = None  # as on Airflow before 3.3

import airflow_provider_geocatalog.sensors.ingestion
from airflow_provider_geocatalog.provider_info import get_provider_info

get_provider_info()
try:
    import airflow_provider_geocatalog.retry_policies
except ImportError as error:
    print(error)
"""


def test_an_airflow_without_policies_is_told_what_is_missing():
    done = subprocess.run([sys.executable, "-c", WITHOUT_POLICIES], capture_output=True, text=True, check=True)

    assert "needs Airflow 3.3 or later" in done.stdout
    assert "'retries' and 'retry_delay'" in done.stdout
