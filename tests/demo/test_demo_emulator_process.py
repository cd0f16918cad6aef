"""The emulator of the demonstration."""

from __future__ import annotations

import requests

from demo.emulator_process import start_emulator
from demo.processes import Processes


def test_the_emulator_takes_any_token(tmp_path):
    token = "-begins-like-an-option"
    (tmp_path / "logs").mkdir()
    with Processes(tmp_path / "logs") as processes:
        url = start_emulator(processes, tmp_path, token=token, items_per_second=1)
        answer = requests.get(
            f"{url}/stac?api-version=2026-04-15", headers={"Authorization": f"Bearer {token}"}, timeout=10
        )
        assert answer.status_code == 200
