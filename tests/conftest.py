"""Fixtures that all tests share."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tifffile
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

COHORT_SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "cohort_synthetic.py"
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development data beside the checkout: real slides, labelled tiles, reference numbers."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared (development data) is not here")
    return SHARED


def tissue_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return RGB like stained tissue on glass: a pink disc with purple spots on near white."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    picture = np.full((height, width, 3), 244, np.float32)
    disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (0.42 * min(height, width)) ** 2
    picture[disc] = (214, 150, 190)
    for _ in range(height * width // 900):
        cy, cx, radius = generator.integers(height), generator.integers(width), generator.integers(4, 8)
        spot = (slice(max(cy - radius, 0), cy + radius), slice(max(cx - radius, 0), cx + radius))
        near = (y[spot] - cy) ** 2 + (x[spot] - cx) ** 2 < radius**2
        picture[spot][near & disc[spot]] = (96, 60, 140)
    return np.clip(picture + generator.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


class ReferenceRule:
    """Numbers of the released code, and the weights that they were computed with, made anew by the rule in its README.

    Parameters
    ----------
    folder : Path
        ``shared/reference``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def numbers(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of ``conch`` or ``head``."""
        with np.load(self.folder / f"{name}_reference.npz") as file:
            return dict(file)

    def array(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Return the rule's random numbers of a name."""
        generator = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)
        return torch.from_numpy(generator.standard_normal(shape or (1,)).astype(np.float32).reshape(shape))

    def weights(self, name: str, prefix: str = "") -> dict[str, torch.Tensor]:
        """Return the state dict of ``conch`` or ``head``; ``prefix`` is put before the names that seed the rule."""
        shapes = json.loads((self.folder / f"{name}_state_dict.json").read_text())
        return {key: self._weight(key, tuple(shape), prefix) for key, shape in shapes.items()}

    def _weight(self, key: str, shape: tuple[int, ...], prefix: str) -> torch.Tensor:
        if key.startswith("logit_scale"):
            return 10 + self.array(key, shape)
        values = self.array(prefix + key, shape)
        if len(shape) == 1:
            return 1 + 0.1 * values if key.endswith("weight") else 0.1 * values
        if "embed" in key or "query" in key:
            return 0.3 * values
        fan_in = shape[0] if key.endswith(("text_projection", "proj_contrast")) else math.prod(shape[1:])
        return values / math.sqrt(fan_in)


@pytest.fixture(scope="session")
def rule(shared: Path) -> ReferenceRule:
    """The reference numbers, and the weights that they were computed with."""
    return ReferenceRule(shared / "reference")


@pytest.fixture(scope="session")
def conch_file(rule: ReferenceRule, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint of CONCH's keys and shapes, 800 MB of the rule's numbers; gone when the session ends."""
    path = tmp_path_factory.mktemp("conch") / "pytorch_model.bin"
    torch.save(rule.weights("conch"), path)
    yield path
    path.unlink()


MakeSlide = Callable[..., Path]


@pytest.fixture(scope="session")
def make_slide() -> MakeSlide:
    """Write a made-up slide: a small tiled TIFF that OpenSlide opens, one piece of tissue, with or without mpp."""

    def make(path: Path, height: int = 700, width: int = 900, mpp: float | None = 0.5) -> Path:
        size = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
        pixels = tissue_picture(height, width)
        tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", compression="zlib", metadata=None, **size)
        return path

    return make


@pytest.fixture(scope="session")
def small_slide(tmp_path_factory: pytest.TempPathFactory, make_slide: MakeSlide) -> Path:
    """A made-up slide of 900 × 700 px at 0.5 µm/px with one piece of tissue."""
    return make_slide(tmp_path_factory.mktemp("slides") / "small.tif")


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The example that writes made-up results."""
    spec = importlib.util.spec_from_file_location("cohort_synthetic", COHORT_SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
