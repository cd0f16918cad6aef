"""
Conditions on items as SQL. Values are always parameters; names of properties are JSON paths, parameters as well.

A condition is true, false or unknown, as in SQL and CQL2: unknown where a property is absent or of another type than
what it is compared with.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import shapely

from airflow_provider_geocatalog.emulator.item_store import ExhaustedError, instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_provider_geocatalog.emulator.item_store import ItemStore

__all__ = ["DAY", "REST", "TIMESTAMPS", "Conditions", "Sql", "Timestamp"]

_MAX_RELATIONS = 4000  # of geometries, one at a time
#: What an item has beside its properties, as JSON text.
REST = "(SELECT rest FROM documents WHERE documents.item = items.item)"
DAY = 24 * 60 * 60 * 1_000_000  # microseconds
#: The data types of queryables that are moments (7.7).
TIMESTAMPS = frozenset({"timestamp", "date"})

_COMPARISONS = frozenset({"=", "<>", "<", "<=", ">", ">="})
#: A part of a property's path that is a JSON path as it stands.
_PLAIN = re.compile(r"[^\W\d][\w:@ /-]*")
_TYPES = {"number": "IN ('integer', 'real')", "text": "= 'text'", "boolean": "IN ('true', 'false')"}

#: CQL2's spatial operators and shapely's functions for them, with the operands exchanged: the geometry that is asked
#: for comes first, since it is prepared.
_SPATIAL: dict[str, Callable[[Any, Any], Any]] = {
    "s_intersects": shapely.intersects,
    "s_disjoint": shapely.disjoint,
    "s_equals": shapely.equals,
    "s_touches": shapely.touches,
    "s_overlaps": shapely.overlaps,
    "s_crosses": shapely.crosses,
    "s_within": shapely.contains,
    "s_contains": shapely.within,
}


class Sql(NamedTuple):
    """A piece of SQL with the values of its question marks."""

    text: str
    parameters: tuple[Any, ...] = ()

    def __add__(self, other: object) -> Sql:
        return Sql(f"{self.text}{other.text}", self.parameters + other.parameters) if isinstance(other, Sql) else self


class Timestamp(NamedTuple):
    """A literal moment, in microseconds."""

    microseconds: int


TRUE, FALSE, UNKNOWN = Sql("1"), Sql("0"), Sql("NULL")


def joined(word: str, conditions: Sequence[Sql]) -> Sql:
    """Return conditions connected by a word, as a balanced tree: SQLite limits how deep one may be."""
    if len(conditions) == 1:
        return conditions[0]
    middle = len(conditions) // 2
    left, right = joined(word, conditions[:middle]), joined(word, conditions[middle:])
    return Sql(f"({left.text} {word} {right.text})", left.parameters + right.parameters)


def listed(text: str, values: Iterable[Any]) -> Sql:
    """Return that an expression is one of the values; one parameter, however many there are."""
    return Sql(f"{text} IN (SELECT value FROM json_each(?))", (json.dumps(list(values)),))  # noqa: S608


def path_of(name: str) -> list[str] | None:
    """Return the parts of a property's name, ``None`` where they are no plain names."""
    parts = name.removeprefix("properties.").split(".")
    return parts if all(_PLAIN.fullmatch(part) for part in parts) else None


def json_path(parts: Iterable[str]) -> str:
    """Return the JSON path of plain names."""
    return "$" + "".join(f'."{part}"' for part in parts)


class _Value(NamedTuple):
    """
    A property as SQL.

    :param path: Its JSON path; ``None`` for a column, which is a text that is always there.
    :param index: The index on it.
    """

    sql: Sql
    path: str | None
    index_name: str | None = None


class Conditions:
    """
    What one search demands.

    :param collections: Numbers of the collections that are searched; ``None`` for all.
    :param types: Data types of properties, by name.
    """

    def __init__(self, store: ItemStore, collections: Sequence[int] | None, types: dict[str, str]) -> None:
        self.store, self.collections, self.types = store, collections, types
        #: Python functions that the SQL calls.
        self.tests: list[Callable[..., bool | None]] = []
        #: Queries that give all items that can match, each through an index.
        self.drivers: list[Sql] = []
        #: How many operations Python carries out for each item.
        self.computed = 0
        self._relations: dict[int, tuple[Callable[[Any, Any], Any], Any]] = {}
        self._driving: set[int] = set()
        self._asked = 0
        self.is_exhausted = False

    def value(self, name: str) -> _Value | None:
        """Return a property as SQL, ``None`` where it cannot be said so."""
        if name == "id":
            return _Value(Sql("items.id"), None)
        if name == "collection":
            return _Value(Sql("(SELECT id FROM collections WHERE number = items.collection)"), None)
        parts = path_of(name)
        if parts is None or (not name.startswith("properties.") and self.store.is_root_member(parts[0])):
            return None
        indexed = self.store.indexed_value(parts[0]) if len(parts) == 1 else None
        path = json_path(parts)
        if indexed:
            return _Value(Sql(indexed[1]), path, indexed[0])
        return _Value(Sql("json_extract(items.properties, ?)", (path,)), path)

    def compare(self, name: str, operator: str, literal: Any, *, drives: bool = False, sure: bool = True) -> Sql | None:
        """
        Return a comparison of a property with a literal, ``None`` where SQL cannot do it.

        :param drives: Whether nothing matches that this does not hold for.
        :param sure: Whether unknown may be answered as false, which an index needs; not below a ``not``.
        """
        if operator not in _COMPARISONS:
            return None
        if isinstance(literal, Timestamp):
            return self._compare_moment(name, operator, literal.microseconds, sure=sure)
        value, kind = self.value(name), _kind(literal)
        if value is None or kind is None:
            return None
        parameter = int(literal) if kind == "boolean" else literal
        comparison = Sql(f"{value.sql.text} {operator} ?", (*value.sql.parameters, parameter))
        if value.path is None:
            return comparison if kind == "text" else UNKNOWN
        return self._typed(value, comparison, (kind,), drives=drives and operator != "<>", sure=sure)

    def text_test(self, name: str, test: str, operand: str) -> Sql | None:
        """
        Return a test of a text, ``None`` where SQL cannot do it.

        :param test: ``startsWith``, ``endsWith`` or ``contains``; the last one also finds members of a list.
        """
        value = self.value(name)
        if value is None or value.path is None or _kind(operand) != "text":
            return None
        text, parameters = value.sql
        if test == "contains":
            member = "SELECT 1 FROM json_each(items.properties, ?) WHERE type = 'text' AND value = ?"
            found = Sql(f"instr({text}, ?) > 0", (*parameters, operand))
            kind = Sql("CASE json_type(items.properties, ?) WHEN 'text' THEN ", (value.path,))
            return kind + found + Sql(f" WHEN 'array' THEN EXISTS ({member}) END", (value.path, operand))
        cut = f"substr({text}, 1, ?)" if test == "startsWith" else f"substr({text}, -?)"
        comparison = Sql(f"{cut} = ?", (*parameters, len(operand), operand))
        return self._typed(value, comparison, ("text",), drives=False, sure=False) if operand else None

    def between(self, name: str, low: float, high: float, *, drives: bool = False, sure: bool = True) -> Sql | None:
        """Return that a property is a number in a range, ``None`` where SQL cannot do it."""
        value = self.value(name)
        if value is None or value.path is None:
            return None
        comparison = Sql(f"{value.sql.text} BETWEEN ? AND ?", (*value.sql.parameters, low, high))
        if sure:
            return self._typed(value, comparison, ("number",), drives=drives, sure=True)
        # As cql2 has it: what is no number is not between numbers, rather than unknown.
        kind, known = _is_type("number", value.path), Sql(f"{value.sql.text} IS NOT NULL", value.sql.parameters)
        return Sql("(CASE WHEN ") + known + Sql(" THEN (") + kind + Sql(" AND ") + comparison + Sql(") END)")

    def one_of(self, name: str, literals: Sequence[Any], *, drives: bool = False, sure: bool = True) -> Sql | None:
        """Return that a property equals one of the literals, ``None`` where SQL cannot do it."""
        value = self.value(name)
        kinds = {kind: [one for one in literals if _kind(one) == kind] for kind in set(map(_kind, literals))}
        if value is None or None in kinds:
            return None
        if value.path is None:
            return listed(value.sql.text, kinds.get("text", ()))
        if sure and len(kinds) == 1:
            comparison = listed(value.sql.text, map(int, literals) if "boolean" in kinds else literals)
            comparison = comparison._replace(parameters=value.sql.parameters + comparison.parameters)
            return self._typed(value, comparison, tuple(map(str, kinds)), drives=drives, sure=True)
        answer = Sql("(CASE")
        for kind in _TYPES:
            wanted = kinds.get(kind, [])
            among = listed(value.sql.text, map(int, wanted) if kind == "boolean" else wanted)
            answer += Sql(" WHEN ") + _is_type(kind, value.path)
            answer += Sql(f" THEN {among.text}", value.sql.parameters + among.parameters)
        return answer + Sql(" END)")

    def like(self, name: str, pattern: str) -> Sql | None:
        """Return that a text matches a pattern of CQL2, ``None`` where SQL cannot do it."""
        value = self.value(name)
        if value is None or "\\" in pattern:
            return None
        # GLOB minds case, as CQL2 does, and LIKE does not.
        glob = re.sub(r"[*?\[]", r"[\g<0>]", pattern).replace("%", "*").replace("_", "?")
        comparison = Sql(f"{value.sql.text} GLOB ?", (*value.sql.parameters, glob))
        return comparison if value.path is None else self._typed(value, comparison, ("text",), drives=False, sure=False)

    def is_null(self, name: str) -> Sql | None:
        """Return that a property is absent or null, ``None`` where SQL cannot say it."""
        if name.removeprefix("properties.") == "datetime":
            return FALSE  # filters take the beginning of an item for it
        value = self.value(name)
        if value is None or "." in name.removeprefix("properties."):
            return None
        return FALSE if value.path is None else Sql(f"{value.sql.text} IS NULL", value.sql.parameters)

    def asked(self, test: Callable[..., bool | None], *columns: str) -> Sql:
        """Return what a Python function says of an item's columns."""
        self.tests.append(test)
        return Sql(f"passes({len(self.tests) - 1}, {', '.join(columns)})")

    def spatial(self, operator: str, area: Any, *, drives: bool = False) -> Sql:
        """Return how the items' geometries relate to an area: ``geometry operator area``."""
        parts = list(shapely.get_parts(area)) if operator == "s_intersects" else [area]
        if len(parts) not in range(1, 9):
            parts = [area]
        if drives and operator != "s_disjoint":
            self.drivers.append(_united([_overlaps(part, "boxes", "SELECT item FROM boxes WHERE ") for part in parts]))
            if len(parts) == 1:
                self._driving.add(len(self.tests))
        return joined("OR", [self._relates(operator, part) for part in parts])

    def _relates(self, operator: str, area: Any) -> Sql:
        relation, overlap = _SPATIAL[operator], _overlaps(area, "items")
        shapely.prepare(area)

        def holds(shape: bytes, item: int) -> bool:
            self._asked += 1
            if self._asked > _MAX_RELATIONS:
                self.is_exhausted = True
                raise ExhaustedError
            return bool(relation(area, shapely.from_wkb(shape)))

        self._relations[len(self.tests)] = relation, area
        exact = self.asked(holds, "items.shape", "items.item")
        if operator == "s_disjoint":
            return joined("OR", [Sql("NOT ") + overlap, exact])
        if operator == "s_intersects" and area.geom_type == "Polygon" and area.equals(shapely.box(*area.bounds)):
            west, south, east, north = area.bounds
            inside = Sql("(west >= ? AND east <= ? AND south >= ? AND north <= ?)", (west, east, south, north))
            exact = joined("OR", [Sql("items.is_box"), inside, exact])
        return joined("AND", [overlap, exact])

    def relate_all(self) -> None:
        """Relate all geometries at once, which takes a fraction of one at a time, so that the query can be repeated."""
        self._asked, self.is_exhausted = -(2**62), False  # from here on there is no limit
        for number, (relation, area) in self._relations.items():
            query = Sql("SELECT items.item, items.shape FROM items WHERE ") + _overlaps(area, "items")
            rows = self.store.select(query.text, query.parameters)
            try:
                answers = relation(area, shapely.from_wkb([shape for _, shape in rows]))
            except shapely.errors.ShapelyError:
                continue  # one of them cannot be related; item by item the others can
            found = {item for (item, _), answer in zip(rows, answers, strict=True) if answer}
            self.tests[number] = lambda shape, item, found=found: item in found
            if number in self._driving:
                self.drivers.append(Sql("SELECT value AS item FROM json_each(?)", (json.dumps(list(found)),)))

    def _compare_moment(self, name: str, operator: str, moment: int, *, sure: bool) -> Sql | None:
        if name.removeprefix("properties.") == "datetime":
            return Sql(f"items.moment {operator} ?", (moment,))
        value = self.value(name)
        if value is None or value.path is None:
            return None
        comparison = Sql(f"instant({value.sql.text}) {operator} ?", (*value.sql.parameters, moment))
        return self._typed(value, comparison, ("text",), drives=False, sure=sure)

    def _typed(self, value: _Value, comparison: Sql, kinds: tuple[str, ...], *, drives: bool, sure: bool) -> Sql:
        """Return a comparison that is unknown for values of other types."""
        assert value.path is not None  # noqa: S101  (a column was dealt with)
        is_type = joined("OR", [_is_type(kind, value.path) for kind in kinds])
        if not sure:
            return Sql("(CASE WHEN ") + is_type + Sql(" THEN ") + comparison + Sql(" END)")
        if value.index_name is None:
            return joined("AND", [comparison, is_type])
        present = Sql(f"({value.sql.text} IS NULL) = 0")  # the index has this before the value
        if drives:
            numbers = self.collections if self.collections is not None else self.store.all_numbers()
            within = Sql(f"SELECT item FROM items INDEXED BY {value.index_name} WHERE ") + listed("collection", numbers)  # noqa: S608
            self.drivers.append(within + Sql(" AND ") + present + Sql(" AND ") + comparison)
        return joined("AND", [present, comparison, is_type])


def _kind(literal: Any) -> str | None:
    if isinstance(literal, bool):
        return "boolean"
    if isinstance(literal, int | float):
        return "number" if abs(literal) < 2**63 or isinstance(literal, float) else None
    return "text" if isinstance(literal, str) and literal.isprintable() else None


def _is_type(kind: str, path: str) -> Sql:
    return Sql(f"json_type(items.properties, ?) {_TYPES[kind]}", (path,))


def _overlaps(area: Any, table: str, before: str = "") -> Sql:
    west, south, east, north = area.bounds
    text = f"{before}({table}.east >= ? AND {table}.west <= ? AND {table}.north >= ? AND {table}.south <= ?)"
    return Sql(text, (west, east, south, north))


def _united(queries: Sequence[Sql]) -> Sql:
    return Sql(" UNION ".join(query.text for query in queries), tuple(p for query in queries for p in query.parameters))


def moment_of(literal: Any) -> Timestamp | None:
    """Return a literal text as a moment, ``None`` where it names none."""
    number = instant(literal) if isinstance(literal, str) else None
    return None if number is None else Timestamp(number)
