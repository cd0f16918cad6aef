"""Signing in, and what is said when it does not work: azure-identity, with a Microsoft Entra ID of this machine."""

from __future__ import annotations

import time

import pytest

from airflow_provider_geocatalog.api.errors import GeoCatalogAuthenticationError, GeoCatalogInvalidInput
from airflow_provider_geocatalog.auth import ConnectionSettings, TokenSource
from airflow_provider_geocatalog.sign_in import claims_of, refusal_of, sign_in_hint, sign_in_reason
from tests.fakes.entra import ADMINISTRATOR, AUDIENCE, TENANT, Application, FakeEntra, token_of

SCOPE = f"{AUDIENCE}/.default"
APPLICATION = Application("app", "secret-of-the-application", (ADMINISTRATOR,))
HOST = "https://mycatalog.a1b2.westeurope.geocatalog.spatio.azure.com"


@pytest.fixture
def sign_in(tmp_path, monkeypatch):
    """Return what asks Entra for a token."""
    with FakeEntra([APPLICATION], tmp_path / "entra.pem") as entra:
        monkeypatch.setenv("HTTPS_PROXY", entra.proxy)
        monkeypatch.setenv("https_proxy", entra.proxy)

        def sign_in(tenant: str = TENANT, login: str = APPLICATION.client_id, secret: str = APPLICATION.secret) -> str:
            extra = {"auth_method": "client_secret", "tenant_id": tenant, "ca_bundle": str(entra.certificate)}
            return TokenSource.of(_settings(login=login, password=secret, **extra)).get()

        yield sign_in


def _settings(*, host: str = HOST, login: str = "", password: str = "", port: int | None = None, **extra: str):
    return ConnectionSettings.from_fields(host=host, port=port, login=login, password=password, extra=extra)


def test_an_application_gets_its_token(sign_in):
    assert claims_of(sign_in())["roles"] == [ADMINISTRATOR]


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ({"tenant": "22222222-2222-4222-8222-222222222222"}, "The tenant is wrong"),
        ({"tenant": "no tenant"}, "The tenant is wrong"),
        ({"login": "another"}, "no such application"),
        ({"secret": "another-secret"}, "The client secret is wrong"),
    ],
)
def test_what_entra_refuses_is_explained(sign_in, wrong, advice):
    with pytest.raises(GeoCatalogAuthenticationError, match=advice) as caught:
        sign_in(**wrong)

    assert f"in tenant {wrong.get('tenant', TENANT)!r}" in str(caught.value)
    assert not {APPLICATION.secret, "another-secret"} & set(str(caught.value).split())
    assert not caught.value.retryable


def test_an_entra_that_cannot_be_reached_is_not_a_wrong_tenant(sign_in, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    with pytest.raises(GeoCatalogAuthenticationError, match=r"has to reach https://login\.microsoftonline\.com"):
        sign_in()


@pytest.mark.parametrize("code", ["AADSTS7000222", "AADSTS500011", "AADSTS700027"])
def test_other_refusals_of_entra_have_advice_of_their_own(code):
    advice = {sign_in_hint(f"{one}: no.", "client_secret", "login") for one in (code, "AADSTS90002", "AADSTS1")}

    assert len(advice) == 3


@pytest.mark.parametrize("method", ["default", "managed_identity", "workload_identity", "azure_cli", "client_secret"])
def test_every_method_has_advice_of_its_own(method):
    methods = {"default", "managed_identity", "workload_identity", "azure_cli", "client_secret"}

    others = {sign_in_hint("unavailable", other, "login") for other in methods - {method}}
    assert sign_in_hint("unavailable", method, "login") not in others


def test_what_a_chain_has_tried_is_told_in_short():
    text = (
        "DefaultAzureCredential failed to retrieve a token from the included credentials.\nAttempted credentials:\n"
        "\tEnvironmentCredential: EnvironmentCredential authentication unavailable. Variables are missing.\n"
        "Visit https://aka.ms/x to troubleshoot.\n"
        "\tAzureCliCredential: Azure CLI not found on path\nTo mitigate this issue, see https://aka.ms/y"
    )

    told = sign_in_reason(text)

    assert "(EnvironmentCredential: Variables are missing; AzureCliCredential: Azure CLI not found on path)" in told
    assert "aka.ms" not in told


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (token_of(ADMINISTRATOR, lifetime=-1), "the token has expired, at 20"),
        (token_of(ADMINISTRATOR, audience="https://management.azure.com"), "the token is for https://management.azure"),
        (token_of(ADMINISTRATOR, audience="6388acc4-795e-43a9-a320-33075c1eb83b"), f"of the tenant {TENANT}"),
        (token_of(ADMINISTRATOR), f"of the tenant {TENANT}"),
        ("opaque", "it does not know the token"),
        ("a.b.c", "it does not know the token"),
        ("a.W10.c", "it does not know the token"),  # no object
        ("", "it does not know the token"),
    ],
)
def test_a_refused_token_tells_why(token, words):
    reason, advice = refusal_of(token, SCOPE, time.time())

    assert words in reason
    assert advice.endswith(".")
    assert not token or token not in reason + advice


# --- the connection's fields -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["password", "token", "client_secret"])
def test_the_mask_of_a_secret_is_no_secret(where):
    fields = {"password": "***"} if where == "password" else {where: "***"}

    with pytest.raises(GeoCatalogInvalidInput, match="enter the secret itself again"):
        _settings(auth_method="static_token", **fields)


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        (HOST, 443, HOST),
        (HOST, 8443, f"{HOST}:8443"),
        (f"{HOST}:443", 443, f"{HOST}:443"),
        ("http://127.0.0.1", 80, "http://127.0.0.1"),
        ("http://127.0.0.1", 443, "http://127.0.0.1:443"),
        ("127.0.0.1", 8099, "http://127.0.0.1:8099"),
    ],
)
def test_the_usual_port_makes_no_other_catalog(host, port, url):
    assert _settings(host=host, port=port).url == url


@pytest.mark.parametrize(
    ("host", "explorer_url", "address"),
    [
        (
            HOST,
            "",
            "https://explorer.geocatalog.spatio.azure.com/explorer?geocatalogname=mycatalog.a1b2.westeurope&d=an+id%2F1",
        ),
        (
            "https://mycatalog.usgovvirginia.geocatalog.spatio.azure.us",
            "",
            "https://explorer.geocatalog.spatio.azure.us/explorer?geocatalogname=mycatalog.usgovvirginia&d=an+id%2F1",
        ),
        (HOST, "https://maps.example.com/?c={collection_id}&z=2", "https://maps.example.com/?c=an%20id%2F1&z=2"),
        ("http://127.0.0.1:8099", "", None),
        ("https://geocatalog.example.com", "", None),
    ],
)
def test_a_collection_has_an_address_in_the_explorer(host, explorer_url, address):
    assert _settings(host=host, explorer_url=explorer_url).address_of("an id/1") == address


@pytest.mark.parametrize(
    "explorer_url",
    ["javascript:alert('{collection_id}')", "https://maps.example.com/", "https://me:pw@x/{collection_id}"],
)
def test_an_explorer_url_is_checked(explorer_url):
    with pytest.raises(GeoCatalogInvalidInput, match="Explorer URL"):
        _settings(explorer_url=explorer_url)
