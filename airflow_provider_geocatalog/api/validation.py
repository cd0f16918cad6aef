"""
Look at input before anything is sent. Every check returns all problems as sentences; ``refuse`` raises them together.

The rules are the service's documented ones (geocatalog-api 4.1, 5.2, 7.3, 7.8); where only a low-confidence draft gives
a number, nothing is checked here and the service decides.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from airflow_provider_geocatalog.api.errors import GeoCatalogInvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "catalog_url_problems",
    "collection_id_problems",
    "collection_problems",
    "container_url_problems",
    "is_loopback",
    "item_problems",
    "items_problems",
    "mosaic_problems",
    "refuse",
    "render_option_problems",
    "sanitize_render_option_id",
    "sas_token_problems",
    "tile_settings_problems",
]

_COLLECTION_ID = re.compile(r"[A-Za-z0-9_.-]+")
_MAX_PATH_NAME = 500  # characters of a path parameter (geocatalog-api 11.1)
_RENDER_OPTION_ID = re.compile(r"[a-z0-9-]+")
_MAX_RENDER_OPTION_ID = 30  # characters (geocatalog-api 7.8)
_RENDER_TYPES = ("raster-tile", "vt-polygon", "vt-line")
_MAX_ZOOM = 24
_REQUIRED_OF_COLLECTION = ("type", "stac_version", "id", "description", "license", "extent")
#: STAC core members by JSON type. pystac's own validator fetches the schemas over the network, which a worker need not
#: have, so the core rules that a wrong document breaks in practice are checked here.
_TYPES_IN_COLLECTION: dict[str, tuple[type, str]] = {
    "stac_version": (str, "a string"),
    "description": (str, "a string"),
    "license": (str, "a string"),
    "title": (str, "a string"),
    "links": (list, "a list"),
    "keywords": (list, "a list"),
    "providers": (list, "a list"),
    "stac_extensions": (list, "a list"),
    "summaries": (dict, "an object"),
    "item_assets": (dict, "an object"),
}
_NAME_IN_ITEMS = re.compile(r"[A-Za-z0-9\-_+,().]+")  # of items and asset keys (geocatalog-api 4.1)
_MAX_ITEM_ID, _MAX_ASSET_KEY = 149, 255  # characters
_REQUIRED_OF_ITEM = ("stac_version", "geometry", "bbox", "properties", "assets", "links")
_ALTHOUGH = {"geometry": "; STAC lets it be null, the service does not"}
_TYPES_IN_ITEM: dict[str, tuple[type, str]] = {
    "stac_version": (str, "a string"),
    "geometry": (dict, "an object"),
    "bbox": (list, "a list"),
    "properties": (dict, "an object"),
    "assets": (dict, "an object"),
    "links": (list, "a list"),
    "stac_extensions": (list, "a list"),
}
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S")
_MOST_PROBLEMS = 20  # told at once of a list of items, which may have thousands
_OBJECT_LISTS_IN_COLLECTION = {"links": ("rel", "href"), "providers": ("name",)}
_SAS_PERMISSIONS = {"r": "read", "l": "list"}
_ACCOUNT_SAS_FIELDS = ("ss", "srt")


def refuse(subject: str, problems: Sequence[str]) -> None:
    """
    Raise the problems, if there are any.

    :raises GeoCatalogInvalidInput: All problems in one message.
    """
    if problems:
        raise GeoCatalogInvalidInput(problems, subject=subject)


def is_loopback(host: str | None) -> bool:
    """Return whether a host name or address is this machine's loopback."""
    if not host:
        return False
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def collection_id_problems(collection_id: Any) -> list[str]:
    """Check a collection id: letters, digits, ``-``, ``_``, ``.``."""
    if not isinstance(collection_id, str) or not collection_id:
        return ["the collection id is missing or not a string"]
    problems = []
    if not _COLLECTION_ID.fullmatch(collection_id) or collection_id in {".", ".."}:
        problems.append(f"collection id {collection_id!r} may only have letters, digits, '-', '_' and '.'")
    if len(collection_id) > _MAX_PATH_NAME:
        problems.append(f"the collection id has {len(collection_id)} characters; at most {_MAX_PATH_NAME} are possible")
    return problems


def collection_problems(collection: Any, *, with_assets: bool = False) -> list[str]:
    """
    Check a STAC Collection document as the service wants it.

    :param collection: The document.
    :param with_assets: Whether ``assets`` may be present (only when an existing collection is replaced).
    """
    if not isinstance(collection, dict):
        return [f"a collection is a JSON object, not {type(collection).__name__}"]
    problems = [f"{name!r} is missing" for name in _REQUIRED_OF_COLLECTION if collection.get(name) in (None, "")]
    if collection.get("type") not in (None, "Collection"):
        problems.append(f"'type' is {collection['type']!r} instead of 'Collection'")
    if "id" in collection:
        problems += collection_id_problems(collection["id"])
    if "assets" in collection and not with_assets:
        problems.append(
            "'assets' must not be sent with a collection: the service manages them through its collection-asset "
            "operations; remove the member"
        )
    for name, (kind, words) in _TYPES_IN_COLLECTION.items():
        if collection.get(name) is not None and not isinstance(collection[name], kind):
            problems.append(f"{name!r} is {type(collection[name]).__name__}, not {words}")
    for name, required in _OBJECT_LISTS_IN_COLLECTION.items():
        problems += _entry_problems(collection.get(name), name, required)
    if collection.get("extent") not in (None, ""):
        problems += _extent_problems(collection["extent"])
    return problems


def _entry_problems(entries: Any, name: str, required: Sequence[str]) -> list[str]:
    """Check that a list member holds objects with the members that STAC requires."""
    if not isinstance(entries, list):
        return []
    problems = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            problems.append(f"'{name}[{index}]' is not an object")
        else:
            problems += [f"'{name}[{index}]' has no {member!r}" for member in required if not entry.get(member)]
    return problems


def _extent_problems(extent: Any) -> list[str]:
    if not isinstance(extent, dict):
        return ["'extent' is not an object"]
    problems = []
    boxes = (extent.get("spatial") or {}).get("bbox") if isinstance(extent.get("spatial"), dict) else None
    if not isinstance(boxes, list) or not boxes:
        problems.append("'extent.spatial.bbox' has to be a list with at least one bounding box")
    else:
        for index, box in enumerate(boxes):
            numbers = isinstance(box, list) and all(isinstance(n, int | float) for n in box)
            if not numbers or len(box) not in (4, 6):
                problems.append(f"'extent.spatial.bbox[{index}]' is not a list of 4 or 6 numbers")
    intervals = (extent.get("temporal") or {}).get("interval") if isinstance(extent.get("temporal"), dict) else None
    if not isinstance(intervals, list) or not intervals:
        problems.append("'extent.temporal.interval' has to be a list with at least one [start, end] pair")
    else:
        for index, pair in enumerate(intervals):
            if not isinstance(pair, list) or len(pair) != 2:
                problems.append(f"'extent.temporal.interval[{index}]' is not a [start, end] pair")
    return problems


def items_problems(items: Any, collection_id: str) -> list[str]:
    """
    Check a list of STAC Items as the service wants them.

    :param items: The documents.
    :param collection_id: The collection that they are for; those that name none are fine.
    """
    if not isinstance(items, list) or not items:
        return ["there are no items"]
    problems: list[str] = []
    for number, item in enumerate(items, 1):
        problems += _item_problems(item, collection_id, number)
    ids = Counter(item["id"] for item in items if isinstance(item, dict) and isinstance(item.get("id"), str))
    problems += [f"item id {item_id!r} occurs more than once" for item_id, count in ids.items() if count > 1]
    if len(problems) > _MOST_PROBLEMS:
        problems[_MOST_PROBLEMS:] = [f"and {len(problems) - _MOST_PROBLEMS} more problems"]
    return problems


def _item_problems(item: Any, collection_id: str, number: int) -> list[str]:
    if not isinstance(item, dict):
        return [f"item number {number} is not an object"]
    item_id = item.get("id")
    if not isinstance(item_id, str) or not item_id:
        return [f"item number {number} has no id"]
    problems = item_problems(item, collection_id)
    return [f"item {item_id!r}{', ' if problem.startswith('asset ') else ': '}{problem}" for problem in problems]


def item_problems(item: dict[str, Any], collection_id: str | None = None) -> list[str]:
    """
    Check a STAC Item as the service wants it.

    :param item: The document.
    :param collection_id: The collection that it is for; one that names none is fine. ``None``: it may name any.
    """
    item_id = item.get("id")
    if not isinstance(item_id, str) or not item_id:
        return ["it has no id"]
    problems = []
    if not _NAME_IN_ITEMS.fullmatch(item_id) or len(item_id) > _MAX_ITEM_ID:
        problems.append(f"an id has up to {_MAX_ITEM_ID} letters, digits and -_+,().")
    if item.get("type") != "Feature":
        problems.append(f"'type' is {item.get('type')!r} instead of 'Feature'")
    problems += [
        f"{name!r} is missing{_ALTHOUGH.get(name, '')}" for name in _REQUIRED_OF_ITEM if item.get(name) in (None, "")
    ]
    problems += [
        f"{name!r} is {type(item[name]).__name__}, not {words}"
        for name, (kind, words) in _TYPES_IN_ITEM.items()
        if item.get(name) not in (None, "") and not isinstance(item[name], kind)
    ]
    if isinstance(item.get("properties"), dict) and "datetime" not in item["properties"]:
        problems.append("'properties.datetime' is missing")
    assets = item.get("assets")
    for key, asset in assets.items() if isinstance(assets, dict) else ():
        problems += [f"asset {key!r}: {problem}" for problem in _asset_problems(key, asset)]
    if collection_id is not None and item.get("collection") not in (None, collection_id):
        problems.append(f"'collection' is {item['collection']!r} instead of {collection_id!r}")
    return problems


def _asset_problems(key: str, asset: Any) -> list[str]:
    problems = []
    if not _NAME_IN_ITEMS.fullmatch(key) or len(key) > _MAX_ASSET_KEY:
        problems.append(f"a key has up to {_MAX_ASSET_KEY} letters, digits and -_+,().")
    href = asset.get("href") if isinstance(asset, dict) else None
    if not isinstance(href, str) or not _ABSOLUTE.match(href):
        problems.append(f"'href' is {href!r}, not an absolute URL")
    return problems


def sanitize_render_option_id(text: str) -> str:
    """Return the id that the service's tutorial makes of a name: lower case, no punctuation, hyphens, 30 characters."""
    kept = re.sub(r"[^a-z0-9 -]", "", text.lower().replace("_", "-"))
    return re.sub(r"\s+", "-", kept.strip())[:_MAX_RENDER_OPTION_ID]


def render_option_problems(options: Any) -> list[str]:
    """Check a list of render options."""
    problems = _listed_objects_problems(options, "render option")
    for option in _objects(options):
        option_id = option.get("id")
        label = f"render option {option_id!r}"
        if not isinstance(option_id, str) or not option_id:
            continue
        if len(option_id) > _MAX_RENDER_OPTION_ID or not _RENDER_OPTION_ID.fullmatch(option_id):
            problems.append(
                f"{label}: an id has at most {_MAX_RENDER_OPTION_ID} lower-case letters, digits and hyphens; "
                f"use {sanitize_render_option_id(option_id)!r}"
            )
        if option.get("type") not in _RENDER_TYPES:
            problems.append(f"{label}: 'type' is {option.get('type')!r}, not one of {', '.join(_RENDER_TYPES)}")
        if option.get("type") == "raster-tile" and not isinstance(option.get("options"), str):
            problems.append(f"{label}: 'options' has to be a string like 'assets=image&asset_bidx=image|1,2,3'")
        problems += _zoom_problems(option, "minZoom", label)
    return problems


def mosaic_problems(mosaics: Any) -> list[str]:
    """Check a list of mosaics."""
    problems = _listed_objects_problems(mosaics, "mosaic")
    for mosaic in _objects(mosaics):
        cql = mosaic.get("cql", [])
        if not isinstance(cql, list) or not all(isinstance(expression, dict) for expression in cql):
            problems.append(f"mosaic {mosaic.get('id')!r}: 'cql' has to be a list of CQL2 JSON objects")
    return problems


def tile_settings_problems(settings: Any) -> list[str]:
    """Check tile settings."""
    if not isinstance(settings, dict):
        return [f"tile settings are a JSON object, not {type(settings).__name__}"]
    problems = _zoom_problems(settings, "minZoom", "tile settings")
    limit = settings.get("maxItemsPerTile")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        problems.append("tile settings: 'maxItemsPerTile' has to be a positive whole number")
    location = settings.get("defaultLocation")
    if location is not None and not (
        isinstance(location, dict) and isinstance(location.get("coordinates"), list) and "zoom" in location
    ):
        problems.append("tile settings: 'defaultLocation' has to have 'zoom' and 'coordinates' [latitude, longitude]")
    return problems


def _zoom_problems(data: dict[str, Any], name: str, label: str) -> list[str]:
    zoom = data.get(name)
    if zoom is None or (isinstance(zoom, int) and not isinstance(zoom, bool) and 0 <= zoom <= _MAX_ZOOM):
        return []
    return [f"{label}: {name!r} has to be a whole number from 0 to {_MAX_ZOOM}"]


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _listed_objects_problems(value: Any, what: str) -> list[str]:
    if not isinstance(value, list):
        return [f"{what}s are a JSON list, not {type(value).__name__}"]
    problems = [
        f"{what} number {n} is not an object" for n, entry in enumerate(value, 1) if not isinstance(entry, dict)
    ]
    ids = []
    for n, entry in enumerate(value, 1):
        if not isinstance(entry, dict):
            continue
        entry_id = entry.get("id")
        if not isinstance(entry_id, str) or not entry_id:
            problems.append(f"{what} number {n} has no id")
        elif not isinstance(entry.get("name"), str) or not entry["name"]:
            problems.append(f"{what} {entry_id!r} has no name")
        ids.append(entry_id)
    problems += [f"{what} id {twice!r} occurs more than once" for twice in _repeated(ids)]
    return problems


def _repeated(values: Iterable[Any]) -> list[Any]:
    seen: list[Any] = []
    twice: list[Any] = []
    for value in values:
        (twice if value in seen and value not in twice else seen).append(value)
    return [value for value in twice if value]


def _url_problems(url: Any, what: str, *, local: bool) -> list[str]:
    if not isinstance(url, str) or not url:
        return [f"{what} is missing"]
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError as error:
        return [f"{what} {url!r} is not a URL ({error})"]
    if parts.scheme == "file" and local:
        return []
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return [f"{what} {url!r} is not an absolute https URL"]
    return []


def container_url_problems(url: Any) -> list[str]:
    """Check the URL of a blob container: its root, without query string."""
    problems = _url_problems(url, "the container URL", local=False)
    if problems:
        return problems
    parts = urlsplit(url)
    if parts.query:
        problems.append("the container URL must not carry a query string; give the SAS token apart from it")
    if not parts.path.strip("/"):
        problems.append(f"the container URL {url!r} names no container")
    if parts.hostname and parts.hostname.endswith((".blob.core.windows.net", ".blob.core.usgovcloudapi.net")):
        if "/" in parts.path.strip("/"):
            problems.append(f"the container URL {url!r} is not the root of a container")
        if parts.scheme != "https":
            problems.append("the container URL has to be https")
    return problems


def catalog_url_problems(url: Any, *, local: bool = False) -> list[str]:
    """
    Check the URL of a static catalog.

    :param local: Whether the GeoCatalog is on this machine (the emulator), which may read ``file:`` URLs.
    """
    problems = _url_problems(url, "the catalog URL", local=local)
    if not problems and "sig" in parse_qs(urlsplit(url).query):
        problems.append(
            "the catalog URL carries a SAS signature, which would be shown in the task's rendered fields; register an "
            "ingestion source for its container and give the URL without query string"
        )
    return problems


def sas_token_problems(token: Any, *, now: datetime.datetime) -> list[str]:
    """
    Check a SAS token for an ingestion source without showing it.

    :param token: Query string, with or without ``?``.
    :param now: The present time, aware.
    """
    if not isinstance(token, str) or not token.strip():
        return ["the SAS token is empty"]
    fields = {name: values[-1] for name, values in parse_qs(token.strip().lstrip("?"), keep_blank_values=True).items()}
    if token.strip().lower().startswith(("http://", "https://")):
        return ["this is a URL, not a SAS token: give only what follows its '?'"]
    if not fields.get("sig"):
        return ["this is no SAS token: it has no signature ('sig')"]
    if any(name in fields for name in _ACCOUNT_SAS_FIELDS):
        return ["this is an account SAS; the service needs a container SAS ('sr=c')"]
    problems = []
    if fields.get("sr", "c") != "c":
        problems.append(f"its scope is 'sr={fields['sr']}', but a container SAS ('sr=c') is needed")
    policy = "si" in fields  # a stored access policy may hold what the token leaves out
    for name, meaning in (("st", "start time"), ("se", "expiry time"), ("sp", "permissions")):
        if not fields.get(name) and not (policy and name != "st"):
            problems.append(f"it has no {meaning} ({name!r})")
    starts, ends = _sas_time(fields.get("st")), _sas_time(fields.get("se"))
    for name, text, moment in (("st", fields.get("st"), starts), ("se", fields.get("se"), ends)):
        if text and moment is None:
            problems.append(f"its {name!r} is no time: {text!r}")
    if ends is not None and ends <= now:
        problems.append(f"it expired at {ends.isoformat()}")
    if starts is not None and starts > now + datetime.timedelta(minutes=15):
        problems.append(f"it is not valid before {starts.isoformat()}")
    if fields.get("sp"):
        lacking = [word for letter, word in _SAS_PERMISSIONS.items() if letter not in fields["sp"]]
        if lacking:
            problems.append(f"it lacks the permission {' and '.join(lacking)} (sp={fields['sp']}; 'rl' is needed)")
    return problems


def sas_expiry(token: str) -> datetime.datetime | None:
    """Return when a SAS token expires, if it says so."""
    return _sas_time(next(iter(parse_qs(token.strip().lstrip("?")).get("se", [])), None))


def _sas_time(text: str | None) -> datetime.datetime | None:
    if not text:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
