"""
No secret is anywhere: neither in what the other tests of this folder have done, nor after a run that uses every kind of
secret, at the level DEBUG, with metrics and lineage. What the search would find is shown by a decoy.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

import pytest

from demo.connections import mint_sas
from demo.leaks import answer_texts, file_texts, find_secrets
from tests.fakes.metrics_collector import MetricsCollector, metrics_collector
from tests.fakes.real_world import COLLECTION, TOKEN, real_world, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.real_world import World

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

_UNMASKED = re.compile(rb"sig(?:=|%3D)(?!\*\*\*)", re.IGNORECASE)
_DAG = "secrets_used"
_DECOY_DAG = "decoy_leaked"
#: Nobody knows that this is one, so nothing masks it.
_DECOY = "decoy/+nobody=knows0123"
_CLIENT_SECRET = "Cs8Q~" + secrets.token_urlsafe(24)
_WRONG_TOKEN = "wrong-" + secrets.token_urlsafe(24)
_API_KEY = "key/+" + secrets.token_urlsafe(24)


# --- where to look ---------------------------------------------------------------------------------------------------


def _database_texts(world: World) -> Iterator[tuple[str, bytes]]:
    for (table,) in world.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"):
        for row in world.query(f'SELECT * FROM "{table}"'):
            yield f"table {table}", b"\n".join(map(_bytes, row))


def _bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, memoryview | bytes) else json.dumps(value, default=str).encode()


def _answers(world: World) -> Iterator[tuple[str, bytes]]:
    airflow = world.airflow
    for path in ("/connections", "/variables", "/eventLogs", "/importErrors", "/assets/events", "/jobs"):
        yield f"GET {path}", json.dumps(airflow.call("GET", f"{path}?limit=1000")).encode()
    for dag_id in [dag["dag_id"] for dag in airflow.call("GET", "/dags")["dags"]]:
        yield f"GET {dag_id}/details", json.dumps(airflow.call("GET", f"/dags/{dag_id}/details")).encode()
        for run in airflow.call("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"]:
            found = answer_texts(airflow, dag_id, run["dag_run_id"])
            yield from ((f"{dag_id}: {place}", text) for place, text in found)


def _texts(world: World) -> list[tuple[str, bytes]]:
    """Return everything that anybody can read, and fail if a kind of it is missing."""
    texts = [*file_texts(world.airflow.home), *_answers(world), *_database_texts(world)]
    places = {place for place, _ in texts}
    tables = {"xcom", "rendered_task_instance_fields", "task_instance", "log", "serialized_dag", "dag_run", "trigger"}
    assert {f"table {name}" for name in tables - {"trigger"}} <= places  # triggers are deleted when they have fired
    for component in world.airflow.components:
        assert any(place.endswith(f"{component}.log") for place in places), component
    assert any(place.startswith("logs/dag_id=") for place in places)
    return texts


def _signature(sas_token: str) -> str:
    return parse_qs(sas_token)["sig"][0]


# --- what the other tests have done --------------------------------------------------------------------------------


def test_no_secret_can_be_read(world, first_run, emulator_log):
    texts = [("emulator.log", emulator_log.read_bytes()), *_texts(world)]

    known = [TOKEN, _signature(world.storage.sas_token), "wrong-token-that-nobody-may-read"]
    assert find_secrets(texts, known) == []
    assert [place for place, text in texts if _UNMASKED.search(text)] == []


# --- a run that uses every kind of secret --------------------------------------------------------------------------


@dataclass
class Used:
    """
    What a run with secrets has left behind.

    :param known: The secrets.
    :param variable: SAS token of the Variable.
    :param tasks: States of its tasks.
    """

    world: World
    known: list[str]
    variable: str
    tasks: dict[str, str]
    run_id: str
    texts: list[tuple[str, bytes]]
    metrics: MetricsCollector


def _item(item_id: str, href: str) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "geometry": {"type": "Point", "coordinates": [8.0, 47.0]},
        "bbox": [8.0, 47.0, 8.0, 47.0],
        "properties": {"datetime": "2024-01-01T00:00:00Z"},
        "links": [],
        "assets": {"image": {"href": href, "type": "image/tiff", "roles": ["data"]}},
    }


def _store(world: World, variable: str) -> None:
    """Store secrets as users do, in Airflow's database."""
    static = {"conn_type": "geocatalog", "host": world.url, "extra": json.dumps({"auth_method": "static_token"})}
    client = {"auth_method": "client_secret", "tenant_id": "00000000-0000-0000-0000-000000000001"}
    connections = {
        "secret_wrong": {**static, "password": _WRONG_TOKEN},
        "secret_api": {"conn_type": "http", "extra": json.dumps({"headers": {"X-Api-Key": _API_KEY}})},
        "secret_client": {
            **static,
            "login": "00000000-0000-0000-0000-000000000002",
            "password": _CLIENT_SECRET,
            "extra": json.dumps(client),
        },
    }
    for conn_id, fields in connections.items():
        world.airflow.call("POST", "/connections", body={"connection_id": conn_id, **fields})
    world.airflow.call("POST", "/variables", body={"key": "sas_token_of_sample", "value": variable})


@pytest.fixture(scope="module")
def used(tmp_path_factory) -> Iterator[Used]:
    base = tmp_path_factory.mktemp("secrets")
    lineage, variable, nested = base / "openlineage.json", mint_sas(), mint_sas()
    with metrics_collector() as metrics:
        environment = {
            **metrics.environment,
            "DECOY": _DECOY,
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
            "OTEL_METRIC_EXPORT_INTERVAL": "5000",  # at its end, a process tells what is left
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "file", "log_file_path": str(lineage), "append": True}
            ),
            # Signing in goes nowhere.
            "HTTPS_PROXY": "http://127.0.0.1:9",
        }
        with real_world(base, examples=(), environment=environment) as world:
            run_id = _run(world, base, variable, nested)
            wait_until("metrics of requests", lambda: metrics.points("geocatalog.requests"), 30)
            tasks = {name: state for (name, _), (state, _) in world.tasks(_DAG, run_id).items()}
            texts = [*_texts(world), ("lineage", lineage.read_bytes())]
            texts.append(("metrics", json.dumps(metrics.everything()).encode()))
            tokens = [world.storage.sas_token, variable, nested]
            known = [TOKEN, _CLIENT_SECRET, _WRONG_TOKEN, _API_KEY, *map(_signature, tokens)]
            yield Used(world, known, variable, tasks, run_id, texts, metrics)


def _run(world: World, base: Path, variable: str, nested: str) -> str:
    """Run both DAGs to their ends."""
    airflow = world.airflow
    _store(world, variable)
    (world.folder / "image.tif").write_bytes(b"II*\0")
    items = base / "items.ndjson"
    hrefs = {"plain": f"{world.small.url}/image.tif", "signed": f"{world.small.url}/image.tif?{nested}"}
    items.write_text("\n".join(json.dumps(_item(*one)) for one in hrefs.items()))
    conf = {
        "small": world.small.url,
        "sample": world.storage.url,
        "catalog_url": world.catalog("secret", 3),
        "item_file": str(items),
        "downloads": str(base / "downloads"),
        "api": f"{world.url}/stac",
    }
    shutil.copy(Path(__file__).with_name("secrets_dags.py"), airflow.dags_folder)
    for dag_id in (_DAG, _DECOY_DAG):
        airflow.wait_for_dag(dag_id, timeout=240)
    run_id = airflow.trigger(_DAG, conf)
    decoy = airflow.trigger(_DECOY_DAG, {"decoy": _DECOY})
    assert world.ended(_DECOY_DAG, decoy, 300)["state"] == "success"
    world.ended(_DAG, run_id, 400)
    return run_id


def test_the_run_has_used_all_of_them_and_failed_where_it_should(used):
    assert used.tasks == {
        **dict.fromkeys(["by_connection", "by_variable", "ingest", "signed_hrefs", "download", "own"], "success"),
        **dict.fromkeys(["api_refuses", "token_refused", "no_sign_in", "watch", "broken"], "failed"),
    }


def test_the_search_finds_what_was_leaked_on_purpose(used):
    found = {one.rsplit(": ", 1)[0] for one in find_secrets(used.texts, [_DECOY])}

    places = {
        "table dag_run",
        "table rendered_task_instance_fields",
        "table serialized_dag",
        "table xcom",
        f"{_DECOY_DAG}: XCom return_value of leak",
        f"{_DECOY_DAG}: rendered fields of leak",
        f"{_DECOY_DAG}: the run's configuration",
    }
    assert places <= found
    logs = [(place, text) for place, text in used.texts if place.startswith(f"logs/dag_id={_DECOY_DAG}")]
    (log,) = [text for _, text in logs]
    assert quote(_DECOY, safe="").encode() in log  # which only DEBUG has
    assert base64.b64encode(_DECOY.encode()) not in log


@pytest.mark.parametrize("place", ["lineage", "metrics", "triggerer.log", "table log"])
def test_the_search_reads_every_kind_of_place(used, place):
    (name, text), *_ = [one for one in used.texts if one[0].endswith(place)]
    assert text
    assert find_secrets([(name, text + used.known[0].encode())], used.known) != []


def test_no_secret_of_the_run_can_be_read(used):
    assert find_secrets(used.texts, used.known) == []
    assert [place for place, text in used.texts if _UNMASKED.search(text)] == []


def test_stored_secrets_are_encrypted(used):
    connections = used.world.query(
        "SELECT conn_id, password, is_encrypted, extra, is_extra_encrypted FROM connection"
        " WHERE conn_id LIKE 'secret_%'"
    )
    assert {row[0] for row in connections} == {"secret_wrong", "secret_api", "secret_client"}
    for conn_id, password, is_encrypted, extra, is_extra_encrypted in connections:
        assert is_extra_encrypted, conn_id
        assert extra.startswith("gAAAA"), conn_id  # how Fernet's tokens begin
        assert is_encrypted or password is None, conn_id
    ((value, is_encrypted),) = used.world.query(
        "SELECT val, is_encrypted FROM variable WHERE key = 'sas_token_of_sample'"
    )
    assert is_encrypted
    assert value.startswith("gAAAA")


# --- the same run, measured and logged -------------------------------------------------------------------------------


def _lines(used: Used, task_id: str) -> list[dict[str, Any]]:
    """Return the structured lines of a task's log files that are about requests."""
    named = [text for place, text in used.texts if place.startswith("logs/") and f"task_id={task_id}/" in place]
    lines = [json.loads(line) for text in named for line in text.splitlines() if line.startswith(b"{")]
    return [line for line in lines if "client_request_id" in line]


@pytest.mark.parametrize("task_id", ["by_connection", "ingest", "token_refused", "signed_hrefs"])
def test_each_request_is_a_line_with_fields_that_lead_to_its_task(used, task_id):
    lines = _lines(used, task_id)

    assert lines
    for line in lines:
        assert (line["dag_id"], line["task_id"], line["run_id"]) == (_DAG, task_id, used.run_id), line
        assert (line["map_index"], line["try_number"], line["attempt"]) == (-1, 1, 1), line
        assert line["duration_ms"] > 0
        assert line["endpoint"]
        assert line["request_id"] in line["event"]
        assert line["client_request_id"] in line["event"]
    assert {401} == {line["status"] for line in _lines(used, "token_refused")}


def test_what_the_service_has_seen_is_found_by_the_id_in_the_log(used):
    (line, *_) = [one for one in _lines(used, "ingest") if one["endpoint"] == "create_run"]
    assert line["request_id"] in [one.request_id for one in used.world.named("create_run")]


def test_requests_of_workers_and_triggerers_are_counted(used):
    tags = used.metrics.tags("geocatalog.requests")
    assert {"get_collection", "create_run", "create_item"} <= {one["endpoint"] for one in tags}
    assert {"2xx", "4xx"} <= {one["outcome"] for one in tags}
    # A triggerer polls, nobody else does while the task is deferred.
    assert {one["endpoint"] for one in tags} & {"get_run", "list_operations", "get_operation"}
    for one in tags:
        assert set(one) == {"conn_id", "endpoint", "outcome", "status"}
    assert sum(used.metrics.points("geocatalog.bytes.sent")) > 0
    assert used.metrics.points("geocatalog.request.duration")
    assert used.metrics.points("geocatalog.item_writes.created", collection_id=COLLECTION)[-1] == 2
    assert used.metrics.points("geocatalog.files.downloaded", collection_id=COLLECTION)[-1] == 1
