"""What holds for any input: times, query texts, pages, retries, errors."""

from __future__ import annotations

import copy
import datetime as dt
import email.utils
import itertools
import json
import math
import pickle
import re
import zoneinfo

import pendulum
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_geocatalog.api import endpoints, errors
from airflow_provider_geocatalog.api.calls import Retries, attempt, can_repeat, query_of
from airflow_provider_geocatalog.api.http import Request, Response
from airflow_provider_geocatalog.api.models import parse_timestamp
from airflow_provider_geocatalog.api.operations import items
from airflow_provider_geocatalog.api.operations.arguments import instant, interval
from airflow_provider_geocatalog.client_methods import OperationMethods
from tests.fakes.stepping import Steps, answer

# --- times ------------------------------------------------------------------------------------------------------------

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")
#: A day from the ends of the calendar, where some zones cannot tell the time.
FIRST, LAST = dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29)
OFFSETS = st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)))


def moments(zones):
    return st.datetimes(FIRST, LAST, timezones=zones)


@given(moments(st.timezones() | OFFSETS))
def test_an_instant_keeps_its_moment_in_any_zone(moment):
    text = instant(moment)

    assert RFC3339.fullmatch(text)
    assert parse_timestamp(text) == moment.astimezone(dt.UTC)
    assert interval(moment) == text


@given(moments(st.timezones()))
def test_an_instant_of_pendulum_is_the_same_as_one_of_the_standard_library(moment):
    assert instant(pendulum.instance(moment)) == instant(pendulum.instance(moment).astimezone(dt.UTC))
    assert parse_timestamp(instant(pendulum.instance(moment))).timestamp() == pendulum.instance(moment).timestamp()


@given(st.datetimes(), moments(st.just(dt.UTC)))
def test_a_time_without_a_zone_is_refused_wherever_it_stands(naive, aware):
    for value in (naive, (naive, None), (None, naive), (naive, aware), (aware, naive)):
        with pytest.raises(errors.GeoCatalogInvalidInput, match="no time zone"):
            interval(value)


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@given(moments(st.timezones() | OFFSETS), moments(st.timezones() | OFFSETS))
@example(dt.datetime(2024, 10, 27, 2, 40, tzinfo=BERLIN), dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN))
def test_an_interval_keeps_both_moments_and_never_ends_before_it_starts(one, other):
    start, end = sorted([one, other], key=lambda moment: moment.astimezone(dt.UTC))
    wanted = [moment.astimezone(dt.UTC) for moment in (start, end)]

    assert [parse_timestamp(text) for text in interval((start, end)).split("/")] == wanted
    if wanted[0] != wanted[1]:
        with pytest.raises(errors.GeoCatalogInvalidInput, match="before it starts"):
            interval((end, start))


@pytest.mark.parametrize(("moment", "hours"), [(dt.datetime.max, -1), (dt.datetime.min, 1)])
def test_a_moment_beyond_the_calendar_is_refused(moment, hours):
    with pytest.raises(errors.GeoCatalogInvalidInput, match="beyond the calendar"):
        interval(moment.replace(tzinfo=dt.timezone(dt.timedelta(hours=hours))))


@given(moments(OFFSETS))
def test_an_interval_may_be_open_on_one_side(moment):
    assert interval((moment, None)) == f"{instant(moment)}/.."
    assert interval((None, moment)) == f"../{instant(moment)}"
    with pytest.raises(errors.GeoCatalogInvalidInput):
        interval((None, None))


@given(st.datetimes(FIRST, LAST).map(lambda t: t.replace(microsecond=0)), st.text("0123456789", max_size=9), st.data())
def test_a_timestamp_of_the_service_is_read_to_the_microsecond(moment, digits, data):
    zone = data.draw(st.sampled_from(["", "Z"]) | st.integers(-23 * 60, 23 * 60))
    text = moment.isoformat() + (f".{digits}" if digits else "")
    offset = 0 if isinstance(zone, str) else zone
    text += zone if isinstance(zone, str) else f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02}:{abs(zone) % 60:02}"

    found = parse_timestamp(text)

    wanted = moment.replace(tzinfo=dt.UTC, microsecond=int(digits[:6].ljust(6, "0"))) - dt.timedelta(minutes=offset)
    assert found.utcoffset() is not None
    assert found == wanted
    assert abs((found - wanted).total_seconds()) < 1e-6


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.9999999Z"])
def test_the_ends_of_nets_calendar_are_times(text):
    assert parse_timestamp(text).isoformat()[:19] == text[:19]


@given(st.text() | st.integers() | st.floats() | st.lists(st.integers()))
def test_what_is_no_timestamp_is_an_error_of_the_answer(value):
    try:
        found = parse_timestamp(value)
    except errors.GeoCatalogProtocolError:
        return
    assert found is None if not value else found.utcoffset() is not None


# --- query texts ------------------------------------------------------------------------------------------------------

DEGREES = st.floats(-180, 180) | st.integers(-180, 180)


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)))
def test_query_texts_are_json(parameters):
    found = query_of(parameters)

    assert {name: json.loads(text) if "inf" not in text else float(text) for name, text in found.items()} == {
        name: value for name, value in parameters.items() if value is not None
    }


@given(st.lists(st.booleans() | st.integers(), min_size=1))
def test_a_list_is_written_as_its_entries_are(values):
    assert query_of({"x": values})["x"].split(",") == [query_of({"x": value})["x"] for value in values]


@given(DEGREES, DEGREES, DEGREES, DEGREES, st.none() | st.booleans(), st.none() | st.integers(1, 10_000))
def test_a_box_is_sent_as_it_is(west, south, east, north, sign, limit):
    south, north = sorted([south, north])
    steps = Steps(answer(200, {"features": []}))

    steps.run(items.list_items("c", bbox=(west, south, east, north), sign=sign, limit=limit).read_all())

    query = steps.requests[0].query
    assert [float(number) for number in query["bbox"].split(",")] == [west, south, east, north]
    assert query.get("sign") == {None: None, True: "true", False: "false"}[sign]
    assert query.get("limit") == (None if limit is None else str(limit))


# --- pages ------------------------------------------------------------------------------------------------------------


class Client(Steps, OperationMethods):
    """The methods of a client, whose requests are answered by a rule."""

    async def arun(self, flow):
        return self.run(flow)

    def check(self, request):
        assert request is not None


def operation_list(client):
    return client.list_operations()


def collection_list(client):
    return client.list_collections()


def item_list(client):
    return client.list_items("c", limit=7)


def search(client):
    return client.search(collections=["c"], limit=7)


def next_link(request, page):
    return [{"rel": "next", "method": "GET", "href": f"https://g/{request.path}?page={page}"}]


def merged_body(request, page):
    return [{"rel": "next", "method": "POST", "href": "https://g/s", "body": {"token": str(page)}, "merge": True}]


def whole_body(request, page):
    body = {**request.body, "token": str(page)}
    return [{"rel": "self", "href": "x"}, {"rel": "next", "method": "POST", "href": "https://g/s", "body": body}]


def token_only(request, page):
    return [{"rel": "next", "href": f"https://g/search?limit=7&token={page}"}]


#: The list, the member that holds its entries, and how the server points to another page.
LISTS = {
    "ingestion": (operation_list, "value", None),
    "collections": (collection_list, "collections", next_link),
    "items": (item_list, "features", next_link),
    "search, merged": (search, "features", merged_body),
    "search, whole body": (search, "features", whole_body),
    "search, token": (search, "features", token_only),
}
lists = pytest.mark.parametrize(("make", "member", "links"), LISTS.values(), ids=LISTS)


def page_of(request):
    """Return the page that a request asks for; a search has to keep what it asks for on every page."""
    if request.endpoint.method == "POST":
        assert {**request.body, "token": None} == {"collections": ["c"], "limit": 7, "token": None}
        return int(request.body.get("token", 0))
    return int(re.search(r"page=(\d+)", request.url)[1]) if request.url else 0


def served(member, links, content, following):
    """
    Return a rule that serves pages.

    :param content: Names of the entries of a page, given its number.
    :param following: Number of the page after a page, or ``None``.
    """

    def rule(request):
        page = page_of(request)
        kind = {"type": "Feature", "collection": "c"} if member == "features" else {"status": "Running"}
        body = {member: [{"id": name, **kind} for name in content(page)]}
        after = following(page)
        if links is None:
            body["nextLink"] = None if after is None else f"https://g/operations?page={after}"
        else:
            body["links"] = [] if after is None else links(request, after)
        return answer(200, body)

    return rule


def name_of(entry):
    return entry["id"] if isinstance(entry, dict) else entry.operation_id


def cut_up(sizes):
    """Return pages of such sizes, of entries that all differ."""
    names = map("n{}".format, itertools.count())
    return [list(itertools.islice(names, size)) for size in sizes]


SIZES = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@lists
@settings(max_examples=40)
@given(sizes=SIZES, data=st.data())
def test_pages_give_back_every_entry_once_in_order_and_only_when_wanted(make, member, links, sizes, data):
    pages = cut_up(sizes)
    whole = [name for page in pages for name in page]
    rule = served(member, links, pages.__getitem__, lambda page: page + 1 if page + 1 < len(pages) else None)
    wanted = data.draw(st.integers(0, len(whole)))

    everything, some = Client(rule), Client(rule)

    assert [name_of(entry) for entry in make(everything)] == whole
    assert len(everything.requests) == len(pages)
    assert [name_of(entry) for entry in itertools.islice(make(some), wanted)] == whole[:wanted]
    ends = list(itertools.accumulate(sizes))
    assert len(some.requests) == (0 if wanted == 0 else next(n for n, end in enumerate(ends, 1) if end >= wanted))


@settings(max_examples=40)
@given(sizes=SIZES)
async def test_asynchronous_lists_are_the_same(sizes):
    pages = cut_up(sizes)
    rule = served("features", next_link, pages.__getitem__, lambda page: page + 1 if page + 1 < len(pages) else None)

    found = [entry["id"] async for entry in Client(rule).list_items.aio("c")]

    assert found == [name for page in pages for name in page]


@lists
@settings(max_examples=60)
@given(sizes=SIZES, data=st.data())
def test_links_that_lead_in_a_circle_are_never_taken_for_an_end(make, member, links, sizes, data):
    pages = cut_up(sizes)
    numbers = st.none() | st.integers(0, len(pages) - 1)
    following = data.draw(st.lists(numbers, min_size=len(pages), max_size=len(pages)))
    client = Client(served(member, links, pages.__getitem__, following.__getitem__))
    order, page = [], 0
    while page is not None and page not in order:
        order.append(page)
        page = following[page]
    reached = [name for number in order for name in pages[number]]

    found = []
    try:
        found.extend(map(name_of, make(client)))
    except errors.GeoCatalogProtocolError:
        assert page is not None
        assert found == reached[: len(found)]
        assert len(client.requests) <= len(order) + 2
    else:
        assert page is None
        assert found == reached


@lists
@settings(max_examples=40)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6), again=st.integers(0, 5))
def test_a_page_that_comes_again_under_another_link_is_noticed(make, member, links, sizes, again):
    pages = cut_up(sizes)
    again = min(again, len(pages) - 1)

    def content(number):  # after the last page it goes on with an earlier one, under ever new links
        return pages[number] if number < len(pages) else pages[again + (number - len(pages)) % (len(pages) - again)]

    client = Client(served(member, links, content, lambda number: number + 1))
    found = []
    with pytest.raises(errors.GeoCatalogProtocolError, match="twice"):
        found.extend(map(name_of, make(client)))

    assert found == [name for page in pages for name in page]
    assert len(client.requests) == len(pages) + 1


@lists
def test_empty_pages_without_end_are_noticed(make, member, links):
    client = Client(served(member, links, lambda page: [], lambda page: page + 1))

    with pytest.raises(errors.GeoCatalogProtocolError, match="empty"):
        list(make(client))
    assert len(client.requests) <= 50


@pytest.mark.parametrize("link", [5, True, ["https://g/x"], {"href": "https://g/x"}])
def test_a_link_to_the_next_page_that_is_no_url_is_an_error(link):
    client = Client(lambda _: answer(200, {"value": [], "nextLink": link}))

    with pytest.raises(errors.GeoCatalogProtocolError, match="no URL"):
        list(client.list_operations())


# --- retries ----------------------------------------------------------------------------------------------------------

NAMES = {"collection_id": "c", "item_id": "i", "source_id": "s"}
REQUESTS = [
    Request(endpoint, NAMES, body={})
    for endpoint in (
        endpoints.GET_ITEM,
        endpoints.REPLACE_COLLECTION,
        endpoints.DELETE_ITEM,
        endpoints.SEARCH,
        endpoints.CREATE_SOURCE,
        endpoints.CREATE_ITEM,
        endpoints.UPDATE_ITEM,
    )
]
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


@st.composite
def failures(draw):
    """Return something that may pass, and the seconds that it asks to wait."""
    if draw(st.integers(0, 3)) == 0:
        return errors.GeoCatalogUnreachable("cut off", sent=draw(st.booleans())), None
    status = draw(st.sampled_from(sorted(errors.RETRIED_STATUSES)))
    seconds = draw(st.none() | st.integers(0, 60) | st.floats(0, 60).map(lambda value: round(value, 3)))
    headers = {}
    if isinstance(seconds, int) and draw(st.booleans()):
        headers["date"] = email.utils.format_datetime(NOON, usegmt=True)
        headers["retry_after"] = email.utils.format_datetime(NOON + dt.timedelta(seconds=seconds), usegmt=True)
    elif seconds is not None:
        headers["retry_after"] = str(seconds)
    return answer(status, **headers), seconds


@settings(max_examples=200)
@given(
    st.sampled_from(REQUESTS),
    st.lists(failures(), max_size=12),
    st.builds(Retries, budget=st.floats(0, 200), base=st.floats(0.01, 5), cap=st.floats(0.01, 30)),
    st.floats(0, 20),
)
def test_retries_keep_to_their_budget_and_pauses(request_, failed, retries, duration):
    left = [given for given, _ in failed]
    times = []

    def rule(_):
        times.append(steps.clock.now)
        steps.clock.now += duration
        return left.pop(0) if left else answer(200)

    steps = Steps(rule)
    began = steps.clock.now
    error = None
    try:
        steps.run(attempt(request_, retries))
    except errors.GeoCatalogError as raised:
        error = raised

    assert max(times) - began <= retries.budget + 1e-3 or len(times) == 1
    assert len(steps.pauses) == len(times) - 1
    for number, (pause, (_, asked)) in enumerate(zip(steps.pauses, failed, strict=False)):
        if asked or (asked == 0 and number == 0):
            assert pause == asked
        else:
            assert 0 <= pause <= min(retries.cap, retries.base * 2**number)
    harmless = [request_.endpoint.repeatable or is_harmless(given) for given, _ in failed]
    most = next((n for n, fine in enumerate(harmless, 1) if not fine), len(failed) + 1)
    assert len(times) <= most
    if error is None:
        assert len(times) == len(failed) + 1 <= most
    elif len(times) < most and (pause := failed[len(times) - 1][1]):
        assert steps.clock.now + pause - began > retries.budget  # given up because the next pause was too long


def is_harmless(failure):
    """Return whether what creates may be sent again after a failure."""
    return failure.status == 429 if isinstance(failure, Response) else not failure.sent


@given(st.sampled_from(REQUESTS), st.lists(failures(), min_size=1, max_size=6))
def test_what_creates_is_sent_again_only_if_it_was_certainly_not_done(request_, failed):
    steps = Steps(lambda _: failed[min(len(steps.requests), len(failed)) - 1][0])
    with pytest.raises(errors.GeoCatalogError):
        steps.run(attempt(request_, Retries(budget=500)))

    sent = len(steps.requests)
    if not request_.endpoint.repeatable:
        assert all(is_harmless(failed[min(n, len(failed)) - 1][0]) for n in range(1, sent))
    else:
        assert sent > 1


# --- errors -----------------------------------------------------------------------------------------------------------

TEXT = st.text(max_size=40)
DETAILS = st.fixed_dictionaries(
    {},
    optional={
        "status": st.none() | st.integers(100, 999),
        "code": st.none() | TEXT,
        "request_id": st.none() | TEXT,
        "method": st.none() | st.sampled_from(["GET", "POST"]),
        "path": st.none() | TEXT,
        "hint": st.none() | TEXT,
        "retryable": st.none() | st.booleans(),
        "retry_after": st.none() | st.floats(0, 1e6),
    },
)
CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@st.composite
def any_error(draw):
    kind = draw(st.sampled_from(CLASSES))
    if issubclass(kind, errors.GeoCatalogInvalidInput):
        return kind(draw(TEXT | st.lists(TEXT)), subject=draw(st.none() | TEXT))
    details = draw(DETAILS)
    if issubclass(kind, errors.GeoCatalogUnreachable):
        details["sent"] = draw(st.booleans())
    if issubclass(kind, errors.GeoCatalogOperationError | errors.GeoCatalogWaitTimeout):
        details["summary"] = draw(st.none() | st.dictionaries(TEXT, st.integers()))
    return kind(draw(TEXT), **details)


@given(any_error(), st.sampled_from([copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]))
def test_an_error_is_the_same_on_the_other_side(error, carry):
    again = carry(error)

    assert type(again) is type(error)
    assert (vars(again), again.args, str(again), repr(again)) == (vars(error), error.args, str(error), repr(error))
    assert (again.hint, again.retryable) == (error.hint, error.retryable)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
ENVELOPES = JSON | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("error", "title", "detail", "errors", "status"), JSON)
)
ERROR_HEADERS = st.dictionaries(
    st.sampled_from(
        ["x-ms-error-code", "x-request-id", "x-azure-ref", "retry-after", "date", "api-supported-versions"]
    ),
    TEXT,
)


@given(
    st.integers(100, 999),
    st.binary(max_size=60) | ENVELOPES.map(lambda value: json.dumps(value).encode()),
    ERROR_HEADERS,
)
def test_any_answer_makes_an_error_that_can_be_read(status, content, headers):
    error = errors.error_for(Request(endpoints.GET_ITEM, NAMES), Response(status, headers, content))

    assert str(error).startswith(f"GET /collections/c/items/i answered {status}")
    assert pickle.loads(pickle.dumps(error)).args == error.args
    assert isinstance(can_repeat(Request(endpoints.GET_ITEM, NAMES), error), bool)


@given(
    TEXT
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,20} [A-Z][a-z]{2} \d{1,20} \d\d?:\d\d:\d\d [+-]?\w{1,24}", fullmatch=True),
    TEXT,
)
@example("Thu, 01 Jan 99999999999 10:00:00 GMT", "")
@example("Thu, 01 Jan 2026 10:00:00 +99999999999999999999", "")
@example("Fri, 31 Dec 9999 23:59:59 -2300", "Mon, 01 Jan 0001 00:00:00 +2300")
@example("9" * 400, "")
def test_no_retry_after_breaks_the_reading(value, date):
    seconds = errors.retry_after_of(Response(503, {"retry-after": value, "date": date}))

    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))
