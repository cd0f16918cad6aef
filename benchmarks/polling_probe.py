"""
``python -m benchmarks.polling_probe CLIENT WAY BASE PORT``: poll an operation in this fresh process and tell the cost.

The client is ``provider`` or ``sdk``; the way ``blocking``, ``async`` or ``gathered`` (twenty at a time). With the base
``airflow`` the process has Airflow's base classes before it begins, as every worker and triggerer has; with ``bare`` it
has nothing. The last line of output is JSON: CPU seconds for one request, and bytes of memory that were added.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "benchmark"
WARM_UP, REQUESTS, TOGETHER = 50, 1000, 20
OPERATION_ID = "22222222-2222-4222-8222-222222222222"


def _memory() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _provider(url: str, way: str) -> Callable[[], Any]:
    from airflow_provider_geocatalog.auth import ConnectionSettings
    from airflow_provider_geocatalog.client import GeoCatalogClient

    extra = {"auth_method": "static_token", "requests_per_second": 1000}
    client = GeoCatalogClient(ConnectionSettings.from_fields(host=url, password=TOKEN, extra=extra))
    if way == "blocking":
        return lambda: client.get_operation(OPERATION_ID)
    return lambda: client.get_operation.aio(OPERATION_ID)


def _sdk(url: str, way: str) -> Callable[[], Any]:
    from azure.core.credentials import AccessToken
    from azure.core.pipeline.policies import SansIOHTTPPolicy

    class Credential:
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            return AccessToken(TOKEN, 2**31)

    class Bearer(SansIOHTTPPolicy[Any, Any]):  # the SDK's own policy refuses plain http
        def on_request(self, request: Any) -> None:
            request.http_request.headers["Authorization"] = f"Bearer {TOKEN}"

    if way == "blocking":
        from azure.planetarycomputer import PlanetaryComputerProClient

        client = PlanetaryComputerProClient(url, Credential(), authentication_policy=Bearer())
        return lambda: client.ingestion.get_operation(OPERATION_ID)
    from azure.planetarycomputer.aio import PlanetaryComputerProClient as AsyncClient

    aclient = AsyncClient(url, Credential(), authentication_policy=Bearer())  # type: ignore[arg-type]
    return lambda: aclient.ingestion.get_operation(OPERATION_ID)


def _blocking(poll: Callable[[], Any]) -> float:
    for _ in range(WARM_UP):
        poll()
    start = time.process_time()
    for _ in range(REQUESTS):
        poll()
    return (time.process_time() - start) / REQUESTS


def _on_a_loop(make: Callable[[], Callable[[], Any]], together: int) -> float:
    import asyncio

    async def run() -> float:
        poll = make()
        for _ in range(WARM_UP):
            await poll()
        await asyncio.gather(*(poll() for _ in range(together)))
        start = time.process_time()
        for _ in range(REQUESTS // together):
            if together == 1:
                await poll()
            else:
                await asyncio.gather(*(poll() for _ in range(together)))
        return (time.process_time() - start) / REQUESTS

    return asyncio.run(run())


def main(client: str, way: str, base: str, port: str) -> None:
    """Measure and print."""
    if base == "airflow":
        import logging

        from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseSensorOperator  # noqa: F401

        logging.disable(logging.CRITICAL)  # Airflow's log level would have the SDK write a page for each request
    before = _memory()
    url = f"http://127.0.0.1:{port}"
    make = _provider if client == "provider" else _sdk
    if way == "blocking":
        cpu = _blocking(make(url, way))
    else:
        cpu = _on_a_loop(lambda: make(url, way), TOGETHER if way == "gathered" else 1)
    print(json.dumps({"cpu": cpu, "bytes": _memory() - before}))


if __name__ == "__main__":
    main(*sys.argv[1:5])
