"""Everything about the emulator that can be chosen; the defaults follow the service."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_geocatalog.emulator.limits import LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_provider_geocatalog.api.dialects import Dialect
    from airflow_provider_geocatalog.emulator.azurite_store import AzuriteAccount

__all__ = ["SWITCHES", "EmulatorSettings", "ManagedIdentity", "Switch"]


@dataclass(frozen=True)
class Switch:
    """
    A setting for what no source tells, or on which sources disagree.

    :param question: Number of the entry in ``service-open-questions``.
    :param about: What it decides.
    :param default: What is built on.
    :param others: The other values; none where it is a number.
    """

    name: str
    question: str
    about: str
    default: str | float
    others: tuple[str, ...] = ()

    @property
    def values(self) -> str:
        """The values that it takes, for people."""
        return ", ".join((str(self.default), *self.others)) if self.others else "a number"

    def check(self, value: Any) -> None:
        """
        Refuse a value that it does not take.

        :raises ValueError: It does not.
        """
        if not self.others:
            good = isinstance(value, int | float) and math.isfinite(value) and value >= 0
        else:
            good = value in (self.default, *self.others)
        if not good:
            raise ValueError(f"{self.name} takes {self.values}, not {value!r}")

    def read(self, text: str) -> str | float:
        """
        Return the value that a text stands for.

        :raises ValueError: It stands for none.
        """
        value: str | float = text
        if not self.others:
            try:
                value = type(self.default)(text)
            except ValueError:
                value = text
        self.check(value)
        return value


def _switch(default: Any, *others: str, question: str, about: str) -> Any:
    """Make a field that is in :data:`SWITCHES`."""
    return field(default=default, metadata={"question": question, "about": about, "default": default, "others": others})


@dataclass(frozen=True)
class ManagedIdentity:
    """
    A user-assigned managed identity that is attached to the emulated GeoCatalog.

    :param object_id: Object id of its service principal.
    :param resource_id: Azure resource id.
    """

    object_id: str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
    resource_id: str = (
        "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/emulator/providers"
        "/Microsoft.ManagedIdentity/userAssignedIdentities/emulator"
    )


@dataclass(frozen=True)
class EmulatorSettings:
    """
    How one emulator behaves. Durations are seconds; numbers in brackets are sections of the wire reference.

    The fields that are not among the parameters below are switches, which say themselves what they are about.

    :param admin_tokens: Bearer tokens with the role GeoCatalog Administrator; none: a random one is made.
    :param reader_tokens: Bearer tokens with the role GeoCatalog Reader.
    :param allowed_paths: Folders below which ``file:`` URLs may be read.
    :param containers: Private blob containers by name: local folders served at ``/_emulator/storage/{name}``.
    :param public_containers: The same, readable by everybody.
    :param managed_identities: What ``GET /inma/ingestion-sources/managed-identities`` lists.
    :param items_per_second: How fast items are ingested; 0: at once. The service took 17 s for each of 123 NAIP items,
        most of it spent on pixels that the emulator does not touch (6.6), so the default is faster.
    :param pending_seconds: How long an item operation or run stays ``Pending``; 0.2 to 2 s were recorded (6.6).
    :param collection_tick: Operations on collections and the deletion of definitions wait in ``Pending`` for a poller
        that comes round this often; recorded at about 30 s (6.6). 0: picked up at once.
    :param collection_seconds: How long they are ``Running`` then; 0.1 to 1.4 s were recorded (6.6).
    :param cancel_seconds: How long ``Canceling`` lasts; 2 to 20 s were recorded (6.4).
    :param recreate_after: For how long the id of a deleted collection is refused; documented as 45 s (7.3).
    :param relative_asset_hrefs: ``fail`` with ``InvalidAssetHref`` as documented (10.3), or ``resolve`` against the
        item's URL.
    :param read_timeout: How long reading one document over http may take.
    :param managed_storage_url: Where hrefs of stored files lead (7.5); if not given, to the emulator itself, so that
        signed ones can be opened. ``https://name.blob.core.windows.net`` looks like the service's.
    :param managed_folder: Where the emulator keeps stored files; if not given, beside the state file, or in a temporary
        folder.
    :param state: A SQLite file that keeps what the GeoCatalog holds; if not given, it is forgotten with the process.
    :param azurite: An Azurite that keeps stored files instead, and whose containers are read as ingestion sources.
    :param copy_remote_assets: Whether assets elsewhere on the web are downloaded as well, and not taken on trust.
    :param max_remote_bytes: Largest asset that is downloaded then.
    :param remote_timeout: How long the download of one asset may take.
    :param max_body_bytes: Largest body of a request; larger ones are answered with 413 and not kept.
    :param limits: ``preview`` refuses what goes beyond the documented limits of the preview (11.3), ``none`` nothing;
        or limits of one's own.
    :param articles_reading: Have the codes and names that the articles of 2025 still give (3.1), which recorded traffic
        contradicts: the alternatives of C1, C2, C4 and C5, whatever these switches say, ``sourceType`` for ``kind`` in
        requests (C6), and reads without ``api-version`` (V9).
    """

    admin_tokens: tuple[str, ...] = field(default=(), repr=False)
    reader_tokens: tuple[str, ...] = field(default=(), repr=False)
    allowed_paths: tuple[Path, ...] = ()
    containers: Mapping[str, Path] = field(default_factory=dict)
    public_containers: Mapping[str, Path] = field(default_factory=dict)
    managed_identities: tuple[ManagedIdentity, ...] = (ManagedIdentity(),)
    items_per_second: float = 20.0
    pending_seconds: float = 0.7
    collection_tick: float = 30.0
    collection_seconds: float = 0.5
    cancel_seconds: float = 2.0
    recreate_after: float = 45.0
    relative_asset_hrefs: Literal["fail", "resolve"] = "fail"
    read_timeout: float = 30.0
    managed_storage_url: str | None = None
    managed_folder: Path | None = None
    state: Path | None = None
    azurite: AzuriteAccount | None = None
    copy_remote_assets: bool = False
    max_remote_bytes: int = 1024**3
    remote_timeout: float = 120.0
    max_body_bytes: int = 256 * 1024**2
    limits: Literal["none", "preview"] | Limits = "none"
    articles_reading: bool = False

    collection_creation: Literal["202", "201"] = _switch(
        "202", "201", question="C1", about="status of creating a collection; 201 has the collection, and no operation"
    )
    collection_deletion: Literal["202", "204"] = _switch(
        "202", "204", question="C2", about="status of deleting a collection; 204 has no operation"
    )
    source_deletion: Literal["204", "200"] = _switch(
        "204", "200", question="C4", about="status of deleting an ingestion source"
    )
    ingestion_id_member: Literal["id", "ingestionId"] = _switch(
        "id", "ingestionId", question="C5", about="member with the id of an ingestion definition"
    )
    success_word: Literal["Succeeded", "Finished", "Success"] = _switch(
        "Succeeded", "Finished", "Success", question="C8", about="status of an operation that succeeded"
    )
    run_ids: Literal["operation", "own"] = _switch(
        "operation", "own", question="C9", about="whether a run has its operation's id or one of its own"
    )
    operation_error: Literal["nested", "flat"] = _switch(
        "nested", "flat", question="C11", about="whether a failure is in `error.error` or in `error` of an operation"
    )
    unknown_source_put: Literal["by version", "create", "refuse"] = _switch(
        "by version",
        *("create", "refuse"),
        question="C22",
        about="PUT of an unknown ingestion source: created (201), refused (404), or the first in 2025 only",
    )
    collection_operation_times: Literal["absent", "present"] = _switch(
        "absent", "present", question="C25", about="`startTime` and `finishTime` of operations on collections"
    )
    max_concurrent_runs: int = _switch(
        4, question="C26", about="runs at work at once, at least 1; further ones stay `Pending`"
    )
    partial_failure_status: Literal["Failed", "Succeeded"] = _switch(
        "Failed", "Succeeded", question="U1", about="status of a run in which some items failed"
    )
    existing_items: Literal["overwrite", "fail"] = _switch(
        "overwrite",
        "fail",
        question="U3",
        about="an item of a run that exists already, without `skipExistingItems`; it fails with "
        "`ItemAlreadyExistsInCollection`",
    )
    active_ingestion_deletion: Literal["409", "400"] = _switch(
        "409", "400", question="U4", about="status of deleting a definition that has active runs"
    )
    deleted_collection_cancel: Literal["ends", "stuck"] = _switch(
        "ends",
        "stuck",
        question="U5",
        about="whether what is cancelled in a collection that is being deleted, or is, ever leaves `Canceling`",
    )
    second_cancel: Literal["204", "400"] = _switch(
        "204", "400", question="U6", about="status of cancelling an operation that is `Canceling`"
    )
    sas_without_start: Literal["refuse", "accept"] = _switch(
        "refuse", "accept", question="V1", about="an ingestion source whose SAS token has no `st`"
    )
    expired_sas: Literal["accept", "refuse"] = _switch(
        "accept", "refuse", question="V2", about="an ingestion source whose SAS token has expired"
    )
    unattached_identity: Literal["accept", "refuse"] = _switch(
        "accept", "refuse", question="V5", about="an ingestion source of an identity that is not attached; refused: 400"
    )
    missing_collection: Literal["404", "operation"] = _switch(
        "404",
        "operation",
        question="V6",
        about="items sent to a collection that is not there: 404, or an operation that fails with "
        "`CollectionDoesNotExist`",
    )
    missing_version: Literal["refuse", "answer"] = _switch(
        "refuse",
        "answer",
        question="V9",
        about="a request of the read side without `api-version`: 400, or what 2026-04-15 answers",
    )
    max_items_per_post: int = _switch(
        0,
        question="V12",
        about="items of one POST; with more its operation fails with `PostItemCollectionSizeExceeded`; 0: any number",
    )
    unauthorized_body: Literal["empty", "error"] = _switch(
        "empty", "error", question="P1", about="body of 401: none, or an error `Unauthorized`"
    )
    forbidden_body: Literal["error", "empty"] = _switch(
        "error", "empty", question="P1", about="body of 403: an error `Forbidden`, or none"
    )
    deleted_item_lag: float = _switch(
        0.0, question="P7", about="seconds for which an item is still there after its deletion has succeeded"
    )
    search_limit: int = _switch(
        10, question="P10", about="items on a page of `POST /stac/search` without `limit`, 1 to 10000"
    )

    def __post_init__(self) -> None:
        for switch in SWITCHES.values():
            switch.check(getattr(self, switch.name))
        if self.articles_reading:
            for name in _DIFFERENT_IN_ARTICLES:
                object.__setattr__(self, name, SWITCHES[name].others[0])
        if not 1 <= self.search_limit <= 10_000:
            raise ValueError("search_limit has to be from 1 to 10000")
        if isinstance(self.limits, str) and self.limits not in LIMITS:
            raise ValueError(f"limits has to be one of {', '.join(LIMITS)}, not {self.limits!r}")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.max_concurrent_runs < 1:
            raise ValueError("max_concurrent_runs has to be at least 1")
        if self.managed_storage_url is not None:
            object.__setattr__(self, "managed_storage_url", self.managed_storage_url.rstrip("/"))
        if self.state is not None and self.managed_folder is None:
            object.__setattr__(self, "managed_folder", self.state.with_name(f"{self.state.name}.files"))
        twice = set(self.containers) & set(self.public_containers)
        if twice:
            raise ValueError(f"containers are either private or public: {', '.join(sorted(twice))}")

    @property
    def bounds(self) -> Limits | None:
        """The limits in force."""
        return self.limits if isinstance(self.limits, Limits) else LIMITS[self.limits]

    def spoken(self, dialect: Dialect) -> Dialect:
        """Return how an api-version is spoken; the oldest one has no alternatives."""
        if dialect.bare_lists:
            return dialect
        creates = {"by version": dialect.replace_creates_source, "create": True, "refuse": False}
        return dataclasses.replace(
            dialect,
            delete_source_status=int(self.source_deletion),
            ingestion_id_field=self.ingestion_id_member,
            success_word=self.success_word,
            replace_creates_source=creates[self.unknown_source_put],
        )

    @classmethod
    def fast(cls, **changes: Any) -> EmulatorSettings:
        """Return settings without any delay, for tests; keyword arguments override single ones."""
        return cls(**({**dict.fromkeys(_DELAYS, 0.0), **changes}))


_DELAYS = (
    "items_per_second",
    "pending_seconds",
    "collection_tick",
    "collection_seconds",
    "cancel_seconds",
    "recreate_after",
)
_NOT_NEGATIVE = (*_DELAYS, "read_timeout", "max_remote_bytes", "remote_timeout", "max_body_bytes")
_DIFFERENT_IN_ARTICLES = (
    "collection_creation",
    "collection_deletion",
    "source_deletion",
    "ingestion_id_member",
    "missing_version",
)

#: Every switch by its name.
SWITCHES = {
    one.name: Switch(
        one.name, one.metadata["question"], one.metadata["about"], one.metadata["default"], one.metadata["others"]
    )
    for one in dataclasses.fields(EmulatorSettings)
    if one.metadata
}
