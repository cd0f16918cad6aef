"""
Fill many collections from one private container that the GeoCatalog may read only meanwhile.

**What it shows.** A task group that creates a collection, runs its bulk ingestion and reads it back, mapped over as
many collections as you like. The container's ingestion source is there for these runs only: its creation is a setup and
its deletion the teardown, which runs whether the ingestions succeed or fail, and says nothing about the state of the
DAG run. ``max_active_runs`` is a slot guard: it keeps to the few runs that the service works on at once, whatever other
DAGs, and other Airflows, have running there.

**What it needs.** A connection ``geocatalog_default`` of type *GeoCatalog*, and a connection ``geocatalog_storage``
whose extra holds ``{"sas_token": "..."}`` (container SAS, read and list). The container must not have an ingestion
source that anybody else needs: it is deleted. Trigger it with ``{"container_url": "...", "entries": [{"collection":
"...", "catalog_url": "..."}]}``; a ``collection`` is a path, a URL or the document itself.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, Param, task, task_group

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.operators.ingestion import GeoCatalogBulkIngestionOperator
from airflow_provider_geocatalog.operators.sources import (
    GeoCatalogDeleteIngestionSourceOperator,
    GeoCatalogEnsureIngestionSourceOperator,
)

STORAGE = "https://example.blob.core.windows.net/catalogs"
RUNS_AT_ONCE = 4

with DAG(
    dag_id="geocatalog_taskflow",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,  # of this DAG: two would delete the source of each other
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["geocatalog", "example"],
    doc_md=__doc__,
    params={
        "container_url": Param(STORAGE, type="string", description="The private container of all catalogs"),
        "entries": Param(
            [{"collection": f"{STORAGE}/a/collection.json", "catalog_url": f"{STORAGE}/a/catalog.json"}],
            type="array",
            description="Collections, each with the catalog that fills it",
        ),
    },
) as dag:

    @task
    def entries(params: dict[str, Any]) -> list[dict[str, Any]]:
        """One mapped group for each."""
        return list(params["entries"])

    add_source = GeoCatalogEnsureIngestionSourceOperator(
        task_id="add_source",
        container_url="{{ params.container_url }}",
        sas_token_conn_id="geocatalog_storage",
    ).as_setup()

    delete_source = GeoCatalogDeleteIngestionSourceOperator(
        task_id="delete_source",
        container_url="{{ params.container_url }}",
        retries=60,  # it is refused while anything is active in the GeoCatalog that may read through the source
        retry_delay=timedelta(minutes=1),
    ).as_teardown(setups=add_source)

    @task_group
    def fill(collection: Any, catalog_url: str) -> None:
        """Create a collection, fill it from its catalog, and read it back."""
        create = GeoCatalogCreateCollectionOperator(
            task_id="create", collection=collection, if_exists="update", multiple_outputs=True, deferrable=True
        )

        ingest = GeoCatalogBulkIngestionOperator(
            task_id="ingest",
            collection_id=create.output["collection_id"],
            catalog_url=catalog_url,
            sas_token_conn_id="geocatalog_storage",
            deferrable=True,
            max_active_runs=RUNS_AT_ONCE,
        )

        @task
        def verify(summary: dict[str, Any]) -> dict[str, Any]:
            """Count what can be read."""
            client = GeoCatalogHook().client
            readable = sum(1 for _ in client.list_items(summary["collection_id"], limit=1000))
            if readable < summary["items"]["succeeded"]:
                raise ValueError(f"{summary['items']['succeeded']} items were ingested, {readable} can be read")
            return {"collection_id": summary["collection_id"], "readable": readable}

        verify(ingest.output)

    add_source >> fill.expand_kwargs(entries()) >> delete_source
