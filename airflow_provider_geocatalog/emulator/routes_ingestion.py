"""Ingestion definitions and their runs (5.3, 5.4)."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.effects import effect
from airflow_provider_geocatalog.emulator.routes_catalog import accepted, find_collection
from airflow_provider_geocatalog.emulator.routing import Context, route
from airflow_provider_geocatalog.emulator.runs import RUN_TYPE
from airflow_provider_geocatalog.emulator.state import Ingestion, new_id
from airflow_provider_geocatalog.emulator.wire import Answer, ApiError, Call

__all__: list[str] = []

#: The URL that an import type needs: wire name and attribute.
_URL_OF_TYPE = {
    "StaticCatalog": ("sourceCatalogUrl", "source_catalog_url"),
    "StacGeoparquet": ("stacGeoparquetUrl", "stac_geoparquet_url"),
}
#: Members that a client sets: lower-case wire name, attribute, type.
_MEMBERS: tuple[tuple[str, str, type], ...] = (
    ("displayname", "display_name", str),
    ("sourcecatalogurl", "source_catalog_url", str),
    ("stacgeoparqueturl", "stac_geoparquet_url", str),
    ("skipexistingitems", "skip_existing_items", bool),
    ("keeporiginalassets", "keep_original_assets", bool),
)


@route(endpoints.LIST_INGESTIONS)
def list_ingestions(context: Context, call: Call) -> Answer:
    """List a collection's definitions, oldest first."""
    collection = find_collection(context, call.names["collection_id"])
    return wire.paged(call, [wire.ingestion_json(one, call.dialect) for one in collection.ingestions.values()])


@route(endpoints.CREATE_INGESTION)
def create_ingestion(context: Context, call: Call) -> Answer:
    """Store a definition; whether its URL leads to something usable shows when it runs (5.3)."""
    collection = find_collection(context, call.names["collection_id"])
    body = wire.members(call.body, "An ingestion definition")
    ingestion = Ingestion(new_id(), collection.id, call.now, _import_type(call, body))
    _change(ingestion, body)
    collection.ingestions[ingestion.id] = ingestion
    names = {"collection_id": collection.id, "ingestion_id": ingestion.id}
    location = call.location(endpoints.GET_INGESTION, **names)
    return Answer(201, wire.ingestion_json(ingestion, call.dialect), {"Location": location})


@route(endpoints.GET_INGESTION)
def get_ingestion(context: Context, call: Call) -> Answer:
    """Return a definition."""
    return Answer(body=wire.ingestion_json(_find(context, call), call.dialect))


@route(endpoints.UPDATE_INGESTION)
def update_ingestion(context: Context, call: Call) -> Answer:
    """Change the members sent; runs that exist keep their copies."""
    ingestion = _find(context, call)
    body = wire.members(call.body, "An ingestion definition")
    if body.get("importtype") is not None and _import_type(call, body) != ingestion.import_type:
        raise wire.invalid("'importType' cannot be changed.")
    _change(ingestion, body)
    return Answer(body=wire.ingestion_json(ingestion, call.dialect))


@route(endpoints.DELETE_INGESTION)
def delete_ingestion(context: Context, call: Call) -> Answer:
    """Delete a definition and its runs, unless one of them is active."""
    ingestion = _find(context, call)
    _check_ready(ingestion)
    if any(not run.operation.is_final for run in ingestion.runs.values()):
        message = f"Ingestion '{ingestion.id}' has active runs"
        if context.settings.active_ingestion_deletion == "400":
            raise wire.invalid(message)
        raise ApiError(409, "Conflict", message)
    ingestion.status = "Deleting"
    operation = context.engine.start_slow(
        "DeleteIngestion",
        ingestion.collection_id,
        call.now,
        partial(_remove, context, ingestion.collection_id, ingestion.id),
        extra={"IngestionId": ingestion.id},
    )
    return accepted(call, operation)


@effect
def _remove(context: Context, collection_id: str, ingestion_id: str, at: float) -> None:
    collection = context.world.collections.get(collection_id)
    if collection is not None:
        context.world.journal.collection(collection_id)
        collection.ingestions.pop(ingestion_id, None)


@route(endpoints.LIST_RUNS)
def list_runs(context: Context, call: Call) -> Answer:
    """List a definition's runs, newest first; the service's order is not known (4.2)."""
    runs = list(_find(context, call).runs.values())
    return wire.paged(call, [wire.run_json(run, call.dialect) for run in reversed(runs)])


@route(endpoints.CREATE_RUN)
def create_run(context: Context, call: Call) -> Answer:
    """Start a run; every call starts another."""
    ingestion = _find(context, call)
    _check_ready(ingestion)
    _check_concurrency(context)
    run = context.engine.runs.start(ingestion, call.now)
    location = call.location(endpoints.GET_RUN, **call.names, run_id=run.id)
    return Answer(201, wire.run_json(run, call.dialect), {"Location": location})


@route(endpoints.GET_RUN)
def get_run(context: Context, call: Call) -> Answer:
    """Return a run with its counters."""
    run = _find(context, call).runs.get(call.names["run_id"])
    if run is None:
        raise wire.not_found(f"Run '{call.names['run_id']}' not found")
    return Answer(body=wire.run_json(run, call.dialect))


def _find(context: Context, call: Call) -> Ingestion:
    collection = find_collection(context, call.names["collection_id"])
    ingestion = collection.ingestions.get(call.names["ingestion_id"])
    if ingestion is None:
        raise wire.not_found(f"Ingestion '{call.names['ingestion_id']}' not found in collection '{collection.id}'")
    return ingestion


def _check_ready(ingestion: Ingestion) -> None:
    if ingestion.status != "Ready":
        raise ApiError(409, "Conflict", f"Ingestion '{ingestion.id}' is being deleted")


def _check_concurrency(context: Context) -> None:
    """Refuse a run beyond the preview's limit (11.3); that the answer is 429 is inferred."""
    limits = context.settings.bounds
    if limits is None:
        return
    active = sum(
        operation.type.startswith(RUN_TYPE) and not operation.is_final
        for operation in context.world.operations.values()
    )
    if active >= limits.concurrent_runs:
        raise wire.throttled(f"{active} runs are active, which is the most that there can be.")


def _import_type(call: Call, body: dict[str, Any]) -> str:
    known = {name.lower(): name for name in call.dialect.import_types}
    import_type = known.get(str(body.get("importtype")).lower())
    if import_type is None:
        raise wire.invalid(f"'importType' has to be one of {', '.join(sorted(call.dialect.import_types))}.")
    return import_type


def _change(ingestion: Ingestion, body: dict[str, Any]) -> None:
    """Set the members that a body has, or refuse it as a whole."""
    changes = {}
    for name, attribute, kind in _MEMBERS:
        if name in body:
            value = body[name] if body[name] is not None else (False if kind is bool else None)
            if value is not None and not isinstance(value, kind):
                raise wire.invalid(f"'{name}' has to be a {'boolean' if kind is bool else 'string'}.")
            changes[attribute] = value
    for import_type, (wire_name, attribute) in _URL_OF_TYPE.items():
        if import_type != ingestion.import_type and changes.get(attribute) is not None:
            raise wire.invalid(f"'{wire_name}' does not go with 'importType' {ingestion.import_type}.")
    wire_name, required = _URL_OF_TYPE[ingestion.import_type]
    url = changes.get(required, getattr(ingestion, required))
    if not isinstance(url, str) or not _is_absolute(url):
        raise wire.invalid(f"'{wire_name}' has to be an absolute URL.")
    for attribute, value in changes.items():
        setattr(ingestion, attribute, value)


def _is_absolute(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that hold no address
        return False
    return parts.scheme == "file" or (parts.scheme in ("http", "https") and bool(parts.netloc))
