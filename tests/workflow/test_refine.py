from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dualproto_wsi.errors import SettingsError
from dualproto_wsi.model.dense_crf import DenseCrf
from dualproto_wsi.model.mean_field import MeanField
from dualproto_wsi.settings import PRESETS, RefineSettings, from_data
from dualproto_wsi.workflow.mapping.refine import TILE, BandRefiner, build_refiner

CPU = torch.device("cpu")


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities of two classes, analysed and colours of a made-up piece of tissue."""
    generator = np.random.default_rng(0)
    field = ndimage.gaussian_filter(generator.normal(size=(height, width)), 4) * 8
    colours = np.where(field[..., None] > 0, (214, 150, 190), (120, 70, 150)) + generator.normal(
        0, 12, (height, width, 3)
    )
    inside = 1 / (1 + np.exp(-field - ndimage.gaussian_filter(generator.normal(size=field.shape), 2) * 4))
    analysed = np.ones((height, width), bool)
    analysed[:, width // 3 : width // 2] = False
    return np.stack([inside, 1 - inside]).astype(np.float32), analysed, np.clip(colours, 0, 255).astype(np.uint8)


def build(method: str, colours: np.ndarray, preset: str = "default"):
    if method == "crf":
        pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed")
    refiner = build_refiner(RefineSettings(method, preset), CPU, 4, colours.reshape(-1, 3))
    assert refiner is not None
    return refiner


def run(refiner, rows, cuts=(), halo=32, workers=1):
    """Return what comes out for rows cut into bands: probabilities, calibrated, analysed; first rows are checked."""
    probabilities, analysed, colours = rows
    edges = [0, *sorted(cuts), len(analysed)]
    bands, fed = [], 0
    with BandRefiner(refiner, analysed.shape[1], len(probabilities), halo, workers) as refined:
        for first, stop in pairwise(edges):
            bands += refined.feed(probabilities[:, first:stop], analysed[first:stop], colours[first:stop])
            fed = sum(len(band.analysed) for band in bands)
            assert stop - fed <= TILE + halo
        bands += refined.finish()
    row = 0
    for band in bands:
        assert band.first_row == row
        row += len(band.analysed)
    assert row == len(analysed)
    return (
        np.concatenate([band.probabilities for band in bands], axis=1),
        np.concatenate([band.calibrated for band in bands], axis=1),
        np.concatenate([band.analysed for band in bands]),
    )


@pytest.fixture(scope="module")
def rows():
    return scene(600, 300)


@pytest.mark.parametrize("method", ["fast", "crf"])
def test_tiles_give_the_labels_of_the_whole(method, rows):
    refiner = build(method, rows[2], "released")
    whole = refiner.refine(*rows)
    refined, calibrated, analysed = run(refiner, rows, range(100, 600, 100))
    assert np.array_equal(calibrated, rows[0])
    assert np.array_equal(analysed, rows[1])
    assert (whole.argmax(0) != rows[0].argmax(0))[analysed].mean() > 0.01
    assert (whole.argmax(0) != refined.argmax(0))[analysed].mean() <= 0.001
    alone = run(refiner, rows, halo=0)[0]
    assert (whole.argmax(0) != alone.argmax(0))[analysed].mean() > 0.001  # without a halo there are seams to see
    assert np.array_equal(refined[:, ~analysed], rows[0][:, ~analysed])


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 599), max_size=6), st.sampled_from([0, 5, 32]), st.integers(1, 2))
def test_result_does_not_depend_on_how_the_rows_are_cut(rows, cuts, halo, workers):
    narrow = rows[0][:, :, :24], rows[1][:, :24], rows[2][:, :24]
    refiner = build("fast", narrow[2])
    assert np.array_equal(run(refiner, narrow, (), halo)[0], run(refiner, narrow, cuts, halo, workers)[0])


def test_no_rows_come_out_of_none(rows):
    with BandRefiner(build("fast", rows[2]), 300, 2) as refined:
        assert list(refined.finish()) == []


def test_tiles_without_tissue_are_not_computed(rows):
    class Refuses:
        def refine(self, *given):
            raise AssertionError("called")

    probabilities, analysed, colours = rows
    refined, *_ = run(Refuses(), (probabilities, np.zeros_like(analysed), colours))
    assert np.array_equal(refined, probabilities)


def test_rows_of_another_grid_are_refused(rows):
    with (
        BandRefiner(build("fast", rows[2]), 301, 2) as refined,
        pytest.raises(ValueError, match=r"this grid takes \(2, n, 301\), \(n, 301\) and \(n, 301, 3\)"),
    ):
        list(refined.feed(*rows))


def test_an_error_in_a_worker_reaches_the_caller(rows):
    class Fails:
        def refine(self, *given):
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        run(Fails(), rows)


def test_build_refiner_gives_what_was_asked_for():
    colours = np.full((50, 3), 180, np.uint8)
    assert build_refiner(RefineSettings(), CPU, 4, colours) is None
    assert isinstance(build_refiner(RefineSettings("fast"), CPU, 4, colours), MeanField)
    assert build_refiner(RefineSettings("fast"), CPU, 4, colours[:0]) is None
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed")
    crf = build_refiner(RefineSettings("crf", "released", bilateral_compat=7.0), CPU, 4, colours)
    assert isinstance(crf, DenseCrf)
    assert (crf.parameters.bilateral_compat, crf.parameters.gaussian_compat) == (7, 30)


def test_presets_are_what_they_are_called():
    released = RefineSettings("fast", "released").parameters
    assert released == PRESETS["released"]
    assert (released.gaussian_sxy_px, released.gaussian_compat) == (15, 30)
    assert (released.bilateral_sxy_px, released.bilateral_srgb, released.bilateral_compat) == (10, 20, 50)
    assert released.iterations == 5
    assert from_data(RefineSettings, {"method": "fast", "bilateral_srgb": 13}).parameters.bilateral_srgb == 13


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "slow"}, "refine method is 'slow'; choose one of none, crf, fast"),
        ({"preset": "paper"}, "refine preset is 'paper'; choose one of default, released"),
        ({"preset": "released"}, "refine preset is set, but the method is none; choose fast or crf"),
        ({"method": "fast", "bilateral_srgb": 0.0}, "bilateral_srgb is 0.0; use 0.1 to 100"),
        ({"method": "crf", "gaussian_compat": -1.0}, "gaussian_compat is -1.0; use 0"),
        ({"method": "crf", "iterations": 0}, "iterations is 0; use 1 to 50"),
    ],
)
def test_wrong_settings_are_refused(values, message):
    with pytest.raises(SettingsError, match=message.replace("(", r"\(")):
        RefineSettings(**values)
