"""Connections that cannot work: what Airflow's connection test says, through its API and in the browser."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fakes.entra import ADMINISTRATOR, TENANT, token_of
from tests.fakes.real_world import TOKEN

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]

ADMINISTRATORS = ("00000000-0000-4000-8000-00000000000a", "client-secret-of-the-administrator")
NOBODYS = ("00000000-0000-4000-8000-00000000000b", "client-secret-of-nobody-in-particular")
WRONG_SECRET = "client-secret-that-is-not-right"
OTHER_TENANT = "22222222-2222-4222-8222-222222222222"
EXPIRED = token_of(ADMINISTRATOR, lifetime=-60)
OTHER_AUDIENCE = token_of(ADMINISTRATOR, audience="https://management.azure.com")
SECRETS = (TOKEN, ADMINISTRATORS[1], NOBODYS[1], WRONG_SECRET, EXPIRED, OTHER_AUDIENCE, "c2lnbmF0dXJl")


@dataclass
class SetUp:
    """
    A connection with one thing wrong.

    :param wrong: What the message says is wrong.
    :param advice: What it says to do.
    :param fields: Of the connection; ``host`` follows the emulator's address.
    :param fault: Of the emulator, while it is tested.
    """

    wrong: str
    advice: str
    path: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    fault: dict[str, Any] | None = None


def _with_secret(application: tuple[str, str], tenant: str = TENANT) -> dict[str, Any]:
    login, password = application
    return {
        "fields": {"login": login, "password": password},
        "extra": {"auth_method": "client_secret", "tenant_id": tenant},
    }


def _with_token(token: str, **extra: str) -> dict[str, Any]:
    return {"fields": {"password": token}, "extra": {"auth_method": "static_token", **extra}}


SET_UPS = {
    "wrong URL": SetUp("is not a GeoCatalog: it answered 404", "'GeoCatalog URI'", "/elsewhere", **_with_token(TOKEN)),
    "no credential": SetUp("the default credential gave no token", "No credential was found: give the process a"),
    "no secret": SetUp("the token (password) is missing", "static_token needs it", **_with_token("")),
    "wrong tenant": SetUp(
        f"credential gave no token in tenant '{OTHER_TENANT}'",
        "The tenant is wrong: in the field 'Tenant ID'",
        **_with_secret(ADMINISTRATORS, OTHER_TENANT),
    ),
    "no application of the tenant": SetUp(
        "AADSTS700016", "The tenant has no such application", **_with_secret(("unknown", ADMINISTRATORS[1]))
    ),
    "wrong secret": SetUp(
        "AADSTS7000215", "The client secret is wrong", **_with_secret((ADMINISTRATORS[0], WRONG_SECRET))
    ),
    "missing role": SetUp("no role on this GeoCatalog (403)", "Assign the role", **_with_secret(NOBODYS)),
    "expired token": SetUp("the token has expired, at 20", "put a new one in the connection", **_with_token(EXPIRED)),
    "token of something else": SetUp(
        "the token is for https://management.azure.com", "Get a token for the scope", **_with_token(OTHER_AUDIENCE)
    ),
    "token of another catalog": SetUp("it does not know the token", "may have expired", **_with_token("x" * 40)),
    "wrong api-version": SetUp(
        "unknown api-version '2023-01-01'; this provider speaks",
        "2026-04-15",
        **_with_token(TOKEN, api_version="2023-01-01"),
    ),
    "api-version that the service refuses": SetUp(
        "the service does not accept api-version 2024-01-31-preview",
        "Choose another api-version",
        fault={"status": 400, "code": "UnsupportedApiVersion", "message": "no", "operations": "get_landing_page"},
        **_with_token(TOKEN, api_version="2024-01-31-preview"),
    ),
}
IN_THE_BROWSER = ("wrong URL", "no credential", "wrong tenant", "missing role", "expired token", "wrong api-version")


def _fields(world, entra, name: str) -> dict[str, Any]:
    """Return the fields of a connection with something wrong, for Airflow's API and as the form saves them."""
    set_up = SET_UPS[name]
    if set_up.path:
        where = {"host": world.url + set_up.path}
    else:
        address, _, port = world.url.rpartition(":")
        where = {"host": address, "port": int(port)}
    extra = {**set_up.extra, "ca_bundle": str(entra.certificate)}
    return {"conn_type": "geocatalog", **where, **set_up.fields, "extra": json.dumps(extra)}


def _id(name: str) -> str:
    return f"broken_{name.replace(' ', '_')}"


def _check(name: str, message: str) -> None:
    assert SET_UPS[name].wrong in message, message
    assert SET_UPS[name].advice in message, message
    assert not [secret for secret in SECRETS if secret in message]


@pytest.fixture(scope="module")
def messages() -> dict[str, str]:
    """What was said about each, for a comparison."""
    return {}


@pytest.mark.parametrize("name", SET_UPS)
def test_what_is_wrong_is_said_with_what_to_do(world, entra, messages, name):
    fault = SET_UPS[name].fault and world.emulator.faults.add("status", **SET_UPS[name].fault)
    body = {"connection_id": "new", **_fields(world, entra, name)}
    answer = world.airflow.call("POST", "/connections/test", body=body)
    if fault:
        world.emulator.faults.remove(fault.id)

    assert answer["status"] is False
    _check(name, answer["message"])
    messages[name] = answer["message"]
    advice = {one: text.partition(SET_UPS[one].advice)[2] for one, text in messages.items() if one != "no secret"}
    assert len(set(advice.values())) == len(advice), "two are told the same"
    assert len(answer["message"]) < 1200


@pytest.fixture(scope="module")
def opened_list(lasting_tab, world, entra):
    """The list of connections, with those that are broken."""
    for name in IN_THE_BROWSER:
        body = {"connection_id": _id(name), **_fields(world, entra, name)}
        world.airflow.call("POST", "/connections", body={"port": 443, **body})
    lasting_tab.open("/connections")
    return lasting_tab


@pytest.mark.parametrize("name", IN_THE_BROWSER)
def test_the_ui_shows_it(opened_list, name):
    told = opened_list.test_connection(_id(name))

    assert "Test Connection Failed" in told
    _check(name, told)


def test_a_test_is_always_of_the_connection_as_it_is(world, entra):
    """No client or token of an earlier test is used again."""
    bad = _fields(world, entra, "missing role")
    good = bad | {"login": ADMINISTRATORS[0], "password": ADMINISTRATORS[1]}

    told = [
        world.airflow.call("POST", "/connections/test", body={"connection_id": "new", **one})["status"]
        for one in (good, bad, good)
    ]

    assert told == [True, False, True]
