"""Scheduler, dag-processor, triggerer and api-server as processes, against an emulator: what users see."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sqlite3
import textwrap
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pystac_client
import pytest
import requests

from airflow_provider_geocatalog.api.flows.collections import IfExists, begin_create_collection
from airflow_provider_geocatalog.api.flows.sources import Rotate, ensure_sas_source
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.provider_info import CONNECTION_FIELDS, HOOK_NAME
from demo.airflow_stack import AirflowStack
from demo.connections import (
    GEOCATALOG_VARIABLE,
    STORAGE_CONN_ID,
    STORAGE_VARIABLE,
    Storage,
    geocatalog_connection,
    geocatalog_settings,
    mint_sas,
)
from demo.leaks import find_secrets, run_texts
from demo.sample_catalog import SampleCatalog, write_sample_catalog
from demo.verify import ingested_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_geocatalog.emulator.app import RecordedRequest
    from airflow_provider_geocatalog.emulator.state import Run

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(150)]

BULK, MANY, SINGLE, MAPPED = "geocatalog_bulk_ingestion", "geocatalog_many_catalogs", "real_single", "real_mapped"
POOLED, POOL = "real_pooled", "narrow"
COLLECTION = "real"
TOKEN = "a-static-token-that-nobody-may-read-0123456789"
SAMPLE_ITEMS = 26  # one a second, so that a wait spans several heartbeats
WATCHED = 12.0  # seconds during which a deferred task must not have a process
_UNMASKED = re.compile(rb"sig(?:=|%3D)(?!\*\*\*)", re.IGNORECASE)

DAGS = textwrap.dedent(
    """
    from __future__ import annotations

    import pendulum
    from airflow.providers.common.compat.sdk import DAG, task

    from airflow_provider_geocatalog.operators.ingestion import GeoCatalogBulkIngestionOperator

    OPTIONS = {"schedule": None, "start_date": pendulum.datetime(2026, 1, 1, tz="UTC"), "default_args": {"retries": 0}}
    INGEST = {
        "task_id": "ingest",
        "collection_id": "real",
        "container_url": "{{ params.container_url }}",
        "sas_token_conn_id": "geocatalog_storage",
        "if_run_exists": "{{ params.if_run_exists }}",
        "deferrable": True,
        "poll_interval": 2,
    }
    PARAMS = {"container_url": "", "catalog_url": "", "catalog_urls": [], "if_run_exists": "adopt"}

    with DAG("real_single", params=PARAMS, **OPTIONS):
        GeoCatalogBulkIngestionOperator(catalog_url="{{ params.catalog_url }}", **INGEST)

    with DAG("real_pooled", params=PARAMS, **OPTIONS):
        GeoCatalogBulkIngestionOperator(catalog_url="{{ params.catalog_url }}", pool="narrow", **INGEST)

    with DAG("real_mapped", params=PARAMS, **OPTIONS):

        @task
        def catalogs(params):
            return params["catalog_urls"]

        GeoCatalogBulkIngestionOperator.partial(**INGEST).expand(catalog_url=catalogs())
    """
)


def wait_until(what: str, condition: Callable[[], Any], timeout: float) -> Any:
    """Poll until something is true, and return it."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.25)
    return found


@dataclass
class World:
    """
    Everything that a test looks at.

    :param storage: The container of the sample catalog, which has no ingestion source at first.
    :param small: The container of the other catalogs, which has one.
    :param folder: Its folder.
    """

    airflow: AirflowStack
    emulator: Emulator
    url: str
    storage: Storage
    small: Storage
    sample: SampleCatalog
    folder: Path

    # --- what is there to ingest ---

    def catalog(self, name: str, count: int, *, broken: str = "") -> str:
        """Write a catalog of small items into the container and return its URL."""
        folder = self.folder / name
        folder.mkdir()
        ids = [f"{name}-{index:02}" for index in range(count)]
        for item_id in ids:
            (folder / f"{item_id}.json").write_text(json.dumps(_item(item_id, with_datetime=item_id != broken)))
        links = [{"rel": "item", "href": f"./{item_id}.json"} for item_id in ids]
        document = {"type": "Catalog", "stac_version": "1.0.0", "id": name, "description": name, "links": links}
        (folder / "catalog.json").write_text(json.dumps(document))
        return f"{self.small.url}/{name}/catalog.json"

    def trigger(self, dag_id: str, **conf: Any) -> str:
        return self.airflow.trigger(dag_id, {"container_url": self.small.url, **conf})

    # --- what Airflow says ---

    def state(self, dag_id: str, run_id: str, map_index: int = -1) -> str | None:
        """State of the task ``ingest``."""
        tasks = self.airflow.task_instances(dag_id, run_id)
        found = [task["state"] for task in tasks if (task["task_id"], task["map_index"]) == ("ingest", map_index)]
        return found[0] if found else None

    def ended(self, dag_id: str, run_id: str, timeout: float = 90) -> dict[str, Any]:
        return self.airflow.wait_for_run(dag_id, run_id, timeout=timeout, poll_interval=0.5)

    def tasks(self, dag_id: str, run_id: str) -> dict[tuple[str, int], tuple[str, int]]:
        """State and try of each task instance."""
        return {
            (task["task_id"], task["map_index"]): (task["state"], task["try_number"])
            for task in self.airflow.task_instances(dag_id, run_id)
        }

    # --- what the service has seen ---

    def requests(self, since: int = 0) -> list[RecordedRequest]:
        return list(self.emulator.requests.copy())[since:]

    def named(self, *operations: str, since: int = 0) -> list[RecordedRequest]:
        return [request for request in self.requests(since) if request.operation in operations]

    def runs(self, part_of_name: str, collection_id: str = COLLECTION) -> list[Run]:
        """Runs of the definitions whose name has something in it, oldest first."""
        with self.emulator.world.lock:
            ingestions = self.emulator.world.collections[collection_id].ingestions.values()
            return [run for one in ingestions if part_of_name in str(one.display_name) for run in one.runs.values()]

    def cancellations(self, run: Run) -> list[int]:
        """Statuses of the answers to requests to cancel a run."""
        return [one.status for one in self.named("cancel_operation") if one.path.endswith(f"/{run.id}")]

    def polls(self, run: Run) -> int:
        return sum(one.method == "GET" and one.path.endswith(f"/{run.id}") for one in self.requests())

    def polled_by_trigger(self, dag_id: str, run_id: str, part_of_name: str, map_index: int = -1) -> Run:
        """Wait until the task is deferred and its trigger is at work, and return the run."""
        wait_until("the task is deferred", lambda: self.state(dag_id, run_id, map_index) == "deferred", 60)
        (run,) = self.runs(part_of_name)
        before = self.polls(run)
        wait_until("the trigger polls", lambda: self.polls(run) > before, 40)
        assert run.operation.status == "Running"
        return run


def _item(item_id: str, *, with_datetime: bool) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "geometry": {"type": "Point", "coordinates": [8.0, 47.0]},
        "bbox": [8.0, 47.0, 8.0, 47.0],
        "properties": {"datetime": "2024-01-01T00:00:00Z"} if with_datetime else {},
        "links": [],
        "assets": {"image": {"href": "https://example.com/data/image.tif", "type": "image/tiff"}},
    }


def _collection() -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": COLLECTION,
        "description": "a test",
        "license": "CC-BY-4.0",
        "links": [],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
    }


@pytest.fixture(scope="module")
def emulator_log(tmp_path_factory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("emulator") / "emulator.log"
    handler = logging.FileHandler(path)
    logger = logging.getLogger("airflow_provider_geocatalog.emulator")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield path
    logger.removeHandler(handler)
    logger.setLevel(level)
    handler.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory, emulator_log) -> Iterator[World]:
    folder, sample_folder = tmp_path_factory.mktemp("small"), tmp_path_factory.mktemp("sample")
    dags = tmp_path_factory.mktemp("dags")
    for file in (Path(__file__).parents[2] / "example_dags").glob("*.py"):
        shutil.copy(file, dags)
    (dags / "real_dags.py").write_text(DAGS)
    settings = EmulatorSettings(
        admin_tokens=(TOKEN,),
        containers={"sample": sample_folder, "small": folder},
        items_per_second=1,
        pending_seconds=0.3,
        collection_tick=1,
        collection_seconds=0.1,
        cancel_seconds=0.5,
        recreate_after=0,
        max_concurrent_runs=16,
    )
    with EmulatorServer(Emulator(settings)) as server:
        storage = Storage(f"{server.url}/_emulator/storage/sample", mint_sas())
        small = Storage(f"{server.url}/_emulator/storage/small", storage.sas_token)
        sample = write_sample_catalog(sample_folder, asset_base_url=storage.url, items=SAMPLE_ITEMS)
        environment = {
            GEOCATALOG_VARIABLE: geocatalog_connection(server.url, TOKEN),
            STORAGE_VARIABLE: storage.connection(),
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
            # A triggerer that was killed is given up after this time; 30 s by default.
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        }
        home = tmp_path_factory.mktemp("airflow")
        with AirflowStack(home, dags, environment=environment) as airflow:
            made = World(airflow, server.emulator, server.url, storage, small, sample, folder)
            _prepare(made)
            yield made


def _client(world: World) -> GeoCatalogClient:
    return GeoCatalogClient(geocatalog_settings(geocatalog_connection(world.url, TOKEN)))


def _prepare(world: World) -> None:
    """Make what the DAGs of this file need: a collection, and the source of their container."""
    client = _client(world)
    client.run(begin_create_collection(_collection(), if_exists=IfExists.FAIL))
    client.run(
        ensure_sas_source(
            world.small.url,
            lambda: world.small.sas_token,
            min_lifetime=3600,
            rotate=Rotate.WHEN_NEEDED,
            if_exists_fail=True,
        )
    )
    wait_until("the collection is there", lambda: COLLECTION in world.emulator.world.collections, 20)


# --- 1 and 2: the example DAG, its wait, and its second run ---------------------------------------------------------


@dataclass
class Watched:
    """What was seen while ``ingest`` was deferred."""

    run_id: str
    run: dict[str, Any]
    processes: list[list[str]]
    looks: int
    heartbeats: int


def _bulk_conf(world: World) -> dict[str, str]:
    return {
        "catalog_url": f"{world.storage.url}/catalog.json",
        "collection": str(world.sample.collection_json),
        "config_folder": str(world.sample.config),
        "container_url": world.storage.url,
        "storage_conn_id": STORAGE_CONN_ID,
    }


@pytest.fixture(scope="module")
def first_run(world) -> Watched:
    airflow = world.airflow
    run_id = airflow.trigger(BULK, _bulk_conf(world))
    wait_until("ingest is deferred", lambda: world.state(BULK, run_id) == "deferred", 90)
    wait_until("the worker that deferred it is gone", lambda: not airflow.task_processes(), 5)
    until = time.monotonic() + WATCHED
    seen: list[list[str]] = []
    beats: set[str] = set()
    looks = 0
    while time.monotonic() < until:
        seen += [command for _, command in airflow.task_processes()]
        assert world.state(BULK, run_id) == "deferred", "the wait was too short to be watched"
        beats.add(airflow.call("GET", "/monitor/health")["scheduler"]["latest_scheduler_heartbeat"])
        looks += 1
        time.sleep(0.2)
    return Watched(run_id, world.ended(BULK, run_id), seen, looks, len(beats))


def test_the_example_dag_ingests_every_item(world, first_run):
    assert first_run.run["state"] == "success"
    tasks = world.tasks(BULK, first_run.run_id)
    assert set(tasks.values()) == {("success", 1)}, tasks
    assert ingested_ids(_client(world), "demo-mesa") == set(world.sample.item_ids)
    summary = world.airflow.xcom(BULK, first_run.run_id, "ingest")
    assert summary["items"] == {"total": SAMPLE_ITEMS, "succeeded": SAMPLE_ITEMS, "failed": 0, "pending": 0}
    assert summary["adopted"] is False
    assert world.airflow.xcom(BULK, first_run.run_id, "verify")["readable"] == SAMPLE_ITEMS
    (run,) = world.runs("", "demo-mesa")
    assert summary["run_id"] == run.id
    assert world.cancellations(run) == []


def test_any_stac_client_reads_the_items(world, first_run):
    catalog = pystac_client.Client.open(
        f"{world.url}/stac/", headers={"Authorization": f"Bearer {TOKEN}"}, parameters={"api-version": "2026-04-15"}
    )
    items = list(catalog.search(collections=["demo-mesa"], limit=10).items())
    assert {item.id for item in items} == set(world.sample.item_ids)


def test_a_deferred_wait_has_no_process(first_run):
    assert first_run.processes == []
    assert first_run.looks > 10
    assert first_run.heartbeats >= 2


def test_a_second_run_of_the_day_writes_nothing_and_says_so(world, first_run):
    before = len(world.requests())
    run_id = world.airflow.trigger(BULK, _bulk_conf(world))

    assert world.ended(BULK, run_id)["state"] == "success"

    written = [one for one in world.requests(before) if one.method != "GET" and not one.path.endswith("/search")]
    assert written == []
    assert len(world.runs("", "demo-mesa")) == 1
    summary = world.airflow.xcom(BULK, run_id, "ingest")
    assert summary["adopted"] is True
    assert summary["run_id"] == world.airflow.xcom(BULK, first_run.run_id, "ingest")["run_id"]
    assert "Nothing was started and nothing changed" in world.airflow.task_log(BULK, run_id, "ingest")
    assert "nothing changed" in world.airflow.task_log(BULK, run_id, "verify")
    assert world.airflow.xcom(BULK, run_id, "ensure_source")["action"] == "unchanged"


# --- 3: a triggerer that dies ---------------------------------------------------------------------------------------


def test_a_killed_triggerer_does_not_stop_the_run(world):
    url = world.catalog("killed", 30)
    run_id = world.trigger(SINGLE, catalog_url=url)
    run = world.polled_by_trigger(SINGLE, run_id, run_id)

    world.airflow.kill("triggerer")
    assert run.operation.status == "Running"
    world.airflow.start("triggerer")

    assert world.ended(SINGLE, run_id, 100)["state"] == "success"
    assert world.tasks(SINGLE, run_id) == {("ingest", -1): ("success", 1)}
    assert world.runs(run_id) == [run]
    assert run.operation.status == "Succeeded"
    assert world.cancellations(run) == []
    log = "".join(
        path.read_text() for path in world.airflow.home.glob(f"logs/dag_id={SINGLE}/run_id={run_id}/**/*.log")
    )
    assert "invoking on_kill" not in log


# --- 4: a user stops or clears a task while it waits ----------------------------------------------------------------


@dataclass
class Stopped:
    """A task that a user touched while it waited."""

    dag_id: str
    run_id: str
    map_index: int
    run: Run


@pytest.fixture(scope="module")
def touched(world) -> dict[str, Stopped]:
    """Tasks that a user marks or clears while they wait, all at the same time, with what became of them."""
    airflow = world.airflow
    airflow.wait_healthy(60)
    mapped_urls = [world.catalog("mapped-clear", 28), world.catalog("mapped-fail", 80)]
    started = {
        "fail": (SINGLE, world.trigger(SINGLE, catalog_url=world.catalog("fail", 80)), -1),
        "succeed": (SINGLE, world.trigger(SINGLE, catalog_url=world.catalog("succeed", 80)), -1),
        "clear": (SINGLE, world.trigger(SINGLE, catalog_url=world.catalog("clear", 28)), -1),
        "renew": (SINGLE, world.trigger(SINGLE, catalog_url=world.catalog("renew", 50), if_run_exists="new"), -1),
    }
    mapped = world.trigger(MAPPED, catalog_urls=mapped_urls)
    started |= {"mapped clear": (MAPPED, mapped, 0), "mapped fail": (MAPPED, mapped, 1)}
    waiting = {}
    for name, (dag_id, run_id, index) in started.items():
        part = run_id if index < 0 else f"{run_id}/{index}"
        waiting[name] = Stopped(dag_id, run_id, index, world.polled_by_trigger(dag_id, run_id, part, index))
    for name, one in waiting.items():
        if "clear" in name or name == "renew":
            airflow.clear(one.dag_id, one.run_id, ["ingest" if one.map_index < 0 else ("ingest", one.map_index)])
        else:
            state = "success" if name == "succeed" else "failed"
            airflow.set_task_state(one.dag_id, one.run_id, "ingest", state, map_index=one.map_index)
    for one in waiting.values():
        world.ended(one.dag_id, one.run_id, 120)
    return waiting


@pytest.mark.parametrize("name", ["fail", "succeed", "mapped fail"])
def test_marking_a_waiting_task_cancels_its_run(world, touched, name):
    one = touched[name]
    wait_until("the run is cancelled", lambda: one.run.operation.status == "Canceled", 30)
    assert world.cancellations(one.run) == [204]
    expected = "success" if name == "succeed" else "failed"
    assert world.state(one.dag_id, one.run_id, one.map_index) == expected
    part = one.run_id if one.map_index < 0 else f"{one.run_id}/{one.map_index}"
    assert world.runs(part) == [one.run]


@pytest.mark.parametrize("name", ["clear", "mapped clear"])
def test_a_cleared_task_adopts_its_run(world, touched, name):
    one = touched[name]
    part = one.run_id if one.map_index < 0 else f"{one.run_id}/{one.map_index}"
    assert world.tasks(one.dag_id, one.run_id)["ingest", one.map_index] == ("success", 2)
    assert world.cancellations(one.run) == []
    assert world.runs(part) == [one.run]
    assert one.run.operation.status == "Succeeded"
    summary = world.airflow.xcom(one.dag_id, one.run_id, "ingest", one.map_index)
    assert (summary["run_id"], summary["adopted"]) == (one.run.id, True)


def test_a_cleared_task_that_starts_anew_leaves_no_run_behind(world, touched):
    one = touched["renew"]
    old, new = world.runs(one.run_id)
    assert old is one.run
    wait_until("the first run is cancelled", lambda: old.operation.status == "Canceled", 30)
    assert world.cancellations(old) == [204]
    assert (new.operation.status, world.cancellations(new)) == ("Succeeded", [])


def _is_told_to_stop(world: World, run_id: str) -> bool:
    """Return whether the first trigger of a run's task is told that it is not wanted any more."""
    logs = world.airflow.home.glob(f"logs/dag_id={POOLED}/run_id={run_id}/task_id=ingest/attempt=1.log.trigger.*.log")
    return any("invoking on_kill" in log.read_text() for log in logs)


def _set_slots(airflow: AirflowStack, slots: int) -> None:
    airflow.call("PATCH", f"/pools/{POOL}", body={"pool": POOL, "slots": slots, "include_deferred": False})


def test_a_cleared_task_that_starts_late_adopts_its_run(world):
    """The old trigger is told to stop while the new try still waits for a worker."""
    airflow = world.airflow
    airflow.call("POST", "/pools", body={"name": POOL, "slots": 4})
    started = {name: world.trigger(POOLED, catalog_url=world.catalog(name, 40)) for name in ("late", "late-fail")}
    runs = {name: world.polled_by_trigger(POOLED, run_id, run_id) for name, run_id in started.items()}
    _set_slots(airflow, 0)
    for run_id in started.values():
        airflow.clear(POOLED, run_id, ["ingest"])
    for run_id in started.values():
        wait_until("the old trigger is told to stop", lambda run_id=run_id: _is_told_to_stop(world, run_id), 20)
        assert world.state(POOLED, run_id) in {None, "scheduled"}
    # 3.5 s passed between that and the request, where there was one.
    until = time.monotonic() + 7
    wait_until(
        "time enough for a wrong decision",
        lambda: any(map(world.cancellations, runs.values())) or time.monotonic() > until,
        10,
    )
    airflow.set_task_state(POOLED, started["late-fail"], "ingest", "failed")
    _set_slots(airflow, 4)

    assert world.ended(POOLED, started["late"])["state"] == "success"
    assert world.tasks(POOLED, started["late"]) == {("ingest", -1): ("success", 2)}
    assert world.cancellations(runs["late"]) == []
    assert world.runs(started["late"]) == [runs["late"]]

    wait_until("the run is cancelled", lambda: runs["late-fail"].operation.status == "Canceled", 30)
    assert world.cancellations(runs["late-fail"]) == [204]
    assert world.runs(started["late-fail"]) == [runs["late-fail"]]


def test_nothing_cancels_what_somebody_else_runs(world, touched):
    assert world.named("cancel_all_operations") == []


# --- 5: many catalogs -----------------------------------------------------------------------------------------------


def test_one_broken_catalog_fails_alone(world):
    urls = [world.catalog("good", 4), world.catalog("bad", 4, broken="bad-02"), world.catalog("fine", 5)]
    conf = {"collection_id": COLLECTION, "catalog_urls": urls, "container_urls": [world.small.url]}
    run_id = world.airflow.trigger(MANY, conf)

    assert world.ended(MANY, run_id)["state"] == "failed"

    tasks = world.tasks(MANY, run_id)
    assert [tasks["ingest", index] for index in range(3)] == [("success", 1), ("failed", 1), ("success", 1)]
    assert tasks["add_up", -1][0] == "upstream_failed"
    log = world.airflow.task_log(MANY, run_id, "ingest", map_index=1)
    assert "bad-02" in log
    assert "ended with 1 failed items: 4 of 4 items done" in log
    for index, total in ((0, 4), (2, 5)):
        summary = world.airflow.xcom(MANY, run_id, "ingest", index)
        assert summary["items"] == {"total": total, "succeeded": total, "failed": 0, "pending": 0}
    assert [len(world.runs(f"{run_id}/{index}")) for index in range(3)] == [1, 1, 1]
    items = world.emulator.world.collections[COLLECTION].items
    assert {"bad-00", "bad-01", "bad-03", "good-03", "fine-04"} <= set(items)
    assert "bad-02" not in items


# --- 7: what Airflow knows about the provider -----------------------------------------------------------------------


def test_the_provider_is_listed(world):
    listed = json.loads(world.airflow.command("providers", "list", "--output", "json"))
    (own,) = (one for one in listed if one["package_name"] == "airflow-provider-geocatalog")
    assert "Microsoft Planetary Computer Pro" in own["description"]


def test_the_provider_tells_everything_about_itself(world):
    told = world.airflow.command("providers", "get", "airflow-provider-geocatalog", "--full", "--output", "json")
    for part in (
        "operators.ingestion",
        "sensors.ingestion",
        "triggers.ingestion",
        "GeoCatalogHook",
        *CONNECTION_FIELDS,
    ):
        assert part in told, part


def test_the_hook_is_listed(world):
    listed = json.loads(world.airflow.command("providers", "hooks", "--output", "json"))
    (own,) = (one for one in listed if one["connection_type"] == "geocatalog")
    assert own["class"].endswith(".GeoCatalogHook")
    assert own["hook_name"] == HOOK_NAME


def test_the_form_is_shown(world):
    world.airflow.call("GET", "/monitor/health")  # signs in
    headers = {"Authorization": world.airflow._session.headers["Authorization"]}
    answer = requests.get(f"{world.airflow.url}/ui/connections/hook_meta", headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    (own,) = (one for one in answer.json() if one["connection_type"] == "geocatalog")
    assert own["hook_name"] == HOOK_NAME
    assert set(own["extra_fields"]) == set(CONNECTION_FIELDS)
    assert own["extra_fields"]["auth_method"]["schema"]["enum"][0] == "default"
    assert own["standard_fields"]["host"]["title"] == "GeoCatalog URL"
    assert own["standard_fields"]["port"]["hidden"] is True


def _test_connection(world: World, token: str, **extra: str) -> dict[str, Any]:
    fields = json.loads(geocatalog_connection(world.url, token))
    body = {"connection_id": "tested", **fields, "extra": json.dumps({**fields["extra"], **extra})}
    answer: dict[str, Any] = world.airflow.call("POST", "/connections/test", body=body)
    return answer


def test_a_good_connection_passes_its_test(world):
    answer = _test_connection(world, TOKEN)
    assert answer["status"] is True, answer


def test_a_wrong_token_is_explained(world):
    answer = _test_connection(world, "wrong-token-that-nobody-may-read")
    assert answer["status"] is False
    assert "401" in answer["message"]
    assert "token" in answer["message"].lower()
    assert "wrong-token-that-nobody-may-read" not in answer["message"]


# --- 6: no secret, after all that -----------------------------------------------------------------------------------


def _database_texts(path: Path) -> Iterator[tuple[str, bytes]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.text_factory = bytes
        tables = [row[0].decode() for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                yield f"table {table}", b"\n".join(value for value in row if isinstance(value, bytes))


def test_no_secret_can_be_read(world, first_run, touched, emulator_log):
    airflow = world.airflow
    texts = [("emulator.log", emulator_log.read_bytes())]
    for dag_id in (BULK, MANY, SINGLE, MAPPED, POOLED):
        for run in airflow.call("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"]:
            found = run_texts(airflow, dag_id, run["dag_run_id"], airflow.home)
            texts += [(f"{dag_id}: {place}", text) for place, text in found if not place.endswith((".db", ".db-wal"))]
    rows = list(_database_texts(airflow.home / "airflow.db"))
    tables = {place for place, _ in rows}
    assert {"table xcom", "table rendered_task_instance_fields", "table task_instance", "table log"} <= tables
    assert any(place.endswith("triggerer.log") for place, _ in texts)
    assert any("/logs/" in f"/{place}" or ": logs/" in place for place, _ in texts)
    texts += rows

    signature = parse_qs(world.storage.sas_token)["sig"][0]
    assert find_secrets(texts, [TOKEN, signature, "wrong-token-that-nobody-may-read"]) == []
    assert [place for place, text in texts if _UNMASKED.search(text)] == []


def test_every_component_is_still_healthy(world, first_run):
    assert set(world.airflow.health().values()) == {"healthy"}
