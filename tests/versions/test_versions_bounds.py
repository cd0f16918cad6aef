"""The lowest versions that are declared are those that the first row of the matrix runs with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOWEST = ROOT / "constraints" / "airflow-2.11.0.txt"
#: What the environments of the matrix have of the extras.
EXTRAS = ("azure-storage", "azurite", "emulator", "geoparquet", "sdk")


def test_the_lowest_versions_are_those_that_are_tried():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(line for name in EXTRAS for line in extras[name])]
    declared = dict(re.findall(r"^([\w.-]+)>=([\w.]+)$", "\n".join(requirements), re.MULTILINE))
    tried = dict(re.findall(r"^([\w.-]+)==([\w.]+)$", LOWEST.read_text(), re.MULTILINE))

    assert len(declared) > 10
    lowest = {name: Version(version) for name, version in declared.items()}
    assert {name: Version(tried[name]) for name in declared} == lowest
