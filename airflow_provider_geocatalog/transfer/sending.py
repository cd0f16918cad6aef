"""
Send items, a portion at a time: look what is there, create in batches, replace one by one, and judge what came of it.

Creating an id that exists and replacing one that does not both fail in the operation (geocatalog-api 7.5), so each item
is looked up first. A batch in which items failed does not say which: the catalog does, and those that are not there are
sent once more one by one, so that each gets its own reason.
"""

from __future__ import annotations

import asyncio
import enum
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import (
    GeoCatalogBadRequest,
    GeoCatalogConflict,
    GeoCatalogError,
)
from airflow_provider_geocatalog.api.fault_codes import CANCELED, NOT_THERE, TAKEN, TOO_MANY, fault_code
from airflow_provider_geocatalog.api.flows.items import IDS_PER_SEARCH, items_by_id
from airflow_provider_geocatalog.api.operations.items import create_item, replace_item
from airflow_provider_geocatalog.api.statuses import Outcome
from airflow_provider_geocatalog.transfer.dead_letters import DeadLetter, Stage
from airflow_provider_geocatalog.transfer.fingerprint import FINGERPRINT, fingerprint_of
from airflow_provider_geocatalog.transfer.progress import Tally
from airflow_provider_geocatalog.transfer.transforms import TransformError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from airflow_provider_geocatalog.api.calls import Started
    from airflow_provider_geocatalog.api.http import Flow
    from airflow_provider_geocatalog.api.models import Operation
    from airflow_provider_geocatalog.transfer.preparing import Prepared

    Finished = Callable[[Prepared], Awaitable[dict[str, Any]]]

__all__ = ["Sender", "SendMode", "Shipment", "is_clean"]

log = logging.getLogger(__name__)

_FULL = 413  # HTTP status of a body that is too large
#: Somebody else has created or deleted the item since it was looked up.
_RACES = NOT_THERE | {TAKEN}
_PROBES = 3  # items of a batch that failed as a whole, sent one by one before the rest is given up as well
_FINISH_WITHIN = 30.0  # seconds for requests that are under way when the task is stopped


class SendMode(enum.Enum):
    """What is done with items whose id is in the collection."""

    CREATE = "create"
    UPSERT = "upsert"
    SKIP_EXISTING = "skip_existing"
    SKIP_UNCHANGED = "skip_unchanged"


@dataclass
class Shipment:
    """
    Items under way.

    :param items: Those that were sent and are not known to be settled, by id.
    :param batches: Ids of the items that an operation is about.
    :param replaced: Ids of items that were sent to replace others.
    :param single: Operations about a single item, which say why it failed.
    :param refused: Items that the service refused at once, with its error.
    :param unclear: Whether an answer was lost.
    """

    items: dict[str, Prepared] = field(default_factory=dict)
    batches: dict[str, list[str]] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)
    single: set[str] = field(default_factory=set)
    refused: dict[str, GeoCatalogError] = field(default_factory=dict)
    unclear: bool = False
    tally: Tally = field(default_factory=Tally)
    dead: list[DeadLetter] = field(default_factory=list)


def is_clean(operation: Operation, items: int) -> bool:
    """Return whether an ended operation says that it did what it was to do with all of its items."""
    counts = operation.counts
    if operation.status.outcome is not Outcome.SUCCEEDED:
        return False
    return counts is None or (counts.failed == 0 and counts.pending == 0 and counts.total in (0, items))


class Sender:
    """
    Sends items to one collection, on one event loop.

    :param run: Carries a flow out.
    :param wait: Waits until operations, given by id with the URL to poll, have ended; returns them by id.
    :param quiesce: Waits until nothing adds items to the collection of which this process does not know.
    :param started: Told the id of each operation that was started.
    :param batch_items: Items of one request at most.
    :param batch_bytes: Bytes of one request at most, roughly; one item may have more.
    :param concurrency: Requests at once.
    :param dry_run: Count what would be sent, and send nothing.
    """

    def __init__(
        self,
        collection_id: str,
        mode: SendMode,
        *,
        run: Callable[[Flow[Any]], Awaitable[Any]],
        wait: Callable[[dict[str, str | None]], Awaitable[dict[str, Operation]]],
        quiesce: Callable[[], Awaitable[None]],
        started: Callable[[str], None],
        batch_items: int,
        batch_bytes: int,
        concurrency: int,
        dry_run: bool = False,
    ) -> None:
        self._collection_id, self._mode = collection_id, mode
        self._run, self._wait, self._quiesce, self._started = run, wait, quiesce, started
        self._batch_items, self._batch_bytes = batch_items, batch_bytes
        self._is_dry_run = dry_run
        self._slots = asyncio.Semaphore(concurrency)
        self._room = asyncio.Semaphore(2 * concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._creates: list[Prepared] = []
        self._creates_bytes = 0
        self._tried_alone: set[str] = set()
        self._sent_again: set[str] = set()
        self._held: set[str] = set()
        self.shipment = Shipment()

    # --- taking items in ----------------------------------------------------------------------------------------------

    async def add(self, items: Sequence[Prepared]) -> None:
        """
        Take items; returns when there is room for more.

        :raises GeoCatalogError: Something that was taken before could not be sent.
        """
        for start in range(0, len(items), IDS_PER_SEARCH):
            await self._spawn(self._look_up_and_send(items[start : start + IDS_PER_SEARCH]))

    async def flush(self) -> None:
        """
        Send what is left, and return when everything has been answered.

        :raises GeoCatalogError: Something could not be sent.
        """
        await self._settle_tasks()
        await self._send_creates(everything=True)
        await self._settle_tasks()

    def recall(self, operation_id: str | None, items: Sequence[Prepared], *, replaces: bool = False) -> None:
        """
        Take note of items that another process has sent.

        :param operation_id: The operation that is about them; ``None`` if that is not known.
        """
        shipment = self.shipment
        shipment.items |= {item.item_id: item for item in items}
        if replaces:
            shipment.replaced.update(item.item_id for item in items)
        if operation_id is None:
            shipment.unclear = True
            return
        shipment.batches[operation_id] = [item.item_id for item in items]
        if len(items) == 1:
            shipment.single.add(operation_id)

    async def close(self) -> None:
        """Let requests that are under way end: what they start is to be known."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_FINISH_WITHIN)
        for task in self._tasks:
            task.cancel()

    async def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._failure is not None:
            work.close()
            raise self._failure
        await self._room.acquire()
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._failure = self._failure or error

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _settle_tasks(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._failure is not None:
            raise self._failure

    # --- sending ------------------------------------------------------------------------------------------------------

    async def _look_up_and_send(self, items: Sequence[Prepared]) -> None:
        present = await self._present([item.item_id for item in items])
        replaced = []
        for item in items:
            what = self._decide(item, present)
            if what == "create":
                self._creates.append(item)
                self._creates_bytes += len(item.text)
            elif what == "replace":
                replaced.append(item)
            else:
                item.item = None  # it is not sent, and may be large
        await self._send_creates()
        await _all(self._replace(item) for item in replaced)

    async def _present(self, item_ids: Sequence[str]) -> dict[str, str | None]:
        """Return those of some items that are in the catalog, with their fingerprints."""
        look_up = items_by_id(self._collection_id, item_ids, include=[f"properties.{FINGERPRINT}"])
        async with self._slots:
            found = await self._run(look_up)
        return {item_id: fingerprint_of(item) for item_id, item in found.items()}

    def _decide(self, item: Prepared, present: dict[str, str | None]) -> str | None:
        """Return what is done with an item; of what is not sent, it is counted why."""
        tally = self.shipment.tally
        if item.item_id not in present:
            return "create"
        if self._mode is SendMode.UPSERT:
            return "replace"
        if self._mode is SendMode.SKIP_EXISTING:
            tally.skipped += 1
            return None
        if present[item.item_id] == item.fingerprint:
            tally.unchanged += 1
            return None
        if self._mode is SendMode.SKIP_UNCHANGED:
            return "replace"
        reason = f"the collection has an item of this id, with other content (mode {self._mode.value!r})"
        self._fail(item, reason, code=TAKEN)
        return None

    async def _send_creates(self, *, everything: bool = False) -> None:
        while self._creates and (
            everything or len(self._creates) >= self._batch_items or self._creates_bytes >= self._batch_bytes
        ):
            batch: list[Prepared] = []
            size = 0
            while self._creates and len(batch) < self._batch_items:
                size += len(self._creates[0].text)
                if batch and size > self._batch_bytes:
                    break
                batch.append(self._creates.pop(0))
            self._creates_bytes -= sum(len(item.text) for item in batch)
            if everything:
                await self._spawn(self._create(batch))
            else:
                await self._create(batch)

    async def _create(self, batch: list[Prepared]) -> None:
        if self._is_dry_run:
            self.shipment.tally.created += len(batch)
            return
        documents = [item.item for item in batch]
        body = documents[0] if len(batch) == 1 else {"type": "FeatureCollection", "features": documents}
        try:
            await self._start(batch, create_item(self._collection_id, body or {}))
        except (GeoCatalogBadRequest, GeoCatalogConflict) as error:
            if len(batch) == 1:
                self._refuse(batch, error)
                return
            if error.status == _FULL:
                self._batch_items = max(1, min(self._batch_items, len(batch) // 2))
                log.info("A request with %d items is too large; going on with %d.", len(batch), self._batch_items)
            half = len(batch) // 2
            await self._create(batch[:half])
            await self._create(batch[half:])

    async def _replace(self, item: Prepared) -> None:
        if self._is_dry_run:
            self.shipment.tally.updated += 1
            return
        try:
            self.shipment.replaced.add(item.item_id)
            await self._start([item], replace_item(self._collection_id, item.item_id, item.item or {}))
        except (GeoCatalogBadRequest, GeoCatalogConflict) as error:
            self._refuse([item], error)

    def _refuse(self, batch: Iterable[Prepared], error: GeoCatalogError) -> None:
        for item in batch:
            self._take_along(item)
            self.shipment.refused[item.item_id] = error

    async def _start(self, batch: list[Prepared], flow: Flow[Started]) -> None:
        shipment = self.shipment
        async with self._slots:
            try:
                answer: Started = await self._run(flow)
            except GeoCatalogError as error:
                if not error.ambiguous:
                    raise
                log.warning("%s What came of it is looked up in the catalog.", error)
                shipment.unclear = True
                for item in batch:
                    self._take_along(item)
                return
        for item in batch:
            self._take_along(item)
        if answer.operation is None:
            shipment.unclear = True
            return
        operation_id = answer.operation.operation_id
        shipment.batches[operation_id] = [item.item_id for item in batch]
        if len(batch) == 1:
            shipment.single.add(operation_id)
        self._started(operation_id)

    def _take_along(self, item: Prepared) -> None:
        item.item = None
        if item.item_id not in self.shipment.items:
            self.shipment.tally.sent += 1
        self.shipment.items[item.item_id] = item

    # --- settling -----------------------------------------------------------------------------------------------------

    async def settle(self, ended: dict[str, Operation], finished: Finished) -> None:
        """
        Find out what became of everything that was sent, and send once more what may yet succeed.

        :param ended: The operations, ended.
        :param finished: Makes items again as they are sent.
        :raises GeoCatalogError: It cannot be found out.
        """
        doubtful = self._judge(ended)
        while doubtful:
            if self.shipment.unclear:
                await self._quiesce()
                self.shipment.unclear = False
            present = await self._present(list(doubtful))
            batches, held = self._sort_out(doubtful, present)
            doubtful = self._judge(await self._send_again(batches, present, finished))
            for probes, rest in held:
                doubtful |= self._judge_rest(probes, rest, doubtful)

    def _judge(self, ended: dict[str, Operation]) -> dict[str, Operation | None]:
        """Count what succeeded, and return the ids of all other items with the operation that was about them."""
        shipment = self.shipment
        doubtful: dict[str, Operation | None] = {}
        for operation_id, operation in ended.items():
            item_ids = shipment.batches.get(operation_id, [])
            if is_clean(operation, len(item_ids)):
                self._succeeded(item_ids)
            else:
                doubtful |= dict.fromkeys(item_ids, operation)
        return {item_id: doubtful.get(item_id) for item_id in shipment.items if item_id not in self._held}

    def _sort_out(
        self, doubtful: dict[str, Operation | None], present: dict[str, str | None]
    ) -> tuple[list[list[str]], list[tuple[list[str], list[str]]]]:
        """
        Decide what is done with items of which no operation says that they succeeded.

        :return: Batches of those that are sent once more, and for batches that failed as a whole the items that are
            tried first, with those that wait for what comes of that.
        """
        of_operation: dict[str, list[str]] = {}
        operations: dict[str, Operation] = {}
        for item_id, operation in doubtful.items():
            if self._is_to_be_sent_again(item_id, operation, present):
                operation_id = operation.operation_id if operation else ""
                of_operation.setdefault(operation_id, []).append(item_id)
                if operation:
                    operations[operation_id] = operation
        batches: list[list[str]] = []
        held: list[tuple[list[str], list[str]]] = []
        for operation_id, item_ids in of_operation.items():
            known = operations.get(operation_id)
            again = [one for one in item_ids if one not in present and one not in self._sent_again]
            if known is None and again:  # no answer is no reason to try them alone
                self._sent_again.update(again)
                batches.append(again)
                item_ids = [one for one in item_ids if one in present]
            if known is not None and _code(known) == TOO_MANY and len(item_ids) > 1:
                half = len(item_ids) // 2
                self._batch_items = max(1, min(self._batch_items, half))
                batches += [item_ids[:half], item_ids[half:]]
                continue
            failed_as_a_whole = known is not None and (known.counts is None or known.counts.succeeded == 0)
            tried = item_ids[:_PROBES] if failed_as_a_whole else item_ids
            batches += [[item_id] for item_id in tried]
            self._tried_alone.update(tried)
            if len(tried) < len(item_ids):
                held.append((tried, item_ids[len(tried) :]))
                self._held.update(item_ids[len(tried) :])
        return batches, held

    def _is_to_be_sent_again(self, item_id: str, operation: Operation | None, present: dict[str, str | None]) -> bool:
        """Return whether an item has another try; if not, it is counted."""
        shipment = self.shipment
        item, refusal = shipment.items[item_id], shipment.refused.get(item_id)
        # What is replaced whether it has changed or not, can have looked the same before.
        is_telling = operation is None or item_id not in shipment.replaced or self._mode is not SendMode.UPSERT
        if refusal is not None:
            self._fail(item, refusal.message, code=refusal.code, retryable=refusal.retryable)
        elif is_telling and present.get(item_id, "absent") == item.fingerprint:
            self._succeeded([item_id])
        elif operation is not None and self._is_final(operation):
            self._fail_in(item, operation)
        elif item_id in self._tried_alone:
            if operation is not None:
                self._fail_in(item, operation)
            else:
                self._fail(item, "what the service made of it could not be found out", retryable=True)
        elif item_id in present and self._decide(item, present) is None:
            shipment.items.pop(item_id, None)  # somebody else has created it meanwhile
        else:
            return True
        return False

    def _is_final(self, operation: Operation) -> bool:
        """Return whether nothing is to be sent once more of what an operation was about."""
        is_canceled = operation.status.outcome is Outcome.CANCELED
        is_reason = operation.operation_id in self.shipment.single
        return is_canceled or (is_reason and not _may_pass(operation))

    async def _send_again(
        self, batches: Sequence[Sequence[str]], present: dict[str, str | None], finished: Finished
    ) -> dict[str, Operation]:
        """Send batches, given by ids, and return the operations, ended."""
        shipment, known = self.shipment, set(self.shipment.batches)
        for batch in batches:
            items = []
            for item_id in batch:
                item = shipment.items[item_id]
                try:
                    item.item = await finished(item)
                except TransformError as error:
                    self._fail(item, str(error), stage=Stage.TRANSFORM)
                else:
                    items.append(item)
            if len(items) == 1 and items[0].item_id in present:
                await self._spawn(self._replace(items[0]))
            elif items:
                shipment.replaced.difference_update(item.item_id for item in items)
                self._creates += items
                self._creates_bytes += sum(len(item.text) for item in items)
                await self._send_creates(everything=True)
        await self._settle_tasks()
        begun: dict[str, str | None] = {one: None for one in shipment.batches if one not in known}
        return await self._wait(begun) if begun else {}

    def _judge_rest(
        self, probes: Sequence[str], rest: Sequence[str], doubtful: dict[str, Operation | None]
    ) -> dict[str, Operation | None]:
        """
        Decide about the rest of a batch that failed as a whole, by what came of the items that were tried first.

        :return: The items that are tried as well.
        """
        self._held.difference_update(rest)
        failed = [doubtful[item_id] for item_id in probes if doubtful.get(item_id) is not None]
        codes = {_code(operation) for operation in failed if operation is not None}
        if failed and failed[-1] is not None and len(failed) == len(probes) and len(codes) == 1:
            for item_id in rest:
                self._fail_in(self.shipment.items[item_id], failed[-1])
            return {}
        return dict.fromkeys(rest)

    # --- counting -----------------------------------------------------------------------------------------------------

    def _succeeded(self, item_ids: Iterable[str]) -> None:
        for item_id in item_ids:
            if self.shipment.items.pop(item_id, None) is not None:
                if item_id in self.shipment.replaced:
                    self.shipment.tally.updated += 1
                else:
                    self.shipment.tally.created += 1

    def _fail_in(self, item: Prepared, operation: Operation) -> None:
        message = operation.fault.message if operation.fault else None
        self._fail(
            item,
            message or f"its operation ended as {operation.status}",
            code=_code(operation),
            operation_id=operation.operation_id,
            retryable=_may_pass(operation),
        )

    def _fail(
        self,
        item: Prepared,
        reason: str,
        *,
        stage: str = Stage.SEND,
        code: str | None = None,
        operation_id: str | None = None,
        retryable: bool = False,
    ) -> None:
        self.shipment.items.pop(item.item_id, None)
        self.shipment.tally.failed += 1
        self.shipment.dead.append(
            DeadLetter(item.item_id, stage, reason, json.loads(item.text), code, operation_id, retryable)
        )


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do several things at once; all of them, also if one fails."""
    for error in await asyncio.gather(*work, return_exceptions=True):
        if error is not None:
            raise error


def _code(operation: Operation) -> str | None:
    code = operation.fault.code if operation.fault else None
    return code or (CANCELED if operation.status.outcome is Outcome.CANCELED else None)


def _may_pass(operation: Operation) -> bool:
    """Return whether the item of an operation that failed may succeed when it is sent once more."""
    code = _code(operation)
    known = fault_code(code)
    return known is None or known.transient or code in _RACES
