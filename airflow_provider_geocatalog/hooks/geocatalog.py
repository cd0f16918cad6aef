"""The connection type: reads the connection, hands flows to the client."""

from __future__ import annotations

import asyncio
import os
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_geocatalog.provider_info import (
    CONNECTION_FIELDS,
    CONNECTION_TYPE,
    DEFAULT_CONNECTION_ID,
    HOOK_NAME,
    UI_FIELD_BEHAVIOUR,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import pystac_client
    from airflow.providers.common.compat.sdk import Connection
    from azure.planetarycomputer import PlanetaryComputerProClient

    from airflow_provider_geocatalog.api.dialects import Dialect
    from airflow_provider_geocatalog.api.errors import GeoCatalogError
    from airflow_provider_geocatalog.api.http import Endpoint, Flow
    from airflow_provider_geocatalog.api.models import Operation
    from airflow_provider_geocatalog.api.waiting import Waiting
    from airflow_provider_geocatalog.auth import ConnectionSettings
    from airflow_provider_geocatalog.client import GeoCatalogClient
    from airflow_provider_geocatalog.shared_waits import SharedWaits

T = TypeVar("T")

_TEST_TIMEOUT = 15.0  # seconds that one request of a connection's test may take

#: Clients of this process by connection id, shared by all hooks and triggers: one HTTP pool, one token each.
_clients: dict[str, GeoCatalogClient] = {}
_clients_lock = threading.Lock()
#: Waits of each event loop by connection id.
_shared_waits: dict[asyncio.AbstractEventLoop, dict[str, SharedWaits]] = {}


def _after_fork_in_child() -> None:
    global _clients_lock
    _clients_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _shared_client(conn_id: str, settings: ConnectionSettings) -> GeoCatalogClient:
    """Return the process's client of a connection, a new one if the connection has changed."""
    from airflow_provider_geocatalog.hooks.reporting_client import ReportingClient
    from airflow_provider_geocatalog.request_metrics import RequestMetrics

    with _clients_lock:
        client = _clients.get(conn_id)
        if client is None or client.settings != settings:
            client = _clients[conn_id] = ReportingClient(settings, observer=RequestMetrics(conn_id))
        return client


def _read_settings(conn: Connection, extra: dict[str, Any]) -> ConnectionSettings:
    from airflow_provider_geocatalog.auth import ConnectionSettings

    return ConnectionSettings.from_fields(
        host=conn.host, schema=conn.schema, port=conn.port, login=conn.login, password=conn.password, extra=extra
    )


class GeoCatalogHook(BaseHook):
    """
    Interact with a Planetary Computer Pro GeoCatalog.

    Making a hook costs nothing: the connection, the credential and the HTTP session are made on first use.

    :param geocatalog_conn_id: Id of a connection of type ``geocatalog``.
    """

    conn_name_attr = "geocatalog_conn_id"
    default_conn_name = DEFAULT_CONNECTION_ID
    conn_type = CONNECTION_TYPE
    hook_name = HOOK_NAME

    def __init__(self, geocatalog_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.geocatalog_conn_id = geocatalog_conn_id

    # --- the form, for Airflow before 3.2 (later versions read provider metadata) -----------------------------------

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields as WTForms widgets (Airflow takes only a few classes of them)."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import StringField
        from wtforms.validators import Optional, any_of

        widgets: dict[str, Any] = {}
        for name, spec in CONNECTION_FIELDS.items():
            schema = spec["schema"]
            description, validators = spec["description"], [Optional()]
            if "enum" in schema:
                description += f" One of: {', '.join(schema['enum'])}."
                validators.append(any_of(schema["enum"]))
            widgets[name] = StringField(  # numbers too: there is a field for whole ones only
                lazy_gettext(spec["label"]),
                widget=BS3TextFieldWidget(),
                description=description,
                default=schema.get("default"),
                validators=validators,
            )
        return widgets

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form's standard fields look."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    # --- the client --------------------------------------------------------------------------------------------------

    @cached_property
    def client(self) -> GeoCatalogClient:
        """
        The client of the connection, with a method for every operation of the service.

        .. code-block:: python

            @task
            def list_item_ids(collection_id: str) -> list[str]:
                client = GeoCatalogHook().client
                return [item["id"] for item in client.list_items(collection_id, limit=1000)]

        Reading the connection blocks; code on an event loop begins with :meth:`aget_client`.
        """
        conn = self.get_connection(self.geocatalog_conn_id)
        return _shared_client(self.geocatalog_conn_id, _read_settings(conn, conn.extra_dejson))

    def get_conn(self) -> GeoCatalogClient:
        """Return the client of the connection."""
        return self.client

    async def aget_client(self) -> GeoCatalogClient:
        """
        Return the client of the connection; for code on an event loop.

        .. code-block:: python

            @task
            async def read(collection_id: str) -> dict:
                client = await GeoCatalogHook().aget_client()
                return await client.get_collection.aio(collection_id)
        """
        if "client" not in self.__dict__:
            from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

            conn = await get_async_connection(self.geocatalog_conn_id, hook=self)
            settings = _read_settings(conn, await get_async_extra_dejson(conn))
            self.__dict__["client"] = _shared_client(self.geocatalog_conn_id, settings)
        return self.client

    def reconnect(self) -> GeoCatalogClient:
        """Return the client of the connection as it is now, which is another one if the connection has changed."""
        self.__dict__.pop("client", None)
        return self.client

    async def areconnect(self) -> GeoCatalogClient:
        """Return the client of the connection as it is now; for code on an event loop."""
        self.__dict__.pop("client", None)
        return await self.aget_client()

    @property
    def dialect(self) -> Dialect:
        """The wire form of the connection's api-version."""
        return self.client.settings.dialect

    def run(self, flow: Flow[T]) -> T:
        """
        Carry out a procedure from :mod:`airflow_provider_geocatalog.api.flows`, blocking.

        :raises GeoCatalogError: What went wrong, see :mod:`airflow_provider_geocatalog.api.errors`.
        """
        return self.client.run(flow)

    async def arun(self, flow: Flow[T]) -> T:
        """
        Carry out a procedure from :mod:`airflow_provider_geocatalog.api.flows` on an event loop.

        :raises GeoCatalogError: What went wrong, see :mod:`airflow_provider_geocatalog.api.errors`.
        """
        return await (await self.aget_client()).arun(flow)

    def link(self, error: GeoCatalogError, operation_id: str | None = None) -> None:
        """
        Give an error the URL of the operation that it is about, if it is about one; reading that needs a token.

        :param operation_id: The operation, where the error does not know it.
        """
        from airflow_provider_geocatalog.api.endpoints import GET_OPERATION

        operation_id = operation_id or getattr(error, "summary", {}).get("operation_id")
        if isinstance(operation_id, str) and operation_id and not error.link:
            error.link = self.url_of(GET_OPERATION, operation_id=operation_id)

    def url_of(self, endpoint: Endpoint, **names: str) -> str:
        """
        Return the URL at which something can be read; reading it needs a token.

        :param endpoint: Reads it.
        :param names: What stands for the names in the endpoint's path.
        """
        path = endpoint.fill(names, self.dialect.template(endpoint))
        return f"{self.client.settings.url}{path}?api-version={self.dialect.api_version}"

    # --- waiting -----------------------------------------------------------------------------------------------------

    def wait_for(self, waiting: Waiting, read: Callable[[], Flow[Operation]]) -> Operation:
        """
        Wait, blocking, until an operation has ended, however it ended. The connection may be changed meanwhile.

        :param waiting: What the wait knows and decides.
        :param read: Makes the flow that reads the operation, in one attempt.
        :raises GeoCatalogWaitTimeout: The deadline passed.
        :raises GeoCatalogError: The operation cannot be read.
        """
        from airflow_provider_geocatalog.api.errors import GeoCatalogError

        clock = self.client.clock
        while True:
            try:
                operation = self._run_reconnecting(read)
            except GeoCatalogError as error:
                waiting.failed(error, clock.time())
            else:
                if waiting.saw(operation, clock.time()):
                    return operation
            clock.sleep(waiting.pause(clock.time()))

    def _run_reconnecting(self, make: Callable[[], Flow[T]]) -> T:
        from airflow_provider_geocatalog.api.errors import GeoCatalogAuthenticationError, GeoCatalogPermissionError

        client = self.client
        try:
            return client.run(make())
        except (GeoCatalogAuthenticationError, GeoCatalogPermissionError) as error:
            if error.retryable or self.reconnect() is client:
                raise
            self.log.info("The connection has changed; going on with what it is now.")
            return self.run(make())

    def shared_waits(self) -> SharedWaits:
        """Return what all waits on this connection in the running event loop share."""
        from airflow_provider_geocatalog.shared_waits import SharedWaits

        for loop in [loop for loop in list(_shared_waits) if loop.is_closed()]:
            del _shared_waits[loop]
        waits = _shared_waits.setdefault(asyncio.get_running_loop(), {})
        if self.geocatalog_conn_id not in waits:
            waits[self.geocatalog_conn_id] = SharedWaits(self.areconnect)
        return waits[self.geocatalog_conn_id]

    # --- other clients -----------------------------------------------------------------------------------------------

    def get_stac_client(self) -> pystac_client.Client:
        """
        Return a pystac-client for the catalog's STAC API, with a fresh token on each of its requests.

        .. code-block:: python

            items = GeoCatalogHook().get_stac_client().search(collections=["naip"], limit=250).items()
        """
        import pystac_client
        from pystac_client.stac_api_io import StacApiIO

        from airflow_provider_geocatalog.api.endpoints import GET_LANDING_PAGE
        from airflow_provider_geocatalog.transport import BearerAuth

        client = self.client
        settings = client.settings

        def token_for(url: str) -> str:
            client.require_own(url)
            client.throttle()
            return client.tokens.get()

        stac_io = StacApiIO(parameters={"api-version": settings.dialect.api_version}, timeout=settings.request_timeout)
        stac_io.session.auth = BearerAuth(token_for)
        if settings.ca_bundle:
            stac_io.session.verify = settings.ca_bundle
        # The service redirects the bare prefix to the one with a slash (geocatalog-api 7.2).
        url = f"{settings.url}{settings.dialect.template(GET_LANDING_PAGE)}/"
        return pystac_client.Client.open(url, stac_io=stac_io)

    def get_sdk_client(self) -> PlanetaryComputerProClient:
        """
        Return the official SDK's client on this connection: same credential, rate limit, time-out and TLS settings.

        It needs the extra ``sdk``. Use it for what :attr:`client` does not cover, such as the tiler.

        .. code-block:: python

            with GeoCatalogHook().get_sdk_client() as sdk:
                tilesets = sdk.data.get_tile_matrices()

        :raises AirflowOptionalProviderFeatureException: The SDK is not installed.
        :raises GeoCatalogInvalidInput: The connection's api-version is one that the SDK cannot speak.
        """
        try:
            from airflow_provider_geocatalog.sdk_client import make_sdk_client
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("azure.planetarycomputer"):
                raise
            from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException

            raise AirflowOptionalProviderFeatureException(str(error)) from error
        return make_sdk_client(self.client)

    def test_connection(self) -> tuple[bool, str]:
        """
        Make one cheap authenticated call and say in the user's words what is wrong.

        It asks for a new token and keeps nothing: Airflow gives each test another connection id.
        """
        import dataclasses
        from contextlib import closing

        from airflow_provider_geocatalog.api.errors import GeoCatalogError
        from airflow_provider_geocatalog.api.flows.diagnosis import probe
        from airflow_provider_geocatalog.api.redaction import redact
        from airflow_provider_geocatalog.client import GeoCatalogClient

        try:
            conn = self.get_connection(self.geocatalog_conn_id)
            settings = _read_settings(conn, conn.extra_dejson)
            # Somebody looks at the page meanwhile.
            settings = dataclasses.replace(settings, request_timeout=min(settings.request_timeout, _TEST_TIMEOUT))
            with closing(GeoCatalogClient(settings)) as client:
                flow = probe(settings.url, settings.dialect.api_version, client.tokens.refusal)
                return True, client.run(flow)
        except GeoCatalogError as error:
            return False, str(error)
        except Exception as error:
            return False, redact(f"{type(error).__name__}: {error}")
