"""Transfers on real components: the example DAGs as they are, from STAC APIs over HTTP into the emulator."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_geocatalog.api.flows.collections import IfExists, begin_create_collection
from demo.airflow_stack import free_ports
from demo.leaks import find_secrets, run_texts
from tests.fakes.real_items import DATASETS, real_items
from tests.fakes.real_world import client_of, wait_until
from tests.fakes.stubborn_stac_api import StubbornStacApi, tiny_items

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.real_world import World

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(420)]

EXAMPLES = Path(__file__).parents[2] / "example_dags"
TUTORIAL, MIRROR, BACKFILL, REPAIR, READER = (
    "geocatalog_stac_api_tutorial",
    "geocatalog_daily_mirror",
    "geocatalog_monthly_backfill",
    "geocatalog_repair_items",
    "real_after_mirror",
)
TRANSFERS = {TUTORIAL: "transfer", MIRROR: "mirror", REPAIR: "repair"}  # tasks; that of the backfill is mapped
NAIP, AOI, MONTHS = "naip", "real-aoi", "real-months"  # collections
API_TOKEN = "a-token-for-the-stac-api-that-nobody-may-read"
API_CONNECTION = "real_stac_api"
SPEED = 7.0  # of the emulator, where an item takes a second: slow enough for a wait in the triggerer
MIRRORED, LATE, EDITED, NEW = 200, 10, 4, 30
FAILING = [f"new-{number:03}" for number in range(0, NEW, 4)]

DAGS = textwrap.dedent(
    """
    from __future__ import annotations

    import pendulum
    from airflow.providers.common.compat.sdk import DAG, Asset
    from airflow.providers.standard.operators.empty import EmptyOperator

    START = pendulum.datetime(2026, 1, 1, tz="UTC")

    with DAG("real_after_mirror", schedule=[Asset("geocatalog-mirror")], start_date=START):
        EmptyOperator(task_id="nothing")
    """
)


@dataclass
class Stage:
    """
    What one run of a DAG did.

    :param result: XCom of its transfer, if it succeeded and is one task.
    :param created: Items that operations of the service were told to create.
    :param replaced: Ids of the items that were replaced.
    :param writes: All requests that could change something in the collection.
    :param watermark: What the mirror's asset keeps afterwards.
    """

    dag_id: str
    run_id: str
    state: str
    result: dict[str, Any]
    created: int
    replaced: list[str]
    writes: list[tuple[str, str]]
    watermark: dict[str, Any] | None = None


class Stages:
    """Runs of the four example DAGs, one after the other or side by side."""

    def __init__(self, world: World) -> None:
        self.world, self.airflow = world, world.airflow
        self.done: dict[str, Stage] = {}
        self._began: dict[str, tuple[str, str, str, float, int]] = {}

    def __getitem__(self, name: str) -> Stage:
        return self.done[name]

    def start(self, name: str, dag_id: str, collection_id: str, *, run_id: str = "", **conf: Any) -> None:
        """Trigger a run, or watch one whose tasks were cleared."""
        at, operations_before = self.world.emulator.clock.now(), len(self._operations())
        run_id = run_id or self.airflow.trigger(dag_id, conf)
        self._began[name] = dag_id, run_id, collection_id, at, operations_before

    def end(self, name: str) -> Stage:
        """Wait until it ends."""
        dag_id, run_id, collection_id, at, operations_before = self._began.pop(name)
        state = self.world.ended(dag_id, run_id, 150)["state"]
        writes = [
            (one.method, one.path)
            for one in self.world.requests()
            if one.at >= at and one.method != "GET" and not one.path.endswith("/search")
        ]
        writes = [one for one in writes if re.search(rf"/collections(/{collection_id}(/|$)|$)", one[1])]
        added = [one for one in self._operations()[operations_before:] if one.type == "AddItem"]
        task_id = TRANSFERS.get(dag_id)
        stage = self.done[name] = Stage(
            dag_id,
            run_id,
            state,
            self.airflow.xcom(dag_id, run_id, task_id) if task_id and state == "success" else {},
            sum(one.counters.total for one in added if one.collection_id == collection_id),
            sorted(path.rpartition("/")[2] for method, path in writes if method == "PUT"),
            writes,
            self.watermark() if dag_id == MIRROR else None,
        )
        return stage

    def _operations(self) -> list[Any]:
        with self.world.emulator.world.lock:
            return list(self.world.emulator.world.operations.values())

    def ids(self, collection_id: str) -> set[str]:
        """Ids of all items of a collection."""
        return {item["id"] for item in client_of(self.world).list_items(collection_id, limit=1000)}

    def asset_id(self) -> int:
        found = self.airflow.call("GET", "/assets", query={"name_pattern": "geocatalog-mirror"})["assets"]
        return int(found[0]["id"])

    def watermark(self) -> dict[str, Any] | None:
        kept = self.airflow.call("GET", f"/assets/{self.asset_id()}/state-store")["asset_state_store"]
        return kept[0]["value"] if kept else None


@pytest.fixture(scope="module")
def airflow_with_examples(world: World) -> Iterator[World]:
    airflow = world.airflow
    (airflow.dags_folder / "real_after_mirror.py").write_text(DAGS)
    for dag_id in (TUTORIAL, MIRROR, BACKFILL, REPAIR):
        shutil.copy(EXAMPLES / f"{dag_id}.py", airflow.dags_folder)
    body = {"connection_id": API_CONNECTION, "conn_type": "http", "password": API_TOKEN}
    airflow.call("POST", "/connections", body=body)
    for collection_id in (AOI, MONTHS):
        client_of(world).run(begin_create_collection(_collection(collection_id), if_exists=IfExists.FAIL))
        wait_until("the collection is there", lambda one=collection_id: one in world.emulator.world.collections, 20)
    airflow.wait_for_dag(READER)
    airflow.call("PATCH", f"/dags/{READER}", body={"is_paused": False})
    world.emulator.clock.run(SPEED)
    yield world
    world.emulator.clock.run()


def _collection(collection_id: str) -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": collection_id,
        "description": "a test",
        "license": "CC-BY-4.0",
        "links": [],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
    }


# --- sources ----------------------------------------------------------------------------------------------------------


def naip_items() -> list[dict[str, Any]]:
    return [item for item in real_items() if item.get("collection") == NAIP]


@contextmanager
def rustac_api(folder: Path) -> Iterator[str]:
    """Serve the real NAIP items by somebody else's STAC API."""
    collection = json.loads((DATASETS / "planetary_computer" / "naip" / "config" / "collection.json").read_bytes())
    (folder / "collection.json").write_text(json.dumps({**collection, "id": NAIP}))
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": naip_items()}))
    (port,) = free_ports(1)
    command = [Path(sys.executable).parent / "rustac", "serve", "--addr", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, "collection.json", "items.json"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until("rustac serves", lambda: process.poll() is None and _answers(f"{url}/collections/{NAIP}"), 20)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def change(api: StubbornStacApi, at: str, overlapped: str, first_late: int, first_edited: int) -> list[str]:
    """
    Publish old items late, and edit others.

    :param at: When the API says that they were published.
    :param overlapped: The same for half of those that are late: before the watermark of the run that found nothing of
        them.
    :return: The ids of what was edited.
    """
    late = list(tiny_items(LATE, start="2024-05-01T00:00:00Z"))
    for number, item in enumerate(late, first_late):
        said = overlapped if number % 2 else at
        item |= {"id": f"late-{number:03}", "properties": {**item["properties"], "created": said, "updated": said}}
        api.put(item)
    edited = list(tiny_items(MIRRORED, start="2024-06-01T00:00:00Z"))[first_edited : first_edited + EDITED]
    for item in edited:
        item["properties"] |= {"updated": at, "eo:cloud_cover": 12.5}
        api.put(item)
    return sorted(item["id"] for item in edited)


# --- the daily mirror -------------------------------------------------------------------------------------------------


@dataclass
class Mirror:
    """
    The source of the mirror, and what was done to it between the runs.

    :param edited: Ids of what was edited before the second and the third run that succeeded.
    """

    api: StubbornStacApi
    folder: Path
    edited: list[list[str]]

    @property
    def dead_letters(self) -> Path:
        (file,) = self.folder.glob("*.ndjson")
        return file


def run_mirror(stages: Stages, mirror: Mirror) -> None:
    """Run the mirror while its source changes, fails, and gets items that the service refuses; then repair."""
    api = mirror.api

    def run(name: str) -> None:
        stages.start(
            name,
            MIRROR,
            AOI,
            stac_api_url=api.url,
            stac_api_conn_id=API_CONNECTION,
            source_collection="demo",
            collection=AOI,
            bbox=[7.0, 46.0, 9.0, 48.0],
            begin="2024-01-01T00:00:00Z",
            dead_letters=str(mirror.folder),
        )
        stages.end(name)

    run("first")
    mirror.edited.append(change(api, "2024-06-02T10:00:00Z", "2024-06-01T00:20:00Z", 0, 20))
    run("second")
    mirror.edited.append(change(api, "2024-06-03T10:00:00Z", "2024-06-02T07:00:00Z", LATE, 30))
    api.tokens = set()
    run("refused")
    api.tokens = {API_TOKEN}
    run("third")
    for item in tiny_items(NEW, start="2024-06-04T00:00:00Z"):
        api.put({**item, "id": item["id"].replace("item-000", "new-")})
    fault = stages.world.emulator.faults.add("fail_items", items=FAILING, code="AssetTransformationError")
    run("failing")
    stages.world.emulator.faults.remove(fault)
    for name in ("repair", "repair again"):
        stages.start(name, REPAIR, AOI, collection=AOI, dead_letters=str(mirror.dead_letters))
        stages.end(name)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    items = list(tiny_items(MIRRORED, start="2024-06-01T00:00:00Z"))
    elsewhere = {**items[0], "id": "elsewhere", "bbox": [100.0, 10.0, 100.0, 10.0]}
    elsewhere["geometry"] = {"type": "Point", "coordinates": [100.0, 10.0]}
    with StubbornStacApi([*items, elsewhere], tokens=[API_TOKEN]) as api:
        yield Mirror(api, tmp_path_factory.mktemp("dead-letters"), [])


@pytest.fixture(scope="module")
def stages(airflow_with_examples: World, mirror: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """All runs, those from the other API side by side with those of the mirror."""
    stages = Stages(airflow_with_examples)
    with ThreadPoolExecutor(1) as background:
        others = background.submit(run_tutorial_and_backfill, stages, tmp_path_factory.mktemp("rustac"))
        run_mirror(stages, mirror)
        others.result()
    return stages


def counts(stage: Stage) -> dict[str, int]:
    return {name: count for name, count in stage.result["counts"].items() if count}


def test_the_first_mirror_run_waits_in_the_triggerer_and_brings_everything(stages):
    run = stages["first"]
    assert run.state == "success"
    assert counts(run) == {"seen": MIRRORED, "sent": MIRRORED, "created": MIRRORED}
    assert (run.created, run.replaced) == (MIRRORED, [])
    assert "waiting in the triggerer" in stages.airflow.task_log(MIRROR, run.run_id, "mirror")
    assert run.watermark["value"] == "2024-06-01T03:19:00Z"
    assert run.watermark["run_id"] == run.run_id


def test_late_and_edited_items_are_found_and_nothing_is_written_twice(stages, mirror):
    second, third = stages["second"], stages["third"]
    for run, edited in zip((second, third), mirror.edited, strict=True):
        assert run.state == "success"
        assert (run.created, run.replaced) == (LATE, edited)
        assert (run.result["counts"]["created"], run.result["counts"]["updated"]) == (LATE, EDITED)
    assert second.result["counts"]["unchanged"] == MIRRORED - EDITED
    assert second.watermark["value"] == "2024-06-02T10:00:00Z"
    assert third.watermark["value"] == "2024-06-03T10:00:00Z"


def test_a_run_that_fails_leaves_the_watermark(stages):
    run = stages["refused"]
    assert (run.state, run.writes) == ("failed", [])
    assert run.watermark == stages["second"].watermark
    log = stages.airflow.task_log(MIRROR, run.run_id, "mirror")
    assert "401" in log


def test_events_of_the_asset_tell_what_came(stages):
    airflow = stages.airflow
    query = {"asset_id": stages.asset_id(), "order_by": "timestamp"}
    events = airflow.call("GET", "/assets/events", query=query)["asset_events"]
    extras = [event["extra"] for event in events]
    assert [one["counts"]["created"] for one in extras] == [MIRRORED, LATE, LATE, NEW - len(FAILING)]
    assert extras[0]["bbox"] == [8.0, 47.0, 8.0, 47.0]
    assert extras[0]["interval"] == ["2024-06-01T00:00:00Z", "2024-06-01T03:19:00Z"]
    assert {one["collection_id"] for one in extras} == {AOI}
    # This Airflow starts what is triggered by hand only; what is scheduled on the asset stays queued.
    queued = airflow.call("GET", f"/dags/{READER}/assets/queuedEvents")["queued_events"]
    assert [one["asset_id"] for one in queued] == [stages.asset_id()]


def test_the_dead_letter_file_names_what_failed_and_the_repair_sends_just_that(stages, mirror):
    failing, repair, again = (stages[name] for name in ("failing", "repair", "repair again"))
    assert failing.state == "success"
    assert counts(failing)["failed"] == len(FAILING)
    assert sorted(json.loads(line)["id"] for line in mirror.dead_letters.read_text().splitlines()) == FAILING
    assert (repair.state, repair.created, repair.replaced) == ("success", len(FAILING), [])
    assert counts(repair) == {"seen": len(FAILING), "sent": len(FAILING), "created": len(FAILING)}
    assert (again.state, again.writes) == ("success", [])
    everything = {f"item-{n:06}" for n in range(MIRRORED)} | {f"late-{n:03}" for n in range(2 * LATE)}
    assert stages.ids(AOI) == everything | {f"new-{n:03}" for n in range(NEW)}


# --- the API tutorial and the backfill, from somebody else's API ------------------------------------------------------


def run_tutorial_and_backfill(stages: Stages, folder: Path) -> None:
    """Run the tutorial twice, and the backfill with one of its months again."""
    if not naip_items():
        return
    options = json.loads((DATASETS / "planetary_computer" / "naip" / "config" / "render_config.json").read_bytes())
    with rustac_api(folder) as url:
        tutorial = {
            "stac_api_url": url,
            "collection": NAIP,
            "bbox": [-84.6, 33.5, -84.4, 33.8],
            "datetime": "2021-01-01/2022-12-31",
            "container_url": "",
            "render_options": options,
        }
        backfill = {
            "stac_api_url": url,
            "source_collection": NAIP,
            "collection": MONTHS,
            "bbox": [-125, 24, -66, 50],
            "start": "2021-09-01",
            "end": "2022-01-01",
        }
        stages.start("tutorial", TUTORIAL, NAIP, **tutorial)
        stages.start("backfill", BACKFILL, MONTHS, **backfill)
        run_id = stages.end("backfill").run_id
        stages.end("tutorial")
        stages.start("cleared", BACKFILL, MONTHS, run_id=run_id)
        stages.airflow.clear(BACKFILL, run_id, [("transfer", 0)])
        stages.start("tutorial again", TUTORIAL, NAIP, **tutorial)
        for name in ("cleared", "tutorial again"):
            stages.end(name)


@pytest.fixture
def naip(stages: Stages) -> Stages:
    if not naip_items():
        pytest.skip("the sample datasets are not there")
    return stages


def in_tutorial(item: dict[str, Any]) -> bool:
    west, south, east, north = item["bbox"]
    taken = item["properties"]["datetime"][:4]
    return west <= -84.4 and east >= -84.6 and south <= 33.8 and north >= 33.5 and taken in {"2021", "2022"}


def test_the_tutorial_goes_from_nothing_to_items_that_are_all_there(naip):
    run = naip["tutorial"]
    expected = {item["id"] for item in naip_items() if in_tutorial(item)}
    assert run.state == "success"
    assert naip.ids(NAIP) == expected
    assert counts(run) == {name: len(expected) for name in ("seen", "sent", "created")}
    assert (run.created, run.replaced) == (len(expected), [])
    assert naip.airflow.xcom(TUTORIAL, run.run_id, "search")["count"] == len(expected)
    compared = naip.airflow.xcom(TUTORIAL, run.run_id, "compare")["totals"]
    assert (compared["expected"], compared["found"], compared["missing"]) == (len(expected), len(expected), 0)
    assert len(list(client_of(naip.world).list_render_options(NAIP))) == 3


def test_a_second_tutorial_run_writes_nothing(naip):
    run = naip["tutorial again"]
    assert (run.state, run.writes) == ("success", [])


def test_a_backfill_has_a_task_for_each_month_and_a_cleared_one_writes_nothing(naip):
    run, cleared = naip["backfill"], naip["cleared"]
    assert (run.state, cleared.state) == ("success", "success")
    by_month = [
        sum(item["properties"]["datetime"].startswith(month) for item in naip_items())
        for month in ("2021-09", "2021-10", "2021-11", "2021-12")
    ]
    assert run.created == sum(by_month) > 0
    assert cleared.writes == []
    results = [naip.airflow.xcom(BACKFILL, run.run_id, "transfer", index) for index in range(4)]
    assert [one["counts"]["seen"] for one in results] == by_month
    assert results[0]["counts"]["unchanged"] == by_month[0]
    assert results[2]["counts"]["created"] == by_month[2]


# --- what people read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "task_id", "index", "source", "window"),
    [
        (
            "first",
            "mirror",
            -1,
            r"StacApiSource\(STAC API http://127.0.0.1:\d+, demo\)",
            {
                "watermark": "updated",
                "overlap": "6:00:00",
                "start": "2024-01-01T00:00:00Z",
                "name": None,
                "asset": "geocatalog-mirror",
            },
        ),
        ("repair", "repair", -1, r"ItemFilesSource\(/.*\.ndjson\)", None),
        ("tutorial", "transfer", -1, r"StacApiSource\(STAC API http://127.0.0.1:\d+, naip\)", None),
        (
            "backfill",
            "transfer",
            1,
            r"StacApiSource\(STAC API http://127.0.0.1:\d+, naip\)",
            {"field": "datetime", "start": "2021-10-01T00:00:00Z", "end": "2021-11-01T00:00:00Z"},
        ),
    ],
)
def test_rendered_fields_can_be_read(stages, name, task_id, index, source, window):
    if name not in stages.done:
        pytest.skip("the sample datasets are not there")
    fields = stages.airflow.rendered_fields(stages[name].dag_id, stages[name].run_id, task_id, index)
    assert re.fullmatch(source, fields["source"])
    assert fields["window"] == window
    assert not re.search(r"\{\{|0x[0-9a-f]{6}", json.dumps(fields))


def test_xcoms_stay_small_and_logs_short(stages):
    for run in stages.done.values():
        for entry in stages.airflow.xcoms(run.dag_id, run.run_id):
            assert len(json.dumps(entry["value"])) < 8000, (run.dag_id, entry["task_id"], entry["key"])
    log = stages.airflow.task_log(MIRROR, stages["second"].run_id, "mirror")
    own = [line for line in log.splitlines() if "::" not in line and re.search(r"Transfer|Portion|watermark", line)]
    assert len(own) == 4
    assert "210 seen, 196 unchanged, 14 sent, 10 created, 4 updated" in own[-2]


def test_the_apis_token_can_be_read_nowhere(stages, mirror):
    airflow = stages.airflow
    assert any(one.headers.get("Authorization") == f"Bearer {API_TOKEN}" for one in mirror.api.requests)
    texts = [
        text
        for name in ("first", "refused", "failing")
        for text in run_texts(airflow, MIRROR, stages[name].run_id, airflow.home)
    ]
    assert any("mirror" in place and "log" in place for place, _ in texts)
    assert find_secrets(texts, [API_TOKEN]) == []
