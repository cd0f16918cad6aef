"""Every operation of every api-version has an answer."""

from __future__ import annotations

import json
import re

import pytest

from airflow_provider_geocatalog.api.dialects import DIALECTS
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings

OPERATIONS = [
    pytest.param(dialect.api_version, endpoint, id=f"{dialect.api_version}-{endpoint.name}")
    for dialect in DIALECTS.values()
    for endpoint in ENDPOINTS.values()
    if dialect.has(endpoint)
]


@pytest.fixture(scope="module")
def server():
    """One emulator for all of them."""
    with EmulatorServer(Emulator(EmulatorSettings.fast(admin_tokens=("admin-token",)))) as server:
        yield server


def request(client, version, endpoint, name, **options):
    path = re.sub(r"{[^}]*}", name, DIALECTS[version].template(endpoint))
    return client.session.request(endpoint.method, client.url + path, timeout=10, allow_redirects=False, **options)


@pytest.mark.parametrize(("version", "endpoint"), OPERATIONS)
def test_every_operation_is_emulated(server, new_client, version, endpoint):
    answer = request(new_client(server, version), version, endpoint, "x", json={})

    assert answer.status_code < 500, answer.text
    assert server.emulator.requests[-1].operation == endpoint.name


@pytest.mark.parametrize(("version", "endpoint"), [one for one in OPERATIONS if "{" in one.values[1].path])
def test_no_operation_pretends_that_something_is_there(server, new_client, version, endpoint):
    name = f"{endpoint.name}-{version}"  # of its own, so that no other test made something of that name
    is_form = endpoint.content_type == "multipart/form-data"
    options = {"files": acceptable_form(name)} if is_form else {"json": acceptable_body(endpoint.name, name)}

    answer = request(new_client(server, version), version, endpoint, name, **options)

    creates = endpoint.name == "replace_source" and DIALECTS[version].replace_creates_source
    assert answer.status_code == (201 if creates else 404), answer.text


def acceptable_form(name):
    data = {"key": name, "type": "image/png", "roles": [], "title": ""}
    return {"data": (None, json.dumps(data)), "file": ("a.png", b"x")}


def acceptable_body(operation, name):
    sas = "st=2026-01-01T00:00:00Z&sr=c&sp=rl&sig=x"
    source = {"containerUrl": "https://a.blob.core.windows.net/c", "sasToken": sas}
    return {
        "replace_source": {"kind": "SasToken", "sourceType": "SasToken", "connectionInfo": source},
        "create_item": {"type": "Feature", "id": name},
        "replace_item": {"type": "Feature", "id": name},
        "replace_collection": collection(name),
        "create_queryables": [{"name": name, "definition": {}}],
        "replace_queryable": {"name": name, "definition": {}},
        "replace_partition_type": {"scheme": "year"},
    }.get(operation, {})


def collection(name):
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    return {"id": name, "description": "", "license": "", "links": [], "extent": extent}
