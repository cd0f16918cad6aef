"""Count waits: items that are waited for, and how waits end."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from airflow_provider_geocatalog.measures import ITEMS, WAIT_DURATION, WAITED_FOR, WAITS_ENDED, tags_arrive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_geocatalog.api.models import Operation

__all__ = ["WaitMetrics"]

_ITEM_OUTCOMES = ("succeeded", "failed")
_GIVEN_UP = frozenset({"timeout", "unreadable"})  # outcomes of waits whose operation has not ended
#: Items by state, for each set of tags: waits that share their tags share their gauges, and without tags all do.
_waited_for: dict[tuple[tuple[str, str], ...], Counter[str]] = {}


class WaitMetrics:
    """
    Count one wait.

    :param conn_id: Connection, for the tags.
    :param collection_id: Collection, for the tags; as the operation names it, if not given.
    :param began: Epoch seconds at which the work began; now, if not given.
    """

    def __init__(self, conn_id: str, collection_id: str | None = None, *, began: float | None = None) -> None:
        self._tags = {"conn_id": conn_id}
        if collection_id:
            self._tags["collection_id"] = collection_id
        self._began = time.time() if began is None else began
        self._counts: Mapping[str, int] = {}

    def observe(self, operation: Operation) -> None:
        """Tell how far the operation is."""
        if operation.collection_id:
            self._tags.setdefault("collection_id", operation.collection_id)
        if operation.counts is not None:
            self._tell(operation.counts.to_json())

    def _tell(self, counts: Mapping[str, int]) -> None:
        shared = _waited_for.setdefault(tuple(self._tags.items()) if tags_arrive() else (), Counter())
        for state in counts.keys() | self._counts.keys():
            shared[state] += counts.get(state, 0) - self._counts.get(state, 0)
            WAITED_FOR.gauge(state, shared[state], self._tags)
        self._counts = counts

    def ended(self, outcome: str) -> None:
        """
        Tell how the wait ended.

        :param outcome: ``succeeded``, ``failed``, ``canceled``, ``timeout`` or ``unreadable``.
        """
        tags = {**self._tags, "outcome": outcome}
        WAITS_ENDED.count(1, tags)
        WAIT_DURATION.time(time.time() - self._began, tags)
        if outcome in _GIVEN_UP:
            return
        for state in _ITEM_OUTCOMES:
            if self._counts.get(state):
                ITEMS.count(self._counts[state], {**self._tags, "outcome": state})

    def close(self) -> None:
        """Take the operation's items out of the gauges: nobody waits for them here any more."""
        self._tell({})
