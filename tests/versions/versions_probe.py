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


def form_fields() -> list[str]:
    """Return the fields of our own that the form has where the user sees it."""
    try:
        from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
    except ImportError:  # Airflow 2
        from airflow.providers_manager import ProvidersManager

        names = ProvidersManager().connection_form_widgets
        return [name.removeprefix("extra__geocatalog__") for name in names if "extra__geocatalog__" in name]
    [ours] = [hook for hook in HookMetaService.hook_meta_data() if hook.connection_type == "geocatalog"]
    return list(ours.extra_fields or [])


def main() -> None:
    import airflow

    examples = Path(__file__).resolve().parents[2] / "example_dags"
    told = {
        "airflow": airflow.__version__,
        "modules": import_modules(),
        "examples": {path.stem: outcome(lambda path=path: parse(path)) for path in sorted(examples.glob("*.py"))},
        "form": outcome(form_fields),
    }
    Path(sys.argv[1]).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
