"""
What happens with time. Every transition is an event with a due time; :meth:`Engine.advance` carries out what is due.

Transitions are dated by when they were due, not by when somebody looked, so the same clock gives the same history.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_geocatalog.emulator.ingest import IngestionError
from airflow_provider_geocatalog.emulator.runs import RUN_TYPE, Runs
from airflow_provider_geocatalog.emulator.state import Change, Counters, ItemFailure, Operation, World, new_id

if TYPE_CHECKING:
    from airflow_provider_geocatalog.emulator.clock import Clock
    from airflow_provider_geocatalog.emulator.settings import EmulatorSettings
    from airflow_provider_geocatalog.emulator.storage import Blobs

__all__ = ["Effect", "Engine"]

log = logging.getLogger(__name__)

#: What an operation does to the world at a moment; raises :class:`IngestionError` where that fails.
Effect = Callable[[float], None]

_LONGEST_SLEEP, _SHORTEST_SLEEP = 1.0, 0.005  # seconds of the background thread


class Engine:
    """
    Start, move and end operations. Methods without a lock of their own expect the world's to be held.

    :param blobs: The emulator's own containers, which runs read.
    """

    def __init__(self, world: World, settings: EmulatorSettings, clock: Clock, blobs: Blobs) -> None:
        self.world, self.settings, self.clock = world, settings, clock
        self._events: list[tuple[float, int, Effect]] = []
        self._sequence = itertools.count()
        self._first_tick = clock.now()
        self._undo: dict[str, Effect] = {}
        self.changed = threading.Condition(world.lock)
        self.runs = Runs(self, blobs)
        self._stopping = False
        self._thread: threading.Thread | None = None

    # --- time ---------------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Carry out everything that is due, in the order in which it was due."""
        with self.world.lock:
            while self._events and self._events[0][0] <= now:
                due, _, effect = heapq.heappop(self._events)
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

    def settle(self, timeout: float = 10.0) -> bool:
        """Carry out what is due and wait until no source is being read; tell whether that came in time."""
        with self.changed:
            self.advance(self.clock.now())
            settled = self.changed.wait_for(lambda: not self.runs.are_reading, timeout)
            self.advance(self.clock.now())
        return settled

    def _tick(self) -> None:
        with self.changed:
            while not self._stopping:
                now = self.clock.now()
                self.advance(now)
                pause = self._events[0][0] - now if self._events else _LONGEST_SLEEP
                self.changed.wait(min(max(pause, _SHORTEST_SLEEP), _LONGEST_SLEEP))

    def at(self, due: float, effect: Effect) -> None:
        """Have something happen."""
        heapq.heappush(self._events, (due, next(self._sequence), effect))
        self.changed.notify_all()

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
        self.at(self._next_tick(now), partial(self._begin_slow, operation, effect))
        return operation

    def _next_tick(self, now: float) -> float:
        tick = self.settings.collection_tick
        return self._first_tick + (int((now - self._first_tick) / tick) + 1) * tick if tick else now

    def _begin_slow(self, operation: Operation, effect: Effect, at: float) -> None:
        # The deletion of a definition completes even when it is cancelled (6.2).
        if operation.status == "Pending" or (operation.type == "DeleteIngestion" and not operation.is_final):
            self.begin(operation, at)
            self.at(at + self.settings.collection_seconds, partial(self._end_slow, operation, effect))

    def _end_slow(self, operation: Operation, effect: Effect, at: float) -> None:
        if operation.status != "Running":
            return
        try:
            effect(at)
        except IngestionError as error:
            self.end(operation, "Failed", at, error.code, error.message)
        else:
            self.end(operation, "Succeeded", at)

    # --- operations on items ------------------------------------------------------------------------------------

    def start_items(self, kind: str, collection_id: str, now: float, effects: Sequence[Effect]) -> Operation:
        """
        Start ``AddItem``, ``UpdateItem`` or ``DeleteItem``.

        :param effects: One for each item.
        """
        operation = self.new(kind, collection_id, now, counts=True)
        self.at(now + self.settings.pending_seconds, partial(self._begin_items, operation, effects))
        return operation

    def _begin_items(self, operation: Operation, effects: Sequence[Effect], at: float) -> None:
        if operation.status == "Pending":
            self.begin(operation, at)
            operation.counters = Counters(total=len(effects), pending=len(effects))
            self.at(at + self.step, partial(self._next_item, operation, deque(effects)))

    def _next_item(self, operation: Operation, effects: deque[Effect], at: float) -> None:
        if operation.status != "Running":
            return
        if effects:
            self.count(operation, effects.popleft(), at)
        if effects:
            self.at(at + self.step, partial(self._next_item, operation, effects))
        else:
            self.end_counted(operation, at, partial_status="Failed")

    @property
    def step(self) -> float:
        """Seconds that an item takes."""
        return 1 / self.settings.items_per_second if self.settings.items_per_second else 0.0

    def count(self, operation: Operation, effect: Effect, at: float) -> None:
        """Do one item's part of an operation and count how it went."""
        counters = operation.counters
        counters.pending -= 1
        try:
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
        if not counters.failed:
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
        if operation.is_final or operation.status == "Canceling":
            return
        if operation.type == "DeleteIngestion":
            if operation.status == "Pending":
                operation.status = "Canceling"
                operation.history.append(Change("Canceling", now))
            return
        operation.status = "Canceling"
        self.at(now + self.settings.cancel_seconds, partial(self._canceled, operation))

    def _canceled(self, operation: Operation, at: float) -> None:
        if not any(change.status == "Running" for change in operation.history):
            operation.history.clear()  # recorded: the history of what never started holds this one entry (6.2)
        message = f"Operation '{operation.id}' for collection '{operation.collection_id}' has been cancelled"
        undo = self._undo.pop(operation.id, None)
        self.end(operation, "Canceled", at, "CanceledOperation", message)
        if undo:
            undo(at)

    def on_cancel(self, operation: Operation, undo: Effect) -> None:
        """Say what an operation's cancellation has to take back."""
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
        return operation

    def begin(self, operation: Operation, at: float) -> None:
        """Move an operation to ``Running``."""
        operation.status = "Running"
        operation.history.append(Change("Running", at))
        if operation.counts:
            operation.started = operation.created  # recorded (6.1)

    def end(
        self, operation: Operation, status: str, at: float, code: str | None = None, message: str | None = None
    ) -> None:
        """Move an operation to a final status."""
        self._undo.pop(operation.id, None)
        operation.status = status
        operation.history.append(Change(status, at, code, message))
        if operation.counts:
            operation.finished = at
