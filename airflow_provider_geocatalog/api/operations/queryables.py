"""Queryables: the properties that items can be filtered by (geocatalog-api 7.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import call
from airflow_provider_geocatalog.api.configuration_models import Queryable
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput, GeoCatalogProtocolError
from airflow_provider_geocatalog.api.operations import operation
from airflow_provider_geocatalog.api.operations.arguments import document, objects, require, same_id
from airflow_provider_geocatalog.api.operations.documents import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_geocatalog.api.http import Flow

__all__ = [
    "create_queryables",
    "delete_queryable",
    "get_collection_queryables",
    "get_queryables",
    "replace_queryable",
]


@operation(endpoints.GET_QUERYABLES)
def get_queryables() -> Flow[dict[str, Any]]:
    """
    Read the queryables of the whole catalog.

    :return: A JSON schema.
    """
    return (yield from read_object(endpoints.GET_QUERYABLES, "a JSON schema"))


@operation(endpoints.GET_COLLECTION_QUERYABLES)
def get_collection_queryables(collection_id: str) -> Flow[dict[str, Any]]:
    """
    Read the queryables of a collection.

    :param collection_id: The collection.
    :return: A JSON schema.
    """
    return (
        yield from read_object(endpoints.GET_COLLECTION_QUERYABLES, "a JSON schema", {"collection_id": collection_id})
    )


@operation(endpoints.CREATE_QUERYABLES)
def create_queryables(collection_id: str, queryables: Sequence[Mapping[str, Any]]) -> Flow[list[Queryable]]:
    """
    Add queryables to a collection.

    :param collection_id: The collection.
    :param queryables: Objects with ``name``, ``definition`` (a JSON schema), ``data_type``, ``create_index``.
    :return: The queryables.
    """
    body = objects(queryables, "queryables")
    if not body:
        raise GeoCatalogInvalidInput("queryables are a list of at least one object")
    for entry in body:
        require(entry, "a queryable", "name")
    names = {"collection_id": collection_id}
    return (yield from call(endpoints.CREATE_QUERYABLES, names, body=body, read=_read_list))


def _read_list(answer: Any) -> list[Queryable]:
    if not isinstance(answer, list):
        raise GeoCatalogProtocolError("a list of queryables was expected")
    return [Queryable.from_json(entry) for entry in answer]


@operation(endpoints.REPLACE_QUERYABLE)
def replace_queryable(collection_id: str, queryable_name: str, queryable: Mapping[str, Any]) -> Flow[Queryable]:
    """
    Replace a queryable of a collection.

    :param collection_id: The collection.
    :param queryable_name: Name of the property.
    :param queryable: As for :func:`create_queryables`.
    :return: The queryable; the service answers it without its ``data_type``.
    :raises GeoCatalogNotFound: The collection has none of this name.
    """
    names = {"collection_id": collection_id, "queryable_name": queryable_name}
    body = document(queryable, "a queryable", "name")
    same_id(body, "name", queryable_name, "a queryable")
    return (yield from call(endpoints.REPLACE_QUERYABLE, names, body=body, read=Queryable.from_json))


@operation(endpoints.DELETE_QUERYABLE)
def delete_queryable(collection_id: str, queryable_name: str) -> Flow[None]:
    """
    Remove a queryable from a collection.

    :param collection_id: The collection.
    :param queryable_name: Name of the property.
    :raises GeoCatalogNotFound: The collection has none of this name.
    """
    names = {"collection_id": collection_id, "queryable_name": queryable_name}
    yield from call(endpoints.DELETE_QUERYABLE, names)
