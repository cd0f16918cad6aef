"""
Every operation of the service as a method, blocking and asynchronous from one definition.

``client.get_collection("naip")`` blocks; ``await client.get_collection.aio("naip")`` does the same on an event loop.
Lists are iterators that read a page when it is needed: ``for item in client.list_items("naip")``,
``async for item in client.list_items.aio("naip")``.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from airflow_provider_geocatalog.api.flows import waiting
from airflow_provider_geocatalog.api.operations import (
    collections,
    configurations,
    ingestions,
    items,
    operations,
    queryables,
    sas,
    sources,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from airflow_provider_geocatalog.api.http import Flow, Pages, Request

__all__ = ["ListMethod", "Method", "OperationMethods"]

P = ParamSpec("P")
T = TypeVar("T")


class Driver(Protocol):
    """What carries flows out; :class:`~airflow_provider_geocatalog.client.GeoCatalogClient` is one."""

    def run(self, flow: Flow[T]) -> T: ...

    async def arun(self, flow: Flow[T]) -> T: ...

    def check(self, request: Request) -> None: ...


class BoundMethod(Protocol, Generic[P, T]):
    """A method that blocks, with ``aio`` for the event loop."""

    aio: Callable[P, Coroutine[Any, Any, T]]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T: ...


class BoundListMethod(Protocol, Generic[P, T]):
    """A method that returns an iterator which blocks, with ``aio`` for the event loop."""

    aio: Callable[P, AsyncIterator[T]]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]: ...


def _dress(function: Any, name: str, definition: Callable[..., Any], outer: str, inner: str) -> Any:
    """Give a function the name, signature and docstring of its definition, with the return type that it has itself."""
    function.__doc__, function.__module__ = definition.__doc__, definition.__module__
    function.__name__, function.__qualname__ = name, f"{OperationMethods.__name__}.{name}"
    signature = inspect.signature(definition)
    returned = str(signature.return_annotation).removeprefix(f"{outer}[").removesuffix("]")
    function.__signature__ = signature.replace(return_annotation=inner.format(returned))
    function.__annotations__ = {}  # they would be those of the wrapper; the signature tells the right ones
    return function


class Method(Generic[P, T]):
    """
    A flow as a method of a client.

    :param definition: Makes the flow.
    """

    def __init__(self, definition: Callable[P, Flow[T]]) -> None:
        self.definition = definition
        self.__doc__ = definition.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, client: None, owner: type) -> Method[P, T]: ...

    @overload
    def __get__(self, client: Driver, owner: type) -> BoundMethod[P, T]: ...

    def __get__(self, client: Driver | None, owner: type) -> Method[P, T] | BoundMethod[P, T]:
        if client is None:
            return self
        definition = self.definition

        def blocking(*args: P.args, **kwargs: P.kwargs) -> T:
            return client.run(definition(*args, **kwargs))

        async def aio(*args: P.args, **kwargs: P.kwargs) -> T:
            return await client.arun(definition(*args, **kwargs))

        bound = _dress(blocking, self._name, definition, "Flow", "{}")
        bound.aio = _dress(aio, self._name, definition, "Flow", "{}")
        vars(client)[self._name] = bound  # found there from now on, instead of being made again
        return cast("BoundMethod[P, T]", bound)


class ListMethod(Generic[P, T]):
    """
    A list over pages as a method of a client.

    :param definition: Makes the pages.
    """

    def __init__(self, definition: Callable[P, Pages[T]]) -> None:
        self.definition = definition
        self.__doc__ = definition.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, client: None, owner: type) -> ListMethod[P, T]: ...

    @overload
    def __get__(self, client: Driver, owner: type) -> BoundListMethod[P, T]: ...

    def __get__(self, client: Driver | None, owner: type) -> ListMethod[P, T] | BoundListMethod[P, T]:
        if client is None:
            return self
        definition = self.definition

        def blocking(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
            return _iterate(client, _checked(client, definition(*args, **kwargs)))

        def aio(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
            return _aiterate(client, _checked(client, definition(*args, **kwargs)))

        bound = _dress(blocking, self._name, definition, "Pages", "Iterator[{}]")
        bound.aio = _dress(aio, self._name, definition, "Pages", "AsyncIterator[{}]")
        vars(client)[self._name] = bound  # found there from now on, instead of being made again
        return cast("BoundListMethod[P, T]", bound)


def _checked(client: Driver, pages: Pages[T]) -> Pages[T]:
    """Return the pages if they can be asked for: bad input is refused now, not when the first page is needed."""
    client.check(pages.first)
    return pages


def _iterate(client: Driver, pages: Pages[T]) -> Iterator[T]:
    while (page := client.run(pages.next_page())) is not None:
        yield from page


async def _aiterate(client: Driver, pages: Pages[T]) -> AsyncIterator[T]:
    while (page := await client.arun(pages.next_page())) is not None:
        for entry in page:
            yield entry


class OperationMethods:
    """The methods of a client: one for each operation of the service, and three that wait."""

    # --- ingestion sources ---
    list_sources = ListMethod(sources.list_sources)
    create_source = Method(sources.create_source)
    get_source = Method(sources.get_source)
    replace_source = Method(sources.replace_source)
    delete_source = Method(sources.delete_source)
    list_managed_identities = ListMethod(sources.list_managed_identities)

    # --- ingestion definitions and runs ---
    list_ingestions = ListMethod(ingestions.list_ingestions)
    create_ingestion = Method(ingestions.create_ingestion)
    get_ingestion = Method(ingestions.get_ingestion)
    update_ingestion = Method(ingestions.update_ingestion)
    delete_ingestion = Method(ingestions.delete_ingestion)
    list_runs = ListMethod(ingestions.list_runs)
    create_run = Method(ingestions.create_run)
    get_run = Method(ingestions.get_run)

    # --- long-running operations ---
    list_operations = ListMethod(operations.list_operations)
    get_operation = Method(operations.get_operation)
    cancel_operation = Method(operations.cancel_operation)
    cancel_all_operations = Method(operations.cancel_all_operations)
    get_operation_logs = Method(operations.get_operation_logs)

    # --- catalog and collections ---
    get_landing_page = Method(collections.get_landing_page)
    get_conformance = Method(collections.get_conformance)
    list_collections = ListMethod(collections.list_collections)
    create_collection = Method(collections.create_collection)
    get_collection = Method(collections.get_collection)
    replace_collection = Method(collections.replace_collection)
    delete_collection = Method(collections.delete_collection)
    create_collection_asset = Method(collections.create_collection_asset)
    replace_collection_asset = Method(collections.replace_collection_asset)
    delete_collection_asset = Method(collections.delete_collection_asset)
    get_collection_thumbnail = Method(collections.get_collection_thumbnail)

    # --- items and search ---
    list_items = ListMethod(items.list_items)
    create_item = Method(items.create_item)
    get_item = Method(items.get_item)
    replace_item = Method(items.replace_item)
    update_item = Method(items.update_item)
    delete_item = Method(items.delete_item)
    search = ListMethod(items.search)
    search_by_query = ListMethod(items.search_by_query)

    # --- queryables ---
    get_queryables = Method(queryables.get_queryables)
    get_collection_queryables = Method(queryables.get_collection_queryables)
    create_queryables = Method(queryables.create_queryables)
    replace_queryable = Method(queryables.replace_queryable)
    delete_queryable = Method(queryables.delete_queryable)

    # --- configurations ---
    get_collection_configuration = Method(configurations.get_collection_configuration)
    list_mosaics = ListMethod(configurations.list_mosaics)
    add_mosaic = Method(configurations.add_mosaic)
    get_mosaic = Method(configurations.get_mosaic)
    replace_mosaic = Method(configurations.replace_mosaic)
    delete_mosaic = Method(configurations.delete_mosaic)
    list_render_options = ListMethod(configurations.list_render_options)
    create_render_option = Method(configurations.create_render_option)
    get_render_option = Method(configurations.get_render_option)
    replace_render_option = Method(configurations.replace_render_option)
    delete_render_option = Method(configurations.delete_render_option)
    get_tile_settings = Method(configurations.get_tile_settings)
    replace_tile_settings = Method(configurations.replace_tile_settings)
    get_partition_type = Method(configurations.get_partition_type)
    replace_partition_type = Method(configurations.replace_partition_type)

    # --- signatures for managed storage ---
    get_sas_token = Method(sas.get_sas_token)
    sign_href = Method(sas.sign_href)
    revoke_sas_tokens = Method(sas.revoke_sas_tokens)

    # --- waiting ---
    wait = Method(waiting.complete)
    wait_for_operation = Method(waiting.complete_operation)
    wait_for_run = Method(waiting.complete_run)
