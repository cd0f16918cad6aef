"""Wait for an operation or a run: one loop for both, blocking and deferred."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogError,
    GeoCatalogForeignUrl,
    GeoCatalogNotFound,
    GeoCatalogWaitTimeout,
)
from airflow_provider_geocatalog.api.flows.calls import DEFAULT_RETRIES, NO_RETRIES, Retries, attempt, call, read_json
from airflow_provider_geocatalog.api.http import Flow, Now, Pause, Request
from airflow_provider_geocatalog.api.models import Operation, Run

__all__ = ["PollPolicy", "get_operation", "get_run", "wait_for_operation", "wait_for_run"]

log = logging.getLogger(__name__)


class Waitable(Protocol):
    """Something whose progress is an operation: a run, or an operation itself."""

    @property
    def operation(self) -> Operation: ...


W = TypeVar("W", bound=Waitable)
Observer = Callable[[Operation, float], None]


@dataclass(frozen=True)
class PollPolicy:
    """
    How often to look, and how long to bear that looking fails.

    :param interval: Seconds between polls once a wait is no longer young.
    :param first: Seconds before the second poll; later ones grow by half each time up to ``interval``.
    :param outage: Seconds for which failing polls (throttled, 5xx, unreachable) are ridden out before the last error
        is raised.
    """

    interval: float = 30.0
    first: float = 2.0
    outage: float = 3600.0

    def delay(self, polls: int, retry_after: float | None = None) -> float:
        """Return the seconds until the next poll, spread by a tenth so that many waits do not beat as one."""
        if retry_after is not None:
            return max(retry_after, self.first)  # a 0 would make a tight loop
        wanted = min(self.interval, self.first * 1.5 ** min(polls, 40))
        return wanted * random.uniform(0.9, 1.1)


def get_operation(operation_id: str, *, url: str | None = None, once: bool = False) -> Flow[Operation]:
    """
    Read an operation.

    :param operation_id: Its id.
    :param url: Where the service said to poll it; used only on the connection's own origin.
    :param once: Make one attempt only; for callers that poll.
    """
    retries = NO_RETRIES if once else DEFAULT_RETRIES
    if url is not None:
        try:
            return (yield from _get_operation_at(url, operation_id, retries))
        except GeoCatalogForeignUrl as error:
            log.warning("%s Reading the operation by its id instead.", error)
    return Operation.from_json((yield from call(endpoints.GET_OPERATION, operation_id=operation_id, retries=retries)))


def _get_operation_at(url: str, operation_id: str, retries: Retries) -> Flow[Operation]:
    request = Request(endpoints.GET_OPERATION, {"operation_id": operation_id}, url=url)
    return Operation.from_json(read_json(request, (yield from attempt(request, retries))))


def get_run(collection_id: str, ingestion_id: str, run_id: str, *, once: bool = False) -> Flow[Run]:
    """
    Read an ingestion run.

    :param once: Make one attempt only; for callers that poll.
    """
    retries = NO_RETRIES if once else DEFAULT_RETRIES
    names: dict[str, Any] = {"collection_id": collection_id, "ingestion_id": ingestion_id, "run_id": run_id}
    return Run.from_json((yield from call(endpoints.GET_RUN, retries=retries, **names)))


def wait_for_operation(
    operation_id: str,
    *,
    url: str | None = None,
    policy: PollPolicy,
    deadline: float | None = None,
    observe: Observer | None = None,
) -> Flow[Operation]:
    """
    Poll an operation until it ends, however it ends.

    :param operation_id: Its id.
    :param url: Where the service said to poll it.
    :param policy: How often to look.
    :param deadline: Epoch seconds at which to give up; ``None`` waits for ever.
    :param observe: Called with the operation and the time after every successful poll.
    :raises GeoCatalogWaitTimeout: The deadline passed.
    :raises GeoCatalogError: The operation cannot be read.
    """

    def read() -> Flow[_Itself]:
        nonlocal url
        if url is not None:
            try:
                return _Itself((yield from _get_operation_at(url, operation_id, NO_RETRIES)))
            except GeoCatalogForeignUrl as error:
                log.warning("%s Polling the operation by its id instead.", error)
                url = None
        return _Itself((yield from get_operation(operation_id, once=True)))

    return (yield from _wait(read, f"operation {operation_id}", policy, deadline, observe)).operation


def wait_for_run(
    collection_id: str,
    ingestion_id: str,
    run_id: str,
    *,
    policy: PollPolicy,
    deadline: float | None = None,
    observe: Observer | None = None,
) -> Flow[Run]:
    """
    Poll an ingestion run until it ends, however it ends; parameters as :func:`wait_for_operation`.

    :raises GeoCatalogWaitTimeout: The deadline passed.
    :raises GeoCatalogError: The run cannot be read.
    """

    def read() -> Flow[Run]:
        return (yield from get_run(collection_id, ingestion_id, run_id, once=True))

    return (yield from _wait(read, f"run {run_id} of collection {collection_id!r}", policy, deadline, observe))


@dataclass(frozen=True)
class _Itself:
    operation: Operation


def _wait(
    read: Callable[[], Flow[W]],
    what: str,
    policy: PollPolicy,
    deadline: float | None,
    observe: Observer | None,
) -> Flow[W]:
    polls = 0
    failing_since: float | None = None
    last: Operation | None = None
    while True:
        retry_after = None
        now: float
        try:
            found = yield from read()
        except GeoCatalogError as error:
            # Not found right after creation is the read side lagging behind; later it is final.
            if not error.retryable and not (isinstance(error, GeoCatalogNotFound) and last is None and polls < 3):
                raise
            now = yield Now()
            if failing_since is None:
                failing_since = now
                log.warning("Polling %s fails: %s Going on for up to %.0f s.", what, error, policy.outage)
            if now - failing_since >= policy.outage:
                raise
            retry_after = error.retry_after
        else:
            now = yield Now()
            if failing_since is not None:
                log.info("Polling %s works again after %.0f s.", what, now - failing_since)
                failing_since = None
            last = found.operation
            if observe is not None:
                observe(last, now)
            if last.status.is_final:
                return found
        if deadline is not None and now >= deadline:
            raise _timed_out(what, last)
        delay = policy.delay(polls, retry_after)
        if deadline is not None:
            delay = min(delay, max(0.0, deadline - now))
        yield Pause(delay)
        polls += 1


def _timed_out(what: str, last: Operation | None) -> GeoCatalogWaitTimeout:
    summary: dict[str, Any] = last.to_summary() if last else {}
    how_far = "its state could not be read"
    if last is not None:
        how_far = f"it is {last.status}"
        if last.counts:
            how_far += f" with {last.counts.done} of {last.counts.total} items done, {last.counts.failed} failed"
    return GeoCatalogWaitTimeout(
        f"{what} did not end in time: {how_far}",
        summary=summary,
        hint="Raise the task's timeout, or look at the run in the GeoCatalog.",
    )
