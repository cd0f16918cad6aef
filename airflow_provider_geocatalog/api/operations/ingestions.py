"""Ingestion definitions and their runs (geocatalog-api 5.3, 5.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import DEFAULT_RETRIES, Retries, Started, call, pages, query_of, start
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.http import Request
from airflow_provider_geocatalog.api.models import Ingestion, Run
from airflow_provider_geocatalog.api.operations import operation
from airflow_provider_geocatalog.api.operations.arguments import count, document, require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_geocatalog.api.http import Flow, Pages

__all__ = [
    "create_ingestion",
    "create_run",
    "delete_ingestion",
    "get_ingestion",
    "get_run",
    "list_ingestions",
    "list_runs",
    "update_ingestion",
]

#: Where each import type reads from.
URL_MEMBERS = {"StaticCatalog": "sourceCatalogUrl", "StacGeoparquet": "stacGeoparquetUrl"}


@operation(endpoints.LIST_INGESTIONS)
def list_ingestions(collection_id: str, *, top: int | None = None, skip: int | None = None) -> Pages[Ingestion]:
    """
    List the ingestion definitions of a collection, oldest first.

    :param collection_id: The collection.
    :param top: Entries on a page.
    :param skip: Entries to leave out at the start.
    :return: Definitions, page by page.
    """
    query = query_of({"$top": count(top, "top"), "$skip": count(skip, "skip")})
    return pages(endpoints.LIST_INGESTIONS, Ingestion.from_json, {"collection_id": collection_id}, query=query)


@operation(endpoints.CREATE_INGESTION)
def create_ingestion(collection_id: str, ingestion: Mapping[str, Any]) -> Flow[Ingestion]:
    """
    Define an ingestion; nothing is read before a run is started. Each call creates another definition.

    :param collection_id: The collection to ingest into.
    :param ingestion: ``importType`` with ``sourceCatalogUrl`` (``StaticCatalog``) or ``stacGeoparquetUrl``
        (``StacGeoparquet``, from 2026-04-15); optional ``displayName``, ``skipExistingItems``, ``keepOriginalAssets``.
    :raises GeoCatalogInvalidInput: The api-version does not have the import type, or its URL is missing.
    """
    body = document(ingestion, "an ingestion", "importType")
    member = URL_MEMBERS.get(str(body["importType"]))
    if member is None:
        known = " or ".join(URL_MEMBERS)
        raise GeoCatalogInvalidInput(f"an ingestion has the importType {known}, not {body['importType']!r}")
    require(body, f"a {body['importType']} ingestion", member)
    return (
        yield from call(
            endpoints.CREATE_INGESTION, {"collection_id": collection_id}, body=body, read=Ingestion.from_json
        )
    )


@operation(endpoints.GET_INGESTION)
def get_ingestion(collection_id: str, ingestion_id: str) -> Flow[Ingestion]:
    """
    Read an ingestion definition.

    :param collection_id: The collection.
    :param ingestion_id: GUID of the definition.
    :raises GeoCatalogNotFound: There is none with this id.
    """
    names = {"collection_id": collection_id, "ingestion_id": ingestion_id}
    return (yield from call(endpoints.GET_INGESTION, names, read=Ingestion.from_json))


@operation(endpoints.UPDATE_INGESTION)
def update_ingestion(collection_id: str, ingestion_id: str, changes: Mapping[str, Any]) -> Flow[Ingestion]:
    """
    Change members of an ingestion definition; runs that exist keep what they were started with.

    :param collection_id: The collection.
    :param ingestion_id: GUID of the definition.
    :param changes: A JSON merge patch: the members to change, ``None`` to remove one.
    :return: The definition as it is then.
    :raises GeoCatalogNotFound: There is none with this id.
    """
    names = {"collection_id": collection_id, "ingestion_id": ingestion_id}
    body = document(changes, "a change of an ingestion")
    return (yield from call(endpoints.UPDATE_INGESTION, names, body=body, read=Ingestion.from_json))


@operation(endpoints.DELETE_INGESTION)
def delete_ingestion(collection_id: str, ingestion_id: str) -> Flow[Started]:
    """
    Delete an ingestion definition with all its runs; no run may be queued or running.

    :param collection_id: The collection.
    :param ingestion_id: GUID of the definition.
    :return: The operation to wait for.
    :raises GeoCatalogConflict: A run is active.
    """
    names = {"collection_id": collection_id, "ingestion_id": ingestion_id}
    gone = Request(endpoints.GET_INGESTION, names)
    return (yield from start(endpoints.DELETE_INGESTION, names, resource=gone, removes=True))


@operation(endpoints.LIST_RUNS)
def list_runs(collection_id: str, ingestion_id: str, *, top: int | None = None, skip: int | None = None) -> Pages[Run]:
    """
    List the runs of an ingestion definition, in no particular order.

    :param collection_id: The collection.
    :param ingestion_id: GUID of the definition.
    :param top: Entries on a page.
    :param skip: Entries to leave out at the start.
    :return: Runs, page by page.
    """
    query = query_of({"$top": count(top, "top"), "$skip": count(skip, "skip")})
    names = {"collection_id": collection_id, "ingestion_id": ingestion_id}
    return pages(endpoints.LIST_RUNS, Run.from_json, names, query=query)


@operation(endpoints.CREATE_RUN)
def create_run(collection_id: str, ingestion_id: str) -> Flow[Run]:
    """
    Start a run of an ingestion definition. Each call starts another; it is repeated only where none can have started.

    :param collection_id: The collection.
    :param ingestion_id: GUID of the definition.
    :return: The run, whose id is that of its operation.
    """
    names = {"collection_id": collection_id, "ingestion_id": ingestion_id}
    return (yield from call(endpoints.CREATE_RUN, names, read=Run.from_json))


@operation(endpoints.GET_RUN)
def get_run(collection_id: str, ingestion_id: str, run_id: str, *, retries: Retries = DEFAULT_RETRIES) -> Flow[Run]:
    """
    Read an ingestion run: status and counts.

    :param collection_id: The collection.
    :param ingestion_id: GUID of the definition.
    :param run_id: GUID of the run.
    :param retries: How long to repeat a failed call.
    :raises GeoCatalogNotFound: There is none with this id.
    """
    names = {"collection_id": collection_id, "ingestion_id": ingestion_id, "run_id": run_id}
    return (yield from call(endpoints.GET_RUN, names, retries=retries, read=Run.from_json))
