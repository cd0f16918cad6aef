"""Waits that are longer than anything: hours of virtual time, tokens that end, a secret that is replaced, outages."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from functools import partial

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from airflow_provider_geocatalog.api.flows.ingestion import Definition, IfRunExists, ensure_ingestion, ensure_run
from airflow_provider_geocatalog.api.flows.waiting import get_operation, get_run, wait_for_run
from airflow_provider_geocatalog.api.waiting import PollPolicy, Waiting
from airflow_provider_geocatalog.auth import ConnectionSettings, TokenSource
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.emulator.clock import ManualClock
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.rate_limit import RateLimit
from airflow_provider_geocatalog.shared_waits import SharedWaits

ADMIN = "long-waits-admin-token"
HOUR = 3600.0
LIFETIME = HOUR  # of a token
POLICY = PollPolicy(interval=300, first=2, outage=HOUR)


class VirtualClock:
    """The client's and the emulator's clock in one: whoever waits moves it."""

    def __init__(self) -> None:
        self.emulator = ManualClock(time.time())
        self.appointments = []

    def time(self) -> float:
        return self.emulator.now()

    monotonic = time

    def at(self, moment: float, action) -> None:
        """Have something done when its time has come."""
        self.appointments.append((moment, action))

    def sleep(self, seconds: float) -> None:
        self.emulator.advance(seconds)
        for appointment in [one for one in self.appointments if one[0] <= self.time()]:
            self.appointments.remove(appointment)
            appointment[1]()

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)


class Identity:
    """Stands for Microsoft Entra ID: an application whose secret is replaced at some time."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.secret, self.given = clock, "first-secret", 0

    def get_token(self, secret: str) -> AccessToken:
        if secret != self.secret:
            raise ClientAuthenticationError("AADSTS7000215: Invalid client secret provided.")
        self.given += 1
        now = int(self.clock.time())
        claims = {
            "aud": "https://geocatalog.spatio.azure.com",
            "roles": ["GeoCatalog Administrator"],
            "iat": now,
            "exp": now + int(LIFETIME),
        }
        parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims)]
        return AccessToken(f"{parts[0]}.{parts[1]}.{self.given}", claims["exp"])


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def identity(clock, monkeypatch):
    """Give out tokens in place of azure-identity, to which the connection's credential belongs."""
    found = Identity(clock)

    class Credential:
        def __init__(self, tenant_id, client_id, client_secret, **options) -> None:
            self._secret = client_secret

        def get_token(self, *scopes, **options) -> AccessToken:
            return found.get_token(self._secret)

    monkeypatch.setattr("azure.identity.ClientSecretCredential", Credential)
    return found


@pytest.fixture
def serve(clock, tmp_path):
    """Start an emulator on the virtual clock with a catalog of 100 items, of which each takes some seconds."""
    servers = []

    def start(**settings) -> EmulatorServer:
        for number in range(100):
            item = {
                "type": "Feature",
                "stac_version": "1.0.0",
                "id": f"item-{number}",
                "geometry": {"type": "Point", "coordinates": [8.0, 47.0]},
                "bbox": [8.0, 47.0, 8.0, 47.0],
                "properties": {"datetime": "2024-01-01T00:00:00Z"},
                "links": [],
                "assets": {},
            }
            (tmp_path / f"{number}.json").write_text(json.dumps(item))
        links = [{"rel": "item", "href": f"{number}.json"} for number in range(100)]
        catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "d", "links": links}
        (tmp_path / "catalog.json").write_text(json.dumps(catalog))
        settings = {"admin_tokens": (ADMIN,), "allowed_paths": (tmp_path,), "pending_seconds": 1.0, **settings}
        server = EmulatorServer(Emulator(EmulatorSettings.fast(**settings), clock.emulator)).__enter__()
        servers.append(server)
        with_token = GeoCatalogClient(
            ConnectionSettings(server.url, requests_per_second=1000),
            tokens=TokenSource(lambda: _Static(), "scope", "test"),
            clock=clock,
            rate_limit=RateLimit(),
        )
        extent = {"spatial": {"bbox": [[0, 0, 1, 1]]}, "temporal": {"interval": [[None, None]]}}
        with_token.create_collection(
            {
                "type": "Collection",
                "stac_version": "1.0.0",
                "id": "demo",
                "description": "d",
                "license": "x",
                "links": [],
                "extent": extent,
            }
        )
        return server

    yield start
    for server in servers:
        server.close()


class _Static:
    def get_token(self, *scopes, **options) -> AccessToken:
        return AccessToken(ADMIN, 2**40)


@pytest.fixture
def connect(monkeypatch, identity):
    """Write the connection with a secret."""

    def write(url: str, secret: str) -> None:
        extra = {"auth_method": "client_secret", "tenant_id": "t", "requests_per_second": 1000}
        connection = {"conn_type": "geocatalog", "host": url, "login": "app", "password": secret, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_GEOCATALOG_DEFAULT", json.dumps(connection))

    return write


def start_run(client_or_hook, tmp_path):
    run = client_or_hook.run
    definition = Definition("demo", (tmp_path / "catalog.json").as_uri(), "long")
    ingestion = run(ensure_ingestion(definition))
    return run(ensure_run("demo", ingestion.ingestion_id, if_run_exists=IfRunExists.ADOPT)), ingestion.ingestion_id


@pytest.fixture
def machine_on(monkeypatch, clock):
    """Have the machine's own clock be the virtual one, for what has no other; event loops go by another."""

    def turn() -> None:
        monkeypatch.setattr(time, "time", clock.time)
        monkeypatch.setattr(time, "sleep", clock.sleep)

    return turn


def rotating(clock, identity, connect, url):
    """Return an observer that replaces the secret when the wait is 13 hours old."""
    began = clock.time()

    def observe(operation, now) -> None:
        if now - began > 13 * HOUR and identity.secret == "first-secret":
            identity.secret = "second-secret"
            connect(url, "second-secret")

    return observe


def test_a_blocking_wait_of_26_hours_outlives_tokens_and_the_secret(
    serve, clock, identity, connect, machine_on, tmp_path
):
    server = serve(items_per_second=100 / (26 * HOUR))
    connect(server.url, "first-secret")
    machine_on()
    began, hook = clock.time(), GeoCatalogHook()
    started, ingestion_id = start_run(hook, tmp_path)
    observe = rotating(clock, identity, connect, server.url)
    waiting = Waiting("the run", POLICY, started=began, deadline=began + 30 * HOUR, observe=observe)
    operation = hook.wait_for(
        waiting,
        lambda: _operation_of("demo", ingestion_id, started.run.run_id),
    )

    assert operation.status.word == "Succeeded"
    assert operation.counts.succeeded == 100
    assert 26 * HOUR <= clock.time() - began < 26.2 * HOUR
    assert identity.secret == "second-secret"
    assert 26 <= identity.given <= 32


def _operation_of(*names):
    return (yield from get_run(*names, once=True)).operation


@pytest.mark.parametrize("count", [1, 12])
def test_shared_waits_of_26_hours_outlive_tokens_and_the_secret(
    serve, clock, identity, connect, machine_on, count, tmp_path
):
    server = serve(pending_seconds=26 * HOUR)
    connect(server.url, "first-secret")
    machine_on()
    emulator, began = server.emulator, clock.time()
    with emulator.world.lock:
        started = [
            emulator.engine.start_items("AddItem", "demo", began, [lambda at: None], ["x"]) for _ in range(count)
        ]
    observe = rotating(clock, identity, connect, server.url)

    async def wait() -> list:
        waits = SharedWaits(GeoCatalogHook().areconnect, clock)
        return await asyncio.gather(
            *(
                waits.wait(
                    one.id,
                    Waiting(one.id, POLICY, started=began, deadline=began + 30 * HOUR, observe=observe),
                    partial(get_operation, one.id, once=True),
                )
                for one in started
            )
        )

    operations = asyncio.run(wait())

    assert {operation.status.word for operation in operations} == {"Succeeded"}
    assert 26 * HOUR <= clock.time() - began < 26.2 * HOUR
    assert identity.secret == "second-secret"
    assert 26 <= identity.given <= 32


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("way", ["blocking", "shared"])
def test_an_hour_of_failing_answers_and_an_outage_end_with_the_truth_and_one_submission(
    serve, clock, way, seed, tmp_path
):
    server = serve(items_per_second=100 / HOUR)
    emulator, began = server.emulator, clock.time()
    chance = random.Random(seed)
    emulator.faults.add(
        "status", path="^/inma/", status=chance.choice([500, 502, 503, 504]), probability=0.2, seed=seed, handled=True
    )
    client = GeoCatalogClient(
        ConnectionSettings(server.url, requests_per_second=1000),
        tokens=TokenSource(lambda: _Static(), "scope", "test"),
        clock=clock,
        rate_limit=RateLimit(),
    )
    started, ingestion_id = start_run(client, tmp_path)
    outages = []
    clock.at(began + HOUR / 2, lambda: outages.append(emulator.faults.add("drop")))
    clock.at(began + HOUR / 2 + 600, lambda: emulator.faults.remove(outages[0]))
    names = "demo", ingestion_id, started.run.run_id
    policy, deadline = PollPolicy(), began + 3 * HOUR
    if way == "blocking":
        operation = client.run(wait_for_run(*names, policy=policy, deadline=deadline)).operation
    else:

        async def connected() -> GeoCatalogClient:
            return client

        waiting = Waiting("the run", policy, started=began, deadline=deadline)
        read = partial(_operation_of, *names)
        operation = asyncio.run(SharedWaits(connected, clock).wait(started.run.run_id, waiting, read))

    assert operation.status.word == "Succeeded"
    assert operation.counts.succeeded == 100
    assert sum(one.type == "IngestionStaticCatalog" for one in emulator.world.operations.values()) == 1
    assert HOUR <= clock.time() - began < HOUR + 700
    assert any(request.fault == outages[0].id for request in emulator.requests)
