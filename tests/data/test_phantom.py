from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.data.images import Dataset
from dualproto_wsi.data.layouts import read_dataset
from dualproto_wsi.data.phantom import CLASSES, MPP, draw_phantom, write_phantom
from dualproto_wsi.errors import SettingsError
from dualproto_wsi.model.encoder import build_encoder
from dualproto_wsi.stats.metrics import ConfusionMatrix

SCHEME = ClassScheme(tuple(TissueClass(i, name, (i, 0, 0)) for i, name in enumerate(CLASSES, start=1)))
SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "phantom.py"


def read(folder: Path, split: str) -> Dataset:
    return read_dataset(folder, "bcss-wsss", split, SCHEME, MPP)


def test_the_layout_is_bcss_wsss_and_labels_are_those_of_the_masks(tmp_path: Path) -> None:
    write_phantom(tmp_path, train=5, val=2, test=3, side=96, seed=4)
    splits = [read(tmp_path, split) for split in ("train", "val", "test")]
    assert [len(split.images) for split in splits] == [5, 2, 3]
    assert len({patient for split in splits for patient in split.patients}) == 10
    for number, image in enumerate(image for split in splits for image in split.images):
        pixels, mask = draw_phantom(np.random.default_rng((4, number)), 96)
        assert np.array_equal(image.read_pixels(), pixels)
        assert image.labels.tolist() == [int((mask == at).any()) for at in range(4)]
        written = image.read_mask()
        assert (written is None) == (number < 5)
        assert written is None or np.array_equal(written, mask)


def test_the_script_writes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", [str(SCRIPT), str(tmp_path), "--train", "2", "--val", "1", "--test", "1", "--seed", "3"]
    )
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert len(read(tmp_path, "train").images) == 2
    pixels, _ = draw_phantom(np.random.default_rng((3, 3)), 224)
    assert np.array_equal(read(tmp_path, "test").images[0].read_pixels(), pixels)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"train": 0}, "train is 0; it must be at least 1"), ({"side": 32}, "side is 32; it must be at least 64")],
)
def test_wrong_numbers_are_refused(tmp_path: Path, given: dict[str, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        write_phantom(tmp_path, **given)


def test_pixels_tell_the_classes_and_colour_alone_does_not() -> None:
    drawn = [draw_phantom(np.random.default_rng((0, number)), 192) for number in range(20)]
    truth = torch.from_numpy(np.stack([mask for _, mask in drawn])).long()
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in drawn])).permute(0, 3, 1, 2) / 255
    encoder = build_encoder("compact")
    with torch.inference_mode():
        features = torch.cat([encoder.encode(part)[-1] for part in pixels.split(8)]).clone()
    colours = F.avg_pool2d(pixels, 25, 8, 12, count_include_pad=False)
    assert probe(features, truth) > 0.7
    assert probe(colours, truth) < 0.45


def probe(features: torch.Tensor, truth: torch.Tensor) -> float:
    """Fit a linear classifier on the pixels of 14 images, and return its mean IoU on the others."""
    features = (features - features.mean((0, 2, 3), keepdim=True)) / features.std((0, 2, 3), keepdim=True)
    cells = F.avg_pool2d(F.one_hot(truth, 4).movedim(3, 1).float(), 192 // features.shape[2]).argmax(1)
    layer = torch.nn.Conv2d(features.shape[1], 4, 1)
    torch.nn.init.zeros_(layer.weight)
    optimiser = torch.optim.AdamW(layer.parameters(), 0.02, weight_decay=1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        F.cross_entropy(layer(features[:14]), cells[:14, : features.shape[2], : features.shape[3]]).backward()
        optimiser.step()
    with torch.no_grad():
        found = F.interpolate(layer(features[14:]), size=192, mode="bilinear").argmax(1)
    confusion = ConfusionMatrix(CLASSES)
    confusion.add(truth[14:].numpy().ravel(), found.numpy().ravel())
    return confusion.mean_iou
