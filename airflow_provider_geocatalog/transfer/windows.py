"""Stretches of time that are transferred one after the other, and the moments of items in them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pendulum

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PARTITIONS", "WINDOW_FIELDS", "Window", "item_moment", "moment", "moment_text"]

#: Properties of items by which a window can be: when it was taken, when its metadata was made and last changed.
WINDOW_FIELDS = ("datetime", "created", "updated")
#: Calendar units that windows can be split by, in UTC.
PARTITIONS = ("hour", "day", "week", "month", "year")


def moment(value: Any) -> datetime.datetime | None:
    """
    Return a moment in UTC; ``None`` for what is none.

    :param value: An RFC 3339 text, or a datetime; one without a time zone is UTC.
    """
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if not isinstance(value, datetime.datetime):
        return None
    aware = value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
    try:
        return aware.astimezone(datetime.UTC)
    except OverflowError:  # beyond the calendar in UTC
        return None


def moment_text(at: datetime.datetime | None) -> str | None:
    """Return a moment in UTC as RFC 3339 text."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def item_moment(item: Any, field: str = "datetime") -> datetime.datetime | None:
    """
    Return the moment of an item by which windows hold it; ``None`` if it has none.

    An item that spans time belongs to where it begins, so that it is in one window only.

    :param item: A STAC Item.
    :param field: One of :data:`WINDOW_FIELDS`.
    """
    properties = item.get("properties") if isinstance(item, dict) else None
    if not isinstance(properties, dict):
        return None
    found = moment(properties.get(field))
    if found is None and field == "datetime":
        found = moment(properties.get("start_datetime"))
    return found


@dataclass(frozen=True)
class Window:
    """
    A stretch of time with its start and without its end, so that windows side by side share no item.

    :param field: The property of items that it is about, one of :data:`WINDOW_FIELDS`.
    :param start: In UTC; ``None`` for no bound.
    :param end: In UTC; ``None`` for no bound.
    :raises GeoCatalogInvalidInput: It ends before it begins, or the field is unknown.
    """

    field: str = "datetime"
    start: datetime.datetime | None = None
    end: datetime.datetime | None = None

    def __post_init__(self) -> None:
        if self.field not in WINDOW_FIELDS:
            raise GeoCatalogInvalidInput(f"a window is by {', '.join(WINDOW_FIELDS)}, not by {self.field!r}")
        for name in ("start", "end"):
            value = getattr(self, name)
            if value is not None:
                known = moment(value)
                if known is None:
                    raise GeoCatalogInvalidInput(f"the {name} of a window is no time: {value!r}")
                object.__setattr__(self, name, known)
        if self.start is not None and self.end is not None and self.end < self.start:
            raise GeoCatalogInvalidInput(f"a window cannot end at {self.end} before it begins at {self.start}")

    @property
    def is_bounded(self) -> bool:
        """Whether it has a start or an end at all."""
        return self.start is not None or self.end is not None

    def holds(self, item: Any) -> bool:
        """
        Return whether an item belongs to the window.

        One without a moment does: nothing tells that it does not, and leaving it out would lose it.
        """
        at = item_moment(item, self.field)
        if at is None:
            return True
        return (self.start is None or at >= self.start) and (self.end is None or at < self.end)

    def split(self, at: datetime.datetime) -> tuple[Window, Window]:
        """Return the part before a moment inside the window, and the part from it on."""
        return replace(self, end=at), replace(self, start=at)

    def partitions(self, unit: str) -> Iterator[Window]:
        """
        Yield the windows by calendar unit that it consists of, the oldest first.

        :param unit: One of :data:`PARTITIONS`.
        :raises GeoCatalogInvalidInput: The window has no start or no end, or the unit is unknown.
        """
        if unit not in PARTITIONS:
            raise GeoCatalogInvalidInput(f"windows are split by {', '.join(PARTITIONS)}, not by {unit!r}")
        if self.start is None or self.end is None:
            raise GeoCatalogInvalidInput("only a window with a start and an end can be split into partitions")
        begin = self.start
        while begin < self.end:
            following = pendulum.instance(begin).start_of(unit).add(**{f"{unit}s": 1})
            end = min(moment(following) or self.end, self.end)
            yield replace(self, start=begin, end=end)
            begin = end

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {"field": self.field, "start": moment_text(self.start), "end": moment_text(self.end)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Window:
        """Return the window that a JSON object describes."""
        return cls(data.get("field", "datetime"), data.get("start"), data.get("end"))

    def __str__(self) -> str:
        start, end = moment_text(self.start), moment_text(self.end)
        return f"{self.field} from {start or 'the beginning'} to before {end or 'the end'}"
