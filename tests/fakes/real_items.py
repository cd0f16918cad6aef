"""Items of published catalogs, and items that somebody damaged."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fakes.items import stac_item

DATASETS = Path(__file__).parents[3] / "shared" / "data" / "mpcpro-sample-datasets"


@functools.cache
def real_items() -> list[dict[str, Any]]:
    """Return all items of the sample datasets; none where they are not. They are shared: change copies only."""
    documents = [json.loads(path.read_bytes()) for path in sorted(DATASETS.rglob("*.json"))]
    return [one for one in documents if isinstance(one, dict) and one.get("type") == "Feature"]


def full_item(item_id: str = "full") -> dict[str, Any]:
    """Return an item that has nearly everything, as catalogs on the internet have it."""
    return {
        **stac_item(item_id),
        "stac_extensions": [
            "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
            "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
            "https://stac-extensions.github.io/view/v1.0.0/schema.json",
        ],
        "collection": "elsewhere",
        "properties": {
            "datetime": "2024-01-01T00:00:00Z",
            "created": "2024-01-02T00:00:00.123456Z",
            "platform": "sentinel-2b",
            "instruments": ["msi"],
            "gsd": 10,
            "eo:cloud_cover": 12.5,
            "proj:epsg": 32617,
            "view:off_nadir": 3.5,
            "providers": [{"name": "ESA", "roles": ["producer"]}],
        },
        "links": [
            {"rel": "self", "href": "https://example.com/stac/collections/elsewhere/items/full"},
            {"rel": "root", "href": "../../.."},
            {"rel": "license", "href": "./license.txt"},
            {"rel": "derived_from", "href": "https://example.com/l1c?se=2024&sp=r&sig=abc%3D"},
        ],
        "assets": {
            "B04": {
                "href": "https://example.com/data/B04.tif?st=2024&se=2024&sp=rl&sig=abc%3D",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
                "eo:bands": [{"name": "B04", "common_name": "red"}],
                "proj:shape": [10980, 10980],
                "alternate": {"s3": {"href": "https://bucket.s3.amazonaws.com/B04.tif?X-Amz-Signature=abc"}},
            },
            "metadata": {"href": "./metadata.xml", "roles": ["metadata"]},
            "thumbnail": {"href": "https://example.com/t.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
            "tilejson": {"href": "https://example.com/tilejson.json?item=full", "roles": ["tiles"]},
        },
        "_msft:ts": "2024-01-01T00:00:00Z",
        "_msft:etag": "0",
    }


def json_values() -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(TEXTS),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=6,
    )


#: What stands in items, in places where it does not belong.
TEXTS = ("Feature", "1.1.0", "2024-01-01T00:00:00Z", "2024-01-01", "https://example.com/x", "Point", "a b", "./x.tif")


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place] + [deeper for name, one in inner for deeper in places(one, (*place, name))]


@st.composite
def damaged(draw: st.DrawFn, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Items of which a few values are others, or missing."""
    item = copy.deepcopy(draw(st.sampled_from(items)))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from(places(item)[1:]))
        holder: Any = item
        for name in place[:-1]:
            holder = holder[name]
        if draw(st.booleans()):
            holder[place[-1]] = draw(json_values())
        else:
            del holder[place[-1]]
        if not item:
            break
    return item
