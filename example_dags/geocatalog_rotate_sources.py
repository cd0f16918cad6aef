"""
Renew the SAS tokens of ingestion sources every hour, before they expire.

**What it shows.** Ingestion sources that never lapse: every source whose token has less than half a day left gets a new
one in place. Its id stays and nothing is deleted, so ingestions that are running go on. A source that cannot be renewed
does not stop the others; the task names it and fails, and is tried again.

**What it needs.** A connection ``geocatalog_default`` of type *GeoCatalog* whose identity has the role *Storage Blob
Delegator* on the storage accounts and *Storage Blob Data Reader* on the containers, and the extra ``azure-storage`` of
this provider. Or set the parameter ``token_conn_id`` to a connection of Airflow's own type *Azure Blob Storage*; such a
connection is for one account, so name that one in ``accounts`` and add a task for each other account.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_geocatalog.operators.sources import GeoCatalogRotateIngestionSourcesOperator

HOUR = 3600.0

with DAG(
    dag_id="geocatalog_rotate_sources",
    schedule="@hourly",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    render_template_as_native_obj=True,  # so that the parameter for accounts stays a list
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    tags=["geocatalog", "example"],
    doc_md=__doc__,
    params={
        "token_conn_id": Param("geocatalog_default", type="string", description="Connection that signs the tokens"),
        "accounts": Param(None, type=["null", "array"], description="Storage accounts; empty for all"),
    },
) as dag:
    rotate_sources = GeoCatalogRotateIngestionSourcesOperator(
        task_id="rotate_sources",
        sas_token_conn_id="{{ params.token_conn_id }}",
        accounts="{{ params.accounts }}",
        expires_within=12 * HOUR,  # outages of the scheduler or of the service up to this long do no harm
        token_lifetime=24 * HOUR,
    )
