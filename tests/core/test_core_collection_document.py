"""Documents of collections: read with line numbers, checked as a whole, written again."""

from __future__ import annotations

import functools
import json
import re
import threading
import traceback
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonschema
import pytest
from azure.planetarycomputer.models import ColorMapNames
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_geocatalog.api import validation
from airflow_provider_geocatalog.api.collection_checks import SECTIONS, load_schema
from airflow_provider_geocatalog.api.colormaps import COLORMAP_NAMES
from airflow_provider_geocatalog.api.cql_check import cql_problems
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.located_text import dump_yaml, parse_text
from airflow_provider_geocatalog.api.operations.configurations import PARTITION_SCHEMES
from airflow_provider_geocatalog.collection_document import load_collection_document

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "collection-as-code.md"
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
EXTENT = "{spatial: {bbox: [[-180, -90, 180, 90]]}, temporal: {interval: [[2020-01-01T00:00:00Z, null]]}}"
COLLECTION = f"""\
  type: Collection
  stac_version: 1.0.0
  description: pictures
  license: CC-BY-4.0
  extent: {EXTENT}
"""


def problems_of(folder: Path, text: str, name: str = "naip.yaml") -> list[str]:
    path = folder / name
    path.write_text(text)
    with pytest.raises(GeoCatalogInvalidInput) as refused:
        load_collection_document(str(path))
    return [problem.replace(f"{folder}/", "") for problem in refused.value.problems]


def test_everything_that_is_wrong_is_said_at_once_with_its_line(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"no picture")
    text = f"""\
id: naip
colection: {{}}
collection:
{COLLECTION}  titel: NAIP
  keywords: aerial
partition_type: decade
render_options:
  - {{id: natural, name: Natural, type: raster-tile, options: assets=image}}
  - id: natural
    name: Again
    type: raster-tile
    options: assets=image&colormap_name=virdis
    minzoom: 4
  - id: classes
    name: Classes
    type: raster-tile
    options: 'assets=image&colormap={{"1": [1, 2, 300]}}'
    minZoom: 40
mosaics:
  - id: recent
    name: Recent
    cql:
      - op: and
        args:
          - {{op: "<=", args: [{{property: "eo:cloud_cover"}}]}}
          - {{op: isnull, args: [{{property: gsd}}]}}
tile_settings: {{maxItemsPerTile: 0}}
queryables:
  - {{name: gsd}}
  - {{name: id, definition: {{type: string}}}}
  - {{name: year, definition: {{type: date}}, data_type: int}}
assets:
  thumbnail: {{file: picture.png}}
  report: {{file: missing.pdf}}
"""

    problems = problems_of(tmp_path, text)

    expected = [
        ("naip.yaml:2:", "unknown key 'colection'; did you mean 'collection'?"),
        ("naip.yaml:9:", "unknown key 'titel'; did you mean 'title'?"),
        ("naip.yaml:10:", "'keywords' is str, not a list"),
        ("naip.yaml:11:", "'decade' is not one of"),
        ("naip.yaml:14:", "render option id 'natural' occurs more than once"),
        ("naip.yaml:17:", "no colormap 'virdis'; did you mean 'viridis'?"),
        ("naip.yaml:18:", "unknown key 'minzoom'; did you mean 'minZoom'?"),
        ("naip.yaml:22:", "color of 1 is [1, 2, 300]"),
        ("naip.yaml:23:", "'minZoom' has to be a whole number from 0 to 24"),
        ("naip.yaml:30:", "the operator '<=' takes 2 arguments, not 1"),
        ("naip.yaml:31:", "unknown operator 'isnull'; did you mean 'isNull'?"),
        ("naip.yaml:32:", "'maxItemsPerTile' has to be a positive whole number"),
        ("naip.yaml:34:", "'definition' is a required property"),
        ("naip.yaml:35:", "every collection has the queryable 'id'"),
        ("naip.yaml:36:", "the definition is no JSON schema"),
        ("naip.yaml:36:", "'int' is not one of"),
        ("naip.yaml:38:", "the thumbnail is no picture"),
        ("naip.yaml:39:", "missing.pdf cannot be read: No such file"),
    ]
    for place, words in expected:
        assert any(problem.startswith(place) and words in problem for problem in problems), (place, words, problems)
    assert len(problems) == len(expected), problems


def test_problems_of_a_file_that_a_document_names_have_its_name_and_line(tmp_path):
    (tmp_path / "render.json").write_text('[\n  {"id": "a", "name": "A", "type": "tiles"}\n]\n')
    (tmp_path / "tile.json").write_text('{\n "minZoom": 4,\n}')

    problems = problems_of(
        tmp_path, '{"id": "naip", "render_options": "render.json",\n"tile_settings": "tile.json", "mosaics": "no.json"}'
    )

    assert [problem.partition(" ")[0] for problem in problems] == ["render.json:2:", "naip.yaml:2:", "tile.json:3:"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("id: [", "naip.yaml:1: this is not YAML"),
        ('{"id": "x",}', "naip.yaml:1: this is not JSON"),
        ("- id", "is an object, not list"),
        ("", "is an object, not empty"),
        ("id: &a [*a]", "nested too deeply"),
        ("id: !!python/name:os.system x", "could not determine a constructor"),
        ("id: a b", "may only have letters"),
        ("collection:", "the collection id is missing"),
        ("render_options: []\nid: x", "naip.yaml:1: it is empty; leave the section out"),
        ("id: x\nid: y", "naip.yaml:2: the key 'id' occurs more than once"),
        (f"id: x\ncollection:\n  id: y\n{COLLECTION}", "but its collection has the id 'y'"),
        (f"id: x\ncollection:\n{COLLECTION}  assets: {{}}", "naip.yaml:8: 'assets' must not be sent"),
    ],
)
def test_a_document_that_is_none_is_refused(tmp_path, text, complaint):
    assert any(complaint in problem for problem in problems_of(tmp_path, text))


@pytest.mark.parametrize(
    ("key", "content", "media_type", "complaint"),
    [
        ("thumbnail", b"", "image/png", "has 0 bytes"),
        ("thumbnail", PNG + bytes(10 * 2**20), "image/png", "it may have 1 to 10485760"),
        ("thumbnail", PNG, "image/jpeg", "is image/png, not image/jpeg"),
        ("thumbnail", b"<svg/>", "image/svg+xml", "no picture that browsers show"),
        ("report", b"%PDF", "image/png", "is something else, not image/png"),
    ],
)
def test_a_file_of_a_wrong_type_or_size_is_refused(tmp_path, key, content, media_type, complaint):
    (tmp_path / "file").write_bytes(content)

    [problem] = problems_of(tmp_path, f"id: x\nassets:\n  {key}: {{file: file, type: {media_type}}}")

    assert problem.startswith("naip.yaml:3:")
    assert complaint in problem


def test_a_document_is_read_with_its_files(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "picture.png").write_bytes(PNG)
    (tmp_path / "mosaics.json").write_text('[{"id": "m", "name": "M"}]')
    (tmp_path / "naip.yaml").write_text(
        f"id: naip\ncollection:\n{COLLECTION}mosaics: mosaics.json\npartition_type: {{scheme: year}}\n"
        "assets:\n  thumbnail: {file: files/picture.png, title: Look}\n"
    )

    wanted = load_collection_document((tmp_path / "naip.yaml").as_uri())

    assert wanted.collection is not None
    assert wanted.collection["id"] == "naip"
    assert wanted.collection["extent"]["temporal"]["interval"] == [["2020-01-01T00:00:00Z", None]]  # no date of YAML's
    assert (wanted.mosaics, wanted.partition_type) == (({"id": "m", "name": "M"},), "year")
    [asset] = wanted.assets or ()
    assert asset.file is not None
    assert (asset.file.filename, asset.file.content_type) == ("picture.png", "image/png")
    assert (wanted.render_options, wanted.queryables) == (None, None)


@pytest.fixture
def website(tmp_path):
    """The folder as a web site."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_document_on_the_web_names_files_beside_it_and_none_of_this_machine(website, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "tile.json").write_text('{"minZoom": 4}')
    (tmp_path / "good.yaml").write_text("id: naip\ntile_settings: config/tile.json")
    (tmp_path / "bad.yaml").write_text(f"id: naip\nassets:\n  report: {{file: 'file://{tmp_path}/good.yaml'}}")

    wanted = load_collection_document(f"{website}/good.yaml")

    assert wanted.tile_settings == {"minZoom": 4}
    with pytest.raises(GeoCatalogInvalidInput, match=r"bad\.yaml:3: .* files on the web only"):
        load_collection_document(f"{website}/bad.yaml")
    with pytest.raises(GeoCatalogInvalidInput, match=r"none\.yaml cannot be read: 404"):
        load_collection_document(f"{website}/none.yaml")


def test_no_secret_of_an_address_is_told_that_cannot_be_read(website):
    for url in (f"{website}/none.yaml?token=c2VjcmV0", "http://127.0.0.1:9/none.yaml?token=c2VjcmV0"):
        with pytest.raises(GeoCatalogInvalidInput, match=r"none\.yaml\?token=\*\*\* cannot be read: ") as failed:
            load_collection_document(url)
        assert "c2VjcmV0" not in "".join(traceback.format_exception(failed.value))


def test_a_document_may_be_given_as_an_object_or_as_text():
    document = {"id": "naip", "tile_settings": {"minZoom": 4}}

    forms = [document, json.dumps(document), "id: naip\ntile_settings: {minZoom: 4}"]

    assert len({repr(load_collection_document(form)) for form in forms}) == 1


def test_problems_of_an_object_have_the_place_in_it():
    mosaics = [{"id": "a", "name": "A"}, {"id": "b", "name": "B", "cgl": []}]

    with pytest.raises(GeoCatalogInvalidInput, match=r"document\.mosaics\.1\.cgl: unknown key 'cgl'"):
        load_collection_document({"id": "naip", "mosaics": mosaics})
    with pytest.raises(GeoCatalogInvalidInput, match="cannot be written as JSON"):
        load_collection_document({"id": "naip", "tile_settings": {"minZoom": float("nan")}})


def test_the_schema_takes_what_is_read_and_knows_what_the_code_knows():
    schema = load_schema()
    definitions = schema["definitions"]
    option = definitions["render_options"]["items"]["properties"]

    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate({"$schema": "x", "id": "naip", "render_options": "render.json", "assets": {"a": {}}}, schema)
    assert set(schema["properties"]) == {"$schema", "id", *SECTIONS}
    assert tuple(definitions["partition_type"]["enum"]) == PARTITION_SCHEMES
    assert tuple(option["type"]["enum"]) == validation._RENDER_TYPES
    assert option["minZoom"]["maximum"] == validation._MAX_ZOOM
    assert set(validation._REQUIRED_OF_COLLECTION) == {"id", *definitions["collection"]["required"]}


def test_the_example_in_the_documentation_is_a_document(tmp_path):
    example = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENTATION.read_text(), re.DOTALL | re.MULTILINE)[0]
    (tmp_path / "naip.yaml").write_text(example)
    (tmp_path / "naip.png").write_bytes(PNG)
    (tmp_path / "handbook.pdf").write_bytes(b"%PDF")

    wanted = load_collection_document(str(tmp_path / "naip.yaml"))

    assert all(getattr(wanted, section) is not None for section in SECTIONS)
    jsonschema.validate(parse_text(example, "naip.yaml").value, load_schema())


def test_the_names_of_colormaps_are_those_of_the_sdk():
    assert {name.value for name in ColorMapNames} == COLORMAP_NAMES


@pytest.mark.parametrize(
    "expression",
    [
        {"op": "<=", "args": [{"property": "eo:cloud_cover"}, 10]},
        {"op": "in", "args": [{"property": "naip:state"}, ["ca", "or"]]},
        {"op": "t_during", "args": [{"property": "datetime"}, {"interval": ["2020-01-01T00:00:00Z", ".."]}]},
        {"op": "s_intersects", "args": [{"property": "geometry"}, {"type": "Point", "coordinates": [0, 0]}]},
        {"op": "not", "args": [{"op": "isNull", "args": [{"property": "gsd"}]}]},
        {"op": "anyinteracts", "args": [{"property": "datetime"}, {"interval": ["2020-01-01", "2021-01-01"]}]},
    ],
)
def test_cql_that_parses_is_let_through(expression):
    assert cql_problems(expression) == []


@pytest.mark.parametrize(
    "expression",
    [
        {"property": 5, "op": "=", "args": 3},
        {"op": "and", "args": [{"op": "=", "args": [{"property": "a"}, 1]}, 7]},
        {"op": "=", "args": [{"properti": "a"}, 1]},
        {"op": 3, "args": []},
        {"eq": [{"property": "a"}, 1]},
        {"op": "=", "args": [{"property": ["a"]}, 1]},
        {"op": "t_before", "args": [{"property": "datetime"}, {"timestamp": 5}]},
    ],
)
def test_cql_that_does_not_parse_is_refused(expression):
    assert cql_problems(expression)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=4))
def test_what_is_written_as_yaml_or_json_is_read_as_the_same(value):
    assert parse_text(dump_yaml(value), "a.yaml").value == value
    assert parse_text(json.dumps(value), "a.json").value == value


@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=4))
def test_every_value_of_a_json_text_has_a_line(value):
    read = parse_text(json.dumps(value, indent=1), "a.json")

    for name in value:
        assert json.dumps(name) in json.dumps(value, indent=1).split("\n")[read.lines[(name,)] - 1]


NAMES = st.sampled_from(
    ["id", "name", "cql", "op", "args", "definition", "options", "type", "file", "scheme", "extent", "minZoom", "x"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 30) | st.sampled_from(["a", "", "colormap={}", "and"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["id", *SECTIONS]), ANYTHING, max_size=4))
def test_whatever_a_document_says_it_is_refused_or_read(document):
    try:
        collection_id = load_collection_document(document).collection_id
    except GeoCatalogInvalidInput:
        return  # any other error fails the test

    assert collection_id == document["id"]
