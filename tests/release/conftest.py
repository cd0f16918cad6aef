"""The wheel and the source distribution, built once, and an environment that has nothing but the wheel."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
#: A moment that neither build would choose by itself.
EPOCH = "1700000000"


@dataclass(frozen=True)
class Artefacts:
    """Files that a release consists of."""

    wheel: Path
    sdist: Path


@dataclass(frozen=True)
class Installed:
    """
    An environment with the wheel, and Airflow's home in it.

    :param folder: Where processes run: far from the checkout.
    """

    python: Path
    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run its Python, which has to go well."""
        done = subprocess.run(
            [str(self.python), *arguments],
            env={**self.environment, **environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return done

    def install(self, *arguments: str) -> None:
        """Install with pip, in the versions of ``constraints.txt``."""
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        self.run(*pip, "-c", str(ROOT / "constraints.txt"), *arguments)


def _build(source: Path, folder: Path, *options: str) -> Artefacts:
    command = [sys.executable, "-m", "build", *options, "--outdir", str(folder), str(source)]
    if importlib.util.find_spec("hatchling"):
        command.insert(3, "--no-isolation")  # needs no network
    done = subprocess.run(
        command,
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Artefacts(wheel, sdist)


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Artefacts:
    """Build as ``make build`` does: the source distribution from the checkout, the wheel from that."""
    return _build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def built_again(artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory) -> Artefacts:
    """Build both once more, elsewhere: from what the source distribution holds."""
    folder = tmp_path_factory.mktemp("again")
    with tarfile.open(artefacts.sdist) as archive:
        archive.extractall(folder, filter="data")
    return _build(folder / artefacts.sdist.name.removesuffix(".tar.gz"), folder / "dist", "--sdist", "--wheel")


@pytest.fixture(scope="session")
def new_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Installed]:
    """Return what makes an environment without any of this."""

    def make() -> Installed:
        folder = tmp_path_factory.mktemp("clean")
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, timeout=400)
        home, away = folder / "airflow", folder / "away"
        away.mkdir()
        # Nothing of the checkout, nor of the environment that the tests run in.
        unwanted = ("AIRFLOW", "_AIRFLOW", "PYTHON", "VIRTUAL_ENV")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        environment |= {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
            "PATH": os.pathsep.join([str(folder / "venv" / "bin"), os.environ.get("PATH", os.defpath)]),
            "NO_PROXY": "127.0.0.1,localhost",
        }
        return Installed(folder / "venv" / "bin" / "python", away, environment)

    return make


@pytest.fixture(scope="session")
def installed(artefacts: Artefacts, new_environment: Callable[[], Installed]) -> Installed:
    """Install the wheel."""
    environment = new_environment()
    environment.install(str(artefacts.wheel))
    return environment
