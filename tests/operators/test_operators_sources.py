"""Ingestion sources, on the emulator."""

from __future__ import annotations

import json
import logging

import pytest

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.sources import (
    GeoCatalogDeleteIngestionSourceOperator,
    GeoCatalogEnsureIngestionSourceOperator,
)


def ensure(world, **arguments):
    return GeoCatalogEnsureIngestionSourceOperator(task_id="ensure", container_url=world.container, **arguments)


def test_the_token_comes_from_a_connection_a_variable_or_a_callable(world, tokens, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_THE_SAS", tokens())

    first = world.run(ensure(world, sas_token_conn_id="geocatalog_storage"))
    second = world.run(ensure(world, sas_token_variable="the_sas", rotate="always"))
    third = world.run(ensure(world, sas_token_callable=lambda: tokens(), rotate="always"))
    fourth = world.run(ensure(world, sas_token_callable=lambda url: tokens() if "box" in url else "", rotate="always"))

    assert [answer["action"] for answer in (first, second, third, fourth)] == ["created", *["rotated"] * 3]
    assert len({answer["source_id"] for answer in (first, second, third, fourth)}) == 1


@pytest.mark.parametrize("arguments", [{"min_lifetime": "86400"}, {"min_lifetime": -1}, {"token_lifetime": 0}], ids=str)
def test_a_lifetime_that_is_none_is_refused_when_the_task_is_made(arguments):
    with pytest.raises(GeoCatalogInvalidInput, match=next(iter(arguments))):
        GeoCatalogEnsureIngestionSourceOperator(
            task_id="e", container_url="https://a.blob.core.windows.net/c", **arguments
        )


def test_a_source_that_lives_long_enough_is_kept_without_asking_for_a_token(world):
    world.run(ensure(world, sas_token_conn_id="geocatalog_storage"))
    before = list(world.writes)

    kept = world.run(ensure(world, sas_token_callable=lambda: pytest.fail("no token is needed")))

    assert (kept["action"], world.writes) == ("unchanged", before)


def test_a_source_that_would_expire_is_renewed_in_place(world, tokens):
    short = world.run(ensure(world, sas_token_callable=lambda: tokens(hours=2), min_lifetime=3600))

    renewed = world.run(ensure(world, sas_token_conn_id="geocatalog_storage"))

    assert (renewed["action"], renewed["source_id"]) == ("rotated", short["source_id"])
    assert "delete_source" not in world.writes


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"leave_out": ("se",)}, "no expiry time"),
        ({"leave_out": ("st",)}, "no start time"),
        ({"leave_out": ("sp",)}, "no permissions"),
        ({"leave_out": ("sig",)}, "no signature"),
        ({"hours": -1}, "it expired at"),
        ({"hours": 1}, "in less than"),
        ({"permissions": "r"}, "lacks the permission list"),
        ({"permissions": "wd"}, "read and list"),
        ({"permissions": "r", "hours": 1}, "lacks the permission list.*in less than"),
    ],
)
def test_a_token_that_cannot_do_it_is_refused_before_anything_is_written(world, tokens, changes, complaint):
    token = tokens(**changes)

    with pytest.raises(GeoCatalogTaskFailed, match=complaint) as caught:
        world.run(ensure(world, sas_token_callable=lambda: token))

    assert world.writes == []
    assert "operatorsTestSignature" not in str(caught.value)


def test_a_second_source_for_a_container_is_a_clear_error_where_asked_for(world):
    first = world.run(ensure(world, sas_token_conn_id="geocatalog_storage"))

    with pytest.raises(GeoCatalogTaskFailed, match=first["source_id"]):
        world.run(ensure(world, sas_token_conn_id="geocatalog_storage", if_exists="fail"))
    assert world.writes == ["create_source"]


def test_the_only_managed_identity_is_found_and_an_unknown_one_is_refused(world):
    [attached] = world.server.emulator.settings.managed_identities

    with pytest.raises(GeoCatalogTaskFailed, match=f"attached are: {attached.object_id}"):
        world.run(ensure(world, managed_identity="22222222-2222-4222-8222-222222222222"))

    assert world.run(ensure(world, managed_identity="auto"))["kind"] == "BlobManagedIdentity"
    with pytest.raises(GeoCatalogTaskFailed, match="already has a BlobManagedIdentity source"):
        world.run(ensure(world, sas_token_conn_id="geocatalog_storage"))


@pytest.mark.parametrize(
    "url", ["box", "https://acct.blob.core.windows.net", "file:///tmp/box", "https://a.blob.core.windows.net/c/d"]
)
def test_what_is_no_container_is_refused(world, url):
    operator = ensure(world, sas_token_conn_id="geocatalog_storage")
    operator.container_url = url

    with pytest.raises(GeoCatalogTaskFailed, match="container"):
        world.run(operator)
    assert world.writes == []


def test_a_source_is_deleted_by_its_container_or_its_id(world):
    made = world.run(ensure(world, sas_token_conn_id="geocatalog_storage"))
    by_container = GeoCatalogDeleteIngestionSourceOperator(task_id="d", container_url=world.container + "/")

    deleted, absent = world.run(by_container), world.run(by_container)
    assert (deleted["action"], deleted["source_id"], absent["action"]) == ("deleted", made["source_id"], "absent")
    with pytest.raises(GeoCatalogTaskFailed):
        world.run(GeoCatalogDeleteIngestionSourceOperator(task_id="d", source_id=made["source_id"], if_missing="fail"))


def test_the_token_is_in_no_log_and_no_result(world, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        answer = world.run(ensure(world, sas_token_conn_id="geocatalog_storage"))

    seen = caplog.text + "".join(capfd.readouterr()) + json.dumps(answer) + repr(list(world.server.emulator.requests))
    assert "operatorsTestSignature" not in seen


def test_a_signature_in_a_url_is_refused_when_the_task_is_made():
    with pytest.raises(ValueError, match="carries a SAS signature") as caught:
        GeoCatalogEnsureIngestionSourceOperator(
            task_id="e", container_url="https://a.blob.core.windows.net/c?sig=abcdef"
        )
    assert "abcdef" not in str(caught.value)


@pytest.mark.parametrize("path", ["not a url", "https://a.blob.core.windows.net/box/catalog.json"])
def test_what_is_no_container_is_refused_and_not_taken_for_a_source_that_is_gone(world, path):
    with pytest.raises(Exception, match="the ingestion source cannot be deleted"):
        world.run(GeoCatalogDeleteIngestionSourceOperator(task_id="d", container_url=path))


def test_a_signed_container_url_is_refused_when_a_deletion_is_made():
    with pytest.raises(GeoCatalogInvalidInput, match="container_url carries a SAS signature"):
        GeoCatalogDeleteIngestionSourceOperator(
            task_id="d", container_url="https://a.blob.core.windows.net/box?sv=1&sig=c2VjcmV0"
        )
