"""
State in a file. Here a process dies by leaving it alone: its file is copied, as it is at that moment, and another
emulator goes on with the copy. ``test_emulator_state_kill`` kills processes for real.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import shutil
import sqlite3

import pytest
import requests
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test
from test_emulator_state_machine import LONG, SECOND, START, WINDOW, Catalog, item_body

from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.emulator.__main__ import main
from airflow_provider_geocatalog.emulator.clock import ManualClock
from airflow_provider_geocatalog.emulator.state import StateError
from airflow_provider_geocatalog.emulator.state_file import _Forms


def copied(emulator, folder):
    """Return the emulator's state file as a process that is killed now leaves it."""
    source = emulator.settings.state
    folder.mkdir()
    with emulator.world.lock:
        for name in (source.name, f"{source.name}-wal"):
            if source.with_name(name).exists():
                shutil.copyfile(source.with_name(name), folder / name)
    return folder / source.name


def everything(emulator):
    """Return all that an emulator knows, in a form that can be compared."""
    context = emulator._context
    world, engine, forms = context.world, context.engine, _Forms(context)
    with world.lock:
        events = [(number, due, forms.of_effect(effect)) for due, number, effect in engine._events]
        return {
            "collections": [
                {
                    **{name: value for name, value in vars(one).items() if name not in ("items", "deletion")},
                    "ingestions": [dataclasses.asdict(ingestion) for ingestion in one.ingestions.values()],
                    "items": dict(one.items),
                    "number": one.items.number,
                    "deletion": one.deletion and one.deletion.id,
                }
                for one in world.collections.values()
            ],
            "operations": [dataclasses.asdict(one) for one in world.operations.values()],
            "sources": [vars(one) for one in world.sources.values()],
            "others": (world.reserved, world.deleted_at, world.sas.secrets, engine.first_tick, emulator.clock.now()),
            "events": sorted(event for event in events if event[2] is not None),
            "undo": {name: forms.of_effect(effect) for name, effect in engine._undo.items()},
            "parts": {name: [forms.of(part) for part in parts] for name, parts in engine._parts.items()},
            "runs": ([run.id for run in engine.runs.waiting], [(run.id, at) for run, at in engine.runs.at_work]),
        }


@pytest.fixture
def restart(serve, tmp_path):
    """Let an emulator go on with what another one would leave if it were killed now."""
    numbers = itertools.count()

    def go_on(server, **changes):
        path = copied(server.emulator, tmp_path / f"copy{next(numbers)}")
        old = server.emulator.settings
        server.emulator.engine.stop()
        chosen = {one.name: getattr(old, one.name) for one in dataclasses.fields(old)}
        clock = ManualClock(START) if server.emulator.clock.speed == 0 else None
        return serve(clock, **{**chosen, "state": path, **changes})

    return go_on


# --- random sequences -----------------------------------------------------------------------------------------------


class KilledCatalog(Catalog):
    """The machine of ``test_emulator_state_machine``, with an emulator that may be killed after every request."""

    @rule(kill=st.integers(0, 2))
    def kill(self, kill):
        if kill:
            return
        self.again(self.server)

    @invariant()
    def the_file_holds_everything(self):
        emulator = self.server.emulator
        folder = self.folder / f"look{next(self.numbers)}"
        other = Emulator(dataclasses.replace(emulator.settings, state=copied(emulator, folder)), ManualClock(START))
        try:
            assert everything(other) == everything(emulator)
        finally:
            other.close()
            shutil.rmtree(folder)


@pytest.fixture
def killed_catalog(tmp_path, catalogs, closing):
    for item_id in ("r1", "r2"):
        catalogs.write(f"items/{item_id}.json", item_body(item_id, 100))
    url = catalogs.catalog(items=["items/r1.json", "items/r2.json"])
    chosen = {"pending_seconds": SECOND, "collection_seconds": SECOND, "recreate_after": WINDOW}
    options = EmulatorSettings.fast(
        admin_tokens=("admin-token",), allowed_paths=(tmp_path / "allowed",), state=tmp_path / "state", **chosen
    )
    numbers, servers = itertools.count(), []

    def serve(options):
        servers.append(EmulatorServer(Emulator(options, ManualClock(START))).__enter__())
        machine.server = servers[-1]

    def again(server):
        path = copied(server.emulator, tmp_path / f"copy{next(numbers)}")
        closing.submit(server.close)
        serve(dataclasses.replace(server.emulator.settings, state=path))

    machine = type("TheCatalog", (KilledCatalog,), {"source_url": url, "folder": tmp_path, "numbers": numbers})
    machine.again = staticmethod(again)
    serve(options)
    yield machine
    closing.submit(servers[-1].close)


@pytest.mark.timeout(0 if LONG else 120)
def test_random_sequences_agree_with_a_model_although_the_process_is_killed(killed_catalog):
    run_state_machine_as_test(
        killed_catalog,
        settings=settings(
            max_examples=int(LONG or 4),
            stateful_step_count=25,
            derandomize=LONG is None,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# --- what goes on ---------------------------------------------------------------------------------------------------

SLOW = {
    "items_per_second": 1 / SECOND,
    "pending_seconds": SECOND,
    "collection_seconds": SECOND,
    "cancel_seconds": SECOND,
}


@pytest.fixture
def frozen(serve, tmp_path, new_client):
    """A client of an emulator with a state file, whose clock stands still, and the collection ``demo``."""
    (tmp_path / "allowed").mkdir(exist_ok=True)
    client = new_client(serve(ManualClock(START), state=tmp_path / "state", **SLOW))
    client.post("/stac/collections", json=collection_document("demo"))
    client.server.emulator.clock.advance(5)
    return client


@pytest.fixture
def catalogs_in(tmp_path):
    """A catalog of two items, one of which cannot be read."""
    folder = tmp_path / "allowed"
    (folder / "good.json").write_text(json.dumps(item_body("good", 1)))
    links = [{"rel": "item", "href": href} for href in ("good.json", "missing.json", "good.json")]
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "x", "links": links}
    (folder / "catalog.json").write_text(json.dumps(catalog))
    return (folder / "catalog.json").as_uri()


def collection_document(collection_id):
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    return {"id": collection_id, "description": "x", "license": "x", "links": [], "extent": extent}


def status(client, operation_id):
    body = client.get(f"/inma/operations/{operation_id}").json()
    return body["status"], body["statusHistory"][-1].get("errorCode")


def test_a_deletion_that_waits_can_be_cancelled_and_asked_for_again(frozen, restart, new_client):
    deletion = frozen.delete("/stac/collections/demo").json()["id"]
    client = new_client(restart(frozen.server))
    assert client.delete("/stac/collections/demo").json()["id"] == deletion
    assert client.delete(f"/inma/operations/{deletion}").status_code == 204
    client.server.emulator.clock.advance(1)

    client = new_client(restart(client.server))

    assert status(client, deletion) == ("Canceled", "CanceledOperation")
    again = client.delete("/stac/collections/demo").json()["id"]
    client.server.emulator.clock.advance(5)
    assert again != deletion
    assert client.get("/stac/collections").json()["collections"] == []


def test_a_creation_that_is_cancelled_gives_its_id_back(frozen, restart, new_client):
    creation = frozen.post("/stac/collections", json=collection_document("new")).json()["id"]
    client = new_client(restart(frozen.server))
    assert client.post("/stac/collections", json=collection_document("new")).status_code == 409
    client.delete(f"/inma/operations/{creation}")

    client = new_client(restart(client.server))
    client.server.emulator.clock.advance(1)

    assert status(client, creation)[0] == "Canceled"
    assert client.post("/stac/collections", json=collection_document("new")).status_code == 202


def test_items_for_a_collection_that_was_made_anew_still_fail(frozen, restart, new_client, new_item):
    operation = frozen.post("/stac/collections/demo/items", json=new_item("a")).json()["id"]
    clock = frozen.server.emulator.clock
    frozen.server.emulator.faults.add("hold", types="AddItem")
    clock.advance(1)
    frozen.delete("/stac/collections/demo")
    clock.advance(2)
    assert frozen.post("/stac/collections", json=collection_document("demo")).status_code == 202
    clock.advance(2)

    client = new_client(restart(frozen.server))  # which forgets the fault

    assert status(client, operation) == ("Failed", "CollectionDoesNotExist")
    assert client.get("/stac/collections/demo/items").json()["features"] == []


def test_changes_of_items_happen_after_the_restart(frozen, restart, new_client, new_item):
    frozen.post(
        "/stac/collections/demo/items",
        json={"type": "FeatureCollection", "features": [new_item("a", assets={}), new_item("b", assets={})]},
    )
    frozen.server.emulator.clock.advance(2)
    patch = frozen.patch("/stac/collections/demo/items/a", json={"properties": {"x": 7}}).json()["id"]
    deletion = frozen.delete("/stac/collections/demo/items/b").json()["id"]

    client = new_client(restart(frozen.server))
    client.server.emulator.clock.advance(5)

    features = client.get("/stac/collections/demo/items").json()["features"]
    assert [(one["id"], one["properties"]["x"]) for one in features] == [("a", 7)]
    assert (status(client, patch)[0], status(client, deletion)[0]) == ("Succeeded", "Succeeded")


def test_a_run_that_is_being_cancelled_ends_and_lets_the_next_one_begin(frozen, restart, new_client, tmp_path):
    folder = tmp_path / "allowed"
    (folder / "catalog.json").write_text(
        '{"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "x", "links": []}'
    )
    url = (folder / "catalog.json").as_uri()
    frozen.server.emulator.faults.add("hold", types="IngestionStaticCatalog", status="Running")
    server = restart(frozen.server, max_concurrent_runs=1, allowed_paths=(folder,))
    client = new_client(server)
    server.emulator.faults.add("hold", types="IngestionStaticCatalog", status="Running")
    first, second = (client.start_run(url) for _ in range(2))
    server.emulator.clock.advance(1)
    client.delete(f"/inma/operations/{first.rsplit('/', 1)[1]}")
    assert client.get(first).json()["operation"]["status"] == "Canceling"

    client = new_client(restart(server))
    client.server.emulator.clock.advance(5)

    assert client.get(first).json()["operation"]["status"] == "Canceled"
    assert client.get(second).json()["operation"]["status"] == "Succeeded"


def test_files_of_items_and_collections_stay_and_what_nobody_needs_goes(
    frozen, restart, new_client, new_item, tmp_path
):
    file = tmp_path / "allowed" / "image.tif"
    file.write_bytes(b"pixels")
    assets = {"image": {"href": file.as_uri(), "type": "image/tiff"}}
    frozen.post("/stac/collections/demo/items", json=new_item("stored", assets=assets))
    frozen.server.emulator.clock.advance(2)
    data = {"key": "thumbnail", "href": "x", "type": "image/png", "title": "x", "roles": ["thumbnail"]}
    upload = {"data": (None, json.dumps(data), "application/json"), "file": ("x.png", b"small", "image/png")}
    assert frozen.post("/stac/collections/demo/assets", files=upload).status_code == 201
    signed = frozen.get("/stac/collections/demo/items/stored", params={"sign": "true"}).json()
    href = signed["assets"]["image"]["href"]
    frozen.post("/stac/collections/demo/items", json=new_item("waiting", assets=assets))
    staging = tmp_path / "state.files" / ".staging"
    (staging / "abandoned").write_bytes(b"x")
    file.unlink()

    client = new_client(restart(frozen.server))
    assert len(list(staging.iterdir())) == 1
    client.server.emulator.clock.advance(5)

    assert requests.get(href.replace(frozen.url, client.url), timeout=5).content == b"pixels"
    waiting = client.get("/stac/collections/demo/items/waiting", params={"sign": "true"}).json()
    assert requests.get(waiting["assets"]["image"]["href"], timeout=5).content == b"pixels"
    assert client.get("/stac/collections/demo/thumbnail").content == b"small"
    assert list(staging.iterdir()) == []


def test_an_item_whose_files_were_put_but_not_its_row_is_stored_again(frozen, restart, new_client, new_item, tmp_path):
    file = tmp_path / "allowed" / "image.tif"
    file.write_bytes(b"pixels")
    frozen.post("/stac/collections/demo/items", json=new_item("a", assets={"image": {"href": file.as_uri()}}))
    emulator = frozen.server.emulator
    before = copied(emulator, tmp_path / "before")
    staged = {path: path.read_bytes() for path in (tmp_path / "state.files" / ".staging").iterdir()}
    emulator.clock.advance(2)
    for path, content in staged.items():  # they are deleted only when the state file has the item
        path.write_bytes(content)

    client = new_client(restart(frozen.server, state=before))
    client.server.emulator.clock.advance(5)

    href = client.get("/stac/collections/demo/items/a", params={"sign": "true"}).json()["assets"]["image"]["href"]
    assert requests.get(href, timeout=5).content == b"pixels"


def test_time_does_not_go_backwards_and_a_reset_empties_the_file(frozen, restart, new_client):
    frozen.server.emulator.clock.advance(1000)
    client = new_client(restart(frozen.server))
    assert client.server.emulator.clock.now() == frozen.server.emulator.clock.now()

    assert client.post("/_emulator/reset", json={"at": START - 500}).status_code == 204
    client.post("/stac/collections", json=collection_document("new"))
    client = new_client(restart(client.server))

    assert [one["type"] for one in client.get("/inma/operations").json()["value"]] == ["AddCollection"]
    client.server.emulator.clock.advance(5)
    assert [one["id"] for one in client.get("/stac/collections").json()["collections"]] == ["new"]


def test_a_stopped_emulator_leaves_its_file_to_the_next_and_can_take_it_up_itself(tmp_path, new_client):
    options = EmulatorSettings.fast(admin_tokens=("admin-token",), state=tmp_path / "state")
    first = Emulator(options)
    with EmulatorServer(first) as server:
        new_client(server).add_collection()
        with pytest.raises(StateError, match="another emulator uses it"):
            Emulator(options)
    for emulator in (Emulator(options), first):
        with EmulatorServer(emulator) as server:
            assert new_client(server).get("/stac/collections/demo").status_code == 200


def test_what_cannot_be_saved_is_not_acknowledged(serve, restart, tmp_path, new_client, new_item):
    client = new_client(serve(state=tmp_path / "state"))
    client.add_collection()
    items = client.server.emulator.world.items
    with items.transaction() as database:  # a disk that is full soon
        [(pages,)] = database.execute("PRAGMA page_count")
        database.execute(f"PRAGMA max_page_count = {pages + 30}")
    answers = []
    while not answers or answers[-1].status_code == 202:
        item = new_item(f"i{len(answers)}", assets={}, properties={"datetime": "2024-01-01T00:00:00Z", "x": "x" * 5000})
        answers.append(client.post("/stac/collections/demo/items", json=item))
        assert len(answers) < 200

    assert (answers[-1].status_code, answers[-1].json()["error"]["code"]) == (500, "StateNotSaved")
    assert client.post("/stac/collections", json=collection_document("x")).status_code == 500
    client = new_client(restart(client.server))
    client.poll("/inma/operations", lambda body: all(one["status"] == "Succeeded" for one in body["value"]))
    kept = client.get("/stac/collections/demo/items", params={"limit": 1000}).json()["features"]
    assert {one["id"] for one in kept} == {f"i{number}" for number in range(len(answers) - 1)}


def test_whatever_changes_is_in_the_file_before_the_answer_is_sent(frozen, catalogs_in, new_item, tmp_path):
    """One step of everything, with the time that it takes: a change that is not noted shows at once."""
    emulator, numbers = frozen.server.emulator, itertools.count()

    def check(answer=None):
        assert answer is None or answer.status_code < 300, answer.text
        folder = tmp_path / f"look{next(numbers)}"
        options = dataclasses.replace(
            emulator.settings, state=copied(emulator, folder), managed_folder=tmp_path / "elsewhere"
        )
        other = Emulator(options, ManualClock(START))
        try:
            assert everything(other) == everything(emulator)
        finally:
            other.close()
        return answer.json() if answer is not None and answer.content else None

    def wait(seconds=0.5, times=6):
        for _ in range(times):
            emulator.clock.advance(seconds)
            check()

    def cancel(operation_id):
        check(frozen.delete(f"/inma/operations/{operation_id}"))
        wait()

    many = {"type": "FeatureCollection", "features": [new_item(f"i{n}", assets={}) for n in range(3)]}
    check(frozen.post("/stac/collections/demo/items", json=many))
    wait()
    cancel(check(frozen.post("/stac/collections/demo/items", json=new_item("cancelled", assets={})))["id"])
    check(frozen.patch("/stac/collections/demo/items/i0", json={"properties": {"x": 1}}))
    check(frozen.delete("/stac/collections/demo/items/i1"))
    check(frozen.delete("/stac/collections/demo/items/none"))
    wait()
    cancel(check(frozen.delete("/stac/collections/demo"))["id"])
    cancel(check(frozen.post("/stac/collections", json=collection_document("new")))["id"])
    check(frozen.put("/stac/collections/demo", json={**collection_document("demo"), "title": "x"}))
    body = {"importType": "StaticCatalog", "sourceCatalogUrl": catalogs_in}
    ingestions = "/inma/collections/demo/ingestions"
    paths = [f"{ingestions}/{check(frozen.post(ingestions, json=body))['id']}" for _ in range(2)]
    check(frozen.patch(paths[0], json={"displayName": "x"}))
    check(frozen.post(f"{paths[0]}/runs"))
    wait()
    cancel(check(frozen.post(f"{paths[0]}/runs"))["id"])
    check(frozen.delete(paths[1]))
    wait()
    identity = {"containerUrl": "https://acct.blob.core.windows.net/x", "objectId": "x"}
    source = check(
        frozen.post("/inma/ingestion-sources", json={"kind": "BlobManagedIdentity", "connectionInfo": identity})
    )
    check(frozen.delete(f"/inma/ingestion-sources/{source['id']}"))
    data = {"key": "thumbnail", "href": "x", "type": "image/png", "title": "x", "roles": ["thumbnail"]}
    upload = {"data": (None, json.dumps(data), "application/json"), "file": ("x.png", b"small", "image/png")}
    check(frozen.post("/stac/collections/demo/assets", files=upload))
    check(frozen.delete("/stac/collections/demo/assets/thumbnail"))
    check(frozen.post("/sas/token/revoke"))
    check(frozen.delete("/stac/collections/demo"))
    wait()


# --- files that cannot be used --------------------------------------------------------------------------------------


def foreign_database(path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE x (y)")


def other_format(path):
    Emulator(EmulatorSettings(state=path)).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA user_version = 99")


def unknown_effect(path):
    Emulator(EmulatorSettings(state=path)).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("INSERT INTO events VALUES (1, 0.0, ?)", (json.dumps(["effect", "os.system", "true"]),))


def overwritten(path):
    Emulator(EmulatorSettings(state=path)).close()
    content = bytearray(path.read_bytes())
    content[4096:12288] = b"x" * 8192
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text("no database" * 100), "damaged, or of something else"),
        (lambda path: path.mkdir(), "Is a directory"),
        (foreign_database, "another program"),
        (other_format, "has format 99"),
        (overwritten, "damaged"),
        (unknown_effect, "damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_and_code_1(tmp_path, capsys, make, reason):
    make(tmp_path / "state")

    code = main(["--port", "0", "--state", str(tmp_path / "state")])

    error = capsys.readouterr().err
    assert code == 1
    assert error.startswith("cannot start: state file")
    assert reason in error
    assert error.count("\n") == 1


def test_a_folder_that_is_not_there_is_one_line_too(tmp_path, capsys):
    assert main(["--port", "0", "--state", str(tmp_path / "no" / "state")]) == 1
    assert "No such file or directory" in capsys.readouterr().err


def test_the_file_is_its_owners_alone(tmp_path):
    Emulator(EmulatorSettings(state=tmp_path / "state")).close()

    assert (tmp_path / "state").stat().st_mode & 0o077 == 0
