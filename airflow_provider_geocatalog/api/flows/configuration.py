"""Bring a collection's render options, mosaics and tile settings in line with what is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.operations import configurations as service

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_geocatalog.api.http import Flow, Pages

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
    """The operations of one kind of configuration."""

    label: str
    list_all: Callable[[str], Pages[Any]]
    create: Callable[[str, Mapping[str, Any]], Flow[Any]]
    replace: Callable[[str, str, Mapping[str, Any]], Flow[Any]]
    delete: Callable[[str, str], Flow[None]]


_RENDER_OPTIONS = _Kind(
    "render-options",
    service.list_render_options,
    service.create_render_option,
    service.replace_render_option,
    service.delete_render_option,
)
_MOSAICS = _Kind(
    "mosaics",
    service.list_mosaics,
    service.add_mosaic,
    service.replace_mosaic,
    service.delete_mosaic,
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
        present = yield from service.get_tile_settings(collection_id)
        if _same(tile_settings, present.raw):
            change.unchanged.append("tile-settings")
        else:
            yield from service.replace_tile_settings(collection_id, tile_settings)
            change.replaced.append("tile-settings")
    return change


def _configure(
    collection_id: str, kind: _Kind, wanted: Sequence[Mapping[str, Any]], prune: bool, change: ConfigurationChange
) -> Flow[None]:
    present = {entry.raw["id"]: entry.raw for entry in (yield from kind.list_all(collection_id).read_all())}
    for entry in wanted:
        entry_id = str(entry["id"])
        label = f"{kind.label}/{entry_id}"
        if entry_id not in present:
            yield from kind.create(collection_id, entry)
            change.created.append(label)
        elif _same(entry, present[entry_id]):
            change.unchanged.append(label)
        else:
            yield from kind.replace(collection_id, entry_id, entry)
            change.replaced.append(label)
    if prune:
        for entry_id in sorted(present.keys() - {str(entry["id"]) for entry in wanted}):
            yield from kind.delete(collection_id, entry_id)
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
