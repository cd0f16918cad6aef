"""Transfer STAC items from elsewhere into a GeoCatalog, again and again."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, conf

from airflow_provider_geocatalog.api.numbers import seconds, whole_number
from airflow_provider_geocatalog.operators.base import (
    BACKSTOP,
    TRIGGERS_LOST,
    GeoCatalogPlanningOperator,
    GeoCatalogWaitingOperator,
    deferral_errors,
    is_still_running,
)
from airflow_provider_geocatalog.operators.choices import choice
from airflow_provider_geocatalog.operators.credentials import refuse_signature
from airflow_provider_geocatalog.operators.transfer_windows import DataInterval, Watermark, partitions
from airflow_provider_geocatalog.transfer.storage import path_text
from airflow_provider_geocatalog.triggers.ingestion import OWNER_KEY
from airflow_provider_geocatalog.triggers.operations import GeoCatalogOperationsTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.loops import LoopRun
    from airflow_provider_geocatalog.operators.watermarks import CheckpointStore
    from airflow_provider_geocatalog.transfer.dead_letters import DeadLetter
    from airflow_provider_geocatalog.transfer.preparing import Preparer
    from airflow_provider_geocatalog.transfer.progress import Progress, Tally
    from airflow_provider_geocatalog.transfer.source import Environment, ItemSource
    from airflow_provider_geocatalog.transfer.transfer import Transfer
    from airflow_provider_geocatalog.transfer.windows import Window

__all__ = ["DataInterval", "StacToGeoCatalogOperator", "Watermark", "partitions"]

_NAMED_IN_ERROR = 5
_RESULT_KEY = "transfer"
_OPERATIONS_KEPT = 400  # in the checkpoint; what is encrypted has 64 KB in an Airflow on MySQL


class StacToGeoCatalogOperator(GeoCatalogPlanningOperator):
    """
    Transfer STAC items into a collection: all of a source, or what is new in it.

    One task reads the source page by page, looks up which items are in the collection, creates and replaces what has to
    be, waits for the service's operations, and says what became of each item. Items go portion by portion; a task that
    is killed repeats one portion at most.

    What was sent is marked by a hash, the property ``transfer:sha256`` of each item: the service rewrites hrefs, links
    and extension versions, so that nothing else tells whether an item has changed at its source.

    :param collection_id: The collection; it has to exist.
    :param source: Where the items come from, see :mod:`airflow_provider_geocatalog.transfer.sources`.
    :param window: Which of them: a :class:`~airflow_provider_geocatalog.operators.transfer_windows.DataInterval`, a
        :class:`~airflow_provider_geocatalog.operators.transfer_windows.Watermark`, an object with ``start``, ``end``
        (RFC 3339) and ``field``, or ``None`` for all.
    :param transforms: What is made of each item, see :mod:`airflow_provider_geocatalog.transfer.transforms`. Default:
        ``DEFAULT_TRANSFORMS``, which prepare items of other catalogs for a GeoCatalog.
    :param mode: What is done with items whose id is in the collection: ``skip_unchanged`` replaces those that have
        changed at their source, ``upsert`` replaces all, ``skip_existing`` none, ``create`` counts those that have
        another content as failed. Replacing happens in place.
    :param validation: What is done with items that the service would not take or that make no sense: ``set_aside``,
        ``warn`` and send them, ``fail`` the task, ``off``.
    :param href_check: The same for items whose assets are in a container that has no ingestion source and is not
        public. Default ``off``.
    :param extension_schemas: A folder with JSON schemas of STAC extensions, for those that are not built in.
    :param max_item_bytes: Bytes that an item may have as JSON.
    :param max_failures: Items that may be set aside or fail. With more, the task fails at its end; the others stay.
    :param dead_letter_path: A file (NDJSON, on disk or in an object store) for items that were set aside or failed,
        with the reasons. It is a source for a repair run. There is none if nothing went wrong; one of an earlier
        transfer is empty then. A mapped task puts its map index before the suffix (``dead.3.ndjson``), so that each has
        its own; the result says so.
    :param storage_conn_id: Airflow connection for ``dead_letter_path``.
    :param portion_items: Items under way at most, see above. Unless the wait is deferred they are two portions: one is
        sent while the one before is waited for.
    :param batch_items: Items of one request at most.
    :param batch_bytes: Bytes of one request at most, unless one item has more.
    :param concurrency: Requests to the GeoCatalog at once, within the connection's requests per second.
    :param deferrable: Wait for a portion in the triggerer, without a worker, if it takes longer than ``defer_after``
        and is no more than 1,000 operations; each replacement is one. Default: ``[operators] default_deferrable``.
    :param defer_after: Seconds.
    :param poll_interval: Seconds between polls of an old wait.
    :param min_poll_interval: Seconds between polls of a young wait; the pause grows with the wait's age.
    :param timeout: Seconds that a try may take, deferrals included; the task's ``execution_timeout`` counts as well.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether operations that are under way are cancelled when a user stops the task or it times
        out.
    :param dry_run: Send nothing; count what would be created and updated.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: ``counts`` (``seen``, ``sent``, ``created``, ``updated``, ``unchanged``, ``skipped``, ``set_aside``,
        ``failed``, ``repeated``, ``filtered``, ``outside``), ``bbox``, ``interval``, ``watermark``, ``window``,
        ``operations`` (up to 100 ids), ``operations_started``, ``failures`` (up to 20), ``dead_letter_path``,
        ``collection_id``, ``source``, as XCom. If the task fails because of items, the XCom ``transfer`` holds the
        same. Asset events of the task's outlets hold the counts, ``bbox`` and ``interval``.
    :raises GeoCatalogInvalidInput: The arguments make no sense; nothing was sent.
    :raises GeoCatalogNotFound: The collection does not exist.
    :raises ItemSourceError: The source cannot be read, or not wholly. What was settled stays.
    :raises GeoCatalogItemsFailed: More items were set aside or failed than are tolerated.
    :raises GeoCatalogWaitTimeout: It did not end in time.
    """

    #: Seconds before a deferred wait looks for the first time, see the triggers.
    first_delay: float = GeoCatalogWaitingOperator.first_delay
    template_fields: Sequence[str] = (
        "collection_id",
        "source",
        "window",
        "transforms",
        "mode",
        "validation",
        "dead_letter_path",
        *GeoCatalogPlanningOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"window": "json"}

    def __init__(
        self,
        *,
        collection_id: str,
        source: ItemSource,
        window: DataInterval | Watermark | Mapping[str, Any] | None = None,
        transforms: Sequence[Callable[[dict[str, Any]], Any]] | None = None,
        mode: str = "skip_unchanged",
        validation: str = "set_aside",
        href_check: str = "off",
        extension_schemas: str | None = None,
        max_item_bytes: int = 10 * 1024**2,
        max_failures: int = 0,
        dead_letter_path: str | None = None,
        storage_conn_id: str | None = None,
        portion_items: int = 1000,
        batch_items: int = 100,
        batch_bytes: int = 4 * 1024**2,
        concurrency: int = 16,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        defer_after: float = 10.0,
        poll_interval: float = 30.0,
        min_poll_interval: float = 1.0,
        timeout: float = 24 * 3600.0,
        outage_budget: float = 3600.0,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.collection_id = collection_id
        self.source = source
        self.window = window
        self.transforms = transforms
        self.mode = mode
        self.validation = validation
        self.href_check = href_check
        self.extension_schemas = extension_schemas
        self.max_item_bytes = _at_least_one(max_item_bytes, "max_item_bytes")
        self.max_failures = whole_number(max_failures, "max_failures")
        refuse_signature(dead_letter_path, "dead_letter_path")
        self.dead_letter_path = path_text(dead_letter_path)
        self.storage_conn_id = storage_conn_id
        self.portion_items = _at_least_one(portion_items, "portion_items")
        self.batch_items = _at_least_one(batch_items, "batch_items")
        self.batch_bytes = _at_least_one(batch_bytes, "batch_bytes")
        self.concurrency = _at_least_one(concurrency, "concurrency")
        self.deferrable = deferrable
        self.defer_after = seconds(defer_after, "defer_after")
        self.poll_interval = seconds(poll_interval, "poll_interval", above_zero=True)
        self.min_poll_interval = seconds(min_poll_interval, "min_poll_interval", above_zero=True)
        self.timeout = seconds(timeout, "timeout")
        self.outage_budget = seconds(outage_budget, "outage_budget")
        self.cancel_on_kill = cancel_on_kill
        self._transfer: Transfer | None = None
        self._loop: LoopRun[None] | None = None
        self._task_instance: Any = None

    # --- the task -----------------------------------------------------------------------------------------------------

    def _execute(self, context: Context) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.flows.ingestion import require_collection
        from airflow_provider_geocatalog.operators.transfer_windows import window_of
        from airflow_provider_geocatalog.operators.watermarks import CheckpointStore

        self._task_instance = context["ti"]
        self._check()
        window = window_of(self.window, context)
        self.hook.run(require_collection(self.collection_id))
        ti: Any = context["ti"]
        record = None if self._is_dry_run else CheckpointStore.of(context).get()
        is_retry = int(ti.try_number) > 1
        if record is not None and (not is_retry or record.get("max_tries") != getattr(ti, "max_tries", None)):
            record = None  # a clear: everything is to be looked at again
        state = {
            "began": time.time(),
            "window": window.to_json() if window else None,
            "triggers_lost": 0,
            "progress": None,
            **(record or {}),
        }
        state["deadline"] = time.time() + self._limit()
        self.log.info(
            "Transferring %s into collection %r%s.",
            self.source.describe(),
            self.collection_id,
            f": {window}" if window else "",
        )
        return self._go_on(context, state, take_over=is_retry and not self._is_dry_run)

    def _check(self) -> None:
        """Refuse arguments, as they are once rendered, before anything is read or sent."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
        from airflow_provider_geocatalog.api.validation import collection_id_problems, refuse
        from airflow_provider_geocatalog.transfer.preparing import ValidationMode
        from airflow_provider_geocatalog.transfer.sending import SendMode
        from airflow_provider_geocatalog.transfer.source import ItemSource

        refuse("nothing can be transferred", collection_id_problems(self.collection_id))
        choice(SendMode, self.mode, "mode")
        choice(ValidationMode, self.validation, "validation")
        choice(ValidationMode, self.href_check, "href_check")
        if not isinstance(self.source, ItemSource):
            raise GeoCatalogInvalidInput(
                f"source is {type(self.source).__name__}; expected one of airflow_provider_geocatalog.transfer.sources"
            )
        if self.dead_letter_path:
            self._check_dead_letter_path()

    def _check_dead_letter_path(self) -> None:
        from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput

        for argument in ("dead_letter_path", "storage_conn_id"):
            value = getattr(self, argument)
            if value is not None and not isinstance(value, str):
                raise GeoCatalogInvalidInput(f"{argument} is a text, not {type(value).__name__}")
        refuse_signature(self.dead_letter_path, "dead_letter_path")
        path = str(self._dead_letters)
        self._environment.list(path, self.storage_conn_id)  # whether there is such a store at all
        if any(_is_read(path, one) for one in _paths(self.source)):
            raise GeoCatalogInvalidInput(f"dead_letter_path is what is read: {path}; choose another file")

    @property
    def _dead_letters(self) -> str | None:
        """The file of dead letters, of which each mapped task has its own."""
        from airflow_provider_geocatalog.transfer.item_files import own_path

        return own_path(self.dead_letter_path, getattr(self._task_instance, "map_index", None))

    def _limit(self) -> float:
        limits = [self.timeout]
        if self.execution_timeout:
            limits.append(self.execution_timeout.total_seconds())
        return min(limits)

    def _go_on(
        self, context: Context, state: dict[str, Any], *, take_over: bool = False, unclean: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Transfer until everything is settled, or defer."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogWaitTimeout
        from airflow_provider_geocatalog.loops import LoopRun
        from airflow_provider_geocatalog.operators.watermarks import CheckpointStore
        from airflow_provider_geocatalog.transfer.progress import Progress
        from airflow_provider_geocatalog.transfer.windows import Window

        self._task_instance = context["ti"]
        progress = Progress.from_json(state["progress"]) if state["progress"] else Progress()
        window = Window.from_json(state["window"]) if state["window"] else None
        store = None if self._is_dry_run else CheckpointStore.of(context)
        memory = _Memory(self, store, state, getattr(context["ti"], "max_tries", None))
        defer_after = self.defer_after if self.deferrable else None

        async def transfer() -> None:
            self._transfer = self._make_transfer(window, memory, state["deadline"])
            if take_over:
                await self._transfer.take_over(progress)
            await self._transfer.go_on(progress, unclean=unclean, defer_after=defer_after)

        self._loop = LoopRun(transfer)
        try:
            self._loop.wait()
        except (AirflowTaskTimeout, GeoCatalogWaitTimeout):
            self._cancel_active()
            raise
        finally:
            self._loop = None
        if progress.waiting is not None:
            self._defer(context, {**state, "progress": progress.to_json()}, progress)
        return self._finish(context, progress, state, memory)

    def _make_transfer(self, window: Window | None, memory: _Memory, deadline: float) -> Transfer:
        from airflow_provider_geocatalog.api.waiting import PollPolicy
        from airflow_provider_geocatalog.shared_waits import SharedWaits
        from airflow_provider_geocatalog.transfer.sending import SendMode
        from airflow_provider_geocatalog.transfer.transfer import Transfer, TransferOptions

        hook = self.hook

        async def connect() -> Any:
            return hook.reconnect()

        return Transfer(
            self.source,
            self._environment,
            window,
            TransferOptions(
                self.collection_id,
                choice(SendMode, self.mode, "mode"),
                portion_items=self.portion_items,
                batch_items=self.batch_items,
                batch_bytes=self.batch_bytes,
                concurrency=self.concurrency,
                policy=PollPolicy(
                    self.poll_interval, min(self.min_poll_interval, self.poll_interval), self.outage_budget
                ),
                deadline=deadline,
                dry_run=self._is_dry_run,
            ),
            run=hook.client.arun,
            waits=SharedWaits(connect),
            make_preparer=lambda: self._make_preparer(window),
            memory=memory,
            now=time.time,
            observe=self._count,
        )

    def _count(self, tally: Tally) -> None:
        from airflow_provider_geocatalog.measures import ITEM_WRITES

        if not self._is_dry_run:
            counts = {name: count for name, count in tally.to_json().items() if name != "seen"}
            ITEM_WRITES.count_each(counts, {"conn_id": self.geocatalog_conn_id, "collection_id": self.collection_id})

    @cached_property
    def _environment(self) -> Environment:
        from airflow_provider_geocatalog.hooks.environment import AirflowEnvironment

        return AirflowEnvironment()

    def _make_preparer(self, window: Window | None) -> Preparer:
        from airflow_provider_geocatalog.api.flows.preflight import read_sources
        from airflow_provider_geocatalog.transfer.item_checks import HrefCheck, ItemChecker, SeenIds
        from airflow_provider_geocatalog.transfer.preparing import Preparer, ValidationMode
        from airflow_provider_geocatalog.transfer.transforms import Pipeline

        validation = choice(ValidationMode, self.validation, "validation")
        href_check = choice(ValidationMode, self.href_check, "href_check")
        return Preparer(
            Pipeline(self.collection_id, self.transforms),
            checker=ItemChecker(
                self.collection_id,
                max_item_bytes=self.max_item_bytes,
                schema_folder=self.extension_schemas,
            ),
            hrefs=HrefCheck(self.hook.run(read_sources())) if href_check is not ValidationMode.OFF else None,
            seen=SeenIds(),
            window=window,
            validation=validation,
            href_check=href_check,
        )

    # --- the result ---------------------------------------------------------------------------------------------------

    def _finish(self, context: Context, progress: Progress, state: dict[str, Any], memory: _Memory) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.errors import GeoCatalogItemsFailed

        memory.tidy_up(progress)
        result = self._result(progress, state)
        tally = progress.tally
        self.log.info("Transferred into collection %r: %s.", self.collection_id, tally)
        if tally.lost > self.max_failures:
            context["ti"].xcom_push(key=_RESULT_KEY, value=result)
            named = "; ".join(f"{one['id']!r}: {one['reason']}" for one in progress.failures[:_NAMED_IN_ERROR])
            where = f" All of them are in {self._dead_letters}." if self.dead_letter_path else ""
            raise GeoCatalogItemsFailed(
                f"{tally.lost} of {tally.seen} items are not in collection {self.collection_id!r} as their source has "
                f"them: {tally.set_aside} set aside, {tally.failed} failed. The first: {named}",
                hint=f"At most {self.max_failures} are tolerated (max_failures). The others stay.{where}",
                retryable=progress.recoverable > 0,
                summary=result,
            )
        if self._is_dry_run:
            return self._told({**result, "dead_letter_path": None})
        result["watermark"] = self._move_watermark(context, progress, state)
        return self._told(result)

    def _result(self, progress: Progress, state: dict[str, Any]) -> dict[str, Any]:
        return {
            "collection_id": self.collection_id,
            "source": self.source.describe(),
            "window": state["window"],
            "counts": progress.tally.to_json(),
            **progress.extent.to_json(),
            "watermark": None,
            "portions": progress.portions,
            "operations": progress.operations,
            "operations_started": progress.operations_started,
            "failures": progress.failures,
            "dead_letter_path": self._dead_letters if progress.dead_letters else None,
        }

    def _move_watermark(self, context: Context, progress: Progress, state: dict[str, Any]) -> str | None:
        from airflow_provider_geocatalog.transfer.windows import moment, moment_text

        if not isinstance(self.window, Watermark):
            return None
        store = self.window.store(context)
        latest, began = moment(progress.latest), moment(_utc(state["began"]))
        if latest is None or began is None:
            known = store.get()
            return known["value"] if known else None
        # A source whose clock is ahead must not make the next run miss what comes until then.
        value: str = store.set({"value": moment_text(min(latest, began))})["value"]
        return value

    # --- deferring ----------------------------------------------------------------------------------------------------

    def _defer(self, context: Context, state: dict[str, Any], progress: Progress) -> None:
        portion = progress.waiting
        if portion is None:
            return
        now = time.time()
        context["ti"].xcom_push(key=OWNER_KEY, value={"operation_id": min(portion.operations)})
        self.log.info("%d operations are going on; waiting in the triggerer.", len(portion.operations))
        self.defer(
            trigger=GeoCatalogOperationsTrigger(
                operations=portion.operations,
                collection_id=self.collection_id,
                geocatalog_conn_id=self.geocatalog_conn_id,
                poll_interval=self.poll_interval,
                min_poll_interval=self.min_poll_interval,
                first_delay=self.first_delay,
                started=now,
                deadline=state["deadline"],
                outage_budget=self.outage_budget,
                cancel_on_kill=self.cancel_on_kill,
                echo={"state": _with_operations(state, {})},  # which the trigger has already
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=max(60.0, state["deadline"] - now + BACKSTOP)),
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """
        Continue after the trigger fired.

        :param event: What the trigger said: how far the transfer is, and which operations did not go well.
        :raises GeoCatalogError: It cannot go on.
        """
        return self._conclude(context, partial(self._resume, context, event))

    def _resume(self, context: Context, event: dict[str, Any] | None) -> Any:
        from airflow_provider_geocatalog.api.errors import GeoCatalogWaitTimeout

        if not event or "state" not in event:
            raise GeoCatalogWaitTimeout("the trigger ended without saying what happened")
        state = _with_operations(event["state"], event["operations"])
        if event["outcome"] == "ended":
            return self._go_on(context, state, unclean=event["unclean"])
        if event["outcome"] == "timeout":
            self._cancel(list(event["operations"]))
        raise GeoCatalogWaitTimeout(
            f"the transfer into collection {self.collection_id!r} waits for operations that could not be waited for to "
            f"their ends: {event.get('message')}",
            hint="A retry of the task goes on where it is.",
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral, also one whose trigger was lost: the task then looks for itself."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except deferral_errors() as error:
            from airflow_provider_geocatalog.operators.watermarks import CheckpointStore

            record = CheckpointStore.of(context).get()
            if record is None or int(record.get("triggers_lost", 0)) >= TRIGGERS_LOST:
                raise
            self.log.warning("The trigger was lost (%s); going on from what is remembered.", error)
            state = {**record, "triggers_lost": int(record.get("triggers_lost", 0)) + 1}
            return self._conclude(context, partial(self._go_on, context, state, take_over=True))

    # --- stopping -----------------------------------------------------------------------------------------------------

    def on_kill(self) -> None:
        """
        Stop, and cancel operations that are under way, when a user stops the task while a worker has it.

        A worker that is shut down calls this too; then the operations go on, and the next try goes on from there.
        """
        loop = self._loop
        if loop is None:
            return
        loop.stop()
        if is_still_running(self._task_instance):
            self.log.warning("The worker stops; what it has sent goes on in the service.")
            return
        self._cancel_active()

    def _cancel_active(self) -> None:
        if self._transfer is not None:
            self._cancel(list(self._transfer.active))

    def _cancel(self, operation_ids: Sequence[str]) -> None:
        from airflow_provider_geocatalog.api.errors import GeoCatalogError
        from airflow_provider_geocatalog.api.flows.ingestion import cancel_if_active

        if not operation_ids:
            return
        if not self.cancel_on_kill:
            self.log.warning("%d operations go on in the service (cancel_on_kill is false).", len(operation_ids))
            return
        taken = 0
        for operation_id in operation_ids:
            try:
                taken += bool(self.hook.run(cancel_if_active(operation_id)))
            except GeoCatalogError as error:
                self.log.warning("Operation %s may still be running: %s", operation_id, error)
        self.log.warning("The cancellation of %d of %d operations was requested.", taken, len(operation_ids))


class _Memory:
    """What a transfer leaves behind: its checkpoint, and the dead-letter file."""

    def __init__(
        self, operator: StacToGeoCatalogOperator, store: CheckpointStore | None, state: dict[str, Any], max_tries: Any
    ) -> None:
        self._operator, self._store, self._state, self._max_tries = operator, store, state, max_tries

    def remember(self, progress: Progress) -> None:
        """Keep how far the transfer is."""
        from itertools import islice

        if self._store is None:
            return
        state = {**self._state, "progress": progress.to_json(), "max_tries": self._max_tries}
        if progress.waiting is not None:  # the next try waits for these, and then looks for itself
            state = _with_operations(state, dict.fromkeys(islice(progress.waiting.operations, _OPERATIONS_KEPT), 0))
        self._store.set(state)

    def bury(self, letters: Iterable[DeadLetter], *, keep: int) -> None:
        """Write lines of the dead-letter file after those that are kept."""
        import json
        import shutil
        import tempfile
        from itertools import islice

        operator = self._operator
        if not operator.dead_letter_path or self._store is None:
            for letter in islice(letters, _NAMED_IN_ERROR):
                operator.log.warning("Item %r is given up (%s): %s", letter.item_id, letter.stage, letter.reason)
            return
        with tempfile.TemporaryFile() as spool:
            if keep:
                with self._open("rb") as old:
                    spool.writelines(islice(old, keep))
            for letter in letters:
                spool.write(json.dumps(letter.to_json(), ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            spool.seek(0)
            with self._open("wb") as new:
                shutil.copyfileobj(spool, new)

    def _open(self, mode: str) -> Any:
        operator = self._operator
        return operator._environment.open(str(operator._dead_letters), mode, operator.storage_conn_id)

    def tidy_up(self, progress: Progress) -> None:
        """Forget the checkpoint of a transfer that is done, and what the dead-letter file has of others."""
        from itertools import islice

        operator, lines = self._operator, progress.dead_letters
        if self._store is None:
            return
        path = operator._dead_letters
        if path and path in operator._environment.list(path, operator.storage_conn_id):
            with self._open("rb") as file:
                has_more = sum(1 for _ in islice(file, lines + 1)) > lines
            if has_more:  # of an earlier transfer, or of a try that was killed before it had settled them
                self.bury((), keep=lines)
        self._store.clear()


def _at_least_one(value: Any, argument: str) -> int:
    from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput

    if whole_number(value, argument) == 0:
        raise GeoCatalogInvalidInput(f"{argument} has to be at least 1")
    return int(value)


def _with_operations(state: dict[str, Any], operations: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a transfer that waits, with other operations to wait for."""
    progress = state["progress"]
    return {**state, "progress": {**progress, "waiting": {**progress["waiting"], "operations": operations}}}


def _paths(source: Any) -> list[Any]:
    path = getattr(source, "path", None)
    return path if isinstance(path, list) else [path]


def _is_read(file: str, path: Any) -> bool:
    """Return whether a file is what a source's path names: itself, in that folder, or of that pattern."""
    from fnmatch import fnmatchcase

    path = str(path)
    is_as_deep = "**" in path or file.count("/") == path.count("/")
    return file == path or file.startswith(path.rstrip("/") + "/") or (is_as_deep and fnmatchcase(file, path))


def _utc(epoch: float) -> Any:
    import datetime

    return datetime.datetime.fromtimestamp(epoch, datetime.UTC)
