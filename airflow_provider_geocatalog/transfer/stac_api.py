"""Items of a STAC API."""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput
from airflow_provider_geocatalog.transfer.source import Environment, ItemSource, ItemSourceError, Page
from airflow_provider_geocatalog.transfer.windows import WINDOW_FIELDS, Window, item_moment, moment, moment_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import requests

    from airflow_provider_geocatalog.transfer.stac_api_reading import Leaf, Reading
    from airflow_provider_geocatalog.transfer.stac_api_requests import SearchPage, StacApi

__all__ = ["StacApiSource", "has_credential", "is_secret_name"]

log = logging.getLogger(__name__)

_MAX_LIMIT = 10_000  # items on a page (STAC API, item search)
_UNDATED = "undated"  # the part of items without the property by which the window is
_MICROSECOND = dt.timedelta(microseconds=1)
_EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)
_NOT_TAKEN = frozenset({400, 422, 500, 501})  # how APIs refuse a search that they do not understand
#: Header fields, and parameters of the URL, with these in their names are secrets.
_SECRET_NAMES = ("authorization", "cookie", "key", "token", "secret", "signature")
#: Without these an item has no name, and nobody can tell in which window it is.
_ALWAYS_INCLUDED = (
    "id",
    "collection",
    *(f"properties.{name}" for name in (*WINDOW_FIELDS, "start_datetime", "end_datetime")),
)


class StacApiSource(ItemSource):
    """
    Items that a search in a STAC API finds: all of them, each once, or an error.

    What an API gives is not believed before it is proven. Pages that repeat, overlap or lead back, counts that do not
    agree, and searches that end where APIs are known to stop are read again in smaller pieces of time until they can be
    believed. What came already does not come again.

    :param url: Landing page of the API. A query string goes with every request.
    :param collections: Ids of collections. An empty list, as for ``ids``, names nothing, so there are no items.
    :param ids: Ids of items.
    :param bbox: Four or six numbers.
    :param intersects: A GeoJSON geometry; excludes ``bbox``.
    :param datetime: A moment or an interval as the API has them, besides the window.
    :param filter: CQL2, as JSON or text.
    :param query: What the query extension of the API takes.
    :param sortby: Order of the items, for example ``-properties.datetime``.
    :param fields: Members of items to include and exclude. Those by which items are told apart are always included.
    :param limit: Items on a page, at most 10,000.
    :param headers: HTTP header fields, or a callable that returns them; it is called for every request, so that tokens
        can be renewed.
    :param conn_id: Connection whose header fields are sent; they are fetched again when the API answers 401.
    :param auth: As ``requests`` has it: a callable that gets every prepared request, and returns it signed.
    :param max_items: More than this are an error.
    :param known_ceilings: Numbers of items at which APIs stop without saying so.
    :param part_size: Where the API counts, more items than this are read in parts, of which each can be read anew.
    :param counts_are_exact: Whether ``numberMatched`` is to be believed; some APIs estimate it.
    :param with_undated: Whether a window by ``created`` or ``updated`` holds the items without that property, too. They
        are asked for by themselves, and come each time. Where they cannot be, it is an error if counts tell of any, and
        a warning if they tell nothing.
    :param timeout: Seconds to wait for the connection, and for each part of an answer.
    :param max_retries: How often a request is repeated that can succeed later (429, 502, no answer, an ``OSError`` of
        ``headers`` or ``auth``, ...).
    :param retry_delay: Seconds before the first repetition; they double. ``Retry-After`` goes before them.
    :raises GeoCatalogInvalidInput: An argument that cannot be a template makes no sense.
    """

    template_fields: ClassVar[Sequence[str]] = (
        "url",
        "collections",
        "ids",
        "bbox",
        "intersects",
        "datetime",
        "filter",
        "query",
        "sortby",
        "fields",
        "conn_id",
    )

    def __init__(
        self,
        *,
        url: str,
        collections: str | Sequence[str] | None = None,
        ids: str | Sequence[str] | None = None,
        bbox: str | Sequence[float] | None = None,
        intersects: str | dict[str, Any] | None = None,
        datetime: str | None = None,
        filter: str | dict[str, Any] | None = None,
        query: str | dict[str, Any] | None = None,
        sortby: str | list[Any] | None = None,
        fields: str | list[str] | dict[str, list[str]] | None = None,
        limit: int = 250,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
        conn_id: str | None = None,
        auth: Callable[[requests.PreparedRequest], requests.PreparedRequest] | None = None,
        max_items: int | None = None,
        known_ceilings: Sequence[int] = (1000, 5000, 10_000),
        part_size: int = 10_000,
        counts_are_exact: bool = True,
        with_undated: bool = True,
        timeout: float = 60.0,
        max_retries: int = 5,
        retry_delay: float = 1.0,
    ) -> None:
        self.url = url
        self.collections = collections
        self.ids = ids
        self.bbox = bbox
        self.intersects = intersects
        self.datetime = datetime
        self.filter = filter
        self.query = query
        self.sortby = sortby
        self.fields = fields
        self.limit = limit
        self.headers = headers
        self.conn_id = conn_id
        self.auth = auth
        self.max_items = max_items
        self.known_ceilings = known_ceilings
        self.part_size = part_size
        self.counts_are_exact = counts_are_exact
        self.with_undated = with_undated
        self.timeout = timeout
        self.max_retries = max_retries
        self.retry_delay = retry_delay
        self._has_warned = False
        problems = [
            text
            for is_wrong, text in (
                (not _is_count(limit, _MAX_LIMIT), f"limit has to be a whole number from 1 to {_MAX_LIMIT}"),
                (max_items is not None and not _is_count(max_items), "max_items has to be a whole number above 0"),
                (not _is_count(part_size), "part_size has to be a whole number above 0"),
                (not _are_counts(known_ceilings), "known_ceilings has to be a list of whole numbers above 0"),
                (max_retries != 0 and not _is_count(max_retries), "max_retries has to be a whole number, not below 0"),
                (not (_is_finite(timeout) and timeout > 0), "timeout has to be seconds above 0"),
                (not (_is_finite(retry_delay) and retry_delay >= 0), "retry_delay has to be seconds, not below 0"),
                (
                    not (headers is None or callable(headers) or isinstance(headers, Mapping)),
                    "headers have to be a mapping",
                ),
                (auth is not None and not callable(auth), "auth has to be a callable"),
            )
            if is_wrong
        ]
        if problems:
            raise GeoCatalogInvalidInput(problems, subject=type(self).__name__)

    def describe(self) -> str:
        """Return its address without the query string, and the collections."""
        given = self.collections
        named = given if isinstance(given, list | tuple) else [given] if isinstance(given, str) and given else []
        where = _without_secrets(self.url)
        return f"STAC API {where}" + (f", {', '.join(map(str, named))}" if named else "")

    def pages(
        self, environment: Environment, window: Window | None = None, *, part: str | None = None
    ) -> Iterator[Page]:
        """
        Yield all items, page by page, the oldest part first.

        :param environment: Lends the header fields of the connection.
        :param window: By ``datetime`` it is asked for as such; by ``created`` or ``updated`` through the filter
            extension of the API, or its query extension.
        :param part: The part to begin with, from an earlier page.
        :raises ItemSourceError: The API cannot be read, or some items may be missing.
        :raises GeoCatalogInvalidInput: The arguments make no sense, or the API cannot choose by the window's field.
        """
        search = self._arguments()
        if any(_listed(given) in ([], ()) for given in (self.collections, self.ids)):
            log.info("%s: an empty list of collections or ids is asked for, so there is nothing.", self.describe())
            return iter(())
        begin = moment(part)
        if part not in (None, _UNDATED) and begin is None:
            raise GeoCatalogInvalidInput(f"{part!r} is no part of a STAC API: a moment is", subject=self.describe())
        window = window if window is not None and window.is_bounded else None
        return self._pages(environment, search, window, begin, is_undated_only=part == _UNDATED)

    def _pages(
        self,
        environment: Environment,
        search: dict[str, Any],
        window: Window | None,
        begin: dt.datetime | None,
        *,
        is_undated_only: bool,
    ) -> Iterator[Page]:
        from airflow_provider_geocatalog.transfer.stac_api_requests import StacApi

        field = window.field if window else "datetime"
        bounds = _interval(search.pop("datetime", None))
        start, end = (window.start, window.end) if window else (None, None)
        if field == "datetime":
            start = _latest(start, bounds[0])
            end = _earliest(end, bounds[1] + _MICROSECOND if bounds[1] else None)
        start = _latest(start, begin)
        if start is not None and end is not None and start >= end:
            return
        api = StacApi(
            self.url,
            headers=_Headers(environment, self.conn_id, self.url, self.headers),
            auth=self.auth,
            timeout=self.timeout,
            max_retries=self.max_retries,
            retry_delay=self.retry_delay,
        )
        try:
            api.open()
            form = _condition(api, search, field)
            if not is_undated_only:
                yield from self._reading(api, search, bounds, field, form).pages(start, end)
            if form is not None and self.with_undated and self._has_undated(api, search, bounds, field, form):
                log.warning(
                    "%s has items without %r; they are read each time, since nothing tells which are new. A window by "
                    "datetime, or with_undated=False, leaves them alone.",
                    api.name,
                    field,
                )
                last = bounds[1] + _MICROSECOND if bounds[1] else None
                reading = self._reading(api, _undated(search, field, form), bounds, "datetime", None)
                for page in reading.pages(bounds[0], last):
                    yield Page(page.items, _UNDATED)
        finally:
            api.close()

    def _reading(
        self,
        api: StacApi,
        search: dict[str, Any],
        bounds: tuple[dt.datetime | None, dt.datetime | None],
        field: str,
        form: str | None,
    ) -> Reading:
        from airflow_provider_geocatalog.transfer.stac_api_reading import Reading

        return Reading(
            api,
            partial(_parameters, api, search, bounds, field, form),
            field=field,
            limit=self.limit,
            ceilings=self.known_ceilings,
            part_size=self.part_size,
            counts_are_exact=self.counts_are_exact,
            max_items=self.max_items,
        )

    def _has_undated(
        self,
        api: StacApi,
        search: dict[str, Any],
        bounds: tuple[dt.datetime | None, dt.datetime | None],
        field: str,
        form: str,
    ) -> bool:
        """
        Return whether there are items without the property by which a window is: no API finds them by it.

        :raises ItemSourceError: There are, and they cannot be asked for.
        """
        from airflow_provider_geocatalog.transfer.stac_api_reading import Leaf

        def ask(narrowed: dict[str, Any], since: dt.datetime | None = None) -> SearchPage:
            by, how = ("datetime", None) if since is None else (field, form)
            first = api.search(_parameters(api, narrowed, bounds, by, how, Leaf(since, None, 1)))
            return api.page(first, first)

        def try_to_ask(narrowed: dict[str, Any], since: dt.datetime | None = None) -> SearchPage | None:
            try:
                return ask(narrowed, since)
            except ItemSourceError as error:
                if error.status not in _NOT_TAKEN:
                    raise
                return None

        def lacks(page: SearchPage) -> bool:
            return any(item_moment(item, field) is None for item in page.features)

        undated = try_to_ask(_undated(search, field, form)) if form != "query" else None
        if undated is not None:
            return lacks(undated)
        # They cannot be asked for, but where the API counts, they are what is left of all without those that can. All
        # are counted first: what is added meanwhile is then no difference.
        every = ask(search)
        if not every.features:
            return False
        dated = try_to_ask(search, _EARLIEST) if self.counts_are_exact and every.matched is not None else None
        count = dated.matched if dated is not None else None
        if lacks(every) or (count is not None and count < (every.matched or 0)):
            raise ItemSourceError(
                f"{api.name} has items without {field!r}, by which the window is, and cannot be asked for them",
                hint="Use a window by datetime, or do without these items by with_undated=False.",
            )
        if (count is None or count in self.known_ceilings) and not self._has_warned:
            self._has_warned = True  # sensors look again and again
            log.warning(
                "%s cannot be asked for items without %r, and gives no count that would tell whether it has any: they "
                "would be missing. Use a window by datetime, or say with_undated=False.",
                api.name,
                field,
            )
        return False

    def _arguments(self) -> dict[str, Any]:
        """
        Return the search as pystac-client writes it, without the window.

        :raises GeoCatalogInvalidInput: It makes no sense.
        """
        from pystac_client import ItemSearch

        problems = []
        try:
            parts = urlsplit(str(self.url))
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.username
        except ValueError:
            usable = False
        if not usable:
            problems.append("url has to be the http(s) address of a STAC API, without a user in it")
        if self.bbox and self.intersects:
            problems.append("bbox and intersects exclude each other")
        given: dict[str, Any] = {}
        for name in ("filter", "query", "intersects"):
            try:
                given[name] = _object(getattr(self, name), is_text_good=name == "filter")
            except ValueError:
                problems.append(f"{name} has to be a JSON object{' or CQL2 text' if name == 'filter' else ''}")
        if given.get("intersects") and "type" not in given["intersects"]:
            problems.append("intersects has to be a GeoJSON geometry, with a type")
        for name in ("collections", "ids", "bbox", "datetime", "sortby", "fields"):
            given[name] = _listed(getattr(self, name)) or None
        language = "cql2-text" if isinstance(given.get("filter"), str) else "cql2-json"
        if not problems:
            try:
                search = ItemSearch("https://-", method="POST", filter_lang=language, **given).get_parameters()
                # As JSON has it, also to see that it can be written so.
                search = json.loads(json.dumps(search, allow_nan=False))
                _interval(search.get("datetime"))
            except Exception as error:  # pystac-client raises Exception itself
                problems.append(str(error))
            else:
                if "bbox" in search and len(search["bbox"]) not in (4, 6):
                    problems.append("bbox has to have four or six numbers")
                for name in ("collections", "ids"):
                    if not all(isinstance(each, str) and each for each in search.get(name, [])):
                        problems.append(f"{name} have to be texts")
                if search.get("fields", {}).get("include"):
                    search["fields"]["include"] = list(dict.fromkeys([*search["fields"]["include"], *_ALWAYS_INCLUDED]))
        if problems:
            raise GeoCatalogInvalidInput(problems, subject=self.describe())
        return search


class _Headers:
    """The header fields of requests: those of the connection, and those that were given."""

    def __init__(
        self,
        environment: Environment,
        conn_id: str | None,
        url: str,
        given: Mapping[str, str] | Callable[[], Mapping[str, str]] | None,
    ) -> None:
        self._environment, self._conn_id, self._url, self._given = environment, conn_id, url, given
        self._lent: dict[str, str] | None = None if conn_id else {}

    def __call__(self, renew: bool) -> dict[str, str]:
        if self._lent is None or (renew and self._conn_id):
            self._lent = dict(self._environment.headers(self._conn_id, self._url))
        return {**self._lent, **((self._given() if callable(self._given) else self._given) or {})}


# --- the window in the words of the API -------------------------------------------------------------------------------


def _condition(api: StacApi, search: dict[str, Any], field: str) -> str | None:
    """
    Return how to ask for a window by a property: ``cql2-json``, ``cql2-text`` or ``query``; ``None`` by ``datetime``.

    :raises GeoCatalogInvalidInput: The API offers no way, or what is asked for leaves none.
    """
    if field == "datetime":
        return None
    if api.conforms_to("filter"):
        if "filter" in search:
            return str(search["filter-lang"])
        is_text_better = api.method == "GET" or not api.has_cql2("json")
        return "cql2-text" if is_text_better and api.has_cql2("text") else "cql2-json"
    if api.conforms_to("query"):
        if field in search.get("query", {}):
            raise GeoCatalogInvalidInput(f"query and the window cannot both be about {field!r}", subject=api.name)
        return "query"
    raise GeoCatalogInvalidInput(
        f"it cannot choose items by {field!r}: it says that it has neither the filter nor the query extension. "
        "Use a window by datetime",
        subject=api.name,
    )


def _undated(search: dict[str, Any], field: str, form: str) -> dict[str, Any]:
    """Return a search, narrowed to the items without a property."""
    own = search.get("filter")
    if form == "cql2-text":
        return {**search, "filter": f"({own}) AND {field} IS NULL" if own else f"{field} IS NULL", "filter-lang": form}
    is_null = {"op": "isNull", "args": [{"property": field}]}
    return {**search, "filter": {"op": "and", "args": [own, is_null]} if own else is_null, "filter-lang": form}


def _parameters(
    api: StacApi,
    search: dict[str, Any],
    bounds: tuple[dt.datetime | None, dt.datetime | None],
    field: str,
    form: str | None,
    leaf: Leaf,
) -> dict[str, Any]:
    """
    Return the parameters of the search for a part.

    :param bounds: Of ``datetime``, both in it, as the user gave them.
    """
    from pystac_client import ItemSearch

    given = {name.replace("-", "_"): value for name, value in search.items()}
    first, last = bounds
    if field == "datetime":
        # The API's intervals have their ends, parts do not.
        end = leaf.end - _MICROSECOND if leaf.strict and leaf.end else leaf.end
        first, last = _latest(leaf.start, first), _earliest(end, last)
    if first is not None or last is not None:
        texts = [moment_text(at) or ".." for at in (first, last)]
        given["datetime"] = texts[0] if first == last else "/".join(texts)
    bounded = [("gte", ">=", leaf.start), ("lt", "<", leaf.end)]
    comparisons = [(name, sign, moment_text(at)) for name, sign, at in bounded if at is not None]
    if form == "query" and comparisons:
        given["query"] = {**given.get("query", {}), field: {name: text for name, _, text in comparisons}}
    elif form == "cql2-text" and comparisons:
        own = [f"({given['filter']})"] if "filter" in given else []
        given["filter"] = " AND ".join(own + [f"{field} {sign} TIMESTAMP('{text}')" for _, sign, text in comparisons])
        given["filter_lang"] = form
    elif form == "cql2-json" and comparisons:
        own = [given["filter"]] if "filter" in given else []
        args = own + [{"op": s, "args": [{"property": field}, {"timestamp": text}]} for _, s, text in comparisons]
        given["filter"] = {"op": "and", "args": args} if len(args) > 1 else args[0]
        given["filter_lang"] = form
    parameters = ItemSearch(
        api.search_url, method=api.method, stac_io=api.io, limit=leaf.limit, **given
    ).get_parameters()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in parameters.items()}


def _interval(text: str | None) -> tuple[dt.datetime | None, dt.datetime | None]:
    """
    Return the first and the last moment of a ``datetime`` as pystac-client writes it.

    :raises ValueError: It is none.
    """
    if not text:
        return None, None
    first, _, last = text.partition("/")
    found = []
    for each in (first, last or first):
        at = moment(each)
        if at is None and each != "..":
            raise ValueError(f"invalid datetime: {each}")
        found.append(at)
    if found[0] is not None and found[1] is not None and found[1] < found[0]:
        raise ValueError(f"datetime ends before it begins: {text}")
    return found[0], found[1]


def _latest(*moments: dt.datetime | None) -> dt.datetime | None:
    return max((at for at in moments if at is not None), default=None)


def _earliest(*moments: dt.datetime | None) -> dt.datetime | None:
    return min((at for at in moments if at is not None), default=None)


# --- arguments --------------------------------------------------------------------------------------------------------


def _is_count(value: Any, most: int | None = None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1 and (most is None or value <= most)


def _listed(value: Any) -> Any:
    """Return a list that a template may have made a text; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            pass
    return value


def _are_counts(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(map(_is_count, value))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _object(value: Any, *, is_text_good: bool) -> Any:
    """
    Return a JSON object, which a template may have made a text.

    :raises ValueError: It is none.
    """
    if value is None or value == "" or value == {}:
        return None
    if isinstance(value, str):
        if is_text_good and not value.lstrip().startswith("{"):
            return value
        value = json.loads(value)
    if not isinstance(value, dict):
        raise ValueError
    return value


def is_secret_name(name: str) -> bool:
    """Return whether a header field, or a parameter of a URL, is a secret by its name."""
    return any(part in name.lower() for part in _SECRET_NAMES)


def has_credential(text: str) -> bool:
    """Return whether a text is the address of a web page with a user in it, or with a secret in its query string."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    told = "@" in parts.netloc or any(is_secret_name(name) for name, _ in parse_qsl(parts.query))
    return parts.scheme in ("http", "https") and told


def _without_secrets(url: Any) -> str:
    try:
        parts = urlsplit(str(url))
    except ValueError:
        return "without a proper URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
