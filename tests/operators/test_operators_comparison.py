"""Comparing a source with a collection and removing orphans, on the emulator."""

from __future__ import annotations

import json

import pytest

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogInvalidInput, GeoCatalogWaitTimeout
from airflow_provider_geocatalog.hooks.environment import AirflowEnvironment
from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed
from airflow_provider_geocatalog.operators.collections import GeoCatalogCreateCollectionOperator
from airflow_provider_geocatalog.operators.comparison import GeoCatalogCompareItemsOperator
from airflow_provider_geocatalog.operators.items import GeoCatalogCreateItemsOperator
from airflow_provider_geocatalog.operators.transfer import StacToGeoCatalogOperator
from airflow_provider_geocatalog.transfer.callables import CallableSource, ItemsSource
from airflow_provider_geocatalog.transfer.comparison import ItemsDiffer
from airflow_provider_geocatalog.transfer.files import ItemFilesSource
from airflow_provider_geocatalog.transfer.fingerprint import with_fingerprint
from airflow_provider_geocatalog.transfer.source import ItemSourceError
from airflow_provider_geocatalog.transfer.stac_api import StacApiSource
from airflow_provider_geocatalog.transfer.transforms import Pipeline
from tests.fakes.items import stac_item
from tests.fakes.tasks import TaskInstance
from tests.fakes.transfers import Run

BRAKES = {"remove_orphans": True, "max_removed": 10, "max_removed_share": 1.0}


@pytest.fixture
def ready(world, documents):
    """A world with the collection."""
    world.run(GeoCatalogCreateCollectionOperator(task_id="c", collection=documents()))
    return world


def item(number, at="2024-01-15T00:00:00Z", **properties):
    document = stac_item(f"item-{number}")
    return {**document, "properties": {"datetime": at, **properties}}


def items(count, **properties):
    return [item(number, **properties) for number in range(count)]


def fill(world, documents, *, mark=with_fingerprint):
    """Put items into the collection as a transfer sends them."""
    sent = [mark(Pipeline("demo").content(document)) for document in documents]
    load = GeoCatalogCreateItemsOperator(
        task_id="load", collection_id="demo", items=sent, poll_interval=0.05, min_poll_interval=0.05
    )
    world.run(load)
    world.server.emulator.requests.clear()


def compare(source, **arguments):
    if not hasattr(source, "pages"):
        source = ItemsSource(source)
    defaults = {"task_id": "compare", "collection_id": "demo", "poll_interval": 0.05, "min_poll_interval": 0.05}
    return GeoCatalogCompareItemsOperator(source=source, **{**defaults, **arguments})


def present(world):
    return sorted(world.server.emulator.world.collections["demo"].items)


def requests(world):
    return [request.operation for request in world.server.emulator.requests]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- comparing --------------------------------------------------------------------------------------------------------


def test_a_complete_mirror_is_told_so(ready):
    fill(ready, [item(0), item(1, "2024-02-01T00:00:00Z")])

    result = ready.run(compare([item(0), item(1, "2024-02-01T00:00:00Z")]))

    nothing = dict.fromkeys(["missing", "changed", "orphaned", "unknown", "unreadable", "moved"], 0)
    assert result == {
        "collection_id": "demo",
        "source": "2 items",
        "window": None,
        "totals": {"expected": 2, "found": 2, **nothing},
        "partitions": {
            "2024-01": {"expected": 1, "found": 1, **nothing},
            "2024-02": {"expected": 1, "found": 1, **nothing},
        },
        "partitions_left_out": 0,
        "first_ids": {},
        "removed": 0,
        "report_path": None,
    }
    assert ready.writes == []


def test_what_is_missing_or_changed_fails_the_task_with_numbers_and_names(ready):
    fill(ready, items(4))
    source = [
        item(0),
        item(1, edited=True),
        item(2),
        item(3),
        *(item(n, "2024-03-01T00:00:00Z") for n in range(20, 32)),
    ]
    ti = TaskInstance()

    with pytest.raises(GeoCatalogTaskFailed) as failure:
        compare(source).execute({"ti": ti})

    told = str(failure.value)
    assert isinstance(failure.value.error, ItemsDiffer)
    assert "12 missing (item-20, item-21, item-22" in told
    assert "item-29, ...), where at most 0 are tolerated (max_missing)" in told
    assert "1 changed (item-1), where at most 0 are tolerated (max_changed)" in told
    assert "2024-01: 4 expected, 4 found, 1 changed; 2024-03: 12 expected, 12 missing" in told
    assert "Give report_path, and run a transfer with the report as its source." in told
    assert ti.xcoms["comparison"] == failure.value.error.summary
    assert ti.xcoms["comparison"]["first_ids"]["changed"] == ["item-1"]


@pytest.mark.parametrize(
    ("tolerated", "fails"),
    [
        ({"max_missing": 2}, False),
        ({"max_missing": 1}, True),
        ({"max_missing": None}, False),
        ({"max_missing": 2, "max_changed": 0}, True),
        ({"max_missing": 2, "max_orphaned": 0}, True),
        ({"max_missing": 2, "max_orphaned": 1}, False),
    ],
)
def test_differences_are_tolerated_up_to_a_number(ready, tolerated, fails):
    fill(ready, items(3))
    source = [item(0, edited=True), item(1), item(7), item(8)]
    operator = compare(source, **{"max_changed": 1, **tolerated})

    if fails:
        with pytest.raises(GeoCatalogTaskFailed):
            ready.run(operator)
        return
    totals = ready.run(operator)["totals"]
    assert (totals["missing"], totals["changed"], totals["orphaned"], totals["found"]) == (2, 1, 1, 3)


def test_what_no_transfer_has_sent_is_unknown_and_no_failure(ready):
    fill(ready, items(2), mark=dict)

    result = ready.run(compare(items(2)))

    assert result["totals"]["unknown"] == 2
    assert result["first_ids"] == {"unknown": ["item-0", "item-1"]}


def test_an_item_that_cannot_be_sent_counts_as_missing(ready):
    fill(ready, items(1))

    with pytest.raises(GeoCatalogTaskFailed, match=r"1 unreadable \(broken\), where at most 0 .* \(max_missing\)"):
        ready.run(compare([item(0), {"id": "broken"}]))


def test_items_are_compared_as_the_transforms_make_them(ready):
    published = {**item(0), "links": [{"rel": "self", "href": "https://example.com/item-0"}]}
    published["assets"] = {**published["assets"], "tilejson": {"href": "https://example.com/t", "roles": ["tiles"]}}
    fill(ready, [published])

    assert ready.run(compare([published]))["totals"]["changed"] == 0
    with pytest.raises(GeoCatalogTaskFailed, match="1 changed"):
        ready.run(compare([published], transforms=[]))


@pytest.mark.parametrize(
    "window",
    [
        {"start": "2024-01-01T00:00:00Z", "end": "2024-02-01T00:00:00Z"},
        {"start": "2024-01-01 00:00:00+00:00", "end": "2024-02-01", "field": "datetime"},
    ],
)
def test_a_window_is_compared(ready, window):
    fill(ready, [item(0), item(1, "2024-02-15T00:00:00Z"), item(2)])

    result = ready.run(compare([item(0), item(1, "2024-02-15T00:00:00Z")], window=window, max_orphaned=1))

    assert result["first_ids"] == {"orphaned": ["item-2"]}
    assert result["totals"]["expected"] == 1
    assert result["window"]["start"] == "2024-01-01T00:00:00Z"


def test_a_window_by_update_leaves_orphans_untold(ready):
    fill(ready, items(3, updated="2024-05-01T00:00:00Z"))
    window = {"start": "2024-05-01", "end": "2024-05-02", "field": "updated"}

    result = ready.run(compare(items(1, updated="2024-05-01T00:00:00Z"), window=window))

    assert (result["totals"]["expected"], result["totals"]["orphaned"]) == (1, None)


def test_the_scope_of_a_source_is_that_of_the_collection_unless_given(ready):
    far = {**item(9), "geometry": {"type": "Point", "coordinates": [50, 50]}, "bbox": [50, 50, 50, 50]}
    fill(ready, [item(0), far])
    source = ItemsSource([item(0)])
    source.bbox = "0,0,5,5"

    assert ready.run(compare(source))["totals"]["orphaned"] == 0
    assert ready.run(compare(source, scope={}))["totals"]["orphaned"] == 1
    source.bbox, source.intersects = None, json.dumps(far["geometry"])
    assert ready.run(compare(source))["first_ids"] == {"orphaned": ["item-9"]}


def test_many_partitions_are_told_as_far_as_they_fit(ready):
    days = [item(n, f"{2023 + n // 300}-{n % 300 // 25 + 1:02}-{n % 25 + 1:02}T00:00:00Z") for n in range(450)]
    fill(ready, days[:440])

    result = ready.run(compare(days, partition="day", max_missing=10))

    assert len(result["partitions"]) == 400
    assert result["partitions_left_out"] == 50
    assert sum(counts["missing"] for counts in result["partitions"].values()) == 10
    assert list(result["partitions"]) == sorted(result["partitions"])


def test_a_catalog_that_breaks_gives_no_verdict_and_no_report(ready, tmp_path):
    fill(ready, items(3))
    ready.server.emulator.faults.add("html", operations="search")
    report = tmp_path / "report.ndjson"

    with pytest.raises(GeoCatalogTaskFailed) as failure:
        ready.run(compare(items(1), report_path=str(report), **BRAKES))

    assert not isinstance(failure.value.error, ItemsDiffer)
    assert not report.exists()
    assert len(present(ready)) == 3


def test_a_source_that_breaks_gives_no_verdict_and_removes_nothing(ready):
    def breaking():
        yield item(0)
        raise OSError("the disk is gone")

    fill(ready, items(3))

    with pytest.raises(ItemSourceError, match="the disk is gone"):
        ready.run(compare(CallableSource(breaking), **BRAKES))
    assert len(present(ready)) == 3


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_report_names_all_differences_and_is_a_source_of_what_is_to_be_sent(ready, tmp_path):
    fill(ready, [item(0), item(1), item(2)])
    fill(ready, [item(3)], mark=dict)
    source = [item(0), item(1, edited=True), item(3), item(4), {"id": "broken"}]
    report = tmp_path / "out" / "report.ndjson"

    with pytest.raises(GeoCatalogTaskFailed, match=f"A transfer with {report} as its source"):
        ready.run(compare(source, report_path=str(report)))

    told = {line["id"]: line for line in lines(report)}
    assert {name: line["kind"] for name, line in told.items()} == {
        "item-4": "missing",
        "item-1": "changed",
        "item-2": "orphaned",
        "item-3": "unknown",
        "broken": "unreadable",
    }
    assert all(line["reason"] and line["partition"] for line in told.values())
    assert {name for name, line in told.items() if "item" in line} == {"item-1", "item-4"}
    [page] = ItemFilesSource(str(report)).pages(AirflowEnvironment())
    assert [one["id"] for one in page.items] == ["item-4", "item-1"]
    assert page.items[1]["properties"]["edited"] is True


def test_a_transfer_of_the_report_mends_what_it_names(ready, tmp_path):
    fill(ready, items(3))
    source = [item(0), item(1, edited=True), item(4)]
    report = str(tmp_path / "report.ndjson")
    ready.run(compare(source, report_path=report, max_missing=1, max_changed=1))

    mend = StacToGeoCatalogOperator(
        task_id="mend",
        collection_id="demo",
        source=ItemFilesSource(report),
        poll_interval=0.05,
        min_poll_interval=0.05,
    )
    sent = Run().execute(mend)

    assert (sent["counts"]["seen"], sent["counts"]["created"], sent["counts"]["updated"]) == (2, 1, 1)
    totals = ready.run(compare(source))["totals"]
    assert (totals["missing"], totals["changed"], totals["orphaned"]) == (0, 0, 1)


def test_mapped_tasks_write_a_report_each(ready, tmp_path):
    fill(ready, items(1))
    report = str(tmp_path / "report.ndjson")

    with pytest.raises(GeoCatalogTaskFailed, match=r"A transfer with \S+report\.0\.ndjson as its source"):
        Run(map_index=0).execute(compare(items(2), report_path=report))
    result = Run(map_index=1).execute(compare(items(1), report_path=report))

    assert result["report_path"] == str(tmp_path / "report.1.ndjson")
    assert {file.name: len(lines(file)) for file in tmp_path.glob("*.*")} == {
        "report.0.ndjson": 1,
        "report.1.ndjson": 0,
    }


def test_a_report_without_differences_is_empty(ready, tmp_path):
    report = tmp_path / "report.ndjson"
    report.write_text("what an earlier run has found\n")
    fill(ready, items(1))

    ready.run(compare(items(1), report_path=str(report)))

    assert report.read_text() == ""


# --- removing ---------------------------------------------------------------------------------------------------------


def test_orphans_are_removed_and_gone(ready):
    fill(ready, items(20))

    result = ready.run(compare(items(15), **BRAKES))

    assert result["removed"] == 5
    assert result["totals"]["orphaned"] == 5
    assert present(ready) == sorted(f"item-{n}" for n in range(15))
    assert ready.writes == ["delete_item"] * 5
    assert ready.run(compare(items(15), **BRAKES))["removed"] == 0


@pytest.mark.parametrize(
    ("brakes", "complaint"),
    [
        ({"max_removed": 4, "max_removed_share": 1.0}, r"5 of 20 items found are orphaned, 25.00%, of which at most 4"),
        ({"max_removed": 100, "max_removed_share": 0.2}, r"25.00%; at most 20.00% may be removed"),
        ({"max_removed": 0, "max_removed_share": 0}, r"at most 0 may be removed .* at most 0.00% may"),
    ],
)
def test_too_many_orphans_are_not_removed(ready, brakes, complaint):
    fill(ready, items(20))

    with pytest.raises(GeoCatalogTaskFailed, match=complaint) as failure:
        ready.run(compare(items(15), remove_orphans=True, **brakes))

    assert "Nothing was removed." in str(failure.value)
    assert len(present(ready)) == 20
    assert ready.writes == []


def test_the_brake_lets_go_what_it_names(ready):
    fill(ready, items(20))

    result = ready.run(compare(items(15), remove_orphans=True, max_removed=5, max_removed_share=0.25))

    assert result["removed"] == 5


@pytest.mark.parametrize("source", [[], [item(0)]])
def test_a_source_without_items_removes_nothing_whatever_is_allowed(ready, source):
    fill(ready, items(3))
    left_out = [] if not source else [lambda one: None]

    with pytest.raises(GeoCatalogTaskFailed, match="the source gives no items at all, which is not believed"):
        ready.run(compare(source, transforms=left_out, **BRAKES))

    assert len(present(ready)) == 3


def test_an_empty_source_of_an_empty_collection_is_no_failure(ready):
    assert ready.run(compare([], **BRAKES))["removed"] == 0


def test_an_unreadable_item_keeps_orphans_since_it_may_be_one_of_them(ready):
    fill(ready, items(3))

    with pytest.raises(GeoCatalogTaskFailed, match="1 items of the source are unreadable and may be among them"):
        ready.run(compare([item(0), item(1), {"id": "item-2"}], max_missing=1, **BRAKES))

    assert len(present(ready)) == 3


def test_a_mirror_that_is_not_complete_loses_nothing(ready):
    fill(ready, items(3))

    with pytest.raises(GeoCatalogTaskFailed, match=r"1 missing \(item-8\).* Nothing was removed"):
        ready.run(compare([item(0), item(1), item(8)], **BRAKES))

    assert len(present(ready)) == 3


def test_what_arrives_while_it_compares_is_not_removed(ready):
    fill(ready, items(2))

    def arriving():
        yield item(0)
        fill(ready, [item(7)])
        yield item(7)

    result = ready.run(compare(CallableSource(arriving), **BRAKES))

    assert result["first_ids"] == {"orphaned": ["item-1"]}
    assert present(ready) == ["item-0", "item-7"]


def test_what_the_source_has_outside_the_window_is_not_removed(ready):
    fill(ready, items(2))
    window = {"start": "2024-01-01", "end": "2024-02-01"}

    result = ready.run(compare([item(0), item(1, "2024-02-15T00:00:00Z")], window=window, **BRAKES))

    assert result["removed"] == 0
    assert result["totals"]["moved"] == 1
    assert len(present(ready)) == 2


def test_a_dry_run_tells_what_it_would_remove(ready):
    fill(ready, items(3))

    result = ready.run(compare(items(1), dry_run=True, **BRAKES))

    assert result["removed"] == 0
    assert [write["path"].rsplit("/", 1)[-1] for write in result["plan"]] == ["item-1", "item-2"]
    assert ready.writes == []


def test_a_deletion_that_fails_fails_the_task_and_the_next_try_goes_on(ready):
    fill(ready, items(4))
    rule = ready.server.emulator.faults.add("fail_items", items=["item-2"], types=["DeleteItem"], message="no luck")

    with pytest.raises(GeoCatalogError, match=r"1 items could not be removed: item-2: .*no luck"):
        ready.run(compare(items(1), **BRAKES))

    assert present(ready) == ["item-0", "item-2"]
    ready.server.emulator.faults.remove(rule)
    assert ready.run(compare(items(1), **BRAKES), try_number=2)["removed"] == 1
    assert present(ready) == ["item-0"]


@pytest.mark.parametrize("world", [{"deleted_item_lag": 3600}], indirect=True)
def test_orphans_that_do_not_vanish_fail_the_task(ready):
    fill(ready, items(2))

    with pytest.raises(GeoCatalogWaitTimeout, match="can still be read: item-1"):
        ready.run(compare(items(1), gone_within=0.2, **BRAKES))


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"remove_orphans": True}, "remove_orphans needs a brake"),
        ({"remove_orphans": True, "max_removed": 5}, "remove_orphans needs a brake"),
        ({"remove_orphans": True, "max_removed_share": 0.5}, "remove_orphans needs a brake"),
        ({"max_removed_share": 1.5}, "from 0 to 1"),
        ({"max_removed_share": float("nan")}, "from 0 to 1"),
        ({"max_removed_share": True}, "from 0 to 1"),
        ({"max_removed": -1}, "max_removed has to be a whole number"),
        ({"max_missing": "3"}, "max_missing has to be a whole number"),
        ({"report_path": "https://a.example/r.ndjson?sig=abcdefgh12345"}, "carries a SAS signature"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_when_the_task_is_made(arguments, complaint):
    with pytest.raises(GeoCatalogInvalidInput, match=complaint):
        compare([], **arguments)


@pytest.mark.parametrize(
    ("source", "arguments", "complaint"),
    [
        ([], {"partition": "decade"}, "partition is 'decade'"),
        ([], {"report_path": "report.json"}, "the report is NDJSON"),
        ([], {"collection_id": "a/b"}, "collection id"),
        ([], {"scope": {"ids": ["a"]}}, "a scope has bbox, intersects, filter, not ids"),
        ([], {"scope": "0,0,5,5"}, "scope is an object, not str"),
        ([], {"transforms": "strip_links"}, "the transforms cannot be used"),
        ([], {"window": {"start": "tomorrow"}}, "the start of a window is no time"),
        ([], {"window": {"start": "2024-01-01", "field": "updated"}, "max_orphaned": 0}, "orphaned cannot be told"),
        ([], {"window": {"start": "2024-01-01", "field": "created"}, **BRAKES}, "orphaned cannot be told"),
        (StacApiSource(url="https://x.example", filter="a = 1"), BRAKES, "the source chooses items by filter"),
        (StacApiSource(url="https://x.example", bbox="a,b"), {}, "the bbox of the source is no JSON"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_before_anything_is_read(ready, source, arguments, complaint):
    ready.server.emulator.requests.clear()

    with pytest.raises(GeoCatalogTaskFailed, match=complaint):
        ready.run(compare(source, **arguments))
    assert requests(ready) == []


def test_what_is_no_source_is_refused(ready):
    with pytest.raises(GeoCatalogTaskFailed, match="source is str; expected one of"):
        ready.run(GeoCatalogCompareItemsOperator(task_id="compare", collection_id="demo", source="https://x.example"))


def test_a_collection_that_does_not_exist_is_not_taken_for_an_empty_one(ready):
    with pytest.raises(GeoCatalogTaskFailed, match="answered 404"):
        ready.run(compare([], collection_id="absent"))


def test_a_window_is_rendered(ready):
    operator = compare([], window={"start": "{{ begin }}", "end": "2024-02-01"}, report_path="{{ begin }}.ndjson")

    operator.render_template_fields({"begin": "2024-01-01"})

    assert operator.window["start"] == "2024-01-01"
    assert operator.report_path == "2024-01-01.ndjson"
