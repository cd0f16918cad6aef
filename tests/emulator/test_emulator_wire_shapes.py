"""
Members, order and headers of answers, compared with the reference's bodies (its section 14) and with what it says of
the service's two sides (1, 4.4).
"""

from __future__ import annotations

import json
import re

import pytest

from airflow_provider_geocatalog.emulator.clock import ManualClock

SAS = "sv=2023-01-03&st=2026-01-01T00:00:00Z&se=2027-01-07T00:00:00Z&sr=c&sp=rl&sig=x"
CONTAINER = "https://acct.blob.core.windows.net/c"
VERSIONS = "2025-04-30-preview, 2026-04-15"
PENDING, RUNNING, FINISHED = ({"status": word, "timestamp": "TIME"} for word in ("Pending", "Running", "Finished"))


def shape(value):
    """Return an answer with ids and times made alike, as text, so that the order of members counts."""
    text = json.dumps(value)
    text = re.sub(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z"', '"TIME"', text)
    return re.sub(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", "ID", text)


def counters(total=0, successful=0, failed=0):
    names = ("TotalFailedItems", "TotalItems", "TotalPendingItems", "TotalSuccessfulItems")
    return dict(zip(names, map(str, (failed, total, total - successful - failed, successful)), strict=True))


@pytest.fixture
def slow(serve, new_client, new_collection):
    """A client of an emulator in which nothing happens until the clock moves, with the collection ``demo``."""
    client = new_client(serve(clock=ManualClock(), pending_seconds=1, collection_tick=30, cancel_seconds=2))
    client.clock = client.server.emulator.clock
    client.post("/stac/collections", json=new_collection("demo"))
    client.clock.advance(31)
    return client


def ingestion(client, **members):
    body = {"importType": "StaticCatalog", "sourceCatalogUrl": f"{CONTAINER}/catalog.json", **members}
    return client.post("/inma/collections/demo/ingestions", json=body)


def test_a_collection_is_accepted(slow, new_collection):
    answer = slow.post("/stac/collections", json=new_collection("other"))

    assert answer.status_code == 202
    assert shape(answer.json()) == shape(
        {
            "id": "ID",
            "status": "Pending",
            "statusHistory": [PENDING],
            "type": "AddCollection",
            "creationTime": "TIME",
            "collectionId": "other",
        }
    )


def test_an_operation_on_an_item_ends_well_and_badly(slow, new_item):
    added = slow.post("/stac/collections/demo/items", json=new_item("a"))
    failed = slow.put("/stac/collections/demo/items/b", json=new_item("b"))
    slow.clock.advance(2)

    common = {"creationTime": "TIME", "startTime": "TIME", "finishTime": "TIME", "collectionId": "demo"}
    message = "Item 'b' does not exist in collection 'demo' to update"
    assert shape(slow.get(added.headers["location"]).json()) == shape(
        {
            "id": "ID",
            "status": "Succeeded",
            "statusHistory": [PENDING, RUNNING, FINISHED],
            "type": "AddItem",
            **common,
            "additionalInformation": counters(1, successful=1),
        }
    )
    reason = {"errorCode": "NoRecordsToUpdate", "errorMessage": message}
    assert shape(slow.get(failed.headers["location"]).json()) == shape(
        {
            "id": "ID",
            "status": "Failed",
            "statusHistory": [PENDING, RUNNING, {"status": "Failed", "timestamp": "TIME", **reason}],
            "type": "UpdateItem",
            **common,
            "additionalInformation": counters(1, failed=1),
            "error": {"error": {"code": "NoRecordsToUpdate", "message": message}},
        }
    )


def test_a_run_is_canceled_before_it_starts(slow):
    run = slow.post(f"/inma/collections/demo/ingestions/{ingestion(slow).json()['id']}/runs").json()
    slow.delete(f"/inma/operations/{run['id']}")
    slow.clock.advance(3)

    message = f"Operation '{run['id']}' for collection 'demo' has been cancelled"
    canceled = {"status": "Canceled", "timestamp": "TIME", "errorCode": "CanceledOperation", "errorMessage": message}
    assert shape(slow.get(f"/inma/operations/{run['id']}").json()) == shape(
        {
            "id": "ID",
            "status": "Canceled",
            "statusHistory": [canceled],
            "type": "IngestionStaticCatalog",
            "creationTime": "TIME",
            "finishTime": "TIME",
            "collectionId": "demo",
            "additionalInformation": counters(),
        }
    )


def test_a_definition_and_its_run_and_its_end(slow):
    options = {"skipExistingItems": True, "keepOriginalAssets": True}
    defined = ingestion(slow, displayName="nightly", **options)
    path = f"/inma/collections/demo/ingestions/{defined.json()['id']}"
    started = slow.post(f"{path}/runs")

    source = {"sourceCatalogUrl": f"{CONTAINER}/catalog.json", **options}
    assert (defined.status_code, started.status_code) == (201, 201)
    assert defined.headers["location"] == f"{slow.url}{path}?api-version=2026-04-15"
    assert started.headers["location"] == f"{slow.url}{path}/runs/{started.json()['id']}?api-version=2026-04-15"
    assert shape(defined.json()) == shape(
        {
            "id": "ID",
            "creationTime": "TIME",
            "importType": "StaticCatalog",
            "displayName": "nightly",
            **source,
            "status": "Ready",
        }
    )
    numbers = dict.fromkeys(("totalItems", "totalPendingItems", "totalSuccessfulItems", "totalFailedItems"), 0)
    operation = {"id": "ID", "status": "Pending", "statusHistory": [PENDING], "creationTime": "TIME", **numbers}
    assert shape(started.json()) == shape({"id": "ID", "creationTime": "TIME", **source, "operation": operation})

    slow.delete(f"/inma/operations/{started.json()['id']}")
    slow.clock.advance(3)
    ended = slow.delete(path)
    assert ended.status_code == 202
    assert shape(ended.json()) == shape(
        {
            "id": "ID",
            "status": "Pending",
            "statusHistory": [PENDING],
            "type": "DeleteIngestion",
            "creationTime": "TIME",
            "collectionId": "demo",
            "additionalInformation": {"IngestionId": "ID"},
        }
    )


def test_ingestion_sources_and_identities(slow):
    [identity] = slow.get("/inma/ingestion-sources/managed-identities").json()["value"]
    infos = {
        "SasToken": ({"sasToken": SAS}, {"expiration": "2027-01-07T00:00:00.0000000Z"}),
        "BlobManagedIdentity": ({"objectId": identity["objectId"]}, {"objectId": identity["objectId"]}),
    }

    assert list(identity) == ["objectId", "resourceId"]
    for kind, (sent, shown) in infos.items():
        info = {"containerUrl": f"{CONTAINER}-{kind}"}
        answer = slow.post("/inma/ingestion-sources", json={"kind": kind, "connectionInfo": {**info, **sent}})
        assert answer.status_code == 201
        assert shape(answer.json()) == shape(
            {"id": "ID", "kind": kind, "created": "TIME", "connectionInfo": {**info, **shown}}
        )
    listed = slow.get("/inma/ingestion-sources").json()["value"]
    assert shape(listed) == shape([{"id": "ID", "kind": kind, "created": "TIME"} for kind in infos])


# --- the two sides ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/inma/nowhere", 404),
        ("PUT", "/inma/operations", 405),
        ("DELETE", "/stac/collections/nowhere", 404),
        ("POST", "/stac/collections", 415),
    ],
)
def test_the_write_side_answers_with_problem_details_what_its_framework_refuses(demo, method, path, status):
    answer = demo.session.request(method, demo.url + path, data="x", timeout=5)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert list(answer.json()) == ["type", "title", "status", "traceId"]
    assert answer.headers["api-supported-versions"] == VERSIONS
    assert "x-ms-error-code" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/stac/nowhere", "ResourceNotFound"),
        ("PUT", "/stac/search", "MethodNotAllowed"),
        ("POST", "/stac/search", "UnsupportedMediaType"),
        ("POST", "/stac/collections/demo/assets", "UnsupportedMediaType"),
        ("GET", "/sas/token/nowhere", "ResourceNotFound"),
    ],
)
def test_the_read_side_always_answers_with_an_error_of_its_own(demo, method, path, code):
    answer = demo.session.request(method, demo.url + path, data="x", timeout=5)

    assert answer.json()["error"]["code"] == answer.headers["x-ms-error-code"] == code
    assert answer.headers["content-type"] == "application/json"
    assert "api-supported-versions" not in answer.headers


def test_a_slash_at_the_end_is_redirected_by_the_read_side_and_ignored_by_the_write_side(demo, new_collection):
    replaced = demo.put("/stac/collections/demo", json=new_collection("demo")).json()
    [own] = [link["href"] for link in replaced["links"] if link["rel"] == "self"]
    redirected = demo.get(own, allow_redirects=False)

    assert own.endswith("/")
    assert (redirected.status_code, redirected.headers["location"]) == (307, f"{own[:-1]}?api-version=2026-04-15")
    assert demo.get(own).json()["id"] == "demo"
    assert demo.post("/stac/search/", json={"limit": 1}).json()["type"] == "FeatureCollection"
    assert demo.get("/inma/operations/", allow_redirects=False).status_code == 200
    assert demo.get("/stac/collections//").status_code == 404


def test_the_landing_page_has_its_links_in_the_recorded_order(demo):
    rels = [link["rel"] for link in demo.get("/stac/").json()["links"]]

    queryables = "http://www.opengis.net/def/rel/ogc/1.0/queryables"
    first = ["self", "root", "data", "conformance", "search", "search", queryables]
    assert rels == [*first, "child", "service-desc", "service-doc"]


def test_the_default_queryables_are_defined_as_recorded(demo):
    definitions = demo.get("/stac/collections/demo/queryables").json()["properties"]

    item = "https://schemas.stacspec.org/v1.0.0/item-spec/json-schema/item.json"
    assert definitions == {
        "id": {
            "$ref": f"{item}#/definitions/core/allOf/2/properties/id",
            "title": "Item ID",
            "description": "Item identifier",
        },
        "datetime": {
            "type": "string",
            "title": "Acquired",
            "format": "date-time",
            "pattern": "(\\+00:00|Z)$",
            "description": "Datetime",
        },
        "geometry": {
            "$ref": "https://geojson.org/schema/Feature.json",
            "title": "Item Geometry",
            "description": "Item Geometry",
        },
    }


def test_a_queryable_has_its_members_in_the_recorded_order(demo):
    path = "/stac/collections/demo/queryables"
    body = {"name": "test:property", "data_type": "number", "create_index": False, "definition": {"title": "A test"}}

    added = demo.post(path, json=[body])
    again = demo.post(path, json=[body])
    replaced = demo.put(f"{path}/test%3Aproperty", json=body)

    shown = {"name": "test:property", "definition": {"title": "A test"}, "create_index": False}
    message = "Queryable with name 'test:property' already exists for collection 'demo'"
    assert shape(added.json()) == shape([{**shown, "data_type": "number"}])
    assert (again.status_code, again.json()["error"]) == (409, {"code": "ResourceAlreadyExists", "message": message})
    assert shape(replaced.json()) == shape({**shown, "data_type": None})


def test_a_replaced_collection_is_answered_with_the_write_sides_links(demo, new_collection):
    links = demo.put("/stac/collections/demo", json=new_collection("demo")).json()["links"]

    own = f"{demo.url}/stac/collections/demo"
    targets = {"self": f"{own}/", "parent": f"{demo.url}/", "root": f"{demo.url}/", "items": f"{own}/items"}
    assert shape(links) == shape([{"rel": rel, "type": "application/json", "href": to} for rel, to in targets.items()])


def test_a_new_render_option_is_echoed_without_its_nulls(demo):
    path = "/stac/collections/demo/configurations/render-options"
    legend = {"type": "continuous", "labels": None, "scaleFactor": 1.0}
    body = {"id": "a", "name": "A", "type": "raster-tile", "options": "assets=a", "legend": legend, "conditions": None}

    answer = demo.post(path, json=body)

    del body["conditions"], legend["labels"]
    assert (answer.status_code, answer.json()) == (201, body)
    assert demo.get(f"{path}/a").json()["conditions"] is None


@pytest.mark.parametrize(
    ("interval", "status"),
    [
        ("2024-01-01", 200),
        ("2023-12-31/2024-01-01", 200),
        ("2024-01-01T00:00:00Z", 200),
        ("2024-01-01t00:00:00.000z", 200),
        ("2024-01-01T01:00:00.0000000+01:00", 200),
        ("2024-01-01T00:00:00", 400),
        ("2024-01-01T00:00:00+0000", 400),
        ("2024-01-01T00:00:00.Z", 400),
        ("2024-01-01T00:00:00,0Z", 400),
        ("2024-01-01T00:00Z", 400),
        ("20240101T000000Z", 400),
        ("2024-W01-1", 400),
        ("2024-01", 400),
        ("2024-01-01/P1D", 400),
    ],
)
def test_a_search_names_moments_of_rfc_3339_or_days(demo, new_item, interval, status):
    demo.add_items(new_item("a"))

    answers = [
        demo.get("/stac/search", params={"datetime": interval}),
        demo.post("/stac/search", json={"datetime": interval}),
        demo.get("/stac/collections/demo/items", params={"datetime": interval}),
    ]

    assert [answer.status_code for answer in answers] == [status] * 3
    assert status == 400 or [len(answer.json()["features"]) for answer in answers] == [1] * 3
