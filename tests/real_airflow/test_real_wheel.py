"""The wheel that users install."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_geocatalog"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    if importlib.util.find_spec("hatchling"):
        command.insert(4, "--no-isolation")  # needs no network
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


def _metadata(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


def test_it_says_that_it_is_typed(wheel):
    assert f"{PACKAGE}/py.typed" in wheel.namelist()


def test_the_example_dags_are_in_the_package_byte_for_byte(wheel):
    inside = {
        Path(name).name: wheel.read(name) for name in wheel.namelist() if name.startswith(f"{PACKAGE}/example_dags/")
    }
    assert inside == {file.name: file.read_bytes() for file in (ROOT / "example_dags").glob("*.py")}


def test_every_module_of_the_package_is_in_it_and_nothing_else(wheel):
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / PACKAGE).rglob("*.py")}
    examples = {f"{PACKAGE}/example_dags/{file.name}" for file in (ROOT / "example_dags").glob("*.py")}
    assert {name for name in wheel.namelist() if name.endswith(".py")} == modules | examples
    assert {name.split("/")[0].partition("-")[0] for name in wheel.namelist()} == {PACKAGE}


def test_the_licence_is_in_it(wheel):
    assert _metadata(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()
    assert "License-Expression: Apache-2.0" in _metadata(wheel, "METADATA")


def test_airflow_finds_the_provider_by_its_entry_point(wheel):
    points = ConfigParser()
    points.read_string(_metadata(wheel, "entry_points.txt"))
    assert dict(points["apache_airflow_provider"]) == {"provider_info": f"{PACKAGE}.provider_info:get_provider_info"}
