"""
Bring one collection in line with its document: what has to be written (plan), and the writes (apply).

A plan is made from reads alone. The writes are in an order in which a reader of the catalog always finds at least one
render option, mosaic and thumbnail: what is wanted is created or replaced first, what is superfluous goes last.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlsplit

from airflow_provider_geocatalog.api.collection_checks import DEFAULT_QUERYABLES, THUMBNAIL
from airflow_provider_geocatalog.api.collection_plan import (
    Action,
    CollectionPlan,
    Difference,
    PlanEntry,
    WantedAsset,
    WantedCollection,
)
from airflow_provider_geocatalog.api.errors import GeoCatalogNotFound, GeoCatalogProtocolError
from airflow_provider_geocatalog.api.flows.collections import (
    IfExists,
    begin_create_collection,
    changed_members,
    find_collection,
    replace_collection,
)
from airflow_provider_geocatalog.api.flows.waiting import finish
from airflow_provider_geocatalog.api.operations import collections, configurations, items, queryables
from airflow_provider_geocatalog.api.waiting import PollPolicy

if TYPE_CHECKING:
    from airflow_provider_geocatalog.api.http import FilePart, Flow

__all__ = [
    "MOSAICS",
    "QUERYABLES",
    "RENDER_OPTIONS",
    "apply_collection",
    "find_thumbnail",
    "plan_collection",
    "stored_name",
]

log = logging.getLogger(__name__)

_HASH = 16  # hexadecimal digits of a file's hash in its name
#: What a collection has from the beginning (geocatalog-api 7.8).
_FIRST_MOSAIC = {"id": "default", "name": "Default", "description": "", "cql": []}
_FIRST_SCHEME = "none"


# --- comparing -------------------------------------------------------------------------------------------------------


def _differences(old: Any, new: Any, member: str = "") -> Iterator[Difference]:
    """Compare objects member by member; ``null`` is a member that is not there, as in the service's answers."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from _differences(old.get(name), new.get(name), f"{member}.{name}" if member else name)
    elif _bare(old) != _bare(new):
        yield Difference(member, old, new)


def _bare(value: Any) -> Any:
    """Return a value without members that are ``null`` or empty objects."""
    if isinstance(value, Mapping):
        bare = {name: _bare(member) for name, member in value.items()}
        return {name: member for name, member in bare.items() if member is not None} or None
    return [_bare(entry) for entry in value] if isinstance(value, list | tuple) else value


def _collection_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    for name in changed_members(new, old):
        yield from _differences(old.get(name), new.get(name), name)


def _mosaic(mosaic: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a mosaic as a read shows it: without ``cql`` it has all items, without description an empty one."""
    return {**mosaic, "cql": mosaic.get("cql") or [], "description": mosaic.get("description") or None}


def _render_option(option: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**option, "description": option.get("description") or None}


def _queryable(queryable: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what can be read of a queryable: neither its data type nor whether it has an index."""
    return {"name": queryable["name"], "definition": queryable["definition"]}


_Entries: TypeAlias = "dict[str, Mapping[str, Any]]"


@dataclass(frozen=True)
class _Kind:
    """One kind of setting of which a collection can have several."""

    label: str
    name: str  # the member that names one
    read: Callable[[str], Flow[_Entries]]
    form: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    create: Callable[[str, Mapping[str, Any]], Flow[Any]]
    replace: Callable[[str, str, Mapping[str, Any]], Flow[Any]]
    delete: Callable[[str, str], Flow[Any]]
    first: _Entries = field(default_factory=dict)

    def plan(
        self, collection_id: str, wanted: Iterable[Mapping[str, Any]], present: _Entries, prune: bool
    ) -> Iterator[PlanEntry]:
        """Compare what is wanted with what is there."""
        entries = {str(entry[self.name]): entry for entry in wanted}
        for entry_id, entry in entries.items():
            yield self._wanted(collection_id, entry_id, entry, present.get(entry_id))
        for entry_id in (name for name in present if name not in entries) if prune else ():
            gone = partial(self.delete, collection_id, entry_id)
            yield PlanEntry(self.label, entry_id, Action.DELETE, write=gone)

    def _wanted(
        self, collection_id: str, entry_id: str, entry: Mapping[str, Any], present: Mapping[str, Any] | None
    ) -> PlanEntry:
        if present is None:
            write = partial(self.create, collection_id, entry)
            return PlanEntry(self.label, entry_id, Action.CREATE, tuple(_differences({}, entry)), write=write)
        differences = tuple(_differences(self.form(present), self.form(entry)))
        if not differences:
            return PlanEntry(self.label, entry_id, Action.KEEP)
        write = partial(self.replace, collection_id, entry_id, entry)
        return PlanEntry(self.label, entry_id, Action.REPLACE, differences, write=write)


def _read_render_options(collection_id: str) -> Flow[_Entries]:
    found = yield from configurations.list_render_options(collection_id).read_all()
    return {option.render_option_id: option.raw for option in found}


def _read_mosaics(collection_id: str) -> Flow[_Entries]:
    found = yield from configurations.list_mosaics(collection_id).read_all()
    return {mosaic.mosaic_id: mosaic.raw for mosaic in found}


def _read_queryables(collection_id: str) -> Flow[_Entries]:
    schema = yield from queryables.get_collection_queryables(collection_id)
    properties = schema.get("properties") or {}
    return {
        name: {"name": name, "definition": definition}
        for name, definition in properties.items()
        if name not in DEFAULT_QUERYABLES
    }


def _create_queryable(collection_id: str, queryable: Mapping[str, Any]) -> Flow[Any]:
    return (yield from queryables.create_queryables(collection_id, [queryable]))


QUERYABLES = _Kind(
    "queryable",
    "name",
    _read_queryables,
    _queryable,
    _create_queryable,
    queryables.replace_queryable,
    queryables.delete_queryable,
)
RENDER_OPTIONS = _Kind(
    "render option",
    "id",
    _read_render_options,
    _render_option,
    configurations.create_render_option,
    configurations.replace_render_option,
    configurations.delete_render_option,
)
MOSAICS = _Kind(
    "mosaic",
    "id",
    _read_mosaics,
    _mosaic,
    configurations.add_mosaic,
    configurations.replace_mosaic,
    configurations.delete_mosaic,
    {"default": _FIRST_MOSAIC},
)


# --- planning --------------------------------------------------------------------------------------------------------


def plan_collection(wanted: WantedCollection, *, prune: bool = False) -> Flow[CollectionPlan]:
    """
    Find out what has to be written; this reads only.

    :param prune: Whether queryables, render options, mosaics and assets that the document does not name are deleted, in
        the sections that it has.
    :raises GeoCatalogNotFound: There is no such collection, and the document does not say how to create it.
    """
    collection_id = wanted.collection_id
    existing = yield from find_collection(collection_id)
    if existing is None and wanted.collection is None:
        raise GeoCatalogNotFound(
            f"there is no collection {collection_id!r}",
            hint="Give its document a section 'collection', and it is created.",
        )
    entries: list[PlanEntry] = []
    if wanted.collection is not None:
        entries.append(_plan_document(wanted.collection, existing))
    if wanted.partition_type is not None:
        entries.append((yield from _plan_partition_type(wanted, is_new=existing is None)))
    for kind, section in (
        (QUERYABLES, wanted.queryables),
        (RENDER_OPTIONS, wanted.render_options),
        (MOSAICS, wanted.mosaics),
    ):
        if section is not None:
            present = kind.first if existing is None else (yield from kind.read(collection_id))
            entries += kind.plan(collection_id, section, present, prune)
    if wanted.tile_settings is not None:
        entries.append((yield from _plan_tile_settings(wanted, is_new=existing is None)))
    if wanted.assets is not None:
        entries += yield from _plan_assets(collection_id, wanted.assets, (existing or {}).get("assets") or {}, prune)
    # A stable sort: what is wanted comes first, what is superfluous goes last.
    entries.sort(key=lambda entry: entry.action is Action.DELETE)
    return CollectionPlan(collection_id, tuple(entries))


def _plan_document(wanted: Mapping[str, Any], existing: Mapping[str, Any] | None) -> PlanEntry:
    if existing is None:
        # apply_collection creates it, and waits
        return PlanEntry("collection", "", Action.CREATE, tuple(_differences({}, wanted)))
    differences = tuple(_collection_differences(existing, wanted))
    if not differences:
        return PlanEntry("collection", "", Action.KEEP)
    extensions = [*(wanted.get("stac_extensions") or ())]
    extensions += [name for name in existing.get("stac_extensions") or () if name not in extensions]
    body = {**wanted, "stac_extensions": extensions} if extensions else wanted
    write = partial(replace_collection, body, existing=existing)
    return PlanEntry("collection", "", Action.REPLACE, differences, write=write)


def _plan_partition_type(wanted: WantedCollection, *, is_new: bool) -> Flow[PlanEntry]:
    collection_id, scheme = wanted.collection_id, wanted.partition_type
    present = _FIRST_SCHEME
    if not is_new:
        present = (yield from configurations.get_partition_type(collection_id)).scheme
    if present == scheme:
        return PlanEntry("partition type", "", Action.KEEP)
    blocked = None
    if not is_new and (yield from items.list_items(collection_id, limit=1).next_page()):
        blocked = (
            f"the partition type of collection {collection_id!r} is {present!r} and cannot become {scheme!r}: it has "
            "items, and the service takes another one before the first item only"
        )
    write = partial(configurations.replace_partition_type, collection_id, {"scheme": scheme})
    difference = Difference("scheme", present, scheme)
    return PlanEntry("partition type", "", Action.REPLACE, (difference,), blocked, write)


def _plan_tile_settings(wanted: WantedCollection, *, is_new: bool) -> Flow[PlanEntry]:
    present: Mapping[str, Any] = {}
    if not is_new:
        present = (yield from configurations.get_tile_settings(wanted.collection_id)).raw
    # Members that the document does not have stay as they are: a write replaces all of them.
    body = {**present, **(wanted.tile_settings or {})}
    differences = tuple(_differences(present, body))
    if not differences:
        return PlanEntry("tile settings", "", Action.KEEP)
    write = partial(configurations.replace_tile_settings, wanted.collection_id, body)
    return PlanEntry("tile settings", "", Action.REPLACE, differences, write=write)


# --- assets ----------------------------------------------------------------------------------------------------------


def _plan_assets(
    collection_id: str, wanted: Iterable[WantedAsset], present: Mapping[str, Any], prune: bool
) -> Flow[list[PlanEntry]]:
    entries = []
    keys = set()
    for asset in wanted:
        keys.add(asset.key)
        entries.append((yield from _plan_asset(collection_id, asset, present.get(asset.key))))
    for key in (name for name in present if name not in keys) if prune else ():
        gone = partial(collections.delete_collection_asset, collection_id, key)
        entries.append(PlanEntry("asset", key, Action.DELETE, write=gone))
    return entries


def _plan_asset(collection_id: str, asset: WantedAsset, present: Mapping[str, Any] | None) -> Flow[PlanEntry]:
    if present is None:
        if asset.file is None:
            blocked = f"collection {collection_id!r} has no asset {asset.key!r}, and the document has no file for it"
            return PlanEntry("asset", asset.key, Action.CREATE, blocked=blocked)
        write = partial(collections.create_collection_asset, collection_id, _asset_body(asset, {}), _upload(asset))
        created = (*_differences({}, asset.members), Difference("file", None, _hash(asset.file.content)))
        return PlanEntry("asset", asset.key, Action.CREATE, created, write=write)
    differences = [*_differences({name: present.get(name) for name in asset.members}, asset.members)]
    if asset.file is not None:
        stored = yield from _stored_hash(collection_id, asset, present)
        if stored != _hash(asset.file.content):
            differences.append(Difference("file", stored, _hash(asset.file.content)))
    if not differences:
        return PlanEntry("asset", asset.key, Action.KEEP)
    if asset.file is None:
        blocked = f"asset {asset.key!r} cannot be changed without its file, which the document does not have"
        return PlanEntry("asset", asset.key, Action.REPLACE, tuple(differences), blocked)
    body = _asset_body(asset, present)
    write = partial(collections.replace_collection_asset, collection_id, asset.key, body, _upload(asset))
    return PlanEntry("asset", asset.key, Action.REPLACE, tuple(differences), write=write)


def _asset_body(asset: WantedAsset, present: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is sent beside the file; what the document does not say stays as it is."""
    file = asset.file
    usual = {
        "type": file.content_type if file else None,
        "title": asset.key,
        "roles": [THUMBNAIL if asset.key == THUMBNAIL else "data"],
    }
    known = {name: present[name] for name in ("title", "roles", "description") if present.get(name) is not None}
    return {"key": asset.key, **usual, **known, **asset.members}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_HASH]


def _upload(asset: WantedAsset) -> FilePart:
    """
    Return the file as it is sent.

    The service keeps the name, so that a hash in it tells later whether the file is still the same, without reading it.
    The thumbnail needs none: it can be read.
    """
    assert asset.file is not None  # noqa: S101 - only called where there is one
    if asset.key == THUMBNAIL:
        return asset.file
    name = PurePosixPath(asset.file.filename)
    return replace(asset.file, filename=f"{name.stem}-{_hash(asset.file.content)}{name.suffix}")


def _stored_hash(collection_id: str, asset: WantedAsset, present: Mapping[str, Any]) -> Flow[str | None]:
    """Return the hash of the file that the service has, ``None`` if it cannot be told."""
    if asset.key != THUMBNAIL:
        name = PurePosixPath(stored_name(present))
        found = name.stem.rpartition("-")[2]
        return found if len(found) == _HASH else None
    thumbnail = yield from find_thumbnail(collection_id)
    return None if thumbnail is None else _hash(thumbnail.content)


def find_thumbnail(collection_id: str) -> Flow[collections.Thumbnail | None]:
    """Read a collection's thumbnail; return ``None`` if there is none that can be read."""
    try:
        return (yield from collections.get_collection_thumbnail(collection_id))
    except (GeoCatalogNotFound, GeoCatalogProtocolError):  # there is none, or it is no picture
        return None


def stored_name(asset: Mapping[str, Any]) -> str:
    """Return the name of the file of a collection's asset in managed storage."""
    name = PurePosixPath(unquote(urlsplit(str(asset.get("href") or "")).path)).name
    return "" if name == ".." else name


# --- applying --------------------------------------------------------------------------------------------------------


def apply_collection(
    wanted: WantedCollection,
    *,
    prune: bool = False,
    approved: Mapping[str, Any] | None = None,
    policy: PollPolicy | None = None,
    deadline: float | None = None,
) -> Flow[CollectionPlan]:
    """
    Make exactly the writes that are needed; a second call makes none.

    :param prune: As for :func:`plan_collection`.
    :param approved: A plan as a JSON object; anything that is not in it is refused before the first write.
    :param policy: How often to look whether a new collection is there.
    :param deadline: Epoch seconds at which to stop waiting for a new collection.
    :return: What was done.
    :raises GeoCatalogConflict: The service would refuse something, or it was not approved; nothing was written.
    """
    plan = yield from plan_collection(wanted, prune=prune)
    plan.require_possible()
    if approved is not None:
        plan.require_approved(approved)
    collection_id, changes = wanted.collection_id, plan.changes
    if wanted.collection is not None and any(_is_creation(entry) for entry in changes):
        begun = yield from begin_create_collection(wanted.collection, if_exists=IfExists.SKIP, deadline=deadline)
        if begun.started is not None:
            yield from finish(begun.started, policy=policy or PollPolicy(), deadline=deadline)
        log.info("Collection %r: it is there now.", collection_id)
        # What a new collection has from the beginning is read, not presumed.
        rest = yield from plan_collection(wanted, prune=prune)
        rest.require_possible()
        changes = rest.changes
    for entry in changes:
        if entry.write is not None:
            yield from entry.write()
            log.info("Collection %r: %s %s.", collection_id, entry.action.value, entry.label)
    return plan


def _is_creation(entry: PlanEntry) -> bool:
    return entry.kind == "collection" and entry.action is Action.CREATE
