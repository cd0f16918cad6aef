"""Create, update and delete collections."""

from __future__ import annotations

import time
from abc import abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow_provider_geocatalog.operators.base import (
    GeoCatalogLongRunningOperator,
    GeoCatalogOperator,
    GeoCatalogPlanningOperator,
    GeoCatalogWaitingOperator,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pystac
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.api.flows.collections import CollectionChange, IdTaken, IfExists
    from airflow_provider_geocatalog.api.models import Operation

__all__ = [
    "GeoCatalogCreateCollectionOperator",
    "GeoCatalogDeleteCollectionOperator",
    "GeoCatalogUpdateCollectionOperator",
]

_ALL = "all"
_FIRES_LATE = 300.0  # seconds for a trigger that waits until a moment to fire after it


def _load_collection(value: Any) -> dict[str, Any]:
    """Return a checked STAC Collection."""
    from airflow_provider_geocatalog.api.validation import collection_problems, refuse
    from airflow_provider_geocatalog.operators.documents import load_document

    collection = load_document(value, "the collection")
    refuse("the collection cannot be sent", collection_problems(collection))
    return dict(collection)


def _id_of(collection: Any) -> str | None:
    """Return the id of a collection that is given as an object; of a path or a text nothing is known yet."""
    found = collection.get("id") if isinstance(collection, dict) else getattr(collection, "id", None)
    return found if isinstance(found, str) else None


class _CollectionOperator(GeoCatalogPlanningOperator, GeoCatalogLongRunningOperator):
    """Wait for a collection's long-running operation."""

    def _follow(self, context: Context, change: CollectionChange) -> dict[str, Any]:
        """Wait for what a change started, if it started anything."""
        from airflow_provider_geocatalog.operators.submissions import Submissions

        if not self._is_dry_run:
            self.log.info("Collection %r: %s.", change.collection_id, change.action)
        started = change.started
        if started is None or started.operation is None:
            return self._finish_at_once(change)
        operation = started.operation
        if not self.wait_for_completion:
            return {"operation": operation.to_summary(), **self._summary(change)}
        ids = {"operation_id": operation.operation_id, "operation_url": started.url}
        own = change.own or operation.operation_id == Submissions(context).operation_id
        result: dict[str, Any] = self._wait_for(context, operation, ids, own=own)
        return result

    def _finish_at_once(self, change: CollectionChange) -> dict[str, Any]:
        """Return the task's result where there is no operation to wait for."""
        return self._summary(change)

    def _summary(self, change: CollectionChange) -> dict[str, Any]:
        summary: dict[str, Any] = {"collection_id": change.collection_id, "action": change.action}
        return {**summary, "changed": list(change.changed)} if change.changed else summary


class CreatingOperator(_CollectionOperator):
    """
    Base of the operators that create a collection, or bring one in line; it waits until the id is free.

    :param if_exists: What to do if it exists already.
    """

    def __init__(self, *, if_exists: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.if_exists = if_exists

    def _extent(self, collection_id: str) -> Mapping[str, Any]:
        from airflow_provider_geocatalog.operators.asset_events import collection_extent

        return collection_extent(self.hook, collection_id)

    # --- what subclasses say ------------------------------------------------------------------------------------------

    @abstractmethod
    def _wanted(self) -> dict[str, Any]:
        """Return the checked STAC Collection."""

    def _policy(self) -> IfExists:
        """Return what to do if it exists already."""
        from airflow_provider_geocatalog.api.flows.collections import IfExists
        from airflow_provider_geocatalog.operators.choices import choice

        return choice(IfExists, self.if_exists, "if_exists")

    # --- creating -----------------------------------------------------------------------------------------------------

    def _execute(self, context: Context) -> dict[str, Any]:
        """Create the collection, or bring the existing one in line."""
        began = time.time()
        return self._told(self._create(context, began=began, deadline=began + self._limit()))

    def _create(
        self, context: Context, *, began: float, deadline: float, taken: IdTaken | None = None
    ) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.flows.collections import (
            IdTaken,
            begin_create_collection,
            try_create_collection,
        )

        arguments: dict[str, Any] = {"if_exists": self._policy(), "resumed": context["ti"].try_number > 1}
        collection = self._wanted()
        if not self.deferrable and not self._is_dry_run:
            change = self.hook.run(begin_create_collection(collection, deadline=deadline, **arguments))
            return self._follow(context, change)
        result = self._carry_out(try_create_collection(collection, taken=taken, **arguments))
        if not isinstance(result, IdTaken):
            return self._follow(context, result)
        if self._is_dry_run:
            return self._plan_creation(result.collection_id, collection)
        return self._defer_creation(result, began, deadline)

    def _plan_creation(self, collection_id: str, collection: Mapping[str, Any]) -> dict[str, Any]:
        """Plan to create a collection whose id is not free yet."""
        from airflow_provider_geocatalog.api.flows.collections import CollectionChange
        from airflow_provider_geocatalog.api.operations.collections import create_collection

        self._carry_out(create_collection(collection))
        return self._finish_at_once(CollectionChange(collection_id, "created"))

    def _defer_creation(self, taken: IdTaken, began: float, deadline: float) -> NoReturn:
        """Wait in the triggerer until the id may be free."""
        from airflow_provider_geocatalog.triggers.moments import GeoCatalogMomentTrigger

        taken.require_before(deadline)
        now = time.time()
        # A trigger that fires at once can make the scheduler fail the task, see the other triggers.
        moment = max(taken.again_at, now + self.first_delay)
        self.defer(
            trigger=GeoCatalogMomentTrigger(
                moment=moment,
                echo={
                    "collection_id": taken.collection_id,
                    "refused_at": taken.refused_at,
                    "began": began,
                    "deadline": deadline,
                },
            ),
            method_name="create_again",
            timeout=timedelta(seconds=moment - now + _FIRES_LATE),
        )

    def create_again(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """
        Try again to create the collection, after the trigger waited for its id to become free.

        :param event: What the trigger said.
        :raises GeoCatalogTaskFailed: It cannot be created.
        :raises GeoCatalogError: It was not created.
        """
        from airflow_provider_geocatalog.api.errors import GeoCatalogWaitTimeout
        from airflow_provider_geocatalog.api.flows.collections import IdTaken

        def create() -> dict[str, Any]:
            if not event or "deadline" not in event:
                raise GeoCatalogWaitTimeout("the trigger ended without saying what it waited for")
            taken = IdTaken(event["collection_id"], time.time(), event["refused_at"])
            return self._told(self._create(context, began=event["began"], deadline=event["deadline"], taken=taken))

        return self._conclude(context, create)

    def _finish(self, context: Context, operation: Operation, ids: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.flows.collections import CollectionChange, visible_collection
        from airflow_provider_geocatalog.api.outcomes import require_success

        collection_id = operation.collection_id or str(self._wanted()["id"])
        require_success(operation, what=f"creating collection {collection_id!r}")
        self.hook.run(visible_collection(collection_id))
        self.log.info("Collection %r is there.", collection_id)
        return {
            **self._finish_at_once(CollectionChange(collection_id, "created")),
            "operation": operation.to_summary(),
        }


class GeoCatalogCreateCollectionOperator(CreatingOperator):
    """
    Create a STAC collection and wait until it is there.

    A second run with the same document writes nothing. The id of a collection that was deleted less than 45 seconds
    ago is still taken in the service, and that of one that is being deleted; the task waits until it is free.

    :param collection: The STAC Collection: a dict, a pystac object, JSON text, or a path or URL that Airflow's object
        storage paths can read. It must not have ``assets``, which the service manages.
    :param if_exists: ``fail``, ``skip`` (leave the existing one alone) or ``update`` (bring its metadata in line).
    :param dry_run: Send nothing that changes anything; log and return what would be written.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param wait_for_completion: Whether to wait until the collection is there.
    :param deferrable: Wait in the triggerer, without a worker; also for the id to become free.
    :param poll_interval: Seconds between polls.
    :param timeout: Seconds to wait at most, for the id and again for the creation.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether the creation is cancelled when the task is stopped.
    :return: ``collection_id``, ``action`` (``created``, ``updated``, ``unchanged``, ``skipped``), ``changed`` (the
        members that an update has changed) and, of a dry run, ``dry_run`` and ``plan``, as XCom.
    :raises GeoCatalogInvalidInput: The document is not what the service takes; nothing was sent.
    :raises GeoCatalogConflict: The collection exists and ``if_exists`` is ``fail``.
    :raises GeoCatalogWaitTimeout: The id did not become free in time, or the collection was not there in time.
    """

    template_fields: Sequence[str] = ("collection", "if_exists", *GeoCatalogWaitingOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {"collection": "json"}

    def __init__(
        self, *, collection: dict[str, Any] | pystac.Collection | str, if_exists: str = "fail", **kwargs: Any
    ) -> None:
        super().__init__(if_exists=if_exists, **kwargs)
        self.collection = collection

    @property
    def _collection(self) -> str | None:
        return _id_of(self.collection)

    def _wanted(self) -> dict[str, Any]:
        return _load_collection(self.collection)


class GeoCatalogUpdateCollectionOperator(GeoCatalogPlanningOperator):
    """
    Replace a collection's metadata, keeping the assets that the service manages; writes nothing if nothing differs.

    :param collection: The STAC Collection, as for :class:`GeoCatalogCreateCollectionOperator`.
    :param dry_run: Send nothing that changes anything; log and return what would be written.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: ``collection_id``, ``action`` (``updated`` or ``unchanged``), ``changed`` (the members that differed) and,
        of a dry run, ``dry_run`` and ``plan``, as XCom.
    :raises GeoCatalogInvalidInput: The document is not what the service takes; nothing was sent.
    :raises GeoCatalogNotFound: There is no such collection.
    """

    template_fields: Sequence[str] = ("collection", *GeoCatalogOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {"collection": "json"}

    def __init__(self, *, collection: dict[str, Any] | pystac.Collection | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection = collection

    @property
    def _collection(self) -> str | None:
        return _id_of(self.collection)

    def _extent(self, collection_id: str) -> Mapping[str, Any]:
        from airflow_provider_geocatalog.operators.asset_events import collection_extent

        return collection_extent(self.hook, collection_id)

    def _execute(self, context: Context) -> dict[str, Any]:
        """Replace the metadata if it differs."""
        from airflow_provider_geocatalog.api.flows.collections import replace_collection

        change = self._carry_out(replace_collection(_load_collection(self.collection)))
        changed = list(change.changed)
        told = f" ({', '.join(changed)})" if changed else ""
        self.log.info("Collection %r: %s%s.", change.collection_id, change.action, told)
        return self._told({"collection_id": change.collection_id, "action": change.action, "changed": changed})


class GeoCatalogDeleteCollectionOperator(_CollectionOperator):
    """
    Delete a collection with all its items and assets, and wait until it is gone.

    An empty collection is deleted without further ado. One that holds items needs a word for them: ``confirm_items``.

    :param collection_id: The collection.
    :param confirm_items: How many items may be deleted with the collection: a number, or ``all``. A collection with
        more of them is not deleted, and the task fails with their number.
    :param if_missing: ``skip`` or ``fail``.
    :param dry_run: Send nothing that changes anything; log and return what would be deleted.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param wait_for_completion: Whether to wait until the collection is gone.
    :param deferrable: Wait in the triggerer, without a worker.
    :param poll_interval: Seconds between polls.
    :param timeout: Seconds to wait at most.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether the deletion is cancelled when the task is stopped.
    :return: ``collection_id``, ``action`` (``deleted`` or ``absent``) and, of a dry run, ``dry_run`` and ``plan``, as
        XCom.
    :raises GeoCatalogConflict: It holds more items than were confirmed; nothing was deleted.
    :raises GeoCatalogNotFound: There is no such collection and ``if_missing`` is ``fail``.
    """

    template_fields: Sequence[str] = (
        "collection_id",
        "confirm_items",
        "if_missing",
        *GeoCatalogWaitingOperator.template_fields,
    )

    def __init__(
        self, *, collection_id: str, confirm_items: int | str = 0, if_missing: str = "skip", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.collection_id = collection_id
        self.confirm_items = confirm_items
        self.if_missing = if_missing

    def _execute(self, context: Context) -> dict[str, Any]:
        """Delete the collection."""
        from airflow_provider_geocatalog.api.flows.collections import (
            CollectionChange,
            begin_delete_collection,
            find_collection,
        )
        from airflow_provider_geocatalog.api.operations.collections import get_collection
        from airflow_provider_geocatalog.api.validation import collection_id_problems, refuse
        from airflow_provider_geocatalog.operators.choices import IfMissing, choice

        if_missing = choice(IfMissing, self.if_missing, "if_missing")
        most_items, problems = _confirmed(self.confirm_items)
        problems += collection_id_problems(self.collection_id)
        refuse("the collection cannot be deleted", problems)
        missing_ok = if_missing is IfMissing.SKIP
        if self._is_dry_run:
            # The service does not say that there is nothing to delete if it is not asked to delete it.
            read = find_collection if missing_ok else get_collection
            if self.hook.run(read(self.collection_id)) is None:
                return self._told(self._summary(CollectionChange(self.collection_id, "absent")))
        deletion = begin_delete_collection(self.collection_id, missing_ok=missing_ok, most_items=most_items)
        return self._told(self._follow(context, self._carry_out(deletion)))

    def _finish_at_once(self, change: CollectionChange) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.flows.collections import wait_until_gone

        if change.action == "deleted" and self.wait_for_completion and not self._is_dry_run:
            self.hook.run(wait_until_gone(change.collection_id))
        return self._summary(change)

    def _finish(self, context: Context, operation: Operation, ids: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.flows.collections import CollectionChange
        from airflow_provider_geocatalog.api.outcomes import require_success

        require_success(operation, what=f"deleting collection {self.collection_id!r}")
        result = self._finish_at_once(CollectionChange(self.collection_id, "deleted"))
        self.log.info("Collection %r is gone.", self.collection_id)
        return {**result, "operation": operation.to_summary()}


def _confirmed(value: Any) -> tuple[int | None, list[str]]:
    """Return how many items may be deleted, ``None`` for all of them, and what is wrong with the argument."""
    if value == _ALL:
        return None, []
    if isinstance(value, str) and value.strip().isdecimal():  # as templates render numbers
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value, []
    return 0, [f"confirm_items is {value!r}; expected a number of items, or {_ALL!r}"]
