"""A headless Chromium that looks at Airflow's pages."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # nothing but this machine
)


def chromium_program() -> str:
    """Return the machine's Chromium; without one, the test that asks is skipped."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(f"no browser is installed ({', '.join(_NAMES)})")
    return program


@contextmanager
def chromium() -> Iterator[Browser]:
    """
    Start the machine's Chromium, and stop it at the end.

    Playwright runs an event loop in this thread meanwhile, so nothing that runs one of its own may come in between.
    """
    program = chromium_program()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
