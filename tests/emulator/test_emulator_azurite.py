"""Sources and managed storage in a real Azurite."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import logging
import re
import subprocess
import sys
import uuid
from urllib.parse import urlsplit

import pytest
import requests
from azure.storage.blob import ContainerClient, ContainerSasPermissions, generate_container_sas

from airflow_provider_geocatalog.emulator.azurite import AzuriteServer
from airflow_provider_geocatalog.emulator.azurite_store import AzuriteAccount

# Installing Azurite takes minutes where the network is slow; it happens once.
pytestmark = pytest.mark.timeout(420)

SOURCES = "/inma/ingestion-sources"
IDENTITY = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
PIXELS = b"II*\x00 not many pixels"
NOTES = b"some words"


@pytest.fixture(scope="session")
def azurite(azurite_command):
    """The account of a running Azurite."""
    try:
        server = AzuriteServer(azurite_command).__enter__()
    except RuntimeError as reason:  # a Node.js that is too old
        pytest.skip(str(reason))
    yield server.account
    server.close()


class Source:
    """A private container with the items ``a`` and ``b`` in a static catalog, and what assets they have."""

    def __init__(self, account, new_item):
        self.account, self.name = account, f"src-{uuid.uuid4().hex[:8]}"
        self.url = f"{account.url}/{self.name}"
        self._client = account.service().create_container(self.name)
        self.put("data/image.tif", PIXELS)
        self.put("data/notes.txt", NOTES)
        assets = {
            "image": {"href": f"{self.url}/data/image.tif", "type": "image/tiff"},
            "notes": {"href": f"{self.url}/data/notes.txt"},
        }
        for name in ("a", "b"):
            self.put(f"items/{name}.json", new_item(name, assets=assets))
        self.catalog("a", "b")

    def put(self, name, content):
        self._client.upload_blob(name, content if isinstance(content, bytes) else json.dumps(content), overwrite=True)

    def catalog(self, *names):
        links = [{"rel": "item", "href": f"items/{name}.json"} for name in names]
        document = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "x", "links": links}
        self.put("catalog.json", document)

    def sas(self, hours=1.0, permissions="rl"):
        now = datetime.datetime.now(datetime.UTC)
        return generate_container_sas(
            self.account.name,
            self.name,
            account_key=self.account.key,
            permission=ContainerSasPermissions.from_string(permissions),
            start=now - datetime.timedelta(hours=2),
            expiry=now + datetime.timedelta(hours=hours),
        )

    def register(self, client, token=None, **info):
        kind = "BlobManagedIdentity" if info else "SasToken"
        info = info or {"sasToken": token or self.sas()}
        body = {"kind": kind, "connectionInfo": {"containerUrl": self.url, **info}}
        answer = client.post(SOURCES, json=body)
        assert answer.status_code == 201, answer.text


@pytest.fixture
def source(azurite, new_item):
    return Source(azurite, new_item)


@pytest.fixture
def client(serve, new_client, azurite):
    """A client of an emulator on Azurite, with a collection of its own."""
    client = new_client(serve(azurite=azurite))
    client.collection = client.add_collection(f"demo-{uuid.uuid4().hex[:6]}")
    return client


def run(client, source, url="", **members):
    return client.run(url or f"{source.url}/catalog.json", client.collection, **members)


def container_of(client):
    return f"{client.collection}-{hashlib.sha256(client.collection.encode()).hexdigest()[:8]}"


def blobs(client):
    """What is in the container of the client's collection: content by name."""
    container = client.server.emulator.settings.azurite.service().get_container_client(container_of(client))
    return {name: container.download_blob(name).readall() for name in container.list_blob_names()}


def item(client, item_id="a", **query):
    return client.get(f"/stac/collections/{client.collection}/items/{item_id}", params=query).json()


def test_a_run_reads_a_private_container_and_copies_its_assets(client, source, azurite):
    source.register(client)

    operation = run(client, source)

    assert operation["status"] == "Succeeded", client.failures(operation)
    prefixes = {name: hashlib.sha256(name.encode()).hexdigest()[:3] for name in ("a", "b")}
    assert blobs(client) == {
        f"{prefix}/{name}/{file}": content
        for name, prefix in prefixes.items()
        for file, content in (("image.tif", PIXELS), ("notes.txt", NOTES))
    }
    hrefs = {key: asset["href"] for key, asset in item(client)["assets"].items()}
    start = f"{azurite.url}/{container_of(client)}/{prefixes['a']}/a"
    assert hrefs == {"image": f"{start}/image.tif", "notes": f"{start}/notes.txt"}


def test_originals_are_kept_on_request(client, source):
    source.register(client)

    run(client, source, keepOriginalAssets=True)

    kept = {name: content for name, content in blobs(client).items() if "~original" in name}
    assert sorted(name.split("/", 1)[1] for name in kept) == ["a/image~original.tif", "b/image~original.tif"]
    assert set(kept.values()) == {PIXELS}


@pytest.mark.parametrize("way", ["sign=true", "sign", "token"])
def test_signed_hrefs_are_opened_by_azurite(client, source, way):
    source.register(client)
    run(client, source)
    href = item(client)["assets"]["image"]["href"]
    ways = {
        "sign=true": lambda: item(client, sign="true", duration="1")["assets"]["image"]["href"],
        "sign": lambda: client.get("/sas/sign", params={"href": href}).json()["href"],
        "token": lambda: f"{href}?{client.get(f'/sas/token/{client.collection}').json()['token']}",
    }

    answer = requests.get(ways[way](), timeout=5)

    assert (answer.status_code, answer.content) == (200, PIXELS)
    assert answer.headers["Content-Type"] == "image/tiff"
    assert requests.get(href, timeout=5).status_code == 403


def test_an_expired_token_of_managed_storage_is_refused(client, source, azurite):
    source.register(client)
    run(client, source)
    href = item(client)["assets"]["image"]["href"]

    expired = azurite.issue(container_of(client), -60).text

    assert requests.get(f"{href}?{expired}", timeout=5).status_code == 403


def test_a_token_lists_and_opens_its_container_only(client, source):
    source.register(client)
    run(client, source)
    token = client.get(f"/sas/token/{client.collection}").json()["token"]
    container = f"{client.server.emulator.settings.azurite.url}/{container_of(client)}"

    listed = ContainerClient.from_container_url(f"{container}?{token}", api_version="2021-12-02").list_blob_names()

    assert len(list(listed)) == 4
    assert requests.get(f"{source.url}/catalog.json?{token}", timeout=5).status_code == 403
    assert requests.put(f"{container}/x?{token}", headers={"x-ms-blob-type": "BlockBlob"}, timeout=5).status_code == 403


def wrong(token):
    signature = base64.b64encode(b"not the signature of anything!!!").decode().replace("=", "%3D")
    return re.sub("sig=.*", f"sig={signature}", token)


@pytest.mark.parametrize("token", ["wrong", "expired", "expired-unnoticed", "no-reading"])
def test_a_source_whose_token_azurite_refuses_is_forbidden(client, source, token, monkeypatch):
    tokens = {
        "wrong": wrong(source.sas()),
        "expired": source.sas(hours=-1),
        # Its times were changed, so that only Azurite can tell.
        "expired-unnoticed": re.sub("se=[^&]*", "se=2099-01-01T00%3A00%3A00Z", source.sas(hours=-1)),
        "no-reading": source.sas(permissions="l"),
    }
    source.register(client, tokens[token])

    error = run(client, source)["error"]["error"]

    assert error["code"] == "IngestionResourceForbidden"
    assert error["message"].startswith("Error retrieving content from sas token source. Reason: Forbidden access.")
    assert error["message"].endswith(f"Source: {source.url}/catalog.json")


def test_a_private_container_without_a_source_is_public_access_restricted(client, source):
    error = run(client, source)["error"]["error"]

    assert error["code"] == "PublicAccessRestricted"
    assert error["message"].startswith("Error retrieving content from public source. Reason: Public access is not")


def test_a_missing_catalog_is_not_found(client, source):
    source.register(client)

    error = run(client, source, f"{source.url}/missing.json")["error"]["error"]

    assert error["code"] == "IngestionResourceUriNotFound"


def test_what_single_items_lack_fails_only_them(client, source, azurite, new_item):
    other = Source(azurite, new_item)
    hrefs = {
        "missing": f"{source.url}/data/missing.tif",
        "closed": f"{other.url}/data/image.tif",
        "empty": f"{source.url}/data/empty.tif",
    }
    source.put("data/empty.tif", b"")
    for name, href in hrefs.items():
        source.put(f"items/{name}.json", new_item(name, assets={"image": {"href": href}}))
    source.catalog("a", "gone", *hrefs)
    source.register(client)

    operation = run(client, source)

    assert operation["additionalInformation"]["TotalSuccessfulItems"] == "1"
    failures = {one["itemId"]: one for one in client.failures(operation)}
    assert {item_id: one["errorCode"] for item_id, one in failures.items()} == {
        None: "IngestionResourceUriNotFound",
        "missing": "IngestionResourceUriNotFound",
        "closed": "PublicAccessRestricted",
        "empty": "EmptyAsset",
    }
    assert failures["missing"]["errorMessage"].startswith("Asset transformation exception. Reason: ")
    assert {name.split("/")[1] for name in blobs(client)} == {"a"}


def test_hrefs_with_a_signature_of_their_own_need_no_source(client, source, new_item):
    href = f"{source.url}/data/image.tif?{source.sas()}"
    bad = f"{source.url}/data/image.tif?{wrong(source.sas())}"
    good = client.add_items(new_item("a", assets={"image": {"href": href}}), collection_id=client.collection)
    failed = client.add_items(new_item("b", assets={"image": {"href": bad}}), collection_id=client.collection)

    assert good["status"] == "Succeeded", good
    assert list(blobs(client).values()) == [PIXELS]
    assert failed["error"]["error"]["code"] == "IngestionResourceForbidden"
    assert "sig=" not in failed["error"]["error"]["message"]
    # Links of a signed catalog inherit its signature; asset hrefs do not.
    signed = run(client, source, f"{source.url}/catalog.json?{source.sas()}", skipExistingItems=True)
    assert {one["errorCode"] for one in client.failures(signed)} == {"PublicAccessRestricted"}


def test_of_items_with_the_same_id_the_first_ones_files_stay(client, source, new_item):
    source.put("data/other.tif", b"other")
    hrefs = [f"{source.url}/data/{name}.tif?{source.sas()}" for name in ("image", "other")]
    twice = [new_item("a", assets={"image": {"href": href}}) for href in hrefs]

    operation = client.add_items(*twice, collection_id=client.collection)

    assert operation["additionalInformation"]["TotalSuccessfulItems"] == "1"
    assert list(blobs(client).values()) == [PIXELS]
    again = client.add_items(twice[1], collection_id=client.collection)
    assert again["error"]["error"]["code"] == "ItemAlreadyExistsInCollection"
    assert list(blobs(client).values()) == [PIXELS]


def test_overwriting_an_item_replaces_its_blobs(client, source, new_item):
    source.register(client)
    run(client, source)
    source.put("data/other.tif", b"other")
    source.put("items/a.json", new_item("a", assets={"other": {"href": f"{source.url}/data/other.tif"}}))

    run(client, source, skipExistingItems=True)
    assert sorted(name.split("/")[2] for name in blobs(client) if "/a/" in name) == ["image.tif", "notes.txt"]
    run(client, source, skipExistingItems=False)
    assert {name.split("/")[2]: content for name, content in blobs(client).items() if "/a/" in name} == {
        "other.tif": b"other"
    }


def test_containers_of_an_earlier_emulator_are_known(client, source, serve, new_client, azurite):
    source.register(client)
    run(client, source)
    later = new_client(serve(azurite=azurite))
    later.add_collection(client.collection)
    later.collection = client.collection
    source.register(later)
    source.catalog("b")

    run(later, source)
    later.finish(later.delete(f"/stac/collections/{client.collection}/items/b"))
    later.finish(later.delete(f"/stac/collections/{client.collection}"))

    assert not azurite.service().get_container_client(container_of(client)).exists()


def test_a_managed_identity_reads_what_the_accounts_key_opens(client, source):
    source.register(client, objectId=IDENTITY)

    operation = run(client, source)

    assert operation["status"] == "Succeeded", client.failures(operation)
    assert len(blobs(client)) == 4


def test_deleting_items_and_collections_deletes_blobs(client, source, azurite):
    source.register(client)
    run(client, source)

    client.finish(client.delete(f"/stac/collections/{client.collection}/items/a"))
    assert {name.split("/")[1] for name in blobs(client)} == {"b"}

    client.finish(client.delete(f"/stac/collections/{client.collection}"))
    assert not azurite.service().get_container_client(container_of(client)).exists()


def test_managed_hrefs_cannot_be_sent_back_but_sources_of_the_account_can(client, source):
    source.register(client)
    run(client, source)
    read = item(client)

    path = f"/stac/collections/{client.collection}/items/a"
    assert client.finish(client.put(path, json=read))["error"]["error"]["code"] == "PublicAccessRestricted"
    read["assets"] = {"picture": {"href": f"{source.url}/data/image.tif"}}
    assert client.finish(client.put(path, json=read))["status"] == "Succeeded"
    assert {name.split("/", 2)[2] for name in blobs(client) if "/a/" in name} == {"picture.tif"}


def test_a_thumbnail_is_a_blob(client):
    data = '{"key": "thumbnail", "type": "image/png", "roles": ["thumbnail"], "title": ""}'
    path = f"/stac/collections/{client.collection}"
    client.post(f"{path}/assets", files={"data": (None, data), "file": ("small one.png", b"small")})

    href = client.get(path, params={"sign": "true"}).json()["assets"]["thumbnail"]["href"]
    answer = requests.get(href, timeout=5)

    assert urlsplit(href).path.endswith(f"/{container_of(client)}/collection-assets/thumbnail/small%20one.png")
    assert (answer.content, answer.headers["Content-Type"]) == (b"small", "image/png")
    assert client.get(f"{path}/thumbnail").content == b"small"


@pytest.mark.parametrize("collection_id", ["My_Collection.v2", "x" * 200, "_", "a--b"])
def test_any_collection_gets_a_container_that_azure_allows(client, source, new_item, collection_id):
    client.add_collection(collection_id)
    href = f"{source.url}/data/image.tif?{source.sas()}"

    client.add_items(new_item("a", assets={"image": {"href": href}}), collection_id=collection_id)

    path = f"/stac/collections/{collection_id}/items/a"
    sent_back = client.finish(client.put(path, json=client.get(path).json()))
    assert sent_back["error"]["error"]["code"] == "PublicAccessRestricted"
    signed = client.get(path, params={"sign": "true"}).json()["assets"]["image"]["href"]
    assert requests.get(signed, timeout=5).content == PIXELS


def test_nothing_secret_is_logged(client, source, caplog):
    caplog.set_level(logging.INFO)
    source.register(client)
    run(client, source)
    item(client, sign="true")

    assert "POST" in caplog.text
    assert not re.search("sig=(?!REDACTED)", caplog.text)
    assert client.server.emulator.settings.azurite.key not in caplog.text + repr(client.server.emulator.settings)


def test_the_command_takes_an_azurite_and_says_when_it_does_not_answer(azurite):
    command = [sys.executable, "-m", "airflow_provider_geocatalog.emulator", "--port", "0"]
    with subprocess.Popen(
        [*command, "--azurite-url", azurite.url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.terminate()

    refused = subprocess.run(
        [*command, "--azurite-url", azurite.url, "--azurite-key", "bm90IHRoZSBrZXk="],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert refused.returncode == 2
    assert f"Azurite does not answer at {azurite.url}, or has another key" in refused.stderr
    assert "bm90IHRoZSBrZXk" not in refused.stderr


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:10000", "http://", "http://h?x=y"])
def test_what_is_no_address_of_azurite_is_refused(url):
    with pytest.raises(ValueError, match="the URL of Azurite"):
        AzuriteAccount(url)


@pytest.mark.parametrize(
    ("url", "holds"),
    [
        ("http://localhost:10000/devstoreaccount1/c/x", True),
        ("http://127.0.0.1:10000/devstoreaccount1/c", True),
        ("http://127.0.0.1:10001/devstoreaccount1/c/x", False),
        ("http://127.0.0.1:10000/other/c/x", False),
        ("https://127.0.0.1:10000/devstoreaccount1/c/x", False),
        ("http://example.com:10000/devstoreaccount1/c/x", False),
        ("http://127.0.0.1:port/devstoreaccount1/c/x", False),
    ],
)
def test_the_account_is_known_by_every_name_of_this_machine(url, holds):
    assert AzuriteAccount("http://127.0.0.1:10000").holds(url) is holds
