"""Search over HTTP, with a client that was not written for it: pystac-client."""

from __future__ import annotations

import json

import pystac_client
import pytest

PATH = "/stac/search"
CLOUDS = {"name": "clouds", "definition": {"type": "number"}, "data_type": "number", "create_index": True}


@pytest.fixture
def filled(demo, new_item):
    """Thirty items in two collections, on a line to the east."""
    demo.add_collection("second")
    for collection_id, numbers in (("demo", range(20)), ("second", range(20, 30))):
        items = [
            new_item(
                f"i{number:02}",
                geometry={"type": "Point", "coordinates": [number, 10]},
                bbox=[number, 10, number, 10],
                properties={
                    "datetime": f"2024-01-{number + 1:02}T00:00:00Z",
                    "clouds": number % 7,
                    "kind": "even" if number % 2 == 0 else "odd",
                },
            )
            for number in numbers
        ]
        demo.add_items(*items, collection_id=collection_id)
    return demo


@pytest.fixture
def catalog(filled):
    return pystac_client.Client.open(
        f"{filled.url}/stac?api-version=2026-04-15",
        parameters={"api-version": "2026-04-15"},
        headers={"Authorization": "Bearer admin-token"},
    )


POINTS = {"type": "MultiPoint", "coordinates": [[3, 10], [25, 10]]}
TEXT, JSON = "clouds < 2 AND kind = 'even'", {"op": "<", "args": [{"property": "clouds"}, 1]}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"ids": ["i03", "i25", "nope"]}, [25, 3]),
        ({"collections": ["second"]}, [*range(29, 19, -1)]),
        ({"collections": ["nope"]}, []),
        ({"bbox": [17.5, 0, 21.5, 20]}, [21, 20, 19, 18]),
        ({"bbox": [17.5, 0, -5, 21.5, 20, 5]}, [21, 20, 19, 18]),
        ({"bbox": [27.5, 0, 1.5, 20]}, [29, 28, 1, 0]),
        ({"intersects": POINTS}, [25, 3]),
        ({"intersects": {"type": "GeometryCollection", "geometries": [POINTS]}}, [25, 3]),
        ({"datetime": "2024-01-05/2024-01-07"}, [6, 5, 4]),
        ({"datetime": "../2024-01-02"}, [1, 0]),
        ({"query": {"clouds": {"gte": 6}}}, [27, 20, 13, 6]),
        ({"query": ["kind=even"], "bbox": [5.5, 0, 9.5, 20]}, [8, 6]),
        ({"filter": TEXT}, [28, 22, 14, 8, 0]),
        ({"filter": JSON}, [28, 21, 14, 7, 0]),
        ({"filter": {"op": "s_within", "args": [{"property": "geometry"}, {"bbox": [2.5, 9, 4.5, 11]}]}}, [4, 3]),
        ({"sortby": "+properties.clouds,-datetime", "max_items": 3}, [28, 21, 14]),
        ({"sortby": [{"field": "id", "direction": "asc"}], "max_items": 2}, [0, 1]),
    ],
)
def test_pystac_client_finds_what_it_asks_for_through_pages(catalog, method, parameters, expected):
    search = catalog.search(method=method, limit=3, **parameters)

    assert [int(item["id"][1:]) for item in search.items_as_dicts()] == expected


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pystac_client_asks_for_members(catalog, method):
    fields = {"include": ["id", "properties.clouds"], "exclude": ["geometry"]}
    [item] = catalog.search(method=method, ids=["i10"], fields=fields).items_as_dicts()

    assert item["properties"] == {"clouds": 3}
    assert "geometry" not in item


def test_pystac_client_believes_the_conformance_classes(catalog):
    for name in ("CORE", "COLLECTIONS", "ITEM_SEARCH", "FIELDS", "SORT", "QUERY", "FILTER"):
        assert catalog.conforms_to(name), name
    assert sorted(collection.id for collection in catalog.get_all_collections()) == ["demo", "second"]
    assert len(list(catalog.get_all_items())) == 30
    with pytest.warns(UserWarning, match="numberMatched"):  # which the service does not tell (7.5)
        assert catalog.search(limit=4, max_items=10).matched() is None
    assert [len(page.items) for page in catalog.search(limit=12).pages()] == [12, 12, 6]
    names = catalog.get_collection("demo").get_queryables()["properties"]
    assert set(names) == {"id", "datetime", "geometry"}


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [int(feature["id"][1:]) for feature in answer.json()["features"]]


def link(answer, rel):
    return next((one for one in answer.json()["links"] if one["rel"] == rel), None)


def test_pages_lead_forward_and_back_by_body(filled):
    first = filled.post(PATH, json={"limit": 12})
    second = filled.post(link(first, "next")["href"], json=link(first, "next")["body"])
    again = filled.post(link(second, "prev")["href"], json=link(second, "prev")["body"])

    assert (link(first, "prev"), link(again, "prev")) == (None, None)
    assert ids(second) == [*range(17, 5, -1)]
    assert ids(again) == ids(first)
    assert link(again, "next")["body"] == link(first, "next")["body"]


def test_a_page_starts_after_an_item_whatever_was_added_before_it(filled, new_item):
    first = filled.get("/stac/collections/demo/items", params={"limit": 2})
    filled.add_items(new_item("i99", properties={"datetime": "2025-01-01T00:00:00Z"}))

    second = filled.get(link(first, "next")["href"])

    assert ids(first) + ids(second) == [19, 18, 17, 16]


def test_a_filter_of_get_is_text_or_json(filled):
    for parameters in (
        {"filter": "clouds = 6"},
        {"filter": json.dumps({"op": "=", "args": [{"property": "clouds"}, 6]}), "filter-lang": "cql2-json"},
    ):
        assert ids(filled.get("/stac/collections/demo/items", params=parameters)) == [13, 6]
        assert ids(filled.get(PATH, params=parameters)) == [27, 20, 13, 6]


def test_queryables_build_indexes_and_restrict_nothing(filled):
    queryables = "/stac/collections/demo/queryables"
    undeclared, declared = (
        {"filter": "kind = 'odd'", "limit": 1},
        {"filter": "clouds = '6'", "filter-lang": "cql2-text"},
    )
    store = filled.server.emulator.world.items
    assert ids(filled.post(PATH, json=declared)) == []

    filled.post(queryables, json=[CLOUDS])
    assert store.indexed_value("clouds") is not None
    assert ids(filled.post(PATH, json=declared)) == [27, 20, 13, 6]
    assert ids(filled.post(PATH, json={**declared, "collections": ["demo"], "sortby": ["+clouds"]})) == [6, 13]
    assert ids(filled.post(PATH, json=undeclared)) == [29]

    filled.put(f"{queryables}/clouds", json={**CLOUDS, "create_index": False})
    assert store.indexed_value("clouds") is None
    filled.put(f"{queryables}/clouds", json=CLOUDS)
    filled.finish(filled.delete("/stac/collections/demo"))
    assert store.indexed_value("clouds") is None
    assert ids(filled.post(PATH, json={"limit": 100})) == [*range(29, 19, -1)]


@pytest.mark.parametrize(
    "query",
    [
        {"bbox": "nan,0,1,1"},
        {"bbox": "inf,0,1,1"},
        {"bbox": "0,0,1e400,1"},
        {"bbox": "0,-91,1,1"},
        {"bbox": "0,0,9,1,1,1"},
        {"bbox": "1_0,0,11,1"},
        {"datetime": "0000-01-01T00:00:00Z"},
        {"datetime": "2024-01-01T00:00:00Z/2023-01-01T00:00:00Z"},
        {"datetime": "../.."},
        {"datetime": "1/2/3"},
        {"intersects": "[" * 5000},
        {"intersects": '{"type": "Polygon", "coordinates": []}'},
        {"filter": "(" * 1000},
        {"filter": "a = 1", "filter-lang": "sql"},
        {"filter": "a = 1", "filter-crs": "http://www.opengis.net/def/crs/EPSG/0/3857"},
        {"query": '{"a": {"near": 1}}'},
        {"token": "next:demo:gone"},
        {"token": "sideways:demo:i01"},
        {"limit": "9" * 400},
    ],
)
def test_an_absurd_search_is_a_documented_400(filled, query):
    answer = filled.get(PATH, params=query)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadRequestError")


@pytest.mark.parametrize("interval", ["0001-01-01T00:00:00+23:59/..", "../9999-12-31T23:59:59.999999-23:59"])
def test_the_ends_of_the_calendar_can_be_asked_for(filled, interval):
    assert len(ids(filled.post(PATH, json={"datetime": interval, "limit": 100}))) == 30
