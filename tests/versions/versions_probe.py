"""Import everything and parse the example DAGs in a process of its own; say as JSON what came of each."""

from __future__ import annotations

import importlib
import json
import pkgutil
import runpy
import sys
from pathlib import Path

import airflow_provider_geocatalog


def outcome(work):
    """Return what the work returns, or the error in words."""
    try:
        return work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def import_modules() -> dict[str, str]:
    # The emulator's command line starts when it is imported.
    names = [
        module.name
        for module in pkgutil.walk_packages(airflow_provider_geocatalog.__path__, "airflow_provider_geocatalog.")
        if not module.name.endswith("__main__")
    ]
    return {name: outcome(lambda name=name: importlib.import_module(name) and "imported") for name in names}


def serialize(dag):
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialization
    except ImportError:  # before Airflow 3.2
        from airflow.serialization.serialized_objects import SerializedDAG as Serialization
    document = json.loads(json.dumps(Serialization.to_dict(dag)))
    return sorted(Serialization.from_dict(document).task_dict)


def parse(path: Path):
    from airflow.providers.common.compat.sdk import DAG

    found = {value.dag_id: value for value in runpy.run_path(str(path)).values() if isinstance(value, DAG)}
    return {name: serialize(dag) for name, dag in found.items()}


def features() -> dict[str, bool]:
    """Return whether there is what docs/versions.md says of Airflow's versions, by the name of the line there."""
    from airflow.providers.common.compat.sdk import Asset
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_geocatalog.sensors.ingestion import GeoCatalogOperationSensor
    from airflow_provider_geocatalog.triggers.events import GeoCatalogOperationEndedTrigger

    def watch() -> bool:
        from airflow.sdk import AssetWatcher

        watcher = AssetWatcher(name="watcher", trigger=GeoCatalogOperationEndedTrigger())
        return bool(Asset("asset", watchers=[watcher]).watchers)

    sensor = GeoCatalogOperationSensor(task_id="wait", operation_id="id", deferrable=True)
    return {
        "Sensors start and end in the triggerer": sensor.start_from_trigger,
        "A user's stop cancels the work of a waiting task": hasattr(BaseTrigger, "on_kill"),
        "Asset watchers": outcome(watch) is True,
        "All watchers of a connection share one poll, and remember what they have told": is_there(
            "airflow.triggers.shared_stream"
        ),
        "`GeoCatalogRetryPolicy`": is_there("airflow_provider_geocatalog.retry_policies"),
        "A person approves a plan (example `geocatalog_collection_as_code`)": is_there(
            "airflow.providers.standard.operators.hitl"
        ),
    }


def is_there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except Exception:  # Airflow 3.0 refuses the module of tasks for humans with an exception of its own
        return False
    return True


def main() -> None:
    import airflow

    examples = Path(__file__).resolve().parents[2] / "example_dags"
    told = {
        "airflow": airflow.__version__,
        "modules": import_modules(),
        "examples": {path.stem: outcome(lambda path=path: parse(path)) for path in sorted(examples.glob("*.py"))},
        "features": features(),
    }
    Path(sys.argv[1]).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
