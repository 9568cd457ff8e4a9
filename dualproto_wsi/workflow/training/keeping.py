"""What a model is not to forget: on images without a label its map stays as it was before, where that can be trusted.

Learning without forgetting (Li & Hoiem, ECCV 2016), place by place. One thing is not kept: places that look like those
where labels prove the first head wrong. Else it would be held to the mistake that it is to unlearn, for the images
without a label show more of the same tissue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from dualproto_wsi.model.heads import Head
from dualproto_wsi.workflow.training.features import FeatureCache, Features
from dualproto_wsi.workflow.training.objective import WindowCrops, change_loss, possible_classes
from dualproto_wsi.workflow.training.windows import Sample, WindowReader, batches, read_ahead

_BATCH = 16
_MOST = 512  # images that are looked at, of those with and of those without a label
_LEAST = 0.05  # share of all mistaken places below which a class's are chance


@dataclass(frozen=True, slots=True, eq=False)
class Keeper:
    """The first head, and how places look at which it is not to be trusted.

    Parameters
    ----------
    first : Head
        Frozen, in evaluation mode.
    centre, spread : Tensor of float32, shape (C, 1, 1)
        Mean and standard deviation of the encoder's deepest level on images without a label.
    mistaken : Tensor of float32, shape (K, C)
        Direction, from the centre, of places that the first head gives a class which labels rule out there; NaN for a
        class that it does not give wrongly.
    usual : Tensor of float32, shape (K, C)
        Direction of the places of each class on images without a label; NaN where there are none.
    """

    first: Head
    centre: Tensor
    spread: Tensor
    mistaken: Tensor
    usual: Tensor

    def loss(self, head: Head, levels: Sequence[Tensor], text_features: Tensor) -> Tensor:
        """Return how far the map is from the first head's, where that is trusted; other places count as 0."""
        with torch.no_grad():
            before = self.first.logits(levels)
            trusted = self.trusted(before, levels[-1])
        return change_loss(before, head.logits(levels, text_features), trusted)

    def trusted(self, before: Tensor, level: Tensor) -> Tensor:
        """Tell where the first head is to be trusted.

        Parameters
        ----------
        before : Tensor of float32, shape (N, K, H, W)
            Its map.
        level : Tensor of float32, shape (N, C, h, w)
            The encoder's deepest.

        Returns
        -------
        Tensor of bool, shape (N, H, W)
        """
        factor = before.shape[2] // level.shape[2]
        classes = _coarse(before, factor).argmax(1)
        looks = F.normalize((level - self.centre) / self.spread, dim=1)
        alike, usual = (torch.einsum("nchw,kc->nkhw", looks, means) for means in (self.mistaken, self.usual))
        wrong = (alike > usual).gather(1, classes[:, None])[:, 0]  # nothing is above NaN, and NaN above nothing
        return ~wrong.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


@torch.no_grad()
def make_keeper(
    features: Features, first: Head, samples: Sequence[Sample], cache: FeatureCache | None, threads: int
) -> Keeper | None:
    """Find out how places look at which the first head is wrong.

    Parameters
    ----------
    features : Features
    first : Head
        In evaluation mode, on the same device.
    samples : sequence of Sample
        All that is learned from.
    cache : FeatureCache or None
    threads : int
        That read images.

    Returns
    -------
    Keeper or None
        None if no image is without a label.
    """
    free = [sample for sample in samples if not sample.labelled][:_MOST]
    taught = [sample for sample in samples if sample.labelled and sample.whole][:_MOST]
    if not free:
        return None
    levels = torch.cat([places for _, places, _ in _places(features, first, free, cache, threads)])
    centre, spread = levels.mean(0), levels.std(0).clamp_min(1e-6)
    usual = _Directions(first.classes, centre, spread)
    for classes, places, _ in _places(features, first, free, cache, threads):
        usual.add(classes, places)
    mistaken = _Directions(first.classes, centre, spread)
    for classes, places, wrong in _places(features, first, taught, cache, threads):
        mistaken.add(classes[wrong], places[wrong])
    return Keeper(
        first.requires_grad_(False),
        centre[:, None, None],
        spread[:, None, None],
        mistaken.means(_LEAST),
        usual.means(0.0),
    )


class _Directions:
    """Mean directions of places, class by class."""

    def __init__(self, classes: int, centre: Tensor, spread: Tensor) -> None:
        self._centre, self._spread = centre, spread
        self._sums = centre.new_zeros(classes, len(centre))
        self._counts = centre.new_zeros(classes)

    def add(self, classes: Tensor, places: Tensor) -> None:
        """Take in places, (n, C), with the class that each is given, (n,)."""
        looks = F.normalize((places - self._centre) / self._spread, dim=1)
        self._sums.index_add_(0, classes, looks)
        self._counts.index_add_(0, classes, torch.ones_like(classes, dtype=looks.dtype))

    def means(self, least: float) -> Tensor:
        """Return them, (K, C); NaN for a class with less than a share of all places, or none."""
        enough = (self._counts > 0) & (self._counts >= least * self._counts.sum())
        return F.normalize(self._sums, dim=1).where(enough[:, None], torch.nan)


def _places(
    features: Features, first: Head, samples: Sequence[Sample], cache: FeatureCache | None, threads: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield, batch by batch, the places' class as the first head says, (n,), their looks, (n, C), and whether labels
    rule the class out there, (n,).
    """
    reader = WindowReader(samples, 0)
    groups = batches(range(len(samples)), lambda i: samples[i].side, _BATCH)
    reading = [
        [partial(cache.read, samples[i], 0) if cache else partial(_window, reader, i) for i in group]
        for group in groups
    ]
    for group, loaded in zip(groups, read_ahead(reading, threads), strict=True):
        if cache:
            levels = [torch.stack(level).to(features.device).float() for level in zip(*loaded, strict=True)]
        else:
            levels = features.encode(torch.stack([window for (window,) in loaded]))
        level, logits = levels[-1], first.logits(levels)
        classes = _coarse(logits, logits.shape[2] // level.shape[2]).argmax(1)
        possible = torch.stack([_possible(samples[i], level.shape[2:], features.encoder.grid_px) for i in group])
        wrong = ~possible.to(classes.device).gather(1, classes[:, None])[:, 0]
        yield classes.flatten(), level.movedim(1, -1).flatten(0, -2), wrong.flatten()


def _window(reader: WindowReader, position: int) -> list[Tensor]:
    return [reader.window(position, (0, 0))]


def _possible(sample: Sample, shape: Sequence[int], cell_px: int) -> Tensor:
    placed = [WindowCrops.place(grid, (0, 0), shape, cell_px) for grid in sample.crops]
    return torch.stack([possible_classes(crops, shape) for crops in placed]).all(0)


def _coarse(logits: Tensor, factor: int) -> Tensor:
    return F.avg_pool2d(logits, factor)
