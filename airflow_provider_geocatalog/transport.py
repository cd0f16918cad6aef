"""One HTTP exchange with ``requests``: pooled connections, bearer header, total time-out, and what a failure means."""

from __future__ import annotations

import http.client
import io
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions
import urllib3.filepost

from airflow_provider_geocatalog import __version__
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput, GeoCatalogUnreachable
from airflow_provider_geocatalog.api.http import Response
from airflow_provider_geocatalog.api.validation import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["BearerAuth", "Transport", "encode_multipart"]

_CONNECT_TIMEOUT = 10.0  # seconds for each address of the host, of which there may be several, and for each step of TLS
#: Failures before a byte of the request left: repeating even a POST is safe then.
_BEFORE_SENDING = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.NameResolutionError,
    ssl.SSLCertVerificationError,  # other TLS errors may also come while an answer is read
)
#: Environment variables name proxies for everything; a loopback address must not be reached through one, because the
#: token would leave the machine over plain http.
_NO_PROXIES: dict[str, str | None] = {"http": None, "https": None, "all": None}


class BearerAuth(requests.auth.AuthBase):
    """
    Set the bearer token through ``auth``: a session of requests would otherwise let ``.netrc`` replace the header.

    :param token_for: Returns the token for a URL, or raises if it must not go there.
    """

    def __init__(self, token_for: Callable[[str], str]) -> None:
        self._token_for = token_for

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the header."""
        request.headers["Authorization"] = f"Bearer {self._token_for(str(request.url))}"
        return request


def encode_multipart(fields: Iterable[tuple[str, str | tuple[str, bytes, str]]]) -> tuple[bytes, str]:
    """
    Return a ``multipart/form-data`` body and its ``Content-Type``.

    :param fields: Name and text, or name and file (its name, bytes, media type).
    """
    return urllib3.filepost.encode_multipart_formdata(fields)  # type: ignore[arg-type]


class Transport:
    """
    Pooled, thread-safe connections to one origin; no redirect is followed, no cookie kept.

    :param origin: URL of the GeoCatalog, which decides about proxies.
    :param timeout: Seconds that an exchange may take altogether.
    :param ca_bundle: Certificates to trust; ``None`` for the usual ones.
    :param connections: Connections kept open.
    :raises GeoCatalogInvalidInput: The CA bundle does not exist.
    """

    def __init__(self, origin: str, *, timeout: float, ca_bundle: str | None = None, connections: int = 32) -> None:
        if ca_bundle and not os.path.exists(ca_bundle):
            raise GeoCatalogInvalidInput(f"the TLS CA bundle {ca_bundle!r} of the connection is not on this machine")
        self._timeout = timeout
        self._headers = {
            "User-Agent": f"airflow-provider-geocatalog/{__version__} {requests.utils.default_user_agent()}",
            "Accept-Encoding": "gzip, deflate",
            "Connection": "keep-alive",
        }
        with requests.Session() as session:  # what the environment says, asked once instead of for each request
            settings = session.merge_environment_settings(origin, {}, False, ca_bundle or True, None)
        self._verify: bool | str = settings["verify"] or True
        self._proxies = _NO_PROXIES if is_loopback(urlsplit(origin).hostname) else dict(settings["proxies"])
        self._adapter = _Adapter(pool_connections=4, pool_maxsize=connections)

    def exchange(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, token: str
    ) -> Response:
        """
        Send a request and read the whole answer.

        :raises GeoCatalogUnreachable: No complete answer in time.
        """
        request = requests.PreparedRequest()
        request.method, request.url, request.body = method, url, body
        request.headers = requests.structures.CaseInsensitiveDict(
            {**self._headers, **headers, "Authorization": f"Bearer {token}"}
        )
        if body is not None or method != "GET":
            request.headers["Content-Length"] = str(len(body or b""))
        request.hooks = {}
        timeout = urllib3.Timeout(total=self._timeout)
        try:
            answer = self._adapter.send(
                request,
                stream=True,
                timeout=timeout,  # type: ignore[arg-type]
                verify=self._verify,
                proxies=self._proxies,  # type: ignore[arg-type]
            )
            with answer:
                content = answer.raw.read(decode_content=True)
                return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, content)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failure = self._unreachable(url, error)
            failure.__cause__ = _causes(error)[-1]
        # Raised out here: what requests raises has the token in its request and the query in its text.
        raise failure

    def _unreachable(self, url: str, error: Exception) -> GeoCatalogUnreachable:
        host = urlsplit(url).netloc
        causes = list(_causes(error))
        sent = not (isinstance(error, requests.ConnectTimeout) or any(isinstance(c, _BEFORE_SENDING) for c in causes))
        if any(isinstance(cause, urllib3.exceptions.NameResolutionError | socket.gaierror) for cause in causes):
            return GeoCatalogUnreachable(
                f"the host name of {host} cannot be resolved (DNS)",
                sent=False,
                hint="Check the GeoCatalog URL in the connection, and the worker's DNS or private endpoint.",
            )
        certificate = next((c for c in causes if isinstance(c, ssl.SSLError)), None)
        if certificate is not None or isinstance(error, requests.exceptions.SSLError):
            return GeoCatalogUnreachable(
                f"no trusted TLS connection to {host}: {certificate or error}",
                sent=sent,
                hint="If a proxy or private authority signs certificates here, give its CA bundle in the connection.",
            )
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            return GeoCatalogUnreachable(f"{host} refused the connection", sent=False)
        if any(isinstance(c, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError) for c in causes):
            return GeoCatalogUnreachable(f"{host} gave no complete answer within {self._timeout:g} s", sent=sent)
        return GeoCatalogUnreachable(f"the connection to {host} broke: {causes[-1]}", sent=sent)

    def close(self) -> None:
        """Close the kept connections."""
        self._adapter.close()


# --- a time-out for the whole answer ----------------------------------------------------------------------------------
# The time-out of a socket starts anew with each byte that arrives, so an answer that drips would never end. The
# connections below give each read only what is left of the time for the answer, header fields included. Only
# connecting has a time of its own: urllib3 would bound the sending of a large body by it as well.


class _BoundReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock, self._raw = sock, raw
        limit = sock.gettimeout()
        self._deadline = None if limit is None else time.monotonic() + limit
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._sock.settimeout(left)
        count = self._raw.readinto(buffer)
        self.ended = self.ended or count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._reader = _BoundReader(sock, self.fp.detach())
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        super().begin()
        if self._reader.ended:  # http.client takes the end of the connection for the end of the header fields
            self.close()
            raise http.client.RemoteDisconnected("Remote end closed connection within the header fields")


class _HTTPConnection(urllib3.connection.HTTPConnection):
    response_class = _BoundResponse

    def connect(self) -> None:
        started, limit = time.monotonic(), self.timeout
        self.timeout = _CONNECT_TIMEOUT if limit is None else min(limit, _CONNECT_TIMEOUT)
        super().connect()
        self.timeout = None if limit is None else max(0.001, limit - (time.monotonic() - started))
        self.sock.settimeout(self.timeout)


class _HTTPSConnection(_HTTPConnection, urllib3.connection.HTTPSConnection):
    pass


class _HTTPPool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and everything that it wraps, in ``reason``, ``args`` or as its cause."""
    found: list[BaseException] = []
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop(0)
        if current is None or current in found:
            continue
        found.append(current)
        reason = getattr(current, "reason", None)
        queue += [reason if isinstance(reason, BaseException) else None, current.__cause__, current.__context__]
        queue += [argument for argument in current.args if isinstance(argument, BaseException)]
    return found
