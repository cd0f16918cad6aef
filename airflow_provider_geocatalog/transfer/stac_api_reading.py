"""
Read a search to its end and prove that the end is one.

APIs stop early without saying so: at 10,000 items, at a ``next`` that leads back, at pages whose order changes while
they are read. So every stretch of time is read as if it were complete and then judged (:meth:`Reading._verdict`). What
cannot be believed is cut in two and read again, until it can be, or until it cannot be cut: then reading fails.
"""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_geocatalog.transfer.seen_items import SeenItems, item_key
from airflow_provider_geocatalog.transfer.source import ItemSourceError, Page
from airflow_provider_geocatalog.transfer.windows import item_moment, moment, moment_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from airflow_provider_geocatalog.transfer.stac_api_requests import SearchPage, SearchRequest

__all__ = ["Reading"]

log = logging.getLogger(__name__)

_MOST_EMPTY_PAGES = 20  # in a row, before an API is held to go on forever
_MOST_STALE_PAGES = 3  # in a row that bring nothing new
_MICROSECOND = datetime.timedelta(microseconds=1)
_MILLISECOND = datetime.timedelta(milliseconds=1)  # some APIs know no smaller times
_DAY = datetime.timedelta(days=1)
_NARROWER = (
    "Ask for less at once (collections, bbox, filter, a window), or give known_ceilings without this number if you "
    "know that it is no ceiling of the API."
)


class _Api(Protocol):
    name: str

    def search(self, parameters: dict[str, Any]) -> SearchRequest: ...

    def page(self, request: SearchRequest, first: SearchRequest) -> SearchPage: ...


@dataclass
class Leaf:
    """
    A stretch of time that is read with one search, and what became of it.

    :param start: In it.
    :param end: No longer in it.
    :param limit: Items that are asked for on a page.
    :param strict: Ask for what is before the end. Otherwise the end is asked for as well, so that an API which knows
        whole seconds only loses nothing.
    :param is_second_look: It was read before, with the same bounds.
    """

    start: datetime.datetime | None
    end: datetime.datetime | None
    limit: int
    strict: bool = False
    is_second_look: bool = False

    #: Its place in the order of reading, once it is read.
    number: int = 0
    #: Different items that came since it was begun, in it and in what it was cut into.
    found: int = 0
    #: How many of those that belong to it came in itself, and how many of them again in what it was cut into.
    own: int = 0
    again: int = 0
    #: How many items came in itself, with those that came twice.
    received: int = 0
    #: What the API last said that there are.
    matched: int | None = None
    oldest: datetime.datetime | None = None
    newest: datetime.datetime | None = None
    #: Whether items exactly at the end came, which belong to the next one.
    reaches_end: bool = False
    #: Whether it was read further than the first page.
    was_read: bool = False
    #: Whether items came again in a way that lets others be missing.
    is_doubtful: bool = False
    #: Requests that were made, to recognise those that come back.
    followed: set[bytes] = field(default_factory=set)
    #: Whether it ended with an error that may go away.
    broke_off: bool = False

    def holds(self, at: datetime.datetime | None) -> bool:
        """Return whether an item with this moment belongs to it."""
        return at is None or ((self.start is None or at >= self.start) and (self.end is None or at < self.end))

    def __str__(self) -> str:
        if self.start is None and self.end is None:
            return "the whole search"
        return f"the part from {moment_text(self.start) or 'the beginning'} to {moment_text(self.end) or 'the end'}"


class _NotByTime(Exception):
    """The API returns items that have nothing to do with the time asked for."""


class Reading:
    """
    One reading of a search.

    :param api: The API.
    :param parameters: Returns the parameters of the search for a leaf.
    :param field: The property of items by which time is cut.
    :param limit: Items on a page.
    :param ceilings: Numbers of items at which APIs are known to stop.
    :param part_size: More than this are cut before they are read, where the API counts.
    :param counts_are_exact: Whether what the API counts is to be believed.
    :param max_items: More than this are an error.
    """

    def __init__(
        self,
        api: _Api,
        parameters: Callable[[Leaf], dict[str, Any]],
        *,
        field: str,
        limit: int,
        ceilings: Sequence[int],
        part_size: int,
        counts_are_exact: bool,
        max_items: int | None,
    ) -> None:
        self._api, self._parameters, self._field = api, parameters, field
        self._limit, self._ceilings, self._part_size = limit, frozenset(ceilings), part_size
        self._counts_are_exact, self._max_items = counts_are_exact, max_items
        self._seen = SeenItems()
        self._leaves = 0
        self._open: list[Leaf] = []
        self._by_time = True
        self._given = self._repeated = 0
        #: The most that the API ever counted, or gave in one search: ceilings below are none.
        self._most_counted = self._most_received = 0
        #: Of all items that came.
        self._oldest: datetime.datetime | None = None
        self._newest: datetime.datetime | None = None

    def pages(self, start: datetime.datetime | None, end: datetime.datetime | None) -> Iterator[Page]:
        """
        Yield all items between two moments, each once.

        :raises ItemSourceError: Some may be missing.
        """
        try:
            try:
                yield from self._read(self._leaf(start, end))
            except _NotByTime:
                # Cutting is of no use, so all of it in one piece; what came already does not come again.
                self._by_time = False
                self._open.clear()
                yield from self._read(self._leaf(start, end))
        finally:
            self._seen.close()
        if self._repeated:
            log.info("%s gave %d items more than once; each was taken once", self._api.name, self._repeated)

    def _leaf(self, start: datetime.datetime | None, end: datetime.datetime | None, **options: Any) -> Leaf:
        return Leaf(start, end, **{"limit": self._limit, **options})

    def _read(self, leaf: Leaf) -> Iterator[Page]:
        self._leaves += 1
        leaf.number = self._leaves
        self._open.append(leaf)
        missing = yield from self._read_in_one(leaf)
        if missing is not None:
            log.info("%s: %s: %s; reading it in smaller parts", self._api.name, leaf, missing)
            for smaller in self._smaller(leaf, missing):
                yield from self._read(smaller)
            self._check_cut(leaf)
        self._open.pop()

    # --- one search ---------------------------------------------------------------------------------------------------

    def _read_in_one(self, leaf: Leaf) -> Generator[Page, None, str | None]:
        """Yield the pages of one search; return why some may be missing, ``None`` if all are there."""
        part = moment_text(leaf.start)
        first = request = self._api.search(self._parameters(leaf))
        number = empty = stale = largest = 0
        before: list[bytes] = []
        while True:
            number += 1
            leaf.followed.add(request.key())
            try:
                page = self._api.page(request, first)
            except ItemSourceError as error:
                return self._deep(error, leaf, number)
            if page.matched is not None:
                leaf.matched = page.matched
                self._most_counted = max(self._most_counted, page.matched)
            moments = [item_moment(item, self._field) for item in page.features]
            if number == 1:
                self._check_time(leaf, page.features, moments)
            self._learn(leaf, moments)
            if number == 1 and self._is_large(leaf) and self._cut(leaf) is not None:
                return f"it has {leaf.matched} items"
            leaf.was_read = True

            keys = [item_key(item) for item in page.features]
            known = self._note(leaf, keys, moments)
            fresh = [item for item, last in zip(page.features, known, strict=True) if last is None]
            self._given += len(fresh)
            self._repeated += len(keys) - len(fresh)
            if self._max_items is not None and self._given > self._max_items:
                raise ItemSourceError(
                    f"{self._api.name} has more than the {self._max_items} items that max_items allows",
                    hint="Ask for less, or allow more.",
                )
            if fresh:
                yield Page(fresh, part)

            came = dict(zip(reversed(keys), reversed(known), strict=True))  # what is twice on the page: the first
            again = {key for key, last in came.items() if last == leaf.number}
            unique = list(dict.fromkeys(keys))
            leaf.is_doubtful = leaf.is_doubtful or not _is_edge(unique, again, before)
            empty = 0 if keys else empty + 1
            stale = stale if not keys else stale + 1 if len(again) == len(unique) else 0
            if page.following is None:
                return self._verdict(leaf, keys, largest)
            if page.following.key() in leaf.followed:
                return self._looped(leaf, "its next page is one that came before")
            if stale >= _MOST_STALE_PAGES:
                return self._looped(leaf, f"{stale} pages in a row brought nothing new")
            if empty >= _MOST_EMPTY_PAGES:
                return self._looped(leaf, f"{empty} pages in a row were empty")
            before, request, largest = unique, page.following, max(largest, len(keys))

    def _note(self, leaf: Leaf, keys: list[bytes], moments: list[datetime.datetime | None]) -> list[int | None]:
        """Count the items of a page; return for each in which leaf it came last."""
        known = self._seen.note(keys, leaf.number)
        leaf.received += len(keys)
        for each in self._open:
            each.found += sum(last is None or last < each.number for last in known)
            if each is not leaf:
                pairs = zip(known, moments, strict=True)
                each.again += sum(last == each.number and each.holds(at) for last, at in pairs)
        self._most_received = max(self._most_received, leaf.found)
        pairs = zip(known, moments, strict=True)
        leaf.own += sum((last is None or last < leaf.number) and leaf.holds(at) for last, at in pairs)
        return known

    def _learn(self, leaf: Leaf, moments: list[datetime.datetime | None]) -> None:
        """Remember between which moments items are."""
        known = [at for at in moments if at is not None]
        if known:
            self._oldest = min(filter(None, (self._oldest, min(known))))
            self._newest = max(filter(None, (self._newest, max(known))))
        leaf.reaches_end = leaf.reaches_end or leaf.end in known
        inside = [at for at in known if leaf.holds(at)]
        if inside:
            leaf.oldest = min(filter(None, (leaf.oldest, min(inside))))
            leaf.newest = max(filter(None, (leaf.newest, max(inside))))

    def _check_time(self, leaf: Leaf, items: list[Any], moments: list[datetime.datetime | None]) -> None:
        """Notice an API that does not choose by time, by a first page most of which was not asked for."""
        spans = self._field == "datetime"
        astray = sum(_is_astray(leaf, item if spans else {}, at) for item, at in zip(items, moments, strict=True))
        if self._by_time and astray * 2 > len(items):
            if len(self._open) > 1:
                raise _NotByTime
            self._by_time = False

    def _is_large(self, leaf: Leaf) -> bool:
        if leaf.matched is None or leaf.is_second_look or not self._by_time:
            return False
        return leaf.matched > self._part_size or (self._counts_are_exact and self._is_cap(leaf.matched))

    def _is_cap(self, matched: int) -> bool:
        """Return whether a count may be where the API stopped counting."""
        return matched in self._ceilings and self._most_counted <= matched

    def _verdict(self, leaf: Leaf, last_page: list[bytes], largest: int) -> str | None:
        """
        Return why a search that came to its end may not be complete.

        :param largest: Items on the largest page before the last one: some give fewer than they are asked for.
        """
        if self._counts_are_exact and leaf.matched is not None:
            if leaf.found < leaf.matched:
                return f"{leaf.found} of {leaf.matched} items came"
            if not self._is_cap(leaf.matched):
                return None
            if leaf.found == leaf.matched:
                return f"exactly {leaf.matched} items came, where APIs stop counting"
        if leaf.is_doubtful:
            return f"items came twice and out of order among the {leaf.received}, so others may be missing"
        full = len(last_page) >= min(leaf.limit, largest or leaf.limit)
        for ceiling in self._ceilings:
            # A full page that would not fit below the ceiling is left out by some.
            lowest = ceiling - len(last_page) if full else ceiling - 1
            near = lowest < leaf.received <= ceiling or leaf.found == ceiling
            if near and self._most_received <= ceiling:
                return f"{leaf.received} items came, where APIs stop at {ceiling}"
        if leaf.matched is None and len(last_page) == leaf.received == leaf.limit:
            return f"as many items came as were asked for on a page, {leaf.limit}, and no link to more"
        return None

    def _looped(self, leaf: Leaf, what: str) -> str | None:
        """Return why a search that would go on forever may not be complete."""
        complete = self._counts_are_exact and leaf.matched is not None and leaf.found >= leaf.matched
        return None if complete and not self._is_cap(leaf.matched or 0) else what

    def _deep(self, error: ItemSourceError, leaf: Leaf, number: int) -> str:
        """
        Return what an error after the first page means: perhaps that the API does not go that deep.

        :raises ItemSourceError: Nothing that smaller parts could help against.
        """
        status = error.status or 0
        if number > 1 and status >= 400 and status not in (401, 403, 408, 429):
            leaf.broke_off = error.retryable
            return f"page {number} answered {status}"
        # Credentials that were good until now may be good again with a new token.
        retryable = error.retryable or (status == 401 and self._given > 0)
        raise ItemSourceError(
            f"{error.message} (page {number} of {leaf}, after {self._given} items)",
            status=error.status,
            method=error.method,
            path=error.path,
            hint=error.hint,
            retryable=retryable,
            retry_after=error.retry_after,
        )

    # --- smaller parts ------------------------------------------------------------------------------------------------

    def _smaller(self, leaf: Leaf, missing: str) -> list[Leaf]:
        """
        Return what to read instead of a leaf, the oldest first.

        :raises ItemSourceError: It cannot be cut.
        """
        if leaf.matched is None and leaf.received == leaf.limit == self._limit and not leaf.is_doubtful:
            # Perhaps there were just as many. An API that has pages shows them when asked for smaller ones.
            return [self._leaf(leaf.start, leaf.end, limit=leaf.limit - 1 or 2, strict=leaf.strict)]
        if self._field == "datetime" and leaf.reaches_end and leaf.was_read and not leaf.strict:
            for each in self._open:
                if each.end == leaf.end:
                    each.matched = None  # it counted items that are not asked for any more
            return [self._leaf(leaf.start, leaf.end, strict=True)]
        cut = self._cut(leaf) if self._by_time else None
        if cut is not None:
            return [self._leaf(leaf.start, cut), self._leaf(cut, leaf.end, strict=leaf.strict)]
        if not leaf.is_second_look:  # items may have come or gone while it was read
            return [self._leaf(leaf.start, leaf.end, strict=leaf.strict, is_second_look=True)]
        there = "an unknown number" if leaf.matched is None else str(leaf.matched)
        why = "no smaller parts can be asked for" if self._by_time else "the API does not choose items by their time"
        raise ItemSourceError(
            f"{self._api.name} gave {leaf.found} of {there} items in {leaf}: {missing}, and {why}",
            hint=_NARROWER,
            retryable=leaf.broke_off,
        )

    def _cut(self, leaf: Leaf) -> datetime.datetime | None:
        """Return a moment that divides a leaf; ``None`` if there is none."""
        start, end = leaf.start, leaf.end
        if start is not None and end is not None and end - start <= _MILLISECOND:
            return None
        try:
            if leaf.was_read and leaf.oldest is not None and leaf.oldest == leaf.newest:
                # All at one moment: that alone, so that there are few steps to where nothing can be cut any more.
                cut = leaf.oldest if start is None or leaf.oldest > start else leaf.oldest + _MILLISECOND
            elif start is not None and end is not None:
                cut = _between(start, end)
            elif end is not None:
                # Steps that double: nobody knows how far back items go.
                cut = end - max(_DAY, (self._newest or end) - end)
                cut = min(cut, leaf.newest or cut)
            elif start is not None:
                cut = start + max(_DAY, start - (self._oldest or start))
                cut = max(cut, leaf.oldest or cut)
            elif leaf.oldest is not None and leaf.newest is not None and leaf.oldest < leaf.newest:
                cut = _between(leaf.oldest, leaf.newest)
            else:
                cut = leaf.oldest or datetime.datetime.now(datetime.UTC)
        except OverflowError:
            return None
        return cut if (start is None or cut > start) and (end is None or cut < end) else None

    def _check_cut(self, leaf: Leaf) -> None:
        """
        Compare a leaf with what it was cut into.

        :raises ItemSourceError: Smaller parts do not have everything, although each seems complete.
        """
        lost = leaf.own - leaf.again
        if self._field == "datetime" and lost > 0:
            raise ItemSourceError(
                f"{self._api.name}: {lost} items of {leaf} came in no smaller part of it, so others may be missing",
                hint="Items may have been deleted meanwhile, or the API does not find all of them by time.",
                retryable=True,
            )
        if not self._counts_are_exact or leaf.matched is None or leaf.found >= leaf.matched:
            return
        first = self._api.search({**self._parameters(leaf), "limit": 1})
        there = self._api.page(first, first).matched
        if there is not None and leaf.found < there:
            raise ItemSourceError(
                f"{self._api.name} gave {leaf.found} of {there} items in {leaf}, read in parts",
                hint="If the API only estimates its counts, say so with counts_are_exact=False.",
                retryable=True,
            )


def _between(start: datetime.datetime, end: datetime.datetime) -> datetime.datetime:
    """Return a moment in the middle, as round as possible."""
    middle = start + (end - start) / 2
    for rounded in (middle.replace(microsecond=0), middle.replace(microsecond=middle.microsecond // 1000 * 1000)):
        if start < rounded < end:
            return rounded
    return middle if start < middle else end


def _is_edge(keys: list[bytes], again: set[bytes], before: list[bytes]) -> bool:
    """Return whether the items of a page that came already are the end of the page before, in the same order."""
    count = len(again)
    return not count or (count < len(keys) and again.issuperset(keys[:count]) and keys[:count] == before[-count:])


def _is_astray(leaf: Leaf, item: Any, at: datetime.datetime | None) -> bool:
    """Return whether an item has nothing to do with a leaf's time: not its moment, nor the time that it spans."""
    if at is None:
        return False
    properties = item.get("properties", {})
    begins = min(at, moment(properties.get("start_datetime")) or at)
    ends = max(at, moment(properties.get("end_datetime")) or at)
    # A day more, for APIs that know days only.
    return (leaf.start is not None and ends + _DAY < leaf.start) or (leaf.end is not None and begins - _DAY > leaf.end)
