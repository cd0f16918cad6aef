"""Scheduler, dag-processor, triggerer and api-server as processes, against an emulator: what users see."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pystac_client
import pytest
import requests

from airflow_provider_geocatalog.provider_info import CONNECTION_FIELDS, HOOK_NAME
from demo.connections import geocatalog_connection
from demo.verify import ingested_ids
from tests.fakes.real_world import BULK, COLLECTION, MANY, SAMPLE_ITEMS, TOKEN, bulk_conf, client_of

if TYPE_CHECKING:
    from tests.fakes.real_world import World

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(150)]


# --- the example DAG, its wait, and its second run -----------------------------------------------------------------


def test_the_example_dag_ingests_every_item(world, first_run):
    assert first_run.run["state"] == "success"
    tasks = world.tasks(BULK, first_run.run_id)
    assert set(tasks.values()) == {("success", 1)}, tasks
    assert ingested_ids(client_of(world), "demo-mesa") == set(world.sample.item_ids)
    summary = world.airflow.xcom(BULK, first_run.run_id, "ingest")
    assert summary["items"] == {"total": SAMPLE_ITEMS, "succeeded": SAMPLE_ITEMS, "failed": 0, "pending": 0}
    assert summary["adopted"] is False
    assert world.airflow.xcom(BULK, first_run.run_id, "verify")["readable"] == SAMPLE_ITEMS
    (run,) = world.runs("", "demo-mesa")
    assert summary["run_id"] == run.id
    assert world.cancellations(run) == []


def test_any_stac_client_reads_the_items(world, first_run):
    catalog = pystac_client.Client.open(
        f"{world.url}/stac/", headers={"Authorization": f"Bearer {TOKEN}"}, parameters={"api-version": "2026-04-15"}
    )
    items = list(catalog.search(collections=["demo-mesa"], limit=10).items())
    assert {item.id for item in items} == set(world.sample.item_ids)


def test_a_deferred_wait_has_no_process(first_run):
    assert first_run.processes == []
    assert first_run.looks > 10
    assert first_run.heartbeats >= 2


def test_a_second_run_of_the_day_writes_nothing_and_says_so(world, first_run):
    before = len(world.requests())
    run_id = world.airflow.trigger(BULK, bulk_conf(world))

    assert world.ended(BULK, run_id)["state"] == "success"

    written = [one for one in world.requests(before) if one.method != "GET" and not one.path.endswith("/search")]
    assert written == []
    assert len(world.runs("", "demo-mesa")) == 1
    summary = world.airflow.xcom(BULK, run_id, "ingest")
    assert summary["adopted"] is True
    assert summary["run_id"] == world.airflow.xcom(BULK, first_run.run_id, "ingest")["run_id"]
    assert "Nothing was started and nothing changed" in world.airflow.task_log(BULK, run_id, "ingest")
    assert "nothing changed" in world.airflow.task_log(BULK, run_id, "verify")
    assert world.airflow.xcom(BULK, run_id, "ensure_source")["action"] == "unchanged"


# --- many catalogs -----------------------------------------------------------------------------------------------


def test_one_broken_catalog_fails_alone(world):
    urls = [world.catalog("good", 4), world.catalog("bad", 4, broken="bad-02"), world.catalog("fine", 5)]
    conf = {"collection_id": COLLECTION, "catalog_urls": urls, "container_urls": [world.small.url]}
    run_id = world.airflow.trigger(MANY, conf)

    assert world.ended(MANY, run_id)["state"] == "failed"

    tasks = world.tasks(MANY, run_id)
    assert [tasks["ingest", index] for index in range(3)] == [("success", 1), ("failed", 1), ("success", 1)]
    assert tasks["add_up", -1][0] == "upstream_failed"
    log = world.airflow.task_log(MANY, run_id, "ingest", map_index=1)
    assert "bad-02" in log
    assert "ended with 1 failed items: 4 of 4 items done" in log
    for index, total in ((0, 4), (2, 5)):
        summary = world.airflow.xcom(MANY, run_id, "ingest", index)
        assert summary["items"] == {"total": total, "succeeded": total, "failed": 0, "pending": 0}
    assert [len(world.runs(f"{run_id}/{index}")) for index in range(3)] == [1, 1, 1]
    items = world.emulator.world.collections[COLLECTION].items
    assert {"bad-00", "bad-01", "bad-03", "good-03", "fine-04"} <= set(items)
    assert "bad-02" not in items


# --- what Airflow knows about the provider -----------------------------------------------------------------------


def test_the_provider_is_listed(world):
    listed = json.loads(world.airflow.command("providers", "list", "--output", "json"))
    (own,) = (one for one in listed if one["package_name"] == "airflow-provider-geocatalog")
    assert "Microsoft Planetary Computer Pro" in own["description"]


def test_the_provider_tells_everything_about_itself(world):
    told = world.airflow.command("providers", "get", "airflow-provider-geocatalog", "--full", "--output", "json")
    for part in (
        "operators.ingestion",
        "sensors.ingestion",
        "triggers.ingestion",
        "GeoCatalogHook",
        *CONNECTION_FIELDS,
    ):
        assert part in told, part


def test_the_hook_is_listed(world):
    listed = json.loads(world.airflow.command("providers", "hooks", "--output", "json"))
    (own,) = (one for one in listed if one["connection_type"] == "geocatalog")
    assert own["class"].endswith(".GeoCatalogHook")
    assert own["hook_name"] == HOOK_NAME


def test_the_form_is_shown(world):
    world.airflow.call("GET", "/monitor/health")  # signs in
    headers = {"Authorization": world.airflow._session.headers["Authorization"]}
    answer = requests.get(f"{world.airflow.url}/ui/connections/hook_meta", headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    (own,) = (one for one in answer.json() if one["connection_type"] == "geocatalog")
    assert own["hook_name"] == HOOK_NAME
    assert set(own["extra_fields"]) == set(CONNECTION_FIELDS)
    assert own["extra_fields"]["auth_method"]["schema"]["enum"][0] == "default"
    assert own["standard_fields"]["host"]["title"] == "GeoCatalog URL"
    assert own["standard_fields"]["url_schema"]["hidden"] is True


def _test_connection(world: World, token: str, **extra: str) -> dict[str, Any]:
    fields = json.loads(geocatalog_connection(world.url, token))
    body = {"connection_id": "tested", **fields, "extra": json.dumps({**fields["extra"], **extra})}
    answer: dict[str, Any] = world.airflow.call("POST", "/connections/test", body=body)
    return answer


def test_a_good_connection_passes_its_test(world):
    answer = _test_connection(world, TOKEN)
    assert answer["status"] is True, answer


def test_a_wrong_token_is_explained(world):
    answer = _test_connection(world, "wrong-token-that-nobody-may-read")
    assert answer["status"] is False
    assert "401" in answer["message"]
    assert "token" in answer["message"].lower()
    assert "wrong-token-that-nobody-may-read" not in answer["message"]


def test_every_component_is_still_healthy(world, first_run):
    assert set(world.airflow.health().values()) == {"healthy"}
