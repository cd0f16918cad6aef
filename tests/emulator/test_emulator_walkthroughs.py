"""
The articles of Microsoft Learn, replayed request by request, and clients in the field that follow them.

Each walk sends what its article sends (methods, paths, parameters, headers, spelling of members) and makes the checks
that the article makes. Most articles have the codes of 2024 under later api-versions, so they are walked on both
readings: as traffic was recorded, and with ``articles_reading``.
"""

from __future__ import annotations

import datetime
import json
import string
import time
import urllib.parse
import uuid
from dataclasses import dataclass

import pystac_client
import pytest
import requests
from azure.storage.blob import ContainerSasPermissions, UserDelegationKey, generate_container_sas

from airflow_provider_geocatalog.emulator.clock import Clock, ManualClock

OLDEST, PREVIEW, CURRENT = "2024-01-31-preview", "2025-04-30-preview", "2026-04-15"
HEADERS = {"Authorization": "Bearer admin-token"}
BBOX = [-22.455626, 63.834083, -22.395201, 63.880750]
PIXELS = b"II*\x00 some pixels"
THUMBNAIL = b"\x89PNG\r\n\x1a\n a picture"


@dataclass
class Wire:
    """How an article speaks to a GeoCatalog, and the codes that it is answered with."""

    url: str
    version: str
    created: int = 202
    deleted: int = 202
    source_deleted: int = 204
    ingestion_id: str = "id"

    def __post_init__(self):
        old = self.version == OLDEST
        self.stac = f"{self.url}/{'api' if old else 'stac'}"
        self.inma = f"{self.url}/{'api' if old else 'inma'}"
        self.configurations = "config" if old else "configurations"
        self.params = {"api-version": self.version}
        self.success = "Success" if old else "Succeeded"


#: What later articles are walked on: the api-version, and whether it is read as they read it.
LATER = {
    "2025-recorded": (PREVIEW, False),
    "2025-articles": (PREVIEW, True),
    "2026-recorded": (CURRENT, False),
    "2026-articles": (CURRENT, True),
}
#: The service's own delays, at which the emulator is a hundred times as fast here.
DELAYS = {"items_per_second": 20, "pending_seconds": 0.7, "collection_tick": 30, "collection_seconds": 0.5}


@pytest.fixture
def store(tmp_path):
    """A private container that stands for the open Planetary Computer's."""
    folder = tmp_path / "sentinel2-l2"
    folder.mkdir()
    for band in ("B09", "visual"):
        (folder / f"{band}.tif").write_bytes(PIXELS)
    return folder


def wire_to(server, version, articles):
    return Wire(server.url, version, 201, 204, 200, "ingestionId") if articles else Wire(server.url, version)


@pytest.fixture(params=["2024", *LATER, "2026-delayed"])
def walk(request, serve, store):
    """Where an article walks."""
    if request.param == "2026-delayed":
        return Wire(serve(Clock(speed=100), containers={"sentinel2-l2": store}, **DELAYS).url, CURRENT)
    version, articles = LATER.get(request.param, (OLDEST, False))
    server = serve(containers={"sentinel2-l2": store}, articles_reading=articles)
    return wire_to(server, version, articles or version == OLDEST)


def container(wire):
    return f"{wire.url}/_emulator/storage/sentinel2-l2"


def sas_token(hours=1):
    """Return a container's token as the articles make it, with a user delegation key."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    start, expiry = now - datetime.timedelta(hours=1), now + datetime.timedelta(hours=hours)
    key = UserDelegationKey()
    key.signed_oid = key.signed_tid = str(uuid.UUID(int=7))
    key.signed_start, key.signed_expiry = f"{start:%Y-%m-%dT%H:%M:%SZ}", f"{expiry:%Y-%m-%dT%H:%M:%SZ}"
    key.signed_service, key.signed_version, key.value = "b", "2024-11-04", "a2V5"
    permission = ContainerSasPermissions(read=True, list=True)
    return generate_container_sas(
        "account", "sentinel2-l2", user_delegation_key=key, permission=permission, start=start, expiry=expiry
    )


def collection_of_the_planetary_computer(collection_id):
    """Return a collection with the kinds of members that the open catalog's have."""
    return {
        "id": collection_id,
        "type": "Collection",
        "stac_version": "1.0.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/item-assets/v1.0.0/schema.json",
            "https://stac-extensions.github.io/table/v1.2.0/schema.json",
        ],
        "title": "10m Annual Land Use Land Cover",
        "description": "Time series of annual global maps",
        "license": "CC-BY-4.0",
        "keywords": ["Global", "Land Cover"],
        "providers": [{"url": "https://www.esri.com/", "name": "Esri", "roles": ["licensor"]}],
        "links": [
            {"rel": "items", "type": "application/geo+json", "href": "https://pc.example/collections/x/items"},
            {"rel": "license", "href": "https://creativecommons.org/licenses/by/4.0/", "title": "CC BY 4.0"},
            {"rel": "describedby", "href": "https://pc.example/x", "type": "text/html"},
        ],
        "extent": {
            "spatial": {"bbox": [[-180.0, -90.0, 180.0, 90.0]]},
            "temporal": {"interval": [["2017-01-01T00:00:00Z", "2024-01-01T00:00:00Z"]]},
        },
        "summaries": {"gsd": [10]},
        "item_assets": {"data": {"type": "image/tiff; application=geotiff", "roles": ["data"]}},
        "msft:group_id": "io-land-cover",
        "msft:short_description": "Global land cover",
        "msft:storage_account": "ai4edataeuwest",
        "msft:container": "io-lulc",
    }


def item_of_the_planetary_computer(item_id, href, **properties):
    """Return an item as the open catalog's search does, with the assets that are no files."""
    tiles = "https://planetarycomputer.microsoft.com/api/data/v1/item"
    west, south, east, north = BBOX
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "id": item_id,
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.0.0/schema.json"],
        "collection": "sentinel-2-l2a",
        "bbox": BBOX,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"datetime": "2024-02-09T13:22:31.024000Z", "eo:cloud_cover": 12.5, **properties},
        "links": [
            {"rel": "collection", "type": "application/json", "href": "https://pc.example/collections/x"},
            {"rel": "self", "type": "application/geo+json", "href": f"https://pc.example/items/{item_id}"},
            {"rel": "preview", "type": "text/html", "href": f"{tiles}/map?item={item_id}", "title": "Map of item"},
        ],
        "assets": {
            "B09": {"href": f"{href}/B09.tif", "type": "image/tiff", "eo:bands": [{"name": "B09"}], "gsd": 60.0},
            "visual": {"href": f"{href}/visual.tif", "type": "image/tiff", "roles": ["data"]},
            "preview": {"href": f"{href}/preview.tif", "type": "image/tiff", "roles": ["thumbnail"]},
            "tilejson": {"href": f"{tiles}/tilejson.json?item={item_id}", "roles": ["tiles"]},
            "rendered_preview": {"href": f"{tiles}/preview.png?item={item_id}", "roles": ["overview"]},
        },
    }


def end_of(response, wire, *, also=None):
    """Poll ``location`` as the items quickstart does: with the token, and nothing but what the address has itself."""
    location = response.headers["location"]
    deadline = time.monotonic() + 10
    while True:
        response = requests.get(location, headers=HEADERS, params=also, timeout=10)
        status = response.json()["status"]
        if status not in {"Pending", "Running"}:
            return response.json()
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- create a STAC collection ----------------------------------------------------------------------------------------


def create_collection(wire, collection):
    response = requests.post(
        f"{wire.stac}/collections", json=collection, headers=HEADERS, params=wire.params, timeout=10
    )
    assert response.status_code == wire.created, response.text
    if response.status_code == 202:
        assert end_of(response, wire)["status"] == wire.success
    return response


def test_the_quickstart_to_create_a_collection(walk):
    collection = collection_of_the_planetary_computer("mpc-quickstart")
    collection.pop("assets", None)
    collection["title"] += " (Planetary Computer Quickstart)"
    address = f"{walk.stac}/collections/{collection['id']}"

    created = create_collection(walk, collection)
    again = requests.post(f"{walk.stac}/collections", json=collection, headers=HEADERS, params=walk.params, timeout=10)
    read = requests.get(address, headers=HEADERS, params=walk.params, timeout=10).json()

    assert created.status_code == 202 or created.json()["title"] == collection["title"]
    assert again.status_code == 409
    own = {name: value for name, value in collection.items() if name != "links"}
    assert {name: read[name] for name in own} == own

    colormap = urllib.parse.urlencode({"colormap": json.dumps({0: (0, 0, 0, 0), 1: (65, 155, 223, 255)})})
    render_option = {
        "id": "default",
        "name": "Default",
        "description": "Land cover classification using 9 class custom colormap",
        "type": "raster-tile",
        "options": f"assets=data&exitwhenfull=False&skipcovered=False&{colormap}",
        "minZoom": 6,
    }
    mosaic = {
        "id": "most-recent",
        "name": "Most recent available",
        "description": "Show the most recent available data",
        "cql": [{"op": "<=", "args": [{"property": "eo:cloud_cover"}, 10]}],
    }
    for kind, body in (("render-options", render_option), ("mosaics", mosaic)):
        url = f"{address}/{walk.configurations}/{kind}"
        response = requests.post(url, json=body, headers=HEADERS, params=walk.params, timeout=10)
        assert (response.status_code, response.json()) == (201, body)
    tiles = {"minZoom": 6, "maxItemsPerTile": 35}
    url = f"{address}/{walk.configurations}/tile-settings"
    response = requests.put(url, json=tiles, headers=HEADERS, params=walk.params, timeout=10)
    assert response.status_code == 200
    assert tiles.items() <= response.json().items()

    collection["description"] += " (Updated)"
    response = requests.put(address, headers=HEADERS, json=collection, params=walk.params, timeout=10)
    assert response.status_code == 200
    read = requests.get(address, headers=HEADERS, params=walk.params, timeout=10).json()
    assert read["description"].endswith(" (Updated)")

    response = requests.delete(address, headers=HEADERS, params=walk.params, timeout=10)
    assert response.status_code == walk.deleted
    if response.status_code == 202:
        assert end_of(response, walk)["status"] == walk.success
    assert requests.get(address, headers=HEADERS, params=walk.params, timeout=10).status_code == 404


@pytest.mark.parametrize("version", [OLDEST, PREVIEW, CURRENT])
def test_the_id_of_a_deleted_collection_is_free_after_45_seconds(serve, version):
    clock = ManualClock()
    wire = Wire(serve(clock, recreate_after=45).url, version)
    collection = collection_of_the_planetary_computer("mpc-quickstart")

    def answer(method, url, **options):
        return requests.request(method, url, headers=HEADERS, params=wire.params, timeout=10, **options)

    assert answer("POST", f"{wire.stac}/collections", json=collection).ok
    assert answer("DELETE", f"{wire.stac}/collections/mpc-quickstart").ok
    clock.advance(44)
    assert answer("POST", f"{wire.stac}/collections", json=collection).status_code == 409
    clock.advance(1)
    assert answer("POST", f"{wire.stac}/collections", json=collection).ok


# --- add STAC items to a collection ----------------------------------------------------------------------------------


def test_the_quickstart_to_add_items(walk):
    create_collection(walk, collection_of_the_planetary_computer("spatio-quickstart"))
    token = sas_token()
    item_collection = {
        "type": "FeatureCollection",
        "features": [
            item_of_the_planetary_computer(
                item_id,
                container(walk),
                datetime=None,
                start_datetime="2023-01-01T00:00:00Z",
                end_datetime="2024-01-01T00:00:00Z",
            )
            for item_id in ("23M-2023", "23L-2023", "24M-2023", "24L-2023")
        ],
        "links": [{"rel": "self", "href": "https://pc.example/search"}],
        "numberReturned": 4,
    }
    for item in item_collection["features"]:
        del item["assets"]["preview"]
        for asset in item["assets"].values():
            asset["href"] = "?".join([asset["href"], token])
    for item in item_collection["features"]:
        item["collection"] = "spatio-quickstart"
    items = f"{walk.stac}/collections/spatio-quickstart/items"

    response = requests.post(f"{items}?api-version={walk.version}", headers=HEADERS, json=item_collection, timeout=10)
    assert response.status_code == 202, response.json()
    operation = end_of(response, walk)

    assert operation["status"] == walk.success
    listed = requests.get(items, headers=HEADERS, params=walk.params, timeout=10).json()
    assert len(listed["features"]) == 4
    assert [link["rel"] for link in listed["features"][0]["links"]][4:] == ["preview"]
    for url in (items, f"{walk.stac}/search"):
        params = {**walk.params, "collection": "spatio-quickstart"}
        found = requests.get(url, headers=HEADERS, params=params, timeout=10)
        assert len(found.json()["features"]) == 4

    response = requests.delete(f"{items}/23M-2023", headers=HEADERS, params=walk.params, timeout=10)
    assert response.status_code == 202
    end_of(response, walk)
    gone = requests.get(f"{items}/23M-2023", headers=HEADERS, params=walk.params, timeout=10)
    assert gone.status_code == 404


def test_the_logs_of_the_oldest_dialect_tell_why_items_failed(serve):
    wire = Wire(serve().url, OLDEST, 201)
    create_collection(wire, collection_of_the_planetary_computer("demo"))
    item = item_of_the_planetary_computer("a", "relative/folder")
    item["collection"] = "demo"

    response = requests.post(
        f"{wire.stac}/collections/demo/items?api-version={OLDEST}", headers=HEADERS, json=item, timeout=10
    )
    operation = end_of(response, wire)
    logs = requests.get(
        f"{wire.stac}/collections/demo/operations/{operation['operationId']}/logs",
        params=wire.params,
        headers=HEADERS,
        timeout=10,
    )

    assert operation["status"] == "Failed"
    assert "InvalidAssetHref" in logs.text


# --- bulk ingestion --------------------------------------------------------------------------------------------------


def test_the_guide_to_bulk_ingestion(walk, store, new_item):
    kind = {OLDEST: "sourceType"}.get(walk.version, "Kind")
    for number in range(3):
        item = new_item(f"i{number}", assets={"image": {"href": f"{container(walk)}/visual.tif"}})
        (store / f"i{number}.json").write_text(json.dumps(item))
    links = [{"rel": "item", "href": f"./i{number}.json"} for number in range(3)]
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "x", "links": links}
    (store / "catalog.json").write_text(json.dumps(catalog))

    payload = {kind: "SasToken", "connectionInfo": {"containerUrl": container(walk), "sasToken": sas_token()}}
    sources = f"{walk.inma}/ingestion-sources"
    response = requests.post(sources, json=payload, headers=HEADERS, params=walk.params, timeout=10)
    assert response.status_code == 201, response.text
    source_id = response.json().get("id")
    again = requests.post(sources, json=payload, headers=HEADERS, params=walk.params, timeout=10)
    assert again.status_code == 409
    assert f"already contains a SAS token ingestion source with id '{source_id}'" in again.text

    collection = {
        "id": "example-collection",
        "type": "Collection",
        "title": "Example Collection",
        "description": "An example collection",
        "license": "CC-BY-4.0",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2018-01-01T00:00:00Z", "2018-12-31T23:59:59Z"]]},
        },
        "links": [],
        "stac_version": "1.0.0",
        "msft:short_description": "An example collection",
    }
    create_collection(walk, collection)
    ingestions = f"{walk.inma}/collections/example-collection/ingestions"
    body = {
        "importType": "StaticCatalog",
        "sourceCatalogUrl": f"{container(walk)}/catalog.json",
        "skipExistingItems": False,
        "keepOriginalAssets": False,
    }
    response = requests.post(ingestions, json=body, headers=HEADERS, params=walk.params, timeout=300)
    assert response.status_code == 201, response.text
    ingestion_id = response.json()[walk.ingestion_id]

    started = requests.post(f"{ingestions}/{ingestion_id}/runs", headers=HEADERS, params=walk.params, timeout=10)
    assert started.status_code == 201, started.text
    run = started.json()
    deadline = time.monotonic() + 10
    while run["operation"]["status"] in {"Pending", "Running"}:
        assert time.monotonic() < deadline
        run = requests.get(started.headers["location"], headers=HEADERS, timeout=10).json()
        time.sleep(0.01)

    assert run["operation"]["status"] == walk.success
    assert (run["operation"]["totalItems"], run["operation"]["totalSuccessfulItems"]) == (3, 3)
    items = f"{walk.stac}/collections/example-collection/items"
    assert len(requests.get(items, headers=HEADERS, params=walk.params, timeout=10).json()["features"]) == 3
    response = requests.delete(f"{sources}/{source_id}", headers=HEADERS, params=walk.params, timeout=10)
    assert response.status_code == walk.source_deleted


@pytest.mark.parametrize("version", [PREVIEW, CURRENT])
@pytest.mark.parametrize("articles", [False, True])
def test_the_guide_to_credentials_has_an_older_word_for_the_kind_of_a_source(serve, version, articles):
    wire = Wire(serve(articles_reading=articles).url, version)
    info = {"containerUrl": container(wire), "sasToken": sas_token(168)}

    response = requests.post(
        f"{wire.inma}/ingestion-sources",
        json={"sourceType": "SasToken", "connectionInfo": info},
        headers=HEADERS,
        params=wire.params,
        timeout=10,
    )

    assert response.status_code == (201 if articles else 400)
    assert response.json().get("kind") == ("SasToken" if articles else None)


def test_a_tool_of_the_oldest_dialect_renews_a_source_and_runs_an_ingestion(serve, store, catalogs, new_item):
    """The requests of the client in Microsoft's tool that writes catalogs and hands them to a GeoCatalog."""
    wire = Wire(serve(containers={"sentinel2-l2": store}).url, OLDEST, 201)
    create_collection(wire, collection_of_the_planetary_computer("demo"))
    sources = f"{wire.inma}/ingestion-sources"
    body = {"sourceType": "SasToken", "connectionInfo": {"containerUrl": container(wire), "sasToken": sas_token()}}
    assert requests.post(sources, json=body, headers=HEADERS, params=wire.params, timeout=10).ok

    [listed] = requests.get(sources, headers=HEADERS, params=wire.params, timeout=10).json()
    address = f"{sources}/{listed['id']}"
    found = requests.get(address, headers=HEADERS, params=wire.params, timeout=10).json()
    before = datetime.datetime.fromisoformat(found["connectionInfo"]["expiration"])
    body["connectionInfo"]["sasToken"] = sas_token(24)
    renewed = requests.put(
        address, json={"id": listed["id"], **body}, headers=HEADERS, params=wire.params, timeout=10
    ).json()
    after = datetime.datetime.fromisoformat(renewed["connectionInfo"]["expiration"])

    assert (found["sourceType"], found["connectionInfo"]["containerUrl"]) == ("SasToken", container(wire))
    assert after - before == datetime.timedelta(hours=23)

    ingestions = f"{wire.inma}/collections/demo/ingestions"
    body = {"importType": "StaticCatalog", "sourceCatalogUrl": f"{container(wire)}/missing.json"}
    ingestion = requests.post(ingestions, json=body, headers=HEADERS, params=wire.params, timeout=10).json()
    runs = f"{ingestions}/{ingestion['ingestionId']}/runs"
    run = requests.post(runs, json={}, headers=HEADERS, params=wire.params, timeout=10).json()

    address = f"{wire.inma}/operations/{run['operation']['operationId']}"
    deadline = time.monotonic() + 10
    while (operation := requests.get(address, headers=HEADERS, params=wire.params, timeout=10).json())["status"] in {
        "Pending",
        "Running",
    }:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert operation["error"]["error"]["code"] == "IngestionResourceUriNotFound"


# --- the API tutorial ------------------------------------------------------------------------------------------------


class Tutorial:
    """The functions of the tutorial."""

    def __init__(self, wire):
        self.wire = wire
        self.sources = f"{wire.url}/inma/ingestion-sources"

    def call(self, method, url, **options):
        params = {**self.wire.params, **options.pop("params", {})}
        return requests.request(method, url, headers=HEADERS, params=params, timeout=10, **options)

    def find_ingestion_source(self, container_url):
        for source in self.call("GET", self.sources).json()["value"]:
            response = self.call("GET", f"{self.sources}/{source['id']}")
            response.raise_for_status()
            if response.json()["connectionInfo"]["containerUrl"] == container_url:
                return response.json()
        return None

    def ensure_ingestion_source(self, container_url, token):
        """Return what the tutorial prints."""
        body = {"kind": "SasToken", "connectionInfo": {"containerUrl": container_url, "sasToken": token}}
        existing = self.find_ingestion_source(container_url)
        if existing:
            expiration = datetime.datetime.fromisoformat(existing["connectionInfo"]["expiration"].split(".")[0])
            soon = datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(minutes=15)
            if expiration.replace(tzinfo=datetime.UTC) >= soon:
                return "using"
            self.call("DELETE", f"{self.sources}/{existing['id']}").raise_for_status()
        self.call("POST", self.sources, json=body).raise_for_status()
        return "recreated" if existing else "created"


@pytest.fixture(params=LATER)
def tutorial(request, serve, store):
    version, articles = LATER[request.param]
    return Tutorial(wire_to(serve(containers={"sentinel2-l2": store}, articles_reading=articles), version, articles))


RENDER_OPTIONS = [
    {
        "name": "Natural color",
        "description": "True color composite of visible bands (B04, B03, B02)",
        "type": "raster-tile",
        "options": "assets=B04&assets=B03&assets=B02&nodata=0&color_formula=Gamma RGB 3.2 Saturation 0.8",
        "vectorOptions": None,
        "minZoom": 9,
        "legend": None,
        "conditions": None,
    },
    {
        "name": "Normalized Difference Veg. Index (NDVI)",
        "description": "Healthy vegetation is dark green",
        "type": "raster-tile",
        "options": "expression=(B08-B04)/(B08%2BB04)&rescale=-1,1&colormap_name=rdylgn&asset_as_band=true",
        "minZoom": 9,
        "legend": {"type": "continuous", "labels": ["-1", "1"], "trimStart": 0, "trimEnd": 0, "scaleFactor": 1.0},
        "conditions": [{"property": "eo:cloud_cover", "value": 10}],
    },
]


def test_the_api_tutorial(tutorial):
    wire, call = tutorial.wire, tutorial.call
    collection = collection_of_the_planetary_computer("sentinel-2-l2a-tutorial-7")
    collection_id = collection["id"]
    collection.pop("msft:storage_account")
    collection.pop("msft:container")
    collections = f"{wire.url}/stac/collections"
    response = call("POST", collections, json=collection)
    if response.status_code != 201:
        response.raise_for_status()

    # The tutorial does not wait for the operation that has created the collection.
    response = requests.post(
        f"{collections}/{collection_id}/assets",
        data={
            "data": '{"key": "thumbnail", "href":"", "type": "image/png", '
            '"roles":  ["test_asset"], "title": "test_asset"}'
        },
        files={"file": ("lulc.png", THUMBNAIL)},
        headers=HEADERS,
        params=wire.params,
        timeout=10,
    )
    assert response.status_code == 201, response.text
    response = call("GET", f"{collections}/{collection_id}", json={"collection_id": collection_id})
    assert response.status_code == 200
    assert response.json()["assets"]["thumbnail"]["title"] == "test_asset"
    response = call("GET", f"{collections}/{collection_id}/thumbnail")
    assert (response.content, response.headers["content-type"]) == (THUMBNAIL, "image/png")

    outcomes = [
        tutorial.ensure_ingestion_source(container(wire), token) for token in (sas_token(0.1), sas_token(), sas_token())
    ]
    assert outcomes == ["created", "recreated", "using"]

    items_url = f"{collections}/{collection_id}/items"
    operation_ids = []
    for number in range(6):
        item = item_of_the_planetary_computer(f"S2A_MSIL2A_2024020{number}T132231_R038", container(wire))
        item["collection"] = collection_id
        for dynamic in ("rendered_preview", "preview", "tilejson"):
            del item["assets"][dynamic]
        operation_ids.append(call("POST", items_url, json=item).json()["id"])
    deadline, statuses = time.monotonic() + 10, ["Running"]
    while not {"Running", "Pending"}.isdisjoint(statuses):
        assert time.monotonic() < deadline
        responses = [call("GET", f"{wire.url}/inma/operations/{one}") for one in operation_ids]
        statuses = [response.json()["status"] for response in responses]
    assert statuses == ["Succeeded"] * 6

    configurations = f"{collections}/{collection_id}/configurations"
    for render_option in RENDER_OPTIONS:
        name = render_option["name"].translate(str.maketrans("", "", string.punctuation))
        body = {**render_option, "id": name.lower().replace(" ", "-")[:30]}
        response = call("POST", f"{configurations}/render-options", json=body)
        assert response.status_code == 201, response.text
    mosaic = {"id": "mos1", "name": "Most recent available", "description": "Most recent imagery", "cql": []}
    assert call("POST", f"{configurations}/mosaics", json=mosaic).status_code == 201
    info = call("GET", configurations).json()["mosaicInfo"]
    assert [option["id"] for option in info["renderOptions"]] == ["natural-color", "normalized-difference-veg-inde"]
    assert [one["id"] for one in info["mosaics"]] == ["default", "mos1"]

    search = {"json": {"collections": [collection_id], "bbox": BBOX}, "params": {"sign": "true"}}
    matching = call("POST", f"{wire.url}/stac/search", **search).json()["features"]
    assert len(matching) == 6
    assert requests.get(matching[0]["assets"]["B09"]["href"], timeout=10).content == PIXELS

    for item in matching:
        end_of(call("DELETE", f"{items_url}/{item['id']}"), wire)
    assert call("POST", f"{wire.url}/stac/search", **search).json()["features"] == []
    response = call("DELETE", f"{collections}/{collection_id}")
    response.raise_for_status()
    assert response.status_code == wire.deleted


# --- tokens for files ------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(tutorial):
    """The tutorial with a collection that has one item."""
    wire = tutorial.wire
    create_collection(wire, collection_of_the_planetary_computer("demo"))
    tutorial.ensure_ingestion_source(container(wire), sas_token())
    item = item_of_the_planetary_computer("a", container(wire))
    item["collection"] = "demo"
    for dynamic in ("rendered_preview", "preview", "tilejson"):
        del item["assets"][dynamic]
    response = tutorial.call("POST", f"{wire.stac}/collections/demo/items", json=item)
    assert end_of(response, wire)["status"] == wire.success
    return tutorial


def href_of(tutorial):
    item = tutorial.call("GET", f"{tutorial.wire.stac}/collections/demo/items/a").json()
    return item["assets"]["visual"]["href"]


def test_the_token_of_a_collection_opens_its_files(filled):
    href, response = href_of(filled), filled.call("GET", f"{filled.wire.url}/sas/token/demo")

    assert requests.get(href, timeout=10).status_code == 409
    assert requests.get(f"{href}?{response.json()['token']}", timeout=10).content == PIXELS


def test_a_map_program_signs_an_address_that_it_did_not_encode(filled):
    """QGIS appends the address to the query as it is, and takes the token off the signed one."""
    href = href_of(filled)
    signed = requests.get(
        f"{filled.wire.url}/sas/sign?api-version={filled.wire.version}&href={href}", headers=HEADERS, timeout=10
    ).json()

    token = signed["href"].replace(f"{href}?", "")
    assert datetime.datetime.fromisoformat(signed["msft:expiry"]) > datetime.datetime.now(datetime.UTC)
    assert requests.get(f"{href}?{token}", timeout=10).content == PIXELS


# --- clients in the field --------------------------------------------------------------------------------------------


def test_a_client_polls_with_the_version_given_twice(filled):
    """A forecasting service appends its ``api-version`` to every address, ``location`` included."""
    wire = filled.wire
    item = item_of_the_planetary_computer(f"fcn3-2025-01-01T00-{uuid.uuid4()}", container(wire))
    item["collection"] = "demo"
    item["assets"] = {"data": {"href": "https://account.blob.core.windows.net/c/forecast.zarr"}}
    item["properties"] = dict.fromkeys(("datetime", "start_datetime", "end_datetime"), "2025-01-01T00:00:00+00:00")

    response = requests.post(
        f"{wire.url}/stac/collections/demo/items", json=item, headers=HEADERS, params=wire.params, timeout=10
    )

    assert end_of(response, wire, also=wire.params)["status"] == wire.success


@pytest.mark.parametrize("version", [None, ""])
@pytest.mark.parametrize("articles", [False, True])
def test_reads_leave_the_api_version_out_where_articles_do(serve, version, articles):
    """The guides to batch jobs and to QGIS give addresses without it, and links in answers lack it."""
    wire = Wire(serve(articles_reading=articles).url, CURRENT, *((201,) if articles else ()))
    create_collection(wire, collection_of_the_planetary_computer("demo"))

    def status(method, url, **options):
        params = None if version is None else {"api-version": version}
        return requests.request(method, url, headers=HEADERS, params=params, timeout=10, **options).status_code

    reads = [
        status("GET", wire.stac),
        status("GET", f"{wire.stac}/collections"),
        status("GET", f"{wire.url}/sas/token/demo"),
    ]
    assert [*reads, status("POST", f"{wire.stac}/search", json={})] == [200 if articles else 400] * 4
    assert status("GET", f"{wire.inma}/operations") == 400
    assert status("DELETE", f"{wire.stac}/collections/demo") == 400
    assert status("GET", f"{wire.stac}/nowhere") == 400
    if articles:
        catalog = pystac_client.Client.open(wire.stac, headers=HEADERS)
        assert [one.id for one in catalog.get_collections()] == ["demo"]
        assert list(catalog.search(collections=["demo"]).items()) == []


def test_pystac_client_asks_with_a_modifier_that_adds_token_and_version(filled):
    wire = filled.wire
    items = [item_of_the_planetary_computer(f"i{number}", container(wire)) for number in range(5)]
    for item in items:
        item["collection"], item["assets"] = "demo", {}
    response = filled.call(
        "POST", f"{wire.url}/stac/collections/demo/items", json={"type": "FeatureCollection", "features": items}
    )
    end_of(response, wire)

    def modify(request):
        request.headers.update(HEADERS)
        request.params = {**(request.params or {}), **wire.params}
        return request

    catalog = pystac_client.Client.open(f"{wire.url}/stac", request_modifier=modify)
    names = {f"i{number}" for number in range(5)} | {"a"}
    assert [one.id for one in catalog.get_all_collections()] == ["demo"]
    assert {one.id for one in catalog.get_collection("demo").get_items()} == names
    assert catalog.get_collection("demo").get_item("i3").collection_id == "demo"
    assert set(catalog.get_collection("demo").get_queryables()["properties"]) == {"id", "datetime", "geometry"}
    for method in ("GET", "POST"):
        asked_for = {"collections": ["demo"], "bbox": BBOX, "datetime": "2024-02-04/2024-02-11"}
        search = catalog.search(method=method, limit=2, **asked_for)
        assert [len(page.items) for page in search.pages()] == [2, 2, 2]
        assert {item.id for item in search.items()} == names
        assert {item["id"] for item in search.item_collection_as_dict()["features"]} == names
