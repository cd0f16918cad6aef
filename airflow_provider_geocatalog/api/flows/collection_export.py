"""The document of a collection that exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_geocatalog.api.collection_checks import THUMBNAIL, asset_file_problems
from airflow_provider_geocatalog.api.flows.collection_plan import (
    MOSAICS,
    QUERYABLES,
    RENDER_OPTIONS,
    find_thumbnail,
    stored_name,
)
from airflow_provider_geocatalog.api.flows.collections import changed_members
from airflow_provider_geocatalog.api.http import FilePart, Flow
from airflow_provider_geocatalog.api.operations import collections, configurations

__all__ = ["ExportedCollection", "export_collection"]


@dataclass(frozen=True)
class ExportedCollection:
    """
    A collection as a document.

    :param document: What :func:`plan_collection` finds no difference to.
    :param thumbnail: The file that ``assets.thumbnail.file`` names.
    """

    document: dict[str, Any]
    thumbnail: FilePart | None = None


def export_collection(collection_id: str) -> Flow[ExportedCollection]:
    """
    Write the document of an existing collection.

    Neither the data type nor the index of a queryable can be read, so the document does not have them. Files other than
    the thumbnail stay where they are: the document names the assets without a file.

    :raises GeoCatalogNotFound: There is no such collection.
    """
    existing = yield from collections.get_collection(collection_id)
    not_of_the_service = changed_members({}, existing)
    own = {name: value for name, value in existing.items() if name in not_of_the_service}
    extensions = existing.get("stac_extensions")
    document: dict[str, Any] = {
        "id": collection_id,
        "collection": {**own, "stac_extensions": extensions} if extensions else own,
    }
    document["partition_type"] = (yield from configurations.get_partition_type(collection_id)).scheme
    for name, kind in (("queryables", QUERYABLES), ("render_options", RENDER_OPTIONS), ("mosaics", MOSAICS)):
        entries = yield from kind.read(collection_id)
        if entries:
            document[name] = [_without_nulls(entry) for entry in entries.values()]
    tile_settings = _without_nulls((yield from configurations.get_tile_settings(collection_id)).raw)
    if tile_settings:
        document["tile_settings"] = tile_settings
    thumbnail, assets = None, existing.get("assets") or {}
    if assets:
        members = ("type", "title", "description", "roles")
        document["assets"] = {
            key: {name: asset[name] for name in members if asset.get(name) is not None} for key, asset in assets.items()
        }
    if THUMBNAIL in assets:
        thumbnail = yield from _export_thumbnail(collection_id, assets[THUMBNAIL])
        if thumbnail is not None:
            document["assets"][THUMBNAIL]["file"] = thumbnail.filename
    return ExportedCollection(document, thumbnail)


def _export_thumbnail(collection_id: str, asset: Mapping[str, Any]) -> Flow[FilePart | None]:
    """Return the thumbnail's file, ``None`` if a document could not have it."""
    found = yield from find_thumbnail(collection_id)
    if found is None or asset_file_problems(THUMBNAIL, found.content, str(asset.get("type"))):
        return None
    return FilePart(stored_name(asset) or THUMBNAIL, found.content, found.media_type)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    return [_without_nulls(entry) for entry in value] if isinstance(value, list | tuple) else value
