"""
Keep a collection as a document in git says: plan, have a person approve, apply, check.

**What it shows.** The collection's metadata, render options, mosaics, tile settings, queryables and thumbnail stand in
one YAML document. The first task says what would have to be written. If that is anything, a person sees it in Airflow's
UI and approves it; then exactly that is written, and nothing else, even if somebody changes the collection meanwhile.
The last task fails if the collection is not as the document says, so the DAG is an alarm for drift as well.

**What it needs.** A connection ``geocatalog_default`` of type *GeoCatalog*, and a document, see
``docs/collection-as-code.md``; ``GeoCatalogExportCollectionOperator`` writes one of an existing collection. Where
Airflow has no tasks for humans (before 3.1), trigger the DAG with ``{"approved": true}`` after reading the plan of a
run without it.
"""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, AirflowOptionalProviderFeatureException, Param, task

from airflow_provider_geocatalog.operators.collection_code import (
    GeoCatalogApplyCollectionOperator,
    GeoCatalogCheckCollectionOperator,
    GeoCatalogPlanCollectionOperator,
)

try:
    from airflow.providers.standard.operators.hitl import ApprovalOperator
except (ImportError, AirflowOptionalProviderFeatureException):
    ApprovalOperator = None

DOCUMENT = "{{ params.document }}"

with DAG(
    dag_id="geocatalog_collection_as_code",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    tags=["geocatalog", "example"],
    doc_md=__doc__,
    params={
        "document": Param("collections/naip.yaml", type="string", description="Path or URL of the document"),
        "approved": Param(False, type="boolean", description="Where Airflow has no tasks for humans: write it"),
    },
) as dag:
    plan = GeoCatalogPlanCollectionOperator(task_id="plan", document=DOCUMENT)

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def is_anything_to_do(plan: dict[str, Any]) -> bool:
        """Ask nobody if the collection is as it should be."""
        return not plan["in_line"]

    if ApprovalOperator is not None:
        approve = ApprovalOperator(
            task_id="approve",
            subject="Change the collection {{ ti.xcom_pull(task_ids='plan')['collection_id'] }}?",
            body="{{ ti.xcom_pull(task_ids='plan', key='markdown') }}",
        )
    else:

        @task.short_circuit(task_id="approve")
        def is_approved(params: dict[str, Any]) -> bool:
            """Go on only if whoever triggered the DAG has read the plan."""
            return bool(params["approved"])

        approve = is_approved()

    apply = GeoCatalogApplyCollectionOperator(task_id="apply", document=DOCUMENT, approved_plan=plan.output)
    check = GeoCatalogCheckCollectionOperator(task_id="check", document=DOCUMENT, trigger_rule="none_failed")

    is_anything_to_do(plan.output) >> approve >> apply >> check
