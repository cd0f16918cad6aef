"""Ingestion sources: the stored credentials for blob containers (geocatalog-api 5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import call, pages, query_of
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.models import IngestionSource, ManagedIdentity
from airflow_provider_geocatalog.api.operations import operation
from airflow_provider_geocatalog.api.operations.arguments import count, document, require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_geocatalog.api.http import Flow, Pages

__all__ = [
    "create_source",
    "delete_source",
    "get_source",
    "list_managed_identities",
    "list_sources",
    "replace_source",
]

#: What a source of each kind has to bring along.
_CREDENTIALS = {"SasToken": "sasToken", "BlobManagedIdentity": "objectId"}


@operation(endpoints.LIST_SOURCES)
def list_sources(*, top: int | None = None, skip: int | None = None) -> Pages[IngestionSource]:
    """
    List the ingestion sources; entries tell id, kind and creation only, not the container.

    :param top: Entries on a page.
    :param skip: Entries to leave out at the start.
    :return: Sources, page by page.
    """
    query = query_of({"$top": count(top, "top"), "$skip": count(skip, "skip")})
    return pages(endpoints.LIST_SOURCES, IngestionSource.from_json, query=query)


def _checked(source: Mapping[str, Any]) -> dict[str, Any]:
    body = document(source, "an ingestion source", "kind", "connectionInfo")
    credential = _CREDENTIALS.get(str(body["kind"]))
    if credential is None:
        raise GeoCatalogInvalidInput(
            f"an ingestion source is of kind {' or '.join(_CREDENTIALS)}, not {body['kind']!r}"
        )
    info = document(body["connectionInfo"], "the 'connectionInfo' of an ingestion source")
    require(info, f"the 'connectionInfo' of a {body['kind']} source", "containerUrl", credential)
    return body


@operation(endpoints.CREATE_SOURCE)
def create_source(source: Mapping[str, Any]) -> Flow[IngestionSource]:
    """
    Register a credential for a container; the service chooses the id, whatever ``id`` the body has.

    :param source: ``kind`` (``SasToken`` or ``BlobManagedIdentity``) and ``connectionInfo`` with ``containerUrl`` and
        ``sasToken`` or ``objectId``.
    :return: The source, without its secret.
    :raises GeoCatalogConflict: The container has a source already.
    """
    return (yield from call(endpoints.CREATE_SOURCE, body=_checked(source), read=IngestionSource.from_json))


@operation(endpoints.GET_SOURCE)
def get_source(source_id: str) -> Flow[IngestionSource]:
    """
    Read an ingestion source: container and expiry, never the secret.

    :param source_id: GUID of the source.
    :raises GeoCatalogNotFound: There is none with this id.
    """
    return (yield from call(endpoints.GET_SOURCE, {"source_id": source_id}, read=IngestionSource.from_json))


@operation(endpoints.REPLACE_SOURCE)
def replace_source(source_id: str, source: Mapping[str, Any]) -> Flow[IngestionSource]:
    """
    Replace an ingestion source in place, for example with a fresh SAS token; its id stays.

    :param source_id: GUID of the source.
    :param source: As for :func:`create_source`.
    :return: The source; the service leaves ``created`` out of this answer.
    :raises GeoCatalogNotFound: There is none with this id (2025-04-30-preview creates it).
    """
    return (
        yield from call(
            endpoints.REPLACE_SOURCE, {"source_id": source_id}, body=_checked(source), read=IngestionSource.from_json
        )
    )


@operation(endpoints.DELETE_SOURCE)
def delete_source(source_id: str) -> Flow[None]:
    """
    Delete an ingestion source. A running ingestion that uses it can break.

    :param source_id: GUID of the source.
    :raises GeoCatalogNotFound: There is none with this id.
    """
    yield from call(endpoints.DELETE_SOURCE, {"source_id": source_id})


@operation(endpoints.LIST_MANAGED_IDENTITIES)
def list_managed_identities() -> Pages[ManagedIdentity]:
    """
    List the managed identities that are attached to the GeoCatalog.

    :return: Identities, page by page.
    """
    return pages(endpoints.LIST_MANAGED_IDENTITIES, ManagedIdentity.from_json)
