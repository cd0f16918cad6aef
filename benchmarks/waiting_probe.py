"""
``python -m benchmarks.waiting_probe CLIENT INTERVAL SECONDS``: wait for operations on one event loop, as a triggerer.

The first line of its standard input is what ``benchmarks.waiting_server`` printed. With the client ``provider`` the
waits are the provider's triggers, with ``sdk`` each is a task that polls with the official SDK's async client. After a
time to settle it prints ``ready``, measures for SECONDS and prints CPU seconds, memory and how late the event loop was
as JSON; when all operations have ended, it prints when each wait came to know.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
from contextlib import AsyncExitStack
from typing import IO, TYPE_CHECKING, Any

from benchmarks.waiting_server import TOKEN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_TICK = 0.025  # seconds; more often, and looking would cost more than what is looked at
_FIRST = 3.0  # seconds for the first wait, which brings what all of them need
_REQUESTS_PER_SECOND = 1000  # neither client is to be held back


def _memory() -> int:
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _provider(url: str, interval: float, stack: AsyncExitStack) -> Callable[[str], Awaitable[Any]]:
    from airflow_provider_geocatalog.triggers.ingestion import GeoCatalogOperationTrigger

    extra = {"auth_method": "static_token", "requests_per_second": _REQUESTS_PER_SECOND}
    connection = {"conn_type": "geocatalog", "host": url, "password": TOKEN, "extra": extra}
    os.environ["AIRFLOW_CONN_GEOCATALOG_DEFAULT"] = json.dumps(connection)

    async def wait(operation_id: str) -> None:
        trigger = GeoCatalogOperationTrigger(
            operation_id=operation_id,
            poll_interval=interval,
            min_poll_interval=interval,
            first_delay=0.0,
            deadline=time.time() + 24 * 3600,
        )
        async for event in trigger.run():
            if event.payload["outcome"] != "ended":
                raise RuntimeError(event.payload)

    return wait


async def _sdk(url: str, interval: float, stack: AsyncExitStack) -> Callable[[str], Awaitable[Any]]:
    from azure.core.credentials import AccessToken
    from azure.core.pipeline.policies import SansIOHTTPPolicy
    from azure.planetarycomputer.aio import PlanetaryComputerProClient

    class Credential:
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            return AccessToken(TOKEN, 2**31)

    class Bearer(SansIOHTTPPolicy[Any, Any]):  # the SDK's own policy refuses plain http
        def on_request(self, request: Any) -> None:
            request.http_request.headers["Authorization"] = f"Bearer {TOKEN}"

    client = await stack.enter_async_context(
        PlanetaryComputerProClient(url, Credential(), authentication_policy=Bearer())  # type: ignore[arg-type]
    )

    async def wait(operation_id: str) -> None:
        while True:
            operation = await client.ingestion.get_operation(operation_id)
            if operation.status in {"Succeeded", "Failed", "Canceled"}:
                return
            await asyncio.sleep(interval)

    return wait


async def _tell_lags(lags: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(_TICK)
        lags.append(time.perf_counter() - began - _TICK)


async def _measure(client: str, interval: float, seconds: float, answers: IO[str]) -> None:
    served = json.loads(sys.stdin.readline())
    fired: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        wait = await (_provider if client == "provider" else _sdk)(served["url"], interval, stack)

        async def one(operation_id: str, delay: float) -> None:
            await asyncio.sleep(delay)
            await wait(operation_id)
            fired[operation_id] = time.time()

        ids = served["ids"]
        tasks = [asyncio.create_task(one(ids[0], 0.0))]
        await asyncio.sleep(_FIRST)
        before = _memory()
        tasks += [asyncio.create_task(one(operation_id, random.uniform(0, interval))) for operation_id in ids[1:]]
        await asyncio.sleep(2 * interval)
        lags: list[float] = []
        watch = asyncio.create_task(_tell_lags(lags))
        print("ready", file=answers, flush=True)
        cpu = time.process_time()
        await asyncio.sleep(seconds)
        cpu = time.process_time() - cpu
        watch.cancel()
        lag = sorted(lags)[int(0.99 * len(lags))]
        print(json.dumps({"cpu": cpu, "bytes": _memory() - before, "lag": lag}), file=answers, flush=True)
        await asyncio.gather(*tasks)
        print(json.dumps(fired), file=answers, flush=True)


def main(client: str, interval: str, seconds: str) -> None:
    """Measure; Airflow logs to the standard output, so what goes there otherwise goes to the standard error."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        asyncio.run(_measure(client, float(interval), float(seconds), answers))


if __name__ == "__main__":
    main(*sys.argv[1:4])
