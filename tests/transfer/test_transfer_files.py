"""Items from files, and files of items."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.transfer.item_files import OnBrokenLine, own_path, read_items, writing_items
from airflow_provider_geocatalog.transfer.sources import ItemFilesSource, ItemSourceError
from airflow_provider_geocatalog.transfer.storage import LocalEnvironment
from tests.fakes.items import stac_item

DATASETS = Path(__file__).parents[3] / "shared" / "data" / "mpcpro-sample-datasets"
HERE = LocalEnvironment()


def real_items() -> list[dict[str, Any]]:
    if not DATASETS.is_dir():
        pytest.skip(f"the sample datasets are not at {DATASETS}")
    found = [json.loads(path.read_text()) for path in sorted(DATASETS.rglob("*.json"))]
    return [one for one in found if isinstance(one, dict) and one.get("type") == "Feature"]


def write(path: Path, items: list[Any]) -> list[Any]:
    with writing_items(HERE, str(path)) as writer:
        for item in items:
            writer.write(item)
    return items


def read(path: Path, **options: Any) -> list[Any]:
    return list(read_items(HERE, str(path), **options))


def pages(path: Any, *, part: str | None = None, **options: Any) -> list[Any]:
    return list(ItemFilesSource(path, **options).pages(HERE, part=part))


def ids(path: Any, **options: Any) -> list[str]:
    return [item["id"] for page in pages(path, **options) for item in page.items]


# --- what is written is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.ndjson", "a.jsonl", "a.geojsonl.gz", "a.json", "a.geojson.gz"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_text_files_give_back_what_was_written(tmp_path, name, count):
    items = write(tmp_path / name, [stac_item(f"naïve-{number}") for number in range(count)])

    assert read(tmp_path / name) == items


def test_a_collection_is_a_geojson_document(tmp_path):
    items = write(tmp_path / "a.json", [stac_item("a"), stac_item("b")])

    assert json.loads((tmp_path / "a.json").read_text()) == {"type": "FeatureCollection", "features": items}


def test_real_items_survive_stac_geoparquet(tmp_path):
    items = write(tmp_path / "items.parquet", real_items())

    found = read(tmp_path / "items.parquet")

    assert len(items) > 200
    assert found == items


def test_stac_geoparquet_of_unlike_items_is_read_as_it_was(tmp_path):
    footprint = {"type": "Polygon", "coordinates": [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]]}
    with_geometry = stac_item("a")
    with_geometry["assets"]["image"]["proj:geometry"] = footprint
    with_geometry["properties"]["created"] = "2024-01-01T00:00:00.250000Z"
    of_an_interval = stac_item("b")
    of_an_interval["properties"] = {
        "datetime": None,
        "start_datetime": "2024-01-01T00:00:00Z",
        "end_datetime": "2024-01-02T00:00:00Z",
    }
    items = write(tmp_path / "items.parquet", [with_geometry, of_an_interval, {**stac_item("c"), "assets": {}}])

    assert read(tmp_path / "items.parquet") == items


def test_heights_survive_stac_geoparquet(tmp_path):
    item = {**stac_item("a"), "geometry": {"type": "Point", "coordinates": [1.0, 2.0, 3.0]}}
    items = write(tmp_path / "items.parquet", [{**item, "bbox": [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]}])

    assert read(tmp_path / "items.parquet") == items


def test_an_item_without_geometry_in_a_table_is_read(tmp_path):
    rows = [{"id": "a", "geometry": None, "title": "somewhere"}]
    schema = pyarrow.schema({"id": pyarrow.string(), "geometry": pyarrow.binary(), "title": pyarrow.string()})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), tmp_path / "a.parquet")

    assert read(tmp_path / "a.parquet") == [
        {
            "type": "Feature",
            "id": "a",
            "geometry": None,
            "properties": {"datetime": None, "title": "somewhere"},
            "links": [],
            "assets": {},
        }
    ]


def test_a_table_of_no_items_is_one(tmp_path):
    write(tmp_path / "none.parquet", [])

    assert (tmp_path / "none.parquet").stat().st_size > 0
    assert read(tmp_path / "none.parquet") == []


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({**stac_item("x"), "geometry": None}, "'x' has no geometry"),
        ({key: value for key, value in stac_item("x").items() if key != "bbox"}, "'x' has no bbox"),
        ("rubbish", "has no geometry and no bbox"),
        ({**stac_item("x"), "properties": {"datetime": "2024-01-01T00:00:00Z", "id": "y"}}, "collides"),
        ({**stac_item("x"), "properties": {"datetime": "yesterday"}}, "yesterday"),
    ],
)
def test_what_stac_geoparquet_cannot_hold_is_refused_and_the_old_file_stays(tmp_path, item, reason):
    before = write(tmp_path / "a.parquet", [stac_item("before")])

    with pytest.raises(GeoCatalogInvalidInput, match=reason):
        write(tmp_path / "a.parquet", [stac_item("a"), item])

    assert read(tmp_path / "a.parquet") == before
    assert os.listdir(tmp_path) == ["a.parquet"]


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz", "a.json", "a.parquet"])
def test_a_file_is_there_only_when_it_is_complete(tmp_path, name):
    def write_half() -> None:
        with writing_items(HERE, str(tmp_path / name)) as writer:
            writer.write(stac_item("a"))
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write_half()

    assert os.listdir(tmp_path) == []


def test_a_writer_that_is_killed_leaves_no_file_of_that_name(tmp_path):
    script = (
        "import os, sys\n"
        "from airflow_provider_geocatalog.transfer.item_files import writing_items\n"
        "from airflow_provider_geocatalog.transfer.storage import LocalEnvironment\n"
        "with writing_items(LocalEnvironment(), sys.argv[1]) as writer:\n"
        "    for number in range(20000):\n"
        "        writer.write({'id': str(number)})\n"
        "    os._exit(9)\n"
    )

    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.ndjson")], check=False, timeout=60)

    assert killed.returncode == 9
    assert not (tmp_path / "a.ndjson").exists()
    with pytest.raises(ItemSourceError, match="names no files"):
        pages(str(tmp_path))


def test_an_existing_file_stays_if_it_shall(tmp_path):
    before = write(tmp_path / "a.ndjson", [stac_item("before")])

    with (
        pytest.raises(GeoCatalogInvalidInput, match="is there already"),
        writing_items(HERE, str(tmp_path / "a.ndjson"), overwrite=False),
    ):
        pytest.fail("it was opened")

    assert read(tmp_path / "a.ndjson") == before


def test_folders_on_the_way_are_made_and_others_may_read_the_file(tmp_path):
    write(tmp_path / "new" / "folder" / "a.ndjson", [])
    (tmp_path / "plain").touch()

    assert (tmp_path / "new/folder/a.ndjson").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("item", [{"id": object()}, {"id": "\ud800"}])
def test_what_is_no_json_is_refused_and_what_is_odd_is_not(tmp_path, item):
    if isinstance(item["id"], str):
        assert read_back(tmp_path, item) == [item]
    else:
        with pytest.raises(GeoCatalogInvalidInput, match="cannot be written as JSON"):
            read_back(tmp_path, item)


def read_back(folder: Path, item: Any) -> list[Any]:
    write(folder / "a.ndjson", [item])
    return read(folder / "a.ndjson")


# --- forms of text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("bom.ndjson", b'\xef\xbb\xbf{"id": "a"}\n', [{"id": "a"}]),
        ("bom.json", b'\xef\xbb\xbf{"type": "Feature", "id": "a"}', [{"type": "Feature", "id": "a"}]),
        ("crlf.ndjson", b'{"id": "a"}\r\n\r\n  {"id": "b"}', [{"id": "a"}, {"id": "b"}]),
        ("empty.ndjson", b"", []),
        ("list.json", b' [ {"id": "a"} , 7, "x" ] \n', [{"id": "a"}, 7, "x"]),
        ("none.json", b'{"features": [], "type": "FeatureCollection"}', []),
        ("late.json", b'{"a": {"features": [1]}, "features": [2, 3.5], "links": []}', [2, 3.5]),
        ("rubbish.ndjson", b'7\n"x"\nnull\n[1]\n', [7, "x", None, [1]]),
        ("served.ndjson.gz", b'{"id": "a"}\n', [{"id": "a"}]),  # unpacked on the way
        ("packed.ndjson", gzip.compress(b'{"id": "a"}\n', mtime=0), [{"id": "a"}]),
        (
            "two.ndjson.gz",
            gzip.compress(b'{"id": "a"}\n', mtime=0) + gzip.compress(b'{"id": "b"}\n', mtime=0),
            [{"id": "a"}, {"id": "b"}],
        ),
    ],
)
def test_forms_of_text_are_read(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)

    assert read(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.ndjson", b'{"id": "a"}\n{"id": \n{"id": "c"}\n', "a.ndjson, line 2: it is no JSON"),
        ("a.ndjson", b'{"id": "a"}\n{"id": "b"', "line 2"),
        ("a.ndjson", b'{"id": "a"}\n{"id": "\xff"}\n', "line 2: it is no JSON .*utf-8"),
        ("a.ndjson", '{"id": "a"}'.encode("utf-16"), "line 1"),
        ("a.ndjson", b"[" * 100_000, "line 1"),
        ("a.ndjson.gz", gzip.compress(b'{"id": "a"}\n' * 100, mtime=0)[:-20], "a.ndjson.gz.* cut off or damaged"),
        ("a.json.gz", gzip.compress(b'{"id": "a"}', mtime=0)[:-9] + b"123456789", "a.json.gz.* damaged"),
        ("a.json", b"", "it is empty"),
        ("a.json", b'{"type": "FeatureCollection", "features": [{"id": "a"}, {"id": "b"', "ends in the middle"),
        ("a.json", b'{"type": "FeatureCollection", "features": [{"id": "a"}', "']' is missing"),
        ("a.json", b'{"features": [{"id": "a"}, {"id": x}' + b" " * 100 + b"]}", "Expecting value .at character 35"),
        ("a.json", b'{"features": [{"id": "a"} {"id": "b"}]}', "']' is missing"),
        ("a.json", b'{"type": "Feature"}\n{"type": "Feature"}', "give format='ndjson'"),
        ("a.json", b'{"type": "Catalog", "links": []}', "has type 'Catalog'"),
        ("a.json", b'{"type": "FeatureCollection", "features": {}}', "no collection of Items"),
        ("a.json", b'"features"', "neither a JSON object nor a list"),
        ("a.json", b'{"features": [{"id": "\xff"}]}', "not UTF-8"),
        ("a.json", b'{"features": [' + b"[" * 100_000, "nested too deeply"),
        ("a.parquet", b"PAR1 but no more", "no Parquet file"),
        ("a.parquet", b"", "no Parquet file"),
    ],
)
def test_a_broken_file_fails_for_good_with_its_name_and_place(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ItemSourceError, match=reason) as failure:
        read(tmp_path / name)

    assert str(tmp_path / name) in str(failure.value)
    assert not failure.value.retryable


def test_broken_lines_come_as_text_if_they_are_to_be_set_aside(tmp_path):
    (tmp_path / "a.ndjson").write_bytes(b'{"id": "a"}\n{"id": \xff\n{"id": "c"}\n{"id": "d"')

    found = read(tmp_path / "a.ndjson", on_broken_line=OnBrokenLine.SET_ASIDE)

    assert found == [{"id": "a"}, '{"id": �', {"id": "c"}, '{"id": "d"']


def test_a_damaged_archive_fails_even_if_broken_lines_are_set_aside(tmp_path):
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(b'{"id": "a"}\n' * 100, mtime=0)[:-20])

    with pytest.raises(ItemSourceError, match="cut off"):
        read(tmp_path / "a.ndjson.gz", on_broken_line=OnBrokenLine.SET_ASIDE)


def test_a_dead_letter_line_is_the_item_in_it(tmp_path):
    item = {**stac_item("a"), "item": 1, "reason": 2}
    letters = [{"id": "a", "reason": "it failed", "stage": "send", "item": item}, {"reason": "rubbish", "item": "x"}]

    write(tmp_path / "dead.ndjson", [*letters, item])

    assert read(tmp_path / "dead.ndjson") == [item, "x", item]


def test_an_item_larger_than_any_buffer_is_read(tmp_path):
    large = {**stac_item("a"), "properties": {"text": '\\"é' * 700_000}}
    for name in ("a.ndjson", "a.json"):
        write(tmp_path / name, [stac_item("first"), large, stac_item("last")])

        assert [item["id"] for item in read(tmp_path / name)] == ["first", "a", "last"]


@pytest.mark.parametrize(
    ("name", "count"), [("many.ndjson", 50_000), ("many.ndjson.gz", 10_000), ("many.json", 10_000)]
)
def test_memory_does_not_grow_with_the_file(tmp_path, name, count):
    with writing_items(HERE, str(tmp_path / name)) as writer:
        for number in range(count):
            writer.write(stac_item(f"item-{number}"))

    tracemalloc.start()
    found = sum(len(page.items) for page in ItemFilesSource(str(tmp_path / name)).pages(HERE))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found == count
    assert peak < 6 * 1024 * 1024  # 10,000 items are four times as much


@pytest.mark.parametrize("name", ["a.ndjson", "a.json", "a.parquet"])
def test_a_page_of_large_items_ends_early(tmp_path, name):
    digits = random.Random(0)  # what a table could not compress to nothing
    held = [stac_item(f"item-{number}") for number in range(6)]
    for item in held:
        item["properties"]["text"] = digits.randbytes(2_200_000).hex()
    write(tmp_path / name, held)

    found = pages(str(tmp_path / name))

    assert [item["id"] for page in found for item in page.items] == [item["id"] for item in held]
    assert [len(page.items) for page in found] == [4, 2]


def test_a_document_that_is_one_large_item_is_a_page(tmp_path):
    text = "x" * 17_000_000
    (tmp_path / "a.json").write_text(json.dumps({**stac_item("a"), "properties": {"text": text}}))

    [page] = pages(str(tmp_path / "a.json"))

    assert page.items[0]["properties"]["text"] == text


@pytest.mark.parametrize(
    ("path", "index", "expected"),
    [
        ("a.ndjson", 0, "a.0.ndjson"),
        ("s3://b.c/d.e/a.b.ndjson.gz", 12, "s3://b.c/d.e/a.b.12.ndjson.gz"),
        ("/d.e/A.NDJSON.GZ", 3, "/d.e/A.3.NDJSON.GZ"),
        ("/d.e/a", 3, "/d.e/a.3"),
        ("a.ndjson", -1, "a.ndjson"),
        ("a.ndjson", None, "a.ndjson"),
        (None, 3, None),
        ("", 3, ""),
    ],
)
def test_mapped_tasks_have_paths_of_their_own(path, index, expected):
    assert own_path(path, index) == expected


# --- which files ------------------------------------------------------------------------------------------------------


def test_a_folder_with_mixed_files_gives_the_items_of_all_that_hold_items(tmp_path):
    for name in ("b.ndjson", "a.json", "deep/er/c.geojson.gz", "d.parquet"):
        write(tmp_path / name, [stac_item(name)])
    for name in ("README.md", "scene.tif", "_SUCCESS", ".hidden.json", "_tmp/x.ndjson", ".a.json.1234.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no items")

    assert ids(str(tmp_path)) == ["a.json", "b.ndjson", "d.parquet", "deep/er/c.geojson.gz"]


def test_patterns_lists_and_urls_name_files_each_read_once(tmp_path):
    for name in ("x/1.ndjson", "x/2.ndjson", "y/1.ndjson", "odd[1].ndjson"):
        write(tmp_path / name, [stac_item(name)])

    assert ids(f"{tmp_path}/*/1.ndjson") == ["x/1.ndjson", "y/1.ndjson"]
    assert ids([f"{tmp_path}/y/1.ndjson", f"{tmp_path}/**/1.ndjson"]) == ["y/1.ndjson", "x/1.ndjson"]
    assert ids(f"{tmp_path}/odd[1].ndjson") == ["odd[1].ndjson"]
    assert ids((tmp_path / "odd[1].ndjson").as_uri()) == ["odd[1].ndjson"]


def test_reading_begins_with_the_part_that_is_asked_for(tmp_path):
    files = [tmp_path / f"{number}.ndjson" for number in range(3)]
    for file in files:
        write(file, [stac_item(f"{file.stem}-{number}") for number in range(700)])

    everything = pages(str(tmp_path))
    rest = pages(str(tmp_path), part=str(files[1]))

    assert [(page.part, len(page.items)) for page in everything] == [
        (str(file), count) for file in files for count in (500, 200)
    ]
    assert rest == everything[2:]


def test_reading_begins_anew_if_the_part_is_gone(tmp_path):
    write(tmp_path / "a.ndjson", [stac_item("a")])

    assert ids(str(tmp_path), part=str(tmp_path / "gone.ndjson")) == ["a"]


@pytest.mark.parametrize("name", ["absent.ndjson", "absent/", "*.ndjson", "empty"])
def test_paths_without_files_fail_unless_they_may(tmp_path, name):
    (tmp_path / "empty").mkdir()

    with pytest.raises(ItemSourceError, match="names no files of items"):
        ids(f"{tmp_path}/{name}")
    assert ids(f"{tmp_path}/{name}", may_be_empty=True) == []


def test_a_format_that_is_given_holds_whatever_the_suffix(tmp_path):
    (tmp_path / "export.txt").write_text('{"id": "a"}\n{"id": "b"}\n')

    assert ids(str(tmp_path / "export.txt"), format="ndjson") == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "options", "reason"),
    [
        ("a.csv", {}, "none of the suffixes"),
        ("a.parquet.gz", {}, "none of the suffixes"),
        ("a.ndjson", {"format": "csv"}, "format is 'csv'"),
        ("a.ndjson", {"on_broken_line": "ignore"}, "on_broken_line is 'ignore'"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_read(tmp_path, path, options, reason):
    good = tmp_path / "good.ndjson"
    write(good, [stac_item("a")])
    (tmp_path / path).touch()
    source = ItemFilesSource([str(good), str(tmp_path / path)], **options)

    with pytest.raises(GeoCatalogInvalidInput, match=reason):
        next(source.pages(HERE))


@pytest.mark.parametrize("path", ["", [], [""], 7, None, ["a.ndjson", 7]])
def test_paths_that_are_none_are_refused(path):
    with pytest.raises(GeoCatalogInvalidInput, match="path has to be"):
        ids(path)


def test_paths_can_be_objects(tmp_path):
    write(tmp_path / "a.ndjson", [stac_item("a")])
    source = ItemFilesSource(tmp_path / "a.ndjson")

    assert ids(tmp_path) == ids([tmp_path / "a.ndjson"]) == ["a"]
    assert source.path == source.describe() == str(tmp_path / "a.ndjson")


def test_a_signed_path_is_refused_without_showing_it():
    with pytest.raises(GeoCatalogInvalidInput, match="SAS signature") as failure:
        ItemFilesSource("https://x.blob.core.windows.net/c/a.ndjson?sv=1&sig=verySecret%3D")

    assert "verySecret" not in str(failure.value)


def test_a_lost_store_can_be_read_again_and_an_unreadable_file_cannot(tmp_path):
    class Lost(LocalEnvironment):
        def _open_file(self, path, mode, conn_id):
            raise error

    write(tmp_path / "a.ndjson", [])
    for error, retryable in ((ConnectionError("reset"), True), (PermissionError(13, "denied"), False)):
        with pytest.raises(ItemSourceError, match=r"a\.ndjson cannot be read") as failure:
            list(ItemFilesSource(str(tmp_path / "a.ndjson")).pages(Lost()))
        assert failure.value.retryable is retryable
        assert failure.value.__cause__ is error


def test_a_secret_in_a_store_s_error_is_not_shown(tmp_path):
    class Lost(LocalEnvironment):
        def _open_file(self, path, mode, conn_id):
            raise OSError("403 for https://x/y?sig=verySecret123")

    write(tmp_path / "a.ndjson", [])
    with pytest.raises(ItemSourceError) as failure:
        list(ItemFilesSource(str(tmp_path / "a.ndjson")).pages(Lost()))

    assert "verySecret" not in str(failure.value)
    assert failure.value.__cause__ is None
    assert failure.value.__suppress_context__


def test_without_the_extra_the_command_to_install_it_is_told(tmp_path):
    (tmp_path / "a.parquet").touch()
    script = (
        "import sys\n"
        "sys.modules['pyarrow'] = None\n"
        "from airflow_provider_geocatalog.transfer.sources import ItemFilesSource\n"
        "from airflow_provider_geocatalog.transfer.storage import LocalEnvironment\n"
        "list(ItemFilesSource(sys.argv[1]).pages(LocalEnvironment()))\n"
    )

    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.parquet")],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )

    assert "GeoCatalogInvalidInput" in run.stderr
    assert "pip install 'airflow-provider-geocatalog[geoparquet]'" in run.stderr


def test_reading_text_needs_neither_airflow_nor_arrow():
    script = (
        "import sys\n"
        "import airflow_provider_geocatalog.transfer.sources\n"
        "print(sorted({'airflow', 'pyarrow', 'requests', 'pystac', 'shapely'} & set(sys.modules)))\n"
    )

    run = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True)

    assert run.stdout.strip() == "[]"
