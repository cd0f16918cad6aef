"""Emulators over HTTP, and clients of them in every api-version and both forms."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any

import pytest

pytest.register_assert_rewrite(
    "tests.roundtrip.roundtrip_adapter",
    "tests.roundtrip.roundtrip_catalog",
    "tests.roundtrip.roundtrip_ingestion",
    "tests.roundtrip.roundtrip_items",
)

from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings  # noqa: E402
from tests.roundtrip.roundtrip_adapter import Api, Scenario  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_geocatalog.api.dialects import Dialect


@pytest.fixture(scope="session")
def closing() -> Iterator[concurrent.futures.Executor]:
    """Where servers are closed, so that no test waits for the last one's 0.2 s."""
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        yield executor


@pytest.fixture
def connect(tmp_path: Path, closing: concurrent.futures.Executor) -> Iterator[Callable[..., Api]]:
    """Start an emulator without delays, and return how to call it."""
    opened: list[tuple[Api, EmulatorServer]] = []

    def start(dialect: Dialect, form: str, *, clock: Any = None, **settings: Any) -> Api:
        folder = tmp_path / f"container-{len(opened)}"
        folder.mkdir()
        server = EmulatorServer(Emulator(EmulatorSettings.fast(containers={"private": folder}, **settings), clock))
        server.__enter__()
        api = Api(server, dialect, form, folder)
        opened.append((api, server))
        return api

    yield start
    for api, server in opened:
        api.client.close()
        closing.submit(server.close)


@pytest.fixture(scope="session")
def played() -> dict[tuple[str, str, str], set[str]]:
    """What was exercised successfully: by api-version, form and scenario."""
    return {}


@pytest.fixture
def play(connect: Callable[..., Api], played: dict[tuple[str, str, str], set[str]]) -> Callable[..., Any]:
    """Play a scenario on an emulator of its own, and return the operations that succeeded in it."""

    async def carry_out(scenario: Scenario, dialect: Dialect, form: str) -> set[str]:
        key = dialect.api_version, form, scenario.name
        if key not in played:
            api = connect(dialect, form, **scenario.settings)
            await scenario.play(api)
            played[key] = api.exercised()
        return played[key]

    return carry_out
