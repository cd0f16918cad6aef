"""Ingestion sources and managed identities (5.2)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.routing import Context, route
from airflow_provider_geocatalog.emulator.state import Source, new_id
from airflow_provider_geocatalog.emulator.wire import Answer, ApiError, Call

__all__: list[str] = []

_KINDS = {"sastoken": "SasToken", "blobmanagedidentity": "BlobManagedIdentity"}
_KIND_WORDS = {"SasToken": "SAS token", "BlobManagedIdentity": "managed identity"}
_ACCOUNT_SAS_FIELDS = ("ss", "srt")


@route(endpoints.LIST_SOURCES)
def list_sources(context: Context, call: Call) -> Answer:
    """List ids and kinds."""
    return wire.paged(call, [wire.source_summary(source, call.dialect) for source in context.world.sources.values()])


@route(endpoints.LIST_MANAGED_IDENTITIES)
def list_managed_identities(context: Context, call: Call) -> Answer:
    """List the identities that are attached to the GeoCatalog."""
    identities = context.settings.managed_identities
    return Answer(body={"value": [{"objectId": one.object_id, "resourceId": one.resource_id} for one in identities]})


@route(endpoints.CREATE_SOURCE)
def create_source(context: Context, call: Call) -> Answer:
    """Register a source; an id in the body is ignored (4.1)."""
    source = _checked(context, call, new_id())
    _check_single(context, source)
    return _created(context, call, source)


@route(endpoints.GET_SOURCE)
def get_source(context: Context, call: Call) -> Answer:
    """Return a source without its secret."""
    return Answer(body=wire.source_json(_find(context, call), call.dialect))


@route(endpoints.REPLACE_SOURCE)
def replace_source(context: Context, call: Call) -> Answer:
    """Replace a source, usually to renew its token; the answer lacks ``created`` (recorded)."""
    source_id = call.names["source_id"]
    known = context.world.sources.get(source_id)
    if known is None and not call.dialect.replace_creates_source:
        raise _no_source(source_id)
    source = _checked(context, call, source_id)
    _check_single(context, source)
    if known is None:
        return _created(context, call, source)
    source.created = known.created
    context.world.sources[source_id] = source
    body = wire.source_json(source, call.dialect)
    del body["created"]
    return Answer(body=body)


@route(endpoints.DELETE_SOURCE)
def delete_source(context: Context, call: Call) -> Answer:
    """Forget a source."""
    del context.world.sources[_find(context, call).id]
    return Answer(call.dialect.delete_source_status)


def _created(context: Context, call: Call, source: Source) -> Answer:
    context.world.sources[source.id] = source
    location = call.location(endpoints.GET_SOURCE, source_id=source.id)
    return Answer(201, wire.source_json(source, call.dialect), {"Location": location})


def _no_source(source_id: str) -> ApiError:
    return wire.not_found(f"Ingestion source '{source_id}' not found")


def _find(context: Context, call: Call) -> Source:
    source = context.world.sources.get(call.names["source_id"])
    if source is None:
        raise _no_source(call.names["source_id"])
    return source


def _check_single(context: Context, source: Source) -> None:
    """Refuse a second source for a container, of either kind (5.2; service-open-questions V3, V4)."""
    for other in context.world.sources.values():
        if other.container_url == source.container_url and other.id != source.id:
            raise ApiError(
                409,
                "DuplicatedEntity",
                f"Container url '{source.container_url}' already contains a {_KIND_WORDS[other.kind]} ingestion source "
                f"with id '{other.id}'",
            )


def _checked(context: Context, call: Call, source_id: str) -> Source:
    body = wire.members(call.body, "An ingestion source")
    kind_field = call.dialect.source_kind_field
    given = body.get(kind_field.lower())
    if given is None and context.settings.articles_reading:
        given = body.get("sourcetype")  # one article says so in every api-version (service-open-questions C6)
    kind = _KINDS.get(str(given).lower())
    if kind is None:
        raise wire.invalid(f"'{kind_field}' has to be one of {', '.join(_KINDS.values())}.")
    info = wire.members(body.get("connectioninfo"), "'connectionInfo'")
    source = Source(source_id, kind, _container_url(info.get("containerurl")), call.now)
    if kind == "SasToken":
        source.sas_token = _sas_token(context, call, info.get("sastoken"))
    else:
        object_id = info.get("objectid")
        if not isinstance(object_id, str) or not object_id:
            raise wire.invalid("'connectionInfo.objectId' is required.")
        attached = {identity.object_id for identity in context.settings.managed_identities}
        if context.settings.unattached_identity == "refuse" and object_id not in attached:
            raise wire.invalid(f"Managed identity '{object_id}' is not attached to the GeoCatalog.")
        source.object_id = object_id
    return source


def _container_url(url: Any) -> str:
    if not isinstance(url, str):
        raise wire.invalid("'connectionInfo.containerUrl' is required.")
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that hold no address
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc or not parts.path.strip("/"):
        raise wire.invalid("'connectionInfo.containerUrl' has to be the absolute URL of a container.")
    if parts.query:
        raise wire.invalid("'connectionInfo.containerUrl' must not have a query string.")
    return url.rstrip("/")


def _sas_token(context: Context, call: Call, token: Any) -> str:
    """Check what the service asks of a token; its signature is not checked (5.2, V1, V2)."""
    if not isinstance(token, str) or not token:
        raise wire.invalid("'connectionInfo.sasToken' is required.")
    sas: str = token.removeprefix("?")
    fields = parse_qs(sas)
    if "sig" not in fields:
        raise wire.invalid("'connectionInfo.sasToken' has no signature ('sig').")
    if any(name in fields for name in _ACCOUNT_SAS_FIELDS) or fields.get("sr") != ["c"]:
        raise wire.invalid("'connectionInfo.sasToken' has to be the SAS of a container ('sr=c').")
    try:
        start, end = wire.sas_time(sas, "st"), wire.sas_time(sas, "se")
        wire.timestamp(end or 0.0)  # it will be shown
    except (ValueError, OverflowError):
        raise wire.invalid("'connectionInfo.sasToken' has a malformed 'st' or 'se'.") from None
    if start is None and context.settings.sas_without_start == "refuse":
        raise wire.invalid("'connectionInfo.sasToken' has no start time ('st').")
    if context.settings.expired_sas == "refuse" and end is not None and end <= call.now:
        raise wire.invalid("'connectionInfo.sasToken' has expired.")
    return sas
