"""
What people see in a browser: the catalog's contents and what is going on, at ``/``.

The pages only read. They need no JavaScript and load nothing, from this server or another; a policy in their headers
holds the browser to that. Text goes through :func:`element`, which hides secrets and escapes, so that an id, a title or
a message from a client stays text.
"""

from __future__ import annotations

import datetime
import hashlib
import html
import json
import secrets
from base64 import b64encode
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_geocatalog.api.dialects import DEFAULT_API_VERSION, DIALECTS
from airflow_provider_geocatalog.api.redaction import MASK, redact
from airflow_provider_geocatalog.emulator import footprints, openapi, openapi_control, wire
from airflow_provider_geocatalog.emulator.auth import role_of
from airflow_provider_geocatalog.emulator.managed_store import located, managed_url
from airflow_provider_geocatalog.emulator.markup import Markup, element
from airflow_provider_geocatalog.emulator.page_style import STYLE
from airflow_provider_geocatalog.emulator.wire import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from airflow_provider_geocatalog.emulator.app import Emulator
    from airflow_provider_geocatalog.emulator.state import Change, Collection, Counters, Operation, Run

__all__ = ["Pages"]

PREFIX = "/_emulator/page"
COOKIE = "geocatalog-emulator"
_MAX_SESSIONS = 100
_MAX_FORM = 16 * 1024  # bytes; an Entra token has about two thousand
_SHORTEST_SECRET = 8  # characters; masking shorter ones would mask words
_ITEMS_PER_PAGE, _SHOWN_OPERATIONS, _SHOWN_RUNS, _SHOWN_FAILURES, _SHOWN_CHANGES, _SHOWN_STEPS = 25, 30, 20, 200, 100, 4
_MAPPED_ITEMS = 400  # of the whole catalog, and of a collection
_BUSY_REFRESH, _IDLE_REFRESH = 2, 15  # seconds

_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class _Page:
    """
    A page before its frame is drawn.

    :param refresh: Seconds after which the browser reads it again, if that shows anything new.
    """

    title: str
    content: Sequence[Markup]
    status: int = 200
    refresh: int | None = None


class Pages:
    """
    The pages of one emulator, and its description for machines.

    :param emulator: What they show.
    :param service: What answers at ``/`` to everybody but browsers.
    """

    def __init__(self, emulator: Emulator, service: ASGIApp) -> None:
        self._emulator = emulator
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self.routes = [
            Route("/", _ForBrowsers(self._page(self._overview), service)),
            Route(f"{PREFIX}/collections/{{collection_id}}", self._page(self._collection)),
            Route(f"{PREFIX}/collections/{{collection_id}}/items/{{item_id:path}}", self._page(self._item)),
            Route(f"{PREFIX}/operations/{{operation_id}}", self._page(self._operation)),
            Route(f"{PREFIX}/login", self._login, methods=["POST"]),
            Route(f"{PREFIX}/logout", self._logout, methods=["POST"]),
            Route(openapi.PATH, self._description),
            Route(openapi_control.PATH, self._control_description),
            Route(openapi.PAGE_PATH, self._page(self._description_page)),
        ]

    # --- access -------------------------------------------------------------------------------------------------

    def _role(self, request: Request) -> str | None:
        """Return the role of a caller with a token, or with the cookie that stands for one."""
        authorization = request.headers.get("authorization") or self._sessions.get(request.cookies.get(COOKIE, ""))
        emulator = self._emulator
        return role_of(authorization, emulator.admin_tokens, emulator.settings.reader_tokens, emulator.clock.now())

    async def _login(self, request: Request) -> Response:
        content = b""
        async for chunk in request.stream():
            content += chunk
            if len(content) > _MAX_FORM:
                return self._framed(request, _login_page("This is no token."))
        token = parse_qs(content.decode("utf-8", "replace")).get("token", [""])[-1].strip()
        emulator = self._emulator
        role = role_of(f"Bearer {token}", emulator.admin_tokens, emulator.settings.reader_tokens, emulator.clock.now())
        if role is None:
            return self._framed(request, _login_page("This token is not accepted."))
        session = secrets.token_urlsafe(32)
        self._sessions[session] = f"Bearer {token}"  # looked at again with each request, since tokens expire
        while len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)
        response = Response(status_code=303, headers={**_HEADERS, "Location": "/"})
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, session, path="/", httponly=True, samesite="strict", secure=secure)
        return response

    async def _logout(self, request: Request) -> Response:
        self._sessions.pop(request.cookies.get(COOKIE, ""), None)
        response = Response(status_code=303, headers={**_HEADERS, "Location": "/"})
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response

    def _page(self, draw: Callable[[Request], _Page]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            role = self._role(request)
            if role is None:
                return self._framed(request, _login_page())
            if role == Role.NONE:
                text = "The token has no role on this GeoCatalog."
                return self._framed(request, _Page("Not allowed", [element("p", text)], status=403))
            return await run_in_threadpool(lambda: self._framed(request, self._drawn(draw, request), role))

        return answer

    def _drawn(self, draw: Callable[[Request], _Page], request: Request) -> _Page:
        with self._emulator.world.lock:
            self._emulator.engine.advance(self._emulator.clock.now())
            return draw(request)

    def _framed(self, request: Request, page: _Page, role: str | None = None) -> Response:
        paused = request.query_params.get("refresh") == "off"
        head = [
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", f"{page.title} · GeoCatalog emulator"),
            element("style", Markup(STYLE)),
        ]
        if page.refresh and not paused:
            head.append(element("meta", http_equiv="refresh", content=str(page.refresh)))
        body = [
            element("header", element("a", "GeoCatalog emulator", href="/"), *self._tools(page, paused, role)),
            element("main", element("h1", page.title), *page.content),
        ]
        text = "<!doctype html>" + element("html", element("head", *head), element("body", *body), lang="en")
        for token in (*self._emulator.admin_tokens, *self._emulator.settings.reader_tokens):
            if len(token) >= _SHORTEST_SECRET:
                text = text.replace(html.escape(token), MASK)
        return Response(text.encode("utf-8", "replace"), page.status, _HEADERS, media_type="text/html")

    def _tools(self, page: _Page, paused: bool, role: str | None) -> list[Markup]:
        if role is None:
            return []
        tools = [element("span", _moment(self._emulator.clock.now()), class_="quiet")]
        if page.refresh:
            there = "?" if paused else "?refresh=off"
            tools.append(element("a", "Resume" if paused else f"Refreshes every {page.refresh} s", href=there))
        tools.append(element("a", "Routes", href=openapi.PAGE_PATH))
        tools.append(element("span", role, class_="quiet"))
        leave = element("button", "Log out", type="submit")
        return [*tools, element("form", leave, method="post", action=f"{PREFIX}/logout")]

    # --- the overview -------------------------------------------------------------------------------------------

    def _overview(self, request: Request) -> _Page:
        world = self._emulator.world
        collections = list(world.collections.values())
        operations = list(reversed(world.operations.values()))
        runs = sorted(
            (run for one in collections for ingestion in one.ingestions.values() for run in ingestion.runs.values()),
            key=lambda run: run.created,
            reverse=True,
        )
        active = sum(not operation.is_final for operation in operations)
        content = [
            _figures(
                ("collections", len(collections), "collections"),
                ("items", sum(len(one.items) for one in collections), "collections"),
                ("runs", len(runs), "runs"),
                ("active operations", active, "operations"),
                ("ingestion sources", len(world.sources), "sources"),
            ),
            element("section", element("h2", "Footprints"), *self._map(collections)),
            element("section", element("h2", "Collections"), _collections_table(collections), id="collections"),
            element(
                "section",
                element("h2", "Runs"),
                _runs_table(runs[:_SHOWN_RUNS]),
                _more(len(runs), _SHOWN_RUNS),
                id="runs",
            ),
            element(
                "section",
                element("h2", "Operations"),
                _operations_table(operations[:_SHOWN_OPERATIONS]),
                _more(len(operations), _SHOWN_OPERATIONS),
                id="operations",
            ),
            element(
                "section", element("h2", "Ingestion sources"), _sources_table(world.sources.values()), id="sources"
            ),
        ]
        return _Page("Overview", content, refresh=_BUSY_REFRESH if active else _IDLE_REFRESH)

    def _map(self, collections: Sequence[Collection]) -> list[Markup]:
        share = max(_MAPPED_ITEMS // max(len(collections), 1), 1)
        layers = []
        for collection in collections[:_MAPPED_ITEMS]:
            ids = list(collection.items)
            layers.append([collection.items[item_id].shape for item_id in ids[:: -(-len(ids) // share) or 1]])
        total, drawn = sum(len(one.items) for one in collections), sum(map(len, layers))
        return [footprints.draw(layers, "Footprints of all items"), _drawn_of(drawn, total)]

    # --- a collection, an item, an operation --------------------------------------------------------------------

    def _collection(self, request: Request) -> _Page:
        collection_id = request.path_params["collection_id"]
        collection = self._emulator.world.collections.get(collection_id)
        if collection is None:
            return _missing(f"There is no collection '{collection_id}'.")
        ids = list(reversed(list(collection.items)))
        pages = max(-(-len(ids) // _ITEMS_PER_PAGE), 1)
        page = min(max(_number(request.query_params.get("page")), 1), pages)
        shown = [collection.items[i] for i in ids[(page - 1) * _ITEMS_PER_PAGE : page * _ITEMS_PER_PAGE]]
        here = f"{PREFIX}/collections/{quote(collection_id, safe='')}"
        rows = [
            (
                element("a", item.id, href=f"{here}/items/{quote(item.id, safe='')}"),
                _datetime(item.document),
                ", ".join(f"{edge:.4g}" for edge in item.shape.bounds),
                ", ".join(item.document["assets"]),
            )
            for item in shown
        ]
        others = ids[:_MAPPED_ITEMS]
        layers = [[collection.items[i].shape for i in others], [item.shape for item in shown]]
        document = collection.document
        active = any(
            not operation.is_final
            for operation in self._emulator.world.operations.values()
            if operation.collection_id == collection_id
        )
        content = [
            element("p", document.get("title") or "", class_="lead"),
            element("p", document["description"]),
            _facts(
                ("Items", f"{len(ids):,}"),
                ("Licence", document["license"]),
                ("Created", _moment(collection.created)),
                ("Changed", _moment(collection.updated)),
                ("Mosaics", ", ".join(collection.mosaics)),
                ("Render options", ", ".join(collection.render_options)),
                ("Queryables", ", ".join(collection.queryables)),
                ("Partition type", str(collection.partition_type["scheme"])),
                ("Own assets", ", ".join(collection.assets)),
            ),
            element(
                "section",
                element("h2", "Footprints"),
                element("div", footprints.draw(layers, f"Footprints of items of {collection_id}"), class_="focus"),
                _drawn_of(len(others), len(ids), "The items of this page are drawn stronger."),
            ),
            element(
                "section",
                element("h2", "Items"),
                _table(("Id", "Time", "West, south, east, north", "Assets"), rows, "No items yet."),
                _pager(here, page, pages),
            ),
        ]
        return _Page(collection_id, content, refresh=_BUSY_REFRESH if active else _IDLE_REFRESH)

    def _item(self, request: Request) -> _Page:
        collection_id, item_id = request.path_params["collection_id"], request.path_params["item_id"]
        collection = self._emulator.world.collections.get(collection_id)
        item = collection.items.get(item_id) if collection else None
        if item is None:
            return _missing(f"There is no item '{item_id}' in collection '{collection_id}'.")
        document = located(item.document, managed_url(self._emulator.settings, _origin(request)))
        assets = [
            (key, asset.get("title") or "", asset.get("type") or "", asset["href"])
            for key, asset in document["assets"].items()
        ]
        content = [
            element("p", "In ", element("a", collection_id, href=f"{PREFIX}/collections/{quote(collection_id)}")),
            element("section", footprints.draw([[], [item.shape]], f"Footprint of {item_id}")),
            element("section", element("h2", "Assets"), _table(("Key", "Title", "Type", "Href"), assets, "None.")),
            element(
                "section",
                element("h2", "Document"),
                element("pre", json.dumps(document, indent=2, ensure_ascii=False), tabindex="0"),
            ),
        ]
        return _Page(item_id, content)

    def _operation(self, request: Request) -> _Page:
        operation_id = request.path_params["operation_id"]
        operation = self._emulator.world.operations.get(operation_id)
        if operation is None:
            return _missing(f"There is no operation '{operation_id}'.")
        changes = [
            (_badge(change.status), _moment(change.at), change.code or "", change.message or "")
            for change in operation.history[:_SHOWN_CHANGES]
        ]
        failures = [
            (failure.item_id or "", failure.code, failure.message) for failure in operation.failures[:_SHOWN_FAILURES]
        ]
        content = [
            element("p", _badge(operation.status), " ", _progress(operation.counters) if operation.counts else ""),
            _facts(
                ("Id", operation.id),
                ("Collection", _collection_link(self._emulator, operation.collection_id)),
                ("Created", _moment(operation.created)),
                *operation.extra.items(),
            ),
            element(
                "section",
                element("h2", "History"),
                _table(("Status", "Time", "Code", "Message"), changes, ""),
                _more(len(operation.history), _SHOWN_CHANGES),
            ),
        ]
        if operation.counts:
            content.append(
                element(
                    "section",
                    element("h2", "Failed items"),
                    _table(("Item", "Code", "Message"), failures, "None."),
                    _more(len(operation.failures), _SHOWN_FAILURES),
                )
            )
        return _Page(operation.type, content, refresh=None if operation.is_final else _BUSY_REFRESH)

    # --- the description ----------------------------------------------------------------------------------------

    async def _description(self, request: Request) -> Response:
        dialect = DIALECTS.get(request.query_params.get("api-version", DEFAULT_API_VERSION))
        return self._for_machines(request, openapi.describe(dialect, _origin(request)) if dialect else None)

    async def _control_description(self, request: Request) -> Response:
        return self._for_machines(request, openapi_control.describe_control(_origin(request)))

    def _for_machines(self, request: Request, document: dict[str, Any] | None) -> Response:
        role = self._role(request)
        if role is None:
            return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
        if role == Role.NONE or document is None:
            status, code = (403, "Forbidden") if role == Role.NONE else (404, "ResourceNotFound")
            answer = wire.ApiError(status, code, "No such description.").answer()
            return JSONResponse(answer.body, status, answer.headers)
        return JSONResponse(document, media_type=openapi.MEDIA_TYPE)

    def _description_page(self, request: Request) -> _Page:
        version = request.query_params.get("api-version", DEFAULT_API_VERSION)
        if version not in DIALECTS:
            return _missing(f"There is no api-version '{version}'.")
        others: list[str | Markup] = ["Other api-versions: "]
        for other in DIALECTS:
            if other != version:
                others += [element("a", other, href=f"{openapi.PAGE_PATH}?api-version={other}"), " "]
        machine = element("a", "the same for machines", href=f"{openapi.PATH}?api-version={version}")
        control = element("a", "for machines", href=openapi_control.PATH)
        content = [
            element("p", *others, "· ", machine, " (OpenAPI 3.1)"),
            _routes_table(openapi.describe(DIALECTS[version], "")),
            element(
                "section",
                element("h2", "What the service has not"),
                element("p", "The same ", control, " (OpenAPI 3.1)"),
            ),
            _routes_table(openapi_control.describe_control("")),
        ]
        return _Page(f"Routes of {version}", content)


class _ForBrowsers:
    """Answer browsers with a page, and everybody else as the service does; a class, as Starlette wants for ASGI."""

    def __init__(self, page: Callable[[Request], Any], service: ASGIApp) -> None:
        self._page, self._service = page, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", ""):
            response = await self._page(request)
            await response(scope, receive, send)
        else:
            await self._service(scope, receive, send)


def _login_page(problem: str = "") -> _Page:
    form = element(
        "form",
        element("label", "Bearer token of an administrator or a reader", for_="token"),
        element("input", id="token", name="token", type="password", required="", autocomplete="off", autofocus=""),
        element("button", "Open", type="submit"),
        element("p", problem, class_="problem", role="alert") if problem else "",
        method="post",
        action=f"{PREFIX}/login",
        class_="login",
    )
    hint = "The command that started the emulator printed a token, or was given one with --token."
    return _Page("Log in", [form, element("p", hint, class_="quiet")], status=401)


def _origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.headers.get('host') or request.url.netloc}"


def _missing(text: str) -> _Page:
    return _Page("Not there", [element("p", text), element("p", element("a", "Overview", href="/"))], status=404)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 1


def _moment(at: float) -> str:
    moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _datetime(document: dict[str, Any]) -> str:
    properties = document["properties"]
    if properties.get("datetime"):
        return str(properties["datetime"])
    return f"{properties.get('start_datetime')} to {properties.get('end_datetime')}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str | Markup]], empty: str) -> Markup:
    lines = [
        element("tr", *(element("td", cell, data_label=name) for name, cell in zip(columns, row, strict=True)))
        for row in rows
    ]
    if not lines:
        return element("p", empty, class_="quiet")
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in columns)))
    return element("table", head, element("tbody", *lines))


def _figures(*figures: tuple[str, int, str]) -> Markup:
    """Draw how many there are of what, each a way to the section that lists them."""
    boxes = (
        element("a", element("strong", f"{count:,}"), element("span", name), href=f"#{section}")
        for name, count, section in figures
    )
    return element("div", *boxes, class_="figures")


def _facts(*facts: tuple[str, str | Markup]) -> Markup:
    pairs = (element("div", element("dt", name), element("dd", value)) for name, value in facts if value)
    return element("dl", *pairs)


def _more(total: int, shown: int) -> Markup:
    return element("p", f"The first {shown} of {total:,}.", class_="quiet") if total > shown else Markup("")


def _drawn_of(drawn: int, total: int, more: str = "") -> Markup:
    counted = f"{drawn:,} of {total:,} items are drawn. " if drawn < total else ""
    return element("p", counted + more, class_="quiet") if counted or (more and total) else Markup("")


def _pager(here: str, page: int, pages: int) -> Markup:
    if pages == 1:
        return Markup("")
    links: list[str | Markup] = []
    if page > 1:
        links.append(element("a", "← Previous", href=f"{here}?page={page - 1}", rel="prev"))
    links.append(element("span", f"Page {page} of {pages}"))
    if page < pages:
        links.append(element("a", "Next →", href=f"{here}?page={page + 1}", rel="next"))
    return element("nav", *links, aria_label="Pages")


def _badge(status: str) -> Markup:
    return element("span", status, class_=f"badge {status.lower()}" if status.isalpha() else "badge")


def _progress(counters: Counters) -> Markup:
    """Draw how far an operation is; the numbers stand beside the bar for those who do not see it."""
    total = max(counters.total, 1)
    good, bad = 100 * counters.successful / total, 100 * counters.failed / total
    bars = [
        element("rect", class_="good", width=f"{good:.2f}", height="8"),
        element("rect", class_="bad", x=f"{good:.2f}", width=f"{bad:.2f}", height="8"),
    ]
    bar = element("svg", *bars, class_="bar", viewBox="0 0 100 8", preserveAspectRatio="none", aria_hidden="true")
    text = f"{counters.successful + counters.failed:,} of {counters.total:,}"
    failed = f", {counters.failed:,} failed" if counters.failed else ""
    return element("span", bar, element("span", text + failed), class_="progress")


def _history(changes: Sequence[Change]) -> Markup:
    steps: list[str] = []
    for change in changes[-_SHOWN_STEPS:]:
        text = f"{'→ ' if steps else ''}{change.status} {_moment(change.at)[11:19]}"
        steps += [" ", element("span", text, class_="step")] if steps else [element("span", text, class_="step")]
    return element("span", *steps)


def _collection_link(emulator: Emulator, collection_id: str) -> str | Markup:
    if collection_id not in emulator.world.collections:
        return collection_id
    return element("a", collection_id, href=f"{PREFIX}/collections/{quote(collection_id, safe='')}")


def _collections_table(collections: Iterable[Collection]) -> Markup:
    rows = [
        (
            element("a", one.id, href=f"{PREFIX}/collections/{quote(one.id, safe='')}"),
            str(one.document.get("title") or ""),
            f"{len(one.items):,}",
            _moment(one.created),
            _badge("Deleting") if one.deletion and not one.deletion.is_final else "",
        )
        for one in collections
    ]
    return _table(("Id", "Title", "Items", "Created", "State"), rows, "No collections yet.")


def _runs_table(runs: Iterable[Run]) -> Markup:
    rows = [
        (
            _operation_link(run.operation, run.id[:8]),
            run.operation.collection_id,
            _badge(run.operation.status),
            _progress(run.operation.counters),
            _moment(run.created),
            redact(run.source_url),
        )
        for run in runs
    ]
    return _table(("Run", "Collection", "Status", "Progress", "Created", "Source"), rows, "No runs yet.")


def _operations_table(operations: Iterable[Operation]) -> Markup:
    rows = [
        (
            _operation_link(operation, operation.type),
            operation.collection_id,
            _badge(operation.status),
            _history(operation.history),
            _reason(operation),
        )
        for operation in operations
    ]
    return _table(("Operation", "Collection", "Status", "History", "Reason"), rows, "No operations yet.")


def _reason(operation: Operation) -> str:
    last = operation.history[-1] if operation.history else None
    return f"{last.code}: {last.message}" if last and last.code else ""


def _routes_table(document: dict[str, Any]) -> Markup:
    rows = [
        (method.upper(), path, operation["operationId"], ", ".join(operation["responses"]))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    return _table(("Method", "Path", "Operation", "Answers"), rows, "")


def _operation_link(operation: Operation, text: str) -> Markup:
    return element("a", text, href=f"{PREFIX}/operations/{operation.id}")


def _sources_table(sources: Iterable[Any]) -> Markup:
    rows = [(source.kind, source.container_url, _moment(source.created)) for source in sources]
    return _table(("Kind", "Container", "Created"), rows, "None are registered.")
