"""Kernels of the sieve: small regions are settled once they and their neighbours are known, and rows written."""

from __future__ import annotations

import numpy as np

from dualproto_wsi.compiled import compiled
from dualproto_wsi.vector.sieve.regions import (
    FIRST_TURN,
    RUNS,
    TURNS,
    Int32,
    Int64,
    Records,
    UInt8,
    join,
    root_of,
)


@compiled
def settle(columns: int, least: int, runs: Records, components: Records, turns: Int32, counts: Int64) -> None:
    """Settle small components, turn after turn, as far as all their neighbours are known."""
    tally, seen = np.zeros(256, np.int64), np.empty(256, np.int32)
    most = min(4 * least, 6 * counts[RUNS])  # contacts: edges of the cells; 2 in each run's row, 4 a run across rows
    beside, lengths = np.empty(most, np.int32), np.empty(most, np.int32)
    while counts[FIRST_TURN] < counts[TURNS]:
        component = root_of(components, turns[counts[FIRST_TURN]])
        if components[component].cells < least:
            contacts = _contacts(columns, component, runs, components, beside, lengths)
            if not _settle(least, component, contacts, runs, components, beside, lengths, tally, seen):
                return
        counts[FIRST_TURN] += 1


@compiled
def _contacts(columns: int, component: int, runs: Records, components: Records, beside: Int32, lengths: Int32) -> int:
    """Note the runs beside those of a component, and the common border's length; return their number."""
    count, k = 0, components[component].head
    while k >= 0:
        start, stop = runs[k].start, runs[k].stop
        if start > 0:
            beside[count], lengths[count] = k - 1, 1
            count += 1
        if stop < columns:
            beside[count], lengths[count] = k + 1, 1
            count += 1
        for first in (runs[k].above, runs[k].below):
            other = first
            while other >= 0:
                beside[count], lengths[count] = other, min(stop, runs[other].stop) - max(start, runs[other].start)
                count += 1
                other = other + 1 if runs[other].stop < stop else -1
        k = runs[k].next
    return count


@compiled
def _settle(
    least: int,
    component: int,
    contacts: int,
    runs: Records,
    components: Records,
    beside: Int32,
    lengths: Int32,
    tally: Int64,
    seen: Int32,
) -> bool:
    """Decide what becomes of a component; return False if a neighbour may still grow."""
    classes, small = _neighbours(least, component, contacts, runs, components, beside, lengths, tally, seen)
    decided = small >= 0
    if classes == 0 and small > 0:
        classes = _add_cells(component, runs, components, tally, seen, classes)
        for i in range(small):
            other = root_of(components, beside[i])
            if other != component:
                classes = _add_cells(other, runs, components, tally, seen, classes)
                join(least, component, other, runs, components)
        decided = components[component].cells >= least  # if not, it goes on at the turn of another member
    commonest = _commonest(tally, seen, classes)
    if decided:
        components[component].label = commonest
        components[component].cells = least
    return small >= 0


@compiled
def _neighbours(
    least: int,
    component: int,
    contacts: int,
    runs: Records,
    components: Records,
    beside: Int32,
    lengths: Int32,
    tally: Int64,
    seen: Int32,
) -> tuple[int, int]:
    """Tally the common border with settled classes.

    Returns
    -------
    tuple of int
        Number of classes in the tally, and of contacts with components that are not settled: these components are
        now at the front of `beside`. -1 if one of them may still grow.
    """
    classes, small = 0, 0
    for i in range(contacts):
        label, other = runs[beside[i]].label, runs[beside[i]].component
        if other >= 0:
            other = root_of(components, other)
            label = components[other].label
        if other < 0 or components[other].cells >= least:
            classes = _add(label, lengths[i], tally, seen, classes)
        elif components[other].complete == 0:
            return classes, -1
        elif other != component:
            beside[small] = other
            small += 1
    return classes, small


@compiled
def _add_cells(component: int, runs: Records, components: Records, tally: Int64, seen: Int32, classes: int) -> int:
    """Add the cells of a component to the tally, by the labels that they had."""
    k = components[component].head
    while k >= 0:
        classes = _add(runs[k].label, runs[k].stop - runs[k].start, tally, seen, classes)
        k = runs[k].next
    return classes


@compiled
def _add(label: int, count: int, tally: Int64, seen: Int32, classes: int) -> int:
    """Add to the tally of a class; return the number of classes seen so far."""
    if label == 0:
        return classes
    if tally[label] == 0:
        seen[classes] = label
        classes += 1
    tally[label] += count
    return classes


@compiled
def _commonest(tally: Int64, seen: Int32, classes: int) -> int:
    """Return the class with the highest tally, of equal ones the lowest, 0 without any; clear the tally."""
    best, most = 0, 0
    for i in range(classes):
        label = seen[i]
        if tally[label] > most or (tally[label] == most and label < best):
            best, most = label, tally[label]
        tally[label] = 0
    return best


@compiled
def final_rows(least: int, first: int, rows: int, runs: Records, firsts: Int32, components: Records) -> int:
    """Return the first row held, from `first` on, that has a run of an unsettled component; `rows` if none has."""
    for i in range(first, rows):
        for k in range(firsts[i], firsts[i + 1]):
            component = runs[k].component
            if component >= 0 and components[root_of(components, component)].cells < least:
                return i
    return rows


@compiled
def write_rows(first: int, runs: Records, firsts: Int32, components: Records, labels: UInt8) -> None:
    """Write settled rows as labels; `labels` begins with row `first` of those held."""
    for i in range(len(labels)):
        for k in range(firsts[first + i], firsts[first + i + 1]):
            label, component = runs[k].label, runs[k].component
            if component >= 0:
                label = components[root_of(components, component)].label
            labels[i, runs[k].start : runs[k].stop] = label
