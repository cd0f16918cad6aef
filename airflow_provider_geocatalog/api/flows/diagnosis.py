"""Say in the user's words what is wrong with a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api import endpoints
from airflow_provider_geocatalog.api.calls import NO_RETRIES, call
from airflow_provider_geocatalog.api.errors import (
    GeoCatalogAuthenticationError,
    GeoCatalogBadRequest,
    GeoCatalogError,
    GeoCatalogForeignUrl,
    GeoCatalogNotFound,
    GeoCatalogPermissionError,
    GeoCatalogProtocolError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_geocatalog.api.http import Flow

__all__ = ["probe"]


def probe(url: str, api_version: str, refusal: Callable[[], tuple[str, str]] | None = None) -> Flow[str]:
    """
    Make the cheapest call that shows address, credential, role and api-version to be right.

    :param url: The connection's URL, for messages.
    :param api_version: The connection's api-version, for messages.
    :param refusal: Says why the service may have refused the token, and what to do, if anybody knows.
    :return: A sentence that says what was reached.
    :raises GeoCatalogError: A message that names the part of the connection that is wrong.
    """
    try:
        page: Any = yield from call(endpoints.GET_LANDING_PAGE, retries=NO_RETRIES)
    except GeoCatalogAuthenticationError as error:
        if error.status is None:  # no token could be had; the message names the credential
            raise
        message, hint = "the GeoCatalog did not accept the token (401)", error.hint
        if refusal is not None:
            reason, hint = refusal()
            message += f": {reason}"
        raise _explained(error, message, hint) from error
    except GeoCatalogPermissionError as error:
        raise _explained(error, "the identity has no role on this GeoCatalog (403)", error.hint) from error
    except GeoCatalogNotFound as error:
        raise _not_a_geocatalog(error, url) from error
    except GeoCatalogForeignUrl as error:
        raise _not_a_geocatalog(error, url) from error
    except GeoCatalogProtocolError as error:
        raise _not_a_geocatalog(error, url) from error
    except GeoCatalogBadRequest as error:
        if "version" in f"{error.code} {error.message}".lower():
            raise _explained(error, f"the service does not accept api-version {api_version}", error.hint) from error
        if error.code is None:
            raise _not_a_geocatalog(error, url) from error
        raise
    if not isinstance(page, dict) or "stac_version" not in page or "links" not in page:
        raise _not_a_geocatalog(GeoCatalogProtocolError("the answer is no STAC landing page"), url)
    return f"Connected to the GeoCatalog at {url}, api-version {api_version}."


def _explained(error: GeoCatalogError, message: str, hint: str | None) -> GeoCatalogError:
    details = f" ({error.code}: {error.message})" if error.code else ""
    return type(error)(message + details, request_id=error.request_id, hint=hint)


def _not_a_geocatalog(error: GeoCatalogError, url: str) -> GeoCatalogError:
    # Of what is no error answer, the status says nothing.
    answered = f"it answered {error.status}" if (error.status or 0) >= 300 else error.message
    return GeoCatalogProtocolError(
        f"{url} is not a GeoCatalog: {answered}",
        request_id=error.request_id,
        hint="The URL is the 'GeoCatalog URI' on the resource's overview page in the Azure portal, without a path.",
    )
