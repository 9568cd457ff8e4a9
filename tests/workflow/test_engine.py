from __future__ import annotations

import numpy as np
import pytest
import torch

from dualproto_wsi.errors import DeviceUnavailable
from dualproto_wsi.settings import InferenceSettings
from dualproto_wsi.workflow.mapping.engine import Engine, all_devices, is_out_of_memory
from dualproto_wsi.workflow.models import prepare_model

CPU = InferenceSettings(device="cpu", precision="fp32", batch_size=4)


class Tight(torch.nn.Module):
    """A model on a device with room for a few windows at a time."""

    def __init__(self, model, room: int, error: BaseException) -> None:
        super().__init__()
        self.inner, self.room, self.error = model, room, error
        self.feature_levels, self.score = model.feature_levels, model.score
        self.sizes: list[int] = []

    def embed(self, images, level):
        self.sizes.append(len(images))
        if len(images) > self.room:
            raise self.error
        return self.inner.embed(images, level)


@pytest.fixture(scope="module")
def model():
    return prepare_model(CPU)[0]


@pytest.fixture(scope="module")
def windows(model):
    generator = np.random.default_rng(0)
    return generator.integers(0, 255, (4, model.window_px, model.window_px, 3), np.uint8)


def real_cpu_failure() -> BaseException:
    try:
        torch.empty(1 << 60)
    except RuntimeError as error:
        return error
    raise AssertionError("an exabyte was allocated")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), real_cpu_failure(), MemoryError()])
def test_a_batch_halves_itself_and_all_windows_get_their_logits(model, windows, error):
    engine = Engine(model, CPU)
    expected = engine.launch(windows)().logits
    tight = Tight(model, 1, error)
    engine.model = tight
    found = engine.launch(windows)().logits
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert engine.batch_size == 1
    assert tight.sizes[:3] == [4, 2, 1]
    tight.sizes.clear()
    engine.launch(windows)()
    assert tight.sizes == [1, 1, 1, 1]


def test_no_room_for_one_window_is_told(model, windows):
    engine = Engine(model, CPU)
    engine.model = Tight(model, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(DeviceUnavailable, match="cpu: out of memory with a single window"):
        engine.launch(windows)()


def test_other_errors_are_not_taken_for_it(model, windows):
    engine = Engine(model, CPU)
    engine.model = Tight(model, 0, RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        engine.launch(windows)()
    assert engine.batch_size == 4
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_devices(model):
    assert all_devices("cpu") == ("cpu",)
    assert all_devices("cuda:3") == ("cuda:3",)
    found = torch.cuda.device_count()
    assert all_devices("auto") == (tuple(f"cuda:{i}" for i in range(found)) or ("auto",))
    assert Engine(model, CPU).is_usable()


@pytest.mark.gpu
def test_a_real_gpu_without_room_halves_the_batch(model, windows):
    engine = Engine(model, InferenceSettings(device="cuda", precision="fp32", batch_size=4))
    expected = engine.launch(windows)().logits
    real = engine.model.embed

    def greedy(images, level):
        if len(images) > 1:
            torch.empty(1 << 50, device=images.device)
        return real(images, level)

    engine.model.embed = greedy
    try:
        np.testing.assert_allclose(engine.launch(windows)().logits, expected, atol=1e-3)
    finally:
        del engine.model.embed
    assert engine.batch_size == 1


@pytest.mark.parametrize("level", ["head", "encoder"])
def test_kept_features_score_like_their_windows(model, windows, level):
    engine = Engine(model, CPU)
    logits, features = engine.launch(windows, level, keep=True)()
    assert {part.dtype for part in features} == {np.dtype(np.float16)}
    np.testing.assert_allclose(engine.launch(windows)().logits, logits, atol=1e-4)
    again = engine.launch(features, level)()
    assert again.features == []
    np.testing.assert_allclose(again.logits, logits, atol=0.05)
    assert (again.logits.argmax(1) == logits.argmax(1)).mean() > 0.999
