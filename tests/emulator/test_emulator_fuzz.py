"""
Requests made up from the emulator's own description, good and bad ones: no answer is a 5xx (but the tiler's 501), none
violates its schema, none is late.

``GEOCATALOG_FUZZ_EXAMPLES=200`` sends that many to each operation, other ones each time; without it the requests are
few and always the same.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
from urllib.parse import urlsplit

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from airflow_provider_geocatalog.api.dialects import DEFAULT_API_VERSION, DIALECTS, dialect_for
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.emulator.faults import RULES
from airflow_provider_geocatalog.emulator.openapi import describe, success_codes
from airflow_provider_geocatalog.emulator.openapi_control import describe_control

TOKEN = "fuzz-token"
LONG = os.environ.get("GEOCATALOG_FUZZ_EXAMPLES")
EXAMPLES = int(LONG or 2)  # for each operation and mode; a fifth of a second each, most of it for making them up
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
TIMEOUT = 10  # seconds; an answer that takes longer counts as none
CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
UNHURRIED = hypothesis.settings(
    max_examples=EXAMPLES,
    derandomize=LONG is None,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate] if LONG is None else list(hypothesis.Phase),
)
MODES = {
    "good": schemathesis.GenerationMode.POSITIVE,
    "bad": schemathesis.GenerationMode.NEGATIVE,
}
SCHEMAS = {version: schemathesis.openapi.from_dict(describe(dialect, "")) for version, dialect in DIALECTS.items()}
OPERATIONS = [
    pytest.param(version, found.ok(), id=f"{version}-{found.ok().definition.raw['operationId']}")
    for version, schema in SCHEMAS.items()
    for found in schema.get_all_operations()
]


@pytest.fixture(scope="module")
def servers():
    """An emulator for each api-version, filled; runs find no network."""
    settings = EmulatorSettings.fast(admin_tokens=(TOKEN,), read_timeout=0.5)
    with contextlib.ExitStack() as stack:
        servers = {version: stack.enter_context(EmulatorServer(Emulator(settings))) for version in DIALECTS}
        yield {version: Known(server, version) for version, server in servers.items()}


class Known:
    """A collection with one of everything, so that made-up requests find something."""

    def __init__(self, server, version):
        self.server, self.url, self.dialect = server, server.url, dialect_for(version)
        self.fill()

    def fill(self):
        self.server.emulator.reset()
        self.ids = {"collection_id": "fuzz"}
        extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
        self.make("create_collection", {"id": "fuzz", "description": "", "license": "x", "links": [], "extent": extent})
        point = {"type": "Point", "coordinates": [8, 47]}
        item = {"type": "Feature", "stac_version": "1.0.0", "id": "known", "geometry": point, "bbox": [8, 47, 8, 47]}
        item |= {"properties": {"datetime": "2026-01-01T00:00:00Z"}, "links": [], "assets": {}, "collection": "fuzz"}
        operation = self.make("create_item", item)
        sas = "st=2026-01-01T00:00:00Z&se=2027-01-01T00:00:00Z&sr=c&sp=rl&sig=x"
        source = {"containerUrl": "https://known.blob.core.windows.net/c", "sasToken": sas}
        source = self.make("create_source", {self.dialect.source_kind_field: "SasToken", "connectionInfo": source})
        ingestion = {"importType": "StaticCatalog", "sourceCatalogUrl": "file:///nowhere/catalog.json"}
        ingestion = self.make("create_ingestion", ingestion)
        self.ids |= {
            "item_id": "known",
            "operation_id": operation[self.dialect.operation_id_field],
            "source_id": source["id"],
            "ingestion_id": ingestion[self.dialect.ingestion_id_field],
            "mosaic_id": "default",
            "render_option_id": "known",
            "queryable_name": "known",
            "asset_id": "thumbnail",
        }
        self.ids["run_id"] = self.make("create_run", {})["id"]
        self.make("create_render_option", {"id": "known", "name": "x", "type": "raster-tile"})
        if self.dialect.has(ENDPOINTS["create_queryables"]):
            self.make("create_queryables", [{"name": "known", "definition": {}}])
            data = {"key": "thumbnail", "type": "image/png", "roles": [], "title": ""}
            self.make("create_collection_asset", None, {"data": (None, json.dumps(data)), "file": ("a.png", b"x")})

    def make(self, name, body, files=None):
        endpoint = ENDPOINTS[name]
        url = self.url + endpoint.fill(self.ids, self.dialect.template(endpoint))
        query = {"api-version": self.dialect.api_version}
        answer = requests.request(
            endpoint.method, url, params=query, json=body, files=files, headers=HEADERS, timeout=TIMEOUT
        )
        assert answer.ok, answer.text
        return answer.json()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("version", "operation"), OPERATIONS)
def test_made_up_requests_get_documented_answers(servers, version, operation, mode):
    known = servers[version]
    is_tiler = operation.definition.raw["operationId"] == "tiler"
    checks = CHECKS if is_tiler else [not_a_server_error, *CHECKS]

    @UNHURRIED
    @hypothesis.given(st.data())
    def send(data):
        case = data.draw(operation.as_strategy(generation_mode=MODES[mode]))
        for name in case.path_parameters or {}:
            if name in known.ids and data.draw(st.sampled_from((True, True, True, False))):
                case.path_parameters[name] = known.ids[name]
                say_the_same(case.body, operation.definition.raw["operationId"], name, known.ids[name])
        case.call_and_validate(base_url=known.url, headers=HEADERS, timeout=TIMEOUT, checks=checks)

    try:
        send()
    except hypothesis.errors.Unsatisfiable:
        pytest.skip("this operation takes nothing that could be wrong")
    finally:
        if operation.method in ("put", "patch", "delete"):
            known.fill()  # what there was may be gone


CONTROL = schemathesis.openapi.from_dict(describe_control(""))
CONTROLLING = [
    pytest.param(found.ok(), id=found.ok().definition.raw["operationId"]) for found in CONTROL.get_all_operations()
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", CONTROLLING)
def test_made_up_requests_to_the_control_api_get_documented_answers(operation, mode):
    with EmulatorServer(Emulator(EmulatorSettings.fast(admin_tokens=(TOKEN,)))) as server:
        known = Known(server, DEFAULT_API_VERSION)
        known.ids["fault_id"] = server.emulator.faults.add("latency", seconds=0).id

        @UNHURRIED
        @hypothesis.given(st.data())
        def send(data):
            case = data.draw(operation.as_strategy(generation_mode=MODES[mode]))
            for name in case.path_parameters or {}:
                if data.draw(st.booleans()):
                    case.path_parameters[name] = known.ids[name]
            case.call_and_validate(
                base_url=known.url, headers=HEADERS, timeout=TIMEOUT, checks=[not_a_server_error, *CHECKS]
            )

        try:
            send()
        except hypothesis.errors.Unsatisfiable:
            pytest.skip("this operation takes nothing that could be wrong")


def test_the_control_api_is_described_where_the_page_of_routes_says(servers):
    [server, *_] = [known.server for known in servers.values()]
    page = requests.get(f"{server.url}/_emulator/openapi.html", headers=HEADERS, timeout=TIMEOUT)

    answer = requests.get(f"{server.url}/_emulator/control.json", headers=HEADERS, timeout=TIMEOUT)

    CONTROL.validate()
    assert 'href="/_emulator/control.json"' in page.text
    assert answer.json() == json.loads(json.dumps(describe_control(server.url)))
    faults = answer.json()["components"]["schemas"]["NewFault"]["oneOf"]
    assert [fault["properties"]["effect"]["const"] for fault in faults] == list(RULES)


def test_the_control_api_is_described_as_it_is(servers):
    """Whoever adds a resource describes it: what it says that it has is what is described."""
    [server, *_] = [known.server for known in servers.values()]
    refused = requests.get(f"{server.url}/_emulator/nothing", headers=HEADERS, timeout=TIMEOUT).json()

    listed = re.findall("/_emulator/[a-z{}/]+", refused["error"]["message"])[1:]
    described = [re.sub(r"{\w+}", "{}", path) for path in describe_control("")["paths"]]
    assert sorted(listed) == sorted(described)
    for path, operations in describe_control("")["paths"].items():
        url = server.url + re.sub(r"{\w+}", "x", path)
        allowed = requests.put(url, headers=HEADERS, timeout=TIMEOUT).headers["Allow"].lower().split(", ")
        assert sorted(allowed) == sorted(operations)


def say_the_same(body, operation, name, value):
    """Have a body name what its path names, without which a replacement goes no further."""
    member = {"queryable_name": "name", "asset_id": "data"}.get(name, "id")
    if not operation.startswith("replace_") or not isinstance(body, dict) or member not in body:
        return
    if member != "data":
        body[member] = value
    elif isinstance(body["data"], dict):
        body["data"]["key"] = value


segments = st.sampled_from(
    [
        "stac",
        "api",
        "inma",
        "sas",
        "data",
        "collections",
        "fuzz",
        "items",
        "search",
        "operations",
        "_emulator",
        "..",
        "",
    ]
) | st.text(max_size=8)
paths = st.lists(segments, max_size=5).map(lambda parts: "/" + "/".join(parts))
queries = st.dictionaries(
    st.sampled_from(["limit", "bbox", "datetime", "token", "filter", "sortby", "$top", "sign", "duration", "ids"]),
    st.text(max_size=20),
    max_size=3,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
bodies = st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode())


@pytest.mark.parametrize("version", DIALECTS)
def test_any_bytes_get_a_documented_answer(servers, version):
    server = servers[version].server

    @hypothesis.settings(UNHURRIED, max_examples=EXAMPLES * 60)
    @hypothesis.given(
        method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE"]),
        path=paths,
        query=queries,
        media_type=st.sampled_from(["application/json", "application/merge-patch+json", "multipart/form-data", "x"]),
        body=bodies,
    )
    def send(method, path, query, media_type, body):
        encoded = (
            requests.Request("GET", server.url + path, params={"api-version": version, **query}).prepare().path_url
        )
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=TIMEOUT)
        connection.request(method, encoded, body, {**HEADERS, "Content-Type": media_type})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()

        assert answer.status < 500 or (answer.status == 501 and "/data/" in encoded), (encoded, content)
        assert b"Traceback" not in content
        if answer.status >= 400 and content and "html" not in answer.headers["Content-Type"]:
            assert is_documented_error(answer, content), (encoded, content)

    send()


def is_documented_error(answer, content):
    kind = answer.headers["Content-Type"].split(";")[0]
    if kind == "application/problem+json":
        return json.loads(content)["status"] == answer.status
    if kind == "application/xml":  # the storage that is played
        return b"<Code>" in content
    return set(json.loads(content)["error"]) == {"code", "message"}


@pytest.mark.parametrize("version", DIALECTS)
def test_the_description_is_served_where_the_landing_page_says(servers, version):
    server, dialect = servers[version].server, dialect_for(version)
    query = {"api-version": version}
    landing = requests.get(
        f"{server.url}{dialect.template(ENDPOINTS['get_landing_page'])}/",
        params=query,
        headers=HEADERS,
        timeout=TIMEOUT,
    ).json()
    links = {link["rel"]: link for link in landing["links"]}

    answer = requests.get(links["service-desc"]["href"], headers=HEADERS, timeout=TIMEOUT)
    page = requests.get(links["service-doc"]["href"], headers=HEADERS, timeout=TIMEOUT)

    assert answer.headers["Content-Type"] == links["service-desc"]["type"]
    assert answer.json() == json.loads(json.dumps(describe(dialect, server.url)))
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert dialect.template(ENDPOINTS["list_items"]) in page.text


def test_the_description_needs_a_token_and_an_api_version_that_is_known(servers):
    [server, *_] = servers.values()
    url = f"{server.url}/_emulator/openapi.json"

    assert requests.get(url, timeout=TIMEOUT).status_code == 401
    assert requests.get(url, params={"api-version": "2030-01-01"}, headers=HEADERS, timeout=TIMEOUT).status_code == 404


@pytest.mark.parametrize("version", DIALECTS)
def test_the_description_has_every_operation_and_valid_schemas(version):
    dialect, schema = dialect_for(version), SCHEMAS[version]
    described = {found.ok().definition.raw["operationId"] for found in schema.get_all_operations()}

    schema.validate()
    assert described - {"tiler"} == {name for name, endpoint in ENDPOINTS.items() if dialect.has(endpoint)}
    for endpoint in ENDPOINTS.values():
        assert endpoint.success.issuperset(success_codes(endpoint, dialect)) or not dialect.has(endpoint)
