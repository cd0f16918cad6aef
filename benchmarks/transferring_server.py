"""
``python -m benchmarks.transferring_server SECONDS LIMITS``: an emulator with an empty collection.

Each request takes SECONDS longer than it would; LIMITS is ``none`` or ``preview``. It prints its address as JSON, and
for each line on its standard input the requests since the last time: when each was answered, its operation and status.
It runs until its standard input ends.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Literal

from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings

TOKEN, COLLECTION = "benchmark", "benchmark"


def main(seconds: float, limits: Literal["none", "preview"]) -> None:
    """Serve until the standard input ends."""
    emulator = Emulator(EmulatorSettings.fast(admin_tokens=(TOKEN,), limits=limits))
    emulator.world.add_collection({"id": COLLECTION}, at=0.0)
    emulator.faults.add("latency", seconds=seconds)
    with EmulatorServer(emulator) as server:
        print(json.dumps({"url": server.url}), flush=True)
        for _ in sys.stdin:
            answered: list[tuple[Any, ...]] = [(one.at, one.operation, one.status) for one in emulator.requests]
            print(json.dumps(answered), flush=True)
            emulator.requests.clear()


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])  # type: ignore[arg-type]
