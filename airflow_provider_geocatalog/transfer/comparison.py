"""
Prove that a collection holds what its source has: read both, and tell the difference.

Both are read in full and compared in a temporary database on disk, so memory does not grow with their number. Anything
that cannot be read to its end is an error: nothing is concluded from half a list.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import zlib
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogInvalidInput, GeoCatalogProtocolError
from airflow_provider_geocatalog.api.flows.items import IDS_PER_SEARCH, items_by_id
from airflow_provider_geocatalog.api.redaction import redact
from airflow_provider_geocatalog.transfer.dead_letters import without_signatures
from airflow_provider_geocatalog.transfer.fingerprint import FINGERPRINT, fingerprint, fingerprint_of
from airflow_provider_geocatalog.transfer.windows import PARTITIONS, WINDOW_FIELDS, item_moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from airflow_provider_geocatalog.client import GeoCatalogClient
    from airflow_provider_geocatalog.transfer.source import Environment, ItemSource
    from airflow_provider_geocatalog.transfer.windows import Window

__all__ = [
    "ALL",
    "KINDS",
    "SCOPE",
    "UNDATED",
    "CatalogItems",
    "Comparison",
    "Counts",
    "Difference",
    "ItemsDiffer",
    "compare",
    "partition_of",
]

log = logging.getLogger(__name__)

#: What a difference can be: in the source and not in the catalog; in both with other content; in the catalog, and the
#: source has it no more; in both, and the catalog does not say what was sent; in the source, and not fit to be sent.
KINDS = ("missing", "changed", "orphaned", "unknown", "unreadable")
#: What a part of a collection can be chosen by, as a search has it.
SCOPE = ("bbox", "intersects", "filter")
#: The partition of all items where they are not told apart, and that of items without a moment.
ALL, UNDATED = "all", "undated"

_PER_PAGE = 1000  # short documents, of the service's at most 10,000
_CACHE = 16_384  # KiB of the database in memory
_TOLD_EVERY = 100_000  # items
#: What is read of an item in the catalog.
_MEMBERS = [f"properties.{name}" for name in (*WINDOW_FIELDS, "start_datetime", FINGERPRINT)]
_DIGITS = {"hour": 13, "day": 10, "month": 7, "year": 4}  # characters of a moment in ISO 8601


class ItemsDiffer(GeoCatalogError):
    """
    A collection does not hold what its source has.

    :param summary: The counts.
    """

    def __init__(self, message: str, *, summary: dict[str, Any] | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.summary = summary or {}


def partition_of(item: Any, unit: str | None) -> str:
    """
    Return the name of the partition that an item's moment is in, in UTC; names sort as time goes.

    :param item: A STAC Item.
    :param unit: One of :data:`~airflow_provider_geocatalog.transfer.windows.PARTITIONS`, ``None`` for a single one.
    """
    if unit is None:
        return ALL
    at = item_moment(item)
    if at is None:
        return UNDATED
    if unit == "week":
        year, week, _ = at.isocalendar()
        return f"{year:04}-W{week:02}"
    return at.isoformat()[: _DIGITS[unit]]


@dataclass
class Counts:
    """
    Items, of all or of a partition.

    :param expected: That the source has, as far as they can be sent.
    :param found: That the catalog has, of those and of what it was asked for.
    :param moved: In another partition of the catalog than of the source; of a partition, those that belong in it.
    """

    expected: int = 0
    found: int = 0
    missing: int = 0
    changed: int = 0
    orphaned: int = 0
    unknown: int = 0
    unreadable: int = 0
    moved: int = 0

    @property
    def is_even(self) -> bool:
        """Whether there is no difference."""
        return not any(getattr(self, name) for name in (*KINDS, "moved"))

    def to_json(self) -> dict[str, int]:
        """Return it as a JSON object."""
        return asdict(self)

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self.to_json().items() if count) or "no items"


@dataclass(frozen=True, slots=True)
class Difference:
    """
    An item that is not in the catalog as the source has it.

    :param item_id: Its id in the catalog; of what is not fit to be sent, its id in the source as far as it has one.
    :param kind: One of :data:`KINDS`.
    :param item: It as it would be sent, where it is missing or changed and such items are kept.
    """

    item_id: str | None
    kind: str
    partition: str
    reason: str
    item: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a line of a report; with an ``item``, without signatures, it is one of a dead-letter file as well."""
        line = {"id": self.item_id, "kind": self.kind, "partition": self.partition, "reason": self.reason}
        return line if self.item is None else {**line, "item": without_signatures(self.item)}


class CatalogItems:
    """
    The items of a collection, as far as a comparison needs to know them.

    :param client: Reads them.
    :param scope: The part of the collection that counts: ``bbox`` or ``intersects``, and ``filter``, as in a search.
    :param window: The items that are asked for.
    :raises GeoCatalogInvalidInput: The scope makes no sense.
    """

    def __init__(
        self,
        client: GeoCatalogClient,
        collection_id: str,
        *,
        scope: Mapping[str, Any] | None = None,
        window: Window | None = None,
    ) -> None:
        self.window = window
        self._client, self._collection_id = client, collection_id
        self._scope = dict(scope or {})
        unknown = sorted(map(str, self._scope.keys() - set(SCOPE)))
        if unknown:
            raise GeoCatalogInvalidInput(f"a scope has {', '.join(SCOPE)}, not {', '.join(unknown)}")
        self._search(**self._scope)  # nothing is sent yet, but what cannot be is refused

    @property
    def can_be_listed(self) -> bool:
        """
        Whether all that belong to the window can be told.

        Not by when metadata was changed: what the source has changed once more belongs to another window there.
        """
        return self.window is None or not self.window.is_bounded or self.window.field == "datetime"

    def listed(self) -> Iterator[dict[str, Any]]:
        """Yield the items in the scope and the window; one may come twice if it is changed meanwhile."""
        window, interval = self.window, None
        if window is not None and window.is_bounded:
            interval = (window.start, window.end)
        order = [{"field": name, "direction": "desc"} for name in ("datetime", "id")]
        for item in self._search(**self._scope, datetime=interval, sortby=order, limit=_PER_PAGE):
            # A search takes what reaches into the interval, with both its ends.
            if window is None or window.holds(item):
                yield item

    def named(self, item_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the items with these ids, wherever in the collection they are."""
        found = self._client.run(items_by_id(self._collection_id, item_ids, include=_MEMBERS))
        yield from (self._checked(found[item_id]) for item_id in item_ids if item_id in found)

    def _search(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        fields = {"include": ["id", "collection", *_MEMBERS]}
        found = self._client.search(collections=[self._collection_id], fields=fields, **arguments)
        return map(self._checked, found)

    def _checked(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return an item that has an id and is of the collection: another one's must not be taken for an orphan."""
        item_id, collection = item.get("id"), item.get("collection", self._collection_id)
        if not isinstance(item_id, str) or not _is_text(item_id) or collection != self._collection_id:
            raise GeoCatalogProtocolError(
                f"a search of collection {self._collection_id!r} answered with item {item_id!r} of {collection!r}"
            )
        return item


def compare(
    source: ItemSource,
    environment: Environment,
    catalog: CatalogItems,
    prepare: Callable[[dict[str, Any]], dict[str, Any] | None],
    *,
    partition: str | None = "month",
    keep_items: bool = False,
) -> Comparison:
    """
    Compare a source with a collection.

    :param source: What should be in the collection.
    :param environment: What the source is lent.
    :param catalog: The collection, in the scope that the source has. Its window is what the source is asked for.
    :param prepare: What is made of an item before it is sent, without what differs each time; ``None`` for an item
        that is not sent at all.
    :param partition: Calendar unit, in UTC, that differences are counted by; ``None`` counts all together.
    :param keep_items: Whether the differences have the items as they would be sent.
    :return: What was found; close it after use.
    :raises GeoCatalogError: Either side cannot be read to its end.
    """
    if partition is not None and partition not in PARTITIONS:
        raise GeoCatalogInvalidInput(f"partition is one of {', '.join(PARTITIONS)} or None, not {partition!r}")
    window = catalog.window
    comparison = Comparison(partition, keep_items=keep_items)
    try:
        # The catalog first: what arrives in the source and is transferred meanwhile is then no orphan. The other way
        # round, what is transferred after it was listed is found when its id is looked for.
        if catalog.can_be_listed:
            for item in _told(catalog.listed(), "collection"):
                comparison.add_found(item)
        for item in _told((item for page in source.pages(environment, window) for item in page.items), "source"):
            comparison.add_expected(item, prepare, catalog, is_outside=window is not None and not window.holds(item))
        comparison.conclude(catalog)
    except BaseException:
        comparison.close()
        raise
    return comparison


def _told(items: Iterator[Any], side: str) -> Iterator[Any]:
    count = 0
    for count, item in enumerate(items, 1):
        yield item
        if count % _TOLD_EVERY == 0:
            log.info("Read %d items of the %s.", count, side)
    log.info("Read %d items of the %s, which is all.", count, side)


class Comparison:
    """
    What a comparison has found; a context manager that deletes its database.

    :param partition: Calendar unit that differences are counted by.
    :param keep_items: Whether the items that are not in the catalog as they would be sent are kept.
    """

    def __init__(self, partition: str | None, *, keep_items: bool) -> None:
        self._partition, self._keep_items = partition, keep_items
        self._absent: dict[str, tuple[str, str, dict[str, Any]]] = {}
        # A database without a name is a temporary file that ends with the connection.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_TABLES)

    def __enter__(self) -> Comparison:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete what was found."""
        self._database.close()

    # --- reading ------------------------------------------------------------------------------------------------------

    def add_found(self, item: dict[str, Any]) -> tuple[str, str | None]:
        """Add an item of the catalog, and return its partition and hash; the last of several with one id counts."""
        part, mark = partition_of(item, self._partition), fingerprint_of(item)
        self._database.execute("INSERT OR REPLACE INTO found VALUES (?, ?, ?)", (item["id"], part, mark))
        return part, mark

    def add_expected(
        self,
        item: Any,
        prepare: Callable[[dict[str, Any]], dict[str, Any] | None],
        catalog: CatalogItems,
        *,
        is_outside: bool,
    ) -> None:
        """
        Add an item of the source; the first of several with one id counts, as in a transfer.

        :param is_outside: Whether it is not in the window; that the source has it at all is noted all the same.
        """
        try:
            if not isinstance(item, dict):
                raise TypeError(f"an item is a JSON object, not {type(item).__name__}")
            content = prepare(item)
            if content is None:
                return
            mark = _mark(content)
        except (GeoCatalogError, TypeError, ValueError, RecursionError) as error:
            self._add_unreadable(item, error)
            return
        if is_outside:
            self._database.execute("INSERT OR IGNORE INTO outside VALUES (?)", (content["id"],))
            return
        item_id, part = content["id"], partition_of(content, self._partition)
        if item_id in self._absent:
            return
        known = self._database.execute("SELECT part, mark FROM found WHERE id = ?", (item_id,)).fetchone()
        if known is not None:
            self._expect(content, part, mark, known)
            return
        self._absent[item_id] = part, mark, content
        if len(self._absent) >= IDS_PER_SEARCH:
            self._look_for_absent(catalog)

    def conclude(self, catalog: CatalogItems) -> None:
        """Tell the differences, once both sides are read."""
        self._look_for_absent(catalog)
        self._database.executescript(_CONCLUSION)

    def _look_for_absent(self, catalog: CatalogItems) -> None:
        """
        Look for items by their ids, in the whole collection.

        They may have come after the list was read, be out of the scope because the source takes that otherwise, or have
        been in another window before they were changed: none of that is missing.
        """
        absent, self._absent = self._absent, {}
        named = catalog.named(list(absent)) if absent else ()
        elsewhere = {item["id"]: self.add_found(item) for item in named}
        for item_id, (part, mark, content) in absent.items():
            self._expect(content, part, mark, elsewhere.get(item_id))

    def _expect(self, content: dict[str, Any], part: str, mark: str, known: tuple[str, str | None] | None) -> None:
        item_id = content["id"]
        added = self._database.execute("INSERT OR IGNORE INTO expected VALUES (?, ?, ?)", (item_id, part, mark))
        if self._keep_items and added.rowcount and known != (part, mark):
            text = zlib.compress(json.dumps(content).encode(), 1)
            self._database.execute("INSERT INTO content VALUES (?, ?)", (item_id, text))

    def _add_unreadable(self, item: Any, error: Exception) -> None:
        item_id = item.get("id") if isinstance(item, dict) else None
        self._database.execute(
            "INSERT INTO difference VALUES ('unreadable', ?, ?, ?)",
            (
                partition_of(item, self._partition),
                item_id if isinstance(item_id, str) and _is_text(item_id) else None,
                redact(str(error)).encode(errors="replace").decode(),
            ),
        )

    # --- telling ------------------------------------------------------------------------------------------------------

    @cached_property
    def partitions(self) -> dict[str, Counts]:
        """Counts by partition, in the order of time."""
        counted: dict[str, Counts] = {}
        for name, part, count in self._database.execute(_COUNTS):
            setattr(counted.setdefault(part, Counts()), name, count)
        return dict(sorted(counted.items()))

    @property
    def totals(self) -> Counts:
        """Counts of all."""
        totals = Counts()
        for counts in self.partitions.values():
            for name, count in counts.to_json().items():
                setattr(totals, name, getattr(totals, name) + count)
        return totals

    def differences(self, *kinds: str) -> Iterator[Difference]:
        """
        Yield the differences, ordered by kind, partition and id.

        :param kinds: Some of :data:`KINDS`; all of them if none is given.
        """
        for kind in kinds or KINDS:
            rows = self._database.execute(
                "SELECT part, difference.id, reason, text FROM difference LEFT JOIN content "
                "ON content.id = difference.id AND kind IN ('missing', 'changed') "
                "WHERE kind = ? ORDER BY part, difference.id",
                (kind,),
            )
            for part, item_id, reason, text in rows:
                item = None if text is None else json.loads(zlib.decompress(text))
                yield Difference(item_id, kind, part, reason, item)

    def ids(self, kind: str, most: int = -1) -> Iterator[str]:
        """
        Yield the ids of the items of one kind, ordered by partition and id.

        :param most: How many at most; all if it is negative.
        """
        query = "SELECT id FROM difference WHERE kind = ? AND id IS NOT NULL ORDER BY part, id LIMIT ?"
        for (item_id,) in self._database.execute(query, (kind, most)):
            yield item_id


def _mark(content: dict[str, Any]) -> str:
    """
    Return the fingerprint of an item that can be sent.

    :raises TypeError: It cannot be written as JSON.
    :raises ValueError: That as well, or it has no usable id or no properties.
    """
    item_id = content.get("id")
    if not isinstance(item_id, str) or not item_id or not _is_text(item_id):
        raise ValueError("it has no id")
    if not isinstance(content.get("properties"), dict):
        raise ValueError("its 'properties' is not an object")
    return fingerprint(content)


def _is_text(value: str) -> bool:
    """Return whether a text can be encoded: half a surrogate pair cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_TABLES = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -{_CACHE};
CREATE TABLE found (id TEXT PRIMARY KEY, part TEXT NOT NULL, mark TEXT) WITHOUT ROWID;
CREATE TABLE expected (id TEXT PRIMARY KEY, part TEXT NOT NULL, mark TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE outside (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE content (id TEXT PRIMARY KEY, text BLOB NOT NULL);
CREATE TABLE difference (kind TEXT NOT NULL, part TEXT NOT NULL, id TEXT, reason TEXT NOT NULL);
CREATE TABLE moved (part TEXT NOT NULL);
BEGIN;
"""

_CONCLUSION = """
INSERT INTO difference
SELECT 'missing', part, id, 'it is not in the catalog' FROM expected WHERE id NOT IN (SELECT id FROM found);
INSERT INTO difference
SELECT 'changed', expected.part, id,
       CASE WHEN expected.part <> found.part THEN 'in the catalog it is in ' || found.part
            ELSE 'it differs from what was sent' END
FROM expected JOIN found USING (id) WHERE expected.part <> found.part OR expected.mark <> found.mark;
INSERT INTO difference
SELECT 'unknown', expected.part, id, 'no transfer has sent what is in the catalog'
FROM expected JOIN found USING (id) WHERE expected.part = found.part AND found.mark IS NULL;
INSERT INTO difference
SELECT 'orphaned', part, id,
       'the source does not have it' || CASE WHEN mark IS NULL THEN '; no transfer has sent it' ELSE '' END
FROM found WHERE id NOT IN (SELECT id FROM expected) AND id NOT IN (SELECT id FROM outside);
INSERT INTO moved SELECT expected.part FROM expected JOIN found USING (id) WHERE expected.part <> found.part;
INSERT INTO moved SELECT part FROM found JOIN outside USING (id) WHERE id NOT IN (SELECT id FROM expected);
CREATE INDEX differences ON difference (kind, part, id);
"""

_COUNTS = """
SELECT 'expected', part, count(*) FROM expected GROUP BY part UNION ALL
SELECT 'found', part, count(*) FROM found GROUP BY part UNION ALL
SELECT 'moved', part, count(*) FROM moved GROUP BY part UNION ALL
SELECT kind, part, count(*) FROM difference GROUP BY kind, part
"""
