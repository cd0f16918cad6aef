"""The architecture and the table of operations, held against what is written elsewhere."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import airflow_provider_geocatalog
from airflow_provider_geocatalog.api.dialects import DIALECTS
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.auth import AuthMethod, Cloud
from airflow_provider_geocatalog.provider_info import CONNECTION_FIELDS, get_provider_info

ROOT = Path(__file__).parents[2]
PACKAGE = Path(airflow_provider_geocatalog.__file__).parent

#: Method and path of every control-plane operation, as the REST reference of 2026-04-15 prints them (2026-04).
PUBLISHED = """
GET /inma/ingestion-sources
POST /inma/ingestion-sources
GET /inma/ingestion-sources/{}
PUT /inma/ingestion-sources/{}
DELETE /inma/ingestion-sources/{}
GET /inma/ingestion-sources/managed-identities
GET /inma/collections/{}/ingestions
POST /inma/collections/{}/ingestions
GET /inma/collections/{}/ingestions/{}
PATCH /inma/collections/{}/ingestions/{}
DELETE /inma/collections/{}/ingestions/{}
GET /inma/collections/{}/ingestions/{}/runs
POST /inma/collections/{}/ingestions/{}/runs
GET /inma/collections/{}/ingestions/{}/runs/{}
GET /inma/operations
GET /inma/operations/{}
DELETE /inma/operations/{}
DELETE /inma/operations
GET /stac
GET /stac/conformance
GET /stac/collections
POST /stac/collections
GET /stac/collections/{}
PUT /stac/collections/{}
DELETE /stac/collections/{}
POST /stac/collections/{}/assets
PUT /stac/collections/{}/assets/{}
DELETE /stac/collections/{}/assets/{}
GET /stac/collections/{}/thumbnail
GET /stac/collections/{}/items
POST /stac/collections/{}/items
GET /stac/collections/{}/items/{}
PUT /stac/collections/{}/items/{}
PATCH /stac/collections/{}/items/{}
DELETE /stac/collections/{}/items/{}
POST /stac/search
GET /stac/queryables
GET /stac/collections/{}/queryables
POST /stac/collections/{}/queryables
PUT /stac/collections/{}/queryables/{}
DELETE /stac/collections/{}/queryables/{}
GET /stac/collections/{}/configurations
GET /stac/collections/{}/configurations/mosaics
POST /stac/collections/{}/configurations/mosaics
GET /stac/collections/{}/configurations/mosaics/{}
PUT /stac/collections/{}/configurations/mosaics/{}
DELETE /stac/collections/{}/configurations/mosaics/{}
GET /stac/collections/{}/configurations/render-options
POST /stac/collections/{}/configurations/render-options
GET /stac/collections/{}/configurations/render-options/{}
PUT /stac/collections/{}/configurations/render-options/{}
DELETE /stac/collections/{}/configurations/render-options/{}
GET /stac/collections/{}/configurations/tile-settings
PUT /stac/collections/{}/configurations/tile-settings
GET /stac/collections/{}/configurations/partition-type
PUT /stac/collections/{}/configurations/partition-type
GET /sas/token/{}
GET /sas/sign
POST /sas/token/revoke
"""


#: Advertised by the landing page of 2026-04-15 (service-open-questions C18).
NOT_IN_THE_SDK = {"GET /stac/search"}


def ours() -> set[str]:
    dialect = DIALECTS["2026-04-15"]
    return {
        f"{endpoint.method} {re.sub(r'{[^}]*}', '{}', dialect.template(endpoint))}"
        for endpoint in ENDPOINTS.values()
        if dialect.has(endpoint)
    }


def test_the_operations_are_those_that_are_published():
    published = set(PUBLISHED.split("\n")) - {""}

    assert (ours() - NOT_IN_THE_SDK, len(published)) == (published, 59)


def test_the_operations_are_those_of_the_official_client():
    from azure.planetarycomputer.operations import _operations as sdk

    theirs = set()
    for name, function in inspect.getmembers(sdk, inspect.isfunction):
        if name.startswith(("build_ingestion_", "build_stac_", "build_sas_")):
            source = inspect.getsource(function)
            path = re.search(r'_url = "([^"]*)"', source)[1]
            method = re.search(r'HttpRequest\(\s*method="(\w+)"', source)[1]
            theirs.add(f"{method} {re.sub(r'{[^}]*}', '{}', path)}")

    assert ours() - NOT_IN_THE_SDK == theirs


def test_imports_point_one_way():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_importing_the_operators_loads_nothing_heavy():
    modules = [
        "airflow_provider_geocatalog." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for folder in ("hooks", "operators", "sensors", "triggers")
        for path in (PACKAGE / folder).glob("[!_]*.py")
    ]
    code = f"""
import importlib, sys
import airflow.triggers.base
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseSensorOperator, PokeReturnValue
before = set(sys.modules)
for name in {modules!r}:
    importlib.import_module(name)
heavy = ("azure", "requests", "pystac", "pystac_client", "aiohttp", "urllib3")
print(sorted(name for name in set(sys.modules) - before if name.split(".")[0] in heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_the_provider_metadata_is_what_airflow_expects():
    import airflow

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())

    jsonschema.validate(get_provider_info(), schema)


@pytest.mark.parametrize("kind", ["operators", "sensors", "hooks", "triggers"])
def test_the_provider_metadata_names_the_modules_with_classes_for_users(kind):
    listed = {name for entry in get_provider_info()[kind] for name in entry["python-modules"]}
    public = {
        f"airflow_provider_geocatalog.{kind}.{path.stem}"
        for path in (PACKAGE / kind).glob("*.py")
        if re.search(r"^class (GeoCatalog|Stac)\w*(Operator|Sensor|Hook|Trigger)\(", path.read_text(), re.MULTILINE)
        and path.stem != "base"
    }

    assert listed == public


def test_the_form_offers_what_the_connection_takes():
    assert set(CONNECTION_FIELDS["auth_method"]["schema"]["enum"]) == {method.value for method in AuthMethod}
    assert set(CONNECTION_FIELDS["cloud"]["schema"]["enum"]) == {cloud.label for cloud in Cloud}
