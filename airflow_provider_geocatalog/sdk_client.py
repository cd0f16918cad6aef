"""The official client on the connection's credential, address, rate limit and TLS settings (extra ``sdk``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azure.core.pipeline.policies import SansIOHTTPPolicy

from airflow_provider_geocatalog.api.dialects import DEFAULT_API_VERSION, DIALECTS
from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput

try:
    from azure.planetarycomputer import PlanetaryComputerProClient
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the official SDK is not installed; install airflow-provider-geocatalog[sdk]", name=error.name
    ) from error

if TYPE_CHECKING:
    from azure.core.pipeline import PipelineRequest, PipelineResponse

    from airflow_provider_geocatalog.client import GeoCatalogClient

__all__ = ["make_sdk_client"]

_BEARER = "Bearer "


class _ConnectionPolicy(SansIOHTTPPolicy[Any, Any]):
    """
    Send the connection's token, at the connection's rate, to the connection's GeoCatalog only.

    The SDK's own policy refuses plain http altogether; the connection allows it to loopback, for the emulator.
    """

    def __init__(self, client: GeoCatalogClient) -> None:
        super().__init__()
        self._client = client

    def on_request(self, request: PipelineRequest[Any]) -> None:
        """Set the header."""
        self._client.require_own(request.http_request.url)
        self._client.throttle()
        request.http_request.headers["Authorization"] = _BEARER + self._client.tokens.get()

    def on_response(self, request: PipelineRequest[Any], response: PipelineResponse[Any, Any]) -> None:
        """Renew a token that was refused, so that the next call has another."""
        if response.http_response.status_code == 401:
            refused = request.http_request.headers["Authorization"].removeprefix(_BEARER)
            self._client.tokens.get(refused=refused)


def make_sdk_client(client: GeoCatalogClient) -> PlanetaryComputerProClient:
    """
    Return the official client for the GeoCatalog of a connection.

    :raises GeoCatalogInvalidInput: The connection's api-version is one that the SDK cannot speak.
    """
    settings = client.settings
    if settings.dialect.prefixes != DIALECTS[DEFAULT_API_VERSION].prefixes:
        raise GeoCatalogInvalidInput(
            f"the official SDK cannot speak api-version {settings.dialect.api_version}; choose a newer one"
        )
    return PlanetaryComputerProClient(
        settings.url,
        client.tokens,
        api_version=settings.dialect.api_version,
        credential_scopes=[settings.cloud.scope],
        authentication_policy=_ConnectionPolicy(client),
        connection_timeout=settings.request_timeout,
        read_timeout=settings.request_timeout,
        connection_verify=settings.ca_bundle or True,
        use_env_settings=not settings.is_local,  # a loopback address is not reached through a proxy
    )
