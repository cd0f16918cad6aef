"""Search into XCom and into files."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.hooks.environment import AirflowEnvironment
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.search import GeoCatalogSearchItemsOperator
from airflow_provider_geocatalog.transfer.item_files import read_items
from tests.fakes.items import stac_item

COUNT = 130


def item(number: int) -> dict[str, Any]:
    place = [float(number), number / 10]
    return {
        **stac_item(f"item-{number:03}"),
        "geometry": {"type": "Point", "coordinates": place},
        "bbox": [*place, *place],
        "properties": {"datetime": f"2024-01-01T00:{number % 60:02}:00Z", "number": number},
    }


@pytest.fixture
def filled(world, documents):
    client = GeoCatalogHook().client
    client.create_collection(documents("demo"))
    features = [item(number) for number in range(COUNT)]
    started = client.create_item("demo", {"type": "FeatureCollection", "features": features})
    client.wait_for_operation(started.operation.operation_id, poll_interval=0.05)
    return world


def search(world: Any, **arguments: Any) -> dict[str, Any]:
    operator = GeoCatalogSearchItemsOperator(task_id="search", **{"collections": ["demo"], **arguments})
    result = world.run(operator)
    json.dumps(result)
    return result


def test_items_come_into_xcom_with_where_and_when_they_are(filled):
    result = search(filled, filter="number >= 3 AND number < 6", page_size=2)

    found = result.pop("items")
    assert sorted(one["id"] for one in found) == ["item-003", "item-004", "item-005"]
    assert result == {
        "count": 3,
        "path": None,
        "bbox": [3.0, 0.3, 5.0, 0.5],
        "interval": ["2024-01-01T00:03:00Z", "2024-01-01T00:05:00Z"],
        "ids": [one["id"] for one in found],
        "is_cut": False,
    }


def test_signatures_in_hrefs_do_not_come_into_xcom(filled):
    item = stac_item("signed")
    item["links"] = [{"rel": "derived_from", "href": "https://h.example.com/x?sv=1&sig=c2VjcmV0"}]
    client = GeoCatalogHook().client
    client.wait(client.create_item("demo", item))
    [found] = search(filled, ids=["signed"])["items"]
    assert "https://h.example.com/x" in [link["href"] for link in found["links"]]
    assert "c2VjcmV0" not in json.dumps(found)


def test_nothing_found_is_a_result(filled):
    assert search(filled, ids=["none"]) == {
        "count": 0,
        "path": None,
        "bbox": None,
        "interval": None,
        "ids": [],
        "is_cut": False,
        "items": [],
    }


@pytest.mark.parametrize(
    ("conditions", "count"),
    [
        ({"ids": ["item-001", "item-002", "absent"]}, 2),
        ({"bbox": [9.5, 0, 12.5, 90]}, 3),
        ({"intersects": {"type": "Point", "coordinates": [7.0, 0.7]}}, 1),
        ({"intersects": '{"type": "Point", "coordinates": [7.0, 0.7]}'}, 1),
        ({"datetime": "2024-01-01T00:58:00Z/.."}, 4),
        ({"query": {"number": {"gte": 125}}}, 5),
        ({"filter": {"op": "=", "args": [{"property": "number"}, 7]}}, 1),
        ({"collections": ["other"]}, 0),
    ],
)
def test_conditions_are_heeded(filled, conditions, count):
    assert search(filled, **conditions)["count"] == count


def test_order_and_members_are_as_asked_for(filled):
    newest_first = [{"field": "properties.number", "direction": "desc"}]
    result = search(filled, sortby=newest_first, fields={"include": ["id"]}, max_items=2, if_more="cut")

    assert result["ids"] == ["item-129", "item-128"]
    assert result["is_cut"]
    assert all("assets" not in one for one in result["items"])


def test_more_than_xcom_takes_fails_and_says_what_to_do(filled):
    with pytest.raises(GeoCatalogTaskFailed, match=r"more than 100 items. Give a path"):
        search(filled)

    assert search(filled, max_items=COUNT)["count"] == COUNT


@pytest.mark.parametrize("name", ["found.ndjson", "found.geojson.gz", "found.parquet"])
def test_items_go_into_a_file_page_by_page(filled, tmp_path, name):
    path = str(tmp_path / name)

    result = search(filled, path=path, page_size=50)

    assert "items" not in result
    assert (result["count"], result["path"], len(result["ids"])) == (COUNT, path, 100)
    written = list(read_items(AirflowEnvironment(), path))
    assert [one["id"] for one in written[:100]] == result["ids"]
    assert {one["id"] for one in written} == {f"item-{number:03}" for number in range(COUNT)}
    assert all(one["properties"]["datetime"].startswith("2024-01-01T00:") for one in written)


def test_a_file_is_replaced_whole_or_stays(filled, tmp_path):
    path = tmp_path / "found.ndjson"
    path.write_text("before")

    with pytest.raises(GeoCatalogTaskFailed, match=r"more than 7 items. Raise max_items"):
        search(filled, path=str(path), max_items=7)
    with pytest.raises(GeoCatalogTaskFailed, match="is there already"):
        search(filled, path=str(path), overwrite=False)
    assert path.read_text() == "before"

    assert search(filled, path=str(path), max_items=7, if_more="cut")["count"] == 7
    assert len(path.read_text().splitlines()) == 7
    assert sorted(os.listdir(tmp_path)) == ["box", "found.ndjson"]


def test_signed_items_go_into_a_file_only(filled, tmp_path):
    with pytest.raises(GeoCatalogInvalidInput, match="signed hrefs do not go into XCom"):
        GeoCatalogSearchItemsOperator(task_id="search", sign=True)
    with pytest.raises(GeoCatalogTaskFailed, match="signed hrefs do not go into XCom"):
        search(filled, sign=True, path="")

    result = search(filled, sign=True, duration=5, ids=["item-001"], path=str(tmp_path / "signed.json"))

    asked = [one for one in filled.server.emulator.requests if one.operation == "search"][-1]
    assert result["count"] == 1
    assert "sig=" not in json.dumps(result)
    assert (asked.query["sign"], asked.query["duration"]) == ("true", "5")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"max_items": -1}, "max_items"),
        ({"max_items": "many"}, "max_items"),
        ({"if_more": "ignore"}, "if_more is 'ignore'"),
        ({"bbox": [1, 2]}, "bounding box"),
        ({"page_size": 0}, "limit"),
        ({"path": "found.csv"}, "none of the suffixes"),
        ({"path": 7}, "a path has to be text"),
        ({"bbox": [0, 0, 1, 1], "intersects": {"type": "Point", "coordinates": [0, 0]}}, "not both"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(world, arguments, reason):
    with pytest.raises(GeoCatalogTaskFailed, match=reason):
        search(world, **arguments)

    assert not world.server.emulator.requests


def test_a_rendered_bound_is_a_number(filled):
    assert search(filled, max_items="2", if_more="cut")["count"] == 2


def test_a_signed_path_is_refused_when_the_operator_is_made():
    with pytest.raises(GeoCatalogInvalidInput, match="path carries a SAS signature"):
        GeoCatalogSearchItemsOperator(task_id="search", path="https://x.example/a.ndjson?sig=verySecret%3D")
