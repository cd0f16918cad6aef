"""Finding items and putting them in order (7.5, 7.6)."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.emulator.wire import bad_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_provider_geocatalog.emulator.search_request import Search
    from airflow_provider_geocatalog.emulator.state import StoredItem

__all__ = ["Page", "find", "project"]

#: Always in an answer, whatever ``fields`` says, so that an item is recognisable (as pgstac does).
_ALWAYS_INCLUDED = ("id", "type", "collection")

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "startsWith": lambda value, start: str(value).startswith(start),
    "endsWith": lambda value, end: str(value).endswith(end),
    "contains": lambda value, part: part in value,
    "in": lambda value, options: value in options,
}


@dataclass(frozen=True)
class Page:
    """
    Items in order.

    :param next_token: Token of the page after, if there is one.
    """

    items: list[StoredItem]
    next_token: str | None


def find(search: Search, items: Iterable[StoredItem]) -> Page:
    """
    Return the page of items that a search asks for.

    :raises ApiError: Its token leads nowhere.
    """
    found = _sorted((item for item in items if _matches(search, item)), search.sortby)
    begin = 0
    if search.token:
        begin = next((n + 1 for n, item in enumerate(found) if _token(item) == search.token), -1)
        if begin < 0:
            raise bad_request(f"Token '{search.token}' is not valid.")
    page = found[begin : begin + search.limit]
    more = len(found) > begin + search.limit
    return Page(page, _token(page[-1]) if more and page else None)


def _token(item: StoredItem) -> str:
    return f"next:{item.collection}:{item.id}"  # as pgstac writes it (service-open-questions P9)


def _matches(search: Search, item: StoredItem) -> bool:
    if search.collections is not None and item.collection not in search.collections:
        return False
    if search.ids is not None and item.id not in search.ids:
        return False
    if search.interval is not None:
        start, end = search.interval
        if (start is not None and item.end < start) or (end is not None and item.start > end):
            return False
    if search.area is not None and not search.area.intersects(item.shape):
        return False
    if not all(_compares(_value(item.document, name), wanted) for name, wanted in search.query.items()):
        return False
    return search.filter is None or _passes(search.filter, item)


def _compares(value: Any, wanted: Mapping[str, Any]) -> bool:
    try:
        return value is not None and all(_COMPARISONS[name](value, operand) for name, operand in wanted.items())
    except TypeError:  # a number compared with a text
        return False


def _passes(expression: Any, item: StoredItem) -> bool:
    try:
        return bool(expression.matches(item.document))
    except Exception:  # cql2 has no narrower one; an absent property makes the comparison unknown, so no match
        return False


def _value(document: Mapping[str, Any], name: str) -> Any:
    """Return a member by its name in queries: a root member, or a property with or without ``properties.``."""
    if name in document and name != "properties":
        return document[name]
    return document["properties"].get(name.removeprefix("properties."))


def _sorted(items: Iterable[StoredItem], sortby: tuple[tuple[str, bool], ...]) -> list[StoredItem]:
    """Sort, newest first where nothing else is asked; ids break ties in the direction of the last field (7.6)."""
    keys = sortby or (("datetime", True),)
    found = sorted(items, key=lambda item: (item.id, item.collection), reverse=keys[-1][1])
    for name, descending in reversed(keys):
        found.sort(key=lambda item, name=name: _sort_key(item, name), reverse=descending)  # type: ignore[misc]
    return found


def _sort_key(item: StoredItem, name: str) -> tuple[int, Any]:
    if name.removeprefix("properties.") == "datetime":
        return (1, item.start)
    value = _value(item.document, name)
    if isinstance(value, int | float):
        return (1, value)
    return (0, "") if value is None else (2, value if isinstance(value, str) else json.dumps(value))


def project(document: dict[str, Any], search: Search) -> dict[str, Any]:
    """Return the members of an item that ``fields`` asks for."""
    if search.include:
        document = _pick(document, (*_ALWAYS_INCLUDED, *search.include))
    for name in search.exclude:
        document = _drop(document, name.split("."))
    return document


def _pick(document: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    picked: dict[str, Any] = {}
    for name in names:
        source, target = document, picked
        *parents, last = name.split(".")
        for parent in parents:
            if not isinstance(source.get(parent), dict):
                break
            source, target = source[parent], target.setdefault(parent, {})
        else:
            if last in source:
                target[last] = source[last] if not isinstance(source[last], dict) else dict(source[last])
    return picked


def _drop(document: dict[str, Any], path: list[str]) -> dict[str, Any]:
    head, *rest = path
    if head not in document:
        return document
    if not rest:
        return {name: value for name, value in document.items() if name != head}
    inner = document[head]
    return {**document, head: _drop(inner, rest)} if isinstance(inner, dict) else document
