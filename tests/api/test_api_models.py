"""The bodies of the service as recorded (geocatalog-api 14), and odd ones."""

from __future__ import annotations

import datetime

import pytest

from airflow_provider_geocatalog.api.errors import GeoCatalogProtocolError
from airflow_provider_geocatalog.api.models import (
    Counts,
    Fault,
    Ingestion,
    IngestionSource,
    Operation,
    Run,
    parse_timestamp,
)
from airflow_provider_geocatalog.api.statuses import Outcome

CREATED = {
    "id": "11111111-1111-4111-8111-111111111111",
    "status": "Pending",
    "statusHistory": [{"status": "Pending", "timestamp": "2026-06-29T05:10:22.480056Z"}],
    "type": "AddCollection",
    "creationTime": "2026-06-29T05:10:22.4800555Z",
    "collectionId": "demo",
}
FINISHED = {
    "id": "22222222-2222-4222-8222-222222222222",
    "status": "Succeeded",
    "statusHistory": [
        {"status": "Pending", "timestamp": "2026-04-16T20:41:46.06102Z"},
        {"status": "Running", "timestamp": "2026-04-16T20:41:47.082595Z"},
        {"status": "Finished", "timestamp": "2026-04-16T20:41:53.051551Z"},
    ],
    "type": "AddItem",
    "creationTime": "2026-04-16T20:41:46.06102Z",
    "startTime": "2026-04-16T20:41:46.06102Z",
    "finishTime": "2026-04-16T20:41:53.051551Z",
    "collectionId": "demo",
    "additionalInformation": {
        "TotalFailedItems": "0",
        "TotalItems": "1",
        "TotalPendingItems": "0",
        "TotalSuccessfulItems": "1",
    },
}
TEXT = "Item 'a' does not exist in collection 'demo' to update"
FAILED = {
    **FINISHED,
    "status": "Failed",
    "statusHistory": [
        {"status": "Pending", "timestamp": "2026-04-15T12:50:52.925181Z"},
        {
            "status": "Failed",
            "timestamp": "2026-04-15T12:50:54.246499Z",
            "errorCode": "NoRecordsToUpdate",
            "errorMessage": TEXT,
        },
    ],
    "error": {"error": {"code": "NoRecordsToUpdate", "message": TEXT}},
}
CANCELED = {
    "id": "44444444-4444-4444-8444-444444444444",
    "status": "Canceled",
    "statusHistory": [
        {
            "status": "Canceled",
            "timestamp": "2026-04-16T19:58:43.220953Z",
            "errorCode": "CanceledOperation",
            "errorMessage": "Operation '4' for collection 'demo' has been cancelled",
        }
    ],
    "type": "IngestionStaticCatalog",
    "creationTime": "2026-04-16T19:58:28.913689Z",
    "finishTime": "2026-04-16T19:58:43.220953Z",
    "collectionId": "demo",
    "additionalInformation": {
        "TotalFailedItems": "0",
        "TotalItems": "0",
        "TotalPendingItems": "0",
        "TotalSuccessfulItems": "0",
    },
}
RUN = {
    "id": "77777777-7777-4777-8777-777777777777",
    "creationTime": "2026-06-11T11:37:49.9710866Z",
    "sourceCatalogUrl": "https://acct.blob.core.windows.net/c/catalog.json",
    "skipExistingItems": True,
    "keepOriginalAssets": True,
    "operation": {
        "id": "77777777-7777-4777-8777-777777777777",
        "status": "Pending",
        "statusHistory": [{"status": "Pending", "timestamp": "2026-06-11T11:37:49.9618085Z"}],
        "creationTime": "2026-06-11T11:37:49.9618052Z",
        "totalItems": 0,
        "totalPendingItems": 0,
        "totalSuccessfulItems": 0,
        "totalFailedItems": 0,
    },
}


def test_a_pending_operation_has_no_counts_and_no_end():
    found = Operation.from_json(CREATED)

    assert (found.counts, found.ended_at, found.duration, found.fault) == (None, None, None, None)
    assert (found.type, found.collection_id) == ("AddCollection", "demo")


def test_a_finished_operation_tells_counts_written_as_text():
    found = Operation.from_json(FINISHED)

    assert found.counts == Counts(total=1, succeeded=1)
    assert found.history[-1].status.outcome is Outcome.SUCCEEDED
    assert found.duration == pytest.approx(6.990531)


def test_a_collection_operation_without_finish_time_ends_with_its_history():
    ended = {**CREATED, "status": "Succeeded"}

    assert Operation.from_json(ended).ended_at == parse_timestamp("2026-06-29T05:10:22.480056Z")


@pytest.mark.parametrize(
    "members",
    [
        {},  # nested, as recorded
        {"error": {"code": "NoRecordsToUpdate", "message": TEXT}},
        {"error": {"error": None, "code": "NoRecordsToUpdate", "message": TEXT}},
        {"error": None},  # the history tells it
        {"error": {}},
        {"error": {"error": {}}},
    ],
)
def test_the_reason_of_a_failure_is_found_wherever_it_sits(members):
    assert Operation.from_json({**FAILED, **members}).fault == Fault("NoRecordsToUpdate", TEXT)


def test_a_cancelled_operation_tells_its_reason_from_the_history():
    found = Operation.from_json(CANCELED)

    assert (found.status.outcome, found.fault.code) == (Outcome.CANCELED, "CanceledOperation")


def test_a_signature_in_the_services_message_is_masked():
    message = "Source: https://a.blob.core.windows.net/c/i.json?sv=1&sig=SECRETSECRET&se=2"

    found = Operation.from_json({**FAILED, "error": {"error": {"code": "X", "message": message}}})

    assert "SECRET" not in found.fault.message


def test_a_run_reads_integers_and_shares_its_operations_id():
    found = Run.from_json(RUN)

    assert (found.run_id, found.is_live) == (found.operation.operation_id, True)
    assert (found.operation.counts, found.skip_existing_items) == (Counts(), True)


@pytest.mark.parametrize(("word", "live"), [("Running", True), ("Resting", True), ("Canceling", False)])
def test_a_run_that_is_being_cancelled_is_not_live(word, live):
    assert Run.from_json({**RUN, "operation": {**RUN["operation"], "status": word}}).is_live is live


@pytest.mark.parametrize("name", ["id", "ingestionId"])
def test_the_id_of_a_definition_has_two_names(name):
    assert Ingestion.from_json({name: "abc", "status": "Ready"}).ingestion_id == "abc"


@pytest.mark.parametrize("name", ["id", "operationId"])
def test_the_id_of_an_operation_has_two_names(name):
    assert Operation.from_json({name: "abc", "status": "Running"}).operation_id == "abc"


@pytest.mark.parametrize("name", ["kind", "Kind", "sourceType"])
def test_the_kind_of_a_source_has_three_names(name):
    info = {"containerUrl": "https://a/c", "expiration": "2099-12-31T23:59:59.0000000Z"}

    found = IngestionSource.from_json({"id": "s", name: "SasToken", "connectionInfo": info})

    assert (found.kind, found.container_url, found.expires_at.year) == ("SasToken", "https://a/c", 2099)


@pytest.mark.parametrize("word", ["total", "Total"])
def test_failed_items_are_seen_even_without_a_total(word):
    assert Counts.from_json({f"{word}FailedItems": "3"}) == Counts(total=3, failed=3)


def test_a_counter_that_is_no_number_is_not_read_as_nothing_failed():
    with pytest.raises(GeoCatalogProtocolError, match="counter"):
        Counts.from_json({"TotalItems": "3", "TotalFailedItems": "many"})


@pytest.mark.parametrize(
    "members",
    [
        {"statusHistory": None},
        {"statusHistory": [None, 7, {}]},
        {"statusHistory": {"a": 1}},
        {"additionalInformation": None},
        {"additionalInformation": "text"},
        {"additionalInformation": ["a"]},
        {"creationTime": 5},
        {"creationTime": "yesterday", "finishTime": ""},
        {"error": "broken"},
        {"error": {"code": 7}},
        {"type": None, "collectionId": None},
        {"totalItems": None},
    ],
)
def test_odd_members_do_not_end_a_wait(members):
    assert Operation.from_json({"id": "o", "status": "Running", **members}).status.word == "Running"


@pytest.mark.parametrize("body", [None, [], "x", 7, {}, {"id": "o"}, {"status": "Running"}, {"id": "", "status": "X"}])
def test_what_is_no_operation_is_an_error(body):
    with pytest.raises(GeoCatalogProtocolError):
        Operation.from_json(body)


@pytest.mark.parametrize("body", [None, [], {}, {"id": "r", "operation": None}, {"id": "r", "operation": {}}])
def test_what_is_no_run_is_an_error(body):
    with pytest.raises(GeoCatalogProtocolError):
        Run.from_json(body)


@pytest.mark.parametrize("body", [None, [], {}, {"id": "s"}, {"kind": "SasToken"}])
def test_what_is_no_source_is_an_error(body):
    with pytest.raises(GeoCatalogProtocolError):
        IngestionSource.from_json(body)


def test_a_sources_unreadable_expiry_is_not_read_as_none():
    with pytest.raises(GeoCatalogProtocolError, match="time"):
        IngestionSource.from_json({"id": "s", "kind": "SasToken", "connectionInfo": {"expiration": "never"}})


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-06-29T05:10:22.4800555Z", 480055),
        ("2026-06-29T05:10:22.48Z", 480000),
        ("2026-06-29T05:10:22Z", 0),
        ("2026-06-29T05:10:22.1234567+00:00", 123456),
        ("2026-06-29T05:10:22", 0),
    ],
)
def test_timestamps_have_up_to_seven_digits_and_are_aware(text, microsecond):
    moment = parse_timestamp(text)

    assert (moment.microsecond, moment.utcoffset()) == (microsecond, datetime.timedelta(0))
    assert moment.replace(microsecond=0).timestamp() == 1782709822


def test_a_summary_is_json_and_small():
    summary = Operation.from_json(FINISHED).to_summary()

    assert summary["items"] == {"total": 1, "succeeded": 1, "failed": 0, "pending": 0}
    assert summary["ended_at"].startswith("2026-04-16T20:41:53")
    assert "additionalInformation" not in str(summary)
