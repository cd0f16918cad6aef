"""
A collection as an asset: one DAG fills it, another runs when it has changed, a third when its source has more.

**What it shows.** Three DAGs. ``geocatalog_assets_produce`` transfers what is new at a public STAC API into a
collection, and says in the asset's event how many items that were, and where and when they are.
``geocatalog_assets_consume`` runs with each such event and reads it. ``geocatalog_assets_watch`` runs when the STAC API
has new items, or when the token of an ingestion source is about to expire: the triggerer looks, no worker and no sensor
waits.

**What it needs.** A connection ``geocatalog_default`` of type *GeoCatalog*, its URL in ``GEOCATALOG_URL``, and a
collection ``sentinel-2-l2a`` in it. The watchers need Airflow 3.0 or later; without them the third DAG is left out.
They look while that DAG is not paused, every ten minutes if ``GEOCATALOG_POLL_INTERVAL`` says nothing else. Another
STAC API than the public Planetary Computer's can be in ``STAC_API_URL``.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_geocatalog.assets import collection_asset
from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator, Watermark
from airflow_provider_geocatalog.transfer.sources import StacApiSource
from airflow_provider_geocatalog.triggers.watchers import GeoCatalogSourceExpiringTrigger, StacApiNewItemsTrigger

try:
    from airflow.sdk import AssetWatcher
except ImportError:  # Airflow 2
    AssetWatcher = None  # type: ignore[misc,assignment,unused-ignore]

COLLECTION = "sentinel-2-l2a"
GEOCATALOG_URL = os.environ.get("GEOCATALOG_URL", "https://example.uksouth.geocatalog.spatio.azure.com")
STAC_API_URL = os.environ.get("STAC_API_URL", "https://planetarycomputer.microsoft.com/api/stac/v1")
POLL_INTERVAL = float(os.environ.get("GEOCATALOG_POLL_INTERVAL", "600"))

SOURCE = StacApiSource(url=STAC_API_URL, collections=COLLECTION, bbox=[9.9, 53.4, 10.1, 53.6])
collection = collection_asset(GEOCATALOG_URL, COLLECTION)
common: dict[str, Any] = {
    "start_date": pendulum.datetime(2026, 1, 1, tz="UTC"),
    "catchup": False,
    "max_active_runs": 1,
    "tags": ["geocatalog", "example"],
    "doc_md": __doc__,
}

with DAG(dag_id="geocatalog_assets_produce", schedule="@daily", **common) as produce:
    StacToGeoCatalogOperator(
        task_id="transfer",
        collection_id=COLLECTION,
        source=SOURCE,
        window=Watermark(field="datetime", start="2026-01-01"),
        outlets=[collection],
    )

with DAG(dag_id="geocatalog_assets_consume", schedule=[collection], **common) as consume:

    @task
    def report_changes(triggering_asset_events: Any = None, triggering_dataset_events: Any = None) -> list[Any]:
        """Say what has changed; several tasks may have changed the collection since the last run."""
        events = triggering_asset_events or triggering_dataset_events  # the latter in Airflow 2
        changes = [event.extra for several in events.values() for event in several]
        for change in changes:
            print(f"{change['collection_id']}: {change['counts']}, in {change['bbox']}, of {change['interval']}")
        return changes

    report_changes()

if AssetWatcher is None:
    logging.getLogger(__name__).warning("geocatalog_assets_watch is left out: asset watchers came with Airflow 3.0")
else:
    arrived = StacApiNewItemsTrigger(source=SOURCE, field="datetime", poll_interval=POLL_INTERVAL)
    expiring = GeoCatalogSourceExpiringTrigger(expires_within=24 * 3600, poll_interval=POLL_INTERVAL)
    new_items = Asset("geocatalog_new_items", watchers=[AssetWatcher(name="geocatalog_new_items", trigger=arrived)])
    sources = Asset("geocatalog_sources", watchers=[AssetWatcher(name="geocatalog_expiring_sources", trigger=expiring)])

    with DAG(dag_id="geocatalog_assets_watch", schedule=(new_items | sources), **common) as watch:

        @task
        def report_events(triggering_asset_events: Any) -> list[dict[str, Any]]:
            """Say what is new, and what expires."""
            payloads = [event.extra["payload"] for several in triggering_asset_events.values() for event in several]
            for payload in payloads:
                if "source_id" in payload:
                    print(f"The token for {payload['container_url']} ends at {payload['expires_at']}.")
                else:
                    print(f"{payload['source']}: {payload['count']} new items until {payload['watermark']}.")
            return payloads

        report_events()
