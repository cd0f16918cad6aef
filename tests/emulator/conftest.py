"""An emulator over real HTTP, a client that speaks one api-version, and a builder of static catalogs."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ADMIN, READER = "admin-token", "reader-token"
FINAL = {"Succeeded", "Success", "Failed", "Canceled"}


class Client:
    """A requests session with a token and an api-version; paths are given below the emulator's URL."""

    def __init__(self, server: EmulatorServer, version: str = "2026-04-15", token: str | None = ADMIN) -> None:
        self.server, self.url = server, server.url
        self.session = requests.Session()
        self.session.params = {"api-version": version}
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"
        for method in ("get", "post", "put", "patch", "delete"):
            setattr(self, method, self._method(method))

    def _method(self, method: str) -> Callable[..., requests.Response]:
        return lambda path, *args, **options: getattr(self.session, method)(
            path if path.startswith("http") else self.url + path, *args, timeout=10, **options
        )

    def finish(self, answer: requests.Response) -> dict[str, Any]:
        """Follow an accepted operation to its end."""
        assert answer.status_code == 202, answer.text
        return self.poll(answer.headers["operation-location"], lambda body: body["status"] in FINAL)

    def poll(self, path: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 10
        while True:
            body = self.get(path).json()
            if until(body):
                return body
            assert time.monotonic() < deadline, body
            time.sleep(0.005)

    def add_collection(self, collection_id: str = "demo") -> str:
        operation = self.finish(self.post("/stac/collections", json=collection(collection_id)))
        assert operation["status"] == "Succeeded"
        return collection_id

    def add_items(self, *items: dict[str, Any], collection_id: str = "demo") -> dict[str, Any]:
        body = {"type": "FeatureCollection", "features": list(items)}
        return self.finish(self.post(f"/stac/collections/{collection_id}/items", json=body))

    def start_run(self, url: str | None, collection_id: str = "demo", **members: Any) -> str:
        """Define an ingestion, start a run of it, and return the run's path."""
        body = {"importType": "StaticCatalog", "sourceCatalogUrl": url, **members}
        ingestion = self.post(f"/inma/collections/{collection_id}/ingestions", json=body)
        assert ingestion.status_code == 201, ingestion.text
        runs = f"/inma/collections/{collection_id}/ingestions/{ingestion.json()['id']}/runs"
        run = self.post(runs)
        assert run.status_code == 201, run.text
        return f"{runs}/{run.json()['id']}"

    def run(self, url: str | None, collection_id: str = "demo", **members: Any) -> dict[str, Any]:
        """Carry a run out and return its operation."""
        path = self.start_run(url, collection_id, **members)
        self.poll(path, lambda body: body["operation"]["status"] in FINAL)
        return self.get(f"/inma/operations/{path.rsplit('/', 1)[1]}").json()

    def failures(self, operation: dict[str, Any]) -> list[dict[str, Any]]:
        return self.get(f"/_emulator/runs/{operation['id']}/failures").json()["value"]


def collection(collection_id: str, **members: Any) -> dict[str, Any]:
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


def item(item_id: str, **members: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "geometry": {"type": "Point", "coordinates": [8.0, 47.0]},
        "bbox": [8.0, 47.0, 8.0, 47.0],
        "properties": {"datetime": "2024-01-01T00:00:00Z"},
        "links": [],
        "assets": {"image": {"href": "https://example.com/data/image.tif", "type": "image/tiff"}},
        **members,
    }


class Catalogs:
    """Write static catalogs below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)

    def url(self, path: str = "catalog.json") -> str:
        return (self.folder / path).as_uri()

    def write(self, path: str, document: Any) -> str:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(document if isinstance(document, str) else json.dumps(document))
        return file.as_uri()

    def catalog(self, path: str = "catalog.json", *, items: Any = (), children: Any = (), kind: str = "Catalog") -> str:
        links = [{"rel": "item", "href": href} for href in items] + [
            {"rel": "child", "href": href} for href in children
        ]
        document = {"type": kind, "stac_version": "1.0.0", "id": f"c{next(self._numbers)}", "description": "x"}
        return self.write(path, {**document, "links": links})

    def of(self, *ids: str) -> str:
        """Write a catalog with these items."""
        for item_id in ids:
            self.write(f"items/{item_id}.json", item(item_id))
        return self.catalog(items=[f"items/{item_id}.json" for item_id in ids])


@pytest.fixture(scope="session")
def closing() -> Iterator[concurrent.futures.Executor]:
    """Where servers are closed, so that no test waits for the last one's 0.2 s."""
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        yield executor


@pytest.fixture
def serve(tmp_path: Path, closing: concurrent.futures.Executor) -> Iterator[Callable[..., EmulatorServer]]:
    """Start emulators without delays; keyword arguments are settings, and ``clock``."""
    servers = []

    def start(clock: Any = None, **settings: Any) -> EmulatorServer:
        defaults = {"admin_tokens": (ADMIN,), "reader_tokens": (READER,), "allowed_paths": (tmp_path / "allowed",)}
        server = EmulatorServer(Emulator(EmulatorSettings.fast(**{**defaults, **settings}), clock))
        servers.append(server)
        return server.__enter__()

    yield start
    for server in servers:
        closing.submit(server.close)


@pytest.fixture
def client(serve: Callable[..., EmulatorServer]) -> Client:
    return Client(serve())


@pytest.fixture
def demo(client: Client) -> Client:
    """A client of an emulator that has the collection ``demo``."""
    client.add_collection()
    return client


@pytest.fixture
def catalogs(tmp_path: Path) -> Catalogs:
    (tmp_path / "allowed").mkdir()
    return Catalogs(tmp_path / "allowed")


@pytest.fixture(scope="session")
def new_client() -> type[Client]:
    return Client


@pytest.fixture
def new_item() -> Callable[..., dict[str, Any]]:
    return item


@pytest.fixture
def new_collection() -> Callable[..., dict[str, Any]]:
    return collection
