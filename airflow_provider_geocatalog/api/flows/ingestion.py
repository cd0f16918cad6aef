"""Bulk ingestion: definitions, runs, and finding the run that was started before."""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.calls import is_ambiguous
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogBadRequest,
    GeoCatalogConflict,
    GeoCatalogError,
    GeoCatalogNotFound,
)
from airflow_provider_geocatalog.api.flows.collections import find_collection
from airflow_provider_geocatalog.api.http import Flow, Pause
from airflow_provider_geocatalog.api.operations import ingestions as service
from airflow_provider_geocatalog.api.operations.ingestions import URL_MEMBERS
from airflow_provider_geocatalog.api.operations.operations import cancel_operation
from airflow_provider_geocatalog.api.outcomes import is_success

if TYPE_CHECKING:
    from airflow_provider_geocatalog.api.models import Ingestion, Run

__all__ = [
    "Definition",
    "IfRunExists",
    "StartedRun",
    "cancel_if_active",
    "create_run",
    "ensure_ingestion",
    "ensure_run",
    "list_runs",
]

log = logging.getLogger(__name__)

#: Looks for a run after an ambiguous answer, and the seconds between them: the list may lag behind the write.
_LOOKS = 4
_LOOK_AGAIN = 2.0


class IfRunExists(enum.Enum):
    """What starting a run does when the definition has one that is live or has succeeded."""

    ADOPT = "adopt"
    FAIL = "fail"
    NEW = "new"


@dataclass(frozen=True)
class Definition:
    """
    What to ingest and how.

    :param collection_id: Target collection, which has to exist.
    :param source_url: URL of a STAC ``catalog.json`` or ``collection.json``, or of a stac-geoparquet file.
    :param display_name: Name shown in the GeoCatalog; definitions are found again by it.
    :param import_type: ``StaticCatalog`` or ``StacGeoparquet``.
    :param skip_existing_items: Whether items that are in the collection already are left alone.
    :param keep_original_assets: Whether originals are kept beside converted assets.
    """

    collection_id: str
    source_url: str
    display_name: str
    import_type: str = "StaticCatalog"
    skip_existing_items: bool = True
    keep_original_assets: bool = False

    def to_body(self) -> dict[str, Any]:
        """Return the request body."""
        return {
            "importType": self.import_type,
            "displayName": self.display_name,
            URL_MEMBERS[self.import_type]: self.source_url,
            "skipExistingItems": self.skip_existing_items,
            "keepOriginalAssets": self.keep_original_assets,
        }

    def describes(self, ingestion: Ingestion) -> bool:
        """Return whether an existing definition is this one."""
        return ingestion.status != "Deleting" and (
            ingestion.display_name,
            ingestion.import_type,
            ingestion.source_catalog_url or ingestion.stac_geoparquet_url,
            bool(ingestion.skip_existing_items),
            bool(ingestion.keep_original_assets),
        ) == (
            self.display_name,
            self.import_type,
            self.source_url,
            self.skip_existing_items,
            self.keep_original_assets,
        )


def require_collection(collection_id: str) -> Flow[None]:
    """
    Refuse to go on without the target collection.

    :raises GeoCatalogNotFound: It does not exist.
    """
    if (yield from find_collection(collection_id)) is None:
        raise GeoCatalogNotFound(
            f"collection {collection_id!r} does not exist, so nothing can be ingested into it",
            code="CollectionDoesNotExist",
            hint="Create it in an upstream task; a bulk ingestion does not create its collection.",
        )


def find_ingestion(definition: Definition) -> Flow[Ingestion | None]:
    """Return the oldest definition that says the same, if there is one."""
    present = yield from service.list_ingestions(definition.collection_id).read_all()
    return next(filter(definition.describes, present), None)


def ensure_ingestion(definition: Definition) -> Flow[Ingestion]:
    """
    Find the definition, or create it.

    :raises GeoCatalogInvalidInput: The api-version does not have this import type.
    :raises GeoCatalogNotFound: The collection does not exist.
    """
    yield from require_collection(definition.collection_id)
    existing = yield from find_ingestion(definition)
    if existing is not None:
        log.info("Using the ingestion definition %s (%s).", existing.ingestion_id, definition.display_name)
        return existing
    try:
        return (yield from service.create_ingestion(definition.collection_id, definition.to_body()))
    except GeoCatalogError as error:
        if not is_ambiguous(error):
            raise
        log.warning("%s Looking whether the definition was created all the same.", error)
        for _ in range(_LOOKS):
            yield Pause(_LOOK_AGAIN)
            existing = yield from find_ingestion(definition)
            if existing is not None:
                return existing
        raise


def list_runs(collection_id: str, ingestion_id: str) -> Flow[list[Run]]:
    """Return the runs of a definition, newest first."""
    runs = yield from service.list_runs(collection_id, ingestion_id).read_all()
    return sorted(runs, key=lambda run: run.created_at.timestamp() if run.created_at else 0.0, reverse=True)


@dataclass(frozen=True)
class StartedRun:
    """
    A run, and whether it is ours.

    :param adopted: Whether it had been started before and was taken over.
    """

    run: Run
    adopted: bool


def ensure_run(
    collection_id: str,
    ingestion_id: str,
    *,
    if_run_exists: IfRunExists,
    max_failed_items: int = 0,
) -> Flow[StartedRun]:
    """
    Adopt the definition's run that is live or has succeeded, or start one.

    After an ambiguous answer to the start the runs are looked at before anything is started again. A run that is being
    cancelled is not adopted.

    :param max_failed_items: Failed items with which a run still counts as succeeded.
    :raises GeoCatalogConflict: There is such a run and ``if_run_exists`` is *fail*.
    """
    runs = yield from list_runs(collection_id, ingestion_id)
    present = next((run for run in runs if run.is_live), None) or next(
        (run for run in runs if is_success(run.operation, max_failed_items=max_failed_items)), None
    )
    if present is not None and if_run_exists is not IfRunExists.NEW:
        if if_run_exists is IfRunExists.FAIL:
            raise GeoCatalogConflict(
                f"ingestion {ingestion_id} of collection {collection_id!r} has the run {present.run_id}, which is "
                f"{present.operation.status}",
                hint="Use if_run_exists='adopt' to wait for it, or 'new' to start another.",
            )
        return StartedRun(present, adopted=True)
    known = {run.run_id for run in runs}
    return StartedRun((yield from create_run(collection_id, ingestion_id, known=known)), adopted=False)


def create_run(collection_id: str, ingestion_id: str, *, known: set[str] | None = None) -> Flow[Run]:
    """
    Start a run, exactly one: if the answer is lost, the run that the service started is found.

    :param known: Ids of the runs that were there before.
    """
    if known is None:
        known = {run.run_id for run in (yield from list_runs(collection_id, ingestion_id))}
    try:
        return (yield from service.create_run(collection_id, ingestion_id))
    except GeoCatalogError as error:
        if not is_ambiguous(error):
            raise
        log.warning("%s Looking whether the run was started all the same.", error)
        for _ in range(_LOOKS):
            yield Pause(_LOOK_AGAIN)
            runs = yield from list_runs(collection_id, ingestion_id)
            started = [run for run in runs if run.run_id not in known]
            if started:
                log.info("The run %s had been started.", started[0].run_id)
                return started[0]
        raise


def cancel_if_active(operation_id: str) -> Flow[bool]:
    """
    Cancel one operation or run by id, unless it has ended.

    :return: Whether the service took the request; false if the operation had ended already.
    """
    try:
        yield from cancel_operation(operation_id)
    except GeoCatalogBadRequest as error:
        if error.status == 400:  # documented for operations that have ended (geocatalog-api 6.4)
            return False
        raise
    except GeoCatalogNotFound:
        return False
    return True
