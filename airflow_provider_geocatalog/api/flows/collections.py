"""Create, replace and delete collections in every version's way."""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.calls import Started, is_ambiguous
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogConflict,
    GeoCatalogError,
    GeoCatalogNotFound,
)
from airflow_provider_geocatalog.api.http import Flow, Now, Pause
from airflow_provider_geocatalog.api.operations import collections as service
from airflow_provider_geocatalog.api.operations.collections import get_collection
from airflow_provider_geocatalog.api.operations.operations import list_operations

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CollectionChange",
    "IfExists",
    "begin_create_collection",
    "begin_delete_collection",
    "find_collection",
    "replace_collection",
    "same_collection",
    "visible_collection",
]

log = logging.getLogger(__name__)

#: Seconds that a collection id stays taken after its deletion: documented as "at least 45", with some to spare.
_ID_STAYS_TAKEN = 90.0
_TAKEN_RETRY = 5.0  # seconds between attempts, as the SDK's own tests do it
_LOOKS = 4  # looks for what an ambiguous call did, and the seconds between them
_LOOK_AGAIN = 2.0
_CLOCK_SKEW = 60.0  # seconds
_VISIBLE_WITHIN = 30.0  # seconds for the read side to show what the write side has created
#: Members that the service makes itself, or adds to; they are not compared as they are.
_SERVICE_MEMBERS = ("links", "assets", "stac_extensions")
_SERVICE_PREFIXES = ("msft:_", "_msft:")


class IfExists(enum.Enum):
    """What creating a collection does when it exists already."""

    FAIL = "fail"
    SKIP = "skip"
    UPDATE = "update"


@dataclass(frozen=True)
class CollectionChange:
    """
    What was done to a collection.

    :param action: ``created``, ``updated``, ``unchanged``, ``skipped``, ``deleted`` or ``absent``.
    :param started: The operation to wait for, if the service works on it still.
    """

    collection_id: str
    action: str
    started: Started | None = None


def find_collection(collection_id: str) -> Flow[dict[str, Any] | None]:
    """Read a collection, or return ``None`` if there is none with this id."""
    try:
        return (yield from get_collection(collection_id))
    except GeoCatalogNotFound:
        return None


def visible_collection(collection_id: str) -> Flow[dict[str, Any]]:
    """
    Read a collection that was just created, giving the read side a moment to show it.

    :raises GeoCatalogNotFound: It did not appear.
    """
    started_at: float = yield Now()
    while True:
        try:
            return (yield from get_collection(collection_id))
        except GeoCatalogNotFound:
            now: float = yield Now()
            if now - started_at > _VISIBLE_WITHIN:
                raise
        yield Pause(1.0)


def begin_create_collection(
    collection: Mapping[str, Any], *, if_exists: IfExists, resumed: bool = False
) -> Flow[CollectionChange]:
    """
    Create a collection, or bring an existing one in line.

    Creating answers ``202`` with an operation to wait for, or ``201`` in the oldest api-version. The id of a collection
    deleted less than 45 seconds ago is still taken; this waits until it is free.

    :param collection: The STAC Collection, checked before.
    :param if_exists: What to do if it exists already.
    :param resumed: Whether an earlier try may have created it: then one that says the same is no conflict.
    :raises GeoCatalogConflict: It exists and ``if_exists`` is *fail*.
    """
    collection_id = str(collection["id"])
    existing = yield from find_collection(collection_id)
    if existing is not None:
        return (yield from _meet_existing(collection, existing, if_exists, resumed))
    body = {"links": [], **collection}
    first_try_at: float = yield Now()
    while True:
        try:
            started = yield from service.create_collection(body)
        except GeoCatalogError as error:
            if is_ambiguous(error):
                adopted = yield from _adopt_creation(collection_id, since=first_try_at, error=error)
                return CollectionChange(collection_id, "created", adopted)
            if not isinstance(error, GeoCatalogConflict):
                raise
            existing = yield from find_collection(collection_id)
            if existing is not None:  # another task was faster
                return (yield from _meet_existing(collection, existing, if_exists, resumed))
            now: float = yield Now()
            if now - first_try_at > _ID_STAYS_TAKEN:
                raise
            log.info("The id %r is still taken by a collection deleted a moment ago; waiting.", collection_id)
            yield Pause(_TAKEN_RETRY)
        else:
            return CollectionChange(collection_id, "created", started)


def _adopt_creation(collection_id: str, *, since: float, error: GeoCatalogError) -> Flow[Started]:
    """Find the operation that a call started whose answer was lost, or raise the call's error."""
    log.warning("%s Looking whether the collection is being created all the same.", error)
    for _ in range(_LOOKS):
        yield Pause(_LOOK_AGAIN)
        for operation in (yield from list_operations(collection_id=collection_id).read_all()):
            # The service's clock may differ from ours by a little.
            recent = operation.created_at is None or operation.created_at.timestamp() > since - _CLOCK_SKEW
            if operation.type == "AddCollection" and recent:
                return Started(operation)
    raise error


def _meet_existing(
    collection: Mapping[str, Any], existing: Mapping[str, Any], if_exists: IfExists, resumed: bool
) -> Flow[CollectionChange]:
    collection_id = str(collection["id"])
    if if_exists is IfExists.FAIL and resumed and same_collection(collection, existing):
        return CollectionChange(collection_id, "created")
    if if_exists is IfExists.FAIL:
        raise GeoCatalogConflict(
            f"collection {collection_id!r} exists already",
            hint="Use if_exists='update' to bring it in line, or 'skip' to leave it alone.",
        )
    if if_exists is IfExists.SKIP:
        return CollectionChange(collection_id, "skipped")
    return (yield from replace_collection(collection, existing=existing))


def same_collection(wanted: Mapping[str, Any], existing: Mapping[str, Any]) -> bool:
    """
    Return whether an existing collection says what the user wants.

    Links, managed assets and the service's own members do not count, nor do members that are ``null``. The service may
    add extensions (the documentation says so, recordings show none), so the existing collection may have more of them.
    """
    extensions = set(wanted.get("stac_extensions") or ()), set(existing.get("stac_extensions") or ())
    return _essence(wanted) == _essence(existing) and extensions[0] <= extensions[1]


def _essence(collection: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in collection.items()
        if value is not None and name not in _SERVICE_MEMBERS and not name.startswith(_SERVICE_PREFIXES)
    }


def replace_collection(
    collection: Mapping[str, Any], *, existing: Mapping[str, Any] | None = None
) -> Flow[CollectionChange]:
    """
    Replace a collection's metadata, keeping the assets that the service manages (it refuses a body without them).

    :param collection: The STAC Collection, without ``assets``.
    :param existing: What is there now, if the caller has just read it.
    :raises GeoCatalogNotFound: There is no such collection.
    """
    collection_id = str(collection["id"])
    if existing is None:
        existing = yield from get_collection(collection_id)
    if same_collection(collection, existing):
        return CollectionChange(collection_id, "unchanged")
    body = {"links": [], **collection}
    if existing.get("assets"):
        body["assets"] = existing["assets"]
    yield from service.replace_collection(collection_id, body)
    return CollectionChange(collection_id, "updated")


def begin_delete_collection(collection_id: str, *, missing_ok: bool = True) -> Flow[CollectionChange]:
    """
    Delete a collection with its items and assets.

    :param missing_ok: Whether a collection that is not there is fine.
    :raises GeoCatalogNotFound: It is not there and ``missing_ok`` is false.
    """
    try:
        started = yield from service.delete_collection(collection_id)
    except GeoCatalogNotFound:
        if not missing_ok:
            raise
        return CollectionChange(collection_id, "absent")
    return CollectionChange(collection_id, "deleted", started)
