"""The emulator as a process: a GeoCatalog, or only the blob container of a catalog."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

from demo.processes import Processes, log_tail

__all__ = ["CONTAINER", "EmulatorFailed", "start_emulator"]

CONTAINER = "demo"
_NAME = "emulator"
_START_TIMEOUT = 30.0  # seconds
_URL = re.compile(r"http://(?:127\.0\.0\.1|localhost|\[::1\]):\d+")
_ROOT = Path(__file__).parent.parent


class EmulatorFailed(Exception):
    """The emulator did not start; the text has the end of its log."""


def start_emulator(processes: Processes, folder: Path, *, token: str, items_per_second: float) -> str:
    """
    Start the emulator and wait until it answers.

    :param folder: The folder that its blob container serves.
    :param token: The bearer token to ask for.
    :param items_per_second: How fast a run ingests.
    :return: Its URL.
    :raises EmulatorFailed: It ended or said nothing.
    """
    options = {
        "--port": "0",
        "--token": token,
        "--container": f"{CONTAINER}={folder}",
        "--items-per-second": f"{items_per_second:g}",
        "--collection-tick": "1",
        "--recreate-after": "0",
        "--pending-seconds": "0.5",
        "--relative-asset-hrefs": "resolve",
    }
    command = [sys.executable, "-m", "airflow_provider_geocatalog.emulator"]
    command += [f"{name}={value}" for name, value in options.items()]  # a token can begin with a hyphen
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    processes.start(_NAME, command, environment={**environment, "PYTHONUNBUFFERED": "1"}, folder=_ROOT)
    deadline = time.monotonic() + _START_TIMEOUT
    log = processes.log(_NAME)
    while time.monotonic() < deadline and processes.is_running(_NAME):
        # Only whole lines: the last one may still be on its way.
        found = _URL.search(log.read_text(errors="replace").rpartition("\n")[0])
        if found:
            return found.group()
        time.sleep(0.05)
    raise EmulatorFailed(f"the emulator did not start; the end of {log}:\n{log_tail(log)}")


def storage_url(emulator_url: str) -> str:
    """Return the address of the emulator's container."""
    return f"{emulator_url}/_emulator/storage/{CONTAINER}"
