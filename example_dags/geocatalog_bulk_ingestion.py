"""
Ingest a static STAC catalog into a GeoCatalog collection, once a day.

**What it shows.** The whole way: create the collection (or bring it in line), configure how it is rendered, register
the ingestion source of the catalog's container, run the bulk ingestion and wait for it in the triggerer, without a
worker, then read the collection back with pystac-client. Every step may run again: a second run of the same day writes
nothing and says so in its logs.

**What it needs.** A connection ``geocatalog_default`` of type *GeoCatalog*, and, if the catalog's container is private,
a connection ``geocatalog_storage`` whose extra holds ``{"sas_token": "..."}`` (container SAS, read and list). Set the
parameters below to your catalog, or trigger the DAG with other values. ``make demo`` runs this file as it is on the
emulator; on Azure only the connections change.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.operators.configuration import GeoCatalogConfigureCollectionOperator
from airflow_provider_geocatalog.operators.ingestion import GeoCatalogBulkIngestionOperator
from airflow_provider_geocatalog.operators.sources import GeoCatalogEnsureIngestionSourceOperator

STORAGE = "https://example.blob.core.windows.net/catalogs"

#: The day that the work belongs to. A manual run of Airflow 3 may have no logical date.
DAY = "{{ (logical_date if logical_date is defined and logical_date else dag_run.run_after) | ds }}"

with DAG(
    dag_id="geocatalog_bulk_ingestion",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["geocatalog", "example"],
    doc_md=__doc__,
    params={
        "catalog_url": Param(f"{STORAGE}/catalog.json", type="string", description="Root of the static STAC catalog"),
        "collection": Param(f"{STORAGE}/collection.json", type="string", description="Path or URL of the collection"),
        "config_folder": Param("", type="string", description="Folder with render*, mosaic* and tile*.json, or empty"),
        "container_url": Param(STORAGE, type="string", description="The catalog's container; empty if it is public"),
        "storage_conn_id": Param("geocatalog_storage", type="string", description="Connection with the SAS token"),
    },
) as dag:
    create_collection = GeoCatalogCreateCollectionOperator(
        task_id="create_collection",
        collection="{{ params.collection }}",
        if_exists="update",
        multiple_outputs=True,  # so that later tasks can take single values of the result
        deferrable=True,
    )
    collection_id = create_collection.output["collection_id"]

    configure_collection = GeoCatalogConfigureCollectionOperator(
        task_id="configure_collection",
        collection_id=collection_id,
        config_folder="{{ params.config_folder }}",
    )

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def container_is_private(params: dict[str, Any]) -> bool:
        """Public data needs no ingestion source."""
        return bool(params["container_url"])

    ensure_source = GeoCatalogEnsureIngestionSourceOperator(
        task_id="ensure_source",
        container_url="{{ params.container_url }}",
        sas_token_conn_id="{{ params.storage_conn_id }}",
    )

    ingest = GeoCatalogBulkIngestionOperator(
        task_id="ingest",
        collection_id=collection_id,
        catalog_url="{{ params.catalog_url }}",
        container_url="{{ params.container_url }}",
        sas_token_conn_id="{{ params.storage_conn_id if params.container_url else '' }}",
        run_key=DAY,
        skip_existing_items=True,
        deferrable=True,
        trigger_rule="none_failed",
    )

    @task
    def verify(summary: dict[str, Any]) -> dict[str, Any]:
        """Read the collection back as any STAC client would."""
        expected = summary["items"]["succeeded"]
        search = (
            GeoCatalogHook()
            .get_stac_client()
            .search(collections=[summary["collection_id"]], limit=250, max_items=expected or 1)
        )
        readable = sum(1 for _ in search.items_as_dicts())
        if readable < expected:
            raise ValueError(f"{expected} items were ingested, but only {readable} can be read")
        print(
            "A run of this day had done the work already; nothing changed."
            if summary["adopted"]
            else f"{readable} items are readable in {summary['collection_id']}."
        )
        return {"readable": readable, "adopted": summary["adopted"]}

    create_collection >> configure_collection >> ingest
    container_is_private() >> ensure_source >> ingest
    verify(ingest.output)
