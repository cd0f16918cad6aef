"""Items and search (7.5, 7.6). Writes are operations that fail for content reasons later, not in the request."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.effects import effect
from airflow_provider_geocatalog.emulator.ingest import IngestionError, already_exists, prepare_item
from airflow_provider_geocatalog.emulator.managed_store import located
from airflow_provider_geocatalog.emulator.routes_catalog import GEOJSON, JSON, accepted, find_collection
from airflow_provider_geocatalog.emulator.routing import Context, route
from airflow_provider_geocatalog.emulator.search import Page, find, project
from airflow_provider_geocatalog.emulator.search_request import DEFAULT_LIMIT, Search
from airflow_provider_geocatalog.emulator.signing import Signer
from airflow_provider_geocatalog.emulator.storage import Access
from airflow_provider_geocatalog.emulator.wire import Answer, Call

if TYPE_CHECKING:
    from airflow_provider_geocatalog.emulator.effects import Effect
    from airflow_provider_geocatalog.emulator.state import Collection, Source, StoredItem

__all__: list[str] = []


# --- reading --------------------------------------------------------------------------------------------------------


@route(endpoints.GET_ITEM)
def get_item(context: Context, call: Call) -> Answer:
    """Return an item."""
    signer = Signer.wanted(context, call)
    collection_id, item_id = call.names["collection_id"], call.names["item_id"]
    collection = context.world.collections.get(collection_id)
    item = collection.items.get(item_id) if collection else None
    if item is None:
        path = call.dialect.template(endpoints.GET_ITEM).format_map(call.names)
        names = {"collection_id": collection_id, "item_id": item_id}
        raise wire.not_found(
            f"Resource not found at '{path}' with parameters {names}. Check the parameters and try again."
        )
    return Answer(body=_view(item.document, call, signer), media_type=GEOJSON)


@route(endpoints.LIST_ITEMS, locked=False)
def list_items(context: Context, call: Call) -> Answer:
    """List a collection's items, newest first."""
    signer = Signer.wanted(context, call)
    wanted = Search.from_query(call.query, default_limit=DEFAULT_LIMIT)
    with context.world.lock:
        collection = find_collection(context, call.names["collection_id"])
    wanted = dataclasses.replace(wanted, collections=frozenset([collection.id]))
    root = call.href(endpoints.GET_LANDING_PAGE) + "/"
    page = _page(context, wanted)
    links: list[dict[str, Any]] = [
        call.link("collection", endpoints.GET_COLLECTION, JSON, **call.names),
        call.link("parent", endpoints.GET_COLLECTION, JSON, **call.names),
        {"rel": "root", "type": JSON, "href": root},
        call.link("self", endpoints.LIST_ITEMS, GEOJSON, **call.names),
        *_pages_by_query(call, page, wanted),
    ]
    return _feature_collection(call, page, wanted, links, signer)


@route(endpoints.SEARCH, locked=False)
def search(context: Context, call: Call) -> Answer:
    """Search by a body."""
    signer = Signer.wanted(context, call)
    wanted = Search.from_body(call.body, default_limit=context.settings.search_limit)
    page = _page(context, wanted)
    links: list[dict[str, Any]] = _search_links(call)
    href = call.href(endpoints.SEARCH, call.query)  # api-version, sign and duration hold for other pages as well
    for rel, token in _tokens(page):
        body = {**call.body, "token": token}
        links.append({"rel": rel, "type": GEOJSON, "method": "POST", "href": href, "body": body})
    return _feature_collection(call, page, wanted, links, signer)


@route(endpoints.SEARCH_BY_QUERY, locked=False)
def search_by_query(context: Context, call: Call) -> Answer:
    """Search by query parameters."""
    signer = Signer.wanted(context, call)
    wanted = Search.from_query(call.query)
    page = _page(context, wanted)
    links = [*_search_links(call), *_pages_by_query(call, page, wanted)]
    return _feature_collection(call, page, wanted, links, signer)


def _page(context: Context, wanted: Search) -> Page:
    with context.world.lock:
        types = context.world.data_types(wanted.collections)
    return find(wanted, context.world.items, types)  # without the world's lock: nothing else has to wait


def _search_links(call: Call) -> list[dict[str, Any]]:
    root = {"rel": "root", "type": JSON, "href": call.href(endpoints.GET_LANDING_PAGE) + "/"}
    return [root, call.link("self", endpoints.SEARCH, GEOJSON)]


def _tokens(page: Page) -> list[tuple[str, str]]:
    both = (("next", page.next_token), ("prev", page.previous_token))
    return [(rel, token) for rel, token in both if token]


def _pages_by_query(call: Call, page: Page, wanted: Search) -> list[dict[str, Any]]:
    links = []
    for rel, token in _tokens(page):
        href = call.href(call.endpoint, {**call.query, "limit": str(wanted.limit), "token": token}, **call.names)
        links.append({"rel": rel, "type": GEOJSON, "method": "GET", "href": href})
    return links


def _feature_collection(
    call: Call, page: Page, wanted: Search, links: list[dict[str, Any]], signer: Signer | None
) -> Answer:
    features = [project(_view(document, call, signer), wanted) for document in page.documents]
    return Answer(body={"type": "FeatureCollection", "features": features, "links": links}, media_type=GEOJSON)


def _view(document: dict[str, Any], call: Call, signer: Signer | None) -> dict[str, Any]:
    names = {"collection_id": document["collection"]}
    generated = [
        call.link("collection", endpoints.GET_COLLECTION, JSON, **names),
        call.link("parent", endpoints.GET_COLLECTION, JSON, **names),
        {"rel": "root", "type": JSON, "href": call.href(endpoints.GET_LANDING_PAGE) + "/"},
        call.link("self", endpoints.GET_ITEM, GEOJSON, item_id=document["id"], **names),
    ]
    links = [*generated, *document["links"]]
    return {**(signer.sign_assets(document) if signer else document), "links": links}


# --- writing --------------------------------------------------------------------------------------------------------


@route(endpoints.CREATE_ITEM, locked=False)
def create_items(context: Context, call: Call) -> Answer:
    """Add an item or a FeatureCollection of items, as one operation."""
    collection_id = call.names["collection_id"]
    body = call.body
    if not isinstance(body, dict) or body.get("type") not in ("Feature", "FeatureCollection"):
        raise wire.invalid("The body has to be a STAC Item or a FeatureCollection of Items.")
    documents = body.get("features") if body["type"] == "FeatureCollection" else [body]
    if not isinstance(documents, list) or not documents:
        raise wire.invalid("'features' has to be a list with at least one Item.")
    for document in documents:
        _check_belongs(document, collection_id)
    most = context.settings.max_items_per_post
    if most and len(documents) > most:
        message = f"{len(documents)} items were sent, and {most} can be; use an ingestion."
        return _start(context, call, "AddItem", [partial(_fail, "PostItemCollectionSizeExceeded", message)])
    with context.world.lock:
        if context.settings.missing_collection == "operation" and collection_id not in context.world.collections:
            gone = partial(_fail, *_no_collection(collection_id))
            effects: list[Effect] = [gone for _ in documents]
            return accepted(
                call, context.engine.start_items("AddItem", collection_id, call.now, effects, _item_ids(call))
            )
        collection = find_collection(context, collection_id)
        access = _access(context, call)
    effects = [partial(_add, context, collection, _prepared(context, call, document, access)) for document in documents]
    return _start(context, call, "AddItem", effects)


@route(endpoints.REPLACE_ITEM, locked=False)
def replace_item(context: Context, call: Call) -> Answer:
    """Replace an item; a missing one is not created."""
    if not isinstance(call.body, dict):
        raise wire.invalid("An item has to be a JSON object.")
    _check_belongs(call.body, call.names["collection_id"])
    if call.body.get("id") != call.names["item_id"]:
        raise wire.invalid(f"The item's id '{call.body.get('id')}' differs from '{call.names['item_id']}' in the path.")
    with context.world.lock:
        collection = find_collection(context, call.names["collection_id"])
        access = _access(context, call)
    item = _prepared(context, call, call.body, access)
    return _start(context, call, "UpdateItem", [partial(_replace, context, collection, call.names["item_id"], item)])


@route(endpoints.UPDATE_ITEM)
def update_item(context: Context, call: Call) -> Answer:
    """Merge a patch into an item, whose assets are then all ingested again (7.5)."""
    patch, item_id = call.body, call.names["item_id"]
    if not isinstance(patch, dict):
        raise wire.invalid("A merge patch for an item has to be a JSON object.")
    collection = find_collection(context, call.names["collection_id"])
    _check_belongs(patch, collection.id)
    if patch.get("id", item_id) != item_id:
        raise wire.invalid("An item's id cannot be changed.")
    sources = tuple(context.world.sources.values())
    update = partial(_update, context, collection, item_id, patch, sources, call.managed_url, call.now)
    return _start(context, call, "UpdateItem", [partial(_about, item_id, update)])


@effect
def _update(
    context: Context,
    collection: Collection,
    item_id: str,
    patch: dict[str, Any],
    sources: tuple[Source, ...],
    managed_url: str,
    asked_at: float,
    at: float,
) -> None:
    current = _existing(collection, item_id, "NoRecordsToUpdate", "update")
    merged = {name: value for name, value in current.document.items() if not name.startswith("_msft:")}
    access = Access(context.settings, context.blobs, sources, asked_at)
    document = merge_patch(located(merged, managed_url), patch)  # a failure names addresses that the client knows
    _put(context, collection, prepare_item(document, collection.id, access, context.settings, now=at))


@route(endpoints.DELETE_ITEM)
def delete_item(context: Context, call: Call) -> Answer:
    """Delete an item."""
    collection, item_id = find_collection(context, call.names["collection_id"]), call.names["item_id"]
    delete = partial(_delete, context, collection, item_id)
    return _start(context, call, "DeleteItem", [partial(_about, item_id, delete)])


@effect
def _delete(context: Context, collection: Collection, item_id: str, at: float) -> None:
    etag = _existing(collection, item_id, "NoRecordsToDelete", "delete").document["_msft:etag"]
    forget = partial(_forget, context, collection, item_id, etag)
    if context.settings.deleted_item_lag:
        context.engine.at(at + context.settings.deleted_item_lag, forget)
    else:
        forget(at)


@effect
def _forget(context: Context, collection: Collection, item_id: str, etag: str, at: float) -> None:
    """Remove an item, unless it was deleted or written meanwhile."""
    item = collection.items.get(item_id)
    if item is not None and item.document["_msft:etag"] == etag:
        del collection.items[item_id]
        context.blobs.managed.remove_item(collection.id, item_id)


def _start(context: Context, call: Call, kind: str, effects: list[Effect]) -> Answer:
    with context.world.lock:
        collection = find_collection(context, call.names["collection_id"])
        guarded: list[Effect] = [partial(_in_collection, context, collection, one) for one in effects]
        operation = context.engine.start_items(kind, collection.id, call.now, guarded, _item_ids(call))
        return accepted(call, operation)


def _item_ids(call: Call) -> list[str]:
    """Return the ids of the items that a request is about."""
    if "item_id" in call.names:
        return [call.names["item_id"]]
    return [str(document.get("id")) for document in call.body.get("features", [call.body])]


@effect
def _in_collection(context: Context, collection: Collection, inner: Effect, at: float) -> None:
    """Have an item's part of an operation fail where the collection was deleted meanwhile."""
    if context.world.collections.get(collection.id) is not collection:
        raise IngestionError(*_no_collection(collection.id))
    inner(at)


def _no_collection(collection_id: str) -> tuple[str, str]:
    return "CollectionDoesNotExist", f"Collection '{collection_id}' does not exist"


@effect
def _fail(code: str, message: str, at: float) -> None:
    raise IngestionError(code, message)


def _check_belongs(document: Any, collection_id: str) -> None:
    if not isinstance(document, dict):
        raise wire.invalid("An item has to be a JSON object.")
    named = document.get("collection")
    if named is not None and named != collection_id:
        raise wire.invalid(f"The item's collection '{named}' differs from '{collection_id}' in the path.")


def _access(context: Context, call: Call) -> Access:
    return Access(context.settings, context.blobs, list(context.world.sources.values()), call.now)


def _prepared(context: Context, call: Call, document: dict[str, Any], access: Access) -> StoredItem | IngestionError:
    """Check an item now, outside the lock; its operation fails with the outcome later."""
    try:
        return prepare_item(document, call.names["collection_id"], access, context.settings, now=call.now)
    except IngestionError as error:
        error.item_id = str(document.get("id"))
        return error


@effect
def _add(context: Context, collection: Collection, item: StoredItem | IngestionError, at: float) -> None:
    if isinstance(item, IngestionError):
        raise item
    if item.id in collection.items:
        context.blobs.managed.discard(item.document)
        raise already_exists(item)
    _put(context, collection, item)


@effect
def _replace(
    context: Context, collection: Collection, item_id: str, item: StoredItem | IngestionError, at: float
) -> None:
    try:
        _existing(collection, item_id, "NoRecordsToUpdate", "update")
    except IngestionError:
        if not isinstance(item, IngestionError):
            context.blobs.managed.discard(item.document)
        raise
    if isinstance(item, IngestionError):
        raise item
    _put(context, collection, item)


def _put(context: Context, collection: Collection, item: StoredItem) -> None:
    context.blobs.managed.commit(item.document)
    collection.items[item.id] = item


def _existing(collection: Collection, item_id: str, code: str, verb: str) -> StoredItem:
    if item_id not in collection.items:
        message = f"Item '{item_id}' does not exist in collection '{collection.id}' to {verb}"
        raise IngestionError(code, message, item_id)
    return collection.items[item_id]


@effect
def _about(item_id: str, inner: Effect, at: float) -> None:
    """Name the item in whatever goes wrong with it."""
    try:
        inner(at)
    except IngestionError as error:
        error.item_id = item_id
        raise


def merge_patch(target: Any, patch: Any) -> Any:
    """Return a document with a JSON merge patch applied (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
