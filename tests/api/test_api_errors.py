"""What an answer that is no success becomes, and what of it people get to read."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_geocatalog.api import endpoints, errors
from airflow_provider_geocatalog.api.errors import GeoCatalogError, error_for
from airflow_provider_geocatalog.api.http import Request, Response
from airflow_provider_geocatalog.api.redaction import redact, signatures


def answer(status=200, body=None, **headers):
    """Return a response; header names are written with underscores."""
    content = b"" if body is None else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


GET = Request(endpoints.GET_COLLECTION, {"collection_id": "c"})


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, errors.GeoCatalogBadRequest, False),
        (401, errors.GeoCatalogAuthenticationError, False),
        (403, errors.GeoCatalogPermissionError, False),
        (404, errors.GeoCatalogNotFound, False),
        (408, errors.GeoCatalogThrottled, True),
        (409, errors.GeoCatalogConflict, False),
        (418, errors.GeoCatalogBadRequest, False),
        (429, errors.GeoCatalogThrottled, True),
        (500, errors.GeoCatalogServerError, True),
        (501, errors.GeoCatalogServerError, False),
        (502, errors.GeoCatalogServerError, True),
        (503, errors.GeoCatalogServerError, True),
        (504, errors.GeoCatalogServerError, True),
        (599, errors.GeoCatalogServerError, False),
        (302, errors.GeoCatalogProtocolError, False),
    ],
)
def test_a_status_decides_the_class_and_whether_a_retry_helps(status, kind, retryable):
    error = error_for(GET, answer(status))

    assert (type(error), error.status, error.retryable) == (kind, status, retryable)


def test_the_code_in_the_header_wins_over_the_one_in_the_body():
    body = {"error": {"code": "Inner", "message": "m"}}

    assert error_for(GET, answer(400, body, x_ms_error_code="Outer")).code == "Outer"
    assert error_for(GET, answer(400, body)).code == "Inner"


def test_validation_problems_of_the_write_side_are_told():
    body = {"title": "One or more validation errors occurred.", "status": 400, "errors": {"importType": ["required"]}}

    assert "importType" in str(error_for(GET, answer(400, body)))


@pytest.mark.parametrize("body", [[], 7, "text", {}, {"error": None}, {"error": {"code": 7}}, {"error": {"code": []}}])
def test_an_odd_body_is_an_error_like_any_other(body):
    error = error_for(GET, answer(500, body))

    assert str(error).startswith("GET /collections/c answered 500")


def test_a_long_body_is_quoted_in_part():
    assert len(str(error_for(GET, Response(502, {}, b"<p>" + b"x" * 9000)))) < 500


def test_the_text_names_the_front_doors_id_if_the_service_gives_none():
    assert "[request id azure-1]" in str(error_for(GET, answer(500, x_azure_ref="azure-1")))
    assert "[request id own]" in str(error_for(GET, answer(500, x_azure_ref="azure-1", x_request_id="own")))


def test_a_refused_api_version_is_answered_with_those_that_are_supported():
    body = {"error": {"code": "UnsupportedApiVersion", "message": "no"}}

    text = str(error_for(GET, answer(400, body, api_supported_versions="2025-04-30-preview, 2026-04-15")))

    assert "The service supports 2025-04-30-preview, 2026-04-15." in text


DATE = "Thu, 01 Jan 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("-3", 0),
        ("1.5", 1.5),
        ("Thu, 01 Jan 2026 10:00:30 GMT", 30),
        ("Thu, 01 Jan 2026 10:00:30 -0000", 30),
        ("Thu, 01 Jan 2026 09:00:00 GMT", 0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
    ],
)
def test_retry_after_is_read_by_the_services_clock(value, seconds):
    assert error_for(GET, answer(429, retry_after=value, date=DATE)).retry_after == seconds


@pytest.mark.parametrize("date", [None, "nonsense", "Thu, 01 Jan 2026 10:00:00 -0000"])
def test_a_date_of_retry_after_is_read_without_a_usable_date_as_well(date):
    headers = {"date": date} if date else {}

    assert error_for(GET, answer(429, retry_after="Fri, 01 Jan 2100 00:00:00 GMT", **headers)).retry_after > 1e6


def test_errors_with_details_of_their_own_survive_pickling():
    timeout = errors.GeoCatalogWaitTimeout("late", summary={"items": 3}, hint="wait")
    unreachable = errors.GeoCatalogUnreachable("cut", sent=False)
    refused = errors.GeoCatalogInvalidInput(["a", "b"], subject="it")

    again = pickle.loads(pickle.dumps([timeout, unreachable, refused]))

    assert [str(error) for error in again] == [str(timeout), str(unreachable), str(refused)]
    assert (again[0].summary, again[1].sent, again[2].problems) == ({"items": 3}, False, ["a", "b"])


# --- secrets ---------------------------------------------------------------------------------------------------------

SECRET = "Zq9SECRETvalue7Xk"


@pytest.mark.parametrize(
    "text",
    [
        f"(sig={SECRET})",
        f"a=1%26sig%3D{SECRET}%26se%3D2",
        f"https%253A%252F%252Fa%252Fc%253Fsv%253D1%2526sig%253D{SECRET}",
        f"sv=1\\u0026sig\\u003d{SECRET}",
        f"sv=1&amp;sig={SECRET}",
        f"?SIG={SECRET}",
        json.dumps({"sig": SECRET}),
        str({"sig": [SECRET]}),
        json.dumps({"sasToken": f"sv=1&sig={SECRET}"}),
        json.dumps(json.dumps({"client_secret": SECRET})),
        json.dumps({"password": f"correct {SECRET}, horse}} & battery"}),
        json.dumps({"password": f'with "quotes" {SECRET}'}),
        '{"client_secret": "' + SECRET,
        f"grant_type=x&client_secret={SECRET}&scope=y",
        f"AccountName=a;AccountKey={SECRET}==;EndpointSuffix=b",
        f"https://user:{SECRET}@example.com/x",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"authorization: bearer   {SECRET}",
        f"https://user:p@{SECRET}@example.com/x",
        f"postgres://user:{SECRET}@{SECRET}@example.com",
        f"https://h/stac?token={SECRET}",
        f"https://h/stac?a=1&key={SECRET}&b=2",
        f"https://h/stac?maxar_api_key={SECRET}",
        f"https://h/stac?a=1&amp;api-key={SECRET}",
        f"https://cdn/x.tif?Policy=p&Signature={SECRET}&Key-Pair-Id=1",
        f"https://h/function?code={SECRET}",
        f"https://h/stac?auth={SECRET}",
        f"href=https%3A%2F%2Fh%2Fstac%3Ftoken%3D{SECRET}",
        f"client_secret%3D{SECRET}",
        f"X-API-Key: {SECRET}",
        json.dumps({"Ocp-Apim-Subscription-Key": SECRET}),
        f"Authorization: Basic {SECRET}",
        str({"Authorization": f"Basic {SECRET}"}),
        f"bearer%20{SECRET}",
        f"it was eyJhbGciOiJub25l.eyJzdWIiOiJ4{SECRET}.{SECRET}, you see",
    ],
)
def test_a_secret_is_masked_in_every_way_of_writing_it(text):
    assert "SECRET" not in redact(text)
    assert "SECRET" not in str(errors.GeoCatalogBadRequest(text, hint=text))


@pytest.mark.parametrize(
    "text",
    [
        "https://h/stac?design=blue&signal=4 and 10:30@noon",
        "the client secret (password) is missing",
        "https://acct.blob.core.windows.net/c/catalog.json?sv=2023&se=2026",
        "collection 'sig' exists",
        '{"token": "next:abcdefgh", "key": "visual", "code": "InvalidInput"}',
        "code=InvalidInput token=next:abcdefgh key: visual",
        "basic authorization is needed: https://h:8080/x@y",
        "abfs://container@account.dfs.core.windows.net/x",
        "https://h/search?limit=5&sortby=keys&Key-Pair-Id=1&author=me",
    ],
)
def test_what_is_no_secret_stays_readable(text):
    assert redact(text) == text


BASE64 = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", min_size=43, max_size=43)


@given(BASE64, st.sampled_from([0, 1, 2, 3]))
def test_every_signature_is_masked_however_often_it_is_encoded(signature, times):
    from urllib.parse import quote

    secret, text = f"{signature}=", f"https://a/c?sv=1&sig={quote(signature + '=', safe='')}&se=2"
    for _ in range(times):
        text = quote(text, safe="")

    masked = redact(f"GET /sign?href={text} failed")

    assert "***" in masked
    assert not any(part in masked for part in (secret, signature[:8]) if part.isalnum())


@given(BASE64)
def test_both_spellings_of_a_signature_are_handed_to_the_masker(signature):
    from urllib.parse import quote

    written = quote(signature + "=", safe="")

    assert signatures(f"sv=1&sig={written}&se=2") == {written, signature + "="}


@pytest.mark.parametrize("written", ["ab%2bCD%2fef%3d", "ab%2bCD/ef=", "ab+CD/ef=", "ab%2BCD%2Fef%3D"])
def test_a_signature_is_handed_to_the_masker_as_it_is_sent(written):
    from requests import Request

    url = str(Request("GET", f"https://a/c?sig={written}").prepare().url)
    from urllib3.util import parse_url

    found = signatures(f"sv=1&sig={written}&se=2")

    assert {written, "ab+CD/ef=", "ab%2BCD%2Fef%3D"} <= found
    assert {url.rpartition("sig=")[2], str(parse_url(url)).rpartition("sig=")[2]} <= found


def test_masking_twice_is_masking_once():
    once = redact(f"?sig={SECRET} Bearer {SECRET} password: '{SECRET}'")

    assert redact(once) == once


def test_every_error_class_belongs_to_the_tree():
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]

    assert len(classes) >= 18
    assert all(issubclass(kind, GeoCatalogError) and kind.__name__ in errors.__doc__ for kind in classes)
