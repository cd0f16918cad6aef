"""
``python -m benchmarks.transferring_probe CLIENT COUNT MODE RATE``: transfer items into an emulator's collection.

The first line of its standard input is what ``benchmarks.transferring_server`` printed. The client ``provider`` is the
transfer operator with that mode and connection, otherwise as it comes; ``sdk`` is the loop of the service's tutorial
with the official SDK: create an item, poll its operation to the end, go on with the next. After some items of a
warm-up it prints seconds, CPU seconds and the process's peak memory as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.transferring_items import items
from benchmarks.transferring_server import COLLECTION, TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

_WARM_UP = 10  # items


def _peak() -> int:
    """Return the most memory that the process has had; what ``getrusage`` tells may be its parent's."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


class _Store:
    """What Airflow keeps for a task instance."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    def get(self, key: str) -> Any:
        return json.loads(self._kept.get(key, "null"))

    def set(self, key: str, value: Any) -> None:
        self._kept[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self._kept.pop(key, None)


class _TaskInstance:
    dag_id, task_id, run_id, map_index = "benchmark", "benchmark", "benchmark", -1
    try_number, max_tries = 1, 0

    def xcom_push(self, key: str, value: Any) -> None:
        """Take what the operator tells on its way."""


def _provider(url: str, mode: str, rate: float) -> Callable[[int, str], int]:
    extra = {"auth_method": "static_token", "requests_per_second": rate}
    connection = {"conn_type": "geocatalog", "host": url, "password": TOKEN, "extra": extra}
    os.environ["AIRFLOW_CONN_GEOCATALOG_DEFAULT"] = json.dumps(connection)
    from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator
    from airflow_provider_geocatalog.transfer.sources import CallableSource

    def transfer(count: int, prefix: str) -> int:
        operator = StacToGeoCatalogOperator(
            task_id="transfer",
            collection_id=COLLECTION,
            source=CallableSource(items, args=(count, prefix)),
            mode=mode,
        )
        context: Any = {"ti": _TaskInstance(), "task_state_store": _Store()}
        counts = operator.execute(context)["counts"]
        return int(counts["created"] + counts["updated"])

    return transfer


def _sdk(url: str) -> Callable[[int, str], int]:
    from azure.core.credentials import AccessToken
    from azure.core.pipeline.policies import SansIOHTTPPolicy
    from azure.planetarycomputer import PlanetaryComputerProClient

    class Credential:
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            return AccessToken(TOKEN, 2**31)

    class Bearer(SansIOHTTPPolicy[Any, Any]):  # the SDK's own policy refuses plain http
        def on_request(self, request: Any) -> None:
            request.http_request.headers["Authorization"] = f"Bearer {TOKEN}"

    client = PlanetaryComputerProClient(url, Credential(), authentication_policy=Bearer())

    def transfer(count: int, prefix: str) -> int:
        done = 0
        for item in items(count, prefix):
            # Its own pause is 30 s; none is the kindest that one can be to it.
            poller = client.stac.begin_create_item(COLLECTION, {**item, "collection": COLLECTION}, polling_interval=0)
            poller.result()
            done += poller.status() == "Succeeded"
        return done

    return transfer


def main(client: str, count: str, mode: str, rate: str) -> None:
    """Measure; Airflow logs to the standard output, so what goes there otherwise goes to the standard error."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        url = json.loads(sys.stdin.readline())["url"]
        transfer = _provider(url, mode, float(rate)) if client == "provider" else _sdk(url)
        transfer(_WARM_UP, f"warm-up-{os.getpid()}")
        began, cpu = time.perf_counter(), time.process_time()
        done = transfer(int(count), "scene")
        cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
        if done != int(count):
            raise RuntimeError(f"only {done} of {count} items were transferred")
        print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": _peak()}), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5])
