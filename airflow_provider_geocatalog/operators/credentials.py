"""Where a SAS token comes from: a connection, a Variable, a callable or an endpoint, never a template field."""

from __future__ import annotations

import inspect
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.redaction import signatures
from airflow_provider_geocatalog.provider_info import CONNECTION_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_geocatalog.sas_tokens import TokenMaker

__all__ = ["DEFAULT_TOKEN_LIFETIME", "SasTokenArguments", "mask_sas", "refuse_signature"]

DEFAULT_TOKEN_LIFETIME = 48 * 3600.0  # seconds
#: What stands for the address of the public Planetary Computer.
_PLANETARY_COMPUTER = "planetary_computer"


def mask_sas(text: str) -> None:
    """Hand a SAS token, or the signatures in any text, to Airflow's secrets masker."""
    from airflow.providers.common.compat.sdk import mask_secret

    for signature in signatures(text):
        mask_secret(signature)


def refuse_signature(text: Any, argument: str) -> None:
    """
    Refuse a SAS signature in an argument that Airflow stores and shows.

    Called when the operator is made: a DAG with such a literal never gets as far as being stored. Airflow makes a
    mapped operator when its task runs, so that what ``partial`` and ``expand`` are given is refused only then.

    :raises GeoCatalogInvalidInput: There is one.
    """
    if isinstance(text, str) and signatures(text):
        mask_sas(text)
        raise GeoCatalogInvalidInput(
            f"{argument} carries a SAS signature, which would be shown in the task's rendered fields; give the URL "
            "without query string, and open it with a connection or, for the GeoCatalog, an ingestion source"
        )


class SasTokenArguments:
    """
    The places that a SAS token comes from, which operators share; one of them is given.

    :param conn_id: Connection that gives tokens, by its type: ``geocatalog`` signs as its identity (user delegation);
        ``wasb``, ``adls`` and ``azure`` sign with what they hold, as their own hooks would use it; any other has the
        token in its extra as ``sas_token``, or in its password. Any secrets backend may hold it.
    :param variable: Airflow Variable with the token.
    :param make: Callable that returns the token; called with the container URL if it takes an argument.
    :param url: Endpoint that gives tokens to everybody, or ``planetary_computer`` for that of the public one.
    :param lifetime: Seconds that tokens live that are signed here.
    """

    def __init__(
        self,
        conn_id: str | None,
        variable: str | None,
        make: Callable[..., str] | None,
        *,
        url: str | None = None,
        lifetime: float = DEFAULT_TOKEN_LIFETIME,
    ) -> None:
        self.conn_id = conn_id
        self.variable = variable
        self.make = make
        self.url = url
        self.lifetime = lifetime

    def __bool__(self) -> bool:
        return bool(self._given)

    @property
    def _given(self) -> list[str]:
        named = {"connection": self.conn_id, "Variable": self.variable, "callable": self.make, "URL": self.url}
        return [name for name, value in named.items() if value]

    def problems(self) -> list[str]:
        """Return what is wrong with the arguments, as sentences."""
        if len(self._given) > 1:
            return [f"give the SAS token through one of {' and '.join(self._given)}, not through all"]
        if not self._given:
            names = ("sas_token_conn_id", "sas_token_variable", "sas_token_callable")
            return [f"a SAS token is needed: give {', '.join(names)} or sas_token_url"]
        return []

    def token(self, container_url: str, now: float | None = None) -> str:
        """
        Return the token and see to it that logs never show it.

        :param now: The present in epoch seconds, for tokens that are signed here.
        :raises GeoCatalogInvalidInput: There is no token, or more than one source for it.
        :raises GeoCatalogError: Its source failed.
        """
        token: Any = self._maker(container_url, time.time() if now is None else now)
        if not isinstance(token, str) or not token:
            raise GeoCatalogInvalidInput(f"the {self._given[0]} gave no SAS token")
        _mask(token)
        mask_sas(token)
        return token

    @cached_property
    def _maker(self) -> TokenMaker:
        problems = self.problems()
        if problems:
            raise GeoCatalogInvalidInput(problems)
        if self.make is not None:
            return self._called
        if self.url:
            from airflow_provider_geocatalog.sas_tokens import PLANETARY_COMPUTER, endpoint_maker

            return endpoint_maker(PLANETARY_COMPUTER if self.url == _PLANETARY_COMPUTER else self.url)
        return self._of_connection() if self.conn_id else self._from_variable

    def _called(self, container_url: str, now: float) -> str:
        from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

        assert self.make is not None  # noqa: S101
        try:
            return self.make(container_url) if _takes_an_argument(self.make) else self.make()
        except (GeoCatalogError, AirflowFailException, AirflowSkipException):
            raise
        except Exception as error:
            mask_sas(str(error))
            raise GeoCatalogError(
                f"the callable gave no SAS token for {container_url}: {type(error).__name__}: {error}", retryable=True
            ) from error

    def _of_connection(self) -> TokenMaker:
        from airflow.providers.common.compat.sdk import BaseHook

        from airflow_provider_geocatalog import sas_tokens

        conn_id = str(self.conn_id)
        conn = BaseHook.get_connection(conn_id)
        if conn.conn_type == CONNECTION_TYPE:
            from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

            client = GeoCatalogHook(conn_id).client
            settings = client.settings
            return sas_tokens.UserDelegation(
                client.tokens,
                lifetime=self.lifetime,
                ca_bundle=settings.ca_bundle,
                timeout=settings.request_timeout,
            )
        if conn.conn_type in sas_tokens.STORAGE_CONNECTION_TYPES:
            storage = sas_tokens.StorageConnection(
                conn.conn_type, host=conn.host, login=conn.login, password=conn.password, extra=conn.extra_dejson
            )
            for secret in storage.secrets:
                _mask(secret)
            return storage.maker(lifetime=self.lifetime)
        token: Any = conn.extra_dejson.get("sas_token") or conn.password
        return lambda container_url, now: token

    def _from_variable(self, container_url: str, now: float) -> Any:
        from airflow.providers.common.compat.sdk import Variable

        return Variable.get(str(self.variable))


def _takes_an_argument(make: Callable[..., str]) -> bool:
    by_name = {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}
    return any(parameter.kind not in by_name for parameter in inspect.signature(make).parameters.values())


def _mask(secret: str) -> None:
    from airflow.providers.common.compat.sdk import mask_secret

    mask_secret(secret)
