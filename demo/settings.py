"""The demonstration's settings, from arguments and environment, checked before anything is started."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.validation import catalog_url_problems
from demo.catalog_input import InputError, is_url
from demo.connections import GEOCATALOG_VARIABLE, STORAGE_VARIABLE, Storage, geocatalog_settings, given_storage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_geocatalog.auth import ConnectionSettings

__all__ = ["Settings", "is_on", "read_settings"]

_NO = frozenset({"", "0", "no", "false", "off"})


@dataclass(frozen=True)
class Settings:
    """
    What the user asks for.

    :param catalog: Path or URL of a static catalog; empty for the demonstration's own.
    :param collection_json: Path or URL of the collection; empty to look for one.
    :param config: Folder with render options, mosaics and tile settings; empty for none.
    :param keep: Whether Airflow and the emulator stay up at the end.
    :param geocatalog: The user's own GeoCatalog connection as Airflow has it; empty for the emulator.
    :param storage: The user's own connection to the catalog's container.
    """

    catalog: str = ""
    collection_json: str = ""
    config: str = ""
    keep: bool = False
    geocatalog: str = field(default="", repr=False)
    storage: str = field(default="", repr=False)

    def own_geocatalog(self) -> ConnectionSettings | None:
        """
        Return the user's GeoCatalog; ``None`` for the emulator.

        :raises InputError: The connection cannot be used.
        """
        if not self.geocatalog:
            return None
        try:
            return geocatalog_settings(self.geocatalog)
        except GeoCatalogInvalidInput as error:
            raise InputError(f"{GEOCATALOG_VARIABLE}: {error.message}") from error
        except ValueError as error:  # its text may hold the secret
            raise InputError(f"{GEOCATALOG_VARIABLE} is neither a connection in JSON nor a URI") from error

    def own_storage(self) -> Storage | None:
        """
        Return the container of a catalog that is not served by the demonstration; ``None`` if it is public.

        :raises InputError: The connection cannot be read.
        """
        if not self.storage or not is_url(self.catalog):
            return None
        try:
            return given_storage(self.storage, self.catalog)
        except ValueError as error:
            raise InputError(f"{STORAGE_VARIABLE} is neither a connection in JSON nor a URI") from error


def is_on(text: str) -> bool:
    """Return whether the value of an environment variable asks for what it names."""
    return text.strip().lower() not in _NO


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """
    Read the settings; an argument wins over the variable of the same name.

    :raises InputError: A setting cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Ingest a static STAC catalog into a GeoCatalog with a real Airflow. Every option is also an "
        "environment variable: CATALOG, COLLECTION_JSON, CONFIG, KEEP.",
    )
    parser.add_argument("--catalog", help="path or URL of a static STAC catalog; one is made if not given")
    parser.add_argument("--collection-json", help="path or URL of the collection")
    parser.add_argument("--config", help="folder with render options, mosaics and tile settings")
    parser.add_argument("--keep", action="store_true", help="leave Airflow and the emulator up at the end")
    given = parser.parse_args(arguments)

    def setting(name: str) -> str:
        return str(getattr(given, name) or environment.get(name.upper(), "")).strip()

    settings = Settings(
        catalog=setting("catalog"),
        collection_json=setting("collection_json"),
        config=setting("config"),
        keep=given.keep or is_on(environment.get("KEEP", "")),
        geocatalog=environment.get(GEOCATALOG_VARIABLE, "").strip(),
        storage=environment.get(STORAGE_VARIABLE, "").strip(),
    )
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    if settings.config and not Path(settings.config).expanduser().is_dir():
        raise InputError(f"CONFIG {settings.config}: no such folder")
    if not settings.catalog and (settings.collection_json or settings.config):
        raise InputError("COLLECTION_JSON and CONFIG belong to a CATALOG of yours; give that as well")
    if settings.catalog and not is_url(settings.catalog):
        if "://" in settings.catalog:
            raise InputError(f"CATALOG {settings.catalog}: neither a path nor an http(s) URL")
        if not Path(settings.catalog).expanduser().exists():
            raise InputError(f"CATALOG {settings.catalog}: no such file")
    if is_url(settings.catalog) and (problems := catalog_url_problems(settings.catalog, local=True)):
        raise InputError(f"CATALOG: {problems[0]}")
    own = settings.own_geocatalog()
    settings.own_storage()
    if own and not own.is_local and not is_url(settings.catalog):
        raise InputError(
            f"the GeoCatalog of {GEOCATALOG_VARIABLE} ({own.url}) cannot read files of this machine: upload the "
            f"catalog to a blob container and pass its URL as CATALOG (and the container's SAS in {STORAGE_VARIABLE}, "
            "unless it is public)"
        )
