"""The item store: a mapping for each collection, transactions, files, and what dropping leaves behind."""

from __future__ import annotations

import datetime
import subprocess
import sys

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_geocatalog.emulator.item_store import ItemStore, StoredItem, instant
from airflow_provider_geocatalog.emulator.search import find
from airflow_provider_geocatalog.emulator.search_request import Search

MOMENT = datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC)


def stored(item_id, collection_id="demo", **properties):
    document = {
        "type": "Feature",
        "id": item_id,
        "collection": collection_id,
        "geometry": {"type": "Point", "coordinates": [1, 2]},
        "properties": {"datetime": "2024-01-01T12:00:00Z", **properties},
        "links": [],
    }
    return StoredItem(document, MOMENT, MOMENT, shapely.Point(1, 2), {"image": "https://example.com/x.tif"})


def found(store, **body):
    return [document["id"] for document in find(Search.from_body({"limit": 1000, **body}), store, {}).documents]


def test_an_item_comes_back_as_it_was_put():
    items = ItemStore().items_of("demo")
    item = stored("a", text="é \ud800 \n", nested={"x": [1, None]}, huge=10**30)

    items["a"] = item

    assert items["a"] == item
    assert list(items["a"].document) == list(item.document)


steps = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "clear"]), st.sampled_from("abcd"), st.integers(0, 9)), max_size=30
)


@settings(max_examples=100, deadline=None)
@given(steps=steps)
def test_the_items_of_a_collection_are_a_mapping(steps):
    store, model = ItemStore(), {}
    items, other = store.items_of("demo"), store.items_of("other")
    other["a"] = stored("a", "other")
    for kind, item_id, value in steps:
        if kind == "put":
            items[item_id] = model[item_id] = stored(item_id, value=value)
        elif kind == "delete":
            assert items.pop(item_id, None) == model.pop(item_id, None)
        elif value == 0:
            items.clear()
            model.clear()
        assert (item_id in items) == (item_id in model)

    assert dict(items) == model
    assert list(items) == list(model)
    assert (len(items), bool(items)) == (len(model), bool(model))
    assert sorted(found(store, collections=["demo"], bbox=[0, 1, 2, 3])) == sorted(model)
    assert list(other) == ["a"]


def test_a_transaction_that_fails_leaves_nothing():
    store = ItemStore()
    items = store.items_of("demo")

    def write_inside():
        with store.transaction():
            items["b"] = stored("b")
            raise KeyError

    def write():
        with store.transaction():
            items["a"] = stored("a", member=1)
            with pytest.raises(KeyError):
                write_inside()
            assert list(items) == ["a"]
            store.items_of("other")
            store.index(["member"])
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        write()

    assert list(items) == []
    assert store.all_numbers() == store.numbers(["demo"])
    assert store.indexed_value("member") is None


def test_a_file_keeps_items_and_indexes(tmp_path):
    store = ItemStore(str(tmp_path / "state"))
    store.items_of("demo")["a"] = stored("a", **{"eo:cloud_cover": 7})
    store.items_of("gone")["b"] = stored("b", "gone")
    store.index(["eo:cloud_cover"])
    store.drop("gone")
    store.close()

    reopened = ItemStore(str(tmp_path / "state"))

    assert dict(reopened.items_of("demo")) == {"a": stored("a", **{"eo:cloud_cover": 7})}
    assert list(reopened.items_of("gone")) == []
    assert reopened.indexed_value("eo:cloud_cover") is not None
    assert found(reopened, filter={"op": "<", "args": [{"property": "eo:cloud_cover"}, 8]}) == ["a"]


_WRITER = """
import sys
sys.path.insert(0, {folder!r})
from test_emulator_item_store import ItemStore, stored
items = ItemStore({path!r}).items_of("demo")
for number in range(10_000):
    items[str(number)] = stored(str(number))
    print(number, flush=True)
"""


def test_what_was_acknowledged_outlives_a_killed_process(tmp_path):
    path = str(tmp_path / "state")
    program = _WRITER.format(folder=str(__file__).rpartition("/")[0], path=path)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as writer:
        acknowledged = [line.strip() for line, _ in zip(writer.stdout, range(50), strict=False)]
        writer.kill()

    assert len(acknowledged) == 50
    assert set(acknowledged) <= set(ItemStore(path).items_of("demo"))


def test_a_dropped_collection_is_gone_at_once_however_large():
    store = ItemStore()
    old = store.items_of("demo")
    with store.transaction():
        for number in range(2500):
            old[str(number)] = stored(str(number))

    store.drop("demo")

    assert store.has_dropped  # the rest goes little by little
    assert found(store) == found(store, ids=["2499"]) == found(store, bbox=[0, 0, 3, 3]) == []
    new = store.items_of("demo")
    with pytest.raises(KeyError):
        old["x"] = stored("x")
    for number in range(40):
        new[str(number)] = stored(str(number))
    assert not store.has_dropped
    assert store.select("SELECT count(*) FROM boxes") == store.select("SELECT count(*) FROM documents") == [(40,)]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2024", "2024-01-01T00:00:00Z"),
        ("2024-01-01 02:00:00", "2024-01-01T02:00:00+00:00"),
        ("2024-01-01T00:00:00.5-01:00", "2024-01-01T01:00:00.500000Z"),
        ("yesterday", None),
        ("", None),
        (7, None),
    ],
)
def test_a_text_names_a_moment(text, same):
    assert instant(text) == instant(same)
    assert (instant(text) is None) == (same is None)
