"""
Download files of items: signed just before, streamed, resumed where a connection broke, checked when they are whole.

Names, hrefs and checksums in items were written by others: none of them decides where a file goes or who gets a
signature.
"""

from __future__ import annotations

import base64
import contextlib
import contextvars
import enum
import hashlib
import ipaddress
import logging
import re
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import parse_qs, urljoin, urlsplit

from airflow_provider_geocatalog.api.errors import (
    RETRIED_STATUSES,
    GeoCatalogAuthenticationError,
    GeoCatalogError,
    GeoCatalogNotFound,
    GeoCatalogPermissionError,
    GeoCatalogProtocolError,
    GeoCatalogServerError,
    GeoCatalogUnreachable,
)
from airflow_provider_geocatalog.api.log_lines import log_line
from airflow_provider_geocatalog.api.managed_storage import managed_container_url
from airflow_provider_geocatalog.api.operations.sas import sign_href
from airflow_provider_geocatalog.api.redaction import redact
from airflow_provider_geocatalog.api.validation import is_loopback
from airflow_provider_geocatalog.observer import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import requests

    from airflow_provider_geocatalog.asset_files import AssetFile, Destination
    from airflow_provider_geocatalog.client import GeoCatalogClient

__all__ = [
    "AssetDownloads",
    "ChecksumOf",
    "DownloadedFile",
    "IfFileExists",
    "Signatures",
    "checked_host",
]

log = logging.getLogger(__name__)

ENDPOINT = "download_asset"  #: how requests for files are called in logs and metrics
_CHUNK = 256 * 1024  # bytes
_CONNECT_TIMEOUT, _READ_TIMEOUT = 10.0, 60.0  # seconds
_TRIES = 6  # of a file without a byte of progress between them
_LONGEST_PAUSE = 15.0  # seconds between tries
_SIGNED_AGAIN = frozenset({1, 4})  # refusals after which another signature is asked for
_EXPIRES_SOON = 60.0  # seconds before its end at which a signature is not used any more
_FAILURES_IN_A_ROW = 20  # after which the storage, or the service that signs, is taken to be down
_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TOLD_EVERY = 30.0  # seconds between lines about the progress
_NO_PROXIES = {"http": None, "https": None, "all": None}
#: Multihash prefixes of the STAC file extension's checksums, and the algorithms of hashlib.
_MULTIHASHES = {"1220": "sha256", "1340": "sha512", "1114": "sha1", "d50110": "md5"}


class IfFileExists(enum.Enum):
    """What is done with a file that is there already."""

    SKIP = "skip"
    REPLACE = "replace"
    FAIL = "fail"


class ChecksumOf(enum.Enum):
    """Whose checksum a file is held against."""

    ITEM = "item"
    STORAGE = "storage"


# --- signatures -------------------------------------------------------------------------------------------------------


class Signatures:
    """
    Signed URLs of files; thread-safe.

    The service is asked whether it signs an href. Its signatures open a whole container, so the hrefs into the
    collection's own one share a signature until it ends or is refused; it is added to no other URL.

    :param client: Of the GeoCatalog.
    :param duration: Minutes that signatures last; about a day if not given.
    :param told: Called with every signed URL, so that logs can be kept clear of it.
    """

    def __init__(
        self,
        client: GeoCatalogClient,
        collection_id: str,
        *,
        duration: int | None = None,
        told: Callable[[str], None] = lambda url: None,
    ) -> None:
        self._client, self._collection_id = client, collection_id
        self._duration, self._told = duration, told
        self._lock = threading.Lock()
        self._queries: dict[str, tuple[str, float]] = {}

    def sign(self, href: str) -> str:
        """
        Return the URL to download from; the href itself if the service does not sign it.

        :raises GeoCatalogError: The service cannot be asked.
        """
        container = None if urlsplit(href).query else managed_container_url(href, self._collection_id)
        if container is None:
            return self._ask(href)[0]
        with self._lock:
            query, until = self._queries.get(container, ("", 0.0))
            if query and self._client.clock.time() < until - _EXPIRES_SOON:
                return f"{href}?{query}"
            url, expires = self._ask(href)
            query = urlsplit(url).query
            if parse_qs(query).get("sr") == ["c"]:
                self._queries[container] = (query, expires)
            return url

    def refused(self, url: str) -> None:
        """Forget a signature, unless it was replaced meanwhile."""
        query = urlsplit(url).query
        with self._lock:
            self._queries = {name: known for name, known in self._queries.items() if known[0] != query}

    def _ask(self, href: str) -> tuple[str, float]:
        signed = self._client.run(sign_href(href, duration=self._duration))
        if signed.href == href:
            return href, 0.0
        self._told(signed.href)
        if not signed.href.startswith((f"{href}?", f"{href}&")):
            raise GeoCatalogProtocolError(f"the service signed another URL than {redact(href)}")
        return signed.href, signed.expires_at.timestamp() if signed.expires_at else 0.0


# --- one file ---------------------------------------------------------------------------------------------------------


class _Stopped(Exception):
    """The downloads are being stopped."""


class _TooMuch(GeoCatalogError):
    """There are more bytes than may be downloaded."""


class _CannotWrite(GeoCatalogError):
    """A file cannot be written; others could not be either."""


class _Refused(GeoCatalogPermissionError):
    """The storage does not accept a signature."""

    hint = "A new signature can take a moment to be accepted; if it stays like this, look at the GeoCatalog's storage."
    retryable = True


class _Changed(GeoCatalogError):
    """The file is not the one any more that was begun with."""

    retryable = True


@dataclass
class _Budget:
    """Bytes that may be downloaded; thread-safe."""

    most: int | None
    used: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, count: int) -> None:
        with self.lock:
            if self.most is not None and self.used + count > self.most:
                raise _TooMuch(
                    f"the files have more than {self.most} bytes (max_bytes)",
                    hint="Choose fewer, or raise max_bytes. Files that are whole stay.",
                )
            self.used += count


class _Download:
    """
    The download of one file.

    :param stop: Set when it is to end.
    """

    def __init__(
        self,
        file: AssetFile,
        destination: Destination,
        *,
        client: GeoCatalogClient,
        signatures: Signatures,
        session: requests.Session,
        checksum_of: ChecksumOf,
        budget: _Budget,
        stop: threading.Event,
    ) -> None:
        self._file, self._destination = file, destination
        self._client, self._signatures, self._session = client, signatures, session
        self._budget, self._stop = budget, stop
        self._wanted = _wanted(file.checksum) if checksum_of is ChecksumOf.ITEM else None
        self._md5: str | None = None  # as the storage tells it
        self._etag: str | None = None
        self._size = 0
        self._paid = 0  # bytes of the file that are not to be taken from the budget any more
        self._total: int | None = None
        self._hash = self._new_hash()
        self._out: IO[bytes] | None = None
        self._attempts = 0
        self._received = 0  # bytes of the request that is under way
        self._answer: requests.Response | None = None

    def run(self) -> tuple[int, str]:
        """Download; return the size and the checksum, with the name of its algorithm."""
        try:
            self._take_up()
            self._download()
            self._close()
            self._check()
            with _writing(self._destination):
                self._destination.finish()
        except BaseException:
            with contextlib.suppress(_CannotWrite):
                self._close()
            if not self._destination.keeps:
                self._discard()
            raise
        return self._size, f"{self._hash.name}:{self._hash.hexdigest()}"

    def _new_hash(self) -> Any:
        algorithm = self._wanted[0] if self._wanted else "md5"
        return hashlib.new(algorithm, usedforsecurity=False)

    def _take_up(self) -> None:
        """Take up what an earlier try has left."""
        size, etag = self._destination.kept()
        if not size or etag is None:
            return
        with _writing(self._destination):
            for chunk in self._destination.read_kept():
                self._go_on()
                self._hash.update(chunk)
                self._size += len(chunk)
        self._etag, self._paid = etag, self._size

    def _download(self) -> None:
        tries = refusals = furthest = 0
        while True:
            url = ""
            failure: GeoCatalogError
            try:
                self._host(self._file.href)
                url = self._signatures.sign(self._file.href)
                self._request(url)
                return
            except _Refused as error:
                failure, refusals = error, refusals + 1
                if refusals in _SIGNED_AGAIN:
                    self._signatures.refused(url)
            except (_TooMuch, _CannotWrite):
                raise
            except GeoCatalogError as error:
                if not error.retryable:
                    raise
                failure = error
            tries = 0 if self._size > furthest else tries + 1
            furthest = max(furthest, self._size)
            if tries >= _TRIES:
                raise failure
            log.info("Asset %r of item %s: %s Going on.", self._file.key, self._file.item_id, failure)
            self._pause(min(_LONGEST_PAUSE, max(0.25 * 2.0**tries, failure.retry_after or 0.0)))

    def _pause(self, seconds: float) -> None:
        while seconds > 0:
            self._go_on()
            self._client.clock.sleep(min(1.0, seconds))
            seconds -= 1.0

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _request(self, url: str) -> None:
        """Make a request, and write what comes of the file."""
        import requests
        import urllib3.exceptions

        self._go_on()
        started, self._received, self._answer = time.monotonic(), 0, None
        try:
            with self._get(url, is_signed=url != self._file.href) as response:
                self._begin(response)
                while chunk := response.raw.read(_CHUNK, decode_content=False):
                    self._go_on()
                    self._received += len(chunk)
                    self._write(chunk)
                failure = None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            failure = GeoCatalogUnreachable(f"{self._what} broke off: {type(error).__name__}: {error}")
            self._answer = None  # not a complete one
        finally:
            self._tell(time.monotonic() - started)
        if failure is None and self._total is not None and self._size != self._total:
            failure = GeoCatalogUnreachable(f"{self._what} broke off after {self._size} of {self._total} bytes")
        if failure is not None:
            raise failure  # out here: what requests raises has the signature in its text

    def _tell(self, seconds: float) -> None:
        self._attempts += 1
        status = None if self._answer is None else self._answer.status_code
        request_id = None if self._answer is None else self._answer.headers.get("x-ms-request-id")
        self._client.observer.exchanged(Exchange(ENDPOINT, status, seconds, self._attempts, received=self._received))
        log_line(
            log,
            logging.DEBUG,
            "Asset %r of item %s was answered %s, %d bytes in %.0f ms [request id %s]",
            self._file.key,
            self._file.item_id,
            status,
            self._received,
            seconds * 1000,
            request_id,
            endpoint=ENDPOINT,
            status=status,
            duration_ms=round(seconds * 1000, 1),
            attempt=self._attempts,
            request_id=request_id,
        )

    @property
    def _what(self) -> str:
        return f"the download of asset {self._file.key!r} of item {self._file.item_id!r}"

    def _get(self, url: str, *, is_signed: bool) -> requests.Response:
        headers = {"Accept-Encoding": "identity"}
        if self._size and self._etag is not None:
            headers |= {"Range": f"bytes={self._size}-", "If-Match": self._etag}
        for _ in range(_MOST_REDIRECTS + 1):
            host = self._host(url)
            response = self._session.get(
                url,
                headers=headers,
                stream=True,
                timeout=(_CONNECT_TIMEOUT, _READ_TIMEOUT),
                allow_redirects=False,
                proxies=_NO_PROXIES if is_loopback(host) else None,  # type: ignore[arg-type]
            )
            self._answer = response
            if response.status_code in _REDIRECTS and not is_signed and "location" in response.headers:
                url = urljoin(url, response.headers["location"])
                response.close()
                continue
            try:
                self._judge(response, is_signed=is_signed)
            except GeoCatalogError:
                response.close()
                raise
            return response
        raise GeoCatalogProtocolError(f"{self._what}: too many redirects")

    def _host(self, url: str) -> str:
        return checked_host(url, is_local=self._client.settings.is_local)

    def _judge(self, response: requests.Response, *, is_signed: bool) -> None:
        """Raise the error that an answer stands for."""
        status = response.status_code
        if status in {200, 206}:
            return
        code = response.headers.get("x-ms-error-code")
        told = f"{self._what} was answered {status}{f' {code}' if code else ''}"
        retry_after = response.headers.get("retry-after", "")
        details: dict[str, Any] = {
            "status": status,
            "code": code,
            "retry_after": float(retry_after) if retry_after.isdecimal() else None,
        }
        if status in {412, 416} and self._size:
            self._start_over()
            raise _Changed(f"{told}: the file has changed since its first part was downloaded", **details)
        if is_signed and status in {401, 403}:
            raise _Refused(told, **details)
        if status in {401, 403, 409}:
            raise GeoCatalogPermissionError(
                told, hint="It is not in the GeoCatalog's storage, and not public.", **details
            )
        if status == 404:
            raise GeoCatalogNotFound(told, hint="The item names a file that is not there.", **details)
        raise GeoCatalogServerError(told, retryable=status in RETRIED_STATUSES, **details)

    def _begin(self, response: requests.Response) -> None:
        """Find out what an answer has of the file, and open it accordingly."""
        headers = response.headers
        etag = headers.get("etag")
        start, total = 0, _number(headers.get("content-length"))
        if response.status_code == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("content-range", ""))
            start, total = (int(found[1]), _number(found[2])) if found else (-1, None)
            if start != self._size or etag != self._etag:
                self._start_over()
                raise _Changed(f"{self._what} cannot be gone on with: the file has changed")
        elif self._size:
            self._start_over()
        self._md5 = headers.get("x-ms-blob-content-md5") or (headers.get("content-md5") if start == 0 else None)
        # Only a strong one says that bytes are the same.
        self._etag = etag if etag and not etag.startswith("W/") else None
        self._total = total
        self._pay(total or 0)
        if self._out is None:
            with _writing(self._destination):
                self._out = self._destination.open(self._etag, append=self._size > 0)

    def _write(self, chunk: bytes) -> None:
        assert self._out is not None  # noqa: S101
        self._pay(self._size + len(chunk))
        with _writing(self._destination):
            self._out.write(chunk)
        self._hash.update(chunk)
        self._size += len(chunk)

    def _pay(self, size: int) -> None:
        if size > self._paid:
            self._budget.take(size - self._paid)
            self._paid = size

    def _start_over(self) -> None:
        self._close()
        self._discard()
        self._size, self._etag, self._hash = 0, None, self._new_hash()

    def _close(self) -> None:
        out, self._out = self._out, None
        if out is not None:
            with _writing(self._destination):
                out.close()

    def _discard(self) -> None:
        try:
            self._destination.discard()
        except OSError as error:
            log.warning("%s cannot be removed: %s", self._destination.path, error)

    def _check(self) -> None:
        """Hold the whole file against its checksum; remove it if it is another."""
        found = self._hash.digest()
        if self._wanted is not None:
            whose, is_right = "the item's", found == self._wanted[1]
            hint = "Where the service has converted a file, the item's checksum is that of the source: use 'storage'."
        elif self._md5 is not None:
            whose, is_right = "the storage's", base64.b64encode(found).decode() == self._md5
            hint = "It was damaged on its way, or in the storage."
        else:
            return
        if is_right:
            return
        self._discard()
        raise GeoCatalogError(
            f"{self._what}: its checksum is not {whose}; the file was removed",
            code="ChecksumMismatch",
            hint=hint,
            retryable=self._wanted is None,
        )


@contextlib.contextmanager
def _writing(destination: Destination) -> Iterator[None]:
    """Tell errors of the place where files go from those of the place where they come from."""
    try:
        yield
    except GeoCatalogError:
        raise
    except Exception as error:  # what object stores raise is of many kinds
        raise _CannotWrite(
            f"{destination.path} cannot be written: {type(error).__name__}: {error}", retryable=True
        ) from error


def _wanted(checksum: str | None) -> tuple[str, bytes] | None:
    """Return the algorithm and the digest of a multihash, ``None`` if it is of a kind that is not known."""
    for prefix, algorithm in _MULTIHASHES.items():
        if checksum is not None and checksum.lower().startswith(prefix):
            try:
                digest = bytes.fromhex(checksum[len(prefix) :])
            except ValueError:
                return None
            if len(digest) == hashlib.new(algorithm, usedforsecurity=False).digest_size:
                return algorithm, digest
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def checked_host(url: str, *, is_local: bool) -> str:
    """
    Return the host of a web address that an item names.

    :param is_local: Whether the GeoCatalog itself is on this machine.
    :raises GeoCatalogError: It is no web address, or one that leads to this machine, or to where clouds tell their
        machines secrets.
    """
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname or ""
    except ValueError:
        scheme = host = ""
    if scheme not in {"http", "https"} or not host:
        raise GeoCatalogError(
            f"{redact(url)!r} is no web address",
            hint="Only files in the GeoCatalog's storage and on the web are downloaded.",
        )
    if not is_local and (is_loopback(host) or _is_link_local(host)):
        raise GeoCatalogError(f"the address {host} is the worker's own")
    return host


def _is_link_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_link_local
    except ValueError:
        return False


# --- many files -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DownloadedFile:
    """
    What came of a file.

    :param path: Where it is; ``None`` if there is none.
    :param size: Bytes; ``None`` if it was there already.
    :param checksum: Algorithm and hex digits.
    :param error: Why it failed.
    """

    item_id: str
    key: str
    path: str | None = None
    size: int | None = None
    checksum: str | None = None
    error: GeoCatalogError | None = None

    @property
    def status(self) -> str:
        """``downloaded``, ``skipped`` or ``failed``."""
        if self.error is not None:
            return "failed"
        return "skipped" if self.size is None else "downloaded"

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object, without what it has not."""
        told = {
            "item": self.item_id,
            "asset": self.key,
            "status": self.status,
            "path": self.path,
            "bytes": self.size,
            "checksum": self.checksum,
            "code": self.error.code if self.error else None,
            "reason": str(self.error) if self.error else None,
        }
        return {name: value for name, value in told.items() if value is not None}


class AssetDownloads:
    """
    Download many files, some at once; memory does not grow with their number or size.

    :param client: Of the GeoCatalog.
    :param signatures: Sign the hrefs.
    :param destination: Returns where a file goes, of its name.
    :param if_exists: What is done with files that are there.
    :param checksum_of: Whose checksum counts.
    :param max_bytes: Bytes that may be downloaded.
    :param concurrency: Files at once.
    """

    def __init__(
        self,
        client: GeoCatalogClient,
        signatures: Signatures,
        destination: Callable[[Sequence[str]], Destination],
        *,
        if_exists: IfFileExists = IfFileExists.SKIP,
        checksum_of: ChecksumOf = ChecksumOf.ITEM,
        max_bytes: int | None = None,
        concurrency: int = 8,
    ) -> None:
        self._client = client
        self._signatures, self._destination = signatures, destination
        self._if_exists, self._checksum_of = if_exists, checksum_of
        self._budget = _Budget(max_bytes)
        self._concurrency = concurrency
        self._stop = threading.Event()
        self._local = threading.local()

    def stop(self) -> None:
        """End soon; from any thread or signal handler."""
        self._stop.set()

    def run(self, files: Iterable[AssetFile], observe: Callable[[DownloadedFile], None]) -> None:
        """
        Download files. One that fails is told, and the others go on.

        :param files: The files; taken when there is a place for another.
        :param observe: Told of every file, in this thread.
        :raises GeoCatalogError: No file can be downloaded any more, or it was stopped.
        """
        pending: dict[Future[DownloadedFile], tuple[str, ...]] = {}
        failures = 0

        def told(file: DownloadedFile) -> None:
            nonlocal failures
            failures = failures + 1 if file.error is not None and file.error.retryable else 0
            observe(file)
            if file.error is not None and failures >= _FAILURES_IN_A_ROW:
                raise file.error

        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="geocatalog-download")
        tell_at, count = time.monotonic() + _TOLD_EVERY, 0
        try:
            for file in files:
                if file.name in pending.values():  # an item that is on two pages, as they move under the reader
                    continue
                context = contextvars.copy_context()  # Airflow's log routing hangs on context variables
                pending[pool.submit(context.run, self._one, file)] = file.name
                while len(pending) >= 2 * self._concurrency:
                    _observe(pending, told)
                count += 1
                if time.monotonic() >= tell_at:
                    tell_at = time.monotonic() + _TOLD_EVERY
                    log.info("%d files so far, %d bytes.", count - len(pending), self._budget.used)
            while pending:
                _observe(pending, told)
        except _Stopped:
            raise GeoCatalogError("the downloads were stopped before they were done", retryable=True) from None
        finally:
            # Whatever ends it, no thread goes on writing behind its back.
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _one(self, file: AssetFile) -> DownloadedFile:
        try:
            return self._checked(file)
        except (_TooMuch, _CannotWrite, GeoCatalogAuthenticationError):
            raise
        except GeoCatalogError as error:
            return DownloadedFile(file.item_id, file.key, error=error)

    def _checked(self, file: AssetFile) -> DownloadedFile:
        if self._stop.is_set():
            raise _Stopped
        destination = self._destination(file.name)
        done = partial(DownloadedFile, file.item_id, file.key, destination.path)
        if self._if_exists is not IfFileExists.REPLACE and self._exists(destination):
            if self._if_exists is IfFileExists.FAIL:
                raise GeoCatalogError(f"{destination.path} is there already", hint="Use if_exists='skip' or 'replace'.")
            return done()
        size, checksum = _Download(
            file,
            destination,
            client=self._client,
            signatures=self._signatures,
            session=self._session(),
            checksum_of=self._checksum_of,
            budget=self._budget,
            stop=self._stop,
        ).run()
        return done(size, checksum)

    def _exists(self, destination: Destination) -> bool:
        with _writing(destination):
            return destination.exists()

    def _session(self) -> requests.Session:
        """Return the session of this thread: nothing but what is in a URL tells a server who asks."""
        import requests

        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.auth = lambda request: request  # otherwise requests sends what .netrc holds
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            session.verify = self._client.settings.ca_bundle or True
        return session


def _observe(pending: dict[Future[DownloadedFile], tuple[str, ...]], observe: Callable[[DownloadedFile], None]) -> None:
    """Wait for one file at least, and take those that are done out of ``pending``."""
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        del pending[future]
        observe(future.result())
