"""What an ended operation means: the only place that turns a status into success or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import (
    GeoCatalogItemsFailed,
    GeoCatalogOperationCanceled,
    GeoCatalogOperationError,
    GeoCatalogOperationFailed,
)
from airflow_provider_geocatalog.api.fault_codes import fault_code
from airflow_provider_geocatalog.api.models import Counts, Operation
from airflow_provider_geocatalog.api.progress import describe_counts
from airflow_provider_geocatalog.api.statuses import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["is_success", "require_success"]

#: The service's code for a run in which only items failed (geocatalog-api 10.3).
_ITEMS_FAILED = "ErrorsInBatchOperation"
_HISTORY_SHOWN = 4  # status changes quoted in an error


def require_success(
    operation: Operation,
    *,
    what: str,
    max_failed_items: int = 0,
    explained: Sequence[str] = (),
    permanent: bool = False,
) -> None:
    """
    Return if an ended operation did what was asked of it, raise otherwise.

    A run with failed items may end as ``Failed`` or as ``Succeeded``; both are judged by the count of failed items.

    :param operation: An operation in a final status.
    :param what: What it was, for the message.
    :param max_failed_items: Failed items that are tolerated.
    :param explained: Failed items by name and reason, if they are known.
    :param permanent: Whether every failed item is known to fail again.
    :raises GeoCatalogOperationFailed: It failed.
    :raises GeoCatalogOperationCanceled: It was cancelled.
    :raises GeoCatalogItemsFailed: More items failed than are tolerated.
    """
    outcome, counts = operation.status.outcome, operation.counts or Counts()
    details: dict[str, Any] = {"summary": operation.to_summary()}
    if operation.fault:
        details["code"] = operation.fault.code
    if outcome is Outcome.CANCELED:
        raise GeoCatalogOperationCanceled(
            f"{what} was cancelled{_reason(operation)}{_progress(counts)}",
            hint=f"{GeoCatalogOperationCanceled.hint} {_history(operation)}",
            **details,
        )
    only_items_failed = outcome is Outcome.SUCCEEDED or (
        outcome is Outcome.FAILED
        and counts.failed > 0
        and (operation.fault is None or operation.fault.code == _ITEMS_FAILED)
    )
    if only_items_failed:
        # What a failed run has not got to, nobody will get to: it is lost like an item that failed.
        lost = counts.failed + (counts.pending if outcome is Outcome.FAILED else 0)
        if lost <= max_failed_items:
            return
        hint = f"At most {max_failed_items} failed items are tolerated (max_failed_items). {_naming(explained)}"
        raise GeoCatalogItemsFailed(
            f"{what} ended with {counts.failed} failed items: {describe_counts(counts)}{_reason(operation)}",
            hint=f"{hint} {_history(operation)}",
            retryable=not permanent,
            **details,
        )
    known = fault_code(details.get("code"))
    hint = f"{known.meaning[0].upper()}{known.meaning[1:]}: {known.action} " if known else ""
    hint += _history(operation)
    if explained or (counts.failed and counts.total > 1):  # of a single item, the reason has been told
        hint += f" {_naming(explained)}"
    raise GeoCatalogOperationFailed(
        f"{what} failed{_reason(operation)}{_progress(counts)}",
        hint=hint,
        retryable=known is None or known.transient,
        **details,
    )


def is_success(operation: Operation, *, max_failed_items: int = 0) -> bool:
    """Return whether an operation has ended and :func:`require_success` would let it pass."""
    if not operation.status.is_final:
        return False
    try:
        require_success(operation, what="", max_failed_items=max_failed_items)
    except GeoCatalogOperationError:
        return False
    return True


def _reason(operation: Operation) -> str:
    return f": {operation.fault.message.rstrip('.')}" if operation.fault and operation.fault.message else ""


def _progress(counts: Counts) -> str:
    return f" ({describe_counts(counts)})" if counts.total else ""


def _history(operation: Operation) -> str:
    changes = operation.history[-_HISTORY_SHOWN:]
    told = ", ".join(f"{c.status}{f' at {c.at.isoformat()}' if c.at else ''}" for c in changes)
    return f"Last states: {told or 'none told'}."


def _naming(explained: Sequence[str]) -> str:
    if not explained:
        return "The service tells reasons per item only in the GeoCatalog's diagnostic settings, as 'Ingestion Logs'."
    return "Failed: " + "; ".join(explained)
