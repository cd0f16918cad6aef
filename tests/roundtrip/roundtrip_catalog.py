"""Scenarios about the catalog and collections, their assets, queryables and configurations."""

from __future__ import annotations

import pytest

from airflow_provider_geocatalog.api.calls import Started
from airflow_provider_geocatalog.api.configuration_models import (
    CollectionConfiguration,
    Mosaic,
    PartitionType,
    Queryable,
    RenderOption,
    TileSettings,
)
from airflow_provider_geocatalog.api.errors import GeoCatalogBadRequest, GeoCatalogConflict, GeoCatalogNotFound
from airflow_provider_geocatalog.api.http import FilePart
from airflow_provider_geocatalog.api.models import parse_timestamp
from tests.roundtrip.roundtrip_adapter import Api, collection, contains, is_recent, item, scenario


@scenario()
async def the_landing_page_and_the_conformance_classes(api: Api) -> None:
    await api.add_collection("demo", title="Demo")

    page = await api.call("get_landing_page")
    conformance = await api.call("get_conformance")

    assert page["type"] == "Catalog"
    assert [link["title"] for link in page["links"] if link["rel"] == "child"] == ["Demo"]
    assert [request.status for request in api.sent("get_landing_page")] == [307, 200]
    assert conformance == {"conformsTo": page["conformsTo"]}
    assert "https://api.stacspec.org/v1.0.0/item-search" in conformance["conformsTo"]


@scenario()
async def a_collection_lives_and_dies(api: Api) -> None:
    assert await api.call("list_collections") == []
    document = collection("a.b-C_1", title="Ä title", **{"x:note": {"deep": [1, None]}, "keywords": []})

    started = await api.call("create_collection", document)
    created = await api.wait(started)

    assert isinstance(started, Started)
    assert not started.removes
    assert contains(created.resource, document, but=("links",))
    assert is_recent(parse_timestamp(created.resource["msft:_created"]))
    assert await api.call("get_collection", "a.b-C_1") == created.resource
    assert await api.call("list_collections") == [created.resource]
    with pytest.raises(GeoCatalogConflict):
        await api.call("create_collection", document)

    changed = {**created.resource, "title": "another", "description": "new"}
    del changed["x:note"]
    replaced = await api.call("replace_collection", "a.b-C_1", changed)
    read = await api.call("get_collection", "a.b-C_1")
    assert (replaced["title"], read["title"], read["description"]) == ("another", "another", "new")
    assert "x:note" not in read
    assert read["msft:_created"] == created.resource["msft:_created"]
    assert parse_timestamp(read["msft:_updated"]) > parse_timestamp(created.resource["msft:_updated"])

    started = await api.call("delete_collection", "a.b-C_1")
    deleted = await api.wait(started)
    assert isinstance(started, Started)
    assert started.removes
    assert deleted.resource is None
    assert await api.call("list_collections") == []
    with pytest.raises(GeoCatalogNotFound):
        await api.call("get_collection", "a.b-C_1")
    with pytest.raises(GeoCatalogNotFound):
        await api.call("delete_collection", "a.b-C_1")

    assert contains(await api.add_collection("a.b-C_1"), collection("a.b-C_1"), but=("links",))


@scenario()
async def a_deleted_collection_takes_its_items_along(api: Api) -> None:
    await api.add_collection()
    await api.add_items(item("a"))

    await api.wait(await api.call("delete_collection", "demo"))
    await api.add_collection()

    assert await api.call("list_items", "demo") == []
    assert await api.call("search") == []


#: What looks like the end of a part must not end it.
PICTURE = b"\x89PNG\r\n\x1a\n\r\n--boundary--\r\n\x00\xff"


@scenario("create_collection_asset")
async def assets_of_a_collection_live_and_die(api: Api) -> None:
    await api.add_collection()
    small = {"key": "thumbnail", "type": "image/png", "roles": ["thumbnail"], "title": "Kläin"}

    created = await api.call("create_collection_asset", "demo", small, FilePart("small.png", PICTURE, "image/png"))
    read = await api.call("get_collection", "demo")
    thumbnail = await api.call("get_collection_thumbnail", "demo")

    assert created["assets"] == read["assets"]
    assert contains(read["assets"]["thumbnail"], small, but=("key",))
    assert read["assets"]["thumbnail"]["href"].endswith("/thumbnail/small.png")
    assert (thumbnail.content, thumbnail.media_type) == (PICTURE, "image/png")
    assert "sig=" in (await api.call("get_collection", "demo", sign=True))["assets"]["thumbnail"]["href"]
    assert "sig=" in (await api.call("list_collections", sign=True))[0]["assets"]["thumbnail"]["href"]
    with pytest.raises(GeoCatalogConflict):
        await api.call("create_collection_asset", "demo", small, FilePart("other.png", b"other"))

    big = {**small, "type": "image/jpeg", "description": "larger"}
    replaced = await api.call("replace_collection_asset", "demo", "thumbnail", big, FilePart("big.jpg", b"\xff\xd8"))
    thumbnail = await api.call("get_collection_thumbnail", "demo")
    assert contains(replaced["assets"]["thumbnail"], big, but=("key",))
    assert (thumbnail.content, thumbnail.media_type) == (b"\xff\xd8", "image/jpeg")

    read = await api.call("get_collection", "demo")
    await api.call("replace_collection", "demo", {**read, "title": "with assets"})
    assert (await api.call("get_collection", "demo"))["assets"] == read["assets"]

    await api.call("create_collection_asset", "demo", {**small, "key": "table"}, FilePart("t.png", b"t"))
    remaining = await api.call("delete_collection_asset", "demo", "thumbnail")
    assert list(remaining["assets"]) == ["table"]
    with pytest.raises(GeoCatalogNotFound):
        await api.call("get_collection_thumbnail", "demo")
    with pytest.raises(GeoCatalogNotFound):
        await api.call("delete_collection_asset", "demo", "thumbnail")
    assert "assets" not in await api.call("delete_collection_asset", "demo", "table")


@scenario("create_queryables")
async def queryables_live_and_die(api: Api) -> None:
    await api.add_collection()
    cloud = {
        "name": "eo:cloud_cover",
        "definition": {"type": "number", "maximum": 100},
        "data_type": "number",
        "create_index": True,
    }
    slashed = {"name": "a/b c", "definition": {"type": "string", "enum": ["ü"]}}

    created = await api.call("create_queryables", "demo", [cloud, slashed])
    of_collection = await api.call("get_collection_queryables", "demo")
    of_catalog = await api.call("get_queryables")

    assert created == [
        Queryable("eo:cloud_cover", cloud["definition"], "number", True),
        Queryable("a/b c", slashed["definition"], None, False),
    ]
    assert created[0].raw == cloud
    assert of_collection["properties"]["eo:cloud_cover"] == cloud["definition"]
    assert of_collection["properties"]["a/b c"] == slashed["definition"]
    assert {"id", "datetime", "geometry"} <= set(of_catalog["properties"])
    with pytest.raises(GeoCatalogConflict):
        await api.call("create_queryables", "demo", [cloud])

    replaced = await api.call("replace_queryable", "demo", "a/b c", {**slashed, "definition": {"type": "integer"}})
    assert (replaced.name, replaced.definition) == ("a/b c", {"type": "integer"})
    properties = (await api.call("get_collection_queryables", "demo"))["properties"]
    assert properties["a/b c"] == {"type": "integer"}

    assert await api.call("delete_queryable", "demo", "a/b c") is None
    assert "a/b c" not in (await api.call("get_collection_queryables", "demo"))["properties"]
    with pytest.raises(GeoCatalogNotFound):
        await api.call("delete_queryable", "demo", "a/b c")


@scenario()
async def mosaics_live_and_die(api: Api) -> None:
    await api.add_collection()
    [default] = await api.call("list_mosaics", "demo")
    cql = [{"op": "<", "args": [{"property": "eo:cloud_cover"}, 10]}]
    clear = {"id": "clear", "name": "Clear skies", "description": "few clouds", "cql": cql}

    added = await api.call("add_mosaic", "demo", clear)

    assert added == Mosaic("clear", "Clear skies", "few clouds", tuple(cql))
    assert added.raw == clear
    assert await api.call("get_mosaic", "demo", "clear") == added
    assert await api.call("list_mosaics", "demo") == [default, added]
    assert (default.mosaic_id, default.cql) == ("default", ())
    with pytest.raises(GeoCatalogConflict):
        await api.call("add_mosaic", "demo", clear)

    replaced = await api.call("replace_mosaic", "demo", "clear", {"id": "clear", "name": "All", "cql": []})
    assert replaced == Mosaic("clear", "All")
    assert await api.call("get_mosaic", "demo", "clear") == replaced

    assert await api.call("delete_mosaic", "demo", "clear") is None
    assert await api.call("list_mosaics", "demo") == [default]
    with pytest.raises(GeoCatalogNotFound, match="'clear' not found"):
        await api.call("get_mosaic", "demo", "clear")


@scenario()
async def render_options_live_and_die(api: Api) -> None:
    await api.add_collection()
    assert await api.call("list_render_options", "demo") == []
    raster = {
        "id": "true-color",
        "name": "True colour",
        "type": "raster-tile",
        "options": "assets=image&asset_bidx=image|1,2,3",
        "minZoom": 9,
        "legend": {"type": "none"},
        "conditions": [{"property": "gsd", "value": 10}],
        "x:unknown": {"kept": True},
    }
    lines = {"id": "lines", "name": "Lines", "type": "vt-line", "vectorOptions": {"tilejsonKey": "t", "strokeWidth": 2}}

    created = await api.call("create_render_option", "demo", raster)
    await api.call("create_render_option", "demo", lines)
    read = await api.call("get_render_option", "demo", "true-color")

    assert created == read
    assert read == RenderOption(
        "true-color",
        "True colour",
        type="raster-tile",
        options=raster["options"],
        min_zoom=9,
        legend=raster["legend"],
        conditions=tuple(raster["conditions"]),
    )
    assert contains(read.raw, raster)
    listed = await api.call("list_render_options", "demo")
    assert [one.render_option_id for one in listed] == ["true-color", "lines"]
    assert listed[1].vector_options == lines["vectorOptions"]
    with pytest.raises(GeoCatalogConflict):
        await api.call("create_render_option", "demo", raster)

    # What was read can be sent back, nulls and unknown members included.
    replaced = await api.call("replace_render_option", "demo", "true-color", {**read.raw, "minZoom": None})
    assert replaced.min_zoom is None
    again = await api.call("get_render_option", "demo", "true-color")
    assert again == replaced
    assert again.raw["x:unknown"] == {"kept": True}

    assert await api.call("delete_render_option", "demo", "lines") is None
    assert await api.call("list_render_options", "demo") == [again]
    with pytest.raises(GeoCatalogNotFound, match="'lines' not found"):
        await api.call("replace_render_option", "demo", "lines", lines)


@scenario()
async def tile_settings_are_replaced(api: Api) -> None:
    await api.add_collection()
    before = await api.call("get_tile_settings", "demo")
    settings = {
        "minZoom": 0,
        "maxItemsPerTile": 7,
        "defaultLocation": {"zoom": 3, "coordinates": [47.5, 8.25]},
        "x:unknown": 1,
    }

    replaced = await api.call("replace_tile_settings", "demo", settings)

    assert isinstance(before, TileSettings)
    assert replaced == TileSettings(0, 7, settings["defaultLocation"]) != before
    assert replaced.raw == settings
    assert await api.call("get_tile_settings", "demo") == replaced


@scenario("replace_partition_type")
async def the_partition_type_is_chosen_before_the_first_item(api: Api) -> None:
    await api.add_collection()
    assert await api.call("get_partition_type", "demo") == PartitionType("none")

    assert await api.call("replace_partition_type", "demo", {"scheme": "month"}) is None
    assert await api.call("get_partition_type", "demo") == PartitionType("month")

    await api.add_items(item("a"))
    with pytest.raises(GeoCatalogBadRequest):
        await api.call("replace_partition_type", "demo", {"scheme": "year"})
    assert (await api.call("get_partition_type", "demo")).scheme == "month"


@scenario("get_collection_configuration")
async def the_whole_configuration_is_what_its_parts_are(api: Api) -> None:
    await api.add_collection()
    location = {"zoom": 3, "coordinates": [47.5, 8.25]}
    await api.call("add_mosaic", "demo", {"id": "all", "name": "All", "cql": []})
    await api.call("create_render_option", "demo", {"id": "r", "name": "R", "type": "raster-tile", "options": "x=1"})
    settings = {"minZoom": 4, "maxItemsPerTile": 5, "defaultLocation": location}
    await api.call("replace_tile_settings", "demo", settings)

    configuration = await api.call("get_collection_configuration", "demo")

    assert configuration == CollectionConfiguration(
        await api.call("get_tile_settings", "demo"),
        tuple(await api.call("list_mosaics", "demo")),
        tuple(await api.call("list_render_options", "demo")),
        location,
    )
    assert configuration.raw["mosaicInfo"]["renderOptions"][0]["options"] == "x=1"
