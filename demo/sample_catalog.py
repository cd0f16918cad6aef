"""Make a small static STAC catalog with real raster files: the same call writes the same bytes."""

from __future__ import annotations

import datetime
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import rasterio
import rio_stac
from rasterio.errors import NotGeoreferencedWarning

__all__ = ["COLLECTION_ID", "SampleCatalog", "write_sample_catalog", "write_small_catalog"]

COLLECTION_ID = "demo-mesa"
_YEARS = (2023, 2024)
_SIZE = 64  # pixels a side
_RESOLUTION = 10.0  # metres a pixel
_THUMBNAIL_STEP = 2  # pixels of the image a pixel of the thumbnail
_EPSG = 32612  # UTM zone 12 north: Utah
_ORIGIN = (620_000.0, 4_300_000.0)  # metres east and north
_COLUMNS = 4  # tiles side by side
#: Where all items of a small catalog are.
_POINT, _POINT_BBOX = {"type": "Point", "coordinates": [-111.6, 38.8]}, [-111.6, 38.8, -111.6, 38.8]
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
#: GDAL would note the bands' statistics in files beside the rasters, and put the system's threads to work.
_GDAL = {"GDAL_PAM_ENABLED": "NO", "GDAL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class SampleCatalog:
    """
    What was written.

    :param catalog: The root catalog document.
    :param collection_json: The collection to create in the GeoCatalog.
    :param config: Folder with the collection and its render options, mosaics and tile settings.
    :param item_ids: Ids of the items.
    """

    catalog: Path
    collection_json: Path
    config: Path
    item_ids: tuple[str, ...]


def write_sample_catalog(folder: Path, *, asset_base_url: str, items: int = 12) -> SampleCatalog:
    """
    Write a root catalog with a nested catalog for each of two years, items with an image and a thumbnail, a collection.

    :param folder: Where to; made if needed.
    :param asset_base_url: URL at which the folder's files can be read. The service demands absolute asset hrefs.
    :param items: How many.
    """
    root = pystac.Catalog("demo-catalog", "A small catalog, made for the demonstration", "Demo catalog")
    years = {year: pystac.Catalog(f"y{year}", f"Images of {year}", str(year)) for year in _YEARS}
    root.add_children(years.values())
    made: list[pystac.Item] = []
    with rasterio.Env(**_GDAL):
        for index in range(items):
            year = _YEARS[index * len(_YEARS) // items]
            item = _write_item(folder, years[year].id, index, year, asset_base_url.rstrip("/"))
            years[year].add_item(item)
            made.append(item)
    root.normalize_hrefs(str(folder))
    root.save(pystac.CatalogType.SELF_CONTAINED)

    config = folder / "config"
    config.mkdir(exist_ok=True)
    _write_json(config / "collection.json", _collection(made))
    _write_json(config / "render_config.json", _RENDER_OPTIONS)
    _write_json(config / "mosaic_config.json", _MOSAICS)
    _write_json(config / "tile_settings_config.json", _TILE_SETTINGS)
    return SampleCatalog(folder / "catalog.json", config / "collection.json", config, tuple(i.id for i in made))


def write_small_catalog(folder: Path, *, name: str, items: int) -> tuple[str, ...]:
    """
    Write a catalog of items whose only asset is elsewhere.

    :param folder: Where to.
    :param name: The catalog's id, and the beginning of the items' ids.
    :param items: How many.
    :return: The items' ids.
    """
    catalog = pystac.Catalog(name, "Items without files of their own")
    for index in range(items):
        taken = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(hours=index)
        item = pystac.Item(f"{name}-{index:03d}", _POINT, _POINT_BBOX, taken, {})
        item.add_asset("image", pystac.Asset("https://example.com/data/image.tif", media_type=_COG, roles=["data"]))
        catalog.add_item(item)
    catalog.normalize_hrefs(str(folder))
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return tuple(item.id for item in catalog.get_items())


def _write_item(folder: Path, parent: str, index: int, year: int, base_url: str) -> pystac.Item:
    """Write an item's rasters and return the item; the catalog writes the item itself."""
    item_id = f"mesa-{year}-{index:03d}"
    place = Path(parent) / item_id
    image, thumbnail = place / f"{item_id}.tif", place / f"{item_id}.thumbnail.png"
    (folder / place).mkdir(parents=True, exist_ok=True)
    pixels = _pixels(index)
    row, column = divmod(index, _COLUMNS)
    extent = _SIZE * _RESOLUTION
    _write_raster(
        folder / image,
        pixels,
        driver="COG",
        compress="DEFLATE",
        crs=f"EPSG:{_EPSG}",
        transform=rasterio.Affine(
            _RESOLUTION, 0, _ORIGIN[0] + column * extent, 0, -_RESOLUTION, _ORIGIN[1] - row * extent
        ),
    )
    _write_raster(folder / thumbnail, pixels[:, ::_THUMBNAIL_STEP, ::_THUMBNAIL_STEP], driver="PNG")
    taken = datetime.datetime(year, 6, 1, 18, tzinfo=datetime.UTC) + datetime.timedelta(days=index)
    item: pystac.Item = rio_stac.create_stac_item(
        str(folder / image),
        id=item_id,
        input_datetime=taken,
        properties={"gsd": _RESOLUTION},
        asset_name="image",
        asset_href=f"{base_url}/{image.as_posix()}",
        asset_media_type=_COG,
        asset_roles=["data"],
        with_proj=True,
        with_raster=True,
        geom_precision=7,
    )
    item.assets["image"].title = "Image"
    item.add_asset(
        "thumbnail",
        pystac.Asset(
            f"{base_url}/{thumbnail.as_posix()}", title="Thumbnail", media_type="image/png", roles=["thumbnail"]
        ),
    )
    return item


def _pixels(index: int) -> npt.NDArray[np.uint8]:
    """Return three bands with a pattern that tells the items apart."""
    y, x = np.mgrid[0:_SIZE, 0:_SIZE]
    ridge = 60 * np.sin((x + 7 * index) / 9) * np.cos((y - 5 * index) / 11)
    bands = [120 + ridge + x / 2, 100 + ridge, 70 + ridge / 2 + y / 2]
    pixels: npt.NDArray[np.uint8] = np.clip(np.stack(bands), 0, 255).astype(np.uint8)
    return pixels


def _write_raster(path: Path, pixels: npt.NDArray[np.uint8], **options: Any) -> None:
    count, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a thumbnail has no place on earth
        with rasterio.open(path, "w", count=count, height=height, width=width, dtype="uint8", **options) as raster:
            raster.write(pixels)


def _collection(items: list[pystac.Item]) -> dict[str, Any]:
    extent = pystac.Extent.from_items(items)
    collection = pystac.Collection(
        COLLECTION_ID,
        "Invented images of a mesa, made by the demonstration of the GeoCatalog provider for Apache Airflow.",
        extent,
        title="Demo: mesa",
        license="CC0-1.0",
        keywords=["demo"],
    )
    document = collection.to_dict(include_self_link=False)
    document["links"] = []
    document["item_assets"] = {
        "image": {"type": _COG, "roles": ["data"], "title": "Image"},
        "thumbnail": {"type": "image/png", "roles": ["thumbnail"], "title": "Thumbnail"},
    }
    return document


_RENDER_OPTIONS = [
    {
        "id": "natural-color",
        "name": "Natural color",
        "description": "Red, green and blue of the image",
        "type": "raster-tile",
        "options": "assets=image&asset_bidx=image|1,2,3",
        "minZoom": 9,
    },
    {
        "id": "red-band",
        "name": "Red band",
        "description": "The first band, in gray",
        "type": "raster-tile",
        "options": "assets=image&asset_bidx=image|1&rescale=0,255",
        "minZoom": 9,
    },
]
_MOSAICS = [
    {
        "id": "most-recent",
        "name": "Most recent available",
        "description": "Most recent images of this collection",
        "cql": [],
    }
]
_TILE_SETTINGS = {"minZoom": 9, "maxItemsPerTile": 35, "defaultLocation": None}


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n")
