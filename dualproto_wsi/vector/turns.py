"""Kernels of the region tracer: how rings turn at a row of vertices.

Between two rows of cells lies a row of vertices. At a vertex up to four edges meet: *up, right, down, left*, numbered
clockwise from 0; an edge is there where the cells on its two sides differ. Cells of one label between two neighbouring
edges form a sector of one region, and the region's ring turns there: it comes in along the sector's last edge and goes
out along its first one, with the region on the right hand. So every sector of a vertex that is not a straight passage
adds one vertex to a ring.

Rings grow downwards. Where neither edge of a sector was met before, a new part of a ring begins; it grows at two ends,
*ahead* and *back*. Where one edge was met, the part that waits there grows; where both were, two parts are joined.
Two parts wait at every vertical edge that leads down: of the region on its left (which goes ahead down this edge) and
on its right (back), and likewise under and over every horizontal edge.

A vertex is dropped only where two edges meet in a straight line; where three or four meet it is kept in all rings, so
neighbours always have the same vertices.

Where two cells of one label touch by a corner only, a ring may visit the vertex twice; such vertices are marked as a
touch and the ring is split there when the region is complete (:mod:`dualproto_wsi.vector.rings`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dualproto_wsi.vector.compiled import compiled
from dualproto_wsi.vector.trace_state import BLOCK, BLOCKS, FREE_BLOCK, FREE_PART, PARTS, Int32, Int64, Records

Four = tuple[int, int, int, int]

UP, RIGHT, DOWN, LEFT = 0, 1, 2, 3


@compiled
def turn(
    above: Records,
    below: Records,
    row: int,
    waiting: Int32,
    blocks: Int64,
    parts: Records,
    components: Records,
    counts: Int64,
) -> None:
    """Go along the row of vertices above row `row` and grow the rings that turn there."""
    end = len(below) - 1
    over, under = -1, -1  # parts that wait at the horizontal edge on the left
    i, j = 0, 0  # the runs on the left
    start = min(above[1].start, below[1].start)
    while start < end:
        up, down = int(above[i + 1].start == start), int(below[j + 1].start == start)
        a, b, c, d = above[i], above[i + up], below[j], below[j + down]
        right, left = int(b.label != d.label), int(a.label != c.label)
        if right or left or not (up and down):
            edges, labels = (up, right, down, left), (b.label, d.label, c.label, a.label)
            owners = (b.component, d.component, c.component, a.component)  # of the sectors clockwise after each edge
            vertex = np.int64(row) << 32 | (start - 1) << 1
            over, under = _turn(
                waiting[start - 1], blocks, parts, components, counts, vertex, edges, labels, owners, over, under
            )
        i += up
        j += down
        start = min(above[i + 1].start, below[j + 1].start)


@compiled
def _turn(
    waiting: Int32,
    blocks: Int64,
    parts: Records,
    components: Records,
    counts: Int64,
    vertex: int,
    edges: Four,
    labels: Four,
    owners: Four,
    over: int,
    under: int,
) -> tuple[int, int]:
    """Turn in every sector of a vertex; return the parts that wait over and under the edge on its right."""
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
        ahead, back = _met(into, left, under), _met(out, right, over)
        if ahead < 0 and back < 0:
            ahead = _begin(parts, components, counts, owners[out])
        part = _grow(blocks, parts, counts, ahead, back, vertex | touch)
        if into == RIGHT:
            new_over = part
        elif into == DOWN:
            waiting[1] = part
        if out == RIGHT:
            new_under = part
        elif out == DOWN:
            waiting[0] = part
    return new_over, new_under


@compiled
def _met(edge: int, up: int, left: int) -> int:
    """Return the part that waits at an edge, -1 for those that lead on."""
    if edge == UP:
        return up
    return left if edge == LEFT else -1


@compiled
def _grow(blocks: Int64, parts: Records, counts: Int64, ahead: int, back: int, vertex: int) -> int:
    """Add a vertex to the part that comes in here, or else that goes out here; join them where there are both."""
    if ahead < 0:
        _go_back(blocks, parts[back], counts, vertex)
        return back
    _go_ahead(blocks, parts[ahead], counts, vertex)
    if back >= 0:
        parts[ahead].joined = back
    return ahead


@compiled
def _begin(parts: Records, components: Records, counts: Int64, owner: int) -> int:
    """Begin a part of a component's ring."""
    number = counts[FREE_PART]
    part, component = parts[number], components[owner]
    counts[FREE_PART] = part.link
    counts[PARTS] -= 1
    part.first, part.ahead, part.back = -1, -1, -1
    part.ahead_fill, part.back_fill, part.vertices, part.link = BLOCK - 1, BLOCK - 1, 0, -1
    if component.head < 0:
        component.head = number
    else:
        parts[component.tail].link = number
    component.tail = number
    return number


@compiled
def _go_ahead(blocks: Int64, part: Any, counts: Int64, vertex: int) -> None:
    """Add a vertex at a part's forward end."""
    if part.ahead_fill == BLOCK - 1:
        block = _new_block(blocks, counts)
        if part.ahead < 0:
            part.first = block
        else:
            blocks[part.ahead, BLOCK - 1] = block
        part.ahead, part.ahead_fill = block, 0
    blocks[part.ahead, part.ahead_fill] = vertex
    part.ahead_fill += 1
    part.vertices += 1


@compiled
def _go_back(blocks: Int64, part: Any, counts: Int64, vertex: int) -> None:
    """Add a vertex at a part's backward end."""
    if part.back_fill == BLOCK - 1:
        block = _new_block(blocks, counts)
        blocks[block, BLOCK - 1] = part.back
        part.back, part.back_fill = block, 0
    blocks[part.back, part.back_fill] = vertex
    part.back_fill += 1
    part.vertices += 1


@compiled
def _new_block(blocks: Int64, counts: Int64) -> int:
    block = counts[FREE_BLOCK]
    counts[FREE_BLOCK] = blocks[block, BLOCK - 1]
    counts[BLOCKS] -= 1
    return block
