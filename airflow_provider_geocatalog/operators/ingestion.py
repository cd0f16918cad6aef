"""Bulk ingestion of static STAC catalogs and stac-geoparquet files, in one operator or in two steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.numbers import whole_number
from airflow_provider_geocatalog.operators.base import (
    GeoCatalogOperator,
    GeoCatalogPlanningOperator,
    GeoCatalogWaitingOperator,
)
from airflow_provider_geocatalog.operators.choices import ImportType, PreflightMode, choice
from airflow_provider_geocatalog.operators.credentials import refuse_signature
from airflow_provider_geocatalog.operators.preflight import MAX_ITEMS, MIN_LIFETIME
from airflow_provider_geocatalog.operators.run_slots import RunSlotOperator
from airflow_provider_geocatalog.triggers.ingestion import GeoCatalogIngestionRunTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_geocatalog.api.flows.ingestion import Definition, IfRunExists, StartedRun
    from airflow_provider_geocatalog.api.http import Flow
    from airflow_provider_geocatalog.api.models import Ingestion, Operation, Run
    from airflow_provider_geocatalog.catalog_check import CatalogReader, FailedItem
    from airflow_provider_geocatalog.operators.submissions import Submissions

__all__ = [
    "GeoCatalogBulkIngestionOperator",
    "GeoCatalogCreateIngestionOperator",
    "GeoCatalogRunIngestionOperator",
]

#: One piece of work for each task instance: a retry or a clear finds what an earlier try has started.
_TASK_INSTANCE_KEY = (
    "{{ ti.dag_id }}/{{ ti.task_id }}/{{ run_id }}"
    "{% if ti.map_index is not none and ti.map_index >= 0 %}/{{ ti.map_index }}{% endif %}"
)


class _DefinitionArguments(GeoCatalogPlanningOperator):
    """
    Arguments that describe what to ingest.

    :param collection_id: Target collection; it has to exist.
    :param catalog_url: URL of the catalog's root document, a STAC Catalog or Collection; of the file for geoparquet.
    :param import_type: ``StaticCatalog`` or ``StacGeoparquet``.
    :param run_key: Names the work. The definition is found again by it, so that the same work is not done twice.
    :param display_name: Name shown in the GeoCatalog before the key; the task id if not given.
    :param skip_existing_items: Whether items that are in the collection already are left alone.
    :param keep_original_assets: Whether original assets are kept beside converted ones.
    :param check_catalog: Whether the worker looks at the catalog's structure before anything is sent.
    """

    template_fields: Sequence[str] = (
        "collection_id",
        "catalog_url",
        "import_type",
        "run_key",
        "display_name",
        *GeoCatalogOperator.template_fields,
    )

    def __init__(
        self,
        *,
        collection_id: str,
        catalog_url: str,
        import_type: str = ImportType.STATIC_CATALOG.value,
        run_key: str = _TASK_INSTANCE_KEY,
        display_name: str | None = None,
        skip_existing_items: bool = True,
        keep_original_assets: bool = False,
        check_catalog: bool = True,
        container_url: str | None = None,
        sas_token_conn_id: str | None = None,
        sas_token_variable: str | None = None,
        sas_token_callable: Callable[..., str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_signature(catalog_url, "catalog_url")
        refuse_signature(container_url, "container_url")
        self.collection_id = collection_id
        self.catalog_url = catalog_url
        self.import_type = import_type
        self.run_key = run_key
        self._owns_definition = run_key == _TASK_INSTANCE_KEY
        self.display_name = display_name
        self.skip_existing_items = skip_existing_items
        self.keep_original_assets = keep_original_assets
        self.check_catalog = check_catalog
        self.container_url = container_url
        self.sas_token_conn_id = sas_token_conn_id
        self.sas_token_variable = sas_token_variable
        self.sas_token_callable = sas_token_callable

    def _definition(self) -> Definition:
        """Return the checked definition; nothing is sent."""
        from airflow_provider_geocatalog.api.flows.ingestion import Definition
        from airflow_provider_geocatalog.api.validation import catalog_url_problems, collection_id_problems, refuse

        import_type = choice(ImportType, self.import_type, "import_type").value
        self.hook.dialect.require_import_type(import_type)
        problems = collection_id_problems(self.collection_id)
        problems += catalog_url_problems(self.catalog_url, local=self.hook.client.settings.is_local)
        if not self.run_key:
            problems.append("run_key is empty")
        refuse("the bulk ingestion cannot be started", problems)
        return Definition(
            collection_id=self.collection_id,
            source_url=self.catalog_url,
            display_name=f"{self.display_name or self.task_id} | {self.run_key}",
            import_type=import_type,
            skip_existing_items=self.skip_existing_items,
            keep_original_assets=self.keep_original_assets,
        )

    def _reader(self) -> CatalogReader:
        from airflow_provider_geocatalog.operators.credentials import SasTokenArguments
        from airflow_provider_geocatalog.operators.preflight import catalog_reader

        sas = SasTokenArguments(self.sas_token_conn_id, self.sas_token_variable, self.sas_token_callable)
        return catalog_reader(self.hook, self.catalog_url, self.container_url, sas)

    @property
    def _reads_catalog(self) -> bool:
        """Whether the worker reads the catalog; a parquet file is for the service to read."""
        return self.check_catalog and self.import_type == ImportType.STATIC_CATALOG.value

    def _look_at_catalog(self) -> None:
        from airflow_provider_geocatalog.catalog_check import check_catalog

        if not self._reads_catalog:
            return
        found = check_catalog(self.catalog_url, self._reader())
        if found.readable:
            self.log.info("The catalog has %d items in %d documents.", found.items, found.documents)

    def _define(self, definition: Definition) -> Ingestion | None:
        """Find or create the definition; ``None`` in a dry run that would create it."""
        from airflow_provider_geocatalog.api.endpoints import CREATE_INGESTION
        from airflow_provider_geocatalog.api.flows.ingestion import ensure_ingestion, foresee_ingestion

        if not self._is_dry_run:
            return self.hook.run(ensure_ingestion(definition))
        existing = self.hook.run(foresee_ingestion(definition))
        if existing is None:
            self._plan_call(CREATE_INGESTION, definition.display_name, collection_id=self.collection_id)
        else:
            self.log.info("Would use the definition %s (%s).", existing.ingestion_id, definition.display_name)
        return existing


class _RunningOperator(GeoCatalogPlanningOperator, RunSlotOperator):
    """
    Start a run, or adopt the one that an earlier try has started, and wait for it.

    :param if_run_exists: ``adopt``, ``fail`` or ``new``.
    :param max_failed_items: Failed items that are tolerated.
    """

    collection_id: str

    def __init__(self, *, if_run_exists: str = "adopt", max_failed_items: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.if_run_exists = if_run_exists
        self.max_failed_items = whole_number(max_failed_items, "max_failed_items")

    def _extent(self, collection_id: str) -> Mapping[str, Any]:
        from airflow_provider_geocatalog.operators.asset_events import collection_extent

        return collection_extent(self.hook, collection_id)  # the service does not say it of the run's items

    def _if_run_exists(self) -> IfRunExists:
        from airflow_provider_geocatalog.api.flows.ingestion import IfRunExists

        return choice(IfRunExists, self.if_run_exists, "if_run_exists")

    #: Whether nobody else can have started runs of the definition, so that each of them is this task instance's own.
    _owns_definition: bool = False

    def _is_own(self, run: Run, submissions: Submissions) -> bool:
        return self._owns_definition or run.operation.operation_id == submissions.operation_id

    def _adopting(self, submissions: Submissions, if_run_exists: IfRunExists) -> dict[str, Any]:
        """Return what decides whether a run is adopted, in the words of the flows that start or foresee one."""
        from airflow_provider_geocatalog.api.flows.ingestion import IfRunExists

        def is_own(run: Run) -> bool:
            return self._is_own(run, submissions)

        def started_before(runs: Sequence[Run]) -> Run | None:
            own = next(filter(is_own, runs), None)
            return None if own is None or own.run_id == submissions.last.get("newest_before") else own

        stopped = submissions.was_cleared and submissions.may_have_waited and self.cancel_on_kill
        # A retry goes on with what its task has started; to start anew is meant for the task, not for its retries.
        retried = submissions.is_repeated and not submissions.was_cleared
        return {
            "if_run_exists": if_run_exists,
            "max_failed_items": self.max_failed_items,
            "adopt": started_before if retried and if_run_exists is not IfRunExists.ADOPT else None,
            "end_first": is_own if stopped else None,
        }

    def _foreseen_run(self, context: Context, ingestion_id: str, if_run_exists: IfRunExists) -> Run | None:
        """Return the run that starting would adopt."""
        from airflow_provider_geocatalog.api.flows.ingestion import foresee_run
        from airflow_provider_geocatalog.operators.submissions import Submissions

        options = self._adopting(Submissions(context), if_run_exists)
        return self.hook.run(foresee_run(self.collection_id, ingestion_id, **options))

    def _foretell(self, context: Context, ingestion_id: str | None, if_run_exists: IfRunExists) -> dict[str, Any]:
        """
        Return what a dry run has found.

        :param ingestion_id: The definition; ``None`` if it would have to be created.
        """
        from airflow_provider_geocatalog.api.endpoints import CREATE_RUN

        run = self._foreseen_run(context, ingestion_id, if_run_exists) if ingestion_id else None
        if run is None:
            names = {"collection_id": self.collection_id, "ingestion_id": ingestion_id or _NEW_DEFINITION}
            self._plan_call(CREATE_RUN, "a new run", **names)
        else:
            self.log.info("Would adopt run %s, which is %s.", run.run_id, run.operation.status)
        ids = {"collection_id": self.collection_id, "ingestion_id": ingestion_id, "run_id": run and run.run_id}
        return self._told({**ids, "adopted": run is not None})

    def _begin_in_slot(self, context: Context, wait: Mapping[str, Any]) -> dict[str, Any]:
        return self._start(context, wait["ingestion_id"], self._if_run_exists(), wait)

    def _start(
        self, context: Context, ingestion_id: str, if_run_exists: IfRunExists, wait: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.flows.ingestion import ensure_run
        from airflow_provider_geocatalog.operators.submissions import Submissions

        submissions = Submissions(context)
        options = self._adopting(submissions, if_run_exists)

        def begin(take_slot: Callable[[], None]) -> StartedRun:
            def before_start(newest: Run | None) -> None:
                # Also before a wait for a slot: a crash during it must not make a retry take what there was for it.
                submissions.about_to_start(newest.run_id if newest else None)
                take_slot()

            return self.hook.run(ensure_run(self.collection_id, ingestion_id, **options, before_start=before_start))

        started = self._in_slot(context, wait, begin, ingestion_id=ingestion_id)
        run = started.run
        ids = {
            "collection_id": self.collection_id,
            "ingestion_id": ingestion_id,
            "run_id": run.run_id,
            "operation_id": run.operation.operation_id,
            "adopted": started.adopted,
        }
        if started.adopted and run.operation.status.is_final:
            self.log.info(
                "Nothing to do: run %s has done this work already (%s). Nothing was started and nothing changed.",
                run.run_id,
                run.operation.ended_at,
            )
        elif started.adopted:
            self.log.info("Adopting run %s, which was started before.", run.run_id)
        else:
            self.log.info("Started run %s of ingestion %s.", run.run_id, ingestion_id)
        own = not started.adopted or self._is_own(run, submissions)
        if not own:
            self.log.info("Run %s may be somebody else's: stopping this task will not cancel it.", run.run_id)
        if not self.wait_for_completion:
            submissions.remember(run.operation.operation_id, {**ids, "own": own})
            return self._summary(run.operation, ids)
        result: dict[str, Any] = self._wait_for(context, run.operation, ids, own=own)
        return result

    def _trigger(self, ids: Mapping[str, Any], **options: Any) -> BaseTrigger:
        return GeoCatalogIngestionRunTrigger(
            **{name: ids[name] for name in ("collection_id", "ingestion_id", "run_id", "operation_id")}, **options
        )

    def _read(self, ids: Mapping[str, Any], *, once: bool = False) -> Flow[Operation]:
        from airflow_provider_geocatalog.api.flows.waiting import get_run

        return (yield from get_run(ids["collection_id"], ids["ingestion_id"], ids["run_id"], once=once)).operation

    def _explain(self) -> list[FailedItem]:
        """Return failed items by name and reason, as far as they can be found out."""
        return []

    def _finish(self, context: Context, operation: Operation, ids: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.outcomes import require_success

        items: list[FailedItem] = []
        if operation.counts is not None and operation.counts.failed:
            items = self._explain()
        explained = [str(item) for item in items]
        for line in explained[:_NAMED_IN_SUMMARY]:
            self.log.error("Failed item %s", line)
        require_success(
            operation,
            what=f"run {operation.operation_id} into collection {self.collection_id!r}",
            max_failed_items=self.max_failed_items,
            explained=explained[:_NAMED_IN_ERROR],
            permanent=bool(items) and all(item.defective for item in items),
        )
        summary = self._summary(operation, ids)
        if explained:
            summary["failed_items"] = explained[:_NAMED_IN_SUMMARY]
        counts = summary["items"]
        self.log.info(
            "Run %s ended: %d of %d items succeeded, %d failed.",
            operation.operation_id,
            counts["succeeded"],
            counts["total"],
            counts["failed"],
        )
        return summary

    def _summary(self, operation: Operation, ids: Mapping[str, Any]) -> dict[str, Any]:
        summary = operation.to_summary()
        summary.pop("type", None)  # not told for runs
        del summary["operation_id"]  # the run's id is told, which is the same
        named = {name: ids.get(name) for name in ("collection_id", "ingestion_id", "run_id")}
        return {**summary, **named, "adopted": ids.get("adopted", False)}


_NEW_DEFINITION = "(new)"  # stands for the id of what a dry run did not create
_NAMED_IN_ERROR = 20
_NAMED_IN_SUMMARY = 100


class GeoCatalogBulkIngestionOperator(_DefinitionArguments, _RunningOperator):
    """
    Ingest a static STAC catalog or a stac-geoparquet file: define the ingestion, run it, wait, and judge the result.

    The definition is found again by its name, which holds ``run_key``: a retried or cleared task, and a second run with
    the same key, adopt the run that is live or has succeeded instead of starting another. A run that failed is started
    anew. The task fails if more items fail than are tolerated, whatever status the service gives the run; it then names
    the items as far as the worker can read the catalog.

    :param collection_id: Target collection; it has to exist.
    :param catalog_url: URL of the catalog's root document, a STAC Catalog or Collection, without a SAS; for
        ``StacGeoparquet`` URL of the parquet file.
    :param import_type: ``StaticCatalog``, or ``StacGeoparquet`` (from api-version 2026-04-15).
    :param run_key: Names the work; default: DAG, task, DAG run and map index. Use for example ``{{ ds }}`` for work
        that is to be done once a day, however often the DAG runs.
    :param display_name: Name shown in the GeoCatalog before the key; the task id if not given.
    :param skip_existing_items: Whether items that are in the collection already are left alone.
    :param keep_original_assets: Whether original assets are kept beside converted ones.
    :param check_catalog: Whether the worker looks at the catalog's structure (not at items) before anything is sent.
        Turn it off if only the service can reach the catalog.
    :param container_url: Container of the catalog, for the SAS token with which the worker reads it; the first path
        segment of ``catalog_url`` if not given.
    :param sas_token_conn_id: Connection with a SAS token for reading the catalog on the worker.
    :param sas_token_variable: Airflow Variable with that token.
    :param sas_token_callable: Callable that returns that token.
    :param if_run_exists: ``adopt``, ``fail``, or ``new`` (start another run whatever there is).
    :param max_failed_items: Failed items that are tolerated.
    :param preflight: Whether the worker looks, before a run is started, at all that it will read, as
        :class:`~airflow_provider_geocatalog.operators.preflight.GeoCatalogPreflightOperator` does: ``off``, ``warn``,
        or ``fail`` the task if there is a problem. With ``check_catalog=False`` it does not read the catalog.
    :param min_lifetime: Seconds that ingestion sources have to live, for the preflight.
    :param max_items: Items that the preflight reads.
    :param dry_run: Send nothing that changes anything; log and return what would be defined and started, or adopted.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param wait_for_completion: Whether to wait until the run ends.
    :param deferrable: Wait in the triggerer, without a worker.
    :param poll_interval: Seconds between polls; a young wait is polled faster.
    :param timeout: Seconds to wait at most; the task's ``execution_timeout`` counts as well.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether the run is cancelled when the task is stopped by a user or times out.
    :param max_active_runs: Start a run only while fewer bulk runs than this are active in the whole GeoCatalog, whoever
        started them, and wait until then; ``None`` starts it at once. See :doc:`/recipes`.
    :return: ``collection_id``, ``ingestion_id``, ``run_id``, ``status``, ``items`` (``total``, ``succeeded``,
        ``failed``, ``pending``), ``adopted``, ``created_at``, ``ended_at``, ``duration_seconds``, as XCom. Of a dry
        run the ids (``None`` for what there is not yet), ``adopted``, ``dry_run`` and ``plan``.
    :raises GeoCatalogInvalidInput: Bad input, a catalog that cannot be walked, or problems that the preflight found;
        nothing was started.
    :raises GeoCatalogNotFound: The collection does not exist; nothing was started.
    :raises GeoCatalogOperationFailed: The run failed.
    :raises GeoCatalogOperationCanceled: Somebody cancelled the run.
    :raises GeoCatalogItemsFailed: More items failed than are tolerated.
    :raises GeoCatalogWaitTimeout: The run did not end in time, or there was no slot for it.

    .. seealso:: `Bulk ingestion <https://learn.microsoft.com/azure/planetary-computer/bulk-ingestion-api>`__
    """

    template_fields: Sequence[str] = (
        *_DefinitionArguments.template_fields,
        "container_url",
        "sas_token_conn_id",
        "sas_token_variable",
        "if_run_exists",
        "preflight",
    )

    def __init__(
        self,
        *,
        preflight: str = PreflightMode.OFF.value,
        min_lifetime: float = MIN_LIFETIME,
        max_items: int = MAX_ITEMS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.preflight = preflight
        self.min_lifetime = min_lifetime
        self.max_items = max_items

    def _execute(self, context: Context) -> dict[str, Any]:
        """Look ahead, define, start or adopt, and wait."""
        if_run_exists = self._if_run_exists()
        mode = choice(PreflightMode, self.preflight, "preflight")
        definition = self._definition()
        if mode is not PreflightMode.FAIL:
            self._look_at_catalog()
        if mode is not PreflightMode.OFF and self._would_start(context, definition, if_run_exists):
            self._look_ahead(fail=mode is PreflightMode.FAIL)
        ingestion = self._define(definition)
        if ingestion is None or self._is_dry_run:
            return self._foretell(context, ingestion.ingestion_id if ingestion else None, if_run_exists)
        return self._start(context, ingestion.ingestion_id, if_run_exists)

    def _would_start(self, context: Context, definition: Definition, if_run_exists: IfRunExists) -> bool:
        """Return whether a run would be started: one that is adopted has got its sources, and may have used them up."""
        from airflow_provider_geocatalog.api.flows.ingestion import foresee_ingestion

        existing = self.hook.run(foresee_ingestion(definition))
        return existing is None or self._foreseen_run(context, existing.ingestion_id, if_run_exists) is None

    def _look_ahead(self, *, fail: bool) -> None:
        from airflow_provider_geocatalog.operators.preflight import add_catalog, look_ahead

        reader = self._reader() if self._reads_catalog else None
        look_ahead(
            self,
            lambda look: add_catalog(look, self.catalog_url, reader),
            subject=self.catalog_url,
            fail=fail,
            container_url=self.container_url,
            min_lifetime=self.min_lifetime,
            max_items=self.max_items,
        )

    def _explain(self) -> list[FailedItem]:
        from airflow_provider_geocatalog.api.flows.items import present_items
        from airflow_provider_geocatalog.catalog_check import explain_failures
        from airflow_provider_geocatalog.static_catalog import CatalogError

        if self.import_type != ImportType.STATIC_CATALOG.value:
            return []

        def present(ids: list[str]) -> set[str]:
            return self.hook.run(present_items(self.collection_id, ids))

        try:
            return explain_failures(self.catalog_url, self._reader(), present)
        except CatalogError as error:
            self.log.warning("The failed items cannot be named: the worker cannot read the catalog (%s).", error)
            return []


class GeoCatalogCreateIngestionOperator(_DefinitionArguments):
    """
    Define a bulk ingestion without starting it; a definition that says the same is used again.

    :param collection_id: Target collection; it has to exist.
    :param catalog_url: URL of the catalog's root document, a STAC Catalog or Collection, without a SAS; for
        ``StacGeoparquet`` URL of the parquet file.
    :param import_type: ``StaticCatalog``, or ``StacGeoparquet`` (from api-version 2026-04-15).
    :param run_key: Names the work, see :class:`GeoCatalogBulkIngestionOperator`.
    :param display_name: Name shown in the GeoCatalog before the key; the task id if not given.
    :param skip_existing_items: Whether items that are in the collection already are left alone.
    :param keep_original_assets: Whether original assets are kept beside converted ones.
    :param check_catalog: Whether the worker looks at the catalog's structure before anything is sent.
    :param container_url: Container of the catalog, for the SAS token with which the worker reads it.
    :param sas_token_conn_id: Connection with a SAS token for reading the catalog on the worker.
    :param sas_token_variable: Airflow Variable with that token.
    :param sas_token_callable: Callable that returns that token.
    :param dry_run: Send nothing that changes anything; log and return what would be defined.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: The id of the definition, for :class:`GeoCatalogRunIngestionOperator`, as XCom. Of a dry run an object with
        ``collection_id``, ``ingestion_id`` (``None`` if it would be created), ``dry_run`` and ``plan``.
    :raises GeoCatalogInvalidInput: Bad input, or a catalog that cannot be walked; nothing was sent.
    :raises GeoCatalogNotFound: The collection does not exist.
    """

    template_fields: Sequence[str] = (
        *_DefinitionArguments.template_fields,
        "container_url",
        "sas_token_conn_id",
        "sas_token_variable",
    )
    _writes_collection = False  # only its runs do

    def _execute(self, context: Context) -> str | dict[str, Any]:
        """Find or create the definition."""
        definition = self._definition()
        self._look_at_catalog()
        ingestion = self._define(definition)
        ingestion_id = ingestion.ingestion_id if ingestion else None
        if ingestion_id is None or self._is_dry_run:
            return self._told({"collection_id": self.collection_id, "ingestion_id": ingestion_id})
        return ingestion_id


class GeoCatalogRunIngestionOperator(_RunningOperator):
    """
    Run a bulk ingestion that is defined already, wait for it, and judge the result.

    :param collection_id: The collection.
    :param ingestion_id: The definition, e.g. the result of :class:`GeoCatalogCreateIngestionOperator`.
    :param if_run_exists: ``adopt`` a run that is live or has succeeded, ``fail``, or start a ``new`` one whatever there
        is.
    :param max_failed_items: Failed items that are tolerated.
    :param dry_run: Send nothing that changes anything; log and return whether a run would be started, or which adopted.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param wait_for_completion: Whether to wait until the run ends.
    :param deferrable: Wait in the triggerer, without a worker.
    :param poll_interval: Seconds between polls.
    :param timeout: Seconds to wait at most.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether the run is cancelled when the task is stopped by a user or times out.
    :param max_active_runs: Start a run only while fewer bulk runs than this are active in the whole GeoCatalog, whoever
        started them, and wait until then; ``None`` starts it at once. See :doc:`/recipes`.
    :return: As :class:`GeoCatalogBulkIngestionOperator`.
    :raises GeoCatalogNotFound: There is no such definition.
    :raises GeoCatalogOperationError: The run did not succeed, or more items failed than are tolerated.
    :raises GeoCatalogWaitTimeout: The run did not end in time, or there was no slot for it.
    """

    template_fields: Sequence[str] = (
        "collection_id",
        "ingestion_id",
        "if_run_exists",
        *GeoCatalogWaitingOperator.template_fields,
    )

    def __init__(self, *, collection_id: str, ingestion_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection_id = collection_id
        self.ingestion_id = ingestion_id

    def _execute(self, context: Context) -> dict[str, Any]:
        """Start or adopt a run, and wait."""
        if_run_exists = self._if_run_exists()
        if self._is_dry_run:
            return self._foretell(context, self.ingestion_id, if_run_exists)
        return self._start(context, self.ingestion_id, if_run_exists)
