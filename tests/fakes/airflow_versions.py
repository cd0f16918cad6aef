"""What is only in some versions of Airflow, or in another place."""

from __future__ import annotations

from typing import Any

import airflow

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2
    from airflow.io.store import attach

__all__ = ["AIRFLOW_VERSION", "ByAsset", "attach"]

#: Major and minor.
AIRFLOW_VERSION = tuple(int(part) for part in airflow.__version__.split(".")[:2])


class ByAsset(dict[str, Any]):
    """A mapping by assets, as Airflow's accessors are: an asset of Airflow 3.0 cannot be the key of a dict."""

    def __getitem__(self, asset: Any) -> Any:
        return super().__getitem__(_key(asset))

    def __setitem__(self, asset: Any, value: Any) -> None:
        super().__setitem__(_key(asset), value)


def _key(asset: Any) -> Any:
    return getattr(asset, "uri", asset)
