"""The emulator behind a port, as a context manager."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from airflow_provider_geocatalog.emulator.app import Emulator
from airflow_provider_geocatalog.emulator.faulty_answers import TRANSPORT

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

    from starlette.types import Receive, Scope, Send

__all__ = ["EmulatorServer", "is_loopback"]

_START_TIMEOUT = 10.0  # seconds
_BACKLOG = 2048  # connections that wait to be accepted


def is_loopback(host: str) -> bool:
    """Return whether a host name or address only leads to this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # chosen when uvicorn is imported
    """Hand the connection to the application, since ASGI has no way to break one."""

    app: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        serve = self.app

        async def serve_with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), TRANSPORT: transport}
            await serve(scope, receive, send)

        self.app = serve_with_transport


class EmulatorServer:
    """
    Serve an emulator over HTTP from a background thread, between ``with`` and its end.

    :param emulator: What to serve; one that behaves as the service does, if not given.
    :param host: Address to listen on.
    :param port: Port to listen on; 0: any free one.
    """

    def __init__(self, emulator: Emulator | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.emulator = emulator or Emulator()
        self._host, self._port = host, port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Address of the emulated GeoCatalog, without trailing slash; known once it is served."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def admin_token(self) -> str:
        """A bearer token with the role GeoCatalog Administrator."""
        return self.emulator.admin_token

    def __enter__(self) -> Self:
        try:
            listener = self._listen()
        except OSError:
            self.emulator.close()
            raise
        config = uvicorn.Config(
            self.emulator.app,
            http=_Protocol,
            log_config=None,
            access_log=False,  # it would log query strings, which can hold signatures
            backlog=_BACKLOG,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="geocatalog-emulator", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.close()
                raise RuntimeError("the emulator did not start; see its log")
            time.sleep(0.002)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=5)
            if self._thread.is_alive():
                self._server.force_exit = True
                self._thread.join(timeout=5)
        self.emulator.close()

    def _listen(self) -> socket.socket:
        family, kind, protocol, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        self._port = listener.getsockname()[1]
        for name in ("127.0.0.1", "localhost", "[::1]"):
            self.emulator.add_origin(f"http://{name}:{self._port}")
        self.emulator.add_origin(self.url)
        return listener
