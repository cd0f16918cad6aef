"""
Collections of a GeoCatalog as Airflow assets: ``geocatalog://<host>/<collection>``.

The host is the GeoCatalog's own, as in its URL without scheme; the collection is named by its id. Airflow brings every
such URI into one form with :func:`sanitize_uri`, so that two spellings are one asset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset as OpenLineageDataset
    from airflow.providers.common.compat.sdk import Asset

__all__ = ["SCHEME", "collection_asset", "collection_uri", "create_asset", "sanitize_uri", "to_openlineage"]

SCHEME = "geocatalog"

_DEFAULT_PORTS = {"https": 443, "http": 80, SCHEME: 443}


def collection_uri(geocatalog_url: str, collection_id: str) -> str:
    """
    Return the URI of a collection.

    :param geocatalog_url: The GeoCatalog's URL, as its connection has it; or its host.
    :param collection_id: The collection.
    :raises ValueError: There can be no such collection.
    """
    parts = urlsplit(geocatalog_url if "://" in geocatalog_url else f"https://{geocatalog_url}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{geocatalog_url!r} is no GeoCatalog's URL: it has more than a host")
    return urlunsplit(SplitResult(SCHEME, _host(parts), f"/{_checked(collection_id)}", "", ""))


def collection_asset(geocatalog_url: str, collection_id: str, **options: Any) -> Asset:
    """
    Return the asset of a collection, for a task's ``outlets`` or a DAG's ``schedule``.

    .. code-block:: python

        naip = collection_asset("https://name.id.region.geocatalog.spatio.azure.com", "naip")
        GeoCatalogBulkIngestionOperator(..., outlets=[naip])

    :param geocatalog_url: The GeoCatalog's URL, as its connection has it.
    :param collection_id: The collection.
    :param options: What else an asset takes: ``extra``, and from Airflow 3.0 ``name``, ``group`` and ``watchers``.
    :raises ValueError: There can be no such collection.
    """
    from airflow.providers.common.compat.sdk import Asset

    return Asset(uri=collection_uri(geocatalog_url, collection_id), **options)


# --- for Airflow, by provider_info ------------------------------------------------------------------------------------


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Return the URI of a collection in its only form.

    :param uri: What Airflow made of the text: no password, no fragment, no slash at the end.
    :raises ValueError: It is no collection's.
    """
    shown = f"{uri.scheme}://{uri.netloc.rpartition('@')[2]}{uri.path}"
    if uri.query or "@" in uri.netloc:
        raise ValueError(f"{shown} has a query or a user; expected {SCHEME}://<host>/<collection>")
    segments = uri.path.removeprefix("/").split("/")
    if len(segments) != 1 or not segments[0]:
        raise ValueError(f"{shown} does not name one collection; expected {SCHEME}://<host>/<collection>")
    return uri._replace(netloc=_host(uri), path=f"/{_checked(unquote(segments[0]))}")


def create_asset(*, geocatalog_url: str, collection_id: str, extra: dict[str, Any] | None = None) -> Asset:
    """
    Return the asset of a collection, for hook lineage.

    :param geocatalog_url: The GeoCatalog's URL.
    :param collection_id: The collection.
    :param extra: JSON object for the asset.
    :raises ValueError: There can be no such collection.
    """
    return collection_asset(geocatalog_url, collection_id, extra=extra)


def to_openlineage(asset: Asset, lineage_context: Any) -> OpenLineageDataset:
    """
    Return the OpenLineage dataset of a collection: its namespace is the GeoCatalog, its name the collection's id.

    :param asset: The collection.
    :param lineage_context: The hook or operator that told of it.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    parts = urlsplit(asset.uri)
    return Dataset(namespace=f"{SCHEME}://{parts.netloc}", name=parts.path.lstrip("/"))


def _host(parts: SplitResult) -> str:
    """Return host and port in the form in which two spellings are equal."""
    if parts.scheme.lower() not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None:
        raise ValueError("the URL of a GeoCatalog is https://<host>, without a user")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname.rstrip(".")
    if not host or any(not one.isascii() or one.isspace() or one in "\\%" for one in host):
        raise ValueError(f"{host!r} cannot be the host of a GeoCatalog")
    port = parts.port  # a ValueError if it cannot be one
    return host if port in (None, _DEFAULT_PORTS[parts.scheme.lower()]) else f"{host}:{port}"


def _checked(collection_id: str) -> str:
    from airflow_provider_geocatalog.api.validation import collection_id_problems

    problems = collection_id_problems(collection_id)
    if problems:
        raise ValueError("; ".join(problems))
    return collection_id
