"""Say in asset events what a task has brought about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.providers.common.compat.sdk import Context

__all__ = ["tell_outlets"]


def tell_outlets(context: Context, outlets: Iterable[Any], extra: Mapping[str, Any]) -> None:
    """
    Put something into the events of a task's outlets.

    :param context: The task's context.
    :param outlets: The task's outlets; only assets have events.
    :param extra: JSON object for the events' ``extra``.
    """
    events: Any = context.get("outlet_events")
    for outlet in outlets or ():
        if events is not None and getattr(outlet, "uri", None):
            events[outlet].extra.update(extra)
