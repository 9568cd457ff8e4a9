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

A vertex is dropped only where two edges meet in a straight line; where three or four meet it is kept in all rings, so
neighbours always have the same vertices.

Where two cells of one label touch by a corner only, a ring may visit the vertex twice; such vertices are marked as a
touch and the ring is split there when the region is complete (:mod:`dualproto_wsi.vector.rings`).
"""

from __future__ import annotations

import numpy as np

from dualproto_wsi.vector.compiled import compiled
from dualproto_wsi.vector.trace_state import BLOCKS, ENDS, FREE_BLOCK, FREE_END, ROOM, Int32, Int64, Record, Records

Four = tuple[int, int, int, int]

UP, RIGHT, DOWN, LEFT = 0, 1, 2, 3


@compiled
def turn(
    above: Records,
    below: Records,
    row: int,
    waiting: Int32,
    blocks: Records,
    ends: Records,
    components: Records,
    counts: Int64,
) -> None:
    """Go along the row of vertices above row `row` and grow the rings that turn there."""
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
            vertex = np.int64(row) << 32 | (start - 1) << 1
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
    """Turn in every sector of a vertex; return the ends that wait over and under the edge on its right."""
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
        component.vertices += 1
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
    """Add a vertex at the ends that meet in it, -1 for those that are not there yet; return the ends."""
    if ahead < 0 and back < 0:
        return _begin(blocks, ends, counts, vertex)
    if ahead < 0:
        _go_back(blocks, ends[back], counts, vertex)
    else:
        _go_ahead(blocks, ends[ahead], counts, vertex)
        if back >= 0:
            _join(blocks, ends, component, counts, ahead, back)
    return ahead, back


@compiled
def _begin(blocks: Records, ends: Records, counts: Int64, vertex: int) -> tuple[int, int]:
    """Begin a chain with one vertex; return its ends ahead and back."""
    middle = ROOM // 2
    block = _new_block(blocks, counts, middle)
    blocks[block].vertex[middle] = vertex
    blocks[block].stop = middle + 1
    ahead, back = _new_end(ends, counts), _new_end(ends, counts)
    ends[ahead].block, ends[ahead].mate = block, back
    ends[back].block, ends[back].mate = block, ahead
    return ahead, back


@compiled
def _go_ahead(blocks: Records, end: Record, counts: Int64, vertex: int) -> None:
    """Add a vertex behind the last one of a chain."""
    if blocks[end.block].stop == ROOM:
        number = _new_block(blocks, counts, 0)
        blocks[end.block].link = number
        end.block = number
    block = blocks[end.block]
    block.vertex[block.stop] = vertex
    block.stop += 1


@compiled
def _go_back(blocks: Records, end: Record, counts: Int64, vertex: int) -> None:
    """Add a vertex before the first one of a chain."""
    if blocks[end.block].begin == 0:
        number = _new_block(blocks, counts, ROOM)
        blocks[number].link = end.block
        end.block = number
    block = blocks[end.block]
    block.begin -= 1
    block.vertex[block.begin] = vertex


@compiled
def _join(blocks: Records, ends: Records, component: Record, counts: Int64, ahead: int, back: int) -> None:
    """Let a chain go on with another one, or close a ring."""
    last, first = ends[ahead].block, ends[back].block
    if ends[ahead].mate == back:
        blocks[last].link = -1
        ends[back].mate = -1
        if component.head < 0:
            component.head = back
        else:
            ends[component.tail].mate = back
        component.tail = back
    else:
        before, after = ends[ahead].mate, ends[back].mate
        ends[before].mate, ends[after].mate = after, before
        blocks[last].link = first
        if _pack(blocks[last], blocks[first]):
            _free_block(blocks, counts, first)
            if ends[after].block == first:
                ends[after].block = last
        _free_end(ends, counts, back)
    _free_end(ends, counts, ahead)


@compiled
def _pack(block: Record, following: Record) -> bool:
    """Move all vertices of the block behind into this one, if there is room."""
    size, more = block.stop - block.begin, following.stop - following.begin
    if size + more > ROOM:
        return False
    if block.stop + more > ROOM:
        for i in range(size):
            block.vertex[i] = block.vertex[block.begin + i]
        block.begin, block.stop = 0, size
    for i in range(more):
        block.vertex[block.stop + i] = following.vertex[following.begin + i]
    block.stop += more
    block.link = following.link
    return True


@compiled
def _new_block(blocks: Records, counts: Int64, begin: int) -> int:
    block = int(counts[FREE_BLOCK])
    counts[FREE_BLOCK] = blocks[block].link
    counts[BLOCKS] -= 1
    blocks[block].begin, blocks[block].stop = begin, begin
    return block


@compiled
def _free_block(blocks: Records, counts: Int64, block: int) -> None:
    blocks[block].link = counts[FREE_BLOCK]
    counts[FREE_BLOCK] = block
    counts[BLOCKS] += 1


@compiled
def _new_end(ends: Records, counts: Int64) -> int:
    end = int(counts[FREE_END])
    counts[FREE_END] = ends[end].mate
    counts[ENDS] -= 1
    return end


@compiled
def _free_end(ends: Records, counts: Int64, end: int) -> None:
    ends[end].mate = counts[FREE_END]
    counts[FREE_END] = end
    counts[ENDS] += 1
