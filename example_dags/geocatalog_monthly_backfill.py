"""
Bring years of a STAC API into a collection, month by month.

**What it shows.** A mapped task for each month, a few at a time; each can be repeated by itself. A month that was done
sends nothing. In the end, the collection is compared with the source month by month, and what is missing is named.

**What it needs.** A connection ``geocatalog_default`` of type *GeoCatalog*, and the collection.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_geocatalog.operators.comparison import GeoCatalogCompareItemsOperator
from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator, partitions
from airflow_provider_geocatalog.transfer.sources import StacApiSource

with DAG(
    dag_id="geocatalog_monthly_backfill",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    render_template_as_native_obj=True,
    tags=["geocatalog", "example"],
    doc_md=__doc__,
    params={
        "stac_api_url": Param("https://planetarycomputer.microsoft.com/api/stac/v1", type="string"),
        "source_collection": Param("landsat-c2-l2", type="string"),
        "collection": Param("landsat-aoi", type="string", description="The collection in the GeoCatalog"),
        "bbox": Param([7.9, 47.3, 8.8, 47.6], type="array", description="West, south, east, north in degrees"),
        "start": Param("2023-01-01", type="string"),
        "end": Param("2025-01-01", type="string", description="The day before which it ends"),
    },
) as dag:

    @task
    def months(params: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the window of each month."""
        return partitions(params["start"], params["end"], "month")

    source = StacApiSource(
        url="{{ params.stac_api_url }}",
        collections=["{{ params.source_collection }}"],
        bbox="{{ params.bbox }}",
    )

    transfer = StacToGeoCatalogOperator.partial(
        task_id="transfer",
        collection_id="{{ params.collection }}",
        source=source,
        deferrable=True,
        max_active_tis_per_dagrun=4,  # the service's requests per second are shared by all of them
    ).expand(window=months())

    compare = GeoCatalogCompareItemsOperator(
        task_id="compare",
        collection_id="{{ params.collection }}",
        source=source,
        window={"start": "{{ params.start }}", "end": "{{ params.end }}"},
        partition="month",
    )

    transfer >> compare
