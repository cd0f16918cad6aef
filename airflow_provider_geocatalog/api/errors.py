"""
The error tree, and the one function that turns a response into an error.

::

    GeoCatalogError
    +-- GeoCatalogInvalidInput             refused here, before anything was sent
    |   +-- GeoCatalogUnsupportedOperation the api-version lacks the operation
    +-- GeoCatalogAuthenticationError      no credential to be had, or 401
    +-- GeoCatalogPermissionError          403
    +-- GeoCatalogNotFound                 404
    +-- GeoCatalogConflict                 409
    +-- GeoCatalogBadRequest               any other 4xx
    +-- GeoCatalogThrottled                408, 429
    +-- GeoCatalogServerError              5xx
    +-- GeoCatalogUnreachable              no answer: DNS, TLS, refused, timed out, cut off
    +-- GeoCatalogProtocolError            an answer that no GeoCatalog gives: HTML, broken JSON
    |   +-- GeoCatalogForeignUrl           a redirect or polling URL that leads to another origin
    +-- GeoCatalogOperationError           a long-running operation or run did not succeed
    |   +-- GeoCatalogOperationFailed      it ended as Failed
    |   +-- GeoCatalogOperationCanceled    it ended as Canceled
    |   +-- GeoCatalogItemsFailed          more items failed than were tolerated
    +-- GeoCatalogWaitTimeout              it did not end in time
"""

from __future__ import annotations

import datetime
import math
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_geocatalog.api.http import Request, Response

#: How much of a body that is no known error envelope goes into a message.
_BODY_EXCERPT = 300
#: How much of the service's own message; the recorded ones have a few hundred characters.
_MESSAGE_EXCERPT = 2000


class GeoCatalogError(Exception):
    """
    Base of all errors of this package.

    :param message: What failed, in one sentence; secrets in it are masked.
    :param status: HTTP status code, where there was an answer.
    :param code: The service's error code.
    :param request_id: The service's id of the exchange, for its support.
    :param method: HTTP method.
    :param path: Path below the area's prefix, without query string.
    :param hint: What to do next; the class's own hint if not given.
    :param retryable: Whether the same call can succeed later; the class's own answer if not given.
    :param retry_after: Seconds that the service asked to wait.

    ``link`` is the URL of the operation that it is about, where there is one. ``client_request_id`` is the id of a
    request that got no answer, which the log has as well. ``ambiguous`` says that the service may have done what was
    asked although this error came back, so that a repetition could do it twice: look first.
    """

    hint: str | None = None
    retryable: bool = False
    link: str | None = None
    client_request_id: str | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        method: str | None = None,
        path: str | None = None,
        hint: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.message = redact(message)
        super().__init__(self.message)
        self.status = status
        self.code = redact(code) if code else code
        self.request_id = redact(request_id) if request_id else request_id
        self.method = method
        self.path = path
        self.retry_after = retry_after
        self.ambiguous = False
        if hint is not None:
            self.hint = redact(hint)
        if retryable is not None:
            self.retryable = retryable

    def __str__(self) -> str:
        if self.method:
            answered = f"answered {self.status}" if self.status else "failed"
            text = f"{self.method} {self.path or '/'} {answered}{f' {self.code}' if self.code else ''}: {self.message}"
        else:
            text = f"{self.code}: {self.message}" if self.code else self.message
        if not text.endswith((".", "!", "?")):
            text += "."
        if self.request_id:
            text += f" [request id {self.request_id}]"
        if self.hint:
            text += f" {self.hint}"
        if self.ambiguous:
            text += " The service may have done it all the same: look before you call again."
        elif self.retryable:
            text += " A retry can help."
        if self.link:
            text += f" See {self.link}"
        return text

    def locate(self, request: Request, response: Response) -> None:
        """Say which exchange this is about, where it does not say so yet."""
        self.method = self.method or request.endpoint.method
        self.path = self.path or request.path
        self.status = self.status or response.status
        self.request_id = self.request_id or response.request_id

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments do not survive the default pickling of exceptions.
        return (_rebuild, (type(self), self.message, self.__dict__))


def _rebuild(cls: type[GeoCatalogError], message: str, state: dict[str, Any]) -> GeoCatalogError:
    error = cls.__new__(cls, message)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class GeoCatalogInvalidInput(GeoCatalogError, ValueError):
    """
    Bad input, refused before anything was sent.

    :param problems: One sentence for everything that is wrong, or a list of them.
    """

    def __init__(self, problems: str | Sequence[str], *, subject: str | None = None) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        text = "; ".join(self.problems)
        super().__init__(f"{subject}: {text}" if subject else text)


class GeoCatalogUnsupportedOperation(GeoCatalogInvalidInput):
    """The connection's api-version does not have the operation."""

    hint = "Choose a newer api-version in the connection."


class GeoCatalogAuthenticationError(GeoCatalogError):
    """No token could be had, or the service did not accept it."""

    hint = "Check the connection's authentication fields; `airflow connections test` names the part that fails."


class GeoCatalogPermissionError(GeoCatalogError):
    """The identity is known but may not do this."""

    hint = (
        "Assign the role 'GeoCatalog Administrator' (or 'GeoCatalog Reader' for reading only) on the GeoCatalog "
        "resource to the connection's identity; a new assignment takes a few minutes."
    )


class GeoCatalogNotFound(GeoCatalogError):
    """There is no such resource."""

    hint = "Check the id, or create it in an upstream task."


class GeoCatalogConflict(GeoCatalogError):
    """The resource exists already, or its state forbids the call."""


class GeoCatalogBadRequest(GeoCatalogError):
    """The service refused the request as malformed or not acceptable."""

    hint = "The request has to change; repeating it will not help."


class GeoCatalogThrottled(GeoCatalogError):
    """Too many requests for now."""

    retryable = True


class GeoCatalogServerError(GeoCatalogError):
    """The service failed."""

    retryable = True


class GeoCatalogUnreachable(GeoCatalogError):
    """
    No complete answer came.

    :param sent: Whether the service may have received the request.
    """

    retryable = True

    def __init__(self, message: str, *, sent: bool = True, **details: Any) -> None:
        super().__init__(message, **details)
        self.sent = sent


class GeoCatalogProtocolError(GeoCatalogError):
    """An answer that no GeoCatalog gives."""

    hint = "Check that the connection's URL is the GeoCatalog's endpoint and that no proxy or sign-in page answers."


class GeoCatalogForeignUrl(GeoCatalogProtocolError):
    """The service pointed to another origin; the token does not go there."""


class GeoCatalogOperationError(GeoCatalogError):
    """
    A long-running operation or an ingestion run did not succeed.

    :param summary: The ids, times and counts that a successful task would have returned.
    """

    def __init__(self, message: str, *, summary: dict[str, Any] | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.summary = summary or {}


class GeoCatalogOperationFailed(GeoCatalogOperationError):
    """The operation or run ended as Failed."""


class GeoCatalogOperationCanceled(GeoCatalogOperationError):
    """The operation or run was cancelled by somebody."""

    hint = "Items that were ingested before the cancellation stay. Run it again to load the rest."


class GeoCatalogItemsFailed(GeoCatalogOperationError):
    """More items failed than the task tolerates."""


class GeoCatalogWaitTimeout(GeoCatalogError):
    """
    The operation or run did not end in time.

    :param summary: How far it was.
    """

    def __init__(self, message: str, *, summary: dict[str, Any] | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.summary = summary or {}


#: Statuses after which the same call can succeed later. Others, such as 501, say the same thing the next time.
RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

_BY_STATUS: dict[int, type[GeoCatalogError]] = {
    401: GeoCatalogAuthenticationError,
    403: GeoCatalogPermissionError,
    404: GeoCatalogNotFound,
    408: GeoCatalogThrottled,
    409: GeoCatalogConflict,
    429: GeoCatalogThrottled,
}

#: Codes of the service with a better hint than their status (service-open-questions V9; geocatalog-api 10.1).
_HINTS_BY_CODE = {
    "UnsupportedApiVersion": "Choose another api-version in the connection.",
    "UnsupportedApiVersionValue": "Choose another api-version in the connection.",
    "MissingApiVersionParameter": "Choose an api-version in the connection.",
}


def error_for(request: Request, response: Response, *, now: float | None = None) -> GeoCatalogError:
    """
    Return the error that a response stands for.

    Both error envelopes of the service are read (``{"error": {...}}`` and ``application/problem+json``), and any other
    body is quoted in part.

    :param request: What was sent.
    :param response: An answer whose status is none of the endpoint's success codes.
    :param now: Epoch seconds, for a ``Retry-After`` that is a date; the machine's clock if not given.
    """
    code, message = _read_envelope(response)
    code = response.headers.get("x-ms-error-code") or code
    cls = _BY_STATUS.get(response.status)
    if cls is None:
        cls = _class_for_status(response.status)
    hint = _HINTS_BY_CODE.get(code or "")
    supported = response.headers.get("api-supported-versions")
    if hint and supported:
        hint += f" The service supports {supported}."
    return cls(
        message,
        status=response.status,
        code=code,
        request_id=response.request_id,
        method=request.endpoint.method,
        path=request.path,
        hint=hint,
        retryable=response.status in RETRIED_STATUSES,
        retry_after=retry_after_of(response, now=now),
    )


def _class_for_status(status: int) -> type[GeoCatalogError]:
    if status >= 500:
        return GeoCatalogServerError
    if status >= 400:
        return GeoCatalogBadRequest
    return GeoCatalogProtocolError


def _read_envelope(response: Response) -> tuple[str | None, str]:
    """Return the code and the message of an error body."""
    try:
        body = response.json()
    except ValueError:
        text = response.content.decode("utf-8", "replace").strip()
        return None, " ".join(text.split())[:_BODY_EXCERPT] or "no details in the answer"
    if isinstance(body, dict):
        error = body.get("error")
        if isinstance(error, dict):
            code = error.get("code")
            message = str(error.get("message") or "no details in the answer")
            return str(code) if code is not None else None, message[:_MESSAGE_EXCERPT]
        if "title" in body:
            # ASP.NET says what is wrong with which member in "errors" only.
            details = [str(body[name])[:_BODY_EXCERPT] for name in ("detail", "errors") if body.get(name)]
            return None, ": ".join([str(body["title"]), *details])
    return None, str(body)[:_BODY_EXCERPT]


def retry_after_of(response: Response, *, now: float | None = None) -> float | None:
    """
    Return the seconds that ``Retry-After`` asks to wait (delta or HTTP date, relative to the answer's ``Date``).

    :param now: Epoch seconds, for an answer without ``Date``; the machine's clock if not given.
    """
    value = response.headers.get("retry-after")
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return max(0.0, seconds) if math.isfinite(seconds) else None
    until = _http_date(value)
    if until is None:
        return None
    # Relative to the service's own clock where it tells it, so that a skewed worker clock does no harm.
    told = _http_date(response.headers.get("date"))
    return max(0.0, until.timestamp() - (told.timestamp() if told else time.time() if now is None else now))


def _http_date(value: str | None) -> datetime.datetime | None:
    try:
        moment = parsedate_to_datetime(value or "")
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)  # "-0000" is read as no time zone
