"""
Ingest several static STAC catalogs into one collection, a mapped task for each.

**What it shows.** Dynamic task mapping over catalogs: each has a run of its own, waits in the triggerer without a
worker, and fails or succeeds by itself. ``max_active_tis_per_dagrun`` keeps to the few runs that the service works on
at once; before Airflow 3.2 it does not count deferred tasks, and ``max_active_runs`` does that. The last task adds the
counts up.

**What it needs.** A connection ``geocatalog_default`` of type *GeoCatalog*; for private containers a connection
``geocatalog_storage`` whose extra holds ``{"sas_token": "..."}``. The collection has to exist, for example made by
``geocatalog_bulk_ingestion``. Trigger it with ``{"collection_id": "...", "catalog_urls": ["...", "..."]}``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_geocatalog.operators.ingestion import GeoCatalogBulkIngestionOperator
from airflow_provider_geocatalog.operators.sources import GeoCatalogEnsureIngestionSourceOperator

STORAGE = "https://example.blob.core.windows.net/catalogs"
RUNS_AT_ONCE = 4

with DAG(
    dag_id="geocatalog_many_catalogs",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["geocatalog", "example"],
    doc_md=__doc__,
    params={
        "collection_id": Param("my-collection", type="string", description="Collection that receives the items"),
        "catalog_urls": Param([f"{STORAGE}/a/catalog.json"], type="array", description="Roots of the catalogs"),
        "container_urls": Param([STORAGE], type="array", description="Their private containers; empty if all public"),
        "storage_conn_id": Param("geocatalog_storage", type="string", description="Connection with the SAS token"),
    },
) as dag:

    @task
    def catalogs(params: dict[str, Any]) -> list[str]:
        """One mapped task for each."""
        return list(params["catalog_urls"])

    @task
    def containers(params: dict[str, Any]) -> list[str]:
        """One ingestion source for each."""
        return list(params["container_urls"])

    ensure_sources = GeoCatalogEnsureIngestionSourceOperator.partial(
        task_id="ensure_sources",
        sas_token_conn_id="{{ params.storage_conn_id }}",
    ).expand(container_url=containers())

    ingest = GeoCatalogBulkIngestionOperator.partial(
        task_id="ingest",
        collection_id="{{ params.collection_id }}",
        sas_token_conn_id="{{ params.storage_conn_id if params.container_urls else '' }}",
        deferrable=True,
        max_active_tis_per_dagrun=RUNS_AT_ONCE,
        trigger_rule="none_failed",
    ).expand(catalog_url=catalogs())

    @task
    def add_up(summaries: list[dict[str, Any]]) -> dict[str, int]:
        """Return the counts over all catalogs."""
        names = ("total", "succeeded", "failed")
        counts = {name: sum(summary["items"][name] for summary in summaries) for name in names}
        print(f"{len(summaries)} catalogs: {counts}")
        return counts

    ensure_sources >> ingest
    add_up(ingest.output)
