"""Ingestion sources: the credentials with which the GeoCatalog reads blob containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.operators.base import GeoCatalogOperator
from airflow_provider_geocatalog.operators.credentials import SasTokenArguments, refuse_signature

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import Context

__all__ = ["GeoCatalogDeleteIngestionSourceOperator", "GeoCatalogEnsureIngestionSourceOperator"]

_HOUR = 3600.0


class GeoCatalogEnsureIngestionSourceOperator(GeoCatalogOperator):
    """
    See to it that a container has an ingestion source that lives long enough.

    A container can have one source. An existing one is kept if its token lives for ``min_lifetime``, renewed in place
    otherwise, and never deleted, because a running ingestion may be using it. A second run writes nothing.

    The SAS token comes from a connection, a Variable or a callable, so that no rendered field ever shows it.

    :param container_url: Root of the container, ``https://<account>.blob.core.windows.net/<container>``.
    :param sas_token_conn_id: Connection with the token in its extra as ``sas_token``, or in its password.
    :param sas_token_variable: Airflow Variable with the token.
    :param sas_token_callable: Callable that returns the token; called with the container URL if it takes an argument.
    :param managed_identity: Use a managed identity of the GeoCatalog instead: its object id, or ``auto`` for the only
        one that is attached.
    :param min_lifetime: Seconds that the source's token has to live at least; cover the longest run.
    :param rotate: ``when_needed``, ``always`` or ``never``.
    :param if_exists: ``rotate`` (as said above) or ``fail``.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: ``action`` (``created``, ``rotated``, ``replaced``, ``unchanged``), ``source_id``, ``kind``,
        ``container_url``, ``expires_at``, as XCom; never the token.
    :raises GeoCatalogInvalidInput: The URL or the token cannot do what is needed; nothing was written.
    :raises GeoCatalogConflict: The container has a source of the other kind, or any and ``if_exists`` is ``fail``.
    """

    template_fields: Sequence[str] = (
        "container_url",
        "sas_token_conn_id",
        "sas_token_variable",
        "managed_identity",
        *GeoCatalogOperator.template_fields,
    )

    def __init__(
        self,
        *,
        container_url: str,
        sas_token_conn_id: str | None = None,
        sas_token_variable: str | None = None,
        sas_token_callable: Callable[..., str] | None = None,
        managed_identity: str | None = None,
        min_lifetime: float = 24 * _HOUR,
        rotate: str = "when_needed",
        if_exists: str = "rotate",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_signature(container_url, "container_url")
        self.container_url = container_url
        self.sas_token_conn_id = sas_token_conn_id
        self.sas_token_variable = sas_token_variable
        self.sas_token_callable = sas_token_callable
        self.managed_identity = managed_identity
        self.min_lifetime = min_lifetime
        self.rotate = rotate
        self.if_exists = if_exists

    def _execute(self, context: Context) -> dict[str, Any]:
        """Create or renew the source if that is needed."""
        from airflow_provider_geocatalog.api.flows.sources import Rotate, ensure_identity_source, ensure_sas_source
        from airflow_provider_geocatalog.api.validation import container_url_problems, refuse
        from airflow_provider_geocatalog.operators.choices import IfSourceExists, choice

        rotate = choice(Rotate, self.rotate, "rotate")
        fail = choice(IfSourceExists, self.if_exists, "if_exists") is IfSourceExists.FAIL
        hook, container = self.hook, self.container_url
        sas = SasTokenArguments(self.sas_token_conn_id, self.sas_token_variable, self.sas_token_callable)
        problems = container_url_problems(container)
        if sas and self.managed_identity:
            problems.append("give a SAS token or a managed identity, not both")
        refuse("the ingestion source cannot be registered", problems)
        if self.managed_identity:
            object_id = None if self.managed_identity == "auto" else self.managed_identity
            flow = ensure_identity_source(container, object_id=object_id, if_exists_fail=fail)
        else:
            flow = ensure_sas_source(
                container,
                lambda: sas.token(container),
                min_lifetime=self.min_lifetime,
                rotate=rotate,
                if_exists_fail=fail,
            )
        change = hook.run(flow)
        self.log.info("Ingestion source %s of %s: %s.", change.source_id, container, change.action)
        return change.to_json()


class GeoCatalogDeleteIngestionSourceOperator(GeoCatalogOperator):
    """
    Delete an ingestion source by its id or by its container.

    A running ingestion that uses the source breaks: delete sources last.

    :param source_id: The source.
    :param container_url: The container whose source is deleted.
    :param if_missing: ``skip`` or ``fail``.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: ``action`` (``deleted`` or ``absent``) and ``source_id``, as XCom.
    :raises GeoCatalogNotFound: There is none and ``if_missing`` is ``fail``.
    """

    template_fields: Sequence[str] = ("source_id", "container_url", "if_missing", *GeoCatalogOperator.template_fields)

    def __init__(
        self,
        *,
        source_id: str | None = None,
        container_url: str | None = None,
        if_missing: str = "skip",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source_id = source_id
        self.container_url = container_url
        self.if_missing = if_missing

    def _execute(self, context: Context) -> dict[str, Any]:
        """Delete the source."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
        from airflow_provider_geocatalog.api.flows.sources import delete_source
        from airflow_provider_geocatalog.operators.choices import IfMissing, choice

        missing_ok = choice(IfMissing, self.if_missing, "if_missing") is IfMissing.SKIP
        if bool(self.source_id) == bool(self.container_url):
            raise GeoCatalogInvalidInput("name the ingestion source by source_id or by container_url")
        change = self.hook.run(
            delete_source(
                source_id=self.source_id or None, container_url=self.container_url or None, missing_ok=missing_ok
            )
        )
        self.log.info("Ingestion source %s: %s.", change.source_id or self.container_url, change.action)
        return change.to_json()
