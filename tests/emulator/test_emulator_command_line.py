"""``python -m airflow_provider_geocatalog.emulator``, and the server as such."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys

import pytest
import requests

from airflow_provider_geocatalog.emulator import EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.emulator.__main__ import main


def test_an_address_that_others_reach_has_to_be_asked_for_twice(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--host", "0.0.0.0"])

    assert stop.value.code == 2
    assert "--allow-remote" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--container", "x"], ["--allow-path", "/nowhere"], ["--pending-seconds", "-1"]])
def test_unusable_arguments_are_explained(capsys, arguments):
    with pytest.raises(SystemExit):
        main(arguments)

    assert "error:" in capsys.readouterr().err


def test_the_command_prints_its_url_and_token_serves_and_stops():
    command = [sys.executable, "-m", "airflow_provider_geocatalog.emulator", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "GEOCATALOG_EMULATOR_TOKEN"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        url = process.stdout.readline().strip()
        token = process.stdout.readline().strip().removeprefix("administrator token: ")
        headers = {"Authorization": f"Bearer {token}"}
        answer = requests.get(f"{url}/stac/?api-version=2026-04-15&sig=secret", headers=headers, timeout=5)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=10)

    assert (answer.status_code, process.returncode) == (200, 0)
    assert "GET /stac/ 200" in log
    assert "secret" not in log


def test_defaults_follow_the_service():
    settings = EmulatorSettings()

    assert (settings.collection_tick, settings.recreate_after, settings.pending_seconds) == (30, 45, 0.7)


def test_a_port_in_use_is_an_error(client):
    port = int(client.url.rsplit(":", 1)[1])

    with pytest.raises(OSError, match="in use"):
        EmulatorServer(port=port).__enter__()


def test_many_clients_at_once_are_all_answered(demo, new_item):
    def post(number):
        return demo.post("/stac/collections/demo/items", json=new_item(f"i{number}")).status_code

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        codes = list(pool.map(post, range(200)))

    assert set(codes) == {202}
    assert len(demo.get("/stac/collections/demo/items", params={"limit": 1000}).json()["features"]) == 200
