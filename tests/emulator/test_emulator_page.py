"""The pages for people: access, contents, and that nothing in them can do harm."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
import requests

from airflow_provider_geocatalog.api.dialects import DIALECTS
from airflow_provider_geocatalog.emulator import Emulator, EmulatorServer, EmulatorSettings

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>"
PAGE = "/_emulator/page"


class Parsed(HTMLParser):
    """A page's elements, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._in_style = [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._in_style = tag == "style"

    def handle_data(self, data):
        self.text += "" if self._in_style else data

    def handle_endtag(self, tag):
        self._in_style = False

    def all(self, tag, **attributes):
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]


class Person:
    """Somebody with a browser."""

    def __init__(self, url, token="admin-token"):
        self.url, self.session = url, requests.Session()
        self.session.headers.update(BROWSER)
        if token:
            self.log_in(token)

    def log_in(self, token):
        form = {"token": token}
        return self.session.post(f"{self.url}{PAGE}/login", data=form, allow_redirects=False, timeout=10)

    def get(self, path="/"):
        return self.session.get(self.url + path, timeout=10)

    def look(self, path="/"):
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return Parsed(answer.text)


@pytest.fixture
def person(demo):
    return Person(demo.url)


# --- access -------------------------------------------------------------------------------------------------------


def test_without_a_token_there_is_a_form_and_nothing_else(demo):
    answer = Person(demo.url, token=None).get()

    page = Parsed(answer.text)
    assert answer.status_code == 401
    assert page.all("input", name="token", type="password")
    assert "demo" not in page.text


def test_logging_in_sets_a_cookie_that_scripts_and_other_sites_cannot_use(demo):
    person = Person(demo.url, token=None)

    answer = person.log_in("admin-token")

    cookie = answer.headers["Set-Cookie"]
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "admin-token" not in cookie
    assert "demo" in person.look().text


@pytest.mark.parametrize("token", ["wrong", "", "x" * 100_000])
def test_a_wrong_token_opens_nothing(demo, token):
    person = Person(demo.url, token=None)

    answer = person.log_in(token)

    assert (answer.status_code, "Set-Cookie" in answer.headers) == (401, False)
    assert person.get().status_code == 401


def test_logging_out_ends_the_session_on_the_server_as_well(person):
    [cookie] = person.session.cookies
    person.session.post(f"{person.url}{PAGE}/logout", timeout=10)

    answer = requests.get(person.url, headers=BROWSER, cookies={cookie.name: cookie.value}, timeout=10)

    assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/", f"{PAGE}/collections/demo", f"{PAGE}/operations/x", "/_emulator/openapi.html"])
def test_every_page_needs_the_token(demo, path):
    assert requests.get(demo.url + path, headers=BROWSER, timeout=10).status_code == 401


def test_a_reader_may_look_and_a_token_without_role_may_not(demo):
    claims = {"aud": "https://geocatalog.spatio.azure.com", "exp": 99_999_999_999}
    payload = base64.urlsafe_b64encode(str(claims).replace("'", '"').encode()).rstrip(b"=").decode()

    assert Person(demo.url, "reader-token").get().status_code == 200
    assert Person(demo.url, f"e30.{payload}.x").get().status_code == 403


def test_programs_get_at_the_root_what_the_service_answers_there(demo):
    answer = demo.session.get(demo.url + "/", timeout=10)

    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (404, "ResourceNotFound")
    assert requests.get(demo.url + "/", timeout=10).content == b""


# --- contents -----------------------------------------------------------------------------------------------------


def test_the_overview_shows_collections_runs_and_operations(demo, person, catalogs):
    catalogs.write("items/bad.json", {"type": "Feature", "id": "bad"})
    catalogs.of("a", "b")
    demo.run(catalogs.catalog(items=["items/a.json", "items/b.json", "items/bad.json"]))

    page = person.look()

    assert page.all("a", href=f"{PAGE}/collections/demo")
    for text in ("AddCollection", "IngestionStaticCatalog", "ErrorsInBatchOperation", "3 of 3, 1 failed"):
        assert text in page.text
    assert page.all("rect", class_="good", width="66.67")
    assert page.all("rect", class_="bad", x="66.67", width="33.33")


def test_each_figure_of_the_overview_leads_to_what_it_counts(person):
    page = person.look()

    sections = {found["id"] for found in page.all("section") if "id" in found}
    links = {link["href"].removeprefix("#") for link in page.all("a") if link.get("href", "").startswith("#")}
    assert links == sections == {"collections", "runs", "operations", "sources"}


def test_an_operation_shows_its_history_and_failed_items(demo, person, new_item):
    operation = demo.add_items(new_item("a"), new_item("b", stac_version="0.1"))

    page = person.look(f"{PAGE}/operations/{operation['id']}")

    for text in ("Pending", "Running", "Failed", "ErrorsInBatchOperation", "StacValidationFailed", "2 of 2, 1 failed"):
        assert text in page.text


def test_items_come_in_pages_newest_first(demo, person, new_item):
    demo.add_items(*(new_item(f"item-{number:02}") for number in range(60)))

    first, last = (person.look(f"{PAGE}/collections/demo?page={page}") for page in (1, 3))

    assert ("item-59" in first.text, "item-34" in first.text) == (True, False)
    assert "Page 1 of 3" in first.text
    assert [link["href"] for link in first.all("a", rel="next")] == [f"{PAGE}/collections/demo?page=2"]
    assert ("item-00" in last.text, last.all("a", rel="next")) == (True, [])


@pytest.mark.parametrize("page", ["0", "-1", "x", "99999999999999999999", "²"])
def test_a_page_that_is_not_there_is_the_nearest(demo, person, page):
    assert "No items yet." in person.look(f"{PAGE}/collections/demo?page={page}").text


def test_an_item_shows_its_document(demo, person, new_item):
    demo.add_items(new_item("a+b,(c)", properties={"datetime": "2024-01-01T00:00:00Z", "eo:cloud_cover": 12.5}))
    [link] = [one["href"] for one in person.look(f"{PAGE}/collections/demo").all("a") if "/items/" in one["href"]]

    assert '"eo:cloud_cover": 12.5' in person.look(link).text


@pytest.mark.parametrize(
    "path", ["collections/x", "collections/demo/items/x", "operations/x", "collections/demo/items/"]
)
def test_what_is_not_there_is_a_404(demo, person, path):
    assert person.get(f"{PAGE}/{path}").status_code == 404


def test_pages_are_read_again_while_something_goes_on(demo, person):
    [meta] = person.look().all("meta", **{"http-equiv": "refresh"})

    assert meta["content"] == "15"
    assert not person.look("/?refresh=off").all("meta", **{"http-equiv": "refresh"})


@pytest.mark.parametrize("version", DIALECTS)
def test_the_routes_are_listed(person, version):
    assert "create_collection" in person.look(f"/_emulator/openapi.html?api-version={version}").text


# --- the map ------------------------------------------------------------------------------------------------------

SQUARE = [[10, 50], [11, 50], [11, 51], [10, 51], [10, 50]]


@pytest.mark.parametrize(
    ("geometry", "kind"),
    [
        ({"type": "Point", "coordinates": [10, 50]}, "dot"),
        ({"type": "Polygon", "coordinates": [SQUARE]}, "footprint"),
        ({"type": "MultiPolygon", "coordinates": [[SQUARE], [[[x + 5, y] for x, y in SQUARE]]]}, "footprint"),
        ({"type": "LineString", "coordinates": [[179, 0], [-179, 1]]}, "footprint"),
        ({"type": "Polygon", "coordinates": [[[1e300, 0], [0, 1e300], [-1e300, 0], [1e300, 0]]]}, "footprint"),
    ],
)
def test_footprints_are_drawn_with_finite_numbers_within_the_world(demo, person, new_item, geometry, kind):
    demo.add_items(new_item("a", geometry=geometry, bbox=[-180, -90, 180, 90]))

    page = person.look(f"{PAGE}/collections/demo")

    [box] = [svg["viewbox"] for svg in page.all("svg", class_="map")]
    west, top, width, height = map(float, box.split())
    assert -180 <= west < west + width <= 180
    assert -90 <= top < top + height <= 90
    drawn = [path["d"] for path in page.all("path") if path.get("class", "").startswith(kind)]
    numbers = [float(number) for path in drawn for number in re.findall(r"[-+.\de]+", path.replace("h0", ""))]
    assert numbers
    assert all(abs(number) <= 180 for number in numbers)


# --- safety -------------------------------------------------------------------------------------------------------


def test_text_of_clients_stays_text(demo, person, new_collection, new_item):
    demo.finish(demo.post("/stac/collections", json=new_collection("hostile", title=HOSTILE, description=HOSTILE)))
    properties = {"datetime": "2024-01-01T00:00:00Z", HOSTILE: HOSTILE}
    asset = {"href": "https://example.com/a.tif", "title": HOSTILE, "type": HOSTILE}
    demo.add_items(new_item("a", properties=properties, assets={"image": asset}), collection_id="hostile")
    operation = demo.add_items(new_item(HOSTILE), collection_id="hostile")
    overview = person.look()
    operations = f"{PAGE}/operations/{operation['id']}"
    pages = [
        overview,
        *map(person.look, (f"{PAGE}/collections/hostile", f"{PAGE}/collections/hostile/items/a", operations)),
    ]

    for page in pages:
        assert not {"script", "img", "iframe", "object", "embed", "link", "base"} & {tag for tag, _ in page.elements}
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
        assert "onerror" in page.text
    assert HOSTILE in overview.text


def test_pages_load_nothing_and_run_nothing(person):
    answer = person.get()
    page = Parsed(answer.text)

    style = re.search("<style>(.*?)</style>", answer.text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "@import" not in style
    assert "url(" not in style
    for _, attributes in page.elements:
        assert "style" not in attributes
        assert "src" not in attributes
        assert attributes.get("href", "/").startswith(("/", "?", "#"))
    assert (answer.headers["Cache-Control"], answer.headers["Referrer-Policy"]) == ("no-store", "no-referrer")


def test_no_secret_is_shown(demo, person, new_collection, new_item):
    signature = "TopSecretSignature"
    sas = f"st=2026-01-01T00:00:00Z&se=2027-01-01T00:00:00Z&sr=c&sp=rl&sig={signature}"
    info = {"containerUrl": "https://acct.blob.core.windows.net/c", "sasToken": sas}
    demo.post("/inma/ingestion-sources", json={"kind": "SasToken", "connectionInfo": info})
    document = new_collection("secrets", title=f"https://x/?sig={signature}", description="admin-token reader-token")
    demo.finish(demo.post("/stac/collections", json=document))
    asset = {"href": f"https://example.com/a.tif?{sas}", "title": f"sig={signature}"}
    demo.add_items(new_item("a", assets={"image": asset}), collection_id="secrets")
    demo.run(f"https://localhost:1/catalog.json?{sas}", "secrets")

    for path in ("/", f"{PAGE}/collections/secrets", f"{PAGE}/collections/secrets/items/a"):
        text = person.get(path).text
        assert signature not in text
        assert "admin-token" not in text
        assert "reader-token" not in text
    assert "https://acct.blob.core.windows.net/c" in person.look().text


# --- a real browser -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_draws_the_page_as_it_is_meant(tmp_path, new_collection, new_item, new_client):
    emulator = Emulator(EmulatorSettings.fast(admin_tokens=("admin-token",)))
    service = emulator.app

    async def with_token(scope, receive, send):
        """Stand in for the form, which a browser without a driver cannot fill in."""
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", b"Bearer admin-token")]}
        await service(scope, receive, send)

    emulator.app = with_token
    with EmulatorServer(emulator) as server:
        client = new_client(server)
        client.finish(client.post("/stac/collections", json=new_collection("demo", title=HOSTILE)))
        square = {"type": "Polygon", "coordinates": [SQUARE]}
        client.add_items(new_item("a", geometry=square, bbox=[10, 50, 11, 51]))
        picture = tmp_path / "page.png"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        options += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
        options += ["--enable-logging=stderr", "--window-size=1000,1400"]
        url = f"{server.url}/"
        shot = browse([*options, f"--screenshot={picture}", url])
        dom = browse([*options, "--dump-dom", url])

    assert "Content Security Policy" not in shot.stderr
    assert "CONSOLE" not in shot.stderr
    assert HOSTILE in Parsed(dom.stdout).text
    assert {(0x0B, 0x5F, 0xB5), (0xF6, 0xF7, 0xF9), (0xEE, 0xF3, 0xF8)} <= colours(picture)


def browse(options):
    return subprocess.run([CHROMIUM, *options], capture_output=True, text=True, timeout=90, check=True)


def colours(picture):
    import rasterio

    with rasterio.open(picture) as image:
        return set(map(tuple, image.read()[:3].reshape(3, -1).T.tolist()))
