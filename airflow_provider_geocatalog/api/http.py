"""The values that every layer speaks: what to send, what came back, and what a procedure may ask its driver for."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

__all__ = [
    "Area",
    "Effect",
    "Endpoint",
    "FilePart",
    "Flow",
    "Multipart",
    "Now",
    "Pages",
    "Pause",
    "Request",
    "Response",
]

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
    :param success: Status codes that are documented or recorded as success in at least one api-version.
    :param starts_operation: Whether success may be ``202`` with a long-running operation.
    :param read_only: A ``POST`` that only reads (search), so that repeating it is harmless.
    :param content_type: Media type of the request body.
    :param accept: Media types that the answer may have.
    """

    name: str
    method: str
    area: Area
    path: str
    success: frozenset[int] = frozenset({200})
    starts_operation: bool = False
    read_only: bool = False
    content_type: str = "application/json"
    accept: str = "application/json"

    def is_success(self, status: int) -> bool:
        """
        Return whether a status means success.

        A write that was done is not reported as failed because the service chose another code for that.
        """
        if status in self.success:
            return True
        return self.method != "GET" and (status in {200, 201, 204} or (status == 202 and self.starts_operation))

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice has the effect of sending it once."""
        return self.read_only or self.method in {"GET", "PUT", "DELETE"}

    def fill(self, names: Mapping[str, str], template: str | None = None) -> str:
        """
        Return the path with every name percent-encoded (also ``/``, so an id cannot leave its segment).

        :param names: Values for the ``{names}``.
        :param template: An api-version's form of the path; the endpoint's own if not given.
        """
        encoded = {name: quote(value, safe="") for name, value in names.items()}
        return (template or self.path).format_map(encoded)


@dataclass(frozen=True)
class FilePart:
    """
    A file of a multipart body.

    :param filename: Its name, which the service keeps.
    :param content: Its bytes.
    :param content_type: Its media type.
    """

    filename: str
    content: bytes = field(repr=False)
    content_type: str = "application/octet-stream"


@dataclass(frozen=True)
class Multipart:
    """
    A ``multipart/form-data`` body, in the parts that the service knows (geocatalog-api 7.4).

    :param data: Sent as JSON text in the part ``data``.
    :param file: Sent as the part ``file``.
    """

    data: Mapping[str, Any]
    file: FilePart


@dataclass(frozen=True)
class Request:
    """
    One call, before an api-version or an address is known.

    :param endpoint: The operation.
    :param names: Values for the ``{names}`` of the endpoint's path.
    :param query: Query parameters without ``api-version``, which the sender adds.
    :param body: JSON value or :class:`Multipart` to send, or ``None`` for no body.
    :param url: Absolute URL given by the service (``Location``, ``nextLink``) that replaces path and query.
    :param attempt: Which attempt it is, 1 for the first.
    """

    endpoint: Endpoint
    names: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    url: str | None = None
    attempt: int = field(default=1, compare=False)

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
        try:
            return json.loads(self.content)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error

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


class Pages(Generic[T]):
    """
    The entries of a list, a page at a time; made by an operation, carried out by a driver.

    :param fetch: Reads one page and returns its entries and the request for the next page, ``None`` after the last.
    :param first: The request for the first page.
    """

    def __init__(self, fetch: Callable[[Request], Flow[tuple[list[T], Request | None]]], first: Request) -> None:
        self.first = first
        self._fetch = fetch
        self._next: Request | None = first

    def next_page(self) -> Flow[list[T] | None]:
        """Return the entries of the next page (there may be none on it), ``None`` after the last."""
        if self._next is None:
            return None
        entries, self._next = yield from self._fetch(self._next)
        return entries

    def read_all(self) -> Flow[list[T]]:
        """Return the entries of all pages that have not been read yet."""
        entries: list[T] = []
        while (page := (yield from self.next_page())) is not None:
            entries += page
        return entries
