"""
Links from a task to what it worked on: the collection, the operation, the ingestion sources.

Airflow 3 evaluates a link on the worker at the end of each phase of a task and keeps its text, Airflow 2 does so in the
webserver. A task that was deferred goes on as another object. So links read nothing but XComs.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_geocatalog.triggers.ingestion import OWNER_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk.types import TaskInstanceKey

    from airflow_provider_geocatalog.hooks.geocatalog import GeoCatalogHook

__all__ = [
    "LINKS",
    "LINKS_KEY",
    "GeoCatalogCollectionLink",
    "GeoCatalogOperationLink",
    "GeoCatalogSourcesLink",
    "link_xcoms",
    "push_links",
]

log = logging.getLogger(__name__)

LINKS_KEY = "geocatalog_links"  # of the XCom
_OPERATION = "__operation_id__"  # stands in its URL for what the task has not started yet


def push_links(
    context: Context, hook: GeoCatalogHook, collection_id: Any = None, *, operation_id: str | None = None
) -> None:
    """
    Leave behind what a task's links need; it holds no secret. No task fails because of its links.

    :param context: The task's context.
    :param hook: The GeoCatalog.
    :param collection_id: The collection that the task is about, if it is known.
    :param operation_id: The operation; if not given, the one that the task remembers.
    """
    try:
        ti: Any = context["ti"]
        ti.xcom_push(key=LINKS_KEY, value=_urls(hook, collection_id, operation_id or _OPERATION))
    except Exception as error:  # of a connection that cannot be used, the task itself says what is wrong
        log.debug("There are no links: %s", error)


async def link_xcoms(hook: GeoCatalogHook, collection_id: str | None, operation_id: str) -> dict[str, Any]:
    """
    Return the XComs by which a task has links that ends in the triggerer, where no worker evaluates them.

    :param hook: The GeoCatalog.
    :param collection_id: The collection that the task is about, if it is known.
    :param operation_id: The operation.
    """
    try:
        await hook.aget_client()
        urls = _urls(hook, collection_id, operation_id)
    except Exception as error:
        log.debug("There are no links: %s", error)
        return {}
    # Airflow 2 has no such keys, and asks the links themselves.
    evaluated = {link.xcom_key: urls[link.kind] for link in LINKS if hasattr(link, "xcom_key") and link.kind in urls}
    return {LINKS_KEY: urls, **evaluated}


def _urls(hook: GeoCatalogHook, collection_id: Any, operation_id: str) -> dict[str, str]:
    from airflow_provider_geocatalog.api.endpoints import GET_COLLECTION, GET_OPERATION, LIST_SOURCES

    urls = {
        "sources": hook.url_of(LIST_SOURCES),
        "operation": hook.url_of(GET_OPERATION, operation_id=operation_id),
    }
    if isinstance(collection_id, str) and collection_id:
        explorer = hook.client.settings.address_of(collection_id)
        urls["collection"] = explorer or hook.url_of(GET_COLLECTION, collection_id=collection_id)
    return urls


def _told(ti_key: TaskInstanceKey, key: str) -> dict[str, Any]:
    value = XCom.get_value(ti_key=ti_key, key=key)
    return value if isinstance(value, dict) else {}


class _Link(BaseOperatorLink):
    """
    A link of which a task has told.

    :cvar kind: Which of the URLs it is.
    """

    kind: ClassVar[str]

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL, or nothing if there is none (yet)."""
        return str(_told(ti_key, LINKS_KEY).get(self.kind) or "")


class GeoCatalogCollectionLink(_Link):
    """The collection in the GeoCatalog Explorer; of a GeoCatalog without one, such as the emulator, its document."""

    name = "GeoCatalog collection"
    kind = "collection"


class GeoCatalogOperationLink(_Link):
    """The operation, or the run of an ingestion, that the task has started or waits for."""

    name = "GeoCatalog operation"
    kind = "operation"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL, or nothing if nothing was started (yet)."""
        url = super().get_link(operator, ti_key=ti_key)
        if _OPERATION not in url:
            return url
        operation_id = _told(ti_key, OWNER_KEY).get("operation_id")
        return url.replace(_OPERATION, quote(str(operation_id), safe="")) if operation_id else ""


class GeoCatalogSourcesLink(_Link):
    """The ingestion sources of the GeoCatalog."""

    name = "GeoCatalog ingestion sources"
    kind = "sources"


#: What operators and sensors have.
LINKS: tuple[_Link, ...] = (GeoCatalogCollectionLink(), GeoCatalogOperationLink(), GeoCatalogSourcesLink())
