"""Create items, exactly once: look at the operations and the catalog, then send what is missing."""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.calls import is_ambiguous
from airflow_provider_geocatalog.api.errors import GeoCatalogError
from airflow_provider_geocatalog.api.http import Pause
from airflow_provider_geocatalog.api.operations.items import create_item, search
from airflow_provider_geocatalog.api.operations.operations import list_operations
from airflow_provider_geocatalog.api.statuses import ACTIVE_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_geocatalog.api.calls import Started
    from airflow_provider_geocatalog.api.http import Flow
    from airflow_provider_geocatalog.api.models import Operation

__all__ = [
    "IDS_PER_SEARCH",
    "IfItemExists",
    "Sent",
    "absent_items",
    "active_additions",
    "items_by_id",
    "present_items",
    "send_items",
]

log = logging.getLogger(__name__)

#: Ids that one search asks for.
IDS_PER_SEARCH = 100
_TYPE, _REPLACING = "AddItem", "UpdateItem"
_NEWEST = 100  # operations on a page
#: Looks for what the read side may show late, and the seconds between them.
_LOOKS = 4
_LOOK_AGAIN = 2.0


class IfItemExists(enum.Enum):
    """What creating items does with those whose id is taken."""

    SKIP = "skip"
    FAIL = "fail"


@dataclass(frozen=True)
class Sent:
    """
    What came of sending items.

    :param started: The service's answer; ``None`` if that was lost.
    :param perhaps: Where it was lost, the operations that may be the one that was started.
    """

    started: Started | None
    perhaps: tuple[Operation, ...] = ()


def items_by_id(
    collection_id: str, item_ids: Sequence[str], *, include: Sequence[str] = ()
) -> Flow[dict[str, dict[str, Any]]]:
    """
    Return those of some items that are in a collection, by id: one search per hundred ids.

    :param include: Members to read beside the id, as in the STAC fields extension.
    """
    found: dict[str, dict[str, Any]] = {}
    for batch in _batches(item_ids, IDS_PER_SEARCH):
        pages = search(
            collections=[collection_id],
            ids=batch,
            limit=len(batch),
            fields={"include": ["id", "collection", *include]},
        )
        found |= {str(item["id"]): item for item in (yield from pages.read_all()) if "id" in item}
    return found


def present_items(collection_id: str, item_ids: Sequence[str]) -> Flow[set[str]]:
    """Return which of some items are in a collection: one search per hundred ids."""
    return set((yield from items_by_id(collection_id, item_ids)))


def _batches(values: Sequence[str], size: int) -> Iterable[list[str]]:
    return (list(values[start : start + size]) for start in range(0, len(values), size))


def absent_items(collection_id: str, item_ids: Sequence[str], *, expected: int) -> Flow[list[str]]:
    """
    Return which of some items are not in a collection, giving the read side a moment to show those that are.

    :param expected: How many are known to be absent.
    """
    absent = list(item_ids)
    for look in range(_LOOKS):
        if look:
            yield Pause(_LOOK_AGAIN)
        present = yield from present_items(collection_id, absent)
        absent = [item_id for item_id in absent if item_id not in present]
        if len(absent) <= expected:
            break
    return absent


def active_additions(collection_id: str, *, most_items: int, replacements: bool = False) -> Flow[list[Operation]]:
    """
    Return the operations that are adding items to a collection.

    :param most_items: Operations with more items than this are left out.
    :param replacements: Whether those that replace an item count as well.
    """
    types = (None, _TYPE, _REPLACING) if replacements else (None, _TYPE)
    found: dict[str, Operation] = {}
    for word in ACTIVE_WORDS:  # the order in which operations move on, so that none is between two lists
        for operation in (yield from list_operations(collection_id=collection_id, status=word).read_all()):
            found[operation.operation_id] = operation
    return [operation for operation in found.values() if _may_add(operation, most_items, types)]


def _may_add(operation: Operation, most_items: int, types: tuple[str | None, ...] = (None, _TYPE)) -> bool:
    few_enough = operation.counts is None or operation.counts.total <= most_items
    return operation.type in types and few_enough


def send_items(collection_id: str, items: Sequence[dict[str, Any]]) -> Flow[Sent]:
    """
    Send items, once.

    After an ambiguous answer it looks for the operation that the service may have started. Another client can have
    started one in the same moment, so what it finds is not known to be its own.

    :param items: STAC Items whose ids are free.
    :raises GeoCatalogError: They were not accepted, or nothing is seen of them after an ambiguous answer.
    """
    known = {operation.operation_id for operation in (yield from _newest(collection_id))}
    try:
        body = {"type": "FeatureCollection", "features": list(items)}
        return Sent((yield from create_item(collection_id, body)))
    except GeoCatalogError as error:
        if not is_ambiguous(error):
            raise
        log.warning("%s Looking whether the items were accepted all the same.", error)
        for _ in range(_LOOKS):
            yield Pause(_LOOK_AGAIN)
            new = yield from _newest(collection_id, before=known)
            perhaps = tuple(operation for operation in new if _may_add(operation, len(items)))
            if perhaps:
                return Sent(None, perhaps)
        if len((yield from present_items(collection_id, [item["id"] for item in items]))) == len(items):
            return Sent(None)
        raise


def _newest(collection_id: str, *, before: set[str] | None = None) -> Flow[list[Operation]]:
    """
    Return a page of a collection's operations, newest first.

    :param before: Leave these out, and read on until one of them comes.
    """
    pages = list_operations(collection_id=collection_id, top=_NEWEST)
    found: list[Operation] = []
    while (page := (yield from pages.next_page())) is not None:
        found += [operation for operation in page if operation.operation_id not in (before or ())]
        if before is None or any(operation.operation_id in before for operation in page):
            break
    return found
