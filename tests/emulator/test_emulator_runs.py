"""Bulk ingestion of static catalogs."""

from __future__ import annotations

import http.server
import threading
from functools import partial

import pytest

from airflow_provider_geocatalog.emulator.clock import ManualClock

UNREACHED = "IngestionResourceConnectionFailed"
NONE = {"TotalFailedItems": "0", "TotalItems": "0", "TotalPendingItems": "0", "TotalSuccessfulItems": "0"}


def test_a_nested_catalog_is_loaded_and_the_broken_item_is_counted(demo, catalogs, new_item):
    catalogs.write("a.json", new_item("a"))
    catalogs.write("sub/b.json", new_item("b", collection="another"))
    absolute = catalogs.write("far/c.json", new_item("c", stac_version="1.1.0"))
    catalogs.write("sub/broken.json", new_item("broken", properties={}))
    catalogs.catalog("sub/deep/collection.json", items=["../b.json", absolute], kind="Collection")
    catalogs.catalog("sub/catalog.json", items=["broken.json"], children=["deep/collection.json"])
    url = catalogs.catalog(items=["./a.json"], children=["./sub/catalog.json"])

    operation = demo.run(url)

    found = {one["id"]: one["collection"] for one in demo.post("/stac/search", json={}).json()["features"]}
    assert found == {"a": "demo", "b": "demo", "c": "demo"}
    assert operation["status"] == "Failed"
    assert operation["error"]["error"] == {"code": "ErrorsInBatchOperation", "message": "1 of 4 items failed"}
    assert operation["additionalInformation"]["TotalSuccessfulItems"] == "3"
    assert [(one["itemId"], one["errorCode"]) for one in demo.failures(operation)] == [
        ("broken", "StacValidationFailed")
    ]


def test_a_run_is_its_operation_and_copies_its_definition(demo, catalogs):
    path = demo.start_run(catalogs.of("a"), keepOriginalAssets=True)
    run = demo.poll(path, lambda body: body["operation"]["status"] == "Succeeded")

    assert run["id"] == run["operation"]["id"]
    assert (run["keepOriginalAssets"], run["skipExistingItems"]) == (True, False)
    assert run["operation"]["totalSuccessfulItems"] == 1
    operation = demo.get(f"/inma/operations/{run['id']}").json()
    assert operation["type"] == "IngestionStaticCatalog"
    assert [change["status"] for change in operation["statusHistory"]] == ["Pending", "Running", "Finished"]


def test_a_definition_lives_and_dies(demo, catalogs):
    body = {"importType": "StaticCatalog", "sourceCatalogUrl": "https://example.com/c.json", "displayName": "nightly"}
    created = demo.post("/inma/collections/demo/ingestions", json=body)
    path = f"/inma/collections/demo/ingestions/{created.json()['id']}"
    assert created.headers["Location"] == f"{demo.url}{path}?api-version=2026-04-15"
    assert list(created.json()) == [
        *("id", "creationTime", "importType", "displayName", "sourceCatalogUrl"),
        *("skipExistingItems", "keepOriginalAssets", "status"),
    ]

    patched = demo.patch(path, json={"displayName": "weekly"}, headers={"Content-Type": "application/merge-patch+json"})
    deletion = demo.delete(path)

    assert (patched.json()["displayName"], patched.json()["status"]) == ("weekly", "Ready")
    assert deletion.json()["additionalInformation"] == {"IngestionId": created.json()["id"]}
    assert demo.finish(deletion)["status"] == "Succeeded"
    assert demo.get("/inma/collections/demo/ingestions").json() == {"value": []}


def test_skipping_leaves_existing_items_alone_and_counts_them(demo, catalogs, new_item):
    demo.add_items(new_item("a", bbox=[1, 2, 3, 4]))
    url = catalogs.of("a", "b")

    skipped = demo.run(url, skipExistingItems=True)
    assert demo.get("/stac/collections/demo/items/a").json()["bbox"] == [1, 2, 3, 4]
    overwritten = demo.run(url, skipExistingItems=False)

    assert skipped["additionalInformation"]["TotalSuccessfulItems"] == "2"
    assert overwritten["status"] == "Succeeded"
    assert demo.get("/stac/collections/demo/items/a").json()["bbox"] == [8.0, 47.0, 8.0, 47.0]


@pytest.mark.parametrize(
    ("document", "code", "words"),
    [
        ({"type": "Feature"}, "InvalidStacCatalog", "has type 'Feature', but only ['Catalog', 'Collection']"),
        ("{", "InvalidStacCatalog", "not JSON"),
        (None, "IngestionResourceUriNotFound", "Resource not found."),
        ({"type": "Catalog", "links": [{"rel": "child", "href": "catalog.json"}]}, "InvalidStacCatalog", "cycle"),
        (
            {"type": "Catalog", "links": [{"rel": "child", "href": "http://127.0.0.1:9/c"}]},
            UNREACHED,
            "Connection error.",
        ),
        (
            {"type": "Catalog", "links": [{"rel": "child", "href": f"http://{'x' * 300}.example/c"}]},
            UNREACHED,
            "Connection error.",
        ),
    ],
)
def test_a_catalog_that_cannot_be_used_fails_with_all_counters_at_zero(demo, catalogs, document, code, words):
    if document is not None:
        catalogs.write("catalog.json", document)

    operation = demo.run(catalogs.url())

    assert operation["status"] == "Failed"
    assert operation["error"]["error"]["code"] == code
    assert words in operation["error"]["error"]["message"]
    assert operation["additionalInformation"] == NONE


@pytest.mark.parametrize("path", ["../secret/catalog.json", "link.json"])
def test_a_file_outside_the_allowed_folders_is_forbidden(demo, catalogs, tmp_path, path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "catalog.json").write_text('{"type": "Catalog", "links": []}')
    (tmp_path / "allowed" / "link.json").symlink_to(tmp_path / "secret" / "catalog.json")

    operation = demo.run(f"file://{tmp_path}/allowed/{path}")

    assert operation["error"]["error"]["code"] == "IngestionResourceForbidden"


def test_a_catalog_is_read_over_http(demo, catalogs, new_item):
    catalogs.of("a", "b")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(catalogs.folder))
    handler.func.log_message = lambda *_: None
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()

    operation = demo.run(f"http://127.0.0.1:{web.server_port}/catalog.json")

    web.shutdown()
    web.server_close()
    assert operation["additionalInformation"]["TotalSuccessfulItems"] == "2"


def test_relative_asset_hrefs_fail_unless_they_are_to_be_resolved(serve, new_client, catalogs, new_item):
    catalogs.write("data/image.tif", "pixels")
    catalogs.write("a.json", new_item("a", assets={"image": {"href": "./data/image.tif"}}))
    url = catalogs.catalog(items=["a.json"])
    strict, lenient = new_client(serve()), new_client(serve(relative_asset_hrefs="resolve"))
    for client in (strict, lenient):
        client.add_collection()

    failed = strict.run(url)

    assert strict.failures(failed)[0]["errorCode"] == "InvalidAssetHref"
    assert lenient.run(url)["status"] == "Succeeded"


@pytest.mark.parametrize(("content", "code"), [(None, "IngestionResourceUriNotFound"), ("", "EmptyAsset")])
def test_an_asset_within_sight_has_to_be_there_and_hold_something(demo, catalogs, new_item, content, code):
    if content is not None:
        catalogs.write("image.tif", content)
    catalogs.write("a.json", new_item("a", assets={"image": {"href": catalogs.url("image.tif")}}))

    operation = demo.run(catalogs.catalog(items=["a.json"]))

    assert demo.failures(operation)[0]["errorCode"] == code
    assert demo.failures(operation)[0]["errorMessage"].startswith("Asset transformation exception. Reason: ")


def test_partial_failure_can_be_told_as_success(serve, new_client, catalogs, new_item):
    client = new_client(serve(partial_failure_status="Succeeded"))
    client.add_collection()
    catalogs.write("a.json", new_item("a"))

    operation = client.run(catalogs.catalog(items=["a.json", "missing.json"]))

    assert operation["status"] == "Succeeded"
    assert operation["additionalInformation"]["TotalFailedItems"] == "1"


def test_items_show_as_they_are_counted(serve, new_client, catalogs):
    clock = ManualClock()
    server = serve(clock, items_per_second=2, pending_seconds=0.7)
    client = new_client(server)
    client.add_collection()
    path = client.start_run(catalogs.of("a", "b", "c", "d"))
    assert "additionalInformation" not in client.get(f"/inma/operations/{path.rsplit('/', 1)[1]}").json()

    clock.advance(0.7)
    server.emulator.settle()
    assert client.get(path).json()["operation"]["totalPendingItems"] == 4
    clock.advance(1.0)
    assert client.get(path).json()["operation"]["totalSuccessfulItems"] == 2
    assert len(client.post("/stac/search", json={}).json()["features"]) == 2
    clock.advance(1.0)
    assert client.get(path).json()["operation"]["status"] == "Succeeded"


def test_runs_beyond_the_limit_wait_in_pending(serve, new_client, catalogs):
    clock = ManualClock()
    server = serve(clock, items_per_second=1, max_concurrent_runs=1)
    client = new_client(server)
    client.add_collection()
    catalog = catalogs.of("a", "b")
    first, second = (client.start_run(catalog) for _ in range(2))
    server.emulator.settle()

    assert [client.get(path).json()["operation"]["status"] for path in (first, second)] == ["Running", "Pending"]
    clock.advance(2)
    server.emulator.settle()
    assert [client.get(path).json()["operation"]["status"] for path in (first, second)] == ["Succeeded", "Running"]


def test_a_definition_with_an_active_run_cannot_be_deleted(serve, new_client, catalogs):
    client = new_client(serve(items_per_second=0.1))
    client.add_collection()
    path = client.start_run(catalogs.of("a"))

    assert client.delete(path.split("/runs")[0]).status_code == 409


def test_the_2024_dialect_runs_and_logs(demo, new_client, catalogs, new_item):
    old = new_client(demo.server, "2024-01-31-preview")
    catalogs.write("a.json", new_item("a"))
    body = {"importType": "StaticCatalog", "sourceCatalogUrl": catalogs.catalog(items=["a.json", "missing.json"])}
    ingestion = old.post("/api/collections/demo/ingestions", json=body).json()["ingestionId"]
    run = old.post(f"/api/collections/demo/ingestions/{ingestion}/runs", json={}).json()

    operation = old.poll(f"/api/operations/{run['operation']['operationId']}", lambda body: body["status"] == "Failed")

    logs = old.get(f"/api/collections/demo/operations/{operation['operationId']}/logs").json()
    assert [entry["errorCode"] for entry in logs] == ["IngestionResourceUriNotFound"]
    assert old.get("/api/operations", params={"status": "Success"}).json()[0]["status"] == "Success"
