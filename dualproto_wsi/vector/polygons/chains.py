"""Kernels of the region tracer: chains of vertices, held as steps of about one byte a vertex.

A chain grows at two ends, *ahead* and *back*. An end knows its outermost vertex; between the two lie the steps from
each vertex to the next one, in blocks that are linked in the direction ahead. A step never spans two blocks. Its first
byte tells its kind:

- below ``SHORT``: columns and rows from -5 to 5;
- below ``NEAR``: straight right, left, down or up by 6 to 38;
- ``NEAR`` and ``NEAR_TOUCH``: two bytes follow, columns and rows from -128 to 127; the latter to a touch;
- ``FAR``: eight bytes follow, the vertex itself.
"""

from __future__ import annotations

import numpy as np

from dualproto_wsi.compiled import compiled
from dualproto_wsi.vector.polygons.state import (
    BLOCKS,
    ENDS,
    FREE_BLOCK,
    FREE_END,
    ROOM,
    Int64,
    Record,
    Records,
    UInt8,
)

SHORT, NEAR, NEAR_TOUCH, FAR = 121, 253, 254, 255
SPAN = 33
"""Lengths of straight steps, from 6 on."""


@compiled
def begin_chain(blocks: Records, ends: Records, counts: Int64, vertex: int) -> tuple[int, int]:
    """Begin a chain with one vertex, or with none (-1); return its ends ahead and back."""
    block = _new_block(blocks, counts, ROOM // 2)
    ahead, back = _new_end(ends, counts), _new_end(ends, counts)
    ends[ahead].block, ends[ahead].mate, ends[ahead].vertex = block, back, vertex
    ends[back].block, ends[back].mate, ends[back].vertex = block, ahead, vertex
    return ahead, back


@compiled
def go_ahead(blocks: Records, ends: Records, counts: Int64, ahead: int, vertex: int) -> None:
    """Add a vertex behind the last one of a chain."""
    end = ends[ahead]
    if end.vertex < 0:
        ends[end.mate].vertex = vertex
    else:
        _step_ahead(blocks, end, counts, end.vertex, vertex)
    end.vertex = vertex


@compiled
def go_back(blocks: Records, ends: Records, counts: Int64, back: int, vertex: int) -> None:
    """Add a vertex before the first one of a chain."""
    end = ends[back]
    if end.vertex < 0:
        ends[end.mate].vertex = vertex
    else:
        size = _size(vertex, end.vertex)
        if blocks[end.block].begin < size:
            number = _new_block(blocks, counts, ROOM)
            blocks[number].link = end.block
            end.block = number
        block = blocks[end.block]
        block.begin -= size
        _write(block.step, int(block.begin), vertex, end.vertex)
    end.vertex = vertex


@compiled
def join_chains(blocks: Records, ends: Records, component: Record, counts: Int64, ahead: int, back: int) -> None:
    """Let a chain go on with another one, or close a ring and add it to its component's list."""
    if ends[ahead].mate == back:
        blocks[ends[ahead].block].link = -1
        ends[back].mate = -1
        if component.head < 0:
            component.head = back
        else:
            ends[component.tail].mate = back
        component.tail = back
    else:
        _connect(blocks, ends, counts, ahead, back)
        free_end(ends, counts, back)
    free_end(ends, counts, ahead)


@compiled
def _connect(blocks: Records, ends: Records, counts: Int64, ahead: int, back: int) -> None:
    before, after = ends[ahead].mate, ends[back].mate
    if ends[ahead].vertex < 0:
        ends[before].vertex = ends[back].vertex
    elif ends[back].vertex < 0:
        ends[after].vertex = ends[ahead].vertex
    else:
        _step_ahead(blocks, ends[ahead], counts, ends[ahead].vertex, ends[back].vertex)
    last, first = ends[ahead].block, ends[back].block
    ends[before].mate, ends[after].mate = after, before
    blocks[last].link = first
    if _pack(blocks[last], blocks[first]):
        _free_block(blocks, counts, first)
        if ends[after].block == first:
            ends[after].block = last


@compiled
def read_chain(blocks: Records, counts: Int64, end: Record, ring: Int64) -> tuple[int, int]:
    """Write the vertices of a closed ring and free its blocks; return the numbers of vertices and touches."""
    vertex, number = int(end.vertex), int(end.block)
    ring[0] = vertex
    length, touches = 1, vertex & 1
    while number >= 0:
        block = blocks[number]
        i = int(block.begin)
        while i < block.stop:
            vertex, i = _read(block.step, i, vertex)
            ring[length] = vertex
            touches += vertex & 1
            length += 1
        following = int(block.link)
        _free_block(blocks, counts, number)
        number = following
    return length, touches


@compiled
def free_end(ends: Records, counts: Int64, end: int) -> None:
    """Give an end back."""
    ends[end].mate = counts[FREE_END]
    counts[FREE_END] = end
    counts[ENDS] += 1


@compiled
def _step_ahead(blocks: Records, end: Record, counts: Int64, vertex: int, following: int) -> None:
    size = _size(vertex, following)
    if blocks[end.block].stop + size > ROOM:
        number = _new_block(blocks, counts, 0)
        blocks[end.block].link = number
        end.block = number
    block = blocks[end.block]
    _write(block.step, int(block.stop), vertex, following)
    block.stop += size


@compiled
def _offsets(vertex: int, following: int) -> tuple[int, int]:
    """Return how many columns and rows lie between two vertices."""
    return ((following & 0xFFFFFFFF) >> 1) - ((vertex & 0xFFFFFFFF) >> 1), (following >> 32) - (vertex >> 32)


@compiled
def _straight(x: int, y: int) -> bool:
    return (x == 0 or y == 0) and abs(x + y) < SPAN + 6


@compiled
def _size(vertex: int, following: int) -> int:
    """Return the bytes of a step."""
    x, y = _offsets(vertex, following)
    if not following & 1 and ((abs(x) <= 5 and abs(y) <= 5) or _straight(x, y)):
        return 1
    return 3 if max(abs(x), abs(y)) < 128 else 9


@compiled
def _write(step: UInt8, i: int, vertex: int, following: int) -> None:
    """Write a step from position `i` on."""
    x, y = _offsets(vertex, following)
    size = _size(vertex, following)
    if size == 1 and abs(x) <= 5 and abs(y) <= 5:
        step[i] = (x + 5) * 11 + y + 5
    elif size == 1:
        way = 2 * int(x == 0) + int(x + y < 0)
        step[i] = SHORT + way * SPAN + abs(x + y) - 6
    elif size == 3:
        step[i], step[i + 1], step[i + 2] = NEAR + (following & 1), x + 128, y + 128
    else:
        step[i] = FAR
        for k in range(8):
            step[i + 1 + k] = (following >> (8 * k)) & 255


@compiled
def _read(step: UInt8, i: int, vertex: int) -> tuple[int, int]:
    """Return the vertex that a step at position `i` leads to, and the position behind the step."""
    kind = int(step[i])
    x, y, touch, behind = 0, 0, 0, i + 1
    if kind < SHORT:
        x, y = kind // 11 - 5, kind % 11 - 5
    elif kind < NEAR:
        way, length = (kind - SHORT) // SPAN, (kind - SHORT) % SPAN + 6
        length = -length if way & 1 else length
        x, y = (0, length) if way & 2 else (length, 0)
    elif kind < FAR:
        x, y, touch, behind = int(step[i + 1]) - 128, int(step[i + 2]) - 128, kind - NEAR, i + 3
    else:
        far = np.int64(0)
        for k in range(8):
            far |= np.int64(step[i + 1 + k]) << (8 * k)
        return int(far), i + 9
    return ((vertex >> 32) + y) << 32 | ((vertex & 0xFFFFFFFF) >> 1) + x << 1 | touch, behind


@compiled
def _pack(block: Record, following: Record) -> bool:
    """Move all steps of the block behind into this one, if there is room."""
    begin, size = int(block.begin), int(block.stop) - int(block.begin)
    more = int(following.stop) - int(following.begin)
    if size + more > ROOM:
        return False
    if begin + size + more > ROOM:
        for i in range(size):
            block.step[i] = block.step[begin + i]
        begin = 0
    for i in range(more):
        block.step[begin + size + i] = following.step[following.begin + i]
    block.begin, block.stop = begin, begin + size + more
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
