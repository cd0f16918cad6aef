"""Wait in the triggerer for many operations of one task to end."""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.triggers.ingestion import CANCEL_WITHIN, WaitTrigger
from airflow_provider_geocatalog.triggers.polling import fire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.triggers.base import TriggerEvent

    from airflow_provider_geocatalog.api.http import Flow
    from airflow_provider_geocatalog.api.models import Operation
    from airflow_provider_geocatalog.shared_waits import SharedWaits

__all__ = ["GeoCatalogOperationsTrigger"]


class GeoCatalogOperationsTrigger(WaitTrigger):
    """
    Wait for several operations to end, and tell which of them did not do all that they were to do.

    :param operations: Operations by id: the numbers of the items that one creates, or the number of the one that it
        replaces. The event gives them back.
    :param collection_id: Their collection.
    :param packed: Operations and echo as Airflow stores them: there can be a thousand, and its database has 64 KB for a
        trigger on MySQL.
    :param options: As for :class:`~airflow_provider_geocatalog.triggers.ingestion.WaitTrigger`.
    """

    def __init__(
        self,
        *,
        collection_id: str,
        operations: Mapping[str, list[int] | int] | None = None,
        packed: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.collection_id = collection_id
        self.operations = dict(operations or {})
        if packed is not None:
            self.operations, self.echo = json.loads(zlib.decompress(base64.b64decode(packed)))

    def _arguments(self) -> dict[str, Any]:
        arguments = super()._arguments()
        told = json.dumps([self.operations, arguments.pop("echo")], separators=(",", ":"))
        packed = base64.b64encode(zlib.compress(told.encode(), level=9)).decode()
        return {**arguments, "collection_id": self.collection_id, "packed": packed}

    @property
    def operation_id(self) -> str:
        """Id of one operation, by which the task says that it waits for all of them."""
        return min(self.operations)

    def _read(self) -> Flow[Operation]:
        from airflow_provider_geocatalog.api.flows.waiting import get_operation

        return get_operation(self.operation_id, once=True)

    def _event(self) -> dict[str, Any]:
        return {"operation_id": self.operation_id}

    async def _wait(self) -> TriggerEvent:
        from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogWaitTimeout
        from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
        from airflow_provider_geocatalog.transfer.sending import is_clean

        waits = GeoCatalogHook(self.geocatalog_conn_id).shared_waits()
        told = {**self.echo, "operations": self.operations}
        delay = self._first_pause()
        tasks = [asyncio.ensure_future(self._wait_for(waits, one, delay)) for one in self.operations]
        try:
            ended = await asyncio.gather(*tasks)
        except GeoCatalogWaitTimeout as error:
            return fire({**told, "outcome": "timeout", "message": str(error)})
        except GeoCatalogError as error:
            return fire({**told, "outcome": "unreadable", "message": str(error)})
        finally:
            for task in tasks:
                task.cancel()
        unclean = [
            operation.operation_id
            for operation, what in zip(ended, self.operations.values(), strict=True)
            if not is_clean(operation, 1 if isinstance(what, int) else len(what))
        ]
        trouble = f", {len(unclean)} of them not wholly well" if unclean else ""
        self.log.info("All %d operations have ended%s.", len(ended), trouble)
        return fire({**told, "outcome": "ended", "unclean": unclean})

    async def _wait_for(self, waits: SharedWaits, operation_id: str, delay: float) -> Operation:
        from airflow_provider_geocatalog.api.flows.waiting import get_operation
        from airflow_provider_geocatalog.api.waiting import Waiting
        from airflow_provider_geocatalog.metrics import WaitMetrics

        metrics = WaitMetrics(self.geocatalog_conn_id, self.collection_id, began=self.started)
        waiting = Waiting(
            f"operation {operation_id}",
            self._policy(),
            started=self._began(),
            deadline=self.deadline,
            observe=lambda operation, _now: metrics.observe(operation),
        )
        try:
            operation = await waits.wait(
                operation_id, waiting, lambda: get_operation(operation_id, once=True), first_delay=delay
            )
            metrics.ended(operation.status.outcome.value)
            return operation
        finally:
            metrics.close()

    async def _cancel_if_stopped(self) -> None:
        from airflow_provider_geocatalog.api.flows.ingestion import cancel_if_active
        from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

        hook = GeoCatalogHook(self.geocatalog_conn_id)
        try:
            async with asyncio.timeout(CANCEL_WITHIN):
                if await self._is_waited_for():
                    return
                taken = await asyncio.gather(
                    *(hook.arun(cancel_if_active(one)) for one in self.operations), return_exceptions=True
                )
        except Exception:
            self.log.exception("The task's operations may still be running: they could not be cancelled.")
            return
        failed = [one for one in taken if isinstance(one, BaseException)]
        self.log.info("The cancellation of %d operations was requested.", sum(one is True for one in taken))
        if failed:
            self.log.warning("%d operations may still be running: %s", len(failed), failed[0])
