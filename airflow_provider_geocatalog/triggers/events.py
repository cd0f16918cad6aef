"""Start DAGs when operations of a GeoCatalog end: triggers for asset watchers."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from airflow_provider_geocatalog.provider_info import DEFAULT_CONNECTION_ID
from airflow_provider_geocatalog.triggers.watching import HANDED_OVER, LONGEST_PAUSE, Memory, Trouble

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Sequence

    from airflow_provider_geocatalog.api.models import Operation
    from airflow_provider_geocatalog.ended_operations import Ledger, View

__all__ = ["GeoCatalogOperationEndedTrigger"]

_OUTCOMES = ("succeeded", "failed", "canceled")


class GeoCatalogOperationEndedTrigger(BaseEventTrigger):
    """
    Fire an event for each operation of a GeoCatalog that ends, whoever started it; a bulk run is one as well.

    It is for asset watchers, which Airflow has since 3.0:

    .. code-block:: python

        ingested = GeoCatalogOperationEndedTrigger(collection_id="naip", types=["IngestionStaticCatalog"])
        naip = Asset("naip", watchers=[AssetWatcher(name="ingested", trigger=ingested)])

    The payload is a JSON object with the operation's ids, status, outcome, counts, times and error code. On Airflow 3.3
    all such triggers with the same connection and interval share their polls, and each remembers with its asset what it
    has fired, so that a restart loses nothing; what was fired within seconds before a crash may be fired again, with
    the same ``operation_id``. Elsewhere, and where several assets have the same trigger, it fires for what ends after
    its start.

    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param collection_id: Only operations of this collection.
    :param types: Only operations of these types, such as ``AddItem`` or ``IngestionStaticCatalog``.
    :param outcomes: Only operations that end like this: ``succeeded``, ``failed`` or ``canceled``.
    :param max_failed_items: Failed items with which an operation still counts as succeeded.
    :param poll_interval: Seconds between polls.
    """

    def __init__(
        self,
        *,
        geocatalog_conn_id: str = DEFAULT_CONNECTION_ID,
        collection_id: str | None = None,
        types: Sequence[str] | None = None,
        outcomes: Sequence[str] | None = None,
        max_failed_items: int = 0,
        poll_interval: float = 60.0,
        **_from_other_versions: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if not poll_interval > 0:
            raise ValueError(f"poll_interval has to be a number of seconds above 0, not {poll_interval!r}")
        self.geocatalog_conn_id = geocatalog_conn_id
        self.collection_id = collection_id
        self.types = _names("types", types)
        self.outcomes = _names("outcomes", outcomes)
        self.max_failed_items = max_failed_items
        self.poll_interval = float(poll_interval)
        if unknown := set(self.outcomes or ()) - set(_OUTCOMES):
            raise ValueError(f"outcomes are {', '.join(_OUTCOMES)}, not {', '.join(sorted(unknown))}")

    def _filters(self) -> dict[str, Any]:
        return {
            "geocatalog_conn_id": self.geocatalog_conn_id,
            "collection_id": self.collection_id,
            "types": self.types,
            "outcomes": self.outcomes,
            "max_failed_items": self.max_failed_items,
        }

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and exactly the arguments that make this trigger again."""
        arguments = {**self._filters(), "poll_interval": self.poll_interval}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire for what ends, for ever, with polls of its own; for versions of Airflow without shared streams."""
        async with aclosing(self.open_shared_stream(self.serialize()[1])) as views:
            async for event in self.filter_shared_stream(views):
                yield event

    # --- the polls, which are shared ----------------------------------------------------------------------------------

    def shared_stream_key(self) -> Hashable | None:
        """Return what triggers that share their polls have in common."""
        return (self.serialize()[0], self.geocatalog_conn_id, self.poll_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncGenerator[View]:
        """
        Look at the operations again and again; each view has all that is active, and all that ended since the last.

        What went wrong would fail every subscriber, and Airflow starts a watcher that failed again within two seconds,
        so nothing but its end gets out of here.

        :param kwargs: The arguments of one of the triggers.
        """
        from airflow_provider_geocatalog.api.waiting import PollPolicy
        from airflow_provider_geocatalog.ended_operations import Ledger

        trigger = cls(**kwargs)
        policy = PollPolicy(max(trigger.poll_interval, LONGEST_PAUSE), trigger.poll_interval)
        ledger, trouble = Ledger(time.time()), Trouble(trigger.log, "Looking for ended operations")
        while True:
            retry_after = None
            try:
                view = await trigger._look(ledger)
            except Exception as error:
                retry_after = trouble.began(error)
            else:
                trouble.ended()
                ledger.take(view)
                yield view
            await asyncio.sleep(policy.delay(trouble.age, retry_after))

    async def _look(self, ledger: Ledger) -> View:
        from airflow_provider_geocatalog.ended_operations import look
        from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

        # With a new hook each time: the connection may have changed.
        return await look(await GeoCatalogHook(self.geocatalog_conn_id).aget_client(), ledger)

    # --- this trigger's own part --------------------------------------------------------------------------------------

    async def filter_shared_stream(self, shared_stream: AsyncIterator[View]) -> AsyncIterator[TriggerEvent]:
        """
        Fire for what has ended in each view.

        :param shared_stream: The views.
        """
        from airflow_provider_geocatalog.ended_operations import Ledger

        ledger, trouble = Ledger(time.time(), self._may_want), Trouble(self.log, "Going on from what was known")
        memory = Memory(self, "geocatalog_operations", self._filters())
        async for shown in shared_stream:
            view = shown
            try:
                await memory.recall(ledger.restore)
                if not ledger.goes_on_with(view):  # after a restart, where more has happened than a first view shows
                    view = await self._look(ledger)
            except Exception as error:  # the next view is another chance
                trouble.began(error)
                continue
            events = [self._payload(operation) for operation in ledger.take(view)]
            events = [event for event in events if self.outcomes is None or event["outcome"] in self.outcomes]
            for event in events:
                yield TriggerEvent(event)  # type: ignore[no-untyped-call,unused-ignore]
            if events:
                # Sooner it would be worse than a repetition if this process is killed: the events would be lost.
                await asyncio.sleep(min(self.poll_interval, HANDED_OVER))
            try:
                await memory.keep(ledger.to_json())
            except Exception as error:
                trouble.began(error)
            else:
                trouble.ended()

    def _may_want(self, operation: Operation) -> bool:
        if self.collection_id is not None and operation.collection_id != self.collection_id:
            return False
        return self.types is None or operation.type in self.types

    def _payload(self, operation: Operation) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.outcomes import is_success
        from airflow_provider_geocatalog.api.statuses import Outcome

        if is_success(operation, max_failed_items=self.max_failed_items):
            outcome = "succeeded"
        else:
            outcome = "canceled" if operation.status.outcome is Outcome.CANCELED else "failed"
        return {
            **operation.to_summary(),
            "outcome": outcome,
            "error_code": operation.fault.code if operation.fault else None,
            "geocatalog_conn_id": self.geocatalog_conn_id,
        }


def _names(what: str, names: Sequence[str] | None) -> list[str] | None:
    """Return names in one order, so that Airflow takes equal triggers for one."""
    if names is None:
        return None
    if isinstance(names, str):
        raise ValueError(f"{what} have to be a list, not {names!r}")
    return sorted(set(names))
