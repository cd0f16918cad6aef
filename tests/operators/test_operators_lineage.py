"""
OpenLineage: what operators and hooks tell of what is read and written.

The last part has the OpenLineage provider write a file while a DAG runs in a real Airflow, without a scheduler.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from typing import Any

import pytest

from airflow_provider_geocatalog.hooks.environment import AirflowEnvironment
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.lineage import datasets_of, file_dataset, file_uri
from airflow_provider_geocatalog.operators.items import GeoCatalogCreateItemsOperator
from airflow_provider_geocatalog.transfer.sources import (
    ItemFilesSource,
    ItemsSource,
    StacApiSource,
    StaticCatalogSource,
)
from tests.fakes.items import stac_item
from tests.fakes.tasks import TOKEN

has_openlineage = pytest.mark.skipif(
    find_spec("airflow.providers.openlineage") is None, reason="the OpenLineage provider is not installed"
)


@pytest.mark.parametrize(
    ("path", "namespace", "name"),
    [
        ("/data/a.ndjson", "file", "/data/a.ndjson"),
        ("file:///data/a.ndjson", "file", "/data/a.ndjson"),
        (
            "https://acc.blob.core.windows.net/box/a/catalog.json?sig=secret",
            "wasbs://box@acc.blob.core.windows.net",
            "a/catalog.json",
        ),
        ("https://example.com/catalog.json", "https://example.com", "catalog.json"),
        ("https://me:secret@example.com/", "https://example.com", "/"),
        ("s3://my_conn@bucket/key.parquet", "s3://bucket", "key.parquet"),
        ("abfss://box@acc.dfs.core.windows.net/a", "abfss://box@acc.dfs.core.windows.net", "a"),
        ("abfs://my_conn@box/a", "abfs://box", "a"),
    ],
)
def test_files_are_datasets_by_openlineages_conventions(path, namespace, name):
    assert file_dataset(path) == (namespace, name)
    assert "secret" not in file_uri(path)


def test_sources_are_datasets():
    api = StacApiSource(url="https://example.com/api/stac/v1/?key=secret", collections=["a", "b"])
    assert datasets_of(api) == [("https://example.com/api/stac/v1", "a"), ("https://example.com/api/stac/v1", "b")]
    assert datasets_of(StacApiSource(url="https://example.com/api")) == [("https://example.com/api", "search")]
    assert datasets_of(ItemFilesSource(["/a.json", "s3://b/c/"])) == [("file", "/a.json"), ("s3://b", "c/")]
    assert datasets_of(StaticCatalogSource("https://example.com/c.json")) == [("https://example.com", "c.json")]
    assert datasets_of(ItemsSource([])) == []


def test_tasks_do_without_the_openlineage_provider(world, documents, monkeypatch):
    for name in ("airflow.providers.openlineage", "openlineage"):
        monkeypatch.setitem(sys.modules, name, None)
    client = GeoCatalogHook().client
    client.wait(client.create_collection(documents("demo")))
    result = world.run(GeoCatalogCreateItemsOperator(task_id="task", collection_id="demo", items=[stac_item("a")]))
    assert result["items"]["succeeded"] == 1


# --- hook lineage -----------------------------------------------------------------------------------------------------


@pytest.fixture
def collected(monkeypatch):
    """Have Airflow's own collector listen, as it does where a plugin reads hook lineage."""
    from airflow.providers.common.compat import sdk

    collector = sdk.HookLineageCollector()
    monkeypatch.setattr(sdk, "get_hook_lineage_collector", lambda: collector)

    def collected() -> tuple[set[str], set[str]]:
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        found = get_hook_lineage_collector().collected_assets
        return {one.asset.uri for one in found.inputs}, {one.asset.uri for one in found.outputs}

    return collected


def test_files_are_told_by_who_opens_them(collected, tmp_path):
    environment = AirflowEnvironment()
    with environment.open(str(tmp_path / "new.json"), "wb") as file:
        file.write(b"{}")
    environment.open(str(tmp_path / "new.json")).close()
    uri = f"file://{tmp_path}/new.json"
    assert collected() == ({uri}, {uri})


def test_a_signed_address_is_told_without_its_signature(collected, world, tokens):
    (world.folder / "a.json").write_text("{}")
    AirflowEnvironment().open(f"{world.container}/a.json?{tokens()}").close()
    assert collected()[0] == {f"{world.container}/a.json"}


def test_collections_are_told_by_the_client_of_the_hook(collected, world, documents):
    client = GeoCatalogHook().client
    client.wait(client.create_collection(documents("demo")))
    client.create_item("demo", stac_item("a"))
    list(client.search(collections=["demo", "other"]))
    with pytest.raises(Exception, match="absent"):
        client.get_collection("absent")
    prefix = world.server.url.replace("http://", "geocatalog://")
    inputs, outputs = collected()
    assert inputs == {f"{prefix}/demo", f"{prefix}/other"}
    assert outputs == {f"{prefix}/demo"}


# --- a DAG in Airflow -------------------------------------------------------------------------------------------------

DAG = textwrap.dedent(
    """
    import os

    import pendulum
    from airflow.providers.common.compat.sdk import DAG, task

    from airflow_provider_geocatalog.assets import collection_asset
    from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
    from airflow_provider_geocatalog.operators.ingestion import GeoCatalogBulkIngestionOperator
    from airflow_provider_geocatalog.operators.sources import GeoCatalogEnsureIngestionSourceOperator
    from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator
    from airflow_provider_geocatalog.transfer.sources import ItemFilesSource

    URL = os.environ["TEST_URL"]
    BOX = f"{URL}/_emulator/storage/box"
    SAS = "geocatalog_storage"
    COLLECTION = {
        "type": "Collection", "stac_version": "1.0.0", "id": "demo", "description": "a test", "license": "CC-BY-4.0",
        "links": [], "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
    }
    demo = collection_asset(URL, "demo")

    with DAG("lineage", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
        create = GeoCatalogCreateCollectionOperator(task_id="create", collection=COLLECTION, outlets=[demo])
        source = GeoCatalogEnsureIngestionSourceOperator(
            task_id="source", container_url=BOX, sas_token_conn_id=SAS, min_lifetime=60
        )
        bulk = GeoCatalogBulkIngestionOperator(
            task_id="bulk", collection_id="demo", catalog_url=f"{BOX}/catalog.json", sas_token_conn_id=SAS,
            deferrable=True, outlets=[demo],
        )
        transfer = StacToGeoCatalogOperator(
            task_id="transfer", collection_id="demo", source=ItemFilesSource(os.environ["TEST_ITEMS"]), outlets=[demo]
        )
        broken = GeoCatalogBulkIngestionOperator(
            task_id="broken", collection_id="demo", catalog_url=f"{BOX}/broken/catalog.json", sas_token_conn_id=SAS,
            outlets=[demo],
        )
        create >> source >> bulk >> transfer >> broken

    if __name__ == "__main__":
        from airflow.utils.db import initdb

        initdb()
        dag.test()
    """
)


@pytest.fixture
def home(tmp_path, world, catalog, tokens):
    """Run the DAG, and return the home of the Airflow in which it ran."""
    catalog(world.folder, 5)
    (world.folder / "broken").mkdir()
    catalog(world.folder / "broken", 4, broken=2)
    (tmp_path / "more.ndjson").write_text("\n".join(json.dumps(stac_item(f"more-{number}")) for number in range(3)))
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "lineage.py").write_text(DAG)
    transport = {"type": "file", "log_file_path": str(tmp_path / "lineage.jsonl"), "append": True}
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "60",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TEST_URL": world.server.url,
        "TEST_ITEMS": str(tmp_path / "more.ndjson"),
    }
    done = subprocess.run(
        [sys.executable, str(tmp_path / "dags" / "lineage.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (tmp_path / "lineage.jsonl").exists(), done.stdout[-3000:] + done.stderr[-3000:]
    return tmp_path


def datasets(event: dict[str, Any], kind: str) -> list[tuple[str, str]]:
    return [(one["namespace"], one["name"]) for one in event.get(kind, [])]


@has_openlineage
@pytest.mark.timeout(300)
def test_a_dag_run_tells_openlineage_what_it_reads_and_writes(home, world):
    events = [json.loads(line) for line in (home / "lineage.jsonl").read_text().splitlines()]
    told = {(one["job"]["name"].removeprefix("lineage."), one["eventType"]): one for one in events}
    demo = (world.server.url.replace("http://", "geocatalog://"), "demo")
    box = (world.server.url, "_emulator/storage/box/catalog.json")
    broken = (world.server.url, "_emulator/storage/box/broken/catalog.json")

    for kind in ("START", "COMPLETE"):
        assert datasets(told["create", kind], "outputs") == [demo]
        assert datasets(told["bulk", kind], "inputs") == [box]
        assert datasets(told["bulk", kind], "outputs") == [demo]
        assert datasets(told["transfer", kind], "inputs") == [("file", str(home / "more.ndjson"))]
        assert datasets(told["transfer", kind], "outputs") == [demo]
    life = told["create", "COMPLETE"]["outputs"][0]["facets"]["lifecycleStateChange"]
    assert life["lifecycleStateChange"] == "CREATE"
    assert (rows_read(told["bulk", "COMPLETE"]), rows(told["bulk", "COMPLETE"])) == (5, 5)
    assert (rows_read(told["transfer", "COMPLETE"]), rows(told["transfer", "COMPLETE"])) == (3, 3)
    failed = told["broken", "FAIL"]
    assert (datasets(failed, "inputs"), datasets(failed, "outputs")) == ([broken], [demo])
    assert (rows_read(failed), rows(failed)) == (4, 2)
    for event in (told["bulk", "COMPLETE"], failed):
        operation_id = event["run"]["facets"]["externalQuery"]["externalQueryId"]
        assert GeoCatalogHook().client.get_operation(operation_id).collection_id == "demo"
    assert TOKEN not in (text := (home / "lineage.jsonl").read_text())
    assert "sig=" not in text


def rows(event: dict[str, Any]) -> int:
    count: int = event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"]
    return count


def rows_read(event: dict[str, Any]) -> int:
    count: int = event["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"]
    return count
