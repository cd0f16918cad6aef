"""JSON and YAML as values that know on which line they stand, so that problems can be told with a line number."""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LocatedText", "Path", "dump_yaml", "parse_text"]

#: Where a value stands in a document: names of members and indexes of entries, from the outside to the inside.
Path: TypeAlias = Sequence["str | int"]

_SPACE = re.compile(r"[ \t\r\n]*")
_MOST_VALUES = 500_000  # of one document: aliases of YAML can multiply without end
#: Scalars as JSON has them. YAML 1.1 would make dates of texts, a number of 12:30 and ``false`` of ``no``.
_SCALARS = {
    "tag:yaml.org,2002:null": (r"null|~|", "n~"),
    "tag:yaml.org,2002:bool": (r"true|false", "tf"),
    "tag:yaml.org,2002:int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)",
        "-+.0123456789",
    ),
    "tag:yaml.org,2002:merge": (r"<<", "<"),
}


@dataclass(frozen=True)
class LocatedText:
    """
    A parsed text.

    :param name: What it is called in messages.
    :param value: The JSON value.
    :param lines: The line of every value, by its path; empty for a value that was no text.
    :param repeated: Paths of members that occur twice; the last one counts.
    """

    name: str
    value: Any
    lines: Mapping[tuple[str | int, ...], int] = field(default_factory=dict, repr=False)
    repeated: Sequence[Path] = ()

    def where(self, path: Path) -> str:
        """Return the file and line of a value, or of what is nearest around it."""
        for length in range(len(path), -1, -1):
            line = self.lines.get(tuple(path[:length]))
            if line is not None:
                return f"{self.name}:{line}"
        return ".".join([self.name, *map(str, path)])  # it was no text


def parse_text(text: str, name: str) -> LocatedText:
    """
    Parse JSON or YAML; what begins as JSON does is JSON.

    :param name: What it is called in messages; ``.json`` at its end makes it JSON in any case.
    :raises GeoCatalogInvalidInput: It is neither, with the line of the first mistake.
    """
    text = text.removeprefix("\ufeff")
    try:
        if name.lower().endswith(".json") or text.lstrip()[:1] in {"{", "["}:
            return _parse_json(text, name)
        return _parse_yaml(text, name)
    except RecursionError as error:
        raise GeoCatalogInvalidInput(f"{name}: it is nested too deeply") from error


def _parse_json(text: str, name: str) -> LocatedText:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise GeoCatalogInvalidInput(f"{name}:{error.lineno}: this is not JSON ({error.msg})") from error
    except ValueError as error:
        raise GeoCatalogInvalidInput(f"{name}: this is not JSON ({error})") from error
    scan = _JsonLines(text)
    scan.value(0, ())
    return LocatedText(name, value, scan.lines, scan.repeated)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number in JSON")


class _JsonLines:
    """
    Finds the lines of the values of a text.

    :param text: Valid JSON.
    """

    def __init__(self, text: str) -> None:
        self.lines: dict[tuple[str | int, ...], int] = {}
        self.repeated: list[Path] = []
        self._text = text
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._decoder = json.JSONDecoder()

    def value(self, at: int, path: tuple[str | int, ...]) -> int:
        """Note the lines of the value that begins at or after ``at``; return where it ends."""
        at = self._skip(at)
        self.lines.setdefault(path, bisect.bisect_left(self._ends, at) + 1)
        opening = self._text[at]
        if opening not in "{[":
            return self._decoder.raw_decode(self._text, at)[1]
        names: set[str] = set()
        at, count = self._skip(at + 1), 0
        while self._text[at] not in "}]":
            inner: tuple[str | int, ...] = (*path, count)
            if opening == "{":
                name, end = self._decoder.raw_decode(self._text, at)
                inner = (*path, name)
                if name in names:
                    self.repeated.append(inner)
                names.add(name)
                self.lines[inner] = bisect.bisect_left(self._ends, at) + 1
                at = self._skip(end) + 1
            at, count = self._skip(self.value(at, inner)), count + 1
            if self._text[at] == ",":
                at = self._skip(at + 1)
        return at + 1

    def _skip(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        return match.end() if match else at


def _parse_yaml(text: str, name: str) -> LocatedText:
    import yaml  # type: ignore[import-untyped]

    loader = _loader_class()(text)
    try:
        node = loader.get_single_node()
        read = _YamlValues(loader)
        value = None if node is None else read.value(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise GeoCatalogInvalidInput(f"{name}{line}: this is not YAML ({error.problem or error.context})") from error
    except yaml.YAMLError as error:
        raise GeoCatalogInvalidInput(f"{name}: this is not YAML ({error})") from error
    finally:
        loader.dispose()
    return LocatedText(name, value, read.lines, read.repeated)


def _loader_class() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own name

    return _with_scalars(Loader)


def _with_scalars(cls: Any) -> Any:
    for tag, (pattern, first) in _SCALARS.items():
        beginnings = [*first, ""] if tag.endswith("null") else [*first]
        cls.add_implicit_resolver(tag, re.compile(f"(?:{pattern})\\Z"), beginnings)
    return cls


class _YamlValues:
    """Makes JSON values of YAML nodes and notes their lines."""

    def __init__(self, loader: Any) -> None:
        self.lines: dict[tuple[str | int, ...], int] = {}
        self.repeated: list[Path] = []
        self._loader = loader
        self._count = 0

    def value(self, node: Any, path: tuple[str | int, ...]) -> Any:
        """Return the value of a node."""
        import yaml

        self._count += 1
        if self._count > _MOST_VALUES:
            raise yaml.MarkedYAMLError(problem="it has too many values", problem_mark=node.start_mark)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(entry, (*path, index)) for index, entry in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        scalar = self._loader.construct_object(node)
        if scalar is not None and not isinstance(scalar, str | int | float):
            raise yaml.MarkedYAMLError(problem=f"{node.value!r} is no JSON value", problem_mark=node.start_mark)
        return scalar

    def _mapping(self, node: Any, path: tuple[str | int, ...]) -> dict[str, Any]:
        import yaml

        own = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        self._loader.flatten_mapping(node)  # "<<" takes over the members of another mapping; own ones go first
        found: dict[str, Any] = {}
        for key, member in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key has to be a text", problem_mark=key.start_mark)
            inner = (*path, key.value)
            if key.value in found and own.count(key.value) > 1:
                self.repeated.append(inner)
            self.lines[inner] = key.start_mark.line + 1
            found[key.value] = self.value(member, inner)
        return found


def dump_yaml(value: Any) -> str:
    """Return a JSON value as YAML that :func:`parse_text` reads as the same value."""
    import yaml

    class Dumper(yaml.SafeDumper):  # it quotes what YAML 1.1 would misread, too
        def ignore_aliases(self, data: Any) -> bool:
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
            return super().increase_indent(flow, False)  # entries of a list stand below their key, indented

    text: str = yaml.dump(value, Dumper=_with_scalars(Dumper), sort_keys=False, allow_unicode=True, width=110)
    if parse_text(text, "").value != value:
        return json.dumps(value, indent=2) + "\n"  # some control characters get lost in PyYAML; JSON keeps them
    return text
