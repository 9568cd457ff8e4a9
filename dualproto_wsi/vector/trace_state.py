"""What the region tracer remembers between two rows; arrays of records, because kernels work on them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[Any]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

NODE = np.dtype(
    [
        ("x", np.int32),  # twice the column, plus 1 at a touch
        ("y", np.int32),
        ("next", np.int32),  # next node along the ring; of an unused node: the next unused one
        ("link", np.int32),  # next node in the component's list
    ]
)
"""A vertex of an open ring."""

COMPONENT = np.dtype(
    [
        ("cells", np.int64),
        ("first", np.int64),  # row · columns + column of the first cell
        ("last_row", np.int64),
        ("done_row", np.int64),  # row that showed it to be complete, -1 before
        ("vertices", np.int64),  # number of nodes
        ("parent", np.int32),  # union-find forest, flat again after each row
        ("label", np.int32),
        ("head", np.int32),  # list of nodes that holds at least one of every ring, and every touch
        ("tail", np.int32),
    ]
)
"""A region that is not handed out yet."""

RUN = np.dtype([("start", np.int32), ("label", np.int32), ("component", np.int32)])
"""Equal cells side by side in a row; the component is -1 for label 0."""

UNUSED, MERGED, DONE = 0, 1, 2
"""Rows of :attr:`State.lists` and their lengths in :attr:`State.counts`."""

FIRST_FREE, FREE_NODES = 3, 4
"""Further counts: the first unused node (the others follow by ``next``), and how many there are."""


class State(NamedTuple):
    """Everything between two rows of cells."""

    runs: Records  # RUN (2, columns + 3): the last two rows, [row % 2] is the newer one; see `sweep.split_runs`
    waiting: Int32  # (columns + 1, 2) nodes of the regions left and right of the edge that leads down from a vertex
    nodes: Records  # NODE (n,)
    components: Records  # COMPONENT (m,)
    sums: Float64  # (m, K) summed probabilities of the components
    lists: Int32  # (3, m) numbers of components: unused, merged into another one in this row, complete
    counts: Int64  # (5,)


def new_state(columns: int, classes: int) -> State:
    """Return the state above the first row of cells, with room for the worst case of a row several times over."""
    runs = np.zeros((2, columns + 3), RUN)
    runs["component"] = -1
    runs["start"][:, 1] = columns + 2
    state = State(
        runs=runs,
        waiting=np.full((columns + 1, 2), -1, np.int32),
        nodes=np.empty(0, NODE),
        components=np.empty(0, COMPONENT),
        sums=np.empty((0, classes), np.float64),
        lists=np.empty((3, 0), np.int32),
        counts=np.zeros(5, np.int64),
    )
    return more_components(more_nodes(state, 16 * (columns + 1)), 4 * (columns + 1))


def more_nodes(state: State, size: int) -> State:
    """Return the state with room for `size` nodes."""
    held = len(state.nodes)
    nodes = np.empty(size, NODE)
    nodes[:held] = state.nodes
    nodes["next"][held:] = np.arange(held + 1, size + 1)
    nodes["next"][-1] = state.counts[FIRST_FREE]  # never followed where no node was free before
    state.counts[FIRST_FREE] = held
    state.counts[FREE_NODES] += size - held
    return state._replace(nodes=nodes)


def more_components(state: State, size: int) -> State:
    """Return the state with room for `size` components."""
    held = len(state.components)
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
