"""
Walk a static STAC catalog through its ``child`` and ``item`` links.

Shared by the check that operators make before a bulk ingestion, by the explanation that they give after one, and by the
emulator's ingestion. Reading is the caller's business: a :class:`Reader` knows about credentials and allowed places.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin, urlsplit, uses_relative

from airflow_provider_geocatalog.api.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "CatalogError",
    "CatalogItem",
    "Reader",
    "join_href",
    "parse_document",
    "read_document",
    "walk_catalog",
    "walk_items",
]

#: Types that may stand at the root of a bulk ingestion (geocatalog-api 10.3, recorded message of InvalidStacCatalog).
CATALOG_TYPES = ("Catalog", "Collection")


_SEEN_URLS = """
PRAGMA cache_size = -4096;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID;
BEGIN;
"""


class CatalogError(Exception):
    """
    A document of the catalog cannot be used.

    :param url: Where the document should be.
    :param reason: What is wrong, in words.
    :param kind: ``unreadable`` (not there, no access, no connection), ``not-json``, ``wrong-type``, ``cycle`` or
        ``no-links``.
    :param status: HTTP status of the read, where there was one.
    """

    def __init__(self, url: str, reason: str, *, kind: str, status: int | None = None) -> None:
        super().__init__(redact(f"{url}: {reason}"))
        self.url = url
        self.reason = redact(reason)
        self.kind = kind
        self.status = status


class Reader(Protocol):
    """Fetch a document's bytes, or raise :class:`CatalogError` of kind ``unreadable``."""

    def __call__(self, url: str) -> bytes:
        """Return the bytes of the document at ``url``."""


@dataclass(frozen=True)
class CatalogItem:
    """
    An ``item`` link of the catalog.

    :param url: Absolute URL of the item document.
    :param parent: URL of the catalog document that links to it.
    """

    url: str
    parent: str


@dataclass
class _Visit:
    url: str
    ancestors: tuple[str, ...] = field(default=())


def read_document(url: str, read: Reader) -> dict[str, Any]:
    """
    Return a JSON object.

    :raises CatalogError: It cannot be read, is not JSON, or is not an object.
    """
    return parse_document(url, read(url))


def parse_document(url: str, content: bytes) -> dict[str, Any]:
    """
    Return the JSON object that was read from somewhere.

    :raises CatalogError: It is not JSON, or is not an object.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CatalogError(url, f"not JSON ({error})", kind="not-json") from error
    if not isinstance(document, dict):
        raise CatalogError(url, "not a JSON object", kind="not-json")
    return document


def _read_catalog(url: str, read: Reader) -> dict[str, Any]:
    document = read_document(url, read)
    kind = document.get("type")
    if kind not in CATALOG_TYPES:
        raise CatalogError(
            url,
            f"has type {kind!r}, but only {' and '.join(CATALOG_TYPES)} documents can be walked",
            kind="wrong-type",
        )
    if not isinstance(document.get("links", []), list):
        raise CatalogError(url, "its 'links' is not a list", kind="no-links")
    return document


def walk_catalog(
    root: str, read: Reader, on_error: Callable[[CatalogError], None] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """
    Yield every catalog document below the root, the root first, each once.

    Only ``child`` links are followed; ``collection`` links name the item's collection and often lead nowhere in
    published catalogs.

    :param root: Absolute URL of a Catalog or Collection document.
    :param read: How to read a document.
    :param on_error: Told of a document that cannot be used, instead of raising; the walk goes on with the others.
    :raises CatalogError: A catalog document cannot be used, or its child links form a cycle.
    """
    seen: set[str] = set()
    stack = [_Visit(root)]
    while stack:
        visit = stack.pop()
        try:
            if visit.url in visit.ancestors:
                chain = " -> ".join((*visit.ancestors[visit.ancestors.index(visit.url) :], visit.url))
                raise CatalogError(visit.url, f"its child links form a cycle: {chain}", kind="cycle")
            if visit.url in seen:
                continue
            seen.add(visit.url)
            document = _read_catalog(visit.url, read)
        except CatalogError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        yield visit.url, document
        line = (*visit.ancestors, visit.url)
        stack.extend(_Visit(url, line) for url in reversed(_links(visit.url, document, "child")))


def walk_items(
    root: str, read: Reader, on_error: Callable[[CatalogError], None] | None = None
) -> Iterator[CatalogItem]:
    """
    Yield every ``item`` link of the catalog once, without reading the items; memory does not grow with their number.

    :param on_error: As for :func:`walk_catalog`.
    :raises CatalogError: As :func:`walk_catalog`.
    """
    with closing(_SeenUrls()) as seen:
        for url, document in walk_catalog(root, read, on_error):
            for item_url in _links(url, document, "item"):
                if seen.add(item_url):
                    yield CatalogItem(item_url, url)


class _SeenUrls:
    """URLs that came already, in a temporary file."""

    def __init__(self) -> None:
        # A walk may go on in another thread than it has begun in.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(_SEEN_URLS)

    def add(self, url: str) -> bool:
        """Take note of a URL, and return whether it is new."""
        key = blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount == 1

    def close(self) -> None:
        """Forget them all."""
        self._database.close()


def _links(base: str, document: dict[str, Any], rel: str) -> list[str]:
    """Return the absolute targets of a document's links, fragment removed, a SAS of the base kept on its own host."""
    found = []
    for link in document.get("links", []):
        if isinstance(link, dict) and link.get("rel") == rel and isinstance(link.get("href"), str):
            found.append(_resolve(base, link["href"]))
    return found


def _resolve(base: str, href: str) -> str:
    try:
        target = join_href(base, href.strip()).split("#", 1)[0]
        base_parts, parts = urlsplit(base), urlsplit(target)
    except ValueError:  # no URL; who reads it says so, and the other links stay usable
        return href.strip()
    if base_parts.query and not parts.query and (base_parts.scheme, base_parts.netloc) == (parts.scheme, parts.netloc):
        return parts._replace(query=base_parts.query).geturl()
    return target


def join_href(base: str, href: str) -> str:
    """Return where a reference leads; ``urljoin`` knows no relative ones in the schemes of object stores."""
    scheme, found, rest = base.partition("://")
    if not found or scheme in uses_relative:
        return urljoin(base, href)
    target = urljoin(f"//{rest}", href)
    return f"{scheme}:{target}" if target.startswith("//") else target
