"""From the fields of a connection to a token."""

from __future__ import annotations

import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_geocatalog.api.errors import GeoCatalogAuthenticationError, GeoCatalogInvalidInput
from airflow_provider_geocatalog.auth import (
    AuthMethod,
    Cloud,
    ConnectionSettings,
    StaticTokenCredential,
    TokenSource,
    credential_for,
)

URL = "https://x.abc.eastus.geocatalog.spatio.azure.com"


def settings(**fields):
    return ConnectionSettings.from_fields(**{"host": URL, **fields})


def problems(**fields):
    with pytest.raises(GeoCatalogInvalidInput) as caught:
        settings(**fields)
    return str(caught.value)


def test_fields_of_older_airflows_forms_are_read():
    extra = {"extra__geocatalog__tenant_id": "t", "extra__geocatalog__auth_method": "client_secret"}

    found = settings(login="app", password="hidden", extra=extra)

    assert (found.auth_method, found.tenant_id, found.client_id) == (AuthMethod.CLIENT_SECRET, "t", "app")


def test_nothing_but_the_address_is_needed():
    found = settings()

    assert (found.auth_method, found.cloud, found.dialect.api_version, found.request_timeout) == (
        AuthMethod.DEFAULT,
        Cloud.PUBLIC,
        "2026-04-15",
        60,
    )


@pytest.mark.parametrize(
    ("method", "lacking"),
    [
        ("client_secret", ["tenant id", "client id", "client secret"]),
        ("client_certificate", ["tenant id", "client id", "certificate path"]),
        ("static_token", ["token"]),
        ("Static-Token", ["token"]),
    ],
)
def test_every_field_that_a_method_needs_is_asked_for(method, lacking):
    told = problems(extra={"auth_method": method})

    assert all(f"the {name}" in told for name in lacking)


@pytest.mark.parametrize("method", ["default", "managed_identity", "workload_identity", "azure_cli"])
def test_methods_without_fields_need_none(method):
    assert settings(extra={"auth_method": method}).auth_method.value == method


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "geocatalog",
        "ftp://x.example.com",
        "http://example.com",
        "http://127.0.0.1.nip.io",
        "https://",
        "https://a b.example.com",
        "https://x.example.com\\@other.example.com",
        "https://user:hidden-secret@x.example.com",
        "https://x.example.com?sig=hidden-secret",
        "https://x.example.com#f",
        "https://x.example.com:99999",
        "https://[bad",
        "[::1",
    ],
)
def test_a_bad_address_is_refused_in_words(host):
    told = problems(host=host)

    assert "the GeoCatalog connection cannot be used" in told
    assert "hidden-secret" not in told


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "3601", "soon"])
def test_a_bad_time_out_is_refused(timeout):
    assert "time-out" in problems(extra={"request_timeout": timeout})


@given(st.text(max_size=40))
def test_no_host_breaks_the_reading(host):
    try:
        found = settings(host=host)
    except GeoCatalogInvalidInput:
        return
    assert found.url.startswith("https://") or found.is_local


def test_schema_and_port_of_the_connection_count():
    assert settings(host="127.0.0.1", port=8099).url == "http://127.0.0.1:8099"
    assert settings(host="x.example.com", port=8443, schema="https").url == "https://x.example.com:8443"
    assert settings(host="https://x.example.com:1", port=2).url == "https://x.example.com:1"


def test_the_us_government_cloud_is_known_by_its_host():
    found = settings(host="https://x.usgovvirginia.geocatalog.spatio.azure.us")

    assert found.cloud.scope == "https://geocatalog.spatio.azure.us/.default"
    assert found.cloud.authority == "login.microsoftonline.us"
    assert settings(host="https://azure.us.example.com").cloud is Cloud.PUBLIC


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("default", "DefaultAzureCredential"),
        ("client_secret", "ClientSecretCredential"),
        ("managed_identity", "ManagedIdentityCredential"),
        ("azure_cli", "AzureCliCredential"),
        ("static_token", "StaticTokenCredential"),
    ],
)
def test_every_method_makes_its_credential(method, kind):
    found = settings(login="app", password="s", extra={"auth_method": method, "tenant_id": "t"})

    assert type(credential_for(found)).__name__ == kind


def test_a_key_in_place_of_its_path_is_refused_and_not_shown():
    key = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFJDBWBgkq\n-----END ENCRYPTED PRIVATE KEY-----"
    extra = {"auth_method": "client_certificate", "tenant_id": "t", "certificate_path": key}
    with pytest.raises(GeoCatalogInvalidInput, match="certificate or key itself") as refused:
        settings(login="a", extra=extra)
    assert "MIIFJ" not in str(refused.value)


def test_a_key_without_its_password_is_an_authentication_error(tmp_path):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"hidden")
    path = tmp_path / "key.pem"
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    extra = {"auth_method": "client_certificate", "tenant_id": "t", "certificate_path": str(path)}
    with pytest.raises(GeoCatalogAuthenticationError, match="client_certificate credential cannot be built"):
        credential_for(settings(login="a", extra=extra))


def test_a_certificate_that_is_not_there_is_named():
    found = settings(
        login="a", extra={"auth_method": "client_certificate", "tenant_id": "t", "certificate_path": "/no/such.pem"}
    )

    with pytest.raises(GeoCatalogAuthenticationError, match=r"client_certificate.*no/such\.pem"):
        credential_for(found)


def test_a_workload_identity_without_its_token_file_is_an_authentication_error(monkeypatch):
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", "/no/such/token")
    found = settings(login="a", extra={"auth_method": "workload_identity", "tenant_id": "t"})

    with pytest.raises(GeoCatalogAuthenticationError, match="workload_identity credential gave no token"):
        TokenSource.of(found).get()


# --- tokens ----------------------------------------------------------------------------------------------------------


class Credential:
    """Give numbered tokens, or raise."""

    def __init__(self, lifetime=3600, error=None):
        self.lifetime, self.error, self.given, self.lock = lifetime, error, 0, threading.Lock()

    def get_token(self, *scopes, **options):
        if self.error:
            raise self.error
        with self.lock:
            self.given += 1
        return AccessToken(f"token-{self.given}", int(time.time() + self.lifetime))


def source(credential):
    return TokenSource(lambda: credential, "scope", "test")


def test_a_token_serves_many_threads():
    credential = Credential()
    tokens = source(credential)

    with ThreadPoolExecutor(16) as pool:
        got = set(pool.map(lambda _: tokens.get(), range(200)))

    assert (got, credential.given) == ({"token-1"}, 1)


def test_callers_that_were_refused_together_share_one_renewal():
    credential = Credential()
    tokens = source(credential)
    refused = tokens.get()

    with ThreadPoolExecutor(16) as pool:
        got = set(pool.map(lambda _: tokens.get(refused=refused), range(50)))

    assert (got, credential.given) == ({"token-2"}, 2)


@pytest.mark.parametrize(("lifetime", "asked"), [(299, 2), (310, 1)])
def test_a_token_is_renewed_five_minutes_before_it_expires(lifetime, asked):
    credential = Credential(lifetime)
    tokens = source(credential)

    tokens.get()
    tokens.get()

    assert credential.given == asked


def test_a_refusal_makes_a_new_credential_because_the_old_one_answers_from_its_cache():
    made = []
    tokens = TokenSource(lambda: made.append(1) or Credential(), "scope", "test")

    tokens.get(refused=tokens.get())

    assert len(made) == 2


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (ServiceRequestError("no connection to sign-in"), True),
        (ClientAuthenticationError("AADSTS7000215: Invalid client secret"), False),
        (ValueError("bad tenant"), False),
    ],
)
def test_a_credential_that_fails_is_named_with_its_reason(error, retryable):
    with pytest.raises(GeoCatalogAuthenticationError, match="the test credential gave no token") as caught:
        source(Credential(error=error)).get()

    assert (caught.value.retryable, str(error) in str(caught.value)) == (retryable, True)


@pytest.mark.parametrize("token", ["two words", "line\nend", "töken", "€"])
def test_a_token_that_no_header_can_hold_is_refused_unseen(token):
    tokens = TokenSource(lambda: StaticTokenCredential(token), "scope", "static_token")

    with pytest.raises(GeoCatalogAuthenticationError, match="characters that no token has") as caught:
        tokens.get()
    assert token not in str(caught.value)


def test_the_line_end_of_a_static_token_is_left_out():
    assert TokenSource(lambda: StaticTokenCredential(" abc\n"), "scope", "static_token").get() == "abc"


def test_the_expiry_of_a_static_token_is_read_from_it():
    payload = base64.urlsafe_b64encode(json.dumps({"exp": 2_000_000_000}).encode()).decode().rstrip("=")

    assert StaticTokenCredential(f"x.{payload}.y").get_token().expires_on == 2_000_000_000
    assert StaticTokenCredential("x.!!!.y").get_token().expires_on > time.time() + 3600
