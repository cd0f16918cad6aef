"""From a path and an api-version to the operation, and from the operation to what carries it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from airflow_provider_geocatalog.api.dialects import DIALECTS, Dialect
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.emulator.wire import Answer, Call

if TYPE_CHECKING:
    from airflow_provider_geocatalog.api.http import Endpoint
    from airflow_provider_geocatalog.emulator.engine import Engine
    from airflow_provider_geocatalog.emulator.settings import EmulatorSettings
    from airflow_provider_geocatalog.emulator.state import World
    from airflow_provider_geocatalog.emulator.storage import Blobs

__all__ = ["HANDLERS", "Context", "Handler", "Match", "Routes", "route"]

#: Path prefix of the tiler, which the package does not model (9).
DATA_PREFIX = "/data"


@dataclass(frozen=True)
class Context:
    """What handlers work on."""

    world: World
    engine: Engine
    settings: EmulatorSettings
    blobs: Blobs


Handler = Callable[[Context, Call], Answer]


@dataclass(frozen=True)
class _Entry:
    handler: Handler
    locked: bool


HANDLERS: dict[str, _Entry] = {}


def route(*operations: Endpoint, locked: bool = True) -> Callable[[Handler], Handler]:
    """
    Register the handler of an operation.

    :param locked: Whether it runs with the world's lock held; a slow one takes the lock itself, for as long as needed.
    """

    def register(handler: Handler) -> Handler:
        for endpoint in operations:
            HANDLERS[endpoint.name] = _Entry(handler, locked)
        return handler

    return register


@dataclass(frozen=True)
class Match:
    """
    What a path leads to.

    :param endpoint: The operation; ``None`` where the path exists for other methods only.
    :param names: Values of the path's names, decoded.
    :param methods: Methods that the path has.
    """

    endpoint: Endpoint | None
    names: Mapping[str, str]
    methods: frozenset[str]


class Routes:
    """The paths of one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._by_length: dict[int, list[tuple[list[str], dict[str, Endpoint]]]] = {}
        templates: dict[str, dict[str, Endpoint]] = {}
        for endpoint in ENDPOINTS.values():
            if dialect.has(endpoint):
                templates.setdefault(dialect.template(endpoint), {})[endpoint.method] = endpoint
        # Fixed segments before names: `managed-identities` is no id of a source.
        for template in sorted(templates, key=lambda text: [part.startswith("{") for part in text.split("/")]):
            parts = template.split("/")
            self._by_length.setdefault(len(parts), []).append((parts, templates[template]))

    def match(self, raw_path: str, method: str) -> Match | None:
        """
        Return what a path leads to, ``None`` if nowhere.

        :param raw_path: The path as sent: an encoded slash belongs to a name.
        """
        segments = raw_path.split("/")
        for parts, by_method in self._by_length.get(len(segments), ()):
            names = _names(parts, segments)
            if names is not None:
                return Match(by_method.get(method), names, frozenset(by_method))
        return None


def _names(parts: list[str], segments: list[str]) -> dict[str, str] | None:
    names = {}
    for part, segment in zip(parts, segments, strict=True):
        if part.startswith("{"):
            if not segment:
                return None
            names[part[1:-1]] = unquote(segment)
        elif part != unquote(segment):
            return None
    return names


ROUTES: Mapping[str, Routes] = {dialect.api_version: Routes(dialect) for dialect in DIALECTS.values()}
