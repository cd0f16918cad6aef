"""DAGs that use every kind of secret, well and badly, and one that leaks on purpose what is none."""

from __future__ import annotations

import base64
import logging
import os
from urllib.parse import quote

import pendulum
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.asset_downloads import GeoCatalogDownloadAssetsOperator
from airflow_provider_geocatalog.operators.collections import GeoCatalogDeleteCollectionOperator
from airflow_provider_geocatalog.operators.ingestion import GeoCatalogBulkIngestionOperator
from airflow_provider_geocatalog.operators.sources import GeoCatalogEnsureIngestionSourceOperator
from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator
from airflow_provider_geocatalog.sensors.items import GeoCatalogItemsSensor
from airflow_provider_geocatalog.transfer.sources import ItemFilesSource, StacApiSource

log = logging.getLogger("secrets_used")

COLLECTION = "real"
START = pendulum.datetime(2026, 1, 1, tz="UTC")
PARAMS = dict.fromkeys(["small", "sample", "catalog_url", "item_file", "downloads", "api"], "")

with DAG("secrets_used", schedule=None, start_date=START, default_args={"retries": 0}, params=PARAMS):
    by_connection = GeoCatalogEnsureIngestionSourceOperator(
        task_id="by_connection", container_url="{{ params.small }}", sas_token_conn_id="geocatalog_storage"
    )
    GeoCatalogEnsureIngestionSourceOperator(
        task_id="by_variable", container_url="{{ params.sample }}", sas_token_variable="sas_token_of_sample"
    )
    by_connection >> GeoCatalogBulkIngestionOperator(
        task_id="ingest",
        collection_id=COLLECTION,
        container_url="{{ params.small }}",
        sas_token_conn_id="geocatalog_storage",
        catalog_url="{{ params.catalog_url }}",
        deferrable=True,
        poll_interval=2,
    )
    signed_hrefs = StacToGeoCatalogOperator(
        task_id="signed_hrefs",
        collection_id=COLLECTION,
        source=ItemFilesSource(path="{{ params.item_file }}"),
        max_failures=10,
    )
    by_connection >> signed_hrefs
    signed_hrefs >> GeoCatalogDownloadAssetsOperator(
        task_id="download", collection_id=COLLECTION, ids=["plain"], path="{{ params.downloads }}"
    )
    StacToGeoCatalogOperator(
        task_id="api_refuses",
        collection_id=COLLECTION,
        source=StacApiSource(url="{{ params.api }}", collections=[COLLECTION], conn_id="secret_api"),
    )
    GeoCatalogDeleteCollectionOperator(
        task_id="token_refused", collection_id="nothing", geocatalog_conn_id="secret_wrong"
    )
    GeoCatalogDeleteCollectionOperator(
        task_id="no_sign_in", collection_id="nothing", geocatalog_conn_id="secret_client"
    )
    GeoCatalogItemsSensor(
        task_id="watch", collection_id=COLLECTION, geocatalog_conn_id="secret_wrong", deferrable=True, timeout=60
    )

    @task
    def own():
        client = GeoCatalogHook().client
        log.info("%s %s %r", client, client.settings, vars(client))
        print(client.tokens, client.settings)
        found = client.get_collection(COLLECTION)
        return {"nested": [{"client": repr(client), "settings": str(client.settings), "id": found["id"]}]}

    @task
    def broken():
        client = GeoCatalogHook("secret_wrong").client
        try:
            client.get_collection(COLLECTION)
        except Exception as error:
            raise RuntimeError({"nested": [str(error), repr(error), vars(error)], "client": client}) from error

    own()
    broken()

# A run hands it over; the definition has it as well.
with DAG("decoy_leaked", schedule=None, start_date=START, doc_md=os.environ["DECOY"], params={"decoy": ""}):

    @task
    def leak(decoy):
        log.info("as text: %s", decoy)
        log.debug("percent-encoded: %s", quote(decoy, safe=""))
        return {"nested": [base64.b64encode(f"user:{decoy}".encode()).decode()]}

    leak("{{ params.decoy }}")
