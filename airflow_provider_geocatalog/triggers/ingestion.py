"""Wait in the triggerer for an operation or an ingestion run to end."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent

from airflow_provider_geocatalog.triggers.polling import PollingTrigger, fire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from airflow.triggers.base import TriggerEvent

    from airflow_provider_geocatalog.api.http import Flow
    from airflow_provider_geocatalog.api.models import Operation
    from airflow_provider_geocatalog.api.waiting import Waiting
    from airflow_provider_geocatalog.metrics import WaitMetrics

__all__ = [
    "CANCEL_WITHIN",
    "OWNER_KEY",
    "GeoCatalogIngestionRunTrigger",
    "GeoCatalogOperationTrigger",
    "task_state",
]

#: XCom that says which operation a task instance waits for, so that a trigger that is told to stop can see whether the
#: wait has moved to another trigger.
OWNER_KEY = "geocatalog_operation"
CANCEL_WITHIN = 25.0  # seconds; Airflow gives on_kill 30
#: States of a task instance whose next try adopts the operation, so that it goes on.
_ADOPTING_STATES = frozenset({"up_for_retry"})
_GONE = "gone"
#: Airflow before 3.3 only cancels a trigger, whatever the reason.
_HAS_ON_KILL = hasattr(BaseTrigger, "on_kill")
#: Cancellations under way, kept from the garbage collector.
_cancellations: set[asyncio.Task[None]] = set()


class WaitTrigger(PollingTrigger):
    """
    What triggers that wait for operations share. All of a triggerer's waits on one connection share their polls.

    :param cancel_on_kill: Whether a user's stop of the task cancels the work in the service.
    :param ends_task: Whether success ends the task here, with a summary as its result, without a worker.
    :param max_failed_items: Failed items with which that is still a success.
    :param options: As for :class:`~airflow_provider_geocatalog.triggers.polling.PollingTrigger`.
    """

    def __init__(
        self, *, cancel_on_kill: bool = True, ends_task: bool = False, max_failed_items: int = 0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.cancel_on_kill = cancel_on_kill
        self.ends_task = ends_task
        self.max_failed_items = max_failed_items

    def _arguments(self) -> dict[str, Any]:
        return {
            **super()._arguments(),
            "cancel_on_kill": self.cancel_on_kill,
            "ends_task": self.ends_task,
            "max_failed_items": self.max_failed_items,
        }

    @property
    @abstractmethod
    def operation_id(self) -> str:
        """Id of the operation that is waited for."""

    @abstractmethod
    def _read(self) -> Flow[Operation]:
        """Return the flow that reads the operation, in one attempt."""

    @abstractmethod
    def _event(self) -> dict[str, Any]:
        """Return the ids that the task needs to read the result."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once: with the final status, or because time is up, or because it cannot be read."""
        try:
            event = await self._wait()
        except asyncio.CancelledError:
            if not _HAS_ON_KILL and self.cancel_on_kill:
                await self._see_through(self._cancel_if_stopped())
            raise
        yield event
        return  # going on after the event would be taken for a user's stop

    async def _wait(self) -> TriggerEvent:
        from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogWaitTimeout
        from airflow_provider_geocatalog.api.outcomes import is_success
        from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
        from airflow_provider_geocatalog.links import link_xcoms
        from airflow_provider_geocatalog.metrics import WaitMetrics

        hook = GeoCatalogHook(self.geocatalog_conn_id)
        metrics = WaitMetrics(self.geocatalog_conn_id, getattr(self, "collection_id", None), began=self.started)
        ids = {**self._event(), **self.echo}
        try:
            operation = await hook.shared_waits().wait(
                self.operation_id, self._waiting(metrics), self._read, first_delay=self._first_pause()
            )
        except GeoCatalogWaitTimeout as error:
            metrics.ended("timeout")
            return fire({**ids, "outcome": "timeout", "message": str(error)})
        except GeoCatalogError as error:
            metrics.ended("unreadable")
            return fire({**ids, "outcome": "unreadable", "message": str(error)})
        else:
            metrics.ended(operation.status.outcome.value)
        finally:
            metrics.close()
        if self.ends_task and is_success(operation, max_failed_items=self.max_failed_items):
            links = await link_xcoms(hook, operation.collection_id, self.operation_id)
            return TaskSuccessEvent(xcoms={"return_value": operation.to_summary(), **links})
        return fire({**ids, "outcome": "ended", "status": operation.status.word})

    def _waiting(self, metrics: WaitMetrics) -> Waiting:
        from airflow_provider_geocatalog.api.progress import ProgressLog
        from airflow_provider_geocatalog.api.waiting import Waiting

        progress = ProgressLog(self.log, f"Operation {self.operation_id}")

        def observe(operation: Operation, now: float) -> None:
            progress.observe(operation, now)
            metrics.observe(operation)

        return Waiting(
            f"operation {self.operation_id}",
            self._policy(),
            started=self._began(),
            deadline=self.deadline,
            observe=observe,
        )

    # --- a user's stop ------------------------------------------------------------------------------------------------

    async def on_kill(self) -> None:
        """
        Cancel the operation because a user stopped the task; Airflow 3.3 and later call this.

        Airflow 3.3.2 also calls it when the trigger moves to another triggerer, and it cancels it about a second after
        it starts. So the work is shielded, and it asks first whether the task still waits for this operation.
        """
        if self.cancel_on_kill:
            await self._see_through(self._cancel_if_stopped())

    async def _see_through(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        _cancellations.add(task)
        task.add_done_callback(_cancellations.discard)
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                continue

    async def _cancel_if_stopped(self) -> None:
        from airflow_provider_geocatalog.api.flows.ingestion import cancel_if_active
        from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

        try:
            async with asyncio.timeout(CANCEL_WITHIN):
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
        Return whether the task instance waits for this very operation, or will.

        A cleared task counts as stopped: its next try does not take over what was going on when it was cleared.
        """
        state = await self._task_state()
        if state in _ADOPTING_STATES:
            self.log.info("Operation %s goes on: the task is %s, and its next try adopts it.", self.operation_id, state)
            return True
        # Before 3.3 the owner cannot be asked for; a task that waits is then taken to wait for this.
        if state != "deferred" or (_HAS_ON_KILL and await self._owned_operation() != self.operation_id):
            return False
        self.log.info("Operation %s is waited for elsewhere; it goes on.", self.operation_id)
        return True

    async def _task_state(self) -> str | None:
        """Return the task instance's state: ``None`` for a cleared one, ``_GONE`` if it does not exist any more."""
        from asgiref.sync import sync_to_async

        return await sync_to_async(task_state)(self.task_instance)

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


def task_state(ti: Any) -> str | None:
    """
    Return the state that Airflow holds for a task instance now: ``None`` for a cleared one, ``gone`` for a deleted one.

    It blocks, and raises whatever Airflow raises where it cannot be asked.

    :param ti: The task instance, on a worker or in a triggerer.
    """
    map_index = -1 if ti.map_index is None else ti.map_index
    try:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    except ImportError:  # Airflow 2
        return _stored_state(ti, map_index)
    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=map_index
    )
    # States of mapped tasks are keyed by task id and map index.
    name = ti.task_id if map_index < 0 else f"{ti.task_id}_{map_index}"
    state: str | None = states.get(ti.run_id, {}).get(name, _GONE)
    return None if state is None else str(state)


def _stored_state(ti: Any, map_index: int) -> str | None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(TaskInstance.state).filter_by(
            dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=map_index
        )
        row = found.one_or_none()
    return _GONE if row is None else row[0]


class GeoCatalogOperationTrigger(WaitTrigger):
    """
    Wait for a long-running operation to end.

    :param operation_id: The operation.
    :param operation_url: Where the service said to poll it; used only on the connection's own origin.
    :param options: As for :class:`WaitTrigger`.
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

    @operation_id.setter
    def operation_id(self, value: str) -> None:
        self._operation_id = value  # Airflow renders it here where a sensor starts in the triggerer

    def _read(self) -> Flow[Operation]:
        from airflow_provider_geocatalog.api.flows.waiting import get_operation

        return get_operation(self._operation_id, url=self.operation_url, once=True)

    def _event(self) -> dict[str, Any]:
        return {"operation_id": self._operation_id, "operation_url": self.operation_url}


class GeoCatalogIngestionRunTrigger(WaitTrigger):
    """
    Wait for an ingestion run to end.

    :param collection_id: The run's collection.
    :param ingestion_id: The run's definition.
    :param run_id: The run.
    :param operation_id: The run's operation, if that has an id of its own.
    :param options: As for :class:`WaitTrigger`.
    """

    def __init__(
        self, *, collection_id: str, ingestion_id: str, run_id: str, operation_id: str | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.collection_id = collection_id
        self.ingestion_id = ingestion_id
        self.run_id = run_id
        self._operation_id = operation_id

    def _ids(self) -> dict[str, Any]:
        return {"collection_id": self.collection_id, "ingestion_id": self.ingestion_id, "run_id": self.run_id}

    def _arguments(self) -> dict[str, Any]:
        return {**self._ids(), "operation_id": self._operation_id, **super()._arguments()}

    @property
    def operation_id(self) -> str:
        """Id of the run's operation; as far as was seen, that of the run itself (service-open-questions C9)."""
        return self._operation_id or self.run_id

    def _read(self) -> Flow[Operation]:
        from airflow_provider_geocatalog.api.flows.waiting import get_run

        return (yield from get_run(**self._ids(), once=True)).operation

    def _event(self) -> dict[str, Any]:
        return dict(self._ids())
