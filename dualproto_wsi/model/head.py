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

from dualproto_wsi.model.cosine import enlarged_scores
from dualproto_wsi.model.encoder import hash_tensors
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
    def scales(self) -> tuple[int, ...]:
        """Side of the maps of each scale of :class:`HeadOutput` as a multiple of the encoder's grid."""
        return self.settings.upsampling

    @property
    def upsampling(self) -> int:
        """Side of the map of :meth:`logits` as a multiple of the encoder's grid."""
        return max(self.settings.upsampling)

    def forward(self, levels: Sequence[Tensor], text_features: Tensor | None = None) -> HeadOutput:
        """Return scores at all scales.

        Parameters
        ----------
        levels : sequence of Tensor of float, shape (N, C, h, w)
            The encoder's; n scales take the n deepest. C is in_dim, or less in shallow levels that have the first
            channels only.
        text_features : Tensor of float, shape (K * D, text_dim), or None
            Of a text side that is being trained; None: the bank's own.
        """
        prototypes = self.bank(text_features)
        maps = [self.prototype_scores(level, scale, prototypes) for scale, level in enumerate(self._matched(levels))]
        pooled = [scores.mean((2, 3)) for scores in maps]
        return HeadOutput([self._merge(m) for m in maps], [self._merge(p) for p in pooled], pooled, prototypes)

    def logits(self, levels: Sequence[Tensor], text_features: Tensor | None = None) -> Tensor:
        """Return the map.

        Parameters
        ----------
        levels, text_features
            As for :meth:`forward`.

        Returns
        -------
        Tensor of float32, shape (N, K, h * upsampling, w * upsampling)
            With ``map="finest"`` the scores of the last scale of the largest size, and nothing else is computed;
            with ``map="mean"`` the mean of all scales brought to that size.
        """
        return self.map_and_presence(levels, text_features)[0]

    def map_and_presence(self, levels: Sequence[Tensor], text_features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the map of :meth:`logits`, and the class scores of the whole window.

        Parameters
        ----------
        levels, text_features
            As for :meth:`forward`.

        Returns
        -------
        logits : Tensor of float32, shape (N, K, h * upsampling, w * upsampling)
        pooled : Tensor of float32, shape (N, K)
            As in :class:`HeadOutput`, mean over the scales of the map.
        """
        return self.map_of(self.compared(levels), text_features)

    @property
    def map_scales(self) -> tuple[int, ...]:
        """The scales that the map is made of."""
        factors = self.settings.upsampling
        scales = tuple(range(len(factors)))
        return scales if self.settings.map == "mean" else (max(scales, key=lambda scale: (factors[scale], scale)),)

    def compared(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return what prototypes are compared with, before it is enlarged.

        Parameters
        ----------
        levels : sequence of Tensor of float, shape (N, C, h, w)
            The encoder's, as for :meth:`forward`.

        Returns
        -------
        list of Tensor of float, shape (N, C_s, h, w)
            One for each of :attr:`map_scales`.
        """
        matched = self._matched(levels)
        found = []
        for scale in self.map_scales:
            pyramid = self.pyramid[scale]
            assert isinstance(pyramid, PyramidScale)
            found.append(pyramid.coarse(self.refiner(matched[scale])))
        return found

    def map_of(self, features: Sequence[Tensor], text_features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what :meth:`map_and_presence` does, from what :meth:`compared` returns."""
        prototypes = self.bank(text_features)
        found = [self._scale_map(f, scale, prototypes) for f, scale in zip(features, self.map_scales, strict=True)]
        maps, pooled = zip(*found, strict=True)
        return torch.stack(maps).mean(0), torch.stack(pooled).mean(0)

    def trunk_hash(self) -> str:
        """Return 16 hex digits that say how :meth:`compared` makes features from an encoder's levels."""
        settings = self.settings
        parts: dict[str, nn.Module] = {"refiner": self.refiner}
        parts |= {f"pyramid.{scale}": self.pyramid[scale] for scale in self.map_scales}
        named = [(f"{part}.{name}", t) for part, module in parts.items() for name, t in module.state_dict().items()]
        return hash_tensors(
            named, f"{settings.norm} {settings.refiner_groups} {settings.pyramid_groups} {len(self.pyramid)}"
        )

    def _scale_map(self, features: Tensor, scale: int, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """Return a scale's class scores at the size of the map, and those of the whole window."""
        factor = self.settings.upsampling[scale]
        with torch.autocast(features.device.type, enabled=False):
            weight = self._weight(scale, prototypes)
            if features.device.type == "cpu" and not (features.requires_grad or weight.requires_grad):
                scores, pooled = enlarged_scores(features, weight, factor, self.classes, self.settings.merge)
            else:
                places = _compare(enlarge(features, factor), weight)
                scores, pooled = self._merge(places), places.mean((2, 3))
            return enlarge(scores, self.upsampling / factor), self._merge(pooled)

    def prototype_scores(self, level: Tensor, scale: int, prototypes: Tensor) -> Tensor:
        """Return one scale's scores of all prototypes, float32 (N, P, H, W)."""
        features = self.pyramid[scale](self.refiner(level))
        with torch.autocast(features.device.type, enabled=False):
            return _compare(features, self._weight(scale, prototypes))

    def _weight(self, scale: int, prototypes: Tensor) -> Tensor:
        """Return the prototypes of a scale times its factor, float32 (P, C_s)."""
        return F.normalize(self.project_prototypes[scale](prototypes.float()), dim=1) * self.factors[scale]

    def _merge(self, scores: Tensor) -> Tensor:
        return merge_prototypes(scores, self.classes, self.settings.merge)

    def _matched(self, levels: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the deepest levels, as many as there are scales."""
        scales = len(self.pyramid)
        channels = [level.shape[1] if level.ndim == 4 else 0 for level in levels]
        if len(levels) < scales or min(channels) == 0 or max(channels) != self.in_dim:
            raise ValueError(
                f"levels are {[tuple(level.shape) for level in levels]}; "
                f"the head needs {scales} of (N, {self.in_dim}, h, w)"
            )
        return levels[-scales:]


def _compare(features: Tensor, weight: Tensor) -> Tensor:
    """Return cosines times the lengths of the weights, (N, P, H, W)."""
    return F.conv2d(unit(features), weight[:, :, None, None])
