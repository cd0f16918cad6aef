"""
Every control-plane operation of the service, once: method, path, success codes.

Source: the REST reference of Planetary Computer Pro, data plane, api-version 2026-04-15, and the official SDK
``azure-planetarycomputer`` 1.0.0. Success codes are the union over all api-versions; what differs between them is in
:mod:`~airflow_provider_geocatalog.api.dialects`.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_geocatalog.api.http import Area, Endpoint

ENDPOINTS: dict[str, Endpoint] = {}


def _endpoint(name: str, method: str, area: Area, path: str, *success: int, **options: Any) -> Endpoint:
    endpoint = Endpoint(name, method, area, path, frozenset(success or (200,)), **options)
    ENDPOINTS[name] = endpoint
    return endpoint


_MERGE_PATCH = "application/merge-patch+json"
_MULTIPART = "multipart/form-data"

# --- Ingestion sources ---------------------------------------------------------------------------------------------
_SOURCES = "/ingestion-sources"
_SOURCE = _SOURCES + "/{source_id}"
LIST_SOURCES = _endpoint("list_sources", "GET", Area.INGESTION, _SOURCES)
CREATE_SOURCE = _endpoint("create_source", "POST", Area.INGESTION, _SOURCES, 201)
LIST_MANAGED_IDENTITIES = _endpoint("list_managed_identities", "GET", Area.INGESTION, _SOURCES + "/managed-identities")
GET_SOURCE = _endpoint("get_source", "GET", Area.INGESTION, _SOURCE)
REPLACE_SOURCE = _endpoint("replace_source", "PUT", Area.INGESTION, _SOURCE, 200, 201)
DELETE_SOURCE = _endpoint("delete_source", "DELETE", Area.INGESTION, _SOURCE, 200, 204)

# --- Ingestion definitions and runs --------------------------------------------------------------------------------
_COLLECTIONS = "/collections"
_COLLECTION = _COLLECTIONS + "/{collection_id}"
_INGESTIONS = _COLLECTION + "/ingestions"
_INGESTION = _INGESTIONS + "/{ingestion_id}"
_RUNS = _INGESTION + "/runs"
LIST_INGESTIONS = _endpoint("list_ingestions", "GET", Area.INGESTION, _INGESTIONS)
CREATE_INGESTION = _endpoint("create_ingestion", "POST", Area.INGESTION, _INGESTIONS, 201)
GET_INGESTION = _endpoint("get_ingestion", "GET", Area.INGESTION, _INGESTION)
UPDATE_INGESTION = _endpoint("update_ingestion", "PATCH", Area.INGESTION, _INGESTION, content_type=_MERGE_PATCH)
DELETE_INGESTION = _endpoint("delete_ingestion", "DELETE", Area.INGESTION, _INGESTION, 202, starts_operation=True)
LIST_RUNS = _endpoint("list_runs", "GET", Area.INGESTION, _RUNS)
CREATE_RUN = _endpoint("create_run", "POST", Area.INGESTION, _RUNS, 201)
GET_RUN = _endpoint("get_run", "GET", Area.INGESTION, _RUNS + "/{run_id}")

# --- Operations ----------------------------------------------------------------------------------------------------
_OPERATIONS = "/operations"
_OPERATION = _OPERATIONS + "/{operation_id}"
LIST_OPERATIONS = _endpoint("list_operations", "GET", Area.INGESTION, _OPERATIONS)
GET_OPERATION = _endpoint("get_operation", "GET", Area.INGESTION, _OPERATION)
CANCEL_OPERATION = _endpoint("cancel_operation", "DELETE", Area.INGESTION, _OPERATION, 204)
CANCEL_ALL_OPERATIONS = _endpoint("cancel_all_operations", "DELETE", Area.INGESTION, _OPERATIONS, 204)
#: 2024-01-31-preview only (add-stac-item quickstart).
GET_OPERATION_LOGS = _endpoint(
    "get_operation_logs", "GET", Area.INGESTION, _COLLECTION + "/operations/{operation_id}/logs"
)

# --- STAC: catalog and collections ---------------------------------------------------------------------------------
GET_LANDING_PAGE = _endpoint("get_landing_page", "GET", Area.STAC, "")
GET_CONFORMANCE = _endpoint("get_conformance", "GET", Area.STAC, "/conformance")
LIST_COLLECTIONS = _endpoint("list_collections", "GET", Area.STAC, _COLLECTIONS)
CREATE_COLLECTION = _endpoint(
    "create_collection", "POST", Area.STAC, _COLLECTIONS, 200, 201, 202, starts_operation=True
)
GET_COLLECTION = _endpoint("get_collection", "GET", Area.STAC, _COLLECTION)
REPLACE_COLLECTION = _endpoint("replace_collection", "PUT", Area.STAC, _COLLECTION)
DELETE_COLLECTION = _endpoint(
    "delete_collection", "DELETE", Area.STAC, _COLLECTION, 200, 202, 204, starts_operation=True
)
CREATE_COLLECTION_ASSET = _endpoint(
    "create_collection_asset", "POST", Area.STAC, _COLLECTION + "/assets", 200, 201, content_type=_MULTIPART
)
REPLACE_COLLECTION_ASSET = _endpoint(
    "replace_collection_asset", "PUT", Area.STAC, _COLLECTION + "/assets/{asset_id}", 200, 201, content_type=_MULTIPART
)
DELETE_COLLECTION_ASSET = _endpoint("delete_collection_asset", "DELETE", Area.STAC, _COLLECTION + "/assets/{asset_id}")
GET_COLLECTION_THUMBNAIL = _endpoint(
    "get_collection_thumbnail", "GET", Area.STAC, _COLLECTION + "/thumbnail", accept="image/*, application/octet-stream"
)

# --- STAC: items and search ----------------------------------------------------------------------------------------
_ITEMS = _COLLECTION + "/items"
_ITEM = _ITEMS + "/{item_id}"
LIST_ITEMS = _endpoint("list_items", "GET", Area.STAC, _ITEMS)
CREATE_ITEM = _endpoint("create_item", "POST", Area.STAC, _ITEMS, 202, starts_operation=True)
GET_ITEM = _endpoint("get_item", "GET", Area.STAC, _ITEM)
REPLACE_ITEM = _endpoint("replace_item", "PUT", Area.STAC, _ITEM, 202, starts_operation=True)
UPDATE_ITEM = _endpoint("update_item", "PATCH", Area.STAC, _ITEM, 202, starts_operation=True, content_type=_MERGE_PATCH)
DELETE_ITEM = _endpoint("delete_item", "DELETE", Area.STAC, _ITEM, 202, starts_operation=True)
SEARCH = _endpoint("search", "POST", Area.STAC, "/search", read_only=True)
#: Not in the SDK for 2026-04-15, but its landing page advertises it and articles use it (service-open-questions C18).
SEARCH_BY_QUERY = _endpoint("search_by_query", "GET", Area.STAC, "/search")

# --- STAC: queryables ----------------------------------------------------------------------------------------------
_QUERYABLES = _COLLECTION + "/queryables"
_QUERYABLE = _QUERYABLES + "/{queryable_name}"
GET_QUERYABLES = _endpoint("get_queryables", "GET", Area.STAC, "/queryables")
GET_COLLECTION_QUERYABLES = _endpoint("get_collection_queryables", "GET", Area.STAC, _QUERYABLES)
CREATE_QUERYABLES = _endpoint("create_queryables", "POST", Area.STAC, _QUERYABLES, 200, 201)
REPLACE_QUERYABLE = _endpoint("replace_queryable", "PUT", Area.STAC, _QUERYABLE, 200, 201)
DELETE_QUERYABLE = _endpoint("delete_queryable", "DELETE", Area.STAC, _QUERYABLE)

# --- STAC: configurations ------------------------------------------------------------------------------------------
_CONFIGURATIONS = _COLLECTION + "/configurations"
_MOSAICS = _CONFIGURATIONS + "/mosaics"
_RENDER_OPTIONS = _CONFIGURATIONS + "/render-options"
_TILE_SETTINGS = _CONFIGURATIONS + "/tile-settings"
_PARTITION_TYPE = _CONFIGURATIONS + "/partition-type"
GET_COLLECTION_CONFIGURATION = _endpoint("get_collection_configuration", "GET", Area.STAC, _CONFIGURATIONS)
LIST_MOSAICS = _endpoint("list_mosaics", "GET", Area.STAC, _MOSAICS)
ADD_MOSAIC = _endpoint("add_mosaic", "POST", Area.STAC, _MOSAICS, 200, 201)
GET_MOSAIC = _endpoint("get_mosaic", "GET", Area.STAC, _MOSAICS + "/{mosaic_id}")
REPLACE_MOSAIC = _endpoint("replace_mosaic", "PUT", Area.STAC, _MOSAICS + "/{mosaic_id}", 200, 201)
DELETE_MOSAIC = _endpoint("delete_mosaic", "DELETE", Area.STAC, _MOSAICS + "/{mosaic_id}")
LIST_RENDER_OPTIONS = _endpoint("list_render_options", "GET", Area.STAC, _RENDER_OPTIONS)
CREATE_RENDER_OPTION = _endpoint("create_render_option", "POST", Area.STAC, _RENDER_OPTIONS, 200, 201)
GET_RENDER_OPTION = _endpoint("get_render_option", "GET", Area.STAC, _RENDER_OPTIONS + "/{render_option_id}")
REPLACE_RENDER_OPTION = _endpoint(
    "replace_render_option", "PUT", Area.STAC, _RENDER_OPTIONS + "/{render_option_id}", 200, 201
)
DELETE_RENDER_OPTION = _endpoint("delete_render_option", "DELETE", Area.STAC, _RENDER_OPTIONS + "/{render_option_id}")
GET_TILE_SETTINGS = _endpoint("get_tile_settings", "GET", Area.STAC, _TILE_SETTINGS)
REPLACE_TILE_SETTINGS = _endpoint("replace_tile_settings", "PUT", Area.STAC, _TILE_SETTINGS)
GET_PARTITION_TYPE = _endpoint("get_partition_type", "GET", Area.STAC, _PARTITION_TYPE)
REPLACE_PARTITION_TYPE = _endpoint("replace_partition_type", "PUT", Area.STAC, _PARTITION_TYPE)

# --- SAS -----------------------------------------------------------------------------------------------------------
GET_SAS_TOKEN = _endpoint("get_sas_token", "GET", Area.SAS, "/token/{collection_id}")
SIGN_HREF = _endpoint("sign_href", "GET", Area.SAS, "/sign")
REVOKE_SAS_TOKENS = _endpoint("revoke_sas_tokens", "POST", Area.SAS, "/token/revoke")
