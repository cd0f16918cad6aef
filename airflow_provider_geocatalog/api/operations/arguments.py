"""From what callers have to what the wire takes: times, boxes, documents."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.http import FilePart

__all__ = [
    "Instant",
    "Interval",
    "box",
    "count",
    "document",
    "file_part",
    "flag",
    "instant",
    "interval",
    "minutes",
    "objects",
    "optional",
    "page_size",
    "require",
    "same_id",
    "text",
    "texts",
]

Instant: TypeAlias = "str | dt.datetime"
#: An instant, an interval as STAC writes it (``"2024-01-01T00:00:00Z/.."``), or its two ends, of which one may be open.
Interval: TypeAlias = "Instant | tuple[Instant | None, Instant | None]"

_BEGINS_WITH_A_DATE = re.compile(r"(\.\.|)/?\d{4}-\d\d")
_MOST_ITEMS = 10_000  # items on a page (geocatalog-api 11.1)


def text(value: str | None, name: str) -> str | None:
    """
    Return a text.

    :raises GeoCatalogInvalidInput: It is something else.
    """
    if value is not None and not isinstance(value, str):
        raise GeoCatalogInvalidInput(f"{name} has to be text, not {type(value).__name__}")
    return value


def flag(value: bool | None, name: str) -> bool | None:
    """
    Return a choice of yes and no.

    :raises GeoCatalogInvalidInput: It is something else; ``"false"`` would count as true.
    """
    if value is not None and not isinstance(value, bool):
        raise GeoCatalogInvalidInput(f"{name} has to be true or false, not {value!r}")
    return value


def texts(values: Sequence[str] | None, name: str) -> list[str] | None:
    """
    Return a list of texts.

    :raises GeoCatalogInvalidInput: It is none.
    """
    if values is None:
        return None
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise GeoCatalogInvalidInput(f"{name} has to be a list of strings")
    found = list(values)
    if not all(isinstance(value, str) for value in found):
        raise GeoCatalogInvalidInput(f"{name} has to be a list of strings")
    return found


def objects(values: Sequence[Mapping[str, Any]] | None, name: str) -> list[dict[str, Any]] | None:
    """
    Return a list of JSON objects.

    :raises GeoCatalogInvalidInput: It is none.
    """
    if values is None:
        return None
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise GeoCatalogInvalidInput(f"{name} has to be a list of JSON objects")
    return [document(value, f"an entry of {name}") for value in values]


def optional(value: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    """
    Return a JSON object, or ``None``.

    :raises GeoCatalogInvalidInput: It is something else.
    """
    return None if value is None else document(value, name)


def same_id(body: Mapping[str, Any], member: str, wanted: str, what: str) -> None:
    """
    Refuse a document that names another thing than the one that it is sent to.

    :raises GeoCatalogInvalidInput: It does.
    """
    if body.get(member, wanted) != wanted:
        raise GeoCatalogInvalidInput(f"the {member} {body[member]!r} of {what} differs from {wanted!r}")


def instant(value: Instant) -> str:
    """
    Return a time as RFC 3339 text in UTC.

    :param value: Text, which is sent as it is if it begins with a date, or an aware datetime.
    :raises GeoCatalogInvalidInput: It has no time zone, so that nobody knows which moment it is.
    """
    if isinstance(value, str):
        if not _BEGINS_WITH_A_DATE.match(value):
            raise GeoCatalogInvalidInput(f"{value!r} is no time or interval in RFC 3339 form")
        return value
    if not isinstance(value, dt.datetime):
        raise GeoCatalogInvalidInput(f"a time is text or a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise GeoCatalogInvalidInput(f"{value.isoformat()} has no time zone; use an aware datetime")
    return _utc(value).replace(tzinfo=None).isoformat() + "Z"


def _utc(value: dt.datetime) -> dt.datetime:
    try:
        return value.astimezone(dt.UTC)
    except OverflowError:
        raise GeoCatalogInvalidInput(f"{value.isoformat()} is beyond the calendar in UTC") from None


def interval(value: Interval | None) -> str | None:
    """
    Return the ``datetime`` of a search.

    :raises GeoCatalogInvalidInput: It is none, or ends before it starts.
    """
    if value is None:
        return None
    if not isinstance(value, tuple | list):
        return instant(value)
    if len(value) != 2 or (value[0] is None and value[1] is None):
        raise GeoCatalogInvalidInput("an interval has two ends, of which one may be None for open")
    start, end = value
    if isinstance(start, dt.datetime) and isinstance(end, dt.datetime):
        texts = instant(start), instant(end)
        if _utc(end) < _utc(start):  # two times of one zone are compared by the wall clock, which goes back in autumn
            raise GeoCatalogInvalidInput(f"the interval ends at {texts[1]}, before it starts at {texts[0]}")
    return "/".join(".." if one is None else instant(one) for one in (start, end))


def box(value: Sequence[float] | None) -> list[float] | None:
    """
    Return a bounding box.

    :param value: West, south, east, north in degrees, with or without heights.
    :raises GeoCatalogInvalidInput: It is no box. West may be greater than east: such a box crosses the antimeridian.
    """
    if value is None:
        return None
    numbers = list(value) if isinstance(value, Iterable) else []
    if len(numbers) not in (4, 6) or not all(
        isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers
    ):
        raise GeoCatalogInvalidInput(f"a bounding box has 4 or 6 numbers, not {value!r}")
    half = len(numbers) // 2
    if numbers[1] > numbers[half + 1]:
        raise GeoCatalogInvalidInput(f"the bounding box {numbers} has its south above its north")
    return numbers


def page_size(limit: int | None) -> int | None:
    """
    Return the number of items on a page.

    :raises GeoCatalogInvalidInput: The service takes 1 to 10000 (geocatalog-api 4.2).
    """
    return _whole(limit, "limit", 1, _MOST_ITEMS)


def count(value: int | None, name: str) -> int | None:
    """
    Return a number of entries.

    :raises GeoCatalogInvalidInput: It is negative or no whole number.
    """
    return _whole(value, name, 0, None)


def minutes(duration: int | None) -> int | None:
    """
    Return the lifetime of a signature.

    :raises GeoCatalogInvalidInput: It is no positive whole number of minutes.
    """
    return _whole(duration, "duration", 1, None)


def _whole(value: int | None, name: str, least: int, most: int | None) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        wanted = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise GeoCatalogInvalidInput(f"{name} has to be a whole number {wanted}, not {value!r}")
    return value


def document(value: Any, what: str, *required: str) -> dict[str, Any]:
    """
    Return a JSON object to send.

    :param what: What it is, for messages.
    :param required: Members without which the service can do nothing.
    :raises GeoCatalogInvalidInput: It is none, or lacks members.
    """
    if not isinstance(value, Mapping):
        raise GeoCatalogInvalidInput(f"{what} is a JSON object, not {type(value).__name__}")
    require(value, what, *required)
    return dict(value)


def require(value: Mapping[str, Any], what: str, *required: str) -> None:
    """
    Refuse an object that lacks members.

    :raises GeoCatalogInvalidInput: It does.
    """
    problems = [f"{what} has no {name!r}" for name in required if value.get(name) in (None, "")]
    if problems:
        raise GeoCatalogInvalidInput(problems)


def file_part(file: Any) -> FilePart:
    """
    Return a file to upload.

    :raises GeoCatalogInvalidInput: It is no :class:`~airflow_provider_geocatalog.api.http.FilePart`, has no name or no
        content.
    """
    if not isinstance(file, FilePart):
        raise GeoCatalogInvalidInput(f"a file is a FilePart, not {type(file).__name__}")
    problems = []
    if not file.filename or "/" in file.filename or "\\" in file.filename:
        problems.append(f"{file.filename!r} is no file name")
    if not isinstance(file.content, bytes) or not file.content:
        problems.append("the file has no content")
    if problems:
        raise GeoCatalogInvalidInput(problems)
    return file
