"""What Airflow lends to sources of items: connections and object storage."""

from __future__ import annotations

import base64
import os
import secrets
import tempfile
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from airflow_provider_geocatalog.api.errors import GeoCatalogForeignUrl, GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.redaction import redact
from airflow_provider_geocatalog.lineage import record_file
from airflow_provider_geocatalog.provider_info import CONNECTION_TYPE
from airflow_provider_geocatalog.transfer.storage import LocalEnvironment, WholeFile, hidden

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.providers.common.compat.sdk import Connection, ObjectStoragePath

__all__ = ["AirflowEnvironment"]


class AirflowEnvironment(LocalEnvironment):
    """
    Where sources run as part of an Airflow task.

    Paths are what Airflow's object storage takes (``s3://``, ``abfs://``, ``gs://`` and what else is installed, with
    the connection in the path or beside it), http(s) addresses, and files of the worker.
    """

    def __init__(self) -> None:
        super().__init__()
        self._by_connection: dict[str, Mapping[str, str]] = {}

    def headers(self, conn_id: str | None, url: str) -> Mapping[str, str]:
        """
        Return the HTTP headers that a connection stands for, and see to it that logs never show them.

        These are the object ``headers`` in its extra; else its password, as a bearer token, or together with a login;
        or, of a GeoCatalog's connection, the token of its identity.

        :param url: Whose origin they are for; that of a GeoCatalog's connection is the GeoCatalog.
        :raises GeoCatalogInvalidInput: It holds nothing of that, or does not open the URL.
        :raises GeoCatalogError: The GeoCatalog's connection gives no token.
        """
        if conn_id is None:
            return {}
        known = self._by_connection.get(conn_id)
        if known is not None:
            return known
        from airflow.providers.common.compat.sdk import BaseHook

        conn = BaseHook.get_connection(conn_id)
        if conn.conn_type == CONNECTION_TYPE:
            from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

            client = GeoCatalogHook(conn_id).client
            try:
                client.require_own(url)
            except GeoCatalogForeignUrl:
                raise GeoCatalogInvalidInput(
                    f"connection {conn_id!r} opens {client.settings.url} only, and its token goes nowhere else: "
                    f"{redact(url)} needs a connection of its own"
                ) from None
            # Not kept: the token's end is the hook's business.
            return _masked({"Authorization": f"Bearer {client.tokens.get()}"})
        return self._by_connection.setdefault(conn_id, _masked(_headers_of(conn)))

    def open(self, path: str, mode: str = "rb", conn_id: str | None = None) -> IO[Any]:
        """Open a file, and tell Airflow's hook lineage of it."""
        file = super().open(path, mode, conn_id)
        record_file(self, path, writes=mode != "rb")
        return file

    def _open_file(self, path: str, mode: str, conn_id: str | None) -> IO[Any]:
        if _is_local(path):
            return super()._open_file(path, mode, conn_id)
        target = _stored(path, conn_id)
        if mode == "rb":
            return cast("IO[Any]", target.fs.open(target.path, "rb"))
        draft = os.path.join(tempfile.gettempdir(), f"{secrets.token_hex(16)}.part")
        # One upload, which a store takes as a whole or not at all.
        return cast("IO[Any]", WholeFile(draft, lambda draft: target.fs.put_file(draft, target.path), private=True))

    def _list_files(self, path: str, conn_id: str | None) -> Iterable[str]:
        if _is_local(path):
            return super()._list_files(path, conn_id)
        stored = _stored(path, conn_id)
        files, root = stored.fs, stored.path
        if files.isfile(root):
            return [path]
        if files.isdir(root):
            prefix = root.rstrip("/") + "/"
            found = [name for name in files.find(root) if not hidden(name.removeprefix(prefix))]
        else:
            found = [name for name in files.glob(root) if files.isfile(name)] if any(c in root for c in "*?[") else []
        scheme, _, rest = path.partition("://")
        user, at, _ = rest.split("/", 1)[0].rpartition("@")
        return (f"{scheme}://{user}{at}{name.lstrip('/')}" for name in found)


def _is_local(path: str) -> bool:
    return urlsplit(path).scheme == "file" or "://" not in path


def _stored(path: str, conn_id: str | None) -> ObjectStoragePath:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        stored = ObjectStoragePath(path, conn_id=conn_id)
        _ = stored.fs
    except (ValueError, ImportError) as error:  # such as a scheme whose provider is not installed
        raise GeoCatalogInvalidInput(f"{redact(path)} cannot be opened: {redact(str(error))}") from error
    return stored


def _headers_of(conn: Connection) -> dict[str, str]:
    headers = conn.extra_dejson.get("headers")
    if headers is not None:
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            raise GeoCatalogInvalidInput(f"'headers' in the extra of connection {conn.conn_id!r} is no object of texts")
        return headers
    if conn.password and not conn.login:
        return {"Authorization": f"Bearer {conn.password}"}
    if conn.login:
        pair = base64.b64encode(f"{conn.login}:{conn.password or ''}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    raise GeoCatalogInvalidInput(
        f"connection {conn.conn_id!r} holds neither 'headers' in its extra nor a password, so it opens nothing"
    )


def _masked(headers: dict[str, str]) -> dict[str, str]:
    from airflow.providers.common.compat.sdk import mask_secret

    for value in headers.values():
        mask_secret(value)
        mask_secret(value.partition(" ")[2])  # an Authorization's credential by itself
    return headers
