"""One call, its retries, lists over pages, and the start of long-running operations: what operations are made of."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import unquote, urlsplit

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogAuthenticationError,
    GeoCatalogError,
    GeoCatalogNotFound,
    GeoCatalogProtocolError,
    GeoCatalogServerError,
    GeoCatalogThrottled,
    GeoCatalogUnreachable,
    error_for,
)
from airflow_provider_geocatalog.api.http import Endpoint, Flow, Now, Pages, Pause, Request, Response
from airflow_provider_geocatalog.api.log_lines import log_line
from airflow_provider_geocatalog.api.models import Operation
from airflow_provider_geocatalog.api.statuses import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "DEFAULT_RETRIES",
    "NO_RETRIES",
    "LoopGuard",
    "Retries",
    "Started",
    "attempt",
    "call",
    "is_ambiguous",
    "located",
    "pages",
    "query_of",
    "read_json",
    "send",
    "start",
]

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Retries:
    """
    How long and how fast to repeat a failed call.

    :param budget: Seconds from the first attempt after which the last error is raised.
    :param base: Seconds; attempt ``n`` waits a random time up to ``base * 2**n`` (full jitter).
    :param cap: Longest such wait in seconds. ``Retry-After`` is honoured as it is, however long or short.
    """

    budget: float = 120.0
    base: float = 0.5
    cap: float = 20.0

    def delay(self, attempt: int, retry_after: float | None) -> float:
        """Return the seconds to wait before the next attempt."""
        if retry_after is not None and (retry_after > 0 or attempt == 0):
            return retry_after  # a 0 that keeps coming would make a tight loop
        return random.uniform(0, min(self.cap, self.base * 2.0 ** min(attempt, 30)))


DEFAULT_RETRIES = Retries()
NO_RETRIES = Retries(budget=0.0)


def send(request: Request) -> Flow[Response]:
    """
    Make one attempt.

    :raises GeoCatalogError: No answer, or one that the endpoint does not count as success.
    """
    response: Response = yield request
    if not request.endpoint.is_success(response.status):
        now: float = yield Now()
        raise error_for(request, response, now=now)
    return response


def can_repeat(request: Request, error: GeoCatalogError) -> bool:
    """
    Return whether repeating the request can help and cannot do anything twice.

    A ``POST`` that may have been processed is never repeated: each one creates another resource.
    """
    if not error.retryable:
        return False
    if request.endpoint.repeatable:
        return True
    if isinstance(error, GeoCatalogAuthenticationError):
        return error.status is None  # no token could be had, so nothing was sent
    if isinstance(error, GeoCatalogUnreachable):
        return not error.sent
    return isinstance(error, GeoCatalogThrottled) and error.status == 429


def is_ambiguous(error: GeoCatalogError) -> bool:
    """Return whether the service may have done what was asked although this error came back: look, then decide."""
    if isinstance(error, GeoCatalogUnreachable):
        return error.sent
    if isinstance(error, GeoCatalogThrottled):
        return error.status == 408  # a gateway says so of a request that it has passed on as well
    return isinstance(error, GeoCatalogServerError | GeoCatalogProtocolError)


def attempt(request: Request, retries: Retries = DEFAULT_RETRIES) -> Flow[Response]:
    """
    Send a request, repeating it where that is safe, within a budget of time.

    A ``DELETE`` that finds nothing to do when it is repeated has been done by an attempt whose answer was lost.

    :raises GeoCatalogError: The last error; ``ambiguous`` if it leaves open whether the service did what was asked.
    """
    started_at: float = yield Now()
    attempts = 0
    perhaps_done = False
    while True:
        try:
            return (yield from send(replace(request, attempt=attempts + 1)))
        except GeoCatalogError as error:
            if perhaps_done and _is_done_already(request, error):
                log.info("%s %s had been done by the attempt before.", request.endpoint.method, request.path)
                return Response(204)
            if not can_repeat(request, error):
                error.ambiguous = not request.endpoint.repeatable and is_ambiguous(error)
                raise
            perhaps_done = perhaps_done or (request.endpoint.method == "DELETE" and is_ambiguous(error))
            delay = retries.delay(attempts, error.retry_after)
            now: float = yield Now()
            if retries.budget <= 0 or now + delay - started_at > retries.budget:
                raise
            log_line(
                log,
                logging.INFO,
                "%s Trying again in %.1f s.",
                error,
                delay,
                endpoint=request.endpoint.name,
                status=error.status,
                attempt=attempts + 1,
                request_id=error.request_id,
                client_request_id=error.client_request_id,
            )
        yield Pause(delay)
        attempts += 1


def _is_done_already(request: Request, error: GeoCatalogError) -> bool:
    """Return whether a repeated deletion was refused because there is nothing left to delete or cancel."""
    # An operation that has ended answers 400 to its cancellation (geocatalog-api 6.4).
    cancelled = request.endpoint is endpoints.CANCEL_OPERATION and error.status == 400
    return isinstance(error, GeoCatalogNotFound) or cancelled


def _as_it_is(value: Any) -> Any:
    return value


@contextmanager
def located(request: Request, response: Response) -> Iterator[None]:
    """Have errors about an answer's content say which exchange it was."""
    try:
        yield
    except GeoCatalogProtocolError as error:
        error.locate(request, response)
        raise


def call(
    endpoint: Endpoint,
    names: Mapping[str, str] | None = None,
    *,
    query: Mapping[str, str] | None = None,
    body: Any = None,
    read: Callable[[Any], T] = _as_it_is,
    retries: Retries = DEFAULT_RETRIES,
) -> Flow[T]:
    """
    Call an operation and return its answer.

    :param endpoint: The operation.
    :param names: Values for the ``{names}`` of the endpoint's path.
    :param query: Query parameters without ``api-version``.
    :param body: JSON value to send.
    :param read: Makes a typed value of the JSON answer, which is ``None`` for an empty one.
    :param retries: How long to repeat a failed call.
    :raises GeoCatalogProtocolError: A success whose body is not JSON, or not what was expected.
    """
    request = Request(endpoint, names or {}, query or {}, body)
    response = yield from attempt(request, retries)
    with located(request, response):
        return read(read_json(request, response))


def read_json(request: Request, response: Response) -> Any:
    """
    Return the JSON value of a successful response, ``None`` if it has no body.

    :raises GeoCatalogProtocolError: The body is not JSON.
    """
    if not response.content.strip():
        return None
    try:
        return response.json()
    except ValueError as error:
        media_type = response.headers.get("content-type", "no content type")
        raise GeoCatalogProtocolError(
            f"the answer is not JSON ({media_type}: {error})",
            status=response.status,
            method=request.endpoint.method,
            path=request.path,
            request_id=response.request_id,
        ) from error


def query_of(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return query parameters as text, without those that are ``None``."""
    return {name: _query_text(value) for name, value in parameters.items() if value is not None}


def _query_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(_query_text, value))
    return str(value)


def pages(
    endpoint: Endpoint,
    read: Callable[[Any], T],
    names: Mapping[str, str] | None = None,
    *,
    query: Mapping[str, str] | None = None,
    retries: Retries = DEFAULT_RETRIES,
) -> Pages[T]:
    """
    Return the entries of a list of the ingestion side, page by page along ``nextLink``.

    :param read: Makes a typed value of an entry.
    :param retries: How long to repeat a failed call; a page that failed may also be asked for again.
    :raises GeoCatalogProtocolError: While reading: an answer is no list, or the pages repeat.
    """
    guard = LoopGuard()

    def fetch(request: Request) -> Flow[tuple[list[T], Request | None]]:
        response = yield from attempt(request, retries)
        with located(request, response):
            data = read_json(request, response)
            entries = data if isinstance(data, list) else data.get("value") if isinstance(data, dict) else None
            if not isinstance(entries, list):
                raise GeoCatalogProtocolError("a list was expected")
            following = _following(request, data, len(entries))
            guard.check(entries, following)
            return [read(entry) for entry in entries], following

    return Pages(fetch, Request(endpoint, names or {}, query or {}))


def _following(request: Request, data: Any, count: int) -> Request | None:
    """Return the request for the next page of a list; bare lists have no link, so a full page may have one after it."""
    if isinstance(data, dict):
        link = data.get("nextLink")
        if link and not isinstance(link, str):
            raise GeoCatalogProtocolError("the link to the next page is no URL")
        return replace(request, query={}, url=link) if link else None
    top, skip = (int(request.query.get(name, 0)) for name in ("$top", "$skip"))
    if not top or count != top:
        return None
    return replace(request, query={**request.query, "$skip": str(skip + top)})


class LoopGuard:
    """Notices that the pages of a list lead in a circle, which would read for ever or return entries twice."""

    def __init__(self) -> None:
        self._followed: set[bytes] = set()
        self._seen: set[bytes] = set()
        self._empty = 0

    def check(self, entries: Sequence[Any], following: Request | None) -> None:
        """
        Look at a page and at the request for the next.

        :raises GeoCatalogProtocolError: Either has been there before, or pages without entries do not end.
        """
        if entries:
            ids = [_identity(entry) for entry in entries]
            page = _digest(ids if None not in ids else entries)
            if page in self._seen:
                self._fail("a page of this list came twice")
            self._seen.add(page)
        self._empty = 0 if entries else self._empty + 1
        if following is None:
            return
        if self._empty >= _MOST_EMPTY_PAGES:
            self._fail(f"{self._empty} pages of this list after each other are empty and it goes on")
        link = _digest([following.url, sorted(following.query.items()), following.body])
        if link in self._followed:
            self._fail("the pages of this list form a loop")
        self._followed.add(link)

    def _fail(self, message: str) -> NoReturn:
        raise GeoCatalogProtocolError(
            message,
            hint="The list is not complete, so nothing was made of it. Report it to the service with the request id.",
        )


#: An honest list may have an empty page at its end; so many in a row are a server that does not count.
_MOST_EMPTY_PAGES = 50


def _digest(value: Any) -> bytes:
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=16).digest()


def _identity(entry: Any) -> tuple[Any, ...] | None:
    """Return what tells an entry from others, if it says so; pages of entries that do not are compared as a whole."""
    if not isinstance(entry, dict) or (entry.get("type") == "Feature" and "collection" not in entry):
        return None  # an item's id tells it from others of its collection only
    found = next((entry[name] for name in ("id", "operationId", "ingestionId", "objectId") if entry.get(name)), None)
    return None if found is None else (entry.get("collection"), found)


@dataclass(frozen=True)
class Started:
    """
    What the service answered to a call that may start a long-running operation: one shape for all api-versions.

    :param operation: The operation; ``None`` if the service had nothing left to do when it answered.
    :param url: Where the service says to poll it (``operation-location``, else ``Location``).
    :param body: The answer's JSON, for versions that answer at once.
    :param resource: Reads what was written, once the operation has ended; ``None`` where there is no such thing.
    :param removes: Whether the resource is gone afterwards.
    """

    operation: Operation | None
    url: str | None = None
    body: Any = None
    resource: Request | None = None
    removes: bool = False


def start(
    endpoint: Endpoint,
    names: Mapping[str, str] | None = None,
    *,
    body: Any = None,
    resource: Request | None = None,
    removes: bool = False,
) -> Flow[Started]:
    """
    Call an operation that, depending on the api-version, starts a long-running operation or ends at once.

    :param resource: Reads what is written, for :class:`Started`.
    :param removes: Whether the resource is gone afterwards.
    :return: The operation and its polling URL if the answer was ``202``; what its body does not tell, polling will.
    """
    request = Request(endpoint, names or {}, body=body)
    response = yield from attempt(request)
    with located(request, response):
        data = read_json(request, response)
        started = Started(None, body=data, resource=resource, removes=removes)
        if response.status != 202:
            return started
        url = response.headers.get("operation-location") or response.headers.get("location")
        if isinstance(data, dict) and data.get("status"):
            return replace(started, operation=Operation.from_json(data), url=url)
        operation_id = unquote(urlsplit(url or "").path.rstrip("/").rsplit("/", 1)[-1])
        if not operation_id:
            raise GeoCatalogProtocolError("the answer is 202 but names no operation")
        return replace(started, operation=Operation(operation_id, Status("Pending")), url=url)
