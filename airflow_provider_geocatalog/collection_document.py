"""
One collection as a document: read it with the files that it names, check it as a whole, and write one.

Everything that is wrong is said at once, each with file and line, before anything is sent.
"""

from __future__ import annotations

import json
import mimetypes
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urljoin, urlsplit

from airflow_provider_geocatalog.api.collection_checks import (
    MOST_BYTES,
    SECTIONS,
    asset_file_problems,
    document_problems,
    image_type,
    section_problems,
)
from airflow_provider_geocatalog.api.collection_plan import WantedAsset, WantedCollection
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.http import FilePart
from airflow_provider_geocatalog.api.located_text import LocatedText, dump_yaml, parse_text
from airflow_provider_geocatalog.api.validation import collection_id_problems, refuse

if TYPE_CHECKING:
    from airflow_provider_geocatalog.api.flows.collection_export import ExportedCollection
    from airflow_provider_geocatalog.api.located_text import Path as Place
    from airflow_provider_geocatalog.client import GeoCatalogClient

__all__ = ["Reader", "document_text", "load_collection_document", "read_location", "require_supported"]

_WEB = frozenset({"http", "https"})
_TIMEOUT = 30.0  # seconds to fetch a file
_UNREADABLE = (OSError, ValueError, ImportError)  # what a reader raises; the last, of a storage that is not installed
#: Returns the bytes at a path or URL.
Reader: TypeAlias = Callable[[str], bytes]


def read_location(location: str) -> bytes:
    """Return the bytes at a path, a ``file:`` URL or an http(s) URL."""
    scheme = urlsplit(location).scheme
    if scheme in _WEB:
        return _fetch(location)
    return Path(unquote(urlsplit(location).path) if scheme == "file" else location).read_bytes()


def _fetch(url: str) -> bytes:
    import requests

    with requests.get(url, timeout=_TIMEOUT, stream=True) as answer:  # its errors are OSErrors
        answer.raise_for_status()
        content = b""
        for chunk in answer.iter_content(2**20):
            content += chunk
            if len(content) > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES} bytes")
    return content


def load_collection_document(document: str | Mapping[str, Any], *, read: Reader = read_location) -> WantedCollection:
    """
    Read and check a document.

    :param document: Path or URL of a YAML or JSON document, its text, or the document itself. Paths in it are relative
        to it, or to the working directory if it has no place of its own.
    :param read: Reads it and the files that it names.
    :raises GeoCatalogInvalidInput: Everything that is wrong, in one message.
    """
    return _Loader(read).load(document)


class _Loader:
    """Reads one document and gathers what is wrong with it."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._base = ""
        self._problems: list[str] = []

    def load(self, document: str | Mapping[str, Any]) -> WantedCollection:
        """Return what the document says, or raise everything that is wrong with it."""
        text = self._open(document)
        whole = text.value
        if not isinstance(whole, dict):
            raise GeoCatalogInvalidInput(f"{text.name}: a collection's document is an object, not {_kind(whole)}")
        for path in text.repeated:
            self._say(text, path, f"the key {path[-1]!r} occurs more than once")
        for path, problem in document_problems(whole):
            self._say(text, path, problem)
        sections = {name: self._section(text, name) for name in SECTIONS if whole.get(name) is not None}
        collection_id = self._collection_id(text, sections.get("collection"))
        assets = self._assets(text) if isinstance(sections.get("assets"), dict) else None
        refuse("the document of a collection cannot be used", self._problems)
        return _wanted(collection_id, sections, assets)

    def _say(self, text: LocatedText, path: Place, problem: str) -> None:
        said = f"{text.where(path)}: {problem}"
        if said not in self._problems:
            self._problems.append(said)

    def _open(self, document: str | Mapping[str, Any]) -> LocatedText:
        if not isinstance(document, str):
            try:
                return LocatedText("document", json.loads(json.dumps(document, allow_nan=False)))
            except (TypeError, ValueError) as error:
                raise GeoCatalogInvalidInput(f"the document cannot be written as JSON: {error}") from error
        if "\n" in document or document.lstrip().startswith("{"):
            return parse_text(document, "document")
        self._base = document
        try:
            return self._parsed(document)
        except GeoCatalogInvalidInput:
            raise
        except _UNREADABLE as error:
            # Without the cause: requests puts the whole URL into what it raises.
            raise GeoCatalogInvalidInput(f"{document} cannot be read: {_reason(error)}") from None

    def _parsed(self, location: str) -> LocatedText:
        return parse_text(self._read(location).decode(), location)

    def _section(self, text: LocatedText, name: str) -> Any:
        """Return what a section says and note what is wrong with it; a path is read."""
        own_id = text.value.get("id")
        value: Any = text.value[name]
        path: Place = (name,)
        if isinstance(value, str) and name not in {"partition_type", "assets"}:
            try:
                text = self._parsed(_joined(self._base, value))
            except GeoCatalogInvalidInput as error:
                self._problems += error.problems
                return None
            except _UNREADABLE as error:
                self._say(text, (name,), f"{value} cannot be read: {_reason(error)}")
                return None
            value, path = text.value, ()
            for repeated in text.repeated:
                self._say(text, repeated, f"the key {repeated[-1]!r} occurs more than once")
        if name == "collection" and isinstance(value, dict):
            value = {"id": own_id, **value}
        for place, problem in section_problems(name, value):
            self._say(text, (*path, *place), problem)
        return value

    def _collection_id(self, text: LocatedText, collection: Any) -> str:
        whole = text.value
        own = collection.get("id") if isinstance(collection, dict) else None
        if collection is None and whole.get("collection") is not None and "id" not in whole:
            return ""  # it could not be read, which has been said
        collection_id = whole.get("id") or own
        for problem in collection_id_problems(collection_id) if "id" in whole or not own else ():
            self._say(text, ("id",), problem)
        if own is not None and own != collection_id:
            self._say(text, ("id",), f"the document is of {collection_id!r}, but its collection has the id {own!r}")
        return str(collection_id)

    def _assets(self, text: LocatedText) -> tuple[WantedAsset, ...]:
        found = []
        for key, asset in text.value["assets"].items():
            if not isinstance(asset, dict):
                continue
            members = {name: value for name, value in asset.items() if name != "file" and value is not None}
            file = None
            if isinstance(asset.get("file"), str):
                file = self._file(text, key, asset["file"], asset.get("type"))
            found.append(WantedAsset(key, members, file))
        return tuple(found)

    def _file(self, text: LocatedText, key: str, location: str, media_type: str | None) -> FilePart | None:
        try:
            content = self._read(_joined(self._base, location))
        except _UNREADABLE as error:
            self._say(text, ("assets", key, "file"), f"{location} cannot be read: {_reason(error)}")
            return None
        for problem in asset_file_problems(key, content, media_type):
            self._say(text, ("assets", key, "file"), problem)
        name = posixpath.basename(unquote(urlsplit(location).path)) or key
        guessed = media_type or image_type(content) or mimetypes.guess_type(name)[0]
        return FilePart(name, content, guessed or "application/octet-stream")


def _wanted(
    collection_id: str, sections: Mapping[str, Any], assets: tuple[WantedAsset, ...] | None
) -> WantedCollection:
    def entries(name: str) -> tuple[Mapping[str, Any], ...] | None:
        return tuple(sections[name]) if name in sections else None

    partition_type = sections.get("partition_type")
    return WantedCollection(
        collection_id,
        sections.get("collection"),
        partition_type["scheme"] if isinstance(partition_type, dict) else partition_type,
        entries("queryables"),
        entries("render_options"),
        entries("mosaics"),
        sections.get("tile_settings"),
        assets,
    )


def _kind(value: Any) -> str:
    return "empty" if value is None else type(value).__name__


def _reason(error: Exception) -> str:
    answer = getattr(error, "response", None)
    if answer is not None:
        return f"{answer.status_code} {answer.reason or ''}".strip()
    if getattr(error, "request", None) is not None:  # one of requests, whose text has the URL's query
        return type(error).__name__
    return getattr(error, "strerror", None) or str(error)


def _joined(base: str, location: str) -> str:
    """Return the place of a file that a document names, relative to the document."""
    if urlsplit(base).scheme in _WEB:
        joined = urljoin(base, location)
        if urlsplit(joined).scheme not in _WEB:  # it would be read here, and sent
            raise ValueError("a document from the web can name files on the web only")
        return joined
    if "://" in location or location.startswith("/"):
        return location
    scheme, separator, rest = base.rpartition("://")
    return f"{scheme}{separator}{posixpath.normpath(posixpath.join(posixpath.dirname(rest), location))}"


def require_supported(wanted: WantedCollection, client: GeoCatalogClient) -> None:
    """
    Refuse a document that the connection's api-version cannot bring about.

    :raises GeoCatalogInvalidInput: Every operation that it lacks.
    """
    problems = []
    for request in wanted.uncommon_writes():
        try:
            client.check(request)
        except GeoCatalogInvalidInput as error:
            problems += error.problems
    refuse("the document of a collection cannot be used", problems)


def document_text(exported: ExportedCollection, name: str) -> str:
    """
    Return an exported document as text.

    :param name: Name of its file; ``.json`` at its end makes it JSON, anything else YAML.
    """
    if name.lower().endswith(".json"):
        return json.dumps(exported.document, indent=2, ensure_ascii=False) + "\n"
    return dump_yaml(exported.document)
