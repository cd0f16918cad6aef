"""Find the items that a change is about, and see that deleted ones are gone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.flows.items import present_items
from airflow_provider_geocatalog.api.http import Now, Pause
from airflow_provider_geocatalog.api.operations.items import search

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_geocatalog.api.http import Flow

__all__ = ["CONDITIONS", "checked_conditions", "count_text", "matching_item_ids", "remaining_items"]

log = logging.getLogger(__name__)

#: What a search for items to change may ask for.
CONDITIONS = frozenset({"bbox", "intersects", "datetime", "query", "filter", "filter_crs", "filter_lang"})
_PAGE = 1000  # ids; the service gives up to 10,000 items on a page
_COUNTED = 10_000  # items beyond a bound that are counted for the message
_LONGEST_PAUSE = 15.0  # seconds between looks whether items are gone


def checked_conditions(conditions: Any) -> dict[str, Any]:
    """
    Return the conditions of a search for items of a collection.

    A condition without a value is refused: it would widen the search to everything, as when a template renders to
    nothing.

    :raises GeoCatalogInvalidInput: They are none.
    """
    if not isinstance(conditions, dict):
        raise GeoCatalogInvalidInput(f"search has to be an object of conditions, not {type(conditions).__name__}")
    problems = [
        f"search has no condition {name!r}; known are {', '.join(sorted(CONDITIONS))}"
        for name in sorted(set(map(str, conditions)) - CONDITIONS)
    ]
    problems += [
        f"the condition {name!r} of search has no value"
        for name, value in conditions.items()
        if value is None or value == "" or value == [] or value == {}
    ]
    if problems:
        raise GeoCatalogInvalidInput(problems)
    search(**conditions)  # refuses what is malformed
    return dict(conditions)


def matching_item_ids(
    collection_id: str, conditions: Mapping[str, Any], *, most: int | None = None
) -> Flow[tuple[list[str], int]]:
    """
    Return the ids of a collection's items that match, and how many there are.

    :param conditions: As :func:`checked_conditions` returns them; none for all items.
    :param most: If more match, no ids are returned; they are counted up to 10,000 beyond.
    """
    pages = search(collections=[collection_id], limit=_PAGE, fields={"include": ["id", "collection"]}, **conditions)
    found: dict[str, None] = {}
    while (page := (yield from pages.next_page())) is not None:
        found.update((str(item["id"]), None) for item in page if "id" in item)
        if most is not None and len(found) > most + _COUNTED:
            break
    too_many = most is not None and len(found) > most
    return [] if too_many else list(found), len(found)


def count_text(count: int, most: int) -> str:
    """Return how many items match, as far as they were counted by :func:`matching_item_ids`."""
    return f"more than {most + _COUNTED}" if count > most + _COUNTED else str(count)


def remaining_items(collection_id: str, item_ids: Sequence[str], *, within: float) -> Flow[list[str]]:
    """
    Return which deleted items can still be read after a while; the read side lags behind (geocatalog-api 7.5).

    :param within: Seconds to wait for them to be gone.
    """
    give_up: float = (yield Now()) + within
    remaining, pause = list(item_ids), 0.5
    while True:
        present = yield from present_items(collection_id, remaining)
        remaining = [item_id for item_id in remaining if item_id in present]
        now: float = yield Now()
        if not remaining or now >= give_up:
            return remaining
        log.info("%d deleted items can still be read; looking again.", len(remaining))
        yield Pause(min(pause, give_up - now))
        pause = min(_LONGEST_PAUSE, pause * 2)
