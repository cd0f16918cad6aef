"""Arguments that take one of a few words."""

from __future__ import annotations

import enum
from typing import TypeVar

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput

__all__ = ["IfMissing", "IfProblems", "IfSourceExists", "ImportType", "PreflightMode", "choice"]

E = TypeVar("E", bound=enum.Enum)


class ImportType(enum.Enum):
    """What a bulk ingestion reads."""

    STATIC_CATALOG = "StaticCatalog"
    STAC_GEOPARQUET = "StacGeoparquet"


class IfMissing(enum.Enum):
    """What deleting does when there is nothing to delete."""

    SKIP = "skip"
    FAIL = "fail"


class IfSourceExists(enum.Enum):
    """What registering a source does when the container has one."""

    ROTATE = "rotate"
    FAIL = "fail"


class IfProblems(enum.Enum):
    """What a preflight does with problems."""

    FAIL = "fail"
    WARN = "warn"


class PreflightMode(enum.Enum):
    """Whether an ingestion makes a preflight, and what problems do."""

    OFF = "off"
    WARN = "warn"
    FAIL = "fail"


class OnDrift(enum.Enum):
    """What a check does when a collection is not as its document says."""

    FAIL = "fail"
    WARN = "warn"


def choice(kind: type[E], value: str, argument: str) -> E:
    """
    Return the member that a word stands for.

    :param kind: The words.
    :param value: What the user wrote.
    :param argument: The argument's name, for the message.
    :raises GeoCatalogInvalidInput: It is none of them.
    """
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(repr(member.value) for member in kind)
        raise GeoCatalogInvalidInput(f"{argument} is {value!r}; expected one of {known}") from None
