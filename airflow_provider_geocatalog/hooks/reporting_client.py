"""The client that Airflow's hooks use: it tells hook lineage which collections it uses, and logs for which task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, get_current_context

from airflow_provider_geocatalog.api.endpoints import CREATE_RUN, SEARCH
from airflow_provider_geocatalog.api.http import Area
from airflow_provider_geocatalog.api.log_lines import belong_to
from airflow_provider_geocatalog.client import GeoCatalogClient
from airflow_provider_geocatalog.lineage import record_collection

if TYPE_CHECKING:
    from airflow_provider_geocatalog.api.http import Request, Response

__all__ = ["ReportingClient"]


def _task_ids() -> dict[str, Any]:
    """Return the ids of the task instance that runs in this process; the triggerer has its own way to tell them."""
    try:
        ti: Any = get_current_context()["ti"]
        names = ("dag_id", "run_id", "task_id", "map_index", "try_number")
        return {name: getattr(ti, name) for name in names}
    except (RuntimeError, AirflowException, AttributeError, KeyError):  # no task runs here
        return {}


belong_to(_task_ids)


class ReportingClient(GeoCatalogClient):
    """A client for tasks, also those that use :attr:`.GeoCatalogHook.client` in code of their own."""

    def send(self, request: Request) -> Response:
        """Send one request, and tell of its collections if the service took it."""
        response = super().send(request)
        if response.status < 400:
            self._report(request)
        return response

    def _report(self, request: Request) -> None:
        endpoint = request.endpoint
        # The other areas' requests tell how an ingestion is going, and the like.
        if endpoint.area is not Area.STAC and endpoint is not CREATE_RUN:
            return
        collections = [request.names["collection_id"]] if "collection_id" in request.names else []
        if endpoint is SEARCH and isinstance(request.body, dict):
            collections = list(request.body.get("collections") or ())
        for collection_id in collections:
            writes = endpoint.method != "GET" and endpoint is not SEARCH
            record_collection(self, self.settings.url, collection_id, writes=writes)
