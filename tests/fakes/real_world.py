"""A real Airflow and the emulator, and what tests ask of both."""

from __future__ import annotations

import json
import shutil
import textwrap
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.flows.collections import IfExists, begin_create_collection
from airflow_provider_geocatalog.api.flows.sources import Rotate, ensure_sas_source
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from demo.airflow_stack import QUICK_RECOVERY, AirflowStack
from demo.connections import (
    GEOCATALOG_VARIABLE,
    STORAGE_CONN_ID,
    STORAGE_VARIABLE,
    Storage,
    geocatalog_connection,
    geocatalog_settings,
    mint_sas,
)
from demo.postgresql import postgresql
from demo.sample_catalog import SampleCatalog, write_sample_catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_provider_geocatalog.emulator.app import RecordedRequest
    from airflow_provider_geocatalog.emulator.state import Run

BULK, MANY, SINGLE, MAPPED = "geocatalog_bulk_ingestion", "geocatalog_many_catalogs", "real_single", "real_mapped"
BLOCKING, POOLED, POOL = "real_blocking", "real_pooled", "narrow"
COLLECTION = "real"
TOKEN = "a-static-token-that-nobody-may-read-0123456789"
SAMPLE_ITEMS = 26  # one a second, so that a wait spans several heartbeats

DAGS = textwrap.dedent(
    """
    from __future__ import annotations

    import datetime

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

    with DAG("real_blocking", params=PARAMS, **OPTIONS):
        GeoCatalogBulkIngestionOperator(
            catalog_url="{{ params.catalog_url }}",
            **{**INGEST, "deferrable": False, "retries": 1, "retry_delay": datetime.timedelta(seconds=1)},
        )

    for kind, limits in {
        "execution": {"execution_timeout": datetime.timedelta(seconds=18)},
        "wait": {"timeout": 18},
    }.items():
        for deferrable in (True, False):
            with DAG(f"real_{kind}_timeout_{'deferred' if deferrable else 'blocking'}", params=PARAMS, **OPTIONS):
                GeoCatalogBulkIngestionOperator(
                    catalog_url="{{ params.catalog_url }}", **{**INGEST, "deferrable": deferrable}, **limits
                )

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

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask Airflow's database, or change it."""
        import psycopg2

        url = self.airflow.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
        with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

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
        """Requests that told somebody how the run is."""
        return sum(
            one.operation == "list_operations" or (one.method == "GET" and one.path.endswith(f"/{run.id}"))
            for one in self.requests()
        )

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


@contextmanager
def real_world(
    base: Path, *, examples: Sequence[str] = (BULK, MANY), environment: Mapping[str, str] | None = None
) -> Iterator[World]:
    """
    Start everything, and stop it at the end.

    :param base: An empty folder.
    :param examples: Which example DAGs Airflow has. Watchers of others would look at operations meanwhile.
    :param environment: Further variables for Airflow, which win over those set here.
    """
    folder, sample_folder = base / "small", base / "sample"
    dags = base / "dags"
    for made in (folder, sample_folder, dags):
        made.mkdir()
    for name in examples:
        shutil.copy(Path(__file__).parents[2] / "example_dags" / f"{name}.py", dags)
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
        variables = {
            "GEOCATALOG_URL": server.url,
            GEOCATALOG_VARIABLE: geocatalog_connection(server.url, TOKEN),
            STORAGE_VARIABLE: storage.connection(),
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
            **QUICK_RECOVERY,
            **(environment or {}),
        }
        with (
            postgresql(base / "postgresql") as database,
            AirflowStack(
                base / "airflow",
                dags,
                environment=variables,
                parallelism=8,
                database=database,
                start_timeout=300,  # on two cores with other work
            ) as airflow,
        ):
            world = World(airflow, server.emulator, server.url, storage, small, sample, folder)
            _prepare(world)
            yield world


def client_of(world: World) -> GeoCatalogClient:
    return GeoCatalogClient(geocatalog_settings(geocatalog_connection(world.url, TOKEN)))


def _prepare(world: World) -> None:
    """Make what the DAGs of this file need: a collection, and the source of their container."""
    client = client_of(world)
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


def bulk_conf(world: World) -> dict[str, str]:
    """Parameters of the example DAG for the sample catalog."""
    return {
        "catalog_url": f"{world.storage.url}/catalog.json",
        "collection": str(world.sample.collection_json),
        "config_folder": str(world.sample.config),
        "container_url": world.storage.url,
        "storage_conn_id": STORAGE_CONN_ID,
    }
