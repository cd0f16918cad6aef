"""What tests of several folders share."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def site_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the documentation site once, with the options of ``make docs``; half a minute."""
    out = tmp_path_factory.mktemp("site")
    [command] = re.findall(
        r"^\t\$\(PY\) -m (sphinx .*) docs docs/_build/html$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert "--fail-on-warning" in command
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), "docs", str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def azurite_command() -> list[str]:
    """How Azurite is started; npm installs it the first time, for one process while others wait."""
    from airflow_provider_geocatalog.emulator.azurite import find_azurite, install_azurite

    folder = ROOT / ".azurite"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return find_azurite(folder) or install_azurite(folder)
        except RuntimeError as reason:  # no Node.js, or no network
            pytest.skip(str(reason))
