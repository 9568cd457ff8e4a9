"""The bank of text and image prototypes, and how a class's prototypes become its score."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualproto_wsi.settings import HeadSettings


class PrototypeBank(nn.Module):
    """Prototypes of all classes, text and image ones interleaved: t0, i0, t1, i1 and so on.

    A text prototype is a projected text feature, an image prototype a learned vector.

    Parameters
    ----------
    settings : HeadSettings
        Dimensions, and which of the two kinds are in the bank.
    text_features : Tensor of float, shape (K * D, text_dim)
        One a description, class by class; stored, not trained. Training may pass others to :meth:`forward`.
    """

    text_features: Tensor

    def __init__(self, settings: HeadSettings, text_features: Tensor) -> None:
        super().__init__()
        count, dim = len(text_features), settings.prototype_dim
        self.register_buffer("text_features", text_features.float())
        self.project_text = nn.Linear(settings.text_dim, dim) if settings.text else None
        self.image = nn.Parameter(torch.randn(count, dim) / math.sqrt(dim)) if settings.image else None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of prototypes, in the order in which they alternate."""
        used = {"text": self.project_text is not None, "image": self.image is not None}
        return tuple(kind for kind, there in used.items() if there)

    def forward(self, text_features: Tensor | None = None) -> Tensor:
        """Return the bank, float32 (P, prototype_dim), rows of length 1; P = K * D * kinds.

        Parameters
        ----------
        text_features : Tensor of float, shape (K * D, text_dim), or None
            To use instead of the stored ones; gradients reach them.
        """
        kinds = []
        if self.project_text is not None:
            features = self.text_features if text_features is None else text_features
            kinds.append(F.normalize(self.project_text(features).float(), dim=1))
        if self.image is not None:
            kinds.append(F.normalize(self.image, dim=1))
        return torch.stack(kinds, dim=1).flatten(0, 1)


def merge_prototypes(scores: Tensor, classes: int, merge: str) -> Tensor:
    """Turn scores per prototype into scores per class.

    Parameters
    ----------
    scores : Tensor, shape (N, P) or (N, P, H, W)
        Prototypes class by class, equally many each.
    classes : int
        K.
    merge : str
        ``mean``; ``softmax``: the sum weighted by the softmax over the class's prototypes; ``logsumexp``: the smooth
        maximum, less log of the number of prototypes, so that equal scores stay what they are.

    Returns
    -------
    Tensor, shape (N, K) or (N, K, H, W)
    """
    grouped = scores.reshape(len(scores), classes, -1, *scores.shape[2:])
    if merge == "mean":
        return grouped.mean(2)
    if merge == "logsumexp":
        return grouped.logsumexp(2) - math.log(grouped.shape[2])
    return (grouped.softmax(2) * grouped).sum(2)
