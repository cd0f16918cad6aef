"""Ingestion sources: find the one of a container, create it, rotate it in place, delete it when nothing may use it."""

from __future__ import annotations

import datetime
import enum
import logging
import re
from dataclasses import dataclass, replace
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
from airflow_provider_geocatalog.api.operations.ingestions import list_ingestions
from airflow_provider_geocatalog.api.operations.operations import list_operations
from airflow_provider_geocatalog.api.statuses import ACTIVE_WORDS
from airflow_provider_geocatalog.api.validation import refuse, sas_expiry, sas_token_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_geocatalog.api.models import IngestionSource, ManagedIdentity, Operation

__all__ = [
    "Rotate",
    "SourceChange",
    "SourceKind",
    "all_sources",
    "delete_source",
    "ensure_identity_source",
    "ensure_sas_source",
    "find_source",
    "normal_container_url",
    "read_entry",
    "rotate_sources",
]

log = logging.getLogger(__name__)

#: Where the refusal of a second source names the first one (geocatalog-api 5.2).
_ID_IN_CONFLICT = re.compile(r"with id '([^']+)'")
#: Operations that read no container (geocatalog-api 6.1); any other may.
_READ_NOTHING = frozenset({"AddCollection", "DeleteCollection", "DeleteItem", "DeleteIngestion"})
_SHOWN_OPERATIONS = 5


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
    """
    What was done to a source: ``created``, ``rotated``, ``replaced``, ``unchanged``, ``deleted`` or ``absent``.

    :param action: That word, in a dry run what would be done; of a rotation of many also ``failed``.
    :param expires_at: When its token expires now.
    :param error: Why it failed.
    """

    action: str
    source_id: str | None
    kind: str | None = None
    container_url: str | None = None
    expires_at: datetime.datetime | None = None
    error: GeoCatalogError | None = None

    @classmethod
    def of(cls, action: str, source: IngestionSource, **details: Any) -> SourceChange:
        """Return what was done to a source as the service tells it."""
        known = (source.source_id, source.kind, source.container_url, source.expires_at)
        return cls(action, *known, **details)

    def to_json(self) -> dict[str, Any]:
        """Return the change as a JSON object; it never holds the token."""
        expires_at = self.expires_at.isoformat() if self.expires_at else None
        return {
            "action": self.action,
            "source_id": self.source_id,
            "kind": self.kind,
            "container_url": self.container_url,
            "expires_at": expires_at,
            **({"error": str(self.error)} if self.error else {}),
        }


def normal_container_url(url: str) -> str:
    """Return a container URL in the form in which two spellings of one container are equal."""
    parts = urlsplit(url.strip())
    port = parts.port
    host = (parts.hostname or "").lower()
    if port and (parts.scheme.lower(), port) not in {("https", 443), ("http", 80)}:
        host += f":{port}"
    return f"{parts.scheme.lower()}://{host}/{unquote(parts.path).strip('/')}"


def find_source(container_url: str, *, kind: SourceKind | None = None) -> Flow[IngestionSource | None]:
    """
    Return the source of a container, if it has one: one list, then a read per source until it is found.

    List entries do not tell the container; there is no filter (geocatalog-api 5.2).

    :param kind: What the source most likely is; those are read first.
    """
    wanted = normal_container_url(container_url)
    entries = yield from service.list_sources().read_all()
    if kind is not None:
        entries.sort(key=lambda entry: entry.kind != kind.value)
    for entry in entries:
        source = yield from read_entry(entry)
        if source is not None and source.container_url and normal_container_url(source.container_url) == wanted:
            return source
    return None


def all_sources() -> Flow[list[IngestionSource]]:
    """Return all sources with their containers: one list, and a read of each, since the list does not tell those."""
    found = []
    for entry in (yield from service.list_sources().read_all()):
        source = yield from read_entry(entry)
        if source is not None:
            found.append(source)
    return found


def read_entry(entry: IngestionSource) -> Flow[IngestionSource | None]:
    """Return an entry of the list with its container; ``None`` if it was deleted meanwhile."""
    if entry.container_url is not None:
        return entry
    try:
        return (yield from service.get_source(entry.source_id))
    except GeoCatalogNotFound:
        return None


def _find_named(error: GeoCatalogError, container_url: str, kind: SourceKind) -> Flow[IngestionSource | None]:
    """Return the source of a container, at once if the refusal of another one names it."""
    named = _ID_IN_CONFLICT.search(error.message) if isinstance(error, GeoCatalogConflict) else None
    if named:
        try:
            source = yield from service.get_source(named[1])
        except GeoCatalogError as unreadable:
            log.info("%s Looking for the source in the list.", unreadable)
        else:
            if normal_container_url(source.container_url or "") == normal_container_url(container_url):
                return source
    return (yield from find_source(container_url, kind=kind))


def _body(kind: SourceKind, container_url: str, **credential: str) -> dict[str, Any]:
    return {"kind": kind.value, "connectionInfo": {"containerUrl": container_url.rstrip("/"), **credential}}


def ensure_sas_source(
    container_url: str,
    sas_token: Callable[[], str],
    *,
    min_lifetime: float,
    rotate: Rotate = Rotate.WHEN_NEEDED,
    if_exists_fail: bool = False,
    dry_run: bool = False,
) -> Flow[SourceChange]:
    """
    See to it that a container has a SAS source with enough life left; never by deleting one.

    Of two that do so at once, one creates the source and the other finds it: what it finds is kept, or renewed.

    :param container_url: Root of the container.
    :param sas_token: Called only when a token is needed.
    :param min_lifetime: Seconds that the source's token has to live at least.
    :param rotate: When an existing source gets the new token.
    :param if_exists_fail: Whether an existing source is an error.
    :param dry_run: Only say what would be done; no token is asked for.
    :raises GeoCatalogInvalidInput: The token cannot do what is needed of it.
    :raises GeoCatalogConflict: The container has a source of the other kind, or any and ``if_exists_fail`` is set.
    """
    now: float = yield Now()

    def serves(source: IngestionSource) -> bool:
        lives = not _ends_within(source, min_lifetime, now)
        return rotate is Rotate.NEVER or (rotate is Rotate.WHEN_NEEDED and lives)

    existing = yield from find_source(container_url, kind=SourceKind.SAS_TOKEN)
    if existing is not None:
        _refuse_existing(existing, SourceKind.SAS_TOKEN, if_exists_fail)
        if serves(existing):
            return SourceChange.of("unchanged", existing)
    if dry_run:
        return _planned("rotated", existing, SourceKind.SAS_TOKEN, container_url)
    token = _checked_token(
        sas_token(),
        container_url,
        now=now,
        is_early=lambda end: end.timestamp() - now < min_lifetime,
        told=f"in less than the {min_lifetime:.0f} s that are asked for",
    )
    body = _body(SourceKind.SAS_TOKEN, container_url, sasToken=token)
    return (yield from _write(existing, body, container_url, SourceKind.SAS_TOKEN, if_exists_fail, serves))


def _ends_within(source: IngestionSource, seconds: float, now: float) -> bool:
    return source.expires_at is not None and source.expires_at.timestamp() - now < seconds


def _checked_token(
    token: str, container_url: str, *, now: float, is_early: Callable[[datetime.datetime], bool], told: str
) -> str:
    """
    Return a token that can serve, or refuse it with everything that is wrong.

    :param is_early: Tells whether it expires too early.
    :param told: What is said then.
    """
    token = token.strip().lstrip("?")
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    problems = sas_token_problems(token, now=moment)
    expires_at = sas_expiry(token)
    if expires_at is not None and expires_at > moment and is_early(expires_at):
        problems.append(f"it expires at {expires_at.isoformat()}, {told}")
    refuse(f"the SAS token for {container_url}", problems)
    return token


def ensure_identity_source(
    container_url: str, *, object_id: str | None, if_exists_fail: bool = False, dry_run: bool = False
) -> Flow[SourceChange]:
    """
    See to it that a container is read with a managed identity of the GeoCatalog.

    :param object_id: Object id of the identity; ``None`` takes the only one that is attached.
    :param dry_run: Only say what would be done.
    :raises GeoCatalogInvalidInput: The identity is not attached, or there is not exactly one to choose; the message
        lists those that exist.
    :raises GeoCatalogConflict: The container has a source of the other kind, or any and ``if_exists_fail`` is set.
    """

    def serves(source: IngestionSource) -> bool:
        return object_id is None or (source.object_id or "").lower() == object_id.lower()

    existing = yield from find_source(container_url, kind=SourceKind.MANAGED_IDENTITY)
    if existing is not None:
        _refuse_existing(existing, SourceKind.MANAGED_IDENTITY, if_exists_fail)
        if serves(existing):
            return SourceChange.of("unchanged", existing)
    identities = yield from service.list_managed_identities().read_all()
    chosen = _choose_identity(identities, object_id)
    if dry_run:
        return _planned("replaced", existing, SourceKind.MANAGED_IDENTITY, container_url)
    body = _body(SourceKind.MANAGED_IDENTITY, container_url, objectId=chosen)
    return (yield from _write(existing, body, container_url, SourceKind.MANAGED_IDENTITY, if_exists_fail, serves))


def _planned(change: str, existing: IngestionSource | None, kind: SourceKind, container_url: str) -> SourceChange:
    if existing is None:
        return SourceChange("created", None, kind.value, container_url)
    return SourceChange.of(change, existing)


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


def _write(
    existing: IngestionSource | None,
    body: dict[str, Any],
    container_url: str,
    kind: SourceKind,
    if_exists_fail: bool,
    serves: Callable[[IngestionSource], bool],
) -> Flow[SourceChange]:
    if existing is None:
        try:
            return SourceChange.of("created", (yield from service.create_source(body)))
        except GeoCatalogError as error:
            # Another task created it between our look and our call, or our own call went through although its answer
            # was lost: one container, one source, so go on with that one.
            is_conflict = isinstance(error, GeoCatalogConflict)
            if not (is_conflict or is_ambiguous(error)):
                raise
            existing = yield from _find_named(error, container_url, kind)
            if existing is None:
                raise
            _refuse_existing(existing, kind, if_exists_fail and is_conflict)
            if is_conflict and serves(existing):
                return SourceChange.of("unchanged", existing)
    source = yield from service.replace_source(existing.source_id, body)
    return SourceChange.of("rotated" if kind is SourceKind.SAS_TOKEN else "replaced", source)


def rotate_sources(
    sas_token: Callable[[str, float], str],
    *,
    expires_within: float,
    is_meant: Callable[[str], bool] = lambda container_url: True,
    dry_run: bool = False,
) -> Flow[list[SourceChange]]:
    """
    Renew, in place, the tokens of SAS sources that expire soon; running ingestions go on with the same source.

    One that cannot be renewed is reported as ``failed`` and does not stop the others.

    :param sas_token: Makes the token of a container, from its URL and the present in epoch seconds.
    :param expires_within: Seconds; a source whose token lives longer is left alone, and so is one without an expiry.
    :param is_meant: Tells from a container's URL whether its source is meant.
    :param dry_run: Only say what would be done; no token is asked for.
    :return: A change for each SAS source that is meant, ``rotated``, ``unchanged`` or ``failed``.
    """
    now: float = yield Now()
    changes: list[SourceChange] = []
    for entry in (yield from service.list_sources().read_all()):
        if entry.kind != SourceKind.SAS_TOKEN.value:
            continue
        source: IngestionSource | None = entry
        try:
            source = yield from read_entry(entry)
            if source is None or not is_meant(source.container_url or ""):
                continue
            if not _ends_within(source, expires_within, now):
                changes.append(SourceChange.of("unchanged", source))
            elif dry_run:
                changes.append(SourceChange.of("rotated", source))
            else:
                changes.append((yield from _renew(source, sas_token, now=now)))
        except GeoCatalogError as error:
            changes.append(SourceChange.of("failed", source or entry, error=error))
    return changes


def _renew(source: IngestionSource, sas_token: Callable[[str, float], str], *, now: float) -> Flow[SourceChange]:
    container_url = source.container_url or ""
    token = _checked_token(
        sas_token(container_url, now),
        container_url,
        now=now,
        is_early=lambda end: source.expires_at is not None and end <= source.expires_at,
        told=f"no later than the one that source {source.source_id} has",
    )
    body = _body(SourceKind.SAS_TOKEN, container_url, sasToken=token)
    renewed = yield from service.replace_source(source.source_id, body)
    return SourceChange.of("rotated", replace(renewed, container_url=renewed.container_url or container_url))


def delete_source(
    *,
    source_id: str | None = None,
    container_url: str | None = None,
    missing_ok: bool = True,
    force: bool = False,
    dry_run: bool = False,
) -> Flow[SourceChange]:
    """
    Delete the source with an id, or that of a container, unless something that is active may read through it.

    :param missing_ok: Whether a source that is not there is fine.
    :param force: Delete it whatever is active.
    :param dry_run: Only say what would be done.
    :raises GeoCatalogNotFound: It is not there and ``missing_ok`` is false.
    :raises GeoCatalogConflict: An active operation may use it.
    """
    source = yield from _look_up(source_id, container_url)
    if source is None:
        if not missing_ok:
            what = f"there is no ingestion source {source_id}" if source_id else f"container {container_url} has none"
            raise GeoCatalogNotFound(f"the ingestion source cannot be deleted: {what}")
        return SourceChange("absent", source_id, container_url=container_url)
    if not force:
        yield from _refuse_in_use(source)
    if not dry_run:
        try:
            yield from service.delete_source(source.source_id)
        except GeoCatalogNotFound:
            if not missing_ok:
                raise
            return SourceChange.of("absent", source)
    return SourceChange.of("deleted", source)


def _look_up(source_id: str | None, container_url: str | None) -> Flow[IngestionSource | None]:
    if source_id is not None:
        try:
            return (yield from service.get_source(source_id))
        except GeoCatalogNotFound:
            return None
    if container_url is None:
        raise GeoCatalogInvalidInput("name the ingestion source by id or by container URL")
    return (yield from find_source(container_url))


def _refuse_in_use(source: IngestionSource) -> Flow[None]:
    """
    Refuse to go on while an operation is active that may read through a source.

    What a run or an item reads beyond its catalog is not known to the service's lists: assets may be in any container.
    So every active operation that ingests counts; the message tells what their collections' definitions name in it.
    """
    active: dict[str, Operation] = {}
    for word in ACTIVE_WORDS:  # the order in which operations move on, so that none is between two lists
        for operation in (yield from list_operations(status=word).read_all()):
            if operation.type not in _READ_NOTHING and not operation.status.is_final:
                active[operation.operation_id] = operation
    if not active:
        return
    collections = {one.collection_id for one in active.values() if (one.type or "").startswith("Ingestion")}
    catalogs = yield from _catalogs_in(source.container_url or "", sorted(filter(None, collections)))
    shown = [f"{one.type} {one.operation_id} ({one.status})" for one in list(active.values())[:_SHOWN_OPERATIONS]]
    more = [f"{len(active) - len(shown)} more"] if len(active) > len(shown) else []
    reads = f"; their collections have definitions that read from this container: {', '.join(catalogs)}"
    raise GeoCatalogConflict(
        f"the ingestion source {source.source_id} of {source.container_url} may be in use by active operations, whose "
        f"assets can be in any container: {', '.join([*shown, *more])}{reads if catalogs else ''}",
        hint="Delete it when they have ended, or with force=True.",
        retryable=True,
    )


def _catalogs_in(container_url: str, collection_ids: Sequence[str]) -> Flow[list[str]]:
    """Return the catalogs in a container that definitions of some collections name, for a message."""
    prefix = normal_container_url(container_url) + "/"
    found = []
    for collection_id in collection_ids:
        try:
            definitions = yield from list_ingestions(collection_id).read_all()
        except GeoCatalogError as error:
            log.info("%s The definitions of %s are left out of the message.", error, collection_id)
            continue
        urls = (definition.source_catalog_url or definition.stac_geoparquet_url for definition in definitions)
        found += [url for url in urls if url and normal_container_url(url).startswith(prefix)]
    return sorted(set(found))
