"""Transfer a source's items portion by portion: read, prepare, send, wait, settle, remember."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_provider_geocatalog.api.errors import GeoCatalogNotFound, GeoCatalogWaitTimeout
from airflow_provider_geocatalog.api.flows.items import IDS_PER_SEARCH, active_additions
from airflow_provider_geocatalog.api.flows.waiting import get_operation
from airflow_provider_geocatalog.api.waiting import CANCELED_WITHIN, PollPolicy, Waiting
from airflow_provider_geocatalog.transfer.progress import Portion, Progress, Tally
from airflow_provider_geocatalog.transfer.reading import ItemReader
from airflow_provider_geocatalog.transfer.sending import Sender, SendMode
from airflow_provider_geocatalog.transfer.windows import moment, moment_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable

    from airflow_provider_geocatalog.api.http import Flow
    from airflow_provider_geocatalog.api.models import Operation
    from airflow_provider_geocatalog.shared_waits import SharedWaits
    from airflow_provider_geocatalog.transfer.dead_letters import DeadLetter
    from airflow_provider_geocatalog.transfer.preparing import Prepared, PreparedItems, Preparer
    from airflow_provider_geocatalog.transfer.reading import Position
    from airflow_provider_geocatalog.transfer.source import Environment, ItemSource
    from airflow_provider_geocatalog.transfer.windows import Window

__all__ = ["Memory", "Transfer", "TransferOptions"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_AT_ONCE = 2  # portions under way: one is sent, the one before is waited for
# Operations of a portion whose wait can be deferred: Airflow has to keep them all.
_MOST_DEFERRED = 1000
_CLOSED_WITHIN = 10.0  # seconds for a source to let go; a callable of a user's can be blocked


class Memory(Protocol):
    """What outlives the process."""

    def remember(self, progress: Progress) -> None:
        """Keep how far the transfer is."""

    def bury(self, letters: Iterable[DeadLetter], *, keep: int) -> None:
        """
        Write lines of the dead-letter file.

        :param keep: Lines that it has already and that are kept; others are of a portion that was not settled.
        """


@dataclass(frozen=True)
class TransferOptions:
    """
    How a transfer is carried out.

    :param collection_id: Where the items go.
    :param mode: What is done with items whose id is there.
    :param portion_items: Items under way at most: what is repeated after a crash, and what is in memory.
    :param portion_bytes: Their bytes as JSON.
    :param batch_items: Items of one request at most.
    :param batch_bytes: Bytes of one request.
    :param concurrency: Requests at once.
    :param policy: How often operations are looked at.
    :param deadline: Epoch seconds at which waiting is given up.
    :param dry_run: Count what would be sent, and send nothing.
    """

    collection_id: str
    mode: SendMode = SendMode.SKIP_UNCHANGED
    portion_items: int = 1000
    portion_bytes: int = 32 * 1024**2
    batch_items: int = 100
    batch_bytes: int = 4 * 1024**2
    concurrency: int = 16
    policy: PollPolicy = PollPolicy()  # noqa: RUF009 - it is frozen
    deadline: float | None = None
    dry_run: bool = False


class Transfer:
    """
    One transfer, on one event loop.

    :param run: Carries a flow out.
    :param waits: What all waits share.
    :param make_preparer: Makes what prepares items; it is used in one thread.
    :param memory: What outlives the process.
    :param now: The time, in epoch seconds.
    :param observe: Told what became of each portion's items, once.
    """

    def __init__(
        self,
        source: ItemSource,
        environment: Environment,
        window: Window | None,
        options: TransferOptions,
        *,
        run: Callable[[Flow[Any]], Awaitable[Any]],
        waits: SharedWaits,
        make_preparer: Callable[[], Preparer],
        memory: Memory,
        now: Callable[[], float],
        observe: Callable[[Tally], None] = lambda tally: None,
    ) -> None:
        self._source, self._environment, self._window, self._options = source, environment, window, options
        self._run, self._waits, self._make_preparer, self._memory, self._now = run, waits, make_preparer, memory, now
        self._observe = observe
        #: One thread for all that blocks on the source's side: generators and databases belong to a thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="geocatalog-source")
        self._preparer: Preparer | None = None
        self._reader: ItemReader | None = None
        #: Items of the next portion, which are read while the last requests of this one are under way.
        self._ahead: asyncio.Future[PreparedItems | None] | None = None
        #: Operations of this process that are not known to have ended.
        self.active: set[str] = set()

    async def go_on(
        self, progress: Progress, *, unclean: Collection[str] = (), defer_after: float | None = None
    ) -> None:
        """
        Go on until the source is settled, or a portion takes long.

        :param progress: How far it is; changed on the way. If it is not complete at the end, ``waiting`` is the portion
            that takes long. If it has one at the beginning, that has been waited for elsewhere.
        :param unclean: Operations of this portion that did not do all that they were to do.
        :param defer_after: Seconds to wait for a portion; ``None`` waits to the end.
        :raises GeoCatalogError: It cannot go on; what is settled is remembered.
        """
        try:
            self._preparer = await self._in_thread(self._make_preparer)
            has_changed = progress.waiting is not None and not await self._settle_waiting(
                progress, progress.waiting, unclean
            )
            if not progress.is_complete:
                note = self._preparer.note
                self._reader = await self._in_thread(lambda: self._make_reader(progress.position, note))
                if has_changed or self._reader.has_restarted:
                    # A source that differs at each reading would go on like this for ever: the rest is one reading.
                    defer_after = None
                    await self._in_thread(self._preparer.close)
                    self._preparer = await self._in_thread(self._make_preparer)  # of which nothing has come before
                await self._go_through(progress, defer_after)
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        """Close what is open on the source's side, unless that is blocked."""
        if self._ahead is not None:
            self._ahead.cancel()
        closing = [self._thread.submit(one.close) for one in (self._reader, self._preparer) if one is not None]
        self._thread.shutdown(wait=False)
        if closing:
            await asyncio.wait([asyncio.wrap_future(one) for one in closing], timeout=_CLOSED_WITHIN)

    def _make_reader(self, position: Position, note: Callable[[list[Any]], None] | None = None) -> ItemReader:
        return ItemReader(self._source, self._environment, self._window, position, note=note)

    async def _go_through(self, progress: Progress, patience: float | None) -> None:
        """Do portion by portion; where one is waited for to its end, the next is sent meanwhile."""
        at_once = _AT_ONCE if patience is None else 1
        start, may_have_more = progress.position, True
        before: asyncio.Task[None] | None = None
        try:
            while may_have_more:
                self._check_deadline()
                portion, sender = Portion(start=start), self._sender()
                try:
                    letters, may_have_more = await self._send(portion, sender, at_once)
                finally:
                    await sender.close()
                start = portion.end
                if before is not None:
                    await before
                ending = self._end(progress, portion, sender, letters, patience, is_last=not may_have_more)
                before = asyncio.create_task(ending)
                if at_once == 1:
                    await before
                    if progress.waiting is not None:
                        return
        except asyncio.CancelledError:
            if before is not None:
                before.cancel()
                await asyncio.wait([before])
            raise
        finally:
            if before is not None and not before.cancelled():
                await before  # also if the next one could not be sent

    def _check_deadline(self) -> None:
        deadline = self._options.deadline
        if deadline is not None and self._now() >= deadline:
            raise GeoCatalogWaitTimeout(
                f"the transfer into collection {self._options.collection_id!r} has not ended in time",
                hint="What it has sent stays; a retry of the task goes on where it is.",
            )

    async def _end(
        self,
        progress: Progress,
        portion: Portion,
        sender: Sender,
        letters: list[DeadLetter],
        patience: float | None,
        *,
        is_last: bool,
    ) -> None:
        if portion.records:
            await self._bury(letters, portion, progress)
            progress.waiting = portion
            self._memory.remember(progress)
            may_be_deferred = len(portion.operations) <= _MOST_DEFERRED
            ended = await self._ended(portion.operations, patience if may_be_deferred else None)
            if ended is None:
                return
            await self._settle(progress, portion, sender, ended)
        progress.is_complete = is_last
        self._memory.remember(progress)

    async def _settle_waiting(self, progress: Progress, portion: Portion, unclean: Collection[str]) -> bool:
        """Settle a portion of another process; return ``False`` if it is to be done again: the source has changed."""
        sender = self._sender()
        sender.shipment.tally = _settled(what for one, what in portion.operations.items() if one not in unclean)
        operations = {one: await self._run(get_operation(one)) for one in unclean}
        sent = {one: [what] if isinstance(what, int) else what for one, what in portion.operations.items()}
        needed = {number for one in unclean for number in sent[one]}.union(portion.lost)
        if needed:
            ready = await self._in_thread(lambda: self._read_again(portion))
            if not needed <= ready.keys():
                log.warning("%s has changed since it was read; reading it again.", self._source.describe())
                progress.waiting = None
                return False
            for operation_id in unclean:
                replaces = isinstance(portion.operations[operation_id], int)
                sender.recall(operation_id, [ready[one] for one in sent[operation_id]], replaces=replaces)
            if portion.lost:
                sender.recall(None, [ready[one] for one in portion.lost])
        try:
            await self._settle(progress, portion, sender, operations)
        finally:
            await sender.close()
        self._memory.remember(progress)
        return True

    async def take_over(self, progress: Progress) -> None:
        """
        Begin where an earlier try has been stopped: what it had under way ends first, so that nothing is sent twice.

        :param progress: How far the earlier try was; afterwards the portion that it was at is to be done again.
        """
        known = list(progress.waiting.operations) if progress.waiting else []
        progress.waiting = None
        self.active.update(known)
        await asyncio.gather(*(self._let_end(operation_id, math.inf) for operation_id in known))
        await self._quiesce()

    async def _quiesce(self) -> None:
        """Wait until nothing writes items that may have been started here without our knowing."""
        collection_id, most_items = self._options.collection_id, self._options.batch_items
        found = await self._run(active_additions(collection_id, most_items=most_items, replacements=True))
        patience = {
            one.operation_id: CANCELED_WITHIN if one.status.is_canceling else math.inf
            for one in found
            if one.operation_id not in self.active
        }
        if patience:
            log.info("Waiting for %d operations of which it is not known who has started them.", len(patience))
            await asyncio.gather(*(self._let_end(*one) for one in patience.items()))

    # --- one portion --------------------------------------------------------------------------------------------------

    def _sender(self) -> Sender:
        options = self._options
        return Sender(
            options.collection_id,
            options.mode,
            run=self._run,
            wait=self._wait_for,
            quiesce=self._quiesce,
            started=self.active.add,
            batch_items=options.batch_items,
            batch_bytes=options.batch_bytes,
            concurrency=options.concurrency,
            dry_run=options.dry_run,
        )

    async def _send(self, portion: Portion, sender: Sender, at_once: int) -> tuple[list[DeadLetter], bool]:
        """
        Send a portion.

        :param at_once: Portions that share what may be under way.
        :return: The items that have failed so far, and whether the source may have more.
        """
        most_items = max(1, self._options.portion_items // at_once)
        most_bytes = self._options.portion_bytes // at_once
        size, may_have_more = 0, True
        letters: list[DeadLetter] = []
        while portion.records < most_items and size < most_bytes:
            reading = self._ahead or self._read_ahead(min(IDS_PER_SEARCH, most_items - portion.records))
            self._ahead = None
            prepared = await reading
            if prepared is None:
                may_have_more = False
                break
            for item in prepared.ready:
                item.number += portion.records
            portion.records += prepared.seen
            size += prepared.size
            _count(prepared, portion)
            portion.end = prepared.end
            letters += prepared.dead
            await sender.add(prepared.ready)
        if may_have_more and at_once > 1:  # so that there are requests to send between two portions as well
            self._ahead = self._read_ahead(min(IDS_PER_SEARCH, most_items))
        await sender.flush()
        shipment = sender.shipment
        numbers = {item_id: item.number for item_id, item in shipment.items.items()}
        for operation_id, ids in shipment.batches.items():
            sent = [numbers.pop(item_id) for item_id in ids]
            portion.operations[operation_id] = sent[0] if ids[0] in shipment.replaced else sent
        portion.lost = list(numbers.values())
        # What failed before anything was sent is known now; what else fails, when it is settled.
        letters += shipment.dead
        portion.tally.add(shipment.tally)
        shipment.tally, shipment.dead = Tally(), []
        return letters, may_have_more

    def _read_ahead(self, most: int) -> asyncio.Future[PreparedItems | None]:
        return asyncio.ensure_future(self._in_thread(partial(self._read_and_prepare, most)))

    def _read_and_prepare(self, most: int) -> PreparedItems | None:
        reader = self._need(self._reader)
        items = reader.read(most)
        if not items:
            return None
        prepared = self._need(self._preparer).prepare(items)
        prepared.end = reader.position
        return prepared

    async def _settle(self, progress: Progress, portion: Portion, sender: Sender, ended: dict[str, Operation]) -> None:
        await sender.settle(ended, self._finished)
        portion.tally.add(sender.shipment.tally)
        await self._bury(sender.shipment.dead, portion, progress)
        progress.settle(portion)
        self._observe(portion.tally)
        self.active.difference_update(portion.operations)
        log.info("Portion %d, %d items: so far %s.", progress.portions, portion.records, progress.tally)

    async def _bury(self, letters: list[DeadLetter], portion: Portion, progress: Progress) -> None:
        if letters:
            keep = progress.dead_letters + portion.dead_letters
            await self._in_thread(lambda: self._memory.bury(letters, keep=keep))
            portion.bury(letters)

    async def _finished(self, item: Prepared) -> dict[str, Any]:
        return await self._in_thread(lambda: self._need(self._preparer).finished(item))

    def _read_again(self, portion: Portion) -> dict[int, Prepared]:
        """Return the items of a portion that another process has sent, by number; none if they are not the same."""
        with (
            contextlib.closing(self._make_reader(portion.start)) as reader,
            contextlib.closing(self._make_preparer()) as preparer,
        ):
            ready: dict[int, Prepared] = {}
            records = 0
            while records < portion.records and (items := reader.read(min(IDS_PER_SEARCH, portion.records - records))):
                # That process may have known some from before, and not have sent them again; so not all are needed.
                ready |= {records + one.number: one for one in preparer.prepare(items).ready}
                records += len(items)
            return ready if reader.position == portion.end else {}

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def _ended(self, operations: Iterable[str], patience: float | None) -> dict[str, Operation] | None:
        """Return operations as they ended; ``None`` if that takes longer than one has patience for."""
        if not operations:
            return {}
        waiting = asyncio.ensure_future(self._wait_for(dict.fromkeys(operations)))
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), patience)
        except TimeoutError:
            waiting.cancel()
            await asyncio.wait([waiting])
            return None
        except BaseException:
            waiting.cancel()
            raise

    async def _wait_for(self, operations: dict[str, str | None]) -> dict[str, Operation]:
        ended = await asyncio.gather(*(self._wait(one, url) for one, url in operations.items()))
        for operation in ended:
            self.active.discard(operation.operation_id)
        return {operation.operation_id: operation for operation in ended}

    async def _wait(self, operation_id: str, url: str | None, *, patience: float = math.inf) -> Operation:
        options, now = self._options, self._now()
        deadline = min(math.inf if options.deadline is None else options.deadline, now + patience)
        waiting = Waiting(
            f"operation {operation_id}",
            options.policy,
            started=now,
            deadline=None if deadline == math.inf else deadline,
        )
        return await self._waits.wait(
            operation_id,
            waiting,
            lambda: get_operation(operation_id, url=url, once=True),
            first_delay=options.policy.first,
        )

    async def _let_end(self, operation_id: str, patience: float) -> None:
        try:
            await self._wait(operation_id, None, patience=patience)
        except GeoCatalogNotFound:
            self.active.discard(operation_id)
            log.info("Operation %s is not known any more.", operation_id)
        except GeoCatalogWaitTimeout:
            if patience == math.inf:
                raise
            log.warning("Operation %s is being cancelled and does not end; going on.", operation_id)
        else:
            self.active.discard(operation_id)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # With the context of the task, by which its log lines find where they belong.
        there = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._thread, there.run, work)

    @staticmethod
    def _need(value: T | None) -> T:
        if value is None:
            raise RuntimeError("the transfer has not begun")
        return value


def _settled(operations: Iterable[list[int] | int]) -> Tally:
    """Return the tally of operations that did all that they were to do."""
    tally = Tally()
    for what in operations:
        if isinstance(what, int):
            tally.updated += 1
        else:
            tally.created += len(what)
    return tally


def _count(prepared: PreparedItems, portion: Portion) -> None:
    tally = portion.tally
    tally.seen += prepared.seen
    tally.outside += prepared.outside
    tally.filtered += prepared.filtered
    tally.repeated += prepared.repeated
    tally.set_aside += len(prepared.dead)
    portion.extent.merge(prepared.extent)
    if prepared.latest is not None:
        known = moment(portion.latest)
        portion.latest = moment_text(max(known or prepared.latest, prepared.latest))
