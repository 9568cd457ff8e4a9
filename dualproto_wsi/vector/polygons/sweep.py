"""Kernels of the region tracer: one pass down the rows of a label map.

A row is split into runs of equal labels, runs that touch runs of the row above join components (union-find), and the
rings grow along the row of vertices in between (:mod:`dualproto_wsi.vector.polygons.turns`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dualproto_wsi.compiled import compiled
from dualproto_wsi.vector.polygons.state import (
    BLOCKS,
    BLOCKS_A_CORNER,
    CORNERS,
    DONE,
    ENDS,
    ENDS_A_CORNER,
    MERGED,
    RUN_SUM,
    UNUSED,
    Float64,
    Int32,
    Int64,
    Records,
    UInt8,
)
from dualproto_wsi.vector.polygons.turns import turn

Float32 = npt.NDArray[np.float32]


@compiled
def sum_runs(labels: UInt8, probabilities: Float32, begin: int, stop: int) -> Float64:
    """Sum probabilities over each run of equal labels, row by row; runs of label 0 are left out.

    Parameters
    ----------
    labels : ndarray of uint8, (n, columns)
    probabilities : ndarray of float32, (K, n, columns)
    begin, stop : int
        The rows to take.

    Returns
    -------
    ndarray of float64, (m, K)
    """
    columns = labels.shape[1]
    count = 0
    for i in range(begin, stop):
        for k in range(columns):
            count += labels[i, k] != 0 and (k == 0 or labels[i, k] != labels[i, k - 1])
    sums = np.empty((count, len(probabilities)), np.float64)
    count = 0
    for i in range(begin, stop):
        start = 0
        for k in range(1, columns + 1):
            if k == columns or labels[i, k] != labels[i, start]:
                if labels[i, start] != 0:
                    for c in range(len(probabilities)):
                        sums[count, c] = _sum(probabilities[c, i], start, k)
                    count += 1
                start = k
    return sums


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
def sweep(
    labels: UInt8,
    run_sums: Float64,
    kept: UInt8,
    begin: int,
    row: int,
    runs: Records,
    waiting: Int32,
    blocks: Records,
    ends: Records,
    components: Records,
    sums: Float64,
    lists: Int32,
    counts: Int64,
) -> int:
    """Go on with rows of cells while there is room for the worst case of a row.

    Parameters
    ----------
    labels : ndarray of uint8, (n, columns)
    run_sums : ndarray of float64, (m, K)
        Of the runs of these rows, as :func:`sum_runs` gives them; `counts[RUN_SUM]` of them are used.
    kept : ndarray of uint8, (n, columns + 1) or (n, 0)
        Which vertices of the row above each row of cells the rings keep; without columns: all.
    begin : int
        Row of `labels` to begin with.
    row : int
        Row of the whole map that this is.
    runs, waiting, blocks, ends, components, sums, lists, counts : ndarray
        The fields of `State`, as the rows before left them.

    Returns
    -------
    int
        The row of `labels` to go on with; n when all are done.
    """
    for i in range(begin, len(labels)):
        above, below = runs[1 - row % 2], runs[row % 2]
        corners = _split_runs(labels[i], below) + _count_runs(above)
        counts[CORNERS] = corners
        if (
            counts[BLOCKS] < BLOCKS_A_CORNER * corners
            or counts[ENDS] < ENDS_A_CORNER * corners
            or counts[UNUSED] < corners
        ):
            return i
        _connect(above, below, row, ends, components, sums, lists, counts)
        _flatten(above, components)
        _flatten(below, components)
        _tally(below, row, components, sums, run_sums, counts)
        turn(above, below, row, kept[i], waiting, blocks, ends, components, counts)
        _complete(above, row, components, lists, counts)
        row += 1
    return len(labels)


@compiled
def _count_runs(runs: Records) -> int:
    count = 0
    while runs[count].start < len(runs) - 1:
        count += 1
    return count


@compiled
def _split_runs(labels: UInt8, runs: Records) -> int:
    """Split a row into runs and return their number.

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
    return count + 1


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
    ends: Records,
    components: Records,
    sums: Float64,
    lists: Int32,
    counts: Int64,
) -> None:
    """Give every run of the new row its component, joining those that it connects."""
    columns = len(below) - 3
    i, k = 0, 0
    while below[i].start < columns + 2:
        start, stop = below[i].start, below[i + 1].start
        component, label = -1, below[i].label
        while above[k + 1].start <= start:
            k += 1
        over = k
        while label != 0 and above[over].start < stop:
            if above[over].label == label:
                component = _join(ends, components, sums, lists, counts, component, above[over].component)
            over += 1
        if label != 0 and component < 0:
            component = _create(components, sums, lists, counts, label, row * columns + start - 1)
        below[i].component = component
        i += 1


@compiled
def _join(
    ends: Records, components: Records, sums: Float64, lists: Int32, counts: Int64, component: int, other: int
) -> int:
    """Join a component, if there is one yet, with another; return the joint one."""
    other = _root(components, other)
    if component >= 0 and other != component:
        _merge(ends, components, sums, lists, counts, component, other)
    return component if component >= 0 else other


@compiled
def _flatten(runs: Records, components: Records) -> None:
    """Let every run name the root of its component."""
    i = 0
    while runs[i].start < len(runs) - 1:
        if runs[i].label != 0:
            runs[i].component = _root(components, runs[i].component)
        i += 1


@compiled
def _tally(runs: Records, row: int, components: Records, sums: Float64, run_sums: Float64, counts: Int64) -> None:
    """Add the cells of the new row to their components."""
    i = 0
    while runs[i].start < len(runs) - 1:
        if runs[i].label != 0:
            number, start, stop = runs[i].component, runs[i].start, runs[i + 1].start
            components[number].cells += stop - start
            components[number].last_row = row
            sums[number] += run_sums[counts[RUN_SUM]]
            counts[RUN_SUM] += 1
        i += 1


@compiled
def _create(components: Records, sums: Float64, lists: Int32, counts: Int64, label: int, first: int) -> int:
    counts[UNUSED] -= 1
    component = int(lists[UNUSED, counts[UNUSED]])
    new = components[component]
    new.parent, new.label, new.first = component, label, first
    new.cells, new.vertices, new.done_row, new.head = 0, 0, -1, -1
    sums[component] = 0
    return component


@compiled
def _merge(
    ends: Records, components: Records, sums: Float64, lists: Int32, counts: Int64, component: int, other: int
) -> None:
    kept, gone = components[component], components[other]
    gone.parent = component
    kept.cells += gone.cells
    kept.vertices += gone.vertices
    kept.first = min(kept.first, gone.first)
    sums[component] += sums[other]
    if kept.head < 0:
        kept.head, kept.tail = gone.head, gone.tail
    elif gone.head >= 0:
        ends[kept.tail].mate = gone.head
        kept.tail = gone.tail
    lists[MERGED, counts[MERGED]] = other
    counts[MERGED] += 1


@compiled
def _complete(above: Records, row: int, components: Records, lists: Int32, counts: Int64) -> None:
    """Note the components that do not reach into the new row, and free the numbers of those merged."""
    i = 0
    while above[i].start < len(above) - 1:
        if above[i].label != 0:
            component = components[above[i].component]
            if component.last_row < row and component.done_row < 0:
                component.done_row = row
                lists[DONE, counts[DONE]] = above[i].component
                counts[DONE] += 1
        i += 1
    for m in range(counts[MERGED]):
        lists[UNUSED, counts[UNUSED]] = lists[MERGED, m]
        counts[UNUSED] += 1
    counts[MERGED] = 0
