"""What a task instance remembers of the work that it has started in the service, over retries, clears and crashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.triggers.ingestion import OWNER_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context

__all__ = ["Submissions"]


class Submissions:
    """
    A task instance's record of what it has started.

    Airflow 3.3 has a store that outlives tries and clears; XComs are deleted when a try begins. Where there is no
    store, work is found again by what the service tells of it.

    :param context: The task's context.
    """

    def __init__(self, context: Context) -> None:
        self._ti: Any = context["ti"]
        self._store: Any = context.get("task_state_store")
        found = self._store.get(OWNER_KEY) if self._store is not None else None
        self._last: dict[str, Any] = found if isinstance(found, dict) else {}

    @property
    def last(self) -> Mapping[str, Any]:
        """What was recorded last, where that is known."""
        return self._last

    @property
    def operation_id(self) -> str | None:
        """The operation that this task instance has started last, where that is known."""
        return self._last.get("operation_id") if self._last.get("own", True) else None

    @property
    def is_repeated(self) -> bool:
        """Whether this is not the task instance's first try: an earlier one may have started something."""
        return int(self._ti.try_number) > 1

    @property
    def was_cleared(self) -> bool:
        """Whether a user has cleared the task since the last try, so that this one is no retry."""
        limit = getattr(self._ti, "max_tries", None)
        if not self.is_repeated or limit is None:
            return False
        if "max_tries" in self._last:
            return bool(self._last["max_tries"] != limit)
        # Clearing allows as many retries again; the first try after that is the one with all of them left.
        task = getattr(self._ti, "task", None)
        return task is not None and self._ti.try_number == limit - task.retries + 1

    @property
    def may_have_waited(self) -> bool:
        """Whether the task may have been waiting for its work when it was stopped; not if it only started that."""
        return "operation_id" not in self._last or "deadline" in self._last

    def about_to_start(self, newest: str | None) -> None:
        """
        Record that something is started next, so that what a crash leaves unrecorded is told from what was there.

        :param newest: Id of what was there last.
        """
        self._save({"newest_before": newest})

    def remember(self, operation_id: str, ids: Mapping[str, Any]) -> None:
        """
        Record what was started, before it is waited for: a crash must not lose it, and a trigger asks who waits.

        :param operation_id: The operation.
        :param ids: JSON object that names it.
        """
        record = {"operation_id": operation_id, **ids}
        self._ti.xcom_push(key=OWNER_KEY, value=record)
        self._save(record)

    def _save(self, record: Mapping[str, Any]) -> None:
        if self._store is not None:
            self._store.set(OWNER_KEY, {**record, "max_tries": getattr(self._ti, "max_tries", None)})
