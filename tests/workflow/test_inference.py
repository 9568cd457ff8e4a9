from __future__ import annotations

import numpy as np
import pytest
import torch

from dualproto_wsi.errors import DeviceUnavailable, SlideUnreadable
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.model.checkpoint import load_model
from dualproto_wsi.settings import InferenceSettings, TissueSettings
from dualproto_wsi.slide.reader import open_slide
from dualproto_wsi.slide.tiling import plan_tiles
from dualproto_wsi.slide.tissue import find_tissue
from dualproto_wsi.workflow.mapping.engine import Engine, choose_device, choose_precision
from dualproto_wsi.workflow.mapping.inference import predict, read_ahead
from dualproto_wsi.workflow.stopwatch import Stopwatch


@pytest.fixture(scope="module")
def model():
    return load_model("builtin")


def plan_for(reader, model, overlap=0.5):
    mpp = reader.info.require_mpp()
    grid = LabelGrid.over(reader.info.content, mpp, model.stride_px * model.mpp)
    tissue = find_tissue(reader, TissueSettings(), mpp)
    return plan_tiles(grid, tissue, model.window_px, model.stride_px, overlap)


def logits(engine, reader, plan, workers=2):
    found = list(predict(engine, read_ahead(reader, plan.blocks, workers), Stopwatch()))
    assert [loaded.block for blocks, _ in found for loaded in blocks] == list(plan.blocks)
    return np.concatenate([scored.logits for _, scored in found])


def test_batch_size_and_threads_do_not_change_the_scores(model, small_slide):
    with open_slide(small_slide) as reader:
        plan = plan_for(reader, model)
        one, many = (
            logits(
                Engine(model, InferenceSettings(device="cpu", precision="fp32", batch_size=size)), reader, plan, threads
            )
            for size, threads in ((1, 1), (64, 3))
        )
    cells = model.window_px // model.stride_px
    assert one.shape == (plan.tiles, len(model.classes), cells, cells)
    assert plan.tiles >= 4
    np.testing.assert_allclose(one, many, atol=1e-3)


def test_bf16_agrees_with_fp32_on_nearly_all_cells(model, small_slide):
    with open_slide(small_slide) as reader:
        plan = plan_for(reader, model, overlap=0)
        full = logits(Engine(model, InferenceSettings(device="cpu", precision="fp32")), reader, plan)
        half = logits(Engine(model, InferenceSettings(device="cpu", precision="bf16")), reader, plan)
    assert half.dtype == np.float32
    assert (full.argmax(1) == half.argmax(1)).mean() > 0.98


def test_an_unreadable_block_stops_the_slide_with_its_reason(small_slide, model):
    class Damaged:
        def __init__(self, reader):
            self._reader, self._left = reader, 1

        def read(self, box, size):
            self._left -= 1
            if self._left < 0:
                raise SlideUnreadable("small.tif: pixels cannot be decoded")
            return self._reader.read(box, size)

    with open_slide(small_slide) as reader:
        blocks = plan_for(reader, model, overlap=0.7).blocks
        assert len(blocks) > 1
        with pytest.raises(SlideUnreadable, match="pixels cannot be decoded"):
            list(read_ahead(Damaged(reader), blocks, workers=1))


def test_a_gpu_that_is_not_there():
    with pytest.raises(DeviceUnavailable, match=r"--device cuda:9\d: torch .+ sees \d+ GPU\(s\); use --device cpu"):
        choose_device("cuda:99")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("can", "precision"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True}, "fp32"), ({}, "fp32")],
)
def test_precision_by_what_the_cpu_can(monkeypatch, can, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
    assert choose_precision("auto", torch.device("cpu")) == precision
    assert choose_precision("fp32", torch.device("cpu")) == "fp32"


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_scores(model, small_slide):
    with open_slide(small_slide) as reader:
        plan = plan_for(reader, model, overlap=0)
        plain = logits(Engine(model, InferenceSettings(device="cpu", precision="fp32")), reader, plan)
        settings = InferenceSettings(device="cpu", precision="fp32", compile=True)
        compiled = logits(Engine(load_model("builtin"), settings), reader, plan)
    np.testing.assert_allclose(plain, compiled, atol=1e-3)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(model, small_slide):
    with open_slide(small_slide) as reader:
        plan = plan_for(reader, model)
        cpu = logits(Engine(model, InferenceSettings(device="cpu")), reader, plan)
        gpu = logits(Engine(model, InferenceSettings(device="cuda")), reader, plan)
    model.to("cpu")
    assert (cpu.argmax(1) == gpu.argmax(1)).mean() > 0.97
