from __future__ import annotations

import numpy as np
import pytest
import torch

from dualproto_wsi.data.crops import CropGrid
from dualproto_wsi.data.images import ABSENT, PRESENT, UNKNOWN
from dualproto_wsi.errors import DataError
from dualproto_wsi.workflow.training.objective import (
    WindowCrops,
    absence_loss,
    change_loss,
    class_weights,
    consistency_loss,
    crop_loss,
    diversity_loss,
    pool_scores,
    possible_classes,
)


def grid(labels: object, size: int = 16, step: int = 8) -> CropGrid:
    return CropGrid(size, step, np.array(labels, np.int8))


def test_pooling_lies_between_mean_and_maximum() -> None:
    scores = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0)) * 5
    lower, upper = scores[:, 2:6, 4:8].mean((1, 2)), scores[:, 2:6, 4:8].amax((1, 2))
    for sharpness in (1e-3, 0.3, 1.0, 8.0):
        pooled = pool_scores(scores, 4, 2, sharpness)
        assert pooled.shape == (2, 2, 3)
        assert (lower - 0.01 <= pooled[:, 1, 2]).all() and (pooled[:, 1, 2] <= upper + 0.01).all()
    assert torch.allclose(pool_scores(scores, 4, 2, 1e-3)[:, 1, 2], lower, atol=0.05)
    assert torch.allclose(pool_scores(scores, 4, 2, 8.0)[:, 1, 2], upper, atol=0.4)


def test_pooling_without_sharpness_is_the_average() -> None:
    scores = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(pool_scores(scores, 4, 2, None)[:, 1, 2], scores[:, 2:6, 4:8].mean((1, 2)))


def test_pooling_survives_far_scores() -> None:
    scores = torch.tensor([[[0.0, -500.0], [-500.0, -500.0]]], requires_grad=True)
    pooled = pool_scores(scores, 1, 1, 1.0)
    pooled.sum().backward()
    assert pooled.isfinite().all()
    assert scores.grad is not None and scores.grad.isfinite().all()


@pytest.mark.parametrize("origin", [(0, 0), (8, 16), (4, 12)])
def test_crops_inside_a_window_are_the_ones_that_fit(origin: tuple[int, int]) -> None:
    labels = np.arange(5 * 6).reshape(1, 5, 6)
    cell, shape = 4, (8, 7)
    placed = WindowCrops.place(grid(labels), origin, shape, cell)
    expected = {
        int(labels[0, row, column]): ((row * 8 - origin[0]) // cell, (column * 8 - origin[1]) // cell)
        for row in range(5)
        for column in range(6)
        if origin[0] <= row * 8 <= origin[0] + shape[0] * cell - 16
        and origin[1] <= column * 8 <= origin[1] + shape[1] * cell - 16
    }
    found = {
        int(label): (placed.top + row * placed.step, placed.left + column * placed.step)
        for (row, column), label in np.ndenumerate(placed.labels[0].numpy())
    }
    assert found == expected
    assert len(found) > 1


def test_a_window_smaller_than_a_crop_holds_none() -> None:
    placed = WindowCrops.place(grid(np.zeros((2, 3, 3))), (0, 0), (3, 8), 4)
    assert placed.labels.numel() == 0
    assert crop_loss(torch.zeros(2, 3, 8), [placed], 1.0, torch.ones(1, 2)) == 0
    assert possible_classes(placed, (3, 8)).all()


def test_crop_loss_by_hand() -> None:
    # one row of two crops of 4 cells' side, one apart by 2 cells; constant scores pool to themselves
    labels = [[[PRESENT, UNKNOWN]], [[ABSENT, PRESENT]]]
    scores = torch.stack([torch.full((4, 6), 2.0), torch.full((4, 6), -1.0)])
    placed = WindowCrops.place(grid(labels), (0, 0), (4, 6), 4)
    loss = crop_loss(scores, [placed], 1.0, torch.tensor([[3.0, 0.5]]))
    softplus = torch.nn.functional.softplus
    terms = 3 * softplus(torch.tensor(-2.0)) + softplus(torch.tensor(-1.0)) + 0.5 * softplus(torch.tensor(1.0))
    assert loss == pytest.approx(float(terms) / 4, abs=1e-6)


def test_no_class_where_a_crop_says_there_is_none() -> None:
    labels = [[[PRESENT, UNKNOWN]], [[ABSENT, PRESENT]]]
    placed = WindowCrops.place(grid(labels), (0, 0), (5, 7), 4)
    possible = possible_classes(placed, (5, 7))
    assert possible[0].all()
    assert not possible[1, :4, :4].any()
    assert possible[1, 4:].all() and possible[1, :, 4:].all()


def test_absence_loss() -> None:
    possible = torch.ones(1, 3, 1, 4, dtype=torch.bool)
    possible[0, 1, 0, 0] = False  # class 0 or 2
    possible[0, :2, 0, 1] = False  # class 2
    possible[0, :, 0, 2] = False  # contradictory: does not count; the last cell tells nothing
    scores = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    scores = torch.cat([scores, torch.full((3, 2), 9.0)], 1)[None, :, None]
    probability = scores[0, :, 0].softmax(0)
    expected = -(torch.log(probability[0, 0] + probability[2, 0]) + torch.log(probability[2, 1])) / 2
    assert absence_loss(scores, possible, 0.5) == pytest.approx(float(expected), abs=1e-6)
    assert absence_loss(scores, torch.ones_like(possible), 0.5) == 0


def test_absence_loss_balances_groups() -> None:
    possible = torch.ones(1, 2, 1, 10, dtype=torch.bool)
    possible[0, 0, 0, :9] = False
    possible[0, 1, 0, 9] = False
    scores = torch.zeros(1, 2, 1, 10)
    scores[0, 1, 0, :9] = 4.0  # nine right, one wrong
    right, wrong = (float(torch.nn.functional.softplus(torch.tensor(x))) for x in (-4.0, 0.0))
    assert absence_loss(scores, possible, 0.0) == pytest.approx((9 * right + wrong) / 10, abs=1e-6)
    assert absence_loss(scores, possible, 1.0) == pytest.approx((right + wrong) / 2, abs=1e-6)


def test_class_weights() -> None:
    images = [[grid([[[1, 1, 0]], [[0, 0, 0]]])], [grid([[[1, -1, 0]], [[1, 0, 0]]])]]
    assert class_weights(images, ("a", "b"), 1.0).tolist() == [[pytest.approx(3 / 4), pytest.approx(6 / 2)]]
    assert class_weights(images, ("a", "b"), 0.0).tolist() == [[1.0, 1.0]]
    with pytest.raises(DataError, match="class 'b' is in no training crop; leave it out with --classes"):
        class_weights(images[:1], ("a", "b"), 1.0)
    with pytest.raises(DataError, match="class 'a' is in every training crop; use smaller crop_sizes"):
        class_weights([[grid([[[1, 1]], [[0, 1]]])]], ("a", "b"), 1.0)


def test_diversity_is_zero_for_right_angles_and_one_for_copies() -> None:
    apart = torch.eye(4)
    assert diversity_loss(apart, 2) == 0
    assert diversity_loss(torch.ones(4, 1), 2) == 1
    assert diversity_loss(torch.tensor([[1.0], [-1.0]]), 1) == 0
    assert diversity_loss(torch.ones(2, 1), 2) == 0  # one prototype a class has no other to be like


def test_equal_maps_are_consistent() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(1, 3, 5, 6, generator=generator)
    other = one + 0.1 * torch.randn(1, 3, 5, 6, generator=generator)
    assert float(consistency_loss(one, one + 7)) == pytest.approx(0, abs=1e-5)  # a logit counts beside the others only
    assert 0 < float(consistency_loss(one, other)) < float(consistency_loss(one, one.flip(1)))
    assert float(consistency_loss(one, other)) == pytest.approx(float(consistency_loss(other, one)))


def test_a_head_that_is_there_needs_no_image_of_every_class() -> None:
    images = [[grid([[[1, 1]], [[0, -1]], [[1, 0]]])]]
    weights = class_weights(images, ("a", "b", "c"), 1.0, partial=True)
    assert weights.tolist() == [[1.0, 1.0, 1.0]]
    with pytest.raises(DataError, match=r"^no image says of any class whether it holds it, so nothing can be learned"):
        class_weights([[grid([[[-1, -1]]])]], ("a",), 1.0, partial=True)


def test_change_is_counted_where_it_is_to_be() -> None:
    before = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    after = before.clone()
    after[..., 0, 0] += torch.tensor([3.0, 0.0, 0.0])
    everywhere = torch.ones(1, 2, 2, dtype=torch.bool)
    assert float(change_loss(before, before, everywhere)) == pytest.approx(0, abs=1e-6)
    assert float(change_loss(before, after, everywhere)) > 0.1
    assert float(change_loss(before, before + 2, everywhere)) > 0.1  # the same shares, but other scores
    elsewhere = everywhere.clone()
    elsewhere[0, 0, 0] = False
    assert float(change_loss(before, after, elsewhere)) == pytest.approx(0, abs=1e-6)
