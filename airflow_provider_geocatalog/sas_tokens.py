"""
Where the SAS tokens of containers come from: signed here with what a connection holds, or given by a public endpoint.

A maker takes a container's URL and the present, and returns a token for reading and listing. None of them tells a
token, a key or a secret to a log or an exception.
"""

from __future__ import annotations

import datetime
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from airflow_provider_geocatalog.api.errors import (
    GeoCatalogAuthenticationError,
    GeoCatalogError,
    GeoCatalogInvalidInput,
)
from airflow_provider_geocatalog.api.redaction import redact, signatures
from airflow_provider_geocatalog.api.validation import is_loopback
from airflow_provider_geocatalog.auth import (
    DEFAULT_REQUEST_TIMEOUT,
    AuthMethod,
    Cloud,
    ConnectionSettings,
    TokenSource,
    credential_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from azure.core.credentials import TokenCredential

__all__ = [
    "LONGEST_LIFETIME",
    "PLANETARY_COMPUTER",
    "STORAGE_CONNECTION_TYPES",
    "StorageConnection",
    "TokenMaker",
    "UserDelegation",
    "account_key_maker",
    "account_of",
    "endpoint_maker",
]

#: Makes a token of a container's URL and the present in epoch seconds.
TokenMaker: TypeAlias = "Callable[[str, float], str]"

#: The public Planetary Computer's endpoint; the account and the container follow.
PLANETARY_COMPUTER = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
#: Seconds that a user delegation key lives at most, and so what it signs (Azure Storage, *Get User Delegation Key*).
LONGEST_LIFETIME = 7 * 86400.0
#: Airflow's connection types for Azure Storage, and the one for Azure in general.
STORAGE_CONNECTION_TYPES = frozenset({"wasb", "adls", "azure"})

#: Seconds by which a token begins early, since clocks differ (Azure Storage, *best practices when using SAS*).
_BEGINS_BEFORE = 900.0
_STORAGE_SCOPE = "https://storage.azure.com/.default"
_STORAGE_RETRIES = 3
_PERMISSIONS = "rl"
_US_GOVERNMENT_SUFFIX = ".blob.core.usgovcloudapi.net"
_STORAGE_SUFFIXES = (".blob.core.windows.net", _US_GOVERNMENT_SUFFIX, ".blob.storage.azure.net")
#: Names of accounts and zones: parsers disagree about what a backslash or a user name in a URL means.
_BEFORE_SUFFIX = re.compile(r"[a-z0-9.-]+")


@dataclass(frozen=True)
class _Container:
    """
    A container's address in parts.

    :param account_url: The account's blob endpoint.
    """

    account_url: str
    account: str
    name: str

    @classmethod
    def of(cls, url: str) -> _Container:
        parts = urlsplit(url)
        segments = [unquote(segment) for segment in parts.path.split("/") if segment]
        origin = f"{parts.scheme}://{parts.netloc}"
        if len(segments) > 1:  # an emulator of storage has the account in the path
            return cls(f"{origin}/{segments[0]}", segments[0], segments[-1])
        return cls(origin, (parts.hostname or "").split(".")[0], segments[0] if segments else "")

    @classmethod
    def to_sign_for(cls, url: str) -> _Container:
        """
        Return the parts of a URL if it leads to Azure Storage or stays on this machine.

        :raises GeoCatalogInvalidInput: It does not.
        """
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        is_storage = bool(_BEFORE_SUFFIX.fullmatch(host)) and host.endswith(_STORAGE_SUFFIXES)
        # What opens a container goes nowhere else, whatever URL a source has.
        if "@" in parts.netloc or not (is_storage or is_loopback(host)):
            raise GeoCatalogInvalidInput(f"{host!r} is no host of Azure Blob Storage, so no token is signed for it")
        return cls.of(url)


def account_of(container_url: str) -> str:
    """Return the storage account of a container, in lower case."""
    return _Container.of(container_url).account.lower()


# --- signed here ----------------------------------------------------------------------------------------------------


def _storage() -> Any:
    try:
        from azure.storage import blob
    except ImportError as error:
        raise GeoCatalogInvalidInput(
            "to sign SAS tokens the package azure-storage-blob is needed: install "
            "airflow-provider-geocatalog[azure-storage]"
        ) from error
    return blob


def _span(now: float, lifetime: float) -> dict[str, datetime.datetime]:
    moments = (math.floor(now - _BEGINS_BEFORE), math.floor(now + lifetime))
    start, expiry = (datetime.datetime.fromtimestamp(moment, datetime.UTC) for moment in moments)
    return {"start": start, "expiry": expiry}


def account_key_maker(account_key: str, *, lifetime: float) -> TokenMaker:
    """
    Return a maker that signs with an account's key.

    :param lifetime: Seconds that the tokens live.
    """

    def make(container_url: str, now: float) -> str:
        from azure.core.exceptions import AzureError

        blob, container = _storage(), _Container.to_sign_for(container_url)
        try:
            token: str = blob.generate_container_sas(
                container.account,
                container.name,
                account_key=account_key,
                permission=_PERMISSIONS,
                **_span(now, lifetime),
            )
        except (ValueError, AzureError):  # its text may hold the key
            raise GeoCatalogInvalidInput(f"the key of storage account {container.account} is no base64 text") from None
        return token

    return make


class UserDelegation:
    """
    A maker that signs with a key which the storage account gives to an identity of Microsoft Entra.

    The identity needs the role *Storage Blob Delegator* on the account and *Storage Blob Data Reader* on the container.

    :param credential: The identity.
    :param lifetime: Seconds that the tokens live.
    :param ca_bundle: File with the certificates to trust; ``None`` for the usual ones.
    :param timeout: Seconds that connecting and each read may take.
    """

    def __init__(
        self,
        credential: TokenCredential,
        *,
        lifetime: float,
        ca_bundle: str | None = None,
        timeout: float = DEFAULT_REQUEST_TIMEOUT,
    ) -> None:
        if not 0 < lifetime <= LONGEST_LIFETIME:
            raise GeoCatalogInvalidInput(
                f"a token that an identity signs lives up to {LONGEST_LIFETIME:.0f} s, not {lifetime:.0f} s"
            )
        self._credential = credential
        self._lifetime = lifetime
        self._options: dict[str, Any] = {
            "connection_timeout": timeout,
            "read_timeout": timeout,
            "retry_total": _STORAGE_RETRIES,
        }
        if ca_bundle:
            self._options["connection_verify"] = ca_bundle
        self._keys: dict[tuple[str, datetime.datetime], Any] = {}

    def __call__(self, container_url: str, now: float) -> str:
        """
        Return a token; containers of one account that ask in the same moment share the account's key.

        :raises GeoCatalogAuthenticationError: The identity got no key.
        """
        blob, container = _storage(), _Container.to_sign_for(container_url)
        span = _span(now, self._lifetime)
        token: str = blob.generate_container_sas(
            container.account,
            container.name,
            user_delegation_key=self._key(blob, container, span),
            permission=_PERMISSIONS,
            **span,
        )
        return token

    def _key(self, blob: Any, container: _Container, span: dict[str, datetime.datetime]) -> Any:
        from azure.core.exceptions import AzureError, ServiceRequestError, ServiceResponseError

        wanted = (container.account_url, span["expiry"])
        if wanted not in self._keys:
            try:
                with blob.BlobServiceClient(container.account_url, self._credential, **self._options) as service:
                    self._keys[wanted] = service.get_user_delegation_key(span["start"], span["expiry"])
            except (AzureError, ValueError) as error:  # a token over plain http is a ValueError
                status = getattr(error, "status_code", None)
                passing = isinstance(error, ServiceRequestError | ServiceResponseError) or _may_pass(status)
                reason = getattr(error, "error_code", None) or " ".join(str(error).split())
                raise GeoCatalogAuthenticationError(
                    f"storage account {container.account} gave no user delegation key: {reason}",
                    status=status,
                    hint="Assign the role 'Storage Blob Delegator' on the storage account, and 'Storage Blob Data "
                    "Reader' on the container, to the connection's identity; a new assignment takes a few minutes.",
                    retryable=passing,
                ) from error
        return self._keys[wanted]


def _may_pass(status: int | None) -> bool:
    return status is not None and (status in {408, 429} or status >= 500)


# --- Airflow's connections to Azure Storage -------------------------------------------------------------------------


class StorageConnection:
    """
    An Airflow connection of type ``wasb``, ``adls`` or ``azure``, read as the Azure provider's hooks do.

    What counts, the first that is there: a connection string, a client secret (with ``tenant_id``), a shared access
    key, a SAS token, the password or ``account_key`` as the account's key, and at last the default credential.

    :param conn_type: The connection's type.
    :param extra: Its extra, names with or without the type's prefix.
    """

    def __init__(
        self,
        conn_type: str,
        *,
        host: str | None = None,
        login: str | None = None,
        password: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        prefix = f"extra__{conn_type}__"
        self._type = conn_type
        self._extra = {name.removeprefix(prefix): value for name, value in (extra or {}).items() if value}
        self._login, self._password = login, password
        self._string = _fields_of(str(self._extra.get("connection_string", "")))
        #: Whose key or token it holds, if it tells.
        self._account = self._string.get("accountname") or _account_of(host) or login

    @property
    def secrets(self) -> list[str]:
        """What must never be shown of it."""
        names = ("connection_string", "shared_access_key", "account_key", "sas_token")
        found = [self._password, self._string.get("accountkey"), *(self._extra.get(name) for name in names)]
        return [str(secret) for secret in found if secret]

    def maker(self, *, lifetime: float) -> TokenMaker:
        """
        Return what makes tokens with it.

        :param lifetime: Seconds that the tokens live that are signed here.
        :raises GeoCatalogInvalidInput: It holds nothing that signs.
        """
        key, token = self._key_or_token()
        if key or token:
            make = account_key_maker(key, lifetime=lifetime) if key else _given(str(token))
            return lambda container_url, now: make(self._checked(container_url), now)
        if self._string:
            raise GeoCatalogInvalidInput("the connection string has neither an AccountKey nor a SharedAccessSignature")
        return self._delegation(lifetime)

    def _key_or_token(self) -> tuple[str | None, str | None]:
        extra, password = self._extra, self._password
        if self._string:
            return self._string.get("accountkey"), self._string.get("sharedaccesssignature")
        if self._tenant or self._type == "azure":
            return None, None
        if extra.get("shared_access_key"):
            return str(extra["shared_access_key"]), None
        if extra.get("sas_token"):
            return None, str(extra["sas_token"])
        if password and signatures(password):
            return None, password
        return password or extra.get("account_key"), None

    @property
    def _tenant(self) -> str | None:
        tenant = self._extra.get("tenant_id") or self._extra.get("tenantId")
        return str(tenant) if tenant else None

    def _delegation(self, lifetime: float) -> TokenMaker:
        """Return a maker that signs as the identity that the connection names; in the cloud of the container."""
        unusable = [name for name in ("key_path", "key_json") if name in self._extra]
        if unusable:
            raise GeoCatalogInvalidInput(
                f"a connection with {' or '.join(unusable)} cannot sign SAS tokens; give its client id as login, its "
                "secret as password and 'tenantId'"
            )
        makers: dict[Cloud, TokenMaker] = {}

        def make(container_url: str, now: float) -> str:
            host = urlsplit(container_url).hostname or ""
            cloud = Cloud.US_GOVERNMENT if host.endswith(_US_GOVERNMENT_SUFFIX) else Cloud.PUBLIC
            if cloud not in makers:
                makers[cloud] = UserDelegation(self._identity(cloud), lifetime=lifetime)
            return makers[cloud](container_url, now)

        return make

    def _identity(self, cloud: Cloud) -> TokenCredential:
        by_secret = bool(self._tenant and self._password)
        client = self._login if by_secret else self._extra.get("managed_identity_client_id")
        settings = ConnectionSettings(
            url="",
            auth_method=AuthMethod.CLIENT_SECRET if by_secret else AuthMethod.DEFAULT,
            client_id=str(client) if client else None,
            secret=self._password,
            tenant_id=self._tenant,
            cloud=cloud,
        )
        return TokenSource(lambda: credential_for(settings), _STORAGE_SCOPE, settings.auth_method.value)

    def _checked(self, container_url: str) -> str:
        """Refuse a container of another account: its key would sign, and the service would notice when it reads."""
        account = account_of(container_url)
        if self._account and account != self._account.lower():
            raise GeoCatalogInvalidInput(
                f"the connection is for storage account {self._account!r}, but {container_url} is in {account!r}"
            )
        return container_url


def _given(token: str) -> TokenMaker:
    """Return a maker for a token that is there already, perhaps as the query string of a URL."""
    sas = urlsplit(token).query if token.lower().startswith(("http://", "https://")) else token
    return lambda container_url, now: sas


def _fields_of(connection_string: str) -> dict[str, str]:
    pairs = (part.split("=", 1) for part in connection_string.split(";") if "=" in part)
    return {name.strip().lower(): value.strip() for name, value in pairs}


def _account_of(host: str | None) -> str | None:
    """Return the account in a connection's host, a URL or a name; ``None`` if it tells none."""
    if not host or "." not in host:
        return None
    return _Container.of(f"{host if '://' in host else f'https://{host}'}".rstrip("/") + "/-").account


# --- given by an endpoint -------------------------------------------------------------------------------------------


def endpoint_maker(endpoint: str = PLANETARY_COMPUTER, *, timeout: float = DEFAULT_REQUEST_TIMEOUT) -> TokenMaker:
    """
    Return a maker that asks an endpoint for tokens as the public Planetary Computer gives them, for everybody.

    :param endpoint: Its URL; ``/{account}/{container}`` is added.
    :param timeout: Seconds that connecting and reading may take.
    :raises GeoCatalogInvalidInput: The endpoint is no https URL; plain http is for this machine.
    """
    parts = urlsplit(endpoint)
    if not parts.hostname or parts.scheme != ("http" if is_loopback(parts.hostname) else "https"):
        raise GeoCatalogInvalidInput(f"the token endpoint {redact(endpoint)!r} is not an https URL")
    return lambda container_url, now: _ask(endpoint, _Container.of(container_url), timeout)


def _ask(endpoint: str, container: _Container, timeout: float) -> str:
    import requests

    where = f"{endpoint.rstrip('/')}/{quote(container.account, safe='')}/{quote(container.name, safe='')}"
    try:
        with requests.Session() as session:
            session.auth = lambda request: request  # otherwise requests sends what .netrc holds
            response = session.get(where, timeout=timeout, allow_redirects=False)
    except requests.RequestException as error:
        _refuse_answer(where, type(error).__name__, retryable=True)
    if response.status_code != 200:
        _refuse_answer(where, f"status {response.status_code}", retryable=_may_pass(response.status_code))
    try:
        token = response.json()["token"]
    except (ValueError, KeyError, TypeError):
        _refuse_answer(where, "an answer without a token")
    return str(token)


def _refuse_answer(where: str, reason: str, *, retryable: bool = False) -> NoReturn:
    raise GeoCatalogError(
        f"{where} gave no SAS token: {reason}",
        hint="The public Planetary Computer gives tokens for the containers of its own collections.",
        retryable=retryable,
    ) from None
