"""Definitions and runs: one of each, whatever happens to the answers."""

from __future__ import annotations

import pytest

from airflow_provider_geocatalog.api import errors
from airflow_provider_geocatalog.api.dialects import DIALECTS
from airflow_provider_geocatalog.api.flows.ingestion import (
    Definition,
    IfRunExists,
    cancel_if_active,
    create_run,
    ensure_ingestion,
    ensure_run,
)
from tests.fakes.stepping import Steps, answer, listed

NEWEST = DIALECTS["2026-04-15"]
CUT = errors.GeoCatalogUnreachable("cut off", sent=True)
DEFINITION = Definition("c", "https://acct/c/catalog.json", "nightly")
THERE = answer(200, {"id": "c"})
RUNNING = answer(200, {"id": "op", "status": "Running"})


def stored(ingestion_id="i", **members):
    return {"id": ingestion_id, "status": "Ready", **DEFINITION.to_body(), **members}


def run(run_id, status="Running", created="2026-01-01T00:00:00Z"):
    return {"id": run_id, "creationTime": created, "operation": {"id": run_id, "status": status}}


def test_a_definition_is_created_once_and_then_used_again():
    first = Steps(THERE, listed(), answer(201, stored()))
    second = Steps(THERE, listed(stored("old", displayName="other"), stored()))

    assert first.run(ensure_ingestion(DEFINITION)).ingestion_id == "i"
    assert second.run(ensure_ingestion(DEFINITION)).ingestion_id == "i"

    assert (first.writes, second.writes) == (["create_ingestion"], [])


@pytest.mark.parametrize(
    "members",
    [
        {"status": "Deleting"},
        {"sourceCatalogUrl": "https://acct/c/other.json"},
        {"skipExistingItems": None},
        {"keepOriginalAssets": True},
        {"importType": "StacGeoparquet"},
    ],
)
def test_a_definition_that_says_something_else_is_not_used(members):
    steps = Steps(THERE, listed(stored("other", **members)), answer(201, stored("new")))

    assert steps.run(ensure_ingestion(DEFINITION)).ingestion_id == "new"


@pytest.mark.parametrize("lost", [CUT, answer(503), answer(408)])
def test_a_definition_whose_answer_was_lost_is_found(lost):
    steps = Steps(THERE, listed(), lost, listed(), listed(stored()))

    assert steps.run(ensure_ingestion(DEFINITION)).ingestion_id == "i"
    assert steps.writes == ["create_ingestion"]


def test_a_definition_that_was_not_created_is_an_error():
    steps = Steps(THERE, listed(), answer(503), *[listed()] * 4)

    with pytest.raises(errors.GeoCatalogServerError):
        steps.run(ensure_ingestion(DEFINITION))


def test_nothing_is_defined_without_its_collection():
    steps = Steps(answer(404))

    with pytest.raises(errors.GeoCatalogNotFound, match="'c' does not exist"):
        steps.run(ensure_ingestion(DEFINITION))


def test_after_a_lost_answer_only_a_run_that_was_not_there_before_is_ours():
    before = listed(run("old"))
    steps = Steps(before, CUT, before, listed(run("old"), run("new", created="2026-01-02T00:00:00Z")))

    assert steps.run(create_run("c", "i")).run_id == "new"
    assert steps.writes == ["create_run"]


@pytest.mark.parametrize("lost", [CUT, answer(500), answer(408), answer(202, {})])
def test_a_run_that_cannot_be_found_is_not_started_again(lost):
    steps = Steps(listed(), lost, *[listed()] * 4)

    with pytest.raises(errors.GeoCatalogError):
        steps.run(create_run("c", "i"))
    assert steps.writes == ["create_run"]


def test_a_run_is_started_again_when_the_first_call_certainly_did_nothing():
    busy, refused = answer(429, retry_after="3"), errors.GeoCatalogUnreachable("refused", sent=False)
    steps = Steps(listed(), busy, refused, answer(201, run("r")))

    assert steps.run(create_run("c", "i")).run_id == "r"
    assert len(steps.writes) == 3


def start(policy, *runs):
    steps = Steps(lambda r: answer(201, run("new")) if r.endpoint.method == "POST" else listed(*runs))
    return steps.run(ensure_run("c", "i", if_run_exists=policy)), steps


def test_a_live_run_is_preferred_to_a_newer_one_that_has_succeeded():
    runs = run("done", "Succeeded", "2026-01-03T00:00:00Z"), run("live", "Running", "2026-01-02T00:00:00Z")

    started, steps = start(IfRunExists.ADOPT, *runs)

    assert (started.run.run_id, started.adopted, steps.writes) == ("live", True, [])


def test_the_newest_of_several_runs_is_adopted_in_whatever_order_they_come():
    runs = [run(f"r{n}", created=f"2026-01-0{n}T00:00:00Z") for n in (2, 3, 1)]

    assert start(IfRunExists.ADOPT, *runs)[0].run.run_id == "r3"


def test_a_new_run_is_started_whatever_there_is():
    started, steps = start(IfRunExists.NEW, run("live"))

    assert (started.run.run_id, started.adopted, steps.writes) == ("new", False, ["create_run"])


def test_an_existing_run_is_a_conflict_where_none_may_exist():
    with pytest.raises(errors.GeoCatalogConflict, match="live"):
        start(IfRunExists.FAIL, run("live"))
    assert start(IfRunExists.FAIL, run("bad", "Failed"))[0].adopted is False


@pytest.mark.parametrize("status", [403, 409])
def test_a_cancellation_that_is_refused_for_another_reason_is_an_error(status):
    with pytest.raises(errors.GeoCatalogError):
        Steps(RUNNING, answer(status)).run(cancel_if_active("op"))


@pytest.mark.parametrize("word", ["Canceling", "Canceled", "Succeeded", "Failed"])
def test_what_ends_anyway_is_not_cancelled(word):
    steps = Steps(answer(200, {"id": "op", "status": word}))

    assert steps.run(cancel_if_active("op")) is False
    assert steps.writes == []


def test_an_operation_that_cannot_be_read_is_cancelled_all_the_same():
    steps = Steps(lambda request: answer(503) if request.endpoint.method == "GET" else answer(204))

    assert steps.run(cancel_if_active("op")) is True


def test_a_cancellation_is_repeated_through_an_outage():
    steps = Steps(RUNNING, CUT, answer(503), answer(204))

    assert steps.run(cancel_if_active("op")) is True
