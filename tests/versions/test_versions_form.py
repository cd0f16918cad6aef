"""The connection form, as this Airflow serves it: shown, filled in, saved and tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.provider_info import CONNECTION_FIELDS, UI_FIELD_BEHAVIOUR
from tests.fakes.airflow_versions import AIRFLOW_VERSION
from tests.fakes.versions_table import supported

FORM = Path(__file__).with_name("versions_form.py")
TOKEN = "versions-form-token"

pytestmark = pytest.mark.timeout(400)  # the server of Airflow 2 writes its permissions first


@pytest.fixture(scope="module")
def told(own_airflow, tmp_path_factory):
    path = tmp_path_factory.mktemp("form") / "told.json"
    with EmulatorServer(Emulator(EmulatorSettings.fast(admin_tokens=(TOKEN,)))) as server:
        filled_in = {
            "connection_id": "from_the_form",
            "conn_type": "geocatalog",
            "host": server.url,
            "password": TOKEN,
            "extra": json.dumps({"auth_method": "static_token", "requests_per_second": 20}),
        }
        own_airflow.run(
            str(FORM),
            json.dumps(filled_in),
            str(path),
            AIRFLOW__API_AUTH__JWT_SECRET="a secret of this test's own, and as long as sixty-four characters",
            AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
            AIRFLOW__CORE__TEST_CONNECTION="Enabled",
        )
        return json.loads(path.read_text()) | {"url": server.url}


def test_the_form_has_our_fields_with_their_defaults(told):
    defaults = {name: field["default"] for name, field in told["fields"].items()}
    declared = {name: field["schema"].get("default") for name, field in CONNECTION_FIELDS.items()}
    text = {name: default if default is None else str(default) for name, default in defaults.items()}

    assert text == {name: default if default is None else str(default) for name, default in declared.items()}


def test_the_form_is_made_as_documented(told):
    assert supported(AIRFLOW_VERSION)["Connection form"].startswith(told["made_of"])


def test_the_form_offers_what_may_be_chosen(told):
    if AIRFLOW_VERSION < (3, 0):
        pytest.skip("the form of Airflow 2 has no lists; what may be chosen stands below the field")
    declared = {name: field["schema"].get("enum") for name, field in CONNECTION_FIELDS.items()}

    assert {name: field["enum"] for name, field in told["fields"].items()} == declared


def test_a_choice_that_there_is_not_is_refused(told):
    if AIRFLOW_VERSION >= (3, 0):
        pytest.skip("Airflow 3 checks nothing on the server")

    assert told["statuses"]["refused"] == 200  # the page again


def test_standard_fields_have_our_names_or_are_hidden(told):
    assert told["titles"] == UI_FIELD_BEHAVIOUR["relabeling"]
    assert sorted(told["hidden"]) == sorted(UI_FIELD_BEHAVIOUR["hidden-fields"])


def test_a_connection_is_saved_as_the_hook_reads_it(told):
    stored = told["stored"]

    assert (stored["host"], stored["password"]) == (told["url"], TOKEN)
    assert stored["extra"]["auth_method"] == "static_token"
    assert float(stored["extra"]["requests_per_second"]) == 20
    assert TOKEN not in told.get("answer", "")


def test_the_button_tests_the_connection(told):
    assert told["tested"]["status"] is True, told["tested"]
    assert TOKEN not in told["tested"]["message"]
