"""The connections that the demonstration gives to Airflow, and the ones that it is given."""

from __future__ import annotations

import base64
import datetime
import json
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from airflow_provider_geocatalog.auth import ConnectionSettings

__all__ = [
    "GEOCATALOG_VARIABLE",
    "STORAGE_CONN_ID",
    "STORAGE_VARIABLE",
    "Storage",
    "connection_fields",
    "geocatalog_connection",
    "geocatalog_settings",
    "mint_sas",
]

GEOCATALOG_VARIABLE = "AIRFLOW_CONN_GEOCATALOG_DEFAULT"
STORAGE_CONN_ID = "geocatalog_storage"
STORAGE_VARIABLE = f"AIRFLOW_CONN_{STORAGE_CONN_ID.upper()}"
_SAS_LIFE = datetime.timedelta(days=7)
_SAS_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Storage:
    """
    A blob container and the SAS token to read it with.

    :param url: The container's URL.
    :param sas_token: Query string without ``?``; empty for none.
    """

    url: str
    sas_token: str = field(default="", repr=False)

    def connection(self) -> str:
        """Return the container as an Airflow connection in JSON."""
        return json.dumps({"conn_type": "generic", "host": self.url, "extra": {"sas_token": self.sas_token}})


def geocatalog_connection(url: str, token: str) -> str:
    """Return the connection to a GeoCatalog that takes a fixed token, in JSON."""
    extra = {"auth_method": "static_token"}
    return json.dumps({"conn_type": "geocatalog", "host": url, "password": token, "extra": extra})


def geocatalog_settings(connection: str) -> ConnectionSettings:
    """
    Read a GeoCatalog connection as Airflow has it in an environment variable.

    :raises GeoCatalogInvalidInput: It cannot be used.
    :raises ValueError: It cannot be read.
    """
    return ConnectionSettings.from_fields(**connection_fields(connection))


def given_storage(connection: str, catalog_url: str) -> Storage:
    """
    Return the container that a storage connection is for.

    :param connection: The connection as Airflow has it in an environment variable.
    :param catalog_url: A catalog in that container, used where the connection does not name the container.
    :raises ValueError: It cannot be read.
    """
    fields = connection_fields(connection)
    parts = urlsplit(catalog_url)
    container = parts.path.strip("/").split("/")[0]
    url = str(fields["host"] or "")
    if "://" not in url:
        url = f"{parts.scheme}://{parts.netloc}/{container}"
    token = str(fields["extra"].get("sas_token") or fields["password"] or "")
    return Storage(url.rstrip("/"), token.lstrip("?"))


def connection_fields(text: str) -> dict[str, Any]:
    """
    Read a connection in JSON or as a URI, as Airflow does, without Airflow.

    Importing Airflow here would take seconds, and would make a home for it in the user's own folder.

    :return: ``host``, ``schema``, ``port``, ``login``, ``password`` and ``extra``.
    :raises ValueError: It is neither.
    """
    if text.lstrip().startswith("{"):
        document = json.loads(text)
        fields = {name: document.get(name) for name in ("host", "schema", "login", "password")}
        port, extra = document.get("port"), document.get("extra") or {}
        return {
            **fields,
            "port": int(port) if port else None,
            "extra": json.loads(extra) if isinstance(extra, str) else extra,
        }
    kind, separator, rest = text.partition("://")
    if not kind or not separator:
        raise ValueError("it is neither JSON nor a URI")
    protocol = ""
    if "://" in rest.split("?")[0]:
        protocol, _, rest = rest.partition("://")
    parts = urlsplit(f"//{rest}")
    host = unquote(parts.hostname or "")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return {
        "host": f"{protocol}://{host}" if protocol else host,
        "schema": unquote(parts.path[1:]) or None,
        "port": parts.port,
        "login": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "extra": json.loads(query["__extra__"]) if "__extra__" in query else query,
    }


def mint_sas(now: datetime.datetime | None = None) -> str:
    """
    Return a container SAS token with a random signature: list and read, for a week. The emulator takes any signature.

    :param now: The present time, aware.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    fields = {
        "sv": "2024-11-04",
        "st": (now - datetime.timedelta(minutes=5)).strftime(_SAS_TIME),
        "se": (now + _SAS_LIFE).strftime(_SAS_TIME),
        "sr": "c",
        "sp": "rl",
        "sig": base64.b64encode(secrets.token_bytes(32)).decode(),
    }
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())
