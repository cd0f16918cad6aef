"""Collections and their configurations, in all three dialects."""

from __future__ import annotations

import pytest

from airflow_provider_geocatalog.emulator.clock import ManualClock

CURRENT = ["2025-04-30-preview", "2026-04-15"]
CURRENT_BASES = [(version, "/stac/collections/demo/configurations") for version in CURRENT]


@pytest.mark.parametrize("version", CURRENT)
def test_a_collection_is_created_and_deleted_by_operations(client, new_client, new_collection, version):
    client = new_client(client.server, version)
    created = client.post("/stac/collections", json=new_collection("demo"))
    assert created.json()["status"] == "Pending"
    assert created.headers["Location"].endswith(f"/inma/operations/{created.json()['id']}?api-version={version}")

    assert [change["status"] for change in client.finish(created)["statusHistory"]] == [
        "Pending",
        "Running",
        "Finished",
    ]
    assert client.get("/stac/collections/demo").json()["id"] == "demo"
    assert client.finish(client.delete("/stac/collections/demo"))["type"] == "DeleteCollection"
    assert client.get("/stac/collections/demo").status_code == 404


def test_in_2024_a_collection_is_created_and_deleted_at_once(client, new_client, new_collection):
    old = new_client(client.server, "2024-01-31-preview")

    created = old.post("/api/collections", json=new_collection("demo"))

    assert (created.status_code, created.json()["id"]) == (201, "demo")
    assert old.get("/api/collections/demo").status_code == 200
    assert old.delete("/api/collections/demo").status_code == 204
    assert old.get("/api/collections/demo").status_code == 404


@pytest.mark.parametrize(
    "change", [{"assets": {}}, {"id": "a/b"}, {"id": ""}, {"license": None}, {"extent": {}}, {"links": None}]
)
def test_an_unacceptable_collection_is_a_400(client, new_collection, change):
    answer = client.post("/stac/collections", json={**new_collection("demo"), **change})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ValidationError")


def test_an_existing_collection_is_a_409(demo, new_collection):
    answer = demo.post("/stac/collections", json=new_collection("demo"))

    assert answer.status_code == 409
    assert answer.json()["error"] == {"code": "DuplicatedEntity", "message": "Collection 'demo' already exists"}


def test_by_default_collection_operations_wait_for_the_tick_and_ids_for_45_seconds(serve, new_client, new_collection):
    clock = ManualClock()
    client = new_client(serve(clock, collection_tick=30, recreate_after=45))
    poll = client.post("/stac/collections", json=new_collection("demo")).headers["Location"]
    clock.advance(29)
    assert client.get(poll).json()["status"] == "Pending"
    clock.advance(1)
    assert client.get(poll).json()["status"] == "Succeeded"

    poll = client.delete("/stac/collections/demo").headers["Location"]
    clock.advance(30)
    assert client.get(poll).json()["status"] == "Succeeded"
    clock.advance(44)
    assert client.post("/stac/collections", json=new_collection("demo")).status_code == 409
    clock.advance(1)
    assert client.post("/stac/collections", json=new_collection("demo")).status_code == 202


def test_reading_and_replacing_a_collection_answer_with_different_links(demo, new_collection):
    read = demo.get("/stac/collections/demo").json()
    written = demo.put("/stac/collections/demo", json=new_collection("demo", title="new")).json()

    assert [link["rel"] for link in read["links"]][-1] == "http://www.opengis.net/def/rel/ogc/1.0/queryables"
    assert list(written)[:2] == ["msft:_created", "msft:_updated"]
    assert {link["rel"]: link["href"] for link in written["links"]}["self"] == f"{demo.url}/stac/collections/demo/"
    assert demo.get("/stac/collections/demo").json()["title"] == "new"


def test_a_missing_collection_is_envelope_a_on_get_and_problem_details_on_delete(client):
    got, deleted = client.get("/stac/collections/nope"), client.delete("/stac/collections/nope")

    assert got.json()["error"]["message"].startswith("Collection 'nope' not found.")
    assert deleted.status_code == 404
    assert deleted.headers["Content-Type"] == "application/problem+json"
    assert "x-ms-error-code" not in deleted.headers


def test_a_deleted_collection_takes_its_items_along(demo, new_item, new_collection):
    demo.add_items(new_item("a"))
    demo.finish(demo.delete("/stac/collections/demo"))

    demo.add_collection()

    assert demo.get("/stac/collections/demo/items").json()["features"] == []


@pytest.mark.parametrize(("version", "base"), [("2024-01-31-preview", "/api/{}/config"), *[(v, "") for v in CURRENT]])
def test_render_options_live_and_die(demo, new_client, version, base):
    client = new_client(demo.server, version)
    path = (base.format("collections/demo") or "/stac/collections/demo/configurations") + "/render-options"
    option = {"id": "natural", "name": "Natural", "type": "raster-tile", "options": "assets=image"}

    assert client.post(path, json=option).json() == option
    assert client.post(path, json=option).status_code == 409
    assert client.get(f"{path}/natural").json()["legend"] is None
    assert client.put(f"{path}/natural", json={**option, "name": "New"}).status_code == 200
    assert client.get(path).json()[0]["name"] == "New"
    assert client.delete(f"{path}/natural").content == b""
    message = client.get(f"{path}/natural").json()["error"]["message"]
    assert message == "Render Option 'natural' not found for collection 'demo'"


def test_a_new_collection_has_the_default_mosaic(demo):
    path = "/stac/collections/demo/configurations/mosaics"

    assert demo.get(path).json() == [{"id": "default", "name": "Default", "description": "", "cql": []}]
    created = demo.post(path, json={"id": "m", "name": "M", "cql": []})
    assert (created.status_code, created.json()["description"]) == (201, None)
    assert demo.put(f"{path}/nope", json={"name": "M", "cql": []}).status_code == 404


def test_the_whole_configuration_is_read_at_once(demo):
    demo.put("/stac/collections/demo/configurations/tile-settings", json={"minZoom": 12, "maxItemsPerTile": 5})

    whole = demo.get("/stac/collections/demo/configurations").json()

    assert whole["tileSettings"] == {"minZoom": 12, "maxItemsPerTile": 5, "defaultLocation": None}
    assert set(whole["mosaicInfo"]) == {"mosaics", "renderOptions", "defaultLocation", "defaultCustomQuery"}


def test_the_partition_type_can_only_be_set_before_items_are_loaded(demo, new_item):
    path = "/stac/collections/demo/configurations/partition-type"

    assert demo.get(path).json() == {"scheme": "none"}
    assert demo.put(path, json={"scheme": "year"}).content == b""
    demo.add_items(new_item("a"))
    assert demo.put(path, json={"scheme": "month"}).status_code == 400
    assert demo.get(path).json() == {"scheme": "year"}
    assert demo.put("/stac/collections/nope/configurations/partition-type", json={"scheme": "year"}).status_code == 404
    assert demo.put(path, json={"scheme": "week"}).status_code == 400


@pytest.mark.parametrize(("version", "base"), [("2024-01-31-preview", "/api/collections/demo/config"), *CURRENT_BASES])
def test_tile_settings_are_replaced_as_a_whole(demo, new_client, version, base):
    client = new_client(demo.server, version)
    location = {"zoom": 5, "coordinates": [47.1, -10.1]}

    answer = client.put(f"{base}/tile-settings", json={"minZoom": 24, "defaultLocation": location})

    expected = {"minZoom": 24, "maxItemsPerTile": None, "defaultLocation": location}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert client.get(f"{base}/tile-settings").json() == expected
    for bad in ({"minZoom": 25}, {"minZoom": True}, {"maxItemsPerTile": 0}, []):
        assert client.put(f"{base}/tile-settings", json=bad).status_code == 400


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("render-options", {"legend": {"trimEnd": True}}),
        ("render-options", {"legend": {"type": "x"}}),
        ("render-options", {"conditions": [{}]}),
        ("render-options", {"options": ["assets=image"]}),
        ("render-options", {"vectorOptions": "x"}),
        ("mosaics", {"description": 1}),
        ("tile-settings", {"defaultLocation": {"zoom": True, "coordinates": [1, 2]}}),
        ("tile-settings", {"defaultLocation": {"zoom": 1, "coordinates": [1]}}),
    ],
)
def test_members_of_a_wrong_type_are_a_400(demo, path, members):
    write = demo.put if path == "tile-settings" else demo.post
    body = {"id": "x", "name": "x", "type": "raster-tile", **members}

    answer = write(f"/stac/collections/demo/configurations/{path}", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadRequestError")


def test_a_path_with_a_line_break_is_a_path(client):
    answer = client.get("/stac/collections/a%0Ab")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ResourceNotFound")
