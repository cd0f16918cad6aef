"""Our client sends what the official SDK sends: each operation through both, compared as it came over the wire."""

from __future__ import annotations

import asyncio
import email.parser
import email.policy
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from azure.core.credentials import AccessToken
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.planetarycomputer import PlanetaryComputerProClient
from azure.planetarycomputer.aio import PlanetaryComputerProClient as AsyncPlanetaryComputerProClient
from azure.planetarycomputer.operations import IngestionOperations, SasOperations, StacOperations

from airflow_provider_geocatalog.api.dialects import dialect_for
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.auth import ConnectionSettings, TokenSource
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.rate_limit import RateLimit
from tests.fakes.clock import FakeClock
from tests.fakes.contract_cases import CASES, Case
from tests.fakes.recording_server import Recorded, RecordingServer

VERSION = "2026-04-15"
BLOCKING, ASYNC = "blocking", "async"


@dataclass(frozen=True)
class Difference:
    """
    What may differ; each entry has to be needed, by each of its operations and against each of the SDK's clients.

    :param aspect: What differs, as :func:`aspects` names it.
    :param reason: Why that is right.
    :param operations: The operations that need the entry; none if it is about what all requests have in common.
    :param against: Which of the SDK's clients sends something else than ours.
    """

    aspect: str
    reason: str
    operations: tuple[str, ...] = ()
    against: tuple[str, ...] = (BLOCKING, ASYNC)

    def covers(self, comparison: Comparison, aspect: str) -> bool:
        if not self.operations:
            aspect = re.sub(r"^request \d+: ", "", aspect)
        elif comparison.case.operation not in self.operations:
            return False
        return aspect == self.aspect and comparison.against in self.against


ALLOWED_DIFFERENCES = [
    Difference("header user-agent", "Each says what it is."),
    Difference(
        "header connection", "aiohttp leaves out what is HTTP/1.1's default; requests says it.", against=(ASYNC,)
    ),
    Difference(
        "raw path",
        "aiohttp writes , ( ) : ' ! * & = ; @ $ of a path as they are, although the SDK has percent-encoded them. The "
        "path means the same (it is compared decoded), and the blocking SDK sends what our client sends.",
        against=(ASYNC,),
    ),
    Difference(
        "header accept",
        "The SDK asks for nothing where it expects no JSON, so its HTTP library sends */*. Our client asks for what it "
        "can read: JSON, as errors are, or an image.",
        operations=(
            "delete_source",
            "cancel_operation",
            "cancel_all_operations",
            "get_collection_thumbnail",
            "delete_queryable",
            "delete_mosaic",
            "delete_render_option",
            "replace_partition_type",
            "revoke_sas_tokens",
        ),
    ),
    Difference(
        "request 2: header accept",
        "The SDK forgets the header when it follows nextLink.",
        operations=("list_sources", "list_ingestions", "list_runs", "list_operations"),
    ),
    Difference(
        "part data: body.href",
        "The SDK's model has no href; the documentation and recorded traffic send one, empty (geocatalog-api 7.4).",
        operations=("create_collection_asset",),
    ),
    Difference(
        "part data: header content-type",
        "aiohttp calls the JSON text/plain; the blocking SDK and our client do not say what it is.",
        operations=("create_collection_asset", "replace_collection_asset"),
        against=(ASYNC,),
    ),
    Difference(
        "part file: header content-disposition",
        "aiohttp percent-encodes the file name, which a server may keep like that; the blocking SDK and our client "
        "send it as UTF-8.",
        operations=("create_collection_asset",),
        against=(ASYNC,),
    ),
    Difference(
        "body.fields",
        "The SDK's model is a list of objects; the STAC extension has one object, which is what our client sends "
        "(service-open-questions C24). The SDK sends the same if it is given the object as JSON.",
        operations=("search",),
    ),
    Difference(
        "body.filter-lang",
        "Our client says the language of a filter also where the caller did not; what it says is the STAC extension's "
        "default for a search by POST.",
        operations=("search",),
    ),
]

# --- what a request is made of ----------------------------------------------------------------------------------------

_REQUEST_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def aspects(request: Recorded) -> dict[str, Any]:
    """
    Return everything that can be compared, under names for people.

    Three values are replaced by what they have to be, because they cannot be the same twice: the request's own id, the
    boundary of a multipart body, the length of a body (in which JSON may be spaced and escaped in several ways).
    """
    found: dict[str, Any] = {
        "method": request.method,
        "raw path": request.raw_path,
        "path": request.path,
        # Servers disagree about "+" in a query string, so it has to mean the same under both readings.
        "query": sorted(parse_qsl(request.raw_query, keep_blank_values=True, strict_parsing=True)),
        "query without forms": sorted(
            (unquote(name), unquote(value))
            for name, _, value in (pair.partition("=") for pair in request.raw_query.split("&"))
        ),
    }
    for name in {name.lower() for name, _ in request.headers}:
        found[f"header {name}"] = request.header(name)
    if _REQUEST_ID.fullmatch(str(request.header("x-ms-client-request-id"))):
        found["header x-ms-client-request-id"] = "a GUID"
    if request.header("content-length") == str(len(request.body)) and request.body:
        found["header content-length"] = "the length of the body"
    content_type = request.header("content-type") or ""
    if content_type.startswith("multipart/"):
        found["header content-type"] = re.sub(r"boundary=[^;]+", "boundary", content_type)
        found |= _parts(content_type, request.body)
    elif request.body:
        found |= _members("body", request.body)
    else:
        found["body"] = None
    return found


def _members(name: str, content: bytes) -> dict[str, Any]:
    value = json.loads(content)
    if not isinstance(value, dict):
        return {name: _text(value)}
    return {name: "an object"} | {f"{name}.{member}": _text(inner) for member, inner in value.items()}


def _text(value: Any) -> str:
    """Return JSON as text, which tells 1, 1.0 and true from each other."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _parts(content_type: str, body: bytes) -> dict[str, Any]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    found: dict[str, Any] = {"order of parts": []}
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        found["order of parts"].append(name)
        for header, value in part.items():
            found[f"part {name}: header {header.lower()}"] = str(value)
        content = part.get_payload(decode=True)
        found |= _members(f"part {name}: body", content) if name == "data" else {f"part {name}: body": content}
    return found


def differences(theirs: list[Recorded], ours: list[Recorded]) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two series of requests: what the SDK sent and what our client sent."""
    found: dict[str, tuple[Any, Any]] = {}
    if len(theirs) != len(ours):
        found["number of requests"] = [r.target for r in theirs], [r.target for r in ours]
    for number, (one, other) in enumerate(zip(theirs, ours, strict=False), start=1):
        left, right = aspects(one), aspects(other)
        prefix = "" if number == 1 else f"request {number}: "
        for aspect in sorted({*left, *right}):
            pair = left.get(aspect, "(absent)"), right.get(aspect, "(absent)")
            if pair[0] != pair[1]:
                found[prefix + aspect] = pair
    return found


# --- both clients -----------------------------------------------------------------------------------------------------


class PlainBearer(SansIOHTTPPolicy):
    """The SDK's own policy refuses to send a token over http."""

    def on_request(self, request: Any) -> None:
        request.http_request.headers["Authorization"] = "Bearer the-token"


class Credential:
    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken("the-token", 2**31)


def _exhaust(value: Any) -> Any:
    return list(value) if isinstance(value, Iterator) else value


async def _aexhaust(value: Any) -> Any:
    if not hasattr(value, "__aiter__"):
        value = await value
    return [entry async for entry in value] if isinstance(value, AsyncIterator) else value


@dataclass(frozen=True)
class Comparison:
    """
    A case through one of the SDK's two clients and through ours of the same kind.

    :param theirs: What the SDK sent.
    :param ours: What our client sent.
    :param error: What broke the case, if anything did.
    """

    case: Case
    against: str
    theirs: list[Recorded]
    ours: list[Recorded]
    error: Exception | None

    @property
    def found(self) -> dict[str, tuple[Any, Any]]:
        return differences(self.theirs, self.ours)


def _compare(server: RecordingServer, client: GeoCatalogClient) -> Iterator[Comparison]:
    with PlanetaryComputerProClient(server.url, Credential(), authentication_policy=PlainBearer()) as sdk:
        for case in CASES:
            theirs: list[Recorded] = []
            error = None
            try:
                _exhaust(case.sdk(sdk))
                theirs = server.take()
                _exhaust(case.ours(client))
            except Exception as raised:
                error = raised
            yield Comparison(case, BLOCKING, theirs, server.take(), error)


async def _acompare(server: RecordingServer, client: GeoCatalogClient) -> list[Comparison]:
    comparisons = []
    async with AsyncPlanetaryComputerProClient(server.url, Credential(), authentication_policy=PlainBearer()) as sdk:
        for case in CASES:
            theirs: list[Recorded] = []
            error = None
            try:
                await _aexhaust(case.sdk(sdk))
                theirs = server.take()
                await _aexhaust(case.ours_aio(client))
            except Exception as raised:
                error = raised
            comparisons.append(Comparison(case, ASYNC, theirs, server.take(), error))
    return comparisons


@pytest.fixture(scope="module")
def comparisons() -> dict[tuple[str, str], Comparison]:
    """All of them, made once: what the table of differences is needed for shows only in all."""
    server = RecordingServer()
    client = GeoCatalogClient(
        ConnectionSettings(server.url, dialect=dialect_for(VERSION)),
        tokens=TokenSource(Credential, "scope", "test"),
        clock=FakeClock(),
        rate_limit=RateLimit(),
    )
    try:
        made = [*_compare(server, client), *asyncio.run(_acompare(server, client))]
    finally:
        client.close()
        server.close()
    return {(one.case.name, one.against): one for one in made}


# --- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("against", [BLOCKING, ASYNC])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_client_sends_what_the_sdk_sends(comparisons, case, against):
    comparison = comparisons[case.name, against]
    if comparison.error is not None:
        raise comparison.error

    unexpected = {
        aspect: f"the SDK: {theirs!r}; our client: {ours!r}"
        for aspect, (theirs, ours) in comparison.found.items()
        if not any(entry.covers(comparison, aspect) for entry in ALLOWED_DIFFERENCES)
    }

    assert comparison.theirs
    assert unexpected == {}


@pytest.mark.parametrize("against", [BLOCKING, ASYNC])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_request_of_ours_has_the_version_and_the_token(comparisons, case, against):
    for request in comparisons[case.name, against].ours:
        assert request.header("Authorization") == "Bearer the-token"
        assert [value for name, value in parse_qsl(request.raw_query) if name == "api-version"] == [VERSION]
        assert aspects(request)["header x-ms-client-request-id"] == "a GUID"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_blocking_and_our_asynchronous_client_send_the_same(comparisons, case):
    assert differences(comparisons[case.name, BLOCKING].ours, comparisons[case.name, ASYNC].ours) == {}


@pytest.mark.parametrize("entry", ALLOWED_DIFFERENCES, ids=lambda entry: entry.aspect)
def test_every_allowed_difference_is_needed(comparisons, entry):
    seen = {
        (against, comparison.case.operation if entry.operations else "")
        for (_, against), comparison in comparisons.items()
        for aspect in comparison.found
        if entry.covers(comparison, aspect)
    }

    assert seen == {(against, operation) for against in entry.against for operation in entry.operations or ("",)}
    assert entry.reason


def test_no_difference_is_allowed_twice(comparisons):
    for comparison in comparisons.values():
        for aspect in comparison.found:
            assert sum(entry.covers(comparison, aspect) for entry in ALLOWED_DIFFERENCES) <= 1, aspect


def test_the_cases_cover_every_operation_that_the_sdk_has():
    dialect = dialect_for(VERSION)
    known = {name for name, endpoint in ENDPOINTS.items() if dialect.has(endpoint)}

    assert {case.operation for case in CASES} == known - {"search_by_query"}  # which the SDK lacks, see C18
    assert len(known) == 60
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_cases_call_every_method_of_the_sdk_but_the_tilers():
    called: set[str] = set()

    class Methods:
        def __init__(self, group: str) -> None:
            self._group = group

        def __getattr__(self, name: str) -> Any:
            called.add(f"{self._group}.{name}")
            return lambda *args, **options: None

    class Sdk:
        ingestion, stac, sas = (Methods(group) for group in ("ingestion", "stac", "sas"))

    for case in CASES:
        case.sdk(Sdk)

    groups = {"ingestion": IngestionOperations, "stac": StacOperations, "sas": SasOperations}
    assert called == {
        f"{group}.{name}" for group, kind in groups.items() for name in vars(kind) if not name.startswith("_")
    }
    assert len(called) == 59


# --- the comparison itself --------------------------------------------------------------------------------------------

_HEADERS = {"Accept": "application/json", "Content-Type": "application/json", "X-Other": "1"}


def _request(
    method: str = "POST", target: str = "/stac/a%20b?x=1&y=a%20b", body: bytes = b'{"a": 1}', **headers: str
) -> list[Recorded]:
    return [Recorded(method, target, tuple({**_HEADERS, **headers}.items()), body)]


@pytest.mark.parametrize(
    ("other", "seen"),
    [
        (_request("PUT"), {"method"}),
        (_request(target="/stac/%61%20b?x=1&y=a%20b"), {"raw path"}),
        (_request(target="/stac/a+b?x=1&y=a%20b"), {"raw path", "path"}),
        (_request(target="/stac/a%20b?x=1&y=a+b"), {"query without forms"}),
        (_request(target="/stac/a%20b?x=1&y=a%2Bb"), {"query", "query without forms"}),
        (_request(target="/stac/a%20b?y=a%20b&x=1"), set()),
        (_request(target="/stac/a%20b?x=1&x=1&y=a%20b"), {"query", "query without forms"}),
        (_request(body=b'{"a":1}'), set()),
        (_request(body=b'{"a": 1.0}'), {"body.a"}),
        (_request(body=b'{"a": true, "b": null}'), {"body.a", "body.b"}),
        (_request(body=b"[1]"), {"body", "body.a"}),
        (_request(body=b""), {"body", "body.a"}),
        (_request(Accept="*/*"), {"header accept"}),
        (_request(Prefer="x"), {"header prefer"}),
        ([*_request(), *_request()], {"number of requests"}),
    ],
)
def test_the_comparison_sees_what_differs(other, seen):
    assert set(differences(_request(), other)) == seen


def _form(boundary: str, name: str = "x.png", content: str = "pixels", data: str = '{"key": 1}') -> list[Recorded]:
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n{content}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="data"\r\n\r\n{data}\r\n--{boundary}--\r\n'
    )
    return _request(body=body.encode(), **{"Content-Type": f"multipart/form-data; boundary={boundary}"})


@pytest.mark.parametrize(
    ("other", "seen"),
    [
        (_form("b", data='{"key":1}'), set()),
        (_form("b", data='{"key": 2}'), {"part data: body.key"}),
        (_form("b", name="y.png"), {"part file: header content-disposition"}),
        (_form("b", content="pixels\r\n"), {"part file: body"}),
    ],
)
def test_the_comparison_sees_what_differs_in_a_form(other, seen):
    assert set(differences(_form("a"), other)) == seen
