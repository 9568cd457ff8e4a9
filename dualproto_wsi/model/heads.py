"""Heads by their settings, and what can be told of any of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dualproto_wsi.model.cam import CamHead
from dualproto_wsi.model.head import DualProtoHead
from dualproto_wsi.settings import HeadSettings

Head = DualProtoHead | CamHead
"""What turns an encoder's levels into class scores."""

CLASS_TENSORS = ("bank.image", "bank.text_features", "classifier.weight", "classifier.bias")
"""Tensors of heads whose rows go class by class."""


def build_head(
    settings: HeadSettings, in_dim: int, classes: int, descriptions: int, text_features: Tensor | None = None
) -> Head:
    """Build a head of the kind that its settings name.

    Parameters
    ----------
    settings : HeadSettings
    in_dim : int
        Channels of the encoder's deepest level.
    classes, descriptions : int
        K, and D, descriptions a class.
    text_features : Tensor of float, shape (K * D, text_dim), or None
        One a description, class by class; None: zeros, to be loaded or passed later.

    Raises
    ------
    ValueError
        If the text features have another shape.
    """
    if settings.kind == "cam":
        return CamHead(settings, in_dim, classes)
    if text_features is None:
        text_features = torch.zeros(classes * descriptions, settings.text_dim)
    return DualProtoHead(settings, in_dim, classes, descriptions, text_features)


@torch.no_grad()
def prototype_cosines(head: Head, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return how alike the prototypes of each class are: 1 where they have become one (collapse), 0 at right angles.

    Parameters
    ----------
    head : Head
    names : sequence of str
        The K classes.

    Returns
    -------
    dict
        For each class the cosines between different prototypes of it: ``mean`` and ``max`` over all pairs, and the mean
        over the pairs of ``text`` and of ``image`` prototypes, where the class has two and more. Empty for a head with
        one prototype a class.
    """
    if isinstance(head, CamHead):
        return {}
    prototypes, kinds = head.bank().float(), head.bank.kinds
    found: dict[str, dict[str, float]] = {}
    for name, own in zip(names, prototypes.chunk(head.classes), strict=True):
        pairs = _pair_cosines(own)
        if not len(pairs):
            continue
        found[name] = {"mean": round(float(pairs.mean()), 4), "max": round(float(pairs.max()), 4)}
        for place, kind in enumerate(kinds):
            pairs = _pair_cosines(own[place :: len(kinds)])
            if len(pairs):
                found[name][kind] = round(float(pairs.mean()), 4)
    return found


def _pair_cosines(rows: Tensor) -> Tensor:
    """Return the products of all pairs of different rows of length 1."""
    first, second = torch.triu_indices(len(rows), len(rows), offset=1).unbind()
    return (rows @ rows.T)[first, second]
