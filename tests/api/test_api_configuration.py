"""Configuring a collection makes the writes that are needed and no others."""

from __future__ import annotations

import pytest

from airflow_provider_geocatalog.api import errors
from airflow_provider_geocatalog.api.flows.configuration import configure_collection
from tests.fakes.stepping import Steps, answer

OPTION = {"id": "rgb", "name": "RGB", "type": "raster-tile", "options": "assets=image", "legend": {"type": "none"}}
MOSAIC = {"id": "recent", "name": "Recent", "cql": []}
TILES = {"minZoom": 6, "maxItemsPerTile": 35}


class Configurations:
    """What a collection has, answering as the service does: unset members come back as null."""

    def __init__(self):
        self.kept = {"render-options": {}, "mosaics": {"default": {"id": "default", "name": "Default", "cql": []}}}
        self.tiles = {"minZoom": 12, "maxItemsPerTile": 10, "defaultLocation": None}

    def __call__(self, request):
        kind = next((kind for kind in self.kept if kind in request.path), None)
        method = request.endpoint.method
        if kind is None:
            if method == "PUT":
                self.tiles = {**dict.fromkeys(self.tiles), **request.body}
            return answer(200, self.tiles)
        entries = self.kept[kind]
        if method == "GET":
            return answer(200, [{"description": None, "minZoom": None, **entry} for entry in entries.values()])
        if method == "DELETE":
            del entries[request.path.rsplit("/", 1)[-1]]
            return answer(200)
        entries[request.body["id"]] = request.body
        return answer(201 if method == "POST" else 200, request.body)


def configure(service, **wanted):
    steps = Steps(service)
    return steps.run(configure_collection("c", **wanted)), steps


def test_a_second_call_writes_nothing():
    service = Configurations()
    wanted = {"render_options": [OPTION], "mosaics": [MOSAIC], "tile_settings": TILES}

    first, _ = configure(service, **wanted)
    second, steps = configure(service, **wanted)

    assert (first.created, first.replaced) == (["render-options/rgb", "mosaics/recent"], ["tile-settings"])
    assert steps.writes == []
    assert second.unchanged == ["render-options/rgb", "mosaics/recent", "tile-settings"]


def test_only_what_differs_is_replaced():
    service = Configurations()
    configure(service, render_options=[OPTION], mosaics=[MOSAIC])

    change, steps = configure(service, render_options=[{**OPTION, "name": "Colour"}], mosaics=[MOSAIC])

    assert steps.writes == ["replace_render_option"]
    assert (change.replaced, change.unchanged) == (["render-options/rgb"], ["mosaics/recent"])


def test_a_member_that_is_no_longer_wanted_is_a_difference():
    service = Configurations()
    configure(service, render_options=[OPTION])

    _, steps = configure(service, render_options=[{k: v for k, v in OPTION.items() if k != "legend"}])

    assert steps.writes == ["replace_render_option"]


def test_what_is_not_given_is_not_looked_at():
    _, steps = configure(Configurations(), mosaics=[])

    assert steps.sent == ["list_mosaics"]


def test_superfluous_entries_are_removed_only_when_asked_and_last():
    service = Configurations()

    kept, _ = configure(service, mosaics=[MOSAIC])
    pruned, steps = configure(service, mosaics=[{**MOSAIC, "id": "other"}], prune=True)

    assert kept.removed == []
    assert sorted(pruned.removed) == ["mosaics/default", "mosaics/recent"]
    assert steps.writes == ["add_mosaic", "delete_mosaic", "delete_mosaic"]


def test_a_missing_collection_is_an_error():
    with pytest.raises(errors.GeoCatalogNotFound):
        Steps(answer(404)).run(configure_collection("c", mosaics=[MOSAIC]))
