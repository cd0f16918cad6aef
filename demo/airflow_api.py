"""The parts of Airflow's REST API (v2) that a demonstration and tests on real components need."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["AirflowApi", "AirflowApiError", "DagImportError"]

_PAGE = 100  # entries; the server's own limit (``[api] maximum_page_limit``)
_OTHER_FILES = 3  # seconds that a DAG may still appear in another file than the one that cannot be imported
#: Members of a log event that are shown otherwise, or are the same in all events of a task.
_LOG_CONTEXT = frozenset(
    {"timestamp", "level", "event", "logger", "filename", "lineno", "error_detail"}
    | {"ti_id", "dag_id", "task_id", "run_id", "map_index", "try_number"}
)
FINAL_STATES = frozenset({"success", "failed"})


#: Seconds between attempts while the database is locked.
_PAUSES = (0.3, 1.0, 3.0)


class AirflowApiError(Exception):
    """Airflow's API refused a call; the text has its method, path, status and body."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class DagImportError(Exception):
    """A DAG is not there because its file cannot be imported; the text has the traceback."""


class AirflowApi:
    """
    A client for an Airflow whose simple auth manager lets everybody in as administrator.

    :param url: Address of the api-server.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy or a .netrc of this machine has no business with loopback

    # --- calls -------------------------------------------------------------------------------------------------------

    def call(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, Any] | None = None, timeout: float = 90
    ) -> Any:
        """
        Send a request.

        :param path: Path below ``/api/v2``.
        :param timeout: Seconds.
        :return: The answer's JSON; ``None`` for an empty answer.
        :raises AirflowApiError: Airflow refused it.
        """
        if "Authorization" not in self._session.headers:
            self._sign_in()

        def send() -> requests.Response:
            return self._session.request(method, f"{self.url}/api/v2{path}", json=body, params=query, timeout=timeout)

        answer = send()
        if answer.status_code == 401:  # a restarted api-server
            self._sign_in()
            answer = send()
        for pause in _PAUSES:
            if answer.status_code != 500 or "Database error" not in answer.text:
                break
            time.sleep(pause)  # SQLite was locked, and what was begun is undone
            answer = send()
        if not answer.ok:
            raise AirflowApiError(f"{method} {path} answered {answer.status_code}: {answer.text}", answer.status_code)
        return answer.json() if answer.content else None

    def _sign_in(self) -> None:
        answer = self._session.get(f"{self.url}/auth/token", timeout=30)
        answer.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _pages(self, path: str, member: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            answer = self.call("GET", path, query={"limit": _PAGE, "offset": offset})
            yield from answer[member]
            offset += len(answer[member])
            if not answer[member] or offset >= answer["total_entries"]:
                return

    # --- DAGs and runs -----------------------------------------------------------------------------------------------

    def wait_for_dag(self, dag_id: str, *, timeout: float = 60) -> None:
        """
        Wait until a DAG is parsed.

        :param timeout: Seconds.
        :raises DagImportError: A file of the DAGs folder cannot be imported and the DAG is not there.
        :raises TimeoutError: The DAG did not appear.
        """
        deadline = time.monotonic() + timeout
        give_up_at = deadline
        while True:
            try:
                self.call("GET", f"/dags/{quote(dag_id)}")
            except AirflowApiError as error:
                if error.status != 404:
                    raise
            else:
                return
            if problems := self.import_errors():
                give_up_at = min(give_up_at, time.monotonic() + _OTHER_FILES)
            if problems and time.monotonic() > give_up_at:
                text = "\n".join(f"{problem['filename']}\n{problem['stack_trace']}" for problem in problems)
                raise DagImportError(f"DAG {dag_id!r} is not there; files that cannot be imported:\n{text}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"no DAG {dag_id!r} appeared within {timeout:g} s")
            time.sleep(0.5)

    def import_errors(self) -> list[dict[str, Any]]:
        """Return the DAG files that cannot be imported."""
        return list(self._pages("/importErrors", "import_errors"))

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, *, timeout: float = 60) -> str:
        """
        Start a run of a DAG as soon as the DAG is parsed, unpausing it.

        :param conf: The run's configuration.
        :param timeout: Seconds to wait for the DAG.
        :return: The run's id.
        """
        self.wait_for_dag(dag_id, timeout=timeout)
        self.call("PATCH", f"/dags/{quote(dag_id)}", body={"is_paused": False})
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self.call("POST", f"/dags/{quote(dag_id)}/dagRuns", body=body)["dag_run_id"])

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run."""
        run: dict[str, Any] = self.call("GET", _run_path(dag_id, run_id))
        return run

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout: float,
        on_change: Callable[[dict[str, Any]], None] | None = None,
        on_poll: Callable[[], None] | None = None,
        poll_interval: float = 1.0,
    ) -> dict[str, Any]:
        """
        Wait until a run ends.

        :param timeout: Seconds.
        :param on_change: Called with a task instance whenever its state or try is another than at the last look.
        :param on_poll: Called after every look.
        :param poll_interval: Seconds between looks.
        :return: The run.
        :raises TimeoutError: It did not end in time.
        """
        deadline = time.monotonic() + timeout
        seen: dict[tuple[str, int], tuple[Any, Any]] = {}
        while True:
            run = self.dag_run(dag_id, run_id)  # before the tasks, so that the last look sees their last states
            for task in self.task_instances(dag_id, run_id) if on_change else ():
                key, now = (task["task_id"], task["map_index"]), (task["state"], task["try_number"])
                if on_change and seen.get(key, (None, 0)) != now:
                    seen[key] = now
                    on_change(task)
            if on_poll:
                on_poll()
            if run["state"] in FINAL_STATES:
                return run
            if time.monotonic() > deadline:
                raise TimeoutError(f"run {run_id!r} of {dag_id!r} did not end within {timeout:g} s")
            time.sleep(poll_interval)

    # --- task instances ----------------------------------------------------------------------------------------------

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run: ``task_id``, ``map_index``, ``state``, ``try_number``, ``duration``."""
        return list(self._pages(f"{_run_path(dag_id, run_id)}/taskInstances", "task_instances"))

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return one task instance."""
        task: dict[str, Any] = self.call("GET", _task_path(dag_id, run_id, task_id, map_index))
        return task

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str, *, map_index: int = -1) -> None:
        """
        Mark a task instance, as the UI does.

        :param state: ``success``, ``failed`` or ``skipped``.
        """
        self.call("PATCH", _task_path(dag_id, run_id, task_id, map_index), body={"new_state": state})

    def clear(
        self,
        dag_id: str,
        run_id: str,
        task_ids: Sequence[str | tuple[str, int]],
        *,
        only_failed: bool = False,
        include_downstream: bool = False,
    ) -> None:
        """
        Clear task instances of a run.

        :param task_ids: Task ids, or pairs of task id and map index.
        """
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [list(task) if isinstance(task, tuple) else task for task in task_ids],
            "only_failed": only_failed,
            "include_downstream": include_downstream,
        }
        self.call("POST", f"/dags/{quote(dag_id)}/clearTaskInstances", body=body)

    def rendered_fields(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return the rendered template fields of a task instance."""
        fields: dict[str, Any] = self.task_instance(dag_id, run_id, task_id, map_index)["rendered_fields"]
        return fields

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """
        Return an XCom.

        :raises AirflowApiError: There is none.
        """
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}/xcomEntries/{quote(key, safe='')}"
        value = self.call("GET", path, query={"map_index": map_index})["value"]
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            return value

    def xcoms(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return all XComs of a run, each as Airflow's entry with its ``value`` added."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/~/xcomEntries"
        return [
            {**entry, "value": self.xcom(dag_id, run_id, entry["task_id"], entry["map_index"], entry["key"])}
            for entry in self._pages(path, "xcom_entries")
        ]

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str]:
        """Return the URLs of a task's links by their names, without those that lead nowhere yet."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}/links"
        found: dict[str, str | None] = self.call("GET", path)["extra_links"]
        return {name: url for name, url in found.items() if url}

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, *, try_number: int | None = None, map_index: int = -1
    ) -> str:
        """
        Return the log of a try of a task, one event a line.

        :param try_number: Which try; the last one if not given.
        """
        if try_number is None:
            try_number = self.task_instance(dag_id, run_id, task_id, map_index)["try_number"]
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}/logs/{try_number}"
        content = self.call("GET", path, query={"map_index": map_index, "full_content": True})["content"]
        return "\n".join(_log_line(event) for event in content)


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}"


def _task_path(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    path = f"{_run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}"
    return path if map_index < 0 else f"{path}/{map_index}"


def _log_line(event: Any) -> str:
    """Write a structured log event as text, without what is the same in all events of a task."""
    if not isinstance(event, dict):
        return str(event)
    parts = [str(event[name]) for name in ("timestamp", "level", "event") if event.get(name)]
    errors = [f"{error.get('exc_type')}: {error.get('exc_value')}" for error in event.get("error_detail") or []]
    extra = {name: value for name, value in event.items() if name not in _LOG_CONTEXT}
    return " ".join([*parts, *([json.dumps(extra, default=str)] if extra else []), *errors])
