"""Find out whether items can be read in a GeoCatalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.numbers import whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_geocatalog.api.http import Flow, Pages

__all__ = ["AwaitedItems"]

#: What a search for items may ask for, as in :func:`~airflow_provider_geocatalog.api.operations.items.search`.
_CONDITIONS = frozenset({"bbox", "intersects", "datetime", "query", "filter", "filter_crs", "filter_lang"})
_PAGE = 1000  # ids at a time
_MISSING_TOLD = 20
_IDS_TOLD = 100


class AwaitedItems:
    """
    Looks whether items are in a collection: certain ones, or so many that match a search.

    :param collection_id: The collection.
    :param ids: All of these.
    :param search: Conditions of a search; none for all items.
    :param min_items: How many have to match it.
    :raises GeoCatalogInvalidInput: They cannot be asked for.
    """

    def __init__(
        self,
        collection_id: str,
        ids: Sequence[str] | None = None,
        search: Mapping[str, Any] | None = None,
        min_items: int | None = None,
    ) -> None:
        if ids is not None and (search is not None or min_items is not None):
            raise GeoCatalogInvalidInput("items are waited for by their ids, or by a search and a number, not by both")
        if isinstance(ids, str) or not all(isinstance(one, str) and one for one in ids or ()):
            raise GeoCatalogInvalidInput("ids have to be a list of texts that are not empty")
        self.collection_id = collection_id
        self.ids = None if ids is None else list(dict.fromkeys(ids))
        self.search = None if search is None else dict(search)
        self.min_items = 1 if min_items is None else whole_number(min_items, "min_items")
        if not self.min_items:
            raise GeoCatalogInvalidInput("min_items has to be at least 1: no items need not be waited for")
        if unknown := sorted(set(self.search or {}) - _CONDITIONS):
            raise GeoCatalogInvalidInput(
                f"a search for items to wait for has {', '.join(sorted(_CONDITIONS))}, not {', '.join(unknown)}"
            )
        if self.search:
            self._pages()  # refuses conditions that make no sense
        self._missing = list(self.ids or ())
        self._count = 0

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that make it again."""
        if self.ids is not None:
            return {"collection_id": self.collection_id, "ids": self.ids}
        return {"collection_id": self.collection_id, "search": self.search, "min_items": self.min_items}

    def _pages(self) -> Pages[dict[str, Any]]:
        from airflow_provider_geocatalog.api.operations.items import search

        return search(
            collections=[self.collection_id],
            limit=min(self.min_items, _PAGE),
            fields={"include": ["id", "collection"]},
            **(self.search or {}),
        )

    def look(self) -> Flow[dict[str, Any] | None]:
        """
        Return a JSON object if they are there, with ``collection_id``, ``count``, and ``ids`` of the first hundred.

        An item that was there once is not asked for again.
        """
        from airflow_provider_geocatalog.api.flows.items import present_items

        if self.ids is None:
            pages, found = self._pages(), dict[str, None]()
            while len(found) < self.min_items and (page := (yield from pages.next_page())) is not None:
                found |= dict.fromkeys(str(item.get("id")) for item in page)
            self._count = len(found)
            ids, is_there = list(found), len(found) >= self.min_items
        else:
            present = yield from present_items(self.collection_id, self._missing)
            self._missing = [one for one in self._missing if one not in present]
            ids, is_there = self.ids, not self._missing
        if not is_there:
            return None
        return {"collection_id": self.collection_id, "count": len(ids), "ids": ids[:_IDS_TOLD]}

    def describe(self) -> str:
        """Return in a sentence without its end what was missing at the last look."""
        if self.ids is None:
            matching = " that match the search" if self.search else ""
            return f"collection {self.collection_id} has {self._count} items{matching}; {self.min_items} are waited for"
        named = ", ".join(self._missing[:_MISSING_TOLD])
        more = len(self._missing) - _MISSING_TOLD
        return (
            f"{len(self._missing)} of {len(self.ids)} items cannot be read in collection {self.collection_id}: {named}"
            + (f" and {more} more" if more > 0 else "")
        )
