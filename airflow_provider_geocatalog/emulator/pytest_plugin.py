"""
Fixtures for tests of DAGs: an emulator for each test, a connection to it, and ways to disturb and to look at it.

Name it in the ``conftest.py`` at the root of your tests (docs/testing-dags.md); it is not loaded by being installed::

    pytest_plugins = ["airflow_provider_geocatalog.emulator.pytest_plugin"]
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_geocatalog.emulator.app import Emulator
from airflow_provider_geocatalog.emulator.server import EmulatorServer
from airflow_provider_geocatalog.emulator.settings import EmulatorSettings

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_geocatalog.emulator.app import RecordedRequest
    from airflow_provider_geocatalog.emulator.clock import Clock
    from airflow_provider_geocatalog.emulator.faults import Faults

__all__ = [
    "geocatalog_clock",
    "geocatalog_connection",
    "geocatalog_emulator",
    "geocatalog_faults",
    "geocatalog_requests",
    "geocatalog_settings",
]

_MARKER = "geocatalog_emulator"
#: The connection id that operators and the hook use unless they are given another.
_CONNECTION_ID = "geocatalog_default"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", f"{_MARKER}(**settings): settings of the emulated GeoCatalog (EmulatorSettings) for a test"
    )


@pytest.fixture
def geocatalog_settings(tmp_path: Path) -> dict[str, Any]:
    """
    Return the settings that every emulator has; a fixture of the same name in ``conftest.py`` changes them.

    Nothing takes time, and files below ``tmp_path`` can be ingested by their ``file:`` URLs.
    """
    return {"allowed_paths": (tmp_path,)}


@pytest.fixture
def geocatalog_emulator(
    request: pytest.FixtureRequest, geocatalog_settings: dict[str, Any]
) -> Iterator[EmulatorServer]:
    """Serve an emulator of its own to a test; it has ``url`` and ``admin_token``, and ends with the test."""
    settings = dict(geocatalog_settings)
    for marker in reversed(list(request.node.iter_markers(_MARKER))):  # the closest one last, so that it wins
        if marker.args:
            raise pytest.UsageError(f"@pytest.mark.{_MARKER} takes keyword arguments")
        settings |= marker.kwargs
    with EmulatorServer(Emulator(EmulatorSettings.fast(**settings))) as server:
        yield server


@pytest.fixture
def geocatalog_connection(geocatalog_emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point the connection ``geocatalog_default`` at the emulator for a test, and return its id."""
    connection = {
        "conn_type": "geocatalog",
        "host": geocatalog_emulator.url,
        "password": geocatalog_emulator.admin_token,
        "extra": {"auth_method": "static_token"},
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{_CONNECTION_ID.upper()}", json.dumps(connection))
    return _CONNECTION_ID


@pytest.fixture
def geocatalog_faults(geocatalog_emulator: EmulatorServer) -> Faults:
    """Return what makes the emulator misbehave; there is no fault at first."""
    return geocatalog_emulator.emulator.faults


@pytest.fixture
def geocatalog_clock(geocatalog_emulator: EmulatorServer) -> Clock:
    """Return the emulator's clock; it follows the machine's at first."""
    return geocatalog_emulator.emulator.clock


@pytest.fixture
def geocatalog_requests(geocatalog_emulator: EmulatorServer) -> deque[RecordedRequest]:
    """Return the record of the requests that the emulator answered, oldest first; it grows while it is looked at."""
    return geocatalog_emulator.emulator.requests
