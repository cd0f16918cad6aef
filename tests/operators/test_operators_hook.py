"""What users reach through the hook in their own tasks: the client's methods, the official SDK, pystac-client."""

from __future__ import annotations

import inspect

import pytest

from airflow_provider_geocatalog.api.errors import GeoCatalogForeignUrl, GeoCatalogInvalidInput, GeoCatalogNotFound
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook


@pytest.fixture
def demo(world, documents):
    client = GeoCatalogHook().client
    client.wait(client.create_collection(documents()), poll_interval=0.01)
    return world


def test_methods_block_in_a_task(demo):
    client = GeoCatalogHook().client

    assert client.get_collection("demo")["description"] == "a test"
    assert [one["id"] for one in client.list_collections()] == ["demo"]
    with pytest.raises(GeoCatalogNotFound, match="other"):
        client.get_collection("other")


async def test_the_same_methods_do_not_block_in_an_async_task(demo):
    client = await GeoCatalogHook().aget_client()

    assert (await client.get_collection.aio("demo"))["description"] == "a test"
    assert [one["id"] async for one in client.list_collections.aio()] == ["demo"]


def test_a_method_tells_what_it_is():
    from airflow_provider_geocatalog.client import GeoCatalogClient

    unbound = GeoCatalogClient.get_collection
    assert "Read a collection." in unbound.__doc__


def test_a_bound_method_shows_its_arguments_and_what_it_returns(world):
    client = GeoCatalogHook().client

    assert "Read a collection." in client.get_collection.__doc__
    assert str(inspect.signature(client.get_collection)).endswith("-> 'dict[str, Any]'")
    assert str(inspect.signature(client.list_items)).endswith("-> 'Iterator[dict[str, Any]]'")
    assert str(inspect.signature(client.list_items.aio)).endswith("-> 'AsyncIterator[dict[str, Any]]'")


def test_bad_arguments_of_a_list_are_refused_when_it_is_called(world):
    with pytest.raises(GeoCatalogInvalidInput, match="limit"):
        GeoCatalogHook().client.list_items("demo", limit=0)


def test_the_official_client_has_the_connections_credential_and_address(demo):
    with GeoCatalogHook().get_sdk_client() as sdk:
        assert sdk.stac.get_collection("demo").description == "a test"
    assert demo.server.emulator.requests[-1].operation == "get_collection"


def test_the_official_client_shares_the_rate_limit(demo):
    hook = GeoCatalogHook()
    turns = []
    throttle, hook.client.throttle = hook.client.throttle, lambda: turns.append(1)
    try:
        with hook.get_sdk_client() as sdk:
            sdk.stac.get_collection("demo")
    finally:
        hook.client.throttle = throttle

    assert turns == [1]


def test_the_official_client_sends_the_token_nowhere_else(demo):
    from azure.core.rest import HttpRequest

    with GeoCatalogHook().get_sdk_client() as sdk, pytest.raises(GeoCatalogForeignUrl):
        sdk.send_request(HttpRequest("GET", "http://127.0.0.2:1/elsewhere"))


@pytest.mark.parametrize("api_version", ["2025-04-30-preview", "2024-01-31-preview"])
def test_the_official_client_takes_the_connections_api_version_if_it_can(demo, reconnect, api_version):
    reconnect(api_version=api_version)
    if api_version.startswith("2024"):
        with pytest.raises(GeoCatalogInvalidInput, match="2024-01-31-preview"):
            GeoCatalogHook().get_sdk_client()
        return

    with GeoCatalogHook().get_sdk_client() as sdk:
        sdk.stac.get_collection("demo")

    assert demo.server.emulator.requests[-1].query["api-version"] == api_version


def test_a_missing_sdk_is_said_with_the_extra_that_brings_it(world, monkeypatch):
    import sys

    from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException

    monkeypatch.delitem(sys.modules, "airflow_provider_geocatalog.sdk_client", raising=False)
    monkeypatch.setitem(sys.modules, "azure.planetarycomputer", None)

    with pytest.raises(AirflowOptionalProviderFeatureException, match=r"airflow-provider-geocatalog\[sdk\]"):
        GeoCatalogHook().get_sdk_client()


@pytest.mark.parametrize(
    ("api_version", "requests_per_second"), [("2026-04-15", "0"), ("2026-04-15", "x"), ("2026-04-15", "1001")]
)
def test_a_rate_that_is_none_is_refused(world, reconnect, api_version, requests_per_second):
    reconnect(api_version=api_version, requests_per_second=requests_per_second)

    with pytest.raises(GeoCatalogInvalidInput, match="request rate"):
        GeoCatalogHook().client  # noqa: B018 - reading it is what checks the connection
