"""
What our client sends where the official SDK has no counterpart: in older api-versions, and for the search by GET.

The tables below are written by hand from the service's documentation as the wire reference sums it up (geocatalog-api
3, 5, 7 and 8). They use no knowledge of the package: neither its paths nor its dialects.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import pytest
from azure.core.credentials import AccessToken

from airflow_provider_geocatalog.api.dialects import API_VERSIONS, dialect_for
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput, GeoCatalogUnsupportedOperation
from airflow_provider_geocatalog.api.http import FilePart
from airflow_provider_geocatalog.auth import ConnectionSettings, TokenSource
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.rate_limit import RateLimit
from tests.fakes.clock import FakeClock
from tests.fakes.recording_server import RecordingServer

V2024, V2025, V2026 = "2024-01-31-preview", "2025-04-30-preview", "2026-04-15"


@dataclass(frozen=True)
class Row:
    """
    An operation and what it has to send.

    :param operation: Our client's method.
    :param line: Method, path as it stands in the request line, query without ``api-version`` and before encoding; a
        line for each request.
    :param args: What the method is given.
    :param body: JSON value, bytes of a form with the boundary ``BOUNDARY``, or ``None`` for no body.
    """

    operation: str
    line: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    body: Any


def row(operation: str, line: str, /, *args: Any, body: Any = None, **options: Any) -> Row:
    return Row(operation, line, args, options, body)


SAS_INFO = {"containerUrl": "https://acct.blob.core.windows.net/c", "sasToken": "sv=1&st=2&se=3&sr=c&sp=rl&sig=%2B"}
IDENTITY_INFO = {"containerUrl": "https://acct.blob.core.windows.net/c", "objectId": "o-1"}
DEFINITION = {
    "importType": "StaticCatalog",
    "sourceCatalogUrl": "https://acct.blob.core.windows.net/c/catalog.json",
    "displayName": "nightly",
    "skipExistingItems": True,
    "keepOriginalAssets": False,
}
COLLECTION = {"id": "a.b", "type": "Collection", "description": "ü", "license": "x", "extent": {}, "links": []}
ITEM = {"type": "Feature", "id": "i+1", "collection": "a b", "properties": {"datetime": None}, "assets": {}}
FEATURES = {"type": "FeatureCollection", "features": [ITEM]}
QUERYABLE = {"name": "eo:cloud_cover", "definition": {"type": "number"}, "data_type": "number", "create_index": True}
MOSAIC = {"id": "m 1", "name": "M", "cql": []}
OPTION = {"id": "r/1", "name": "R", "type": "raster-tile", "options": "assets=image", "minZoom": 6}
TILES = {"minZoom": 6, "maxItemsPerTile": 35}
ASSET = {"key": "thumbnail", "type": "image/png", "roles": ["thumbnail"], "title": "T"}
FILE = FilePart("small.png", b"pixels", "image/png")
FORM = (
    b"--BOUNDARY\r\n"
    b'Content-Disposition: form-data; name="file"; filename="small.png"\r\n'
    b"Content-Type: image/png\r\n\r\n"
    b"pixels\r\n"
    b"--BOUNDARY\r\n"
    b'Content-Disposition: form-data; name="data"\r\n\r\n'
    b'{"href":"","key":"thumbnail","type":"image/png","roles":["thumbnail"],"title":"T"}\r\n'
    b"--BOUNDARY--\r\n"
)
MORNING = dt.datetime(2024, 1, 1, 8, tzinfo=dt.timezone(dt.timedelta(hours=2)))
SEARCH_BY_GET: dict[str, Any] = {
    "collections": ["naip", "a b"],
    "ids": ["i+1", "j"],
    "bbox": [-10.5, 0, 10, 20],
    "datetime": (MORNING, None),
    "limit": 250,
    "query": {"eo:cloud_cover": {"lt": 20}},
    "sortby": "+datetime,-id",
    "fields": "id,-links",
    "filter": "gsd > 0.5",
    "token": "next:naip:a b+c",
    "sign": True,
    "duration": 60,
}
SEARCHED_BY_GET = (
    "collections=naip,a b&ids=i+1,j&bbox=-10.5,0,10,20&datetime=2024-01-01T06:00:00Z/..&limit=250"
    '&query={"eo:cloud_cover": {"lt": 20}}&sortby=+datetime,-id&fields=id,-links&filter=gsd > 0.5'
    "&token=next:naip:a b+c&sign=true&duration=60"
)
POINT = {"type": "Point", "coordinates": [1.5, 2]}
SEARCHED_POINT = 'intersects={"type": "Point", "coordinates": [1.5, 2]}'

TABLE_2025 = [
    # ingestion sources, definitions, runs, operations (5.1)
    row("list_sources", "GET /inma/ingestion-sources?$top=5&$skip=2", top=5, skip=2),
    row(
        "create_source",
        "POST /inma/ingestion-sources",
        {"kind": "SasToken", "connectionInfo": SAS_INFO},
        body={"kind": "SasToken", "connectionInfo": SAS_INFO},
    ),
    row(
        "create_source",
        "POST /inma/ingestion-sources",
        {"kind": "BlobManagedIdentity", "connectionInfo": IDENTITY_INFO},
        body={"kind": "BlobManagedIdentity", "connectionInfo": IDENTITY_INFO},
    ),
    row("get_source", "GET /inma/ingestion-sources/s-1", "s-1"),
    row(
        "replace_source",
        "PUT /inma/ingestion-sources/s-1",
        "s-1",
        {"kind": "SasToken", "connectionInfo": SAS_INFO},
        body={"kind": "SasToken", "connectionInfo": SAS_INFO},
    ),
    row("delete_source", "DELETE /inma/ingestion-sources/s-1", "s-1"),
    row("list_managed_identities", "GET /inma/ingestion-sources/managed-identities"),
    row("list_ingestions", "GET /inma/collections/a%20b/ingestions?$top=5&$skip=2", "a b", top=5, skip=2),
    row("create_ingestion", "POST /inma/collections/a%20b/ingestions", "a b", DEFINITION, body=DEFINITION),
    row("get_ingestion", "GET /inma/collections/a%20b/ingestions/g-1", "a b", "g-1"),
    row(
        "update_ingestion",
        "PATCH /inma/collections/a%20b/ingestions/g-1",
        "a b",
        "g-1",
        {"displayName": None},
        body={"displayName": None},
    ),
    row("delete_ingestion", "DELETE /inma/collections/a%20b/ingestions/g-1", "a b", "g-1"),
    row("list_runs", "GET /inma/collections/a%20b/ingestions/g-1/runs?$top=5&$skip=2", "a b", "g-1", top=5, skip=2),
    row("create_run", "POST /inma/collections/a%20b/ingestions/g-1/runs", "a b", "g-1"),
    row("get_run", "GET /inma/collections/a%20b/ingestions/g-1/runs/r-1", "a b", "g-1", "r-1"),
    row(
        "list_operations",
        "GET /inma/operations?$top=5&$skip=2&collectionId=a b&status=Running",
        top=5,
        skip=2,
        collection_id="a b",
        status="Running",
    ),
    row("get_operation", "GET /inma/operations/o-1", "o-1"),
    row("cancel_operation", "DELETE /inma/operations/o-1", "o-1"),
    row("cancel_all_operations", "DELETE /inma/operations"),
    # catalog and collections (7.1 to 7.4)
    row("get_landing_page", "GET /stac\nGET /stac/"),
    row("get_conformance", "GET /stac/conformance"),
    row("list_collections", "GET /stac/collections?sign=true&duration=60", sign=True, duration=60),
    row("create_collection", "POST /stac/collections", COLLECTION, body=COLLECTION),
    row("get_collection", "GET /stac/collections/a.b?sign=false&duration=60", "a.b", sign=False, duration=60),
    row("replace_collection", "PUT /stac/collections/a.b", "a.b", COLLECTION, body=COLLECTION),
    row("delete_collection", "DELETE /stac/collections/a%20b", "a b"),
    row("create_collection_asset", "POST /stac/collections/a%20b/assets", "a b", ASSET, FILE, body=FORM),
    row(
        "replace_collection_asset",
        "PUT /stac/collections/a%20b/assets/thumbnail",
        "a b",
        "thumbnail",
        ASSET,
        FILE,
        body=FORM,
    ),
    row("delete_collection_asset", "DELETE /stac/collections/a%20b/assets/thumb%2Cnail", "a b", "thumb,nail"),
    row("get_collection_thumbnail", "GET /stac/collections/a%20b/thumbnail", "a b"),
    # items and search (7.5, 7.6)
    row(
        "list_items",
        "GET /stac/collections/a%20b/items?limit=50&bbox=-10.5,0,10,20&datetime=../2024-01-01T06:00:00Z"
        "&token=next:naip:a b+c&sign=true&duration=60",
        "a b",
        limit=50,
        bbox=[-10.5, 0, 10, 20],
        datetime=(None, MORNING),
        token="next:naip:a b+c",
        sign=True,
        duration=60,
    ),
    row("create_item", "POST /stac/collections/a%20b/items", "a b", ITEM, body=ITEM),
    row("create_item", "POST /stac/collections/a%20b/items", "a b", FEATURES, body=FEATURES),
    row(
        "get_item",
        "GET /stac/collections/a%20b/items/i%2B1%2C%282%29?sign=true&duration=60",
        "a b",
        "i+1,(2)",
        sign=True,
        duration=60,
    ),
    row("replace_item", "PUT /stac/collections/a%20b/items/i%2B1", "a b", "i+1", ITEM, body=ITEM),
    row(
        "update_item",
        "PATCH /stac/collections/a%20b/items/i%2B1",
        "a b",
        "i+1",
        {"properties": {"gsd": None}},
        body={"properties": {"gsd": None}},
    ),
    row("delete_item", "DELETE /stac/collections/a%20b/items/i%2B1", "a b", "i+1"),
    row(
        "search",
        "POST /stac/search?sign=true&duration=60",
        collections=["naip"],
        ids=["i+1"],
        bbox=[-10.5, 0, 10, 20],
        datetime=MORNING,
        limit=50,
        query={"gsd": {"lt": 1}},
        sortby=[{"field": "datetime", "direction": "desc"}],
        fields={"include": ["id"]},
        filter={"op": "=", "args": [1, 1]},
        filter_crs="crs",
        filter_lang="cql2-json",
        conf={"nohydrate": True},
        token="next:a",
        sign=True,
        duration=60,
        body={
            "collections": ["naip"],
            "ids": ["i+1"],
            "bbox": [-10.5, 0, 10, 20],
            "datetime": "2024-01-01T06:00:00Z",
            "limit": 50,
            "query": {"gsd": {"lt": 1}},
            "sortby": [{"field": "datetime", "direction": "desc"}],
            "fields": {"include": ["id"]},
            "filter": {"op": "=", "args": [1, 1]},
            "filter-crs": "crs",
            "filter-lang": "cql2-json",
            "conf": {"nohydrate": True},
            "token": "next:a",
        },
    ),
    row("search", "POST /stac/search", intersects=POINT, limit=None, body={"intersects": POINT}),
    row("search_by_query", f"GET /stac/search?{SEARCHED_BY_GET}", **SEARCH_BY_GET),
    row("search_by_query", f"GET /stac/search?{SEARCHED_POINT}", intersects=POINT, limit=None),
    # queryables and configurations (7.7, 7.8)
    row("get_queryables", "GET /stac/queryables"),
    row("get_collection_queryables", "GET /stac/collections/a%20b/queryables", "a b"),
    row("create_queryables", "POST /stac/collections/a%20b/queryables", "a b", [QUERYABLE], body=[QUERYABLE]),
    row(
        "replace_queryable",
        "PUT /stac/collections/a%20b/queryables/eo%3Acloud_cover",
        "a b",
        "eo:cloud_cover",
        QUERYABLE,
        body=QUERYABLE,
    ),
    row("delete_queryable", "DELETE /stac/collections/a%20b/queryables/eo%3Acloud_cover", "a b", "eo:cloud_cover"),
    row("get_collection_configuration", "GET /stac/collections/a%20b/configurations", "a b"),
    row("list_mosaics", "GET /stac/collections/a%20b/configurations/mosaics", "a b"),
    row("add_mosaic", "POST /stac/collections/a%20b/configurations/mosaics", "a b", MOSAIC, body=MOSAIC),
    row("get_mosaic", "GET /stac/collections/a%20b/configurations/mosaics/m%201", "a b", "m 1"),
    row(
        "replace_mosaic",
        "PUT /stac/collections/a%20b/configurations/mosaics/m%201",
        "a b",
        "m 1",
        MOSAIC,
        body=MOSAIC,
    ),
    row("delete_mosaic", "DELETE /stac/collections/a%20b/configurations/mosaics/m%201", "a b", "m 1"),
    row("list_render_options", "GET /stac/collections/a%20b/configurations/render-options", "a b"),
    row(
        "create_render_option",
        "POST /stac/collections/a%20b/configurations/render-options",
        "a b",
        OPTION,
        body=OPTION,
    ),
    row("get_render_option", "GET /stac/collections/a%20b/configurations/render-options/r%2F1", "a b", "r/1"),
    row(
        "replace_render_option",
        "PUT /stac/collections/a%20b/configurations/render-options/r%2F1",
        "a b",
        "r/1",
        OPTION,
        body=OPTION,
    ),
    row("delete_render_option", "DELETE /stac/collections/a%20b/configurations/render-options/r%2F1", "a b", "r/1"),
    row("get_tile_settings", "GET /stac/collections/a%20b/configurations/tile-settings", "a b"),
    row(
        "replace_tile_settings",
        "PUT /stac/collections/a%20b/configurations/tile-settings",
        "a b",
        TILES,
        body=TILES,
    ),
    row("get_partition_type", "GET /stac/collections/a%20b/configurations/partition-type", "a b"),
    row(
        "replace_partition_type",
        "PUT /stac/collections/a%20b/configurations/partition-type",
        "a b",
        {"scheme": "year"},
        body={"scheme": "year"},
    ),
    # signatures (8)
    row("get_sas_token", "GET /sas/token/a%20b?duration=60", "a b", duration=60),
    row(
        "sign_href",
        "GET /sas/sign?href=https://acct.blob.core.windows.net/c/a b.tif&duration=60",
        "https://acct.blob.core.windows.net/c/a b.tif",
        duration=60,
    ),
    row("revoke_sas_tokens", "POST /sas/token/revoke?duration=60", duration=60),
]

#: Everything is below ``/api``. What the articles of that time do not show, they name by analogy (15).
TABLE_2024 = [
    row("list_sources", "GET /api/ingestion-sources?$top=5&$skip=2", top=5, skip=2),
    row(
        "create_source",
        "POST /api/ingestion-sources",
        {"kind": "SasToken", "connectionInfo": SAS_INFO},
        body={"sourceType": "SasToken", "connectionInfo": SAS_INFO},
    ),
    row("get_source", "GET /api/ingestion-sources/s-1", "s-1"),
    row(
        "replace_source",
        "PUT /api/ingestion-sources/s-1",
        "s-1",
        {"kind": "BlobManagedIdentity", "connectionInfo": IDENTITY_INFO},
        body={"sourceType": "BlobManagedIdentity", "connectionInfo": IDENTITY_INFO},
    ),
    row("delete_source", "DELETE /api/ingestion-sources/s-1", "s-1"),
    row("list_ingestions", "GET /api/collections/a%20b/ingestions?$top=5&$skip=2", "a b", top=5, skip=2),
    row("create_ingestion", "POST /api/collections/a%20b/ingestions", "a b", DEFINITION, body=DEFINITION),
    row("get_ingestion", "GET /api/collections/a%20b/ingestions/g-1", "a b", "g-1"),
    row("list_runs", "GET /api/collections/a%20b/ingestions/g-1/runs?$top=5&$skip=2", "a b", "g-1", top=5, skip=2),
    row("create_run", "POST /api/collections/a%20b/ingestions/g-1/runs", "a b", "g-1", body={}),
    row("get_run", "GET /api/collections/a%20b/ingestions/g-1/runs/r-1", "a b", "g-1", "r-1"),
    row(
        "list_operations", "GET /api/operations?collectionId=a b&status=Running", collection_id="a b", status="Running"
    ),
    row("get_operation", "GET /api/operations/o-1", "o-1"),
    row("cancel_operation", "DELETE /api/operations/o-1", "o-1"),
    row("get_operation_logs", "GET /api/collections/a%20b/operations/o-1/logs", "a b", "o-1"),
    row("get_landing_page", "GET /api\nGET /api/"),
    row("get_conformance", "GET /api/conformance"),
    row("list_collections", "GET /api/collections"),
    row("create_collection", "POST /api/collections", COLLECTION, body=COLLECTION),
    row("get_collection", "GET /api/collections/a.b", "a.b"),
    row("replace_collection", "PUT /api/collections/a.b", "a.b", COLLECTION, body=COLLECTION),
    row("delete_collection", "DELETE /api/collections/a%20b", "a b"),
    row("list_items", "GET /api/collections/a%20b/items?limit=50", "a b", limit=50),
    row("create_item", "POST /api/collections/a%20b/items", "a b", ITEM, body=ITEM),
    row("get_item", "GET /api/collections/a%20b/items/i%2B1", "a b", "i+1"),
    row("delete_item", "DELETE /api/collections/a%20b/items/i%2B1", "a b", "i+1"),
    row("search", "POST /api/search", collections=["naip"], limit=50, body={"collections": ["naip"], "limit": 50}),
    row("search_by_query", f"GET /api/search?{SEARCHED_BY_GET}", **SEARCH_BY_GET),
    row("list_mosaics", "GET /api/collections/a%20b/config/mosaics", "a b"),
    row("add_mosaic", "POST /api/collections/a%20b/config/mosaics", "a b", MOSAIC, body=MOSAIC),
    row("get_mosaic", "GET /api/collections/a%20b/config/mosaics/m%201", "a b", "m 1"),
    row("replace_mosaic", "PUT /api/collections/a%20b/config/mosaics/m%201", "a b", "m 1", MOSAIC, body=MOSAIC),
    row("delete_mosaic", "DELETE /api/collections/a%20b/config/mosaics/m%201", "a b", "m 1"),
    row("list_render_options", "GET /api/collections/a%20b/config/render-options", "a b"),
    row("create_render_option", "POST /api/collections/a%20b/config/render-options", "a b", OPTION, body=OPTION),
    row("get_render_option", "GET /api/collections/a%20b/config/render-options/r%2F1", "a b", "r/1"),
    row(
        "replace_render_option",
        "PUT /api/collections/a%20b/config/render-options/r%2F1",
        "a b",
        "r/1",
        OPTION,
        body=OPTION,
    ),
    row("delete_render_option", "DELETE /api/collections/a%20b/config/render-options/r%2F1", "a b", "r/1"),
    row("get_tile_settings", "GET /api/collections/a%20b/config/tile-settings", "a b"),
    row("replace_tile_settings", "PUT /api/collections/a%20b/config/tile-settings", "a b", TILES, body=TILES),
]

#: The rest of this version is compared with the SDK.
TABLE_2026 = [entry for entry in TABLE_2025 if entry.operation == "search_by_query"]

TABLES = {V2024: TABLE_2024, V2025: TABLE_2025, V2026: TABLE_2026}

#: Operations that no article of a version shows, and none that it shows implies (3, 15).
LACKING = {
    V2024: {
        "list_managed_identities",
        "update_ingestion",
        "delete_ingestion",
        "cancel_all_operations",
        "create_collection_asset",
        "replace_collection_asset",
        "delete_collection_asset",
        "get_collection_thumbnail",
        "replace_item",
        "update_item",
        "get_queryables",
        "get_collection_queryables",
        "create_queryables",
        "replace_queryable",
        "delete_queryable",
        "get_collection_configuration",
        "get_partition_type",
        "replace_partition_type",
        "get_sas_token",
        "sign_href",
        "revoke_sas_tokens",
    },
    V2025: {"get_operation_logs"},
    V2026: {"get_operation_logs"},
}


class Credential:
    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken("the-token", 2**31)


@pytest.fixture(scope="module")
def server():
    recorder = RecordingServer()
    yield recorder
    recorder.close()


@pytest.fixture
def connect(server):
    clients = []

    def make(version: str) -> GeoCatalogClient:
        client = GeoCatalogClient(
            ConnectionSettings(server.url, dialect=dialect_for(version)),
            tokens=TokenSource(Credential, "scope", "test"),
            clock=FakeClock(),
            rate_limit=RateLimit(),
        )
        clients.append(client)
        return client

    server.take()
    yield make
    for client in clients:
        client.close()


async def perform(client: GeoCatalogClient, entry: Row, kind: str) -> None:
    method = getattr(client, entry.operation)
    if kind == "blocking":
        answer = method(*entry.args, **entry.options)
        if hasattr(answer, "__next__"):
            list(answer)
        return
    answer = method.aio(*entry.args, **entry.options)
    if hasattr(answer, "__anext__"):
        async for _ in answer:
            pass
    else:
        await answer


def rows(tables: dict[str, list[Row]]) -> list[Any]:
    return [
        pytest.param(version, entry, id=f"{version}-{entry.operation}-{number}")
        for version, table in tables.items()
        for number, entry in enumerate(table)
    ]


@pytest.mark.parametrize("kind", ["blocking", "async"])
@pytest.mark.parametrize(("version", "entry"), rows(TABLES))
async def test_our_client_sends_what_the_documents_say(connect, server, version, entry, kind):
    await perform(connect(version), entry, kind)

    requests = server.take()
    assert [f"{request.method} {request.raw_path}" for request in requests] == [
        line.partition("?")[0] for line in entry.line.splitlines()
    ]
    for request, line in zip(requests, entry.line.splitlines(), strict=True):
        query = line.partition("?")[2]
        pairs = [(name, value) for name, _, value in (pair.partition("=") for pair in query.split("&")) if name]
        sent = parse_qsl(request.raw_query, keep_blank_values=True, strict_parsing=True)
        assert sorted(sent) == sorted([*pairs, ("api-version", version)])
        assert request.header("Authorization") == "Bearer the-token"
    check_body(requests[0], entry.body)


def check_body(request: Any, expected: Any) -> None:
    content_type = request.header("Content-Type")
    if expected is None:
        assert (content_type, request.body) == (None, b"")
    elif isinstance(expected, bytes):
        boundary = re.fullmatch("multipart/form-data; boundary=([^;]+)", content_type)
        assert boundary
        assert request.body == expected.replace(b"BOUNDARY", boundary[1].encode())
    else:
        assert content_type == ("application/merge-patch+json" if request.method == "PATCH" else "application/json")
        assert json.loads(request.body) == expected


def unsupported() -> list[Any]:
    known = {entry.operation: entry for entry in [*TABLE_2024, *TABLE_2025]}
    return [
        pytest.param(version, known[name], id=f"{version}-{name}")
        for version, names in LACKING.items()
        for name in sorted(names)
    ]


@pytest.mark.parametrize("kind", ["blocking", "async"])
@pytest.mark.parametrize(("version", "entry"), unsupported())
async def test_an_operation_that_the_version_lacks_is_refused_and_nothing_is_sent(
    connect, server, version, entry, kind
):
    with pytest.raises(GeoCatalogUnsupportedOperation) as refused:
        await perform(connect(version), entry, kind)

    assert version in str(refused.value)
    assert entry.operation in str(refused.value)
    assert server.take() == []


@pytest.mark.parametrize("kind", ["blocking", "async"])
@pytest.mark.parametrize("version", [V2024, V2025])
async def test_geoparquet_is_refused_where_the_version_lacks_it_and_nothing_is_sent(connect, server, version, kind):
    definition = {"importType": "StacGeoparquet", "stacGeoparquetUrl": "https://acct.blob.core.windows.net/c/x.parquet"}
    entry = row("create_ingestion", "", "a b", definition)

    with pytest.raises(GeoCatalogInvalidInput, match=f"{version}.*StacGeoparquet"):
        await perform(connect(version), entry, kind)

    assert server.take() == []


@pytest.mark.parametrize("version", [V2024, V2025])
def test_the_table_covers_every_operation_that_the_version_has(version):
    covered = {entry.operation for entry in TABLES[version]}

    assert covered | LACKING[version] == set(ENDPOINTS)
    assert not covered & LACKING[version]


def test_there_is_a_table_for_every_version():
    assert set(TABLES) == set(LACKING) == set(API_VERSIONS)
