"""Long-running operations: watching and cancelling them (6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.emulator import wire
from airflow_provider_geocatalog.emulator.routing import Context, route
from airflow_provider_geocatalog.emulator.wire import Answer, Call

if TYPE_CHECKING:
    from airflow_provider_geocatalog.emulator.state import ItemFailure, Operation

__all__ = ["failures_json"]

_STATUSES = ("Pending", "Running", "Succeeded", "Failed", "Canceling", "Canceled")


@route(endpoints.LIST_OPERATIONS)
def list_operations(context: Context, call: Call) -> Answer:
    """List operations, newest first."""
    operations = list(reversed(context.world.operations.values()))
    collection_id = call.query.get("collectionId")
    if collection_id is not None:
        operations = [operation for operation in operations if operation.collection_id == collection_id]
    wanted = call.query.get("status")
    if wanted is not None:
        known = {word.lower(): word for word in _STATUSES} | {call.dialect.success_word.lower(): "Succeeded"}
        if wanted.lower() not in known:
            raise wire.invalid(f"'status' has to be one of {', '.join(_STATUSES)}.")
        operations = [operation for operation in operations if operation.status == known[wanted.lower()]]
    return wire.paged(call, operations, lambda operation: _json(context, call, operation))


@route(endpoints.GET_OPERATION)
def get_operation(context: Context, call: Call) -> Answer:
    """Return an operation: always 200, whatever became of it."""
    return Answer(body=_json(context, call, _find(context, call)))


@route(endpoints.CANCEL_OPERATION)
def cancel_operation(context: Context, call: Call) -> Answer:
    """Ask for an operation's end; asking again meanwhile is fine, unless a switch says otherwise."""
    operation = _find(context, call)
    refused = operation.status == "Canceling" and context.settings.second_cancel == "400"
    if operation.is_final or refused:
        status = wire.status_word(operation, call.dialect)
        raise wire.invalid(f"Cannot cancel a operation in the current status: '{status}'")  # recorded wording
    context.engine.cancel(operation, call.now)
    return Answer(204)


@route(endpoints.CANCEL_ALL_OPERATIONS)
def cancel_all_operations(context: Context, call: Call) -> Answer:
    """Cancel everything that is active, in every collection."""
    for operation in list(context.world.operations.values()):
        context.engine.cancel(operation, call.now)
    return Answer(204)


@route(endpoints.GET_OPERATION_LOGS)
def get_operation_logs(context: Context, call: Call) -> Answer:
    """Tell why items failed; only 2024-01-31-preview had this, in a form that is not documented."""
    operation = _find(context, call)
    if operation.collection_id != call.names["collection_id"]:
        raise wire.not_found(f"Operation '{operation.id}' not found in collection '{call.names['collection_id']}'")
    return Answer(body=failures_json(operation))


def failures_json(operation: Operation) -> list[dict[str, str | None]]:
    """Return the reasons of an operation's failed items."""
    return [_failure_json(failure) for failure in operation.failures]


def _failure_json(failure: ItemFailure) -> dict[str, str | None]:
    return {
        "itemId": failure.item_id,
        "url": failure.url,
        "timestamp": wire.timestamp(failure.at),
        "errorCode": failure.code,
        "errorMessage": failure.message,
    }


def _json(context: Context, call: Call, operation: Operation) -> dict[str, Any]:
    return wire.operation_json(operation, call.dialect, flat_error=context.settings.operation_error == "flat")


def _find(context: Context, call: Call) -> Operation:
    operation = context.world.operations.get(call.names["operation_id"])
    if operation is None:
        raise wire.not_found(f"Operation '{call.names['operation_id']}' not found")
    return operation
