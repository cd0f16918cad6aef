"""Servers on real sockets, and clients that wait on a clock of their own."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import settings

from airflow_provider_geocatalog.auth import ConnectionSettings, TokenSource
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.rate_limit import RateLimit
from tests.fakes.clock import FakeClock
from tests.fakes.faulty_server import FaultyServer
from tests.fakes.scripted_server import Answer, ScriptedServer

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")


@pytest.fixture
def script():
    """Start servers that answer as a script says: an answer is ``(status, headers, body)`` or takes the handler."""
    with ExitStack() as stack:

        def start(*answers: Any) -> ScriptedServer:
            acts = [Answer(given[0], given[2], given[1]) if isinstance(given, tuple) else given for given in answers]
            return stack.enter_context(ScriptedServer(*acts))

        yield start


@pytest.fixture
def faulty():
    """Start servers that do with each connection what a function says."""
    with ExitStack() as stack:

        def start(*behaviours: Any, **options: Any) -> FaultyServer:
            server = FaultyServer(*behaviours, **options)
            stack.callback(server.close)
            return server

        yield start


class Credential:
    """Count the tokens that are asked for; each is another."""

    def __init__(self, lifetime: float = 3600.0, *, same: bool = False) -> None:
        self.lifetime, self.same, self.given = lifetime, same, 0

    def get_token(self, *scopes: str, **options: Any):
        from azure.core.credentials import AccessToken

        self.given += 1
        return AccessToken("the-token" if self.same else f"token-{self.given}", int(time.time() + self.lifetime))


@pytest.fixture
def connect():
    clients = []

    def make(url: str, credential: Credential | None = None, **settings: Any) -> GeoCatalogClient:
        chosen = credential or Credential()
        tokens = TokenSource(lambda: chosen, "scope", "test")
        client = GeoCatalogClient(
            ConnectionSettings(url, **settings),
            tokens=tokens,
            clock=FakeClock(time.time()),
            rate_limit=RateLimit(),
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def new_credential():
    return Credential
