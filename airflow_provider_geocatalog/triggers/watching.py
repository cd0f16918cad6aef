"""What triggers of asset watchers share: they run for ever, remember what they have fired, and never fail."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.triggers.base import BaseTrigger

__all__ = ["HANDED_OVER", "LONGEST_PAUSE", "Memory", "Trouble"]

# Seconds:
LONGEST_PAUSE = 600.0  # between looks that fail
HANDED_OVER = 5.0  # until an event that was fired is in Airflow's database; the triggerer sees to that every second
_LONGEST_QUIET = 3600.0  # that a Retry-After holds


class Memory:
    """
    Where a trigger keeps what it knows: with its asset, if this Airflow has a place there.

    :param trigger: The trigger.
    :param kind: What it keeps.
    :param filters: What tells it from other triggers of its asset; JSON values.
    """

    def __init__(self, trigger: BaseTrigger, kind: str, filters: Mapping[str, Any]) -> None:
        self._store: Any = getattr(trigger, "asset_state_store", None)
        self._log = trigger.log
        told = json.dumps(filters, sort_keys=True).encode()
        self._key = f"{kind}_{hashlib.sha256(told).hexdigest()[:16]}"
        self._kept: Any = None
        self._is_recalled = False

    async def recall(self, restore: Callable[[Any], object]) -> None:
        """
        Go on, once, from what was kept.

        :param restore: Takes what was kept; raises a ``ValueError`` if that cannot be it.
        """
        if self._is_recalled or self._store is None:
            return
        try:
            self._kept = await self._ask("get", self._key)
        except ValueError as error:
            self._log.warning("What was fired is not remembered over a restart: %s", error)
            self._store = None
            return
        if self._kept is not None:
            try:
                restore(self._kept)
            except ValueError as error:
                self._log.warning("What was remembered cannot be read, so it is started anew: %s", error)
        self._is_recalled = True

    async def keep(self, known: Any) -> None:
        """Keep what is known, a JSON value, if that has changed."""
        if self._store is not None and known != self._kept:
            await self._ask("set", self._key, known)
            self._kept = known

    async def _ask(self, what: str, *arguments: Any) -> Any:
        awaitable = getattr(self._store, f"a{what}", None)
        if awaitable is not None:
            return await awaitable(*arguments)
        return await asyncio.to_thread(getattr(self._store, what), *arguments)  # Airflow 3.3.0 and 3.3.1


class Trouble:
    """
    Says once that something fails, and once that it works again.

    :param log: Where.
    :param what: What it is about.
    """

    def __init__(self, log: Any, what: str) -> None:
        self._log, self._what = log, what
        self._since: float | None = None
        self._kind: type[Exception] | None = None

    @property
    def age(self) -> float:
        """Seconds since it began to fail; 0 while it works."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def began(self, error: Exception) -> float | None:
        """Take note of a failure, and return the seconds for which the service asked for quiet."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogError

        is_known = isinstance(error, GeoCatalogError)
        if type(error) is not self._kind:
            self._log.warning("%s fails and goes on: %s", self._what, error, exc_info=None if is_known else error)
        self._kind = type(error)
        self._since = self._since or time.monotonic()
        retry_after = error.retry_after if isinstance(error, GeoCatalogError) else None
        return None if retry_after is None else min(retry_after, _LONGEST_QUIET)

    def ended(self) -> None:
        """Take note that it works."""
        if self._since is not None:
            self._log.info("%s works again after %.0f s.", self._what, self.age)
        self._since = self._kind = None
