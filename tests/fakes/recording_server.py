"""A server on 127.0.0.1 that records every request as it came, and gives each operation a fitting answer."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

OLDEST = "2024-01-31-preview"
GUID = "11111111-1111-4111-8111-111111111111"
TIME = "2026-04-16T20:41:46.06102Z"
CONTAINER = "https://acct.blob.core.windows.net/c"

OPERATION = {
    "id": GUID,
    "status": "Succeeded",
    "statusHistory": [{"status": "Pending", "timestamp": TIME}, {"status": "Finished", "timestamp": TIME}],
    "type": "AddItem",
    "creationTime": TIME,
    "collectionId": "demo",
}
SOURCE = {
    "id": GUID,
    "kind": "SasToken",
    "created": TIME,
    "connectionInfo": {"containerUrl": CONTAINER, "expiration": "2026-01-07T00:00:00.0000000Z"},
}
IDENTITY = {"objectId": GUID, "resourceId": "/subscriptions/s/resourcegroups/g/providers/p/userAssignedIdentities/n"}
INGESTION = {
    "id": GUID,
    "creationTime": TIME,
    "importType": "StaticCatalog",
    "sourceCatalogUrl": f"{CONTAINER}/catalog.json",
    "skipExistingItems": True,
    "keepOriginalAssets": True,
    "status": "Ready",
}
COUNTERS = {"totalItems": 0, "totalPendingItems": 0, "totalSuccessfulItems": 0, "totalFailedItems": 0}
RUN = {
    "id": GUID,
    "creationTime": TIME,
    "sourceCatalogUrl": f"{CONTAINER}/catalog.json",
    "skipExistingItems": True,
    "keepOriginalAssets": True,
    "operation": {"id": GUID, "status": "Pending", "statusHistory": [], "creationTime": TIME, **COUNTERS},
}
COLLECTION = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": "demo",
    "description": "a test",
    "license": "CC0-1.0",
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]}},
    "links": [],
}
ITEM = {
    "type": "Feature",
    "stac_version": "1.0.0",
    "id": "a",
    "collection": "demo",
    "geometry": {"type": "Point", "coordinates": [1.5, 2.5]},
    "bbox": [1.5, 2.5, 1.5, 2.5],
    "properties": {"datetime": "2024-01-01T00:00:00Z"},
    "assets": {},
    "links": [],
}
FEATURES = {"type": "FeatureCollection", "features": [ITEM], "links": []}
CATALOG = {
    "type": "Catalog",
    "stac_version": "1.0.0",
    "id": "spatio-stac",
    "title": "t",
    "description": "d",
    "conformsTo": [],
    "links": [],
}
SCHEMA = {"type": "object", "title": "STAC Queryables.", "properties": {}, "additionalProperties": True}
QUERYABLE = {"name": "eo:cloud_cover", "definition": {"type": "number"}, "data_type": None, "create_index": False}
MOSAIC = {"id": "m", "name": "M", "description": None, "cql": []}
RENDER_OPTION = {"id": "r", "name": "R", "type": "raster-tile", "options": "assets=image"}
TILE_SETTINGS = {"minZoom": 6, "maxItemsPerTile": 35, "defaultLocation": None}
CONFIGURATION = {
    "tileSettings": TILE_SETTINGS,
    "mosaicInfo": {"mosaics": [MOSAIC], "renderOptions": [RENDER_OPTION]},
}
IMAGE = b"pixels"

_ONE = "[^/]+"
_C = f"/collections/{_ONE}"
_S = "(?:/stac|/api)"
_I = "(?:/inma|/api)"
_CONFIG = f"{_S}{_C}/(?:configurations|config)"

#: Method, path, status, body. ``[one]`` stands for a list of the ingestion side with one entry.
_ANSWERS: list[tuple[str, str, int, Any]] = [
    # ingestion sources, definitions, runs, operations
    ("GET", f"{_I}/ingestion-sources/managed-identities", 200, [IDENTITY]),
    ("GET", f"{_I}/ingestion-sources", 200, [SOURCE]),
    ("POST", f"{_I}/ingestion-sources", 201, SOURCE),
    ("GET|PUT", f"{_I}/ingestion-sources/{_ONE}", 200, SOURCE),
    ("DELETE", f"{_I}/ingestion-sources/{_ONE}", 204, None),
    ("GET", f"{_I}{_C}/ingestions", 200, [INGESTION]),
    ("POST", f"{_I}{_C}/ingestions", 201, INGESTION),
    ("GET|PATCH", f"{_I}{_C}/ingestions/{_ONE}", 200, INGESTION),
    ("DELETE", f"{_I}{_C}/ingestions/{_ONE}", 202, OPERATION),
    ("GET", f"{_I}{_C}/ingestions/{_ONE}/runs", 200, [RUN]),
    ("POST", f"{_I}{_C}/ingestions/{_ONE}/runs", 201, RUN),
    ("GET", f"{_I}{_C}/ingestions/{_ONE}/runs/{_ONE}", 200, RUN),
    ("GET", f"{_I}{_C}/operations/{_ONE}/logs", 200, {"logs": ""}),
    ("GET", f"{_I}/operations", 200, [OPERATION]),
    ("GET", f"{_I}/operations/{_ONE}", 200, OPERATION),
    ("DELETE", f"{_I}/operations(?:/{_ONE})?", 204, None),
    # catalog, collections, items
    ("GET", _S, 307, None),
    ("GET", f"{_S}/", 200, CATALOG),
    ("GET", f"{_S}/conformance", 200, {"conformsTo": ["https://api.stacspec.org/v1.0.0/core"]}),
    ("GET", f"{_S}/collections", 200, {"collections": [COLLECTION], "links": []}),
    ("POST", f"{_S}/collections", 202, OPERATION),
    ("GET|PUT", f"{_S}{_C}", 200, COLLECTION),
    ("DELETE", f"{_S}{_C}", 202, OPERATION),
    ("POST", f"{_S}{_C}/assets", 201, COLLECTION),
    ("PUT|DELETE", f"{_S}{_C}/assets/{_ONE}", 200, COLLECTION),
    ("GET", f"{_S}{_C}/thumbnail", 200, IMAGE),
    ("GET", f"{_S}{_C}/items", 200, FEATURES),
    ("POST", f"{_S}{_C}/items", 202, OPERATION),
    ("GET", f"{_S}{_C}/items/{_ONE}", 200, ITEM),
    ("PUT|PATCH|DELETE", f"{_S}{_C}/items/{_ONE}", 202, OPERATION),
    ("GET|POST", f"{_S}/search", 200, FEATURES),
    # queryables, configurations
    ("GET", f"{_S}(?:{_C})?/queryables", 200, SCHEMA),
    ("POST", f"{_S}{_C}/queryables", 201, (QUERYABLE,)),
    ("PUT", f"{_S}{_C}/queryables/{_ONE}", 200, QUERYABLE),
    ("DELETE", f"{_S}{_C}/queryables/{_ONE}", 200, None),
    ("GET", _CONFIG, 200, CONFIGURATION),
    ("GET", f"{_CONFIG}/mosaics", 200, (MOSAIC,)),
    ("POST", f"{_CONFIG}/mosaics", 201, MOSAIC),
    ("GET|PUT", f"{_CONFIG}/mosaics/{_ONE}", 200, MOSAIC),
    ("DELETE", f"{_CONFIG}/mosaics/{_ONE}", 200, None),
    ("GET", f"{_CONFIG}/render-options", 200, (RENDER_OPTION,)),
    ("POST", f"{_CONFIG}/render-options", 201, RENDER_OPTION),
    ("GET|PUT", f"{_CONFIG}/render-options/{_ONE}", 200, RENDER_OPTION),
    ("DELETE", f"{_CONFIG}/render-options/{_ONE}", 200, None),
    ("GET|PUT", f"{_CONFIG}/tile-settings", 200, TILE_SETTINGS),
    ("GET", f"{_CONFIG}/partition-type", 200, {"scheme": "none"}),
    ("PUT", f"{_CONFIG}/partition-type", 200, None),
    # signatures
    ("GET", f"/sas/token/{_ONE}", 200, {"msft:expiry": TIME, "token": "sig=x"}),
    ("GET", "/sas/sign", 200, {"msft:expiry": TIME, "href": f"{CONTAINER}/x?sig=x"}),
    ("POST", "/sas/token/revoke", 200, "null"),
]

#: What the oldest api-version answers differently (geocatalog-api 3): codes, and names of members.
_OLDEST_ANSWERS: list[tuple[str, str, int, Any]] = [
    ("POST", "/api/collections", 201, COLLECTION),
    ("DELETE", f"/api{_C}", 204, None),
    ("DELETE", f"/api/ingestion-sources/{_ONE}", 200, None),
]
_OLDEST_NAMES = {"kind": "sourceType"}


@dataclass(frozen=True)
class Recorded:
    """One request as it came over the wire; ``target`` is what stood in the request line."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def raw_path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def raw_query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def path(self) -> str:
        return unquote(self.raw_path, errors="strict")

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) < 2, f"{name} came {len(found)} times"
        return found[0] if found else None


class RecordingServer:
    """
    Record what comes, and answer with success.

    A list of the ingestion side has two pages if ``$top`` is 1.
    """

    def __init__(self) -> None:
        self._seen: list[Recorded] = []
        self._lock = threading.Lock()
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536  # header fields and body leave in one piece; two would wait for each other

            def answer(self) -> None:
                body = _read_body(self)
                request = Recorded(self.command, self.path, tuple(self.headers.items()), body)
                with recorder._lock:
                    recorder._seen.append(request)
                status, headers, content = recorder._answer(request)
                self.send_response(status)
                if status != 204:
                    headers = {"Content-Length": str(len(content)), **headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def take(self) -> list[Recorded]:
        """Return what came since the last time."""
        with self._lock:
            taken, self._seen = self._seen, []
        return taken

    def _answer(self, request: Recorded) -> tuple[int, dict[str, str], bytes]:
        query = parse_qs(request.raw_query, keep_blank_values=True)
        version = query.get("api-version", [""])[0]
        found = [
            (status, body)
            for methods, path, status, body in [*(_OLDEST_ANSWERS if version == OLDEST else ()), *_ANSWERS]
            if request.method in methods.split("|") and re.fullmatch(path, request.raw_path)
        ]
        if not found:
            return 404, {}, b"the recording server has no answer to this"
        status, body = found[0]
        if isinstance(body, bytes):
            return status, {"Content-Type": "image/png"}, body
        if status == 307:
            return status, {"Location": f"{self.url}{request.raw_path}/?{request.raw_query}"}, b""
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if status == 202:
            link = f"{self.url}/inma/operations/{GUID}?api-version={version}"
            headers |= {"Location": link, "operation-location": link}
        if isinstance(body, list):
            body = body if version == OLDEST else self._page(request, query, body)
        if body is None:
            return status, {}, b""
        if version == OLDEST:
            body = _rename(body)
        return status, headers, json.dumps(body if body != "null" else None).encode()

    def _page(self, request: Recorded, query: dict[str, list[str]], entries: list[Any]) -> dict[str, Any]:
        if query.get("$top") == ["1"] and "$skip" not in query:
            return {"value": entries, "nextLink": f"{self.url}{request.target}&$skip=1"}
        return {"value": [] if "$skip" in query else entries}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def _read_body(handler: BaseHTTPRequestHandler) -> bytes:
    if (handler.headers.get("Transfer-Encoding") or "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    content = b""
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        content += handler.rfile.read(size)
        handler.rfile.readline()
    while handler.rfile.readline().strip():
        pass
    return content


def _rename(body: Any) -> Any:
    """Return an answer in the words of the oldest api-version."""
    if isinstance(body, list | tuple):
        return [_rename(entry) for entry in body]
    if not isinstance(body, dict):
        return body
    names = dict(_OLDEST_NAMES)
    if "statusHistory" in body:
        names["id"] = "operationId"
    if "importType" in body:
        names["id"] = "ingestionId"
    return {names.get(name, name): _rename(value) for name, value in body.items()}
