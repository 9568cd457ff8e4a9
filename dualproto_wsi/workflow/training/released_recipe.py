"""The training recipe of the released code of DualProtoSeg, to the letter.

What it trains: the context of the text prompts, the projection of text features, the image prototypes, the refiner, the
pyramid, the projections of the prototypes to the scales, and the scales' factors. Frozen: image encoder and text tower.
All of these parameters share one group: weight decay falls on norms, biases and factors too. Gradients are not clipped,
and there is no warm-up. First values: :func:`~dualproto_wsi.model.released.start_as_released`, context ``released``.

Its weakness: the mean over prototypes of averages over the window is, for each class, linear in the mean of the class's
prototypes (of length 1, at each scale). Prototypes of a class get the same gradient, whatever they show: they become
one.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualproto_wsi.model.head import HeadOutput
from dualproto_wsi.model.prototypes import merge_prototypes

LEARNING_RATE = 5e-5
WEIGHT_DECAY = 1e-3
EPOCHS = 20
BATCH_SIZE = 64


def released_loss(output: HeadOutput, labels: Tensor) -> Tensor:
    """Return the released loss.

    Prototype scores are averaged over the window, merged by their mean, whatever merge the head's settings name for
    inference, and compared with the image-level labels by binary cross entropy, mean over images and classes; summed
    over the scales, which count alike.

    Parameters
    ----------
    output : HeadOutput
    labels : Tensor, shape (N, K)
        1 where the image holds the class, else 0.

    Returns
    -------
    Tensor of float32, scalar
    """
    merged = [merge_prototypes(pooled, labels.shape[1], "mean") for pooled in output.prototype_pooled]
    return torch.stack([F.binary_cross_entropy_with_logits(m, labels.to(m)) for m in merged]).sum()


def released_optimiser(
    parameters: Iterable[nn.Parameter], steps: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """Return the released optimiser, and its schedule: the rate falls in a straight line.

    Parameters
    ----------
    parameters : iterable of Parameter
        Those of the head and of the text side.
    steps : int
        Of the whole training; step i, from 0, has the rate 5e-5 * (1 - i / steps).
    """
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.0, 1 - step / steps))
