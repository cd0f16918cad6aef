"""Filters: SQL and cql2 agree on every item, types of queryables, and what is refused."""

from __future__ import annotations

import datetime
import json

import cql2
import pytest
import shapely.geometry
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_geocatalog.emulator.item_store import ItemStore, StoredItem
from airflow_provider_geocatalog.emulator.search import find
from airflow_provider_geocatalog.emulator.search_filter import MAX_DEPTH
from airflow_provider_geocatalog.emulator.search_request import Search
from airflow_provider_geocatalog.emulator.state import World
from airflow_provider_geocatalog.emulator.wire import ApiError

START = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
NAMES = ("a", "eo:b", "when", "missing")
numbers = st.integers(-3, 3) | st.sampled_from([0.5, -1.5])
texts = st.sampled_from(["", "a", "A", "ab", "b*", "[a]", "3", "true", "é", "a%"])
moments = st.sampled_from(["2024-01-02T00:00:00Z", "2024-01-03T12:00:00Z", "2023-12-31T23:00:00-01:00"])
values = st.none() | st.booleans() | numbers | texts | st.lists(texts | numbers, max_size=2)
points = st.tuples(st.integers(-3, 3), st.integers(-3, 3))


@st.composite
def boxes(draw):
    west, south = draw(points)
    east, north = west + draw(st.integers(1, 4)), south + draw(st.integers(1, 4))
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


geometries = st.one_of(
    points.map(lambda point: {"type": "Point", "coordinates": list(point)}),
    boxes().map(lambda ring: {"type": "Polygon", "coordinates": [ring]}),
    boxes().map(lambda ring: {"type": "Polygon", "coordinates": [[ring[0], ring[1], ring[2], ring[0]]]}),
    boxes().map(lambda ring: {"type": "LineString", "coordinates": ring[::2][:2]}),
)
properties = st.fixed_dictionaries({}, optional={"a": values, "eo:b": values, "when": moments | numbers})
times = st.tuples(st.integers(0, 5), st.integers(0, 2))

name = st.sampled_from(NAMES).map(lambda one: {"property": one})
scalars = st.booleans() | numbers | texts
timestamps = moments.map(lambda text: {"timestamp": text})
dates = st.sampled_from(["2024-01-02", "2024-01-03"]).map(lambda text: {"date": text})
intervals = st.tuples(moments | st.just(".."), moments | st.just("..")).map(lambda pair: {"interval": list(pair)})
WHEN, WHERE = {"property": "datetime"}, {"property": "geometry"}


def operation(operators, *args):
    return st.builds(lambda op, *args: {"op": op, "args": list(args)}, st.sampled_from(operators), *args)


comparisons = ["=", "<>", "<", "<=", ">", ">="]
predicates = st.one_of(
    operation(comparisons, name, scalars),
    operation(comparisons, scalars, name),
    operation(comparisons, name, name),
    operation(comparisons, st.just({"property": "when"}), timestamps),
    operation(comparisons, st.just(WHEN), timestamps),
    operation(comparisons, operation(["+", "-"], name, numbers), numbers),
    operation(["="], operation(["casei"], name), operation(["casei"], texts)),
    operation(["between"], name, numbers, numbers),
    operation(["in"], name, st.lists(scalars, min_size=1, max_size=3)),
    operation(["in"], st.just({"property": "id"}), st.lists(st.sampled_from(["0", "1", "9"]), min_size=1, max_size=2)),
    operation(["like"], name, st.sampled_from(["a%", "%", "_", "[a]", "%*", "A_", "a\\%"])),
    operation(["isNull"], name),
    operation(["a_contains", "a_overlaps", "a_equals"], name, st.lists(texts, min_size=1, max_size=2)),
    operation(["s_intersects", "s_disjoint", "s_within", "s_contains", "s_touches"], st.just(WHERE), geometries),
    operation(["s_intersects", "s_within"], geometries, st.just(WHERE)),
    operation(
        ["t_before", "t_after", "t_intersects", "t_disjoint", "t_during", "t_equals", "t_meets", "t_finishes"],
        st.just(WHEN),
        timestamps | dates | intervals,
    ),
)
expressions = st.recursive(
    predicates | st.booleans(),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda args: {"op": "and", "args": args}),
        st.lists(inner, min_size=2, max_size=3).map(lambda args: {"op": "or", "args": args}),
        inner.filter(lambda one: isinstance(one, dict)).map(lambda one: {"op": "not", "args": [one]}),
    ),
    max_leaves=4,
)


def stored(number, members, geometry, time, collection="demo"):
    start = START + datetime.timedelta(days=time[0])
    end = start + datetime.timedelta(days=time[1])
    text = None if time[1] else start.isoformat().replace("+00:00", "Z")
    document = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": str(number),
        "collection": collection,
        "geometry": geometry,
        "properties": {"datetime": text, "start_datetime": start.isoformat(), "end_datetime": end.isoformat()}
        | members,
        "links": [],
        "assets": {},
    }
    return StoredItem(document, start, end, shapely.geometry.shape(geometry))


def filled(items):
    store = ItemStore()
    view = store.items_of("demo")
    for item in items:
        view[item.id] = item
    return store


def found(store, types=None, **body):
    page = find(Search.from_body({"limit": 100, **body}), store, types or {})
    return [document["id"] for document in page.documents]


def matches(expression, item):
    members = item.document["properties"]
    moment = members["datetime"] or members["start_datetime"]  # what a filter takes for it where it is null
    document = {**item.document, "properties": {**members, "datetime": moment}}
    try:
        return expression.matches(document)
    except Exception:
        return False


several = st.lists(st.tuples(properties, geometries, times), max_size=6)


@settings(max_examples=300, deadline=None)
@given(items=several, expression=expressions, index=st.booleans())
def test_sql_and_cql2_agree_on_every_item(items, expression, index):
    built = [stored(number, *parts) for number, parts in enumerate(items)]
    store = filled(built)
    store.index(["a", "eo:b"] if index else [])

    answer = found(store, filter=expression)

    wanted = cql2.Expr(json.loads(json.dumps(expression)))
    assert sorted(answer) == sorted(item.id for item in built if matches(wanted, item))


@pytest.mark.parametrize(
    ("data_type", "value", "literal", "found_without"),
    [
        ("timestamp", "2024-01-01T12:00:00+02:00", "2024-01-01T10:00:00Z", False),
        ("date", "2024-01-01", "2024-01-01T00:00:00Z", False),
        ("number", 10, "10", False),
        ("string", "10", 10, False),
        ("boolean", True, "true", False),
        ("string", "x", "x", True),
    ],
)
def test_a_data_type_says_how_a_literal_is_read(data_type, value, literal, found_without):
    store = filled([stored(1, {"a": value}, {"type": "Point", "coordinates": [0, 0]}, (0, 0))])
    equal = {"op": "=", "args": [{"property": "a"}, literal]}

    for demand in ({"filter": equal}, {"query": {"a": {"eq": literal}}}):
        assert found(store, {"a": data_type}, **demand) == ["1"]
        assert bool(found(store, **demand)) == found_without


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("datetime >= '2024-01-02'", ["2", "1"]),
        ("datetime < DATE('2024-01-03')", ["1", "0"]),
        ("datetime = '2024-01-02T01:00:00+01:00'", ["1"]),
        ("datetime IS NULL", []),
        ("T_DURING(datetime, INTERVAL('2024-01-01', '..'))", ["2", "1"]),
        ("T_BEFORE(datetime, DATE('2024-01-03'))", ["1", "0"]),
    ],
)
def test_a_filter_takes_the_beginning_of_an_item_without_datetime(text, expected):
    point = {"type": "Point", "coordinates": [0, 0]}
    store = filled([stored(number, {}, point, (number, number)) for number in range(3)])

    assert found(store, filter=text) == expected


def test_collections_that_disagree_on_a_type_leave_literals_as_they_are():
    world = World()
    for collection_id, data_type in (("one", "number"), ("two", "string"), ("three", None)):
        collection = world.add_collection({"id": collection_id}, 0.0)
        collection.queryables["a"] = {"name": "a", "data_type": data_type, "create_index": False}

    assert world.data_types(["one", "three", "nope"]) == {"a": "number"}
    assert world.data_types(None) == {}


def deep(levels, inner):
    for _ in range(levels):
        inner = {"op": "not", "args": [inner]}
    return inner


EQUAL = {"op": "=", "args": [{"property": "a"}, 1]}


@pytest.mark.parametrize(
    "filter_",
    [
        deep(1000, EQUAL),
        "NOT " * 1000 + "a = 1",
        "(" * 1000 + "a = 1" + ")" * 1000,
        "a" + " = a" * 5000,
        "a = " + "- " * 5000 + "1",
        {"op": "and", "args": [EQUAL]},
        {"op": "and", "args": [EQUAL, "a = 1"]},
        {"op": "=", "args": [{"property": "a"}]},
        {"op": "frobnicate", "args": [1]},
        {"op": "in", "args": [{"property": "a"}, 1]},
        {"op": ">", "args": [{"property": "a"}, {"timestamp": "yesterday"}]},
        {"op": "s_intersects", "args": [{"property": "geometry"}, {"type": "Nope"}]},
        {"property": "a"},
        "a",
        "a = ",
        5,
        [],
    ],
)
def test_what_is_no_filter_is_refused(filter_):
    store = filled([])

    with pytest.raises(ApiError) as refusal:
        found(store, filter=filter_)
    assert (refusal.value.status, refusal.value.code) == (400, "BadRequestError")


def test_a_filter_may_be_as_deep_as_is_said():
    store = filled([stored(1, {"a": 1}, {"type": "Point", "coordinates": [0, 0]}, (0, 0))])

    assert found(store, filter=deep(MAX_DEPTH - 4, EQUAL)) == ["1"]
    assert found(store, filter=" OR ".join(f"a = {number}" for number in range(2000))) == ["1"]


def test_the_older_cql_is_refused_by_name_and_cql2_is_taken_for_it():
    store = filled([])

    with pytest.raises(ApiError, match="older CQL"):
        found(store, **{"filter": {"eq": [{"property": "a"}, 1]}, "filter-lang": "cql-json"})
    assert found(store, **{"filter": EQUAL, "filter-lang": "cql-json"}) == []


@pytest.mark.parametrize("name", ["a'; DROP TABLE items; --", 'a"b', "a\\b", "$x", "a[0]", "é"])
def test_a_name_is_never_more_than_a_name(name):
    store = filled([stored(1, {name: 1}, {"type": "Point", "coordinates": [0, 0]}, (0, 0))])
    store.index([name])

    found(store, filter={"op": "=", "args": [{"property": name}, 1]}, sortby=[{"field": name}])

    assert found(store, query={name: {"eq": 1}}) == found(store) == ["1"]
