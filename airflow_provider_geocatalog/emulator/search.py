"""Finding items and putting them in order (7.5, 7.6)."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_geocatalog.emulator.item_store import microseconds
from airflow_provider_geocatalog.emulator.search_conditions import Conditions, Sql, joined, json_path, listed, path_of
from airflow_provider_geocatalog.emulator.search_filter import filter_condition, honoured
from airflow_provider_geocatalog.emulator.search_query import query_condition
from airflow_provider_geocatalog.emulator.wire import bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_geocatalog.emulator.item_store import ItemStore
    from airflow_provider_geocatalog.emulator.search_request import Search

__all__ = ["Page", "find", "project"]

#: Always in an answer, whatever ``fields`` says, so that an item is recognisable (as pgstac does).
_ALWAYS_INCLUDED = ("id", "type", "collection")

#: Up to how many items an index other than the order's may give; sorting more takes longer than walking in order.
_FEW = 2000


class Page(NamedTuple):
    """
    Documents of items in order.

    :param next_token: Token of the page after, if there is one.
    :param previous_token: Token of the page before, if there is one.
    """

    documents: list[dict[str, Any]]
    next_token: str | None
    previous_token: str | None


class _Key(NamedTuple):
    """What items are sorted by."""

    sql: Sql
    descending: bool


def find(search: Search, store: ItemStore, types: Mapping[str, str]) -> Page:
    """
    Return the page of items that a search asks for.

    :param types: Data types of properties, by name (7.7).
    :raises ApiError: Its filter or its token is not usable.
    """
    numbers = None if search.collections is None else store.numbers(search.collections)
    if numbers is None and store.has_dropped:
        numbers = store.all_numbers()
    conditions = Conditions(store, numbers, {"datetime": "timestamp", **types})
    demands = _demands(search, conditions)
    keys = _keys(search, store)
    backward, position = _position(search.token, store, keys)
    if backward:
        keys = [_Key(key.sql, not key.descending) for key in keys]
    if position:
        demands.append(_after(keys, position))
    if numbers == []:
        return Page([], None, None)
    items = _selected(search, conditions, demands, keys)
    more, items = len(items) > search.limit, items[: search.limit]
    if backward:
        items.reverse()
    documents = store.documents(items)
    if not documents:
        return Page([], None, None)
    # The item that the token names is on the other side of the page.
    follows, precedes = (True, more) if backward else (more, position is not None)
    return Page(
        documents,
        _token("next", documents[-1]) if follows else None,
        _token("prev", documents[0]) if precedes else None,
    )


def _selected(search: Search, conditions: Conditions, demands: Sequence[Sql], keys: Sequence[_Key]) -> list[int]:
    """Return the items of a page and one more, if there is one."""
    query = Sql("SELECT items.item FROM ") + _source(search, conditions, keys)
    if demands:
        query += Sql(" WHERE ") + joined("AND", demands)
    query += Sql(" ORDER BY ")
    for place, key in enumerate(keys):
        direction = "DESC" if key.descending else "ASC"
        query += Sql(f"{', ' if place else ''}{key.sql.text} {direction}", key.sql.parameters)
    query += Sql(" LIMIT ?", (search.limit + 1,))
    try:
        rows = conditions.store.select(query.text, query.parameters, conditions.tests)
    except sqlite3.OperationalError as error:
        if "stack overflow" in str(error) or "too large" in str(error) or "too many" in str(error):
            raise bad_request("The search is too complex: ask for less at once.") from None
        if not conditions.is_exhausted:
            raise
        conditions.relate_all()
        return _selected(search, conditions, demands, keys)
    return [item for (item,) in rows]


def _demands(search: Search, conditions: Conditions) -> list[Sql]:
    demands: list[Sql] = []
    if conditions.collections is not None:
        many = len(conditions.collections) != 1
        one = Sql("items.collection = ?", tuple(conditions.collections))  # an index serves this with its order
        demands.append(listed("items.collection", conditions.collections) if many else one)
    if search.interval is not None:
        start, end = (None if moment is None else microseconds(moment) for moment in search.interval)
        if end is not None:
            demands.append(Sql('items."start" <= ?', (end,)))
        if start is not None:
            demands.append(Sql('items."end" >= ?', (start,)))
            demands.append(Sql('items."start" >= ?', (start - conditions.store.longest,)))
    if search.area is not None:
        demands.append(conditions.spatial("s_intersects", search.area, drives=True))
    for name, wanted in search.query.items():
        demands.append(query_condition(name, wanted, conditions))
    if search.filter is not None:
        demands.append(filter_condition(honoured(search.filter, conditions.types), conditions))
    return demands


def _source(search: Search, conditions: Conditions, keys: Sequence[_Key]) -> Sql:
    """Return where to look: the smallest selection that an index gives, else all items in their order."""
    store = conditions.store
    if search.ids is not None:
        ids = Sql("(SELECT DISTINCT value AS id FROM json_each(?)) AS wanted", (json.dumps(sorted(search.ids)),))
        return ids + Sql(" CROSS JOIN items INDEXED BY items_by_id ON items.id = wanted.id")
    fewest, least = None, _FEW + 1
    for driver in conditions.drivers:
        counted = Sql("SELECT count(*) FROM (") + driver + Sql(" LIMIT ?)", (least,))
        [(count,)] = store.select(counted.text, counted.parameters)
        if count < least:
            fewest, least = driver, count
    if fewest is not None:
        return Sql("(") + fewest + Sql(") AS chosen CROSS JOIN items ON items.item = chosen.item")
    one = conditions.collections is not None and len(conditions.collections) == 1
    if keys[0].sql.text == _START:
        return Sql(f"items INDEXED BY {'items_of_collection' if one else 'items_in_order'}")
    index = store.indexed_value(_sorted_name(search))
    return Sql(f"items INDEXED BY {index[0]}") if one and index else Sql("items")


_START = 'items."start"'


def _sorted_name(search: Search) -> str:
    return search.sortby[0][0].removeprefix("properties.") if search.sortby else "datetime"


def _keys(search: Search, store: ItemStore) -> list[_Key]:
    """Return the sort keys, newest first where nothing else is asked; ids break ties (7.6), ascending or descending."""
    keys: list[_Key] = []
    for name, descending in search.sortby or (("datetime", True),):
        if name.removeprefix("properties.") == "datetime":
            keys.append(_Key(Sql(_START), descending))
        elif name in ("id", "collection"):
            column = "items.id" if name == "id" else "(SELECT id FROM collections WHERE number = items.collection)"
            keys.append(_Key(Sql(column), descending))
        else:
            for value in _sorted_value(name, store):
                keys.append(_Key(value, descending))
    last = keys[-1].descending if keys else True
    keys += [_Key(Sql("items.id"), last), _Key(Sql("items.item"), last)]
    return keys


def _sorted_value(name: str, store: ItemStore) -> list[Sql]:
    """Return what to sort by for a property; items without it come last, or first where it descends, as in pgstac."""
    parts = path_of(name)
    if parts is None:
        return []
    indexed = store.indexed_value(parts[0]) if len(parts) == 1 else None
    if indexed:
        value = Sql(indexed[1])
    elif not name.startswith("properties.") and store.is_root_member(parts[0]):
        text = "(SELECT json_extract(rest, ?) FROM documents WHERE documents.item = items.item)"
        value = Sql(text, (json_path(parts),))
    else:
        value = Sql("json_extract(items.properties, ?)", (json_path(parts),))
    return [Sql(f"({value.text} IS NULL)", value.parameters), value]


def _token(direction: str, document: Mapping[str, Any]) -> str:
    return f"{direction}:{document['collection']}:{document['id']}"  # as pgstac writes it (service-open-questions P9)


def _position(token: str | None, store: ItemStore, keys: Sequence[_Key]) -> tuple[bool, tuple[Any, ...] | None]:
    """Return whether a token leads backward, and the sort keys' values of the item that it names."""
    if token is None:
        return False, None
    direction, _, rest = token.partition(":")
    collection_id, _, item_id = rest.partition(":")  # neither id can have a colon (4.1)
    rows: list[tuple[Any, ...]] = []
    if direction in ("next", "prev") and token.isprintable():
        columns = ", ".join(key.sql.text for key in keys)
        parameters = [parameter for key in keys for parameter in key.sql.parameters]
        for number in store.numbers([collection_id]):
            where = "items.id = ? AND items.collection = ?"
            rows = store.select(f"SELECT {columns} FROM items WHERE {where}", (*parameters, item_id, number))  # noqa: S608
    if not rows:
        raise bad_request(f"Token '{token}' is not valid.")
    return direction == "prev", rows[0]


def _after(keys: Sequence[_Key], position: Sequence[Any]) -> Sql:
    """Return that an item comes after a position: not a count of items, so that new ones move nothing."""
    if len({key.descending for key in keys}) == 1 and all(value is not None for value in position):
        sign = "<" if keys[0].descending else ">"
        columns = ", ".join(key.sql.text for key in keys)
        marks = ", ".join("?" for _ in keys)
        parameters = tuple(parameter for key in keys for parameter in key.sql.parameters)
        return Sql(f"({columns}) {sign} ({marks})", (*parameters, *position))
    condition = Sql("0")
    for key, value in zip(reversed(keys), reversed(position), strict=True):
        sign = "<" if key.descending else ">"
        after = Sql(f"({key.sql.text} {sign} ? OR ({key.sql.text} IS ? AND ")
        condition = Sql(after.text, (*key.sql.parameters, value, *key.sql.parameters, value)) + condition + Sql("))")
    return condition


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
