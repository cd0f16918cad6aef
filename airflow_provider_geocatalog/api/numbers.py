"""Arguments that are numbers: refused with a sentence where nothing can be done with them."""

from __future__ import annotations

import math
from typing import Any

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput

__all__ = ["seconds", "whole_number"]


def seconds(value: Any, argument: str, *, above_zero: bool = False) -> float:
    """
    Return a number of seconds as it was given.

    :param value: What the user gave.
    :param argument: The argument's name, for the message.
    :param above_zero: Whether 0 is too little.
    :raises GeoCatalogInvalidInput: It is no such number.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < 0 or (above_zero and value == 0):
        least = " above 0" if above_zero else ""
        raise GeoCatalogInvalidInput(f"{argument} has to be a number of seconds{least}, not {value!r}")
    return float(value)


def whole_number(value: Any, argument: str) -> int:
    """
    Return a number of things as it was given.

    :param value: What the user gave.
    :param argument: The argument's name, for the message.
    :raises GeoCatalogInvalidInput: It is no such number.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise GeoCatalogInvalidInput(f"{argument} has to be a whole number from 0 on, not {value!r}")
    return value
