"""Kernels of the region tracer: one pass down the rows of a label map.

Between two rows of cells lies a row of vertices. At a vertex up to four edges meet: *up, right, down, left*, numbered
clockwise from 0; an edge is there where the cells on its two sides differ. Cells of one label between two neighbouring
edges form a sector of one region, and the region's ring turns there: it comes in along the sector's last edge and goes
out along its first one, with the region on the right hand. So each sector of a vertex that is not a straight passage
becomes one ring node, and rings are nothing but ``next`` links between nodes. Two nodes wait at every vertical edge
that leads down: one for the region on its left, one for the region on its right.

A vertex is dropped only where two edges meet in a straight line; where three or four meet it is kept in all rings, so
neighbours always have the same vertices.

Where two cells of one region touch by a corner, their ring visits the vertex twice; such nodes are marked as a touch
and the ring is split there when the region is complete (:mod:`dualproto_wsi.vector.rings`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dualproto_wsi.vector.compiled import compiled
from dualproto_wsi.vector.trace_state import (
    DONE,
    FIRST_FREE,
    FREE_NODES,
    MERGED,
    UNUSED,
    Float64,
    Int32,
    Int64,
    Records,
)

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Four = tuple[int, int, int, int]

UP, RIGHT, DOWN, LEFT = 0, 1, 2, 3


@compiled
def sweep(
    labels: UInt8,
    probabilities: Float32,
    begin: int,
    row: int,
    runs: Records,
    waiting: Int32,
    nodes: Records,
    components: Records,
    sums: Float64,
    lists: Int32,
    counts: Int64,
) -> int:
    """Go on with rows of cells while there is room for the worst case of a row.

    Parameters
    ----------
    labels : ndarray of uint8, (n, columns)
    probabilities : ndarray of float32, (K, n, columns)
    begin : int
        Row of `labels` to begin with.
    row : int
        Row of the whole map that this is.
    runs, waiting, nodes, components, sums, lists, counts : ndarray
        The fields of `State`, as the rows before left them.

    Returns
    -------
    int
        The row of `labels` to go on with; n when all are done.
    """
    columns = labels.shape[1]
    for i in range(begin, len(labels)):
        if counts[FREE_NODES] < 4 * (columns + 1) or counts[UNUSED] < columns + 1:
            return i
        above, below = runs[1 - row % 2], runs[row % 2]
        _split_runs(labels[i], below)
        _connect(above, below, row, nodes, components, sums, lists, counts, probabilities[:, i])
        _link(above, below, row, nodes, waiting, components, counts)
        _complete(above, below, row, components, lists, counts)
        row += 1
    return len(labels)


@compiled
def _split_runs(labels: UInt8, runs: Records) -> None:
    """Split a row into runs.

    The row has one cell of label 0 more on either side. A run without cells at ``columns + 2`` follows the last one.
    """
    columns = len(labels)
    count, label = 0, 0
    runs[0].start, runs[0].label = 0, 0
    for i in range(columns):
        if labels[i] != label:
            count += 1
            label = labels[i]
            runs[count].start, runs[count].label = i + 1, label
    if label != 0:
        count += 1
        runs[count].start, runs[count].label = columns + 1, 0
    runs[count + 1].start = columns + 2


@compiled
def _root(components: Records, component: int) -> int:
    while components[component].parent != component:
        component = components[component].parent
    return component


@compiled
def _connect(
    above: Records,
    below: Records,
    row: int,
    nodes: Records,
    components: Records,
    sums: Float64,
    lists: Int32,
    counts: Int64,
    probabilities: Float32,
) -> None:
    """Give every run of the new row its component, joining those that it connects."""
    columns = len(below) - 3
    i, k = 0, 0
    while below[i].start < columns + 2:
        start, stop = below[i].start, below[i + 1].start
        component, label = -1, below[i].label
        if label != 0:
            while above[k + 1].start <= start:
                k += 1
            over = k
            while above[over].start < stop:
                if above[over].label == label:
                    other = _root(components, above[over].component)
                    if component < 0:
                        component = other
                    elif other != component:
                        _merge(nodes, components, sums, lists, counts, component, other)
                over += 1
            if component < 0:
                component = _create(components, sums, lists, counts, label, row * columns + start - 1)
            components[component].cells += stop - start
            components[component].last_row = row
            for c in range(len(probabilities)):
                sums[component, c] += _sum(probabilities[c], start - 1, stop - 1)
        below[i].component = component
        i += 1


@compiled
def _create(components: Records, sums: Float64, lists: Int32, counts: Int64, label: int, first: int) -> int:
    counts[UNUSED] -= 1
    component = lists[UNUSED, counts[UNUSED]]
    new = components[component]
    new.parent, new.label, new.first = component, label, first
    new.cells, new.vertices = 0, 0
    new.done_row, new.head = -1, -1
    sums[component] = 0
    return component


@compiled
def _merge(
    nodes: Records, components: Records, sums: Float64, lists: Int32, counts: Int64, component: int, other: int
) -> None:
    kept, gone = components[component], components[other]
    gone.parent = component
    kept.cells += gone.cells
    kept.first = min(kept.first, gone.first)
    kept.vertices += gone.vertices
    sums[component] += sums[other]
    nodes[kept.tail].link = gone.head  # no list is empty: the corner of the first cell is in it
    kept.tail = gone.tail
    lists[MERGED, counts[MERGED]] = other
    counts[MERGED] += 1


@compiled
def _sum(values: Float32, start: int, stop: int) -> float:
    """Sum in float64, in an order that depends on the number of values alone."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    i = start
    while i + 4 <= stop:
        a += values[i]
        b += values[i + 1]
        c += values[i + 2]
        d += values[i + 3]
        i += 4
    while i < stop:
        a += values[i]
        i += 1
    return (a + b) + (c + d)


@compiled
def _link(
    above: Records, below: Records, row: int, nodes: Records, waiting: Int32, components: Records, counts: Int64
) -> None:
    """Go along the row of vertices above row `row` and link the rings that turn there."""
    end = len(below) - 1
    over, under = -1, -1  # nodes that wait at the horizontal edge on the left, of the cells above and below it
    i, j = 0, 0  # the runs on the left
    start = min(above[1].start, below[1].start)
    while start < end:
        up, down = int(above[i + 1].start == start), int(below[j + 1].start == start)
        a, b, c, d = above[i], above[i + up], below[j], below[j + down]
        right, left = int(b.label != d.label), int(a.label != c.label)
        if right or left or not (up and down):
            edges, labels = (up, right, down, left), (b.label, d.label, c.label, a.label)
            owners = (b.component, d.component, c.component, a.component)  # of the sectors clockwise after each edge
            over, under = _turn(
                nodes, components, counts, waiting[start - 1], start - 1, row, edges, labels, owners, over, under
            )
        i += up
        j += down
        start = min(above[i + 1].start, below[j + 1].start)


@compiled
def _turn(
    nodes: Records,
    components: Records,
    counts: Int64,
    waiting: Int32,
    x: int,
    y: int,
    edges: Four,
    labels: Four,
    owners: Four,
    over: int,
    under: int,
) -> tuple[int, int]:
    """Make a node for every sector of a vertex; return the nodes that wait at the edge on its right."""
    left, right = waiting[0], waiting[1]
    new_over, new_under = -1, -1
    crossing = edges[0] + edges[1] + edges[2] + edges[3] == 4
    for out in range(4):
        if not edges[out] or labels[out] == 0:
            continue
        into = (out + 1) & 3
        while not edges[into]:
            into = (into + 1) & 3
        touch = crossing and labels[out] == labels[(out + 2) & 3]
        opens = RIGHT <= out <= DOWN and RIGHT <= into <= DOWN
        node = _add_node(nodes, components, counts, owners[out], 2 * x + touch, y, touch or opens)
        if out == UP:
            nodes[node].next = right
        elif out == RIGHT:
            new_under = node
        elif out == DOWN:
            waiting[0] = node
        else:
            nodes[node].next = over
        if into == UP:
            nodes[left].next = node
        elif into == RIGHT:
            new_over = node
        elif into == DOWN:
            waiting[1] = node
        else:
            nodes[under].next = node
    return new_over, new_under


@compiled
def _add_node(nodes: Records, components: Records, counts: Int64, owner: int, x: int, y: int, listed: bool) -> int:
    number = counts[FIRST_FREE]
    node, component = nodes[number], components[_root(components, owner)]
    counts[FIRST_FREE] = node.next
    counts[FREE_NODES] -= 1
    node.x, node.y = x, y
    component.vertices += 1
    if listed:
        node.link = -1
        if component.head < 0:
            component.head = number
        else:
            nodes[component.tail].link = number
        component.tail = number
    return number


@compiled
def _complete(
    above: Records, below: Records, row: int, components: Records, lists: Int32, counts: Int64
) -> None:
    """Note the components that do not reach into the new row, and flatten the forest."""
    i, end = 0, len(below) - 1
    while above[i].start < end:
        if above[i].label != 0:
            number = _root(components, above[i].component)
            component = components[number]
            if component.last_row < row and component.done_row < 0:
                component.done_row = row
                lists[DONE, counts[DONE]] = number
                counts[DONE] += 1
        i += 1
    i = 0
    while below[i].start < end:
        if below[i].label != 0:
            below[i].component = _root(components, below[i].component)
        i += 1
    for m in range(counts[MERGED]):
        lists[UNUSED, counts[UNUSED]] = lists[MERGED, m]
        counts[UNUSED] += 1
    counts[MERGED] = 0
