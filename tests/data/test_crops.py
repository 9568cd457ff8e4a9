from __future__ import annotations

from pathlib import Path

import numpy as np

from dualproto_wsi.data.crops import ABSENT, PRESENT, UNKNOWN, label_crops
from dualproto_wsi.data.points import PointImage


def image(points: list[tuple[int, int, int]], height: int = 96, width: int = 128) -> PointImage:
    rows = np.array(points, np.int64).reshape(-1, 3)
    return PointImage(Path("a.png"), "a", np.zeros((height, width, 3), np.uint8), rows[:, :2], rows[:, 2])


def test_labels_by_number_of_points() -> None:
    # two tumour points and one stroma point at the left, nothing at the right; (x, y, class)
    (grid,) = label_crops(image([(10, 20, 0), (30, 40, 0), (63, 63, 1)]), 2, (64,), 2)
    assert (grid.size, grid.step) == (64, 32)
    assert grid.labels.shape == (2, 2, 3)
    assert grid.labels[:, 0, 0].tolist() == [PRESENT, UNKNOWN]
    assert grid.labels[:, 0, 2].tolist() == [ABSENT, ABSENT]
    assert grid.labels[:, 1, 1].tolist() == [ABSENT, UNKNOWN]


def test_a_point_on_the_border_belongs_to_the_crop_that_begins_there() -> None:
    (grid,) = label_crops(image([(64, 0, 0)]), 1, (64,), 1)
    assert grid.labels[0, 0].tolist() == [ABSENT, PRESENT, PRESENT]


def test_labels_agree_with_counting() -> None:
    generator = np.random.default_rng(3)
    points = [(int(x), int(y), int(c)) for x, y, c in generator.integers((0, 0, 0), (128, 96, 3), (60, 3))]
    for grid in label_crops(image(points), 3, (24, 40, 96), 3):
        for (k, row, column), label in np.ndenumerate(grid.labels):
            left, top = column * grid.step, row * grid.step
            count = sum(c == k and left <= x < left + grid.size and top <= y < top + grid.size for x, y, c in points)
            assert label == (PRESENT if count >= 3 else ABSENT if count == 0 else UNKNOWN)


def test_an_image_smaller_than_a_crop_gives_none() -> None:
    small, large = label_crops(image([(5, 5, 0)]), 1, (64, 112), 1)
    assert small.labels.size
    assert large.labels.shape[0] == 1
    assert large.labels.size == 0
