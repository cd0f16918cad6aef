"""Start DAGs when operations of a GeoCatalog end: triggers for asset watchers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.provider_info import DEFAULT_CONNECTION_ID
from airflow_provider_geocatalog.triggers.watching import SharedLooksTrigger, names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from airflow_provider_geocatalog.api.models import Operation
    from airflow_provider_geocatalog.ended_operations import Ledger, View

__all__ = ["GeoCatalogOperationEndedTrigger"]

_OUTCOMES = ("succeeded", "failed", "canceled")


class GeoCatalogOperationEndedTrigger(SharedLooksTrigger["View"]):
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
    :raises ValueError: The arguments make no sense.
    """

    kind = "geocatalog_operations"
    doing = "Looking for ended operations"

    def __init__(
        self,
        *,
        geocatalog_conn_id: str = DEFAULT_CONNECTION_ID,
        collection_id: str | None = None,
        types: Sequence[str] | None = None,
        outcomes: Sequence[str] | None = None,
        max_failed_items: int = 0,
        poll_interval: float = 60.0,
        **from_other_versions: Any,
    ) -> None:
        super().__init__(poll_interval=poll_interval, **from_other_versions)
        self.geocatalog_conn_id = geocatalog_conn_id
        self.collection_id = collection_id
        self.types = names("types", types)
        self.outcomes = names("outcomes", outcomes)
        self.max_failed_items = max_failed_items
        if unknown := set(self.outcomes or ()) - set(_OUTCOMES):
            raise ValueError(f"outcomes are {', '.join(_OUTCOMES)}, not {', '.join(sorted(unknown))}")

    def target(self) -> dict[str, Any]:
        """Return the arguments that say what is looked at, as JSON."""
        return {"geocatalog_conn_id": self.geocatalog_conn_id}

    def filters(self) -> dict[str, Any]:
        """Return the arguments that say which events this trigger makes of it, as JSON."""
        return {
            "collection_id": self.collection_id,
            "types": self.types,
            "outcomes": self.outcomes,
            "max_failed_items": self.max_failed_items,
        }

    def looker(self) -> Callable[[], Awaitable[View]]:
        """Return what looks at the operations; each view has all that is active, and all that ended since the last."""
        from airflow_provider_geocatalog.ended_operations import Ledger

        ledger = Ledger(time.time())

        async def look() -> View:
            view = await self._look(ledger)
            ledger.take(view)
            return view

        return look

    def knowledge(self) -> _Told:
        """Return what is known before the first view."""
        return _Told(self)

    async def _look(self, ledger: Ledger) -> View:
        from airflow_provider_geocatalog.ended_operations import look
        from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

        # With a new hook each time: the connection may have changed.
        return await look(await GeoCatalogHook(self.geocatalog_conn_id).aget_client(), ledger)

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


class _Told:
    """The operations of which a trigger has told."""

    def __init__(self, trigger: GeoCatalogOperationEndedTrigger) -> None:
        from airflow_provider_geocatalog.ended_operations import Ledger

        self._trigger = trigger
        self._ledger = Ledger(time.time(), trigger._may_want)
        self.restore, self.to_json = self._ledger.restore, self._ledger.to_json

    async def news(self, view: View) -> list[dict[str, Any]]:
        """Return the payloads of what has ended since the last view."""
        trigger, ledger = self._trigger, self._ledger
        if not ledger.goes_on_with(view):  # after a restart, where more has happened than a first view shows
            view = await trigger._look(ledger)
        payloads = [trigger._payload(operation) for operation in ledger.take(view)]
        return [one for one in payloads if trigger.outcomes is None or one["outcome"] in trigger.outcomes]
