"""A DAG whose tasks defer, from its first task to its last, on the Airflow that is installed."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from tests.fakes.airflow_versions import AIRFLOW_VERSION
from tests.fakes.items import stac_item
from tests.fakes.versions_table import supported

DAG_FILE = Path(__file__).with_name("versions_dag.py")
TOKEN = "versions-test-token"
COLLECTION = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": "versions",
    "description": "For the DAG on each version of Airflow.",
    "license": "CC-BY-4.0",
    "links": [],
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
}


def write_catalog(folder: Path, *ids: str) -> None:
    folder.mkdir(parents=True)
    links = [{"rel": "item", "href": f"./{name}.json"} for name in ids]
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "description": "d", "links": links}
    (folder / "catalog.json").write_text(json.dumps(catalog))
    for name in ids:
        (folder / f"{name}.json").write_text(json.dumps(stac_item(name)))


@contextmanager
def released(emulator, holds):
    """Let what is held go on when it has been looked at twice: on the worker, which has to defer, and by a trigger."""
    ended = threading.Event()

    def watch() -> None:
        while holds and not ended.wait(0.2):
            seen = Counter(str(request.operation) for request in emulator.requests)
            for operation in [name for name in holds if seen[name] >= 2]:
                emulator.faults.remove(holds.pop(operation))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.timeout(420)
def test_a_dag_defers_and_ends(own_airflow, tmp_path, monkeypatch):
    write_catalog(tmp_path / "box", "one", "two")
    (own_airflow.dags / DAG_FILE.name).write_text(DAG_FILE.read_text())
    answer, resumed = tmp_path / "answer.json", tmp_path / "resumed"
    settings = EmulatorSettings.fast(admin_tokens=(TOKEN,), public_containers={"box": tmp_path / "box"})
    with EmulatorServer(Emulator(settings)) as server:
        connection = {"conn_type": "geocatalog", "host": server.url, "password": TOKEN}
        connection["extra"] = {"auth_method": "static_token"}
        monkeypatch.setenv("AIRFLOW_CONN_GEOCATALOG_DEFAULT", json.dumps(connection))
        client = GeoCatalogHook().client
        client.create_collection(COLLECTION)
        faults = server.emulator.faults
        holds = {
            "get_run": faults.add("hold", status="Running", types=["IngestionStaticCatalog"]),
            "get_operation": faults.add("hold", status="Running", types=["AddItem"]),
        }
        operation = client.create_item("versions", stac_item("single")).operation
        conf = {
            "collection_id": "versions",
            "container": f"{server.url}/_emulator/storage/box",
            "operation_id": operation.operation_id,
        }
        with released(server.emulator, holds):
            done = own_airflow.run(
                str(own_airflow.dags / DAG_FILE.name),
                json.dumps(conf),
                AIRFLOW_CONN_GEOCATALOG_DEFAULT=json.dumps(connection),
                VERSIONS_ANSWER=str(answer),
                VERSIONS_RESUMED=str(resumed),
            )
        requests = server.emulator.requests
    output = done.stdout + done.stderr

    assert re.search(r"ended as (DagRunState\.)?success", done.stdout, re.IGNORECASE), output[-6000:]
    assert resumed.read_text() == "ingest ended\n"
    told = json.loads(answer.read_text())
    assert told["items"] == ["one", "single", "two"]
    assert [summary["items"]["succeeded"] for summary in told["summaries"]] == [2]
    # What decides whether a stop cancels; ``dag.test()`` of Airflow 2 does not tell the database that a task runs.
    assert told["state"] == ("running" if AIRFLOW_VERSION >= (3, 0) else "scheduled")
    assert told["watermark"]["value"] == "2026-01-01T00:00:00Z"
    table = supported(AIRFLOW_VERSION)
    assert told["kept"] == {name: table[name] in ("yes", "its own store") for name in told["kept"]}
    writes = Counter(str(request.operation) for request in requests)
    assert (writes["create_ingestion"], writes["create_run"]) == (1, 1)
    # Airflow 3.0 itself prints, at level debug, what it is asked to mask, of every connection.
    assert not [line for line in output.splitlines() if TOKEN in line and "MaskSecret(" not in line]
