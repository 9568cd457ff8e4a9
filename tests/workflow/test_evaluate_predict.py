from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from dualproto_wsi.data.images import LabelledImage
from dualproto_wsi.model.checkpoint import load_model
from dualproto_wsi.model.released import released_probabilities
from dualproto_wsi.model.segmenter import DualProtoSegmenter
from dualproto_wsi.settings import EvaluateSettings
from dualproto_wsi.workflow.evaluation.predict import Prediction, _starts, predict_images
from dualproto_wsi.workflow.evaluation.protocols import Labeller, Protocol, list_protocols
from dualproto_wsi.workflow.evaluation.truth import Sample

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> DualProtoSegmenter:
    return load_model("builtin")


def pictures(height: int, width: int, count: int = 1) -> torch.Tensor:
    """Return smooth coloured noise, (count, 3, height, width)."""
    noise = torch.rand(count, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)


@torch.inference_mode()
def test_plain_and_gated_are_what_the_model_says_without_and_with_its_gate(model: DualProtoSegmenter) -> None:
    images = pictures(64, 96, 2)
    found = [one[False] for one in predict_images(model, images, tta=False)]
    for strength, name in ((0.0, "plain"), (1.0, "gated")):
        model.gate = strength
        expected = model(images).softmax(1).numpy()
        for one, probabilities in zip(found, expected, strict=True):
            assert getattr(one, name) == pytest.approx(probabilities, abs=1e-5)
    model.gate = model.card.gate.strength
    assert all(((one.presence > 0) & (one.presence < 1)).all() for one in found)


def test_borders_are_mirrored_up_to_the_step(model: DualProtoSegmenter) -> None:
    (found,) = predict_images(model, pictures(50, 70), tta=False)
    assert found[False].plain.shape == (3, 16, 20)


def test_tta_turns_with_the_image(model: DualProtoSegmenter) -> None:
    images = pictures(64, 96)
    (straight,) = predict_images(model, images, tta=True)
    for turned, back in (
        (torch.rot90(images, 1, (2, 3)), lambda m: np.rot90(m, -1, (1, 2))),
        (images.flip(3), lambda m: m[:, :, ::-1]),
    ):
        (found,) = predict_images(model, turned.contiguous(), tta=True)
        assert back(found[True].plain) == pytest.approx(straight[True].plain, abs=1e-4)
        assert back(found[True].scores) == pytest.approx(straight[True].scores, abs=1e-3)
        assert found[True].presence == pytest.approx(straight[True].presence, abs=1e-4)
    assert straight[True].plain.sum(0) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(straight[True].plain, straight[False].plain)


def test_a_large_image_is_blended_from_windows(model: DualProtoSegmenter) -> None:
    large = pictures(480, 1008)
    (found,) = predict_images(model, large, tta=False)
    assert found[False].plain.shape == (3, 120, 252)
    with torch.inference_mode():
        whole = model(large)[0].softmax(0).numpy()
    agreement = (found[False].plain.argmax(0) == whole.argmax(0)).mean()
    assert agreement > 0.9
    assert np.abs(found[False].plain - whole).mean() < 0.05
    with torch.inference_mode():  # only the first window reaches its corner
        corner = model(large[:, :, :448, :448])[0].softmax(0).numpy()
    assert found[False].plain[:, :8, :8] == pytest.approx(corner[:, :8, :8], abs=1e-4)


@pytest.mark.parametrize("size", [448, 449 + 15, 896, 1008, 2000])
def test_windows_cover_a_side_and_overlap(size: int) -> None:
    size = size // 16 * 16
    starts = _starts(size, 448, 4)
    assert starts[0] == 0
    assert starts[-1] == size - 448
    assert all(start % 4 == 0 for start in starts)
    assert all(0 < b - a <= 448 * 0.88 for a, b in pairwise(starts))


def prediction(classes: int = 3, side: int = 8) -> Prediction:
    generator = np.random.default_rng(0)
    plain, gated = generator.dirichlet(np.ones(classes), (2, side, side)).astype(np.float32).transpose(0, 3, 1, 2)
    scores = generator.normal(0, 2, (classes, side, side)).astype(np.float32)
    return Prediction(scores, plain, gated, np.array([0.9, 0.1, 0.5], np.float32))


def labeller(labels: list[int], pixels: np.ndarray | None = None) -> Labeller:
    if pixels is None:
        pixels = np.full((32, 32, 3), (200, 140, 180), np.uint8)
    image = LabelledImage(Path("a.png"), "a", np.array(labels, np.int8))
    sample = Sample(image, pixels, pixels.shape[:2], None)
    return Labeller(sample, {False: prediction()}, 4, 0.5, "default", CPU)


def test_gates() -> None:
    found = labeller([1, 0, 1])
    assert np.array_equal(found.labels(Protocol("none")), prediction().plain.argmax(0))
    assert np.array_equal(found.labels(Protocol("predicted")), prediction().gated.argmax(0))
    oracle = found.probabilities(Protocol("oracle"))
    assert not oracle[1].any()
    assert oracle.sum(0) == pytest.approx(1, abs=1e-6)
    assert not (found.labels(Protocol("oracle", refine="fast")) == 1).any()


def test_oracle_lets_a_class_be_of_which_nothing_is_known() -> None:
    assert np.array_equal(labeller([1, -1, 1]).labels(Protocol("oracle")), prediction().plain.argmax(0))


@pytest.mark.parametrize(
    ("gate", "factors"), [("none", [1, 1, 1]), ("oracle", [1, 0, 1]), ("predicted", [0.9, 0.1, 0.5])]
)
def test_released_background_is_that_of_the_published_code(gate: str, factors: list[float]) -> None:
    expected = released_probabilities(torch.from_numpy(prediction().scores)[None], torch.tensor([factors]))[0]
    assert labeller([1, 0, 1]).probabilities(Protocol(gate, "released")) == pytest.approx(expected)


def test_glass_is_background() -> None:
    pixels = np.full((64, 64, 3), 243, np.uint8)
    pixels[:, 32:] = (190, 110, 170)
    image = LabelledImage(Path("a.png"), "a", np.ones(3, np.int8))
    found = Labeller(Sample(image, pixels, (64, 64), None), {False: prediction(side=16)}, 4, 2.0, "default", CPU)
    labels = found.labels(Protocol("none", "glass"))
    assert (labels[:, :6] == 3).all()
    assert np.array_equal(labels[:, 10:], prediction(side=16).plain.argmax(0)[:, 10:])


@pytest.mark.parametrize("background", ["glass", "released"])
@pytest.mark.parametrize("refine", ["none", "fast"])
def test_an_image_without_any_class_is_background_to_the_oracle(background: str, refine: str) -> None:
    found = labeller([0, 0, 0])
    assert (found.labels(Protocol("oracle", background, refine=refine)) == 3).all()
    assert not (found.labels(Protocol("none", background, refine=refine)) == 3).all()


def test_protocols_are_all_combinations() -> None:
    assert len(list_protocols(EvaluateSettings(), masks=False)) == 3
    assert [p.background for p in list_protocols(EvaluateSettings(gates=("none",)), masks=True)] == [
        "excluded",
        "glass",
    ]
    everything = EvaluateSettings(tta=True, refiners=("none", "crf"), backgrounds=("released",))
    assert len(set(list_protocols(everything, masks=False))) == 3 * 2 * 2
