"""The baseline: class activation maps of a linear classifier, without prototypes and without text.

Zhou et al., Learning Deep Features for Discriminative Localization, 2016: a classifier that is trained on averages over
the window is applied at each place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dualproto_wsi.model.head import HeadOutput
from dualproto_wsi.model.layers import PixelGroupNorm, enlarge
from dualproto_wsi.settings import HeadSettings


class CamHead(nn.Module):
    """A 1x1 convolution on the deepest level; used like :class:`~dualproto_wsi.model.head.DualProtoHead`.

    Channels are standardised at each place first: the raw outputs of a transformer's blocks differ in size by orders of
    magnitude.

    Parameters
    ----------
    settings : HeadSettings
        Only ``upsampling`` counts.
    in_dim : int
        Channels of the deepest level.
    classes : int
        K.
    """

    def __init__(self, settings: HeadSettings, in_dim: int, classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.in_dim = in_dim
        self.classes = classes
        self.norm = PixelGroupNorm(1, in_dim)
        self.classifier = nn.Conv2d(in_dim, classes, 1)

    @property
    def scales(self) -> tuple[int, ...]:
        """Side of the one map of :class:`~dualproto_wsi.model.head.HeadOutput`, in units of the encoder's grid: 1."""
        return (1,)

    @property
    def upsampling(self) -> int:
        """Side of the map of :meth:`logits` as a multiple of the encoder's grid."""
        return max(self.settings.upsampling)

    def forward(self, levels: Sequence[Tensor], text_features: Tensor | None = None) -> HeadOutput:
        """Return scores at one scale, the encoder's grid.

        Parameters
        ----------
        levels : sequence of Tensor of float, shape (N, C, h, w)
            The encoder's; the last is used.
        text_features : Tensor or None
            Not used: accepted so that all heads are called alike.

        Returns
        -------
        HeadOutput
            A class's weights count as its one prototype: ``prototypes`` is (K, in_dim).
        """
        scores = self._scores(levels)
        pooled = scores.mean((2, 3))
        return HeadOutput([scores], [pooled], [pooled], F.normalize(self.classifier.weight.flatten(1), dim=1))

    def logits(self, levels: Sequence[Tensor], text_features: Tensor | None = None) -> Tensor:
        """Return the map, float32 (N, K, h * upsampling, w * upsampling): the scores, enlarged."""
        return self.map_and_presence(levels, text_features)[0]

    def map_and_presence(self, levels: Sequence[Tensor], text_features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the map of :meth:`logits`, and the class scores of the whole window, float32 (N, K)."""
        return self.map_of(self.compared(levels))

    def compared(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return what the classifier is applied to: the deepest level."""
        return [self._deepest(levels)]

    def map_of(self, features: Sequence[Tensor], text_features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what :meth:`map_and_presence` does, from what :meth:`compared` returns."""
        scores = self._scores(features)
        return enlarge(scores, self.upsampling), scores.mean((2, 3))

    def trunk_hash(self) -> str:
        """Return what stands for "nothing between the encoder and the classifier"."""
        return "deepest level"

    def _scores(self, levels: Sequence[Tensor]) -> Tensor:
        scores: Tensor = self.classifier(self.norm(self._deepest(levels)))
        return scores.float()

    def _deepest(self, levels: Sequence[Tensor]) -> Tensor:
        if not levels or levels[-1].ndim != 4 or levels[-1].shape[1] != self.in_dim:
            raise ValueError(
                f"levels are {[tuple(level.shape) for level in levels]}; "
                f"the head needs the last to be (N, {self.in_dim}, h, w)"
            )
        return levels[-1]
