"""The official SDK, which was not written by us, against the emulator."""

from __future__ import annotations

import datetime
import io

import pytest
import rustac
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.planetarycomputer import PlanetaryComputerProClient
from azure.planetarycomputer import models as m


class PlainBearer(SansIOHTTPPolicy):
    """The SDK's own policy refuses to send a token over http."""

    def on_request(self, request):
        request.http_request.headers["Authorization"] = "Bearer admin-token"


class FakeCredential:
    def get_token(self, *scopes, **options):
        return AccessToken("unused", 2**31)


@pytest.fixture
def sdk(client):
    with PlanetaryComputerProClient(
        client.url, FakeCredential(), authentication_policy=PlainBearer(), polling_interval=0
    ) as sdk:
        yield sdk


@pytest.fixture
def filled(sdk, new_collection, new_item):
    sdk.stac.begin_create_collection(new_collection("demo")).result()
    sdk.stac.begin_create_item("demo", {**new_item("a"), "collection": "demo"}).result()
    return sdk


def test_the_sdk_creates_reads_replaces_and_deletes_a_collection(sdk, new_collection):
    sdk.stac.begin_create_collection(new_collection("demo")).result()
    assert sdk.stac.get_collection("demo").description == "a test"
    assert sdk.stac.replace_collection("demo", new_collection("demo", description="new")).description == "new"
    assert [one.id for one in sdk.stac.get_collections().collections] == ["demo"]
    with pytest.raises(ResourceExistsError):
        sdk.stac.begin_create_collection(new_collection("demo"))

    sdk.stac.begin_delete_collection("demo", polling=True).result()

    with pytest.raises(ResourceNotFoundError):
        sdk.stac.get_collection("demo")


def test_the_sdk_writes_and_finds_items(filled, new_item):
    assert filled.stac.get_item("demo", "a").id == "a"
    assert [one.id for one in filled.stac.get_item_collection("demo").features] == ["a"]
    found = filled.stac.search(m.StacSearchParameters(collections=["demo"], limit=5))
    assert [one.id for one in found.features] == ["a"]
    with pytest.raises(HttpResponseError):
        filled.stac.begin_create_item("demo", {**new_item("a"), "collection": "demo"}).result()

    filled.stac.begin_delete_item("demo", "a").result()

    assert filled.stac.get_item_collection("demo").features == []


def test_the_sdk_configures_a_collection(filled):
    option = m.RenderOption(id="natural", name="Natural", type="raster-tile", options="assets=image")
    assert filled.stac.create_render_option("demo", option).id == "natural"
    assert [one.id for one in filled.stac.get_render_options("demo")] == ["natural"]
    assert filled.stac.add_mosaic("demo", m.StacMosaic(id="m", name="M", cql=[])).id == "m"
    assert {one.id for one in filled.stac.get_mosaics("demo")} == {"default", "m"}
    assert filled.stac.replace_tile_settings("demo", m.TileSettings(min_zoom=7, max_items_per_tile=3)).min_zoom == 7
    assert filled.stac.get_partition_type("demo").scheme == "none"
    assert len(filled.stac.get_collection_configuration("demo").mosaic_configuration.mosaics) == 2


def test_the_sdk_registers_and_renews_a_source(sdk):
    token = "st=2026-01-01T00:00:00Z&se=2099-01-01T00:00:00Z&sr=c&sp=rl&sig=x"
    info = m.SharedAccessSignatureTokenConnection(
        container_uri="https://a.blob.core.windows.net/c", shared_access_signature_token=token
    )
    created = sdk.ingestion.create_source(m.SharedAccessSignatureTokenIngestionSource(connection_info=info))

    assert created.connection_info.expiration == datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)
    assert [one.id for one in sdk.ingestion.list_sources()] == [created.id]
    renewed = sdk.ingestion.replace_source(
        created.id, m.SharedAccessSignatureTokenIngestionSource(id=created.id, connection_info=info)
    )
    assert renewed.id == created.id
    assert len(list(sdk.ingestion.list_managed_identities())) == 1
    sdk.ingestion.delete_source(created.id)
    with pytest.raises(ResourceNotFoundError):
        sdk.ingestion.get_source(created.id)


def test_the_sdk_runs_an_ingestion(filled, client, catalogs):
    definition = m.IngestionDefinition(
        import_type="StaticCatalog", source_catalog_url=catalogs.of("b", "c"), display_name="nightly"
    )
    ingestion = filled.ingestion.create("demo", definition)
    run = filled.ingestion.create_run("demo", ingestion.id)
    client.poll(f"/inma/operations/{run.id}", lambda body: body["status"] == "Succeeded")

    run = filled.ingestion.get_run("demo", ingestion.id, run.id)

    assert run.operation.total_successful_items == 2
    assert filled.ingestion.get_operation(run.id).additional_information["TotalItems"] == "2"
    assert [one.id for one in filled.ingestion.list_runs("demo", ingestion.id)] == [run.id]
    assert run.id in [one.id for one in filled.ingestion.list_operations(status="Succeeded")]
    filled.ingestion.update("demo", ingestion.id, {"importType": "StaticCatalog", "displayName": "weekly"})
    assert [one.display_name for one in filled.ingestion.list("demo")] == ["weekly"]
    filled.ingestion.begin_delete("demo", ingestion.id, polling=False)
    filled.ingestion.cancel_all_operations()


def test_the_sdk_manages_the_assets_of_a_collection(filled):
    metadata = m.AssetMetadata(
        key="thumbnail", type="image/png", roles=["thumbnail"], title="Small", description="a picture"
    )
    body = m.StacAssetData(data=metadata, file=("small.png", b"pixels", "image/png"))

    created = filled.stac.create_collection_asset("demo", body)
    assert created.assets["thumbnail"].href.endswith("/collection-assets/thumbnail/small.png")
    assert b"".join(filled.stac.get_collection_thumbnail("demo")) == b"pixels"
    with pytest.raises(ResourceExistsError):
        filled.stac.create_collection_asset("demo", body)
    # The SDK's model of an asset holds what the service answered, so the collection can be sent back as it was read.
    assert (
        filled.stac.replace_collection("demo", filled.stac.get_collection("demo")).assets["thumbnail"].title == "Small"
    )

    body = m.StacAssetData(data=metadata, file=("new.png", io.BytesIO(b"other"), "image/png"))
    replaced = filled.stac.replace_collection_asset("demo", "thumbnail", body)

    assert replaced.assets["thumbnail"].href.endswith("/new.png")
    assert b"".join(filled.stac.get_collection_thumbnail("demo")) == b"other"
    assert not filled.stac.delete_collection_asset("demo", "thumbnail").assets
    with pytest.raises(ResourceNotFoundError, match="Asset key 'thumbnail' not found in collection 'demo'"):
        filled.stac.delete_collection_asset("demo", "thumbnail")
    with pytest.raises(ResourceNotFoundError):
        filled.stac.get_collection_thumbnail("demo")


def test_the_sdk_manages_queryables(filled):
    queryable = m.StacQueryable(
        name="eo:cloud_cover", definition={"type": "number"}, data_type="number", create_index=False
    )

    assert [one.data_type for one in filled.stac.create_queryables("demo", [queryable])] == ["number"]
    assert filled.stac.get_collection_queryables("demo")["properties"]["eo:cloud_cover"] == {"type": "number"}
    assert "eo:cloud_cover" in filled.stac.get_queryables()["properties"]
    assert filled.stac.replace_queryable("demo", "eo:cloud_cover", queryable).data_type is None
    with pytest.raises(ResourceExistsError):
        filled.stac.create_queryables("demo", [queryable])
    filled.stac.delete_queryable("demo", "eo:cloud_cover")
    with pytest.raises(ResourceNotFoundError, match="Queryable 'eo:cloud_cover' not found for collection 'demo'"):
        filled.stac.delete_queryable("demo", "eo:cloud_cover")


def test_the_sdk_gets_tokens_and_signed_hrefs(filled):
    before = datetime.datetime.now(datetime.UTC)
    token = filled.sas.get_token("demo", duration_in_minutes=60)
    assert abs(token.expires_on - before - datetime.timedelta(hours=1)) < datetime.timedelta(minutes=1)
    href = filled.stac.get_item("demo", "a").assets["image"].href

    signed = filled.sas.get_url(href=href, duration_in_minutes=60)

    assert signed.href.startswith(f"{href}?st=")
    assert "sig=" in filled.stac.get_item("demo", "a", sign="true", duration_in_minutes=60).assets["image"].href
    searched = filled.stac.search(m.StacSearchParameters(collections=["demo"]), sign="true")
    assert "sig=" in searched.features[0].assets["image"].href
    assert filled.sas.get_url(href="https://example.com/x").expires_on is None
    filled.sas.revoke_token()


def test_the_sdk_runs_an_ingestion_of_geoparquet(filled, client, catalogs, new_item):
    file = catalogs.folder / "items.parquet"
    rustac.write_sync(str(file), [new_item("b"), new_item("c")])
    definition = m.IngestionDefinition(import_type=m.IngestionType.STAC_GEOPARQUET, stac_geoparquet_url=file.as_uri())
    ingestion = filled.ingestion.create("demo", definition)
    run = filled.ingestion.create_run("demo", ingestion.id)

    operation = client.poll(f"/inma/operations/{run.id}", lambda body: body["status"] == "Succeeded")

    assert ingestion.stac_geoparquet_url == file.as_uri()
    assert operation["type"] == "IngestionStacGeoparquet"
    assert filled.ingestion.get_run("demo", ingestion.id, run.id).operation.total_successful_items == 2
