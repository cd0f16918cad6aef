"""Compare the GeoCatalog with the catalog that was to be ingested."""

from __future__ import annotations

import datetime
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pystac_client
from pystac_client.stac_api_io import StacApiIO

from airflow_provider_geocatalog.api.endpoints import GET_LANDING_PAGE
from airflow_provider_geocatalog.api.errors import GeoCatalogError
from airflow_provider_geocatalog.catalog_check import item_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_geocatalog.api.models import Counts
    from airflow_provider_geocatalog.client import GeoCatalogClient
    from demo.reading import ItemDocument

__all__ = ["Verification", "ingested_ids", "operation_counts", "verify"]

_PAGE = 250  # items a page of the search
_NEWEST = 20  # operations that are looked at
_CLOCK_SKEW = datetime.timedelta(minutes=5)  # between the service's clock and ours


@dataclass(frozen=True)
class Verification:
    """
    What became of the catalog's items.

    :param ingested: Ids of the items that are in the collection.
    :param missing: Ids of those that are not, with the reason as far as the item shows it.
    :param broken: Items that cannot be used, with the reason.
    :param repeated: Items with an id that an item before them has.
    """

    ingested: frozenset[str]
    missing: Mapping[str, str]
    broken: tuple[ItemDocument, ...] = ()
    repeated: tuple[ItemDocument, ...] = ()

    @property
    def total(self) -> int:
        """Items of the catalog."""
        return len(self.ingested) + len(self.missing) + len(self.broken) + len(self.repeated)

    @property
    def is_complete(self) -> bool:
        """Whether every item of the catalog is in the collection."""
        return not self.missing and not self.broken


def verify(items: Iterable[ItemDocument], present: set[str]) -> Verification:
    """
    Compare the catalog's items with the ids that are in the collection.

    :param items: The catalog's items as they were read.
    :param present: The ids in the collection.
    """
    broken, repeated, documents = [], [], {}
    for item in items:
        if item.reason is not None:
            broken.append(item)
        elif item.item_id in documents:
            repeated.append(item)
        else:
            documents[item.item_id] = item.document
    missing = {
        item_id: item_problem(document) or "not in the collection"
        for item_id, document in documents.items()
        if item_id not in present
    }
    return Verification(frozenset(documents.keys() & present), missing, tuple(broken), tuple(repeated))


def ingested_ids(client: GeoCatalogClient, collection_id: str) -> set[str]:
    """
    Ask the GeoCatalog for the ids of a collection's items, through pystac-client.

    :raises pystac_client.exceptions.APIError: The GeoCatalog refused it.
    """
    settings = client.settings
    stac_io = StacApiIO(
        headers={"Authorization": f"Bearer {client.tokens.get()}"},
        parameters={"api-version": settings.dialect.api_version},
        timeout=settings.request_timeout,
    )
    if settings.ca_bundle:
        stac_io.session.verify = settings.ca_bundle
    landing_page = f"{settings.url}{settings.dialect.template(GET_LANDING_PAGE)}"
    catalog = pystac_client.Client.open(landing_page, stac_io=stac_io)
    return {item["id"] for item in catalog.search(collections=[collection_id], limit=_PAGE).items_as_dicts()}


def operation_counts(client: GeoCatalogClient, collection_id: str, since: datetime.datetime) -> Counts | None:
    """
    Return the item counts of the newest run of a collection, as far as the service tells them.

    :param since: Operations that are older belong to somebody else.
    """
    try:
        newest = client.list_operations(collection_id=collection_id, top=_NEWEST)
        operations = list(itertools.islice(newest, _NEWEST))
    except GeoCatalogError:
        return None  # only a display: the tasks tell what is wrong
    runs = [
        (operation.created_at, operation.counts)
        for operation in operations
        if operation.counts and operation.created_at and operation.created_at > since - _CLOCK_SKEW
    ]
    return max(runs, key=lambda run: run[0])[1] if runs else None
