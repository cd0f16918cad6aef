"""Queryables of the catalog and of collections."""

from __future__ import annotations

import pytest

PATH = "/stac/collections/demo/queryables"
CLOUDS = {
    "name": "eo:cloud_cover",
    "definition": {"type": "number", "title": "Cloud cover"},
    "data_type": "number",
    "create_index": False,
}
KIND = {"name": "kind", "definition": {"type": "string", "enum": ["a", "b"]}, "data_type": "string"}
DEFAULTS = ["id", "datetime", "geometry"]


def names(client, path=PATH):
    return list(client.get(path).json()["properties"])


@pytest.mark.parametrize("version", ["2025-04-30-preview", "2026-04-15"])
def test_queryables_live_and_die(demo, new_client, version):
    client = new_client(demo.server, version)

    created = client.post(PATH, json=[CLOUDS, KIND])
    assert (created.status_code, [one["name"] for one in created.json()]) == (201, ["eo:cloud_cover", "kind"])
    assert created.json()[0] == CLOUDS
    assert names(client) == [*DEFAULTS, "eo:cloud_cover", "kind"]

    definition = {"type": "number", "minimum": 0}
    replaced = client.put(f"{PATH}/eo:cloud_cover", json={**CLOUDS, "definition": definition})
    assert (replaced.status_code, replaced.json()) == (200, {**CLOUDS, "definition": definition, "data_type": None})
    assert client.get(PATH).json()["properties"]["eo:cloud_cover"] == definition

    deleted = client.delete(f"{PATH}/eo%3Acloud_cover")
    assert (deleted.status_code, deleted.content) == (200, b"")
    assert names(client) == [*DEFAULTS, "kind"]


def test_the_data_type_that_an_answer_hides_is_kept(demo):
    demo.post(PATH, json=[CLOUDS])
    demo.put(f"{PATH}/eo:cloud_cover", json={**CLOUDS, "data_type": "string"})

    assert demo.server.emulator.world.collections["demo"].queryables["eo:cloud_cover"]["data_type"] == "string"


@pytest.mark.parametrize("path", [PATH, "/stac/queryables"])
def test_a_read_is_a_json_schema(demo, path):
    answer = demo.get(path, params={"x": "y"})
    schema = answer.json()

    assert answer.headers["Content-Type"] == "application/schema+json"
    assert schema.pop("$id") == f"{demo.url}{path}?api-version=2026-04-15&x=y"
    assert list(schema.pop("properties")) == DEFAULTS
    assert schema == {
        "type": "object",
        "title": "STAC Queryables.",
        "$schema": "http://json-schema.org/draft-07/schema#",
        "additionalProperties": True,
    }


def test_the_catalog_has_what_any_collection_has(demo):
    demo.post(PATH, json=[KIND])
    demo.add_collection("second")
    demo.post("/stac/collections/second/queryables", json=[CLOUDS, {**KIND, "definition": {"type": "number"}}])

    assert sorted(names(demo, "/stac/queryables")) == sorted([*DEFAULTS, "eo:cloud_cover", "kind"])
    assert demo.get("/stac/queryables").json()["properties"]["kind"] == KIND["definition"]


@pytest.mark.parametrize("method", ["put", "delete"])
@pytest.mark.parametrize("name", ["nope", "id"])
def test_a_missing_queryable_is_a_404_with_the_recorded_text(demo, method, name):
    options = {"json": {**CLOUDS, "name": name}} if method == "put" else {}

    answer = getattr(demo, method)(f"{PATH}/{name}", **options)

    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "code": "ResourceNotFound",
        "message": f"Queryable '{name}' not found for collection 'demo'",
    }


@pytest.mark.parametrize("body", [[KIND, CLOUDS], [KIND, KIND], [KIND, {**CLOUDS, "name": "datetime"}]])
def test_a_duplicate_is_a_409_and_adds_nothing(demo, body):
    demo.post(PATH, json=[CLOUDS])

    answer = demo.post(PATH, json=body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (409, "ResourceAlreadyExists")
    assert error["message"].endswith("already exists for collection 'demo'")  # recorded, as the code
    assert names(demo) == [*DEFAULTS, "eo:cloud_cover"]


@pytest.mark.parametrize(
    "queryable",
    [
        "eo:cloud_cover",
        {**CLOUDS, "name": ""},
        {**CLOUDS, "name": None},
        {**CLOUDS, "definition": "number"},
        {"name": "x"},
        {**CLOUDS, "data_type": "integer"},
        {**CLOUDS, "data_type": ["number"]},
        {**CLOUDS, "create_index": "yes"},
    ],
)
def test_an_unusable_queryable_is_a_400_and_adds_nothing(demo, queryable):
    answer = demo.post(PATH, json=[KIND, queryable])

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadRequestError")
    assert names(demo) == DEFAULTS


@pytest.mark.parametrize("body", [CLOUDS, [], "x"])
def test_queryables_are_posted_as_a_list(demo, body):
    assert demo.post(PATH, json=body).status_code == 400


def test_a_replaced_queryable_has_the_name_of_the_path(demo):
    demo.post(PATH, json=[CLOUDS])

    assert demo.put(f"{PATH}/eo:cloud_cover", json=KIND).status_code == 400


def test_queryables_of_a_missing_collection_are_a_404(client):
    assert client.get(PATH).status_code == 404
    assert client.post(PATH, json=[CLOUDS]).status_code == 404


def test_the_landing_page_and_collections_link_to_their_queryables(demo):
    for document in (demo.get("/stac/").json(), demo.get("/stac/collections/demo").json()):
        [href] = [link["href"] for link in document["links"] if link["rel"].endswith("/queryables")]

        assert list(demo.get(href).json()["properties"]) == DEFAULTS
