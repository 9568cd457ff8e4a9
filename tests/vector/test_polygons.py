from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label

from dualproto_wsi.vector.polygons import RegionTracer, TracedRegion


def trace(labels: np.ndarray, probabilities: np.ndarray | None = None, cuts: list[int] = ()) -> list[TracedRegion]:
    tracer = RegionTracer(labels.shape[1], 0 if probabilities is None else len(probabilities))
    regions = []
    edges = [0, *sorted(cuts), len(labels)]
    for begin, stop in pairwise(edges):
        part = None if probabilities is None else probabilities[:, begin:stop]
        regions += tracer.feed(labels[begin:stop], part)
    return regions + tracer.finish()


def polygon(region: TracedRegion) -> shapely.Polygon:
    return shapely.Polygon(region.rings[0], region.rings[1:])


def blobs(rows: int, columns: int, classes: int, seed: int, sigma: float = 3) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((rows, columns)), sigma)
    return np.digitize(noise, np.quantile(noise, np.arange(1, classes + 1) / (classes + 1))).astype(np.uint8)


def check(labels: np.ndarray, regions: list[TracedRegion]) -> None:
    """Compare with rasterio, by geometry, and by filling the polygons again."""
    expected = {}
    for shape, value in rasterio.features.shapes(labels, mask=labels > 0, connectivity=4):
        area = shapely.geometry.shape(shape)
        expected[shapely.normalize(shapely.simplify(area, 0)).wkb] = int(value)
    assert len(regions) == len(expected)
    for region in regions:
        area = polygon(region)
        assert area.is_valid, shapely.is_valid_reason(area)
        assert expected[shapely.normalize(shapely.simplify(area, 0)).wkb] == region.label
        assert area.area == region.cells
        assert labels[region.row, region.column] == region.label
    filled = np.zeros_like(labels)
    if regions:
        shapes = [(polygon(region), region.label) for region in regions]
        filled = rasterio.features.rasterize(shapes, labels.shape, dtype=np.uint8)
    assert np.array_equal(filled, labels)


def same(one: list[TracedRegion], other: list[TracedRegion]) -> bool:
    return len(one) == len(other) and all(
        (a.label, a.row, a.column, a.cells) == (b.label, b.row, b.column, b.cells)
        and np.array_equal(a.probability_sums, b.probability_sums)
        and len(a.rings) == len(b.rings)
        and all(np.array_equal(p, q) for p, q in zip(a.rings, b.rings, strict=True))
        for a, b in zip(one, other, strict=True)
    )


masks = st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 4), st.integers(0, 2**32 - 1)).map(
    lambda t: np.random.default_rng(t[3]).integers(0, t[2] + 1, t[:2]).astype(np.uint8)
)


@settings(max_examples=400, deadline=None)
@given(masks)
def test_random_masks_equal_rasterio(labels: np.ndarray) -> None:
    check(labels, trace(labels))


@pytest.mark.parametrize(
    ("rows", "columns", "classes", "sigma"), [(200, 317, 5, 3), (317, 200, 2, 1), (150, 150, 1, 6)]
)
def test_blobs_equal_rasterio(rows: int, columns: int, classes: int, sigma: float) -> None:
    labels = blobs(rows, columns, classes, 1, sigma)
    check(labels, trace(labels))


def test_noise_equals_rasterio() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (120, 200)).astype(np.uint8)
    check(labels, trace(labels))


def test_two_labels_without_background_equal_rasterio() -> None:
    # Every crossing is a touch of four regions of two labels.
    labels = np.random.default_rng(1).integers(1, 3, (160, 160)).astype(np.uint8)
    check(labels, trace(labels))


def test_checkerboard_and_comb() -> None:
    board = (np.indices((40, 41)).sum(axis=0) % 2 + 1).astype(np.uint8)
    regions = trace(board)
    check(board, regions)
    assert len(regions) == board.size
    comb = np.zeros((40, 41), np.uint8)
    comb[:, ::2] = 3
    comb[-1] = 3  # all teeth join in the last row
    check(comb, trace(comb))
    assert len(trace(comb)) == 1


@settings(max_examples=30, deadline=None)
@given(masks, st.sampled_from([5, 6, 38, 39, 130]))
def test_long_straight_lines_equal_rasterio(labels: np.ndarray, times: int) -> None:
    labels = labels[:5, :5].repeat(times, axis=0).repeat(times, axis=1)
    check(labels, trace(labels))


@settings(max_examples=100, deadline=None)
@given(masks, st.data())
def test_bands_do_not_matter(labels: np.ndarray, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(labels)), max_size=6))
    probabilities = np.random.default_rng(0).random((3, *labels.shape), dtype=np.float32)
    assert same(trace(labels, probabilities), trace(labels, probabilities, cuts))


def test_bands_of_a_large_map_do_not_matter() -> None:
    labels = blobs(700, 400, 4, 2)
    probabilities = np.random.default_rng(0).random((4, 700, 400), dtype=np.float32)
    whole = trace(labels, probabilities)
    assert same(whole, trace(labels, probabilities, list(range(1, 700))))
    assert same(whole, trace(labels, probabilities, [3, 64, 65, 600]))


def test_order_is_completion_then_first_cell() -> None:
    labels = np.array([[1, 0, 2, 0, 3], [1, 0, 0, 0, 3], [0, 4, 0, 0, 3]], np.uint8)
    tracer = RegionTracer(5, 0)
    assert tracer.feed(labels[:1]) == []
    assert [r.label for r in tracer.feed(labels[1:2])] == [2]
    assert [r.label for r in tracer.feed(labels[2:])] == [1]
    assert [(r.label, r.row, r.column) for r in tracer.finish()] == [(3, 0, 4), (4, 2, 1)]


def test_first_cell_is_the_topmost_then_leftmost() -> None:
    labels = np.array([[0, 0, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1]], np.uint8)
    (region,) = trace(labels)
    assert (region.row, region.column) == (0, 3)


def test_hole_and_island() -> None:
    labels = np.ones((7, 7), np.uint8)
    labels[1:6, 1:6] = 2
    labels[2:5, 2:5] = 0
    labels[3, 3] = 1
    island, ring, frame = sorted(trace(labels), key=lambda r: r.cells)
    assert (island.label, len(island.rings), island.cells) == (1, 1, 1)
    assert (ring.label, len(ring.rings), ring.cells) == (2, 2, 16)
    assert (frame.label, len(frame.rings), frame.cells) == (1, 2, 24)
    assert frame.rings[0].tolist() == [[0, 0], [7, 0], [7, 7], [0, 7], [0, 0]]
    assert frame.rings[1].tolist() == [[1, 1], [1, 6], [6, 6], [6, 1], [1, 1]]
    assert frame.rings[0].dtype == np.int32


def test_shape_closed_by_a_corner_is_a_shell_and_a_hole() -> None:
    labels = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], np.uint8)
    (region,) = trace(labels)
    shell, hole = region.rings
    assert hole.tolist() == [[1, 1], [1, 2], [2, 2], [2, 1], [1, 1]]
    assert len({tuple(p) for p in shell[:-1].tolist()}) == len(shell) - 1
    assert [2, 2] in shell.tolist()
    assert polygon(region).is_valid


def test_holes_that_meet_in_a_corner_stay_two() -> None:
    labels = np.ones((4, 4), np.uint8)
    labels[1, 1] = labels[2, 2] = 0
    (region,) = trace(labels)
    assert [len(r) for r in region.rings] == [5, 5, 5]
    assert polygon(region).is_valid


def test_straight_lines_have_no_vertices_inside_but_junctions_do() -> None:
    labels = np.array([[1, 1, 1, 1], [2, 2, 3, 3]], np.uint8)
    top = next(r for r in trace(labels) if r.label == 1)
    assert top.rings[0].tolist() == [[0, 0], [4, 0], [4, 1], [2, 1], [0, 1], [0, 0]]


def edges_of(rings: list[np.ndarray]) -> Counter:
    return Counter((*a, *b) for ring in rings for a, b in zip(ring[:-1].tolist(), ring[1:].tolist(), strict=True))


def test_neighbours_share_all_edges() -> None:
    labels = blobs(120, 130, 4, 5, 2) + np.uint8(1)
    edges = edges_of([ring for region in trace(labels) for ring in region.rings])
    assert max(edges.values()) == 1
    for x0, y0, x1, y1 in edges:
        outer = (x0 == x1 and x0 in (0, 130)) or (y0 == y1 and y0 in (0, 120))
        assert outer != ((x1, y1, x0, y0) in edges)


def test_coverage_is_valid_for_simplification() -> None:
    labels = blobs(160, 160, 4, 7) + np.uint8(1)
    areas = [polygon(r) for r in trace(labels)]
    assert shapely.coverage_is_valid(areas)
    simple = shapely.coverage_simplify(areas, 1.5)
    assert shapely.coverage_is_valid(simple)
    assert sum(a.area for a in simple) == pytest.approx(labels.size, rel=0.01)


@settings(max_examples=100, deadline=None)
@given(masks, st.floats(0.6, 33), st.floats(0, 1000))
def test_valid_after_scaling_and_rounding(labels: np.ndarray, scale: float, origin: float) -> None:
    for region in trace(labels):
        rings = [np.round(ring * scale + origin, 2) for ring in region.rings]
        assert shapely.Polygon(rings[0], rings[1:]).is_valid


def test_probability_sums() -> None:
    labels = blobs(90, 100, 3, 3)
    probabilities = np.random.default_rng(1).random((3, 90, 100), dtype=np.float32)
    for region in trace(labels, probabilities):
        components, _ = label(labels == region.label)
        inside = components == components[region.row, region.column]
        assert region.cells == inside.sum()
        assert region.probability_sums == pytest.approx(probabilities[:, inside].sum(axis=1, dtype=float), rel=1e-12)
        assert region.probability_sums.dtype == np.float64


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1, 1), (1, 9), (9, 1)])
def test_narrow_and_empty_maps(shape: tuple[int, int]) -> None:
    labels = np.ones(shape, np.uint8)
    regions = trace(labels)
    assert [r.cells for r in regions] == ([labels.size] if labels.size else [])
    assert trace(np.zeros(shape, np.uint8)) == []


def test_largest_label() -> None:
    assert [r.label for r in trace(np.full((2, 2), 255, np.uint8))] == [255]


def test_memory_does_not_grow_with_the_height() -> None:
    labels = blobs(300, 256, 4, 0, 2)
    labels[-1] = labels[0] = 0
    tracer, held = RegionTracer(256, 0), []
    for _ in range(20):
        tracer.feed(labels)
        held.append(tracer.nbytes)
    assert held[-1] == held[1]
    assert held[-1] < 4e6


def test_views_and_fortran_order_are_taken() -> None:
    labels = blobs(60, 80, 3, 4)
    probabilities = np.random.default_rng(0).random((60, 80, 3), dtype=np.float32).transpose(2, 0, 1)
    expected = trace(labels, np.ascontiguousarray(probabilities))
    assert same(trace(np.asfortranarray(labels), probabilities), expected)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot have -1 columns"):
        RegionTracer(-1, 0)
    tracer = RegionTracer(4, 2)
    with pytest.raises(ValueError, match=r"labels are int64 \(2, 4\); this tracer takes uint8 \(n, 4\)"):
        tracer.feed(np.zeros((2, 4), np.int64))
    with pytest.raises(ValueError, match=r"labels are uint8 \(2, 5\)"):
        tracer.feed(np.zeros((2, 5), np.uint8))
    with pytest.raises(ValueError, match=r"these labels need float32 \(2, 2, 4\)"):
        tracer.feed(np.zeros((2, 4), np.uint8))
    tracer.finish()
    with pytest.raises(ValueError, match="finished"):
        tracer.feed(np.zeros((2, 4), np.uint8), np.zeros((2, 2, 4), np.float32))
