"""Segmentation from descriptions alone, without any training.

Every patch is put into the space of the texts (:meth:`TextAlignedEncoder.patch_embeddings`) and compared with every
description. The score of a description is the cosine times the model's own logit scale; a class's score is the smooth
maximum over its descriptions, ``log mean exp``, so that a class is found where any one of them fits and none gains from
having many. The map has the encoder's grid and is brought to finer cells by bilinear interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import ModelNotFound, SettingsError, WeightsMismatch
from dualproto_wsi.model.absent_encoder import AbsentEncoder, EncoderFacts
from dualproto_wsi.model.encoder import TextAlignedEncoder, build_encoder
from dualproto_wsi.model.segmenter import Segmenter
from dualproto_wsi.model.text_encoder import known_features, text_features
from dualproto_wsi.settings import ZERO_SHOT

MAX_SCALE = 100.0
"""CLIP's bound on the logit scale."""

UPSAMPLING = 4
"""Cells of the map along a side of a cell of the encoder's grid."""


@dataclass(frozen=True, slots=True)
class ZeroShotCard:
    """What a zero-shot model is; takes the place of a bundle's model card in a record."""

    encoder: str
    encoder_hash: str
    classes: ClassScheme
    mpp: float
    window_px: int
    stride_px: int
    name: str = ZERO_SHOT
    limits: str = "no training and no calibration: scores compare descriptions, they are no probabilities of tissue"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        data = asdict(self)
        return data | {"classes": self.classes.to_json()}


class ZeroShotSegmenter(Segmenter):
    """Class logits from text features.

    Parameters
    ----------
    encoder : TextAlignedEncoder
        Frozen.
    scheme : ClassScheme
        K classes with D_k descriptions each, at least one.
    features : Tensor of float, shape (P, E)
        One a description, class by class, of length 1.
    window_px : int or None
        Side of a window, model px; None: the encoder's own.

    Raises
    ------
    SettingsError
        If a class has no description.
    ValueError
        If features and descriptions are not equally many.
    """

    feature_levels = ("patches",)
    encoder: TextAlignedEncoder
    text_features: Tensor

    def __init__(
        self, encoder: TextAlignedEncoder, scheme: ClassScheme, features: Tensor, window_px: int | None = None
    ) -> None:
        card = ZeroShotCard(
            encoder.name,
            encoder.hash,
            scheme,
            encoder.mpp,
            window_px or encoder.native_px,
            encoder.grid_px // UPSAMPLING,
        )
        super().__init__(encoder, card)
        self._counts = [len(tissue.descriptions) for tissue in scheme]
        for tissue, count in zip(scheme, self._counts, strict=True):
            if not count:
                raise SettingsError(f"class {tissue.name!r} has no description; zero-shot needs at least one a class")
        if sum(self._counts) != len(features):
            raise ValueError(f"{len(features)} features for {sum(self._counts)} descriptions")
        self.register_buffer("text_features", features.float(), persistent=False)
        self.eval()

    def features(self, images: Tensor, level: str) -> list[Tensor]:
        """Return each patch in the space of the texts, of float images, (N, 3, H, W), RGB 0…1."""
        return [self.encoder.patch_embeddings(images)]

    def score(self, features: Sequence[Tensor], level: str) -> Tensor:
        """Return class logits of such patches."""
        (embeddings,) = features
        with torch.autocast(embeddings.device.type, enabled=False):
            scale = self.encoder.logit_scale.float().clamp(max=MAX_SCALE)
            scores = scale * F.conv2d(embeddings.float(), self.text_features[:, :, None, None])
            merged = [part.logsumexp(1) - math.log(part.shape[1]) for part in torch.split(scores, self._counts, 1)]
            return F.interpolate(torch.stack(merged, 1), scale_factor=UPSAMPLING, mode="bilinear", align_corners=False)


def build_zero_shot(
    encoder: str,
    scheme: ClassScheme,
    weights: Path | None = None,
    tokenizer: Path | None = None,
    cache: Path | None = None,
    facts: EncoderFacts | None = None,
) -> ZeroShotSegmenter:
    """Build a zero-shot model; once its text features are in the cache, without a text tower.

    Parameters
    ----------
    encoder : str
        ``conch`` or ``open_clip:MODEL[:PRETRAINED|FILE]``.
    scheme : ClassScheme
        Any classes, with descriptions.
    weights, tokenizer : Path or None
        The user's files, as for :func:`~dualproto_wsi.model.text_encoder.build_text_encoder`.
    cache : Path or None
        Folder of the cache of text features.
    facts : EncoderFacts or None
        Of the encoder whose patches are at hand: it is not loaded, unless descriptions are not in the cache.

    Raises
    ------
    ModelNotFound
        If the encoder has no text side, or a file is not there.
    WeightsMismatch
        If a file is another model's, or the weights are not those of `facts`.
    """
    texts = [text for tissue in scheme for text in tissue.descriptions]
    if facts:
        found = known_features(facts.hash, texts, cache)
        if found is None:
            _check_weights(encoder, weights, facts)
            found = text_features(encoder, facts.hash, texts, weights, tokenizer, cache)
        return ZeroShotSegmenter(AbsentEncoder(facts), scheme, found)
    image_encoder = build_encoder(encoder, weights)
    if not isinstance(image_encoder, TextAlignedEncoder):
        raise ModelNotFound(f"--encoder {encoder}: it has no text side; use conch or open_clip:MODEL")
    features = text_features(encoder, image_encoder.hash, texts, weights, tokenizer, cache)
    return ZeroShotSegmenter(image_encoder, scheme, features)


def _check_weights(encoder: str, weights: Path | None, facts: EncoderFacts) -> None:
    """Check that a text tower from these weights belongs to the patches."""
    found = build_encoder(encoder, weights).hash
    if found != facts.hash:
        raise WeightsMismatch(
            f"the features were made with {facts.name} weights {facts.hash}; these are {found}: their texts do not go "
            "with them; use the weights that the features were made with"
        )
