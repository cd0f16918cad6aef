"""Say as JSON what an environment makes of the installed provider: modules, metadata, example DAGs."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from pathlib import Path

import airflow_provider_geocatalog

NAME = "airflow-provider-geocatalog"
FOLDER = Path(airflow_provider_geocatalog.__file__).parent


def import_modules() -> dict[str, str]:
    """Import all modules; a package that cannot be imported hides its own from the walk, so look for files."""
    told = {}
    for file in sorted(FOLDER.rglob("*.py")):
        parts = file.relative_to(FOLDER).with_suffix("").parts
        name = ".".join([FOLDER.name, *(part for part in parts if part != "__init__")])
        # The emulator's command line starts when it is imported; the example DAGs are read below.
        if parts[-1] != "__main__" and parts[0] != "example_dags":
            try:
                importlib.import_module(name)
                told[name] = "imported"
            except ImportError as error:
                told[name] = str(error)
    return told


def known_to_airflow() -> dict[str, object]:
    """Return what Airflow found out about the provider, having imported its classes."""
    from airflow.providers_manager import ProvidersManager
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    manager, runtime = ProvidersManager(), ProvidersManagerTaskRuntime()
    hook = runtime.hooks["geocatalog"]
    return {
        "version": manager.providers[NAME].version,
        "hook": hook.hook_class_name if hook else None,
        "triggers": sorted(one.trigger_class_name for one in manager.trigger if one.package_name == NAME),
        "links": sorted(name for name in manager.extra_links_class_names if name.startswith(FOLDER.name)),
        "asset schemes": {
            "handler": "geocatalog" in runtime.asset_uri_handlers,
            "factory": "geocatalog" in runtime.asset_factories,
            "to openlineage": "geocatalog" in runtime.asset_to_openlineage_converters,
        },
    }


def example_dags() -> dict[str, object]:
    """Parse the example DAGs as the dag-processor does."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(FOLDER / "example_dags"))
    files = {Path(dag.fileloc).stem for dag in bag.dags.values()}
    return {"files": sorted(files), "errors": dict(bag.import_errors)}


def asset_uri() -> str:
    """Have Airflow bring an asset's URI into its form, with our handler."""
    from airflow.sdk import Asset

    return Asset(uri="geocatalog://NAME.uksouth.example.com:443/naip/").uri


told = {
    "folder": str(FOLDER),
    "version": importlib.metadata.version(NAME),
    "modules": import_modules(),
    "airflow": known_to_airflow(),
    "examples": example_dags(),
    "asset": asset_uri(),
}
Path(sys.argv[1]).write_text(json.dumps(told))
