"""One Airflow for all tests of this folder: it takes half a minute to start."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.real_world import BULK, World, bulk_conf, real_world, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WATCHED = 12.0  # seconds during which a deferred task must not have a process


_LAST = "test_real_secrets.py"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Look for secrets last, in everything that the other tests have done, whatever their files are called."""
    items.sort(key=lambda item: item.path.name == _LAST)


@pytest.fixture(scope="session")
def emulator_log(tmp_path_factory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("emulator") / "emulator.log"
    handler = logging.FileHandler(path)
    logger = logging.getLogger("airflow_provider_geocatalog.emulator")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield path
    logger.removeHandler(handler)
    logger.setLevel(level)
    handler.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory, emulator_log) -> Iterator[World]:
    with real_world(tmp_path_factory.mktemp("world")) as made:
        yield made


@dataclass
class Watched:
    """What was seen while ``ingest`` was deferred."""

    run_id: str
    run: dict[str, Any]
    processes: list[list[str]]
    looks: int
    heartbeats: int


@pytest.fixture(scope="session")
def first_run(world) -> Watched:
    airflow = world.airflow
    run_id = airflow.trigger(BULK, bulk_conf(world))
    wait_until("ingest is deferred", lambda: world.state(BULK, run_id) == "deferred", 90)
    wait_until("the worker that deferred it is gone", lambda: not airflow.task_processes(), 5)
    until = time.monotonic() + WATCHED
    seen: list[list[str]] = []
    beats: set[str] = set()
    looks = 0
    while time.monotonic() < until:
        seen += [command for _, command in airflow.task_processes()]
        assert world.state(BULK, run_id) == "deferred", "the wait was too short to be watched"
        beats.add(airflow.call("GET", "/monitor/health")["scheduler"]["latest_scheduler_heartbeat"])
        looks += 1
        time.sleep(0.2)
    return Watched(run_id, world.ended(BULK, run_id), seen, looks, len(beats))
