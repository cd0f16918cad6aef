"""Ingestion sources: the credentials with which the GeoCatalog reads blob containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_geocatalog.api.numbers import seconds
from airflow_provider_geocatalog.operators.base import GeoCatalogOperator, GeoCatalogPlanningOperator
from airflow_provider_geocatalog.operators.credentials import (
    DEFAULT_TOKEN_LIFETIME,
    SasTokenArguments,
    refuse_signature,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.api.flows.sources import SourceChange

__all__ = [
    "GeoCatalogDeleteIngestionSourceOperator",
    "GeoCatalogEnsureIngestionSourceOperator",
    "GeoCatalogRotateIngestionSourcesOperator",
]

_HOUR = 3600.0


class _SourceOperator(GeoCatalogPlanningOperator):
    """Base of the operators of ingestion sources."""

    def _note(self, change: SourceChange) -> None:
        """Log what was done to a source; in a dry run, put it into the plan."""
        source = " of ".join(filter(None, (change.source_id, change.container_url)))
        until = f", valid until {change.expires_at.isoformat()}" if change.expires_at else ""
        if change.error is not None:
            self.log.error("Ingestion source %s: %s", source, change.error)
        elif not self._is_dry_run:
            self.log.info("Ingestion source %s: %s%s.", source, change.action, until)
        else:
            self._note_write(change)

    def _note_write(self, change: SourceChange) -> None:
        from airflow_provider_geocatalog.api import endpoints

        subject, source_id = change.container_url or "", change.source_id or ""
        if change.action == "created":
            self._plan_call(endpoints.CREATE_SOURCE, subject)
        elif change.action in {"rotated", "replaced"}:
            self._plan_call(endpoints.REPLACE_SOURCE, subject, source_id=source_id)
        elif change.action == "deleted":
            self._plan_call(endpoints.DELETE_SOURCE, subject, source_id=source_id)


class _SasTokenOperator(_SourceOperator):
    """Base of the operators that need SAS tokens, with the arguments that say where these come from."""

    template_fields: Sequence[str] = (
        "sas_token_conn_id",
        "sas_token_variable",
        "sas_token_url",
        *GeoCatalogOperator.template_fields,
    )

    def __init__(
        self,
        *,
        sas_token_conn_id: str | None = None,
        sas_token_variable: str | None = None,
        sas_token_callable: Callable[..., str] | None = None,
        sas_token_url: str | None = None,
        token_lifetime: float = DEFAULT_TOKEN_LIFETIME,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_signature(sas_token_url, "sas_token_url")
        self.sas_token_conn_id = sas_token_conn_id
        self.sas_token_variable = sas_token_variable
        self.sas_token_callable = sas_token_callable
        self.sas_token_url = sas_token_url
        self.token_lifetime = seconds(token_lifetime, "token_lifetime", above_zero=True)

    def _sas(self) -> SasTokenArguments:
        return SasTokenArguments(
            self.sas_token_conn_id,
            self.sas_token_variable,
            self.sas_token_callable,
            url=self.sas_token_url,
            lifetime=self.token_lifetime,
        )


class GeoCatalogEnsureIngestionSourceOperator(_SasTokenOperator):
    """
    See to it that a container has an ingestion source that lives long enough.

    A container can have one source. An existing one is kept if its token lives for ``min_lifetime``, renewed in place
    otherwise, and never deleted, because a running ingestion may be using it. A second run writes nothing. Two tasks
    that do so at once end with one source.

    The SAS token comes from one of the four ``sas_token_*`` arguments; no rendered field ever shows it.

    :param container_url: Root of the container, ``https://<account>.blob.core.windows.net/<container>``.
    :param managed_identity: Use a managed identity of the GeoCatalog instead: its object id, or ``auto`` for the only
        one that is attached.
    :param min_lifetime: Seconds that the source's token has to live at least; cover the longest run.
    :param rotate: ``when_needed``, ``always`` or ``never``.
    :param if_exists: ``rotate`` (as said above) or ``fail``.
    :param sas_token_conn_id: Connection that gives tokens. One of type ``geocatalog`` signs them as its identity (user
        delegation), one of type ``wasb``, ``adls`` or ``azure`` with what it holds; any other has the token in its
        extra as ``sas_token``, or in its password.
    :param sas_token_variable: Airflow Variable with the token.
    :param sas_token_callable: Callable that returns the token; called with the container URL if it takes an argument.
    :param sas_token_url: Endpoint that gives tokens to everybody at ``{url}/{account}/{container}``;
        ``planetary_computer`` stands for that of the public Planetary Computer, whose tokens live for about an hour.
    :param token_lifetime: Seconds that tokens live that are signed here; an identity can sign for 7 days at most.
    :param dry_run: Send nothing that changes anything, and ask for no token; log and return what would be written.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: ``action`` (``created``, ``rotated``, ``replaced``, ``unchanged``), ``source_id``, ``kind``,
        ``container_url``, ``expires_at`` and, of a dry run, ``dry_run`` and ``plan``, as XCom; never the token.
    :raises GeoCatalogInvalidInput: The URL or the token cannot do what is needed; nothing was written.
    :raises GeoCatalogConflict: The container has a source of the other kind, or any and ``if_exists`` is ``fail``.
    """

    template_fields: Sequence[str] = ("container_url", "managed_identity", *_SasTokenOperator.template_fields)

    def __init__(
        self,
        *,
        container_url: str,
        managed_identity: str | None = None,
        min_lifetime: float = 24 * _HOUR,
        rotate: str = "when_needed",
        if_exists: str = "rotate",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_signature(container_url, "container_url")
        self.container_url = container_url
        self.managed_identity = managed_identity
        self.min_lifetime = seconds(min_lifetime, "min_lifetime")
        self.rotate = rotate
        self.if_exists = if_exists

    def _execute(self, context: Context) -> dict[str, Any]:
        """Create or renew the source if that is needed."""
        from airflow_provider_geocatalog.api.flows.sources import Rotate, ensure_identity_source, ensure_sas_source
        from airflow_provider_geocatalog.api.validation import container_url_problems, refuse
        from airflow_provider_geocatalog.operators.choices import IfSourceExists, choice

        rotate = choice(Rotate, self.rotate, "rotate")
        fail = choice(IfSourceExists, self.if_exists, "if_exists") is IfSourceExists.FAIL
        hook, container, sas = self.hook, self.container_url, self._sas()
        problems = container_url_problems(container)
        if not self.managed_identity:
            problems += sas.problems()
        elif sas:
            problems.append("give a SAS token or a managed identity, not both")
        refuse("the ingestion source cannot be registered", problems)
        if self.managed_identity:
            object_id = None if self.managed_identity == "auto" else self.managed_identity
            flow = ensure_identity_source(container, object_id=object_id, if_exists_fail=fail, dry_run=self._is_dry_run)
        else:
            flow = ensure_sas_source(
                container,
                lambda: sas.token(container, hook.client.clock.time()),
                min_lifetime=self.min_lifetime,
                rotate=rotate,
                if_exists_fail=fail,
                dry_run=self._is_dry_run,
            )
        change = hook.run(flow)
        self._note(change)
        return self._told(change.to_json())


class GeoCatalogRotateIngestionSourcesOperator(_SasTokenOperator):
    """
    Renew the SAS tokens of ingestion sources before they expire; for a DAG with a schedule.

    Every SAS source whose token expires within ``expires_within`` gets a new one in place: its id stays, nothing is
    deleted, and running ingestions go on. Sources with a managed identity, or without an expiry, need nothing. A source
    that cannot be renewed does not stop the others; the task fails at its end, naming it, and a retry renews what is
    left.

    Choose ``expires_within`` above the longest pause between two runs of the DAG, outages included, and
    ``token_lifetime`` well above it.

    :param expires_within: Seconds; tokens that live longer are left alone.
    :param containers: Only the sources of these containers, by URL; each has to have one.
    :param accounts: Only the sources of these storage accounts, by name.
    :param sas_token_conn_id: Connection that gives tokens. One of type ``geocatalog`` signs them as its identity (user
        delegation), one of type ``wasb``, ``adls`` or ``azure`` with what it holds; any other has the token in its
        extra as ``sas_token``, or in its password, which serves one container.
    :param sas_token_variable: Airflow Variable with the token, which serves one container.
    :param sas_token_callable: Callable that returns a container's token; called with the container URL if it takes an
        argument.
    :param sas_token_url: Endpoint that gives tokens to everybody at ``{url}/{account}/{container}``;
        ``planetary_computer`` stands for that of the public Planetary Computer, whose tokens live for about an hour.
    :param token_lifetime: Seconds that tokens live that are signed here; an identity can sign for 7 days at most.
    :param dry_run: Send nothing that changes anything, and ask for no token; log and return what would be written.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: ``rotated`` and ``unchanged`` (how many) and ``sources``, a list of objects with ``action``, ``source_id``,
        ``kind``, ``container_url`` and ``expires_at``; of a dry run also ``dry_run`` and ``plan``, as XCom. A task that
        fails leaves the same in the XCom ``report``.
    :raises GeoCatalogInvalidInput: An argument cannot be used; nothing was written.
    :raises GeoCatalogError: Sources could not be renewed; the message names them.
    """

    template_fields: Sequence[str] = ("containers", "accounts", *_SasTokenOperator.template_fields)

    def __init__(
        self,
        *,
        expires_within: float = 24 * _HOUR,
        containers: Sequence[str] | None = None,
        accounts: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for url in containers if isinstance(containers, list | tuple) else ():
            refuse_signature(url, "containers")
        self.expires_within = seconds(expires_within, "expires_within")
        self.containers = containers
        self.accounts = accounts

    def _execute(self, context: Context) -> dict[str, Any]:
        """Renew what expires soon."""
        from airflow_provider_geocatalog.api.flows.sources import rotate_sources
        from airflow_provider_geocatalog.api.validation import refuse

        sas = self._sas()
        refuse("ingestion sources cannot be rotated", [*self._selection_problems(), *sas.problems()])
        wanted, is_meant = self._selection()
        changes = self.hook.run(
            rotate_sources(sas.token, expires_within=self.expires_within, is_meant=is_meant, dry_run=self._is_dry_run)
        )
        report = {
            **{word: sum(change.action == word for change in changes) for word in ("rotated", "unchanged")},
            "sources": [change.to_json() for change in changes],
        }
        for change in changes:
            self._note(change)
        result = self._told(report)
        self._refuse_failures(context, result, changes, wanted)
        return result

    def _selection_problems(self) -> list[str]:
        from airflow_provider_geocatalog.api.validation import container_url_problems

        problems = []
        for name in ("containers", "accounts"):
            value = getattr(self, name)
            if value is not None and not (
                isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
            ):
                problems.append(f"{name} is {type(value).__name__}, not a list of strings")
        if not problems:
            problems += [problem for url in self.containers or () for problem in container_url_problems(url)]
        if self.token_lifetime <= self.expires_within and self.sas_token_conn_id:
            problems.append(
                f"token_lifetime ({self.token_lifetime:.0f} s) has to exceed expires_within ({self.expires_within:.0f} "
                "s), or every run renews every source"
            )
        return problems

    def _selection(self) -> tuple[set[str], Callable[[str], bool]]:
        """Return the named containers in normal form, and what tells whether a container is meant."""
        from airflow_provider_geocatalog.api.flows.sources import normal_container_url
        from airflow_provider_geocatalog.sas_tokens import account_of

        containers = {normal_container_url(url) for url in self.containers or ()}
        accounts = {account.lower() for account in self.accounts or ()}
        everything = self.containers is None and self.accounts is None

        def is_meant(container_url: str) -> bool:
            return (
                everything or normal_container_url(container_url) in containers or account_of(container_url) in accounts
            )

        return containers, is_meant

    def _refuse_failures(
        self, context: Context, report: dict[str, Any], changes: Sequence[SourceChange], wanted: set[str]
    ) -> None:
        from airflow_provider_geocatalog.api.errors import GeoCatalogError
        from airflow_provider_geocatalog.api.flows.sources import normal_container_url

        failed = [change for change in changes if change.error is not None]
        problems = [f"{one.source_id} of {one.container_url or 'an unknown container'}: {one.error}" for one in failed]
        found = {normal_container_url(change.container_url) for change in changes if change.container_url}
        problems += [f"{container} has no SAS source" for container in sorted(wanted - found)]
        if problems:
            context["ti"].xcom_push(key="report", value=report)
            raise GeoCatalogError(
                f"{len(problems)} of {len(changes) + len(wanted - found)} ingestion sources were not renewed: "
                + "; ".join(problems),
                hint="The others were looked after, see the log.",
                retryable=any(change.error is not None and change.error.retryable for change in failed),
            )


class GeoCatalogDeleteIngestionSourceOperator(_SourceOperator):
    """
    Delete an ingestion source by its id or by its container.

    A running ingestion that uses the source breaks. The service does not tell which sources an operation uses, and
    assets may be in any container, so the task fails while any bulk run or any creation or update of items is active in
    the whole GeoCatalog; a retry finds out whether they have ended. What starts between that look and the deletion is
    not seen.

    :param source_id: The source.
    :param container_url: The container whose source is deleted.
    :param if_missing: ``skip`` or ``fail``.
    :param force: Delete it whatever is active.
    :param dry_run: Send nothing that changes anything; log and return what would be deleted.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: ``action`` (``deleted`` or ``absent``), ``source_id``, ``kind``, ``container_url``, ``expires_at`` and, of
        a dry run, ``dry_run`` and ``plan``, as XCom.
    :raises GeoCatalogInvalidInput: The arguments make no sense; nothing was sent.
    :raises GeoCatalogNotFound: There is none and ``if_missing`` is ``fail``.
    :raises GeoCatalogConflict: Something that is active may use it.
    """

    template_fields: Sequence[str] = ("source_id", "container_url", "if_missing", *GeoCatalogOperator.template_fields)

    def __init__(
        self,
        *,
        source_id: str | None = None,
        container_url: str | None = None,
        if_missing: str = "skip",
        force: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_signature(container_url, "container_url")
        self.source_id = source_id
        self.container_url = container_url
        self.if_missing = if_missing
        self.force = force

    def _execute(self, context: Context) -> dict[str, Any]:
        """Delete the source."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
        from airflow_provider_geocatalog.api.flows.sources import delete_source
        from airflow_provider_geocatalog.api.validation import container_url_problems, refuse
        from airflow_provider_geocatalog.operators.choices import IfMissing, choice

        missing_ok = choice(IfMissing, self.if_missing, "if_missing") is IfMissing.SKIP
        if bool(self.source_id) == bool(self.container_url):
            raise GeoCatalogInvalidInput("name the ingestion source by source_id or by container_url")
        if self.container_url:
            refuse("the ingestion source cannot be deleted", container_url_problems(self.container_url))
        change = self.hook.run(
            delete_source(
                source_id=self.source_id or None,
                container_url=self.container_url or None,
                missing_ok=missing_ok,
                force=self.force,
                dry_run=self._is_dry_run,
            )
        )
        self._note(change)
        return self._told(change.to_json())
