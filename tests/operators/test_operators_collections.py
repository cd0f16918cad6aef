"""Collections and their configuration, on the emulator."""

from __future__ import annotations

import json
from pathlib import Path

import pystac
import pytest

from airflow_provider_geocatalog.api.dialects import API_VERSIONS
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.collections import (
    GeoCatalogCreateCollectionOperator,
    GeoCatalogDeleteCollectionOperator,
    GeoCatalogUpdateCollectionOperator,
)
from airflow_provider_geocatalog.operators.configuration import GeoCatalogConfigureCollectionOperator

DATASETS = Path(__file__).parents[3] / "shared" / "data" / "mpcpro-sample-datasets"


def create(document, **arguments):
    return GeoCatalogCreateCollectionOperator(task_id="create", collection=document, **arguments)


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("version", API_VERSIONS)
def test_a_collection_lives_and_dies_in_every_version(world, reconnect, documents, version, deferrable):
    reconnect(api_version=version)

    created = world.run(create(documents(), deferrable=deferrable))
    deleted = world.run(
        GeoCatalogDeleteCollectionOperator(task_id="delete", collection_id="demo", deferrable=deferrable)
    )
    absent = world.run(GeoCatalogDeleteCollectionOperator(task_id="delete", collection_id="demo"))

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


def test_a_second_run_with_the_same_document_writes_nothing(world, documents):
    world.run(create(documents()))
    before = list(world.writes)

    again = world.run(create(documents(), if_exists="update"))
    same = world.run(GeoCatalogUpdateCollectionOperator(task_id="update", collection=documents()))

    assert (again["action"], same["action"], world.writes) == ("unchanged", "unchanged", before)


def test_if_exists_decides_what_happens_to_an_existing_collection(world, documents):
    world.run(create(documents()))

    with pytest.raises(GeoCatalogTaskFailed, match="exists already"):
        world.run(create(documents()))
    changed = world.run(create(documents(title="new"), if_exists="update"))

    assert changed["action"] == "updated"


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
