"""
What the processes of a deployment cost: workers, a triggerer with many waits, the scheduler with many mapped tasks.

Real Airflow components on CeleryExecutor, Redis and PostgreSQL, with an emulator whose operations never end. The waits
are put into Airflow's database as deferred tasks, so that a thousand of them need no thousand tasks on a worker first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.waiting_server import TOKEN
from demo.airflow_stack import AirflowStack
from demo.connections import GEOCATALOG_VARIABLE, geocatalog_connection
from demo.postgresql import postgresql
from demo.processes import Processes
from demo.redis_server import RedisFailed, start_redis

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

COUNTS = (10, 1000)  # waits, and mapped tasks
TASKS, CONCURRENCY = 40, 4  # short tasks on one worker, and how many of them at once
SECONDS = 60.0  # that waits are measured
_SETTLE = 60.0  # seconds until waits are polled as old ones are
_TIME_LIMIT = 900.0  # seconds
_MIB = 1024 * 1024
_DAGS = textwrap.dedent(
    f"""
    import pendulum
    from airflow.providers.common.compat.sdk import DAG, task
    from airflow.providers.standard.operators.empty import EmptyOperator

    from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

    OPTIONS = {{"schedule": None, "start_date": pendulum.datetime(2026, 1, 1, tz="UTC")}}

    @task
    def look(number):
        next(GeoCatalogHook().client.list_operations(top=1))

    with DAG("tasks", **OPTIONS):
        look.expand(number=list(range({TASKS})))

    for count in {COUNTS}:
        with DAG(f"empty_{{count}}", **OPTIONS):
            EmptyOperator.partial(task_id="nothing").expand(doc=[str(number) for number in range(count)])
        with DAG(f"waits_{{count}}", **OPTIONS):
            look.override(pool="closed").expand(number=list(range(count)))
    """
)
#: Runs with Airflow's configuration: the tasks of a DAG wait for operations from now on.
_DEFER = """
import json, sys, time

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_provider_geocatalog.triggers.ingestion import GeoCatalogOperationTrigger

dag_id, ids = json.loads(sys.argv[1])
with create_session() as session:
    tasks = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == dag_id)).all()
    for task, operation_id in zip(tasks, ids, strict=True):
        options = {"operation_id": operation_id, "first_delay": 0.0, "deadline": time.time() + 24 * 3600}
        trigger = Trigger(*GeoCatalogOperationTrigger(**options).serialize())
        session.add(trigger)
        session.flush()
        task.state, task.trigger_id, task.next_method = "deferred", trigger.id, "execute"
"""


class _Bench:
    def __init__(self, airflow: AirflowStack, server: subprocess.Popen[str], ids: list[str]) -> None:
        self._airflow, self._server, self._ids = airflow, server, ids

    def run(self) -> None:
        print("Memory (PSS: what is shared is counted once) of processes without work:")
        for component in self._airflow.components:
            print(f"{component:>16}  {self._memory(component):8.0f} MiB")
        self._short_tasks()
        for count in COUNTS:
            began = time.monotonic()
            run = self._run(f"empty_{count}")
            print(f"{count:>6} mapped tasks that do nothing: {run['duration']:.0f} s in the scheduler alone")
            if time.monotonic() - began > _TIME_LIMIT:
                break
        idle = self._memory("triggerer")
        for count in COUNTS:
            self._waits(count, idle)

    def _short_tasks(self) -> None:
        cpu, most = self._cpu("worker-1"), 0.0

        def watch() -> None:
            nonlocal most
            most = max(most, self._memory("worker-1"))

        run = self._run("tasks", watch)
        seconds, cpu = run["duration"], self._cpu("worker-1") - cpu
        print(
            f"{TASKS} short tasks, {CONCURRENCY} at once: {seconds:.0f} s, {cpu / TASKS:.2f} s of CPU time of the "
            f"worker each; the worker has {most:.0f} MiB at most"
        )

    def _waits(self, count: int, idle: float) -> None:
        airflow, dag_id = self._airflow, f"waits_{count}"
        run_id = airflow.trigger(dag_id)

        def states() -> list[str]:
            return [str(task["state"]) for task in airflow.task_instances(dag_id, run_id)]

        _until(f"{count} tasks are there", lambda: states().count("scheduled") == count)
        argument = json.dumps([dag_id, self._ids[:count]])
        subprocess.run([sys.executable, "-c", _DEFER, argument], env=airflow.environment, check=True)
        logs = airflow.home / "logs" / f"dag_id={dag_id}"
        began = time.monotonic()
        _until("the triggerer has them", lambda: sum(1 for _ in logs.rglob("*.trigger.*.log")) == count)
        taken = time.monotonic() - began
        time.sleep(_SETTLE)
        self._requests()
        cpu = self._cpu("triggerer")
        time.sleep(SECONDS)
        cpu, requests = self._cpu("triggerer") - cpu, self._requests()
        memory = self._memory("triggerer")
        print(
            f"{count:>6} waits in one triggerer: taken up in {taken:.0f} s, {requests / SECONDS:.2f} requests and "
            f"{cpu / SECONDS:.3f} s of CPU time a second, {memory:.0f} MiB, {memory - idle:.0f} MiB more than without"
        )
        airflow.call("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", body={"state": "failed"})
        _until("nobody waits", lambda: "deferred" not in states())

    def _requests(self) -> int:
        """Return how many requests the emulator has had since the last time."""
        print("requests", file=self._server.stdin, flush=True)
        return int(self._server.stdout.readline())  # type: ignore[union-attr]

    def _run(self, dag_id: str, watch: Callable[[], None] | None = None) -> dict[str, Any]:
        airflow = self._airflow
        return airflow.wait_for_run(dag_id, airflow.trigger(dag_id), timeout=_TIME_LIMIT, on_poll=watch)

    def _memory(self, component: str) -> float:
        found = 0.0
        for process, _ in self._airflow.processes(component):
            try:
                found += process.memory_full_info().pss / _MIB
            except psutil.Error:
                continue  # it ended meanwhile
        return found

    def _cpu(self, component: str) -> float:
        """Return CPU seconds of a component's processes, those included that have ended."""
        return sum(sum(process.cpu_times()[:4]) for process, _ in self._airflow.processes(component))


def _until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _TIME_LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {_TIME_LIMIT:g} s: {what}")
        time.sleep(1)


def main() -> int:
    """
    Measure and print.

    :return: Exit code: 0; 1 without Redis.
    """
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            broker = start_redis(stack.enter_context(Processes(home)), home / "redis")
        except RedisFailed as error:
            print(error, file=sys.stderr)
            return 1
        command = [sys.executable, "-m", "benchmarks.waiting_server", str(max(COUNTS))]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(server.wait)
        stack.callback(server.stdin.close)  # type: ignore[union-attr]
        served = json.loads(server.stdout.readline())  # type: ignore[union-attr]
        dags = home / "dags"
        dags.mkdir()
        (dags / "dags.py").write_text(_DAGS)
        airflow = AirflowStack(
            home / "airflow",
            dags,
            environment={
                GEOCATALOG_VARIABLE: geocatalog_connection(served["url"], TOKEN),
                "AIRFLOW__CELERY__BROKER_URL": broker,
                "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(CONCURRENCY),
                "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(max(COUNTS)),
            },
            executor="CeleryExecutor",
            parallelism=max(COUNTS),
            database=stack.enter_context(postgresql(home / "postgresql")),
            components=("api-server", "scheduler", "dag-processor", "triggerer", "worker-1"),
            start_timeout=300,
        )
        stack.enter_context(airflow)
        airflow.call("POST", "/pools", body={"name": "closed", "slots": 0})
        _Bench(airflow, server, served["ids"]).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
