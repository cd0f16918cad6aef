"""What can go wrong between two sockets, and what the client makes of it; both drivers."""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import json
import ssl
import time
import traceback
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_geocatalog import transport
from airflow_provider_geocatalog.api import endpoints, errors
from airflow_provider_geocatalog.api.calls import DEFAULT_RETRIES, NO_RETRIES, attempt, is_ambiguous, read_json
from airflow_provider_geocatalog.api.http import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.faulty_server import Peer

TIMEOUT = 0.4  # seconds that the client waits for an answer
PATIENCE = 2.5  # seconds after which it hangs
TOKEN, SIGNATURE = "the-token", "Zq9SECRETvalue7Xk"
GET = Request(endpoints.GET_CONFORMANCE, query={"href": f"https://a.example/b?sv=1&sig={SIGNATURE}"})
POST = Request(endpoints.CREATE_SOURCE, body={"kind": "SasToken", "sasToken": f"sv=1&sig={SIGNATURE}"})
DELETE = Request(endpoints.DELETE_SOURCE, {"source_id": "s"})
BODY = b'{"fine":true}'
GZIPPED = gzip.compress(BODY)
START = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-ID: id-1\r\n"


@pytest.fixture(params=["blocking", "asynchronous"])
def carry(request):
    """Either driver."""

    async def blocking(client, flow):
        return client.run(flow)

    async def asynchronous(client, flow):
        return await client.arun(flow)

    return blocking if request.param == "blocking" else asynchronous


@pytest.fixture
def client_of(connect, new_credential):
    def make(server, scheme="http", **settings):
        return connect(
            server.url.replace("http", scheme), new_credential(same=True), **{"request_timeout": TIMEOUT, **settings}
        )

    return make


def read(request, retries=NO_RETRIES):
    return read_json(request, (yield from attempt(request, retries)))


def texts_of(error: BaseException) -> list[str]:
    """Return whatever of an error people may get to read, with all that it was raised from."""
    found, queue = [], [error]
    while queue:
        current = queue.pop()
        found += [str(current), repr(current), repr(vars(current)), *map(repr, current.args)]
        queue += [other for other in (current.__cause__, current.__context__) if other is not None]
    return [*found, *traceback.format_exception(error)]


async def failure_of(carry, client, flow):
    """Return the error of a flow, which has to come in time and to hold no secret."""
    started = time.monotonic()
    with pytest.raises(errors.GeoCatalogError) as caught:
        await carry(client, flow)
    assert time.monotonic() - started < PATIENCE
    for text in texts_of(caught.value):
        assert TOKEN not in text
        assert SIGNATURE not in text
    return caught.value


# --- connections that break, and answers that do not end --------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Something that ends without a whole answer."""

    name: str
    behave: Callable[[Peer], Any]
    words: str = "the connection to 127.0.0.1"


def after_request(*parts: bytes | str, then: str = "close") -> Callable[[Peer], None]:
    """Read a request, send something that is no whole answer, and close, reset or wait."""

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(*parts)
        getattr(peer, then)()

    return behave


def dripping(content: bytes, *parts: bytes | str, every: float = 0.03) -> Callable[[Peer], None]:
    """Read a request, send the parts at once, then the content over and over, a byte now and then."""

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(*parts)
        peer.drip(content, every)

    return behave


def with_length(announced: int, *fields: str) -> str:
    return START + "".join(f"{field}\r\n" for field in fields) + f"Content-Length: {announced}\r\n\r\n"


CHUNKED = START + "Transfer-Encoding: chunked\r\n\r\n"
NEVER = "gave no complete answer within 0.4 s"

BREAKS = [
    Fault("closed on accept", lambda peer: None),
    Fault("reset on the first byte", lambda peer: peer.connection.recv(1) and peer.reset()),
    Fault("closed after the request line", lambda peer: peer.line()),
    Fault("closed after the request", after_request()),
    Fault("reset after the request", after_request(then="reset")),
    Fault("closed in the status line", after_request("HTTP/1.1 2")),
    Fault("closed after the status line", after_request("HTTP/1.1 200 OK\r\n")),
    Fault("closed in the name of a header field", after_request(START, "Content-Le")),
    Fault("closed in the value of a header field", after_request(START, "Content-Length: 1")),
    Fault("closed between header fields", after_request(START)),
    Fault("closed after the header fields", after_request(with_length(13))),
    Fault("closed in the body", after_request(with_length(13), BODY[:5])),
    Fault("reset in the body", after_request(with_length(13), BODY[:5], then="reset")),
    Fault("closed before a byte of the body is missing", after_request(with_length(13), BODY[:12])),
    Fault("closed before the first chunk", after_request(CHUNKED)),
    Fault("closed in the size of a chunk", after_request(CHUNKED, "1")),
    Fault("closed in a chunk", after_request(CHUNKED, "d\r\n", BODY[:5])),
    Fault("closed after a chunk, before the last", after_request(CHUNKED, "d\r\n", BODY, "\r\n")),
    *(
        Fault(
            f"closed after {count} bytes of gzip",
            after_request(with_length(len(GZIPPED), "Content-Encoding: gzip"), GZIPPED[:count]),
        )
        for count in (1, 10, len(GZIPPED) - 8, len(GZIPPED) - 1)
    ),
    Fault("no HTTP", after_request("SSH-2.0-OpenSSH_9.6\r\n")),
    Fault("a status that is no number", after_request("HTTP/1.1 fine OK\r\n\r\n")),
    Fault("another version of HTTP", after_request("HTTP/2.0 200 OK\r\n\r\n")),
    Fault("a size of a chunk that is no number", after_request(CHUNKED, "zz\r\n", BODY, "\r\n0\r\n\r\n")),
    Fault("two lengths that differ", after_request(START, "Content-Length: 13, 14\r\n\r\n", BODY)),
    Fault("too many header fields", after_request(START, *(f"X-{n}: {n}\r\n" for n in range(200)), "\r\n")),
    Fault("a header field without end", after_request(START, "X-Long: ", "x" * 70_000, "\r\n\r\n")),
    Fault("corrupt gzip", after_request(with_length(18, "Content-Encoding: gzip"), GZIPPED[:10], b"\xff" * 8)),
    Fault(
        "gzip with a wrong checksum",
        after_request(with_length(len(GZIPPED), "Content-Encoding: gzip"), GZIPPED[:-8], b"\xff" * 8),
    ),
    Fault("gzip that is none", after_request(with_length(13, "Content-Encoding: gzip"), BODY)),
    Fault("deflate that is none", after_request(with_length(13, "Content-Encoding: deflate"), BODY)),
]
HANGS = [
    Fault("no answer", after_request(then="wait"), NEVER),
    Fault("nothing read, no answer", lambda peer: peer.wait(), NEVER),
    Fault("a dripping status line", dripping(b"x", "HTTP/1.1 200 "), NEVER),
    Fault("dripping header fields", dripping(b"X-A: b\r\n", START), NEVER),
    Fault("a dripping header field", dripping(b"x", START, "X-A: "), NEVER),
    Fault("continue, continue, continue", dripping(b"HTTP/1.1 100 Continue\r\n\r\n", every=0.001), NEVER),
    Fault("a dripping body", dripping(b" ", with_length(10_000)), NEVER),
    Fault("a dripping body without length", dripping(b" ", START, "\r\n"), NEVER),
    Fault("dripping chunks", dripping(b"1\r\n \r\n", CHUNKED, every=0.01), NEVER),
    Fault("a dripping size of a chunk", dripping(b"0", CHUNKED), NEVER),
    Fault("a body that stops", after_request(with_length(13), BODY[:5], then="wait"), NEVER),
]


def each(*faults: Fault) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name.replace(" ", "-")) for fault in faults])


@each(*BREAKS, *HANGS)
async def test_an_answer_that_is_not_whole_is_none(faulty, client_of, carry, fault):
    server = faulty(fault.behave)

    error = await failure_of(carry, client_of(server), read(GET))

    assert type(error) is errors.GeoCatalogUnreachable
    assert fault.words in str(error)
    assert (error.sent, error.retryable, is_ambiguous(error)) == (True, True, True)
    assert (error.method, error.path, error.status) == ("GET", "/conformance", None)
    assert server.connections == 1


@each(*BREAKS, HANGS[0])
async def test_what_only_reads_is_repeated_after_it(faulty, client_of, carry, fault):
    server = faulty(fault.behave, lambda peer: peer.request() and peer.answer(BODY))

    assert await carry(client_of(server), read(GET, retries=DEFAULT_RETRIES)) == {"fine": True}
    assert server.connections == 2


@each(*BREAKS, *HANGS)
async def test_what_creates_is_sent_once(faulty, client_of, carry, fault):
    server = faulty(fault.behave)

    error = await failure_of(carry, client_of(server), read(POST, retries=DEFAULT_RETRIES))

    assert (error.sent, error.method, error.path) == (True, "POST", "/ingestion-sources")
    assert server.connections == 1
    assert len(server.received) <= 1


async def test_a_deletion_whose_answer_was_lost_is_done_when_nothing_is_left(faulty, client_of, carry):
    server = faulty(after_request(), lambda peer: peer.request() and peer.answer(status="404 Not Found"))

    assert await carry(client_of(server), read(DELETE, DEFAULT_RETRIES)) is None
    assert [entry.method for entry in server.received] == ["DELETE", "DELETE"]


async def test_a_port_that_nobody_listens_on_was_sent_nothing(connect, new_credential, carry):
    client = connect("http://127.0.0.1:9", new_credential(same=True))

    error = await failure_of(carry, client, read(GET))

    assert (type(error), error.sent, error.retryable) == (errors.GeoCatalogUnreachable, False, True)
    assert not is_ambiguous(error)
    assert isinstance(error.__cause__, ConnectionRefusedError)


# --- kept connections -------------------------------------------------------------------------------------------------


def answering(count: int, then: Callable[[Peer], Any] = lambda peer: None) -> Callable[[Peer], None]:
    """Answer so many requests on one connection, and then do something else with it."""

    def behave(peer: Peer) -> None:
        for _ in range(count):
            if peer.request() is None:
                return
            peer.answer(BODY, status="201 Created" if peer.last.method == "POST" else "200 OK")
        then(peer)

    return behave


@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
async def test_a_connection_that_was_closed_meanwhile_is_not_used(faulty, client_of, carry, request_):
    server = faulty(answering(1))
    client = client_of(server)
    await carry(client, read(GET))
    server.settle()

    assert await carry(client, read(request_)) == {"fine": True}
    assert len(server.received) == server.connections == 2


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_connection_that_ends_while_it_is_used_again(faulty, client_of, carry, end):
    def ended(peer: Peer) -> None:
        peer.request()
        getattr(peer, end)()

    server = faulty(answering(1, ended))
    client = client_of(server)

    for _ in range(2):
        assert await carry(client, read(GET, DEFAULT_RETRIES)) == {"fine": True}
    assert len(server.received) == 3  # the second one twice
    error = await failure_of(carry, client, read(POST, DEFAULT_RETRIES))

    assert (error.sent, error.retryable) == (True, True)
    assert [entry.method for entry in server.received].count("POST") == 1


LARGE = Request(endpoints.CREATE_SOURCE, body={"kind": "x" * 12_000_000})


@pytest.mark.parametrize("answered", [0, 1])
async def test_a_body_that_nobody_reads(faulty, client_of, carry, answered):
    server = faulty(answering(answered, lambda peer: peer.head() and peer.wait()), buffer=4096)
    client = client_of(server)
    for _ in range(answered):
        await carry(client, read(GET))

    error = await failure_of(carry, client, read(LARGE, DEFAULT_RETRIES))

    assert (type(error), error.sent) == (errors.GeoCatalogUnreachable, True)
    assert NEVER in str(error)
    assert len(server.received) == answered + 1


@pytest.mark.parametrize("status", ["413 Payload Too Large", "503 Busy"])
async def test_an_answer_before_the_body_was_read_is_heard(faulty, client_of, carry, status):
    def refuse(peer: Peer) -> None:
        peer.head()
        peer.answer(b"", "Connection: close", status=status)
        peer.rest()

    error = await failure_of(carry, client_of(faulty(refuse), request_timeout=1.5), read(LARGE))

    assert error.status == int(status[:3])


def late(seconds: float) -> Callable[[Peer], None]:
    """Let a body wait before it is read."""

    def behave(peer: Peer) -> None:
        peer.head()
        peer.wait(seconds)
        peer.rest()
        peer.answer(BODY, status="201 Created")

    return behave


async def test_sending_may_take_longer_than_connecting(faulty, client_of, carry, monkeypatch):
    monkeypatch.setattr(transport, "_CONNECT_TIMEOUT", 0.1)
    client = client_of(faulty(late(0.3), buffer=65536), request_timeout=2)

    assert await carry(client, read(LARGE)) == {"fine": True}


async def test_a_slow_answer_takes_no_time_from_the_next_request(faulty, client_of, carry):
    def slow(peer: Peer) -> None:
        peer.request()
        peer.send(with_length(13))
        for seconds, part in ((0.7, BODY[:5]), (0.05, BODY[5:])):
            peer.wait(seconds)
            peer.send(part)
        late(0.5)(peer)

    client = client_of(faulty(slow, buffer=65536), request_timeout=1)
    await carry(client, read(GET))

    assert await carry(client, read(LARGE)) == {"fine": True}


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return a file with a certificate for 127.0.0.1 that signs itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "faulty")])
    now = datetime.datetime.now(datetime.UTC)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + HOUR)
    made = made.add_extension(host, critical=False).add_extension(x509.BasicConstraints(True, None), critical=True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(private + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return str(path)


HOUR = datetime.timedelta(hours=1)
FAULTS_OVER_TLS = ("closed between header fields", "closed in the body", "dripping header fields", "a dripping body")


def over_tls(certificate: str, behave: Callable[[Peer], Any]) -> Callable[[Peer], None]:
    def secured(peer: Peer) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        peer.secure(context)
        behave(peer)

    return secured


@pytest.mark.parametrize("request_", [GET, LARGE], ids=["GET", "POST"])
async def test_a_trusted_certificate_is_enough(faulty, client_of, carry, certificate, request_):
    server = faulty(over_tls(certificate, answering(2)))
    client = client_of(server, scheme="https", ca_bundle=certificate, request_timeout=2)

    for _ in range(2):
        assert await carry(client, read(request_)) == {"fine": True}
    assert server.connections == 1


async def test_a_certificate_of_nobody_gets_no_token(faulty, client_of, carry, certificate):
    server = faulty(over_tls(certificate, answering(1)))

    error = await failure_of(carry, client_of(server, scheme="https"), read(POST))

    assert (type(error), error.sent) == (errors.GeoCatalogUnreachable, False)
    assert "no trusted TLS connection" in error.message
    assert "CA bundle" in error.hint
    assert server.received == []


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (lambda peer: peer.wait(), NEVER),
        (lambda peer: peer.connection.recv(1), ""),
        (lambda peer: peer.send("HTTP/1.1 400 Bad Request\r\n\r\n"), "TLS"),
    ],
    ids=["silent", "cut", "plain HTTP"],
)
async def test_a_handshake_that_fails(faulty, client_of, carry, certificate, behave, words):
    server = faulty(behave)

    error = await failure_of(carry, client_of(server, scheme="https", ca_bundle=certificate), read(GET))

    assert (type(error), error.retryable) == (errors.GeoCatalogUnreachable, True)
    assert words in error.message


@each(*(fault for fault in (*BREAKS, *HANGS) if fault.name in FAULTS_OVER_TLS))
async def test_tls_makes_no_difference(faulty, client_of, carry, certificate, fault):
    server = faulty(over_tls(certificate, fault.behave))

    error = await failure_of(carry, client_of(server, scheme="https", ca_bundle=certificate), read(GET))

    assert (type(error), error.sent) == (errors.GeoCatalogUnreachable, True)
    assert fault.words in error.message


# --- whole answers ----------------------------------------------------------------------------------------------------

RAW_DEFLATE = zlib.compressobj(wbits=-15)
DEFLATED = RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush()
ODD_BUT_RIGHT = {
    "no content type": ["HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n", BODY],
    "another content type": ["HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n", BODY],
    "gzip": [with_length(len(GZIPPED), "Content-Encoding: gzip"), GZIPPED],
    "gzip in capitals": [with_length(len(GZIPPED), "CONTENT-ENCODING: GZIP"), GZIPPED],
    "gzip in chunks": [
        START,
        "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
        *(b"1\r\n" + GZIPPED[n : n + 1] + b"\r\n" for n in range(len(GZIPPED))),
        "0\r\n\r\n",
    ],
    "deflate": [with_length(len(zlib.compress(BODY)), "Content-Encoding: deflate"), zlib.compress(BODY)],
    "deflate without its header": [with_length(len(DEFLATED), "Content-Encoding: deflate"), DEFLATED],
    "chunks with extensions and trailers": [CHUNKED, "d;a=b\r\n", BODY, "\r\n0\r\nX-After: all\r\n\r\n"],
    "no length, closed": [START, "\r\n", BODY],
    "HTTP 1.0": ["HTTP/1.0 200 OK\r\n\r\n", BODY],
    "no reason": ["HTTP/1.1 200\r\nContent-Length: 13\r\n\r\n", BODY],
    "line ends of Unix": ["HTTP/1.1 200 OK\nContent-Length: 13\n\n", BODY],
    "continue first": ["HTTP/1.1 100 Continue\r\nX-A: b\r\n\r\n", with_length(13), BODY],
    "a folded header field": [START, "X-Folded: a\r\n b\r\nContent-Length: 13\r\n\r\n", BODY],
    "bytes other than ASCII": [START, "X-Gr\u00fc\u00dfe: \u00fc\xff\r\nContent-Length: 13\r\n\r\n", BODY],
    "many header fields": [START, *(f"X-{n}: {n}\r\n" for n in range(90)), "Content-Length: 13\r\n\r\n", BODY],
    "a long header field": [START, f"X-Long: {'x' * 60_000}\r\nContent-Length: 13\r\n\r\n", BODY],
    "the same field twice": [START, "X-A: 1\r\nX-A: 2\r\nContent-Length: 13\r\n\r\n", BODY],
    "a cookie": [START, "Set-Cookie: a=b\r\nContent-Length: 13\r\n\r\n", BODY],
    "a byte order mark": [with_length(16), b"\xef\xbb\xbf", BODY],
}


@pytest.mark.parametrize("name", ODD_BUT_RIGHT)
async def test_an_odd_answer_is_read(faulty, client_of, carry, name):
    server = faulty(after_request(*ODD_BUT_RIGHT[name]))
    client = client_of(server)

    for _ in range(2):
        assert await carry(client, read(GET)) == {"fine": True}
        server.settle()
    assert "cookie" not in server.received[-1].headers


NOT_JSON = {
    "half of it": BODY[:-1],
    "a sign-in page": b"<!DOCTYPE html><html><title>Sign in</title></html>",
    "bytes that are no text": b'{"a": "\xff\xfe"}',
    "two values": BODY + BODY,
    "brackets without end": b"[" * 100_000,
}


@pytest.mark.parametrize("name", NOT_JSON)
async def test_a_success_that_is_no_json_is_no_geocatalogs(faulty, client_of, carry, name):
    body = NOT_JSON[name]
    server = faulty(after_request(with_length(len(body)), body))

    error = await failure_of(carry, client_of(server), read(GET, DEFAULT_RETRIES))

    assert (type(error), error.status, error.retryable) == (errors.GeoCatalogProtocolError, 200, False)
    assert (error.method, error.path, error.request_id) == ("GET", "/conformance", "id-1")
    assert "is not JSON (application/json" in error.message
    assert server.connections == 1


async def test_gzip_that_ends_early_is_no_json(faulty, client_of, carry):
    part = GZIPPED[:-12]
    server = faulty(after_request(with_length(len(part), "Content-Encoding: gzip"), part))

    assert type(await failure_of(carry, client_of(server), read(GET))) is errors.GeoCatalogProtocolError


@pytest.mark.parametrize("name", NOT_JSON)
async def test_a_creation_answered_with_nonsense_may_have_been_done(faulty, client_of, carry, name):
    server = faulty(lambda peer: peer.request() and peer.answer(NOT_JSON[name], status="201 Created"))

    error = await failure_of(carry, client_of(server), read(POST, DEFAULT_RETRIES))

    assert is_ambiguous(error)
    assert len(server.received) == 1


# --- answers that say no ----------------------------------------------------------------------------------------------

JSON, HTML = "Content-Type: application/json", "Content-Type: text/html"


@dataclass(frozen=True)
class Refusal:
    """An answer that says no, and what has to be read from it."""

    status: str
    kind: type[errors.GeoCatalogError]
    body: bytes = b""
    fields: tuple[str, ...] = ()
    code: str | None = None
    words: str = "no details in the answer"
    request_id: str | None = None
    retryable: bool = False
    ambiguous: bool = False


LEAKY = f"token Bearer {TOKEN}, https://a.example/b?sv=1&sig={SIGNATURE}&se=2"
REFUSALS = {
    "envelope": Refusal(
        "409 Conflict",
        errors.GeoCatalogConflict,
        b'{"error": {"code": "Inner", "message": "It is there."}}',
        (JSON, "x-ms-error-code: Outer", "X-Request-ID: id-2", "x-azure-ref: ref"),
        code="Outer",
        words="It is there.",
        request_id="id-2",
    ),
    "problem": Refusal(
        "400 Bad Request",
        errors.GeoCatalogBadRequest,
        b'{"type": "about:blank", "title": "Wrong.", "status": 400, "errors": {"kind": ["is missing"]}}',
        ("Content-Type: application/problem+json", "x-azure-ref: ref-2"),
        words="is missing",
        request_id="ref-2",
    ),
    "busy": Refusal("429 Busy", errors.GeoCatalogThrottled, b"{}", (JSON,), words="{}", retryable=True),
    "gateway": Refusal(
        "502 Bad Gateway",
        errors.GeoCatalogServerError,
        b"<html><h1>Bad   gateway</h1>" + b"x" * 100_000,
        (HTML,),
        words="<h1>Bad gateway</h1>",
        retryable=True,
        ambiguous=True,
    ),
    "nothing": Refusal("500 Oops", errors.GeoCatalogServerError, retryable=True, ambiguous=True),
    "no text": Refusal(
        "503 Busy", errors.GeoCatalogServerError, b"\xff\xfe\xfa", words="\ufffd", retryable=True, ambiguous=True
    ),
    "brackets": Refusal(
        "500 Oops", errors.GeoCatalogServerError, b"[" * 100_000, words="[[[", retryable=True, ambiguous=True
    ),
    "no permission": Refusal("403 Forbidden", errors.GeoCatalogPermissionError),
    "who are you": Refusal("401 Unauthorized", errors.GeoCatalogAuthenticationError),
    "early hints": Refusal("103 Early Hints", errors.GeoCatalogProtocolError, ambiguous=True),
    "no such status": Refusal("999 Denied", errors.GeoCatalogServerError, ambiguous=True),
    "secrets in the message": Refusal(
        "400 Bad Request",
        errors.GeoCatalogBadRequest,
        json.dumps({"error": {"code": "BadInput", "message": LEAKY}}).encode(),
        (JSON,),
        code="BadInput",
        words="***",
    ),
    "secrets in a page": Refusal("400 Bad Request", errors.GeoCatalogBadRequest, LEAKY.encode(), (HTML,), words="***"),
    "secrets in header fields": Refusal(
        "400 Bad Request",
        errors.GeoCatalogBadRequest,
        fields=(f"x-ms-error-code: ?sig={SIGNATURE}", f"X-Request-ID: Bearer {TOKEN}"),
        code="?sig=***",
        request_id="Bearer ***",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_is_told_in_full(faulty, client_of, carry, name):
    refusal = REFUSALS[name]
    server = faulty(answering_all(refusal.body, *refusal.fields, status=refusal.status))

    error = await failure_of(carry, client_of(server), read(GET))

    assert (type(error), error.status) == (refusal.kind, int(refusal.status[:3]))
    assert (error.code, error.request_id) == (refusal.code, refusal.request_id)
    assert (error.method, error.path) == ("GET", "/conformance")
    assert (error.retryable, is_ambiguous(error)) == (refusal.retryable, refusal.ambiguous)
    assert refusal.words in error.message
    assert len(str(error)) < 1000


def answering_all(body: bytes, *fields: str, status: str) -> Callable[[Peer], None]:
    def behave(peer: Peer) -> None:
        while peer.request() is not None:
            peer.answer(body, *fields, status=status)

    return behave


DATE = "Date: Thu, 01 Jan 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "pause"),
    [
        ("7", 7),
        ("1.5", 1.5),
        ("0", 0),
        ("-5", 0),
        ("Thu, 01 Jan 2026 10:00:30 GMT", 30),
        ("Thu, 01 Jan 2026 09:00:00 GMT", 0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("1e999", None),
        ("Thu, 01 Jan 99999999999 10:00:00 GMT", None),
        ("Thu, 01 Jan 2026 10:00:00 +99999999999999999999", None),
    ],
)
async def test_retry_after_is_kept_and_nonsense_is_not(faulty, client_of, carry, value, pause):
    def busy_once(peer: Peer) -> None:
        peer.request()
        peer.answer(b"", DATE, f"Retry-After: {value}", status="503 Busy")
        answering(1)(peer)

    client = client_of(faulty(busy_once))

    assert await carry(client, read(GET, DEFAULT_RETRIES)) == {"fine": True}
    (paused,) = client.clock.pauses
    assert paused == pause if pause is not None else 0 <= paused <= DEFAULT_RETRIES.base


# --- redirects --------------------------------------------------------------------------------------------------------


def redirecting(location: str, *, status: str = "307 Elsewhere", times: int = 1) -> Callable[[Peer], None]:
    def behave(peer: Peer) -> None:
        for _ in range(times):
            if peer.request() is None:
                return
            peer.answer(b"", f"Location: {location}", "X-Request-ID: id-3", status=status)
        answering(9)(peer)

    return behave


@pytest.mark.parametrize("status", ["301", "302", "303", "307", "308"])
@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/stac/other", "/stac/other?api-version=2026-04-15"),
        ("other?a=%2F%26&b=c%2Bd", "/stac/other?a=%2F%26&b=c%2Bd&api-version=2026-04-15"),
        ("{own}/stac/x%2Fy?API-Version=1#part", "/stac/x%2Fy?API-Version=1"),
        ("//127.0.0.1:{port}/z", "/z?api-version=2026-04-15"),
    ],
)
async def test_a_redirect_on_the_own_origin_is_followed(faulty, client_of, carry, status, location, target):
    def behave(peer: Peer) -> None:
        redirecting(location.format(own=server.url, port=server.port), status=f"{status} There")(peer)

    server = faulty(behave)

    assert await carry(client_of(server), read(GET)) == {"fine": True}
    assert [entry.target for entry in server.received[1:]] == [target]
    assert server.received[1].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{other}/x",
        "//127.0.0.1:{other}/x",
        "http://localhost:{port}/x",
        "https://127.0.0.1:{port}/x",
        "http://127.0.0.1:{port}@127.0.0.1:{other}/x",
        "http://127.0.0.1:{other}\\@127.0.0.1:{port}/x",
        "http://127.0.0.1:99999/x",
        "http://[::1/x",
        "ftp://127.0.0.1:{port}/x",
        "javascript:alert(1)",
    ],
)
async def test_a_redirect_to_another_origin_is_refused(faulty, client_of, carry, location):
    other = faulty(answering(1))

    def behave(peer: Peer) -> None:
        redirecting(location.format(other=other.port, port=server.port))(peer)

    server = faulty(behave)

    error = await failure_of(carry, client_of(server), read(GET, DEFAULT_RETRIES))

    assert (type(error), error.retryable) == (errors.GeoCatalogForeignUrl, False)
    assert (error.method, error.path) == ("GET", "/conformance")
    assert (error.status, error.request_id) == (307, "id-3")
    assert (other.connections, len(server.received)) == (0, 1)


@pytest.mark.parametrize("location", ["/a", "", "?a=b"])
async def test_redirects_that_do_not_end_are_given_up(faulty, client_of, carry, location):
    server = faulty(redirecting(location, times=100))

    error = await failure_of(carry, client_of(server), read(GET, DEFAULT_RETRIES))

    assert (type(error), error.status, error.request_id) == (errors.GeoCatalogProtocolError, 307, "id-3")
    assert "too many redirects" in error.message
    assert len(server.received) <= 10


@pytest.mark.parametrize("request_", [POST, DELETE], ids=["POST", "DELETE"])
@pytest.mark.parametrize("status", ["301", "302", "303", "307", "308"])
async def test_what_writes_is_not_redirected(faulty, client_of, carry, request_, status):
    server = faulty(redirecting("/other", status=f"{status} There"))

    error = await failure_of(carry, client_of(server), read(request_, DEFAULT_RETRIES))

    assert (type(error), error.status) == (errors.GeoCatalogProtocolError, int(status))
    assert error.method == request_.endpoint.method
    assert len(server.received) == 1


async def test_a_redirect_that_names_no_place_is_an_error(faulty, client_of, carry):
    server = faulty(answering_all(b"", status="307 Somewhere"))

    error = await failure_of(carry, client_of(server), read(GET))

    assert (type(error), error.status) == (errors.GeoCatalogProtocolError, 307)


async def test_a_refused_token_is_renewed_on_a_broken_connection_as_well(faulty, connect, new_credential, carry):
    def refuse(peer: Peer) -> None:
        peer.request()
        peer.answer(b"", status="401 Unauthorized")
        peer.request()

    server = faulty(refuse, answering(1))

    assert await carry(connect(server.url, new_credential()), read(GET, DEFAULT_RETRIES)) == {"fine": True}
    assert [entry.headers["authorization"] for entry in server.received] == [f"Bearer token-{n}" for n in (1, 2, 2)]
