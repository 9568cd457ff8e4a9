from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label

from dualproto_wsi.vector.sieve import LabelSieve


def sieve(labels: np.ndarray, min_cells: int, max_hole_cells: int, cuts: list[int] = ()) -> np.ndarray:
    step = LabelSieve(labels.shape[1], min_cells, max_hole_cells)
    parts, taken = [], 0
    for begin, stop in pairwise([0, *sorted(cuts), len(labels)]):
        parts.append(step.feed(labels[begin:stop]))
        taken += stop - begin
        assert step.delayed == taken - sum(map(len, parts))
    parts.append(step.finish())
    assert step.delayed == 0
    return np.concatenate(parts)


def pieces(labels: np.ndarray, values) -> list[np.ndarray]:
    """Masks of the 4-connected pieces, in the order of their last cells (lowest row, then its leftmost cell)."""
    found = []
    for value in values:
        numbers, count = label(labels == value)
        found += [numbers == i for i in range(1, count + 1)]

    def last_cell(mask: np.ndarray) -> tuple[int, int]:
        rows, columns = mask.nonzero()
        return rows.max(), columns[rows == rows.max()].min()

    return sorted(found, key=last_cell)


def beside(labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Values on the other side of each edge of a mask."""
    values, inside = np.pad(labels, 1), np.pad(mask, 1)
    return np.concatenate(
        [np.roll(values, shift, axis)[inside & ~np.roll(inside, shift, axis)] for shift in (-1, 1) for axis in (0, 1)]
    )


def commonest(values: np.ndarray) -> int:
    return int(np.bincount(values[values > 0], minlength=256).argmax())


def touches_edge(mask: np.ndarray) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def expected(labels: np.ndarray, min_cells: int, max_hole_cells: int) -> np.ndarray:
    """Follow the rules of the docstring, one after the other, on the whole map."""
    labels = labels.copy()
    for hole in pieces(labels, [0]):
        if not touches_edge(hole) and hole.sum() < max_hole_cells:
            labels[hole] = commonest(beside(labels, hole))
    small = [p for p in pieces(labels, set(np.unique(labels).tolist()) - {0}) if p.sum() < min_cells]
    decided, group = labels.copy(), np.zeros(labels.shape, int)
    for i, region in enumerate(small, 1):
        decided[region], group[region] = 0, i
    for region in small:
        number = group[region][0]
        own = group == number
        if number == 0:
            continue
        around, others = beside(decided, own), set(beside(group, own).tolist()) - {0}
        if not around.any() and others:
            own |= np.isin(group, list(others))
            group[own] = number
            if own.sum() < min_cells:
                continue
            around = labels[own]
        decided[own], group[own] = commonest(around), 0
    return decided


def noise(rows: int, columns: int, classes: int, seed: int, sigma: float) -> np.ndarray:
    values = gaussian_filter(np.random.default_rng(seed).standard_normal((rows, columns)), sigma)
    cut = np.digitize(values, np.quantile(values, np.arange(1, classes + 1) / (classes + 1))).astype(np.uint8)
    return np.random.default_rng(seed).permutation(classes + 1).astype(np.uint8)[cut]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 30), st.integers(1, 30), st.integers(1, 5), st.integers(0, 10**6), st.sampled_from([0, 0.6, 1, 2]),
    st.integers(0, 40), st.integers(0, 40), st.data(),
)  # fmt: skip
def test_noise_against_the_rules_in_any_bands(rows, columns, classes, seed, sigma, min_cells, max_hole_cells, data):
    labels = noise(rows, columns, classes, seed, sigma)
    labels[labels == 5] = 255
    cuts = data.draw(st.lists(st.integers(0, rows), max_size=6))
    got = sieve(labels, min_cells, max_hole_cells, cuts)
    assert np.array_equal(got, expected(labels, min_cells, max_hole_cells))
    assert all(piece.sum() >= min_cells for piece in pieces(got, set(np.unique(got).tolist()) - {0}))
    assert all(touches_edge(piece) or piece.sum() >= max_hole_cells for piece in pieces(got, [0]))
    for piece in pieces(labels, set(np.unique(labels).tolist()) - {0}):
        assert piece.sum() < min_cells or np.array_equal(got[piece], labels[piece])


@pytest.mark.parametrize("at_once", [100, 10_000])
def test_parts_of_a_band_make_no_difference(monkeypatch, at_once):
    labels = noise(300, 100, 4, 1, 1.5)
    whole = sieve(labels, 30, 20)
    monkeypatch.setattr("dualproto_wsi.vector.sieve.label_sieve.CELLS_AT_ONCE", at_once)
    assert np.array_equal(sieve(labels, 30, 20, [1, 77, 200]), whole)
    assert (whole != labels).mean() > 0.05


def drawing(text: str) -> np.ndarray:
    return np.array([[int(c) for c in line] for line in text.split()], np.uint8)


@pytest.mark.parametrize(
    ("before", "min_cells", "max_hole_cells", "after"),
    [
        ("1111 1221 1111", 3, 0, "1111 1111 1111"),  # joins what is around it
        ("1111 1221 1111", 2, 0, "1111 1221 1111"),
        ("133 123 113", 2, 0, "133 113 113"),  # equal borders: the lower label
        ("1111 1001 1111", 0, 3, "1111 1111 1111"),  # a hole
        ("1111 1001 1111", 0, 2, "1111 1001 1111"),
        ("1011 1001 1111", 0, 99, "1011 1001 1111"),  # open to the edge
        ("1101 1001 1111", 0, 99, "1101 1001 1111"),
        ("11111 12221 12021 12221 11111", 9, 2, "11111 12221 12221 12221 11111"),  # filled first, so it stays
        ("00000 02230 00000", 4, 0, "00000 00000 00000"),  # a crumb on glass
        ("00000 02230 00000", 3, 0, "00000 02220 00000"),  # a crumb that is large enough as a whole
        ("0220 0220 0322 0011", 9, 0, "0220 0220 0222 0022"),  # and takes what most of it was
        ("11110 11123 11100", 4, 0, "11110 11111 11100"),  # a small one behind a small one
    ],
)  # fmt: skip
def test_drawings(before, min_cells, max_hole_cells, after):
    assert sieve(drawing(before), min_cells, max_hole_cells).tolist() == drawing(after).tolist()


@pytest.mark.parametrize("limit", [0, 1])
def test_limits_that_change_nothing(limit):
    labels = noise(50, 60, 4, 2, 0)
    step = LabelSieve(60, limit, limit)
    assert step.feed(labels) is labels
    assert (step.delayed, step.nbytes, len(step.finish())) == (0, 0, 0)


def test_rows_of_large_regions_are_not_held_back():
    step = LabelSieve(200, 50, 50)
    labels = np.ones((64, 200), np.uint8)
    labels[:, 100:] = 2
    assert len(step.feed(labels)) == 64
    labels[60:, 50:55] = 3
    assert step.feed(labels).shape == (60, 200)
    assert step.delayed == 4


def test_delay_and_memory_do_not_grow_with_the_height(monkeypatch):
    monkeypatch.setattr("dualproto_wsi.vector.sieve.label_sieve.CELLS_AT_ONCE", 4096)
    step, most, bytes_held = LabelSieve(128, 40, 40), [], []
    for band in range(40):
        step.feed(noise(128, 128, 4, band, 1.5))
        most.append(step.delayed)
        bytes_held.append(step.nbytes)
    assert max(most) < 40
    assert max(bytes_held[20:]) < 1.5 * max(bytes_held[:10])


@pytest.mark.parametrize("snake", [True, False])
def test_a_long_thin_region_is_held_until_it_is_known(snake):
    labels = np.ones((500, 31), np.uint8)
    labels[:, 15] = 2
    labels[300 if snake else 500 :, 15] = 1
    got = sieve(labels, 400, 0, list(range(0, 500, 7)))
    assert np.array_equal(got, np.ones_like(labels) if snake else labels)


@pytest.mark.parametrize("shape", [(0, 7), (5, 0), (0, 0)])
def test_maps_without_cells(shape):
    step = LabelSieve(shape[1], 5, 5)
    assert len(step.feed(np.zeros(shape, np.uint8))) + len(step.finish()) == shape[0]


def test_what_is_refused():
    with pytest.raises(ValueError, match="a sieve cannot have 5 columns, min_cells -1 and max_hole_cells 0"):
        LabelSieve(5, -1, 0)
    step = LabelSieve(5, 2, 2)
    with pytest.raises(ValueError, match=r"labels are uint8 \(2, 4\); this sieve takes uint8 \(n, 5\)"):
        step.feed(np.zeros((2, 4), np.uint8))
    with pytest.raises(ValueError, match="labels are int64"):
        step.feed(np.zeros((2, 5), np.int64))
    step.finish()
    for call in (step.finish, lambda: step.feed(np.zeros((1, 5), np.uint8))):
        with pytest.raises(ValueError, match="was finished; start a new sieve"):
            call()
