"""The provider's metadata is what the schemas of this Airflow ask for; ``make test-matrix`` asks those of several."""

from __future__ import annotations

import json
from pathlib import Path

import airflow
import jsonschema

from airflow_provider_geocatalog.provider_info import get_provider_info
from tests.fakes.airflow_versions import AIRFLOW_VERSION

FOLDER = Path(airflow.__file__).parent
#: What only releases of Airflow's own providers write into their ``provider.yaml``.
OF_THEIR_RELEASES = {"state", "source-date-epoch", "versions", "dependencies"}


def schema(name: str) -> dict:
    return json.loads((FOLDER / name).read_text())


def test_the_metadata_is_what_airflow_reads():
    jsonschema.Draft7Validator(schema("provider_info.schema.json")).validate(get_provider_info())


def test_the_metadata_is_what_airflow_asks_of_its_own_providers():
    info = get_provider_info()
    asked = schema("provider.yaml.schema.json")
    if AIRFLOW_VERSION < (3, 0):
        del info["asset-uris"]  # their name in Airflow 3

    required = set(asked.pop("required")) - OF_THEIR_RELEASES
    assert required <= set(info)
    jsonschema.Draft7Validator(asked).validate(info)
