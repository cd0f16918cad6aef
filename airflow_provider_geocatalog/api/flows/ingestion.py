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
from airflow_provider_geocatalog.api.http import Flow, Now, Pause
from airflow_provider_geocatalog.api.operations import ingestions as service
from airflow_provider_geocatalog.api.operations.ingestions import URL_MEMBERS
from airflow_provider_geocatalog.api.operations.operations import cancel_operation, get_operation
from airflow_provider_geocatalog.api.outcomes import is_success

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_geocatalog.api.models import Ingestion, Run

__all__ = [
    "Definition",
    "IfRunExists",
    "StartedRun",
    "cancel_if_active",
    "create_run",
    "ensure_ingestion",
    "ensure_run",
    "foresee_ingestion",
    "foresee_run",
    "list_runs",
]

log = logging.getLogger(__name__)

#: Looks for a run after an ambiguous answer, and the seconds between them: the list may lag behind the write.
_LOOKS = 4
_LOOK_AGAIN = 2.0
#: Seconds in which a trigger that was told to stop cancels its run; Airflow 3.3 tells it after the next try has begun.
_CANCELED_BY_OTHERS_WITHIN = 10.0
_ENDS_WITHIN = 300.0  # seconds for a cancelled run to end


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
    existing = yield from foresee_ingestion(definition)
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
    adopt: Callable[[Sequence[Run]], Run | None] | None = None,
    end_first: Callable[[Run], bool] | None = None,
    before_start: Callable[[Run | None], None] | None = None,
) -> Flow[StartedRun]:
    """
    Adopt the definition's run that is live or has succeeded, or start one.

    After an ambiguous answer to the start the runs are looked at before anything is started again. A run that is being
    cancelled is not adopted.

    :param max_failed_items: Failed items with which a run still counts as succeeded.
    :param adopt: Picks the run, of those that there are, newest first, that is adopted whatever ``if_run_exists`` says,
        if it is live or has succeeded.
    :param end_first: Tells live runs that are to end before anything else: whoever waited for them was stopped.
    :param before_start: Called with the definition's newest run, if there is one, right before another is started.
    :raises GeoCatalogConflict: There is such a run and ``if_run_exists`` is *fail*.
    """
    runs = yield from list_runs(collection_id, ingestion_id)
    stopped = [run for run in runs if run.is_live and end_first is not None and end_first(run)]
    for run in stopped:
        yield from _end_run(collection_id, ingestion_id, run)
    if stopped:
        runs = yield from list_runs(collection_id, ingestion_id)
    present = _run_to_adopt(ingestion_id, runs, if_run_exists, max_failed_items, adopt)
    if present is not None:
        return StartedRun(present, adopted=True)
    if before_start is not None:
        before_start(runs[0] if runs else None)
    known = {run.run_id for run in runs}
    return StartedRun((yield from create_run(collection_id, ingestion_id, known=known)), adopted=False)


def _run_to_adopt(
    ingestion_id: str,
    runs: Sequence[Run],
    if_run_exists: IfRunExists,
    max_failed_items: int,
    adopt: Callable[[Sequence[Run]], Run | None] | None,
) -> Run | None:
    """Return the run that is live or has succeeded and is taken over, if there is one."""
    candidates = [run for run in runs if run.is_live]
    candidates += [run for run in runs if is_success(run.operation, max_failed_items=max_failed_items)]
    own = adopt(runs) if adopt is not None else None
    if own is not None and own in candidates:
        return own
    for present in candidates:
        if if_run_exists is IfRunExists.ADOPT:
            return present
        if if_run_exists is IfRunExists.FAIL:
            raise GeoCatalogConflict(
                f"ingestion {ingestion_id} has the run {present.run_id}, which is {present.operation.status}",
                hint="Use if_run_exists='adopt' to wait for it, or 'new' to start another.",
            )
    return None


def foresee_run(
    collection_id: str,
    ingestion_id: str,
    *,
    if_run_exists: IfRunExists,
    max_failed_items: int = 0,
    adopt: Callable[[Sequence[Run]], Run | None] | None = None,
    end_first: Callable[[Run], bool] | None = None,
) -> Flow[Run | None]:
    """
    Return the run that :func:`ensure_run` would adopt if it were called with the same, ``None`` if it would start one.

    :raises GeoCatalogConflict: There is such a run and ``if_run_exists`` is *fail*.
    """
    runs = yield from list_runs(collection_id, ingestion_id)
    going_on = [run for run in runs if not (run.is_live and end_first is not None and end_first(run))]
    return _run_to_adopt(ingestion_id, going_on, if_run_exists, max_failed_items, adopt)


def foresee_ingestion(definition: Definition) -> Flow[Ingestion | None]:
    """
    Return the definition that :func:`ensure_ingestion` would find, ``None`` if it would create one.

    :raises GeoCatalogNotFound: The collection does not exist.
    """
    yield from require_collection(definition.collection_id)
    return (yield from find_ingestion(definition))


def _end_run(collection_id: str, ingestion_id: str, run: Run) -> Flow[None]:
    """See a live run end: whoever stopped the task may be about to cancel it; if nobody does, it is cancelled here."""
    now: float = yield Now()
    cancel_at, give_up_at = now + _CANCELED_BY_OTHERS_WITHIN, now + _ENDS_WITHIN
    while not run.operation.status.is_final and now < give_up_at:
        if run.is_live and now >= cancel_at:
            log.info("Cancelling run %s, whose task was cleared.", run.run_id)
            yield from cancel_if_active(run.operation.operation_id)
            cancel_at = give_up_at
        yield Pause(_LOOK_AGAIN)
        run = yield from service.get_run(collection_id, ingestion_id, run.run_id)
        now = yield Now()
    log.info("Run %s, whose task was cleared, is %s.", run.run_id, run.operation.status)


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
    Cancel one operation or run by id, unless it has ended or somebody is cancelling it.

    :return: Whether the service took the request; false if the operation had ended already, or was about to.
    """
    try:
        try:
            status = (yield from get_operation(operation_id)).status
        except GeoCatalogError as error:
            if not error.retryable:
                raise
        else:
            if status.is_final or status.is_canceling:
                return False
        yield from cancel_operation(operation_id)
    except GeoCatalogBadRequest as error:
        if error.status == 400:  # documented for operations that have ended (geocatalog-api 6.4)
            return False
        raise
    except GeoCatalogNotFound:
        return False
    return True
