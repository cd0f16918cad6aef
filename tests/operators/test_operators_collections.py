"""Collections and their configuration, on the emulator."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import pystac
import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_geocatalog.api.dialects import API_VERSIONS
from airflow_provider_geocatalog.api.errors import GeoCatalogOperationFailed, GeoCatalogWaitTimeout
from airflow_provider_geocatalog.api.flows.waiting import complete
from airflow_provider_geocatalog.api.operations.items import create_item
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.collections import (
    GeoCatalogCreateCollectionOperator,
    GeoCatalogDeleteCollectionOperator,
    GeoCatalogUpdateCollectionOperator,
)
from airflow_provider_geocatalog.operators.configuration import GeoCatalogConfigureCollectionOperator
from airflow_provider_geocatalog.triggers.moments import GeoCatalogMomentTrigger

DATASETS = Path(__file__).parents[3] / "shared" / "data" / "mpcpro-sample-datasets"


def create(document, **arguments):
    return GeoCatalogCreateCollectionOperator(task_id="create", collection=document, **arguments)


def delete(**arguments):
    return GeoCatalogDeleteCollectionOperator(task_id="delete", collection_id="demo", **arguments)


def update(document, **arguments):
    return GeoCatalogUpdateCollectionOperator(task_id="update", collection=document, **arguments)


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("version", API_VERSIONS)
def test_a_collection_lives_and_dies_in_every_version(world, reconnect, documents, version, deferrable):
    reconnect(api_version=version)

    created = world.run(create(documents(), deferrable=deferrable))
    deleted = world.run(delete(deferrable=deferrable))
    absent = world.run(delete())

    assert [answer["action"] for answer in (created, deleted, absent)] == ["created", "deleted", "absent"]


def test_a_collection_may_be_given_in_many_forms(world, documents, tmp_path):
    path = tmp_path / "collection.json"
    path.write_text(json.dumps(documents("path")))
    url = f"{world.server.url}/_emulator/storage/box/x.json"  # private, so it cannot be read
    forms = [documents("dict"), json.dumps(documents("text")), str(path), pystac.Collection.from_dict(documents("obj"))]

    ids = [world.run(create(form))["collection_id"] for form in forms]

    assert ids == ["dict", "text", "path", "obj"]
    assert world.run(create(path.as_uri(), if_exists="skip"))["action"] == "skipped"
    with pytest.raises(GeoCatalogTaskFailed, match="cannot be read from"):
        world.run(create(url))


def test_no_traceback_has_the_secret_in_a_url_that_cannot_be_read(world):
    refused = f"{world.server.url}/_emulator/storage/box/x.json?token=topSecret"
    nobody = "http://127.0.0.1:9/x.json?token=topSecret"

    with pytest.raises(GeoCatalogTaskFailed, match=r"cannot be read from .* \(ConnectionError\)") as unreachable:
        world.run(create(nobody))
    with pytest.raises(GeoCatalogTaskFailed, match=r"cannot be read from .* \(4\d\d .*\)") as answered:
        world.run(create(refused))

    for caught in (unreachable, answered):
        assert "topSecret" not in "".join(traceback.format_exception(caught.value))


def test_a_second_run_with_the_same_document_writes_nothing(world, documents):
    world.run(create(documents()))
    before = list(world.writes)

    again = world.run(create(documents(), if_exists="update"))
    same = world.run(update(documents()))

    assert (again["action"], same["action"], world.writes) == ("unchanged", "unchanged", before)


def test_if_exists_decides_what_happens_to_an_existing_collection(world, documents):
    world.run(create(documents()))

    with pytest.raises(GeoCatalogTaskFailed, match="exists already"):
        world.run(create(documents()))
    changed = world.run(create(documents(title="new"), if_exists="update"))

    assert (changed["action"], changed["changed"]) == ("updated", ["title"])


def test_a_retry_of_the_task_that_created_the_collection_is_no_conflict(world, documents):
    world.run(create(documents()))

    assert world.run(create(documents()), try_number=2)["action"] == "created"


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("[1, 2", "is not JSON"),
        ("/nowhere/collection.json", "cannot be read"),
        ({"id": "x"}, "'license' is missing"),
        ("id", "'id' is missing"),
        ("extent", "'extent' is missing"),
        ({"id": "a b"}, "may only have letters"),
        ({"assets": {}}, "'assets' must not be sent"),
        ({"type": "Feature"}, "'type' is 'Feature'"),
    ],
)
def test_a_bad_collection_is_refused_before_anything_is_sent(world, documents, document, complaint):
    if document in ("id", "extent"):
        document = {name: value for name, value in documents().items() if name != document}
    elif isinstance(document, dict) and document != {"id": "x"}:
        document = {**documents(), **document}

    with pytest.raises(GeoCatalogTaskFailed, match=complaint):
        world.run(create(document))
    assert world.server.emulator.requests == [] or not list(world.server.emulator.requests)


# --- an id that is not free yet --------------------------------------------------------------------------------------


class Jumping:
    """A clock whose pauses pass at once, for the client and for the emulator."""

    def __init__(self, emulator):
        self.emulator, self.pauses = emulator, []

    def time(self):
        return self.emulator.clock.now()

    def monotonic(self):
        return time.monotonic()

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.emulator.clock.advance(seconds)


@pytest.fixture
def clock(world):
    """Have the blocking client wait on the emulator's clock."""
    client = GeoCatalogHook().client
    usual, client.clock = client.clock, Jumping(world.server.emulator)
    yield client.clock
    client.clock = usual


RULE = pytest.mark.parametrize("world", [{"recreate_after": 45.0}], indirect=True)


@RULE
@pytest.mark.parametrize("version", API_VERSIONS)
def test_a_deleted_collection_is_created_again_as_soon_as_its_id_is_free(
    world, reconnect, documents, version, monkeypatch
):
    reconnect(api_version=version)
    world.run(create(documents()))
    world.run(delete())
    client = GeoCatalogHook().client
    monkeypatch.setattr(client, "clock", Jumping(world.server.emulator))

    again = world.run(create(documents(title="second")))

    assert again["action"] == "created"
    # Where deletions have no operation, nothing tells when the id is free.
    assert 44 <= sum(client.clock.pauses) <= (52 if version == "2024-01-31-preview" else 46.5)
    assert world.server.emulator.world.collections["demo"].document["title"] == "second"


TI = SimpleNamespace(try_number=1, xcom_push=lambda key, value: None)


def deferral(run):
    with pytest.raises(TaskDeferred) as caught:
        run()
    return caught.value


def resume(operator, deferred):
    """Fire a trigger that has gone through JSON, and go on in the task."""
    path, arguments = deferred.trigger.serialize()
    assert path == f"{GeoCatalogMomentTrigger.__module__}.{GeoCatalogMomentTrigger.__qualname__}"
    trigger = GeoCatalogMomentTrigger(**json.loads(json.dumps(arguments)))
    trigger.moment = min(trigger.moment, time.time() + 0.1)  # the emulator's clock has been moved on instead

    async def fire():
        return await anext(trigger.run())

    return getattr(operator, deferred.method_name)({"ti": TI}, event=asyncio.run(fire()).payload)


@RULE
def test_a_deferrable_task_waits_for_its_id_in_the_triggerer(world, documents):
    world.run(create(documents()))
    world.run(delete())
    operator = create(documents(), deferrable=True, wait_for_completion=False)

    started = time.time()
    first = deferral(lambda: operator.execute({"ti": TI}))
    waits_for = first.trigger.moment - started
    # Woken up too early, it waits again for the rest.
    world.server.emulator.clock.advance(20)
    second = deferral(lambda: resume(operator, first))
    world.server.emulator.clock.advance(26)
    created = resume(operator, second)

    assert 44 < waits_for < 47
    assert time.time() - started < 10  # no worker waited
    assert first.timeout.total_seconds() > waits_for
    assert created["action"] == "created"
    assert world.writes.count("create_collection") == 4


@pytest.mark.parametrize("world", [{"recreate_after": 2.0, "collection_deletion": "204"}], indirect=True)
def test_without_any_clock_but_the_machines_the_id_is_waited_for_as_well(world, documents):
    world.run(create(documents()))
    world.run(delete())

    again = world.run(create(documents(), deferrable=True, wait_for_completion=False))

    assert again["action"] == "created"
    assert world.writes.count("create_collection") == 3


@RULE
def test_the_wait_for_an_id_ends_with_the_task_s_time(world, documents):
    world.run(create(documents()))
    world.run(delete())

    for deferrable in (True, False):
        with pytest.raises(GeoCatalogWaitTimeout, match="did not become free in time"):
            world.run(create(documents(), deferrable=deferrable, timeout=20))


@RULE
def test_a_collection_that_is_still_being_deleted_is_no_conflict(world, clock, documents):
    world.run(create(documents()))
    world.server.emulator.faults.add("hold", types=["DeleteCollection"], seconds=30)
    world.run(delete(wait_for_completion=False))

    again = world.run(create(documents(title="second"), if_exists="skip"))

    assert again["action"] == "created"
    assert 70 < sum(clock.pauses) < 85
    assert world.server.emulator.world.collections["demo"].document["title"] == "second"


# --- deleting ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(world, documents):
    """A collection with three items."""
    world.run(create(documents()))
    items = [
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": f"item-{number}",
            "collection": "demo",
            "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
            "bbox": [1.0, 2.0, 1.0, 2.0],
            "properties": {"datetime": "2024-01-01T00:00:00Z"},
            "links": [],
            "assets": {},
        }
        for number in range(3)
    ]
    hook = GeoCatalogHook()
    body = {"type": "FeatureCollection", "features": items}
    hook.run(complete(hook.run(create_item("demo", body)), poll_interval=0.1))
    return world


@pytest.mark.parametrize("confirmed", [{}, {"confirm_items": 2}, {"confirm_items": "0"}])
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_collection_with_items_is_not_deleted_without_a_word_for_them(filled, confirmed, dry_run):
    with pytest.raises(GeoCatalogTaskFailed, match=r"holds 3 items.*confirm_items='all'"):
        filled.run(delete(dry_run=dry_run, **confirmed))
    assert "delete_collection" not in filled.writes
    assert "demo" in filled.server.emulator.world.collections


@pytest.mark.parametrize("confirmed", ["all", 3, "3", 1_000_000])
@pytest.mark.parametrize("deferrable", [True, False])
def test_confirmed_items_are_deleted_with_their_collection(filled, confirmed, deferrable):
    assert filled.run(delete(confirm_items=confirmed, deferrable=deferrable))["action"] == "deleted"
    assert "demo" not in filled.server.emulator.world.collections


def test_a_dry_run_of_a_deletion_counts_items_by_gets_alone(filled):
    before = len(filled.server.emulator.requests)

    assert filled.run(delete(dry_run=True, confirm_items=3))["action"] == "deleted"
    assert {request.method for request in list(filled.server.emulator.requests)[before:]} == {"GET"}


@pytest.mark.parametrize("confirmed", ["yes", -1, True, None, 1.5, ""])
def test_a_confirmation_that_is_neither_a_number_nor_all_is_refused_with_all_else(world, confirmed):
    operator = GeoCatalogDeleteCollectionOperator(task_id="delete", collection_id="a b", confirm_items=confirmed)

    with pytest.raises(GeoCatalogTaskFailed, match=r"expected a number of items, or 'all'; .*may only have letters"):
        world.run(operator)
    assert not list(world.server.emulator.requests)


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_deletion_whose_answer_was_lost_is_waited_for(world, documents, deferrable):
    world.run(create(documents()))
    world.server.emulator.faults.add("drop", operations=["delete_collection"], handled=True, times=1)

    deleted = world.run(delete(deferrable=deferrable))

    assert (deleted["action"], deleted["operation"]["type"]) == ("deleted", "DeleteCollection")
    assert "demo" not in world.server.emulator.world.collections


@pytest.mark.parametrize("world", [{"collection_deletion": "202"}, {"collection_deletion": "204"}], indirect=True)
def test_a_deletion_ends_when_the_read_side_shows_nothing_any_more(world, clock, documents):
    world.run(create(documents()))
    emulator = world.server.emulator
    emulator.faults.add("status", operations=["get_collection"], status=503, times=3)
    before = len(emulator.requests)

    deleted = world.run(delete())

    looks = [request.operation for request in list(emulator.requests)[before:]].count("get_collection")
    assert (deleted["action"], looks) == ("deleted", 4)


def test_a_deletion_that_fails_fails_the_task(world, documents):
    world.run(create(documents()))
    world.server.emulator.faults.add("end_operation", types=["DeleteCollection"], status="Failed")

    with pytest.raises(GeoCatalogOperationFailed, match="deleting collection 'demo' failed"):
        world.run(delete())
    assert "demo" in world.server.emulator.world.collections


# --- dry runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_dry_run_tells_the_writes_and_sends_none_of_them(world, documents, deferrable):
    new = world.run(create(documents(), dry_run=True, deferrable=deferrable))
    nothing = world.run(delete(dry_run=True, deferrable=deferrable))
    before = list(world.writes)
    world.run(create(documents()))
    written = list(world.writes)
    changed = world.run(update(documents(title="new"), dry_run=True))
    same = world.run(create(documents(), if_exists="update", dry_run=True, deferrable=deferrable))
    gone = world.run(delete(dry_run=True, deferrable=deferrable))

    assert (before, world.writes) == ([], written)
    assert [answer["action"] for answer in (new, nothing, changed, same, gone)] == [
        *("created", "absent", "updated", "unchanged", "deleted")
    ]
    assert all(answer["dry_run"] for answer in (new, nothing, changed, same, gone))
    assert [[write["operation"] for write in answer["plan"]] for answer in (new, nothing, changed, same, gone)] == [
        ["create_collection"],
        [],
        ["replace_collection"],
        [],
        ["delete_collection"],
    ]
    assert new["plan"][0] == {
        "operation": "create_collection",
        "method": "POST",
        "path": "/collections",
        "subject": "demo",
    }


def test_a_dry_run_fails_as_the_real_one_would(world, documents):
    with pytest.raises(GeoCatalogTaskFailed, match="not found"):
        world.run(update(documents(), dry_run=True))
    with pytest.raises(GeoCatalogTaskFailed, match="not found"):
        world.run(delete(if_missing="fail", dry_run=True))
    world.run(create(documents()))
    with pytest.raises(GeoCatalogTaskFailed, match="exists already"):
        world.run(create(documents(), dry_run=True))


@RULE
def test_a_dry_run_does_not_wait_for_an_id(world, documents):
    world.run(create(documents()))
    world.server.emulator.faults.add("hold", types=["DeleteCollection"])
    world.run(delete(wait_for_completion=False))
    before = list(world.writes)

    for deferrable in (True, False):
        planned = world.run(create(documents(), dry_run=True, deferrable=deferrable))
        assert [write["operation"] for write in planned["plan"]] == ["create_collection"]
    assert world.writes == before


# --- configuration ----------------------------------------------------------------------------------------------------


def configure(**arguments):
    return GeoCatalogConfigureCollectionOperator(task_id="configure", collection_id="demo", **arguments)


OPTION = {"id": "natural", "name": "Natural", "type": "raster-tile", "options": "assets=image", "minZoom": 6}


def test_a_configuration_is_written_once(world, documents):
    world.run(create(documents()))
    wanted = {
        "render_options": [OPTION],
        "mosaics": json.dumps([{"id": "m", "name": "M", "cql": []}]),
        "tile_settings": {"minZoom": 7, "maxItemsPerTile": 20},
    }

    first = world.run(configure(**wanted))
    before = list(world.writes)
    second = world.run(configure(**wanted))

    assert first["created"] == ["render-options/natural", "mosaics/m"]
    assert (second["created"], second["replaced"], world.writes) == ([], [], before)


def test_pruning_removes_what_is_not_wanted(world, documents):
    world.run(create(documents()))
    world.run(configure(render_options=[OPTION, {**OPTION, "id": "other"}]))

    pruned = world.run(configure(render_options=[OPTION], prune=True))

    assert pruned["removed"] == ["render-options/other"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([{**OPTION, "id": "Natural Color!"}], "use 'natural-color'"),
        ([{**OPTION, "id": "x" * 31}], "at most 30"),
        ([OPTION, OPTION], "occurs more than once"),
        ([{**OPTION, "type": "tiles"}], "not one of raster-tile"),
        ({"id": "a"}, "a JSON list"),
    ],
)
def test_render_options_that_the_service_refuses_are_never_sent(world, options, complaint):
    with pytest.raises(GeoCatalogTaskFailed, match=complaint):
        world.run(configure(render_options=options))
    assert world.writes == []


@pytest.mark.skipif(not DATASETS.is_dir(), reason=f"the sample datasets are not at {DATASETS}")
@pytest.mark.parametrize("folder", ["planetary_computer/naip", "maxar/open-data-program"])
def test_published_configurations_apply_as_they_are(world, documents, folder):
    config = DATASETS / folder / "config"
    created = world.run(create(str(config / "collection.json")))["collection_id"]
    operator = GeoCatalogConfigureCollectionOperator(
        task_id="configure", collection_id=created, config_folder=str(config)
    )

    change = world.run(operator)
    again = world.run(operator)

    assert any(name.startswith("render-options/") for name in change["created"])
    assert (again["created"], again["replaced"]) == ([], [])
