"""
The process of a task is killed at each step, and the next try goes on: what was started is started once.

Cells of the matrix play at the same time, each with an emulator of its own; a test looks at what came of one.
"""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogWaitTimeout
from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from tests.fakes.clock import FakeClock
from tests.fakes.crashing import Killed, Stop, Try, carry_out, execute
from tests.fakes.items import stac_item

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "crashes-test-token"
IDS = ("item-0", "item-1", "item-2")
_AT_ONCE = 8

RUNS = r"/inma/collections/demo/ingestions/[^/]+/runs"
#: Where a task can be killed. ``accepted`` and ``lost`` are what becomes of the answer, see :data:`ANSWERS`.
STOPS = {
    "run": {
        "before the definition": Stop(r"POST /inma/collections/demo/ingestions\?"),
        "after the definition": Stop(rf"GET {RUNS}\?"),
        "before the send": Stop(rf"POST {RUNS}\?"),
        "accepted": None,
        "lost": Stop(rf"GET {RUNS}\?", nth=2),
        "before the XCom": Stop("xcom before"),
        "after the XCom": Stop("xcom after"),
        "after the store": Stop("store after", nth=2),  # the first tells that something is about to be started
        "before the deferral": Stop("deferral before"),
        "waiting": Stop(rf"GET {RUNS}/[^/]+\?", nth=2),
    },
    "items": {
        "before the send": Stop(r"POST /stac/collections/demo/items"),
        "accepted": None,
        "lost": Stop(r"GET /inma/operations\?", nth=2),
        "before the XCom": Stop("xcom before"),
        "after the XCom": Stop("xcom after"),
        "after the store": Stop("store after"),
        "before the deferral": Stop("deferral before"),
        "waiting": Stop(r"GET /inma/operations/[^/]+\?", nth=2),
    },
}
#: Faults of the emulator, which has handled the request: its answer is late, or lost.
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {"accepted": ("latency", {"seconds": 20.0}), "lost": ("drop", {})}
UNSENT = {"before the definition", "after the definition", "before the send"}
#: Points at which the record of what was started has been made.
RECORDED = {"after the store", "before the deferral", "waiting"}
#: Two crashes in a row.
TWICE = {
    "run": (("after the definition", "accepted"), ("accepted", "before the XCom"), ("before the send", "lost")),
    "items": (("before the send", "accepted"), ("before the send", "after the XCom"), ("waiting", "waiting")),
}
WORKING = ["AddItem", "IngestionStaticCatalog"]
SENDING = {"run": "create_run", "items": "create_item"}


@dataclass(frozen=True)
class Cell:
    """
    A story: tries that are killed, and one that is not.

    :param crashes: Where the tries are killed, one after the other.
    :param exists: The operator's ``if_run_exists`` or ``if_item_exists``.
    :param ends_early: Whether the work ends before the last try begins, not while it waits.
    """

    work: str
    deferrable: bool
    has_store: bool
    crashes: tuple[str, ...]
    exists: str | None = None
    ends_early: bool = False

    def __str__(self) -> str:
        words = [self.work, "deferrable" if self.deferrable else "blocking"]
        words += ["with store"] if self.has_store else []
        words += [self.exists] if self.exists else []
        words += ["ends early"] if self.ends_early else []
        return ", ".join([*words, *self.crashes])


def _matrix() -> list[Cell]:
    return [
        Cell(work, deferrable, has_store, (point,))
        for work, points in STOPS.items()
        for deferrable in (True, False)
        for has_store in (True, False)
        for point in points
        if (has_store or point != "after the store") and (deferrable or point != "before the deferral")
    ]


def _more() -> list[Cell]:
    policies = {"run": ("fail", "new"), "items": ("fail",)}
    return [
        *(
            Cell(work, False, has_store, (point,), exists, ends_early=early)
            for work, several in policies.items()
            for exists in several
            for point in ("before the send", "accepted", "waiting")
            for has_store in (True, False)
            for early in (True, False)
            if has_store or not early
        ),
        *(
            Cell(work, False, has_store, crashes, ends_early=early)
            for work, several in TWICE.items()
            for crashes in several
            for has_store, early in ((True, False), (False, True), (False, False))
        ),
    ]


class Stage:
    """An emulator with what a cell needs, and what it has seen."""

    def __init__(self, cell: Cell | Clear, server: EmulatorServer, folder: Path) -> None:
        self.cell, self.server, self.emulator = cell, server, server.emulator
        arguments: dict[str, Any] = {
            "collection_id": "demo",
            "deferrable": cell.deferrable,
            "poll_interval": 0.2,
            "min_poll_interval": 0.2,
        }
        if cell.work == "run":
            arguments |= {"catalog_url": f"{server.url}/_emulator/storage/box/catalog.json", "check_catalog": False}
        else:
            arguments["items"] = [stac_item(item_id) for item_id in IDS]
        if cell.exists:
            arguments["if_run_exists" if cell.work == "run" else "if_item_exists"] = cell.exists
        self.first = Try(server.url, TOKEN, folder, cell.work, arguments, cell.has_store)

    @property
    def started(self) -> list[str]:
        """Ids of the operations that add items, in the order in which they were started."""
        wanted = ("AddItem", "Ingestion")
        return [found.id for found in list(self.emulator.world.operations.values()) if found.type.startswith(wanted)]

    @property
    def created(self) -> int:
        """How many items all operations together have created."""
        return sum(found.counters.successful for found in self.emulator.world.operations.values() if found.counts)

    @property
    def cancelled(self) -> list[str]:
        return [r.path for r in list(self.emulator.requests) if (r.operation or "").startswith("cancel_")]

    @property
    def items(self) -> list[str]:
        return sorted(self.emulator.world.collections["demo"].items)

    def hold(self, **options: Any) -> Any:
        """Keep what is started from ending."""
        return self.emulator.faults.add("hold", status="Running", types=WORKING, **options)

    def crash(self, this: Try, point: str) -> None:
        """Carry out a try that is killed at a point."""
        faults, before = self.emulator.faults, len(self.started)
        if point in ANSWERS:
            effect, options = ANSWERS[point]
            faults.add(effect, operations=SENDING[self.cell.work], handled=True, times=1, **options)
        with pytest.raises(Killed):
            carry_out(
                replace(this, stop=STOPS[self.cell.work][point]),
                kill_when=(lambda: len(self.started) > before) if point == "accepted" else None,
            )

    def go_on(self, this: Try, hold: Any) -> Any:
        """Carry out a try to its end; what is held goes on once it has looked around."""
        seen = len(self.emulator.requests)
        over = threading.Event()

        def let_go() -> None:
            while len(self.emulator.requests) < seen + 3 and not over.wait(0.02):
                pass
            over.wait(0.3)
            self.emulator.faults.remove(hold)

        letting = threading.Thread(target=let_go)
        if self.cell.ends_early:
            self.emulator.faults.remove(hold)
        else:
            letting.start()
        try:
            return carry_out(this)
        finally:
            over.set()
            if letting.ident:
                letting.join()


def _staged(cell: Cell | Clear, folder: Path, story: Any) -> Any:
    with _serving(folder) as server:
        return story(Stage(cell, server, folder))


@contextmanager
def _serving(folder: Path) -> Iterator[EmulatorServer]:
    """Serve an emulator with a collection and a catalog that can be ingested."""
    box = folder / "box"
    (box / "items").mkdir(parents=True)
    links = [{"rel": "item", "href": f"items/{item_id}.json"} for item_id in IDS]
    root = {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "description": "d", "links": links}
    (box / "catalog.json").write_text(json.dumps(root))
    for item_id in IDS:
        (box / "items" / f"{item_id}.json").write_text(json.dumps(stac_item(item_id)))
    settings = EmulatorSettings.fast(admin_tokens=(TOKEN,), public_containers={"box": box})
    with EmulatorServer(Emulator(settings)) as server:
        _make_collection(server)
        yield server


def _make_collection(server: EmulatorServer) -> None:
    made = requests.post(
        f"{server.url}/stac/collections?api-version=2026-04-15",
        json=DEMO,
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=30,
    )
    assert made.status_code == 202, made.text
    # It is there when its operation has ended, which is at once, but in another thread.
    deadline = time.monotonic() + 10
    while "demo" not in server.emulator.world.collections and time.monotonic() < deadline:
        time.sleep(0.005)


DEMO = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": "demo",
    "description": "a test",
    "license": "CC-BY-4.0",
    "links": [],
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
}


def _retried(stage: Stage) -> tuple[Any, ...]:
    """Kill some tries, then let one end."""
    cell, hold, this = stage.cell, stage.hold(), stage.first
    for number, point in enumerate(cell.crashes, 1):
        this = replace(stage.first, number=number)
        stage.crash(this, point)
    # A trigger that was killed goes on in another triggerer, within the same try.
    resumes = cell.deferrable and cell.crashes[-1] == "waiting"
    last = replace(this, resumes=True) if resumes else replace(this, number=this.number + 1)
    result = stage.go_on(last, hold)
    definitions = stage.emulator.world.collections["demo"].ingestions if cell.work == "run" else {"one": 1}
    return result, stage.started, stage.items, stage.created, stage.cancelled, len(definitions)


@pytest.fixture(scope="module")
def played(request, tmp_path_factory):
    """What came of each cell; all that were chosen play at once."""
    cells = [
        item.callspec.params["cell"]
        for item in request.session.items
        if item.module is request.module and "cell" in getattr(getattr(item, "callspec", None), "params", {})
    ]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield {
            cell: pool.submit(
                _staged, cell, tmp_path_factory.mktemp("cell"), _retried if isinstance(cell, Cell) else _cleared
            )
            for cell in sorted(cells, key=lambda cell: not isinstance(cell, Clear))  # the longest first
        }


@pytest.mark.parametrize("cell", [*_matrix(), *_more()], ids=str)
def test_whatever_is_killed_the_work_is_started_once(played, cell):
    result, started, items, created, cancelled, definitions = played[cell].result(timeout=100)

    assert (len(started), definitions, cancelled) == (1, 1, [])
    assert (items, created) == (list(IDS), 3)
    told_by = result["run_id"] if cell.work == "run" else result["operation_id"]
    sending = next((point for point in cell.crashes if point not in UNSENT), None)
    goes_on = cell.deferrable and sending == "waiting"
    adopts = sending is not None and not goes_on
    # Where nothing tells which operation has added items, the catalog tells that they are there.
    if cell.work == "run" or not adopts or (cell.has_store and sending in RECORDED):
        assert (told_by, result["items"]["succeeded"], result["status"]) == (started[0], 3, "Succeeded")
        assert result["adopted"] is adopts
    else:
        assert (told_by, result["items"]["total"], result["skipped"], result["adopted"]) == (None, 0, 3, False)


# --- clears ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clear:
    """
    A story: a user clears the task when it has ended, or while it waits; the next try, or the one after it, ends.

    :param crashes: Where tries after the clear are killed.
    """

    work: str
    has_store: bool
    exists: str
    while_live: bool = False
    crashes: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = [self.work, *(["with store"] if self.has_store else []), self.exists]
        return ", ".join([*words, "while live" if self.while_live else "after success", *self.crashes])

    deferrable = ends_early = False


def _clears() -> list[Clear]:
    return [
        clear
        for has_store in (True, False)
        for clear in (
            Clear("run", has_store, "adopt"),
            Clear("run", has_store, "new"),
            Clear("run", has_store, "new", crashes=("accepted",)),
            Clear("run", has_store, "adopt", while_live=True),
            Clear("run", has_store, "new", while_live=True, crashes=("accepted",)),
            Clear("items", has_store, "skip"),
            Clear("items", has_store, "fail"),
            Clear("items", has_store, "skip", while_live=True),
        )
    ] + [Clear("run", True, "new", crashes=("before the send",))]


def _cleared(stage: Stage) -> tuple[Any, ...]:
    cell = stage.cell
    if cell.while_live:
        held = stage.hold(times=1)
        stage.crash(stage.first, "waiting")
    else:
        carry_out(stage.first)
    this = replace(stage.first, number=2, max_tries=1 + stage.first.retries)
    for point in cell.crashes:
        stage.crash(this, point)
        this = replace(this, number=this.number + 1)
    if cell.work == "items" and cell.while_live:
        result = stage.go_on(this, held)
    else:
        result = carry_out(this)
    return result, stage.started, stage.items, stage.cancelled


@pytest.mark.parametrize("cell", _clears(), ids=str)
def test_a_clear_starts_anew_only_where_the_user_says_so(played, cell):
    result, started, items, cancelled = played[cell].result(timeout=100)

    anew = cell.work == "run" and (cell.while_live or cell.exists == "new")
    assert (len(started), items) == (1 + anew, list(IDS))
    # What was live is cancelled, once, and nothing else is.
    assert cancelled == ([f"/inma/operations/{started[0]}"] if anew and cell.while_live else [])
    if cell.work == "items":
        assert (result["operation_id"], result["skipped"]) == (None, 3)
    else:
        assert (result["run_id"], result["status"], result["items"]["succeeded"]) == (started[-1], "Succeeded", 3)
        assert result["adopted"] is (not anew or cell.crashes == ("accepted",))


# --- any sequence ---------------------------------------------------------------------------------------------------


class Crashed(BaseException):
    """What a process that is killed cannot handle either."""


#: Ways in which a try ends without a result: where a record is made, or by what a fault does to a request.
RECORDS = ("xcom before", "xcom after", "store before", "store after")
FAULTS = [
    (effect, operation, options)
    for operation in ("create_ingestion", "create_run", "create_item")
    for effect, options in (
        ("drop", {}),
        ("drop", {"handled": True}),
        ("status", {"status": 503}),
        ("status", {"status": 504, "handled": True, "body": "html"}),
        ("truncate", {}),
        ("html", {"handled": True}),
    )
] + [("status", operation, {"status": 400}) for operation in ("list_runs", "search", "get_run", "get_operation")]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """An emulator that is served in this process, as the connection leads to it."""
    folder = tmp_path_factory.mktemp("service")
    with _serving(folder) as server, pytest.MonkeyPatch.context() as patch:
        extra = {"auth_method": "static_token", "requests_per_second": 1000}
        connection = {"conn_type": "geocatalog", "host": server.url, "password": TOKEN, "extra": extra}
        patch.setenv("AIRFLOW_CONN_GEOCATALOG_DEFAULT", json.dumps(connection))
        FakeClock(time.time()).drive(GeoCatalogHook().client)
        yield server


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    crashes=st.lists(st.sampled_from([*RECORDS, *FAULTS]), max_size=5),
    work=st.sampled_from([("run", "adopt"), ("run", "fail"), ("run", "new"), ("items", "skip"), ("items", "fail")]),
    has_store=st.booleans(),
)
def test_no_sequence_of_crashes_starts_anything_twice(service, tmp_path_factory, crashes, work, has_store):
    service.emulator.reset()
    _make_collection(service)
    cell = Cell(work[0], False, has_store, (), work[1])
    stage = Stage(cell, service, tmp_path_factory.mktemp("tries"))

    result = None
    for number, crash in enumerate([*crashes, None], 1):
        faults = [] if crash is None or crash in RECORDS else [crash]
        for effect, operation, options in faults:
            stage.emulator.faults.add(effect, operations=operation, times=1, **options)
        try:
            result = execute(replace(stage.first, number=number, max_tries=9), partial(_crash_at, crash))
            break
        except GeoCatalogTaskFailed as error:
            if error.error.status != 400:  # the one that a fault asks for; a user runs the task again
                raise
        except (Crashed, GeoCatalogError):
            pass
        finally:
            stage.emulator.faults.clear()

    assert result is not None
    assert (len(stage.started), stage.items, stage.created) == (1, list(IDS), 3)
    assert len(stage.emulator.world.collections["demo"].ingestions) == (work[0] == "run")
    assert stage.cancelled == []


def _crash_at(crash: Any, point: str) -> None:
    if point == crash:
        raise Crashed


def test_a_run_of_somebody_else_stays_so_over_a_retry(service, tmp_path_factory):
    service.emulator.reset()
    _make_collection(service)
    cell = Cell("run", False, True, ())
    stages = [Stage(cell, service, tmp_path_factory.mktemp("tries")) for _ in range(2)]
    theirs, ours = (stage.first for stage in stages)
    stages[0].hold()
    shared = {**ours.arguments, "run_key": "shared"}
    execute(replace(theirs, arguments={**shared, "wait_for_completion": False}), partial(_crash_at, None))
    with pytest.raises(Crashed):
        execute(replace(ours, arguments=shared), partial(_crash_at, "store after"))

    with pytest.raises(GeoCatalogWaitTimeout):
        execute(replace(ours, arguments={**shared, "timeout": 5.0}, number=2), partial(_crash_at, None))

    assert stages[0].cancelled == []
