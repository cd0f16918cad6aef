"""Look at items before they are sent: at each by itself, at ids that clash, and at where their assets are."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.redaction import redact, signatures
from airflow_provider_geocatalog.api.validation import collection_id_problems, item_problems, refuse
from airflow_provider_geocatalog.transfer.extension_schemas import (
    ASSET_FIELDS,
    BAND_FIELDS,
    COMMON_FIELDS,
    DATA_FIELDS,
    LINK_FIELDS,
    extension_of,
    is_number,
    members_problems,
    moment_problem,
    shown,
)
from airflow_provider_geocatalog.transfer.transforms import carries_signature
from airflow_provider_geocatalog.transfer.windows import moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from airflow_provider_geocatalog.api.flows.preflight import KnownSources
    from airflow_provider_geocatalog.transfer.extension_schemas import Extension, Rule

__all__ = ["MAX_ITEM_BYTES", "HrefCheck", "ItemChecker", "SeenIds"]

log = logging.getLogger(__name__)

#: The service refuses items above a size that it does not tell (``ItemSizeExceeded``); this bound is ours.
MAX_ITEM_BYTES = 10 * 1024 * 1024
_MAX_DEPTH = 64  # levels of lists and objects; ours too, and more than any item has
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_MOST_PROBLEMS = 20  # told of an item
_SENTENCE = 400  # characters
_MOST_CONTAINERS = 100  # probed; items that lead to more are not what somebody meant
_MOST_UNCHECKED = 100  # extensions that are remembered
_MOST_COMBINATIONS = 256  # of extensions, kept with their rules
_OLDER, _NEWER = ("1.0.0", "1.1.0")
#: An href without anything that has to be looked at.
_PLAIN_HREF = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,4})?(/[^\s\\?#@\x00-\x1f]*)?")
_SCHEMA_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,4})?(/[!-~]*)?")
_UNWANTED = re.compile(r"[\s\\\x00-\x1f]")
_SCHEMES = ("http", "https")
#: What signatures look like in JSON, to be found in a microsecond.
_HINTS_OF_SIGNATURE = ("sig=", "sig%3D", "sig%3d")
#: How deep positions are nested in the coordinates of a geometry.
_LEVELS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_FEWEST = {"LineString": 2, "MultiLineString": 2, "Polygon": 4, "MultiPolygon": 4}  # positions of a line or ring
_RINGS = frozenset({"Polygon", "MultiPolygon"})
_ROUNDING = 1e-6  # degrees beyond the ends of the world
#: How far a geometry may reach out of its box: as a part of the box's size, and in degrees.
_SLACK, _LEAST_SLACK = 0.1, 0.1


class ItemChecker:
    """
    Looks at items as they would be sent, with no network.

    ``unchecked_extensions`` holds the schemas of those extensions that items name and nothing here knows.

    :param collection_id: The collection that the items are for.
    :param max_item_bytes: The largest size of an item as JSON; ``None`` for no bound.
    :param schemas: Whether the fields of the core and of extensions are looked at.
    :param schema_folder: A folder of official schemas of extensions, as files (``.json``) that say what they are in
        ``$id``. They are taken instead of what is known here, and cost milliseconds an item.
    :param allow_signatures: Whether hrefs may carry a signature.
    :param local: Whether the GeoCatalog is on this machine (the emulator), which may read ``file:`` URLs.
    :raises GeoCatalogInvalidInput: The folder has no schemas, or they cannot be used.
    """

    def __init__(
        self,
        collection_id: str,
        *,
        max_item_bytes: int | None = MAX_ITEM_BYTES,
        schemas: bool = True,
        schema_folder: str | Path | None = None,
        allow_signatures: bool = False,
        local: bool = False,
    ) -> None:
        problems = collection_id_problems(collection_id)
        if max_item_bytes is not None and (type(max_item_bytes) is not int or max_item_bytes < 1):
            problems.append("max_item_bytes is a positive whole number")
        folder: Any = schema_folder  # whatever somebody has given
        if folder is not None and not isinstance(folder, str | Path):
            problems.append(f"the folder of schemas has to be a path, not {type(folder).__name__}")
        refuse("items cannot be checked", problems)
        self._collection_id = collection_id
        self._max_bytes = max_item_bytes
        self._schemas = schemas
        self._official = _read_schemas(Path(schema_folder)) if schemas and schema_folder is not None else {}
        self._allow_signatures = allow_signatures
        self._schemes = (*_SCHEMES, "file") if local else _SCHEMES
        self._rules: dict[tuple[str, ...], _Rules] = {}
        self.unchecked_extensions: set[str] = set()

    def problems(self, item: Any, *, text: str | None = None) -> list[str]:
        """
        Return everything that is wrong with an item, in sentences without secrets; never raises, whatever it is.

        :param item: What is taken for a STAC Item.
        :param text: It as JSON, where that is at hand.
        """
        found = self._problems(item, text)
        if len(found) > _MOST_PROBLEMS:
            found[_MOST_PROBLEMS:] = [f"and {len(found) - _MOST_PROBLEMS} more problems"]
        return [_as_sentence(problem) for problem in found]

    def _problems(self, item: Any, text: str | None) -> list[str]:
        if not isinstance(item, dict):
            return [f"it is {shown(item)}, not an object"]
        try:
            if text is None:
                text = json.dumps(item, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            content = text.encode()
            if self._max_bytes is not None and len(content) > self._max_bytes:
                return [f"it has {len(content)} bytes as JSON; at most {self._max_bytes} are sent"]
            if _is_too_deep(content):
                raise RecursionError
            try:
                found = self._content_problems(item, text)
            except TypeError:
                found = ["a name is no text"]
            # Python's own values, such as tuples, can be fine as JSON.
            return self._content_problems(json.loads(text), text) if found else []
        except UnicodeEncodeError:
            return ["it has half a character (a lone surrogate), which no UTF-8 can carry"]
        except RecursionError:
            return [f"it is nested in more than {_MAX_DEPTH} levels"]
        except (TypeError, ValueError, OverflowError) as error:
            return [_why_no_json(item, error)]

    def _content_problems(self, item: dict[str, Any], text: str) -> list[str]:
        problems = item_problems(item, self._collection_id)
        if item.get("collection") is None:
            problems.append(f"'collection' is missing; it has to be {self._collection_id!r}")
        problems += _time_problems(item)
        problems += _place_problems(item)
        problems += self._href_problems(item, text)
        if self._schemas:
            problems += self._schema_problems(item)
        return list(dict.fromkeys(problems))

    # --- hrefs --------------------------------------------------------------------------------------------------------

    def _href_problems(self, item: dict[str, Any], text: str) -> list[str]:
        problems = []
        for key, asset in _entries(item.get("assets")):
            href = asset.get("href")
            # A relative one has been told already.
            if isinstance(href, str) and "://" in href and not _PLAIN_HREF.fullmatch(href):
                problems += [f"asset {key!r}: its 'href' {problem}" for problem in self._url_problems(href)]
        if self._allow_signatures:
            return problems
        signed = False
        for place, href in _hrefs(item):
            if isinstance(href, str) and "?" in href and carries_signature(href):
                signed = True
                problems.append(f"{place}: its 'href' carries a signature or token, which would be stored in it")
        if not signed and any(hint in text for hint in _HINTS_OF_SIGNATURE) and signatures(text):
            problems.append("a signature is in it, which would be stored with it")
        return problems

    def _url_problems(self, url: str) -> Iterator[str]:
        if _UNWANTED.search(url):
            yield "has a space, a backslash or a control character; write them percent-encoded"
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 - reading it is what checks it
        except ValueError as error:
            yield f"is no URL ({error})"
            return
        if parts.scheme not in self._schemes:
            yield f"is a {parts.scheme}: URL, which the service does not read"
        elif not parts.hostname and parts.scheme != "file":
            yield "has no host"
        if parts.username is not None or parts.password is not None:
            yield "has a user name or a password"

    # --- schemas ------------------------------------------------------------------------------------------------------

    def _schema_problems(self, item: dict[str, Any]) -> list[str]:
        version, uris = item.get("stac_version"), item.get("stac_extensions")
        newer = version == _NEWER
        problems = []
        if version and version not in (_OLDER, _NEWER):
            problems.append(f"'stac_version' is {shown(version)}; {_OLDER} and {_NEWER} are known")
        if isinstance(uris, list):
            problems += _list_of_extensions_problems(uris)
        elif "stac_extensions" in item and not uris:
            problems.append(f"'stac_extensions' is {shown(uris)}, not a list")
        named = tuple(uri for uri in uris if isinstance(uri, str)) if isinstance(uris, list) else ()
        rules = self._rules_for(named, newer=newer)
        problems += rules.problems(item)
        for uri in dict.fromkeys(named):
            validator = self._official.get(uri.removesuffix("#"))
            if validator is not None:
                problems += _official_problems(item, validator, uri)
        return problems

    def _rules_for(self, uris: tuple[str, ...], *, newer: bool) -> _Rules:
        key = (_NEWER if newer else _OLDER, *uris)
        rules = self._rules.get(key)
        if rules is None:
            extensions = []
            for uri in uris:
                if uri.removesuffix("#") in self._official:
                    continue
                extension = extension_of(uri)
                if extension is not None:
                    extensions.append(extension)
                elif len(self.unchecked_extensions) < _MOST_UNCHECKED:
                    self._note_unchecked(redact(uri))
            rules = _Rules(extensions, newer=newer)
            if len(self._rules) >= _MOST_COMBINATIONS:
                self._rules.clear()
            self._rules[key] = rules
        return rules

    def _note_unchecked(self, uri: str) -> None:
        if uri not in self.unchecked_extensions:
            self.unchecked_extensions.add(uri)
            log.info("Items name the extension %s, whose fields nothing here knows; they are not checked.", uri)


def _as_sentence(problem: str) -> str:
    problem = redact(problem[: 4 * _SENTENCE])
    return problem if len(problem) <= _SENTENCE else problem[:_SENTENCE] + "..."


def _entries(assets: Any) -> list[tuple[str, dict[str, Any]]]:
    found = assets.items() if isinstance(assets, dict) else ()
    return [(key, asset) for key, asset in found if isinstance(asset, dict)]


def _links(item: dict[str, Any]) -> list[dict[str, Any]]:
    links = item.get("links")
    return [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []


def _hrefs(item: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield all hrefs with where they are."""
    for key, asset in _entries(item.get("assets")):
        yield f"asset {key!r}", asset.get("href")
        for name, other in _entries(asset.get("alternate")):
            yield f"alternate {name!r} of asset {key!r}", other.get("href")
    for link in _links(item):
        yield f"link {shown(link.get('rel'))}", link.get("href")


# --- what JSON can carry ----------------------------------------------------------------------------------------------


def _is_too_deep(content: bytes) -> bool:
    """Return whether JSON is nested too deeply; ten times faster than a walk through what it says."""
    brackets = content.translate(None, _ALL_BUT_BRACKETS)
    for _ in range(_MAX_DEPTH):
        inner = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if inner == brackets:
            break
        brackets = inner
    # What is left is deeper, or there are brackets in texts.
    return bool(brackets) and _depth(json.loads(content)) > _MAX_DEPTH


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            one
            for container in level
            for one in (container.values() if isinstance(container, dict) else container)
            if isinstance(one, dict | list)
        ]
    return depth


def _why_no_json(item: dict[str, Any], error: Exception) -> str:
    """Say which value it is that JSON has no words for."""
    todo: list[tuple[str, Any]] = [("", item)]
    containers = set()
    while todo:
        where, value = todo.pop()
        if isinstance(value, dict | list | tuple):
            if id(value) in containers:
                continue  # an item that holds itself would never end
            containers.add(id(value))
        if isinstance(value, dict):
            todo += [(f"{where}.{name}" if where else str(name), one) for name, one in value.items()]
        elif isinstance(value, list | tuple):
            todo += [(f"{where}[{number}]", one) for number, one in enumerate(value)]
        elif isinstance(value, float) and not is_number(value):
            return f"'{where}' is {value}, which JSON has no number for"
        elif value is not None and not isinstance(value, str | int | float):
            return f"'{where}' is of the type {type(value).__name__}, which JSON does not have"
    return f"it cannot be written as JSON: {error}"


# --- time -------------------------------------------------------------------------------------------------------------


def _time_problems(item: dict[str, Any]) -> list[str]:
    properties = item.get("properties")
    if not isinstance(properties, dict):
        return []
    problems = []
    at = properties.get("datetime")
    if at is not None:
        problem = moment_problem(at)
        problems += [f"'properties.datetime' {problem}"] if problem else []
    start, end = properties.get("start_datetime"), properties.get("end_datetime")
    if "datetime" in properties and at is None and (start is None or end is None):
        problems.append("'properties.datetime' is null, which needs 'start_datetime' and 'end_datetime'")
    if start is None and end is None:
        return problems
    for name, value in (("start_datetime", start), ("end_datetime", end)):
        problem = moment_problem(value) if value is not None else None
        problems += [f"'properties.{name}' {problem}"] if problem else []
    if not problems and isinstance(start, str) and isinstance(end, str):
        first, last = moment(start), moment(end)
        if first is not None and last is not None and last < first:
            problems.append(f"it ends at {end}, before it begins at {start}")
    return problems


# --- place ------------------------------------------------------------------------------------------------------------


class _Bounds:
    """The box that positions lie in, and what is wrong with them."""

    def __init__(self) -> None:
        self.west = self.south = float("inf")
        self.east = self.north = float("-inf")
        self.problems: list[str] = []

    def add(self, positions: Any, kind: str) -> None:
        """Add the positions of a line, a ring or several points."""
        if not isinstance(positions, list):
            self._is_wrong(f"has {shown(positions)} where a list of positions has to be")
            return
        fewest = _FEWEST.get(kind, 1)
        if len(positions) < fewest:
            self._is_wrong(f"has {len(positions)} positions where {kind} needs {fewest}")
        sizes = set()
        for position in positions:
            if not isinstance(position, list) or len(position) not in (2, 3) or not all(map(is_number, position)):
                self._is_wrong(f"has a position that is {shown(position)}, not two or three numbers")
                return
            sizes.add(len(position))
            x, y = position[0], position[1]
            if x < self.west:
                self.west = x
            if x > self.east:
                self.east = x
            if y < self.south:
                self.south = y
            if y > self.north:
                self.north = y
        if len(sizes) > 1:
            self._is_wrong("has positions with a height and others without")
        if kind in _RINGS and positions and positions[0] != positions[-1]:
            self._is_wrong("has a ring that does not end where it begins")

    def _is_wrong(self, problem: str) -> None:
        self.problems.append(f"'geometry' {problem}")


def _place_problems(item: dict[str, Any]) -> list[str]:
    geometry, box = item.get("geometry"), item.get("bbox")
    bounds = _Bounds()
    if isinstance(geometry, dict):
        _add_geometry(geometry, bounds)
    problems = list(dict.fromkeys(bounds.problems))
    if not problems and bounds.west <= bounds.east:
        problems += _range_problems("'geometry' reaches", bounds.west, bounds.south, bounds.east, bounds.north)
    if not isinstance(box, list):
        return problems
    if len(box) not in (4, 6) or not all(map(is_number, box)):
        return [*problems, f"'bbox' is {shown(box)}, not 4 or 6 numbers"]
    half = len(box) // 2
    west, south, east, north = box[0], box[1], box[half], box[half + 1]
    of_box = _range_problems("'bbox' reaches", west, south, east, north)
    if south > north:
        of_box.append(f"'bbox' has its south {south} above its north {north}; the order is west, south, east, north")
    if half == 3 and box[2] > box[5]:
        of_box.append(f"'bbox' has its lowest height {box[2]} above its highest {box[5]}")
    if not problems and not of_box and bounds.west <= bounds.east:
        of_box += _disagreement(bounds, west, south, east, north)
    return problems + of_box


def _add_geometry(geometry: dict[str, Any], bounds: _Bounds) -> None:
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        parts = geometry.get("geometries")
        if not isinstance(parts, list) or not parts:
            bounds.problems.append("'geometry' is a GeometryCollection without 'geometries'")
            return
        for part in parts:  # nested no deeper than items are at all
            if isinstance(part, dict):
                _add_geometry(part, bounds)
            else:
                bounds.problems.append(f"'geometry' holds {shown(part)}, which is no geometry")
        return
    levels = _LEVELS.get(kind) if isinstance(kind, str) else None
    if levels is None or not isinstance(kind, str):
        bounds.problems.append(f"'geometry' is of the type {shown(kind)}, which GeoJSON does not have")
        return
    coordinates = geometry.get("coordinates")
    if not isinstance(coordinates, list) or not coordinates:
        bounds.problems.append("'geometry' has no coordinates")
        return
    groups: list[Any] = [[coordinates] if levels == 0 else coordinates]
    for _ in range(levels - 1):
        inner: list[Any] = []
        for group in groups:
            if not isinstance(group, list) or not group:
                bounds.problems.append(f"'geometry' has {shown(group)} among the coordinates of a {kind}")
                return
            inner += group
        groups = inner
    for group in groups:
        bounds.add(group, kind)


def _range_problems(what: str, west: float, south: float, east: float, north: float) -> list[str]:
    problems = []
    if min(west, east) < -180 - _ROUNDING or max(west, east) > 180 + _ROUNDING:
        problems.append(f"{what} from {west} to {east} in longitude; the world ends at -180 and 180")
    if min(south, north) < -90 - _ROUNDING or max(south, north) > 90 + _ROUNDING:
        problems.append(f"{what} from {south} to {north} in latitude; the world ends at -90 and 90")
    return problems


def _disagreement(bounds: _Bounds, west: float, south: float, east: float, north: float) -> list[str]:
    """Say that a geometry is not in its box, not even roughly."""
    out = [south - bounds.south, bounds.north - north]
    slack = [max(_LEAST_SLACK, _SLACK * (north - south))] * 2
    if west <= east:  # else the box crosses the antimeridian, and the westernmost position says nothing
        out += [west - bounds.west, bounds.east - east]
        slack += [max(_LEAST_SLACK, _SLACK * (east - west))] * 2
    if all(much <= allowed for much, allowed in zip(out, slack, strict=True)):
        return []
    return [f"'geometry' reaches {max(out):.3g} degrees out of 'bbox'"]


# --- fields -----------------------------------------------------------------------------------------------------------


def _list_of_extensions_problems(uris: Sequence[Any]) -> list[str]:
    others = [uri for uri in uris if not isinstance(uri, str) or not _SCHEMA_URL.fullmatch(uri)]
    if others:
        return [f"'stac_extensions' has {shown(others[0])}, not the URL of a schema"]
    return ["'stac_extensions' names a schema twice"] if len(set(uris)) < len(uris) else []


def _or_null(rule: Rule) -> Rule:
    return lambda value: None if value is None else rule(value)


class _Rules:
    """
    What the core and some extensions ask of an item.

    :param extensions: Extensions that are known.
    :param newer: Whether the item follows STAC 1.1.
    """

    def __init__(self, extensions: Sequence[Extension], *, newer: bool) -> None:
        fields: dict[str, Rule] = {}
        for extension in extensions:
            fields.update(extension.fields)
        common: dict[str, Rule] = {**COMMON_FIELDS, **(DATA_FIELDS if newer else {})}
        self._of_properties: dict[str, Rule] = {**common, **fields}
        self._of_assets: dict[str, Rule] = {
            **common,
            "datetime": _or_null(moment_problem),
            **ASSET_FIELDS,
            **fields,
        }
        self._of_links: dict[str, Rule] = {**common, **LINK_FIELDS} if newer else LINK_FIELDS
        self._of_bands: dict[str, Rule] = {**common, **BAND_FIELDS, **fields}
        self._newer = newer
        self._required = [(one.all_of, one.any_of) for one in extensions if one.all_of or one.any_of]
        self._of_assets_first = {name for one in extensions for name in one.of_assets}
        if newer:
            self._of_assets_first.add("bands")

    def problems(self, item: dict[str, Any]) -> list[str]:
        """Return what an item lacks or has wrong."""
        properties = item.get("properties")
        assets = _entries(item.get("assets"))
        problems = []
        if isinstance(properties, dict):
            problems += self._object_problems(properties, self._of_properties, "properties.")
            for name in self._of_assets_first:
                if name in properties and not any(name in asset for _, asset in assets):
                    problems.append(f"'properties.{name}' is there, but no asset has {name!r}")
        for key, asset in assets:
            problems += self._object_problems(asset, self._of_assets, f"assets.{key}.")
        problems += self._link_problems(item.get("links"))
        if self._required:
            problems += self._lacking(properties, [asset for _, asset in assets])
        return problems

    def _object_problems(self, members: dict[str, Any], rules: Mapping[str, Rule], where: str) -> list[str]:
        problems = members_problems(members, rules, where)
        if ("start_datetime" in members) is not ("end_datetime" in members):
            problems.append(f"'{where}start_datetime' and '{where}end_datetime' go together")
        bands = members.get("bands") if self._newer else None
        if bands is None and not (self._newer and "bands" in members):
            return problems
        if not isinstance(bands, list):
            return [*problems, f"'{where}bands' is {shown(bands)}, not a list"]
        for number, band in enumerate(bands):
            if isinstance(band, dict):
                problems += self._object_problems(band, self._of_bands, f"{where}bands[{number}].")
            else:
                problems.append(f"'{where}bands[{number}]' is {shown(band)}, not an object")
        return problems

    def _link_problems(self, links: Any) -> list[str]:
        problems = []
        for number, link in enumerate(links) if isinstance(links, list) else ():
            where = f"links[{number}]"
            if not isinstance(link, dict):
                problems.append(f"'{where}' is {shown(link)}, not an object")
                continue
            problems += [f"'{where}' has no {name!r}" for name in ("rel", "href") if name not in link]
            if self._newer:
                problems += self._object_problems(link, self._of_links, f"{where}.")
                problems += _request_problems(link, where)
            else:
                problems += members_problems(link, self._of_links, f"{where}.")
            href = link.get("href")
            if link.get("rel") == "self" and isinstance(href, str) and ":" not in href:
                problems.append(f"'{where}' is the item itself, whose URL has to be absolute")
        return problems

    def _lacking(self, properties: Any, assets: Sequence[dict[str, Any]]) -> list[str]:
        present = set(properties) if isinstance(properties, dict) else set()
        for asset in assets:
            present.update(asset)
            bands = asset.get("bands")
            for band in bands if isinstance(bands, list) else ():
                present.update(band if isinstance(band, dict) else ())
        problems = []
        for all_of, any_of in self._required:
            problems += [f"{name!r} is missing, which its extension asks for" for name in all_of if name not in present]
            if any_of and present.isdisjoint(any_of):
                problems.append(f"it has none of {', '.join(any_of)}, of which its extension asks for one")
        return problems


def _request_problems(link: dict[str, Any], where: str) -> list[str]:
    """Look at what STAC 1.1 lets a link say about the request."""
    problems = []
    method, headers = link.get("method", "GET"), link.get("headers", {})
    if not isinstance(method, str) or not re.fullmatch(r"[A-Z]+", method):
        problems.append(f"'{where}.method' is {shown(method)}, not a method of HTTP")
    values = headers.values() if isinstance(headers, dict) else [None]
    for value in values:
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str) for one in texts):
            problems.append(f"'{where}.headers' is no object of texts")
            break
    return problems


# --- official schemas -------------------------------------------------------------------------------------------------


def _read_schemas(folder: Path) -> dict[str, Any]:
    """Return validators by the ids of the schemas in a folder."""
    from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]
    from jsonschema.validators import Draft7Validator, validator_for  # type: ignore[import-untyped]
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7

    subject = f"the schemas in {folder} cannot be used"
    if not folder.is_dir():
        raise GeoCatalogInvalidInput("there is no such folder", subject=subject)
    schemas: dict[str, dict[str, Any]] = {}
    problems = []
    for file in sorted(folder.rglob("*.json")):
        try:
            schema = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"{file.name} cannot be read: {error}")
            continue
        name = schema.get("$id") if isinstance(schema, dict) else None
        if not isinstance(name, str) or not name:
            problems.append(f"{file.name} has no '$id' that says which schema it is")
            continue
        schemas[name.removesuffix("#")] = schema
    if not schemas and not problems:
        problems.append("there is no file *.json")
    known = {**_core_schemas(), **schemas}
    for name, schema in schemas.items():
        try:
            validator_for(schema, default=Draft7Validator).check_schema(schema)
        except SchemaError as error:
            problems.append(f"{name} is no JSON schema: {error.message}")
        missing = {one for one in _references(schema, name) if one not in known}
        problems += [f"{name} refers to {one}, which is not among them" for one in sorted(missing)]
    refuse(subject, problems)
    registry: Any = Registry().with_resources(
        [(name, Resource.from_contents(schema, default_specification=DRAFT7)) for name, schema in known.items()]
    )
    return {
        name: validator_for(schema, default=Draft7Validator)(schema, registry=registry)
        for name, schema in schemas.items()
    }


def _core_schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas of STAC and GeoJSON that pystac brings along, by id."""
    import pystac.validation

    folder = Path(pystac.validation.__file__).parent / "jsonschemas"
    files = [json.loads(file.read_bytes()) for file in folder.rglob("*.json")]
    return {file["$id"].removesuffix("#"): file for file in files if isinstance(file.get("$id"), str)}


def _references(schema: Any, name: str) -> Iterator[str]:
    """Yield the other schemas that a schema refers to."""
    from urllib.parse import urldefrag, urljoin

    todo = [schema]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            reference = part.get("$ref")
            if isinstance(reference, str):
                target = urldefrag(urljoin(name, reference)).url
                if target and target != urldefrag(name).url:
                    yield target
            todo += part.values()
        elif isinstance(part, list):
            todo += part


def _official_problems(item: dict[str, Any], validator: Any, uri: str) -> list[str]:
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        error = best_match(validator.iter_errors(item))
    except (Unresolvable, RecursionError, ValueError, OverflowError, re.error) as failed:
        return [f"{uri} cannot be applied: {type(failed).__name__}: {failed}"]
    if error is None:
        return []
    where = ".".join(map(str, error.absolute_path))
    return [f"{f'{where!r} ' if where else ''}does not follow {uri}: {error.message}"]


# --- ids --------------------------------------------------------------------------------------------------------------


class SeenIds:
    """
    The ids of the items that were there before, in a temporary file: memory stays flat however many they are.

    Only one thread at a time may use it.
    """

    def __init__(self) -> None:
        # Without a name it is a file that nobody else sees and that goes away by itself.
        self._names = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._names.execute("PRAGMA journal_mode = OFF")
        self._names.execute("PRAGMA synchronous = OFF")
        self._names.execute("PRAGMA cache_size = -4096")  # KiB
        self._names.execute("CREATE TABLE seen (folded BLOB PRIMARY KEY, id BLOB, content BLOB) WITHOUT ROWID")
        self._names.execute("BEGIN")

    def check(self, item_id: str, fingerprint: str) -> str:
        """
        Take note of an item, and return ``new``, ``repeated`` if just that one was there, else what clashes.

        :param item_id: Its id.
        :param fingerprint: What tells whether it is the same.
        """
        name = item_id.encode("utf-8", "surrogatepass")
        folded = item_id.casefold().encode("utf-8", "surrogatepass")
        content = hashlib.blake2b(fingerprint.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        added = self._names.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (folded, name, content))
        if added.rowcount:
            return "new"
        known_name, known_content = self._names.execute(
            "SELECT id, content FROM seen WHERE folded = ?", (folded,)
        ).fetchone()
        if known_name != name:
            other = known_name.decode("utf-8", "surrogatepass")
            return f"its id {shown(item_id)} differs from that of another item, {shown(other)}, only in case"
        if known_content != content:
            return f"another item has the same id {shown(item_id)}, with other content"
        return "repeated"

    def close(self) -> None:
        """Forget them all."""
        self._names.close()

    def __enter__(self) -> SeenIds:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


# --- containers -------------------------------------------------------------------------------------------------------


class HrefCheck:
    """
    Tells of items whose assets are where the service cannot read: in a container that has no ingestion source and is
    not public. Each container is tried once, without a credential.

    ``unknown`` holds the containers of which that cannot be told from here, with the reason.

    :param sources: The ingestion sources of the GeoCatalog.
    """

    def __init__(self, sources: KnownSources) -> None:
        self._sources = sources
        self._closed: dict[str, str | None] = {}
        self.unknown: dict[str, str] = {}

    def problems(self, item: Any) -> list[str]:
        """Return what of an item the service cannot read; blocks for some seconds if there is a new container."""
        assets_in: dict[str, list[str]] = {}
        for key, asset in _entries(item.get("assets") if isinstance(item, dict) else None):
            href = asset.get("href")
            # A signature brings along what opens it.
            if not isinstance(href, str) or not href.startswith(("http://", "https://")) or carries_signature(href):
                continue
            try:
                container = self._sources.container_of(href)
            except ValueError:
                continue  # the check of the item says so
            if self._reason(container, href) is not None:
                assets_in.setdefault(container, []).append(repr(key))
        return [
            f"container {redact(container)} has no ingestion source and is not public ({self._closed[container]}); in "
            f"it {'is asset' if len(keys) == 1 else 'are assets'} {', '.join(keys)}"
            for container, keys in assets_in.items()
        ]

    def _reason(self, container: str, sample: str) -> str | None:
        """Return why a container cannot be read; ``None`` if it can, or if nobody knows."""
        if container in self._closed:
            return self._closed[container]
        if self._sources.source_of(container) is not None:
            return None
        if len(self._closed) >= _MOST_CONTAINERS:
            self._note_unknown("the others", f"no more than {_MOST_CONTAINERS} are tried")
            return None
        from airflow_provider_geocatalog.preflight import read_anonymously

        opened_by, reason = read_anonymously(sample)
        self._closed[container] = reason if opened_by == "nothing" else None
        if opened_by == "unknown":
            self._note_unknown(container, reason)
        return self._closed[container]

    def _note_unknown(self, container: str, reason: str) -> None:
        if container not in self.unknown:
            self.unknown[container] = reason
            log.warning("Whether the service can read container %s is not known: %s", redact(container), redact(reason))
