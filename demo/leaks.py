"""Search what people can read for secrets."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from demo.airflow_api import AirflowApi

__all__ = ["answer_texts", "file_texts", "find_secrets", "run_texts"]

#: A SAS signature that nobody masked, also percent-encoded.
_SIGNATURE = re.compile(rb"sig(?:=|%3D)[A-Za-z0-9+/%_-]", re.IGNORECASE)
_SHORTEST = 8  # characters; shorter words occur by chance


def find_secrets(texts: Iterable[tuple[str, bytes]], secrets: Collection[str]) -> list[str]:
    """
    Return where a secret or an unmasked ``sig=`` stands.

    :param texts: Names of places, and what stands there.
    :param secrets: The secrets, in whichever form they are given.
    """
    forms = {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
    found = []
    for place, text in texts:
        if any(form in text for form in forms):
            found.append(f"{place}: a secret of a connection")
        if not place.endswith(".db") and _SIGNATURE.search(text):  # a database's pages join what does not belong
            found.append(f"{place}: an unmasked 'sig='")
    return found


def _forms(secret: str) -> set[bytes]:
    """Return a secret as it may stand in a text: as it is, decoded, percent-encoded, in JSON, HTML, base64 and hex."""
    plain = {secret, unquote(secret)}
    encoded = {form for one in plain for form in (quote(one, safe=""), quote(one))}
    twice = {quote(form, safe="") for form in encoded}  # a signed URL inside the query string of another
    written = {re.sub("%..", lambda found: found[0].lower(), form) for form in encoded | twice}
    escaped = {form for one in plain for form in (one.replace("/", "\\/"), json.dumps(one)[1:-1], _html(one))}
    texts = {form.encode() for form in plain | encoded | twice | written | escaped}
    raw = {one.encode() for one in plain}
    return texts | {form for one in raw for form in (*_base64(one), one.hex().encode())}


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("+", "&#43;").replace("=", "&#61;")


def _base64(content: bytes) -> Iterator[bytes]:
    """Yield what base64 makes of something, wherever in a longer text it stands."""
    for before in range(3):
        # Characters at both ends depend on what stands around it.
        first, last = -(-before * 8 // 6), (before + len(content)) * 8 // 6
        whole = base64.b64encode(bytes(before) + content)[first:last]
        yield whole
        yield whole.translate(bytes.maketrans(b"+/", b"-_"))


def run_texts(airflow: AirflowApi, dag_id: str, run_id: str, home: Path) -> Iterator[tuple[str, bytes]]:
    """
    Yield everything that people can read of a run.

    :param home: Folder of the logs; its database is searched too.
    """
    yield from file_texts(home)
    yield from answer_texts(airflow, dag_id, run_id)


def file_texts(home: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the logs, and the database if it is a file."""
    for path in sorted(home.rglob("*")):
        if path.is_file() and (path.suffix in {".log", ".db", ".db-wal"} or "logs" in path.parts):
            yield str(path.relative_to(home)), path.read_bytes()


def answer_texts(airflow: AirflowApi, dag_id: str, run_id: str) -> Iterator[tuple[str, bytes]]:
    """Yield what Airflow's REST API answers about a run."""
    for task in airflow.task_instances(dag_id, run_id):
        yield f"rendered fields of {task['task_id']}", json.dumps(task["rendered_fields"], default=str).encode()
    for xcom in airflow.xcoms(dag_id, run_id):
        yield f"XCom {xcom['key']} of {xcom['task_id']}", json.dumps(xcom["value"], default=str).encode()
    yield "the run's configuration", json.dumps(airflow.dag_run(dag_id, run_id), default=str).encode()
