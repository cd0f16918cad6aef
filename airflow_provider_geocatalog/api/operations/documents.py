"""Read STAC documents, and lists of them along their links."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from airflow_provider_geocatalog.api.calls import LoopGuard, attempt, call, located, read_json
from airflow_provider_geocatalog.api.errors import GeoCatalogProtocolError
from airflow_provider_geocatalog.api.http import Endpoint, Flow, Pages, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read_object", "stac_pages"]


def read_object(
    endpoint: Endpoint,
    what: str,
    names: Mapping[str, str] | None = None,
    *,
    query: Mapping[str, str] | None = None,
    body: Any = None,
) -> Flow[dict[str, Any]]:
    """
    Call an operation whose answer is a JSON object.

    :param what: What is expected, for messages.
    :raises GeoCatalogProtocolError: The answer is something else.
    """

    def read(answer: Any) -> dict[str, Any]:
        if not isinstance(answer, dict):
            raise GeoCatalogProtocolError(f"{what} was expected")
        return answer

    return (yield from call(endpoint, names, query=query, body=body, read=read))


def stac_pages(first: Request, member: str) -> Pages[dict[str, Any]]:
    """
    Return the documents of a STAC list, page by page along the links ``next``.

    :param member: Where the documents stand: ``features`` or ``collections``.
    :raises GeoCatalogProtocolError: While reading: an answer is no such list, or the pages repeat.
    """
    guard = LoopGuard()

    def fetch(request: Request) -> Flow[tuple[list[dict[str, Any]], Request | None]]:
        response = yield from attempt(request)
        with located(request, response):
            data = read_json(request, response)
            entries = data.get(member) if isinstance(data, dict) else None
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                raise GeoCatalogProtocolError(f"a list of {member} was expected")
            following = _following(request, data.get("links"))
            guard.check(entries, following)
            return entries, following

    return Pages(fetch, first)


def _following(request: Request, links: Any) -> Request | None:
    """Return the request for the next page: another address, another body, or both, as the link says."""
    if not isinstance(links, list | None):
        raise GeoCatalogProtocolError(
            "'links' is no list, so nobody knows whether there is a next page", path=request.path
        )
    found = [link for link in links or () if isinstance(link, dict) and link.get("rel") == "next"]
    if not found:
        return None
    link = found[0]
    href = link.get("href")
    if request.endpoint.method != "POST":
        if not isinstance(href, str) or not href:
            raise GeoCatalogProtocolError("the link to the next page has no href")
        return replace(request, query={}, url=href)
    body = link.get("body")
    if isinstance(body, dict):
        return replace(request, body={**request.body, **body} if link.get("merge") else {**body})
    # A search by POST goes on by POST: what the link's address adds belongs into the body.
    token = parse_qs(urlsplit(str(href or "")).query).get("token")
    if not token:
        raise GeoCatalogProtocolError("the link to the next page of a search has neither body nor token")
    return replace(request, body={**request.body, "token": token[-1]})
