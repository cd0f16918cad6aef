"""What a client tells of its requests to whoever measures them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["UNOBSERVED", "Exchange", "RequestObserver"]


@dataclass(frozen=True)
class Exchange:
    """
    One request and its answer, if one came.

    :param endpoint: Name of the operation; it holds no id.
    :param status: HTTP status code; ``None`` if no complete answer came.
    :param seconds: From sending to the end of the answer.
    :param attempt: Which attempt it was, 1 for the first.
    :param sent: Bytes of its body.
    :param received: Bytes of the answer's body, decompressed.
    """

    endpoint: str
    status: int | None
    seconds: float
    attempt: int = 1
    sent: int = 0
    received: int = 0


class RequestObserver(Protocol):
    """Told of requests, in the thread that has sent them; it has to be quick, and must not raise."""

    def exchanged(self, exchange: Exchange) -> None:
        """Take note of a request that has ended."""

    def held_back(self, seconds: float) -> None:
        """Take note of the time that a request has waited for the process's own rate limit."""


class _Unobserved:
    def exchanged(self, exchange: Exchange) -> None:
        pass

    def held_back(self, seconds: float) -> None:
        pass


#: Takes note of nothing.
UNOBSERVED: RequestObserver = _Unobserved()
