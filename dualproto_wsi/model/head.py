"""The DualProto head: encoder levels in, class scores at several scales out.

Level i of the encoder is refined, brought to scale i of the pyramid, and compared with the prototypes projected to that
scale: a score is a cosine times the scale's learned factor, thus a logit. The method is DualProtoSeg's
(arXiv 2512.10314); with the default settings and weights of its released code the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualproto_wsi.model.layers import PyramidScale, Refiner, enlarge, unit
from dualproto_wsi.model.prototypes import PrototypeBank, merge_prototypes
from dualproto_wsi.settings import HeadSettings

INITIAL_SCALE = 1 / 0.07
"""Factor on the cosine at the start of training."""


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """What training needs; a list holds one entry a scale, from coarse to fine.

    Attributes
    ----------
    scores : list of Tensor of float32, shape (N, K, H_s, W_s)
        Class scores (logits) at each place: prototypes merged.
    pooled : list of Tensor of float32, shape (N, K)
        Class scores of the window: prototype scores averaged over it, then merged.
    prototype_pooled : list of Tensor of float32, shape (N, P)
        Prototype scores averaged over the window.
    prototypes : Tensor of float32, shape (P, prototype_dim)
        The bank, rows of length 1, class by class.
    """

    scores: list[Tensor]
    pooled: list[Tensor]
    prototype_pooled: list[Tensor]
    prototypes: Tensor


class DualProtoHead(nn.Module):
    """Refiner, pyramid and prototype scores.

    Parameters
    ----------
    settings : HeadSettings
        Its shape.
    in_dim : int
        Channels of an encoder level.
    classes : int
        K.
    descriptions : int
        D, descriptions a class.
    text_features : Tensor of float, shape (K * D, text_dim)
        One a description, class by class.

    Raises
    ------
    ValueError
        If the text features have another shape.
    """

    def __init__(
        self, settings: HeadSettings, in_dim: int, classes: int, descriptions: int, text_features: Tensor
    ) -> None:
        super().__init__()
        expected = (classes * descriptions, settings.text_dim)
        if tuple(text_features.shape) != expected:
            raise ValueError(
                f"text features are {tuple(text_features.shape)}; {classes} classes x {descriptions} descriptions "
                f"of length {settings.text_dim} need {expected}"
            )
        self.settings = settings
        self.in_dim = in_dim
        self.classes = classes
        self.descriptions = descriptions
        self.bank = PrototypeBank(settings, text_features)
        self.refiner = Refiner(settings, in_dim)
        shapes = list(zip(settings.channels, settings.upsampling, strict=True))
        self.pyramid = nn.ModuleList(PyramidScale(settings, channels, factor) for channels, factor in shapes)
        self.project_prototypes = nn.ModuleList(
            nn.Linear(settings.prototype_dim, channels, bias=False) for channels in settings.channels
        )
        self.factors = nn.Parameter(torch.full((len(shapes),), INITIAL_SCALE))

    @property
    def upsampling(self) -> int:
        """Side of the map of :meth:`logits` as a multiple of the encoder's grid."""
        return max(self.settings.upsampling)

    def forward(self, levels: Sequence[Tensor]) -> HeadOutput:
        """Return scores at all scales.

        Parameters
        ----------
        levels : sequence of Tensor of float, shape (N, C, h, w)
            The encoder's, one a scale; C is in_dim, or less in shallow levels that have the first channels only.
        """
        prototypes = self.bank()
        maps = [self.prototype_scores(level, scale, prototypes) for scale, level in enumerate(self._matched(levels))]
        pooled = [scores.mean((2, 3)) for scores in maps]
        return HeadOutput([self._merge(m) for m in maps], [self._merge(p) for p in pooled], pooled, prototypes)

    def logits(self, levels: Sequence[Tensor]) -> Tensor:
        """Return the map.

        Parameters
        ----------
        levels : sequence of Tensor of float, shape (N, in_dim, h, w)
            The encoder's.

        Returns
        -------
        Tensor of float32, shape (N, K, h * upsampling, w * upsampling)
            With ``map="finest"`` the scores of the last scale of the largest size, and nothing else is computed;
            with ``map="mean"`` the mean of all scales brought to that size.
        """
        return self.map_and_presence(levels)[0]

    def map_and_presence(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the map of :meth:`logits`, and the class scores of the whole window.

        Returns
        -------
        logits : Tensor of float32, shape (N, K, h * upsampling, w * upsampling)
        pooled : Tensor of float32, shape (N, K)
            As in :class:`HeadOutput`, mean over the scales of the map.
        """
        prototypes = self.bank()
        matched = self._matched(levels)
        factors = self.settings.upsampling
        scales = list(range(len(factors)))
        if self.settings.map == "finest":
            scales = [max(scales, key=lambda scale: (factors[scale], scale))]
        maps = [self.prototype_scores(matched[scale], scale, prototypes) for scale in scales]
        pooled = [self._merge(scores.mean((2, 3))) for scores in maps]
        enlarged = [
            enlarge(self._merge(scores), self.upsampling / factors[scale])
            for scores, scale in zip(maps, scales, strict=True)
        ]
        return torch.stack(enlarged).mean(0), torch.stack(pooled).mean(0)

    def prototype_scores(self, level: Tensor, scale: int, prototypes: Tensor) -> Tensor:
        """Return one scale's scores of all prototypes, float32 (N, P, H, W)."""
        features = self.pyramid[scale](self.refiner(level))
        with torch.autocast(features.device.type, enabled=False):
            projected = F.normalize(self.project_prototypes[scale](prototypes.float()), dim=1)
            weight = (projected * self.factors[scale])[:, :, None, None]
            return F.conv2d(unit(features), weight)

    def _merge(self, scores: Tensor) -> Tensor:
        return merge_prototypes(scores, self.classes, self.settings.merge)

    def _matched(self, levels: Sequence[Tensor]) -> Sequence[Tensor]:
        scales = len(self.pyramid)
        channels = [level.shape[1] if level.ndim == 4 else 0 for level in levels]
        if len(levels) != scales or min(channels) == 0 or max(channels) != self.in_dim:
            raise ValueError(
                f"levels are {[tuple(level.shape) for level in levels]}; "
                f"the head needs {scales} of (N, {self.in_dim}, h, w)"
            )
        return levels
