"""Watching and cancelling operations."""

from __future__ import annotations

import pytest

from airflow_provider_geocatalog.emulator.clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def slow(serve, new_client, clock):
    """A client of an emulator whose runs take a second an item."""
    client = new_client(serve(clock, items_per_second=1, pending_seconds=1, cancel_seconds=2))
    client.add_collection()
    return client


def operation_of(client, path):
    return client.get(f"/inma/operations/{path.rsplit('/', 1)[1]}").json()


def test_a_running_run_is_canceled_and_keeps_its_counters(slow, clock, catalogs):
    path = slow.start_run(catalogs.of("a", "b", "c"))
    clock.advance(1)
    slow.get("/stac/collections")
    slow.server.emulator.settle()
    clock.advance(1)
    url = f"/inma/operations/{path.rsplit('/', 1)[1]}"

    assert [slow.delete(url).status_code, slow.delete(url).status_code] == [204, 204]
    asked = operation_of(slow, path)
    clock.advance(2)
    canceled = operation_of(slow, path)

    assert (asked["status"], [change["status"] for change in asked["statusHistory"]]) == (
        "Canceling",
        ["Pending", "Running"],
    )
    assert [change["status"] for change in canceled["statusHistory"]] == ["Pending", "Running", "Canceled"]
    assert canceled["statusHistory"][-1]["errorCode"] == "CanceledOperation"
    assert canceled["additionalInformation"]["TotalSuccessfulItems"] == "1"
    assert "error" not in canceled


def test_a_run_canceled_before_it_started_has_one_history_entry(slow, clock, catalogs):
    path = slow.start_run(catalogs.of("a"))
    slow.delete(f"/inma/operations/{path.rsplit('/', 1)[1]}")
    clock.advance(2)

    canceled = operation_of(slow, path)

    assert [change["status"] for change in canceled["statusHistory"]] == ["Canceled"]
    assert "startTime" not in canceled
    assert canceled["finishTime"] == canceled["statusHistory"][0]["timestamp"]
    assert set(canceled["additionalInformation"].values()) == {"0"}


def test_a_finished_operation_cannot_be_canceled(demo):
    operation_id = demo.get("/inma/operations").json()["value"][0]["id"]

    answer = demo.delete(f"/inma/operations/{operation_id}")

    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (400, "ValidationError")
    assert answer.json()["error"]["message"] == "Cannot cancel a operation in the current status: 'Succeeded'"


def test_an_unknown_operation_is_a_404(client):
    assert client.get("/inma/operations/x").status_code == 404
    assert client.delete("/inma/operations/x").status_code == 404


def test_cancel_all_stops_everything_but_the_deletion_of_definitions(
    serve, new_client, new_collection, catalogs, clock
):
    client = new_client(serve(clock, collection_tick=30))
    created = client.post("/stac/collections", json=new_collection("demo")).headers["Location"]
    clock.advance(30)
    assert client.get(created).json()["status"] == "Succeeded"
    body = {"importType": "StaticCatalog", "sourceCatalogUrl": catalogs.of("a")}
    ingestion = client.post("/inma/collections/demo/ingestions", json=body).json()["id"]
    other = client.post("/stac/collections", json=new_collection("other")).headers["Location"]
    deletion = client.delete(f"/inma/collections/demo/ingestions/{ingestion}").headers["Location"]

    assert client.delete("/inma/operations").status_code == 204
    clock.advance(30)

    assert client.get(other).json()["status"] == "Canceled"
    history = [change["status"] for change in client.get(deletion).json()["statusHistory"]]
    assert history == ["Pending", "Canceling", "Running", "Finished"]
    assert client.get("/stac/collections/other").status_code == 404


def test_operations_are_listed_newest_first_and_filtered(demo):
    demo.add_collection("second")

    def listed(**query):
        return [one["collectionId"] for one in demo.get("/inma/operations", params=query).json()["value"]]

    assert listed() == ["second", "demo"]
    assert listed(collectionId="demo") == ["demo"]
    assert listed(status="succeeded") == ["second", "demo"]
    assert listed(status="Running") == []
    assert demo.get("/inma/operations", params={"status": "Nope"}).status_code == 400
    assert demo.get("/inma/operations", params={"$top": "-1"}).status_code == 400


def test_collection_operations_have_neither_start_nor_finish_time(demo):
    operation = demo.get("/inma/operations").json()["value"][0]

    assert set(operation) == {"id", "status", "statusHistory", "type", "creationTime", "collectionId"}


def test_filters_hold_for_every_page(demo, new_item):
    demo.add_collection("other")
    for number in range(3):
        demo.add_items(new_item(f"i{number}"))
    demo.add_items(new_item("i0"))  # fails
    query = {"collectionId": "demo", "status": "Succeeded", "$top": "2", "$skip": "1"}

    page = demo.get("/inma/operations", params=query).json()
    demo.session.params = {}
    rest = demo.get(page["nextLink"]).json()

    assert [one["type"] for one in page["value"]] == ["AddItem", "AddItem"]
    assert [one["type"] for one in rest["value"]] == ["AddCollection"]
    assert "nextLink" not in rest


def test_the_2024_dialect_cuts_its_bare_lists(demo, new_client):
    demo.add_collection("other")
    old = new_client(demo.server, "2024-01-31-preview")

    def listed(**query):
        return [one["collectionId"] for one in old.get("/api/operations", params=query).json()]

    assert (listed(), listed(**{"$top": "1"}), listed(**{"$skip": "1"})) == (["other", "demo"], ["other"], ["demo"])


def test_logs_are_those_of_the_operations_own_collection(demo, new_client):
    demo.add_collection("other")
    old = new_client(demo.server, "2024-01-31-preview")
    operation_id = old.get("/api/operations", params={"collectionId": "demo"}).json()[0]["operationId"]

    assert old.get(f"/api/collections/demo/operations/{operation_id}/logs").json() == []
    assert old.get(f"/api/collections/other/operations/{operation_id}/logs").status_code == 404
    assert demo.get(f"/inma/collections/demo/operations/{operation_id}/logs").status_code == 404
