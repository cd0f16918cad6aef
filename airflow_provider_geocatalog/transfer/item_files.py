"""
Files of items, read and written as a stream: NDJSON, JSON (an ItemCollection, a list or an Item) and stac-geoparquet.

The first two may be compressed with gzip.
"""

from __future__ import annotations

import codecs
import datetime
import enum
import gzip
import io
import json
import re
import shutil
import tempfile
import zlib
from contextlib import closing, contextmanager, nullcontext
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.redaction import redact
from airflow_provider_geocatalog.transfer.source import ItemSourceError
from airflow_provider_geocatalog.transfer.storage import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_geocatalog.transfer.source import Environment

__all__ = [
    "ItemFormat",
    "ItemWriter",
    "OnBrokenLine",
    "format_of",
    "own_path",
    "read_items",
    "read_sized_items",
    "require_format",
    "writing_items",
]

_BLOCK = 256 * 1024  # bytes read at a time
_MAX_ITEM = 256 * 1024 * 1024  # bytes of one line or JSON value, far above any item
_NUMBER_OR_ESCAPE = 32  # characters at the end of a buffer that may mean something else once more of them are there
_ROWS, _ROWS_BYTES = 500, 16 * 1024 * 1024  # of a stac-geoparquet file that are in memory at a time
_WRITTEN_ROWS = 1000
_GZIP = b"\x1f\x8b"
_SUFFIX = re.compile(r"((\.[^./]+)?(\.gz)?)$", re.IGNORECASE)
#: Members of an item that are columns of a stac-geoparquet file under their own names; other columns are properties.
_TOP_LEVEL = frozenset(
    {"type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection"}
)


class ItemFormat(enum.Enum):
    """What a file of items is."""

    NDJSON = "ndjson"
    JSON = "json"
    GEOPARQUET = "geoparquet"


class OnBrokenLine(enum.Enum):
    """What is done with a line of an NDJSON file that is no JSON."""

    FAIL = "fail"
    SET_ASIDE = "set_aside"


_SUFFIXES = {
    ".ndjson": ItemFormat.NDJSON,
    ".jsonl": ItemFormat.NDJSON,
    ".geojsonl": ItemFormat.NDJSON,
    ".json": ItemFormat.JSON,
    ".geojson": ItemFormat.JSON,
    ".parquet": ItemFormat.GEOPARQUET,
    ".geoparquet": ItemFormat.GEOPARQUET,
}


def format_of(path: str) -> ItemFormat | None:
    """Return what a file is by its suffix, ``None`` if that tells nothing."""
    name = path.split("?", 1)[0].lower()
    compressed = name.endswith(".gz")
    found = _SUFFIXES.get(Path(name.removesuffix(".gz")).suffix)
    return None if compressed and found is ItemFormat.GEOPARQUET else found


def require_format(path: str, given: str | ItemFormat | None = None) -> ItemFormat:
    """
    Return what a file is.

    :param given: What somebody says that it is; its suffix tells if ``None``.
    :raises GeoCatalogInvalidInput: Nobody knows.
    """
    if not isinstance(path, str) or not path:
        raise GeoCatalogInvalidInput(f"a path has to be text, not {path!r}")
    if given is not None:
        try:
            return ItemFormat(given)
        except ValueError:
            known = ", ".join(repr(one.value) for one in ItemFormat)
            raise GeoCatalogInvalidInput(f"format is {given!r}; expected one of {known}") from None
    found = format_of(path)
    if found is None:
        raise GeoCatalogInvalidInput(
            f"{redact(path)} has none of the suffixes {', '.join(_SUFFIXES)} (text also with .gz); give its format"
        )
    return found


def own_path(path: str | None, map_index: int | None) -> str | None:
    """
    Return where one of several mapped tasks writes a file of which all have the path: ``a.ndjson``, ``a.3.ndjson``.

    :param map_index: Which of them it is; a task that is not mapped has none, or a negative one.
    """
    if not path or map_index is None or map_index < 0:
        return path
    return _SUFFIX.sub(rf".{map_index}\1", path, count=1)


class _Broken(Exception):
    """What was read is not what it should be."""


# --- reading ----------------------------------------------------------------------------------------------------------


def read_items(
    environment: Environment,
    path: str,
    conn_id: str | None = None,
    *,
    format: str | ItemFormat | None = None,
    on_broken_line: OnBrokenLine = OnBrokenLine.FAIL,
) -> Iterator[Any]:
    """
    Yield the items of a file, unchecked. Of a line of a dead-letter file it is the item in it.

    A stac-geoparquet file knows no difference between a member that is null and one that is not there, and these come
    as not there; only ``properties.datetime`` is null then, as STAC demands.

    :param environment: What opens it.
    :param format: What it is; told from its suffix if not given.
    :param on_broken_line: What is done with a line of NDJSON that is no JSON; set aside, it comes as text.
    :raises ItemSourceError: It cannot be read, or not wholly.
    :raises GeoCatalogInvalidInput: Nobody knows what it is, or reading it needs what is not installed.
    """
    found = read_sized_items(environment, path, conn_id, format=format, on_broken_line=on_broken_line)
    return (item for item, _ in found)


def read_sized_items(
    environment: Environment,
    path: str,
    conn_id: str | None = None,
    *,
    format: str | ItemFormat | None = None,
    on_broken_line: OnBrokenLine = OnBrokenLine.FAIL,
) -> Iterator[tuple[Any, int]]:
    """As :func:`read_items`, each item with about the bytes that it has."""
    kind = require_format(path, format)
    shown = redact(path)
    lines = _Lines()
    try:
        with environment.open(path, "rb", conn_id) as file:
            if kind is ItemFormat.GEOPARQUET:
                yield from _read_geoparquet(file)
                return
            with _unpacked(file) as text:
                if kind is ItemFormat.JSON:
                    yield from _JsonItems(text).read()
                else:
                    yield from _read_lines(lines, text, on_broken_line)
    except GeoCatalogError:
        raise
    except _Broken as error:
        raise ItemSourceError(f"{shown}{lines.place}: {error}", hint="Mend or replace the file.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ItemSourceError(
            f"{shown}{lines.place}: the compressed file is cut off or damaged ({error})", hint="Replace the file."
        ) from error
    except Exception as error:
        failure = unreadable(f"{shown} cannot be read{lines.place}", error)
        raise failure from failure.__cause__


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    """Return a file's content, uncompressed if it is compressed: a web server may have done that already."""
    buffered = io.BufferedReader(cast("Any", _Raw(file)), _BLOCK)
    if buffered.peek(len(_GZIP))[: len(_GZIP)] == _GZIP:
        return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered))
    return buffered


class _Raw(io.RawIOBase):
    """A file of whatever kind, as what can be buffered."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Lines:
    """Lines of a file, counted."""

    def __init__(self) -> None:
        self.number = 0

    @property
    def place(self) -> str:
        return f", line {self.number}" if self.number else ""

    def of(self, file: IO[bytes]) -> Iterator[bytes]:
        begun: list[bytes] = []
        size = 0
        while block := file.read(_BLOCK):
            *ended, rest = block.split(b"\n")
            for line in ended:
                self.number += 1
                yield b"".join((*begun, line))
                begun, size = [], 0
            begun.append(rest)
            size += len(rest)
            if size > _MAX_ITEM:
                self.number += 1
                raise _Broken(f"it has more than {_MAX_ITEM} bytes")
        self.number += 1
        yield b"".join(begun)


def _read_lines(lines: _Lines, file: IO[bytes], on_broken_line: OnBrokenLine) -> Iterator[tuple[Any, int]]:
    for line in lines.of(file):
        text = line.removeprefix(codecs.BOM_UTF8) if lines.number == 1 else line
        if not text.strip():
            continue
        try:
            value = json.loads(text.decode())
        except (ValueError, RecursionError) as error:
            if on_broken_line is OnBrokenLine.FAIL:
                raise _Broken(f"it is no JSON ({error})") from error
            yield text.decode(errors="replace").strip(), len(text)
            continue
        if not _is_note(value):
            yield _item_in(value), len(text)


def _is_note(line: Any) -> bool:
    """Return whether a line is one of a comparison's report about an item that is not to be sent."""
    return isinstance(line, dict) and {"id", "kind", "reason"} <= line.keys() and not line.keys() & {"item", "type"}


def _item_in(line: Any) -> Any:
    """Return the item of a dead-letter line, anything else as it is."""
    if isinstance(line, dict) and "item" in line and "reason" in line and line.get("type") != "Feature":
        return line["item"]
    return line


class _JsonItems:
    """
    Reads the items of a JSON document without having the whole of it in memory.

    :param file: The document in UTF-8.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decode = json.JSONDecoder().raw_decode
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._before, self._ended = "", 0, 0, False

    def read(self) -> Iterator[tuple[Any, int]]:
        """Yield the features of a FeatureCollection, the entries of a list, or the one Item, with their characters."""
        first = self._peek()
        if first == "[":
            yield from self._entries()
        elif first == "{":
            yield from self._features()
        else:
            raise self._broken("it is empty" if not first else "it is neither a JSON object nor a list")
        if self._peek():
            raise self._broken("something follows the JSON document; give format='ndjson' for one in each line")

    def _features(self) -> Iterator[tuple[Any, int]]:
        members: dict[str, Any] = {}
        size, found = 0, False
        self._take("{")
        while self._peek() != "}":
            if members or found:
                self._take(",")
            name, _ = self._value()
            self._take(":")
            if name == "features" and self._peek() == "[":
                found = True
                yield from self._entries()
            else:
                members[str(name)], length = self._value()
                size += length
        self._take("}")
        if found:
            return
        if members.get("type") != "Feature":
            raise _Broken(f"it is no Item and no collection of Items, but has type {members.get('type')!r}")
        yield members, size

    def _entries(self) -> Iterator[tuple[Any, int]]:
        self._take("[")
        if self._peek() != "]":
            yield self._value()
            while self._peek() == ",":
                self._take(",")
                yield self._value()
        self._take("]")

    def _peek(self) -> str:
        """Return the next character that is no space, nothing at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text) or not self._fill():
                return self._text[self._at : self._at + 1]

    def _take(self, wanted: str) -> None:
        if self._peek() != wanted:
            raise self._broken(f"{wanted!r} is missing")
        self._at += 1

    def _value(self) -> tuple[Any, int]:
        """Return the next value, and its characters."""
        if not self._peek():
            raise self._broken("it ends in the middle")
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                may_go_on = error.pos >= len(self._text) - _NUMBER_OR_ESCAPE or error.msg.startswith("Unterminated")
                if not may_go_on or not self._fill():
                    self._at = min(error.pos, len(self._text))
                    raise self._broken("it ends in the middle" if may_go_on else error.msg) from error
                continue
            except RecursionError as error:
                raise self._broken("it is nested too deeply") from error
            if end < len(self._text) or not self._fill():  # a number may go on
                length, self._at = end - self._at, end
                return value, length

    def _fill(self) -> bool:
        """Read more, as much again as there is so that a large value is not begun many times."""
        if self._ended:
            return False
        rest = self._text[self._at :]
        if len(rest) > _MAX_ITEM:
            raise self._broken(f"a value has more than {_MAX_ITEM} characters")
        data = self._file.read(max(_BLOCK, len(rest)))
        self._ended = not data
        try:
            more = self._utf8.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise self._broken(f"it is not UTF-8 ({error.reason})") from error
        if not self._ended:
            self._before += self._at
            self._text, self._at = rest + more, 0
        return not self._ended

    def _broken(self, reason: str) -> _Broken:
        return _Broken(f"{reason} (at character {self._before + self._at + 1})")


# --- stac-geoparquet --------------------------------------------------------------------------------------------------


def _require_geoparquet() -> None:
    """Refuse what the extra is needed for."""
    for name in ("pyarrow", "stac_geoparquet"):
        if find_spec(name) is None:
            raise GeoCatalogInvalidInput(
                f"stac-geoparquet needs {name}: pip install 'airflow-provider-geocatalog[geoparquet]'"
            )


def _read_geoparquet(file: IO[bytes]) -> Iterator[tuple[dict[str, Any], int]]:
    _require_geoparquet()
    import pyarrow
    import pyarrow.parquet

    with tempfile.TemporaryFile() as spool:
        if not file.seekable():  # the table of contents is at the end
            shutil.copyfileobj(file, spool, _BLOCK)
            spool.seek(0)
            file = cast("IO[bytes]", spool)
        try:
            table = pyarrow.parquet.ParquetFile(file)
            missing = {"id", "geometry"} - set(table.schema_arrow.names)
            if missing:
                raise _Broken(f"it has no column {' and '.join(map(repr, sorted(missing)))}, so it holds no items")
            parts = [table.metadata.row_group(number) for number in range(table.metadata.num_row_groups)]
            size = sum(part.total_byte_size for part in parts) // max(1, table.metadata.num_rows)
            for batch in table.iter_batches(max(1, min(_ROWS, _ROWS_BYTES // max(1, size)))):
                for row in batch.to_pylist():
                    yield _item_of(row), size
        except pyarrow.ArrowException as error:
            raise _Broken(f"it is no Parquet file, or is damaged ({error})") from error


def _item_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return the item that a row stands for."""
    plain = _plain(row)
    properties = {name: value for name, value in plain.items() if name not in _TOP_LEVEL}
    item: dict[str, Any] = {
        "type": "Feature",
        **{name: value for name, value in plain.items() if name in _TOP_LEVEL},
        "geometry": plain.get("geometry"),
        "properties": {"datetime": None, **properties},
    }
    bbox = item.get("bbox")
    if isinstance(bbox, dict):
        sides = [f"{axis}{end}" for end in ("min", "max") for axis in "xyz"]
        item["bbox"] = [bbox[side] for side in sides if side in bbox]
    item.setdefault("links", [])
    item.setdefault("assets", {})
    return item


def _plain(value: Any) -> Any:
    """Return a value of a table as JSON has it, without members that are null."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, datetime.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return aware.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return _geometry(value)
    return value


def _geometry(wkb: bytes) -> Any:
    import shapely

    try:
        return _plain(shapely.geometry.mapping(shapely.from_wkb(wkb)))
    except shapely.errors.ShapelyError as error:
        raise _Broken(f"a geometry is no WKB ({error})") from error


# --- writing ----------------------------------------------------------------------------------------------------------


class ItemWriter:
    """
    Takes items for a file, one by one.

    ``count`` is how many there are.
    """

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        self.count = 0

    def write(self, item: Any) -> None:
        """
        Write an item, or another JSON value where the file is NDJSON.

        :raises GeoCatalogInvalidInput: The file cannot hold it.
        """
        self._sink.write(item)
        self.count += 1


@contextmanager
def writing_items(
    environment: Environment,
    path: str,
    conn_id: str | None = None,
    *,
    format: str | ItemFormat | None = None,
    overwrite: bool = True,
) -> Iterator[ItemWriter]:
    """
    Write a file of items, by its suffix NDJSON, an ItemCollection (both also with ``.gz``) or stac-geoparquet.

    It is there, or replaced, when the ``with`` block ends; if that raises, everything is as before.

    :param environment: What opens it.
    :param format: What it shall be; told from its suffix if not given.
    :param overwrite: Whether to replace a file that is there.
    :raises GeoCatalogInvalidInput: It is there and shall stay, or it cannot hold the items.
    """
    kind = require_format(path, format)
    if kind is ItemFormat.GEOPARQUET:
        _require_geoparquet()
    if not overwrite and environment.list(path, conn_id):
        raise GeoCatalogInvalidInput(f"{redact(path)} is there already")
    with environment.open(path, "wb", conn_id) as file:
        if kind is ItemFormat.GEOPARQUET:
            with tempfile.TemporaryDirectory() as folder, closing(_TableSink(Path(folder))) as table:
                yield ItemWriter(table)
                with table.finish().open("rb") as written:
                    shutil.copyfileobj(written, file, _BLOCK)
            return
        with _packed(file) if path.lower().endswith(".gz") else nullcontext(file) as text:
            sink = _TextSink(text, kind)
            yield ItemWriter(sink)
            sink.finish()


def _packed(file: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0))


class _Sink(Protocol):
    def write(self, item: Any) -> None: ...


class _TextSink:
    def __init__(self, file: IO[bytes], kind: ItemFormat) -> None:
        self._file = file
        is_lines = kind is ItemFormat.NDJSON
        self._between, self._end = (b"", b"") if is_lines else (b",", b"]}\n")
        self._next = b"" if is_lines else b'{"type":"FeatureCollection","features":[\n'

    def write(self, item: Any) -> None:
        self._file.write(self._next + _json_line(item))
        self._next = self._between

    def finish(self) -> None:
        self._file.write((self._next if self._next != self._between else b"") + self._end)


def _json_line(item: Any) -> bytes:
    try:
        # In ASCII, so that a lone surrogate of a broken item can be written as well.
        return json.dumps(item, separators=(",", ":")).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise GeoCatalogInvalidInput(f"an item cannot be written as JSON: {error}") from error


class _TableSink:
    """
    Collects items on disk, since the columns of a table are known once all of them are.

    :param folder: For files that nobody needs afterwards.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines = folder / "items.ndjson"
        self._file = self._lines.open("wb", buffering=_BLOCK)

    def write(self, item: Any) -> None:
        lacking = [name for name in ("geometry", "bbox") if not (isinstance(item, dict) and item.get(name))]
        if lacking:
            name = item.get("id") if isinstance(item, dict) else None
            raise GeoCatalogInvalidInput(
                f"item {name!r} has no {' and no '.join(lacking)}, without which stac-geoparquet holds no items; "
                "write NDJSON"
            )
        self._file.write(_json_line(item))

    def close(self) -> None:
        self._file.close()

    def finish(self) -> Path:
        """Return the table."""
        from stac_geoparquet.arrow import parse_stac_ndjson_to_parquet

        self.close()
        table = self._folder / "items.parquet"
        if not self._lines.stat().st_size:
            _write_empty(table)
            return table
        try:
            parse_stac_ndjson_to_parquet(self._lines, table, chunk_size=_WRITTEN_ROWS, drop_invalid_properties=False)
        except Exception as error:  # what the library raises depends on the item
            raise GeoCatalogInvalidInput(
                f"the items cannot be written as stac-geoparquet, in which a member has the same type in all of them "
                f"({type(error).__name__}: {error}); write NDJSON"
            ) from error
        return table


def _write_empty(path: Path) -> None:
    """Write a table of no items, with the columns that every item has."""
    from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet

    nowhere = {"type": "Point", "coordinates": [0.0, 0.0]}
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "",
        "geometry": nowhere,
        "bbox": [0.0, 0.0, 0.0, 0.0],
        "properties": {"datetime": "2000-01-01T00:00:00Z"},
        "links": [],
        "assets": {},
        "collection": "",
    }
    to_parquet(parse_stac_items_to_arrow([item]).schema.empty_table(), path)
