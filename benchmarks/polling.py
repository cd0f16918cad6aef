"""
What one request costs in CPU time, and what a process that only polls needs in memory, beside the official SDK.

Both clients poll the same operation from the same server with a ready-made token, each in fresh processes that take
turns, so that the ratio holds on any machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

REPETITIONS = 5
WAYS = {"blocking": "blocking", "async": "async, one at a time", "gathered": "async, 20 at a time"}
_TIME_LIMIT = 120.0  # seconds for one process
_MIB = 1024 * 1024
#: The provider's cost divided by the SDK's must not exceed these.
MOST_CPU, MOST_MEMORY = 1.0, 0.5


@contextmanager
def _server() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.answering_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()  # type: ignore[union-attr]
        finally:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait(timeout=10)


def _probe(client: str, way: str, base: str, port: str, home: str) -> tuple[float, int]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.polling_probe", client, way, base, port],
        env={**os.environ, "AIRFLOW_HOME": home},
        capture_output=True,
        text=True,
        timeout=_TIME_LIMIT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"polling with the {client} failed:\n{done.stderr}")
    result = json.loads(done.stdout.splitlines()[-1])
    return float(result["cpu"]), int(result["bytes"])


def _compare(way: str, base: str, port: str, home: str) -> dict[str, tuple[float, float]]:
    """Return the medians of CPU seconds and bytes by client; the processes of both take turns."""
    results: dict[str, list[tuple[float, int]]] = {"provider": [], "sdk": []}
    for _ in range(REPETITIONS):
        for client, found in results.items():
            found.append(_probe(client, way, base, port, home))
    return {
        client: (statistics.median(cpu for cpu, _ in found), statistics.median(size for _, size in found))
        for client, found in results.items()
    }


def main() -> int:
    """
    Measure and print.

    :return: Exit code: 0, or 1 if the provider costs more than it may.
    """
    failures = []
    with _server() as port, tempfile.TemporaryDirectory() as home:  # Airflow writes its configuration into its home
        print(f"One request, CPU time (medians of {REPETITIONS} fresh processes that take turns):\n")
        print(f"{'':<42}{'provider':>12}{'SDK':>12}{'ratio':>8}")
        for way, label in WAYS.items():
            found = _compare(way, "bare", port, home)
            ours, theirs = found["provider"][0], found["sdk"][0]
            print(f"{label:<42}{ours * 1e6:>9.0f} us{theirs * 1e6:>9.0f} us{ours / theirs:>8.2f}")
            if ours / theirs > MOST_CPU:
                failures.append(f"one request costs {ours / theirs:.2f} of the SDK's CPU time ({label})")
        print("\nA process that only polls, memory that it gains (1000 polls, a ready-made token):\n")
        print(f"{'':<42}{'provider':>12}{'SDK':>12}{'ratio':>8}")
        for base, label in (("airflow", "with Airflow, as in a worker or triggerer"), ("bare", "without Airflow")):
            for way in ("blocking", "async"):
                found = _compare(way, base, port, home)
                ours, theirs = found["provider"][1] / _MIB, found["sdk"][1] / _MIB
                print(f"{f'{label}, {way}':<42}{ours:>8.1f} MiB{theirs:>8.1f} MiB{ours / theirs:>8.2f}")
                if base == "airflow" and ours / theirs > MOST_MEMORY:
                    failures.append(f"polling takes {ours / theirs:.2f} of the SDK's memory ({way})")
    for failure in failures:
        print(f"\nFAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0
