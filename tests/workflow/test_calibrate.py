"""Calibration finds again what was done to the logits, and is judged on other patients."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dualproto_wsi.data.crops import CropGrid
from dualproto_wsi.data.images import LabelledImage, Points
from dualproto_wsi.workflow.training.calibrate import (
    FITS,
    Calibration,
    HeldOut,
    compare_fits,
    expected_calibration_error,
    fit_gate,
    fit_points,
    fit_presence_bias,
    fit_temperature,
    unsure_curve,
)
from dualproto_wsi.workflow.training.windows import Sample

NAMES = ("A", "B", "C")


def held_out(scores: torch.Tensor, labels: object, size: int = 16, step: int = 16, patient: str = "p") -> HeldOut:
    grid = CropGrid(size, step, np.asarray(labels, np.int8))
    return HeldOut(sample(scores, grid, patient=patient), scores, scores.mean((1, 2)), 4)


def sample(scores: torch.Tensor, grid: CropGrid, points: Points | None = None, patient: str = "p") -> Sample:
    height, width = (4 * cells for cells in scores.shape[1:])
    image = LabelledImage(Path("a.png"), patient, np.zeros(len(scores), np.int8), points=points)
    return Sample(image, (height, width), [grid], max(height, width), False)


def squares(seed: int = 0) -> HeldOut:
    """Return an image of 40 x 40 crops, each of one of two classes, and logits whose probabilities are right."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, 2, (40, 40), generator=generator)
    wide = truth.repeat_interleave(4, 0).repeat_interleave(4, 1)
    scores = torch.stack([(wide == 0).float(), (wide == 1).float()]) + torch.randn(2, 160, 160, generator=generator)
    return held_out(scores, np.stack([truth == 0, truth == 1]))


def pointed(seed: int = 0, places: int = 64) -> HeldOut:
    """Return an image whose points have the classes that the probabilities of its logits say."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(3, places, places, generator=generator)
    y, x = (index.flatten() for index in torch.meshgrid(torch.arange(places), torch.arange(places), indexing="ij"))
    probabilities = scores.softmax(0)[:, y, x].T
    labels = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
    whole = CropGrid(4 * places, 4 * places, np.ones((3, 1, 1), np.int8))
    points = Points(torch.stack([4 * x, 4 * y], 1).numpy(), labels.numpy())
    return HeldOut(sample(scores, whole, points, f"p{seed}"), scores, scores.mean((1, 2)), 4)


def test_temperature_is_found_again() -> None:
    image = squares()
    fine = fit_temperature([image])
    coarse = fit_temperature([replace(image, scores=3 * image.scores)])
    assert coarse.temperature / fine.temperature == pytest.approx(3, rel=1e-3)
    # two unit normals one apart in both scores: the log odds are the difference of the scores
    assert fine.temperature == pytest.approx(1, rel=0.25)
    assert fine.bias == (0, 0)


def test_temperature_without_telling_crops() -> None:
    for labels, cells in ((np.ones((2, 3, 3)), 8), (np.ones((2, 0, 0)), 2)):
        assert fit_temperature([held_out(torch.randn(2, cells, cells), labels, step=8)]).temperature == 1
    assert fit_presence_bias([held_out(torch.randn(2, 2, 2), np.ones((2, 0, 0)))]).bias == (0, 0)


def test_a_class_that_crops_deny_loses_by_its_bias() -> None:
    image = squares()
    shifted = replace(image, scores=image.scores + torch.tensor([2.0, 0.0])[:, None, None])
    even, uneven = (fit_presence_bias([one]).bias for one in (image, shifted))
    assert abs(even[0]) < 0.2
    assert uneven[0] < -0.25 and sum(uneven) == pytest.approx(0, abs=1e-5)


def test_points_give_temperature_and_bias_back() -> None:
    image = pointed()
    spoilt = replace(image, scores=2.5 * (image.scores + torch.tensor([1.0, -0.5, -0.5])[:, None, None]))
    found = fit_points([spoilt])
    assert found.temperature == pytest.approx(2.5, rel=0.1)
    assert found.bias == pytest.approx((-1.0, 0.5, 0.5), abs=0.15)
    calibrated = found.apply(spoilt.at_points()).softmax(1)
    assert expected_calibration_error(calibrated, image.labels) < 0.03
    assert expected_calibration_error(spoilt.at_points().softmax(1), image.labels) > 0.08


def test_fits_are_compared_on_other_patients() -> None:
    images = [pointed(seed, 24) for seed in range(4)]
    images = [replace(image, scores=3 * image.scores) for image in images]
    table = compare_fits(images, [[0, 1], [2, 3]], NAMES)
    assert list(table) == list(FITS)
    assert table["points"]["calibration_error"] < table["none"]["calibration_error"]
    assert table["none"]["accuracy"] == table["temperature"]["accuracy"]  # a temperature changes no label


def test_the_surer_the_fewer_and_the_better() -> None:
    curve = unsure_curve([pointed()], Calibration())
    shares, accuracies = [row["unsure"] for row in curve], [row["accuracy"] for row in curve]
    assert shares == sorted(shares) and 0 < shares[0] < shares[-1] < 1
    assert accuracies == sorted(accuracies)


def test_calibration_error_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    # 0.9 and 0.9, one of two right: 2/3 of the points are off by 0.4; 0.6 and right: 1/3 is off by 0.4
    assert expected_calibration_error(probabilities, torch.tensor([0, 1, 1])) == pytest.approx(0.4)
    assert expected_calibration_error(torch.empty(0, 2), torch.empty(0, dtype=torch.int64)) == 0


def test_presence_of_images_is_calibrated() -> None:
    generator = torch.Generator().manual_seed(1)
    present = torch.rand(400, 2, generator=generator) < torch.tensor([0.5, 0.9])
    images = [
        replace(
            held_out(torch.zeros(2, 4, 4), row[:, None, None].int().numpy()),
            pooled=3 * row + torch.randn(2, generator=generator),
        )
        for row in present.float()
    ]
    gate = fit_gate(images, 0.5)
    assert gate.strength == 0.5
    chance = torch.sigmoid(gate.scale * torch.stack([i.pooled for i in images]) + torch.tensor(gate.bias)).mean(0)
    assert chance.tolist() == pytest.approx(present.float().mean(0).tolist(), abs=0.03)
    assert all(map(math.isfinite, gate.bias))
