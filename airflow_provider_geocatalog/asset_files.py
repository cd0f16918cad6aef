"""Which files of items are downloaded, and where they go: names and hrefs in items were written by others."""

from __future__ import annotations

import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["AssetChoice", "AssetFile", "Destination", "LocalFile", "asset_files", "file_name"]

_CHUNK = 256 * 1024  # bytes
_LONGEST_NAME = 200  # bytes; file systems take 255, of which a file that is not whole yet needs some
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}")


@dataclass(frozen=True)
class AssetFile:
    """
    A file to download.

    :param href: As the item has it.
    :param name: Where it goes: names of folders and of the file.
    :param checksum: Multihash in hex, if the item has one.
    """

    item_id: str
    key: str
    href: str
    name: tuple[str, ...]
    checksum: str | None = None


@dataclass(frozen=True)
class AssetChoice:
    """
    The assets that are downloaded: those that meet every condition that is given; all of them, without any.

    :param keys: Keys, of which it has one.
    :param roles: Roles, of which it has one at least.
    :param media_types: Media types, of which it has one; one without parameters stands for those with any.
    """

    keys: frozenset[str] | None = None
    roles: frozenset[str] | None = None
    media_types: frozenset[str] | None = None

    def takes(self, key: str, asset: Mapping[str, Any]) -> bool:
        """Return whether an asset is chosen."""
        roles = asset.get("roles")
        return (
            (self.keys is None or key in self.keys)
            and (self.roles is None or (isinstance(roles, list) and any(role in self.roles for role in roles)))
            and (self.media_types is None or self._is_of(asset.get("type")))
        )

    def _is_of(self, media_type: Any) -> bool:
        if not isinstance(media_type, str):
            return False
        wanted = {_normal(one) for one in self.media_types or ()}
        return bool({_normal(media_type), _normal(media_type.split(";")[0])} & wanted)


def _normal(media_type: str) -> str:
    return ";".join(part.strip().lower() for part in media_type.split(";"))


def file_name(text: str) -> str:
    """
    Return a text as the name of one file or folder, different ones for different texts.

    What is no plain character is percent-encoded, and so is a dot at the beginning; what is too long ends in a hash.
    """
    name = quote(text, safe=" +=,()@~")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if not name:
        return "%00"
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 33]}~{_hash(text)}"
    return name


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def asset_files(item: Any, collection_id: str, choice: AssetChoice) -> list[AssetFile]:
    """
    Return the files of an item to download, named ``collection/item/asset key.extension``.

    :param item: A STAC Item as the service gives it.
    """
    assets = item.get("assets") if isinstance(item, dict) else None
    found: list[AssetFile] = []
    taken: set[str] = set()
    # All of them in one order, so that a name does not hang on which others are chosen.
    for key, asset in sorted(assets.items()) if isinstance(assets, dict) else ():
        if not isinstance(asset, dict) or not isinstance(asset.get("href"), str):
            continue
        extension = _extension(asset["href"])
        name = file_name(key)[:_LONGEST_NAME] + extension
        if name.lower() in taken:
            name = f"{file_name(key)[: _LONGEST_NAME - 33]}~{_hash(key)}{extension}"
        taken.add(name.lower())
        if choice.takes(key, asset):
            checksum = asset.get("file:checksum")
            item_id = str(item["id"])
            where = (file_name(collection_id), file_name(item_id), name)
            found.append(AssetFile(item_id, key, asset["href"], where, checksum if isinstance(checksum, str) else None))
    return found


def _extension(href: str) -> str:
    try:
        suffix = PurePosixPath(unquote(urlsplit(href).path)).suffix
    except ValueError:
        return ""
    return suffix if _SUFFIX.fullmatch(suffix) else ""


class Destination(ABC):
    """A file that is to be written."""

    #: Whether what was written of it is worth something to a later try.
    keeps: bool = False

    @property
    @abstractmethod
    def path(self) -> str:
        """Where it is, for people and for later tasks."""

    @abstractmethod
    def exists(self) -> bool:
        """Return whether it is there, whole."""

    def kept(self) -> tuple[int, str | None]:
        """Return how many bytes an earlier try has left, and the ETag of the file that they are of."""
        return 0, None

    def read_kept(self) -> Iterator[bytes]:
        """Yield what an earlier try has left."""
        return iter(())

    @abstractmethod
    def open(self, etag: str | None, *, append: bool) -> IO[bytes]:
        """
        Begin to write, or go on.

        :param etag: Of the file that is downloaded.
        :param append: Whether after what was written before.
        """

    @abstractmethod
    def finish(self) -> None:
        """Make what was written, and closed, the file."""

    @abstractmethod
    def discard(self) -> None:
        """Remove what was written."""


class LocalFile(Destination):
    """
    A file on disk. While it is not whole it has another name, and its ETag beside it.

    :param path: The file.
    """

    keeps = True

    def __init__(self, path: Path) -> None:
        self._path = path
        # No name of an asset begins with a dot.
        self._part = path.with_name(f".{path.name}.part")
        self._note = path.with_name(f".{path.name}.part.json")

    @property
    def path(self) -> str:
        """The path."""
        return str(self._path)

    def exists(self) -> bool:
        """Return whether it is there."""
        return self._path.exists()

    def kept(self) -> tuple[int, str | None]:
        """Return how many bytes an earlier try has left, and their ETag."""
        try:
            etag = json.loads(self._note.read_text())["etag"]
            return (self._part.stat().st_size, etag) if isinstance(etag, str) else (0, None)
        except (OSError, ValueError, KeyError, TypeError):
            return 0, None

    def read_kept(self) -> Iterator[bytes]:
        """Yield what an earlier try has left."""
        with self._part.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def open(self, etag: str | None, *, append: bool) -> IO[bytes]:
        """Begin to write."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if append:
            return self._part.open("ab")
        self._note.unlink(missing_ok=True)  # first: it must not be taken for that of another file
        file = self._part.open("wb")
        if etag is not None:
            self._note.write_text(json.dumps({"etag": etag}))
        return file

    def finish(self) -> None:
        """Make it the file."""
        os.replace(self._part, self._path)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what was written."""
        self._note.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)
