"""The client over real sockets: token, origin, time-outs, and both drivers."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import NO_RETRIES, call
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogAuthenticationError,
    GeoCatalogForeignUrl,
    GeoCatalogInvalidInput,
    GeoCatalogUnreachable,
)
from airflow_provider_geocatalog.api.flows.waiting import wait_for_operation
from airflow_provider_geocatalog.api.http import Request
from airflow_provider_geocatalog.api.waiting import PollPolicy
from airflow_provider_geocatalog.auth import AuthMethod, Cloud, ConnectionSettings
from airflow_provider_geocatalog.client import GeoCatalogClient

GET = Request(endpoints.GET_CONFORMANCE)
FINE = (200, {"Content-Type": "application/json"}, {"fine": True})


def authorization(seen):
    return [entry.authorization for entry in seen]


def test_one_token_serves_many_requests_and_threads(script, connect, new_credential):
    server, credential = script(FINE), new_credential()
    client = connect(server.url, credential)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.send(GET), range(40)))

    assert (credential.given, len(server.seen)) == (1, 40)
    assert set(authorization(server.seen)) == {"Bearer token-1"}


def test_a_token_is_renewed_before_it_expires(script, connect, new_credential):
    server, credential = script(FINE), new_credential(lifetime=60)
    client = connect(server.url, credential)

    client.send(GET)
    client.send(GET)

    assert authorization(server.seen) == ["Bearer token-1", "Bearer token-2"]


def test_a_refused_token_is_renewed_once(script, connect, new_credential):
    server = script((401, {}, b""), FINE, (401, {}, b""))
    client = connect(server.url)

    assert client.send(GET).status == 200
    with pytest.raises(GeoCatalogAuthenticationError):
        client.run(call(endpoints.GET_CONFORMANCE))

    assert authorization(server.seen) == [f"Bearer token-{n}" for n in (1, 2, 2, 3)]


def test_a_redirect_on_the_own_origin_keeps_the_api_version(script, connect):
    server = script((307, {"Location": "/stac/"}, b""), FINE)

    assert connect(server.url).send(GET).json() == {"fine": True}
    assert server.seen[1].path == "/stac/?api-version=2026-04-15"


@pytest.mark.parametrize("through", ["redirect", "url"])
def test_the_token_never_goes_to_another_origin(script, connect, through):
    other = script(FINE)
    server = script((307, {"Location": f"{other.url}/stac/"}, b""))
    request = GET if through == "redirect" else Request(endpoints.GET_CONFORMANCE, url=f"{other.url}/x")

    with pytest.raises(GeoCatalogForeignUrl, match="the token is not sent there"):
        connect(server.url).send(request)

    assert other.seen == []


def test_the_token_never_goes_over_plain_http_to_another_host():
    with pytest.raises(GeoCatalogInvalidInput, match="plain http"):
        GeoCatalogClient(ConnectionSettings("http://example.com"))


def test_a_netrc_entry_does_not_replace_the_token(script, connect, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server = script(FINE)

    connect(server.url).send(GET)

    assert authorization(server.seen) == ["Bearer token-1"]


def test_a_refused_connection_was_certainly_not_processed(connect):
    with pytest.raises(GeoCatalogUnreachable, match="refused the connection") as caught:
        connect("http://127.0.0.1:9").send(GET)
    assert caught.value.sent is False


def test_compressed_answers_are_read(script, connect):
    body = gzip.compress(json.dumps({"fine": True}).encode())
    server = script((200, {"Content-Encoding": "gzip"}, body))

    assert connect(server.url).send(GET).json() == {"fine": True}


async def test_both_drivers_send_the_same_and_get_the_same(script, connect):
    def operation(status):
        return (200, {}, {"id": "op", "status": status, "statusHistory": []})

    answers = [operation("Pending"), (503, {"Retry-After": "4"}, b""), operation("Running"), operation("Succeeded")]
    blocking, asynchronous = script(*answers), script(*answers)
    policy = PollPolicy(interval=30)

    first = connect(blocking.url).run(wait_for_operation("op", policy=policy))
    second = await connect(asynchronous.url).arun(wait_for_operation("op", policy=policy))

    assert first == second
    assert blocking.lines == asynchronous.lines
    assert len(blocking.seen) == 4


def test_names_are_percent_encoded_and_every_request_has_the_api_version(script, connect):
    server = script(FINE)

    connect(server.url).run(call(endpoints.GET_COLLECTION, {"collection_id": "a b/../ü"}, retries=NO_RETRIES))

    assert server.seen[0].path == "/stac/collections/a%20b%2F..%2F%C3%BC?api-version=2026-04-15"


def settings(**fields):
    return ConnectionSettings.from_fields(**{"host": "https://g.example.com", **fields})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("https://x.geocatalog.spatio.azure.com/", "https://x.geocatalog.spatio.azure.com"),
        ("https://x.geocatalog.spatio.azure.com/stac/", "https://x.geocatalog.spatio.azure.com"),
        ("x.geocatalog.spatio.azure.com", "https://x.geocatalog.spatio.azure.com"),
        ("https%3A%2F%2Fx.example.com", "https://x.example.com"),
        ("127.0.0.1:8099", "http://127.0.0.1:8099"),
        ("http://localhost:8099", "http://localhost:8099"),
        ("http://[::1]:8099", "http://[::1]:8099"),
    ],
)
def test_an_address_may_be_written_in_many_ways(host, url):
    assert settings(host=host).url == url


def test_the_cloud_is_read_from_the_address():
    assert settings(host="https://x.usgovvirginia.geocatalog.spatio.azure.us").cloud is Cloud.US_GOVERNMENT
    assert settings().cloud is Cloud.PUBLIC
    assert settings(extra={"cloud": "us_government"}).cloud.authority == "login.microsoftonline.us"


def test_everything_that_is_wrong_with_a_connection_is_told_at_once():
    with pytest.raises(GeoCatalogInvalidInput) as caught:
        settings(
            host="http://example.com",
            extra={"auth_method": "client_secret", "api_version": "2020-01-01", "cloud": "x", "request_timeout": "-1"},
        )

    told = str(caught.value)
    for part in ("plain http", "2020-01-01", "unknown cloud 'x'", "time-out '-1'", "tenant id", "client id", "secret"):
        assert part in told, part


@pytest.mark.parametrize("method", AuthMethod)
def test_no_settings_show_their_secret(method):
    made = settings(
        login="client",
        password="hidden-secret",
        extra={"auth_method": method.value, "tenant_id": "t", "certificate_path": "/c.pem"},
    )

    assert "hidden-secret" not in repr(made)


def test_one_connection_serves_many_requests(script, connect):
    server = script(FINE)
    client = connect(server.url)

    for _ in range(5):
        client.send(GET)

    assert len({entry.peer for entry in server.seen}) == 1


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_make_another_operation_of_a_call_is_refused(script, connect, name):
    server = script((204, {}, b""))

    with pytest.raises(GeoCatalogInvalidInput, match="cannot be the operation id"):
        connect(server.url).run(call(endpoints.CANCEL_OPERATION, {"operation_id": name}))
    assert server.seen == []
