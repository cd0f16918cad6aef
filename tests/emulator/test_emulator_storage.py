"""Containers that the emulator plays, and reading them through ingestion sources."""

from __future__ import annotations

import pytest
import requests

SAS = "sv=2023-01-03&st=2020-01-01T00:00:00Z&se=2099-12-31T23:59:59Z&sr=c&sp=rl&sig=x"
SOURCES = "/inma/ingestion-sources"


@pytest.fixture
def private(serve, new_client, catalogs):
    """A client of an emulator with one private and one public container that hold the same catalog."""
    catalogs.of("a")
    folder = catalogs.folder
    client = new_client(serve(containers={"private": folder}, public_containers={"public": folder}))
    client.add_collection()
    return client


def container(client, name="private"):
    return f"{client.url}/_emulator/storage/{name}"


def register(client, token):
    body = {"kind": "SasToken", "connectionInfo": {"containerUrl": container(client), "sasToken": token}}
    assert client.post(SOURCES, json=body).status_code == 201


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        (SAS, 200, None),
        ("", 409, "PublicAccessNotPermitted"),
        (SAS.replace("2099", "2021"), 403, "AuthenticationFailed"),
        (SAS.replace("st=2020", "st=2098"), 403, "AuthenticationFailed"),
        (SAS.replace("sp=rl", "sp=w"), 403, "AuthenticationFailed"),
        (SAS.replace("sr=c", "sr=b"), 403, "AuthenticationFailed"),
        (SAS.replace("&sig=x", ""), 409, "PublicAccessNotPermitted"),
    ],
)
def test_a_private_container_wants_a_valid_sas(private, query, status, code):
    answer = requests.get(f"{container(private)}/catalog.json?{query}", timeout=5)

    assert (answer.status_code, answer.headers.get("x-ms-error-code")) == (status, code)
    assert code is None or f"<Code>{code}</Code>" in answer.text


def test_a_public_container_wants_nothing(private):
    assert requests.get(f"{container(private, 'public')}/catalog.json", timeout=5).json()["type"] == "Catalog"


@pytest.mark.parametrize("path", ["missing.json", "../secret.json", "%2e%2e/secret.json", "..%2fsecret.json", "link"])
def test_no_path_leads_out_of_a_container(private, tmp_path, path):
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "secret.json")
    request = requests.Request("GET", f"{container(private, 'public')}/x").prepare()
    request.url = f"{container(private, 'public')}/{path}"

    assert requests.Session().send(request, timeout=5).status_code in (404, 401)


def test_a_run_reads_a_private_container_through_its_source(private):
    register(private, SAS)

    assert private.run(f"{container(private)}/catalog.json")["status"] == "Succeeded"


def test_a_run_reads_a_private_container_through_a_managed_identity(private):
    info = {"containerUrl": container(private), "objectId": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"}
    private.post(SOURCES, json={"kind": "BlobManagedIdentity", "connectionInfo": info})

    assert private.run(f"{container(private)}/catalog.json")["status"] == "Succeeded"


def test_without_a_source_a_private_container_stays_closed(private):
    error = private.run(f"{container(private)}/catalog.json")["error"]["error"]

    assert error["code"] == "PublicAccessRestricted"
    assert error["message"].startswith(
        "Error retrieving content from public source. Reason: Public access is not permitted on this storage account."
    )
    assert error["message"].endswith(f"Source: {container(private)}/catalog.json")


@pytest.mark.parametrize("token", [SAS.replace("2099", "2021"), SAS.replace("sp=rl", "sp=l")])
def test_a_source_that_does_not_grant_reading_any_more_is_forbidden(private, token):
    register(private, token)

    error = private.run(f"{container(private)}/catalog.json")["error"]["error"]

    assert error["code"] == "IngestionResourceForbidden"
    assert error["message"].startswith("Error retrieving content from sas token source. Reason: Forbidden access.")
    assert "sig=" not in error["message"]


def test_a_signed_catalog_url_needs_no_source(private):
    assert private.run(f"{container(private)}/catalog.json?{SAS}")["status"] == "Succeeded"
    assert private.run(f"{container(private, 'public')}/catalog.json")["status"] == "Succeeded"


def test_an_asset_in_a_closed_container_fails_its_item(private, catalogs, new_item):
    assets = {"image": {"href": f"{container(private)}/catalog.json"}}
    catalogs.write("b.json", new_item("b", assets=assets))

    operation = private.run(catalogs.catalog("other.json", items=["b.json"]))

    failure = private.failures(operation)[0]
    assert failure["errorCode"] == "PublicAccessRestricted"
    assert failure["errorMessage"].startswith("Asset transformation exception. Reason: Error retrieving content from")


def test_only_administrators_read_the_failures_of_a_run(private, new_client):
    reader = new_client(private.server, token="reader-token")

    assert reader.get("/_emulator/runs/x/failures").status_code == 403
    assert private.get("/_emulator/runs/x/failures").status_code == 404
