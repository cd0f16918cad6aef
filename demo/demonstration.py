"""The demonstration itself, step by step."""

from __future__ import annotations

import datetime
import os
import re
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_geocatalog.client import GeoCatalogClient
from demo.airflow_stack import AirflowStack
from demo.catalog_input import (
    Catalog,
    collection_file,
    derived_collection,
    is_url,
    load_catalog,
    load_collection,
    write_collection,
)
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
from demo.leaks import find_secrets, run_texts
from demo.processes import Processes
from demo.progress import Console, counts_text, table, task_label
from demo.verify import Verification, ingested_ids, operation_counts, verify

if TYPE_CHECKING:
    from contextlib import ExitStack

    from airflow_provider_geocatalog.api.models import Counts
    from demo.settings import Settings

__all__ = ["DAG_ID", "Demonstration"]

DAG_ID = "geocatalog_bulk_ingestion"
_EXAMPLE_DAGS = Path(__file__).parent.parent / "example_dags"
_RUN_SECONDS = 20  # how long the emulator takes for a catalog, so that people see the task being deferred
_SAMPLE_ITEMS = 12
_LOG_LINES = 15  # shown of a failed task
_AIRFLOWS_OWN = re.compile(r"::(end)?group::|DAG bundles loaded|Filling up the DagBag|Worker startup parse complete")
_NAMES_SHOWN = 20  # of items that are missing or broken


@dataclass(frozen=True)
class _Pace:
    """How often to ask, and how long to wait for the run: seconds."""

    count_poll: float
    timeout: float


_LOCAL = _Pace(count_poll=2, timeout=600)
_REMOTE = _Pace(count_poll=20, timeout=24 * 3600)


@dataclass(frozen=True)
class _Source:
    """
    What is to be ingested.

    :param catalog: The catalog as it was read.
    :param collection: Path or URL of the collection's document.
    :param collection_id: The collection's id.
    :param config: Folder with render options, mosaics and tile settings, or nothing.
    """

    catalog: Catalog
    collection: str
    collection_id: str
    config: str


class Demonstration:
    """
    Ingest a catalog with a real Airflow and look at what became of it.

    :param settings: What the user asks for.
    :param console: Where to tell about it.
    :param work: A folder for everything that is written.
    :param resources: Takes what has to be ended at the end.
    """

    def __init__(self, settings: Settings, console: Console, work: Path, resources: ExitStack) -> None:
        self._settings = settings
        self._console = console
        self._work = work
        self._resources = resources
        self._token = secrets.token_urlsafe(32)

    def run(self) -> bool:
        """
        Run it to its end.

        :return: Whether everything went well: the DAG run, every item, and no secret to be found.
        """
        settings = self._settings
        storage = settings.own_storage()
        source = self._own_source(storage) if settings.catalog else None
        connection, emulator = settings.geocatalog, ""
        if not connection or not is_url(settings.catalog):
            emulator = self._start_emulator(source)
            connection = connection or geocatalog_connection(emulator, self._token)
        if source is None:
            source = self._sample(storage_url(emulator))
        catalog = source.catalog
        if not is_url(settings.catalog):
            storage = Storage(storage_url(emulator), mint_sas())
            # From here on the catalog as the service sees it: through the container.
            catalog = load_catalog(f"{storage.url}/{catalog.path_in_folder}", storage)
        client = GeoCatalogClient(geocatalog_settings(connection))
        return self._ingest(replace(source, catalog=catalog), storage, client, connection)

    # --- preparation -------------------------------------------------------------------------------------------------

    def _own_source(self, storage: Storage | None) -> _Source:
        """Read the user's catalog, and find or make its collection."""
        settings, console = self._settings, self._console
        catalog = load_catalog(settings.catalog, storage)
        console.step(f"catalog {settings.catalog}: {len(catalog.items)} items")
        for warning in catalog.warnings():
            console.line(f"WARNING: {warning}")
        location = settings.collection_json or str(collection_file(settings.catalog, settings.config) or "")
        if not location:
            location = str(write_collection(self._work / "collection.json", derived_collection(catalog)))
            console.step("no collection.json found: a minimal collection is derived from the catalog")
        if not is_url(location):
            location = str(Path(location).expanduser().absolute())
        collection_id = load_collection(location)["id"]
        console.step(f"collection {collection_id} ({location})")
        config = str(Path(settings.config).expanduser().absolute()) if settings.config else ""
        return _Source(catalog, location, collection_id, config)

    def _start_emulator(self, source: _Source | None) -> str:
        """Start the emulator, with the catalog's folder as its container, and return its URL."""
        folder = source.catalog.folder if source and source.catalog.folder else self._work / "catalog"
        folder.mkdir(exist_ok=True)
        count = len(source.catalog.items) if source else _SAMPLE_ITEMS
        processes = self._resources.enter_context(Processes(self._work))
        pace = max(1.0, count / _RUN_SECONDS)
        url = start_emulator(processes, folder, token=self._token, items_per_second=pace)
        what = "of blob storage only" if self._settings.geocatalog else "of the GeoCatalog and of its blob storage"
        self._console.step(f"emulator {what}: {url}")
        return url

    def _sample(self, base_url: str) -> _Source:
        from demo.sample_catalog import write_sample_catalog  # rasterio is not needed for a catalog of the user's

        sample = write_sample_catalog(self._work / "catalog", asset_base_url=base_url, items=_SAMPLE_ITEMS)
        catalog = load_catalog(str(sample.catalog))
        self._console.step(f"sample catalog with real GeoTIFFs: {len(catalog.items)} items")
        collection_id = load_collection(str(sample.collection_json))["id"]
        return _Source(catalog, str(sample.collection_json), collection_id, str(sample.config))

    # --- the run -----------------------------------------------------------------------------------------------------

    def _ingest(self, source: _Source, storage: Storage | None, client: GeoCatalogClient, connection: str) -> bool:
        console = self._console
        pace = _LOCAL if client.settings.is_local else _REMOTE
        # The DAG has a schedule, and would start a run of its own besides if it is triggered soon after midnight.
        environment = {GEOCATALOG_VARIABLE: connection, "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False"}
        if storage:
            served = not is_url(self._settings.catalog)
            environment[STORAGE_VARIABLE] = storage.connection() if served else self._settings.storage
        airflow = self._resources.enter_context(
            AirflowStack(self._work / "airflow", _EXAMPLE_DAGS, environment=environment, on_progress=console.step)
        )
        console.step(f"Airflow's UI: {airflow.url}")
        conf = {
            "catalog_url": source.catalog.url,
            "collection": source.collection,
            "config_folder": source.config,
            "container_url": storage.url if storage else "",
            "storage_conn_id": STORAGE_CONN_ID if storage else "",
        }
        since = datetime.datetime.now(datetime.UTC)
        run_id = airflow.trigger(DAG_ID, conf)
        console.step(f"triggered {DAG_ID}: {run_id}")
        last_look = 0.0

        def on_poll() -> None:
            nonlocal last_look
            if time.monotonic() - last_look >= pace.count_poll:
                last_look = time.monotonic()
                counts = operation_counts(client, source.collection_id, since)
                console.status(counts_text(counts) if counts else "")

        def on_change(task: dict[str, Any]) -> None:
            again = f" (try {task['try_number']})" if task["try_number"] > 1 else ""
            console.step(f"{task_label(task)}: {task['state'] or 'waiting'}{again}")

        run = airflow.wait_for_run(DAG_ID, run_id, timeout=pace.timeout, on_change=on_change, on_poll=on_poll)
        counts = operation_counts(client, source.collection_id, since)
        console.status("")
        verification = self._verify(source.catalog, client, source.collection_id)
        leaks = self._search_secrets(airflow, run_id, client, storage)
        return self._report(airflow, run, source.collection_id, verification, counts, leaks)

    def _verify(self, catalog: Catalog, client: GeoCatalogClient, collection_id: str) -> Verification:
        self._console.step("looking for every item through pystac-client")
        try:
            present = ingested_ids(client, collection_id)
        except Exception as error:
            self._console.line(f"the collection cannot be read: {error}")
            present = set()
        return verify(catalog.items, present)

    def _search_secrets(
        self, airflow: AirflowStack, run_id: str, client: GeoCatalogClient, storage: Storage | None
    ) -> list[str]:
        known = [client.tokens.get(), client.settings.secret or ""]
        if storage:
            signature = next((part for part in storage.sas_token.split("&") if part.startswith("sig=")), "")
            known.append(signature.removeprefix("sig="))
        leaks = find_secrets(run_texts(airflow, DAG_ID, run_id, airflow.home), known)
        emulator_log = self._work / "emulator.log"
        if emulator_log.exists():
            leaks += find_secrets([("emulator.log", emulator_log.read_bytes())], known)
        return leaks

    # --- the end -----------------------------------------------------------------------------------------------------

    def _report(
        self,
        airflow: AirflowStack,
        run: dict[str, Any],
        collection_id: str,
        verification: Verification,
        counts: Counts | None,
        leaks: list[str],
    ) -> bool:
        console = self._console
        run_id = run["dag_run_id"]
        tasks = sorted(airflow.task_instances(DAG_ID, run_id), key=lambda task: str(task["start_date"]))
        for task in tasks:
            if task["state"] == "failed":
                log = airflow.task_log(DAG_ID, run_id, task["task_id"], map_index=task["map_index"])
                console.line(f"\nThe end of the log of {task_label(task)}:")
                lines = [line for line in log.splitlines() if not _AIRFLOWS_OWN.search(line)]
                console.line("\n".join(f"  {line}" for line in lines[-_LOG_LINES:]))
        console.line()
        rows = [[task_label(t), str(t["state"]), str(t["try_number"]), f"{t['duration'] or 0:.1f}"] for t in tasks]
        console.line(table([["Task", "State", "Tries", "Seconds"], *rows]))
        console.line()
        for item in verification.broken[:_NAMES_SHOWN]:
            console.line(f"BROKEN   {item.url}: {item.reason}")
        for item_id, reason in list(verification.missing.items())[:_NAMES_SHOWN]:
            console.line(f"MISSING  {item_id}: {reason}")
        for leak in leaks:
            console.line(f"SECRET   {leak}")
        ended = f"{run['duration']:.0f} s" if run.get("duration") else "?"
        console.line(f"DAG run     {run['state']} in {ended}")
        console.line(
            f"Items       {verification.total} in the catalog, {len(verification.ingested)} ingested, "
            f"{counts.failed if counts else 'unknown'} failed, {len(verification.missing)} missing, "
            f"{len(verification.broken)} broken"
            + (f", {len(verification.repeated)} with an id that another item has" if verification.repeated else "")
        )
        console.line(f"Collection  {collection_id}")
        console.line(f"Secrets     {'FOUND' if leaks else 'no secret found in logs, XComs and rendered fields'}")
        console.line(f"Airflow UI  {airflow.url}/dags/{DAG_ID}/runs/{quote(run_id)}")
        console.line(f"Logs        {os.path.relpath(airflow.home / 'logs')}")
        return run["state"] == "success" and verification.is_complete and not leaks
