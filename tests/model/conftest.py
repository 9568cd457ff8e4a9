"""A small model, shared by the tests of this part."""

from __future__ import annotations

import pytest
import torch

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
