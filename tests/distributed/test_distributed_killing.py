"""CeleryExecutor, Redis, PostgreSQL, two workers and two triggerers: one of each killed while both example DAGs run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from demo.cluster import BULK, COLLECTION, MANY, TRIGGERERS, WORKERS, cluster
from demo.killing import kill_and_look
from demo.progress import Console
from demo.redis_server import redis_program
from demo.sample_catalog import COLLECTION_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.killing import Findings

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(redis_program() is None, reason="redis-server is not installed (Debian package redis-server)"),
]


@pytest.fixture(scope="module")
def findings(tmp_path_factory) -> Iterator[Findings]:
    console = Console()
    with cluster(tmp_path_factory.mktemp("cluster"), console.step) as started:
        yield kill_and_look(started, console)


def test_the_killed_worker_was_running_tasks_whose_runs_the_service_had_begun(findings):
    assert findings.worker in WORKERS
    assert findings.struck_tasks
    tasks = {f"{task['dag_id']}.{task['task_id']}[{task['map_index']}]": task for task in findings.tasks}
    for label in findings.struck_tasks:
        assert (tasks[label]["state"], tasks[label]["task_id"]) == ("success", "ingest")
        assert tasks[label]["try_number"] > 1


def test_the_waits_of_the_killed_triggerer_went_on_in_the_other(findings):
    assert findings.triggerer in TRIGGERERS
    assert findings.struck_waits
    assert findings.taken_over == set(findings.struck_waits)


def test_every_task_succeeded(findings):
    assert findings.dag_runs == {BULK: "success", MANY: "success"}
    assert Counter(task["state"] for task in findings.tasks) == {"success": len(findings.tasks)}
    assert Counter(task["dag_id"] for task in findings.tasks if task["task_id"] == "ingest") == {BULK: 1, MANY: 6}


def test_each_collection_has_the_items_of_its_catalogs_and_no_others(findings):
    assert {name: len(items) for name, items in findings.expected.items()} == {COLLECTION: 180, COLLECTION_ID: 12}
    assert findings.present == findings.expected


def test_nothing_was_done_twice(findings):
    assert {name: len(runs) for name, runs in findings.runs.items()} == dict.fromkeys(findings.runs, 1)
    assert len(findings.runs) == 7
    counts = [run.operation.counts for runs in findings.runs.values() for run in runs]
    assert sorted((one.total, one.succeeded, one.failed) for one in counts) == [(12, 12, 0), *[(30, 30, 0)] * 6]
    changes = {name: findings.requests[name] for name in ("create_ingestion", "create_run", "create_collection")}
    assert changes == {"create_ingestion": 7, "create_run": 7, "create_collection": 2}
    assert findings.requests["cancel_operation"] == 0
    assert findings.sources == 1


def test_messages_that_redis_delivers_again_are_without_effect(findings):
    assert findings.redelivered >= len(findings.struck_tasks)


def test_the_report_has_nothing_to_complain_about(findings):
    assert findings.problems() == []
