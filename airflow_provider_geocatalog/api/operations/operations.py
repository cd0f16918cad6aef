"""Long-running operations of the service: read, list, cancel (geocatalog-api 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import DEFAULT_RETRIES, Retries, call, pages, query_of
from airflow_provider_geocatalog.api.models import Operation
from airflow_provider_geocatalog.api.operations import operation
from airflow_provider_geocatalog.api.operations.arguments import count, text

if TYPE_CHECKING:
    from airflow_provider_geocatalog.api.http import Flow, Pages

__all__ = ["cancel_all_operations", "cancel_operation", "get_operation", "get_operation_logs", "list_operations"]


@operation(endpoints.LIST_OPERATIONS)
def list_operations(
    *, collection_id: str | None = None, status: str | None = None, top: int | None = None, skip: int | None = None
) -> Pages[Operation]:
    """
    List operations, newest first.

    :param collection_id: Only those of this collection.
    :param status: Only those with this status word, e.g. ``Running``.
    :param top: Entries on a page.
    :param skip: Entries to leave out at the start.
    :return: Operations, page by page.
    """
    query = query_of(
        {
            "$top": count(top, "top"),
            "$skip": count(skip, "skip"),
            "collectionId": text(collection_id, "collection_id"),
            "status": text(status, "status"),
        }
    )
    return pages(endpoints.LIST_OPERATIONS, Operation.from_json, query=query)


@operation(endpoints.GET_OPERATION)
def get_operation(operation_id: str, *, retries: Retries = DEFAULT_RETRIES) -> Flow[Operation]:
    """
    Read an operation. The answer is successful also where the operation has failed: look at its status.

    :param operation_id: GUID of the operation, or of a run.
    :param retries: How long to repeat a failed call.
    :raises GeoCatalogNotFound: There is none with this id.
    """
    names = {"operation_id": operation_id}
    return (yield from call(endpoints.GET_OPERATION, names, retries=retries, read=Operation.from_json))


@operation(endpoints.CANCEL_OPERATION)
def cancel_operation(operation_id: str) -> Flow[None]:
    """
    Ask the service to cancel one operation or run; that takes effect seconds later. What is ingested stays.

    :param operation_id: GUID of the operation, or of a run.
    :raises GeoCatalogBadRequest: It has ended already.
    """
    yield from call(endpoints.CANCEL_OPERATION, {"operation_id": operation_id})


@operation(endpoints.CANCEL_ALL_OPERATIONS)
def cancel_all_operations() -> Flow[None]:
    """
    Ask the service to cancel every operation of the whole GeoCatalog, whoever started it.

    Never use it on a GeoCatalog that others use; no operator of this package does.
    """
    yield from call(endpoints.CANCEL_ALL_OPERATIONS)


@operation(endpoints.GET_OPERATION_LOGS)
def get_operation_logs(collection_id: str, operation_id: str) -> Flow[Any]:
    """
    Read the log of an operation; 2024-01-31-preview only.

    :param collection_id: The collection.
    :param operation_id: GUID of the operation.
    :return: The answer's JSON, whose form is not documented.
    """
    names = {"collection_id": collection_id, "operation_id": operation_id}
    return (yield from call(endpoints.GET_OPERATION_LOGS, names))
