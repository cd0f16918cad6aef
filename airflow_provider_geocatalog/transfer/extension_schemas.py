"""
What STAC asks of the fields of items, version 1.0.0 and 1.1.0, and of the common extensions: as data, in our own words.

The official schemas are elsewhere on the internet, which a worker need not reach, and take milliseconds an item. A rule
here looks at one value in less than a microsecond. Where versions of an extension differ, what any of them allows is
accepted; fields that no rule knows are accepted as well.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    #: Returns what is wrong with a value, to be read after its name; ``None`` if nothing is.
    Rule = Callable[[Any], str | None]

__all__ = [
    "ASSET_FIELDS",
    "BAND_FIELDS",
    "COMMON_FIELDS",
    "DATA_FIELDS",
    "LINK_FIELDS",
    "Extension",
    "extension_of",
    "is_number",
    "members_problems",
    "moment_problem",
    "shown",
]

_NUMBERS = frozenset({int, float})
_SHOWN = 80  # characters of a value in a sentence
#: RFC 3339; STAC wants UTC.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", re.ASCII)
_EXTENSION = re.compile(r"https://stac-extensions\.github\.io/([a-z0-9-]+)/v(\d+)\.[^/]*/schema\.json#?")


def shown(value: Any) -> str:
    """Return a value for a sentence."""
    text = repr(value[:_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN + 2 else text[:_SHOWN] + "..."


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a finite number."""
    kind = type(value)
    return kind is int or (kind is float and value - value == 0)


def members_problems(members: Mapping[str, Any], rules: Mapping[str, Rule], where: str) -> list[str]:
    """
    Look at those members of an object that have a rule.

    :param where: What stands before a member's name, such as ``properties.``.
    """
    problems = []
    for name, value in members.items():
        rule = rules.get(name)
        if rule is not None:
            problem = rule(value)
            if problem is not None:
                problems.append(f"'{where}{name}' {problem}")
    return problems


# --- rules ------------------------------------------------------------------------------------------------------------


def _text(pattern: str | None = None, *, empty: bool = True, words: str = "text") -> Rule:
    form = re.compile(pattern) if pattern else None

    def rule(value: Any) -> str | None:
        good = isinstance(value, str) and (empty or value) and (form is None or form.search(value))
        return None if good else f"is {shown(value)}, not {words}"

    return rule


def _number(least: float | None = None, most: float | None = None, *, above: float | None = None) -> Rule:
    words = "a number"
    if least is not None:
        words += f" of at least {least}" if most is None else f" from {least} to {most}"
    if above is not None:
        words += f" above {above}"

    def rule(value: Any) -> str | None:
        good = (
            is_number(value)
            and (least is None or value >= least)
            and (most is None or value <= most)
            and (above is None or value > above)
        )
        return None if good else f"is {shown(value)}, not {words}"

    return rule


def _integer(least: int | None = None) -> Rule:
    words = "a whole number" if least is None else f"a whole number of at least {least}"

    def rule(value: Any) -> str | None:
        # JSON has one kind of numbers: 1.0 is whole.
        good = is_number(value) and value == int(value) and (least is None or value >= least)
        return None if good else f"is {shown(value)}, not {words}"

    return rule


def _one_of(*values: str) -> Rule:
    known = frozenset(values)

    def rule(value: Any) -> str | None:
        good = isinstance(value, str) and value in known
        return None if good else f"is {shown(value)}, not one of {', '.join(values)}"

    return rule


def _or_null(rule: Rule) -> Rule:
    return lambda value: None if value is None else rule(value)


def _either(first: Rule, second: Rule) -> Rule:
    return lambda value: None if second(value) is None else first(value)


def _list(rule: Rule, *, sizes: Sequence[int] = (), least: int = 0, distinct: bool = False) -> Rule:
    def of_list(value: Any) -> str | None:
        if not isinstance(value, list):
            return f"is {shown(value)}, not a list"
        if sizes and len(value) not in sizes:
            return f"has {len(value)} entries, not {' or '.join(map(str, sizes))}"
        if len(value) < least:
            return f"has {len(value)} entries; there is at least {least}"
        for number, one in enumerate(value):
            problem = rule(one)
            if problem is not None:
                return f"has an entry that is wrong: number {number} {problem}"
        if distinct and any(one in value[:number] for number, one in enumerate(value)):
            return "has an entry twice"
        return None

    return of_list


def _numbers(*sizes: int) -> Rule:
    precise = _list(_number(), sizes=sizes)

    def of_numbers(value: Any) -> str | None:
        # Most lists of an item are such ones. That none is infinite follows from the item's being JSON.
        good = isinstance(value, list) and len(value) in sizes and _NUMBERS.issuperset(map(type, value))
        return None if good else precise(value)

    return of_numbers


def _object(fields: Mapping[str, Rule], *, required: Sequence[str] = (), least: int = 0) -> Rule:
    def of_object(value: Any) -> str | None:
        if not isinstance(value, dict):
            return f"is {shown(value)}, not an object"
        if len(value) < least:
            return "is empty"
        for name in required:
            if name not in value:
                return f"has no {name!r}"
        for name, one in value.items():
            rule = fields.get(name)
            problem = rule(one) if rule is not None else None
            if problem is not None:
                return f"is wrong: its {name!r} {problem}"
        return None

    return of_object


def _object_of_texts(value: Any) -> str | None:
    good = isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    return None if good else f"is {shown(value)}, not an object of texts"


def _anything(_: Any) -> str | None:
    return None


def moment_problem(value: Any) -> str | None:
    """Say what is wrong with a moment; nothing if it is one in UTC, as RFC 3339 writes it."""
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        try:
            datetime.datetime.fromisoformat(value[:19])
        except ValueError as error:
            return f"is {value!r}, a time that there is not ({error})"
        return None
    return f"is {shown(value)}, not a time in UTC such as '2024-01-31T12:00:00Z' (RFC 3339)"


def _any_moment(value: Any) -> str | None:
    """Of extensions, which do not insist on UTC."""
    text = value[:-6] + "Z" if isinstance(value, str) and value[-6:-5] in ("+", "-") else value
    return moment_problem(text)


# --- the core ---------------------------------------------------------------------------------------------------------

_A_TEXT, _SOME_TEXT, _TEXTS = _text(), _text(empty=False, words="some text"), _list(_text())
_A_NUMBER, _A_SHARE, _A_COUNT = _number(), _number(0, 100), _integer(0)
_DATA_TYPE = _one_of(
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"),
    *("cint16", "cint32", "cfloat32", "cfloat64", "other"),
)
_NODATA = _either(_A_NUMBER, _one_of("nan", "inf", "-inf"))
_STATISTICS = {
    "minimum": _A_NUMBER,
    "maximum": _A_NUMBER,
    "mean": _A_NUMBER,
    "stddev": _A_NUMBER,
    "count": _A_COUNT,
    "valid_percent": _A_SHARE,
}
_PROVIDER = {
    "name": _SOME_TEXT,
    "description": _A_TEXT,
    "roles": _list(_one_of("producer", "licensor", "processor", "host")),
    "url": _A_TEXT,
}

#: Common metadata, of properties and assets.
COMMON_FIELDS: dict[str, Rule] = {
    "title": _A_TEXT,
    "description": _SOME_TEXT,
    "keywords": _TEXTS,
    "roles": _TEXTS,
    "start_datetime": moment_problem,
    "end_datetime": moment_problem,
    "created": moment_problem,
    "updated": moment_problem,
    "platform": _A_TEXT,
    "instruments": _TEXTS,
    "constellation": _A_TEXT,
    "mission": _A_TEXT,
    "gsd": _number(above=0),
    "license": _text(r"^[\w\-.+]+$", words="the name of a license"),
    "providers": _list(_object(_PROVIDER, required=("name",))),
}
#: What 1.1.0 added to them.
DATA_FIELDS: dict[str, Rule] = {
    "data_type": _DATA_TYPE,
    "nodata": _NODATA,
    "statistics": _object(_STATISTICS, least=1),
    "unit": _A_TEXT,
}
#: Of entries of ``bands``, of 1.1.0.
BAND_FIELDS: dict[str, Rule] = {"name": _A_TEXT}
ASSET_FIELDS: dict[str, Rule] = {"type": _A_TEXT}
LINK_FIELDS: dict[str, Rule] = {"rel": _SOME_TEXT, "href": _SOME_TEXT, "type": _A_TEXT, "title": _A_TEXT}


# --- extensions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extension:
    """
    What an extension asks.

    :param fields: Rules for fields of properties, assets and bands.
    :param all_of: Fields that an item has to have somewhere.
    :param any_of: Fields of which an item has to have one somewhere.
    :param of_assets: Fields that properties can have only if an asset has them too.
    """

    fields: Mapping[str, Rule]
    all_of: Sequence[str] = ()
    any_of: Sequence[str] = ()
    of_assets: Sequence[str] = ()


def extension_of(uri: str) -> Extension | None:
    """Return what the extension with this schema asks; ``None`` where that is not known."""
    match = _EXTENSION.fullmatch(uri)
    return _EXTENSIONS.get((match[1], int(match[2]))) if match else None


def _with_prefix(prefix: str, fields: Mapping[str, Rule]) -> dict[str, Rule]:
    return {f"{prefix}:{name}": rule for name, rule in fields.items()}


_EO_BAND = {
    "name": _A_TEXT,
    "common_name": _A_TEXT,
    "center_wavelength": _A_NUMBER,
    "full_width_half_max": _A_NUMBER,
    "solar_illumination": _A_NUMBER,
}
_EO = {"cloud_cover": _A_SHARE, "snow_cover": _A_SHARE}
_PROJ = {
    "wkt2": _or_null(_A_TEXT),
    "projjson": _or_null(_object({})),
    "geometry": _object({"type": _A_TEXT}, required=("type",)),
    "bbox": _numbers(4, 6),
    "centroid": _object({"lat": _number(-90, 90), "lon": _number(-180, 180)}, required=("lat", "lon")),
    "shape": _list(_integer(), sizes=(2,)),
    "transform": _numbers(6, 9),
}
_RASTER = {
    "bits_per_sample": _integer(),
    "sampling": _one_of("area", "point"),
    "scale": _A_NUMBER,
    "offset": _A_NUMBER,
    "spatial_resolution": _A_NUMBER,
    "histogram": _object(
        {"count": _A_NUMBER, "min": _A_NUMBER, "max": _A_NUMBER, "buckets": _list(_A_NUMBER, least=3)},
        required=("count", "min", "max", "buckets"),
    ),
}
_RASTER_BAND = {
    **_RASTER,
    "data_type": _DATA_TYPE,
    "nodata": _NODATA,
    "unit": _A_TEXT,
    "statistics": _object(dict.fromkeys(_STATISTICS, _A_NUMBER), least=1),
}
_SAR = {
    "instrument_mode": _SOME_TEXT,
    "frequency_band": _one_of("P", "L", "S", "C", "X", "Ku", "K", "Ka"),
    "center_frequency": _A_NUMBER,
    "polarizations": _list(_one_of("HH", "VV", "HV", "VH"), least=1, distinct=True),
    "product_type": _SOME_TEXT,
    "resolution_range": _number(0),
    "resolution_azimuth": _number(0),
    "pixel_spacing_range": _number(0),
    "pixel_spacing_azimuth": _number(0),
    "looks_range": _A_COUNT,
    "looks_azimuth": _A_COUNT,
    "looks_equivalent_number": _number(0),
    "observation_direction": _one_of("left", "right"),
    "beam_ids": _TEXTS,
}
_SAT = {
    "platform_international_designator": _A_TEXT,
    "orbit_state": _one_of("ascending", "descending", "geostationary"),
    "absolute_orbit": _integer(1),
    "relative_orbit": _integer(1),
    "orbit_cycle": _integer(1),
    "anx_datetime": _any_moment,
    "orbit_state_vectors": _object({}),
}
_VIEW = {
    "off_nadir": _number(0, 90),
    "incidence_angle": _number(0, 90),
    "azimuth": _number(0, 360),
    "sun_azimuth": _number(0, 360),
    "sun_elevation": _number(-90, 90),
    "moon_azimuth": _anything,
    "moon_elevation": _anything,
}
_FILE = {
    "byte_order": _one_of("big-endian", "little-endian"),
    "checksum": _text(r"^[a-f0-9]+$", words="a multihash in lower-case hex"),
    "header_size": _A_COUNT,
    "size": _A_COUNT,
    "values": _list(_object({"values": _list(_anything, least=1)}, required=("values",)), least=1),
    "local_path": _SOME_TEXT,
}
_PROCESSING = {
    "expression": _object({"format": _A_TEXT}, required=("format", "expression")),
    "lineage": _A_TEXT,
    "level": _A_TEXT,
    "facility": _A_TEXT,
    "software": _object_of_texts,
}
_DOI = _text(r"^10\.[0-9a-zA-Z]{4,}/[^\s]+$", words="a DOI such as '10.1000/182'")
_SCI = {"doi": _DOI, "citation": _A_TEXT, "publications": _list(_object({"doi": _DOI, "citation": _A_TEXT}))}
_CLASSES = _list(_object({"value": _integer(), "name": _A_TEXT, "description": _A_TEXT}, required=("value",)), least=1)
_CLASSIFICATION = {
    "classes": _CLASSES,
    "bitfields": _list(
        _object(
            {"offset": _A_COUNT, "length": _integer(1), "classes": _CLASSES}, required=("offset", "length", "classes")
        ),
        least=1,
    ),
}
_MGRS = {
    "latitude_band": _A_TEXT,
    "grid_square": _A_TEXT,
    "utm_zone": _either(_text(words="a zone of UTM"), _integer(1)),
}
_GRID = _with_prefix("grid", {"code": _A_TEXT})
_TIMESTAMPS = dict.fromkeys(("published", "unpublished", "expires"), _or_null(_any_moment))


def _any_of(prefix: str, fields: Mapping[str, Rule]) -> Extension:
    named = _with_prefix(prefix, fields)
    return Extension(named, any_of=tuple(named))


#: By name and major version.
_EXTENSIONS: dict[tuple[str, int], Extension] = {
    ("eo", 1): Extension(
        _with_prefix("eo", {**_EO, "bands": _list(_object(_EO_BAND, least=1), least=1)}), of_assets=("eo:bands",)
    ),
    ("eo", 2): Extension(_with_prefix("eo", {**_EO, **_EO_BAND})),
    ("projection", 1): Extension(_with_prefix("proj", {**_PROJ, "epsg": _or_null(_integer())})),
    ("projection", 2): Extension(_with_prefix("proj", {**_PROJ, "code": _or_null(_A_TEXT)})),
    ("raster", 1): Extension(_with_prefix("raster", {"bands": _list(_object(_RASTER_BAND, least=1), least=1)})),
    ("raster", 2): Extension(_with_prefix("raster", _RASTER)),
    ("view", 1): _any_of("view", _VIEW),
    ("sat", 1): _any_of("sat", _SAT),
    ("sar", 1): Extension(_with_prefix("sar", _SAR), all_of=("sar:instrument_mode", "sar:frequency_band")),
    ("file", 1): Extension(_with_prefix("file", _FILE)),
    ("file", 2): Extension(_with_prefix("file", _FILE)),
    ("grid", 1): Extension(_GRID, all_of=tuple(_GRID)),
    ("mgrs", 1): Extension(_with_prefix("mgrs", _MGRS), all_of=("mgrs:latitude_band", "mgrs:grid_square")),
    ("timestamps", 1): Extension(_TIMESTAMPS),
    ("processing", 1): Extension(_with_prefix("processing", _PROCESSING)),
    ("scientific", 1): _any_of("sci", _SCI),
    ("classification", 1): Extension(_with_prefix("classification", _CLASSIFICATION)),
    ("classification", 2): Extension(_with_prefix("classification", _CLASSIFICATION)),
}
