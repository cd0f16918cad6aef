"""Search and paging over HTTP, and through pystac-client."""

from __future__ import annotations

import pystac_client
import pytest


@pytest.fixture
def filled(demo, new_item):
    """Twelve items on a line to the east, one a month."""
    demo.add_items(
        *(
            new_item(
                f"i{month:02}",
                geometry={"type": "Point", "coordinates": [float(month), 47.0]},
                bbox=[month, 47, month, 47],
                properties={"datetime": f"2024-{month:02}-15T00:00:00Z", "eo:cloud_cover": month * 5},
            )
            for month in range(1, 13)
        )
    )
    return demo


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [int(feature["id"][1:]) for feature in answer.json()["features"]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, [12, 11, 10, 9, 8, 7, 6, 5, 4, 3]),
        ({"ids": ["i03", "i04", "nope"]}, [4, 3]),
        ({"collections": ["other"]}, []),
        ({"bbox": [1.5, 40, 3.5, 50]}, [3, 2]),
        ({"bbox": [11.5, 40, 1.5, 50]}, [12, 1]),
        ({"intersects": {"type": "Polygon", "coordinates": [[[0, 0], [2.5, 0], [2.5, 50], [0, 50], [0, 0]]]}}, [2, 1]),
        ({"datetime": "2024-02-01T00:00:00Z/2024-03-31T00:00:00Z"}, [3, 2]),
        ({"datetime": "../2024-02-01T00:00:00Z"}, [1]),
        ({"datetime": "2024-05-15T00:00:00Z"}, [5]),
        ({"sortby": [{"field": "properties.eo:cloud_cover", "direction": "asc"}], "limit": 3}, [1, 2, 3]),
        ({"filter": {"op": "<", "args": [{"property": "eo:cloud_cover"}, 11]}}, [2, 1]),
        ({"filter": '"eo:cloud_cover" = 15', "filter-lang": "cql2-text"}, [3]),
        ({"query": {"eo:cloud_cover": {"gte": 55}}}, [12, 11]),
    ],
)
def test_a_search_finds_what_it_asks_for(filled, body, expected):
    assert ids(filled.post("/stac/search", json=body)) == expected


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 0},
        {"limit": 10001},
        {"bbox": [1, 2, 3]},
        {"datetime": "yesterday"},
        {"intersects": {"type": "Nope"}},
        {"filter": {"op": "frobnicate", "args": []}},
        {"token": "next:demo:nope"},
        {"sortby": "x"},
        {"bbox": [1, 2, 3, 4], "intersects": {"type": "Point", "coordinates": [0, 0]}},
    ],
)
def test_a_malformed_search_is_a_400(filled, body):
    answer = filled.post("/stac/search", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadRequestError")


def test_a_search_by_query_string_understands_the_same(filled):
    query = {"bbox": "1.5,40,5.5,50", "sortby": "-eo:cloud_cover", "filter": "eo:cloud_cover > 10", "limit": 2}

    assert ids(filled.get("/stac/search", params=query)) == [5, 4]


@pytest.mark.parametrize(
    ("version", "path"),
    [("2024-01-31-preview", "/api/search"), ("2025-04-30-preview", "/stac/search"), ("2026-04-15", "/stac/search")],
)
def test_every_api_version_searches_by_query_string_and_by_body(filled, new_client, version, path):
    client = new_client(filled.server, version)

    assert ids(client.get(path, params={"collections": "demo", "limit": 2})) == [12, 11]
    assert ids(client.post(path, json={"collections": ["demo"], "limit": 2})) == [12, 11]


def test_fields_choose_members(filled):
    body = {"ids": ["i01"], "fields": {"include": ["properties.datetime"]}}

    feature = filled.post("/stac/search", json=body).json()["features"][0]

    assert set(feature) == {"id", "type", "collection", "properties"}
    assert list(feature["properties"]) == ["datetime"]
    without = {"ids": ["i01"], "fields": [{"exclude": ["assets", "properties.eo:cloud_cover"]}]}
    feature = filled.post("/stac/search", json=without).json()["features"][0]
    assert "assets" not in feature
    assert list(feature["properties"]) == ["datetime"]


def test_the_list_of_items_pages_by_get_links(filled):
    page = filled.get("/stac/collections/demo/items", params={"limit": 7}).json()
    following = next(link for link in page["links"] if link["rel"] == "next")
    filled.session.params = {}

    rest = filled.get(following["href"])

    assert (following["method"], len(page["features"])) == ("GET", 7)
    assert ids(rest) == [5, 4, 3, 2, 1]
    assert "next" not in [link["rel"] for link in rest.json()["links"]]
    assert "numberMatched" not in page


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pystac_client_pages_through_a_search(filled, method):
    catalog = pystac_client.Client.open(
        f"{filled.url}/stac?api-version=2026-04-15",
        parameters={"api-version": "2026-04-15"},
        headers={"Authorization": "Bearer admin-token"},
    )

    search = catalog.search(collections=["demo"], method=method, limit=5, datetime="2024-02/2024-12")

    assert [int(item.id[1:]) for item in search.items()] == list(range(12, 1, -1))
    assert [collection.id for collection in catalog.get_collections()] == ["demo"]
    demo = catalog.get_collection("demo")
    assert len(list(demo.get_items())) == 12
    assert demo.get_item("i03").id == "i03"
