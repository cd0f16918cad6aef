"""Plans of collections, stepped by hand: what is compared, the order of the writes, and how a plan is shown."""

from __future__ import annotations

import json

import pytest

from airflow_provider_geocatalog.api import errors
from airflow_provider_geocatalog.api.collection_plan import (
    Action,
    CollectionPlan,
    Difference,
    GeoCatalogDrift,
    PlanEntry,
    WantedAsset,
    WantedCollection,
)
from airflow_provider_geocatalog.api.flows.collection_export import export_collection
from airflow_provider_geocatalog.api.flows.collection_plan import apply_collection, plan_collection
from airflow_provider_geocatalog.api.http import FilePart
from airflow_provider_geocatalog.api.operations.collections import Thumbnail
from tests.fakes.stepping import Steps, answer

COLLECTION = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": "c",
    "description": "d",
    "license": "MIT",
    "extent": {"spatial": {"bbox": [[0, 0, 1, 1]]}, "temporal": {"interval": [[None, None]]}},
}
OPTION = {"id": "rgb", "name": "RGB", "type": "raster-tile", "options": "assets=image"}
REPORT = WantedAsset("report", {"title": "Report"}, FilePart("report.pdf", b"%PDF", "application/pdf"))


class Service:
    """A collection that answers reads as the service does: what is unset comes back as null."""

    def __init__(self, **state):
        self.collection = {**COLLECTION, "links": [{"rel": "self", "href": "x"}], "msft:_created": "2024"}
        self.state = {
            "render-options": [],
            "mosaics": [{"id": "default", "name": "Default", "description": "", "cql": []}],
            "tile-settings": {"minZoom": 0, "maxItemsPerTile": 10, "defaultLocation": None},
            "partition-type": {"scheme": "none"},
            "queryables": {"properties": {"id": {}, "datetime": {}, "geometry": {}}},
            "items": {"type": "FeatureCollection", "features": []},
            **state,
        }
        self.is_there = True

    def __call__(self, request):
        if request.endpoint.method == "POST" and request.endpoint.name == "create_collection":
            self.is_there = True
            return answer(201, request.body)
        if request.endpoint.method != "GET":
            return answer(200, request.body if isinstance(request.body, dict | list) else {})
        if not self.is_there:
            return answer(404)
        last = request.path.rsplit("/", 1)[-1]
        found = self.state.get(last, self.collection)
        if isinstance(found, list):
            found = [{"description": None, "minZoom": None, "legend": None, **entry} for entry in found]
        return answer(200, found)


def plan(service, *, prune=False, **wanted):
    steps = Steps(service)
    return steps.run(plan_collection(WantedCollection("c", **wanted), prune=prune)), steps


def apply(service, *, prune=False, approved=None, **wanted):
    steps = Steps(service)
    return steps.run(apply_collection(WantedCollection("c", **wanted), prune=prune, approved=approved)), steps


def test_what_reads_fill_in_is_no_difference():
    found, _ = plan(
        Service(**{"render-options": [{**OPTION, "description": ""}]}),
        collection={**COLLECTION, "links": [], "title": None},
        render_options=(OPTION,),
        mosaics=({"id": "default", "name": "Default"},),
        tile_settings={"maxItemsPerTile": 10},
        partition_type="none",
    )

    assert found.changes == ()
    assert len(found.entries) == 5


def test_sections_that_are_absent_are_not_even_read():
    _, steps = plan(Service(), tile_settings={"minZoom": 1})

    assert steps.sent == ["get_collection", "get_tile_settings"]


def test_deletions_come_after_everything_else():
    service = Service(**{"render-options": [{**OPTION, "id": "old"}]})
    service.collection["assets"] = {"old": {"href": "https://x/collection-assets/old/a.txt", "title": "old"}}

    _, steps = apply(
        service,
        prune=True,
        partition_type="month",
        render_options=(OPTION,),
        mosaics=({"id": "m", "name": "M"},),
        assets=(REPORT,),
    )

    assert steps.writes == [
        "replace_partition_type",
        "create_render_option",
        "add_mosaic",
        "create_collection_asset",
        "delete_render_option",
        "delete_mosaic",
        "delete_collection_asset",
    ]


def test_a_plan_is_the_same_each_time():
    names = [f"m{number}" for number in range(12)]
    service = Service(mosaics=[{"id": name, "name": name, "description": "", "cql": []} for name in names])

    found, _ = plan(service, prune=True, mosaics=({"id": "m0", "name": "m0"},))

    assert [entry.entry_id for entry in found.changes] == names[1:]


def test_what_a_new_collection_has_is_read_after_its_creation():
    service = Service()
    service.is_there = False

    found, steps = apply(service, collection=COLLECTION, mosaics=({"id": "default", "name": "All"},))

    assert [entry.action for entry in found.entries] == [Action.CREATE, Action.REPLACE]
    assert steps.writes == ["create_collection", "replace_mosaic"]
    assert steps.sent.index("list_mosaics") > steps.sent.index("create_collection")


def test_a_tile_setting_that_the_document_does_not_have_stays():
    _, steps = apply(Service(), tile_settings={"minZoom": 3})

    assert steps.requests[-1].body == {"minZoom": 3, "maxItemsPerTile": 10, "defaultLocation": None}


def test_a_hash_in_the_name_of_a_stored_file_tells_whether_it_is_the_same():
    service = Service()
    _, steps = apply(service, assets=(REPORT,))
    sent = steps.requests[-1].body
    service.collection["assets"] = {"report": {**sent.data, "href": f"https://x/c/{sent.file.filename}?sig=1"}}

    same, _ = plan(service, assets=(REPORT,))
    other, _ = plan(service, assets=(WantedAsset("report", {}, FilePart("report.pdf", b"%PDF2")),))

    assert (sent.file.filename[:7], sent.file.filename[-4:], len(sent.file.filename)) == ("report-", ".pdf", 27)
    assert (sent.data["roles"], sent.data["type"]) == (["data"], "application/pdf")
    assert same.changes == ()
    assert [one.member for one in other.changes[0].differences] == ["file"]


@pytest.mark.parametrize("present", [True, False])
def test_an_asset_without_a_file_is_compared_and_cannot_be_written(present):
    service = Service()
    if present:
        service.collection["assets"] = {"report": {"href": "https://x/a.pdf", "title": "Old"}}
    steps = Steps(service)

    with pytest.raises(errors.GeoCatalogConflict, match="file"):
        steps.run(apply_collection(WantedCollection("c", assets=(WantedAsset("report", {"title": "New"}),))))
    assert steps.writes == []


def test_a_stored_name_cannot_lead_an_export_out_of_its_folder():
    service = Service()
    service.collection["assets"] = {"thumbnail": {"href": "https://x/c/thumbnail/..%2F..%2Fetc%2Fa.png"}}
    picture = Thumbnail(b"\x89PNG\r\n\x1a\n", "image/png")

    def with_thumbnail(request):
        if request.path.endswith("/thumbnail"):
            return type(answer())(200, {"content-type": picture.media_type}, picture.content)
        return service(request)

    exported = Steps(with_thumbnail).run(export_collection("c"))

    assert exported.thumbnail.filename == exported.document["assets"]["thumbnail"]["file"] == "a.png"


def test_only_approved_writes_pass():
    service = Service(**{"render-options": [OPTION]})
    wanted = {"render_options": ({**OPTION, "name": "New"},), "tile_settings": {"minZoom": 2}}
    approved = json.loads(json.dumps(plan(service, **wanted)[0].to_json()))

    apply(service, approved=approved, **wanted)
    service.state["render-options"][0] = {**OPTION, "name": "Other"}  # so the difference is another one

    with pytest.raises(errors.GeoCatalogConflict, match="not what was approved: render option rgb"):
        apply(service, approved=approved, **wanted)
    with pytest.raises(errors.GeoCatalogConflict, match="of another collection"):
        apply(Service(), approved={**approved, "collection_id": "d"}, tile_settings={})


def test_a_plan_is_shown_for_people_and_kept_whole_for_machines():
    entry = PlanEntry(
        "mosaic",
        "m",
        Action.REPLACE,
        (Difference("cql", None, ["x" * 500]), Difference("name", "a|b\n`c`", "")),
        blocked="it is locked",
    )
    shown = CollectionPlan("c", (entry, PlanEntry("tile settings", "", Action.KEEP)))

    text, markdown = shown.to_text(), shown.to_markdown()

    assert text.splitlines()[0] == "Collection c: 0 to create, 1 to replace, 0 to delete, 1 as they should be."
    assert "  ~ mosaic m" in text
    assert max(map(len, text.splitlines())) < 250
    rows = [line for line in markdown.splitlines() if line.startswith("| replace")]
    assert [row.replace("\\|", "").count("|") for row in rows] == [6, 6]
    assert "`` a\\|b `c` ``" in rows[1]
    assert "- **Cannot be done:** it is locked" in markdown
    assert json.loads(json.dumps(shown.to_json()))["entries"][0]["differences"][0]["new"] == ["x" * 500]
    with pytest.raises(GeoCatalogDrift, match="~ mosaic m"):
        shown.require_in_line()
