"""Sources and task contexts for transfers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.transfer.source import ItemSource, Page
from tests.fakes.items import stac_item
from tests.fakes.tasks import TaskInstance

if TYPE_CHECKING:
    from collections.abc import Iterator


def items(count: int, *, first: int = 0, **properties: Any) -> list[dict[str, Any]]:
    """Return items with ids in order, an hour apart."""
    made = []
    for number in range(first, first + count):
        item = stac_item(f"item-{number:06}")
        day, hour = divmod(number, 24)
        at = f"2024-{1 + day // 28 % 12:02}-{1 + day % 28:02}T{hour:02}:00:00Z"
        item["properties"] = {"datetime": at, "updated": at, **properties}
        made.append(item)
    return made


class ListSource(ItemSource):
    """Items that a test holds; each page is one part if ``parts`` says so."""

    def __init__(self, held: list[Any], *, page: int = 250, parts: bool = False, fail_after: int | None = None) -> None:
        self.held, self.page, self.parts, self.fail_after = held, page, parts, fail_after
        self.read = 0

    def pages(self, environment: Any, window: Any = None, *, part: str | None = None) -> Iterator[Page]:
        from airflow_provider_geocatalog.transfer.source import ItemSourceError

        for start in range(int(part or 0), len(self.held), self.page):
            if self.fail_after is not None and start >= self.fail_after:
                raise ItemSourceError("the source broke off", retryable=True)
            page = self.held[start : start + self.page]
            some = [json.loads(json.dumps(one)) if isinstance(one, dict) else one for one in page]
            self.read += len(some)
            yield Page(some, str(start) if self.parts else None)

    def describe(self) -> str:
        return f"{len(self.held)} items of a test"


class Store:
    """What Airflow 3.3 keeps for a task instance."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.kept.get(key)

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.kept.pop(key, None)


class Run:
    """One task instance over its tries."""

    def __init__(self, **details: Any) -> None:
        from tests.fakes.airflow_versions import ByAsset

        self.ti = TaskInstance(**details)
        self.ti.max_tries = 3  # type: ignore[attr-defined]
        self.store = Store()
        self.asset_store = ByAsset()
        self.context: dict[str, Any] = {
            "ti": self.ti,
            "task_state_store": self.store,
            "asset_state_store": self.asset_store,
        }

    def execute(self, operator: Any, **context: Any) -> Any:
        """Execute a try; deferrals are followed through their triggers, serialized on the way."""
        import asyncio
        from importlib import import_module

        from airflow.providers.common.compat.sdk import TaskDeferred

        operator.first_delay = 0.0
        self.context.update(context)
        work = lambda: operator.execute(self.context)  # noqa: E731
        self.deferrals = 0
        while True:
            try:
                return work()
            except TaskDeferred as deferred:
                self.deferrals += 1
                path, arguments = deferred.trigger.serialize()
                module, name = path.rsplit(".", 1)
                trigger = getattr(import_module(module), name)(**json.loads(json.dumps(arguments)))

                async def fire(trigger: Any = trigger) -> Any:
                    return await anext(trigger.run())

                event = json.loads(json.dumps(asyncio.run(fire()).payload))
                method = getattr(operator, deferred.method_name)
                work = lambda method=method, event=event: method(self.context, event=event)  # noqa: E731
