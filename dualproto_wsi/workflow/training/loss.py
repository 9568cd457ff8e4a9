"""The loss of a step: all terms that the settings ask for, on the windows of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dualproto_wsi.data.augment import orient_back
from dualproto_wsi.model.heads import Head
from dualproto_wsi.settings import ObjectiveSettings
from dualproto_wsi.workflow.training.features import Features
from dualproto_wsi.workflow.training.keeping import Keeper
from dualproto_wsi.workflow.training.objective import (
    WindowCrops,
    absence_loss,
    consistency_loss,
    crop_loss,
    diversity_loss,
    possible_classes,
)
from dualproto_wsi.workflow.training.windows import Sample, Step

TERMS = ("loss", "crops", "absence", "diversity", "steadiness", "keep")
"""The loss, and what it is the weighted sum of."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What the loss is taken on.

    Parameters
    ----------
    samples : sequence of Sample
        One a window.
    step : Step
        Where the windows lie and how they are turned.
    images : Tensor of float32, shape (N, 3, side, side), or None
        The windows as the encoder saw them; None where its levels were kept from before.
    levels : list of Tensor of float32, shape (N, C, h, w)
        The encoder's.
    share : float
        Of the step's windows that are in this batch; the others are in other processes'.
    """

    samples: Sequence[Sample]
    step: Step
    images: Tensor | None
    levels: list[Tensor]
    share: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """What is minimised.

    Parameters
    ----------
    settings : ObjectiveSettings
    weights : Tensor of float32, shape (sizes, K)
        Of crops that hold a class, as of :func:`~dualproto_wsi.workflow.training.objective.class_weights`.
    features : Features
        The encoder; it sees the moved windows.
    keeper : Keeper or None
        Keeps the map on images without a label; None: nothing is to stay.
    keep : float
        Weight of that term.
    """

    settings: ObjectiveSettings
    weights: Tensor
    features: Features
    keeper: Keeper | None = None
    keep: float = 0.0

    def __call__(self, head: Head, text_features: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of :data:`TERMS`, scalars; gradients flow from ``loss``.

        Terms are this batch's share, so that those of all processes add up to the step's. The absence term weighs
        places by how many in the batch are alike: shared among processes it is the mean of their own.
        """
        output = head(batch.levels, text_features)
        scales = [self._scale(scores, batch, factor) for scores, factor in zip(output.scores, head.scales, strict=True)]
        crops, absence, both = (torch.stack(parts) for parts in zip(*scales, strict=True))
        loss = both.sum() if self.settings.scales == "sum" else both.mean()
        terms = {"crops": crops.mean(), "absence": absence.mean()}
        if self.settings.diversity:
            terms["diversity"] = diversity_loss(output.prototypes, head.classes)
            loss = loss + self.settings.diversity * terms["diversity"]
        if self.keeper:
            terms["keep"] = _change(self.keeper, head, text_features, batch)
            loss = loss + self.keep * terms["keep"]
        loss = loss * batch.share
        terms = {name: term * batch.share for name, term in terms.items()}
        if batch.step.shift:  # of one window of the step, which one process has
            terms["steadiness"] = self._shift(head, text_features, batch)
            loss = loss + self.settings.steadiness * terms["steadiness"]
        zero = loss.new_zeros(())
        return {name: terms.get(name, zero) for name in TERMS} | {"loss": loss}

    def _scale(self, scores: Tensor, batch: Batch, factor: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the crops' term, the absence term, and the weighted sum of both, of one scale."""
        maps = _turn_back(scores, batch.step.orientations)
        shape, cell_px = maps.shape[2:], self.features.encoder.grid_px // factor
        placed = [
            [WindowCrops.place(grid, origin, shape, cell_px) for grid in sample.crops]
            for sample, origin in zip(batch.samples, batch.step.origins, strict=True)
        ]
        sharpness = self.settings.sharpness if self.settings.pooling == "logmeanexp" else None
        pooled = [crop_loss(one, crops, sharpness, self.weights) for one, crops in zip(maps, placed, strict=True)]
        crops_term = torch.stack(pooled).mean()
        if not self.settings.absence:
            return crops_term, crops_term.new_zeros(()), crops_term
        smallest = [min(crops, key=lambda c: c.size) for crops in placed]
        possible = torch.stack([possible_classes(crops, shape) for crops in smallest]).to(maps.device)
        absence = absence_loss(maps, possible, self.settings.balance)
        return crops_term, absence, crops_term + self.settings.absence * absence

    def _shift(self, head: Head, text_features: Tensor, batch: Batch) -> Tensor:
        """Return how much the map of the first window changes when it moves by less than the encoder's step."""
        assert batch.images is not None  # settings refuse kept levels together with this term
        image, step_px = batch.images[:1], self.features.encoder.step_px
        still = head.logits([level[:1] for level in batch.levels], text_features)
        cell_px = image.shape[2] // still.shape[2]
        down, right = divmod(batch.step.shift, step_px // cell_px)
        side = image.shape[2] // 2 // step_px * step_px  # a quarter of the window is enough to learn from
        cells = side // cell_px
        window = image[:, :, down * cell_px :, right * cell_px :][:, :, :side, :side]
        moved = head.logits(self.features.encode(window), text_features)
        inner = slice(cells // 6, cells - cells // 6)  # places near the border see the window's end
        still = still[:, :, down : down + cells, right : right + cells]
        return consistency_loss(still[:, :, inner, inner], moved[:, :, inner, inner])


def _turn_back(maps: Tensor, orientations: Sequence[int]) -> Tensor:
    if len(set(orientations)) == 1:
        return orient_back(maps, orientations[0])
    return torch.stack([orient_back(one, orientation) for one, orientation in zip(maps, orientations, strict=True)])


def _change(keeper: Keeper, head: Head, text_features: Tensor, batch: Batch) -> Tensor:
    """Return the keeper's loss on the images without a label; others add 0 to the mean."""
    free = [i for i, sample in enumerate(batch.samples) if not sample.labelled]
    if not free:
        return batch.levels[0].new_zeros(())
    return keeper.loss(head, [level[free] for level in batch.levels], text_features) * (len(free) / len(batch.samples))
