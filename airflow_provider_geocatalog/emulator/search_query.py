"""The STAC query extension (7.6): comparisons by the names of properties."""

from __future__ import annotations

import json
import operator
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.emulator.search_conditions import (
    REST,
    TIMESTAMPS,
    Conditions,
    Sql,
    Timestamp,
    joined,
    moment_of,
)
from airflow_provider_geocatalog.emulator.search_filter import as_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["COMPARISONS", "query_condition"]

_OPERATORS = {"eq": "=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "startsWith": lambda value, start: str(value).startswith(start),
    "endsWith": lambda value, end: str(value).endswith(end),
    "contains": lambda value, part: part in value,
    "in": lambda value, options: value in options,
}
COMPARISONS = frozenset(_TESTS)


def query_condition(name: str, wanted: Mapping[str, Any], conditions: Conditions) -> Sql:
    """Return that an item has a property for which all comparisons hold."""
    demands = [
        _in_sql(name, word, operand, conditions) or _in_python(name, word, operand, conditions)
        for word, operand in wanted.items()
    ]
    if not demands:
        demands = [_in_python(name, "neq", None, conditions)]
    return joined("AND", demands)


def _in_sql(name: str, word: str, operand: Any, conditions: Conditions) -> Sql | None:
    if "." in name.removeprefix("properties."):
        return None
    data_type = conditions.types.get(name.removeprefix("properties."), "")
    literal = (moment_of(operand) if data_type in TIMESTAMPS else None) or operand
    if data_type and data_type not in TIMESTAMPS:
        literal = as_type(operand, data_type)
    if word in _OPERATORS:
        return conditions.compare(name, _OPERATORS[word], literal, drives=True)
    if word == "neq" and isinstance(literal, Timestamp):
        return conditions.compare(name, "<>", literal)
    if word in ("startsWith", "endsWith", "contains") and isinstance(operand, str):
        return conditions.text_test(name, word, operand)
    if word == "in" and isinstance(operand, list):
        return conditions.one_of(name, operand, drives=True)
    return None


def _in_python(name: str, word: str, operand: Any, conditions: Conditions) -> Sql:
    test = _TESTS[word]

    def holds(properties: str, rest: str) -> bool:
        document = json.loads(rest)
        document["properties"] = json.loads(properties)
        value = _value(document, name)
        return value is not None and bool(test(value, operand))

    return conditions.asked(holds, "items.properties", REST)


def _value(document: Mapping[str, Any], name: str) -> Any:
    """Return a member by its name in queries: a root member, or a property with or without ``properties.``."""
    if name in document and name != "properties":
        return document[name]
    value = document["properties"]
    if name.removeprefix("properties.") in value:
        return value[name.removeprefix("properties.")]
    for part in name.removeprefix("properties.").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
