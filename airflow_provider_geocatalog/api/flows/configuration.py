"""Bring a collection's render options, mosaics and tile settings in line with what is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.flows.calls import call

if TYPE_CHECKING:
    from airflow_provider_geocatalog.api.http import Endpoint, Flow

__all__ = ["ConfigurationChange", "configure_collection"]


@dataclass
class ConfigurationChange:
    """Ids of what was created, replaced, left alone or removed, as ``render-options/natural-color``."""

    created: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, list[str]]:
        """Return the change as a JSON object."""
        return dict(vars(self))


@dataclass(frozen=True)
class _Kind:
    """The five operations of one kind of configuration, and the name of its id in paths."""

    label: str
    id_name: str
    list_all: Endpoint
    create: Endpoint
    replace: Endpoint
    delete: Endpoint


_RENDER_OPTIONS = _Kind(
    "render-options",
    "render_option_id",
    endpoints.LIST_RENDER_OPTIONS,
    endpoints.CREATE_RENDER_OPTION,
    endpoints.REPLACE_RENDER_OPTION,
    endpoints.DELETE_RENDER_OPTION,
)
_MOSAICS = _Kind(
    "mosaics",
    "mosaic_id",
    endpoints.LIST_MOSAICS,
    endpoints.ADD_MOSAIC,
    endpoints.REPLACE_MOSAIC,
    endpoints.DELETE_MOSAIC,
)


def configure_collection(
    collection_id: str,
    *,
    render_options: Sequence[Mapping[str, Any]] | None = None,
    mosaics: Sequence[Mapping[str, Any]] | None = None,
    tile_settings: Mapping[str, Any] | None = None,
    prune: bool = False,
) -> Flow[ConfigurationChange]:
    """
    Make exactly the writes that are needed; a second call makes none.

    What is ``None`` is not looked at. Entries are created or replaced before superfluous ones are removed, so that a
    reader never finds fewer than were wanted.

    :param prune: Whether to remove render options and mosaics that are not wanted.
    :raises GeoCatalogNotFound: There is no such collection.
    """
    change = ConfigurationChange()
    for kind, wanted in ((_RENDER_OPTIONS, render_options), (_MOSAICS, mosaics)):
        if wanted is not None:
            yield from _configure(collection_id, kind, wanted, prune, change)
    if tile_settings is not None:
        present = yield from call(endpoints.GET_TILE_SETTINGS, collection_id=collection_id)
        if _same(tile_settings, present):
            change.unchanged.append("tile-settings")
        else:
            yield from call(endpoints.REPLACE_TILE_SETTINGS, body=dict(tile_settings), collection_id=collection_id)
            change.replaced.append("tile-settings")
    return change


def _configure(
    collection_id: str, kind: _Kind, wanted: Sequence[Mapping[str, Any]], prune: bool, change: ConfigurationChange
) -> Flow[None]:
    present = {
        entry["id"]: entry for entry in (yield from call(kind.list_all, collection_id=collection_id)) or [] if entry
    }
    names: dict[str, Any]
    for entry in wanted:
        entry_id = str(entry["id"])
        label = f"{kind.label}/{entry_id}"
        if entry_id not in present:
            yield from call(kind.create, body=dict(entry), collection_id=collection_id)
            change.created.append(label)
        elif _same(entry, present[entry_id]):
            change.unchanged.append(label)
        else:
            names = {"collection_id": collection_id, kind.id_name: entry_id}
            yield from call(kind.replace, body=dict(entry), **names)
            change.replaced.append(label)
    if prune:
        for entry_id in present.keys() - {str(entry["id"]) for entry in wanted}:
            names = {"collection_id": collection_id, kind.id_name: entry_id}
            yield from call(kind.delete, **names)
            change.removed.append(f"{kind.label}/{entry_id}")


def _same(wanted: Mapping[str, Any], present: Any) -> bool:
    """Compare without members that are unset: reads return them as ``null``, writes leave them out."""
    return isinstance(present, Mapping) and _set_members(wanted) == _set_members(present)


def _set_members(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _set_members(member) for name, member in value.items() if member is not None}
    if isinstance(value, list | tuple):
        return [_set_members(member) for member in value]
    return value
