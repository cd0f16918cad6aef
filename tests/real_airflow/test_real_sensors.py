"""Sensors on real components: started and ended in the triggerer, and on a worker where one is needed."""

from __future__ import annotations

import textwrap

import pytest

from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.links import LINKS, GeoCatalogOperationLink
from demo.connections import geocatalog_connection, geocatalog_settings
from tests.fakes.real_world import TOKEN, World

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(150)]

DAGS = textwrap.dedent(
    """
    from __future__ import annotations

    import pendulum
    from airflow.providers.common.compat.sdk import DAG, task

    from airflow_provider_geocatalog.sensors.ingestion import GeoCatalogOperationSensor

    OPTIONS = {"schedule": None, "start_date": pendulum.datetime(2026, 1, 1, tz="UTC"), "default_args": {"retries": 0}}
    PARAMS = {"operation": "", "operations": []}
    WAIT = {"task_id": "ingest", "deferrable": True, "poke_interval": 2}

    with DAG("real_sensor", params=PARAMS, **OPTIONS):
        GeoCatalogOperationSensor(operation_id="{{ params.operation }}", **WAIT)

    with DAG("real_sensor_of_task", params=PARAMS, **OPTIONS):

        @task
        def started(params):
            return params["operation"]

        GeoCatalogOperationSensor(operation_id=started(), **WAIT)

    with DAG("real_sensor_timeout", params=PARAMS, **OPTIONS):
        GeoCatalogOperationSensor(operation_id="{{ params.operation }}", timeout=5, **WAIT)

    with DAG("real_sensor_mapped", params=PARAMS, **OPTIONS):

        @task
        def all_started(params):
            return params["operations"]

        GeoCatalogOperationSensor.partial(**WAIT).expand(operation_id=all_started())
    """
)


@pytest.fixture(scope="module")
def sensors(world: World) -> World:
    (world.airflow.dags_folder / "real_sensors.py").write_text(DAGS)
    for name in ("", "_of_task", "_timeout", "_mapped"):
        world.airflow.wait_for_dag(f"real_sensor{name}")
    return world


@pytest.fixture
def start(sensors):
    """Start an operation on an item, and return its id."""
    client = GeoCatalogClient(geocatalog_settings(geocatalog_connection(sensors.url, TOKEN)))

    def begin(item_id: str, **members) -> str:
        item = {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": item_id,
            "collection": "real",
            "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
            "bbox": [1.0, 2.0, 1.0, 2.0],
            "properties": {"datetime": "2024-01-01T00:00:00Z"},
            "links": [],
            "assets": {},
            **members,
        }
        return client.create_item("real", item).operation.operation_id

    return begin


def had_worker(world, dag_id, run_id):
    return world.airflow.task_instance(dag_id, run_id, "ingest")["pid"] is not None


@pytest.mark.parametrize("dag_id", ["real_sensor", "real_sensor_of_task"])
def test_a_sensor_that_succeeds_has_no_worker_and_a_result(sensors, start, dag_id):
    operation_id = start(f"waited-for-{dag_id}")
    run_id = sensors.trigger(dag_id, operation=operation_id)

    assert sensors.ended(dag_id, run_id)["state"] == "success"
    assert sensors.airflow.xcom(dag_id, run_id, "ingest")["operation_id"] == operation_id
    links = sensors.airflow.links(dag_id, run_id, "ingest")
    assert set(links) == {link.name for link in LINKS}
    assert operation_id in links[GeoCatalogOperationLink.name]
    assert not had_worker(sensors, dag_id, run_id)


def test_a_failure_is_explained_on_a_worker(sensors, start):
    operation_id = start("broken", geometry=None)
    run_id = sensors.trigger("real_sensor", operation=operation_id)

    assert sensors.ended("real_sensor", run_id)["state"] == "failed"
    assert had_worker(sensors, "real_sensor", run_id)
    log = sensors.airflow.task_log("real_sensor", run_id, "ingest")
    assert f"StacValidationFailed: operation {operation_id} (AddItem, collection 'real') failed" in log
    assert f"/inma/operations/{operation_id}?api-version=" in log


def test_a_timeout_in_the_triggerer_is_the_sensors_own(sensors, start):
    held = sensors.emulator.faults.add("hold", status="Running", types=["AddItem"])
    try:
        run_id = sensors.trigger("real_sensor_timeout", operation=start("held"))
        ended = sensors.ended("real_sensor_timeout", run_id)
    finally:
        sensors.emulator.faults.remove(held)

    log = sensors.airflow.task_log("real_sensor_timeout", run_id, "ingest")
    assert ended["state"] == "failed"
    assert "AirflowSensorTimeout" in log
    assert "did not end within 5 s: it is Running" in log


def test_mapped_sensors_wait_each_for_its_own(sensors, start):
    ids = [start("mapped-0"), start("mapped-1")]
    run_id = sensors.trigger("real_sensor_mapped", operations=ids)

    assert sensors.ended("real_sensor_mapped", run_id)["state"] == "success"
    results = [sensors.airflow.xcom("real_sensor_mapped", run_id, "ingest", index) for index in range(2)]
    assert [result["operation_id"] for result in results] == ids
