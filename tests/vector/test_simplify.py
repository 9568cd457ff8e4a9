from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from dualproto_wsi.vector.polygons import RegionTracer, TracedRegion


def trace(
    labels: np.ndarray,
    tolerance: float,
    side: int = 256,
    cuts: tuple[int, ...] | list[int] = (),
    probabilities: np.ndarray | None = None,
) -> list[TracedRegion]:
    tracer = RegionTracer(labels.shape[1], 0 if probabilities is None else len(probabilities), tolerance, _side=side)
    regions = []
    for begin, stop in pairwise([0, *sorted(cuts), len(labels)]):
        part = None if probabilities is None else probabilities[:, begin:stop]
        regions += tracer.feed(labels[begin:stop], part)
    return regions + tracer.finish()


def polygon(region: TracedRegion) -> shapely.Polygon:
    return shapely.Polygon(region.rings[0], region.rings[1:])


def blobs(rows: int, columns: int, classes: int, seed: int, sigma: float = 3) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((rows, columns)), sigma)
    return np.digitize(noise, np.quantile(noise, np.arange(1, classes + 1) / (classes + 1))).astype(np.uint8)


def snake(rows: int, columns: int) -> np.ndarray:
    """One cell wide, to and fro."""
    labels = np.ones((rows, columns), np.uint8)
    labels[::2] = 2
    labels[1::4, -1] = labels[3::4, 0] = 2
    return labels


def nested(rows: int, columns: int) -> np.ndarray:
    row, column = np.indices((rows, columns))
    rings = np.minimum.reduce([row, column, rows - 1 - row, columns - 1 - column])
    return (rings % 3).astype(np.uint8)


def diagonals(rows: int, columns: int) -> np.ndarray:
    row, column = np.indices((rows, columns))
    return ((2 * row + 3 * column) // 7 % 3 + (row - column) // 5 % 2).astype(np.uint8)


def board(rows: int, columns: int) -> np.ndarray:
    return (np.indices((rows, columns)).sum(axis=0) % 2 + 1).astype(np.uint8)


def noise(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, 3, (rows, columns)).astype(np.uint8)


def discs(rows: int, columns: int) -> np.ndarray:
    row, column = np.indices((rows, columns))
    return (np.hypot(row - rows / 2, column - columns / 2) // 4 % 3 + 1).astype(np.uint8)


MAKERS = [snake, nested, diagonals, board, noise, discs]

masks = st.tuples(
    st.integers(1, 16), st.integers(1, 16), st.integers(1, 4), st.sampled_from([0, 0.7, 1.3]), st.integers(0, 2**32 - 1)
).map(lambda t: blobs(t[0], t[1], t[2], t[4], t[3]))
tolerances = st.floats(0.71, 4)
sides = st.sampled_from([1, 2, 3, 5, 8, 256])


def check(labels: np.ndarray, simple: list[TracedRegion], tolerance: float) -> None:
    """Compare with the exact regions, of which there must be no label 0 for the coverage to be whole."""
    exact = trace(labels, 0)
    assert [(r.label, r.row, r.column, r.cells) for r in simple] == [(r.label, r.row, r.column, r.cells) for r in exact]
    areas = np.array([polygon(region) for region in simple], dtype=object)
    assert shapely.is_valid(areas).all()
    assert shapely.coverage_is_valid(areas)
    assert shapely.union_all(areas).area == pytest.approx(shapely.area(areas).sum(), rel=1e-9)
    for region, other, area in zip(simple, exact, areas, strict=True):
        assert len(region.rings) == len(other.rings)
        assert min(len(ring) for ring in region.rings) >= 5
        assert grid_points([region]) <= grid_points([other])
        assert shapely.hausdorff_distance(area.boundary, polygon(other).boundary, densify=0.2) <= tolerance + 1e-9
    kept = grid_points(simple)
    assert junctions(labels) <= kept


def grid_points(regions: list[TracedRegion]) -> set[tuple[int, int]]:
    return {(x, y) for region in regions for ring in region.rings for x, y in ring.tolist()}


def junctions(labels: np.ndarray) -> set[tuple[int, int]]:
    """Grid points (x, y) at which three or four edges meet."""
    around = np.pad(labels, 1).astype(int)
    a, b, c, d = around[:-1, :-1], around[:-1, 1:], around[1:, :-1], around[1:, 1:]
    edges = (a != b).astype(int) + (c != d) + (a != c) + (b != d)
    return {(int(x), int(y)) for y, x in np.argwhere(edges > 2)}


@settings(max_examples=300, deadline=None)
@given(masks, tolerances, sides)
def test_random_masks_stay_a_coverage(labels: np.ndarray, tolerance: float, side: int) -> None:
    check(labels + np.uint8(1), trace(labels + np.uint8(1), tolerance, side), tolerance)


@settings(max_examples=150, deadline=None)
@given(masks, tolerances, sides)
def test_random_masks_with_background_stay_a_coverage(labels: np.ndarray, tolerance: float, side: int) -> None:
    check(labels, trace(labels, tolerance, side), tolerance)


@pytest.mark.parametrize("side", [7, 16, 256])
@pytest.mark.parametrize("tolerance", [0.75, 1, 2, 8])
@pytest.mark.parametrize("make", MAKERS)
def test_patterns_stay_a_coverage(make: object, tolerance: float, side: int) -> None:
    labels = make(40, 43)
    check(labels, trace(labels, tolerance, side), tolerance)


@pytest.mark.parametrize("side", [32, 256])
def test_blobs_stay_a_coverage(side: int) -> None:
    labels = blobs(300, 280, 4, 2, 4) + np.uint8(1)
    simple = trace(labels, 1, side)
    check(labels, simple, 1)
    kept = sum(len(ring) for region in simple for ring in region.rings)
    assert kept < 0.45 * sum(len(ring) for region in trace(labels, 0) for ring in region.rings)


@settings(max_examples=150, deadline=None)
@given(masks, tolerances, st.floats(0.65, 33), st.floats(0, 1000))
def test_valid_after_scaling_and_rounding(labels: np.ndarray, tolerance: float, scale: float, origin: float) -> None:
    areas = []
    for region in trace(labels, tolerance, 8):
        rings = [np.round(ring * scale + origin, 2) for ring in region.rings]
        areas.append(shapely.Polygon(rings[0], rings[1:]))
    assert shapely.is_valid(areas).all()
    assert shapely.coverage_is_valid(areas)


@pytest.mark.parametrize("scale", [0.65, 0.7071, 1.003])
def test_long_edges_stay_valid_after_rounding(scale: float) -> None:
    labels = blobs(400, 400, 4, 5, 9)
    areas = []
    for region in trace(labels, 4):
        rings = [np.round(ring * scale + 0.123, 2) for ring in region.rings]
        areas.append(shapely.Polygon(rings[0], rings[1:]))
    assert shapely.is_valid(areas).all()
    assert shapely.coverage_is_valid(areas)


def same(one: list[TracedRegion], other: list[TracedRegion]) -> bool:
    return len(one) == len(other) and all(
        (a.label, a.row, a.column, a.cells) == (b.label, b.row, b.column, b.cells)
        and np.array_equal(a.probability_sums, b.probability_sums)
        and len(a.rings) == len(b.rings)
        and all(np.array_equal(p, q) for p, q in zip(a.rings, b.rings, strict=True))
        for a, b in zip(one, other, strict=True)
    )


@settings(max_examples=100, deadline=None)
@given(masks, sides, st.data())
def test_bands_do_not_matter(labels: np.ndarray, side: int, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(labels)), max_size=6))
    probabilities = np.random.default_rng(0).random((3, *labels.shape), dtype=np.float32)
    whole = trace(labels, 1.2, side, probabilities=probabilities)
    assert same(whole, trace(labels, 1.2, side, cuts, probabilities))


def test_bands_of_a_large_map_do_not_matter() -> None:
    labels = blobs(700, 400, 4, 2)
    whole = trace(labels, 1)
    assert same(whole, trace(labels, 1, cuts=list(range(1, 700))))
    assert same(whole, trace(labels, 1, cuts=[3, 255, 256, 257, 600]))


@settings(max_examples=50, deadline=None)
@given(masks, sides)
def test_less_than_a_stair_changes_nothing(labels: np.ndarray, side: int) -> None:
    assert same(trace(labels, 0), trace(labels, 0.7, side))


@settings(max_examples=50, deadline=None)
@given(masks, sides)
def test_cells_and_sums_are_those_of_the_map(labels: np.ndarray, side: int) -> None:
    labels = np.where(labels == 1, np.uint8(255), labels)  # a label like any other
    probabilities = np.random.default_rng(0).random((2, *labels.shape), dtype=np.float32)
    exact, simple = trace(labels, 0, probabilities=probabilities), trace(labels, 2, side, probabilities=probabilities)
    assert [r.cells for r in exact] == [r.cells for r in simple]
    assert all(np.array_equal(a.probability_sums, b.probability_sums) for a, b in zip(exact, simple, strict=True))
    assert {r.label for r in exact} == set(np.unique(labels[labels > 0]).tolist())


def test_a_staircase_becomes_a_slope() -> None:
    labels = np.tril(np.ones((30, 30), np.uint8)) + np.uint8(1)
    for region in trace(labels, 1):
        assert len(region.rings[0]) < 9


@pytest.mark.parametrize("tolerance", [1, 8])
def test_small_regions_stay(tolerance: float) -> None:
    labels = np.zeros((6, 9), np.uint8)
    labels[1, 1] = labels[3:5, 3] = labels[1, 5:8] = 1
    one, three, two = trace(labels, tolerance)
    assert [polygon(r).area for r in (one, three, two)] == [1, 3, 2]


def test_memory_does_not_grow_with_the_height() -> None:
    labels = blobs(256, 256, 4, 0, 2)
    labels[-1] = labels[0] = 0
    tracer, held = RegionTracer(256, 0, 1), []
    for _ in range(12):
        tracer.feed(labels)
        held.append(tracer.nbytes)
    assert held[-1] == held[1]
    assert held[-1] < 1e6


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1, 1), (1, 9), (9, 1)])
def test_narrow_and_empty_maps(shape: tuple[int, int]) -> None:
    labels = np.ones(shape, np.uint8)
    assert [r.cells for r in trace(labels, 1)] == ([labels.size] if labels.size else [])


@pytest.mark.parametrize("tolerance", [-1, 8.5, float("nan")])
def test_impossible_tolerance_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match=r"borders cannot be simplified by .* cells; take 0 to 8"):
        RegionTracer(4, 0, tolerance)
