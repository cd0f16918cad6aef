from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_geocatalog.api.validation import collection_problems
from demo.catalog_input import InputError, collection_file, derived_collection, load_catalog, load_collection

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def links(**rels: list[str]) -> list[dict[str, str]]:
    return [{"rel": rel, "href": href} for rel, hrefs in rels.items() for href in hrefs]


def catalog(path: Path, **rels: list[str]) -> Path:
    return write(path, {"type": "Catalog", "id": "my catalog!", "description": "Mine", "links": links(**rels)})


def item(path: Path, **members: Any) -> Path:
    document = {
        "type": "Feature",
        "id": path.stem,
        "bbox": [1, 2, 3, 4],
        "properties": {"datetime": "2024-05-01T00:00:00Z"},
        "assets": {"image": {"href": "https://example.com/image.tif"}},
    }
    return write(path, document | members)


def problem(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_catalog(str(path))
    text = str(caught.value)
    assert text.startswith(f"CATALOG {path}")
    assert "\n" not in text
    return text


def test_items_of_nested_catalogs_are_found(tmp_path):
    root = catalog(tmp_path / "catalog.json", child=["a/catalog.json"], item=["./one.json"])
    catalog(tmp_path / "a" / "catalog.json", item=["../two.json"])
    item(tmp_path / "one.json")
    item(tmp_path / "two.json")

    loaded = load_catalog(str(root))

    assert [document.item_id for document in loaded.items] == ["one", "two"]
    assert (loaded.folder, loaded.path_in_folder) == (tmp_path, "catalog.json")
    assert loaded.warnings() == []


def test_the_folder_covers_links_that_lead_out_of_the_catalogs_own(tmp_path):
    root = catalog(tmp_path / "my catalogs" / "catalog.json", item=["../items/one.json"])
    item(tmp_path / "items" / "one.json")

    loaded = load_catalog(str(root))

    assert (loaded.folder, loaded.path_in_folder) == (tmp_path, "my%20catalogs/catalog.json")


def test_broken_items_are_kept_with_the_reason(tmp_path):
    root = catalog(tmp_path / "catalog.json", item=["good.json", "gone.json", "text.json", "noid.json", "kind.json"])
    item(tmp_path / "good.json")
    (tmp_path / "text.json").write_text("{")
    item(tmp_path / "noid.json", id=None)
    item(tmp_path / "kind.json", type="Catalog")

    reasons = [document.reason or "" for document in load_catalog(str(root)).items]

    assert reasons[0] == ""
    for reason, words in zip(reasons[1:], ["No such file", "not JSON", "no id", "not 'Feature'"], strict=True):
        assert words in reason


def test_relative_asset_hrefs_are_warned_of(tmp_path):
    root = catalog(tmp_path / "catalog.json", item=["one.json"])
    item(tmp_path / "one.json", assets={"image": {"href": "./image.tif"}})

    [warning] = load_catalog(str(root)).warnings()

    assert "1 items have relative asset hrefs (one)" in warning
    assert "InvalidAssetHref" in warning


def test_what_is_no_json_is_refused(tmp_path):
    (tmp_path / "catalog.json").write_text("<html>")

    assert "not JSON" in problem(tmp_path / "catalog.json")


def test_an_item_in_place_of_a_catalog_is_refused(tmp_path):
    assert "has type 'Feature'" in problem(item(tmp_path / "one.json"))


def test_a_folder_is_refused(tmp_path):
    assert "is a folder" in problem(tmp_path)


def test_a_catalog_without_items_is_refused(tmp_path):
    assert "no items" in problem(catalog(tmp_path / "catalog.json"))


def test_a_child_that_is_not_there_is_named(tmp_path):
    assert "gone/catalog.json" in problem(catalog(tmp_path / "catalog.json", child=["gone/catalog.json"]))


def test_a_cycle_is_refused(tmp_path):
    assert "cycle" in problem(catalog(tmp_path / "catalog.json", child=["catalog.json"]))


def test_the_collection_is_looked_for_in_config_folders(tmp_path):
    place = str(catalog(tmp_path / "set" / "area" / "catalog.json"))
    assert collection_file(place, "") is None

    above = write(tmp_path / "set" / "config" / "collection.json", {})
    assert collection_file(place, "") == above

    beside = write(tmp_path / "set" / "area" / "config" / "collection.json", {})
    assert collection_file(place, "") == beside

    given = write(tmp_path / "given" / "collection.json", {})
    assert collection_file(place, str(tmp_path / "given")) == given


def test_a_derived_collection_is_one_that_the_service_takes(tmp_path):
    root = catalog(tmp_path / "catalog.json", item=["one.json", "two.json", "broken.json"])
    item(tmp_path / "one.json")
    item(
        tmp_path / "two.json",
        bbox=[-5, 0, 10, 2, 3, 20],
        properties={"datetime": None, "start_datetime": "2020-01-01T00:00:00Z", "end_datetime": "2025-01-01T00:00:00Z"},
    )

    collection = derived_collection(load_catalog(str(root)))

    assert collection_problems(collection) == []
    assert collection["id"] == "my-catalog"
    assert collection["extent"]["spatial"]["bbox"] == [[-5, 0, 3, 4]]
    assert collection["extent"]["temporal"]["interval"] == [["2020-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]]


def test_a_collection_that_the_service_would_refuse_is_refused(tmp_path):
    path = write(tmp_path / "collection.json", {"type": "Collection", "id": "a b", "assets": {}})

    with pytest.raises(InputError, match="'license' is missing") as caught:
        load_collection(str(path))

    assert "'assets'" in str(caught.value)
