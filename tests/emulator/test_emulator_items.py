"""Writing items: operations that fail later, and what the service makes of an item."""

from __future__ import annotations

import pytest

ITEMS = "/stac/collections/demo/items"


def test_an_item_is_stored_as_the_service_stores_it(demo, new_item):
    links = [{"rel": "self", "href": "https://example.com"}, {"rel": "preview", "href": "https://example.com/p"}]
    old = "https://stac-extensions.github.io/projection/v1.0.0/schema.json"
    posted = demo.post(ITEMS, json=new_item("a", links=links, stac_extensions=[old]))
    assert "additionalInformation" not in posted.json()

    operation = demo.finish(posted)
    stored = demo.get(f"{ITEMS}/a").json()

    assert operation["startTime"] == operation["creationTime"]
    assert operation["finishTime"] == operation["statusHistory"][-1]["timestamp"]
    assert operation["additionalInformation"]["TotalSuccessfulItems"] == "1"
    assert [link["rel"] for link in stored["links"]] == ["collection", "parent", "root", "self", "preview"]
    assert stored["stac_extensions"] == [old.replace("v1.0.0", "v1.1.0")]
    assert "/demo-2a97516c/ca9/a/image.tif" in stored["assets"]["image"]["href"]  # sha256 of "demo" and of "a"
    assert {"_msft:ts", "_msft:etag"} <= set(stored)


def test_a_duplicate_fails_in_its_operation(demo, new_item):
    demo.add_items(new_item("a"))

    operation = demo.finish(demo.post(ITEMS, json=new_item("a")))

    assert operation["status"] == "Failed"
    expected = {"code": "ItemAlreadyExistsInCollection", "message": "Item 'a' already exists in collection 'demo'"}
    assert operation["error"]["error"] == expected
    assert operation["statusHistory"][-1]["errorCode"] == expected["code"]


def test_the_bad_items_of_a_feature_collection_fail_and_the_good_ones_stay(demo, new_item):
    operation = demo.add_items(
        new_item("a"), new_item("b", geometry=None), new_item("c", assets={"x": {"href": "./x"}})
    )

    assert operation["error"]["error"]["code"] == "ErrorsInBatchOperation"
    assert operation["error"]["error"]["message"] == "2 of 3 items failed"
    assert demo.get(f"{ITEMS}/a").status_code == 200
    codes = {failure["itemId"]: failure["errorCode"] for failure in demo.failures(operation)}
    assert codes == {"b": "StacValidationFailed", "c": "InvalidAssetHref"}


def test_an_item_of_another_collection_is_refused_at_once(demo, new_item):
    answer = demo.post(ITEMS, json=new_item("a", collection="other"))

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ValidationError")


def test_items_of_a_missing_collection_are_refused_at_once(client, new_item):
    answer = client.post("/stac/collections/nope/items", json=new_item("a"))

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ResourceNotFound")


@pytest.mark.parametrize("method", ["put", "patch"])
def test_updating_a_missing_item_fails_in_its_operation(demo, new_item, method):
    operation = demo.finish(getattr(demo, method)(f"{ITEMS}/a", json=new_item("a")))

    assert operation["type"] == "UpdateItem"
    assert operation["error"]["error"]["message"] == "Item 'a' does not exist in collection 'demo' to update"


def test_a_patch_has_to_restore_the_original_hrefs(demo, new_item):
    demo.add_items(new_item("a"))

    alone = demo.finish(demo.patch(f"{ITEMS}/a", json={"properties": {"x": 1}}))
    restored = demo.finish(demo.patch(f"{ITEMS}/a", json={"properties": {"x": 1}, "assets": new_item("a")["assets"]}))

    assert alone["error"]["error"]["code"] == "PublicAccessRestricted"
    assert demo.get(f"{ITEMS}/a").json()["assets"]["image"]["href"] in alone["error"]["error"]["message"]
    assert restored["status"] == "Succeeded"
    assert demo.get(f"{ITEMS}/a").json()["properties"]["x"] == 1


def test_an_item_is_replaced_and_deleted(demo, new_item):
    demo.add_items(new_item("a"))

    assert demo.finish(demo.put(f"{ITEMS}/a", json=new_item("a", bbox=[1, 2, 3, 4])))["status"] == "Succeeded"
    assert demo.get(f"{ITEMS}/a").json()["bbox"] == [1, 2, 3, 4]
    assert demo.finish(demo.delete(f"{ITEMS}/a"))["type"] == "DeleteItem"
    missing = demo.get(f"{ITEMS}/a")
    assert missing.json()["error"]["message"].startswith(f"Resource not found at '{ITEMS}/a' with parameters")
    assert demo.finish(demo.delete(f"{ITEMS}/a"))["error"]["error"]["code"] == "NoRecordsToDelete"


@pytest.mark.parametrize(
    "change",
    [
        {"properties": {"datetime": 1700000000}},
        {"properties": {"datetime": "yesterday"}},
        {"stac_version": "0.9.0"},
        {"bbox": None},
        {"id": "a/b"},
        {"id": 7},
        {"geometry": {"type": "Polygon", "coordinates": []}},
        {"links": [{"rel": "x"}]},
        {"assets": {"a b": {"href": "https://example.com/x.tif"}}},
        {"assets": {"x": {}}},
    ],
)
def test_an_invalid_item_fails_in_its_operation(demo, new_item, change):
    operation = demo.finish(demo.post(ITEMS, json={**new_item("a"), **change}))

    assert operation["status"] == "Failed"
    assert operation["error"]["error"]["code"] in ("StacValidationFailed", "InvalidInputData")
    assert operation["additionalInformation"]["TotalFailedItems"] == "1"


@pytest.mark.parametrize("body", ['{"x": NaN}', '{"x": 1e999}', "[" * 100_000, b"\xff"])
def test_what_is_no_json_never_reaches_the_catalog(demo, body):
    answer = demo.post(ITEMS, data=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")


def test_an_item_without_or_with_a_null_collection_gets_the_one_of_the_path(demo, new_item):
    demo.add_items(new_item("a"), new_item("b", collection=None))

    stored = demo.get(ITEMS).json()["features"]

    assert {one["id"]: one["collection"] for one in stored} == {"a": "demo", "b": "demo"}
