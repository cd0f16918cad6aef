"""What one wait knows and decides: when to look again, what to bear, when to give up. It does no I/O."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogNotFound, GeoCatalogWaitTimeout
from airflow_provider_geocatalog.api.models import Operation
from airflow_provider_geocatalog.api.progress import describe_counts

__all__ = ["CANCELED_WITHIN", "Observer", "PollPolicy", "Waiting", "timed_out"]

log = logging.getLogger(__name__)

#: Called with the operation and the time, in epoch seconds, after every poll that worked.
Observer = Callable[[Operation, float], None]

CANCELED_WITHIN = 300.0  # seconds for a cancelled operation to end; some never do (geocatalog-api 6.2)
_SPREAD = 0.1  # of a pause, up or down, so that many waits do not beat as one
_AGE_SHARE = 0.5  # of a wait's age until the next poll: a run that took an hour so far will not end this second
_LAGGING_READS = 3  # polls that may find nothing at the beginning


@dataclass(frozen=True)
class PollPolicy:
    """
    How often to look, and how long to bear that looking fails.

    The pause grows with the age of the wait, from ``first`` to ``interval``.

    :param interval: Seconds between polls of an old wait, at most.
    :param first: Seconds between polls of a young wait, at least.
    :param outage: Seconds for which failing polls are ridden out before the last error is raised.
    """

    interval: float = 30.0
    first: float = 2.0
    outage: float = 3600.0

    def delay(self, age: float, retry_after: float | None = None) -> float:
        """
        Return the seconds until the next poll.

        :param age: Seconds since the wait began.
        :param retry_after: What the service asked for, which counts more than anything else.
        """
        if retry_after is not None and retry_after > 0:
            return retry_after  # a 0 would make a tight loop
        wanted = min(self.interval, max(self.first, age * _AGE_SHARE))
        return wanted * random.uniform(1 - _SPREAD, 1 + _SPREAD)


class Waiting:
    """
    One wait for an operation. Whoever drives it reads the operation and tells it what came of that.

    :param what: What is waited for, for messages.
    :param policy: How often to look, and what to bear.
    :param started: Epoch seconds.
    :param deadline: Epoch seconds at which to give up; ``None`` waits for ever.
    :param observe: Called after every poll that worked.
    """

    # There are thousands of these in a triggerer.
    __slots__ = (
        "_failing_since",
        "_observe",
        "_polls",
        "_retry_after",
        "deadline",
        "last",
        "policy",
        "started",
        "what",
    )

    def __init__(
        self,
        what: str,
        policy: PollPolicy,
        *,
        started: float,
        deadline: float | None = None,
        observe: Observer | None = None,
    ) -> None:
        self.what, self.policy, self.started, self.deadline = what, policy, started, deadline
        self.last: Operation | None = None
        self._observe = observe
        self._polls = 0
        self._failing_since: float | None = None
        self._retry_after: float | None = None

    def saw(self, operation: Operation, now: float) -> bool:
        """
        Take note of a poll that worked.

        :return: Whether the operation has ended, and with it the wait.
        """
        if self._failing_since is not None:
            log.info("Polling %s works again after %.0f s.", self.what, now - self._failing_since)
        self._failing_since = self._retry_after = None
        self._polls += 1
        self.last = operation
        if self._observe is not None:
            self._observe(operation, now)
        return operation.status.is_final

    def failed(self, error: GeoCatalogError, now: float) -> None:
        """
        Take note of a poll that failed.

        :raises GeoCatalogError: The same error, if it is not to be borne, or has been for too long.
        """
        if not self._is_bearable(error):
            raise error
        self._polls += 1
        if self._failing_since is None:
            self._failing_since = now
            log.warning("Polling %s fails: %s Going on for up to %.0f s.", self.what, error, self.policy.outage)
        over_at = self._failing_since + self.policy.outage
        if now >= over_at:
            raise error
        self._retry_after = None if error.retry_after is None else min(error.retry_after, over_at - now)

    def _is_bearable(self, error: GeoCatalogError) -> bool:
        # Not found at the beginning is the read side lagging behind; later it is final.
        lags = isinstance(error, GeoCatalogNotFound) and self.last is None and self._polls < _LAGGING_READS
        return error.retryable or lags

    def pause(self, now: float) -> float:
        """
        Return the seconds until the next poll.

        :raises GeoCatalogWaitTimeout: The time is over.
        """
        if self.deadline is not None and now >= self.deadline:
            raise self.timed_out()
        delay = self.policy.delay(now - self.started, self._retry_after)
        return delay if self.deadline is None else min(delay, self.deadline - now)

    def timed_out(self) -> GeoCatalogWaitTimeout:
        """Return the error that says how far the operation was."""
        limit = None if self.deadline is None else self.deadline - self.started
        return timed_out(self.what, self.last, limit=limit)


def timed_out(what: str, operation: Operation | None, *, limit: float | None = None) -> GeoCatalogWaitTimeout:
    """
    Return the error that says how far an operation was when the time was over.

    :param what: What was waited for.
    :param operation: As it was seen last.
    :param limit: Seconds that it was waited for.
    """
    how_far = "its state could not be read"
    summary: dict[str, Any] = {}
    if operation is not None:
        how_far, summary = f"it is {operation.status}", operation.to_summary()
        if operation.counts:
            how_far += f" with {describe_counts(operation.counts)}"
    within = "in time" if limit is None else f"within {limit:.0f} s"
    return GeoCatalogWaitTimeout(
        f"{what} did not end {within}: {how_far}",
        summary=summary,
        hint="Raise the task's timeout, or look at the run in the GeoCatalog.",
    )
