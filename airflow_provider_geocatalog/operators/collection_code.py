"""A collection as a document in git: plan, apply, check for drift, export."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_geocatalog.operators.base import GeoCatalogOperator
from airflow_provider_geocatalog.operators.credentials import refuse_signature

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_geocatalog.api.collection_plan import CollectionPlan, WantedCollection

__all__ = [
    "GeoCatalogApplyCollectionOperator",
    "GeoCatalogCheckCollectionOperator",
    "GeoCatalogExportCollectionOperator",
    "GeoCatalogPlanCollectionOperator",
]

MARKDOWN_KEY = "markdown"  # of the XCom with the plan for a pull request or for who approves it


class _CollectionDocumentOperator(GeoCatalogOperator):
    """
    Base of the operators that read a document.

    :param document: The document of the collection.
    :param prune: Whether what the document does not name is to be deleted.
    """

    template_fields: Sequence[str] = ("document", *GeoCatalogOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {"document": "yaml"}

    def __init__(self, *, document: str | Mapping[str, Any], prune: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        refuse_signature(document, "document")
        self.document = document
        self.prune = prune

    def _wanted(self) -> WantedCollection:
        from airflow_provider_geocatalog.collection_document import load_collection_document, require_supported

        wanted = load_collection_document(self.document, read=_read)
        require_supported(wanted, self.hook.client)
        return wanted

    def _plan(self) -> CollectionPlan:
        from airflow_provider_geocatalog.api.flows.collection_plan import plan_collection

        return self.hook.run(plan_collection(self._wanted(), prune=self.prune))

    def _tell(self, context: Context, plan: CollectionPlan) -> dict[str, Any]:
        """Log a plan, and return it as XCom; as Markdown it is another."""
        from airflow_provider_geocatalog.api.redaction import redact

        self.log.info("%s", redact(plan.to_text()))
        context["ti"].xcom_push(key=MARKDOWN_KEY, value=redact(plan.to_markdown()))
        return plan.to_json()


def _read(location: str) -> bytes:
    """Return the bytes at a path or URL of any storage that Airflow's object storage paths can read."""
    from urllib.parse import urlsplit

    from airflow_provider_geocatalog.collection_document import read_location

    if urlsplit(location).scheme in {"", "file", "http", "https"}:
        return read_location(location)
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    return bytes(ObjectStoragePath(location).read_bytes())


class GeoCatalogPlanCollectionOperator(_CollectionDocumentOperator):
    """
    Find out what has to be written so that a collection is as its document says; this reads only.

    :param document: Path or URL of a YAML or JSON document that Airflow's object storage paths can read, its text, or
        the document itself. Sections that it does not have are not managed; paths in it are relative to it.
    :param prune: Plan to delete queryables, render options, mosaics and assets that the document does not name, in the
        sections that it has.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: The plan, as XCom: ``collection_id``, ``in_line``, ``summary``, and ``entries`` with ``kind``, ``id``,
        ``action`` and ``differences``. The XCom ``markdown`` has it for a pull request.
    :raises GeoCatalogInvalidInput: Everything that is wrong with the document, at once; nothing was sent.
    :raises GeoCatalogNotFound: There is no such collection, and the document does not say how to create it.
    """

    def _execute(self, context: Context) -> dict[str, Any]:
        """Plan."""
        return self._tell(context, self._plan())


class GeoCatalogCheckCollectionOperator(_CollectionDocumentOperator):
    """
    Fail or warn if a collection is not as its document says; this reads only.

    :param document: As for :class:`GeoCatalogPlanCollectionOperator`.
    :param prune: Whether it counts as a difference that there is more than the document names.
    :param on_drift: ``fail`` or ``warn``.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: The plan that would end the drift, as :class:`GeoCatalogPlanCollectionOperator` returns it.
    :raises GeoCatalogDrift: The collection differs and ``on_drift`` is ``fail``; it names every difference.
    """

    template_fields: Sequence[str] = ("on_drift", *_CollectionDocumentOperator.template_fields)

    def __init__(self, *, on_drift: str = "fail", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.on_drift = on_drift

    def _execute(self, context: Context) -> dict[str, Any]:
        """Compare."""
        from airflow_provider_geocatalog.operators.choices import OnDrift, choice

        on_drift = choice(OnDrift, self.on_drift, "on_drift")
        plan = self._plan()
        if plan.changes and on_drift is OnDrift.WARN:
            self.log.warning("Collection %r is not as its document says.", plan.collection_id)
        told = self._tell(context, plan)
        if on_drift is OnDrift.FAIL:
            plan.require_in_line()
        return told


class GeoCatalogApplyCollectionOperator(_CollectionDocumentOperator):
    """
    Make a collection what its document says, with exactly the writes that are needed; a second run makes none.

    A collection that is not there is created, and waited for on the worker. What is wanted is created or replaced
    before anything is deleted, so that at every moment a reader finds at least one render option and mosaic, and the
    thumbnail. Nothing is written if the service would refuse any of it. A retry completes what was interrupted.

    :param document: As for :class:`GeoCatalogPlanCollectionOperator`.
    :param prune: As for :class:`GeoCatalogPlanCollectionOperator`.
    :param approved_plan: What :class:`GeoCatalogPlanCollectionOperator` returned and somebody approved; writes that it
        does not have are refused. Without it everything is written.
    :param dry_run: Write nothing, return the plan.
    :param poll_interval: Seconds between looks whether a new collection is there.
    :param timeout: Seconds to wait for a new collection at most.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: What was written, as :class:`GeoCatalogPlanCollectionOperator` returns it.
    :raises GeoCatalogInvalidInput: Everything that is wrong with the document, at once; nothing was sent.
    :raises GeoCatalogConflict: The service would refuse something, or it was not approved; nothing was written.
    """

    template_fields: Sequence[str] = ("approved_plan", *_CollectionDocumentOperator.template_fields)
    _writes_collection = True

    def __init__(
        self,
        *,
        approved_plan: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        poll_interval: float = 30.0,
        timeout: float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.approved_plan = approved_plan
        self.poll_interval = poll_interval
        self.timeout = timeout
        # Under its own name it would hide a method of Airflow's.
        self._is_dry_run = dry_run

    def _execute(self, context: Context) -> dict[str, Any]:
        """Write what is needed."""
        from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
        from airflow_provider_geocatalog.api.flows.collection_plan import apply_collection
        from airflow_provider_geocatalog.api.waiting import PollPolicy

        approved = self.approved_plan
        if approved is not None and (not isinstance(approved, dict) or "entries" not in approved):
            raise GeoCatalogInvalidInput("approved_plan has to be what GeoCatalogPlanCollectionOperator has returned")
        if self._is_dry_run:
            return {**self._tell(context, self._plan()), "dry_run": True}
        plan = self.hook.run(
            apply_collection(
                self._wanted(),
                prune=self.prune,
                approved=approved,
                policy=PollPolicy(self.poll_interval, min(PollPolicy().first, self.poll_interval)),
                deadline=time.time() + self.timeout,
            )
        )
        return self._tell(context, plan)


class GeoCatalogExportCollectionOperator(GeoCatalogOperator):
    """
    Write the document of an existing collection; applying it changes nothing.

    :param collection_id: The collection.
    :param path: Path or URL of the document, on any storage that Airflow's object storage paths can write; ``.json`` at
        its end makes it JSON, anything else YAML. The thumbnail is written beside it. Existing files are replaced.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :return: ``collection_id`` and the ``paths`` that were written, as XCom.
    :raises GeoCatalogNotFound: There is no such collection.
    """

    template_fields: Sequence[str] = ("collection_id", "path", *GeoCatalogOperator.template_fields)

    def __init__(self, *, collection_id: str, path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection_id = collection_id
        self.path = path

    def _execute(self, context: Context) -> dict[str, Any]:
        """Read the collection and write the files."""
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        from airflow_provider_geocatalog.api.flows.collection_export import export_collection
        from airflow_provider_geocatalog.api.validation import collection_id_problems, refuse
        from airflow_provider_geocatalog.collection_document import document_text

        refuse("the collection cannot be exported", collection_id_problems(self.collection_id))
        exported = self.hook.run(export_collection(self.collection_id))
        path = ObjectStoragePath(self.path)
        paths = [path]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document_text(exported, path.name))
        if exported.thumbnail is not None:
            paths.append(path.parent / exported.thumbnail.filename)
            paths[1].write_bytes(exported.thumbnail.content)
        self.log.info("Collection %r is written to %s.", self.collection_id, ", ".join(map(str, paths)))
        return {"collection_id": self.collection_id, "paths": [str(path) for path in paths]}
