"""Clone a collection of a public STAC API."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from airflow_provider_geocatalog.api.errors import GeoCatalogError, GeoCatalogInvalidInput
from airflow_provider_geocatalog.operators.base import GeoCatalogWaitingOperator
from airflow_provider_geocatalog.operators.collections import CreatingOperator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_geocatalog.api.collection_plan import CollectionPlan, WantedCollection
    from airflow_provider_geocatalog.api.flows.collections import CollectionChange, IfExists

__all__ = ["GeoCatalogCloneCollectionOperator"]

#: The open Planetary Computer, and how the address of what it says about showing a collection follows from that.
PLANETARY_COMPUTER = "https://planetarycomputer.microsoft.com/api/stac/v1"
_STAC, _MOSAIC_INFO = "/stac/v1", "/data/v1/mosaic/info"
_AUTO = "auto"
_TIMEOUT, _WITHIN = 30.0, 120.0  # seconds without a byte, and altogether
_MOST_BYTES = 16 * 2**20  # of a document or a file
_CHUNK = 2**16
_DONE = {"create": "created", "replace": "replaced", "keep": "unchanged"}


class GeoCatalogCloneCollectionOperator(CreatingOperator):
    """
    Clone a collection of a public STAC API: its metadata, its thumbnail, and how it is shown; none of its items.

    Assets, links and members that say where the source keeps its data are left out. Render options and mosaics get ids
    made of their names, as in the service's API tutorial. A second run writes nothing; if the source has changed, it
    writes the changes. What the clone has beyond the source's render options and mosaics stays.

    :param source_collection_id: The collection to clone.
    :param source_url: The STAC API that has it; https, or http on this machine. No credentials are sent.
    :param collection_id: Id of the clone; that of the source, if not given.
    :param configuration_url: Where the source says how its collections are shown, in the form of the Planetary
        Computer's ``/api/data/v1/mosaic/info``; it is asked with ``?collection=``. ``auto`` looks there if the source's
        address ends like the Planetary Computer's; ``None`` clones no configuration.
    :param thumbnail: Whether the thumbnail is cloned.
    :param ids: Ids of render options and mosaics by their names, where those made of the names are the same.
    :param if_exists: ``update`` (bring the clone in line) or ``fail``.
    :param dry_run: Send nothing to the GeoCatalog that changes anything; log and return what would be written.
    :param geocatalog_conn_id: Connection to the GeoCatalog.
    :param deferrable: Wait in the triggerer, without a worker; also for the id to become free.
    :param poll_interval: Seconds between polls.
    :param timeout: Seconds to wait at most, for the id and again for the creation.
    :param outage_budget: Seconds for which failing polls are ridden out.
    :param cancel_on_kill: Whether the creation is cancelled when the task is stopped.
    :return: ``collection_id``, ``action`` (``created``, ``updated``, ``unchanged``), ``changed`` (the members that an
        update has changed), lists of what else was ``created``, ``replaced`` and ``unchanged`` and, of a dry run,
        ``dry_run`` and ``plan``, as XCom.
    :raises GeoCatalogInvalidInput: Everything that is wrong with the arguments, or with the source, at once; nothing
        was written.
    :raises GeoCatalogConflict: The clone exists and ``if_exists`` is ``fail``.
    """

    template_fields: Sequence[str] = (
        "source_collection_id",
        "source_url",
        "collection_id",
        "configuration_url",
        "ids",
        "if_exists",
        *GeoCatalogWaitingOperator.template_fields,
    )

    def __init__(
        self,
        *,
        source_collection_id: str,
        source_url: str = PLANETARY_COMPUTER,
        collection_id: str | None = None,
        configuration_url: str | None = _AUTO,
        thumbnail: bool = True,
        ids: Mapping[str, str] | None = None,
        if_exists: str = "update",
        **kwargs: Any,
    ) -> None:
        # What follows the creation needs the collection.
        super().__init__(if_exists=if_exists, wait_for_completion=True, **kwargs)
        self.source_collection_id = source_collection_id
        self.source_url = source_url
        self.collection_id = collection_id
        self.configuration_url = configuration_url
        self.thumbnail = thumbnail
        self.ids = ids
        self._clone: WantedCollection | None = None

    def _policy(self) -> IfExists:
        from airflow_provider_geocatalog.api.flows.collections import IfExists

        policy = super()._policy()
        if policy is IfExists.SKIP:
            raise GeoCatalogInvalidInput("if_exists is 'skip'; a clone takes 'update' or 'fail'")
        return policy

    def _wanted(self) -> dict[str, Any]:
        return dict(self._load().collection or {})

    def _load(self) -> WantedCollection:
        """Return what the source publishes, as it is to be in the GeoCatalog."""
        if self._clone is None:
            from airflow_provider_geocatalog.api.flows.collection_clone import clone_of
            from airflow_provider_geocatalog.api.validation import refuse

            refuse("the collection cannot be cloned", self._problems())
            url = f"{self.source_url.rstrip('/')}/collections/{quote(self.source_collection_id, safe='')}"
            source = _fetch_object(url, "the collection")
            problems: list[str] = []
            with _collecting(problems):
                configuration = self._fetch_configuration()
            with _collecting(problems):
                thumbnail = self._fetch_thumbnail(source, url)
            self._clone = clone_of(
                source,
                None if problems else configuration,
                None if problems else thumbnail,
                collection_id=self.collection_id or self.source_collection_id,
                ids=self.ids,
                problems=problems,
            )
        return self._clone

    def _problems(self) -> list[str]:
        from airflow_provider_geocatalog.api.validation import collection_id_problems

        problems = collection_id_problems(self.collection_id or self.source_collection_id)
        urls = {"source_url": self.source_url}
        if self.configuration_url not in (None, "", _AUTO):
            urls["configuration_url"] = str(self.configuration_url)
        problems += [f"{name} {url!r} is no https URL" for name, url in urls.items() if not _may_be_read(url)]
        if not isinstance(self.ids, dict | None):
            problems.append("ids have to be an object: ids by names")
        return problems

    def _fetch_configuration(self) -> dict[str, Any] | None:
        url, query = self.configuration_url, {"collection": self.source_collection_id}
        if url and url != _AUTO:
            return _fetch_object(url, "its configuration", query)
        base = self.source_url.rstrip("/")
        if url == _AUTO and base.endswith(_STAC):
            try:
                return _fetch_object(f"{base.removesuffix(_STAC)}{_MOSAIC_INFO}", "its configuration", query)
            except _NotThere as error:
                self.log.info("%s", error)
        self.log.info("There is no configuration to clone.")
        return None

    def _fetch_thumbnail(self, source: Mapping[str, Any], url: str) -> bytes | None:
        from airflow_provider_geocatalog.api.flows.collection_clone import thumbnail_asset

        asset = thumbnail_asset(source) if self.thumbnail else None
        if asset is None:
            self.log.info("There is no thumbnail to clone.")
            return None
        return _fetch(urljoin(url, str(asset.get("href"))), "its thumbnail")

    def _finish_at_once(self, change: CollectionChange) -> dict[str, Any]:
        """Configure the clone, now that it is there, and upload its thumbnail."""
        plan = self._apply(self._load())
        told: dict[str, list[str]] = {done: [] for done in _DONE.values()}
        for entry in plan.entries:
            told[_DONE[entry.action.value]].append(entry.label)
        self.log.info("Collection %r: %s.", change.collection_id, plan.summary)
        return {**self._summary(change), **told}

    def _apply(self, clone: WantedCollection) -> CollectionPlan:
        from airflow_provider_geocatalog.api.flows.collection_plan import apply_collection, plan_collection

        if not self._is_dry_run:
            return self.hook.run(apply_collection(replace(clone, collection=None)))
        plan = self.hook.run(plan_collection(clone))
        plan = replace(plan, entries=tuple(entry for entry in plan.entries if entry.kind != "collection"))
        for entry in plan.changes:
            if entry.write is not None:
                self._carry_out(entry.write())
        return plan


# --- the source ------------------------------------------------------------------------------------------------------


class _NotThere(GeoCatalogInvalidInput):
    """The source does not have something."""


@contextmanager
def _collecting(problems: list[str]) -> Iterator[None]:
    """Keep what is wrong for later, so that it is told with the rest."""
    try:
        yield
    except GeoCatalogInvalidInput as error:
        problems += error.problems


def _may_be_read(url: str) -> bool:
    from airflow_provider_geocatalog.api.validation import is_loopback

    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
    )


def _fetch(url: str, what: str, query: Mapping[str, str] | None = None) -> bytes:
    """
    Read a document or a file of the source, bounded in time and size.

    :param what: What it is, for messages.
    :raises GeoCatalogInvalidInput: It is not there, or cannot be it.
    :raises GeoCatalogError: It cannot be read now.
    """
    import requests

    if not _may_be_read(url):
        raise GeoCatalogInvalidInput(f"{what} cannot be read from {url}: that is no https URL")
    give_up = time.monotonic() + _WITHIN
    try:
        # An 'auth' that does nothing keeps the credentials of a .netrc at home.
        with requests.get(url, params=query, timeout=_TIMEOUT, stream=True, auth=lambda request: request) as answer:
            if answer.status_code == 429 or answer.status_code >= 500:
                raise GeoCatalogError(f"{what} cannot be read: {url} answered {answer.status_code}", retryable=True)
            if answer.status_code != 200:
                raise _NotThere(f"{what} cannot be read: {url} answered {answer.status_code}")
            content = bytearray()
            for chunk in answer.iter_content(_CHUNK):
                content += chunk
                if len(content) > _MOST_BYTES:
                    raise GeoCatalogInvalidInput(f"{what} at {url} has more than {_MOST_BYTES} bytes")
                if time.monotonic() > give_up:
                    raise GeoCatalogError(f"{what} did not come from {url} within {_WITHIN:.0f} s", retryable=True)
            return bytes(content)
    except requests.RequestException as error:
        # What requests raises has the query in its text.
        raise GeoCatalogError(f"{what} cannot be read from {url} ({type(error).__name__})", retryable=True) from None


def _fetch_object(url: str, what: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
    content = _fetch(url, what, query)
    try:
        value = json.loads(content)
    except ValueError as error:
        raise GeoCatalogInvalidInput(f"{what} at {url} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise GeoCatalogInvalidInput(f"{what} at {url} is no JSON object")
    return value
