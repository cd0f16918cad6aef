"""The transfer of items into a GeoCatalog."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
from airflow_provider_geocatalog.operators.transfer import DataInterval, StacToGeoCatalogOperator, Watermark
from airflow_provider_geocatalog.transfer.files import ItemFilesSource
from airflow_provider_geocatalog.transfer.fingerprint import FINGERPRINT
from tests.fakes.transfers import ListSource, Run, items


@pytest.fixture
def made(world, documents):
    client = GeoCatalogHook().client
    client.wait(client.create_collection(documents("demo")))
    world.client = client
    return world


def operator(source: Any, **arguments: Any) -> StacToGeoCatalogOperator:
    arguments.setdefault("min_poll_interval", 0.02)
    return StacToGeoCatalogOperator(task_id="task", collection_id="demo", source=source, **arguments)


def catalog(world: Any) -> dict[str, dict[str, Any]]:
    return {item["id"]: item for item in world.client.list_items("demo", limit=1000)}


def writes(world: Any) -> Counter[str]:
    return Counter(world.writes)


def test_all_items_arrive_in_batches(made):
    result = Run().execute(operator(ListSource(items(250)), batch_items=100))
    assert result["counts"] == {
        **dict.fromkeys(result["counts"], 0),
        "seen": 250,
        "sent": 250,
        "created": 250,
    }
    found = catalog(made)
    assert len(found) == 250
    assert all(len(item["properties"][FINGERPRINT]) == 64 for item in found.values())
    assert writes(made)["create_item"] == 3
    assert result["operations_started"] == len(result["operations"]) == 3
    assert result["interval"] == ["2024-01-01T00:00:00Z", "2024-01-11T09:00:00Z"]
    assert result["bbox"] == [1.0, 2.0, 1.0, 2.0]


def test_an_identical_day_is_not_written_again(made):
    Run().execute(operator(ListSource(items(120))))
    before = writes(made)
    result = Run(run_id="again").execute(operator(ListSource(items(120))))
    assert writes(made) == before
    assert result["counts"]["unchanged"] == 120
    assert result["counts"]["sent"] == 0


def test_what_changed_is_replaced_in_place(made):
    Run().execute(operator(ListSource(items(30))))
    changed = items(30)
    changed[7]["properties"]["eo:cloud_cover"] = 12.5
    result = Run(run_id="again").execute(operator(ListSource(changed)))
    assert result["counts"]["updated"] == 1
    assert result["counts"]["unchanged"] == 29
    assert catalog(made)["item-000007"]["properties"]["eo:cloud_cover"] == 12.5
    assert "delete_item" not in writes(made)


@pytest.mark.parametrize(
    ("mode", "counts"),
    [
        ("upsert", {"updated": 11}),
        ("skip_existing", {"skipped": 11}),
        ("skip_unchanged", {"updated": 1, "unchanged": 10}),
    ],
)
def test_modes(made, mode, counts):
    Run().execute(operator(ListSource(items(11))))
    changed = items(12)
    changed[3]["properties"]["gsd"] = 10
    result = Run(run_id="again").execute(operator(ListSource(changed), mode=mode))
    expected = {**dict.fromkeys(result["counts"], 0), "seen": 12, "created": 1, **counts}
    expected["sent"] = 1 + counts.get("updated", 0)
    assert result["counts"] == expected


def test_creating_fails_those_that_exist_with_other_content(made):
    from airflow_provider_geocatalog.operators.base import GeoCatalogTaskFailed

    Run().execute(operator(ListSource(items(5))))
    changed = items(6)
    changed[3]["properties"]["gsd"] = 10
    run = Run(run_id="again")
    with pytest.raises(GeoCatalogTaskFailed, match=r"1 of 6 items .* other content"):
        run.execute(operator(ListSource(changed), mode="create"))
    assert run.ti.xcoms["transfer"]["counts"]["created"] == 1
    assert run.ti.xcoms["transfer"]["counts"]["unchanged"] == 4
    assert run.ti.xcoms["transfer"]["failures"][0]["code"] == "ItemAlreadyExistsInCollection"


def test_the_dead_letter_file_names_exactly_the_failed_and_repairs_them(made, tmp_path):
    faults = made.server.emulator.faults
    bad = {f"item-{number:06}" for number in range(0, 1000, 73)}
    rule = faults.add("fail_items", items=sorted(bad), code="AssetTransformationError", message="broken asset")
    dead = tmp_path / "dead.ndjson"
    run = Run()
    with pytest.raises(Exception, match=f"{len(bad)} of 1000 items"):
        run.execute(operator(ListSource(items(1000)), dead_letter_path=str(dead), portion_items=300))
    lines = [json.loads(line) for line in dead.read_text().splitlines()]
    assert {line["id"] for line in lines} == bad
    assert len(lines) == len(bad)
    assert {line["code"] for line in lines} == {"AssetTransformationError"}
    assert all("broken asset" in line["reason"] and line["operation_id"] for line in lines)
    assert set(catalog(made)) == {f"item-{number:06}" for number in range(1000)} - bad
    faults.remove(rule)
    before = len(catalog(made))
    result = Run(run_id="repair").execute(
        operator(ItemFilesSource(path=str(dead)), dead_letter_path=str(tmp_path / "again.ndjson"))
    )
    assert result["counts"]["sent"] == result["counts"]["created"] == len(bad)
    assert len(catalog(made)) == before + len(bad)
    assert result["dead_letter_path"] is None


def test_bad_items_are_set_aside_and_do_not_stop_the_good(made, tmp_path):
    held: list[Any] = items(10)
    held[1]["geometry"] = None
    del held[2]["properties"]["datetime"]
    held[3]["id"] = "no/slash"
    held[4]["assets"]["image"]["href"] = "relative.tif"
    held[5] = "rubbish"
    held[6] = {"type": "Feature"}
    held += [{**held[7], "id": "ITEM-000007"}]
    dead = tmp_path / "dead.ndjson"
    result = Run().execute(operator(ListSource(held), max_failures=7, dead_letter_path=str(dead)))
    assert result["counts"]["set_aside"] == 7
    assert set(catalog(made)) == {f"item-{number:06}" for number in (0, 7, 8, 9)}
    reasons = [json.loads(line)["reason"] for line in dead.read_text().splitlines()]
    assert len(reasons) == 7
    assert all(reasons)


def test_a_portion_is_waited_for_in_the_triggerer(made):
    made.server.emulator.faults.add("fail_items", items=["item-000003"], code="StacValidationFailed", times=1)
    made.server.emulator.faults.add("hold", types=["AddItem"], status="Running", seconds=0.5, times=2)
    run = Run()
    result = run.execute(
        operator(ListSource(items(450)), portion_items=200, deferrable=True, defer_after=0.05, max_failures=1)
    )
    assert run.deferrals >= 1
    assert len(catalog(made)) >= 449
    counts = result["counts"]
    assert counts["created"] + counts["failed"] == counts["seen"] == counts["sent"] == 450
    assert counts["created"] == len(catalog(made))


def test_the_source_breaks_off_and_the_next_try_goes_on(made):
    source = ListSource(items(500), page=100, parts=True, fail_after=300)
    run = Run()
    with pytest.raises(Exception, match="broke off"):
        run.execute(operator(source, portion_items=200))
    there = len(catalog(made))
    assert there >= 200
    source.fail_after, source.read, run.ti.try_number = None, 0, 2
    result = run.execute(operator(source, portion_items=200))
    assert result["counts"]["seen"] == 500
    assert source.read == 300  # from the part on in which it had stopped
    assert len(catalog(made)) == 500
    assert run.store.kept == {}


def test_a_watermark_finds_late_and_edited_items_and_moves_only_after_success(made):
    held = items(48)
    window = Watermark(field="updated", name="w")
    run = Run()
    asset = "asset"
    window.asset = asset
    from tests.fakes.transfers import Store

    run.asset_store[asset] = store = Store()
    result = run.execute(operator(ListSource(held), window=window))
    assert result["counts"]["created"] == 48
    assert result["watermark"] == "2024-01-02T23:00:00Z"
    held[5]["properties"].update(updated="2024-01-03T05:00:00Z", gsd=3)
    times = {"datetime": "2024-01-01T00:30:00Z", "updated": "2024-01-03T06:00:00Z"}
    late = {**held[0], "id": "late", "properties": times}
    again = Run(run_id="again")
    again.asset_store[asset] = store
    result = again.execute(operator(ListSource([*held, late]), window=window))
    counts = result["counts"]
    assert (counts["created"], counts["updated"], counts["outside"]) == (1, 1, 45)
    assert counts["unchanged"] == 2  # of the overlap
    assert result["watermark"] == "2024-01-03T06:00:00Z"


def test_the_data_interval_is_the_window(made):
    import pendulum

    result = Run().execute(
        operator(ListSource(items(72)), window=DataInterval()),
        data_interval_start=pendulum.datetime(2024, 1, 2),
        data_interval_end=pendulum.datetime(2024, 1, 3),
    )
    assert result["counts"]["created"] == 24
    assert result["counts"]["outside"] == 48
    assert result["window"] == {"field": "datetime", "start": "2024-01-02T00:00:00Z", "end": "2024-01-03T00:00:00Z"}


def test_a_lost_answer_creates_nothing_twice(made):
    made.server.emulator.faults.add("drop", operations="create_item", handled=True, times=1)
    made.server.emulator.faults.add("drop", operations="create_item", times=1, skip=1)
    result = Run().execute(operator(ListSource(items(300)), batch_items=50))
    assert result["counts"]["created"] == 300
    assert result["counts"]["failed"] == 0
    assert len(catalog(made)) == 300


def test_a_dry_run_sends_nothing(made):
    Run().execute(operator(ListSource(items(5))))
    before = writes(made)
    changed = items(9)
    changed[0]["properties"]["gsd"] = 1
    result = Run(run_id="dry").execute(operator(ListSource(changed), dry_run=True))
    assert writes(made) == before
    assert (result["counts"]["created"], result["counts"]["updated"]) == (4, 1)
    assert result["dry_run"] is True


# --- what fails ---------------------------------------------------------------------------------------------------


def failing(world: Any, run: Run, work: StacToGeoCatalogOperator) -> dict[str, Any]:
    """Return the result of a transfer that fails because of items."""
    with pytest.raises(Exception, match="are not in collection"):
        run.execute(work)
    return run.ti.xcoms["transfer"]


@pytest.mark.parametrize("world", [{"max_items_per_post": 20}], indirect=True)
def test_a_batch_that_is_too_large_for_the_service_is_divided(made):
    result = Run().execute(operator(ListSource(items(160)), batch_items=50))
    assert result["counts"]["created"] == result["counts"]["sent"] == 160
    assert len(catalog(made)) == 160


def test_a_request_that_is_too_large_is_divided(made):
    made.server.emulator.faults.add("status", operations="create_item", status=413, times=2)
    result = Run().execute(operator(ListSource(items(100)), batch_items=50))
    assert result["counts"]["created"] == 100
    assert writes(made)["create_item"] > 2


def test_a_batch_that_fails_as_a_whole_is_not_tried_item_by_item(made):
    made.server.emulator.faults.add("fail_items", item_pattern="item-.*", code="IngestionResourceForbidden")
    result = failing(made, Run(), operator(ListSource(items(100)), batch_items=50))
    assert result["counts"]["failed"] == 100
    assert {one["code"] for one in result["failures"]} == {"IngestionResourceForbidden"}
    assert writes(made)["create_item"] == 2 + 2 * 3


def test_what_fails_for_a_moment_is_sent_once_more(made):
    made.server.emulator.faults.add(
        "fail_items", item_pattern="item-0000[12].", code="InternalIntermitentError", times=20
    )
    result = Run().execute(operator(ListSource(items(60))))
    assert result["counts"]["created"] == 60
    assert result["counts"]["failed"] == 0


def test_a_replacement_that_fails_is_told_with_its_operation(made):
    Run().execute(operator(ListSource(items(5))))
    changed = items(5, gsd=2)
    made.server.emulator.faults.add("fail_items", items=["item-000002"], types=["UpdateItem"], code="EmptyAsset")
    result = failing(made, Run(run_id="again"), operator(ListSource(changed), mode="upsert"))
    assert (result["counts"]["updated"], result["counts"]["failed"]) == (4, 1)
    assert result["failures"][0]["id"] == "item-000002"
    assert "gsd" not in catalog(made)["item-000002"]["properties"]


def test_a_failed_replacement_is_found_after_a_deferral(made, tmp_path):
    Run().execute(operator(ListSource(items(6))))
    made.server.emulator.faults.add("fail_items", items=["item-000002"], types=["UpdateItem"], code="EmptyAsset")
    made.server.emulator.faults.add("fail_items", items=["item-000007"], code="CogTransformationError")
    made.server.emulator.faults.add("hold", types=["UpdateItem", "AddItem"], status="Running", seconds=0.6)
    run = Run(run_id="again")
    dead = tmp_path / "dead.ndjson"
    work = operator(
        ListSource(items(10, gsd=2)),
        mode="upsert",
        deferrable=True,
        defer_after=0.05,
        dead_letter_path=str(dead),
    )
    result = failing(made, run, work)
    assert run.deferrals == 1
    assert {**result["counts"], "updated": 5, "created": 3, "failed": 2, "sent": 10, "seen": 10} == result["counts"]
    lines = [json.loads(line) for line in dead.read_text().splitlines()]
    assert {(line["id"], line["code"]) for line in lines} == {
        ("item-000002", "EmptyAsset"),
        ("item-000007", "CogTransformationError"),
    }
    assert all(line["item"]["properties"]["gsd"] == 2 for line in lines)


def test_a_canceled_operation_is_not_repeated(made):
    made.server.emulator.faults.add("hold", types=["AddItem"], status="Running", seconds=1.0)
    import threading

    def cancel() -> None:
        for _ in range(200):
            found = [one for one in made.client.list_operations(status="Running") if one.type == "AddItem"]
            if found:
                made.client.cancel_operation(found[0].operation_id)
                return

    canceling = threading.Thread(target=cancel)
    canceling.start()
    result = failing(made, Run(), operator(ListSource(items(10))))
    canceling.join()
    assert result["counts"]["failed"] == 10
    assert writes(made)["create_item"] == 1


def test_a_lost_answer_whose_operation_still_runs_is_waited_for(made):
    made.server.emulator.faults.add("drop", operations="create_item", handled=True, times=1)
    made.server.emulator.faults.add("hold", types=["AddItem"], status="Running", seconds=0.8, times=1)
    result = Run().execute(operator(ListSource(items(50))))
    assert result["counts"]["created"] == 50
    assert writes(made)["create_item"] == 1


def test_the_service_is_away_and_the_next_try_goes_on(made):
    rule = made.server.emulator.faults.add(
        "status", operations="create_item", status=400, skip=2, code="ValidationError"
    )
    run = Run()
    result = failing(made, run, operator(ListSource(items(30)), batch_items=10, concurrency=1))
    assert result["counts"]["failed"] == 10
    made.server.emulator.faults.remove(rule)
    result = Run(run_id="again").execute(operator(ListSource(items(30))))
    assert (result["counts"]["created"], result["counts"]["unchanged"]) == (10, 20)


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"mode": "merge"}, "mode is 'merge'"),
        ({"validation": "maybe"}, "validation is 'maybe'"),
        ({"window": "yesterday"}, "window is a DataInterval"),
        ({"window": {"start": "2024-02-01", "end": "2024-01-01"}}, "cannot end"),
        ({"window": DataInterval()}, "no data interval"),
        ({"transforms": "drop_assets"}, "transforms"),
        ({"source": "https://example.com/stac"}, "source is str"),
        ({"source": ItemFilesSource(path="a.ndjson"), "dead_letter_path": "a.ndjson"}, "dead_letter_path"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(made, arguments, says):
    before = writes(made)
    source = arguments.pop("source", ListSource(items(1)))
    with pytest.raises(Exception, match=says):
        Run().execute(operator(source, **arguments))
    assert writes(made) == before


def test_a_missing_collection_is_told_before_the_source_is_read(made):
    source = ListSource(items(1))
    work = StacToGeoCatalogOperator(task_id="task", collection_id="absent", source=source)
    with pytest.raises(Exception, match="absent"):
        Run().execute(work)
    assert source.read == 0


def test_a_signer_that_raises_sets_its_item_aside_and_no_token_is_left(made, tmp_path):
    from airflow_provider_geocatalog.transfer.transforms import DEFAULT_TRANSFORMS, sign_hrefs

    def sign(href: str) -> str:
        if "000003" in href:
            raise RuntimeError("no token for sig=abcdefghijklmn")
        return f"{href}?sv=1&sig=verysecretsignature"

    held = items(5)
    for item in held:
        item["assets"]["image"]["href"] = f"https://example.com/{item['id']}.tif"
    dead = tmp_path / "dead.ndjson"
    work = operator(
        ListSource(held),
        transforms=[*DEFAULT_TRANSFORMS, sign_hrefs(sign)],
        dead_letter_path=str(dead),
        max_failures=1,
    )
    result = Run().execute(work)
    assert (result["counts"]["created"], result["counts"]["set_aside"]) == (4, 1)
    text = dead.read_text()
    assert "abcdefghijklmn" not in text
    assert "verysecretsignature" not in text
    assert "item-000003" in text
    again = Run(run_id="again").execute(work)
    assert again["counts"]["unchanged"] == 4


# --- what is set aside ------------------------------------------------------------------------------------------------


def lines(path: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_dead_letter_file_has_no_secret_of_an_item_that_was_set_aside(made, tmp_path):
    from airflow_provider_geocatalog.transfer.transforms import DEFAULT_TRANSFORMS, remove_signatures

    held: list[Any] = items(5)
    for item in held:
        item["assets"]["image"]["href"] = "https://example.com/x.tif?k=hidden-by-name"
    held[0]["geometry"] = {"type": "Point", "coordinates": [999, 2]}
    held[1]["properties"] |= {
        "preview": "https://a.example/x.png?sv=1&sig=hidden-by-form",
        "notes": [["see https://a.example/y?sig=hidden-by-form"], {"https://a.example/?sig=hidden-by-form": 1}],
    }
    held[2]["properties"] = "rubbish"
    held[3]["id"] = "https://a.example/z?sv=1&sig=hidden-by-form"
    held[4]["id"] = "ITEM-000004"
    dead = tmp_path / "dead.ndjson"
    run = Run()
    work = operator(
        ListSource([*items(5, first=4), *held]),
        transforms=[*DEFAULT_TRANSFORMS, remove_signatures(["k"])],
        dead_letter_path=str(dead),
    )
    with pytest.raises(Exception, match="5 of 10 items") as raised:
        run.execute(work)
    told = [dead.read_text(), str(raised.value), json.dumps(run.ti.xcoms)]
    assert not [text for text in told if "hidden-by" in text]
    found = lines(dead)
    assert [line["stage"] for line in found] == ["validation", "validation", "read", "validation", "validation"]
    assert found[1]["item"]["properties"]["preview"] == "https://a.example/x.png?sv=1&sig=***"
    # A repair run sends nothing in which something was masked.
    again = Run(run_id="again").execute(operator(ItemFilesSource(path=str(dead)), max_failures=4))
    assert (again["counts"]["set_aside"], again["counts"]["created"]) == (4, 1)


def test_a_repair_run_makes_of_what_was_set_aside_what_the_transfer_would_have_made(made, tmp_path):
    from airflow_provider_geocatalog.transfer.transforms import (
        DEFAULT_TRANSFORMS,
        drop_properties,
        note_source_url,
        remove_signatures,
        rename_assets,
        sanitise_ids,
    )

    held = items(6)
    for number, item in enumerate(held):
        item["id"] = f"scene:{number}"
        item["assets"]["image"]["href"] = "./x.tif?k=secret&sig=abcdefgh"
        item["links"] = [
            {"rel": "self", "href": f"https://example.com/items/{number}.json"},
            {"rel": "root", "href": "/"},
        ]
        item["properties"]["odd"] = 1
    transforms = [
        note_source_url(),
        *DEFAULT_TRANSFORMS,
        sanitise_ids({":": "_"}),
        rename_assets({"image": "data"}),
        drop_properties(["odd"]),
        remove_signatures(["k"]),
    ]
    dead = tmp_path / "dead.ndjson"
    Run().execute(
        operator(ListSource(held), transforms=transforms, max_item_bytes=1, dead_letter_path=str(dead), max_failures=6)
    )
    assert [line["id"] for line in lines(dead)] == [f"scene_{number}" for number in range(6)]
    repair = Run(run_id="repair").execute(operator(ItemFilesSource(path=str(dead)), transforms=transforms))
    assert repair["counts"]["created"] == 6
    again = Run(run_id="again").execute(operator(ListSource(held), transforms=transforms))
    assert again["counts"]["unchanged"] == 6


def test_mapped_tasks_have_a_dead_letter_file_each(made, tmp_path):
    made.server.emulator.faults.add("fail_items", items=["item-000003", "item-000013"], code="EmptyAsset")
    path = str(tmp_path / "dead.ndjson")
    for index, first in enumerate((0, 10, 20)):
        run = Run(map_index=index, run_id=f"{index}")
        work = operator(ListSource(items(10, first=first)), dead_letter_path=path, deferrable=index == 1, defer_after=0)
        if index < 2:
            with pytest.raises(Exception, match=rf"All of them are in \S+dead\.{index}\.ndjson"):
                run.execute(work)
            assert run.ti.xcoms["transfer"]["dead_letter_path"] == str(tmp_path / f"dead.{index}.ndjson")
        else:
            assert run.execute(work)["dead_letter_path"] is None
    assert {file.name: [line["id"] for line in lines(file)] for file in tmp_path.glob("*.*")} == {
        "dead.0.ndjson": ["item-000003"],
        "dead.1.ndjson": ["item-000013"],
    }
    work = operator(ItemFilesSource(path=str(tmp_path / "dead.1.ndjson")), dead_letter_path=path)
    with pytest.raises(Exception, match=r"dead_letter_path is what is read: \S+dead\.1\.ndjson"):
        Run(map_index=1).execute(work)


@pytest.mark.parametrize(
    ("signed", "href_check", "fate"), [(True, "set_aside", "created"), (False, "set_aside", "set_aside")]
)
def test_hrefs_are_checked_with_the_signatures_that_they_get(made, tmp_path, signed, href_check, fate):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    from airflow_provider_geocatalog.transfer.transforms import DEFAULT_TRANSFORMS, sign_hrefs

    class Private(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if "sig=" in self.path else 403)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Private) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        held = items(2)
        for item in held:
            item["assets"]["image"]["href"] = f"http://127.0.0.1:{server.server_port}/private/x.tif"
        held[0]["assets"]["other"] = {"href": "https://example.com/y.tif?sig=of-the-source"}
        keys = ["image"] if signed else ["other"]
        sign = sign_hrefs(lambda href: f"{href}?sv=1&sr=c&sig=of-the-signer", keys=keys)
        dead = tmp_path / "dead.ndjson"
        result = Run().execute(
            operator(
                ListSource(held),
                transforms=[*DEFAULT_TRANSFORMS, sign],
                href_check=href_check,
                dead_letter_path=str(dead),
                max_failures=2,
            )
        )
        server.shutdown()
    assert result["counts"][fate] == 2
    assert all("/private has no ingestion source" in one["reason"] for one in result["failures"])
    assert "sig=of" not in json.dumps(result) + (dead.read_text() if dead.exists() else "")


def test_what_is_set_aside_counts_for_the_size_of_a_portion():
    from airflow_provider_geocatalog.transfer.item_checks import ItemChecker, SeenIds
    from airflow_provider_geocatalog.transfer.preparing import Preparer
    from airflow_provider_geocatalog.transfer.transforms import Pipeline

    def broken(item: dict[str, Any]) -> dict[str, Any]:
        if item["id"] == "item-000002":
            raise ValueError("no")
        return item

    checker = ItemChecker("demo", max_item_bytes=50_000)
    preparer = Preparer(Pipeline("demo", [broken]), checker=checker, seen=SeenIds())
    held: list[Any] = items(4, title="x" * 100_000)
    held[0]["properties"]["title"] = "x" * 10_000
    held[3]["properties"] = "x" * 100_000
    done = preparer.prepare([*held, "x" * 100_000])
    preparer.close()
    assert (len(done.ready), len(done.dead)) == (1, 4)
    assert 410_000 < done.size < 415_000


def test_a_portion_of_large_items_ends_early_even_if_they_are_all_set_aside(made):
    held = items(6, title="x" * 6_000_000)
    result = Run().execute(operator(ListSource(held, page=1), max_item_bytes=1000, max_failures=6))
    assert result["counts"]["set_aside"] == 6
    assert result["portions"] >= 2
