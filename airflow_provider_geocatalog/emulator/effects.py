"""Effects, and the names under which those that are still to come are written down (``state_file``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["EFFECTS", "Effect", "effect", "effect_name", "passing_effect"]

#: What an operation does to the world at a moment; raises :class:`IngestionError` where that fails.
Effect = Callable[[float], None]
#: Functions that effects are made of with ``partial``, by name; ``None``: not to be written down.
EFFECTS: dict[str, Callable[..., None] | None] = {}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def effect(function: _Function) -> _Function:
    """Let a function be part of an effect. Its name and arguments stand in state files."""
    EFFECTS[effect_name(function)] = function
    return function


def passing_effect(function: _Function) -> _Function:
    """Let a function be part of an effect that a restart makes needless: whatever it is about begins anew."""
    EFFECTS[effect_name(function)] = None
    return function


def effect_name(function: Callable[..., Any]) -> str:
    """Return the name of a function or a bound method: module, class if there is one, function."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
