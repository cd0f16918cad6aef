"""Footprints on a map without tiles: an SVG with longitudes, latitudes, and the outlines of items."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import shapely

from airflow_provider_geocatalog.emulator.markup import Markup, element

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["draw"]

_STEPS = (60, 30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)  # degrees
_WORLD = (-180.0, -90.0, 180.0, 90.0)
_SHAPE = 2.0  # width of a map for its height
_SMALLEST = 0.004  # degrees that a map covers at least
_FINEST = 400  # parts of the map's width; what is smaller than one is drawn as a dot
_MANY = 40  # points of an outline above which it is simplified
_LABEL = 0.026  # height of a label for the map's height


def draw(layers: Sequence[Sequence[Any]], label: str) -> Markup:
    """
    Return a map, cut to what it shows.

    :param layers: Shapes (shapely); each layer has its own colour.
    :param label: What the map shows, for those who do not see it.
    """
    west, south, east, north = _window(layers)
    width, height = east - west, north - south
    parts = [_graticule(west, south, east, north)]
    for number, shapes in enumerate(layers):
        outlines, dots = _paths(shapes, width / _FINEST)
        for kind, lines in (("footprint", outlines), ("dot", dots)):
            if lines:
                parts.append(element("path", d=Markup("".join(lines)), class_=f"{kind} layer{number % 6}"))
    box = f"{west:.6g} {-north:.6g} {width:.6g} {height:.6g}"
    return element("svg", *parts, class_="map", viewBox=box, role="img", aria_label=label)


def _window(layers: Sequence[Sequence[Any]]) -> tuple[float, float, float, float]:
    """Return what a map has to cover, with a margin and in the shape of a map."""
    boxes = [tuple(map(float, shape.bounds)) for shapes in layers for shape in shapes]
    boxes = [box for box in boxes if all(map(math.isfinite, box))]
    if not boxes:
        return _WORLD
    west, south = (max(min(box[n] for box in boxes), _WORLD[n]) for n in (0, 1))
    east, north = (min(max(box[n] for box in boxes), _WORLD[n]) for n in (2, 3))
    height = max(1.3 * (north - south), 1.3 * (east - west) / _SHAPE, _SMALLEST)
    if height >= _WORLD[3] - _WORLD[1] or west > east or south > north:
        return _WORLD
    x, y = _inside(west, east, height * _SHAPE / 2, 180), _inside(south, north, height / 2, 90)
    return x - height * _SHAPE / 2, y - height / 2, x + height * _SHAPE / 2, y + height / 2


def _inside(low: float, high: float, half: float, edge: float) -> float:
    """Return the middle of a range, moved so that a map around it does not leave the world."""
    return min(max((low + high) / 2, half - edge), edge - half)


def _graticule(west: float, south: float, east: float, north: float) -> Markup:
    height = north - south
    step = next((one for one in _STEPS if (east - west) / one >= 6), _STEPS[-1])
    size = f"{height * _LABEL:.6g}"
    lines, labels = [], []
    for x in _multiples(step, west, east):
        lines.append(f"M{x:.6g} {-north:.6g}V{-south:.6g}")
        place = {"x": f"{x + height * 0.006:.6g}", "y": f"{-south - height * 0.01:.6g}"}
        labels.append(element("text", _degrees(x, "E", "W"), font_size=size, **place))
    for y in _multiples(step, south, north):
        lines.append(f"M{west:.6g} {-y:.6g}H{east:.6g}")
        place = {"x": f"{west + height * 0.008:.6g}", "y": f"{-y - height * 0.006:.6g}"}
        labels.append(element("text", _degrees(y, "N", "S"), font_size=size, **place))
    return element("g", element("path", d=Markup("".join(lines))), *labels, class_="graticule")


def _multiples(step: float, low: float, high: float) -> Iterator[float]:
    for number in range(math.ceil(low / step) or 0, math.floor(high / step) + 1):
        if low < number * step < high:
            yield number * step


def _degrees(value: float, positive: str, negative: str) -> str:
    value = (value + 180) % 360 - 180 if positive == "E" else value
    return f"{abs(value):.6g}°{positive if value > 0 else negative if value < 0 else ''}"


def _paths(shapes: Sequence[Any], smallest: float) -> tuple[list[str], list[str]]:
    """Return the outlines of shapes, and dots for points and what is too small to have one."""
    outlines, dots = [], []
    waiting = list(shapes)
    while waiting:
        part = waiting.pop()
        if part.geom_type.startswith("Multi") or part.geom_type == "GeometryCollection":
            waiting += part.geoms
            continue
        west, south, east, north = part.bounds or (math.nan,) * 4
        if not all(map(math.isfinite, (west, south, east, north))):
            continue
        if max(east - west, north - south) < smallest:
            dots.append(f"M{_pair((west + east) / 2, (south + north) / 2)}h0")
            continue
        if shapely.get_num_coordinates(part) > _MANY:
            part = part.simplify(smallest / 4)
        is_area = part.geom_type == "Polygon"
        for ring in [part.exterior, *part.interiors] if is_area else [part]:
            outlines.append(f"M{'L'.join(_pair(x, y) for x, y, *_ in ring.coords)}{'Z' if is_area else ''}")
    return outlines, dots


def _pair(x: float, y: float) -> str:
    """Write a position, with what is off the world at its edge."""
    return f"{min(max(x, _WORLD[0]), _WORLD[2]):.7g} {-min(max(y, _WORLD[1]), _WORLD[3]):.7g}"
