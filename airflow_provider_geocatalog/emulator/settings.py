"""Everything about the emulator that can be chosen; the defaults follow the service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["EmulatorSettings", "ManagedIdentity"]


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
    :param max_concurrent_runs: Further runs stay ``Pending``; two to four were seen at once (5.4).
    :param relative_asset_hrefs: ``fail`` with ``InvalidAssetHref`` as documented (10.3), or ``resolve`` against the
        item's URL.
    :param partial_failure_status: Status of a run in which some items failed. No recording shows it; ``Failed`` with
        ``ErrorsInBatchOperation`` is what the documentation implies (6.3).
    :param read_timeout: How long reading one document over http may take.
    :param managed_storage_url: Where stored assets pretend to live (7.5); nothing is copied there.
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
    max_concurrent_runs: int = 4
    relative_asset_hrefs: Literal["fail", "resolve"] = "fail"
    partial_failure_status: Literal["Failed", "Succeeded"] = "Failed"
    read_timeout: float = 30.0
    managed_storage_url: str = "https://geocatalogemulator.blob.core.windows.net"

    def __post_init__(self) -> None:
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.max_concurrent_runs < 1:
            raise ValueError("max_concurrent_runs has to be at least 1")
        twice = set(self.containers) & set(self.public_containers)
        if twice:
            raise ValueError(f"containers are either private or public: {', '.join(sorted(twice))}")

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
_NOT_NEGATIVE = (*_DELAYS, "read_timeout")
