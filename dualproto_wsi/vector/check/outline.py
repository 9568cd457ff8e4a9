"""Proof that the outline of all that was analysed and the label map say the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from dualproto_wsi.classes import NOT_ANALYSED, UNSURE, UNSURE_CLASS, ClassScheme, TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.check.regions import region_problems
from dualproto_wsi.vector.geojson.merge import ANALYSED_NAME, area_name
from dualproto_wsi.vector.geojson.written import WrittenFeature
from dualproto_wsi.vector.region import share_name

_CLASS = TissueClass(1, ANALYSED_NAME, (0, 0, 0))


def outline_problems(
    outlines: Sequence[WrittenFeature],
    labels: npt.NDArray[np.uint8],
    grid: LabelGrid,
    classes: ClassScheme,
    simplify_cells: float,
) -> Iterator[str]:
    """Find where the outline and the label map disagree.

    Checked are: there is one, if anything was analysed; it is as
    :class:`~dualproto_wsi.vector.geojson.merge.AnalysedArea` writes it; it fills the analysed cells; and it has the
    areas and shares of all classes.

    Parameters
    ----------
    outlines : sequence of WrittenFeature
        The features of a file that have no class.
    labels : ndarray of uint8, shape (rows, columns)
        The label map.
    grid : LabelGrid
        Its frame, and the file's.
    classes : ClassScheme
    simplify_cells : float
        As of :func:`~dualproto_wsi.vector.check.region_problems`.

    Yields
    ------
    str
        One line a problem.
    """
    analysed = labels != NOT_ANALYSED
    wanted = int(analysed.any())
    if len(outlines) != wanted:
        yield f"{len(outlines)} features without a class; the outline of what was analysed should be {wanted}"
        return
    for outline in outlines:
        told = (outline.name, outline.object_type, outline.locked)
        if told != (ANALYSED_NAME, "annotation", True):
            yield f"the outline is {told[0]!r:.60}, {told[1]!r:.60}, locked: {told[2]}; not as it was written"
        region = outline.to_region(_CLASS)
        for text in region_problems([region], analysed.astype(np.uint8), grid, simplify_cells):
            yield f"outline: {text}"
        cells = np.bincount(labels.ravel(), minlength=256)
        for one in (*classes, UNSURE_CLASS):
            count = int(cells[UNSURE if one is UNSURE_CLASS else one.id])
            right = {
                area_name(one.name): count * grid.cell_mm2,
                share_name(one.name): count / np.count_nonzero(analysed),
            }
            for name, value in right.items():
                found = outline.measurements.get(name, np.nan)
                if not abs(found - value) <= 1e-9 * max(value, grid.cell_mm2):
                    yield f"outline: its {name!r} is {found:.6g}, in the label map it is {value:.6g}"
