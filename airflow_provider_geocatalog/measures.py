"""What is measured, under which names, with which tags; sent as Airflow's own metrics are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import Stats, conf

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["METRICS", "Metric", "tags_arrive"]


@cache
def tags_arrive() -> bool:
    """Return whether what Airflow sends its metrics to is sent tags: StatsD as such knows none."""
    names = ("otel_on", "statsd_datadog_enabled", "statsd_influxdb_enabled")
    return any(conf.getboolean("metrics", name, fallback=False) for name in names)


@dataclass(frozen=True)
class Metric:
    """
    One metric.

    :param name: Its name, before which Airflow puts its prefix.
    :param kind: ``counter``, ``timer`` or ``gauge``.
    :param unit: What is counted, or in what is measured.
    :param tags: Names of its tags.
    :param in_name: Tags whose values are appended to the name where no tags arrive.
    :param states: For a family of metrics, what their names end with.
    """

    name: str
    kind: str
    unit: str
    tags: tuple[str, ...]
    in_name: tuple[str, ...] = ()
    states: tuple[str, ...] = ()

    def count(self, count: int, tags: Mapping[str, str]) -> None:
        """Add to a counter."""
        for name in self._names(tags):
            Stats.incr(name, count, tags=dict(tags))

    def time(self, seconds: float, tags: Mapping[str, str]) -> None:
        """Add a time to a timer."""
        for name in self._names(tags):
            Stats.timing(name, seconds * 1000, tags=dict(tags))

    def count_each(self, counts: Mapping[str, int], tags: Mapping[str, str]) -> None:
        """Add to a family of counters, whose names end with a state."""
        for state, count in counts.items():
            if count:
                Stats.incr(f"{self.name}.{state}", count, tags=dict(tags))

    def gauge(self, state: str, value: float, tags: Mapping[str, str]) -> None:
        """Set one of a family of gauges, whose names end with a state."""
        Stats.gauge(f"{self.name}.{state}", value, tags=dict(tags))

    def _names(self, tags: Mapping[str, str]) -> tuple[str, ...]:
        # Without tags the name alone is the sum of everything, and one with the values behind it tells them apart.
        if not self.in_name or tags_arrive():
            return (self.name,)
        return self.name, ".".join([self.name, *(tags[name] for name in self.in_name)])


_OF_ENDPOINT = ("conn_id", "endpoint")
_OF_COLLECTION = ("conn_id", "collection_id")

REQUESTS = Metric(
    "geocatalog.requests", "counter", "requests", (*_OF_ENDPOINT, "outcome", "status"), ("endpoint", "outcome")
)
REQUEST_DURATION = Metric("geocatalog.request.duration", "timer", "ms", (*_OF_ENDPOINT, "outcome"), ("endpoint",))
RETRIES = Metric("geocatalog.request.retries", "counter", "requests", _OF_ENDPOINT, ("endpoint",))
THROTTLED = Metric("geocatalog.request.throttled", "counter", "answers", _OF_ENDPOINT, ("endpoint",))
HELD_BACK = Metric("geocatalog.request.held_back", "timer", "ms", ("conn_id",))
BYTES_SENT = Metric("geocatalog.bytes.sent", "counter", "bytes", _OF_ENDPOINT, ("endpoint",))
BYTES_RECEIVED = Metric("geocatalog.bytes.received", "counter", "bytes", _OF_ENDPOINT, ("endpoint",))

WAITED_FOR = Metric(
    "geocatalog.wait.items", "gauge", "items", _OF_COLLECTION, states=("total", "succeeded", "failed", "pending")
)
WAITS_ENDED = Metric("geocatalog.wait.ended", "counter", "waits", (*_OF_COLLECTION, "outcome"), ("outcome",))
WAIT_DURATION = Metric("geocatalog.wait.duration", "timer", "ms", (*_OF_COLLECTION, "outcome"), ("outcome",))
ITEMS = Metric("geocatalog.items", "counter", "items", (*_OF_COLLECTION, "outcome"), ("outcome",))
ITEM_WRITES = Metric(
    "geocatalog.item_writes",
    "counter",
    "items",
    _OF_COLLECTION,
    states=(
        "sent",
        "created",
        "updated",
        "deleted",
        "unchanged",
        "skipped",
        "repeated",
        "filtered",
        "outside",
        "set_aside",
        "failed",
    ),
)
FILES = Metric("geocatalog.files", "counter", "files", _OF_COLLECTION, states=("downloaded", "skipped", "failed"))

#: All of them, as ``docs/metrics.md`` lists them.
METRICS = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
