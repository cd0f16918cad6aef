"""Collect the items of a static catalog, the broken ones too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow_provider_geocatalog.static_catalog import CatalogError, CatalogItem, Reader, read_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["ItemDocument", "file_path", "read_items"]

_THREADS = 8  # documents read at a time


def file_path(url: str) -> Path:
    """Return the path of a ``file`` URL."""
    return Path(unquote(urlsplit(url).path))


@dataclass(frozen=True)
class ItemDocument:
    """
    An item of the catalog as it was read.

    :param url: Where it is.
    :param document: Its content; empty if it cannot be used.
    :param reason: Why it cannot be used, if so.
    """

    url: str
    document: dict[str, Any] = field(default_factory=dict, repr=False)
    reason: str | None = None

    @property
    def item_id(self) -> str:
        """The item's id; empty for a broken item."""
        return str(self.document.get("id") or "")


def read_items(items: Iterable[CatalogItem], reader: Reader) -> Iterator[ItemDocument]:
    """Read items, several at a time, in their order."""

    def read(item: CatalogItem) -> ItemDocument:
        try:
            document = read_document(item.url, reader)
        except CatalogError as error:
            return ItemDocument(item.url, reason=error.reason)
        if document.get("type") != "Feature":
            return ItemDocument(item.url, reason=f"its type is {document.get('type')!r}, not 'Feature'")
        if not isinstance(document.get("id"), str) or not document["id"]:
            return ItemDocument(item.url, reason="it has no id")
        return ItemDocument(item.url, document)

    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(read, items)
