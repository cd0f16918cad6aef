"""Ingestion sources in all three dialects."""

from __future__ import annotations

import pytest

SOURCES = "/inma/ingestion-sources"
SAS = "sv=2023-01-03&st=2026-01-01T00:00:00Z&se=2099-12-31T23:59:59Z&sr=c&sp=rl&sig=made-up-secret"
URL = "https://acct.blob.core.windows.net/c"


def sas_source(token=SAS, url=URL, **members):
    return {"kind": "SasToken", "connectionInfo": {"containerUrl": url, "sasToken": token}, **members}


def test_a_source_gets_its_id_from_the_service_and_never_shows_its_token(client):
    created = client.post(SOURCES, json=sas_source(id="mine"))
    source = created.json()

    assert created.status_code == 201
    assert source["id"] != "mine"
    assert created.headers["Location"] == f"{client.url}{SOURCES}/{source['id']}?api-version=2026-04-15"
    assert source["connectionInfo"] == {"containerUrl": URL, "expiration": "2099-12-31T23:59:59.0000000Z"}
    everything = created.text + client.get(f"{SOURCES}/{source['id']}").text + client.get(SOURCES).text
    assert "made-up-secret" not in everything
    assert set(client.get(SOURCES).json()["value"][0]) == {"id", "kind", "created"}


def test_a_second_source_for_a_container_is_a_409_with_the_documented_text(client):
    first = client.post(SOURCES, json=sas_source()).json()["id"]

    second = client.post(SOURCES, json=sas_source(url=f"{URL}/"))

    assert (second.status_code, second.headers["x-ms-error-code"]) == (409, "DuplicatedEntity")
    expected = f"Container url '{URL}' already contains a SAS token ingestion source with id '{first}'"
    assert second.json()["error"]["message"] == expected


def test_put_renews_a_token_and_answers_without_created(client):
    source = client.post(SOURCES, json=sas_source()).json()

    renewed = client.put(f"{SOURCES}/{source['id']}", json=sas_source(SAS.replace("2099", "2050")))

    assert renewed.status_code == 200
    assert "created" not in renewed.json()
    assert "Location" not in renewed.headers
    assert client.get(f"{SOURCES}/{source['id']}").json()["created"] == source["created"]
    assert renewed.json()["connectionInfo"]["expiration"].startswith("2050")


@pytest.mark.parametrize(("version", "status"), [("2025-04-30-preview", 201), ("2026-04-15", 404)])
def test_put_of_an_unknown_source_creates_it_in_2025_only(client, new_client, version, status):
    client = new_client(client.server, version)

    answer = client.put(f"{SOURCES}/99999999-9999-4999-8999-999999999999", json=sas_source())

    assert answer.status_code == status


@pytest.mark.parametrize(
    "token",
    ["", SAS.replace("st=", "x="), SAS.replace("sr=c", "ss=b&srt=sco"), SAS.replace("sr=c", "sr=b"), "sp=rl&sr=c"],
)
def test_an_unsuitable_token_is_a_400(client, token):
    answer = client.post(SOURCES, json=sas_source(token))

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ValidationError")


def test_member_names_are_read_without_case(client):
    body = {"Kind": "SasToken", "ConnectionInfo": {"ContainerUrl": URL, "SasToken": SAS}}

    assert client.post(SOURCES, json=body).status_code == 201


def test_a_managed_identity_source_uses_one_of_the_attached_identities(client):
    identity = client.get(f"{SOURCES}/managed-identities").json()["value"][0]
    info = {"containerUrl": URL, "objectId": identity["objectId"]}

    created = client.post(SOURCES, json={"kind": "BlobManagedIdentity", "connectionInfo": info})

    assert created.status_code == 201
    assert created.json()["connectionInfo"] == info
    assert client.post(SOURCES, json=sas_source()).status_code == 409


def test_the_2024_dialect_has_its_own_names_lists_and_codes(client, new_client):
    old = new_client(client.server, "2024-01-31-preview")
    body = {"sourceType": "SasToken", "connectionInfo": sas_source()["connectionInfo"]}

    created = old.post("/api/ingestion-sources", json=body)

    assert created.json()["sourceType"] == "SasToken"
    assert [source["id"] for source in old.get("/api/ingestion-sources").json()] == [created.json()["id"]]
    assert old.delete(f"/api/ingestion-sources/{created.json()['id']}").status_code == 200


def test_a_deleted_source_is_gone(client):
    source_id = client.post(SOURCES, json=sas_source()).json()["id"]

    assert client.delete(f"{SOURCES}/{source_id}").status_code == 204
    assert client.get(f"{SOURCES}/{source_id}").status_code == 404


def test_lists_are_paged_on_request(client):
    for number in range(3):
        client.post(SOURCES, json=sas_source(url=f"{URL}{number}"))

    page = client.get(SOURCES, params={"$top": "2"}).json()

    assert len(page["value"]) == 2
    client.session.params = {}
    rest = client.get(page["nextLink"]).json()
    assert len(rest["value"]) == 1
    assert "nextLink" not in rest
