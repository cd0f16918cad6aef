"""SAS tokens for managed storage (8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.routes_catalog import JSON, find_collection
from airflow_provider_geocatalog.emulator.routing import Context, route
from airflow_provider_geocatalog.emulator.signing import Signer, lifetime
from airflow_provider_geocatalog.emulator.wire import Answer, Call

if TYPE_CHECKING:
    from airflow_provider_geocatalog.emulator.managed import SasToken

__all__: list[str] = []


@route(endpoints.GET_SAS_TOKEN)
def get_sas_token(context: Context, call: Call) -> Answer:
    """Return a token for the container of a collection."""
    collection = find_collection(context, call.names["collection_id"])
    token = Signer(context, call).token_for(context.blobs.managed.container(collection.id))
    return Answer(body={**_expiry(token), "token": token.text})


@route(endpoints.SIGN_HREF)
def sign_href(context: Context, call: Call) -> Answer:
    """Sign a URL; what is not in managed storage comes back as it is (SDK)."""
    href = call.query.get("href", "")
    if not _is_absolute(href):
        raise wire.bad_request("'href' has to be an absolute URL.")
    signed, token = Signer(context, call).sign(href)
    return Answer(body={**(_expiry(token) if token else {}), "href": signed})


@route(endpoints.REVOKE_SAS_TOKENS)
def revoke_sas_tokens(context: Context, call: Call) -> Answer:
    """Make every token invalid; what ``duration`` is for here is not known, so it is only checked."""
    lifetime(call)
    context.world.sas.revoke()
    return Answer(body=b"null", media_type=JSON)


def _expiry(token: SasToken) -> dict[str, Any]:
    return {"msft:expiry": wire.timestamp(token.expires, digits=6)}


def _is_absolute(href: str) -> bool:
    try:
        parts = urlsplit(href)
    except ValueError:
        return False
    return bool(parts.scheme and parts.netloc)
