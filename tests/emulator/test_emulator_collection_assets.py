"""Assets of collections, and thumbnails."""

from __future__ import annotations

import json

import pytest

from airflow_provider_geocatalog.emulator.clock import ManualClock

ASSETS = "/stac/collections/demo/assets"
PNG = b"\x89PNG\r\n\x1a\n and some more"
MISSING = (
    "Asset key 'nope' not found in collection 'demo'. Please verify the asset key and collection ID, and try again."
)
STORED = "/_emulator/managed/demo-2a97516c/collection-assets"


def form(key="thumbnail", content=PNG, filename="small.png", **members):
    data = {"key": key, "href": "", "type": "image/png", "roles": ["thumbnail"], "title": "Small", **members}
    return {"data": (None, json.dumps(data), "application/json"), "file": (filename, content)}


@pytest.mark.parametrize("version", ["2025-04-30-preview", "2026-04-15"])
def test_an_asset_lives_and_dies(demo, new_client, version):
    client = new_client(demo.server, version)
    created = client.post(ASSETS, files=form())
    assert (created.status_code, created.json()["id"]) == (201, "demo")
    assert list(created.json()["assets"]["thumbnail"].items()) == [
        ("href", f"{client.url}{STORED}/thumbnail/small.png"),
        ("type", "image/png"),
        ("title", "Small"),
        ("roles", ["thumbnail"]),
    ]
    assert client.get("/stac/collections/demo").json()["assets"] == created.json()["assets"]

    replaced = client.put(f"{ASSETS}/thumbnail", files=form(filename="big.jpg", type="image/jpeg", description="new"))
    assert replaced.status_code == 200
    assert replaced.json()["assets"]["thumbnail"]["href"] == f"{client.url}{STORED}/thumbnail/big.jpg"
    assert replaced.json()["assets"]["thumbnail"]["description"] == "new"

    client.post(ASSETS, files=form("other"))
    assert list(client.delete(f"{ASSETS}/thumbnail").json()["assets"]) == ["other"]
    last = client.delete(f"{ASSETS}/other")
    assert last.status_code == 200
    assert "assets" not in last.json()
    assert "assets" not in client.get("/stac/collections/demo").json()


def test_the_answer_is_the_collection_without_the_link_to_its_queryables(demo):
    links = demo.post(ASSETS, files=form()).json()["links"]

    assert [link["rel"] for link in links] == ["items", "parent", "root", "self"]


def test_every_change_of_an_asset_is_an_update_of_the_collection(serve, new_client):
    clock = ManualClock()
    client = new_client(serve(clock))
    client.add_collection()
    seen = []
    for change in (
        lambda: client.post(ASSETS, files=form()),
        lambda: client.put(f"{ASSETS}/thumbnail", files=form()),
        lambda: client.delete(f"{ASSETS}/thumbnail"),
    ):
        clock.advance(1)
        seen.append(change().json()["msft:_updated"])

    assert seen == ["2026-05-28T20:26:41Z", "2026-05-28T20:26:42Z", "2026-05-28T20:26:43Z"]
    assert client.get("/stac/collections/demo").json()["msft:_updated"] == seen[-1]


def test_an_existing_key_is_a_409_and_leaves_the_asset_alone(demo):
    demo.post(ASSETS, files=form())

    second = demo.post(ASSETS, files=form(content=b"other"))

    assert (second.status_code, second.headers["x-ms-error-code"]) == (409, "DuplicatedEntity")
    assert demo.get("/stac/collections/demo/thumbnail").content == PNG


@pytest.mark.parametrize("method", ["put", "delete"])
def test_a_missing_key_is_a_404_with_the_recorded_text(demo, method):
    options = {"files": form("nope")} if method == "put" else {}

    answer = getattr(demo, method)(f"{ASSETS}/nope", **options)

    assert answer.status_code == 404
    assert answer.json()["error"] == {"code": "ResourceNotFound", "message": MISSING}


def test_assets_of_a_missing_collection_are_a_404(client):
    answer = client.post(ASSETS, files=form())

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ResourceNotFound")


def test_the_thumbnail_is_the_file_with_its_media_type(demo):
    missing = demo.get("/stac/collections/demo/thumbnail")
    demo.post(ASSETS, files=form("other"))
    still_missing = demo.get("/stac/collections/demo/thumbnail")
    demo.post(ASSETS, files=form())

    thumbnail = demo.get("/stac/collections/demo/thumbnail")

    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "ResourceNotFound")
    assert still_missing.status_code == 404
    assert (thumbnail.headers["Content-Type"], thumbnail.content) == ("image/png", PNG)


def test_a_file_larger_than_the_parsers_memory_arrives_whole(demo):
    content = bytes(range(256)) * 10_000

    demo.post(ASSETS, files=form(content=content))

    assert demo.get("/stac/collections/demo/thumbnail").content == content


@pytest.mark.parametrize(
    ("filename", "stored"),
    [("C:\\pictures\\a b.png", "a%20b.png"), ("../../x.png", "x.png"), ("ä?.png", "%C3%A4%3F.png")],
)
def test_a_file_name_stays_in_its_segment(demo, filename, stored):
    assets = demo.post(ASSETS, files=form(filename=filename)).json()["assets"]

    assert assets["thumbnail"]["href"] == f"{demo.url}{STORED}/thumbnail/{stored}"


@pytest.mark.parametrize(
    "parts",
    [
        {"file": ("a.png", PNG)},
        {"data": (None, "{}"), "file": ("a.png", PNG)},
        {"data": (None, "{"), "file": ("a.png", PNG)},
        {"data": (None, '{"key": NaN}'), "file": ("a.png", PNG)},
        {"data": (None, "[]"), "file": ("a.png", PNG)},
        {"data": form()["data"]},
        {"data": form()["data"], "file": (None, "text")},
        {"data": form()["data"], "file": ("a.png", PNG), "more": ("b.png", PNG), "evenmore": ("c.png", PNG)},
        form("a/b"),
        form(7),
        form(type=None),
        form(type="image/png\r\nX-Evil: 1"),
        form(roles="thumbnail"),
        form(title=None),
        form(description=1),
    ],
)
def test_an_unusable_form_is_a_400(demo, parts):
    answer = demo.post(ASSETS, files=parts)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadRequestError")
    assert "assets" not in demo.get("/stac/collections/demo").json()


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=x", b"no form", 400),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n{', 400),
        ("application/json", b"{}", 415),
        ("application/x-www-form-urlencoded", b"data={}", 415),
    ],
)
def test_a_malformed_body_is_a_400_and_another_media_type_a_415(demo, content_type, body, status):
    assert demo.post(ASSETS, data=body, headers={"Content-Type": content_type}).status_code == status


def test_a_part_with_the_data_may_have_a_file_name_too(demo):
    parts = form()
    _, text, media_type = parts["data"]

    assert demo.post(ASSETS, files={**parts, "data": ("data.json", text, media_type)}).status_code == 201


def test_a_replaced_key_is_the_one_of_the_path(demo):
    demo.post(ASSETS, files=form())

    assert demo.put(f"{ASSETS}/thumbnail", files=form("other")).status_code == 400


def test_a_collection_is_replaced_with_its_assets_sent_back_unchanged(demo, new_collection):
    demo.post(ASSETS, files=form())
    read = demo.get("/stac/collections/demo").json()

    replaced = demo.put("/stac/collections/demo", json={**read, "title": "new"})

    assert replaced.status_code == 200, replaced.text
    assert replaced.json()["assets"] == read["assets"]
    assert demo.get("/stac/collections/demo").json()["title"] == "new"
    assert demo.get("/stac/collections/demo/thumbnail").content == PNG


@pytest.mark.parametrize(
    ("change", "verb"),
    [
        (lambda assets: {}, "removed"),
        (lambda assets: None, "removed"),
        (lambda assets: {**assets, "more": {"href": "https://example.com/x"}}, "added"),
        (lambda assets: {"thumbnail": {**assets["thumbnail"], "title": "other"}}, "changed"),
    ],
)
def test_a_replacement_that_touches_the_assets_is_refused(demo, change, verb):
    demo.post(ASSETS, files=form())
    read = demo.get("/stac/collections/demo").json()

    answer = demo.put("/stac/collections/demo", json={**read, "title": "new", "assets": change(read["assets"])})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ValidationError")
    assert f"must be {verb} through the Collection Asset API" in answer.json()["error"]["message"]
    assert demo.get("/stac/collections/demo").json() == read


def test_a_replacement_cannot_bring_assets_to_a_collection_without(demo, new_collection):
    assets = {"x": {"href": "https://example.com/x"}}

    assert demo.put("/stac/collections/demo", json=new_collection("demo", assets=assets)).status_code == 400
    assert demo.put("/stac/collections/demo", json=new_collection("demo", assets={})).status_code == 200


def test_a_reader_sees_the_thumbnail_but_uploads_nothing(demo, new_client):
    demo.post(ASSETS, files=form())
    reader = new_client(demo.server, token="reader-token")

    assert reader.get("/stac/collections/demo/thumbnail").content == PNG
    assert reader.delete(f"{ASSETS}/thumbnail").status_code == 403
    assert reader.post(ASSETS, files=form("other")).status_code == 403
