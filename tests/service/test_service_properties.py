"""What holds for any input on the way to the socket: ids, query texts, addresses, the request rate."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import threading
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import call
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogForeignUrl,
    GeoCatalogInvalidInput,
    GeoCatalogUnsupportedOperation,
)
from airflow_provider_geocatalog.api.http import Request
from airflow_provider_geocatalog.auth import ConnectionSettings, TokenSource
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.rate_limit import BURST, RateLimit
from tests.fakes.clock import FakeClock

#: A fixture of hypothesis' function serves all its examples, which is right for servers.
over_a_socket = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def server(script):
    return script((200, {}, {}))


@pytest.fixture
def other(script):
    return script((200, {}, {}))


@pytest.fixture
def client(connect, server):
    return connect(server.url)


HOSTILE = ["/", "a/b", "?", "#", "a?b=c", "%2F", "%252F", "%2e%2e", "...", "../x", "a/../../b", " ", "+", "a+b c", "&"]
HOSTILE += [
    "ü",
    "日本",
    "😀",
    "e\u0301",
    "\u202e",
    "\x00",
    "\r\n",
    "\r\nX-A: b",
    "\t",
    "\\",
    "{x}",
    "{}",
    ";",
    "~",
    ":",
]
IDS = st.sampled_from(HOSTILE) | st.text(min_size=1, max_size=40)
PLACEHOLDER = re.compile(r"\{(\w+)\}")
NAMED = [endpoint for endpoint in ENDPOINTS.values() if PLACEHOLDER.search(endpoint.path)]


@over_a_socket
@given(endpoint=st.sampled_from(NAMED), value=st.text(max_size=30), data=st.data())
def test_every_id_arrives_as_it_is_in_its_own_segment(client, server, endpoint, value, data):
    try:
        template = client.settings.dialect.template(endpoint)
    except GeoCatalogUnsupportedOperation:
        return
    names = {
        name: data.draw(IDS.filter(lambda text: text not in {".", ".."})) for name in PLACEHOLDER.findall(template)
    }

    client.send(Request(endpoint, names, {"token": value}, body={} if endpoint.method in {"POST", "PATCH"} else None))

    path, _, query = server.seen[-1].path.partition("?")
    assert [unquote(segment, errors="strict") for segment in path.split("/")] == [
        names[segment.strip("{}")] if PLACEHOLDER.fullmatch(segment) else segment for segment in template.split("/")
    ]
    assert parse_qsl(query, keep_blank_values=True, errors="strict") == [
        ("token", value),
        ("api-version", client.settings.dialect.api_version),
    ]


@pytest.mark.parametrize("bad", ["", ".", "..", "\ud800", "a\udfffb", None, 7, b"x"])
def test_what_cannot_be_an_id_is_refused_before_anything_is_sent(client, server, bad):
    for endpoint in NAMED:
        names = PLACEHOLDER.findall(endpoint.path)
        for name in names:
            with pytest.raises(GeoCatalogInvalidInput):
                client.send(Request(endpoint, {**dict.fromkeys(names, "fine"), name: bad}))
    assert server.seen == []


@pytest.mark.parametrize(
    "request_",
    [
        Request(endpoints.LIST_ITEMS, {"collection_id": "c"}, {"token": "\ud800"}),
        Request(endpoints.CREATE_SOURCE, body={"kind": "\ud800"}),
        Request(endpoints.CREATE_SOURCE, body={"number": math.nan}),
        Request(endpoints.CREATE_SOURCE, body={"object": object()}),
    ],
    ids=["query", "text", "number", "object"],
)
def test_what_no_wire_can_carry_is_refused_before_anything_is_sent(client, server, request_):
    with pytest.raises(GeoCatalogInvalidInput):
        client.send(request_)
    assert server.seen == []


def test_a_body_that_is_nested_too_deeply_is_refused(client, server):
    body = []
    for _ in range(100_000):
        body = [body]

    with pytest.raises(GeoCatalogInvalidInput, match="cannot be written as JSON"):
        client.send(Request(endpoints.CREATE_SOURCE, body=body))
    assert server.seen == []


PIECES = [
    "http:",
    "https:",
    "//",
    "/",
    "\\",
    "@",
    ":",
    "?",
    "#",
    "%2F",
    "%",
    "[",
    "]",
    "..",
    ".",
    "\n",
    " ",
    "\x00",
    "ü",
]
PIECES += [
    "127.0.0.1",
    "localhost",
    "a.example",
    "OWN",
    "OTHER",
    "[::1]",
    "x",
    "api-version=1",
    "\u2100",
    "\ud800",
    "\uff10",
]


@over_a_socket
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=8))
@example(pieces=["http:", "//", "127.0.0.1", ":", "OTHER", "\\", "@", "127.0.0.1", ":", "OWN", "/"])
@example(pieces=["?", "\ud800"])
@example(pieces=["http:", "//", "127.0.0.1", ":", "OWN", "@", "127.0.0.1", ":", "OTHER", "/"])
def test_no_address_that_the_service_gives_leads_elsewhere(client, server, other, pieces):
    text = "".join(pieces).replace("OWN", server.url.rsplit(":", 1)[1]).replace("OTHER", other.url.rsplit(":", 1)[1])

    with contextlib.suppress(GeoCatalogForeignUrl):
        client.send(Request(endpoints.LIST_OPERATIONS, url=text))
    assert other.seen == []


# --- the request rate -------------------------------------------------------------------------------------------------

RATES = st.floats(0.05, 3000) | st.integers(1, 100).map(float)


def ahead_of_time(rate):
    """Requests that may leave at once after a quiet time."""
    return max(1, int(rate * BURST))


@given(RATES, st.lists(st.floats(0, 3) | st.just(0.0), min_size=1, max_size=150))
def test_no_stretch_of_time_has_more_requests_than_allowed(rate, gaps):
    limit, now, moments = RateLimit(), 1_000.0, []
    for gap in gaps:
        now += gap
        wait = limit.reserve(now, rate)
        assert wait >= 0
        moments.append(now + wait)

    assert moments == sorted(moments)
    for index, first in enumerate(moments):
        for later, moment in enumerate(moments[index:], 1):
            assert later <= (moment - first) * rate + ahead_of_time(rate) + 1e-3


@given(RATES, st.integers(1, 200))
def test_nobody_waits_who_need_not(rate, count):
    limit, at_once = RateLimit(), ahead_of_time(rate)

    waits = [limit.reserve(0.0, rate) for _ in range(count)]

    assert waits == pytest.approx([max(0, number + 1 - at_once) / rate for number in range(count)])
    assert limit.reserve(count / rate, rate) == pytest.approx(0)


class Halting:
    """A clock on which threads wake up late where the machine stands still for a while."""

    def __init__(self, halts_at, halts_for):
        self.now, self.halts_at, self.halts_for = 0.0, halts_at, halts_for

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        if self.halts_at <= self.now < self.halts_at + self.halts_for:
            self.now = self.halts_at + self.halts_for


def test_requests_that_were_held_up_do_not_leave_together(new_credential):
    """Forty threads have reserved their moments when the machine stands still for half a second."""
    clock = Halting(0.2, 0.5)
    settings = ConnectionSettings("http://127.0.0.1:1", requests_per_second=40.0)
    client = GeoCatalogClient(settings, tokens=new_credential(), clock=clock, rate_limit=RateLimit())
    departures = []
    for _ in range(40):
        clock.now = 0.0  # each has asked at the same moment
        client.throttle()
        departures.append(clock.now)
    departures.sort()

    halt = [moment for moment in departures if moment >= 0.7]
    for index, first in enumerate(halt):
        for later, moment in enumerate(halt[index:], 1):
            assert later <= (moment - first) * 40 + 3
    assert len(departures) == 40


def test_threads_share_a_limit():
    limit, waits = RateLimit(), []
    start = threading.Barrier(8)

    def reserve():
        start.wait()
        waits.extend([limit.reserve(0.0, 10) for _ in range(50)])

    threads = [threading.Thread(target=reserve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(waits) == pytest.approx([number / 10 for number in range(400)])


@pytest.fixture
def of_one_process(new_credential):
    """Return clients that share nothing but the process and the time."""
    credential = new_credential()
    with contextlib.ExitStack() as stack:

        def make(url, clock):
            tokens = TokenSource(lambda: credential, "scope", "test")
            client = GeoCatalogClient(ConnectionSettings(url, requests_per_second=2), tokens=tokens, clock=clock)
            stack.callback(client.close)
            return client

        yield make


async def test_clients_of_one_process_share_the_limit_of_an_origin(server, other, of_one_process):
    clock = FakeClock()
    began = clock.now
    clients = [of_one_process(url, clock) for url in (server.url, f"{server.url}/", server.url.replace("h", "H", 1))]

    for number, one in zip(range(7), itertools.cycle(clients), strict=False):
        if number % 2:
            one.run(call(endpoints.GET_CONFORMANCE))
        else:
            await one.arun(call(endpoints.GET_CONFORMANCE))
    assert clock.now - began == pytest.approx(3)

    of_one_process(other.url, clock).run(call(endpoints.GET_CONFORMANCE))
    assert clock.now - began == pytest.approx(3)


def test_the_second_attempt_with_a_new_token_counts(script, of_one_process):
    clock = FakeClock()
    server = script((401, {}, b""), (307, {"Location": "/x"}, b""), (200, {}, {}))

    of_one_process(server.url, clock).run(call(endpoints.GET_CONFORMANCE))

    assert len(server.seen) == 3
    assert sum(clock.pauses) == pytest.approx(1)
