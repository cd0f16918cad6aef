"""
The routes in OpenAPI 3.1, one description for each api-version.

Paths, methods and media types come from :mod:`~airflow_provider_geocatalog.api.endpoints` and the dialects; parameters
and schemas are written here, after the wire reference (sections in brackets). Answers are described as strictly as they
are known, bodies as the service documents them.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.api.http import Area
from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.forms import MULTIPART
from airflow_provider_geocatalog.emulator.routing import DATA_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_geocatalog.api.dialects import Dialect
    from airflow_provider_geocatalog.api.http import Endpoint

__all__ = ["MEDIA_TYPE", "PAGE_PATH", "PATH", "describe", "success_codes"]

#: Where the description is served, and the same for people: what the landing page links to (7.2).
PATH, PAGE_PATH = "/_emulator/openapi.json", "/_emulator/openapi.html"

Schema = dict[str, Any]

MEDIA_TYPE = "application/vnd.oai.openapi+json;version=3.1"
JSON, GEOJSON, SCHEMA = "application/json", "application/geo+json", "application/schema+json"
PROBLEM = "application/problem+json"


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None, *, closed: bool = True) -> Schema:
    """Describe an object; a closed one has no other members."""
    schema: Schema = {"type": "object", "properties": {**required, **(optional or {})}}
    if required:
        schema["required"] = list(required)
    return {**schema, "additionalProperties": False} if closed else schema


def array_of(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


def or_null(kind: str) -> Schema:
    return {"type": [kind, "null"]}


def _nullable(members: Mapping[str, Schema]) -> dict[str, Schema]:
    return {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in members.items()}


def one_of(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
ANYTHING: Schema = {"type": "object"}
GUID: Schema = {"type": "string", "format": "uuid"}
URL: Schema = {"type": "string", "pattern": "^(https?|file)://"}
#: Up to seven fractional digits on the write side, six on the read side (1).
TIMESTAMP: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z$"}
DIGITS: Schema = {"type": "string", "pattern": "^[0-9]+$"}
ZOOM: Schema = {"type": "integer", "minimum": 0, "maximum": 24}
#: What clients may send as a datetime of an item.
RFC3339: Schema = {"type": "string", "format": "date-time"}
LONGITUDE: Schema = {"type": "number", "minimum": -180, "maximum": 180}
LATITUDE: Schema = {"type": "number", "minimum": -90, "maximum": 90}
BOX: Schema = {"anyOf": [array_of(NUMBER, minItems=count, maxItems=count) for count in (4, 6)]}
MEDIA_TYPE_NAME: Schema = {"type": "string", "pattern": r"^[a-z]{1,20}/[a-z0-9.+-]{1,20}$"}
#: What clients may send; a bbox that crosses the antimeridian is fine, one that stands on its head is not.
BOX_TEXT: Schema = {"type": "string", "examples": ["-74.1,40.6,-73.9,40.8", "170,-10,-170,10"]}

#: Envelope A (4.4).
ERROR: Schema = object_of({"error": object_of({"code": NAME, "message": TEXT})})
#: Why an item failed.
FAILURE: Schema = object_of(
    {
        "itemId": or_null("string"),
        "url": or_null("string"),
        "timestamp": TIMESTAMP,
        "errorCode": NAME,
        "errorMessage": TEXT,
    }
)


def _schemas(dialect: Dialect) -> dict[str, Schema]:
    statuses = ("Pending", "Running", dialect.success_word, "Failed", "Canceling", "Canceled")
    operation_id, kind_field = dialect.operation_id_field, dialect.source_kind_field
    kinds = one_of("SasToken", "BlobManagedIdentity")
    times = {"startTime": TIMESTAMP, "finishTime": TIMESTAMP}
    # The history says "Finished" for success, whatever the api-version calls it (6.2).
    change = object_of(
        {
            "status": one_of("Pending", "Running", "Finished", "Failed", "Canceling", "Canceled"),
            "timestamp": TIMESTAMP,
        },
        {"errorCode": NAME, "errorMessage": TEXT},
    )
    states = {"status": one_of(*statuses), "statusHistory": array_of(ref("Change")), "creationTime": TIMESTAMP}
    urls = {"sourceCatalogUrl": URL}
    if "StacGeoparquet" in dialect.import_types:
        urls["stacGeoparquetUrl"] = URL
    choices = {"skipExistingItems": FLAG, "keepOriginalAssets": FLAG}
    import_type = one_of(*sorted(dialect.import_types))
    sources = {"created": TIMESTAMP}
    # Where replacing a source can create it, its id is what the client wrote into the path.
    source_id = NAME if dialect.replace_creates_source else GUID
    info = object_of({"containerUrl": URL}, {"objectId": NAME, "expiration": TIMESTAMP})
    return {
        "Error": ERROR,
        "Problem": object_of(  # envelope B
            {"type": NAME, "title": NAME, "status": {"type": "integer"}, "traceId": NAME}, {"detail": TEXT}
        ),
        "Change": change,
        "Operation": object_of(
            {operation_id: GUID, **states, "type": NAME, "collectionId": NAME},
            {
                **times,
                "additionalInformation": object_of(
                    {},
                    {
                        "IngestionId": GUID,
                        "TotalFailedItems": DIGITS,
                        "TotalItems": DIGITS,
                        "TotalPendingItems": DIGITS,
                        "TotalSuccessfulItems": DIGITS,
                    },
                ),
                "error": ref("Error"),
            },
        ),
        "Run": object_of(
            {
                "id": GUID,
                "creationTime": TIMESTAMP,
                **choices,
                "operation": object_of(
                    {
                        operation_id: GUID,
                        **states,
                        "totalItems": COUNT,
                        "totalPendingItems": COUNT,
                        "totalSuccessfulItems": COUNT,
                        "totalFailedItems": COUNT,
                    },
                    times,
                ),
            },
            {"parentRunId": GUID, "sourceCatalogUrl": URL},
        ),
        "Ingestion": object_of(
            {
                dialect.ingestion_id_field: GUID,
                "creationTime": TIMESTAMP,
                "importType": import_type,
                **choices,
                "status": one_of("Ready", "Deleting"),
            },
            {"displayName": TEXT, **urls},
        ),
        "NewIngestion": {
            "oneOf": [
                object_of(
                    {"importType": one_of(one), name: URL},
                    {"displayName": TEXT, **choices},
                )
                for one, name in (("StaticCatalog", "sourceCatalogUrl"), ("StacGeoparquet", "stacGeoparquetUrl"))
                if one in dialect.import_types
            ]
        },
        "IngestionPatch": object_of({}, {"displayName": TEXT, **urls, **choices, "importType": import_type}),
        "SourceSummary": object_of({"id": source_id, kind_field: kinds, **sources}),
        # Replacing a source answers without `created` (5.2).
        "Source": object_of({"id": source_id, kind_field: kinds, "connectionInfo": info}, sources),
        "NewSource": {
            "oneOf": [
                object_of(
                    {
                        kind_field: one_of("SasToken"),
                        "connectionInfo": object_of({"containerUrl": CONTAINER, "sasToken": SAS_TOKEN}),
                    }
                ),
                object_of(
                    {
                        kind_field: one_of("BlobManagedIdentity"),
                        "connectionInfo": object_of({"containerUrl": CONTAINER, "objectId": GUID}),
                    }
                ),
            ]
        },
        "ManagedIdentity": object_of({"objectId": GUID, "resourceId": NAME}),
        "Failure": FAILURE,
        **_STAC,
    }


CONTAINER: Schema = {"type": "string", "pattern": r"^https://[a-z0-9]{3,24}\.blob\.core\.windows\.net/[a-z0-9-]{3,63}$"}
SAS_TOKEN: Schema = {
    "type": "string",
    "pattern": (
        r"^sv=2023-01-03&st=2026-01-0[1-9]T00:00:00Z&se=2026-12-1[0-9]T00:00:00Z&sr=c&sp=rl&sig=[A-Za-z0-9]{8,43}$"
    ),
}

_POSITION = {"type": "array", "prefixItems": [LONGITUDE, LATITUDE], "items": NUMBER, "minItems": 2, "maxItems": 3}
_GEOMETRY: Schema = {
    "oneOf": [
        object_of({"type": one_of("Point"), "coordinates": _POSITION}),
        object_of({"type": one_of("MultiPoint"), "coordinates": array_of(_POSITION, minItems=1)}),
        object_of({"type": one_of("LineString"), "coordinates": array_of(_POSITION, minItems=2)}),
        object_of(
            {
                "type": one_of("Polygon"),
                "coordinates": array_of({"enum": [[[7, 46], [8, 46], [8, 47], [7, 46]]]}, minItems=1),
            }
        ),
    ]
}
_LINK = object_of(
    {"rel": TEXT, "href": TEXT}, {"type": TEXT, "title": TEXT, "method": TEXT, "body": ANYTHING}, closed=False
)
#: Other pages are asked for as this one was, with the link's query or body.
_PAGE_LINK = {
    "oneOf": [
        object_of({"rel": one_of("collection", "parent", "root", "self"), "type": TEXT, "href": URL}),
        object_of({"rel": one_of("next", "prev"), "type": {"const": GEOJSON}, "method": {"const": "GET"}, "href": URL}),
        object_of(
            {
                "rel": one_of("next", "prev"),
                "type": {"const": GEOJSON},
                "method": {"const": "POST"},
                "href": URL,
                "body": object_of({"token": TEXT}, closed=False),
            }
        ),
    ]
}
_ASSET = object_of(
    {"href": TEXT},
    {
        "type": or_null("string"),
        "title": or_null("string"),
        "description": or_null("string"),
        "roles": {"type": ["array", "null"], "items": TEXT},
    },
    closed=False,
)
_EXTENT = object_of(
    {
        "spatial": object_of({"bbox": array_of(BOX, minItems=1)}, closed=False),
        "temporal": object_of(
            {"interval": array_of(array_of(or_null("string"), minItems=2, maxItems=2), minItems=1)}, closed=False
        ),
    },
    closed=False,
)
_COLLECTION_ID: Schema = {"type": "string", "pattern": r"^[A-Za-z0-9_.-]{1,60}$"}
_ITEM_ID: Schema = {"type": "string", "pattern": r"^[A-Za-z0-9\-_+,().]{1,149}$"}
_ASSET_KEY: Schema = {"type": "string", "pattern": r"^[A-Za-z0-9\-_+,().]{1,40}$"}
_COLLECTION = {"id": NAME, "description": TEXT, "license": TEXT, "extent": _EXTENT}
_ITEM = {
    "type": {"const": "Feature"},
    "stac_version": {"enum": ["1.0.0", "1.1.0"]},
    "id": _ITEM_ID,
    "geometry": ANYTHING,
    "properties": object_of({"datetime": or_null("string")}, closed=False),
    "links": array_of(ref("Link")),
    "assets": {"type": "object", "additionalProperties": ref("Asset")},
}
_NEW_ITEM = {
    **_ITEM,
    "geometry": ref("Geometry"),
    "bbox": array_of(NUMBER, minItems=4, maxItems=4),
    "properties": object_of({"datetime": RFC3339}, closed=False),
    "assets": {
        "type": "object",
        "additionalProperties": object_of({"href": {"type": "string", "format": "uri"}}, {"title": TEXT, "type": TEXT}),
        "propertyNames": {"pattern": "^[A-Za-z0-9_-]{1,20}$"},
        "maxProperties": 3,
    },
}
_SERVICE_MEMBERS = {"_msft:ts": TIMESTAMP, "_msft:etag": GUID, "collection": NAME, "bbox": BOX}
_MOSAIC = {"id": NAME, "name": NAME}
_RENDER_OPTION = {"id": NAME, "name": NAME, "type": one_of("raster-tile", "vt-polygon", "vt-line")}
_LEGEND = object_of(
    {},
    _nullable(
        {
            "type": one_of("continuous", "classmap", "interval", "none"),
            "labels": array_of(TEXT),
            "trimStart": {"type": "integer"},
            "trimEnd": {"type": "integer"},
            "scaleFactor": NUMBER,
        }
    ),
    closed=False,
)
_CONDITION = object_of({"property": TEXT}, {"value": {}}, closed=False)
_RENDER_DETAILS: dict[str, Schema] = {
    "description": TEXT,
    "options": TEXT,
    "vectorOptions": ANYTHING,
    "minZoom": ZOOM,
    "legend": _LEGEND,
    "conditions": array_of(_CONDITION),
}
_LOCATION = object_of({"zoom": NUMBER, "coordinates": array_of(NUMBER, minItems=2, maxItems=2)}, closed=False)
_TILE_SETTINGS = {"minZoom": ZOOM, "maxItemsPerTile": {"type": "integer", "minimum": 1}, "defaultLocation": _LOCATION}
_QUERYABLE = {"name": NAME, "definition": ANYTHING}
_DATA_TYPE = one_of("string", "number", "boolean", "timestamp", "date")
_SORT = object_of({"field": NAME}, {"direction": one_of("asc", "desc")})
_FIELDS = object_of({}, {"include": array_of(TEXT), "exclude": array_of(TEXT)})


_STAC: dict[str, Schema] = {
    "Link": _LINK,
    "Asset": _ASSET,
    "Geometry": _GEOMETRY,
    "LandingPage": object_of(
        {
            "type": {"const": "Catalog"},
            "id": NAME,
            "title": NAME,
            "description": NAME,
            "stac_version": NAME,
            "conformsTo": array_of(URL, minItems=1),
            "links": array_of(ref("Link")),
        }
    ),
    "Conformance": object_of({"conformsTo": array_of(URL, minItems=1)}),
    "Collection": object_of(
        {
            "type": {"const": "Collection"},
            "stac_version": TEXT,
            **_COLLECTION,
            "links": array_of(ref("Link")),
            "msft:_created": TIMESTAMP,
            "msft:_updated": TIMESTAMP,
        },
        {"title": or_null("string"), "assets": {"type": "object", "additionalProperties": ref("Asset")}},
        closed=False,
    ),
    "Collections": object_of(
        {
            "collections": array_of(ref("Collection")),
            "links": array_of(ref("Link")),
            "numberMatched": COUNT,
            "numberReturned": COUNT,
        }
    ),
    "NewCollection": object_of(
        {**_COLLECTION, "id": _COLLECTION_ID, "links": array_of(ref("Link"))},
        {
            "type": {"const": "Collection"},
            "stac_version": {"const": "1.0.0"},
            "title": TEXT,
            "keywords": array_of(TEXT),
            "msft:short_description": TEXT,
        },
        closed=False,
    ),
    "Item": object_of({**_ITEM, "collection": NAME}, _SERVICE_MEMBERS, closed=False),
    # `fields` leaves out what it is told to.
    "PartialItem": object_of({}, {**_ITEM, **_SERVICE_MEMBERS}, closed=False),
    "PageLink": _PAGE_LINK,
    "Items": object_of(
        {
            "type": {"const": "FeatureCollection"},
            "features": array_of(ref("PartialItem")),
            "links": array_of(ref("PageLink")),
        }
    ),
    "NewItem": object_of(_NEW_ITEM, {"collection": NAME}, closed=False),
    "NewItems": {
        "oneOf": [
            ref("NewItem"),
            object_of({"type": {"const": "FeatureCollection"}, "features": array_of(ref("NewItem"), minItems=1)}),
        ]
    },
    "ItemPatch": object_of(
        {}, {"properties": ANYTHING, "assets": ANYTHING, "bbox": BOX, "geometry": ref("Geometry")}, closed=False
    ),
    "Search": object_of(
        {},
        {
            "collections": array_of(TEXT),
            "ids": array_of(TEXT),
            "bbox": {"type": "array", "prefixItems": [LONGITUDE, LATITUDE] * 2, "items": False, "minItems": 4},
            "intersects": ref("Geometry"),
            "datetime": TEXT,
            "limit": {"type": "integer", "minimum": 1, "maximum": 10_000},
            "query": {"type": "object", "additionalProperties": ANYTHING},
            "sortby": array_of(_SORT),
            "fields": {"oneOf": [_FIELDS, array_of(_FIELDS)]},
            "filter": {"type": ["object", "string"]},
            "filter-crs": TEXT,
            "filter-lang": one_of("cql-json", "cql2-json", "cql2-text"),
            "conf": ANYTHING,
            "token": TEXT,
        },
    ),
    "Queryables": object_of(
        {
            "$id": URL,
            "$schema": URL,
            "type": {"const": "object"},
            "title": NAME,
            "properties": {"type": "object", "required": ["id", "datetime", "geometry"]},
            "additionalProperties": FLAG,
        }
    ),
    "Queryable": object_of({**_QUERYABLE, **_nullable({"data_type": _DATA_TYPE}), "create_index": FLAG}),
    "NewQueryable": object_of(_QUERYABLE, {"data_type": _DATA_TYPE, "create_index": FLAG}),
    "Mosaic": object_of({**_MOSAIC, "description": or_null("string"), "cql": array_of(ANYTHING)}),
    "NewMosaic": object_of(_MOSAIC, {"description": TEXT, "cql": array_of(ANYTHING)}),
    # Reads have every member, unset ones as null; writes echo what was sent (7.8).
    "RenderOption": object_of({**_RENDER_OPTION, **_nullable(_RENDER_DETAILS)}, closed=False),
    "NewRenderOption": object_of(_RENDER_OPTION, _RENDER_DETAILS, closed=False),
    "TileSettings": object_of(_nullable(_TILE_SETTINGS), closed=False),
    "NewTileSettings": object_of({}, _TILE_SETTINGS),
    "PartitionType": object_of({"scheme": one_of("year", "month", "none")}),
    "Configuration": object_of(
        {
            "tileSettings": ref("TileSettings"),
            "mosaicInfo": object_of(
                {
                    "mosaics": array_of(ref("Mosaic")),
                    "renderOptions": array_of(ref("RenderOption")),
                    **_nullable({"defaultLocation": _LOCATION}),
                    "defaultCustomQuery": {"type": "null"},
                }
            ),
        }
    ),
    "NewAsset": object_of(
        {
            "data": object_of(
                {"key": _ASSET_KEY, "href": TEXT, "type": MEDIA_TYPE_NAME, "roles": array_of(TEXT), "title": TEXT},
                {"description": TEXT},
            ),
            "file": {"type": "string", "contentMediaType": "application/octet-stream"},
        }
    ),
    "SasToken": object_of({"msft:expiry": TIMESTAMP, "token": NAME}),
    "SignedHref": object_of({"href": NAME}, {"msft:expiry": TIMESTAMP}),
    "Null": {"type": "null"},
}

#: What is in the body of a request; `*` after a name: a list of them.
_BODIES = {
    "create_source": "NewSource",
    "replace_source": "NewSource",
    "create_ingestion": "NewIngestion",
    "update_ingestion": "IngestionPatch",
    "create_collection": "NewCollection",
    "replace_collection": "NewCollection",
    "create_collection_asset": "NewAsset",
    "replace_collection_asset": "NewAsset",
    "create_item": "NewItems",
    "replace_item": "NewItem",
    "update_item": "ItemPatch",
    "search": "Search",
    "create_queryables": "NewQueryable*",
    "replace_queryable": "NewQueryable",
    "add_mosaic": "NewMosaic",
    "replace_mosaic": "NewMosaic",
    "create_render_option": "NewRenderOption",
    "replace_render_option": "NewRenderOption",
    "replace_tile_settings": "NewTileSettings",
    "replace_partition_type": "PartitionType",
}
#: What is in the body of an answer; `-`: nothing, `*` after a name: a list, `[]`: a list of the ingestion side.
_ANSWERS = {
    "list_sources": "SourceSummary[]",
    "create_source": "Source",
    "list_managed_identities": "ManagedIdentity[]",
    "get_source": "Source",
    "replace_source": "Source",
    "delete_source": "-",
    "list_ingestions": "Ingestion[]",
    "create_ingestion": "Ingestion",
    "get_ingestion": "Ingestion",
    "update_ingestion": "Ingestion",
    "delete_ingestion": "Operation",
    "list_runs": "Run[]",
    "create_run": "Run",
    "get_run": "Run",
    "list_operations": "Operation[]",
    "get_operation": "Operation",
    "cancel_operation": "-",
    "cancel_all_operations": "-",
    "get_operation_logs": "Failure*",
    "get_landing_page": "LandingPage",
    "get_conformance": "Conformance",
    "list_collections": "Collections",
    "create_collection": "Collection",
    "get_collection": "Collection",
    "replace_collection": "Collection",
    "delete_collection": "-",
    "create_collection_asset": "Collection",
    "replace_collection_asset": "Collection",
    "delete_collection_asset": "Collection",
    "get_collection_thumbnail": "-",
    "list_items": "Items",
    "create_item": "Operation",
    "get_item": "Item",
    "replace_item": "Operation",
    "update_item": "Operation",
    "delete_item": "Operation",
    "search": "Items",
    "search_by_query": "Items",
    "get_queryables": "Queryables",
    "get_collection_queryables": "Queryables",
    "create_queryables": "Queryable*",
    "replace_queryable": "Queryable",
    "delete_queryable": "-",
    "get_collection_configuration": "Configuration",
    "list_mosaics": "Mosaic*",
    "add_mosaic": "Mosaic",
    "get_mosaic": "Mosaic",
    "replace_mosaic": "Mosaic",
    "delete_mosaic": "-",
    "list_render_options": "RenderOption*",
    "create_render_option": "NewRenderOption",
    "get_render_option": "RenderOption",
    "replace_render_option": "NewRenderOption",
    "delete_render_option": "-",
    "get_tile_settings": "TileSettings",
    "replace_tile_settings": "TileSettings",
    "get_partition_type": "PartitionType",
    "replace_partition_type": "-",
    "get_sas_token": "SasToken",
    "sign_href": "SignedHref",
    "revoke_sas_tokens": "Null",
}
_SIGNING = {"sign": one_of("true", "false"), "duration": {"type": "integer", "minimum": 1, "maximum": 10_080}}
_PAGING = {"$top": COUNT, "$skip": COUNT}
_READING = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 10_000},
    "bbox": BOX_TEXT,
    "datetime": TEXT,
    "token": TEXT,
    **_SIGNING,
}
#: Query parameters beside `api-version`; all but `href` are optional.
_PARAMETERS: Mapping[str, Mapping[str, Schema]] = {
    **dict.fromkeys(("list_sources", "list_ingestions", "list_runs"), _PAGING),
    "list_operations": {**_PAGING, "collectionId": TEXT, "status": TEXT},
    **dict.fromkeys(("list_collections", "get_collection", "get_item", "search"), _SIGNING),
    "list_items": _READING,
    "search_by_query": {
        **dict.fromkeys(("collections", "ids", "intersects", "query", "sortby", "fields", "filter"), TEXT),
        "filter-lang": one_of("cql2-json", "cql2-text"),
        **_READING,
    },
    "get_sas_token": {"duration": _SIGNING["duration"]},
    "sign_href": {"href": {"type": "string", "format": "uri"}, "duration": _SIGNING["duration"]},
    "revoke_sas_tokens": {"duration": _SIGNING["duration"]},
}
_REQUIRED_PARAMETERS = frozenset({"href"})
_MEDIA_TYPES = {
    **dict.fromkeys(("list_items", "get_item", "search", "search_by_query"), GEOJSON),
    **dict.fromkeys(("get_queryables", "get_collection_queryables"), SCHEMA),
}
#: They answer 201 where the union of api-versions also allows 200: POSTs that add something (7.1).
_ADDS = frozenset({"create_collection_asset", "create_queryables", "add_mosaic", "create_render_option"})
_STATED_ERRORS = {400, 401, 403, 404}


def describe(dialect: Dialect, base_url: str) -> dict[str, Any]:
    """
    Return the OpenAPI document of an api-version.

    :param base_url: Scheme and host under which the client reached the emulator.
    """
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS.values():
        if dialect.has(endpoint):
            template = dialect.template(endpoint)
            # The catalog itself is where GET without the slash is redirected to (7.2).
            path = f"{template}/" if endpoint is endpoints.GET_LANDING_PAGE else template
            paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, dialect)
    if dialect.is_supported:
        paths[f"{DATA_PREFIX}/{{path}}"] = {"get": _tiler()}
    version_parameter = {
        "name": "api-version",
        "in": "query",
        "required": True,
        "schema": one_of(dialect.api_version),
    }
    responses = {str(code): _error(code) for code in (*sorted(_STATED_ERRORS), 409, 413, 415, 429, 501)}
    return documented(
        "GeoCatalog emulator",
        "The control plane of Microsoft Planetary Computer Pro GeoCatalog, as this emulator has it.",
        dialect.api_version,
        base_url,
        paths,
        {"schemas": _schemas(dialect), "parameters": {"api-version": version_parameter}, "responses": responses},
    )


def documented(
    title: str, description: str, version: str, base_url: str, paths: Schema, components: dict[str, Any]
) -> dict[str, Any]:
    """Return a document of paths that all need a bearer token."""
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "description": description, "version": version},
        "servers": [{"url": base_url}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {**components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def success_codes(endpoint: Endpoint, dialect: Dialect) -> tuple[int, ...]:
    """Return the codes with which one api-version says that an operation was accepted."""
    if endpoint is endpoints.CREATE_COLLECTION:
        return (202 if dialect.collection_writes_start_operations else 201,)
    if endpoint is endpoints.DELETE_COLLECTION:
        return (202 if dialect.collection_writes_start_operations else 204,)
    if endpoint is endpoints.DELETE_SOURCE:
        return (dialect.delete_source_status,)
    if endpoint is endpoints.REPLACE_SOURCE:
        return (200, 201) if dialect.replace_creates_source else (200,)
    if len(endpoint.success) == 1:
        return tuple(endpoint.success)
    return (201,) if endpoint.name in _ADDS else (200,)


def _operation(endpoint: Endpoint, dialect: Dialect) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [{"$ref": "#/components/parameters/api-version"}]
    for name in re.findall(r"{(\w+)}", endpoint.path):
        schema = {"type": "string", "minLength": 1, "maxLength": 500}  # (11.1)
        parameters.append({"name": name, "in": "path", "required": True, "schema": schema})
    for name, schema in _PARAMETERS.get(endpoint.name, {}).items():
        required = name in _REQUIRED_PARAMETERS
        parameters.append({"name": name, "in": "query", "required": required, "schema": schema})
    described = {
        "operationId": endpoint.name,
        "tags": [endpoint.area.value],
        "parameters": parameters,
        "responses": _responses(endpoint, dialect),
    }
    if endpoint.name in _BODIES:
        content = {endpoint.content_type: {"schema": _body(_BODIES[endpoint.name], dialect)}}
        if endpoint.content_type == MULTIPART:
            content[MULTIPART]["encoding"] = {"data": {"contentType": JSON}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _responses(endpoint: Endpoint, dialect: Dialect) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for code in success_codes(endpoint, dialect):
        what = "Operation" if code == 202 else "-" if code == 204 else _ANSWERS[endpoint.name]
        responses[str(code)] = _response(code, _content(endpoint, what, dialect))
        if code in (201, 202) and wire.is_write_side(endpoint):
            names = ("Location", "operation-location") if code == 202 else ("Location",)
            headers = {name: {"required": True, "schema": URL} for name in names}
            responses[str(code)]["headers"] = headers
    errors = set(_STATED_ERRORS)
    if endpoint.method != "GET" and not endpoint.read_only:
        errors.add(409)
    if endpoint.method != "GET":
        errors.add(413)
    if endpoint.name in _BODIES:
        errors.add(415)
    if endpoint.area is Area.STAC or endpoint is endpoints.CREATE_RUN:
        errors.add(429)
    return responses | {str(code): {"$ref": f"#/components/responses/{code}"} for code in sorted(errors)}


def _response(code: int, content: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(code).phrase}
    return {**described, "content": content} if content else described


def _error(code: int) -> dict[str, Any]:
    content = {JSON: {"schema": ref("Error")}, PROBLEM: {"schema": ref("Problem")}}
    described = _response(code, {} if code == 401 else content)
    if code == 429:  # only with limits, or a fault
        described["headers"] = {"Retry-After": {"schema": TEXT}}
    return described


def _content(endpoint: Endpoint, what: str, dialect: Dialect) -> dict[str, Any]:
    if endpoint is endpoints.GET_COLLECTION_THUMBNAIL:
        return {"*/*": {}}
    if what == "-":
        return {}
    return {_MEDIA_TYPES.get(endpoint.name, JSON): {"schema": _body(what, dialect)}}


def _body(what: str, dialect: Dialect) -> Schema:
    if what.endswith("*"):
        return array_of(ref(what[:-1]))
    if what.endswith("[]"):
        entries = array_of(ref(what[:-2]))
        return entries if dialect.bare_lists else object_of({"value": entries}, {"nextLink": URL})
    return ref(what)


def _tiler() -> dict[str, Any]:
    return {
        "operationId": "tiler",
        "description": "Every operation of the tiler (9) is answered like this.",
        "parameters": [
            {"$ref": "#/components/parameters/api-version"},
            {"name": "path", "in": "path", "required": True, "schema": NAME},
        ],
        "responses": {str(code): {"$ref": f"#/components/responses/{code}"} for code in (400, 401, 403, 501)},
    }
