"""
``python -m benchmarks.waiting_server COUNT``: an emulator with operations that are running.

It prints its address and their ids as JSON. Then it answers commands on its standard input, a line each: ``requests``
with the number of requests since the last time, ``end SECONDS`` by ending the operations one by one within that time
and telling when each has ended. It runs until its standard input ends.
"""

from __future__ import annotations

import json
import random
import sys
import time

from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings

TOKEN = "benchmark"
_FOR_EVER = 1e9  # seconds
_ACTION = "AddItem"


def _nothing(at: float) -> None:
    """Stand for the only item of an operation."""


def _start(emulator: Emulator, count: int) -> list[str]:
    engine, now = emulator.engine, emulator.clock.now()
    with emulator.world.lock:
        operations = [engine.start_items(_ACTION, "demo", now, [_nothing]) for _ in range(count)]
        for operation in operations:
            engine.begin(operation, now)
    return [operation.id for operation in operations]


def _end(emulator: Emulator, ids: list[str], seconds: float) -> dict[str, float]:
    ended = {}
    began = time.time()
    for number, operation_id in enumerate(random.sample(ids, len(ids))):
        time.sleep(max(0.0, began + seconds * number / len(ids) - time.time()))
        with emulator.world.lock:
            emulator.engine.end(emulator.world.operations[operation_id], "Succeeded", emulator.clock.now())
        ended[operation_id] = time.time()
    return ended


def main(count: int) -> None:
    """Serve until the standard input ends."""
    emulator = Emulator(EmulatorSettings.fast(admin_tokens=(TOKEN,), pending_seconds=_FOR_EVER))
    with EmulatorServer(emulator) as server:
        ids = _start(emulator, count)
        print(json.dumps({"url": server.url, "ids": ids}), flush=True)
        for line in sys.stdin:
            command, *arguments = line.split()
            if command == "requests":
                print(len(emulator.requests), flush=True)
                emulator.requests.clear()
            else:
                print(json.dumps(_end(emulator, ids, float(arguments[0]))), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
