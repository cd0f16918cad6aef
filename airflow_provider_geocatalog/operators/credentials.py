"""Where a SAS token comes from: a connection, a Variable or a callable, never a template field."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.api.redaction import signatures

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SasTokenArguments", "mask_sas", "refuse_signature"]


def mask_sas(text: str) -> None:
    """Hand a SAS token, or the signatures in any text, to Airflow's secrets masker."""
    from airflow.providers.common.compat.sdk import mask_secret

    for signature in signatures(text):
        mask_secret(signature)


def refuse_signature(text: Any, argument: str) -> None:
    """
    Refuse a SAS signature in an argument that Airflow stores and shows.

    Called when the operator is made: a DAG with such a literal, or a mapped value, never gets as far as being stored.

    :raises GeoCatalogInvalidInput: There is one.
    """
    if isinstance(text, str) and signatures(text):
        mask_sas(text)
        raise GeoCatalogInvalidInput(
            f"{argument} carries a SAS signature, which would be shown in the task's rendered fields; register an "
            "ingestion source for the container and give the URL without query string"
        )


class SasTokenArguments:
    """
    The three sources of a SAS token that operators share.

    :param conn_id: Connection with the token in its extra as ``sas_token``, or in its password; any secrets backend
        may hold it.
    :param variable: Airflow Variable with the token.
    :param make: Callable that returns the token; called with the container URL if it takes an argument.
    """

    def __init__(self, conn_id: str | None, variable: str | None, make: Callable[..., str] | None) -> None:
        self.conn_id = conn_id
        self.variable = variable
        self.make = make

    def __bool__(self) -> bool:
        return bool(self.conn_id or self.variable or self.make)

    def token(self, container_url: str) -> str:
        """
        Return the token and see to it that logs never show it.

        :raises GeoCatalogInvalidInput: There is no token, or more than one source for it.
        """
        given = [name for name in ("conn_id", "variable", "make") if getattr(self, name)]
        if len(given) > 1:
            raise GeoCatalogInvalidInput("give the SAS token through one of connection, Variable or callable")
        if not given:
            raise GeoCatalogInvalidInput(
                "a SAS token is needed: give sas_token_conn_id, sas_token_variable or sas_token_callable"
            )
        if self.make is not None:
            token: Any = self.make(container_url) if inspect.signature(self.make).parameters else self.make()
        else:
            token = self._from_connection() if self.conn_id else self._from_variable()
        if not isinstance(token, str) or not token:
            raise GeoCatalogInvalidInput(f"the {given[0].replace('make', 'callable')} gave no SAS token")
        from airflow.providers.common.compat.sdk import mask_secret

        mask_secret(token)
        mask_sas(token)
        return token

    def _from_connection(self) -> Any:
        from airflow.providers.common.compat.sdk import BaseHook

        conn = BaseHook.get_connection(str(self.conn_id))
        return conn.extra_dejson.get("sas_token") or conn.password

    def _from_variable(self) -> Any:
        from airflow.providers.common.compat.sdk import Variable

        return Variable.get(str(self.variable))
