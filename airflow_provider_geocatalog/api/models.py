"""
Typed views of the service's answers.

Reading is tolerant where the sources disagree (ids under three names, counters in two spellings, see geocatalog-api 6);
what is not modelled stays in ``raw``.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pendulum

from airflow_provider_geocatalog.api.errors import GeoCatalogProtocolError
from airflow_provider_geocatalog.api.redaction import redact
from airflow_provider_geocatalog.api.statuses import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Counts",
    "Fault",
    "Ingestion",
    "IngestionSource",
    "ManagedIdentity",
    "Operation",
    "Run",
    "SasToken",
    "SignedHref",
    "StatusChange",
    "parse_timestamp",
]

#: Names under which ids appear in the three api-versions (service-open-questions C5).
_ID_FIELDS = ("id", "ingestionId", "operationId")
_KIND_FIELDS = ("kind", "sourceType", "Kind")


def parse_timestamp(value: str | None) -> datetime.datetime | None:
    """
    Return an aware UTC datetime from the service's timestamps, which have up to seven fractional digits.

    :param value: ISO 8601 text, or ``None``.
    :raises GeoCatalogProtocolError: It is none.
    """
    if not value:
        return None
    try:
        # fromisoformat takes any number of fractional digits, pendulum's own parser does not. Pendulum's conversions
        # take nine times as long as this, which was most of what a list of operations cost.
        moment = datetime.datetime.fromisoformat(value)
        moment = moment.astimezone(datetime.UTC) if moment.tzinfo else moment
        date, time = (moment.year, moment.month, moment.day), (moment.hour, moment.minute, moment.second)
        return pendulum.DateTime(*date, *time, moment.microsecond, tzinfo=pendulum.UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise GeoCatalogProtocolError(f"an answer has {value!r} where a time is expected") from error


def _informative_time(value: Any) -> datetime.datetime | None:
    """Return a time that is shown only; an unreadable one must not end a wait."""
    try:
        return parse_timestamp(value)
    except GeoCatalogProtocolError:
        return None


def _isoformat(moment: datetime.datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _first(data: Mapping[str, Any], names: tuple[str, ...], what: str) -> str:
    for name in names:
        if data.get(name):
            return str(data[name])
    raise GeoCatalogProtocolError(f"{what} in an answer has no {' / '.join(names)}")


@dataclass(frozen=True)
class Counts:
    """Items of an operation by state; ``total`` is their sum."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    pending: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Counts | None:
        """
        Return the counters of a run's operation (integers) or of ``additionalInformation`` (strings), if any.

        :raises GeoCatalogProtocolError: A counter is no number; reading it as none would hide failed items.
        """
        lowered = {str(key).lower(): value for key, value in data.items()}
        keys = ("totalsuccessfulitems", "totalfaileditems", "totalpendingitems")
        if "totalitems" not in lowered and not any(key in lowered for key in keys):
            return None
        try:
            succeeded, failed, pending = (int(lowered.get(key) or 0) for key in keys)
            total = int(lowered.get("totalitems") or 0) or succeeded + failed + pending
        except (TypeError, ValueError) as error:
            raise GeoCatalogProtocolError(f"a counter in an answer is no number: {error}") from error
        return cls(total, succeeded, failed, pending)

    @property
    def done(self) -> int:
        """Items that will not change any more."""
        return self.succeeded + self.failed

    def to_json(self) -> dict[str, int]:
        """Return the counts as a JSON object."""
        return {"total": self.total, "succeeded": self.succeeded, "failed": self.failed, "pending": self.pending}


@dataclass(frozen=True)
class Fault:
    """An error code and message that the service attached to an operation; secrets in the message are masked."""

    code: str | None
    message: str


@dataclass(frozen=True)
class StatusChange:
    """One entry of an operation's ``statusHistory``."""

    status: Status
    at: datetime.datetime | None
    fault: Fault | None = None


@dataclass(frozen=True)
class Operation:
    """
    A long-running operation.

    :param operation_id: GUID given by the service.
    :param status: Its present status.
    :param type: What it does, e.g. ``AddCollection`` or ``IngestionStaticCatalog``; free text.
    :param counts: Items by state; ``None`` while the service tells none.
    :param history: Status changes, oldest first.
    :param fault: Why it failed, from ``error.error`` or else the last history entry that has a code.
    :param raw: The answer as it came.
    """

    operation_id: str
    status: Status
    type: str | None = None
    collection_id: str | None = None
    created_at: datetime.datetime | None = None
    started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    counts: Counts | None = None
    history: tuple[StatusChange, ...] = ()
    fault: Fault | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Operation:
        """
        Read an operation.

        :raises GeoCatalogProtocolError: The answer is no operation.
        """
        operation_id = cls.id_of(data)
        if not data.get("status"):
            raise GeoCatalogProtocolError("an operation in an answer has no status")
        entries, additional = data.get("statusHistory"), data.get("additionalInformation")
        history = tuple(_read_change(e) for e in entries if isinstance(e, dict)) if isinstance(entries, list) else ()
        counts = (Counts.from_json(additional) if isinstance(additional, dict) else None) or Counts.from_json(data)
        return cls(
            operation_id=operation_id,
            status=Status(str(data["status"])),
            type=data.get("type"),
            collection_id=data.get("collectionId"),
            created_at=_informative_time(data.get("creationTime")),
            started_at=_informative_time(data.get("startTime")),
            finished_at=_informative_time(data.get("finishTime")),
            counts=counts,
            history=history,
            fault=_read_fault(data.get("error")) or next((c.fault for c in reversed(history) if c.fault), None),
            raw=data,
        )

    @staticmethod
    def id_of(data: Any) -> str:
        """
        Return the id in an operation's JSON.

        :raises GeoCatalogProtocolError: The JSON is no object, or has none.
        """
        if not isinstance(data, dict):
            raise GeoCatalogProtocolError("an operation was expected, but the answer is no JSON object")
        return _first(data, ("operationId", "id"), "an operation")

    @property
    def succeeded(self) -> bool:
        """Whether it ended with success, whichever word the api-version has for that; look at ``counts`` as well."""
        return self.status.outcome is Outcome.SUCCEEDED

    @property
    def ended_at(self) -> datetime.datetime | None:
        """When it ended; collection operations have no ``finishTime``, so the last history entry serves."""
        if not self.status.is_final:
            return None
        return self.finished_at or (self.history[-1].at if self.history else None)

    @property
    def duration(self) -> float | None:
        """Seconds from creation to end."""
        if self.created_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.created_at).total_seconds()

    def to_summary(self) -> dict[str, Any]:
        """Return ids, counts and times as a small JSON object, fit for XCom."""
        counts = self.counts or Counts()
        return {
            "operation_id": self.operation_id,
            "status": self.status.word,
            "type": self.type,
            "collection_id": self.collection_id,
            "items": counts.to_json(),
            "created_at": _isoformat(self.created_at),
            "ended_at": _isoformat(self.ended_at),
            "duration_seconds": self.duration,
        }


def _read_change(data: Mapping[str, Any]) -> StatusChange:
    fault = None
    if data.get("errorCode") or data.get("errorMessage"):
        fault = _fault(data.get("errorCode"), data.get("errorMessage"))
    return StatusChange(Status(str(data.get("status"))), _informative_time(data.get("timestamp")), fault)


def _fault(code: Any, message: Any) -> Fault:
    return Fault(str(code) if code else None, redact(str(message or "")))


def _read_fault(data: Any) -> Fault | None:
    """Read ``{"error": {"code", "message"}}``, nested as the service writes it or flat (service-open-questions C11)."""
    if isinstance(data, str) and data:
        return _fault(None, data)
    if not isinstance(data, dict):
        return None
    inner = data.get("error") or data
    if not isinstance(inner, dict):
        return _read_fault(inner)
    if not (inner.get("code") or inner.get("message")):
        return None
    return _fault(inner.get("code"), inner.get("message"))


@dataclass(frozen=True)
class Run:
    """
    A run of an ingestion definition.

    :param run_id: GUID given by the service; equal to the id of its operation.
    :param operation: Status, history and counts.
    :param parent_run_id: The run that this one repeats.
    """

    run_id: str
    operation: Operation
    source_catalog_url: str | None = None
    skip_existing_items: bool | None = None
    keep_original_assets: bool | None = None
    created_at: datetime.datetime | None = None
    parent_run_id: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Run:
        """
        Read a run.

        :raises GeoCatalogProtocolError: The answer is no run.
        """
        if not isinstance(data, dict) or not isinstance(data.get("operation"), dict):
            raise GeoCatalogProtocolError("an ingestion run was expected, but the answer has no 'operation'")
        operation = Operation.from_json(data["operation"])
        return cls(
            run_id=str(data.get("id") or data.get("runId") or operation.operation_id),
            operation=operation,
            source_catalog_url=data.get("sourceCatalogUrl"),
            skip_existing_items=data.get("skipExistingItems"),
            keep_original_assets=data.get("keepOriginalAssets"),
            created_at=_informative_time(data.get("creationTime")),
            parent_run_id=data.get("parentRunId"),
            raw=data,
        )

    @property
    def is_live(self) -> bool:
        """Whether the run is still going and meant to go on."""
        status = self.operation.status
        return not status.is_final and not status.is_canceling


@dataclass(frozen=True)
class Ingestion:
    """
    An ingestion definition: what to ingest and how; it does nothing until a run is started.

    :param import_type: ``StaticCatalog`` or ``StacGeoparquet``.
    :param source_catalog_url: The catalog of a ``StaticCatalog``.
    :param stac_geoparquet_url: The file of a ``StacGeoparquet``.
    :param status: ``Ready`` or ``Deleting``.
    """

    ingestion_id: str
    import_type: str | None = None
    display_name: str | None = None
    source_catalog_url: str | None = None
    stac_geoparquet_url: str | None = None
    skip_existing_items: bool | None = None
    keep_original_assets: bool | None = None
    status: str | None = None
    created_at: datetime.datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Ingestion:
        """
        Read an ingestion definition.

        :raises GeoCatalogProtocolError: The answer is none.
        """
        if not isinstance(data, dict):
            raise GeoCatalogProtocolError("an ingestion was expected, but the answer is no JSON object")
        return cls(
            ingestion_id=_first(data, _ID_FIELDS, "an ingestion"),
            import_type=data.get("importType"),
            display_name=data.get("displayName"),
            source_catalog_url=data.get("sourceCatalogUrl"),
            stac_geoparquet_url=data.get("stacGeoparquetUrl"),
            skip_existing_items=data.get("skipExistingItems"),
            keep_original_assets=data.get("keepOriginalAssets"),
            status=data.get("status"),
            created_at=_informative_time(data.get("creationTime")),
            raw=data,
        )


@dataclass(frozen=True)
class IngestionSource:
    """
    A stored credential for one blob container.

    :param kind: ``SasToken`` or ``BlobManagedIdentity``.
    :param container_url: Absent in list answers.
    :param expires_at: When its SAS token expires; ``None`` for a managed identity or a policy-bound token.
    :param object_id: Object id of the managed identity.
    """

    source_id: str
    kind: str
    container_url: str | None = None
    expires_at: datetime.datetime | None = None
    object_id: str | None = None
    created_at: datetime.datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> IngestionSource:
        """
        Read an ingestion source.

        :raises GeoCatalogProtocolError: The answer is none.
        """
        if not isinstance(data, dict):
            raise GeoCatalogProtocolError("an ingestion source was expected, but the answer is no JSON object")
        info = data.get("connectionInfo")
        info = info if isinstance(info, dict) else {}
        return cls(
            source_id=_first(data, ("id",), "an ingestion source"),
            kind=_first(data, _KIND_FIELDS, "an ingestion source"),
            container_url=info.get("containerUrl"),
            expires_at=parse_timestamp(info.get("expiration")),
            object_id=info.get("objectId"),
            created_at=_informative_time(data.get("created")),
            raw=data,
        )


@dataclass(frozen=True)
class ManagedIdentity:
    """
    A managed identity that is attached to the GeoCatalog.

    :param object_id: Object id of its service principal.
    :param resource_id: Azure resource id.
    """

    object_id: str
    resource_id: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> ManagedIdentity:
        """
        Read a managed identity.

        :raises GeoCatalogProtocolError: The answer is none.
        """
        if not isinstance(data, dict):
            raise GeoCatalogProtocolError("a managed identity was expected, but the answer is no JSON object")
        return cls(_first(data, ("objectId",), "a managed identity"), data.get("resourceId"), raw=data)


_EXPIRY = "msft:expiry"


@dataclass(frozen=True)
class SasToken:
    """
    A token that opens the managed storage of one collection.

    :param token: Query string without ``?``; a secret, so it is not shown.
    :param expires_at: When it stops working.
    """

    token: str = field(repr=False)
    expires_at: datetime.datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> SasToken:
        """
        Read a token.

        :raises GeoCatalogProtocolError: The answer is none.
        """
        if not isinstance(data, dict):
            raise GeoCatalogProtocolError("a SAS token was expected, but the answer is no JSON object")
        return cls(_first(data, ("token",), "a SAS token"), parse_timestamp(data.get(_EXPIRY)), raw=data)


@dataclass(frozen=True)
class SignedHref:
    """
    An href into managed storage with a signature.

    :param href: The URL; its signature is a secret, so it is not shown.
    :param expires_at: When it stops working.
    """

    href: str = field(repr=False)
    expires_at: datetime.datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> SignedHref:
        """
        Read a signed href.

        :raises GeoCatalogProtocolError: The answer is none.
        """
        if not isinstance(data, dict):
            raise GeoCatalogProtocolError("a signed href was expected, but the answer is no JSON object")
        return cls(_first(data, ("href",), "a signed href"), parse_timestamp(data.get(_EXPIRY)), raw=data)
