"""Points of the wire reference's checklist for an emulator (its section 13) that no other test is about."""

from __future__ import annotations

import pytest

from airflow_provider_geocatalog.emulator.clock import ManualClock


@pytest.fixture
def paused(serve, new_client, new_collection, catalogs):
    """A client of an emulator whose items and runs stay Pending until the clock moves."""
    client = new_client(serve(clock=ManualClock(), pending_seconds=1))
    client.post("/stac/collections", json=new_collection("demo"))
    return client


def test_operation_addresses_are_absolute_and_keep_the_requests_version(demo, new_client, new_item):
    for version in ("2025-04-30-preview", "2026-04-15"):
        answer = new_client(demo.server, version).post("/stac/collections/demo/items", json=new_item(version))

        address = f"{demo.url}/inma/operations/{answer.json()['id']}?api-version={version}"
        assert (answer.headers["Location"], answer.headers["operation-location"]) == (address, address)


def test_counters_are_absent_while_pending_then_texts_in_operations_and_numbers_in_runs(paused, new_item, catalogs):
    operation = paused.post("/stac/collections/demo/items", json=new_item("a")).json()
    run = paused.start_run(catalogs.of("b"))
    pending = paused.get(run).json()["operation"]
    polled = paused.get(f"/inma/operations/{pending['id']}").json()

    assert "additionalInformation" not in operation
    assert "additionalInformation" not in polled
    assert [pending[f"total{kind}Items"] for kind in ("", "Pending", "Successful", "Failed")] == [0, 0, 0, 0]

    paused.server.emulator.clock.advance(2)
    done = paused.get(f"/inma/operations/{pending['id']}").json()["additionalInformation"]

    assert list(done) == ["TotalFailedItems", "TotalItems", "TotalPendingItems", "TotalSuccessfulItems"]
    assert list(done.values()) == ["0", "1", "0", "1"]
    assert paused.get(run).json()["operation"]["totalItems"] == 1


def test_items_and_runs_start_when_they_are_created(demo, new_item, catalogs):
    added = demo.add_items(new_item("a"))
    run = demo.run(catalogs.of("b"))

    for operation in (added, run):
        assert operation["startTime"] == operation["creationTime"]
        assert operation["finishTime"] == operation["statusHistory"][-1]["timestamp"]


def test_a_new_collection_is_not_partitioned(demo):
    assert demo.get("/stac/collections/demo/configurations/partition-type").json() == {"scheme": "none"}


def test_definitions_are_listed_oldest_first(demo):
    body = {"importType": "StaticCatalog", "sourceCatalogUrl": "https://example.com/catalog.json"}
    made = [demo.post("/inma/collections/demo/ingestions", json=body).json()["id"] for _ in range(3)]

    assert [one["id"] for one in demo.get("/inma/collections/demo/ingestions").json()["value"]] == made


def test_no_answer_asks_to_come_back_later(demo, new_item):
    answers = [
        demo.post("/stac/collections/demo/items", json=new_item("a")),
        demo.get("/inma/operations"),
        demo.get("/stac/collections/x"),
        demo.delete("/stac/collections/demo"),
    ]

    assert [answer.status_code for answer in answers] == [202, 200, 404, 202]
    assert not any("Retry-After" in answer.headers for answer in answers)


def test_in_2024_prefixes_and_the_words_of_operations_are_others(demo, new_client, new_item):
    old = new_client(demo.server, "2024-01-31-preview")

    started = old.post("/api/collections/demo/items", json=new_item("a"))
    ended = old.finish(started)

    assert started.headers["Location"].startswith(f"{demo.url}/api/operations/{started.json()['operationId']}?")
    assert (ended["status"], "id" in ended) == ("Success", False)
    assert isinstance(old.get("/api/operations").json(), list)
