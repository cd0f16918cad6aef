"""``docs/emulator.md``: every route has its row, and every point of the checklist a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_provider_geocatalog.api.dialects import API_VERSIONS, DEFAULT_API_VERSION, DIALECTS
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS

HERE = Path(__file__).parent
TEXT = (HERE.parents[1] / "docs" / "emulator.md").read_text(encoding="utf-8")
POINTS = re.findall(r"^\| (\d+) \| (.*?) \| (.*) \|$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_every_route_has_a_row_with_its_method_path_and_versions(endpoint):
    having = [version[:4] for version in API_VERSIONS if DIALECTS[version].has(endpoint)]
    newest = next(version for version in (DEFAULT_API_VERSION, *API_VERSIONS) if version[:4] in having)
    path = DIALECTS[newest].template(endpoint)
    versions = "all" if len(having) == len(API_VERSIONS) else ", ".join(having)

    assert f"| `{endpoint.name}` | `{endpoint.method} {path}` | {versions} |" in TEXT


def test_the_table_has_no_other_routes():
    assert set(re.findall(r"^\| `(\w+)` \| `[A-Z]+ /", TEXT, re.MULTILINE)) == set(ENDPOINTS)


def test_every_point_of_the_checklist_is_there():
    assert [int(number) for number, _, _ in POINTS] == list(range(1, 22))


@pytest.mark.parametrize("point", POINTS, ids=[number for number, _, _ in POINTS])
def test_every_point_of_the_checklist_names_tests_that_exist(point):
    named = re.findall(r"`(\w+)::(test_\w+)`", point[2])

    assert named
    for module, name in named:
        assert re.search(rf"^def {name}\(", (HERE / f"test_emulator_{module}.py").read_text(), re.MULTILINE), name
