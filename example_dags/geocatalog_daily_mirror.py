"""
Mirror an area of interest every day: what a STAC API has published or changed since, late arrivals and edits included.

**What it shows.** The window is a watermark on ``updated``: each run begins where the last one that succeeded has
stopped, less an overlap. What came late is found, what was edited is replaced in place, and what is there unchanged is
not sent again. Items that the service does not take are kept in a file, from which ``geocatalog_repair_items`` sends
them again. Other DAGs can be scheduled on the asset; its events say how many items came, and where and when they are.

**What it needs.** A connection ``geocatalog_default`` of type *GeoCatalog*, the collection, and for the file a folder
on a disk that workers share, or in an object store. The API's items have to say when they were ``updated``, as those of
Earth Search do. Those of the public Planetary Computer mostly do not: there use ``DataInterval`` with a long overlap.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import DAG, Asset, Param

from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator, Watermark
from airflow_provider_geocatalog.transfer.sources import StacApiSource

MIRROR = Asset("geocatalog-mirror")

with DAG(
    dag_id="geocatalog_daily_mirror",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    render_template_as_native_obj=True,
    tags=["geocatalog", "example"],
    doc_md=__doc__,
    params={
        "stac_api_url": Param("https://earth-search.aws.element84.com/v1", type="string"),
        "stac_api_conn_id": Param("", type="string", description="Connection with a token for that API, or empty"),
        "source_collection": Param("sentinel-2-l2a", type="string"),
        "collection": Param("sentinel-2-aoi", type="string", description="The collection in the GeoCatalog"),
        "bbox": Param([7.9, 47.3, 8.8, 47.6], type="array", description="West, south, east, north in degrees"),
        "begin": Param("2026-01-01T00:00:00Z", type="string", description="Where the first run begins"),
        "dead_letters": Param("", type="string", description="Folder for items that are left out, or empty"),
    },
) as dag:
    mirror = StacToGeoCatalogOperator(
        task_id="mirror",
        collection_id="{{ params.collection }}",
        source=StacApiSource(
            url="{{ params.stac_api_url }}",
            collections=["{{ params.source_collection }}"],
            bbox="{{ params.bbox }}",
            conn_id="{{ params.stac_api_conn_id }}",
        ),
        window=Watermark(
            field="updated",
            overlap=timedelta(hours=6),  # the API shows an item a while after the moment that the item says
            start="{{ params.begin }}",
            asset=MIRROR,
        ),
        dead_letter_path=(
            "{{ params.dead_letters ~ '/' ~ run_id | replace(':', '') ~ '.ndjson' if params.dead_letters else '' }}"
        ),
        max_failures=20,
        deferrable=True,
        outlets=[MIRROR],
    )
