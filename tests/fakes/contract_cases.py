"""One call after the other, in the words of the official SDK and in those of our client."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from azure.planetarycomputer import models as m

from airflow_provider_geocatalog.api.http import FilePart

if TYPE_CHECKING:
    from collections.abc import Callable

#: Every kind of character that the two could write differently into a path.
ODD = "ü a+b,(c):d%e/f'g!h*i~j&k=l?m#n;o@p$q%20r"
ITEM_ID = "S2A_(1),b+c.d-e"
GUID = "9e59461b-0ae9-4a71-8ccc-2d2c2f83fa01"
CONTAINER = "https://acct.blob.core.windows.net/c"
SAS = "sv=2023-01-03&st=2026-01-01T00:00:00Z&se=2026-01-07T00:00:00Z&sr=c&sp=rl&sig=a%2Fb%2Bc%3D"
PIXELS = bytes(range(256))


@dataclass(frozen=True)
class Case:
    """
    A call.

    :param operation: Name of the endpoint, which is the name of our client's method.
    :param sdk: Makes the call through the SDK, blocking or not.
    :param about: What is special about it.
    """

    operation: str
    sdk: Callable[[Any], Any]
    about: str = ""
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.operation}: {self.about}" if self.about else self.operation

    def ours(self, client: Any) -> Any:
        """Return what our client's method gives: a value or an iterator."""
        return getattr(client, self.operation)(*self.args, **self.options)

    def ours_aio(self, client: Any) -> Any:
        """Return what our client's asynchronous method gives: an awaitable or an asynchronous iterator."""
        return getattr(client, self.operation).aio(*self.args, **self.options)


def case(operation: str, sdk: Callable[[Any], Any], /, *args: Any, about: str = "", **options: Any) -> Case:
    return Case(operation, sdk, about, args, options)


# --- bodies: for the SDK in its own words, for our client as they stand on the wire -----------------------------------

SAS_SOURCE = {"kind": "SasToken", "connectionInfo": {"containerUrl": CONTAINER, "sasToken": SAS}}
SDK_SAS_SOURCE = m.SharedAccessSignatureTokenIngestionSource(
    connection_info=m.SharedAccessSignatureTokenConnection(container_uri=CONTAINER, shared_access_signature_token=SAS)
)
IDENTITY_SOURCE = {"kind": "BlobManagedIdentity", "connectionInfo": {"containerUrl": CONTAINER, "objectId": GUID}}
SDK_IDENTITY_SOURCE = m.ManagedIdentityIngestionSource(
    connection_info=m.ManagedIdentityConnection(container_uri=CONTAINER, object_id=GUID)
)

STATIC_CATALOG = {
    "importType": "StaticCatalog",
    "displayName": "nächtlich",
    "sourceCatalogUrl": f"{CONTAINER}/catalog.json",
    "skipExistingItems": True,
    "keepOriginalAssets": False,
}
SDK_STATIC_CATALOG = m.IngestionDefinition(
    import_type=m.IngestionType.STATIC_CATALOG,
    display_name="nächtlich",
    source_catalog_url=f"{CONTAINER}/catalog.json",
    skip_existing_items=True,
    keep_original_assets=False,
)
GEOPARQUET = {"importType": "StacGeoparquet", "stacGeoparquetUrl": f"{CONTAINER}/items.parquet"}
SDK_GEOPARQUET = m.IngestionDefinition(
    import_type=m.IngestionType.STAC_GEOPARQUET, stac_geoparquet_url=f"{CONTAINER}/items.parquet"
)
RENAMED = {"importType": "StaticCatalog", "displayName": "weekly"}
SDK_RENAMED = m.IngestionDefinition(import_type="StaticCatalog", display_name="weekly")

COLLECTION = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "stac_extensions": ["https://stac-extensions.github.io/item-assets/v1.0.0/schema.json"],
    "id": ODD,
    "title": "Bäume",
    "description": "Luftbilder 🛰",
    "msft:short_description": "kurz",
    "license": "CC0-1.0",
    "extent": {
        "spatial": {"bbox": [[-180.0, -90.0, 180.0, 90.0]]},
        "temporal": {"interval": [["2020-01-01T00:00:00Z", "2024-12-31T23:59:59.500000Z"]]},
    },
    "keywords": ["naip", "ü"],
    "providers": [{"name": "USDA", "roles": ["producer"], "url": "https://example.com/?a=b&c"}],
    "item_assets": {"image": {"title": "RGBIR", "type": "image/tiff", "roles": ["data"]}},
    "summaries": {"gsd": [0.3, 1]},
    "links": [{"rel": "license", "href": "https://example.com/license", "type": "text/html", "title": "L"}],
}
SDK_COLLECTION = m.StacCollection(
    type="Collection",
    stac_version="1.0.0",
    stac_extensions=["https://stac-extensions.github.io/item-assets/v1.0.0/schema.json"],
    id=ODD,
    title="Bäume",
    description="Luftbilder 🛰",
    short_description="kurz",
    license="CC0-1.0",
    extent=m.StacExtensionExtent(
        spatial=m.StacExtensionSpatialExtent(bounding_box=[[-180.0, -90.0, 180.0, 90.0]]),
        temporal=m.StacCollectionTemporalExtent(
            interval=[
                [
                    dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
                    dt.datetime(2024, 12, 31, 23, 59, 59, 500_000, tzinfo=dt.UTC),
                ]
            ]
        ),
    ),
    keywords=["naip", "ü"],
    providers=[m.StacProvider(name="USDA", roles=["producer"], url="https://example.com/?a=b&c")],
    item_assets={"image": m.StacItemAsset(title="RGBIR", type="image/tiff", roles=["data"])},
    summaries={"gsd": [0.3, 1]},
    links=[m.StacLink(rel="license", href="https://example.com/license", type="text/html", title="L")],
)
#: As a read gives it: with assets, an open end, and members that the SDK does not model.
READ_COLLECTION = {
    **COLLECTION,
    "id": "naip",
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]}},
    "assets": {"thumbnail": {"href": f"{CONTAINER}/t.png", "title": "T", "type": "image/png", "roles": ["thumbnail"]}},
    "msft:region": "uksouth",
    "sci:doi": None,
}

ASSET = {"key": "thumbnail", "type": "image/png", "roles": ["thumbnail"], "title": "Klein", "description": "ü"}
SDK_ASSET = m.AssetMetadata(key="thumbnail", type="image/png", roles=["thumbnail"], title="Klein", description="ü")
FULL_ASSET = {**ASSET, "href": "https://example.com/t.png"}

POLYGON = [[[0.0, 0.0], [1.5, 0.0], [1.5, 1.0], [0.0, 0.0]]]


def item(item_id: str, collection: str = "naip") -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/eo/v1.1.0/schema.json"],
        "id": item_id,
        "collection": collection,
        "geometry": {"type": "Polygon", "coordinates": POLYGON},
        "bbox": [0.0, 0.0, 1.5, 1.0],
        "properties": {
            "datetime": "2024-01-01T00:00:00Z",
            "start_datetime": "2024-01-01T00:00:00Z",
            "gsd": 0.6,
            "title": "Bäume",
            "eo:cloud_cover": 12.5,
        },
        "assets": {"image": {"href": f"{CONTAINER}/a%20b.tif?{SAS}", "type": "image/tiff", "roles": ["data"]}},
        "links": [{"rel": "via", "href": "https://example.com/a"}],
    }


def sdk_item(item_id: str, collection: str = "naip") -> m.StacItem:
    properties = m.StacItemProperties(
        date_time="2024-01-01T00:00:00Z",
        start_datetime=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        gsd=0.6,
        title="Bäume",
    )
    properties["eo:cloud_cover"] = 12.5
    return m.StacItem(
        stac_version="1.0.0",
        stac_extensions=["https://stac-extensions.github.io/eo/v1.1.0/schema.json"],
        id=item_id,
        collection=collection,
        geometry=m.Polygon(coordinates=POLYGON),
        bounding_box=[0.0, 0.0, 1.5, 1.0],
        properties=properties,
        assets={"image": m.StacAsset(href=f"{CONTAINER}/a%20b.tif?{SAS}", type="image/tiff", roles=["data"])},
        links=[m.StacLink(rel="via", href="https://example.com/a")],
    )


FEATURES = {"type": "FeatureCollection", "features": [item("a"), item(ITEM_ID)]}
SDK_FEATURES = m.StacItemCollection(features=[sdk_item("a"), sdk_item(ITEM_ID)])
ITEM_CHANGES: dict[str, Any] = {"properties": {"title": "neu ü", "gsd": None}}

POINT = {"type": "Point", "coordinates": [1.5, 2.5]}
CQL2 = {"op": "s_intersects", "args": [{"property": "geometry"}, POINT]}
QUERY = {"eo:cloud_cover": {"lt": 20}, "title": {"eq": "ü"}}
SORTBY = [{"field": "datetime", "direction": "desc"}, {"field": "id", "direction": "asc"}]
SDK_SORTBY = [
    m.StacSortExtension(field="datetime", direction=m.StacSearchSortingDirection.DESC),
    m.StacSortExtension(field="id", direction=m.StacSearchSortingDirection.ASC),
]
FIELDS = {"include": ["id", "properties.gsd"], "exclude": ["links"]}
EVERYTHING = {
    "collections": ["naip", ODD],
    "ids": [ITEM_ID, "ü"],
    "datetime": "2024-01-01T00:00:00Z/..",
    "limit": 50,
    "query": QUERY,
    "sortby": SORTBY,
    "fields": FIELDS,
    "filter": CQL2,
    "filter_crs": "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
    "filter_lang": "cql2-json",
    "conf": {"nohydrate": True},
    "token": "next:naip:a b+c",
}


def sdk_everything(**more: Any) -> m.StacSearchParameters:
    return m.StacSearchParameters(
        collections=["naip", ODD],
        ids=[ITEM_ID, "ü"],
        date_time="2024-01-01T00:00:00Z/..",
        limit=50,
        query=QUERY,
        sort_by=SDK_SORTBY,
        fields=[m.SearchOptionsFields(include=["id", "properties.gsd"], exclude=["links"])],
        filter=CQL2,
        filter_coordinate_reference_system="http://www.opengis.net/def/crs/OGC/1.3/CRS84",
        filter_lang=m.FilterLanguage.CQL2_JSON,
        conformance_class={"nohydrate": True},
        token="next:naip:a b+c",
        **more,
    )


QUERYABLE = {
    "name": "eo:cloud_cover",
    "definition": {"type": "number", "title": "Wolken ü", "enum": [0, 0.5]},
    "data_type": "number",
    "create_index": True,
}
SDK_QUERYABLE = m.StacQueryable(
    name="eo:cloud_cover",
    definition={"type": "number", "title": "Wolken ü", "enum": [0, 0.5]},
    data_type=m.StacQueryableDefinitionDataType.NUMBER,
    create_index=True,
)

MOSAIC = {"id": ODD, "name": "Beste ü", "description": "d", "cql": [CQL2]}
SDK_MOSAIC = m.StacMosaic(id=ODD, name="Beste ü", description="d", cql=[CQL2])

RASTER = {
    "id": ODD,
    "name": "Natural",
    "description": "d",
    "type": "raster-tile",
    "options": "assets=image&asset_bidx=image|1,2,3&rescale=0,255",
    "minZoom": 6,
    "legend": {"type": "continuous", "labels": ["a", "ü"], "trimStart": 1, "trimEnd": 2, "scaleFactor": 0.5},
    "conditions": [{"property": "eo:cloud_cover", "value": "1"}],
}
SDK_RASTER = m.RenderOption(
    id=ODD,
    name="Natural",
    description="d",
    type=m.RenderOptionType.RASTER_TILE,
    options="assets=image&asset_bidx=image|1,2,3&rescale=0,255",
    min_zoom=6,
    legend=m.RenderOptionLegend(
        type=m.LegendConfigType.CONTINUOUS, labels=["a", "ü"], trim_start=1, trim_end=2, scale_factor=0.5
    ),
    conditions=[m.RenderOptionCondition(property="eo:cloud_cover", value="1")],
)
VECTOR = {
    "id": "v",
    "name": "V",
    "type": "vt-polygon",
    "vectorOptions": {
        "tilejsonKey": "t",
        "sourceLayer": "s",
        "fillColor": "#fff",
        "strokeColor": "#000",
        "strokeWidth": 2,
        "filter": ["=="],
    },
}
SDK_VECTOR = m.RenderOption(
    id="v",
    name="V",
    type=m.RenderOptionType.VT_POLYGON,
    vector_options=m.RenderOptionVectorOptions(
        tilejson_key="t", source_layer="s", fill_color="#fff", stroke_color="#000", stroke_width=2, filter=["=="]
    ),
)
TILES = {"minZoom": 6, "maxItemsPerTile": 35, "defaultLocation": {"zoom": 3, "coordinates": [47.25, -122.5]}}
SDK_TILES = m.TileSettings(
    min_zoom=6,
    max_items_per_tile=35,
    default_location=m.DefaultLocation(zoom=3, coordinates=[47.25, -122.5]),
)
HREF = f"{CONTAINER}/a b/ü+c%20d.tif?x=1&y=a b&{SAS}#part"

# --- the calls --------------------------------------------------------------------------------------------------------

INGESTION_CASES = [
    case("list_sources", lambda s: s.ingestion.list_sources()),
    case("list_sources", lambda s: s.ingestion.list_sources(top=5, skip=2), top=5, skip=2, about="page"),
    case("list_sources", lambda s: s.ingestion.list_sources(top=0, skip=0), top=0, skip=0, about="zeros"),
    case("list_sources", lambda s: s.ingestion.list_sources(top=1), top=1, about="two pages"),
    case("create_source", lambda s: s.ingestion.create_source(SDK_SAS_SOURCE), SAS_SOURCE, about="SAS token"),
    case(
        "create_source",
        lambda s: s.ingestion.create_source(SDK_IDENTITY_SOURCE),
        IDENTITY_SOURCE,
        about="managed identity",
    ),
    case("get_source", lambda s: s.ingestion.get_source(GUID), GUID),
    case("get_source", lambda s: s.ingestion.get_source(ODD), ODD, about="odd id"),
    case(
        "replace_source",
        lambda s: s.ingestion.replace_source(
            GUID, m.ManagedIdentityIngestionSource(id=GUID, connection_info=SDK_IDENTITY_SOURCE.connection_info)
        ),
        GUID,
        {"id": GUID, **IDENTITY_SOURCE},
        about="with its id",
    ),
    case("replace_source", lambda s: s.ingestion.replace_source(ODD, SDK_SAS_SOURCE), ODD, SAS_SOURCE, about="odd id"),
    case("delete_source", lambda s: s.ingestion.delete_source(ODD), ODD, about="odd id"),
    case("list_managed_identities", lambda s: s.ingestion.list_managed_identities()),
    case("list_ingestions", lambda s: s.ingestion.list("naip"), "naip"),
    case("list_ingestions", lambda s: s.ingestion.list(ODD, top=1), ODD, top=1, about="two pages, odd id"),
    case("list_ingestions", lambda s: s.ingestion.list("naip", top=5, skip=2), "naip", top=5, skip=2, about="page"),
    case(
        "create_ingestion",
        lambda s: s.ingestion.create(ODD, SDK_STATIC_CATALOG),
        ODD,
        STATIC_CATALOG,
        about="static catalog, odd id",
    ),
    case(
        "create_ingestion",
        lambda s: s.ingestion.create("naip", SDK_GEOPARQUET),
        "naip",
        GEOPARQUET,
        about="geoparquet",
    ),
    case("get_ingestion", lambda s: s.ingestion.get(ODD, GUID), ODD, GUID, about="odd id"),
    case(
        "update_ingestion",
        lambda s: s.ingestion.update(ODD, GUID, SDK_RENAMED),
        ODD,
        GUID,
        RENAMED,
        about="odd id",
    ),
    case(
        "update_ingestion",
        lambda s: s.ingestion.update("naip", GUID, {"displayName": None}),
        "naip",
        GUID,
        {"displayName": None},
        about="remove a member",
    ),
    case("delete_ingestion", lambda s: s.ingestion.begin_delete(ODD, GUID, polling=False), ODD, GUID, about="odd id"),
    case("list_runs", lambda s: s.ingestion.list_runs("naip", GUID), "naip", GUID),
    case("list_runs", lambda s: s.ingestion.list_runs(ODD, GUID, top=1), ODD, GUID, top=1, about="two pages, odd id"),
    case(
        "list_runs",
        lambda s: s.ingestion.list_runs("naip", GUID, top=5, skip=2),
        "naip",
        GUID,
        top=5,
        skip=2,
        about="page",
    ),
    case("create_run", lambda s: s.ingestion.create_run(ODD, GUID), ODD, GUID, about="odd id"),
    case("get_run", lambda s: s.ingestion.get_run(ODD, GUID, GUID), ODD, GUID, GUID, about="odd id"),
    case("list_operations", lambda s: s.ingestion.list_operations()),
    case(
        "list_operations",
        lambda s: s.ingestion.list_operations(top=5, skip=2, collection_id=ODD, status=m.OperationStatus.RUNNING),
        top=5,
        skip=2,
        collection_id=ODD,
        status="Running",
        about="all parameters",
    ),
    case(
        "list_operations",
        lambda s: s.ingestion.list_operations(top=1, collection_id=ODD),
        top=1,
        collection_id=ODD,
        about="two pages",
    ),
    case("get_operation", lambda s: s.ingestion.get_operation(GUID), GUID),
    case("cancel_operation", lambda s: s.ingestion.cancel_operation(GUID), GUID),
    case("cancel_all_operations", lambda s: s.ingestion.cancel_all_operations()),
]

COLLECTION_CASES = [
    case("get_landing_page", lambda s: s.stac.get_landing_page()),
    case("get_conformance", lambda s: s.stac.get_conformance_classes()),
    case("list_collections", lambda s: s.stac.get_collections()),
    case(
        "list_collections",
        lambda s: s.stac.get_collections(sign=m.StacAssetUrlSigningMode.TRUE, duration_in_minutes=30),
        sign=True,
        duration=30,
        about="signed",
    ),
    case(
        "create_collection",
        lambda s: s.stac.begin_create_collection(SDK_COLLECTION, polling=False),
        COLLECTION,
        about="model",
    ),
    case("get_collection", lambda s: s.stac.get_collection("naip"), "naip"),
    case(
        "get_collection",
        lambda s: s.stac.get_collection(ODD, sign="false", duration_in_minutes=1),
        ODD,
        sign=False,
        duration=1,
        about="all parameters, odd id",
    ),
    case(
        "replace_collection", lambda s: s.stac.replace_collection(ODD, SDK_COLLECTION), ODD, COLLECTION, about="odd id"
    ),
    case(
        "replace_collection",
        lambda s: s.stac.replace_collection("naip", READ_COLLECTION),
        "naip",
        READ_COLLECTION,
        about="as it was read",
    ),
    case("delete_collection", lambda s: s.stac.begin_delete_collection(ODD, polling=False), ODD, about="odd id"),
    case(
        "create_collection_asset",
        lambda s: s.stac.create_collection_asset(
            ODD, m.StacAssetData(data=SDK_ASSET, file=("small.png", PIXELS, "image/png"))
        ),
        ODD,
        ASSET,
        FilePart("small.png", PIXELS, "image/png"),
        about="model, odd id",
    ),
    case(
        "create_collection_asset",
        lambda s: s.stac.create_collection_asset(
            "naip", {"data": FULL_ASSET, "file": ("klein ü (1), a+b.png", PIXELS, "image/png")}
        ),
        "naip",
        FULL_ASSET,
        FilePart("klein ü (1), a+b.png", PIXELS, "image/png"),
        about="href given, odd file name",
    ),
    case(
        "replace_collection_asset",
        lambda s: s.stac.replace_collection_asset(
            ODD,
            ODD,
            {"data": {**FULL_ASSET, "key": ODD}, "file": ("new.bin", b"\r\n--x\r\n", "application/octet-stream")},
        ),
        ODD,
        ODD,
        {**FULL_ASSET, "key": ODD},
        FilePart("new.bin", b"\r\n--x\r\n"),
        about="odd ids",
    ),
    case("delete_collection_asset", lambda s: s.stac.delete_collection_asset(ODD, ODD), ODD, ODD, about="odd ids"),
    case("get_collection_thumbnail", lambda s: s.stac.get_collection_thumbnail(ODD), ODD, about="odd id"),
]

ITEM_CASES = [
    case("list_items", lambda s: s.stac.get_item_collection("naip"), "naip", limit=None),
    case(
        "list_items",
        lambda s: s.stac.get_item_collection(
            ODD,
            limit=50,
            bounding_box=["-10.5", "0", "10", "20.25"],
            datetime="2024-01-01T00:00:00+02:00/..",
            token="next:naip:a b+c",
            sign="true",
            duration_in_minutes=60,
        ),
        ODD,
        limit=50,
        bbox=[-10.5, 0, 10, 20.25],
        datetime="2024-01-01T00:00:00+02:00/..",
        token="next:naip:a b+c",
        sign=True,
        duration=60,
        about="all parameters, odd id",
    ),
    case(
        "create_item",
        lambda s: s.stac.begin_create_item(ODD, sdk_item(ITEM_ID, ODD), polling=False),
        ODD,
        item(ITEM_ID, ODD),
        about="item, odd id",
    ),
    case(
        "create_item",
        lambda s: s.stac.begin_create_item("naip", SDK_FEATURES, polling=False),
        "naip",
        FEATURES,
        about="several items",
    ),
    case("get_item", lambda s: s.stac.get_item("naip", ITEM_ID), "naip", ITEM_ID),
    case(
        "get_item",
        lambda s: s.stac.get_item(ODD, ODD, sign="true", duration_in_minutes=60),
        ODD,
        ODD,
        sign=True,
        duration=60,
        about="all parameters, odd ids",
    ),
    case(
        "replace_item",
        lambda s: s.stac.begin_replace_item(ODD, ITEM_ID, sdk_item(ITEM_ID, ODD), polling=False),
        ODD,
        ITEM_ID,
        item(ITEM_ID, ODD),
        about="odd ids",
    ),
    case(
        "update_item",
        lambda s: s.stac.begin_update_item(ODD, ODD, ITEM_CHANGES, polling=False),
        ODD,
        ODD,
        ITEM_CHANGES,
        about="odd ids",
    ),
    case("delete_item", lambda s: s.stac.begin_delete_item(ODD, ODD, polling=False), ODD, ODD, about="odd ids"),
    case("search", lambda s: s.stac.search(m.StacSearchParameters()), limit=None),
    case(
        "search",
        lambda s: s.stac.search(
            sdk_everything(bounding_box=[-10.5, 0, 10, 20.25]), sign="true", duration_in_minutes=60
        ),
        **EVERYTHING,
        bbox=[-10.5, 0, 10, 20.25],
        sign=True,
        duration=60,
        about="everything with a box",
    ),
    case(
        "search",
        lambda s: s.stac.search(m.StacSearchParameters(intersects=m.Point(coordinates=[1.5, 2.5]))),
        intersects=POINT,
        limit=None,
        about="geometry",
    ),
    case(
        "search", lambda s: s.stac.search({"fields": FIELDS}), fields=FIELDS, limit=None, about="fields as one object"
    ),
    case(
        "search",
        lambda s: s.stac.search(m.StacSearchParameters(filter=CQL2)),
        filter=CQL2,
        limit=None,
        about="filter alone",
    ),
]

CONFIGURATION_CASES = [
    case("get_queryables", lambda s: s.stac.get_queryables()),
    case("get_collection_queryables", lambda s: s.stac.get_collection_queryables(ODD), ODD, about="odd id"),
    case(
        "create_queryables",
        lambda s: s.stac.create_queryables(ODD, [SDK_QUERYABLE, SDK_QUERYABLE]),
        ODD,
        [QUERYABLE, QUERYABLE],
        about="odd id",
    ),
    case(
        "replace_queryable",
        lambda s: s.stac.replace_queryable(ODD, "eo:cloud_cover", SDK_QUERYABLE),
        ODD,
        "eo:cloud_cover",
        QUERYABLE,
        about="name with a colon, odd id",
    ),
    case(
        "delete_queryable",
        lambda s: s.stac.delete_queryable("naip", "eo:cloud_cover"),
        "naip",
        "eo:cloud_cover",
        about="name with a colon",
    ),
    case("get_collection_configuration", lambda s: s.stac.get_collection_configuration(ODD), ODD, about="odd id"),
    case("list_mosaics", lambda s: s.stac.get_mosaics(ODD), ODD, about="odd id"),
    case("add_mosaic", lambda s: s.stac.add_mosaic(ODD, SDK_MOSAIC), ODD, MOSAIC, about="odd id"),
    case("get_mosaic", lambda s: s.stac.get_mosaic(ODD, ODD), ODD, ODD, about="odd ids"),
    case(
        "replace_mosaic",
        lambda s: s.stac.replace_mosaic(ODD, ODD, {**MOSAIC, "id": ODD}),
        ODD,
        ODD,
        {**MOSAIC, "id": ODD},
        about="odd ids",
    ),
    case("delete_mosaic", lambda s: s.stac.delete_mosaic(ODD, ODD), ODD, ODD, about="odd ids"),
    case("list_render_options", lambda s: s.stac.get_render_options(ODD), ODD, about="odd id"),
    case(
        "create_render_option",
        lambda s: s.stac.create_render_option(ODD, SDK_RASTER),
        ODD,
        RASTER,
        about="raster, odd id",
    ),
    case(
        "create_render_option",
        lambda s: s.stac.create_render_option("naip", SDK_VECTOR),
        "naip",
        VECTOR,
        about="vector",
    ),
    case("get_render_option", lambda s: s.stac.get_render_option(ODD, ODD), ODD, ODD, about="odd ids"),
    case(
        "replace_render_option",
        lambda s: s.stac.replace_render_option(ODD, ODD, {**RASTER, "id": ODD}),
        ODD,
        ODD,
        {**RASTER, "id": ODD},
        about="odd ids",
    ),
    case("delete_render_option", lambda s: s.stac.delete_render_option(ODD, ODD), ODD, ODD, about="odd ids"),
    case("get_tile_settings", lambda s: s.stac.get_tile_settings(ODD), ODD, about="odd id"),
    case(
        "replace_tile_settings",
        lambda s: s.stac.replace_tile_settings(ODD, SDK_TILES),
        ODD,
        TILES,
        about="odd id",
    ),
    case("get_partition_type", lambda s: s.stac.get_partition_type(ODD), ODD, about="odd id"),
    case(
        "replace_partition_type",
        lambda s: s.stac.replace_partition_type(ODD, m.PartitionType(scheme=m.PartitionTypeScheme.YEAR)),
        ODD,
        {"scheme": "year"},
        about="odd id",
    ),
]

SAS_CASES = [
    case("get_sas_token", lambda s: s.sas.get_token("naip"), "naip"),
    case(
        "get_sas_token",
        lambda s: s.sas.get_token(ODD, duration_in_minutes=60),
        ODD,
        duration=60,
        about="duration, odd id",
    ),
    case("sign_href", lambda s: s.sas.get_url(href=HREF), HREF),
    case("sign_href", lambda s: s.sas.get_url(href=HREF, duration_in_minutes=60), HREF, duration=60, about="duration"),
    case("revoke_sas_tokens", lambda s: s.sas.revoke_token()),
    case("revoke_sas_tokens", lambda s: s.sas.revoke_token(duration_in_minutes=60), duration=60, about="duration"),
]

CASES = [*INGESTION_CASES, *COLLECTION_CASES, *ITEM_CASES, *CONFIGURATION_CASES, *SAS_CASES]
