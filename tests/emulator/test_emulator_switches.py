"""Where it is not known what the service does: both sides, and that the client and the official SDK live with them."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from azure.core.credentials import AccessToken
from azure.core.pipeline.policies import HeadersPolicy
from azure.planetarycomputer import PlanetaryComputerProClient

from airflow_provider_geocatalog.api.dialects import DIALECTS
from airflow_provider_geocatalog.api.errors import GeoCatalogItemsFailed, GeoCatalogOperationFailed
from airflow_provider_geocatalog.auth import ConnectionSettings, StaticTokenCredential, TokenSource
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.emulator import EmulatorSettings
from airflow_provider_geocatalog.emulator.__main__ import main
from airflow_provider_geocatalog.emulator.clock import ManualClock
from airflow_provider_geocatalog.emulator.settings import SWITCHES
from airflow_provider_geocatalog.rate_limit import RateLimit

SAS = "sv=2023-01-03&st=2020-01-01T00:00:00Z&se=2099-12-31T23:59:59Z&sr=c&sp=rl&sig=x"
CONTAINER = "https://account.blob.core.windows.net/container"


class Credential:
    def get_token(self, *scopes, **options):
        return AccessToken("unused", 2**31)


@contextlib.contextmanager
def ours(server):
    """Return our own client of an emulator."""
    credential = StaticTokenCredential(server.admin_token)
    settings = ConnectionSettings(server.url, dialect=DIALECTS["2026-04-15"], requests_per_second=1000)
    client = GeoCatalogClient(
        settings, tokens=TokenSource(lambda: credential, "scope", "token"), rate_limit=RateLimit()
    )
    yield client
    client.close()


def source(token=SAS, **info):
    return {"kind": "SasToken", "connectionInfo": {"containerUrl": CONTAINER, "sasToken": token, **info}}


def sides(*names):
    """Parametrize over every value of switches, one switch at a time."""
    values = [{name: value} for name in names for value in (SWITCHES[name].default, *SWITCHES[name].others)]
    return pytest.mark.parametrize("settings", values, ids=lambda one: "-".join(map(str, *one.items())))


EVERY_SIDE = sides(*(name for name, switch in SWITCHES.items() if switch.others))


@EVERY_SIDE
def test_our_client_works_on_every_side_of_every_switch(serve, catalogs, new_collection, new_item, settings):
    catalog = catalogs.of("a", "b")
    with ours(serve(**settings)) as client:
        client.wait(client.create_collection(new_collection("demo")), poll_interval=0.01)
        made = client.create_source(source())
        definition = client.create_ingestion("demo", {"importType": "StaticCatalog", "sourceCatalogUrl": catalog})
        run = client.create_run("demo", definition.ingestion_id)
        done = client.wait_for_run("demo", definition.ingestion_id, run.run_id, poll_interval=0.01)
        client.wait_for_operation(run.operation.operation_id, poll_interval=0.01)
        client.wait(client.create_item("demo", new_item("c")), poll_interval=0.01)
        found = {one["id"] for one in client.search(collections=["demo"])}
        client.wait(client.delete_item("demo", "c"), poll_interval=0.01)
        client.delete_source(made.source_id)
        client.wait(client.delete_ingestion("demo", definition.ingestion_id), poll_interval=0.01)
        client.wait(client.delete_collection("demo"), poll_interval=0.01)

        assert (done.operation.counts.succeeded, found) == (2, {"a", "b", "c"})
        assert list(client.list_collections()) == list(client.list_sources()) == []


#: What no client of the official SDK's kind can live with: it takes other codes for errors, and polls for ever.
_NOT_FOR_SDK = ("collection_creation", "collection_deletion", "source_deletion", "ingestion_id_member", "success_word")


@sides(*(name for name, switch in SWITCHES.items() if switch.others and name not in _NOT_FOR_SDK))
def test_the_official_client_works_on_the_other_sides(serve, catalogs, new_collection, settings):
    server = serve(**settings)

    # The SDK's own policy refuses to send a token over http.
    bearer = HeadersPolicy({"Authorization": f"Bearer {server.admin_token}"})
    with PlanetaryComputerProClient(server.url, Credential(), authentication_policy=bearer, polling_interval=0) as sdk:
        sdk.stac.begin_create_collection(new_collection("demo")).result()
        body = {"importType": "StaticCatalog", "sourceCatalogUrl": catalogs.of("a")}
        definition = sdk.ingestion.create("demo", body)
        run = sdk.ingestion.create_run("demo", definition.id)
        deadline = time.monotonic() + 10
        while (got := sdk.ingestion.get_run("demo", definition.id, run.id)).operation.status != "Succeeded":
            assert time.monotonic() < deadline, got
        assert sdk.ingestion.get_operation(run.operation.id).status == "Succeeded"
        sdk.stac.begin_delete_collection("demo").result()


def test_the_articles_codes_and_names_come_together(serve, new_client, new_collection):
    client = new_client(serve(articles_reading=True))
    catalog = {"importType": "StaticCatalog", "sourceCatalogUrl": "https://example.com/catalog.json"}

    created = client.post("/stac/collections", json=new_collection("demo"))
    definition = client.post("/inma/collections/demo/ingestions", json=catalog)
    made = client.post("/inma/ingestion-sources", json=source()).json()

    assert (created.status_code, created.json()["id"]) == (201, "demo")
    assert "operation-location" not in created.headers
    assert (definition.status_code, "id" in definition.json()) == (201, False)
    assert definition.headers["Location"].split("?")[0].endswith(definition.json()["ingestionId"])
    assert client.delete(f"/inma/ingestion-sources/{made['id']}").status_code == 200
    assert client.delete("/stac/collections/demo").status_code == 204
    assert client.get("/stac/collections/demo").status_code == 404


@sides("partial_failure_status")
@pytest.mark.parametrize("error", ["nested", "flat"])
def test_a_partly_failed_run_is_judged_by_its_counts(serve, catalogs, new_collection, settings, error):
    catalogs.of("a", "b")
    catalogs.write("items/a.json", "{")
    body = {"importType": "StaticCatalog", "sourceCatalogUrl": catalogs.url()}
    with ours(serve(operation_error=error, **settings)) as client:
        client.wait(client.create_collection(new_collection("demo")), poll_interval=0.01)
        definition = client.create_ingestion("demo", body)
        run = client.create_run("demo", definition.ingestion_id)
        names = ("demo", definition.ingestion_id, run.run_id)

        with pytest.raises(GeoCatalogItemsFailed, match="1 failed"):
            client.wait_for_run(*names, poll_interval=0.01)
        tolerated = client.wait_for_run(*names, poll_interval=0.01, max_failed_items=1)
        operation = client.get_operation(run.run_id)

    assert tolerated.operation.counts.succeeded == 1
    assert operation.status.word == settings["partial_failure_status"]
    if settings["partial_failure_status"] == "Failed":
        assert operation.fault.code == "ErrorsInBatchOperation"


@pytest.mark.parametrize(("side", "shown"), [("nested", {"error": {"code": "X"}}), ("flat", {"code": "X"})])
def test_a_failure_is_nested_or_flat(serve, new_client, new_item, side, shown):
    client = new_client(serve(operation_error=side))
    client.add_collection()

    failed = client.add_items(new_item("a", type="Nothing"))

    error = failed["error"]
    assert ("error" in error, set(error.get("error", error))) == (side == "nested", {"code", "message"})
    assert client.get("/inma/operations?status=Failed").json()["value"][0]["error"] == error


@pytest.mark.parametrize("word", ["Succeeded", "Finished", "Success"])
def test_success_has_the_chosen_word_but_in_the_oldest_version(serve, new_client, new_collection, word):
    client = new_client(serve(success_word=word))

    operation = (
        client.finish(client.post("/stac/collections", json=new_collection("demo")))
        if word != "Finished"
        else (
            client.poll(
                client.post("/stac/collections", json=new_collection("demo")).headers["Location"],
                lambda body: body["status"] == "Finished",
            )
        )
    )

    assert operation["status"] == word
    assert len(client.get("/inma/operations", params={"status": word}).json()["value"]) == 1


def test_runs_can_have_ids_of_their_own(serve, new_client, catalogs):
    client = new_client(serve(run_ids="own"))
    client.add_collection()

    path = client.start_run(catalogs.of("a"))
    run = client.poll(path, lambda body: body["operation"]["status"] == "Succeeded")

    assert run["id"] != run["operation"]["id"]
    assert client.get(f"/inma/operations/{run['operation']['id']}").status_code == 200


@pytest.mark.parametrize(
    ("side", "version", "status"),
    [
        ("by version", "2025-04-30-preview", 201),
        ("by version", "2026-04-15", 404),
        ("create", "2026-04-15", 201),
        ("refuse", "2025-04-30-preview", 404),
    ],
)
def test_an_unknown_source_is_created_or_refused(serve, new_client, side, version, status):
    client = new_client(serve(unknown_source_put=side), version=version)

    assert client.put("/inma/ingestion-sources/unknown", json=source()).status_code == status


def test_operations_on_collections_can_tell_their_times(serve, new_client, new_collection):
    client = new_client(serve(collection_operation_times="present"))

    operation = client.finish(client.post("/stac/collections", json=new_collection("demo")))

    running, finished = (change["timestamp"] for change in operation["statusHistory"][1:])
    assert (operation["startTime"], operation["finishTime"]) == (running, finished)


@pytest.mark.parametrize(("side", "failed"), [("overwrite", 0), ("fail", 1)])
def test_an_existing_item_is_overwritten_or_fails(serve, new_client, catalogs, side, failed):
    client = new_client(serve(existing_items=side))
    client.add_collection()
    client.run(catalogs.of("a"))

    again = client.run(catalogs.of("a", "b"))

    assert again["additionalInformation"]["TotalFailedItems"] == str(failed)
    assert [one["errorCode"] for one in client.failures(again)] == ["ItemAlreadyExistsInCollection"] * failed
    skipped = client.run(catalogs.of("a", "b"), skipExistingItems=True)
    assert skipped["status"] == "Succeeded"


@pytest.mark.parametrize("status", [409, 400])
def test_a_definition_with_an_active_run_is_kept(serve, new_client, catalogs, status):
    client = new_client(serve(active_ingestion_deletion=str(status), pending_seconds=1000))
    client.add_collection()
    path = client.start_run(catalogs.of("a"))

    assert client.delete(path.rsplit("/runs/", 1)[0]).status_code == status


@pytest.mark.parametrize(("side", "status"), [("ends", "Canceled"), ("stuck", "Canceling")])
def test_what_is_cancelled_in_a_deleted_collection_ends_or_not(serve, new_client, new_item, side, status):
    clock = ManualClock()
    client = new_client(serve(clock=clock, deleted_collection_cancel=side, pending_seconds=5, cancel_seconds=10))
    client.add_collection()
    operation = client.post("/stac/collections/demo/items", json=new_item("a")).headers["Location"]
    client.delete(operation)
    client.finish(client.delete("/stac/collections/demo"))

    clock.advance(100_000)

    assert client.get(operation).json()["status"] == status


@pytest.mark.parametrize("status", [204, 400])
def test_cancelling_twice_is_fine_or_refused(serve, new_client, new_item, status):
    client = new_client(serve(second_cancel=str(status), pending_seconds=1000, cancel_seconds=1000))
    client.add_collection()
    operation = client.post("/stac/collections/demo/items", json=new_item("a")).headers["Location"]

    assert [client.delete(operation).status_code for _ in range(2)] == [204, status]


@pytest.mark.parametrize(
    ("settings", "body", "status"),
    [
        ({}, source(SAS.replace("st=2020-01-01T00:00:00Z&", "")), 400),
        ({"sas_without_start": "accept"}, source(SAS.replace("st=2020-01-01T00:00:00Z&", "")), 201),
        ({}, source(SAS.replace("2099", "2021")), 201),
        ({"expired_sas": "refuse"}, source(SAS.replace("2099", "2021")), 400),
        ({"expired_sas": "refuse"}, source(), 201),
        ({}, source(objectId="x") | {"kind": "BlobManagedIdentity"}, 201),
        ({"unattached_identity": "refuse"}, source(objectId="x") | {"kind": "BlobManagedIdentity"}, 400),
    ],
)
def test_a_doubtful_source_is_accepted_or_refused(serve, new_client, settings, body, status):
    answer = new_client(serve(**settings)).post("/inma/ingestion-sources", json=body)

    assert answer.status_code == status
    if status == 400:
        assert answer.json()["error"]["code"] == "ValidationError"


def test_items_for_a_missing_collection_can_fail_in_their_operation(serve, new_client, new_item):
    server = serve(missing_collection="operation")
    client = new_client(server)

    operation = client.finish(client.post("/stac/collections/demo/items", json=new_item("a")))

    assert operation["error"]["error"]["code"] == "CollectionDoesNotExist"
    with ours(server) as mine, pytest.raises(GeoCatalogOperationFailed, match="does not exist"):
        mine.wait(mine.create_item("demo", new_item("a")), poll_interval=0.01)


def test_a_post_can_have_a_most_of_items(serve, new_client, new_item):
    client = new_client(serve(max_items_per_post=2))
    client.add_collection()

    assert client.add_items(new_item("a"), new_item("b"))["status"] == "Succeeded"
    refused = client.add_items(*map(new_item, "cde"))
    assert refused["error"]["error"]["code"] == "PostItemCollectionSizeExceeded"


def test_bodies_of_refusals(serve, new_client, new_collection):
    server = serve(unauthorized_body="error", forbidden_body="empty")

    unknown = new_client(server, token="wrong").get("/stac/collections")
    reader = new_client(server, token="reader-token").post("/stac/collections", json=new_collection("demo"))

    assert (unknown.status_code, unknown.json()["error"]["code"]) == (401, "Unauthorized")
    assert unknown.headers["WWW-Authenticate"] == "Bearer"
    assert (reader.status_code, reader.content) == (403, b"")


def test_a_deleted_item_can_be_read_for_a_while(serve, new_client, new_item):
    clock = ManualClock()
    client = new_client(serve(clock=clock, deleted_item_lag=60))
    client.add_collection()
    client.add_items(new_item("a"))

    assert client.finish(client.delete("/stac/collections/demo/items/a"))["status"] == "Succeeded"
    clock.advance(59)
    assert client.get("/stac/collections/demo/items/a").status_code == 200
    clock.advance(1)
    assert client.get("/stac/collections/demo/items/a").status_code == 404


def test_a_search_has_the_chosen_limit(serve, new_client, new_item):
    client = new_client(serve(search_limit=2))
    client.add_collection()
    client.add_items(*map(new_item, "abc"))

    assert len(client.post("/stac/search", json={}).json()["features"]) == 2
    assert len(client.post("/stac/search", json={"limit": 3}).json()["features"]) == 3


# --- setting them ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"existing_items": "perhaps"},
        {"deleted_item_lag": -1},
        {"deleted_item_lag": float("nan")},
        {"search_limit": 0},
        {"max_concurrent_runs": 0},
        {"limits": "some"},
        {"max_body_bytes": -1},
    ],
)
def test_a_switch_takes_its_own_values_only(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        EmulatorSettings(**settings)


@pytest.mark.parametrize("switch", ["x", "x=1", "existing_items", "existing_items=perhaps", "deleted_item_lag=long"])
def test_unusable_switches_are_explained_on_the_command_line(capsys, switch):
    with pytest.raises(SystemExit):
        main(["--switch", switch])

    assert "error: argument --switch" in capsys.readouterr().err


def test_the_command_line_lists_every_switch(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--list-switches"])

    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ", 1)[0] for line in lines] == list(SWITCHES)


def test_the_documentation_has_a_row_for_every_switch_and_no_other():
    text = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")
    rows = text.partition("## Switches")[2].partition("\n## ")[0]

    documented = [line for line in rows.splitlines() if line.startswith("| `")]

    assert documented == [
        f"| `{switch.name}` | {switch.values} | {switch.default} | {switch.question} | {switch.about} |"
        for switch in SWITCHES.values()
    ]
