"""``make test-matrix``: one environment per Airflow version, kept in ``.matrix``, and the tests in each."""

# ruff: noqa: S603 - what is started stands here and on the developer's command line
from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".matrix"

#: What the tests need beside the provider; neither Airflow's version nor ours has a say in it.
TEST_REQUIREMENTS = (
    "aiohttp",
    "hypothesis",
    "import-linter",
    "psutil",
    "pytest",
    "pytest-asyncio",
    "pytest-timeout",
)
EXTRAS = "azurite,geoparquet,sdk"

#: Only with this package does the version make the form of any connection; the FAB provider brings it.
FORM_REQUIREMENTS = {"3.0.6": ("flask-appbuilder",)}

#: Imports, metadata, the connection form and a deferrable DAG; then all modules that import Airflow; then those that do
#: not, but import the packages that it brings in other versions.
FULL = ("tests/versions", "tests/operators", "tests/transfer", "tests/service")
#: Not in a quick run: what these ask of Airflow (deferring, resuming, XComs, Variables) others in ``tests/operators``
#: ask too. They repeat it for each moment at which a process can be killed, and for each way in which a service fails.
REPETITIVE = tuple(
    f"tests/operators/test_operators_{name}.py" for name in ("crashes", "transfer_crashes", "transfer_trouble")
)
QUICK = ("tests/versions", "tests/operators", *(f"--ignore={path}" for path in REPETITIVE))

#: Without these, tasks of a version fail on packages that are newer than it.
ENVIRONMENTS = {"3.0.6": {"AIRFLOW__API_AUTH__JWT_ISSUER": "airflow", "AIRFLOW__API__WORKERS": "1"}}


@dataclass(frozen=True)
class Row:
    """
    One environment.

    :param airflow: Airflow's version.
    :param python: Python's version, major and minor.
    """

    airflow: str
    python: str

    @property
    def name(self) -> str:
        """What it is called on the command line and in ``.matrix``."""
        return f"{self.airflow}-py{self.python}"

    @property
    def constraints(self) -> Path:
        """The file with the versions of everything; the newest Airflow's is that of the development environment."""
        own = ROOT / "constraints" / f"airflow-{self.airflow}.txt"
        return own if own.exists() else ROOT / "constraints.txt"


#: The oldest Python and the newest of each; of Airflow 3.2 and 3.3 the newest that all dependencies have wheels for.
#: The first row has the lowest version of everything that pyproject.toml allows.
ROWS = (
    Row("2.11.0", "3.11"),
    Row("2.11.2", "3.11"),
    Row("2.11.2", "3.12"),
    Row("3.0.6", "3.11"),
    Row("3.0.6", "3.12"),
    Row("3.1.8", "3.11"),
    Row("3.1.8", "3.13"),
    Row("3.2.2", "3.11"),
    Row("3.2.2", "3.13"),
    Row("3.3.2", "3.11"),
    Row("3.3.2", "3.13"),
)


class NotAvailable(Exception):
    """There is no such Python here."""


def find_python(version: str) -> str:
    """
    Return the path of a Python of a version.

    :raises NotAvailable: There is none on ``PATH``, nor one that pyenv made.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    made = sorted(pyenv.glob(f"{version}.*/bin/python"), key=lambda path: [int(n) for n in path.parts[-3].split(".")])
    for candidate in (sys.executable, f"python{version}", *map(str, reversed(made))):
        path = shutil.which(candidate)
        # What is found may be a shim without a version behind it.
        check = "import sys, venv, ensurepip; print(f'{sys.version_info[0]}.{sys.version_info[1]}')"
        if path:
            done = subprocess.run([path, "-c", check], capture_output=True, text=True, check=False)
            if done.stdout.strip() == version:
                return path
    raise NotAvailable(f"Python {version} was not found on PATH, nor among pyenv's")


def is_here(version: str) -> bool:
    """Return whether there is a Python of a version."""
    try:
        return bool(find_python(version))
    except NotAvailable:
        return False


def install(row: Row, environment: Path) -> None:
    """
    Make the environment, unless it is there as it should be.

    :raises NotAvailable: Its Python is missing.
    :raises subprocess.CalledProcessError: An installation failed.
    """
    wanted = [f"apache-airflow=={row.airflow}", "-e", f"{ROOT}[{EXTRAS}]", *TEST_REQUIREMENTS]
    wanted += FORM_REQUIREMENTS.get(row.airflow, ())
    inputs = [*wanted, row.constraints.read_text(), (ROOT / "pyproject.toml").read_text()]
    digest = hashlib.sha256("\n".join(inputs).encode()).hexdigest()
    stamp = environment / "installed"
    if stamp.exists() and stamp.read_text() == digest:
        return
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([find_python(row.python), "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", str(row.constraints), *wanted], check=True)
    stamp.write_text(digest)


def run(row: Row, environment: Path, arguments: list[str]) -> bool:
    """Run the tests, and return whether they passed."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
    home = environment / "airflow"
    shutil.rmtree(home, ignore_errors=True)
    variables |= {"AIRFLOW_HOME": str(home), **ENVIRONMENTS.get(row.airflow, {})}
    # Airflow starts ``airflow`` from PATH.
    variables["PATH"] = os.pathsep.join([str(environment / "bin"), variables.get("PATH", os.defpath)])
    # Airflow 3.0 to 3.2 take seconds for each task of ``dag.test()``.
    options = ["-q", "-p", "no:cacheprovider", "-m", "not airflow", "--timeout=600"]
    command = [str(environment / "bin" / "python"), "-m", "pytest", *options, *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode == 0


def chosen(names: list[str]) -> list[Row]:
    """
    Return the rows that names stand for: a version of Airflow, or with its Python, as in ``3.3.2-py3.13``.

    :raises ValueError: There is no such row.
    """
    for name in names:
        if not any(name in (row.airflow, row.name) for row in ROWS):
            raise ValueError(f"{name!r} is none of {', '.join(row.name for row in ROWS)}")
    return [row for row in ROWS if not names or row.airflow in names or row.name in names]


def main() -> int:
    """Run what the command line asks for, one environment after the other; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m matrix", description=__doc__)
    parser.add_argument("versions", nargs="*", help="Airflow versions, or rows such as 3.3.2-py3.13; all if none")
    parser.add_argument("--quick", action="store_true", help=f"only {' '.join(QUICK)}")
    parser.add_argument("--one", action="store_true", help="only the first of them whose Python is here, if any")
    parser.add_argument("--pytest", default="", metavar="ARGUMENTS", help="what to run instead, for pytest")
    asked = parser.parse_args()
    try:
        rows = chosen(asked.versions)
    except ValueError as error:
        parser.error(str(error))
    if asked.one and not (rows := [row for row in rows if is_here(row.python)][:1]):
        print(f"Nothing is run on {', '.join(asked.versions)}: there is none of the versions of Python that it takes.")
    arguments = asked.pytest.split() or list(QUICK if asked.quick else FULL)
    outcomes = {}
    for row in rows:
        print(f"\n=== Airflow {row.airflow}, Python {row.python} ===", flush=True)
        environment, began = FOLDER / row.name, time.monotonic()
        try:
            install(row, environment)
            outcome = "passed" if run(row, environment, arguments) else "FAILED"
        except (NotAvailable, subprocess.CalledProcessError) as error:
            outcome = f"NOT RUN: {error}"
        outcomes[row] = f"{outcome} ({time.monotonic() - began:.0f} s)"
    print()
    for row, outcome in outcomes.items():
        print(f"Airflow {row.airflow:7} Python {row.python}  {outcome}")
    return 0 if all(outcome.startswith("passed") for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
