"""Prove that a collection holds what its source has, and remove what the source no longer has."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.numbers import whole_number
from airflow_provider_geocatalog.operators.credentials import refuse_signature
from airflow_provider_geocatalog.operators.item_changes import ItemDeletionsOperator
from airflow_provider_geocatalog.transfer.storage import path_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.operators.transfer_windows import DataInterval
    from airflow_provider_geocatalog.transfer.comparison import Comparison, Counts
    from airflow_provider_geocatalog.transfer.source import ItemSource
    from airflow_provider_geocatalog.transfer.windows import Window

__all__ = ["GeoCatalogCompareItemsOperator"]

_NAMED_IN_ERROR = 10
_NAMED_IN_RESULT = 100
_PARTITIONS_IN_ERROR = 12
_PARTITIONS_IN_RESULT = 400
_RESULT_KEY = "comparison"
#: What sources choose items by that the default scope does not repeat: names of properties may differ in the catalog.
_CHOOSING = ("ids", "filter", "query", "datetime")


class GeoCatalogCompareItemsOperator(ItemDeletionsOperator):
    """
    Prove that a collection holds what its source has, item by item, and say by partition what differs.

    Both are read to their ends; if that cannot be done, the task fails without a verdict. An item is

    - *missing* if the source has it and the collection does not,
    - *changed* if it differs from what would be sent, by the hash ``transfer:sha256`` that transfers leave in items,
    - *unknown* if it has no such hash, since no transfer has sent it,
    - *orphaned* if it is in the collection, in the window and the scope, and the source does not have it,
    - *unreadable* if the source has it in a form that cannot be sent,
    - *moved* if it is in another partition of the collection than of the source; it is changed as well.

    Orphans can be removed, behind a brake: nothing is removed if there are more of them than a number or a share, if
    the source gives no items or some that are unreadable, or if the task fails for what else it has found. An item
    whose ``datetime`` was changed at its source, so that another window has it now, is no orphan where the source
    gives items of other windows as well; where it does not, as a STAC API, the item is removed, and created again by a
    transfer of its new window.

    :param source: What should be in the collection, see :mod:`airflow_provider_geocatalog.transfer.sources`.
    :param collection_id: The collection.
    :param transforms: What transfers make of the items. Default: as for transfers, ``DEFAULT_TRANSFORMS``.
    :param window: Which items, as for transfers: a
        :class:`~airflow_provider_geocatalog.operators.transfer_windows.DataInterval`, an object with ``start``, ``end``
        (RFC 3339) and ``field``, or ``None`` for all. With one by ``created`` or ``updated`` no orphans can be told.
    :param scope: The part of the collection that comes from the source: an object with ``bbox`` or ``intersects``, and
        ``filter`` (CQL2), as in a search; ``{}`` for the whole collection. Default: the ``bbox`` or ``intersects`` of
        the source, if it has one.
    :param partition: What is counted by: ``hour``, ``day``, ``week``, ``month`` or ``year`` of the items, in UTC;
        ``None`` for all together.
    :param max_missing: Missing and unreadable items that are tolerated; ``None`` for any number.
    :param max_changed: Changed items that are tolerated; ``None`` for any number.
    :param max_orphaned: Orphans that are tolerated, where they are not removed; ``None`` for any number.
    :param report_path: A file (NDJSON, on disk or in an object store) for all differences: lines with ``id``, ``kind``,
        ``partition``, ``reason`` and, of missing and changed items, ``item``. It is a source for a transfer that mends
        them. A mapped task puts its map index before the suffix (``report.3.ndjson``), so that each has its own.
    :param storage_conn_id: Airflow connection for ``report_path``.
    :param remove_orphans: Whether orphans are deleted, with their files.
    :param max_removed: The most orphans that may be removed.
    :param max_removed_share: The largest share of the items found that may be removed, from 0 to 1.
    :param gone_within: Seconds for removed items to vanish from what can be read, which lags behind.
    :param max_failed_items: Orphans that may fail to be removed.
    :param dry_run: Compare, but remove nothing; log and return what would be removed.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param poll_interval: Seconds between polls of deletions; a young wait is polled faster.
    :param min_poll_interval: Seconds between polls of a young wait.
    :param timeout: Seconds for removing; the task's ``execution_timeout`` counts as well.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether deletions are cancelled when the task is stopped by a user or times out.
    :return: ``collection_id``, ``source``, ``window``, ``totals`` (``expected``, ``found``, ``missing``, ``changed``,
        ``orphaned``, ``unknown``, ``unreadable``, ``moved``), ``partitions`` (the same by partition, up to 400, those
        with differences first), ``partitions_left_out``, ``first_ids`` (up to 100 by kind), ``removed`` and
        ``report_path``, as XCom. Of a dry run also ``dry_run`` and ``plan`` (up to 100 writes). If the task fails for
        what it has found, the XCom ``comparison`` holds the same.
    :raises GeoCatalogInvalidInput: The arguments make no sense; nothing was read.
    :raises GeoCatalogNotFound: The collection does not exist.
    :raises ItemSourceError: The source cannot be read, or not wholly.
    :raises ItemsDiffer: More differs than is tolerated, or more would be removed.
    :raises GeoCatalogItemsFailed: Orphans could not be removed.
    :raises GeoCatalogWaitTimeout: Orphans were not removed in time, or can still be read.
    """

    template_fields: Sequence[str] = (
        "source",
        "collection_id",
        "window",
        "scope",
        "report_path",
        "storage_conn_id",
        *ItemDeletionsOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"window": "json", "scope": "json"}

    _writes_collection = False  # but for orphans that it removes

    def __init__(
        self,
        *,
        source: ItemSource,
        transforms: Sequence[Callable[[dict[str, Any]], Any]] | None = None,
        window: DataInterval | Mapping[str, Any] | None = None,
        scope: Mapping[str, Any] | None = None,
        partition: str | None = "month",
        max_missing: int | None = 0,
        max_changed: int | None = 0,
        max_orphaned: int | None = None,
        report_path: str | None = None,
        storage_conn_id: str | None = None,
        remove_orphans: bool = False,
        max_removed: int | None = None,
        max_removed_share: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_signature(report_path, "report_path")
        self.source = source
        self.transforms = transforms
        self.window = window
        self.scope = scope
        self.partition = partition
        self.max_missing = _bound(max_missing, "max_missing")
        self.max_changed = _bound(max_changed, "max_changed")
        self.max_orphaned = _bound(max_orphaned, "max_orphaned")
        self.report_path = path_text(report_path)
        self.storage_conn_id = storage_conn_id
        self.remove_orphans = remove_orphans
        self.max_removed = _bound(max_removed, "max_removed")
        self.max_removed_share = _share(max_removed_share)
        if remove_orphans and (max_removed is None or max_removed_share is None):
            raise GeoCatalogInvalidInput(
                "remove_orphans needs a brake: give max_removed, the most items that may be removed, and "
                "max_removed_share, the largest share of those found"
            )

    def _execute(self, context: Context) -> dict[str, Any]:
        """Compare, write the report, judge, and remove."""
        from airflow_provider_geocatalog.hooks.environment import AirflowEnvironment
        from airflow_provider_geocatalog.operators.transfer_windows import window_of
        from airflow_provider_geocatalog.transfer.comparison import CatalogItems, compare
        from airflow_provider_geocatalog.transfer.transforms import Pipeline

        window = window_of(self.window, context)
        pipeline = Pipeline(self.collection_id, self.transforms)
        catalog = CatalogItems(self.hook.client, self.collection_id, scope=self._scope(), window=window)
        self._check(can_tell_orphans=catalog.can_be_listed)
        self.hook.client.get_collection(self.collection_id)  # one that does not exist would look empty
        environment = AirflowEnvironment()
        comparison = compare(
            self.source,
            environment,
            catalog,
            pipeline.content,
            partition=self.partition,
            keep_items=bool(self.report_path),
        )
        with comparison:
            result = self._result(context, comparison, window, can_tell_orphans=catalog.can_be_listed)
            if result["report_path"]:
                self._write_report(environment, comparison, result["report_path"])
            self._judge(context, comparison, result)
            if self.remove_orphans:
                result = self._remove(context, list(comparison.ids("orphaned")), result)
        return self._told(result)

    # --- before -------------------------------------------------------------------------------------------------------

    def _check(self, *, can_tell_orphans: bool) -> None:
        """Refuse arguments, as they are once rendered, before anything is read."""
        from airflow_provider_geocatalog.api.validation import refuse
        from airflow_provider_geocatalog.transfer.item_files import ItemFormat, require_format
        from airflow_provider_geocatalog.transfer.source import ItemSource
        from airflow_provider_geocatalog.transfer.windows import PARTITIONS

        refuse_signature(self.report_path, "report_path")
        if not isinstance(self.source, ItemSource):
            raise GeoCatalogInvalidInput(
                f"source is {type(self.source).__name__}; expected one of airflow_provider_geocatalog.transfer.sources"
            )
        problems = []
        if self.partition is not None and self.partition not in PARTITIONS:
            problems.append(f"partition is {self.partition!r}; expected one of {', '.join(PARTITIONS)} or None")
        if self.report_path and require_format(self.report_path) is not ItemFormat.NDJSON:
            problems.append(f"report_path is {self.report_path!r}; the report is NDJSON, so give it the suffix .ndjson")
        if not can_tell_orphans and (self.remove_orphans or self.max_orphaned is not None):
            problems.append("what is orphaned cannot be told by a window of when items were created or updated")
        chosen_by = [name for name in _CHOOSING if getattr(self.source, name, None)]
        if self.remove_orphans and self.scope is None and chosen_by:
            problems.append(
                f"the source chooses items by {', '.join(chosen_by)}, so give the scope that belongs to it: what the "
                "collection has beyond that would be removed"
            )
        refuse("the items cannot be compared", problems)

    def _scope(self) -> dict[str, Any]:
        if self.scope is not None:
            if not isinstance(self.scope, Mapping):
                raise GeoCatalogInvalidInput(f"scope is an object, not {type(self.scope).__name__}")
            return dict(self.scope)
        scope = {}
        for name in ("bbox", "intersects"):
            value = getattr(self.source, name, None)
            if value and isinstance(value, str):  # which a template may have made of it
                try:
                    value = json.loads(value if value.lstrip().startswith(("[", "{")) else f"[{value}]")
                except ValueError:
                    raise GeoCatalogInvalidInput(f"the {name} of the source is no JSON; give the scope") from None
            if value:
                scope[name] = value
        return scope

    # --- the verdict --------------------------------------------------------------------------------------------------

    def _judge(self, context: Context, comparison: Comparison, result: dict[str, Any]) -> None:
        """
        Hold what was found against what is tolerated.

        :raises ItemsDiffer: It is too much. Nothing was removed.
        """
        from airflow_provider_geocatalog.transfer.comparison import ItemsDiffer

        totals = comparison.totals
        self.log.info("Compared %s with collection %r: %s.", self.source.describe(), self.collection_id, totals)
        problems = [
            *_beyond(comparison, self.max_missing, "max_missing", "missing", "unreadable"),
            *_beyond(comparison, self.max_changed, "max_changed", "changed"),
        ]
        if self.remove_orphans:
            problems += self._brakes(totals)
        else:
            problems += _beyond(comparison, self.max_orphaned, "max_orphaned", "orphaned")
        if not problems:
            return
        context["ti"].xcom_push(key=_RESULT_KEY, value=result)
        hints = ["Nothing was removed."] if self.remove_orphans else []
        if totals.missing or totals.changed:
            hints.append(
                f"A transfer with {result['report_path']} as its source (ItemFilesSource) sends what is missing and "
                "changed."
                if result["report_path"]
                else "Give report_path, and run a transfer with the report as its source."
            )
        raise ItemsDiffer(
            f"collection {self.collection_id!r} differs from {self.source.describe()}: {'; '.join(problems)}. "
            f"By partition: {_partitions_told(comparison.partitions)}",
            hint=" ".join(hints) or None,
            summary=result,
        )

    def _brakes(self, totals: Counts) -> list[str]:
        """Return why orphans are not removed."""
        assert self.max_removed is not None and self.max_removed_share is not None  # noqa: S101, PT018
        if not totals.orphaned:
            return []
        problems = []
        share = totals.orphaned / totals.found
        told = f"{totals.orphaned} of {totals.found} items found are orphaned, {share:.2%}"
        if not totals.expected:
            problems.append(f"{told}, and the source gives no items at all, which is not believed")
        if totals.unreadable:
            problems.append(f"{told}, but {totals.unreadable} items of the source are unreadable and may be among them")
        if totals.orphaned > self.max_removed:
            problems.append(f"{told}, of which at most {self.max_removed} may be removed (max_removed)")
        if share > self.max_removed_share:
            problems.append(f"{told}; at most {self.max_removed_share:.2%} may be removed (max_removed_share)")
        return problems

    def _result(
        self, context: Context, comparison: Comparison, window: Window | None, *, can_tell_orphans: bool
    ) -> dict[str, Any]:
        from airflow_provider_geocatalog.transfer.comparison import KINDS
        from airflow_provider_geocatalog.transfer.item_files import own_path

        partitions = comparison.partitions
        # A stable sort: those with differences come first, each in the order of time.
        kept = sorted(partitions, key=lambda name: partitions[name].is_even)[:_PARTITIONS_IN_RESULT]
        totals: dict[str, Any] = comparison.totals.to_json()
        return {
            "collection_id": self.collection_id,
            "source": self.source.describe(),
            "window": window.to_json() if window else None,
            "totals": totals if can_tell_orphans else {**totals, "orphaned": None},
            "partitions": {name: partitions[name].to_json() for name in sorted(kept)},
            "partitions_left_out": len(partitions) - len(kept),
            "first_ids": {kind: ids for kind in KINDS if (ids := list(comparison.ids(kind, _NAMED_IN_RESULT)))},
            "removed": 0,
            "report_path": own_path(self.report_path, context["ti"].map_index) or None,
        }

    def _write_report(self, environment: Any, comparison: Comparison, path: str) -> None:
        from airflow_provider_geocatalog.transfer.item_files import writing_items

        with writing_items(environment, path, self.storage_conn_id) as report:
            for difference in comparison.differences():
                report.write(difference.to_json())
        self.log.info("Wrote %d differences to %s.", report.count, path)

    # --- removing -----------------------------------------------------------------------------------------------------

    def _remove(self, context: Context, orphans: Sequence[str], result: dict[str, Any]) -> dict[str, Any]:
        """Delete orphans, see that they are gone, and return the result."""
        from airflow_provider_geocatalog.api.endpoints import DELETE_ITEM

        if self._is_dry_run:
            self._plan_items(DELETE_ITEM, orphans, "removed")
            return result
        deadline = self._deadline()
        progress, gone = self._delete_items(context, orphans, deadline=deadline)
        removed = [*progress.done, *gone]
        result = self._judged({**result, "removed": len(removed)}, progress.failed, what="removed")
        self._require_gone(removed, deadline=deadline)
        return result


def _bound(value: Any, argument: str) -> int | None:
    return None if value is None else whole_number(value, argument)


def _share(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1 or math.isnan(value):
        raise GeoCatalogInvalidInput(f"max_removed_share has to be a number from 0 to 1, not {value!r}")
    return float(value)


def _beyond(comparison: Comparison, most: int | None, argument: str, *kinds: str) -> list[str]:
    """Return what is to be said of kinds of differences of which there are more than are tolerated."""
    counts = comparison.totals.to_json()
    if most is None or sum(counts[kind] for kind in kinds) <= most:
        return []
    told = []
    for kind in kinds:
        named = [*comparison.ids(kind, _NAMED_IN_ERROR), *(["..."] if counts[kind] > _NAMED_IN_ERROR else [])]
        if counts[kind]:
            told.append(f"{counts[kind]} {kind}" + (f" ({', '.join(named)})" if named else ""))
    return [f"{' and '.join(told)}, where at most {most} are tolerated ({argument})"]


def _partitions_told(partitions: Mapping[str, Counts]) -> str:
    uneven = [(name, counts) for name, counts in partitions.items() if not counts.is_even]
    told = [f"{name}: {counts}" for name, counts in uneven[:_PARTITIONS_IN_ERROR]]
    more = len(uneven) - len(told)
    return "; ".join([*told, f"and {more} more"] if more else told)
