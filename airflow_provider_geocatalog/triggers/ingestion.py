"""Wait in the triggerer for an operation or an ingestion run to end."""

from __future__ import annotations

import asyncio
import random
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_geocatalog.provider_info import DEFAULT_CONNECTION_ID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_geocatalog.api.http import Flow
    from airflow_provider_geocatalog.api.models import Operation

__all__ = ["OWNER_KEY", "GeoCatalogIngestionRunTrigger", "GeoCatalogOperationTrigger"]

#: XCom that says which operation a task instance waits for, so that a trigger that is told to stop can see whether the
#: wait has moved to another trigger.
OWNER_KEY = "geocatalog_operation"
_CANCEL_WITHIN = 25.0  # seconds; Airflow gives on_kill 30
_SETTLE_WITHIN = 15.0  # seconds of these for a cleared task to start again
_LOOK_AGAIN = 1.0  # seconds
#: States of a task instance that nothing follows.
_OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_GONE = "gone"
#: Cancellations under way, kept from the garbage collector.
_cancellations: set[asyncio.Task[None]] = set()


class _WaitTrigger(BaseTrigger):
    """
    What both triggers share.

    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param poll_interval: Seconds between polls of a wait that is no longer young.
    :param first_delay: Seconds before the first poll. A trigger that fires within a few seconds of its deferral can
        make the scheduler fail the task (seen on Airflow 3.0, 3.1 and 3.3.2), and the worker has just looked.
    :param deadline: Epoch seconds at which to give up.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether a user's stop of the task cancels the work in the service.
    :param echo: JSON object that the event gives back to the task; what the task knew is gone when it resumes.
    """

    def __init__(
        self,
        *,
        geocatalog_conn_id: str = DEFAULT_CONNECTION_ID,
        poll_interval: float = 30.0,
        first_delay: float = 8.0,
        deadline: float | None = None,
        outage_budget: float = 3600.0,
        cancel_on_kill: bool = True,
        echo: dict[str, Any] | None = None,
        **_from_other_versions: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.geocatalog_conn_id = geocatalog_conn_id
        self.poll_interval = poll_interval
        self.first_delay = first_delay
        self.deadline = deadline
        self.outage_budget = outage_budget
        self.cancel_on_kill = cancel_on_kill
        self.echo = echo or {}

    def _arguments(self) -> dict[str, Any]:
        return {
            "geocatalog_conn_id": self.geocatalog_conn_id,
            "poll_interval": self.poll_interval,
            "first_delay": self.first_delay,
            "deadline": self.deadline,
            "outage_budget": self.outage_budget,
            "cancel_on_kill": self.cancel_on_kill,
            "echo": self.echo,
        }

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and exactly the arguments that make this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self._arguments()

    @property
    @abstractmethod
    def operation_id(self) -> str:
        """Id of the operation that is waited for; a run's id is its operation's id."""

    @abstractmethod
    def _wait(self, **options: Any) -> Flow[Operation]:
        """Return the flow that waits."""

    @abstractmethod
    def _event(self) -> dict[str, Any]:
        """Return the ids that the task needs to read the result."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once: with the final status, or because time is up, or because it cannot be read."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogWaitTimeout
        from airflow_provider_geocatalog.api.flows.waiting import PollPolicy
        from airflow_provider_geocatalog.api.progress import ProgressLog
        from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

        delay = self.first_delay * random.uniform(0.9, 1.1)
        if self.deadline is not None:
            delay = min(delay, max(0.0, self.deadline - time.time()))
        await asyncio.sleep(delay)
        hook = GeoCatalogHook(self.geocatalog_conn_id)
        try:
            operation = await hook.arun(
                self._wait(
                    policy=PollPolicy(self.poll_interval, outage=self.outage_budget),
                    deadline=self.deadline,
                    observe=ProgressLog(self.log, f"Operation {self.operation_id}").observe,
                )
            )
        except GeoCatalogWaitTimeout as error:
            event = {**self._event(), **self.echo, "outcome": "timeout", "message": str(error)}
        except GeoCatalogError as error:
            event = {**self._event(), **self.echo, "outcome": "unreadable", "message": str(error)}
        else:
            event = {**self._event(), **self.echo, "outcome": "ended", "status": operation.status.word}
        yield TriggerEvent(event)
        return  # going on after the event would be taken for a user's stop

    # --- a user's stop (Airflow 3.3 and later call this) -------------------------------------------------------------

    async def on_kill(self) -> None:
        """
        Cancel the operation because a user stopped the task.

        Airflow 3.3.2 also calls this when the trigger moves to another triggerer and when the task is cleared, whose
        next try adopts the operation; and it cancels this about a second after it starts. So the work is shielded, and
        it asks first whether the task still waits for this operation, or is about to.
        """
        if not self.cancel_on_kill:
            return
        work = asyncio.get_running_loop().create_task(self._cancel_unless_waited_for())
        _cancellations.add(work)
        work.add_done_callback(_cancellations.discard)
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                continue

    async def _cancel_unless_waited_for(self) -> None:
        from airflow_provider_geocatalog.api.flows.ingestion import cancel_if_active
        from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

        try:
            async with asyncio.timeout(_CANCEL_WITHIN):
                if await self._is_waited_for():
                    return
                taken = await GeoCatalogHook(self.geocatalog_conn_id).arun(cancel_if_active(self.operation_id))
                said = "The cancellation of operation %s was requested." if taken else "Operation %s had ended already."
                self.log.info(said, self.operation_id)
        except Exception:
            # Nobody is left to raise to; in doubt the operation goes on and the log says so.
            self.log.exception("Operation %s may still be running: it could not be cancelled.", self.operation_id)

    async def _is_waited_for(self) -> bool:
        """
        Return whether the task instance waits for this very operation, or may do so soon.

        A cleared task is looked at until its next try waits or ends: only then it is known whether it has adopted the
        operation. If that takes too long, the operation goes on.
        """
        give_up_at = time.monotonic() + _SETTLE_WITHIN
        while True:
            state = await self._task_state()
            if state == "deferred":
                if await self._owned_operation() != self.operation_id:
                    return False
                self.log.info("Operation %s is waited for elsewhere; it goes on.", self.operation_id)
                return True
            if state in _OVER or state == _GONE:
                return False
            if time.monotonic() > give_up_at:
                self.log.warning(
                    "Operation %s goes on: the task is %s, and its next try may wait for it.",
                    self.operation_id,
                    state or "cleared",
                )
                return True
            await asyncio.sleep(_LOOK_AGAIN)

    async def _task_state(self) -> str | None:
        """Return the task instance's state: ``None`` for a cleared one, ``_GONE`` if it does not exist any more."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
        from asgiref.sync import sync_to_async

        ti: Any = self.task_instance
        map_index = -1 if ti.map_index is None else ti.map_index
        states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=map_index
        )
        # States of mapped tasks are keyed by task id and map index.
        name = ti.task_id if map_index < 0 else f"{ti.task_id}_{map_index}"
        state: str | None = states.get(ti.run_id, {}).get(name, _GONE)
        return state

    async def _owned_operation(self) -> str | None:
        """Return the operation that the task instance says it waits for."""
        from airflow.providers.common.compat.sdk import XCom

        ti: Any = self.task_instance
        owner = await XCom.aget_one(
            key=OWNER_KEY,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
        )
        return owner.get("operation_id") if owner else None


class GeoCatalogOperationTrigger(_WaitTrigger):
    """
    Wait for a long-running operation to end.

    :param operation_id: The operation.
    :param operation_url: Where the service said to poll it; used only on the connection's own origin.
    :param options: As for :class:`GeoCatalogIngestionRunTrigger`.
    """

    def __init__(self, *, operation_id: str, operation_url: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._operation_id = operation_id
        self.operation_url = operation_url

    def _arguments(self) -> dict[str, Any]:
        return {"operation_id": self._operation_id, "operation_url": self.operation_url, **super()._arguments()}

    @property
    def operation_id(self) -> str:
        """Id of the operation that is waited for."""
        return self._operation_id

    def _wait(self, **options: Any) -> Flow[Operation]:
        from airflow_provider_geocatalog.api.flows.waiting import wait_for_operation

        return (yield from wait_for_operation(self._operation_id, url=self.operation_url, **options))

    def _event(self) -> dict[str, Any]:
        return {"operation_id": self._operation_id, "operation_url": self.operation_url}


class GeoCatalogIngestionRunTrigger(_WaitTrigger):
    """
    Wait for an ingestion run to end.

    :param collection_id: The run's collection.
    :param ingestion_id: The run's definition.
    :param run_id: The run.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param poll_interval: Seconds between polls of a wait that is no longer young.
    :param first_delay: Seconds before the first poll.
    :param deadline: Epoch seconds at which to give up; the trigger then fires with the outcome ``timeout``.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether a user's stop of the task cancels the run (Airflow 3.3 and later).
    """

    def __init__(self, *, collection_id: str, ingestion_id: str, run_id: str, **options: Any) -> None:
        super().__init__(**options)
        self.collection_id = collection_id
        self.ingestion_id = ingestion_id
        self.run_id = run_id

    def _ids(self) -> dict[str, Any]:
        return {"collection_id": self.collection_id, "ingestion_id": self.ingestion_id, "run_id": self.run_id}

    def _arguments(self) -> dict[str, Any]:
        return {**self._ids(), **super()._arguments()}

    @property
    def operation_id(self) -> str:
        """Id of the run, which is that of its operation."""
        return self.run_id

    def _wait(self, **options: Any) -> Flow[Operation]:
        from airflow_provider_geocatalog.api.flows.waiting import wait_for_run

        return (yield from wait_for_run(**self._ids(), **options)).operation

    def _event(self) -> dict[str, Any]:
        return dict(self._ids())
