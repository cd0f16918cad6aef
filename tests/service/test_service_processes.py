"""One client in several processes, threads and tasks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from airflow_provider_geocatalog.auth import ConnectionSettings
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.rate_limit import RateLimit
from tests.fakes.scripted_server import Answer

#: Calls before and after a fork, in both processes; every answer has to be that of its own question.
FORKING = """
import asyncio, os, sys
from airflow_provider_geocatalog.auth import ConnectionSettings
from airflow_provider_geocatalog.client import GeoCatalogClient

client = GeoCatalogClient(ConnectionSettings.from_fields(
    host=sys.argv[1], password="token-of-the-test", extra={"auth_method": "static_token", "requests_per_second": 1000}))

def ask(who):
    for number in range(5):
        wanted = f"{who}-{number}"
        assert client.get_collection(wanted)["id"] == wanted, wanted
    assert asyncio.run(client.get_collection.aio(who))["id"] == who

ask("before")
child = os.fork()
ask("parent" if child else "child")
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0)
"""


def _echo(handler):
    """Answer with the id that was asked for, a little later."""
    time.sleep(0.01)
    Answer(200, {"id": handler.path.split("?")[0].rsplit("/", 1)[1]})(handler)


def test_a_forked_process_shares_neither_connections_nor_threads(script):
    server = script(_echo)

    done = subprocess.run(
        [sys.executable, "-c", FORKING, server.url], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr


def _busiest_second(moments: list[float]) -> int:
    return max(sum(1 for other in moments if start <= other < start + 1.0) for start in moments)


@pytest.fixture
def limited(script):
    """A client that may send 20 requests a second to a server whose first answers take long."""
    arrived: list[float] = []

    def slow_at_first(handler):
        arrived.append(time.monotonic())
        if len(arrived) <= 20:
            time.sleep(1.0)
        Answer(200, {"id": "x"})(handler)

    extra = {"auth_method": "static_token", "requests_per_second": 20}
    settings = ConnectionSettings.from_fields(host=script(slow_at_first).url, password="token", extra=extra)
    client = GeoCatalogClient(settings, rate_limit=RateLimit())
    yield client, arrived
    client.close()


async def test_calls_that_had_to_queue_keep_the_request_rate_as_well(limited):
    client, arrived = limited

    await asyncio.gather(*(client.get_collection.aio("x") for _ in range(60)))

    assert len(arrived) == 60
    assert _busiest_second(arrived) <= 24  # what is sent in a second may arrive in a little less


async def test_cancelled_calls_leave_their_turns_to_others(limited):
    client, arrived = limited
    tasks = [asyncio.ensure_future(client.get_collection.aio("x")) for _ in range(400)]
    await asyncio.sleep(0.2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    started = time.monotonic()
    await client.get_collection.aio("x")

    assert time.monotonic() - started < 6  # 400 turns would have taken 20 s
    assert len(arrived) < 60


def test_a_token_that_the_service_quotes_is_masked(script):
    from airflow_provider_geocatalog.api.errors import GeoCatalogBadRequest

    token = "a-static-token-without-form"
    server = script((400, {}, {"error": {"code": "Bad", "message": f"Invalid token '{token}'"}}))
    settings = ConnectionSettings.from_fields(host=server.url, password=token, extra={"auth_method": "static_token"})

    with pytest.raises(GeoCatalogBadRequest) as caught:
        GeoCatalogClient(settings).get_collection("x")

    assert token not in str(caught.value)
    assert "Invalid token '***'" in str(caught.value)


def test_a_credential_gives_up_within_the_connections_time_out():
    from airflow_provider_geocatalog.auth import credential_for

    extra = {"auth_method": "client_secret", "tenant_id": "t", "request_timeout": 7}
    url = "https://x.abc.eastus.geocatalog.spatio.azure.com"
    settings = ConnectionSettings.from_fields(host=url, login="app", password="secret", extra=extra)

    config = credential_for(settings)._client._pipeline._transport.connection_config

    assert (config.timeout, config.read_timeout) == (7, 7)
