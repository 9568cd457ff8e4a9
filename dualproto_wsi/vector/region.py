"""A region of the slide: what was traced on the grid, in level-0 pixels, with its class and measurements."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.polygons import TracedRegion

Ring = npt.NDArray[np.float64]

AREA = "DualProto area mm^2"
"""Measurement: number of cells times the area of a cell."""

MEAN_SCORE = "DualProto mean score"
"""Measurement, 0…1: mean over the region's cells of the probability of its class."""

RUNNER_UP = "DualProto runner-up share"
"""Measurement, 0…1: mean over the region's cells of the probability of the strongest other class."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "region.dualproto-wsi")


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A region in level-0 pixels.

    Parameters
    ----------
    id : str
        A UUID; see :func:`region_id`.
    tissue_class : TissueClass
        Its class.
    polygons : tuple of tuple of ndarray of float64, (n, 2)
        Polygons that do not overlap, one for a traced region; each a shell and its holes, closed rings of (x, y).
    measurements : mapping of str to float
        Values by the name that QuPath shows; NaN stands for "none".
    """

    id: str
    tissue_class: TissueClass
    polygons: tuple[tuple[Ring, ...], ...]
    measurements: Mapping[str, float] = field(default_factory=dict)

    @property
    def rings(self) -> tuple[Ring, ...]:
        """All rings of all polygons."""
        return tuple(ring for polygon in self.polygons for ring in polygon)


def region_id(*namespace: str, label: int, row: int, column: int) -> str:
    """Return the UUID of a region: the same one whenever the same region is found in the same circumstances.

    Parameters
    ----------
    *namespace : str
        What tells this label map from others, e.g. the slide's name and the model's hash.
    label, row, column : int
        The region's label and first cell; no two regions of a label map share them.
    """
    return str(uuid.uuid5(_NAMESPACE, "\0".join((*namespace, str(label), str(row), str(column)))))


def to_region(traced: TracedRegion, grid: LabelGrid, classes: ClassScheme, *namespace: str) -> Region:
    """Bring a traced region from the grid to level-0 pixels.

    Parameters
    ----------
    traced : TracedRegion
        A region of the grid's label map.
    grid : LabelGrid
        Where the map lies: vertex (column, row) becomes (grid.x + column · scale, grid.y + row · scale).
    classes : ClassScheme
        Classes by label.
    *namespace : str
        Goes into the id; see :func:`region_id`.

    Returns
    -------
    Region
        With the measurements :data:`AREA`, :data:`MEAN_SCORE` and :data:`RUNNER_UP`; a score is NaN where there are
        no probabilities, or no other class.

    Raises
    ------
    SettingsError
        If no class has the region's label.
    """
    origin = np.array([grid.x, grid.y])
    means = traced.probability_sums / traced.cells
    others = np.delete(means, traced.label - 1) if len(means) else means
    return Region(
        region_id(*namespace, label=traced.label, row=traced.row, column=traced.column),
        classes.by_id(traced.label),
        (tuple(origin + ring * grid.scale for ring in traced.rings),),
        {
            AREA: traced.cells * grid.cell_mm2,
            MEAN_SCORE: float(means[traced.label - 1]) if len(means) else math.nan,
            RUNNER_UP: float(others.max()) if len(others) else math.nan,
        },
    )
