"""What triggers share that poll the service for one task until its wait is over."""

from __future__ import annotations

import random
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_geocatalog.provider_info import DEFAULT_CONNECTION_ID

if TYPE_CHECKING:
    from airflow_provider_geocatalog.api.waiting import PollPolicy

__all__ = ["PollingTrigger", "fire"]


class PollingTrigger(BaseTrigger):
    """
    What a trigger has to know to poll the service for a task.

    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param poll_interval: Seconds between polls of an old wait.
    :param min_poll_interval: Seconds between polls of a young wait; the pause grows with the wait's age.
    :param first_delay: Seconds before the first poll. A trigger that fires within a few seconds of its deferral can
        make the scheduler fail the task (seen on Airflow 3.0, 3.1 and 3.3.2), and the worker has just looked.
    :param started: Epoch seconds at which the wait began; now, if not given.
    :param deadline: Epoch seconds at which to give up; the trigger then fires with the outcome ``timeout``.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param echo: JSON object that the event gives back to the task; what the task knew is gone when it resumes.
    """

    def __init__(
        self,
        *,
        geocatalog_conn_id: str = DEFAULT_CONNECTION_ID,
        poll_interval: float = 30.0,
        min_poll_interval: float = 2.0,
        first_delay: float = 8.0,
        started: float | None = None,
        deadline: float | None = None,
        outage_budget: float = 3600.0,
        echo: dict[str, Any] | None = None,
        **_from_other_versions: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.geocatalog_conn_id = geocatalog_conn_id
        self.poll_interval = poll_interval
        self.min_poll_interval = min_poll_interval
        self.first_delay = first_delay
        self.started = started
        self.deadline = deadline
        self.outage_budget = outage_budget
        self.echo = echo or {}

    @abstractmethod
    def _arguments(self) -> dict[str, Any]:
        """Return the arguments that make this trigger again; a subclass adds its own."""
        return {
            "geocatalog_conn_id": self.geocatalog_conn_id,
            "poll_interval": self.poll_interval,
            "min_poll_interval": self.min_poll_interval,
            "first_delay": self.first_delay,
            "started": self.started,
            "deadline": self.deadline,
            "outage_budget": self.outage_budget,
            "echo": self.echo,
        }

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and exactly the arguments that make this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self._arguments()

    def _first_pause(self) -> float:
        """Return the seconds before the first poll, spread, so that waits that began together do not poll together."""
        return self.first_delay * random.uniform(0.9, 1.1)

    def _began(self) -> float:
        return time.time() if self.started is None else self.started

    def _policy(self) -> PollPolicy:
        from airflow_provider_geocatalog.api.waiting import PollPolicy

        return PollPolicy(self.poll_interval, min(self.min_poll_interval, self.poll_interval), self.outage_budget)


def fire(event: dict[str, Any]) -> TriggerEvent:
    """Return the event that resumes the task."""
    return TriggerEvent(event)  # type: ignore[no-untyped-call,unused-ignore]
