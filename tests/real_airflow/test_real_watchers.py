"""
Asset watchers on real components: their DAGs start once for each event, also after the triggerer was killed.

In an Airflow of its own: a watcher looks from the moment on at which its DAG is read, and the other tests count looks.
"""

from __future__ import annotations

import datetime
import textwrap
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_geocatalog.api.flows.sources import Rotate, ensure_sas_source
from airflow_provider_geocatalog.assets import collection_uri
from airflow_provider_geocatalog.triggers.watching import HANDED_OVER
from demo.connections import mint_sas
from tests.fakes.items import stac_item
from tests.fakes.real_world import COLLECTION, World, client_of, real_world, wait_until
from tests.fakes.stubborn_stac_api import StubbornStacApi, tiny_items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

EXAMPLE, MIRRORED = "geocatalog_assets", "sentinel-2-l2a"
INTERVAL = 1.0  # seconds between looks
NEW_ITEMS, SOURCES = "geocatalog_new_items", "geocatalog_sources"  # assets of the example

#: Beside the example's own: watchers of operations, and others that look at what those of the example look at.
DAGS = textwrap.dedent(
    f"""
    import runpy

    import pendulum
    from airflow.sdk import DAG, Asset, AssetWatcher, task

    from airflow_provider_geocatalog.triggers.events import GeoCatalogOperationEndedTrigger
    from airflow_provider_geocatalog.triggers.watchers import GeoCatalogSourceExpiringTrigger, StacApiNewItemsTrigger

    SOURCE = runpy.run_path(__file__.replace("real_watchers", "{EXAMPLE}"))["SOURCE"]
    LOOKS = {{"poll_interval": {INTERVAL}}}

    def watched(name, trigger):
        return Asset(name, watchers=[AssetWatcher(name=name, trigger=trigger)])

    assets = {{
        "ended": watched("ended", GeoCatalogOperationEndedTrigger(**LOOKS)),
        "failed": watched("failed", GeoCatalogOperationEndedTrigger(outcomes=["failed"], **LOOKS)),
        "runs": watched("runs", GeoCatalogOperationEndedTrigger(types=["IngestionStaticCatalog"], **LOOKS)),
        "tomorrow": watched("tomorrow", GeoCatalogSourceExpiringTrigger(expires_within=48 * 3600, **LOOKS)),
        "pairs": watched("pairs", StacApiNewItemsTrigger(source=SOURCE, field="datetime", min_items=2, **LOOKS)),
        "hourly": watched("hourly", StacApiNewItemsTrigger(source=SOURCE, field="datetime", overlap=60, **LOOKS)),
    }}

    for name, asset in assets.items():
        with DAG(f"real_{{name}}", schedule=[asset], start_date=pendulum.datetime(2026, 1, 1, tz="UTC")):

            @task
            def report_events(triggering_asset_events):
                return [event.extra["payload"] for several in triggering_asset_events.values() for event in several]

            report_events()
    """
)


@dataclass
class Watching:
    """
    Everything that a test looks at.

    :param api: The STAC API at which the example looks.
    """

    world: World
    api: StubbornStacApi

    def put(self, *names: str) -> None:
        """Have new items appear, all of the present time, which is in the past when somebody looks next."""
        now = datetime.datetime.now(datetime.UTC)
        for name in names:
            (item,) = tiny_items(1, collection=MIRRORED, start=now.isoformat())
            self.api.put({**item, "id": name} | _PLACE)

    def create_item(self, name: str) -> str:
        """Have an operation end, and return its id."""
        client = client_of(self.world)
        started = client.create_item(COLLECTION, {**stac_item(name), "collection": COLLECTION})
        return str(client.wait(started, timeout=60).operation.operation_id)

    def rotate(self, *, hours: float) -> datetime.datetime:
        """Give the source of the container a token that lives for so long, and return when it ends."""
        lived = datetime.datetime.now(datetime.UTC) - _week() + datetime.timedelta(hours=hours)
        make = lambda: mint_sas(lived)  # noqa: E731
        client_of(self.world).run(
            ensure_sas_source(self.world.small.url, make, min_lifetime=60, rotate=Rotate.ALWAYS, if_exists_fail=False)
        )
        return (lived + _week()).replace(microsecond=0)

    # --- what Airflow has of it ---

    def events(self, asset: str) -> list[dict[str, Any]]:
        """Payloads of an asset's events, oldest first."""
        sql = f"""
            SELECT event.extra FROM asset_event event JOIN asset ON asset.id = event.asset_id
            WHERE asset.name = '{asset}' ORDER BY event.id
        """
        return [extra["payload"] for (extra,) in self.world.query(sql)]

    def seen(self, dag_id: str) -> list[dict[str, Any]]:
        """Payloads that the runs of a DAG were started with, of all runs that have ended."""
        runs = self.world.airflow.call("GET", f"/dags/{dag_id}/dagRuns", query={"order_by": "id"})["dag_runs"]
        assert {run["state"] for run in runs} <= {"queued", "running", "success"}
        assert {run["run_type"] for run in runs} <= {"asset_triggered"}
        done = [run["dag_run_id"] for run in runs if run["state"] == "success"]
        return [one for run_id in done for one in self.world.airflow.xcom(dag_id, run_id, "report_events")]

    def told(self, asset: str, dag_id: str, what: Callable[[dict[str, Any]], Any], count: int) -> list[dict[str, Any]]:
        """Wait until a DAG has run with an event for each of so many things, and return its events."""

        def all_told() -> list[dict[str, Any]] | None:
            found = [one for one in self.seen(dag_id) if what(one)]
            return found if len({str(what(one)) for one in found}) >= count else None

        found: list[dict[str, Any]] = wait_until(f"{dag_id} has run with {count} of {asset}", all_told, 180)
        return found

    @property
    def kept(self) -> list[tuple[Any, ...]]:
        """What the watchers remember with their assets, and since when."""
        return self.world.query("SELECT key, value, updated_at FROM asset_state_store ORDER BY key")

    def is_at_rest(self) -> bool:
        """Return after a while whether nothing was fired or remembered in it."""
        before = self.kept
        time.sleep(HANDED_OVER + 3 * INTERVAL)
        return self.kept == before

    @property
    def looks(self) -> Counter[str]:
        """How often each kind of thing was looked at, by whomever."""
        searches = sum(request.search.get("token") is None for request in self.api.searches)
        names = [one.operation for one in self.world.requests()]
        return Counter(
            {"items": searches, "operations": names.count("list_operations"), "sources": names.count("list_sources")}
        )


_PLACE = {"geometry": {"type": "Point", "coordinates": [10.0, 53.5]}, "bbox": [10.0, 53.5, 10.0, 53.5]}


def _week() -> datetime.timedelta:
    return datetime.timedelta(days=7)  # for which the demo's tokens live


@pytest.fixture(scope="module")
def watching(tmp_path_factory) -> Iterator[Watching]:
    with StubbornStacApi() as api:
        environment = {
            "STAC_API_URL": api.url,
            "GEOCATALOG_POLL_INTERVAL": str(INTERVAL),
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
        }
        base = tmp_path_factory.mktemp("watching")
        with real_world(base, examples=[EXAMPLE], environment=environment) as world:
            made = Watching(world, api)
            client = client_of(world)
            client.wait(client.create_collection(_collection()), timeout=60)
            (world.airflow.dags_folder / "real_watchers.py").write_text(DAGS)
            dags = [f"real_{name}" for name in ("ended", "failed", "runs", "tomorrow", "pairs", "hourly")]
            # Airflow runs the watchers of assets that a DAG waits for which is not paused.
            for dag_id in (*dags, "geocatalog_assets_watch", "geocatalog_assets_consume"):
                world.airflow.wait_for_dag(dag_id)
                world.airflow.call("PATCH", f"/dags/{dag_id}", body={"is_paused": False})
            # The first one that asks for its state waits until the triggerer has imported Airflow's own API.
            wait_until("all eight remember something", lambda: len(made.kept) == 8, 240)
            yield made


def _collection() -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": MIRRORED,
        "description": "a test",
        "license": "CC-BY-4.0",
        "links": [],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
    }


# --- events -----------------------------------------------------------------------------------------------------------


def test_new_items_in_a_stac_api_start_a_dag(watching):
    watching.put("first", "second")

    told = watching.told(NEW_ITEMS, "geocatalog_assets_watch", lambda one: one.get("watermark"), 1)

    ids = [name for one in watching.events(NEW_ITEMS) for name in one["ids"]]
    assert sorted(ids) == ["first", "second"]
    assert sum(one["count"] for one in watching.events(NEW_ITEMS)) == 2
    event = told[0]
    assert event["is_complete"] is True
    assert event["bbox"] == [10.0, 53.5, 10.0, 53.5]
    assert event["interval"][0] <= event["interval"][1] == event["watermark"]
    assert event["window"]["field"] == "datetime"
    assert event["window"]["start"] < event["watermark"] < event["window"]["end"]
    assert event["source"].startswith(f"STAC API {watching.api.url}")
    (pair,) = wait_until("the one that waits for two", lambda: watching.events("pairs"), 60)
    assert pair["count"] == 2


def test_ended_operations_and_runs_start_a_dag(watching):
    added = watching.create_item("one")
    world = watching.world
    run_id = world.trigger("real_single", catalog_url=world.catalog("watched", 2))
    assert world.ended("real_single", run_id, timeout=180)["state"] == "success"
    ingested = world.airflow.xcom("real_single", run_id, "ingest")["run_id"]

    told = watching.told("ended", "real_ended", lambda one: one["operation_id"], 2)

    assert [one["operation_id"] for one in told] == [added, ingested]
    run = told[1]
    assert run["items"] == {"total": 2, "succeeded": 2, "failed": 0, "pending": 0}
    assert (run["outcome"], run["status"], run["collection_id"]) == ("succeeded", "Succeeded", COLLECTION)
    assert run["type"] == "IngestionStaticCatalog"
    assert [one["operation_id"] for one in watching.events("runs")] == [ingested]
    assert watching.events("failed") == []


def test_a_source_that_is_about_to_expire_starts_a_dag(watching):
    ends = watching.rotate(hours=3)

    (told,) = watching.told(SOURCES, "geocatalog_assets_watch", lambda one: one.get("source_id"), 1)

    assert told["container_url"] == watching.world.small.url
    assert datetime.datetime.fromisoformat(told["expires_at"]) == ends
    assert 0 < told["seconds_left"] <= 3 * 3600
    assert told["kind"] == "SasToken"
    assert "sig" not in str(told)


# --- how often --------------------------------------------------------------------------------------------------------


def test_watchers_of_the_same_target_share_one_look(watching):
    before, began = watching.looks, time.monotonic()
    wait_until("time goes by", lambda: time.monotonic() > began + 12 * INTERVAL, 60)
    looked, elapsed = watching.looks - before, time.monotonic() - began

    assert set(looked) == {"items", "operations", "sources"}  # of three, three and two watchers
    for count in looked.values():
        assert count <= elapsed / (0.9 * INTERVAL) + 1


# --- restarts ---------------------------------------------------------------------------------------------------------


def test_a_killed_triggerer_loses_nothing_and_repeats_nothing(watching):
    names = [NEW_ITEMS, SOURCES, "ended", "runs", "pairs", "hourly", "tomorrow"]
    wait_until("what was told is remembered, which is some seconds later", watching.is_at_rest, 120)
    before = {name: watching.events(name) for name in names}
    airflow = watching.world.airflow

    airflow.kill("triggerer")
    missed = watching.create_item("missed")
    watching.put("missed-1", "missed-2")
    ends = watching.rotate(hours=1)
    airflow.start("triggerer")
    airflow.wait_healthy()

    ended = len(before["ended"])
    told = watching.told("ended", "real_ended", lambda one: one["operation_id"], ended + 1)
    assert told[-1]["operation_id"] == missed
    watching.told(NEW_ITEMS, "geocatalog_assets_watch", lambda one: one.get("watermark"), len(before[NEW_ITEMS]) + 1)
    watching.told(SOURCES, "geocatalog_assets_watch", lambda one: one.get("expires_at"), len(before[SOURCES]) + 1)
    late = watching.create_item("late")
    watching.told("ended", "real_ended", lambda one: one["operation_id"], ended + 2)
    after = {name: watching.events(name) for name in names}
    news = {name: after[name][len(before[name]) :] for name in names}
    assert all(after[name][: len(before[name])] == before[name] for name in names)
    assert [one["operation_id"] for one in news["ended"]] == [missed, late]
    assert news["runs"] == []
    for name in (NEW_ITEMS, "hourly", "pairs"):
        (event,) = news[name]
        assert sorted(event["ids"]) == ["missed-1", "missed-2"]
    for name in (SOURCES, "tomorrow"):
        (event,) = news[name]
        assert datetime.datetime.fromisoformat(event["expires_at"]) == ends


# --- from one task to the next DAG ------------------------------------------------------------------------------------


def test_a_consumer_sees_what_the_producer_has_done(watching):
    airflow, world = watching.world.airflow, watching.world
    watching.put("produced-1")
    time.sleep(1)  # the next one is of another second
    watching.put("produced-2")
    produced = "geocatalog_assets_produce"
    airflow.call("PATCH", f"/dags/{produced}", body={"is_paused": False})
    path = f"/dags/{produced}/dagRuns"
    (run,) = wait_until("the producer runs", lambda: airflow.call("GET", path)["dag_runs"], 120)

    assert airflow.wait_for_run(produced, run["dag_run_id"], timeout=120)["state"] == "success"

    runs = "/dags/geocatalog_assets_consume/dagRuns"
    (consumed,) = wait_until("the consumer runs", lambda: airflow.call("GET", runs)["dag_runs"], 120)
    assert airflow.wait_for_run("geocatalog_assets_consume", consumed["dag_run_id"], timeout=120)["state"] == "success"
    (change,) = airflow.xcom("geocatalog_assets_consume", consumed["dag_run_id"], "report_changes")
    items = world.emulator.world.collections[MIRRORED].items
    assert change["collection_id"] == MIRRORED
    assert {"produced-1", "produced-2"} <= set(items)
    assert change["counts"]["created"] == len(items)
    assert change["bbox"] == [10.0, 53.5, 10.0, 53.5]
    assert change["interval"][0] < change["interval"][1]
    assert change["watermark"]
    (event,) = airflow.call(
        "GET", f"/dags/geocatalog_assets_consume/dagRuns/{consumed['dag_run_id']}/upstreamAssetEvents"
    )["asset_events"]
    assert event["uri"] == collection_uri(world.url, MIRRORED)
    assert event["source_task_id"] == "transfer"
