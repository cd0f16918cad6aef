"""Template fields once Airflow has rendered them, of plain and of mapped tasks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, redact

from airflow_provider_geocatalog.operators.items import GeoCatalogCreateItemsOperator
from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator
from airflow_provider_geocatalog.operators.transfer_windows import Watermark
from airflow_provider_geocatalog.sensors.items import StacApiItemsSensor
from airflow_provider_geocatalog.transfer.files import ItemFilesSource
from airflow_provider_geocatalog.transfer.stac_api import StacApiSource
from airflow_provider_geocatalog.transfer.transforms import set_collection
from tests.fakes.items import stac_item

SIGNATURE = "bWFwcGVkLXNlY3JldC1vZi1hLWNvbnRhaW5lcg%3D%3D"


def rendered(task, dag, **values):
    """Return the task as Airflow renders it for a task instance."""
    ti = SimpleNamespace(map_index=0, task=task, is_mapped=True, dag_id="d", task_id=task.task_id, run_id="r")
    context = {"ti": ti, "task_instance": ti, "task": task, "expanded_ti_count": 1, "dag": dag, **values}
    context |= {"run_id": "r", "map_index": 0, "params": {}, "dag_run": SimpleNamespace(conf={})}
    task.render_template_fields(context, dag.get_template_env())
    return context["task"]


@pytest.mark.parametrize("is_mapped", [False, True])
def test_signatures_in_rendered_fields_are_masked(is_mapped):
    signature = f"{SIGNATURE}{is_mapped}"
    item = stac_item("a")
    item["assets"] = {"image": {"href": f"https://a.blob.core.windows.net/c/x.tif?sv=2023&sr=c&sig={signature}"}}
    with DAG("d", schedule=None) as dag:
        if is_mapped:
            task = GeoCatalogCreateItemsOperator.partial(task_id="t", collection_id="demo").expand(items=[[item]])
        else:
            task = GeoCatalogCreateItemsOperator(task_id="t", collection_id="demo", items=[item])
    assert rendered(task, dag).items == [item]
    assert signature not in str(redact(f"it was {signature}"))


def test_a_signature_in_a_nested_field_is_masked():
    signature = f"{SIGNATURE}nested"
    with DAG("d", schedule=None) as dag:
        sensor = StacApiItemsSensor(task_id="t", source=StacApiSource(url="{{ url }}", collections=["c"]))
    url = f"https://stac.example.com/api?sig={signature}&sv=1"
    assert rendered(sensor, dag, url=url).source.url == url
    assert signature not in str(redact(f"it was {signature}"))


def test_what_is_rendered_is_of_one_task_instance():
    with DAG("d", schedule=None) as dag:
        task = StacToGeoCatalogOperator(
            task_id="t",
            collection_id="demo",
            source=ItemFilesSource("/data/{{ day }}/*.ndjson"),
            window=Watermark(start="{{ day }}", name="w"),
            transforms=[set_collection("c-{{ day }}")],
        )
    for day in ("2024-01-01", "2024-01-02"):
        one = rendered(task.prepare_for_execution(), dag, day=day)
        assert (one.source.path, one.window.start) == (f"/data/{day}/*.ndjson", day)
        assert one.transforms[0].collection_id == f"c-{day}"
