"""Create, update and delete collections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_geocatalog.operators.base import (
    GeoCatalogLongRunningOperator,
    GeoCatalogOperator,
    GeoCatalogWaitingOperator,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pystac
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.api.flows.collections import CollectionChange
    from airflow_provider_geocatalog.api.models import Operation

__all__ = [
    "GeoCatalogCreateCollectionOperator",
    "GeoCatalogDeleteCollectionOperator",
    "GeoCatalogUpdateCollectionOperator",
]


def _load_collection(value: Any) -> dict[str, Any]:
    """Return a checked STAC Collection."""
    from airflow_provider_geocatalog.api.validation import collection_problems, refuse
    from airflow_provider_geocatalog.operators.documents import load_document

    collection = load_document(value, "the collection")
    refuse("the collection cannot be sent", collection_problems(collection))
    return dict(collection)


class _CollectionOperator(GeoCatalogLongRunningOperator):
    """Wait for a collection's long-running operation."""

    def _follow(self, context: Context, change: CollectionChange) -> dict[str, Any]:
        """Wait for what a change started, if it started anything."""
        self.log.info("Collection %r: %s.", change.collection_id, change.action)
        started = change.started
        if started is None or started.operation is None:
            return self._summary(change.collection_id, change.action)
        operation = started.operation
        if not self.wait_for_completion:
            return {"operation": operation.to_summary(), **self._summary(change.collection_id, change.action)}
        ids = {"operation_id": operation.operation_id, "operation_url": started.url}
        result: dict[str, Any] = self._wait_for(context, operation, ids)
        return result

    def _summary(self, collection_id: str, action: str) -> dict[str, Any]:
        return {"collection_id": collection_id, "action": action}


class GeoCatalogCreateCollectionOperator(_CollectionOperator):
    """
    Create a STAC collection and wait until it is there.

    A second run with the same document writes nothing. The id of a collection that was deleted less than 45 seconds
    ago is still taken in the service; the task waits until it is free.

    :param collection: The STAC Collection: a dict, a pystac object, JSON text, or a path or URL that Airflow's object
        storage paths can read. It must not have ``assets``, which the service manages.
    :param if_exists: ``fail``, ``skip`` (leave the existing one alone) or ``update`` (bring its metadata in line).
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param wait_for_completion: Whether to wait until the collection is there.
    :param deferrable: Wait in the triggerer, without a worker.
    :param poll_interval: Seconds between polls.
    :param timeout: Seconds to wait at most.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether the creation is cancelled when the task is stopped.
    :return: ``collection_id``, ``action`` (``created``, ``updated``, ``unchanged``, ``skipped``), as XCom.
    :raises GeoCatalogInvalidInput: The document is not what the service takes; nothing was sent.
    :raises GeoCatalogConflict: The collection exists and ``if_exists`` is ``fail``.
    """

    template_fields: Sequence[str] = ("collection", "if_exists", *GeoCatalogWaitingOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {"collection": "json"}

    def __init__(
        self, *, collection: dict[str, Any] | pystac.Collection | str, if_exists: str = "fail", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.collection = collection
        self.if_exists = if_exists

    def _execute(self, context: Context) -> dict[str, Any]:
        """Create the collection, or bring the existing one in line."""
        from airflow_provider_geocatalog.api.flows.collections import IfExists, begin_create_collection
        from airflow_provider_geocatalog.operators.choices import choice

        if_exists = choice(IfExists, self.if_exists, "if_exists")
        collection = _load_collection(self.collection)
        resumed = context["ti"].try_number > 1
        change = self.hook.run(begin_create_collection(collection, if_exists=if_exists, resumed=resumed))
        return self._follow(context, change)

    def _finish(self, context: Context, operation: Operation, ids: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.flows.collections import visible_collection
        from airflow_provider_geocatalog.api.outcomes import require_success

        collection_id = operation.collection_id or str(_load_collection(self.collection)["id"])
        require_success(operation, what=f"creating collection {collection_id!r}")
        self.hook.run(visible_collection(collection_id))
        self.log.info("Collection %r is there.", collection_id)
        return {**self._summary(collection_id, "created"), "operation": operation.to_summary()}


class GeoCatalogUpdateCollectionOperator(GeoCatalogOperator):
    """
    Replace a collection's metadata, keeping the assets that the service manages; writes nothing if nothing differs.

    :param collection: The STAC Collection, as for :class:`GeoCatalogCreateCollectionOperator`.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: ``collection_id`` and ``action`` (``updated`` or ``unchanged``), as XCom.
    :raises GeoCatalogInvalidInput: The document is not what the service takes; nothing was sent.
    :raises GeoCatalogNotFound: There is no such collection.
    """

    template_fields: Sequence[str] = ("collection", *GeoCatalogOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {"collection": "json"}

    def __init__(self, *, collection: dict[str, Any] | pystac.Collection | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection = collection

    def _execute(self, context: Context) -> dict[str, Any]:
        """Replace the metadata if it differs."""
        from airflow_provider_geocatalog.api.flows.collections import replace_collection

        change = self.hook.run(replace_collection(_load_collection(self.collection)))
        self.log.info("Collection %r: %s.", change.collection_id, change.action)
        return {"collection_id": change.collection_id, "action": change.action}


class GeoCatalogDeleteCollectionOperator(_CollectionOperator):
    """
    Delete a collection with all its items and assets, and wait until it is gone.

    :param collection_id: The collection.
    :param if_missing: ``skip`` or ``fail``.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param wait_for_completion: Whether to wait until the collection is gone.
    :param deferrable: Wait in the triggerer, without a worker.
    :param poll_interval: Seconds between polls.
    :param timeout: Seconds to wait at most.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether the deletion is cancelled when the task is stopped.
    :return: ``collection_id`` and ``action`` (``deleted`` or ``absent``), as XCom.
    :raises GeoCatalogNotFound: There is no such collection and ``if_missing`` is ``fail``.
    """

    template_fields: Sequence[str] = ("collection_id", "if_missing", *GeoCatalogWaitingOperator.template_fields)

    def __init__(self, *, collection_id: str, if_missing: str = "skip", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection_id = collection_id
        self.if_missing = if_missing

    def _execute(self, context: Context) -> dict[str, Any]:
        """Delete the collection."""
        from airflow_provider_geocatalog.api.flows.collections import begin_delete_collection
        from airflow_provider_geocatalog.api.validation import collection_id_problems, refuse
        from airflow_provider_geocatalog.operators.choices import IfMissing, choice

        if_missing = choice(IfMissing, self.if_missing, "if_missing")
        refuse("the collection cannot be deleted", collection_id_problems(self.collection_id))
        missing_ok = if_missing is IfMissing.SKIP
        change = self.hook.run(begin_delete_collection(self.collection_id, missing_ok=missing_ok))
        return self._follow(context, change)

    def _finish(self, context: Context, operation: Operation, ids: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.outcomes import require_success

        require_success(operation, what=f"deleting collection {self.collection_id!r}")
        self.log.info("Collection %r is gone.", self.collection_id)
        return {**self._summary(self.collection_id, "deleted"), "operation": operation.to_summary()}
