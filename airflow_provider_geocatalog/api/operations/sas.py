"""Signatures for the GeoCatalog's managed storage (geocatalog-api 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import call, query_of
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.models import SasToken, SignedHref
from airflow_provider_geocatalog.api.operations import operation
from airflow_provider_geocatalog.api.operations.arguments import minutes

if TYPE_CHECKING:
    from airflow_provider_geocatalog.api.http import Flow

__all__ = ["get_sas_token", "revoke_sas_tokens", "sign_href"]


@operation(endpoints.GET_SAS_TOKEN)
def get_sas_token(collection_id: str, *, duration: int | None = None) -> Flow[SasToken]:
    """
    Get a token that reads all files of a collection in managed storage.

    :param collection_id: The collection.
    :param duration: Minutes that it lasts; about a day if not given.
    """
    query = query_of({"duration": minutes(duration)})
    return (
        yield from call(endpoints.GET_SAS_TOKEN, {"collection_id": collection_id}, query=query, read=SasToken.from_json)
    )


@operation(endpoints.SIGN_HREF)
def sign_href(href: str, *, duration: int | None = None) -> Flow[SignedHref]:
    """
    Sign an href into managed storage.

    :param href: Absolute URL of the file, without signature.
    :param duration: Minutes that the signature lasts; about a day if not given.
    """
    if not isinstance(href, str) or not href:
        raise GeoCatalogInvalidInput("the href to sign is missing")
    query = query_of({"href": href, "duration": minutes(duration)})
    return (yield from call(endpoints.SIGN_HREF, query=query, read=SignedHref.from_json))


@operation(endpoints.REVOKE_SAS_TOKENS)
def revoke_sas_tokens(*, duration: int | None = None) -> Flow[None]:
    """
    Revoke every signature for the GeoCatalog's managed storage, whoever got it.

    :param duration: Minutes; sent as the service's description has it, which does not say what it does.
    """
    yield from call(endpoints.REVOKE_SAS_TOKENS, query=query_of({"duration": minutes(duration)}))
