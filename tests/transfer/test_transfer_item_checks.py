"""What is wrong with items, told before they are sent."""

from __future__ import annotations

import copy
import functools
import json
import logging
from pathlib import Path

import jsonschema
import psutil
import pystac.validation
import pytest
import referencing
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.flows.preflight import read_sources
from airflow_provider_geocatalog.auth import ConnectionSettings
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.transfer.item_checks import MAX_ITEM_BYTES, HrefCheck, ItemChecker, SeenIds
from airflow_provider_geocatalog.transfer.transforms import Pipeline
from tests.fakes.items import stac_item
from tests.fakes.real_items import damaged, full_item, json_values, real_items

TOKEN, SECRET = "token", "aVerySecretSignature%3D"
EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
SLOW = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


def good(**members):
    return {**Pipeline("demo").content(full_item("good")), **members}


def with_properties(**properties):
    return good(properties={**good()["properties"], **properties})


def with_asset(**members):
    return good(assets={"a": {"href": "https://a/b.tif", **members}})


def geometry(kind, coordinates):
    return {"geometry": {"type": kind, "coordinates": coordinates}}


def problems(item, **options):
    return ItemChecker("demo", **options).problems(item)


SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]


@pytest.mark.skipif(not real_items(), reason="the sample datasets are not there")
def test_items_of_published_catalogs_have_no_problem():
    pipeline, checker = Pipeline("demo"), ItemChecker("demo")

    told = {item["id"]: checker.problems(pipeline.content(item)) for item in real_items()}

    assert [name for name, found in told.items() if found] == []
    assert len(told) > 200


def deep(levels):
    return functools.reduce(lambda inner, _: [inner], range(levels), 1)


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        # What the service asks of any item.
        (good(id=""), "it has no id"),
        (good(id="a/b"), "an id has up to 149 letters"),
        (good(type="Item"), "'type' is 'Item' instead of 'Feature'"),
        (good(collection="elsewhere"), "'collection' is 'elsewhere' instead of 'demo'"),
        (good(collection=None), "'collection' is missing; it has to be 'demo'"),
        (good(links=None), "'links' is missing"),
        (good(assets=[]), "'assets' is list, not an object"),
        # Place.
        (good(geometry=None), "'geometry' is missing; STAC lets it be null, the service does not"),
        (good(bbox=None), "'bbox' is missing"),
        (good(geometry={"type": "Circle"}), "'geometry' is of the type 'Circle', which GeoJSON does not have"),
        (good(geometry={"type": "Point"}), "'geometry' has no coordinates"),
        (
            good(**geometry("Point", ["1", "2"])),
            "'geometry' has a position that is ['1', '2'], not two or three numbers",
        ),
        (good(**geometry("Point", [1, True])), "'geometry' has a position that is [1, True]"),
        (good(**geometry("LineString", [[0, 0]])), "'geometry' has 1 positions where LineString needs 2"),
        (good(**geometry("Polygon", [SQUARE[:3]])), "'geometry' has 3 positions where Polygon needs 4"),
        (good(**geometry("Polygon", [SQUARE[:4]])), "'geometry' has a ring that does not end where it begins"),
        (good(**geometry("Polygon", SQUARE)), "'geometry' has a position that is 0"),
        (good(**geometry("MultiPolygon", [SQUARE])), "'geometry' has a position that is 0"),
        (good(**geometry("MultiPolygon", [[]])), "'geometry' has [] among the coordinates of a MultiPolygon"),
        (good(**geometry("LineString", [[0, 0], [0, 0, 1]])), "with a height and others without"),
        (good(geometry={"type": "GeometryCollection", "geometries": []}), "GeometryCollection without 'geometries'"),
        (good(geometry={"type": "GeometryCollection", "geometries": [1]}), "'geometry' holds 1, which is no geometry"),
        (good(**geometry("Point", [190, 0])), "'geometry' reaches from 190 to 190 in longitude"),
        (good(**geometry("Point", [0, 91])), "'geometry' reaches from 91 to 91 in latitude"),
        (good(**geometry("Point", [47.0, 8.0])), "'geometry' reaches 46 degrees out of 'bbox'"),
        (good(bbox=[1, 2, 3]), "'bbox' is [1, 2, 3], not 4 or 6 numbers"),
        (good(bbox=[1, 2, 1, "2"]), "not 4 or 6 numbers"),
        (good(bbox=[1, 3, 1, 2]), "'bbox' has its south 3 above its north 2"),
        (good(bbox=[1, 2, 9, 1, 2, 0]), "'bbox' has its lowest height 9 above its highest 0"),
        (good(bbox=[1, 2, 200, 2]), "'bbox' reaches from 1 to 200 in longitude"),
        # Time.
        (good(properties={}), "'properties.datetime' is missing"),
        (with_properties(datetime=None), "'properties.datetime' is null, which needs 'start_datetime' and 'end_dat"),
        (with_properties(datetime="2024-01-01"), "'properties.datetime' is '2024-01-01', not a time in UTC such as"),
        (with_properties(datetime="2024-01-01T00:00:00+02:00"), "not a time in UTC"),
        (with_properties(datetime="2024-02-30T00:00:00Z"), "a time that there is not (day is out of range for month)"),
        (with_properties(datetime=1704067200), "'properties.datetime' is 1704067200, not a time"),
        (with_properties(start_datetime="2024-01-01T00:00:00Z"), "'properties.end_datetime' go together"),
        (
            with_properties(
                datetime=None, start_datetime="2024-01-02T00:00:00Z", end_datetime="2024-01-01T23:59:59.9Z"
            ),
            "it ends at 2024-01-01T23:59:59.9Z, before it begins at 2024-01-02T00:00:00Z",
        ),
        # Hrefs.
        (with_asset(href="./b.tif"), "asset 'a': 'href' is './b.tif', not an absolute URL"),
        (with_asset(href=None), "asset 'a': 'href' is None, not an absolute URL"),
        (with_asset(href="s3://bucket/b.tif"), "asset 'a': its 'href' is a s3: URL, which the service does not read"),
        (with_asset(href="file:///data/b.tif"), "is a file: URL, which the service does not read"),
        (with_asset(href="https://a/b c.tif"), "asset 'a': its 'href' has a space, a backslash or a control character"),
        (with_asset(href="https://a/b\\c.tif"), "has a space, a backslash"),
        (with_asset(href="https://a:b@c/d.tif"), "its 'href' has a user name or a password"),
        (with_asset(href="https:///d.tif"), "its 'href' has no host"),
        (with_asset(href="https://[x/d.tif"), "its 'href' is no URL"),
        (with_asset(href="https://a:99999/d.tif"), "its 'href' is no URL"),
        (with_asset(href=f"https://a/b.tif?sp=r&sig={SECRET}"), "asset 'a': its 'href' carries a signature or token"),
        (
            with_asset(alternate={"s3": {"href": "https://a/b?X-Amz-Signature=x"}}),
            "alternate 's3' of asset 'a': its 'href' carries a signature",
        ),
        (good(links=[{"rel": "via", "href": "https://a/b?subscription-key=x"}]), "link 'via': its 'href' carries a si"),
        (with_properties(note=f"https://a/b?sig={SECRET}"), "a signature is in it, which would be stored with it"),
        # The core, as far as the service's rules do not say so already.
        (good(stac_version="0.9.0"), "'stac_version' is '0.9.0'; 1.0.0 and 1.1.0 are known"),
        (good(stac_extensions=""), "'stac_extensions' is '', not a list"),
        (good(stac_extensions=None), "'stac_extensions' is None, not a list"),
        (good(stac_extensions=["eo"]), "'stac_extensions' has 'eo', not the URL of a schema"),
        (good(stac_extensions=[5]), "'stac_extensions' has 5, not the URL of a schema"),
        (good(stac_extensions=["https://a"] * 2), "'stac_extensions' names a schema twice"),
        (good(links=["https://a"]), "'links[0]' is 'https://a', not an object"),
        (good(links=[{"rel": "via"}]), "'links[0]' has no 'href'"),
        (with_properties(gsd=0), "'properties.gsd' is 0, not a number above 0"),
        (with_properties(updated="yesterday"), "'properties.updated' is 'yesterday', not a time in UTC"),
        (with_properties(instruments="msi"), "'properties.instruments' is 'msi', not a list"),
        (
            with_properties(providers=[{"roles": []}]),
            "'properties.providers' has an entry that is wrong: number 0 has no",
        ),
        (with_asset(roles=["data", 5]), "'assets.a.roles' has an entry that is wrong: number 1 is 5, not text"),
        (with_asset(title=None), "'assets.a.title' is None, not text"),
        (
            good(stac_version="1.1.0", assets={"a": {"href": "https://a/b", "data_type": "int7"}}),
            "'int7', not one of int8",
        ),
        (
            good(stac_version="1.1.0", assets={"a": {"href": "https://a/b", "bands": [{"gsd": -1}]}}),
            "'assets.a.bands[0].gsd' is -1, not a number above 0",
        ),
        # Extensions.
        (with_properties(**{"eo:cloud_cover": 101}), "'properties.eo:cloud_cover' is 101, not a number from 0 to 100"),
        (with_properties(**{"proj:epsg": "EPSG:4326"}), "'properties.proj:epsg' is 'EPSG:4326', not a whole number"),
        (with_asset(**{"proj:shape": [1, 2, 3]}), "'assets.a.proj:shape' has 3 entries, not 2"),
        (
            with_asset(**{"proj:transform": [1, 2, 3, 4, 5, None]}),
            "'assets.a.proj:transform' has an entry that is wrong",
        ),
        (with_properties(**{"eo:bands": [{"name": "B04"}]}) | {"assets": {}}, "but no asset has 'eo:bands'"),
        (
            good(stac_extensions=[EXTENSION.format("sar/v1.0.0")]),
            "'sar:instrument_mode' is missing, which its extension asks for",
        ),
        (
            good(stac_extensions=[EXTENSION.format("sat/v1.0.0")]),
            "it has none of sat:platform_international_designator",
        ),
        # What JSON can carry.
        (with_properties(a=[{"b": float("nan")}]), "'properties.a[0].b' is nan, which JSON has no number for"),
        (good(bbox=[float("-inf"), 0, 0, 0]), "'bbox[0]' is -inf, which JSON has no number for"),
        (with_properties(a=object()), "'properties.a' is of the type object, which JSON does not have"),
        (with_properties(a="\ud800"), "it has half a character"),
        (with_properties(a=deep(70)), "it is nested in more than 64 levels"),
        (with_properties(a=deep(100_000)), "it is nested in more than 64 levels"),
        (with_properties(a="x" * 20_000_000), f"bytes as JSON; at most {MAX_ITEM_BYTES} are sent"),
        (good(assets={1: {"href": "./x"}}), "asset '1': 'href' is './x'"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_every_problem_has_a_sentence(item, sentence):
    told = problems(item)

    assert sum(sentence in one for one in told) == 1, told
    assert SECRET not in str(told)


def test_all_problems_of_an_item_are_told_at_once_within_reason():
    item = good(id="a b", bbox=[1], assets={f"a{n}": {"href": "./x"} for n in range(100)})

    told = problems(item)

    assert len(told) == 21
    assert told[-1] == "and 82 more problems"


@pytest.mark.parametrize(
    "item",
    [
        good(),
        good(bbox=[179, -1, -179, 1], **geometry("Polygon", [[[179, -1], [180, -1], [180, 1], [179, 1], [179, -1]]])),
        good(
            bbox=[179, -1, -179, 1],
            **geometry(
                "MultiPolygon",
                [
                    [[[179, -1], [180, -1], [180, 1], [179, 1], [179, -1]]],
                    [[[-180, -1], [-179, -1], [-179, 1], [-180, 1], [-180, -1]]],
                ],
            ),
        ),
        good(bbox=[0, 0, 5, 1, 1, 9], **geometry("Polygon", [[[*position, 7.5] for position in SQUARE]])),
        good(bbox=[0, 0, 1.0, 1], **geometry("MultiPoint", SQUARE)),
        good(bbox=[-180, -90, 180, 90], **geometry("Point", [180.0000001, 0])),
        good(
            bbox=[0, 0, 1, 1],
            geometry={
                "type": "GeometryCollection",
                "geometries": [
                    {"type": "Point", "coordinates": [0, 0]},
                    {"type": "MultiLineString", "coordinates": [SQUARE]},
                ],
            },
        ),
        good(bbox=(1.0, 2.0, 1.0, 2.0), **geometry("Point", (1, 2))),  # as shapely and others give it
        with_properties(
            datetime=None, start_datetime="2024-01-01T00:00:00Z", end_datetime="2024-01-01T00:00:00.000+00:00"
        ),
        with_properties(datetime="2024-01-01T00:00:00.1234567Z"),
        with_properties(note="[[[[[[ are brackets in a text ]]]"),
        with_properties(note="[" * 100 + "]" * 100),
        with_properties(note="re\u0301sume\u0301 \U0001f6f0"),
        with_properties(note="design=1&sig = nature"),
        with_properties(a=deep(60)),
        with_asset(href="https://a.example:8080/caf\u00e9/b%20c.tif?version=1&se=2#page"),
        good(assets={}),
        good(stac_extensions=[EXTENSION.format("nobody-knows/v1.0.0"), "https://example.com/own.json"]),
        good(stac_version="1.1.0", assets={"a": {"href": "https://a/b", "bands": [{"name": "red"}], "nodata": "nan"}}),
    ],
)
def test_what_is_unusual_but_fine_has_no_problem(item):
    assert problems(item) == []


def test_options_change_what_is_a_problem():
    signed = with_asset(href="https://a/b.tif?sig=x")
    local = with_asset(href="file:///data/b.tif")
    odd = with_properties(gsd="ten", **{"eo:cloud_cover": 500})

    assert problems(signed, allow_signatures=True) == []
    assert problems(local, local=True) == []
    assert problems(odd, schemas=False) == []
    assert problems(good(), max_item_bytes=100) != []
    assert problems(with_properties(a="x" * MAX_ITEM_BYTES), max_item_bytes=None) == []


@pytest.mark.parametrize(
    ("collection_id", "options"), [("a b", {}), ("demo", {"max_item_bytes": 0}), ("demo", {"max_item_bytes": True})]
)
def test_bad_options_are_refused(collection_id, options):
    with pytest.raises(GeoCatalogInvalidInput):
        ItemChecker(collection_id, **options)


def test_an_item_that_holds_itself_is_no_json():
    item = good()
    item["properties"]["self"] = item

    assert problems(item) == ["it cannot be written as JSON: Circular reference detected"]


def test_extensions_that_nobody_knows_are_told_once(caplog):
    caplog.set_level(logging.INFO)
    checker = ItemChecker("demo")
    item = good(stac_extensions=[EXTENSION.format("eo/v1.0.0"), EXTENSION.format("storage/v9.0.0"), "https://a/own"])

    assert [checker.problems(item) for _ in range(2)] == [[], []]
    assert checker.unchecked_extensions == {EXTENSION.format("storage/v9.0.0"), "https://a/own"}
    assert [record.message.count("https://a/own") for record in caplog.records] == [0, 1]


@given(json_values() | damaged([full_item()]))
@settings(max_examples=200, **SLOW)
def test_no_json_value_is_too_odd_to_be_looked_at(value):
    told = ItemChecker("demo").problems(value)

    assert all(isinstance(one, str) and one and len(one) < 500 for one in told)
    assert told or isinstance(value, dict)


# --- measured by others -----------------------------------------------------------------------------------------------


@functools.cache
def official_schema():
    """The schema of an Item of STAC 1.1.0, as pystac brings it along."""
    folder = Path(pystac.validation.__file__).parent / "jsonschemas"
    files = [json.loads(file.read_bytes()) for file in folder.rglob("*.json")]
    registry = referencing.Registry().with_resources(
        (file["$id"].rstrip("#"), referencing.Resource.from_contents(file)) for file in files
    )
    # One of them has a typing error in its id.
    common = next(file for file in files if file["$id"].endswith("commonjson"))
    name = common["$id"].replace("commonjson", "common.json")
    registry = registry.with_resource(name, referencing.Resource.from_contents({**common, "$id": name}))
    schema = next(file for file in files if file["$id"].endswith("/item.json"))
    return jsonschema.Draft7Validator(schema, registry=registry)


def newer_item():
    item = good(stac_version="1.1.0")
    item["assets"]["B04"]["bands"] = [{"name": "B04", "statistics": {"minimum": 1, "count": 5}}]
    item["assets"]["B04"] |= {"data_type": "uint16", "nodata": 0, "unit": "m"}
    item["properties"] |= {"license": "CC-BY-4.0", "keywords": ["a"], "title": "t", "bands": [{"gsd": 1}]}
    item["links"].append({"rel": "search", "href": "https://a/b", "method": "POST", "headers": {"a": ["b"]}})
    return item


@given(damaged([newer_item()]))
@settings(max_examples=120, **SLOW)
def test_what_the_official_schema_refuses_is_told_here_too(item):
    item["collection"] = "demo"
    links = item.get("links")
    # The service makes this link, so that items need not have it; the schema wants both or neither.
    with_link = (
        {**item, "links": [*links, {"rel": "collection", "href": "https://a"}]} if isinstance(links, list) else item
    )

    refused = next(official_schema().iter_errors(with_link), None)

    assert refused is None or problems(item), refused.message


@pytest.fixture(scope="module")
def emulator():
    with EmulatorServer(Emulator(EmulatorSettings.fast(admin_tokens=(TOKEN,)))) as server:
        server.emulator.world.add_collection({"type": "Collection", "id": "demo"}, 0.0)
        yield server


def taken(server, item):
    """Send an item, and return why the service does not take it."""
    options = {"params": {"api-version": "2026-04-15"}, "headers": {"Authorization": f"Bearer {TOKEN}"}, "timeout": 10}
    answer = requests.post(f"{server.url}/stac/collections/demo/items", json=item, **options)
    if answer.status_code != 202:
        return answer.text
    while (operation := requests.get(answer.headers["operation-location"], **options).json())["status"] in (
        "Pending",
        "Running",
    ):
        pass
    requests.delete(f"{server.url}/stac/collections/demo/items/{item['id']}", **options)
    return None if operation["status"] == "Succeeded" else str(operation)


def test_what_has_no_problem_is_taken_by_the_emulator(emulator):
    numbers, checker = iter(range(10_000)), ItemChecker("demo")
    sent = []

    @given(damaged([full_item(), newer_item(), *real_items()[::40]]))
    @settings(max_examples=100, **SLOW)
    def send(item):
        item = Pipeline("demo").content(item)
        item["id"] = f"item-{next(numbers)}"
        if not checker.problems(item):
            sent.append(item["id"])
            assert taken(emulator, item) is None

    send()

    assert len(sent) > 10


# --- official schemas -------------------------------------------------------------------------------------------------

OWN = "https://example.com/own/v1.0.0/schema.json"
OWN_SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "$id": f"{OWN}#",
    "allOf": [{"$ref": "https://geojson.org/schema/Feature.json"}, {"$ref": "#/definitions/fields"}],
    "definitions": {
        "fields": {"properties": {"properties": {"required": ["own:x"], "properties": {"own:x": {"type": "integer"}}}}}
    },
}


def test_official_schemas_of_a_folder_are_taken(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "own.json").write_text(json.dumps(OWN_SCHEMA))
    eo = {"$id": EXTENSION.format("eo/v1.0.0"), "properties": {"properties": {"required": ["eo:always"]}}}
    (tmp_path / "eo.json").write_text(json.dumps(eo))
    checker = ItemChecker("demo", schema_folder=tmp_path)
    item = good(stac_extensions=[OWN])

    assert checker.problems(item) == [f"'properties' does not follow {OWN}: 'own:x' is a required property"]
    item["properties"]["own:x"] = "one"
    assert checker.problems(item) == [f"'properties.own:x' does not follow {OWN}: 'one' is not of type 'integer'"]
    item["properties"]["own:x"] = 1
    assert checker.problems(item) == []
    assert checker.unchecked_extensions == set()
    item["stac_extensions"] = [EXTENSION.format("eo/v1.0.0")]
    item["properties"]["eo:cloud_cover"] = 500  # of which the folder's schema says nothing
    assert "'eo:always' is a required property" in checker.problems(item)[0]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "there is no file *.json"),
        ("{", "own.json cannot be read"),
        ("[]", "own.json has no '$id'"),
        (json.dumps({"$id": OWN, "type": 5}), "is no JSON schema"),
        (
            json.dumps({"$id": OWN, "properties": {"a": {"$ref": "../other.json#/x"}}}),
            "refers to https://example.com/own/other.json, which is not among them",
        ),
    ],
)
def test_a_folder_of_schemas_that_cannot_be_used_is_refused(tmp_path, text, complaint):
    if text is not None:
        (tmp_path / "own.json").write_text(text)

    with pytest.raises(GeoCatalogInvalidInput) as caught:
        ItemChecker("demo", schema_folder=tmp_path)

    assert complaint in str(caught.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(GeoCatalogInvalidInput, match="there is no such folder"):
        ItemChecker("demo", schema_folder=tmp_path / "missing")
    with pytest.raises(GeoCatalogInvalidInput, match="has to be a path"):
        ItemChecker("demo", schema_folder=["schemas"])  # type: ignore[arg-type]


# --- ids --------------------------------------------------------------------------------------------------------------


def test_ids_clash_by_case_and_by_content():
    with SeenIds() as seen:
        assert seen.check("scene_1", "f1") == "new"
        assert seen.check("scene_2", "f1") == "new"
        assert seen.check("scene_1", "f1") == "repeated"
        assert seen.check("scene_1", "f2") == "another item has the same id 'scene_1', with other content"
        assert (
            seen.check("SCENE_1", "f1") == "its id 'SCENE_1' differs from that of another item, 'scene_1', only in case"
        )
        assert "only in case" in seen.check("SCENE_1", "f1")
        assert seen.check("scene_1", "f1") == "repeated"
        assert seen.check("\ud800", "") == "new"


@given(st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["f1", "f2"])), max_size=20))
@settings(max_examples=60, deadline=None)
def test_ids_are_told_apart_as_a_dictionary_would(items):
    known = {}
    with SeenIds() as seen:
        for item in items:
            first = known.get(item[0].casefold())
            answer = seen.check(*item)
            if first is None:
                known[item[0].casefold()] = item
                assert answer == "new"
            else:
                assert (answer == "repeated") is (first == item)
                assert answer != "new"


def test_many_ids_take_no_memory():
    process = psutil.Process()
    with SeenIds() as seen:
        seen.check("first", "f")
        before = process.memory_info().rss
        for number in range(100_000):
            seen.check(f"S2A_MSIL2A_2024_{number:08}", "0" * 64)
        grown = process.memory_info().rss - before
        assert "only in case" in seen.check("s2a_msil2a_2024_00000007", "0" * 64)
    assert grown < 12_000_000  # they are 30 MB in a dictionary


# --- containers -------------------------------------------------------------------------------------------------------


def test_assets_in_containers_without_a_source_are_told_and_each_container_is_tried_once(tmp_path, caplog):
    folders = {name: tmp_path / name for name in ("covered", "private", "open")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "image.tif").write_bytes(b"tif")
    public = {"open": folders.pop("open")}
    settings = EmulatorSettings.fast(admin_tokens=(TOKEN,), containers=folders, public_containers=public)
    with EmulatorServer(Emulator(settings)) as server:
        extra = {"auth_method": "static_token", "requests_per_second": 1000}
        client = GeoCatalogClient(ConnectionSettings.from_fields(host=server.url, password=TOKEN, extra=extra))
        storage = f"{server.url}/_emulator/storage"
        sas = f"sv=2023-01-03&st=2024-01-01T00:00:00Z&se=2099-01-01T00:00:00Z&sr=c&sp=rl&sig={SECRET}"
        client.create_source(
            {"kind": "SasToken", "connectionInfo": {"containerUrl": f"{storage}/covered", "sasToken": sas}}
        )
        check = HrefCheck(client.run(read_sources()))
        server.emulator.requests.clear()

        def item(*hrefs):
            return {**stac_item("x"), "assets": {f"a{n}": {"href": href} for n, href in enumerate(hrefs)}}

        fine = item(
            f"{storage}/covered/image.tif",
            f"{storage}/open/image.tif",
            f"{storage}/private/image.tif?{sas}",
            "s3://bucket/x",
            "./x.tif",
            5,
            "https://[",
            "http://127.0.0.1:1/nobody/x.tif",
        )
        assert [check.problems(fine) for _ in range(3)] == [[], [], []]
        told = [check.problems(item(*[f"{storage}/private/{n}.tif" for n in range(2)])) for _ in range(3)]

        assert told[0] == told[1] == told[2]
        (sentence,) = told[0]
        assert f"container {storage}/private has no ingestion source and is not public" in sentence
        assert sentence.endswith("in it are assets 'a0', 'a1'")
        tried = [request.path for request in server.emulator.requests]
        assert sorted(tried) == ["/_emulator/storage/open/image.tif", "/_emulator/storage/private/0.tif"]
        assert list(check.unknown) == ["http://127.0.0.1:1/nobody"]
        assert caplog.text.count("http://127.0.0.1:1/nobody is not known") == 1
        assert SECRET not in f"{sentence}{check.unknown}"


@given(json_values())
@settings(max_examples=50, deadline=None)
def test_no_json_value_is_too_odd_for_the_look_at_containers(value):
    from airflow_provider_geocatalog.api.flows.preflight import KnownSources

    check = HrefCheck(KnownSources([], now=0.0))
    href = value if not isinstance(value, str) or "://" not in value else "s3://x"

    assert check.problems(value) == []
    assert check.problems({"assets": {"a": {"href": href}, "b": copy.copy(href)}}) == []
