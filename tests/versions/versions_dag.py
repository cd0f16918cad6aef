"""A DAG whose tasks wait in the triggerer: a mapped operator and a sensor. It tells what they came to."""

from __future__ import annotations

import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, Variable, get_current_context, task
from airflow.triggers.base import BaseTrigger

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.ingestion import GeoCatalogBulkIngestionOperator
from airflow_provider_geocatalog.operators.watermarks import WatermarkStore
from airflow_provider_geocatalog.sensors.ingestion import GeoCatalogOperationSensor
from airflow_provider_geocatalog.triggers.ingestion import task_state

#: Airflow 3.0 refuses to run a task whose assets no scheduler has seen.
HAS_ASSET_STATE = hasattr(BaseTrigger, "render_template_fields")  # both came with Airflow 3.3
#: What the last task has a watermark of, and where that is if Airflow keeps nothing with assets.
COLLECTION, VARIABLE = Asset("versions_collection"), "geocatalog_watermark__versions"


class Ingest(GeoCatalogBulkIngestionOperator):
    """Write down that a trigger has resumed the task."""

    first_delay = 1.0  # nothing races with a trigger of ``dag.test()``

    def execute_complete(self, context, event=None):
        with Path(os.environ["VERSIONS_RESUMED"]).open("a") as file:
            file.write(f"{self.task_id} {event['outcome']}\n")
        return super().execute_complete(context, event=event)


with DAG("geocatalog_versions", schedule=None, start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)) as dag:
    ingest = Ingest.partial(
        task_id="ingest",
        collection_id="{{ dag_run.conf['collection_id'] }}",
        deferrable=True,
        poll_interval=1,
    ).expand(catalog_url=["{{ dag_run.conf['container'] }}/catalog.json"])
    wait = GeoCatalogOperationSensor(
        task_id="wait", operation_id="{{ dag_run.conf['operation_id'] }}", poke_interval=1, deferrable=True
    )

    @task(inlets=[COLLECTION] if HAS_ASSET_STATE else [])
    def read(summaries: Any) -> None:
        """Tell what the earlier tasks returned, what there is, and what Airflow says of this task."""
        context = get_current_context()
        found = GeoCatalogHook().client.list_items(context["dag_run"].conf["collection_id"])
        watermark = WatermarkStore.of(context, "versions", COLLECTION)
        watermark.set({"value": "2026-01-01T00:00:00Z"})
        has_store = context.get("task_state_store") is not None
        told = {
            "summaries": list(summaries),
            "items": sorted(item["id"] for item in found),
            "state": task_state(context["ti"]),
            "watermark": watermark.get(),
            "kept": {
                "What a task remembers over its tries (`task_state_store`)": has_store,
                "Watermark of a transfer in the asset's state": Variable.get(VARIABLE, None) is None,
            },
        }
        Path(os.environ["VERSIONS_ANSWER"]).write_text(json.dumps(told))

    wait >> read(ingest.output)

if __name__ == "__main__":
    from airflow.utils.db import initdb

    initdb()
    run = dag.test(run_conf=json.loads(sys.argv[1]))
    print("ended as", run.state)
