"""Kernels of the region tracer: blocks of complete components → simple closed rings."""

from __future__ import annotations

import numpy as np

from dualproto_wsi.compiled import compiled
from dualproto_wsi.vector.polygons.chains import free_end, read_chain
from dualproto_wsi.vector.polygons.state import DONE, UNUSED, Int32, Int64, Records


@compiled
def extract(
    blocks: Records, ends: Records, components: Records, lists: Int32, counts: Int64
) -> tuple[Int64, Int64, Int64]:
    """Write the rings of all complete components and free all that they hold.

    Each ring starts at its topmost, then leftmost vertex and keeps the region on the right hand (as seen on the
    screen); the rings of a region are ordered by that vertex, the shell first.

    Parameters
    ----------
    blocks, ends, components, lists, counts : ndarray
        Fields of `State`.

    Returns
    -------
    vertices : ndarray of int64, (n,)
        Closed rings as in the blocks, one after the other; not in the order of `bounds`.
    bounds : ndarray of int64, (rings, 2)
        Where each ring starts and ends in `vertices`.
    region_stop : ndarray of int64, (components,)
        Where the rings of each component end in `bounds`.
    """
    size = 0
    for i in range(counts[DONE]):
        size += components[lists[DONE, i]].vertices
    vertices, bounds = np.empty(size + size // 3, np.int64), np.empty((size // 3, 2), np.int64)
    region_stop = np.empty(counts[DONE], np.int64)
    stop, rings = 0, 0
    for i in range(counts[DONE]):
        number = lists[DONE, i]
        first_ring, ring = rings, components[number].head
        while ring >= 0:
            length, touches = read_chain(blocks, counts, ends[ring], vertices[stop:])
            stop, rings = _split(vertices, stop, length, touches, bounds, rings)
            following = ends[ring].mate
            free_end(ends, counts, ring)
            ring = following
        _order(bounds[first_ring:rings], vertices)
        region_stop[i] = rings
        lists[UNUSED, counts[UNUSED]] = number
        counts[UNUSED] += 1
    counts[DONE] = 0
    return vertices[:stop], bounds[:rings], region_stop


@compiled
def _split(vertices: Int64, start: int, length: int, touches: int, bounds: Int64, rings: int) -> tuple[int, int]:
    """Split a ring where it passes a vertex twice, and close the pieces; return where vertices and rings end.

    The passages of different vertices do not interlace, so exchanging the ways out of the two passages of a vertex
    always splits a ring in two.
    """
    if touches < 2:
        bounds[rings, 0], bounds[rings, 1] = start, _close(vertices, start, length)
        return bounds[rings, 1], rings + 1
    ring = vertices[start : start + length]
    behind = np.argmax(ring & 1) + 1
    ring = np.concatenate((ring[behind:], ring[:behind]))  # now made of pieces that each end with a touch
    ends = np.nonzero(ring & 1)[0] + 1
    following = _next_pieces(ring[ends - 1])
    for i in range(touches):
        piece, stop = i, start
        while following[piece] >= 0:
            begin = ends[piece - 1] if piece else 0
            vertices[stop : stop + ends[piece] - begin] = ring[begin : ends[piece]]
            stop += ends[piece] - begin
            visited, piece = piece, following[piece]
            following[visited] = -1
        if stop > start:
            bounds[rings, 0], bounds[rings, 1] = start, _close(vertices, start, stop - start)
            start = bounds[rings, 1]
            rings += 1
    return start, rings


@compiled
def _next_pieces(touch: Int64) -> Int64:
    """Return the piece that follows each piece, given the vertices at which they end."""
    count = len(touch)
    following = np.arange(1, count + 1) % count
    order = np.argsort(touch)
    for i in range(1, count):
        one, two = order[i - 1], order[i]
        if touch[one] == touch[two]:
            following[one], following[two] = following[two], following[one]
    return following


@compiled
def _close(vertices: Int64, start: int, length: int) -> int:
    """Turn a ring so that it starts with its first vertex in reading order, and repeat that; return where it ends."""
    ring = vertices[start : start + length]
    first = np.argmin(ring)
    if first > 0:
        ring[:] = np.concatenate((ring[first:], ring[:first]))
    vertices[start + length] = ring[0]
    return start + length + 1


@compiled
def _order(bounds: Int64, vertices: Int64) -> None:
    """Order rings by their first vertices, of two that share the very first one (after simplification) the shell."""
    if len(bounds) < 2:
        return
    bounds[:] = bounds[np.argsort(vertices[bounds[:, 0]])]
    for i in range(2):
        start, stop = bounds[i, 0], bounds[i, 1]
        if _doubled_area(vertices[start:stop]) > 0:
            bounds[i] = bounds[0]
            bounds[0, 0], bounds[0, 1] = start, stop
            return


@compiled
def _doubled_area(ring: Int64) -> int:
    """Return twice the area inside a closed ring, negative for a hole."""
    area = 0
    for i in range(1, len(ring)):
        x0, y0 = (ring[i - 1] & 0xFFFFFFFF) >> 1, ring[i - 1] >> 32
        x1, y1 = (ring[i] & 0xFFFFFFFF) >> 1, ring[i] >> 32
        area += x0 * y1 - x1 * y0
    return area
