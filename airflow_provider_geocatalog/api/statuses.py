"""The closed vocabulary of operation statuses: the only place that decides what a status word means."""

from __future__ import annotations

import enum

__all__ = ["ACTIVE_WORDS", "Outcome", "Status"]

#: What an operation is until it ends (geocatalog-api 6.2), in the order in which it moves on.
ACTIVE_WORDS = ("Pending", "Running", "Canceling")


class Outcome(enum.Enum):
    """What a status means to somebody who waits."""

    IN_PROGRESS = "in progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


#: Every word that the service, its SDK or its documentation uses, in lower case (geocatalog-api 6.2). ``Finished`` is
#: the history word for success, ``Success`` the word of 2024-01-31-preview.
_KNOWN = {
    "pending": Outcome.IN_PROGRESS,
    "running": Outcome.IN_PROGRESS,
    "canceling": Outcome.IN_PROGRESS,
    "cancelling": Outcome.IN_PROGRESS,
    "succeeded": Outcome.SUCCEEDED,
    "success": Outcome.SUCCEEDED,
    "finished": Outcome.SUCCEEDED,
    "failed": Outcome.FAILED,
    "canceled": Outcome.CANCELED,
    "cancelled": Outcome.CANCELED,
}


class Status:
    """
    One status word as the service wrote it.

    An unknown word reads as *in progress*: waiting on costs time, reading it as success would lose data.

    :param word: The word on the wire; compared without case.
    """

    __slots__ = ("word",)

    def __init__(self, word: str) -> None:
        self.word = word

    @property
    def outcome(self) -> Outcome:
        """What the word means to somebody who waits."""
        return _KNOWN.get(self.word.lower(), Outcome.IN_PROGRESS)

    @property
    def is_known(self) -> bool:
        """Whether the word belongs to the service's vocabulary."""
        return self.word.lower() in _KNOWN

    @property
    def is_canceling(self) -> bool:
        """Whether somebody has asked to cancel the operation and it has not ended yet."""
        return self.word.lower() in {"canceling", "cancelling"}

    @property
    def is_final(self) -> bool:
        """Whether the operation will not change any more."""
        return self.outcome is not Outcome.IN_PROGRESS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Status) and other.word.lower() == self.word.lower()

    def __hash__(self) -> int:
        return hash(self.word.lower())

    def __str__(self) -> str:
        return self.word

    def __repr__(self) -> str:
        return f"Status({self.word!r})"
