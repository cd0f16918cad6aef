"""Sensors for items: new ones in a STAC API, and those that become readable in the GeoCatalog."""

from __future__ import annotations

import asyncio
import datetime
import json
import threading
import time
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise

import pytest
from airflow.models.trigger import Trigger
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    Asset,
    TaskDeferred,
)

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.sensors.items import GeoCatalogItemsSensor, StacApiItemsSensor
from airflow_provider_geocatalog.transfer.callables import ItemsSource
from airflow_provider_geocatalog.transfer.stac_api import StacApiSource
from tests.fakes.airflow_versions import ByAsset
from tests.fakes.clock import FakeClock
from tests.fakes.items import stac_item
from tests.fakes.tasks import TOKEN, TaskInstance

ASSET = Asset("scenes")
LATE = ("__fail__", {"error": "Trigger timeout"})
both_ways = pytest.mark.parametrize("deferrable", [False, True], ids=["poking", "deferred"])


class AssetState(ByAsset):
    """Stands in for Airflow's accessors of the state of a task's assets, which need a scheduler."""

    def __missing__(self, uri):
        return self.setdefault(uri, Store())


class Store:
    def __init__(self):
        self.values = {}

    def get(self, key):
        return json.loads(self.values[key]) if key in self.values else None

    def set(self, key, value):
        self.values[key] = json.dumps(value)


@pytest.fixture
def context():
    return {"ti": TaskInstance(), "task_state_store": None, "asset_state_store": AssetState()}


@pytest.fixture
def put(world, documents):
    """Put items into the collection, with ``updated`` as given."""
    client = GeoCatalogHook().client
    client.create_collection(documents())

    def put(*ids, collection="demo", **properties):
        items = [{**stac_item(item_id), "collection": collection} for item_id in ids]
        for item in items:
            item["properties"] = {**item["properties"], **properties}
        client.create_item(collection, {"type": "FeatureCollection", "features": items})

    return put


@pytest.fixture
def impatient(put):
    """Let the pauses between the client's attempts take no time."""
    FakeClock(time.time()).drive(GeoCatalogHook().client)


def execute(sensor, context):
    """Execute a sensor; a deferral is followed through its trigger, stored as Airflow stores it."""
    sensor.first_delay = 0.0
    try:
        return sensor.execute(context)
    except TaskDeferred as deferred:
        trigger = stored(deferred.trigger)

        async def fire():
            return [event.payload async for event in trigger.run()]

        [event] = asyncio.run(fire())
        return sensor.resume_execution(deferred.method_name, {"event": json.loads(json.dumps(event))}, context)


def stored(trigger):
    """Return what a triggerer makes of a trigger."""
    row = Trigger.from_object(trigger)
    module, name = row.classpath.rsplit(".", 1)
    return getattr(import_module(module), name)(**row.kwargs)


@pytest.fixture
def after_looks(world):
    """Do something as soon as so many searches have been answered."""

    @contextmanager
    def after_looks(count, work):
        def watch():
            deadline = time.monotonic() + 20
            while searches(world) < count and time.monotonic() < deadline:
                time.sleep(0.01)
            work()

        watching = threading.Thread(target=watch)
        world.server.emulator.requests.clear()
        watching.start()
        try:
            yield
        finally:
            watching.join()

    return after_looks


def searches(world):
    return sum(request.operation == "search" for request in world.server.emulator.requests.copy())


def ago(**time_span):
    at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(**time_span)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


# --- items that become readable ---------------------------------------------------------------------------------------


def readable(**arguments):
    return GeoCatalogItemsSensor(
        **{"task_id": "readable", "collection_id": "demo", "poke_interval": 0.1, "timeout": 20, **arguments}
    )


@both_ways
def test_all_of_the_ids_have_to_be_there(put, after_looks, context, deferrable):
    put("a", "b")
    with after_looks(2, lambda: put("c")):
        found = execute(readable(ids=["a", "b", "c", "a"], deferrable=deferrable), context)
    assert found == {"collection_id": "demo", "count": 3, "ids": ["a", "b", "c"]}


@both_ways
def test_so_many_have_to_match_the_search(put, after_looks, context, deferrable):
    put("a", "b", datetime="2024-06-01T00:00:00Z")
    put("c", "d", "e", datetime="2023-06-01T00:00:00Z")
    search = {"datetime": "2024-01-01T00:00:00Z/..", "filter": "eo:cloud_cover < 5"}
    sensor = readable(search={**search, "filter": "id <> 'b'"}, min_items=2, deferrable=deferrable)
    with after_looks(2, lambda: put("f", datetime="2024-07-01T00:00:00Z")):
        found = execute(sensor, context)
    assert (found["count"], sorted(found["ids"])) == (2, ["a", "f"])


def test_any_item_will_do_where_nothing_is_said(put, context):
    put("a")
    assert execute(readable(), context)["ids"] == ["a"]


def test_of_many_items_no_more_than_is_needed_are_read(world, put, context):
    put(*[f"i-{number}" for number in range(300)])
    world.server.emulator.requests.clear()
    found = execute(readable(min_items=120), context)
    assert (found["count"], len(found["ids"])) == (120, 100)
    assert [one.operation for one in world.server.emulator.requests] == ["search"]


def test_what_was_there_is_not_asked_for_again(world, put, after_looks, context):
    ids = [f"i-{number}" for number in range(250)]
    put(*ids[:200])
    with after_looks(3, lambda: put(*ids[200:])):
        execute(readable(ids=ids, poke_interval=1), context)
    assert searches(world) == 3 + 1


@both_ways
def test_the_timeout_names_what_is_missing(put, context, deferrable):
    put("there")
    ids = ["there", *(f"gone-{number:02}" for number in range(25))]
    with pytest.raises(AirflowSensorTimeout) as caught:
        execute(readable(ids=ids, deferrable=deferrable, timeout=0.4), context)
    named = ", ".join(f"gone-{number:02}" for number in range(20))
    assert f"25 of 26 items cannot be read in collection demo: {named} and 5 more" in str(caught.value)


@both_ways
def test_the_timeout_says_how_many_match(put, context, deferrable):
    put("there")
    with pytest.raises(AirflowSensorTimeout, match="has 1 items that match the search; 3 are waited for"):
        execute(readable(search={"bbox": [0, 0, 3, 3]}, min_items=3, deferrable=deferrable, timeout=0.4), context)


def test_ids_that_are_there_by_the_time_of_airflows_timeout_are_a_success(put, context):
    put("a")
    assert readable(ids=["a"], deferrable=True).resume_execution(*LATE, context)["count"] == 1
    with pytest.raises(AirflowSensorTimeout, match="1 of 1 items cannot be read in collection demo: b"):
        readable(ids=["b"], deferrable=True).resume_execution(*LATE, context)


@both_ways
@pytest.mark.usefixtures("impatient")
def test_outages_are_borne(world, put, after_looks, context, deferrable):
    put("a")
    fault = world.server.emulator.faults.add("status", status=503, operations=["search"])
    with after_looks(60, world.server.emulator.faults.clear):
        assert execute(readable(ids=["a"], deferrable=deferrable), context)["count"] == 1
    assert fault.hits >= 60  # more than the client's own attempts


@both_ways
@pytest.mark.usefixtures("impatient")
def test_the_timeout_says_that_looking_failed(world, context, deferrable):
    world.server.emulator.faults.add("status", status=503, operations=["search"])
    with pytest.raises(AirflowSensorTimeout, match=r"the last look failed: .* answered 503"):
        execute(readable(ids=["a"], deferrable=deferrable, timeout=0.4), context)


@both_ways
def test_who_may_not_look_fails_at_once(world, reconnect, context, deferrable):
    reconnect(token="somebody-elses")
    with pytest.raises(AirflowFailException, match="answered 401") as caught:
        execute(readable(ids=["a"], deferrable=deferrable), context)
    assert "somebody-elses" not in str(caught.value)
    with pytest.raises(AirflowSkipException):
        execute(readable(ids=["a"], deferrable=deferrable, soft_fail=True), context)


def test_who_may_not_look_any_more_fails_when_deferred(world, put, after_looks, reconnect, context):
    sensor = readable(ids=["a"], deferrable=True)
    with after_looks(2, lambda: reconnect(token="somebody-elses")), pytest.raises(AirflowFailException, match="401"):
        execute(sensor, context)


def test_no_ids_are_there_at_once(world, context):
    assert execute(readable(ids=[]), context) == {"collection_id": "demo", "count": 0, "ids": []}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"ids": ["a"], "search": {}}, "not by both"),
        ({"ids": ["a"], "min_items": 1}, "not by both"),
        ({"min_items": 0}, "at least 1"),
        ({"min_items": "3"}, "whole number"),
        ({"ids": ["a"], "deferrable": True, "poke_interval": 0}, "above 0"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_are_refused_when_the_dag_is_read(arguments, says):
    with pytest.raises(GeoCatalogInvalidInput, match=says):
        readable(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"ids": "a"},
        {"ids": ["a", ""]},
        {"ids": ["a", None]},
        {"search": {"limit": 5}},
        {"search": {"ids": ["a"]}},
        {"search": {"bbox": [1, 2, 3]}},
        {"search": {"datetime": "yesterday"}},
    ],
    ids=str,
)
def test_rendered_arguments_that_cannot_be_fail_before_anything_is_sent(world, context, arguments):
    with pytest.raises(AirflowFailException):
        execute(readable(**arguments), context)
    assert not world.server.emulator.requests


# --- new items in a STAC API ------------------------------------------------------------------------------------------


@pytest.fixture
def new(world, monkeypatch):
    """Make a sensor for the emulator, which is a STAC API as well."""
    monkeypatch.setenv("AIRFLOW_CONN_STAC", json.dumps({"conn_type": "http", "password": TOKEN}))

    def make(source=None, **arguments):
        source = {"collections": ["demo"], "conn_id": "stac", "retry_delay": 0.0, "max_retries": 0, **(source or {})}
        source = StacApiSource(**{"url": f"{world.server.url}/stac?api-version=2025-04-30-preview", **source})
        defaults = {"task_id": "new", "poke_interval": 0.1, "timeout": 20, "watermark_asset": ASSET}
        return StacApiItemsSensor(source=source, **{**defaults, **arguments})

    return make


def kept(context, key="geocatalog_watermark__dag.task"):
    return context["asset_state_store"][ASSET].get(key)


@both_ways
def test_new_items_are_found_once(put, after_looks, new, context, deferrable):
    put("old", updated=ago(days=2))
    first, second, late = ago(hours=3), ago(hours=2), ago(hours=2.5)
    put("a", updated=first)
    put("b", updated=second)
    arguments = {"start": ago(days=1), "overlap": datetime.timedelta(hours=1), "deferrable": deferrable}

    found = execute(new(**arguments), context)

    assert (found["count"], sorted(found["ids"]), found["is_complete"]) == (2, ["a", "b"], True)
    assert found["watermark"] == second == kept(context)["value"]
    assert kept(context)["field"] == found["window"]["field"] == "updated"
    assert found["window"]["start"] < arguments["start"]
    assert second < found["window"]["end"] < ago(seconds=-1)
    assert found["bbox"] == [1, 2, 1, 2]
    assert found["interval"] == ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"]

    put("late", updated=late)  # does not count, but is in the window of what does
    again = new(**arguments)
    with after_looks(2, lambda: put("c", updated=ago(seconds=1))):
        found = execute(again, context)
    assert found["ids"] == ["c"]
    assert found["window"]["start"] < late < found["window"]["end"]
    assert kept(context)["value"] == found["watermark"] > second


@both_ways
def test_fewer_than_are_waited_for_are_not_enough(put, new, context, deferrable):
    put("a", "b", updated=ago(hours=1))
    with pytest.raises(AirflowSensorTimeout) as caught:
        execute(new(min_items=3, start=ago(hours=2), timeout=0.4, deferrable=deferrable), context)
    assert "/stac, demo has 2 items whose 'updated' is after" in str(caught.value)
    assert "3 are waited for" in str(caught.value)
    assert kept(context) is None


def test_counting_ends_where_nobody_wants_to_know(world, put, new, context):
    put(*[f"i-{number}" for number in range(300)], updated=ago(hours=1))
    world.server.emulator.requests.clear()
    found = execute(new({"limit": 50}, start=ago(hours=2), max_count=120), context)
    assert (found["count"], found["is_complete"], len(found["ids"])) == (120, False, 100)
    assert searches(world) < 5


def test_the_watermark_can_be_left_to_what_follows(put, new, context, monkeypatch):
    put("a", updated=ago(hours=5))
    put("b", updated=ago(hours=1))
    monkeypatch.setenv("AIRFLOW_VAR_GEOCATALOG_WATERMARK__MIRROR", ago(hours=2))
    sensor = new(commit=False, watermark="mirror", watermark_asset=None)
    assert execute(sensor, context)["ids"] == execute(sensor, context)["ids"] == ["b"]


def test_a_run_that_was_slower_does_not_move_the_watermark_back(put, new, context):
    put("a", updated=ago(hours=2))
    put("b", updated=ago(hours=1))
    newest = execute(new(), context)["watermark"]
    slower = {"outcome": "found", "result": {"watermark": ago(hours=2)}}  # another run has waited since before that one
    assert new(deferrable=True).execute_complete(context, slower) == slower["result"]
    assert kept(context)["value"] == newest


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({}, ["days"]),
        ({"lookback": datetime.timedelta(days=3)}, ["days", "weeks"]),
        ({"data_interval_start": datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30)}, ["days", "weeks"]),
        ({"start": "2020-01-01"}, ["days", "weeks", "years"]),
    ],
    ids=["the last day", "lookback", "data interval", "start"],
)
def test_where_the_first_look_begins(put, new, context, arguments, found):
    put("days", updated=ago(hours=20))
    put("weeks", updated=ago(days=2))
    put("years", updated=ago(days=400))
    if "data_interval_start" in arguments:
        context["data_interval_start"] = arguments.pop("data_interval_start")
    assert sorted(execute(new(**arguments), context)["ids"]) == found


def test_an_item_at_the_very_start_is_new_and_one_at_the_watermark_is_not(put, new, context):
    at = ago(hours=1)
    put("a", updated=at)
    assert execute(new(start=at), context)["ids"] == ["a"]
    with pytest.raises(AirflowSensorTimeout):
        execute(new(start=at, timeout=0.2), context)


def test_items_of_the_future_wait_for_their_time(put, new, context):
    put("wrong", datetime="2099-01-01T00:00:00Z")
    put("right", datetime=ago(hours=1))
    found = execute(new(field="datetime"), context)
    assert found["ids"] == ["right"]
    assert kept(context)["value"] < ago(seconds=0)


def test_a_watermark_of_another_field_is_refused(put, new, context):
    put("a", updated=ago(hours=1))
    execute(new(), context)
    with pytest.raises(AirflowFailException, match="is a watermark of 'updated'"):
        execute(new(field="datetime"), context)


@both_ways
def test_an_api_that_is_away_is_borne(world, put, after_looks, new, context, deferrable):
    put("a", updated=ago(hours=1))
    fault = world.server.emulator.faults.add("status", status=503, methods=["POST"])
    with after_looks(2, world.server.emulator.faults.clear):
        assert execute(new(deferrable=deferrable), context)["ids"] == ["a"]
    assert fault.hits > 1


@both_ways
def test_the_timeout_says_that_the_api_was_away(world, put, new, context, deferrable):
    world.server.emulator.faults.add("status", status=503)
    with pytest.raises(AirflowSensorTimeout, match=r"the last look failed: .*503"):
        execute(new(deferrable=deferrable, timeout=0.4), context)


@both_ways
def test_an_api_that_refuses_fails_the_task_at_once(put, new, context, deferrable, monkeypatch):
    secret = "somebody-elses-token"
    monkeypatch.setenv("AIRFLOW_CONN_STAC", json.dumps({"conn_type": "http", "password": secret}))
    with pytest.raises(AirflowFailException, match="401") as caught:
        execute(new(deferrable=deferrable), context)
    assert secret not in str(caught.value)
    with pytest.raises(AirflowSkipException):
        execute(new(deferrable=deferrable, soft_fail=True), context)


def test_items_that_cannot_be_told_apart_by_time_fail_the_task(context):
    source = ItemsSource([stac_item("a"), stac_item("b")])
    sensor = StacApiItemsSensor(task_id="new", source=source, watermark_asset=ASSET)
    with pytest.raises(AirflowFailException, match=r"none of the 2 items of .* has 'updated'"):
        execute(sensor, context)


def test_the_source_is_rendered(put, new, context):
    from jinja2 import Environment

    put("a", updated=ago(hours=1))
    sensor = new({"collections": ["{{ which }}"]}, watermark="{{ which }}", start="{{ since }}")
    sensor.render_template_fields({"which": "demo", "since": ago(hours=2)}, Environment())
    assert execute(sensor, context)["ids"] == ["a"]
    assert kept(context, "geocatalog_watermark__demo") is not None


def test_reading_does_not_hold_up_the_triggerer(world, put, new, context):
    put("a", updated=ago(hours=1))
    with pytest.raises(TaskDeferred) as deferred:
        new(start=ago(minutes=1), deferrable=True).execute(context)
    trigger = stored(deferred.value.trigger)
    trigger.first_delay = 0.0
    world.server.emulator.faults.add("latency", seconds=3)
    asked = len(world.server.emulator.requests)

    async def stop_while_it_reads():
        waiting = asyncio.create_task(anext(trigger.run()))
        beats = [time.monotonic()]
        while len(beats) < 100:
            await asyncio.sleep(0.01)
            beats.append(time.monotonic())
        waiting.cancel()
        await asyncio.wait([waiting])
        return max(later - earlier for earlier, later in pairwise([*beats, time.monotonic()])), waiting.cancelled()

    longest, is_cancelled = asyncio.run(stop_while_it_reads())
    assert is_cancelled
    assert longest < 1.5
    assert len(world.server.emulator.requests) <= asked + 2  # nobody went on with the search


SECRET = "s3cr3t-of-the-api"


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param({"auth": lambda request: request}, id="auth"),
        pytest.param({"headers": lambda: {"Authorization": SECRET}}, id="function of headers"),
        pytest.param({"headers": {"Authorization": f"Bearer {SECRET}"}}, id="headers"),
        pytest.param({"headers": {"X-Mine": SECRET}}, id="headers by any name"),
        pytest.param({"url": f"https://example.com/stac?api_key={SECRET}"}, id="api_key"),
        pytest.param({"url": f"https://example.com/stac?f=json&vendorToken={SECRET}"}, id="token by any name"),
        pytest.param({"url": f"https://example.com/stac?sp=rl&sig={SECRET}"}, id="signature"),
        pytest.param({"url": f"https://user:{SECRET}@example.com/stac"}, id="password"),
        pytest.param({"url": f"https://{SECRET}@example.com/stac"}, id="user"),
        pytest.param({"query": {"href": {"eq": f"https://example.com/x?sig={SECRET}"}}}, id="signature in a query"),
    ],
)
def test_what_cannot_be_sent_to_the_triggerer_is_refused_when_the_dag_is_read(new, secret):
    with pytest.raises(GeoCatalogInvalidInput, match=r"cannot be sent to the triggerer.*deferrable=False") as caught:
        new(secret, deferrable=True)
    assert SECRET not in str(caught.value)
    new(secret)  # a worker keeps it to itself


def test_functions_can_wait_in_the_worker(put, new, context):
    put("a", updated=ago(hours=1))
    assert execute(new({"headers": lambda: {"Authorization": f"Bearer {TOKEN}"}, "conn_id": None}), context)["count"]


def test_a_secret_in_a_rendered_url_is_not_sent_to_the_triggerer(world, put, new, context):
    from jinja2 import Environment

    sensor = new({"url": "{{ url }}"}, deferrable=True)
    url = f"{world.server.url}/stac?api-version=2025-04-30-preview&subscription-key={SECRET}"
    sensor.render_template_fields({"url": url}, Environment())
    with pytest.raises((GeoCatalogInvalidInput, AirflowFailException), match="cannot be sent to the triggerer") as told:
        sensor.execute(context)
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"field": "published"},
        {"min_items": 0},
        {"min_items": 20, "max_count": 10},
        {"max_count": 2.5},
        {"overlap": datetime.timedelta(seconds=-1)},
        {"lookback": datetime.timedelta(seconds=-1)},
        {"deferrable": True, "poke_interval": 0},
        {"source": "https://example.com/stac"},
    ],
    ids=str,
)
def test_sensors_that_could_find_nothing_are_refused_when_the_dag_is_read(arguments):
    source = StacApiSource(url="https://example.com/stac")
    with pytest.raises(GeoCatalogInvalidInput):
        StacApiItemsSensor(**{"task_id": "new", "source": source, **arguments})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"start": "soon"}, "start has to be"), ({"watermark": "a b"}, "name of a watermark")],
    ids=str,
)
def test_rendered_arguments_that_are_none_fail_the_task(world, new, context, arguments, says):
    with pytest.raises(AirflowFailException, match=says):
        execute(new(**arguments), context)
    assert not world.server.emulator.requests


def test_mapped_sensors_need_watermarks_of_their_own(world, new, context):
    context["ti"] = TaskInstance(map_index=3)
    with pytest.raises(AirflowFailException, match="watermark of its own"):
        execute(new(), context)


def test_the_asset_of_the_watermark_is_an_inlet_once():
    source = StacApiSource(url="https://example.com/stac")
    for more in ({}, {"inlets": [ASSET]}):
        assert StacApiItemsSensor(task_id="new", source=source, watermark_asset=ASSET, **more).inlets == [ASSET]
    assert StacApiItemsSensor(task_id="new", source=source, watermark_asset=ASSET, outlets=[ASSET]).inlets == []
