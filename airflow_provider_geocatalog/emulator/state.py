"""The emulated world: what the GeoCatalog holds. How it changes with time is the engine's business."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.emulator.item_store import ItemStore, StoredItem
from airflow_provider_geocatalog.emulator.managed import SasIssuer

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from airflow_provider_geocatalog.emulator.effects import Effect

__all__ = [
    "Change",
    "Collection",
    "CollectionAsset",
    "Counters",
    "Ingestion",
    "ItemFailure",
    "Journal",
    "Operation",
    "Run",
    "Source",
    "StateError",
    "StoredItem",
    "World",
    "new_id",
]

#: Statuses that never change again; the dialect's word for success is put in on the wire.
FINAL = frozenset({"Succeeded", "Failed", "Canceled"})


class StateError(Exception):
    """The state cannot be read from its file, or not be saved there."""


def new_id() -> str:
    """Return a GUID, which the server assigns to everything on the ingestion side (4.1)."""
    return str(uuid.uuid4())


def _default_mosaics() -> dict[str, dict[str, Any]]:
    return {"default": {"id": "default", "name": "Default", "description": "", "cql": []}}  # recorded (7.8)


def _default_tile_settings() -> dict[str, Any]:
    return {"minZoom": 6, "maxItemsPerTile": 35, "defaultLocation": None}  # what the articles set (7.8); inferred


@dataclass(frozen=True)
class CollectionAsset:
    """
    A collection's own asset (7.4).

    :param document: Its members as they are answered.
    :param content: The uploaded file.
    """

    document: dict[str, Any]
    content: bytes = field(repr=False)


@dataclass
class Collection:
    """
    A collection with its items and configurations.

    :param document: Members as the client sent them, without ``links`` and ``assets``.
    :param created: Epoch seconds.
    :param items: Its part of the world's item store.
    :param queryables: The custom ones, as the client sent them.
    :param deletion: The operation that is deleting it.
    """

    document: dict[str, Any]
    created: float
    updated: float
    items: MutableMapping[str, StoredItem]
    assets: dict[str, CollectionAsset] = field(default_factory=dict)
    queryables: dict[str, dict[str, Any]] = field(default_factory=dict)
    ingestions: dict[str, Ingestion] = field(default_factory=dict)
    mosaics: dict[str, dict[str, Any]] = field(default_factory=_default_mosaics)
    render_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    tile_settings: dict[str, Any] = field(default_factory=_default_tile_settings)
    partition_type: dict[str, Any] = field(default_factory=lambda: {"scheme": "none"})
    deletion: Operation | None = None

    @property
    def id(self) -> str:
        """The collection's id."""
        return str(self.document["id"])


@dataclass
class Source:
    """A stored credential for one blob container; either a SAS token or a managed identity."""

    id: str
    kind: str
    container_url: str
    created: float
    sas_token: str | None = field(default=None, repr=False)
    object_id: str | None = None


@dataclass
class Ingestion:
    """An ingestion definition with its runs, oldest first."""

    id: str
    collection_id: str
    created: float
    import_type: str
    display_name: str | None = None
    source_catalog_url: str | None = None
    stac_geoparquet_url: str | None = None
    skip_existing_items: bool = False
    keep_original_assets: bool = False
    status: str = "Ready"
    runs: dict[str, Run] = field(default_factory=dict)

    @property
    def source_url(self) -> str:
        """The URL that goes with the import type."""
        return (self.stac_geoparquet_url if self.import_type == "StacGeoparquet" else self.source_catalog_url) or ""


@dataclass
class Counters:
    """Items of an operation by state."""

    total: int = 0
    pending: int = 0
    successful: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        """Those of which it is known how they went."""
        return self.successful + self.failed


@dataclass(frozen=True)
class Change:
    """An entry of a status history."""

    status: str
    at: float
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class ItemFailure:
    """Why one item of an operation was not ingested."""

    code: str
    message: str
    item_id: str | None = None
    url: str | None = None
    at: float = 0.0


@dataclass
class Operation:
    """
    A long-running operation.

    :param counts: Whether it counts items (item operations and runs do, 6.1).
    :param extra: ``additionalInformation`` that is no counter.
    """

    id: str
    type: str
    collection_id: str
    created: float
    counts: bool = False
    status: str = "Pending"
    history: list[Change] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)
    extra: dict[str, str] = field(default_factory=dict)
    started: float | None = None
    finished: float | None = None
    failures: list[ItemFailure] = field(default_factory=list)

    @property
    def is_final(self) -> bool:
        """Whether it will not change any more."""
        return self.status in FINAL


@dataclass(frozen=True)
class Run:
    """A run of a definition; the definition's members are copied when it is created (5.4)."""

    operation: Operation
    created: float
    import_type: str
    source_url: str
    skip_existing_items: bool
    keep_original_assets: bool
    own_id: str | None = None

    @property
    def id(self) -> str:
        """The run's id, which is its operation's (4.1) unless it has one of its own."""
        return self.own_id or self.operation.id


class Journal:
    """Is told what changes, while the world's lock is held. This one has no file to note it in."""

    def operation(self, operation: Operation) -> None:
        """Note that an operation changes."""

    def parts(self, operation: Operation) -> None:
        """Note that an operation on items has its parts."""

    def collection(self, collection_id: str) -> None:
        """Note that a collection changes, or something that belongs to it but its items; or comes, or goes."""

    def event(self, number: int, due: float, effect: Effect) -> None:
        """Note what is to happen."""

    def event_over(self, number: int) -> None:
        """Note that it has happened."""

    def moment(self, moment: float) -> None:
        """Note to which moment the clock was moved."""

    def other(self) -> None:
        """Note that anything else changes: sources, keys."""


@dataclass
class World:
    """
    Everything that the emulated GeoCatalog knows. Hold ``lock`` while reading or changing it.

    :param reserved: Ids of collections that are being created.
    :param deleted_at: When collections were deleted, by id.
    :param operations: Oldest first.
    :param items: The items of all collections.
    :param sas: Issues the tokens for managed storage, and tells which are valid.
    :param journal: Is told of every change but those of items.
    """

    collections: dict[str, Collection] = field(default_factory=dict)
    reserved: set[str] = field(default_factory=set)
    deleted_at: dict[str, float] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    items: ItemStore = field(default_factory=ItemStore, repr=False)
    sas: SasIssuer = field(default_factory=SasIssuer, repr=False)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    journal: Journal = field(default_factory=Journal, repr=False)

    def add_collection(self, document: dict[str, Any], at: float) -> Collection:
        """Add a collection without items."""
        collection_id = str(document["id"])
        self.journal.collection(collection_id)
        self.items.drop(collection_id)
        collection = Collection(document, created=at, updated=at, items=self.items.items_of(collection_id))
        self.collections[collection_id] = collection
        return collection

    def remove_collection(self, collection_id: str) -> bool:
        """Remove a collection with its items, and return whether there was one."""
        if self.collections.pop(collection_id, None) is None:
            return False
        self.journal.collection(collection_id)
        self.items.drop(collection_id)
        self.index_queryables()
        return True

    def index_queryables(self) -> None:
        """Have an index for each queryable that asks for one (7.7)."""
        self.items.index(
            name
            for collection in self.collections.values()
            for name, queryable in collection.queryables.items()
            if queryable["create_index"]
        )

    def data_types(self, collection_ids: Iterable[str] | None) -> dict[str, str]:
        """Return the data types of queryables on which the collections agree that declare them, by name (7.7)."""
        declared: dict[str, set[str]] = {}
        for collection_id in self.collections if collection_ids is None else collection_ids:
            if collection_id in self.collections:
                for name, queryable in self.collections[collection_id].queryables.items():
                    if queryable["data_type"]:
                        declared.setdefault(name, set()).add(queryable["data_type"])
        return {name: types.pop() for name, types in declared.items() if len(types) == 1}
