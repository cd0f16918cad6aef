"""What a search may ask, read from a body or a query string and checked (7.5, 7.6)."""

from __future__ import annotations

import datetime
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import shapely
import shapely.geometry

from airflow_provider_geocatalog.emulator.search_filter import parse_filter
from airflow_provider_geocatalog.emulator.search_query import COMPARISONS
from airflow_provider_geocatalog.emulator.wire import bad_request, parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_LIMIT", "Search"]

DEFAULT_LIMIT, MAX_LIMIT = 10, 10_000  # items (11.1)
DEFAULT_LIMIT_OF_GET = 250  # items (7.1, GET /stac/search)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MOMENT = re.compile(r"[0-9]{4}(-[0-9]{2}){2}([Tt][0-9]{2}(:[0-9]{2}){2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2}))?")
_MAX_MENDED = 2000  # positions of a geometry that is not valid; mending takes a second for each thousand
_MAX_FIELDS = 100  # to sort by
_MAX_COMPARISONS = 500  # in a query
_WORLD = (-180, -90, 180, 90)
_CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"


@dataclass(frozen=True)
class Search:
    """
    A search, checked.

    :param area: Geometry that items have to intersect.
    :param interval: Moments that items have to overlap; ``None`` for an open end.
    :param query: Property name to comparisons (STAC query extension).
    :param filter: A CQL2 expression in the form of CQL2-JSON that cql2 makes.
    :param sortby: Field and whether it descends.
    :param include: Members to return; empty for all.
    """

    limit: int = DEFAULT_LIMIT
    token: str | None = None
    collections: frozenset[str] | None = None
    ids: frozenset[str] | None = None
    area: Any = None
    interval: tuple[datetime.datetime | None, datetime.datetime | None] | None = None
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    filter: Any = None
    sortby: tuple[tuple[str, bool], ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def from_body(cls, body: Any, *, default_limit: int = DEFAULT_LIMIT) -> Search:
        """
        Read the body of ``POST /search``.

        :raises ApiError: A member is malformed.
        """
        if not isinstance(body, dict):
            raise bad_request("A search has to be a JSON object.")
        if body.get("bbox") is not None and body.get("intersects") is not None:
            raise bad_request("'bbox' and 'intersects' exclude each other.")
        include, exclude = _fields(body.get("fields"))
        return cls(
            limit=_limit(body.get("limit"), default_limit),
            token=_text(body.get("token"), "token"),
            collections=_names(body.get("collections"), "collections"),
            ids=_names(body.get("ids"), "ids"),
            area=_box(body["bbox"]) if body.get("bbox") is not None else _geometry(body.get("intersects")),
            interval=_interval(body.get("datetime")),
            query=_query(body.get("query")),
            filter=_filter(body),
            sortby=_sortby(body.get("sortby")),
            include=include,
            exclude=exclude,
        )

    @classmethod
    def from_query(cls, query: Mapping[str, str], *, default_limit: int = DEFAULT_LIMIT_OF_GET) -> Search:
        """
        Read the query parameters of ``GET /search`` or of the list of items.

        :raises ApiError: A parameter is malformed.
        """
        body: dict[str, Any] = {
            name: query[name]
            for name in ("datetime", "token", "filter", "filter-lang", "filter-crs")
            if query.get(name)
        }
        for name in ("collections", "ids", "sortby", "fields"):
            if query.get(name):
                body[name] = [part.strip() for part in query[name].split(",") if part.strip()]
        if query.get("bbox"):
            numbers = [number.strip() for number in query["bbox"].split(",")]
            if not all(map(_NUMBER.fullmatch, numbers)):
                raise bad_request(f"'bbox' is malformed: {query['bbox']}")
            body["bbox"] = list(map(float, numbers))
        for name in ("intersects", "query"):
            if query.get(name):
                try:
                    body[name] = parse_json(query[name])
                except (ValueError, RecursionError):
                    raise bad_request(f"'{name}' is not JSON.") from None
        if query.get("limit") is not None:
            body["limit"] = int(query["limit"]) if re.fullmatch("[0-9]{1,9}", query["limit"]) else query["limit"]
        body.setdefault("filter-lang", "cql2-text")
        return cls.from_body(body, default_limit=default_limit)


def _limit(value: Any, default: int) -> int:
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_LIMIT:
        raise bad_request(f"'limit' has to be a whole number from 1 to {MAX_LIMIT}.")
    return value


def _text(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise bad_request(f"'{name}' has to be a string.")
    return value or None


def _names(value: Any, name: str) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise bad_request(f"'{name}' has to be a list of strings.")
    return frozenset(value) or None  # pgstac reads an empty list as no restriction


def _box(value: Any) -> Any:
    numbers = isinstance(value, list) and all(isinstance(n, int | float) and not isinstance(n, bool) for n in value)
    if not numbers or len(value) not in (4, 6):
        raise bad_request("'bbox' has to be a list of 4 or 6 numbers.")
    half = len(value) // 2
    (west, south, *bottom), (east, north, *top) = value[:half], value[half:]
    if south > north or bottom > top:
        raise bad_request("'bbox' has a lower edge above its upper edge.")
    inside = all(_WORLD[0] <= x <= _WORLD[2] for x in (west, east)) and _WORLD[1] <= south and north <= _WORLD[3]
    if not inside:  # not a number is not inside either
        raise bad_request(f"'bbox' has to lie within {', '.join(map(str, _WORLD))}.")
    if west <= east:
        return shapely.box(west, south, east, north)
    # West of east only across the antimeridian (RFC 7946, 5.2).
    return shapely.union(shapely.box(west, south, 180, north), shapely.box(-180, south, east, north))


def _geometry(value: Any) -> Any:
    if value is None:
        return None
    try:
        area = shapely.force_2d(shapely.geometry.shape(value))
        if area.is_empty or not all(map(math.isfinite, area.bounds)):
            raise ValueError("no area")
        if area.is_valid:
            return area
        if shapely.get_num_coordinates(area) > _MAX_MENDED:
            raise ValueError("too many crossings, perhaps")
        return shapely.make_valid(area)
    except (shapely.errors.ShapelyError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
        raise bad_request("'intersects' is no GeoJSON geometry.") from None
    except RecursionError:
        raise bad_request("'intersects' is nested too deeply.") from None


def _interval(value: Any) -> tuple[datetime.datetime | None, datetime.datetime | None] | None:
    if value is None:
        return None
    parts = value.split("/") if isinstance(value, str) else []
    try:
        moments = [None if part in ("", "..") else _moment(part) for part in parts]
    except ValueError:
        raise bad_request(f"'datetime' is malformed: {value}") from None
    if len(moments) == 1 and moments[0] is not None:
        return moments[0], moments[0]
    if len(moments) != 2 or moments == [None, None]:
        raise bad_request(f"'datetime' is malformed: {value}")
    start, end = moments
    if start is not None and end is not None and start > end:
        raise bad_request("'datetime' ends before it begins.")
    return start, end


def _moment(text: str) -> datetime.datetime:
    """
    Return a moment of RFC 3339, or the beginning of a day, which the articles' searches name.

    :raises ValueError: It is neither.
    """
    if not _MOMENT.fullmatch(text):
        raise ValueError(text)
    moment = datetime.datetime.fromisoformat(text.upper())
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _query(value: Any) -> dict[str, dict[str, Any]]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(wanted, dict) for wanted in value.values()):
        raise bad_request("'query' has to map property names to comparisons.")
    if len(value) + sum(map(len, value.values())) > 2 * _MAX_COMPARISONS:
        raise bad_request(f"'query' has more than {_MAX_COMPARISONS} comparisons.")
    unknown = {name for wanted in value.values() for name in wanted} - COMPARISONS
    if unknown:
        raise bad_request(f"'query' has unknown comparisons: {', '.join(sorted(unknown))}.")
    return value


def _filter(body: Mapping[str, Any]) -> Any:
    if body.get("filter-crs") not in (None, "", _CRS84, _CRS84.replace("http:", "https:")):
        raise bad_request(f"'filter-crs' has to be {_CRS84}.")
    value = body.get("filter")
    return None if value is None else parse_filter(value, body.get("filter-lang"))


def _sortby(value: Any) -> tuple[tuple[str, bool], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MAX_FIELDS:
        raise bad_request(f"'sortby' has to be a list of {_MAX_FIELDS} entries at most.")
    return tuple(_sort_entry(entry) for entry in value)


def _sort_entry(entry: Any) -> tuple[str, bool]:
    if isinstance(entry, str) and entry.lstrip("+- "):  # a "+" in a query string arrives as a space
        return entry.lstrip("+- "), entry.startswith("-")
    if isinstance(entry, dict) and isinstance(entry.get("field"), str):
        direction = str(entry.get("direction", "asc")).lower()
        if direction in ("asc", "desc"):
            return entry["field"], direction == "desc"
    raise bad_request("'sortby' entries have 'field' and 'direction' (asc or desc).")


def _fields(value: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read ``fields`` as one object, as the SDK's list of objects, or as the names of a query string (C24)."""
    include: list[str] = []
    exclude: list[str] = []
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, dict):
            include += _names_of(entry.get("include"))
            exclude += _names_of(entry.get("exclude"))
        elif isinstance(entry, str):
            (exclude if entry.startswith("-") else include).append(entry.lstrip("+- "))
        elif entry is not None:
            raise bad_request("'fields' has to be an object with 'include' and 'exclude'.")
    return tuple(include), tuple(exclude)


def _names_of(value: Any) -> list[str]:
    return sorted(_names(value, "fields") or ())
