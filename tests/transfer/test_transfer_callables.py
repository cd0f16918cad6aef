"""Items from a user's callable, and items at hand."""

from __future__ import annotations

import functools
import json
from typing import Any

import pystac
import pytest

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.transfer.item_checks import ItemChecker, SeenIds
from airflow_provider_geocatalog.transfer.preparing import Preparer
from airflow_provider_geocatalog.transfer.reading import ItemReader
from airflow_provider_geocatalog.transfer.sources import CallableSource, ItemSourceError, ItemsSource
from airflow_provider_geocatalog.transfer.storage import LocalEnvironment
from airflow_provider_geocatalog.transfer.transforms import Pipeline
from airflow_provider_geocatalog.transfer.windows import Window
from tests.fakes.items import stac_item

HERE = LocalEnvironment()
ITEMS = [stac_item(name) for name in "abc"]


def items(source: Any, window: Window | None = None) -> list[Any]:
    return [item for page in source.pages(HERE, window) for item in page.items]


def with_own_link(item: dict[str, Any]) -> pystac.Item:
    found = pystac.Item.from_dict(item)
    found.set_self_href("https://example.com/item.json")
    return found


@pytest.mark.parametrize(
    "found",
    [
        ITEMS,
        tuple(ITEMS),
        iter(ITEMS),
        [ITEMS[:2], ITEMS[2:]],
        [ITEMS[0], ITEMS[1:]],
        {"type": "FeatureCollection", "features": ITEMS},
        [{"type": "FeatureCollection", "features": ITEMS[:2]}, ITEMS[2]],
    ],
)
def test_dicts_pages_and_collections_give_the_items_in_them(found):
    assert items(CallableSource(lambda: found)) == ITEMS


def test_pystac_objects_come_as_dicts_with_their_own_link():
    item = {**stac_item("a"), "assets": {"image": {"href": "./a.tif"}}}
    found = [with_own_link(item), pystac.ItemCollection([with_own_link(item)]), with_own_link(item)]
    for returned in (found, found[0], found[1]):
        come = items(CallableSource(lambda returned=returned: returned))

        assert len(come) == (3 if returned is found else 1)
        for one in come:
            assert one["assets"]["image"]["href"] == "./a.tif"
            assert [link["href"] for link in one["links"]] == ["https://example.com/item.json"]


def test_a_generator_is_read_a_page_at_a_time():
    asked = []

    def endless():
        number = 0
        while True:
            asked.append(number)
            yield {"id": str(number)}
            number += 1

    pages = CallableSource(endless).pages(HERE)

    assert len(next(pages).items) == 500
    assert len(asked) == 500
    assert next(pages).items[0] == {"id": "500"}


def test_a_generator_ends_its_work_when_nobody_reads_on():
    ended = []

    def lending():
        try:
            while True:
                yield {"id": "a"}
        finally:
            ended.append(True)

    pages = CallableSource(lending).pages(HERE)
    next(pages)
    pages.close()

    assert ended == [True]


def test_rubbish_is_passed_on():
    rubbish = [7, None, "text", {"type": "FeatureCollection", "features": 7}, {}, object, [None, 8]]

    assert items(CallableSource(lambda: rubbish)) == [*rubbish[:-1], None, 8]


class Scene:
    """Something of a user's own that has a dict, and may not be able to make one."""

    def to_dict(self, **_: Any) -> dict[str, Any]:
        raise RuntimeError("no dict")


class Nameless:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Array:
    """What NumPy and pandas have: it compares each of its values, and is neither true nor false."""

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = object.__hash__


def endless_item() -> dict[str, Any]:
    item = stac_item("endless")
    item["properties"]["updated"] = item
    return item


@pytest.mark.parametrize("how", ["by itself", "in a list"])
@pytest.mark.parametrize(
    "rubbish",
    [
        pytest.param(pystac.Asset("https://example.com/a.tif"), id="asset"),
        pytest.param(Scene(), id="dict that raises"),
        pytest.param(Nameless(), id="no repr"),
        pytest.param({"type": Array()}, id="array"),
        pytest.param({**stac_item("x"), "id": {(1, 2): 3}}, id="id with tuples for keys"),
        pytest.param({**stac_item("x"), "id": Nameless()}, id="id without repr"),
        pytest.param({**stac_item("x"), "properties": {"datetime": Nameless()}}, id="datetime without repr"),
        pytest.param({**stac_item("x"), "properties": {"updated": {(1, 2): 3}}}, id="updated with tuples for keys"),
        pytest.param(endless_item(), id="endless"),
    ],
)
def test_the_items_around_rubbish_are_ready_and_it_has_a_line_in_the_dead_letter_file(rubbish, how):
    found = [ITEMS[0], [rubbish] if how == "in a list" else rubbish, *ITEMS[1:]]
    reader = ItemReader(CallableSource(lambda: found), HERE, None)
    read = reader.read(10)
    preparer = Preparer(Pipeline("demo"), checker=ItemChecker("demo"), seen=SeenIds())
    prepared = preparer.prepare(read)
    preparer.close()

    assert [one.item_id for one in prepared.ready] == ["a", "b", "c"]
    [line] = [json.loads(json.dumps(dead.to_json(), allow_nan=False)) for dead in prepared.dead]
    assert line["reason"]
    # A retry goes on behind it.
    assert ItemReader(CallableSource(lambda: found), HERE, None, reader.position).read(10) == []


WINDOW = Window("datetime", "2024-01-01", "2024-02-01")


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (lambda window: [window], {}, [WINDOW]),
        (lambda a, *, b, window=None: [a, b, window], {"args": [1], "kwargs": {"b": 2}}, [1, 2, WINDOW]),
        (lambda **kwargs: [kwargs], {"kwargs": {"b": 2}}, [{"b": 2}]),
        (lambda window: [window], {"kwargs": {"window": "mine"}}, ["mine"]),
        (functools.partial(lambda a, window: [a, window], 1), {}, [1, WINDOW]),
        (zip, {"args": [[1]]}, [1]),
    ],
)
def test_a_callable_gets_its_arguments_and_the_window_if_it_takes_one(function, arguments, expected):
    assert items(CallableSource(function, **arguments), WINDOW) == expected


@pytest.mark.parametrize("arguments", [{"args": [1]}, {"kwargs": {"unknown": 1}}])
def test_arguments_that_it_does_not_take_are_refused_before_the_call(arguments):
    called = []

    with pytest.raises(GeoCatalogInvalidInput, match="does not take its arguments"):
        items(CallableSource(lambda: called.append(1), **arguments))

    assert called == []


async def coroutine():
    return ITEMS


async def asynchronous():
    yield ITEMS


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda: None, "returned no items but NoneType"),
        (lambda: 7, "returned no items but int"),
        (lambda: "text", "returned no items but str"),
        (coroutine, "but coroutine.* ordinary function"),
        (asynchronous, "but async_generator"),
    ],
)
def test_what_is_not_iterable_fails_for_good(function, reason):
    with pytest.raises(ItemSourceError, match=reason) as failure:
        items(CallableSource(function))

    assert not failure.value.retryable


def test_a_callable_that_raises_half_way_can_be_called_again():
    def dying():
        yield from ITEMS * 200
        raise ZeroDivisionError("by zero")

    pages = CallableSource(dying).pages(HERE)

    assert len(next(pages).items) == 500
    with pytest.raises(ItemSourceError, match=r"dying raised: ZeroDivisionError: by zero.* retry can help") as failure:
        next(pages)
    assert failure.value.retryable
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


def test_a_secret_in_what_it_raises_is_not_shown():
    def dying():
        raise OSError("GET https://x.example/y?sig=verySecret123 failed")

    with pytest.raises(ItemSourceError, match="OSError") as failure:
        items(CallableSource(dying))

    assert "verySecret" not in str(failure.value)
    assert failure.value.__cause__ is None


def test_errors_of_this_package_and_what_is_said_to_airflow_stay_as_they_are():
    class AirflowSkipException(Exception):
        pass

    class Mine(AirflowSkipException):
        pass

    for error in (Mine("nothing today"), GeoCatalogInvalidInput("no")):

        def saying(error=error):
            raise error

        with pytest.raises(type(error)) as failure:
            items(CallableSource(saying))
        assert failure.value is error


def test_what_is_not_callable_is_refused_at_once():
    with pytest.raises(GeoCatalogInvalidInput, match="function has to be callable, not list"):
        CallableSource([])


def test_a_callable_is_called_by_its_name():
    assert CallableSource(with_own_link).describe().endswith("test_transfer_callables.with_own_link")
    assert CallableSource(functools.partial(with_own_link)).describe().endswith("partial")


@pytest.mark.parametrize(
    "given",
    [
        ITEMS,
        tuple(ITEMS),
        {"type": "FeatureCollection", "features": ITEMS},
        pystac.ItemCollection(ITEMS, clone_items=False),
        '[{"id": "a"}, {"id": "b"}, {"id": "c"}]',
    ],
)
def test_items_at_hand_are_yielded(given):
    source = ItemsSource(given)

    assert [item["id"] for item in items(source)] == ["a", "b", "c"]
    assert [item["id"] for item in items(source)] == ["a", "b", "c"]


@pytest.mark.parametrize("given", [None, 7, "", "{'id': 'a'}"])
def test_what_holds_no_items_is_refused(given):
    with pytest.raises(GeoCatalogInvalidInput, match="items"):
        items(ItemsSource(given))
