"""Operators on the emulator over real HTTP, without a scheduler."""

from __future__ import annotations

import atexit
import datetime
import json
import os
import shutil
import tempfile
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

# Before Airflow is imported anywhere: a home of its own, so that no file of the user's is touched.
_home = tempfile.mkdtemp(prefix="airflow-home-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
os.environ["AIRFLOW_HOME"] = _home
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

import pytest  # noqa: E402

from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings  # noqa: E402
from tests.fakes.airflow_versions import AIRFLOW_VERSION  # noqa: E402
from tests.fakes.tasks import TOKEN, TaskInstance, execute  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE = "operatorsTestSignature%2Bx%3D"


@pytest.fixture(autouse=True)
def any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have operators execute in every thread: Airflow 2 knows only the one that has imported it."""
    try:
        from airflow.models.baseoperator import ExecutorSafeguard
    except ImportError:
        return
    if hasattr(ExecutorSafeguard, "_sentinel"):
        monkeypatch.setattr(ExecutorSafeguard, "_sentinel", SimpleNamespace(callers={}))


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Airflow 3.0 answer that there is no such Variable: outside of a task it has nobody to ask."""
    if AIRFLOW_VERSION == (3, 0):
        from airflow.sdk.exceptions import ErrorType
        from airflow.sdk.execution_time import task_runner
        from airflow.sdk.execution_time.comms import ErrorResponse

        answer = ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)
        supervisor = SimpleNamespace(send=lambda _: answer)
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)


def sas(*, hours: float = 100, permissions: str = "rl", leave_out: tuple[str, ...] = ()) -> str:
    now = datetime.datetime.now(datetime.UTC)
    fields = {
        "sv": "2023-01-03",
        "st": f"{now - datetime.timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}",
        "se": f"{now + datetime.timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}",
        "sr": "c",
        "sp": permissions,
        "sig": SIGNATURE,
    }
    return "&".join(f"{name}={value}" for name, value in fields.items() if name not in leave_out)


def write_catalog(folder: Path, count: int = 3, *, broken: int = 0) -> str:
    """Write a nested catalog and return the path of its root below ``folder``."""
    names = [f"item-{number}" for number in range(count)]
    links = [{"rel": "item", "href": f"items/{name}.json"} for name in names]
    (folder / "child" / "items").mkdir(parents=True)
    document = {"type": "Catalog", "stac_version": "1.0.0", "description": "d"}
    child = {**document, "id": "child", "links": links}
    (folder / "child" / "catalog.json").write_text(json.dumps(child))
    root = {**document, "id": "root", "links": [{"rel": "child", "href": "./child/catalog.json"}]}
    (folder / "catalog.json").write_text(json.dumps(root))
    for number, name in enumerate(names):
        item = {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": name,
            "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
            "bbox": [1.0, 2.0, 1.0, 2.0],
            "properties": {"datetime": "2024-01-01T00:00:00Z"},
            "links": [],
            "assets": {"image": {"href": "https://example.com/x.tif"}},
        }
        text = json.dumps(item) if number >= broken else "{this is no JSON"
        (folder / "child" / "items" / f"{name}.json").write_text(text)
    return "catalog.json"


def collection(collection_id: str = "demo", **members: Any) -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": collection_id,
        "description": "a test",
        "license": "CC-BY-4.0",
        "links": [],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        **members,
    }


class World:
    """An emulator, the connection to it, and a container."""

    def __init__(self, server: EmulatorServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.container = f"{server.url}/_emulator/storage/box"

    @property
    def writes(self) -> list[str]:
        """What was sent that could change something."""
        reading = {"GET", "HEAD"}
        found = [r for r in self.server.emulator.requests if r.method not in reading and r.operation != "search"]
        return [str(request.operation) for request in found]

    def run(self, operator: Any, **task_instance: Any) -> Any:
        """Execute an operator; a deferral is followed through its trigger, serialized on the way."""
        return execute(operator, TaskInstance(**task_instance))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    folder = tmp_path / "box"
    folder.mkdir()
    settings = EmulatorSettings.fast(admin_tokens=(TOKEN,), containers={"box": folder}, **getattr(request, "param", {}))
    with EmulatorServer(Emulator(settings)) as server:
        connect(monkeypatch, server.url)
        storage = {"conn_type": "generic", "extra": {"sas_token": sas()}}
        monkeypatch.setenv("AIRFLOW_CONN_GEOCATALOG_STORAGE", json.dumps(storage))
        yield World(server, folder)


@pytest.fixture
def start_world(monkeypatch: pytest.MonkeyPatch):
    """Start an emulator with settings of the test's own, and return its world."""
    with ExitStack() as stack:

        def start(folder: Path, **settings: Any) -> World:
            emulator = Emulator(EmulatorSettings.fast(admin_tokens=(TOKEN,), **settings))
            server = stack.enter_context(EmulatorServer(emulator))
            connect(monkeypatch, server.url)
            return World(server, folder)

        yield start


def connect(monkeypatch: pytest.MonkeyPatch, url: str, *, token: str = TOKEN, **extra: str) -> None:
    connection = {
        "conn_type": "geocatalog",
        "host": url,
        "password": token,
        "extra": {"auth_method": "static_token", **extra},
    }
    monkeypatch.setenv("AIRFLOW_CONN_GEOCATALOG_DEFAULT", json.dumps(connection))


@pytest.fixture
def reconnect(world: World, monkeypatch: pytest.MonkeyPatch):
    """Change the connection's token or extras."""
    return lambda **changes: connect(monkeypatch, changes.pop("url", world.server.url), **changes)


@pytest.fixture
def task_instance():
    return TaskInstance


@pytest.fixture
def tokens():
    return sas


@pytest.fixture
def documents():
    return collection


@pytest.fixture
def catalog():
    return write_catalog
