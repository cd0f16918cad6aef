"""Find out whether a source has items that are newer than those that were seen."""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.numbers import seconds, whole_number
from airflow_provider_geocatalog.transfer.source import ItemSourceError
from airflow_provider_geocatalog.transfer.windows import WINDOW_FIELDS, Window, item_moment, moment, moment_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_geocatalog.transfer.preparing import Extent
    from airflow_provider_geocatalog.transfer.source import Environment, ItemSource

__all__ = ["NewItems", "NewItemsQuery", "NewItemsWatch"]

log = logging.getLogger(__name__)

_IDS_TOLD = 100


@dataclass(frozen=True)
class NewItemsQuery:
    """
    What counts as new, and how much of it is waited for.

    :param after: Items are new whose moment is after this one; RFC 3339.
    :param field: The property that their moments are of, one of :data:`~.windows.WINDOW_FIELDS`.
    :param overlap: Seconds by which the window begins earlier in which they are to be transferred, for late arrivals.
    :param min_items: How many there have to be.
    :param max_count: Count no more than this.
    :raises GeoCatalogInvalidInput: There is no such field, moment or number.
    """

    after: str
    field: str = "updated"
    overlap: float = 0.0
    min_items: int = 1
    max_count: int = 1000

    def __post_init__(self) -> None:
        if self.field not in WINDOW_FIELDS:
            raise GeoCatalogInvalidInput(f"items are new by {', '.join(WINDOW_FIELDS)}, not by {self.field!r}")
        if moment(self.after) is None:
            raise GeoCatalogInvalidInput(
                f"new items are after a moment such as 2024-01-31T00:00:00Z, not {self.after!r}"
            )
        seconds(self.overlap, "overlap")
        if whole_number(self.min_items, "min_items") < 1 or whole_number(self.max_count, "max_count") < self.min_items:
            raise GeoCatalogInvalidInput(
                f"min_items has to be at least 1 and max_count no less, not {self.min_items} and {self.max_count}"
            )

    @property
    def since(self) -> datetime.datetime:
        """The moment after which items are new."""
        known = moment(self.after)
        assert known is not None  # noqa: S101 - it was refused otherwise
        return known


class _NewItem(NamedTuple):
    """What is told of a new item."""

    at: datetime.datetime
    item_id: str
    extent: Extent


@dataclass(frozen=True)
class NewItems:
    """
    What a source has in a window.

    :param window: The window; it has both ends.
    :param items: What is new.
    :param is_complete: Whether that is all.
    """

    window: Window
    items: list[_NewItem]
    is_complete: bool


class NewItemsWatch:
    """
    Looks whether a source has as many new items as are waited for.

    :param source: The source.
    :param query: What counts as new.
    """

    def __init__(self, source: ItemSource, query: NewItemsQuery) -> None:
        self.source, self.query = source, query
        self._count = 0

    def look(self, environment: Environment, *, is_over: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
        """
        Read what is new, blocking, and return what :meth:`tell` makes of it.

        :param environment: What the source is lent.
        :param is_over: Asked between pages whether nobody waits for the answer any more.
        :raises ItemSourceError: It cannot be read, or none of its items has the property by which they are new.
        """
        return self.tell(self.read(environment, is_over=is_over))

    def read(self, environment: Environment, *, is_over: Callable[[], bool] = lambda: False) -> NewItems:
        """
        Read what is new, blocking.

        Items of the future are left for a later look: one wrong date would otherwise hide all that comes before it.

        :param environment: What the source is lent.
        :param is_over: Asked between pages whether nobody waits for the answer any more.
        :raises ItemSourceError: It cannot be read, or none of its items has the property by which they are new.
        """
        from airflow_provider_geocatalog.transfer.preparing import Extent

        query, since = self.query, self.query.since
        window = Window(query.field, since, max(since, datetime.datetime.now(datetime.UTC)))
        found: dict[tuple[str, str], _NewItem] = {}
        for item in self._items(environment, window, is_over):
            at = item_moment(item, query.field)
            name = (str(item.get("collection")), str(item.get("id")))
            if at is None or at <= since or not window.holds(item) or name in found:
                continue
            if len(found) == query.max_count:
                return NewItems(window, list(found.values()), is_complete=False)
            extent = Extent()
            extent.add(item)
            found[name] = _NewItem(at, name[1], extent)
        return NewItems(window, list(found.values()), is_complete=True)

    def tell(self, found: NewItems) -> dict[str, Any] | None:
        """
        Return a JSON object about what is new; ``None`` if it is too little.

        :param found: What was read, from the query's moment on or from an earlier one.
        :return: ``count``, ``is_complete`` (whether all were counted), ``watermark`` (the latest moment of those),
            ``window`` (where all of them are), ``ids`` of the first hundred, ``bbox`` and ``interval``.
        """
        from airflow_provider_geocatalog.transfer.preparing import Extent

        query, since = self.query, self.query.since
        news = [one for one in found.items if one.at > since]
        self._count = len(news)
        if len(news) < query.min_items:
            return None
        extent = Extent()
        for one in news:
            extent.merge(one.extent)
        return {
            "count": len(news),
            "is_complete": found.is_complete,
            "watermark": moment_text(max(one.at for one in news)),
            "window": replace(found.window, start=since - datetime.timedelta(seconds=query.overlap)).to_json(),
            "ids": [one.item_id for one in news[:_IDS_TOLD]],
            **extent.to_json(),
        }

    def _items(self, environment: Environment, window: Window, is_over: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """Yield the items that have a moment."""
        dated = undated = 0
        for page in self.source.pages(environment, window):
            if is_over():
                return
            for item in page.items:
                if item_moment(item, window.field) is None:
                    undated += 1
                else:
                    dated += 1
                    yield item
        if undated and not dated:
            raise ItemSourceError(
                f"none of the {undated} items of {self.source.describe()} has {window.field!r}, by which they are new",
                hint="Choose another field.",
            )
        if undated:
            log.warning(
                "%s has %d items without %r, which do not count.", self.source.describe(), undated, window.field
            )

    def describe(self) -> str:
        """Return in a sentence without its end how much was new at the last look."""
        query = self.query
        return (
            f"{self.source.describe()} has {self._count} items whose {query.field!r} is after "
            f"{moment_text(query.since)}; {query.min_items} are waited for"
        )
