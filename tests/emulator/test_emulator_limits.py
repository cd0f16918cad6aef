"""The preview's documented limits, which are off unless a test switches them on."""

from __future__ import annotations

import contextlib
import time

import pytest

from airflow_provider_geocatalog.auth import ConnectionSettings, StaticTokenCredential, TokenSource
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.emulator.limits import Limits, Throttle
from airflow_provider_geocatalog.rate_limit import RateLimit


@contextlib.contextmanager
def ours(server):
    """Return our own client with its default rate."""
    credential = StaticTokenCredential(server.admin_token)
    tokens = TokenSource(lambda: credential, "scope", "token")
    client = GeoCatalogClient(ConnectionSettings(server.url), tokens=tokens, rate_limit=RateLimit())
    yield client
    client.close()


def statuses(server, operation):
    return [request.status for request in server.emulator.requests if request.operation == operation]


def test_the_previews_numbers_are_the_documented_ones():
    assert Limits() == Limits(
        requests_per_second=50,
        concurrent_runs=5,
        items_per_run=10_000,
        shortest_collection_id=3,
        longest_collection_id=32,
        collections=100,
        asset_bytes=5 * 1024**3,
    )


def test_requests_are_counted_over_the_last_second():
    now = 0.0
    throttle = Throttle(2, lambda: now)

    passed = []
    for now in (0.0, 0.5, 0.9, 1.0, 1.4, 1.5):  # noqa: B007  (the throttle reads it)
        passed.append(throttle.passes())

    assert passed == [True, True, False, True, False, True]


def test_too_many_requests_a_second_are_a_429_that_says_when_to_come_again(serve, new_client):
    client = new_client(serve(limits=Limits(requests_per_second=3)))

    answers = [client.get("/stac/collections") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["Retry-After"] == "1"
    assert answers[-1].json()["error"]["code"] == "TooManyRequests"
    assert client.get("/inma/operations").status_code == 200  # the limit is one of STAC requests
    time.sleep(1)
    assert client.get("/stac/collections").status_code == 200


def test_without_the_limits_nothing_is_throttled(client):
    assert {client.get("/stac/collections").status_code for _ in range(60)} == {200}


def test_our_client_keeps_within_the_preview_by_default(serve):
    server = serve(limits="preview")
    with ours(server) as client:
        for _ in range(80):
            client.get_conformance()

    assert set(statuses(server, "get_conformance")) == {200}


def test_our_client_rides_out_a_limit_below_its_rate(serve, new_collection):
    server = serve(limits=Limits(requests_per_second=10))
    with ours(server) as client:
        client.wait(client.create_collection(new_collection("demo")), poll_interval=0.01)
        for _ in range(25):
            assert client.get_collection("demo")["id"] == "demo"

    assert 429 in statuses(server, "get_collection")


def test_our_client_waits_until_another_run_may_start(serve, catalogs, new_collection):
    server = serve(limits=Limits(concurrent_runs=1), pending_seconds=0.5)
    definition = {"importType": "StaticCatalog", "sourceCatalogUrl": catalogs.of("a")}
    with ours(server) as client:
        client.wait(client.create_collection(new_collection("demo")), poll_interval=0.01)
        ingestion_id = client.create_ingestion("demo", definition).ingestion_id
        runs = [client.create_run("demo", ingestion_id).run_id for _ in range(2)]
        for run_id in runs:
            client.wait_for_run("demo", ingestion_id, run_id, poll_interval=0.01)

    assert sorted(set(statuses(server, "create_run"))) == [201, 429]


@pytest.mark.parametrize(("length", "status"), [(2, 400), (3, 202), (32, 202), (33, 400)])
def test_ids_of_collections_have_a_least_and_a_most_of_characters(serve, new_client, new_collection, length, status):
    client = new_client(serve(limits="preview"))

    answer = client.post("/stac/collections", json=new_collection("x" * length))

    assert answer.status_code == status
    assert status == 202 or answer.json()["error"]["code"] == "ValidationError"


def test_a_catalog_has_a_most_of_collections(serve, new_client, new_collection):
    client = new_client(serve(limits=Limits(collections=2)))
    client.add_collection("one")
    client.add_collection("two")

    assert client.post("/stac/collections", json=new_collection("three")).status_code == 400
    client.finish(client.delete("/stac/collections/one"))
    assert client.post("/stac/collections", json=new_collection("three")).status_code == 202


def test_a_run_has_a_most_of_items(serve, new_client, catalogs):
    client = new_client(serve(limits="preview"))
    client.add_collection()
    few = client.run(catalogs.of("a"))
    many = catalogs.catalog("many.json", items=[f"items/{number}.json" for number in range(10_001)])

    refused = client.run(many)

    assert few["status"] == "Succeeded"
    assert (refused["status"], refused["error"]["error"]["code"]) == ("Failed", "InvalidInputData")
    assert refused["additionalInformation"]["TotalItems"] == "0"


def test_an_asset_has_a_most_of_bytes(serve, new_client, new_item, catalogs, tmp_path):
    client = new_client(serve(limits="preview"))
    client.add_collection()
    (catalogs.folder / "small.tif").write_bytes(b"x")
    with (catalogs.folder / "large.tif").open("wb") as file:
        file.truncate(5 * 1024**3 + 1)  # takes no room

    small, large = (
        client.add_items(new_item(name, assets={"a": {"href": catalogs.url(f"{name}.tif")}}))
        for name in ("small", "large")
    )

    assert small["status"] == "Succeeded"
    assert large["error"]["error"]["code"] == "AssetTransformationError"
