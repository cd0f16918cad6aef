"""Azurite, Microsoft's emulator of Azure Storage, as ingestion source and as the place of managed storage."""

from __future__ import annotations

import datetime
import mimetypes
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from airflow_provider_geocatalog.emulator.managed import SasIssuer, SasToken, azure_container_name

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DEV_ACCOUNT", "DEV_KEY", "AzuriteAccount", "AzuriteStore", "is_signed"]

#: The account that every Azurite has, as its documentation publishes it; it opens nothing else.
DEV_ACCOUNT = "devstoreaccount1"
DEV_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_API_VERSION = "2021-12-02"  # of Blob storage; Azurite refuses those that are newer than itself
_TIMEOUT = 10.0  # seconds, of connecting and of each read
_READ_SECONDS = 3600.0  # how long a token for the emulator's own reading is good
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class AzuriteAccount:
    """
    A storage account in Azurite.

    :param url: Its blob endpoint; without a path, ``name`` becomes the path.
    :param name: The account's name.
    :param key: The account's key, base64.
    """

    url: str
    name: str = DEV_ACCOUNT
    key: str = field(default=DEV_KEY, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError("the URL of Azurite has to be like http://127.0.0.1:10000")
        if not parts.path.strip("/"):
            parts = parts._replace(path=f"/{self.name}")
        object.__setattr__(self, "url", parts.geturl().rstrip("/"))

    def holds(self, url: str) -> bool:
        """Return whether a URL leads into a container of this account, by any name of this machine."""
        try:
            own, other = urlsplit(self.url), urlsplit(url)
            same_host = own.hostname == other.hostname or {own.hostname, other.hostname} <= _LOOPBACK
            same_port = own.port == other.port
        except ValueError:  # no port, brackets that hold no address
            return False
        return same_host and same_port and own.scheme == other.scheme and other.path.startswith(own.path + "/")

    def container_of(self, url: str) -> str:
        """Return the container that a URL of this account leads into."""
        return unquote(urlsplit(url).path[len(urlsplit(self.url).path) + 1 :].partition("/")[0])

    def service(self) -> Any:
        """Return a client with the account's key."""
        from azure.storage.blob import BlobServiceClient  # an optional dependency, and slow to import

        return BlobServiceClient(
            self.url,
            credential={"account_name": self.name, "account_key": self.key},
            api_version=_API_VERSION,
            connection_timeout=_TIMEOUT,
            read_timeout=_TIMEOUT,
            retry_total=1,
        )

    def check(self) -> None:
        """
        Ask the account for an answer.

        :raises RuntimeError: There is none, the key is wrong, or Azure's client is not installed.
        """
        try:
            from azure.core.exceptions import AzureError

            service = self.service()
        except ImportError:
            raise RuntimeError("Azurite needs the package azure-storage-blob: install the extra 'azurite'") from None
        try:
            service.get_account_information()
        except (AzureError, ValueError):  # an answer's text is long and tells no more
            raise RuntimeError(f"Azurite does not answer at {self.url}, or has another key for it") from None

    def issue(self, container: str, lifetime: float = _READ_SECONDS) -> SasToken:
        """
        Return a token for reading and listing a container, made with the account's key.

        It counts by the machine's clock, since Azurite has no other.
        """
        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        start = datetime.datetime.fromtimestamp(int(time.time()), datetime.UTC)
        end = start + datetime.timedelta(seconds=lifetime)
        text = generate_container_sas(
            self.name,
            container,
            account_key=self.key,
            permission=ContainerSasPermissions(read=True, list=True),
            start=start,
            expiry=end,
        )
        return SasToken(text, end.timestamp())


def is_signed(url: str) -> bool:
    """Return whether a URL brings its own signature."""
    return "sig" in parse_qs(urlsplit(url).query)


class AzuriteStore:
    """
    Managed storage in Azurite, which checks signatures itself.

    It remembers which blobs there are: nobody else changes these containers, and asking takes long.

    :param account: Where.
    """

    is_slow = True

    def __init__(self, account: AzuriteAccount) -> None:
        self._account = account
        self._client: Any = None
        #: Names of blobs by folder, by container; of containers that were looked at.
        self._names: dict[str, dict[str, set[str]]] = {}
        self._present: set[str] = set()
        self._lock = threading.Lock()

    def container(self, collection_id: str) -> str:
        """Return the name of a collection's container, one that Azurite accepts."""
        return azure_container_name(collection_id)

    def issue(self, sas: SasIssuer, container: str, now: float, lifetime: float) -> SasToken:
        """Return a token that Azurite accepts."""
        return self._account.issue(container, lifetime)

    def has(self, container: str, folder: str) -> bool:
        """Return whether there are blobs in a folder."""
        return bool(self._folders(container).get(folder))

    def put(self, container: str, name: str, file: Path) -> None:
        """Upload a file."""
        from azure.storage.blob import ContentSettings

        folders = self._folders(container)
        with self._lock:
            if container not in self._present:
                self._service.create_container(container)
                self._present.add(container)
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        client = self._service.get_blob_client(container, name)
        with file.open("rb") as content:
            client.upload_blob(content, overwrite=True, content_settings=ContentSettings(content_type=media_type))
        folders.setdefault(_folder(name), set()).add(name)

    def delete(self, container: str, folder: str) -> None:
        """Delete the blobs in a folder."""
        names = self._folders(container).pop(folder, set())
        for name in names:
            self._service.get_blob_client(container, name).delete_blob()

    def delete_container(self, container: str) -> None:
        """Delete a container."""
        self._folders(container)
        with self._lock:
            if container in self._present:
                self._service.delete_container(container)
            self._present.discard(container)
            self._names.pop(container, None)

    @property
    def _service(self) -> Any:
        if self._client is None:
            self._client = self._account.service()
        return self._client

    def _folders(self, container: str) -> dict[str, set[str]]:
        with self._lock:
            if container not in self._names:
                folders: dict[str, set[str]] = {}
                client = self._service.get_container_client(container)
                if client.exists():
                    self._present.add(container)
                    for name in client.list_blob_names():
                        folders.setdefault(_folder(name), set()).add(name)
                self._names[container] = folders
            return self._names[container]


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
