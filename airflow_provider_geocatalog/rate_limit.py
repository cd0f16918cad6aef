"""How many requests a process sends to one GeoCatalog: one limit for all its clients, tasks and threads."""

from __future__ import annotations

import math
import threading
from collections import deque

__all__ = ["DEFAULT_REQUESTS_PER_SECOND", "RateLimit", "shared_rate_limit"]

#: The service's limits are documented as 50 STAC calls per second and subscription (geocatalog-api 11.3). Other
#: processes send requests as well, so one process stays below.
DEFAULT_REQUESTS_PER_SECOND = 40.0
_REMEMBERED = 2000  # requests


class RateLimit:
    """
    Hands out moments to send at, so that no second has more requests than allowed; thread-safe.

    Requests are not spaced out: as many as are allowed in a second may be sent at once, the next one waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moments: deque[float] = deque(maxlen=_REMEMBERED)

    def reserve(self, now: float, per_second: float) -> float:
        """
        Reserve a moment to send one request.

        :param now: The present, on a clock that never goes back, in seconds.
        :param per_second: Requests that a second may have; less than one makes the window longer instead.
        :return: Seconds to wait before sending.
        """
        most = min(max(1, math.floor(per_second)), _REMEMBERED)
        window = most / per_second
        with self._lock:
            moment = now
            if self._moments:
                moment = max(moment, self._moments[-1])  # in the order in which they were asked for
            if len(self._moments) >= most:
                moment = max(moment, self._moments[-most] + window)
            self._moments.append(moment)
        return moment - now


_limits: dict[str, RateLimit] = {}
_limits_lock = threading.Lock()


def shared_rate_limit(origin: str) -> RateLimit:
    """Return the process's limit for an origin (scheme, host and port)."""
    with _limits_lock:
        return _limits.setdefault(origin, RateLimit())
