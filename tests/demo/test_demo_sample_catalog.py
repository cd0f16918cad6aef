from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import rasterio
import stac_pydantic

from airflow_provider_geocatalog.api.validation import (
    collection_problems,
    mosaic_problems,
    render_option_problems,
    tile_settings_problems,
)
from airflow_provider_geocatalog.catalog_check import CatalogReader, item_problem
from airflow_provider_geocatalog.static_catalog import walk_catalog
from demo.catalog_input import load_catalog
from demo.sample_catalog import SampleCatalog, write_sample_catalog

if TYPE_CHECKING:
    from pathlib import Path

BASE_URL = "http://127.0.0.1:8099/_emulator/storage/demo"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sample")


@pytest.fixture(scope="module")
def sample(folder: Path) -> SampleCatalog:
    return write_sample_catalog(folder, asset_base_url=BASE_URL, items=5)


def test_the_catalog_is_nested_and_holds_every_item(sample):
    documents = list(walk_catalog(sample.catalog.as_uri(), CatalogReader(local=True)))
    catalog = load_catalog(str(sample.catalog))

    assert [document["id"] for _, document in documents] == ["demo-catalog", "y2023", "y2024"]
    assert [item.item_id for item in catalog.items] == list(sample.item_ids)
    assert len(sample.item_ids) == 5


def test_items_are_valid_stac_that_the_service_takes(sample):
    for item in load_catalog(str(sample.catalog)).items:
        stac_pydantic.Item.model_validate(item.document)

        assert item_problem(item.document) is None
        assert item.document["properties"]["proj:epsg"] == 32612
        assert len(item.document["assets"]["image"]["raster:bands"]) == 3


def test_assets_are_real_files_below_the_given_url(sample, folder):
    for item in load_catalog(str(sample.catalog)).items:
        for key, asset in item.document["assets"].items():
            assert asset["href"].startswith(f"{BASE_URL}/")
            path = folder / urlsplit(asset["href"]).path.removeprefix(urlsplit(BASE_URL).path).lstrip("/")
            if key == "image":
                with rasterio.open(path) as raster:
                    assert (raster.count, raster.shape, raster.crs.to_epsg()) == (3, (64, 64), 32612)
                    assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            else:
                assert path.read_bytes().startswith(b"\x89PNG")


def test_collection_and_configuration_are_what_the_service_takes(sample):
    collection = json.loads(sample.collection_json.read_text())

    stac_pydantic.Collection.model_validate(collection)
    assert collection_problems(collection) == []
    assert set(collection["item_assets"]) == {"image", "thumbnail"}
    assert render_option_problems(json.loads((sample.config / "render_config.json").read_text())) == []
    assert mosaic_problems(json.loads((sample.config / "mosaic_config.json").read_text())) == []
    assert tile_settings_problems(json.loads((sample.config / "tile_settings_config.json").read_text())) == []


def test_the_same_call_writes_the_same_bytes(sample, folder, tmp_path):
    write_sample_catalog(tmp_path, asset_base_url=f"{BASE_URL}/", items=5)

    assert files(tmp_path) == files(folder)
    assert len(files(tmp_path)) == 3 * 5 + 3 + 4


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
