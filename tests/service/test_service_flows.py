"""Procedures stepped by hand: no network, no clock."""

from __future__ import annotations

import json
import logging
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import Retries, call, pages
from airflow_provider_geocatalog.api.dialects import API_VERSIONS, DIALECTS
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogBadRequest,
    GeoCatalogForeignUrl,
    GeoCatalogItemsFailed,
    GeoCatalogNotFound,
    GeoCatalogOperationCanceled,
    GeoCatalogOperationFailed,
    GeoCatalogProtocolError,
    GeoCatalogServerError,
    GeoCatalogThrottled,
    GeoCatalogUnreachable,
    GeoCatalogUnsupportedOperation,
    GeoCatalogWaitTimeout,
    error_for,
)
from airflow_provider_geocatalog.api.fault_codes import FAULT_CODES
from airflow_provider_geocatalog.api.flows.collections import IfExists, begin_create_collection
from airflow_provider_geocatalog.api.flows.ingestion import IfRunExists, cancel_if_active, create_run, ensure_run
from airflow_provider_geocatalog.api.flows.waiting import wait_for_operation, wait_for_run
from airflow_provider_geocatalog.api.http import Now, Pause, Request, Response
from airflow_provider_geocatalog.api.models import Operation, Run
from airflow_provider_geocatalog.api.outcomes import require_success
from airflow_provider_geocatalog.api.progress import ProgressLog
from airflow_provider_geocatalog.api.redaction import redact, signatures
from airflow_provider_geocatalog.api.statuses import Outcome, Status
from airflow_provider_geocatalog.api.waiting import PollPolicy

NEWEST = DIALECTS["2026-04-15"]


def answer(status=200, body=None, **headers):
    content = b"" if body is None else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


class Driver:
    """Carry a flow out against scripted answers and a clock that stands still but for pauses."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.now = 1_000_000.0
        self.sent = []
        self.requests = []
        self.pauses = []

    def run(self, flow):
        value, error = None, None
        while True:
            try:
                effect = flow.throw(error) if error else flow.send(value)
            except StopIteration as stop:
                return stop.value
            value, error = None, None
            if isinstance(effect, Now):
                value = self.now
            elif isinstance(effect, Pause):
                self.pauses.append(effect.seconds)
                self.now += effect.seconds
            else:
                self.requests.append(effect)
                self.sent.append(f"{effect.endpoint.name}{' ' + effect.url if effect.url else ''}")
                given_answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if isinstance(given_answer, Exception):
                    error = given_answer
                else:
                    value = given_answer


def operation(status, **members):
    return {"id": "op", "status": status, "statusHistory": [], "type": "AddItem", **members}


def run_json(run_id="r1", status="Running", created="2026-01-01T00:00:00Z", **counts):
    return {"id": run_id, "creationTime": created, "operation": {"id": run_id, "status": status, **counts}}


# --- statuses --------------------------------------------------------------------------------------------------------

WORDS = {
    "Pending": Outcome.IN_PROGRESS,
    "RUNNING": Outcome.IN_PROGRESS,
    "Canceling": Outcome.IN_PROGRESS,
    "succeeded": Outcome.SUCCEEDED,
    "Success": Outcome.SUCCEEDED,
    "Finished": Outcome.SUCCEEDED,
    "Failed": Outcome.FAILED,
    "Canceled": Outcome.CANCELED,
    "Cancelled": Outcome.CANCELED,
}


@pytest.mark.parametrize(("word", "outcome"), WORDS.items())
def test_every_documented_status_word_has_its_meaning(word, outcome):
    assert (Status(word).outcome, Status(word).is_known) == (outcome, True)


@given(st.text(min_size=1))
def test_a_word_that_nobody_documents_is_never_final(word):
    if word.lower() not in {known.lower() for known in WORDS}:
        assert not Status(word).is_final


# --- retries ---------------------------------------------------------------------------------------------------------


def test_a_busy_answer_is_repeated_exactly_after_the_time_that_it_asks_for():
    driver = Driver(answer(429, retry_after="7"), answer(503, retry_after="3"), answer(200, {"id": "x"}))

    assert driver.run(call(endpoints.GET_COLLECTION, {"collection_id": "x"})) == {"id": "x"}
    assert driver.pauses == [7.0, 3.0]


def test_the_budget_bounds_the_repetitions():
    driver = Driver(answer(503))

    with pytest.raises(GeoCatalogServerError):
        driver.run(call(endpoints.GET_COLLECTION, {"collection_id": "x"}, retries=Retries(budget=30)))
    assert sum(driver.pauses) <= 30


@pytest.mark.parametrize(
    "failure",
    [answer(500), answer(503), GeoCatalogUnreachable("cut off", sent=True), answer(400), answer(408)],
)
def test_a_post_that_may_have_been_processed_is_never_repeated(failure):
    driver = Driver(failure)

    with pytest.raises(Exception, match=r"answered|cut off"):
        driver.run(call(endpoints.CREATE_SOURCE, body={}))
    assert driver.sent == ["create_source"]


@pytest.mark.parametrize("failure", [GeoCatalogUnreachable("refused", sent=False), answer(429)])
def test_a_post_that_was_certainly_not_processed_is_repeated(failure):
    driver = Driver(failure, answer(201, {"id": "s"}))

    assert driver.run(call(endpoints.CREATE_SOURCE, body={})) == {"id": "s"}


def test_a_success_that_is_not_json_is_an_error():
    with pytest.raises(GeoCatalogProtocolError, match="not JSON"):
        Driver(Response(200, {"content-type": "text/html"}, b"<html>")).run(
            call(endpoints.GET_COLLECTION, {"collection_id": "x"})
        )


# --- lists -----------------------------------------------------------------------------------------------------------


def test_a_list_is_read_over_its_pages_and_as_a_bare_array():
    driver = Driver(answer(200, {"value": [1], "nextLink": "https://g/n"}), answer(200, {"value": [2]}))

    assert driver.run(pages(endpoints.LIST_SOURCES, int).read_all()) == [1, 2]
    assert Driver(answer(200, [3])).run(pages(endpoints.LIST_SOURCES, int).read_all()) == [3]


def test_pages_that_form_a_loop_are_an_error():
    with pytest.raises(GeoCatalogProtocolError, match="came twice"):
        Driver(answer(200, {"value": [1], "nextLink": "https://g/n"})).run(
            pages(endpoints.LIST_SOURCES, str).read_all()
        )


# --- collections -----------------------------------------------------------------------------------------------------


def test_the_id_of_a_deleted_collection_is_waited_for():
    missing, taken, unknown = answer(404), answer(409), answer(200, {"value": []})
    accepted = answer(202, operation("Pending"), location="https://g/o")
    driver = Driver(missing, taken, missing, unknown, taken, missing, unknown, accepted)

    change = driver.run(begin_create_collection({"id": "c"}, if_exists=IfExists.FAIL))

    assert change.started.operation.operation_id == "op"
    assert driver.pauses == [5.0, 5.0]


def test_a_creation_whose_answer_was_lost_is_found_again():
    listed = answer(200, {"value": [operation("Running", type="AddCollection", collectionId="c")]})
    driver = Driver(answer(404), GeoCatalogUnreachable("cut", sent=True), listed)

    change = driver.run(begin_create_collection({"id": "c"}, if_exists=IfExists.FAIL))

    assert change.started.operation.operation_id == "op"
    assert driver.sent.count("create_collection") == 1


def test_replacing_keeps_the_assets_that_the_service_manages():
    existing = {"id": "c", "title": "old", "assets": {"thumbnail": {"href": "x"}}}
    driver = Driver(answer(200, existing), answer(200, {"value": []}), answer(200, existing))

    change = driver.run(begin_create_collection({"id": "c", "title": "new"}, if_exists=IfExists.UPDATE))

    assert (change.action, driver.requests[-1].endpoint) == ("updated", endpoints.REPLACE_COLLECTION)
    assert driver.requests[-1].body["assets"] == existing["assets"]


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [GeoCatalogUnreachable("cut", sent=True), answer(503), Response(201, {}, b"{")])
def test_a_run_whose_answer_was_lost_is_found_and_no_second_one_is_started(lost):
    before = answer(200, {"value": []})
    driver = Driver(before, lost, before, answer(200, {"value": [run_json()]}))

    assert driver.run(create_run("c", "i")).run_id == "r1"
    assert driver.sent.count("create_run") == 1


def test_a_run_that_the_service_refused_is_not_looked_for():
    driver = Driver(answer(200, {"value": []}), answer(409))

    with pytest.raises(Exception, match="409"):
        driver.run(create_run("c", "i"))
    assert driver.sent == ["list_runs", "create_run"]


def adopted(*runs, max_failed_items=0):
    driver = Driver(answer(200, {"value": list(runs)}), answer(201, run_json("new", "Pending")))
    flow = ensure_run("c", "i", if_run_exists=IfRunExists.ADOPT, max_failed_items=max_failed_items)
    started = driver.run(flow)
    return started.run.run_id if started.adopted else None


def test_a_live_or_a_succeeded_run_is_adopted_and_no_other():
    bad = {"totalItems": 2, "totalFailedItems": 1, "totalSuccessfulItems": 1}

    assert adopted(run_json("live"), run_json("old", "Succeeded")) == "live"
    assert adopted(run_json("good", "Succeeded")) == "good"
    assert adopted(run_json("odd", "Resting")) == "odd"
    assert adopted(run_json("bad", "Succeeded", **bad)) is None
    assert adopted(run_json("bad", "Succeeded", **bad), max_failed_items=1) == "bad"
    for word in ("Failed", "Canceled", "Canceling"):
        assert adopted(run_json("x", word)) is None


@pytest.mark.parametrize(("status", "taken"), [(204, True), (400, False), (404, False)])
def test_cancelling_what_has_ended_is_no_error(status, taken):
    assert Driver(answer(200, operation("Running")), answer(status)).run(cancel_if_active("op")) is taken


# --- waiting ---------------------------------------------------------------------------------------------------------

POLICY = PollPolicy(interval=30, first=2, outage=600)


@pytest.mark.parametrize("word", ["Succeeded", "Failed", "Canceled", "Finished", "cancelled"])
def test_a_wait_ends_with_each_final_word(word):
    driver = Driver(
        answer(200, operation("Pending")), answer(200, operation("Canceling")), answer(200, operation(word))
    )

    assert driver.run(wait_for_operation("op", policy=POLICY)).status == Status(word)


def test_polls_slow_down_and_retry_after_wins():
    busy = answer(429, retry_after="100")
    driver = Driver(*[answer(200, operation("Running"))] * 12, busy, answer(200, operation("Succeeded")))

    driver.run(wait_for_operation("op", policy=POLICY))

    assert driver.pauses[0] < 3 < driver.pauses[4] < 33
    assert max(driver.pauses[:-1]) <= 33
    assert driver.pauses[-1] == 100


def test_an_outage_is_ridden_out_within_its_budget(caplog):
    outage = [answer(503), GeoCatalogUnreachable("dns", sent=False)] * 4
    driver = Driver(answer(200, operation("Running")), *outage, answer(200, operation("Succeeded")))

    with caplog.at_level(logging.INFO):
        driver.run(wait_for_operation("op", policy=POLICY))

    assert caplog.text.count("fails:") == 1
    assert caplog.text.count("works again") == 1
    with pytest.raises(GeoCatalogServerError):
        Driver(answer(503)).run(wait_for_operation("op", policy=PollPolicy(30, 2, outage=60)))


def test_what_cannot_pass_ends_the_wait_at_once():
    with pytest.raises(GeoCatalogBadRequest):
        Driver(answer(400)).run(wait_for_operation("op", policy=POLICY))


def test_a_deadline_tells_how_far_the_run_was():
    driver = Driver(
        answer(200, run_json(totalItems=10, totalSuccessfulItems=3, totalFailedItems=1, totalPendingItems=6))
    )

    with pytest.raises(GeoCatalogWaitTimeout, match=r"4 of 10 items done \(40 %\), 1 failed"):
        driver.run(wait_for_run("c", "i", "r1", policy=POLICY, deadline=driver.now + 100))
    assert sum(driver.pauses) == pytest.approx(100)


def test_a_polling_url_on_another_host_is_replaced_by_the_operations_id():
    driver = Driver(GeoCatalogForeignUrl("elsewhere"), answer(200, operation("Succeeded")))

    driver.run(wait_for_operation("op", url="https://other/op", policy=POLICY))

    assert driver.sent == ["get_operation https://other/op", "get_operation"]


def test_an_unknown_word_is_named_once_and_waited_on(caplog):
    driver = Driver(*[answer(200, operation("Resting"))] * 3, answer(200, operation("Succeeded")))

    with caplog.at_level(logging.INFO):
        driver.run(wait_for_operation("op", policy=POLICY, observe=ProgressLog(logging.getLogger(), "it").observe))

    assert caplog.text.count("'Resting', which this provider does not know") == 1


# --- outcomes --------------------------------------------------------------------------------------------------------


def ended(status, *, failed=0, succeeded=0, code=None):
    counts = {"TotalItems": failed + succeeded, "TotalFailedItems": str(failed), "TotalSuccessfulItems": succeeded}
    error = {"error": {"error": {"code": code, "message": f"because {code}"}}} if code else {}
    return Operation.from_json({**operation(status), "additionalInformation": counts, **error})


@pytest.mark.parametrize("status", ["Failed", "Succeeded"])
def test_failed_items_are_judged_alike_whatever_the_status(status):
    found = ended(status, failed=2, succeeded=3, code="ErrorsInBatchOperation" if status == "Failed" else None)

    with pytest.raises(GeoCatalogItemsFailed, match="2 failed items"):
        require_success(found, what="it")
    require_success(found, what="it", max_failed_items=2)


def test_a_cancelled_operation_and_a_failed_one_are_no_success():
    with pytest.raises(GeoCatalogOperationCanceled):
        require_success(ended("Canceled"), what="it", max_failed_items=9)
    with pytest.raises(GeoCatalogOperationFailed, match="because InvalidStacCatalog"):
        require_success(ended("Failed", code="InvalidStacCatalog"), what="it", max_failed_items=9)


@pytest.mark.parametrize("code", sorted(FAULT_CODES.keys() - {"ErrorsInBatchOperation"}))
def test_every_documented_code_tells_what_to_do_and_whether_a_retry_helps(code):
    with pytest.raises(GeoCatalogOperationFailed) as caught:
        require_success(ended("Failed", code=code), what="it")

    assert FAULT_CODES[code].action in str(caught.value)
    assert caught.value.retryable is FAULT_CODES[code].transient


def test_all_documented_codes_are_there():
    assert len(FAULT_CODES) == 35


# --- errors and secrets ----------------------------------------------------------------------------------------------

GET = Request(endpoints.GET_RUN, {"collection_id": "a/b", "ingestion_id": "i", "run_id": "r"})


def test_both_error_envelopes_and_other_bodies_are_read():
    a = error_for(GET, answer(404, {"error": {"code": "ResourceNotFound", "message": "gone"}}, x_request_id="abc"))
    b = error_for(GET, answer(404, {"title": "Not Found", "status": 404}))
    other = error_for(GET, Response(502, {}, b"<html>Bad\n gateway</html>"))

    assert (type(a), a.code, a.request_id) == (GeoCatalogNotFound, "ResourceNotFound", "abc")
    assert "GET /collections/a%2Fb/ingestions/i/runs/r answered 404 ResourceNotFound: gone." in str(a)
    assert "Not Found" in str(b)
    assert (other.retryable, "<html>Bad gateway</html>" in str(other)) == (True, True)


def test_retry_after_is_read_in_both_forms():
    date, later = "Wed, 01 Jan 2026 10:00:00 GMT", "Wed, 01 Jan 2026 10:00:42 GMT"

    assert error_for(GET, answer(429, retry_after="5")).retry_after == 5
    assert error_for(GET, answer(429, retry_after=later, date=date)).retry_after == 42
    assert error_for(GET, answer(429, retry_after="soon")).retry_after is None


def test_errors_survive_pickling():
    error = error_for(GET, answer(429, {"error": {"code": "Busy", "message": "wait"}}, retry_after="5"))

    again = pickle.loads(pickle.dumps(error))

    assert (type(again), str(again), again.retry_after) == (GeoCatalogThrottled, str(error), 5)


SECRET = "AbC9zY8%2BxW7%2F6v5%3D"


@pytest.mark.parametrize(
    "text",
    [
        f"https://a.blob.core.windows.net/c?sv=1&sig={SECRET}&se=2",
        f"sig={SECRET}",
        f'{{"href": "https://a/c?sv=1&sig={SECRET}"}}',
        f"https://g/sign?href=https%3A%2F%2Fa%2Fc%3Fsv%3D1%26sig%3D{SECRET}",
        f"Authorization: Bearer {SECRET}{SECRET}",
        f"'client_secret': '{SECRET}'",
        f"token eyJhbGciOi.eyJzdWIiOi.{SECRET.replace('%', '')}",
    ],
)
def test_secrets_are_masked_in_whatever_people_read(text):
    assert SECRET.replace("%", "")[:9] not in redact(text).replace("%", "")
    assert SECRET not in str(GeoCatalogBadRequest(text))


@given(st.text(alphabet="ABCabc019+/=%-_", min_size=1))
def test_a_signature_is_found_in_every_token(signature):
    assert signature in signatures(f"sv=1&sig={signature}&se=2")


# --- the table of operations -----------------------------------------------------------------------------------------


def test_an_operation_that_a_version_lacks_is_refused_by_name():
    with pytest.raises(GeoCatalogUnsupportedOperation, match=r"2024-01-31-preview.*list_managed_identities"):
        DIALECTS["2024-01-31-preview"].template(endpoints.LIST_MANAGED_IDENTITIES)


def test_what_a_version_lacks_is_named_in_the_table():
    assert all(DIALECTS[version].lacks <= ENDPOINTS.keys() for version in API_VERSIONS)


@given(st.text(min_size=1, max_size=30))
def test_an_id_never_leaves_its_path_segment(collection_id):
    path = endpoints.GET_COLLECTION.fill({"collection_id": collection_id})

    assert path.count("/") == 2
    assert not set("?# ") & set(path)


def test_a_run_is_read_as_recorded():
    body = {
        "id": "7",
        "creationTime": "2026-06-11T11:37:49.9710866Z",
        "operation": {
            "id": "7",
            "status": "Failed",
            "statusHistory": [
                {"status": "Pending", "timestamp": "2026-06-11T11:37:49.9618085Z"},
                {"status": "Failed", "timestamp": "2026-06-11T11:40:00Z", "errorCode": "X", "errorMessage": "y"},
            ],
            "totalItems": 3,
            "totalSuccessfulItems": 1,
            "totalFailedItems": 2,
            "totalPendingItems": 0,
        },
    }

    found = Run.from_json(body)

    assert (found.operation.counts.total, found.operation.counts.failed, found.operation.fault.code) == (3, 2, "X")
    assert (found.created_at.microsecond, found.created_at.utcoffset().total_seconds()) == (971086, 0)
