"""Landing page, conformance and collections (7.1 to 7.3)."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.emulator import openapi, wire
from airflow_provider_geocatalog.emulator.effects import effect
from airflow_provider_geocatalog.emulator.managed_store import located
from airflow_provider_geocatalog.emulator.routing import Context, route
from airflow_provider_geocatalog.emulator.signing import Signer
from airflow_provider_geocatalog.emulator.wire import Answer, ApiError, Call, ProblemError

if TYPE_CHECKING:
    from airflow_provider_geocatalog.emulator.limits import Limits
    from airflow_provider_geocatalog.emulator.state import Collection

__all__ = ["accepted", "find_collection", "read_view"]

JSON, GEOJSON, SCHEMA = "application/json", "application/geo+json", "application/schema+json"
QUERYABLES_REL = "http://www.opengis.net/def/rel/ogc/1.0/queryables"

#: The fifteen URIs of the recordings (7.2).
_CONFORMANCE = (
    *(f"http://www.opengis.net/spec/cql2/1.0/conf/{name}" for name in ("basic-cql2", "cql2-json", "cql2-text")),
    *(f"http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/{name}" for name in ("core", "geojson", "oas30")),
    "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/filter",
    "https://api.stacspec.org/v1.0.0-rc.2/item-search#filter",
    *(
        f"https://api.stacspec.org/v1.0.0/{name}"
        for name in (
            "collections",
            "core",
            "item-search",
            "item-search#fields",
            "item-search#query",
            "item-search#sort",
            "ogcapi-features",
        )
    ),
)

_ID = re.compile(r"[A-Za-z0-9_.-]+")  # (4.1)
_MAX_ID = 500  # characters of a path parameter (11.1)
_REQUIRED = ("id", "description", "license", "extent", "links")  # (7.3)
_SET_BY_SERVICE = ("msft:_created", "msft:_updated", "links")


def find_collection(context: Context, collection_id: str) -> Collection:
    """
    Return a collection.

    :raises ApiError: 404, there is none.
    """
    collection = context.world.collections.get(collection_id)
    if collection is None:
        raise wire.collection_not_found(collection_id)
    return collection


@route(endpoints.GET_LANDING_PAGE)
def get_landing_page(context: Context, call: Call) -> Answer:
    """Describe the catalog."""
    root = call.href(endpoints.GET_LANDING_PAGE) + "/"
    search = call.href(endpoints.SEARCH)
    links: list[dict[str, Any]] = [
        {"rel": "self", "type": JSON, "href": root},
        {"rel": "root", "type": JSON, "href": root},
        call.link("data", endpoints.LIST_COLLECTIONS, JSON),
        call.link("conformance", endpoints.GET_CONFORMANCE, JSON),
        {"rel": "search", "type": GEOJSON, "title": "STAC search", "href": search, "method": "GET"},
        {"rel": "search", "type": GEOJSON, "title": "STAC search", "href": search, "method": "POST"},
    ]
    if call.dialect.has(endpoints.GET_QUERYABLES):
        links.append({**call.link(QUERYABLES_REL, endpoints.GET_QUERYABLES, SCHEMA), "title": "Queryables"})
    for collection in context.world.collections.values():
        child = call.link("child", endpoints.GET_COLLECTION, JSON, collection_id=collection.id)
        links.append({**child, "title": collection.document.get("title") or collection.id})
    # The service's own addresses of these two were not recorded, only that there are links (7.2).
    version = urlencode({"api-version": call.dialect.api_version})
    links += [
        {"rel": "service-desc", "type": openapi.MEDIA_TYPE, "href": f"{call.base_url}{openapi.PATH}?{version}"},
        {"rel": "service-doc", "type": "text/html", "href": f"{call.base_url}{openapi.PAGE_PATH}?{version}"},
    ]
    return Answer(
        body={
            "type": "Catalog",
            "id": "spatio-stac",
            "title": "GeoCatalog emulator",
            "description": "An emulated Microsoft Planetary Computer Pro GeoCatalog",
            "stac_version": "1.0.0",
            "conformsTo": list(_CONFORMANCE),
            "links": links,
        }
    )


@route(endpoints.GET_CONFORMANCE)
def get_conformance(context: Context, call: Call) -> Answer:
    """Tell the conformance classes."""
    return Answer(body={"conformsTo": list(_CONFORMANCE)})


@route(endpoints.LIST_COLLECTIONS)
def list_collections(context: Context, call: Call) -> Answer:
    """List all collections in one answer (4.2)."""
    signer = Signer.wanted(context, call)
    documents = [read_view(collection, call, signer) for collection in context.world.collections.values()]
    root = call.href(endpoints.GET_LANDING_PAGE) + "/"
    links = [
        {"rel": "root", "type": JSON, "href": root},
        {"rel": "parent", "type": JSON, "href": root},
        call.link("self", endpoints.LIST_COLLECTIONS, JSON),
    ]
    count = len(documents)
    return Answer(body={"collections": documents, "links": links, "numberMatched": count, "numberReturned": count})


@route(endpoints.GET_COLLECTION)
def get_collection(context: Context, call: Call) -> Answer:
    """Return a collection as the read side sees it."""
    signer = Signer.wanted(context, call)
    return Answer(body=read_view(find_collection(context, call.names["collection_id"]), call, signer))


@route(endpoints.CREATE_COLLECTION)
def create_collection(context: Context, call: Call) -> Answer:
    """Accept a collection; it is visible when its operation has succeeded."""
    document = _checked(call.body)
    if "assets" in document:
        raise wire.invalid("'assets' must not be part of a new collection; use the collection asset operations.")
    collection_id, world = document["id"], context.world
    if context.settings.bounds is not None:
        _check_limits(collection_id, len(world.collections) + len(world.reserved), context.settings.bounds)
    if collection_id in world.collections or collection_id in world.reserved:
        raise ApiError(409, "DuplicatedEntity", f"Collection '{collection_id}' already exists")
    deleted_at = world.deleted_at.get(collection_id)
    if deleted_at is not None and call.now < deleted_at + context.settings.recreate_after:
        raise ApiError(
            409,
            "DuplicatedEntity",
            f"Collection '{collection_id}' was deleted a moment ago and cannot be created again yet",
        )
    if not call.dialect.collection_writes_start_operations or context.settings.collection_creation == "201":
        _add(context, document, call.now)
        location = call.location(endpoints.GET_COLLECTION, collection_id=collection_id)
        return Answer(201, _write_view(world.collections[collection_id], call), {"Location": location})
    world.reserved.add(collection_id)
    operation = context.engine.start_slow(
        "AddCollection",
        collection_id,
        call.now,
        partial(_add, context, document),
        undo=partial(_give_up, context, collection_id),
    )
    return accepted(call, operation)


@effect
def _add(context: Context, document: dict[str, Any], at: float) -> None:
    context.world.reserved.discard(document["id"])
    context.world.add_collection(document, at)


@effect
def _give_up(context: Context, collection_id: str, at: float) -> None:
    context.world.reserved.discard(collection_id)


@route(endpoints.REPLACE_COLLECTION)
def replace_collection(context: Context, call: Call) -> Answer:
    """Replace a collection's document at once; its items and configurations stay."""
    collection = find_collection(context, call.names["collection_id"])
    document = _checked(call.body)
    if document["id"] != collection.id:
        raise wire.invalid(f"The collection's id '{document['id']}' differs from '{collection.id}' in the path.")
    _check_assets_unchanged(collection, call, document.pop("assets", None))
    collection.document, collection.updated = document, call.now
    return Answer(body=_write_view(collection, call))


@route(endpoints.DELETE_COLLECTION)
def delete_collection(context: Context, call: Call) -> Answer:
    """Delete a collection with everything in it."""
    collection_id = call.names["collection_id"]
    collection = context.world.collections.get(collection_id)
    if collection is None:
        raise ProblemError(404)  # recorded: problem details here, unlike GET (7.3)
    if not call.dialect.collection_writes_start_operations or context.settings.collection_deletion == "204":
        _remove(context, collection_id, call.now)
        return Answer(204)
    if collection.deletion is None:
        remove, undo = partial(_remove, context, collection_id), partial(_keep, context, collection)
        collection.deletion = context.engine.start_slow("DeleteCollection", collection_id, call.now, remove, undo=undo)
    return accepted(call, collection.deletion)


@effect
def _remove(context: Context, collection_id: str, at: float) -> None:
    if context.world.remove_collection(collection_id):
        context.world.deleted_at[collection_id] = at
        context.blobs.managed.remove_collection(collection_id)


@effect
def _keep(context: Context, collection: Collection, at: float) -> None:
    context.world.journal.collection(collection.id)
    collection.deletion = None


def accepted(call: Call, operation: Any) -> Answer:
    """Return the 202 of an operation, with the address to poll (4.3)."""
    location = call.location(endpoints.GET_OPERATION, operation_id=operation.id)
    headers = {"Location": location, "operation-location": location}
    return Answer(202, wire.operation_json(operation, call.dialect), headers)


def _check_assets_unchanged(collection: Collection, call: Call, sent: Any) -> None:
    """Refuse a replacement that does not hold the managed assets as they are (7.3)."""
    if sent is not None and not isinstance(sent, dict):
        raise wire.invalid("'assets' has to be a JSON object.")
    sent, managed = sent or {}, located(_document(collection), call.managed_url).get("assets", {})
    for problem, keys in (
        ("removed", managed.keys() - sent.keys()),
        ("added", sent.keys() - managed.keys()),
        ("changed", {key for key in managed.keys() & sent.keys() if managed[key] != sent[key]}),
    ):
        if keys:
            names = ", ".join(f"'{key}'" for key in sorted(keys))
            raise wire.invalid(f"Assets {names} must be {problem} through the Collection Asset API.")


def _assets(collection: Collection) -> dict[str, Any]:
    return {key: asset.document for key, asset in collection.assets.items()}


def _document(collection: Collection) -> dict[str, Any]:
    """Return a collection's own members; without assets there is no member for them (7.4)."""
    assets = _assets(collection)
    return {**collection.document, "assets": assets} if assets else collection.document


def _checked(body: Any) -> dict[str, Any]:
    """Return a collection document without the members that the service sets, or refuse it."""
    if not isinstance(body, dict):
        raise wire.invalid("A collection has to be a JSON object.")
    missing = [name for name in _REQUIRED if body.get(name) is None]
    if missing:
        raise wire.invalid(f"The collection lacks required members: {', '.join(missing)}.")
    collection_id = body["id"]
    if not isinstance(collection_id, str) or not _ID.fullmatch(collection_id) or len(collection_id) > _MAX_ID:
        raise wire.invalid(f"Collection id '{collection_id}' is not valid: use letters, digits, '-', '_' and '.'.")
    if body.get("type", "Collection") != "Collection":
        raise wire.invalid(f"A collection has type 'Collection', not '{body['type']}'.")
    for name, kind in (("description", str), ("license", str), ("links", list)):
        if not isinstance(body[name], kind):
            raise wire.invalid(f"'{name}' has to be a {'list' if kind is list else 'string'}.")
    _check_extent(body["extent"])
    document = {name: value for name, value in body.items() if name not in _SET_BY_SERVICE}
    return {"type": "Collection", "stac_version": "1.0.0", **document}


def _check_limits(collection_id: str, collections: int, limits: Limits) -> None:
    """Refuse a collection that goes beyond the preview's limits; the codes are inferred."""
    shortest, longest = limits.shortest_collection_id, limits.longest_collection_id
    if not shortest <= len(collection_id) <= longest:
        raise wire.invalid(f"Collection id '{collection_id}' has to have {shortest} to {longest} characters.")
    if collections >= limits.collections:
        raise wire.invalid(f"The catalog has {limits.collections} collections, which is the most that it can have.")


def _check_extent(extent: Any) -> None:
    try:
        boxes, intervals = extent["spatial"]["bbox"], extent["temporal"]["interval"]
        good = bool(boxes) and all(len(box) in (4, 6) for box in boxes)
        good = good and bool(intervals) and all(len(pair) == 2 for pair in intervals)
    except (TypeError, KeyError):
        good = False
    if not good:
        raise wire.invalid("'extent' needs 'spatial.bbox', a list of boxes, and 'temporal.interval', a list of pairs.")


def read_view(
    collection: Collection, call: Call, signer: Signer | None = None, *, queryables_link: bool = True
) -> dict[str, Any]:
    """Return a collection as the read side answers it (7.3)."""
    root = call.href(endpoints.GET_LANDING_PAGE) + "/"
    names = {"collection_id": collection.id}
    links = [
        call.link("items", endpoints.LIST_ITEMS, GEOJSON, **names),
        {"rel": "parent", "type": JSON, "href": root},
        {"rel": "root", "type": JSON, "href": root},
        call.link("self", endpoints.GET_COLLECTION, JSON, **names),
    ]
    if queryables_link and call.dialect.has(endpoints.GET_COLLECTION_QUERYABLES):
        queryables = call.link(QUERYABLES_REL, endpoints.GET_COLLECTION_QUERYABLES, SCHEMA, **names)
        links.append({**queryables, "title": "Queryables"})
    document = _document(collection)
    return {
        **(signer.sign_assets(document) if signer else located(document, call.managed_url)),
        "msft:_created": wire.timestamp(collection.created, digits=6),
        "msft:_updated": wire.timestamp(collection.updated, digits=6),
        "links": links,
    }


def _write_view(collection: Collection, call: Call) -> dict[str, Any]:
    """Return a collection as the write side answers it: other links, other order (7.3)."""
    own, host = call.href(endpoints.GET_COLLECTION, collection_id=collection.id), f"{call.base_url}/"
    return {
        "msft:_created": wire.timestamp(collection.created),
        "msft:_updated": wire.timestamp(collection.updated),
        **located(_document(collection), call.managed_url),
        "links": [
            {"rel": "self", "type": JSON, "href": f"{own}/"},
            {"rel": "parent", "type": JSON, "href": host},
            {"rel": "root", "type": JSON, "href": host},
            {"rel": "items", "type": JSON, "href": f"{own}/items"},
        ],
    }
