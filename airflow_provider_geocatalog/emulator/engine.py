"""
What happens with time. Every transition is an event with a due time; :meth:`Engine.advance` carries out what is due.

Transitions are dated by when they were due, not by when somebody looked, so the same clock gives the same history.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_geocatalog.emulator.effects import Effect, effect, passing_effect
from airflow_provider_geocatalog.emulator.ingest import IngestionError
from airflow_provider_geocatalog.emulator.runs import RUN_TYPE, Runs
from airflow_provider_geocatalog.emulator.state import (
    Change,
    Counters,
    ItemFailure,
    Operation,
    StateError,
    World,
    new_id,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_geocatalog.emulator.clock import Clock
    from airflow_provider_geocatalog.emulator.faults import Faults
    from airflow_provider_geocatalog.emulator.settings import EmulatorSettings
    from airflow_provider_geocatalog.emulator.storage import Blobs

__all__ = ["Engine", "Part"]

log = logging.getLogger(__name__)

#: What becomes of one item of an operation, and the item's id where it is known.
Part = tuple[Effect, str | None]

_LONGEST_SLEEP, _SHORTEST_SLEEP = 1.0, 0.005  # seconds of the background thread
_LONGEST_READING = 10.0  # seconds of the machine for which the clock's travelling waits for sources that are being read


@dataclass(frozen=True, eq=False)
class _Held:
    """What a fault keeps from happening, with the number of the event that it would be."""

    fault_id: str
    number: int
    effect: Effect


class Engine:
    """
    Start, move and end operations. Methods without a lock of their own expect the world's to be held.

    :param blobs: The emulator's own containers, which runs read.
    :param faults: Those that tests have it commit.
    """

    def __init__(self, world: World, settings: EmulatorSettings, clock: Clock, blobs: Blobs, faults: Faults) -> None:
        self.world, self.settings, self.clock, self.faults = world, settings, clock, faults
        self._held: list[_Held] = []
        self._events: list[tuple[float, int, Effect]] = []
        self._sequence = itertools.count()
        self.first_tick = clock.now()
        self._undo: dict[str, Effect] = {}
        self._parts: dict[str, deque[Part]] = {}
        self.changed = threading.Condition(world.lock)
        self.runs = Runs(self, blobs)
        self._stopping = False
        self._thread: threading.Thread | None = None
        clock.attach(self._travel)

    # --- time ---------------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Carry out everything that is due, in the order in which it was due."""
        with self.world.lock:
            while self._events and self._events[0][0] <= now:
                due, number, effect = heapq.heappop(self._events)
                self.world.journal.event_over(number)
                try:
                    effect(due)
                except Exception:
                    log.exception("a transition failed")

    def start(self) -> None:
        """Let time pass in the background."""
        if self._thread is None:
            self._stopping = False
            self._thread = threading.Thread(target=self._tick, name="geocatalog-emulator-engine", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the background thread and abandon what runs are reading."""
        with self.changed:
            self._stopping = True
            self.runs.abandon()
            self.changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None

    def retire(self) -> None:
        """Stop for good, for a world that is forgotten."""
        self.clock.detach(self._travel)
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether time passes in the background."""
        return self._thread is not None

    def settle(self, timeout: float = 10.0) -> bool:
        """Carry out what is due and wait until no source is being read; tell whether that came in time."""
        with self.changed:
            self.advance(self.clock.now())
            settled = self.changed.wait_for(lambda: not self.runs.are_reading, timeout)
            self.advance(self.clock.now())
        return settled

    def _travel(self, until: float) -> None:
        """Let happen what is due until a moment, each at its time: a source is read when its run begins, not later."""
        deadline = time.monotonic() + _LONGEST_READING
        with self.changed:
            self.world.journal.moment(until)
            while True:
                self.advance(self.clock.now())
                self.changed.wait_for(lambda: not self.runs.are_reading, max(deadline - time.monotonic(), 0.0))
                if not self._events or self._events[0][0] > until:
                    break
                self.clock.move_to(self._events[0][0])
            self.changed.notify_all()

    def _tick(self) -> None:
        try:
            with self.changed:
                while not self._stopping:
                    self.advance(self.clock.now())
                    due = self._events[0][0] if self._events else math.inf
                    pause = self.clock.machine_seconds_until(due)
                    self.changed.wait(min(max(pause, _SHORTEST_SLEEP), _LONGEST_SLEEP))
        except StateError:
            log.critical("time stands still: the state could not be saved")

    def at(self, due: float, effect: Effect) -> None:
        """Have something happen."""
        number = next(self._sequence)
        heapq.heappush(self._events, (due, number, effect))
        self.world.journal.event(number, due, effect)
        self.changed.notify_all()

    # --- after a restart ----------------------------------------------------------------------------------------

    def restore(
        self,
        events: Iterable[tuple[float, int, Effect]],
        undo: Mapping[str, Effect],
        parts: Mapping[str, Iterable[Part]],
    ) -> None:
        """
        Take up what an earlier engine left; it gave the numbers of the events.

        :param undo: What cancellations have to take back, by operation.
        :param parts: What is left of operations on items.
        """
        self._events = sorted(events, key=lambda event: event[:2])
        self._sequence = itertools.count(max((number for _, number, _ in self._events), default=-1) + 1)
        self._undo.update(undo)
        self._parts.update((operation_id, deque(left)) for operation_id, left in parts.items())

    def undo_of(self, operation: Operation) -> Effect | None:
        """Return what an operation's cancellation has to take back."""
        return self._undo.get(operation.id)

    def parts_of(self, operation: Operation) -> Sequence[Part]:
        """Return what is left of an operation on items."""
        return self._parts.get(operation.id, ())

    # --- holding ------------------------------------------------------------------------------------------------

    @effect
    def go_on(self, status: str, operation: Operation, effect: Effect, at: float) -> None:
        """Have an operation leave a status, unless a fault holds it there."""
        hold = self.faults.hold_of(operation, status)
        if hold is None:
            effect(at)
            return
        held = _Held(hold[0], next(self._sequence), effect)
        self._held.append(held)
        self.world.journal.event(held.number, at, effect)  # faults do not survive a restart
        if hold[1] is not None:
            self.at(at + hold[1], partial(self._let_go, held))

    def release(self) -> None:
        """Let go what was held by faults that are no more."""
        with self.changed:
            now = self.clock.now()
            for held in list(self._held):
                if self.faults.get(held.fault_id) is None:
                    self._let_go(held, now)

    @passing_effect
    def _let_go(self, held: _Held, at: float) -> None:
        if held in self._held:
            self._held.remove(held)
            self.world.journal.event_over(held.number)
            self.at(at, held.effect)

    # --- operations on collections and definitions --------------------------------------------------------------

    def start_slow(
        self,
        kind: str,
        collection_id: str,
        now: float,
        effect: Effect,
        *,
        undo: Effect | None = None,
        extra: dict[str, str] | None = None,
    ) -> Operation:
        """
        Start an operation that waits for the poller: ``AddCollection``, ``DeleteCollection``, ``DeleteIngestion``.

        :param effect: What it does when it ends.
        :param undo: What its cancellation takes back.
        """
        operation = self.new(kind, collection_id, now, extra=extra)
        if undo:
            self.on_cancel(operation, undo)
        begin = partial(self._begin_slow, operation, effect)
        self.at(self._next_tick(now), partial(self.go_on, "Pending", operation, begin))
        return operation

    def _next_tick(self, now: float) -> float:
        tick = self.settings.collection_tick
        return self.first_tick + (int((now - self.first_tick) / tick) + 1) * tick if tick else now

    @effect
    def _begin_slow(self, operation: Operation, effect: Effect, at: float) -> None:
        # The deletion of a definition completes even when it is cancelled (6.2).
        if operation.status == "Pending" or (operation.type == "DeleteIngestion" and not operation.is_final):
            self.begin(operation, at)
            end = partial(self._end_slow, operation, effect)
            self.at(at + self.settings.collection_seconds, partial(self.go_on, "Running", operation, end))

    @effect
    def _end_slow(self, operation: Operation, effect: Effect, at: float) -> None:
        if operation.status != "Running":
            return
        forced = self.faults.end_of(operation)
        if forced and forced.status == "Failed":
            undo = self._undo.get(operation.id)
            self.end(operation, "Failed", at, forced.code, forced.message)
            if undo:
                undo(at)
            return
        try:
            effect(at)
        except IngestionError as error:
            self.end(operation, "Failed", at, error.code, error.message)
        else:
            self.end(operation, "Succeeded", at)

    # --- operations on items ------------------------------------------------------------------------------------

    def start_items(
        self, kind: str, collection_id: str, now: float, effects: Sequence[Effect], item_ids: Sequence[str] = ()
    ) -> Operation:
        """
        Start ``AddItem``, ``UpdateItem`` or ``DeleteItem``.

        :param effects: One for each item.
        :param item_ids: Their ids.
        """
        operation = self.new(kind, collection_id, now, counts=True)
        self._parts[operation.id] = deque(itertools.zip_longest(effects, item_ids[: len(effects)]))
        self.world.journal.parts(operation)
        begin = partial(self._begin_items, operation)
        self.at(now + self.settings.pending_seconds, partial(self.go_on, "Pending", operation, begin))
        return operation

    @effect
    def _begin_items(self, operation: Operation, at: float) -> None:
        if operation.status == "Pending":
            self.begin(operation, at)
            count = len(self._parts[operation.id])
            operation.counters = Counters(total=count, pending=count)
            first = partial(self._next_item, operation)
            self.at(at + self.step, partial(self.go_on, "Running", operation, first))

    @effect
    def _next_item(self, operation: Operation, at: float) -> None:
        if operation.status != "Running":
            return
        parts = self._parts[operation.id]
        if parts:
            effect, item_id = parts.popleft()
            self.count(operation, effect, at, item_id)
        if parts:
            self.at(at + self.step, partial(self._next_item, operation))
        else:
            self.end_counted(operation, at, partial_status="Failed")

    @property
    def step(self) -> float:
        """Seconds that an item takes."""
        return 1 / self.settings.items_per_second if self.settings.items_per_second else 0.0

    def count(self, operation: Operation, effect: Effect, at: float, item_id: str | None = None) -> None:
        """Do one item's part of an operation and count how it went."""
        self.world.journal.operation(operation)
        counters = operation.counters
        counters.pending -= 1
        fault = self.faults.failure_of(operation, item_id)
        try:
            if fault:
                raise IngestionError(fault.code, fault.message, item_id)
            effect(at)
        except IngestionError as error:
            counters.failed += 1
            operation.failures.append(ItemFailure(error.code, error.message, error.item_id, at=at))
        except Exception:  # otherwise the operation would be Running for ever
            log.exception("an item of operation %s failed", operation.id)
            counters.failed += 1
            operation.failures.append(ItemFailure("InternalError", "The emulator failed; see its log.", at=at))
        else:
            counters.successful += 1

    def end_counted(self, operation: Operation, at: float, *, partial_status: str) -> None:
        """End an operation by its counters: one item's own reason, or the code for several (10.3)."""
        counters = operation.counters
        forced = self.faults.end_of(operation)
        if forced and forced.status == "Failed":
            self.end(operation, "Failed", at, forced.code, forced.message)
        elif forced or not counters.failed:
            self.end(operation, "Succeeded", at)
        elif counters.total == 1 and not operation.type.startswith(RUN_TYPE):
            self.end(operation, "Failed", at, operation.failures[0].code, operation.failures[0].message)
        elif counters.successful and partial_status == "Succeeded":
            self.end(operation, "Succeeded", at)
        else:
            message = f"{counters.failed} of {counters.total} items failed"
            self.end(operation, "Failed", at, "ErrorsInBatchOperation", message)

    # --- cancelling ---------------------------------------------------------------------------------------------

    def cancel(self, operation: Operation, now: float) -> None:
        """Ask for the end of an operation that is not final; it takes effect later (6.4)."""
        if operation.is_final or operation.status == "Canceling" or self.faults.loses_cancel(operation):
            return
        self.world.journal.operation(operation)
        if operation.type == "DeleteIngestion":
            if operation.status == "Pending":
                operation.status = "Canceling"
                operation.history.append(Change("Canceling", now))
            return
        operation.status = "Canceling"
        canceled = partial(self._canceled, operation)
        self.at(now + self.settings.cancel_seconds, partial(self.go_on, "Canceling", operation, canceled))

    @effect
    def _canceled(self, operation: Operation, at: float) -> None:
        collection = self.world.collections.get(operation.collection_id)
        deleted = collection is None or collection.deletion is not None
        if self.settings.deleted_collection_cancel == "stuck" and operation.counts and deleted:
            return
        if not any(change.status == "Running" for change in operation.history):
            operation.history.clear()  # recorded: the history of what never started holds this one entry (6.2)
        message = f"Operation '{operation.id}' for collection '{operation.collection_id}' has been cancelled"
        undo = self._undo.pop(operation.id, None)
        self.end(operation, "Canceled", at, "CanceledOperation", message)
        if undo:
            undo(at)

    def on_cancel(self, operation: Operation, undo: Effect) -> None:
        """Say what an operation's cancellation has to take back."""
        self.world.journal.operation(operation)
        self._undo[operation.id] = undo

    # --- every operation ----------------------------------------------------------------------------------------

    def new(
        self, kind: str, collection_id: str, now: float, *, counts: bool = False, extra: dict[str, str] | None = None
    ) -> Operation:
        """Record an operation in ``Pending``."""
        operation = Operation(
            new_id(), kind, collection_id, now, counts, history=[Change("Pending", now)], extra=dict(extra or {})
        )
        self.world.operations[operation.id] = operation
        self.world.journal.operation(operation)
        return operation

    def begin(self, operation: Operation, at: float) -> None:
        """Move an operation to ``Running``."""
        self.world.journal.operation(operation)
        operation.status = "Running"
        operation.history.append(Change("Running", at))
        if operation.counts:
            operation.started = operation.created  # recorded (6.1)
        elif self._tells_times(operation):
            operation.started = at

    def end(
        self, operation: Operation, status: str, at: float, code: str | None = None, message: str | None = None
    ) -> None:
        """Move an operation to a final status."""
        self.world.journal.operation(operation)
        self._undo.pop(operation.id, None)
        self._parts.pop(operation.id, None)
        operation.status = status
        operation.history.append(Change(status, at, code, message))
        if operation.counts or self._tells_times(operation):
            operation.finished = at

    def _tells_times(self, operation: Operation) -> bool:
        return self.settings.collection_operation_times == "present" and operation.type != "DeleteIngestion"
