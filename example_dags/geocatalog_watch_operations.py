"""
Run whenever an ingestion into a GeoCatalog ends, whoever started it.

**What it shows.** An asset watcher: the triggerer looks once a minute at the GeoCatalog's operations, with one request
for all watchers of a connection, and each bulk ingestion that ends makes an asset event, with which this DAG runs. No
worker and no sensor waits. On Airflow 3.3 the watcher remembers what it has told, so that a restart loses nothing.

**What it needs.** Airflow 3.0 or later (in Airflow 2 this DAG is left out), and a connection ``geocatalog_default`` of
type *GeoCatalog*. Ingest something, for example with ``geocatalog_bulk_ingestion``. The watcher looks while this DAG is
not paused.
"""

from __future__ import annotations

import logging
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_geocatalog.triggers.events import GeoCatalogOperationEndedTrigger

try:
    from airflow.sdk import AssetWatcher
except ImportError:  # Airflow 2
    AssetWatcher = None  # type: ignore[misc,assignment,unused-ignore]

if AssetWatcher is None:
    logging.getLogger(__name__).warning("geocatalog_watch_operations is left out: asset watchers came with Airflow 3.0")
else:
    # Add collection_id="..." for one collection only, outcomes=["succeeded"] for what went well only.
    ended = GeoCatalogOperationEndedTrigger(
        types=["IngestionStaticCatalog", "IngestionStacGeoparquet"], poll_interval=60
    )
    ingestions = Asset(
        "geocatalog_ingestions", watchers=[AssetWatcher(name="geocatalog_ingestion_ended", trigger=ended)]
    )

    with DAG(
        dag_id="geocatalog_watch_operations",
        schedule=[ingestions],
        start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        tags=["geocatalog", "example"],
        doc_md=__doc__,
    ) as dag:

        @task
        def report(triggering_asset_events: Any) -> list[dict[str, Any]]:
            """Say what ended; several ingestions may have ended since the last run."""
            operations = [event.extra["payload"] for event in triggering_asset_events[ingestions]]
            for operation in operations:
                counts = operation["items"]
                print(
                    f"{operation['operation_id']} into {operation['collection_id']}: {operation['outcome']}, "
                    f"{counts['succeeded']} items of {counts['total']}, {counts['failed']} failed."
                )
            return operations

        report()
