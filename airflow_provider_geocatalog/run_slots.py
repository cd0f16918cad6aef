"""
Which bulk runs of a GeoCatalog are active, and whose turn it is to start another while fewer than a number are.

What is active is read from the service, so that it counts whoever started it: other DAGs, other Airflows, other tools.
"""

from __future__ import annotations

import asyncio
import copy
import fcntl
import hashlib
import logging
import math
import os
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import GeoCatalogError
from airflow_provider_geocatalog.api.operations.operations import list_operations
from airflow_provider_geocatalog.api.progress import describe_counts
from airflow_provider_geocatalog.api.statuses import ACTIVE_WORDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from airflow_provider_geocatalog.api.http import Flow
    from airflow_provider_geocatalog.api.models import Operation
    from airflow_provider_geocatalog.client import GeoCatalogClient

__all__ = ["RunSlots", "SlotLog", "SlotWait", "SlotsTaken", "active_runs", "describe_runs", "start_lock"]

log = logging.getLogger(__name__)

#: Types of operations that are no bulk runs (geocatalog-api 6.1). That of a geoparquet run is not documented, so
#: whatever is not among these counts as one.
_NO_RUNS = frozenset({"AddCollection", "DeleteCollection", "AddItem", "UpdateItem", "DeleteItem", "DeleteIngestion"})
_SHOWN = 10  # runs that a message names
_NEWEST = 100  # operations among which runs are found that have ended between two looks
# Seconds:
_TURN_KEPT = 60.0  # for which a slot counts as taken whose run does not show: a worker has to take the task up first
_LOCKED_FOR = 60.0  # for which it is tried to be the one on this machine that starts a run
_LOCK_PAUSE = 0.05
_QUIET_FOR = 600.0  # without a line of a log


class SlotsTaken(Exception):
    """
    A run is not started, as there is no slot for it, or it is not known whether there is one.

    :param active: The active runs, oldest first; ``None`` if nobody has looked.
    """

    def __init__(self, active: Sequence[Operation] | None) -> None:
        super().__init__("there is no slot for a run")
        self.active = active


def active_runs() -> Flow[list[Operation]]:
    """Return the bulk runs of the whole GeoCatalog that have not ended, oldest first."""
    found: dict[str, Operation] = {}
    for word in ACTIVE_WORDS:  # the order in which operations move on, so that none is between two lists
        for operation in (yield from list_operations(status=word).read_all()):
            if operation.type not in _NO_RUNS and not operation.status.is_final:
                found[operation.operation_id] = operation
    return sorted(found.values(), key=lambda run: run.created_at.timestamp() if run.created_at else 0.0)


def _newest_runs() -> Flow[set[str]]:
    """Return the ids of the runs among the newest operations, whether they have ended or not."""
    page = yield from list_operations(top=_NEWEST).next_page()
    return {operation.operation_id for operation in page or () if operation.type not in _NO_RUNS}


def describe_runs(runs: Sequence[Operation]) -> str:
    """Return runs by name, and how far they are."""
    told = []
    for run in runs[:_SHOWN]:
        since = f" since {run.created_at:%Y-%m-%d %H:%M:%S} UTC" if run.created_at else ""
        counts = f", {describe_counts(run.counts)}" if run.counts else ""
        told.append(f"run {run.operation_id} into {run.collection_id!r} ({run.status}, there{since}{counts})")
    if len(runs) > _SHOWN:
        told.append(f"{len(runs) - _SHOWN} more")
    return "; ".join(told) or "none"


class SlotLog:
    """
    Say who has the slots: at every change of that, and at least every few minutes.

    :param log: Where.
    :param limit: How many slots there are.
    """

    def __init__(self, log: Any, limit: int) -> None:
        self._log, self._limit = log, limit
        self._told: set[str] | None = None
        self._told_at = -math.inf

    def tell(self, active: Sequence[Operation]) -> None:
        """
        Say it, if it is new.

        :param active: The active runs.
        """
        ids, now = {run.operation_id for run in active}, time.monotonic()
        if ids == self._told and now - self._told_at < _QUIET_FOR:
            return
        self._told, self._told_at = ids, now
        if len(active) >= self._limit:
            text = "Waiting for a slot: %d runs are active and max_active_runs is %d: %s."
        else:
            text = "Waiting for others whose turn it is: %d runs are active and max_active_runs is %d: %s."
        self._log.info(text, len(active), self._limit, describe_runs(active))


@contextmanager
def start_lock(url: str) -> Iterator[None]:
    """
    Be the only one on this machine that looks for a slot of a GeoCatalog and starts a run in it.

    A process that ends, however it ends, lets go. Where there is no place for the lock, everybody goes on without.

    :param url: The GeoCatalog.
    :raises SlotsTaken: Others have been at it all the time.
    """
    name = f"geocatalog-{os.getuid()}-{hashlib.sha256(url.encode()).hexdigest()[:16]}.lock"
    path = Path(tempfile.gettempdir()) / name
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        log.warning("Runs that others on this machine start at this moment may not be seen: %s", error)
        yield
        return
    try:
        give_up = time.monotonic() + _LOCKED_FOR
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    raise SlotsTaken(None) from None
                time.sleep(_LOCK_PAUSE)
        yield
    finally:
        os.close(file)


@dataclass(eq=False)
class SlotWait:
    """
    One that waits for its turn.

    :param limit: Active runs with which there is no slot.
    :param began: Epoch seconds; who has waited longer goes first.
    """

    limit: int
    began: float


class RunSlots:
    """
    Whose turn it is, among all that wait in one event loop for a slot of one GeoCatalog.

    They share their looks. A slot that one of them was let into counts as taken until its run shows.

    :param connect: Returns the client of the connection as it is now.
    """

    def __init__(self, connect: Callable[[], Awaitable[GeoCatalogClient]]) -> None:
        self._connect = connect
        self._looking = asyncio.Lock()
        self._looked_at = -math.inf
        self._error: GeoCatalogError | None = None
        self._active: list[Operation] = []
        self._seen: set[str] = set()
        self._turns: list[float] = []  # when slots were given away whose runs have not shown yet
        self._waits: set[SlotWait] = set()

    @contextmanager
    def waiting(self, wait: SlotWait) -> Iterator[None]:
        """Stand in line."""
        self._waits.add(wait)
        try:
            yield
        finally:
            self._waits.discard(wait)

    async def look(self, max_age: float) -> list[Operation]:
        """
        Return the active runs.

        :param max_age: Seconds for which what a look of another one showed is good enough.
        :raises GeoCatalogError: They cannot be read.
        """
        async with self._looking:
            if time.monotonic() - self._looked_at >= max_age:
                await self._look()
        if self._error is not None:
            raise copy.copy(self._error)
        return self._active

    async def _look(self) -> None:
        self._error = None
        try:
            client = await self._connect()
            self._active = await client.arun(active_runs())
            seen = await client.arun(_newest_runs()) | {run.operation_id for run in self._active}
        except GeoCatalogError as error:
            self._error = error
            return
        finally:
            self._looked_at = time.monotonic()
        del self._turns[: len(seen - self._seen)]
        self._seen = seen

    def take_turn(self, wait: SlotWait) -> bool:
        """Give a slot away, if there is one for everybody who has waited longer and for this one."""
        now = time.monotonic()
        self._turns = [moment for moment in self._turns if now - moment < _TURN_KEPT]
        taken = len(self._active) + len(self._turns)
        ahead = sum(one.limit > taken for one in self._waits if (one.began, id(one)) < (wait.began, id(wait)))
        if taken + ahead >= wait.limit:
            return False
        self._turns.append(now)
        return True
