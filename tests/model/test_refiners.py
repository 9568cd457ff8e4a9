from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dualproto_wsi.errors import MissingDependency
from dualproto_wsi.model import dense_crf
from dualproto_wsi.model.dense_crf import DenseCrf
from dualproto_wsi.model.mean_field import MeanField, choose_landmarks
from dualproto_wsi.settings import PRESETS, CrfParameters

CPU = torch.device("cpu")
STRIDE_PX = 4


def scene(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities, analysed and colours like those of stained tissue: three textures and uncertain scores."""
    generator = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(generator.normal(size=(3, height, width)), (0, 6, 6))
    tissue = fields.argmax(0)
    palette = np.array(((214, 150, 190), (150, 90, 160), (96, 60, 140)), float)
    colours = np.clip(palette[tissue] + generator.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    logits = 25 * fields + ndimage.gaussian_filter(generator.normal(size=fields.shape), (0, 3, 3)) * 6
    probabilities = np.exp(logits) / np.exp(logits).sum(0)
    analysed = ndimage.gaussian_filter(generator.normal(size=(height, width)), 12) > -0.02
    return probabilities.astype(np.float32), analysed, colours


def fast(parameters: CrfParameters, colours: np.ndarray) -> MeanField:
    return MeanField(parameters, STRIDE_PX, choose_landmarks(colours.reshape(-1, 3)), CPU)


def make(method: str, preset: str, colours: np.ndarray) -> MeanField | DenseCrf:
    if method == "fast":
        return fast(PRESETS[preset], colours)
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed")
    return DenseCrf(PRESETS[preset], STRIDE_PX)


METHODS = ("fast", "crf")
BOTH = pytest.mark.parametrize("method", METHODS)
EITHER = pytest.mark.parametrize("preset", PRESETS)


@EITHER
def test_fast_gives_the_labels_of_pydensecrf(preset):
    probabilities, analysed, colours = scene(200, 240)
    crf = make("crf", preset, colours).refine(probabilities, analysed, colours).argmax(0)
    ours = make("fast", preset, colours).refine(probabilities, analysed, colours).argmax(0)
    assert (crf != probabilities.argmax(0))[analysed].mean() > 0.02  # else agreement would say nothing
    assert (crf == ours)[analysed].mean() >= 0.99


def exact(parameters, probabilities, colours):
    """The mean field with every pair of cells, as its definition says."""
    height, width = colours.shape[:2]
    places = np.stack(np.mgrid[:height, :width], -1).reshape(-1, 2) * float(STRIDE_PX)
    rgb = colours.reshape(-1, 3).astype(float)

    def kernel(features):
        k = np.exp(-((features[:, None] - features[None]) ** 2).sum(-1) / 2)
        norm = 1 / np.sqrt(k.sum(1))
        return norm[:, None] * k * norm

    near = kernel(places / parameters.gaussian_sxy_px)
    alike = kernel(np.hstack([places / parameters.bilateral_sxy_px, rgb / parameters.bilateral_srgb]))
    unary = np.log(np.maximum(probabilities, 1e-5)).reshape(len(probabilities), -1).T
    q = np.exp(unary)
    for _ in range(parameters.iterations):
        total = unary + parameters.gaussian_compat * near @ q + parameters.bilateral_compat * alike @ q
        q = np.exp(total - total.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
    return q.T.reshape(probabilities.shape)


@pytest.mark.parametrize(
    "parameters",
    [
        CrfParameters(15, 2, 10, 20, 3, 1),
        CrfParameters(15, 2, 4, 20, 3, 1),  # blocks of one cell
        CrfParameters(15, 0, 24, 20, 3, 1),  # blocks of four cells
        CrfParameters(6, 3, 10, 20, 0, 2),
    ],
)
def test_fast_computes_the_mean_field_of_all_pairs(parameters):
    probabilities, _, colours = scene(26, 31)
    colours = (colours // 64 * 64).astype(np.uint8)  # few colours: landmarks then miss none
    landmarks = np.unique(colours.reshape(-1, 3), axis=0).astype(np.float32)
    refiner = MeanField(parameters, STRIDE_PX, landmarks, CPU)
    ours = refiner.refine(probabilities, np.ones((26, 31), bool), colours)
    wanted = exact(parameters, probabilities, colours)
    assert np.abs(ours - wanted).max() < 0.02
    assert np.abs(wanted - probabilities).max() > 0.1


@BOTH
@EITHER
def test_glass_has_no_influence_and_keeps_its_probabilities(method, preset):
    probabilities, analysed, colours = scene(60, 70)
    refiner = make(method, preset, colours)
    first = refiner.refine(probabilities, analysed, colours)
    other, paint = probabilities.copy(), colours.copy()
    other[:, ~analysed] = np.array((0.98, 0.01, 0.01), np.float32)[:, None]
    paint[~analysed] = paint[analysed].mean(0)
    second = refiner.refine(other, analysed, paint)
    assert 0 < analysed.mean() < 1
    assert np.array_equal(first[:, analysed], second[:, analysed])
    assert np.array_equal(second[:, ~analysed], other[:, ~analysed])


@BOTH
def test_probabilities_sum_to_one_and_certain_or_uniform_maps_keep_their_labels(method):
    probabilities, analysed, colours = scene(50, 40)
    refiner = make(method, "released", colours)
    assert np.allclose(refiner.refine(probabilities, analysed, colours).sum(0), 1, atol=1e-5)
    same = np.broadcast_to(np.array((0.2, 0.5, 0.3), np.float32)[:, None, None], probabilities.shape)
    assert (refiner.refine(same, analysed, colours).argmax(0) == 1).all()


@BOTH
def test_nothing_analysed_changes_nothing(method):
    probabilities, analysed, colours = scene(20, 30)
    refined = make(method, "default", colours).refine(probabilities, np.zeros_like(analysed), colours)
    assert np.array_equal(refined, probabilities)


@BOTH
def test_a_part_with_a_halo_gets_the_labels_of_the_whole(method):
    """With pydensecrf too: places are counted from the slide's origin."""
    probabilities, analysed, colours = scene(150, 160)
    refiner = make(method, "released", colours)
    whole = refiner.refine(probabilities, analysed, colours).argmax(0)
    part = np.s_[37:, 51:]
    refined = refiner.refine(probabilities[:, *part], analysed[part], colours[part], origin=(37, 51)).argmax(0)
    inner = np.s_[32:, 32:]
    differ = (refined != whole[part])[inner]
    assert differ[analysed[part][inner]].mean() <= 0.001


def test_the_default_keeps_small_regions_that_the_released_parameters_erase():
    y, x = np.mgrid[:40, :40]
    disc = (y - 20) ** 2 + (x - 20) ** 2 < 4**2  # radius 16 model px
    colours = np.where(disc[..., None], (188, 128, 168), (200, 140, 180))
    colours = np.clip(colours + np.random.default_rng(0).normal(0, 10, (40, 40, 3)), 0, 255).astype(np.uint8)
    inside = np.where(disc, 0.7, 0.3)
    probabilities = np.stack([1 - inside, inside]).astype(np.float32)
    kept = {
        name: (fast(PRESETS[name], colours).refine(probabilities, np.ones_like(disc), colours).argmax(0)[disc]).mean()
        for name in PRESETS
    }
    assert kept["default"] > 0.8
    assert kept["released"] < 0.1


def test_borders_move_to_edges_of_colour():
    colours = np.full((40, 60, 3), (214, 150, 190), np.uint8)
    colours[:, 30:] = (96, 60, 140)
    slope = 1 / (1 + np.exp(-0.3 * (np.arange(60) - 27.5)))  # the score's border is soft, and 2 cells off
    right = np.broadcast_to(slope, (40, 60))
    probabilities = np.stack([1 - right, right]).astype(np.float32)
    refined = fast(PRESETS["default"], colours).refine(probabilities, np.ones((40, 60), bool), colours)
    assert np.array_equal(refined.argmax(0), np.broadcast_to(np.arange(60) >= 30, (40, 60)).astype(int))


def test_a_rare_colour_far_from_all_landmarks_keeps_its_label():
    colours = np.full((30, 30, 3), (214, 150, 190), np.uint8)
    colours[10:20, 10:20] = (0, 120, 0)
    inside = np.full((30, 30), 0.3)
    inside[10:20, 10:20] = 0.7
    probabilities = np.stack([1 - inside, inside]).astype(np.float32)
    refiner = MeanField(PRESETS["default"], STRIDE_PX, np.array([(214, 150, 190)], np.float32), CPU)
    refined = refiner.refine(probabilities, np.ones((30, 30), bool), colours)
    assert np.array_equal(refined.argmax(0), inside > 0.5)


def test_landmarks_are_the_same_at_every_run_and_in_any_order():
    colours = scene(60, 60)[2].reshape(-1, 3)
    landmarks = choose_landmarks(colours)
    assert landmarks.shape == (16, 3)
    assert landmarks.dtype == np.float32
    assert np.array_equal(landmarks, choose_landmarks(colours[::-1].copy()))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), max_size=40), st.integers(1, 8))
def test_landmarks_lie_among_the_colours(rows, count):
    colours = np.array(rows, np.uint8).reshape(-1, 3)
    landmarks = choose_landmarks(colours, count)
    different = len(np.unique(colours // 4, axis=0))
    assert len(landmarks) == min(count, different)
    if len(landmarks):
        assert (landmarks.min(0) >= colours.min(0) - 4.0).all()
        assert (landmarks.max(0) <= colours.max(0) + 4.0).all()


def test_no_landmark_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        MeanField(PRESETS["default"], STRIDE_PX, np.zeros((0, 3), np.float32), CPU)


def test_a_missing_pydensecrf_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(dense_crf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MissingDependency, match=r"--refine crf needs.*pip install 'dualproto-wsi\[crf\]'.*--refine fast"
    ):
        DenseCrf(PRESETS["default"], STRIDE_PX)


@pytest.mark.gpu
def test_gpu_and_cpu_give_the_same_labels():
    probabilities, analysed, colours = scene(200, 240)
    landmarks = choose_landmarks(colours.reshape(-1, 3))
    here, there = (
        MeanField(PRESETS["released"], STRIDE_PX, landmarks, torch.device(name)).refine(
            probabilities, analysed, colours
        )
        for name in ("cpu", "cuda")
    )
    assert (here.argmax(0) == there.argmax(0)).mean() > 0.999
