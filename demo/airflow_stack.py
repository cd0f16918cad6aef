"""Run Airflow's real components privately: own home, own ports, own processes, none of them left behind."""

from __future__ import annotations

import datetime
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import requests

from demo.airflow_api import AirflowApi
from demo.guard import DEFAULT_GRACE
from demo.processes import Processes, log_tail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

__all__ = ["COMPONENTS", "QUICK_RECOVERY", "AirflowStack", "ComponentFailed", "free_ports"]

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
#: Settings with which what a killed component leaves behind is taken up in seconds. Too short for production, where a
#: component that is only slow must not be taken for a dead one: docs/deployment.md.
QUICK_RECOVERY = {
    # A triggerer that was killed is given up after this time; 30 s by default.
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    # So is a task that gives no sign of life; five minutes by default.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    # And the tasks of a scheduler that has ended.
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
}
_LOOPBACK = "127.0.0.1"
#: What each component is called in the answer of ``/monitor/health``.
_HEALTH_NAMES = {
    "api-server": "metadatabase",
    "scheduler": "scheduler",
    "dag-processor": "dag_processor",
    "triggerer": "triggerer",
}
#: Settings with the ports where workers and triggerers serve their logs.
_WORKER_LOG_PORT = "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT"
_TRIGGER_LOG_PORT = "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT"
#: What the log of a Celery worker says when it takes tasks; Airflow's health answer knows no workers.
_WORKER_READY = " ready."
#: How the titles of processes start that have to do with one task, or wait for one.
_TASK_TITLES = ("airflow worker -- ", "airflow supervisor")
_LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.UTC)


class ComponentFailed(Exception):
    """An Airflow component or command ended, or did not become healthy; the text has the end of its log."""


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind((_LOOPBACK, 0))
        return [listener.getsockname()[1] for listener in sockets]


class AirflowStack(AirflowApi):
    """
    Airflow's components as processes, and a client for their REST API.

    A context manager: entering migrates the database, starts the components and waits until all are healthy; leaving
    ends them. Should this Python process be killed, they end as well.

    :param home: An own folder, made if needed; nothing is written elsewhere.
    :param dags_folder: Folder with DAG files.
    :param environment: Further variables, which win over those set here: connections, variables, settings. Airflow
        variables of the caller's own environment are not passed on.
    :param parallelism: Tasks that may run at once.
    :param executor: Class name of the executor.
    :param database: SQLAlchemy URL of an empty database; SQLite in ``home`` if not given.
    :param components: Which to start. Several of a kind have numbers: ``triggerer-1``, ``triggerer-2``; ``worker-1``
        is a worker of the CeleryExecutor.
    :param start_timeout: Seconds until all have to be healthy.
    :param on_progress: Told in a few words what happens during the start.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        parallelism: int = 4,
        executor: str = "LocalExecutor",
        database: str | None = None,
        components: Sequence[str] = COMPONENTS,
        start_timeout: float = 120,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        self.home = home.absolute()
        self.dags_folder = dags_folder.absolute()
        self.components = tuple(components)
        self._start_timeout = start_timeout
        self._on_progress = on_progress or (lambda _: None)
        port, worker_log_port, trigger_log_port = free_ports(3)
        super().__init__(f"http://{_LOOPBACK}:{port}")
        self._processes = Processes(self.home)
        self._started_at: dict[str, datetime.datetime] = {}
        self.environment = _clean(os.environ)
        self.environment |= {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags_folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": executor,
            "AIRFLOW__CORE__PARALLELISM": str(parallelism),
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            # Everybody is administrator, so the api-server listens on loopback only.
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__HOST": _LOOPBACK,
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database or f"sqlite:///{self.home / 'airflow.db'}",
            # Both are 8793/8794 otherwise, where another Airflow of this machine may listen.
            _WORKER_LOG_PORT: str(worker_log_port),
            _TRIGGER_LOG_PORT: str(trigger_log_port),
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            # Bundles go to the system's temporary folder otherwise.
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.home / "dag_bundles"),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "PYTHONUNBUFFERED": "1",
        }
        # Components start ``airflow`` again, from PATH. The virtual environment's own folder is meant, so the link
        # behind ``sys.executable`` is not followed.
        self._bin = Path(sys.executable).parent
        self.environment["PATH"] = os.pathsep.join([str(self._bin), self.environment.get("PATH", os.defpath)])
        for name in ("NO_PROXY", "no_proxy"):
            others = self.environment.get(name, "")
            self.environment[name] = ",".join(filter(None, [others, _LOOPBACK, "localhost", "::1"]))
        self.environment |= environment or {}

    # --- life --------------------------------------------------------------------------------------------------------

    def __enter__(self) -> AirflowStack:
        try:
            self.migrate()
            for component in self.components:
                self.start(component)
            self.wait_healthy(self._start_timeout)
            if "api-server" in self.components:
                self._warm_up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _warm_up(self) -> None:
        """
        Ask for something of what tasks talk to.

        The api-server makes it at the first request, for seconds, and on a busy machine for longer than a task tries.
        """
        self._session.get(f"{self.url}/execution/health", timeout=self._start_timeout)

    def migrate(self) -> None:
        """
        Make the database and, on the way, the configuration file with the secrets that the components share.

        Components that start at the same time without it would each write another one.

        :raises ComponentFailed: The database cannot be made.
        """
        self._on_progress("making Airflow's database")
        self.home.mkdir(parents=True, exist_ok=True)
        self._launch("db-migrate", "db", "migrate")
        while self._processes.is_running("db-migrate"):
            time.sleep(0.05)
        if self._processes.returncode("db-migrate") != 0:
            raise ComponentFailed(self._obituary("db-migrate"))
        self._processes.stop(["db-migrate"], grace=0)

    def command(self, *arguments: str, timeout: float = 120) -> str:
        """
        Run an ``airflow`` command in this environment.

        :param timeout: Seconds.
        :return: Its output.
        :raises subprocess.CalledProcessError: It failed.
        """
        done = subprocess.run(
            [str(self._bin / "airflow"), *arguments],
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return done.stdout

    def start(self, component: str) -> None:
        """Start a component."""
        self._on_progress(f"starting {component}")
        self._started_at[component] = datetime.datetime.now(datetime.UTC)
        own = {}
        if _kind(component) != component:
            # Several would want the same ports. That the api-server knows others does not matter: it reads the files.
            worker_port, trigger_port = free_ports(2)
            own = {_WORKER_LOG_PORT: str(worker_port), _TRIGGER_LOG_PORT: str(trigger_port)}
            own["LOGNAME"] = component  # Airflow writes it down with the component's job, which has no other name
        self._launch(component, *self._arguments(component), **own)

    def _arguments(self, component: str) -> list[str]:
        if _kind(component) != "worker":
            return [_kind(component)]
        # The file with the process id would be one for all workers otherwise, and the second would refuse to start.
        return ["celery", "worker", "--celery-hostname", component, "--pid", str(self.home / f"{component}.pid")]

    def _launch(self, name: str, *arguments: str, **environment: str) -> None:
        command = [str(self._bin / "airflow"), *arguments]
        self._processes.start(name, command, environment=self.environment | environment, folder=self.home)

    def stop(self, component: str, *, grace: float = DEFAULT_GRACE) -> None:
        """
        Ask a component to end, and kill it with all of its processes if it has not after ``grace`` seconds.

        Tasks that a stopped scheduler's LocalExecutor runs end with it.
        """
        self._processes.stop([component], grace=grace)

    def kill(self, component: str) -> None:
        """Kill a component (``SIGKILL``), all of its processes at once."""
        self._processes.stop([component], grace=0)

    def restart(self, component: str) -> None:
        """Stop a component and start it again, without waiting for its health."""
        self.stop(component)
        self.start(component)

    def close(self) -> None:
        """End all components, in six to seven seconds at most."""
        self._processes.close()
        self._session.close()

    # --- looking -----------------------------------------------------------------------------------------------------

    def log_file(self, component: str) -> Path:
        """Return the file with a component's output."""
        return self._processes.log(component)

    def pid(self, component: str) -> int:
        """Return the process id of a component's first process."""
        return self._processes.pid(component)

    def processes(self, component: str | None = None) -> list[tuple[psutil.Process, list[str]]]:
        """
        Return the living processes with their command lines.

        :param component: Of which component; of all if not given.
        """
        found = []
        for process in self._processes.members(component):
            try:
                found.append((process, process.cmdline()))
            except psutil.Error:
                continue  # it ended meanwhile
        return found

    def task_processes(self) -> list[tuple[psutil.Process, list[str]]]:
        """
        Return the processes that work on a task at this moment: its supervisor and its runner.

        LocalExecutor's workers show by their title what they do; those that wait for work are left out.
        """
        return [
            (process, command)
            for process, command in self.processes()
            if " ".join(command).startswith(_TASK_TITLES) and "<idle>" not in " ".join(command)
        ]

    def health(self) -> dict[str, str | None]:
        """
        Return the status of each component in the words of Airflow's health answer; empty if there is none.

        A component counts only from its first heartbeat after its start: Airflow goes on to call it healthy for half a
        minute after its end.
        """
        try:
            answer = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=5)
            document: dict[str, Any] = answer.json() if answer.ok else {}
        except requests.RequestException:
            return {}
        return {name: self._status(name, document) for name in self.components}

    def _status(self, component: str, document: Mapping[str, Mapping[str, str | None]]) -> str | None:
        if not self._processes.is_running(component):
            return "stopped"
        if _kind(component) == "worker":
            return "healthy" if _WORKER_READY in self.log_file(component).read_text(errors="replace") else "starting"
        name = _HEALTH_NAMES[_kind(component)]
        answer = document.get(name) or {}
        heartbeat = answer.get(f"latest_{name}_heartbeat")
        if heartbeat and datetime.datetime.fromisoformat(heartbeat) < self._started_at.get(component, _LONG_AGO):
            return "starting"
        return answer.get("status")

    def job_id(self, component: str) -> int:
        """Return the id of the job that Airflow has written down for a component with a number, except for workers."""
        jobs = self.call("GET", "/jobs", query={"order_by": "-id"})["jobs"]
        return next(int(job["id"]) for job in jobs if job["unixname"] == component)

    def wait_healthy(self, timeout: float = 120) -> None:
        """
        Wait until all components are healthy.

        :param timeout: Seconds.
        :raises ComponentFailed: One ended, or is not healthy in time.
        """
        deadline = time.monotonic() + timeout
        told: set[str] = set()
        while True:
            for component in self.components:
                if not self._processes.is_running(component):
                    raise ComponentFailed(self._obituary(component))
            health = self.health()
            waiting = [component for component in self.components if health.get(component) != "healthy"]
            for component in self.components:
                if component not in waiting and component not in told:
                    told.add(component)
                    self._on_progress(f"{component} is healthy")
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise ComponentFailed(
                    f"not healthy within {timeout:g} s: {', '.join(waiting)}\n"
                    + "\n".join(f"--- {self.log_file(name)}\n{log_tail(self.log_file(name))}" for name in waiting)
                )
            time.sleep(0.3)

    def _obituary(self, name: str) -> str:
        code = self._processes.returncode(name)
        path = self._processes.log(name)
        return f"airflow {name} ended with code {code}; the end of {path}:\n{log_tail(path)}"


def _kind(component: str) -> str:
    """Return what a component is: its name without the number."""
    name, _, number = component.rpartition("-")
    return name if number.isdigit() else component


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without anybody else's Airflow in it."""
    return {name: value for name, value in environment.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
