"""Transfer a source's items portion by portion: read, prepare, send, wait, settle, remember."""

from __future__ import annotations

import asyncio
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_provider_geocatalog.api.errors import GeoCatalogNotFound, GeoCatalogWaitTimeout
from airflow_provider_geocatalog.api.flows.items import IDS_PER_SEARCH, active_additions
from airflow_provider_geocatalog.api.flows.waiting import get_operation
from airflow_provider_geocatalog.api.waiting import PollPolicy, Waiting
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
    from airflow_provider_geocatalog.transfer.source import Environment, ItemSource
    from airflow_provider_geocatalog.transfer.windows import Window

__all__ = ["Memory", "Transfer", "TransferOptions"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_CANCELED_WITHIN = 300.0  # seconds for a cancelled operation to end; some never do (geocatalog-api 6.2)


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
    :param portion_items: Items of a portion: what is repeated at most after a crash, and what is in memory.
    :param portion_bytes: Bytes of a portion as JSON.
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
    ) -> None:
        self._source, self._environment, self._window, self._options = source, environment, window, options
        self._run, self._waits, self._make_preparer, self._memory, self._now = run, waits, make_preparer, memory, now
        #: One thread for all that blocks on the source's side: generators and databases belong to a thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="geocatalog-source")
        self._preparer: Preparer | None = None
        self._reader: ItemReader | None = None
        #: Operations of this process that are not known to have ended.
        self.active: dict[str, int | str] = {}

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
            if progress.waiting is not None:
                await self._settle_waiting(progress, progress.waiting, unclean)
            self._reader = await self._in_thread(
                lambda: ItemReader(self._source, self._environment, self._window, progress.position)
            )
            while not progress.is_complete:
                await self._do_portion(progress, defer_after)
                if progress.waiting is not None:
                    return
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _do_portion(self, progress: Progress, defer_after: float | None) -> None:
        portion, sender = Portion(start=progress.position), self._sender()
        try:
            may_have_more = await self._send(portion, sender, progress)
        finally:
            await sender.close()
        if portion.records:
            progress.waiting = portion
            self._memory.remember(progress)
            ended = await self._ended(portion.operations, defer_after)
            if ended is None:
                return
            await self._settle(progress, portion, sender, ended)
        progress.is_complete = not may_have_more
        self._memory.remember(progress)

    async def _settle_waiting(self, progress: Progress, portion: Portion, unclean: Collection[str]) -> None:
        sender = self._sender()
        sender.shipment.tally = _settled(what for one, what in portion.operations.items() if one not in unclean)
        operations = {one: await self._run(get_operation(one)) for one in unclean}
        if operations or portion.unclear:
            await self._reconstruct(portion, sender, operations)
        await self._settle(progress, portion, sender, operations)
        self._memory.remember(progress)

    async def take_over(self, progress: Progress) -> None:
        """
        Begin where an earlier try has been stopped: what it had under way ends first, so that nothing is sent twice.

        :param progress: How far the earlier try was; afterwards the portion that it was at is to be done again.
        """
        known = list(progress.waiting.operations) if progress.waiting else []
        progress.waiting = None
        await asyncio.gather(*(self._let_end(operation_id, math.inf) for operation_id in known))
        await self._quiesce()

    async def _quiesce(self) -> None:
        """Wait until nothing adds items to the collection that may have been started here without our knowing."""
        found = await self._run(active_additions(self._options.collection_id, most_items=self._options.batch_items))
        patience = {
            one.operation_id: _CANCELED_WITHIN if one.status.is_canceling else math.inf
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
            started=self._note,
            batch_items=options.batch_items,
            batch_bytes=options.batch_bytes,
            concurrency=options.concurrency,
            dry_run=options.dry_run,
        )

    def _note(self, operation_id: str, url: str | None, what: int | str) -> None:
        self.active[operation_id] = what

    async def _send(self, portion: Portion, sender: Sender, progress: Progress) -> bool:
        """Send a portion; return whether the source may have more."""
        options, size, may_have_more = self._options, 0, True
        letters: list[DeadLetter] = []
        while portion.records < options.portion_items and size < options.portion_bytes:
            most = min(IDS_PER_SEARCH, options.portion_items - portion.records)
            prepared = await self._in_thread(partial(self._read_and_prepare, most))
            if prepared is None:
                may_have_more = False
                break
            portion.records += prepared.seen
            size += sum(len(item.text) for item in prepared.ready)
            _count(prepared, portion)
            letters += prepared.dead
            await sender.add(prepared.ready)
        await sender.flush()
        portion.end = self._need(self._reader).position
        portion.extent = self._take_extent()
        portion.operations = {
            one: ids[0] if one in sender.shipment.replaced else len(ids) for one, ids in sender.shipment.batches.items()
        }
        portion.unclear = sender.shipment.unclear or bool(sender.shipment.refused)
        # What failed before anything was sent is known now; what else fails, when it is settled.
        letters += sender.shipment.dead
        portion.tally.add(sender.shipment.tally)
        sender.shipment.tally, sender.shipment.dead = Tally(), []
        await self._bury(letters, portion, progress)
        return may_have_more

    def _read_and_prepare(self, most: int) -> PreparedItems | None:
        items = self._need(self._reader).read(most)
        return self._need(self._preparer).prepare(items) if items else None

    def _take_extent(self) -> Any:
        preparer = self._need(self._preparer)
        extent, preparer.extent = preparer.extent, type(preparer.extent)()
        return extent

    async def _settle(self, progress: Progress, portion: Portion, sender: Sender, ended: dict[str, Operation]) -> None:
        await sender.settle(ended, self._need(self._preparer))
        portion.tally.add(sender.shipment.tally)
        await self._bury(sender.shipment.dead, portion, progress)
        progress.settle(portion)
        self.active.clear()
        log.info("Portion %d, %d items: so far %s.", progress.portions, portion.records, progress.tally)

    async def _bury(self, letters: list[DeadLetter], portion: Portion, progress: Progress) -> None:
        if letters:
            keep = progress.dead_letters + portion.dead_letters
            await self._in_thread(lambda: self._memory.bury(letters, keep=keep))
            portion.bury(letters)

    async def _reconstruct(self, portion: Portion, sender: Sender, unclean: dict[str, Operation]) -> None:
        """Find the items again that were sent and did not succeed; the process that sent them is gone."""
        shipment = sender.shipment
        shipment.unclear = portion.unclear
        shipment.single = {one for one, what in portion.operations.items() if isinstance(what, str) or what == 1}
        ready = await self._in_thread(lambda: self._read_again(portion))
        items = {item.item_id: item for item in ready}
        for operation_id in unclean:
            what = portion.operations[operation_id]
            if isinstance(what, str) and what in items:
                shipment.batches[operation_id] = [what]
                shipment.replaced.add(operation_id)
                shipment.items[what] = items.pop(what)
        replaced = {what for what in portion.operations.values() if isinstance(what, str)}
        lacking = await sender.lacking([item for item in items.values() if item.item_id not in replaced])
        batches = {one: what for one, what in portion.operations.items() if one in unclean and isinstance(what, int)}
        shipment.items |= {item.item_id: item for item in lacking}
        shipment.tally.created += max(0, sum(batches.values()) - len(lacking))
        faults = {unclean[one].fault for one in batches}
        if batches and len(faults) == 1:
            shipment.batches[next(iter(batches))] = [item.item_id for item in lacking]

    def _read_again(self, portion: Portion) -> list[Prepared]:
        reader = ItemReader(self._source, self._environment, self._window, portion.start)
        ready: list[Prepared] = []
        records = 0
        while records < portion.records and (items := reader.read(min(IDS_PER_SEARCH, portion.records - records))):
            records += len(items)
            ready += self._need(self._preparer).prepare(items).ready
        self._take_extent()
        return ready

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def _ended(self, operations: dict[str, int | str], patience: float | None) -> dict[str, Operation] | None:
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
            self.active.pop(operation.operation_id, None)
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
            log.info("Operation %s is not known any more.", operation_id)
        except GeoCatalogWaitTimeout:
            if patience == math.inf:
                raise
            log.warning("Operation %s is being cancelled and does not end; going on.", operation_id)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @staticmethod
    def _need(value: T | None) -> T:
        if value is None:
            raise RuntimeError("the transfer has not begun")
        return value


def _settled(operations: Iterable[int | str]) -> Tally:
    """Return the tally of operations that did all that they were to do."""
    tally = Tally()
    for what in operations:
        if isinstance(what, int):
            tally.created += what
        else:
            tally.updated += 1
    return tally


def _count(prepared: PreparedItems, portion: Portion) -> None:
    tally = portion.tally
    tally.seen += prepared.seen
    tally.outside += prepared.outside
    tally.filtered += prepared.filtered
    tally.repeated += prepared.repeated
    tally.set_aside += len(prepared.dead)
    if prepared.latest is not None:
        known = moment(portion.latest)
        portion.latest = moment_text(max(known or prepared.latest, prepared.latest))
