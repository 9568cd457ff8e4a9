"""Proof that grid squares and label map say the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from dualproto_wsi.classes import UNSURE, ClassScheme
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.geojson.squares import ANALYSED, DECIMALS, SquareTally, score_name
from dualproto_wsi.vector.region import Region, share_name

ROUNDING_PX = 0.0075
"""How far rounding to 0.01 px may move a vertex."""


def square_problems(
    squares: Sequence[Region],
    labels: npt.NDArray[np.uint8],
    grid: LabelGrid,
    classes: ClassScheme,
    square_cells: int,
) -> Iterator[str]:
    """Find where grid squares and label map disagree.

    Checked are: every square that holds an analysed cell is there, once, in its place, with its class; the shares that
    it tells are those of its cells; and its scores are shares of 1.

    Parameters
    ----------
    squares : sequence of Region
        As read from a file, in the same frame as ``grid``.
    labels : ndarray of uint8, shape (rows, columns)
        The label map.
    grid : LabelGrid
        Its frame.
    classes : ClassScheme
    square_cells : int
        Side of a square, cells.

    Yields
    ------
    str
        One line a problem, naming the square.
    """
    unsure = bool((labels == UNSURE).any())
    tally = SquareTally(grid, classes, square_cells, unsure=unsure)
    expected = tally.add(labels, np.zeros((len(classes), *labels.shape), np.float32))
    if len(squares) != len(expected):
        yield f"{len(squares)} squares; the label map has {len(expected)} with analysed cells"
        return
    shared = len(squares) - len({square.id for square in squares})
    if shared:
        yield f"{shared} squares share an id with another"
    scores = [score_name(c.name) for c in classes]
    names = [share_name(c.name) for c in classes] + [ANALYSED]
    for found, right in zip(squares, expected, strict=True):
        yield from _problems(found, right, names, scores)


def _problems(found: Region, right: Region, names: Sequence[str], scores: Sequence[str]) -> Iterator[str]:
    """Compare a square with what its cells make of it; scores are not in the label map."""
    if len(found.rings) != 1 or found.rings[0].shape != right.rings[0].shape:
        yield f"square {found.id}: is no square"
        return
    if not np.abs(found.rings[0] - right.rings[0]).max() <= ROUNDING_PX:
        yield f"square {found.id}: lies at {found.rings[0][0].tolist()}, not at {right.rings[0][0].tolist()}"
    if found.tissue_class.id != right.tissue_class.id:
        yield f"square {found.id}: is {found.tissue_class.name}, its cells are {right.tissue_class.name}"
    for name in names:
        if not abs(found.measurements.get(name, np.nan) - right.measurements[name]) <= 10**-DECIMALS:
            told = found.measurements.get(name)
            yield f"square {found.id}: its {name!r} is {told}, its cells have {right.measurements[name]}"
    values = [found.measurements.get(name, np.nan) for name in scores]
    if not (min(values) >= 0 and sum(values) <= 1 + len(values) * 10**-DECIMALS):
        yield f"square {found.id}: its scores are {values}; they are shares of 1"
