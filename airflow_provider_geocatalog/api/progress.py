"""Tell how far an operation is: a line at every change and at least every few minutes, nothing in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

    from airflow_provider_geocatalog.api.models import Counts, Operation

__all__ = ["ProgressLog", "describe", "describe_counts"]

_QUIET_FOR = 180.0  # seconds without a line at most
_MIN_RATE_WINDOW = 1.0  # seconds; a rate over less than that is noise


def describe_counts(counts: Counts) -> str:
    """Return counts in words: ``12 of 25 items done (48 %), 1 failed, 13 pending``."""
    share = f" ({100 * counts.done // counts.total} %)" if counts.total else ""
    return f"{counts.done} of {counts.total} items done{share}, {counts.failed} failed, {counts.pending} pending"


def describe(operation: Operation) -> str:
    """Return what an operation is: ``operation 1234 (IngestionStaticCatalog, collection 'demo')``."""
    of_collection = f"collection {operation.collection_id!r}" if operation.collection_id else None
    known = ", ".join(filter(None, [operation.type, of_collection]))
    return f"operation {operation.operation_id}{f' ({known})' if known else ''}"


class ProgressLog:
    """
    Observe the polls of one wait and log what is new.

    :param log: Where to.
    :param what: What is waited for, e.g. ``run 1234``.
    """

    def __init__(self, log: logging.Logger | Any, what: str) -> None:
        self._log = log
        self._what = what
        self._last: tuple[str, Counts | None] | None = None
        self._said_at = 0.0
        self._first: tuple[float, int] | None = None
        self._unknown: set[str] = set()

    def observe(self, operation: Operation, now: float) -> None:
        """
        Look at a poll's result.

        :param operation: What was read.
        :param now: Epoch seconds.
        """
        if not operation.status.is_known and operation.status.word not in self._unknown:
            self._unknown.add(operation.status.word)
            self._log.warning(
                "%s has the status %r, which this provider does not know; it is waited on as in progress.",
                self._what,
                operation.status.word,
            )
        counts = operation.counts
        if counts is not None and self._first is None:
            self._first = (now, counts.done)
        present = (operation.status.word, counts)
        if present == self._last and now - self._said_at < _QUIET_FOR:
            return
        self._last, self._said_at = present, now
        self._log.info("%s is %s%s", self._what, operation.status, self._details(counts, now))

    def _details(self, counts: Counts | None, now: float) -> str:
        if counts is None:
            return "."
        text = f": {describe_counts(counts)}"
        if self._first is not None and now - self._first[0] >= _MIN_RATE_WINDOW:
            rate = (counts.done - self._first[1]) / (now - self._first[0])
            if rate > 0:
                text += f", {rate:.2g} items/s"
                if counts.pending:
                    text += f", about {_in_words(counts.pending / rate)} left"
        return text + "."


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
