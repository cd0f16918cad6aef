"""One call, its retries, and lists over pages: what all other flows are made of."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogAuthenticationError,
    GeoCatalogError,
    GeoCatalogForeignUrl,
    GeoCatalogProtocolError,
    GeoCatalogServerError,
    GeoCatalogThrottled,
    GeoCatalogUnreachable,
    error_for,
)
from airflow_provider_geocatalog.api.http import Endpoint, Flow, Now, Pause, Request, Response
from airflow_provider_geocatalog.api.models import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_RETRIES", "NO_RETRIES", "Retries", "Started", "call", "is_ambiguous", "list_all", "send", "start"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retries:
    """
    How long and how fast to repeat a failed call.

    :param budget: Seconds from the first attempt after which the last error is raised.
    :param base: Seconds; attempt ``n`` waits a random time up to ``base * 2**n`` (full jitter).
    :param cap: Longest such wait in seconds. ``Retry-After`` is honoured as it is, but never shorter than ``base``.
    """

    budget: float = 120.0
    base: float = 0.5
    cap: float = 20.0

    def delay(self, attempt: int, retry_after: float | None) -> float:
        """Return the seconds to wait before the next attempt."""
        if retry_after is not None:
            return max(retry_after, self.base)  # a 0 would make a tight loop
        return random.uniform(0, min(self.cap, self.base * 2.0 ** min(attempt, 30)))


DEFAULT_RETRIES = Retries()
NO_RETRIES = Retries(budget=0.0)


def send(request: Request) -> Flow[Response]:
    """
    Make one attempt.

    :raises GeoCatalogError: No answer, or one that the endpoint does not count as success.
    """
    response: Response = yield request
    if response.status not in request.endpoint.success:
        raise error_for(request, response)
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

    :raises GeoCatalogError: The last error.
    """
    started_at: float = yield Now()
    attempts = 0
    while True:
        try:
            return (yield from send(request))
        except GeoCatalogError as error:
            if not can_repeat(request, error):
                raise
            delay = retries.delay(attempts, error.retry_after)
            now: float = yield Now()
            if retries.budget <= 0 or now + delay - started_at > retries.budget:
                raise
            log.info("%s Trying again in %.1f s.", error, delay)
        yield Pause(delay)
        attempts += 1


def call(
    endpoint: Endpoint,
    *,
    query: Mapping[str, str] | None = None,
    body: Any = None,
    retries: Retries = DEFAULT_RETRIES,
    **names: str,
) -> Flow[Any]:
    """
    Call an operation and return its JSON answer (``None`` for an empty one).

    :param endpoint: The operation.
    :param query: Query parameters without ``api-version``.
    :param body: JSON value to send.
    :param retries: How long to repeat a failed call.
    :param names: Values for the ``{names}`` of the endpoint's path.
    :raises GeoCatalogProtocolError: A success whose body is not JSON.
    """
    request = Request(endpoint, names, query or {}, body)
    response = yield from attempt(request, retries)
    return read_json(request, response)


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


def list_all(endpoint: Endpoint, *, query: Mapping[str, str] | None = None, **names: str) -> Flow[list[Any]]:
    """
    Return the entries of a list operation over all its pages.

    :raises GeoCatalogProtocolError: The answer is no list, or its pages form a loop.
    """
    request = Request(endpoint, names, query or {})
    entries: list[Any] = []
    followed: set[str] = set()
    while True:
        data = read_json(request, (yield from attempt(request)))
        page = data if isinstance(data, list) else data.get("value") if isinstance(data, dict) else None
        if not isinstance(page, list):
            raise GeoCatalogProtocolError("a list was expected", method=endpoint.method, path=request.path)
        entries.extend(page)
        link = data.get("nextLink") if isinstance(data, dict) else None
        if not link:
            return entries
        if link in followed:
            raise GeoCatalogProtocolError(
                "the pages of this list form a loop", method=endpoint.method, path=request.path
            )
        followed.add(link)
        request = Request(endpoint, names, url=link)


@dataclass(frozen=True)
class Started:
    """
    What the service answered to a call that may start a long-running operation.

    :param operation: The operation, if there is one to wait for.
    :param url: Where the service says to poll it.
    :param body: The answer's JSON, for versions that answer at once.
    """

    operation: Operation | None
    url: str | None = None
    body: Any = None


def start(endpoint: Endpoint, *, body: Any = None, **names: str) -> Flow[Started]:
    """
    Call an operation that, depending on the api-version, starts a long-running operation or ends at once.

    :return: The operation and its polling URL if the answer was ``202``.
    """
    request = Request(endpoint, names, body=body)
    response = yield from attempt(request)
    data = read_json(request, response)
    if response.status != 202:
        return Started(None, body=data)
    url = response.headers.get("operation-location") or response.headers.get("location")
    if isinstance(data, dict) and data.get("status"):
        return Started(Operation.from_json(data), url, data)
    if not url:
        raise GeoCatalogProtocolError(
            "the answer is 202 but names no operation", method=endpoint.method, path=request.path, status=202
        )
    poll = Request(
        endpoints.GET_OPERATION, {"operation_id": urlsplit(url).path.rstrip("/").rsplit("/", 1)[-1]}, url=url
    )
    try:
        answer = yield from attempt(poll)
    except GeoCatalogForeignUrl as error:
        log.warning("%s Reading the operation by its id instead.", error)
        answer = yield from attempt(replace(poll, url=None))
    return Started(Operation.from_json(read_json(poll, answer)), url, data)
