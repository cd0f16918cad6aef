"""Looking before an ingestion whether it can succeed, and dry runs, on the emulator."""

from __future__ import annotations

import datetime
import json
import socket
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_provider_geocatalog.api.errors import GeoCatalogItemsFailed
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.operators.configuration import GeoCatalogConfigureCollectionOperator
from airflow_provider_geocatalog.operators.ingestion import (
    GeoCatalogBulkIngestionOperator,
    GeoCatalogCreateIngestionOperator,
    GeoCatalogRunIngestionOperator,
)
from airflow_provider_geocatalog.operators.items import GeoCatalogCreateItemsOperator
from airflow_provider_geocatalog.operators.preflight import GeoCatalogPreflightOperator

DATASETS = Path(__file__).parents[3] / "shared" / "data" / "mpcpro-sample-datasets"
HOUR = 3600.0


@pytest.fixture
def depot(tmp_path, start_world, documents, request):
    """A world with three private containers and a public one, and a collection; catalogs are local files."""
    folders = {name: tmp_path / name for name in ("one", "two", "three", "open")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "image.tif").write_bytes(b"tif")
    public = {"open": folders.pop("open")}
    settings = {"allowed_paths": (tmp_path,), "containers": folders, "public_containers": public}
    world = start_world(tmp_path, **settings, **getattr(request, "param", {}))
    world.run(GeoCatalogCreateCollectionOperator(task_id="c", collection=documents()))
    return world


def url(world, container, blob=""):
    return f"{world.server.url}/_emulator/storage/{container}{blob}"


@pytest.fixture
def cover(tokens):
    """Register an ingestion source for each container, whatever its token is."""

    def cover(world, *containers, hours=100.0):
        for container in containers:
            info = {"containerUrl": url(world, container), "sasToken": tokens(hours=hours)}
            GeoCatalogHook().client.create_source({"kind": "SasToken", "connectionInfo": info})

    return cover


def item(name, *hrefs, **members):
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
        "bbox": [1.0, 2.0, 1.0, 2.0],
        "properties": {"datetime": "2024-01-01T00:00:00Z"},
        "links": [],
        "assets": {f"image{number}": {"href": href} for number, href in enumerate(hrefs)},
        **members,
    }


def write(folder, items, name="catalog.json", links=()):
    """Write a catalog and return its URL; an item may be the text of its document."""
    folder.mkdir(exist_ok=True)
    named = {f"item-{number}.json": one for number, one in enumerate(items)}
    for file, one in named.items():
        (folder / file).write_text(one if isinstance(one, str) else json.dumps(one))
    document = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "d"}
    document["links"] = [*links, *({"rel": "item", "href": f"./{file}"} for file in named)]
    (folder / name).write_text(json.dumps(document))
    return (folder / name).as_uri()


def preflight(world, catalog_url=None, **arguments):
    operator = GeoCatalogPreflightOperator(task_id="p", catalog_url=catalog_url, **arguments)
    return world.run(operator)


def told(report, kind="problems"):
    return "\n".join(report[kind])


def asked(world, since):
    """Names of the service's operations that were asked for; reads of blobs are none."""
    return [one.operation for one in list(world.server.emulator.requests)[since:] if one.operation]


def bulk(world, catalog_url, **arguments):
    defaults = {"task_id": "ingest", "collection_id": "demo", "run_key": "key", "poll_interval": 0.2}
    return GeoCatalogBulkIngestionOperator(catalog_url=catalog_url, **{**defaults, **arguments})


# --- containers -------------------------------------------------------------------------------------------------------


def test_an_uncovered_container_among_10000_items_fails_the_task_before_anything_is_submitted(depot, cover):
    cover(depot, "one", "two")
    names = ("one", "two", "three")
    items = [item(f"item-{n}", url(depot, names[n % 3], "/image.tif")) for n in range(10_000)]
    catalog_url = write(depot.folder / "catalog", items)
    before, writes = len(depot.server.emulator.requests), list(depot.writes)
    began = time.monotonic()

    with pytest.raises(GeoCatalogTaskFailed) as caught:
        depot.run(bulk(depot, catalog_url, preflight="fail"))

    assert time.monotonic() - began < 60
    (problem,) = caught.value.error.problems
    assert problem.startswith(f"container {url(depot, 'three')} has no ingestion source and is not public")
    assert "(3333, the first: item-2, item-5, " in problem
    assert "item-59" in problem
    assert "item-62" not in problem
    assert depot.writes == writes
    since = asked(depot, before)
    assert sorted(name for name in since if "source" in name) == ["get_source", "get_source", "list_sources"]


def test_what_is_missing_for_one_container_is_all_that_is_between_failing_and_running(depot, cover):
    cover(depot, "one", "two")
    items = [item(f"item-{name}", url(depot, name, "/image.tif")) for name in ("one", "two", "three", "open")]
    catalog_url = write(depot.folder / "catalog", items)
    with pytest.raises(GeoCatalogTaskFailed, match="three has no ingestion source"):
        depot.run(bulk(depot, catalog_url, preflight="fail"))

    cover(depot, "three")

    assert depot.run(bulk(depot, catalog_url, preflight="fail"))["items"]["succeeded"] == 4


def test_at_most_one_service_call_more_than_there_are_sources_is_made(depot, cover):
    cover(depot, "one", "two")
    catalog_url = write(depot.folder / "catalog", [item("a", url(depot, "three", "/image.tif"))])
    before = len(depot.server.emulator.requests)

    report = preflight(depot, catalog_url, if_problems="warn")

    assert sorted(asked(depot, before)) == ["get_source", "get_source", "list_sources"]
    assert "three has no ingestion source" in told(report)


def test_public_and_signed_locations_need_no_source(depot, cover, tokens):
    signed = f"{url(depot, 'one', '/image.tif')}?{tokens()}"
    catalog_url = write(depot.folder / "catalog", [item("a", url(depot, "open", "/image.tif"), signed)])
    cover(depot, "two")

    report = preflight(depot, catalog_url)

    assert (report["problems"], report["warnings"], report["complete"]) == ([], [], True)
    assert [(one["url"], one["opened_by"]) for one in report["containers"]] == [(url(depot, "open"), "public")]


def test_the_containers_of_the_documents_count_too(depot, cover):
    write(depot.folder / "one", [item("a", url(depot, "open", "/image.tif"))])
    cover(depot, "two")

    report = preflight(depot, url(depot, "one", "/catalog.json"), if_problems="warn", container_url=url(depot, "one"))

    assert f"container {url(depot, 'one')} has no ingestion source" in told(report)
    assert "1 documents of the catalog" in told(report)
    assert "the worker has no credential" in told(report, "warnings")
    assert report["complete"] is False


def test_a_catalog_in_a_private_container_is_read_with_the_workers_token(depot, cover, tokens):
    write(depot.folder / "one", [item("a", url(depot, "open", "/image.tif"))])
    cover(depot, "one")

    report = preflight(
        depot, url(depot, "one", "/catalog.json"), container_url=url(depot, "one"), sas_token_callable=lambda: tokens()
    )

    assert (report["items_read"], report["complete"], report["warnings"]) == (1, True, [])


@pytest.mark.parametrize(("hours", "words"), [(2, "in less than the 7200 s"), (-1, "expired at")])
def test_a_source_that_does_not_live_long_enough_is_named_with_its_expiry(depot, hours, words, cover):
    cover(depot, "one", hours=hours)
    cover(depot, "two", hours=2.1)
    items = [item("a", url(depot, "one", "/image.tif"), url(depot, "two", "/image.tif"))]
    catalog_url = write(depot.folder / "catalog", items)

    report = preflight(depot, catalog_url, min_lifetime=2 * HOUR, if_problems="warn")

    (problem,) = report["problems"]
    (one,) = [one for one in report["containers"] if one["url"] == url(depot, "one")]
    for part in (f"container {url(depot, 'one')}: its ingestion source {one['source_id']}", words, one["expires_at"]):
        assert part in problem, part
    assert datetime.datetime.fromisoformat(one["expires_at"]).tzinfo is not None


def test_a_signature_in_an_href_that_ends_too_soon_is_told_without_showing_it(depot, tokens):
    hrefs = [f"{url(depot, 'one', '/image.tif')}?{tokens(hours=hours)}" for hours in (1, 100)]
    catalog_url = write(depot.folder / "catalog", [item("short", hrefs[0]), item("long", hrefs[1])])

    with pytest.raises(GeoCatalogTaskFailed, match=r"the signature in its 'href' expires at") as caught:
        preflight(depot, catalog_url, min_lifetime=2 * HOUR)

    assert "1: short" in str(caught.value)
    assert "operatorsTestSignature" not in str(caught.value)


def test_what_cannot_be_told_from_the_worker_is_a_warning(depot):
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]  # nobody listens there once it is closed
    catalog_url = write(depot.folder / "catalog", [item("a", f"http://127.0.0.1:{port}/box/image.tif")])

    report = preflight(depot, catalog_url)

    (warning,) = report["warnings"]
    assert warning.startswith(f"unknown: container http://127.0.0.1:{port}/box has no ingestion source")
    assert "ConnectionError" in warning


@pytest.fixture
def storage():
    """A server that answers anonymous reads by the first segment of the path."""
    answers = {
        "gone": (404, "BlobNotFound"),
        "hidden": (404, "ResourceNotFound"),
        "closed": (409, "PublicAccessNotPermitted"),
        "forbidden": (403, ""),
        "plain": (404, ""),
        "failing": (500, ""),
        "moved": (302, ""),
    }
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(405 if "getonly" in self.path else None)

        def do_GET(self):
            self.answer(206)

        def answer(self, status):
            seen.append((self.command, self.path, self.headers.get("Authorization")))
            usual, code = answers.get(self.path.split("/")[1], (200, ""))
            self.send_response(status or usual)
            if code:
                self.send_header("x-ms-error-code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()


def test_who_may_read_a_container_is_seen_from_the_answer_to_one_anonymous_read(depot, storage, tmp_path, monkeypatch):
    address, seen = storage
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    containers = ["gone", "hidden", "closed", "forbidden", "plain", "failing", "moved", "getonly", "good"]
    items = [item(f"{name}-{n}", f"{address}/{name}/{n}.tif") for name in containers for n in range(3)]

    report = preflight(depot, write(depot.folder / "catalog", items), if_problems="warn")

    opened = {one["url"].rsplit("/", 1)[-1]: one["opened_by"] for one in report["containers"]}
    assert opened == {
        **dict.fromkeys(("gone", "getonly", "good"), "public"),
        **dict.fromkeys(("hidden", "closed", "forbidden"), "nothing"),
        **dict.fromkeys(("plain", "failing", "moved"), "unknown"),
    }
    assert len(report["problems"]) == 3
    assert sorted(path for _, path, _ in seen) == sorted([f"/{name}/0.tif" for name in [*containers, "getonly"]])
    assert {authorization for _, _, authorization in seen} == {None}


# --- documents and limits ---------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_told_at_once_with_its_items(depot, cover):
    good = url(depot, "open", "/image.tif")
    items = [
        item("fine", good),
        *(item(f"far-{n}", f"./image-{n}.tif") for n in range(30)),
        item("has space", good),
        item("x" * 150, good),
        item("long-key", good, assets={"k" * 256: {"href": good}}),
        item("bucket", "s3://bucket/image.tif"),
        item("no-time", good, properties={}),
        item("private", url(depot, "three", "/image.tif")),
        "{ this is no JSON",
        '{"also": no JSON',
    ]
    links = [{"rel": "item", "href": "./missing.json"}, {"rel": "child", "href": "./nowhere/catalog.json"}]
    catalog_url = write(depot.folder / "catalog", items, links=links)
    cover(depot, "one")

    with pytest.raises(GeoCatalogTaskFailed) as caught:
        preflight(depot, catalog_url)

    problems = caught.value.error.problems
    folder = (depot.folder / "catalog").as_uri()
    for parts in (
        [f"container {url(depot, 'three')} has no", "(1: private)"],
        ["'href' is './image-0.tif', not an absolute URL (for example) - 30, the first: far-0, far-1, ", "far-19"],
        ["an id has up to 149 letters", "2: has space, xxx"],
        ["a key has up to 255 letters", "1: long-key"],
        ["the service does not read s3: URLs", "1: bucket"],
        ["'properties.datetime' is missing", "1: no-time"],
        ["item documents: not JSON", f"2: {folder}/item-37.json, {folder}/item-38.json"],
        ["item documents: cannot be read (No such file or directory)", f"1: {folder}/missing.json"],
        ["catalog documents: cannot be read", f"1: {folder}/nowhere/catalog.json"],
    ):
        assert sum(all(part in problem for part in parts) for problem in problems) == 1, (parts, problems)
    assert len(problems) == 9
    assert "far-20" not in str(caught.value)


def test_of_a_catalog_that_is_too_large_a_spread_of_items_is_read_and_that_is_said(depot):
    good = url(depot, "open", "/image.tif")
    items = [item(f"item-{n}", good if n < 90 else "./relative.tif") for n in range(100)]

    report = preflight(depot, write(depot.folder / "catalog", items), max_items=10, if_problems="warn")

    assert (report["items"], report["items_read"], report["complete"]) == (100, 10, False)
    assert "partial: 10 of 100 items were read, as max_items says (10)" in told(report, "warnings")
    assert "1: item-90" in told(report)


@pytest.fixture
def slow_catalog():
    """A server of a catalog with a thousand items of which each takes its time."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            links = [{"rel": "item", "href": f"./{n}.json"} for n in range(1000)]
            document = {"type": "Catalog", "id": "c", "links": links}
            if not self.path.endswith("catalog.json"):
                time.sleep(0.2)
                document = item(self.path[1:-5], f"http://{self.headers['Host']}/image.tif")
            content = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/catalog.json"
        server.shutdown()


def test_reading_ends_with_the_time_and_says_how_far_it_came(depot, slow_catalog):
    began = time.monotonic()

    report = preflight(depot, slow_catalog, time_limit=1, if_problems="warn")

    assert time.monotonic() - began < 6
    assert 0 < report["items_read"] < 500
    assert report["items"] == 1000
    assert f"partial: {report['items_read']} of 1000 items were read, until the time was over" in told(
        report, "warnings"
    )


def test_ids_that_occur_twice_are_told(depot):
    good = url(depot, "open", "/image.tif")
    catalog_url = write(depot.folder / "catalog", [item("same", good), item("same", good), item("other", good)])

    assert (
        "ids that several items have, of which the service keeps one: 1: same"
        in preflight(depot, catalog_url)["warnings"]
    )


def test_of_a_geoparquet_file_its_container_is_looked_at(depot, cover):
    cover(depot, "one")
    arguments = {"import_type": "StacGeoparquet", "if_problems": "warn"}

    report = preflight(depot, url(depot, "two", "/items.parquet"), **arguments)

    assert f"container {url(depot, 'two')} has no ingestion source" in told(report)
    assert "is not read on the worker" in told(report, "warnings")
    assert preflight(depot, url(depot, "one", "/items.parquet"), **arguments)["problems"] == []


@pytest.mark.skipif(not DATASETS.is_dir(), reason=f"the sample datasets are not at {DATASETS}")
def test_a_published_catalog_passes_from_files_and_from_containers(tmp_path, monkeypatch, start_world, cover, tokens):
    naip = DATASETS / "planetary_computer" / "naip"
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # no anonymous read leaves this machine
    world = start_world(tmp_path, containers={"naip": naip}, public_containers={"public": naip})
    cover(world, "naip")
    info = {"containerUrl": "https://naipeuwest.blob.core.windows.net/naip", "sasToken": tokens()}
    GeoCatalogHook().client.create_source({"kind": "SasToken", "connectionInfo": info})
    writes = list(world.writes)

    for catalog_url in (
        (naip / "arches" / "catalog.json").as_uri(),
        url(world, "naip", "/arches/catalog.json"),
        url(world, "public", "/arches/catalog.json"),
    ):
        report = preflight(world, catalog_url, container_url=url(world, "naip"), sas_token_callable=lambda: tokens())

        assert (report["problems"], report["complete"], report["items_read"]) == ([], True, report["items"])
        assert report["items"] == len(list((naip / "arches").glob("*/*.json")))
        # Tiles and previews are linked from a service on the web, which cannot be reached from here.
        (warning,) = report["warnings"]
        assert warning.startswith("unknown: container https://planetarycomputer.microsoft.com/api has no")
    assert world.writes == writes


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "by catalog_url or by items"),
        ({"catalog_url": "https://h/c.json", "items": []}, "by catalog_url or by items"),
        ({"items": []}, "there are no items"),
        ({"catalog_url": "catalog.json"}, "is not an absolute https URL"),
        ({"catalog_url": "https://h/c.json", "if_problems": "maybe"}, "if_problems is 'maybe'"),
        ({"catalog_url": "file:///c.json", "max_items": 0, "min_lifetime": -1}, "min_lifetime is -1.*max_items is 0"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_asked(depot, arguments, complaint):
    before = len(depot.server.emulator.requests)

    with pytest.raises(GeoCatalogTaskFailed, match=complaint):
        depot.run(GeoCatalogPreflightOperator(task_id="p", **arguments))

    assert asked(depot, before) == []


# --- as part of an ingestion ------------------------------------------------------------------------------------------


def test_a_preflight_that_only_warns_lets_the_ingestion_go_on(depot, capfd):
    catalog_url = write(depot.folder / "catalog", [item("a", url(depot, "one", "/image.tif"))])

    with pytest.raises(GeoCatalogItemsFailed):
        depot.run(bulk(depot, catalog_url, preflight="warn"))

    assert f"container {url(depot, 'one')} has no ingestion source" in capfd.readouterr().out


def test_a_run_that_is_adopted_needs_no_preflight(depot, cover):
    cover(depot, "one")
    catalog_url = write(depot.folder / "catalog", [item("a", url(depot, "one", "/image.tif"))])
    first = depot.run(bulk(depot, catalog_url, preflight="fail"))
    before = len(depot.server.emulator.requests)

    second = depot.run(bulk(depot, catalog_url, preflight="fail", min_lifetime=1e9))

    assert (second["run_id"], second["adopted"]) == (first["run_id"], True)
    assert "list_sources" not in asked(depot, before)


def test_items_are_not_sent_where_a_container_is_not_covered(depot, cover):
    cover(depot, "one")
    items = [item("a", url(depot, "one", "/image.tif")), item("b", url(depot, "two", "/image.tif"))]
    before, writes = len(depot.server.emulator.requests), list(depot.writes)
    create = {"task_id": "i", "collection_id": "demo", "items": items, "poll_interval": 0.1, "preflight": "fail"}

    with pytest.raises(GeoCatalogTaskFailed, match=r"two has no ingestion source .* \(1: b\)"):
        depot.run(GeoCatalogCreateItemsOperator(**create))

    assert depot.writes == writes
    assert [name for name in asked(depot, before) if "source" in name] == ["list_sources", "get_source"]
    cover(depot, "two")
    assert depot.run(GeoCatalogCreateItemsOperator(**create))["items"]["succeeded"] == 2


def test_items_at_hand_can_be_looked_at_alone(depot):
    report = preflight(depot, items=[item("a", url(depot, "one", "/image.tif")), "{}"], if_problems="warn")

    assert report["items_read"] == 2
    assert "items: it has no id - 1: item number 2" in report["problems"]


# --- dry runs ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_of_a_bulk_ingestion_tells_what_it_would_do_and_does_nothing(depot, cover):
    cover(depot, "open")
    catalog_url = write(depot.folder / "catalog", [item("a", url(depot, "open", "/image.tif"))])
    dry = bulk(depot, catalog_url, dry_run=True, preflight="fail")
    writes = list(depot.writes)

    new = depot.run(dry)

    assert depot.writes == writes
    assert new == {
        "collection_id": "demo",
        "ingestion_id": None,
        "run_id": None,
        "adopted": False,
        "dry_run": True,
        "plan": [
            {
                "operation": "create_ingestion",
                "method": "POST",
                "path": "/collections/demo/ingestions",
                "subject": "ingest | key",
            },
            {
                "operation": "create_run",
                "method": "POST",
                "path": "/collections/demo/ingestions/%28new%29/runs",
                "subject": "a new run",
            },
        ],
    }
    done = depot.run(bulk(depot, catalog_url))
    writes = list(depot.writes)
    adopted = depot.run(bulk(depot, catalog_url, dry_run=True))
    again = depot.run(bulk(depot, catalog_url, dry_run=True, if_run_exists="new"))
    assert (adopted["run_id"], adopted["adopted"], adopted["plan"]) == (done["run_id"], True, [])
    assert [one["path"] for one in again["plan"]] == [f"/collections/demo/ingestions/{done['ingestion_id']}/runs"]
    with pytest.raises(GeoCatalogTaskFailed, match="if_run_exists='adopt'"):
        depot.run(bulk(depot, catalog_url, dry_run=True, if_run_exists="fail"))
    assert depot.writes == writes


def test_a_dry_run_fails_for_what_would_fail(depot):
    catalog_url = write(depot.folder / "catalog", [item("a", url(depot, "one", "/image.tif"))])
    writes = list(depot.writes)

    with pytest.raises(GeoCatalogTaskFailed, match="has no ingestion source"):
        depot.run(bulk(depot, catalog_url, dry_run=True, preflight="fail"))
    with pytest.raises(GeoCatalogTaskFailed, match="'nowhere' does not exist"):
        depot.run(bulk(depot, catalog_url, dry_run=True, collection_id="nowhere"))

    assert depot.writes == writes


def test_a_dry_run_of_the_two_steps(depot):
    catalog_url = write(depot.folder / "catalog", [item("a", url(depot, "open", "/image.tif"))])
    arguments = {"collection_id": "demo", "catalog_url": catalog_url, "run_key": "k"}
    writes = list(depot.writes)

    define = depot.run(GeoCatalogCreateIngestionOperator(task_id="d", **arguments, dry_run=True))

    assert (define["ingestion_id"], [one["operation"] for one in define["plan"]]) == (None, ["create_ingestion"])
    assert depot.writes == writes
    ingestion_id = depot.run(GeoCatalogCreateIngestionOperator(task_id="d", **arguments))
    writes = list(depot.writes)
    known = depot.run(GeoCatalogCreateIngestionOperator(task_id="d", **arguments, dry_run=True))
    run = depot.run(
        GeoCatalogRunIngestionOperator(task_id="r", collection_id="demo", ingestion_id=ingestion_id, dry_run=True)
    )
    assert (known["ingestion_id"], known["plan"]) == (ingestion_id, [])
    assert [one["operation"] for one in run["plan"]] == ["create_run"]
    assert depot.writes == writes


@pytest.mark.parametrize("depot", [{"items_per_second": 0.2}], indirect=True)
def test_a_dry_run_tells_a_live_run_that_is_adopted_from_one_that_a_cleared_task_replaces(depot):
    catalog_url = write(depot.folder / "catalog", [item("a", url(depot, "open", "/image.tif"))])
    arguments = {"task_id": "i", "collection_id": "demo", "catalog_url": catalog_url}
    live = depot.run(GeoCatalogBulkIngestionOperator(**arguments, wait_for_completion=False))
    dry = GeoCatalogBulkIngestionOperator(**arguments, dry_run=True)
    writes = list(depot.writes)

    retried = depot.run(dry, try_number=2)
    cleared = dry.execute({"ti": SimpleNamespace(try_number=2, max_tries=1, task=SimpleNamespace(retries=0))})

    assert (retried["run_id"], retried["adopted"]) == (live["run_id"], True)
    assert (cleared["run_id"], [one["operation"] for one in cleared["plan"]]) == (None, ["create_run"])
    assert depot.writes == writes


def test_a_dry_run_of_items_tells_how_many_would_be_sent(depot):
    items = [item(f"item-{n}", url(depot, "open", "/image.tif")) for n in range(3)]
    create = {"task_id": "i", "collection_id": "demo", "poll_interval": 0.1}
    depot.run(GeoCatalogCreateItemsOperator(**create, items=items[:1]))
    writes = list(depot.writes)

    plan = depot.run(GeoCatalogCreateItemsOperator(**create, items=items, dry_run=True))
    nothing = depot.run(GeoCatalogCreateItemsOperator(**create, items=items[:1], dry_run=True))

    assert (plan["skipped"], plan["dry_run"], plan["operation_id"]) == (1, True, None)
    assert [(one["operation"], one["subject"]) for one in plan["plan"]] == [("create_item", "2 items")]
    assert (nothing["skipped"], nothing["plan"]) == (1, [])
    with pytest.raises(GeoCatalogTaskFailed, match="'nowhere' does not exist"):
        depot.run(GeoCatalogCreateItemsOperator(**{**create, "collection_id": "nowhere"}, items=items, dry_run=True))
    assert depot.writes == writes


def test_a_dry_run_of_a_configuration_tells_each_write(depot):
    def option(name, **members):
        options = "assets=image&asset_bidx=image|1,2,3"
        return {"id": name, "name": name, "type": "raster-tile", "options": options, **members}

    def configure(*options, **arguments):
        return GeoCatalogConfigureCollectionOperator(
            task_id="c", collection_id="demo", render_options=list(options), prune=True, **arguments
        )

    depot.run(configure(option("kept"), option("changed"), option("superfluous")))
    writes = list(depot.writes)
    wanted = (option("kept"), option("changed", minZoom=8), option("new"))

    plan = depot.run(configure(*wanted, dry_run=True))

    assert depot.writes == writes
    assert (plan["created"], plan["removed"]) == (["render-options/new"], ["render-options/superfluous"])
    assert [one["operation"] for one in plan["plan"]] == [
        "replace_render_option",
        "create_render_option",
        "delete_render_option",
    ]
    done = depot.run(configure(*wanted))
    assert {name: done[name] for name in done if name != "collection_id"} == {
        name: plan[name] for name in done if name != "collection_id"
    }
    assert depot.writes[len(writes) :] == [one["operation"] for one in plan["plan"]]
    assert depot.run(configure(*wanted, dry_run=True))["plan"] == []
