"""One way to call a client in both of its forms, the documents to send, and the list of scenarios."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.auth import ConnectionSettings, StaticTokenCredential, TokenSource
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from airflow_provider_geocatalog.api.dialects import Dialect
    from airflow_provider_geocatalog.emulator import EmulatorServer

FORMS = ("blocking", "async")
SAS = "sv=2023-01-03&st=2020-01-01T00:00:00Z&se=2099-12-31T23:59:59.5Z&sr=c&sp=rl&sig=made-up-signature"


class Api:
    """
    Call a client's methods, blocking or on the event loop; lists are read to their end.

    :param form: ``blocking`` or ``async``.
    :param folder: Served as the private container ``private``.
    """

    def __init__(self, server: EmulatorServer, dialect: Dialect, form: str, folder: Path) -> None:
        self.emulator, self.dialect, self.form, self.folder = server.emulator, dialect, form, folder
        self.container = f"{server.url}/_emulator/storage/private"
        credential = StaticTokenCredential(server.emulator.admin_token)
        self.client = GeoCatalogClient(
            ConnectionSettings(server.url, dialect=dialect, requests_per_second=1000),
            tokens=TokenSource(lambda: credential, "scope", "the emulator's token"),
            rate_limit=RateLimit(),
        )

    def start(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Return what a method gives in its form: a value or something to await, an iterator or an async one."""
        method = getattr(self.client, name)
        return (method if self.form == "blocking" else method.aio)(*arguments, **options)

    async def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Return what a method returns; a list for an iterator."""
        result = self.start(name, *arguments, **options)
        if isinstance(result, Iterator):
            return list(result)
        if isinstance(result, AsyncIterator):
            return [entry async for entry in result]
        return result if self.form == "blocking" else await result

    async def take(self, number: int, name: str, *arguments: Any, **options: Any) -> list[Any]:
        """Return the first entries of a list, reading no further."""
        entries = self.start(name, *arguments, **options)
        if self.form == "blocking":
            return [next(entries) for _ in range(number)]
        return [await anext(entries) for _ in range(number)]

    async def wait(self, started: Any) -> Any:
        return await self.call("wait", started, timeout=30, poll_interval=0.01)

    async def wait_for_run(self, *ids: str, **options: Any) -> Any:
        return await self.call("wait_for_run", *ids, timeout=30, poll_interval=0.01, **options)

    def has(self, name: str) -> bool:
        return self.dialect.has(ENDPOINTS[name])

    def sent(self, name: str) -> list[Any]:
        """Return the requests of an operation that the emulator answered."""
        return [request for request in self.emulator.requests if request.operation == name]

    def exercised(self) -> set[str]:
        """Return the operations that succeeded, all of them in the client's api-version."""
        assert {request.query["api-version"] for request in self._to_the_service()} <= {self.dialect.api_version}
        return {
            request.operation
            for request in self._to_the_service()
            if request.status in ENDPOINTS[request.operation].success
        }

    def _to_the_service(self) -> list[Any]:
        return [request for request in self.emulator.requests if request.operation is not None]

    async def add_collection(self, collection_id: str = "demo", **members: Any) -> dict[str, Any]:
        """Create a collection and return it as it is read."""
        finished = await self.wait(await self.call("create_collection", collection(collection_id, **members)))
        return finished.resource

    async def add_items(self, *items: dict[str, Any], collection_id: str = "demo") -> Any:
        """Create items and return their operation."""
        body = {"type": "FeatureCollection", "features": list(items)}
        return (await self.wait(await self.call("create_item", collection_id, body))).operation

    def write(self, path: str, document: Any) -> str:
        """Write a file of the container and return its URL."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document))
        return f"{self.container}/{path}"

    def catalog(self, *items: dict[str, Any]) -> str:
        """Write a static catalog into the container and return its URL."""
        links = []
        for one in items:
            self.write(f"items/{one['id']}.json", one)
            links.append({"rel": "item", "href": f"items/{one['id']}.json"})
        document = {"type": "Catalog", "stac_version": "1.0.0", "id": "source", "description": "x", "links": links}
        return self.write("catalog.json", document)

    async def add_source(self) -> Any:
        """Make the container readable for ingestions."""
        info = {"containerUrl": self.container, "sasToken": SAS}
        return await self.call("create_source", {"kind": "SasToken", "connectionInfo": info})


@dataclass(frozen=True)
class Scenario:
    """
    Something that a user does from beginning to end.

    :param needs: Operations without which an api-version cannot have it.
    :param import_type: Import type without which an api-version cannot have it.
    :param settings: Settings of the emulator.
    """

    play: Callable[[Api], Awaitable[None]]
    needs: tuple[str, ...] = ()
    import_type: str = "StaticCatalog"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.play.__name__

    def fits(self, dialect: Dialect) -> bool:
        return self.import_type in dialect.import_types and all(dialect.has(ENDPOINTS[name]) for name in self.needs)


SCENARIOS: list[Scenario] = []


def scenario(*needs: str, import_type: str = "StaticCatalog", **settings: Any) -> Callable[..., Any]:
    """Register an async function as a scenario."""

    def register(play: Callable[[Api], Awaitable[None]]) -> Callable[[Api], Awaitable[None]]:
        SCENARIOS.append(Scenario(play, needs, import_type, settings))
        return play

    return register


def collection(collection_id: str = "demo", **members: Any) -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": collection_id,
        "description": "a test",
        "license": "CC-BY-4.0",
        "links": [],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        **members,
    }


HREF = "https://example.com/data/image.tif"


def item(item_id: str, *, at: tuple[float, float] = (8.0, 47.0), **members: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "geometry": {"type": "Point", "coordinates": list(at)},
        "bbox": [*at, *at],
        "properties": {"datetime": "2024-01-01T00:00:00Z"},
        "links": [],
        "assets": {"image": {"href": HREF, "type": "image/tiff"}},
        **members,
    }


def is_recent(moment: Any) -> bool:
    """Return whether a time is an aware one, in UTC, of a few moments ago."""
    assert isinstance(moment, dt.datetime), moment
    assert moment.utcoffset() == dt.timedelta(0)
    return abs(dt.datetime.now(dt.UTC) - moment) < dt.timedelta(minutes=5)


def contains(found: dict[str, Any], sent: dict[str, Any], *, but: tuple[str, ...] = ()) -> bool:
    """Return whether a document holds every member that was sent, but for those that the service sets."""
    assert {name: found.get(name) for name in sent if name not in but} == {
        name: value for name, value in sent.items() if name not in but
    }
    return True
