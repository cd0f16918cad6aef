"""
What a page of a search costs with 100,000 items in the emulator, over real HTTP.

Items have the size of real ones: a footprint, a dozen properties, ten assets.
"""

from __future__ import annotations

import datetime
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

import requests
import shapely

from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.emulator.item_store import StoredItem

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

ITEMS = 100_000
PAGES = 500
SLOWEST = 1.0  # seconds for a page
_REPETITIONS = 5
_TOKEN = "benchmark"
_FIRST = datetime.datetime(2015, 1, 1, tzinfo=datetime.UTC)
_DAYS = 3650
_TRIANGLE = {"type": "Polygon", "coordinates": [[[0, 0], [40, 10], [20, 40], [0, 0]]]}


def _item(number: int, chance: random.Random) -> StoredItem:
    west, south = chance.uniform(-179, 178), chance.uniform(-85, 84)
    east, north = west + chance.uniform(0.1, 1), south + chance.uniform(0.1, 1)
    ring = [[west, south + 0.01], [east - 0.01, south], [east, north - 0.01], [west + 0.01, north]]
    geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    moment = _FIRST + datetime.timedelta(seconds=chance.randrange(_DAYS * 86_400))
    item_id = f"item-{number:06}"
    document = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "collection": "benchmark",
        "geometry": geometry,
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": moment.isoformat(),
            "eo:cloud_cover": chance.uniform(0, 100),
            "view:off_nadir": number % 1000,
            "platform": chance.choice(["one", "two", "three"]),
            "proj:epsg": 32601 + number % 60,
            "gsd": 10,
            "title": f"{'Catalhoyuk' if number % 10 else 'Çatalhöyük'} {number}",  # some names are not ASCII
            "instruments": chance.sample(["blue", "green", "red", "nir", "swir"], 3),
            "description": "x" * 300,
        },
        "links": [],
        "assets": {
            f"band-{band}": {
                "href": f"https://example.com/benchmark/{item_id}/band-{band}.tif",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
            }
            for band in range(10)
        },
    }
    return StoredItem(document, moment, moment, shapely.geometry.shape(geometry))


def _searches() -> dict[str, dict[str, Any]]:
    nadir: dict[str, Any] = {"property": "view:off_nadir"}
    return {
        "first page of all": {},
        "first page of 1,000": {"limit": 1000},
        "bbox": {"bbox": [5, 45, 10, 50]},
        "intersects": {"intersects": _TRIANGLE},
        "intersects a line across the world": {
            "intersects": {"type": "LineString", "coordinates": [[-180, -85], [180, 85]]},
            "limit": 1000,
        },
        "datetime, one day": {"datetime": "2020-06-01T00:00:00Z/2020-06-02T00:00:00Z"},
        "ids": {"ids": ["item-000100", "item-050000", "item-099999"]},
        "CQL2, indexed property": {"filter": {"op": "<", "args": [{"property": "eo:cloud_cover"}, 0.5]}},
        "CQL2, not indexed property": {"filter": {"op": "=", "args": [nadir, 999]}},
        "CQL2, not indexed, nothing found": {"filter": {"op": "=", "args": [nadir, 1000]}},
        **{f"CQL2, {name}": {"filter": predicate} for name, predicate in _computed().items()},
        "CQL2, evaluated by cql2, nothing found": {
            "filter": {"op": "isNull", "args": [{"op": "+", "args": [nadir, 1]}]},
        },
        "sort by indexed property": {"sortby": [{"field": "eo:cloud_cover", "direction": "asc"}]},
        "sort by not indexed property": {"sortby": [{"field": "view:off_nadir", "direction": "desc"}]},
    }


def _computed() -> dict[str, dict[str, Any]]:
    """Return predicates on computed values, of each kind one that finds something and one that reads all in vain."""
    nadir, title = {"property": "view:off_nadir"}, {"property": "title"}
    predicates: dict[str, dict[str, Any]] = {}
    for op, result in {"+": 9, "-": 5, "*": 14, "/": 3.5, "%": 1, "div": 3, "^": 49}.items():
        for name, wanted in ((op, result), (f"{op}, nothing found", -7)):
            predicates[name] = {"op": "=", "args": [{"op": op, "args": [nadir, 2]}, wanted]}
    for op, found in (("casei", "çatalhöyük 7%"), ("accenti", "Catalhoyuk 7%")):
        for name, pattern in ((op, found), (f"{op}, nothing found", "x%")):
            predicates[name] = {"op": "like", "args": [{"op": op, "args": [title]}, pattern]}
    for op in ("a_contains", "a_containedBy", "a_overlaps", "a_equals"):
        for name, colours in ((op, ["red", "nir", "blue"]), (f"{op}, nothing found", ["x"])):
            predicates[name] = {"op": op, "args": [{"property": "instruments"}, colours]}
    return predicates


def _times(session: requests.Session, url: str, body: dict[str, Any]) -> tuple[float, int]:
    times = []
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        answer = session.post(url, json=body)
        times.append(time.perf_counter() - start)
        answer.raise_for_status()
    return statistics.median(times), len(answer.json()["features"])


def _following(session: requests.Session, url: str) -> Iterator[float]:
    body: dict[str, Any] | None = {"collections": ["benchmark"], "limit": 100}
    while body is not None:
        start = time.perf_counter()
        answer = session.post(url, json=body)
        yield time.perf_counter() - start
        links = answer.json()["links"]
        body = next((link["body"] for link in links if link["rel"] == "next"), None)


def main() -> int:
    """
    Fill an emulator, search it, and print the times.

    :return: Exit code: 1 if a page that SQL answers took longer than a second.
    """
    emulator, chance = Emulator(EmulatorSettings.fast(admin_tokens=(_TOKEN,))), random.Random(1)
    collection = emulator.world.add_collection({"id": "benchmark"}, at=0.0)
    queryable = {"definition": {"type": "number"}, "data_type": "number", "create_index": True}
    start = time.perf_counter()
    with emulator.world.items.transaction():
        for number in range(ITEMS):
            item = _item(number, chance)
            collection.items[item.id] = item
    print(f"searching: {ITEMS:,} items loaded in {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    collection.queryables["eo:cloud_cover"] = {"name": "eo:cloud_cover", **queryable}
    emulator.world.index_queryables()
    print(f"index on a queryable built in {time.perf_counter() - start:.2f} s")
    slowest = 0.0
    with EmulatorServer(emulator) as server, requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {_TOKEN}"
        session.params = {"api-version": "2026-04-15"}
        url = f"{server.url}/stac/search"
        for name, body in _searches().items():
            seconds, count = _times(session, url, {"collections": ["benchmark"], **body})
            slowest = max(slowest, seconds if "evaluated by cql2" not in name else 0.0)
            print(f"{name:40} {seconds * 1000:8.1f} ms, {count} items")
        times = [seconds for seconds, _ in zip(_following(session, url), range(PAGES), strict=False)]
        print(f"{f'page {len(times)} of 100 by token':40} {times[-1] * 1000:8.1f} ms, 100 items")
    return int(slowest > SLOWEST)
