"""Airflow on several workers and triggerers: CeleryExecutor, Redis, PostgreSQL, and the emulator as a service."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
import requests

from airflow_provider_geocatalog.api.flows.collections import IfExists, begin_create_collection
from airflow_provider_geocatalog.client import GeoCatalogClient
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
from demo.emulator_process import start_emulator, storage_url
from demo.postgresql import postgresql
from demo.processes import Processes
from demo.redis_server import start_redis
from demo.sample_catalog import SampleCatalog, write_sample_catalog, write_small_catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["BULK", "COLLECTION", "MANY", "TRIGGERERS", "WORKERS", "Cluster", "cluster"]

BULK, MANY = "geocatalog_bulk_ingestion", "geocatalog_many_catalogs"
#: The collection of ``MANY``; ``BULK`` makes its own.
COLLECTION = "many"
WORKERS, TRIGGERERS = ("worker-1", "worker-2"), ("triggerer-1", "triggerer-2")
_EXAMPLE_DAGS = Path(__file__).parent.parent / "example_dags"
_SAMPLE_ITEMS = 12
_CATALOGS, _CATALOG_ITEMS = 6, 30  # one item a second, so that a killed triggerer leaves waits behind
#: How a triggerer's log for a task tells that it has taken the trigger up.
_TRIGGER = re.compile(r"\(ID (\d+)\) starting")
#: Where Redis keeps the messages that a worker has got and not acknowledged, and when they were handed out.
_UNACKED, _UNACKED_INDEX, _QUEUE = "unacked", "unacked_index", "default"


@dataclass
class Cluster:
    """
    What was started, and what it is to work on.

    :param client: A client of the GeoCatalog, beside those of the tasks.
    :param storage: The container of all catalogs.
    :param sample: The catalog for ``BULK``.
    :param catalogs: Ids of the items of each catalog for ``MANY``, by its URL.
    """

    airflow: AirflowStack
    client: GeoCatalogClient
    storage: Storage
    sample: SampleCatalog
    catalogs: dict[str, tuple[str, ...]]
    redis_url: str

    # --- the DAGs ----------------------------------------------------------------------------------------------------

    def trigger_bulk(self) -> str:
        """Start the bulk ingestion of the sample catalog and return its run id."""
        conf = {
            "catalog_url": f"{self.storage.url}/catalog.json",
            "collection": str(self.sample.collection_json),
            "config_folder": str(self.sample.config),
            "container_url": self.storage.url,
            "storage_conn_id": STORAGE_CONN_ID,
        }
        return self.airflow.trigger(BULK, conf)

    def trigger_many(self) -> str:
        """Start the mapped ingestion of all other catalogs and return its run id."""
        conf = {
            "collection_id": COLLECTION,
            "catalog_urls": list(self.catalogs),
            "container_urls": [self.storage.url],
            "storage_conn_id": STORAGE_CONN_ID,
        }
        return self.airflow.trigger(MANY, conf)

    # --- who does what -----------------------------------------------------------------------------------------------

    def pids(self, worker: str) -> set[int]:
        """Return the process ids of a worker and of everything that it has started."""
        return {process.pid for process, _ in self.airflow.processes(worker)}

    def triggers(self, triggerer: str) -> set[int]:
        """Return the ids of all triggers that a triggerer has ever taken up, as its logs of them tell."""
        logs = (self.airflow.home / "logs").rglob(f"*.trigger.{self.airflow.job_id(triggerer)}.log")
        return {int(found) for log in logs for found in _TRIGGER.findall(log.read_text(errors="replace"))}

    # --- the emulator ------------------------------------------------------------------------------------------------

    def delay_answers(self, operation: str, seconds: float) -> None:
        """Have the emulator do what it is asked for and answer late."""
        rule = {"effect": "latency", "operations": [operation], "seconds": seconds, "handled": True}
        self._control("POST", "faults", json=rule)

    def answer_at_once(self) -> None:
        """End all delays, but of requests that are waiting already."""
        self._control("DELETE", "faults")

    def answered(self) -> list[dict[str, Any]]:
        """Return the requests that the emulator has answered: ``operation``, ``method``, ``path``, ``status``."""
        requests: list[dict[str, Any]] = self._control("GET", "requests").json()["value"]
        return requests

    def _control(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.client.tokens.get()}"}
        url = f"{self.client.settings.url}/_emulator/{path}"
        answer = requests.request(method, url, headers=headers, timeout=30, **options)
        answer.raise_for_status()
        return answer

    # --- the queue ---------------------------------------------------------------------------------------------------

    def unacknowledged(self) -> int:
        """Return how many messages wait in the queue or are with a worker that has not acknowledged them."""
        with redis.Redis.from_url(self.redis_url) as queue:
            return int(queue.hlen(_UNACKED)) + int(queue.llen(_QUEUE))

    def expire_visibility(self) -> int:
        """
        Have Redis deliver again what no worker has acknowledged, as it does when the visibility timeout has passed.

        :return: How many messages that are.
        """
        with redis.Redis.from_url(self.redis_url) as queue:
            members = [member for member, _ in queue.zscan_iter(_UNACKED_INDEX)]
            if members:
                queue.zadd(_UNACKED_INDEX, dict.fromkeys(members, 0))
        return len(members)


@contextmanager
def cluster(work: Path, on_progress: Callable[[str], None]) -> Iterator[Cluster]:
    """
    Start everything, and end it at the end.

    :param work: An empty folder.
    :param on_progress: Told in a few words what happens.
    :raises RedisFailed: Redis is not installed or does not start.
    """
    files, dags = work / "catalogs", work / "dags"
    for folder in (files, dags):
        folder.mkdir()
    for name in (BULK, MANY):
        shutil.copy(_EXAMPLE_DAGS / f"{name}.py", dags)
    with ExitStack() as resources:
        processes = resources.enter_context(Processes(work))
        redis_url = start_redis(processes, work / "redis")
        on_progress(f"Redis: {redis_url}")
        database = resources.enter_context(postgresql(work / "postgresql"))
        on_progress("PostgreSQL is up")
        token = secrets.token_urlsafe(32)
        url = start_emulator(processes, files, token=token, items_per_second=1)
        on_progress(f"emulator of the GeoCatalog and of its blob storage: {url}")
        storage = Storage(storage_url(url), mint_sas())
        sample = write_sample_catalog(files, asset_base_url=storage.url, items=_SAMPLE_ITEMS)
        catalogs = {
            f"{storage.url}/part-{number}/catalog.json": write_small_catalog(
                files / f"part-{number}", name=f"part-{number}", items=_CATALOG_ITEMS
            )
            for number in range(_CATALOGS)
        }
        connection = geocatalog_connection(url, token)
        client = GeoCatalogClient(geocatalog_settings(connection))
        document = {**json.loads(sample.collection_json.read_bytes()), "id": COLLECTION}
        client.run(begin_create_collection(document, if_exists=IfExists.FAIL))
        environment = {
            **QUICK_RECOVERY,
            GEOCATALOG_VARIABLE: connection,
            STORAGE_VARIABLE: storage.connection(),
            "AIRFLOW__CELERY__BROKER_URL": redis_url,
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": "4",
            # Workers look for messages to deliver again every ten seconds, not every hundred.
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_THROTTLE": "1",
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
            # What a killed worker had taken from the queue and not begun is queued again after this time.
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
        }
        airflow = resources.enter_context(
            AirflowStack(
                work / "airflow",
                dags,
                environment=environment,
                executor="CeleryExecutor",
                parallelism=8,
                database=database,
                components=("api-server", "scheduler", "dag-processor", *WORKERS, *TRIGGERERS),
                start_timeout=400,
                on_progress=on_progress,
            )
        )
        yield Cluster(airflow, client, storage, sample, catalogs, redis_url)
