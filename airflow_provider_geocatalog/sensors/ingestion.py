"""Wait for an operation or an ingestion run that something else has started."""

from __future__ import annotations

import time
from abc import abstractmethod
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    XComArg,
    conf,
)
from airflow.triggers.base import BaseTrigger, StartTriggerArgs

from airflow_provider_geocatalog.api.numbers import seconds, whole_number
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.links import LINKS, push_links
from airflow_provider_geocatalog.operators.rendering import MaskedFields
from airflow_provider_geocatalog.provider_info import DEFAULT_CONNECTION_ID
from airflow_provider_geocatalog.triggers.ingestion import GeoCatalogIngestionRunTrigger, GeoCatalogOperationTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.api.errors import GeoCatalogError
    from airflow_provider_geocatalog.api.http import Flow
    from airflow_provider_geocatalog.api.models import Operation
    from airflow_provider_geocatalog.api.progress import ProgressLog

__all__ = ["GeoCatalogIngestionRunSensor", "GeoCatalogOperationSensor"]

_BACKSTOP = 300.0  # seconds after our own deadline at which Airflow's time-out of the deferral fires
#: Airflow 3.3 and later render templates in the triggerer. Earlier versions do not, or start nothing there.
_TRIGGERER_RENDERS = hasattr(BaseTrigger, "render_template_fields")
_STANDARD_XCOM = "airflow.sdk.execution_time.xcom.BaseXCom"
#: What templates may use that are rendered in a triggerer; it cannot answer for all that a worker's context has.
_RENDERED_ALIKE = frozenset(
    {
        *("dag", "dag_run", "run_id", "logical_date", "data_interval_start", "data_interval_end", "macros"),
        *("params", "var", "ds", "ds_nodash", "ts", "ts_nodash", "ts_nodash_with_tz", "ti", "task_instance"),
    }
)
#: How Airflow resumes a task whose deferral took too long.
_FAILED_DEFERRAL, _TOOK_TOO_LONG = "__fail__", frozenset({"Trigger timeout", "Trigger/execution timeout"})


class _OperationSensor(MaskedFields, BaseSensorOperator):
    """What both sensors share."""

    operator_extra_links = LINKS
    #: Seconds before a deferred wait looks for the first time, see the triggers.
    first_delay: float = 8.0

    def __init__(
        self,
        *,
        geocatalog_conn_id: str = DEFAULT_CONNECTION_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool | None = None,
        poke_interval: float = 30.0,
        min_poll_interval: float = 2.0,
        outage_budget: float = 3600.0,
        max_failed_items: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.geocatalog_conn_id = geocatalog_conn_id
        self.deferrable = deferrable
        if deferrable:  # a triggerer would do nothing but poll; a poking sensor has its worker for itself
            seconds(self.poke_interval, "poke_interval", above_zero=True)
        self.min_poll_interval = seconds(min_poll_interval, "min_poll_interval", above_zero=True)
        self.outage_budget = seconds(outage_budget, "outage_budget")
        self.max_failed_items = whole_number(max_failed_items, "max_failed_items")
        self._may_start_in_triggerer = start_from_trigger
        self._retry_after = 0.0
        self._is_failing = False
        self._last: Operation | None = None

    @property
    def hook(self) -> GeoCatalogHook:
        """A hook of the connection as it is now: it may change during a long wait."""
        return GeoCatalogHook(self.geocatalog_conn_id)

    def _push_links(self, context: Context) -> None:
        push_links(context, self.hook, getattr(self, "collection_id", None), operation_id=self._operation_id)

    @abstractmethod
    def _read(self, *, once: bool = False) -> Flow[Operation]:
        """Return the flow that reads the operation, in one attempt if whoever asks will ask again."""

    @property
    @abstractmethod
    def _operation_id(self) -> str:
        """Id of the operation that is waited for."""

    @abstractmethod
    def _trigger(self, **options: Any) -> BaseTrigger:
        """Return the trigger that waits."""

    # --- on a worker --------------------------------------------------------------------------------------------------

    @cached_property
    def _progress(self) -> ProgressLog:
        from airflow_provider_geocatalog.api.progress import ProgressLog

        return ProgressLog(self.log, f"Operation {self._operation_id}")

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look once; a busy or unreachable service counts as not yet, the sensor's own time-out is the bound."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogError

        self._retry_after = 0.0
        try:
            operation = self.hook.run(self._read(once=True))
        except GeoCatalogError as error:
            if not error.retryable:
                raise self._failure(error) from error
            self._retry_after = error.retry_after or 0.0
            if not self._is_failing:
                self.log.warning("%s Looking again at every poke.", error)
            self._is_failing = True
            return False
        if self._is_failing:
            self.log.info("Operation %s can be read again.", self._operation_id)
        self._is_failing, self._last = False, operation
        self._progress.observe(operation, time.time())
        if not operation.status.is_final:
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._judge(operation))

    def _get_next_poke_interval(self, started_at: Any, run_duration: Any, *args: Any) -> float:
        interval: float = super()._get_next_poke_interval(started_at, run_duration, *args)
        remaining: float = self.timeout - run_duration()
        return max(interval, min(self._retry_after, remaining))

    def execute(self, context: Context) -> Any:
        """Poke in this process, or look once and wait in the triggerer."""
        self._push_links(context)
        if not self.deferrable:
            try:
                return super().execute(context)
            except AirflowSensorTimeout as error:
                raise self._late(self._last) from error
        try:
            looked = self.poke(context)
        except AirflowFailException as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(f"Skipping instead of failing: {error}") from error
            raise
        if isinstance(looked, PokeReturnValue):
            return looked.xcom_value
        timeout, now = float(self.timeout), time.time()
        trigger = self._trigger(
            **self._options(), first_delay=max(self.first_delay, self._retry_after), started=now, deadline=now + timeout
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=timeout + _BACKSTOP))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral; one that took too long for Airflow is a time-out of the sensor."""
        if next_method == _FAILED_DEFERRAL and (next_kwargs or {}).get("error") in _TOOK_TOO_LONG:
            from airflow_provider_geocatalog.metrics import WaitMetrics

            WaitMetrics(self.geocatalog_conn_id).ended("timeout")  # the trigger was gone before it could say so
            next_method, next_kwargs = "execute_complete", {"event": {"outcome": "timeout"}}
        return super().resume_execution(next_method, next_kwargs, context)

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """
        Continue after the trigger fired: read the result and judge it.

        :param event: What the trigger said.
        :raises AirflowSensorTimeout: It did not end in time.
        :raises AirflowFailException: It did not succeed.
        """
        from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogWaitTimeout
        from airflow_provider_geocatalog.api.progress import describe

        self._push_links(context)  # Airflow may have started the task in the triggerer
        told = event if isinstance(event, dict) else {}
        hook = self.hook
        try:
            operation = hook.run(self._read())
        except GeoCatalogError as error:
            if error.retryable:
                hook.link(error, self._operation_id)
                raise
            raise self._failure(error) from error
        if operation.status.is_final:
            return self._judge(operation)
        if told.get("outcome") == "timeout":
            raise self._late(operation)
        message = told.get("message") or "the trigger ended without saying what happened"
        lost = f"{describe(operation)} is {operation.status}, but could not be waited for: {message}"
        raise self._failure(GeoCatalogWaitTimeout(lost))

    def _judge(self, operation: Operation) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.errors import GeoCatalogError
        from airflow_provider_geocatalog.api.outcomes import require_success
        from airflow_provider_geocatalog.api.progress import describe

        try:
            require_success(operation, what=describe(operation), max_failed_items=self.max_failed_items)
        except GeoCatalogError as error:
            # What has ended will not change, so that no retry helps, whatever the cause.
            raise self._failure(error) from error
        return operation.to_summary()

    def _late(self, operation: Operation | None) -> AirflowSensorTimeout:
        """Return the time-out that says how far the operation was, as it was seen last."""
        from airflow_provider_geocatalog.api.progress import describe
        from airflow_provider_geocatalog.api.waiting import timed_out

        what = describe(operation) if operation else f"operation {self._operation_id}"
        error = timed_out(what, operation, limit=self.timeout)
        self.hook.link(error, self._operation_id)
        return AirflowSensorTimeout(str(error))

    def _failure(self, error: GeoCatalogError) -> AirflowFailException:
        """Return the only kind of failure that ``soft_fail`` honours both when poking and when deferred."""
        self.hook.link(error, self._operation_id)
        return AirflowFailException(str(error))

    # --- in the triggerer ---------------------------------------------------------------------------------------------

    def _options(self) -> dict[str, Any]:
        return {
            "geocatalog_conn_id": self.geocatalog_conn_id,
            "poll_interval": float(self.poke_interval),
            "min_poll_interval": float(self.min_poll_interval),
            "outage_budget": float(self.outage_budget),
            "cancel_on_kill": False,  # somebody else started it
            "ends_task": self._ends_in_triggerer(),
            "max_failed_items": self.max_failed_items,
        }

    def _plan_start(self) -> None:
        """Have Airflow start the sensor in the triggerer, if that may be; to be called when all arguments are set."""
        if not self._starts_in_triggerer():
            return
        # Attributes of this instance, not of the class: mapped sensors would start there without their values.
        path, arguments = self._trigger(**self._options(), first_delay=0.0).serialize()
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=path,
            trigger_kwargs={name: _in_jinja(value) for name, value in arguments.items()},
            next_method="execute_complete",
            # A trigger cannot know when its task began once it has moved, so Airflow watches the time.
            timeout=timedelta(seconds=self.timeout),
        )
        self.start_from_trigger = True

    def _starts_in_triggerer(self) -> bool:
        if not _TRIGGERER_RENDERS or not self.deferrable or self._may_start_in_triggerer is False:
            return False
        values = [_in_jinja(getattr(self, name)) for name in self.template_fields]
        if not all(isinstance(value, str) for value in values):
            return False
        if self._may_start_in_triggerer:
            return True
        needs_worker = self.on_execute_callback or self._pre_execute_hook or self._is_extended()
        in_mapped_group = self.get_closest_mapped_task_group() is not None
        return not needs_worker and not in_mapped_group and all(map(_is_rendered_alike, values))

    def _ends_in_triggerer(self) -> bool:
        """Return whether a worker would have nothing to do after success but to push the result."""
        if not _TRIGGERER_RENDERS:
            return False
        of_worker = self.outlets or self.on_success_callback or self._post_execute_hook or self._is_extended()
        standard_result = self.do_xcom_push and not self.multiple_outputs
        standard_xcom = conf.get("core", "xcom_backend") == _STANDARD_XCOM
        return standard_result and standard_xcom and not of_worker and not self.map_index_template

    def _is_extended(self) -> bool:
        """Return whether this is a user's subclass, which may do more than its base."""
        return type(self).__module__ != __name__


def _in_jinja(value: Any) -> Any:
    """Return the result of an unmapped task as a template: a triggerer asks for single XComs only."""
    if not isinstance(value, XComArg) or not hasattr(value, "key"):
        return value
    source: Any = value
    task = source.operator
    if task.is_mapped or task.get_closest_mapped_task_group() is not None:
        return value
    pulled = f"task_ids={task.task_id!r}, dag_id={task.dag_id!r}, key={source.key!r}, map_indexes=-1"
    return f"{{{{ ti.xcom_pull({pulled}) }}}}"


def _is_rendered_alike(text: str) -> bool:
    """Return whether a template renders in a triggerer to what a worker makes of it."""
    if "{" not in text:
        return True
    from jinja2 import Environment, TemplateError, meta

    try:
        names = meta.find_undeclared_variables(Environment().parse(text))  # noqa: S701 - nothing is rendered
    except TemplateError:
        return False  # a filter that only Airflow or the DAG knows
    if {"ti", "task_instance"} & names and text.count("xcom_pull(") != text.count("map_indexes="):
        return False  # without map indexes all of them are asked for, which a triggerer does not do
    return names <= _RENDERED_ALIKE


class GeoCatalogOperationSensor(_OperationSensor):
    """
    Wait for a long-running operation to succeed.

    :param operation_id: The operation.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param deferrable: Wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param start_from_trigger: Whether a deferrable sensor starts in the triggerer, so that success takes no worker at
        all (Airflow 3.3 and later; never for mapped sensors). Default: where it makes no difference, that is without
        ``on_execute_callback`` and ``pre_execute``, outside of mapped task groups, and with ids that a triggerer can
        render: texts, results of tasks, templates in which ``xcom_pull`` has ``map_indexes`` (``-1`` for a task that is
        not mapped).
    :param poke_interval: Seconds between looks.
    :param min_poll_interval: Seconds between looks of a young deferred wait; the pause grows with its age.
    :param outage_budget: Seconds for which failing polls of a deferred wait are ridden out.
    :param max_failed_items: Failed items that are tolerated.
    :return: ``operation_id``, ``status``, ``type``, ``items`` and times, as XCom.
    :raises AirflowFailException: It failed, was cancelled, or more items failed than are tolerated.
    :raises AirflowSensorTimeout: It did not end within ``timeout``.
    """

    template_fields: Sequence[str] = ("operation_id", "geocatalog_conn_id")

    def __init__(self, *, operation_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.operation_id = operation_id
        self._plan_start()

    @property
    def _operation_id(self) -> str:
        return self.operation_id

    def _read(self, *, once: bool = False) -> Flow[Operation]:
        from airflow_provider_geocatalog.api.flows.waiting import get_operation

        return get_operation(self.operation_id, once=once)

    def _trigger(self, **options: Any) -> BaseTrigger:
        return GeoCatalogOperationTrigger(operation_id=self.operation_id, **options)


class GeoCatalogIngestionRunSensor(_OperationSensor):
    """
    Wait for an ingestion run to succeed.

    :param collection_id: The run's collection.
    :param ingestion_id: The run's definition.
    :param run_id: The run.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param deferrable: Wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param start_from_trigger: Whether a deferrable sensor starts in the triggerer, so that success takes no worker at
        all (Airflow 3.3 and later; never for mapped sensors). Default: where it makes no difference, that is without
        ``on_execute_callback`` and ``pre_execute``, outside of mapped task groups, and with ids that a triggerer can
        render: texts, results of tasks, templates in which ``xcom_pull`` has ``map_indexes`` (``-1`` for a task that is
        not mapped).
    :param poke_interval: Seconds between looks.
    :param min_poll_interval: Seconds between looks of a young deferred wait; the pause grows with its age.
    :param outage_budget: Seconds for which failing polls of a deferred wait are ridden out.
    :param max_failed_items: Failed items that are tolerated.
    :return: ``operation_id``, ``status``, ``items`` and times, as XCom.
    :raises AirflowFailException: It failed, was cancelled, or more items failed than are tolerated.
    :raises AirflowSensorTimeout: It did not end within ``timeout``.
    """

    template_fields: Sequence[str] = ("collection_id", "ingestion_id", "run_id", "geocatalog_conn_id")

    def __init__(self, *, collection_id: str, ingestion_id: str, run_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection_id = collection_id
        self.ingestion_id = ingestion_id
        self.run_id = run_id
        self._plan_start()

    @property
    def _operation_id(self) -> str:
        return self.run_id

    def _read(self, *, once: bool = False) -> Flow[Operation]:
        from airflow_provider_geocatalog.api.flows.waiting import get_run

        return (yield from get_run(self.collection_id, self.ingestion_id, self.run_id, once=once)).operation

    def _trigger(self, **options: Any) -> BaseTrigger:
        return GeoCatalogIngestionRunTrigger(
            collection_id=self.collection_id, ingestion_id=self.ingestion_id, run_id=self.run_id, **options
        )
