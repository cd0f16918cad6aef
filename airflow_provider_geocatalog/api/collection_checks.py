"""
Look at the sections of a collection's document before anything is sent.

What has a form is in the shipped JSON schema, which editors use too; what the service wants beyond that is checked here
and in :mod:`airflow_provider_geocatalog.api.validation`. Every check returns all problems, each with its place.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from airflow_provider_geocatalog.api.colormaps import colormap_name_problems, colormap_problems
from airflow_provider_geocatalog.api.cql_check import cql_problems
from airflow_provider_geocatalog.api.validation import (
    collection_problems,
    mosaic_problems,
    render_option_problems,
    tile_settings_problems,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow_provider_geocatalog.api.located_text import Path

__all__ = [
    "DEFAULT_QUERYABLES",
    "MOST_BYTES",
    "SECTIONS",
    "THUMBNAIL",
    "asset_file_problems",
    "document_problems",
    "image_type",
    "load_schema",
    "section_problems",
]

#: What a document can say, in the order in which it is applied.
SECTIONS = ("collection", "partition_type", "queryables", "render_options", "mosaics", "tile_settings", "assets")
#: Every collection has these queryables, and nobody can change them (geocatalog-api 7.7).
DEFAULT_QUERYABLES = ("id", "datetime", "geometry")
THUMBNAIL = "thumbnail"  # the key of the asset that is the collection's picture (geocatalog-api 7.4)
#: No limit is documented; these keep what cannot be meant out of memory.
MOST_BYTES, _MOST_THUMBNAIL_BYTES = 100 * 2**20, 10 * 2**20
#: How files of pictures that browsers show begin.
_IMAGES = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
_QUOTED = re.compile(r"'([^']+)'")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@functools.cache
def load_schema() -> dict[str, Any]:
    """Return the JSON schema of a collection's document."""
    file = resources.files("airflow_provider_geocatalog") / "schemas" / "collection.schema.json"
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


def document_problems(document: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """Check the names of the members of a document; the sections have a check of their own."""
    return list(_unknown_keys((), document, load_schema()["properties"]))


def section_problems(section: str, value: Any) -> list[tuple[Path, str]]:
    """
    Check a section.

    :param section: One of ``SECTIONS``.
    :param value: What it says; a path has been read before.
    """
    said = list(_CHECKS[section](value))
    places = {tuple(path) for path, _ in said}
    # The checks above say it better than a schema does, so it has the word only where they are silent.
    return said + [
        (path, message)
        for path, message, always in _schema_problems(section, value)
        if always or tuple(path) not in places
    ]


def _schema_problems(section: str, value: Any) -> Iterator[tuple[Path, str, bool]]:
    import jsonschema  # type: ignore[import-untyped]

    schema = load_schema()
    definitions = schema["definitions"]
    kind = f"{section}_object" if section == "partition_type" and isinstance(value, dict) else section
    if section == "collection" and isinstance(value, dict):
        value = {name: member for name, member in value.items() if member is not None}  # null is no member
    for error in jsonschema.Draft7Validator({**definitions[kind], "definitions": definitions}).iter_errors(value):
        path = tuple(error.absolute_path)
        if error.validator == "additionalProperties":
            for place, message in _unknown_keys(path, error.instance, error.schema["properties"]):
                yield place, message, True
        elif error.validator == "minItems" and not path:
            yield path, "it is empty; leave the section out if it is not to be managed", False
        else:
            place = ".".join(map(str, [section, *path]))
            yield path, f"{place}: {_shortened(error.message)}", False


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:90]} ... {text[-90:]}"


def _unknown_keys(path: Path, value: Mapping[str, Any], known: Iterable[str]) -> Iterator[tuple[Path, str]]:
    names = list(known)
    for name in value:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"
            yield (*path, name), f"unknown key {name!r}{hint}"


# --- the sections ----------------------------------------------------------------------------------------------------


def _collection(value: Any) -> Iterator[tuple[Path, str]]:
    for sentence in collection_problems(value):
        yield _place(value, sentence), sentence
    if not isinstance(value, dict):
        return
    known = [*load_schema()["definitions"]["collection"]["properties"]]
    for name in value:
        # Extensions bring members of their own, with a prefix; without one it may be a slip of the pen.
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if ":" not in name and name not in known and close:
            yield (name,), f"unknown key {name!r}; did you mean {close[0]!r}?"


def _place(value: Any, sentence: str) -> tuple[str | int, ...]:
    """Return where the member stands that a sentence quotes (``'extent.spatial.bbox[0]'``), if there is one."""
    for quoted in _QUOTED.findall(sentence):
        path: tuple[str | int, ...] = tuple(name or int(index) for name, index in _STEP.findall(quoted))
        for length in range(len(path), 0, -1):
            if _has(value, path[:length]):
                return path[:length]
    return ()


def _has(value: Any, path: Path) -> bool:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _entries(value: Any, what: str, member: str, check: Callable[[list[Any]], list[str]]) -> Iterator[tuple[Path, str]]:
    """Check the objects of a list one by one, so that each problem has a place; no two may have the same name."""
    if not isinstance(value, list):
        yield (), f"{what}s are a list, not {type(value).__name__}"
        return
    seen: set[Any] = set()
    for index, entry in enumerate(value):
        for sentence in check([entry]):
            yield (index, *_place(entry, sentence)), sentence.replace("number 1 ", f"number {index + 1} ")
        name = entry.get(member) if isinstance(entry, dict) else None
        if isinstance(name, str) and name in seen:
            yield (index, member), f"{what} {member} {name!r} occurs more than once"
        seen.add(name if isinstance(name, str) else None)


def _render_options(value: Any) -> Iterator[tuple[Path, str]]:
    yield from _entries(value, "render option", "id", render_option_problems)
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        options = entry.get("options") if isinstance(entry, dict) else None
        if not isinstance(options, str):
            continue
        for name, text in parse_qsl(options, keep_blank_values=True):
            check = {"colormap": colormap_problems, "colormap_name": colormap_name_problems}.get(name)
            for sentence in check(text) if check else ():
                yield (index, "options"), f"render option {entry.get('id')!r}: {sentence}"


def _mosaics(value: Any) -> Iterator[tuple[Path, str]]:
    yield from _entries(value, "mosaic", "id", mosaic_problems)
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        cql = entry.get("cql") if isinstance(entry, dict) else None
        for number, expression in enumerate(cql if isinstance(cql, list) else ()):
            for path, sentence in cql_problems(expression) if isinstance(expression, dict) else ():
                yield (index, "cql", number, *path), f"mosaic {entry.get('id')!r}: {sentence}"


def _tile_settings(value: Any) -> Iterator[tuple[Path, str]]:
    for sentence in tile_settings_problems(value):
        yield _place(value, sentence), sentence


def _queryables(value: Any) -> Iterator[tuple[Path, str]]:
    yield from _entries(value, "queryable", "name", lambda entries: [])
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        if not isinstance(entry, dict):
            continue
        if entry.get("name") in DEFAULT_QUERYABLES:
            yield (index, "name"), f"every collection has the queryable {entry['name']!r}, and it cannot be changed"
        if isinstance(entry.get("definition"), dict):
            yield from _definition_problems(entry["definition"], (index, "definition"))


def _definition_problems(definition: dict[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    import jsonschema

    try:
        jsonschema.Draft7Validator.check_schema(definition)
    except jsonschema.SchemaError as error:
        yield (*path, *error.absolute_path), f"the definition is no JSON schema: {_shortened(error.message)}"


def _nothing(value: Any) -> Iterator[tuple[Path, str]]:
    return iter(())


_CHECKS: dict[str, Callable[[Any], Iterator[tuple[Path, str]]]] = {
    "collection": _collection,
    "partition_type": _nothing,
    "queryables": _queryables,
    "render_options": _render_options,
    "mosaics": _mosaics,
    "tile_settings": _tile_settings,
    "assets": _nothing,
}


# --- files -----------------------------------------------------------------------------------------------------------


def image_type(content: bytes) -> str | None:
    """Return the media type of a picture, ``None`` for anything else."""
    return next((media_type for media_type, begin in _IMAGES.items() if begin.match(content)), None)


def asset_file_problems(key: str, content: bytes, media_type: str | None) -> list[str]:
    """
    Check the file of a collection's asset.

    :param media_type: What the document says that it is, if it does.
    """
    most = _MOST_THUMBNAIL_BYTES if key == THUMBNAIL else MOST_BYTES
    if not content or len(content) > most:
        return [f"the file of the asset {key!r} has {len(content)} bytes; it may have 1 to {most}"]
    found = image_type(content)
    if key == THUMBNAIL and found is None:
        return [f"the thumbnail is no picture that browsers show ({', '.join(_IMAGES)})"]
    if media_type in _IMAGES and found != media_type:
        return [f"the file of the asset {key!r} is {found or 'something else'}, not {media_type}"]
    return []
