"""Look for items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_geocatalog.api.operations.items import search

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_geocatalog.api.http import Flow

__all__ = ["present_items"]

_IDS_PER_SEARCH = 100


def present_items(collection_id: str, item_ids: Sequence[str]) -> Flow[set[str]]:
    """Return which of some items are in a collection: one search per hundred ids."""
    found: set[str] = set()
    for batch in _batches(item_ids, _IDS_PER_SEARCH):
        page = yield from search(
            collections=[collection_id], ids=batch, limit=len(batch), fields={"include": ["id", "collection"]}
        ).next_page()
        found |= {str(item["id"]) for item in page or () if "id" in item}
    return found


def _batches(values: Sequence[str], size: int) -> Iterable[list[str]]:
    return (list(values[start : start + size]) for start in range(0, len(values), size))
