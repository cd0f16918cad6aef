"""Look before an ingestion whether it can succeed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_geocatalog.operators.base import GeoCatalogOperator
from airflow_provider_geocatalog.operators.choices import IfProblems, ImportType, choice
from airflow_provider_geocatalog.operators.credentials import SasTokenArguments, refuse_signature

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pystac
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.catalog_check import CatalogReader
    from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook
    from airflow_provider_geocatalog.preflight import Preflight, PreflightReport

__all__ = ["MAX_ITEMS", "MIN_LIFETIME", "GeoCatalogPreflightOperator", "add_catalog", "catalog_reader", "look_ahead"]

MAX_ITEMS = 10_000
#: Seconds; half of what ensuring a source leaves alone, so that a source that was ensured hours ago is good enough.
MIN_LIFETIME = 12 * 3600.0
_TIME_LIMIT = 300.0  # seconds


def catalog_reader(
    hook: GeoCatalogHook, catalog_url: str, container_url: str | None, sas: SasTokenArguments
) -> CatalogReader:
    """
    Return what reads a catalog on the worker.

    :param hook: The connection; on an emulator's, local files are readable.
    :param container_url: The container that the token opens; that of ``catalog_url`` if not given.
    :param sas: Where the token comes from, if there is one.
    """
    from airflow_provider_geocatalog.catalog_check import CatalogReader

    container = container_url or _container_of(catalog_url)
    token = sas.token(container) if sas else None
    return CatalogReader(sas_token=token, container_url=container, local=hook.client.settings.is_local)


def _container_of(url: str) -> str:
    """Return the container that a blob URL lies in: the first segment of its path."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/{parts.path.lstrip('/').split('/', 1)[0]}"


def add_catalog(look: Preflight, catalog_url: str, reader: CatalogReader | None) -> None:
    """
    Add a catalog to a preflight.

    :param reader: How the worker reads it; ``None`` if it does not, so that only its own container is looked at.
    """
    if reader is not None:
        look.add_catalog(catalog_url, reader)
    else:
        look.add_document(catalog_url)
        look.warn(f"unknown: {catalog_url} is not read on the worker, so only its own container was looked at")


def look_ahead(
    operator: GeoCatalogOperator,
    add: Callable[[Preflight], None],
    *,
    subject: str,
    fail: bool,
    container_url: str | None = None,
    min_lifetime: float = MIN_LIFETIME,
    max_items: int = MAX_ITEMS,
    time_limit: float = _TIME_LIMIT,
) -> PreflightReport:
    """
    Carry a preflight out and log what it finds.

    :param operator: Whose connection and log it is.
    :param add: Adds what will be read.
    :param subject: What is looked at, for messages.
    :param fail: Whether problems are an error.
    :param container_url: A container that is known, for naming others at the same host.
    :raises GeoCatalogInvalidInput: There are problems and ``fail`` is set; the message has all of them.
    """
    from airflow_provider_geocatalog.api.flows.preflight import read_sources
    from airflow_provider_geocatalog.api.validation import refuse
    from airflow_provider_geocatalog.preflight import Preflight

    problems = [
        f"{name} is {value!r}, less than {least}"
        for name, value, least in (
            ("min_lifetime", min_lifetime, 0),
            ("max_items", max_items, 1),
            ("time_limit", time_limit, 1),
        )
        if value < least
    ]
    refuse("the preflight cannot be made", problems)
    hook, log = operator.hook, operator.log
    sources = hook.run(read_sources([container_url] if container_url else []))
    local = hook.client.settings.is_local
    look = Preflight(sources, min_lifetime=min_lifetime, max_items=max_items, time_limit=time_limit, local=local)
    add(look)
    report = look.report()
    for warning in report.warnings:
        log.warning("Preflight of %s: %s", subject, warning)
    if fail:
        refuse(f"preflight of {subject} (nothing was sent)", report.problems)
    for problem in report.problems:
        log.error("Preflight of %s: %s", subject, problem)
    log.info(
        "Preflight of %s: %d problems, %d warnings; %d of %d items in %d containers looked at.",
        subject,
        len(report.problems),
        len(report.warnings),
        report.items_read,
        report.items,
        len(report.containers),
    )
    return report


class GeoCatalogPreflightOperator(GeoCatalogOperator):
    """
    Look before an ingestion whether it can succeed, and say everything that is wrong at once.

    Every container that the catalog's documents and the items' assets lie in needs an ingestion source that lives long
    enough, or has to be public; documents have to be readable and items such as the service takes. Only the sources are
    asked of the service: one list and one read of each. The catalog is read on the worker; what cannot be told from
    there is a warning that begins with ``unknown``, and a look that was not complete says ``partial``.

    :param catalog_url: URL of the catalog's root document, or of a stac-geoparquet file, without a SAS.
    :param import_type: ``StaticCatalog``, or ``StacGeoparquet``, of which only the file's container is looked at.
    :param items: Items to look at instead of a catalog, in the forms of
        :class:`~airflow_provider_geocatalog.operators.items.GeoCatalogCreateItemsOperator`.
    :param if_problems: ``fail`` or ``warn``.
    :param min_lifetime: Seconds that the sources' tokens have to live from now on; a source that another task rotates
        during the run needs to live until then only.
    :param max_items: Items of the catalog that are read; of more, so many are read in equal distances.
    :param time_limit: Seconds for walking and reading; what is not read by then is told as partial.
    :param container_url: Container of the catalog, for the SAS token with which the worker reads it; the first path
        segment of ``catalog_url`` if not given.
    :param sas_token_conn_id: Connection with a SAS token for reading the catalog on the worker.
    :param sas_token_variable: Airflow Variable with that token.
    :param sas_token_callable: Callable that returns that token.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: ``problems``, ``warnings``, ``containers`` (``url``, ``opened_by``, ``source_id``, ``expires_at``,
        ``documents``, ``items``), ``documents``, ``items``, ``items_read``, ``complete``, as XCom.
    :raises GeoCatalogInvalidInput: There are problems and ``if_problems`` is ``fail``.
    """

    template_fields: Sequence[str] = (
        "catalog_url",
        "import_type",
        "items",
        "if_problems",
        "container_url",
        "sas_token_conn_id",
        "sas_token_variable",
        *GeoCatalogOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"items": "json"}

    def __init__(
        self,
        *,
        catalog_url: str | None = None,
        import_type: str = ImportType.STATIC_CATALOG.value,
        items: Sequence[dict[str, Any] | pystac.Item]
        | dict[str, Any]
        | pystac.Item
        | pystac.ItemCollection
        | str
        | None = None,
        if_problems: str = IfProblems.FAIL.value,
        min_lifetime: float = MIN_LIFETIME,
        max_items: int = MAX_ITEMS,
        time_limit: float = _TIME_LIMIT,
        container_url: str | None = None,
        sas_token_conn_id: str | None = None,
        sas_token_variable: str | None = None,
        sas_token_callable: Callable[..., str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_signature(catalog_url, "catalog_url")
        refuse_signature(container_url, "container_url")
        self.catalog_url = catalog_url
        self.import_type = import_type
        self.items = items
        self.if_problems = if_problems
        self.min_lifetime = min_lifetime
        self.max_items = max_items
        self.time_limit = time_limit
        self.container_url = container_url
        self.sas_token_conn_id = sas_token_conn_id
        self.sas_token_variable = sas_token_variable
        self.sas_token_callable = sas_token_callable

    def _execute(self, context: Context) -> dict[str, Any]:
        """Read the sources and the catalog, and compare."""
        if_problems = choice(IfProblems, self.if_problems, "if_problems")
        subject, add = self._what()
        report = look_ahead(
            self,
            add,
            subject=subject,
            fail=if_problems is IfProblems.FAIL,
            container_url=self.container_url,
            min_lifetime=self.min_lifetime,
            max_items=self.max_items,
            time_limit=self.time_limit,
        )
        return report.to_json()

    def _what(self) -> tuple[str, Callable[[Preflight], None]]:
        from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
        from airflow_provider_geocatalog.api.validation import catalog_url_problems, refuse
        from airflow_provider_geocatalog.operators.items import load_items

        import_type = choice(ImportType, self.import_type, "import_type")
        if bool(self.catalog_url) == (self.items is not None):
            raise GeoCatalogInvalidInput("name what to look at by catalog_url or by items")
        if not self.catalog_url:
            items = load_items(self.items)
            refuse("the preflight cannot be made", [] if isinstance(items, list) and items else ["there are no items"])
            return f"{len(items)} items", lambda look: look.add_items(items)
        catalog_url = self.catalog_url
        problems = catalog_url_problems(catalog_url, local=self.hook.client.settings.is_local)
        refuse("the preflight cannot be made", problems)
        reader = None
        if import_type is ImportType.STATIC_CATALOG:
            sas = SasTokenArguments(self.sas_token_conn_id, self.sas_token_variable, self.sas_token_callable)
            reader = catalog_reader(self.hook, catalog_url, self.container_url, sas)
        return catalog_url, lambda look: add_catalog(look, catalog_url, reader)
