"""Bulk ingestion and the sensors, on the emulator."""

from __future__ import annotations

import datetime
import json
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from airflow.providers.common.compat.sdk import redact as airflow_redact

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput, GeoCatalogItemsFailed, GeoCatalogWaitTimeout
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.collections import (
    GeoCatalogCreateCollectionOperator,
    GeoCatalogDeleteCollectionOperator,
)
from airflow_provider_geocatalog.operators.ingestion import (
    GeoCatalogBulkIngestionOperator,
    GeoCatalogCreateIngestionOperator,
    GeoCatalogRunIngestionOperator,
)
from airflow_provider_geocatalog.operators.sources import GeoCatalogEnsureIngestionSourceOperator
from airflow_provider_geocatalog.sensors.ingestion import GeoCatalogIngestionRunSensor, GeoCatalogOperationSensor
from tests.fakes.clock import FakeClock

SLOW = pytest.mark.parametrize("world", [{"items_per_second": 0.2}], indirect=True)


@pytest.fixture
def ready(world, documents):
    """A world with the collection and the container's source."""
    world.run(GeoCatalogCreateCollectionOperator(task_id="c", collection=documents()))
    world.run(
        GeoCatalogEnsureIngestionSourceOperator(
            task_id="s", container_url=world.container, sas_token_conn_id="geocatalog_storage"
        )
    )
    return world


def bulk(world, root="catalog.json", **arguments):
    defaults = {
        "task_id": "ingest",
        "collection_id": "demo",
        "catalog_url": f"{world.container}/{root}",
        "container_url": world.container,
        "sas_token_conn_id": "geocatalog_storage",
        "run_key": "key",
        "poll_interval": 0.2,
    }
    return GeoCatalogBulkIngestionOperator(**{**defaults, **arguments})


def runs_started(world):
    return world.writes.count("create_run")


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_catalog_in_a_private_container_is_ingested(ready, catalog, deferrable):
    catalog(ready.folder, 5)

    summary = ready.run(bulk(ready, deferrable=deferrable))

    assert summary["items"] == {"total": 5, "succeeded": 5, "failed": 0, "pending": 0}
    assert (summary["status"], summary["adopted"]) == ("Succeeded", False)
    found = GeoCatalogHook().get_stac_client().search(collections=["demo"], limit=2).items_as_dicts()
    assert sorted(item["id"] for item in found) == [f"item-{number}" for number in range(5)]
    json.dumps(summary)


def test_the_same_work_is_not_done_twice(ready, catalog, capfd):
    catalog(ready.folder)
    first = ready.run(bulk(ready))
    before = list(ready.writes)

    second = ready.run(bulk(ready, deferrable=True))

    assert (second["run_id"], second["adopted"], ready.writes) == (first["run_id"], True, before)
    assert "Nothing was started and nothing changed" in capfd.readouterr().out


def test_another_run_is_started_only_where_the_user_says_so(ready, catalog):
    catalog(ready.folder)
    ready.run(bulk(ready))

    with pytest.raises(GeoCatalogTaskFailed, match="if_run_exists='adopt'"):
        ready.run(bulk(ready, if_run_exists="fail"))
    ready.run(bulk(ready, if_run_exists="new"))

    assert runs_started(ready) == 2


@pytest.mark.parametrize(
    "world", [{"partial_failure_status": "Failed"}, {"partial_failure_status": "Succeeded"}], indirect=True
)
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_broken_item_fails_the_task_by_name_and_the_good_ones_stay(ready, catalog, deferrable):
    catalog(ready.folder, 4, broken=1)

    with pytest.raises(GeoCatalogTaskFailed) as caught:
        ready.run(bulk(ready, deferrable=deferrable))

    assert isinstance(caught.value.error, GeoCatalogItemsFailed)
    for part in ("item-0.json", "not JSON", "1 failed", "of 4 items"):
        assert part in str(caught.value), part
    assert caught.value.error.summary["items"]["succeeded"] == 3
    tolerated = ready.run(bulk(ready, max_failed_items=1))
    assert tolerated["items"]["failed"] == 1
    assert "item-0.json" in tolerated["failed_items"][0]


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("{", "not JSON"),
        ('{"type": "Feature"}', "has type 'Feature'"),
        ('{"type": "Catalog", "links": [{"rel": "child", "href": "./catalog.json"}]}', "form a cycle"),
        ('{"type": "Catalog", "links": [{"rel": "child", "href": "./missing.json"}]}', "answered 404"),
        (None, "answered 404"),
    ],
)
def test_a_catalog_that_cannot_be_walked_is_refused_before_anything_is_sent(ready, document, complaint):
    if document is not None:
        (ready.folder / "catalog.json").write_text(document)
    before = list(ready.writes)

    with pytest.raises(GeoCatalogTaskFailed, match=complaint):
        ready.run(bulk(ready))
    assert ready.writes == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"catalog_url": "http://127.0.0.1:9/catalog.json"}, "cannot be reached"),
        ({"catalog_url": "catalog.json"}, "is not an absolute https URL"),
        ({"collection_id": "a b"}, "may only have letters"),
        ({"run_key": ""}, "run_key is empty"),
        ({"if_run_exists": "maybe"}, "if_run_exists is 'maybe'"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(ready, arguments, complaint):
    before = list(ready.writes)

    with pytest.raises(GeoCatalogTaskFailed, match=complaint):
        ready.run(bulk(ready, **arguments))
    assert ready.writes == before


@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout": datetime.timedelta(hours=1)},
        {"timeout": None},
        {"timeout": float("inf")},
        {"poll_interval": 0},
        {"poll_interval": "5"},
        {"min_poll_interval": 0},
        {"outage_budget": -1},
        {"max_failed_items": "1"},
        {"max_failed_items": -1},
        {"max_failed_items": None},
    ],
    ids=str,
)
def test_numbers_with_which_nothing_can_be_waited_for_are_refused_when_the_operator_is_made(ready, arguments):
    with pytest.raises(GeoCatalogInvalidInput, match=f"^{next(iter(arguments))} has to be"):
        bulk(ready, **arguments)


class Store(dict):
    """What Airflow 3.3 keeps for a task instance over tries and clears."""

    def set(self, key, value):
        self[key] = json.loads(json.dumps(value))


@SLOW
@pytest.mark.parametrize("waits", [False, True])
def test_a_clear_ends_a_live_run_only_if_its_task_was_waiting(ready, catalog, task_instance, waits):
    catalog(ready.folder, 5)
    FakeClock(time.time()).drive(GeoCatalogHook().client)
    store = Store()

    def execute(number):
        ti = task_instance(try_number=number)
        ti.max_tries = number - 1
        return bulk(ready, wait_for_completion=False).execute({"ti": ti, "task_state_store": store})

    first = execute(1)
    if waits:
        store["geocatalog_operation"]["deadline"] = 0.0  # as the record of a task that waits has
    again = execute(2)

    assert (again["adopted"], again["run_id"] == first["run_id"]) == (not waits, not waits)
    assert ready.writes.count("cancel_operation") == waits


def test_no_traceback_has_the_signature_of_a_catalog_that_cannot_be_reached(ready, monkeypatch, tokens):
    sas = f"{tokens(leave_out=('sig',))}&sig=abcd%2bEFGH%2funreachable%3d"  # as .NET writes it
    monkeypatch.setenv("AIRFLOW_CONN_GEOCATALOG_STORAGE", json.dumps({"conn_type": "generic", "password": sas}))

    with pytest.raises(GeoCatalogTaskFailed, match=r"cannot be reached \(ConnectionError\)") as caught:
        ready.run(
            bulk(ready, catalog_url="http://127.0.0.1:9/box/catalog.json", container_url="http://127.0.0.1:9/box")
        )

    assert "unreachable%3" not in "".join(traceback.format_exception(caught.value))
    for written in ("abcd%2bEFGH%2funreachable%3d", "abcd%2BEFGH%2Funreachable%3D", "abcd+EFGH/unreachable="):
        assert written not in str(airflow_redact(f"a log with {written} in it"))


def test_a_run_needs_its_collection(ready, catalog):
    catalog(ready.folder)
    before = list(ready.writes)

    with pytest.raises(GeoCatalogTaskFailed, match="'nowhere' does not exist"):
        ready.run(bulk(ready, collection_id="nowhere"))
    assert ready.writes == before


def test_a_wrong_token_is_told_as_such(ready, reconnect, catalog):
    catalog(ready.folder)
    reconnect(token="a-wrong-token-of-somebody")

    with pytest.raises(GeoCatalogTaskFailed, match="401") as caught:
        ready.run(bulk(ready))
    assert "a-wrong-token-of-somebody" not in str(caught.value)


@SLOW
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_run_that_takes_too_long_is_cancelled_and_tells_how_far_it_was(ready, catalog, deferrable):
    catalog(ready.folder)

    with pytest.raises(GeoCatalogWaitTimeout, match="0 of 3 items done"):
        ready.run(bulk(ready, timeout=0.6, deferrable=deferrable))

    assert ready.writes.count("cancel_operation") == 1
    assert "cancel_all_operations" not in ready.writes


@SLOW
def test_a_run_that_somebody_cancelled_fails_the_task(ready, catalog):
    catalog(ready.folder)
    started = ready.run(bulk(ready, wait_for_completion=False))
    from airflow_provider_geocatalog.api.flows.ingestion import cancel_if_active

    GeoCatalogHook().run(cancel_if_active(started["run_id"]))

    sensor = GeoCatalogIngestionRunSensor(
        task_id="s", **{name: started[name] for name in ("collection_id", "ingestion_id", "run_id")}, poke_interval=0.1
    )
    with pytest.raises(Exception, match="was cancelled"):
        ready.run(sensor)


def test_define_and_run_may_be_two_steps(ready, catalog):
    catalog(ready.folder)
    arguments = {"collection_id": "demo", "catalog_url": f"{ready.container}/catalog.json", "run_key": "k"}
    define = GeoCatalogCreateIngestionOperator(task_id="define", **arguments)

    ingestion_id = ready.run(define)
    summary = ready.run(GeoCatalogRunIngestionOperator(task_id="r", collection_id="demo", ingestion_id=ingestion_id))

    assert summary["items"]["succeeded"] == 3
    assert ready.run(define) == ingestion_id


@pytest.mark.parametrize("deferrable", [True, False])
def test_sensors_wait_for_what_something_else_started(ready, catalog, deferrable):
    catalog(ready.folder)
    started = ready.run(bulk(ready, wait_for_completion=False))
    ids = {name: started[name] for name in ("collection_id", "ingestion_id", "run_id")}

    run = ready.run(GeoCatalogIngestionRunSensor(task_id="r", **ids, deferrable=deferrable, poke_interval=0.1))
    operation = ready.run(
        GeoCatalogOperationSensor(task_id="o", operation_id=ids["run_id"], deferrable=deferrable, poke_interval=0.1)
    )

    # A blocking sensor's result is taken from its last poke by Airflow itself.
    assert [found["items"]["succeeded"] for found in (run, operation)] == [3, 3]


class _Answer(BaseHTTPRequestHandler):
    status, body, media_type = 200, b"", "text/html"

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("Content-Type", self.media_type)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args):
        pass


@pytest.fixture
def answering():
    servers = []

    def start(status: int, body: bytes, media_type: str = "text/html") -> str:
        handler = type("Answer", (_Answer,), {"status": status, "body": body, "media_type": media_type})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_good_connection_says_so(world):
    assert GeoCatalogHook().test_connection() == (
        True,
        f"Connected to the GeoCatalog at {world.server.url}, api-version 2026-04-15.",
    )


@pytest.mark.parametrize(
    ("status", "body", "media_type", "words"),
    [
        (200, b"<html>sign in</html>", "text/html", "is not a GeoCatalog"),
        (404, b"nothing here", "text/plain", "is not a GeoCatalog"),
        (401, b"", "text/plain", "did not accept the token"),
        (403, b'{"error":{"code":"Forbidden","message":"no"}}', "application/json", "has no role"),
        (400, b'{"error":{"code":"UnsupportedApiVersion","message":"x"}}', "application/json", "does not accept api-v"),
    ],
)
def test_a_bad_connection_names_the_part_that_is_wrong(world, reconnect, answering, status, body, media_type, words):
    reconnect(url=answering(status, body, media_type), token="the-secret-token")

    works, message = GeoCatalogHook().test_connection()

    assert (works, words in message) == (False, True), message
    assert "the-secret-token" not in message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9", "refused the connection"),
        ("https://nowhere.invalid", "cannot be resolved"),
        ("http://example.com", "plain http"),
        ("nonsense", "is not a URL"),
    ],
)
def test_an_address_that_leads_nowhere_is_told_apart(world, reconnect, url, words):
    reconnect(url=url)

    works, message = GeoCatalogHook().test_connection()

    assert (works, words in message) == (False, True), message


@pytest.mark.parametrize(
    "uri",
    [
        "geocatalog://:{token}@127.0.0.1:{port}/?auth_method=static_token",
        "geocatalog://:{token}@http%3A%2F%2F127.0.0.1%3A{port}/?auth_method=static_token",
        "geocatalog://:{token}@127.0.0.1:{port}/?extra__geocatalog__auth_method=static_token",
    ],
)
def test_a_connection_may_be_a_uri(world, monkeypatch, uri):
    port = world.server.url.rsplit(":", 1)[1]
    monkeypatch.setenv("AIRFLOW_CONN_GEOCATALOG_DEFAULT", uri.format(port=port, token="operators-test-token"))

    assert GeoCatalogHook().test_connection()[0]


@pytest.mark.parametrize(
    "world",
    [
        {"articles_reading": True},
        {"success_word": "Finished"},
        {"run_ids": "own"},
        {"operation_error": "flat", "partial_failure_status": "Succeeded"},
        {"collection_operation_times": "present"},
        {"unknown_source_put": "create"},
        {"limits": "preview"},
    ],
    indirect=True,
    ids=str,
)
@pytest.mark.parametrize("deferrable", [True, False])
def test_operators_work_whichever_reading_of_the_documents_is_right(ready, catalog, deferrable):
    catalog(ready.folder, 3, broken=1)

    with pytest.raises(GeoCatalogTaskFailed) as caught:
        ready.run(bulk(ready, deferrable=deferrable))
    tolerated = ready.run(bulk(ready, deferrable=deferrable, max_failed_items=1))
    deleted = ready.run(
        GeoCatalogDeleteCollectionOperator(
            task_id="delete", collection_id="demo", confirm_items="all", deferrable=deferrable
        )
    )

    assert isinstance(caught.value.error, GeoCatalogItemsFailed)
    assert tolerated["items"] == {"total": 3, "succeeded": 2, "failed": 1, "pending": 0}
    assert deleted["action"] == "deleted"
