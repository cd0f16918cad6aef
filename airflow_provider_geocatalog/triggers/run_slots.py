"""Wait in the triggerer until it is a task's turn to start a bulk run."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.triggers.polling import PollingTrigger, fire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.triggers.base import TriggerEvent

    from airflow_provider_geocatalog.run_slots import RunSlots

__all__ = ["GeoCatalogRunSlotTrigger"]

#: Those of each event loop by connection id.
_slots: dict[asyncio.AbstractEventLoop, dict[str, RunSlots]] = {}


class GeoCatalogRunSlotTrigger(PollingTrigger):
    """
    Wait until fewer bulk runs of a GeoCatalog are active than a number, and it is this task's turn to start another.

    All of a triggerer's waits on one connection share their looks, and go one after the other: who began first goes
    first, and a slot that was given away counts as taken until its run shows. The task looks once more itself, so the
    event says no more than that it is worth it; it also fires when the time is over.

    :param max_active_runs: Active runs with which there is no slot.
    :param options: As for :class:`~airflow_provider_geocatalog.triggers.polling.PollingTrigger`.
    """

    def __init__(self, *, max_active_runs: int, **options: Any) -> None:
        super().__init__(**options)
        self.max_active_runs = max_active_runs

    def _arguments(self) -> dict[str, Any]:
        return {"max_active_runs": self.max_active_runs, **super()._arguments()}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once."""
        yield fire({**self.echo, "outcome": await self._wait()})

    async def _wait(self) -> str:
        from airflow_provider_geocatalog.api.errors import GeoCatalogError
        from airflow_provider_geocatalog.run_slots import SlotLog, SlotWait
        from airflow_provider_geocatalog.triggers.watching import Trouble

        slots, trouble = self._shared(), Trouble(self.log, "Looking for a slot")
        started, policy = self._began(), self._policy()
        deadline = math.inf if self.deadline is None else self.deadline
        wait, told = SlotWait(self.max_active_runs, started), SlotLog(self.log, self.max_active_runs)
        pause = self._first_pause()
        with slots.waiting(wait):
            while True:
                await asyncio.sleep(max(0.0, min(pause, deadline - time.time())))
                retry_after = None
                try:
                    active = await slots.look(policy.delay(time.time() - started) / 2)
                except GeoCatalogError as error:
                    retry_after = trouble.began(error)
                    if not error.retryable or trouble.age >= self.outage_budget:
                        return "unreadable"
                else:
                    trouble.ended()
                    if slots.take_turn(wait):
                        return "turn"
                    told.tell(active)
                if time.time() >= deadline:
                    return "timeout"
                pause = policy.delay(time.time() - started, retry_after)

    def _shared(self) -> RunSlots:
        """Return what all waits on this connection in the running event loop share."""
        from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
        from airflow_provider_geocatalog.run_slots import RunSlots

        for loop in [loop for loop in list(_slots) if loop.is_closed()]:
            del _slots[loop]
        slots = _slots.setdefault(asyncio.get_running_loop(), {})
        if self.geocatalog_conn_id not in slots:
            # The connection is read again for each look: it may change during a long wait.
            slots[self.geocatalog_conn_id] = RunSlots(GeoCatalogHook(self.geocatalog_conn_id).areconnect)
        return slots[self.geocatalog_conn_id]
