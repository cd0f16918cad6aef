"""From connection fields to a bearer token: settings, clouds, credentials, and one cached token per connection."""

from __future__ import annotations

import enum
import math
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote, unquote, urlencode, urlsplit

from airflow_provider_geocatalog.api.dialects import DEFAULT_API_VERSION, Dialect, dialect_for
from airflow_provider_geocatalog.api.errors import GeoCatalogAuthenticationError, GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.validation import is_loopback
from airflow_provider_geocatalog.rate_limit import DEFAULT_REQUESTS_PER_SECOND
from airflow_provider_geocatalog.sign_in import claims_of, expiry_of, refusal_of, sign_in_hint, sign_in_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from azure.core.credentials import AccessToken, TokenCredential

__all__ = ["AuthMethod", "Cloud", "ConnectionSettings", "StaticTokenCredential", "TokenSource", "credential_for"]

#: Seconds before expiry at which a token is renewed (the documentation's samples use five minutes).
_RENEW_BEFORE = 300.0
_TOKEN_RETRIES = 2  # of azure-core; ours come on top
DEFAULT_REQUEST_TIMEOUT = 60.0  # seconds
_TOKEN = re.compile(r"[!-~]+")  # what may stand in a header field without separating anything
_MASKED = "***"  # what some versions of Airflow save or test in place of a secret that was not touched
_COLLECTION = "{collection_id}"  # in the Explorer's address
_USUAL_PORTS = {"http": 80, "https": 443}
_EXAMPLE_URL = "https://<name>.<id>.<region>.geocatalog.spatio.azure.com"


class AuthMethod(enum.Enum):
    """How the connection gets its token; values are those of the connection's ``auth_method``."""

    DEFAULT = "default"
    CLIENT_SECRET = "client_secret"
    CLIENT_CERTIFICATE = "client_certificate"
    MANAGED_IDENTITY = "managed_identity"
    WORKLOAD_IDENTITY = "workload_identity"
    AZURE_CLI = "azure_cli"
    STATIC_TOKEN = "static_token"


class Cloud(enum.Enum):
    """An Azure cloud: connection value, token scope, sign-in authority, host suffix (geocatalog-api 2.1)."""

    PUBLIC = ("public", "https://geocatalog.spatio.azure.com/.default", "login.microsoftonline.com", ".azure.com")
    US_GOVERNMENT = (
        "us_government",
        "https://geocatalog.spatio.azure.us/.default",
        "login.microsoftonline.us",
        ".azure.us",
    )

    def __init__(self, label: str, scope: str, authority: str, host_suffix: str) -> None:
        self.label = label
        self.scope = scope
        self.authority = authority
        self.host_suffix = host_suffix


@dataclass(frozen=True)
class ConnectionSettings:
    """
    A checked connection.

    :param url: The GeoCatalog's endpoint without trailing slash.
    :param auth_method: How to get a token.
    :param client_id: Application (client) id, or the client id of a user-assigned managed identity.
    :param secret: Client secret, certificate password or static token.
    :param tenant_id: Microsoft Entra tenant.
    :param certificate_path: PEM or PKCS12 file with the certificate and its private key.
    :param cloud: The Azure cloud.
    :param dialect: The api-version's wire form.
    :param request_timeout: Seconds that one request may take altogether.
    :param ca_bundle: File or folder with the certificates to trust; ``None`` for the usual ones.
    :param requests_per_second: Requests that one process sends to this GeoCatalog in a second at most.
    :param explorer_url: Address of a collection in the Explorer, with ``{collection_id}`` in it.
    """

    url: str
    auth_method: AuthMethod = AuthMethod.DEFAULT
    client_id: str | None = None
    secret: str | None = field(default=None, repr=False)
    tenant_id: str | None = None
    certificate_path: str | None = None
    cloud: Cloud = Cloud.PUBLIC
    dialect: Dialect = field(default_factory=lambda: dialect_for(DEFAULT_API_VERSION))
    request_timeout: float = DEFAULT_REQUEST_TIMEOUT
    ca_bundle: str | None = None
    requests_per_second: float = DEFAULT_REQUESTS_PER_SECOND
    explorer_url: str | None = None

    @property
    def in_tenant(self) -> str:
        """Words for messages that name the tenant, if the authentication has one."""
        lacks = self.auth_method in {AuthMethod.DEFAULT, AuthMethod.MANAGED_IDENTITY, AuthMethod.STATIC_TOKEN}
        return f" in tenant {self.tenant_id!r}" if self.tenant_id and not lacks else ""

    @property
    def is_local(self) -> bool:
        """Whether the GeoCatalog is on this machine, so that plain http may carry a token."""
        return is_loopback(urlsplit(self.url).hostname)

    def address_of(self, collection_id: str) -> str | None:
        """
        Return where people see a collection in the Explorer; ``None`` if that is not known.

        Microsoft documents no such address. This is the form of the Explorer's own links, with the collection as the
        public Planetary Computer's Explorer takes it.
        """
        if self.explorer_url:
            return self.explorer_url.replace(_COLLECTION, quote(collection_id, safe=""))
        domain = urlsplit(self.cloud.scope).hostname
        name = (urlsplit(self.url).hostname or "").removesuffix(f".{domain}")
        if name == urlsplit(self.url).hostname:
            return None
        return f"https://explorer.{domain}/explorer?{urlencode({'geocatalogname': name, 'd': collection_id})}"

    @classmethod
    def from_fields(
        cls,
        *,
        host: str | None,
        schema: str | None = None,
        port: int | None = None,
        login: str | None = None,
        password: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ConnectionSettings:
        """
        Read the fields of an Airflow connection, in whichever form it was stored (UI, JSON, URI, secrets backend).

        :raises GeoCatalogInvalidInput: Everything that is wrong with them, in one message.
        """
        extra = {name.removeprefix("extra__geocatalog__"): value for name, value in (extra or {}).items()}
        problems: list[str] = []

        def option(name: str) -> str | None:
            value = extra.get(name)
            return str(value).strip() if value not in (None, "") else None

        url = _endpoint_url(host, schema, port, problems)
        auth_method = _choice(AuthMethod, option("auth_method"), AuthMethod.DEFAULT, "authentication", problems)
        cloud = _cloud(option("cloud"), url, problems)
        try:
            dialect = dialect_for(option("api_version") or DEFAULT_API_VERSION)
        except GeoCatalogInvalidInput as error:
            problems.append(error.message)
            dialect = dialect_for(DEFAULT_API_VERSION)
        settings = cls(
            url=url,
            auth_method=auth_method,
            client_id=login or option("client_id"),
            secret=_secret(password or option("client_secret") or option("token"), problems),
            tenant_id=option("tenant_id"),
            certificate_path=_certificate_path(option("certificate_path"), problems),
            cloud=cloud,
            dialect=dialect,
            request_timeout=_number(
                option("request_timeout"), DEFAULT_REQUEST_TIMEOUT, 3600, "the request time-out", problems
            ),
            ca_bundle=option("ca_bundle"),
            requests_per_second=_number(
                option("requests_per_second"), DEFAULT_REQUESTS_PER_SECOND, 1000, "the request rate", problems
            ),
            explorer_url=_explorer_url(option("explorer_url"), problems),
        )
        problems += [f"{name} is missing; {settings.auth_method.value} needs it" for name in settings._lacking()]
        if problems:
            raise GeoCatalogInvalidInput(problems, subject="the GeoCatalog connection cannot be used")
        return settings

    def _lacking(self) -> list[str]:
        """Return the fields that the authentication method needs and the connection does not have."""
        fields = {
            "the tenant id": self.tenant_id,
            "the client id (login)": self.client_id,
            "the client secret (password)": self.secret,
            "the certificate path": self.certificate_path,
            "the token (password)": self.secret,
        }
        needed = {
            AuthMethod.CLIENT_SECRET: ("the tenant id", "the client id (login)", "the client secret (password)"),
            AuthMethod.CLIENT_CERTIFICATE: ("the tenant id", "the client id (login)", "the certificate path"),
            AuthMethod.STATIC_TOKEN: ("the token (password)",),
        }
        return [name for name in needed.get(self.auth_method, ()) if not fields[name]]


def _certificate_path(path: str | None, problems: list[str]) -> str | None:
    """Return the path, unless it is the key itself, which messages about it would show."""
    if path and ("-----BEGIN" in path or "\n" in path):
        problems.append("the certificate path is the certificate or key itself; save that to a file, and give its path")
        return None
    return path


def _endpoint_url(host: str | None, schema: str | None, port: int | None, problems: list[str]) -> str:
    host = unquote((host or "").strip()).rstrip("/")
    try:
        urlsplit(host if "://" in host else f"//{host}")
    except ValueError as error:
        problems.append(f"{host!r} is not a URL ({error}); expected {_EXAMPLE_URL}")
        return ""
    if not host:
        problems.append("the GeoCatalog URL (host) is missing")
        return ""
    if "://" not in host:
        bare = urlsplit(f"//{host}").hostname
        if "." not in (bare or "") and not is_loopback(bare):
            problems.append(f"{host!r} is not a URL; expected {_EXAMPLE_URL}")
            return ""
        # A bare host name means https; the emulator's loopback address means http.
        scheme = schema if schema in {"http", "https"} else "http" if is_loopback(bare) else "https"
        host = f"{scheme}://{host}"
    parts = urlsplit(host)
    try:
        has_port = parts.port is not None
    except ValueError:
        problems.append(f"the GeoCatalog URL {host!r} has an impossible port")
        return ""
    if not parts.hostname or parts.scheme not in {"http", "https"} or set(" \\") & set(host):
        problems.append(f"{host!r} is not a URL; expected {_EXAMPLE_URL}")
        return ""
    if parts.username or parts.password:
        problems.append("the GeoCatalog URL must not hold a user name or password")
        return ""
    if parts.query or parts.fragment:
        problems.append("the GeoCatalog URL must not have a query string or fragment")
        return ""
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        problems.append(
            f"the GeoCatalog URL {host!r} is plain http: a token goes only over https, or to a loopback address"
        )
    netloc = parts.netloc
    # The usual port is left out, so that a catalog has one address.
    if port and not has_port and port != _USUAL_PORTS[parts.scheme]:
        netloc += f":{port}"
    path = parts.path.rstrip("/").removesuffix("/stac")
    return f"{parts.scheme}://{netloc}{path}"


def _secret(value: str | None, problems: list[str]) -> str | None:
    if value == _MASKED:
        problems.append(
            f"the secret is {value!r}, which Airflow only shows in its place: enter the secret itself again"
        )
    return value


def _explorer_url(value: str | None, problems: list[str]) -> str | None:
    parts = urlsplit(value or "")
    if value and (parts.scheme not in {"http", "https"} or "@" in parts.netloc or _COLLECTION not in value):
        problems.append(f"the Explorer URL has to be an http(s) address with {_COLLECTION} in it")
    return value


def _choice(
    kind: type[AuthMethod], value: str | None, default: AuthMethod, what: str, problems: list[str]
) -> AuthMethod:
    if value is None:
        return default
    try:
        return kind(value.lower().replace("-", "_"))
    except ValueError:
        problems.append(f"unknown {what} {value!r}; expected one of {', '.join(member.value for member in kind)}")
        return default


def _cloud(value: str | None, url: str, problems: list[str]) -> Cloud:
    host = urlsplit(url).hostname or ""
    by_host = next((cloud for cloud in Cloud if host.endswith(cloud.host_suffix)), Cloud.PUBLIC)
    if value is None:
        return by_host
    for cloud in Cloud:
        if cloud.label == value.lower().replace("-", "_"):
            return cloud
    problems.append(f"unknown cloud {value!r}; expected one of {', '.join(cloud.label for cloud in Cloud)}")
    return by_host


def _number(value: str | None, default: float, most: float, what: str, problems: list[str]) -> float:
    if value is None:
        return default
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= most:
        problems.append(f"{what} {value!r} is not a number above 0 and up to {most:g}")
        return default
    return number


class StaticTokenCredential:
    """
    A token given in the connection, for the emulator and for tests.

    :param token: The bearer token; if it is a JSON Web Token, its expiry is read from it.
    """

    def __init__(self, token: str) -> None:
        self._token = token.strip()  # a file or a pasted line leaves a line end

    def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
        """Return the token; the scopes make no difference."""
        token = _Token(self._token, expiry_of(claims_of(self._token)) or int(time.time()) + 24 * 3600)
        return cast("AccessToken", token)


class _Token(NamedTuple):
    """What azure-core's class of the same members is; importing that would load the whole pipeline."""

    token: str
    expires_on: int


def credential_for(settings: ConnectionSettings) -> TokenCredential:
    """
    Return the azure-identity credential of a connection.

    :raises GeoCatalogAuthenticationError: The credential cannot be built, e.g. from an unreadable certificate.
    """
    if settings.auth_method is AuthMethod.STATIC_TOKEN:
        return StaticTokenCredential(str(settings.secret))
    from azure import identity

    limits: dict[str, Any] = {  # azure-core would wait for minutes, and every task of the connection with it
        "connection_timeout": settings.request_timeout,
        "read_timeout": settings.request_timeout,
        "retry_total": _TOKEN_RETRIES,
    }
    options = {**limits, "authority": settings.cloud.authority}
    if settings.ca_bundle:
        options["connection_verify"] = settings.ca_bundle
    tenant, client, seconds = settings.tenant_id, settings.client_id, math.ceil(settings.request_timeout)
    try:
        match settings.auth_method:
            case AuthMethod.CLIENT_SECRET:
                return identity.ClientSecretCredential(str(tenant), str(client), str(settings.secret), **options)
            case AuthMethod.CLIENT_CERTIFICATE:
                return identity.CertificateCredential(
                    str(tenant), str(client), settings.certificate_path, password=settings.secret, **options
                )
            case AuthMethod.MANAGED_IDENTITY:
                return identity.ManagedIdentityCredential(client_id=client, **limits)
            case AuthMethod.WORKLOAD_IDENTITY:
                return identity.WorkloadIdentityCredential(tenant_id=tenant, client_id=client, **options)
            case AuthMethod.AZURE_CLI:
                return identity.AzureCliCredential(tenant_id=tenant or "", process_timeout=seconds)
            case _:
                return identity.DefaultAzureCredential(
                    managed_identity_client_id=client, process_timeout=seconds, **options
                )
    except (OSError, TypeError, ValueError) as error:  # a key that needs a password: TypeError
        method, text = settings.auth_method.value, str(error)
        raise GeoCatalogAuthenticationError(
            f"the {method} credential cannot be built{settings.in_tenant}: {sign_in_reason(text)}",
            hint=sign_in_hint(text, method, settings.cloud.authority),
        ) from error


class TokenSource:
    """
    One bearer token, acquired once, renewed before it expires, shared by all threads.

    :param make_credential: Builds the credential; called again when the service refuses a token, because a credential
        would answer from its own cache.
    :param scope: Token scope.
    :param method: Name of the authentication method, for messages.
    :param authority: Host of the sign-in service, for messages.
    :param in_tenant: Words that name its tenant, for messages.
    """

    def __init__(
        self,
        make_credential: Callable[[], TokenCredential],
        scope: str,
        method: str,
        *,
        authority: str = Cloud.PUBLIC.authority,
        in_tenant: str = "",
    ) -> None:
        self._make_credential = make_credential
        self._scope = scope
        self._method = method
        self._authority = authority
        self._in_tenant = in_tenant
        self._credential: TokenCredential | None = None
        self._token: AccessToken | None = None
        self._lock = threading.Lock()

    def start_anew(self) -> None:
        """Forget the lock and the credential, which has connections, in a process that was forked; keep the token."""
        self._lock, self._credential = threading.Lock(), None

    @classmethod
    def of(cls, settings: ConnectionSettings) -> TokenSource:
        """Return the token source of a connection."""
        return cls(
            lambda: credential_for(settings),
            settings.cloud.scope,
            settings.auth_method.value,
            authority=settings.cloud.authority,
            in_tenant=settings.in_tenant,
        )

    def get(self, *, refused: str | None = None) -> str:
        """
        Return a token.

        :param refused: A token that the service answered 401 to; it is not returned again unless the credential
            insists on it. Callers that were refused together share one renewal.
        :raises GeoCatalogAuthenticationError: No token can be had; ``retryable`` if the reason may pass.
        """
        with self._lock:
            if self._token is not None and self._token.token != refused and not self._expires_soon(self._token):
                return self._token.token
            if self._credential is None or refused is not None:
                self._credential = self._make_credential()
            token = self._acquire(self._credential)
            if not _TOKEN.fullmatch(token.token):
                # http.client would name the header, token and all, in its exception.
                raise GeoCatalogAuthenticationError(
                    f"the {self._method} credential gave a token with characters that no token has "
                    "(spaces, line ends, or other than ASCII)"
                )
            self._token = token
            return token.token

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """
        Return a token as an azure-identity credential does, so that this can stand where Azure's libraries want one.

        :param scopes: What the token is for; the GeoCatalog if not given.
        :raises GeoCatalogAuthenticationError: No token can be had.
        """
        if not scopes or scopes == (self._scope,):
            self.get()
            with self._lock:
                return cast("AccessToken", self._token)
        with self._lock:
            if self._credential is None:
                self._credential = self._make_credential()
            return self._acquire(self._credential, *scopes)

    def refusal(self) -> tuple[str, str]:
        """Return why the service may have refused the present token, as far as it tells, and what to do."""
        with self._lock:
            token = self._token.token if self._token is not None else ""
        return refusal_of(token, self._scope, time.time())

    @staticmethod
    def _expires_soon(token: AccessToken) -> bool:
        return token.expires_on - time.time() < _RENEW_BEFORE

    def _acquire(self, credential: TokenCredential, *scopes: str) -> AccessToken:
        try:
            return credential.get_token(*(scopes or (self._scope,)))
        except Exception as error:
            from azure.core import exceptions

            # A workload identity whose token file is not there raises OSError, for example.
            if not isinstance(error, exceptions.AzureError | OSError | ValueError):
                raise
            status = getattr(getattr(error, "response", None), "status_code", None)
            passing = isinstance(error, exceptions.ServiceRequestError | exceptions.ServiceResponseError)
            raise GeoCatalogAuthenticationError(
                f"the {self._method} credential gave no token{self._in_tenant}: {sign_in_reason(str(error))}",
                hint=sign_in_hint(str(error), self._method, self._authority),
                retryable=passing or (status is not None and (status == 429 or status >= 500)),
            ) from error
