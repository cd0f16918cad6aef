"""What goes over the wire: answers, error envelopes, timestamps, and the JSON form of operations, runs and sources."""

from __future__ import annotations

import datetime
import json
import math
import re
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlencode

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.dialects import DIALECTS, Dialect
from airflow_provider_geocatalog.api.http import Area, Endpoint
from airflow_provider_geocatalog.emulator.limits import RETRY_AFTER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_geocatalog.emulator.state import Ingestion, Operation, Run, Source

__all__ = ["Answer", "ApiError", "Call", "ProblemError", "Role"]

SUPPORTED_VERSIONS = ", ".join(dialect.api_version for dialect in DIALECTS.values() if dialect.is_supported)

_WRITE_SIDE_OF_STAC = frozenset(
    endpoint.name
    for endpoint in (
        endpoints.CREATE_COLLECTION,
        endpoints.REPLACE_COLLECTION,
        endpoints.DELETE_COLLECTION,
        endpoints.CREATE_ITEM,
        endpoints.REPLACE_ITEM,
        endpoints.UPDATE_ITEM,
        endpoints.DELETE_ITEM,
    )
)


def is_write_side(endpoint: Endpoint) -> bool:
    """Return whether the service's write side answers: other headers, timestamps and errors than the read side (1)."""
    return endpoint.area is Area.INGESTION or endpoint.name in _WRITE_SIDE_OF_STAC


class Role:
    """The service's two roles (2), and a token that has neither."""

    ADMINISTRATOR = "GeoCatalog Administrator"
    READER = "GeoCatalog Reader"
    NONE = "none"


@dataclass
class Answer:
    """
    An answer before it is encoded.

    :param body: JSON value, bytes as they are, or ``None`` for an empty body.
    :param media_type: Its media type; the side's own where it is not given.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str | None = None


_LONGEST_MESSAGE = 4000  # characters, since messages quote what was sent


class ApiError(Exception):
    """
    Envelope A (4.4): ``{"error": {"code", "message"}}``.

    :param status: HTTP status code.
    :param code: The service's error code, repeated in ``x-ms-error-code``.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.headers = status, code, dict(headers or {})
        self.message = message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}..."

    def answer(self) -> Answer:
        """Return the error as an answer."""
        body = {"error": {"code": self.code, "message": self.message}}
        return Answer(self.status, body, {**self.headers, "x-ms-error-code": self.code})


#: Where ASP.NET's problem details point to, by status.
_RFC_SECTIONS = {400: "15.5.1", 404: "15.5.5", 405: "15.5.6", 415: "15.5.16", 500: "15.6.1"}


class ProblemError(Exception):
    """Envelope B (4.4): ``application/problem+json``, what the write side's framework answers by itself."""

    def __init__(self, status: int, detail: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {detail or ''}")
        self.status, self.detail, self.headers = status, detail, dict(headers or {})

    def answer(self) -> Answer:
        """Return the error as an answer."""
        section = _RFC_SECTIONS.get(self.status, "15.5")
        body: dict[str, Any] = {
            "type": f"https://tools.ietf.org/html/rfc9110#section-{section}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
        }
        if self.detail:
            body["detail"] = self.detail
        body["traceId"] = f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-00"
        return Answer(self.status, body, dict(self.headers), media_type="application/problem+json")


def invalid(message: str) -> ApiError:
    """Return the write side's refusal of a request whose content is not acceptable."""
    return ApiError(400, "ValidationError", message)


def bad_request(message: str) -> ApiError:
    """Return the read side's refusal of a request that is malformed."""
    return ApiError(400, "BadRequestError", message)


def not_found(message: str) -> ApiError:
    """Return the answer for something that is not there."""
    return ApiError(404, "ResourceNotFound", message)


def collection_not_found(collection_id: str) -> ApiError:
    """Return the recorded 404 of a collection (7.3)."""
    return not_found(f"Collection '{collection_id}' not found. Please verify the collection ID and try again.")


def throttled(message: str) -> ApiError:
    """Return the refusal of what comes too fast; its form is inferred (service-open-questions P2)."""
    return ApiError(429, "TooManyRequests", message, {"Retry-After": RETRY_AFTER})


def not_emulated(what: str) -> ApiError:
    """Return the answer for what the service has and the emulator lacks."""
    return ApiError(501, "NotEmulated", f"The emulator does not implement {what}.")


def parse_json(content: str | bytes) -> Any:
    """
    Return the JSON value of a text.

    :raises ValueError: It is no JSON, or holds a number that could not be written as JSON again.
    """
    return json.loads(content, parse_constant=_refuse_constant, parse_float=_finite)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is out of range")
    return number


@dataclass
class Call:
    """
    One request on its way to a handler.

    :param names: Values of the path's names, decoded.
    :param query: Query parameters; the last value where one is repeated.
    :param body: JSON value, or an :class:`~airflow_provider_geocatalog.emulator.forms.Upload`; ``None`` where the
        endpoint takes none.
    :param base_url: Scheme and host under which the client reached the emulator.
    :param now: Epoch seconds.
    :param managed_url: Address of managed storage for the client.
    """

    endpoint: Endpoint
    dialect: Dialect
    names: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    base_url: str
    now: float
    managed_url: str = ""

    def href(self, endpoint: Endpoint, query: Mapping[str, str] | None = None, /, **names: str) -> str:
        """Return the absolute URL of an operation in the request's dialect, without ``api-version``."""
        path = self.dialect.template(endpoint).format_map({key: quote(name, safe="") for key, name in names.items()})
        return f"{self.base_url}{path}" + (f"?{urlencode(query)}" if query else "")

    def location(self, endpoint: Endpoint, /, **names: str) -> str:
        """Return the absolute URL of an operation with the request's ``api-version`` (13, rule 2)."""
        return self.href(endpoint, {"api-version": self.dialect.api_version}, **names)

    def link(self, rel: str, endpoint: Endpoint, media_type: str, /, **names: str) -> dict[str, str]:
        """Return a STAC link to an operation."""
        return {"rel": rel, "type": media_type, "href": self.href(endpoint, **names)}


def members(body: Any, what: str) -> dict[str, Any]:
    """
    Return a write-side body by lower-case member names, since the service binds them without regard to case (3.2).

    :raises ApiError: The body is no JSON object.
    """
    if not isinstance(body, dict):
        raise invalid(f"{what} has to be a JSON object.")
    return {name.lower(): value for name, value in body.items()}


def timestamp(moment: float, *, digits: int = 7, trim: bool = True) -> str:
    """Return a moment as the service writes it: the write side with up to 7 fractional digits, the read side 6 (1)."""
    ticks = round(moment * 10**digits)
    seconds, fraction = divmod(ticks, 10**digits)
    # Not strftime, which writes the year 1 with one digit.
    text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None).isoformat()
    decimals = f".{fraction:0{digits}d}"
    if trim:
        decimals = decimals.rstrip("0").rstrip(".")
    return f"{text}{decimals}Z"


def _without_nulls(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value is not None}


def _optional(moment: float | None) -> str | None:
    return None if moment is None else timestamp(moment)


def _history(operation: Operation) -> list[dict[str, Any]]:
    # The history says "Finished" where the status says "Succeeded" (6.2).
    return [
        _without_nulls(
            {
                "status": "Finished" if change.status == "Succeeded" else change.status,
                "timestamp": timestamp(change.at),
                "errorCode": change.code,
                "errorMessage": change.message,
            }
        )
        for change in operation.history
    ]


def status_word(operation: Operation, dialect: Dialect) -> str:
    """Return an operation's status in the dialect's words."""
    return dialect.success_word if operation.status == "Succeeded" else operation.status


def operation_json(operation: Operation, dialect: Dialect, *, flat_error: bool = False) -> dict[str, Any]:
    """
    Return an operation in the recorded order of members (6.1).

    :param flat_error: Show a failure one level higher than the service does (service-open-questions C11).
    """
    information = dict(operation.extra)
    if operation.counts and operation.status != "Pending" and not _awaits_start(operation):
        counters = operation.counters
        information |= {
            "TotalFailedItems": str(counters.failed),
            "TotalItems": str(counters.total),
            "TotalPendingItems": str(counters.pending),
            "TotalSuccessfulItems": str(counters.successful),
        }
    error = None
    if operation.status == "Failed":
        last = operation.history[-1]
        reason = {"code": last.code, "message": last.message}
        error = reason if flat_error else {"error": reason}
    return _without_nulls(
        {
            dialect.operation_id_field: operation.id,
            "status": status_word(operation, dialect),
            "statusHistory": _history(operation),
            "type": operation.type,
            "creationTime": timestamp(operation.created),
            "startTime": _optional(operation.started),
            "finishTime": _optional(operation.finished),
            "collectionId": operation.collection_id,
            "additionalInformation": information or None,
            "error": error,
        }
    )


def _awaits_start(operation: Operation) -> bool:
    return operation.status == "Canceling" and operation.started is None


def run_json(run: Run, dialect: Dialect) -> dict[str, Any]:
    """Return a run in the recorded order of members (5.4, 14)."""
    operation, counters = run.operation, run.operation.counters
    # The model of a run has no member for the URL of a GeoParquet file (5.4).
    source = {"sourceCatalogUrl": run.source_url} if run.import_type == "StaticCatalog" else {}
    return {
        "id": run.id,
        "creationTime": timestamp(run.created),
        **source,
        "skipExistingItems": run.skip_existing_items,
        "keepOriginalAssets": run.keep_original_assets,
        "operation": {
            **_without_nulls(
                {
                    dialect.operation_id_field: operation.id,
                    "status": status_word(operation, dialect),
                    "statusHistory": _history(operation),
                    "creationTime": timestamp(operation.created),
                    "startTime": _optional(operation.started),
                    "finishTime": _optional(operation.finished),
                }
            ),
            "totalItems": counters.total,
            "totalPendingItems": counters.pending,
            "totalSuccessfulItems": counters.successful,
            "totalFailedItems": counters.failed,
        },
    }


def ingestion_json(ingestion: Ingestion, dialect: Dialect) -> dict[str, Any]:
    """Return an ingestion definition in the recorded order of members (5.3)."""
    return _without_nulls(
        {
            dialect.ingestion_id_field: ingestion.id,
            "creationTime": timestamp(ingestion.created),
            "importType": ingestion.import_type,
            "displayName": ingestion.display_name,
            "sourceCatalogUrl": ingestion.source_catalog_url,
            "stacGeoparquetUrl": ingestion.stac_geoparquet_url,
            "skipExistingItems": ingestion.skip_existing_items,
            "keepOriginalAssets": ingestion.keep_original_assets,
            "status": ingestion.status,
        }
    )


def source_summary(source: Source, dialect: Dialect) -> dict[str, Any]:
    """Return what the list of ingestion sources tells of one (5.2)."""
    return {"id": source.id, dialect.source_kind_field: source.kind, "created": timestamp(source.created)}


def source_json(source: Source, dialect: Dialect) -> dict[str, Any]:
    """Return an ingestion source; its secret never leaves (5.2)."""
    info = {"containerUrl": source.container_url, "objectId": source.object_id}
    expiry = sas_time(source.sas_token, "se")
    if expiry is not None:
        info["expiration"] = timestamp(expiry, trim=False)  # always 7 digits (5.2)
    return {**source_summary(source, dialect), "connectionInfo": _without_nulls(info)}


def sas_time(token: str | None, name: str) -> float | None:
    """
    Return a moment of a SAS token in epoch seconds, ``None`` where it has none.

    :param name: ``st`` or ``se``.
    :raises ValueError: It is no time.
    """
    text = parse_qs(token or "").get(name, [""])[-1]
    if not text:
        return None
    moment = datetime.datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def paged(call: Call, entries: list[Any], show: Callable[[Any], Any] = lambda entry: entry) -> Answer:
    """
    Return a list of the ingestion side in the dialect's envelope, cut by ``$top`` and ``$skip`` (4.2).

    :param show: Makes the JSON value of an entry on the page.
    :raises ApiError: They are no counts.
    """
    skip = _count(call, "$skip") or 0
    top = _count(call, "$top")
    page = [show(entry) for entry in (entries[skip:] if top is None else entries[skip : skip + top])]
    if call.dialect.bare_lists:
        return Answer(body=page)
    body: dict[str, Any] = {"value": page}
    if top and skip + top < len(entries):
        query = {**call.query, "$top": str(top), "$skip": str(skip + top)}
        body["nextLink"] = call.href(call.endpoint, query, **call.names)
    return Answer(body=body)


def _count(call: Call, name: str) -> int | None:
    text = call.query.get(name)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", text):
        raise invalid(f"'{name}' has to be a whole number that is not negative.")
    return int(text)
