"""How many requests a process sends to one GeoCatalog: one limit for all its clients, tasks and threads."""

from __future__ import annotations

import math
import os
import threading

__all__ = ["DEFAULT_REQUESTS_PER_SECOND", "RateLimit", "shared_rate_limit"]

#: The service's limits are documented as 50 STAC calls per second and subscription (geocatalog-api 11.3). Other
#: processes send requests as well, so one process stays below.
DEFAULT_REQUESTS_PER_SECOND = 40.0
BURST = 0.05  # of a second's requests


class RateLimit:
    """
    Hands out moments to send at, evenly spaced but for a small burst; thread-safe.

    Spacing rather than counting by the second: requests that leave together, and are held up together on their way,
    would meet those of the next second at the service. For the same reason, who has missed the moment, as threads do
    that the machine holds up, reserves another one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at = -math.inf

    def start_anew(self) -> None:
        """Forget the lock in a process that was forked."""
        self._lock = threading.Lock()

    def reserve(self, now: float, per_second: float) -> float:
        """
        Reserve a moment to send one request.

        :param now: The present, on a clock that never goes back, in seconds.
        :param per_second: Requests that a second may have; a few of them may be ahead of time.
        :return: Seconds to wait before sending.
        """
        interval = 1.0 / per_second
        ahead = (max(1, int(per_second * BURST)) - 1) * interval
        with self._lock:
            turn = max(self._free_at, now)
            self._free_at = turn + interval
        return max(0.0, turn - ahead - now)


_limits: dict[str, RateLimit] = {}
_limits_lock = threading.Lock()


def _after_fork_in_child() -> None:
    global _limits_lock
    _limits_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def shared_rate_limit(origin: str) -> RateLimit:
    """Return the process's limit for an origin (scheme, host and port)."""
    with _limits_lock:
        return _limits.setdefault(origin, RateLimit())
