"""
A GeoCatalog on this machine: the service's control plane over HTTP, with its delays, errors and api-versions.

Nothing here imports Airflow. ``python -m airflow_provider_geocatalog.emulator`` starts it from a shell.
"""

from airflow_provider_geocatalog.emulator.app import Emulator
from airflow_provider_geocatalog.emulator.limits import Limits
from airflow_provider_geocatalog.emulator.server import EmulatorServer
from airflow_provider_geocatalog.emulator.settings import EmulatorSettings

__all__ = ["Emulator", "EmulatorServer", "EmulatorSettings", "Limits"]
