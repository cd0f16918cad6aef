"""Files on disk and behind HTTP: read as they come, and written whole or not at all."""

from __future__ import annotations

import glob
import io
import os
import secrets
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urljoin, urlsplit

from airflow_provider_geocatalog.api.errors import RETRIED_STATUSES, GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.redaction import redact, signatures
from airflow_provider_geocatalog.api.validation import is_loopback
from airflow_provider_geocatalog.transfer.source import ItemSourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import requests

__all__ = ["LocalEnvironment", "WholeFile", "hidden", "is_http", "path_text", "refuse_signed", "unreadable"]

_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two bytes
_ATTEMPTS = 3  # after the first
_BACKOFF = 0.5  # seconds, doubled each time
_REDIRECTS = 5
_CONNECTIONS = 32
_BLOCK = 256 * 1024
#: What stays as it is however often one looks.
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError, ImportError)


def is_http(path: str) -> bool:
    """Return whether a path is an address of the web."""
    return urlsplit(path).scheme.lower() in {"http", "https"}


def path_text(value: Any) -> Any:
    """Return a path object, of Python or of Airflow's object storage, as text; anything else as it is."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return str(value) if hasattr(value, "protocol") and hasattr(value, "parent") else value


def hidden(path: str) -> bool:
    """Return whether a path inside a folder is no content of it: ``.part`` of a writer, ``_SUCCESS`` of a job."""
    return any(name.startswith((".", "_")) for name in path.split("/"))


def refuse_signed(value: Any, argument: str) -> None:
    """
    Refuse a SAS signature in an argument, which Airflow stores and shows.

    :raises GeoCatalogInvalidInput: There is one.
    """
    if signatures(str(value)):
        raise GeoCatalogInvalidInput(
            f"{argument} carries a SAS signature, which would be shown in the task's rendered fields; give the path "
            "without query string, and open it with a connection"
        )


def unreadable(what: str, error: Exception, *, retryable: bool | None = None) -> ItemSourceError:
    """
    Return the error for something that cannot be read; to be raised from its cause, which is set unless it tells a
    secret.

    :param what: What was tried, as the beginning of a sentence.
    :param error: What came of it.
    :param retryable: Whether reading again can help; told from the error if not given.
    """
    if retryable is None:
        retryable = not isinstance(error, _LASTING)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    failure = ItemSourceError(f"{what}: {type(error).__name__}{f': {reason}' if reason else ''}", retryable=retryable)
    told: BaseException | None = error
    while told is not None and redact(str(told)) == str(told):
        told = told.__cause__ or told.__context__
    failure.__cause__ = error if told is None else None
    return failure


class WholeFile:
    """
    A file to write that comes to be when it is closed; not if an exception leaves its ``with`` block.

    :param draft: Where it is written meanwhile.
    :param publish: Makes the file of the draft.
    :param private: Whether nobody else may read the draft.
    """

    def __init__(self, draft: str, publish: Callable[[str], None], *, private: bool = False) -> None:
        self._draft, self._publish = draft, publish
        mode = 0o600 if private else 0o666
        self._file = open(draft, "xb", buffering=_BLOCK, opener=lambda path, flags: os.open(path, flags, mode))  # noqa: SIM115

    @classmethod
    def on_disk(cls, path: str) -> WholeFile:
        """Return one that replaces what is at a path in one step."""
        folder, name = os.path.split(os.path.abspath(path))
        os.makedirs(folder, exist_ok=True)
        draft = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(4)}.part")
        return cls(draft, lambda draft: os.replace(draft, path))

    @property
    def closed(self) -> bool:
        """Whether it takes no more."""
        return self._file.closed

    def write(self, data: Any) -> int:
        """Write bytes."""
        return self._file.write(data)

    def flush(self) -> None:
        """Write what is buffered; nobody sees it yet."""
        self._file.flush()

    def tell(self) -> int:
        """Return how much was written."""
        return self._file.tell()

    def close(self) -> None:
        """Make the file be there."""
        self._end(publish=True)

    def discard(self) -> None:
        """Forget what was written; what was there before stays."""
        self._end(publish=False)

    def _end(self, *, publish: bool) -> None:
        if self._file.closed:
            return
        try:
            self._file.close()
            if publish:
                self._publish(self._draft)
        finally:
            if os.path.exists(self._draft):
                os.unlink(self._draft)

    def __enter__(self) -> WholeFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end(publish=kind is None)


class LocalEnvironment:
    """
    Where sources run without Airflow: files of this machine and of the web, headers from memory.

    :param headers: HTTP headers by connection id.
    """

    def __init__(self, headers: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self._headers = headers or {}

    @cached_property
    def _web(self) -> _Web:
        return _Web()

    def headers(self, conn_id: str | None, url: str) -> Mapping[str, str]:
        """Return the HTTP headers that a connection stands for."""
        if conn_id is None:
            return {}
        if conn_id not in self._headers:
            raise GeoCatalogInvalidInput(f"there is no connection {conn_id!r} here")
        return self._headers[conn_id]

    def open(self, path: str, mode: str = "rb", conn_id: str | None = None) -> IO[Any]:
        """
        Open a file, ``rb`` or ``wb``; what is written is there when the file is closed without an exception.

        :raises ItemSourceError: An address cannot be read.
        :raises OSError: A file cannot be opened.
        """
        if mode not in {"rb", "wb"}:
            raise GeoCatalogInvalidInput(f"files are opened as 'rb' or 'wb', not {mode!r}")
        if is_http(path):
            if mode == "wb":
                raise GeoCatalogInvalidInput(f"nothing can be written to {redact(path)}")
            return self._web.open(path, self.headers(conn_id, path))
        return self._open_file(path, mode, conn_id)

    def list(self, path: str, conn_id: str | None = None) -> list[str]:
        """
        Return the files that a path names, sorted: itself, those in a folder at any depth, or those of a pattern.

        Files whose names begin with ``.`` or ``_`` are no content of a folder.
        """
        return [path] if is_http(path) else sorted(self._list_files(path, conn_id))

    def _open_file(self, path: str, mode: str, conn_id: str | None) -> IO[Any]:
        local = _local_path(path)
        if mode == "wb":
            return cast("IO[Any]", WholeFile.on_disk(local))
        return open(local, "rb")

    def _list_files(self, path: str, conn_id: str | None) -> Iterable[str]:
        local = _local_path(path)
        if os.path.isfile(local):
            return [path]
        if os.path.isdir(local):
            root = Path(local)
            found = (file for file in root.rglob("*") if not hidden(file.relative_to(root).as_posix()))
        else:
            found = (Path(name) for name in glob.iglob(local, recursive=True))
        return (str(file) for file in found if file.is_file())


def _local_path(path: str) -> str:
    parts = urlsplit(path)
    if "://" not in path:
        return path
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise GeoCatalogInvalidInput(f"{redact(path)} is neither a file of this machine nor an http(s) address")
    return unquote(parts.path)


class _Web:
    """Reads addresses, with a few attempts; headers go to the origin that they are meant for and nowhere else."""

    @cached_property
    def _session(self) -> requests.Session:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        retry = Retry(
            total=_ATTEMPTS,
            backoff_factor=_BACKOFF,
            status_forcelist=RETRIED_STATUSES,
            raise_on_status=False,
            respect_retry_after_header=False,  # nothing bounds it
        )
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS, max_retries=retry))
        return session

    def open(self, url: str, headers: Mapping[str, str]) -> IO[bytes]:
        shown = redact(url)
        parts = urlsplit(url)
        if headers and parts.scheme != "https" and not is_loopback(parts.hostname):
            raise GeoCatalogInvalidInput(f"{shown} is plain http: a credential goes only over https or to loopback")
        answer = self._get(url, headers)
        if answer.status_code != 200:
            answer.close()
            raise ItemSourceError(
                f"{shown} answered {answer.status_code} {answer.reason or ''}".strip(),
                status=answer.status_code,
                retryable=answer.status_code in RETRIED_STATUSES,
            )
        return io.BufferedReader(_Body(answer), _BLOCK)

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        import requests

        target = url
        for _ in range(_REDIRECTS + 1):
            own = _origin(target) == _origin(url)
            no_proxy: dict[str, Any] = dict.fromkeys(("http", "https", "all"))
            try:
                answer = self._session.get(
                    target,
                    # Not as headers: a session would let .netrc replace them.
                    auth=_Headers(headers if own else {}) if headers else None,
                    stream=True,
                    timeout=_TIMEOUT,
                    allow_redirects=False,
                    proxies=no_proxy if is_loopback(urlsplit(target).hostname) else None,
                )
            except requests.RequestException as error:
                # What requests raises has the query in its text.
                name, lasting = type(error).__name__, isinstance(error, ValueError)
                raise ItemSourceError(f"{redact(url)} cannot be reached ({name})", retryable=not lasting) from None
            if not answer.is_redirect:
                return answer
            answer.close()
            target = urljoin(target, answer.headers["location"])
        raise ItemSourceError(f"{redact(url)} redirects more than {_REDIRECTS} times")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2]


class _Headers:
    """Headers, as what requests takes for ``auth``."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        return request


class _Body(io.RawIOBase):
    """The body of an answer; one that ends before its announced length is an error."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__()
        self._answer = answer
        length = answer.headers.get("content-length", "")
        self._length = int(length) if length.isdigit() else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        import urllib3

        try:
            data = self._answer.raw.read(len(buffer), decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ConnectionError(f"the answer broke off ({type(error).__name__})") from None
        if not data and self._length is not None and self._answer.raw.tell() < self._length:
            raise ConnectionError(f"the answer broke off before its {self._length} bytes")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._answer.close()
        super().close()
