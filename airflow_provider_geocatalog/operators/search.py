"""Search items."""

from __future__ import annotations

import enum
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.numbers import whole_number
from airflow_provider_geocatalog.operators.base import GeoCatalogOperator
from airflow_provider_geocatalog.operators.choices import choice
from airflow_provider_geocatalog.operators.credentials import refuse_signature
from airflow_provider_geocatalog.transfer.storage import path_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.api.operations.arguments import Interval

__all__ = ["GeoCatalogSearchItemsOperator", "IfMore"]

_IN_XCOM = 100  # items that XCom takes unless told otherwise
_NAMED_IN_RESULT = 100
_PAGE = 250  # items


class IfMore(enum.Enum):
    """What a search does that finds more than was asked for."""

    FAIL = "fail"
    CUT = "cut"


class GeoCatalogSearchItemsOperator(GeoCatalogOperator):
    """
    Search items in the GeoCatalog, into XCom or, page by page, into a file.

    :param collections: Only items of these collections.
    :param ids: Only items with these ids.
    :param bbox: Only items that intersect this box: west, south, east, north in degrees.
    :param intersects: Only items that intersect this GeoJSON geometry: a dict, JSON text, or its path or URL.
    :param datetime: Only items that intersect this time or interval, such as
        ``{{ data_interval_start }}/{{ data_interval_end }}``; an interval holds its ends.
    :param filter: A CQL2 expression, as JSON or as text.
    :param query: Conditions of the STAC query extension.
    :param sortby: ``[{"field": "datetime", "direction": "desc"}, ...]``.
    :param fields: ``{"include": [...], "exclude": [...]}``.
    :param max_items: Most items. Default: 100 into XCom, all into a file.
    :param if_more: What to do if there are more: ``fail``, or ``cut`` to be content with the first ones.
    :param path: File to write, on disk or in object storage: NDJSON (``.ndjson``, ``.jsonl``), an ItemCollection
        (``.json``, ``.geojson``), both also with ``.gz``, or stac-geoparquet (``.parquet``, which needs the extra
        ``geoparquet``). It is there when all of it is written.
    :param storage_conn_id: Connection that opens the path.
    :param overwrite: Whether to replace a file that is there.
    :param sign: Have asset hrefs signed. Signed hrefs open the data for whoever reads them, so they go into a file
        only.
    :param duration: Minutes that the signatures last.
    :param page_size: Items asked for at a time.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: ``count``, ``path``, ``bbox``, ``interval`` (first and last moment), ``ids`` of the first 100, ``is_cut``,
        and without a path ``items``, without signatures in their hrefs, as XCom.
    :raises GeoCatalogInvalidInput: The arguments make no sense, or the file cannot hold the items.
    :raises GeoCatalogError: There are more items than asked for, and that is to fail.
    """

    template_fields: Sequence[str] = (
        "collections",
        "ids",
        "bbox",
        "intersects",
        "datetime",
        "filter",
        "query",
        "sortby",
        "fields",
        "max_items",
        "if_more",
        "path",
        "storage_conn_id",
        *GeoCatalogOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"intersects": "json", "filter": "json", "query": "json"}

    def __init__(
        self,
        *,
        collections: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        bbox: Sequence[float] | None = None,
        intersects: Mapping[str, Any] | str | None = None,
        datetime: Interval | None = None,
        filter: Mapping[str, Any] | str | None = None,
        query: Mapping[str, Any] | None = None,
        sortby: Sequence[Mapping[str, str]] | None = None,
        fields: Mapping[str, Any] | None = None,
        max_items: int | None = None,
        if_more: str = IfMore.FAIL.value,
        path: str | None = None,
        storage_conn_id: str | None = None,
        overwrite: bool = True,
        sign: bool = False,
        duration: int | None = None,
        page_size: int = _PAGE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_signature(path, "path")
        if sign and path is None:
            raise GeoCatalogInvalidInput("signed hrefs do not go into XCom, where many can read them; give a path")
        self.collections = collections
        self.ids = ids
        self.bbox = bbox
        self.intersects = intersects
        self.datetime = datetime
        self.filter = filter
        self.query = query
        self.sortby = sortby
        self.fields = fields
        self.max_items = max_items
        self.if_more = if_more
        self.path = path_text(path)
        self.storage_conn_id = storage_conn_id
        self.overwrite = overwrite
        self.sign = sign
        self.duration = duration
        self.page_size = page_size

    @property
    def _collection(self) -> str | None:
        found = [self.collections] if isinstance(self.collections, str) else list(self.collections or ())
        return found[0] if len(found) == 1 else None

    def _execute(self, context: Context) -> dict[str, Any]:
        from airflow_provider_geocatalog.hooks.environment import AirflowEnvironment
        from airflow_provider_geocatalog.transfer.dead_letters import without_signatures
        from airflow_provider_geocatalog.transfer.item_files import writing_items
        from airflow_provider_geocatalog.transfer.preparing import Extent

        if self.sign and not self.path:
            raise GeoCatalogInvalidInput("signed hrefs do not go into XCom; the path is empty")
        refuse_signature(self.path, "path")
        found = _Found(self._max_items(), choice(IfMore, self.if_more, "if_more"), in_file=bool(self.path))
        items: list[dict[str, Any]] = []
        extent = Extent()
        ids: list[Any] = []
        search = self._search()
        with ExitStack() as stack:
            take = items.append
            if self.path:
                writing = writing_items(AirflowEnvironment(), self.path, self.storage_conn_id, overwrite=self.overwrite)
                take = stack.enter_context(writing).write
            for item in found.of(search):
                take(item)
                extent.add(item)
                if len(ids) < _NAMED_IN_RESULT:
                    ids.append(item.get("id"))
        self.log.info("Found %d items%s.", found.count, f", written to {self.path}" if self.path else "")
        result = {
            "count": found.count,
            "path": self.path or None,
            **extent.to_json(),
            "ids": ids,
            "is_cut": found.is_cut,
        }
        return result if self.path else {**result, "items": [without_signatures(item) for item in items]}

    def _max_items(self) -> int | None:
        if self.max_items is None:
            return None if self.path else _IN_XCOM
        given: Any = self.max_items
        if isinstance(given, str) and given.strip().isdigit():  # rendered
            given = int(given)
        return whole_number(given, "max_items")

    def _search(self) -> Iterator[dict[str, Any]]:
        from airflow_provider_geocatalog.operators.documents import load_document

        geometry = self.intersects
        if isinstance(geometry, str):
            geometry = load_document(geometry, "the geometry to intersect")
        return self.hook.client.search(
            collections=self.collections,
            ids=self.ids,
            bbox=self.bbox,
            intersects=geometry,
            datetime=self.datetime,
            limit=self.page_size,
            query=self.query,
            sortby=self.sortby,
            fields=self.fields,
            filter=self.filter,
            sign=self.sign or None,
            duration=self.duration,
        )


class _Found:
    """
    Counts what is found, and heeds the bound.

    :param most: How many items there may be, ``None`` for any number.
    :param in_file: Whether they go into a file.
    """

    def __init__(self, most: int | None, if_more: IfMore, *, in_file: bool) -> None:
        self._most, self._if_more, self._in_file = most, if_more, in_file
        self.count = 0
        self.is_cut = False

    def of(self, items: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for item in items:
            if self.count == self._most:
                if self._if_more is IfMore.FAIL:
                    ways = "Raise max_items" if self._in_file else "Give a path, raise max_items"
                    raise GeoCatalogError(
                        f"the search finds more than {self._most} items",
                        hint=f"{ways}, narrow the search, or be content with the first ones by if_more='cut'.",
                    )
                self.is_cut = True
                return
            self.count += 1
            yield item
