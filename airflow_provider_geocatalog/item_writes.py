"""Write items by one operation each, many at once: start them, wait for all of them, tell of each what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import (
    GeoCatalogAuthenticationError,
    GeoCatalogError,
    GeoCatalogPermissionError,
)
from airflow_provider_geocatalog.api.flows.ingestion import cancel_if_active
from airflow_provider_geocatalog.api.flows.waiting import get_operation
from airflow_provider_geocatalog.api.outcomes import require_success
from airflow_provider_geocatalog.api.waiting import PollPolicy, Waiting
from airflow_provider_geocatalog.shared_waits import SharedWaits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from airflow_provider_geocatalog.api.calls import Started
    from airflow_provider_geocatalog.api.http import Flow
    from airflow_provider_geocatalog.api.models import Operation
    from airflow_provider_geocatalog.client import GeoCatalogClient

__all__ = ["ItemOutcome", "ItemWrite", "operation_waiter", "write_items"]

log = logging.getLogger(__name__)

_REQUESTS_AT_ONCE = 16  # the connection's rate limit decides how many there are in a second
_OPERATIONS_AT_ONCE = 1000  # for which memory is needed, and which a stopped task has to cancel
_FAILURES_IN_A_ROW = 10  # after which the service is taken to be down, each having been tried again for minutes
_STARTS_END_WITHIN = 10.0  # seconds for requests that are under way when everything is stopped


@dataclass(frozen=True)
class ItemWrite:
    """
    An item to write.

    :param start: Makes the flow that starts the operation.
    """

    item_id: str
    start: Callable[[], Flow[Started]]


@dataclass(frozen=True)
class ItemOutcome:
    """
    What came of writing an item.

    :param error: Why it failed; ``None`` if it was written.
    """

    item_id: str
    error: GeoCatalogError | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a failure as a JSON object."""
        error = self.error
        return {
            "id": self.item_id,
            "code": error.code if error else None,
            "message": error.message if error else None,
            "hint": error.hint if error else None,
        }


def operation_waiter(
    client: GeoCatalogClient, connect: Callable[[], Awaitable[GeoCatalogClient]], policy: PollPolicy
) -> Callable[[Started], Awaitable[Operation]]:
    """
    Return what waits for operations, many with few requests; for one event loop.

    :param client: Knows the time.
    :param connect: Returns the client of the connection as it is now.
    :param policy: How often to look, and what to bear.
    """
    waits = SharedWaits(connect, client.clock)

    async def wait(started: Started) -> Operation:
        operation = started.operation
        assert operation is not None  # noqa: S101
        if operation.status.is_final:
            return operation
        operation_id = operation.operation_id
        waiting = Waiting(f"operation {operation_id}", policy, started=client.clock.time())
        return await waits.wait(
            operation_id,
            waiting,
            lambda: get_operation(operation_id, url=started.url, once=True),
            first_delay=policy.first,
        )

    return wait


async def write_items(
    client: GeoCatalogClient,
    writes: Iterable[ItemWrite] | AsyncIterable[ItemWrite],
    *,
    wait: Callable[[Started], Awaitable[Operation]],
    observe: Callable[[ItemOutcome], None],
    cancels: Callable[[], bool] = lambda: True,
    requests_at_once: int = _REQUESTS_AT_ONCE,
    operations_at_once: int = _OPERATIONS_AT_ONCE,
) -> None:
    """
    Write items, each by an operation of its own. One that fails is told, and the others go on.

    If it is cancelled, requests that are under way are let end, and every operation that has not ended is cancelled.

    :param client: Sends the requests, within the connection's rate limit.
    :param writes: What to write; taken when there is room for another operation.
    :param wait: Waits for an operation, such as :func:`operation_waiter`.
    :param observe: Told of every item, once.
    :param cancels: Asked when it is cancelled, whether the operations are to be cancelled as well.
    :param requests_at_once: Requests that start operations at the same time.
    :param operations_at_once: Operations that are waited for at the same time.
    :raises GeoCatalogError: No item can be written any more: the credential is refused, or the service is down. What
        was started goes on.
    """
    writer = _Writer(client, wait, observe, requests_at_once, operations_at_once)
    try:
        await writer.write(writes)
    except asyncio.CancelledError:
        await writer.end(cancel=cancels())
        raise
    except BaseException:
        await writer.end(cancel=False)
        raise


class _Writer:
    def __init__(
        self,
        client: GeoCatalogClient,
        wait: Callable[[Started], Awaitable[Operation]],
        observe: Callable[[ItemOutcome], None],
        requests_at_once: int,
        operations_at_once: int,
    ) -> None:
        self._client, self._wait, self._observe = client, wait, observe
        self._requests = asyncio.Semaphore(requests_at_once)
        self._room = asyncio.Semaphore(operations_at_once)
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: set[asyncio.Task[Started]] = set()
        self._active: set[str] = set()
        self._failures_in_a_row = 0
        self._failure: BaseException | None = None

    async def write(self, writes: Iterable[ItemWrite] | AsyncIterable[ItemWrite]) -> None:
        loop = asyncio.get_running_loop()
        async for write in _each(writes):
            await self._room.acquire()
            if self._failure is not None:
                break
            task = loop.create_task(self._write(write))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        if self._tasks and self._failure is None:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        if self._failure is not None:
            raise self._failure

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()

    async def _write(self, write: ItemWrite) -> None:
        try:
            started = await self._start(write)
            if started.operation is not None:
                self._active.add(started.operation.operation_id)
                operation = await self._wait(started)
                self._active.discard(operation.operation_id)
                require_success(operation, what=f"operation {operation.operation_id} on item {write.item_id!r}")
        except GeoCatalogError as error:
            self._bear(error)
            self._observe(ItemOutcome(write.item_id, error))
        else:
            self._observe(ItemOutcome(write.item_id))

    async def _start(self, write: ItemWrite) -> Started:
        async with self._requests:
            starting = asyncio.get_running_loop().create_task(self._client.arun(write.start()))
            self._starting.add(starting)
            starting.add_done_callback(self._starting.discard)
            try:
                # What a request that is under way starts has to be known.
                started = await asyncio.shield(starting)
            except GeoCatalogError as error:
                self._failures_in_a_row = self._failures_in_a_row + 1 if error.retryable else 0
                raise
            self._failures_in_a_row = 0
            return started

    def _bear(self, error: GeoCatalogError) -> None:
        """Raise an error that is about all items."""
        is_refused = isinstance(error, GeoCatalogAuthenticationError | GeoCatalogPermissionError)
        if is_refused or self._failures_in_a_row >= _FAILURES_IN_A_ROW:
            raise error

    async def end(self, *, cancel: bool) -> None:
        """End everything; let requests that are under way end by themselves, for a while."""
        starting = set(self._starting)
        for task in self._tasks:
            task.cancel()
        if starting:
            done, late = await asyncio.wait(starting, timeout=_STARTS_END_WITHIN)
            for request in late:
                request.cancel()
            operations = [request.result().operation for request in done if _has_result(request)]
            self._active |= {one.operation_id for one in operations if one is not None}
        if self._tasks:
            await asyncio.wait(self._tasks)
        if not self._active:
            return
        if not cancel:
            log.warning("%d operations go on in the service.", len(self._active))
            return
        log.warning("Cancelling %d operations.", len(self._active))
        await asyncio.gather(*(self._cancel(operation_id) for operation_id in self._active))

    async def _cancel(self, operation_id: str) -> None:
        async with self._requests:
            try:
                await self._client.arun(cancel_if_active(operation_id))
            except GeoCatalogError as error:
                log.warning("Operation %s may still be running: it could not be cancelled: %s", operation_id, error)


def _has_result(task: asyncio.Task[Started]) -> bool:
    return not task.cancelled() and task.exception() is None


async def _each(writes: Iterable[ItemWrite] | AsyncIterable[ItemWrite]) -> AsyncIterator[ItemWrite]:
    if isinstance(writes, AsyncIterable):
        async for write in writes:
            yield write
    else:
        for write in writes:
            yield write
