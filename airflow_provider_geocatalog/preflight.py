"""
Look before an ingestion whether it can succeed: what the catalog's documents and the items' assets need to be read, and
what the service would not take. Nothing is sent to the service; what it has is handed in.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from airflow_provider_geocatalog.api.flows.preflight import life_problem
from airflow_provider_geocatalog.api.redaction import redact
from airflow_provider_geocatalog.api.validation import item_problems, sas_expiry
from airflow_provider_geocatalog.catalog_check import CatalogReader, in_parallel, needs_credential
from airflow_provider_geocatalog.static_catalog import CatalogError, CatalogItem, read_document, walk_items

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterator, Sequence

    import requests

    from airflow_provider_geocatalog.api.flows.preflight import KnownSources

__all__ = ["Container", "Preflight", "PreflightReport", "read_anonymously"]

_NAMED = 20  # items of each problem
_PROBE_TIMEOUT = 10.0  # seconds for the answer to an anonymous read
_MOST_CONTAINERS = 100  # probed and reported; a catalog that leads to more is not one that somebody meant
_MOST_ITEMS_PER_RUN = 10_000  # of a draft that no later source confirms (geocatalog-api 11.3), so nothing is refused
#: Answers to an anonymous read of what is not public; Azure has its own words for the last, and a 404 for hiding it.
_PRIVATE = frozenset({401, 403, 409})
_WITHOUT_HEAD = frozenset({405, 501})
_SIGNATURES = frozenset({"sig", "X-Amz-Signature"})
#: What differs between problems of one kind: where a document breaks off, a time, the value that is wrong.
_UNIQUE_DETAIL = re.compile(r" \(.*| at \d.*|: .*")
_VALUE = re.compile(r"""(?<=^asset )(['"]).*?\1(?=: )|(?<= is )(['"]).*\2""")


@dataclass
class _Names:
    """What has a problem: how many, and the first of them by name."""

    count: int = 0
    first: list[str] = field(default_factory=list)
    last: str | None = None

    def add(self, name: str) -> None:
        self.count, self.last = self.count + 1, name
        if len(self.first) < _NAMED:
            self.first.append(redact(name))

    def __str__(self) -> str:
        named = ", ".join(self.first)
        return f"{self.count}: {named}" if self.count == len(self.first) else f"{self.count}, the first: {named}"


@dataclass
class _Kind:
    """One kind of problem: what the first of its kind says, and what has it."""

    example: str
    names: _Names = field(default_factory=_Names)
    varied: bool = False

    def __str__(self) -> str:
        return f"{self.example}{' (for example)' if self.varied else ''} - {self.names}"


class _Kinds(dict[str, _Kind]):
    """Problems by kind, so that ten thousand of a kind are one sentence."""

    def add(self, text: str, name: str, *, kind: str | None = None) -> None:
        found = self.setdefault(kind or text, _Kind(text))
        found.varied |= found.example != text
        if found.names.last != name:  # an item with five such assets is one item
            found.names.add(name)


@dataclass
class Container:
    """
    A container that has to be read.

    :param url: Its URL in normal form.
    :param sample: A blob in it.
    :param documents: Documents of the catalog in it, items among them.
    :param items: Items with assets in it.
    :param opened_by: ``source``, ``public``, ``nothing``, or ``unknown`` where the worker cannot tell.
    """

    url: str
    sample: str
    documents: int = 0
    items: _Names = field(default_factory=_Names)
    opened_by: str = "unknown"
    source_id: str | None = None
    expires_at: datetime.datetime | None = None

    @property
    def use(self) -> str:
        """What is in it, in words."""
        uses = [f"{self.documents} documents of the catalog"] if self.documents else []
        if self.items.count:
            uses.append(f"assets of items ({self.items})")
        return " and ".join(uses)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "url": self.url,
            "documents": self.documents,
            "items": self.items.count,
            "opened_by": self.opened_by,
            "source_id": self.source_id,
            "expires_at": self.expires_at.isoformat() if self.expires_at else None,
        }


@dataclass
class PreflightReport:
    """
    What a preflight found.

    :param problems: What makes the ingestion fail, wholly or in part.
    :param warnings: What may do so, or could not be looked at.
    :param items: Items that there are, as far as they were counted.
    :param items_read: Items that were looked at.
    :param complete: Whether everything was looked at.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    documents: int = 0
    items: int = 0
    items_read: int = 0
    complete: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object; of many containers it holds the first, those with problems before."""
        order = ("nothing", "unknown", "source", "public")
        containers = sorted(self.containers, key=lambda one: order.index(one.opened_by))
        return {
            "problems": self.problems,
            "warnings": self.warnings,
            "containers": [one.to_json() for one in containers[:_MOST_CONTAINERS]],
            "documents": self.documents,
            "items": self.items,
            "items_read": self.items_read,
            "complete": self.complete,
        }


class _OutOfTimeError(Exception):
    """The walk has to stop."""


class Preflight:
    """
    One look at what an ingestion will read. Add what that is, then ask for the report.

    :param sources: What the GeoCatalog has.
    :param min_lifetime: Seconds that the credentials have to live.
    :param max_items: Items of a catalog that are read; of more, so many are read in equal distances.
    :param time_limit: Seconds that the look may take.
    :param local: Whether the GeoCatalog is on this machine (the emulator), which may read ``file:`` URLs.
    """

    def __init__(
        self,
        sources: KnownSources,
        *,
        min_lifetime: float,
        max_items: int = 10_000,
        time_limit: float = 300.0,
        local: bool = False,
    ) -> None:
        self._sources = sources
        self._schemes = {"http", "https", "file"} if local else {"http", "https"}
        self._min_lifetime = min_lifetime
        self._max_items = max_items
        self._time_limit = time_limit
        self._give_up_at = time.monotonic() + time_limit
        self._containers: dict[str, Container] = {}
        self._defects = _Kinds()
        self._doubts = _Kinds()
        self._ids: Counter[str] = Counter()
        self._report = PreflightReport()

    # --- what will be read --------------------------------------------------------------------------------------------

    def add_catalog(self, url: str, reader: CatalogReader) -> None:
        """
        Look at a static catalog: all its catalog documents, and its items.

        :param url: The root document.
        :param reader: How the worker reads.
        """
        links: list[CatalogItem] = []

        def read(url: str) -> bytes:
            if time.monotonic() > self._give_up_at:
                raise _OutOfTimeError
            self.add_document(url)
            self._report.documents += 1
            return reader(url)

        def unusable(error: CatalogError) -> None:
            self._unreadable(error, reader, "catalog documents")

        try:
            for link in walk_items(url, read, unusable):
                links.append(link)
                self.add_document(link.url)
        except _OutOfTimeError:
            self._partial(f"the walk through the catalog stopped after {self._time_limit:.0f} s")
        self._report.items += len(links)
        if not links and self._report.complete and not self._defects:
            self._doubts.add("the catalog has no items", url)
        self._read_items(links, reader)

    def _read_items(self, links: Sequence[CatalogItem], reader: CatalogReader) -> None:
        chosen = links
        if len(links) > self._max_items:
            chosen = [links[number * len(links) // self._max_items] for number in range(self._max_items)]
        read = 0
        for link, document, error in in_parallel(lambda link: _read(link, reader), self._in_time(chosen)):
            read += 1
            if error is not None:
                self._unreadable(error, reader, "item documents")
            elif document is not None:
                self._add_item(document, link.url)
        if read < len(links):
            why = f"as max_items says ({self._max_items})" if read == len(chosen) else "until the time was over"
            self._partial(f"{read} of {len(links)} items were read, {why}")

    def _in_time(self, links: Sequence[CatalogItem]) -> Iterator[CatalogItem]:
        return itertools.takewhile(lambda _: time.monotonic() <= self._give_up_at, links)

    def add_items(self, items: Sequence[Any]) -> None:
        """Look at items that are at hand."""
        self._report.items += len(items)
        for number, item in enumerate(items, 1):
            self._add_item(item, f"item number {number}")

    def add_document(self, url: str) -> None:
        """Take note of a document that the service will read."""
        container, _ = self._needs(url)  # whoever reads it says what is wrong
        if container is not None:
            container.documents += 1

    def warn(self, text: str) -> None:
        """Say in the report what cannot be looked at here."""
        self._report.complete = False
        self._report.warnings.append(text)

    # --- what was found -----------------------------------------------------------------------------------------------

    def _partial(self, why: str) -> None:
        self.warn(f"partial: {why}; what was not read may have further problems")

    def _unreadable(self, error: CatalogError, reader: CatalogReader, what: str) -> None:
        if needs_credential(error, reader):
            self._report.complete = False
            self._doubts.add(f"unknown: {what} that the worker has no credential to read", error.url)
        else:
            text, kind = f"{what}: {error.reason}", f"{what}: {_UNIQUE_DETAIL.sub('', error.reason)}"
            self._defects.add(text, error.url, kind=kind)

    def _add_item(self, item: Any, where: str) -> None:
        self._report.items_read += 1
        if not isinstance(item, dict):
            self._defects.add("items: not an object", where)
            return
        name = str(item.get("id") or where)
        self._ids[name] += 1
        for problem in item_problems(item):
            self._defects.add(f"items: {problem}", name, kind=_VALUE.sub("", problem))
        assets = item.get("assets")
        containers = {}
        for key, asset in assets.items() if isinstance(assets, dict) else ():
            href = asset.get("href") if isinstance(asset, dict) else None
            if not isinstance(href, str) or "://" not in href:
                continue  # told already
            container, trouble = self._needs(href)
            if trouble:
                self._defects.add(f"items: asset {key!r}: {trouble}", name, kind=_UNIQUE_DETAIL.sub("", trouble))
            if container is not None:
                containers[container.url] = container
        for container in containers.values():
            container.items.add(name)

    def _needs(self, href: str) -> tuple[Container | None, str | None]:
        """Return the container that has to be opened for a URL, and what is wrong with it."""
        try:
            parts = urlsplit(href)
            if parts.scheme not in self._schemes:
                return None, f"the service does not read {parts.scheme}: URLs"
            if _SIGNATURES.isdisjoint(parse_qs(parts.query)):
                return self._container(href), None
        except ValueError as error:
            return None, f"its 'href' is no URL ({error})"
        # It brings along what opens it.
        shortcoming = self._shortcoming(sas_expiry(parts.query))
        return None, f"the signature in its 'href' {shortcoming}" if shortcoming else None

    def _shortcoming(self, expires_at: datetime.datetime | None) -> str | None:
        return life_problem(expires_at, now=self._sources.now, min_lifetime=self._min_lifetime)

    def _container(self, url: str) -> Container | None:
        """Return the container of a URL, ``None`` for what is in none."""
        if urlsplit(url).scheme not in {"http", "https"}:
            return None
        key = self._sources.container_of(url)
        if key not in self._containers:
            self._containers[key] = Container(key, sample=url)
        return self._containers[key]

    # --- the report ---------------------------------------------------------------------------------------------------

    def report(self) -> PreflightReport:
        """Return everything that was found, once all is added."""
        report = self._report
        report.containers = list(self._containers.values())
        without = []
        for container in report.containers:
            source = self._sources.source_of(container.url)
            if source is None:
                without.append(container)
                continue
            container.opened_by, container.source_id = "source", source.source_id
            container.expires_at = source.expires_at
            shortcoming = self._shortcoming(source.expires_at)
            if shortcoming:
                report.problems.append(
                    f"container {container.url}: its ingestion source {source.source_id} {shortcoming}; in it are "
                    f"{container.use}"
                )
        self._probe(without)
        report.problems += map(str, self._defects.values())
        report.warnings += map(str, self._doubts.values())
        self._judge_numbers()
        return report

    def _probe(self, containers: Sequence[Container]) -> None:
        report = self._report
        tried: dict[str, tuple[str, str]] = {}
        in_time = itertools.takewhile(lambda _: time.monotonic() <= self._give_up_at, containers[:_MOST_CONTAINERS])
        for container, answer in in_parallel(lambda one: (one, read_anonymously(one.sample)), in_time):
            tried[container.url] = answer
        for container in containers:
            container.opened_by, reason = tried.get(container.url, ("unknown", "it was not tried"))
            if container.opened_by == "nothing":
                report.problems.append(
                    f"container {container.url} has no ingestion source and is not public ({reason}); in it are "
                    f"{container.use}"
                )
            elif container.opened_by == "unknown":
                report.warnings.append(
                    f"unknown: container {container.url} has no ingestion source, and whether it is public cannot be "
                    f"told from here ({reason}); in it are {container.use}"
                )

    def _judge_numbers(self) -> None:
        report = self._report
        if report.items > _MOST_ITEMS_PER_RUN:
            report.warnings.append(
                f"there are {report.items} items; a draft of the service's limits has {_MOST_ITEMS_PER_RUN} for a run, "
                "which nothing confirms"
            )
        twice = _Names()
        for name, count in self._ids.items():
            if count > 1:
                twice.add(name)
        if twice.count:
            report.warnings.append(f"ids that several items have, of which the service keeps one: {twice}")


def _read(link: CatalogItem, reader: CatalogReader) -> tuple[CatalogItem, dict[str, Any] | None, CatalogError | None]:
    try:
        return link, read_document(link.url, reader), None
    except CatalogError as error:
        return link, None, error


def read_anonymously(url: str) -> tuple[str, str]:
    """Return what opens a blob for somebody without a credential (``public``, ``nothing`` or ``unknown``), and why."""
    import requests

    url = urlsplit(url)._replace(query="", fragment="").geturl()
    options: dict[str, Any] = {"allow_redirects": False, "auth": _without_credential, "stream": True}
    try:
        answer = requests.head(url, timeout=_PROBE_TIMEOUT, **options)
        if answer.status_code in _WITHOUT_HEAD:
            answer.close()
            answer = requests.get(url, timeout=_PROBE_TIMEOUT, headers={"Range": "bytes=0-0"}, **options)
        answer.close()
    except requests.RequestException as error:
        return "unknown", f"an anonymous read got no answer: {type(error).__name__}"
    status, code = answer.status_code, str(answer.headers.get("x-ms-error-code", ""))
    reason = f"an anonymous read was answered {status} {code or answer.reason}"
    if 200 <= status < 300 or code == "BlobNotFound":  # of what Azure hides it does not say that it is missing
        return "public", reason
    hidden_by_azure = status == 404 and (code or ".blob." in (urlsplit(url).hostname or ""))
    return ("nothing" if status in _PRIVATE or hidden_by_azure else "unknown"), reason


def _without_credential(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from sending what ``.netrc`` holds."""
    return request
