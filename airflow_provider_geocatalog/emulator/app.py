"""The emulator as an ASGI application: authentication, api-versions, routing, errors and headers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import mimetypes
import secrets
import threading
import uuid
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.websockets import WebSocketClose

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.dialects import DEFAULT_API_VERSION, DIALECTS
from airflow_provider_geocatalog.api.http import Area
from airflow_provider_geocatalog.api.redaction import MASK, redact
from airflow_provider_geocatalog.emulator import (  # noqa: F401  (importing registers the handlers)
    control,
    faulty_answers,
    routes_assets,
    routes_catalog,
    routes_configurations,
    routes_ingestion,
    routes_items,
    routes_operations,
    routes_queryables,
    routes_sas,
    routes_sources,
    wire,
)
from airflow_provider_geocatalog.emulator.auth import bearer_token, role_of
from airflow_provider_geocatalog.emulator.blob_listing import listing
from airflow_provider_geocatalog.emulator.clock import Clock
from airflow_provider_geocatalog.emulator.engine import Engine
from airflow_provider_geocatalog.emulator.faults import AskedRequest, Faults, Strike
from airflow_provider_geocatalog.emulator.forms import MULTIPART, read_upload
from airflow_provider_geocatalog.emulator.limits import Throttle
from airflow_provider_geocatalog.emulator.managed_store import MANAGED_PREFIX, managed_url
from airflow_provider_geocatalog.emulator.pages import Pages
from airflow_provider_geocatalog.emulator.routing import DATA_PREFIX, HANDLERS, ROUTES, Context, Match
from airflow_provider_geocatalog.emulator.settings import EmulatorSettings
from airflow_provider_geocatalog.emulator.state import StateError, World
from airflow_provider_geocatalog.emulator.state_file import StateFile
from airflow_provider_geocatalog.emulator.storage import STORAGE_PREFIX, Blobs, StorageError
from airflow_provider_geocatalog.emulator.wire import Answer, ApiError, Call, ProblemError, Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from airflow_provider_geocatalog.api.http import Endpoint

__all__ = ["Emulator", "RecordedRequest"]

log = logging.getLogger(__name__)
access_log = logging.getLogger("airflow_provider_geocatalog.emulator.access")

_REMEMBERED_REQUESTS = 10_000
_MAX_ORIGINS = 64
_LONGEST_DISCARDING = 10.0  # seconds for which the rest of a body that is too large is received
_VERSIONS_HEADER = {"api-supported-versions": wire.SUPPORTED_VERSIONS}
_WRITE_SIDE_PREFIX = "/inma/"  # the oldest dialect has both sides below one prefix
_SPARE_FRAMES = 150  # of Python's stack, for what writes a document again or reads it from the state file
#: Operations that take none although their method could.
_WITHOUT_BODY = frozenset({endpoints.CREATE_RUN.name, endpoints.REVOKE_SAS_TOKENS.name})
_JSON_TYPES = ("application/json", "application/merge-patch+json", "application/geo+json")


@dataclass(frozen=True)
class RecordedRequest:
    """
    A request that the emulator answered, for tests.

    :param query: Query parameters without secrets.
    :param status: HTTP status code, also of an answer that a fault kept from arriving; 0: the request was not handled.
    :param operation: Name of the endpoint, where one was reached.
    :param at: Epoch seconds, by the emulator's clock.
    :param fault: Id of the fault that struck it; latencies do not count.
    """

    method: str
    path: str
    query: Mapping[str, str]
    status: int
    operation: str | None = None
    request_id: str = ""
    at: float = 0.0
    fault: str | None = None


class Emulator:
    """
    An emulated GeoCatalog. ``app`` is its ASGI application.

    :param settings: How it behaves; as the service does, if not given.
    :param clock: Its time; the machine's, if not given.
    :raises StateError: The state file cannot be used.
    """

    def __init__(self, settings: EmulatorSettings | None = None, clock: Clock | None = None) -> None:
        self.settings = settings or EmulatorSettings()
        self.clock = clock or Clock()
        self.admin_tokens = self.settings.admin_tokens or (secrets.token_urlsafe(24),)
        self.faults = Faults(self.clock)
        self.faults.on_removal(lambda: self.engine.release())  # an engine is replaced by a reset
        self.requests: deque[RecordedRequest] = deque(maxlen=_REMEMBERED_REQUESTS)
        self._control = control.Control(self)
        limits = self.settings.bounds
        self._throttle = Throttle(limits.requests_per_second) if limits is not None else None
        self.origins: set[str] = set()
        blobs = Blobs(self.settings, self.origins)
        self._resetting = threading.Lock()
        self._file: StateFile | None = None
        self._context = self._open(blobs)
        service = _AsgiEndpoint(self)
        self.app = Starlette(
            routes=[
                Route(STORAGE_PREFIX + "/{container}/{path:path}", self._storage, methods=["GET", "HEAD"]),
                Route(MANAGED_PREFIX + "/{container}", self._managed_list, methods=["GET"]),
                Route(MANAGED_PREFIX + "/{container}/{path:path}", self._managed, methods=["GET", "HEAD"]),
                *Pages(self, service).routes,
            ],
            lifespan=self._lifespan,
        )
        # Everything else, whatever its method and path: a pattern would leave out paths with a line break.
        self.app.router.default = service
        self.app.router.redirect_slashes = False

    @property
    def admin_token(self) -> str:
        """A bearer token with the role GeoCatalog Administrator."""
        return self.admin_tokens[0]

    def add_origin(self, url: str) -> None:
        """Make known that ``url`` (scheme, host and port) leads to this emulator, so that runs read its containers."""
        if len(self.origins) < _MAX_ORIGINS:
            self.origins.add(url.rstrip("/"))

    @property
    def world(self) -> World:
        """What the GeoCatalog holds."""
        return self._context.world

    @property
    def engine(self) -> Engine:
        """What moves its operations."""
        return self._context.engine

    def _open(self, blobs: Blobs) -> Context:
        if self.settings.state is not None:
            self._file = StateFile(self.settings.state)
        return self._fill(World() if self._file is None else self._file.new_world(), blobs)

    def _fill(self, world: World, blobs: Blobs) -> Context:
        engine = Engine(world, self.settings, self.clock, blobs, self.faults)
        context = Context(world, engine, self.settings, blobs)
        if self._file is not None:
            self._file.restore(context, self.origins)
        return context

    def _renew(self, old: Context) -> Context:
        """Return a context without anything in it, the state file emptied."""
        with old.world.lock:
            return self._fill(World() if self._file is None else self._file.renew(old.world), old.blobs)

    def close(self) -> None:
        """Stop, and let the state file go; what it keeps is there for the next emulator."""
        self.engine.stop()
        if self._file is not None:
            self.engine.retire()
            file, self._file = self._file, None
            file.close(self.world)

    def reset(self, *, at: float | None = None) -> None:
        """
        Forget everything that was stored, faults and the record of requests included; tokens and settings stay.

        :param at: Epoch seconds to which the clock is set, back or forth.
        :raises ValueError: They are too far away.
        """
        with self._resetting:
            if at is not None:
                self.clock.start_over(at)
            old = self._context
            self._context = self._renew(old)
            if old.engine.is_running:
                self.engine.start()
            old.engine.retire()
            with old.world.lock:
                for collection_id in old.world.collections:
                    old.blobs.managed.remove_collection(collection_id)
            self.faults.clear()
            self.requests.clear()

    def settle(self, timeout: float = 10.0) -> bool:
        """Wait until no source is being read; for tests with a clock that stands still."""
        return self.engine.settle(timeout)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        if self.settings.state is not None and self._file is None:  # it was closed
            self._context = self._open(self._context.blobs)
        self.engine.start()
        try:
            yield
        finally:
            self.close()

    # --- the service --------------------------------------------------------------------------------------------

    def answer(self, request: Request, content: bytes) -> tuple[Answer, Endpoint | None]:
        """Answer a request to the service; never raises."""
        endpoint = None
        try:
            now = self.clock.now()
            role = role_of(request.headers.get("authorization"), self.admin_tokens, self.settings.reader_tokens, now)
            if role is None:
                return self._unauthorized(), None
            self.faults.saw_token(bearer_token(request.headers["authorization"]))
            self.add_origin(_origin(request))
            self.engine.advance(now)
            raw_path = _raw_path(request)
            if raw_path.startswith(control.PREFIX):
                answer = self._control.answer(request.method, raw_path, request.query_params, content, role)
                return answer, None
            version = _checked_version(self._version_of(request))
            match = _match(version, raw_path, request)
            endpoint = match.endpoint
            if endpoint is None:
                raise _not_allowed(raw_path, match)
            answer = self._carry_out(endpoint, version, match, role, request, content, now)
        except (ApiError, ProblemError) as refusal:
            answer = refusal.answer()
        except StateError as error:
            answer = ApiError(500, "StateNotSaved", str(error)).answer()
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            answer = ProblemError(500).answer()
        if endpoint is not None and wire.is_write_side(endpoint):
            answer.headers |= _VERSIONS_HEADER
            if answer.media_type is None:
                answer.media_type = "application/json; charset=utf-8"
        return answer, endpoint

    def _unauthorized(self) -> Answer:
        headers = {"WWW-Authenticate": "Bearer"}
        if self.settings.unauthorized_body == "empty":
            return Answer(401, headers=headers)
        return ApiError(401, "Unauthorized", "A valid bearer token is needed.", headers).answer()

    def too_large(self) -> Answer:
        """Return the refusal of a body that is larger than may be."""
        most = self.settings.max_body_bytes
        return ApiError(
            413, "RequestBodyTooLarge", f"The body is larger than {most} bytes.", {"Connection": "close"}
        ).answer()

    def _carry_out(
        self, endpoint: Endpoint, version: str, match: Match, role: str, request: Request, content: bytes, now: float
    ) -> Answer:
        reads = endpoint.method == "GET" or endpoint.read_only
        if role == Role.NONE or (role != Role.ADMINISTRATOR and not reads):
            if self.settings.forbidden_body == "empty":
                return Answer(403)
            raise ApiError(403, "Forbidden", f"The role '{role}' does not allow this operation.")
        if self._throttle is not None and endpoint.area is Area.STAC and not self._throttle.passes():
            raise wire.throttled("Too many requests. Try again later.")
        path = _raw_path(request).removesuffix("/")
        own_path = f"{path}/" if endpoint is endpoints.GET_LANDING_PAGE else path
        # Recorded for the landing page; elsewhere what the read side's framework does. The write side's minds no slash.
        if own_path != _raw_path(request) and not wire.is_write_side(endpoint):
            query = f"?{request.url.query}" if request.url.query else ""
            return Answer(307, headers={"Location": f"{_origin(request)}{own_path}{query}"})
        handler = HANDLERS.get(endpoint.name)
        if handler is None:
            raise wire.not_emulated(f"the operation '{endpoint.name}' ({endpoint.method} {endpoint.path})")
        parameters = dict(request.query_params)
        body = _body(endpoint, request, content)
        managed = managed_url(self.settings, _origin(request))
        dialect = self.settings.spoken(DIALECTS[version])
        call = Call(endpoint, dialect, match.names, parameters, body, _origin(request), now, managed)
        context = self._context  # one and the same, even if the emulator is reset meanwhile
        if handler.locked:
            with context.world.lock:
                if not reads:
                    context.world.journal.other()
                    if "collection_id" in match.names:
                        context.world.journal.collection(match.names["collection_id"])
                answer = handler.handler(context, call)
        else:
            answer = handler.handler(context, call)
        if self.faults.on_operations and wire.is_write_side(endpoint):
            faulty_answers.disguise(answer.body, self.faults, context.world.operations, call.dialect.operation_id_field)
        return answer

    def strike(self, request: Request) -> Strike | None:
        """Return what faults have happen to a request."""
        path = _raw_path(request)
        if path.startswith(control.PREFIX):
            return None
        endpoint = self.endpoint_of(request)
        version = request.query_params.get("api-version", "")
        token = bearer_token(request.headers.get("authorization"))
        return self.faults.strike(
            AskedRequest(request.method, path, endpoint.name if endpoint else None, version, token)
        )

    def endpoint_of(self, request: Request) -> Endpoint | None:
        """Return the operation that a request is for, if it is for one."""
        routes = ROUTES.get(self._version_of(request))
        match = routes.match(_raw_path(request), request.method) if routes else None
        return match.endpoint if match else None

    def _version_of(self, request: Request) -> str:
        """Return the api-version that a request is for; an empty text if it does not tell and has to."""
        version = request.query_params.get("api-version", "")
        if version or self.settings.missing_version == "refuse":
            return version
        match = ROUTES[DEFAULT_API_VERSION].match(_raw_path(request).removesuffix("/"), request.method)
        is_read = match is not None and match.endpoint is not None and not wire.is_write_side(match.endpoint)
        return DEFAULT_API_VERSION if is_read else ""

    # --- storage ------------------------------------------------------------------------------------------------

    async def _storage(self, request: Request) -> Response:
        """Play Blob storage with the containers that were given."""
        return await self._blob(request, self._context.blobs.find)

    async def _managed(self, request: Request) -> Response:
        """Play Blob storage with managed storage."""
        return await self._blob(request, partial(self._context.blobs.managed.find, self.world.sas))

    async def _managed_list(self, request: Request) -> Response:
        """List a container of managed storage."""

        def listed() -> Response:
            container, query = request.path_params["container"], request.query_params
            if (query.get("restype"), query.get("comp")) != ("container", "list"):
                raise StorageError(400, "InvalidQueryParameterValue", "A container can only be listed.")
            blobs = self._context.blobs.managed.blobs(self.world.sas, container, request.url.query, self.clock.now())
            prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
            xml = listing(_origin(request) + MANAGED_PREFIX, container, blobs, prefix, delimiter)
            return Response(xml, media_type="application/xml")

        return await self._storage_answer(request, listed)

    async def _blob(self, request: Request, find: Callable[[str, str, str, float], Path]) -> Response:
        container, path = request.path_params["container"], request.path_params["path"]
        if "x-ms-range" in request.headers:  # what Azure's own clients send
            request.scope["headers"] = [*request.scope["headers"], (b"range", request.headers["x-ms-range"].encode())]

        def found() -> Response:
            file = find(container, path, request.url.query, self.clock.now())
            media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
            return FileResponse(file, media_type=media_type, headers={"x-ms-blob-type": "BlockBlob"})

        return await self._storage_answer(request, found)

    async def _storage_answer(self, request: Request, answer: Callable[[], Response]) -> Response:
        """Play Blob storage, which knows nothing of bearer tokens and has errors of its own."""
        try:
            response = await run_in_threadpool(answer)
        except StorageError as error:
            xml = (
                '<?xml version="1.0" encoding="utf-8"?>'
                f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
            )
            response = Response(xml, error.status, {"x-ms-error-code": error.code}, media_type="application/xml")
        self.record(request, response, None)
        return response

    def record(
        self, request: Request, response: Response, endpoint: Endpoint | None, strike: Strike | None = None
    ) -> None:
        """Remember and log a request, without its query string."""
        request_id = response.headers.get("x-request-id") or uuid.uuid4().hex
        response.headers["X-Request-ID"] = request_id
        path = request.url.path
        access_log.info("%s %s %s", request.method, redact(path), response.status_code)
        if endpoint is None and _is_control(_raw_path(request)):
            return
        query = {name: MASK if name == "sig" else redact(value) for name, value in request.query_params.items()}
        operation = endpoint.name if endpoint else None
        fault = strike.fault.id if strike and strike.fault else None
        status, now = response.status_code, self.clock.now()
        self.requests.append(RecordedRequest(request.method, path, query, status, operation, request_id, now, fault))


class _AsgiEndpoint:
    """Hand requests to the emulator's threads; a class, so that Starlette passes every method on."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            content = await _content(request, self._emulator.settings.max_body_bytes)
        except ClientDisconnect:
            return
        if content is None:
            response = _encode(self._emulator.too_large())
            self._emulator.record(request, response, None)
            await response(scope, receive, send)
            return
        strike = self._emulator.strike(request) if self._emulator.faults.on_requests else None
        if strike is not None:
            await self._answer_struck(strike, request, content, send)
            return
        answer, endpoint = await run_in_threadpool(self._emulator.answer, request, content)
        response = await run_in_threadpool(_encode, answer)
        self._emulator.record(request, response, endpoint)
        await response(scope, receive, send)

    async def _answer_struck(self, strike: Strike, request: Request, content: bytes, send: Send) -> None:
        rule = strike.fault.rule if strike.fault else None
        await asyncio.sleep(strike.before)
        answer, endpoint = Answer(0), self._emulator.endpoint_of(request)
        if faulty_answers.is_handled(rule):
            answer, endpoint = await run_in_threadpool(self._emulator.answer, request, content)
        await asyncio.sleep(strike.after)
        answer = faulty_answers.instead_of(rule) or answer
        response = await run_in_threadpool(_encode, answer)
        self._emulator.record(request, response, endpoint, strike)
        await faulty_answers.send_faulty(rule, response, request.scope, request.receive, send)


async def _content(request: Request, most: int) -> bytes | None:
    """
    Read a body, ``None`` if it is too large; then the rest is received for a while but not kept.

    Most clients look for an answer only when they have sent everything.
    """
    given = request.headers.get("content-length", "")
    size = int(given) if given.isascii() and given.isdigit() else 0
    if size > most and "expect" in request.headers:  # it waits for a word before it sends anything
        return None
    chunks: list[bytes] | None = None if size > most else []
    received = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as patience:
            async for chunk in request.stream():
                received += len(chunk)
                if chunks is not None and received <= most:
                    chunks.append(chunk)
                elif patience.when() is None:
                    chunks = None
                    patience.reschedule(asyncio.get_running_loop().time() + _LONGEST_DISCARDING)
    if chunks is None:
        return None
    content = b"".join(chunks)
    request._body = content  # where Starlette looks for it, when it reads a form
    return content


def _encode(answer: Answer) -> Response:
    headers = {**answer.headers, "X-Request-ID": uuid.uuid4().hex}
    if answer.body is None:
        return Response(b"", answer.status, headers)
    content = answer.body
    if not isinstance(content, bytes):
        content = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Response(content, answer.status, {**headers, "Content-Type": answer.media_type or "application/json"})


def _origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.headers.get('host') or request.url.netloc}"


def _is_control(raw_path: str) -> bool:
    return raw_path.startswith(control.PREFIX) and not raw_path.startswith((STORAGE_PREFIX, MANAGED_PREFIX))


def _raw_path(request: Request) -> str:
    raw = request.scope.get("raw_path")
    return raw.decode("latin-1").split("?", 1)[0] if raw else request.url.path


def _checked_version(version: str) -> str:
    if not version:
        raise ApiError(
            400, "MissingApiVersionParameter", "The api-version query parameter is required.", _VERSIONS_HEADER
        )
    if version not in DIALECTS:
        raise ApiError(
            400,
            "UnsupportedApiVersion",
            f"The requested api-version '{version}' is not supported. Supported: {wire.SUPPORTED_VERSIONS}.",
            _VERSIONS_HEADER,
        )
    return version


def _match(version: str, raw_path: str, request: Request) -> Match:
    routes = ROUTES[version]
    match = routes.match(raw_path, request.method)
    if match is None and raw_path.endswith("/"):
        match = routes.match(raw_path[:-1], request.method)
    if match is None and raw_path.startswith(DATA_PREFIX + "/"):
        raise wire.not_emulated("the data (tiler) operations")
    if match is None and _is_of_write_side(raw_path):
        raise ProblemError(404, headers=_VERSIONS_HEADER)
    if match is None:
        raise wire.not_found(f"Resource not found at '{raw_path}'. Check the path and its api-version.")
    return match


def _is_of_write_side(raw_path: str) -> bool:
    """Return whether a path is only the write side's, whose routing errors are problem details (1)."""
    return raw_path.startswith(_WRITE_SIDE_PREFIX)


def _not_allowed(raw_path: str, match: Match) -> ApiError | ProblemError:
    allowed = {"Allow": ", ".join(sorted(match.methods))}
    if _is_of_write_side(raw_path):
        return ProblemError(405, headers={**allowed, **_VERSIONS_HEADER})
    return ApiError(405, "MethodNotAllowed", "The method is not allowed here.", allowed)


def _parsed_below(frames: int, content: bytes) -> Any:
    """Parse with so many frames less, so that a document that is nested too deeply to be handled is refused here."""
    return _parsed_below(frames - 1, content) if frames else wire.parse_json(content)


def _body(endpoint: Endpoint, request: Request, content: bytes) -> Any:
    """
    Return the body of an operation that takes one.

    :raises ProblemError: It has another media type, or is malformed on the write side.
    :raises ApiError: It is malformed on the read side.
    """
    if endpoint.method in ("GET", "DELETE") or endpoint.name in _WITHOUT_BODY:
        return None
    is_form = endpoint.content_type == MULTIPART
    given = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if given not in ((MULTIPART,) if is_form else _JSON_TYPES):
        if wire.is_write_side(endpoint):
            raise ProblemError(415)
        raise ApiError(415, "UnsupportedMediaType", f"The media type '{given}' is not supported here.")
    if is_form:
        return read_upload(request)
    try:
        return _parsed_below(_SPARE_FRAMES, content)
    except (ValueError, RecursionError) as error:
        if wire.is_write_side(endpoint):
            raise ProblemError(400, "The body is not valid JSON.") from error
        text = f"{error}".title() if isinstance(error, json.JSONDecodeError) else "The body is not valid JSON"
        raise wire.bad_request(text) from error
