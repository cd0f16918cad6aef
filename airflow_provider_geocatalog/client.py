"""Carry flows out: addresses and origin rules, the token, and the blocking and the async driver."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import json
import logging
import os
import threading
import time
import uuid
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from airflow_provider_geocatalog.api.errors import (
    GeoCatalogError,
    GeoCatalogForeignUrl,
    GeoCatalogInvalidInput,
    GeoCatalogProtocolError,
)
from airflow_provider_geocatalog.api.http import Flow, Multipart, Now, Pause, Request, Response
from airflow_provider_geocatalog.api.log_lines import log_line
from airflow_provider_geocatalog.auth import ConnectionSettings, TokenSource
from airflow_provider_geocatalog.client_methods import OperationMethods
from airflow_provider_geocatalog.observer import UNOBSERVED, Exchange, RequestObserver
from airflow_provider_geocatalog.rate_limit import RateLimit, shared_rate_limit

if TYPE_CHECKING:
    from airflow_provider_geocatalog.transport import Transport

__all__ = ["Clock", "GeoCatalogClient", "SystemClock"]

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Threads for the async driver, shared by all connections of a process. The event loop's own pool has six threads on a
#: host with two cores, which a thousand waits outgrow.
_THREADS = 32
_MAX_REDIRECTS = 5
_MISSED_MOMENTS = 3  # to send at, on a machine that holds threads up; then it is sent all the same
_SHORTEST_SECRET = 8  # characters; anything shorter would be found everywhere
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DEFAULT_PORTS = {"http": 80, "https": 443}

_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _threads() -> ThreadPoolExecutor:
    global _pool  # one pool for the process, made on first use
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="geocatalog")
        return _pool


#: What a forked process has to make anew.
_living: weakref.WeakSet[GeoCatalogClient] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """
    Share nothing with the parent: its connections carry its answers, its threads do not exist here, and a lock that
    one of them held would never be released.
    """
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()
    for client in list(_living):
        client.start_anew()


os.register_at_fork(after_in_child=_after_fork_in_child)


class Clock(Protocol):
    """The time, and ways to let it pass; tests bring their own."""

    def time(self) -> float:
        """Return epoch seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the thread."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...

    async def asleep(self, seconds: float) -> None:
        """Suspend the task."""


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        """Return epoch seconds."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Block the thread."""
        time.sleep(seconds)

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.monotonic()

    async def asleep(self, seconds: float) -> None:
        """Suspend the task."""
        await asyncio.sleep(seconds)


class GeoCatalogClient(OperationMethods):
    """
    A client of one GeoCatalog; thread-safe. Every operation of the service is a method, see :class:`OperationMethods`.

    :param settings: The checked connection.
    :param tokens: Where the bearer token comes from; the connection's credential if not given.
    :param clock: The time.
    :param rate_limit: What spreads requests over time; the process's own for this GeoCatalog if not given.
    :param observer: Told of every request; nobody is, if not given.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        *,
        tokens: TokenSource | None = None,
        clock: Clock | None = None,
        rate_limit: RateLimit | None = None,
        observer: RequestObserver = UNOBSERVED,
    ) -> None:
        self.settings = settings
        self.tokens = tokens or TokenSource.of(settings)
        self.clock = clock or SystemClock()
        self.rate_limit = rate_limit or shared_rate_limit("{}://{}:{}".format(*_origin(settings.url)))
        self.observer = observer
        self._transport: Transport | None = None
        self._lock = threading.Lock()
        self._origin = _origin(settings.url)
        _living.add(self)
        if self._origin[0] != "https" and not settings.is_local:
            raise GeoCatalogInvalidInput(f"{settings.url} is plain http: a token goes only over https or to loopback")

    # --- drivers: the only twins of the package ---------------------------------------------------------------------

    def run(self, flow: Flow[T]) -> T:
        """
        Carry a flow out, blocking.

        :param flow: A procedure from :mod:`airflow_provider_geocatalog.api.flows`.
        :return: The flow's value.
        :raises GeoCatalogError: What the flow does not handle itself.
        """
        result: Any = None
        error: GeoCatalogError | None = None
        while True:
            try:
                effect = flow.send(result) if error is None else flow.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            result = error = None
            try:
                if isinstance(effect, Pause):
                    self.clock.sleep(effect.seconds)
                elif isinstance(effect, Now):
                    result = self.clock.time()
                else:
                    result = self.send(effect)
            except GeoCatalogError as raised:
                error = raised

    async def arun(self, flow: Flow[T]) -> T:
        """
        Carry a flow out on an event loop without blocking it: requests are sent on the package's own threads.

        :param flow: A procedure from :mod:`airflow_provider_geocatalog.api.flows`.
        :return: The flow's value.
        :raises GeoCatalogError: What the flow does not handle itself.
        """
        loop = asyncio.get_running_loop()
        result: Any = None
        error: GeoCatalogError | None = None
        while True:
            try:
                effect = flow.send(result) if error is None else flow.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            result = error = None
            try:
                if isinstance(effect, Pause):
                    await self.clock.asleep(effect.seconds)
                elif isinstance(effect, Now):
                    result = self.clock.time()
                else:
                    context = contextvars.copy_context()  # Airflow's log routing hangs on context variables
                    result = await loop.run_in_executor(_threads(), partial(context.run, self.send, effect))
            except GeoCatalogError as raised:
                error = raised

    def throttle(self) -> None:
        """Block until another request may be sent to this GeoCatalog; call it just before sending."""
        per_second = self.settings.requests_per_second
        for _ in range(_MISSED_MOMENTS):
            now = self.clock.monotonic()
            seconds = self.rate_limit.reserve(now, per_second)
            if seconds <= 0:
                return
            self.clock.sleep(seconds)
            self.observer.held_back(seconds)
            if self.clock.monotonic() - now - seconds <= 1 / per_second:
                return

    # --- one request -------------------------------------------------------------------------------------------------

    def send(self, request: Request) -> Response:
        """
        Send one request: the token is renewed once on a 401, redirects are followed on the own origin only.

        :raises GeoCatalogUnreachable: No complete answer within the connection's request time-out.
        :raises GeoCatalogForeignUrl: The URL or a redirect leads to another origin.
        :raises GeoCatalogAuthenticationError: No token can be had.
        :raises GeoCatalogUnsupportedOperation: The connection's api-version lacks the operation.
        """
        method, url = request.endpoint.method, self._url(request)
        token, renewed = self.tokens.get(), False
        redirects = 0
        attempt = request.attempt
        while True:
            self.throttle()
            response = self._exchange(request, url, token, attempt)
            if response.status == 401 and not renewed:
                renewed = True
                refused, token = token, self.tokens.get(refused=token)
                if token == refused:
                    return response
                log_line(
                    log,
                    logging.INFO,
                    "%s %s answered 401; trying once more with a new token.",
                    method,
                    request.path,
                    endpoint=request.endpoint.name,
                    status=response.status,
                    attempt=attempt,
                    request_id=response.request_id,
                )
                attempt += 1
            elif response.status in _REDIRECTS and method == "GET" and "location" in response.headers:
                redirects += 1
                if redirects > _MAX_REDIRECTS:
                    raise GeoCatalogProtocolError(
                        "too many redirects",
                        status=response.status,
                        method=method,
                        path=request.path,
                        request_id=response.request_id,
                    )
                try:
                    url = self._own(url, response.headers["location"], request)
                except GeoCatalogForeignUrl as error:
                    error.status, error.request_id = response.status, response.request_id
                    raise
            else:
                return response

    def _url(self, request: Request) -> str:
        dialect = self.settings.dialect
        template = dialect.template(request.endpoint)
        if request.url is not None:
            return self._own(self.settings.url + "/", request.url, request)
        for name, value in request.names.items():
            # An empty segment or a dot segment would make another operation of it: cancelling "" cancels everything.
            if not isinstance(value, str) or value in {"", ".", ".."} or not _is_unicode(value):
                raise GeoCatalogInvalidInput(f"{value!r} cannot be the {name.replace('_', ' ')} of a call")
        path = request.endpoint.fill(request.names, template)
        for name, value in request.query.items():
            if not _is_unicode(value):
                raise GeoCatalogInvalidInput(f"{value!r} cannot be the {name} of a call")
        parameters = dialect.query(request.endpoint, request.query)
        query = urlencode({**parameters, "api-version": dialect.api_version}, quote_via=quote)
        return f"{self.settings.url}{path}?{query}"

    def check(self, request: Request) -> None:
        """
        Refuse a request that cannot be sent: the api-version lacks the operation, or a name cannot stand in a path.

        :raises GeoCatalogInvalidInput: It cannot.
        """
        self._url(request)

    def require_own(self, url: str, **details: Any) -> None:
        """
        Refuse a URL to which the token must not go.

        :raises GeoCatalogForeignUrl: It is not on the connection's own origin.
        """
        try:
            origin: tuple[str, str, int | None] | None = _origin(url)
        except ValueError:  # an impossible port or address
            origin = None
        # Parsers disagree about what a backslash means: for one the host ends there, for another it does not.
        if origin != self._origin or "\\" in url:
            shown = "something that is no URL"
            if origin is not None and origin != self._origin:
                shown = f"{origin[0]}://{origin[1]}:{origin[2]}"
            raise GeoCatalogForeignUrl(
                f"the service points to {shown}, which is not the connection's GeoCatalog; the token is not sent there",
                **details,
            )

    def _own(self, base: str, url: str, request: Request) -> str:
        """Return a URL that the service gave, with an api-version, if it is on the connection's own origin."""
        details: dict[str, Any] = {"method": request.endpoint.method, "path": request.path}
        try:
            url = urljoin(base, url)
        except ValueError as error:
            raise GeoCatalogForeignUrl(f"the service points to something that is no URL: {error}", **details) from error
        if not _is_unicode(url):
            raise GeoCatalogForeignUrl(f"the service points to something that is no URL: {url!r}", **details)
        self.require_own(url, **details)
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        if not any(name.lower() == "api-version" for name, _ in query):
            query.append(("api-version", self.settings.dialect.api_version))
        return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote), fragment=""))

    def _exchange(self, request: Request, url: str, token: str, attempt: int) -> Response:
        endpoint = request.endpoint
        client_request_id = str(uuid.uuid4())
        headers = {"Accept": endpoint.accept, "x-ms-client-request-id": client_request_id}
        body = self._encode(request, headers)
        response: Response | None = None
        failure = ""
        started = time.monotonic()
        try:
            response = self._http().exchange(endpoint.method, url, headers=headers, body=body, token=token)
        except GeoCatalogError as error:
            error.method, error.path, error.client_request_id = endpoint.method, request.path, client_request_id
            failure = error.message
            raise
        finally:
            seconds = time.monotonic() - started
            status = response.status if response else None
            request_id = response.request_id if response else None
            received = len(response.content) if response else 0
            self.observer.exchanged(Exchange(endpoint.name, status, seconds, attempt, len(body or b""), received))
            log_line(
                log,
                logging.DEBUG,
                "%s %s %s in %.0f ms [request id %s, client request id %s]",
                endpoint.method,
                request.path or "/",
                f"answered {status}" if status else f"failed: {failure or 'stopped'}",
                seconds * 1000,
                request_id,
                client_request_id,
                endpoint=endpoint.name,
                status=status,
                duration_ms=round(seconds * 1000, 1),
                attempt=attempt,
                request_id=request_id,
                client_request_id=client_request_id,
            )
        if response.status >= 400 and len(token) >= _SHORTEST_SECRET:  # some servers quote what they refuse
            response = dataclasses.replace(response, content=response.content.replace(token.encode(), b"***"))
        return response

    def _encode(self, request: Request, headers: dict[str, str]) -> bytes | None:
        """Return the bytes of the body, in the api-version's words, and set its header field."""
        endpoint, body = request.endpoint, request.body
        if isinstance(body, Multipart):
            from airflow_provider_geocatalog.transport import encode_multipart

            file = (body.file.filename, body.file.content, body.file.content_type)
            content, headers["Content-Type"] = encode_multipart([("file", file), ("data", _json(body.data).decode())])
            return content
        body = self.settings.dialect.body(endpoint, body)
        if body is None:
            return None
        headers["Content-Type"] = endpoint.content_type
        return _json(body)

    def _http(self) -> Transport:
        from airflow_provider_geocatalog.transport import Transport

        with self._lock:
            if self._transport is None:
                self._transport = Transport(
                    self.settings.url,
                    timeout=self.settings.request_timeout,
                    ca_bundle=self.settings.ca_bundle,
                    connections=_THREADS,
                )
            return self._transport

    def start_anew(self) -> None:
        """Forget connections and locks without touching them: they are those of the process that was forked."""
        self._transport, self._lock = None, threading.Lock()
        self.tokens.start_anew()
        self.rate_limit.start_anew()

    def close(self) -> None:
        """Close the kept connections; the client can be used again afterwards."""
        with self._lock:
            if self._transport is not None:
                self._transport.close()
                self._transport = None


def _is_unicode(text: str) -> bool:
    """Return whether a text can be encoded: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise GeoCatalogInvalidInput(f"the body cannot be written as JSON: {error}") from error


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(scheme)
