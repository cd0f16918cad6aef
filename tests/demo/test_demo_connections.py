from __future__ import annotations

import datetime
import json
from urllib.parse import parse_qs

import pytest

from airflow_provider_geocatalog.api.validation import sas_token_problems
from demo.connections import (
    Storage,
    connection_fields,
    geocatalog_connection,
    geocatalog_settings,
    given_storage,
    mint_sas,
)

NOW = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.UTC)


def test_a_minted_sas_is_one_that_the_service_takes():
    token = mint_sas(NOW)

    assert sas_token_problems(token, now=NOW) == []
    fields = {name: values[0] for name, values in parse_qs(token, strict_parsing=True).items()}
    assert (fields["sr"], fields["sp"], fields["se"]) == ("c", "rl", "2026-11-27T12:00:00Z")


def test_every_minted_sas_has_another_signature():
    assert mint_sas(NOW) != mint_sas(NOW)


def test_a_storage_connection_leads_back_to_its_container():
    storage = Storage("http://127.0.0.1:8099/_emulator/storage/demo", mint_sas(NOW))

    assert given_storage(storage.connection(), f"{storage.url}/catalog.json") == storage
    assert storage.sas_token not in repr(storage)


def test_a_storage_connection_without_host_is_for_the_catalogs_container():
    connection = json.dumps({"conn_type": "generic", "password": "?sp=rl&sig=abc"})

    storage = given_storage(connection, "https://acct.blob.core.windows.net/maps/a/catalog.json")

    assert storage == Storage("https://acct.blob.core.windows.net/maps", "sp=rl&sig=abc")


def test_the_geocatalog_connection_can_be_read_back():
    settings = geocatalog_settings(geocatalog_connection("http://127.0.0.1:8099", "secret-token"))

    assert (settings.url, settings.secret, settings.is_local) == ("http://127.0.0.1:8099", "secret-token", True)


@pytest.mark.parametrize(
    "uri",
    [
        "geocatalog://:se%2Fcret@127.0.0.1:8099/?auth_method=static_token",
        "geocatalog://http://:se%2Fcret@127.0.0.1:8099/?auth_method=static_token",
        "geocatalog://:se%2Fcret@http%3A%2F%2F127.0.0.1%3A8099/?__extra__=%7B%22auth_method%22%3A+%22static_token%22%7D",
    ],
)
def test_uris_are_read_as_airflow_reads_them(uri):
    settings = geocatalog_settings(uri)

    assert (settings.url, settings.secret, settings.auth_method.value) == (
        "http://127.0.0.1:8099",
        "se/cret",
        "static_token",
    )


def test_json_may_hold_its_extra_as_text():
    fields = connection_fields(json.dumps({"host": "h", "port": "8099", "extra": '{"tenant_id": "t"}'}))

    assert (fields["port"], fields["extra"]) == (8099, {"tenant_id": "t"})
