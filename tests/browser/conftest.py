"""One Airflow and one Entra for all tests of this folder."""

from __future__ import annotations

import textwrap
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.fakes.browser import chromium, chromium_program
from tests.fakes.entra import ADMINISTRATOR, Application, FakeEntra
from tests.fakes.real_world import BULK, World, bulk_conf, real_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request

PATIENCE = 30_000  # milliseconds that a page may take
DAGS = textwrap.dedent(
    """
    from __future__ import annotations

    import pendulum
    from airflow.providers.common.compat.sdk import DAG

    from airflow_provider_geocatalog.sensors.ingestion import GeoCatalogIngestionRunSensor

    PARAMS = {"ingestion_id": "", "run_id": ""}

    with DAG("browser_sensor", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), params=PARAMS):
        GeoCatalogIngestionRunSensor(
            task_id="ingest",
            collection_id="real",
            ingestion_id="{{ params.ingestion_id }}",
            run_id="{{ params.run_id }}",
            deferrable=True,
            start_from_trigger=False,
            poke_interval=2,
        )
    """
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def entra(tmp_path_factory) -> Iterator[FakeEntra]:
    applications = (
        Application("00000000-0000-4000-8000-00000000000a", "client-secret-of-the-administrator", (ADMINISTRATOR,)),
        Application("00000000-0000-4000-8000-00000000000b", "client-secret-of-nobody-in-particular"),
    )
    with FakeEntra(applications, tmp_path_factory.mktemp("entra") / "certificate.pem") as served:
        yield served


@pytest.fixture(scope="session")
def world(tmp_path_factory, entra) -> Iterator[World]:
    chromium_program()  # before Airflow is started for nothing
    environment = {
        "HTTPS_PROXY": entra.proxy,
        "https_proxy": entra.proxy,
        "AZURE_TOKEN_CREDENTIALS": "prod",  # not those of whoever runs the tests
    }
    with real_world(tmp_path_factory.mktemp("world"), environment=environment) as made:
        (made.airflow.dags_folder / "browser_dags.py").write_text(DAGS)
        yield made


@pytest.fixture(scope="session")
def bulk_run(world) -> str:
    """Id of a run of the example DAG, which goes on while other tests are at work."""
    return world.airflow.trigger(BULK, bulk_conf(world))


@dataclass
class Tab:
    """
    A page, and all that Airflow has told it.

    :param finished: Requests whose answers are not read yet.
    """

    page: Page
    url: str
    finished: list[Request] = field(default_factory=list)
    _heard: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.heard()  # while the browser still has them
        self.page.goto(f"{self.url}{path}", wait_until="domcontentloaded")

    def listen(self, request: Request) -> None:
        if "/api/v2/" in request.url or "/ui/" in request.url:
            self.finished.append(request)

    def heard(self) -> list[str]:
        """Return the bodies of the API's answers so far. A handler of events must not ask Playwright for them."""
        finished, self.finished[:] = list(self.finished), []
        self._heard += [request.response().text() for request in finished]
        return self._heard

    # --- the list of connections ---

    def row(self, connection_id: str) -> Locator:
        """Return the row of a connection in the list."""
        row = self.page.get_by_role("row").filter(has=self.page.get_by_role("cell", name=connection_id, exact=True))
        row.wait_for()
        return row

    def test_connection(self, connection_id: str) -> str:
        """Press a connection's test button in the list, and return the title and the text of what is said then."""
        old = self.page.get_by_role("status").evaluate_all("toasts => toasts.map(toast => toast.id)")
        # Not with the mouse: a toast may lie over the button, and stays while the mouse is over it.
        self.row(connection_id).get_by_role("button", name="Test Connection").press("Enter")
        new = "[role=status]" + "".join(f':not([id="{one}"])' for one in old)  # those that are there go after seconds
        return str(self.page.locator(new, has_text="Test Connection").inner_text())


@pytest.fixture(scope="module")
def context(browser) -> Iterator[BrowserContext]:
    """What the pages of a module share: above all the megabytes of Airflow's JavaScript."""
    context = browser.new_context(viewport={"width": 1400, "height": 1400}, locale="en-US")
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@contextmanager
def _new_tab(context: BrowserContext, world: World) -> Iterator[Tab]:
    made = Tab(context.new_page(), world.airflow.url)
    made.page.on("requestfinished", made.listen)
    yield made
    made.page.close()


@pytest.fixture
def tab(context, world) -> Iterator[Tab]:
    with _new_tab(context, world) as made:
        yield made


@pytest.fixture(scope="module")
def lasting_tab(context, world) -> Iterator[Tab]:
    """A tab for a module's tests that all look at one page: each load of it takes seconds."""
    with _new_tab(context, world) as made:
        yield made
