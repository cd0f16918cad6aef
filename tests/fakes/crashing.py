"""
Tries of a task in processes of their own, which are killed at a named point.

A process stands in for Airflow's worker and triggerer. What Airflow keeps is in files: XComs, which are deleted when a
try begins; the task state store, which outlives tries and clears; and the trigger of a deferred task.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import re
import sys
import threading
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import TaskDeferred

# These are for the process from which all others are forked: what it has imported, they need not.
import airflow_provider_geocatalog.api.flows.waiting
import airflow_provider_geocatalog.auth
import airflow_provider_geocatalog.loops
import airflow_provider_geocatalog.operators.ingestion
import airflow_provider_geocatalog.shared_waits
import airflow_provider_geocatalog.transfer.item_checks
import airflow_provider_geocatalog.transfer.transfer
import airflow_provider_geocatalog.transport  # noqa: F401
from airflow_provider_geocatalog.links import LINKS_KEY
from airflow_provider_geocatalog.operators.ingestion import GeoCatalogBulkIngestionOperator
from airflow_provider_geocatalog.operators.items import GeoCatalogCreateItemsOperator
from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path

OPERATORS = {
    "run": GeoCatalogBulkIngestionOperator,
    "items": GeoCatalogCreateItemsOperator,
    "transfer": StacToGeoCatalogOperator,
}
_PATIENCE = 40.0  # seconds of a loaded machine


@dataclass(frozen=True)
class Stop:
    """
    Where a try stops, to be killed.

    :param at: ``xcom before``, ``xcom after``, ``store after``, ``deferral before``; or a regular expression for the
        beginning of a request that is about to be sent, such as ``POST /stac``.
    :param nth: Which of the matches.
    """

    at: str
    nth: int = 1


@dataclass(frozen=True)
class Try:
    """
    One try.

    :param folder: Where Airflow's part is kept.
    :param work: One of :data:`OPERATORS`.
    :param has_store: Whether there is a task state store, as from Airflow 3.3.
    :param max_tries: Airflow's count, which a clear raises.
    :param resumes: Whether it goes on with the trigger that was deferred to, as after the triggerer was killed.
    """

    url: str
    token: str
    folder: Path
    work: str
    arguments: dict[str, Any]
    has_store: bool
    number: int = 1
    retries: int = 3
    max_tries: int = 3
    stop: Stop | None = None
    resumes: bool = False


class Killed(Exception):
    """The try has been killed where it was to stop."""


def carry_out(this: Try, *, kill_when: Callable[[], bool] | None = None) -> Any:
    """
    Carry out a try and return the task's result.

    :param kill_when: Kills the try as soon as it says so.
    :raises Killed: It was killed.
    :raises AssertionError: It raised, or did not come to where it was to be killed.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    listening, telling = processes.Pipe(duplex=False)
    process = processes.Process(target=_run, args=(this, telling), daemon=True)
    process.start()
    telling.close()
    try:
        if kill_when is not None:
            for _ in range(int(_PATIENCE / 0.01)):
                if kill_when():
                    raise Killed
                assert not listening.poll(0.01), f"it was to be killed, but {listening.recv()}"
            raise AssertionError("it was to be killed, but never came there")
        assert listening.poll(_PATIENCE), "nothing was heard of it"
        said, what = listening.recv()
        if said == "stopped":
            raise Killed
        assert said == "result", what
        assert this.stop is None, "it was to be killed, but ended"
        return what
    finally:
        process.kill()
        process.join()
        listening.close()


# --- in the process -------------------------------------------------------------------------------------------------


def _run(this: Try, telling: Connection) -> None:
    connection = {
        "conn_type": "geocatalog",
        "host": this.url,
        "password": this.token,
        "extra": {"auth_method": "static_token"},
    }
    os.environ["AIRFLOW_CONN_GEOCATALOG_DEFAULT"] = json.dumps(connection)
    stopper = _Stopper(this.stop, telling)
    sys.addaudithook(stopper.audit)
    try:
        told = ("result", execute(this, stopper.reached))
    except Exception as error:
        told = ("error", f"{type(error).__name__}: {error}")
    telling.send(told)


@dataclass
class _Stopper:
    stop: Stop | None
    telling: Connection
    matches: int = 0

    def reached(self, point: str) -> None:
        if self.stop is None or not re.match(self.stop.at, point):
            return
        self.matches += 1
        if self.matches == self.stop.nth:
            self.telling.send(("stopped", point))
            threading.Event().wait()

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Notice a request right before it is sent; Python tells that of every one."""
        if event == "http.client.send" and isinstance(arguments[1], bytes):
            self.reached(arguments[1].split(b"\r\n", 1)[0].decode("latin-1"))


def execute(this: Try, reached: Callable[[str], None]) -> Any:
    """
    Carry out a try in this process.

    :param reached: Told of every point where a record is made.
    """
    operator = OPERATORS[this.work](task_id="task", retries=this.retries, **this.arguments)
    operator.first_delay = 0.1
    xcoms = _File(this.folder / "xcoms.json", "xcom", reached)
    store = _File(this.folder / "store.json", "store", reached)
    context: dict[str, Any] = {"ti": _TaskInstance(this.number, this.max_tries, operator, xcoms)}
    if this.has_store:
        context["task_state_store"] = store
    deferred = _File(this.folder / "deferred.json", "deferral", reached)
    work = partial(operator.execute, context)
    if this.resumes:
        work = partial(_resume, operator, context, deferred)
    else:
        xcoms.clear()
    while True:
        try:
            return work()
        except TaskDeferred as deferral:
            path, arguments = deferral.trigger.serialize()
            deferred.set("trigger", [path, arguments, deferral.method_name])
            work = partial(_resume, operator, context, deferred)


def _resume(operator: Any, context: dict[str, Any], deferred: _File) -> Any:
    path, arguments, method = deferred.get("trigger")
    module, name = path.rsplit(".", 1)
    trigger = getattr(import_module(module), name)(**{**arguments, "first_delay": 0.1})
    event = asyncio.run(_fire(trigger))
    return getattr(operator, method)(context, event=event.payload)


async def _fire(trigger: Any) -> Any:
    return await anext(trigger.run())


@dataclass
class _File:
    """A mapping in a file, which is written at once or not at all."""

    path: Path
    name: str
    reached: Callable[[str], None]

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def get(self, key: str, default: Any = None) -> Any:
        return self._read().get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.reached(f"{self.name} before")
        partly = self.path.with_suffix(".part")
        partly.write_text(json.dumps({**self._read(), key: value}))
        partly.replace(self.path)
        self.reached(f"{self.name} after")

    def delete(self, key: str) -> None:
        self.path.write_text(json.dumps({name: value for name, value in self._read().items() if name != key}))

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)


@dataclass
class _TaskInstance:
    try_number: int
    max_tries: int
    task: Any
    xcoms: _File
    dag_id: str = "dag"
    task_id: str = "task"
    run_id: str = "run"
    map_index: int = field(default=-1)

    def xcom_push(self, key: str, value: Any) -> None:
        if key != LINKS_KEY:  # on which nothing hangs
            self.xcoms.set(key, value)

    def xcom_pull(self, *, key: str, **_where: Any) -> Any:
        return self.xcoms.get(key)
