"""Bad arguments are refused with a sentence before anything is sent."""

from __future__ import annotations

import math

import pytest

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.flows import waiting
from airflow_provider_geocatalog.api.http import FilePart
from airflow_provider_geocatalog.api.operations import (
    collections,
    configurations,
    ingestions,
    items,
    operations,
    queryables,
    sas,
    sources,
)
from tests.fakes.stepping import Steps

ITEM = {"type": "Feature", "id": "i", "collection": "c"}
FILE = FilePart("a.png", b"x")


@pytest.mark.parametrize(
    "bad",
    [
        {"sortby": "-datetime"},
        {"sortby": ["-datetime"]},
        {"fields": ["id"]},
        {"query": "x"},
        {"intersects": "POINT (1 2)"},
        {"sign": "yes"},
        {"token": 5},
        {"datetime": "yesterday"},
        {"bbox": 5},
        {"bbox": [1, 2, 3]},
        {"bbox": [0, 10, 1, 5]},
        {"ids": "a"},
        {"ids": [1]},
        {"collections": 5},
        {"limit": 0},
        {"limit": True},
        {"limit": 10_001},
        {"duration": 0},
        {"filter": 5},
        {"bbox": [0, 0, 1, 1], "intersects": {"type": "Point", "coordinates": [0, 0]}},
    ],
)
def test_a_search_that_cannot_be_meant_is_refused(bad):
    with pytest.raises(GeoCatalogInvalidInput):
        items.search(**bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"intersects": {"type": "Point", "coordinates": [math.nan, 0]}},
        {"intersects": {1}},
        {"ids": ["a,b"]},
        {"sortby": ["datetime"]},
        {"filter": {"op": "="}},
    ],
)
def test_a_search_by_address_that_cannot_be_meant_is_refused(bad):
    with pytest.raises(GeoCatalogInvalidInput):
        items.search_by_query(**bad)


@pytest.mark.parametrize(
    "flow",
    [
        lambda: collections.create_collection({"id": 5}),
        lambda: collections.create_collection({"id": "c", "assets": {"a": {}}}),
        lambda: collections.create_collection([]),
        lambda: collections.replace_collection("c", {"id": "d"}),
        lambda: collections.create_collection_asset("c", {"key": "k"}, b"bytes"),
        lambda: collections.create_collection_asset("c", {}, FILE),
        lambda: collections.create_collection_asset("c", {"key": "k"}, FilePart("a/b.png", b"x")),
        lambda: collections.create_collection_asset("c", {"key": "k"}, FilePart("a.png", b"")),
        lambda: collections.replace_collection_asset("c", "a", None, None),
        lambda: collections.replace_collection_asset("c", "a", {"key": "b"}, FILE),
        lambda: items.create_item("c", {"type": "Feature"}),
        lambda: items.create_item("c", {**ITEM, "collection": "d"}),
        lambda: items.create_item("c", {"type": "FeatureCollection", "features": []}),
        lambda: items.create_item("c", {"type": "FeatureCollection", "features": [1]}),
        lambda: items.create_item("c", {"type": "FeatureCollection", "features": [{**ITEM, "collection": "d"}]}),
        lambda: items.replace_item("c", "j", ITEM),
        lambda: items.update_item("c", "i", "title"),
        lambda: queryables.create_queryables("c", 5),
        lambda: queryables.create_queryables("c", []),
        lambda: queryables.create_queryables("c", {"name": "a"}),
        lambda: queryables.replace_queryable("c", "a", {"name": "b"}),
        lambda: configurations.replace_mosaic("c", "a", {"id": "b", "name": "B"}),
        lambda: configurations.replace_render_option("c", "a", {"id": "b", "name": "B"}),
        lambda: configurations.replace_partition_type("c", {"scheme": "week"}),
        lambda: sources.create_source({"kind": ["x"], "connectionInfo": {"containerUrl": "u"}}),
        lambda: sources.create_source({"kind": "SasToken", "connectionInfo": {"containerUrl": "u"}}),
        lambda: ingestions.create_ingestion("c", {"importType": ["x"]}),
        lambda: ingestions.create_ingestion("c", {"importType": "StacGeoparquet", "sourceCatalogUrl": "u"}),
        lambda: sas.sign_href(""),
        lambda: sas.get_sas_token("c", duration=1.5),
        lambda: waiting.complete("x"),
        lambda: waiting.complete_operation("o", timeout="5"),
        lambda: waiting.complete_operation("o", poll_interval=0),
        lambda: waiting.complete_run("c", "i", "r", poll_interval=-1),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused_before_anything_is_sent(flow):
    steps = Steps(lambda request: pytest.fail(f"{request} was sent"))

    with pytest.raises(GeoCatalogInvalidInput):
        steps.run(flow())


@pytest.mark.parametrize("bad", [{"status": 5}, {"collection_id": 5}, {"top": -1}, {"skip": "1"}])
def test_a_filter_of_operations_that_cannot_be_meant_is_refused(bad):
    with pytest.raises(GeoCatalogInvalidInput):
        operations.list_operations(**bad)
