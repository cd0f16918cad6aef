"""
CQL2 filters (7.6). cql2 parses them and puts them into one form; SQL says what it can, cql2 decides the rest.

Queryables never restrict what a filter names; their ``data_type`` says how its literals are read (7.7).
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

import cql2
import shapely
import shapely.geometry

from airflow_provider_geocatalog.emulator.item_store import instant
from airflow_provider_geocatalog.emulator.search_conditions import (
    DAY,
    FALSE,
    REST,
    TIMESTAMPS,
    TRUE,
    Conditions,
    Sql,
    Timestamp,
    joined,
    json_path,
    path_of,
)
from airflow_provider_geocatalog.emulator.search_values import UndecidedError, compiled
from airflow_provider_geocatalog.emulator.wire import bad_request, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["MAX_DEPTH", "as_type", "filter_condition", "honoured", "parse_filter"]

MAX_DEPTH = 32  # levels of a filter: cql2 recurses on the process's stack, and SQLite's parser has little of its own
MAX_OPERATIONS = 5_000  # in a filter
MAX_COMPUTED = 100  # operations in a filter that Python carries out for each item
MAX_PATTERN = 5_000  # characters of a pattern of `like`
_MAX_LITERALS = 200_000  # characters of a predicate that Python evaluates
_TOO_COMPLEX = "The search is too complex: ask for less at once."
LANGUAGES = ("cql2-json", "cql2-text", "cql-json")

_COMPARISONS = frozenset({"=", "<>", "<", "<=", ">", ">="})
_EXCHANGED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
#: Spatial operators, and each with its operands exchanged.
_SPATIAL = {
    **{name: name for name in ("s_intersects", "s_disjoint", "s_equals", "s_touches", "s_overlaps", "s_crosses")},
    "s_within": "s_contains",
    "s_contains": "s_within",
}
#: What a moment has to be to an interval from ``low`` to ``high``.
_TEMPORAL = {
    "t_before": "items.moment < :low",
    "t_after": "items.moment > :high",
    "t_intersects": "items.moment BETWEEN :low AND :high",
    "t_disjoint": "items.moment NOT BETWEEN :low AND :high",
    "t_during": "items.moment > :low AND items.moment < :high",
}
#: The rest of CQL2 (OGC 21-065r2). To cql2 any other name is a function, which then matches nothing.
_OPERATORS = frozenset(
    {"and", "or", "not", "isNull", "like", "between", "in", "casei", "accenti", "+", "-", "*", "/", "%", "^", "div"}
    | {"a_containedBy", "a_contains", "a_equals", "a_overlaps", "t_contains", "t_equals", "t_finishedBy"}
    | {"t_finishes", "t_meets", "t_metBy", "t_overlappedBy", "t_overlaps", "t_startedBy", "t_starts"}
    | _COMPARISONS
    | _SPATIAL.keys()
    | _TEMPORAL.keys()
)

_NOWHERE = ("$.x", "$.x")
_OLDEST, _LATEST = -(2**62), 2**62

# What decides how deep cql2 recurses into a text; quoted parts come first, so that nothing in them counts.
_TOKENS = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(?P<open>\()|(?P<close>\))|(?P<next>,|\b(?:and|or)\b)"
    r"|(?P<operator>[=<>^*/%+-]|\b(?:not|like|in|is|between|div)\b)",
    re.IGNORECASE,
)


def parse_filter(value: Any, language: Any) -> Any:
    """
    Return a filter in cql2's form of CQL2-JSON.

    :raises ApiError: It is no CQL2.
    """
    if language not in (None, *LANGUAGES):
        raise bad_request(f"'filter-lang' {language!r} is not known.")
    if language == "cql2-text" and not isinstance(value, str):
        raise bad_request("'filter' is no text, but 'filter-lang' says cql2-text.")
    if isinstance(value, str) and (language in ("cql2-json", "cql-json") or value.lstrip().startswith("{")):
        try:
            value = parse_json(value)  # GET has no other way to say it
        except (ValueError, RecursionError):
            raise bad_request("'filter' is not JSON.") from None
    if (_depth_of_text(value) if isinstance(value, str) else _depth(value)) > MAX_DEPTH:
        raise bad_request(f"'filter' is nested more than {MAX_DEPTH} levels deep.")
    if _size(value) > MAX_OPERATIONS:
        raise bad_request(_TOO_COMPLEX)
    try:
        parsed = cql2.Expr(value).to_json()
    except Exception as error:  # cql2 raises plain exceptions for what it cannot parse
        old = " The operators of the older CQL are not supported, say it in CQL2." if language == "cql-json" else ""
        raise bad_request(f"'filter' is no CQL2 expression: {_brief(error)}.{old}") from None
    unknown = {str(node["op"]) for node in _operations(parsed)} - _OPERATORS
    if unknown:
        raise bad_request(f"'filter' has unknown operators: {', '.join(sorted(unknown))}.")
    for pattern in (arg for node in _operations(parsed) if node["op"] == "like" for arg in _texts(node)):
        if len(pattern) > MAX_PATTERN:
            raise bad_request(f"A pattern in 'filter' is longer than {MAX_PATTERN} characters.")
    return parsed


def _texts(node: Any) -> list[str]:
    """Return the texts among the operands of an operation, and of operations among them."""
    if isinstance(node, dict) and isinstance(node.get("args"), list):
        return [text for arg in node["args"] for text in _texts(arg)]
    return [node] if isinstance(node, str) else []


def _brief(error: Exception) -> str:
    return str(error).replace("\n", " ")[:300].rstrip(". ")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH * 4:  # an operation is two levels of JSON, and a geometry adds a few
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        depth += 1
    return depth // 2


def _depth_of_text(text: str) -> int:
    levels, deepest = [0], 0
    for token in _TOKENS.finditer(text):
        kind = token.lastgroup
        if kind == "open":
            levels.append(1)
        elif kind == "close" and len(levels) > 1:
            levels.pop()
        elif kind == "next":
            levels[-1] = min(levels[-1], 1)
        elif kind == "operator":
            levels[-1] += 1
        if kind in ("open", "operator"):
            deepest = max(deepest, sum(levels)) if len(levels) <= MAX_DEPTH else MAX_DEPTH + 1
            if deepest > MAX_DEPTH:
                break
    return deepest


def _size(value: Any) -> int:
    """Return how many operations there are; of a text how many are connected, all else being a matter of its depth."""
    if isinstance(value, str):
        return sum(token.lastgroup == "next" and token.group() != "," for token in _TOKENS.finditer(value))
    return sum(1 for _ in _operations(value))


def _operations(expression: Any) -> Iterator[dict[str, Any]]:
    """Yield the operations in an expression."""
    left = [expression]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            if "op" in node:
                yield node
            left += node.values()
        elif isinstance(node, list):
            left += node


def honoured(node: Any, types: Mapping[str, str]) -> Any:
    """Return an expression whose literals have the types of the properties that they are compared with."""
    if not isinstance(node, dict) or not isinstance(node.get("args"), list):
        return node
    args = [honoured(arg, types) for arg in node["args"]]
    operator = node.get("op")
    declared = [types.get(name.removeprefix("properties.")) for name in map(_property, args) if name is not None]
    if operator in _COMPARISONS and len(args) == 2 and len(declared) == 1 and declared[0]:
        args = [as_type(arg, declared[0]) for arg in args]
    lists = operator == "in" and len(args) == 2 and isinstance(args[1], list)
    if lists and declared and declared[0] and declared[0] not in TIMESTAMPS:
        args[1] = [as_type(entry, declared[0]) for entry in args[1]]
    return {**node, "args": args}


def as_type(literal: Any, data_type: str) -> Any:
    """Return a literal as one of a queryable's data type, or as it is where that makes no sense."""
    if data_type in TIMESTAMPS:
        text = literal.get("date") if isinstance(literal, dict) else literal
        if not isinstance(text, str) or instant(text) is None:
            return literal
        return {"timestamp": f"{text}T00:00:00Z" if len(text) == 10 else text}
    if data_type == "number" and isinstance(literal, str) and re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", literal):
        return float(literal)
    if data_type == "boolean" and literal in ("true", "false"):
        return literal == "true"
    if data_type == "string" and isinstance(literal, int | float) and not isinstance(literal, bool):
        return str(int(literal) if literal == literal // 1 else literal)
    return literal


def filter_condition(node: Any, conditions: Conditions, *, drives: bool = True, sure: bool = True) -> Sql:
    """
    Return an expression of cql2's form as SQL.

    :param drives: Whether nothing matches that it does not hold for.
    :param sure: Whether unknown may be answered as false; not below a ``not``.
    :raises ApiError: It is no CQL2.
    """
    if isinstance(node, bool):
        return TRUE if node else FALSE
    operator, args = (node.get("op"), node.get("args")) if isinstance(node, dict) else (None, None)
    if not isinstance(args, list):
        raise bad_request("'filter' is no CQL2 expression: it has to be true or false.")
    if operator in ("and", "or") and len(args) > 1:
        inner = drives and operator == "and"
        return joined(operator.upper(), [filter_condition(arg, conditions, drives=inner, sure=sure) for arg in args])
    if operator == "not" and len(args) == 1 and isinstance(args[0], dict) and "op" in args[0]:
        return Sql("NOT (") + filter_condition(args[0], conditions, drives=False, sure=False) + Sql(")")
    said = _predicate(str(operator), args, conditions, drives=drives, sure=sure)
    return said if said is not None else _asked(node, conditions)


def _predicate(operator: str, args: list[Any], conditions: Conditions, *, drives: bool, sure: bool) -> Sql | None:
    """Return a predicate as SQL, ``None`` where SQL cannot say it."""
    name, other = _property(args[0]) if args else None, args[1] if len(args) > 1 else None
    if operator == "isNull" and len(args) == 1 and name is not None:
        return conditions.is_null(name)
    if operator == "between" and len(args) == 3 and name is not None and all(type(arg) is float for arg in args[1:]):
        return conditions.between(name, args[1], args[2], drives=drives, sure=sure)
    if len(args) != 2:
        return None
    if name is None and _property(other) is not None and (operator in _COMPARISONS or operator in _SPATIAL):
        operator, args = {**_EXCHANGED, **_SPATIAL}[operator], args[::-1]
        name, other = _property(args[0]), args[1]
    if name is None:
        return None
    if operator in _COMPARISONS:
        literal = _literal(other)
        return None if literal is None else conditions.compare(name, operator, literal, drives=drives, sure=sure)
    if operator == "in" and isinstance(other, list):
        return conditions.one_of(name, other, drives=drives, sure=sure)
    if operator == "like" and isinstance(other, str):
        return conditions.like(name, other)
    if operator in _SPATIAL and name == "geometry":
        area = _area(other)
        return None if area is None else conditions.spatial(operator, area, drives=drives)
    if operator in _TEMPORAL and name.removeprefix("properties.") == "datetime":
        return _temporal(operator, other)
    return None


def _property(node: Any) -> str | None:
    name = node.get("property") if isinstance(node, dict) and len(node) == 1 else None
    return name if isinstance(name, str) else None


def _literal(node: Any) -> Any:
    if isinstance(node, str | float | bool):
        return node
    moment = instant(node.get("timestamp")) if isinstance(node, dict) and len(node) == 1 else None
    return None if moment is None else Timestamp(moment)


def _area(node: Any) -> Any:
    if not isinstance(node, dict):
        return None
    try:
        if "bbox" in node:
            box = node["bbox"]
            west, south, east, north = box if len(box) == 4 else (box[0], box[1], box[3], box[4])
            return shapely.box(min(west, east), min(south, north), max(west, east), max(south, north))
        area = shapely.force_2d(shapely.geometry.shape(node))
    except (shapely.errors.ShapelyError, ValueError, TypeError, LookupError, AttributeError):
        return None
    return None if area.is_empty or not area.is_valid else area


def _temporal(operator: str, other: Any) -> Sql | None:
    span = _span(other)
    if span is None:
        return None
    text, values = _TEMPORAL[operator], dict(zip((":low", ":high"), span, strict=True))
    used = [values[word] for word in re.findall(r":low|:high", text)]
    return Sql(f"({re.sub(':low|:high', '?', text)})", tuple(used))


def _span(node: Any) -> tuple[int, int] | None:
    if not isinstance(node, dict) or len(node) != 1:
        return None
    [(kind, value)] = node.items()
    if kind == "timestamp":
        low = high = instant(value)
    elif kind == "date":
        low = instant(value)
        high = None if low is None else low + DAY - 1
    elif kind == "interval" and isinstance(value, list) and len(value) == 2:
        low = _OLDEST if value[0] == ".." else instant(value[0])
        high = _LATEST if value[1] == ".." else instant(value[1])
    else:
        return None
    return None if low is None or high is None else (low, high)


def _asked(node: Any, conditions: Conditions) -> Sql:
    """Return a predicate that Python evaluates for each item."""
    text = json.dumps(node, sort_keys=True)
    conditions.computed += _size(node)
    if conditions.computed > MAX_COMPUTED or len(text) > _MAX_LITERALS:
        raise bad_request(_TOO_COMPLEX)
    expression = _validated(text)
    return _computed(node, expression, conditions) or _asked_of_cql2(node, expression, conditions)


def _computed(node: Any, expression: Any, conditions: Conditions) -> Sql | None:
    """Return a predicate on values of single properties, ``None`` if it is none."""
    values = {name: conditions.value(name) for name in sorted(_properties(node))}
    if None in values.values() or any(name.removeprefix("properties.") == "datetime" for name in values):
        return None
    paths = {name: value.path for name, value in values.items() if value is not None and value.path is not None}
    columns = {name: value.sql.text for name, value in values.items() if value is not None and value.path is None}
    holds = None if any(path.count('"') > 2 for path in paths.values()) else compiled(node, [*paths, *columns])
    if holds is None:
        return None

    def decided(texts: str, *ids: str) -> bool | None:
        try:
            return holds(texts, *ids)
        except UndecidedError:
            members = zip((name.removeprefix("properties.") for name in paths), json.loads(texts), strict=False)
            return _decided(expression, {**dict(zip(columns, ids, strict=True)), "properties": dict(members)})

    # A single path would not give a list.
    found = (*paths.values(), *_NOWHERE[len(paths) :])
    marks = ", ".join("?" for _ in found)
    asked = conditions.asked(decided, f"json_extract(items.properties, {marks})", *columns.values())
    return Sql(asked.text, found)


def _decided(expression: Any, document: dict[str, Any]) -> bool | None:
    answer = expression.reduce(document).to_json()
    return answer if isinstance(answer, bool) else None


def _asked_of_cql2(node: Any, expression: Any, conditions: Conditions) -> Sql:
    """Return a predicate that cql2 evaluates."""
    names = sorted({part[0] for part in map(path_of, _properties(node)) if part} | {"datetime", "start_datetime"})

    def decided(document: dict[str, Any]) -> bool | None:
        members = document["properties"]
        if members.get("datetime") is None:
            members["datetime"] = members.get("start_datetime")
        return _decided(expression, document)

    def holds(values: str) -> bool | None:
        return decided({"properties": dict(zip(names, json.loads(values), strict=True))})

    def holds_for(properties: str, rest: str) -> bool | None:
        return decided({**json.loads(rest), "properties": json.loads(properties)})

    if all(_is_plain(name, conditions) for name in _properties(node)):
        paths = ", ".join("?" for _ in names)
        asked = conditions.asked(holds, f"json_extract(items.properties, {paths})")
        return Sql(asked.text, tuple(json_path([name]) for name in names))
    return conditions.asked(holds_for, "items.properties", REST)


def _is_plain(name: str, conditions: Conditions) -> bool:
    parts = path_of(name)
    return parts is not None and not conditions.store.is_root_member(parts[0])


def _properties(node: Any) -> set[str]:
    if isinstance(node, dict):
        name = _property(node)
        return {name} if name is not None else set().union(*map(_properties, node.values()))
    return set().union(*map(_properties, node)) if isinstance(node, list) else set()


@functools.lru_cache(maxsize=256)
def _validated(text: str) -> Any:
    """Return a predicate that CQL2's schema admits; reading the schema takes a while, and pages ask again."""
    try:
        expression = cql2.Expr(json.loads(text))
        expression.validate()
    except Exception as error:
        raise bad_request(f"'filter' is no CQL2 expression: {_brief(error)}.") from None
    return expression
