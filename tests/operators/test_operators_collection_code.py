"""A collection as a document: plan, apply, check and export, on the emulator over real HTTP."""

from __future__ import annotations

import copy
import json
import os
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import jsonschema
import pytest
import yaml

from airflow_provider_geocatalog.api.dialects import API_VERSIONS
from airflow_provider_geocatalog.api.errors import GeoCatalogUnreachable
from airflow_provider_geocatalog.collection_cli import main
from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.collection_code import (
    GeoCatalogApplyCollectionOperator,
    GeoCatalogCheckCollectionOperator,
    GeoCatalogExportCollectionOperator,
    GeoCatalogPlanCollectionOperator,
)
from tests.fakes.airflow_versions import AIRFLOW_VERSION
from tests.fakes.tasks import TOKEN, TaskInstance, execute

EXAMPLE = Path(__file__).parents[2] / "example_dags" / "geocatalog_collection_as_code.py"
DATASETS = Path(__file__).parents[3] / "shared" / "data" / "mpcpro-sample-datasets"
PNG = b"\x89PNG\r\n\x1a\n"
OPTION = {"id": "natural", "name": "Natural", "type": "raster-tile", "options": "assets=image", "minZoom": 6}
CLOUDS = {"op": "<=", "args": [{"property": "eo:cloud_cover"}, 10]}


@pytest.fixture
def document(tmp_path, documents):
    """A document with every section, and its files."""
    (tmp_path / "picture.png").write_bytes(PNG + b"first")
    (tmp_path / "report.txt").write_text("all is well")
    return copy.deepcopy(
        {
            "id": "demo",
            "collection": documents(summaries={"gsd": [0.6]}, keywords=["naip"]),
            "partition_type": "year",
            "queryables": [
                {"name": "gsd", "definition": {"type": "number", "title": "GSD"}, "data_type": "number"},
                {"name": "naip:year", "definition": {"type": "string"}, "create_index": True},
            ],
            "render_options": [OPTION, {**OPTION, "id": "infrared", "name": "Infrared", "legend": {"type": "none"}}],
            "mosaics": [{"id": "default", "name": "Default"}, {"id": "clear", "name": "Clear", "cql": [CLOUDS]}],
            "tile_settings": {"minZoom": 5, "defaultLocation": {"zoom": 4, "coordinates": [40, -100]}},
            "assets": {
                "thumbnail": {"file": "picture.png", "title": "Look"},
                "report": {"file": "report.txt", "roles": ["metadata"]},
            },
        }
    )


@pytest.fixture(autouse=True)
def unhurried(reconnect):
    """Have the client not space its requests out."""
    reconnect(requests_per_second="1000")


@pytest.fixture
def run(world, tmp_path):
    """Carry out an operator on a document, which is written to a file."""

    def run(kind, document, **arguments):
        path = tmp_path / "demo.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return world.run(kind(task_id="task", document=str(path), **arguments))

    return run


plan, apply, check = (
    GeoCatalogPlanCollectionOperator,
    GeoCatalogApplyCollectionOperator,
    GeoCatalogCheckCollectionOperator,
)


def changes(result):
    return [
        (entry["action"], f"{entry['kind']} {entry['id']}".strip())
        for entry in result["entries"]
        if entry["action"] != "keep"
    ]


def differences(result):
    return {one["member"]: (one["old"], one["new"]) for entry in result["entries"] for one in entry["differences"]}


def test_applying_twice_writes_nothing_the_second_time(world, run, document):
    planned = run(plan, document)
    assert world.writes == []
    applied = run(apply, document)
    written = list(world.writes)
    again = run(apply, document)

    assert applied == planned
    assert len(written) == len(set(changes(planned))) == 10
    assert (again["in_line"], changes(again), world.writes) == (True, [], written)
    assert run(check, document, prune=True)["in_line"]


def test_a_plan_sends_nothing_but_gets(world, run, document):
    run(apply, document)
    before = len(world.server.emulator.requests)
    document["render_options"][0]["minZoom"] = 9

    run(plan, document)
    run(apply, document, dry_run=True)

    assert {request.method for request in list(world.server.emulator.requests)[before:]} == {"GET"}


@pytest.fixture
def client(world):
    return GeoCatalogHook().client


def change_collection(client):
    found = client.get_collection("demo")
    client.replace_collection("demo", {**found, "title": "other", "summaries": {"gsd": [1]}})


def change_thumbnail(client):
    from airflow_provider_geocatalog.api.http import FilePart

    asset = {"type": "image/png", "title": "Look", "roles": ["thumbnail"]}
    client.replace_collection_asset("demo", "thumbnail", asset, FilePart("picture.png", PNG + b"other"))


DRIFT = {
    "collection": (change_collection, {"title": ("other", None), "summaries.gsd": ([1], [0.6])}),
    "partition type": (lambda c: c.replace_partition_type("demo", {"scheme": "none"}), {"scheme": ("none", "year")}),
    "queryable gsd": (
        lambda c: c.replace_queryable("demo", "gsd", {"name": "gsd", "definition": {"type": "string", "title": "GSD"}}),
        {"definition.type": ("string", "number")},
    ),
    "queryable naip:year": (lambda c: c.delete_queryable("demo", "naip:year"), {}),
    "render option natural": (
        lambda c: c.replace_render_option("demo", "natural", {**OPTION, "options": "assets=b", "description": "x"}),
        {"options": ("assets=b", "assets=image"), "description": ("x", None)},
    ),
    "render option infrared": (lambda c: c.delete_render_option("demo", "infrared"), {}),
    "mosaic clear": (
        lambda c: c.replace_mosaic("demo", "clear", {"id": "clear", "name": "Clear", "cql": []}),
        {"cql": ([], [CLOUDS])},
    ),
    "mosaic default": (lambda c: c.delete_mosaic("demo", "default"), {}),
    "tile settings": (lambda c: c.replace_tile_settings("demo", {"minZoom": 7}), {"minZoom": (7, 5)}),
    "asset thumbnail": (change_thumbnail, {"file": ...}),
    "asset report": (lambda c: c.delete_collection_asset("demo", "report"), {}),
}


@pytest.mark.parametrize("setting", DRIFT)
def test_drift_in_each_kind_of_setting_is_found_named_and_mended(world, run, document, client, setting):
    run(apply, document)
    drift, members = DRIFT[setting]
    drift(client)

    warned = run(check, document, on_drift="warn")
    with pytest.raises(GeoCatalogTaskFailed, match=f"[+~] {setting}"):
        run(check, document)
    run(apply, document)

    assert [label for _, label in changes(warned)] == [setting]
    found = differences(warned)
    assert all(member in found and values in (..., found[member]) for member, values in members.items()), found
    assert run(check, document)["in_line"]


def test_a_changed_file_is_found_and_replaced_in_place(world, run, document, tmp_path, client):
    run(apply, document)
    before = list(world.writes)
    (tmp_path / "picture.png").write_bytes(PNG + b"second")
    (tmp_path / "report.txt").write_text("all is lost")

    applied = run(apply, document)

    assert changes(applied) == [("replace", "asset thumbnail"), ("replace", "asset report")]
    assert world.writes[len(before) :] == ["replace_collection_asset"] * 2
    assert client.get_collection_thumbnail("demo").content == PNG + b"second"


def test_replacing_metadata_keeps_managed_assets_and_what_the_service_adds(world, run, document, client):
    run(apply, document)
    extension = "https://stac-extensions.github.io/table/v1.2.0/schema.json"
    found = client.get_collection("demo")
    client.replace_collection("demo", {**found, "stac_extensions": [extension]})  # as the service is said to do
    document["collection"]["title"] = "new"

    run(apply, document)

    after = client.get_collection("demo")
    assert (after["title"], after["assets"], after["stac_extensions"]) == ("new", found["assets"], [extension])


def test_pruning_is_opt_in_and_comes_last(world, run, document):
    run(apply, document)
    document["render_options"] = [{**OPTION, "id": "new", "name": "New"}]
    document["mosaics"] = [{"id": "all", "name": "All"}]
    document["queryables"], document["assets"] = (
        document["queryables"][:1],
        {"thumbnail": document["assets"]["thumbnail"]},
    )
    before = len(world.writes)

    kept = run(apply, document)
    assert changes(kept) == [("create", "render option new"), ("create", "mosaic all")]
    assert run(check, document)["in_line"]
    pruned = run(apply, document, prune=True)

    assert [action for action, _ in changes(pruned)] == ["delete"] * 6
    assert all("delete" in name for name in world.writes[before + 2 :])
    assert run(check, document, prune=True)["in_line"]


def test_a_concurrent_reader_always_finds_a_render_option_a_mosaic_and_the_thumbnail(
    world, run, document, client, tmp_path
):
    run(apply, document)
    found, stop, failures = {"looks": 0}, threading.Event(), []

    def look() -> None:
        try:
            while not stop.is_set():
                options = len(list(client.list_render_options("demo")))
                mosaics = len(list(client.list_mosaics("demo")))
                picture = client.get_collection_thumbnail("demo").content
                if not options or not mosaics or not picture.startswith(PNG):
                    failures.append((options, mosaics, picture))
                found["looks"] += 1
        except Exception as error:
            failures.append(error)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(6):
            (tmp_path / "picture.png").write_bytes(PNG + bytes([number]))
            document["render_options"] = [{**OPTION, "id": f"option-{number}"}]
            document["mosaics"] = [{"id": f"mosaic-{number}", "name": "M"}]
            run(apply, document, prune=True)
    finally:
        stop.set()
        reader.join()

    assert failures == []
    assert found["looks"] > 6


def test_the_partition_type_is_refused_once_there_are_items(world, run, document, client):
    run(apply, document)
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "a",
        "collection": "demo",
        "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
        "bbox": [1.0, 2.0, 1.0, 2.0],
        "properties": {"datetime": "2024-01-01T00:00:00Z"},
        "links": [],
        "assets": {},
    }
    client.wait(client.create_item("demo", item))
    before = list(world.writes)
    changed = copy.deepcopy(document)
    changed["partition_type"], changed["tile_settings"]["minZoom"] = "month", 8

    planned = run(plan, changed)
    with pytest.raises(GeoCatalogTaskFailed, match="'year' and cannot become 'month': it has items"):
        run(apply, changed)

    assert any("has items" in entry.get("blocked", "") for entry in planned["entries"])
    assert world.writes == before
    assert run(check, document)["in_line"]


def test_only_what_was_approved_is_written(world, run, document, client):
    run(apply, document)
    document["render_options"][0]["minZoom"] = 9
    document["tile_settings"]["minZoom"] = 9
    approved = run(plan, document)
    before = list(world.writes)

    client.replace_mosaic("demo", "clear", {"id": "clear", "name": "Cloudy", "cql": []})
    with pytest.raises(GeoCatalogTaskFailed, match="not what was approved: mosaic clear"):
        run(apply, document, approved_plan=approved)
    assert world.writes == [*before, "replace_mosaic"]

    client.replace_mosaic("demo", "clear", document["mosaics"][1])
    client.replace_tile_settings("demo", document["tile_settings"])  # a part of the plan that is done already
    assert changes(run(apply, document, approved_plan=approved)) == [("replace", "render option natural")]


def test_an_approved_creation_that_was_interrupted_is_completed_by_a_retry(run, document, client):
    approved = run(plan, document)
    client.create_collection(document["collection"])  # all that the first try came to

    assert ("replace", "tile settings") in changes(run(apply, document, approved_plan=approved))
    assert run(check, document)["in_line"]


@pytest.mark.parametrize("section", ["render_options", "legend", "assets", "collection"])
def test_what_is_created_is_what_was_approved(world, run, document, tmp_path, section):
    approved = run(plan, document)
    document["render_options"][0]["options"] += "&rescale=0,9" if section == "render_options" else ""
    document["collection"]["title"] = "Other" if section == "collection" else None
    if section == "legend":
        del document["render_options"][1]["legend"]
    if section == "assets":
        (tmp_path / "report.txt").write_text("all is lost")

    with pytest.raises(GeoCatalogTaskFailed, match="is not what was approved"):
        run(apply, document, approved_plan=approved)
    assert world.writes == []


def test_a_signed_url_of_a_document_is_refused_when_the_task_is_made():
    with pytest.raises(ValueError, match="document carries a SAS signature"):
        plan(task_id="plan", document="https://a.blob.core.windows.net/c/naip.yaml?sp=r&sig=abcdef")


def test_a_collection_that_nobody_describes_is_not_created(run):
    with pytest.raises(GeoCatalogTaskFailed, match=r"there is no collection 'demo'.*section 'collection'"):
        run(apply, {"id": "demo", "tile_settings": {"minZoom": 4}})


def test_a_bad_document_sends_nothing(world, run, document):
    document["render_options"][0]["mode"] = 1
    document["mosaics"][1]["cql"] = [{"op": "="}]

    for kind in (plan, apply, check):
        with pytest.raises(
            GeoCatalogTaskFailed, match=r"demo\.yaml:\d+: unknown key 'mode'.*demo\.yaml:\d+: mosaic 'clear'"
        ):
            run(kind, document)

    assert not list(world.server.emulator.requests)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_an_export_applied_changes_nothing(world, run, document, tmp_path, suffix):
    run(apply, document)
    before = list(world.writes)
    path = tmp_path / "export" / f"demo.{suffix}"

    exported = world.run(GeoCatalogExportCollectionOperator(task_id="export", collection_id="demo", path=str(path)))
    planned = world.run(plan(task_id="plan", document=str(path), prune=True))

    assert [Path(name).name for name in exported["paths"]] == [f"demo.{suffix}", "picture.png"]
    assert {entry["kind"] for entry in planned["entries"]} == {
        "collection", "partition type", "queryable", "render option", "mosaic", "tile settings", "asset"
    }  # fmt: skip
    assert (changes(planned), world.writes) == ([], before)
    written = path.read_text()
    jsonschema.validate(json.loads(written) if suffix == "json" else yaml.safe_load(written), _schema())


def _schema():
    from airflow_provider_geocatalog.api.collection_checks import load_schema

    return load_schema()


def test_the_plan_is_told_as_text_json_and_markdown(world, run, document, capsys):
    run(apply, document)
    document["render_options"][0].update(options="assets=image|1,2,3", minZoom=8)
    ti = TaskInstance()

    result = execute(plan(task_id="plan", document=document | {"assets": {}}), ti)

    assert differences(result) == {"options": ("assets=image", "assets=image|1,2,3"), "minZoom": (6, 8)}
    assert "| replace | `render option natural` | `minZoom` | `6` | `8` |" in ti.xcoms["markdown"]
    assert "`assets=image\\|1,2,3`" in ti.xcoms["markdown"]
    assert '      options: "assets=image" -> "assets=image|1,2,3"' in capsys.readouterr().out


def test_a_signature_in_a_link_is_not_shown_and_the_plan_can_be_approved(world, run, document, capsys, client):
    href = "https://h.example.com/x?sv=1&sig=c2VjcmV0"
    document["collection"]["links"] = [{"rel": "about", "href": href}]
    del document["assets"]
    ti = TaskInstance()
    planned = execute(plan(task_id="plan", document=document), ti)
    assert "https://h.example.com/x" in json.dumps(planned)
    assert "c2VjcmV0" not in json.dumps(planned) + json.dumps(ti.xcoms) + capsys.readouterr().out
    run(apply, document, approved_plan=planned)
    assert client.get_collection("demo")["id"] == "demo"


def test_a_lost_answer_is_mended_by_the_next_try(world, run, document):
    world.server.emulator.faults.add("drop", operations=["create_render_option"], handled=True, times=1)

    with pytest.raises(GeoCatalogUnreachable):
        run(apply, document)
    run(apply, document)

    assert world.writes.count("create_render_option") == len(document["render_options"])
    assert run(check, document)["in_line"]


@pytest.mark.parametrize("humans", [True, False])
def test_the_example_asks_a_person_before_it_applies(monkeypatch, humans):
    if humans and AIRFLOW_VERSION < (3, 1):
        pytest.skip("tasks for humans came with Airflow 3.1")
    if not humans:
        monkeypatch.setitem(sys.modules, "airflow.providers.standard.operators.hitl", None)

    dag = runpy.run_path(str(EXAMPLE))["dag"]

    order = [task.task_id for task in dag.topological_sort()]
    assert order == ["plan", "is_anything_to_do", "approve", "apply", "check"]
    assert dag.get_task("approve").operator_name == ("ApprovalOperator" if humans else "@task.short_circuit")
    assert dag.get_task("apply").approved_plan.operator is dag.get_task("plan")


@pytest.mark.parametrize("version", API_VERSIONS)
def test_a_document_is_applied_in_every_version(run, reconnect, document, version):
    reconnect(api_version=version)
    sections = ("id", "collection", "render_options", "mosaics", "tile_settings")
    known = {name: document[name] for name in sections}

    run(apply, known)

    assert run(check, known)["in_line"]


def test_sections_that_the_api_version_does_not_have_are_refused_together(world, run, reconnect, document):
    reconnect(api_version="2024-01-31-preview")

    with pytest.raises(
        GeoCatalogTaskFailed, match=r"replace_partition_type.*create_queryables.*create_collection_asset"
    ):
        run(apply, document)

    assert not list(world.server.emulator.requests)


@pytest.mark.skipif(not DATASETS.is_dir(), reason=f"the sample datasets are not at {DATASETS}")
@pytest.mark.parametrize("folder", ["planetary_computer/naip", "maxar/open-data-program"])
def test_published_configurations_are_a_document_as_they_are(world, folder, tmp_path):
    prefixes = {"collection": "collection", "render": "render_options", "mosaic": "mosaics", "tile": "tile_settings"}
    files = sorted((DATASETS / folder / "config").glob("*.json"))
    document = {prefixes[file.name.partition("_")[0].partition(".")[0]]: str(file) for file in files}
    path = tmp_path / "document.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))

    applied = world.run(apply(task_id="apply", document=str(path)))
    before = list(world.writes)
    again = world.run(apply(task_id="apply", document=str(path)))

    assert ("create", "collection") in changes(applied)
    assert (len(document), again["in_line"], world.writes) == (4, True, before)


def shell(world, *arguments):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "GEOCATALOG_URL": world.server.url,
        "GEOCATALOG_TOKEN": TOKEN,
    }
    return subprocess.run(
        [sys.executable, "-m", "airflow_provider_geocatalog.collection_cli", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_line_does_the_same_and_its_exit_code_tells_drift(world, document, tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))

    planned = shell(world, "plan", path, "--format", "json")
    applied = shell(world, "apply", path)
    checked = shell(world, "check", path, "--prune", "--format", "markdown")

    assert [run.returncode for run in (planned, applied, checked)] == [2, 0, 0], [planned, applied, checked]
    assert ("create", "collection") in changes(json.loads(planned.stdout))
    assert "+ mosaic clear" in applied.stdout
    assert checked.stdout.startswith("### Collection `demo`")


@pytest.fixture
def command(world, monkeypatch, capsys):
    """Carry out a command line in this process; return its exit code and what it wrote to stderr."""
    monkeypatch.setenv("GEOCATALOG_URL", world.server.url)

    def command(*arguments, token=TOKEN):
        monkeypatch.setenv("GEOCATALOG_TOKEN", token)
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as ended:
            code = ended.code
        return code, capsys.readouterr().err

    return command


def test_the_command_line_exports_and_replaces_files_only_by_force(run, command, document, tmp_path):
    run(apply, document)
    path = tmp_path / "again.yaml"

    refused = command("export", "demo", path)  # the thumbnail is there already
    forced = command("export", "demo", path, "--force")

    assert refused[0] == 1
    assert "picture.png exists already" in refused[1]
    assert (forced[0], command("check", path, "--prune")[0]) == (0, 0)


def test_the_command_line_refuses_what_was_not_approved(run, command, document, tmp_path):
    run(apply, document)
    (tmp_path / "approved.json").write_text(json.dumps(run(plan, document)))
    document["tile_settings"]["minZoom"] = 9
    (tmp_path / "demo.yaml").write_text(yaml.safe_dump(document))

    code, told = command("apply", tmp_path / "demo.yaml", "--approved", tmp_path / "approved.json")

    assert code == 1
    assert "not what was approved: tile settings" in told

    (tmp_path / "list.json").write_text("[]")
    code, told = command("apply", tmp_path / "demo.yaml", "--approved", tmp_path / "list.json")
    assert (code, "list.json is not what plan --format json prints" in told) == (1, True)


def test_the_command_line_ends_with_1_and_says_why(command, tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text("id: demo\nmosaic: []\ntile_settings:\n  minZoom: x\n")

    bad, usage = command("check", path), command("check")
    nowhere = command("export", "none", tmp_path / "x.yaml")
    unauthorized = command("export", "none", tmp_path / "x.yaml", token="wrong-token")

    assert [code for code, _ in (bad, usage, nowhere, unauthorized)] == [1, 1, 1, 1]
    assert "demo.yaml:2: unknown key 'mosaic'; did you mean 'mosaics'?" in bad[1]
    assert "demo.yaml:4: " in bad[1]
    assert "404" in nowhere[1]
    assert "401" in unauthorized[1]


def test_the_command_line_needs_no_airflow_and_prints_the_schema(world):
    code = (
        "import sys; sys.modules['airflow'] = None; "
        "from airflow_provider_geocatalog.collection_cli import main; sys.exit(main(['schema']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == _schema()
