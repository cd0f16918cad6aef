"""Items as a public catalog has them, 7 KB each: a scene of a satellite with sixteen assets, bands and all."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXTENSIONS = ("eo/v1.1.0", "projection/v1.1.0", "raster/v1.1.0", "view/v1.0.0")
_BANDS = ("coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "nir09", "swir16")
_FIRST = datetime.datetime(2015, 1, 1, tzinfo=datetime.UTC)
_CATALOG, _FILES = "https://stac.example.com/v1", "https://files.example.com/scenes"


def items(count: int, prefix: str = "scene") -> Iterator[dict[str, Any]]:
    """Yield new items in order, each read from JSON text as those of a page of a search are."""
    text = json.dumps(_template())
    for number in range(count):
        moment = _FIRST + datetime.timedelta(minutes=number)
        yield json.loads(text.replace("@ID@", f"{prefix}-{number:07}").replace("@AT@", f"{moment:%Y-%m-%dT%H:%M:%SZ}"))


def _template() -> dict[str, Any]:
    ring = [[11.0512, 47.8457], [12.5184, 47.8221], [12.4735, 46.8347], [11.0337, 46.8576], [11.0512, 47.8457]]
    collection, item = f"{_CATALOG}/collections/scenes", f"{_CATALOG}/collections/scenes/items/@ID@"
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [f"https://stac-extensions.github.io/{name}/schema.json" for name in _EXTENSIONS],
        "id": "@ID@",
        "collection": "scenes",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [11.0337, 46.8347, 12.5184, 47.8457],
        "properties": {
            "datetime": "@AT@",
            "created": "@AT@",
            "updated": "@AT@",
            "platform": "satellite-2a",
            "constellation": "satellite-2",
            "instruments": ["msi"],
            "gsd": 10,
            "eo:cloud_cover": 12.345678,
            "proj:epsg": 32632,
            "view:sun_azimuth": 163.218,
            "view:sun_elevation": 41.907,
            "scenes:mgrs_tile": "32TPT",
            "scenes:product_uri": "@ID@.SAFE",
            "scenes:processing_baseline": "05.00",
            "scenes:high_proba_clouds_percentage": 4.029381,
            "scenes:snow_ice_percentage": 0.171202,
        },
        "links": [
            {"rel": "collection", "type": "application/json", "href": collection},
            {"rel": "parent", "type": "application/json", "href": collection},
            {"rel": "root", "type": "application/json", "href": f"{_CATALOG}/"},
            {"rel": "self", "type": "application/geo+json", "href": item},
            {"rel": "license", "href": "https://example.com/licence.pdf"},
            {"rel": "preview", "type": "text/html", "href": f"{_CATALOG}/map?collection=scenes&item=@ID@"},
        ],
        "assets": {
            **{name: _band(name, number) for number, name in enumerate(_BANDS)},
            "visual": _asset("visual", "True colour image", ["data"]),
            "metadata": _asset("metadata", "Metadata of the product", ["metadata"], "application/xml", "xml"),
            "thumbnail": _asset("thumbnail", "Thumbnail", ["thumbnail"], "image/png", "png"),
            "tilejson": {
                "href": f"{_CATALOG}/item/tilejson.json?collection=scenes&item=@ID@&assets=visual&asset_bidx=visual",
                "type": "application/json",
                "roles": ["tiles"],
                "title": "TileJSON with default rendering",
            },
            "rendered_preview": {
                "href": f"{_CATALOG}/item/preview.png?collection=scenes&item=@ID@&assets=visual&asset_bidx=visual",
                "type": "image/png",
                "roles": ["overview"],
                "title": "Rendered preview",
                "rel": "preview",
            },
        },
    }


def _asset(
    name: str,
    title: str,
    roles: list[str],
    media_type: str = "image/tiff; application=geotiff; profile=cloud-optimized",
    suffix: str = "tif",
) -> dict[str, Any]:
    return {"href": f"{_FILES}/@ID@/{name}.{suffix}", "type": media_type, "title": title, "roles": roles}


def _band(name: str, number: int) -> dict[str, Any]:
    wavelength = 0.443 + number * 0.1
    return {
        **_asset(name, f"Band {number + 1}, {name}", ["data", "reflectance"]),
        "gsd": 10,
        "proj:shape": [10980, 10980],
        "proj:bbox": [600000.0, 5190240.0, 709800.0, 5300040.0],
        "proj:transform": [10.0, 0.0, 600000.0, 0.0, -10.0, 5300040.0],
        "eo:bands": [{"name": name, "center_wavelength": wavelength, "full_width_half_max": 0.0384}],
        "raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}],
    }
