"""
Random sequences of operations against a small model of the service: every answer and everything that is read back has
to agree.

Time stands still but for a hundredth of a second before each request, and operations take one second, so they take
effect in the order in which they were asked for. ``GEOCATALOG_FUZZ_EXAMPLES=1000`` tries that many sequences, other
ones each time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.emulator.clock import ManualClock

START = 1_780_000_000.0
SECOND, WINDOW = 1.0, 3.0  # what operations take; how long a deleted collection's id is refused
UNKNOWN = "00000000-0000-4000-8000-000000000000"
LONG = os.environ.get("GEOCATALOG_FUZZ_EXAMPLES")
COUNTED = ("AddItem", "UpdateItem", "DeleteItem", "IngestionStaticCatalog")

collection_ids = st.sampled_from(["a", "a", "b"])
item_ids = st.sampled_from(["i1", "i2", "r1"])
values = st.integers(0, 9)
picks = st.sampled_from([1, 2, 3, 1, 2, 3, 0])  # 0: an id that the server did not make
chances = st.integers(0, 3)
containers = st.sampled_from(["one", "two"])
names = st.sampled_from(["default", "other"])


class Fails(Exception):
    """An item's part of an operation fails with this code."""


@dataclass
class Operation:
    id: str
    type: str
    collection: str
    due: float
    parts: list[Any]
    undo: Any = None
    history: list[str] = field(default_factory=lambda: ["Pending"])
    failed: int = 0
    code: str | None = None

    @property
    def status(self):
        return {"Finished": "Succeeded"}.get(self.history[-1], self.history[-1])

    @property
    def is_final(self):
        return self.status in ("Succeeded", "Failed", "Canceled")


@dataclass
class Collection:
    title: str
    items: dict[str, int] = field(default_factory=dict)
    ingestions: dict[str, dict[str, Any]] = field(default_factory=dict)
    mosaics: dict[str, str] = field(default_factory=lambda: {"default": "Default"})
    render_options: dict[str, str] = field(default_factory=dict)
    queryables: dict[str, str] = field(default_factory=dict)
    min_zoom: int = 6
    scheme: str = "none"
    deletion: Operation | None = None


def collection_body(collection_id, value):
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    body = {"id": collection_id, "title": f"title {value}", "description": "x", "license": "x", "links": []}
    return {**body, "extent": extent}


def item_body(item_id, value):
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "geometry": {"type": "Point", "coordinates": [8, 47]},
        "bbox": [8, 47, 8, 47],
        "properties": {"datetime": "2026-01-01T00:00:00Z", "value": value},
        "links": [],
        "assets": {},
    }


def has_items(machine):
    return any(one.items for one in machine.collections.values())


def has_ingestions(machine):
    return any(one.ingestions for one in machine.collections.values())


class Catalog(RuleBasedStateMachine):
    """Every rule sends one request, compares its answer, and does the same to the model."""

    server: EmulatorServer
    source_url: str

    @initialize()
    def begin_anew(self):
        self.server.emulator.reset(at=START)
        self.now = START
        self.session = requests.Session()
        self.session.headers["Authorization"] = "Bearer admin-token"
        self.session.params = {"api-version": "2026-04-15"}
        self.collections: dict[str, Collection] = {}
        self.reserved: set[str] = set()
        self.deleted_at: dict[str, float] = {}
        self.sources: dict[str, str] = {}
        self.operations: list[Operation] = []
        self.create_collection("a", 0)
        self.wait(2)
        self.create_items("a", ["i1", "i2"], 0, False)
        self.create_ingestion("a", True)

    # --- time and requests --------------------------------------------------------------------------------------

    def pass_time(self, seconds=0.01):
        """Move the clock, and have what is due happen in the model."""
        self.now += seconds
        self.server.emulator.clock.set(self.now)
        for operation in self.operations:
            if operation.type not in COUNTED and operation.history == ["Pending"]:
                operation.history.append("Running")  # picked up at once here
            if not operation.is_final and operation.due <= self.now:
                self.end(operation)

    def end(self, operation):
        if operation.history == ["Pending"]:
            operation.history.append("Running")
        codes = []
        for part in operation.parts:
            try:
                part(operation.due)
            except Fails as failure:
                codes.append(str(failure))
        operation.failed = len(codes)
        operation.history.append("Failed" if codes else "Finished")
        if codes:
            alone = len(operation.parts) == 1 and not operation.type.startswith("Ingestion")
            operation.code = codes[0] if alone else "ErrorsInBatchOperation"

    def ask(self, method, path, status, **options):
        answer = self.session.request(method, self.server.url + path, timeout=10, **options)
        note(f"{method} {path} -> {answer.status_code}")
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        self.answer = answer.json() if answer.content else None
        return self.answer

    def started(self, kind, collection_id, parts, undo=None):
        """Note the operation that the last answer tells of."""
        assert (self.answer["type"], self.answer["status"]) == (kind, "Pending")
        operation = Operation(self.answer["id"], kind, collection_id, self.now + SECOND, parts, undo)
        self.operations.append(operation)
        return operation

    def pick(self, entries, number):
        """Return one of the ids that the server made, sometimes one that it did not make."""
        entries = list(entries)
        return entries[number % len(entries)] if entries and number else UNKNOWN

    @rule(seconds=st.sampled_from([0.3, 1.1, 1.1, 4.0]))
    def wait(self, seconds):
        self.pass_time(seconds)

    # --- collections --------------------------------------------------------------------------------------------

    @rule(collection_id=collection_ids, value=values)
    def create_collection(self, collection_id, value):
        self.pass_time()
        gone_at = self.deleted_at.get(collection_id)
        refused = collection_id in self.collections or collection_id in self.reserved
        refused = refused or (gone_at is not None and self.now < gone_at + WINDOW)
        self.ask("POST", "/stac/collections", 409 if refused else 202, json=collection_body(collection_id, value))
        if refused:
            return

        def add(at):
            self.reserved.discard(collection_id)
            self.collections[collection_id] = Collection(f"title {value}")

        self.reserved.add(collection_id)
        self.started("AddCollection", collection_id, [add], lambda: self.reserved.discard(collection_id))

    @rule(collection_id=collection_ids, value=values)
    def replace_collection(self, collection_id, value):
        self.pass_time()
        collection = self.collections.get(collection_id)
        body = collection_body(collection_id, value)
        self.ask("PUT", f"/stac/collections/{collection_id}", 200 if collection else 404, json=body)
        if collection:
            collection.title = self.answer["title"]
            assert collection.title == f"title {value}"

    @rule(collection_id=collection_ids, chance=chances)
    def delete_collection(self, collection_id, chance):
        if chance > 1:  # otherwise there is seldom anything in one
            return
        self.pass_time()
        collection = self.collections.get(collection_id)
        self.ask("DELETE", f"/stac/collections/{collection_id}", 202 if collection else 404)
        if collection is None:
            assert self.answer["status"] == 404  # problem details
        elif collection.deletion is not None:
            assert self.answer["id"] == collection.deletion.id
        else:

            def remove(at):
                del self.collections[collection_id]
                self.deleted_at[collection_id] = at

            def undo():
                collection.deletion = None

            collection.deletion = self.started("DeleteCollection", collection_id, [remove], undo)

    # --- items --------------------------------------------------------------------------------------------------

    def write_items(self, method, path, kind, collection_id, parts, body=None):
        """Send a write of items; the parts say what becomes of each item of the collection as it is then."""
        self.pass_time()
        collection = self.collections.get(collection_id)
        self.ask(method, f"/stac/collections/{collection_id}/items{path}", 202 if collection else 404, json=body)
        if collection is None:
            return

        def in_collection(part):
            def effect(at):
                if self.collections.get(collection_id) is not collection:
                    raise Fails("CollectionDoesNotExist")
                part(collection.items)

            return effect

        self.started(kind, collection_id, [in_collection(part) for part in parts])

    @rule(
        collection_id=collection_ids, ids=st.lists(item_ids, min_size=1, max_size=3), value=values, alone=st.booleans()
    )
    def create_items(self, collection_id, ids, value, alone):
        def adding(item_id):
            def add(items):
                if item_id in items:
                    raise Fails("ItemAlreadyExistsInCollection")
                items[item_id] = value

            return add

        ids = ids[:1] if alone else ids
        documents = [item_body(item_id, value) for item_id in ids]
        body = documents[0] if alone else {"type": "FeatureCollection", "features": documents}
        self.write_items("POST", "", "AddItem", collection_id, [adding(item_id) for item_id in ids], body)

    @rule(ids=st.lists(item_ids, min_size=1, max_size=2), value=values)
    def create_more_items(self, ids, value):
        self.create_items("a", ids, value, len(ids) == 1)

    @precondition(has_items)
    @rule(collection_id=collection_ids, item_id=item_ids, value=values, whole=st.booleans())
    def change_item(self, collection_id, item_id, value, whole):
        def change(items):
            if item_id not in items:
                raise Fails("NoRecordsToUpdate")
            items[item_id] = value

        body = item_body(item_id, value) if whole else {"properties": {"value": value}}
        self.write_items("PUT" if whole else "PATCH", f"/{item_id}", "UpdateItem", collection_id, [change], body)

    @precondition(has_items)
    @rule(collection_id=collection_ids, item_id=item_ids)
    def delete_item(self, collection_id, item_id):
        def delete(items):
            if item_id not in items:
                raise Fails("NoRecordsToDelete")
            del items[item_id]

        self.write_items("DELETE", f"/{item_id}", "DeleteItem", collection_id, [delete])

    @precondition(has_items)
    @rule(collection_id=collection_ids, item_id=item_ids)
    def read_item(self, collection_id, item_id):
        self.pass_time()
        collection = self.collections.get(collection_id)
        there = collection is not None and item_id in collection.items
        self.ask("GET", f"/stac/collections/{collection_id}/items/{item_id}", 200 if there else 404)
        assert not there or self.answer["properties"]["value"] == collection.items[item_id]

    @rule(value=values)
    def search(self, value):
        self.pass_time()
        wanted = {"op": "=", "args": [{"property": "value"}, value]}
        self.ask("POST", "/stac/search", 200, json={"filter": wanted, "filter-lang": "cql2-json", "limit": 100})
        found = sorted((item["collection"], item["id"]) for item in self.answer["features"])
        assert found == sorted(
            (collection_id, item_id)
            for collection_id, collection in self.collections.items()
            for item_id, there in collection.items.items()
            if there == value
        )

    # --- sources ------------------------------------------------------------------------------------------------

    @rule(container=containers, number=picks, replace=st.booleans())
    def write_source(self, container, number, replace):
        self.pass_time()
        url = f"https://acct.blob.core.windows.net/{container}"
        info = {"containerUrl": url, "sasToken": "st=2026-01-01T00:00:00Z&se=2027-01-01T00:00:00Z&sr=c&sp=rl&sig=x"}
        body = {"kind": "SasToken", "connectionInfo": info}
        source_id = self.pick(self.sources, number) if replace else None
        if replace and source_id not in self.sources:
            self.ask("PUT", f"/inma/ingestion-sources/{source_id}", 404, json=body)
            return
        taken = any(there == url for other, there in self.sources.items() if other != source_id)
        path = f"/inma/ingestion-sources/{source_id}" if replace else "/inma/ingestion-sources"
        self.ask("PUT" if replace else "POST", path, 409 if taken else 200 if replace else 201, json=body)
        if not taken:
            assert ("created" in self.answer, self.answer["id"] == source_id) == (not replace, replace)
            self.sources[self.answer["id"]] = url

    @rule(number=picks)
    def delete_source(self, number):
        self.pass_time()
        source_id = self.pick(self.sources, number)
        there = self.sources.pop(source_id, None)
        self.ask("DELETE", f"/inma/ingestion-sources/{source_id}", 204 if there else 404)

    @rule(number=picks)
    def read_sources(self, number):
        self.pass_time()
        assert {one["id"] for one in self.ask("GET", "/inma/ingestion-sources", 200)["value"]} == set(self.sources)
        source_id = self.pick(self.sources, number)
        url = self.sources.get(source_id)
        self.ask("GET", f"/inma/ingestion-sources/{source_id}", 200 if url else 404)
        assert not url or self.answer["connectionInfo"]["containerUrl"] == url
        assert "sig" not in str(self.answer)

    # --- ingestion definitions and runs -------------------------------------------------------------------------

    @rule(collection_id=collection_ids, skip=st.booleans())
    def create_ingestion(self, collection_id, skip):
        self.pass_time()
        collection = self.collections.get(collection_id)
        body = {"importType": "StaticCatalog", "sourceCatalogUrl": self.source_url, "skipExistingItems": skip}
        self.ask("POST", f"/inma/collections/{collection_id}/ingestions", 201 if collection else 404, json=body)
        if collection:
            known = {"skip": skip, "name": None, "status": "Ready", "runs": []}
            collection.ingestions[self.answer["id"]] = known

    def ingestion(self, collection_id, number):
        self.pass_time()
        collection = self.collections.get(collection_id)
        ingestion_id = self.pick(collection.ingestions if collection else (), number)
        known = collection.ingestions.get(ingestion_id) if collection else None
        return f"/inma/collections/{collection_id}/ingestions/{ingestion_id}", ingestion_id, known

    @precondition(has_ingestions)
    @rule(collection_id=collection_ids, number=picks, value=values)
    def rename_ingestion(self, collection_id, number, value):
        path, _, known = self.ingestion(collection_id, number)
        self.ask("PATCH", path, 200 if known else 404, json={"displayName": f"name {value}"})
        if known:
            known["name"] = f"name {value}"

    @precondition(has_ingestions)
    @rule(collection_id=collection_ids, number=picks)
    def delete_ingestion(self, collection_id, number):
        path, ingestion_id, known = self.ingestion(collection_id, number)
        refused = known and (known["status"] == "Deleting" or any(not run.is_final for run in known["runs"]))
        self.ask("DELETE", path, 404 if not known else 409 if refused else 202)
        if not known or refused:
            return
        collection = self.collections[collection_id]
        known["status"] = "Deleting"
        self.started("DeleteIngestion", collection_id, [lambda at: collection.ingestions.pop(ingestion_id, None)])

    @precondition(has_ingestions)
    @rule(collection_id=collection_ids, number=picks)
    def start_run(self, collection_id, number):
        path, _, known = self.ingestion(collection_id, number)
        refused = known and known["status"] == "Deleting"
        self.ask("POST", f"{path}/runs", 404 if not known else 409 if refused else 201)
        if not known or refused:
            return

        def storing(item_id):
            def store(at):
                collection = self.collections.get(collection_id)
                if collection is None:
                    raise Fails("CollectionDoesNotExist")
                if not (known["skip"] and item_id in collection.items):
                    collection.items[item_id] = 100

            return store

        run = Operation(
            self.answer["id"],
            "IngestionStaticCatalog",
            collection_id,
            self.now + SECOND,
            [storing("r1"), storing("r2")],
        )
        self.operations.append(run)
        known["runs"].append(run)

    @precondition(has_ingestions)
    @rule(number=picks)
    def start_another_run(self, number):
        self.start_run("a", number)

    # --- operations ---------------------------------------------------------------------------------------------

    def cancel(self, operation):
        if operation.is_final or operation.type == "DeleteIngestion":
            return
        began = "Running" in operation.history
        operation.history = [*operation.history, "Canceled"] if began else ["Canceled"]
        operation.code = "CanceledOperation"
        if operation.undo:
            operation.undo()

    @rule(number=st.integers(0, 30), chance=chances)
    def cancel_one(self, number, chance):
        if chance > 1:
            return
        self.pass_time()
        operation = next((one for one in reversed(self.operations) if not one.is_final), None)
        if number > 20 or operation is None:
            operation = self.operations[number % len(self.operations)]
        self.ask("DELETE", f"/inma/operations/{operation.id}", 400 if operation.is_final else 204)
        if self.answer:
            assert self.answer["error"]["message"].endswith(f"current status: '{operation.status}'")
        self.cancel(operation)

    @rule(chance=chances)
    def cancel_all(self, chance):
        if chance:
            return
        self.pass_time()
        self.ask("DELETE", "/inma/operations", 204)
        for operation in self.operations:
            self.cancel(operation)

    @invariant()
    def operations_agree(self):
        self.pass_time()
        listed = self.ask("GET", "/inma/operations", 200)["value"]
        assert [one["id"] for one in listed] == [one.id for one in reversed(self.operations)]
        for shown, known in zip(listed, reversed(self.operations), strict=True):
            history = [change["status"] for change in shown["statusHistory"]]
            assert (shown["status"], history) == (known.status, known.history), (shown, known)
            assert shown["statusHistory"][-1].get("errorCode") == known.code, (shown, known)
            if known.type in COUNTED and known.is_final and known.status != "Canceled":
                assert shown["additionalInformation"]["TotalItems"] == str(len(known.parts))
                assert shown["additionalInformation"]["TotalFailedItems"] == str(known.failed), (shown, known)

    # --- configurations -----------------------------------------------------------------------------------------

    def configure(self, collection_id, kind, entries, method, name, body, missing_is_added):
        """Send a change of an entry that has a name; entries are what the model knows."""
        there = entries is not None and name in entries
        if entries is None or there == missing_is_added:
            status = 404 if entries is None or not missing_is_added else 409
        else:
            status = 201 if missing_is_added else 200
        path = f"/stac/collections/{collection_id}/{kind}" + ("" if missing_is_added else f"/{name}")
        self.ask(method, path, status, json=body)
        return status < 300

    @rule(
        collection_id=collection_ids,
        kind=st.sampled_from(["mosaics", "render-options", "queryables"]),
        name=names,
        value=values,
        method=st.sampled_from(["POST", "PUT", "DELETE"]),
    )
    def write_configuration(self, collection_id, kind, name, value, method):
        self.pass_time()
        collection = self.collections.get(collection_id)
        entries = getattr(collection, kind.replace("-", "_")) if collection else None
        text = f"name {value}"
        body = {"id": name, "name": text, "type": "raster-tile"}
        if kind == "queryables":
            body = {"name": name, "definition": {"type": "string", "title": text}}
            body = [body] if method == "POST" else body
        path = kind if kind == "queryables" else f"configurations/{kind}"
        changed = self.configure(
            collection_id, path, entries, method, name, None if method == "DELETE" else body, method == "POST"
        )
        if changed and method == "DELETE":
            del entries[name]
        elif changed:
            entries[name] = text

    @rule(collection_id=collection_ids, zoom=values)
    def set_tile_settings(self, collection_id, zoom):
        self.pass_time()
        collection = self.collections.get(collection_id)
        path = f"/stac/collections/{collection_id}/configurations/tile-settings"
        self.ask("PUT", path, 200 if collection else 404, json={"minZoom": zoom, "maxItemsPerTile": 35})
        if collection:
            collection.min_zoom = zoom

    @rule(collection_id=collection_ids, scheme=st.sampled_from(["year", "month", "none"]))
    def set_partition_type(self, collection_id, scheme):
        self.pass_time()
        collection = self.collections.get(collection_id)
        path = f"/stac/collections/{collection_id}/configurations/partition-type"
        refused = collection is not None and bool(collection.items)
        self.ask("PUT", path, 404 if collection is None else 400 if refused else 200, json={"scheme": scheme})
        if collection and not refused:
            collection.scheme = scheme

    # --- reading everything back --------------------------------------------------------------------------------

    @rule()
    def read_everything(self):
        self.pass_time()
        listed = self.ask("GET", "/stac/collections", 200)["collections"]
        assert {one["id"]: one["title"] for one in listed} == {
            name: collection.title for name, collection in self.collections.items()
        }
        for collection_id, collection in self.collections.items():
            self.read_collection(f"/stac/collections/{collection_id}", collection)
            listed = self.ask("GET", f"/inma/collections/{collection_id}/ingestions", 200)["value"]
            shown = [(one["id"], one.get("displayName"), one["status"]) for one in listed]
            assert shown == [(name, one["name"], one["status"]) for name, one in collection.ingestions.items()]
            for ingestion_id, known in collection.ingestions.items():
                self.read_runs(f"/inma/collections/{collection_id}/ingestions/{ingestion_id}/runs", known["runs"])

    def read_collection(self, path, collection):
        items = self.ask("GET", f"{path}/items", 200, params={"limit": 100})["features"]
        assert {one["id"]: one["properties"]["value"] for one in items} == collection.items
        configuration = self.ask("GET", f"{path}/configurations", 200)
        mosaic_info = configuration["mosaicInfo"]
        assert {one["id"]: one["name"] for one in mosaic_info["mosaics"]} == collection.mosaics
        assert {one["id"]: one["name"] for one in mosaic_info["renderOptions"]} == collection.render_options
        assert configuration["tileSettings"]["minZoom"] == collection.min_zoom
        assert self.ask("GET", f"{path}/configurations/partition-type", 200) == {"scheme": collection.scheme}
        queryables = self.ask("GET", f"{path}/queryables", 200)["properties"]
        custom = {name: one["title"] for name, one in queryables.items() if name not in ("id", "datetime", "geometry")}
        assert custom == collection.queryables

    def read_runs(self, path, runs):
        listed = self.ask("GET", path, 200)["value"]
        assert [one["id"] for one in listed] == [run.id for run in reversed(runs)]
        for run in runs:
            shown = self.ask("GET", f"{path}/{run.id}", 200)["operation"]
            assert (shown["id"], shown["status"], shown["totalFailedItems"]) == (run.id, run.status, run.failed)

    def teardown(self):
        if hasattr(self, "session"):
            self.wait(10)
            self.read_everything()
            self.session.close()


@pytest.fixture
def catalog(tmp_path, catalogs):
    """The machine, with an emulator and a static catalog of two items."""
    for item_id in ("r1", "r2"):
        catalogs.write(f"items/{item_id}.json", item_body(item_id, 100))
    url = catalogs.catalog(items=["items/r1.json", "items/r2.json"])
    chosen = {"pending_seconds": SECOND, "collection_seconds": SECOND, "recreate_after": WINDOW}
    options = EmulatorSettings.fast(admin_tokens=("admin-token",), allowed_paths=(tmp_path / "allowed",), **chosen)
    with EmulatorServer(Emulator(options, ManualClock(START))) as server:
        yield type("TheCatalog", (Catalog,), {"server": server, "source_url": url})


@pytest.mark.timeout(0 if LONG else 120)
def test_random_sequences_of_operations_agree_with_a_model(catalog):
    run_state_machine_as_test(
        catalog,
        settings=settings(
            max_examples=int(LONG or 25),
            stateful_step_count=40,
            derandomize=LONG is None,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
