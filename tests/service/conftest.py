"""A server that answers as a script says, over real sockets."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_geocatalog.auth import ConnectionSettings, TokenSource
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.rate_limit import RateLimit
from tests.fakes.clock import FakeClock


class ScriptedServer:
    """
    Answer requests in turn; the last answer is repeated.

    An answer is ``(status, headers, body)``, or a function that is given the handler.
    """

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.peers: set[Any] = set()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                script.peers.add(self.client_address)
                script.seen.append((self.command, self.path, dict(self.headers.items())))
                chosen = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                if callable(chosen):
                    chosen(self)
                    return
                status, headers, body = chosen
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def script():
    servers = []

    def start(*answers: Any) -> ScriptedServer:
        servers.append(ScriptedServer(*answers))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


class Credential:
    """Count the tokens that are asked for; each is another."""

    def __init__(self, lifetime: float = 3600.0, *, same: bool = False) -> None:
        self.lifetime, self.same, self.given = lifetime, same, 0

    def get_token(self, *scopes: str, **options: Any):
        from azure.core.credentials import AccessToken

        self.given += 1
        return AccessToken("the-token" if self.same else f"token-{self.given}", int(time.time() + self.lifetime))


@pytest.fixture
def connect():
    clients = []

    def make(url: str, credential: Credential | None = None, **settings: Any) -> GeoCatalogClient:
        chosen = credential or Credential()
        tokens = TokenSource(lambda: chosen, "scope", "test")
        client = GeoCatalogClient(
            ConnectionSettings(url, **settings),
            tokens=tokens,
            clock=FakeClock(time.time()),
            rate_limit=RateLimit(),
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def new_credential():
    return Credential
