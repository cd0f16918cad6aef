"""Ingestion sources: find the one of a container, create it, rotate it in place."""

from __future__ import annotations

import datetime
import enum
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow_provider_geocatalog.api.calls import is_ambiguous
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogConflict,
    GeoCatalogError,
    GeoCatalogInvalidInput,
    GeoCatalogNotFound,
)
from airflow_provider_geocatalog.api.http import Flow, Now
from airflow_provider_geocatalog.api.operations import sources as service
from airflow_provider_geocatalog.api.validation import refuse, sas_expiry, sas_token_problems

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_geocatalog.api.models import IngestionSource, ManagedIdentity

__all__ = [
    "Rotate",
    "SourceChange",
    "SourceKind",
    "delete_source",
    "ensure_identity_source",
    "ensure_sas_source",
    "find_source",
    "normal_container_url",
]

log = logging.getLogger(__name__)


class SourceKind(enum.Enum):
    """How a source authenticates to the container."""

    SAS_TOKEN = "SasToken"
    MANAGED_IDENTITY = "BlobManagedIdentity"


class Rotate(enum.Enum):
    """When an existing source gets a new SAS token."""

    WHEN_NEEDED = "when_needed"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True)
class SourceChange:
    """What was done to a source: ``created``, ``rotated``, ``replaced``, ``unchanged``, ``deleted`` or ``absent``."""

    action: str
    source_id: str | None
    kind: str | None = None
    container_url: str | None = None
    expires_at: datetime.datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the change as a JSON object; it never holds the token."""
        expires_at = self.expires_at.isoformat() if self.expires_at else None
        return {
            "action": self.action,
            "source_id": self.source_id,
            "kind": self.kind,
            "container_url": self.container_url,
            "expires_at": expires_at,
        }


def normal_container_url(url: str) -> str:
    """Return a container URL in the form in which two spellings of one container are equal."""
    parts = urlsplit(url.strip())
    port = parts.port
    host = (parts.hostname or "").lower()
    if port and (parts.scheme.lower(), port) not in {("https", 443), ("http", 80)}:
        host += f":{port}"
    return f"{parts.scheme.lower()}://{host}/{unquote(parts.path).strip('/')}"


def find_source(container_url: str) -> Flow[IngestionSource | None]:
    """
    Return the source of a container, if it has one: one list, then a read per source until it is found.

    List entries do not tell the container; there is no filter (geocatalog-api 5.2).
    """
    wanted = normal_container_url(container_url)
    for source in (yield from service.list_sources().read_all()):
        if source.container_url is None:
            try:
                source = yield from service.get_source(source.source_id)
            except GeoCatalogNotFound:  # deleted between the two reads
                continue
        if source.container_url and normal_container_url(source.container_url) == wanted:
            return source
    return None


def _body(kind: SourceKind, container_url: str, **credential: str) -> dict[str, Any]:
    return {"kind": kind.value, "connectionInfo": {"containerUrl": container_url.rstrip("/"), **credential}}


def ensure_sas_source(
    container_url: str,
    sas_token: Callable[[], str],
    *,
    min_lifetime: float,
    rotate: Rotate = Rotate.WHEN_NEEDED,
    if_exists_fail: bool = False,
) -> Flow[SourceChange]:
    """
    See to it that a container has a SAS source with enough life left; never by deleting one.

    :param container_url: Root of the container.
    :param sas_token: Called only when a token is needed.
    :param min_lifetime: Seconds that the source's token has to live at least.
    :param rotate: When an existing source gets the new token.
    :param if_exists_fail: Whether an existing source is an error.
    :raises GeoCatalogInvalidInput: The token cannot do what is needed of it.
    :raises GeoCatalogConflict: The container has a source of the other kind, or any and ``if_exists_fail`` is set.
    """
    now: float = yield Now()
    existing = yield from find_source(container_url)
    if existing is not None:
        _refuse_existing(existing, SourceKind.SAS_TOKEN, if_exists_fail)
        lives_long_enough = existing.expires_at is None or existing.expires_at.timestamp() - now >= min_lifetime
        if rotate is Rotate.NEVER or (rotate is Rotate.WHEN_NEEDED and lives_long_enough):
            return _unchanged(existing)
    token = sas_token().strip().lstrip("?")
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    problems = sas_token_problems(token, now=moment)
    expires_at = sas_expiry(token)
    if not problems and expires_at is not None and expires_at.timestamp() - now < min_lifetime:
        problems = [f"it expires at {expires_at.isoformat()}, in less than the {min_lifetime:.0f} s that are asked for"]
    refuse(f"the SAS token for {container_url}", problems)
    body = _body(SourceKind.SAS_TOKEN, container_url, sasToken=token)
    return (yield from _write(existing, body, container_url, SourceKind.SAS_TOKEN, if_exists_fail))


def ensure_identity_source(
    container_url: str, *, object_id: str | None, if_exists_fail: bool = False
) -> Flow[SourceChange]:
    """
    See to it that a container is read with a managed identity of the GeoCatalog.

    :param object_id: Object id of the identity; ``None`` takes the only one that is attached.
    :raises GeoCatalogInvalidInput: The identity is not attached, or there is not exactly one to choose; the message
        lists those that exist.
    :raises GeoCatalogConflict: The container has a source of the other kind, or any and ``if_exists_fail`` is set.
    """
    existing = yield from find_source(container_url)
    if existing is not None:
        _refuse_existing(existing, SourceKind.MANAGED_IDENTITY, if_exists_fail)
        if object_id is None or (existing.object_id or "").lower() == object_id.lower():
            return _unchanged(existing)
    identities = yield from service.list_managed_identities().read_all()
    chosen = _choose_identity(identities, object_id)
    body = _body(SourceKind.MANAGED_IDENTITY, container_url, objectId=chosen)
    return (yield from _write(existing, body, container_url, SourceKind.MANAGED_IDENTITY, if_exists_fail))


def _choose_identity(identities: list[ManagedIdentity], object_id: str | None) -> str:
    if object_id is None and len(identities) == 1:
        return identities[0].object_id
    for candidate in identities:
        if object_id is not None and candidate.object_id.lower() == object_id.lower():
            return candidate.object_id
    known = ", ".join(f"{one.object_id} ({(one.resource_id or '').rsplit('/', 1)[-1]})" for one in identities) or "none"
    wanted = f"managed identity {object_id!r} is not attached to" if object_id else "name one managed identity of"
    raise GeoCatalogInvalidInput(f"{wanted} the GeoCatalog; attached are: {known}")


def _refuse_existing(existing: IngestionSource, kind: SourceKind, if_exists_fail: bool) -> None:
    if if_exists_fail:
        raise GeoCatalogConflict(
            f"container {existing.container_url} already has the ingestion source {existing.source_id} "
            f"({existing.kind}); a container can have only one",
            hint="Use if_exists='rotate' to renew it in place.",
        )
    if existing.kind != kind.value:
        raise GeoCatalogConflict(
            f"container {existing.container_url} already has a {existing.kind} source with id {existing.source_id}; "
            f"a container can have only one, so no {kind.value} source can be added",
            hint="Delete that source first, when no run is using it.",
        )


def _unchanged(source: IngestionSource) -> SourceChange:
    return SourceChange("unchanged", source.source_id, source.kind, source.container_url, source.expires_at)


def _write(
    existing: IngestionSource | None, body: dict[str, Any], container_url: str, kind: SourceKind, if_exists_fail: bool
) -> Flow[SourceChange]:
    if existing is None:
        try:
            source = yield from service.create_source(body)
        except GeoCatalogError as error:
            # Another task created it between our look and our call, or our own call went through although its answer
            # was lost: one container, one source, so renew that one.
            if not (isinstance(error, GeoCatalogConflict) or is_ambiguous(error)):
                raise
            existing = yield from find_source(container_url)
            if existing is None:
                raise
            _refuse_existing(existing, kind, if_exists_fail and isinstance(error, GeoCatalogConflict))
        else:
            return SourceChange("created", source.source_id, source.kind, source.container_url, source.expires_at)
    source = yield from service.replace_source(existing.source_id, body)
    action = "rotated" if kind is SourceKind.SAS_TOKEN else "replaced"
    return SourceChange(action, source.source_id, source.kind, source.container_url, source.expires_at)


def delete_source(
    *, source_id: str | None = None, container_url: str | None = None, missing_ok: bool = True
) -> Flow[SourceChange]:
    """
    Delete the source with an id, or that of a container.

    :param missing_ok: Whether a source that is not there is fine.
    :raises GeoCatalogNotFound: It is not there and ``missing_ok`` is false.
    """
    if source_id is None:
        if container_url is None:
            raise GeoCatalogInvalidInput("name the ingestion source by id or by container URL")
        found = yield from find_source(container_url)
        if found is None:
            if missing_ok:
                return SourceChange("absent", None, container_url=container_url)
            raise GeoCatalogNotFound(f"container {container_url} has no ingestion source")
        source_id, container_url = found.source_id, found.container_url
    try:
        yield from service.delete_source(source_id)
    except GeoCatalogNotFound:
        if not missing_ok:
            raise
        return SourceChange("absent", source_id, container_url=container_url)
    return SourceChange("deleted", source_id, container_url=container_url)
