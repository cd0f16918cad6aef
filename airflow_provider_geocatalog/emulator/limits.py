"""The limits of the service's preview (11.3): placeholders that no later article confirms, so off unless asked for."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LIMITS", "Limits", "Throttle"]

_WINDOW = 1.0  # seconds in which requests are counted
RETRY_AFTER = "1"  # seconds, after which the window is empty


@dataclass(frozen=True)
class Limits:
    """
    What is refused for being too much; the defaults are the documented numbers.

    :param requests_per_second: STAC requests; further ones are answered with 429.
    :param concurrent_runs: Runs that have not ended; starting another is answered with 429.
    :param items_per_run: A run of a source with more items fails as a whole.
    :param shortest_collection_id: Characters.
    :param longest_collection_id: Characters.
    :param collections: In the catalog.
    :param asset_bytes: The item of a larger asset fails.
    """

    requests_per_second: int = 50
    concurrent_runs: int = 5
    items_per_run: int = 10_000
    shortest_collection_id: int = 3
    longest_collection_id: int = 32
    collections: int = 100
    asset_bytes: int = 5 * 1024**3


#: What ``limits`` can be by name.
LIMITS: dict[str, Limits | None] = {"none": None, "preview": Limits()}


class Throttle:
    """
    Counts requests over the last second; thread-safe.

    Of the machine, not of the emulator's clock: a client that is told to wait does it in the machine's time.

    :param per_second: Requests that it lets pass.
    """

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._passed: deque[float] = deque(maxlen=per_second)

    def passes(self) -> bool:
        """Return whether a request keeps within the limit, and count it if so."""
        with self._lock:
            now = self._clock()
            if len(self._passed) == self._passed.maxlen and now - self._passed[0] < _WINDOW:
                return False
            self._passed.append(now)
            return True
