"""The documentation site as a reader sees it: in a browser, on a wide screen and a telephone, by day and by night."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

WIDTHS = (1280, 390)
#: Pages that Sphinx makes beside ours; the menu does not have them.
EXTRA = {"genindex.html", "py-modindex.html", "search.html"}

pytestmark = pytest.mark.timeout(900)  # the first test builds the site

#: What sticks out to the right and cannot be scrolled to; code and tables scroll inside.
STICKING_OUT = """() => {
  const width = document.documentElement.clientWidth;
  const scrolls = element => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
  const inside = element => {
    for (let one = element.parentElement; one && one.tagName !== "ARTICLE"; one = one.parentElement)
      if (scrolls(one)) return true;
    return false;
  };
  return [...document.querySelectorAll("article *")]
    .filter(one => one.getBoundingClientRect().right > width + 1 && !inside(one))
    .map(one => `${one.tagName}: ${one.textContent.trim().slice(0, 60)}`);
}"""

#: Text whose contrast to what is behind it is below 4.5, the least for text of its size (WCAG 2.1, AA).
FAINT = """() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = color => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = color;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const light = color => {
    const [r, g, b] = color.map(v => v / 255).map(v => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const color = rgba(getComputedStyle(one).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const found = new Set();
  const texts = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const seen = texts.currentNode.textContent.trim() && element.checkVisibility({ visibilityProperty: true });
    if (!seen || element.closest(".headerlink, script, style")) continue;
    const pair = [light(rgba(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => a - b);
    const contrast = (pair[1] + 0.05) / (pair[0] + 0.05);
    if (contrast < 4.5) found.add(`${element.tagName}.${element.className} ${contrast.toFixed(1)}`);
  }
  return [...found];
}"""


@pytest.fixture(scope="module")
def address(site_folder: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site_folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@dataclass
class Seen:
    """A page, as the browser has it."""

    title: str
    ids: set[str]
    links: list[str]
    headings: list[int]
    next: str | None
    sticking_out: dict[int, list[str]] = field(default_factory=dict)
    overflow: dict[int, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def visit(browser: Browser, address: str) -> tuple[dict[str, Seen], list[str]]:
    """Follow all links from the first page; return the pages, and what the browser complained of."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(120_000)
    complaints: list[str] = []
    note = complaints.append
    page.on("console", lambda said: note(f"{page.url}: {said.text}") if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: note(f"{page.url}: {error}"))
    page.on("requestfailed", lambda request: note(f"{page.url}: no answer for {request.url}"))
    page.on("response", lambda got: note(f"{page.url}: {got.status} {got.url}") if got.status >= 400 else None)
    # A site that is read offline, or within a company, loads nothing from elsewhere.
    page.on(
        "request",
        lambda request: None if request.url.startswith((address, "data:")) else note(f"{page.url}: {request.url}"),
    )
    pages: dict[str, Seen] = {}
    todo = ["index.html"]
    while todo:
        name = todo.pop()
        if name in pages:
            continue
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        page.goto(urljoin(address, name))
        pages[name] = seen = Seen(
            title=page.title(),
            ids=set(page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")),
            links=page.eval_on_selector_all("a[href]", "all => all.map(one => one.href)"),
            headings=page.eval_on_selector_all(
                "article :is(h1, h2, h3, h4, h5, h6)", "all => all.map(one => Number(one.tagName[1]))"
            ),
            next=page.evaluate("document.querySelector('a.next-page')?.href"),
        )
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            seen.sticking_out[width] = page.evaluate(STICKING_OUT)
            seen.overflow[width] = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        links = [link.removeprefix(address).partition("#")[0] for link in seen.links if link.startswith(address)]
        todo += [link for link in links if link.endswith(".html")]
    context.close()
    return pages, complaints


@pytest.fixture(scope="module")
def pages(visit: tuple[dict[str, Seen], list[str]]) -> dict[str, Seen]:
    return visit[0]


def test_the_browser_has_nothing_to_complain_of(visit):
    pages, complaints = visit

    assert len(pages) > 30
    assert complaints == []


def test_every_page_is_reached_from_the_first(pages, site_folder):
    assert {str(file.relative_to(site_folder)) for file in site_folder.rglob("*.html")} - set(pages) <= EXTRA


def test_every_link_within_the_site_leads_to_an_anchor_that_is_there(pages, address, site_folder):
    broken = []
    for name, seen in pages.items():
        for link in seen.links:
            if link.startswith(address):
                path, _, anchor = link.removeprefix(address).partition("#")
                target = path or "index.html"
                if not (site_folder / target).is_file() or (
                    anchor and target in pages and anchor not in pages[target].ids
                ):
                    broken.append(f"{name}: {link}")
    assert broken == []


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_the_screen(pages, width):
    wide = {name: seen.sticking_out[width] or seen.overflow[width] for name, seen in pages.items()}

    assert {name: what for name, what in wide.items() if what} == {}


def test_titles_and_headings_are_in_order(pages):
    titles = [seen.title for seen in pages.values()]
    assert len(set(titles)) == len(titles)
    for name, seen in pages.items():
        if name not in EXTRA:
            assert seen.headings[0] == 1, name
            assert seen.headings.count(1) == 1, name
            steps = zip(seen.headings, seen.headings[1:], strict=False)
            assert all(after <= before + 1 for before, after in steps), name


def test_every_page_says_where_to_go_next(pages, address):
    ends = {name for name, seen in pages.items() if not seen.next} - EXTRA
    assert len(ends) == 1  # the last one
    assert all(seen.next.startswith(address) for seen in pages.values() if seen.next)


def test_the_search_finds_an_operator_by_its_name(browser, address):
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(address)
    page.get_by_placeholder("Search").first.fill("GeoCatalogBulkIngestionOperator")
    page.keyboard.press("Enter")
    found = page.locator("#search-results a", has_text="GeoCatalogBulkIngestionOperator").first
    found.wait_for()
    found.click()
    page.wait_for_url("**/reference/ingestion.html**")
    shown = page.locator("[id='airflow_provider_geocatalog.operators.ingestion.GeoCatalogBulkIngestionOperator']")
    assert shown.is_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(browser, address, scheme):
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(120_000)
    behind = set()
    for name in ("index.html", "troubleshooting.html", "reference/hook.html", "testing-dags.html"):
        page.goto(urljoin(address, name))
        assert page.evaluate(FAINT) == [], name
        behind.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(behind) == 1
    assert (behind == {"rgb(255, 255, 255)"}) == (scheme == "light")
    context.close()
