"""Managed storage on an address of its own: it passes requests on to the emulator, and changes answers as tests say."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Asked:
    """One request."""

    path: str
    query: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")


@dataclass
class Given:
    """One answer, which may be changed before it is sent."""

    status: int
    headers: dict[str, str]
    body: bytes
    #: Bytes of the body after which the connection ends.
    cut: int | None = None
    #: Called between two halves of the body.
    between: Callable[[], Any] | None = None


@dataclass
class StorageProxy:
    """
    Answer for managed storage. Set ``target`` to the emulator's address below which its files are.

    :param changes: Called in turn with a request and its answer, one for each request; then nothing is changed.
    """

    target: str = ""
    changes: list[Callable[[Asked, Given], Any]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> StorageProxy:
        proxy = self
        self._lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path, _, query = handler.path.partition("?")
        asked = Asked(path, query, dict(handler.headers))
        with self._lock:
            self.asked.append(asked)
            change = self.changes.pop(0) if self.changes else None
        given = self._fetch(asked)
        if change is not None:
            change(asked, given)
        handler.send_response(given.status)
        for name, value in {**given.headers, "Content-Length": str(len(given.body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        try:
            if given.between is not None:
                handler.wfile.write(given.body[: len(given.body) // 2])
                handler.wfile.flush()
                given.between()
                handler.wfile.write(given.body[len(given.body) // 2 :])
            else:
                handler.wfile.write(given.body[: given.cut])
        except OSError:
            pass
        if given.cut is not None:
            handler.close_connection = True

    def _fetch(self, asked: Asked) -> Given:
        kept = {name: value for name, value in asked.headers.items() if name in {"Range", "If-Match", "If-Range"}}
        request = urllib.request.Request(f"{self.target}{asked.path}?{asked.query}", headers=kept)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return Given(answer.status, _fields(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Given(error.code, _fields(error.headers), error.read())


def _fields(headers: Any) -> dict[str, str]:
    wanted = {"content-type", "etag", "content-range", "x-ms-error-code"}
    return {name: value for name, value in headers.items() if name.lower() in wanted}
