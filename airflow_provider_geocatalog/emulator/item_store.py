"""
Where items are: one SQLite database, in memory or in a file, with an index for each way that items are looked up.

An item is kept as JSON text, its properties apart from the rest so that filters read only them. Times are microseconds
since 1970. A write is durable when its transaction has ended, so whoever acknowledges one does it after that.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import sqlite3
import threading
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import shapely

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = [
    "MEMORY",
    "CollectionItems",
    "ExhaustedError",
    "ItemStore",
    "StoredItem",
    "connect",
    "instant",
    "microseconds",
]

MEMORY = ":memory:"
#: Items of dropped collections that go at once, and with each write that follows; deleting all of them takes seconds.
_PURGED_AT_ONCE, _PURGED_LATER = 2000, 20
_PATIENCE = 2.0  # seconds for which another process may still have the file
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS collections (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS items (
    item INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL,
    id TEXT NOT NULL,
    "start" INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    moment INTEGER NOT NULL,
    west REAL NOT NULL, south REAL NOT NULL, east REAL NOT NULL, north REAL NOT NULL,
    is_box INTEGER NOT NULL,
    properties TEXT NOT NULL,
    shape BLOB NOT NULL,
    originals TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS items_by_id ON items (id, collection);
CREATE INDEX IF NOT EXISTS items_in_order ON items ("start", id);
CREATE INDEX IF NOT EXISTS items_of_collection ON items (collection, "start", id);
CREATE TABLE IF NOT EXISTS documents (item INTEGER PRIMARY KEY, rest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS root_members (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS indexed (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE VIRTUAL TABLE IF NOT EXISTS boxes USING rtree (item, west, east, south, north);
"""

_INSERT = """
INSERT INTO items (collection, id, "start", "end", moment, west, south, east, north, is_box, properties, shape,
    originals)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id, collection) DO UPDATE SET
    "start" = excluded."start", "end" = excluded."end", moment = excluded.moment,
    west = excluded.west, south = excluded.south, east = excluded.east, north = excluded.north,
    is_box = excluded.is_box, properties = excluded.properties, shape = excluded.shape, originals = excluded.originals
RETURNING item
"""

#: Names that can stand in the text of an index; others are searched without one.
_INDEXABLE = re.compile(r"[A-Za-z0-9_:@/ -]+")

#: Root members of every item, which filters do not look for in ``properties``.
ROOT_MEMBERS = frozenset(
    ["type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "properties", "links", "assets", "collection"]
)


def microseconds(moment: datetime.datetime) -> int:
    """Return a moment as the store keeps it; one without a time zone is in UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return (aware - _EPOCH) // _MICROSECOND


def _moment(number: int) -> datetime.datetime:
    return _EPOCH + number * _MICROSECOND


#: What completes a shortened time, by its length, as CQL2's reference implementation does.
_COMPLETIONS = {4: "-01-01T00:00:00Z", 7: "-01T00:00:00Z", 10: "T00:00:00Z", 13: ":00:00Z", 16: ":00Z", 19: "Z"}


def instant(text: Any) -> int | None:
    """Return the moment that a text names, ``None`` where it names none."""
    try:
        joined = text.replace(" ", "T")
        moment = datetime.datetime.fromisoformat(joined + _COMPLETIONS.get(len(joined), ""))
        return microseconds(moment) if moment.tzinfo else None
    except (ValueError, OverflowError, AttributeError):
        return None


class ExhaustedError(Exception):
    """What a test raises to end a query that asks it too often."""


@dataclass(frozen=True)
class StoredItem:
    """
    An item as it was ingested, never changed in place.

    :param document: Members as stored, without generated links; ``links`` holds the client's own.
    :param start: First moment it covers.
    :param end: Last moment it covers.
    :param shape: Its geometry (shapely).
    :param originals: Asset hrefs as the client sent them, by asset key; kept with ``keepOriginalAssets``.
    """

    document: dict[str, Any]
    start: datetime.datetime
    end: datetime.datetime
    shape: Any
    originals: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The item's id."""
        return str(self.document["id"])

    @property
    def collection(self) -> str:
        """Id of the collection that holds it."""
        return str(self.document["collection"])


def connect(path: str) -> sqlite3.Connection:
    """Return the database in a file, or a new one in memory, as an item store wants it."""
    database = sqlite3.connect(
        path, timeout=_PATIENCE, check_same_thread=False, isolation_level=None, cached_statements=256
    )
    if path != MEMORY:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")  # its items are known to one process, which remembers them
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
    return database


class ItemStore:
    """
    Items of all collections.

    :param database: The file, or what :func:`connect` returned for it; kept in memory if not given.
    """

    def __init__(self, database: str | sqlite3.Connection = MEMORY) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._tests: Sequence[Callable[..., bool | None]] = ()
        #: Called before a transaction that is not part of another, so that it can be made part of one.
        self.before_transaction: Callable[[], None] | None = None
        #: Why SQLite did not do what a transaction asked for, if that ever happened.
        self.failure: sqlite3.Error | None = None
        self._open(connect(database) if isinstance(database, str) else database)

    def _open(self, database: sqlite3.Connection) -> None:
        self._connection = database
        self._connection.create_function("instant", 1, instant, deterministic=True)
        self._connection.create_function("passes", -1, self._passes)
        self._connection.executescript(_SCHEMA)
        self._load()

    def _load(self) -> None:
        """Read what is asked for too often to ask the database."""
        rows = self._connection.execute("SELECT id, number FROM collections")
        self._numbers: dict[str, int] = dict(rows.fetchall())
        dropped = "SELECT DISTINCT collection FROM items WHERE collection NOT IN (SELECT number FROM collections)"
        self._dropped = {number for (number,) in self._connection.execute(dropped)}
        self._root_members = {name for (name,) in self._connection.execute("SELECT name FROM root_members")}
        self._indexed = {name: number for number, name in self._connection.execute("SELECT number, name FROM indexed")}
        [(longest,)] = self._connection.execute('SELECT coalesce(max("end" - "start"), 0) FROM items')
        #: Microseconds that the longest item lasts: how far before an interval items may begin that overlap it.
        self.longest: int = longest

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    def hand_over(self, *others: str) -> ItemStore:
        """
        Return a store with this one's database, emptied. This one goes on in memory, with nothing either.

        :param others: Further tables to empty.
        """
        with self._lock:
            database = self._connection
            self.index(())
            with self.transaction():
                for table in ("collections", "items", "documents", "root_members", "boxes", *others):
                    database.execute(f"DELETE FROM {table}")  # noqa: S608
            self.before_transaction = None
            self._open(connect(MEMORY))
            return ItemStore(database)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """
        Write several things or none of them. An inner transaction can fail alone, and is durable with the outer one.

        The connection is for others who keep their state in the same file, so that it changes together with items.
        """
        if self.before_transaction is not None:
            self.before_transaction()
        with self._lock:
            outermost, name = not self._depth, f"level_{self._depth}"
            if not outermost and not self._connection.in_transaction:  # SQLite gives up all of it when a disk is full
                raise sqlite3.OperationalError("an earlier part of the transaction failed")
            self._connection.execute("BEGIN IMMEDIATE" if outermost else f"SAVEPOINT {name}")
            self._depth += 1
            try:
                yield self._connection
            except BaseException as error:
                if isinstance(error, sqlite3.Error):
                    self.failure = error
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK" if outermost else f"ROLLBACK TO {name}")
                    if not outermost:
                        self._connection.execute(f"RELEASE {name}")
                self._load()
                raise
            else:
                self._connection.execute("COMMIT" if outermost else f"RELEASE {name}")
            finally:
                self._depth -= 1

    def select(
        self, sql: str, parameters: Iterable[Any] = (), tests: Sequence[Callable[..., bool | None]] = ()
    ) -> list[tuple[Any, ...]]:
        """
        Return the rows of a query.

        :param tests: What ``passes(n, ...)`` in the query calls; an exception counts as unknown.
        :raises sqlite3.OperationalError: A test raised :class:`ExhaustedError`.
        """
        with self._lock:
            self._tests = tests
            try:
                return self._connection.execute(sql, tuple(parameters)).fetchall()
            finally:
                self._tests = ()

    def _passes(self, number: int, *values: Any) -> int | None:
        try:
            answer = self._tests[number](*values)
        except ExhaustedError:
            raise
        except Exception:  # cql2 and shapely have many; SQLite would turn one into a failed query
            return None
        return None if answer is None else int(answer)

    # --- collections --------------------------------------------------------------------------------------------

    def items_of(self, collection_id: str) -> CollectionItems:
        """Return the items of a collection, which becomes known if it was not."""
        with self.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO collections (id) VALUES (?)", (collection_id,))
            [(number,)] = connection.execute("SELECT number FROM collections WHERE id = ?", (collection_id,))
            self._numbers[collection_id] = number
        return CollectionItems(self, collection_id, number)

    def drop(self, collection_id: str) -> None:
        """Forget a collection and its items. A later one with its id starts empty."""
        with self.transaction() as connection:
            number = self._numbers.pop(collection_id, None)
            if number is not None:
                connection.execute("DELETE FROM collections WHERE number = ?", (number,))
                self._dropped.add(number)
                self._purge(connection, _PURGED_AT_ONCE)

    def _purge(self, connection: sqlite3.Connection, count: int) -> None:
        """Delete some items of dropped collections."""
        for number in list(self._dropped):
            some = "SELECT item FROM items WHERE collection = ? LIMIT ?"
            keys = connection.execute(some, (number, count)).fetchall()
            for table in ("items", "documents", "boxes"):
                connection.executemany(f"DELETE FROM {table} WHERE item = ?", keys)  # noqa: S608
            if len(keys) < count:
                self._dropped.discard(number)

    def numbers(self, collection_ids: Iterable[str]) -> list[int]:
        """Return what stands for these collections in the tables; unknown ones are left out."""
        with self._lock:
            return [self._numbers[name] for name in collection_ids if name in self._numbers]

    @property
    def has_dropped(self) -> bool:
        """Whether there are items of dropped collections, which a search has to leave out."""
        return bool(self._dropped)

    def all_numbers(self) -> list[int]:
        """Return what stands for the collections in the tables."""
        with self._lock:
            return list(self._numbers.values())

    # --- indexes on properties ----------------------------------------------------------------------------------

    def index(self, names: Iterable[str]) -> None:
        """Have an index on each of these properties, and on no other."""
        wanted = {name for name in names if _INDEXABLE.fullmatch(name)}
        with self.transaction() as connection:
            for name in self._indexed.keys() - wanted:
                connection.execute(f"DROP INDEX {self._index_name(name)}")
                connection.execute("DELETE FROM indexed WHERE name = ?", (name,))
                del self._indexed[name]
            for name in wanted - self._indexed.keys():
                connection.execute("INSERT INTO indexed (name) VALUES (?)", (name,))
                [(self._indexed[name],)] = connection.execute("SELECT number FROM indexed WHERE name = ?", (name,))
                value = f"json_extract(properties, '$.\"{name}\"')"  # SQLite wants the very text that queries have
                index = self._index_name(name)
                connection.execute(f"CREATE INDEX {index} ON items (collection, ({value} IS NULL), {value}, id)")

    def indexed_value(self, name: str) -> tuple[str, str] | None:
        """Return the name of a property's index and the expression that it holds, ``None`` if it has none."""
        with self._lock:
            if name not in self._indexed:
                return None
            return self._index_name(name), f"json_extract(properties, '$.\"{name}\"')"

    def _index_name(self, name: str) -> str:
        return f"items_by_queryable_{self._indexed[name]}"

    def is_root_member(self, name: str) -> bool:
        """Return whether items have a member of this name beside ``properties``."""
        return name in ROOT_MEMBERS or name in self._root_members

    # --- items --------------------------------------------------------------------------------------------------

    def documents(self, items: Sequence[int]) -> list[dict[str, Any]]:
        """Return the documents of items, in the order given; those that are gone are left out."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT item, rest, properties FROM items JOIN documents USING (item) "
                "WHERE item IN (SELECT value FROM json_each(?))",
                (json.dumps(items),),
            ).fetchall()
        texts = {item: (rest, properties) for item, rest, properties in rows}
        return [_document(*texts[item]) for item in items if item in texts]

    def put(self, number: int, item: StoredItem) -> None:
        """Add or replace an item."""
        document = item.document
        properties = document["properties"]
        start, end = microseconds(item.start), microseconds(item.end)
        moment = instant(properties.get("datetime"))
        shape = shapely.force_2d(item.shape)
        west, south, east, north = (float(edge) for edge in shape.bounds)
        rest = _text({name: None if name == "properties" else value for name, value in document.items()})
        values = (
            *(number, item.id, start, end, start if moment is None else moment),
            *(west, south, east, north, _is_box(shape)),
            *(_text(properties), shapely.to_wkb(shape), _text(item.originals)),
        )
        with self.transaction() as connection:
            if self._dropped:
                self._purge(connection, _PURGED_LATER)
            [(key,)] = connection.execute(_INSERT, values).fetchall()
            connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (key, rest))
            connection.execute("INSERT OR REPLACE INTO boxes VALUES (?, ?, ?, ?, ?)", (key, west, east, south, north))
            for name in document.keys() - ROOT_MEMBERS - self._root_members:
                connection.execute("INSERT OR IGNORE INTO root_members VALUES (?)", (name,))
                self._root_members.add(name)
        self.longest = max(self.longest, end - start)


class CollectionItems(MutableMapping[str, StoredItem]):
    """
    The items of one collection by their ids, in the order in which they came.

    :param number: What stands for the collection in the tables.
    """

    def __init__(self, store: ItemStore, collection_id: str, number: int) -> None:
        self._store, self._collection_id, self.number = store, collection_id, number

    def __getitem__(self, item_id: str) -> StoredItem:
        rows = self._store.select(
            'SELECT rest, properties, "start", "end", shape, originals FROM items JOIN documents USING (item) '
            "WHERE id = ? AND collection = ?",
            (item_id, self.number),
        )
        if not rows:
            raise KeyError(item_id)
        rest, properties, start, end, shape, originals = rows[0]
        return StoredItem(
            _document(rest, properties), _moment(start), _moment(end), shapely.from_wkb(shape), json.loads(originals)
        )

    def __setitem__(self, item_id: str, item: StoredItem) -> None:
        if item_id != item.id or self._store.numbers([self._collection_id]) != [self.number]:
            raise KeyError(item_id)  # it would never be found: another id, or the collection was dropped
        self._store.put(self.number, item)

    def __delitem__(self, item_id: str) -> None:
        with self._store.transaction() as connection:
            rows = connection.execute(
                "DELETE FROM items WHERE id = ? AND collection = ? RETURNING item", (item_id, self.number)
            ).fetchall()
            for key in rows:
                connection.execute("DELETE FROM documents WHERE item = ?", key)
                connection.execute("DELETE FROM boxes WHERE item = ?", key)
        if not rows:
            raise KeyError(item_id)

    def __contains__(self, item_id: object) -> bool:
        query = "SELECT 1 FROM items WHERE id = ? AND collection = ?"
        return bool(self._store.select(query, (item_id, self.number)))

    def __iter__(self) -> Iterator[str]:
        rows = self._store.select("SELECT id FROM items WHERE collection = ? ORDER BY item", (self.number,))
        return iter([item_id for (item_id,) in rows])

    def __len__(self) -> int:
        [(count,)] = self._store.select("SELECT count(*) FROM items WHERE collection = ?", (self.number,))
        return int(count)

    def __bool__(self) -> bool:
        return bool(self._store.select("SELECT 1 FROM items WHERE collection = ? LIMIT 1", (self.number,)))


def _text(value: Any) -> str:
    # A lone surrogate, which JSON can spell, is no UTF-8; SQLite would refuse it.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if text.isascii() or _is_utf8(text) else json.dumps(value, separators=(",", ":"))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _document(rest: str, properties: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(rest)
    document["properties"] = json.loads(properties)
    return document


def _is_box(shape: Any) -> bool:
    """Return whether a shape is all of its bounding box, so that one test on numbers decides."""
    if shape.geom_type == "Point":
        return True
    if shape.geom_type != "Polygon" or shape.interiors or len(shape.exterior.coords) != 5:
        return False
    west, south, east, north = shape.bounds
    corners = {(west, south), (west, north), (east, south), (east, north)}
    return set(shape.exterior.coords) == corners and shape.area == (east - west) * (north - south)
