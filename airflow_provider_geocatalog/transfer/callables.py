"""Items from a user's own callable, and items that are at hand."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogInvalidInput
from airflow_provider_geocatalog.transfer.files import PAGE_ITEMS
from airflow_provider_geocatalog.transfer.source import ItemSource, ItemSourceError, Page
from airflow_provider_geocatalog.transfer.storage import unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_geocatalog.transfer.source import Environment
    from airflow_provider_geocatalog.transfer.windows import Window

__all__ = ["CallableSource", "ItemsSource"]

#: What a callable says to Airflow about the task; known by name, since nothing here knows Airflow.
_VERDICTS = frozenset({"AirflowFailException", "AirflowSkipException"})


class CallableSource(ItemSource):
    """
    The items that a user's callable yields: dicts, pystac Items, ItemCollections, or lists of these.

    .. code-block:: python

        def scenes(window):
            for row in inventory.rows(window.start, window.end):
                yield make_item(row)

    What is no item is passed on, for the transfer to set aside.

    :param function: Returns an iterable, best a generator. It is called with ``window=`` if it has an argument of that
        name: the window that is asked for, or ``None``.
    :param args: Its positional arguments.
    :param kwargs: Its keyword arguments.
    """

    template_fields: ClassVar[Sequence[str]] = ("args", "kwargs")

    def __init__(
        self, function: Callable[..., Any], *, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> None:
        if not callable(function):
            raise GeoCatalogInvalidInput(f"function has to be callable, not {type(function).__name__}")
        self.function = function
        self.args = args
        self.kwargs = kwargs or {}

    def pages(
        self, environment: Environment, window: Window | None = None, *, part: str | None = None
    ) -> Iterator[Page]:
        """
        Call the function and yield what it yields.

        :raises ItemSourceError: It raised, or returned nothing to iterate.
        :raises GeoCatalogInvalidInput: It does not take its arguments.
        """
        items = self._items(window)
        while page := list(islice(items, PAGE_ITEMS)):
            yield Page(page)

    def _items(self, window: Window | None) -> Iterator[Any]:
        kwargs = self._bound(window)
        try:
            found = self.function(*self.args, **kwargs)
            if not _holds_items(found):
                hint = "Make it an ordinary function, or a generator." if inspect.isawaitable(found) else None
                if inspect.iscoroutine(found):
                    found.close()
                raise ItemSourceError(f"{self.describe()} returned no items but {type(found).__name__}", hint=hint)
            for one in [found] if _is_one(found) else found:
                yield from _items_in(one)
        except GeoCatalogError:
            raise
        except Exception as error:
            if _VERDICTS & {cls.__name__ for cls in type(error).__mro__}:
                raise
            failure = unreadable(f"{self.describe()} raised", error, retryable=True)
            raise failure from failure.__cause__

    def _bound(self, window: Window | None) -> dict[str, Any]:
        """Return the keyword arguments of the call, which the function takes."""
        kwargs = dict(self.kwargs)
        try:
            signature = inspect.signature(self.function)
        except ValueError:  # some that are written in C tell none
            return kwargs
        if "window" in signature.parameters:
            kwargs.setdefault("window", window)
        try:
            signature.bind(*self.args, **kwargs)
        except TypeError as error:
            raise GeoCatalogInvalidInput(f"{self.describe()} does not take its arguments: {error}") from error
        return kwargs

    def describe(self) -> str:
        """Return the function's name."""
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"{getattr(self.function, '__module__', None) or ''}.{name}".lstrip(".")


class ItemsSource(ItemSource):
    """
    Items that are at hand, such as what an upstream task returned.

    :param items: Dicts, pystac Items, an ItemCollection, or JSON text of these.
    """

    template_fields: ClassVar[Sequence[str]] = ("items",)

    def __init__(self, items: Any) -> None:
        self.items = items

    def pages(
        self, environment: Environment, window: Window | None = None, *, part: str | None = None
    ) -> Iterator[Page]:
        """
        Yield the items.

        :raises GeoCatalogInvalidInput: There are none in what was given.
        """
        given = self.items
        if isinstance(given, str):
            try:
                given = json.loads(given)
            except ValueError as error:
                raise GeoCatalogInvalidInput(f"items is text, but no JSON: {error}") from error
        if not _holds_items(given):
            raise GeoCatalogInvalidInput(f"items has to be a list of items, not {type(given).__name__}")
        items = (item for one in ([given] if _is_one(given) else given) for item in _items_in(one))
        while page := list(islice(items, PAGE_ITEMS)):
            yield Page(page)

    def describe(self) -> str:
        """Return how many there are."""
        return f"{len(self.items)} items" if isinstance(self.items, list | tuple) else "items at hand"


def _holds_items(value: Any) -> bool:
    return _is_one(value) or (isinstance(value, Iterable) and not isinstance(value, str | bytes))


def _is_one(value: Any) -> bool:
    """Return whether a value is to be taken as a whole, although one may be able to iterate over it."""
    return isinstance(value, Mapping) or hasattr(value, "to_dict")


def _items_in(value: Any) -> Iterator[Any]:
    """Yield the items in what stands for one, or for a page of them."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from _items_in(one) if _is_one(one) else [one]
        return
    yield from _opened(value)


def _opened(value: Any) -> Sequence[Any]:
    """Return the items in an object or dict; what cannot be made a dict, as it is."""
    try:
        found = _as_dict(value) if hasattr(value, "to_dict") else value
        if isinstance(found, Mapping) and found.get("type") == "FeatureCollection" and "features" in found:
            features = found["features"]
            return features if isinstance(features, list) else [found]
    except Exception:  # a user's object can raise anything; it is no item then
        return [value]
    return [found]


def _as_dict(value: Any) -> Any:
    try:
        return value.to_dict(include_self_link=True, transform_hrefs=False)
    except TypeError:  # an ItemCollection has no link to itself
        return value.to_dict(transform_hrefs=False)
