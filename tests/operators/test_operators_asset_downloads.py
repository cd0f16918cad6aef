"""Downloading files of items, from the emulator's managed storage and from elsewhere."""

from __future__ import annotations

import base64
import copy
import dataclasses
import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogItemsFailed
from airflow_provider_geocatalog.api.managed_storage import managed_container
from airflow_provider_geocatalog.asset_downloads import checked_host
from airflow_provider_geocatalog.asset_files import AssetChoice, asset_files, file_name
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.asset_downloads import GeoCatalogDownloadAssetsOperator
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.operators.items import GeoCatalogCreateItemsOperator
from tests.fakes.airflow_versions import AIRFLOW_VERSION, attach
from tests.fakes.clock import FakeClock
from tests.fakes.items import stac_item
from tests.fakes.scripted_server import Answer, ScriptedServer
from tests.fakes.storage_proxy import StorageProxy
from tests.fakes.tasks import TOKEN

BIG = random.Random(1).randbytes(1_500_000)


@pytest.fixture
def proxy():
    with StorageProxy() as proxy:
        yield proxy


@pytest.fixture
def ready(start_world, documents, proxy, tmp_path):
    """A world with two items, whose files are behind an address of their own."""
    box = tmp_path / "box"
    box.mkdir()
    (box / "scene.tif").write_bytes(BIG)
    (box / "notes.json").write_text('{"a": 1}')
    world = start_world(box, public_containers={"box": box}, managed_storage_url=proxy.url)
    proxy.target = f"{world.server.url}/_emulator/managed"
    world.out = tmp_path / "out"
    world.run(GeoCatalogCreateCollectionOperator(task_id="c", collection=documents()))
    load(world, [item(world, "one"), item(world, "two")])
    return world


def item(world, item_id, **members):
    found = stac_item(item_id)
    found["assets"] = {
        "scene": {
            "href": f"{world.server.url}/_emulator/storage/box/scene.tif",
            "type": "image/tiff; application=geotiff",
            "roles": ["data"],
            **members,
        },
        "notes": {
            "href": f"{world.server.url}/_emulator/storage/box/notes.json",
            "type": "application/json",
            "roles": ["metadata"],
        },
    }
    return found


@pytest.fixture
def unhurried(ready):
    """A world whose client does not wait where it pauses."""
    FakeClock(time.time()).drive(GeoCatalogHook().client)
    return ready


@pytest.fixture
def memory():
    """An object store, behind ``memory://``."""
    store = MemoryFileSystem()
    attach("memory", fs=store)
    yield store
    store.rm("/bucket", recursive=True)


def load(world, items):
    world.run(
        GeoCatalogCreateItemsOperator(
            task_id="i", collection_id="demo", items=items, poll_interval=0.1, min_poll_interval=0.1
        )
    )
    world.server.emulator.requests.clear()


def change(world, item_id, asset, **members):
    """Change an asset as the service holds it."""
    items = world.server.emulator.world.collections["demo"].items
    document = copy.deepcopy(items[item_id].document)
    document["assets"][asset] |= members
    items[item_id] = dataclasses.replace(items[item_id], document=document)


def download(world, **arguments):
    defaults = {
        "task_id": "download",
        "collection_id": "demo",
        "ids": ["one"],
        "assets": ["scene"],
        "path": str(world.out),
    }
    return GeoCatalogDownloadAssetsOperator(**{**defaults, **arguments})


def files(world):
    found = world.out.rglob("*") if world.out.exists() else ()
    return {str(path.relative_to(world.out)): path.read_bytes() for path in found if path.is_file()}


def cut(after):
    def change_answer(asked, given):
        given.cut = after

    return change_answer


def status(code, error_code="X"):
    def change_answer(asked, given):
        given.status, given.body, given.headers = code, b"<Error/>", {"x-ms-error-code": error_code}

    return change_answer


def logged(caplog):
    """Return what the client's side has logged; the server's log has whole addresses."""
    return "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("uvicorn"))


# --- what is downloaded -----------------------------------------------------------------------------------------------


def test_chosen_files_are_downloaded_with_signatures(ready, proxy):
    result = ready.run(download(ready, ids=["one", "two"]))

    assert files(ready) == {"demo/one/scene.tif": BIG, "demo/two/scene.tif": BIG}
    named = sorted(result.pop("files"), key=lambda file: file["item"])
    assert named[0] == {
        "item": "one",
        "asset": "scene",
        "path": str(ready.out / "demo/one/scene.tif"),
        "bytes": len(BIG),
    }
    assert result == {
        "collection_id": "demo",
        "items": 2,
        "items_without_assets": 0,
        "downloaded": 2,
        "skipped": 0,
        "failed": 0,
        "bytes": 2 * len(BIG),
        "manifest": None,
    }
    assert all("sig=" in asked.query for asked in proxy.asked)
    assert not any("Authorization" in asked.headers for asked in proxy.asked)


def test_files_of_one_container_share_a_signature(ready):
    ready.run(download(ready, search={}, ids=None, assets=None))

    signed = [request for request in ready.server.emulator.requests if request.operation == "sign_href"]
    assert len(files(ready)) == 4
    assert len(signed) == 1


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"assets": None}, {"scene.tif", "notes.json"}),
        ({"assets": None, "roles": ["data", "visual"]}, {"scene.tif"}),
        ({"assets": None, "media_types": ["application/json"]}, {"notes.json"}),
        ({"assets": None, "media_types": ["image/tiff"]}, {"scene.tif"}),
        ({"assets": None, "media_types": ["IMAGE/TIFF;application=geotiff"]}, {"scene.tif"}),
        ({"assets": None, "media_types": ["image/tiff; application=other"]}, set()),
        ({"assets": ["scene", "notes"], "roles": ["metadata"]}, {"notes.json"}),
        ({"assets": ["other"]}, set()),
    ],
)
def test_assets_are_chosen_by_key_role_and_media_type(ready, wanted, found):
    result = ready.run(download(ready, **wanted))

    assert {path.rsplit("/", 1)[-1] for path in files(ready)} == found
    assert result["items_without_assets"] == (0 if found else 1)


def test_a_search_chooses_items_page_by_page(ready):
    load(ready, [item(ready, f"more-{number:03}") for number in range(120)])

    result = ready.run(download(ready, ids=None, search={"filter": "id <> 'one'"}, assets=["notes"]))

    assert (result["items"], result["downloaded"], len(result["files"])) == (121, 121, 100)


def test_a_manifest_names_every_file(ready):
    change(ready, "two", "scene", href=f"{ready.server.url}/_emulator/storage/box/missing.tif")

    result = ready.run(download(ready, search={}, ids=None, max_failed_files=1, manifest=True))

    lines = [json.loads(line) for line in Path(result["manifest"]).read_text().splitlines()]
    by_item = {line["item"]: line for line in lines}
    assert result["manifest"] == str(ready.out / "demo.manifest.ndjson")
    assert by_item["one"] == {
        "item": "one",
        "asset": "scene",
        "status": "downloaded",
        "path": str(ready.out / "demo/one/scene.tif"),
        "bytes": len(BIG),
        "checksum": f"md5:{hashlib.md5(BIG).hexdigest()}",
    }
    assert by_item["two"]["status"] == "failed"
    assert "answered 404" in by_item["two"]["reason"]
    assert result["failed_files"] == [by_item["two"]]


def test_files_go_to_an_object_store(ready, memory):
    result = ready.run(download(ready, path="memory://bucket/out", manifest="memory://bucket/list.ndjson"))

    slash = "/" if AIRFLOW_VERSION < (3, 0) else ""  # Airflow 2 writes such paths differently
    assert result["files"][0]["path"] == f"memory://{slash}bucket/out/demo/one/scene.tif"
    assert memory.cat("/bucket/out/demo/one/scene.tif") == BIG
    assert json.loads(memory.cat("/bucket/list.ndjson"))["item"] == "one"
    assert ready.run(download(ready, path="memory://bucket/out"))["skipped"] == 1


def test_what_is_not_whole_never_gets_to_an_object_store(ready, memory):
    change(ready, "one", "scene", **{"file:checksum": "1220" + "00" * 32})

    with pytest.raises(GeoCatalogTaskFailed, match="its checksum is not the item's"):
        ready.run(download(ready, path="memory://bucket/out"))

    assert memory.find("/bucket") == []
    memory.makedirs("/bucket")


def test_a_file_url_is_a_folder_on_disk(ready):
    ready.run(download(ready, path=f"file://{ready.out}"))

    assert files(ready) == {"demo/one/scene.tif": BIG}


# --- files that are there ---------------------------------------------------------------------------------------------


def test_files_that_are_there_are_left_alone(ready, proxy):
    ready.run(download(ready))
    asked = len(proxy.asked)

    result = ready.run(download(ready))

    assert (result["downloaded"], result["skipped"], len(proxy.asked)) == (0, 1, asked)


def test_files_that_are_there_can_be_replaced(ready):
    old = ready.out / "demo/one/scene.tif"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")

    assert ready.run(download(ready, if_exists="replace"))["downloaded"] == 1
    assert old.read_bytes() == BIG


def test_files_that_are_there_can_fail_the_task_but_not_its_retry(ready):
    ready.run(download(ready))

    with pytest.raises(GeoCatalogTaskFailed, match="is there already"):
        ready.run(download(ready, if_exists="fail"))

    assert ready.run(download(ready, if_exists="fail"), try_number=2)["skipped"] == 1


# --- connections that break -------------------------------------------------------------------------------------------


def test_a_broken_connection_is_gone_on_with(ready, proxy):
    proxy.changes += [cut(600_000), status(503, "ServerBusy"), cut(100_000)]

    assert ready.run(download(ready))["bytes"] == len(BIG)

    assert files(ready) == {"demo/one/scene.tif": BIG}
    assert [asked.range for asked in proxy.asked] == [None, "bytes=600000-", "bytes=600000-", "bytes=700000-"]
    assert proxy.asked[1].headers["If-Match"].startswith('"')


def test_a_file_that_changes_meanwhile_is_downloaded_anew(ready, proxy):
    def other_etag(asked, given):
        given.headers = {**given.headers, "etag": '"another"'}

    proxy.changes += [cut(600_000), other_etag]

    ready.run(download(ready))

    assert files(ready) == {"demo/one/scene.tif": BIG}
    assert [asked.range for asked in proxy.asked] == [None, "bytes=600000-", None]


def test_a_storage_that_refuses_to_go_on_is_asked_for_the_whole_file(ready, proxy):
    proxy.changes += [cut(600_000), status(412, "ConditionNotMet")]

    ready.run(download(ready))

    assert files(ready) == {"demo/one/scene.tif": BIG}
    assert [asked.range for asked in proxy.asked] == [None, "bytes=600000-", None]


def test_a_storage_that_knows_no_ranges_is_taken_from_the_beginning(ready, proxy):
    def whole(asked, given):
        given.status, given.body = 200, BIG
        given.headers.pop("content-range", None)

    proxy.changes += [cut(600_000), whole]

    ready.run(download(ready))

    assert files(ready) == {"demo/one/scene.tif": BIG}


def test_a_storage_that_stays_down_is_told_and_a_retry_goes_on(unhurried, proxy):
    proxy.changes += [cut(600_000), *[status(503, "ServerBusy")] * 6]

    with pytest.raises(GeoCatalogItemsFailed, match="503 ServerBusy") as caught:
        unhurried.run(download(unhurried))
    assert caught.value.retryable
    assert "demo/one/scene.tif" not in files(unhurried)

    unhurried.run(download(unhurried), try_number=2)
    assert files(unhurried) == {"demo/one/scene.tif": BIG}
    assert proxy.asked[-1].range == "bytes=600000-"


def test_what_a_stopped_task_has_left_is_gone_on_with(ready, proxy):
    going, go_on = threading.Event(), threading.Event()

    def halt(asked, given):
        given.between = lambda: (going.set(), go_on.wait(30))

    proxy.changes.append(halt)
    operator = download(ready)

    def ring(*_):
        raise AirflowTaskTimeout("too long")

    before, main = signal.signal(signal.SIGALRM, ring), threading.get_ident()
    threading.Thread(
        target=lambda: (going.wait(30), time.sleep(0.3), signal.pthread_kill(main, signal.SIGALRM))
    ).start()
    threading.Timer(1.5, go_on.set).start()
    try:
        with pytest.raises(AirflowTaskTimeout):
            ready.run(operator)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert "demo/one/scene.tif" not in files(ready)
    left = len(files(ready)["demo/one/.scene.tif.part"])
    assert 0 < left < len(BIG)

    ready.run(download(ready), try_number=2)

    assert files(ready) == {"demo/one/scene.tif": BIG}
    assert proxy.asked[-1].range == f"bytes={left}-"


KILLED = """
import sys
from pathlib import Path
from airflow_provider_geocatalog.api.operations.items import get_item
from airflow_provider_geocatalog.asset_downloads import AssetDownloads, Signatures
from airflow_provider_geocatalog.asset_files import AssetChoice, LocalFile, asset_files
from airflow_provider_geocatalog.auth import AuthMethod, ConnectionSettings
from airflow_provider_geocatalog.client import GeoCatalogClient

url, token, out = sys.argv[1:]
client = GeoCatalogClient(ConnectionSettings(url, auth_method=AuthMethod.STATIC_TOKEN, secret=token))
files = asset_files(client.get_item("demo", "one"), "demo", AssetChoice(keys=frozenset(["scene"])))
downloads = AssetDownloads(client, Signatures(client, "demo"), lambda name: LocalFile(Path(out, *name)))
downloads.run(files, print)
"""


def test_what_a_killed_process_has_left_is_gone_on_with(ready, proxy):
    going, go_on = threading.Event(), threading.Event()

    def halt(asked, given):
        given.between = lambda: (going.set(), go_on.wait(30))

    proxy.changes.append(halt)
    part = ready.out / "demo/one/.scene.tif.part"
    with subprocess.Popen([sys.executable, "-c", KILLED, ready.server.url, TOKEN, str(ready.out)]) as process:
        assert going.wait(30)
        give_up = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size) and time.monotonic() < give_up:
            time.sleep(0.05)
        process.kill()
    go_on.set()
    left = part.stat().st_size
    assert 0 < left < len(BIG)

    ready.run(download(ready), try_number=2)

    assert files(ready) == {"demo/one/scene.tif": BIG}
    assert proxy.asked[-1].range == f"bytes={left}-"


def test_a_stop_ends_it_soon(ready, proxy):
    going, go_on = threading.Event(), threading.Event()

    def halt(asked, given):
        given.between = lambda: (going.set(), go_on.wait(30))

    proxy.changes.append(halt)
    operator, caught = download(ready, search={}, ids=None, concurrency=1), []

    def work():
        try:
            ready.run(operator)
        except GeoCatalogError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert going.wait(30)
    operator.on_kill()
    go_on.set()
    thread.join(30)

    assert "stopped before they were done" in str(caught[0])
    assert caught[0].retryable
    assert len(proxy.asked) == 1


# --- signatures -------------------------------------------------------------------------------------------------------


def test_a_signature_that_has_ended_is_renewed(ready, proxy):
    """The emulator's clock goes on by hours between two files; the worker's own does not tell."""
    proxy.changes.append(lambda asked, given: ready.server.emulator.clock.advance(3600))

    result = ready.run(download(ready, search={}, ids=None, sign_duration=5, concurrency=1))

    assert result["downloaded"] == 2
    signed = [request for request in ready.server.emulator.requests if request.operation == "sign_href"]
    assert [request.query["duration"] for request in signed] == ["5", "5"]
    assert len({asked.query for asked in proxy.asked}) == 2


def test_a_signature_that_ends_within_a_file_is_renewed(ready, proxy):
    def cut_and_revoke(asked, given):
        given.cut = 600_000
        ready.server.emulator.world.sas.revoke()

    proxy.changes.append(cut_and_revoke)

    ready.run(download(ready))

    assert files(ready) == {"demo/one/scene.tif": BIG}
    assert [asked.range for asked in proxy.asked] == [None, "bytes=600000-", "bytes=600000-"]


def test_a_new_signature_that_is_not_accepted_yet_is_tried_again(unhurried, proxy):
    proxy.changes += [status(403, "AuthenticationFailed")] * 3

    assert unhurried.run(download(unhurried))["downloaded"] == 1


def test_a_signature_that_is_never_accepted_is_told_without_it(unhurried, proxy, caplog):
    proxy.changes += [status(403, "AuthenticationFailed")] * 10
    caplog.set_level("DEBUG")

    with pytest.raises(GeoCatalogItemsFailed, match="answered 403 AuthenticationFailed") as caught:
        unhurried.run(download(unhurried))

    secrets = {asked.query.rpartition("sig=")[2].split("&")[0] for asked in proxy.asked}
    told = f"{caught.value} {caught.value.summary} {logged(caplog)}"
    assert all(len(secret) > 20 and secret not in told for secret in secrets)


def test_a_broken_connection_tells_no_signature(unhurried, proxy, caplog):
    proxy.changes += [cut(0)] * 6
    caplog.set_level("DEBUG")

    with pytest.raises(GeoCatalogItemsFailed) as caught:
        unhurried.run(download(unhurried))

    assert proxy.asked[0].query.rpartition("sig=")[2] not in f"{caught.value!r} {caught.value} {logged(caplog)}"


# --- files elsewhere --------------------------------------------------------------------------------------------------


def test_public_files_elsewhere_are_downloaded_without_signature_or_token(ready, proxy):
    with ScriptedServer(Answer(body=b"elsewhere")) as server:
        change(ready, "one", "scene", href=f"{server.url}/x/image.png")

        ready.run(download(ready))

    assert files(ready) == {"demo/one/scene.png": b"elsewhere"}
    assert [request.path for request in server.seen] == ["/x/image.png"]
    assert not any("authorization" in {name.lower() for name in request.headers} for request in server.seen)


def test_no_signature_goes_to_a_server_that_looks_like_managed_storage(ready):
    with ScriptedServer(Answer(body=b"caught")) as server:
        change(ready, "one", "scene", href=f"{server.url}/{managed_container('demo')}/08a/one/scene.tif")

        ready.run(download(ready, ids=["two", "one"], concurrency=1))

    assert server.seen
    assert not any("sig" in request.path for request in server.seen)
    assert not any(TOKEN in str(request.headers) for request in server.seen)


def test_a_redirect_of_a_public_file_is_followed(ready):
    with ScriptedServer(Answer(302, b"", {"Location": "/there.png"}), Answer(body=b"there")) as server:
        change(ready, "one", "scene", href=f"{server.url}/here.png")

        ready.run(download(ready))

    assert files(ready) == {"demo/one/scene.png": b"there"}


@pytest.mark.parametrize("href", ["file:///etc/passwd", "s3://bucket/key.tif", "//host/x", "x.tif", "http://["])
def test_what_is_no_web_address_is_not_read(ready, href):
    change(ready, "one", "scene", href=href)

    with pytest.raises((GeoCatalogTaskFailed, GeoCatalogItemsFailed)):
        ready.run(download(ready))

    assert files(ready) == {}


@pytest.mark.parametrize("host", ["169.254.169.254", "127.0.0.1", "localhost", "[::1]", "[fe80::1]"])
def test_the_workers_own_addresses_are_not_asked_on_behalf_of_a_real_service(host):
    with pytest.raises(GeoCatalogError, match="the worker's own"):
        checked_host(f"http://{host}/metadata", is_local=False)

    assert checked_host("https://example.com/x", is_local=False) == "example.com"


# --- checksums and bounds ---------------------------------------------------------------------------------------------

RIGHT = [
    "1220" + hashlib.sha256(BIG).hexdigest(),
    "1340" + hashlib.sha512(BIG).hexdigest(),
    "d50110" + hashlib.md5(BIG).hexdigest(),
    "1114" + hashlib.sha1(BIG).hexdigest().upper(),
    "1620" + "00" * 32,  # of a kind that is not known
    "nonsense",
]


@pytest.mark.parametrize("checksum", RIGHT)
def test_a_right_checksum_passes(ready, proxy, checksum):
    proxy.changes += [cut(600_000)]
    change(ready, "one", "scene", **{"file:checksum": checksum})

    assert ready.run(download(ready))["downloaded"] == 1


@pytest.mark.parametrize("prefix", ["1220", "d50110"])
def test_a_wrong_checksum_removes_the_file(ready, prefix):
    digits = {"1220": 64, "d50110": 32}[prefix]
    change(ready, "one", "scene", **{"file:checksum": prefix + "0" * digits})

    with pytest.raises(GeoCatalogTaskFailed, match="its checksum is not the item's") as caught:
        ready.run(download(ready))

    assert "use 'storage'" in str(caught.value.error.summary["failed_files"])
    assert files(ready) == {}
    assert ready.run(download(ready, checksum="storage"))["downloaded"] == 1


@pytest.mark.parametrize("header", ["Content-MD5", "x-ms-blob-content-md5"])
def test_the_storages_checksum_counts_where_the_item_has_none(ready, proxy, header):
    def tell(of):
        def change_answer(asked, given):
            given.headers[header] = base64.b64encode(hashlib.md5(of).digest()).decode()

        return change_answer

    proxy.changes += [tell(b"another"), tell(BIG)]

    with pytest.raises(GeoCatalogItemsFailed, match="its checksum is not the storage's") as caught:
        ready.run(download(ready))
    assert caught.value.retryable
    assert files(ready) == {}

    assert ready.run(download(ready), try_number=2)["downloaded"] == 1


def test_more_bytes_than_allowed_end_it(ready):
    with pytest.raises(GeoCatalogTaskFailed, match=f"more than {len(BIG) + 10} bytes"):
        ready.run(download(ready, search={}, ids=None, max_bytes=len(BIG) + 10, concurrency=1))

    assert list(files(ready).values()) == [BIG]


def test_bytes_that_are_downloaded_in_pieces_count_once(ready, proxy):
    proxy.changes += [cut(600_000)]

    assert ready.run(download(ready, max_bytes=len(BIG)))["downloaded"] == 1


@pytest.mark.parametrize("which", [{"search": {}, "ids": None}, {"ids": ["one", "two"]}])
def test_more_items_than_allowed_download_nothing(ready, proxy, which):
    with pytest.raises(GeoCatalogTaskFailed, match="max_items is 1"):
        ready.run(download(ready, max_items=1, **which))

    assert proxy.asked == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"ids": None}, "give either ids or search"),
        ({"search": {}}, "give either ids or search"),
        ({"ids": "one"}, "ids has to be a list"),
        ({"assets": []}, "assets has to be a list"),
        ({"roles": "data"}, "roles has to be a list"),
        ({"path": ""}, "path is missing"),
        ({"path": "nosuch://bucket/out"}, "nosuch://bucket/out cannot be opened"),
        ({"if_exists": "maybe"}, "if_exists is 'maybe'"),
        ({"checksum": "none"}, "checksum is 'none'"),
        ({"concurrency": 0}, "concurrency has to be 1 at least"),
        ({"sign_duration": 0}, "duration has to be a whole number"),
    ],
)
def test_bad_arguments_ask_nothing(ready, arguments, told):
    defaults = {"ids": ["one"], **({"ids": ["one"], "search": {}} if "search" in arguments else {})}

    with pytest.raises(GeoCatalogTaskFailed, match=told):
        ready.run(download(ready, **{**defaults, **arguments}))

    assert not ready.server.emulator.requests


def test_missing_items_are_told_before_anything_is_downloaded(ready, proxy):
    with pytest.raises(GeoCatalogTaskFailed, match="1 items are not in collection 'demo': three"):
        ready.run(download(ready, ids=["one", "three"]))

    assert proxy.asked == []


def test_a_disk_that_cannot_be_written_ends_it(ready, proxy):
    ready.out.write_text("a file, where a folder should be")

    with pytest.raises(GeoCatalogError, match="cannot be written"):
        ready.run(download(ready, search={}, ids=None, concurrency=1))


def test_memory_does_not_grow_with_the_file(ready):
    import tracemalloc

    (ready.folder / "huge.bin").write_bytes(bytes(40_000_000))
    with ScriptedServer(Answer(body=bytes(40_000_000))) as server:
        change(ready, "one", "scene", href=f"{server.url}/huge.bin")
        GeoCatalogHook().client.get_collection("demo")
        tracemalloc.start()
        try:
            ready.run(download(ready))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < 10_000_000


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["..", ".", "../../x", "/etc/passwd", "a\0b", "", ".hidden", "a\\b", "x" * 400])
def test_names_of_others_stay_in_their_folder(bad):
    [file] = asset_files({"id": bad, "assets": {bad: {"href": "https://example.com/x.tif"}}}, "demo", AssetChoice())

    path = Path("/root", *file.name).resolve()
    assert path.parent.parent == Path("/root/demo")
    assert all(0 < len(name) < 240 and not name.startswith(".") for name in file.name)


def test_different_names_stay_different():
    texts = ["a/b", "a%2Fb", "a b", "a_b", ".", "%2E", "", "%00", "x" * 400, "x" * 401, "ä", "a"]

    assert len({file_name(text) for text in texts}) == len(texts)


def test_assets_of_one_item_never_share_a_file():
    assets = {
        "a": {"href": "https://example.com/x.tif"},
        "a.tif": {"href": "https://example.com/x"},
        "A": {"href": "https://example.com/y.tif"},
        "b": {"href": "https://example.com/x.tif"},
        "none": {},
        "odd": "no asset",
    }

    names = {file.key: file.name[-1] for file in asset_files({"id": "i", "assets": assets}, "demo", AssetChoice())}

    assert set(names) == {"a", "a.tif", "A", "b"}
    assert len({name.lower() for name in names.values()}) == 4
    only = asset_files({"id": "i", "assets": assets}, "demo", AssetChoice(keys=frozenset({"a.tif"})))
    assert only[0].name[-1] == names["a.tif"]
