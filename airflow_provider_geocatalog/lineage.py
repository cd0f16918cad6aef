"""What a task reads and writes: datasets for OpenLineage, and assets for hook lineage."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from airflow_provider_geocatalog.assets import SCHEME, collection_uri

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.providers.openlineage.extractors import OperatorLineage  # type: ignore[import-not-found,unused-ignore]

    from airflow_provider_geocatalog.transfer.source import ItemSource

__all__ = [
    "DatasetName",
    "datasets_of",
    "file_dataset",
    "file_uri",
    "operator_lineage",
    "record_collection",
    "record_file",
]

log = logging.getLogger(__name__)

_BLOB_HOSTS = (".blob.core.windows.net", ".blob.core.usgovcloudapi.net")
_WHOLE_API = "search"  # names the dataset of a STAC API all of whose collections are read
#: What an action does to a collection, in OpenLineage's words.
_LIFE = {"created": "CREATE", "updated": "ALTER", "deleted": "DROP"}


class DatasetName(NamedTuple):
    """The name of a dataset, as OpenLineage has it."""

    namespace: str
    name: str


def file_dataset(path: str) -> DatasetName:
    """
    Return the dataset of a file or folder, by OpenLineage's conventions; without a query string, which may sign it.

    :param path: A path on disk or in an object store, or a URL.
    """
    parts = urlsplit(file_uri(path))
    if parts.scheme == "file":
        return DatasetName("file", parts.path)
    container, _, blob = parts.path.lstrip("/").partition("/")
    if parts.netloc.endswith(_BLOB_HOSTS) and container:
        return DatasetName(f"wasbs://{container}@{parts.netloc}", blob or "/")
    return DatasetName(f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/") or "/")


def file_uri(path: str) -> str:
    """Return the URI of a file or folder, without what may be secret."""
    if "://" not in path:
        return f"file://{os.path.abspath(path)}"
    parts = urlsplit(path)
    user, _, host = parts.netloc.rpartition("@")
    # Airflow's paths have the id of a connection there, those of Azure a container.
    is_container = parts.scheme in {"abfs", "abfss", "wasb", "wasbs"} and "." in host and ":" not in user
    return urlunsplit((parts.scheme, parts.netloc if is_container else host, parts.path, "", ""))


def datasets_of(source: ItemSource | Any) -> list[DatasetName]:
    """Return the datasets that a source of items reads, as far as it tells."""
    from airflow_provider_geocatalog.transfer.files import ItemFilesSource
    from airflow_provider_geocatalog.transfer.stac_api import StacApiSource
    from airflow_provider_geocatalog.transfer.static import StaticCatalogSource

    if isinstance(source, StacApiSource):
        api = file_uri(str(source.url)).rstrip("/")
        return [DatasetName(api, str(name)) for name in _list(source.collections) or [_WHOLE_API]]
    if isinstance(source, ItemFilesSource):
        return [file_dataset(str(path)) for path in _list(source.path)]
    if isinstance(source, StaticCatalogSource):
        return [file_dataset(str(source.url))]
    return []


def _list(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value or ())


# --- OpenLineage ------------------------------------------------------------------------------------------------------


def operator_lineage(
    *,
    geocatalog_url: str | None,
    collection_id: str | None,
    writes: bool,
    inputs: Iterable[DatasetName],
    outputs: Iterable[DatasetName],
    news: Mapping[str, Any],
) -> OperatorLineage[Any, Any]:
    """
    Return what OpenLineage is told of a task. It is only asked for where the OpenLineage provider is installed.

    :param geocatalog_url: The GeoCatalog, if it is known.
    :param collection_id: The collection that the task is about.
    :param writes: Whether it writes the collection; otherwise it reads it.
    :param inputs: What else it reads.
    :param outputs: What else it writes.
    :param news: What came of it, as :func:`~airflow_provider_geocatalog.operators.asset_events.news_of` says it.
    """
    from airflow.providers.common.compat.openlineage import facet
    from airflow.providers.openlineage.extractors import OperatorLineage

    sources = list(inputs)
    # Nobody knows how many of the items came from which of several sources.
    counted = _read_statistics(news.get("counts") or {}) if len(sources) == 1 else {}
    read: list[Any] = [
        facet.InputDataset(namespace=one.namespace, name=one.name, inputFacets=counted) for one in sources
    ]
    written: list[Any] = [facet.OutputDataset(namespace=one.namespace, name=one.name) for one in outputs]
    run_facets: dict[str, Any] = {}
    if geocatalog_url and collection_id:
        namespace = f"{SCHEME}://{urlsplit(collection_uri(geocatalog_url, collection_id)).netloc}"
        if writes:
            written.append(_written(namespace, collection_id, news))
        else:
            read.append(facet.InputDataset(namespace=namespace, name=collection_id))
        operation_id = news.get("operation_id") or news.get("run_id")
        if operation_id:
            run_facets["externalQuery"] = facet.ExternalQueryRunFacet(externalQueryId=operation_id, source=namespace)
    return OperatorLineage(inputs=read, outputs=written, run_facets=run_facets)


def _written(namespace: str, collection_id: str, news: Mapping[str, Any]) -> Any:
    """Return a collection that was written, with what was done to it."""
    from airflow.providers.common.compat.openlineage import facet

    facets: dict[str, Any] = {}
    statistics: dict[str, Any] = {}
    rows, change = _rows(news.get("counts") or {}), _LIFE.get(news.get("action", ""))
    if rows is not None:
        statistics["outputStatistics"] = facet.OutputStatisticsOutputDatasetFacet(rowCount=rows)
    if change is not None:
        facets["lifecycleStateChange"] = facet.LifecycleStateChangeDatasetFacet(
            lifecycleStateChange=facet.LifecycleStateChange[change]
        )
    return facet.OutputDataset(namespace=namespace, name=collection_id, facets=facets, outputFacets=statistics)


def _read_statistics(counts: Mapping[str, int]) -> dict[str, Any]:
    """Return how many items were read, if that is known."""
    from openlineage.client.generated.input_statistics_input_dataset import InputStatisticsInputDatasetFacet

    rows = counts.get("seen", counts.get("total", 0) + counts.get("skipped", 0))
    return {"inputStatistics": InputStatisticsInputDatasetFacet(rowCount=rows)} if counts else {}


def _rows(counts: Mapping[str, int]) -> int | None:
    """Return how many items were written; ``None`` if that is not what was done."""
    if not counts or "deleted" in counts:
        return None
    return counts["succeeded"] if "succeeded" in counts else counts.get("created", 0) + counts.get("updated", 0)


# --- hook lineage -----------------------------------------------------------------------------------------------------


def record_file(reader: Any, path: str, *, writes: bool) -> None:
    """
    Tell Airflow's hook lineage of a file; nobody may be listening.

    :param reader: The hook, or what stands for one.
    :param path: Where the file is.
    :param writes: Whether it is written; otherwise it is read.
    """
    _record(reader, writes=writes, uri=file_uri(path))


def record_collection(reader: Any, geocatalog_url: str, collection_id: str, *, writes: bool) -> None:
    """
    Tell Airflow's hook lineage of a collection.

    :param reader: The hook, or what stands for one.
    :param geocatalog_url: Its GeoCatalog.
    :param collection_id: The collection.
    :param writes: Whether it is written; otherwise it is read.
    """
    arguments = {"geocatalog_url": geocatalog_url, "collection_id": collection_id}
    _record(reader, writes=writes, scheme=SCHEME, asset_kwargs=arguments)


def _record(reader: Any, *, writes: bool, **asset: Any) -> None:
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    collector = get_hook_lineage_collector()
    try:
        (collector.add_output_asset if writes else collector.add_input_asset)(reader, **asset)
    except Exception as error:  # handlers of other stores may want another form; the work is done all the same
        log.debug("No lineage of %s: %s", asset, error)
