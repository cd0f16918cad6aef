from __future__ import annotations

import json

import pytest

from demo.catalog_input import InputError
from demo.connections import geocatalog_connection
from demo.settings import Settings, read_settings

REMOTE = json.dumps({"conn_type": "geocatalog", "host": "https://mine.abc.westus2.geocatalog.spatio.azure.com"})
LOOPBACK = geocatalog_connection("http://127.0.0.1:8099", "secret-token")


def problem(environment: dict[str, str]) -> str:
    with pytest.raises(InputError) as caught:
        read_settings([], environment)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_nothing_set_means_the_sample_catalog_on_the_emulator():
    assert read_settings([], {}) == Settings()


def test_an_argument_wins_over_its_variable(tmp_path):
    (tmp_path / "a.json").touch()

    settings = read_settings(["--catalog", str(tmp_path / "a.json")], {"CATALOG": "/nowhere.json"})

    assert settings.catalog == str(tmp_path / "a.json")


@pytest.mark.parametrize(("value", "keep"), [("1", True), ("yes", True), ("0", False), ("", False), ("no", False)])
def test_keep_is_read_as_people_write_it(value, keep):
    assert read_settings([], {"KEEP": value}).keep is keep


def test_a_catalog_that_is_not_there_is_named():
    assert problem({"CATALOG": "/nowhere/catalog.json"}) == "CATALOG /nowhere/catalog.json: no such file"


def test_a_catalog_by_another_protocol_is_refused():
    assert "neither a path nor an http(s) URL" in problem({"CATALOG": "ftp://example.com/catalog.json"})


def test_a_signed_catalog_url_is_refused_without_showing_the_signature():
    text = problem({"CATALOG": "https://example.blob.core.windows.net/c/catalog.json?sig=c2VjcmV0"})

    assert "SAS signature" in text
    assert "c2VjcmV0" not in text


def test_a_config_folder_has_to_exist(tmp_path):
    (tmp_path / "catalog.json").touch()

    assert "no such folder" in problem({"CATALOG": str(tmp_path / "catalog.json"), "CONFIG": str(tmp_path / "config")})


def test_a_collection_needs_a_catalog():
    assert "give that as well" in problem({"COLLECTION_JSON": "collection.json"})


@pytest.mark.parametrize("catalog", ["", "catalog.json"])
def test_a_remote_geocatalog_cannot_read_local_files(catalog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalog.json").touch()

    text = problem({"AIRFLOW_CONN_GEOCATALOG_DEFAULT": REMOTE, "CATALOG": catalog})

    assert "upload the catalog" in text
    assert "AIRFLOW_CONN_GEOCATALOG_STORAGE" in text


def test_a_remote_geocatalog_takes_a_catalog_url():
    url = "https://example.blob.core.windows.net/catalogs/catalog.json"

    settings = read_settings([], {"AIRFLOW_CONN_GEOCATALOG_DEFAULT": REMOTE, "CATALOG": url})

    assert settings.own_geocatalog() is not None
    assert settings.own_storage() is None


def test_a_geocatalog_on_loopback_takes_the_sample_catalog():
    settings = read_settings([], {"AIRFLOW_CONN_GEOCATALOG_DEFAULT": LOOPBACK}).own_geocatalog()

    assert settings is not None
    assert settings.is_local


@pytest.mark.parametrize(
    "connection", ["secret-token", '{"host": "secret-token"', "{}", '{"host": "http://a.example"}']
)
def test_a_connection_that_cannot_be_used_is_refused_without_showing_it(connection):
    text = problem({"AIRFLOW_CONN_GEOCATALOG_DEFAULT": connection})

    assert text.startswith("AIRFLOW_CONN_GEOCATALOG_DEFAULT")
    assert "secret-token" not in text


def test_secrets_are_not_in_the_settings_representation():
    settings = read_settings([], {"AIRFLOW_CONN_GEOCATALOG_DEFAULT": LOOPBACK})

    assert "secret-token" not in repr(settings)
