"""What searches may ask for: queryables of the catalog and of a collection (7.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.routes_catalog import SCHEMA, find_collection
from airflow_provider_geocatalog.emulator.routing import Context, route
from airflow_provider_geocatalog.emulator.wire import Answer, ApiError, Call

if TYPE_CHECKING:
    from airflow_provider_geocatalog.emulator.state import Collection

__all__: list[str] = []

#: Every collection has these, as recorded.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "id": {
        "$ref": "https://schemas.stacspec.org/v1.0.0/item-spec/json-schema/item.json"
        "#/definitions/core/allOf/2/properties/id",
        "title": "Item ID",
        "description": "Item identifier",
    },
    "datetime": {
        "type": "string",
        "title": "Acquired",
        "format": "date-time",
        "pattern": "(\\+00:00|Z)$",
        "description": "Datetime",
    },
    "geometry": {
        "$ref": "https://geojson.org/schema/Feature.json",
        "title": "Item Geometry",
        "description": "Item Geometry",
    },
}
_DATA_TYPES = ("string", "number", "boolean", "timestamp", "date")


@route(endpoints.GET_QUERYABLES)
def get_queryables(context: Context, call: Call) -> Answer:
    """Describe what any collection has, as recorded; the first one's definition of a name holds, as in pgstac."""
    union: dict[str, Any] = {}
    for collection in context.world.collections.values():
        union = {**_definitions(collection), **union}
    return _schema(call, union)


@route(endpoints.GET_COLLECTION_QUERYABLES)
def get_collection_queryables(context: Context, call: Call) -> Answer:
    """Describe what a collection has."""
    return _schema(call, _definitions(find_collection(context, call.names["collection_id"])))


@route(endpoints.CREATE_QUERYABLES)
def create_queryables(context: Context, call: Call) -> Answer:
    """Add several queryables, or none of them."""
    collection = find_collection(context, call.names["collection_id"])
    if not isinstance(call.body, list) or not call.body:
        raise wire.bad_request("The body has to be a list with at least one queryable.")
    added: dict[str, dict[str, Any]] = {}
    for queryable in map(_checked, call.body):
        name = queryable["name"]
        if name in _DEFAULTS or name in collection.queryables or name in added:
            message = f"Queryable with name '{name}' already exists for collection '{collection.id}'"  # recorded
            raise ApiError(409, "ResourceAlreadyExists", message)
        added[name] = queryable
    collection.queryables.update(added)
    context.world.index_queryables()
    return Answer(201, list(added.values()))


@route(endpoints.REPLACE_QUERYABLE)
def replace_queryable(context: Context, call: Call) -> Answer:
    """Replace a queryable; the answer hides its data type (recorded)."""
    collection = find_collection(context, call.names["collection_id"])
    name = _existing(collection, call)
    queryable = _checked(call.body)
    if queryable["name"] != name:
        raise wire.bad_request(f"The queryable's name '{queryable['name']}' differs from '{name}' in the path.")
    collection.queryables[name] = queryable
    context.world.index_queryables()
    return Answer(body={**queryable, "data_type": None})


@route(endpoints.DELETE_QUERYABLE)
def delete_queryable(context: Context, call: Call) -> Answer:
    """Delete a queryable."""
    collection = find_collection(context, call.names["collection_id"])
    del collection.queryables[_existing(collection, call)]
    context.world.index_queryables()
    return Answer()


def _existing(collection: Collection, call: Call) -> str:
    name = call.names["queryable_name"]
    if name not in collection.queryables:
        raise wire.not_found(f"Queryable '{name}' not found for collection '{collection.id}'")
    return name


def _checked(body: Any) -> dict[str, Any]:
    """Return a queryable with all of its members, in the recorded order."""
    if not isinstance(body, dict):
        raise wire.bad_request("A queryable has to be a JSON object.")
    name, definition = body.get("name"), body.get("definition")
    data_type, create_index = body.get("data_type"), body.get("create_index")
    if not isinstance(name, str) or not name:
        raise wire.bad_request("A queryable needs a 'name'.")
    if not isinstance(definition, dict):
        raise wire.bad_request(f"Queryable '{name}' needs a 'definition', a JSON schema fragment.")
    if data_type is not None and data_type not in _DATA_TYPES:
        raise wire.bad_request(f"The 'data_type' of queryable '{name}' has to be one of {', '.join(_DATA_TYPES)}.")
    if create_index is not None and not isinstance(create_index, bool):
        raise wire.bad_request(f"The 'create_index' of queryable '{name}' has to be a boolean.")
    return {"name": name, "definition": definition, "create_index": bool(create_index), "data_type": data_type}


def _definitions(collection: Collection) -> dict[str, Any]:
    return {name: queryable["definition"] for name, queryable in collection.queryables.items()}


def _schema(call: Call, custom: dict[str, Any]) -> Answer:
    body = {
        "$id": call.href(call.endpoint, call.query, **call.names),
        "type": "object",
        "title": "STAC Queryables.",
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {**_DEFAULTS, **custom},
        "additionalProperties": True,
    }
    return Answer(body=body, media_type=SCHEMA)
