"""Simplification of a label map's borders that keeps them shared: which vertices may go, for all regions at once.

Borders are simplified before they are traced. The vertices of the map (grid points where borders turn or meet) are
dropped one by one, the one that spans the smallest triangle with its two neighbours first (Visvalingam & Whyatt,
*The Cartographic Journal* 30, 1993, 46-51), as long as all of these hold:

- exactly two edges meet there (junctions and touches stay);
- every vertex dropped so far between the two neighbours lies within the tolerance of the new edge between them, so
  border and simplified border are nowhere farther apart than the tolerance (Hausdorff distance);
- no other vertex lies in the triangle, edges included. As edges do not cross before, nothing can cross the new edge:
  regions neither touch nor swap sides, holes stay in their shells;
- the neighbours are not joined by an edge already, nor by two: no region is left with less than four vertices where
  one more can be kept, and none vanishes;
- the new edge spans at most `REACH` columns and rows. Then no vertex lies nearer than 1/46 cell to an edge, and
  rounding to 0.01 px cannot make edges cross as long as a cell has 0.65 px or more.

The map is cut into squares of `SIDE` cells, counted from its first cell. Edges that leave a square keep their ends, so
squares do not depend on each other, and only one row of them has to be held.
"""

from __future__ import annotations

import numpy as np

from dualproto_wsi.compiled import compiled
from dualproto_wsi.vector.polygons.state import Int32, UInt8

SIDE = 256
REACH = 32

UP, RIGHT, DOWN, LEFT = 0, 1, 2, 3
NONE, OUT = -1, -2
"""Instead of a neighbour: no edge there, or one that leaves the square."""


@compiled
def choose_vertices(labels: UInt8, tolerance: float, side: int, kept: UInt8) -> None:
    """Choose the vertices that the borders in a strip keep.

    Parameters
    ----------
    labels : ndarray of uint8, (n + 1, columns)
        Rows of the map, the first one above the strip.
    tolerance : float
        How far a border may move, cells.
    side : int
        Columns of a square.
    kept : ndarray of uint8, (n, columns + 1)
        Filled with 1, or 0 for a vertex to drop. Row i is the row of vertices above row i + 1 of `labels`.
    """
    kept[:] = 1
    rows, width = kept.shape
    number = np.empty((rows, min(side, width)), np.int32)
    size = number.size
    at, link, origin = np.empty((size, 2), np.int32), np.empty((size, 4), np.int32), np.empty((size, 4), np.int32)
    queued = np.empty((size, 3), np.int32)
    first_last = np.empty((int(tolerance * REACH * 1.5) + 2, 2), np.int32)
    for left in range(0, width, side):
        square = number[:, : min(side, width - left)]
        count = _find_vertices(labels, left, square, at, link)
        origin[:count] = link[:count]
        first_last[:] = NONE
        queued[:count] = NONE
        for v in range(count):
            _enqueue(queued, first_last, v, _rank(at, link, v, tolerance))
        _drop(square, at, link, origin, queued, first_last, tolerance, kept[:, left:])


@compiled
def _find_vertices(labels: UInt8, left: int, number: Int32, at: Int32, link: Int32) -> int:
    """Note the places and neighbours of all vertices of a square; return how many there are."""
    rows, width = number.shape
    columns = labels.shape[1]
    over = np.full(width, OUT, np.int32)
    number[:] = NONE
    count = 0
    for r in range(rows):
        before = OUT
        a, c = (labels[r, left - 1], labels[r + 1, left - 1]) if left > 0 else (np.uint8(0), np.uint8(0))
        for k in range(width):
            inside = left + k < columns
            b = labels[r, left + k] if inside else np.uint8(0)
            d = labels[r + 1, left + k] if inside else np.uint8(0)
            if (a != b or c != d) and (a != c or b != d):  # neither nothing nor a straight line
                before = _note(number, at, link, over, r, k, (a != b, b != d, c != d, a != c), before, count)
                count += 1
            a, c = b, d
    return count


@compiled
def _note(
    number: Int32,
    at: Int32,
    link: Int32,
    over: Int32,
    row: int,
    column: int,
    edges: tuple[bool, bool, bool, bool],
    before: int,
    v: int,
) -> int:
    """Note a vertex and its neighbours above and on the left; return what is on the left of the next one."""
    number[row, column] = v
    at[v, 0], at[v, 1] = column, row
    link[v] = NONE
    if edges[UP]:
        link[v, UP] = over[column]
        if over[column] >= 0:
            link[over[column], DOWN] = v
    if edges[LEFT]:
        link[v, LEFT] = before
        if before >= 0:
            link[before, RIGHT] = v
    if edges[DOWN]:
        link[v, DOWN] = OUT  # until a vertex is found there
        over[column] = v
    if edges[RIGHT]:
        link[v, RIGHT] = OUT
        return v
    return before


@compiled
def _drop(
    number: Int32,
    at: Int32,
    link: Int32,
    origin: Int32,
    queued: Int32,
    first_last: Int32,
    tolerance: float,
    kept: UInt8,
) -> None:
    """Drop vertices, the smallest triangle first."""
    rank = 0
    while rank < len(first_last):
        v = first_last[rank, 0]
        if v < 0:
            rank += 1
            continue
        _dequeue(queued, first_last, v)
        a, b = _two_edges(link, v)
        u, w = link[v, a], link[v, b]
        from_u, from_w = _edge_to(link, u, v), _edge_to(link, w, v)
        if _joined(link, u, v, w) or not _near(at, origin, u, from_u, w, tolerance) or not _empty(number, at, u, v, w):
            continue
        number[at[v, 1], at[v, 0]] = NONE
        kept[at[v, 1], at[v, 0]] = 0
        link[u, from_u], link[w, from_w] = w, u
        for neighbour in (u, w):
            _dequeue(queued, first_last, neighbour)
            new = _rank(at, link, neighbour, tolerance)
            _enqueue(queued, first_last, neighbour, new)
            rank = min(rank, new) if new >= 0 else rank


@compiled
def _two_edges(link: Int32, v: int) -> tuple[int, int]:
    """Return the two edges of a vertex, -1 where it has more, or one that leaves the square."""
    a, b = -1, -1
    for edge in range(4):
        if link[v, edge] == OUT or (link[v, edge] >= 0 and b >= 0):
            return -1, -1
        if link[v, edge] >= 0:
            a, b = (edge, b) if a < 0 else (a, edge)
    return a, b


@compiled
def _edge_to(link: Int32, u: int, v: int) -> int:
    edge = 0
    while link[u, edge] != v:
        edge += 1
    return edge


@compiled
def _rank(at: Int32, link: Int32, v: int, tolerance: float) -> int:
    """Return twice the area of the triangle at a vertex; -1 for a vertex that cannot be dropped."""
    a, b = _two_edges(link, v)
    if a < 0:
        return -1
    u, w = at[link[v, a]], at[link[v, b]]
    x, y = w[0] - u[0], w[1] - u[1]
    area = abs(x * (at[v, 1] - u[1]) - y * (at[v, 0] - u[0]))
    if max(abs(x), abs(y)) > REACH or area * area > tolerance * tolerance * (x * x + y * y):
        return -1
    return int(area)


@compiled
def _joined(link: Int32, u: int, v: int, w: int) -> bool:
    """Whether one edge or two lead from u to w, other than by v."""
    for a in range(4):
        x = link[u, a]
        if x == w:
            return True
        if x >= 0 and x != v:
            for b in range(4):
                if link[w, b] == x:
                    return True
    return False


@compiled
def _near(at: Int32, origin: Int32, u: int, edge: int, w: int, tolerance: float) -> bool:
    """Whether all vertices that the border had between u and w, by that edge of u, lie near the line from u to w."""
    x, y = at[w, 0] - at[u, 0], at[w, 1] - at[u, 1]
    limit, squared = tolerance * tolerance, x * x + y * y
    p = origin[u, edge]
    while p != w:
        px, py = at[p, 0] - at[u, 0], at[p, 1] - at[u, 1]
        along, across = px * x + py * y, px * y - py * x
        if along < 0:
            far = px * px + py * py > limit
        elif along > squared:
            far = (px - x) ** 2 + (py - y) ** 2 > limit
        else:
            far = across * across > limit * squared
        if far:
            return False
        arrival = (edge + 2) & 3
        edge = 0
        while edge == arrival or origin[p, edge] < 0:
            edge += 1
        p = origin[p, edge]
    return True


@compiled
def _empty(number: Int32, at: Int32, u: int, v: int, w: int) -> bool:
    """Whether the triangle with its edges holds no other vertex."""
    top = min(at[u, 1], at[v, 1], at[w, 1])
    bottom = max(at[u, 1], at[v, 1], at[w, 1])
    for row in range(top, bottom + 1):
        first, last = np.inf, -np.inf
        for p, q in ((u, v), (v, w), (w, u)):
            low, high = _columns_in(at[p], at[q], row)
            first, last = min(first, low), max(last, high)
        for column in range(int(np.ceil(first - 1e-9)), int(np.floor(last + 1e-9)) + 1):
            found = number[row, column]
            if found >= 0 and found != u and found != v and found != w:
                return False
    return True


@compiled
def _columns_in(p: Int32, q: Int32, row: int) -> tuple[float, float]:
    """Return the first and the last column of an edge in a row; infinity and its negative if it does not come there."""
    if row < min(p[1], q[1]) or row > max(p[1], q[1]):
        return np.inf, -np.inf
    if p[1] == q[1]:
        return float(min(p[0], q[0])), float(max(p[0], q[0]))
    column = p[0] + (row - p[1]) * (q[0] - p[0]) / (q[1] - p[1])
    return column, column


@compiled
def _enqueue(queued: Int32, first_last: Int32, v: int, rank: int) -> None:
    """Put a vertex behind the others of its rank, unless that is -1."""
    if rank < 0:
        return
    last = first_last[rank, 1]
    queued[v, 0], queued[v, 1], queued[v, 2] = last, NONE, rank
    if last >= 0:
        queued[last, 1] = v
    else:
        first_last[rank, 0] = v
    first_last[rank, 1] = v


@compiled
def _dequeue(queued: Int32, first_last: Int32, v: int) -> None:
    """Take a vertex out of the queue of its rank, if it is in one."""
    before, behind, rank = queued[v, 0], queued[v, 1], queued[v, 2]
    if rank < 0:
        return
    if before >= 0:
        queued[before, 1] = behind
    else:
        first_last[rank, 0] = behind
    if behind >= 0:
        queued[behind, 0] = before
    else:
        first_last[rank, 1] = before
    queued[v, 2] = NONE
