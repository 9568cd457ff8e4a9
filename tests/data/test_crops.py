from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dualproto_wsi.data.crops import label_crops, whole_image
from dualproto_wsi.data.images import ABSENT, PRESENT, UNKNOWN, LabelledImage, Points
from dualproto_wsi.errors import DataError

SHAPE = (96, 128)


def image(points: list[tuple[int, int, int]] | None, labels: tuple[int, ...] = ()) -> LabelledImage:
    rows = np.array(points or [], np.int64).reshape(-1, 3)
    known = None if points is None else Points(rows[:, :2], rows[:, 2])
    return LabelledImage(Path("a.png"), "a", np.array(labels, np.int8), points=known)


def test_labels_by_number_of_points() -> None:
    # two tumour points and one stroma point at the left, nothing at the right; (x, y, class)
    (grid,) = label_crops(image([(10, 20, 0), (30, 40, 0), (63, 63, 1)]), SHAPE, 2, (64,), 2)
    assert (grid.size, grid.step) == (64, 32)
    assert grid.labels.shape == (2, 2, 3)
    assert grid.labels[:, 0, 0].tolist() == [PRESENT, UNKNOWN]
    assert grid.labels[:, 0, 2].tolist() == [ABSENT, ABSENT]
    assert grid.labels[:, 1, 1].tolist() == [ABSENT, UNKNOWN]


def test_a_point_on_the_border_belongs_to_the_crop_that_begins_there() -> None:
    (grid,) = label_crops(image([(64, 0, 0)]), SHAPE, 1, (64,), 1)
    assert grid.labels[0, 0].tolist() == [ABSENT, PRESENT, PRESENT]


def test_labels_agree_with_counting() -> None:
    generator = np.random.default_rng(3)
    points = [(int(x), int(y), int(c)) for x, y, c in generator.integers((0, 0, 0), (128, 96, 3), (60, 3))]
    for grid in label_crops(image(points), SHAPE, 3, (24, 40, 96), 3):
        for (k, row, column), label in np.ndenumerate(grid.labels):
            left, top = column * grid.step, row * grid.step
            count = sum(c == k and left <= x < left + grid.size and top <= y < top + grid.size for x, y, c in points)
            assert label == (PRESENT if count >= 3 else ABSENT if count == 0 else UNKNOWN)


def test_an_image_smaller_than_a_crop_gives_none() -> None:
    small, large = label_crops(image([(5, 5, 0)]), SHAPE, 1, (64, 112), 1)
    assert small.labels.size
    assert large.labels.shape[0] == 1
    assert large.labels.size == 0


def test_no_points_known_is_not_an_empty_list_of_them() -> None:
    (grid,) = label_crops(image([]), SHAPE, 2, (96,), 1)
    assert (grid.labels == ABSENT).all()
    with pytest.raises(DataError, match=r"a\.png: has no labelled points, so its crops have no labels; train on whole"):
        label_crops(image(None), SHAPE, 2, (96,), 1)


@pytest.mark.parametrize(("shape", "side"), [((224, 224), 224), ((150, 301), 304), ((97, 90), 104)])
def test_a_whole_image_is_one_crop(shape: tuple[int, int], side: int) -> None:
    grid = whole_image(image(None, (PRESENT, ABSENT, UNKNOWN)), shape)
    assert (grid.size, grid.step) == (side, side)
    assert grid.labels.tolist() == [[[PRESENT]], [[ABSENT]], [[UNKNOWN]]]
