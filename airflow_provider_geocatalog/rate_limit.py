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
_ROUNDING = 1e-6  # seconds


class RateLimit:
    """
    Hands out moments to send at, evenly spaced but for a small burst; thread-safe.

    Spacing rather than counting by the second: requests that leave together, and are held up together on their way,
    would meet those of the next second at the service. For the same reason a moment that was missed, as by threads of a
    process that the machine has held up, is not made up for: whoever has waited asks to depart.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at = -math.inf
        self._departed = -math.inf  # when the next would be on time, by those that have left

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
        interval, ahead = _spacing(per_second)
        with self._lock:
            turn = max(self._free_at, now)
            self._free_at = turn + interval
        return max(0.0, turn - ahead - now)

    def depart(self, now: float, per_second: float) -> float:
        """
        Send a request whose moment has come, unless others whose moment had come before leave only now.

        :return: Seconds to wait before asking again; 0 if it is sent now.
        """
        interval, ahead = _spacing(per_second)
        with self._lock:
            too_early = self._departed - ahead - now
            if too_early > _ROUNDING:
                return too_early
            self._departed = max(self._departed, now) + interval
        return 0.0


def _spacing(per_second: float) -> tuple[float, float]:
    """Return the seconds between requests, and by how many seconds they may be ahead of time."""
    interval = 1.0 / per_second
    return interval, (max(1, int(per_second * BURST)) - 1) * interval


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
