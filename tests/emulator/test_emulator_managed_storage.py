"""Managed storage that the emulator keeps and serves itself: copies of assets behind signed hrefs."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest
import requests
from azure.storage.blob import BlobClient, ContainerClient

from airflow_provider_geocatalog.emulator.clock import ManualClock

PIXELS = b"II*\x00 not many pixels"
CONTAINER = "demo-2a97516c"
ITEM = "/stac/collections/demo/items/a"
SOURCES = "/inma/ingestion-sources"


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def stored(tmp_path):
    """The folder that is managed storage."""
    return tmp_path / "stored"


@pytest.fixture
def filled(serve, new_client, catalogs, clock, stored):
    """A client of an emulator with the collection ``demo`` and the source file ``image.tif``."""
    (catalogs.folder / "image.tif").write_bytes(PIXELS)
    client = new_client(serve(clock, managed_folder=stored))
    client.add_collection()
    return client


@pytest.fixture
def one(filled, catalogs, new_item):
    """The same with the item ``a``, whose asset is that file."""
    operation = filled.add_items(item_of(catalogs, new_item))
    assert operation["status"] == "Succeeded", operation
    return filled


def item_of(catalogs, new_item, item_id="a", **assets):
    return new_item(item_id, assets={"image": {"href": catalogs.url("image.tif"), "type": "image/tiff"}, **assets})


def files(folder):
    if not folder.exists():
        return []
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def signed(client, key="image", path=ITEM, **query):
    return client.get(path, params={"sign": "true", **query}).json()["assets"][key]["href"]


def fetch(href, **options):
    return requests.get(href, timeout=5, **options)


def refusal(href):
    answer = fetch(href)
    code = answer.headers["x-ms-error-code"]
    assert f"<Code>{code}</Code>" in answer.text
    assert answer.headers["Content-Type"].startswith("application/xml")
    return answer.status_code, code


def test_an_asset_is_copied_to_the_documented_place_and_opened_by_its_signed_href(one, stored, catalogs):
    (catalogs.folder / "image.tif").unlink()
    folder = hashlib.sha256(b"a").hexdigest()[:3]

    href = one.get(ITEM).json()["assets"]["image"]["href"]
    answer = fetch(signed(one))

    assert href == f"{one.url}/_emulator/managed/{CONTAINER}/{folder}/a/image.tif"
    assert (answer.status_code, answer.content) == (200, PIXELS)
    assert (answer.headers["Content-Type"], answer.headers["x-ms-blob-type"]) == ("image/tiff", "BlockBlob")
    assert files(stored) == [f"{CONTAINER}/{folder}/a/image.tif"]


@pytest.mark.parametrize("path", ["items", "search", "sign", "token", "items-page"])
def test_every_way_to_a_signature_opens_the_file(one, path):
    href = one.get(ITEM).json()["assets"]["image"]["href"]
    ways = {
        "items": lambda: signed(one),
        "items-page": lambda: one.get("/stac/collections/demo/items?sign=true").json()["features"][0]["assets"][
            "image"
        ]["href"],
        "search": lambda: one.post("/stac/search?sign=true", json={}).json()["features"][0]["assets"]["image"]["href"],
        "sign": lambda: one.get("/sas/sign", params={"href": href}).json()["href"],
        "token": lambda: f"{href}?{one.get('/sas/token/demo').json()['token']}",
    }

    assert fetch(ways[path]()).content == PIXELS


def test_only_a_valid_signature_of_the_container_opens_a_file(one, clock):
    href = one.get(ITEM).json()["assets"]["image"]["href"]
    one.add_collection("other")
    foreign = one.get("/sas/token/other").json()["token"]
    made_up = "sv=2023-01-03&st=2020-01-01T00:00:00Z&se=2099-12-31T23:59:59Z&sr=c&sp=rl&sig=x"

    assert refusal(href) == (409, "PublicAccessNotPermitted")
    assert refusal(f"{href}?{foreign}") == (403, "AuthenticationFailed")
    assert refusal(f"{href}?{made_up}") == (403, "AuthenticationFailed")
    assert refusal(signed(one).replace("image.tif", "other.tif")) == (404, "BlobNotFound")
    assert fetch(href, headers={"Authorization": "Bearer admin-token"}).status_code == 409


def test_a_signed_href_expires_by_the_emulators_clock(one, clock):
    href = signed(one, duration="1")

    clock.advance(59)
    assert fetch(href).status_code == 200
    clock.advance(1)
    assert refusal(href) == (403, "AuthenticationFailed")


def test_revoking_ends_signed_hrefs_at_once(one):
    href = signed(one)
    assert one.post("/sas/token/revoke").status_code == 200

    assert refusal(href) == (403, "AuthenticationFailed")
    assert fetch(signed(one)).content == PIXELS


def test_parts_of_files_are_read_by_either_header(one):
    href = signed(one)

    for header in ("Range", "x-ms-range"):
        answer = fetch(href, headers={header: "bytes=4-6"})
        assert (answer.status_code, answer.content) == (206, PIXELS[4:7])
    assert BlobClient.from_blob_url(href).download_blob().readall() == PIXELS
    assert requests.head(href, timeout=5).headers["Content-Length"] == str(len(PIXELS))


def test_a_token_lists_its_container(one, clock, catalogs, new_item):
    key = "k" * 250
    one.add_items(item_of(catalogs, new_item, "b", **{key: {"href": catalogs.url("image.tif")}}))
    token = one.get("/sas/token/demo", params={"duration": "1"}).json()["token"]
    url = f"{one.url}/_emulator/managed/{CONTAINER}"
    container = ContainerClient.from_container_url(f"{url}?{token}")

    assert list(container.list_blob_names()) == ["3e2/b/image.tif", f"3e2/b/{key}.tif", "ca9/a/image.tif"]
    assert [blob.size for blob in container.list_blobs(name_starts_with="ca9/")] == [len(PIXELS)]
    assert [blob.name for blob in container.walk_blobs()] == ["3e2/", "ca9/"]
    assert container.download_blob("ca9/a/image.tif").readall() == PIXELS
    assert refusal(f"{url}?{token}")[0] == 400
    assert refusal(f"{url}?restype=container&comp=list")[0] == 409
    clock.advance(60)
    assert refusal(f"{url}?restype=container&comp=list&{token}")[0] == 403


def test_hrefs_lead_to_the_host_that_the_reader_uses(one):
    by_name = one.url.replace("127.0.0.1", "localhost")

    href = one.get(f"{by_name}{ITEM}?sign=true").json()["assets"]["image"]["href"]

    assert href.startswith(f"{by_name}/_emulator/managed/")
    assert fetch(href).content == PIXELS


def test_deleting_an_item_deletes_its_files(one, stored):
    href = signed(one)

    one.finish(one.delete(ITEM))

    assert files(stored) == []
    assert refusal(href) == (404, "BlobNotFound")


def test_deleting_a_collection_deletes_its_files(one, stored):
    one.finish(one.delete("/stac/collections/demo"))

    assert files(stored) == []


def test_replacing_an_item_replaces_its_files(one, stored, catalogs, new_item):
    (catalogs.folder / "new.png").write_bytes(b"new")
    item = new_item("a", assets={"picture": {"href": catalogs.url("new.png")}})

    assert one.finish(one.put(ITEM, json=item))["status"] == "Succeeded"

    assert [path.rsplit("/", 1)[1] for path in files(stored)] == ["picture.png"]
    assert fetch(signed(one, "picture")).content == b"new"


@pytest.mark.parametrize("sign", ["true", "false"])
def test_hrefs_into_managed_storage_cannot_be_sent_back(one, sign):
    read = one.get(ITEM, params={"sign": sign}).json()
    merge = {"Content-Type": "application/merge-patch+json"}

    replaced = one.finish(one.put(ITEM, json=read))
    patched = one.finish(one.patch(ITEM, json={"properties": {"x": 1}}, headers=merge))

    for operation in (replaced, patched):
        assert operation["error"]["error"]["code"] == "PublicAccessRestricted"
        assert "sig=" not in operation["error"]["error"]["message"]
    assert fetch(signed(one)).content == PIXELS


def test_a_second_item_with_the_id_leaves_the_first_ones_files_alone(one, stored, catalogs, new_item):
    before = files(stored)
    (catalogs.folder / "image.tif").write_bytes(b"other")

    operation = one.add_items(item_of(catalogs, new_item))

    assert operation["error"]["error"]["code"] == "ItemAlreadyExistsInCollection"
    assert files(stored) == before
    assert fetch(signed(one)).content == PIXELS


def test_replacing_a_missing_item_leaves_no_files(filled, stored, catalogs, new_item):
    operation = filled.finish(filled.put(ITEM, json=item_of(catalogs, new_item)))

    assert operation["error"]["error"]["code"] == "NoRecordsToUpdate"
    assert files(stored) == []


def test_nothing_is_left_of_an_item_with_an_unusable_asset(filled, stored, catalogs, new_item):
    missing = {"href": catalogs.url("missing.tif")}

    operation = filled.add_items(item_of(catalogs, new_item, other=missing))

    assert operation["error"]["error"]["code"] == "IngestionResourceUriNotFound"
    assert files(stored) == []


@pytest.mark.parametrize(
    ("keep", "names"),
    [(True, ["image.tif", "image~original.tif", "note.txt"]), (False, ["image.tif", "note.txt"])],
)
def test_a_run_keeps_the_originals_of_what_is_converted(filled, stored, catalogs, new_item, keep, names):
    catalogs.write("note.txt", "text")
    catalogs.write("a.json", item_of(catalogs, new_item, note={"href": catalogs.url("note.txt")}))

    operation = filled.run(catalogs.catalog(items=["a.json"]), keepOriginalAssets=keep)

    assert operation["status"] == "Succeeded", filled.failures(operation)
    assert [path.split("/a/", 1)[1] for path in files(stored)] == names
    assert {(stored / path).read_bytes() for path in files(stored) if path.endswith(".tif")} == {PIXELS}


def test_skipped_items_leave_files_as_they_are_and_others_are_overwritten(one, stored, catalogs, new_item):
    (catalogs.folder / "image.tif").write_bytes(b"later")
    catalogs.write("a.json", item_of(catalogs, new_item))
    url = catalogs.catalog(items=["a.json"])

    one.run(url, skipExistingItems=True)
    assert fetch(signed(one)).content == PIXELS
    one.run(url, skipExistingItems=False)
    assert fetch(signed(one)).content == b"later"
    assert len(files(stored)) == 1


def test_an_asset_is_copied_from_a_private_container(serve, new_client, catalogs, new_item):
    (catalogs.folder / "image.tif").write_bytes(PIXELS)
    client = new_client(serve(containers={"private": catalogs.folder}))
    client.add_collection()
    container = f"{client.url}/_emulator/storage/private"
    token = "sv=2023-01-03&st=2020-01-01T00:00:00Z&se=2099-12-31T23:59:59Z&sr=c&sp=rl&sig=x"
    info = {"containerUrl": container, "sasToken": token}
    client.post(SOURCES, json={"kind": "SasToken", "connectionInfo": info})

    client.add_items(new_item("a", assets={"image": {"href": f"{container}/image.tif"}}))

    assert fetch(signed(client)).content == PIXELS


@contextmanager
def web(content=b"", wait=0.0):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            time.sleep(wait)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(OSError):  # who asked does not wait any more
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/image.tif", asked
    finally:
        server.shutdown()
        server.server_close()


def test_assets_elsewhere_are_taken_on_trust(demo, new_item):
    with web(PIXELS) as (url, asked):
        demo.add_items(new_item("a", assets={"image": {"href": url}}))

        assert not asked
        assert refusal(signed(demo)) == (404, "BlobNotFound")


@pytest.mark.parametrize(
    ("settings", "content", "wait", "code"),
    [
        ({}, PIXELS, 0, None),
        ({}, b"", 0, "EmptyAsset"),
        ({"max_remote_bytes": 5}, PIXELS, 0, "AssetTransformationError"),
        ({"read_timeout": 0.05}, PIXELS, 0.5, "IngestionResourceTimeout"),
        ({"remote_timeout": 0.0}, PIXELS, 0.01, "IngestionResourceTimeout"),
    ],
)
def test_they_are_downloaded_on_request_within_limits(
    serve, new_client, new_item, stored, settings, content, wait, code
):
    client = new_client(serve(copy_remote_assets=True, managed_folder=stored, **settings))
    client.add_collection()
    with web(content, wait) as (url, _):
        operation = client.add_items(new_item("a", assets={"image": {"href": url}}))

    if code is None:
        assert fetch(signed(client)).content == PIXELS
    else:
        assert operation["error"]["error"]["code"] == code
        assert files(stored) == []


def test_collection_assets_are_stored_and_served(filled, stored):
    data = '{"key": "thumbnail", "type": "image/png", "roles": ["thumbnail"], "title": ""}'
    assets, collection = "/stac/collections/demo/assets", "/stac/collections/demo"
    filled.post(assets, files={"data": (None, data), "file": ("a b.png", b"first")})

    href = signed(filled, "thumbnail", collection)
    assert urlsplit(href).path == f"/_emulator/managed/{CONTAINER}/collection-assets/thumbnail/a%20b.png"
    assert fetch(href).content == b"first"

    filled.put(f"{assets}/thumbnail", files={"data": (None, data), "file": ("b.png", b"second")})
    assert fetch(signed(filled, "thumbnail", collection)).content == b"second"
    assert filled.get(f"{collection}/thumbnail").content == b"second"
    assert files(stored) == [f"{CONTAINER}/collection-assets/thumbnail/b.png"]

    filled.delete(f"{assets}/thumbnail")
    assert files(stored) == []


@pytest.mark.parametrize("name", ["..", "."])
def test_ids_of_dots_lead_out_of_no_folder(filled, stored, catalogs, new_item, name):
    operation = filled.add_items(item_of(catalogs, new_item, name, **{name: {"href": catalogs.url("image.tif")}}))

    assert operation["status"] == "Succeeded"
    assert len(files(stored)) == 2
    assert all(path.startswith(f"{CONTAINER}/") for path in files(stored))


@pytest.mark.parametrize("path", ["../../secret", "%2e%2e/%2e%2e/secret", "..%2f..%2fsecret", "a//b", "%00"])
def test_no_path_leads_out_of_managed_storage(one, tmp_path, path):
    (tmp_path / "secret").write_text("x")
    token = one.get("/sas/token/demo").json()["token"]
    request = requests.Request("GET", one.url).prepare()
    request.url = f"{one.url}/_emulator/managed/{CONTAINER}/{path}?{token}"

    assert requests.Session().send(request, timeout=5).status_code in (401, 403, 404)


def test_the_longest_names_are_stored(filled, catalogs, new_item):
    item_id, key = "i" * 149, "k" * 255

    filled.add_items(new_item(item_id, assets={key: {"href": catalogs.url("image.tif")}}))

    assert fetch(signed(filled, key, f"/stac/collections/demo/items/{item_id}")).content == PIXELS


def test_files_survive_a_restart_where_a_folder_is_given(one, serve, stored):
    server = serve(managed_folder=stored)
    emulator = server.emulator
    token = emulator.world.sas.issue(CONTAINER, emulator.clock.now(), 60).text

    assert fetch(f"{server.url}/_emulator/managed/{files(stored)[0]}?{token}").content == PIXELS
