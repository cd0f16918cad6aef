"""One call: retries, budget, lists, and what starts an operation."""

from __future__ import annotations

import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_geocatalog.api import endpoints, errors
from airflow_provider_geocatalog.api.calls import (
    NO_RETRIES,
    Retries,
    attempt,
    call,
    can_repeat,
    is_ambiguous,
    pages,
    start,
)
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.api.flows.items import present_items
from airflow_provider_geocatalog.api.http import Request, Response
from airflow_provider_geocatalog.api.operations.items import list_items
from airflow_provider_geocatalog.api.operations.operations import cancel_operation, get_operation
from tests.fakes.stepping import Steps, answer, listed

CUT = errors.GeoCatalogUnreachable("cut off", sent=True)
REFUSED = errors.GeoCatalogUnreachable("refused", sent=False)


@given(st.integers(0, 200))
def test_jitter_is_full_and_bounded(attempt_number):
    retries = Retries(base=0.5, cap=20)

    delays = [retries.delay(attempt_number, None) for _ in range(20)]

    assert all(0 <= delay <= min(20, 0.5 * 2**attempt_number) for delay in delays)


def test_jitter_uses_its_whole_range():
    delays = [Retries(base=1, cap=10).delay(20, None) for _ in range(400)]

    assert min(delays) < 2
    assert max(delays) > 8


@pytest.mark.parametrize("name", ["get_collection", "replace_collection", "delete_collection", "search"])
@pytest.mark.parametrize("failure", [answer(408), answer(429), answer(500), answer(503), CUT, REFUSED])
def test_what_can_be_repeated_is_repeated(name, failure):
    request = Request(ENDPOINTS[name], {"collection_id": "c"})
    steps = Steps(failure, answer(200))

    assert steps.run(attempt(request)).status == 200
    assert steps.sent == [name, name]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409])
def test_what_a_repetition_cannot_mend_is_not_repeated(status):
    steps = Steps(answer(status))

    with pytest.raises(errors.GeoCatalogError):
        steps.run(call(endpoints.GET_COLLECTION, {"collection_id": "c"}))
    assert steps.pauses == []


@pytest.mark.parametrize(
    "endpoint", [e for e in ENDPOINTS.values() if e.method in {"POST", "PATCH"}], ids=lambda e: e.name
)
def test_a_write_that_may_have_been_done_is_not_repeated(endpoint):
    for error in (CUT, errors.error_for(Request(endpoint, dict.fromkeys(NAMES, "x")), answer(503))):
        assert can_repeat(Request(endpoint), error) is endpoint.read_only


NAMES = ("collection_id", "ingestion_id", "run_id", "source_id", "item_id", "asset_id", "mosaic_id", "queryable_name")


def test_a_post_is_repeated_when_no_token_could_be_had_for_it():
    no_token = errors.GeoCatalogAuthenticationError("sign-in is down", retryable=True)
    steps = Steps(no_token, answer(201, {"id": "s"}))

    assert steps.run(call(endpoints.CREATE_SOURCE, body={})) == {"id": "s"}


@pytest.mark.parametrize(
    ("error", "ambiguous"),
    [
        (CUT, True),
        (REFUSED, False),
        (errors.GeoCatalogServerError("x", status=500), True),
        (errors.GeoCatalogProtocolError("x"), True),
        (errors.GeoCatalogThrottled("x", status=408), True),
        (errors.GeoCatalogThrottled("x", status=429), False),
        (errors.GeoCatalogConflict("x", status=409), False),
        (errors.GeoCatalogBadRequest("x", status=400), False),
        (errors.GeoCatalogAuthenticationError("x", status=401), False),
    ],
)
def test_it_is_known_after_which_errors_one_has_to_look(error, ambiguous):
    assert is_ambiguous(error) is ambiguous


def test_a_wait_beyond_the_budget_is_not_begun():
    steps = Steps(answer(429, retry_after="31"))

    with pytest.raises(errors.GeoCatalogThrottled):
        steps.run(call(endpoints.GET_COLLECTION, {"collection_id": "c"}, retries=Retries(budget=30)))
    assert steps.pauses == []


def test_the_budget_counts_from_the_first_attempt():
    steps = Steps(*[answer(503, retry_after="10")] * 4)

    with pytest.raises(errors.GeoCatalogServerError):
        steps.run(call(endpoints.GET_COLLECTION, {"collection_id": "c"}, retries=Retries(budget=30)))
    assert steps.pauses == [10, 10, 10]


@pytest.mark.parametrize("retry_after", ["0", None])
def test_no_retries_means_one_attempt(retry_after):
    headers = {"retry_after": retry_after} if retry_after else {}
    steps = Steps(answer(503, **headers))

    with pytest.raises(errors.GeoCatalogServerError):
        steps.run(call(endpoints.GET_COLLECTION, {"collection_id": "c"}, retries=NO_RETRIES))


def test_a_retry_after_of_zero_makes_no_tight_loop():
    steps = Steps(lambda _: answer(503, retry_after="0"))

    with pytest.raises(errors.GeoCatalogServerError):
        steps.run(call(endpoints.GET_COLLECTION, {"collection_id": "c"}, retries=Retries(budget=30)))
    assert len(steps.sent) <= 61


def test_an_empty_success_is_none():
    assert Steps(answer(204)).run(call(endpoints.DELETE_SOURCE, {"source_id": "s"})) is None
    assert Steps(Response(200, {}, b" \r\n")).run(call(endpoints.GET_COLLECTION, {"collection_id": "c"})) is None


def test_pages_are_followed_without_the_first_query():
    first = answer(200, {"value": [1], "nextLink": "https://g/next?$skip=1"})
    steps = Steps(first, listed(2, 3))

    assert steps.run(pages(endpoints.LIST_OPERATIONS, int, query={"status": "Running"}).read_all()) == [1, 2, 3]
    assert [(r.url, r.query) for r in steps.requests] == [
        (None, {"status": "Running"}),
        ("https://g/next?$skip=1", {}),
    ]


def test_pages_that_go_round_in_three_are_an_error():
    links = iter(["https://g/a", "https://g/b", "https://g/c", "https://g/a"])

    with pytest.raises(errors.GeoCatalogProtocolError, match="loop"):
        Steps(lambda _: answer(200, {"value": [], "nextLink": next(links)})).run(
            pages(endpoints.LIST_SOURCES, str).read_all()
        )


@pytest.mark.parametrize("body", [None, {}, {"value": None}, {"value": {}}, "x", 7])
def test_what_is_no_list_is_an_error(body):
    with pytest.raises(errors.GeoCatalogProtocolError, match="a list was expected"):
        Steps(answer(200, body)).run(pages(endpoints.LIST_SOURCES, str).read_all())


OPERATION = {"id": "op", "status": "Pending"}


def started(response, *more):
    return Steps(response, *more).run(start(endpoints.DELETE_COLLECTION, {"collection_id": "c"}))


def test_the_polling_url_is_operation_location_and_else_location():
    both = answer(202, OPERATION, location="https://g/l", operation_location="https://g/o")

    assert started(both).url == "https://g/o"
    assert started(answer(202, OPERATION, location="https://g/l")).url == "https://g/l"
    assert started(answer(202, OPERATION)).url is None


@pytest.mark.parametrize("status", [200, 204])
def test_an_answer_other_than_202_starts_nothing_to_wait_for(status):
    assert started(answer(status)).operation is None


@pytest.mark.parametrize("url", ["https://g/inma/operations/op?api-version=1", "https://g/inma/operations/op/"])
def test_a_202_without_a_body_is_told_by_its_url_so_that_nothing_can_lose_it(url):
    found = started(answer(202, location=url))

    assert (found.operation.operation_id, str(found.operation.status), found.url) == ("op", "Pending", url)


def test_a_202_that_names_nothing_is_an_error():
    with pytest.raises(errors.GeoCatalogProtocolError, match="names no operation"):
        started(answer(202))


def test_a_bare_list_goes_on_after_a_full_page():
    answers = {"0": [1, 2], "2": [3, 4], "4": []}
    steps = Steps(lambda r: answer(200, answers[r.query.get("$skip", "0")]))

    found = steps.run(pages(endpoints.LIST_OPERATIONS, int, query={"$top": "2"}).read_all())

    assert (found, len(steps.requests)) == ([1, 2, 3, 4], 3)


@pytest.mark.parametrize("query", [{}, {"$top": "2"}])
def test_a_bare_list_ends_with_a_page_that_is_not_full(query):
    steps = Steps(answer(200, [1, 2, 3]))

    assert steps.run(pages(endpoints.LIST_OPERATIONS, int, query=query).read_all()) == [1, 2, 3]


@pytest.mark.parametrize("links", [5, True, {"rel": "next"}, "next"])
def test_links_that_are_no_list_end_no_list_silently(links):
    steps = Steps(answer(200, {"features": [{"id": "a"}], "links": links}))

    with pytest.raises(errors.GeoCatalogProtocolError, match="'links' is no list"):
        steps.run(list_items("c").read_all())


def test_items_are_looked_for_in_hundreds():
    wanted = [f"i{n}" for n in range(250)]
    steps = Steps(lambda r: answer(200, {"features": [{"id": i} for i in r.body["ids"] if not i.endswith("7")]}))

    found = steps.run(present_items("c", wanted))

    assert found == {i for i in wanted if not i.endswith("7")}
    assert [(len(r.body["ids"]), r.body["limit"]) for r in steps.requests] == [(100, 100), (100, 100), (50, 50)]


@pytest.mark.parametrize("body", [None, {}, {"features": None}, []])
def test_a_search_without_items_in_its_answer_is_an_error(body):
    with pytest.raises(errors.GeoCatalogProtocolError, match="list of features"):
        Steps(answer(200, body)).run(present_items("c", ["a"]))


def test_a_retry_after_date_is_measured_on_the_drivers_clock():
    steps = Steps(lambda _: None)
    at = email.utils.formatdate(steps.clock.now + 17, usegmt=True)
    steps = Steps(answer(503, retry_after=at), answer(200, {"id": "c"}))

    steps.run(call(endpoints.GET_COLLECTION, {"collection_id": "c"}))

    assert steps.pauses == [17]


@pytest.mark.parametrize("body", [[], {"id": "x"}, "text", 5])
def test_an_answer_that_is_not_what_was_asked_for_says_which_exchange_it_was(body):
    steps = Steps(answer(200, body, x_request_id="abc"))

    with pytest.raises(errors.GeoCatalogProtocolError) as caught:
        steps.run(get_operation("op"))

    error = caught.value
    assert (error.status, error.method, error.path, error.request_id) == (200, "GET", "/operations/op", "abc")


def test_a_page_of_nameless_entries_that_comes_again_is_noticed():
    page = {"features": [{"type": "Feature", "id": "a"}]}
    links = (f"https://g/{n}" for n in range(1000))
    steps = Steps(lambda _: answer(200, {**page, "links": [{"rel": "next", "href": next(links)}]}))

    with pytest.raises(errors.GeoCatalogProtocolError, match="came twice"):
        steps.run(list_items("c").read_all())


def test_ids_that_are_no_text_end_no_list_with_an_error_of_python():
    steps = Steps(answer(200, {"features": [{"type": "Feature", "id": {"a": 1}, "collection": "c"}]}))

    assert len(steps.run(list_items("c").read_all())) == 1


@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_write_that_was_done_succeeded_whatever_its_code(status):
    assert Steps(answer(status)).run(call(endpoints.REPLACE_PARTITION_TYPE, {"collection_id": "c"})) is None


def test_a_read_has_one_code_of_success():
    with pytest.raises(errors.GeoCatalogError):
        Steps(answer(204)).run(call(endpoints.GET_COLLECTION, {"collection_id": "c"}))


def test_a_cancellation_whose_answer_was_lost_was_done():
    steps = Steps(answer(504), answer(400, {"error": {"code": "ValidationError", "message": "Cannot cancel"}}))

    assert steps.run(cancel_operation("op")) is None


def test_a_post_that_may_have_been_done_says_so():
    with pytest.raises(errors.GeoCatalogServerError) as caught:
        Steps(answer(502)).run(call(endpoints.CREATE_SOURCE, body={}))

    assert caught.value.ambiguous
    assert "look before you call again" in str(caught.value)
    assert "A retry can help" not in str(caught.value)
