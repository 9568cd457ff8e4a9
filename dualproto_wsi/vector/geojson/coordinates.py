"""Rings → the text of GeoJSON coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dualproto_wsi.compiled import compiled
from dualproto_wsi.vector.region import Polygon

T = TypeVar("T")

_BATCH = 1 << 16  # vertices
_PER_PX = 100  # two decimals
_LARGEST = 2.0**53

Integers = npt.NDArray[np.int64]
Text = npt.NDArray[np.uint8]

_OPEN, _CLOSE, _COMMA, _MINUS, _POINT, _ZERO = (ord(c) for c in "[],-.0")


def encode_polygons(polygons: Sequence[Polygon], offset: npt.NDArray[np.float64]) -> list[bytes]:
    """Encode polygons.

    Parameters
    ----------
    polygons : sequence of tuple of ndarray of float64, (n, 2)
        Each a shell and its holes, closed rings of (x, y), level-0 px.
    offset : ndarray of float64, (2,)
        (dx, dy) to subtract, level-0 px.

    Returns
    -------
    list of bytes
        ``[[[x,y],…],…]`` of each: rounded to 0.01 px, in the fewest digits.

    Raises
    ------
    ValueError
        If a ring is not closed, not finite, or has no extent in x or y.
    """
    rings = [ring for polygon in polygons for ring in polygon]
    ring_stops = np.cumsum([len(ring) for ring in rings])
    polygon_stops = np.cumsum([len(polygon) for polygon in polygons])
    if not len(rings):
        return []
    hundredths = np.rint((np.concatenate(rings) - offset) * _PER_PX)
    _require_closed_areas(hundredths, ring_stops)
    most = len(str(int(np.abs(hundredths).max()))) + 4  # a sign, "0.0" before a short number
    text = np.empty(len(hundredths) * (2 * most + 4) + 4 * (len(rings) + len(polygons)), np.uint8)
    stops = np.empty(len(polygons), np.int64)
    _encode(hundredths.astype(np.int64), ring_stops, polygon_stops, text, stops)
    encoded = text[: stops[-1]].tobytes()
    return [encoded[start:stop] for start, stop in pairwise([0, *stops.tolist()])]


def batches(items: Iterable[T], vertices: Callable[[T], int]) -> Iterator[list[T]]:
    """Cut a stream into lists that are large enough to be encoded fast, and small beside everything else.

    Parameters
    ----------
    items : iterable
    vertices : callable
        Number of vertices of an item.
    """
    batch, size = [], 0
    for item in items:
        batch.append(item)
        size += vertices(item)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _require_closed_areas(xy: npt.NDArray[np.float64], stops: Integers) -> None:
    starts = np.concatenate(([0], stops[:-1]))
    if (stops - starts < 4).any() or (xy[starts] != xy[stops - 1]).any():
        raise ValueError("a ring must be closed and have four vertices or more")
    low, high = np.minimum.reduceat(xy, starts), np.maximum.reduceat(xy, starts)
    if not (np.maximum(-low, high) < _LARGEST).all():
        raise ValueError("a coordinate is not finite")
    if (low == high).any():
        raise ValueError("a ring has no area once it is rounded to 0.01 px; QuPath shows a ghost object for it")


@compiled
def _encode(xy: Integers, ring_stops: Integers, polygon_stops: Integers, text: Text, text_stops: Integers) -> None:
    at, vertex, ring = 0, 0, 0
    for polygon in range(len(polygon_stops)):
        text[at] = _OPEN
        at += 1
        while ring < polygon_stops[polygon]:
            text[at] = _OPEN
            at += 1
            while vertex < ring_stops[ring]:
                text[at] = _OPEN
                at = _encode_number(xy[vertex, 0], text, at + 1)
                text[at] = _COMMA
                at = _encode_number(xy[vertex, 1], text, at + 1)
                text[at], text[at + 1] = _CLOSE, _COMMA
                at += 2
                vertex += 1
            text[at - 1], text[at] = _CLOSE, _COMMA
            at += 1
            ring += 1
        text[at - 1] = _CLOSE
        text_stops[polygon] = at


@compiled
def _encode_number(hundredths: int, text: Text, at: int) -> int:
    """Write a number of hundredths; return where the text goes on."""
    if hundredths < 0:
        text[at] = _MINUS
        at += 1
        hundredths = -hundredths
    whole, rest = divmod(hundredths, _PER_PX)
    digits, left = 1, whole // 10
    while left:
        digits += 1
        left //= 10
    at += digits
    for place in range(1, digits + 1):
        whole, digit = divmod(whole, 10)
        text[at - place] = _ZERO + digit
    if rest:
        text[at], text[at + 1] = _POINT, _ZERO + rest // 10
        at += 2
        if rest % 10:
            text[at] = _ZERO + rest % 10
            at += 1
    return at
