"""
The state file: everything that the emulated GeoCatalog holds, in SQLite, so that it outlives the process however that
ends.

Items are in it as the item store keeps them; all else is JSON in rows of their own. What happens while the world's lock
is held is one transaction, which ends before the lock is free: an answer is sent after that, and an operation goes on
from where it was. Reading a state file runs nothing but functions that are marked as effects.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import logging
import os
import sqlite3
import threading
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, cast

import shapely

from airflow_provider_geocatalog.emulator.effects import EFFECTS, Effect, effect_name
from airflow_provider_geocatalog.emulator.ingest import IngestionError
from airflow_provider_geocatalog.emulator.item_store import CollectionItems, ItemStore, connect
from airflow_provider_geocatalog.emulator.state import (
    Change,
    Collection,
    CollectionAsset,
    Counters,
    Ingestion,
    ItemFailure,
    Journal,
    Operation,
    Run,
    Source,
    StateError,
    StoredItem,
    World,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from airflow_provider_geocatalog.emulator.routing import Context

__all__ = ["StateFile"]

log = logging.getLogger(__name__)

_APPLICATION = 0x47454F43  # "GEOC", where SQLite has room for whose file it is
_FORMAT = 1  # of the tables and what is in them; another one is refused

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (kind, id)
);
CREATE TABLE IF NOT EXISTS failures (
    operation TEXT NOT NULL, number INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (operation, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (
    operation TEXT NOT NULL, number INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (operation, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, due REAL NOT NULL, effect TEXT NOT NULL);
"""
_TABLES = ("objects", "failures", "parts", "events")
_PUT = (
    "INSERT INTO objects (kind, id, value) VALUES (?, ?, ?) "
    "ON CONFLICT (kind, id) DO UPDATE SET value = excluded.value"  # it keeps its position
)


class StateFile:
    """
    The file of one emulator, which no other can use meanwhile.

    :param path: Where it is; it is made if there is none.
    :raises StateError: It cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._explained():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # it holds SAS tokens
            database = connect(str(path))
            try:
                self._check(database)
                database.executescript(_SCHEMA)
                self._items = ItemStore(database)
            except BaseException:
                database.close()
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in a :class:`StateError` what is wrong with the file."""
        try:
            yield
        except sqlite3.OperationalError as error:
            reason = "another emulator uses it" if "locked" in str(error) else str(error)
            raise StateError(f"state file '{self._path}': {reason}") from error
        except OSError as error:
            raise StateError(f"state file '{self._path}': {error.strerror}") from error
        except (sqlite3.Error, LookupError, TypeError, ValueError, AttributeError) as error:
            raise StateError(f"state file '{self._path}' is damaged, or of something else: {error}") from error

    def _check(self, database: sqlite3.Connection) -> None:
        database.execute("BEGIN IMMEDIATE")
        [(application,)] = database.execute("PRAGMA application_id")
        [(number,)] = database.execute("PRAGMA user_version")
        [(tables,)] = database.execute("SELECT count(*) FROM sqlite_master")
        if not (application or number or tables):
            database.execute(f"PRAGMA application_id = {_APPLICATION}")
            database.execute(f"PRAGMA user_version = {_FORMAT}")
        elif application != _APPLICATION:
            raise ValueError("it is a database of another program")
        elif number != _FORMAT:
            raise StateError(f"state file '{self._path}' has format {number}, and this emulator reads {_FORMAT}")
        database.execute("COMMIT")
        [(problem,)] = database.execute("PRAGMA quick_check(1)")
        if problem != "ok":
            raise ValueError(" ".join(problem.split()))

    def new_world(self) -> World:
        """Return a world without anything in it but the file's items, to :meth:`restore`."""
        return World(items=self._items, lock=cast("threading.RLock", _Lock()))

    def restore(self, context: Context, origins: set[str]) -> None:
        """
        Put into a world what the file holds, and keep what changes from now on.

        :param origins: Schemes and hosts under which the emulator was reached; runs read its containers by them.
        :raises StateError: The file is damaged.
        """
        journal = _FileJournal(context, origins)
        with context.world.lock:
            try:
                with self._explained():
                    journal.restore()
            except StateError:
                self._items.close()
                raise
            journal.attach()

    def renew(self, world: World) -> World:
        """Empty the file and return a world for it; the one that it had is forgotten. Hold its lock."""
        cast("_FileJournal", world.journal).detach()
        self._items = world.items.hand_over(*_TABLES)
        return self.new_world()

    def close(self, world: World) -> None:
        """Let the file go; what happens in the world from now on fails."""
        with world.lock:
            cast("_FileJournal", world.journal).failure = StateError(f"state file '{self._path}' is closed")
            self._items.close()


class _Lock:
    """
    A lock that its owner can take several times, as :class:`threading.RLock`, with a last thing to do while it is held.
    Conditions can have it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self.finish: Callable[[], None] | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        acquired = self._lock.acquire(blocking, timeout)
        self._depth += acquired
        return acquired

    def release(self) -> None:
        try:
            if self._depth == 1 and self.finish is not None:
                self.finish()
        finally:
            self._depth -= 1
            self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    # What conditions call while they wait, with these names.

    def _release_save(self) -> int:
        if self.finish is not None:
            self.finish()
        depth, self._depth = self._depth, 0
        for _ in range(depth):
            self._lock.release()
        return depth

    def _acquire_restore(self, depth: int) -> None:
        for _ in range(depth):
            self._lock.acquire()
        self._depth = depth

    def _is_owned(self) -> bool:
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]


class _FileJournal(Journal):
    """
    Notes what changes, and writes it when the world's lock is about to be free.

    :param context: Whose world it is about.
    """

    def __init__(self, context: Context, origins: set[str]) -> None:
        self._context, self._origins = context, origins
        self._world, self._engine = context.world, context.engine
        self._lock = cast("_Lock", self._world.lock)
        self._forms = _Forms(context)
        #: What stopped it from writing; nothing is written any more.
        self.failure: StateError | None = None
        self._transaction: contextlib.ExitStack | None = None
        self._changed = False
        self._operations: dict[str, Operation] = {}
        self._with_parts: list[Operation] = []
        self._collections: set[str] = set()
        self._events: dict[int, tuple[float, Effect]] = {}
        self._events_over: list[int] = []
        self._moment = 0.0
        #: What the file has: of operations how many failures, of all else the rows that belong together.
        self._failures: dict[str, int] = {}
        self._rows: dict[str | None, dict[tuple[str, str], Any]] = {}

    def attach(self) -> None:
        """Be told of what changes."""
        self._world.journal, self._world.items.before_transaction = self, self._join
        self._lock.finish = self._finish

    def detach(self) -> None:
        """Leave the world to itself."""
        self._world.journal, self._world.items.before_transaction = Journal(), None
        self._lock.finish = None

    # --- what changes -------------------------------------------------------------------------------------------

    def operation(self, operation: Operation) -> None:
        """Note that an operation changes."""
        self._changed = True
        self._operations[operation.id] = operation

    def parts(self, operation: Operation) -> None:
        """Note that an operation on items has its parts."""
        self._changed = True
        self._with_parts.append(operation)

    def collection(self, collection_id: str) -> None:
        """Note that a collection changes, comes or goes."""
        self._changed = True
        self._collections.add(collection_id)

    def event(self, number: int, due: float, effect: Effect) -> None:
        """Note what is to happen."""
        self._changed = True
        self._events[number] = due, effect

    def event_over(self, number: int) -> None:
        """Note that it has happened."""
        self._changed = True
        if self._events.pop(number, None) is None:
            self._events_over.append(number)

    def moment(self, moment: float) -> None:
        """Note to which moment the clock was moved."""
        if self._engine.clock.speed != 1 or moment > self._engine.clock.now():
            self._changed = True
            self._moment = max(self._moment, moment)

    def other(self) -> None:
        """Note that anything else changes."""
        self._changed = True

    # --- writing ------------------------------------------------------------------------------------------------

    def _join(self) -> None:
        """Have what is done to items be part of the one transaction."""
        if self._transaction is None and self._lock._is_owned():
            if self.failure is not None:
                raise self.failure
            self._changed = True
            self._transaction = contextlib.ExitStack()
            self._transaction.enter_context(self._world.items.transaction())

    def _finish(self) -> None:
        """Write what has changed."""
        if not self._changed:
            return
        try:
            self._join()
            with cast("contextlib.ExitStack", self._transaction):
                if self._world.items.failure is not None:  # whoever asked may take it for the fault of an item
                    raise self._world.items.failure
                self._write()
        except Exception as error:
            if self.failure is None:
                log.exception("the state could not be saved; nothing is accepted any more")
                self.failure = StateError(f"The emulator's state could not be saved: {error}")
            raise self.failure from error
        finally:
            self._transaction = None
            self._changed = False
        self._context.blobs.managed.forget_spent()

    def _write(self) -> None:
        with self._world.items.transaction() as database:
            self._write_operations(database)
            for collection_id in self._collections:
                self._write_rows(database, collection_id, self._collection_rows(collection_id))
            self._write_rows(database, None, self._small_rows())
            over = [(number,) for number in self._events_over]
            database.executemany("DELETE FROM events WHERE number = ?", over)
            effects = [(number, due, self._forms.of_effect(effect)) for number, (due, effect) in self._events.items()]
            events = [(number, due, _text(form)) for number, due, form in effects if form is not None]
            database.executemany("INSERT INTO events VALUES (?, ?, ?)", events)
        self._operations.clear()
        self._with_parts.clear()
        self._collections.clear()
        self._events.clear()
        self._events_over.clear()

    def _write_operations(self, database: sqlite3.Connection) -> None:
        for operation in self._with_parts:
            parts = enumerate(self._engine.parts_of(operation), operation.counters.done)
            values = [
                (operation.id, number, _text([self._forms.of(effect), item_id])) for number, (effect, item_id) in parts
            ]
            database.executemany("INSERT INTO parts VALUES (?, ?, ?)", values)
        for operation in self._operations.values():
            row = _operation_row(operation)
            undo = self._engine.undo_of(operation)
            row["undo"] = self._forms.of_effect(undo) if undo else None
            database.execute(_PUT, ("operation", operation.id, _text(row)))
            known = self._failures.get(operation.id, 0)
            new = [
                (operation.id, number, _text(vars(failure)))
                for number, failure in enumerate(operation.failures[known:], known)
            ]
            database.executemany("INSERT INTO failures VALUES (?, ?, ?)", new)
            self._failures[operation.id] = known + len(new)
            done = "DELETE FROM parts WHERE operation = ? AND (number < ? OR ?)"
            database.execute(done, (operation.id, operation.counters.done, operation.is_final))
            if operation.is_final:
                del self._failures[operation.id]

    def _write_rows(
        self, database: sqlite3.Connection, scope: str | None, rows: Iterable[tuple[str, str, Any]]
    ) -> None:
        """Bring rows that belong together up to date."""
        known, now = self._rows.pop(scope, {}), {}
        for kind, name, value in rows:
            now[kind, name] = value if isinstance(value, CollectionAsset) else _text(value)
        gone = [key for key in known if key not in now]
        database.executemany("DELETE FROM objects WHERE kind = ? AND id = ?", gone)
        for key, value in now.items():
            if isinstance(value, CollectionAsset):  # large, and never changed in place
                if known.get(key) is not value:
                    content = base64.b64encode(value.content).decode()
                    database.execute(_PUT, (*key, _text([value.document, content])))
            elif known.get(key) != value:
                database.execute(_PUT, (*key, value))
        if now:
            self._rows[scope] = now

    def _small_rows(self) -> Iterable[tuple[str, str, Any]]:
        """Yield what is always compared with what the file has."""
        world, runs = self._world, self._engine.runs
        yield "clock", "", max(self._moment, self._engine.clock.now())
        yield (
            "world",
            "",
            {
                "reserved": sorted(world.reserved),
                "deleted_at": world.deleted_at,
                "sas": world.sas.secrets,
                "first_tick": self._engine.first_tick,
                "origins": sorted(self._origins),
            },
        )
        yield (
            "runs",
            "",
            {
                "waiting": [_run_row(run) for run in runs.waiting],
                "at_work": [[_run_row(run), total_known_at] for run, total_known_at in runs.at_work],
            },
        )
        for source in world.sources.values():
            yield "source", source.id, vars(source)

    def _collection_rows(self, collection_id: str) -> Iterable[tuple[str, str, Any]]:
        collection = self._world.collections.get(collection_id)
        if collection is None:
            return
        number = _number(collection)
        members = {name: getattr(collection, name) for name in _COLLECTION_MEMBERS}
        yield "collection", str(number), {**members, "deletion": collection.deletion and collection.deletion.id}
        for ingestion in collection.ingestions.values():
            runs = [_run_row(run) for run in ingestion.runs.values()]
            yield "ingestion", ingestion.id, {**vars(ingestion), "runs": runs, "collection": number}
        for key, asset in collection.assets.items():
            yield "asset", f"{number}/{key}", asset

    # --- reading ------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Put into the world what the file holds."""
        select = self._world.items.select
        objects: dict[str, dict[str, str]] = {}
        for kind, name, value in select("SELECT kind, id, value FROM objects ORDER BY position"):
            objects.setdefault(kind, {})[name] = value
        if "clock" in objects:
            self._engine.clock.move_to(json.loads(objects["clock"][""]))
        undo = self._restore_operations(objects.get("operation", {}))
        self._restore_collections(objects)
        self._restore_world(objects)
        forms = self._forms
        parts: dict[str, list[tuple[Effect, str | None]]] = {}
        for operation_id, value in select("SELECT operation, value FROM parts ORDER BY operation, number"):
            effect, item_id = json.loads(value)
            parts.setdefault(operation_id, []).append((forms.read(effect), item_id))
        events = select("SELECT due, number, effect FROM events")
        self._engine.restore(
            [(due, number, forms.read(json.loads(effect))) for due, number, effect in events],
            {name: forms.read(form) for name, form in undo.items() if form is not None},
            parts,
        )
        runs = json.loads(objects["runs"][""]) if "runs" in objects else {"waiting": [], "at_work": []}
        self._engine.runs.restore(
            [forms.run(row) for row in runs["waiting"]], [(forms.run(row), at) for row, at in runs["at_work"]]
        )
        self._context.blobs.managed.forget_others()

    def _restore_operations(self, rows: dict[str, str]) -> dict[str, Any]:
        """Return what the operations' cancellations have to take back."""
        undo = {}
        for operation_id, value in rows.items():
            row = json.loads(value)
            undo[operation_id] = row.pop("undo")
            history, counters = [Change(**change) for change in row["history"]], Counters(**row["counters"])
            self._world.operations[operation_id] = Operation(**{**row, "history": history, "counters": counters})
        failures = "SELECT operation, value FROM failures ORDER BY operation, number"
        for operation_id, value in self._world.items.select(failures):
            self._world.operations[operation_id].failures.append(ItemFailure(**json.loads(value)))
        for operation in self._world.operations.values():
            if not operation.is_final:
                self._failures[operation.id] = len(operation.failures)
        return undo

    def _restore_collections(self, objects: dict[str, dict[str, str]]) -> None:
        world, by_number = self._world, {}
        for number, value in objects.get("collection", {}).items():
            row = json.loads(value)
            deletion = row.pop("deletion")
            items = CollectionItems(world.items, row["document"]["id"], int(number))
            collection = Collection(**row, items=items, deletion=world.operations[deletion] if deletion else None)
            world.collections[collection.id] = by_number[number] = collection
            self._rows[collection.id] = {("collection", number): value}
        for ingestion_id, value in objects.get("ingestion", {}).items():
            row = json.loads(value)
            collection = by_number[str(row.pop("collection"))]
            runs = {run.id: run for run in map(self._forms.run, row["runs"])}
            collection.ingestions[ingestion_id] = Ingestion(**{**row, "runs": runs})
            self._rows[collection.id]["ingestion", ingestion_id] = value
        for name, value in objects.get("asset", {}).items():
            number, _, key = name.partition("/")
            document, content = json.loads(value)
            asset = CollectionAsset(document, base64.b64decode(content))
            by_number[number].assets[key] = self._rows[by_number[number].id]["asset", name] = asset

    def _restore_world(self, objects: dict[str, dict[str, str]]) -> None:
        world = self._world
        for source_id, value in objects.get("source", {}).items():
            world.sources[source_id] = Source(**json.loads(value))
        if "world" in objects:
            row = json.loads(objects["world"][""])
            world.reserved.update(row["reserved"])
            world.deleted_at.update(row["deleted_at"])
            world.sas.secrets = row["sas"]
            self._engine.first_tick = row["first_tick"]
            self._origins.update(row["origins"])
        small = ("clock", "world", "runs", "source")
        self._rows[None] = {(kind, name): value for kind in small for name, value in objects.get(kind, {}).items()}


class _Forms:
    """
    The JSON forms of effects and of what they are called with. A list says in its first member what the rest is.

    :param context: What references lead to.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._owners = {"engine.Engine": context.engine, "runs.Runs": context.engine.runs}
        self._readers: dict[str, Callable[..., Any]] = {
            "context": lambda: context,
            "json": lambda value: value,
            "tuple": lambda *members: tuple(map(self.read, members)),
            "operation": lambda operation_id: context.world.operations[operation_id],
            "collection": self._collection,
            "run": self.run,
            "source": lambda row: Source(**row),
            "item": self._item,
            "error": IngestionError,
            "effect": self._effect,
        }

    def of_effect(self, effect: Effect) -> Any:
        """Return the form of an effect, ``None`` for one that is not to be written down."""
        function, arguments = (effect.func, effect.args) if isinstance(effect, partial) else (effect, ())
        name = effect_name(function)
        if EFFECTS[name] is None:
            return None
        return ["effect", name, *map(self.of, arguments)]

    def of(self, value: Any) -> Any:
        """Return the form of an effect's argument."""
        if value is None or isinstance(value, str | int | float):
            return value
        if value is self._context:
            return ["context"]
        if isinstance(value, dict | list):
            return ["json", value]
        if isinstance(value, tuple):
            return ["tuple", *map(self.of, value)]
        if isinstance(value, Operation):
            return ["operation", value.id]
        if isinstance(value, Collection):
            return ["collection", value.id, _number(value)]
        if isinstance(value, Run):
            return ["run", _run_row(value)]
        if isinstance(value, Source):
            return ["source", vars(value)]
        if isinstance(value, IngestionError):
            return ["error", value.code, value.message, value.item_id]
        if isinstance(value, StoredItem):
            files = self._context.blobs.managed.staged_files(value.document)
            times = (value.start.isoformat(), value.end.isoformat())
            return ["item", value.document, *times, shapely.to_wkb(value.shape, hex=True), value.originals, files]
        form = self.of_effect(value)
        if form is None:
            raise TypeError(f"{value} cannot be part of what is written down")
        return form

    def read(self, form: Any) -> Any:
        """Return what a form stands for."""
        return self._readers[form[0]](*form[1:]) if isinstance(form, list) else form

    def run(self, row: dict[str, Any]) -> Run:
        """Return a run; all that are made of one row are equal."""
        return Run(**{**row, "operation": self._context.world.operations[row["operation"]]})

    def _collection(self, collection_id: str, number: int) -> Collection:
        """Return a collection, or what stands for one that is gone: it is in no world and has no items."""
        world = self._context.world
        collection = world.collections.get(collection_id)
        if collection is not None and _number(collection) == number:
            return collection
        return Collection({"id": collection_id}, 0.0, 0.0, CollectionItems(world.items, collection_id, number))

    def _item(
        self,
        document: dict[str, Any],
        start: str,
        end: str,
        shape: str,
        originals: dict[str, str],
        files: dict[str, str],
    ) -> StoredItem:
        self._context.blobs.managed.stage_again(document, files)
        times = (datetime.datetime.fromisoformat(start), datetime.datetime.fromisoformat(end))
        return StoredItem(document, *times, shapely.from_wkb(shape), originals)

    def _effect(self, name: str, *arguments: Any) -> Effect:
        function = EFFECTS[name]
        if function is None:
            raise ValueError(f"'{name}' is not for a file")
        owner = self._owners.get(name.rpartition(".")[0])
        bound = function if owner is None else MethodType(function, owner)
        return partial(bound, *map(self.read, arguments))


#: What a collection's row has beside its deletion; definitions and assets have rows of their own.
_COLLECTION_MEMBERS = (
    *("document", "created", "updated", "queryables", "mosaics", "render_options"),
    *("tile_settings", "partition_type"),
)


def _number(collection: Collection) -> int:
    """Return what tells a collection from another one that had or will have its id."""
    return cast("CollectionItems", collection.items).number


def _run_row(run: Run) -> dict[str, Any]:
    return {**vars(run), "operation": run.operation.id}


def _operation_row(operation: Operation) -> dict[str, Any]:
    """Return an operation but for its failures, of which there can be many."""
    row = {name: value for name, value in vars(operation).items() if name != "failures"}
    return {**row, "history": [vars(change) for change in operation.history], "counters": vars(operation.counters)}


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
