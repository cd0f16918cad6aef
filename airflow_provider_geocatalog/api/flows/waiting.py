"""Wait for an operation or a run, and for what it was to bring about."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import (
    DEFAULT_RETRIES,
    NO_RETRIES,
    Retries,
    Started,
    attempt,
    located,
    read_json,
)
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogError,
    GeoCatalogForeignUrl,
    GeoCatalogInvalidInput,
    GeoCatalogNotFound,
    GeoCatalogWaitTimeout,
)
from airflow_provider_geocatalog.api.http import Flow, Now, Pause, Request
from airflow_provider_geocatalog.api.models import Operation, Run
from airflow_provider_geocatalog.api.numbers import seconds
from airflow_provider_geocatalog.api.operations import operations as service
from airflow_provider_geocatalog.api.operations.ingestions import get_run as read_run
from airflow_provider_geocatalog.api.outcomes import require_success
from airflow_provider_geocatalog.api.waiting import Observer, PollPolicy, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Finished", "finish", "get_operation", "get_run", "wait_for_operation", "wait_for_run"]

log = logging.getLogger(__name__)


class Waitable(Protocol):
    """Something whose progress is an operation: a run, or an operation itself."""

    @property
    def operation(self) -> Operation: ...


W = TypeVar("W", bound=Waitable)
DEFAULT_POLICY = PollPolicy()


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
    return (yield from service.get_operation(operation_id, retries=retries))


def _get_operation_at(url: str, operation_id: str, retries: Retries) -> Flow[Operation]:
    request = Request(endpoints.GET_OPERATION, {"operation_id": operation_id}, url=url)
    response = yield from attempt(request, retries)
    with located(request, response):
        return Operation.from_json(read_json(request, response))


def get_run(collection_id: str, ingestion_id: str, run_id: str, *, once: bool = False) -> Flow[Run]:
    """
    Read an ingestion run.

    :param once: Make one attempt only; for callers that poll.
    """
    retries = NO_RETRIES if once else DEFAULT_RETRIES
    return (yield from read_run(collection_id, ingestion_id, run_id, retries=retries))


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


@dataclass(frozen=True)
class Finished:
    """
    What a call that may start a long-running operation has led to.

    :param operation: The operation as it ended; ``None`` if there was none to wait for.
    :param resource: What was written, read again from the service; ``None`` after a deletion, and for several items.
    """

    operation: Operation | None
    resource: dict[str, Any] | None = None


def finish(
    started: Started,
    *,
    policy: PollPolicy = DEFAULT_POLICY,
    deadline: float | None = None,
    observe: Observer | None = None,
) -> Flow[Finished]:
    """
    Wait until what was started has succeeded and can be seen: the resource is read again, or is gone.

    :param started: The answer of an operation such as ``create_collection`` or ``delete_item``.
    :param policy: How often to look.
    :param deadline: Epoch seconds at which to give up; ``None`` waits for ever.
    :param observe: Called with the operation and the time after every successful poll.
    :raises GeoCatalogOperationError: The operation failed or was cancelled.
    :raises GeoCatalogWaitTimeout: The deadline passed, or the read side does not show what the write side has done.
    """
    operation = started.operation
    if operation is not None:
        operation = yield from wait_for_operation(
            operation.operation_id, url=started.url, policy=policy, deadline=deadline, observe=observe
        )
        require_success(operation, what=f"{operation.type or 'operation'} {operation.operation_id}")
    if started.resource is None:
        return Finished(operation)
    return Finished(operation, (yield from _read_back(started.resource, gone=started.removes, deadline=deadline)))


def _policy(poll_interval: float) -> PollPolicy:
    interval = seconds(poll_interval, "poll_interval", above_zero=True)
    return PollPolicy(interval=interval, first=min(DEFAULT_POLICY.first, interval))


def _deadline(timeout: float | None) -> Flow[float | None]:
    if timeout is None:
        return None
    limit = seconds(timeout, "timeout")
    now: float = yield Now()
    return now + limit


def complete(started: Started, *, timeout: float | None = None, poll_interval: float = 30.0) -> Flow[Finished]:
    """
    Wait until what was started has succeeded and can be seen: the resource is read again, or is gone.

    :param started: The answer of an operation such as ``create_collection`` or ``delete_item``.
    :param timeout: Seconds after which to give up; ``None`` waits for ever.
    :param poll_interval: Seconds between polls, once the wait is no longer young.
    :return: The operation as it ended, and the resource as it is then.
    :raises GeoCatalogOperationError: The operation failed or was cancelled.
    :raises GeoCatalogWaitTimeout: The time is over.
    """
    if not isinstance(started, Started):
        raise GeoCatalogInvalidInput(f"what is waited for is a Started, not {type(started).__name__}")
    policy, deadline = _policy(poll_interval), (yield from _deadline(timeout))
    return (yield from finish(started, policy=policy, deadline=deadline))


def complete_operation(
    operation_id: str, *, timeout: float | None = None, poll_interval: float = 30.0, max_failed_items: int = 0
) -> Flow[Operation]:
    """
    Wait until an operation has succeeded.

    :param operation_id: GUID of the operation, or of a run.
    :param timeout: Seconds after which to give up; ``None`` waits for ever.
    :param poll_interval: Seconds between polls, once the wait is no longer young.
    :param max_failed_items: Failed items that are tolerated.
    :return: The operation as it ended.
    :raises GeoCatalogOperationError: It failed, was cancelled, or more items failed than are tolerated.
    :raises GeoCatalogWaitTimeout: The time is over.
    """
    policy, deadline = _policy(poll_interval), (yield from _deadline(timeout))
    operation = yield from wait_for_operation(operation_id, policy=policy, deadline=deadline)
    require_success(operation, what=f"operation {operation_id}", max_failed_items=max_failed_items)
    return operation


def complete_run(
    collection_id: str,
    ingestion_id: str,
    run_id: str,
    *,
    timeout: float | None = None,
    poll_interval: float = 30.0,
    max_failed_items: int = 0,
) -> Flow[Run]:
    """
    Wait until an ingestion run has succeeded.

    :param collection_id: The collection.
    :param ingestion_id: GUID of the definition.
    :param run_id: GUID of the run.
    :param timeout: Seconds after which to give up; ``None`` waits for ever.
    :param poll_interval: Seconds between polls, once the wait is no longer young.
    :param max_failed_items: Failed items that are tolerated.
    :return: The run as it ended.
    :raises GeoCatalogOperationError: It failed, was cancelled, or more items failed than are tolerated.
    :raises GeoCatalogWaitTimeout: The time is over.
    """
    policy, deadline = _policy(poll_interval), (yield from _deadline(timeout))
    names = collection_id, ingestion_id, run_id
    run = yield from wait_for_run(*names, policy=policy, deadline=deadline)
    require_success(
        run.operation, what=f"run {run_id} of collection {collection_id!r}", max_failed_items=max_failed_items
    )
    return run


#: Seconds for the read side to show what the write side has done. Deleted items are documented to take one to two
#: minutes (geocatalog-api 7.5).
_VISIBLE_WITHIN, _GONE_WITHIN = 30.0, 180.0


def _read_back(request: Request, *, gone: bool, deadline: float | None) -> Flow[dict[str, Any] | None]:
    started_at: float = yield Now()
    give_up = started_at + (_GONE_WITHIN if gone else _VISIBLE_WITHIN)
    if deadline is not None:
        give_up = min(give_up, deadline)
    looks = 0
    while True:
        delay = min(5.0, 0.5 * 1.5 ** min(looks, 10))
        still = "is still there" if gone else "cannot be read"
        try:
            resource: dict[str, Any] | None = read_json(request, (yield from attempt(request, NO_RETRIES)))
        except GeoCatalogNotFound:
            if gone:
                return None
        except GeoCatalogError as error:
            if not error.retryable:
                raise
            still = f"cannot be read: {error}"
            delay = max(delay, error.retry_after or 0.0)
        else:
            if not gone:
                return resource
        now: float = yield Now()
        if now >= give_up:
            raise GeoCatalogWaitTimeout(
                f"the operation succeeded, but {now - started_at:.0f} s later {request.path} {still}",
                hint="The service's read side lags behind; look again later.",
            )
        yield Pause(min(delay, give_up - now))
        looks += 1


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
    waiting = Waiting(what, policy, started=(yield Now()), deadline=deadline, observe=observe)
    while True:
        try:
            found = yield from read()
        except GeoCatalogError as error:
            now: float = yield Now()
            waiting.failed(error, now)
        else:
            now = yield Now()
            if waiting.saw(found.operation, now):
                return found
        yield Pause(waiting.pause(now))
