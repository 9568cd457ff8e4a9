"""Kernels of the region tracer: linked nodes of complete components → simple closed rings."""

from __future__ import annotations

import numpy as np

from dualproto_wsi.vector.compiled import compiled
from dualproto_wsi.vector.trace_state import DONE, FIRST_FREE, FREE_NODES, UNUSED, Int32, Int64, Records


@compiled
def extract(
    nodes: Records,
    components: Records,
    lists: Int32,
    counts: Int64,
    columns: int,
    xy: Int32,
    ring_stop: Int64,
    region_stop: Int64,
) -> int:
    """Write the rings of all complete components and free their nodes and numbers.

    Each ring starts at its topmost, then leftmost vertex and keeps the region on the right hand (as seen on the
    screen); the rings of a region are ordered by that vertex, which puts the shell first.

    Parameters
    ----------
    nodes, components, lists, counts : ndarray
        Fields of `State`.
    columns : int
        Width of the map, cells.
    xy : ndarray of int32, (n, 2)
        Takes the vertices, closed rings one after the other; 5/4 of the nodes suffice.
    ring_stop : ndarray of int64
        Takes where each ring ends in `xy`; a quarter of the nodes suffices.
    region_stop : ndarray of int64, (number of complete components,)
        Takes where each component ends in `ring_stop`.

    Returns
    -------
    int
        Number of vertices written.
    """
    vertices, rings = 0, 0
    for i in range(counts[DONE]):
        number = lists[DONE, i]
        component = components[number]
        key, node, length = _rings(nodes, component.head, component.vertices, columns)
        for ring in np.argsort(key):
            _write(nodes, counts, node[ring], length[ring], xy[vertices:])
            vertices += length[ring] + 1
            ring_stop[rings] = vertices
            rings += 1
        region_stop[i] = rings
        lists[UNUSED, counts[UNUSED]] = number
        counts[UNUSED] += 1
    counts[DONE] = 0
    return vertices


@compiled
def _rings(nodes: Records, head: int, vertices: int, columns: int) -> tuple[Int64, Int32, Int64]:
    """Find the rings of a component: key and node of the first vertex, and length; marks nodes by a negative y."""
    _untangle(nodes, head, columns)
    key = np.empty(vertices // 4, np.int64)
    first = np.empty(vertices // 4, np.int32)
    length = np.empty(vertices // 4, np.int64)
    count = 0
    while head >= 0:
        if nodes[head].y >= 0:
            key[count] = _key(nodes, head, columns)
            first[count], length[count] = head, 0
            node = head
            while nodes[node].y >= 0:
                at = _key(nodes, node, columns)
                if at < key[count]:
                    key[count], first[count] = at, node
                length[count] += 1
                nodes[node].y = -1 - nodes[node].y
                node = nodes[node].next
            count += 1
        head = nodes[head].link
    return key[:count], first[:count], length[:count]


@compiled
def _key(nodes: Records, node: int, columns: int) -> int:
    """Return the place of a vertex in reading order."""
    return np.int64(nodes[node].y) * (columns + 1) + (nodes[node].x >> 1)


@compiled
def _untangle(nodes: Records, head: int, columns: int) -> None:
    """Split rings where they pass a vertex twice.

    The two passages of such a vertex lie on one ring, and the passages of different vertices do not interlace; so
    exchanging the two ways out always splits a ring in two.
    """
    count, node = 0, head
    while node >= 0:
        count += nodes[node].x & 1
        node = nodes[node].link
    if count == 0:
        return
    touch, key = np.empty(count, np.int32), np.empty(count, np.int64)
    count, node = 0, head
    while node >= 0:
        if nodes[node].x & 1:
            touch[count], key[count] = node, _key(nodes, node, columns)
            count += 1
        node = nodes[node].link
    order = np.argsort(key)
    for i in range(1, count):
        one, two = order[i - 1], order[i]
        if key[one] == key[two]:
            nodes[touch[one]].next, nodes[touch[two]].next = nodes[touch[two]].next, nodes[touch[one]].next


@compiled
def _write(nodes: Records, counts: Int64, node: int, length: int, xy: Int32) -> None:
    """Write one closed ring and give its nodes back."""
    for i in range(length):
        xy[i, 0], xy[i, 1] = nodes[node].x >> 1, -1 - nodes[node].y
        following = nodes[node].next
        nodes[node].next = counts[FIRST_FREE]
        counts[FIRST_FREE] = node
        node = following
    counts[FREE_NODES] += length
    xy[length] = xy[0]
