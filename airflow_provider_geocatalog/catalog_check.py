"""
Look at a static catalog from the worker: before a bulk ingestion whether it can be walked, afterwards which items are
missing and why. The service tells neither before the run nor per item after it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.flows.sources import normal_container_url
from airflow_provider_geocatalog.static_catalog import (
    CatalogError,
    CatalogItem,
    Reader,
    read_document,
    walk_catalog,
    walk_items,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

__all__ = [
    "CatalogReader",
    "CatalogSummary",
    "FailedItem",
    "check_catalog",
    "explain_failures",
    "in_parallel",
    "item_problem",
    "needs_credential",
]

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

_READ_TIMEOUT = 20.0  # seconds for one document
_CHECK_BUDGET = 120.0  # seconds that a check may take
_MAX_DOCUMENT = 64 * 1024 * 1024  # bytes, far above any STAC document
_READERS = 16  # documents read at a time
_AHEAD = 4  # times as many are asked for before the first of them is looked at
#: Answers that mean "not without a credential". Azure answers 404 to an anonymous read of a private container.
_ACCESS_DENIED = frozenset({401, 403, 409})


class CatalogReader:
    """
    Read catalog documents over http(s), and from local files where the GeoCatalog is on this machine.

    :param sas_token: Token for the documents of ``container_url``; it goes nowhere else.
    :param container_url: Root of the container that the token opens.
    :param local: Whether ``file:`` URLs may be read.
    """

    def __init__(self, *, sas_token: str | None = None, container_url: str | None = None, local: bool = False) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=_READERS))
        self._sas_token = (sas_token or "").lstrip("?")
        self._container = normal_container_url(container_url) + "/" if container_url else None
        self._local = local

    def has_credential_for(self, url: str) -> bool:
        """Return whether the token opens this URL."""
        bare = urlsplit(url)._replace(query="", fragment="").geturl()
        return bool(
            self._sas_token and self._container and (normal_container_url(bare) + "/").startswith(self._container)
        )

    def __call__(self, url: str) -> bytes:
        """
        Return a document's bytes.

        :raises CatalogError: It cannot be read.
        """
        import requests

        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 - reading it is what checks it
        except ValueError as error:
            raise CatalogError(url, f"is not a URL ({error})", kind="unreadable") from error
        if parts.scheme == "file":
            return self._read_file(url)
        if parts.scheme not in {"http", "https"}:
            raise CatalogError(url, f"cannot be read: unsupported scheme {parts.scheme!r}", kind="unreadable")
        signed = url
        if not parts.query and self.has_credential_for(url):
            signed = f"{url}?{self._sas_token}"
        try:
            with self._session.get(signed, timeout=_READ_TIMEOUT, stream=True) as answer:
                if answer.status_code != 200:
                    reason = f"answered {answer.status_code} {answer.reason or ''}".strip()
                    raise CatalogError(url, reason, kind="unreadable", status=answer.status_code)
                return _bounded(url, answer.iter_content(1 << 16))
        except requests.RequestException as error:
            # What requests raises has the token in its text.
            raise CatalogError(url, f"cannot be reached ({type(error).__name__})", kind="unreadable") from None

    def _read_file(self, url: str) -> bytes:
        if not self._local:
            raise CatalogError(url, "is a local file, which only an emulator can read", kind="unreadable")
        try:
            with open(unquote(urlsplit(url).path), "rb") as file:
                return file.read()
        except OSError as error:
            raise CatalogError(url, f"cannot be read ({error.strerror})", kind="unreadable", status=404) from error


def _bounded(url: str, chunks: Iterable[bytes]) -> bytes:
    """Return what comes as long as it keeps within bounds: the session's own time-out is one between two bytes."""
    content, give_up_at = bytearray(), time.monotonic() + _READ_TIMEOUT
    for chunk in chunks:
        content += chunk
        if len(content) > _MAX_DOCUMENT:
            raise CatalogError(url, f"is larger than {_MAX_DOCUMENT} bytes", kind="unreadable")
        if time.monotonic() > give_up_at:
            raise CatalogError(url, f"did not arrive within {_READ_TIMEOUT:.0f} s", kind="unreadable")
    return bytes(content)


@dataclass(frozen=True)
class CatalogSummary:
    """What a look at a catalog found: ``readable`` is false if the worker may not read it (the service may)."""

    readable: bool
    documents: int = 0
    items: int = 0
    complete: bool = True


def check_catalog(url: str, reader: CatalogReader) -> CatalogSummary:
    """
    Walk the catalog's ``child`` links, without reading items.

    :param url: The root document.
    :param reader: How to read.
    :raises GeoCatalogInvalidInput: The catalog is unreachable, not JSON, no Catalog or Collection, or has a cycle.
    """
    documents = items = 0
    give_up_at = time.monotonic() + _CHECK_BUDGET
    try:
        for document_url, document in walk_catalog(url, reader):
            documents += 1
            links = document.get("links", [])
            items += sum(1 for link in links if isinstance(link, dict) and link.get("rel") == "item")
            if time.monotonic() > give_up_at:
                log.warning("The check of %s stopped after %d documents at %s.", url, documents, document_url)
                return CatalogSummary(True, documents, items, complete=False)
    except CatalogError as error:
        if needs_credential(error, reader):
            log.info("The worker may not read the whole catalog (%s); the service reads it with its source.", error)
            return CatalogSummary(documents > 0, documents, items, complete=False)
        raise GeoCatalogInvalidInput(str(error), subject="the catalog cannot be ingested") from error
    return CatalogSummary(True, documents, items)


def needs_credential(error: CatalogError, reader: CatalogReader) -> bool:
    """Return whether a document may be readable all the same, for whoever has a credential that the worker lacks."""
    if error.kind != "unreadable" or reader.has_credential_for(error.url):
        return False
    hidden_by_azure = error.status == 404 and ".blob." in (urlsplit(error.url).hostname or "")
    return error.status in _ACCESS_DENIED or hidden_by_azure


@dataclass(frozen=True)
class FailedItem:
    """
    An item that is not in the collection, and the reason as far as it can be seen from here.

    :param defective: Whether the document itself is at fault, so that it will fail again.
    """

    name: str
    reason: str
    defective: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def explain_failures(
    url: str, reader: Reader, present: Callable[[list[str]], set[str]], *, max_items: int = 10_000
) -> list[FailedItem]:
    """
    Return the items of a catalog that are not in the collection, with reasons.

    :param url: The root document.
    :param reader: How to read.
    :param present: Returns which of some item ids are in the collection.
    :param max_items: Items looked at; a larger catalog is explained in part.
    :raises CatalogError: The catalog cannot be walked from here.
    """
    failed: list[FailedItem] = []
    urls: dict[str, str] = {}
    give_up_at = time.monotonic() + _CHECK_BUDGET
    for item, document, problem in in_parallel(lambda item: _read_item(item, reader), _first(url, reader, max_items)):
        if problem:
            failed.append(FailedItem(_name(item, document), problem, defective=True))
        elif document is not None:
            urls[str(document["id"])] = item.url
        if time.monotonic() > give_up_at:
            log.warning("Not all items of the catalog were looked at within %.0f s.", _CHECK_BUDGET)
            break
    there = present(list(urls))
    failed += [FailedItem(item_id, "not in the collection after the run") for item_id in urls if item_id not in there]
    return failed


def in_parallel(function: Callable[[T], R], values: Iterable[T], *, workers: int = _READERS) -> Iterator[R]:
    """Yield a function's results in the order of the values, with some of them computed ahead on threads."""
    ahead: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for value in values:
                ahead.append(pool.submit(function, value))
                if len(ahead) >= workers * _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # nobody waits for what was not asked for


def _first(url: str, reader: Reader, count: int) -> Iterable[CatalogItem]:
    for number, item in enumerate(walk_items(url, reader)):
        if number >= count:
            return
        yield item


def _read_item(item: CatalogItem, reader: Reader) -> tuple[CatalogItem, dict[str, Any] | None, str | None]:
    try:
        document = read_document(item.url, reader)
    except CatalogError as error:
        return item, None, error.reason
    return item, document, item_problem(document)


def _name(item: CatalogItem, document: dict[str, Any] | None) -> str:
    file_name = unquote(urlsplit(item.url).path).rsplit("/", 1)[-1]
    return f"{document['id']} ({file_name})" if document and document.get("id") else file_name


def item_problem(item: dict[str, Any]) -> str | None:
    """Return why the service will not take an item, as far as its core members show."""
    problems = []
    if item.get("type") != "Feature":
        problems.append(f"'type' is {item.get('type')!r} instead of 'Feature'")
    if not isinstance(item.get("id"), str) or not item["id"]:
        problems.append("it has no id")
    properties = item.get("properties")
    if not isinstance(properties, dict):
        problems.append("it has no 'properties'")
    elif not properties.get("datetime") and not (properties.get("start_datetime") and properties.get("end_datetime")):
        problems.append("it has no 'datetime'")
    if "geometry" not in item:
        problems.append("it has no 'geometry'")
    elif item["geometry"] is not None and not item.get("bbox"):
        problems.append("it has no 'bbox'")
    assets = item.get("assets")
    if not isinstance(assets, dict):
        problems.append("it has no 'assets'")
    else:
        for key, asset in assets.items():
            href = asset.get("href") if isinstance(asset, dict) else None
            if not isinstance(href, str) or not urlsplit(href).scheme:
                problems.append(f"the href of asset {key!r} is not absolute: {href!r}")
    return "; ".join(problems) or None
