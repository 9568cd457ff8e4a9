from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.check.regions import region_problems
from dualproto_wsi.vector.check.scores import score_problems
from dualproto_wsi.vector.polygons import RegionTracer
from dualproto_wsi.vector.region import AREA, MEAN_SCORE, RUNNER_UP, Region, to_region

SCHEME = ClassScheme(tuple(TissueClass(i, f"class {i}", (40 * i, 0, 0)) for i in (1, 2, 3)))


def blobs() -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(2).standard_normal((110, 130)), 3)
    return np.digitize(noise, np.quantile(noise, (0.25, 0.5, 0.75))).astype(np.uint8)


LABELS = blobs()
GRID = LabelGrid(33.37, -12.5, 3.7, 1.9, 130, 110)


def regions_of(simplify_cells: float) -> list[Region]:
    tracer = RegionTracer(130, 0, simplify_cells)
    regions = [to_region(traced, GRID, SCHEME) for traced in tracer.feed(LABELS) + tracer.finish()]
    return [rounded(region) for region in regions]


def rounded(region: Region) -> Region:
    return replace(region, polygons=tuple(tuple(r.round(2) for r in polygon) for polygon in region.polygons))


def merged(regions: list[Region]) -> list[Region]:
    """One annotation a class."""
    return [
        Region(
            own[0].id,
            own[0].tissue_class,
            tuple(polygon for region in own for polygon in region.polygons),
            {AREA: sum(region.measurements[AREA] for region in own)},
        )
        for tissue_class in SCHEME
        if (own := [region for region in regions if region.tissue_class == tissue_class])
    ]


def problems(regions: list[Region], simplify_cells: float, labels: np.ndarray = LABELS) -> str:
    return "\n".join(region_problems(regions, labels, GRID, simplify_cells))


@pytest.mark.parametrize("simplify_cells", [0, 0.75, 1, 2.5])
def test_what_was_traced_has_no_problems(simplify_cells: float) -> None:
    regions = regions_of(simplify_cells)
    assert problems(regions, simplify_cells) == ""
    assert problems(merged(regions), simplify_cells) == ""


def test_simplified_polygons_are_not_exact() -> None:
    assert "cells differ" in problems(regions_of(1.5), 0)


def test_a_border_that_moved_too_far_is_found() -> None:
    assert "cells differ" in problems(regions_of(4), 0.75)


def test_labels_far_from_their_place_are_found() -> None:
    row, column = np.argwhere(gaussian_filter((LABELS == 2).astype(float), 2) > 0.9)[0].tolist()
    wrong = LABELS.copy()
    wrong[row, column] = 0
    text = problems(regions_of(1), 0.4, wrong)
    assert f"row {row}, column {column}: 2 in the polygons, 0 in the map" in text


def moved(regions: list[Region], which: int, by: float) -> list[Region]:
    region = regions[which]
    polygons = tuple(tuple(ring + by for ring in polygon) for polygon in region.polygons)
    return [*regions[:which], replace(region, polygons=polygons), *regions[which + 1 :]]


def largest(regions: list[Region]) -> int:
    return max(range(len(regions)), key=lambda i: regions[i].measurements[AREA])


def test_the_least_gap_or_overlap_is_found() -> None:
    regions = regions_of(1)
    text = problems(moved(regions, largest(regions), 0.01), 1)
    assert "its border is not its neighbour's at x " in text
    assert "overlap or gap" in text


def test_a_region_that_is_missing_or_twice_is_found() -> None:
    regions = regions_of(1)
    gone = [region for i, region in enumerate(regions) if i != largest(regions)]
    count = sum(r.tissue_class.id == regions[largest(regions)].tissue_class.id for r in regions)
    assert f"{count - 1} polygons, but {count} regions in the label map" in problems(gone, 1)
    text = problems([*regions, regions[0]], 1)
    assert "1 regions share an id with another" in text
    assert "regions overlap: they fill" in text


def test_a_wrong_measurement_is_found() -> None:
    regions = regions_of(1)
    i = largest(regions)
    right = regions[i].measurements[AREA]
    regions[i] = replace(regions[i], measurements={AREA: right + GRID.cell_mm2})
    text = problems(regions, 1)
    assert f"class {regions[i].tissue_class.id}: {AREA!r} of a region is " in text
    assert f"in the label map it is {right:.6g}" in text
    regions[i] = replace(regions[i], measurements={AREA: 10 * right})
    assert f"region {regions[i].id}: its polygon has " in problems(regions, 1)


@pytest.mark.parametrize("simplify_cells", [0, 1])
@pytest.mark.parametrize("by_cells", [0.02, 0.5, 1])
def test_a_layer_that_is_shifted_as_a_whole_is_found(simplify_cells: float, by_cells: float) -> None:
    regions = regions_of(simplify_cells)
    for i in range(len(regions)):
        regions = moved(regions, i, by_cells * GRID.scale)
    assert "vertices lie on no corner of their regions' cells; the first is x" in problems(regions, simplify_cells)


def scored(regions: list[Region], score: float, other: float) -> list[Region]:
    return [replace(region, measurements={MEAN_SCORE: score, RUNNER_UP: other}) for region in regions]


@pytest.mark.parametrize(
    ("score", "other", "by_probability", "text"),
    [
        (0.6, 0.4, True, None),
        (0.604, 0.3, True, None),
        (0.5, 0.3, False, None),  # refined: the label need not be the class of the best probability
        (0.3, 0.5, False, None),
        (0.5, 0.3, True, "its 'DualProto mean score' is 0.5, the confidence of its cells 0.6"),
        (0.7, 0.2, False, "its 'DualProto mean score' is 0.7, the confidence of its cells 0.6"),
        (0.3, 0.5, True, "its second class has a higher score, 0.5, than its own, 0.3"),
        (0.6, 0.5, True, "its scores are 0.6 and 0.5; they are shares of 1"),
        (np.nan, 0.1, True, "its scores are nan and 0.1; they are shares of 1"),
        (0.6, -0.1, True, "its scores are 0.6 and -0.1; they are shares of 1"),
    ],
)
def test_scores_are_those_of_the_cells(score: float, other: float, by_probability: bool, text: str | None) -> None:
    regions = scored(regions_of(0)[:3], score, other)
    found = list(score_problems(regions, GRID, np.full(GRID.shape, 60, np.uint8), by_probability))
    assert any(text in line for line in found) if text else not found
    assert all(line.startswith("region ") for line in found)


def test_an_invalid_polygon_is_found() -> None:
    regions = regions_of(1)
    ring = regions[0].polygons[0][0].copy()
    ring[[1, 2]] = ring[[2, 1]]
    regions[0] = replace(regions[0], polygons=((ring,),))
    assert f"region {regions[0].id}: " in problems(regions, 1)
