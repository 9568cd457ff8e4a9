"""A small model and the reference numbers, shared by the tests of this part."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.model.card import ModelCard
from dualproto_wsi.model.encoder import ImageEncoder, build_encoder
from dualproto_wsi.model.head import DualProtoHead
from dualproto_wsi.model.segmenter import DualProtoSegmenter
from dualproto_wsi.settings import HeadSettings

SMALL = HeadSettings(
    text_dim=12,
    prototype_dim=16,
    refiner_width=16,
    refiner_blocks=1,
    refiner_groups=1,
    pyramid_groups=1,
    norm="pixel",
    upsampling=(1, 1, 2, 2),
    channels=(8, 8, 8, 8),
)


class Reference:
    """Weights and inputs by the rule of the reference's README, and the released code's numbers for them."""

    def __init__(self, folder: Path) -> None:
        self.shapes: dict[str, list[int]] = json.loads((folder / "head_state_dict.json").read_text())
        self.numbers = np.load(folder / "head_reference.npz")

    @staticmethod
    def random(name: str, shape: tuple[int, ...]) -> Tensor:
        generator = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)
        values = generator.standard_normal(shape or (1,)).astype(np.float32)
        return torch.from_numpy(values).reshape(shape)

    def state(self) -> dict[str, Tensor]:
        return {key: self._weight(key, tuple(shape)) for key, shape in self.shapes.items()}

    def _weight(self, key: str, shape: tuple[int, ...]) -> Tensor:
        if key.startswith("logit_scale"):
            return 10 + self.random(key, shape)
        values = self.random(f"head.{key}", shape)
        if len(shape) == 1:
            return 1 + 0.1 * values if key.endswith("weight") else 0.1 * values
        return values / float(np.sqrt(np.prod(shape[1:])))

    def text_features(self) -> Tensor:
        return torch.nn.functional.normalize(self.random("head.text_features", (40, 512)), dim=1)

    def levels(self) -> list[Tensor]:
        return [self.random(f"head.F{number}", (2, 768, 14, 14)) for number in (1, 2, 3, 4)]


@pytest.fixture(scope="session")
def reference(shared: Path) -> Reference:
    return Reference(shared / "reference")


@pytest.fixture(scope="session")
def encoder() -> ImageEncoder:
    return build_encoder("compact")


@pytest.fixture(scope="session")
def scheme() -> ClassScheme:
    names = ("Tumor", "Stroma", "Lymphocyte")
    return ClassScheme(
        tuple(TissueClass(i + 1, name, (40 * i, 9, 9), (f"{name} one", f"{name} two")) for i, name in enumerate(names))
    )


@pytest.fixture
def segmenter(encoder: ImageEncoder, scheme: ClassScheme) -> DualProtoSegmenter:
    torch.manual_seed(3)
    head = DualProtoHead(SMALL, encoder.dim, len(scheme), 2, torch.randn(6, SMALL.text_dim))
    card = ModelCard(
        name="tiny",
        version="1",
        description="random weights",
        classes=scheme,
        encoder=encoder.name,
        encoder_hash=encoder.hash,
        head=SMALL,
        mpp=0.5,
        window_px=64,
        stride_px=4,
        temperature=2.0,
        bias=(0.5, 0.0, -0.5),
        training={"data": "none", "crops": 0},
        scores={"accuracy": None},
        licence="Apache-2.0",
        limits="says nothing",
        created_with={"torch": torch.__version__},
    )
    return DualProtoSegmenter(encoder, head, card)
