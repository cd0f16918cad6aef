"""What the GeoCatalog has for reading containers: its ingestion sources, and which container a URL lies in."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_geocatalog.api.flows.sources import all_sources, normal_container_url
from airflow_provider_geocatalog.api.http import Flow, Now

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable

    from airflow_provider_geocatalog.api.models import IngestionSource

__all__ = ["EMULATED_STORAGE", "KnownSources", "life_problem", "read_sources"]

#: Path of the containers that the emulator plays, below a prefix that the service does not use.
EMULATED_STORAGE = "/_emulator/storage"


class KnownSources:
    """
    The ingestion sources of a GeoCatalog, as they were read at one moment.

    :param sources: Sources with their containers.
    :param now: When they were read, in epoch seconds.
    :param containers: Further containers that are known, which need not have a source.
    """

    def __init__(self, sources: Iterable[IngestionSource], *, now: float, containers: Iterable[str] = ()) -> None:
        self.now = now
        self._sources = {normal_container_url(one.container_url): one for one in sources if one.container_url}
        self._containers = {*self._sources, *map(normal_container_url, containers)}
        #: Segments in the path of a container by origin. In Azure it is one; Azurite has the account before it.
        self._depths: dict[str, list[int]] = {}
        for container in self._containers:
            origin, segments = _split(container)
            depths = self._depths.setdefault(origin, [])
            depths[:] = sorted({*depths, len(segments)}, reverse=True)

    def container_of(self, url: str) -> str:
        """
        Return the container that a blob's URL lies in, in normal form.

        Where none that is known holds it, it is taken to be as deep in the path as those that are known at its origin.

        :raises ValueError: It is no URL.
        """
        origin, segments = _split(normal_container_url(url))
        depths = self._depths.get(origin) or [_usual_depth(segments)]
        candidates = [_join(origin, segments[:depth]) for depth in depths if depth < len(segments)]
        known = next((one for one in candidates if one in self._containers), None)
        return known or (candidates[0] if candidates else origin)

    def source_of(self, container: str) -> IngestionSource | None:
        """Return the source of a container, given in normal form."""
        return self._sources.get(container)


def life_problem(expires_at: datetime.datetime | None, *, now: float, min_lifetime: float) -> str | None:
    """
    Return why a credential does not live long enough, if it does not; one without an expiry does.

    :param now: Epoch seconds.
    :param min_lifetime: Seconds that it has to live from then on.
    """
    if expires_at is None or expires_at.timestamp() - now >= min_lifetime:
        return None
    if expires_at.timestamp() <= now:
        return f"expired at {expires_at.isoformat()}"
    return f"expires at {expires_at.isoformat()}, in less than the {min_lifetime:.0f} s that are asked for"


def read_sources(containers: Iterable[str] = ()) -> Flow[KnownSources]:
    """
    Read all ingestion sources.

    :param containers: Further containers that are known, which need not have a source.
    """
    now: float = yield Now()
    return KnownSources((yield from all_sources()), now=now, containers=containers)


def _split(url: str) -> tuple[str, list[str]]:
    """Return origin and path segments of a URL in normal form."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}", [one for one in parts.path.split("/") if one]


def _usual_depth(segments: list[str]) -> int:
    emulated = EMULATED_STORAGE.strip("/").split("/")
    return len(emulated) + 1 if segments[: len(emulated)] == emulated else 1


def _join(origin: str, segments: list[str]) -> str:
    return "/".join([origin, *segments])
