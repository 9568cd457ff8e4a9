"""How far cells lie from the tumour front, exactly, while the map passes by in bands.

The tumour *body* is a binary map: cells that count as tumour tissue, necrosis too, its small gaps filled (who calls
says how). The *front* is the border between the body and other analysed tissue; a border with glass is none. A cell's
distance is the Euclidean one from its centre to the nearest cell of the front's other side, less half a cell: of a
straight front along the grid, exactly the distance to the border line; of an oblique or curved one, up to half a cell
less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Distances = NDArray[np.float32]

ROWS = 512
"""Least rows that are measured at a time; with twice the reach they bound the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class FrontBand:
    """Rows of the map with their distances.

    Parameters
    ----------
    row : int
        The first of them in the whole map.
    labels : ndarray of uint8, shape (n, columns)
    body : ndarray of bool, shape (n, columns)
    distance : ndarray of float32 or None, shape (n, columns)
        To the front, cells; right where it is at most the reach. None where no front is near any of these rows.
    """

    row: int
    labels: Labels
    body: Mask
    distance: Distances | None


class FrontDistances:
    """Measures distances to the tumour front, band by band: the same numbers as on the whole map.

    Parameters
    ----------
    columns : int
        Width of the map.
    reach : float
        Largest distance that is wanted, cells. So many rows above and below a band are looked at, too.

    Notes
    -----
    Distances are those of Felzenszwalb & Huttenlocher (Theory of Computing 8, 2012, doi:10.4086/toc.2012.v008a019) as
    OpenCV computes them. Memory: about 20 bytes a cell of ``max(512, 2 reach) + 2 reach`` rows.
    """

    def __init__(self, columns: int, reach: float) -> None:
        self._halo = int(np.ceil(reach)) + 2  # a cell's neighbours tell whether it is at the front
        self._chunk = max(ROWS, 2 * self._halo)
        self._labels = np.empty((0, columns), np.uint8)
        self._body = np.empty((0, columns), np.bool_)
        self._first = 0  # row of the map that the first row held is
        self._next = 0  # row of the map that is due

    def feed(self, labels: Labels, body: Mask) -> Iterator[FrontBand]:
        """Take the next rows, (n, columns) each; yield those whose distances are known now."""
        self._labels = np.concatenate((self._labels, labels))
        self._body = np.concatenate((self._body, body))
        while self._first + len(self._labels) >= self._next + self._chunk + self._halo:
            yield self._measure(self._next + self._chunk)

    def finish(self) -> Iterator[FrontBand]:
        """End the map; yield the rows that are left."""
        last = self._first + len(self._labels)
        while self._next < last:
            yield self._measure(min(self._next + self._chunk, last))

    def _measure(self, stop: int) -> FrontBand:
        start, self._next = self._next, stop
        end = min(stop + self._halo - self._first, len(self._labels))
        labels, body = self._labels[:end], self._body[:end]
        own = slice(start - self._first, stop - self._first)
        band = FrontBand(start, labels[own], body[own], _distances(labels, body, own))
        keep = max(stop - self._halo - self._first, 0)
        self._labels, self._body = self._labels[keep:], self._body[keep:]
        self._first += keep
        return band


def _distances(labels: Labels, body: Mask, own: slice) -> Distances | None:
    analysed = labels != 0
    inner, outer = find_front(analysed, body)
    if not inner.any():
        return None
    distance = np.where(body[own], _distance_to(outer)[own], _distance_to(inner)[own]) - np.float32(0.5)
    return np.asarray(distance, np.float32)


def _distance_to(cells: Mask) -> Distances:
    found: Distances = cv2.distanceTransform((~cells).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return found


def find_front(analysed: Mask, body: Mask) -> tuple[Mask, Mask]:
    """Return the cells on both sides of the front.

    Parameters
    ----------
    analysed, body : ndarray of bool, shape (rows, columns)

    Returns
    -------
    inner, outer : ndarray of bool, shape (rows, columns)
        Analysed cells of the body with an analysed one outside above, below, left or right of them; and those.
    """
    inside, outside = body & analysed, ~body & analysed
    inner, outer = np.zeros_like(body), np.zeros_like(body)
    for one, other in (
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        for here, there in ((one, other), (other, one)):
            meets = inside[here] & outside[there]
            inner[here] |= meets
            outer[there] |= meets
    return inner, outer
