"""The client's methods and the page that lists them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from airflow_provider_geocatalog.api.dialects import API_VERSIONS, DIALECTS
from airflow_provider_geocatalog.api.endpoints import ENDPOINTS
from airflow_provider_geocatalog.api.operations import endpoint_of
from airflow_provider_geocatalog.client_methods import ListMethod, Method, OperationMethods

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations.md"
WAITING = {"wait", "wait_for_operation", "wait_for_run"}


def methods():
    return {name: one for name, one in vars(OperationMethods).items() if isinstance(one, Method | ListMethod)}


def test_every_operation_is_a_method_of_the_same_name():
    found = {name: endpoint_of(one.definition).name for name, one in methods().items() if name not in WAITING}

    assert found == {name: name for name in ENDPOINTS}


def test_every_method_documents_all_its_arguments():
    import inspect

    for name, one in methods().items():
        documented = set(re.findall(r":param (\w+):", one.__doc__))
        assert documented == set(inspect.signature(one.definition).parameters), name


def test_the_page_is_current():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "operations_page.py", "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_the_page_has_every_path_of_every_version():
    text = PAGE.read_text()

    for version in API_VERSIONS:
        dialect = DIALECTS[version]
        for endpoint in filter(dialect.has, ENDPOINTS.values()):
            assert f"`{endpoint.method} {dialect.template(endpoint)}`" in text
    for version in API_VERSIONS:
        assert version in text
