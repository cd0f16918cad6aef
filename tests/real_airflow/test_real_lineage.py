"""
OpenLineage on real components: what its provider writes into a file while tasks succeed and fail.

In an Airflow of its own, whose tasks all tell of what they do.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from tests.fakes.items import stac_item
from tests.fakes.real_world import COLLECTION, TOKEN, World, client_of, real_world, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("airflow.providers.openlineage", reason="the OpenLineage provider is not installed")
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

DAG_ID = "real_lineage"
ENDS = {"bulk": "COMPLETE", "bulk_broken": "FAIL", "transfer": "COMPLETE", "transfer_broken": "FAIL", "own": "COMPLETE"}

DAG = textwrap.dedent(
    """
    import pendulum
    from airflow.providers.common.compat.sdk import DAG, task

    from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
    from airflow_provider_geocatalog.operators.ingestion import GeoCatalogBulkIngestionOperator
    from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator
    from airflow_provider_geocatalog.transfer.sources import ItemFilesSource

    CONTAINER = "{container}"
    BULK = {{
        "collection_id": "real",
        "container_url": CONTAINER,
        "sas_token_conn_id": "geocatalog_storage",
        "deferrable": True,
        "poll_interval": 2,
    }}

    with DAG("real_lineage", schedule=None, start_date=pendulum.datetime(2026, 1, 1), default_args={{"retries": 0}}):
        GeoCatalogBulkIngestionOperator(task_id="bulk", catalog_url=f"{{CONTAINER}}/whole/catalog.json", **BULK)
        GeoCatalogBulkIngestionOperator(task_id="bulk_broken", catalog_url=f"{{CONTAINER}}/broken/catalog.json", **BULK)
        for name in ("transfer", "transfer_broken"):
            StacToGeoCatalogOperator(
                task_id=name, collection_id="real", source=ItemFilesSource("{folder}/" + name + ".ndjson")
            )

        @task
        def own():
            client = GeoCatalogHook().client
            client.get_collection("real")
            client.wait(client.create_item("other", {item!r}))

        own()
    """
)


@dataclass
class Told:
    """
    What the file has.

    :param text: All of it.
    :param events: By task and type; the last one of each.
    """

    world: World
    folder: Path
    text: str
    events: dict[tuple[str, str], dict[str, Any]]

    def datasets(self, task_id: str, kind: str, side: str) -> list[tuple[str, str]]:
        return [(one["namespace"], one["name"]) for one in self.events[task_id, kind].get(side, [])]

    def collection(self, collection_id: str = COLLECTION) -> tuple[str, str]:
        return self.world.url.replace("http://", "geocatalog://"), collection_id

    def rows(self, task_id: str) -> tuple[int | None, int | None]:
        """How many items the last event of a task says were read and written."""
        event = self.events[task_id, ENDS[task_id]]
        (read,), (written,) = event["inputs"], event["outputs"]
        return (
            read.get("inputFacets", {}).get("inputStatistics", {}).get("rowCount"),
            written.get("outputFacets", {}).get("outputStatistics", {}).get("rowCount"),
        )


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("lineage")
    # A file for each event, since several processes write them at once.
    transport = {"type": "file", "log_file_path": str(folder / "event"), "append": False}
    environment = {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "60",
    }
    _write(folder / "transfer.ndjson", [stac_item(f"good-{number}") for number in range(3)])
    _write(folder / "transfer_broken.ndjson", [stac_item("fine"), {**stac_item("bad"), "geometry": "nowhere"}])
    with real_world(tmp_path_factory.mktemp("world"), examples=[], environment=environment) as world:
        client = client_of(world)
        client.wait(client.create_collection({**client.get_collection(COLLECTION), "id": "other"}), timeout=60)
        world.catalog("whole", 3)
        world.catalog("broken", 3, broken="broken-01")
        dag = DAG.format(container=world.small.url, folder=folder, item=stac_item("own"))
        (world.airflow.dags_folder / "real_lineage.py").write_text(dag)
        run_id = world.airflow.trigger(DAG_ID)
        assert world.ended(DAG_ID, run_id, timeout=240)["state"] == "failed"
        ended = {name: state for (name, _), (state, _) in world.tasks(DAG_ID, run_id).items()}
        assert ended == {name: "success" if end == "COMPLETE" else "failed" for name, end in ENDS.items()}
        wait_until("all tasks have told how they ended", lambda: set(ENDS.items()) <= set(_events(folder)), 60)
        texts = [path.read_text() for path in sorted(folder.glob("event*"))]
        yield Told(world, folder, "\n".join(texts), _events(folder))


def _write(path: Path, items: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


def _events(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    found = {}
    for path in sorted(folder.glob("event*")):
        try:
            event = json.loads(path.read_text())
        except ValueError:
            continue  # it is being written
        if "." in event["job"]["name"]:  # of a task; the others are of the DAG
            found[event["job"]["name"].removeprefix(f"{DAG_ID}."), event["eventType"]] = event
    return found


@pytest.mark.parametrize(("task_id", "folder"), [("bulk", "whole"), ("bulk_broken", "broken")])
def test_a_bulk_ingestion_tells_of_its_catalog_and_its_collection(told, task_id, folder):
    catalog = (told.world.url, f"_emulator/storage/small/{folder}/catalog.json")
    for kind in ("START", ENDS[task_id]):
        assert told.datasets(task_id, kind, "inputs") == [catalog]
        assert told.datasets(task_id, kind, "outputs") == [told.collection()]
    operation_id = told.events[task_id, ENDS[task_id]]["run"]["facets"]["externalQuery"]["externalQueryId"]
    runs = {run.id: run for run in told.world.runs(task_id)}
    assert runs[operation_id].operation.counters.failed == (1 if task_id == "bulk_broken" else 0)


@pytest.mark.parametrize("task_id", ["transfer", "transfer_broken"])
def test_a_transfer_tells_of_its_source_and_its_collection(told, task_id):
    for kind in ("START", ENDS[task_id]):
        assert told.datasets(task_id, kind, "inputs") == [("file", f"{told.folder}/{task_id}.ndjson")]
        assert told.datasets(task_id, kind, "outputs") == [told.collection()]


def test_what_was_read_and_written_is_counted_also_if_the_task_failed(told):
    assert told.rows("bulk") == (3, 3)
    assert told.rows("bulk_broken") == (3, 2)
    assert told.rows("transfer") == (3, 3)
    assert told.rows("transfer_broken") == (2, 1)


def test_a_failed_task_tells_why(told):
    for name, reason in (("bulk_broken", "1 failed items"), ("transfer_broken", "bad")):
        message = told.events[name, "FAIL"]["run"]["facets"]["errorMessage"]["message"]
        assert reason in message


def test_a_task_of_ones_own_tells_what_its_client_reads_and_writes(told):
    assert told.collection() in told.datasets("own", "COMPLETE", "inputs")
    assert told.collection() not in told.datasets("own", "COMPLETE", "outputs")
    assert told.collection("other") in told.datasets("own", "COMPLETE", "outputs")


def test_events_are_what_openlineage_says_they_are(told):
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.generated.external_query_run import ExternalQueryRunFacet
    from openlineage.client.generated.input_statistics_input_dataset import InputStatisticsInputDatasetFacet
    from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet

    facets = {
        "externalQuery": ExternalQueryRunFacet,
        "inputStatistics": InputStatisticsInputDatasetFacet,
        "outputStatistics": OutputStatisticsOutputDatasetFacet,
    }
    seen = set()
    for event in told.events.values():
        inputs = [InputDataset(one["namespace"], one["name"]) for one in event.get("inputs", [])]
        outputs = [OutputDataset(one["namespace"], one["name"]) for one in event.get("outputs", [])]
        made = RunEvent(
            eventTime=event["eventTime"],
            producer=event["producer"],
            run=Run(event["run"]["runId"]),
            job=Job(event["job"]["namespace"], event["job"]["name"]),
            eventType=RunState(event["eventType"]),
            inputs=inputs,
            outputs=outputs,
        )
        assert made.schemaURL == event["schemaURL"]
        parts = [event["run"].get("facets", {})]
        parts += [one.get("inputFacets", {}) for one in event.get("inputs", [])]
        parts += [one.get("outputFacets", {}) for one in event.get("outputs", [])]
        for name, value in (pair for part in parts for pair in part.items()):
            if name in facets:
                seen.add(name)
                again = facets[name](**{key: one for key, one in value.items() if not key.startswith("_")})
                assert again._schemaURL == value["_schemaURL"]
    assert seen == set(facets)


def test_no_secret_is_told(told):
    signature = parse_qs(told.world.small.sas_token)["sig"][0]
    for secret in (TOKEN, signature, "sig="):
        assert secret not in told.text
    assert COLLECTION in told.text  # it is the right text
