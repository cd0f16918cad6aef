"""The emulator as an ASGI application: authentication, api-versions, routing, errors and headers."""

from __future__ import annotations

import contextlib
import json
import logging
import mimetypes
import secrets
import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.dialects import DIALECTS
from airflow_provider_geocatalog.api.redaction import MASK, redact
from airflow_provider_geocatalog.emulator import (  # noqa: F401  (importing registers the handlers)
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
from airflow_provider_geocatalog.emulator.auth import role_of
from airflow_provider_geocatalog.emulator.clock import Clock, SystemClock
from airflow_provider_geocatalog.emulator.engine import Engine
from airflow_provider_geocatalog.emulator.forms import MULTIPART, read_upload
from airflow_provider_geocatalog.emulator.routing import DATA_PREFIX, HANDLERS, ROUTES, Context, Match
from airflow_provider_geocatalog.emulator.settings import EmulatorSettings
from airflow_provider_geocatalog.emulator.state import World
from airflow_provider_geocatalog.emulator.storage import STORAGE_PREFIX, Blobs, StorageError
from airflow_provider_geocatalog.emulator.wire import Answer, ApiError, Call, ProblemError, Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import Receive, Scope, Send

    from airflow_provider_geocatalog.api.http import Endpoint

__all__ = ["Emulator", "RecordedRequest"]

log = logging.getLogger(__name__)
access_log = logging.getLogger("airflow_provider_geocatalog.emulator.access")

_REMEMBERED_REQUESTS = 10_000
_MAX_ORIGINS = 64
_FAILURES_PREFIX = "/_emulator/runs/"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_VERSIONS_HEADER = {"api-supported-versions": wire.SUPPORTED_VERSIONS}
#: Operations that take none although their method could.
_WITHOUT_BODY = frozenset({endpoints.CREATE_RUN.name, endpoints.REVOKE_SAS_TOKENS.name})
_JSON_TYPES = ("application/json", "application/merge-patch+json", "application/geo+json")


@dataclass(frozen=True)
class RecordedRequest:
    """
    A request that the emulator answered, for tests.

    :param query: Query parameters without secrets.
    :param operation: Name of the endpoint, where one was reached.
    """

    method: str
    path: str
    query: Mapping[str, str]
    status: int
    operation: str | None = None
    request_id: str = ""


class Emulator:
    """
    An emulated GeoCatalog. ``app`` is its ASGI application.

    :param settings: How it behaves; as the service does, if not given.
    :param clock: Its time; the machine's, if not given.
    """

    def __init__(self, settings: EmulatorSettings | None = None, clock: Clock | None = None) -> None:
        self.settings = settings or EmulatorSettings()
        self.clock = clock or SystemClock()
        self.admin_tokens = self.settings.admin_tokens or (secrets.token_urlsafe(24),)
        self.requests: deque[RecordedRequest] = deque(maxlen=_REMEMBERED_REQUESTS)
        self.world = World()
        self.origins: set[str] = set()
        blobs = Blobs(self.settings, self.origins)
        self.engine = Engine(self.world, self.settings, self.clock, blobs)
        self._context = Context(self.world, self.engine, self.settings, blobs)
        self.app = Starlette(
            routes=[
                Route(STORAGE_PREFIX + "/{container}/{path:path}", self._storage, methods=["GET", "HEAD"]),
                Route("/{path:path}", _AsgiEndpoint(self), methods=list(_METHODS)),
            ],
            lifespan=self._lifespan,
        )

    @property
    def admin_token(self) -> str:
        """A bearer token with the role GeoCatalog Administrator."""
        return self.admin_tokens[0]

    def add_origin(self, url: str) -> None:
        """Make known that ``url`` (scheme, host and port) leads to this emulator, so that runs read its containers."""
        if len(self.origins) < _MAX_ORIGINS:
            self.origins.add(url.rstrip("/"))

    def settle(self, timeout: float = 10.0) -> bool:
        """Wait until no source is being read; for tests with a clock that stands still."""
        return self.engine.settle(timeout)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.engine.start()
        try:
            yield
        finally:
            self.engine.stop()

    # --- the service --------------------------------------------------------------------------------------------

    def answer(self, request: Request, content: bytes) -> tuple[Answer, Endpoint | None]:
        """Answer a request to the service; never raises."""
        endpoint = None
        try:
            now = self.clock.now()
            role = role_of(request.headers.get("authorization"), self.admin_tokens, self.settings.reader_tokens, now)
            if role is None:
                return Answer(401, headers={"WWW-Authenticate": "Bearer"}), None
            self.add_origin(_origin(request))
            self.engine.advance(now)
            raw_path = _raw_path(request)
            if raw_path.startswith(_FAILURES_PREFIX):
                return self._failures(raw_path, request.method, role), None
            version = _version(request.query_params.getlist("api-version"))
            match = _match(version, raw_path, request)
            endpoint = match.endpoint
            if endpoint is None:
                raise ApiError(405, "MethodNotAllowed", "The method is not allowed here.", {"Allow": _allowed(match)})
            answer = self._carry_out(endpoint, version, match, role, request, content, now)
        except (ApiError, ProblemError) as refusal:
            answer = refusal.answer()
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            answer = ProblemError(500).answer()
        if endpoint is not None and wire.is_write_side(endpoint):
            answer.headers |= _VERSIONS_HEADER
            if answer.media_type is None:
                answer.media_type = "application/json; charset=utf-8"
        return answer, endpoint

    def _carry_out(
        self, endpoint: Endpoint, version: str, match: Match, role: str, request: Request, content: bytes, now: float
    ) -> Answer:
        reads = endpoint.method == "GET" or endpoint.read_only
        if role == Role.NONE or (role != Role.ADMINISTRATOR and not reads):
            raise ApiError(403, "Forbidden", f"The role '{role}' does not allow this operation.")
        if endpoint is endpoints.GET_LANDING_PAGE and not _raw_path(request).endswith("/"):
            query = f"?{request.url.query}" if request.url.query else ""
            return Answer(307, headers={"Location": f"{_origin(request)}{_raw_path(request)}/{query}"})
        handler = HANDLERS.get(endpoint.name)
        if handler is None:
            raise wire.not_emulated(f"the operation '{endpoint.name}' ({endpoint.method} {endpoint.path})")
        parameters = dict(request.query_params)
        body = _body(endpoint, request, content)
        call = Call(endpoint, DIALECTS[version], match.names, parameters, body, _origin(request), now)
        if not handler.locked:
            return handler.handler(self._context, call)
        with self.world.lock:
            return handler.handler(self._context, call)

    def _failures(self, raw_path: str, method: str, role: str) -> Answer:
        """Tell why items of a run failed: the emulator's stand-in for the service's diagnostic logs (10.3)."""
        if role != Role.ADMINISTRATOR:
            raise ApiError(403, "Forbidden", f"The role '{role}' does not allow this operation.")
        run_id, _, rest = raw_path[len(_FAILURES_PREFIX) :].partition("/")
        with self.world.lock:
            operation = self.world.operations.get(unquote(run_id))
            if operation is None or rest != "failures" or method != "GET":
                raise wire.not_found(f"Nothing at '{raw_path}'")
            return Answer(body={"value": routes_operations.failures_json(operation)})

    # --- storage ------------------------------------------------------------------------------------------------

    async def _storage(self, request: Request) -> Response:
        """Play Blob storage, which knows nothing of bearer tokens."""
        container, path = request.path_params["container"], request.path_params["path"]
        try:
            find = self._context.blobs.find
            file = await run_in_threadpool(find, container, path, request.url.query, self.clock.now())
            media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            response: Response = FileResponse(file, media_type=media_type, headers={"x-ms-blob-type": "BlockBlob"})
        except StorageError as error:
            xml = (
                '<?xml version="1.0" encoding="utf-8"?>'
                f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
            )
            headers = {"x-ms-error-code": error.code}
            response = Response(xml, error.status, headers, media_type="application/xml")
        self.record(request, response, None)
        return response

    def record(self, request: Request, response: Response, endpoint: Endpoint | None) -> None:
        """Remember and log a request, without its query string."""
        request_id = response.headers.get("x-request-id") or uuid.uuid4().hex
        response.headers["X-Request-ID"] = request_id
        path = request.url.path
        query = {name: MASK if name == "sig" else redact(value) for name, value in request.query_params.items()}
        operation = endpoint.name if endpoint else None
        self.requests.append(RecordedRequest(request.method, path, query, response.status_code, operation, request_id))
        access_log.info("%s %s %s", request.method, redact(path), response.status_code)


class _AsgiEndpoint:
    """Hand requests to the emulator's threads; a class, so that Starlette passes every method on."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        content = await request.body()
        answer, endpoint = await run_in_threadpool(self._emulator.answer, request, content)
        response = await run_in_threadpool(_encode, answer)
        self._emulator.record(request, response, endpoint)
        await response(scope, receive, send)


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


def _raw_path(request: Request) -> str:
    raw = request.scope.get("raw_path")
    return raw.decode("latin-1").split("?", 1)[0] if raw else request.url.path


def _version(given: list[str]) -> str:
    if not given or not given[-1]:
        raise ApiError(
            400, "MissingApiVersionParameter", "The api-version query parameter is required.", _VERSIONS_HEADER
        )
    if given[-1] not in DIALECTS:
        raise ApiError(
            400,
            "UnsupportedApiVersion",
            f"The requested api-version '{given[-1]}' is not supported. Supported: {wire.SUPPORTED_VERSIONS}.",
            _VERSIONS_HEADER,
        )
    return given[-1]


def _match(version: str, raw_path: str, request: Request) -> Match:
    routes = ROUTES[version]
    match = routes.match(raw_path, request.method)
    if match is None and raw_path.endswith("/"):
        landing = routes.match(raw_path[:-1], request.method)
        match = landing if landing is not None and landing.endpoint is endpoints.GET_LANDING_PAGE else None
    if match is None and raw_path.startswith(DATA_PREFIX + "/"):
        raise wire.not_emulated("the data (tiler) operations")
    if match is None:
        raise wire.not_found(f"Resource not found at '{raw_path}'. Check the path and its api-version.")
    return match


def _allowed(match: Match) -> str:
    return ", ".join(sorted(match.methods))


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
        raise ProblemError(415)
    if is_form:
        return read_upload(request)
    try:
        return wire.parse_json(content)
    except (ValueError, RecursionError) as error:
        if wire.is_write_side(endpoint):
            raise ProblemError(400, "The body is not valid JSON.") from error
        text = f"{error}".title() if isinstance(error, json.JSONDecodeError) else "The body is not valid JSON"
        raise wire.bad_request(text) from error
