"""Wait for items: new ones in a STAC API, and those that become readable in the GeoCatalog."""

from __future__ import annotations

import datetime
import time
from abc import abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.numbers import seconds
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.links import LINKS, push_links
from airflow_provider_geocatalog.operators.rendering import MaskedFields
from airflow_provider_geocatalog.operators.watermarks import WatermarkStore
from airflow_provider_geocatalog.provider_info import DEFAULT_CONNECTION_ID
from airflow_provider_geocatalog.transfer.awaited_items import AwaitedItems
from airflow_provider_geocatalog.transfer.new_items import NewItemsQuery, NewItemsWatch
from airflow_provider_geocatalog.transfer.source import ItemSource
from airflow_provider_geocatalog.transfer.windows import moment
from airflow_provider_geocatalog.triggers.items import GeoCatalogItemsTrigger, NewItemsTrigger, source_to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_geocatalog.api.errors import GeoCatalogError

__all__ = ["GeoCatalogItemsSensor", "StacApiItemsSensor"]

_BACKSTOP = 300.0  # seconds after our own deadline at which Airflow's time-out of the deferral fires
#: How Airflow resumes a task whose deferral took too long.
_FAILED_DEFERRAL, _TOOK_TOO_LONG = "__fail__", frozenset({"Trigger timeout", "Trigger/execution timeout"})
_DAY = datetime.timedelta(days=1)


class _LookingSensor(MaskedFields, BaseSensorOperator):
    """What both sensors share: they only read, and what fails for a while is looked at again until the time is over."""

    #: Seconds before a deferred wait looks for the first time, see the triggers.
    first_delay: float = 8.0

    def __init__(
        self,
        *,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float | datetime.timedelta = 60.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.deferrable = deferrable
        if deferrable:  # a triggerer would do nothing but look; a poking sensor has its worker for itself
            seconds(self.poke_interval, "poke_interval", above_zero=True)
        self._watch: Any = None
        self._retry_after = 0.0
        self._trouble: GeoCatalogError | None = None

    @abstractmethod
    def _begin(self, context: Context) -> Any:
        """Return what looks, and can describe how far it was."""

    @abstractmethod
    def _look(self) -> dict[str, Any] | None:
        """Return the result if what is waited for is there."""

    @abstractmethod
    def _trigger(self, **options: Any) -> BaseTrigger:
        """Return the trigger that waits."""

    def _found(self, context: Context, result: dict[str, Any]) -> dict[str, Any]:
        """Do what is to be done once with a result, and return it."""
        return result

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look once; what is busy or cannot be reached counts as not yet, the sensor's own time-out is the bound."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogError

        self._retry_after = 0.0
        try:
            if self._watch is None:
                self._watch = self._begin(context)
            result = self._look()
            if result is not None:
                return PokeReturnValue(is_done=True, xcom_value=self._found(context, result))
        except GeoCatalogError as error:
            if not error.retryable:
                raise AirflowFailException(str(error)) from error
            self._retry_after = error.retry_after or 0.0
            if self._trouble is None:
                self.log.warning("%s Looking again at every poke.", error)
            self._trouble = error
            return False
        if self._trouble is not None:
            self.log.info("Looking works again.")
        self._trouble = None
        self.log.info("Not yet: %s.", self._watch.describe())
        return False

    def _get_next_poke_interval(self, started_at: Any, run_duration: Any, *args: Any) -> float:
        interval: float = super()._get_next_poke_interval(started_at, run_duration, *args)
        remaining: float = self.timeout - run_duration()
        return max(interval, min(self._retry_after, remaining))

    def execute(self, context: Context) -> Any:
        """Poke in this process, or look once and wait in the triggerer."""
        self._watch = None  # of an earlier execution in the same process
        if not self.deferrable:
            try:
                return super().execute(context)
            except AirflowSensorTimeout as error:
                raise self._late(self._how_far()) from error
        try:
            looked = self.poke(context)
            if isinstance(looked, PokeReturnValue):
                return looked.xcom_value
            timeout, now = float(self.timeout), time.time()
            trigger = self._trigger(
                poll_interval=float(self.poke_interval),
                first_delay=max(self.first_delay, self._retry_after),
                started=now,
                deadline=now + timeout,
            )
        except AirflowFailException as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(f"Skipping instead of failing: {error}") from error
            raise
        self.defer(
            trigger=trigger, method_name="execute_complete", timeout=datetime.timedelta(seconds=timeout + _BACKSTOP)
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral; one that took too long for Airflow is a time-out of the sensor."""
        if next_method == _FAILED_DEFERRAL and (next_kwargs or {}).get("error") in _TOOK_TOO_LONG:
            next_method, next_kwargs = "execute_complete", {"event": {"outcome": "timeout"}}
        return super().resume_execution(next_method, next_kwargs, context)

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """
        Continue after the trigger fired.

        :param event: What the trigger said.
        :raises AirflowSensorTimeout: The time is over.
        :raises AirflowFailException: It cannot be looked for.
        """
        from airflow_provider_geocatalog.api.errors import GeoCatalogError

        told = event if isinstance(event, dict) else {}
        if told.get("outcome") == "found":
            try:
                return self._found(context, told["result"])
            except GeoCatalogError as error:
                raise AirflowFailException(str(error)) from error
        if told.get("outcome") == "timeout":
            if "message" in told:
                raise self._late(told["message"])
            looked = self.poke(context)  # the trigger was gone before it could say how far it was
            if isinstance(looked, PokeReturnValue):
                return looked.xcom_value
            raise self._late(self._how_far())
        raise AirflowFailException(told.get("message") or "the trigger ended without saying what happened")

    def _how_far(self) -> str:
        failing = f"; the last look failed: {self._trouble}" if self._trouble else ""
        return f"{self._watch.describe()}{failing}"

    def _late(self, how_far: str) -> AirflowSensorTimeout:
        return AirflowSensorTimeout(f"Not within {self.timeout:.0f} s: {how_far}")


class StacApiItemsSensor(_LookingSensor):
    """
    Wait for items in a STAC API that are newer than a watermark.

    When enough are there it succeeds, moves the watermark to the latest of them, and hands on the window that holds all
    of them, so that a task after it can transfer that window. Items older than the watermark that arrive late do not
    count, but the window begins an ``overlap`` earlier to hold them. Items without ``field`` do not count either.

    The watermark moves when the sensor succeeds: whatever follows has to see to the window, in its retries as well.
    With ``commit=False`` it stays, and what follows moves it when it is done: give both the same ``watermark``.

    It is kept in the state of ``watermark_asset`` where Airflow has that (3.3 and later), and in the Airflow Variable
    ``geocatalog_watermark__<name>`` otherwise. Let one DAG run at a time use it (``max_active_runs=1``).

    :param source: The STAC API, a :class:`~airflow_provider_geocatalog.transfer.stac_api.StacApiSource`; any other
        source that can be read again and again will do. To be deferred its arguments have to be JSON.
    :param field: The property by which items are new: ``updated``, ``created`` or ``datetime``.
    :param min_items: How many there have to be.
    :param max_count: Count no more than this; there may be more in the window.
    :param watermark: Its name; ``<dag id>.<task id>`` if not given.
    :param watermark_asset: The asset that keeps it. It becomes an inlet of the task.
    :param start: Where the first look begins, RFC 3339; the beginning of the DAG run's data interval if not given, or
        where there is none, ``lookback`` ago.
    :param lookback: See ``start``.
    :param overlap: How much earlier than the watermark the window begins.
    :param commit: Whether to move the watermark.
    :param deferrable: Wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param poke_interval: Seconds between looks.
    :return: ``count``, ``is_complete`` (whether all were counted), ``watermark``, ``window`` (``field``, ``start``,
        ``end``), ``ids`` of the first hundred, ``bbox`` and ``interval``, as XCom.
    :raises AirflowFailException: The source refuses, or its items do not have the field.
    :raises AirflowSensorTimeout: There were too few within ``timeout``.
    """

    template_fields: Sequence[str] = ("source", "watermark", "start")

    def __init__(
        self,
        *,
        source: ItemSource,
        field: str = "updated",
        min_items: int = 1,
        max_count: int = 1000,
        watermark: str | None = None,
        watermark_asset: Any = None,
        start: str | datetime.datetime | None = None,
        lookback: datetime.timedelta = _DAY,
        overlap: datetime.timedelta = datetime.timedelta(hours=1),
        commit: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.field = field
        self.min_items = min_items
        self.max_count = max_count
        self.watermark = watermark
        self.watermark_asset = watermark_asset
        self.start = start
        self.lookback = lookback
        self.overlap = overlap
        self.commit = commit
        if watermark_asset is not None and watermark_asset not in [*self.inlets, *self.outlets]:
            self.inlets = [*self.inlets, watermark_asset]
        if not isinstance(source, ItemSource):
            raise GeoCatalogInvalidInput(f"source has to be a source of items such as StacApiSource, not {source!r}")
        self._query_after("2000-01-01T00:00:00Z")  # refuses what cannot be when the DAG is read
        seconds(lookback.total_seconds(), "lookback")
        if self.deferrable:
            source_to_json(source)

    def _query_after(self, after: str) -> NewItemsQuery:
        return NewItemsQuery(after, self.field, self.overlap.total_seconds(), self.min_items, self.max_count)

    def _store(self, context: Context) -> WatermarkStore:
        ti: Any = context["ti"]
        if self.watermark is None and ti.map_index is not None and ti.map_index >= 0:
            raise GeoCatalogInvalidInput("a mapped sensor needs a watermark of its own: give its name as an argument")
        name = self.watermark or f"{ti.dag_id}.{ti.task_id}"
        return WatermarkStore.of(context, name, self.watermark_asset, field=self.field)

    def _after(self, context: Context) -> datetime.datetime:
        """Return the moment after which items are new."""
        known = self._store(context).get()
        if known is not None:
            after = moment(known["value"])
        else:
            begin = self.start or context.get("data_interval_start")
            begin = moment(begin) if begin else datetime.datetime.now(datetime.UTC) - self.lookback
            after = begin and begin - datetime.timedelta(microseconds=1)  # an item of that very moment is new
        if after is None:
            raise GeoCatalogInvalidInput(f"start has to be a moment such as 2024-01-31T00:00:00Z, not {self.start!r}")
        return after

    def _begin(self, context: Context) -> NewItemsWatch:
        if self.deferrable:
            source_to_json(self.source)  # refuses what must not be stored, before anything is sent
        return NewItemsWatch(self.source, self._query_after(self._after(context).isoformat()))

    def _look(self) -> dict[str, Any] | None:
        from airflow_provider_geocatalog.hooks.environment import AirflowEnvironment

        found: dict[str, Any] | None = self._watch.look(AirflowEnvironment())
        return found

    def _trigger(self, **options: Any) -> BaseTrigger:
        return NewItemsTrigger(source=source_to_json(self.source), query=asdict(self._watch.query), **options)

    def _found(self, context: Context, result: dict[str, Any]) -> dict[str, Any]:
        if self.commit:
            self._store(context).set({"value": result["watermark"]})
        return result


class GeoCatalogItemsSensor(_LookingSensor):
    """
    Wait until items can be read in a GeoCatalog.

    :param collection_id: Their collection.
    :param ids: All of these have to be there; none of them is asked for again once it was. An empty list waits for
        nothing.
    :param search: Conditions of a search instead: ``bbox``, ``intersects``, ``datetime``, ``query``, ``filter``,
        ``filter_crs``, ``filter_lang``. Without it all items count.
    :param min_items: How many items have to match it, 1 if not given.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param deferrable: Wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param poke_interval: Seconds between looks.
    :return: ``collection_id``, ``count``, and ``ids`` of the first hundred, as XCom.
    :raises AirflowFailException: The service refuses to tell.
    :raises AirflowSensorTimeout: They were not there within ``timeout``; it names those that are missing.
    """

    template_fields: Sequence[str] = ("collection_id", "ids", "search", "geocatalog_conn_id")
    operator_extra_links = LINKS

    def __init__(
        self,
        *,
        collection_id: str,
        ids: Sequence[str] | None = None,
        search: Mapping[str, Any] | None = None,
        min_items: int | None = None,
        geocatalog_conn_id: str = DEFAULT_CONNECTION_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.collection_id = collection_id
        self.ids = ids
        self.search = search
        self.min_items = min_items
        self.geocatalog_conn_id = geocatalog_conn_id
        # Refuses what cannot be when the DAG is read; ids and the search may be templates until the task runs.
        AwaitedItems("", None if ids is None else [], None if search is None else {}, min_items)

    def _begin(self, context: Context) -> AwaitedItems:
        push_links(context, GeoCatalogHook(self.geocatalog_conn_id), self.collection_id)
        return AwaitedItems(self.collection_id, self.ids, self.search, self.min_items)

    def _look(self) -> dict[str, Any] | None:
        # With a new hook each time: the connection may change during a long wait.
        found: dict[str, Any] | None = GeoCatalogHook(self.geocatalog_conn_id).run(self._watch.look())
        return found

    def _trigger(self, **options: Any) -> BaseTrigger:
        return GeoCatalogItemsTrigger(**self._watch.arguments(), geocatalog_conn_id=self.geocatalog_conn_id, **options)
