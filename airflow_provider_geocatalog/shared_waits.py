"""
All waits on one GeoCatalog in one event loop. Many are served by one list of what is active, so that the number of
requests grows with the pages of that list and not with the number of waits; few are read one by one.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import heapq
import itertools
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import NO_RETRIES, pages
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogAuthenticationError,
    GeoCatalogError,
    GeoCatalogPermissionError,
    GeoCatalogServerError,
)
from airflow_provider_geocatalog.api.models import Operation
from airflow_provider_geocatalog.api.statuses import ACTIVE_WORDS
from airflow_provider_geocatalog.client import SystemClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from airflow_provider_geocatalog.api.http import Flow, Pages
    from airflow_provider_geocatalog.api.waiting import Waiting
    from airflow_provider_geocatalog.client import Clock, GeoCatalogClient

__all__ = ["SharedWaits"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_PAGE = 200  # operations; the service is known to answer with as many (geocatalog-api 4.2)
_PAGE_TRIES = 3  # for a page that the service fails to give; without one the whole list is in vain
_WORTH_A_PAGE = 10  # operations to look for, for which another page is cheaper than reading each
_LOOKAHEAD = 0.3  # of a pause: waits that are due so soon are served by a list that is read now
_READS_AT_ONCE = 8
_MISSED = 2  # lists that may lack an active operation; after that it is read by its id
_FAILED_LISTS = 3  # in a row, after which it is asked whether reading by id still works
# Seconds:
_PAGE_PAUSE = 1.0  # before a page is asked for again
_AFTER_LIST = 1.0  # until it is looked again whether a list that was being read is done
_LAST_LOOK = 10.0  # for which a look may go on beyond the deadline
_LONGEST_LOOK = 300.0  # that a look can take where many wait for their turn
_LISTS_AGAIN = 600.0  # after which what was learned about lists is put to the test again
_LONGEST_QUIET = 3600.0  # that a Retry-After holds for everybody
_CONNECTION_KEPT = 5.0  # for which new waits take the connection as it was read for others
_REFUSAL_KEPT = 1.0  # for which a connection that was read is not read again because its credential is refused


@dataclass(eq=False, slots=True)
class _Wait:
    """
    One of the waits.

    :param context: That of the task that waits: the log lines of a wait go where its task's go.
    :param looked: Epoch seconds of the last look.
    :param due: Epoch seconds of the next one; while it is being looked at, of giving up.
    :param busy: Whether it is being looked at.
    :param missed: Lists in a row that lacked it although it was active.
    """

    operation_id: str
    waiting: Waiting
    read: Callable[[], Flow[Operation]]
    future: asyncio.Future[Operation]
    looked: float
    due: float = math.inf
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    busy: bool = False
    missed: int = 0

    @property
    def is_listed(self) -> bool:
        return self.missed < _MISSED

    def is_over_at(self, now: float) -> bool:
        return self.waiting.deadline is not None and now >= self.waiting.deadline

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def _operations(**query: str) -> Pages[Any]:
    """Return operations as JSON values, newest first; a list has many that nobody waits for."""
    whole = {"$top": str(_PAGE), **query}
    return pages(endpoints.LIST_OPERATIONS, lambda entry: entry, query=whole, retries=NO_RETRIES)


class SharedWaits:
    """
    Wait for operations of one GeoCatalog, on one event loop.

    :param connect: Returns the client of the connection as it is now. It is called for new waits, and again where the
        service does not accept the credential any more.
    :param clock: The time.
    """

    def __init__(self, connect: Callable[[], Awaitable[GeoCatalogClient]], clock: Clock | None = None) -> None:
        self._connect = connect
        self._clock = clock or SystemClock()
        self._client: GeoCatalogClient | None = None
        self._connecting = asyncio.Lock()
        self._connected_at = -math.inf
        self._waits: set[_Wait] = set()
        #: Heap of moments and waits; an entry whose moment is not the wait's own any more counts for nothing.
        self._agenda: list[tuple[float, int, _Wait]] = []
        self._numbers = itertools.count()
        self._wake = asyncio.Event()
        self._asleep_until = -math.inf
        self._worker: asyncio.Task[None] | None = None
        self._looks: set[asyncio.Task[None]] = set()
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._is_listing = False
        self._failed_lists = 0
        self._no_lists_before = -math.inf
        self._pages = 0  # requests that the last lists took
        self._pages_known_until = -math.inf
        self._quiet_until = -math.inf
        self._refusal: GeoCatalogError | None = None  # the answer that asked for quiet

    def __len__(self) -> int:
        return len(self._waits)

    async def wait(
        self, operation_id: str, waiting: Waiting, read: Callable[[], Flow[Operation]], *, first_delay: float = 0.0
    ) -> Operation:
        """
        Wait until an operation has ended, however it ended.

        :param operation_id: Its id, by which lists name it.
        :param waiting: What the wait knows and decides.
        :param read: Makes the flow that reads it by its id, in one attempt.
        :param first_delay: Seconds until the first look.
        :return: The operation as it ended.
        :raises GeoCatalogWaitTimeout: The deadline passed.
        :raises GeoCatalogError: The operation cannot be read.
        """
        await self._connected(self._client, _CONNECTION_KEPT)  # what is wrong with it is this wait's own matter
        loop, now = asyncio.get_running_loop(), self._clock.time()
        wait = _Wait(operation_id, waiting, read, loop.create_future(), now)
        self._waits.add(wait)
        self._plan(wait, now + first_delay if waiting.deadline is None else min(now + first_delay, waiting.deadline))
        if self._worker is None or self._worker.done():
            # In a context of its own: what it logs belongs to no task.
            self._worker = loop.create_task(self._work(), context=contextvars.Context())
        try:
            return await wait.future
        finally:
            self._waits.discard(wait)
            if not self._waits:
                self._wake.set()

    # --- who is looked at when ----------------------------------------------------------------------------------------

    def _plan(self, wait: _Wait, moment: float) -> None:
        wait.due = moment
        heapq.heappush(self._agenda, (moment, next(self._numbers), wait))
        if moment < self._asleep_until:
            self._wake.set()

    def _next_moment(self) -> float:
        """Return when the next thing is due; what counts for nothing any more is forgotten."""
        while self._agenda:
            moment, _, wait = self._agenda[0]
            if moment == wait.due and not wait.future.done():
                return moment
            heapq.heappop(self._agenda)
        return math.inf

    async def _work(self) -> None:
        try:
            while self._waits:
                self._wake.clear()
                self._look_around()
                await self._sleep_until(self._next_moment())
        except asyncio.CancelledError:
            for wait in self._waits:
                wait.future.cancel()
            raise
        except Exception as error:
            for wait in self._waits:
                wait.fail(error)
            raise
        finally:
            self._agenda.clear()

    def _look_around(self) -> None:
        """Have everything looked at that is due."""
        now, due = self._clock.time(), []
        while self._next_moment() <= now:
            _, _, wait = heapq.heappop(self._agenda)
            if wait.busy:
                wait.fail(wait.waiting.timed_out())
            elif self._is_listing and wait.is_listed and not wait.is_over_at(now):
                self._plan(wait, now + _AFTER_LIST)
            else:
                due.append(wait)
        if due and not self._is_listing and now >= self._no_lists_before:
            listed = [wait for wait in self._waits if wait.is_listed and not wait.busy and not wait.future.done()]
            soon = sum(wait.due <= now + _LOOKAHEAD * (wait.due - wait.looked) for wait in listed)
            if now >= self._pages_known_until:
                self._pages = len(ACTIVE_WORDS)
            if soon > self._pages:
                self._is_listing = True
                self._start(self._list(listed, soon), listed)
        for wait in due:
            if not wait.busy:
                self._start(self._read(wait), [wait])

    def _start(self, look: Coroutine[Any, Any, Any], waits: list[_Wait]) -> None:
        now = self._clock.time()
        for wait in waits:
            wait.busy, wait.due = True, math.inf
            if wait.is_over_at(now + _LONGEST_LOOK):
                self._plan(wait, max(now, wait.waiting.deadline or 0.0) + _LAST_LOOK)

        async def guarded() -> None:
            try:
                await look
            except Exception as error:
                for wait in waits:
                    if wait.busy:
                        wait.fail(error)

        task = asyncio.get_running_loop().create_task(guarded())
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def _sleep_until(self, moment: float) -> None:
        """Let time pass, at most until something is planned for an earlier moment."""
        seconds = moment - self._clock.time()
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._asleep_until = moment
        loop = asyncio.get_running_loop()
        until: set[asyncio.Task[Any]] = {loop.create_task(self._wake.wait())}
        if seconds < math.inf:
            until.add(loop.create_task(self._clock.asleep(seconds)))
        try:
            await asyncio.wait(until, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._asleep_until = -math.inf
            for task in until:
                task.cancel()

    # --- looking ------------------------------------------------------------------------------------------------------

    async def _list(self, waits: list[_Wait], budget: int) -> None:
        """Look at many waits by listing operations, with no more requests than ``budget``."""
        missing = set(waits)
        try:
            is_complete = await self._read_lists(missing, budget)
        except GeoCatalogError as error:
            if await self._are_to_be_told(error, missing):
                for wait in missing:
                    self._tell(wait, wait.waiting.failed, copy.copy(error))
                return
            is_complete = False
        finally:
            self._is_listing = False
        await asyncio.gather(*(self._read(wait, was_missed=is_complete) for wait in missing))

    async def _read_lists(self, missing: set[_Wait], budget: int) -> bool:
        """Tell waits what lists say of them, out of ``missing``; return whether the lists were read to their ends."""
        sought: dict[str, list[_Wait]] = {}
        for wait in self._waits:  # those that lists had lacked may be in this one
            sought.setdefault(wait.operation_id, []).append(wait)
        is_complete, requests = True, 0
        # What is active, in the order in which operations move on, so that none is between two lists.
        for word in ACTIVE_WORDS:
            read, is_at_end = await self._read_pages(_operations(status=word), sought, missing, budget - requests)
            requests, is_complete = requests + read, is_complete and is_at_end
        self._failed_lists = 0
        self._pages, self._pages_known_until = requests, self._clock.time() + _LISTS_AGAIN
        if len(missing) > requests:  # many have ended at once: those are among the newest
            await self._read_pages(_operations(), sought, missing, len(missing) // _WORTH_A_PAGE)
        return is_complete

    async def _read_pages(
        self, listed: Pages[Any], sought: dict[str, list[_Wait]], missing: set[_Wait], budget: int
    ) -> tuple[int, bool]:
        """Return the requests that were made, and whether there was nothing left to look for."""
        requests = 0
        while missing and requests < budget:
            page = await self._next_page(listed)
            if page is None:
                return requests, True
            requests += 1
            for entry in page:
                for wait in sought.pop(Operation.id_of(entry), ()):
                    last = wait.waiting.last
                    # Most have not changed, and reading an operation is most of what this costs.
                    operation = last if last is not None and last.raw == entry else Operation.from_json(entry)
                    missing.discard(wait)
                    wait.missed = 0
                    self._tell(wait, wait.waiting.saw, operation)
        return requests, not missing

    async def _next_page(self, listed: Pages[Any]) -> list[Any] | None:
        for _ in range(_PAGE_TRIES - 1):
            try:
                return await self._run(listed.next_page)
            except GeoCatalogServerError as error:
                if not error.retryable or error.retry_after:
                    raise
            await self._clock.asleep(_PAGE_PAUSE)
        return await self._run(listed.next_page)

    async def _are_to_be_told(self, error: GeoCatalogError, missing: set[_Wait]) -> bool:
        """
        Return whether what a list failed with is about the service as a whole, so that every wait is to know.

        Otherwise it is about lists, and each wait is read by its id for a while.
        """
        if isinstance(error, GeoCatalogAuthenticationError):
            return True
        if error.retryable:
            self._failed_lists += 1
            if self._failed_lists < _FAILED_LISTS or not missing or not await self._read(missing.pop()):
                return True
        self._failed_lists = 0
        self._no_lists_before = self._clock.time() + _LISTS_AGAIN
        log.warning("Operations cannot be listed, so each is read by its id for a while: %s", error)
        return False

    async def _read(self, wait: _Wait, *, was_missed: bool = False) -> bool:
        """Look at one wait, and return whether it could be read."""
        async with self._reads:
            if wait.future.done():
                return True
            try:
                operation = await self._run(wait.read)
            except GeoCatalogError as error:
                self._tell(wait, wait.waiting.failed, error)
                return False
        wait.missed += was_missed and not operation.status.is_final
        self._tell(wait, wait.waiting.saw, operation)
        return True

    def _tell(self, wait: _Wait, news: Callable[[Any, float], bool | None], about: Any) -> None:
        """Tell a wait what came of a look; if it is not over, the next look is planned."""
        if wait.future.done():
            return
        now = self._clock.time()
        try:
            if wait.context.run(news, about, now):
                wait.future.set_result(about)
                return
            pause = wait.context.run(wait.waiting.pause, now)
        except Exception as error:
            wait.fail(error)
            return
        wait.busy, wait.looked = False, now
        self._plan(wait, now + pause)

    # --- the connection -----------------------------------------------------------------------------------------------

    async def _connected(self, known: GeoCatalogClient | None, age: float) -> GeoCatalogClient:
        """Return the client; if it still is the one that is known, and as old as this, of the connection as it is."""
        async with self._connecting:  # thousands of waits can begin, or be refused, at once
            if self._client is None or (self._client is known and self._clock.time() - self._connected_at >= age):
                self._client = await self._connect()
                self._connected_at = self._clock.time()
            return self._client

    async def _run(self, make: Callable[[], Flow[T]]) -> T:
        """Carry a flow out; where the credential is not accepted, once more with the connection as it is now."""
        client = await self._connected(None, math.inf)
        try:
            return await self._ask(client, make())
        except (GeoCatalogAuthenticationError, GeoCatalogPermissionError) as error:
            if error.retryable:
                raise
            try:
                renewed = await self._connected(client, _REFUSAL_KEPT)
            except Exception:
                log.exception("The connection cannot be read again.")
                raise error from None
            if renewed is client:
                raise
            log.info("The connection has changed; going on with what it is now. (%s)", error)
        return await self._ask(renewed, make())

    async def _ask(self, client: GeoCatalogClient, flow: Flow[T]) -> T:
        """Carry a flow out, unless the service has asked for quiet; then its refusal is raised again."""
        now = self._clock.time()
        if self._refusal is not None and now < self._quiet_until:
            refusal = copy.copy(self._refusal)
            refusal.retry_after = self._quiet_until - now
            raise refusal
        try:
            return await client.arun(flow)
        except GeoCatalogError as error:
            if error.retry_after:
                until = self._clock.time() + min(error.retry_after, _LONGEST_QUIET)
                if until > self._quiet_until:
                    self._quiet_until, self._refusal = until, error
            raise
