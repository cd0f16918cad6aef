"""
Every operation of the service, once, in the service's own words: what it takes, what it sends, what it gives back.

Each is a flow or a list of pages, which :class:`~airflow_provider_geocatalog.client.GeoCatalogClient` has as a method
of the same name, blocking and asynchronous. The functions are marked with the endpoint that they call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_geocatalog.api.http import Endpoint

__all__ = ["endpoint_of", "operation"]

F = TypeVar("F", bound="Callable[..., Any]")
_MARK = "__geocatalog_endpoint__"


def operation(endpoint: Endpoint) -> Callable[[F], F]:
    """Mark a function as the one definition of an operation."""

    def mark(function: F) -> F:
        setattr(function, _MARK, endpoint)
        return function

    return mark


def endpoint_of(function: Callable[..., Any]) -> Endpoint:
    """Return the operation that a function defines."""
    endpoint: Endpoint = getattr(function, _MARK)
    return endpoint
