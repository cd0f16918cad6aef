"""SAS tokens for managed storage, and signed hrefs."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_geocatalog.emulator.clock import ManualClock

STORAGE = "https://geocatalogemulator.blob.core.windows.net"
CONTAINER = "demo-2a97516c"
HREF = f"{STORAGE}/{CONTAINER}/ca9/a/image.tif"
DAY = 24 * 60 * 60


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def filled(serve, new_client, new_item, clock):
    """A client of an emulator whose collection ``demo`` has the item ``a`` and whose clock stands still."""
    client = new_client(serve(clock, managed_storage_url=STORAGE))
    client.add_collection()
    client.add_items(new_item("a"))
    return client


def is_valid(client, token, clock, container=CONTAINER):
    return client.server.emulator.world.sas.is_valid(token, container, clock.now())


def fields(token):
    return {name: value for name, [value] in parse_qs(token, strict_parsing=True).items()}


@pytest.mark.parametrize("version", ["2025-04-30-preview", "2026-04-15"])
def test_a_token_is_a_well_formed_user_delegation_sas_of_the_container(filled, new_client, clock, version):
    client = new_client(filled.server, version)

    answer = client.get("/sas/token/demo")

    assert answer.status_code == 200
    assert answer.json()["msft:expiry"] == "2026-05-29T20:26:40Z"
    token = fields(answer.json()["token"])
    assert list(token) == ["st", "se", "sp", "sv", "sr", "skoid", "sktid", "skt", "ske", "sks", "skv", "sig"]
    assert (token["st"], token["se"]) == ("2026-05-28T20:26:40Z", "2026-05-29T20:26:40Z")
    assert (token["skt"], token["ske"]) == ("2026-05-28T20:26:40Z", "2026-06-04T20:26:40Z")
    assert (token["sp"], token["sr"]) == ("rl", "c")
    assert is_valid(filled, answer.json()["token"], clock)


def test_duration_is_minutes_and_the_token_expires_by_the_emulators_clock(filled, clock):
    token = filled.get("/sas/token/demo", params={"duration": 5}).json()
    assert token["msft:expiry"] == "2026-05-28T20:31:40Z"

    clock.advance(299)
    assert is_valid(filled, token["token"], clock)
    clock.advance(1)
    assert not is_valid(filled, token["token"], clock)


def test_a_token_is_not_valid_before_it_starts(filled):
    token = filled.get("/sas/token/demo").json()["token"]

    assert not is_valid(filled, token, ManualClock(1_779_999_999.0))


@pytest.mark.parametrize("method", ["token", "sign", "revoke"])
@pytest.mark.parametrize("duration", ["0", "-1", "x", "1.5", "", "10081"])
def test_a_duration_that_no_token_can_have_is_a_400(filled, method, duration):
    answers = {
        "token": lambda: filled.get("/sas/token/demo", params={"duration": duration}),
        "sign": lambda: filled.get("/sas/sign", params={"href": HREF, "duration": duration}),
        "revoke": lambda: filled.post("/sas/token/revoke", params={"duration": duration}),
    }

    answer = answers[method]()

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadRequestError")


def test_revoking_makes_earlier_tokens_invalid_and_later_ones_not(filled, clock):
    earlier = filled.get("/sas/token/demo").json()["token"]

    revoked = filled.post("/sas/token/revoke")

    assert (revoked.status_code, revoked.text) == (200, "null")
    assert revoked.headers["Content-Type"] == "application/json"
    assert not is_valid(filled, earlier, clock)
    assert is_valid(filled, filled.get("/sas/token/demo").json()["token"], clock)


@pytest.mark.parametrize(
    ("old", "new"),
    [("2026-05-29", "2027-05-29"), ("sp=rl", "sp=rwl"), ("sig=", "sig=A"), ("sig=", "x="), ("st=", "x=")],
)
def test_a_token_that_was_changed_is_not_valid(filled, clock, old, new):
    token = filled.get("/sas/token/demo").json()["token"]
    assert old in token

    assert not is_valid(filled, token.replace(old, new), clock)


def test_a_token_opens_the_container_of_its_collection_only(filled, clock):
    filled.add_collection("other")
    token = filled.get("/sas/token/other").json()["token"]

    assert not is_valid(filled, token, clock)
    assert is_valid(filled, token, clock, "other-d9298a10")


def test_a_token_of_a_missing_collection_is_a_404(filled):
    answer = filled.get("/sas/token/nope")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ResourceNotFound")


@pytest.mark.parametrize("href", [HREF, f"{HREF}?x=y", f"{STORAGE}/{CONTAINER}", f"{STORAGE}/{CONTAINER}?x=y"])
def test_an_href_in_managed_storage_is_signed(filled, clock, href):
    answer = filled.get("/sas/sign", params={"href": href, "duration": 60}).json()

    signed, expiry = answer["href"], answer["msft:expiry"]
    assert signed.startswith(f"{href}{'&' if '?' in href else '?'}st=")
    assert expiry == "2026-05-28T21:26:40Z"
    assert is_valid(filled, urlsplit(signed).query, clock)


@pytest.mark.parametrize(
    "href",
    [
        "https://example.com/image.tif",
        "https://other.blob.core.windows.net/demo-2a97516c/image.tif",
        f"{STORAGE}/nope-2a97516c/image.tif",
        f"{STORAGE}.example.com/{CONTAINER}/image.tif",
        STORAGE,
        f"{STORAGE}//x",
        f"{HREF}?sp=r&sig=abc",
        "s3://bucket/key",
    ],
)
def test_any_other_href_comes_back_as_it_is(filled, href):
    answer = filled.get("/sas/sign", params={"href": href})

    assert (answer.status_code, answer.json()) == (200, {"href": href})


@pytest.mark.parametrize("query", [{}, {"href": ""}, {"href": "image.tif"}, {"href": "http://[x"}])
def test_what_is_no_url_cannot_be_signed(filled, query):
    assert filled.get("/sas/sign", params=query).status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/stac/collections/demo/items/a"),
        ("get", "/stac/collections/demo/items"),
        ("get", "/stac/search"),
        ("post", "/stac/search"),
    ],
)
def test_items_are_read_with_signed_hrefs_on_request(filled, clock, method, path):
    options = {"json": {}} if method == "post" else {}

    def hrefs(**query):
        body = getattr(filled, method)(path, params=query, **options).json()
        return [item["assets"]["image"]["href"] for item in body.get("features", [body])]

    [signed] = hrefs(sign="true", duration="10")

    assert hrefs() == hrefs(sign="false") == [HREF]
    assert signed.split("?")[0] == HREF
    token = urlsplit(signed).query
    assert fields(token)["se"] == "2026-05-28T20:36:40Z"
    assert is_valid(filled, token, clock)


@pytest.mark.parametrize("query", [{"sign": "yes"}, {"sign": "true", "duration": "0"}])
@pytest.mark.parametrize("path", ["/stac/collections", "/stac/collections/demo", "/stac/collections/demo/items/a"])
def test_a_malformed_wish_for_signatures_is_a_400(filled, path, query):
    assert filled.get(path, params=query).status_code == 400


def test_collections_are_read_with_signed_hrefs_on_request(filled, clock):
    data = '{"key": "thumbnail", "type": "image/png", "roles": [], "title": ""}'
    filled.post("/stac/collections/demo/assets", files={"data": (None, data), "file": ("a.png", b"x")})

    one = filled.get("/stac/collections/demo", params={"sign": "true"}).json()
    [listed] = filled.get("/stac/collections", params={"sign": "true"}).json()["collections"]

    for document in (one, listed):
        href = document["assets"]["thumbnail"]["href"]
        assert href.startswith(f"{STORAGE}/{CONTAINER}/collection-assets/thumbnail/a.png?st=")
        assert is_valid(filled, urlsplit(href).query, clock)
    assert "?" not in filled.get("/stac/collections/demo").json()["assets"]["thumbnail"]["href"]


@pytest.mark.parametrize("method", ["get", "post"])
def test_the_next_page_is_signed_as_well(filled, new_item, method):
    filled.add_items(new_item("b"))
    query = {"sign": "true", "duration": "10", "limit": "1"} if method == "get" else {"sign": "true", "duration": "10"}
    options = {"json": {"limit": 1}} if method == "post" else {}
    page = getattr(filled, method)("/stac/search", params=query, **options).json()
    [following] = [link for link in page["links"] if link["rel"] == "next"]
    filled.session.params = {}

    rest = filled.session.request(following["method"], following["href"], json=following.get("body"), timeout=10).json()

    assert [item["id"] for item in rest["features"]] == ["a"]
    assert "sig=" in rest["features"][0]["assets"]["image"]["href"]


def test_fields_work_with_signatures(filled):
    body = {"fields": {"exclude": ["assets"]}}

    [item] = filled.post("/stac/search", params={"sign": "true"}, json=body).json()["features"]

    assert "assets" not in item


def test_stored_items_stay_unsigned(filled):
    filled.get("/stac/collections/demo/items/a", params={"sign": "true"})

    assert filled.get("/stac/collections/demo/items/a").json()["assets"]["image"]["href"] == HREF


def test_a_reader_gets_tokens_but_revokes_none(filled, new_client, clock):
    reader = new_client(filled.server, token="reader-token")
    token = reader.get("/sas/token/demo").json()["token"]

    assert reader.post("/sas/token/revoke").status_code == 403
    assert is_valid(filled, token, clock)


def test_an_issued_token_can_be_registered_as_an_ingestion_source(filled):
    token = filled.get("/sas/token/demo").json()["token"]
    info = {"containerUrl": f"{STORAGE}/{CONTAINER}", "sasToken": token}

    source = filled.post("/inma/ingestion-sources", json={"kind": "SasToken", "connectionInfo": info})

    assert source.json()["connectionInfo"]["expiration"] == "2026-05-29T20:26:40.0000000Z"


def test_signatures_are_not_remembered(filled):
    signed = filled.get("/sas/sign", params={"href": HREF}).json()["href"]
    filled.get("/sas/sign", params={"href": signed})

    assert fields(urlsplit(signed).query)["sig"] not in str(filled.server.emulator.requests[-1])
