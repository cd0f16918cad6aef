"""Bulk and mapped ingestion at once on a cluster, a worker and a triggerer killed in between, and what came of it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import GeoCatalogNotFound
from demo.airflow_api import FINAL_STATES
from demo.cluster import BULK, COLLECTION, MANY, TRIGGERERS, WORKERS
from demo.progress import task_label
from demo.sample_catalog import COLLECTION_ID
from demo.verify import ingested_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_geocatalog.api.models import Run
    from demo.cluster import Cluster
    from demo.progress import Console

__all__ = ["Findings", "kill_and_look"]

_HOLD = 12.0  # seconds by which the answer to the start of a run is late, so that a worker can be killed meanwhile
_ITEMS_LEFT = 5  # of a run, for its wait to be worth a kill
_PAUSE = 0.5  # seconds between two looks
_STRIKE_TIMEOUT, _END_TIMEOUT = 180.0, 420.0  # seconds
_REDELIVERY_TIMEOUT = 90.0  # seconds
_TASK = "ingest"


@dataclass
class Findings:
    """
    What happened, and what the service has of it.

    :param worker: The worker that was killed.
    :param struck_tasks: The tasks that it was running at that moment, whose runs the service had begun.
    :param triggerer: The triggerer that was killed.
    :param struck_waits: The waits that it was at work on, with the ids of their triggers.
    :param taken_over: Ids of those triggers that another triggerer has taken up since.
    :param redelivered: Messages of the killed worker that were delivered again at the end.
    :param dag_runs: State of each DAG run, by the DAG's id.
    :param tasks: All task instances as Airflow's API has them.
    :param expected: Ids of the items that each collection should have.
    :param present: Ids of those that it has.
    :param runs: The runs of each definition of an ingestion, by the definition's name.
    :param sources: How many ingestion sources there are.
    :param requests: How often the service was asked for what changes something, by operation.
    """

    worker: str = ""
    struck_tasks: list[str] = field(default_factory=list)
    triggerer: str = ""
    struck_waits: dict[int, str] = field(default_factory=dict)
    taken_over: set[int] = field(default_factory=set)
    redelivered: int = 0
    dag_runs: dict[str, str] = field(default_factory=dict)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    expected: dict[str, set[str]] = field(default_factory=dict)
    present: dict[str, set[str]] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    sources: int = 0
    requests: Counter[str] = field(default_factory=Counter)

    def problems(self) -> list[str]:
        """Return what is not as it should be, in words."""
        found = [f"{dag_id}: the run is {state}" for dag_id, state in self.dag_runs.items() if state != "success"]
        found += [f"{_label(task)} is {task['state']}" for task in self.tasks if task["state"] != "success"]
        tries = {_label(task): task["try_number"] for task in self.tasks}
        found += [f"{label} was killed and not tried again" for label in self.struck_tasks if tries.get(label, 0) < 2]
        found += [
            f"nobody took over the wait of {label}"
            for trigger, label in self.struck_waits.items()
            if trigger not in self.taken_over
        ]
        if not self.struck_tasks:
            found.append("no task was running on the killed worker")
        if not self.struck_waits:
            found.append("no wait was with the killed triggerer")
        if not self.redelivered:
            found.append("the killed worker left no message to deliver again")
        for collection, expected in self.expected.items():
            if missing := expected - self.present[collection]:
                found.append(f"{len(missing)} items are missing in {collection}")
            if surplus := self.present[collection] - expected:
                found.append(f"{len(surplus)} items of {collection} come from nowhere")
        return found + self._done_twice()

    def _done_twice(self) -> list[str]:
        found = [f"{len(runs)} runs of {name!r}" for name, runs in self.runs.items() if len(runs) != 1]
        ingestions = sum(task["task_id"] == _TASK for task in self.tasks)
        for name, expected in {
            "create_ingestion": ingestions,
            "create_run": ingestions,
            "cancel_operation": 0,
            "create_item": 0,
            "create_collection": len(self.expected),
        }.items():
            if self.requests[name] != expected:
                found.append(f"{name} was asked for {self.requests[name]} times, not {expected}")
        if self.sources != 1:
            found.append(f"{self.sources} ingestion sources for one container")
        counted = Counter({"total": 0, "succeeded": 0})
        for runs in self.runs.values():
            for counts in (run.operation.counts for run in runs):
                counted.update(total=counts.total if counts else 0, succeeded=counts.succeeded if counts else 0)
        items = sum(map(len, self.expected.values()))
        if counted != {"total": items, "succeeded": items}:
            found.append(f"the runs ingested {counted['succeeded']} of {counted['total']} items; there are {items}")
        return found


def kill_and_look(cluster: Cluster, console: Console) -> Findings:
    """
    Run both example DAGs, kill a worker and a triggerer, wait for the end, and gather what there is to see.

    :raises TimeoutError: Nothing came up to be killed, or the DAGs did not end in time.
    """
    return _Exercise(cluster, console).run()


class _Exercise:
    def __init__(self, cluster: Cluster, console: Console) -> None:
        self._cluster = cluster
        self._console = console
        self._runs: dict[str, str] = {}
        self._seen: dict[str, tuple[Any, int]] = {}
        self._findings = Findings()

    def run(self) -> Findings:
        cluster, console, findings = self._cluster, self._console, self._findings
        cluster.delay_answers("create_run", _HOLD)
        self._runs = {MANY: cluster.trigger_many(), BULK: cluster.trigger_bulk()}
        console.step(f"triggered {MANY} with {len(cluster.catalogs)} catalogs, and {BULK}")
        self._kill_worker()
        cluster.answer_at_once()
        self._kill_triggerer()
        self._until("both DAG runs have ended", self._have_ended, _END_TIMEOUT)
        self._deliver_again()
        findings.tasks = self._look()
        findings.dag_runs = {dag: cluster.airflow.dag_run(dag, run)["state"] for dag, run in self._runs.items()}
        findings.taken_over = {
            trigger
            for other in TRIGGERERS
            if other != findings.triggerer
            for trigger in cluster.triggers(other) & findings.struck_waits.keys()
        }
        findings.expected = {
            COLLECTION: {item for items in cluster.catalogs.values() for item in items},
            COLLECTION_ID: set(cluster.sample.item_ids),
        }
        console.step("reading the collections, the runs and the service's record of requests")
        findings.present = {name: self._present(name) for name in findings.expected}
        findings.runs = {name: runs for one in findings.expected for name, runs in self._service_runs(one).items()}
        findings.sources = sum(1 for _ in cluster.client.list_sources())
        findings.requests = Counter(str(one["operation"]) for one in cluster.answered() if one["method"] != "GET")
        return findings

    # --- killing -----------------------------------------------------------------------------------------------------

    def _kill_worker(self) -> None:
        """Kill a worker while the service starts runs for its tasks and has not answered yet."""
        cluster, findings = self._cluster, self._findings

        def held() -> dict[str, list[str]]:
            begun = "\n".join(name for name, runs in self._service_runs(COLLECTION).items() if runs)
            running = [task for task in self._look() if task["state"] == "running" and self._work(task) in begun]
            found = {worker: _labels(running, cluster.pids(worker)) for worker in WORKERS}
            return {worker: labels for worker, labels in found.items() if labels}

        found = self._until("a worker's task starts a run", held, _STRIKE_TIMEOUT)
        findings.worker = max(found, key=lambda worker: len(found[worker]))
        pids = cluster.pids(findings.worker)
        cluster.airflow.kill(findings.worker)
        # What was running there and still is for Airflow has not been told its run: it would have been deferred.
        running = [task for task in self._look() if task["state"] == "running"]
        findings.struck_tasks = [label for label in _labels(running, pids) if label in found[findings.worker]]
        self._console.step(f"KILLED {findings.worker}, which ran {', '.join(findings.struck_tasks) or 'nothing'}")

    def _kill_triggerer(self) -> None:
        """Kill a triggerer that is at work on waits for runs that are far from their end."""
        cluster, findings = self._cluster, self._findings

        def waiting() -> dict[str, dict[int, str]]:
            runs = self._service_runs(COLLECTION)
            busy = "\n".join(name for name, found in runs.items() if any(map(_is_busy, found)))
            waits = {
                task["trigger"]["id"]: _label(task)
                for task in self._look()
                if task["state"] == "deferred" and task["trigger"] and self._work(task) in busy
            }
            found = {one: {id: waits[id] for id in cluster.triggers(one) & waits.keys()} for one in TRIGGERERS}
            return {one: those for one, those in found.items() if those}

        found = self._until("a triggerer waits for a run", waiting, _STRIKE_TIMEOUT)
        findings.triggerer = max(found, key=lambda triggerer: len(found[triggerer]))
        cluster.airflow.kill(findings.triggerer)
        deferred = {task["trigger"]["id"] for task in self._look() if task["state"] == "deferred" and task["trigger"]}
        waits = found[findings.triggerer]
        findings.struck_waits = {trigger: label for trigger, label in waits.items() if trigger in deferred}
        waited = ", ".join(findings.struck_waits.values()) or "nothing"
        self._console.step(f"KILLED {findings.triggerer}, which waited for {waited}")

    def _deliver_again(self) -> None:
        """Deliver what the killed worker had not acknowledged once more, long after it was done by others."""
        cluster = self._cluster
        self._findings.redelivered = cluster.expire_visibility()
        self._console.step(f"delivering {self._findings.redelivered} messages of {self._findings.worker} again")
        self._until("the messages are dealt with", lambda: not cluster.unacknowledged(), _REDELIVERY_TIMEOUT)

    # --- looking -----------------------------------------------------------------------------------------------------

    def _look(self) -> list[dict[str, Any]]:
        """Return all task instances, and tell what is new."""
        tasks = [task for dag, run in self._runs.items() for task in self._cluster.airflow.task_instances(dag, run)]
        for task in tasks:
            now = (task["state"], task["try_number"])
            if self._seen.get(_label(task), (None, 0)) != now:
                self._seen[_label(task)] = now
                again = f" (try {now[1]})" if now[1] > 1 else ""
                self._console.step(f"{_label(task)}: {now[0] or 'waiting'}{again}")
        return tasks

    def _have_ended(self) -> bool:
        self._look()
        airflow = self._cluster.airflow
        return all(airflow.dag_run(dag, run)["state"] in FINAL_STATES for dag, run in self._runs.items())

    def _present(self, collection: str) -> set[str]:
        return ingested_ids(self._cluster.client, collection)

    def _service_runs(self, collection: str) -> dict[str, list[Run]]:
        """Return the runs of a collection, by the names of their definitions."""
        client = self._cluster.client
        try:
            return {
                f"{one.display_name} ({one.ingestion_id})": list(client.list_runs(collection, one.ingestion_id))
                for one in client.list_ingestions(collection)
            }
        except GeoCatalogNotFound:
            return {}

    def _work(self, task: dict[str, Any]) -> str:
        """Return what the name of a mapped task's definition has in it."""
        return f"{task['dag_id']}/{_TASK}/{task['dag_run_id']}/{task['map_index']} "

    def _until(self, what: str, condition: Callable[[], Any], timeout: float) -> Any:
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout:g} s: {what}")
            time.sleep(_PAUSE)
        return found


def _label(task: dict[str, Any]) -> str:
    return f"{task['dag_id']}.{task_label(task)}"


def _labels(tasks: Iterable[dict[str, Any]], pids: set[int]) -> list[str]:
    """Return the names of the tasks that run in some processes."""
    return [_label(task) for task in tasks if task["pid"] in pids]


def _is_busy(run: Run) -> bool:
    counts = run.operation.counts
    return run.is_live and counts is not None and counts.pending >= _ITEMS_LEFT
