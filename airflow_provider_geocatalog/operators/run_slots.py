"""Start a bulk run only while fewer than a number are active in the GeoCatalog."""

from __future__ import annotations

import time
from abc import abstractmethod
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.numbers import whole_number
from airflow_provider_geocatalog.operators.base import BACKSTOP, TRIGGERS_LOST, GeoCatalogWaitingOperator
from airflow_provider_geocatalog.triggers.ingestion import OWNER_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.api.models import Operation
    from airflow_provider_geocatalog.run_slots import SlotLog

__all__ = ["RunSlotOperator"]

T = TypeVar("T")

#: Marks the record of a task that waits for a slot, where one that waits for an operation names that.
_FOR_SLOT = "for_slot"


class RunSlotOperator(GeoCatalogWaitingOperator):
    """
    Base of the operators that start bulk runs.

    The service tells what is active, so nothing has to be kept or locked between Airflows. A deferrable task goes
    through the triggerer, which lets one after the other go on; then the worker looks again, and it looks and starts
    while nobody else on its machine does.

    :param max_active_runs: Start a run only while fewer bulk runs than this are active in the whole GeoCatalog, whoever
        started them, and wait until then; ``None`` starts it at once. ``timeout`` holds for that wait by itself,
        ``execution_timeout`` for it and the run together. A run that is adopted has its slot already.
    """

    def __init__(self, *, max_active_runs: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if max_active_runs is not None and whole_number(max_active_runs, "max_active_runs") == 0:
            raise GeoCatalogInvalidInput("max_active_runs is 0, with which nothing would ever be started")
        self.max_active_runs = max_active_runs
        self._slot_since: float | None = None  # epoch seconds, since when a slot has been waited for

    def _in_slot(
        self, context: Context, wait: Mapping[str, Any] | None, begin: Callable[[Callable[[], None]], T], **ids: Any
    ) -> T:
        """
        Start a run, or adopt one, in a slot if there has to be one for it; does not return if it defers.

        :param wait: The record of a wait that the triggerer has ended.
        :param begin: Starts or adopts the run; it calls its argument right before it starts one.
        :param ids: What :meth:`_begin_in_slot` needs to go on after a deferral; JSON values.
        """
        from airflow_provider_geocatalog.run_slots import SlotLog, SlotsTaken

        if self.max_active_runs is None:
            return begin(lambda: None)
        is_first, told = wait is None, SlotLog(self.log, self.max_active_runs)
        if wait is None:
            self._slot_since = time.time()
            wait = {**ids, _FOR_SLOT: True, "began": self._slot_since, "deadline": self._slot_since + self._limit()}
        while True:
            with ExitStack() as stack:
                try:
                    return begin(partial(self._take_slot, stack, may_look=not (self.deferrable and is_first)))
                except SlotsTaken as taken:
                    active = taken.active
            self._wait_for_slot(context, wait, active, told)

    def _take_slot(self, stack: ExitStack, *, may_look: bool) -> None:
        """Go on if there is a slot, and keep others on this machine from taking it until the stack is closed."""
        from airflow_provider_geocatalog.run_slots import SlotsTaken, active_runs, start_lock

        if not may_look:
            raise SlotsTaken(None)  # many tasks may begin at the same moment, on many machines
        stack.enter_context(start_lock(self.hook.client.settings.url))
        active = self.hook.run(active_runs())
        is_over = self.execution_timeout is not None and self._limit() <= 0
        if is_over or len(active) >= (self.max_active_runs or 0):
            raise SlotsTaken(active)

    def _wait_for_slot(
        self, context: Context, wait: Mapping[str, Any], active: Sequence[Operation] | None, told: SlotLog
    ) -> None:
        """Wait for the next look, or defer."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogWaitTimeout
        from airflow_provider_geocatalog.api.waiting import PollPolicy
        from airflow_provider_geocatalog.run_slots import describe_runs
        from airflow_provider_geocatalog.triggers.run_slots import GeoCatalogRunSlotTrigger

        now, began, deadline = time.time(), wait["began"], wait["deadline"]
        if active is not None:
            told.tell(active)
        if now >= deadline:
            raise GeoCatalogWaitTimeout(
                f"there was no slot for a run within {deadline - began:.0f} s, max_active_runs is "
                f"{self.max_active_runs}; active: {'unknown' if active is None else describe_runs(active)}",
                hint="Nothing was started. Raise the task's timeout or max_active_runs, or cancel what hangs.",
            )
        min_poll_interval = min(self.min_poll_interval, self.poll_interval)
        if not self.deferrable:
            pause = PollPolicy(self.poll_interval, min_poll_interval).delay(now - began)
            self.hook.client.clock.sleep(max(0.0, min(pause, deadline - now)))
            return
        context["ti"].xcom_push(key=OWNER_KEY, value=dict(wait))
        self.log.info("Waiting in the triggerer for one of %d slots.", self.max_active_runs)
        self.defer(
            trigger=GeoCatalogRunSlotTrigger(
                max_active_runs=self.max_active_runs or 0,
                geocatalog_conn_id=self.geocatalog_conn_id,
                poll_interval=self.poll_interval,
                min_poll_interval=min_poll_interval,
                first_delay=self.first_delay,
                started=began,
                deadline=deadline,
                outage_budget=self.outage_budget,
                echo=dict(wait),
            ),
            method_name="execute_in_slot",
            timeout=timedelta(seconds=max(60.0, deadline - now + BACKSTOP)),
        )

    def execute_in_slot(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """
        Continue when it may be this task's turn: look, and start the run or wait again.

        :param event: What the trigger said.
        :raises GeoCatalogWaitTimeout: There was no slot in time; nothing was started.
        """
        return self._conclude(context, partial(self._resume_in_slot, context, event or {}))

    def _resume_in_slot(self, context: Context, event: Mapping[str, Any]) -> Any:
        from airflow_provider_geocatalog.api.errors import GeoCatalogWaitTimeout

        if "deadline" not in event:
            raise GeoCatalogWaitTimeout("the trigger ended without saying what happened; nothing was started")
        wait = {name: value for name, value in event.items() if name != "outcome"}
        self._slot_since = wait["began"]
        return self._begin_in_slot(context, wait)

    @abstractmethod
    def _begin_in_slot(self, context: Context, wait: Mapping[str, Any]) -> Any:
        """Go on after a deferral with what :meth:`_in_slot` was given."""

    def _resume_without_trigger(self, context: Context, error: Exception) -> Any:
        ti: Any = context["ti"]
        wait = ti.xcom_pull(task_ids=ti.task_id, key=OWNER_KEY, map_indexes=ti.map_index)
        if not isinstance(wait, dict) or not wait.get(_FOR_SLOT):
            return super()._resume_without_trigger(context, error)
        lost = int(wait.get("triggers_lost", 0)) + 1
        if lost > TRIGGERS_LOST:
            raise error
        self.log.warning("The trigger was lost (%s); looking for a slot again.", error)
        return self._resume_in_slot(context, {**wait, "triggers_lost": lost})

    def _limit(self) -> float:
        limit = super()._limit()
        if self._slot_since is None or not self.execution_timeout:
            return limit
        return max(0.0, min(limit, self._slot_since + self.execution_timeout.total_seconds() - time.time()))
