"""The pytest plugin, as it works for somebody else's tests: in processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = (Path(__file__).parents[2] / "docs" / "testing-dags.md").read_text()
FILES = dict(re.findall(r"<!-- (\S+) -->\n```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE))


@pytest.fixture
def project(tmp_path):
    """A project whose only ``conftest.py`` names the plugin; returns how to run a test file in it."""
    (tmp_path / "conftest.py").write_text(FILES["conftest.py"])
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -p no:asyncio -p no:cacheprovider -q\n")

    def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_it.py").write_text(code)
        return pytest_in(tmp_path, "test_it.py", **environment)

    return run


def pytest_in(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder,
        env={**os.environ, "AIRFLOW_HOME": str(folder / "home"), **environment},
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )


def test_the_fixtures_work_together(project):
    done = project(
        """
import json, os, pytest, requests

def get(emulator, path):
    headers = {"Authorization": f"Bearer {emulator.admin_token}"}
    return requests.get(f"{emulator.url}{path}?api-version=2026-04-15", headers=headers, timeout=10)

def test_all(geocatalog_emulator, geocatalog_connection, geocatalog_faults, geocatalog_clock, geocatalog_requests):
    assert geocatalog_connection == "geocatalog_default"
    assert json.loads(os.environ["AIRFLOW_CONN_GEOCATALOG_DEFAULT"])["host"] == geocatalog_emulator.url
    geocatalog_faults.add("status", status=503, times=1)
    assert [get(geocatalog_emulator, "/stac/collections").status_code for _ in range(2)] == [503, 200]
    assert [(one.operation, one.status) for one in geocatalog_requests] == [
        ("list_collections", 503), ("list_collections", 200)
    ]
    before = geocatalog_clock.now()
    geocatalog_clock.advance(3600)
    assert geocatalog_clock.now() - before >= 3600

def test_each_test_has_its_own(geocatalog_emulator, geocatalog_faults, geocatalog_requests):
    assert len(geocatalog_faults) == len(geocatalog_requests) == 0
    assert "AIRFLOW_CONN_GEOCATALOG_DEFAULT" not in os.environ
    assert geocatalog_emulator.emulator.settings.items_per_second == 0
"""
    )
    assert "2 passed" in done.stdout, done.stdout


def test_marks_and_a_fixture_set_settings_and_the_closest_mark_wins(project):
    done = project(
        """
import pytest

pytestmark = pytest.mark.geocatalog_emulator(recreate_after=45, max_concurrent_runs=2)

@pytest.fixture
def geocatalog_settings(tmp_path):
    return {"containers": {"landing": tmp_path}, "recreate_after": 1}

@pytest.mark.geocatalog_emulator(max_concurrent_runs=3)
def test_settings(geocatalog_emulator, tmp_path):
    settings = geocatalog_emulator.emulator.settings
    assert (settings.recreate_after, settings.max_concurrent_runs) == (45, 3)
    assert settings.containers == {"landing": tmp_path}
"""
    )
    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.parametrize(("arguments", "words"), [("colour='red'", "colour"), ("3", "takes keyword arguments")])
def test_a_mark_that_makes_no_sense_is_told(project, arguments, words):
    done = project(
        f"import pytest\n@pytest.mark.geocatalog_emulator({arguments})\ndef test_it(geocatalog_emulator): pass\n"
    )
    assert done.returncode != 0
    assert words in done.stdout


def test_the_plugin_does_not_import_airflow(project):
    done = project("import sys\ndef test_it(geocatalog_connection): assert 'airflow' not in sys.modules\n")
    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.airflow
@pytest.mark.timeout(300)
def test_the_documented_example_tests_a_dag(tmp_path):
    assert len(FILES["tests/test_nightly.py"].splitlines()) <= 20
    for name, code in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
    write_catalog(tmp_path / "tests" / "catalog", [f"item-{number}" for number in range(4)])
    dags = str(tmp_path / "dags")
    environment = {
        "AIRFLOW__CORE__DAGS_FOLDER": dags,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": dags,
        "AIRFLOW_HOME": str(tmp_path / "home"),
    }
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(migrate, env={**os.environ, **environment}, check=True, capture_output=True, timeout=140)

    done = pytest_in(tmp_path, "-q", "-p", "no:cacheprovider", "tests", **environment)

    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def write_catalog(folder: Path, names: list[str]) -> None:
    folder.mkdir()
    collection = {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": "naip",
        "description": "a test",
        "license": "CC0-1.0",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        "links": [{"rel": "item", "href": f"{name}.json"} for name in names],
    }
    (folder / "collection.json").write_text(json.dumps(collection))
    for name in names:
        item = {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": name,
            "geometry": {"type": "Point", "coordinates": [8.0, 47.0]},
            "bbox": [8.0, 47.0, 8.0, 47.0],
            "properties": {"datetime": "2024-01-01T00:00:00Z"},
            "links": [],
            "assets": {"image": {"href": "https://example.com/image.tif"}},
        }
        (folder / f"{name}.json").write_text(json.dumps(item))
