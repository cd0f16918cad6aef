"""Create, replace and delete collections in every version's way."""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import Started, is_ambiguous
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogConflict,
    GeoCatalogError,
    GeoCatalogNotFound,
    GeoCatalogWaitTimeout,
)
from airflow_provider_geocatalog.api.flows.waiting import finish
from airflow_provider_geocatalog.api.http import Flow, Now, Pause, Request
from airflow_provider_geocatalog.api.operations import collections as service
from airflow_provider_geocatalog.api.operations.collections import get_collection
from airflow_provider_geocatalog.api.operations.items import list_items
from airflow_provider_geocatalog.api.operations.operations import list_operations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_geocatalog.api.models import Operation

__all__ = [
    "CollectionChange",
    "IdTaken",
    "IfExists",
    "begin_create_collection",
    "begin_delete_collection",
    "changed_members",
    "find_collection",
    "replace_collection",
    "same_collection",
    "try_create_collection",
    "visible_collection",
    "wait_until_gone",
]

log = logging.getLogger(__name__)

#: Seconds from the end of a deletion until the id can be used again: documented as "at least 45".
_ID_FREE_AFTER = 46.0
_ID_STAYS_TAKEN = 90.0  # seconds for which refusals of an id that nobody has are borne
_TAKEN_RETRY = 5.0  # seconds between attempts, as the SDK's own tests do it
_LOOKS = 4  # looks for what an ambiguous call did, and the seconds between them
_LOOK_AGAIN = 2.0
_CLOCK_SKEW = 60.0  # seconds
_VISIBLE_WITHIN = 30.0  # seconds for the read side to show what the write side has created
_NEWEST = 100  # operations that are looked at
_ADDITION, _DELETION = "AddCollection", "DeleteCollection"
_COUNTED = 1_000  # items that are counted at once, so that a refusal can tell their number
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
    :param changed: The members that an update has changed.
    :param own: Whether the operation is what this call has started, as far as can be told.
    """

    collection_id: str
    action: str
    started: Started | None = None
    changed: tuple[str, ...] = ()
    own: bool = True


@dataclass(frozen=True)
class IdTaken:
    """
    A collection's id is not free yet: the one that had it is being deleted, or was a moment ago.

    :param again_at: Epoch seconds at which to try again.
    :param refused_at: Epoch seconds of the first refusal after the collection had gone, if it has.
    """

    collection_id: str
    again_at: float
    refused_at: float | None = None

    def require_before(self, deadline: float | None) -> None:
        """
        Return if there is time left for another try.

        :param deadline: Epoch seconds; ``None`` if there is none.
        :raises GeoCatalogWaitTimeout: There is not.
        """
        if deadline is not None and self.again_at > deadline:
            raise GeoCatalogWaitTimeout(
                f"the id {self.collection_id!r} did not become free in time: its last collection is being deleted, or "
                "was a moment ago",
                hint="Raise the task's timeout, or look at the deletion in the GeoCatalog.",
            )


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
    collection: Mapping[str, Any], *, if_exists: IfExists, resumed: bool = False, deadline: float | None = None
) -> Flow[CollectionChange]:
    """
    Create a collection, or bring an existing one in line.

    Creating answers ``202`` with an operation to wait for, or ``201`` in the oldest api-version. An id whose collection
    is being deleted, or was less than 45 seconds ago, is taken; this waits until it is free.

    :param collection: The STAC Collection, checked before.
    :param if_exists: What to do if it exists already.
    :param resumed: Whether an earlier try may have created it: then one that says the same is no conflict.
    :param deadline: Epoch seconds at which to give up waiting for the id; ``None`` waits for every deletion to end.
    :raises GeoCatalogConflict: It exists and ``if_exists`` is *fail*, or its id does not become free.
    :raises GeoCatalogWaitTimeout: The deadline passed.
    """
    taken: IdTaken | None = None
    while True:
        result = yield from try_create_collection(collection, if_exists=if_exists, resumed=resumed, taken=taken)
        if isinstance(result, CollectionChange):
            return result
        taken = result
        taken.require_before(deadline)
        now: float = yield Now()
        yield Pause(max(0.0, taken.again_at - now))


def try_create_collection(
    collection: Mapping[str, Any], *, if_exists: IfExists, resumed: bool = False, taken: IdTaken | None = None
) -> Flow[CollectionChange | IdTaken]:
    """
    Create a collection as :func:`begin_create_collection` does, but leave it to the caller to wait for its id.

    :param taken: What the last try returned.
    :return: When to try again, if the id is taken by a deleted collection.
    """
    collection_id = str(collection["id"])
    if taken is None or taken.refused_at is None:
        existing = yield from find_collection(collection_id)
        if existing is not None:
            return (yield from _meet_existing(collection, existing, if_exists, resumed))
    sent_at: float = yield Now()
    try:
        started = yield from service.create_collection({"links": [], **collection})
    except GeoCatalogError as error:
        if is_ambiguous(error):
            adopted = yield from _adopt_creation(collection_id, since=sent_at, error=error)
            return CollectionChange(collection_id, "created", adopted)
        if not isinstance(error, GeoCatalogConflict):
            raise
        existing = yield from find_collection(collection_id)
        if existing is not None:  # another task was faster
            return (yield from _meet_existing(collection, existing, if_exists, resumed))
        return (yield from _stay_away(collection_id, taken, error))
    return CollectionChange(collection_id, "created", started)


def _stay_away(collection_id: str, taken: IdTaken | None, error: GeoCatalogConflict) -> Flow[IdTaken]:
    """Return when to try again with an id that nobody has and that was refused, or raise the refusal."""
    now: float = yield Now()
    refused_at = taken.refused_at if taken is not None and taken.refused_at is not None else now
    if now - refused_at > _ID_STAYS_TAKEN:
        raise error
    wait = _TAKEN_RETRY
    deletion = yield from _last_deletion(collection_id)
    if deletion is not None and deletion.ended_at is not None:
        left = deletion.ended_at.timestamp() + _ID_FREE_AFTER - now
        # The service's clock may differ from ours, so it is asked again in any case.
        wait = min(left, _ID_FREE_AFTER) if left > 0 else wait
    log.info("The id %r is still taken by a collection deleted a moment ago; waiting for %.0f s.", collection_id, wait)
    return IdTaken(collection_id, now + wait, refused_at)


def _newest_operations(collection_id: str) -> Flow[list[Operation]]:
    """Return the newest operations of a collection, newest first."""
    return (yield from list_operations(collection_id=collection_id, top=_NEWEST).next_page()) or []


def _last_deletion(collection_id: str) -> Flow[Operation | None]:
    """Return the deletion of a collection that was started last, if it is among the newest operations."""
    operations = yield from _newest_operations(collection_id)
    return next((operation for operation in operations if operation.type == _DELETION), None)


def _adopt_creation(collection_id: str, *, since: float, error: GeoCatalogError) -> Flow[Started]:
    """Find the operation that a call started whose answer was lost, or raise the call's error."""
    log.warning("%s Looking whether the collection is being created all the same.", error)
    for _ in range(_LOOKS):
        yield Pause(_LOOK_AGAIN)
        for operation in (yield from _newest_operations(collection_id)):
            if operation.type == _DELETION:
                break  # what is older has made the collection that this has deleted
            if operation.type == _ADDITION and _is_recent(operation, since):
                return Started(operation)
    raise error


def _is_recent(operation: Operation, since: float) -> bool:
    """Return whether an operation may have been started since a moment; the service's clock may differ from ours."""
    return operation.created_at is None or operation.created_at.timestamp() > since - _CLOCK_SKEW


def _meet_existing(
    collection: Mapping[str, Any], existing: Mapping[str, Any], if_exists: IfExists, resumed: bool
) -> Flow[CollectionChange | IdTaken]:
    collection_id = str(collection["id"])
    deletion = yield from _last_deletion(collection_id)
    if deletion is not None and not deletion.status.is_final:
        log.info("Collection %r is being deleted; waiting until it is gone.", collection_id)
        now: float = yield Now()
        return IdTaken(collection_id, now + _TAKEN_RETRY)
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
    """Return whether an existing collection says what the user wants, see :func:`changed_members`."""
    return not changed_members(wanted, existing)


def changed_members(wanted: Mapping[str, Any], existing: Mapping[str, Any]) -> tuple[str, ...]:
    """
    Return the names of the members in which an existing collection differs from what the user wants.

    Links, managed assets and the service's own members do not count, nor do members that are ``null``. The service may
    add extensions (the documentation says so, recordings show none), so the existing collection may have more of them.
    """
    new, old = _essence(wanted), _essence(existing)
    changed = {name for name in new.keys() | old.keys() if name not in new or name not in old or new[name] != old[name]}
    if not set(wanted.get("stac_extensions") or ()) <= set(existing.get("stac_extensions") or ()):
        changed.add("stac_extensions")
    return tuple(sorted(changed))


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
    changed = changed_members(collection, existing)
    if not changed:
        return CollectionChange(collection_id, "unchanged")
    body = {"links": [], **collection}
    if existing.get("assets"):
        body["assets"] = existing["assets"]
    yield from service.replace_collection(collection_id, body)
    return CollectionChange(collection_id, "updated", changed=changed)


def begin_delete_collection(
    collection_id: str, *, missing_ok: bool = True, most_items: int | None = None
) -> Flow[CollectionChange]:
    """
    Delete a collection with its items and assets.

    Where the answer of the deletion was lost, and where a collection is being deleted already, the operation that does
    it is found and returned.

    :param missing_ok: Whether a collection that is not there is fine.
    :param most_items: Items that may be lost with it; ``None`` for any number.
    :raises GeoCatalogConflict: It holds more items.
    :raises GeoCatalogNotFound: It is not there and ``missing_ok`` is false.
    """
    try:
        if most_items is not None:
            yield from _require_few_items(collection_id, most_items)
        sent_at: float = yield Now()
        started = yield from service.delete_collection(collection_id)
    except GeoCatalogNotFound:
        deletion = yield from _last_deletion(collection_id)
        if deletion is not None and not deletion.status.is_final:
            return CollectionChange(collection_id, "deleted", Started(deletion), own=False)
        if not missing_ok:
            raise
        return CollectionChange(collection_id, "absent")
    if started.operation is None:
        # Some api-versions delete at once; but it may also be that the first answer was lost, and the second attempt
        # found nothing left to delete.
        deletion = yield from _last_deletion(collection_id)
        if deletion is not None and (not deletion.status.is_final or _is_recent(deletion, sent_at)):
            started = Started(deletion)
    return CollectionChange(collection_id, "deleted", started)


def _require_few_items(collection_id: str, most: int) -> Flow[None]:
    pages = list_items(collection_id, limit=_COUNTED)  # a search is a POST, which no dry run sends
    count = 0
    while (page := (yield from pages.next_page())) is not None:
        count += len(page)
        if count > most:
            number = count if len(page) < _COUNTED else f"at least {count}"
            raise GeoCatalogConflict(
                f"collection {collection_id!r} holds {number} items, which would be deleted with it",
                hint=f"Nothing was deleted. Confirm it with confirm_items='all', or with at least their number; "
                f"confirmed are {most}.",
            )


def wait_until_gone(collection_id: str) -> Flow[None]:
    """
    Wait until the read side does not show a deleted collection any more.

    :raises GeoCatalogWaitTimeout: It still does.
    """
    request = Request(endpoints.GET_COLLECTION, {"collection_id": collection_id})
    yield from finish(Started(None, resource=request, removes=True))
