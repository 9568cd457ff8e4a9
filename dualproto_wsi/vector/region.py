"""A region of the slide: what was traced on the grid, in level-0 pixels, with its class and measurements."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dualproto_wsi.classes import UNSURE, ClassScheme, TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.polygons import TracedRegion

Ring = npt.NDArray[np.float64]
Polygon = tuple[Ring, ...]
"""A shell and its holes, closed rings of (x, y), (n, 2), level-0 px."""

AREA = "DualProto area mm^2"
"""Measurement: number of cells times the area of a cell."""

MEAN_SCORE = "DualProto mean score"
"""Measurement, 0…1: mean over the cells of the probability of their class; of the strongest class where unsure."""

RUNNER_UP = "DualProto runner-up share"
"""Measurement, 0…1: mean over the cells of the probability of the strongest other class."""


def share_name(class_name: str) -> str:
    """Return the name of the measurement "share of a class in what was analysed", 0…1."""
    return f"DualProto {class_name} share"


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
    polygons: tuple[Polygon, ...]
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


def to_polygon(traced: TracedRegion, grid: LabelGrid) -> Polygon:
    """Bring the rings of a traced region to level-0 pixels.

    Vertex (column, row) of the grid becomes (grid.x + column · scale, grid.y + row · scale).
    """
    origin = np.array([grid.x, grid.y])
    return tuple(origin + ring * grid.scale for ring in traced.rings)


def score_measurements(label: int, cells: int, probability_sums: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return :data:`MEAN_SCORE` and :data:`RUNNER_UP` of some cells of one label.

    Parameters
    ----------
    label : int
        Their label: 1…K, or ``UNSURE``, whose score is that of the class with the highest mean.
    cells : int
        Their number.
    probability_sums : ndarray of float64, (K,)
        Sum of each class's probability over the cells; K may be 0.

    Returns
    -------
    dict of str to float
        NaN where there are no probabilities, or no other class.
    """
    means = (probability_sums / cells).tolist()
    if not means:
        return {MEAN_SCORE: math.nan, RUNNER_UP: math.nan}
    own = means.pop(means.index(max(means)) if label == UNSURE else label - 1)
    return {MEAN_SCORE: own, RUNNER_UP: max(means, default=math.nan)}


def to_region(traced: TracedRegion, grid: LabelGrid, classes: ClassScheme, *namespace: str) -> Region:
    """Bring a traced region from the grid to level-0 pixels.

    Parameters
    ----------
    traced : TracedRegion
        A region of the grid's label map.
    grid : LabelGrid
        Where the map lies; see :func:`to_polygon`.
    classes : ClassScheme
        Classes by label.
    *namespace : str
        Goes into the id; see :func:`region_id`.

    Returns
    -------
    Region
        With the measurements :data:`AREA`, :data:`MEAN_SCORE` and :data:`RUNNER_UP`.

    Raises
    ------
    SettingsError
        If no class has the region's label.
    """
    return Region(
        region_id(*namespace, label=traced.label, row=traced.row, column=traced.column),
        classes.by_id(traced.label),
        (to_polygon(traced, grid),),
        {
            AREA: traced.cells * grid.cell_mm2,
            **score_measurements(traced.label, traced.cells, traced.probability_sums),
        },
    )
