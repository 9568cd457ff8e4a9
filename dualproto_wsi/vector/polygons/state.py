"""What the region tracer remembers between two rows; arrays of records, because kernels work on them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Record = Any
Records = npt.NDArray[Any]
UInt8 = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

ROOM = 26
"""Bytes of steps that a block has room for; makes a block 32 bytes."""

BLOCK = np.dtype(
    [
        ("link", np.int32),  # next block along the ring; of an unused block: the next unused one
        ("begin", np.uint8),  # its steps are step[begin:stop]
        ("stop", np.uint8),
        ("step", np.uint8, (ROOM,)),
    ]
)
"""A few successive steps of a ring, from vertex to vertex; see :mod:`dualproto_wsi.vector.polygons.chains`."""

END = np.dtype([("block", np.int32), ("mate", np.int32), ("vertex", np.int64)])
"""An end of an open chain: the block that it grows in, the chain's other end, and its outermost vertex (-1: none yet).

A closed ring is an end as well: its first block, the next ring of the component, its first vertex. An unused end's mate
is the next unused one. A vertex is ``row << 32 | column << 1 | touch``, so vertices compare in reading order.
"""

COMPONENT = np.dtype(
    [
        ("cells", np.int64),
        ("first", np.int64),  # row · columns + column of the first cell
        ("last_row", np.int64),
        ("done_row", np.int64),  # row that showed it to be complete, -1 before
        ("vertices", np.int64),
        ("parent", np.int32),  # union-find forest, flat again after each row
        ("label", np.int32),
        ("head", np.int32),  # list of its closed rings, -1: none
        ("tail", np.int32),
    ]
)
"""A region that is not handed out yet."""

RUN = np.dtype([("start", np.int32), ("label", np.int32), ("component", np.int32)])
"""Equal cells side by side in a row; the component is -1 for label 0."""

UNUSED, MERGED, DONE = 0, 1, 2
"""Rows of :attr:`State.lists` and their lengths in :attr:`State.counts`."""

FREE_BLOCK, BLOCKS, FREE_END, ENDS = 3, 4, 5, 6
"""Further counts: the first unused block or end (the others are linked to it), and how many are unused."""

CORNERS, RUN_SUM = 7, 8
"""Further counts: the most vertices that the next row may have, and the run sums used."""

BLOCKS_A_CORNER, ENDS_A_CORNER = 8, 8
"""The most that the (up to four) rings which turn at a vertex may take."""


class State(NamedTuple):
    """Everything between two rows of cells."""

    runs: Records  # RUN (2, columns + 3): the last two rows, [row % 2] is the newer one
    waiting: Int32  # (columns + 1, 2) ends that wait left and right of the edge that leads down from a vertex
    blocks: Records  # BLOCK (n,)
    ends: Records  # END (n,)
    components: Records  # COMPONENT (n,)
    sums: Float64  # (n, K) summed probabilities of the components
    lists: Int32  # (3, n) numbers of components: unused, merged into another one in this row, complete
    counts: Int64  # (9,)


def new_state(columns: int, classes: int) -> State:
    """Return the state above the first row of cells."""
    runs = np.zeros((2, columns + 3), RUN)
    runs["component"] = -1
    runs["start"][:, 1] = columns + 2
    return State(
        runs=runs,
        waiting=np.full((columns + 1, 2), -1, np.int32),
        blocks=np.empty(0, BLOCK),
        ends=np.empty(0, END),
        components=np.empty(0, COMPONENT),
        sums=np.empty((0, classes), np.float64),
        lists=np.empty((3, 0), np.int32),
        counts=np.zeros(9, np.int64),
    )


def grow(state: State) -> State:
    """Return the state with room for the row that did not fit; blocks and ends grow in place."""
    corners = int(state.counts[CORNERS])
    if state.counts[BLOCKS] < BLOCKS_A_CORNER * corners:
        _lengthen(state.blocks, "link", state.counts, FREE_BLOCK, BLOCKS_A_CORNER * corners)
    if state.counts[ENDS] < ENDS_A_CORNER * corners:
        _lengthen(state.ends, "mate", state.counts, FREE_END, ENDS_A_CORNER * corners)
    return _more_components(state, corners) if state.counts[UNUSED] < corners else state


def _lengthen(records: Records, link: str, counts: Int64, free: int, needed: int) -> None:
    """Put new places before the unused ones: what a row needs, and an eighth so that this is seldom done."""
    held = len(records)
    records.resize(held + needed + held // 8, refcheck=False)
    links = records[link][held:]
    links[:-1] = np.arange(held + 1, len(records))
    links[-1] = counts[free]  # never followed where there was none
    counts[free] = held
    counts[free + 1] += len(links)


def _more_components(state: State, needed: int) -> State:
    held = len(state.components)
    size = held + needed + held // 8
    components = np.empty(size, COMPONENT)
    components[:held] = state.components
    sums = np.empty((size, state.sums.shape[1]), np.float64)
    sums[:held] = state.sums
    lists = np.empty((3, size), np.int32)
    lists[:, :held] = state.lists
    unused = state.counts[UNUSED]
    lists[UNUSED, unused : unused + size - held] = np.arange(size - 1, held - 1, -1)
    state.counts[UNUSED] += size - held
    return state._replace(components=components, sums=sums, lists=lists)
