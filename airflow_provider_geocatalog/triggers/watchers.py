"""Start DAGs when a source has new items, and when ingestion sources are about to expire: for asset watchers."""

from __future__ import annotations

import datetime
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from airflow_provider_geocatalog.api.numbers import seconds
from airflow_provider_geocatalog.provider_info import DEFAULT_CONNECTION_ID
from airflow_provider_geocatalog.transfer.source import ItemSource
from airflow_provider_geocatalog.triggers.items import look_in_thread, source_from_json, source_to_json
from airflow_provider_geocatalog.triggers.watching import SharedLooksTrigger, names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from airflow_provider_geocatalog.api.models import IngestionSource
    from airflow_provider_geocatalog.transfer.new_items import NewItems, NewItemsWatch

__all__ = ["GeoCatalogSourceExpiringTrigger", "StacApiNewItemsTrigger"]


class StacApiNewItemsTrigger(SharedLooksTrigger["NewItems"]):
    """
    Fire an event whenever a STAC API has items that are newer than those of the last event.

    It is for asset watchers, which Airflow has since 3.0:

    .. code-block:: python

        api = StacApiSource(url="https://planetarycomputer.microsoft.com/api/stac/v1", collections="naip")
        arrived = StacApiNewItemsTrigger(source=api, field="datetime")
        naip = Asset("naip_at_its_source", watchers=[AssetWatcher(name="new_items", trigger=arrived)])

    The payload is a JSON object with ``count``, ``is_complete``, ``watermark``, ``window`` (which holds all new items,
    for the window of a transfer), ``ids`` of the first hundred, ``bbox``, ``interval`` and ``source``.

    On Airflow 3.3 all such triggers with the same ``source``, ``field``, ``max_count`` and ``poll_interval`` share
    their looks, and each remembers its watermark with its asset, so that a restart loses nothing; what was fired within
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

    kind = "geocatalog_new_items"
    doing = "Looking for new items"

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
        **from_other_versions: Any,
    ) -> None:
        from airflow_provider_geocatalog.transfer.new_items import NewItemsQuery

        super().__init__(poll_interval=poll_interval, **from_other_versions)
        self.source = source_to_json(source) if isinstance(source, ItemSource) else source
        self.after = after
        self._query = NewItemsQuery(after or _now(), field, overlap, min_items, max_count)

    def target(self) -> dict[str, Any]:
        """Return the arguments that say what is looked at, as JSON."""
        return {"source": self.source, "field": self._query.field, "max_count": self._query.max_count}

    def filters(self) -> dict[str, Any]:
        """Return the arguments that say which events this trigger makes of it, as JSON."""
        return {"overlap": self._query.overlap, "min_items": self._query.min_items}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and exactly the arguments that make this trigger again."""
        path, arguments = super().serialize()
        return path, {**arguments, "after": self.after}

    def looker(self) -> Callable[[], Awaitable[NewItems]]:
        """Return what reads all that is new to any trigger that shares the looks."""
        key = self.shared_stream_key()

        async def look() -> NewItems:
            known = (one.value for one in _LISTENING if one.key == key)
            after = min(known, key=_moment, default=self._query.after)
            return await look_in_thread(self._watch(after).read)

        return look

    def knowledge(self) -> _Watermark:
        """Return what is known before the first look."""
        known = _Watermark(self)
        _LISTENING.add(known)
        return known

    def _watch(self, after: str) -> NewItemsWatch:
        from airflow_provider_geocatalog.transfer.new_items import NewItemsWatch

        return NewItemsWatch(source_from_json(self.source), replace(self._query, after=after))


class _Watermark:
    """The moment up to which items were told, as RFC 3339."""

    def __init__(self, trigger: StacApiNewItemsTrigger) -> None:
        self._trigger, self.key = trigger, trigger.shared_stream_key()
        self.value = trigger._query.after

    def restore(self, data: Any) -> None:
        """Go on from what was known."""
        if not isinstance(data, str) or _moment(data) is None:
            raise ValueError(f"{data!r} is no moment")
        self.value = data

    def to_json(self) -> str:
        """Return what is known as a JSON value."""
        return self.value

    async def news(self, view: NewItems) -> list[dict[str, Any]]:
        """Return the payload of what is new, if it is enough."""
        watch, since = self._trigger._watch(self.value), _moment(self.value)
        begins_late, ends_early = view.window.start > since, not view.is_complete and view.window.start < since
        if begins_late or ends_early:  # after a restart, or where another trigger has much more to catch up with
            view = await look_in_thread(watch.read)
        found = watch.tell(view)
        if found is None:
            return []
        self.value = found["watermark"]
        return [{**found, "source": watch.source.describe()}]


#: What the triggers of this process know: a look begins at the earliest that those know who share it.
_LISTENING: WeakSet[_Watermark] = WeakSet()


def _moment(text: str) -> Any:
    from airflow_provider_geocatalog.transfer.windows import moment

    return moment(text)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


class GeoCatalogSourceExpiringTrigger(SharedLooksTrigger["list[IngestionSource]"]):
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
    :raises ValueError: The arguments make no sense.
    """

    kind = "geocatalog_expiring_sources"
    doing = "Looking for expiring ingestion sources"

    def __init__(
        self,
        *,
        geocatalog_conn_id: str = DEFAULT_CONNECTION_ID,
        expires_within: float = 24 * 3600.0,
        containers: Sequence[str] | None = None,
        poll_interval: float = 900.0,
        **from_other_versions: Any,
    ) -> None:
        super().__init__(poll_interval=poll_interval, **from_other_versions)
        self.geocatalog_conn_id = geocatalog_conn_id
        self.expires_within = seconds(expires_within, "expires_within", above_zero=True)
        self.containers = names("containers", containers)

    def target(self) -> dict[str, Any]:
        """Return the arguments that say what is looked at, as JSON."""
        return {"geocatalog_conn_id": self.geocatalog_conn_id}

    def filters(self) -> dict[str, Any]:
        """Return the arguments that say which events this trigger makes of it, as JSON."""
        return {"expires_within": self.expires_within, "containers": self.containers}

    def looker(self) -> Callable[[], Awaitable[list[IngestionSource]]]:
        """Return what reads all ingestion sources."""
        from airflow_provider_geocatalog.api.flows.sources import all_sources
        from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

        # With a new hook each time: the connection may have changed.
        return lambda: GeoCatalogHook(self.geocatalog_conn_id).arun(all_sources())

    def knowledge(self) -> _ToldTokens:
        """Return what is known before the first look."""
        return _ToldTokens(self)

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


class _ToldTokens:
    """The tokens of which a trigger has told, by the ids of their sources."""

    def __init__(self, trigger: GeoCatalogSourceExpiringTrigger) -> None:
        self._trigger = trigger
        self._told: dict[str, str] = {}

    def restore(self, data: Any) -> None:
        """Go on from what was known."""
        if not isinstance(data, dict):
            raise ValueError(f"{type(data).__name__} is no object")
        self._told = data

    def to_json(self) -> dict[str, str]:
        """Return what is known as a JSON object."""
        return self._told

    async def news(self, view: list[IngestionSource]) -> list[dict[str, Any]]:
        """Return the payloads of the tokens that were not told."""
        expiring = [one for one in view if self._trigger._expires(one)]
        news = [one for one in expiring if self._told.get(one.source_id) != _token(one)]
        self._told = {one.source_id: _token(one) for one in expiring}
        return [self._trigger._payload(one) for one in news]


def _token(source: IngestionSource) -> str:
    """Return what tells a source's token from the ones before it: when it expires."""
    return source.expires_at.isoformat() if source.expires_at else ""
