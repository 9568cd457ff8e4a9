"""Areas of the connected regions of each class, while the map passes by in bands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.compiled import compiled

Counts = NDArray[np.int64]


class RegionAreas:
    """Counts the cells of every region: cells of one class that share an edge, as the polygons of ``segment`` are.

    Parameters
    ----------
    columns : int
        Width of the map.
    classes : int
        K; regions of the labels 1…K are counted.

    Notes
    -----
    Between bands only the last row is held, with one entry a region that reaches it; a region's size is handed over
    when no cell of the next row belongs to it.
    """

    def __init__(self, columns: int, classes: int) -> None:
        self._classes = classes
        self._row = np.zeros(columns, np.uint8)
        self._owner = np.full(columns, -1, np.int64)
        self._sizes = np.zeros(0, np.int64)
        self._labels = np.zeros(0, np.int64)
        self._found: list[list[Counts]] = [[] for _ in range(classes)]

    def add(self, labels: NDArray[np.uint8]) -> None:
        """Take the next rows of the map, uint8 (n, columns)."""
        step = max(1, (1 << 20) // max(labels.shape[1], 1))  # bounds the regions that a call may find
        for start in range(0, len(labels), step):
            self._add(labels[start : start + step])

    def _add(self, labels: NDArray[np.uint8]) -> None:
        room = len(self._sizes) + labels.size
        parents, sizes, kinds = np.arange(room), np.zeros(room, np.int64), np.zeros(room, np.int64)
        sizes[: len(self._sizes)], kinds[: len(self._labels)] = self._sizes, self._labels
        used = _join(labels, self._row, self._owner, self._classes, parents, sizes, kinds, len(self._sizes))
        self._row = labels[-1].copy()
        open_regions = np.unique(self._owner[self._owner >= 0])
        roots = np.flatnonzero(parents[:used] == np.arange(used))
        self._hand_over(kinds, sizes, np.setdiff1d(roots, open_regions, assume_unique=True))
        number = np.full(used + 1, -1)  # the last place is that of "none"
        number[open_regions] = np.arange(len(open_regions))
        self._owner = number[self._owner]
        self._sizes, self._labels = sizes[open_regions], kinds[open_regions]

    def _hand_over(self, kinds: Counts, sizes: Counts, regions: Counts) -> None:
        for label in range(self._classes):
            self._found[label].append(sizes[regions[kinds[regions] == label + 1]])

    def finish(self) -> list[Counts]:
        """End the map; return the cells of each region of each class, ascending."""
        self._hand_over(self._labels, self._sizes, np.arange(len(self._sizes)))
        return [np.sort(np.concatenate(found)) for found in self._found]


@compiled
def _root(parents: Counts, region: int) -> int:
    while parents[region] != region:
        parents[region] = parents[parents[region]]
        region = parents[region]
    return region


@compiled
def _join(
    labels: NDArray[np.uint8],
    above: NDArray[np.uint8],
    owner: Counts,
    classes: int,
    parents: Counts,
    sizes: Counts,
    kinds: Counts,
    used: int,
) -> int:
    """Give every cell a region; ``owner`` holds those of the last row, roots in the end. Return the regions used."""
    rows, columns = labels.shape
    for y in range(rows):
        left = -1  # region of the cell to the left, where it has the same label
        for x in range(columns):
            label = labels[y, x]
            if x == 0 or labels[y, x - 1] != label:
                left = -1
            if label == 0 or label > classes:
                owner[x] = -1
                continue
            upper = labels[y - 1, x] if y else above[x]
            region = _meet(parents, sizes, left, owner[x] if upper == label else -1)
            if region < 0:
                region = used
                kinds[region] = label
                used += 1
            sizes[region] += 1
            owner[x] = left = region
    for x in range(columns):
        if owner[x] >= 0:
            owner[x] = _root(parents, owner[x])
    return used


@compiled
def _meet(parents: Counts, sizes: Counts, left: int, upper: int) -> int:
    """Return the region that a cell between two is of, which are one from here on; -1: there is none."""
    if upper < 0:
        return left
    upper = _root(parents, upper)
    if left < 0 or left == upper:
        return upper
    parents[upper] = left
    sizes[left] += sizes[upper]
    return left
