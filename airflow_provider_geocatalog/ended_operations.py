"""
Which operations of a GeoCatalog have ended since somebody looked last.

The service lists operations by the time of their creation, and they end in another order. So whoever looks remembers
which were active, and looks for those wherever they are by now.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import NO_RETRIES, pages
from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogNotFound, GeoCatalogServerError
from airflow_provider_geocatalog.api.models import Operation
from airflow_provider_geocatalog.api.operations.operations import get_operation
from airflow_provider_geocatalog.api.statuses import ACTIVE_WORDS

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from airflow_provider_geocatalog.api.http import Flow
    from airflow_provider_geocatalog.client import GeoCatalogClient

__all__ = ["Ledger", "View", "look"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_PAGE = "200"  # operations; the service is known to answer with as many (geocatalog-api 4.2)
_MOST_PAGES = 50  # of a list, in one look
_FEW = 20  # operations that are read by their ids sooner than looked for in lists
_READS_AT_ONCE = 8
_TRIES = 3  # for a request that the service fails to answer; one that fails makes the whole look vain
_TRY_PAUSE = 1.0  # seconds
_LAG = 60.0  # seconds by which a list may show an operation later than one that was created after it


@dataclass(frozen=True)
class View:
    """
    What one look showed: whatever is active, and whatever was created since some moment.

    :param active: By id.
    :param ended: By id.
    :param created: Epoch seconds of their creation; worked out once, as a view can have many readers.
    :param reach: Epoch seconds; every operation that was created since is among them.
    :param gone: Operations that were active and do not exist any more.
    :param unread: Operations that were active and cannot be read.
    :param began: When the look began, on a clock that never goes back.
    """

    active: Mapping[str, Operation]
    ended: Mapping[str, Operation]
    created: Mapping[str, float]
    reach: float
    gone: AbstractSet[str]
    unread: AbstractSet[str]
    began: float


class Ledger:
    """
    What somebody knows who is told once of each operation that ends.

    :param started: Epoch seconds; what had ended before is not told.
    :param wants: Whether anything is to be told of an operation, however it ends.
    """

    def __init__(self, started: float, wants: Callable[[Operation], bool] = lambda _: True) -> None:
        self._started = started
        self._wants = wants
        self._newest: float | None = None  # creation, in epoch seconds, of the newest operation that was seen
        self._told: dict[str, float] = {}  # ended operations that the next view shows again, and their creation
        self._taken = -math.inf  # when the view that was taken last began
        self.active: frozenset[str] = frozenset()

    @property
    def is_new(self) -> bool:
        """Whether no view has been taken yet."""
        return self._newest is None

    @property
    def since(self) -> float:
        """How far back a view has to reach, as the creation of operations in epoch seconds."""
        return math.inf if self._newest is None else self._newest - _LAG

    def to_json(self) -> dict[str, Any]:
        """Return what is known as a JSON object."""
        return {"newest": self._newest, "active": sorted(self.active), "told": dict(sorted(self._told.items()))}

    def restore(self, data: Any) -> None:
        """
        Go on from what was known.

        :param data: What :meth:`to_json` has returned.
        :raises ValueError: It has not.
        """
        try:
            newest, active, told = float(data["newest"]), frozenset(map(str, data["active"])), dict(data["told"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        self._newest, self.active, self._told = newest, active, told

    def goes_on_with(self, view: View) -> bool:
        """Return whether nothing can have ended unseen between what is known and a view."""
        if view.began <= self._taken:
            return True
        known = (view.active, view.ended, view.gone, view.unread)
        return view.reach <= self.since and all(any(one in part for part in known) for one in self.active)

    def take(self, view: View) -> list[Operation]:
        """Take note of a view, and return the wanted operations that have ended since, in the order of their ends."""
        if view.began <= self._taken:
            return []  # it shows the past
        self._taken = view.began
        news = [one for name, one in view.ended.items() if self._is_news(name, one, view) and self._wants(one)]
        self._newest = max([*view.created.values(), self._newest or 0.0])
        recent = [name for name in view.ended if view.created[name] >= self.since]
        self._told |= {name: view.created[name] for name in recent if self._wants(view.ended[name])}
        self._told = {name: created for name, created in self._told.items() if created >= self.since}
        still = {name for name, one in view.active.items() if name not in self._told and self._wants(one)}
        self.active = frozenset(still | (self.active & view.unread))
        return sorted(news, key=lambda one: (_epoch(one.ended_at, math.inf), one.operation_id))

    def _is_news(self, name: str, operation: Operation, view: View) -> bool:
        if self.is_new:
            return _epoch(operation.ended_at) >= self._started
        return name not in self._told and (name in self.active or view.created[name] >= self.since)


def _epoch(moment: datetime.datetime | None, default: float = 0.0) -> float:
    return default if moment is None else moment.timestamp()


async def look(client: GeoCatalogClient, ledger: Ledger) -> View:
    """
    Look at the operations of a GeoCatalog, on an event loop.

    :param client: Client of the GeoCatalog.
    :param ledger: What is known, which says what is to be looked for.
    :raises GeoCatalogError: They cannot be read.
    """
    began = time.monotonic()
    found: dict[str, Operation] = {}
    reach = await _read_list(client, {}, found, ledger.since)
    if reach > ledger.since:
        log.warning("More operations were created than one look lists; those that have ended already may stay untold.")
    if ledger.is_new or len(ledger.active - found.keys()) > _FEW:
        # In the order in which operations move on, so that none is between two lists.
        for word in ACTIVE_WORDS:
            await _read_list(client, {"status": word}, found, -math.inf)
    gone, unread = await _read_each(client, ledger.active - found.keys(), found)
    ended = {name: operation for name, operation in found.items() if operation.status.is_final}
    active = {name: operation for name, operation in found.items() if name not in ended}
    created = {name: _epoch(operation.created_at) for name, operation in found.items()}
    return View(active, ended, created, reach, gone, unread, began)


async def _read_list(
    client: GeoCatalogClient, filters: Mapping[str, str], found: dict[str, Operation], since: float
) -> float:
    """Read a list, newest first, back to a moment, and return the moment that was reached."""
    query = {"$top": _PAGE, **filters}
    listed = pages(endpoints.LIST_OPERATIONS, Operation.from_json, query=query, retries=NO_RETRIES)
    oldest = math.inf
    for _ in range(_MOST_PAGES):
        page = await _ask(client, listed.next_page)
        if page is None:
            return -math.inf
        found.update((operation.operation_id, operation) for operation in page)
        oldest = min([oldest, *(_epoch(operation.created_at, math.inf) for operation in page)])
        if oldest < since:
            break
    return oldest


async def _read_each(
    client: GeoCatalogClient, ids: AbstractSet[str], found: dict[str, Operation]
) -> tuple[set[str], set[str]]:
    """Read operations by their ids; return those that do not exist, and those that cannot be read."""
    gone, unread = set(), set()
    at_once = asyncio.Semaphore(_READS_AT_ONCE)

    async def read(operation_id: str) -> None:
        async with at_once:
            try:
                found[operation_id] = await _ask(client, lambda: get_operation(operation_id, retries=NO_RETRIES))
            except GeoCatalogNotFound:
                gone.add(operation_id)
            except GeoCatalogError as error:
                if error.retryable:
                    raise
                unread.add(operation_id)  # the others are not to wait for it

    for outcome in await asyncio.gather(*map(read, ids), return_exceptions=True):
        if outcome is not None:
            raise outcome
    return gone, unread


async def _ask(client: GeoCatalogClient, make: Callable[[], Flow[T]]) -> T:
    for _ in range(_TRIES - 1):
        try:
            return await client.arun(make())
        except GeoCatalogServerError as error:
            if not error.retryable or error.retry_after:
                raise
        await client.clock.asleep(_TRY_PAUSE)
    return await client.arun(make())
