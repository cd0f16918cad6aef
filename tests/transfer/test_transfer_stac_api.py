"""All items of a STAC API, each once, or a loud failure: whatever habits the API has."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import subprocess
import sys
import time
import traceback
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings
from airflow_provider_geocatalog.transfer.seen_items import SeenItems, item_key
from airflow_provider_geocatalog.transfer.source import ItemSourceError, Page
from airflow_provider_geocatalog.transfer.stac_api import StacApiSource
from airflow_provider_geocatalog.transfer.windows import Window
from tests.fakes.scripted_server import Answer, ScriptedServer
from tests.fakes.stubborn_stac_api import StubbornStacApi, tiny_items

NAIP = Path(__file__).parents[3] / "shared" / "data" / "mpcpro-sample-datasets" / "planetary_computer" / "naip"
RUSTAC = Path(sys.executable).with_name("rustac")
SECRET = "s3cr3t-of-the-api"


class Lender:
    """What Airflow lends: the header fields of a connection, others each time."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.asked: list[str | None] = []

    def headers(self, conn_id: str | None, url: str) -> dict[str, str]:
        self.asked.append(conn_id)
        token = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        return {"Authorization": f"Bearer {token}"}


def read(
    api: StubbornStacApi | str, window: Window | None = None, *, part: str | None = None, **options: Any
) -> list[Page]:
    lender = options.pop("environment", None) or Lender("token")
    url = api if isinstance(api, str) else api.url
    source = StacApiSource(url=url, **{"retry_delay": 0.005, "max_retries": 2, **options})
    return list(source.pages(lender, window, part=part))


def ids(pages: list[Page]) -> list[str]:
    return [item["id"] for page in pages for item in page.items]


@pytest.fixture(scope="module")
def many() -> list[dict[str, Any]]:
    return list(tiny_items(25_000))


# --- 25,000 items -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "habits",
    [
        {"ceiling": 10_000},
        {"ceiling": 10_000, "counts": 10_000},
        {"ceiling": 10_000, "counts": None, "ceiling_status": 400},
        {"ceiling": 10_000, "counts": None, "overlap": 3, "paging": "GET"},
        {"overlap": 3, "counts": "context", "paging": "POST-whole"},
        {"loop_at": 60, "counts": None},
        {"loop_at": 60, "loop_renews": True},
    ],
    ids=str,
)
def test_all_of_25000_items_come_each_once(many, habits):
    with StubbornStacApi(many, **habits) as api:
        found = ids(read(api))
    assert len(found) == 25_000
    assert set(found) == {item["id"] for item in many}


def test_25000_items_in_a_window_are_cut_where_the_api_counts_and_read_from_the_oldest_part_on(many):
    window = Window("datetime", "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z")
    with StubbornStacApi(many, ceiling=10_000) as api:
        pages = read(api, window)
        assert sum(request.returned for request in api.searches) < 1.1 * 25_000

        parts = [page.part for page in pages]
        assert parts == sorted(parts)
        later = sorted(set(parts))[1]
        before = {item for page in pages if page.part < later for item in ids([page])}
        rest = set(ids(read(api, window, part=later)))
    assert before | rest == {item["id"] for item in many}
    assert len(rest) < 25_000


# --- other habits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "habits",
    [
        {"repeat_page": 3},
        {"repeat_page": 3, "counts": None},
        {"unstable": True},
        {"unstable": True, "counts": None},
        {"empty_pages": 2, "counts": None},
        {"empty_pages": -1},
        {"loop_at": -1},
        {"max_limit": 7, "counts": None},
        {"has_next": False, "counts": None},
        {"ceiling": 100, "counts": 100},
        {"ceiling": 95, "counts": None, "ceiling_status": 500},
    ],
    ids=str,
)
def test_habits_that_smaller_windows_get_around(habits):
    items = list(tiny_items(300, step=3600))
    with StubbornStacApi(items, **habits) as api:
        found = ids(read(api, limit=20, known_ceilings=(100,), max_retries=0))
    assert sorted(found) == [item["id"] for item in items]


@pytest.mark.parametrize(
    ("habits", "said"),
    [
        ({"loop_at": -1, "counts": None}, "its next page is one that came before"),
        ({"loop_at": -1, "counts": None, "loop_renews": True}, "brought nothing new|were empty"),
        ({"empty_pages": -1, "counts": None}, "pages in a row were empty"),
        ({"ignores_datetime": True, "ceiling": 100}, "100 of 300 items"),
    ],
    ids=str,
)
def test_habits_that_nothing_helps_against_fail(habits, said):
    with StubbornStacApi(tiny_items(300, step=3600), **habits) as api:
        with pytest.raises(ItemSourceError, match=said) as caught:
            read(api, limit=20, known_ceilings=(100,))
        assert len(api.requests) < 2000
    assert not caught.value.retryable


def test_more_items_at_one_moment_than_a_ceiling_fail_and_say_how_many_there_are():
    with StubbornStacApi(tiny_items(150, step=0), ceiling=100) as api:
        with pytest.raises(ItemSourceError, match=r"gave 100 of 150 items .* from 2024-01-01T00:00:00Z") as caught:
            read(api, limit=20, known_ceilings=(100,))
        assert len(api.requests) < 60
    assert not caught.value.retryable
    assert "bbox" in str(caught.value)


def test_a_count_at_a_ceiling_that_is_honest_is_fine():
    with StubbornStacApi(tiny_items(1000), counts=None) as api:
        assert len(ids(read(api))) == 1000
    with StubbornStacApi(tiny_items(1000)) as api:
        assert len(ids(read(api))) == 1000


@pytest.mark.parametrize("limit", [15, 40, 100])
def test_a_ceiling_below_which_a_page_is_left_out_is_noticed_whatever_the_api_gives_on_one(limit):
    habits = {"counts": None, "max_limit": 15, "ceiling": 90}
    with StubbornStacApi(tiny_items(200, step=3600), **habits) as api:
        assert len(ids(read(api, limit=limit, known_ceilings=(100,)))) == 200


def test_pages_smaller_than_asked_for_are_believed_as_full_ones_are():
    with StubbornStacApi(tiny_items(90, step=3600), counts=None, max_limit=15) as api:
        assert len(ids(read(api, limit=40, known_ceilings=(100,)))) == 90
    for count, limit in ((75, 40), (45, 45)):  # nowhere near the ceiling; as many pages as make up the limit
        with StubbornStacApi(tiny_items(count, step=0), counts=None, max_limit=15) as api:
            assert len(ids(read(api, limit=limit, known_ceilings=(100,)))) == count
            assert len(api.searches) == count / 15


def test_a_full_page_without_a_link_is_believed_once_the_api_has_shown_that_it_has_pages():
    with StubbornStacApi(tiny_items(20, step=0), counts=None) as api:
        assert len(ids(read(api, limit=20))) == 20
        assert [request.search["limit"] for request in api.searches] == [20, 19, 19]


def test_estimated_counts_only_divide():
    with StubbornStacApi(tiny_items(30)) as api:
        api.counts = None
        assert len(ids(read(api, counts_are_exact=False))) == 30


def test_items_that_no_smaller_window_has_are_noticed():
    items = list(tiny_items(150))
    for item in items[:5]:
        item["properties"]["datetime"] = None
    with StubbornStacApi(items, ceiling=100) as api, pytest.raises(ItemSourceError, match="gave 145 of 150"):
        read(api, limit=20, known_ceilings=(100,))
    with StubbornStacApi(items) as api:
        assert len(ids(read(api, limit=20, known_ceilings=(100,)))) == 150


def test_too_many_items_are_an_error():
    with StubbornStacApi(tiny_items(30)) as api, pytest.raises(ItemSourceError, match="max_items"):
        read(api, limit=10, max_items=20)


def test_what_came_twice_is_counted(caplog):
    caplog.set_level(logging.INFO)
    with StubbornStacApi(tiny_items(30), overlap=2, counts=None) as api:
        assert len(ids(read(api, limit=10))) == 30
    assert "gave 6 items more than once" in caplog.text


def test_rubbish_is_passed_on():
    rubbish = [None, 5, "text", [1], {"id": 7}]
    with StubbornStacApi([*tiny_items(2), *rubbish]) as api:
        pages = read(api)
    found = [item for page in pages for item in page.items]
    assert all(each in found for each in rubbish)
    assert len(found) == 7


# --- windows ----------------------------------------------------------------------------------------------------------


def held(pages: list[Page], window: Window) -> list[str]:
    return sorted(item["id"] for page in pages for item in page.items if window.holds(item))


def test_a_window_by_datetime_is_asked_for_with_the_users_own_interval():
    window = Window("datetime", "2024-01-01T00:10:00Z", "2024-01-01T00:40:00Z")
    with StubbornStacApi(tiny_items(60)) as api:
        pages = read(api, window, datetime="2024-01-01T00:20:00Z/..")
        assert {request.search["datetime"] for request in api.searches} == {"2024-01-01T00:20:00Z/2024-01-01T00:40:00Z"}
    assert held(pages, window) == [f"item-{number:06}" for number in range(20, 40)]
    assert {page.part for page in pages} == {"2024-01-01T00:20:00Z"}


def test_without_a_window_there_is_one_part_and_no_time_is_asked_for():
    with StubbornStacApi(tiny_items(30)) as api:
        pages = read(api, collections="demo", limit=10)
        assert not any("datetime" in request.search for request in api.searches)
    assert [page.part for page in pages] == [None, None, None]


@pytest.mark.parametrize("paging", ["POST", "GET"])
@pytest.mark.parametrize(
    "given", [None, {"op": "<>", "args": [{"property": "id"}, "item-000011"]}, "id <> 'item-000011'"]
)
def test_a_window_by_updated_goes_through_the_filter_extension(paging, given):
    window = Window("updated", "2024-01-01T00:10:00Z", "2024-01-01T00:40:00Z")
    with StubbornStacApi(tiny_items(300), paging=paging, ceiling=10, counts=None) as api:
        pages = read(api, window, filter=given, limit=5, known_ceilings=(10,))
    found = [item["id"] for page in pages for item in page.items]
    missing = {"item-000011"} if given else set()
    assert sorted(found) == sorted({f"item-{number:06}" for number in range(10, 40)} - missing)


def test_a_window_by_created_goes_through_the_query_extension_where_there_is_no_filter():
    window = Window("created", None, "2024-01-01T00:40:00Z")
    with StubbornStacApi(tiny_items(300), extensions=["query"]) as api:
        pages = read(api, window, query={"updated": {"gte": "2024-01-01T00:10:00Z"}})
    assert held(pages, window) == sorted(ids(pages)) == [f"item-{number:06}" for number in range(10, 40)]


@pytest.mark.parametrize("paging", ["POST", "GET"])
@pytest.mark.parametrize("given", [None, "id <> 'item-000000'"])
def test_items_that_no_window_can_find_come_each_time(paging, given):
    items = list(tiny_items(60))
    for item in items[:20]:
        del item["properties"]["updated"]
    window = Window("updated", "2024-01-01T00:50:00Z")
    with StubbornStacApi(items, paging=paging, ceiling=10, counts=None) as api:
        options = {"limit": 5, "known_ceilings": (10,), "filter": given}
        pages = read(api, window, **options)
        again = read(api, window, part="undated", **options)
        without = read(api, window, with_undated=False, **options)
    undated = [f"item-{number:06}" for number in range(1 if given else 0, 20)]
    assert sorted(ids(pages)) == undated + [f"item-{number:06}" for number in range(50, 60)]
    assert sorted(ids(again)) == undated
    assert sorted(ids(without)) == [f"item-{number:06}" for number in range(50, 60)]


def test_items_without_the_field_of_the_window_fail_where_they_cannot_be_asked_for():
    items = list(tiny_items(3))
    for item in items:
        del item["properties"]["created"]
    window = Window("created", "2024-01-01T00:00:00Z")
    with StubbornStacApi(items, extensions=["query"]) as api:
        with pytest.raises(ItemSourceError, match="items without 'created'"):
            read(api, window)
        assert read(api, window, with_undated=False) == []


@pytest.fixture
def some_undated():
    """Items of which the older ones lack what the window is by: the first of a search has it."""
    items = list(tiny_items(20))
    for item in items[:3]:
        del item["properties"]["updated"]
    return items


SINCE = Window("updated", "2024-01-01T00:00:00Z")


@pytest.mark.parametrize("counts", ["numberMatched", "context", 20])
def test_counts_tell_that_some_items_lack_the_field_of_the_window(some_undated, counts):
    with StubbornStacApi(some_undated, extensions=["query"], counts=counts) as api:
        with pytest.raises(ItemSourceError, match=r"items without 'updated'.*with_undated=False") as caught:
            read(api, SINCE)
        assert len(ids(read(api, SINCE, with_undated=False))) == 17
        with pytest.raises(ItemSourceError, match="items without 'updated'"):
            read(api, SINCE, query={"created": {"gte": "2024-01-01T00:02:00Z"}}, datetime="2024-01-01T00:01:00Z/..")
        # None of those that are asked for lacks it.
        assert len(ids(read(api, SINCE, datetime="2024-01-01T00:03:00Z/.."))) == 17
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("habits", "options"),
    [({"counts": None}, {}), ({}, {"counts_are_exact": False}), ({"counts": 10}, {"known_ceilings": (10,)})],
    ids=["no counts", "estimates", "counting stops"],
)
def test_where_no_count_tells_whether_items_lack_the_field_that_is_said(some_undated, habits, options, caplog):
    with StubbornStacApi(some_undated, extensions=["query"], **habits) as api:
        source = StacApiSource(url=api.url, **options)
        for _ in range(2):
            assert len(ids(list(source.pages(Lender("token"), SINCE)))) == 17
        assert caplog.text.count("cannot be asked for items without 'updated'") == 1
        caplog.clear()
        read(api, SINCE, with_undated=False, **options)
        read(api, SINCE, datetime="1999-01-01T00:00:00Z", **options)  # nothing at all
        assert "without 'updated'" not in caplog.text


def test_a_window_by_updated_needs_an_extension():
    with StubbornStacApi(tiny_items(3), extensions=[]) as api:
        with pytest.raises(GeoCatalogInvalidInput, match="neither the filter nor the query extension"):
            read(api, Window("updated", "2024-01-01T00:00:00Z"))
        assert api.searches == []


def test_items_that_span_time_come_once_although_several_parts_return_them():
    items = list(tiny_items(60))
    for item in items[::10]:
        at = datetime.fromisoformat(item["properties"]["datetime"])
        spans = {
            "datetime": None,
            "start_datetime": at.isoformat(),
            "end_datetime": (at + timedelta(days=1)).isoformat(),
        }
        item["properties"] |= spans
    window = Window("datetime", "2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z")
    with StubbornStacApi(items) as api:
        pages = read(api, window, limit=5, part_size=20)
    assert len({page.part for page in pages}) > 1
    assert sorted(ids(pages)) == [item["id"] for item in items]


def test_an_api_that_takes_no_notice_of_the_window_gives_all():
    window = Window("datetime", "2024-01-05T00:00:00Z", "2024-01-06T00:00:00Z")
    with StubbornStacApi(tiny_items(300, step=3600), ignores_datetime=True) as api:
        pages = read(api, window, limit=50, part_size=100)
    assert len(ids(pages)) == 300
    assert len(held(pages, window)) == 24


def test_fields_keep_what_names_an_item_and_its_time():
    with StubbornStacApi(tiny_items(3)) as api:
        [page] = read(api, fields=["assets"])
    assert {"id", "collection", "properties", "assets"} == set(page.items[0])
    assert "datetime" in page.items[0]["properties"]


# --- failures of the API ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [503, 500, "drop"])
def test_an_api_that_dies_half_way_fails_with_page_and_count(how):
    with StubbornStacApi(tiny_items(300), dies_after=4, dies_with=how) as api:
        with pytest.raises(ItemSourceError, match=r"page \d+ of .*after 80 items") as caught:
            read(api, limit=20)
        assert caught.value.retryable
        api.dies_after = None
        assert len(ids(read(api, limit=20))) == 300


def test_failures_that_pass_are_ridden_out_and_retry_after_is_honoured():
    with StubbornStacApi(tiny_items(30), failures=[(503, 0.01), (429, 0.3), "drop"]) as api:
        began = time.monotonic()
        assert len(ids(read(api, limit=10, max_retries=3))) == 30
    assert time.monotonic() - began > 0.3


def test_a_longer_pause_than_anybody_waits_is_an_error():
    with StubbornStacApi(tiny_items(3), failures=[(429, 7200.0)]) as api, pytest.raises(ItemSourceError) as caught:
        read(api)
    assert caught.value.retryable
    assert caught.value.retry_after == 7200


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_first_page_that_is_refused_is_not_asked_for_again(status):
    with StubbornStacApi(tiny_items(3), failures=[]) as api:
        api.dies_after, api.dies_with = 0, status
        with pytest.raises(ItemSourceError) as caught:
            read(api)
        assert len(api.searches) == (2 if status == 401 else 1)
    assert not caught.value.retryable
    assert caught.value.hint


def test_a_web_page_instead_of_json_is_an_error():
    with StubbornStacApi(failures=["html"]) as api, pytest.raises(ItemSourceError, match="web page") as caught:
        read(api)
    assert not caught.value.retryable


def test_nobody_listening_is_worth_another_try():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ItemSourceError, match="cannot be reached") as caught:
        read(f"http://127.0.0.1:{port}")
    assert caught.value.retryable


# --- credentials ------------------------------------------------------------------------------------------------------


def test_a_connection_is_asked_again_when_its_token_is_refused():
    lender = Lender("first", "second", "third")
    with StubbornStacApi(tiny_items(60), tokens=["first", "second", "third"], requests_per_token=3) as api:
        assert len(ids(read(api, conn_id="api", environment=lender, limit=10))) == 60
    assert lender.asked == ["api"] * 3


def test_headers_are_called_for_every_request():
    calls = iter(range(100))
    with StubbornStacApi(tiny_items(30)) as api:
        read(api, limit=10, headers=lambda: {"X-Call": str(next(calls))})
        assert [request.headers["X-Call"] for request in api.requests] == ["0", "1", "2", "3"]


def test_auth_signs_the_prepared_request():
    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Signed"] = f"{request.method} {len(request.body or b'')}"
        return request

    with StubbornStacApi(tiny_items(3)) as api:
        read(api, auth=sign)
        assert api.searches[0].headers["X-Signed"].startswith("POST ")


class Failing:
    """Header fields, or the signing of a request, that fail at some calls."""

    def __init__(self, error, *calls):
        self.error, self.calls, self.count = error, calls, 0

    def __call__(self, request=None):
        self.count += 1
        if self.count in self.calls:
            raise self.error
        return {"X-Call": str(self.count)} if request is None else request


@pytest.mark.parametrize("what", ["headers", "auth"])
def test_what_the_users_callables_cannot_get_for_a_while_is_ridden_out(what):
    with StubbornStacApi(tiny_items(60)) as api:
        failing = Failing(requests.ConnectionError(f"no answer for {SECRET}"), 4, 5)  # the third page
        assert len(ids(read(api, limit=10, **{what: failing}))) == 60
        assert failing.count == 7 + 2
        with pytest.raises(ItemSourceError, match=r"headers or auth raised TimeoutError.*page 3 of") as caught:
            read(api, limit=10, **{what: Failing(TimeoutError(SECRET), *range(4, 20))})
    assert caught.value.retryable  # by the task
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "options",
    [
        {"headers": Failing(KeyError(SECRET), 1)},
        {"auth": Failing(ValueError(SECRET), 2)},
        {"headers": lambda: {"Authorization": f"{SECRET}\n{SECRET}"}},
    ],
    ids=["KeyError", "ValueError", "no header field"],
)
def test_what_the_users_callables_do_wrong_fails_at_once(options):
    with StubbornStacApi(tiny_items(3)) as api, pytest.raises(ItemSourceError, match="headers or auth") as caught:
        read(api, **options)
    assert not caught.value.retryable
    assert SECRET not in str(caught.value)


def test_a_connection_that_cannot_be_had_for_a_while_is_asked_again():
    class Busy(Lender):
        def headers(self, conn_id, url):
            if len(self.asked) == 1:
                self.asked.append(conn_id)
                raise ConnectionResetError
            return super().headers(conn_id, url)

    lender = Busy("first", "second")
    with StubbornStacApi(tiny_items(30), tokens=["second"]) as api:
        assert len(ids(read(api, conn_id="api", environment=lender, limit=10))) == 30
    assert lender.asked == ["api"] * 3


def test_a_link_to_another_origin_is_not_followed():
    with StubbornStacApi(tiny_items(3)) as other, StubbornStacApi(tiny_items(30), next_origin=other.url) as api:
        with pytest.raises(ItemSourceError, match="another origin"):
            read(api, limit=10, headers={"Authorization": SECRET})
        assert other.requests == []


@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_to_another_origin_is_not_followed(status):
    with StubbornStacApi(tiny_items(3)) as other:
        answer = Answer(status, {}, {"Location": f"{other.url}/"})
        with ScriptedServer(answer) as server, pytest.raises(ItemSourceError, match="another origin"):
            read(server.url, headers={"Authorization": SECRET})
        assert other.requests == []


def test_no_secret_is_told(caplog):
    caplog.set_level(logging.DEBUG)
    with StubbornStacApi(tokens=["another"]) as api:  # it tells what it was sent when it refuses
        with pytest.raises(ItemSourceError) as caught:
            read(f"{api.url}?subscription={SECRET}", headers={"X-Api-Key": SECRET})
        assert SECRET in json.dumps([request.headers for request in api.requests])
    logged = "".join(record.getMessage() for record in caplog.records if not record.name.startswith("urllib3"))
    source = StacApiSource(url=f"https://example.com/stac?subscription={SECRET}", headers={"Authorization": SECRET})
    assert SECRET not in str(caught.value) + repr(caught.value.__dict__) + logged + repr(source)
    assert repr(source) == "StacApiSource(STAC API https://example.com/stac)"


def test_credentials_do_not_go_over_plain_http():
    with pytest.raises(ItemSourceError, match="plain http"):
        read("http://stac.example.com", headers={"Authorization": SECRET})


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "ftp://example.com"},
        {"url": "https://user:pass@example.com"},
        {"bbox": [1, 2, 3]},
        {"bbox": "a,b,c,d"},
        {"bbox": [1, 2, 3, 4], "intersects": {"type": "Point", "coordinates": [1, 2]}},
        {"datetime": "yesterday"},
        {"datetime": "2024-02-01/2024-01-01"},
        {"intersects": "[1]"},
        {"intersects": {"coordinates": [1, 2]}},
        {"query": "no JSON"},
        {"filter": "{no JSON"},
        {"sortby": 5},
        {"collections": [5]},
        {"collections": 5},
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused_before_anything_is_sent(arguments):
    source = StacApiSource(**{"url": "https://example.com", **arguments})
    with pytest.raises(GeoCatalogInvalidInput):
        source.pages(Lender("token"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": 0},
        {"limit": 10_001},
        {"max_items": 0},
        {"timeout": 0},
        {"timeout": None},
        {"retry_delay": "1"},
        {"known_ceilings": None},
        {"known_ceilings": "10000"},
        {"max_retries": -1},
        {"headers": "x"},
        {"auth": 5},
    ],
    ids=str,
)
def test_arguments_that_are_no_templates_are_refused_at_once(arguments):
    with pytest.raises(GeoCatalogInvalidInput):
        StacApiSource(url="https://example.com", **arguments)


@pytest.mark.parametrize("name", ["ids", "collections"])
def test_an_empty_list_of_names_finds_nothing_instead_of_everything(name):
    with StubbornStacApi(tiny_items(3)) as api:
        assert read(api, **{name: []}) == read(api, **{name: "[]"}) == []
        assert api.requests == []


def test_lists_can_be_rendered_texts():
    with StubbornStacApi(tiny_items(3)) as api:
        assert ids(read(api, ids='["item-000001"]', bbox="[7.9, 46.9, 8.1, 47.1]")) == ["item-000001"]
        assert api.searches[0].body["bbox"] == [7.9, 46.9, 8.1, 47.1]


# --- any items --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    moments=st.lists(st.integers(0, 40) | st.integers(0, 10**7), max_size=60),
    limit=st.integers(1, 12),
    ceiling=st.none() | st.integers(3, 20),
    counts=st.sampled_from(["numberMatched", "context", "capped", None]),
    overlap=st.integers(0, 2),
    unstable=st.booleans(),
    bounds=st.none() | st.tuples(st.integers(0, 50), st.integers(50, 10**7)),
)
def test_what_is_found_is_what_is_there(moments, limit, ceiling, counts, overlap, unstable, bounds):
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    items = []
    for number, item in enumerate(tiny_items(len(moments))):
        item["properties"]["datetime"] = (begin + timedelta(milliseconds=moments[number])).isoformat()
        items.append(item)
    window = None
    if bounds:
        window = Window("datetime", *(begin + timedelta(milliseconds=each) for each in bounds))
    known = (ceiling,) if ceiling else (1000,)
    told = (ceiling or 1000) if counts == "capped" else counts
    habits = {"ceiling": ceiling, "counts": told, "overlap": overlap, "unstable": unstable}
    crowd = max((moments.count(each) for each in moments), default=0)
    with StubbornStacApi(items, **habits) as api:
        try:
            pages = read(api, window, limit=limit, known_ceilings=known, part_size=25)
        except ItemSourceError:
            # Only where nobody could prove it: at one moment are as many as a ceiling, or more than a page in disorder.
            is_orderly = not unstable and overlap < limit
            assert crowd >= known[0] or (crowd >= limit and (not is_orderly or crowd > known[0] - limit))
            return
    everything = Window("datetime")
    assert len(ids(pages)) == len(set(ids(pages)))
    assert held(pages, window or everything) == sorted(
        item["id"] for item in items if (window or everything).holds(item)
    )


# --- memory -----------------------------------------------------------------------------------------------------------


def peak_of_reading(items: Any) -> int:
    with StubbornStacApi(items, ceiling=10_000) as api:
        source = StacApiSource(url=api.url)
        for _ in source.pages(Lender("token")):  # what is loaded and cached once
            break
        api.requests.clear()
        tracemalloc.start()
        try:
            # The fake keeps what it is asked and found; that is not the reader's.
            mine = [tracemalloc.Filter(True, "*airflow_provider_geocatalog*"), tracemalloc.Filter(True, "*sqlite3*")]
            most = count = 0
            for number, page in enumerate(source.pages(Lender("token"))):
                count += len(page.items)
                if number % 10 == 0:
                    snapshot = tracemalloc.take_snapshot().filter_traces(mine)
                    most = max(most, sum(each.size for each in snapshot.statistics("filename")))
        finally:
            tracemalloc.stop()
    assert count == len(items)
    return most


def test_memory_does_not_grow_with_the_number_of_items(many):
    few, more = peak_of_reading(many[:1000]), peak_of_reading(many[:12_000])
    assert more < few + 300_000


def test_what_is_remembered_of_items_is_on_disk():
    psutil = pytest.importorskip("psutil")
    seen = SeenItems()
    process = psutil.Process()
    keys = [item_key({"collection": "demo", "id": f"item-{number}"}) for number in range(500)]
    seen.note(keys, 1)
    before = process.memory_info().rss
    for page in range(1, 400):
        seen.note([item_key({"collection": "demo", "id": f"item-{page * 500 + n}"}) for n in range(500)], 1)
    grown = process.memory_info().rss - before
    assert seen.note(keys, 2) == [1] * 500
    seen.close()
    assert grown < 20 * 1024**2


# --- APIs of others ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def naip_items() -> list[dict[str, Any]]:
    if not NAIP.is_dir():
        pytest.skip(f"the sample datasets are not at {NAIP}")
    documents = [json.loads(path.read_text()) for path in sorted(NAIP.rglob("*.json"))]
    items = {
        document["id"]: document
        for document in documents
        if isinstance(document, dict) and document.get("type") == "Feature"
    }
    return list(items.values())


@pytest.fixture(scope="module")
def rustac(naip_items, tmp_path_factory):
    if not RUSTAC.exists():
        pytest.skip("rustac is not installed")
    folder = tmp_path_factory.mktemp("rustac")
    file = folder / "items.json"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": naip_items}))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    command = [str(RUSTAC), "serve", "--create-collections", "--addr", address, str(file)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with contextlib.suppress(requests.ConnectionError):
                    requests.get(f"http://{address}/", timeout=5)
                    break
                time.sleep(0.05)
            yield f"http://{address}"
        finally:
            process.terminate()


@pytest.mark.parametrize("limit", [7, 27, 100])
def test_a_stac_api_in_rust_gives_all_items(rustac, naip_items, limit):
    assert sorted(ids(read(rustac, collections=["naip"], limit=limit))) == sorted(item["id"] for item in naip_items)


def test_a_stac_api_in_rust_gives_the_items_of_a_window(rustac, naip_items):
    window = Window("datetime", "2019-01-01T00:00:00Z", "2020-01-01T00:00:00Z")
    wanted = sorted(item["id"] for item in naip_items if window.holds(item))
    assert 0 < len(wanted) < len(naip_items)
    assert held(read(rustac, window, limit=5), window) == wanted


@pytest.fixture
def emulator():
    with EmulatorServer(Emulator(EmulatorSettings.fast())) as server:
        lender = Lender("no-token", server.admin_token)
        headers = {"Authorization": f"Bearer {server.admin_token}"}
        extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
        demo = {"id": "demo", "type": "Collection", "stac_version": "1.0.0", "description": "x", "license": "CC0-1.0"}
        items = list(tiny_items(60))
        for path, body in (
            ("collections", {**demo, "links": [], "extent": extent}),
            ("collections/demo/items", {"type": "FeatureCollection", "features": items}),
        ):
            url = f"{server.url}/stac/{path}?api-version=2026-04-15"
            answer = requests.post(url, json=body, headers=headers, timeout=10)
            assert answer.status_code == 202, answer.text
            for _ in range(200):
                operation = requests.get(answer.headers["operation-location"], headers=headers, timeout=10).json()
                if operation["status"] == "Succeeded":
                    break
                time.sleep(0.02)
        yield f"{server.url}/stac?api-version=2026-04-15", lender


def test_a_geocatalog_is_a_source_too(emulator):
    url, lender = emulator
    pages = read(url, conn_id="geocatalog", environment=lender, limit=7)
    assert sorted(ids(pages)) == [f"item-{number:06}" for number in range(60)]
    assert lender.asked == ["geocatalog"] * 2  # the first token was refused


def test_a_geocatalog_is_searched_by_updated(emulator):
    url, lender = emulator
    window = Window("updated", "2024-01-01T00:10:00Z", "2024-01-01T00:40:00Z")
    pages = read(url, window, conn_id="geocatalog", environment=lender, limit=7, collections=["demo"])
    assert sorted(ids(pages)) == [f"item-{number:06}" for number in range(10, 40)]
