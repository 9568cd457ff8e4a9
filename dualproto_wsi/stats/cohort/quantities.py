"""What adds up: areas and lengths of a slide by block, from which every measure is a quotient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.stats.cohort.definitions import LYMPHOCYTE, STROMA, TUMOR, Definitions
from dualproto_wsi.stats.cohort.squares import CORE, INNER, reduce_squares

Table = NDArray[np.float64]

ANALYSED, UNSURE, BORDER, TUMOR_BORDER = "analysed", "unsure", "border", "tumor border"
IN_TUMOR, LYMPHOCYTE_IN = "tumor in body", "lymphocyte in body"
STROMA_OUT, LYMPHOCYTE_OUT = "stroma outside", "lymphocyte outside"
MIXING = ("square t", "square l", "square tt", "square ll", "square tl")


def class_area(name: str) -> str:
    """Name the area of a class."""
    return f"class {name}"


def margin_area(side: str, band: int, lymphocyte: bool = False) -> str:
    """Name the analysed area, or that of lymphocytes, in a band of the margin; the side is ``in`` or ``out``."""
    return f"margin {side} {band}{' lymphocyte' if lymphocyte else ''}"


@dataclass(frozen=True, slots=True, eq=False)
class Quantities:
    """What was counted on one slide, or on several together.

    Parameters
    ----------
    names : tuple of str
        Of the columns of ``blocks``.
    blocks : ndarray of float64, shape (blocks, N)
        A row a block that has analysed tissue: areas in mm², lengths in mm, sums over squares in mm⁴.
    regions : tuple of ndarray of float64
        Areas of the regions of each class, mm².
    confidence : tuple of float
        Sum of probability times area, and the area it is known of, mm².
    """

    names: tuple[str, ...]
    blocks: Table
    regions: tuple[Table, ...]
    confidence: tuple[float, float]


def join_quantities(parts: Sequence[Quantities]) -> Quantities:
    """Return what was counted on several slides together; they have the same definitions."""
    return Quantities(
        parts[0].names,
        np.concatenate([part.blocks for part in parts]),
        tuple(np.concatenate(areas) for areas in zip(*(part.regions for part in parts), strict=True)),
        (sum(part.confidence[0] for part in parts), sum(part.confidence[1] for part in parts)),
    )


def block_table(
    counts: NDArray[np.int64], lengths: Table, definitions: Definitions, cell_um: float
) -> tuple[tuple[str, ...], Table]:
    """Turn counts by square into quantities by block.

    Parameters
    ----------
    counts : ndarray of int64, shape (square rows, square columns, zones, K + 1)
        Cells; see :class:`~dualproto_wsi.stats.cohort.squares.ZoneCounts`.
    lengths : ndarray of float64, shape (square rows, square columns, 2)
        Cells; see :class:`~dualproto_wsi.stats.cohort.squares.BorderLengths`.
    definitions : Definitions
    cell_um : float
        Side of a cell, µm.

    Returns
    -------
    names : tuple of str
    blocks : ndarray of float64, shape (blocks, N)
        Only blocks with analysed tissue.
    """
    areas: Table = counts.astype(np.float64) * (cell_um * cell_um * 1e-6)
    bands = len(definitions.margins_um)
    roles = definitions.roles
    by_class = areas.sum(2)
    inside, outside = areas[:, :, : INNER + bands].sum(2), areas[:, :, INNER + bands :].sum(2)
    nothing = np.zeros(areas.shape[:2])

    def of(area: Table, role: str) -> Table:
        return area[..., roles[role] - 1] if role in roles else nothing

    columns = {ANALYSED: by_class.sum(2), UNSURE: by_class[..., -1]}
    columns |= {class_area(name): by_class[..., k] for k, name in enumerate(definitions.classes.names)}
    columns |= {IN_TUMOR: of(inside, TUMOR), LYMPHOCYTE_IN: of(inside, LYMPHOCYTE)}
    columns |= {STROMA_OUT: of(outside, STROMA), LYMPHOCYTE_OUT: of(outside, LYMPHOCYTE)}
    for side, first in (("in", CORE + 1), ("out", INNER + bands)):
        for band in range(bands):
            zone = areas[:, :, first + band]
            columns[margin_area(side, band)] = zone.sum(2)
            columns[margin_area(side, band, lymphocyte=True)] = of(zone, LYMPHOCYTE)
    columns |= {BORDER: lengths[..., 0] * cell_um * 1e-3, TUMOR_BORDER: lengths[..., 1] * cell_um * 1e-3}
    t, lymphocytes = of(by_class, TUMOR), of(by_class, LYMPHOCYTE)
    columns |= dict(zip(MIXING, (t, lymphocytes, t * t, lymphocytes**2, t * lymphocytes), strict=True))
    blocks = reduce_squares(np.stack(list(columns.values()), axis=2), definitions.block_squares)
    table = blocks.reshape(-1, len(columns))
    return tuple(columns), table[table[:, 0] > 0]
