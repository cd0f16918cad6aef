"""A server on 127.0.0.1 that breaks HTTP by the byte: each connection is given to a function that may do anything."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


@dataclass
class Received:
    """One request, as far as it was read."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket, server: FaultyServer) -> None:
        self.connection = connection
        self._server = server
        self._file = connection.makefile("rb")
        self.last: Received | None = None

    def secure(self, context: ssl.SSLContext) -> None:
        """Go on over TLS."""
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self._file = self.connection.makefile("rb")

    def line(self) -> bytes:
        """Read one line."""
        return self._file.readline()

    def head(self) -> Received | None:
        """Read a request without its body, and record it; ``None`` if the client has closed the connection."""
        self.last = None
        first = self.line().decode("latin-1").split()
        if len(first) != 3:
            return None
        self.last = request = Received(first[0], first[1])
        while line := self.line().decode("latin-1").strip():
            name, _, value = line.partition(":")
            request.headers[name.strip().lower()] = value.strip()
        self._server.received.append(request)
        return request

    def request(self) -> Received | None:
        """Read a whole request."""
        request = self.head()
        self.rest()
        return request

    def rest(self) -> None:
        """Read the body of a request whose head has been read."""
        if self.last is not None:
            self.last.body = self._file.read(int(self.last.headers.get("content-length") or 0))

    def send(self, *parts: bytes | str) -> None:
        """Send bytes, or text as the header fields have it."""
        self.connection.sendall(b"".join(p.encode("latin-1") if isinstance(p, str) else p for p in parts))

    def answer(self, body: bytes = b"{}", *fields: str, status: str = "200 OK") -> None:
        """Send a whole answer."""
        lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}"]
        self.send("\r\n".join(lines), "\r\n\r\n", body)

    def drip(self, content: bytes, every: float = 0.03) -> None:
        """Send a byte now and then, over and over, until the client or the test has had enough."""
        while True:
            for byte in content:
                self.send(bytes([byte]))
                self.wait(every)

    def wait(self, seconds: float = 30.0) -> None:
        """Do nothing for a while; the end of the test ends it as well."""
        if self._server.stopped.wait(seconds):
            raise ConnectionAbortedError

    def reset(self) -> None:
        """Break the connection off, without the usual good-bye."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close the connection; what was sent still arrives."""
        self._file.close()
        self.connection.close()


class FaultyServer:
    """
    Give each connection to the next function; the last one is repeated. The connection is closed when it returns.

    :param behaviours: What to do with each connection.
    :param buffer: Bytes that the system keeps of what nobody reads.
    """

    def __init__(self, *behaviours: Callable[[Peer], None], buffer: int | None = None) -> None:
        self.received: list[Received] = []
        self.connections = 0
        self.stopped = threading.Event()
        self._behaviours = list(behaviours)
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        if buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self.stopped.is_set():
                connection.close()
                return
            self.connections += 1
            self._open.append(connection)
            behave = self._behaviours.pop(0) if len(self._behaviours) > 1 else self._behaviours[0]
            self._start(self._serve, connection, behave)

    def _serve(self, connection: socket.socket, behave: Callable[[Peer], None]) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(connection, self)
        with contextlib.suppress(OSError):
            behave(peer)
        with contextlib.suppress(OSError):
            peer.close()

    def settle(self) -> None:
        """Wait until all connections so far have been dealt with and closed."""
        for thread in self._threads[1:]:
            thread.join(timeout=2)
            assert not thread.is_alive(), "a connection is still open"

    def close(self) -> None:
        """End every connection and thread."""
        self.stopped.set()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            pass  # wakes the thread that accepts
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=2)
            assert not thread.is_alive(), "a behaviour does not end"
