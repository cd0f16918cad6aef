"""Speak to a STAC API through pystac-client: one origin, headers that renew themselves, pauses, and no secret told."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import requests
from pystac_client import Client
from pystac_client.conformance import ConformanceClasses
from pystac_client.stac_api_io import StacApiIO

from airflow_provider_geocatalog import __version__
from airflow_provider_geocatalog.api.errors import RETRIED_STATUSES, GeoCatalogError, retry_after_of
from airflow_provider_geocatalog.api.http import Response
from airflow_provider_geocatalog.api.redaction import MASK
from airflow_provider_geocatalog.api.validation import is_loopback
from airflow_provider_geocatalog.transfer.source import ItemSourceError
from airflow_provider_geocatalog.transfer.stac_api import is_secret_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SearchPage", "SearchRequest", "StacApi"]

_LONGEST_PAUSE = 60.0  # seconds before a retry, where the API names none
_LONGEST_WAIT = 600.0  # seconds of pauses for one request
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_EXCERPT = 300  # characters of an answer in a message
_SHORTEST_SECRET = 6  # characters; anything shorter would be found everywhere
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HINTS = {
    400: "The API takes offence at the search: look at its filter, query, sortby, fields and limit.",
    401: "Give the API's credentials: a connection, headers, or auth.",
    403: "The credentials may not read this: ask for access, or look at the collections asked for.",
    404: "Check that the URL is the landing page of a STAC API, and that the collections exist.",
    405: "Check that the URL is the landing page of a STAC API.",
}


@dataclass(frozen=True)
class SearchRequest:
    """A request for a page of a search."""

    method: str
    url: str
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def key(self) -> bytes:
        """Return bytes that tell it from others."""
        text = json.dumps([self.method, self.url, self.body, self.headers], sort_keys=True, default=str)
        return blake2b(text.encode(), digest_size=16).digest()


@dataclass(frozen=True)
class SearchPage:
    """
    What a search answered.

    :param features: Its items, unchecked.
    :param matched: How many items there are on all pages, where the API tells.
    :param following: How to get the page after it, if there is one.
    """

    features: list[Any]
    matched: int | None
    following: SearchRequest | None


class StacApi:
    """
    A STAC API.

    :param url: Its landing page. A query string goes with every request.
    :param headers: Returns the header fields of a request; is told whether those before were refused.
    :param auth: As ``requests`` has it: called with every prepared request, which it signs.
    :param timeout: Seconds to wait for the connection, and for each part of an answer.
    :param max_retries: How often a request is repeated that can succeed later.
    :param retry_delay: Seconds before the first repetition; they double, and ``Retry-After`` goes before them.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Callable[[bool], Mapping[str, str]],
        auth: Callable[[requests.PreparedRequest], requests.PreparedRequest] | None,
        timeout: float,
        max_retries: int,
        retry_delay: float,
    ) -> None:
        parts = urlsplit(url)
        path = parts.path.rstrip("/").removesuffix("/search")
        self._root = urlunsplit((parts.scheme, parts.netloc, path or "/", "", ""))
        self._origin = _origin(url)
        self._query = parse_qsl(parts.query, keep_blank_values=True)
        self._headers, self._auth = headers, auth
        self._timeout, self._max_retries, self._retry_delay = timeout, max_retries, retry_delay
        #: For pystac-client, which sends through this object with it.
        self.io = _GuardedIO(self)
        self._session = self.io.session
        self._session.headers["User-Agent"] = (
            f"airflow-provider-geocatalog/{__version__} {requests.utils.default_user_agent()}"
        )
        if is_loopback(parts.hostname):
            self._session.trust_env = False
        self.name = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", ""))
        self.search_url = ""
        self.method = "POST"
        self._conforms_to: list[str] = []

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def open(self) -> None:
        """
        Read the landing page.

        :raises ItemSourceError: It is none, or cannot be read.
        """
        problem = ""
        try:
            client = Client.from_file(self._root, stac_io=self.io)
        except GeoCatalogError:
            raise
        except Exception as error:  # pystac raises whatever the document leads it to
            problem = type(error).__name__
        if problem:
            raise ItemSourceError(f"{self.name} is no landing page of a STAC API ({problem})", hint=_HINTS[404])
        self._conforms_to = [uri for uri in client.get_conforms_to() if isinstance(uri, str)]
        links = [link for link in client.links if link.rel == "search"]
        methods = {str(link.extra_fields.get("method", "")).upper() for link in links}
        if "GET" in methods and "POST" not in methods:
            self.method = "GET"
        hrefs = [str(link.target) for link in links]
        self.search_url = self._address(self._root, hrefs[0] if hrefs else self._root.rstrip("/") + "/search")

    def conforms_to(self, name: str) -> bool:
        """Return whether the API says that it has an extension of item search: ``filter``, ``query``, ..."""
        return any(ConformanceClasses.get_by_name(name).value in uri for uri in self._conforms_to)

    def has_cql2(self, form: str) -> bool:
        """Return whether the API says that it takes filters as ``json`` or ``text``."""
        return any(uri.endswith(f"cql2-{form}") for uri in self._conforms_to)

    def search(self, parameters: dict[str, Any]) -> SearchRequest:
        """Return the request for a search's first page."""
        return SearchRequest(self.method, self.search_url, parameters)

    def page(self, request: SearchRequest, first: SearchRequest) -> SearchPage:
        """
        Return a page.

        :param first: The request for the search's first page, with which links may be merged.
        :raises ItemSourceError: It cannot be had.
        """
        body = self._fetch(request.method, request.url, request.headers, request.body)[1]
        features = body.get("features") if isinstance(body, dict) else None
        if not isinstance(features, list):
            raise ItemSourceError(
                f"{self.name} answered a search with something other than a FeatureCollection",
                status=200,
                hint=_HINTS[404],
            )
        return SearchPage(features, _matched(body), self._following(body, request, first))

    def _following(self, body: dict[str, Any], request: SearchRequest, first: SearchRequest) -> SearchRequest | None:
        links = body.get("links")
        for link in links if isinstance(links, list) else []:
            if isinstance(link, dict) and link.get("rel") == "next" and isinstance(link.get("href"), str):
                url = self._address(request.url, link["href"])
                method = str(link.get("method") or "GET").upper()
                given = link.get("headers")
                headers = {k: str(v) for k, v in given.items()} if isinstance(given, dict) else {}
                if method != "POST":
                    return SearchRequest("GET", url, {}, headers)
                more = link.get("body")
                if not isinstance(more, dict):  # without one, it can only be the search itself, at another address
                    return SearchRequest("POST", url, first.body, headers)
                return SearchRequest("POST", url, {**first.body, **more} if link.get("merge") else more, headers)
        return None

    def _address(self, base: str, href: str) -> str:
        """Return the URL that a link leads to, if the credentials may go there."""
        try:
            parts = urlsplit(urljoin(base, href))
            if self._origin[0] == "https" and _origin(parts.geturl()) == ("http", self._origin[1], 80):
                # An API behind a proxy that ends TLS often does not know its own scheme.
                parts = parts._replace(scheme="https", netloc=self._origin_netloc)
            foreign = _origin(parts.geturl()) != self._origin
        except ValueError:
            foreign = True
        if foreign:
            raise ItemSourceError(
                f"{self.name} leads to another origin ({_host(href)}), where its credentials must not go",
                hint="If that is the API's right address, give that one as the URL.",
                status=200,
            )
        return urlunsplit(parts._replace(fragment=""))

    @property
    def _origin_netloc(self) -> str:
        return urlsplit(self._root).netloc

    def _with_query(self, url: str) -> str:
        """Return a URL with the parameters that go with every request, unless it has them."""
        parts = urlsplit(url)
        known = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        missing = urlencode([pair for pair in self._query if pair[0] not in known])
        return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, missing)))))

    # --- one exchange, and its repetitions --------------------------------------------------------------------------

    def _fetch(
        self, method: str, url: str, headers: Mapping[str, str], parameters: Mapping[str, Any]
    ) -> tuple[bytes, Any]:
        """Return an answer and the JSON in it."""
        waited, tries, redirects = 0.0, 0, 0
        renew = renewed = False
        while True:
            answer, error = self._exchange(method, url, headers, parameters, renew=renew)
            renew = renew and answer is None  # what did not get that far has not renewed them for sure
            if answer is not None:
                if answer.status_code in _REDIRECTS and answer.headers.get("Location"):
                    redirects += 1
                    target = self._address(url, answer.headers["Location"])
                    if redirects > _MAX_REDIRECTS or (method != "GET" and answer.status_code < 307):
                        raise ItemSourceError(f"{self.name} redirects without end", status=answer.status_code)
                    url, parameters = target, parameters if method != "GET" else {}
                    continue
                if answer.status_code == 401 and not renewed:
                    renew = renewed = True
                    continue
                try:
                    if 200 <= answer.status_code < 300:
                        return answer.content, json.loads(answer.content)
                except (ValueError, RecursionError):
                    pass
                error = self._refused(method, url, answer)
            assert error is not None  # noqa: S101
            pause = error.retry_after
            if pause is None:
                pause = min(self._retry_delay * 2**tries, _LONGEST_PAUSE) * random.uniform(0.8, 1.2)
            if not error.retryable or tries >= self._max_retries or waited + pause > _LONGEST_WAIT:
                raise error
            time.sleep(pause)
            waited, tries = waited + pause, tries + 1

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], parameters: Mapping[str, Any], *, renew: bool
    ) -> tuple[requests.Response | None, ItemSourceError | None]:
        """Return an answer, or why there is none. Errors are made out here: those of requests hold header fields."""
        try:
            request = requests.Request(
                method,
                self._with_query(url),
                headers={**headers, **self._headers(renew)},
                json=parameters if method == "POST" else None,
                params=parameters if method == "GET" else None,
                auth=self._auth or _as_it_is,
            )
            prepared = self._session.prepare_request(request)
        except GeoCatalogError:
            raise
        except Exception as error:  # a user's callable, or values that cannot be header fields
            # What they ask may have given no answer. What requests refuses as no header field is both.
            passes = isinstance(error, OSError) and not isinstance(error, ValueError)
            problem = f"no request to {self.name} can be made: headers or auth raised {type(error).__name__}"
            return None, ItemSourceError(problem, retryable=passes)
        if _origin(str(prepared.url)) != self._origin:
            return None, ItemSourceError(f"the auth given for {self.name} leads to another origin")
        is_safe = self._origin[0] == "https" or is_loopback(self._origin[1])
        if not is_safe and any(map(is_secret_name, prepared.headers)):
            return None, ItemSourceError(
                f"{self.name} is plain http: credentials go only over https or to loopback",
                hint="Give an https address, or no credentials.",
            )
        settings = self._session.merge_environment_settings(prepared.url, {}, None, None, None)
        try:
            return self._session.send(prepared, timeout=self._timeout, allow_redirects=False, **settings), None
        except requests.RequestException as error:
            broken = "gave no answer in time" if isinstance(error, requests.Timeout) else "cannot be reached"
            kind = type(error).__name__
        return None, ItemSourceError(f"{self.name} {broken} ({kind})", method=method, path=_path(url), retryable=True)

    def _refused(self, method: str, url: str, answer: requests.Response) -> ItemSourceError:
        """Return the error for an answer that is none of a STAC API, or that refuses."""
        status = answer.status_code
        text = answer.content[: _EXCERPT * 10].decode("utf-8", "replace").strip()
        is_page = text.startswith("<") or "html" in answer.headers.get("Content-Type", "")
        values = [value for name, value in answer.request.headers.items() if is_secret_name(name)]
        values += [value for _, value in self._query]
        for secret in sorted({part for value in values for part in (str(value), *str(value).split())}, key=len)[::-1]:
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, MASK)
        said = " ".join(text.split())[:_EXCERPT] or "no details in the answer"
        if status < 300:
            said = f"{'a web page' if is_page else 'broken JSON'} instead of JSON: {said}"
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return ItemSourceError(
            f"{self.name}: {said}",
            status=status,
            method=method,
            path=_path(url),
            hint=_HINTS.get(404 if status < 300 else status),
            retryable=status in RETRIED_STATUSES or (status < 300 and not is_page),
            retry_after=retry_after_of(Response(status, headers, b"")),
        )


class _GuardedIO(StacApiIO):
    """Give pystac-client the guarded way to send."""

    def __init__(self, api: StacApi) -> None:
        super().__init__(max_retries=None)
        self._api = api

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Return the text of an answer."""
        return self._api._fetch((method or "GET").upper(), href, headers or {}, parameters or {})[0].decode()


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Do what an ``auth`` that adds nothing does; without one, requests would take credentials from ``.netrc``."""
    return request


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _host(href: str) -> str:
    try:
        return urlsplit(href).hostname or "no host"
    except ValueError:
        return "no URL"


def _path(url: str) -> str:
    return urlsplit(url).path


def _matched(body: dict[str, Any]) -> int | None:
    """Return the number of items on all pages; the newer of the two members goes first."""
    context = body.get("context")
    for value in (body.get("numberMatched"), context.get("matched") if isinstance(context, dict) else None):
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
