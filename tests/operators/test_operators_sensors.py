"""Sensors: where they start, where they end, what they say when they do not succeed."""

from __future__ import annotations

import asyncio
import datetime
import json
import time
import uuid

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    Asset,
    TaskDeferred,
    task,
    task_group,
)
from airflow.triggers.base import BaseTrigger, TaskSuccessEvent

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.sensors.ingestion import GeoCatalogIngestionRunSensor, GeoCatalogOperationSensor

needs_rendering_triggerer = pytest.mark.skipif(
    not hasattr(BaseTrigger, "render_template_fields"), reason="this Airflow starts nothing in the triggerer"
)
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
GONE = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def started(world, documents):
    """Start an operation on an item, and return its id."""
    world.run(GeoCatalogCreateCollectionOperator(task_id="c", collection=documents()))

    def start() -> str:
        item = {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": "i",
            "collection": "demo",
            "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
            "bbox": [1.0, 2.0, 1.0, 2.0],
            "properties": {"datetime": "2024-01-01T00:00:00Z"},
            "links": [],
            "assets": {},
        }
        return GeoCatalogHook().client.create_item("demo", item).operation.operation_id

    return start


def sensor(operation_id=GONE, **arguments):
    return GeoCatalogOperationSensor(
        **{"task_id": "wait", "operation_id": operation_id, "deferrable": True, "poke_interval": 0.2, **arguments}
    )


def in_dag(**arguments):
    """Return a sensor of a DAG after the way through the database."""
    with DAG("d", start_date=START, schedule=None) as dag:
        sensor(**arguments)
    return stored(dag)


def stored(dag):
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag)))).get_task("wait")


def in_triggerer(dag, conf=None):
    """Make the trigger of a sensor that starts in the triggerer as Airflow's processes make it, up to its run."""
    from airflow.executors.workloads.task import TaskInstanceDTO
    from airflow.jobs.triggerer_job_runner import TriggerRunner
    from airflow.models.trigger import Trigger
    from airflow.sdk.module_loading import import_string
    from airflow.serialization.decoders import smart_decode_trigger_kwargs
    from airflow.serialization.serialized_objects import DagSerialization

    encoded = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    started = DagSerialization.from_dict(encoded).get_task("wait").start_trigger_args
    kept = Trigger._decrypt_kwargs(Trigger.encrypt_kwargs(started.trigger_kwargs))
    trigger = import_string(started.trigger_cls)(**{k: smart_decode_trigger_kwargs(v) for k, v in kept.items()})
    ti = TaskInstanceDTO(
        id=uuid.uuid4(),
        dag_version_id=uuid.uuid4(),
        task_id="wait",
        dag_id=dag.dag_id,
        run_id="r",
        try_number=1,
        map_index=-1,
        pool_slots=1,
        priority_weight=1,
        queue="default",
    )
    run = {
        "dag_id": dag.dag_id,
        "run_id": "r",
        "logical_date": START,
        "data_interval_start": START,
        "data_interval_end": START,
        "run_after": START,
        "start_date": START,
        "end_date": None,
        "run_type": "manual",
        "state": "running",
        "conf": conf or {},
        "consumed_asset_events": [],
        "partition_key": None,
        "partition_date": None,
    }
    runtime = TriggerRunner.create_runtime_ti(ti, encoded, run)
    trigger.task_instance = runtime
    trigger.render_template_fields(context=runtime.get_template_context())
    return trigger


def fire(trigger):
    async def first():
        return await anext(trigger.run())

    return asyncio.run(first())


# --- where sensors start --------------------------------------------------------------------------------------------


@needs_rendering_triggerer
def test_a_sensor_starts_and_ends_in_the_triggerer(world, started):
    operation_id = started()
    with DAG("d", start_date=START, schedule=None, params={"operation": ""}) as dag:
        sensor("{{ params.operation }}", timeout=60)
    arguments = stored(dag).start_trigger_args
    before = len(world.writes)

    trigger = in_triggerer(dag, conf={"operation": operation_id})
    event = fire(trigger)

    assert (arguments.next_method, arguments.timeout) == ("execute_complete", datetime.timedelta(seconds=60))
    assert isinstance(event, TaskSuccessEvent)
    assert (event.xcoms["return_value"]["operation_id"], event.xcoms["return_value"]["status"]) == (
        operation_id,
        "Succeeded",
    )
    assert len(world.writes) == before


@needs_rendering_triggerer
def test_all_ids_of_a_run_are_rendered_in_the_triggerer():
    ids = {name: f"{{{{ dag_run.conf.{name} }}}}" for name in ("collection_id", "ingestion_id", "run_id")}
    with DAG("d", start_date=START, schedule=None) as dag:
        GeoCatalogIngestionRunSensor(task_id="wait", deferrable=True, geocatalog_conn_id="{{ run_id }}", **ids)

    trigger = in_triggerer(dag, conf={"collection_id": "c", "ingestion_id": "i", "run_id": "u"})

    _, arguments = trigger.serialize()
    assert [arguments[name] for name in (*ids, "geocatalog_conn_id")] == ["c", "i", "u", "r"]
    assert trigger.operation_id == "u"


@needs_rendering_triggerer
@pytest.mark.parametrize(
    ("world", "status"), [({}, "Failed"), ({"items_per_second": 0.01}, "Canceled")], indirect=["world"]
)
def test_what_does_not_succeed_goes_on_to_a_worker_that_explains(world, started, status):
    if status == "Failed":
        world.server.emulator.faults.add("end_operation", status="Failed", code="InvalidInputData", types=["AddItem"])
    operation_id = started()
    if status == "Canceled":
        GeoCatalogHook().client.cancel_operation(operation_id)
    with DAG("d", start_date=START, schedule=None) as dag:
        one = sensor(operation_id)

    event = fire(in_triggerer(dag))

    assert not isinstance(event, TaskSuccessEvent)
    with pytest.raises(AirflowFailException) as caught:
        one.execute_complete({}, event=event.payload)
    for part in (operation_id, "(AddItem, collection 'demo')", "Last states:", f"{world.server.url}/inma/operations/"):
        assert part in str(caught.value), part


@needs_rendering_triggerer
@pytest.mark.parametrize(
    ("arguments", "starts", "ends"),
    [
        ({}, True, True),
        ({"operation_id": "{{ params.x }}-{{ ds }}"}, True, True),
        ({"operation_id": "{{ ti.xcom_pull(task_ids='x', map_indexes=-1)['id'] }}"}, True, True),
        ({"operation_id": "{{ ti.xcom_pull(task_ids='x')['id'] }}"}, False, True),
        ({"operation_id": "{{ my_macro() }}"}, False, True),
        ({"operation_id": "{{ params.x | my_filter }}"}, False, True),
        ({"operation_id": "{{ my_macro() }}", "start_from_trigger": True}, True, True),
        ({"start_from_trigger": False}, False, True),
        ({"deferrable": False}, False, True),
        ({"deferrable": False, "start_from_trigger": True}, False, True),
        ({"on_execute_callback": print}, False, True),
        ({"pre_execute": print}, False, True),
        ({"outlets": [Asset("geo://x")]}, True, False),
        ({"on_success_callback": print}, True, False),
        ({"post_execute": print}, True, False),
        ({"do_xcom_push": False}, True, False),
        ({"multiple_outputs": True}, True, False),
    ],
)
def test_a_worker_is_left_out_only_where_it_has_nothing_to_do(arguments, starts, ends):
    kept = in_dag(**arguments)

    assert kept.start_from_trigger is starts
    if starts:
        assert kept.start_trigger_args.trigger_kwargs["__var"]["ends_task"] is ends
    else:
        assert kept.start_trigger_args is None
        deferred = sensor(**{**arguments, "start_from_trigger": False})
        assert deferred._options()["ends_task"] is ends


@needs_rendering_triggerer
def test_a_users_subclass_and_another_xcom_backend_have_their_say(monkeypatch):
    class Extended(GeoCatalogOperationSensor):
        pass

    extended = Extended(task_id="wait", operation_id="x", deferrable=True)
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "somebody.elses.XCom")
    plain = sensor()

    assert (extended.start_from_trigger, extended._options()["ends_task"]) == (False, False)
    assert (plain.start_from_trigger, plain._options()["ends_task"]) == (True, False)


@needs_rendering_triggerer
def test_the_result_of_another_task_is_asked_for_as_a_triggerer_can():
    with DAG("d", start_date=START, schedule=None) as dag:

        @task
        def start():
            return "x"

        sensor(start())

    kept = stored(dag)

    assert kept.start_from_trigger is True
    wanted = "{{ ti.xcom_pull(task_ids='start', dag_id='d', key='return_value', map_indexes=-1) }}"
    assert kept.start_trigger_args.trigger_kwargs["__var"]["operation_id"] == wanted
    assert kept.upstream_task_ids == {"start"}


@needs_rendering_triggerer
@pytest.mark.parametrize("explicit", [None, True])
def test_mapped_sensors_begin_on_a_worker(explicit):
    chosen = {} if explicit is None else {"start_from_trigger": explicit}
    with DAG("d", start_date=START, schedule=None) as dag:
        GeoCatalogOperationSensor.partial(task_id="wait", deferrable=True, **chosen).expand(operation_id=["a", "b"])

    assert stored(dag).start_trigger_args is None


@needs_rendering_triggerer
def test_sensors_of_a_mapped_group_begin_on_a_worker():
    with DAG("d", start_date=START, schedule=None) as dag:

        @task_group
        def group(operation_id):
            GeoCatalogOperationSensor(task_id="wait", operation_id=operation_id, deferrable=True)
            GeoCatalogOperationSensor(task_id="fixed", operation_id="x", deferrable=True)

        group.expand(operation_id=["a", "b"])

    assert [dag.get_task(f"group.{name}").start_from_trigger for name in ("wait", "fixed")] == [False, False]


def test_the_class_itself_never_starts_in_the_triggerer():
    sensor()

    assert (GeoCatalogOperationSensor.start_from_trigger, GeoCatalogOperationSensor.start_trigger_args) == (False, None)


@pytest.mark.parametrize("event", [{"outcome": "unreadable", "message": "answered 503"}, {}, None, "success"])
def test_a_trigger_that_gave_up_is_told_with_its_reason(world, started, event):
    world.server.emulator.faults.add("hold", **HELD)
    one = sensor(started())

    with pytest.raises(
        AirflowFailException, match=r"is Running, but could not be waited for: .*\?api-version="
    ) as caught:
        one.execute_complete({}, event=event)
    assert ("answered 503" if isinstance(event, dict) and event else "without saying") in str(caught.value)


# --- time -----------------------------------------------------------------------------------------------------------

HELD = {"status": "Running", "types": ["AddItem"]}
LATE = ("__fail__", {"error": "Trigger timeout"})


@pytest.mark.parametrize("of_airflow", [True, False])
@pytest.mark.parametrize(
    ("options", "raised"),
    [({}, AirflowSensorTimeout), ({"soft_fail": True}, AirflowSkipException)],
)
def test_a_timeout_says_how_far_it_was(world, started, of_airflow, options, raised):
    world.server.emulator.faults.add("hold", **HELD)
    one = sensor(started(), timeout=60, **options)
    method, arguments = LATE if of_airflow else ("execute_complete", {"event": {"outcome": "timeout"}})

    with pytest.raises(raised) as caught:
        one.resume_execution(method, arguments, {})

    error = caught.value.__cause__ if options else caught.value
    assert isinstance(error, AirflowSensorTimeout)
    for part in ("did not end within 60 s: it is Running", one.operation_id, "?api-version="):
        assert part in str(error), part


@pytest.mark.parametrize(("fault", "how_far"), [("hold", "it is Running"), ("status", "its state could not be read")])
def test_a_poking_sensor_says_how_far_it_was_and_tells_of_an_outage_once(world, started, capfd, fault, how_far):
    arguments = HELD if fault == "hold" else {"status": 503, "operations": ["get_operation"]}
    world.server.emulator.faults.add(fault, **arguments)
    operation_id = started()

    with pytest.raises(AirflowSensorTimeout) as caught:
        world.run(sensor(operation_id, deferrable=False, timeout=0.5, poke_interval=0.1))

    for part in (operation_id, how_far, "?api-version="):
        assert part in str(caught.value), part
    assert "".join(capfd.readouterr()).count("answered 503") == (fault == "status")


@pytest.mark.parametrize(
    "arguments",
    [
        {"poke_interval": 0},
        {"min_poll_interval": 0},
        {"outage_budget": -1},
        {"outage_budget": None},
        {"max_failed_items": None},
    ],
    ids=str,
)
def test_numbers_with_which_a_sensor_cannot_wait_are_refused(arguments):
    with pytest.raises(GeoCatalogInvalidInput, match=f"{next(iter(arguments))} has to be"):
        sensor(**arguments)


@pytest.mark.parametrize("operation_id", [None, "", 5, {"a": 1}], ids=str)
def test_an_id_that_is_none_is_told_as_such(world, operation_id):
    with pytest.raises(AirflowFailException, match="cannot be the operation id of a call"):
        world.run(sensor(operation_id, deferrable=False))


def test_what_has_ended_by_the_time_of_the_timeout_is_a_success(started):
    one = sensor(started())

    def ended():
        try:
            return one.resume_execution(*LATE, {})
        except AirflowSensorTimeout:
            time.sleep(0.05)

    assert next(filter(None, iter(ended, object())))["status"] == "Succeeded"


@pytest.mark.parametrize("deferrable", [True, False])
def test_soft_fail_skips_at_the_first_look_as_well(world, deferrable):
    with pytest.raises(AirflowSkipException):
        world.run(sensor(soft_fail=True, deferrable=deferrable))


def test_a_poke_comes_no_earlier_than_the_service_asks_for(world, started):
    operation_id = started()
    world.server.emulator.faults.add("status", status=503, retry_after=2, operations=["get_operation"], times=1)
    began = time.monotonic()

    summary = world.run(sensor(operation_id, deferrable=False, poke_interval=0.1))

    asked = [one for one in world.server.emulator.requests if one.path.endswith(operation_id)]
    assert (summary["status"], [one.status for one in asked]) == ("Succeeded", [503, 200])
    assert time.monotonic() - began >= 2


def test_no_retry_after_makes_a_sensor_miss_its_timeout(world, started):
    operation_id = started()
    world.server.emulator.faults.add("status", status=503, retry_after=600, operations=["get_operation"])
    began = time.monotonic()

    with pytest.raises(AirflowSensorTimeout):
        world.run(sensor(operation_id, deferrable=False, poke_interval=0.1, timeout=0.5))
    assert time.monotonic() - began < 5


def test_a_deferred_sensor_passes_its_intervals_on(world, started):
    world.server.emulator.faults.add("hold", **HELD)
    one = sensor(started(), min_poll_interval=0.5, poke_interval=7, start_from_trigger=False)

    with pytest.raises(TaskDeferred) as deferred:
        one.execute({})

    _, arguments = deferred.value.trigger.serialize()
    assert (arguments["min_poll_interval"], arguments["poll_interval"], arguments["cancel_on_kill"]) == (0.5, 7, False)


def test_a_poking_sensor_survives_the_change_of_its_token(world, started, reconnect):
    operation_id = started()
    one = sensor(operation_id, deferrable=False)
    reconnect(token="somebody-elses")
    with pytest.raises(AirflowFailException, match="answered 401"):
        one.poke({})

    reconnect()

    assert one.poke({})
