"""One HTTP exchange with ``requests``: session, bearer header, total time-out, and what a failure means."""

from __future__ import annotations

import os
import socket
import ssl
import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3.exceptions

from airflow_provider_geocatalog import __version__
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput, GeoCatalogUnreachable
from airflow_provider_geocatalog.api.http import Response
from airflow_provider_geocatalog.api.validation import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["BearerAuth", "Transport"]

_CHUNK = 65536  # bytes read at a time, between looks at the clock
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
    Set the bearer token through ``auth``: requests would otherwise let a ``.netrc`` entry replace the header.

    :param token_for: Returns the token for a URL, or raises if it must not go there.
    """

    def __init__(self, token_for: Callable[[str], str]) -> None:
        self._token_for = token_for

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the header."""
        request.headers["Authorization"] = f"Bearer {self._token_for(str(request.url))}"
        return request


class Transport:
    """
    A pooled, thread-safe HTTP session that follows no redirect.

    :param timeout: Seconds that an exchange may take altogether.
    :param ca_bundle: Certificates to trust; ``None`` for the usual ones.
    :param connections: Connections kept open per host.
    :raises GeoCatalogInvalidInput: The CA bundle does not exist.
    """

    def __init__(self, *, timeout: float, ca_bundle: str | None = None, connections: int = 32) -> None:
        if ca_bundle and not os.path.exists(ca_bundle):
            raise GeoCatalogInvalidInput(f"the TLS CA bundle {ca_bundle!r} of the connection is not on this machine")
        self._timeout = timeout
        self._session = requests.Session()
        self._session.headers["User-Agent"] = (
            f"airflow-provider-geocatalog/{__version__} {requests.utils.default_user_agent()}"
        )
        self._ca_bundle = ca_bundle
        adapter = requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def exchange(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, token: str
    ) -> Response:
        """
        Send a request and read the whole answer.

        :raises GeoCatalogUnreachable: No complete answer in time.
        """
        deadline = time.monotonic() + self._timeout
        try:
            with self._session.request(
                method,
                url,
                data=body,
                headers={**headers, "x-ms-client-request-id": str(uuid.uuid4())},
                auth=BearerAuth(lambda _: token),
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
                verify=self._ca_bundle or None,
                proxies=_NO_PROXIES if is_loopback(urlsplit(url).hostname) else None,  # type: ignore[arg-type]
            ) as answer:
                content = self._read(answer, deadline)
                return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, content)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self._unreachable(url, error) from error

    def _read(self, answer: requests.Response, deadline: float) -> bytes:
        chunks = []
        # read1 returns what has arrived; iter_content would wait for a whole chunk of an answer that drips.
        while chunk := answer.raw.read1(_CHUNK, decode_content=True):
            chunks.append(chunk)
            if time.monotonic() > deadline:
                raise requests.exceptions.ReadTimeout("the answer did not end in time")
        return b"".join(chunks)

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
        if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
            return GeoCatalogUnreachable(f"{host} gave no complete answer within {self._timeout:g} s", sent=sent)
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            return GeoCatalogUnreachable(f"{host} refused the connection", sent=False)
        return GeoCatalogUnreachable(f"the connection to {host} broke: {causes[-1]}", sent=sent)

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()


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
