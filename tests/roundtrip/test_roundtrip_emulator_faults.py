"""Input over which the emulator stumbled: it has to be refused as the service refuses it, and no operation may hang."""

from __future__ import annotations

import pytest

from airflow_provider_geocatalog.api.dialects import DIALECTS
from airflow_provider_geocatalog.api.errors import GeoCatalogBadRequest, GeoCatalogOperationFailed
from airflow_provider_geocatalog.emulator import ingest
from airflow_provider_geocatalog.emulator.clock import ManualClock
from tests.roundtrip.roundtrip_adapter import HREF, item

NEWEST = DIALECTS["2026-04-15"]
NO_URL = "http://[::1/x"


@pytest.fixture
async def api(connect):
    api = connect(NEWEST, "blocking")
    await api.add_collection()
    return api


async def code_of(api, name, *arguments):
    with pytest.raises(GeoCatalogOperationFailed) as failure:
        await api.wait(await api.call(name, *arguments))
    return failure.value.code


async def test_an_asset_href_with_a_broken_host_fails_the_operation(api):
    await api.add_items(item("a"))
    broken = {"assets": {"image": {"href": NO_URL}}}

    assert await code_of(api, "create_item", "demo", item("b", **broken)) == "InvalidAssetHref"
    assert await code_of(api, "replace_item", "demo", "a", item("a", **broken)) == "InvalidAssetHref"
    assert await code_of(api, "update_item", "demo", "a", broken) == "InvalidAssetHref"


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
async def test_a_time_beyond_the_calendar_fails_the_operation(api, time):
    await api.add_items(item("a"))
    properties = {"datetime": time}

    assert await code_of(api, "create_item", "demo", item("b", properties=properties)) == "StacValidationFailed"
    changes = {"properties": properties, "assets": {"image": {"href": HREF}}}
    assert await code_of(api, "update_item", "demo", "a", changes) == "StacValidationFailed"


async def test_a_fault_of_the_emulator_ends_the_operation(api, monkeypatch):
    await api.add_items(item("a"))
    monkeypatch.setattr(ingest, "_check_item", lambda document: 1 / 0)

    assert await code_of(api, "update_item", "demo", "a", {"properties": {"x": 1}}) == "InternalError"


async def test_urls_with_a_broken_host_are_refused(api):
    definition = await api.call(
        "create_ingestion", "demo", {"importType": "StaticCatalog", "sourceCatalogUrl": "https://example.com/c.json"}
    )
    body = {"importType": "StaticCatalog", "sourceCatalogUrl": NO_URL}
    source = {"kind": "SasToken", "connectionInfo": {"containerUrl": NO_URL, "sasToken": "st=2020-01-01&sr=c&sig=x"}}

    for name, arguments in (
        ("create_ingestion", ("demo", body)),
        ("update_ingestion", ("demo", definition.ingestion_id, body)),
        ("create_source", (source,)),
    ):
        with pytest.raises(GeoCatalogBadRequest) as refusal:
            await api.call(name, *arguments)
        assert refusal.value.code == "ValidationError"


async def test_a_token_that_ended_in_the_first_century_has_a_readable_expiry(api):
    token = "st=0001-01-01T00:00:00Z&se=0079-08-24T00:00:00Z&sr=c&sp=rl&sig=x"
    info = {"containerUrl": "https://account.blob.core.windows.net/c", "sasToken": token}

    created = await api.call("create_source", {"kind": "SasToken", "connectionInfo": info})

    assert created.expires_at.isoformat().startswith("0079-08-24T00:00:00")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("create_item", (item("b"),)),
        ("replace_item", ("a", item("a"))),
        ("update_item", ("a", {"properties": {"x": 1}, "assets": {"image": {"href": HREF}}})),
        ("delete_item", ("a",)),
    ],
)
async def test_items_of_a_collection_that_is_deleted_meanwhile_are_not_written(connect, name, arguments):
    clock = ManualClock()
    api = connect(NEWEST, "blocking", clock=clock, pending_seconds=1.0)
    await api.add_collection()
    adding = await api.call("create_item", "demo", item("a"))
    clock.advance(1)
    await api.wait(adding)
    started = await api.call(name, "demo", *arguments)

    await api.wait(await api.call("delete_collection", "demo"))
    await api.add_collection()  # another one of the same id
    clock.advance(1)

    with pytest.raises(GeoCatalogOperationFailed) as failure:
        await api.wait(started)
    assert failure.value.code == "CollectionDoesNotExist"
    assert await api.call("list_items", "demo") == []
