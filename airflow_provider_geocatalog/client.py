"""Carry flows out: addresses and origin rules, the token, and the blocking and the async driver."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from airflow_provider_geocatalog.api.errors import (
    GeoCatalogError,
    GeoCatalogForeignUrl,
    GeoCatalogInvalidInput,
    GeoCatalogProtocolError,
)
from airflow_provider_geocatalog.api.http import Flow, Now, Pause, Request, Response
from airflow_provider_geocatalog.auth import ConnectionSettings, TokenSource

if TYPE_CHECKING:
    from airflow_provider_geocatalog.transport import Transport

__all__ = ["Clock", "GeoCatalogClient", "SystemClock"]

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Threads for the async driver, shared by all connections of a process. The event loop's own pool has six threads on a
#: host with two cores, which a thousand waits outgrow.
_THREADS = 32
_MAX_REDIRECTS = 5
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


class Clock(Protocol):
    """The time, and ways to let it pass; tests bring their own."""

    def time(self) -> float:
        """Return epoch seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the thread."""

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

    async def asleep(self, seconds: float) -> None:
        """Suspend the task."""
        await asyncio.sleep(seconds)


class GeoCatalogClient:
    """
    A client of one GeoCatalog; thread-safe.

    :param settings: The checked connection.
    :param tokens: Where the bearer token comes from; the connection's credential if not given.
    :param clock: The time.
    """

    def __init__(
        self, settings: ConnectionSettings, *, tokens: TokenSource | None = None, clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self.tokens = tokens or TokenSource.of(settings)
        self._clock = clock or SystemClock()
        self._transport: Transport | None = None
        self._lock = threading.Lock()
        self._origin = _origin(settings.url)
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
                    self._clock.sleep(effect.seconds)
                elif isinstance(effect, Now):
                    result = self._clock.time()
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
                    await self._clock.asleep(effect.seconds)
                elif isinstance(effect, Now):
                    result = self._clock.time()
                else:
                    context = contextvars.copy_context()  # Airflow's log routing hangs on context variables
                    result = await loop.run_in_executor(_threads(), partial(context.run, self.send, effect))
            except GeoCatalogError as raised:
                error = raised

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
        while True:
            response = self._exchange(request, url, token)
            if response.status == 401 and not renewed:
                renewed = True
                refused, token = token, self.tokens.get(refused=token)
                if token == refused:
                    return response
                log.info("%s %s answered 401; trying once more with a new token.", method, request.path)
            elif response.status in _REDIRECTS and method == "GET" and "location" in response.headers:
                redirects += 1
                if redirects > _MAX_REDIRECTS:
                    raise GeoCatalogProtocolError("too many redirects", method=method, path=request.path)
                url = self._own(url, response.headers["location"], request)
            else:
                return response

    def _url(self, request: Request) -> str:
        dialect = self.settings.dialect
        template = dialect.template(request.endpoint)
        if request.url is not None:
            return self._own(self.settings.url + "/", request.url, request)
        for name, value in request.names.items():
            # An empty segment or a dot segment would make another operation of it: cancelling "" cancels everything.
            if not isinstance(value, str) or value in {"", ".", ".."}:
                raise GeoCatalogInvalidInput(f"{value!r} cannot be the {name.replace('_', ' ')} of a call")
        path = dataclasses.replace(request.endpoint, path=template).fill(request.names)
        return f"{self.settings.url}{path}?{urlencode({**request.query, 'api-version': dialect.api_version})}"

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
        self.require_own(url, **details)
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        if not any(name.lower() == "api-version" for name, _ in query):
            query.append(("api-version", self.settings.dialect.api_version))
        return urlunsplit(parts._replace(query=urlencode(query), fragment=""))

    def _exchange(self, request: Request, url: str, token: str) -> Response:
        endpoint = request.endpoint
        headers = {"Accept": "application/json"}
        body = None
        if request.body is not None:
            body = json.dumps(request.body, separators=(",", ":")).encode()
            headers["Content-Type"] = endpoint.content_type
        started = time.monotonic()
        try:
            response = self._http().exchange(endpoint.method, url, headers=headers, body=body, token=token)
        except GeoCatalogError as error:
            error.method, error.path = endpoint.method, request.path
            raise
        elapsed = (time.monotonic() - started) * 1000
        log.debug(
            "%s %s answered %s in %.0f ms [request id %s]",
            endpoint.method,
            request.path,
            response.status,
            elapsed,
            response.request_id,
        )
        return response

    def _http(self) -> Transport:
        from airflow_provider_geocatalog.transport import Transport

        with self._lock:
            if self._transport is None:
                self._transport = Transport(
                    timeout=self.settings.request_timeout, ca_bundle=self.settings.ca_bundle, connections=_THREADS
                )
            return self._transport

    def close(self) -> None:
        """Close the kept connections; the client can be used again afterwards."""
        with self._lock:
            if self._transport is not None:
                self._transport.close()
                self._transport = None


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(scheme)
