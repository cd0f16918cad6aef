"""
Where catalogs and assets are read from: containers that the emulator plays itself, allowed folders, and the web.

Reads are refused by the rules of Azure Blob storage and of the service's ingestion sources (5.2), and fail with the
service's error codes and recorded messages (10.3). The emulator's own containers are read from their folders directly,
by the same rules as over HTTP.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import requests
import urllib3

from airflow_provider_geocatalog.api.flows.preflight import EMULATED_STORAGE as STORAGE_PREFIX
from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.azurite_store import is_signed
from airflow_provider_geocatalog.emulator.managed_store import ManagedStorage, StorageError
from airflow_provider_geocatalog.static_catalog import CatalogError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from airflow_provider_geocatalog.emulator.settings import EmulatorSettings
    from airflow_provider_geocatalog.emulator.state import Source

__all__ = ["STORAGE_PREFIX", "Access", "AccessError", "Blobs", "StorageError"]

_MAX_DOCUMENT = 64 * 1024 * 1024  # bytes; the emulator's own bound, far above any STAC document
_CONNECT_TIMEOUT = 5.0  # seconds

_FORBIDDEN = "Forbidden access. The credentials do not grant reading, or have expired."
_PUBLIC_ACCESS = "Public access is not permitted on this storage account. Register an ingestion source for it."
_NOT_FOUND = "Resource not found. Check that the file exists."


class AccessError(CatalogError):
    """
    A document or asset could not be read.

    :param code: The service's ingestion error code.
    :param message: The service's sentence, which ends with the source.
    """

    def __init__(self, url: str, code: str, message: str) -> None:
        super().__init__(url, message, kind="unreadable")
        self.code, self.message = code, self.reason


def _resolved(path: Path) -> Path | None:
    """Return a path with its links followed, so that none leads out of a folder unseen."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):  # a NUL byte, a loop of links
        return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for any file
        return False


class Blobs:
    """
    The containers that the emulator plays, and managed storage.

    :param origins: Schemes and hosts under which clients reach the emulator; it grows while the emulator runs.
    """

    def __init__(self, settings: EmulatorSettings, origins: Collection[str]) -> None:
        self._private = dict(settings.containers)
        self._folders = {**settings.public_containers, **settings.containers}
        self._origins = origins
        self.managed = ManagedStorage(settings, origins)

    def find(self, container: str, path: str, query: str, now: float) -> Path:
        """
        Return the file of a blob if the query string's SAS allows reading it.

        :raises StorageError: As Blob storage refuses it.
        """
        if container in self._private:
            _check_sas(query, now)
        elif container not in self._folders:
            raise StorageError(404, "ContainerNotFound", "The specified container does not exist.")
        return self._file(container, path)

    def find_trusted(self, container: str, path: str) -> Path:
        """Return the file of a blob for an identity that may read it."""
        if container not in self._folders:
            raise StorageError(404, "ContainerNotFound", "The specified container does not exist.")
        return self._file(container, path)

    def _file(self, container: str, path: str) -> Path:
        folder = self._folders[container].resolve()
        file = _resolved(folder / path.lstrip("/"))
        if file is None or not file.is_relative_to(folder) or not _is_file(file):
            raise StorageError(404, "BlobNotFound", "The specified blob does not exist.")
        return file

    def address(self, url: str) -> tuple[str, str] | None:
        """Return container and path if a URL leads to a container of this emulator."""
        parts = urlsplit(url)
        if f"{parts.scheme}://{parts.netloc}" not in self._origins or not parts.path.startswith(STORAGE_PREFIX + "/"):
            return None
        container, _, path = unquote(parts.path[len(STORAGE_PREFIX) + 1 :]).partition("/")
        return container, path


def _check_sas(query: str, now: float) -> None:
    """Check what can be checked of a container SAS; the signature only has to be there, as at registration (5.2)."""
    fields = {name: values[-1] for name, values in parse_qs(query).items()}
    if "sig" not in fields:
        raise StorageError(409, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")
    try:
        start, end = wire.sas_time(query, "st"), wire.sas_time(query, "se")
    except ValueError:
        raise StorageError(403, "AuthenticationFailed", "Signature fields not well formed.") from None
    # A stored access policy ("si") may hold what the token leaves out.
    in_time = (start is None or start <= now) and (end > now if end is not None else "si" in fields)
    granted = fields.get("sr") == "c" and ("r" in fields.get("sp", "") or ("si" in fields and "sp" not in fields))
    if not in_time or not granted:
        raise StorageError(
            403, "AuthenticationFailed", "Server failed to authenticate the request. Check the SAS token."
        )


class Access:
    """
    Reads on behalf of one operation, with the ingestion sources that were registered when it began.

    An instance is a :class:`~airflow_provider_geocatalog.static_catalog.Reader`.

    :param now: Epoch seconds, for expiry.
    """

    def __init__(self, settings: EmulatorSettings, blobs: Blobs, sources: Sequence[Source], now: float) -> None:
        self._settings, self._blobs, self._sources, self._now = settings, blobs, sources, now
        self._session = requests.Session()
        self._session.auth = lambda request: request  # otherwise requests sends what .netrc holds

    @property
    def managed(self) -> ManagedStorage:
        """Where copies of assets go."""
        return self._blobs.managed

    def __call__(self, url: str) -> bytes:
        """
        Return a document.

        :raises AccessError: It cannot be read.
        """
        local = self._local_file(url)
        if local is None:
            return self._fetch(url)
        try:
            return local.read_bytes()
        except OSError:
            raise self._error(url, "IngestionResourceForbidden", _FORBIDDEN) from None

    def fetch_asset(self, url: str) -> Path | None:
        """
        Return a copy of an asset, in a file that is the caller's; ``None`` for one that is taken on trust.

        :raises AccessError: It is missing, empty or out of reach.
        """
        try:
            copied = self._copy(url)
            if copied is not None and copied.stat().st_size == 0:
                copied.unlink()
                raise AccessError(url, "EmptyAsset", f"The asset is empty. Source: {_bare(url)}")
        except AccessError as error:
            message = f"Asset transformation exception. Reason: {error.message}"
            raise AccessError(url, error.code, message) from error
        return copied

    def _copy(self, url: str) -> Path | None:
        local = self._local_file(url)
        if local is not None and self._largest_asset is not None and local.stat().st_size > self._largest_asset:
            raise self._too_large(url, self._largest_asset)
        if local is None and not self._is_in_azurite(url) and not self._settings.copy_remote_assets:
            self._token_for(url)  # the credentials of a source count all the same
            return None
        target = self._blobs.managed.new_file()
        try:
            if local is not None:
                shutil.copyfile(local, target)
            else:
                self._download(url, target)
        except OSError as error:
            target.unlink(missing_ok=True)
            if isinstance(error, requests.RequestException):  # it is an OSError too
                raise
            raise self._error(url, "IngestionResourceForbidden", _FORBIDDEN) from None
        except AccessError:
            target.unlink(missing_ok=True)
            raise
        return target

    def _download(self, url: str, target: Path) -> None:
        chunks, limits = self._chunks(url), []
        if self._largest_asset is not None:
            limits.append(self._largest_asset)
        if not self._is_in_azurite(url):
            limits.append(self._settings.max_remote_bytes)
        if limits:
            chunks = self._bounded(url, chunks, min(limits))
        with target.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)

    @property
    def _largest_asset(self) -> int | None:
        limits = self._settings.bounds
        return limits.asset_bytes if limits is not None else None

    def _too_large(self, url: str, limit: int) -> AccessError:
        return self._error(url, "AssetTransformationError", f"It is larger than {limit} bytes.")

    def _bounded(self, url: str, chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
        """Yield what is downloaded from elsewhere on the web as long as it keeps within the limits."""
        deadline = time.monotonic() + self._settings.remote_timeout
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise self._too_large(url, limit)
            if time.monotonic() > deadline:
                raise self._error(url, "IngestionResourceTimeout", "The download took too long.")
            yield chunk

    def _local_file(self, url: str) -> Path | None:
        """Return the file behind a URL that needs no network, ``None`` for any other URL."""
        if urlsplit(url).scheme == "file":
            return self._allowed_file(url)
        address = self._blobs.address(url)
        if address is None:
            return None
        token = self._token_for(url)
        try:
            if token is None and self._source_for(url) is not None:
                return self._blobs.find_trusted(*address)  # a managed identity
            return self._blobs.find(*address, token or urlsplit(url).query, self._now)
        except StorageError as error:
            raise self._refused(url, error.status, error.code) from None

    def _allowed_file(self, url: str) -> Path:
        parts = urlsplit(url)
        target = _resolved(Path(unquote(parts.path))) if parts.netloc in ("", "localhost") else None
        folders = [folder.resolve() for folder in self._settings.allowed_paths]
        if target is None or not any(target.is_relative_to(folder) for folder in folders):
            raise self._error(url, "IngestionResourceForbidden", "Forbidden access. The file is in no allowed folder.")
        if not _is_file(target):
            raise self._error(url, "IngestionResourceUriNotFound", _NOT_FOUND)
        return target

    def _source_for(self, url: str) -> Source | None:
        """Return the ingestion source whose container holds the URL, unless the URL brings its own signature."""
        if is_signed(url):
            return None
        return next((source for source in self._sources if url.startswith(source.container_url + "/")), None)

    def _token_for(self, url: str) -> str | None:
        """Return the SAS token to read a URL with, if it needs one that a source has."""
        source = self._source_for(url)
        if source is None:
            return None
        if source.kind == "BlobManagedIdentity":
            if source.object_id not in {identity.object_id for identity in self._settings.managed_identities}:
                raise self._error(
                    url, "ManagedIdentityInfoNotFound", f"Managed identity '{source.object_id}' is not attached."
                )
            return None
        token = source.sas_token or ""
        try:
            start, end = wire.sas_time(token, "st"), wire.sas_time(token, "se")
        except ValueError:
            start = end = 0.0
        if (end is not None and end <= self._now) or (start is not None and start > self._now):
            raise self._error(url, "IngestionResourceForbidden", _FORBIDDEN)
        return token

    def _is_in_azurite(self, url: str) -> bool:
        return self._settings.azurite is not None and self._settings.azurite.holds(url)

    def _fetch(self, url: str) -> bytes:
        content = b""
        for chunk in self._chunks(url):
            content += chunk
            if len(content) > _MAX_DOCUMENT:
                raise self._error(url, "ItemSizeExceeded", "The document is too large.")
        return content

    def _chunks(self, url: str) -> Iterator[bytes]:
        """Yield what is at a URL, piece by piece."""
        token = self._token_for(url)
        if token is None and self._source_for(url) is not None:
            if self._settings.azurite is None or not self._is_in_azurite(url):
                raise self._error(
                    url, "IngestionAuthenticationFailed", "A managed identity of the emulator cannot read real storage."
                )
            token = self._settings.azurite.issue(self._settings.azurite.container_of(url)).text
        timeout = (min(_CONNECT_TIMEOUT, self._settings.read_timeout), self._settings.read_timeout)
        signed = f"{url}{'&' if urlsplit(url).query else '?'}{token}" if token else url
        try:
            with self._session.get(signed, timeout=timeout, stream=True) as response:
                if response.status_code != 200:
                    code = response.headers.get("x-ms-error-code", "")
                    if code == "AuthorizationFailure" and token is None and not is_signed(url):
                        code = "PublicAccessNotPermitted"  # Azurite has another word for it
                    raise self._refused(url, response.status_code, code)
                yield from response.iter_content(1 << 16)
        except requests.Timeout:
            raise self._error(url, "IngestionResourceTimeout", "The request timed out.") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError):  # their text can hold the signed URL
            raise self._error(
                url, "IngestionResourceConnectionFailed", "Connection error. The host could not be reached."
            ) from None

    def _refused(self, url: str, status: int, code: str) -> AccessError:
        if code == "PublicAccessNotPermitted":
            return self._error(url, "PublicAccessRestricted", _PUBLIC_ACCESS)
        if status in (401, 403):
            return self._error(url, "IngestionResourceForbidden", _FORBIDDEN)
        if status in (404, 410):
            return self._error(url, "IngestionResourceUriNotFound", _NOT_FOUND)
        return self._error(url, "GenericHttpIngestionError", f"The host answered {status}.")

    def _error(self, url: str, code: str, reason: str) -> AccessError:
        source = self._source_for(url)
        kind = "public" if source is None else "sas token" if source.kind == "SasToken" else "managed identity"
        return AccessError(
            url, code, f"Error retrieving content from {kind} source. Reason: {reason} Source: {_bare(url)}"
        )


def _bare(url: str) -> str:
    return urlsplit(url)._replace(query="", fragment="").geturl()
