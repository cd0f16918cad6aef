"""
What importing all operators, sensors and triggers adds to a process that has Airflow.

Every repetition is a fresh process: it imports Airflow's base classes, looks at its clock and memory, imports what is
measured, and looks again. The official SDK is measured in the same way in the same run, so that the ratio holds on any
machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass

__all__ = ["Cost", "main", "measure"]

REPETITIONS = 5
_TIME_LIMIT = 120.0  # seconds for one process
_MIB = 1024 * 1024
#: Packages that only a running task needs.
HEAVY = ("aiohttp", "azure", "pystac", "pystac_client", "requests")
BASE = ("airflow.providers.common.compat.sdk", "airflow.triggers.base")
_BASE_CLASSES = ("BaseHook", "BaseOperator", "BaseSensorOperator")
_PACKAGE = "airflow_provider_geocatalog"
PROVIDER = tuple(
    f"{_PACKAGE}.{name}"
    for name in (
        "operators.collections",
        "operators.configuration",
        "operators.ingestion",
        "operators.sources",
        "sensors.ingestion",
        "triggers.ingestion",
    )
)
SDK = ("azure.planetarycomputer",)

#: Runs in the fresh process; its last line of output is the result.
_PROBE = """
import importlib, json, sys, time

import psutil

base, classes, measured, heavy = json.loads(sys.argv[1])
modules = [importlib.import_module(name) for name in base]
for name in classes:  # the module gives its classes on demand
    getattr(modules[0], name)
process = psutil.Process()
before, memory, start = set(sys.modules), process.memory_info().rss, time.perf_counter()
for name in measured:
    importlib.import_module(name)
seconds = time.perf_counter() - start
grown = process.memory_info().rss - memory
added = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps({"seconds": seconds, "bytes": grown, "heavy": sorted(added & set(heavy))}))
"""


@dataclass(frozen=True)
class Cost:
    """
    Medians over the repetitions.

    :param seconds: Time that the imports add.
    :param mebibytes: Resident memory that they add.
    :param heavy: Heavy packages that they load.
    """

    seconds: float
    mebibytes: float
    heavy: tuple[str, ...]


def measure(modules: tuple[str, ...], repetitions: int = REPETITIONS) -> Cost:
    """
    Measure what importing modules adds to a process that has Airflow's base classes.

    :param modules: Modules to import.
    :param repetitions: Fresh processes; one more warms the file cache and is not counted.
    """
    with tempfile.TemporaryDirectory() as home:  # Airflow writes its configuration into its home
        results = [_probe(modules, home) for _ in range(repetitions + 1)][1:]
    return Cost(
        seconds=statistics.median(seconds for seconds, _, _ in results),
        mebibytes=statistics.median(grown for _, grown, _ in results) / _MIB,
        heavy=tuple(sorted({name for _, _, heavy in results for name in heavy})),
    )


def _probe(modules: tuple[str, ...], airflow_home: str) -> tuple[float, float, list[str]]:
    arguments = json.dumps([BASE, _BASE_CLASSES, modules, HEAVY])
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, arguments],
        env={**os.environ, "AIRFLOW_HOME": airflow_home},
        capture_output=True,
        text=True,
        timeout=_TIME_LIMIT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"importing {', '.join(modules)} failed:\n{done.stderr}")
    result = json.loads(done.stdout.splitlines()[-1])
    return float(result["seconds"]), float(result["bytes"]), list(result["heavy"])


def main() -> int:
    """
    Measure and print.

    :return: Exit code: 0, or 1 if the provider loads a heavy package.
    """
    provider, sdk = measure(PROVIDER), measure(SDK)
    print(
        f"Added by importing, over Airflow's base classes (medians of {REPETITIONS} fresh processes, "
        f"{os.cpu_count()} cores, Python {sys.version.split()[0]}):\n"
    )
    print(f"{'':<42}{'time':>10}{'memory':>12}  heavy packages")
    for name, cost in (
        ("all operators, sensors, triggers", provider),
        ("official SDK (azure.planetarycomputer)", sdk),
    ):
        heavy = ", ".join(cost.heavy) or "none"
        print(f"{name:<42}{cost.seconds * 1000:>7.1f} ms{cost.mebibytes:>8.1f} MiB  {heavy}")
    time_ratio = f"{provider.seconds / sdk.seconds:.3f}" if sdk.seconds else "-"
    memory_ratio = f"{provider.mebibytes / sdk.mebibytes:.3f}" if sdk.mebibytes else "-"
    print(f"{'ratio':<42}{time_ratio:>10}{memory_ratio:>12}")
    if provider.heavy:
        print(f"\nFAILED: importing the provider loads {', '.join(provider.heavy)}", file=sys.stderr)
        return 1
    return 0
