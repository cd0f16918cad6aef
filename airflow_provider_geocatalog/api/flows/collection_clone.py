"""
Make a collection of one that a public STAC API publishes, as the service's API tutorial does with those of the
Planetary Computer.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.collection_checks import THUMBNAIL, asset_file_problems, image_type
from airflow_provider_geocatalog.api.collection_plan import WantedAsset, WantedCollection
from airflow_provider_geocatalog.api.http import FilePart
from airflow_provider_geocatalog.api.validation import (
    collection_problems,
    mosaic_problems,
    refuse,
    render_option_problems,
    sanitize_render_option_id,
    tile_settings_problems,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["clone_of", "thumbnail_asset"]

#: Members that say where the source keeps its data, or that its service has set; only this one is the publisher's.
_SERVICE_PREFIXES = ("msft:", "_msft:")
_PUBLISHED = "msft:short_description"
#: What the service knows of a render option and of a mosaic (geocatalog-api 7.8).
_OF_RENDER_OPTION = ("description", "type", "options", "vectorOptions", "minZoom", "legend", "conditions")
_OF_MOSAIC = ("description", "cql")
_RASTER = "raster-tile"


def thumbnail_asset(source: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """
    Return the asset of a STAC Collection that is its thumbnail, if it has one.

    :param source: The collection as its publisher shows it.
    """
    assets = source.get("assets")
    listed = (
        {key: asset for key, asset in assets.items() if isinstance(asset, dict)} if isinstance(assets, dict) else {}
    )
    by_role = (asset for asset in listed.values() if THUMBNAIL in (asset.get("roles") or ()))
    return listed.get(THUMBNAIL) or next(by_role, None)


def clone_of(
    source: Mapping[str, Any],
    configuration: Mapping[str, Any] | None = None,
    thumbnail: bytes | None = None,
    *,
    collection_id: str,
    ids: Mapping[str, str] | None = None,
    problems: Sequence[str] = (),
) -> WantedCollection:
    """
    Return the collection that is like a published one.

    Its assets, links and members of the publisher's own service are left out. Render options and mosaics are published
    with names only; their ids are made of those.

    :param source: The STAC Collection as its publisher shows it.
    :param configuration: What its publisher says about showing it: ``renderOptions``, ``mosaics``, ``defaultLocation``.
    :param thumbnail: The file of its thumbnail.
    :param collection_id: Id of the clone.
    :param ids: Ids of render options and mosaics by their names, where those made of the names will not do.
    :param problems: What is known to be wrong already, to be told with the rest.
    :raises GeoCatalogInvalidInput: The service would not take it; everything that is wrong.
    """
    document = {
        name: value
        for name, value in source.items()
        if name not in ("assets", "links") and (name == _PUBLISHED or not name.startswith(_SERVICE_PREFIXES))
    }
    document["id"] = collection_id
    problems = [*problems, *collection_problems(document)]
    published = configuration or {}
    options = _identified(published.get("renderOptions"), "render option", _OF_RENDER_OPTION, ids or {}, problems)
    options = [{"type": _RASTER, **option} for option in options]
    mosaics = _identified(published.get("mosaics"), "mosaic", _OF_MOSAIC, ids or {}, problems)
    settings = _tile_settings(published, options)
    problems += [*render_option_problems(options), *mosaic_problems(mosaics), *tile_settings_problems(settings)]
    if thumbnail is not None:
        problems += asset_file_problems(THUMBNAIL, thumbnail, None)
    refuse(f"collection {source.get('id')!r} cannot be cloned", problems)
    return WantedCollection(
        collection_id,
        collection=document,
        render_options=tuple(options) or None,
        mosaics=tuple(mosaics) or None,
        tile_settings=settings or None,
        assets=None if thumbnail is None else (_wanted_thumbnail(source, thumbnail),),
    )


def _identified(
    entries: Any, what: str, members: tuple[str, ...], ids: Mapping[str, str], problems: list[str]
) -> list[dict[str, Any]]:
    """Return published entries with ids, and what the service knows of them; no two may have the same id."""
    if not isinstance(entries, list | None) or not all(isinstance(entry, dict) for entry in entries or ()):
        problems.append(f"the published {what}s are no list of objects")
        return []
    identified: list[dict[str, Any]] = []
    names: dict[str, list[str]] = defaultdict(list)
    for number, entry in enumerate(entries or (), 1):
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            problems.append(f"the published {what} number {number} has no name")
            continue
        entry_id = ids.get(name) or sanitize_render_option_id(name)
        if not entry_id:
            problems.append(f"no id can be made of the name of {what} {name!r}; give one with 'ids'")
            continue
        names[entry_id].append(name)
        if len(names[entry_id]) == 1:
            known = {member: entry[member] for member in members if entry.get(member) is not None}
            identified.append({"id": entry_id, "name": name, **known})
    problems += [
        f"{what}s {' and '.join(map(repr, several))} would all have the id {entry_id!r}; give them others with 'ids'"
        for entry_id, several in names.items()
        if len(several) > 1
    ]
    return identified


def _tile_settings(published: Mapping[str, Any], options: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the tile settings that are published or, without any, those that follow from the rest."""
    settings = published.get("tileSettings")
    if isinstance(settings, dict):
        return {name: value for name, value in settings.items() if value is not None}
    zooms = [option["minZoom"] for option in options if isinstance(option.get("minZoom"), int)]
    found = {"minZoom": min(zooms, default=None), "defaultLocation": published.get("defaultLocation")}
    return {name: value for name, value in found.items() if value is not None}


def _wanted_thumbnail(source: Mapping[str, Any], content: bytes) -> WantedAsset:
    media_type = str(image_type(content))
    published = thumbnail_asset(source) or {}
    members = {"type": media_type, "title": str(published.get("title") or "Thumbnail"), "roles": [THUMBNAIL]}
    file = FilePart(f"{THUMBNAIL}.{media_type.rpartition('/')[2]}", content, media_type)
    return WantedAsset(THUMBNAIL, members, file)
