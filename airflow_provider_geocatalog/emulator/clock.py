"""The emulator's time, an argument so that tests need not sleep through the service's delays."""

from __future__ import annotations

import threading
import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """Tell the time in epoch seconds."""

    def now(self) -> float:
        """Return epoch seconds."""
        ...


class SystemClock:
    """The machine's clock, never going backwards."""

    def __init__(self) -> None:
        self._epoch = time.time() - time.monotonic()

    def now(self) -> float:
        """Return epoch seconds."""
        return self._epoch + time.monotonic()


class ManualClock:
    """
    A clock that stands still until it is moved.

    :param start: Epoch seconds.
    """

    def __init__(self, start: float = 1_780_000_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return epoch seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on."""
        if seconds < 0:
            raise ValueError("time does not go backwards")
        with self._lock:
            self._now += seconds
