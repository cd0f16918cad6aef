"""
Typed views of what a collection is configured with: mosaics, render options, tile settings, partition type, queryables.

``raw`` holds the answer as it came, which is also what a write takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import GeoCatalogProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CollectionConfiguration", "Mosaic", "PartitionType", "Queryable", "RenderOption", "TileSettings"]


def _object(data: Any, what: str, *required: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise GeoCatalogProtocolError(f"{what} was expected, but the answer is no JSON object")
    lacking = [name for name in required if not data.get(name)]
    if lacking:
        raise GeoCatalogProtocolError(f"{what} in an answer has no {' and no '.join(lacking)}")
    return data


def _list(data: Mapping[str, Any], name: str, what: str) -> list[Any]:
    entries = data.get(name) or []
    if not isinstance(entries, list):
        raise GeoCatalogProtocolError(f"{what} in an answer has {name} that are no list")
    return entries


@dataclass(frozen=True)
class Mosaic:
    """
    A selection of a collection's items to show together.

    :param cql: CQL2 JSON expressions that an item has to meet; none: all items.
    """

    mosaic_id: str
    name: str | None = None
    description: str | None = None
    cql: tuple[Mapping[str, Any], ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Mosaic:
        """
        Read a mosaic.

        :raises GeoCatalogProtocolError: The answer is none.
        """
        data = _object(data, "a mosaic", "id")
        cql = tuple(_list(data, "cql", "a mosaic"))
        return cls(str(data["id"]), data.get("name"), data.get("description"), cql, raw=data)


@dataclass(frozen=True)
class RenderOption:
    """
    A way to show a collection's items.

    :param type: ``raster-tile``, ``vt-polygon`` or ``vt-line``.
    :param options: Query string for the tiler.
    :param min_zoom: Lowest zoom level.
    """

    render_option_id: str
    name: str | None = None
    description: str | None = None
    type: str | None = None
    options: str | None = None
    vector_options: Mapping[str, Any] | None = None
    min_zoom: int | None = None
    legend: Mapping[str, Any] | None = None
    conditions: tuple[Mapping[str, Any], ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> RenderOption:
        """
        Read a render option.

        :raises GeoCatalogProtocolError: The answer is none.
        """
        data = _object(data, "a render option", "id")
        return cls(
            render_option_id=str(data["id"]),
            name=data.get("name"),
            description=data.get("description"),
            type=data.get("type"),
            options=data.get("options"),
            vector_options=data.get("vectorOptions"),
            min_zoom=data.get("minZoom"),
            legend=data.get("legend"),
            conditions=tuple(_list(data, "conditions", "a render option")),
            raw=data,
        )


@dataclass(frozen=True)
class TileSettings:
    """
    How a collection is tiled.

    :param min_zoom: Lowest zoom level, up to 24.
    :param max_items_per_tile: Items that one tile is made of at most.
    :param default_location: Where a map opens: ``zoom`` and ``coordinates`` [latitude, longitude].
    """

    min_zoom: int | None = None
    max_items_per_tile: int | None = None
    default_location: Mapping[str, Any] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> TileSettings:
        """
        Read tile settings.

        :raises GeoCatalogProtocolError: The answer is none.
        """
        data = _object(data, "tile settings")
        return cls(data.get("minZoom"), data.get("maxItemsPerTile"), data.get("defaultLocation"), raw=data)


@dataclass(frozen=True)
class PartitionType:
    """
    How a collection's items are split in the database.

    :param scheme: ``year``, ``month`` or ``none``.
    """

    scheme: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> PartitionType:
        """
        Read a partition type.

        :raises GeoCatalogProtocolError: The answer is none.
        """
        data = _object(data, "a partition type", "scheme")
        return cls(str(data["scheme"]), raw=data)


@dataclass(frozen=True)
class CollectionConfiguration:
    """Everything that a collection is configured with, as one answer of the service."""

    tile_settings: TileSettings
    mosaics: tuple[Mosaic, ...] = ()
    render_options: tuple[RenderOption, ...] = ()
    default_location: Mapping[str, Any] | None = None
    default_custom_query: Mapping[str, Any] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> CollectionConfiguration:
        """
        Read a configuration.

        :raises GeoCatalogProtocolError: The answer is none.
        """
        data = _object(data, "a collection's configuration")
        mosaics = _object(data.get("mosaicInfo") or {}, "information about mosaics")
        return cls(
            tile_settings=TileSettings.from_json(data.get("tileSettings") or {}),
            mosaics=tuple(map(Mosaic.from_json, _list(mosaics, "mosaics", "a configuration"))),
            render_options=tuple(map(RenderOption.from_json, _list(mosaics, "renderOptions", "a configuration"))),
            default_location=mosaics.get("defaultLocation"),
            default_custom_query=mosaics.get("defaultCustomQuery"),
            raw=data,
        )


@dataclass(frozen=True)
class Queryable:
    """
    A property that items can be filtered by.

    :param definition: JSON schema of its values.
    :param data_type: Type of the index expression; the service answers a replacement without it.
    :param create_index: Whether the database has an index for it.
    """

    name: str
    definition: Mapping[str, Any] = field(default_factory=dict)
    data_type: str | None = None
    create_index: bool | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Queryable:
        """
        Read a queryable.

        :raises GeoCatalogProtocolError: The answer is none.
        """
        data = _object(data, "a queryable", "name")
        return cls(
            name=str(data["name"]),
            definition=data.get("definition") or {},
            data_type=data.get("data_type"),
            create_index=data.get("create_index"),
            raw=data,
        )
