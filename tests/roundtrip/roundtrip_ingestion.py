"""Scenarios about ingestion sources, definitions, runs and operations."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
import rustac

from airflow_provider_geocatalog.api.errors import (
    GeoCatalogBadRequest,
    GeoCatalogConflict,
    GeoCatalogItemsFailed,
    GeoCatalogNotFound,
    GeoCatalogOperationCanceled,
    GeoCatalogOperationFailed,
)
from airflow_provider_geocatalog.api.models import Ingestion, IngestionSource, Operation, Run
from airflow_provider_geocatalog.api.statuses import Outcome
from airflow_provider_geocatalog.emulator.settings import ManagedIdentity
from tests.roundtrip.roundtrip_adapter import SAS, Api, collection, contains, is_recent, item, scenario

STORAGE = "https://account.blob.core.windows.net"
IDENTITY = ManagedIdentity()


def sas_source(container: str, token: str = SAS) -> dict[str, object]:
    return {"kind": "SasToken", "connectionInfo": {"containerUrl": f"{STORAGE}/{container}", "sasToken": token}}


@scenario()
async def sources_with_a_token_live_and_die(api: Api) -> None:
    assert await api.call("list_sources") == []

    created = await api.call("create_source", sas_source("one"))
    read = await api.call("get_source", created.source_id)

    assert isinstance(created, IngestionSource)
    assert uuid.UUID(created.source_id)
    assert (created.kind, created.container_url, created.object_id) == ("SasToken", f"{STORAGE}/one", None)
    assert created.expires_at == dt.datetime(2099, 12, 31, 23, 59, 59, 500000, dt.UTC)
    assert is_recent(created.created_at)
    assert read == created
    assert "sig=" not in str(read.raw) + str(created.raw)
    with pytest.raises(GeoCatalogConflict) as conflict:
        await api.call("create_source", sas_source("one"))
    assert conflict.value.code == "DuplicatedEntity"
    assert created.source_id in str(conflict.value)

    renewed = sas_source("one", SAS.replace("2099-12-31T23:59:59.5Z", "2098-01-01T00:00:00Z"))
    replaced = await api.call("replace_source", created.source_id, renewed)
    read = await api.call("get_source", created.source_id)
    assert (replaced.source_id, replaced.created_at) == (created.source_id, None)
    assert replaced.expires_at == read.expires_at == dt.datetime(2098, 1, 1, tzinfo=dt.UTC)
    assert read.created_at == created.created_at

    others = [await api.call("create_source", sas_source(name)) for name in ("two", "three")]
    listed = await api.call("list_sources")
    ids = [one.source_id for one in listed]
    assert {(one.source_id, one.kind) for one in listed} == {(one.source_id, "SasToken") for one in (created, *others)}
    assert listed[0].container_url is None
    assert [one.source_id for one in await api.call("list_sources", skip=1)] == ids[1:]

    assert await api.call("delete_source", created.source_id) is None
    assert created.source_id not in [one.source_id for one in await api.call("list_sources")]
    for name in ("get_source", "delete_source"):
        with pytest.raises(GeoCatalogNotFound):
            await api.call(name, created.source_id)


@scenario()
async def a_source_with_a_managed_identity(api: Api) -> None:
    info = {"containerUrl": f"{STORAGE}/one", "objectId": IDENTITY.object_id}

    created = await api.call("create_source", {"kind": "BlobManagedIdentity", "connectionInfo": info})

    assert (created.kind, created.object_id, created.expires_at) == ("BlobManagedIdentity", IDENTITY.object_id, None)
    assert contains(created.raw["connectionInfo"], info)
    assert await api.call("get_source", created.source_id) == created
    assert [one.kind for one in await api.call("list_sources")] == ["BlobManagedIdentity"]
    with_token = await api.call("replace_source", created.source_id, sas_source("one"))
    assert (with_token.kind, with_token.object_id) == ("SasToken", None)
    assert await api.call("delete_source", created.source_id) is None
    assert await api.call("list_sources") == []


@scenario("list_managed_identities")
async def managed_identities_are_listed(api: Api) -> None:
    [identity] = await api.call("list_managed_identities")

    assert (identity.object_id, identity.resource_id) == (IDENTITY.object_id, IDENTITY.resource_id)
    assert identity.raw == {"objectId": IDENTITY.object_id, "resourceId": IDENTITY.resource_id}


@scenario()
async def replacing_an_unknown_source_creates_it_where_the_version_does(api: Api) -> None:
    source_id = str(uuid.uuid4())

    if api.dialect.replace_creates_source:
        created = await api.call("replace_source", source_id, sas_source("one"))
        assert created.source_id == source_id
        assert await api.call("get_source", source_id) == created
    else:
        with pytest.raises(GeoCatalogNotFound):
            await api.call("replace_source", source_id, sas_source("one"))
        assert await api.call("list_sources") == []


CATALOG = {"importType": "StaticCatalog", "sourceCatalogUrl": "https://example.com/catalog.json"}


@scenario()
async def definitions_are_created_and_read(api: Api) -> None:
    await api.add_collection()
    assert await api.call("list_ingestions", "demo") == []
    body = {**CATALOG, "displayName": "Nächtlich", "skipExistingItems": True, "keepOriginalAssets": True}

    created = await api.call("create_ingestion", "demo", body)

    assert isinstance(created, Ingestion)
    assert uuid.UUID(created.ingestion_id)
    assert created == Ingestion(
        created.ingestion_id,
        "StaticCatalog",
        "Nächtlich",
        CATALOG["sourceCatalogUrl"],
        None,
        True,
        True,
        "Ready",
        created.created_at,
    )
    assert is_recent(created.created_at)
    assert contains(created.raw, body)
    assert await api.call("get_ingestion", "demo", created.ingestion_id) == created

    more = [await api.call("create_ingestion", "demo", CATALOG) for _ in range(2)]
    assert (more[0].skip_existing_items, more[0].display_name) == (False, None)
    assert await api.call("list_ingestions", "demo") == [created, *more]
    assert await api.call("list_ingestions", "demo", skip=1, top=2) == more
    with pytest.raises(GeoCatalogNotFound):
        await api.call("get_ingestion", "demo", str(uuid.uuid4()))


@scenario("update_ingestion", "delete_ingestion")
async def definitions_are_changed_and_deleted(api: Api) -> None:
    await api.add_collection()
    created = await api.call("create_ingestion", "demo", {**CATALOG, "displayName": "x", "skipExistingItems": True})
    ids = "demo", created.ingestion_id

    changes = {"displayName": "y", "keepOriginalAssets": True, "sourceCatalogUrl": "https://example.com/2.json"}
    changed = await api.call("update_ingestion", *ids, changes)
    assert contains(changed.raw, {**changes, "skipExistingItems": True, "importType": "StaticCatalog"})
    assert changed == await api.call("get_ingestion", *ids)
    assert (await api.call("update_ingestion", *ids, {"displayName": None})).display_name is None

    deleted = await api.wait(await api.call("delete_ingestion", *ids))
    assert (deleted.operation.type, deleted.resource) == ("DeleteIngestion", None)
    assert deleted.operation.raw["additionalInformation"] == {"IngestionId": created.ingestion_id}
    with pytest.raises(GeoCatalogNotFound):
        await api.call("get_ingestion", *ids)
    assert await api.call("list_ingestions", "demo") == []


async def check_run(api: Api, ids: tuple[str, str], run: Run, kind: str) -> None:
    """Follow a run of the items ``a`` and ``b`` to its end."""
    ended = await api.wait_for_run(*ids, run.run_id)

    assert ended.run_id == run.run_id == ended.operation.operation_id
    assert ended.operation.status.outcome is Outcome.SUCCEEDED
    assert (ended.operation.counts.total, ended.operation.counts.succeeded) == (2, 2)
    assert is_recent(ended.created_at)
    assert is_recent(ended.operation.finished_at)
    assert ended.raw["operation"]["totalItems"] == 2
    assert ended == await api.call("get_run", *ids, run.run_id)
    operation = await api.call("wait_for_operation", run.run_id, timeout=30, poll_interval=0.01)
    assert (operation.type, operation.collection_id) == (kind, "demo")
    assert operation.counts == ended.operation.counts
    assert sorted(one["id"] for one in await api.call("list_items", "demo")) == ["a", "b"]


@scenario()
async def a_static_catalog_in_a_private_container_is_run(api: Api) -> None:
    await api.add_collection()
    await api.add_source()
    url = api.catalog(item("a"), item("b"))
    body = {**CATALOG, "sourceCatalogUrl": url, "skipExistingItems": True}
    ids = "demo", (await api.call("create_ingestion", "demo", body)).ingestion_id
    assert await api.call("list_runs", *ids) == []

    run = await api.call("create_run", *ids)

    assert (run.source_catalog_url, run.skip_existing_items, run.keep_original_assets) == (url, True, False)
    assert run.is_live
    await check_run(api, ids, run, "IngestionStaticCatalog")
    again = await api.call("create_run", *ids)
    await api.wait_for_run(*ids, again.run_id)
    runs = await api.call("list_runs", *ids)
    assert {one.run_id for one in runs} == {run.run_id, again.run_id}
    assert not any(one.is_live for one in runs)
    assert await api.call("list_runs", *ids, top=1, skip=1) == runs[1:]
    with pytest.raises(GeoCatalogNotFound):
        await api.call("get_run", *ids, str(uuid.uuid4()))


@scenario(import_type="StacGeoparquet")
async def a_geoparquet_file_in_a_private_container_is_run(api: Api) -> None:
    await api.add_collection()
    await api.add_source()
    rustac.write_sync(str(api.folder / "items.parquet"), [item("a"), item("b")], format="geoparquet")
    body = {"importType": "StacGeoparquet", "stacGeoparquetUrl": f"{api.container}/items.parquet"}

    definition = await api.call("create_ingestion", "demo", body)
    assert (definition.import_type, definition.source_catalog_url) == ("StacGeoparquet", None)
    assert definition.stac_geoparquet_url == body["stacGeoparquetUrl"]
    assert await api.call("list_ingestions", "demo") == [definition]
    ids = "demo", definition.ingestion_id
    moved = await api.call("update_ingestion", *ids, {"displayName": "parquet"})
    assert (moved.display_name, moved.stac_geoparquet_url) == ("parquet", body["stacGeoparquetUrl"])

    await check_run(api, ids, await api.call("create_run", *ids), "IngestionStacGeoparquet")


@scenario()
async def a_run_that_fails_tells_why(api: Api) -> None:
    await api.add_collection()
    await api.add_source()
    api.catalog(item("a"), item("bad", assets={"image": {"href": "./image.tif"}}))

    async def start(path: str) -> tuple[str, str, str]:
        body = {**CATALOG, "sourceCatalogUrl": f"{api.container}/{path}"}
        definition = await api.call("create_ingestion", "demo", body)
        run = await api.call("create_run", "demo", definition.ingestion_id)
        return "demo", definition.ingestion_id, run.run_id

    with pytest.raises(GeoCatalogOperationFailed) as failure:
        await api.wait_for_run(*await start("nothing.json"))
    assert failure.value.code == "IngestionResourceUriNotFound"
    assert failure.value.summary["status"] == "Failed"

    ids = await start("catalog.json")
    with pytest.raises(GeoCatalogItemsFailed) as failure:
        await api.wait_for_run(*ids)
    assert failure.value.code == "ErrorsInBatchOperation"
    assert failure.value.summary["items"] == {"total": 2, "succeeded": 1, "failed": 1, "pending": 0}
    with pytest.raises(GeoCatalogItemsFailed):
        await api.call("wait_for_operation", ids[2], timeout=30)
    assert (await api.wait_for_run(*ids, max_failed_items=1)).operation.counts.failed == 1

    if api.has("get_operation_logs"):
        [log] = await api.call("get_operation_logs", "demo", ids[2])
        assert (log["itemId"], log["errorCode"]) == ("bad", "InvalidAssetHref")
        with pytest.raises(GeoCatalogNotFound):
            await api.call("get_operation_logs", "demo", str(uuid.uuid4()))


@scenario()
async def operations_are_listed_by_status_and_collection(api: Api) -> None:
    await api.add_collection("demo")
    await api.add_collection("other")
    expected = []
    for collection_id, item_id in (("demo", "a"), ("other", "b"), ("demo", "c"), ("demo", "a"), ("other", "b")):
        started = await api.call("create_item", collection_id, item(item_id))
        expected.insert(0, started.operation.operation_id)

    async def ids(**options: object) -> list[str]:
        operations = await api.call("list_operations", **options)
        assert all(isinstance(one, Operation) and is_recent(one.created_at) for one in operations)
        return [one.operation_id for one in operations]

    assert (await ids())[:5] == expected
    assert (await ids(collection_id="other"))[:2] == [expected[0], expected[3]]
    assert await ids(status="Failed") == expected[:2]
    assert await ids(status="Failed", collection_id="demo") == [expected[1]]
    succeeded = await ids(status=api.dialect.success_word, collection_id="demo")
    assert succeeded[:2] == [expected[2], expected[4]]
    assert await ids(status="Running") == []
    failed = await api.call("get_operation", expected[0])
    assert [failed] == await api.call("list_operations", status="Failed", collection_id="other")
    assert (failed.status.outcome, failed.fault.code) == (Outcome.FAILED, "ItemAlreadyExistsInCollection")
    assert failed.raw["statusHistory"][-1]["errorCode"] == "ItemAlreadyExistsInCollection"
    assert failed.ended_at == failed.finished_at
    assert failed.duration >= 0
    with pytest.raises(GeoCatalogNotFound):
        await api.call("get_operation", str(uuid.uuid4()))


@scenario()
async def lists_of_the_ingestion_side_have_pages(api: Api) -> None:
    await api.add_collection()
    body = {**CATALOG, "sourceCatalogUrl": f"{api.container}/nothing.json"}
    definitions = [await api.call("create_ingestion", "demo", body) for _ in range(5)]
    ids = "demo", definitions[0].ingestion_id
    for _ in range(5):
        await api.call("create_source", sas_source(f"c{uuid.uuid4()}"))
        await api.call("create_run", *ids)

    for name, arguments in (
        ("list_sources", ()),
        ("list_ingestions", ("demo",)),
        ("list_runs", ids),
        ("list_operations", ()),
    ):
        whole = [identity(one) for one in await api.call(name, *arguments)]
        assert len(set(whole)) == len(whole) >= 5

        api.emulator.requests.clear()
        assert [identity(one) for one in await api.take(2, name, *arguments, top=2)] == whole[:2]
        assert len(api.sent(name)) == 1
        api.emulator.requests.clear()
        entries = await api.call(name, *arguments, top=2)
        assert {request.query["$top"] for request in api.sent(name)} == {"2"}
        assert [identity(one) for one in entries] == whole
        # A bare list cannot say that it ends with a full page.
        assert len(api.sent(name)) == (len(whole) // 2 + 1 if api.dialect.bare_lists else (len(whole) + 1) // 2)
        skipped = await api.call(name, *arguments, skip=len(whole) - 1)
        assert [identity(one) for one in skipped] == whole[-1:]


def identity(entry: object) -> str:
    return next(
        getattr(entry, name) for name in ("source_id", "ingestion_id", "run_id", "operation_id") if hasattr(entry, name)
    )


STUCK = {"pending_seconds": 3600.0}  # item operations and runs do not get going


@scenario("cancel_operation", **STUCK)
async def one_operation_is_cancelled(api: Api) -> None:
    await api.add_collection()
    started = await api.call("create_item", "demo", item("a"))
    definition = await api.call("create_ingestion", "demo", CATALOG)
    run = await api.call("create_run", "demo", definition.ingestion_id)

    assert await api.call("cancel_operation", started.operation.operation_id) is None

    with pytest.raises(GeoCatalogOperationCanceled) as cancelled:
        await api.wait(started)
    assert cancelled.value.code == "CanceledOperation"
    operation = await api.call("get_operation", started.operation.operation_id)
    assert operation.status.outcome is Outcome.CANCELED
    assert [str(change.status) for change in operation.history] == ["Canceled"]
    assert is_recent(operation.finished_at)
    assert await api.call("list_items", "demo") == []
    with pytest.raises(GeoCatalogBadRequest) as refusal:
        await api.call("cancel_operation", started.operation.operation_id)
    assert refusal.value.code == "ValidationError"
    with pytest.raises(GeoCatalogNotFound):
        await api.call("cancel_operation", str(uuid.uuid4()))
    assert (await api.call("get_run", "demo", definition.ingestion_id, run.run_id)).is_live

    assert await api.call("cancel_operation", run.run_id) is None
    with pytest.raises(GeoCatalogOperationCanceled):
        await api.wait_for_run("demo", definition.ingestion_id, run.run_id)
    assert not (await api.call("get_run", "demo", definition.ingestion_id, run.run_id)).is_live


@scenario("cancel_all_operations", **STUCK)
async def all_operations_are_cancelled(api: Api) -> None:
    await api.add_collection()
    definition = await api.call("create_ingestion", "demo", CATALOG)
    run = await api.call("create_run", "demo", definition.ingestion_id)
    items = [await api.call("create_item", "demo", item(item_id)) for item_id in ("a", "b")]
    with pytest.raises(GeoCatalogConflict):  # its run is active
        await api.call("delete_ingestion", "demo", definition.ingestion_id)

    assert await api.call("cancel_all_operations") is None

    for started in items:
        with pytest.raises(GeoCatalogOperationCanceled):
            await api.wait(started)
    with pytest.raises(GeoCatalogOperationCanceled):
        await api.wait_for_run("demo", definition.ingestion_id, run.run_id)
    cancelled = await api.call("list_operations", status="Canceled")
    assert {one.operation_id for one in cancelled} == {run.run_id, *(one.operation.operation_id for one in items)}
    assert await api.call("list_items", "demo") == []
    assert await api.call("cancel_all_operations") is None  # nothing is left
    await api.wait(await api.call("delete_ingestion", "demo", definition.ingestion_id))


@scenario("cancel_all_operations", collection_tick=3600.0)
async def creating_a_collection_is_cancelled(api: Api) -> None:
    started = await api.call("create_collection", collection("late"))
    with pytest.raises(GeoCatalogNotFound):
        await api.call("get_collection", "late")

    await api.call("cancel_operation", started.operation.operation_id)

    with pytest.raises(GeoCatalogOperationCanceled):
        await api.wait(started)
    assert await api.call("list_collections") == []
    again = await api.call("create_collection", collection("late"))  # the id is free again
    assert again.operation.operation_id != started.operation.operation_id
