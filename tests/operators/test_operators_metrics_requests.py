"""Requests, items and files as they are counted and logged, and the names that the documentation gives them."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import requests
import urllib3

from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogUnreachable
from airflow_provider_geocatalog.auth import ConnectionSettings, TokenSource
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.measures import METRICS
from tests.fakes.airflow_versions import AIRFLOW_VERSION
from tests.fakes.clock import FakeClock
from tests.fakes.metrics_collector import metrics_collector
from tests.fakes.scripted_server import Answer, ScriptedServer, cut
from tests.fakes.tasks import TOKEN

if TYPE_CHECKING:
    from airflow_provider_geocatalog.observer import Exchange

ROOT = Path(__file__).parents[2]
OK = Answer(body={"id": "x", "type": "Collection"}, headers={"X-Request-ID": "served-1"})


# --- what a client tells ---------------------------------------------------------------------------------------------


class Observer:
    def __init__(self):
        self.exchanges, self.held = [], []

    def exchanged(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)

    def held_back(self, seconds: float) -> None:
        self.held.append(seconds)


class Token:
    def get_token(self, *scopes, **options):
        from azure.core.credentials import AccessToken

        return AccessToken("observed-token", 4_000_000_000)


@pytest.fixture
def observed():
    """Return a client whose clock jumps, and what it has told."""
    clients = []

    def make(url, **settings):
        observer = Observer()
        tokens = TokenSource(Token, "scope", "test")
        client = GeoCatalogClient(ConnectionSettings(url, **settings), tokens=tokens, observer=observer)
        FakeClock().drive(client)
        clients.append(client)
        return client, observer

    yield make
    for client in clients:
        client.close()


def told(exchange):
    return exchange.endpoint, exchange.status, exchange.attempt


@pytest.mark.parametrize("is_async", [False, True])
def test_each_attempt_is_told_with_what_came_of_it(observed, is_async):
    with ScriptedServer(Answer(503), Answer(429, headers={"Retry-After": "1"}), cut, OK) as server:
        client, observer = observed(server.url)
        if is_async:
            asyncio.run(client.get_collection.aio("x"))
        else:
            client.get_collection("x")

    name = "get_collection"
    assert list(map(told, observer.exchanges)) == [(name, 503, 1), (name, 429, 2), (name, None, 3), (name, 200, 4)]
    assert observer.exchanges[-1].received == len(b'{"id": "x", "type": "Collection"}')
    assert all(one.seconds > 0 and one.sent == 0 for one in observer.exchanges)


def test_what_is_sent_is_measured(observed):
    with ScriptedServer(Answer(body={"type": "FeatureCollection", "features": [], "links": []})) as server:
        client, observer = observed(server.url)
        assert list(client.search(collections=["x"])) == []
        sent = [len(one.body) for one in server.seen]

    assert [one.sent for one in observer.exchanges] == sent
    assert sent[-1] > 0


def test_the_own_rate_limit_is_told_in_seconds(observed):
    with ScriptedServer(OK) as server:
        client, observer = observed(server.url, requests_per_second=2)
        for _ in range(3):
            client.get_collection("x")

    assert observer.held == [pytest.approx(0.5), pytest.approx(0.5)]


# --- lines of the log ------------------------------------------------------------------------------------------------


def request_lines(caplog):
    return [record for record in caplog.records if hasattr(record, "client_request_id")]


def test_each_request_is_a_line_with_its_ids_as_fields_and_in_the_text(observed, caplog):
    caplog.set_level(logging.DEBUG, "airflow_provider_geocatalog")
    with ScriptedServer(Answer(503, headers={"X-Request-ID": "served-0"}), OK) as server:
        observed(server.url)[0].get_collection("x")
        sent = [one.headers["x-ms-client-request-id"] for one in server.seen]

    lines = [record for record in request_lines(caplog) if record.levelno == logging.DEBUG]
    assert [record.client_request_id for record in lines] == sent
    assert len(set(sent)) == 2
    assert [(one.endpoint, one.status, one.attempt, one.request_id) for one in lines] == [
        ("get_collection", 503, 1, "served-0"),
        ("get_collection", 200, 2, "served-1"),
    ]
    for record in lines:
        assert record.request_id in record.getMessage()
        assert record.client_request_id in record.getMessage()
        assert record.duration_ms > 0
        assert record.filename == "client.py"


def test_a_request_without_an_answer_is_found_by_the_id_that_was_sent(observed, caplog):
    caplog.set_level(logging.DEBUG, "airflow_provider_geocatalog")
    with ScriptedServer(cut) as server:
        client, _ = observed(server.url)
        with pytest.raises(GeoCatalogUnreachable) as caught:
            client.create_run("c", "i")
        (seen,) = server.seen

    (line,) = request_lines(caplog)
    sent = seen.headers["x-ms-client-request-id"]
    assert (line.client_request_id, caught.value.client_request_id) == (sent, sent)
    assert sent in line.getMessage()
    assert not hasattr(line, "status")


def test_a_retry_says_which_request_it_repeats(observed, caplog):
    caplog.set_level(logging.INFO, "airflow_provider_geocatalog")
    with ScriptedServer(Answer(503, headers={"X-Request-ID": "served-0"}), OK) as server:
        observed(server.url)[0].get_collection("x")

    (line,) = [record for record in caplog.records if "Trying again" in record.getMessage()]
    assert (line.endpoint, line.status, line.attempt, line.request_id) == ("get_collection", 503, 1, "served-0")
    assert "served-0" in line.getMessage()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_line_of_a_task_says_which(world, caplog, is_async):
    """Also one that is written on a thread of the client."""
    ids = {"dag_id": "d", "run_id": "manual__1", "task_id": "t", "map_index": 3, "try_number": 2}
    caplog.set_level(logging.DEBUG, "airflow_provider_geocatalog")
    client = GeoCatalogHook().client
    with _current_context({"ti": SimpleNamespace(**ids)}):
        if is_async:
            asyncio.run(client.get_conformance.aio())
        else:
            client.get_conformance()

    (line,) = request_lines(caplog)
    assert {name: getattr(line, name) for name in ids} == ids
    in_text = "[dag_id=d run_id=manual__1 task_id=t map_index=3 try_number=2]"
    assert (in_text in line.getMessage()) == (AIRFLOW_VERSION < (3, 1))  # later versions have the fields everywhere


def test_a_line_of_no_task_says_none(world, caplog):
    caplog.set_level(logging.DEBUG, "airflow_provider_geocatalog")
    GeoCatalogHook().client.get_conformance()

    (line,) = request_lines(caplog)
    assert not hasattr(line, "dag_id")


def _current_context(context):
    try:
        from airflow.sdk.execution_time.context import set_current_context
    except ImportError:
        from airflow.models.taskinstance import set_current_context
    return set_current_context(context)


def test_what_http_libraries_log_of_a_signed_url_has_no_signature(caplog):
    caplog.set_level(logging.DEBUG, "urllib3")
    with ScriptedServer(OK) as server:
        requests.get(f"{server.url}/blob?sp=r&sig=aSignature%3D", timeout=30)

    assert "/blob?sp=***&sig=*** HTTP" in caplog.text
    assert "aSignature" not in caplog.text


def test_what_http_libraries_log_of_a_repeated_request_has_no_value_of_its_query(caplog):
    caplog.set_level(logging.DEBUG, "urllib3")
    retry = urllib3.Retry(1, status_forcelist=[503], raise_on_status=False)
    with ScriptedServer(Answer(503), OK) as server, requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        session.get(f"{server.url}/blob?sig=aSignature%3D&mine=mySecret", timeout=30)

    assert "Incremented Retry for (url='/blob?sig=***&mine=***'): Retry(total=0" in caplog.text
    assert "aSignature" not in caplog.text
    assert "mySecret" not in caplog.text


def test_what_pystac_client_logs_of_a_request_has_no_token(world, caplog):
    caplog.set_level(logging.DEBUG, "pystac_client")

    GeoCatalogHook().get_stac_client()

    assert "'Authorization': 'Bearer ***'" in caplog.text
    assert TOKEN not in caplog.text


# --- what Airflow is told --------------------------------------------------------------------------------------------

WORKER = """
import os, time
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.api.errors import GeoCatalogError
from airflow.sdk.observability import stats

{backend}
client = GeoCatalogHook().client
list(client.list_collections())
try:
    client.get_collection("nothing")
except GeoCatalogError:
    pass
{end}
"""


def run_worker(backend, end="", **environment):
    done = subprocess.run(
        [sys.executable, "-c", WORKER.format(backend=backend, end=end)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


new_setup = pytest.mark.skipif(AIRFLOW_VERSION < (3, 3), reason="metrics are set up differently before Airflow 3.3")


@new_setup
def test_requests_are_counted_by_operation_and_outcome(world):
    pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    factory = "from airflow.sdk.observability.metrics import stats_utils\n"
    factory += "stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)"
    with metrics_collector() as collector:
        run_worker(factory, "time.sleep(1.5)", **collector.environment)

    assert {tuple(sorted(one.items())) for one in collector.tags("geocatalog.requests")} == {
        tuple(sorted({"conn_id": "geocatalog_default", **tags}.items()))
        for tags in (
            {"endpoint": "list_collections", "outcome": "2xx", "status": "200"},
            {"endpoint": "get_collection", "outcome": "4xx", "status": "404"},
        )
    }
    assert set(collector.points("geocatalog.requests")) == {1}
    assert set(collector.points("geocatalog.request.duration", endpoint="get_collection")) == {1}
    assert min(collector.points("geocatalog.bytes.received")) > 10
    names = {name for name, _ in collector.everything()}
    assert not [name for name in names if name.startswith("geocatalog.requests.")]  # what has tags needs no names


@new_setup
def test_statsd_without_tags_is_told_operations_and_outcomes_in_names(world):
    backend = """
from airflow.sdk._shared.observability.metrics.statsd_logger import SafeStatsdLogger

class Client:
    def incr(self, name, count=1, rate=1):
        print("SENT", name, flush=True)
    def timing(self, name, value):
        print("SENT", name, flush=True)

stats.initialize(factory=lambda: SafeStatsdLogger(Client()), export_legacy_names=True)
"""
    sent = [line.removeprefix("SENT ") for line in run_worker(backend).splitlines() if line.startswith("SENT")]

    assert sent.count("geocatalog.requests") == 2
    assert sent.count("geocatalog.requests.list_collections.2xx") == 1
    assert sent.count("geocatalog.requests.get_collection.4xx") == 1
    assert sent.count("geocatalog.request.duration.get_collection") == 1
    assert not [name for name in sent if "nothing" in name]


# --- what is documented ----------------------------------------------------------------------------------------------


def documented():
    """Return the metrics of the documentation: kind, unit and tags by name."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| (`geocatalog\..*?) \| (\w+) \| (\w+) \| (.*?) \|", text, re.MULTILINE)
    found = {}
    for names, kind, unit, tags in rows:
        first, *others = re.findall(r"`(.*?)`", names)
        family = first.rpartition(".")[0]
        for name in (first, *(f"{family}{other}" for other in others)):
            found[name] = (kind, unit, tuple(re.findall(r"`(\w+)`", tags)))
    return found


def test_the_documentation_lists_exactly_what_is_sent():
    sent = {}
    for metric in METRICS:
        for name in [f"{metric.name}.{state}" for state in metric.states] or [metric.name]:
            sent[name] = (metric.kind, metric.unit, metric.tags)

    assert documented() == sent


def test_what_stands_in_a_name_is_a_tag_that_holds_no_id():
    for metric in METRICS:
        assert set(metric.in_name) <= set(metric.tags) & {"endpoint", "outcome"}, metric
    for endpoint in ENDPOINTS.values():
        assert re.fullmatch(r"[a-z_]+", endpoint.name), endpoint


@pytest.mark.parametrize("error", [GeoCatalogError("x"), GeoCatalogUnreachable("x")])
def test_errors_have_one_form_of_ids(error):
    error.request_id, error.client_request_id = "served-1", "sent-1"
    assert str(error).count("[request id served-1]") == 1
    assert "sent-1" not in str(error)


def test_the_hook_measures(world):
    assert type(GeoCatalogHook().client.observer).__name__ == "RequestMetrics"
