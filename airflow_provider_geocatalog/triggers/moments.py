"""Wait in the triggerer until a moment."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger

from airflow_provider_geocatalog.triggers.polling import fire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.triggers.base import TriggerEvent

__all__ = ["GeoCatalogMomentTrigger"]


class GeoCatalogMomentTrigger(BaseTrigger):
    """
    Wait until a moment, without asking the service anything.

    :param moment: Epoch seconds.
    :param echo: JSON object that the event gives back to the task; what the task knew is gone when it resumes.
    """

    def __init__(self, *, moment: float, echo: dict[str, Any] | None = None, **_from_other_versions: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moment = moment
        self.echo = echo or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and exactly the arguments that make this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"moment": self.moment, "echo": self.echo}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once."""
        await asyncio.sleep(max(0.0, self.moment - time.time()))
        yield fire(self.echo)
