"""Whether a slide's polygon files say what its label map says, and QuPath reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import UNSURE_CLASS
from dualproto_wsi.vector.check.outline import outline_problems
from dualproto_wsi.vector.check.regions import region_problems
from dualproto_wsi.vector.check.scores import score_problems
from dualproto_wsi.vector.check.squares import square_problems
from dualproto_wsi.vector.geojson import WrittenFeature, read_written
from dualproto_wsi.vector.geojson.merge import REGIONS
from dualproto_wsi.vector.region import Region
from dualproto_wsi.workflow.checks.verify_file import verify_file
from dualproto_wsi.workflow.checks.verify_record import Told


def polygon_problems(
    path: Path, told: Told, labels: NDArray[np.uint8], confidence: NDArray[np.uint8] | None, checked: list[str]
) -> Iterator[str]:
    """Find what is wrong with a polygon file.

    Parameters
    ----------
    path : Path
        The file.
    told : Told
        What the record says of it.
    labels, confidence : ndarray of uint8, (rows, columns)
        The rasters; None where there is no confidence.
    checked : list of str
        Gets what was looked at.

    Yields
    ------
    str
        One line a problem.

    Raises
    ------
    DataError
        If the file cannot be read, or a feature is not one of ours.
    """
    suffix = path.name.removeprefix(f"{told.file}.")
    for verdict in verify_file(path):
        yield from verdict.objections(may_be_empty=not told.data["regions"])
    features = list(read_written(path, told.classes))
    checked.append(f"{suffix}: {len(features)} features")
    outlines = [feature for feature in features if feature.tissue_class is None]
    yield from _rule_problems([feature for feature in features if feature.tissue_class], told)
    regions = [f.to_region(told.classes.by_id(f.tissue_class.id)) for f in features if f.tissue_class]
    yield from _region_problems(regions, told, labels, confidence)
    if told.output.outline:
        yield from outline_problems(outlines, labels, told.grid, told.classes, told.simplify_cells)
    elif outlines:
        yield f"{len(outlines)} features have no class; the first is {outlines[0].id}"


def _rule_problems(features: Sequence[WrittenFeature], told: Told) -> Iterator[str]:
    """Find classified features that are not written as the settings say."""
    colours = {c.id: c.colour for c in (*told.classes, UNSURE_CLASS)}
    merged = told.output.merge_per_class
    rules: dict[str, Callable[[WrittenFeature], bool]] = {
        f"are not of the type {told.output.object_type}": lambda f: f.object_type != told.output.object_type,
        "have another colour than record.json gives their class": lambda f: (
            f.tissue_class is not None and f.tissue_class.colour != colours[f.tissue_class.id]
        ),
        "have a name or are locked": lambda f: bool(f.name) or f.locked,
        "have more than one polygon": lambda f: not merged and len(f.polygons) > 1,
        f"have another number of polygons than {REGIONS!r}": lambda f: (
            merged and f.measurements.get(REGIONS) != len(f.polygons)
        ),
    }
    for text, broken in rules.items():
        wrong = [feature for feature in features if broken(feature)]
        if wrong:
            yield f"{len(wrong)} features {text}; the first is {wrong[0].id}"
    if merged and len({feature.tissue_class.id for feature in features if feature.tissue_class}) != len(features):
        yield "a class has more than one feature"


def _region_problems(
    regions: list[Region], told: Told, labels: NDArray[np.uint8], confidence: NDArray[np.uint8] | None
) -> Iterator[str]:
    if told.output.object_type == "tile":
        side = told.output.square_cells(told.grid.cell_um)
        yield from square_problems(regions, labels, told.grid, told.classes, side)
        found = len(regions)
    else:
        exact = told.simplify_cells == 0
        yield from region_problems(regions, labels, told.grid, told.simplify_cells)
        yield from score_problems(regions, told.grid, confidence if exact else None, told.by_probability)
        found = sum(len(region.polygons) for region in regions)
    if found != told.data["regions"]:
        yield f"{found} regions, record.json says {told.data['regions']}"
