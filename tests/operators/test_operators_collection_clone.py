"""Cloning collections of a public STAC API, from a server on this machine into the emulator."""

from __future__ import annotations

import json
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_geocatalog.api.errors import GeoCatalogError
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.collection_clone import GeoCatalogCloneCollectionOperator
from airflow_provider_geocatalog.operators.collections import GeoCatalogDeleteCollectionOperator

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
JPEG = b"\xff\xd8\xff\xe0" + bytes(100)
STAC, DATA = "/api/stac/v1/collections/sentinel-2-l2a", "/api/data/v1/mosaic/info"


def published():
    """Return a collection as the Planetary Computer publishes it."""
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": "sentinel-2-l2a",
        "title": "Sentinel-2 Level-2A",
        "description": "Optical imagery",
        "license": "proprietary",
        "links": [{"rel": "self", "href": "https://example.com/self"}, {"rel": "license", "href": "https://l"}],
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2015-06-27T00:00:00Z", None]]},
        },
        "stac_extensions": ["https://stac-extensions.github.io/item-assets/v1.0.0/schema.json"],
        "item_assets": {"visual": {"type": "image/tiff", "roles": ["data"]}},
        "assets": {
            "thumbnail": {
                "href": "../../../thumbs/s2.png",
                "type": "image/png",
                "roles": ["thumbnail"],
                "title": "Sentinel 2 L2A",
            },
            "geoparquet-items": {"href": "abfs://items/s2.parquet", "roles": ["stac-items"]},
        },
        "msft:short_description": "The Sentinel-2 program",
        "msft:storage_account": "sentinel2l2a01",
        "msft:container": "sentinel2-l2",
        "msft:region": "westeurope",
    }


def shown():
    """Return what the Planetary Computer says about showing it."""
    return {
        "renderOptions": [
            {
                "name": "Natural color",
                "description": "True color composite",
                "options": "assets=visual&asset_bidx=visual|1,2,3&nodata=0&format=png",
                "minZoom": 9,
                "legend": None,
                "conditions": None,
            },
            {
                "name": "Normalized Difference Veg. Index (NDVI)",
                "description": "Darker green is healthier",
                "options": "assets=B04&assets=B08&expression=(B08-B04)/(B08+B04)&rescale=-1,1&colormap_name=rdylgn",
                "minZoom": 8,
                "legend": {"type": "continuous", "labels": None, "trimStart": None},
                "somethingNew": 1,
            },
        ],
        "mosaics": [
            {
                "name": "Most recent (low cloud)",
                "description": "Less than 10%",
                "cql": [{"op": "<=", "args": [{"property": "eo:cloud_cover"}, 10]}],
            },
        ],
        "defaultLocation": {"zoom": 11, "coordinates": [47.1113, -120.8578]},
        "defaultCustomQuery": None,
    }


class Source:
    """A server with what a STAC API publishes, and a record of what it was asked."""

    def __init__(self):
        self.files = {STAC: published(), DATA: shown(), "/api/thumbs/s2.png": PNG}
        self.asked = []
        source = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                path = urlsplit(self.path).path
                source.asked.append((self.path, dict(self.headers)))
                found = source.files.get(path, 404)
                content = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(found if isinstance(found, int) else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/stac/v1"


@pytest.fixture
def source():
    source = Source()
    threading.Thread(target=source.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield source
    source.server.shutdown()
    source.server.server_close()


def clone(source, **arguments):
    given = {"source_collection_id": "sentinel-2-l2a", "source_url": source.url, **arguments}
    return GeoCatalogCloneCollectionOperator(task_id="clone", **given)


NAMES = [
    "render option natural-color",
    "render option normalized-difference-veg-inde",
    "mosaic most-recent-low-cloud",
    "asset thumbnail",
]


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_published_collection_is_cloned_with_its_thumbnail_and_configuration(world, source, deferrable):
    told = world.run(clone(source, collection_id="s2", deferrable=deferrable))

    client = GeoCatalogHook().client
    copy = client.get_collection("s2")
    options = {option.render_option_id: option.raw for option in client.list_render_options("s2")}
    mosaics = {mosaic.mosaic_id: mosaic for mosaic in client.list_mosaics("s2")}
    assert (told["action"], told["created"], told["replaced"]) == ("created", NAMES, ["tile settings"])
    assert {name for name in published() if name not in copy} == {
        "msft:storage_account",
        "msft:container",
        "msft:region",
    }
    assert "license" not in [link["rel"] for link in copy["links"]]
    assert list(copy["assets"]) == ["thumbnail"]
    assert (copy["assets"]["thumbnail"]["title"], copy["assets"]["thumbnail"]["type"]) == (
        "Sentinel 2 L2A",
        "image/png",
    )
    assert client.get_collection_thumbnail("s2").content == PNG
    assert options["natural-color"]["type"] == "raster-tile"
    assert options["natural-color"]["options"] == shown()["renderOptions"][0]["options"]
    assert "somethingNew" not in options["normalized-difference-veg-inde"]
    assert list(mosaics) == ["default", "most-recent-low-cloud"]
    assert list(mosaics["most-recent-low-cloud"].cql) == shown()["mosaics"][0]["cql"]
    settings = client.get_tile_settings("s2")
    assert (settings.min_zoom, settings.default_location) == (8, shown()["defaultLocation"])


@pytest.mark.parametrize("world", [{"collection_seconds": 0.5}], indirect=True)
def test_a_creation_that_takes_its_time_is_waited_for_in_the_triggerer_before_the_rest(world, source):
    told = world.run(clone(source, deferrable=True, min_poll_interval=0.1))

    assert (told["action"], told["created"], told["operation"]["type"]) == ("created", NAMES, "AddCollection")


def test_a_second_run_writes_nothing_and_a_change_of_the_source_only_itself(world, source):
    world.run(clone(source))
    GeoCatalogHook().client.replace_tile_settings(
        "sentinel-2-l2a", {"minZoom": 8, "maxItemsPerTile": 5, "defaultLocation": shown()["defaultLocation"]}
    )
    before = list(world.writes)

    same = world.run(clone(source))
    unchanged = list(world.writes)
    source.files[STAC] = {**published(), "title": "new"}
    source.files["/api/thumbs/s2.png"] = JPEG
    source.files[DATA]["renderOptions"][0]["minZoom"] = 10
    changed = world.run(clone(source))

    assert (same["action"], same["unchanged"], unchanged) == (
        "unchanged",
        [*NAMES[:3], "tile settings", NAMES[3]],
        before,
    )
    assert (changed["action"], changed["changed"]) == ("updated", ["title"])
    assert changed["replaced"] == ["render option natural-color", "asset thumbnail"]
    assert world.writes[len(before) :] == ["replace_collection", "replace_render_option", "replace_collection_asset"]
    assert GeoCatalogHook().client.get_collection_thumbnail("sentinel-2-l2a").media_type == "image/jpeg"


def test_no_credentials_go_to_the_source(world, source, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(netrc))

    world.run(clone(source))

    assert all("Authorization" not in headers for _, headers in source.asked)
    assert [parse_qs(urlsplit(path).query) for path, _ in source.asked][1] == {"collection": ["sentinel-2-l2a"]}


def test_a_dry_run_of_a_clone_tells_all_writes_and_sends_none(world, source):
    planned = world.run(clone(source, dry_run=True))
    nothing = list(world.writes)
    done = world.run(clone(source))
    again = world.run(clone(source, dry_run=True))

    assert nothing == []
    assert [write["operation"] for write in planned["plan"]] == world.writes
    assert {name: planned[name] for name in done if name in planned} == {
        name: value for name, value in done.items() if name in planned
    }
    assert (again["plan"], again["action"]) == ([], "unchanged")


def test_a_task_that_was_killed_between_creation_and_configuration_is_carried_on(world, source):
    world.server.emulator.faults.add("status", operations=["add_mosaic"], status=400, times=1)
    with pytest.raises(GeoCatalogTaskFailed):
        world.run(clone(source, if_exists="fail"))

    told = world.run(clone(source, if_exists="fail"), try_number=2)

    assert (told["action"], told["created"]) == ("created", [NAMES[2], NAMES[3]])
    with pytest.raises(GeoCatalogTaskFailed, match="exists already"):
        world.run(clone(source, if_exists="fail"))


def test_ids_that_would_be_the_same_are_refused_by_name_unless_others_are_given(world, source):
    long = "A very long name of a render option, "
    source.files[DATA]["renderOptions"] += [{"name": long + end, "options": "assets=B01", "minZoom": 8} for end in "ab"]
    source.files[DATA]["mosaics"].append({"name": "Most recent, low cloud", "cql": []})

    with pytest.raises(GeoCatalogTaskFailed) as caught:
        world.run(clone(source))
    writes = list(world.writes)
    told = world.run(clone(source, ids={long + "b": "b", "Most recent, low cloud": "other"}))

    problems = caught.value.error.problems
    assert len(problems) == 2
    assert f"{long}a' and '{long}b' would all have the id 'a-very-long-name-of-a-render-o'" in problems[0]
    assert "'Most recent (low cloud)' and 'Most recent, low cloud'" in problems[1]
    assert writes == []
    assert {"render option b", "mosaic other"} < set(told["created"])


def _no_thumbnail(source):
    del source.files[STAC]["assets"]["thumbnail"]


def _no_configuration(source):
    del source.files[DATA]


@pytest.mark.parametrize(
    ("change", "arguments", "missing"),
    [
        (_no_thumbnail, {}, "asset thumbnail"),
        (None, {"thumbnail": False}, "asset thumbnail"),
        (_no_configuration, {}, "mosaic most-recent-low-cloud"),
        (None, {"configuration_url": None}, "mosaic most-recent-low-cloud"),
    ],
)
def test_what_the_source_does_not_have_or_nobody_wants_is_left_out(world, source, change, arguments, missing):
    if change:
        change(source)

    told = world.run(clone(source, **arguments))

    assert told["action"] == "created"
    assert missing not in told["created"]
    assert len(told["created"]) in (1, 3)


def test_all_that_is_wrong_with_a_source_is_told_at_once(world, source):
    source.files[STAC] = {**published(), "license": None, "extent": {}}
    source.files["/api/thumbs/s2.png"] = b"<html>"
    source.files[DATA] = {"renderOptions": [{"name": "x", "minZoom": 99}, {"options": "a"}], "mosaics": {}}

    with pytest.raises(GeoCatalogTaskFailed) as caught:
        world.run(clone(source))

    text = str(caught.value)
    for complaint in (
        "'license' is missing",
        "'extent.spatial.bbox'",
        "'options' has to be a string",
        "'minZoom' has to be",
        "number 2 has no name",
        "mosaics are no list",
        "no picture",
    ):
        assert complaint in text
    assert world.writes == []


@pytest.mark.parametrize(
    ("path", "content", "complaint", "retried"),
    [
        (STAC, 404, "the collection cannot be read", False),
        (STAC, 503, "answered 503", True),
        (STAC, b"no JSON", "is not JSON", False),
        (STAC, [], "is no JSON object", False),
        (DATA, 500, "answered 500", True),
        (DATA, b"{", "its configuration .* is not JSON", False),
        ("/api/thumbs/s2.png", 404, "its thumbnail cannot be read", False),
        ("/api/thumbs/s2.png", b"", "has 0 bytes", False),
        ("/api/thumbs/s2.png", PNG + bytes(11 * 2**20), "it may have 1 to", False),
        ("/api/thumbs/s2.png", PNG + bytes(17 * 2**20), "has more than", False),
    ],
)
def test_a_source_that_cannot_be_read_fails_before_anything_is_written(
    world, source, path, content, complaint, retried
):
    source.files[path] = content

    with pytest.raises(GeoCatalogError if retried else GeoCatalogTaskFailed, match=complaint):
        world.run(clone(source))
    assert not list(world.server.emulator.requests)


def test_bad_arguments_are_told_together_and_nothing_is_asked(world, source):
    wrong = {
        "source_url": "http://example.com/stac/v1",
        "configuration_url": "ftp://example.com",
        "collection_id": "a b",
        "ids": "x",
    }
    with pytest.raises(GeoCatalogTaskFailed) as caught:
        world.run(clone(source, **wrong))
    with pytest.raises(GeoCatalogTaskFailed, match="takes 'update' or 'fail'"):
        world.run(clone(source, if_exists="skip"))

    assert len(caught.value.error.problems) == 4
    assert source.asked == []


@pytest.mark.parametrize("href", ["http://example.com/x.png", "s3://bucket/x.png", "file:///etc/hostname"])
def test_a_thumbnail_is_fetched_from_the_web_only(world, source, href):
    source.files[STAC]["assets"]["thumbnail"]["href"] = href

    with pytest.raises(GeoCatalogTaskFailed, match=r"its thumbnail cannot be read from .*: that is no https URL"):
        world.run(clone(source))


def test_no_traceback_has_the_secret_in_a_url_that_cannot_be_reached(world, source):
    source.files[STAC]["assets"]["thumbnail"]["href"] = "http://127.0.0.1:9/x.png?token=topSecret"

    with pytest.raises(GeoCatalogError, match=r"its thumbnail cannot be read from .* \(ConnectionError\)") as caught:
        world.run(clone(source))

    assert caught.value.retryable
    assert "topSecret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("world", [{"recreate_after": 45.0}], indirect=True)
def test_a_clone_waits_for_its_id_as_any_new_collection_does(world, source):
    world.run(clone(source))
    world.run(GeoCatalogDeleteCollectionOperator(task_id="delete", collection_id="sentinel-2-l2a"))
    ti = SimpleNamespace(try_number=1, xcom_push=lambda key, value: None)

    with pytest.raises(TaskDeferred) as caught:
        clone(source, deferrable=True).execute({"ti": ti})
    world.server.emulator.clock.advance(46)
    # Another worker goes on; all that it knows is what the trigger tells.
    told = clone(source, deferrable=True).create_again({"ti": ti}, event=caught.value.trigger.echo)

    assert (told["action"], told["created"]) == ("created", NAMES)
