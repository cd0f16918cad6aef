"""Wait for an operation or an ingestion run that something else has started."""

from __future__ import annotations

import time
from abc import abstractmethod
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseSensorOperator, PokeReturnValue, conf

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.provider_info import DEFAULT_CONNECTION_ID
from airflow_provider_geocatalog.triggers.ingestion import GeoCatalogIngestionRunTrigger, GeoCatalogOperationTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_geocatalog.api.http import Flow
    from airflow_provider_geocatalog.api.models import Operation

__all__ = ["GeoCatalogIngestionRunSensor", "GeoCatalogOperationSensor"]

_BACKSTOP = 300.0  # seconds after our own deadline at which Airflow's time-out of the deferral fires


class _OperationSensor(BaseSensorOperator):
    """What both sensors share."""

    #: Seconds before a deferred wait looks for the first time, see the triggers.
    first_delay: float = 8.0

    def __init__(
        self,
        *,
        geocatalog_conn_id: str = DEFAULT_CONNECTION_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float = 30.0,
        outage_budget: float = 3600.0,
        max_failed_items: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.geocatalog_conn_id = geocatalog_conn_id
        self.deferrable = deferrable
        self.outage_budget = outage_budget
        self.max_failed_items = max_failed_items

    @cached_property
    def hook(self) -> GeoCatalogHook:
        """The hook of the connection."""
        return GeoCatalogHook(self.geocatalog_conn_id)

    @abstractmethod
    def _read(self) -> Flow[Operation]:
        """Return the flow that reads the operation."""

    @abstractmethod
    def _trigger(self, **options: Any) -> BaseTrigger:
        """Return the trigger that waits."""

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look once; a busy or unreachable service counts as not yet, the sensor's own time-out is the bound."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogError

        try:
            operation = self.hook.run(self._read())
        except GeoCatalogError as error:
            if not error.retryable:
                raise AirflowFailException(str(error)) from error
            self.log.warning("%s Looking again at the next poke.", error)
            return False
        if not operation.status.is_final:
            self.log.info("Operation %s is %s.", operation.operation_id, operation.status)
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._judge(operation))

    def execute(self, context: Context) -> Any:
        """Poke in this process, or look once and wait in the triggerer."""
        if not self.deferrable:
            return super().execute(context)
        looked = self.poke(context)
        if isinstance(looked, PokeReturnValue):
            return looked.xcom_value
        timeout = float(self.timeout)
        self.defer(
            trigger=self._trigger(
                geocatalog_conn_id=self.geocatalog_conn_id,
                poll_interval=float(self.poke_interval),
                first_delay=self.first_delay,
                deadline=time.time() + timeout,
                outage_budget=self.outage_budget,
                cancel_on_kill=False,  # somebody else started it
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=timeout + _BACKSTOP),
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """
        Continue after the trigger fired: read the result and judge it.

        :raises AirflowSensorTimeout: It did not end in time.
        :raises AirflowFailException: It did not succeed.
        """
        from airflow.providers.common.compat.sdk import AirflowSensorTimeout

        from airflow_provider_geocatalog.api.errors import GeoCatalogError

        try:
            operation = self.hook.run(self._read())
        except GeoCatalogError as error:
            if error.retryable:
                raise
            raise AirflowFailException(str(error)) from error
        if operation.status.is_final:
            return self._judge(operation)
        message = str((event or {}).get("message") or "the trigger ended without saying what happened")
        if (event or {}).get("outcome") == "timeout":
            raise AirflowSensorTimeout(message)
        raise AirflowFailException(message)

    def _judge(self, operation: Operation) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.errors import GeoCatalogError
        from airflow_provider_geocatalog.api.outcomes import require_success

        try:
            require_success(
                operation, what=f"operation {operation.operation_id}", max_failed_items=self.max_failed_items
            )
        except GeoCatalogError as error:
            # The only kind of failure that soft_fail honours both when poking and when deferred.
            raise AirflowFailException(str(error)) from error
        return operation.to_summary()


class GeoCatalogOperationSensor(_OperationSensor):
    """
    Wait for a long-running operation to succeed.

    :param operation_id: The operation.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param deferrable: Wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param poke_interval: Seconds between looks.
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

    def _read(self) -> Flow[Operation]:
        from airflow_provider_geocatalog.api.flows.waiting import get_operation

        return get_operation(self.operation_id)

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
    :param poke_interval: Seconds between looks.
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

    def _read(self) -> Flow[Operation]:
        from airflow_provider_geocatalog.api.flows.waiting import get_run

        return (yield from get_run(self.collection_id, self.ingestion_id, self.run_id)).operation

    def _trigger(self, **options: Any) -> BaseTrigger:
        return GeoCatalogIngestionRunTrigger(
            collection_id=self.collection_id, ingestion_id=self.ingestion_id, run_id=self.run_id, **options
        )
