"""Catalogs that were published for the service's bulk ingestion load as they are."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest

DATASETS = Path(__file__).parents[3] / "shared" / "data" / "mpcpro-sample-datasets"
CATALOGS = {
    "planetary_computer/naip/arches": 25,
    "planetary_computer/naip/atl": 46,
    "planetary_computer/naip/statue_of_liberty": 10,
    "maxar/open-data-program/Maui-Hawaii-fires-Aug-23": 123,
}


@pytest.mark.skipif(not DATASETS.is_dir(), reason=f"the sample datasets are not at {DATASETS}")
@pytest.mark.parametrize(("folder", "count"), CATALOGS.items())
def test_every_item_of_a_published_catalog_loads(serve, new_client, folder, count):
    client = new_client(serve(allowed_paths=(DATASETS,)))
    client.add_collection()

    operation = client.run((DATASETS / folder / "catalog.json").as_uri())

    assert operation["status"] == "Succeeded", client.failures(operation)[:3]
    assert operation["additionalInformation"]["TotalSuccessfulItems"] == str(count)
    listed = client.get("/stac/collections/demo/items", params={"limit": 1000}).json()["features"]
    assert len(listed) == count


SCHEMA = "https://stac-extensions.github.io/{}/{}/schema.json"


def as_the_service_stores_it(item: dict[str, Any], collection_id: str, managed: str) -> dict[str, Any]:
    """Apply what the documents say that the service changes, and nothing else (geocatalog-api 7.5)."""
    container = f"{collection_id}-{sha256(collection_id.encode()).hexdigest()[:8]}"
    folder = sha256(item["id"].encode()).hexdigest()[:3]
    assets = {
        key: {**asset, "href": f"{managed}/{container}/{folder}/{item['id']}/{key}{suffix_of(asset['href'])}"}
        for key, asset in item["assets"].items()
    }
    stored = {**item, "collection": collection_id, "assets": assets}
    if "stac_extensions" in item:
        migrated = {SCHEMA.format(name, "v1.0.0"): SCHEMA.format(name, "v1.1.0") for name in ("eo", "projection")}
        stored["stac_extensions"] = [migrated.get(name, name) for name in item["stac_extensions"]]
    return stored


def suffix_of(href: str) -> str:
    return PurePosixPath(urlsplit(href).path).suffix


@pytest.mark.skipif(not DATASETS.is_dir(), reason=f"the sample datasets are not at {DATASETS}")
@pytest.mark.parametrize("folder", CATALOGS)
def test_an_ingested_item_differs_from_its_file_only_as_documented(serve, new_client, folder):
    server = serve(allowed_paths=(DATASETS,))
    client = new_client(server)
    client.add_collection()
    files = [json.loads(path.read_text()) for path in (DATASETS / folder).rglob("*.json")]
    items = {document["id"]: document for document in files if document.get("type") == "Feature"}

    client.run((DATASETS / folder / "catalog.json").as_uri())

    listed = client.get("/stac/collections/demo/items", params={"limit": 1000}).json()["features"]
    managed = f"{server.url}/_emulator/managed"
    for stored in listed:
        assert stored.pop("_msft:ts")
        assert stored.pop("_msft:etag")
        rels = [link["rel"] for link in stored.pop("links")]
        assert rels[:4] == ["collection", "parent", "root", "self"]
        expected = as_the_service_stores_it(items.pop(stored["id"]), "demo", managed)
        expected.pop("links")
        assert stored == expected
    assert items == {}
