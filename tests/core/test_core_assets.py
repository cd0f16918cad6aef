"""The URIs of collections: one form, refusals, and what Airflow makes of them through the provider's metadata."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import Asset

from airflow_provider_geocatalog.assets import (
    collection_asset,
    collection_uri,
    create_asset,
    sanitize_uri,
    to_openlineage,
)
from airflow_provider_geocatalog.provider_info import get_provider_info

HOST = "name.id.uksouth.geocatalog.spatio.azure.com"


def managers():
    """Return what Airflow has read of providers, wherever this version keeps it."""
    try:
        from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

        return ProvidersManagerTaskRuntime()
    except ImportError:  # before Airflow 3.2
        from airflow.providers_manager import ProvidersManager

        return ProvidersManager()


@pytest.mark.parametrize(
    "uri",
    [
        f"geocatalog://{HOST}/naip",
        f"GEOCATALOG://{HOST.upper()}/naip",
        f"geocatalog://{HOST}:443/naip/",
        f"geocatalog://{HOST}./naip",
        f"geocatalog://{HOST}/n%61ip#part",
    ],
)
def test_spellings_of_one_collection_are_one_asset(uri):
    assert Asset(uri=uri).uri == f"geocatalog://{HOST}/naip"


@pytest.mark.parametrize(
    ("url", "uri"),
    [
        (f"https://{HOST}/", f"geocatalog://{HOST}/Sea_Ice.1"),
        (HOST, f"geocatalog://{HOST}/Sea_Ice.1"),
        ("http://127.0.0.1:8099", "geocatalog://127.0.0.1:8099/Sea_Ice.1"),
        ("http://127.0.0.1:80", "geocatalog://127.0.0.1/Sea_Ice.1"),
        ("http://[::1]:8099", "geocatalog://[::1]:8099/Sea_Ice.1"),
    ],
)
def test_the_uri_comes_from_the_connections_url(url, uri):
    assert collection_uri(url, "Sea_Ice.1") == uri
    assert Asset(uri=uri).uri == uri  # what is in its form stays as it is


@pytest.mark.parametrize(
    "uri",
    [
        f"geocatalog://{HOST}",
        f"geocatalog://{HOST}/",
        f"geocatalog://{HOST}/naip/items/1",
        f"geocatalog://{HOST}//naip",
        f"geocatalog://{HOST}/naip?sig=abc",
        f"geocatalog://somebody@{HOST}/naip",
        f"geocatalog://{HOST}/n%2Faip",
        f"geocatalog://{HOST}/n aip",
        f"geocatalog://{HOST}/..",
        f"geocatalog://{HOST}:70000/naip",
        "geocatalog:///naip",
        f"geocatalog://{HOST}/{'n' * 1000}",
    ],
)
def test_what_names_no_collection_is_refused(uri):
    with pytest.raises(ValueError, match=r"expected|collection|GeoCatalog|[Pp]ort"):
        sanitize_uri(urlsplit(uri))


def test_airflow_refuses_it_where_the_dag_is_read():
    pytest.importorskip("airflow.sdk", reason="Airflow 2 only warns, unless it is told to be strict")
    with pytest.raises(ValueError, match="does not name one collection"):
        Asset(uri=f"geocatalog://{HOST}")


@pytest.mark.parametrize("url", ["", "https://", f"ftp://{HOST}", f"https://{HOST}/stac", f"https://u:p@{HOST}", "a b"])
def test_what_is_no_geocatalogs_url_is_refused(url):
    with pytest.raises(ValueError, match="GeoCatalog"):
        collection_uri(url, "naip")


def test_a_password_is_not_told():
    with pytest.raises(ValueError, match="without a user") as refused:
        collection_uri(f"https://somebody:hunter2@{HOST}", "naip")
    assert "hunter2" not in str(refused.value)


def test_assets_take_what_airflows_do():
    asset = collection_asset(f"https://{HOST}", "naip", extra={"owner": "maps"})
    assert (asset.uri, asset.extra) == (f"geocatalog://{HOST}/naip", {"owner": "maps"})


def test_airflow_finds_handler_factory_and_converter():
    manager = managers()
    handlers = getattr(manager, "asset_uri_handlers", None) or manager.dataset_uri_handlers
    factories = getattr(manager, "asset_factories", None) or manager.dataset_factories
    converters = getattr(manager, "asset_to_openlineage_converters", None) or manager.dataset_to_openlineage_converters
    assert handlers["geocatalog"].__name__ == "sanitize_uri"
    assert factories["geocatalog"] is create_asset
    assert converters["geocatalog"] is to_openlineage
    made = factories["geocatalog"](geocatalog_url=f"https://{HOST}", collection_id="naip", extra=None)
    assert made.uri == f"geocatalog://{HOST}/naip"


def test_the_openlineage_dataset_is_named_by_catalog_and_collection():
    pytest.importorskip("openlineage.client")
    dataset = to_openlineage(collection_asset("http://127.0.0.1:8099", "naip"), None)
    assert (dataset.namespace, dataset.name) == ("geocatalog://127.0.0.1:8099", "naip")


def test_the_metadata_names_what_exists():
    info = get_provider_info()
    assert info["asset-uris"] == info["dataset-uris"]
    paths = [path for path in info["asset-uris"][0].values() if isinstance(path, str)] + info["extra-links"]
    for path in paths:
        module, name = path.rsplit(".", 1)
        assert callable(getattr(import_module(module), name))
    assert any(point.name == "provider_info" for point in entry_points(group="apache_airflow_provider"))


def test_importing_the_assets_is_cheap():
    code = "import sys, airflow_provider_geocatalog.assets; print({'airflow', 'requests', 'azure'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
