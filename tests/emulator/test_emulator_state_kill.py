"""``--state`` and SIGKILL: what was acknowledged is there afterwards, and what was going on reaches its end."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
import requests

TOKEN = "state-token"
FINAL = ("Succeeded", "Failed", "Canceled")
ITEMS = 40


class Process:
    """An emulator in a process of its own, on a state file; ``kill`` is SIGKILL."""

    def __init__(self, state, *options):
        fast = ("--collection-tick", "0", "--recreate-after", "0", "--pending-seconds", "0.05")
        command = [sys.executable, "-m", "airflow_provider_geocatalog.emulator", "--port", "0", "--token", TOKEN]
        command += ["--log-level", "error", "--state", str(state), *fast, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http"), "it did not start"

    def session(self):
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        session.params = {"api-version": "2026-04-15"}
        return session

    def ask(self, method, path, status=200, **options):
        with self.session() as session:
            answer = session.request(method, self.url + path, timeout=10, **options)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def until(self, path, found):
        deadline = time.monotonic() + 20
        while not found(body := self.ask("GET", path)):
            assert time.monotonic() < deadline, body
            time.sleep(0.02)
        return body

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.close()

    def close(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path):
    processes = []

    def started(*options):
        processes.append(Process(tmp_path / "state", *options))
        return processes[-1]

    yield started
    for process in processes:
        process.close()


def write_until_it_dies(process, number, new_item, acknowledged):
    """Send writes of several kinds and note those that were answered, until nobody answers."""
    with process.session() as session, contextlib.suppress(requests.RequestException):
        for count in range(10_000):
            name = f"{number}-{count}"
            source = {
                "kind": "BlobManagedIdentity",
                "connectionInfo": {
                    "containerUrl": f"https://acct.blob.core.windows.net/c{name}",
                    "objectId": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
                },
            }
            items = {"type": "FeatureCollection", "features": [new_item(f"i{name}-{n}", assets={}) for n in range(3)]}
            mosaic = {"id": f"m{name}", "name": "x", "cql": []}
            for kind, path, body in (
                ("items", "/stac/collections/demo/items", items),
                ("source", "/inma/ingestion-sources", source),
                ("mosaic", "/stac/collections/demo/configurations/mosaics", mosaic),
            ):
                answer = session.post(process.url + path, json=body, timeout=10)
                assert answer.status_code < 300, answer.text
                acknowledged.append((kind, answer.json()["id"], name))


@pytest.mark.timeout(120)
def test_nothing_that_was_acknowledged_is_lost_however_often_the_process_is_killed(start, new_item, new_collection):
    moments = random.Random(7)
    acknowledged = []
    for attempt in range(3):
        process = start("--items-per-second", "200")
        if attempt == 0:
            process.ask("POST", "/stac/collections", 202, json=new_collection("demo"))
            process.until("/stac/collections", lambda body: body["collections"])
        writers = [
            threading.Thread(target=write_until_it_dies, args=(process, f"{attempt}{n}", new_item, acknowledged))
            for n in range(3)
        ]
        for writer in writers:
            writer.start()
        time.sleep(moments.uniform(0.2, 0.8))
        process.kill()
        for writer in writers:
            writer.join(20)
            assert not writer.is_alive()
    process = start("--items-per-second", "0")

    listed = process.until("/inma/operations", lambda body: all(one["status"] in FINAL for one in body["value"]))[
        "value"
    ]

    operations = {one["id"]: one for one in listed}
    sources = {one["id"] for one in process.ask("GET", "/inma/ingestion-sources")["value"]}
    mosaics = {one["id"] for one in process.ask("GET", "/stac/collections/demo/configurations/mosaics")}
    features = process.ask("GET", "/stac/collections/demo/items", params={"limit": 10_000})["features"]
    items = [one["id"] for one in features]
    assert len(acknowledged) > 40
    assert len(items) == len(set(items)) == 3 * sum(one["type"] == "AddItem" for one in listed)
    for kind, name, suffix in acknowledged:
        if kind == "items":
            information = operations[name]["additionalInformation"]
            assert (information["TotalItems"], information["TotalSuccessfulItems"]) == ("3", "3"), operations[name]
            assert {f"i{suffix}-{n}" for n in range(3)} <= set(items)
        else:
            assert name in (sources if kind == "source" else mosaics)


@pytest.mark.timeout(120)
def test_runs_and_a_deletion_that_were_going_on_reach_their_ends(start, tmp_path, catalogs, new_collection):
    url = catalogs.of(*(f"r{number}" for number in range(ITEMS)))
    options = ("--allow-path", str(tmp_path / "allowed"), "--items-per-second", "20", "--max-concurrent-runs", "1")
    process = start(*options)
    for name in ("demo", "other"):
        process.ask("POST", "/stac/collections", 202, json=new_collection(name))
    process.until("/stac/collections", lambda body: len(body["collections"]) == 2)
    body = {"importType": "StaticCatalog", "sourceCatalogUrl": url}
    path = "/inma/collections/demo/ingestions"
    path += f"/{process.ask('POST', path, 201, json=body)['id']}/runs"
    running, pending = (f"{path}/{process.ask('POST', path, 201)['id']}" for _ in range(2))
    counted = process.until(running, lambda body: body["operation"]["totalSuccessfulItems"] > 5)
    process.ask("DELETE", "/stac/collections/other", 202)
    process.kill()
    process = start(*options)

    after = process.ask("GET", running)
    waiting = process.ask("GET", pending)
    finished = [process.until(one, lambda body: body["operation"]["status"] in FINAL) for one in (running, pending)]

    assert after["operation"]["totalSuccessfulItems"] >= counted["operation"]["totalSuccessfulItems"]
    assert (after["operation"]["status"], waiting["operation"]["status"]) == ("Running", "Pending")
    for run in finished:
        operation = run["operation"]
        assert (operation["status"], operation["totalItems"]) == ("Succeeded", ITEMS)
        assert (operation["totalSuccessfulItems"], operation["totalFailedItems"]) == (ITEMS, 0)
        assert [change["status"] for change in operation["statusHistory"]] == ["Pending", "Running", "Finished"]
    process.until("/stac/collections", lambda body: [one["id"] for one in body["collections"]] == ["demo"])
    assert len(process.ask("GET", "/stac/collections/demo/items", params={"limit": 100})["features"]) == ITEMS
