"""What triggers of asset watchers share: they run for ever, remember what they have fired, and never fail."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from abc import abstractmethod
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from airflow_provider_geocatalog.api.numbers import seconds

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence

    from airflow.triggers.base import BaseTrigger

__all__ = ["HANDED_OVER", "LONGEST_PAUSE", "Knowledge", "Memory", "SharedLooksTrigger", "Trouble", "names"]

V = TypeVar("V")
Seen = TypeVar("Seen", contravariant=True)

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


class Knowledge(Protocol[Seen]):
    """What a trigger knows of what it has fired."""

    def restore(self, data: Any) -> None:
        """Go on from what :meth:`to_json` has returned; raises a ``ValueError`` if it has not."""

    def to_json(self) -> Any:
        """Return what is known as a JSON value."""

    async def news(self, view: Seen) -> Sequence[dict[str, Any]]:
        """Take note of a view, and return the payloads of the events that it gives rise to."""


class SharedLooksTrigger(BaseEventTrigger, Generic[V]):
    """
    Base of the triggers that look at something again and again, with one look for all that look at the same.

    Looks are shared on Airflow 3.3 and later; before, each trigger has its own. Airflow starts a watcher that failed
    again within two seconds, and a look that failed would fail all who share it, so neither ever fails.

    :cvar kind: Names what a trigger keeps with its asset.
    :cvar doing: What the looks are for, for the log.
    :param poll_interval: Seconds between looks.
    """

    kind: ClassVar[str]
    doing: ClassVar[str]

    def __init__(self, *, poll_interval: float, **_from_other_versions: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.poll_interval = seconds(poll_interval, "poll_interval", above_zero=True)

    @abstractmethod
    def target(self) -> dict[str, Any]:
        """Return the arguments that say what is looked at, as JSON."""

    @abstractmethod
    def filters(self) -> dict[str, Any]:
        """Return the arguments that say which events this trigger makes of it, as JSON."""

    @abstractmethod
    def looker(self) -> Callable[[], Awaitable[V]]:
        """Return what looks each time that it is called."""

    @abstractmethod
    def knowledge(self) -> Knowledge[V]:
        """Return what a trigger knows that has fired nothing yet."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and exactly the arguments that make this trigger again."""
        arguments = {**self.target(), **self.filters(), "poll_interval": self.poll_interval}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire for ever, with looks of its own; for versions of Airflow without shared streams."""
        async with aclosing(self.open_shared_stream(self.serialize()[1])) as views:
            async for event in self.filter_shared_stream(views):
                yield event

    def shared_stream_key(self) -> Hashable | None:
        """Return what triggers that share their looks have in common."""
        return (self.serialize()[0], json.dumps(self.target(), sort_keys=True), self.poll_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncGenerator[V]:
        """
        Look again and again, ever more seldom while that fails.

        :param kwargs: The arguments of one of the triggers.
        """
        from airflow_provider_geocatalog.api.waiting import PollPolicy

        trigger = cls(**kwargs)
        policy = PollPolicy(max(trigger.poll_interval, LONGEST_PAUSE), trigger.poll_interval)
        look, trouble = trigger.looker(), Trouble(trigger.log, cls.doing)
        while True:
            retry_after = None
            try:
                view = await look()
            except Exception as error:
                retry_after = trouble.began(error)
            else:
                trouble.ended()
                yield view
            await asyncio.sleep(policy.delay(trouble.age, retry_after))

    async def filter_shared_stream(self, shared_stream: AsyncIterator[V]) -> AsyncIterator[TriggerEvent]:
        """
        Fire for what is new to this trigger in each view.

        :param shared_stream: The views.
        """
        known, memory = self.knowledge(), Memory(self, self.kind, {**self.target(), **self.filters()})
        trouble = Trouble(self.log, "Going on from what was known")
        async for view in shared_stream:
            try:
                await memory.recall(known.restore)
                payloads = await known.news(view)
            except Exception as error:  # the next view is another chance
                trouble.began(error)
                continue
            for payload in payloads:
                yield TriggerEvent(payload)  # type: ignore[no-untyped-call,unused-ignore]
            if payloads:
                # Sooner it would be worse than a repetition if this process is killed: the events would be lost.
                await asyncio.sleep(min(self.poll_interval, HANDED_OVER))
            try:
                await memory.keep(known.to_json())
            except Exception as error:
                trouble.began(error)
            else:
                trouble.ended()


def names(what: str, given: Sequence[str] | None) -> list[str] | None:
    """Return names in one order, so that Airflow takes equal triggers for one."""
    if given is None:
        return None
    if isinstance(given, str):
        raise ValueError(f"{what} have to be a list, not {given!r}")
    return sorted(set(given))
