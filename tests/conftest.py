"""What tests of several folders share."""

from __future__ import annotations

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
