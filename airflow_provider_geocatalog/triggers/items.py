"""Wait in the triggerer for items: new ones in a source, and those that become readable in the GeoCatalog."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.redaction import redact
from airflow_provider_geocatalog.provider_info import DEFAULT_CONNECTION_ID
from airflow_provider_geocatalog.transfer.source import ItemSource
from airflow_provider_geocatalog.triggers.polling import fire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from airflow.triggers.base import TriggerEvent

    from airflow_provider_geocatalog.transfer.awaited_items import AwaitedItems
    from airflow_provider_geocatalog.transfer.new_items import NewItemsWatch

__all__ = ["GeoCatalogItemsTrigger", "NewItemsTrigger", "look_in_thread", "source_from_json", "source_to_json"]

T = TypeVar("T")

_READERS = 8  # sources that a triggerer reads at a time; reading blocks


# --- sources on their way into the triggerer --------------------------------------------------------------------------


def source_to_json(source: ItemSource) -> dict[str, Any]:
    """
    Return a JSON object from which :func:`source_from_json` makes the source again.

    :raises GeoCatalogInvalidInput: An argument of it is no JSON, such as a function, or a secret: Airflow stores it.
    """
    arguments = {}
    for name in inspect.signature(type(source)).parameters:
        try:
            value = json.loads(json.dumps(getattr(source, name)))
            if _is_secret(name, value):
                raise ValueError("it looks like a credential, and would be stored")
        except (AttributeError, TypeError, ValueError) as error:
            raise GeoCatalogInvalidInput(
                f"{type(source).__name__}({name}=...) cannot be sent to the triggerer: {error}; use a connection for "
                "what is secret, or wait with deferrable=False"
            ) from error
        arguments[name] = value
    return {"class": f"{type(source).__module__}.{type(source).__qualname__}", "arguments": arguments}


def _is_secret(name: str, value: Any) -> bool:
    """Return whether an argument holds a credential, as far as its form tells; header fields are one in any form."""
    from airflow_provider_geocatalog.transfer.stac_api import has_credential

    if name == "headers" and value:
        return True
    text = json.dumps(value)
    return redact(text) != text or (isinstance(value, str) and has_credential(value))


def source_from_json(data: Mapping[str, Any]) -> ItemSource:
    """Return the source that a JSON object describes."""
    module, name = data["class"].rsplit(".", 1)
    kind = getattr(import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, ItemSource)):
        raise GeoCatalogInvalidInput(f"{data['class']} is no source of items")
    return kind(**data["arguments"])


# --- triggers ---------------------------------------------------------------------------------------------------------


class _LookTrigger(BaseTrigger):
    """
    Look again and again until something is there.

    There is nothing to cancel when the task is stopped: it only reads.

    :param poll_interval: Seconds between looks.
    :param first_delay: Seconds before the first look. A trigger that fires within a few seconds of its deferral can
        make the scheduler fail the task (seen on Airflow 3.0, 3.1 and 3.3.2), and the worker has just looked.
    :param started: Epoch seconds at which the wait began; now, if not given.
    :param deadline: Epoch seconds at which to give up; the trigger then fires with the outcome ``timeout``.
    """

    def __init__(
        self,
        *,
        poll_interval: float = 60.0,
        first_delay: float = 8.0,
        started: float | None = None,
        deadline: float | None = None,
        **_from_other_versions: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.poll_interval = poll_interval
        self.first_delay = first_delay
        self.started = started
        self.deadline = deadline

    def _arguments(self) -> dict[str, Any]:
        return {
            "poll_interval": self.poll_interval,
            "first_delay": self.first_delay,
            "started": self.started,
            "deadline": self.deadline,
        }

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and exactly the arguments that make this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self._arguments()

    @abstractmethod
    async def _look(self) -> dict[str, Any] | None:
        """Return the result if what is waited for is there."""

    @abstractmethod
    def _describe(self) -> str:
        """Return in a sentence without its end how far it is."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once: because it is there, or because time is up, or because looking fails for good."""
        yield fire(await self._wait())

    async def _wait(self) -> dict[str, Any]:
        from airflow_provider_geocatalog.api.errors import GeoCatalogError
        from airflow_provider_geocatalog.api.waiting import PollPolicy

        policy = PollPolicy(self.poll_interval, self.poll_interval)
        started = time.time() if self.started is None else self.started
        pause, trouble = self.first_delay, None
        while True:
            left = float("inf") if self.deadline is None else self.deadline - time.time()
            await asyncio.sleep(max(0.0, min(pause, left)))
            retry_after = None
            try:
                result = await self._look()
            except GeoCatalogError as error:
                if not error.retryable:
                    return {"outcome": "failed", "message": str(error)}
                if trouble is None:
                    self.log.warning("%s Looking again every %g s.", error, self.poll_interval)
                trouble, retry_after = error, error.retry_after
            else:
                if result is not None:
                    return {"outcome": "found", "result": result}
                if trouble is not None:
                    self.log.info("Looking works again.")
                trouble = None
            now = time.time()
            if self.deadline is not None and now >= self.deadline:
                failing = f"; the last look failed: {trouble}" if trouble else ""
                return {"outcome": "timeout", "message": f"{self._describe()}{failing}"}
            pause = policy.delay(now - started, retry_after)


class NewItemsTrigger(_LookTrigger):
    """
    Wait for new items in a source, such as a STAC API.

    :param source: What :func:`source_to_json` made of the source.
    :param query: The arguments of a :class:`~airflow_provider_geocatalog.transfer.new_items.NewItemsQuery`.
    :param poll_interval: Seconds between looks.
    :param first_delay: Seconds before the first look.
    :param started: Epoch seconds at which the wait began; now, if not given.
    :param deadline: Epoch seconds at which to give up; the trigger then fires with the outcome ``timeout``.
    """

    def __init__(self, *, source: dict[str, Any], query: dict[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self.source = source
        self.query = query

    def _arguments(self) -> dict[str, Any]:
        return {"source": self.source, "query": self.query, **super()._arguments()}

    @cached_property
    def _watch(self) -> NewItemsWatch:
        from airflow_provider_geocatalog.transfer.new_items import NewItemsQuery, NewItemsWatch

        return NewItemsWatch(source_from_json(self.source), NewItemsQuery(**self.query))

    async def _look(self) -> dict[str, Any] | None:
        return await look_in_thread(self._watch.look)

    def _describe(self) -> str:
        return self._watch.describe()


async def look_in_thread(read: Callable[..., T]) -> T:
    """
    Read a source without blocking the event loop, as reading does.

    :param read: Reads; a method of a :class:`~airflow_provider_geocatalog.transfer.new_items.NewItemsWatch`.
    """
    from asgiref.sync import sync_to_async

    from airflow_provider_geocatalog.hooks.environment import AirflowEnvironment

    is_over = threading.Event()
    # Airflow before 3.3 lends its connections to threads that are started like this, and to no others.
    look = sync_to_async(read, thread_sensitive=False, executor=_readers())
    try:
        return await look(AirflowEnvironment(), is_over=is_over.is_set)
    except asyncio.CancelledError:
        is_over.set()  # a thread cannot be stopped from outside
        raise


@cache
def _readers() -> ThreadPoolExecutor:
    """Return threads of our own: slow sources must not keep others from those of the event loop."""
    return ThreadPoolExecutor(_READERS, thread_name_prefix="geocatalog-sources")


class GeoCatalogItemsTrigger(_LookTrigger):
    """
    Wait until items can be read in a GeoCatalog.

    :param collection_id: Their collection.
    :param ids: All of these.
    :param search: Conditions of a search.
    :param min_items: How many items have to match it.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param poll_interval: Seconds between looks.
    :param first_delay: Seconds before the first look.
    :param started: Epoch seconds at which the wait began; now, if not given.
    :param deadline: Epoch seconds at which to give up; the trigger then fires with the outcome ``timeout``.
    """

    def __init__(
        self,
        *,
        collection_id: str,
        ids: list[str] | None = None,
        search: dict[str, Any] | None = None,
        min_items: int | None = None,
        geocatalog_conn_id: str = DEFAULT_CONNECTION_ID,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.collection_id = collection_id
        self.ids = ids
        self.search = search
        self.min_items = min_items
        self.geocatalog_conn_id = geocatalog_conn_id

    def _what(self) -> dict[str, Any]:
        names = ("collection_id", "ids", "search", "min_items")
        return {name: getattr(self, name) for name in names}

    def _arguments(self) -> dict[str, Any]:
        return {**self._what(), "geocatalog_conn_id": self.geocatalog_conn_id, **super()._arguments()}

    @cached_property
    def _awaited(self) -> AwaitedItems:
        from airflow_provider_geocatalog.transfer.awaited_items import AwaitedItems

        return AwaitedItems(**self._what())

    async def _look(self) -> dict[str, Any] | None:
        from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

        # With a new hook each time: the connection may have changed.
        return await GeoCatalogHook(self.geocatalog_conn_id).arun(self._awaited.look())

    def _describe(self) -> str:
        return self._awaited.describe()
