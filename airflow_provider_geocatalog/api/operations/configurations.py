"""What a collection is configured with: mosaics, render options, tile settings, partition type (geocatalog-api 7.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import call, pages
from airflow_provider_geocatalog.api.configuration_models import (
    CollectionConfiguration,
    Mosaic,
    PartitionType,
    RenderOption,
    TileSettings,
)
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.operations import operation
from airflow_provider_geocatalog.api.operations.arguments import document, same_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_geocatalog.api.http import Flow, Pages

__all__ = [
    "add_mosaic",
    "create_render_option",
    "delete_mosaic",
    "delete_render_option",
    "get_collection_configuration",
    "get_mosaic",
    "get_partition_type",
    "get_render_option",
    "get_tile_settings",
    "list_mosaics",
    "list_render_options",
    "replace_mosaic",
    "replace_partition_type",
    "replace_render_option",
    "replace_tile_settings",
]


PARTITION_SCHEMES = ("year", "month", "none")


@operation(endpoints.GET_COLLECTION_CONFIGURATION)
def get_collection_configuration(collection_id: str) -> Flow[CollectionConfiguration]:
    """
    Read mosaics, render options and tile settings of a collection at once.

    :param collection_id: The collection.
    """
    return (
        yield from call(
            endpoints.GET_COLLECTION_CONFIGURATION,
            {"collection_id": collection_id},
            read=CollectionConfiguration.from_json,
        )
    )


@operation(endpoints.LIST_MOSAICS)
def list_mosaics(collection_id: str) -> Pages[Mosaic]:
    """
    List the mosaics of a collection.

    :param collection_id: The collection.
    :return: Mosaics, on one page.
    """
    return pages(endpoints.LIST_MOSAICS, Mosaic.from_json, {"collection_id": collection_id})


@operation(endpoints.ADD_MOSAIC)
def add_mosaic(collection_id: str, mosaic: Mapping[str, Any]) -> Flow[Mosaic]:
    """
    Add a mosaic to a collection.

    :param collection_id: The collection.
    :param mosaic: ``id``, ``name``, optional ``description``, ``cql`` (a list of CQL2 JSON expressions).
    :return: The mosaic.
    :raises GeoCatalogConflict: The collection has one with this id.
    """
    body = document(mosaic, "a mosaic", "id", "name")
    return (yield from call(endpoints.ADD_MOSAIC, {"collection_id": collection_id}, body=body, read=Mosaic.from_json))


@operation(endpoints.GET_MOSAIC)
def get_mosaic(collection_id: str, mosaic_id: str) -> Flow[Mosaic]:
    """
    Read a mosaic of a collection.

    :param collection_id: The collection.
    :param mosaic_id: The mosaic.
    :raises GeoCatalogNotFound: The collection has none with this id.
    """
    names = {"collection_id": collection_id, "mosaic_id": mosaic_id}
    return (yield from call(endpoints.GET_MOSAIC, names, read=Mosaic.from_json))


@operation(endpoints.REPLACE_MOSAIC)
def replace_mosaic(collection_id: str, mosaic_id: str, mosaic: Mapping[str, Any]) -> Flow[Mosaic]:
    """
    Replace a mosaic of a collection.

    :param collection_id: The collection.
    :param mosaic_id: The mosaic.
    :param mosaic: As for :func:`add_mosaic`.
    :return: The mosaic.
    :raises GeoCatalogNotFound: The collection has none with this id.
    """
    names = {"collection_id": collection_id, "mosaic_id": mosaic_id}
    body = document(mosaic, "a mosaic", "id", "name")
    same_id(body, "id", mosaic_id, "a mosaic")
    return (yield from call(endpoints.REPLACE_MOSAIC, names, body=body, read=Mosaic.from_json))


@operation(endpoints.DELETE_MOSAIC)
def delete_mosaic(collection_id: str, mosaic_id: str) -> Flow[None]:
    """
    Remove a mosaic from a collection.

    :param collection_id: The collection.
    :param mosaic_id: The mosaic.
    :raises GeoCatalogNotFound: The collection has none with this id.
    """
    names = {"collection_id": collection_id, "mosaic_id": mosaic_id}
    yield from call(endpoints.DELETE_MOSAIC, names)


@operation(endpoints.LIST_RENDER_OPTIONS)
def list_render_options(collection_id: str) -> Pages[RenderOption]:
    """
    List the render options of a collection.

    :param collection_id: The collection.
    :return: Render options, on one page.
    """
    return pages(endpoints.LIST_RENDER_OPTIONS, RenderOption.from_json, {"collection_id": collection_id})


@operation(endpoints.CREATE_RENDER_OPTION)
def create_render_option(collection_id: str, render_option: Mapping[str, Any]) -> Flow[RenderOption]:
    """
    Add a render option to a collection.

    :param collection_id: The collection.
    :param render_option: ``id``, ``name``, ``type``, ``options`` or ``vectorOptions``, and what else the service knows.
    :return: The render option.
    :raises GeoCatalogConflict: The collection has one with this id.
    """
    body = document(render_option, "a render option", "id", "name")
    return (
        yield from call(
            endpoints.CREATE_RENDER_OPTION, {"collection_id": collection_id}, body=body, read=RenderOption.from_json
        )
    )


@operation(endpoints.GET_RENDER_OPTION)
def get_render_option(collection_id: str, render_option_id: str) -> Flow[RenderOption]:
    """
    Read a render option of a collection.

    :param collection_id: The collection.
    :param render_option_id: The render option.
    :raises GeoCatalogNotFound: The collection has none with this id.
    """
    names = {"collection_id": collection_id, "render_option_id": render_option_id}
    return (yield from call(endpoints.GET_RENDER_OPTION, names, read=RenderOption.from_json))


@operation(endpoints.REPLACE_RENDER_OPTION)
def replace_render_option(
    collection_id: str, render_option_id: str, render_option: Mapping[str, Any]
) -> Flow[RenderOption]:
    """
    Replace a render option of a collection.

    :param collection_id: The collection.
    :param render_option_id: The render option.
    :param render_option: As for :func:`create_render_option`.
    :return: The render option.
    :raises GeoCatalogNotFound: The collection has none with this id.
    """
    names = {"collection_id": collection_id, "render_option_id": render_option_id}
    body = document(render_option, "a render option", "id", "name")
    same_id(body, "id", render_option_id, "a render option")
    return (yield from call(endpoints.REPLACE_RENDER_OPTION, names, body=body, read=RenderOption.from_json))


@operation(endpoints.DELETE_RENDER_OPTION)
def delete_render_option(collection_id: str, render_option_id: str) -> Flow[None]:
    """
    Remove a render option from a collection.

    :param collection_id: The collection.
    :param render_option_id: The render option.
    :raises GeoCatalogNotFound: The collection has none with this id.
    """
    names = {"collection_id": collection_id, "render_option_id": render_option_id}
    yield from call(endpoints.DELETE_RENDER_OPTION, names)


@operation(endpoints.GET_TILE_SETTINGS)
def get_tile_settings(collection_id: str) -> Flow[TileSettings]:
    """
    Read the tile settings of a collection.

    :param collection_id: The collection.
    """
    return (yield from call(endpoints.GET_TILE_SETTINGS, {"collection_id": collection_id}, read=TileSettings.from_json))


@operation(endpoints.REPLACE_TILE_SETTINGS)
def replace_tile_settings(collection_id: str, tile_settings: Mapping[str, Any]) -> Flow[TileSettings]:
    """
    Replace the tile settings of a collection.

    :param collection_id: The collection.
    :param tile_settings: ``minZoom``, ``maxItemsPerTile``, ``defaultLocation``.
    :return: The tile settings.
    """
    body = document(tile_settings, "tile settings")
    return (
        yield from call(
            endpoints.REPLACE_TILE_SETTINGS, {"collection_id": collection_id}, body=body, read=TileSettings.from_json
        )
    )


@operation(endpoints.GET_PARTITION_TYPE)
def get_partition_type(collection_id: str) -> Flow[PartitionType]:
    """
    Read how a collection's items are split in the database.

    :param collection_id: The collection.
    """
    return (
        yield from call(endpoints.GET_PARTITION_TYPE, {"collection_id": collection_id}, read=PartitionType.from_json)
    )


@operation(endpoints.REPLACE_PARTITION_TYPE)
def replace_partition_type(collection_id: str, partition_type: Mapping[str, Any]) -> Flow[None]:
    """
    Set how a collection's items are split; only before its first item.

    :param collection_id: The collection.
    :param partition_type: ``{"scheme": "year"}``, ``month`` or ``none``; aim at about 100,000 items in a part.
    """
    body = document(partition_type, "a partition type", "scheme")
    if body["scheme"] not in PARTITION_SCHEMES:
        raise GeoCatalogInvalidInput(f"a scheme is {', '.join(PARTITION_SCHEMES)}, not {body['scheme']!r}")
    yield from call(endpoints.REPLACE_PARTITION_TYPE, {"collection_id": collection_id}, body=body)
