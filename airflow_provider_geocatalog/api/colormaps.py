"""Colormaps: the names that the service knows (``ColorMapNames`` of the SDK), and the form of those of one's own."""

from __future__ import annotations

import difflib
import json
import re
from typing import Any

__all__ = ["COLORMAP_NAMES", "colormap_name_problems", "colormap_problems"]

_REVERSIBLE = """
    accent afmhot algae amp autumn balance binary blues bone brbg brg bugn bupu bwr cividis cmrmap cool coolwarm
    copper cubehelix curl dark2 deep delta dense diff flag gist_earth gist_gray gist_heat gist_ncar gist_rainbow
    gist_stern gist_yarg gnbu gnuplot gnuplot2 gray greens greys haline hot hsv ice inferno jet magma matter
    nipy_spectral ocean oranges orrd oxy paired pastel1 pastel2 phase pink piyg plasma prgn prism pubu pubugn
    puor purd purples rain rainbow rdbu rdgy rdpu rdylbu rdylgn reds seismic set1 set2 set3 solar spectral speed
    spring summer tab10 tab20 tab20b tab20c tarn tempo terrain thermal topo turbid turbo twilight
    twilight_shifted viridis winter wistia ylgn ylgnbu ylorbr ylorrd
"""
_OTHERS = """
    ai4g-lulc alos-fnf alos-palsar-mask c-cap cfastie chesapeake-lc-13 chesapeake-lc-7 chesapeake-lu
    chloris-biomass drcog-lulc esa-cci-lc esa-worldcover gap-lulc io-bii io-lulc io-lulc-9-class jrc-change
    jrc-extent jrc-occurrence jrc-recurrence jrc-seasonality jrc-transitions lidar-classification lidar-hag
    lidar-hag-alternative lidar-intensity lidar-returns modis-10A1 modis-10A2 modis-13A1|Q1 modis-14A1|A2
    modis-15A2H|A3H modis-16A3GF-ET modis-16A3GF-PET modis-17A2H|A2HGF modis-17A3HGF modis-64A1 mtbs-severity
    nrcan-lulc qpe rplumbo schwarzwald usda-cdl usda-cdl-corn usda-cdl-cotton usda-cdl-soybeans usda-cdl-wheat
    usgs-lcmap viirs-10a1 viirs-13a1 viirs-14a1 viirs-15a2H
"""
COLORMAP_NAMES = frozenset([*_REVERSIBLE.split(), *(f"{name}_r" for name in _REVERSIBLE.split()), *_OTHERS.split()])
_HEX_COLOR = re.compile(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{8}|[0-9a-fA-F]{3,4})")


def colormap_name_problems(name: str) -> list[str]:
    """Check the name of a colormap; the service does not mind upper case."""
    if name.lower() in {known.lower() for known in COLORMAP_NAMES}:
        return []
    close = difflib.get_close_matches(name.lower(), COLORMAP_NAMES, n=1)
    return [f"the service knows no colormap {name!r}{f'; did you mean {close[0]!r}?' if close else ''}"]


def colormap_problems(text: str) -> list[str]:
    """Check a colormap of one's own: colors by value, or by interval of values, as JSON."""
    try:
        colormap = json.loads(text)
    except ValueError as error:
        return [f"the colormap is not JSON: {error}"]
    if isinstance(colormap, dict) and colormap:
        wrong = [value for value in colormap if not _is_number(value)]
        problems = [f"the colormap's {value!r} is no number" for value in wrong[:1]]
        wrong = [value for value, color in colormap.items() if not _is_color(color)]
        return problems + [f"the colormap's color of {value} is {colormap[value]!r}; {_COLOR}" for value in wrong[:1]]
    if isinstance(colormap, list) and colormap:
        bad = [entry for entry in colormap if not _is_interval(entry)]
        return [f"the colormap's entry {entry!r} is not [[from, to], color]; {_COLOR}" for entry in bad[:1]]
    return ["a colormap is an object of colors by value, or a list of [[from, to], color]"]


_COLOR = "a color is [red, green, blue, alpha] from 0 to 255, or '#rrggbb'"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_interval(entry: Any) -> bool:
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], list) or len(entry[0]) != 2:
        return False
    return all(isinstance(end, int | float) for end in entry[0]) and _is_color(entry[1])


def _is_color(color: Any) -> bool:
    if isinstance(color, str):
        return bool(_HEX_COLOR.fullmatch(color))
    return isinstance(color, list) and len(color) in (3, 4) and all(isinstance(n, int) and 0 <= n <= 255 for n in color)
