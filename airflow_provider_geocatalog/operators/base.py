"""What all operators share: the connection, and waiting that is deferrable, bounded and cancels what it started."""

from __future__ import annotations

import time
from abc import abstractmethod
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, BaseOperator, conf

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.provider_info import DEFAULT_CONNECTION_ID
from airflow_provider_geocatalog.triggers.ingestion import OWNER_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_geocatalog.api.errors import GeoCatalogError
    from airflow_provider_geocatalog.api.flows.waiting import PollPolicy
    from airflow_provider_geocatalog.api.http import Flow
    from airflow_provider_geocatalog.api.models import Operation

__all__ = ["GeoCatalogOperator", "GeoCatalogTaskFailed", "GeoCatalogWaitingOperator"]

_BACKSTOP = 300.0  # seconds after our own deadline at which Airflow's time-out of the deferral fires


class GeoCatalogTaskFailed(AirflowFailException):
    """
    The task failed for a reason that a retry cannot mend, so Airflow does not retry it.

    :param error: What happened; also the exception's cause.
    """

    def __init__(self, error: GeoCatalogError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def failing_for_good() -> Iterator[None]:
    """Turn errors that a retry cannot mend into Airflow's word for that; leave the others to the task's retries."""
    from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogWaitTimeout

    try:
        yield
    except GeoCatalogError as error:
        # A run that took too long is another matter than one that cannot succeed.
        if error.retryable or isinstance(error, GeoCatalogWaitTimeout):
            raise
        raise GeoCatalogTaskFailed(error) from error


class GeoCatalogOperator(BaseOperator):
    """
    Base of the operators: one connection, and errors that a retry cannot mend fail the task at once.

    :param geocatalog_conn_id: Connection to the GeoCatalog.
    """

    template_fields: Sequence[str] = ("geocatalog_conn_id",)
    ui_color = "#e6f2fb"

    def __init__(self, *, geocatalog_conn_id: str = DEFAULT_CONNECTION_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.geocatalog_conn_id = geocatalog_conn_id

    @cached_property
    def hook(self) -> GeoCatalogHook:
        """The hook of the connection."""
        return GeoCatalogHook(self.geocatalog_conn_id)

    def execute(self, context: Context) -> Any:
        """Do the task's work."""
        with failing_for_good():
            return self._execute(context)

    @abstractmethod
    def _execute(self, context: Context) -> Any:
        """Do the task's work; may raise any error of the service."""

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render as usual, and mask SAS signatures in the result before Airflow stores and shows it."""
        from airflow_provider_geocatalog.operators.credentials import mask_sas

        super().render_template_fields(context, jinja_env)
        for name in self.template_fields:
            mask_sas(str(getattr(self, name, "")))


class GeoCatalogWaitingOperator(GeoCatalogOperator):
    """
    Base of the operators that start something in the service and wait for it.

    :param wait_for_completion: Whether to wait; otherwise the task ends when the service has accepted the work.
    :param deferrable: Wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param poll_interval: Seconds between polls; a young wait is polled faster.
    :param timeout: Seconds to wait at most; the task's ``execution_timeout`` counts as well.
    :param outage_budget: Seconds for which failing polls (throttled, 5xx, unreachable) are ridden out.
    :param cancel_on_kill: Whether the work in the service is cancelled when the task is stopped by a user or times out.
    """

    #: Seconds before a deferred wait looks for the first time, see the triggers.
    first_delay: float = 8.0

    def __init__(
        self,
        *,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 30.0,
        timeout: float = 24 * 3600.0,
        outage_budget: float = 3600.0,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.outage_budget = outage_budget
        self.cancel_on_kill = cancel_on_kill
        self._waiting_for: str | None = None
        self._task_instance: Any = None

    # --- what subclasses say ------------------------------------------------------------------------------------------

    @abstractmethod
    def _trigger(self, ids: Mapping[str, Any], **options: Any) -> BaseTrigger:
        """Return the trigger that waits for what ``ids`` name."""

    @abstractmethod
    def _read(self, ids: Mapping[str, Any]) -> Flow[Operation]:
        """Return the flow that reads the operation."""

    @abstractmethod
    def _wait_flow(self, ids: Mapping[str, Any], **options: Any) -> Flow[Operation]:
        """Return the flow that waits."""

    @abstractmethod
    def _finish(self, context: Context, operation: Operation, ids: Mapping[str, Any]) -> Any:
        """Judge the ended operation; return the task's result or raise."""

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _wait_for(self, context: Context, operation: Operation, ids: dict[str, Any]) -> Any:
        """
        Wait for an operation and return the task's result; does not return if it defers.

        :param operation: What the service answered when it started.
        :param ids: JSON object that names the operation for the trigger and for ``execute_complete``.
        """
        # Before waiting: a crash must not lose the id, and a trigger that is told to stop asks who waits.
        context["ti"].xcom_push(key=OWNER_KEY, value={"operation_id": operation.operation_id, **ids})
        if not operation.status.is_final:
            operation = self.hook.run(self._read(ids))
        if operation.status.is_final:
            return self._finish(context, operation, ids)
        deadline = self._deadline()
        if self.deferrable:
            self.log.info("Operation %s is %s; waiting in the triggerer.", operation.operation_id, operation.status)
            self.defer(
                trigger=self._trigger(
                    ids,
                    geocatalog_conn_id=self.geocatalog_conn_id,
                    poll_interval=self.poll_interval,
                    first_delay=self.first_delay,
                    deadline=deadline,
                    outage_budget=self.outage_budget,
                    cancel_on_kill=self.cancel_on_kill,
                ),
                method_name="execute_complete",
                timeout=timedelta(seconds=max(60.0, deadline - time.time() + _BACKSTOP)),
            )
        return self._finish(context, self._wait_here(context, operation, ids, deadline), ids)

    def _deadline(self) -> float:
        limits = [self.timeout]
        if self.execution_timeout:
            limits.append(self.execution_timeout.total_seconds())
        return time.time() + min(limits)

    def _wait_here(self, context: Context, operation: Operation, ids: Mapping[str, Any], deadline: float) -> Operation:
        from airflow_provider_geocatalog.api.errors import GeoCatalogWaitTimeout
        from airflow_provider_geocatalog.api.progress import ProgressLog

        self._waiting_for, self._task_instance = operation.operation_id, context["ti"]
        progress = ProgressLog(self.log, f"Operation {operation.operation_id}")
        try:
            return self.hook.run(
                self._wait_flow(ids, policy=self._poll_policy(), deadline=deadline, observe=progress.observe)
            )
        except (GeoCatalogWaitTimeout, AirflowTaskTimeout):
            self._cancel(operation.operation_id)
            raise
        finally:
            self._waiting_for = None

    def _poll_policy(self) -> PollPolicy:
        from airflow_provider_geocatalog.api.flows.waiting import PollPolicy

        return PollPolicy(self.poll_interval, outage=self.outage_budget)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """
        Continue after the trigger fired: read the result from the service and judge it.

        :param event: What the trigger said; it holds ids and no result.
        :raises GeoCatalogTaskFailed: The work did not succeed, and will not the next time.
        :raises GeoCatalogError: The work did not succeed, or did not end in time.
        """
        with failing_for_good():
            return self._resume(context, event)

    def _resume(self, context: Context, event: dict[str, Any] | None) -> Any:
        from airflow_provider_geocatalog.api.errors import GeoCatalogWaitTimeout

        if not event or "outcome" not in event:
            raise GeoCatalogWaitTimeout("the trigger ended without saying what happened")
        ids = {name: value for name, value in event.items() if name not in {"outcome", "status", "message"}}
        operation = self.hook.run(self._read(ids))
        if not operation.status.is_final:
            if event["outcome"] == "timeout":
                self._cancel(operation.operation_id)
            raise GeoCatalogWaitTimeout(str(event.get("message")), summary=operation.to_summary())
        return self._finish(context, operation, ids)

    # --- stopping -----------------------------------------------------------------------------------------------------

    def on_kill(self) -> None:
        """
        Cancel the work when a user stops the task while a worker waits.

        A worker that is shut down calls this too; then the task instance is still running for Airflow, and the work
        goes on, to be found again by the next try.
        """
        if self._waiting_for is None:
            return
        if _is_still_running(self._task_instance):
            self.log.warning("The worker stops; operation %s goes on in the service.", self._waiting_for)
            return
        self._cancel(self._waiting_for)

    def _cancel(self, operation_id: str) -> None:
        from airflow_provider_geocatalog.api.errors import GeoCatalogError
        from airflow_provider_geocatalog.api.flows.ingestion import cancel_if_active

        if not self.cancel_on_kill:
            self.log.warning("Operation %s goes on in the service (cancel_on_kill is false).", operation_id)
            return
        try:
            taken = self.hook.run(cancel_if_active(operation_id))
        except GeoCatalogError:
            self.log.exception("Operation %s may still be running: it could not be cancelled.", operation_id)
        else:
            said = "The cancellation of operation %s was requested." if taken else "Operation %s had ended already."
            self.log.warning(said, operation_id)


def _is_still_running(ti: Any) -> bool:
    """Return whether Airflow holds the task instance for running; if it cannot be asked, it is taken to be."""
    try:
        if hasattr(ti, "current_state"):  # Airflow 2
            return str(ti.current_state()) == "running"
        map_index = -1 if ti.map_index is None else ti.map_index
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=map_index)
        name = ti.task_id if map_index < 0 else f"{ti.task_id}_{map_index}"
        return str(states.get(ti.run_id, {}).get(name)) == "running"
    except Exception:
        return True
