"""Create STAC items."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_geocatalog.api.numbers import whole_number
from airflow_provider_geocatalog.operators.base import (
    GeoCatalogLongRunningOperator,
    GeoCatalogPlanningOperator,
    GeoCatalogWaitingOperator,
)
from airflow_provider_geocatalog.operators.choices import PreflightMode, choice
from airflow_provider_geocatalog.operators.preflight import MIN_LIFETIME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pystac
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.api.models import Counts, Operation
    from airflow_provider_geocatalog.operators.submissions import Submissions

__all__ = ["GeoCatalogCreateItemsOperator", "load_items"]

_NAMED_IN_ERROR = 20
_NAMED_IN_RESULT = 100


def load_items(value: Any) -> Any:
    """
    Return a list of STAC Items as it was given, unchecked.

    :param value: A list of what :func:`~airflow_provider_geocatalog.operators.documents.load_document` takes, or one of
        it that is an Item, a FeatureCollection or a list.
    :raises GeoCatalogInvalidInput: It cannot be read.
    """
    from airflow_provider_geocatalog.operators.documents import load_document

    if isinstance(value, list | tuple):
        loaded: Any = [load_document(entry, "an item") for entry in value]
    else:
        loaded = load_document(value, "the items")
    if isinstance(loaded, dict):
        loaded = loaded.get("features") if loaded.get("type") == "FeatureCollection" else [loaded]
    return loaded


def _checked_items(value: Any, collection_id: str) -> list[dict[str, Any]]:
    """Return checked STAC Items of a collection."""
    from airflow_provider_geocatalog.api.validation import collection_id_problems, items_problems, refuse

    loaded = load_items(value)
    if isinstance(loaded, list):  # an item has links, which the service makes itself
        loaded = [{"links": [], **item} if isinstance(item, dict) else item for item in loaded]
    refuse("the items cannot be sent", collection_id_problems(collection_id) + items_problems(loaded, collection_id))
    return [{**item, "collection": collection_id} for item in loaded]


class GeoCatalogCreateItemsOperator(GeoCatalogPlanningOperator, GeoCatalogLongRunningOperator):
    """
    Create STAC items in a collection, in one operation, and wait until they are there.

    Only items whose id is not in the collection are sent. A retried task goes on with the operation that its earlier
    try has started; where nothing tells which one that was, it waits for those that are adding items to the collection,
    looks again, and sends what is missing. For more than a few hundred items use a bulk ingestion.

    :param collection_id: The collection; it has to exist.
    :param items: The STAC Items: a list of dicts or pystac Items, one of them, an ItemCollection, JSON text, or a path
        or URL that Airflow's object storage paths can read. Hrefs of assets have to be absolute URLs.
    :param if_item_exists: What is done with items whose id is in the collection: ``skip`` leaves those there alone,
        ``fail`` sends nothing and fails the task. What is there when a task is retried or cleared may be its own, and
        is left alone.
    :param max_failed_items: Failed items that are tolerated.
    :param preflight: Whether it looks, before items are sent, at the containers that their assets are in, as
        :class:`~airflow_provider_geocatalog.operators.preflight.GeoCatalogPreflightOperator` does: ``off``, ``warn``,
        or ``fail`` the task if there is a problem.
    :param min_lifetime: Seconds that ingestion sources have to live, for the preflight.
    :param dry_run: Send nothing that changes anything; log and return how many items would be sent.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param wait_for_completion: Whether to wait until the items are there.
    :param deferrable: Wait in the triggerer, without a worker.
    :param poll_interval: Seconds between polls; a young wait is polled faster.
    :param timeout: Seconds to wait at most; the task's ``execution_timeout`` counts as well.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether the operation is cancelled when the task is stopped by a user or times out.
    :return: ``collection_id``, ``operation_id`` and ``status`` (``None`` if nothing had to be sent), ``items``
        (``total``, ``succeeded``, ``failed``, ``pending`` of those that were sent), ``skipped`` (the number of those
        that were there), ``adopted`` and, if items failed, ``failed_items`` (up to 100 ids), as XCom. Of a dry run
        also ``dry_run`` and ``plan``.
    :raises GeoCatalogInvalidInput: The documents are not what the service takes; nothing was sent.
    :raises GeoCatalogNotFound: The collection does not exist.
    :raises GeoCatalogConflict: An item exists and ``if_item_exists`` is ``fail``; nothing was sent.
    :raises GeoCatalogOperationError: The operation did not succeed, or more items failed than are tolerated.
    :raises GeoCatalogWaitTimeout: The operation did not end in time.
    """

    template_fields: Sequence[str] = (
        "collection_id",
        "items",
        "if_item_exists",
        "preflight",
        *GeoCatalogWaitingOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"items": "json"}

    def __init__(
        self,
        *,
        collection_id: str,
        items: Sequence[dict[str, Any] | pystac.Item] | dict[str, Any] | pystac.Item | pystac.ItemCollection | str,
        if_item_exists: str = "skip",
        max_failed_items: int = 0,
        preflight: str = PreflightMode.OFF.value,
        min_lifetime: float = MIN_LIFETIME,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.preflight = preflight
        self.min_lifetime = min_lifetime
        self.collection_id = collection_id
        self.items = items
        self.if_item_exists = if_item_exists
        self.max_failed_items = whole_number(max_failed_items, "max_failed_items")

    def _extent(self, collection_id: str) -> Mapping[str, Any]:
        from airflow_provider_geocatalog.operators.asset_events import items_extent

        return items_extent(_checked_items(self.items, collection_id))

    def _execute(self, context: Context) -> dict[str, Any]:
        """Find what an earlier try has done, send what is missing, and wait."""
        from airflow_provider_geocatalog.api.flows.items import IfItemExists, active_additions
        from airflow_provider_geocatalog.operators.submissions import Submissions

        if_item_exists = choice(IfItemExists, self.if_item_exists, "if_item_exists")
        items = _checked_items(self.items, self.collection_id)
        mode = choice(PreflightMode, self.preflight, "preflight")
        submissions = Submissions(context)
        own = self._started_before(submissions) if not self._is_dry_run else None
        if own is not None:
            self.log.info("Going on with operation %s, which an earlier try has started.", own.operation_id)
            return self._follow(context, own, skipped=int(submissions.last.get("skipped", 0)), adopted=True)
        if submissions.is_repeated and not self._is_dry_run:
            # One of these may be what the earlier try has started, and had no time to record.
            self._let_end(self.hook.run(active_additions(self.collection_id, most_items=len(items))))
        missing = self._missing(items, may_exist=submissions.is_repeated or if_item_exists is IfItemExists.SKIP)
        skipped = len(items) - len(missing)
        if not missing:
            self.log.info("All %d items are in collection %r. Nothing was sent.", skipped, self.collection_id)
            return self._told(self._result(None, skipped=skipped))
        if mode is not PreflightMode.OFF:
            self._look_ahead(missing, fail=mode is PreflightMode.FAIL)
        if self._is_dry_run:
            return self._foretell(missing, skipped=skipped)
        return self._send(context, missing, skipped=skipped)

    def _look_ahead(self, items: list[dict[str, Any]], *, fail: bool) -> None:
        from airflow_provider_geocatalog.operators.preflight import look_ahead

        look_ahead(
            self,
            lambda look: look.add_items(items),
            subject=f"{len(items)} items",
            fail=fail,
            min_lifetime=self.min_lifetime,
        )

    def _foretell(self, items: list[dict[str, Any]], *, skipped: int) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.endpoints import CREATE_ITEM
        from airflow_provider_geocatalog.api.flows.ingestion import require_collection

        self.hook.run(require_collection(self.collection_id))  # which sending would find out
        self._plan_call(CREATE_ITEM, f"{len(items)} items", collection_id=self.collection_id)
        return self._told(self._result(None, skipped=skipped))

    def _started_before(self, submissions: Submissions) -> Operation | None:
        """Return the operation that an earlier try has started, if its end is, or may still be, a success."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogNotFound
        from airflow_provider_geocatalog.api.flows.waiting import get_operation
        from airflow_provider_geocatalog.api.outcomes import is_success

        if submissions.operation_id is None or not submissions.is_repeated or submissions.was_cleared:
            return None
        try:
            operation = self.hook.run(get_operation(submissions.operation_id))
        except GeoCatalogNotFound:
            return None
        if operation.status.is_canceling or operation.collection_id not in (None, self.collection_id):
            return None
        is_promising = not operation.status.is_final or is_success(operation, max_failed_items=self.max_failed_items)
        return operation if is_promising else None

    def _missing(self, items: list[dict[str, Any]], *, may_exist: bool) -> list[dict[str, Any]]:
        from airflow_provider_geocatalog.api.errors import GeoCatalogConflict
        from airflow_provider_geocatalog.api.flows.items import present_items

        present = self.hook.run(present_items(self.collection_id, [item["id"] for item in items]))
        if present and not may_exist:
            named = ", ".join(sorted(present)[:_NAMED_IN_ERROR])
            raise GeoCatalogConflict(
                f"{len(present)} of {len(items)} items are in collection {self.collection_id!r} already: {named}",
                hint="Use if_item_exists='skip' to leave them alone.",
            )
        return [item for item in items if item["id"] not in present]

    def _send(self, context: Context, items: list[dict[str, Any]], *, skipped: int) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.errors import GeoCatalogItemsFailed
        from airflow_provider_geocatalog.api.flows.items import absent_items, send_items
        from airflow_provider_geocatalog.api.models import Counts

        sent = self.hook.run(send_items(self.collection_id, items))
        if sent.started is not None and sent.started.operation is not None:
            operation = sent.started.operation
            self.log.info("Sent %d items, %d are there: operation %s.", len(items), skipped, operation.operation_id)
            return self._follow(context, operation, url=sent.started.url, skipped=skipped)
        # The answer was lost, or says that there is nothing to wait for: the catalog tells what came of it.
        ended = self._let_end(sent.perhaps)
        absent = self.hook.run(absent_items(self.collection_id, [item["id"] for item in items], expected=0))
        if len(absent) > self.max_failed_items:
            raise GeoCatalogItemsFailed(
                f"{len(absent)} of {len(items)} items that were sent are not in collection {self.collection_id!r}",
                hint=f"Absent: {', '.join(absent[:_NAMED_IN_ERROR])}. The next try sends them.",
                retryable=True,
            )
        counts = Counts(len(items), len(items) - len(absent), len(absent))
        return self._result(ended[0] if len(ended) == 1 else None, counts, skipped=skipped, failed=absent)

    def _let_end(self, operations: Iterable[Operation]) -> list[Operation]:
        """See operations end that may be this task's own, or somebody else's: none of them is cancelled."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogWaitTimeout
        from airflow_provider_geocatalog.api.flows.waiting import get_operation
        from airflow_provider_geocatalog.api.waiting import CANCELED_WITHIN, PollPolicy, Waiting

        policy = PollPolicy(self.poll_interval, min(self.min_poll_interval, self.poll_interval), self.outage_budget)
        began = time.time()
        ended = []
        for operation in operations:
            operation_id, is_canceling = operation.operation_id, operation.status.is_canceling
            self.log.info("Operation %s may be this task's own; waiting until it ends.", operation_id)
            waiting = Waiting(
                f"operation {operation_id}, which may be this task's own,",
                policy,
                started=began,
                deadline=began + (CANCELED_WITHIN if is_canceling else self._limit()),
            )
            try:
                ended.append(self.hook.wait_for(waiting, partial(get_operation, operation_id, once=True)))
            except GeoCatalogWaitTimeout:
                if not is_canceling:
                    raise
                self.log.warning("Operation %s is being cancelled and does not end; going on.", operation_id)
        return ended

    def _follow(
        self, context: Context, operation: Operation, *, url: str | None = None, skipped: int, adopted: bool = False
    ) -> dict[str, Any]:
        """Wait for this task's own operation."""
        from airflow_provider_geocatalog.operators.submissions import Submissions

        ids = {"operation_id": operation.operation_id, "operation_url": url, "skipped": skipped, "adopted": adopted}
        if not self.wait_for_completion:
            Submissions(context).remember(operation.operation_id, {**ids, "own": True})
            return self._result(operation, operation.counts, skipped=skipped, adopted=adopted)
        result: dict[str, Any] = self._wait_for(context, operation, ids)
        return result

    def _finish(self, context: Context, operation: Operation, ids: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.flows.items import IfItemExists
        from airflow_provider_geocatalog.api.models import Counts
        from airflow_provider_geocatalog.api.outcomes import require_success
        from airflow_provider_geocatalog.api.statuses import Outcome

        counts = operation.counts or Counts()
        absent = self._absent(created=counts.succeeded, skipped=int(ids.get("skipped", 0))) if counts.failed else None
        # An item fails also because somebody else has created it meanwhile, which is as good.
        are_there = (
            absent is not None
            and operation.status.outcome is not Outcome.CANCELED
            and self.if_item_exists == IfItemExists.SKIP.value
            and len(absent) <= self.max_failed_items
        )
        if not are_there:
            require_success(
                operation,
                what=f"adding items to collection {self.collection_id!r} (operation {operation.operation_id})",
                max_failed_items=self.max_failed_items,
                explained=[f"{item_id} is not in the collection" for item_id in (absent or ())[:_NAMED_IN_ERROR]],
            )
        self.log.info("Operation %s ended: %d items were created.", operation.operation_id, counts.succeeded)
        return self._result(
            operation, counts, skipped=int(ids.get("skipped", 0)), adopted=bool(ids.get("adopted")), failed=absent or ()
        )

    def _absent(self, *, created: int, skipped: int) -> list[str] | None:
        """Return the ids of items that are not in the catalog afterwards, ``None`` if it cannot be told."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
        from airflow_provider_geocatalog.api.flows.items import absent_items

        try:
            wanted = [item["id"] for item in _checked_items(self.items, self.collection_id)]
        except GeoCatalogInvalidInput as error:  # a file may be gone when a deferred task goes on
            self.log.warning("The failed items cannot be named: %s", error)
            return None
        expected = len(wanted) - skipped - created
        return self.hook.run(absent_items(self.collection_id, wanted, expected=expected))

    def _result(
        self,
        operation: Operation | None,
        counts: Counts | None = None,
        *,
        skipped: int,
        adopted: bool = False,
        failed: Sequence[str] = (),
    ) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.models import Counts

        result: dict[str, Any] = {
            "collection_id": self.collection_id,
            "operation_id": operation.operation_id if operation else None,
            "status": operation.status.word if operation else None,
            "items": (counts or Counts()).to_json(),
            "skipped": skipped,
            "adopted": adopted,
        }
        if failed:
            result["failed_items"] = list(failed[:_NAMED_IN_RESULT])
        return result
