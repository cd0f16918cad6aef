"""Say in asset events what a task has brought about."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

__all__ = ["collection_extent", "items_extent", "news_of", "tell_outlets"]

#: Members of results that say how many items something was done to; the service's counts are in ``items``.
_COUNTED = ("created", "replaced", "deleted", "missing", "skipped")
_IDS = ("operation_id", "run_id", "ingestion_id", "action", "status", "watermark")


def news_of(result: Any) -> dict[str, Any]:
    """
    Return what a task's result says of a collection, in one form for all operators; nothing if it says nothing.

    :param result: The task's result, or what the error of a failed task says.
    :return: ``collection_id``, ``counts``, ``bbox``, ``interval`` and, where there are such, the ids of the operation
        or run, the ``action``, the ``status`` and the ``watermark``.
    """
    if not isinstance(result, dict) or not result.get("collection_id"):
        return {}
    counts = next((dict(part) for part in map(result.get, ("counts", "items")) if isinstance(part, dict)), {})
    counts |= {name: result[name] for name in _COUNTED if type(result.get(name)) is int}
    ids = {name: result[name] for name in _IDS if result.get(name) is not None}
    match result:
        case {"operation": {"operation_id": str(only)}} | {"operations": [str(only)]}:
            ids["operation_id"] = only
    return {
        "collection_id": result["collection_id"],
        "counts": counts,
        "bbox": result.get("bbox"),
        "interval": result.get("interval"),
        **ids,
    }


def tell_outlets(
    context: Context, outlets: Iterable[Any], extra: Mapping[str, Any], *, extent: Callable[[], Mapping[str, Any]]
) -> None:
    """
    Put something into the events of a task's outlets.

    :param context: The task's context.
    :param outlets: The task's outlets; only assets have events.
    :param extra: JSON object for the events' ``extra``.
    :param extent: Asked for ``bbox`` and ``interval`` if there are events and ``extra`` has none.
    """
    from airflow_provider_geocatalog.api.errors import GeoCatalogError

    events: Any = context.get("outlet_events")
    assets = [outlet for outlet in outlets or () if _is_asset(outlet)]
    if events is None or not assets or not extra:
        return
    told = dict(extra)
    if not (told.get("bbox") or told.get("interval")):
        # The work is done, and does not fail because nobody can say where: a file may be gone, the service busy.
        with suppress(GeoCatalogError):
            told.update(extent())
    for asset in assets:
        events[asset].extra.update(told)


def _is_asset(outlet: Any) -> bool:
    """Return whether an outlet is an asset, or refers to one; aliases and files have no event of their own."""
    try:
        from airflow.sdk.definitions.asset import AssetRef
    except ImportError:  # Airflow 2
        return bool(getattr(outlet, "uri", None))
    return bool(getattr(outlet, "uri", None)) or isinstance(outlet, AssetRef)


def items_extent(items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return where and when items are, as ``bbox`` and ``interval``."""
    from airflow_provider_geocatalog.transfer.preparing import Extent

    extent = Extent()
    for item in items:
        extent.add(dict(item))
    return extent.to_json()


def collection_extent(hook: GeoCatalogHook, collection_id: str) -> dict[str, Any]:
    """Return where and when a collection says that it is, as ``bbox`` and ``interval``; the whole of it, in one."""
    from airflow_provider_geocatalog.api.operations.collections import get_collection

    extent: Any = hook.run(get_collection(collection_id)).get("extent")
    try:
        # The first one is the whole of it, the others are its parts (STAC 1.0.0).
        (bbox, *_), (interval, *_) = extent["spatial"]["bbox"], extent["temporal"]["interval"]
    except (KeyError, TypeError, ValueError):
        return {}
    return {"bbox": bbox, "interval": interval}
