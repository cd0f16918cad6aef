"""
What transferring items costs beside the tutorial's loop with the official SDK, and how it uses what a limit permits.

Items of 8 KB go into an emulator that takes 50 ms longer for each request than it would. The tutorial's loop creates an
item, polls its operation to the end and goes on with the next; it takes as long for each item, so it is measured with
fewer. Each client is in a process of its own, and so is each emulator.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_geocatalog.emulator.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

SERVICE_TIME = 0.05  # seconds
ITEMS, SDK_ITEMS = 10_000, 200
#: Between which memory is compared.
FEW, MANY = 1000, 100_000
#: What is aimed at: the provider's items per second and CPU time by the SDK's, and bytes that many items may add.
FASTER, CPU, GROWTH = 10.0, 0.2, 50 * 1024**2
#: Items that are replaced while requests are limited, and the connection's requests per second. The service's limit is
#: not to be met to the last request: these leave it one in 25 to arrive late.
REPLACED, RATE = 3000, 48
PERMITTED = Limits().requests_per_second
#: What is aimed at of the permitted rate, and the seconds at each end that are not the steady state.
USED, ENDS = 0.95, 1.0
_FAST = 1000.0  # requests per second, which holds nothing back
_LOG_EXCERPT = 4000  # characters
_STAC = ("search", "replace_item", "create_item", "get_collection")  # what the limit counts


@dataclass(frozen=True)
class _Cost:
    """
    What a client took.

    :param seconds: For an item.
    :param cpu: Seconds for an item.
    :param peak: Bytes of its process at most.
    """

    seconds: float
    cpu: float
    peak: float


class _Served:
    """An emulator in a process of its own."""

    def __init__(self, home: str, process: subprocess.Popen[str]) -> None:
        self._home, self._process = home, process
        self._answers: IO[str] = process.stdout  # type: ignore[assignment]
        self._commands: IO[str] = process.stdin  # type: ignore[assignment]
        self._address = self._answers.readline()

    def requests(self) -> list[tuple[float, str, int]]:
        """Return the requests since the last time."""
        self._commands.write("requests\n")
        self._commands.flush()
        return [(at, operation, status) for at, operation, status in json.loads(self._answers.readline())]

    def transfer(self, client: str, count: int, *, mode: str = "skip_unchanged", rate: float = _FAST) -> _Cost:
        """Have a client transfer items."""
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.transferring_probe", client, str(count), mode]
        with open(f"{self._home}/log", "a") as log:  # what a worker logs belongs to the cost
            done = subprocess.run(
                [*command, str(rate)],
                env=_environment(self._home),
                input=self._address,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        if done.returncode:
            with open(f"{self._home}/log") as log:
                raise RuntimeError(f"{' '.join(command)} failed:\n{log.read()[-_LOG_EXCERPT:]}")
        found: dict[str, Any] = json.loads(done.stdout)
        return _Cost(found["seconds"] / count, found["cpu"] / count, found["peak"])


def _environment(home: str) -> dict[str, str]:
    return {**os.environ, "AIRFLOW_HOME": home}


@contextmanager
def _served(seconds: float, limits: str = "none") -> Iterator[_Served]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.transferring_server", str(seconds), limits]
    with tempfile.TemporaryDirectory() as home, open(f"{home}/log", "a") as log:
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, env=_environment(home), stdin=pipe, stdout=pipe, stderr=log, text=True
        ) as process:
            yield _Served(home, process)
            process.stdin.close()  # type: ignore[union-attr]


def _beside_the_sdk() -> list[str]:
    with _served(SERVICE_TIME) as emulator:
        theirs = emulator.transfer("sdk", SDK_ITEMS)
    with _served(SERVICE_TIME) as emulator:
        ours = emulator.transfer("provider", ITEMS)
        requests = len(emulator.requests())
    print(f"{'':<12}{'items':>8}{'items per second':>19}{'CPU time of an item':>22}{'requests':>11}")
    print(f"{'provider':<12}{ITEMS:>8,}{1 / ours.seconds:>19.1f}{ours.cpu * 1000:>19.2f} ms{requests:>11,}")
    print(f"{'SDK, a loop':<12}{SDK_ITEMS:>8,}{1 / theirs.seconds:>19.1f}{theirs.cpu * 1000:>19.2f} ms")
    faster, cpu = theirs.seconds / ours.seconds, ours.cpu / theirs.cpu
    print(f"{'ratio':<12}{'':>8}{faster:>19.1f}{cpu:>22.2f}")
    print(f"{'aim':<12}{'':>8}{FASTER:>19.1f}{CPU:>22.2f}")
    found = []
    if faster < FASTER:
        found.append(f"only {faster:.1f} times as fast as the SDK in a loop")
    if cpu > CPU:
        found.append(f"{cpu:.2f} of the CPU time of the SDK in a loop")
    return found


def _memory() -> list[str]:
    peaks = []
    for count in (FEW, MANY):
        with _served(0.0) as emulator:
            peaks.append(emulator.transfer("provider", count).peak)
        print(f"{count:>7,} items: {peaks[-1] / 1024**2:.0f} MiB at most")
    grown = peaks[1] - peaks[0]
    print(f"{'':>7}  difference {grown / 1024**2:.0f} MiB; aim: at most {GROWTH / 1024**2:.0f} MiB")
    return [f"{MANY:,} items take {grown / 1024**2:.0f} MiB more than {FEW:,}"] if grown > GROWTH else []


def _under_a_limit() -> list[str]:
    with _served(SERVICE_TIME, "preview") as emulator:
        emulator.transfer("provider", REPLACED, mode="create", rate=RATE)
        emulator.requests()
        emulator.transfer("provider", REPLACED, mode="upsert", rate=RATE)
        requests = emulator.requests()
    replaced = [at for at, operation, _ in requests if operation == "replace_item"]
    first, last = replaced[0] + ENDS, replaced[-1] - ENDS
    steady = [one for one in requests if first <= one[0] < last]
    rate = sum(operation in _STAC for _, operation, _ in steady) / (last - first)
    of_all = len(steady) / (last - first)
    used = of_all / PERMITTED
    refused = Counter(status for _, _, status in steady)[429]
    print(f"{PERMITTED} requests per second are permitted, the connection has {RATE}; {REPLACED:,} items are replaced.")
    print(f"{rate:.1f} per second of the limited kind, {of_all:.1f} with those that look after operations")
    print(f"{used:.1%} of what is permitted, {refused} refused; aim: at least {USED:.0%}, none refused")
    found = []
    if used < USED:
        found.append(f"only {used:.1%} of the permitted rate is used")
    if refused:
        found.append(f"{refused} requests were too many")
    return found


def main() -> int:
    """
    Measure and print.

    :return: Exit code: 0, or 1 if an aim is missed.
    """
    print(f"Transferring, {SERVICE_TIME * 1000:.0f} ms for a request, no limit (takes 2 to 3 minutes):\n")
    failures = _beside_the_sdk()
    print("\nMemory of the provider's process (takes about 8 minutes, most of it the emulator's work):\n")
    failures += _memory()
    print("\nUnder the limit of the service's preview (takes about 2 minutes):\n")
    failures += _under_a_limit()
    for failure in failures:
        print(f"\nFAILED: transferring: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
