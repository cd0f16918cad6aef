"""Replace and delete STAC items, by one operation each."""

from __future__ import annotations

import asyncio
import enum
import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_geocatalog.api.fault_codes import NOT_THERE, TAKEN
from airflow_provider_geocatalog.api.numbers import seconds, whole_number
from airflow_provider_geocatalog.operators.base import GeoCatalogPlanningOperator, is_still_running
from airflow_provider_geocatalog.operators.choices import IfMissing, choice
from airflow_provider_geocatalog.operators.items import load_items

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import pystac
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.client import GeoCatalogClient
    from airflow_provider_geocatalog.item_writes import ItemOutcome, ItemWrite
    from airflow_provider_geocatalog.loops import LoopRun

__all__ = ["GeoCatalogDeleteItemsOperator", "GeoCatalogReplaceItemsOperator"]

_NAMED_IN_ERROR = 20
_NAMED_IN_RESULT = 100
_PLANNED = 100  # writes of a dry run that are listed one by one
_LOGGED = 100  # failures that are logged one by one
_TOLD_EVERY = 30.0  # seconds between lines about the progress


class IfItemMissing(enum.Enum):
    """What replacing items does with those that are not there."""

    FAIL = "fail"
    SKIP = "skip"
    CREATE = "create"


class _Progress:
    """
    What came of writes so far.

    :param operator: Whose log tells it.
    :param what: What is done, for the log.
    """

    def __init__(self, operator: GeoCatalogPlanningOperator, what: str, total: int) -> None:
        self._operator, self._what, self._total = operator, what, total
        self._tell_at = time.monotonic() + _TOLD_EVERY
        self.done: list[str] = []
        self.failed: dict[str, ItemOutcome] = {}

    def observe(self, outcome: ItemOutcome) -> None:
        """Take note of an item."""
        if outcome.error is None:
            self.done.append(outcome.item_id)
        else:
            self.failed[outcome.item_id] = outcome
        if time.monotonic() >= self._tell_at:
            self._tell_at = time.monotonic() + _TOLD_EVERY
            self._operator.log.info("%s: %s.", self._what, self)

    def __str__(self) -> str:
        return f"{len(self.done)} of {self._total} items done, {len(self.failed)} failed"


class ItemChangesOperator(GeoCatalogPlanningOperator):
    """Base of the operators that start an operation for each of many items, and wait for all of them."""

    def __init__(
        self,
        *,
        collection_id: str,
        max_failed_items: int = 0,
        poll_interval: float = 30.0,
        min_poll_interval: float = 2.0,
        timeout: float = 24 * 3600.0,
        outage_budget: float = 3600.0,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.collection_id = collection_id
        self.max_failed_items = whole_number(max_failed_items, "max_failed_items")
        self.poll_interval = seconds(poll_interval, "poll_interval", above_zero=True)
        self.min_poll_interval = seconds(min_poll_interval, "min_poll_interval", above_zero=True)
        self.timeout = seconds(timeout, "timeout")
        self.outage_budget = seconds(outage_budget, "outage_budget")
        self.cancel_on_kill = cancel_on_kill
        self._writing: LoopRun[None] | None = None
        self._is_shut_down = False
        self._task_instance: Any = None

    def _write(self, context: Context, what: str, writes: Sequence[ItemWrite], *, deadline: float) -> _Progress:
        """Carry writes out and wait for all of them."""
        from airflow_provider_geocatalog.loops import LoopRun

        progress = _Progress(self, what, len(writes))
        if not writes:
            return progress
        self._task_instance = context["ti"]
        self._writing = LoopRun(partial(self._write_all, writes, progress, deadline))
        try:
            self._writing.wait()
        finally:
            self._writing = None
        self.log.info("%s: %s.", what, progress)
        return progress

    async def _write_all(self, writes: Sequence[ItemWrite], progress: _Progress, deadline: float) -> None:
        from airflow_provider_geocatalog.api.errors import GeoCatalogWaitTimeout
        from airflow_provider_geocatalog.api.waiting import PollPolicy
        from airflow_provider_geocatalog.item_writes import operation_waiter, write_items

        policy = PollPolicy(self.poll_interval, min(self.min_poll_interval, self.poll_interval), self.outage_budget)
        client = self.hook.client

        async def connect() -> GeoCatalogClient:
            return await asyncio.to_thread(self.hook.reconnect)

        try:
            async with asyncio.timeout(max(0.0, deadline - time.time())) as limit:
                await write_items(
                    client,
                    writes,
                    wait=operation_waiter(client, connect, policy),
                    observe=progress.observe,
                    cancels=lambda: self.cancel_on_kill and not self._is_shut_down,
                )
        except TimeoutError:
            if not limit.expired():
                raise
            raise GeoCatalogWaitTimeout(
                f"not all items were written in time: {progress}",
                summary={"done": len(progress.done), "failed": len(progress.failed)},
                hint="Raise the task's timeout. What was done stays; a retry goes on.",
            ) from None

    def _deadline(self) -> float:
        """Return the moment at which to give up, in epoch seconds."""
        limits = [self.timeout]
        if self.execution_timeout:
            limits.append(self.execution_timeout.total_seconds())
        return time.time() + min(limits)

    def on_kill(self) -> None:
        """
        Stop, and cancel what has not ended, when a user stops the task.

        A worker that is shut down calls this too; then the task instance is still running for Airflow, and what was
        started goes on.
        """
        if self._writing is not None:
            self._is_shut_down = is_still_running(self._task_instance)
            self._writing.stop()

    # --- results ------------------------------------------------------------------------------------------------------

    def _judged(self, result: dict[str, Any], failed: Mapping[str, ItemOutcome], *, what: str) -> dict[str, Any]:
        """
        Return the result, with the failures that are tolerated.

        :raises GeoCatalogItemsFailed: More items failed than are tolerated.
        """
        from airflow_provider_geocatalog.api.errors import GeoCatalogItemsFailed

        if not failed:
            return result
        result["failed_items"] = [outcome.to_json() for outcome in list(failed.values())[:_NAMED_IN_RESULT]]
        for outcome in list(failed.values())[:_LOGGED]:
            self.log.error("Item %s: %s", outcome.item_id, outcome.error)
        if len(failed) <= self.max_failed_items:
            return result
        errors = [outcome.error for outcome in failed.values() if outcome.error is not None]
        codes = {error.code for error in errors}
        told = "; ".join(
            f"{entry['id']}: {entry['code'] + ', ' if entry['code'] else ''}{entry['message']}"
            for entry in result["failed_items"][:_NAMED_IN_ERROR]
        )
        more = f"; and {len(failed) - _NAMED_IN_ERROR} more" if len(failed) > _NAMED_IN_ERROR else ""
        hint = f"At most {self.max_failed_items} failed items are tolerated (max_failed_items); the others are done."
        raise GeoCatalogItemsFailed(
            f"{len(failed)} items could not be {what}: {told}{more}",
            code=codes.pop() if len(codes) == 1 else None,
            hint=f"{hint} {errors[0].hint or ''}".strip(),
            retryable=any(error.retryable for error in errors),
            summary=result,
        )

    def _count(self, **counts: int) -> None:
        from airflow_provider_geocatalog.measures import ITEM_WRITES

        ITEM_WRITES.count_each(counts, {"conn_id": self.geocatalog_conn_id, "collection_id": self.collection_id})

    def _plan_items(self, endpoint: Any, item_ids: Collection[str], verb: str) -> None:
        """Note the writes of a dry run: the first ones one by one, the others by their number."""
        for item_id in list(item_ids)[:_PLANNED]:
            self._plan_call(endpoint, item_id, collection_id=self.collection_id, item_id=item_id)
        if len(item_ids) > _PLANNED:
            self.log.info("%d more items would be %s.", len(item_ids) - _PLANNED, verb)


class GeoCatalogReplaceItemsOperator(ItemChangesOperator):
    """
    Replace whole items of a collection in place, by one operation each, and wait until all have ended.

    The service takes the assets in again, so their hrefs have to be the original ones and not those that it gives,
    which lead into its own storage. An item that fails is told by its id with the reason; the others are replaced.
    Replacing an item twice comes to the same, so a retried task repeats it.

    :param collection_id: The collection; it has to exist.
    :param items: The STAC Items: a list of dicts or pystac Items, one of them, an ItemCollection, JSON text, or a path
        or URL that Airflow's object storage paths can read.
    :param if_missing: What is done with items that are not in the collection: ``fail`` sends nothing and fails the
        task, ``skip`` leaves them out, ``create`` creates them.
    :param max_failed_items: Failed items that are tolerated.
    :param dry_run: Send nothing that changes anything; log and return what would be written.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param poll_interval: Seconds between polls; a young wait is polled faster.
    :param min_poll_interval: Seconds between polls of a young wait.
    :param timeout: Seconds to wait at most; the task's ``execution_timeout`` counts as well.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether operations are cancelled when the task is stopped by a user or times out.
    :return: ``collection_id``, ``items`` (``total``, ``succeeded``, ``failed``, ``pending`` of those to write),
        ``replaced``, ``created``, ``skipped`` and, if items failed, ``failed_items`` (up to 100, each with ``id``,
        ``code``, ``message`` and ``hint``), as XCom. Of a dry run also ``dry_run`` and ``plan`` (up to 100 writes of a
        kind).
    :raises GeoCatalogInvalidInput: The documents are not what the service takes; nothing was sent.
    :raises GeoCatalogNotFound: The collection does not exist; or an item does not and ``if_missing`` is ``fail``.
    :raises GeoCatalogItemsFailed: More items failed than are tolerated.
    :raises GeoCatalogWaitTimeout: Not all operations ended in time.
    """

    template_fields: Sequence[str] = (
        "collection_id",
        "items",
        "if_missing",
        *GeoCatalogPlanningOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"items": "json"}

    def __init__(
        self,
        *,
        items: Sequence[dict[str, Any] | pystac.Item] | dict[str, Any] | pystac.Item | pystac.ItemCollection | str,
        if_missing: str = IfItemMissing.FAIL.value,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.if_missing = if_missing

    def _extent(self, collection_id: str) -> Mapping[str, Any]:
        from airflow_provider_geocatalog.operators.asset_events import items_extent

        return items_extent(load_items(self.items))

    def _execute(self, context: Context) -> dict[str, Any]:
        """Find out which items are there, replace those, and wait."""
        from airflow_provider_geocatalog.api.endpoints import CREATE_ITEM, REPLACE_ITEM
        from airflow_provider_geocatalog.api.flows.ingestion import require_collection
        from airflow_provider_geocatalog.api.flows.items import present_items

        deadline = self._deadline()
        if_missing = choice(IfItemMissing, self.if_missing, "if_missing")
        items = self._checked_items()
        self.hook.run(require_collection(self.collection_id))
        present = self.hook.run(present_items(self.collection_id, list(items)))
        missing = [item_id for item_id in items if item_id not in present]
        if missing and if_missing is IfItemMissing.FAIL:
            self._refuse_missing(missing, len(items))
        replaced = [item_id for item_id in items if item_id in present]
        created = missing if if_missing is IfItemMissing.CREATE else []
        if self._is_dry_run:
            self._plan_items(REPLACE_ITEM, replaced, "replaced")
            for item_id in created[:_PLANNED]:
                self._plan_call(CREATE_ITEM, item_id, collection_id=self.collection_id)
            return self._told(self._result(len(replaced) + len(created), skipped=len(missing) - len(created)))
        return self._send(context, items, replaced, created, if_missing, deadline=deadline)

    def _checked_items(self) -> dict[str, dict[str, Any]]:
        """Return checked STAC Items by id."""
        from airflow_provider_geocatalog.api.managed_storage import managed_container_url
        from airflow_provider_geocatalog.api.validation import collection_id_problems, items_problems, refuse

        loaded = load_items(self.items)
        subject = "the items cannot be sent"
        refuse(subject, collection_id_problems(self.collection_id) + items_problems(loaded, self.collection_id))
        refuse(
            subject,
            [
                f"item {item['id']!r}, asset {key!r}: its href leads into the GeoCatalog's own storage, from which it "
                "cannot be taken in again; give the original href"
                for item in loaded
                for key, asset in item["assets"].items()
                if managed_container_url(asset["href"], self.collection_id) is not None
            ][:_NAMED_IN_ERROR],
        )
        return {item["id"]: {"links": [], **item, "collection": self.collection_id} for item in loaded}

    def _refuse_missing(self, missing: Sequence[str], total: int) -> None:
        from airflow_provider_geocatalog.api.errors import GeoCatalogNotFound

        raise GeoCatalogNotFound(
            f"{len(missing)} of {total} items are not in collection {self.collection_id!r}: "
            f"{', '.join(missing[:_NAMED_IN_ERROR])}",
            hint="Nothing was sent. Use if_missing='create' to create them, or 'skip' to leave them out.",
        )

    def _send(
        self,
        context: Context,
        items: Mapping[str, dict[str, Any]],
        replaced: Iterable[str],
        created: Iterable[str],
        if_missing: IfItemMissing,
        *,
        deadline: float,
    ) -> dict[str, Any]:
        """Write the items; those that were there after all, or were not, are written once more, the other way."""
        from airflow_provider_geocatalog.api.flows.items import present_items

        replaces = {**dict.fromkeys(replaced, True), **dict.fromkeys(created, False)}
        skipped = len(items) - len(replaces)
        progress = self._write(context, "Replacing", self._writes(items, replaces), deadline=deadline)
        again: dict[str, bool] = {}
        # An item whose creation was not answered may be there.
        unclear = [item_id for item_id, one in progress.failed.items() if one.error is not None and one.error.ambiguous]
        again |= dict.fromkeys(self.hook.run(present_items(self.collection_id, unclear)), True)
        for item_id, outcome in list(progress.failed.items()):
            code = outcome.error.code if outcome.error is not None else None
            if code in NOT_THERE and if_missing is IfItemMissing.SKIP:
                del progress.failed[item_id]
                skipped += 1
            elif if_missing is IfItemMissing.CREATE and (code in NOT_THERE if replaces[item_id] else code == TAKEN):
                again[item_id] = not replaces[item_id]
        done, failed = progress.done, progress.failed
        if again:
            repeated = self._write(context, "Once more", self._writes(items, again), deadline=deadline)
            replaces |= again
            done += repeated.done
            failed = {name: one for name, one in failed.items() if name not in again} | repeated.failed
        result = self._result(
            len(done) + len(failed),
            replaced=sum(replaces[item_id] for item_id in done),
            created=sum(not replaces[item_id] for item_id in done),
            skipped=skipped,
            failed=len(failed),
        )
        self._count(updated=result["replaced"], created=result["created"], skipped=skipped, failed=len(failed))
        return self._judged(result, failed, what="replaced")

    def _writes(self, items: Mapping[str, dict[str, Any]], replaces: Mapping[str, bool]) -> list[ItemWrite]:
        from airflow_provider_geocatalog.api.operations.items import create_item, replace_item
        from airflow_provider_geocatalog.item_writes import ItemWrite

        return [
            ItemWrite(
                item_id,
                partial(replace_item, self.collection_id, item_id, items[item_id])
                if replace
                else partial(create_item, self.collection_id, items[item_id]),
            )
            for item_id, replace in replaces.items()
        ]

    def _result(
        self, total: int, *, replaced: int = 0, created: int = 0, skipped: int = 0, failed: int = 0
    ) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.models import Counts

        done = replaced + created
        return {
            "collection_id": self.collection_id,
            "items": Counts(total, done, failed, total - done - failed).to_json(),
            "replaced": replaced,
            "created": created,
            "skipped": skipped,
        }


class ItemDeletionsOperator(ItemChangesOperator):
    """Base of the operators that delete items."""

    def __init__(self, *, gone_within: float = 180.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gone_within = seconds(gone_within, "gone_within")

    def _delete_items(
        self, context: Context, item_ids: Sequence[str], *, deadline: float
    ) -> tuple[_Progress, list[str]]:
        """Delete items, wait, and return what came of it, and which of them were gone already."""
        from airflow_provider_geocatalog.api.operations.items import delete_item
        from airflow_provider_geocatalog.item_writes import ItemWrite

        writes = [ItemWrite(item_id, partial(delete_item, self.collection_id, item_id)) for item_id in item_ids]
        progress = self._write(context, "Deleting", writes, deadline=deadline)
        # What can be read lags behind, so an earlier try may have deleted these.
        gone = [
            item_id
            for item_id, outcome in progress.failed.items()
            if outcome.error is not None and (outcome.error.code in NOT_THERE or outcome.error.status == 404)
        ]
        for item_id in gone:
            del progress.failed[item_id]
        self._count(deleted=len(progress.done), failed=len(progress.failed))
        return progress, gone

    def _require_gone(self, deleted: Sequence[str], *, deadline: float) -> None:
        from airflow_provider_geocatalog.api.errors import GeoCatalogWaitTimeout
        from airflow_provider_geocatalog.api.flows.item_changes import remaining_items

        if not self.gone_within or not deleted:
            return
        within = max(0.0, min(self.gone_within, deadline - time.time()))
        remaining = self.hook.run(remaining_items(self.collection_id, deleted, within=within))
        if remaining:
            raise GeoCatalogWaitTimeout(
                f"{len(deleted)} items were deleted, but {within:.0f} s later {len(remaining)} of them can still be "
                f"read: {', '.join(remaining[:_NAMED_IN_ERROR])}",
                hint="The service's read side lags behind; raise gone_within, or look again later.",
            )


class GeoCatalogDeleteItemsOperator(ItemDeletionsOperator):
    """
    Delete items of a collection with their files, by ids or by a search, and wait until they are gone.

    Before anything is deleted, the items are looked up and counted: if there are more than were confirmed, nothing is
    deleted. A retried task goes on with what is still there.

    :param collection_id: The collection.
    :param ids: Ids of the items, or JSON text of a list of them. Give either these or a search.
    :param search: Conditions of the items: ``bbox``, ``intersects``, ``datetime``, ``query``, ``filter`` (CQL2, as JSON
        or text), ``filter_lang`` and ``filter_crs``, as the search of the client takes them. A condition without a
        value is refused; ``{}`` means every item of the collection.
    :param confirm_items: The most items that may be deleted. If more are found, nothing is deleted, and the task fails
        with their number.
    :param if_missing: What is done about ids that are not in the collection: ``skip`` or ``fail``, which deletes
        nothing. What is missing when a task is retried may have been deleted by itself.
    :param gone_within: Seconds for deleted items to vanish from what can be read, which lags behind; with 0 it is not
        looked.
    :param max_failed_items: Failed items that are tolerated.
    :param dry_run: Send nothing that changes anything; log and return what would be deleted.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param poll_interval: Seconds between polls; a young wait is polled faster.
    :param min_poll_interval: Seconds between polls of a young wait.
    :param timeout: Seconds to wait at most; the task's ``execution_timeout`` counts as well.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether operations are cancelled when the task is stopped by a user or times out.
    :return: ``collection_id``, ``items`` (``total``, ``succeeded``, ``failed``, ``pending``), ``deleted``, ``missing``
        (ids that were not there, or not any more) and, if items failed, ``failed_items`` (up to 100, each with ``id``,
        ``code``, ``message`` and ``hint``), as XCom. Of a dry run also ``dry_run`` and ``plan`` (up to 100 writes).
    :raises GeoCatalogInvalidInput: The arguments make no sense; nothing was sent.
    :raises GeoCatalogConflict: There are more items than were confirmed; nothing was deleted.
    :raises GeoCatalogNotFound: The collection does not exist; or an item does not and ``if_missing`` is ``fail``.
    :raises GeoCatalogItemsFailed: More items failed than are tolerated.
    :raises GeoCatalogWaitTimeout: Not all operations ended in time, or items can still be read.
    """

    template_fields: Sequence[str] = (
        "collection_id",
        "ids",
        "search",
        "confirm_items",
        "if_missing",
        *GeoCatalogPlanningOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"search": "json"}

    def __init__(
        self,
        *,
        confirm_items: int | str,
        ids: Sequence[str] | str | None = None,
        search: dict[str, Any] | None = None,
        if_missing: str = IfMissing.SKIP.value,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.confirm_items = confirm_items
        self.ids = ids
        self.search = search
        self.if_missing = if_missing

    def _execute(self, context: Context) -> dict[str, Any]:
        """Look the items up, compare their number with what was confirmed, delete them, and wait."""
        from airflow_provider_geocatalog.api.endpoints import DELETE_ITEM
        from airflow_provider_geocatalog.api.flows.ingestion import require_collection
        from airflow_provider_geocatalog.api.validation import collection_id_problems, refuse
        from airflow_provider_geocatalog.operators.submissions import Submissions

        deadline = self._deadline()
        if_missing = choice(IfMissing, self.if_missing, "if_missing")
        most = _bound(self.confirm_items)
        refuse("items cannot be deleted", collection_id_problems(self.collection_id))
        ids, conditions = self._chosen()
        self.hook.run(require_collection(self.collection_id))
        found = self._found(ids, conditions, most)
        present = set(found)
        missing = [item_id for item_id in ids or () if item_id not in present]
        if missing and if_missing is IfMissing.FAIL and not Submissions(context).is_repeated:
            self._refuse_missing(missing)
        if self._is_dry_run:
            self._plan_items(DELETE_ITEM, found, "deleted")
            return self._told(self._result(found, missing=len(missing)))
        return self._delete(context, found, missing=len(missing), deadline=deadline)

    def _chosen(self) -> tuple[list[str] | None, dict[str, Any]]:
        """Return the ids, or ``None`` and the conditions of the search."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
        from airflow_provider_geocatalog.api.flows.item_changes import checked_conditions

        if (self.ids is None) == (self.search is None):
            raise GeoCatalogInvalidInput("give either ids or search; search={} means every item of the collection")
        if self.ids is None:
            return None, checked_conditions(self.search)
        return item_ids(self.ids), {}

    def _found(self, ids: Sequence[str] | None, conditions: Mapping[str, Any], most: int) -> list[str]:
        from airflow_provider_geocatalog.api.errors import GeoCatalogConflict
        from airflow_provider_geocatalog.api.flows.item_changes import count_text, matching_item_ids
        from airflow_provider_geocatalog.api.flows.items import present_items

        if ids is None:
            found, count = self.hook.run(matching_item_ids(self.collection_id, conditions, most=most))
        else:
            present = self.hook.run(present_items(self.collection_id, ids))
            found = [item_id for item_id in ids if item_id in present]
            count = len(found)
        if count > most:
            raise GeoCatalogConflict(
                f"{count_text(count, most)} items of collection {self.collection_id!r} would be deleted, but at most "
                f"{most} were confirmed",
                hint="Nothing was deleted. If that is what you want, raise confirm_items.",
            )
        return found

    def _refuse_missing(self, missing: Sequence[str]) -> None:
        from airflow_provider_geocatalog.api.errors import GeoCatalogNotFound

        raise GeoCatalogNotFound(
            f"{len(missing)} items are not in collection {self.collection_id!r}: "
            f"{', '.join(missing[:_NAMED_IN_ERROR])}",
            hint="Nothing was deleted. Use if_missing='skip' to delete the others.",
        )

    def _delete(self, context: Context, found: Sequence[str], *, missing: int, deadline: float) -> dict[str, Any]:
        progress, gone = self._delete_items(context, found, deadline=deadline)
        result = self._result(
            found, deleted=len(progress.done), failed=len(progress.failed), missing=missing, gone=len(gone)
        )
        result = self._judged(result, progress.failed, what="deleted")
        over = {*progress.done, *gone}
        self._require_gone([item_id for item_id in found if item_id in over], deadline=deadline)
        return result

    def _result(
        self, found: Sequence[str], *, deleted: int = 0, failed: int = 0, missing: int = 0, gone: int = 0
    ) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.models import Counts

        total = len(found)
        return {
            "collection_id": self.collection_id,
            "items": Counts(total, deleted + gone, failed, total - deleted - gone - failed).to_json(),
            "deleted": deleted,
            "missing": missing + gone,
        }


def item_ids(value: Any) -> list[str]:
    """
    Return a list of item ids, each once.

    :param value: A list, or JSON text of one as templates render it.
    :raises GeoCatalogInvalidInput: It is none.
    """
    from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput

    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
        raise GeoCatalogInvalidInput("ids has to be a list of item ids, or JSON text of one")
    return list(dict.fromkeys(value))


def _bound(value: Any) -> int:
    if isinstance(value, str) and value.strip().isdecimal():  # as templates render numbers
        value = int(value)
    return whole_number(value, "confirm_items")
