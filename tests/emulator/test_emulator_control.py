"""The emulator's own API for tests, over HTTP."""

from __future__ import annotations

import concurrent.futures
import time

import pytest
import requests

from airflow_provider_geocatalog.emulator.clock import ManualClock

FAULTS, CLOCK, REQUESTS, RESET = (f"/_emulator/{name}" for name in ("faults", "clock", "requests", "reset"))


@pytest.fixture
def control(demo):
    """Send what an administrator sends, without an api-version, which is not needed here."""
    headers = {"Authorization": f"Bearer {demo.server.admin_token}"}
    return lambda method, path, **options: requests.request(
        method, demo.url + path, headers=headers, timeout=10, **options
    )


# --- faults ---------------------------------------------------------------------------------------------------------


def test_a_fault_is_made_listed_counted_and_removed(demo, control):
    made = control("POST", FAULTS, json={"effect": "status", "status": 503, "operations": ["list_collections"]})
    assert made.status_code == 201
    path = f"{FAULTS}/{made.json()['id']}"
    assert [demo.get("/stac/collections").status_code for _ in range(2)] == [503, 503]

    listed = control("GET", FAULTS).json()["value"]
    assert listed == [control("GET", path).json()]
    assert listed == [{**made.json(), "matches": 2, "hits": 2}]
    assert listed[0]["operations"] == ["list_collections"]

    assert control("DELETE", path).status_code == 204
    assert [control(method, path).status_code for method in ("GET", "DELETE")] == [404, 404]
    assert demo.get("/stac/collections").status_code == 200


def test_a_list_of_faults_is_made_as_a_whole_or_not_at_all(control):
    good, bad = {"effect": "drop"}, {"effect": "latency"}
    assert control("POST", FAULTS, json=[good, bad]).status_code == 400
    assert control("GET", FAULTS).json() == {"value": []}

    made = control("POST", FAULTS, json=[good, {**bad, "seconds": 0}])
    assert [one["effect"] for one in made.json()["value"]] == ["drop", "latency"]
    assert control("DELETE", FAULTS).status_code == 204
    assert control("GET", FAULTS).json() == {"value": []}


def test_no_fault_strikes_the_control_api(control):
    control("POST", FAULTS, json={"effect": "drop", "path": ".*"})
    assert control("GET", FAULTS).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (FAULTS, b"{", "the body is not valid JSON"),
        (FAULTS, b"[" * 100_000, "the body is not valid JSON"),
        (FAULTS, b"", "the body has to be a JSON object"),
        (FAULTS, b'"drop"', "the body has to be a JSON object"),
        (FAULTS, b"{}", "'effect' has to be one of"),
        (FAULTS, b'{"effect": 7}', "'effect' has to be a string"),
        (FAULTS, b'{"effect": "drop", "times": "3"}', "'times'"),
        (FAULTS, b'{"effect": "drop", "effects": 1}', "no such option"),
        (FAULTS, b'{"effect": "fail_items", "item_pattern": "["}', "no regular expression"),
        (CLOCK, b"{}", "at least one of them"),
        (CLOCK, b'{"back": 1}', "freeze, set, advance, speed"),
        (CLOCK, b'{"advance": -1}', "time does not go backwards"),
        (CLOCK, b'{"advance": 1e300}', "the moment has to lie between"),
        (CLOCK, b'{"advance": true}', "'advance' has to be a number"),
        (CLOCK, b'{"set": "yesterday"}', "neither epoch seconds nor a date and time"),
        (CLOCK, b'{"set": "2001-01-01T00:00:00Z"}', "time does not go backwards"),
        (CLOCK, b'{"speed": -2}', "the speed has to be between"),
        (CLOCK, b'{"freeze": false}', "'freeze' has to be true"),
        (CLOCK, b'{"freeze": true, "speed": "x"}', "'speed' has to be a number"),
        (RESET, b'{"hard": true}', "no such member"),
        (RESET, b'{"at": -1}', "the moment has to lie between"),
    ],
)
def test_bad_input_is_told_and_changes_nothing(demo, control, path, body, words):
    answer = control("POST", path, data=body)

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "BadRequestError"
    assert words in answer.json()["error"]["message"]
    assert control("GET", FAULTS).json() == {"value": []}
    assert control("GET", CLOCK).json()["speed"] == 1
    assert demo.get("/stac/collections/demo").status_code == 200


@pytest.mark.parametrize("path", [FAULTS, CLOCK, REQUESTS, RESET, "/_emulator/runs/x/failures"])
def test_only_administrators_control(demo, new_client, path):
    assert new_client(demo.server, token="reader-token").get(path).status_code == 403
    assert new_client(demo.server, token=None).get(path).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/_emulator/", 404),
        ("GET", "/_emulator/fault", 404),
        ("GET", f"{FAULTS}/", 404),
        ("GET", f"{FAULTS}/a/b", 404),
        ("GET", "/_emulator/runs/x/failures", 404),
        ("GET", RESET, 405),
        ("PUT", FAULTS, 405),
        ("DELETE", CLOCK, 405),
    ],
)
def test_other_paths_and_methods_are_refused(control, method, path, status):
    answer = control(method, path)

    assert answer.status_code == status
    assert ("Allow" in answer.headers) == (status == 405)


# --- time -----------------------------------------------------------------------------------------------------------


def test_time_is_moved_over_http(control, serve, new_client, new_collection):
    client = new_client(serve(collection_tick=3600))
    poll = client.post("/stac/collections", json=new_collection("demo")).headers["Location"]
    before = client.get(CLOCK).json()

    frozen = client.post(CLOCK, json={"freeze": True}).json()
    assert frozen["speed"] == 0
    assert client.get(poll).json()["status"] == "Pending"
    after = client.post(CLOCK, json={"advance": 3601}).json()
    assert after["epoch"] - frozen["epoch"] == pytest.approx(3601)
    assert client.get(poll).json()["status"] == "Succeeded"

    later = client.post(CLOCK, json={"set": "2100-01-01T00:00:00+00:00", "speed": 1000}).json()
    assert later["now"].startswith("2100-01-01T00:00:0")
    assert later["speed"] == 1000
    assert before["epoch"] == pytest.approx(time.time(), abs=10)


# --- requests -------------------------------------------------------------------------------------------------------


def test_requests_are_recorded_chosen_and_forgotten(demo, control):
    control("DELETE", REQUESTS)
    demo.get("/stac/collections", params={"sign": "true"})
    control("POST", FAULTS, json={"effect": "status", "status": 500})
    demo.get("/stac/collections/demo")
    demo.delete("/inma/operations")

    recorded = control("GET", REQUESTS).json()["value"]
    assert [(one["operation"], one["status"], one["fault"]) for one in recorded] == [
        ("list_collections", 200, None),
        ("get_collection", 500, "fault-1"),
        ("cancel_all_operations", 500, "fault-1"),
    ]
    assert recorded[0]["query"] == {"api-version": "2026-04-15", "sign": "true"}
    assert recorded[0]["time"].endswith("Z")
    assert len(recorded[0]["requestId"]) == 32
    assert len(control("GET", REQUESTS + "?operation=get_collection").json()["value"]) == 1
    assert len(control("GET", REQUESTS + "?method=DELETE&api-version=x").json()["value"]) == 1
    assert control("GET", REQUESTS + "?colour=red").status_code == 400


# --- reset ----------------------------------------------------------------------------------------------------------


def test_a_reset_forgets_everything(demo, control, new_item, catalogs):
    demo.add_items(new_item("a"))
    demo.start_run(catalogs.of("b"))
    control("POST", FAULTS, json={"effect": "status", "status": 500, "operations": ["get_item"]})

    assert control("POST", RESET).status_code == 204

    assert demo.get("/stac/collections").json()["collections"] == []
    assert demo.get("/inma/operations").json() == {"value": []}
    assert control("GET", FAULTS).json() == {"value": []}
    assert len(control("GET", REQUESTS).json()["value"]) == 2
    demo.add_collection()  # and it goes on as before
    assert demo.run(catalogs.of("b"))["status"] == "Succeeded"


def test_a_reset_can_set_the_clock_back(serve, new_client, new_collection):
    client = new_client(serve(ManualClock(), collection_tick=30))
    client.post(RESET, json={"at": "2024-05-01T12:00:00Z"})

    assert client.get(CLOCK).json()["now"] == "2024-05-01T12:00:00Z"
    operation = client.post("/stac/collections", json=new_collection("demo"))
    assert operation.json()["creationTime"] == "2024-05-01T12:00:00Z"
    client.post(CLOCK, json={"advance": 30})
    assert client.get("/stac/collections/demo").status_code == 200


def test_an_emulator_is_reset_under_load(demo, control, new_collection):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        posts = [pool.submit(demo.post, "/stac/collections", json=new_collection(f"c{n}")) for n in range(40)]
        resets = [pool.submit(control, "POST", RESET) for _ in range(5)]

    assert {one.result().status_code for one in posts} == {202}
    assert {one.result().status_code for one in resets} == {204}
    control("POST", RESET)
    assert demo.get("/stac/collections").json()["collections"] == []
    demo.add_collection()
