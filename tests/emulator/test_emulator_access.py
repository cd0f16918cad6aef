"""Authentication, roles, api-versions and routing."""

from __future__ import annotations

import base64
import json
import time

import pytest
import requests

VERSIONS = "2025-04-30-preview, 2026-04-15"


def jwt(**claims):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    standard = {"aud": "https://geocatalog.spatio.azure.com", "exp": time.time() + 60}
    return f"{part({'alg': 'none'})}.{part({**standard, **claims})}.sig"


@pytest.mark.parametrize("token", [None, "wrong", "", "nö"])
def test_without_a_known_token_the_answer_is_an_empty_401(client, new_client, token):
    headers = {} if token is None else {"Authorization": f"Bearer {token}".encode()}

    answer = requests.get(f"{client.url}/stac/collections", headers=headers, timeout=5)

    assert (answer.status_code, answer.content) == (401, b"")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_authentication_comes_before_the_api_version_and_the_path(client):
    assert requests.get(f"{client.url}/nowhere", timeout=5).status_code == 401


def test_a_reader_reads_and_searches_but_does_not_write(demo, new_client, new_collection):
    reader = new_client(demo.server, token="reader-token")

    assert reader.get("/stac/collections/demo").status_code == 200
    assert reader.post("/stac/search", json={}).status_code == 200
    refusal = reader.post("/stac/collections", json=new_collection("other"))
    assert refusal.status_code == 403
    assert refusal.json()["error"]["code"] == refusal.headers["x-ms-error-code"] == "Forbidden"


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"roles": ["GeoCatalog Administrator"]}, 202),
        ({"roles": ["GeoCatalog Administrator"], "aud": "https://geocatalog.spatio.azure.us/"}, 202),
        ({"roles": ["GeoCatalog Reader"]}, 403),
        ({}, 403),
        ({"roles": ["GeoCatalog Administrator"], "exp": 1}, 401),
        ({"roles": ["GeoCatalog Administrator"], "aud": "https://management.azure.com"}, 401),
    ],
)
def test_an_entra_token_counts_by_audience_expiry_and_role(client, new_client, new_collection, claims, status):
    bearer = new_client(client.server, token=jwt(**claims))

    assert bearer.post("/stac/collections", json=new_collection("demo")).status_code == status


def test_a_missing_api_version_is_a_400_that_lists_the_supported_ones(client):
    client.session.params = {}

    answer = client.get("/inma/operations")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "MissingApiVersionParameter")
    assert answer.headers["api-supported-versions"] == VERSIONS


def test_an_unknown_api_version_is_a_400_that_lists_the_supported_ones(client, new_client):
    answer = new_client(client.server, version="2030-01-01").get("/stac/collections")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "UnsupportedApiVersion")
    assert answer.headers["api-supported-versions"] == VERSIONS


def test_only_the_write_side_tells_the_supported_versions(demo):
    assert demo.get("/inma/operations").headers["api-supported-versions"] == VERSIONS
    assert demo.delete("/stac/collections/nope").headers["api-supported-versions"] == VERSIONS
    assert "api-supported-versions" not in demo.get("/stac/collections/demo").headers


def test_every_answer_has_a_request_id(client):
    ids = [client.get(path).headers["X-Request-ID"] for path in ("/stac/collections", "/nowhere", "/inma/operations")]

    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in ids)
    assert len(set(ids)) == 3


def test_a_path_of_another_dialect_does_not_exist(client, new_client):
    old = new_client(client.server, version="2024-01-31-preview")

    assert client.get("/api/collections").status_code == 404
    assert old.get("/stac/collections").status_code == 404
    assert old.get("/api/collections").status_code == 200


def test_what_is_not_emulated_says_so(client):
    answer = client.get("/data/tile-matrix-sets")

    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "NotEmulated")


def test_a_known_path_with_another_method_is_a_405(client):
    answer = client.put("/stac/collections", json={})

    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")


def test_the_landing_page_redirects_to_its_slash_and_keeps_the_query(client):
    answer = client.get("/stac", allow_redirects=False)

    assert (answer.status_code, answer.content) == (307, b"")
    assert answer.headers["Location"] == f"{client.url}/stac/?api-version=2026-04-15"
    assert client.get("/stac").json()["id"] == "spatio-stac"


@pytest.mark.parametrize(("path", "status"), [("/stac/collections", 400), ("/stac/search", 400)])
def test_malformed_json_is_refused_in_the_envelope_of_its_side(client, path, status):
    answer = client.post(path, data="{", headers={"Content-Type": "application/json"})

    assert answer.status_code == status
    problem = answer.headers["Content-Type"].startswith("application/problem+json")
    assert problem == (path == "/stac/collections")


def test_another_media_type_is_a_415(client):
    answer = client.post("/stac/collections", data="<x/>", headers={"Content-Type": "text/xml"})

    assert (answer.status_code, answer.headers["Content-Type"]) == (415, "application/problem+json")


def test_an_unexpected_failure_shows_no_traceback(client, monkeypatch, caplog):
    monkeypatch.setattr(client.server.emulator.world, "operations", None)

    answer = client.get("/inma/operations")

    assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")
    assert "Traceback" not in answer.text
    assert "Traceback" in caplog.text


def test_requests_are_remembered_without_secrets(client):
    client.get("/inma/operations", params={"sig": "secret", "href": "https://x/y?sig=secret"})

    last = client.server.emulator.requests[-1]
    assert (last.method, last.path, last.status, last.operation) == ("GET", "/inma/operations", 200, "list_operations")
    assert "secret" not in str(last)
