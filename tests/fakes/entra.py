"""A Microsoft Entra ID on 127.0.0.1, behind a proxy that leads there: what azure-identity asks for a token."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import ssl
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOST = "login.microsoftonline.com"
TENANT = "11111111-1111-4111-8111-111111111111"
AUDIENCE = "https://geocatalog.spatio.azure.com"
ADMINISTRATOR = "GeoCatalog Administrator"


def token_of(*roles: str, lifetime: float = 3600, audience: str = AUDIENCE, tenant: str = TENANT) -> str:
    """
    Return a token as Entra gives it, but for the signature.

    :param roles: The roles that it grants.
    :param lifetime: Seconds until it expires; less than 0: it has.
    """
    now = int(time.time())
    claims = {"aud": audience, "tid": tenant, "roles": list(roles), "iat": now - 7200, "exp": now + int(lifetime)}
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJlLW9mLW5vYm9keQ"])


@dataclass(frozen=True)
class Application:
    """An application of the tenant, and what it may do."""

    client_id: str
    secret: str = field(repr=False)
    roles: Sequence[str] = ()


def write_certificate(path: Path) -> Path:
    """Write a certificate for Entra's host that signs itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    hosts = [x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(certificate.public_bytes(pem) + private)
    return path


class FakeEntra:
    """
    Serve a tenant and its applications; a context manager.

    :param certificate: File that is made; what is to trust it has to be told so.
    """

    def __init__(self, applications: Sequence[Application], certificate: Path) -> None:
        self.certificate = write_certificate(certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)

        known = {one.client_id: one for one in applications}
        handler = type("Handler", (_Handler,), {"known": known, "tls": context})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True

    @property
    def proxy(self) -> str:
        """Address of the proxy, for ``HTTPS_PROXY``."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeEntra:
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    known: dict[str, Application]
    tls: ssl.SSLContext

    def do_CONNECT(self) -> None:
        if self.path != f"{HOST}:443":  # nothing else is there: a test goes nowhere
            self.send_error(502)
            return
        self.send_response(200)
        self.end_headers()
        self.connection = self.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.endswith("/discovery/instance"):
            self._answer(200, {"tenant_discovery_endpoint": f"https://{HOST}/{TENANT}/v2.0", "metadata": []})
        elif path.startswith(f"/{TENANT}/"):
            base = f"https://{HOST}/{TENANT}"
            names = ("authorization_endpoint", "token_endpoint", "issuer")
            self._answer(200, dict(zip(names, (f"{base}/authorize", f"{base}/oauth2/v2.0/token", base), strict=True)))
        else:
            self._unknown_tenant()

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        application = self.known.get(form["client_id"][0])
        if not self.path.startswith(f"/{TENANT}/"):
            self._unknown_tenant()
        elif application is None:
            self._refuse("unauthorized_client", f"AADSTS700016: Application '{form['client_id'][0]}' was not found.")
        elif form.get("client_secret") != [application.secret]:
            self._refuse("invalid_client", "AADSTS7000215: Invalid client secret provided.", 401)
        else:
            token = token_of(*application.roles)
            self._answer(200, {"token_type": "Bearer", "expires_in": 3599, "access_token": token})

    def _unknown_tenant(self) -> None:
        tenant = self.path.split("/")[1]
        self._refuse("invalid_tenant", f"AADSTS90002: Tenant '{tenant}' not found.")

    def _refuse(self, error: str, text: str, status: int = 400) -> None:
        self._answer(status, {"error": error, "error_description": text, "correlation_id": "c", "trace_id": "t"})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
