"""Catalogs that were published for the service's bulk ingestion load as they are."""

from __future__ import annotations

from pathlib import Path

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
