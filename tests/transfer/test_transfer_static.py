"""Items from static catalogs, on disk and over HTTP."""

from __future__ import annotations

import json
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.static_catalog import join_href, walk_items
from airflow_provider_geocatalog.transfer.sources import ItemFilesSource, ItemSourceError, StaticCatalogSource
from airflow_provider_geocatalog.transfer.storage import LocalEnvironment
from tests.fakes.items import stac_item

DATASETS = Path(__file__).parents[3] / "shared" / "data" / "mpcpro-sample-datasets"


class Web:
    """A folder behind HTTP, which can be told to answer otherwise."""

    def __init__(self, folder: Path) -> None:
        self.received: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, list[tuple[int, dict[str, str], bytes]]] = {}
        self.at_once = self.most_at_once = 0
        self.delay = 0.0
        lock = threading.Lock()
        web = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                with lock:
                    web.received.append((self.path, dict(self.headers)))
                    web.at_once += 1
                    web.most_at_once = max(web.most_at_once, web.at_once)
                time.sleep(web.delay)
                with lock:  # before the client has its answer, and asks for the next
                    web.at_once -= 1
                self._answer()

            def _answer(self) -> None:
                planned = web.answers.get(self.path)
                if not planned:
                    return super().do_GET()
                status, headers, body = planned.pop(0) if len(planned) > 1 else planned[0]
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                return None

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def paths(self) -> list[str]:
        return [path for path, _ in self.received]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve():
    started = []

    def start(folder: Path) -> Web:
        started.append(Web(folder))
        return started[-1]

    yield start
    for web in started:
        web.stop()


def catalog(folder: Path, *, children: tuple[str, ...] = (), items: tuple[str, ...] = ()) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    links = [{"rel": "child", "href": href} for href in children] + [{"rel": "item", "href": href} for href in items]
    document = {"type": "Catalog", "stac_version": "1.0.0", "id": folder.name, "description": "d", "links": links}
    (folder / "catalog.json").write_text(json.dumps(document))


def item(path: Path, **members: Any) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {**stac_item(path.stem), "assets": {"image": {"href": "./image.tif"}}, **members}
    path.write_text(json.dumps(document))
    return document


@pytest.fixture
def folder(tmp_path):
    catalog(tmp_path / "c", children=("./one/catalog.json", "two/catalog.json", "one/catalog.json"), items=("r.json",))
    catalog(tmp_path / "c/one", items=("a.json", "./b%20c.json", "../r.json"))
    catalog(tmp_path / "c/two", items=("../one/a.json", "d.json"))
    for name in ("r", "one/a", "one/b c", "two/d"):
        item(tmp_path / "c" / f"{name}.json")
    return tmp_path / "c"


def read(url: Any, environment: LocalEnvironment | None = None, **options: Any) -> list[Any]:
    pages = StaticCatalogSource(str(url), **options).pages(environment or LocalEnvironment())
    return [one for page in pages for one in page.items]


def own_links(document: dict[str, Any]) -> list[str]:
    return [link["href"] for link in document["links"] if link["rel"] == "self"]


def test_every_item_comes_once_in_the_order_of_the_links(folder, serve):
    web = serve(folder)
    for url in (folder / "catalog.json", (folder / "catalog.json").as_uri(), f"{web.url}/catalog.json"):
        assert [one["id"] for one in read(url)] == ["r", "a", "b c", "d"]

    assert len(web.received) == len(set(web.paths())) == 7


def test_items_say_where_they_were_so_that_their_hrefs_can_be_resolved(folder, serve):
    web = serve(folder)
    item(folder / "r.json", links=[{"rel": "self", "href": "https://example.com/r.json"}])
    item(folder / "one/a.json", links=[{"rel": "self", "href": "./a.json"}, {"rel": "root", "href": "x"}])
    (folder / "two/d.json").write_text('{"type": "Feature", "id": "d"}')

    published, relative, without, bare = read(f"{web.url}/catalog.json")

    assert own_links(published) == ["https://example.com/r.json"]
    assert own_links(relative) == [f"{web.url}/one/a.json"]
    assert len(relative["links"]) == 2
    assert own_links(without) == [f"{web.url}/one/b%20c.json"]
    assert own_links(bare) == [f"{web.url}/two/d.json"]


def test_a_published_catalog_is_read_whole(serve):
    root = DATASETS / "planetary_computer" / "naip" / "arches"
    if not root.is_dir():
        pytest.skip(f"the sample datasets are not at {DATASETS}")
    files = {json.loads(path.read_text())["id"]: path for path in root.glob("*/*.json")}

    found = read(f"{serve(root).url}/catalog.json")

    assert len(found) == 25
    assert {one["id"] for one in found} == set(files)
    for one in found:
        original = json.loads(files[one["id"]].read_text())
        assert {**one, "links": None} == {**original, "links": None}


@pytest.mark.parametrize("workers", [1, 4])
def test_items_are_read_at_the_same_time_but_not_all(tmp_path, serve, workers):
    names = tuple(f"{number}.json" for number in range(80))
    catalog(tmp_path, items=names)
    for name in names:
        item(tmp_path / name)
    web = serve(tmp_path)
    web.delay = 0.005

    pages = StaticCatalogSource(f"{web.url}/catalog.json", workers=workers).pages(LocalEnvironment())
    found = [one["id"] for page in pages for one in page.items]

    assert found == [str(number) for number in range(80)]
    assert web.most_at_once <= workers
    assert (web.most_at_once > 1) is (workers > 1)


BROKEN = {
    "missing": None,
    "no JSON": b"{this is no JSON",
    "no object": b"[]",
    "cut off": b'{"type": "Feature", "id"',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("over_http", [True, False])
def test_a_broken_item_fails_the_reading_or_is_set_aside_by_name(folder, serve, content, over_http):
    broken = folder / "one" / "a.json"
    broken.unlink()
    if content is not None:
        broken.write_bytes(content)
    base = serve(folder).url if over_http else folder.as_uri()

    with pytest.raises(ItemSourceError, match=r"one/a.json") as failure:
        read(f"{base}/catalog.json")
    found = read(f"{base}/catalog.json", on_broken_document="set_aside")

    assert not failure.value.retryable
    assert [one["id"] for one in found] == ["r", f"{base}/one/a.json", "b c", "d"]
    assert set(found[1]) == {"id", "unreadable"}


def test_a_broken_child_is_set_aside_by_name_and_the_others_are_read(folder):
    (folder / "one/catalog.json").write_text("{")

    with pytest.raises(ItemSourceError, match=r"one/catalog.json: not JSON"):
        read(folder / "catalog.json")
    found = read(folder / "catalog.json", on_broken_document="set_aside")

    assert [one["id"] for one in found] == ["r", "a", "d", (folder / "one/catalog.json").as_uri()]


@pytest.mark.parametrize("mode", ["fail", "set_aside"])
@pytest.mark.parametrize("content", [None, "{", '{"type": "Feature", "id": "x"}'])
def test_a_root_that_is_none_always_fails(tmp_path, mode, content):
    if content is not None:
        (tmp_path / "catalog.json").write_text(content)

    with pytest.raises(ItemSourceError, match=r"catalog.json"):
        read(tmp_path / "catalog.json", on_broken_document=mode)


def test_links_in_a_circle_fail(tmp_path):
    catalog(tmp_path / "a", children=("../b/catalog.json",))
    catalog(tmp_path / "b", children=("../a/catalog.json",))

    with pytest.raises(ItemSourceError, match="form a cycle"):
        read(tmp_path / "a/catalog.json")


def test_an_outage_of_a_moment_is_ridden_out_and_a_longer_one_is_not_taken_for_a_broken_item(folder, serve):
    web = serve(folder)
    well = (200, {}, (folder / "one/a.json").read_bytes())
    web.answers["/one/a.json"] = [(503, {"retry-after": "3600"}, b""), (429, {}, b""), well]

    assert len(read(f"{web.url}/catalog.json")) == 4

    web.answers["/one/a.json"] = [(503, {}, b"")]
    with pytest.raises(ItemSourceError, match=r"one/a.json answered 503") as failure:
        read(f"{web.url}/catalog.json", on_broken_document="set_aside")
    assert failure.value.retryable


def test_an_unreachable_server_can_be_asked_again(folder, serve):
    web = serve(folder)
    web.stop()

    with pytest.raises(ItemSourceError, match="cannot be reached") as failure:
        read(f"{web.url}/catalog.json")

    assert failure.value.retryable


def test_a_connection_s_headers_go_to_the_root_s_origin_only(folder, tmp_path, serve):
    other = serve(tmp_path)
    item(tmp_path / "elsewhere.json")
    item(tmp_path / "moved.json")
    web = serve(folder)
    catalog(folder, items=("r.json", f"{other.url}/elsewhere.json", "redirected.json"))
    web.answers["/redirected.json"] = [(302, {"location": f"{other.url}/moved.json"}, b"")]
    environment = LocalEnvironment({"key": {"X-Api-Key": "secret-key", "Authorization": "Bearer secret"}})

    found = read(f"{web.url}/catalog.json", environment, conn_id="key")

    assert [one["id"] for one in found] == ["r", "elsewhere", "moved"]
    assert [headers.get("X-Api-Key") for _, headers in web.received] == ["secret-key"] * 3
    assert sorted(other.paths()) == ["/elsewhere.json", "/moved.json"]
    for _, headers in other.received:
        assert "secret" not in str(headers)


@pytest.mark.parametrize("scheme", ["file:", "FILE:", "local:", "simplecache::file:"])
@pytest.mark.parametrize("rel", ["item", "child"])
def test_a_catalog_on_the_web_cannot_have_this_machine_s_files_read(folder, tmp_path, serve, rel, scheme):
    (tmp_path / "secret.json").write_text('{"type": "Catalog", "id": "x", "client_secret": "of-this-machine"}')
    catalog(folder, **{"items" if rel == "item" else "children": (f"{scheme}//{tmp_path}/secret.json",)})
    web = serve(folder)

    with pytest.raises(ItemSourceError, match="to which a catalog at http: cannot link") as caught:
        read(f"{web.url}/catalog.json")
    [lost] = read(f"{web.url}/catalog.json", on_broken_document="set_aside")

    assert not caught.value.retryable
    assert set(lost) == {"id", "unreadable"}
    assert "of-this-machine" not in f"{caught.value}{lost}"


def test_a_catalog_on_disk_may_link_to_the_web(folder, serve):
    item(folder / "elsewhere.json")
    catalog(folder, items=(f"{serve(folder).url}/elsewhere.json", (folder / "r.json").as_uri()))

    assert [one["id"] for one in read(folder / "catalog.json")] == ["elsewhere", "r"]


def test_what_is_remembered_of_links_is_on_disk():
    def document(url: str) -> bytes:
        number = url.removeprefix("https://example.com/").removesuffix(".json")
        if number == "root":
            links = [{"rel": "child", "href": f"./{one}.json"} for one in range(20)]
        else:
            links = [{"rel": "item", "href": f"./items/{number}-{one}.json"} for one in (*range(500), 0)]
        return json.dumps({"type": "Catalog", "links": links}).encode()

    kept = []
    for count, _ in enumerate(walk_items("https://example.com/root.json", document), 1):
        if count % 500 == 0:
            kept.append(sys.getallocatedblocks())

    assert len(kept) == 20
    assert kept[-1] - kept[0] < 3000  # of 10,000 links


def test_a_page_of_large_items_ends_early(tmp_path):
    names = [f"{number}.json" for number in range(5)]
    catalog(tmp_path, items=tuple(names))
    for name in names:
        item(tmp_path / name, properties={"text": "x" * 6_000_000})

    found = list(StaticCatalogSource(str(tmp_path / "catalog.json")).pages(LocalEnvironment()))

    assert [len(page.items) for page in found] == [3, 2]


def test_a_credential_does_not_go_over_plain_http_to_another_machine():
    environment = LocalEnvironment({"key": {"Authorization": "Bearer secret"}})

    with pytest.raises(GeoCatalogInvalidInput, match="plain http") as failure:
        read("http://catalog.example/catalog.json", environment, conn_id="key")

    assert "secret" not in str(failure.value)


def test_redirects_without_end_fail(folder, serve):
    web = serve(folder)
    web.answers["/catalog.json"] = [(302, {"location": "/catalog.json"}, b"")]

    with pytest.raises(ItemSourceError, match="redirects more than"):
        read(f"{web.url}/catalog.json")


def test_a_file_on_the_web_that_breaks_off_is_not_taken_for_whole(tmp_path, serve):
    web = serve(tmp_path)
    (tmp_path / "whole.ndjson").write_text('{"id": "a"}\n{"id": "b"}\n')
    line = b'{"id": "a"}\n'
    web.answers["/cut.ndjson"] = [(200, {"content-length": "24", "connection": "close"}, line)]

    def ids(name: str) -> list[str]:
        pages = ItemFilesSource(f"{web.url}/{name}").pages(LocalEnvironment())
        return [one["id"] for page in pages for one in page.items]

    assert ids("whole.ndjson") == ["a", "b"]
    with pytest.raises(ItemSourceError, match="broke off") as failure:
        ids("cut.ndjson")
    assert failure.value.retryable
    with pytest.raises(ItemSourceError, match="answered 404") as failure:
        ids("absent.ndjson")
    assert not failure.value.retryable


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"url": ""}, "url has to be"),
        ({"url": "catalog.json", "on_broken_document": "ignore"}, "on_broken_document is 'ignore'"),
        ({"url": "s3://bucket/catalog.json"}, "neither a file"),
        ({"url": "catalog.json", "workers": 0}, "workers"),
        ({"url": "https://x.example/catalog.json?sig=verySecret"}, "SAS signature"),
    ],
)
def test_bad_arguments_are_refused(arguments, reason):
    with pytest.raises(GeoCatalogInvalidInput, match=reason):
        list(StaticCatalogSource(**arguments).pages(LocalEnvironment()))


@pytest.mark.parametrize(
    ("base", "href", "expected"),
    [
        ("s3://bucket/a/catalog.json", "./b/c.json", "s3://bucket/a/b/c.json"),
        (
            "abfs://box@account.dfs.core.windows.net/a/b.json",
            "../c.json",
            "abfs://box@account.dfs.core.windows.net/c.json",
        ),
        ("gs://bucket/a.json", "/b.json", "gs://bucket/b.json"),
        ("s3://bucket/a.json", "https://example.com/b.json", "https://example.com/b.json"),
        ("s3://bucket/a.json", "s3://other/b.json", "s3://other/b.json"),
        ("https://example.com/a/b.json", "c.json", "https://example.com/a/c.json"),
    ],
)
def test_references_are_resolved_in_object_stores_as_on_the_web(base, href, expected):
    assert join_href(base, href) == expected
