"""Airflow in processes of its own, with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


class OwnAirflow:
    """
    Python processes with an Airflow home of their own.

    :param home: Folder that is the home.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.dags = home / "dags"
        self.dags.mkdir(parents=True)
        others = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}
        self.environment = {
            **others,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
            # PyJWT refuses the tokens of Airflow 3.0 if nobody has issued them.
            "AIRFLOW__API_AUTH__JWT_ISSUER": "airflow",
            "PYTHONPATH": os.pathsep.join(sys.path),
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python with arguments, which has to go well."""
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**self.environment, **environment},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return done

    def command(self, *arguments: str) -> Any:
        """Run an ``airflow`` command that answers in JSON."""
        answer = self.run("-m", "airflow", *arguments, "--output", "json").stdout
        # Some versions write lines of the log before the answer.
        lines = answer.splitlines()
        starts = [number for number, line in enumerate(lines) if line.startswith(("[{", "[]"))] or [
            number for number, line in enumerate(lines) if line.strip() == "["
        ]
        return json.loads("\n".join(lines[starts[-1] :]))


@pytest.fixture(scope="session")
def own_airflow(tmp_path_factory: pytest.TempPathFactory) -> OwnAirflow:
    return OwnAirflow(tmp_path_factory.mktemp("own") / "airflow")
