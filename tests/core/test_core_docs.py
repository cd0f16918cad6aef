"""The documentation site: it builds without a warning, has all that it should have, and its links lead somewhere."""

from __future__ import annotations

import importlib
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from airflow.providers.common.compat.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger

from airflow_provider_geocatalog.api import errors
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.api.fault_codes import FAULT_CODES
from airflow_provider_geocatalog.provider_info import get_provider_info
from airflow_provider_geocatalog.transfer import sources, transforms

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Parts of the README that a site needs no page for.
NOT_IN_SITE = {"Licence"}

pytestmark = pytest.mark.timeout(300)  # the first test builds


class Page(HTMLParser):
    """What a page of the site has: ids, links, and text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.parts: list[str] = []
        self.prose: list[str] = []
        self.in_code = False
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {str(found["id"])} if found.get("id") else set()
        self.links |= {str(found["href"])} if tag == "a" and found.get("href") else set()

        self.in_code = self.in_code or tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        self.in_code = self.in_code and tag != "pre"

    def handle_data(self, data: str) -> None:
        self.parts.append(data)
        if not self.in_code:
            self.prose.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.parts).split())


@pytest.fixture(scope="module")
def site(site_folder: Path) -> dict[str, Page]:
    return {str(file.relative_to(site_folder)): Page(file) for file in site_folder.rglob("*.html")}


def reference(site: dict[str, Page]) -> set[str]:
    """Return the names that the reference describes, without their modules."""
    pages = [page for name, page in site.items() if name.startswith("reference/")]
    return {
        one.rpartition(".")[2] for page in pages for one in page.ids if one.startswith("airflow_provider_geocatalog.")
    }


def test_every_class_that_airflow_lists_is_in_the_reference(site) -> None:
    info = get_provider_info()
    entries = [entry for kind in ("operators", "sensors", "triggers", "hooks") for entry in info[kind]]
    modules = [importlib.import_module(name) for entry in entries for name in entry["python-modules"]]
    wanted = {
        name
        for module in modules
        for name in getattr(module, "__all__", ["GeoCatalogHook"])
        if isinstance(thing := getattr(module, name), type)
        and (name == "GeoCatalogHook" or issubclass(thing, BaseOperator | BaseTrigger))
        and not getattr(thing, "__abstractmethods__", None)
    }

    wanted |= {name.rpartition(".")[2] for name in info.get("extra-links", ())}

    assert len(wanted) > 30
    assert wanted - reference(site) == set()


def test_every_source_transform_and_error_is_in_the_reference(site) -> None:
    wanted = {name for name in sources.__all__ if not name.startswith("_")}
    wanted |= {name for name in transforms.__all__ if name[0].islower() and name != "carries_signature"}
    wanted |= {name for name in vars(errors) if name.startswith("GeoCatalog")}

    assert wanted - reference(site) == set()


def test_every_method_of_the_client_is_on_its_page(site) -> None:
    assert {f"client-{name.replace('_', '-')}" for name in ENDPOINTS} <= site["operations.html"].ids


def test_every_ingestion_error_code_is_explained(site) -> None:
    page = site["troubleshooting.html"]

    assert set(FAULT_CODES) <= page.ids
    for fault in FAULT_CODES.values():
        said = f"{fault.code} {fault.meaning[0].upper()}{fault.meaning[1:]}. {fault.action}"
        assert said in page.text


def test_every_error_is_explained(site) -> None:
    page = site["troubleshooting.html"]

    for name, cls in vars(errors).items():
        if name.startswith("GeoCatalog"):
            assert name in page.text
            assert not cls.hint or cls.hint.replace("`", "") in page.text


def test_every_example_dag_is_shown(site) -> None:
    for file in (ROOT / "example_dags").glob("*.py"):
        assert file.stem.replace("_", "-") in {one.replace("_", "-") for one in site["examples.html"].ids}
        [dag_id, *_] = re.findall(r'(?:DAG|dag)\(\s*(?:dag_id=)?"(\w+)"', file.read_text())
        assert dag_id in site["examples.html"].text


def test_every_part_of_the_readme_and_every_version_is_in_the_site(site) -> None:
    included = {
        title
        for page in DOCS.glob("*.md")
        for title in re.findall(r'^:start-after: "## (.*)"$', page.read_text(), re.MULTILINE)
    }
    assert set(re.findall(r"^## (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)) - included == NOT_IN_SITE
    released = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released
    assert all(version in site["upgrading.html"].text for version in released)


def test_nothing_is_left_of_the_markup(site) -> None:
    for name, page in site.items():
        left = re.findall(r"\]\((?!s\b)[^)]*\)|<!-- generated|```|:(?:class|func|meth|mod):`", "".join(page.prose))
        assert left == [], name


def test_links_within_the_site_lead_somewhere(site, site_folder) -> None:
    broken = set()
    for name, page in site.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = unquote(link).partition("#")
            target = os.path.normpath(Path(name).parent / path) if path else name
            if not (site_folder / target).exists() or (anchor and target in site and anchor not in site[target].ids):
                broken.add(f"{name}: {link}")
    assert broken == set()


def test_every_page_is_reached_from_the_first(site) -> None:
    seen, todo = set(), ["index.html"]
    while todo:
        name = todo.pop()
        if name in site and name not in seen:
            seen.add(name)
            todo += [os.path.normpath(Path(name).parent / link.partition("#")[0]) for link in site[name].links]
    assert set(site) - seen <= {"search.html", "genindex.html", "py-modindex.html"}


def anchors_of(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#{1,6} (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles} | set(
        re.findall(r'<a id="([^"]+)">', text)
    )


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *DOCS.glob("*.md")], ids=lambda page: page.name)
def test_links_lead_somewhere_on_a_code_host_too(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" not in link and not (
            target.exists() and (not anchor or target.suffix != ".md" or anchor in anchors_of(target))
        ):
            broken.append(link)
    assert broken == []
