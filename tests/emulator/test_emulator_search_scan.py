"""Searches find what a scan in plain Python finds, in the same order, page by page."""

from __future__ import annotations

import datetime
import functools

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_geocatalog.emulator.item_store import ItemStore, StoredItem
from airflow_provider_geocatalog.emulator.search import find
from airflow_provider_geocatalog.emulator.search_request import Search

START = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
COLLECTIONS = ("one", "two", "three")

corners = st.tuples(st.integers(-4, 4), st.integers(-4, 4), st.integers(1, 5), st.integers(1, 5))


def ring(corner):
    west, south, width, height = corner
    return [
        [west, south],
        [west + width, south],
        [west + width, south + height],
        [west, south + height],
        [west, south],
    ]


def box(corner):
    west, south, width, height = corner
    return [west, south, west + width, south + height]


simple = st.one_of(
    corners.map(lambda corner: {"type": "Point", "coordinates": list(corner[:2])}),
    corners.map(lambda corner: {"type": "MultiPoint", "coordinates": ring(corner)[:2]}),
    corners.map(lambda corner: {"type": "LineString", "coordinates": ring(corner)[:3]}),
    corners.map(lambda corner: {"type": "MultiLineString", "coordinates": [ring(corner)[:2], ring(corner)[2:4]]}),
    corners.map(lambda corner: {"type": "Polygon", "coordinates": [ring(corner)]}),
    corners.map(lambda corner: {"type": "Polygon", "coordinates": [[*ring(corner)[:3], ring(corner)[0]]]}),
    corners.map(lambda corner: {"type": "MultiPolygon", "coordinates": [[ring(corner)]]}),
)
geometries = simple | st.lists(simple, min_size=1, max_size=3).map(
    lambda parts: {"type": "GeometryCollection", "geometries": parts}
)
values = (
    st.none() | st.integers(-2, 2) | st.sampled_from(["a", "b", "ab"]) | st.lists(st.sampled_from("ab"), max_size=2)
)
parts = st.tuples(
    st.sampled_from(COLLECTIONS[:2]),
    st.integers(0, 9).map(str),
    simple,
    st.tuples(st.integers(0, 4), st.integers(0, 3)),
    st.fixed_dictionaries({}, optional={"a": values, "b": values}),
)


def stored(collection_id, item_id, geometry, time, properties):
    start = START + datetime.timedelta(days=time[0])
    end = start + datetime.timedelta(days=time[1])
    document = {
        "type": "Feature",
        "id": item_id,
        "collection": collection_id,
        "geometry": geometry,
        "properties": {"datetime": start.isoformat(), **properties},
    }
    return StoredItem(document, start, end, shapely.geometry.shape(geometry))


def days(number):
    return START + datetime.timedelta(days=number)


intervals = st.one_of(
    st.integers(0, 6).map(lambda day: (f"{days(day).isoformat()}", days(day), days(day))),
    st.tuples(st.integers(0, 3), st.integers(3, 6)).map(
        lambda two: (f"{days(two[0]).isoformat()}/{days(two[1]).isoformat()}", days(two[0]), days(two[1]))
    ),
    st.integers(0, 6).map(lambda day: (f"../{days(day).isoformat()}", START - datetime.timedelta(9), days(day))),
    st.integers(0, 6).map(lambda day: (f"{days(day).isoformat()}/", days(day), days(99))),
)
comparisons = st.one_of(
    st.tuples(st.sampled_from(["eq", "neq", "lt", "lte", "gt", "gte"]), st.integers(-2, 2)),
    st.tuples(st.sampled_from(["eq", "neq", "startsWith", "endsWith", "contains"]), st.sampled_from(["a", "b", "ab"])),
    st.tuples(st.just("in"), st.lists(st.integers(-1, 1) | st.sampled_from("ab"), max_size=3)),
    st.tuples(st.just("eq"), st.lists(st.sampled_from("ab"), max_size=2)),
)
sorts = st.lists(
    st.tuples(st.sampled_from(["datetime", "properties.a", "b", "id", "collection"]), st.booleans()), max_size=3
)
searches = st.fixed_dictionaries(
    {},
    optional={
        "collections": st.lists(st.sampled_from(COLLECTIONS), min_size=1, max_size=3),
        "ids": st.lists(st.integers(0, 11).map(str), min_size=1, max_size=5),
        "area": st.one_of(corners.map(box), geometries),
        "interval": intervals,
        "query": st.tuples(st.sampled_from(["a", "properties.b", "datetime"]), comparisons),
    },
)

TESTS = {
    "eq": lambda value, other: value == other,
    "neq": lambda value, other: value != other,
    "lt": lambda value, other: value < other,
    "lte": lambda value, other: value <= other,
    "gt": lambda value, other: value > other,
    "gte": lambda value, other: value >= other,
    "startsWith": lambda value, other: isinstance(value, str) and value.startswith(other),
    "endsWith": lambda value, other: isinstance(value, str) and value.endswith(other),
    "contains": lambda value, other: other in value,
    "in": lambda value, other: value in other,
}


def holds(value, name, operand):
    try:
        return value is not None and TESTS[name](value, operand)
    except TypeError:
        return False


def matches(item, search):
    if "collections" in search and item.collection not in search["collections"]:
        return False
    if "ids" in search and item.id not in search["ids"]:
        return False
    if "area" in search:
        area = search["area"]
        shape = shapely.box(*area) if isinstance(area, list) else shapely.geometry.shape(area)
        if not shape.intersects(item.shape):
            return False
    if "interval" in search:
        _, start, end = search["interval"]
        if item.end < start or item.start > end:
            return False
    if "query" in search:
        name, (word, operand) = search["query"]
        return holds(item.document["properties"].get(name.removeprefix("properties.")), word, operand)
    return True


def rank(value):
    """As SQLite orders: numbers, texts, and nothing after all."""
    if value is None:
        return (2, 0)
    return (0, value) if isinstance(value, int) else (1, value if isinstance(value, str) else _json(value))


def _json(value):
    return "[" + ",".join(f'"{one}"' for one in value) + "]"


def position(item, sortby):
    """What decides where an item stands, and in which direction."""
    keys = [*(sortby or [("datetime", True)])]
    keys.append(("id", keys[-1][1]))
    known = {"datetime": item.start, "id": item.id, "collection": item.collection}
    properties = item.document["properties"]
    return [
        (known[name] if name in known else rank(properties.get(name.removeprefix("properties."))), descending)
        for name, descending in keys
    ]


def in_order(items, sortby):
    def compare(left, right):
        for (one, descending), (other, _) in zip(position(left, sortby), position(right, sortby), strict=True):
            if one != other:
                return (1 if one > other else -1) * (-1 if descending else 1)
        return 0

    return sorted(items, key=functools.cmp_to_key(compare))


def body_of(search, sortby):
    body = {name: search[name] for name in ("collections", "ids") if name in search}
    if "area" in search:
        body["bbox" if isinstance(search["area"], list) else "intersects"] = search["area"]
    if "interval" in search:
        body["datetime"] = search["interval"][0]
    if "query" in search:
        name, (word, operand) = search["query"]
        body["query"] = {name: {word: operand}}
    return body | {"sortby": [{"field": name, "direction": "desc" if down else "asc"} for name, down in sortby]}


def names(documents):
    return [(document["collection"], document["id"]) for document in documents]


@settings(max_examples=150, deadline=None)
@given(
    items=st.lists(parts, max_size=12, unique_by=lambda one: one[:2]),
    search=searches,
    sortby=sorts,
    limit=st.integers(1, 4),
    index=st.booleans(),
)
def test_a_search_finds_what_a_scan_finds_and_pages_through_it_both_ways(items, search, sortby, limit, index):
    store = ItemStore()
    store.index(["a"] if index else [])
    built = [stored(*one) for one in items]
    for item in built:
        store.items_of(item.collection)[item.id] = item
    body = {**body_of(search, sortby), "limit": limit}

    pages = [find(Search.from_body(body), store, {})]
    while pages[-1].next_token:
        pages.append(find(Search.from_body({**body, "token": pages[-1].next_token}), store, {}))

    expected = in_order([item for item in built if matches(item, search)], sortby)
    found = [one for page in pages for one in names(page.documents)]
    keys = {(item.collection, item.id): item for item in built}
    assert sorted(found) == sorted((item.collection, item.id) for item in expected)
    # Two collections can have the same id, and then nothing says which one is first.
    assert [position(keys[one], sortby) for one in found] == [position(item, sortby) for item in expected]
    assert all(len(page.documents) == limit for page in pages[:-1])
    back = pages[-1]
    for page in reversed(pages[:-1]):
        back = find(Search.from_body({**body, "token": back.previous_token}), store, {})
        assert names(back.documents) == names(page.documents)
    assert back.previous_token is None


@pytest.fixture
def many():
    """5,000 items, more than are related to an area one at a time."""
    store = ItemStore()
    items = store.items_of("one")
    with store.transaction():
        for number in range(5000):
            x, y = number % 100, number // 100
            line = {"type": "LineString", "coordinates": [[x, y], [x + 0.5, y + 0.4]]}
            items[str(number)] = stored("one", str(number), line, (number % 5, 0), {"a": number})
    return store


@pytest.mark.parametrize("operator", ["s_intersects", "s_disjoint", "s_touches"])
def test_an_area_is_related_to_many_items_as_to_few(many, operator):
    line = {"type": "LineString", "coordinates": [[0, 50], [100, 0.01], [50, 0.02]]}
    area, related = shapely.geometry.shape(line), getattr(shapely, operator.removeprefix("s_"))
    expected = {key for key, item in many.items_of("one").items() if related(area, item.shape)}
    spatial = {"op": operator, "args": [{"property": "geometry"}, line]}

    for demands in ({"filter": spatial}, {"filter": spatial, "sortby": ["+a"]}):
        page = find(Search.from_body({"limit": 10_000, **demands}), many, {})
        assert {document["id"] for document in page.documents} == expected


def test_new_items_do_not_move_the_pages_to_come(many):
    body = {"limit": 3, "filter": {"op": "<", "args": [{"property": "a"}, 10]}}
    first = find(Search.from_body(body), many, {})
    point = {"type": "Point", "coordinates": [0, 0]}
    for number in range(5):
        many.items_of("one")[f"new-{number}"] = stored("one", f"new-{number}", point, (9, 0), {"a": 0})

    second = find(Search.from_body({**body, "token": first.next_token}), many, {})

    assert [document["id"] for document in first.documents + second.documents] == ["9", "4", "8", "3", "7", "2"]
