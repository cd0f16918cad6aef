"""Which of a source's items a transfer is about: what the DAG run is for, or what is new since the last one."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.transfer.windows import Window, moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.operators.watermarks import WatermarkStore

__all__ = ["DataInterval", "Watermark", "partitions", "window_of"]


@dataclass
class DataInterval:
    """
    The items of the DAG run's data interval.

    By ``datetime`` it holds what was taken in the interval; what the source publishes later is not found again. By
    ``updated`` or ``created`` it holds what was published or changed in the interval, however late.

    :param field: The property of items: ``datetime``, ``created`` or ``updated``.
    :param overlap: How much further back it begins, so that late arrivals are found.
    """

    field: str = "datetime"
    overlap: datetime.timedelta = datetime.timedelta(0)

    def window(self, context: Context) -> Window:
        """
        Return the window of a DAG run.

        :raises GeoCatalogInvalidInput: It has no data interval.
        """
        start, end = context.get("data_interval_start"), context.get("data_interval_end")
        if start is None or end is None or start == end:
            raise GeoCatalogInvalidInput(
                "the DAG run has no data interval (it was triggered by hand or by an asset, or its timetable gives "
                "none); give the window's start and end, use a Watermark, or schedule the DAG with a "
                "CronDataIntervalTimetable"
            )
        return Window(self.field, start - self.overlap, end)

    def serialize(self) -> dict[str, Any]:
        """Return what Airflow shows as the rendered field."""
        return {"data_interval": self.field, "overlap": str(self.overlap)}


@dataclass
class Watermark:
    """
    The items since the last DAG run that succeeded: how far that had come is kept over DAG runs.

    It moves only when the task has succeeded, to the latest moment that was seen, and never beyond the moment at which
    the task began. Items that were set aside or failed, and are tolerated, count as seen: later runs find them in the
    overlap only, so keep a dead-letter file for those. Items without the field are always looked at. See
    :class:`~airflow_provider_geocatalog.operators.watermarks.WatermarkStore` for where it is kept.

    :param field: The property of items: ``updated`` finds late arrivals and edits, ``created`` late arrivals,
        ``datetime`` what is newer only.
    :param overlap: How much further back than the last run had come it begins: publishing takes a source time, in which
        an item has its moment and cannot be found yet.
    :param start: Where the first run begins; without it, with the source's first item.
    :param name: Transfers of one name share it. Default: DAG and task.
    :param asset: An inlet or outlet of the task, whose state keeps it (Airflow 3.3 and later).
    """

    field: str = "updated"
    overlap: datetime.timedelta = datetime.timedelta(hours=1)
    start: str | datetime.datetime | None = None
    name: str | None = None
    asset: Any = None

    template_fields: ClassVar[Sequence[str]] = ("start", "name")

    def store(self, context: Context) -> WatermarkStore:
        """
        Return what keeps it.

        :raises GeoCatalogInvalidInput: The task is mapped, and the watermark has no name.
        """
        from airflow_provider_geocatalog.operators.watermarks import WatermarkStore

        ti: Any = context["ti"]
        if not self.name and getattr(ti, "map_index", -1) not in {-1, None}:
            raise GeoCatalogInvalidInput("mapped tasks would share one watermark; give each a name of its own")
        name = self.name or f"{ti.dag_id}.{ti.task_id}"
        return WatermarkStore.of(context, name, self.asset, field=self.field)

    def window(self, context: Context) -> Window:
        """Return the window of a DAG run."""
        known = self.store(context).get()
        if known is not None:
            reached = moment(known["value"])
            start: Any = None if reached is None else reached - self.overlap
        else:
            start = self.start or None
        return Window(self.field, start)

    def serialize(self) -> dict[str, Any]:
        """Return what Airflow shows as the rendered field."""
        asset = None if self.asset is None else str(getattr(self.asset, "name", None) or self.asset)
        return {
            "watermark": self.field,
            "overlap": str(self.overlap),
            "start": None if self.start is None else str(self.start),
            "name": self.name,
            "asset": asset,
        }


def window_of(value: Any, context: Context) -> Window | None:
    """
    Return the window that an argument means.

    :param value: A :class:`DataInterval`, a :class:`Watermark`, a
        :class:`~airflow_provider_geocatalog.transfer.windows.Window`, an object with ``start``, ``end`` and ``field``,
        or ``None`` for everything.
    :raises GeoCatalogInvalidInput: It is none of these.
    """
    if value is None or isinstance(value, Window):
        return value
    if isinstance(value, DataInterval | Watermark):
        return value.window(context)
    if isinstance(value, dict) and value.keys() <= {"start", "end", "field"}:
        return Window.from_json({name: one or None for name, one in value.items() if name != "field" or one})
    raise GeoCatalogInvalidInput(
        "window is a DataInterval, a Watermark, or an object with 'start', 'end' and 'field', not "
        f"{type(value).__name__}{f' with {sorted(value)}' if isinstance(value, dict) else ''}"
    )


def partitions(
    start: str | datetime.datetime, end: str | datetime.datetime, unit: str = "month", *, field: str = "datetime"
) -> list[dict[str, Any]]:
    """
    Return the windows by calendar unit of a stretch of time, for a mapped task of each: a backfill.

    .. code-block:: python

        StacToGeoCatalogOperator.partial(...).expand(window=partitions("2024-01-01", "2025-01-01", "month"))

    :param start: RFC 3339 text, or a datetime; UTC if it has no time zone.
    :param end: The moment before which it ends.
    :param unit: ``hour``, ``day``, ``week``, ``month`` or ``year``.
    :param field: The property of items.
    """
    return [one.to_json() for one in Window.from_json({"field": field, "start": start, "end": end}).partitions(unit)]
