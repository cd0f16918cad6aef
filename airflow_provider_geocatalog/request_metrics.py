"""Count the requests of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_geocatalog.measures import (
    BYTES_RECEIVED,
    BYTES_SENT,
    HELD_BACK,
    REQUEST_DURATION,
    REQUESTS,
    RETRIES,
    THROTTLED,
)

if TYPE_CHECKING:
    from airflow_provider_geocatalog.observer import Exchange

__all__ = ["RequestMetrics"]

_TOO_MANY = 429  # HTTP status


class RequestMetrics:
    """
    Tell Airflow's metrics of requests; for workers, triggerers, and code on an event loop.

    :param conn_id: Connection, for the tags.
    """

    def __init__(self, conn_id: str) -> None:
        self._tags = {"conn_id": conn_id}

    def exchanged(self, exchange: Exchange) -> None:
        """Count a request that has ended."""
        tags = {**self._tags, "endpoint": exchange.endpoint}
        status = exchange.status
        outcome = {**tags, "outcome": "unreachable" if status is None else f"{status // 100}xx"}
        REQUESTS.count(1, {**outcome, "status": "none" if status is None else str(status)})
        REQUEST_DURATION.time(exchange.seconds, outcome)
        if exchange.attempt > 1:
            RETRIES.count(1, tags)
        if status == _TOO_MANY:
            THROTTLED.count(1, tags)
        if exchange.sent:
            BYTES_SENT.count(exchange.sent, tags)
        if exchange.received:
            BYTES_RECEIVED.count(exchange.received, tags)

    def held_back(self, seconds: float) -> None:
        """Count the time that a request has waited for the process's own rate limit."""
        HELD_BACK.time(seconds, self._tags)
