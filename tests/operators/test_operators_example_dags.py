"""The example DAGs, as a machine reads them that has nothing but what the package depends on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.airflow_versions import AIRFLOW_VERSION

EXAMPLES = Path(__file__).parents[2] / "example_dags"
#: What only the extras bring, and what reading a DAG must not import.
ABSENT, HEAVY = ("pyarrow", "stac_geoparquet"), ("pystac_client", "pystac", "jsonschema")

READ = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())

try:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization
except ImportError:  # Airflow 2
    import jsonschema  # its own need, for the parameters of a DAG
    from airflow.models.dagbag import DagBag
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

before = set(sys.modules)
bag = DagBag({folder!r})
heavy = [name for name in {heavy} if name in set(sys.modules) - before]
dags = {{}}
for dag_id, dag in bag.dags.items():
    kept = DagSerialization.to_dict(dag)
    kept["dag"]["tags"] = sorted(dag.tags)  # a set
    dags[dag_id] = {{"tags": sorted(dag.tags), "doc": dag.doc_md or "", "text": json.dumps(kept, sort_keys=True)}}
print("\\n" + json.dumps({{"errors": bag.import_errors, "heavy": heavy, "dags": dags}}))
"""


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """What Airflow makes of the folder, in two processes."""
    home = tmp_path_factory.mktemp("home")
    code = READ.format(absent=set(ABSENT), heavy=HEAVY, folder=str(EXAMPLES))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={
                "AIRFLOW_HOME": str(home / seed),
                "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "PYTHONHASHSEED": seed,
                "PATH": "",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    found = []
    try:
        for process in processes:
            output, errors = process.communicate(timeout=100)
            assert process.returncode == 0, errors
            found.append(json.loads(output.splitlines()[-1]))
    finally:
        for process in processes:
            process.kill()
    return found


def test_all_are_read_without_the_extras(read):
    assert read[0]["errors"] == {}
    files = {path.stem for path in EXAMPLES.glob("*.py")}
    if AIRFLOW_VERSION < (3, 0):
        files.remove("geocatalog_watch_operations")  # there are no asset watchers
    # A file with several DAGs has its own name before theirs.
    assert {max((name for name in files if dag.startswith(name)), default=dag) for dag in read[0]["dags"]} == files


def test_reading_them_is_cheap(read):
    assert read[0]["heavy"] == []


def test_each_says_what_it_is(read):
    for dag_id, dag in read[0]["dags"].items():
        assert {"geocatalog", "example"} <= set(dag["tags"]), dag_id
        assert "**What it shows.**" in dag["doc"], dag_id
        assert "**What it needs.**" in dag["doc"], dag_id


def test_what_airflow_keeps_of_them_is_the_same_each_time(read):
    # Otherwise Airflow would make a new version of the DAG each time that it reads the file.
    for dag_id, dag in read[0]["dags"].items():
        assert dag["text"] == read[1]["dags"][dag_id]["text"], dag_id
        assert not re.search(r"\b0x[0-9a-f]{6,}", dag["text"]), dag_id
