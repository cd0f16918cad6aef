"""Ingestion proper: which items a static catalog has, whether each is acceptable, and what the service makes of it."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import uuid
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import shapely
import shapely.geometry
from pydantic import ValidationError
from stac_pydantic import Item

from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.state import ItemFailure, StoredItem
from airflow_provider_geocatalog.emulator.storage import Access, AccessError
from airflow_provider_geocatalog.static_catalog import (
    CATALOG_TYPES,
    CatalogError,
    CatalogItem,
    read_document,
    walk_items,
)

if TYPE_CHECKING:
    from airflow_provider_geocatalog.emulator.settings import EmulatorSettings

__all__ = ["IngestionError", "catalog_items", "load_item", "prepare_item"]

_NAME = re.compile(r"[A-Za-z0-9\-_+,().]+")  # item ids and asset keys (4.1)
_MAX_ITEM_ID, _MAX_ASSET_KEY = 149, 255  # characters (11.1)
_STAC_VERSIONS = ("1.0.0", "1.1.0")
#: Links that the service generates; the client's are dropped (7.5).
_STRUCTURAL_RELS = frozenset({"self", "root", "parent", "collection", "child", "item", "next", "prev"})
#: Extensions that the service migrates (7.5).
_MIGRATIONS = {
    "https://stac-extensions.github.io/projection/v1.0.0/schema.json": (
        "https://stac-extensions.github.io/projection/v1.1.0/schema.json"
    )
}
_SHOWN_PROBLEMS = 3


class IngestionError(Exception):
    """
    A catalog or an item cannot be ingested.

    :param code: One of the documented ingestion error codes (10.3).
    :param item_id: The item that it is about.
    """

    def __init__(self, code: str, message: str, item_id: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.item_id = code, message, item_id


def catalog_items(url: str, access: Access) -> list[CatalogItem]:
    """
    Return every item link of a static catalog.

    :raises IngestionError: The catalog as a whole cannot be used.
    """
    try:
        return list(walk_items(url, access))
    except AccessError as error:
        raise IngestionError(error.code, error.message) from error
    except CatalogError as error:
        reason = error.reason
        if error.kind == "wrong-type":  # the recorded sentence (10.3)
            reason = f"{reason.split(', but only')[0]}, but only {list(CATALOG_TYPES)} are accepted"
        raise IngestionError(
            "InvalidStacCatalog", f"Invalid STAC catalog. The document at '{error.url}' {reason}."
        ) from error
    except RecursionError as error:
        raise IngestionError("InvalidStacCatalog", f"Invalid STAC catalog below '{url}': nested too deeply.") from error


def load_item(
    link: CatalogItem, collection_id: str, access: Access, settings: EmulatorSettings, *, now: float, keep: bool
) -> StoredItem | ItemFailure:
    """Read and check one item of a catalog; never raises for what is wrong with the item."""
    item_id = None
    try:
        document = read_document(link.url, access)
        item_id = document.get("id")
        # Published catalogs leave `collection` out or name the collection of the catalog they were copied from.
        document["collection"] = collection_id
        return prepare_item(document, collection_id, access, settings, now=now, keep=keep, url=link.url)
    except AccessError as error:
        code, message = error.code, error.message
    except CatalogError as error:
        code, message = "StacValidationFailed", f"The document at '{error.url}' is {error.reason}."
    except IngestionError as error:
        code, message = error.code, error.message
    except RecursionError:
        code, message = "StacValidationFailed", f"The document at '{link.url}' is nested too deeply."
    return ItemFailure(code, message, str(item_id) if item_id is not None else None, link.url)


def prepare_item(
    document: Any,
    collection_id: str,
    access: Access,
    settings: EmulatorSettings,
    *,
    now: float,
    keep: bool = False,
    url: str | None = None,
) -> StoredItem:
    """
    Check an item and return it as the service stores it.

    :param keep: Remember the assets' original hrefs.
    :param url: Where the item was read, for relative asset hrefs.
    :raises IngestionError: It is no valid item, or an asset cannot be ingested.
    """
    _check_item(document)
    assets, originals = {}, {}
    for key, asset in document["assets"].items():
        href = _asset_href(key, asset["href"], url, settings)
        _check_asset(href, access, settings)
        originals[key] = href
        assets[key] = {**asset, "href": _managed_href(collection_id, document["id"], key, href, settings)}
    stored = {
        **document,
        "collection": collection_id,
        "links": [link for link in document["links"] if link.get("rel") not in _STRUCTURAL_RELS],
        "assets": assets,
        "_msft:ts": wire.timestamp(now, digits=6),
        "_msft:etag": str(uuid.uuid4()),
    }
    if document.get("stac_extensions"):
        stored["stac_extensions"] = [_MIGRATIONS.get(name, name) for name in document["stac_extensions"]]
    start, end = _time_span(document["properties"])
    return StoredItem(stored, start, end, _shape(document), originals if keep else {})


def _invalid(problem: str) -> IngestionError:
    return IngestionError("StacValidationFailed", f"STAC validation failed: {problem}.")


def _check_item(document: Any) -> None:
    if not isinstance(document, dict) or document.get("type") != "Feature":
        kind = document.get("type") if isinstance(document, dict) else type(document).__name__
        raise _invalid(f"an Item has type 'Feature', not {kind!r}")
    if document.get("stac_version") not in _STAC_VERSIONS:
        raise _invalid(f"stac_version {document.get('stac_version')!r} is not one of {', '.join(_STAC_VERSIONS)}")
    try:
        Item.model_validate(document)
        json.dumps(document, allow_nan=False)  # NaN and Infinity are no JSON, though Python reads them
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'item'}: {e['msg']}" for e in error.errors()[:_SHOWN_PROBLEMS]]
        raise _invalid("; ".join(problems)) from error
    except ValueError as error:
        raise _invalid(str(error)) from error
    if document.get("geometry") is None:
        raise _invalid("geometry is required")
    if not _NAME.fullmatch(document["id"]) or len(document["id"]) > _MAX_ITEM_ID:
        raise IngestionError(
            "InvalidInputData",
            f"Item id '{document['id']}' is not valid: letters, digits and -_+,(). are allowed, "
            f"up to {_MAX_ITEM_ID} characters.",
        )


def _shape(document: dict[str, Any]) -> Any:
    try:
        shape = shapely.geometry.shape(document["geometry"])
    except (shapely.errors.ShapelyError, ValueError, TypeError, KeyError, IndexError) as error:
        raise _invalid(f"geometry: {error}") from error
    if shape.is_empty:
        raise _invalid("geometry is empty")
    return shape


def _asset_href(key: str, href: str, url: str | None, settings: EmulatorSettings) -> str:
    if not _NAME.fullmatch(key) or len(key) > _MAX_ASSET_KEY:
        raise IngestionError("InvalidInputData", f"Asset key '{key}' is not valid.")
    parts = urlsplit(href)
    if (parts.scheme in ("http", "https") and parts.hostname) or parts.scheme == "file":
        return href
    if not parts.scheme and not parts.netloc and settings.relative_asset_hrefs == "resolve" and url is not None:
        return urljoin(url, href)
    raise IngestionError("InvalidAssetHref", f"Asset '{key}' has href '{href}'. Asset hrefs have to be absolute URLs.")


def _check_asset(href: str, access: Access, settings: EmulatorSettings) -> None:
    if href.startswith(settings.managed_storage_url + "/"):
        # Managed storage is private to the service, which reads assets like everybody else (7.5).
        raise IngestionError(
            "PublicAccessRestricted",
            "Asset transformation exception. Reason: Error retrieving content from public source. Reason: Public "
            f"access is not permitted on this storage account. Restore the original href. Source: {href}",
        )
    try:
        access.check_asset(href)
    except AccessError as error:
        raise IngestionError(error.code, error.message) from error


def _managed_href(collection_id: str, item_id: str, key: str, href: str, settings: EmulatorSettings) -> str:
    """Return where the service stores an asset; both hash rules were recorded (7.5)."""
    container = f"{collection_id}-{_sha256(collection_id)[:8]}"
    suffix = PurePosixPath(urlsplit(href).path).suffix
    return f"{settings.managed_storage_url}/{container}/{_sha256(item_id)[:3]}/{item_id}/{key}{suffix}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _time_span(properties: dict[str, Any]) -> tuple[datetime.datetime, datetime.datetime]:
    start = properties.get("start_datetime") or properties["datetime"]
    end = properties.get("end_datetime") or properties["datetime"]
    try:
        return datetime.datetime.fromisoformat(start), datetime.datetime.fromisoformat(end)
    except (TypeError, ValueError) as error:  # stac-pydantic also takes epoch seconds, which RFC 3339 does not know
        raise _invalid(f"a datetime is not RFC 3339: {error}") from error
