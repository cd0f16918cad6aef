"""What all operators share: the connection, and waiting that is deferrable, bounded and cancels what it started."""

from __future__ import annotations

import time
from abc import abstractmethod
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, BaseOperator, conf

from airflow_provider_geocatalog.api.numbers import seconds
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.links import LINKS, push_links
from airflow_provider_geocatalog.operators.rendering import MaskedFields
from airflow_provider_geocatalog.operators.submissions import Submissions
from airflow_provider_geocatalog.provider_info import DEFAULT_CONNECTION_ID
from airflow_provider_geocatalog.triggers.ingestion import OWNER_KEY, GeoCatalogOperationTrigger, task_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage  # type: ignore[import-not-found,unused-ignore]
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_geocatalog.api.errors import GeoCatalogError
    from airflow_provider_geocatalog.api.flows.dry_run import PlannedWrite
    from airflow_provider_geocatalog.api.http import Endpoint, Flow
    from airflow_provider_geocatalog.api.models import Operation
    from airflow_provider_geocatalog.lineage import DatasetName

__all__ = [
    "BACKSTOP",
    "TRIGGERS_LOST",
    "GeoCatalogLongRunningOperator",
    "GeoCatalogOperator",
    "GeoCatalogPlanningOperator",
    "GeoCatalogTaskFailed",
    "GeoCatalogWaitingOperator",
    "is_still_running",
]

T = TypeVar("T")

BACKSTOP = 300.0  # seconds after our own deadline at which Airflow's time-out of the deferral fires
TRIGGERS_LOST = 3  # that a wait gets over; each was a crash of our own or of the triggerer
#: Members of a wait that are the trigger's own business, and those that say nothing about the operation.
_OF_TRIGGER = frozenset({"collection_id", "ingestion_id", "run_id", "operation_id", "operation_url"})
_OF_WAIT = frozenset({"outcome", "status", "message", "own", "began", "deadline", "triggers_lost"})


class GeoCatalogTaskFailed(AirflowFailException):
    """
    The task failed for a reason that a retry cannot mend, so Airflow does not retry it.

    :param error: What happened; also the exception's cause.
    """

    def __init__(self, error: GeoCatalogError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def failing_for_good(hook: GeoCatalogHook) -> Iterator[None]:
    """
    Turn errors that a retry cannot mend into Airflow's word for that; leave the others to the task's retries.

    :param hook: Knows the links to operations.
    """
    from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogWaitTimeout

    try:
        yield
    except GeoCatalogError as error:
        hook.link(error)
        # A run that took too long is another matter than one that cannot succeed.
        if error.retryable or isinstance(error, GeoCatalogWaitTimeout):
            raise
        raise GeoCatalogTaskFailed(error) from error


class GeoCatalogOperator(MaskedFields, BaseOperator):
    """
    Base of the operators: one connection, and errors that a retry cannot mend fail the task at once.

    :param geocatalog_conn_id: Connection to the GeoCatalog.
    """

    template_fields: Sequence[str] = ("geocatalog_conn_id",)
    operator_extra_links = LINKS
    ui_color = "#e6f2fb"

    #: Whether the task writes the collection that it is about; otherwise it reads it.
    _writes_collection: ClassVar[bool] = False
    #: What came of the task, as asset events say it; nothing before its end.
    _news: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *, geocatalog_conn_id: str = DEFAULT_CONNECTION_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.geocatalog_conn_id = geocatalog_conn_id

    @cached_property
    def hook(self) -> GeoCatalogHook:
        """The hook of the connection."""
        return GeoCatalogHook(self.geocatalog_conn_id)

    def execute(self, context: Context) -> Any:
        """Do the task's work."""
        push_links(context, self.hook, self._collection)
        return self._conclude(context, partial(self._execute, context))

    @abstractmethod
    def _execute(self, context: Context) -> Any:
        """Do the task's work; may raise any error of the service."""

    def _conclude(self, context: Context, work: Callable[[], T]) -> T:
        """
        Do what may be the last part of the task's work; links, asset events and lineage then say what came of it.

        :param work: Returns the task's result, raises, or defers.
        """
        from airflow_provider_geocatalog.api.errors import GeoCatalogError
        from airflow_provider_geocatalog.operators.asset_events import news_of, tell_outlets

        try:
            with failing_for_good(self.hook):
                result = work()
        except (GeoCatalogError, GeoCatalogTaskFailed) as error:
            told = error.error if isinstance(error, GeoCatalogTaskFailed) else error
            summary = getattr(told, "summary", {})
            self._news = news_of({**summary, "collection_id": summary.get("collection_id") or self._collection})
            raise
        news = news_of(result)
        if isinstance(result, dict) and result.get("dry_run"):
            return result
        self._news = news
        if news.get("operation_id") or news.get("collection_id") not in (None, self._collection):
            push_links(context, self.hook, news["collection_id"], operation_id=news.get("operation_id"))
        tell_outlets(context, self.outlets, news, extent=lambda: self._extent(news["collection_id"]))
        return result

    # --- what subclasses say of what they work on ---------------------------------------------------------------------

    @property
    def _collection(self) -> str | None:
        """The collection that the task is about, if it is known before it has done anything."""
        return getattr(self, "collection_id", None)

    def _extent(self, collection_id: str) -> Mapping[str, Any]:
        """Return where and when what was written is, as ``bbox`` and ``interval``, if the result does not say it."""
        return {}

    def _inputs(self) -> Iterable[DatasetName]:
        """Return what the task reads beside a collection: its catalog, or its source of items."""
        from airflow_provider_geocatalog.lineage import datasets_of, file_dataset

        url = getattr(self, "catalog_url", None)
        return [file_dataset(url)] if isinstance(url, str) and url else datasets_of(getattr(self, "source", None))

    def _outputs(self) -> Iterable[DatasetName]:
        """Return what the task writes beside a collection: its file or folder."""
        from airflow_provider_geocatalog.lineage import file_dataset

        path = getattr(self, "path", None)
        return [file_dataset(path)] if isinstance(path, str) and path else ()

    # --- OpenLineage --------------------------------------------------------------------------------------------------

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Return what the task is going to read and write."""
        return self._lineage()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what the task has read and written."""
        return self._lineage()

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what the task has read and written, as far as it came."""
        return self._lineage()

    def _lineage(self) -> OperatorLineage[Any, Any]:
        from airflow_provider_geocatalog.api.errors import GeoCatalogError
        from airflow_provider_geocatalog.lineage import operator_lineage

        try:
            url = self.hook.client.settings.url
        except GeoCatalogError:  # a connection that cannot be used; the task says so
            url = None
        return operator_lineage(
            geocatalog_url=url,
            collection_id=self._news.get("collection_id") or self._collection,
            writes=self._writes_collection and not getattr(self, "_is_dry_run", False),
            inputs=self._inputs(),
            outputs=self._outputs(),
            news=self._news,
        )


class GeoCatalogPlanningOperator(GeoCatalogOperator):
    """
    Base of the operators that can tell what they would do without doing it.

    :param dry_run: Send nothing that changes anything; log and return what would be written.
    """

    _writes_collection = True

    def __init__(self, *, dry_run: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._is_dry_run = dry_run  # a BaseOperator has a method of the argument's name
        self._plan: list[PlannedWrite] = []

    def _carry_out(self, flow: Flow[T]) -> T:
        """Carry out a procedure; in a dry run without its writes, which are noted in the plan."""
        from airflow_provider_geocatalog.api.flows.dry_run import planned

        if not self._is_dry_run:
            return self.hook.run(flow)
        result, writes = self.hook.run(planned(flow))
        self._plan += writes
        return result

    def _plan_call(self, endpoint: Endpoint, subject: str, **names: str) -> None:
        """Note a write that a dry run does not get as far as."""
        from airflow_provider_geocatalog.api.flows.dry_run import PlannedWrite

        self._plan.append(PlannedWrite(endpoint.name, endpoint.method, endpoint.fill(names), subject))

    def _told(self, result: dict[str, Any]) -> dict[str, Any]:
        """Return the task's result, of a dry run with the plan."""
        if not self._is_dry_run:
            return result
        self.log.info("Dry run, nothing was sent: %s.", "; ".join(map(str, self._plan)) or "there is nothing to write")
        return {**result, "dry_run": True, "plan": [write.to_json() for write in self._plan]}


class GeoCatalogWaitingOperator(GeoCatalogOperator):
    """
    Base of the operators that start something in the service and wait for it.

    :param wait_for_completion: Whether to wait; otherwise the task ends when the service has accepted the work.
    :param deferrable: Wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param poll_interval: Seconds between polls of an old wait.
    :param min_poll_interval: Seconds between polls of a young wait; the pause grows with the wait's age.
    :param timeout: Seconds to wait at most; the task's ``execution_timeout`` counts as well.
    :param outage_budget: Seconds for which failing polls (throttled, 5xx, unreachable) are ridden out.
    :param cancel_on_kill: Whether the work in the service is cancelled when a user stops or clears the task, or the
        task times out. Only what this task has started is ever cancelled.
    """

    #: Seconds before a deferred wait looks for the first time, see the triggers.
    first_delay: float = 8.0

    def __init__(
        self,
        *,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 30.0,
        min_poll_interval: float = 2.0,
        timeout: float = 24 * 3600.0,
        outage_budget: float = 3600.0,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        # When the operator is made: later, what could not be waited for would have been started already.
        self.poll_interval = seconds(poll_interval, "poll_interval", above_zero=True)
        self.min_poll_interval = seconds(min_poll_interval, "min_poll_interval", above_zero=True)
        self.timeout = seconds(timeout, "timeout")
        self.outage_budget = seconds(outage_budget, "outage_budget")
        self.cancel_on_kill = cancel_on_kill
        self._waiting_for: str | None = None
        self._retry_after = 0.0  # seconds, where the look before the wait was answered so
        self._task_instance: Any = None

    # --- what subclasses say ------------------------------------------------------------------------------------------

    @abstractmethod
    def _trigger(self, ids: Mapping[str, Any], **options: Any) -> BaseTrigger:
        """Return the trigger that waits for what ``ids`` name."""

    @abstractmethod
    def _read(self, ids: Mapping[str, Any], *, once: bool = False) -> Flow[Operation]:
        """Return the flow that reads the operation, in one attempt if whoever asks will ask again."""

    @abstractmethod
    def _finish(self, context: Context, operation: Operation, ids: Mapping[str, Any]) -> Any:
        """Judge the ended operation; return the task's result or raise."""

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _wait_for(self, context: Context, operation: Operation, ids: dict[str, Any], *, own: bool = True) -> Any:
        """
        Wait for an operation and return the task's result; does not return if it defers.

        :param operation: What the service answered when it started.
        :param ids: JSON object that names the operation for the trigger and for ``execute_complete``.
        :param own: Whether this task instance has started it, so that it may cancel it.
        """
        began = time.time()
        wait = {**ids, "own": own, "began": began, "deadline": began + self._limit()}
        self._task_instance, self._waiting_for = context["ti"], operation.operation_id if own else None
        try:
            Submissions(context).remember(operation.operation_id, wait)
            if not operation.status.is_final:
                operation = self._look(ids) or operation
        except AirflowTaskTimeout:
            if own:
                self._cancel(operation.operation_id)
            raise
        finally:
            self._waiting_for = None
        if operation.status.is_final:
            return self._finish(context, operation, ids)
        if self.deferrable:
            self.log.info("Operation %s is %s; waiting in the triggerer.", operation.operation_id, operation.status)
            self._defer_wait(wait, began, wait["deadline"])
        return self._finish(context, self._wait_here(operation, wait), ids)

    def _look(self, ids: Mapping[str, Any]) -> Operation | None:
        """Look once; ``None`` if it cannot be read and the wait that follows may bear that."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogNotFound

        try:
            return self.hook.run(self._read(ids, once=True))
        except GeoCatalogError as error:
            if not error.retryable and not isinstance(error, GeoCatalogNotFound):
                raise
            self.log.warning("%s It was started, so it is waited for.", error)
            self._retry_after = error.retry_after or 0.0
            return None

    def _limit(self) -> float:
        limits = [self.timeout]
        if self.execution_timeout:
            limits.append(self.execution_timeout.total_seconds())
        return min(limits)

    def _defer_wait(self, wait: dict[str, Any], began: float, deadline: float) -> NoReturn:
        self.defer(
            trigger=self._trigger(
                wait,
                geocatalog_conn_id=self.geocatalog_conn_id,
                poll_interval=self.poll_interval,
                min_poll_interval=self.min_poll_interval,
                first_delay=max(self.first_delay, self._retry_after),
                started=began,
                deadline=deadline,
                outage_budget=self.outage_budget,
                cancel_on_kill=self.cancel_on_kill and wait["own"],
                echo={name: value for name, value in wait.items() if name not in _OF_TRIGGER},
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=max(60.0, deadline - time.time() + BACKSTOP)),
        )

    def _wait_here(self, operation: Operation, wait: Mapping[str, Any]) -> Operation:
        from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogWaitTimeout
        from airflow_provider_geocatalog.api.progress import ProgressLog
        from airflow_provider_geocatalog.api.waiting import PollPolicy, Waiting, timed_out
        from airflow_provider_geocatalog.metrics import WaitMetrics

        progress = ProgressLog(self.log, f"Operation {operation.operation_id}")
        metrics = WaitMetrics(self.geocatalog_conn_id, wait.get("collection_id"), began=wait["began"])

        def observe(operation: Operation, now: float) -> None:
            progress.observe(operation, now)
            metrics.observe(operation)

        waiting = Waiting(
            f"operation {operation.operation_id}",
            PollPolicy(self.poll_interval, min(self.min_poll_interval, self.poll_interval), self.outage_budget),
            started=wait["began"],
            deadline=wait["deadline"],
            observe=observe,
        )
        self._waiting_for = operation.operation_id if wait["own"] else None
        try:
            self.hook.client.clock.sleep(max(0.0, min(self._retry_after, wait["deadline"] - time.time())))
            operation = self.hook.wait_for(waiting, lambda: self._read(wait, once=True))
        except (GeoCatalogWaitTimeout, AirflowTaskTimeout) as error:
            metrics.ended("timeout")
            if wait["own"]:
                self._cancel(operation.operation_id)
            if isinstance(error, GeoCatalogWaitTimeout):
                raise
            told = timed_out(waiting.what, waiting.last or operation)
            self.hook.link(told)
            raise AirflowTaskTimeout(f"{error} {told}") from error
        except GeoCatalogError as error:
            metrics.ended("unreadable")
            self.hook.link(error, operation.operation_id)
            raise
        else:
            metrics.ended(operation.status.outcome.value)
        finally:
            self._waiting_for = None
            metrics.close()
        return operation

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """
        Continue after the trigger fired: read the result from the service and judge it.

        :param event: What the trigger said; it holds ids and no result.
        :raises GeoCatalogTaskFailed: The work did not succeed, and will not the next time.
        :raises GeoCatalogError: The work did not succeed, or did not end in time.
        """
        return self._conclude(context, partial(self._resume, context, event))

    def _resume(self, context: Context, event: dict[str, Any] | None) -> Any:
        from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogWaitTimeout
        from airflow_provider_geocatalog.api.progress import describe
        from airflow_provider_geocatalog.api.waiting import timed_out

        if not event or "outcome" not in event:
            raise GeoCatalogWaitTimeout("the trigger ended without saying what happened")
        try:
            operation = self.hook.run(self._read(event))
        except GeoCatalogError as error:
            self.hook.link(error, event.get("operation_id") or event.get("run_id"))
            raise
        if not operation.status.is_final:
            if event["outcome"] == "timeout":
                if event.get("own", False):
                    self._cancel(operation.operation_id)
                limit = event["deadline"] - event["began"] if "deadline" in event else None
                raise timed_out(describe(operation), operation, limit=limit)
            raise GeoCatalogWaitTimeout(
                f"{describe(operation)} is {operation.status}, but could not be waited for: {event.get('message')}",
                summary=operation.to_summary(),
                hint="It goes on; a retry of the task waits for it again.",
            )
        return self._finish(context, operation, {name: value for name, value in event.items() if name not in _OF_WAIT})

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """
        Continue after a deferral, also one whose trigger was lost.

        The operation goes on without its trigger, so the task looks at it: it ends with its result, waits again, or
        gives up and cancels it where the time is over.
        """
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except deferral_errors() as error:
            return self._conclude(context, partial(self._resume_without_trigger, context, error))

    def _resume_without_trigger(self, context: Context, error: Exception) -> Any:
        ti: Any = context["ti"]
        wait = ti.xcom_pull(task_ids=ti.task_id, key=OWNER_KEY, map_indexes=ti.map_index)
        if not isinstance(wait, dict) or "deadline" not in wait:
            raise error
        lost = int(wait.get("triggers_lost", 0)) + 1
        operation = self.hook.run(self._read(wait))
        if operation.status.is_final or time.time() >= wait["deadline"]:
            return self._resume(context, {**wait, "outcome": "timeout"})
        if lost > TRIGGERS_LOST:
            raise error
        self.log.warning("The trigger was lost (%s); waiting again for operation %s.", error, operation.operation_id)
        wait = {**wait, "triggers_lost": lost}
        ti.xcom_push(key=OWNER_KEY, value=wait)
        return self._defer_wait(wait, wait["began"], wait["deadline"])

    # --- stopping -----------------------------------------------------------------------------------------------------

    def on_kill(self) -> None:
        """
        Cancel the work when a user stops the task while a worker waits.

        A worker that is shut down calls this too; then the task instance is still running for Airflow, and the work
        goes on, to be found again by the next try.
        """
        if self._waiting_for is None:
            return
        if is_still_running(self._task_instance):
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


class GeoCatalogLongRunningOperator(GeoCatalogWaitingOperator):
    """Base of the operators whose work is a long-running operation of the service, which is read by its own id."""

    def _trigger(self, ids: Mapping[str, Any], **options: Any) -> BaseTrigger:
        return GeoCatalogOperationTrigger(
            operation_id=ids["operation_id"], operation_url=ids.get("operation_url"), **options
        )

    def _read(self, ids: Mapping[str, Any], *, once: bool = False) -> Flow[Operation]:
        from airflow_provider_geocatalog.api.flows.waiting import get_operation

        return get_operation(ids["operation_id"], url=ids.get("operation_url"), once=once)


def deferral_errors() -> tuple[type[Exception], ...]:
    """Return what Airflow raises for a trigger that failed, and for a deferral that took too long."""
    try:
        from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout
    except ImportError:  # before Airflow 3.2
        from airflow import exceptions

        error: type[Exception] = exceptions.TaskDeferralError
        return error, getattr(exceptions, "TaskDeferralTimeout", error)  # Airflow 2 raises the first for both
    return TaskDeferralError, TaskDeferralTimeout


def is_still_running(ti: Any) -> bool:
    """Return whether Airflow holds the task instance for running; if it cannot be asked, it is taken to be."""
    try:
        return task_state(ti) == "running"
    except Exception:
        return True
