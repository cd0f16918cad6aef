"""Items from files: NDJSON, ItemCollections, stac-geoparquet, and the dead-letter files of earlier transfers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.redaction import redact
from airflow_provider_geocatalog.transfer.item_files import (
    OnBrokenLine,
    format_of,
    read_sized_items,
    require_format,
)
from airflow_provider_geocatalog.transfer.source import ItemSource, ItemSourceError, Page
from airflow_provider_geocatalog.transfer.storage import path_text, refuse_signed, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_geocatalog.transfer.source import Environment
    from airflow_provider_geocatalog.transfer.windows import Window

__all__ = ["PAGE_ITEMS", "ItemFilesSource", "pages_of"]

log = logging.getLogger(__name__)

#: Items on a page of sources that have no pages of their own.
PAGE_ITEMS = 500
_PAGE_BYTES = 16 * 1024 * 1024  # after which a page ends as well


class ItemFilesSource(ItemSource):
    """
    The items of files, on disk, in object storage or on the web, one file after the other.

    What each is tells its suffix: ``.ndjson``, ``.jsonl``, ``.geojsonl`` (an Item in each line, or a line of a
    dead-letter file), ``.json``, ``.geojson`` (an ItemCollection, a list or an Item), all of these also with ``.gz``,
    and ``.parquet``, ``.geoparquet`` (stac-geoparquet, which needs the extra ``geoparquet``). Other files in folders
    are left alone.

    :param path: A file, a folder (with the folders in it), a pattern such as ``s3://drop/2024-06-*/**/*.ndjson``, or a
        list of them, as texts or path objects. http(s) addresses are files.
    :param conn_id: Connection that opens the store; for http(s) one that holds headers.
    :param format: ``ndjson``, ``json`` or ``geoparquet``, whatever the suffixes are.
    :param on_broken_line: Whether a line of NDJSON that is no JSON is to ``fail`` the reading, since what follows it
        may be lost as well, or comes as text to be ``set_aside``.
    :param may_be_empty: Whether it is all right that a path names no files.
    """

    template_fields: ClassVar[Sequence[str]] = ("path", "conn_id", "format", "on_broken_line")

    def __init__(
        self,
        path: str | Sequence[str],
        *,
        conn_id: str | None = None,
        format: str | None = None,
        on_broken_line: str = OnBrokenLine.FAIL.value,
        may_be_empty: bool = False,
    ) -> None:
        refuse_signed(path, "path")
        self.path = list(map(path_text, path)) if isinstance(path, list | tuple) else path_text(path)
        self.conn_id = conn_id
        self.format = format
        self.on_broken_line = on_broken_line
        self.may_be_empty = may_be_empty

    def pages(
        self, environment: Environment, window: Window | None = None, *, part: str | None = None
    ) -> Iterator[Page]:
        """
        Yield the items of all files; a page is of one file, and its part is the file's path.

        :raises ItemSourceError: There is no such file, or one cannot be read wholly.
        :raises GeoCatalogInvalidInput: The arguments make no sense.
        """
        on_broken_line = _on_broken_line(self.on_broken_line)
        files = self._files(environment)
        if part in files:
            files = files[files.index(part) :]
        elif part is not None:
            log.warning("%s is gone, where the reading stopped; reading all files again.", redact(part))
        for file in files:
            yield from pages_of(
                read_sized_items(environment, file, self.conn_id, format=self.format, on_broken_line=on_broken_line),
                part=file,
            )

    def _files(self, environment: Environment) -> list[str]:
        """Return the files to read, each once."""
        files: dict[str, None] = {}
        for path in self._paths():
            try:
                named = environment.list(path, self.conn_id)
            except GeoCatalogError:
                raise
            except Exception as error:
                failure = unreadable(f"{redact(path)} cannot be listed", error)
                raise failure from failure.__cause__
            # A file that is named itself is read, or refused; in a folder there may be anything.
            found = named if self.format or named == [path] else [file for file in named if format_of(file)]
            if len(found) < len(named):
                log.info("%d files of %s are no files of items.", len(named) - len(found), redact(path))
            if not found and not self.may_be_empty:
                raise ItemSourceError(
                    f"{redact(path)} names no files of items",
                    hint="Check the path, or say that it may be empty with may_be_empty=True.",
                )
            for file in found:
                require_format(file, self.format)
                files[file] = None
        return list(files)

    def _paths(self) -> list[str]:
        paths = [self.path] if isinstance(self.path, str) else self.path
        if not isinstance(paths, Sequence) or not paths or not all(isinstance(one, str) and one for one in paths):
            raise GeoCatalogInvalidInput(f"path has to be a path or a list of paths, not {self.path!r}")
        refuse_signed(self.path, "path")
        return list(paths)

    def describe(self) -> str:
        """Return the paths."""
        paths = self.path if isinstance(self.path, list | tuple) else [self.path]
        return redact(", ".join(map(str, paths)))


def pages_of(items: Iterable[tuple[Any, int]], part: str | None = None) -> Iterator[Page]:
    """
    Yield items in pages that are not too large.

    :param items: Each with the bytes that it has.
    :param part: As for :class:`~airflow_provider_geocatalog.transfer.source.Page`.
    """
    page: list[Any] = []
    size = 0
    for item, length in items:
        page.append(item)
        size += length
        if len(page) >= PAGE_ITEMS or size >= _PAGE_BYTES:
            yield Page(page, part)
            page, size = [], 0
    if page:
        yield Page(page, part)


def _on_broken_line(value: Any) -> OnBrokenLine:
    try:
        return OnBrokenLine(value)
    except ValueError:
        raise GeoCatalogInvalidInput(f"on_broken_line is {value!r}; expected 'fail' or 'set_aside'") from None
