"""
Send items again that a transfer had to leave out, from the file in which it kept them.

**What it shows.** The dead-letter file of :class:`StacToGeoCatalogOperator` is a source like any other. What still does
not work is in a new file, with the reasons.

**What it needs.** A connection ``geocatalog_default`` of type *GeoCatalog*, and the file.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator
from airflow_provider_geocatalog.transfer.sources import ItemFilesSource

with DAG(
    dag_id="geocatalog_repair_items",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    default_args={"retries": 1, "retry_delay": timedelta(seconds=30)},
    tags=["geocatalog", "example"],
    doc_md=__doc__,
    params={
        "collection": Param("sentinel-2-aoi", type="string", description="The collection in the GeoCatalog"),
        "dead_letters": Param(type="string", description="The file that a transfer has left"),
    },
) as dag:
    StacToGeoCatalogOperator(
        task_id="repair",
        collection_id="{{ params.collection }}",
        source=ItemFilesSource(path="{{ params.dead_letters }}"),
        dead_letter_path="{{ params.dead_letters }}.again.ndjson",
        deferrable=True,
    )
