from __future__ import annotations

import sys
from pathlib import Path

import pytest

from demo.airflow_stack import AirflowStack, free_ports


@pytest.fixture
def stack(tmp_path, monkeypatch) -> AirflowStack:
    monkeypatch.setenv("AIRFLOW_HOME", "/somebody/elses")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_CONN_MINE", "http://user:secret@example.com")
    monkeypatch.setenv("NO_PROXY", "example.com")
    return AirflowStack(tmp_path / "home", tmp_path / "dags", environment={"AIRFLOW_CONN_GIVEN": "http://a"})


def test_nobody_elses_airflow_is_in_its_environment(stack, tmp_path):
    assert stack.environment["AIRFLOW_HOME"] == str(tmp_path / "home")
    assert stack.environment["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert "AIRFLOW_CONN_MINE" not in stack.environment
    assert stack.environment["AIRFLOW_CONN_GIVEN"] == "http://a"


def test_programs_come_from_the_virtual_environment_first(stack):
    assert stack.environment["PATH"].startswith(str(Path(sys.executable).parent))


def test_loopback_is_reached_without_a_proxy(stack):
    assert stack.environment["NO_PROXY"] == "example.com,127.0.0.1,localhost,::1"


def test_it_listens_where_only_this_machine_can_ask(stack):
    assert stack.environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert stack.url == f"http://127.0.0.1:{stack.environment['AIRFLOW__API__PORT']}"


def test_free_ports_are_all_different():
    assert len(set(free_ports(5))) == 5
