"""
Look at a CQL2 JSON expression (OGC 21-065r2) before it is sent: its form, numbers of arguments, misspelt operators.

Any other operator is a function to CQL2, which only the service can know. Where the package ``cql2`` is installed
(extra ``emulator``), it parses the expression as well.
"""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_geocatalog.api.located_text import Path

__all__ = ["cql_problems"]

_MOST_LEVELS = 32  # cql2 recurses on the process's stack
_MANY = 1_000_000
_SPATIAL = ("intersects", "disjoint", "equals", "touches", "overlaps", "crosses", "within", "contains")
_TEMPORAL = (
    *("after", "before", "contains", "disjoint", "during", "equals", "finishedBy", "finishes", "intersects"),
    *("meets", "metBy", "overlappedBy", "overlaps", "startedBy", "starts"),
)
_OF_ARRAYS = ("containedBy", "contains", "equals", "overlaps")
#: Least and most arguments of an operator.
_ARGUMENTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("and", "or"), (2, _MANY)),
    **dict.fromkeys(("not", "isNull", "casei", "accenti"), (1, 1)),
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">=", "like", "in"), (2, 2)),
    **dict.fromkeys(("+", "*", "/", "%", "^", "div"), (2, 2)),
    "-": (1, 2),
    "between": (3, 3),
    **dict.fromkeys((f"s_{name}" for name in _SPATIAL), (2, 2)),
    **dict.fromkeys((f"t_{name}" for name in _TEMPORAL), (2, 2)),
    **dict.fromkeys((f"a_{name}" for name in _OF_ARRAYS), (2, 2)),
}
#: Members by which an argument that is an object says what it is.
_LITERALS = ("property", "date", "timestamp", "interval", "bbox", "coordinates", "geometries")


def cql_problems(expression: Any) -> list[tuple[Path, str]]:
    """Return what is wrong with an expression, each with its place in it."""
    problems = list(_problems(expression, (), condition=True))
    if not problems and (complaint := _complaint_of_cql2(expression)):
        problems.append(((), f"this is no CQL2 expression: {complaint}"))
    return problems


def _problems(node: Any, path: tuple[str | int, ...], *, condition: bool = False) -> Iterator[tuple[Path, str]]:
    if len(path) > 2 * _MOST_LEVELS:
        yield path, f"this CQL2 expression has more than {_MOST_LEVELS} levels"
    elif isinstance(node, list):
        for index, entry in enumerate(node):
            yield from _problems(entry, (*path, index))
    elif not isinstance(node, dict):
        if condition and not isinstance(node, bool):
            yield path, f"a CQL2 expression is an object with 'op' and 'args', not {node!r}"
    elif "op" in node:
        yield from _operation_problems(node, path)
    elif condition and "property" not in node:
        yield path, "a CQL2 expression is an object with 'op' and 'args'"
    elif not any(name in node for name in _LITERALS):
        yield path, f"an argument of a CQL2 expression has none of 'op', {', '.join(map(repr, _LITERALS))}"
    for name in ("property", "date", "timestamp"):
        if isinstance(node, dict) and name in node and not isinstance(node[name], str):
            yield (*path, name), f"{name!r} is a text, not {node[name]!r}"


def _operation_problems(node: dict[str, Any], path: tuple[str | int, ...]) -> Iterator[tuple[Path, str]]:
    name, arguments = node["op"], node.get("args")
    if not isinstance(name, str):
        yield (*path, "op"), f"'op' is the name of an operator, not {name!r}"
        return
    if not isinstance(arguments, list):
        yield path, f"the operator {name!r} has no list 'args'"
        return
    if name in _ARGUMENTS:
        least, most = _ARGUMENTS[name]
        if not least <= len(arguments) <= most:
            wanted = f"at least {least}" if most == _MANY else f"{least}" if least == most else f"{least} or {most}"
            yield path, f"the operator {name!r} takes {wanted} argument{'s' * (most > 1)}, not {len(arguments)}"
    else:
        lowered = {known.lower(): known for known in _ARGUMENTS}
        for close in difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.8):
            yield (*path, "op"), f"unknown operator {name!r}; did you mean {lowered[close]!r}?"
    for index, argument in enumerate(arguments):
        yield from _problems(argument, (*path, "args", index), condition=name in {"and", "or", "not"})


def _complaint_of_cql2(expression: Any) -> str | None:
    try:
        import cql2
    except ModuleNotFoundError:
        return None
    try:
        cql2.parse_json(json.dumps(expression))
    except Exception as error:  # it raises plain exceptions for what it cannot parse
        return " ".join(str(error).split())[:200]
    return None
