"""
What many waits in one triggerer cost, beside polling each with the official SDK's async client.

Both wait for operations of an emulator, each in a process of its own and with one of its own, at the same interval.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

__all__ = ["main"]

INTERVAL = 5.0  # seconds between two looks at an operation
SECONDS = 10.0  # that are measured
#: Sizes that are measured at the same time, since they take next to nothing, and then one after the other.
SMALL, LARGE = (1, 10, 100), (1000, 10_000)
#: Above this, polling one by one has no time left on one event loop.
SDK_UP_TO = 1000
#: What is aimed at with a thousand waits: the SDK's cost divided by the provider's, and the provider's own.
AT, REQUESTS, CPU, BYTES, LAG = 1000, 20.0, 10.0, 20_000, 0.05
_TIME_LIMIT = 60.0  # seconds for a process to end
_LOG_EXCERPT = 4000  # characters


@dataclass(frozen=True)
class _Cost:
    """
    What some waits cost.

    :param requests: In a minute.
    :param cpu: Seconds in a minute.
    :param bytes: Memory of one wait.
    :param lag: Seconds that the event loop was late, 99th percentile.
    :param delays: Seconds from the end of an operation until its wait knew, sorted.
    """

    requests: float
    cpu: float
    bytes: float
    lag: float
    delays: list[float]

    @property
    def median_delay(self) -> float:
        return statistics.median(self.delays)

    @property
    def late_delay(self) -> float:
        return self.delays[int(0.95 * (len(self.delays) - 1))]


def _start(home: str, *command: str) -> subprocess.Popen[str]:
    with open(f"{home}/log", "a") as log:  # a triggerer writes what its triggers log, so it belongs to the cost
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", *command],
            env={**os.environ, "AIRFLOW_HOME": home},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def _say(process: subprocess.Popen[str], line: str) -> None:
    stream: IO[str] = process.stdin  # type: ignore[assignment]
    stream.write(line.rstrip() + "\n")
    stream.flush()


def _hear(process: subprocess.Popen[str]) -> Any:
    line = process.stdout.readline()  # type: ignore[union-attr]
    if not line:
        raise RuntimeError(f"{' '.join(map(str, process.args))} ended early")  # type: ignore[arg-type]
    return line if line == "ready\n" else json.loads(line)


def _cost(client: str, count: int) -> _Cost:
    with tempfile.TemporaryDirectory() as home, _start(home, "benchmarks.waiting_server", str(count)) as server:
        probe = _start(home, "benchmarks.waiting_probe", client, str(INTERVAL), str(SECONDS))
        try:
            served = json.dumps(_hear(server))
            _say(probe, served)
            _hear(probe)
            _say(server, "requests")
            _hear(server)
            found = _hear(probe)
            _say(server, "requests")
            requests = _hear(server)
            _say(server, f"end {INTERVAL}")
            ended, fired = _hear(server), _hear(probe)
            probe.wait(_TIME_LIMIT)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            with open(f"{home}/log") as log:
                raise RuntimeError(f"{error}:\n{log.read()[-_LOG_EXCERPT:]}") from error
        finally:
            probe.kill()
            probe.communicate()
            server.stdin.close()  # type: ignore[union-attr]
            server.wait(_TIME_LIMIT)
    delays = sorted(fired[one] - at for one, at in ended.items())
    minute = 60 / SECONDS
    return _Cost(requests * minute, found["cpu"] * minute, found["bytes"] / count, found["lag"], delays)


def _print(client: str, count: int, cost: _Cost) -> None:
    memory = f"{cost.bytes / 1000:.1f} KB" if count >= AT else "-"
    print(
        f"{count:>7,}  {client:<10}{cost.requests:>12,.0f}{cost.cpu:>10.2f} s{memory:>12}{cost.lag * 1000:>9.0f} ms"
        f"{cost.median_delay:>9.1f} s{cost.late_delay:>7.1f} s"
    )


def _shortfalls(ours: _Cost, theirs: _Cost) -> list[str]:
    found = []
    if theirs.requests < REQUESTS * ours.requests:
        found.append(f"only {theirs.requests / ours.requests:.1f} times fewer requests than the SDK")
    if theirs.cpu < CPU * ours.cpu:
        found.append(f"only {theirs.cpu / ours.cpu:.1f} times less CPU time than the SDK")
    if ours.bytes > BYTES:
        found.append(f"{ours.bytes:.0f} bytes for a wait")
    if ours.lag > LAG:
        found.append(f"the event loop is {ours.lag * 1000:.0f} ms late")
    if ours.median_delay > INTERVAL:
        found.append(f"an end is known after {ours.median_delay:.1f} s")
    return found


def main() -> int:
    """
    Measure and print.

    :return: Exit code: 0, or 1 if the provider costs more than it may.
    """
    print(f"Waiting, each operation looked at every {INTERVAL:g} s, in a minute:\n")
    print(
        f"{'waits':>7}  {'':<10}{'requests':>12}{'CPU time':>12}{'memory each':>12}{'lag p99':>12}"
        f"{'delay p50':>11}{'p95':>9}"
    )
    costs: dict[tuple[int, str], _Cost] = {}
    pairs = [(count, client) for count in SMALL + LARGE for client in ("provider", "sdk")]
    with ThreadPoolExecutor(len(SMALL) * 2) as executor:
        small = [pair for pair in pairs if pair[0] in SMALL]
        costs.update(zip(small, executor.map(lambda pair: _cost(pair[1], pair[0]), small), strict=True))
    for count, client in small:
        _print(client, count, costs[count, client])
    for count, client in pairs:
        if count in LARGE and (client == "provider" or count <= SDK_UP_TO):
            costs[count, client] = _cost(client, count)
            _print(client, count, costs[count, client])
    print(f"\nThe SDK is not measured with more than {SDK_UP_TO:,} waits: one event loop does not keep up with them.")
    failures = _shortfalls(costs[AT, "provider"], costs[AT, "sdk"])
    for failure in failures:
        print(f"\nFAILED: {AT:,} waits: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
