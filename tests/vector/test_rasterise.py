from __future__ import annotations

import numpy as np
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from dualproto_wsi.classes import TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.rasterise import _edges, _fill, means_inside, rasterise
from dualproto_wsi.vector.region import Region


def region(label: int, *rings: np.ndarray) -> Region:
    return Region("id", TissueClass(label, f"class {label}", (0, 0, 0)), (rings,))


def ring(*points: tuple[float, float]) -> np.ndarray:
    return np.array([*points, points[0]], np.float64)


def test_cell_counts_where_its_centre_is_inside() -> None:
    grid = LabelGrid(10, 20, 2, 1, 4, 3)
    shape = ring((10, 20), (13.1, 20), (13.1, 23), (10, 23))  # centres at x 11, 13, 15, 17 and y 21, 23, 25
    assert rasterise([region(7, shape)], grid).tolist() == [[7, 7, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_holes_stay_empty_and_later_regions_win() -> None:
    grid = LabelGrid(0, 0, 1, 1, 5, 5)
    outer, hole = ring((0, 0), (5, 0), (5, 5), (0, 5)), ring((1, 1), (1, 4), (4, 4), (4, 1))
    labels = rasterise([region(1, outer, hole), region(2, ring((4, 4), (9, 4), (9, 9), (4, 9)))], grid)
    assert np.count_nonzero(labels == 1) == 15
    assert labels[4, 4] == 2


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 12), st.integers(0, 2**32 - 1))
def test_slanted_polygons_equal_rasterio(corners: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    angles = np.sort(generator.random(corners)) * 2 * np.pi
    radius = generator.uniform(3, 25, corners)
    star = ring(*np.stack((20 + radius * np.cos(angles), 15 + radius * np.sin(angles)), 1).tolist())
    grid = LabelGrid(0, 0, 1, 1, 40, 30)
    expected = rasterio.features.rasterize([shapely.Polygon(star).buffer(0)], grid.shape, dtype=np.uint8)
    if shapely.Polygon(star).is_valid:
        assert np.array_equal(rasterise([region(1, star)], grid), expected)


WILD = st.sampled_from((np.nan, np.inf, -np.inf, 1e308, -1e308, 1e19, -1e19, 0.0, 2.5, 3.0, -7.0))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(WILD, WILD), min_size=2, max_size=8))
@np.errstate(all="ignore")
def test_whatever_the_points_are_only_cells_of_the_grid_are_filled(points: list[tuple[float, float]]) -> None:
    grid = LabelGrid(0, 0, 1, 1, 5, 4)
    wild = region(1, np.array(points))  # neither closed nor finite
    guarded = np.full((6, 5), 9, np.uint8)
    filled = _fill(guarded[1:-1], _edges(wild, grid), 1)
    assert (guarded[[0, -1]] == 9).all()
    assert (guarded == 1).sum() <= filled
    (mean,) = means_inside([wild], grid, np.full((4, 5), 7, np.uint8))
    assert mean == 7 or np.isnan(mean)


def test_means_inside_regions() -> None:
    grid = LabelGrid(0, 0, 1, 1, 4, 2)
    values = np.arange(8, dtype=np.uint8).reshape(2, 4)
    left, none = ring((0, 0), (2, 0), (2, 2), (0, 2)), ring((0.6, 0.6), (0.9, 0.6), (0.9, 0.9))
    means = means_inside([region(1, left), region(2, none)], grid, values)
    assert means[0] == values[:, :2].mean()
    assert np.isnan(means[1])


def test_no_regions() -> None:
    assert not rasterise([], LabelGrid(0, 0, 1, 1, 3, 2)).any()
