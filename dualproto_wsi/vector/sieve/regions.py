"""Kernels of the sieve: rows are split into runs, runs are joined to regions.

A region is `settled` when its ``cells`` have reached the limit, by themselves or because its label was decided.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dualproto_wsi.compiled import compiled

UInt8 = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Records = npt.NDArray[Any]

RUN = np.dtype(
    [
        ("start", np.int32),  # its columns are start:stop
        ("stop", np.int32),
        ("component", np.int32),  # -1: not of the kind that is sieved
        ("above", np.int32),  # first run of the row above that it touches, negative: none
        ("below", np.int32),
        ("next", np.int32),  # next run of a component that is not settled, -1: the last one
        ("label", np.int32),
    ]
)
"""Equal cells side by side in a row."""

COMPONENT = np.dtype(
    [
        ("parent", np.int32),  # union-find forest
        ("cells", np.int32),  # counted up to the limit, where it is settled
        ("last_row", np.int32),
        ("label", np.int32),
        ("complete", np.int32),  # 1 once a row came that it does not reach into
        ("head", np.int32),  # its list of runs
        ("tail", np.int32),
    ]
)
"""A region some runs of which are still held."""

RUNS, COMPONENTS, FIRST_TURN, TURNS = 0, 1, 2, 3
"""Places in ``counts``: used runs and components, the turns that are over and all turns."""


@compiled
def take_rows(
    labels: UInt8,
    row: int,
    least: int,
    holes: bool,
    runs: Records,
    firsts: Int32,
    held: int,
    components: Records,
    turns: Int32,
    counts: Int64,
) -> None:
    """Add rows of labels below the rows held.

    Parameters
    ----------
    labels : ndarray of uint8, (n, columns)
    row : int
        Row of the whole map that the first of them is.
    least : int
        Cells from which on a region is settled.
    holes : bool
        Whether regions of label 0 are sieved, and not those of all other labels.
    runs, components : ndarray of RUN and COMPONENT
        With room for one more for each new run.
    firsts : ndarray of int32, (held + n + 1,)
        First run of each row; those of the rows held are given.
    held : int
        Rows held.
    turns : ndarray of int32
        Complete small components in the order in which they are settled.
    counts : ndarray of int64
    """
    for i in range(len(labels)):
        end = counts[RUNS]
        begin = firsts[held + i - 1] if held + i > 0 else end
        _split(labels[i], runs, counts)
        firsts[held + i + 1] = counts[RUNS]
        _connect(row + i, least, holes, begin, end, runs, components, counts)
        _begin(row + i, len(labels[i]), least, holes, end, runs, components, counts)
        _complete_row(row + i, least, begin, end, runs, components, turns, counts)


@compiled
def _split(labels: UInt8, runs: Records, counts: Int64) -> None:
    k, start, columns = counts[RUNS], 0, len(labels)
    while start < columns:
        label, stop = labels[start], start + 1
        while stop < columns and labels[stop] == label:
            stop += 1
        run = runs[k]
        run.start, run.stop, run.label = start, stop, label
        run.component, run.above, run.below, run.next = -1, -1, -1, -1
        start = stop
        k += 1
    counts[RUNS] = k


@compiled
def root_of(components: Records, component: int) -> int:
    """Return the component that stands for another one now."""
    while components[component].parent != component:
        components[component].parent = components[components[component].parent].parent
        component = components[component].parent
    return component


@compiled
def _connect(
    row: int, least: int, holes: bool, above: int, end: int, runs: Records, components: Records, counts: Int64
) -> None:
    """Link the runs of the new row with those above that they touch, and join equal ones."""
    below, stop = end, counts[RUNS]
    while above < end and below < stop:
        upper, lower = runs[above], runs[below]
        if upper.below < 0:
            upper.below = below
        if lower.above < 0:
            lower.above = above
        if upper.label == lower.label and (upper.label == 0) == holes:
            component = root_of(components, upper.component)
            if lower.component < 0:
                _append(row, least, below, component, runs, components)
            else:
                join(least, root_of(components, lower.component), component, runs, components)
        upper_stop, lower_stop = upper.stop, lower.stop
        if upper_stop <= lower_stop:
            above += 1
        if lower_stop <= upper_stop:
            below += 1


@compiled
def _append(row: int, least: int, run: int, component: int, runs: Records, components: Records) -> None:
    """Add a run to a component."""
    region = components[component]
    runs[run].component = component
    region.last_row = row
    if region.cells < least:
        region.cells = min(least, region.cells + runs[run].stop - runs[run].start)
        runs[region.tail].next = run
        region.tail = run


@compiled
def join(least: int, component: int, other: int, runs: Records, components: Records) -> None:
    """Let a component stand for another one too."""
    if component == other:
        return
    kept, gone = components[component], components[other]
    gone.parent = component
    kept.last_row = max(kept.last_row, gone.last_row)
    if kept.cells < least and gone.cells < least:  # lists of settled ones may lead to rows that are gone
        runs[kept.tail].next = gone.head
        kept.tail = gone.tail
    kept.cells = min(least, kept.cells + gone.cells)


@compiled
def _begin(
    row: int, columns: int, least: int, holes: bool, run: int, runs: Records, components: Records, counts: Int64
) -> None:
    """Give runs of the new row that touch no equal one a new component; what touches the edge is no hole."""
    while run < counts[RUNS]:
        label = runs[run].label
        if (label == 0) == holes:
            if runs[run].component < 0:
                component = counts[COMPONENTS]
                counts[COMPONENTS] += 1
                new = components[component]
                new.parent, new.label, new.last_row, new.complete = component, label, row, 0
                new.head, new.tail = run, run
                new.cells = min(least, runs[run].stop - runs[run].start)
                runs[run].component = component
            if holes and (row == 0 or runs[run].start == 0 or runs[run].stop == columns):
                components[root_of(components, runs[run].component)].cells = least
        run += 1


@compiled
def end_map(
    row: int,
    least: int,
    holes: bool,
    begin: int,
    end: int,
    runs: Records,
    components: Records,
    turns: Int32,
    counts: Int64,
) -> None:
    """Give a turn to small components of the last row, runs begin:end; what touches the edge is no hole."""
    if holes:
        for k in range(begin, end):
            if runs[k].component >= 0:
                components[root_of(components, runs[k].component)].cells = least
    _complete_row(row, least, begin, end, runs, components, turns, counts)


@compiled
def _complete_row(
    row: int, least: int, run: int, end: int, runs: Records, components: Records, turns: Int32, counts: Int64
) -> None:
    """Give a turn to the small components of a row that do not reach into the next one, `row`."""
    while run < end:
        if runs[run].component >= 0:
            component = root_of(components, runs[run].component)
            region = components[component]
            if region.cells < least and region.last_row < row and region.complete == 0:
                region.complete = 1
                turns[counts[TURNS]] = component
                counts[TURNS] += 1
        run += 1


@compiled
def carry_over(
    least: int,
    base: int,
    runs: Records,
    components: Records,
    turns: Int32,
    counts: Int64,
    new_runs: Records,
    new_components: Records,
    new_turns: Int32,
) -> None:
    """Move the runs from `base` on, and what they need, to new arrays; update the counts."""
    number = np.full(counts[COMPONENTS], -1, np.int32)
    used = 0
    for k in range(base, counts[RUNS]):
        new_runs[k - base] = runs[k]
        run = new_runs[k - base]
        run.above = max(-1, run.above - base)
        run.below = max(-1, run.below - base)
        run.next = max(-1, run.next - base)
        if run.component >= 0:
            old = root_of(components, run.component)
            if number[old] < 0:
                number[old] = used
                new_components[used] = components[old]
                region = new_components[used]
                region.parent = used
                region.head -= base
                region.tail -= base
                used += 1
            run.component = number[old]
    waiting = 0
    for i in range(counts[FIRST_TURN], counts[TURNS]):
        component = root_of(components, turns[i])
        if components[component].cells < least:
            new_turns[waiting] = number[component]
            waiting += 1
    counts[RUNS] -= base
    counts[COMPONENTS], counts[FIRST_TURN], counts[TURNS] = used, 0, waiting
