"""
Predicates of CQL2 on computed values, compiled for many items.

For what SQL cannot say exactly: arithmetic, ``casei``, ``accenti``, array operators, and two properties compared. cql2
says the same of an item, ten times slower, and still decides where a value is one that is not provided for here.
"""

from __future__ import annotations

import functools
import json
import math
import operator
import re
from collections.abc import Callable
from typing import Any

import cql2

__all__ = ["UndecidedError", "compiled"]

#: The values of properties to a value: a number, text, truth value or list of what JSON has; ``None`` is unknown.
Evaluation = Callable[[list[Any]], Any]

_decoded = json.JSONDecoder().raw_decode  # half of what json.loads takes
_REMEMBERED = 4096  # values of one predicate; most properties have few
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARRAYS: dict[str, Callable[[frozenset[str], frozenset[str]], bool]] = {
    "a_equals": operator.eq,
    "a_contains": operator.ge,
    "a_containedBy": operator.le,
    "a_overlaps": lambda one, other: not one.isdisjoint(other),
}
#: Integers that cql2 takes.
_INTEGERS = range(-(2**63), 2**64)


class UndecidedError(Exception):
    """A value is none that is provided for, so cql2 has to decide."""


def compiled(node: Any, names: list[str]) -> Callable[..., bool | None] | None:
    """
    Return a predicate as a function, ``None`` if it is none of those here.

    The function takes a JSON list of the values of properties, and then texts that are columns. It raises
    :class:`UndecidedError`.

    :param names: Names of the properties in the list, then those of the columns.
    """
    predicate = _predicate(str(node.get("op")), node["args"], names)
    if predicate is None:
        return None

    @functools.lru_cache(maxsize=_REMEMBERED)
    def holds(texts: str, *columns: str) -> bool | None:
        values = [_known(value) for value in _decoded(texts)[0]]
        answer = predicate([*values[: len(names) - len(columns)], *columns] if columns else values)
        return answer if isinstance(answer, bool) else None

    return holds


def _predicate(word: str, args: list[Any], names: list[str]) -> Evaluation | None:
    if word in _COMPARISONS or word in _ARRAYS:
        operands = [_value(arg, names) for arg in args]
        if len(operands) != 2 or operands[0] is None or operands[1] is None:
            return None
        return (_comparison if word in _COMPARISONS else _of_arrays)(word, operands[0], operands[1])
    value = _value(args[0], names) if args else None
    others = [_constant(arg) for arg in args[1:]]
    if value is None or None in others:
        return None
    if word == "between" and len(others) == 2 and type(others[0]) is type(others[1]) in (float, str):
        return _between(value, others[0], others[1])
    if word == "in" and len(others) == 1 and isinstance(others[0], list):
        return _in(value, others[0])
    if word == "like" and len(others) == 1 and isinstance(others[0], str) and "\\" not in others[0]:
        return _like(value, others[0])
    return None


def _value(node: Any, names: list[str]) -> Evaluation | None:
    if isinstance(node, dict) and node.keys() == {"property"}:
        return operator.itemgetter(names.index(node["property"])) if node["property"] in names else None
    if not isinstance(node, dict) or not isinstance(node.get("args"), list):
        constant = _constant(node)
        return None if constant is None else lambda values: constant
    operands = [_value(arg, names) for arg in node["args"]]
    if node["op"] in _FOLDS and len(operands) == 1 and operands[0] is not None:
        return _folded(_FOLDS[node["op"]], operands[0])
    if node["op"] in _ARITHMETIC and len(operands) == 2 and operands[0] is not None and operands[1] is not None:
        return _computed(_ARITHMETIC[node["op"]], operands[0], operands[1])
    return None


def _constant(node: Any) -> Any:
    """Return a literal's value, ``None`` if it is another one; in lists as well, where cql2 does not look for calls."""
    if isinstance(node, bool | float | str):
        return node
    if isinstance(node, list):
        entries = [_constant(entry) for entry in node]
        return None if None in entries else entries
    if isinstance(node, dict) and node.get("op") in _FOLDS and isinstance(node.get("args"), list):
        folded = _value(node, [])
        return None if folded is None else folded([])
    return None


def _known(value: Any) -> Any:
    """Return a property's value as cql2 reads it, where all numbers are floats."""
    if type(value) is int:
        if value not in _INTEGERS:
            raise UndecidedError
        return float(value)
    if type(value) is dict:
        raise UndecidedError  # a geometry, perhaps, or a moment
    return value


def _text(value: Any) -> str:
    """Return a value as CQL2 text, by which cql2 compares members of lists."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, list):
        return "(" + ", ".join(map(_text, value)) + ")"
    return repr(_known(value))


def _comparison(word: str, left: Evaluation, right: Evaluation) -> Evaluation:
    compare = _COMPARISONS[word]

    def holds(values: list[Any]) -> bool | None:
        one, other = left(values), right(values)
        if type(one) is not type(other) or one is None:
            return None
        if isinstance(one, list):
            raise UndecidedError
        return compare(one, other)

    return holds


def _of_arrays(word: str, left: Evaluation, right: Evaluation) -> Evaluation:
    relate = _ARRAYS[word]

    def holds(values: list[Any]) -> bool | None:
        one, other = left(values), right(values)
        if not isinstance(one, list) or not isinstance(other, list):
            return None
        return relate(frozenset(map(_text, one)), frozenset(map(_text, other)))

    return holds


def _between(value: Evaluation, low: Any, high: Any) -> Evaluation:
    def holds(values: list[Any]) -> bool | None:
        one = value(values)
        if one is None:
            return None
        # To cql2 what is of another type is not between, rather than unknown.
        return type(one) is type(low) and low <= one <= high

    return holds


def _in(value: Evaluation, options: list[Any]) -> Evaluation:
    texts = frozenset(map(_text, options))

    def holds(values: list[Any]) -> bool | None:
        one = value(values)
        if one is None or isinstance(one, list) or (isinstance(one, float) and not math.isfinite(one)):
            return None
        return _text(one) in texts

    return holds


def _like(value: Evaluation, pattern: str) -> Evaluation:
    # Each part at the first place that it fits, which is always right, and never tried again: what backtracks takes
    # forever on a pattern that is made for it.
    first, *rest = ["".join("." if mark == "_" else re.escape(mark) for mark in part) for part in pattern.split("%")]
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1] if part)
    last = f".*{rest[-1]}" if rest else ""
    text = re.compile(f"{first}{middle}{last}", re.DOTALL)

    def holds(values: list[Any]) -> bool | None:
        one = value(values)
        return text.fullmatch(one) is not None if isinstance(one, str) else None

    return holds


# --- folding --------------------------------------------------------------------------------------------------------


class _Fold(dict[int, str]):
    """
    What cql2 makes of each character, asked once.

    :param word: CQL2's name.
    :param context: Characters of which it makes something else beside others.
    :param of_ascii: The same for ASCII alone.
    """

    def __init__(self, word: str, context: str, of_ascii: Callable[[str], str]) -> None:
        super().__init__()
        self._word, self._context, self._of_ascii = word, re.compile(f"[{context}]"), of_ascii

    def __missing__(self, character: int) -> str:
        self[character] = folded = self._asked(chr(character))
        return folded

    def of(self, text: str) -> str:
        """Return a text folded."""
        if text.isascii():
            return self._of_ascii(text)
        return self._asked(text) if self._context.search(text) else text.translate(self)

    def _asked(self, text: str) -> str:
        return str(cql2.Expr({"op": self._word, "args": [text]}).reduce().to_json())


#: A sigma depends on whether it ends a word; single letters of Hangul are composed to syllables.
_FOLDS = {"casei": _Fold("casei", "Σ", str.lower), "accenti": _Fold("accenti", "\u1100-\u11ff", str)}


def _folded(fold: _Fold, value: Evaluation) -> Evaluation:
    def folded(values: list[Any]) -> str | None:
        text = value(values)
        return fold.of(text) if isinstance(text, str) else None

    return folded


# --- arithmetic, as floats of IEEE 754 do it --------------------------------------------------------------------------


def _divided(one: float, other: float) -> float:
    if other:
        return one / other
    return math.nan if not one or math.isnan(one) else math.copysign(math.inf, one) * math.copysign(1.0, other)


def _remainder(one: float, other: float) -> float:
    return math.fmod(one, other) if other and math.isfinite(one) else math.nan


def _quotient(one: float, other: float) -> float | None:
    return math.modf(one / other)[1] if other else None


def _power(one: float, other: float) -> float:
    try:
        return math.pow(one, other)
    except (ValueError, OverflowError):  # where C has a value all the same
        raise UndecidedError from None


_ARITHMETIC: dict[str, Callable[[float, float], float | None]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divided,
    "%": _remainder,
    "div": _quotient,
    "^": _power,
}


def _computed(compute: Callable[[float, float], float | None], left: Evaluation, right: Evaluation) -> Evaluation:
    def computed(values: list[Any]) -> float | None:
        one, other = left(values), right(values)
        if isinstance(one, float) and isinstance(other, float):
            return compute(one, other)
        if isinstance(one, str) and isinstance(other, str):
            raise UndecidedError  # cql2 reads two texts as numbers
        return None

    return computed
