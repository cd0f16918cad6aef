"""All sources of items, to import from one place."""

from __future__ import annotations

from airflow_provider_geocatalog.transfer.callables import CallableSource, ItemsSource
from airflow_provider_geocatalog.transfer.files import ItemFilesSource
from airflow_provider_geocatalog.transfer.source import Environment, ItemSource, ItemSourceError, Page
from airflow_provider_geocatalog.transfer.stac_api import StacApiSource
from airflow_provider_geocatalog.transfer.static import StaticCatalogSource

__all__ = [
    "CallableSource",
    "Environment",
    "ItemFilesSource",
    "ItemSource",
    "ItemSourceError",
    "ItemsSource",
    "Page",
    "StacApiSource",
    "StaticCatalogSource",
]
