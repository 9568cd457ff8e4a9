"""Windows: where chance puts them, in what batches, and how they are read."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.data.augment import orient
from dualproto_wsi.data.images import Dataset, LabelledImage, Points
from dualproto_wsi.errors import DataError
from dualproto_wsi.settings import DataSettings
from dualproto_wsi.workflow.training.processes import Processes
from dualproto_wsi.workflow.training.windows import (
    Chances,
    WindowReader,
    batches,
    make_samples,
    pad,
    read_ahead,
    turn,
)

SCHEME = ClassScheme((TissueClass(1, "A", (1, 2, 3), ("a",)), TissueClass(2, "B", (4, 5, 6), ("b",))))
CHANCES = Chances(batch_size=2, window_px=32, orientations=8, alike=False, phases=4, shifted_from_px=32)


def dataset(folder: Path, sizes: list[tuple[int, int]], points: bool = False) -> Dataset:
    images = []
    for number, (height, width) in enumerate(sizes):
        path = folder / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        held = Points(np.array([[3, 3], [4, 4]]), np.array([0, 0])) if points else None
        images.append(LabelledImage(path, str(number), np.array([1, 0], np.int8), points=held))
    return Dataset("made up", SCHEME, 0.5, tuple(images))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 7))
def test_every_position_is_in_one_batch_of_one_size(sizes, batch_size):
    found = batches(range(len(sizes)), lambda i: sizes[i], batch_size)
    assert sorted(i for batch in found for i in batch) == list(range(len(sizes)))
    assert all(len({sizes[i] for i in batch}) == 1 and len(batch) <= batch_size for batch in found)
    short = [batch for batch in found if len(batch) < batch_size]
    assert len(short) <= len(set(sizes)) and found[len(found) - len(short) :] == short


def test_batches_of_one_size_are_in_order():
    assert batches([4, 2, 0, 3, 1], lambda i: 7, 2) == [(4, 2), (0, 3), (1,)]


def test_images_without_points_are_shown_whole(tmp_path):
    samples = make_samples(dataset(tmp_path, [(30, 41), (16, 16)]), DataSettings(crop_sizes=(8,)), 16)
    assert [(s.whole, s.side, s.shape) for s in samples] == [(True, 48, (30, 41)), (True, 16, (16, 16))]
    assert samples[0].crops[0].labels.tolist() == [[[1]], [[0]]]
    window = WindowReader(samples, 0).window(0, (0, 0))
    pixels = torch.from_numpy(samples[0].image.read_pixels()).permute(2, 0, 1) / 255
    assert window.shape == (3, 48, 48)
    assert torch.allclose(window[:, :30, :41], pixels)
    assert torch.allclose(window[:, 30:48, :41], pixels[:, 11:29].flip(1))  # mirrored, the border once


def test_points_label_crops_of_windows(tmp_path):
    data = dataset(tmp_path, [(30, 70), (64, 64)], points=True)
    settings = DataSettings(crop_sizes=(16,), window_px=30)
    samples = make_samples(data, settings, 16)
    assert [(s.whole, s.side) for s in samples] == [(False, 32)] * 2
    window = WindowReader(samples, 30).window(1, (8, 16))
    pixels = torch.from_numpy(data.images[1].read_pixels()).permute(2, 0, 1) / 255
    assert torch.allclose(window[:, :30, :30], pixels[:, 8:38, 16:46])
    without = make_samples(data, DataSettings(crop_sizes=()), 16)
    assert [(s.whole, s.side) for s in without] == [(True, 80), (True, 64)]


def test_an_image_without_room_to_mirror(tmp_path):
    with pytest.raises(DataError, match=r"0\.png: an image of 1 x 20 px; the smallest is 2 x 2 px: leave it out"):
        make_samples(dataset(tmp_path, [(20, 1)]), DataSettings(), 16)


def test_chance_depends_on_the_seed_alone(tmp_path):
    samples = make_samples(
        dataset(tmp_path, [(64, 48)] * 5, points=True), DataSettings(crop_sizes=(16,), window_px=32), 16
    )
    epochs = [CHANCES.draw_epoch(samples, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]
    assert len(epochs[0]) == CHANCES.steps(samples) == 3
    assert sorted(i for step in epochs[0] for i in step.chosen) == [0, 1, 2, 3, 4]
    for step in epochs[0]:
        assert 1 <= step.shift < 16
        assert all(row in range(0, 33, 8) and column in range(0, 17, 8) for row, column in step.origins)


def test_windows_of_a_batch_are_turned_alike_or_not(tmp_path):
    samples = make_samples(dataset(tmp_path, [(16, 16)] * 40), DataSettings(), 16)
    for alike in (True, False):
        chances = Chances(40, 32, 8, alike, 0, 64)
        (step,) = chances.draw_epoch(samples, np.random.default_rng(0))
        assert (len(set(step.orientations)) == 1) == alike
        assert step.shift == 0
    windows = [torch.rand(3, 4, 4) for _ in range(3)]
    assert torch.equal(turn(windows, [5, 5, 5]), orient(torch.stack(windows), 5))
    assert torch.equal(turn(windows, [0, 3, 6])[2], orient(windows[2], 6))


def test_processes_share_a_step(tmp_path):
    samples = make_samples(dataset(tmp_path, [(64, 64)] * 3), DataSettings(), 16)
    (step,) = Chances(3, 32, 8, False, 4, 32).draw_epoch(samples, np.random.default_rng(0))
    own = [Processes(rank, 2).own(step) for rank in range(2)]
    assert own[0].chosen + own[1].chosen == (step.chosen[0], step.chosen[2], step.chosen[1])
    assert own[0].shift == step.shift > 0 == own[1].shift
    assert Processes().own(step) is step


def test_groups_come_in_order_and_ahead():
    begun, lock = [], threading.Lock()

    def job(number: int) -> int:
        with lock:
            begun.append(number)
        time.sleep(0.001 * (number % 3))
        return number

    jobs = [[lambda n=3 * group + i: job(n) for i in range(3)] for group in range(10)]
    found = read_ahead(jobs, 2)
    assert next(found) == [0, 1, 2]
    assert len(begun) <= 9  # not all at once
    assert [value for group in found for value in group] == list(range(3, 30))


def test_an_error_comes_when_its_group_is_due():
    def fail() -> int:
        raise DataError("broken")

    found = read_ahead([[lambda: 1], [fail], [lambda: 2]], 2)
    assert next(found) == [1]
    with pytest.raises(DataError, match="broken"):
        next(found)


@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 48), st.integers(0, 90))
def test_mirroring_repeats_what_is_there(height, width, multiple, least):
    images = torch.rand(1, 1, height, width)
    padded = pad(images, multiple, least)
    for size, found in zip((height, width), padded.shape[2:], strict=True):
        assert found % multiple == 0 and found >= max(size, least) and found - multiple < max(size, least)
    rows, columns = (
        np.pad(np.arange(size), (0, found - size), mode="reflect")
        for size, found in zip((height, width), padded.shape[2:], strict=True)
    )
    assert torch.equal(padded[0, 0], images[0, 0][rows][:, columns])
