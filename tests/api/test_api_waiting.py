"""Waiting: polls, outages, deadlines."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_geocatalog.api import endpoints, errors
from airflow_provider_geocatalog.api.calls import Started
from airflow_provider_geocatalog.api.flows.diagnosis import probe
from airflow_provider_geocatalog.api.flows.waiting import (
    complete,
    get_operation,
    wait_for_operation,
    wait_for_run,
)
from airflow_provider_geocatalog.api.http import Request
from airflow_provider_geocatalog.api.waiting import PollPolicy
from tests.fakes.stepping import Steps, answer

POLICY = PollPolicy(interval=30, first=2, outage=600)
CUT = errors.GeoCatalogUnreachable("cut off", sent=True)


def operation(status, **members):
    return answer(200, {"id": "op", "status": status, **members})


def run(status, **counts):
    return answer(200, {"id": "r", "operation": {"id": "r", "status": status, **counts}})


def wait(*answers, **options):
    steps = Steps(*answers)
    return steps.run(wait_for_operation("op", **{"policy": POLICY, **options})), steps


@pytest.mark.parametrize("word", ["Succeeded", "SUCCESS", "finished", "Failed", "Canceled", "Cancelled"])
def test_the_wait_for_a_run_ends_with_every_final_word(word):
    steps = Steps(run("Pending"), run("Running"), run("Canceling"), run(word))

    assert steps.run(wait_for_run("c", "i", "r", policy=POLICY)).operation.status.word == word


@pytest.mark.parametrize(
    "word", ["Canceling", "Cancelling", "Paused", "Succeeding", "SucceededWithErrors", "Done", "None"]
)
def test_a_word_that_is_not_final_is_waited_on_until_the_deadline(word):
    steps = Steps(lambda _: operation(word))

    with pytest.raises(errors.GeoCatalogWaitTimeout, match=word):
        steps.run(wait_for_operation("op", policy=POLICY, deadline=steps.clock.now + 3600))
    assert sum(steps.pauses) == pytest.approx(3600)


@pytest.mark.parametrize("failure", [CUT, answer(408), answer(429), answer(500), answer(503)])
def test_a_failing_poll_costs_a_poll_and_not_the_wait(failure):
    found, steps = wait(operation("Running"), failure, failure, operation("Succeeded"))

    assert found.status.is_final
    assert len(steps.requests) == 4


@pytest.mark.parametrize("asked", ["601", "1e300"])
def test_a_wait_beyond_the_outage_that_is_borne_is_cut_short(asked):
    steps = Steps(lambda _: answer(503, retry_after=asked))

    with pytest.raises(errors.GeoCatalogServerError):
        steps.run(wait_for_operation("op", policy=POLICY))
    assert steps.pauses == [600]


def test_an_outage_longer_than_its_budget_is_raised_with_the_last_error():
    steps = Steps(lambda _: answer(503, x_request_id="last"))

    with pytest.raises(errors.GeoCatalogServerError, match="last"):
        steps.run(wait_for_operation("op", policy=POLICY))
    assert 600 <= sum(steps.pauses) < 700


def test_the_budget_of_outages_begins_anew_with_every_poll_that_works():
    answers = [answer(503, retry_after="400"), operation("Running")] * 5

    found, steps = wait(*answers, operation("Succeeded"))

    assert found.status.is_final
    assert sum(steps.pauses) > 600


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409])
def test_a_poll_that_cannot_get_better_ends_the_wait(status):
    with pytest.raises(errors.GeoCatalogError) as caught:
        wait(operation("Running"), answer(status))
    assert caught.value.status == status


def test_an_operation_may_take_a_moment_to_appear():
    assert wait(answer(404), answer(404), operation("Succeeded"))[0].status.is_final
    with pytest.raises(errors.GeoCatalogNotFound):
        wait(*[answer(404)] * 4)


@pytest.mark.parametrize(("asked", "waited"), [("100", 100), ("0", 2), ("5", 5)])
def test_retry_after_decides_the_pause_but_makes_no_tight_loop(asked, waited):
    _, steps = wait(answer(429, retry_after=asked), operation("Succeeded"))

    assert steps.pauses == [pytest.approx(waited, rel=0.11)]


def test_a_pause_never_goes_beyond_the_deadline():
    steps = Steps(lambda _: answer(429, retry_after="1000"))

    with pytest.raises(errors.GeoCatalogWaitTimeout, match="could not be read"):
        steps.run(wait_for_operation("op", policy=POLICY, deadline=steps.clock.now + 60))
    assert steps.pauses == [60]


def test_a_deadline_that_has_passed_still_takes_one_look():
    steps = Steps(operation("Succeeded"))

    assert steps.run(wait_for_operation("op", policy=POLICY, deadline=0)).status.is_final


def test_a_timeout_says_and_carries_how_far_the_run_was():
    steps = Steps(
        lambda _: run("Running", totalItems=8, totalSuccessfulItems=5, totalFailedItems=1, totalPendingItems=2)
    )

    with pytest.raises(errors.GeoCatalogWaitTimeout, match=r"6 of 8 items done \(75 %\), 1 failed") as caught:
        steps.run(wait_for_run("c", "i", "r", policy=POLICY, deadline=steps.clock.now + 10))
    assert caught.value.summary["items"] == {"total": 8, "succeeded": 5, "failed": 1, "pending": 2}


def test_a_foreign_polling_url_is_given_up_for_the_whole_wait(caplog):
    foreign = errors.GeoCatalogForeignUrl("elsewhere")

    with caplog.at_level(logging.WARNING):
        _, steps = wait(
            foreign, operation("Running"), operation("Running"), operation("Succeeded"), url="https://other/op"
        )

    assert [request.url for request in steps.requests] == ["https://other/op", None, None, None]
    assert caplog.text.count("by its id instead") == 1


def test_the_services_polling_url_is_used_as_long_as_it_works():
    _, steps = wait(operation("Running"), CUT, operation("Succeeded"), url="https://g/op?api-version=1")

    assert {request.url for request in steps.requests} == {"https://g/op?api-version=1"}


def test_a_single_read_falls_back_to_the_id_as_well():
    steps = Steps(errors.GeoCatalogForeignUrl("elsewhere"), operation("Running"))

    assert steps.run(get_operation("op", url="https://other/op")).status.word == "Running"


def test_every_working_poll_is_observed_with_its_time():
    seen = []

    wait(
        operation("Pending"),
        CUT,
        operation("Running"),
        operation("Failed"),
        observe=lambda o, now: seen.append((o.status.word, now)),
    )

    assert [word for word, _ in seen] == ["Pending", "Running", "Failed"]
    assert [now for _, now in seen] == sorted({now for _, now in seen})


# --- the connection test ---------------------------------------------------------------------------------------------

PAGE = {"stac_version": "1.0.0", "links": []}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (answer(401), "did not accept the token"),
        (answer(403), "no role on this GeoCatalog"),
        (answer(404), "https://g is not a GeoCatalog"),
        (answer(200, {}), "https://g is not a GeoCatalog"),
        (answer(200, []), "https://g is not a GeoCatalog"),
        (answer(400, {"error": {"code": "UnsupportedApiVersion", "message": "no"}}), "api-version 2026-04-15"),
        (errors.GeoCatalogForeignUrl("elsewhere"), "https://g is not a GeoCatalog"),
        (errors.GeoCatalogAuthenticationError("the azure_cli credential gave no token"), "azure_cli"),
        (errors.GeoCatalogUnreachable("the host name of g cannot be resolved (DNS)"), "DNS"),
    ],
)
def test_the_connection_test_names_what_is_wrong(found, told):
    with pytest.raises(errors.GeoCatalogError, match=told):
        Steps(found).run(probe("https://g", "2026-04-15"))
    assert "https://g" in Steps(answer(200, PAGE)).run(probe("https://g", "2026-04-15"))


def test_reading_back_keeps_the_deadline_while_the_read_side_fails():
    resource = Request(endpoints.GET_ITEM, {"collection_id": "c", "item_id": "i"})
    steps = Steps(lambda _: answer(503))

    with pytest.raises(errors.GeoCatalogWaitTimeout, match="cannot be read"):
        steps.run(complete(Started(None, resource=resource), timeout=5))

    assert sum(steps.pauses) == pytest.approx(5)


def test_what_was_deleted_has_to_be_gone():
    resource = Request(endpoints.GET_ITEM, {"collection_id": "c", "item_id": "i"})
    steps = Steps(answer(200, {"id": "i"}), answer(200, {"id": "i"}), answer(404))

    assert steps.run(complete(Started(None, resource=resource, removes=True))).resource is None
