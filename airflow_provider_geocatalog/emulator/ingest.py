"""Ingestion proper: which items a source has, whether each is acceptable, and what the service makes of it."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import shapely
import shapely.geometry
from pydantic import ValidationError
from stac_pydantic import Item

from airflow_provider_geocatalog.api.redaction import redact
from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.managed import is_converted, item_asset_name, original_asset_name
from airflow_provider_geocatalog.emulator.state import ItemFailure, StoredItem
from airflow_provider_geocatalog.emulator.storage import Access, AccessError
from airflow_provider_geocatalog.static_catalog import (
    CATALOG_TYPES,
    CatalogError,
    read_document,
    walk_items,
)

if TYPE_CHECKING:
    from airflow_provider_geocatalog.emulator.settings import EmulatorSettings

__all__ = ["FoundItem", "IngestionError", "already_exists", "find_items", "is_asset_key", "load_item", "prepare_item"]

_NAME = re.compile(r"[A-Za-z0-9\-_+,().]+")  # item ids and asset keys (4.1)
_MAX_ITEM_ID, _MAX_ASSET_KEY = 149, 255  # characters (11.1)
_STAC_VERSIONS = ("1.0.0", "1.1.0")
#: Links that the service generates; the client's are dropped (7.5).
_STRUCTURAL_RELS = frozenset({"self", "root", "parent", "collection", "child", "item", "next", "prev"})
#: Extensions that the service migrates from version 1.0.0 to 1.1.0, as recorded (7.5).
_MIGRATIONS = {
    f"https://stac-extensions.github.io/{name}/v1.0.0/schema.json": (
        f"https://stac-extensions.github.io/{name}/v1.1.0/schema.json"
    )
    for name in ("eo", "projection")
}
_SHOWN_PROBLEMS = 3


class IngestionError(Exception):
    """
    A source or an item cannot be ingested.

    :param code: One of the documented ingestion error codes (10.3).
    :param item_id: The item that it is about.
    """

    def __init__(self, code: str, message: str, item_id: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.item_id = code, message, item_id


def already_exists(item: StoredItem) -> IngestionError:
    """Return the recorded failure of an item whose id is taken (10.3)."""
    message = f"Item '{item.id}' already exists in collection '{item.collection}'"
    return IngestionError("ItemAlreadyExistsInCollection", message, item.id)


@dataclass(frozen=True)
class FoundItem:
    """
    An item of an ingestion's source.

    :param url: Where its document is, or the file that holds it with others.
    :param document: The document, if finding it meant reading it.
    """

    url: str
    document: dict[str, Any] | None = None


def find_items(import_type: str, url: str, access: Access) -> list[FoundItem]:
    """
    Return every item of a static catalog or of a stac-geoparquet file.

    :raises IngestionError: The source as a whole cannot be used.
    """
    try:
        return _geoparquet_items(url, access) if import_type == "StacGeoparquet" else _catalog_items(url, access)
    except AccessError as error:
        raise IngestionError(error.code, error.message) from error


def _catalog_items(url: str, access: Access) -> list[FoundItem]:
    try:
        return [FoundItem(link.url) for link in walk_items(url, access)]
    except AccessError:
        raise
    except CatalogError as error:
        reason = error.reason
        if error.kind == "wrong-type":  # the recorded sentence (10.3)
            reason = f"{reason.split(', but only')[0]}, but only {list(CATALOG_TYPES)} are accepted"
        raise IngestionError(
            "InvalidStacCatalog", f"Invalid STAC catalog. The document at '{redact(error.url)}' {reason}."
        ) from error
    except RecursionError as error:
        raise IngestionError(
            "InvalidStacCatalog", f"Invalid STAC catalog below '{redact(url)}': nested too deeply."
        ) from error


def _geoparquet_items(url: str, access: Access) -> list[FoundItem]:
    import rustac  # large, and of use here only

    content = access(url)
    with tempfile.TemporaryDirectory(prefix="geocatalog-emulator-") as folder:
        file = Path(folder, "items.parquet")
        file.write_bytes(content)
        try:
            found = rustac.read_sync(str(file), format="geoparquet", set_self_link=False)
            documents = [_without_unset(document) for document in found["features"]]
        except BaseException as error:  # damaged files make rustac panic, and a panic is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            reason = str(error).replace(str(file), "the file")
            raise IngestionError(
                "InvalidGeoparquet", f"Invalid GeoParquet. The file at '{redact(url)}' cannot be used: {reason}."
            ) from error
    return [FoundItem(url, document) for document in documents]


def _without_unset(document: dict[str, Any]) -> dict[str, Any]:
    """Return an item without the properties that are null only because other items of the file have them."""
    properties = document["properties"]
    kept = {name: value for name, value in properties.items() if value is not None or name == "datetime"}
    return {**document, "properties": kept}


def load_item(
    found: FoundItem, collection_id: str, access: Access, settings: EmulatorSettings, *, now: float, keep: bool
) -> StoredItem | ItemFailure:
    """Read and check one item; never raises for what is wrong with the item."""
    item_id = None
    try:
        document = dict(found.document) if found.document is not None else read_document(found.url, access)
        item_id = document.get("id")
        # Published catalogs leave `collection` out or name the collection of the catalog they were copied from.
        document["collection"] = collection_id
        return prepare_item(document, collection_id, access, settings, now=now, keep=keep, url=found.url)
    except AccessError as error:
        code, message = error.code, error.message
    except CatalogError as error:
        code, message = "StacValidationFailed", f"The document at '{redact(error.url)}' is {error.reason}."
    except IngestionError as error:
        code, message = error.code, error.message
    except RecursionError:
        code, message = "StacValidationFailed", f"The document at '{redact(found.url)}' is nested too deeply."
    return ItemFailure(code, message, str(item_id) if item_id is not None else None, redact(found.url))


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
    Check an item and return it as the service stores it; the files of its assets are staged in managed storage.

    :param keep: Keep the source files of assets that the service converts, and remember the assets' original hrefs.
    :param url: Where the item was read, for relative asset hrefs.
    :raises IngestionError: It is no valid item, or an asset cannot be ingested.
    """
    _check_item(document)
    etag, managed = str(uuid.uuid4()), access.managed
    hrefs = {key: _asset_href(key, asset["href"], url, settings) for key, asset in document["assets"].items()}
    names = {key: item_asset_name(document["id"], key, href) for key, href in hrefs.items()}
    assets = {
        key: {**asset, "href": managed.href(collection_id, names[key])} for key, asset in document["assets"].items()
    }
    stored = _stored(document, collection_id, assets, etag, now)
    start, end = _time_span(document["properties"])
    item = StoredItem(stored, start, end, _shape(document), hrefs if keep else {})
    files: dict[str, Path] = {}
    try:
        for key, href in hrefs.items():
            file = _fetch_asset(href, access)
            if file is not None:
                files[names[key]] = file
                if keep and is_converted(document["assets"][key].get("type"), href):
                    original = files[original_asset_name(document["id"], key, href)] = managed.new_file()
                    shutil.copyfile(file, original)
        managed.stage(stored, files)
    except BaseException:
        for file in files.values():
            file.unlink(missing_ok=True)
        raise
    return item


def _stored(
    document: dict[str, Any], collection_id: str, assets: dict[str, Any], etag: str, now: float
) -> dict[str, Any]:
    stored = {
        **document,
        "collection": collection_id,
        "links": [link for link in document["links"] if link.get("rel") not in _STRUCTURAL_RELS],
        "assets": assets,
        "_msft:ts": wire.timestamp(now, digits=6),
        "_msft:etag": etag,
    }
    if document.get("stac_extensions"):
        stored["stac_extensions"] = [_MIGRATIONS.get(name, name) for name in document["stac_extensions"]]
    return stored


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
    except (ValueError, OverflowError) as error:  # times at the ends of the calendar overflow in another time zone
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


def is_asset_key(key: str) -> bool:
    """Return whether an asset may have this key (4.1)."""
    return _NAME.fullmatch(key) is not None and len(key) <= _MAX_ASSET_KEY


def _asset_href(key: str, href: str, url: str | None, settings: EmulatorSettings) -> str:
    if not is_asset_key(key):
        raise IngestionError("InvalidInputData", f"Asset key '{key}' is not valid.")
    try:
        parts = urlsplit(href)
    except ValueError:  # brackets that hold no address
        raise _bad_href(key, href) from None
    if (parts.scheme in ("http", "https") and parts.hostname) or parts.scheme == "file":
        return href
    if not parts.scheme and not parts.netloc and settings.relative_asset_hrefs == "resolve" and url is not None:
        return urljoin(url, href)
    raise _bad_href(key, href)


def _bad_href(key: str, href: str) -> IngestionError:
    return IngestionError("InvalidAssetHref", f"Asset '{key}' has href '{href}'. Asset hrefs have to be absolute URLs.")


def _fetch_asset(href: str, access: Access) -> Path | None:
    if access.managed.holds(href):
        # Managed storage is private to the service, which reads assets like everybody else (7.5).
        raise IngestionError(
            "PublicAccessRestricted",
            "Asset transformation exception. Reason: Error retrieving content from public source. Reason: Public "
            "access is not permitted on this storage account. Restore the original href. "
            f"Source: {href.partition('?')[0]}",
        )
    try:
        return access.fetch_asset(href)
    except AccessError as error:
        raise IngestionError(error.code, error.message) from error


def _time_span(properties: dict[str, Any]) -> tuple[datetime.datetime, datetime.datetime]:
    start = properties.get("start_datetime") or properties["datetime"]
    end = properties.get("end_datetime") or properties["datetime"]
    try:
        return datetime.datetime.fromisoformat(start), datetime.datetime.fromisoformat(end)
    except (TypeError, ValueError) as error:  # stac-pydantic also takes epoch seconds, which RFC 3339 does not know
        raise _invalid(f"a datetime is not RFC 3339: {error}") from error
