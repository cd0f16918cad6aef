"""Start DAGs when a source has new items, and when ingestion sources are about to expire: for asset watchers."""

from __future__ import annotations

import asyncio
import datetime
import time
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from airflow_provider_geocatalog.api.numbers import seconds
from airflow_provider_geocatalog.provider_info import DEFAULT_CONNECTION_ID
from airflow_provider_geocatalog.transfer.source import ItemSource
from airflow_provider_geocatalog.triggers.items import look_in_thread, source_from_json, source_to_json
from airflow_provider_geocatalog.triggers.watching import HANDED_OVER, LONGEST_PAUSE, Memory, Trouble

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Sequence

    from airflow_provider_geocatalog.api.models import IngestionSource
    from airflow_provider_geocatalog.transfer.new_items import NewItemsQuery

__all__ = ["GeoCatalogSourceExpiringTrigger", "StacApiNewItemsTrigger"]


class StacApiNewItemsTrigger(BaseEventTrigger):
    """
    Fire an event whenever a STAC API has items that are newer than those of the last event.

    It is for asset watchers, which Airflow has since 3.0:

    .. code-block:: python

        api = StacApiSource(url="https://planetarycomputer.microsoft.com/api/stac/v1", collections="naip")
        arrived = StacApiNewItemsTrigger(source=api, field="datetime")
        naip = Asset("naip_at_its_source", watchers=[AssetWatcher(name="new_items", trigger=arrived)])

    The payload is a JSON object with ``count``, ``is_complete``, ``watermark``, ``window`` (which holds all new items,
    for the window of a transfer), ``ids`` of the first hundred, ``bbox``, ``interval`` and ``source``.

    On Airflow 3.3 it remembers its watermark with its asset, so that a restart loses nothing; what was fired within
    seconds before a crash may be fired again. Elsewhere, and where several assets have the same trigger, it begins
    again at ``after``, or at its start.

    :param source: The STAC API, a :class:`~airflow_provider_geocatalog.transfer.stac_api.StacApiSource`; any other
        source that can be read again and again will do. Its arguments have to be JSON, so what is secret is in a
        connection.
    :param field: The property by which items are new: ``updated``, ``created`` or ``datetime``.
    :param after: Items are new whose moment is after this one, RFC 3339; after its first look, if not given.
    :param overlap: Seconds by which the window begins earlier, for late arrivals.
    :param min_items: How many there have to be for an event.
    :param max_count: Count no more than this; there may be more in the window.
    :param poll_interval: Seconds between looks.
    :raises GeoCatalogInvalidInput: The arguments make no sense.
    """

    def __init__(
        self,
        *,
        source: ItemSource | dict[str, Any],
        field: str = "updated",
        after: str | None = None,
        overlap: float = 0.0,
        min_items: int = 1,
        max_count: int = 1000,
        poll_interval: float = 300.0,
        **_from_other_versions: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.source = source_to_json(source) if isinstance(source, ItemSource) else source
        self.after = after
        self._query = self._query_after(after or _now(), field, overlap, min_items, max_count)
        self.poll_interval = seconds(poll_interval, "poll_interval", above_zero=True)

    @staticmethod
    def _query_after(after: str, field: str, overlap: float, min_items: int, max_count: int) -> NewItemsQuery:
        from airflow_provider_geocatalog.transfer.new_items import NewItemsQuery

        return NewItemsQuery(after, field, overlap, min_items, max_count)

    def _filters(self) -> dict[str, Any]:
        query = {name: value for name, value in asdict(self._query).items() if name != "after"}
        return {"source": self.source, **query}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and exactly the arguments that make this trigger again."""
        arguments = {**self._filters(), "after": self.after, "poll_interval": self.poll_interval}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """
        Look again and again, and fire for what is new.

        Airflow starts a watcher that failed again within two seconds, so nothing but its end gets out of here.
        """
        from airflow_provider_geocatalog.api.waiting import PollPolicy

        policy = PollPolicy(max(self.poll_interval, LONGEST_PAUSE), self.poll_interval)
        memory = Memory(self, "geocatalog_new_items", self._filters())
        trouble = Trouble(self.log, "Looking for new items")
        seen = _Watermark(self._query.after)
        while True:
            retry_after, found = None, None
            try:
                await memory.recall(seen.restore)
                found = await self._look(seen.value)
            except Exception as error:
                retry_after = trouble.began(error)
            if found is not None:
                yield TriggerEvent(found)  # type: ignore[no-untyped-call,unused-ignore]
                seen.value = found["watermark"]
                # Sooner it would be worse than a repetition if this process is killed: the event would be lost.
                await asyncio.sleep(min(self.poll_interval, HANDED_OVER))
            if retry_after is None:
                try:
                    await memory.keep(seen.value)
                except Exception as error:
                    retry_after = trouble.began(error)
                else:
                    trouble.ended()
            await asyncio.sleep(policy.delay(trouble.age, retry_after))

    async def _look(self, after: str) -> dict[str, Any] | None:
        from airflow_provider_geocatalog.transfer.new_items import NewItemsWatch

        query = self._query
        source = source_from_json(self.source)
        watch = NewItemsWatch(
            source, self._query_after(after, query.field, query.overlap, query.min_items, query.max_count)
        )
        found = await look_in_thread(watch)
        return None if found is None else {**found, "source": source.describe()}


class _Watermark:
    """The moment up to which items were told, as RFC 3339."""

    def __init__(self, value: str) -> None:
        self.value = value

    def restore(self, kept: Any) -> None:
        """Go on from what was kept."""
        from airflow_provider_geocatalog.transfer.windows import moment

        if not isinstance(kept, str) or moment(kept) is None:
            raise ValueError(f"{kept!r} is no moment")
        self.value = kept


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


class GeoCatalogSourceExpiringTrigger(BaseEventTrigger):
    """
    Fire an event for each ingestion source whose SAS token is about to expire, or has expired; once for each token.

    It is for asset watchers, which Airflow has since 3.0:

    .. code-block:: python

        expiring = GeoCatalogSourceExpiringTrigger(expires_within=24 * 3600)
        sources = Asset("geocatalog_sources", watchers=[AssetWatcher(name="expiring", trigger=expiring)])

    The payload is a JSON object with ``source_id``, ``kind``, ``container_url``, ``expires_at``, ``seconds_left``
    (below zero once it has expired) and ``geocatalog_conn_id``; never the token. Sources with a managed identity, and
    those whose token does not say when it expires, are left alone.

    On Airflow 3.3 all such triggers with the same connection and interval share their polls, and each remembers with
    its asset which tokens it has told. Elsewhere it tells them again after a restart.

    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param expires_within: Seconds that a token has to live at least.
    :param containers: Only the sources of these containers, by URL.
    :param poll_interval: Seconds between looks; each is one request and one more for each source.
    """

    def __init__(
        self,
        *,
        geocatalog_conn_id: str = DEFAULT_CONNECTION_ID,
        expires_within: float = 24 * 3600.0,
        containers: Sequence[str] | None = None,
        poll_interval: float = 900.0,
        **_from_other_versions: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if isinstance(containers, str):
            raise ValueError(f"containers have to be a list, not {containers!r}")
        self.geocatalog_conn_id = geocatalog_conn_id
        self.expires_within = seconds(expires_within, "expires_within", above_zero=True)
        # In one order, so that Airflow takes equal triggers for one.
        self.containers = None if containers is None else sorted(set(containers))
        self.poll_interval = seconds(poll_interval, "poll_interval", above_zero=True)

    def _filters(self) -> dict[str, Any]:
        return {
            "geocatalog_conn_id": self.geocatalog_conn_id,
            "expires_within": self.expires_within,
            "containers": self.containers,
        }

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and exactly the arguments that make this trigger again."""
        arguments = {**self._filters(), "poll_interval": self.poll_interval}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire for what expires, for ever, with polls of its own; for versions of Airflow without shared streams."""
        async with aclosing(self.open_shared_stream(self.serialize()[1])) as views:
            async for event in self.filter_shared_stream(views):
                yield event

    def shared_stream_key(self) -> Hashable | None:
        """Return what triggers that share their polls have in common."""
        return (self.serialize()[0], self.geocatalog_conn_id, self.poll_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncGenerator[list[IngestionSource]]:
        """
        Read all ingestion sources again and again.

        What went wrong would fail every subscriber, so nothing but its end gets out of here.

        :param kwargs: The arguments of one of the triggers.
        """
        from airflow_provider_geocatalog.api.flows.sources import all_sources
        from airflow_provider_geocatalog.api.waiting import PollPolicy
        from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

        trigger = cls(**kwargs)
        policy = PollPolicy(max(trigger.poll_interval, LONGEST_PAUSE), trigger.poll_interval)
        trouble = Trouble(trigger.log, "Looking for expiring ingestion sources")
        while True:
            retry_after = None
            try:
                # With a new hook each time: the connection may have changed.
                sources = await GeoCatalogHook(trigger.geocatalog_conn_id).arun(all_sources())
            except Exception as error:
                retry_after = trouble.began(error)
            else:
                trouble.ended()
                yield sources
            await asyncio.sleep(policy.delay(trouble.age, retry_after))

    async def filter_shared_stream(self, shared_stream: AsyncIterator[list[IngestionSource]]) -> AsyncIterator[Any]:
        """
        Fire for what expires among the sources of each look.

        :param shared_stream: The sources.
        """
        memory = Memory(self, "geocatalog_expiring_sources", self._filters())
        trouble = Trouble(self.log, "Going on from what was known")
        told: dict[str, str] = {}

        def restore(kept: Any) -> None:
            if not isinstance(kept, dict):
                raise ValueError(f"{type(kept).__name__} is no object")
            told.update(kept)

        async for sources in shared_stream:
            try:
                await memory.recall(restore)
            except Exception as error:  # the next look is another chance
                trouble.began(error)
                continue
            expiring = {one.source_id: one for one in sources if self._expires(one)}
            news = [one for name, one in expiring.items() if told.get(name) != _token(one)]
            for source in news:
                yield TriggerEvent(self._payload(source))  # type: ignore[no-untyped-call,unused-ignore]
            if news:
                await asyncio.sleep(min(self.poll_interval, HANDED_OVER))
            told.clear()
            told.update({name: _token(one) for name, one in expiring.items()})
            try:
                await memory.keep(dict(told))
            except Exception as error:
                trouble.began(error)
            else:
                trouble.ended()

    def _expires(self, source: IngestionSource) -> bool:
        from airflow_provider_geocatalog.api.flows.sources import normal_container_url

        if source.expires_at is None or source.expires_at.timestamp() - time.time() >= self.expires_within:
            return False
        if self.containers is None:
            return True
        wanted = {normal_container_url(url) for url in self.containers}
        return bool(source.container_url) and normal_container_url(str(source.container_url)) in wanted

    def _payload(self, source: IngestionSource) -> dict[str, Any]:
        moment = source.expires_at
        return {
            "source_id": source.source_id,
            "kind": source.kind,
            "container_url": source.container_url,
            "expires_at": _token(source),
            "seconds_left": round(moment.timestamp() - time.time()) if moment else None,
            "geocatalog_conn_id": self.geocatalog_conn_id,
        }


def _token(source: IngestionSource) -> str:
    """Return what tells a source's token from the ones before it: when it expires."""
    return source.expires_at.isoformat() if source.expires_at else ""
