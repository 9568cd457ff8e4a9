"""Kernels of the region tracer: how rings turn at a row of vertices.

Between two rows of cells lies a row of vertices. At a vertex up to four edges meet: *up, right, down, left*, numbered
clockwise from 0; an edge is there where the cells on its two sides differ. Cells of one label between two neighbouring
edges form a sector of one region, and the region's ring turns there: it comes in along the sector's last edge and goes
out along its first one, with the region on the right hand. So every sector of a vertex that is not a straight passage
adds one vertex to a ring.

Rings grow downwards. Where neither edge of a sector was met before, a new chain of vertices begins; it grows at two
ends, *ahead* and *back*. Where one edge was met, the end that waits there grows; where both were, two ends are joined,
and if they are of the same chain, a ring is closed. Two ends wait at every vertical edge that leads down: of the region
on its left (which goes ahead down this edge) and on its right (back), and likewise under and over every horizontal
edge.

A vertex is left out where two edges meet in a straight line, and where simplification dropped it
(``simplify.py``); where three or four edges meet it is kept. Either way that holds for all rings there, so neighbours
always have the same vertices.

Where two cells of one label touch by a corner only, a ring may visit the vertex twice; such vertices are marked as a
touch and the ring is split there when the region is complete (:mod:`dualproto_wsi.vector.polygons.rings`).
"""

from __future__ import annotations

from dualproto_wsi.compiled import compiled
from dualproto_wsi.vector.polygons.chains import begin_chain, go_ahead, go_back, join_chains
from dualproto_wsi.vector.polygons.state import Int32, Int64, Record, Records, UInt8

Four = tuple[int, int, int, int]

UP, RIGHT, DOWN, LEFT = 0, 1, 2, 3


@compiled
def turn(
    above: Records,
    below: Records,
    row: int,
    kept: UInt8,
    waiting: Int32,
    blocks: Records,
    ends: Records,
    components: Records,
    counts: Int64,
) -> None:
    """Go along the row of vertices above row `row` and grow the rings that turn there.

    `kept` tells for each vertex of the row whether the rings keep it; empty: they keep all.
    """
    end = len(below) - 1
    over, under = -1, -1  # ends that wait at the horizontal edge on the left
    i, j = 0, 0  # the runs on the left
    start = min(above[1].start, below[1].start)
    while start < end:
        up, down = int(above[i + 1].start == start), int(below[j + 1].start == start)
        a, b, c, d = above[i], above[i + up], below[j], below[j + down]
        right, left = int(b.label != d.label), int(a.label != c.label)
        if right or left or not (up and down):
            edges, labels = (up, right, down, left), (b.label, d.label, c.label, a.label)
            owners = (b.component, d.component, c.component, a.component)  # of the sectors clockwise after each edge
            vertex = row << 32 | (start - 1) << 1 if len(kept) == 0 or kept[start - 1] else -1
            over, under = _turn(
                waiting[start - 1], blocks, ends, components, counts, vertex, edges, labels, owners, over, under
            )
        i += up
        j += down
        start = min(above[i + 1].start, below[j + 1].start)


@compiled
def _turn(
    waiting: Int32,
    blocks: Records,
    ends: Records,
    components: Records,
    counts: Int64,
    vertex: int,
    edges: Four,
    labels: Four,
    owners: Four,
    over: int,
    under: int,
) -> tuple[int, int]:
    """Turn in every sector of a vertex, -1 for a dropped one; return the ends that wait at the edge on its right."""
    left, right = waiting[0], waiting[1]
    new_over, new_under = -1, -1
    crossing = edges[0] + edges[1] + edges[2] + edges[3] == 4
    for out in range(4):
        if not edges[out] or labels[out] == 0:
            continue
        into = (out + 1) & 3
        while not edges[into]:
            into = (into + 1) & 3
        touch = int(crossing and labels[out] == labels[(out + 2) & 3])
        component = components[owners[out]]
        component.vertices += vertex >= 0
        ahead, back = _met(into, left, under), _met(out, right, over)
        ahead, back = _grow(blocks, ends, component, counts, ahead, back, vertex | touch)
        if into == RIGHT:
            new_over = back
        elif into == DOWN:
            waiting[1] = back
        if out == RIGHT:
            new_under = ahead
        elif out == DOWN:
            waiting[0] = ahead
    return new_over, new_under


@compiled
def _met(edge: int, up: int, left: int) -> int:
    """Return the end that waits at an edge, -1 for those that lead on."""
    if edge == UP:
        return up
    return left if edge == LEFT else -1


@compiled
def _grow(
    blocks: Records, ends: Records, component: Record, counts: Int64, ahead: int, back: int, vertex: int
) -> tuple[int, int]:
    """Add a vertex, -1 for none, to the ends that meet in it, -1 for those that are not there yet; return the ends."""
    if ahead < 0 and back < 0:
        return begin_chain(blocks, ends, counts, vertex)
    if vertex >= 0 and ahead >= 0:
        go_ahead(blocks, ends, counts, ahead, vertex)
    elif vertex >= 0:
        go_back(blocks, ends, counts, back, vertex)
    if ahead >= 0 and back >= 0:
        join_chains(blocks, ends, component, counts, ahead, back)
    return ahead, back
