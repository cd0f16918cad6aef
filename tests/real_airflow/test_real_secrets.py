"""After everything that the other tests of this folder did: no secret is anywhere."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from demo.leaks import find_secrets, run_texts
from tests.fakes.real_world import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.real_world import World

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(150)]

_UNMASKED = re.compile(rb"sig(?:=|%3D)(?!\*\*\*)", re.IGNORECASE)


def _database_texts(world: World) -> Iterator[tuple[str, bytes]]:
    for (table,) in world.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"):
        for row in world.query(f'SELECT * FROM "{table}"'):
            yield f"table {table}", b"\n".join(map(_bytes, row))


def _bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, memoryview | bytes) else json.dumps(value, default=str).encode()


def test_no_secret_can_be_read(world, first_run, emulator_log):
    airflow = world.airflow
    texts = [("emulator.log", emulator_log.read_bytes())]
    for dag_id in [dag["dag_id"] for dag in airflow.call("GET", "/dags")["dags"]]:
        for run in airflow.call("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"]:
            found = run_texts(airflow, dag_id, run["dag_run_id"], airflow.home)
            texts += [(f"{dag_id}: {place}", text) for place, text in found if not place.endswith((".db", ".db-wal"))]
    rows = list(_database_texts(world))
    tables = {place for place, _ in rows}
    assert {"table xcom", "table rendered_task_instance_fields", "table task_instance", "table log"} <= tables
    assert any(place.endswith("triggerer.log") for place, _ in texts)
    assert any("/logs/" in f"/{place}" or ": logs/" in place for place, _ in texts)
    texts += rows

    signature = parse_qs(world.storage.sas_token)["sig"][0]
    assert find_secrets(texts, [TOKEN, signature, "wrong-token-that-nobody-may-read"]) == []
    assert [place for place, text in texts if _UNMASKED.search(text)] == []
