"""
A GeoCatalog on this machine: the service's control plane over HTTP, with its delays, errors and api-versions.

Nothing here imports Airflow. ``python -m airflow_provider_geocatalog.emulator`` starts it from a shell.
"""

try:
    from airflow_provider_geocatalog.emulator.app import Emulator
    from airflow_provider_geocatalog.emulator.limits import Limits
    from airflow_provider_geocatalog.emulator.server import EmulatorServer
    from airflow_provider_geocatalog.emulator.settings import EmulatorSettings
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"the emulator needs {error.name}; install airflow-provider-geocatalog[emulator]", name=error.name
    ) from error

__all__ = ["Emulator", "EmulatorServer", "EmulatorSettings", "Limits"]
