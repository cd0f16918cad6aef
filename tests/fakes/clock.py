"""A clock that jumps where others wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow_provider_geocatalog.rate_limit import RateLimit

if TYPE_CHECKING:
    from airflow_provider_geocatalog.client import GeoCatalogClient


class FakeClock:
    """Keep the pauses that were asked for; no time passes but by them."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now
        self.pauses: list[float] = []

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)

    def drive(self, client: GeoCatalogClient) -> None:
        """Be the clock of a client, which then shares no rate limit: others' moments are not comparable."""
        client.clock, client.rate_limit = self, RateLimit()
