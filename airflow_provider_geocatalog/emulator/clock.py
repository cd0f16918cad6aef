"""The emulator's time, an argument so that tests need not sleep through the service's delays."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

__all__ = ["Clock", "ManualClock"]

_LATEST = 250_000_000_000.0  # epoch seconds: the year 9892, so that every sum can still be written as a date
_FASTEST = 1_000_000.0  # seconds in a second

#: Lets happen what is due up to a moment, by moving the clock from one due time to the next.
Traveller = Callable[[float], None]


class Clock:
    """
    Time that can be moved on, stopped, and run faster than the machine's. It does not go backwards.

    :param start: Epoch seconds; the machine's time, if not given.
    :param speed: Seconds that pass in one of the machine's; 0: it stands still until it is moved.
    """

    def __init__(self, start: float | None = None, speed: float = 1.0) -> None:
        self._lock = threading.Lock()
        # Replaced as a whole, so that reading the time takes no lock.
        self._anchor = (time.monotonic(), _checked_moment(time.time() if start is None else start), _checked(speed))
        self._travellers: list[Traveller] = []

    def now(self) -> float:
        """Return epoch seconds."""
        machine, moment, speed = self._anchor
        return moment + (time.monotonic() - machine) * speed if speed else moment

    @property
    def speed(self) -> float:
        """Seconds that pass in one of the machine's; 0: it stands still."""
        return self._anchor[2]

    def advance(self, seconds: float) -> None:
        """
        Move on. What is due on the way happens at its time and in its order, reading of sources included.

        :raises ValueError: The seconds are negative, or lead too far.
        """
        if not seconds >= 0:
            raise ValueError("time does not go backwards")
        self.set(self.now() + seconds)

    def set(self, moment: float) -> None:
        """
        Move on to a moment, as :meth:`advance` does.

        :param moment: Epoch seconds.
        :raises ValueError: It has passed, or is too far away.
        """
        if _checked_moment(moment) < self.now():
            raise ValueError("time does not go backwards; only a reset of the emulator can set it back")
        for travel in list(self._travellers):
            travel(moment)
        self.move_to(moment)
        self._wake()

    def freeze(self) -> None:
        """Stand still until the clock is moved or runs again."""
        self.run(0.0)

    def run(self, speed: float = 1.0) -> None:
        """
        Go on by itself.

        :param speed: Seconds that pass in one of the machine's.
        :raises ValueError: It is negative, or above a million.
        """
        _checked(speed)
        with self._lock:
            self._anchor = (time.monotonic(), self.now(), speed)
        self._wake()

    # --- for the engine -----------------------------------------------------------------------------------------

    def attach(self, travel: Traveller) -> None:
        """Have an engine take part in every move; it is called with the present as well, when the speed changes."""
        self._travellers.append(travel)

    def detach(self, travel: Traveller) -> None:
        """Leave an engine out of further moves."""
        if travel in self._travellers:
            self._travellers.remove(travel)

    def move_to(self, moment: float) -> None:
        """Make it a moment without anything happening; one that has passed changes nothing."""
        with self._lock:
            if moment > self.now():
                self._anchor = (time.monotonic(), moment, self.speed)

    def start_over(self, moment: float) -> None:
        """Make it any moment, for a world without a past."""
        with self._lock:
            self._anchor = (time.monotonic(), _checked_moment(moment), self.speed)

    def machine_seconds_until(self, moment: float) -> float:
        """Return for how long the machine has to wait for a moment; infinity if the clock stands still."""
        left = moment - self.now()
        if left <= 0:
            return 0.0
        return left / self.speed if self.speed else math.inf

    def _wake(self) -> None:
        for travel in list(self._travellers):
            travel(self.now())


class ManualClock(Clock):
    """
    A clock that stands still until it is moved.

    :param start: Epoch seconds.
    """

    def __init__(self, start: float = 1_780_000_000.0) -> None:
        super().__init__(start, speed=0.0)


def _checked(speed: float) -> float:
    if not 0 <= speed <= _FASTEST:
        raise ValueError(f"the speed has to be between 0 and {_FASTEST:,.0f}")
    return speed


def _checked_moment(moment: float) -> float:
    if not 0 <= moment <= _LATEST:
        raise ValueError("the moment has to lie between the years 1970 and 9892")
    return moment
