"""Wait in the triggerer until it is a task's turn to start a bulk run."""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger

from airflow_provider_geocatalog.provider_info import DEFAULT_CONNECTION_ID
from airflow_provider_geocatalog.triggers.ingestion import fire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.triggers.base import TriggerEvent

    from airflow_provider_geocatalog.run_slots import RunSlots

__all__ = ["GeoCatalogRunSlotTrigger"]

#: Those of each event loop by connection id.
_slots: dict[asyncio.AbstractEventLoop, dict[str, RunSlots]] = {}


class GeoCatalogRunSlotTrigger(BaseTrigger):
    """
    Wait until fewer bulk runs of a GeoCatalog are active than a number, and it is this task's turn to start another.

    All of a triggerer's waits on one connection share their looks, and go one after the other: who began first goes
    first, and a slot that was given away counts as taken until its run shows. The task looks once more itself, so the
    event says no more than that it is worth it; it also fires when the time is over.

    :param max_active_runs: Active runs with which there is no slot.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param poll_interval: Seconds between looks of an old wait.
    :param min_poll_interval: Seconds between looks of a young wait; the pause grows with the wait's age.
    :param first_delay: Seconds before the first look, see
        :class:`~airflow_provider_geocatalog.triggers.ingestion.GeoCatalogIngestionRunTrigger`.
    :param started: Epoch seconds at which the wait began; now, if not given.
    :param deadline: Epoch seconds at which to give up.
    :param outage_budget: Seconds for which failing looks are ridden out.
    :param echo: JSON object that the event gives back to the task; what the task knew is gone when it resumes.
    """

    def __init__(
        self,
        *,
        max_active_runs: int,
        geocatalog_conn_id: str = DEFAULT_CONNECTION_ID,
        poll_interval: float = 30.0,
        min_poll_interval: float = 2.0,
        first_delay: float = 8.0,
        started: float | None = None,
        deadline: float | None = None,
        outage_budget: float = 3600.0,
        echo: dict[str, Any] | None = None,
        **_from_other_versions: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.max_active_runs = max_active_runs
        self.geocatalog_conn_id = geocatalog_conn_id
        self.poll_interval = poll_interval
        self.min_poll_interval = min_poll_interval
        self.first_delay = first_delay
        self.started = started
        self.deadline = deadline
        self.outage_budget = outage_budget
        self.echo = echo or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and exactly the arguments that make this trigger again."""
        arguments = {
            "max_active_runs": self.max_active_runs,
            "geocatalog_conn_id": self.geocatalog_conn_id,
            "poll_interval": self.poll_interval,
            "min_poll_interval": self.min_poll_interval,
            "first_delay": self.first_delay,
            "started": self.started,
            "deadline": self.deadline,
            "outage_budget": self.outage_budget,
            "echo": self.echo,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once."""
        yield fire({**self.echo, "outcome": await self._wait()})

    async def _wait(self) -> str:
        from airflow_provider_geocatalog.api.errors import GeoCatalogError
        from airflow_provider_geocatalog.api.waiting import PollPolicy
        from airflow_provider_geocatalog.run_slots import SlotLog, SlotWait
        from airflow_provider_geocatalog.triggers.watching import Trouble

        slots, trouble = self._shared(), Trouble(self.log, "Looking for a slot")
        started = time.time() if self.started is None else self.started
        policy = PollPolicy(self.poll_interval, min(self.min_poll_interval, self.poll_interval))
        deadline = math.inf if self.deadline is None else self.deadline
        wait, told = SlotWait(self.max_active_runs, started), SlotLog(self.log, self.max_active_runs)
        pause = self.first_delay * random.uniform(0.9, 1.1)
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
