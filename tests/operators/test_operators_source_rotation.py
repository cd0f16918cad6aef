"""Ingestion sources that never lapse: tokens from everywhere, rotation during runs, and real SAS tokens in Azurite."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_geocatalog.emulator.azurite import AzuriteServer
from airflow_provider_geocatalog.emulator.azurite_store import DEV_ACCOUNT, DEV_KEY
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.sources import (
    GeoCatalogDeleteIngestionSourceOperator,
    GeoCatalogEnsureIngestionSourceOperator,
    GeoCatalogRotateIngestionSourcesOperator,
)

# Installing Azurite takes minutes where the network is slow; it happens once.
pytestmark = pytest.mark.timeout(420)

HOUR = 3600.0
KEY = base64.b64encode(b"the key of nobody's account").decode()
EXAMPLE = Path(__file__).parents[2] / "example_dags" / "geocatalog_rotate_sources.py"


def ensure(container, **arguments):
    return GeoCatalogEnsureIngestionSourceOperator(task_id="ensure", container_url=container, **arguments)


def rotate(**arguments):
    return GeoCatalogRotateIngestionSourcesOperator(task_id="rotate", **arguments)


def storage_connection(monkeypatch, conn_type="wasb", conn_id="storage", **fields):
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({"conn_type": conn_type, **fields}))
    return conn_id


def sources_of(emulator):
    return list(emulator.world.sources.values())


def fields_of(source):
    return {name: values[0] for name, values in parse_qs(source.sas_token).items()}


# --- where tokens come from -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"login": "_emulator", "password": KEY},
        {"login": "_emulator", "extra": {"shared_access_key": KEY}},
        {"login": "_emulator", "extra": {"extra__wasb__account_key": KEY}},
        {"extra": {"connection_string": f"DefaultEndpointsProtocol=https;AccountName=_emulator;AccountKey={KEY}"}},
    ],
)
def test_airflows_storage_connection_signs_with_its_key(world, monkeypatch, fields):
    answer = world.run(ensure(world.container, sas_token_conn_id=storage_connection(monkeypatch, **fields)))

    [source] = sources_of(world.server.emulator)
    token = fields_of(source)
    assert (answer["action"], token["sp"], token["sr"]) == ("created", "rl", "c")
    lives = datetime.datetime.fromisoformat(token["se"]) - datetime.datetime.fromisoformat(token["st"])
    assert lives == datetime.timedelta(hours=48, minutes=15)


@pytest.mark.parametrize("form", ["token", "url", "password", "connection string"])
def test_airflows_storage_connection_may_hold_a_token(world, tokens, monkeypatch, form):
    token = tokens()
    fields = {
        "token": {"extra": {"sas_token": token}},
        "url": {"extra": {"sas_token": f"https://x.blob.core.windows.net/?{token}"}},
        "password": {"password": token},
        "connection string": {"extra": {"connection_string": f"BlobEndpoint=https://x;SharedAccessSignature={token}"}},
    }[form]

    world.run(ensure(world.container, sas_token_conn_id=storage_connection(monkeypatch, **fields)))

    assert sources_of(world.server.emulator)[0].sas_token == token


@pytest.mark.parametrize(
    ("conn_type", "fields", "complaint"),
    [
        ("wasb", {"login": "other", "password": KEY}, "for storage account 'other', but .* is in '_emulator'"),
        ("wasb", {"host": "https://other.blob.core.windows.net", "password": KEY}, "for storage account 'other'"),
        ("wasb", {"login": "_emulator", "password": "abcde"}, "the key of storage account _emulator"),
        ("wasb", {"extra": {"connection_string": "AccountName=_emulator"}}, "neither an AccountKey nor"),
        ("azure", {"login": "i", "extra": {"key_path": "/k.json"}}, "key_path cannot sign"),
        ("generic", {}, "the connection gave no SAS token"),
    ],
)
def test_a_connection_that_cannot_sign_for_the_container_says_why(world, monkeypatch, conn_type, fields, complaint):
    conn_id = storage_connection(monkeypatch, conn_type, **fields)

    with pytest.raises(GeoCatalogTaskFailed, match=complaint) as refused:
        world.run(ensure(world.container, sas_token_conn_id=conn_id))

    assert world.writes == []
    assert KEY not in str(refused.value)
    assert "abcde" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    ["a.example.com", "a.blob.core.windows.net.example.com", "x\\.blob.core.windows.net", "u@a.blob.core.windows.net"],
)
def test_what_signs_goes_to_no_other_host_than_storage(world, monkeypatch, address):
    conn_id = storage_connection(monkeypatch, password=KEY)

    for signer in (conn_id, "geocatalog_default"):
        with pytest.raises(GeoCatalogTaskFailed, match="is no host of Azure Blob Storage"):
            world.run(ensure(f"https://{address}/box", sas_token_conn_id=signer))
    assert world.writes == []


def test_without_azures_package_the_extra_is_named(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "azure.storage", None)
    conn_id = storage_connection(monkeypatch, login="_emulator", password=KEY)

    with pytest.raises(GeoCatalogTaskFailed, match=r"install airflow-provider-geocatalog\[azure-storage\]"):
        world.run(ensure(world.container, sas_token_conn_id=conn_id))


def test_every_wrong_argument_is_told_at_once(world):
    with pytest.raises(GeoCatalogTaskFailed, match=r"names no container.*one of connection and URL"):
        world.run(ensure("https://a.blob.core.windows.net", sas_token_conn_id="x", sas_token_url="y"))
    with pytest.raises(GeoCatalogTaskFailed, match=r"containers is str.*a SAS token is needed"):
        world.run(rotate(containers="https://a.blob.core.windows.net/c"))
    with pytest.raises(GeoCatalogTaskFailed, match=r"token_lifetime .* has to exceed expires_within"):
        world.run(rotate(sas_token_conn_id="x", expires_within=48 * HOUR))
    assert not world.server.emulator.requests


class TokenServer:
    """An endpoint that gives tokens as the public Planetary Computer does."""

    def __init__(self, answer):
        self.asked = asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append((self.path, self.headers.get("Authorization")))
                status, body = answer()
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/sas/v1/token"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *details):
        self._server.shutdown()
        self._server.server_close()


def test_the_public_planetary_computer_gives_tokens(world, tokens):
    with TokenServer(lambda: (200, {"msft:expiry": "2030-01-01T00:00:00Z", "token": tokens(hours=1)})) as endpoint:
        answer = world.run(ensure(world.container, sas_token_url=endpoint.url, min_lifetime=1800))

    assert answer["action"] == "created"
    assert endpoint.asked == [("/api/sas/v1/token/_emulator/box", None)]


@pytest.mark.parametrize(
    ("status", "body", "complaint", "retried"),
    [
        (404, {"detail": "no such container"}, "status 404", False),
        (503, {}, "status 503", True),
        (200, b"<html>", "an answer without a token", False),
        (200, {"msft:expiry": "x"}, "an answer without a token", False),
    ],
)
def test_an_endpoint_that_gives_no_token_is_named(world, status, body, complaint, retried):
    with TokenServer(lambda: (status, body)) as endpoint, pytest.raises(Exception, match=complaint) as refused:
        world.run(ensure(world.container, sas_token_url=endpoint.url))

    assert isinstance(refused.value, GeoCatalogTaskFailed) is not retried
    assert f"{endpoint.url}/_emulator/box" in str(refused.value)


def test_an_endpoint_is_asked_over_https(world):
    with pytest.raises(GeoCatalogTaskFailed, match="is not an https URL"):
        world.run(ensure(world.container, sas_token_url="http://tokens.example.com"))


def test_a_callable_that_fails_may_be_retried_and_tells_no_token(world, caplog):
    def make():
        raise RuntimeError("refused sv=1&sig=theSecretSignature%3D")

    with pytest.raises(Exception, match="RuntimeError: refused") as failed:
        world.run(ensure(world.container, sas_token_callable=make))

    assert failed.value.retryable
    assert "theSecretSignature" not in str(failed.value) + caplog.text


def test_a_callable_may_tell_airflow_what_to_do(world):
    def make():
        raise AirflowSkipException("no token today")

    with pytest.raises(AirflowSkipException, match="no token today"):
        world.run(ensure(world.container, sas_token_callable=make))


# --- two at once, dry runs, deletion --------------------------------------------------------------------------------


def test_two_tasks_that_ensure_the_same_container_at_once_end_with_one_source(world, tokens):
    both_have_looked = threading.Barrier(2)

    def make():
        both_have_looked.wait(10)  # neither has found a source
        return tokens()

    with ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(world.run, ensure(world.container, sas_token_callable=make)) for _ in range(2)]
        answers = [task.result(30) for task in tasks]

    assert sorted(answer["action"] for answer in answers) == ["created", "unchanged"]
    [source] = sources_of(world.server.emulator)
    assert {answer["source_id"] for answer in answers} == {source.id}


def test_a_dry_run_only_reads_and_tells_the_plan(world, tokens, capfd):
    no_token = {"sas_token_callable": lambda: pytest.fail("no token is needed"), "dry_run": True}
    create = world.run(ensure(world.container, **no_token))
    assert create["plan"] == [
        {"operation": "create_source", "method": "POST", "path": "/ingestion-sources", "subject": world.container}
    ]
    made = world.run(ensure(world.container, sas_token_callable=lambda: tokens(hours=2), min_lifetime=HOUR))
    before = list(world.writes)

    renew = world.run(ensure(world.container, **no_token))
    keep = world.run(ensure(world.container, min_lifetime=HOUR, **no_token))
    everything = world.run(rotate(**no_token))
    delete = world.run(
        GeoCatalogDeleteIngestionSourceOperator(task_id="d", container_url=world.container, dry_run=True)
    )

    assert world.writes == before
    path = f"/ingestion-sources/{made['source_id']}"
    assert [answer["plan"] and answer["plan"][0]["path"] for answer in (renew, keep, everything, delete)] == [
        path,
        [],
        path,
        path,
    ]
    assert [renew["action"], keep["action"], delete["action"]] == ["rotated", "unchanged", "deleted"]
    logged = "".join(capfd.readouterr())
    assert f"nothing was sent: PUT {path} ({world.container})" in logged
    assert "there is nothing to write" in logged


@pytest.mark.parametrize("world", [{"items_per_second": 0.01}], indirect=True)
def test_a_source_that_an_active_run_may_use_is_deleted_only_by_force(world, tokens, catalog, documents):
    client = GeoCatalogHook().client
    client.run(_collection_flow(documents()))
    made = world.run(ensure(world.container, sas_token_callable=tokens))
    start_run(client, f"{world.container}/{catalog(world.folder)}")
    by_id = {"task_id": "d", "source_id": made["source_id"]}

    with pytest.raises(Exception, match=r"may be in use by active operations.*IngestionStaticCatalog") as refused:
        world.run(GeoCatalogDeleteIngestionSourceOperator(**by_id))

    assert (refused.value.retryable, len(sources_of(world.server.emulator))) == (True, 1)
    assert f"{world.container}/catalog.json" in str(refused.value)
    assert world.run(GeoCatalogDeleteIngestionSourceOperator(**by_id, force=True))["action"] == "deleted"


def _collection_flow(document):
    from airflow_provider_geocatalog.api.flows.collections import IfExists, begin_create_collection

    return begin_create_collection(document, if_exists=IfExists.FAIL)


def start_run(client, catalog_url):
    ingestion = client.create_ingestion("demo", {"importType": "StaticCatalog", "sourceCatalogUrl": catalog_url})
    return client.create_run("demo", ingestion.ingestion_id)


# --- rotation -------------------------------------------------------------------------------------------------------


def token_for(tokens, hours, url):
    return tokens(hours=hours)


class XComs(dict):
    """A task instance, as far as its XComs go."""

    def xcom_push(self, key, value):
        self[key] = json.loads(json.dumps(value))


def test_each_source_is_reported_and_one_that_fails_is_named_at_the_end(world, tokens):
    containers = {name: f"{world.server.url}/_emulator/storage/{name}" for name in ("broken", "late", "fresh", "fine")}
    lives = {"broken": 2, "late": 3, "fresh": 90, "fine": 4}
    for name, url in containers.items():
        world.run(ensure(url, sas_token_callable=partial(token_for, tokens, lives[name]), min_lifetime=HOUR))
    missing = "https://acct.blob.core.windows.net/never-registered"

    def make(url):
        if url.endswith("broken"):
            raise RuntimeError("the vault is sealed")
        return tokens(hours=1 if url.endswith("late") else 60)

    xcoms = XComs()
    with pytest.raises(Exception, match="3 of 5 ingestion sources were not renewed") as failed:
        rotate(sas_token_callable=make, containers=[*containers.values(), missing]).execute({"ti": xcoms})

    text = str(failed.value)
    assert all(part in text for part in ("the vault is sealed", "no later than", f"{missing} has no SAS source"))
    assert failed.value.retryable  # the callable's failure may pass
    told = {Path(one["container_url"]).name: one["action"] for one in xcoms["report"]["sources"]}
    assert told == {"broken": "failed", "late": "failed", "fresh": "unchanged", "fine": "rotated"}
    assert world.writes == ["create_source"] * 4 + ["replace_source"]


@pytest.mark.parametrize(
    ("chosen", "renewed"),
    [
        ({}, {"one", "two"}),
        ({"containers": ["HTTPS://first.blob.core.windows.net:443/one/"]}, {"one"}),
        ({"accounts": ["SECOND"]}, {"two"}),
        ({"accounts": []}, set()),
    ],
)
def test_containers_and_accounts_can_be_chosen(world, tokens, chosen, renewed):
    for url in ("https://first.blob.core.windows.net/one", "https://second.blob.core.windows.net/two"):
        world.run(ensure(url, sas_token_callable=lambda: tokens(hours=2), min_lifetime=HOUR))

    answer = world.run(rotate(sas_token_callable=tokens, **chosen))

    assert {Path(one["container_url"]).name for one in answer["sources"]} == renewed
    assert answer["rotated"] == len(renewed)


@pytest.mark.parametrize("accounts", [None, ["_emulator"], ["other"]])
def test_the_example_dag_renews_what_its_parameters_choose(world, tokens, monkeypatch, accounts):
    conn_id = storage_connection(monkeypatch, login="_emulator", password=KEY)
    world.run(ensure(world.container, sas_token_callable=partial(token_for, tokens, 2), min_lifetime=HOUR))
    task = runpy.run_path(str(EXAMPLE))["dag"].get_task("rotate_sources")

    task.render_template_fields({"params": {"token_conn_id": conn_id, "accounts": accounts}})

    assert world.run(task)["rotated"] == (accounts != ["other"])


def test_no_key_and_no_token_that_it_signs_is_shown(world, tokens, monkeypatch, caplog, capfd):
    conn_id = storage_connection(monkeypatch, login="_emulator", password=KEY)
    world.run(ensure(world.container, sas_token_callable=partial(token_for, tokens, 2), min_lifetime=HOUR))

    with caplog.at_level(logging.DEBUG):
        answer = world.run(rotate(sas_token_conn_id=conn_id))

    assert answer["rotated"] == 1
    seen = caplog.text + "".join(capfd.readouterr()) + json.dumps(answer) + repr(list(world.server.emulator.requests))
    signature = sources_of(world.server.emulator)[0].sas_token.split("sig=")[1].split("&")[0]
    assert not any(secret in seen for secret in (KEY, signature, unquote(signature)))


# --- a 30-hour ingestion over 24-hour tokens --------------------------------------------------------------------------

ITEM = {
    "type": "Feature",
    "stac_version": "1.0.0",
    "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
    "bbox": [1.0, 2.0, 1.0, 2.0],
    "properties": {"datetime": "2024-01-01T00:00:00Z"},
    "links": [],
}
CATALOGS, ITEMS_EACH = 10, 3  # an item takes an hour, and one run is at work at a time: the last begins after 27 hours
SLOW = {"items_per_second": 1 / HOUR, "max_concurrent_runs": 1}


def documents_of_catalogs(container_url):
    """Return what is in the container: path by path."""
    for number in range(CATALOGS):
        names = [f"c{number}-{item}" for item in range(ITEMS_EACH)]
        links = [{"rel": "item", "href": f"{name}.json"} for name in names]
        catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": f"c{number}", "description": "d", "links": links}
        yield f"c{number}/catalog.json", catalog
        for name in names:
            assets = {"image": {"href": f"{container_url}/c{number}/catalog.json"}}
            yield f"c{number}/{name}.json", {**ITEM, "id": name, "assets": assets}


class VirtualTime:
    """The client's time, which is the emulator's; waiting moves it."""

    def __init__(self, clock):
        self.time, self.sleep, self.monotonic = clock.now, clock.advance, time.monotonic


def ingest_for_30_hours(world, container, conn_id, document, *, rotating, each_hour=lambda: None):
    """Start all runs, move on hour by hour, and return the runs' operations."""
    clock, client = world.server.emulator.clock, GeoCatalogHook().client
    clock.freeze()
    client.clock = VirtualTime(clock)
    client.run(_collection_flow(document))
    tokens = {"sas_token_conn_id": conn_id, "token_lifetime": 24 * HOUR}
    world.run(ensure(container, min_lifetime=20 * HOUR, **tokens))
    runs = [start_run(client, f"{container}/c{number}/catalog.json") for number in range(CATALOGS)]
    for _ in range(31):
        each_hour()
        clock.advance(HOUR)
        if rotating:
            world.run(rotate(expires_within=12 * HOUR, **tokens))
    return [client.get_operation(run.operation.operation_id) for run in runs]


def check_30_hours(world, operations, source_id):
    assert [(str(one.status), one.counts.succeeded, one.counts.failed) for one in operations] == [
        ("Succeeded", ITEMS_EACH, 0)
    ] * CATALOGS
    assert len(world.server.emulator.world.collections["demo"].items) == CATALOGS * ITEMS_EACH
    assert [source.id for source in sources_of(world.server.emulator)] == [source_id]
    # Tokens of 24 hours that are renewed when they have less than 12 left: after 13 hours, and again after 26.
    writes = [name for name in world.writes if name.endswith("_source")]
    assert writes == ["create_source", "replace_source", "replace_source"]


def first_source_id(world):
    """Return what tells, at its end, the source that there was in the first hour."""
    seen = []
    return seen, lambda: seen or seen.append(sources_of(world.server.emulator)[0].id)


@pytest.mark.parametrize("world", [SLOW], indirect=True)
@pytest.mark.parametrize("rotating", [True, False])
def test_a_30_hour_ingestion_outlives_its_24_hour_tokens(world, monkeypatch, documents, rotating):
    for path, document in documents_of_catalogs(world.container):
        (world.folder / path).parent.mkdir(exist_ok=True)
        (world.folder / path).write_text(json.dumps(document))
    conn_id = storage_connection(monkeypatch, login="_emulator", password=KEY)
    seen, each_hour = first_source_id(world)

    operations = ingest_for_30_hours(
        world, world.container, conn_id, documents(), rotating=rotating, each_hour=each_hour
    )

    if rotating:
        check_30_hours(world, operations, *seen)
    else:  # so much for what would be without: the last runs cannot read any more
        codes = [one.fault.code if one.fault else None for one in operations]
        assert codes == [None] * 8 + ["IngestionResourceForbidden"] * 2


# --- Azurite, which checks signatures and expiry itself -------------------------------------------------------------

#: Moves the clock of a Node.js program by the seconds in a file.
SHIFTED_CLOCK = """
const fs = require("fs"), Machine = Date;
const now = () => Machine.now() + 1000 * (Number(fs.readFileSync(process.env.SHIFT_FILE, "utf8")) || 0);
globalThis.Date = class extends Machine {
  constructor(...given) { if (given.length) super(...given); else super(now()); }
  static now() { return now(); }
};
"""


@pytest.fixture(scope="module")
def shifted_azurite(tmp_path_factory, azurite_command):
    """A running Azurite whose clock a function moves."""
    folder = tmp_path_factory.mktemp("shifted")
    shift, script = folder / "shift", folder / "clock.js"
    script.write_text(SHIFTED_CLOCK)
    shift.write_text("0")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SHIFT_FILE", str(shift))
        environment.setenv("NODE_OPTIONS", f"--require {script}")
        try:
            server = AzuriteServer(azurite_command).__enter__()
        except RuntimeError as reason:  # a Node.js that is too old
            pytest.skip(str(reason))
    yield server.account, lambda seconds: shift.write_text(str(seconds))
    server.close()


@pytest.mark.parametrize("world", [SLOW], indirect=True)
@pytest.mark.parametrize("rotating", [True, False])
def test_a_30_hour_ingestion_reads_from_azurite(world, monkeypatch, documents, shifted_azurite, rotating):
    account, shift = shifted_azurite
    shift(0)
    container = f"{account.url}/catalogs-{rotating}".lower()
    blobs = account.service().create_container(container.rsplit("/", 1)[-1])
    for path, document in documents_of_catalogs(container):
        blobs.upload_blob(path, json.dumps(document))
    conn_id = storage_connection(monkeypatch, host=account.url, login=DEV_ACCOUNT, password=DEV_KEY)
    clock = world.server.emulator.clock
    seen, see = first_source_id(world)

    def each_hour():
        see()
        shift(clock.now() + HOUR - time.time())  # what the emulator reads on its way is read at the hour's end

    operations = ingest_for_30_hours(world, container, conn_id, documents(), rotating=rotating, each_hour=each_hour)

    if rotating:
        check_30_hours(world, operations, *seen)
    else:
        assert [str(one.status) for one in operations] == ["Succeeded"] * 8 + ["Failed"] * 2
        token = sources_of(world.server.emulator)[0].sas_token
        assert requests.get(f"{container}/c0/catalog.json?{token}", timeout=5).status_code == 403


def certificate(folder):
    """Write a key and a certificate for this machine."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    pem, private = folder / "certificate.pem", folder / "key.pem"
    encoding = serialization.Encoding.PEM
    pem.write_bytes(made.add_extension(address, critical=False).sign(key, hashes.SHA256()).public_bytes(encoding))
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    return pem, private


@pytest.fixture(scope="module")
def entra_azurite(tmp_path_factory, azurite_command):
    """The URL of the account of an Azurite that takes bearer tokens, over https, and its certificate."""
    folder = tmp_path_factory.mktemp("entra")
    pem, private = certificate(folder)
    command = [*azurite_command, "--blobHost", "127.0.0.1", "--blobPort", "0", "--location", str(folder / "blobs")]
    command += ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--oauth", "basic"]
    command += ["--cert", str(pem), "--key", str(private)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        try:
            found = (re.search(r"listens on (https://\S+)", line) for line in process.stdout)
            address = next(filter(None, found), None)
            if address is None:
                pytest.skip("Azurite did not start")
            yield f"{address[1]}/{DEV_ACCOUNT}", str(pem)
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def entra_token():
    """A token of Microsoft Entra as Azurite looks at it: the signature is nobody's."""
    now = int(time.time())
    issuer = "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/"
    claims = {"aud": "https://storage.azure.com", "iss": issuer, "iat": now - 60, "nbf": now - 60, "exp": now + 3600}
    claims |= {"oid": "23657296-5cd5-45b0-a809-d972a7f4dfe1", "tid": "dd0d0df1-06c3-436c-8034-4b9a153097ce"}
    parts = (json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "c2ln"])


def sign_in_to_storage(monkeypatch, world, pem, token):
    """Make the connection that signs: the identity of one that leads to the same GeoCatalog."""
    return storage_connection(
        monkeypatch,
        "geocatalog",
        "signer",
        host=world.server.url,
        password=token,
        extra={"auth_method": "static_token", "ca_bundle": pem},
    )


def test_the_identity_of_a_connection_signs_a_user_delegation_sas(world, monkeypatch, entra_azurite, caplog):
    account_url, pem = entra_azurite
    from azure.storage.blob import BlobServiceClient

    credential = {"account_name": DEV_ACCOUNT, "account_key": DEV_KEY}
    for name in ("one", "two"):
        with BlobServiceClient(account_url, credential, connection_verify=pem) as service:
            service.create_container(name).upload_blob("x", b"read it")
    conn_id = sign_in_to_storage(monkeypatch, world, pem, entra_token())

    with caplog.at_level(logging.DEBUG, "airflow_provider_geocatalog"):
        answers = [world.run(ensure(f"{account_url}/{name}", sas_token_conn_id=conn_id)) for name in ("one", "two")]

    assert [answer["action"] for answer in answers] == ["created", "created"]
    one, two = (source.sas_token for source in sources_of(world.server.emulator))
    assert "skoid" in parse_qs(one)
    assert requests.get(f"{account_url}/one/x?{one}", verify=pem, timeout=5).text == "read it"
    assert requests.get(f"{account_url}/two/x?{one}", verify=pem, timeout=5).status_code == 403
    listing = requests.get(f"{account_url}/two?restype=container&comp=list&{two}", verify=pem, timeout=5)
    assert "<Name>x</Name>" in listing.text
    assert not any(parse_qs(token)["sig"][0] in caplog.text + json.dumps(answers) for token in (one, two))


@pytest.mark.parametrize("conn_type", ["wasb", "adls", "azure"])
def test_a_storage_connection_without_secrets_signs_as_its_managed_identity(
    world, monkeypatch, entra_azurite, conn_type
):
    account_url, pem = entra_azurite
    given = {"access_token": entra_token(), "expires_on": str(int(time.time()) + 3600), "token_type": "Bearer"}
    extra = {"managed_identity_client_id": "the-client"}
    conn_id = storage_connection(monkeypatch, conn_type, host=account_url, extra=extra)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", pem)
    with TokenServer(lambda: (200, given)) as platform:  # that of an Azure virtual machine or web app
        monkeypatch.setenv("IDENTITY_ENDPOINT", platform.url)
        monkeypatch.setenv("IDENTITY_HEADER", "x")

        world.run(ensure(f"{account_url}/one", sas_token_conn_id=conn_id))

    assert "skoid" in parse_qs(sources_of(world.server.emulator)[0].sas_token)
    asked = parse_qs(urlsplit(platform.asked[0][0]).query)
    assert (asked["resource"], asked["client_id"]) == (["https://storage.azure.com"], ["the-client"])


def test_an_identity_without_the_role_is_told_which_one(world, monkeypatch, entra_azurite):
    account_url, pem = entra_azurite
    conn_id = sign_in_to_storage(monkeypatch, world, pem, "no-token-of-entra")

    with pytest.raises(GeoCatalogTaskFailed, match=r"gave no user delegation key.*Storage Blob Delegator") as refused:
        world.run(ensure(f"{account_url}/one", sas_token_conn_id=conn_id))

    assert "no-token-of-entra" not in str(refused.value)
    assert world.writes == []


def test_an_identity_cannot_sign_for_longer_than_a_week(world):
    with pytest.raises(GeoCatalogTaskFailed, match="lives up to 604800 s"):
        world.run(ensure(world.container, sas_token_conn_id="geocatalog_default", token_lifetime=8 * 24 * HOUR))
