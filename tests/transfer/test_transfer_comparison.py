"""Comparing a source with a collection, on the emulator."""

from __future__ import annotations

import datetime
import sys
from types import SimpleNamespace

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogInvalidInput, GeoCatalogProtocolError
from airflow_provider_geocatalog.auth import ConnectionSettings
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.emulator.item_store import StoredItem
from airflow_provider_geocatalog.transfer.callables import CallableSource, ItemsSource
from airflow_provider_geocatalog.transfer.comparison import KINDS, CatalogItems, Counts, compare, partition_of
from airflow_provider_geocatalog.transfer.fingerprint import with_fingerprint
from airflow_provider_geocatalog.transfer.source import ItemSourceError
from airflow_provider_geocatalog.transfer.windows import Window, moment
from tests.fakes.items import stac_item

COLLECTION = "demo"
JANUARY = Window(start="2024-01-01T00:00:00Z", end="2024-02-01T00:00:00Z")


@pytest.fixture(scope="module")
def server():
    with EmulatorServer(Emulator(EmulatorSettings.fast(admin_tokens=("token",)))) as server:
        yield server


@pytest.fixture
def catalog(server):
    yield (found := Catalog(server))
    found.forget()


class Catalog:
    """A collection of the emulator, and a client for it."""

    def __init__(self, server):
        self.emulator = server.emulator
        self.forget()
        self.client = GeoCatalogClient(
            ConnectionSettings.from_fields(
                host=server.url, password="token", extra={"auth_method": "static_token", "requests_per_second": 1000}
            )
        )

    def forget(self):
        world = self.emulator.world
        if COLLECTION in world.collections:
            world.remove_collection(COLLECTION)
        world.add_collection({"type": "Collection", "id": COLLECTION}, 0.0)
        self.emulator.faults.clear()
        self.emulator.requests.clear()

    @property
    def items(self):
        return self.emulator.world.collections[COLLECTION].items

    def put(self, *items):
        with self.emulator.world.items.transaction():
            for item in items:
                self.put_one(item)

    def put_one(self, item):
        properties = item["properties"]
        begin, end = (
            moment(properties.get(name) or properties["datetime"]) for name in ("start_datetime", "end_datetime")
        )
        shape = shapely.geometry.shape(item["geometry"])
        self.items[item["id"]] = StoredItem({**item, "collection": COLLECTION}, begin, end, shape)

    def compare(self, *items, scope=None, window=None, prepare=dict, **options):
        source = items[0] if items and isinstance(items[0], CallableSource) else ItemsSource(items)
        found = CatalogItems(self.client, COLLECTION, scope=scope, window=window)
        return compare(source, None, found, prepare, **options)

    @property
    def searches(self):
        return [request for request in self.emulator.requests if request.operation == "search"]


def item(item_id, at="2024-01-15T00:00:00Z", **members):
    document = {**stac_item(item_id), **members}
    return {**document, "properties": {"datetime": at, **members.get("properties", {})}}


def sent(*args, **members):
    return with_fingerprint(item(*args, **members))


def ids(comparison):
    return {kind: found for kind in KINDS if (found := list(comparison.ids(kind)))}


def counted(comparison, partition=None):
    counts = comparison.totals if partition is None else comparison.partitions[partition]
    return {name: count for name, count in counts.to_json().items() if count}


def test_a_collection_that_has_what_was_sent_has_no_differences(catalog):
    catalog.put(sent("a"), sent("b", "2024-02-01T00:00:00Z"))

    with catalog.compare(item("a"), item("b", "2024-02-01T00:00:00Z")) as comparison:
        assert comparison.totals == Counts(expected=2, found=2)
        assert comparison.totals.is_even
        assert comparison.partitions == {
            "2024-01": Counts(expected=1, found=1),
            "2024-02": Counts(expected=1, found=1),
        }
        assert list(comparison.differences()) == []


def test_differences_are_told_by_kind_and_partition(catalog):
    catalog.put(sent("same"), sent("edited"), sent("gone", "2023-12-31T23:59:59Z"), item("foreign"), item("bare"))
    source = [item("same"), item("edited", bbox=None), item("new", "2024-03-01T00:00:00Z"), item("bare")]

    with catalog.compare(*source) as comparison:
        assert ids(comparison) == {
            "missing": ["new"],
            "changed": ["edited"],
            "orphaned": ["gone", "foreign"],
            "unknown": ["bare"],
        }
        assert comparison.totals == Counts(4, 5, missing=1, changed=1, orphaned=2, unknown=1)
        assert counted(comparison, "2023-12") == {"found": 1, "orphaned": 1}
        assert counted(comparison, "2024-03") == {"expected": 1, "missing": 1}
        assert list(comparison.ids("orphaned", 1)) == ["gone"]
        assert [(one.item_id, one.reason) for one in comparison.differences("orphaned")] == [
            ("gone", "the source does not have it"),
            ("foreign", "the source does not have it; no transfer has sent it"),
        ]


def test_an_item_in_another_partition_has_moved_and_is_changed(catalog):
    catalog.put(sent("a"), item("b"))

    with catalog.compare(item("a", "2024-02-15T00:00:00Z"), item("b", "2024-02-15T00:00:00Z")) as comparison:
        assert ids(comparison) == {"changed": ["a", "b"]}
        assert counted(comparison, "2024-02") == {"expected": 2, "changed": 2, "moved": 2}
        assert counted(comparison, "2024-01") == {"found": 2}
        assert {one.reason for one in comparison.differences()} == {"in the catalog it is in 2024-01"}


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("hour", "2024-12-30T23"),
        ("day", "2024-12-30"),
        ("week", "2025-W01"),
        ("month", "2024-12"),
        ("year", "2024"),
        (None, "all"),
    ],
)
def test_partitions_are_in_utc(unit, name):
    assert partition_of(item("a", "2024-12-31T01:30:00+02:00"), unit) == name
    for at in (None, "yesterday", "9999-12-31T23:59:59-01:00"):
        assert partition_of(item("a", at), unit) == ("all" if unit is None else "undated")


def test_the_names_of_partitions_sort_as_time_goes():
    for unit in ("hour", "day", "week", "month", "year"):
        begin = moment("0033-01-01T00:00:00Z")
        days = [begin + datetime.timedelta(days=days) for days in range(0, 700_000, 12_345)]
        names = [partition_of(item("a", day.isoformat()), unit) for day in days]
        assert names == sorted(names)


def test_an_unknown_partition_is_refused(catalog):
    with pytest.raises(GeoCatalogInvalidInput, match="partition is one of hour, day"):
        catalog.compare(partition="decade")
    assert catalog.searches == []


# --- the source -------------------------------------------------------------------------------------------------------


def test_differences_have_the_item_as_it_would_be_sent(catalog):
    catalog.put(sent("changed"), sent("same"), item("unknown"), sent("orphaned"))
    source = [item("changed", links=[{"rel": "x"}]), item("missing"), item("same"), item("unknown")]

    def prepare(one):
        return {**one, "links": one["links"][:0], "assets": {}} if one["id"] in ("changed", "missing") else one

    with catalog.compare(*source, prepare=prepare, keep_items=True) as comparison:
        found = {one.item_id: one.to_json() for one in comparison.differences()}
    assert found["changed"]["item"] == prepare(source[0])
    assert found["missing"] == {
        "id": "missing",
        "kind": "missing",
        "partition": "2024-01",
        "reason": "it is not in the catalog",
        "item": prepare(source[1]),
    }
    assert found.keys() == {"changed", "missing", "unknown", "orphaned"}
    assert "item" not in found["unknown"]
    assert "item" not in found["orphaned"]


def test_the_report_has_no_signatures(catalog):
    href = "https://a.example/x.tif?se=2030-01-01&sig=verySecretSignature"

    with catalog.compare(item("a", assets={"image": {"href": href}}, preview=[href]), keep_items=True) as comparison:
        [line] = [one.to_json() for one in comparison.differences()]

    assert line["item"]["assets"]["image"]["href"] == "https://a.example/x.tif"
    assert line["item"]["preview"] == ["https://a.example/x.tif?se=2030-01-01&sig=***"]


def test_an_item_that_is_left_out_is_not_expected(catalog):
    catalog.put(sent("a"), sent("b"))

    with catalog.compare(item("a"), item("b"), prepare=lambda one: one if one["id"] == "a" else None) as comparison:
        assert ids(comparison) == {"orphaned": ["b"]}


def test_ids_are_those_after_the_transforms(catalog):
    def prepare(one):
        return {**one, "id": one["id"].replace("/", "_")}

    catalog.put(with_fingerprint(prepare(item("a/b"))))

    with catalog.compare(item("a/b"), prepare=prepare) as comparison:
        assert comparison.totals == Counts(expected=1, found=1)


def test_what_cannot_be_sent_is_told_apart(catalog):
    def prepare(one):
        if one.get("id") == "refused":
            raise GeoCatalogInvalidInput("no such asset at https://x.example/?sig=verySecretSignature")
        return one

    rubbish = [7, None, {}, {"id": ""}, {"id": "a"}, {"id": "\ud800", "properties": {}}, item("b", assets={1: {2}})]

    with catalog.compare(*rubbish, item("refused"), item("fine"), prepare=prepare) as comparison:
        assert counted(comparison) == {"expected": 1, "missing": 1, "unreadable": 8}
        assert list(comparison.ids("unreadable")) == ["b", "refused", "", "a"]
        told = "\n".join(str(one.to_json()) for one in comparison.differences("unreadable"))
    assert "an item is a JSON object, not int" in told
    assert "an item is a JSON object, not NoneType" in told
    assert "its 'properties' is not an object" in told
    assert "verySecret" not in told


def test_the_first_of_two_items_with_one_id_counts(catalog):
    catalog.put(sent("a"))

    with catalog.compare(
        item("a"), item("a", bbox=None), item("b"), item("b", bbox=None), keep_items=True
    ) as comparison:
        assert counted(comparison) == {"expected": 2, "found": 1, "missing": 1}
        [missing] = comparison.differences()
    assert missing.item == item("b")


def test_a_source_that_breaks_gives_no_verdict(catalog):
    def breaking():
        yield item("a")
        raise ItemSourceError("the source died")

    catalog.put(sent("a"), sent("b"))

    with pytest.raises(ItemSourceError, match="died"):
        catalog.compare(CallableSource(breaking))


# --- the window and the scope -----------------------------------------------------------------------------------------


def test_only_the_window_is_compared(catalog):
    catalog.put(
        sent("in"),
        sent("end", "2024-02-01T00:00:00Z"),
        sent(
            "spans in",
            None,
            properties={"start_datetime": "2023-12-31T00:00:00Z", "end_datetime": "2024-01-02T00:00:00Z"},
        ),
        sent("gone"),
    )

    with catalog.compare(item("in"), item("later", "2024-02-01T00:00:00Z"), window=JANUARY) as comparison:
        assert ids(comparison) == {"orphaned": ["gone"]}
        assert comparison.totals == Counts(expected=1, found=2, orphaned=1)


def test_an_item_that_the_source_has_outside_the_window_is_no_orphan(catalog):
    catalog.put(sent("a"))

    with catalog.compare(item("a", "2024-02-15T00:00:00Z"), window=JANUARY) as comparison:
        assert ids(comparison) == {}
        assert counted(comparison) == {"found": 1, "moved": 1}


def test_an_item_that_the_catalog_has_outside_the_window_is_not_missing(catalog):
    catalog.put(sent("a", "2023-12-15T00:00:00Z"))

    with catalog.compare(item("a"), window=JANUARY) as comparison:
        assert ids(comparison) == {"changed": ["a"]}
        assert counted(comparison, "2024-01") == {"expected": 1, "changed": 1, "moved": 1}


@pytest.mark.parametrize(
    "scope",
    [
        {"bbox": [0, 0, 5, 5]},
        {"intersects": {"type": "Point", "coordinates": [1.0, 2.0]}},
        {"filter": {"op": "=", "args": [{"property": "platform"}, "x"]}},
        {"filter": "platform = 'x'"},
    ],
)
def test_only_the_scope_is_searched_for_orphans(catalog, scope):
    far = {"geometry": {"type": "Point", "coordinates": [50, 50]}, "bbox": [50, 50, 50, 50]}
    catalog.put(
        sent("inside", properties={"platform": "x"}),
        sent("outside", **far, properties={"platform": "y"}),
        sent("elsewhere", **far, properties={"platform": "y"}),
    )
    # A source may take its own scope a little wider than the service does.
    source = [item("elsewhere", **far, properties={"platform": "y"})]

    with catalog.compare(*source, scope=scope) as comparison:
        assert ids(comparison) == {"orphaned": ["inside"]}
        assert counted(comparison) == {"expected": 1, "found": 2, "orphaned": 1}


@pytest.mark.parametrize(
    ("scope", "complaint"),
    [
        ({"ids": ["a"]}, "a scope has bbox, intersects, filter, not ids"),
        ({"bbox": [1, 2]}, "4 or 6 numbers"),
        ({"bbox": [0, 0, 1, 1], "intersects": {"type": "Point", "coordinates": [0, 0]}}, "not both"),
    ],
)
def test_a_scope_that_makes_no_sense_is_refused(catalog, scope, complaint):
    with pytest.raises(GeoCatalogInvalidInput, match=complaint):
        catalog.compare(scope=scope)
    assert catalog.searches == []


def test_a_window_by_update_tells_no_orphans_and_reads_only_what_the_source_has(catalog):
    updated = Window("updated", "2024-05-01T00:00:00Z", "2024-05-02T00:00:00Z")
    times = {"old": {"updated": "2024-04-01T00:00:00Z"}, "new": {"updated": "2024-05-01T10:00:00Z"}}
    catalog.put(
        sent("same", properties=times["new"]),
        sent("stale", properties=times["old"]),
        sent("edited since", properties=times["new"]),
        *(sent(f"other-{number}") for number in range(50)),
    )
    source = [item(name, properties=times["new"]) for name in ("same", "stale", "absent")]

    with catalog.compare(*source, window=updated) as comparison:
        assert ids(comparison) == {"missing": ["absent"], "changed": ["stale"]}
        assert counted(comparison) == {"expected": 3, "found": 2, "missing": 1, "changed": 1}
    assert len(catalog.searches) == 1


# --- the catalog ------------------------------------------------------------------------------------------------------


def test_what_arrives_while_it_compares_is_neither_orphaned_nor_missing(catalog):
    """The catalog is read first, and what is not in its list is looked for again."""
    catalog.put(sent("before"))

    def arriving():
        assert catalog.searches, "the catalog has to be read before the source"
        yield item("before")
        catalog.put(sent("meanwhile"))
        yield item("meanwhile")

    with catalog.compare(CallableSource(arriving)) as comparison:
        assert comparison.totals == Counts(expected=2, found=2)


def test_a_long_list_is_read_to_its_end(catalog):
    catalog.put(*(sent(f"i{number}") for number in range(2500)))

    with catalog.compare(*(item(f"i{number}") for number in range(2400))) as comparison:
        assert comparison.totals == Counts(expected=2400, found=2500, orphaned=100)
    assert len(catalog.searches) == 3


def test_many_missing_items_are_looked_for_a_hundred_at_a_time(catalog):
    with catalog.compare(*(item(f"i{number}") for number in range(250))) as comparison:
        assert comparison.totals == Counts(expected=250, missing=250)
    assert len(catalog.searches) == 1 + 3


@pytest.mark.parametrize(("effect", "options"), [("status", {"status": 400}), ("html", {})])
def test_a_catalog_that_breaks_half_way_gives_no_verdict(catalog, effect, options):
    catalog.put(*(sent(f"i{number}") for number in range(2500)))
    catalog.emulator.faults.add(effect, operations="search", skip=1, **options)

    with pytest.raises(GeoCatalogError):
        catalog.compare(*(item(f"i{number}") for number in range(2500)))
    assert len(catalog.searches) == 2


def test_a_page_that_fails_once_is_read_again(catalog):
    catalog.put(*(sent(f"i{number}") for number in range(1500)))
    catalog.emulator.faults.add("status", status=503, retry_after=0, operations="search", nth=2)

    with catalog.compare(*(item(f"i{number}") for number in range(1500))) as comparison:
        assert comparison.totals == Counts(expected=1500, found=1500)


def test_an_item_of_another_collection_is_no_orphan_but_an_error(scripted):
    client = scripted({"type": "Feature", "id": "a", "collection": "other", "properties": {}})

    with pytest.raises(GeoCatalogProtocolError, match="item 'a' of 'other'"):
        compare(ItemsSource([]), None, CatalogItems(client, COLLECTION), dict)


@pytest.fixture
def scripted():
    """A client whose service answers every search with one page of given items."""
    from airflow_provider_geocatalog.client_methods import OperationMethods
    from tests.fakes.stepping import Steps, answer

    class Client(OperationMethods):
        def __init__(self, items):
            page = answer(200, {"type": "FeatureCollection", "features": items, "links": []})
            self.run = Steps(lambda request: page).run

        def check(self, request):
            pass

    return lambda *items: Client(list(items))


def test_an_item_that_comes_twice_counts_once(scripted):
    twice = {**sent("a"), "collection": COLLECTION}
    stale = {**sent("a", bbox=None), "collection": COLLECTION}

    with compare(ItemsSource([item("a")]), None, CatalogItems(scripted(stale, twice), COLLECTION), dict) as comparison:
        assert comparison.totals == Counts(expected=1, found=1)


# --- any input --------------------------------------------------------------------------------------------------------

MONTHS = st.sampled_from(["2023-12", "2024-01", "2024-02"])
CONTENTS = st.tuples(MONTHS, st.integers(0, 1))
IDS = st.sampled_from("abcdef")


def document(item_id, content):
    month, version = content
    return item(item_id, f"{month}-10T00:00:00Z", properties={"version": version})


@settings(max_examples=60, deadline=None)
@given(
    source=st.dictionaries(IDS, CONTENTS),
    found=st.dictionaries(IDS, st.tuples(CONTENTS, st.sampled_from([with_fingerprint, dict]))),
    window=st.sampled_from([None, JANUARY]),
)
def test_it_finds_what_sets_find(server, source, found, window):
    catalog = Catalog(server)
    catalog.put(*(mark(document(i, content)) for i, (content, mark) in found.items()))

    with catalog.compare(*(document(*pair) for pair in source.items()), window=window) as comparison:
        told, totals = ids(comparison), comparison.totals
        parts = comparison.partitions.values()
        summed = {name: sum(part.to_json()[name] for part in parts) for name in totals.to_json()}

    def within(content):
        return window is None or content[0] == "2024-01"

    expected = {i for i, content in source.items() if within(content)}
    moved = {i for i in source.keys() & found.keys() if source[i][0] != found[i][0][0]}
    both = expected & found.keys()
    wanted = {
        "missing": expected - found.keys(),
        "changed": {i for i in both if i in moved or (found[i][1] is not dict and found[i][0] != source[i])},
        "unknown": {i for i in both if i not in moved and found[i][1] is dict},
        "orphaned": {i for i, (content, _) in found.items() if within(content)} - source.keys(),
    }
    assert {kind: set(told.get(kind, ())) for kind in wanted} == wanted
    assert totals.expected == len(expected)
    assert totals.found == len({i for i, (content, _) in found.items() if within(content)} | both)
    assert totals.moved == len({i for i in moved if within(source[i]) or within(found[i][0])})
    assert totals.to_json() == summed


# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_number_of_items():
    def small(item_id):
        return {"id": item_id, "properties": {"datetime": "2024-01-15T00:00:00Z"}, "assets": "x" * 100}

    def watched(items):
        """Yield items, and see that no more objects are kept from the first thousands on."""
        before = None
        for number, one in enumerate(items, 1):
            yield one
            if number % 5000 == 0:
                blocks = sys.getallocatedblocks()
                before = before or blocks
                assert blocks - before < 1000

    numbers = range(50_000)
    listed = (with_fingerprint(small(f"item-{n}" if n % 10 else f"gone-{n}")) for n in numbers)
    source = CallableSource(lambda: watched(small(f"item-{n}") for n in numbers))
    catalog = SimpleNamespace(
        window=None, can_be_listed=True, listed=lambda: watched(listed), named=lambda item_ids: []
    )

    with compare(source, None, catalog, dict, keep_items=True) as comparison:
        assert comparison.totals == Counts(50_000, 50_000, missing=5_000, orphaned=5_000)
        assert sum(1 for _ in watched(comparison.differences())) == 10_000
