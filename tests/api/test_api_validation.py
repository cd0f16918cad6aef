"""Every local check, with what it lets pass and what it refuses."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_geocatalog.api import validation
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput

SAMPLES = Path(__file__).parents[2].parent / "shared" / "data" / "mpcpro-sample-datasets"
NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
GOOD = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": "sea-ice_1.0",
    "description": "d",
    "license": "MIT",
    "links": [],
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
}


def test_a_good_collection_has_no_problems():
    assert validation.collection_problems(GOOD) == []


@pytest.mark.parametrize("name", ["type", "stac_version", "id", "description", "license", "extent"])
def test_a_collection_needs_its_required_members(name):
    lacking = {key: value for key, value in GOOD.items() if key != name}

    assert f"{name!r} is missing" in validation.collection_problems(lacking)
    assert any(name in problem for problem in validation.collection_problems({**GOOD, name: None}))


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"type": "Feature"}, "'Feature'"),
        ({"id": "a b"}, "letters, digits"),
        ({"id": "a/b"}, "letters, digits"),
        ({"id": ".."}, "letters, digits"),
        ({"id": "ü"}, "letters, digits"),
        ({"id": 7}, "not a string"),
        ({"id": "x" * 501}, "501 characters"),
        ({"assets": {}}, "'assets'"),
        ({"links": {}}, "'links' is dict"),
        ({"links": ["x"]}, "links[0]"),
        ({"links": [{"rel": "self"}]}, "'href'"),
        ({"providers": [{}]}, "'name'"),
        ({"keywords": "a"}, "'keywords'"),
        ({"summaries": []}, "'summaries'"),
        ({"extent": {}}, "extent.spatial.bbox"),
        ({"extent": []}, "'extent' is not an object"),
        ({"extent": "all"}, "'extent' is not an object"),
        ({"extent": {"spatial": None, "temporal": []}}, "extent.temporal.interval"),
        ({"extent": {**GOOD["extent"], "spatial": {"bbox": [1, 2, 3, 4]}}}, "bbox[0]"),
        ({"extent": {**GOOD["extent"], "spatial": {"bbox": [[1, 2, 3]]}}}, "bbox[0]"),
        ({"extent": {**GOOD["extent"], "spatial": {"bbox": [["a", 2, 3, 4]]}}}, "bbox[0]"),
        ({"extent": {**GOOD["extent"], "temporal": {"interval": [None, None]}}}, "interval[0]"),
    ],
)
def test_a_bad_member_of_a_collection_is_named(members, told):
    assert any(told in problem for problem in validation.collection_problems({**GOOD, **members}))


@pytest.mark.parametrize("document", [None, [], "x", 7])
def test_a_collection_is_an_object(document):
    assert "JSON object" in validation.collection_problems(document)[0]


def test_assets_may_be_there_when_a_collection_is_replaced():
    assert validation.collection_problems({**GOOD, "assets": {}}, with_assets=True) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(sorted({*GOOD, "providers", "title", "keywords", "item_assets"})))
def test_no_json_value_breaks_the_check_of_a_collection(value, name):
    assert isinstance(validation.collection_problems({**GOOD, name: value}), list)


@given(JSON)
def test_no_json_value_breaks_the_checks_of_configurations(value):
    for document in (value, [value], [{"id": value}], [{"id": "a", "name": "a", "type": value, "cql": value}]):
        assert isinstance(validation.render_option_problems(document), list)
        assert isinstance(validation.mosaic_problems(document), list)
    assert isinstance(validation.tile_settings_problems({"minZoom": value, "maxItemsPerTile": value}), list)
    assert isinstance(validation.tile_settings_problems({"defaultLocation": value}), list)


def option(**members):
    return {"id": "natural-color", "name": "n", "type": "raster-tile", "options": "assets=image", **members}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([option(id="Natural Color!")], "use 'natural-color'"),
        ([option(id="x" * 31)], "at most 30"),
        ([option(id="")], "has no id"),
        ([option(name=None)], "has no name"),
        ([option(type="raster")], "'raster'"),
        ([option(options=None)], "'options'"),
        ([option(minZoom=25)], "0 to 24"),
        ([option(minZoom=True)], "0 to 24"),
        ([option(), option()], "more than once"),
        (["x"], "not an object"),
        ({}, "a JSON list"),
    ],
)
def test_a_bad_render_option_is_named(options, told):
    assert any(told in problem for problem in validation.render_option_problems(options))


def test_good_render_options_pass():
    vector = option(id="lines", type="vt-line", options=None, minZoom=0)

    assert validation.render_option_problems([option(), vector]) == []


@pytest.mark.parametrize("cql", ["x", [7], {}])
def test_a_mosaics_filter_is_a_list_of_objects(cql):
    assert "'cql'" in validation.mosaic_problems([{"id": "m", "name": "m", "cql": cql}])[0]
    assert validation.mosaic_problems([{"id": "m", "name": "m", "cql": [{"op": "="}]}]) == []


@pytest.mark.parametrize(
    "settings",
    [{"minZoom": -1}, {"maxItemsPerTile": 0}, {"maxItemsPerTile": True}, {"defaultLocation": {"zoom": 3}}, []],
)
def test_bad_tile_settings_are_refused(settings):
    assert validation.tile_settings_problems(settings)
    location = {"zoom": 8, "coordinates": [47.6, -122.1]}
    assert not validation.tile_settings_problems({"minZoom": 6, "maxItemsPerTile": 35, "defaultLocation": location})


SAS = "sv=2023-01-03&st=2026-05-30T00:00:00Z&se=2026-06-05T00:00:00Z&sr=c&sp=rl&sig=abc%3D"


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("", "empty"),
        (None, "empty"),
        ("hello", "no SAS token"),
        (SAS.replace("sig=abc%3D", "sig="), "no SAS token"),
        (f"https://a.blob.core.windows.net/c?{SAS}", "a URL"),
        (SAS.replace("&st=2026-05-30T00:00:00Z", ""), "'st'"),
        (SAS.replace("&se=2026-06-05T00:00:00Z", ""), "'se'"),
        (SAS.replace("&sp=rl", ""), "'sp'"),
        (SAS.replace("sp=rl", "sp=r"), "permission list"),
        (SAS.replace("sp=rl", "sp=w"), "permission read and list"),
        (SAS.replace("sr=c", "sr=b"), "sr=b"),
        (SAS.replace("sr=c", "ss=b&srt=sco"), "account SAS"),
        (SAS.replace("2026-06-05", "2026-05-31"), "expired"),
        (SAS.replace("2026-06-05T00:00:00Z", "soon"), "no time"),
        (SAS.replace("st=2026-05-30", "st=2026-06-03"), "not valid before"),
    ],
)
def test_a_sas_token_that_cannot_serve_is_refused_and_not_shown(token, told):
    problems = validation.sas_token_problems(token, now=NOW)

    assert any(told in problem for problem in problems)
    assert "abc" not in str(problems)


@pytest.mark.parametrize(
    "token", [SAS, f"?{SAS}", f" {SAS}\n", SAS.replace("T00:00:00Z", ""), "si=policy&st=2026-05-30&sr=c&sig=a"]
)
def test_a_good_sas_token_passes(token):
    assert validation.sas_token_problems(token, now=NOW) == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (None, "missing"),
        ("acct/c", "not an absolute"),
        ("ftp://a/c", "not an absolute"),
        ("https://[bad/c", "not a URL"),
        ("https://a:port/c", "not a URL"),
        ("https://a.blob.core.windows.net/", "names no container"),
        ("https://a.blob.core.windows.net/c/folder", "not the root"),
        ("http://a.blob.core.windows.net/c", "https"),
        ("https://a.blob.core.windows.net/c?sig=x", "query string"),
    ],
)
def test_a_bad_container_url_is_refused(url, told):
    assert any(told in problem for problem in validation.container_url_problems(url))
    assert validation.container_url_problems("https://a.blob.core.windows.net/c/") == []


def test_a_catalog_url_must_carry_no_signature_and_be_a_file_only_here():
    assert "signature" in validation.catalog_url_problems("https://a/c.json?sv=1&sig=abc")[0]
    assert validation.catalog_url_problems("file:///x/catalog.json")
    assert validation.catalog_url_problems("file:///x/catalog.json", local=True) == []
    assert validation.catalog_url_problems("https://a/c.json?version=2") == []
    assert validation.catalog_url_problems("https://[bad/c.json")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_loopback_is_recognised(host):
    assert validation.is_loopback(host)


@pytest.mark.parametrize("host", [None, "", "localhost.example.com", "127.0.0.1.nip.io", "0.0.0.0", "10.0.0.1", "::"])
def test_what_only_looks_like_loopback_is_not(host):
    assert not validation.is_loopback(host)


@given(st.text(max_size=60))
def test_a_proposed_render_option_id_is_accepted(text):
    proposed = validation.sanitize_render_option_id(text)

    assert not proposed or validation.render_option_problems([option(id=proposed)]) == []


def test_all_problems_are_in_one_error():
    with pytest.raises(GeoCatalogInvalidInput, match="it: one; two"):
        validation.refuse("it", ["one", "two"])
    validation.refuse("it", [])


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"the sample datasets are not at {SAMPLES}")
@pytest.mark.parametrize(
    ("pattern", "check"),
    [
        ("collection.json", validation.collection_problems),
        ("render_config*.json", validation.render_option_problems),
        ("mosaic_config*.json", validation.mosaic_problems),
        ("tile_settings_config*.json", validation.tile_settings_problems),
    ],
)
def test_the_published_configurations_pass(pattern, check):
    files = sorted(SAMPLES.rglob(f"config/{pattern}"))

    found = {str(file): check(json.loads(file.read_text())) for file in files}

    assert len(files) >= 2
    assert not any(found.values()), found
