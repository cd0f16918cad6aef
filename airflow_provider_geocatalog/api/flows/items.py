"""Look for items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.errors import GeoCatalogProtocolError
from airflow_provider_geocatalog.api.flows.calls import call

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_geocatalog.api.http import Flow

__all__ = ["present_items"]

_IDS_PER_SEARCH = 100


def present_items(collection_id: str, item_ids: Sequence[str]) -> Flow[set[str]]:
    """Return which of some items are in a collection: one search per hundred ids."""
    found: set[str] = set()
    for batch in _batches(item_ids, _IDS_PER_SEARCH):
        body = {
            "collections": [collection_id],
            "ids": batch,
            "limit": len(batch),
            "fields": {"include": ["id", "collection"]},
        }
        page = yield from call(endpoints.SEARCH, body=body)
        features = page.get("features") if isinstance(page, dict) else None
        if not isinstance(features, list):
            raise GeoCatalogProtocolError("a list of items was expected", method="POST", path=endpoints.SEARCH.path)
        found |= {str(feature["id"]) for feature in features if isinstance(feature, dict) and "id" in feature}
    return found


def _batches(values: Sequence[str], size: int) -> Iterable[list[str]]:
    return (list(values[start : start + size]) for start in range(0, len(values), size))
