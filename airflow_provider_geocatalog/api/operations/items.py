"""Items: create, read, replace, change, delete, list and search (geocatalog-api 7.5, 7.6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import Started, query_of, start
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.http import Endpoint, Flow, Pages, Request
from airflow_provider_geocatalog.api.operations import operation
from airflow_provider_geocatalog.api.operations.arguments import (
    box,
    document,
    flag,
    interval,
    minutes,
    objects,
    optional,
    page_size,
    same_id,
    text,
    texts,
)
from airflow_provider_geocatalog.api.operations.documents import read_object, stac_pages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_geocatalog.api.operations.arguments import Interval

__all__ = [
    "create_item",
    "delete_item",
    "get_item",
    "list_items",
    "replace_item",
    "search",
    "search_by_query",
    "update_item",
]


#: Items on a page. The service's own 10 would make a request of every ten items (service-open-questions P10).
DEFAULT_LIMIT = 250


@operation(endpoints.LIST_ITEMS)
def list_items(
    collection_id: str,
    *,
    limit: int | None = DEFAULT_LIMIT,
    bbox: Sequence[float] | None = None,
    datetime: Interval | None = None,
    token: str | None = None,
    sign: bool | None = None,
    duration: int | None = None,
) -> Pages[dict[str, Any]]:
    """
    List the items of a collection.

    :param collection_id: The collection.
    :param limit: Items on a page, 1 to 10000; ``None`` leaves it to the service, which takes 10.
    :param bbox: Only items that intersect this box: west, south, east, north in degrees.
    :param datetime: Only items that intersect this time or interval.
    :param token: Where to go on, from the link of an earlier page.
    :param sign: Whether asset hrefs carry a signature.
    :param duration: Minutes that the signatures last.
    :return: STAC Items, page by page.
    """
    query = query_of(
        {
            "limit": page_size(limit),
            "bbox": box(bbox),
            "datetime": interval(datetime),
            "sign": flag(sign, "sign"),
            "duration": minutes(duration),
            "token": text(token, "token"),
        }
    )
    return stac_pages(Request(endpoints.LIST_ITEMS, {"collection_id": collection_id}, query), "features")


@operation(endpoints.CREATE_ITEM)
def create_item(collection_id: str, item: Mapping[str, Any]) -> Flow[Started]:
    """
    Create an item, or several as an ItemCollection, in one operation. Content is checked in the operation.

    :param collection_id: The collection.
    :param item: A STAC Item, or ``{"type": "FeatureCollection", "features": [...]}``.
    :return: The operation to wait for. It fails for ids that exist already.
    """
    body = document(item, "an item", "type")
    resource = None
    if body["type"] == "Feature":
        items = [body]
        resource = _item_request(collection_id, _item_id(body))
    elif body["type"] == "FeatureCollection" and isinstance(body.get("features"), list) and body["features"]:
        items = [document(feature, "a feature of an ItemCollection") for feature in body["features"]]
    else:
        raise GeoCatalogInvalidInput("items are a Feature, or a FeatureCollection with at least one of them")
    for entry in items:
        same_id(entry, "collection", collection_id, f"item {entry.get('id')!r}")
    return (yield from start(endpoints.CREATE_ITEM, {"collection_id": collection_id}, body=body, resource=resource))


def _item_id(item: Mapping[str, Any]) -> str:
    if not isinstance(item.get("id"), str) or not item["id"]:
        raise GeoCatalogInvalidInput("an item has no 'id'")
    return str(item["id"])


def _item_request(collection_id: str, item_id: str) -> Request:
    return Request(endpoints.GET_ITEM, {"collection_id": collection_id, "item_id": item_id})


@operation(endpoints.GET_ITEM)
def get_item(
    collection_id: str, item_id: str, *, sign: bool | None = None, duration: int | None = None
) -> Flow[dict[str, Any]]:
    """
    Read an item.

    :param collection_id: The collection.
    :param item_id: The item.
    :param sign: Whether asset hrefs carry a signature.
    :param duration: Minutes that the signatures last.
    :return: A STAC Item.
    :raises GeoCatalogNotFound: There is none with this id.
    """
    query = query_of({"sign": flag(sign, "sign"), "duration": minutes(duration)})
    names = {"collection_id": collection_id, "item_id": item_id}
    return (yield from read_object(endpoints.GET_ITEM, "an item", names, query=query))


@operation(endpoints.REPLACE_ITEM)
def replace_item(collection_id: str, item_id: str, item: Mapping[str, Any]) -> Flow[Started]:
    """
    Replace an item; its assets are ingested again, so their hrefs have to be the original ones.

    :param collection_id: The collection.
    :param item_id: The item.
    :param item: A STAC Item.
    :return: The operation to wait for. It fails if there is no such item.
    """
    body = document(item, "an item", "type")
    _item_id(body)
    same_id(body, "id", item_id, "an item")
    same_id(body, "collection", collection_id, "an item")
    return (yield from _write(endpoints.REPLACE_ITEM, collection_id, item_id, body))


@operation(endpoints.UPDATE_ITEM)
def update_item(collection_id: str, item_id: str, changes: Mapping[str, Any]) -> Flow[Started]:
    """
    Change members of an item; its assets are ingested again, so hrefs in managed storage fail.

    :param collection_id: The collection.
    :param item_id: The item.
    :param changes: A JSON merge patch: the members to change, ``None`` to remove one.
    :return: The operation to wait for. It fails if there is no such item.
    """
    return (yield from _write(endpoints.UPDATE_ITEM, collection_id, item_id, document(changes, "a change of an item")))


def _write(endpoint: Endpoint, collection_id: str, item_id: str, body: dict[str, Any]) -> Flow[Started]:
    resource = _item_request(collection_id, item_id)
    return (yield from start(endpoint, resource.names, body=body, resource=resource))


@operation(endpoints.DELETE_ITEM)
def delete_item(collection_id: str, item_id: str) -> Flow[Started]:
    """
    Delete an item with its files.

    :param collection_id: The collection.
    :param item_id: The item.
    :return: The operation to wait for. It fails if there is no such item.
    """
    gone = _item_request(collection_id, item_id)
    return (yield from start(endpoints.DELETE_ITEM, gone.names, resource=gone, removes=True))


@operation(endpoints.SEARCH)
def search(
    *,
    collections: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    bbox: Sequence[float] | None = None,
    intersects: Mapping[str, Any] | None = None,
    datetime: Interval | None = None,
    limit: int | None = DEFAULT_LIMIT,
    query: Mapping[str, Any] | None = None,
    sortby: Sequence[Mapping[str, str]] | None = None,
    fields: Mapping[str, Any] | None = None,
    filter: Mapping[str, Any] | str | None = None,
    filter_crs: str | None = None,
    filter_lang: str | None = None,
    conf: Mapping[str, Any] | None = None,
    token: str | None = None,
    sign: bool | None = None,
    duration: int | None = None,
) -> Pages[dict[str, Any]]:
    """
    Search items over collections.

    :param collections: Only items of these collections.
    :param ids: Only items with these ids.
    :param bbox: Only items that intersect this box: west, south, east, north in degrees.
    :param intersects: Only items that intersect this GeoJSON geometry.
    :param datetime: Only items that intersect this time or interval.
    :param limit: Items on a page, 1 to 10000; ``None`` leaves it to the service.
    :param query: Conditions of the STAC query extension.
    :param sortby: ``[{"field": "datetime", "direction": "desc"}, ...]``.
    :param fields: ``{"include": [...], "exclude": [...]}``.
    :param filter: A CQL2 expression, as JSON or as text.
    :param filter_crs: Coordinate reference system of the filter's geometries.
    :param filter_lang: ``cql2-json``, ``cql2-text`` or ``cql-json``; told from the filter if not given.
    :param conf: Settings of the database.
    :param token: Where to go on, from the link of an earlier page.
    :param sign: Whether asset hrefs carry a signature.
    :param duration: Minutes that the signatures last.
    :return: STAC Items, page by page.
    """
    members = {
        "collections": texts(collections, "collections"),
        "ids": texts(ids, "ids"),
        "bbox": box(bbox),
        "intersects": optional(intersects, "a geometry to intersect"),
        "datetime": interval(datetime),
        "limit": page_size(limit),
        "query": optional(query, "a query"),
        "sortby": objects(sortby, "sortby"),
        "fields": optional(fields, "fields"),
        "filter": filter if isinstance(filter, str) else optional(filter, "a filter"),
        "filter-crs": text(filter_crs, "filter_crs"),
        "filter-lang": _filter_lang(filter, filter_lang),
        "conf": optional(conf, "conf"),
        "token": text(token, "token"),
    }
    if bbox is not None and intersects is not None:
        raise GeoCatalogInvalidInput("a search has a bbox or a geometry to intersect, not both")
    body = {name: value for name, value in members.items() if value is not None}
    parameters = query_of({"sign": flag(sign, "sign"), "duration": minutes(duration)})
    return stac_pages(Request(endpoints.SEARCH, query=parameters, body=body), "features")


def _filter_lang(expression: Any, language: str | None) -> str | None:
    if language is None and expression is not None:
        return "cql2-text" if isinstance(expression, str) else "cql2-json"
    return language


def _separable(values: Sequence[str] | None, name: str) -> list[str] | None:
    """Return what a query string separates by commas; one inside an id, which items may have, would split it."""
    listed = texts(values, name)
    if any("," in value for value in listed or ()):
        raise GeoCatalogInvalidInput(f"{name} with a comma cannot be searched for by address; use 'search'")
    return listed


def _json(value: Mapping[str, Any] | None, what: str) -> str | None:
    if value is None:
        return None
    try:
        return json.dumps(document(value, what), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise GeoCatalogInvalidInput(f"{what} cannot be written as JSON: {error}") from error


@operation(endpoints.SEARCH_BY_QUERY)
def search_by_query(
    *,
    collections: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    bbox: Sequence[float] | None = None,
    intersects: Mapping[str, Any] | None = None,
    datetime: Interval | None = None,
    limit: int | None = DEFAULT_LIMIT,
    query: Mapping[str, Any] | None = None,
    sortby: str | None = None,
    fields: str | None = None,
    filter: str | None = None,
    token: str | None = None,
    sign: bool | None = None,
    duration: int | None = None,
) -> Pages[dict[str, Any]]:
    """
    Search items by GET, so that the search is an address; :func:`search` can do more, and longer ones.

    :param collections: Only items of these collections.
    :param ids: Only items with these ids.
    :param bbox: Only items that intersect this box: west, south, east, north in degrees.
    :param intersects: Only items that intersect this GeoJSON geometry.
    :param datetime: Only items that intersect this time or interval.
    :param limit: Items on a page, 1 to 10000; ``None`` leaves it to the service.
    :param query: Conditions of the STAC query extension.
    :param sortby: Fields with ``+`` or ``-`` before them, separated by commas.
    :param fields: Fields to include, or with ``-`` before them to exclude, separated by commas.
    :param filter: A CQL2 expression as text.
    :param token: Where to go on, from the link of an earlier page.
    :param sign: Whether asset hrefs carry a signature.
    :param duration: Minutes that the signatures last.
    :return: STAC Items, page by page.
    """
    if bbox is not None and intersects is not None:
        raise GeoCatalogInvalidInput("a search has a bbox or a geometry to intersect, not both")
    parameters = query_of(
        {
            "collections": _separable(collections, "collections"),
            "ids": _separable(ids, "ids"),
            "bbox": box(bbox),
            "intersects": _json(intersects, "a geometry to intersect"),
            "datetime": interval(datetime),
            "limit": page_size(limit),
            "query": _json(query, "a query"),
            "sortby": text(sortby, "sortby"),
            "fields": text(fields, "fields"),
            "filter": text(filter, "filter"),
            "sign": flag(sign, "sign"),
            "duration": minutes(duration),
            "token": text(token, "token"),
        }
    )
    return stac_pages(Request(endpoints.SEARCH_BY_QUERY, query=parameters), "features")
