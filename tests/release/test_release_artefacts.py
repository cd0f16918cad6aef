"""What a release consists of: the files that it has and has not, and what they say of themselves."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from email import message_from_string
from pathlib import Path, PurePosixPath

import pytest
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import parse_sdist_filename, parse_wheel_filename

from airflow_provider_geocatalog import __version__
from airflow_provider_geocatalog.provider_info import get_provider_info

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_geocatalog"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Names that no part of a file's path has: what is made on the way, and what is nobody else's.
UNWANTED = re.compile(r"^(__pycache__|_build|build|dist|airflow|.*\.(pyc|db|log|egg-info)|\..*)$")
#: The build backend puts it there, so that a later build leaves the same files out.
WANTED = {".gitignore"}

pytestmark = pytest.mark.timeout(900)  # the first tests build


@pytest.fixture(scope="module")
def wheel(artefacts):
    with zipfile.ZipFile(artefacts.wheel) as archive:
        yield archive


@pytest.fixture(scope="module")
def sources(artefacts) -> dict[str, bytes]:
    """Return the files of the source distribution, without their common folder."""
    with tarfile.open(artefacts.sdist) as archive:
        return {
            member.name.partition("/")[2]: archive.extractfile(member).read()
            for member in archive
            if not member.isdir()
        }


def _text(wheel: zipfile.ZipFile, name: str) -> str:
    [path] = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


@pytest.fixture(scope="module")
def metadata(wheel):
    return message_from_string(_text(wheel, "METADATA"))


# --- files -----------------------------------------------------------------------------------------------------------


def test_every_module_of_the_package_is_in_the_wheel_and_nothing_else(wheel):
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / PACKAGE).rglob("*.py")}
    examples = {f"{PACKAGE}/example_dags/{file.name}" for file in (ROOT / "example_dags").glob("*.py")}
    assert {name for name in wheel.namelist() if name.endswith(".py")} == modules | examples
    assert {name.split("/")[0].partition("-")[0] for name in wheel.namelist()} == {PACKAGE}


def test_the_example_dags_are_in_the_package_byte_for_byte(wheel):
    inside = {
        Path(name).name: wheel.read(name) for name in wheel.namelist() if name.startswith(f"{PACKAGE}/example_dags/")
    }
    assert inside == {file.name: file.read_bytes() for file in (ROOT / "example_dags").glob("*.py")}


def test_the_wheel_has_what_the_package_reads(wheel):
    data = {
        str(file.relative_to(ROOT))
        for file in (ROOT / PACKAGE).rglob("*")
        if file.is_file() and file.suffix not in {".py", ".pyc"}
    }
    assert f"{PACKAGE}/py.typed" in data  # it says that it is typed
    assert data <= set(wheel.namelist())


def test_nothing_is_inside_that_should_not_be(wheel, sources):
    for name in [*wheel.namelist(), *sources]:
        assert {part for part in PurePosixPath(name).parts if UNWANTED.match(part)} <= WANTED, name


def test_the_source_distribution_has_what_the_repository_has(sources):
    done = subprocess.run(
        ["git", "ls-files"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("this is no clone")
    kept = {name for name in done.stdout.splitlines() if (ROOT / name).is_file() and not name.startswith(".")}
    assert kept - set(sources) == set()


def test_a_second_build_elsewhere_gives_the_same_bytes(artefacts, built_again):
    for one, other in ((artefacts.wheel, built_again.wheel), (artefacts.sdist, built_again.sdist)):
        assert one.name == other.name
        assert hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest(), one.name


# --- metadata --------------------------------------------------------------------------------------------------------


def test_all_say_the_same_name_and_version(artefacts, metadata):
    assert parse_wheel_filename(artefacts.wheel.name)[:2] == parse_sdist_filename(artefacts.sdist.name)
    assert str(parse_wheel_filename(artefacts.wheel.name)[1]) == metadata["Version"] == __version__
    assert metadata["Name"] == get_provider_info()["package-name"]


def test_it_installs_on_every_supported_python(artefacts, metadata):
    [tag] = parse_wheel_filename(artefacts.wheel.name)[3]
    assert str(tag) == "py3-none-any"
    classified = [
        line.rpartition(" ")[2] for line in metadata.get_all("Classifier") if re.search(r":: Python :: 3\.\d+$", line)
    ]
    allowed = SpecifierSet(metadata["Requires-Python"])
    assert classified
    assert all(version in allowed for version in classified)
    assert "3.10" not in allowed


def test_package_indexes_show_it_among_providers(metadata):
    assert "Framework :: Apache Airflow :: Provider" in metadata.get_all("Classifier")
    assert metadata["Summary"]
    assert metadata["Keywords"]
    urls = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL"))
    assert urls["Documentation"].startswith("https://")


def test_every_extra_is_there_and_asks_for_something(metadata):
    wanted = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    by_extra = {
        extra: [one for one in wanted if one.marker and one.marker.evaluate({"extra": extra})]
        for extra in metadata.get_all("Provides-Extra")
    }
    assert set(by_extra) == set(PROJECT["optional-dependencies"])
    assert all(by_extra.values())
    # One that asks for another of our extras names one that exists.
    own = [one for asked in by_extra.values() for one in asked if one.name == metadata["Name"]]
    assert {extra for one in own for extra in one.extras} <= set(by_extra)
    [airflow] = (one for one in wanted if one.name == "apache-airflow" and not one.marker)
    assert "2.11.2" in airflow.specifier
    assert "2.10.5" not in airflow.specifier


def test_the_long_description_renders(metadata):
    assert metadata["Description-Content-Type"] == "text/markdown"
    described = metadata.get_payload()
    assert described == (ROOT / "README.md").read_text()
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(described)
    assert [token.tag for token in tokens if token.type == "heading_open"].count("h1") == 1
    assert not [token for token in tokens if token.type == "html_block" and not token.content.startswith("<!--")]


def test_the_licence_is_in_both(wheel, sources, metadata):
    licence = (ROOT / "LICENSE").read_text()
    assert _text(wheel, "licenses/LICENSE") == sources["LICENSE"].decode() == licence
    assert metadata["License-Expression"] == "Apache-2.0"


def test_airflow_finds_the_provider_by_its_entry_point(wheel):
    points = ConfigParser()
    points.read_string(_text(wheel, "entry_points.txt"))
    assert dict(points["apache_airflow_provider"]) == {"provider_info": f"{PACKAGE}.provider_info:get_provider_info"}
