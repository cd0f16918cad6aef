"""Bulk ingestion of stac-geoparquet files."""

from __future__ import annotations

import http.server
import threading
from functools import partial

import pytest
import rustac

INGESTIONS = "/inma/collections/demo/ingestions"
URL = "https://example.com/items.parquet"
SAS = "sv=2023-01-03&st=2020-01-01T00:00:00Z&se=2099-12-31T23:59:59Z&sr=c&sp=rl&sig=made-up-signature"
MERGE = {"Content-Type": "application/merge-patch+json"}
NONE = {"TotalFailedItems": "0", "TotalItems": "0", "TotalPendingItems": "0", "TotalSuccessfulItems": "0"}


@pytest.fixture
def parquet(catalogs):
    """Write items into a GeoParquet file below the allowed folder, and return its URL."""

    def write(*items, path="items.parquet"):
        rustac.write_sync(str(catalogs.folder / path), list(items), format="geoparquet")
        return catalogs.url(path)

    return write


def run(client, url, **members):
    return client.run(None, importType="StacGeoparquet", stacGeoparquetUrl=url, **members)


def test_the_items_of_a_file_are_ingested_as_those_of_a_catalog_are(demo, parquet, new_item):
    polygon = {"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 2], [0, 0]]]}
    # What only one of the items has is a null of the other one in the file's columns.
    properties = {"datetime": "2024-05-01T00:00:00Z", "eo:cloud_cover": 3, "nested": {"x": [1, 2]}}
    first = new_item("a", collection="another", properties=properties)
    times = {"start_datetime": "2024-01-01T00:00:00Z", "end_datetime": "2024-02-01T00:00:00Z"}
    second = new_item("b", geometry=polygon, bbox=[0, 0, 2, 2], properties={"datetime": None, **times})

    operation = run(demo, parquet(first, second))

    assert (operation["type"], operation["status"]) == ("IngestionStacGeoparquet", "Succeeded")
    assert operation["additionalInformation"]["TotalSuccessfulItems"] == "2"
    found = {item["id"]: item for item in demo.post("/stac/search", json={}).json()["features"]}
    assert {item["collection"] for item in found.values()} == {"demo"}
    assert found["a"]["properties"] == first["properties"]
    assert found["a"]["bbox"] == [8.0, 47.0, 8.0, 47.0]
    assert "/demo-2a97516c/ca9/a/image.tif" in found["a"]["assets"]["image"]["href"]
    assert found["b"]["geometry"] == polygon
    assert found["b"]["properties"] == {"datetime": None, **times}


def test_a_run_has_no_member_for_the_url_of_its_file(demo, parquet, new_item):
    path = demo.start_run(
        None, importType="StacGeoparquet", stacGeoparquetUrl=parquet(new_item("a")), keepOriginalAssets=True
    )

    body = demo.poll(path, lambda body: body["operation"]["status"] == "Succeeded")

    assert set(body) == {"id", "creationTime", "skipExistingItems", "keepOriginalAssets", "operation"}
    assert body["keepOriginalAssets"] is True


def test_bad_items_of_a_file_are_counted_and_the_good_ones_stay(demo, parquet, new_item):
    bad = new_item("bad", assets={"image": {"href": "./image.tif"}})

    operation = run(demo, parquet(new_item("a"), bad))

    assert operation["error"]["error"] == {"code": "ErrorsInBatchOperation", "message": "1 of 2 items failed"}
    [failure] = demo.failures(operation)
    assert (failure["itemId"], failure["errorCode"]) == ("bad", "InvalidAssetHref")
    assert demo.get("/stac/collections/demo/items/a").status_code == 200


def test_a_single_bad_item_is_an_error_of_the_batch(demo, parquet, new_item):
    operation = run(demo, parquet(new_item("bad", assets={"image": {"href": "./image.tif"}})))

    assert operation["error"]["error"]["code"] == "ErrorsInBatchOperation"


def test_existing_items_are_skipped_on_request(demo, parquet, new_item):
    demo.add_items(new_item("a", bbox=[1, 2, 3, 4]))
    url = parquet(new_item("a"), new_item("b"))

    operation = run(demo, url, skipExistingItems=True)

    assert operation["additionalInformation"]["TotalSuccessfulItems"] == "2"
    assert demo.get("/stac/collections/demo/items/a").json()["bbox"] == [1, 2, 3, 4]


@pytest.mark.parametrize("content", [b"", b"no parquet at all", b"PAR1 nothing PAR1", "truncated"])
def test_an_unusable_file_fails_the_run(demo, catalogs, parquet, new_item, content):
    url = parquet(new_item("a"))
    file = catalogs.folder / "items.parquet"
    file.write_bytes(file.read_bytes()[:-20] if content == "truncated" else content)

    operation = run(demo, f"{url}")

    assert operation["status"] == "Failed"
    assert operation["error"]["error"]["code"] == "InvalidGeoparquet"
    assert operation["error"]["error"]["message"].startswith(f"Invalid GeoParquet. The file at '{url}' cannot be used:")
    assert operation["additionalInformation"] == NONE


def test_a_file_over_which_the_reader_panics_fails_the_run(demo, parquet, new_item, monkeypatch):
    class PanicException(BaseException):
        """As compiled Rust code raises it; some damaged files bring rustac to that."""

    def panic(*args, **options):
        raise PanicException("not implemented: Type NONE not supported")

    url = parquet(new_item("a"))
    monkeypatch.setattr(rustac, "read_sync", panic)

    assert run(demo, url)["error"]["error"]["code"] == "InvalidGeoparquet"


def test_a_json_catalog_is_no_geoparquet_and_the_reverse(demo, catalogs, parquet, new_item):
    assert run(demo, catalogs.of("a"))["error"]["error"]["code"] == "InvalidGeoparquet"
    assert demo.run(parquet(new_item("a")))["error"]["error"]["code"] == "InvalidStacCatalog"


@pytest.mark.parametrize(
    ("path", "code"),
    [("missing.parquet", "IngestionResourceUriNotFound"), ("../secret.parquet", "IngestionResourceForbidden")],
)
def test_a_file_out_of_reach_fails_as_a_catalog_does(demo, catalogs, tmp_path, path, code):
    (tmp_path / "secret.parquet").write_bytes(b"x")

    assert run(demo, f"{catalogs.folder.as_uri()}/{path}")["error"]["error"]["code"] == code


def test_a_file_is_read_over_http(demo, catalogs, parquet, new_item):
    parquet(new_item("a"))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(catalogs.folder))
    handler.func.log_message = lambda *_: None
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()

    operation = run(demo, f"http://127.0.0.1:{web.server_port}/items.parquet")

    web.shutdown()
    web.server_close()
    assert operation["status"] == "Succeeded"


def test_a_private_container_is_read_through_its_source_only(serve, new_client, catalogs, parquet, new_item):
    parquet(new_item("a"))
    client = new_client(serve(containers={"private": catalogs.folder}))
    client.add_collection()
    container = f"{client.url}/_emulator/storage/private"

    closed = run(client, f"{container}/items.parquet")
    client.post(
        "/inma/ingestion-sources",
        json={"kind": "SasToken", "connectionInfo": {"containerUrl": container, "sasToken": SAS}},
    )

    assert closed["error"]["error"]["code"] == "PublicAccessRestricted"
    assert run(client, f"{container}/items.parquet")["status"] == "Succeeded"


def test_no_message_shows_the_signature_of_a_signed_url(serve, new_client, catalogs, parquet, new_item):
    (catalogs.folder / "broken.parquet").write_bytes(b"x")
    parquet(new_item("bad", assets={"image": {"href": "./image.tif"}}))
    client = new_client(serve(containers={"private": catalogs.folder}))
    client.add_collection()
    container = f"{client.url}/_emulator/storage/private"

    operations = [run(client, f"{container}/{name}?{SAS}") for name in ("broken.parquet", "items.parquet")]

    assert [operation["error"]["error"]["code"] for operation in operations] == [
        "InvalidGeoparquet",
        "ErrorsInBatchOperation",
    ]
    assert client.failures(operations[1])[0]["errorCode"] == "InvalidAssetHref"
    assert "made-up-signature" not in str(operations) + str(client.failures(operations[1]))


@pytest.mark.parametrize(
    ("version", "path"),
    [("2024-01-31-preview", "/api/collections/demo/ingestions"), ("2025-04-30-preview", INGESTIONS)],
)
def test_older_api_versions_have_no_geoparquet(demo, new_client, version, path):
    answer = new_client(demo.server, version).post(
        path, json={"importType": "StacGeoparquet", "stacGeoparquetUrl": URL}
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ValidationError")


@pytest.mark.parametrize(
    "body",
    [
        {"importType": "StacGeoparquet"},
        {"importType": "StacGeoparquet", "stacGeoparquetUrl": "items.parquet"},
        {"importType": "StacGeoparquet", "sourceCatalogUrl": URL},
        {"importType": "StacGeoparquet", "stacGeoparquetUrl": URL, "sourceCatalogUrl": URL},
        {"importType": "StaticCatalog", "stacGeoparquetUrl": URL},
        {"importType": "StaticCatalog", "stacGeoparquetUrl": URL, "sourceCatalogUrl": URL},
    ],
)
def test_the_import_type_and_the_url_have_to_go_together(demo, body):
    answer = demo.post(INGESTIONS, json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ValidationError")


def test_a_patch_keeps_the_import_type_and_the_url_together(demo):
    created = demo.post(INGESTIONS, json={"importType": "StacGeoparquet", "stacGeoparquetUrl": URL}).json()
    path = f"{INGESTIONS}/{created['id']}"

    for patch in (
        {"importType": "StaticCatalog"},
        {"importType": "StaticCatalog", "sourceCatalogUrl": URL},
        {"sourceCatalogUrl": URL},
        {"stacGeoparquetUrl": None},
        {"stacGeoparquetUrl": "x"},
    ):
        assert demo.patch(path, json=patch, headers=MERGE).status_code == 400
    assert demo.get(path).json() == created

    patch = {"importType": "StacGeoparquet", "stacGeoparquetUrl": f"{URL}2", "sourceCatalogUrl": None}
    patched = demo.patch(path, json=patch, headers=MERGE)
    assert patched.json() == {**created, "stacGeoparquetUrl": f"{URL}2"}
