"""
From a public STAC API into a GeoCatalog: the service's API tutorial, start to end, by the press of a button.

**What it shows.** A collection is made after one of the STAC API's, and configured for the Explorer. Its items in a
box and a stretch of time are transferred in one task: searched, prepared (previews of the public catalog removed, hrefs
made absolute), checked, sent in batches, waited for, and counted by what became of each. Then the items are read back,
and compared with the source. A second run writes nothing.

**What it needs.** A connection ``geocatalog_default`` of type *GeoCatalog*. With the defaults it reads the public
Planetary Computer, whose storage needs a token that everybody can have: the container is registered as an ingestion
source with such a token, which lives for about an hour. Another collection is in another container.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.operators.comparison import GeoCatalogCompareItemsOperator
from airflow_provider_geocatalog.operators.configuration import GeoCatalogConfigureCollectionOperator
from airflow_provider_geocatalog.operators.search import GeoCatalogSearchItemsOperator
from airflow_provider_geocatalog.operators.sources import GeoCatalogEnsureIngestionSourceOperator
from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator
from airflow_provider_geocatalog.transfer.sources import StacApiSource

API = "https://planetarycomputer.microsoft.com/api/stac/v1"

with DAG(
    dag_id="geocatalog_stac_api_tutorial",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    render_template_as_native_obj=True,  # so that the box stays a list, and the collection an object
    tags=["geocatalog", "example"],
    doc_md=__doc__,
    params={
        "stac_api_url": Param(API, type="string", description="Where the items come from"),
        "collection": Param("naip", type="string", description="The collection there, and its id in the GeoCatalog"),
        "bbox": Param([-84.5, 33.5, -84.2, 33.8], type="array", description="West, south, east, north in degrees"),
        "datetime": Param("2021-01-01/2022-12-31", type="string", description="When the items were taken"),
        "container_url": Param(
            "https://naipeuwest.blob.core.windows.net/naip",
            type=["null", "string"],
            description="The container of their assets; empty if it is public",
        ),
        "render_options": Param([], type="array", description="How the Explorer shows them"),
    },
) as dag:

    @task
    def collection_of_source(params: dict[str, Any]) -> dict[str, Any]:
        """Return what the GeoCatalog's collection takes from that of the STAC API: its assets and links stay there."""
        import pystac_client

        client = pystac_client.Client.open(params["stac_api_url"])
        found = client.get_collection(params["collection"]).to_dict(include_self_link=False)
        taken = ("type", "stac_version", "id", "title", "description", "license", "extent", "keywords", "item_assets")
        return {"links": [], **{name: found[name] for name in taken if name in found}}

    create_collection = GeoCatalogCreateCollectionOperator(
        task_id="create_collection", collection=collection_of_source(), if_exists="skip", deferrable=True
    )

    configure_collection = GeoCatalogConfigureCollectionOperator(
        task_id="configure_collection",
        collection_id="{{ params.collection }}",
        render_options="{{ params.render_options }}",
    )

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def container_is_private(params: dict[str, Any]) -> bool:
        """Public data needs no ingestion source."""
        return bool(params["container_url"])

    ensure_source = GeoCatalogEnsureIngestionSourceOperator(
        task_id="ensure_source",
        container_url="{{ params.container_url }}",
        sas_token_url="planetary_computer",
        min_lifetime=1800,
    )

    source = StacApiSource(
        url="{{ params.stac_api_url }}",
        collections=["{{ params.collection }}"],
        bbox="{{ params.bbox }}",
        datetime="{{ params.datetime }}",
    )

    transfer = StacToGeoCatalogOperator(
        task_id="transfer",
        collection_id="{{ params.collection }}",
        source=source,
        deferrable=True,
        trigger_rule="none_failed",
    )

    search = GeoCatalogSearchItemsOperator(
        task_id="search",
        collections=["{{ params.collection }}"],
        bbox="{{ params.bbox }}",
        fields={"include": ["id", "bbox", "properties.datetime"]},  # XComs should stay small
        max_items=1000,
        if_more="cut",
    )

    compare = GeoCatalogCompareItemsOperator(
        task_id="compare", collection_id="{{ params.collection }}", source=source, partition="month"
    )

    create_collection >> configure_collection >> transfer
    create_collection >> container_is_private() >> ensure_source >> transfer
    transfer >> [search, compare]
