"""How far a transfer is, as a JSON object that outlives the process."""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.transfer.preparing import Extent
from airflow_provider_geocatalog.transfer.reading import Position
from airflow_provider_geocatalog.transfer.windows import moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_geocatalog.transfer.dead_letters import DeadLetter

__all__ = ["Portion", "Progress", "Tally"]

_OPERATIONS_TOLD = 100
_FAILURES_TOLD = 20
_REASON = 300  # characters of a reason, or an id, that is told in a result


@dataclass
class Tally:
    """
    Items by what became of them.

    :param seen: Read from the source.
    :param outside: Not in the window, so left alone.
    :param filtered: Left out by a transform.
    :param repeated: Read before, just as they are.
    :param unchanged: In the catalog just as they would be sent.
    :param skipped: In the catalog, and left alone because the mode says so.
    :param sent: Handed to the service.
    :param created: New in the catalog.
    :param updated: Replaced in the catalog.
    :param set_aside: Not sent because something is wrong with them.
    :param failed: Not sent because the mode says so, or not taken by the service.
    """

    seen: int = 0
    outside: int = 0
    filtered: int = 0
    repeated: int = 0
    unchanged: int = 0
    skipped: int = 0
    sent: int = 0
    created: int = 0
    updated: int = 0
    set_aside: int = 0
    failed: int = 0

    def add(self, other: Tally) -> None:
        """Add other counts."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    @property
    def lost(self) -> int:
        """Items that should be in the catalog as the source has them, and are not."""
        return self.set_aside + self.failed

    def to_json(self) -> dict[str, int]:
        """Return the counts as a JSON object."""
        return asdict(self)

    def __str__(self) -> str:
        told = [f"{count} {name.replace('_', ' ')}" for name, count in self.to_json().items() if count]
        return ", ".join(told) or "0 seen"


@dataclass
class Portion:
    """
    Items that are sent together, and are repeated at most if the task is killed.

    :param start: Where it begins in the source.
    :param end: Where it ends.
    :param records: Items of the source in it.
    :param operations: What was started for it, by operation id: the numbers of the items that it creates, or the number
        of the one that it replaces. All items of a portion are numbered, from 0.
    :param lost: Numbers of items that were sent without an answer that names an operation.
    :param tally: What became of the items, as far as that is known.
    :param dead_letters: Lines that were written to the dead-letter file.
    :param failures: The first items that were lost, with reasons.
    :param recoverable: Lost items of which sending them again can help.
    """

    start: Position = field(default_factory=Position)
    end: Position = field(default_factory=Position)
    records: int = 0
    operations: dict[str, list[int] | int] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    extent: Extent = field(default_factory=Extent)
    latest: str | None = None
    dead_letters: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    recoverable: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            **{one.name: getattr(self, one.name) for one in fields(self)},
            "start": self.start.to_json(),
            "end": self.end.to_json(),
            "tally": self.tally.to_json(),
            "extent": self.extent.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Portion:
        """Return the portion that a JSON object describes."""
        positions = {name: Position.from_json(data[name]) for name in ("start", "end")}
        return cls(**{**data, **positions, "tally": Tally(**data["tally"]), "extent": Extent.from_json(data["extent"])})

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Take note of items that were lost."""
        self.dead_letters += len(letters)
        self.recoverable += sum(one.retryable for one in letters)
        self.failures += [
            {
                "id": one.item_id and one.item_id[:_REASON],
                "stage": one.stage,
                "code": one.code,
                "reason": one.reason[:_REASON],
            }
            for one in letters[: _FAILURES_TOLD - len(self.failures)]
        ]


@dataclass
class Progress:
    """
    How far a transfer is.

    :param position: Everything before this place of the source is settled.
    :param portions: Portions that are settled.
    :param latest: Latest moment, by the window's field, of the items in the window.
    :param operations: Ids of the first operations that were started.
    :param operations_started: How many there were.
    :param dead_letters: Lines that were written to the dead-letter file.
    :param failures: The first items that were lost, with reasons.
    :param recoverable: Lost items of which sending them again can help.
    :param waiting: The portion whose operations have not been settled.
    :param is_complete: Whether the whole source is settled.
    """

    position: Position = field(default_factory=Position)
    portions: int = 0
    tally: Tally = field(default_factory=Tally)
    extent: Extent = field(default_factory=Extent)
    latest: str | None = None
    operations: list[str] = field(default_factory=list)
    operations_started: int = 0
    dead_letters: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    recoverable: int = 0
    waiting: Portion | None = None
    is_complete: bool = False

    def note_operation(self, operation_id: str) -> None:
        """Take note of an operation that was started."""
        self.operations_started += 1
        if len(self.operations) < _OPERATIONS_TOLD:
            self.operations.append(operation_id)

    def settle(self, portion: Portion) -> None:
        """Take note that a portion is settled."""
        self.portions += 1
        self.position, self.waiting = portion.end, None
        self.tally.add(portion.tally)
        self.extent.merge(portion.extent)
        if portion.latest is not None:
            self.latest = max(self.latest or portion.latest, portion.latest, key=_moment)
        for operation_id in portion.operations:
            self.note_operation(operation_id)
        self.dead_letters += portion.dead_letters
        self.recoverable += portion.recoverable
        self.failures = [*self.failures, *portion.failures][:_FAILURES_TOLD]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            **{one.name: getattr(self, one.name) for one in fields(self)},
            "position": self.position.to_json(),
            "tally": self.tally.to_json(),
            "extent": self.extent.to_json(),
            "waiting": self.waiting.to_json() if self.waiting else None,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Progress:
        """Return the progress that a JSON object describes."""
        return cls(
            **{
                **data,
                "position": Position.from_json(data["position"]),
                "tally": Tally(**data["tally"]),
                "extent": Extent.from_json(data["extent"]),
                "waiting": Portion.from_json(data["waiting"]) if data.get("waiting") else None,
            }
        )


def _moment(text: str) -> datetime.datetime:
    return moment(text) or datetime.datetime.min.replace(tzinfo=datetime.UTC)
