"""What is only in some versions of Airflow, or in another place."""

from __future__ import annotations

import airflow

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2
    from airflow.io.store import attach

__all__ = ["AIRFLOW_VERSION", "attach"]

#: Major and minor.
AIRFLOW_VERSION = tuple(int(part) for part in airflow.__version__.split(".")[:2])
