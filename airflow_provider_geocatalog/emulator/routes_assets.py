"""A collection's own assets and its thumbnail (7.4)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.ingest import is_asset_key
from airflow_provider_geocatalog.emulator.managed import collection_asset_name
from airflow_provider_geocatalog.emulator.routes_catalog import find_collection, read_view
from airflow_provider_geocatalog.emulator.routing import Context, route
from airflow_provider_geocatalog.emulator.state import Collection, CollectionAsset
from airflow_provider_geocatalog.emulator.wire import Answer, ApiError, Call

if TYPE_CHECKING:
    from airflow_provider_geocatalog.emulator.forms import Upload

__all__: list[str] = []

_THUMBNAIL = "thumbnail"
#: It becomes the header of the thumbnail, which must not be split.
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+( *;[ -~]*)?", re.ASCII)


@route(endpoints.CREATE_COLLECTION_ASSET)
def create_collection_asset(context: Context, call: Call) -> Answer:
    """Add an asset with its file."""
    collection = find_collection(context, call.names["collection_id"])
    key, asset = _checked(context, collection, call.body)
    if key in collection.assets:
        raise ApiError(409, "DuplicatedEntity", f"Asset key '{key}' already exists in collection '{collection.id}'")
    _store(context, collection, key, asset, call)
    return _changed(collection, call, 201)


@route(endpoints.REPLACE_COLLECTION_ASSET)
def replace_collection_asset(context: Context, call: Call) -> Answer:
    """Replace an asset and its file."""
    collection = find_collection(context, call.names["collection_id"])
    path_key = _existing(collection, call)
    key, asset = _checked(context, collection, call.body)
    if key != path_key:
        raise wire.bad_request(f"The asset's key '{key}' differs from '{path_key}' in the path.")
    _store(context, collection, key, asset, call)
    return _changed(collection, call)


@route(endpoints.DELETE_COLLECTION_ASSET)
def delete_collection_asset(context: Context, call: Call) -> Answer:
    """Delete an asset and its file."""
    collection = find_collection(context, call.names["collection_id"])
    key = _existing(collection, call)
    del collection.assets[key]
    context.blobs.managed.remove_asset(collection.id, key)
    return _changed(collection, call)


@route(endpoints.GET_COLLECTION_THUMBNAIL)
def get_collection_thumbnail(context: Context, call: Call) -> Answer:
    """Return the file of the asset ``thumbnail``."""
    collection = find_collection(context, call.names["collection_id"])
    asset = collection.assets.get(_THUMBNAIL)
    if asset is None:
        raise wire.not_found(f"Collection '{collection.id}' has no thumbnail.")
    return Answer(body=asset.content, media_type=asset.document["type"])


def _store(context: Context, collection: Collection, key: str, asset: CollectionAsset, call: Call) -> None:
    context.blobs.managed.add_asset(collection.id, key, call.body.filename, asset.content)
    collection.assets[key] = asset


def _changed(collection: Collection, call: Call, status: int = 200) -> Answer:
    collection.updated = call.now
    return Answer(status, read_view(collection, call, queryables_link=False))


def _existing(collection: Collection, call: Call) -> str:
    key = call.names["asset_id"]
    if key not in collection.assets:
        raise wire.not_found(
            f"Asset key '{key}' not found in collection '{collection.id}'. "
            "Please verify the asset key and collection ID, and try again."
        )
    return key


def _checked(context: Context, collection: Collection, upload: Upload) -> tuple[str, CollectionAsset]:
    """Return the key and the asset of an upload; the ``href`` that it brings is only a placeholder (7.4)."""
    data = upload.data
    if not isinstance(data, dict):
        raise wire.bad_request("The part 'data' has to be a JSON object.")
    key, media_type, roles = data.get("key"), data.get("type"), data.get("roles")
    if not isinstance(key, str) or not is_asset_key(key):
        raise wire.bad_request(f"Asset key '{key}' is not valid.")
    if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
        raise wire.bad_request("An asset's 'type' has to be a media type.")
    if not isinstance(data.get("title"), str):
        raise wire.bad_request("An asset's 'title' has to be a string.")
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise wire.bad_request("An asset's 'roles' has to be a list of strings.")
    if upload.filename == "..":
        raise wire.bad_request("The file name is not valid.")
    document: dict[str, Any] = {
        "href": context.blobs.managed.href(collection.id, collection_asset_name(key, upload.filename)),
        "type": media_type,
        "title": data["title"],
        "roles": roles,
    }
    description = data.get("description")
    if description is not None:
        if not isinstance(description, str):
            raise wire.bad_request("An asset's 'description' has to be a string.")
        document["description"] = description
    return key, CollectionAsset(document, upload.content)
