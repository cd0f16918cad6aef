"""A collection's mosaics, render options, tile settings and partition type (7.8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.routes_catalog import find_collection
from airflow_provider_geocatalog.emulator.routing import Context, route
from airflow_provider_geocatalog.emulator.wire import Answer, ApiError, Call

if TYPE_CHECKING:
    from airflow_provider_geocatalog.emulator.state import Collection

__all__: list[str] = []

#: Members of a render option in the order in which they are read; unset ones are null there (7.8).
_RENDER_OPTION = (
    "id",
    "name",
    "description",
    "type",
    "options",
    "vectorOptions",
    "minZoom",
    "legend",
    "conditions",
)
_RENDER_TYPES = ("raster-tile", "vt-polygon", "vt-line")
_LEGEND_TYPES = ("continuous", "classmap", "interval", "none")
_PARTITION_SCHEMES = ("year", "month", "none")
_TILE_SETTINGS = ("minZoom", "maxItemsPerTile", "defaultLocation")
_MAX_ZOOM = 24


def _render_option_view(option: dict[str, Any]) -> dict[str, Any]:
    return {**dict.fromkeys(_RENDER_OPTION), **option}


def _mosaic_view(mosaic: dict[str, Any]) -> dict[str, Any]:
    return {"id": mosaic["id"], "name": mosaic["name"], "description": mosaic.get("description"), "cql": mosaic["cql"]}


def _checked(body: Any, what: str, path_id: str | None) -> dict[str, Any]:
    """Return a mosaic or render option whose id and name are usable."""
    if not isinstance(body, dict):
        raise wire.bad_request(f"A {what} has to be a JSON object.")
    entry: dict[str, Any] = {**body, "id": body.get("id", path_id)}
    for name in ("id", "name"):
        if not isinstance(entry.get(name), str) or not entry[name]:
            raise wire.bad_request(f"A {what} needs '{name}'.")
    if path_id is not None and entry["id"] != path_id:
        raise wire.bad_request(f"The {what}'s id '{entry['id']}' differs from '{path_id}' in the path.")
    return entry


def _checked_mosaic(body: Any, path_id: str | None = None) -> dict[str, Any]:
    body = _checked(body, "mosaic", path_id)
    _check_members(body, {"description": _TEXT})
    cql = body.get("cql", [])
    if not isinstance(cql, list) or not all(isinstance(expression, dict) for expression in cql):
        raise wire.bad_request("A mosaic's 'cql' is a list of CQL2 JSON expressions.")
    return {"id": body["id"], "name": body["name"], "description": body.get("description"), "cql": cql}


def _checked_render_option(body: Any, path_id: str | None = None) -> dict[str, Any]:
    body = _checked(body, "render option", path_id)
    if body.get("type") not in _RENDER_TYPES:
        raise wire.bad_request(f"A render option's 'type' is one of {', '.join(_RENDER_TYPES)}.")
    _check_members(body, _RENDER_OPTION_CHECKS)
    set_members: dict[str, Any] = _without_nulls(body)
    return set_members


def _without_nulls(value: Any) -> Any:
    """Return an object without the members that are null, at any depth of objects."""
    if not isinstance(value, dict):
        return value
    return {name: _without_nulls(member) for name, member in value.items() if member is not None}


def _check_members(body: dict[str, Any], checks: Mapping[str, _Check]) -> None:
    """Refuse a body with a member that a typed model could not hold; null is no value."""
    for name, (is_good, what) in checks.items():
        if body.get(name) is not None and not is_good(body[name]):
            raise wire.bad_request(f"'{name}' has to be {what}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_legend(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    given = {name: member for name, member in value.items() if member is not None}
    labels = given.get("labels", [])
    return (
        given.get("type", "none") in _LEGEND_TYPES
        and isinstance(labels, list)
        and all(map(_is_text, labels))
        and all(_is_count(given.get(name, 0)) for name in ("trimStart", "trimEnd"))
        and _is_number(given.get("scaleFactor", 1))
    )


def _are_conditions(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and _is_text(one.get("property")) for one in value)


def _is_location(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_number(value.get("zoom")):
        return False
    coordinates = value.get("coordinates")
    return isinstance(coordinates, list) and len(coordinates) == 2 and all(map(_is_number, coordinates))


#: What tells whether a member is usable, and what it has to be (7.8).
_Check = tuple[Callable[[Any], bool], str]
_ZOOM: _Check = (
    lambda value: _is_count(value) and 0 <= value <= _MAX_ZOOM,
    f"a whole number from 0 to {_MAX_ZOOM}",
)
_TEXT: _Check = (_is_text, "a string")
_RENDER_OPTION_CHECKS: Mapping[str, _Check] = {
    "description": _TEXT,
    "options": _TEXT,
    "vectorOptions": (_is_object, "a JSON object"),
    "minZoom": _ZOOM,
    "legend": (_is_legend, "a legend"),
    "conditions": (_are_conditions, "a list of conditions with 'property' and 'value'"),
}
_TILE_SETTINGS_CHECKS: Mapping[str, _Check] = {
    "minZoom": _ZOOM,
    "maxItemsPerTile": (lambda value: _is_count(value) and value > 0, "a whole number above 0"),
    "defaultLocation": (_is_location, "an object with 'zoom' and 'coordinates', a latitude and a longitude"),
}


def _one(entries: dict[str, dict[str, Any]], what: str, entry_id: str, collection: Collection) -> dict[str, Any]:
    if entry_id not in entries:
        raise wire.not_found(f"{what} '{entry_id}' not found for collection '{collection.id}'")
    return entries[entry_id]


def _add(entries: dict[str, dict[str, Any]], what: str, entry: dict[str, Any], collection: Collection) -> None:
    if entry["id"] in entries:
        raise ApiError(
            409, "DuplicatedEntity", f"{what} '{entry['id']}' already exists for collection '{collection.id}'"
        )
    entries[entry["id"]] = entry


@route(endpoints.GET_COLLECTION_CONFIGURATION)
def get_configuration(context: Context, call: Call) -> Answer:
    """Return everything at once."""
    collection = find_collection(context, call.names["collection_id"])
    mosaic_info = {
        "mosaics": [_mosaic_view(mosaic) for mosaic in collection.mosaics.values()],
        "renderOptions": [_render_option_view(option) for option in collection.render_options.values()],
        "defaultLocation": collection.tile_settings.get("defaultLocation"),
        "defaultCustomQuery": None,
    }
    return Answer(body={"tileSettings": collection.tile_settings, "mosaicInfo": mosaic_info})


@route(endpoints.LIST_MOSAICS)
def list_mosaics(context: Context, call: Call) -> Answer:
    """List mosaics."""
    collection = find_collection(context, call.names["collection_id"])
    return Answer(body=[_mosaic_view(mosaic) for mosaic in collection.mosaics.values()])


@route(endpoints.ADD_MOSAIC)
def add_mosaic(context: Context, call: Call) -> Answer:
    """Add a mosaic."""
    collection = find_collection(context, call.names["collection_id"])
    mosaic = _checked_mosaic(call.body)
    _add(collection.mosaics, "Mosaic", mosaic, collection)
    return Answer(201, _mosaic_view(mosaic))


@route(endpoints.GET_MOSAIC)
def get_mosaic(context: Context, call: Call) -> Answer:
    """Return a mosaic."""
    collection = find_collection(context, call.names["collection_id"])
    return Answer(body=_mosaic_view(_one(collection.mosaics, "Mosaic", call.names["mosaic_id"], collection)))


@route(endpoints.REPLACE_MOSAIC)
def replace_mosaic(context: Context, call: Call) -> Answer:
    """Replace a mosaic."""
    collection = find_collection(context, call.names["collection_id"])
    mosaic_id = call.names["mosaic_id"]
    _one(collection.mosaics, "Mosaic", mosaic_id, collection)
    collection.mosaics[mosaic_id] = _checked_mosaic(call.body, mosaic_id)
    return Answer(body=_mosaic_view(collection.mosaics[mosaic_id]))


@route(endpoints.DELETE_MOSAIC)
def delete_mosaic(context: Context, call: Call) -> Answer:
    """Delete a mosaic."""
    collection = find_collection(context, call.names["collection_id"])
    _one(collection.mosaics, "Mosaic", call.names["mosaic_id"], collection)
    del collection.mosaics[call.names["mosaic_id"]]
    return Answer()


@route(endpoints.LIST_RENDER_OPTIONS)
def list_render_options(context: Context, call: Call) -> Answer:
    """List render options."""
    collection = find_collection(context, call.names["collection_id"])
    return Answer(body=[_render_option_view(option) for option in collection.render_options.values()])


@route(endpoints.CREATE_RENDER_OPTION)
def create_render_option(context: Context, call: Call) -> Answer:
    """Add a render option; the answer echoes it without nulls (7.8)."""
    collection = find_collection(context, call.names["collection_id"])
    option = _checked_render_option(call.body)
    _add(collection.render_options, "Render Option", option, collection)
    return Answer(201, option)


@route(endpoints.GET_RENDER_OPTION)
def get_render_option(context: Context, call: Call) -> Answer:
    """Return a render option."""
    collection = find_collection(context, call.names["collection_id"])
    option = _one(collection.render_options, "Render Option", call.names["render_option_id"], collection)
    return Answer(body=_render_option_view(option))


@route(endpoints.REPLACE_RENDER_OPTION)
def replace_render_option(context: Context, call: Call) -> Answer:
    """Replace a render option."""
    collection = find_collection(context, call.names["collection_id"])
    option_id = call.names["render_option_id"]
    _one(collection.render_options, "Render Option", option_id, collection)
    collection.render_options[option_id] = _checked_render_option(call.body, option_id)
    return Answer(body=collection.render_options[option_id])


@route(endpoints.DELETE_RENDER_OPTION)
def delete_render_option(context: Context, call: Call) -> Answer:
    """Delete a render option."""
    collection = find_collection(context, call.names["collection_id"])
    _one(collection.render_options, "Render Option", call.names["render_option_id"], collection)
    del collection.render_options[call.names["render_option_id"]]
    return Answer()


@route(endpoints.GET_TILE_SETTINGS)
def get_tile_settings(context: Context, call: Call) -> Answer:
    """Return tile settings."""
    return Answer(body=find_collection(context, call.names["collection_id"]).tile_settings)


@route(endpoints.REPLACE_TILE_SETTINGS)
def replace_tile_settings(context: Context, call: Call) -> Answer:
    """Replace tile settings."""
    collection = find_collection(context, call.names["collection_id"])
    if not isinstance(call.body, dict):
        raise wire.bad_request("Tile settings have to be a JSON object.")
    _check_members(call.body, _TILE_SETTINGS_CHECKS)
    collection.tile_settings = {**dict.fromkeys(_TILE_SETTINGS), **call.body}
    return Answer(body=collection.tile_settings)


@route(endpoints.GET_PARTITION_TYPE)
def get_partition_type(context: Context, call: Call) -> Answer:
    """Return the partition type."""
    return Answer(body=find_collection(context, call.names["collection_id"]).partition_type)


@route(endpoints.REPLACE_PARTITION_TYPE)
def replace_partition_type(context: Context, call: Call) -> Answer:
    """Set the partition type, which is possible until the first item is loaded."""
    collection = find_collection(context, call.names["collection_id"])
    scheme = call.body.get("scheme") if isinstance(call.body, dict) else None
    if scheme not in _PARTITION_SCHEMES:
        raise wire.invalid(f"'scheme' is one of {', '.join(_PARTITION_SCHEMES)}.")
    if collection.items:
        raise wire.invalid("The partition type cannot be changed after items were loaded.")
    collection.partition_type = {"scheme": scheme}
    return Answer()
