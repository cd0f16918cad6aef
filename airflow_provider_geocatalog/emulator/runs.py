"""
Bulk runs. Reading a source takes real time and happens on a thread of its own, outside the world's lock; what was read
is counted, and shows in search, at the speed that the settings give.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_geocatalog.emulator.effects import effect, passing_effect
from airflow_provider_geocatalog.emulator.ingest import IngestionError, already_exists, find_items, load_item
from airflow_provider_geocatalog.emulator.state import Ingestion, ItemFailure, Run, StoredItem, new_id
from airflow_provider_geocatalog.emulator.storage import Access, Blobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_geocatalog.emulator.engine import Engine

__all__ = ["RUN_TYPE", "Runs"]

log = logging.getLogger(__name__)

#: What the type of a run's operation begins with; the import type follows (6.1, service-open-questions U2).
RUN_TYPE = "Ingestion"
_RUN_DELAY = 0.008  # seconds between the creation times of a run's operation and of the run (5.4)


@dataclass
class _Job:
    """
    A run at work: outcomes that were read and are not yet counted.

    :param total_known_at: When its items were first found.
    :param done: Outcomes that are counted.
    """

    run: Run
    step: float
    total_known_at: float | None = None
    done: int = 0
    ready: deque[StoredItem | ItemFailure] = field(default_factory=deque)
    scheduled: bool = False
    over: threading.Event = field(default_factory=threading.Event)


class Runs:
    """
    The runs that are waiting or at work. Its public methods expect the world's lock to be held.

    :param engine: Moves their operations.
    :param blobs: The emulator's own containers.
    """

    def __init__(self, engine: Engine, blobs: Blobs) -> None:
        self._engine, self._blobs = engine, blobs
        self._jobs: dict[str, _Job] = {}
        self._waiting: deque[Run] = deque()
        self._readers = 0

    @property
    def are_reading(self) -> bool:
        """Whether a source is being read."""
        return self._readers > 0

    def abandon(self) -> None:
        """Stop reading."""
        for job in self._jobs.values():
            job.over.set()

    def start(self, ingestion: Ingestion, now: float) -> Run:
        """Start a run of a definition."""
        operation = self._engine.new(RUN_TYPE + ingestion.import_type, ingestion.collection_id, now, counts=True)
        run = Run(
            operation,
            now + _RUN_DELAY,
            ingestion.import_type,
            ingestion.source_url,
            ingestion.skip_existing_items,
            ingestion.keep_original_assets,
            own_id=new_id() if self._engine.settings.run_ids == "own" else None,
        )
        ingestion.runs[run.id] = run
        begin = partial(self._engine.go_on, "Pending", operation, partial(self._queue, run))
        self._engine.at(now + self._engine.settings.pending_seconds, begin)
        return run

    @effect
    def _queue(self, run: Run, at: float) -> None:
        self._waiting.append(run)
        self._begin_waiting(at)

    def _begin_waiting(self, at: float) -> None:
        while self._waiting and len(self._jobs) < self._engine.settings.max_concurrent_runs:
            run = self._waiting.popleft()
            if run.operation.status != "Pending":
                continue
            self._engine.begin(run.operation, at)
            job = self._add(run)
            self._engine.go_on("Running", run.operation, partial(self._begin_reading, job), at)

    def _add(self, run: Run, total_known_at: float | None = None) -> _Job:
        job = _Job(run, self._engine.step, total_known_at, done=run.operation.counters.done)
        self._jobs[run.id] = job
        self._engine.on_cancel(run.operation, partial(self._end, job, None))
        return job

    @property
    def waiting(self) -> Sequence[Run]:
        """Those that wait for their turn, the next one first."""
        return self._waiting

    @property
    def at_work(self) -> Iterable[tuple[Run, float | None]]:
        """Those at work, and when their items were first found."""
        return [(job.run, job.total_known_at) for job in self._jobs.values()]

    def restore(self, waiting: Iterable[Run], at_work: Iterable[tuple[Run, float | None]]) -> None:
        """Take up the runs of an earlier process: sources are read again, without what was counted already."""
        self._waiting.extend(waiting)
        for run, total_known_at in at_work:
            job = self._add(run, total_known_at)
            if run.operation.status == "Running":
                self._engine.at(self._engine.clock.now(), partial(self._begin_reading, job))

    @passing_effect
    def _begin_reading(self, job: _Job, at: float) -> None:
        if job.over.is_set():
            return
        self._readers += 1
        access = Access(self._engine.settings, self._blobs, list(self._engine.world.sources.values()), at)
        name = f"geocatalog-emulator-run-{job.run.id[:8]}"
        threading.Thread(target=self._read, args=(job, access), name=name, daemon=True).start()

    def _read(self, job: _Job, access: Access) -> None:
        """Read a run's source and items, on a thread, without the lock but for handing over what was read."""
        run = job.run
        operation = run.operation
        try:
            found = find_items(run.import_type, run.source_url, access)
            limits = self._engine.settings.bounds
            if limits is not None and len(found) > limits.items_per_run:
                message = f"The source has {len(found)} items; a run can have {limits.items_per_run}."
                raise IngestionError("InvalidInputData", message)
            with self._engine.changed:
                if job.over.is_set():
                    return
                now = self._engine.clock.now()
                if job.total_known_at is None:
                    job.total_known_at = now
                counters = operation.counters
                counters.total = max(len(found), job.done)  # the source may have changed since a restart
                counters.pending = counters.total - job.done
                self._engine.world.journal.operation(operation)
                if not counters.pending:
                    self._end(job, None if job.done else "Succeeded", now)
            for item in found[job.done :]:
                if job.over.is_set():
                    return
                outcome = load_item(
                    item,
                    operation.collection_id,
                    access,
                    self._engine.settings,
                    now=self._engine.clock.now(),
                    keep=run.keep_original_assets,
                )
                with self._engine.changed:
                    job.ready.append(outcome)
                    if not job.scheduled:
                        self._progress(job, self._engine.clock.now())
        except IngestionError as error:
            with self._engine.changed:
                self._end(job, "Failed", self._engine.clock.now(), error.code, error.message)
        except Exception:
            log.exception("reading the source of run %s failed", run.id)
            with self._engine.changed:
                self._end(job, "Failed", self._engine.clock.now(), "InternalError", "The emulator failed; see its log.")
        finally:
            with self._engine.changed:
                self._readers -= 1
                self._engine.changed.notify_all()

    @passing_effect
    def _progress(self, job: _Job, at: float) -> None:
        """Count the items that were read and whose time has come."""
        job.scheduled = False
        operation = job.run.operation
        while job.ready and not job.over.is_set() and operation.status == "Running":
            assert job.total_known_at is not None  # noqa: S101  # nothing is read before
            due = job.total_known_at + (job.done + 1) * job.step
            if due > at:
                job.scheduled = True
                self._engine.at(due, partial(self._progress, job))
                return
            self._count_outcome(job, job.ready.popleft(), at)
            if job.done == operation.counters.total:
                self._end(job, None, at)

    def _count_outcome(self, job: _Job, outcome: StoredItem | ItemFailure, at: float) -> None:
        job.done += 1
        operation = job.run.operation
        if isinstance(outcome, ItemFailure):
            self._engine.world.journal.operation(operation)
            operation.counters.pending -= 1
            operation.counters.failed += 1
            failure = ItemFailure(outcome.code, outcome.message, outcome.item_id, outcome.url, at)
            operation.failures.append(failure)
            return
        self._engine.count(operation, partial(self._store, outcome, job.run.skip_existing_items), at, outcome.id)

    def _store(self, item: StoredItem, skip_existing: bool, at: float) -> None:
        collection = self._engine.world.collections.get(item.collection)
        if collection is None:
            message = f"Collection '{item.collection}' does not exist"
            raise IngestionError("CollectionDoesNotExist", message)
        if skip_existing and item.id in collection.items:
            self._blobs.managed.discard(item.document)
        elif item.id in collection.items and self._engine.settings.existing_items == "fail":
            self._blobs.managed.discard(item.document)
            raise already_exists(item)
        else:
            self._blobs.managed.commit(item.document)
            collection.items[item.id] = item

    @passing_effect
    def _end(
        self, job: _Job, status: str | None, at: float, code: str | None = None, message: str | None = None
    ) -> None:
        """End a run, by its counters where no status is given, and let the next one begin."""
        if self._jobs.pop(job.run.id, None) is None:
            return
        job.over.set()
        operation = job.run.operation
        if operation.status == "Running":
            if status is None:
                self._engine.end_counted(operation, at, partial_status=self._engine.settings.partial_failure_status)
            else:
                self._engine.end(operation, status, at, code, message)
        self._begin_waiting(at)
