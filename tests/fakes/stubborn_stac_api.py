"""
A STAC API on 127.0.0.1 that has the bad habits of real ones: ceilings, pages that repeat, links that lead back, ...

::

    with StubbornStacApi(items, ceiling=10_000, overlap=1) as api:
        api.url, api.requests
        api.put(item)  # added or changed while it runs
        api.ceiling = None  # and so can every habit be
"""

from __future__ import annotations

import json
import random
import socket
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_STAC, _CQL2 = "https://api.stacspec.org/v1.0.0", "http://www.opengis.net/spec/cql2/1.0/conf"
_FOREVER = 10**18
_COMPARED = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


def tiny_items(count: int, *, collection: str = "demo", start: str = "2024-01-01T00:00:00Z", step: float = 60.0) -> Any:
    """Yield items with a point, ``step`` seconds apart; their ids and ``created`` and ``updated`` follow their time."""
    begin = datetime.fromisoformat(start).timestamp()
    for number in range(count):
        at = datetime.fromtimestamp(begin + number * step, UTC).isoformat().replace("+00:00", "Z")
        yield {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": f"item-{number:06}",
            "collection": collection,
            "geometry": {"type": "Point", "coordinates": [8.0, 47.0]},
            "bbox": [8.0, 47.0, 8.0, 47.0],
            "properties": {"datetime": at, "created": at, "updated": at},
            "links": [],
            "assets": {},
        }


@dataclass
class ApiRequest:
    """One request that came."""

    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any]
    headers: dict[str, str]
    status: int = 0
    returned: int = 0  # items

    @property
    def search(self) -> dict[str, Any]:
        """What was searched for, wherever it stood."""
        return {**self.query, **self.body}


@dataclass(frozen=True)
class _Stored:
    item: Any
    content: bytes
    start: int  # microseconds
    end: int


class StubbornStacApi:
    """
    A STAC API over a list of items, which is sorted from the newest to the oldest.

    :param items: What it has; also things that are no items. No interval holds one without any time.
    :param paging: ``POST`` (with ``merge``), ``POST-whole`` (the link repeats the search) or ``GET``.
    :param counts: ``numberMatched``, ``context``, ``None``, or a number at which counting stops.
    :param ceiling: Items after which a search ends.
    :param ceiling_status: With this, pages beyond the ceiling are refused instead.
    :param max_limit: The most that it gives on a page, whatever is asked for.
    :param overlap: Items at the end of a page that the next one begins with.
    :param repeat_page: This page (from 1) is given once more instead of the one after it.
    :param loop_at: The next link of this page leads back to the first; ``-1`` is the last page.
    :param loop_renews: It leads there by a new address each time.
    :param empty_pages: Empty pages between two pages; ``-1`` goes on with them forever after the first page.
    :param unstable: Each page has its own order.
    :param has_next: Whether it has pages at all.
    :param dies_after: Pages of any searches, after which it is dead; set it to ``None`` to bring it back.
    :param dies_with: Status of what it answers then, or ``drop``.
    :param failures: What it answers to the next requests: a status, with seconds of ``Retry-After``, ``drop`` or
        ``html``.
    :param tokens: Bearer tokens that it takes; ``None`` for everybody.
    :param requests_per_token: After so many requests a token is refused.
    :param ignores_datetime: It takes no notice of ``datetime``.
    :param extensions: Which of item search's extensions it has.
    :param next_origin: Another origin to which its next links lead.
    """

    def __init__(
        self,
        items: Iterable[Any] = (),
        *,
        paging: str = "POST",
        counts: str | int | None = "numberMatched",
        ceiling: int | None = None,
        ceiling_status: int | None = None,
        max_limit: int = 10_000,
        overlap: int = 0,
        repeat_page: int | None = None,
        loop_at: int | None = None,
        loop_renews: bool = False,
        empty_pages: int = 0,
        unstable: bool = False,
        has_next: bool = True,
        dies_after: int | None = None,
        dies_with: int | str = 503,
        failures: Iterable[tuple[int, float] | str] = (),
        tokens: Iterable[str] | None = None,
        requests_per_token: int | None = None,
        ignores_datetime: bool = False,
        extensions: Iterable[str] = ("filter", "query", "sort", "fields"),
        next_origin: str | None = None,
    ) -> None:
        self.paging, self.counts, self.has_next = paging, counts, has_next
        self.ceiling, self.ceiling_status, self.max_limit = ceiling, ceiling_status, max_limit
        self.overlap, self.repeat_page, self.unstable = overlap, repeat_page, unstable
        self.loop_at, self.loop_renews, self.empty_pages = loop_at, loop_renews, empty_pages
        self.dies_after, self.dies_with, self.failures = dies_after, dies_with, list(failures)
        self.tokens, self.requests_per_token = None if tokens is None else set(tokens), requests_per_token
        self.ignores_datetime, self.extensions, self.next_origin = ignores_datetime, tuple(extensions), next_origin
        self.requests: list[ApiRequest] = []
        self._pages = 0
        self._used: dict[str, int] = {}
        self._lock = threading.RLock()
        self._items: dict[Any, _Stored] = {}
        self._found: dict[str, list[_Stored]] = {}
        for item in items:
            self.put(item)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> StubbornStacApi:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, item: Any) -> None:
        """Add an item, or replace the one of the same collection and id."""
        is_item = isinstance(item, dict) and "id" in item
        start, end = _times(item)
        with self._lock:
            key = (item.get("collection"), item["id"]) if is_item else len(self._items)
            self._items[key] = _Stored(item, json.dumps(item).encode(), start, end)
            self._found.clear()

    def remove(self, collection: str, item_id: str) -> None:
        """Delete an item."""
        with self._lock:
            del self._items[collection, item_id]
            self._found.clear()

    @property
    def searches(self) -> list[ApiRequest]:
        """The requests for pages of items."""
        return [request for request in self.requests if request.path == "/search"]

    # --- answers ------------------------------------------------------------------------------------------------------

    def answer(self, request: ApiRequest) -> tuple[int, dict[str, str], bytes] | str:
        """Return status, header fields and body, or ``drop``."""
        with self._lock:
            self.requests.append(request)
            answer = self._answer(request)
            request.status = 0 if isinstance(answer, str) else answer[0]
            return answer

    def _answer(self, request: ApiRequest) -> tuple[int, dict[str, str], bytes] | str:
        if self.failures:
            failure = self.failures.pop(0)
            if failure == "html":
                return 200, {"Content-Type": "text/html"}, b"<html><body>Sign in</body></html>"
            if isinstance(failure, str):
                return failure
            return _problem(failure[0], {"Retry-After": str(failure[1])})
        if not self._may(request):
            return _problem(401, text=f"not with {request.headers} and {request.query}")
        if request.path == "/":
            return _json(self._landing_page())
        if request.path != "/search":
            return _problem(404)
        if self.dies_after is not None and self._pages >= self.dies_after:
            return self.dies_with if isinstance(self.dies_with, str) else _problem(self.dies_with)
        self._pages += 1
        try:
            return self._search(request)
        except (KeyError, TypeError, ValueError) as error:
            return _problem(400, text=f"bad search: {error!r}")

    def _may(self, request: ApiRequest) -> bool:
        if self.tokens is None:
            return True
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self._used[token] = self._used.get(token, 0) + 1
        return token in self.tokens and (
            self.requests_per_token is None or self._used[token] <= self.requests_per_token
        )

    def _landing_page(self) -> dict[str, Any]:
        conforms = [
            f"{_STAC}/core",
            f"{_STAC}/item-search",
            *(f"{_STAC}/item-search#{name}" for name in self.extensions),
        ]
        if "filter" in self.extensions:
            conforms += [f"{_CQL2}/basic-cql2", f"{_CQL2}/cql2-json", f"{_CQL2}/cql2-text"]
        methods = ["GET"] if self.paging == "GET" else ["GET", "POST"]
        return {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "stubborn",
            "description": "An API with bad habits",
            "conformsTo": conforms,
            "links": [
                {"rel": "self", "href": f"{self.url}/", "type": "application/json"},
                *({"rel": "search", "href": f"{self.url}/search", "method": method} for method in methods),
            ],
        }

    def _search(self, request: ApiRequest) -> tuple[int, dict[str, str], bytes]:
        search = request.search
        limit = min(int(search.get("limit") or 10), self.max_limit)
        place, page, empty, token = (int(part) for part in str(search.get("token") or "0,1,0,0").split(","))
        wanted = {name: value for name, value in search.items() if name not in ("limit", "token")}
        found = self._matching(wanted)
        if self.unstable:
            found = random.Random(page).sample(found, len(found))
        within = found[: self.ceiling]
        if self.ceiling_status and place + limit > len(within) < len(found):
            return _problem(self.ceiling_status)
        shown = [] if empty else within[place : place + limit]
        following = self._following(place, page, empty, limit, len(within))
        links = []
        if following and self.has_next:
            links = [self._link(request, wanted, limit, f"{following},{token + 1 if self.loop_renews else 0}")]
        body: dict[str, Any] = {"type": "FeatureCollection", "links": links, "numberReturned": len(shown)}
        if self.counts == "context":
            body["context"] = {"matched": len(found), "returned": len(shown)}
        elif self.counts is not None:
            body["numberMatched"] = min(len(found), self.counts) if isinstance(self.counts, int) else len(found)
        request.returned = len(shown)
        features = b",".join(_projected(each, search.get("fields")) for each in shown)
        return 200, {}, json.dumps(body).encode()[:-1] + b',"features":[' + features + b"]}"

    def _following(self, place: int, page: int, empty: int, limit: int, count: int) -> str | None:
        """Return where the next page begins, its number, and whether it is an empty one; ``None`` after the last."""
        if empty:
            is_over = 0 <= self.empty_pages <= empty
            return f"{place},{page},{0 if is_over else empty + 1}"
        is_last = place + limit >= count
        if self.loop_at == page or (self.loop_at == -1 and is_last):
            return "0,1,0"
        if is_last and self.empty_pages >= 0:
            return None
        begin = max(place + limit - self.overlap, place + 1)
        if self.repeat_page == page:
            begin = place
        if self.repeat_page == page - 1:
            begin = place + limit
        if self.repeat_page is not None and page == self.repeat_page + 1:
            begin = place + 2 * limit  # the page that was not given is gone
            if begin >= count:
                return None
        return f"{begin},{page + 1},{1 if self.empty_pages else 0}"

    def _link(self, request: ApiRequest, wanted: dict[str, Any], limit: int, token: str) -> dict[str, Any]:
        href = f"{self.next_origin or self.url}/search"
        if request.method == "GET":
            return {"rel": "next", "href": f"{href}?{urlencode({**wanted, 'limit': limit, 'token': token})}"}
        whole = {} if self.paging == "POST" else {**wanted, "limit": limit}
        return {"rel": "next", "method": "POST", "href": href, "merge": not whole, "body": {**whole, "token": token}}

    # --- searching ----------------------------------------------------------------------------------------------------

    def _matching(self, wanted: dict[str, Any]) -> list[_Stored]:
        key = json.dumps([wanted, self.ignores_datetime], sort_keys=True)
        if key not in self._found:
            tests = list(self._tests(wanted))
            stored = sorted(self._items.values(), key=lambda each: (each.start, _id(each.item)), reverse=True)
            found = self._found[key] = [each for each in stored if all(test(each) for test in tests)]
            for name, descending in reversed(list(_order(wanted.get("sortby")))):
                found.sort(key=lambda each, n=name: str(_value(each.item, n)), reverse=descending)
        return self._found[key]

    def _tests(self, wanted: dict[str, Any]) -> Iterator[Any]:
        for name, member in (("collections", "collection"), ("ids", "id")):
            if wanted.get(name):
                names = wanted[name].split(",") if isinstance(wanted[name], str) else wanted[name]
                yield lambda each, m=member, n=frozenset(names): isinstance(each.item, dict) and each.item.get(m) in n
        if wanted.get("datetime") and not self.ignores_datetime:
            first, last = _interval(wanted["datetime"])
            yield lambda each: each.end > 0 and each.start <= last and each.end >= first
        if wanted.get("bbox"):
            box = [float(n) for n in (wanted["bbox"].split(",") if isinstance(wanted["bbox"], str) else wanted["bbox"])]
            yield lambda each: _meets(each.item, box)
        if wanted.get("query") and "query" in self.extensions:
            query = json.loads(wanted["query"]) if isinstance(wanted["query"], str) else wanted["query"]
            for name, tests in query.items():
                for operator, value in tests.items():
                    expression = {"op": _COMPARED[operator], "args": [{"property": name}, value]}
                    yield lambda each, e=expression: _evaluate(e, each.item)
        if wanted.get("filter") and "filter" in self.extensions:
            expression = wanted["filter"]
            if wanted.get("filter-lang") == "cql2-text":
                import cql2

                expression = cql2.parse_text(expression).to_json()
            elif isinstance(expression, str):
                expression = json.loads(expression)
            yield lambda each, e=expression: _evaluate(e, each.item)


def _handler(api: StubbornStacApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def respond(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            body = json.loads(content) if content else {}
            request = ApiRequest(
                self.command, parts.path, dict(parse_qsl(parts.query)), body, dict(self.headers.items())
            )
            answer = api.answer(request)
            if isinstance(answer, str):
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            status, headers, content = answer
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/geo+json",
                "Content-Length": str(len(content)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = respond

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    return status, headers or {}, json.dumps(body).encode()


def _problem(status: int, headers: dict[str, str] | None = None, text: str = "no") -> tuple[int, dict[str, str], bytes]:
    return _json({"code": str(status), "description": text}, status, headers)


def _micros(text: Any) -> int | None:
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _times(item: Any) -> tuple[int, int]:
    properties = item.get("properties") if isinstance(item, dict) else None
    if not isinstance(properties, dict):
        return 0, 0
    at = _micros(properties.get("datetime"))
    start, end = _micros(properties.get("start_datetime")), _micros(properties.get("end_datetime"))
    if at is not None:
        return at, at
    return start or 0, end or start or 0


def _interval(text: str) -> tuple[int, int]:
    first, _, last = text.partition("/")
    bounds = [None if each == ".." else _micros(each) for each in (first, last or first)]
    if any(bound is None and each != ".." for bound, each in zip(bounds, (first, last or first), strict=True)):
        raise ValueError(text)
    return (-_FOREVER if bounds[0] is None else bounds[0]), (_FOREVER if bounds[1] is None else bounds[1])


def _order(sortby: Any) -> Iterator[tuple[str, bool]]:
    for each in sortby.split(",") if isinstance(sortby, str) else sortby or []:
        if isinstance(each, dict):
            yield each["field"], each.get("direction") == "desc"
        else:
            yield each.lstrip("+-"), each.startswith("-")


def _id(item: Any) -> str:
    return str(item.get("id")) if isinstance(item, dict) else ""


def _value(item: Any, name: str) -> Any:
    if not isinstance(item, dict):
        return None
    if name in ("id", "collection"):
        return item.get(name)
    return (item.get("properties") or {}).get(name.removeprefix("properties."))


def _evaluate(expression: Any, item: Any) -> Any:
    """Return what a piece of CQL2 JSON means for an item; as much of it as tests need."""
    if not isinstance(expression, dict):
        return expression
    if "property" in expression:
        return _value(item, expression["property"])
    if "timestamp" in expression:
        return expression["timestamp"]
    operator, args = expression["op"], expression["args"]
    values = [_evaluate(each, item) for each in args]
    if operator in ("and", "or"):
        return all(values) if operator == "and" else any(values)
    if operator == "isNull":
        return values == [None]
    left, right = values
    if left is None or right is None:
        return False
    moments = [_micros(left), _micros(right)]
    if None not in moments:
        left, right = moments
    return {
        "=": left == right,
        "<>": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[operator]


def _meets(item: Any, box: list[float]) -> bool:
    own = item.get("bbox") if isinstance(item, dict) else None
    if not own:
        return False
    return own[0] <= box[2] and own[2] >= box[0] and own[1] <= box[3] and own[3] >= box[1]


def _projected(stored: _Stored, fields: Any) -> bytes:
    """Return an item with the members that were asked for: whole ones, and included ones of its properties."""
    if not fields or not isinstance(stored.item, dict):
        return stored.content
    if isinstance(fields, str):
        names = fields.split(",")
        fields = {
            "include": [n.lstrip("+") for n in names if not n.startswith("-")],
            "exclude": [n[1:] for n in names if n.startswith("-")],
        }
    shown = {name: value for name, value in stored.item.items() if name not in (fields.get("exclude") or [])}
    include = fields.get("include") or []
    if include:
        properties = {n: v for n, v in stored.item["properties"].items() if f"properties.{n}" in include}
        shown = {name: value for name, value in shown.items() if name in include}
        shown.setdefault("properties", properties)
    return json.dumps(shown).encode()
