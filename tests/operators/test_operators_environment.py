"""What Airflow lends to sources: connections and object storage."""

from __future__ import annotations

import base64
import json
import logging
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import fsspec
import pytest
from airflow.providers.common.compat.sdk import redact as airflow_redact

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.hooks.environment import AirflowEnvironment
from airflow_provider_geocatalog.transfer.item_files import read_items, writing_items
from airflow_provider_geocatalog.transfer.sources import (
    ItemFilesSource,
    ItemSourceError,
    StacApiSource,
    StaticCatalogSource,
)
from tests.fakes.airflow_versions import attach
from tests.fakes.items import stac_item
from tests.fakes.scripted_server import Answer, ScriptedServer
from tests.fakes.tasks import TOKEN

URL = "https://stac.example/v1"


@pytest.fixture
def connect(monkeypatch):
    def make(**fields: Any) -> str:
        monkeypatch.setenv("AIRFLOW_CONN_SOURCE", json.dumps({"conn_type": "http", **fields}))
        return "source"

    return make


@pytest.fixture
def bucket():
    store = fsspec.filesystem("memory")
    attach("memory", fs=store)
    store.makedirs("/bucket", exist_ok=True)
    yield store
    store.rm("/bucket", recursive=True)


def ids(source: Any) -> list[str]:
    return [one["id"] for page in source.pages(AirflowEnvironment()) for one in page.items]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"password": "bearer-secret-1"}, {"Authorization": "Bearer bearer-secret-1"}),
        (
            {"login": "me", "password": "basic-secret-1"},
            {"Authorization": f"Basic {base64.b64encode(b'me:basic-secret-1').decode()}"},
        ),
        ({"password": "unused", "extra": {"headers": {"X-Key": "header-secret-1"}}}, {"X-Key": "header-secret-1"}),
        ({"extra": {"headers": {}}}, {}),
    ],
)
def test_a_connection_stands_for_headers_that_logs_do_not_show(connect, fields, expected):
    headers = AirflowEnvironment().headers(connect(**fields), URL)

    assert headers == expected
    for value in expected.values():
        assert airflow_redact(f"sent {value}") == "sent ***"
        assert value.split(" ")[-1] not in airflow_redact(f"a log with {value.split(' ')[-1]} in it")


@pytest.mark.parametrize("fields", [{}, {"extra": {"headers": "X-Key: 1"}}, {"extra": {"headers": {"X-Key": 1}}}])
def test_a_connection_that_holds_no_headers_is_refused(connect, fields):
    with pytest.raises(GeoCatalogInvalidInput, match="connection 'source'"):
        AirflowEnvironment().headers(connect(**fields), URL)


def test_without_a_connection_there_are_no_headers():
    assert AirflowEnvironment().headers(None, URL) == {}


def test_a_geocatalog_s_connection_gives_the_token_of_its_identity(world):
    headers = AirflowEnvironment().headers("geocatalog_default", f"{world.server.url}/stac")

    assert headers == {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    "make",
    [
        lambda url: StacApiSource(url=f"{url}/stac", collections=["a"], conn_id="geocatalog_default"),
        lambda url: ItemFilesSource(f"{url}/a.json", conn_id="geocatalog_default"),
        lambda url: StaticCatalogSource(f"{url}/catalog.json", conn_id="geocatalog_default"),
    ],
    ids=["STAC API", "files", "static catalog"],
)
def test_a_geocatalog_s_token_goes_to_no_other_host(world, make):
    with ScriptedServer(Answer(404)) as other:
        with pytest.raises(GeoCatalogInvalidInput, match=f"'geocatalog_default' opens {world.server.url} only"):
            ids(make(other.url))

        assert other.seen == []


def test_http_files_are_read_with_the_connection_s_headers(connect):
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            received.append((self.path, self.headers.get("Authorization")))
            body = json.dumps(stac_item("a")).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        source = ItemFilesSource(f"http://127.0.0.1:{server.server_port}/a.json", conn_id=connect(password="secret-2"))
        found = ids(source)
        server.shutdown()

    assert found == ["a"]
    assert received == [("/a.json", "Bearer secret-2")]


def test_files_of_an_object_store_are_listed_read_and_written(bucket):
    environment = AirflowEnvironment()
    names = ("a.ndjson", "deep/b.json.gz", "deep/c.parquet")
    for name in names:
        with writing_items(environment, f"memory://bucket/{name}") as writer:
            writer.write(stac_item(name))
    bucket.pipe("/bucket/README.md", b"no items")
    bucket.pipe("/bucket/_SUCCESS.json", b"no items")

    assert ids(ItemFilesSource("memory://bucket")) == list(names)
    assert ids(ItemFilesSource("memory://bucket/deep/*.parquet")) == ["deep/c.parquet"]
    assert environment.list("memory://bucket/a.ndjson") == ["memory://bucket/a.ndjson"]
    assert environment.list("memory://bucket/none") == environment.list("memory://bucket/none/*") == []
    with pytest.raises(ItemSourceError, match="names no files"):
        ids(ItemFilesSource("memory://bucket/absent.ndjson"))


def write_half(environment: AirflowEnvironment, path: str) -> None:
    with writing_items(environment, path) as writer:
        writer.write(stac_item("after"))
        raise RuntimeError("half-way")


def test_an_object_is_there_only_when_it_is_complete(bucket):
    bucket.pipe("/bucket/a.ndjson", b'{"id": "before"}\n')
    environment = AirflowEnvironment()

    with pytest.raises(RuntimeError, match="half-way"):
        write_half(environment, "memory://bucket/a.ndjson")
    with (
        pytest.raises(GeoCatalogInvalidInput, match="is there already"),
        writing_items(environment, "memory://bucket/a.ndjson", overwrite=False),
    ):
        pytest.fail("it was opened")

    assert list(read_items(environment, "memory://bucket/a.ndjson")) == [{"id": "before"}]
    assert bucket.ls("/bucket", detail=False) == ["/bucket/a.ndjson"]


def test_a_static_catalog_in_an_object_store_is_walked(bucket):
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "d"}
    child = {**catalog, "links": [{"rel": "item", "href": "../items/a%20b.json"}]}
    root = {**catalog, "links": [{"rel": "child", "href": "./child/catalog.json"}]}
    bucket.pipe("/bucket/catalog.json", json.dumps(root).encode())
    bucket.pipe("/bucket/child/catalog.json", json.dumps(child).encode())
    bucket.pipe("/bucket/items/a b.json", json.dumps(stac_item("a b")).encode())

    [page] = StaticCatalogSource("memory://bucket/catalog.json").pages(AirflowEnvironment())

    assert page.items == [{**stac_item("a b"), "links": [{"rel": "self", "href": "memory://bucket/items/a%20b.json"}]}]


def test_local_paths_and_file_urls_are_files_of_the_worker(tmp_path):
    environment = AirflowEnvironment()
    with writing_items(environment, (tmp_path / "a b.ndjson").as_uri()) as writer:
        writer.write(stac_item("a"))

    assert ids(ItemFilesSource(str(tmp_path))) == ["a"]
    assert environment.list(str(tmp_path / "*.ndjson")) == [str(tmp_path / "a b.ndjson")]


@pytest.mark.parametrize(
    ("path", "mode", "reason"),
    [("a.ndjson", "r", "'rb' or 'wb'"), ("https://x.example/a.json", "wb", "nothing can be")],
)
def test_what_cannot_be_opened_is_refused(path, mode, reason):
    with pytest.raises(GeoCatalogInvalidInput, match=reason):
        AirflowEnvironment().open(path, mode)


def test_an_unknown_store_is_refused_to_readers_and_writers(caplog):
    with caplog.at_level(logging.CRITICAL):
        with pytest.raises(GeoCatalogInvalidInput, match=r"bucket/a\.ndjson cannot be opened: .*nosuchstore"):
            ids(ItemFilesSource("nosuchstore://bucket/a.ndjson"))
        with pytest.raises(GeoCatalogInvalidInput, match="cannot be opened"):
            AirflowEnvironment().open("nosuchstore://bucket/a.ndjson", "wb")


def test_paths_of_airflow_can_be_objects(bucket):
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    bucket.pipe("/bucket/a.ndjson", json.dumps(stac_item("a")).encode())

    assert ids(ItemFilesSource(ObjectStoragePath("memory://bucket/a.ndjson"))) == ["a"]
    assert ids(ItemFilesSource([ObjectStoragePath("memory://bucket")])) == ["a"]
