"""The values that every layer speaks: what to send, what came back, and what a procedure may ask its driver for."""

from __future__ import annotations

import enum
import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

__all__ = ["Area", "Effect", "Endpoint", "Flow", "Now", "Pause", "Request", "Response"]

T = TypeVar("T")


class Area(enum.Enum):
    """A part of the service with a path prefix of its own (the prefix depends on the api-version)."""

    STAC = "stac"
    INGESTION = "ingestion"
    SAS = "sas"


@dataclass(frozen=True)
class Endpoint:
    """
    One REST operation of the service: what to send and what counts as success.

    :param name: The operation's name in this package, used in errors and documentation.
    :param method: HTTP method.
    :param area: Which path prefix applies.
    :param path: Path below the prefix; ``{names}`` are filled in percent-encoded.
    :param success: Status codes that mean success in at least one api-version.
    :param starts_operation: Whether success may be ``202`` with a long-running operation.
    :param read_only: A ``POST`` that only reads (search), so that repeating it is harmless.
    :param content_type: Media type of the request body.
    """

    name: str
    method: str
    area: Area
    path: str
    success: frozenset[int] = frozenset({200})
    starts_operation: bool = False
    read_only: bool = False
    content_type: str = "application/json"

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice has the effect of sending it once."""
        return self.read_only or self.method in {"GET", "PUT", "DELETE"}

    def fill(self, names: Mapping[str, str]) -> str:
        """Return the path with every name percent-encoded (also ``/``, so an id cannot leave its segment)."""
        return self.path.format_map({name: quote(value, safe="") for name, value in names.items()})


@dataclass(frozen=True)
class Request:
    """
    One call, before an api-version or an address is known.

    :param endpoint: The operation.
    :param names: Values for the ``{names}`` of the endpoint's path.
    :param query: Query parameters without ``api-version``, which the sender adds.
    :param body: JSON value to send, or ``None`` for no body.
    :param url: Absolute URL given by the service (``Location``, ``nextLink``) that replaces path and query.
    """

    endpoint: Endpoint
    names: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    url: str | None = None

    @property
    def path(self) -> str:
        """The path below the area's prefix, for messages; it never holds a query string."""
        return self.endpoint.fill(self.names)


@dataclass(frozen=True)
class Response:
    """
    One answer of the service.

    :param status: HTTP status code.
    :param headers: Header fields, names in lower case.
    :param content: Body bytes, decompressed.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""

    def json(self) -> Any:
        """
        Return the body as JSON.

        :raises ValueError: The body is not JSON.
        """
        return json.loads(self.content)

    @property
    def request_id(self) -> str | None:
        """The service's id of this exchange (``X-Request-ID``; the front door's ``x-azure-ref`` otherwise)."""
        return self.headers.get("x-request-id") or self.headers.get("x-azure-ref")


@dataclass(frozen=True)
class Pause:
    """Ask the driver to wait for ``seconds`` before going on."""

    seconds: float


@dataclass(frozen=True)
class Now:
    """Ask the driver for the current time in epoch seconds."""


Effect: TypeAlias = Request | Pause | Now
#: A procedure: yields effects, is sent their results, returns its value. It performs no I/O itself.
Flow: TypeAlias = Generator[Effect, Any, T]
