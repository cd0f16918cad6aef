"""Filters: SQL and cql2 agree on every item, types of queryables, and what is refused."""

from __future__ import annotations

import contextlib
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
from airflow_provider_geocatalog.emulator.search_values import UndecidedError, compiled
from airflow_provider_geocatalog.emulator.state import World
from airflow_provider_geocatalog.emulator.wire import ApiError

START = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
NAMES = ("a", "eo:b", "when", "missing")
numbers = st.integers(-3, 3) | st.sampled_from([0.5, -1.5])
texts = st.sampled_from(
    ["", "a", "A", "ab", "b*", "[a]", "3", "true", "é", "É", "ΑΣ", "가", "\u1100\u1161", "a%", "it's"]
)
moments = st.sampled_from(["2024-01-02T00:00:00Z", "2024-01-03T12:00:00Z", "2023-12-31T23:00:00-01:00"])
large = st.sampled_from([2**53 + 1, 2**64 - 1, -(2**63), 1e300, -0.0])
odd = st.sampled_from([{"b": 1}, {"timestamp": "2024-01-02T00:00:00Z"}, {"property": "a"}, {"type": "Point"}])
members = st.none() | st.booleans() | numbers | large | texts
values = members | st.lists(members, max_size=3)
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
arithmetic = ["+", "-", "*", "/", "%", "div", "^"]
amounts = st.recursive(
    name | numbers | st.sampled_from([0, 2, 1e300, "3"]),
    lambda inner: operation(arithmetic, inner, inner),
    max_leaves=3,
).filter(lambda one: isinstance(one, dict))
folded = st.recursive(
    name | st.just({"property": "id"}) | texts, lambda inner: operation(["casei", "accenti"], inner), max_leaves=2
).filter(lambda one: isinstance(one, dict))
arrays = ["a_contains", "a_containedBy", "a_overlaps", "a_equals"]
lists = st.lists(texts | numbers | st.booleans(), min_size=1, max_size=2)
patterns = st.sampled_from(["a%", "%", "_", "[a]", "%*", "A_", "a\\%", "%a%b%b", "a%a", "%%", "", "e%é"])
#: What takes more than SQL.
computed = st.one_of(
    operation(comparisons, amounts, amounts | numbers | name),
    operation(comparisons, folded, folded | texts | name),
    operation(comparisons, scalars, amounts | folded),
    operation(["like"], folded, patterns),
    operation(["in"], amounts | folded, st.lists(scalars, min_size=1, max_size=3)),
    operation(["between"], amounts, numbers, numbers),
    operation(arrays, name, lists),
    operation(arrays, lists, name),
    operation(arrays, name, name),
)
#: Few of them, since cql2 reads a schema for each.
some_computed = st.sampled_from(
    [
        {"op": "=", "args": [{"op": "+", "args": [{"property": "a"}, 1]}, 2]},
        {"op": "<>", "args": [{"op": "div", "args": [{"property": "a"}, {"property": "eo:b"}]}, 1]},
        {"op": "=", "args": [{"op": "casei", "args": [{"property": "a"}]}, {"op": "casei", "args": ["É"]}]},
        {"op": "like", "args": [{"op": "accenti", "args": [{"property": "a"}]}, "e%"]},
        {"op": "in", "args": [{"op": "casei", "args": [{"property": "id"}]}, ["0", "3"]]},
        {"op": "a_contains", "args": [{"property": "a"}, ["a"]]},
        {"op": "a_overlaps", "args": [{"property": "a"}, {"property": "eo:b"}]},
        {"op": "<=", "args": [{"property": "a"}, {"property": "eo:b"}]},
    ]
)
predicates = st.one_of(
    operation(comparisons, name, scalars),
    operation(comparisons, scalars, name),
    operation(comparisons, st.just({"property": "when"}), timestamps),
    operation(comparisons, st.just(WHEN), timestamps),
    some_computed,
    operation(["between"], name, numbers, numbers),
    operation(["in"], name, st.lists(scalars, min_size=1, max_size=3)),
    operation(["in"], st.just({"property": "id"}), st.lists(st.sampled_from(["0", "1", "9"]), min_size=1, max_size=2)),
    operation(["like"], name, st.sampled_from(["a%", "%", "_", "[a]", "%*", "A_", "a\\%"])),
    operation(["isNull"], name),
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


@settings(max_examples=200, deadline=None)
@given(items=several, expression=expressions, index=st.booleans())
def test_sql_and_cql2_agree_on_every_item(items, expression, index):
    built = [stored(number, *parts) for number, parts in enumerate(items)]
    store = filled(built)
    store.index(["a", "eo:b"] if index else [])

    wanted = cql2.Expr(json.loads(json.dumps(expression)))
    answer = found(store, filter=expression)

    assert sorted(answer) == sorted(item.id for item in built if matches(wanted, item))


@settings(max_examples=500, deadline=None)
@given(
    members=st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, values | odd | st.lists(values | odd, max_size=2))),
    expression=computed,
)
def test_what_is_computed_is_what_cql2_computes(members, expression):
    expression = cql2.Expr(expression).to_json()
    names = [*NAMES, "id"]
    holds = compiled(expression, names)
    texts = json.dumps([*(members.get(name) for name in NAMES), None, None])

    try:
        reference = cql2.Expr(expression).reduce({"id": "7", "properties": members}).to_json()
    except Exception:  # it has many
        reference = None
    if holds is None:
        assert "\\" in str(expression)  # all else is provided for
        return
    with contextlib.suppress(UndecidedError):
        assert holds(texts, "7") == (reference if isinstance(reference, bool) else None)


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
