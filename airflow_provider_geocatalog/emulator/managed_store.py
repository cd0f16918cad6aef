"""
Where the files of managed storage really are: below a folder, served by the emulator itself, or in Azurite.

Stored documents name them by addresses that lead nowhere (:data:`CANONICAL_URL`); what a client reads holds the address
under which that client reaches managed storage.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import threading
import uuid
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from airflow_provider_geocatalog.emulator.azurite_store import AzuriteStore
from airflow_provider_geocatalog.emulator.managed import (
    SasIssuer,
    SasToken,
    collection_asset_folder,
    collection_asset_name,
    container_name,
    item_folder,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from airflow_provider_geocatalog.emulator.settings import EmulatorSettings

__all__ = ["MANAGED_PREFIX", "ManagedStorage", "ManagedStore", "StorageError", "located", "managed_url"]

#: Below a prefix that the service does not use.
MANAGED_PREFIX = "/_emulator/managed"
CANONICAL_URL = "https://managed-storage.invalid"
_STAGING = ".staging"  # no container is called so: its name ends in a hash
_PLAIN_NAME = re.compile(r"(?!\.{1,2}$)[^\\/%\x00-\x1f:*?\"<>|]{1,200}")


class StorageError(Exception):
    """
    A refusal of Blob storage.

    :param status: HTTP status code.
    :param code: Azure's storage error code.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


class ManagedStore(Protocol):
    """
    What keeps the files of managed storage in containers.

    :cvar is_slow: Whether a file is better put there before the world is locked.
    """

    is_slow: bool

    def container(self, collection_id: str) -> str:
        """Return the name of a collection's container."""

    def issue(self, sas: SasIssuer, container: str, now: float, lifetime: float) -> SasToken:
        """Return a token for reading and listing a container, as :meth:`SasIssuer.issue`."""

    def has(self, container: str, folder: str) -> bool:
        """Return whether there are blobs in a folder."""

    def put(self, container: str, name: str, file: Path) -> None:
        """Make a file a blob."""

    def delete(self, container: str, folder: str) -> None:
        """Delete the blobs in a folder, if there are any."""

    def delete_container(self, container: str) -> None:
        """Delete a container, if it is there."""


class LazyFolder:
    """
    A folder that is made when it is needed first.

    :param given: Where it is; if nowhere, it is a temporary one that goes with the process.
    :param keeps_staged: Whether files that an earlier process staged there may still be stored.
    """

    def __init__(self, given: Path | None, *, keeps_staged: bool = False) -> None:
        self._path, self._keeps_staged = given, keeps_staged
        self._made = False

    @property
    def may_hold_files(self) -> bool:
        """Whether it is there."""
        return self._path is not None and self._path.is_dir()

    def make(self) -> Path:
        """Return its path; now it is there."""
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix="geocatalog-emulator-"))
            weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)
        if not self._made:
            self._path.mkdir(parents=True, exist_ok=True)
            if not self._keeps_staged:
                shutil.rmtree(self._path / _STAGING, ignore_errors=True)
            (self._path / _STAGING).mkdir(exist_ok=True)
            self._made = True
        return self._path


class FolderStore:
    """
    Containers below a folder; the emulator serves them.

    :param folder: The folder.
    """

    is_slow = False

    def __init__(self, folder: LazyFolder) -> None:
        self._folder = folder
        self._hashed: dict[str, str] = {}

    def container(self, collection_id: str) -> str:
        """Return the name of a collection's container."""
        return container_name(collection_id)

    def issue(self, sas: SasIssuer, container: str, now: float, lifetime: float) -> SasToken:
        """Return a token that :class:`SasIssuer` knows again."""
        return sas.issue(container, now, lifetime)

    def has(self, container: str, folder: str) -> bool:
        """Return whether there are blobs in a folder."""
        return self._folder.may_hold_files and self._path(container, folder).is_dir()

    def put(self, container: str, name: str, file: Path) -> None:
        """Put a file into a container; it stays where it is as well, at no cost where links can be made."""
        target = self._path(container, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(file)
        except OSError:
            shutil.copyfile(file, target)

    def delete(self, container: str, folder: str) -> None:
        """Delete the blobs in a folder."""
        if self._folder.may_hold_files:
            shutil.rmtree(self._path(container, folder), ignore_errors=True)

    def delete_container(self, container: str) -> None:
        """Delete a container."""
        self.delete(container, "")

    def find(self, container: str, name: str) -> Path | None:
        """Return the file of a blob, ``None`` where there is none."""
        if not self._folder.may_hold_files or not all(name.split("/")):
            return None
        file = self._path(container, name)
        try:
            return file if file.is_file() else None
        except OSError:  # a name that is too long for any file
            return None

    def blobs(self, container: str) -> list[tuple[str, Path]]:
        """Return names and files of the blobs in a container."""
        if not self._folder.may_hold_files:
            return []
        folder = self._path(container, "")
        files = [(file.relative_to(folder).parts, file) for file in folder.rglob("*") if file.is_file()]
        return [("/".join(self._hashed.get(part, part) for part in parts), file) for parts, file in files]

    def _path(self, container: str, name: str) -> Path:
        # Names that are no plain file names (dots only, too long) get a hash for one, so that none leads elsewhere.
        parts = (container, *(part for part in name.split("/") if part))
        return self._folder.make().joinpath(*(self._part(part) for part in parts))

    def _part(self, part: str) -> str:
        if _PLAIN_NAME.fullmatch(part):
            return part
        hashed = "%" + hashlib.sha256(part.encode("utf-8", "replace")).hexdigest()[:32]
        self._hashed[hashed] = part
        return hashed


@dataclass(frozen=True)
class _Staged:
    """Files of an item by the names of their blobs, and the folder of these in its container."""

    collection_id: str
    container: str
    folder: str
    files: dict[str, Path]

    def forget(self) -> None:
        for file in self.files.values():
            file.unlink(missing_ok=True)


class ManagedStorage:
    """
    The files of collections and items, in the documented layout (7.4, 7.5).

    Files of an item are staged while it is prepared, and become blobs when it is stored. Where that is slow, those of
    an item that has no blobs yet are put there at once: its folder is claimed for them.

    With a state file, staged files stay until it holds that the item is stored: a process that is killed before stores
    the item again when it is started again.

    :param origins: Schemes and hosts under which clients reach the emulator; it grows while the emulator runs.
    """

    def __init__(self, settings: EmulatorSettings, origins: Collection[str]) -> None:
        self._settings, self._origins = settings, origins
        self._keeps_staged = settings.state is not None
        self._folder = LazyFolder(settings.managed_folder, keeps_staged=self._keeps_staged)
        self._folders = FolderStore(self._folder)
        self._store: ManagedStore = AzuriteStore(settings.azurite) if settings.azurite else self._folders
        self._staged: dict[str, _Staged] = {}
        self._spent: list[_Staged] = []
        self._claims: dict[tuple[str, str], str] = {}  # etags by container and folder
        self._lock = threading.Lock()
        self._changed_names: set[str] = set()

    # --- addresses ----------------------------------------------------------------------------------------------

    def container(self, collection_id: str) -> str:
        """Return the name of a collection's container."""
        name = self._store.container(collection_id)
        if name != container_name(collection_id):
            self._changed_names.add(name)
        return name

    def href(self, collection_id: str, name: str) -> str:
        """Return the address of a blob for a stored document."""
        return f"{CANONICAL_URL}/{self.container(collection_id)}/{quote(name, safe=_SAFE)}"

    def container_of(self, href: str) -> str | None:
        """Return the container that a URL lies in, ``None`` where that is not managed storage."""
        account = self._settings.azurite
        if account and account.holds(href):
            return account.container_of(href) or None
        for start in self._starts():
            if href.startswith(start + "/"):
                return re.split(r"[/?#]", href[len(start) + 1 :], maxsplit=1)[0] or None
        return None

    def holds(self, href: str) -> bool:
        """Return whether a URL leads to a file of managed storage."""
        container = self.container_of(href)
        if container is None or not self._settings.azurite or href.startswith(CANONICAL_URL):
            return container is not None
        # In Azurite there are other containers as well; the names of managed ones end in the hash of what precedes,
        # unless Azure's rules for names changed that.
        return container in self._changed_names or container == container_name(container[:-9])

    def _starts(self) -> Iterable[str]:
        yield CANONICAL_URL
        if self._settings.managed_storage_url:
            yield self._settings.managed_storage_url
        yield from [origin + MANAGED_PREFIX for origin in tuple(self._origins)]

    # --- files --------------------------------------------------------------------------------------------------

    def new_file(self) -> Path:
        """Return where to put a file that shall be staged."""
        return self._folder.make() / _STAGING / uuid.uuid4().hex

    def stage(self, item: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """
        Keep the files of an item's document until the item is stored.

        :param files: By the names of their blobs.
        """
        if not files:
            return
        etag, container = item["_msft:etag"], self.container(item["collection"])
        staged = _Staged(item["collection"], container, item_folder(item["id"]), dict(files))
        self._staged[etag] = staged
        if self._store.is_slow and self._claim(etag, staged):
            try:
                self._put(staged)
            except BaseException:
                self._discard(etag)
                raise

    def commit(self, item: Mapping[str, Any]) -> None:
        """Make the staged files of an item's document its blobs, instead of those that the item had."""
        container, folder = self.container(item["collection"]), item_folder(item["id"])
        staged = self._staged.pop(item["_msft:etag"], None)
        if self._claims.pop((container, folder), None) == item["_msft:etag"]:
            if staged:
                self._spend(staged)
            return
        self._store.delete(container, folder)
        if staged:
            self._put(staged)
            self._spend(staged)

    def discard(self, item: Mapping[str, Any]) -> None:
        """Forget the staged files of an item that is not stored after all."""
        self._discard(item["_msft:etag"])

    def _discard(self, etag: str) -> None:
        staged = self._staged.pop(etag, None)
        if staged is None:
            return
        self._spend(staged)
        place = (staged.container, staged.folder)
        if self._claims.get(place) == etag:
            del self._claims[place]
            self._store.delete(*place)

    def _spend(self, staged: _Staged) -> None:
        if self._keeps_staged:
            self._spent.append(staged)
        else:
            staged.forget()

    def forget_spent(self) -> None:
        """Delete staged files that are needed no more, now that the state file knows it."""
        while self._spent:
            self._spent.pop().forget()

    def staged_files(self, item: Mapping[str, Any]) -> dict[str, str]:
        """Return names of an item's staged files by the names of their blobs, for :meth:`stage_again`."""
        staged = self._staged.get(item["_msft:etag"])
        return {name: file.name for name, file in staged.files.items()} if staged else {}

    def stage_again(self, item: Mapping[str, Any], files: Mapping[str, str]) -> None:
        """Take up the files that an earlier process staged for an item."""
        if files:
            container, folder = self.container(item["collection"]), self._folder.make() / _STAGING
            paths = {name: folder / Path(file).name for name, file in files.items()}
            self._staged[item["_msft:etag"]] = _Staged(item["collection"], container, item_folder(item["id"]), paths)

    def forget_others(self) -> None:
        """Delete staged files that belong to no item, in a process that has staged nothing yet."""
        if not self._folder.may_hold_files:
            return
        known = {file for staged in self._staged.values() for file in staged.files.values()}
        for file in (self._folder.make() / _STAGING).iterdir():
            if file not in known:
                file.unlink()

    def _claim(self, etag: str, staged: _Staged) -> bool:
        place = (staged.container, staged.folder)
        if self._store.has(*place):
            return False
        with self._lock:
            return self._claims.setdefault(place, etag) == etag

    def _put(self, staged: _Staged) -> None:
        for name, file in staged.files.items():
            self._store.put(staged.container, name, file)

    def remove_item(self, collection_id: str, item_id: str) -> None:
        """Delete an item's files."""
        self._store.delete(self.container(collection_id), item_folder(item_id))

    def add_asset(self, collection_id: str, key: str, filename: str, content: bytes) -> None:
        """Store a collection's own asset, instead of the one that it had."""
        self.remove_asset(collection_id, key)
        file = self.new_file()
        file.write_bytes(content)
        self._store.put(self.container(collection_id), collection_asset_name(key, filename), file)
        file.unlink(missing_ok=True)

    def remove_asset(self, collection_id: str, key: str) -> None:
        """Delete the file of a collection's own asset."""
        self._store.delete(self.container(collection_id), collection_asset_folder(key))

    def remove_collection(self, collection_id: str) -> None:
        """Delete all files of a collection and its items, those of cancelled operations included."""
        for etag, staged in list(self._staged.items()):
            if staged.collection_id == collection_id:
                self._discard(etag)
        self._store.delete_container(self.container(collection_id))

    # --- reading ------------------------------------------------------------------------------------------------

    def issue(self, sas: SasIssuer, container: str, now: float, lifetime: float) -> SasToken:
        """
        Return a token for reading and listing a container.

        :param sas: Issues the tokens where the emulator is the one to check them.
        :param lifetime: Seconds.
        """
        return self._store.issue(sas, container, now, lifetime)

    def find(self, sas: SasIssuer, container: str, name: str, query: str, now: float) -> Path:
        """
        Return the file of a blob that the emulator itself keeps, if the query string's SAS opens its container.

        :raises StorageError: As Blob storage refuses it.
        """
        _check_token(sas, container, query, now)
        file = self._folders.find(container, name)
        if file is None:
            raise StorageError(404, "BlobNotFound", "The specified blob does not exist.")
        return file

    def blobs(self, sas: SasIssuer, container: str, query: str, now: float) -> list[tuple[str, Path]]:
        """
        Return names and files of the blobs in a container that the emulator itself keeps, if the SAS opens it.

        :raises StorageError: As Blob storage refuses it.
        """
        _check_token(sas, container, query, now)
        return self._folders.blobs(container)


def _check_token(sas: SasIssuer, container: str, query: str, now: float) -> None:
    if not re.search(r"(^|&)sig=", query):
        raise StorageError(409, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")
    if not sas.is_valid(query, container, now):
        raise StorageError(
            403, "AuthenticationFailed", "Server failed to authenticate the request. Check the SAS token."
        )


#: Characters that ids, asset keys and folders hold, and that need no encoding in a path.
_SAFE = "/-_+,()."


def managed_url(settings: EmulatorSettings, base_url: str) -> str:
    """
    Return the address of managed storage for a client.

    :param base_url: Scheme and host under which the client reaches the emulator.
    """
    if settings.azurite:
        return settings.azurite.url
    return settings.managed_storage_url or base_url + MANAGED_PREFIX


def located(document: dict[str, Any], url: str) -> dict[str, Any]:
    """
    Return a stored item or collection with addresses of assets for a client.

    :param url: The address of managed storage for this client.
    """
    if "assets" not in document:
        return document
    assets = {}
    for key, asset in document["assets"].items():
        href = asset["href"]
        moved = href.startswith(CANONICAL_URL + "/")
        assets[key] = {**asset, "href": url + href[len(CANONICAL_URL) :]} if moved else asset
    return {**document, "assets": assets}
