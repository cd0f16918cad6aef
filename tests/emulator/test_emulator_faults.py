"""Faults on the wire and in operations, seen over real sockets by `requests` and by the provider's own client."""

from __future__ import annotations

import base64
import email.utils
import json
import time
from typing import Any

import pytest
import requests
from azure.core.credentials import AccessToken

from airflow_provider_geocatalog.api.errors import (
    GeoCatalogItemsFailed,
    GeoCatalogOperationFailed,
    GeoCatalogProtocolError,
    GeoCatalogUnreachable,
)
from airflow_provider_geocatalog.api.flows import ingestion
from airflow_provider_geocatalog.auth import ConnectionSettings, StaticTokenCredential, TokenSource
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.emulator.clock import ManualClock
from airflow_provider_geocatalog.emulator.faults import RULES
from airflow_provider_geocatalog.rate_limit import RateLimit

BROKEN = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
COLLECTIONS = "/stac/collections"


class Impatient:
    """A client's clock on which pauses take no time, but are remembered."""

    def __init__(self) -> None:
        self.now, self.pauses = time.time(), []

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def faults(demo):
    return demo.server.emulator.faults


@pytest.fixture
def provider(demo):
    """The provider's own client of the same emulator."""
    credential = StaticTokenCredential(demo.server.admin_token)
    client = GeoCatalogClient(
        ConnectionSettings(demo.server.url, requests_per_second=1000),
        tokens=TokenSource(lambda: credential, "scope", "the emulator's token"),
        clock=Impatient(),
        rate_limit=RateLimit(),
    )
    yield client
    client.close()


def jwt(issued: float) -> str:
    claims = {
        "aud": "https://geocatalog.spatio.azure.com",
        "roles": ["GeoCatalog Administrator"],
        "iat": int(issued),
        "exp": time.time() + 3600,
    }
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.x"


def codes(client: Any, number: int, path: str = COLLECTIONS) -> list[int]:
    return [client.get(path).status_code for _ in range(number)]


# --- which requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "struck"),
    [
        ({}, [503, 503, 503, 503]),
        ({"times": 2}, [503, 503, 200, 200]),
        ({"nth": 3}, [200, 200, 503, 200]),
        ({"skip": 1, "times": 1}, [200, 503, 200, 200]),
        ({"operations": "list_collections"}, [503, 503, 503, 503]),
        ({"operations": ["create_run", "get_run"]}, [200, 200, 200, 200]),
        ({"methods": ["POST", "DELETE"]}, [200, 200, 200, 200]),
        ({"path": "/coll[e]ctions$"}, [503, 503, 503, 503]),
        ({"path": "/items"}, [200, 200, 200, 200]),
        ({"api_versions": "2025-04-30-preview"}, [200, 200, 200, 200]),
    ],
)
def test_a_rule_strikes_what_meets_all_its_conditions(demo, faults, conditions, struck):
    fault = faults.add("status", status=503, **conditions)

    assert codes(demo, 4) == struck
    assert fault.hits == struck.count(503)


def test_what_chance_strikes_is_repeated_with_the_same_seed(demo, faults):
    patterns = []
    for seed in (1, 1, 2):
        faults.clear()
        faults.add("status", status=500, probability=0.5, seed=seed)
        patterns.append(codes(demo, 20))

    assert patterns[0] == patterns[1] != patterns[2]
    assert set(patterns[0]) == {200, 500}


def test_the_first_rule_strikes_and_latencies_add_up(demo, faults):
    faults.add("latency", seconds=0.05)
    faults.add("latency", seconds=0.05, handled=True)
    first = faults.add("status", status=500, times=1)
    second = faults.add("status", status=503)

    begin = time.monotonic()
    assert codes(demo, 2) == [500, 503]
    assert time.monotonic() - begin >= 0.2
    assert (first.hits, second.hits) == (1, 1)


@pytest.mark.parametrize(
    ("effect", "options", "words"),
    [
        ("explode", {}, "'effect' has to be one of latency, status"),
        ("status", {}, "'status': field required"),
        ("status", {"status": 200}, "'status': input should be greater than or equal to 400"),
        ("status", {"status": 500, "operations": "create_runs"}, "'create_runs' not among"),
        ("status", {"status": 500, "path": "("}, "no regular expression"),
        ("status", {"status": 500, "times": 0}, "'times': input should be greater"),
        ("status", {"status": 500, "headers": {"X": "a\r\nb"}}, "printable ASCII"),
        ("drop", {"probability": 2.0}, "'probability'"),
        ("drop", {"wen": 1}, "'wen': no such option"),
        ("fail_items", {"code": "Oops"}, "'Oops' is not among the documented codes"),
        ("hold", {"types": "AddItems"}, "'AddItems' not among AddCollection"),
        ("latency", {"seconds": float("nan")}, "'seconds'"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(faults, effect, options, words):
    with pytest.raises(ValueError, match="(?s)" + words.replace("(", r"\(")):
        faults.add(effect, **options)
    assert len(faults) == 0


# --- answers --------------------------------------------------------------------------------------------------------


def test_throttling_has_the_services_form_and_a_retry_after(demo, faults):
    faults.add("status", status=429, retry_after=7)
    answer = demo.get(COLLECTIONS)

    assert answer.headers["Retry-After"] == "7"
    assert answer.json()["error"]["code"] == answer.headers["x-ms-error-code"] == "TooManyRequests"


def test_retry_after_can_be_a_date(demo, faults):
    faults.add("status", status=503, retry_after=60, retry_after_form="date")
    at = email.utils.parsedate_to_datetime(demo.get(COLLECTIONS).headers["Retry-After"])

    assert 55 < at.timestamp() - time.time() < 65


@pytest.mark.parametrize(
    ("options", "media_type", "content"),
    [
        ({"body": "empty"}, None, ""),
        ({"body": "html"}, "text/html; charset=utf-8", "<h1>502 Bad Gateway</h1>"),
        ({"body": "problem", "message": "no luck"}, "application/problem+json", "no luck"),
        ({"code": "Odd", "message": "very odd", "headers": {"X-Cache": "MISS"}}, "application/json", "very odd"),
    ],
)
def test_an_error_has_the_body_that_was_asked_for(demo, faults, options, media_type, content):
    faults.add("status", status=502, **options)
    answer = demo.get(COLLECTIONS)

    assert answer.status_code == 502
    assert answer.headers.get("Content-Type") == media_type
    assert content in answer.text
    assert answer.headers.get("X-Cache") == options.get("headers", {}).get("X-Cache")


@pytest.mark.parametrize("status", [401, 403])
def test_a_permission_can_be_missing_for_one_operation(demo, faults, status):
    faults.add("status", status=status, operations="get_collection")

    refused = demo.get(f"{COLLECTIONS}/demo")
    assert refused.status_code == status
    assert ("WWW-Authenticate" in refused.headers) == (status == 401)
    assert codes(demo, 1) == [200]


def test_a_page_comes_where_json_was_expected(demo, faults):
    faults.add("html", times=1)
    faults.add("content_type", content_type="application/octet-stream")

    page, file = demo.get(COLLECTIONS), demo.get(COLLECTIONS)
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert file.headers["Content-Type"] == "application/octet-stream"
    assert file.json()["collections"]


@pytest.mark.parametrize("handled", [False, True])
def test_a_gateway_can_lose_patience_before_and_after_the_work(demo, faults, new_collection, handled):
    faults.add("status", status=504, operations="create_collection", handled=handled)

    assert demo.post(COLLECTIONS, json=new_collection("other")).status_code == 504
    assert codes(demo, 1, f"{COLLECTIONS}/other") == [200 if handled else 404]


# --- connections ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handled", [False, True])
def test_a_dropped_connection_did_or_did_not_do_the_work(demo, faults, new_collection, handled):
    faults.add("drop", operations="create_collection", handled=handled, times=1)

    with pytest.raises(requests.ConnectionError):
        demo.post(COLLECTIONS, json=new_collection("other"))

    assert codes(demo, 1, f"{COLLECTIONS}/other") == [200 if handled else 404]
    [record] = [one for one in demo.server.emulator.requests if one.fault]
    assert (record.operation, record.status) == ("create_collection", 202 if handled else 0)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_truncated_answer_breaks_in_the_body(demo, faults, chunked, keep):
    faults.add("truncate", keep=keep, chunked=chunked, times=1)

    with demo.session.get(demo.url + COLLECTIONS, stream=True, timeout=10) as answer:
        assert answer.status_code == 200
        assert ("Content-Length" in answer.headers) != chunked
        with pytest.raises(BROKEN):
            answer.content  # noqa: B018 - reading it is what fails
    assert codes(demo, 1) == [200]


def test_an_answer_without_a_body_is_dropped_instead_of_truncated(demo, faults):
    demo.post("/inma/ingestion-sources", json={})
    faults.add("truncate", operations="cancel_all_operations", times=1)

    with pytest.raises(requests.ConnectionError):
        demo.delete("/inma/operations")
    assert demo.delete("/inma/operations").status_code == 204


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_dripping_answer_is_whole_in_the_end(demo, faults, part):
    faults.add("drip", part=part, size=100, seconds=0.02, times=1)
    begin = time.monotonic()

    answer = demo.get(COLLECTIONS)

    assert [one["id"] for one in answer.json()["collections"]] == ["demo"]
    assert time.monotonic() - begin >= 0.04


def test_a_client_that_gives_up_leaves_nothing_behind(demo, faults):
    faults.add("latency", seconds=0.3, times=1)
    faults.add("drip", seconds=0.1, size=1, times=1)
    with pytest.raises(requests.Timeout):
        demo.session.get(demo.url + COLLECTIONS, timeout=0.05)

    assert codes(demo, 3) == [200, 200, 200]


def test_many_broken_connections_do_no_harm(demo, faults):
    fault = faults.add("drop", probability=0.5, seed=3)
    seen = []
    for _ in range(60):
        try:
            seen.append(demo.get(COLLECTIONS).status_code)
        except requests.ConnectionError:
            seen.append(0)

    assert seen.count(0) == fault.hits
    assert 10 < fault.hits < 50


def test_broken_connections_are_not_reported_as_errors_of_the_server(demo, faults, caplog):
    faults.add("drop", times=1)
    faults.add("truncate", times=1)
    for _ in range(2):
        with pytest.raises(BROKEN):
            demo.get(COLLECTIONS)

    assert codes(demo, 1) == [200]
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_tokens_that_were_used_expire(demo, faults, new_client):
    fault = faults.add("expire_tokens")
    assert codes(demo, 2) == [401, 401]
    assert 'error="invalid_token"' in demo.get(COLLECTIONS).headers["WWW-Authenticate"]

    assert codes(new_client(demo.server, token="reader-token"), 1) == [200]  # never used before
    faults.remove(fault)
    assert codes(demo, 1) == [200]


def test_tokens_issued_before_a_moment_expire(demo, faults, new_client):
    faults.add("expire_tokens")
    old, new = (new_client(demo.server, token=jwt(time.time() + shift)) for shift in (-100, 1))

    assert (codes(old, 1), codes(new, 1)) == ([401], [200])


def test_tokens_can_be_refused_for_some_requests(demo, faults):
    faults.add("expire_tokens", times=2)
    assert codes(demo, 4) == [401, 401, 200, 200]


# --- the provider's client rides it out -----------------------------------------------------------------------------


def test_an_accepted_run_whose_answer_is_lost_is_found(demo, faults, provider, catalogs):
    definition = provider.create_ingestion(
        "demo",
        ingestion.Definition("demo", catalogs.of("a"), "nightly").to_body(),
    )
    faults.add("drop", operations="create_run", handled=True, times=1)

    run = provider.run(ingestion.create_run("demo", definition.ingestion_id))

    assert [one.run_id for one in provider.list_runs("demo", definition.ingestion_id)] == [run.run_id]


def test_a_run_that_was_never_accepted_is_not_made_up(demo, faults, provider, catalogs):
    body = ingestion.Definition("demo", catalogs.of("a"), "nightly").to_body()
    definition = provider.create_ingestion("demo", body)
    faults.add("drop", operations="create_run")

    with pytest.raises(GeoCatalogUnreachable):
        provider.run(ingestion.create_run("demo", definition.ingestion_id))

    assert list(provider.list_runs("demo", definition.ingestion_id)) == []


def test_a_burst_of_throttling_is_ridden_out(demo, faults, provider):
    faults.add("status", status=429, retry_after=3, times=4)

    assert provider.get_collection("demo")["id"] == "demo"
    assert provider.clock.pauses == [3.0] * 4


@pytest.mark.parametrize(
    ("effect", "options"),
    [("drop", {}), ("truncate", {}), ("status", {"status": 503, "body": "html"}), ("status", {"status": 408})],
)
def test_one_bad_answer_does_not_fail_a_reading(demo, faults, provider, effect, options):
    provider.get_collection("demo")
    fault = faults.add(effect, **options, times=1)

    assert provider.get_collection("demo")["id"] == "demo"
    assert fault.hits == 1


def test_a_page_of_somebody_else_is_no_answer(demo, faults, provider):
    faults.add("html")
    with pytest.raises(GeoCatalogProtocolError):
        provider.get_collection("demo")


def test_an_expired_token_is_replaced(demo, faults, provider):
    class Renewing:
        """Another token every time, as Microsoft Entra ID gives."""

        tokens = 0

        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            self.tokens += 1
            return AccessToken(jwt(time.time() + self.tokens), int(time.time() + 3600))

    credential = Renewing()
    provider.tokens = TokenSource(lambda: credential, "scope", "a renewing one")
    provider.get_collection("demo")
    faults.add("expire_tokens")

    assert provider.get_collection("demo")["id"] == "demo"
    assert credential.tokens == 2


# --- items ----------------------------------------------------------------------------------------------------------


def test_items_of_an_item_operation_fail_by_id(demo, faults, new_item):
    faults.add("fail_items", items=["b"], code="AssetTransformationError", message="no pixels")
    operation = demo.add_items(new_item("a"), new_item("b"), new_item("c"))

    assert operation["additionalInformation"]["TotalSuccessfulItems"] == "2"
    failures = [(one["itemId"], one["errorCode"]) for one in demo.failures(operation)]
    assert failures == [("b", "AssetTransformationError")]


@pytest.mark.parametrize("verb", ["put", "delete"])
def test_changing_and_deleting_an_item_fail_by_id(demo, faults, new_item, verb):
    demo.add_items(new_item("a"))
    faults.add("fail_items", item_pattern="[ab]", code="InternalIntermitentError")

    options = {"json": new_item("a")} if verb == "put" else {}
    operation = demo.finish(getattr(demo, verb)(f"{COLLECTIONS}/demo/items/a", **options))

    assert operation["error"]["error"]["code"] == "InternalIntermitentError"
    assert codes(demo, 1, f"{COLLECTIONS}/demo/items/a") == [200]


def test_items_of_a_run_fail_by_pattern_and_the_rest_are_there(demo, faults, catalogs):
    faults.add("fail_items", item_pattern="bad-.*", types="IngestionStaticCatalog", code="EmptyAsset")
    operation = demo.run(catalogs.of("a", "bad-1", "b", "bad-2"))

    assert operation["error"]["error"]["code"] == "ErrorsInBatchOperation"
    assert {one["itemId"] for one in demo.failures(operation)} == {"bad-1", "bad-2"}
    found = demo.post("/stac/search", json={"collections": ["demo"]}).json()["features"]
    assert {one["id"] for one in found} == {"a", "b"}


def test_a_share_of_items_fails_the_same_in_every_run(demo, faults, catalogs):
    url = catalogs.of(*(f"item-{number}" for number in range(40)))
    faults.add("fail_items", probability=0.25, seed=5)

    first, second = ({one["itemId"] for one in demo.failures(demo.run(url))} for _ in range(2))

    assert first == second
    assert 3 <= len(first) <= 20


def test_items_that_failed_once_succeed_in_the_next_run(demo, faults, catalogs):
    url = catalogs.of("a", "b")
    faults.add("fail_items", items="a", times=1)

    assert [demo.run(url)["status"] for _ in range(2)] == ["Failed", "Succeeded"]


# --- operations -----------------------------------------------------------------------------------------------------


def operation_of(client: Any, path: str) -> dict[str, Any]:
    return client.get(f"/inma/operations/{path.rsplit('/', 1)[1]}").json()


@pytest.mark.parametrize("status", ["Pending", "Running"])
def test_a_run_stays_in_a_status_until_it_is_released(demo, faults, catalogs, status):
    fault = faults.add("hold", status=status, types="IngestionStaticCatalog")
    path = demo.start_run(catalogs.of("a"))
    demo.server.emulator.settle()
    time.sleep(0.05)
    assert operation_of(demo, path)["status"] == status

    faults.remove(fault)
    demo.poll(path, lambda body: body["operation"]["status"] == "Succeeded")


@pytest.mark.parametrize("status", ["Pending", "Running"])
def test_other_operations_stay_too(demo, faults, new_item, new_collection, status):
    faults.add("hold", status=status)
    adding = demo.post(f"{COLLECTIONS}/demo/items", json=new_item("a"))
    making = demo.post(COLLECTIONS, json=new_collection("other"))
    deleting = demo.delete(f"{COLLECTIONS}/demo/items/a")
    shown = [demo.get(one.headers["Location"]).json()["status"] for one in (adding, making, deleting)]
    assert shown == [status] * 3

    faults.clear()
    assert demo.finish(adding)["status"] == demo.finish(making)["status"] == "Succeeded"


def test_a_hold_is_for_one_collection_or_one_operation_or_for_a_time(serve, new_client, new_item):
    clock = ManualClock()
    client = new_client(serve(clock))
    client.add_collection()
    client.add_collection("other")
    faults = client.server.emulator.faults
    faults.add("hold", collections="other")
    faults.add("hold", collections="demo", seconds=60, times=1)

    held, other = (client.post(f"{COLLECTIONS}/{one}/items", json=new_item("a")) for one in ("demo", "other"))
    assert client.finish(client.post(f"{COLLECTIONS}/demo/items", json=new_item("b")))["status"] == "Succeeded"
    clock.advance(61)

    assert client.get(held.headers["Location"]).json()["status"] == "Succeeded"
    assert client.get(other.headers["Location"]).json()["status"] == "Pending"


def test_a_held_operation_can_be_cancelled(demo, faults, new_item):
    faults.add("hold", status="Running")
    poll = demo.post(f"{COLLECTIONS}/demo/items", json=new_item("a")).headers["Location"]
    assert demo.delete(poll).status_code == 204
    demo.poll(poll, lambda body: body["status"] == "Canceled")

    faults.clear()
    assert demo.get(poll).json()["status"] == "Canceled"
    assert codes(demo, 1, f"{COLLECTIONS}/demo/items/a") == [404]


def test_a_cancellation_can_hang(demo, faults, new_item):
    faults.add("hold", status="Running", times=1)
    stuck = faults.add("hold", status="Canceling")
    poll = demo.post(f"{COLLECTIONS}/demo/items", json=new_item("a")).headers["Location"]
    demo.delete(poll)
    time.sleep(0.05)
    assert demo.get(poll).json()["status"] == "Canceling"

    faults.remove(stuck)
    assert demo.poll(poll, lambda body: body["status"] != "Canceling")["status"] == "Canceled"


def test_a_cancellation_can_come_too_late(demo, faults, catalogs):
    hold = faults.add("hold")
    faults.add("lose_cancel")
    path = demo.start_run(catalogs.of("a"))
    assert demo.delete(f"/inma/operations/{path.rsplit('/', 1)[1]}").status_code == 204

    faults.remove(hold)
    assert demo.poll(path, lambda body: body["operation"]["status"] != "Pending")["operation"]["status"] in (
        "Running",
        "Succeeded",
    )
    demo.poll(path, lambda body: body["operation"]["status"] == "Succeeded")


def test_an_unknown_status_is_shown_for_a_while(demo, faults, catalogs, provider):
    faults.add("show_status", word="Throttled", instead_of=["Pending", "Running", "Succeeded"], times=3)
    path = demo.start_run(catalogs.of("a"))
    assert demo.get(path).json()["operation"]["status"] == "Throttled"

    run = provider.wait_for_run(*run_ids(path), timeout=60, poll_interval=0.01)

    assert str(run.operation.status) == "Succeeded"


def test_an_unknown_status_ends_with_time(serve, new_client, new_item):
    clock = ManualClock()
    client = new_client(serve(clock, pending_seconds=100))
    client.add_collection()
    client.server.emulator.faults.add("show_status", word="Validating", seconds=30)
    poll = client.post(f"{COLLECTIONS}/demo/items", json=new_item("a")).headers["Location"]

    seen = [client.get(poll).json()["status"]]
    clock.advance(30)
    seen.append(client.get(poll).json()["status"])
    assert seen == ["Validating", "Pending"]
    assert client.get("/inma/operations").json()["value"][0]["status"] == "Pending"


def test_the_history_has_other_words(demo, faults, new_item):
    faults.add("show_history", word="Succeeded", instead_of="Finished", types="AddItem")
    faults.add("show_history", word="Validating", types="DeleteItem")

    added = demo.add_items(new_item("a"))
    deleted = demo.finish(demo.delete(f"{COLLECTIONS}/demo/items/a"))

    assert [one["status"] for one in added["statusHistory"]] == ["Pending", "Running", "Succeeded"]
    assert [one["status"] for one in deleted["statusHistory"]] == ["Pending", "Running", "Validating", "Finished"]


def run_ids(path: str) -> list[str]:
    """Return the ids of collection, definition and run."""
    return path.split("/")[3::2]


def test_a_run_ends_as_it_was_told(demo, faults, provider, catalogs):
    faults.add("fail_items", items="b")
    faults.add("end_operation", status="Succeeded", types="IngestionStaticCatalog")
    path = demo.start_run(catalogs.of("a", "b"))
    demo.poll(path, lambda body: body["operation"]["status"] == "Succeeded")
    operation = operation_of(demo, path)

    assert operation["additionalInformation"]["TotalFailedItems"] == "1"
    with pytest.raises(GeoCatalogItemsFailed):
        provider.wait_for_run(*run_ids(path), timeout=60, poll_interval=0.01)


def test_an_operation_fails_as_a_whole(demo, faults, new_collection, provider):
    faults.add("end_operation", status="Failed", code="InternalError", message="sorry", times=1)
    with pytest.raises(GeoCatalogOperationFailed, match="sorry"):
        provider.wait(provider.create_collection(new_collection("other")), poll_interval=0.01)

    assert codes(demo, 1, f"{COLLECTIONS}/other") == [404]
    demo.add_collection("other")  # the id is free again


# --- the whole ------------------------------------------------------------------------------------------------------


def test_every_effect_is_documented():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "testing-dags.md").read_text()
    for effect, rule in RULES.items():
        assert f"`{effect}`" in text
        for option in rule.model_fields:
            assert f"`{option}`" in text, f"{effect}: {option}"
