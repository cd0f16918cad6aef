"""Items from a static STAC catalog: documents that link to each other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.numbers import whole_number
from airflow_provider_geocatalog.api.redaction import redact
from airflow_provider_geocatalog.catalog_check import in_parallel
from airflow_provider_geocatalog.static_catalog import CatalogError, CatalogItem, parse_document, walk_items
from airflow_provider_geocatalog.transfer.files import pages_of
from airflow_provider_geocatalog.transfer.source import ItemSource, ItemSourceError, Page
from airflow_provider_geocatalog.transfer.storage import is_http, path_text, refuse_signed, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_geocatalog.transfer.source import Environment
    from airflow_provider_geocatalog.transfer.windows import Window

__all__ = ["StaticCatalogSource"]

_MAX_DOCUMENT = 64 * 1024 * 1024  # bytes, far above any STAC document
_FAIL, _SET_ASIDE = "fail", "set_aside"


class StaticCatalogSource(ItemSource):
    """
    The items of a static STAC catalog, found along its ``child`` and ``item`` links, each document once. Links lead to
    http(s) addresses, and to where the root is: on disk if it is there, or in a store of that kind.

    An item that does not say where it is gets a ``self`` link, so that its relative hrefs can be made absolute.

    :param url: The root Catalog or Collection: an http(s) address, or a path on disk or in object storage.
    :param conn_id: Connection that opens the store; for http(s) one that holds headers, which go to the origin of the
        root only.
    :param workers: Documents read at a time.
    :param on_broken_document: Whether a document that is there but is broken, or that a link leads to in vain, is to
        ``fail`` the reading or to be ``set_aside``: it comes as an object of its address as ``id`` and the reason as
        ``unreadable``. If it is a Catalog, so are the items below it.
    """

    template_fields: ClassVar[Sequence[str]] = ("url", "conn_id", "on_broken_document")

    def __init__(
        self, url: str, *, conn_id: str | None = None, workers: int = 16, on_broken_document: str = _FAIL
    ) -> None:
        refuse_signed(url, "url")
        if not whole_number(workers, "workers"):
            raise GeoCatalogInvalidInput("workers has to be at least 1")
        self.url = path_text(url)
        self.conn_id = conn_id
        self.workers = workers
        self.on_broken_document = on_broken_document

    def pages(
        self, environment: Environment, window: Window | None = None, *, part: str | None = None
    ) -> Iterator[Page]:
        """
        Yield all items, in the order of the links.

        :raises ItemSourceError: A document cannot be read.
        :raises GeoCatalogInvalidInput: The arguments make no sense.
        """
        if not isinstance(self.url, str) or not self.url:
            raise GeoCatalogInvalidInput(f"url has to be the address of a catalog, not {self.url!r}")
        if self.on_broken_document not in (_FAIL, _SET_ASIDE):
            raise GeoCatalogInvalidInput(
                f"on_broken_document is {self.on_broken_document!r}; expected {_FAIL!r} or {_SET_ASIDE!r}"
            )
        refuse_signed(self.url, "url")
        yield from pages_of(self._items(environment))

    def _items(self, environment: Environment) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield the items, each with the bytes of its document."""
        root = _url_of(self.url)
        read = _Reader(environment, root, self.conn_id)
        broken: list[CatalogError] = []
        try:
            links = walk_items(root, read, broken.append if self.on_broken_document == _SET_ASIDE else None)
            for found, size in in_parallel(partial(_read_item, read), links, workers=self.workers):
                yield self._or_rubbish(found) if isinstance(found, CatalogError) else found, size
        except CatalogError as error:
            raise _failure(error) from error
        for lost in broken:
            if lost.url == root:
                raise _failure(lost) from lost
            yield self._or_rubbish(lost), 0

    def _or_rubbish(self, error: CatalogError) -> dict[str, Any]:
        if self.on_broken_document == _FAIL:
            raise error
        return {"id": redact(error.url), "unreadable": error.reason}

    def describe(self) -> str:
        """Return the address."""
        return redact(str(self.url))


def _failure(error: CatalogError) -> ItemSourceError:
    return ItemSourceError(
        str(error),
        status=error.status,
        hint="Mend the catalog, or set such documents aside with on_broken_document='set_aside'.",
    )


def _read_item(read: _Reader, link: CatalogItem) -> tuple[dict[str, Any] | CatalogError, int]:
    """Return an item, or why there is none, with the bytes of its document."""
    try:
        content = read(link.url)
        item = parse_document(link.url, content)
    except CatalogError as error:
        return error, 0
    links = item.setdefault("links", [])
    if isinstance(links, list) and not any(_is_own_address(one) for one in links):
        item["links"] = [*(one for one in links if not _is_own(one)), {"rel": "self", "href": link.url}]
    return item, len(content)


def _is_own(link: Any) -> bool:
    return isinstance(link, dict) and link.get("rel") == "self"


def _is_own_address(link: Any) -> bool:
    return _is_own(link) and "://" in str(link.get("href"))


class _Reader:
    """
    Reads documents through what the source is lent.

    :param root: URL of the root; headers go to its origin only.
    """

    def __init__(self, environment: Environment, root: str, conn_id: str | None) -> None:
        self._environment, self._conn_id = environment, conn_id
        self._root = root

    def __call__(self, url: str) -> bytes:
        """
        Return a document's bytes.

        :raises CatalogError: It is not there, or is none.
        :raises ItemSourceError: It cannot be read for now.
        """
        try:
            self._require_reachable(url)
            with self._environment.open(_path_of(url), "rb", self._conn_id if self._is_own(url) else None) as file:
                content = bytes(file.read(_MAX_DOCUMENT + 1))
        except GeoCatalogError as error:
            if error.retryable or url == self._root or isinstance(error, GeoCatalogInvalidInput):
                raise
            raise CatalogError(url, error.message, kind="unreadable", status=error.status) from error
        except Exception as error:
            failure = unreadable(f"{redact(url)} cannot be read", error)
            if failure.retryable or url == self._root:
                raise failure from failure.__cause__
            raise CatalogError(url, failure.message, kind="unreadable") from failure.__cause__
        if len(content) > _MAX_DOCUMENT:
            raise CatalogError(url, f"is larger than {_MAX_DOCUMENT} bytes", kind="unreadable")
        return content

    def _require_reachable(self, url: str) -> None:
        """Refuse what is somewhere else than the catalog: whoever wrote it shall not read this machine's files."""
        scheme, own = urlsplit(url).scheme, urlsplit(self._root).scheme
        if scheme != own and not is_http(url):
            raise ItemSourceError(f"is a {scheme}: URL, to which a catalog at {own}: cannot link")

    def _is_own(self, url: str) -> bool:
        parts, root = urlsplit(url), urlsplit(self._root)
        return (parts.scheme, parts.netloc) == (root.scheme, root.netloc)


def _url_of(path: str) -> str:
    """Return the URL of a path, to which links are relative."""
    scheme, found, rest = path.partition("://")
    if is_http(path) or scheme == "file":
        return path
    return f"{scheme}://{quote(rest, safe='/@:')}" if found else Path(path).absolute().as_uri()


def _path_of(url: str) -> str:
    """Return what opens a URL: links are percent-encoded, paths are not."""
    return url if is_http(url) or url.startswith("file:") else unquote(url)
