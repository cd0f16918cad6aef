"""What the demonstration ingests: look at it before anything is started."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.validation import collection_problems, refuse
from airflow_provider_geocatalog.catalog_check import CatalogReader
from airflow_provider_geocatalog.static_catalog import CatalogError, read_document, walk_items
from demo.reading import ItemDocument, file_path, read_items

if TYPE_CHECKING:
    from collections.abc import Iterable

    from demo.connections import Storage

__all__ = [
    "Catalog",
    "InputError",
    "collection_file",
    "derived_collection",
    "is_url",
    "load_catalog",
    "load_collection",
]

_EXAMPLES = 3  # names in a warning


class InputError(Exception):
    """The user's input cannot be used; the text is one line for the user."""


@dataclass(frozen=True)
class Catalog:
    """
    A static catalog that was read.

    :param url: Its root document.
    :param root: The root document's content.
    :param items: Its items, the broken ones too.
    :param folder: The folder that holds all of its documents, for a catalog of files.
    """

    url: str
    root: dict[str, Any]
    items: tuple[ItemDocument, ...]
    folder: Path | None = None

    @property
    def path_in_folder(self) -> str:
        """The root document's path below the folder, percent-encoded."""
        return quote(file_path(self.url).relative_to(self.folder or "/").as_posix())

    def warnings(self) -> list[str]:
        """Return what the real service would not take, though the demonstration does."""
        relative = [item.item_id for item in self.items if _has_relative_href(item.document)]
        if not relative:
            return []
        some = ", ".join(relative[:_EXAMPLES]) + (", ..." if len(relative) > _EXAMPLES else "")
        warning = (
            f"{len(relative)} items have relative asset hrefs ({some}): the service demands absolute ones "
            "(InvalidAssetHref), though this demonstration's emulator resolves them"
        )
        return [warning]


def is_url(text: str) -> bool:
    """Return whether a setting is an http(s) URL rather than a path."""
    return urlsplit(text).scheme in {"http", "https"}


def load_catalog(location: str, storage: Storage | None = None) -> Catalog:
    """
    Read a catalog with all of its items.

    :param location: Path or URL of its root document.
    :param storage: The container that it is in, if that takes a SAS token to read.
    :raises InputError: It is not there, no catalog, or has no items.
    """
    if is_url(location):
        url = location
    else:
        path = Path(location).expanduser().absolute()
        if path.is_dir():
            raise InputError(f"CATALOG {location} is a folder; name the catalog's JSON document in it")
        url = Path(os.path.normpath(path)).as_uri()
    reader = _reader(storage)
    try:
        links = list(walk_items(url, reader))
        root = read_document(url, reader)
    except CatalogError as error:
        # The walk's own URL has percent signs and a scheme; people know the path that they typed.
        place = location if error.url == url else f"{location}: {error.url}"
        raise InputError(f"CATALOG {place}: {error.reason}") from error
    if not links:
        raise InputError(f"CATALOG {location}: it has no items, neither directly nor in its children")
    items = tuple(read_items(links, reader))
    return Catalog(url, root, items, None if is_url(location) else _folder_of_all(url, items))


def _reader(storage: Storage | None = None) -> CatalogReader:
    return CatalogReader(
        sas_token=storage.sas_token if storage else None,
        container_url=storage.url if storage else None,
        local=True,
    )


def _folder_of_all(url: str, items: Iterable[ItemDocument]) -> Path:
    """Return the folder to serve: the catalog's own, or one above it if its links lead out of that."""
    own = file_path(url).parent
    places = [file_path(item.url).parent for item in items if item.url.startswith("file:")]
    common = Path(os.path.commonpath([own, *places]))
    return own if common in {Path(common.anchor), Path.home()} else common


def _has_relative_href(document: dict[str, Any]) -> bool:
    assets = document.get("assets")
    hrefs = (
        [asset.get("href") for asset in assets.values() if isinstance(asset, dict)] if isinstance(assets, dict) else []
    )
    return any(isinstance(href, str) and not urlsplit(href).scheme for href in hrefs)


def collection_file(catalog: str, config: str) -> Path | None:
    """
    Look for the collection of a catalog: in the config folder, else in ``config`` beside or above the catalog.

    :param catalog: Path or URL of the catalog.
    :param config: The config folder, or nothing.
    """
    folders = [Path(config)] if config else []
    if not is_url(catalog):
        place = Path(catalog).expanduser().absolute().parent
        folders += [place / "config", place.parent / "config"]
    return next((folder / "collection.json" for folder in folders if (folder / "collection.json").is_file()), None)


def load_collection(location: str) -> dict[str, Any]:
    """
    Read and check a collection.

    :param location: Path or URL.
    :raises InputError: It is not there, or the service would refuse it.
    """
    url = location if is_url(location) else Path(location).expanduser().absolute().as_uri()
    try:
        document = read_document(url, _reader())
        refuse(f"COLLECTION_JSON {location}", collection_problems(document))
    except CatalogError as error:
        raise InputError(f"COLLECTION_JSON {location}: {error.reason}") from error
    except GeoCatalogInvalidInput as error:
        raise InputError(error.message) from error
    return document


def derived_collection(catalog: Catalog) -> dict[str, Any]:
    """Return a collection made of what the catalog tells about itself and of its items' extents."""
    collection_id = re.sub(r"[^A-Za-z0-9_.-]+", "-", str(catalog.root.get("id") or "")).strip("-.") or "demo-collection"
    documents = [item.document for item in catalog.items if item.document]
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": collection_id,
        "title": catalog.root.get("title") or collection_id,
        "description": catalog.root.get("description") or f"Items of the catalog {collection_id}",
        "license": "other",
        "links": [],
        "extent": {
            "spatial": {"bbox": [_bounds(documents)]},
            "temporal": {"interval": [_interval(documents)]},
        },
    }


def _bounds(documents: Iterable[dict[str, Any]]) -> list[float]:
    boxes = []
    for document in documents:
        box = document.get("bbox")
        if isinstance(box, list) and len(box) in (4, 6) and all(isinstance(n, int | float) for n in box):
            half = len(box) // 2  # a box with heights has three numbers a corner
            boxes.append((box[0], box[1], box[half], box[half + 1]))
    if not boxes:
        return [-180.0, -90.0, 180.0, 90.0]
    west, south, east, north = zip(*boxes, strict=True)
    return [min(west), min(south), max(east), max(north)]


def _interval(documents: Iterable[dict[str, Any]]) -> list[str | None]:
    starts, ends = [], []
    for document in documents:
        properties = document.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        start = properties.get("start_datetime") or properties.get("datetime")
        end = properties.get("end_datetime") or properties.get("datetime")
        starts += [start] if isinstance(start, str) else []
        ends += [end] if isinstance(end, str) else []
    return [min(starts, default=None), max(ends, default=None)]


def write_collection(path: Path, document: dict[str, Any]) -> Path:
    """Write a collection to a file and return the file."""
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path
