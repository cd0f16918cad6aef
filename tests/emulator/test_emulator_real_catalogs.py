"""
Searches over published catalogs find what a plain evaluation of the source documents finds, item by item in order.

The catalogs came to be without this emulator: footprints in other projections' corners, missing and nested properties,
two STAC versions, many items at the same moment.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import shapely
import shapely.geometry

from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings

DATASETS = Path(__file__).parents[3] / "shared" / "data" / "mpcpro-sample-datasets"
NAIP = DATASETS / "planetary_computer" / "naip"
MAUI = DATASETS / "maxar" / "open-data-program" / "Maui-Hawaii-fires-Aug-23"

pytestmark = pytest.mark.skipif(not DATASETS.is_dir(), reason=f"the sample datasets are not at {DATASETS}")


def documents(folder, collection_id):
    found = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]
    return [{**one, "collection": collection_id} for one in found if one.get("type") == "Feature"]


class Catalog:
    """The source documents, and a plain way to search them."""

    def __init__(self):
        naip = [*documents(NAIP / "arches", "naip"), *documents(NAIP / "statue_of_liberty", "naip")]
        self.items = naip + documents(MAUI, "maui")
        self.shapes = {one["id"]: shapely.geometry.shape(one["geometry"]) for one in self.items}

    def ids(self, holds, sortby=()):
        """Return the ids of the items for which a predicate holds, newest first where no other order is asked."""
        found = [one for one in self.items if holds(one["collection"], one["properties"], self.shapes[one["id"]])]
        sortby = sortby or ["-datetime"]
        # Sorted from the last key to the first, since sorting is stable; the last one's direction is that of the ids.
        found.sort(key=lambda one: one["id"], reverse=sortby[-1].startswith("-"))
        for field in reversed(sortby):
            name = field.lstrip("+-")
            found.sort(key=lambda one: (value(one, name) is None, value(one, name)), reverse=field.startswith("-"))
        return [one["id"] for one in found]


def value(item, name):
    return item[name] if name in ("id", "collection") else item["properties"].get(name)


@pytest.fixture(scope="module")
def catalog():
    return Catalog()


@pytest.fixture(scope="module")
def client(new_client, catalog):
    """A client of an emulator that has ingested the catalogs: one by bulk runs, one item by item."""
    settings = EmulatorSettings.fast(admin_tokens=("admin-token",), public_containers={"naip": NAIP})
    with EmulatorServer(Emulator(settings)) as server:
        client = new_client(server)
        for collection_id in ("naip", "maui", "empty"):
            client.add_collection(collection_id)
        for folder in ("arches", "statue_of_liberty"):
            operation = client.run(f"{server.url}/_emulator/storage/naip/{folder}/catalog.json", "naip")
            assert operation["status"] == "Succeeded", client.failures(operation)[:3]
        maui = [one for one in catalog.items if one["collection"] == "maui"]
        assert client.add_items(*maui, collection_id="maui")["status"] == "Succeeded"
        yield client


def found(client, method, limit=1000, **search):
    """Search to the end of all pages, by body or by query, and return the items."""
    body = {"limit": limit, **search}
    if method == "POST":
        answer = client.post("/stac/search", json=body)
    else:
        answer = client.get("/stac/search", params={name: in_query(one) for name, one in body.items()})
    items = []
    while True:
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["features"]) <= limit
        items += page["features"]
        following = [link for link in page["links"] if link["rel"] == "next"]
        if not following:
            return items
        [link] = following
        assert len(page["features"]) == limit
        answer = client.get(link["href"]) if method == "GET" else client.post(link["href"], json=link["body"])


def in_query(member):
    if isinstance(member, list):
        return ",".join(map(str, member))
    return json.dumps(member) if isinstance(member, dict) else member


def ids(items):
    return [one["id"] for one in items]


METHODS = pytest.mark.parametrize("method", ["GET", "POST"])
LIBERTY = [-74.06, 40.66, -74.02, 40.72]
LAHAINA = [-156.69, 20.86, -156.66, 20.90]
#: With a hole, and an edge that runs along footprints.
ARCHES = {
    "type": "Polygon",
    "coordinates": [
        [[-109.7, 38.6], [-109.4, 38.6], [-109.4, 38.9], [-109.7, 38.9], [-109.7, 38.6]],
        [[-109.6, 38.7], [-109.6, 38.8], [-109.5, 38.8], [-109.5, 38.7], [-109.6, 38.7]],
    ],
}
POINTS = {"type": "MultiPoint", "coordinates": [[-74.0445, 40.6892], [-156.6825, 20.8783]]}
ACROSS = {"type": "LineString", "coordinates": [[-109.7, 38.6], [-73.9, 40.8]]}

#: Members of a search, and what holds for what it finds: of an item's collection, properties and shape.
SEARCHES = [
    ({}, lambda c, p, s: True),
    ({"collections": ["naip"]}, lambda c, p, s: c == "naip"),
    ({"collections": ["maui", "empty"]}, lambda c, p, s: c == "maui"),
    ({"collections": ["empty"]}, lambda c, p, s: False),
    ({"bbox": [-180, -90, 180, 90]}, lambda c, p, s: True),
    ({"bbox": LIBERTY}, lambda c, p, s: s.intersects(shapely.box(*LIBERTY))),
    ({"bbox": LAHAINA}, lambda c, p, s: s.intersects(shapely.box(*LAHAINA))),
    ({"bbox": [170, 0, -150, 30]}, lambda c, p, s: c == "maui"),
    ({"intersects": ARCHES}, lambda c, p, s: s.intersects(shapely.geometry.shape(ARCHES))),
    ({"intersects": POINTS}, lambda c, p, s: s.intersects(shapely.geometry.shape(POINTS))),
    ({"intersects": ACROSS}, lambda c, p, s: s.intersects(shapely.geometry.shape(ACROSS))),
    ({"datetime": "2023-08-12T00:00:00Z"}, lambda c, p, s: p["datetime"] == "2023-08-12T00:00:00Z"),
    (
        {"datetime": "2021-09-17T16:00:00Z/2021-09-17T16:00:00Z"},
        lambda c, p, s: p["datetime"] == "2021-09-17T16:00:00Z",
    ),
    ({"datetime": "2021-09-17/2021-09-18"}, lambda c, p, s: p["datetime"] == "2021-09-17T16:00:00Z"),
    ({"datetime": "2023-01-01T00:00:00Z/.."}, lambda c, p, s: p["datetime"] >= "2023"),
    ({"datetime": "../2022-07-10T16:00:00Z"}, lambda c, p, s: p["datetime"] <= "2022-07-10T16:00:00Z"),
    ({"datetime": "/2022-07-10T17:00:00+01:00"}, lambda c, p, s: p["datetime"] <= "2022-07-10T16:00:00Z"),
    ({"query": {"gsd": {"lt": 0.6, "gt": 0.3}}}, lambda c, p, s: 0.3 < p["gsd"] < 0.6),
    ({"query": {"naip:year": {"eq": "2022"}}}, lambda c, p, s: p.get("naip:year") == "2022"),
    (
        {"query": {"naip:state": {"in": ["nj", "ut"]}}, "bbox": LIBERTY},
        lambda c, p, s: p.get("naip:state") == "nj" and s.intersects(shapely.box(*LIBERTY)),
    ),
]


@METHODS
@pytest.mark.parametrize(("search", "holds"), SEARCHES, ids=[json.dumps(search)[:50] for search, _ in SEARCHES])
def test_a_search_finds_the_same_items_in_the_same_order(client, catalog, method, search, holds):
    expected = catalog.ids(holds)

    assert ids(found(client, method, **search)) == expected
    assert ids(found(client, method, limit=7, **search)) == expected


@METHODS
def test_items_are_found_by_their_ids(client, catalog, method):
    wanted = random.Random(7).sample(catalog.ids(lambda c, p, s: True), 20)

    items = found(client, method, limit=6, ids=[*wanted, "missing"])

    assert ids(items) == [one for one in catalog.ids(lambda c, p, s: True) if one in wanted]


def prop(name):
    return {"property": name}


def text_of(geometry):
    return shapely.geometry.shape(geometry).wkt


CENTRE = {"type": "Point", "coordinates": [-74.0445, 40.6892]}
FILTERS = [
    ("gsd < 0.5", {"op": "<", "args": [prop("gsd"), 0.5]}, lambda c, p, s: p["gsd"] < 0.5),
    (
        "gsd BETWEEN 0.3 AND 0.305",
        {"op": "between", "args": [prop("gsd"), 0.3, 0.305]},
        lambda c, p, s: 0.3 <= p["gsd"] <= 0.305,
    ),
    (
        "\"naip:state\" = 'ny' OR platform = 'maxar'",
        {
            "op": "or",
            "args": [{"op": "=", "args": [prop("naip:state"), "ny"]}, {"op": "=", "args": [prop("platform"), "maxar"]}],
        },
        lambda c, p, s: p.get("naip:state") == "ny" or p.get("platform") == "maxar",
    ),
    # An absent property makes a comparison unknown, and the negation of what is unknown is unknown too.
    (
        "NOT \"naip:state\" = 'ny'",
        {"op": "not", "args": [{"op": "=", "args": [prop("naip:state"), "ny"]}]},
        lambda c, p, s: p.get("naip:state", "ny") != "ny",
    ),
    (
        "\"naip:state\" <> 'ny'",
        {"op": "<>", "args": [prop("naip:state"), "ny"]},
        lambda c, p, s: p.get("naip:state", "ny") != "ny",
    ),
    ("platform IS NULL", {"op": "isNull", "args": [prop("platform")]}, lambda c, p, s: "platform" not in p),
    (
        "\"naip:year\" IN ('2021', '2023')",
        {"op": "in", "args": [prop("naip:year"), ["2021", "2023"]]},
        lambda c, p, s: p.get("naip:year") in ("2021", "2023"),
    ),
    (
        "event LIKE 'Maui-%-Aug-__'",
        {"op": "like", "args": [prop("event"), "Maui-%-Aug-__"]},
        lambda c, p, s: p.get("event") == "Maui-Hawaii-fires-Aug-23",
    ),
    (
        "CASEI(\"naip:state\") = CASEI('NJ')",
        {"op": "=", "args": [{"op": "casei", "args": [prop("naip:state")]}, {"op": "casei", "args": ["NJ"]}]},
        lambda c, p, s: p.get("naip:state") == "nj",
    ),
    (
        "gsd * 10 > 5.5",
        {"op": ">", "args": [{"op": "*", "args": [prop("gsd"), 10]}, 5.5]},
        lambda c, p, s: p["gsd"] * 10 > 5.5,
    ),
    (
        "collection = 'naip' AND \"proj:epsg\" = 26918",
        {
            "op": "and",
            "args": [
                {"op": "=", "args": [prop("collection"), "naip"]},
                {"op": "=", "args": [prop("proj:epsg"), 26918]},
            ],
        },
        lambda c, p, s: c == "naip" and p.get("proj:epsg") == 26918,
    ),
    (
        "datetime >= TIMESTAMP('2022-09-15T00:00:00Z') AND datetime < TIMESTAMP('2023-08-12T00:00:00Z')",
        {
            "op": "and",
            "args": [
                {"op": ">=", "args": [prop("datetime"), {"timestamp": "2022-09-15T00:00:00Z"}]},
                {"op": "<", "args": [prop("datetime"), {"timestamp": "2023-08-12T00:00:00Z"}]},
            ],
        },
        lambda c, p, s: "2022-09-15" <= p["datetime"] < "2023-08-12",
    ),
    (
        "T_AFTER(datetime, TIMESTAMP('2022-09-15T16:00:00Z'))",
        {"op": "t_after", "args": [prop("datetime"), {"timestamp": "2022-09-15T16:00:00Z"}]},
        lambda c, p, s: p["datetime"] > "2022-09-15T16:00:00Z",
    ),
    (
        "T_INTERSECTS(datetime, INTERVAL('2022-07-10T16:00:00Z', '2023-08-09T00:00:00Z'))",
        {
            "op": "t_intersects",
            "args": [prop("datetime"), {"interval": ["2022-07-10T16:00:00Z", "2023-08-09T00:00:00Z"]}],
        },
        lambda c, p, s: "2022-07-10T16:00:00Z" <= p["datetime"] <= "2023-08-09T00:00:00Z",
    ),
    (
        f"S_INTERSECTS(geometry, {text_of(ARCHES)})",
        {"op": "s_intersects", "args": [prop("geometry"), ARCHES]},
        lambda c, p, s: s.intersects(shapely.geometry.shape(ARCHES)),
    ),
    (
        f"S_WITHIN(geometry, {text_of(ARCHES)})",
        {"op": "s_within", "args": [prop("geometry"), ARCHES]},
        lambda c, p, s: s.within(shapely.geometry.shape(ARCHES)),
    ),
    (
        f"S_CONTAINS(geometry, {text_of(CENTRE)})",
        {"op": "s_contains", "args": [prop("geometry"), CENTRE]},
        lambda c, p, s: s.contains(shapely.geometry.shape(CENTRE)),
    ),
    (
        f"S_DISJOINT(geometry, {text_of(ARCHES)}) AND gsd = 0.6",
        {
            "op": "and",
            "args": [
                {"op": "s_disjoint", "args": [prop("geometry"), ARCHES]},
                {"op": "=", "args": [prop("gsd"), 0.6]},
            ],
        },
        lambda c, p, s: s.disjoint(shapely.geometry.shape(ARCHES)) and p["gsd"] == 0.6,
    ),
    (
        f"S_OVERLAPS(geometry, {text_of(ARCHES)})",
        {"op": "s_overlaps", "args": [prop("geometry"), ARCHES]},
        lambda c, p, s: s.overlaps(shapely.geometry.shape(ARCHES)),
    ),
    (
        '"proj:centroid.lat" > 40.7',
        {"op": ">", "args": [prop("proj:centroid.lat"), 40.7]},
        lambda c, p, s: p.get("proj:centroid", {"lat": 0})["lat"] > 40.7,
    ),
]


@METHODS
@pytest.mark.parametrize(("text", "expression", "holds"), FILTERS, ids=[text[:40] for text, *_ in FILTERS])
def test_a_filter_in_text_and_in_json_finds_the_same(client, catalog, method, text, expression, holds):
    expected = catalog.ids(holds)

    assert 0 < len(expected) < len(catalog.items)
    for language, written in (("cql2-text", text), ("cql2-json", expression)):
        items = found(client, method, limit=40, **{"filter": written, "filter-lang": language})
        assert ids(items) == expected, language


SORTED = [
    "+datetime",
    "-gsd",
    "+id",
    "-id",
    "+collection,-datetime",
    "-naip:year,+id",
    "+naip:state",
    "-proj:epsg,+gsd,-id",
]


@METHODS
@pytest.mark.parametrize("sortby", [one.split(",") for one in SORTED], ids=SORTED)
def test_items_are_sorted_and_those_without_a_value_come_last_or_first(client, catalog, method, sortby):
    asked = sortby
    if method == "POST":
        words = {"+": "asc", "-": "desc"}
        asked = [{"field": f"properties.{one[1:]}", "direction": words[one[0]]} for one in sortby]
        for entry in asked:
            if entry["field"] in ("properties.id", "properties.collection"):
                entry["field"] = entry["field"].removeprefix("properties.")

    assert ids(found(client, method, limit=11, sortby=asked)) == catalog.ids(lambda c, p, s: True, sortby)


@METHODS
def test_fields_leave_the_rest_as_it_is(client, catalog, method):
    include, exclude = ["properties.gsd", "properties.proj:centroid.lat", "bbox"], ["links", "assets"]
    asked = (
        [*include, *(f"-{name}" for name in exclude)] if method == "GET" else {"include": include, "exclude": exclude}
    )

    items = found(client, method, fields=asked, collections=["naip"])

    sources = {one["id"]: one for one in catalog.items}
    assert len(items) == 35
    for item in items:
        source = sources[item["id"]]
        properties = {"gsd": source["properties"]["gsd"]}
        if "proj:centroid" in source["properties"]:
            properties["proj:centroid"] = {"lat": source["properties"]["proj:centroid"]["lat"]}
        assert item == {
            "id": source["id"],
            "type": "Feature",
            "collection": "naip",
            "bbox": source["bbox"],
            "properties": properties,
        }


@METHODS
@pytest.mark.parametrize("seed", range(12))
def test_any_combination_of_conditions_holds_for_what_is_found(client, catalog, method, seed):
    choice = random.Random(seed)
    search, conditions = {}, []
    one = choice.choice(catalog.items)
    if choice.random() < 0.5:
        search["collections"] = [one["collection"]]
        conditions.append(lambda c, p, s: c == one["collection"])
    if choice.random() < 0.7:
        reach = choice.choice([0.0, 0.05, 2.0])
        west, south, east, north = one["bbox"]
        search["bbox"] = [west - reach, south - reach, east + reach, north + reach]
        conditions.append(lambda c, p, s: s.intersects(shapely.box(*search["bbox"])))
    if choice.random() < 0.5:
        low, high = sorted(choice.choice(catalog.items)["properties"]["datetime"] for _ in range(2))
        search["datetime"] = f"{low}/{high}"
        conditions.append(lambda c, p, s: low <= p["datetime"] <= high)
    if choice.random() < 0.5:
        gsd = choice.choice([0.3, 0.305, 0.6])
        search |= {"filter": f"gsd >= {gsd} AND NOT platform = 'maxar'", "filter-lang": "cql2-text"}
        conditions.append(lambda c, p, s: p["gsd"] >= gsd and p.get("platform", "maxar") != "maxar")
    sortby = choice.choice([[], ["+id"], ["-gsd", "+datetime"]])
    if sortby:
        search["sortby"] = sortby

    expected = catalog.ids(lambda *of: all(holds(*of) for holds in conditions), sortby)

    assert ids(found(client, method, limit=choice.choice([9, 50]), **search)) == expected


def test_the_list_of_items_and_the_search_agree(client, catalog):
    answer = client.get("/stac/collections/naip/items", params={"limit": 12, "bbox": in_query(LIBERTY)})
    listed = answer.json()["features"]

    assert ids(listed) == catalog.ids(lambda c, p, s: s.intersects(shapely.box(*LIBERTY)))
    assert listed == found(client, "POST", bbox=LIBERTY)


def test_an_item_is_stored_as_the_service_was_recorded_to_store_it(client):
    """The service's own answer for an item of the third of the catalogs, in a collection of the recorded name."""
    client.add_collection("naip-atl")
    item_id = "ga_m_3308429_nw_16_060_20211114"
    source = json.loads((NAIP / "atl" / item_id / f"{item_id}.json").read_text())
    client.add_items({**source, "collection": "naip-atl"}, collection_id="naip-atl")

    stored = client.get(f"/stac/collections/naip-atl/items/{item_id}").json()
    client.finish(client.delete("/stac/collections/naip-atl"))

    folder = f"{client.url}/_emulator/managed/naip-atl-bde3e846/a34/{item_id}"
    files = ("image.tif", "thumbnail.jpg", "tilejson.json", "rendered_preview.png")
    extensions = "https://stac-extensions.github.io"
    assert stored.pop("_msft:ts")
    assert stored.pop("_msft:etag")
    assert [link["rel"] for link in stored.pop("links")] == ["collection", "parent", "root", "self"]
    assert {key: asset.pop("href") for key, asset in stored["assets"].items()} == {
        file.split(".")[0]: f"{folder}/{file}" for file in files
    }
    for asset in source["assets"].values():
        del asset["href"]
    del source["links"]
    assert stored == {
        **source,
        "collection": "naip-atl",
        "stac_extensions": [f"{extensions}/eo/v1.1.0/schema.json", f"{extensions}/projection/v1.1.0/schema.json"],
    }
