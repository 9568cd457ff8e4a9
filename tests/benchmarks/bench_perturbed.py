"""What does a model make of the same images in other colours, less sharp, and of other sizes? One table.

Other laboratories, scanners and organs look different; labelled images of them are rare, changed ones are not. Class of
the label map under each labelled nucleus of BRCA-M2C, patients that the models were trained on left out:

    python tests/benchmarks/bench_perturbed.py BRCA-M2C [MODEL...] [--split val]

plain     the images as they are
stain     amounts of haematoxylin and eosin times 1 ± 0.4, one draw an image
tone      gamma, contrast, saturation times e^±0.35, white balance ± 10 %, one draw an image
half      made from pixels twice as large
0.75 1.33 that many times as large

A cell holds accuracy / mean IoU. The draws are the same for all models.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dualproto_wsi.data.augment import enlarge_pixels, jitter_stain, jitter_tone
from dualproto_wsi.data.images import LabelledImage
from dualproto_wsi.data.layouts import read_dataset
from dualproto_wsi.model.checkpoint import load_model
from dualproto_wsi.model.segmenter import DualProtoSegmenter
from dualproto_wsi.stats.metrics import ConfusionMatrix
from dualproto_wsi.workflow.training.windows import pad, to_tensor

Change = Callable[[Tensor, torch.Generator], Tensor]


def resize(images: Tensor, factor: float) -> Tensor:
    """Return (N, 3, H, W) at another size."""
    shape = [round(side * factor) for side in images.shape[2:]]
    return F.interpolate(images, shape, mode="bilinear", antialias=True, align_corners=False)


CHANGES: dict[str, Change] = {
    "plain": lambda images, _: images,
    "stain": lambda images, chance: jitter_stain(images, 0.4, chance),
    "tone": lambda images, chance: jitter_tone(images, 0.35, chance),
    "half": lambda images, _: enlarge_pixels(images, 2),
    "0.75": lambda images, _: resize(images, 0.75),
    "1.33": lambda images, _: resize(images, 4 / 3),
}


@torch.inference_mode()
def score(model: DualProtoSegmenter, images: list[LabelledImage], change: Change) -> ConfusionMatrix:
    """Return true and predicted classes of the nuclei of changed images."""
    found = ConfusionMatrix(model.classes.names)
    for number, image in enumerate(images):
        assert image.points is not None
        pixels = to_tensor(image.read_pixels())[None]
        changed = change(pixels, torch.Generator().manual_seed(number))
        logits = model(pad(changed, model.encoder.step_px))[0]
        places = image.points.places * (changed.shape[3] / pixels.shape[3]) / model.stride_px
        columns, rows = np.minimum(places.astype(int), np.array(logits.shape[:0:-1]) - 1).T
        found.add(image.points.labels, logits.argmax(0).numpy()[rows, columns].astype(np.int64))
    return found


def main() -> None:
    """Print a row a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="*", default=["builtin"])
    parser.add_argument("--split", default="val")
    given = parser.parse_args()
    models = [load_model(name) for name in given.models]
    seen = {patient for model in models for patient in model.card.training.get("patients", ())}
    dataset = read_dataset(given.data, "brca-m2c", given.split, models[0].classes)
    images = [image for image in dataset.images if image.patient not in seen]
    print(f"{len(images)} images of patients that no model was trained on")
    print(f"{'':20s}" + "".join(f"{name:>15s}" for name in CHANGES))
    for name, model in zip(given.models, models, strict=True):
        found = [score(model, images, change) for change in CHANGES.values()]
        cells = "".join(f"  {one.accuracy:.3f} / {one.mean_iou:.3f}" for one in found)
        print(f"{Path(name).stem:20s}{cells}", flush=True)


if __name__ == "__main__":
    main()
