"""Calibration from held-out patients' image-level labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dualproto_wsi.data.crops import ABSENT, UNKNOWN, CropGrid


def fit_temperature(maps: Sequence[Tensor], crops: Sequence[Sequence[CropGrid]], cell_px: int) -> float:
    """Fit the temperature at which places get probability only for classes that their crop holds.

    Minimises the mean over places of -log of the summed probability of the classes that are present in the crop around
    them, on the smallest crops; crops with a class unknown, and crops that hold every class or none, tell nothing and
    are left out. No bias per class is fitted: these labels do not say how much of a crop a class fills, so a bias would
    only follow how many crops hold each class.

    Parameters
    ----------
    maps : sequence of Tensor of float32, shape (K, h, w)
        Logits of held-out images.
    crops : sequence of sequence of CropGrid
        Their labelled crops.
    cell_px : int
        Side of a cell of the maps, px.

    Returns
    -------
    float
        To divide logits by; 1 if no crop tells anything.
    """
    parts = [
        _places(scores, min(grids, key=lambda g: g.size), cell_px) for scores, grids in zip(maps, crops, strict=True)
    ]
    logits, possible = (torch.cat(part) for part in zip(*parts, strict=True))
    if not len(logits):
        return 1.0
    log_temperature = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        log_probability = (logits / log_temperature.exp()).log_softmax(1)
        loss = -log_probability.masked_fill(~possible, -torch.inf).logsumexp(1).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return float(log_temperature.detach().exp())


def _places(scores: Tensor, grid: CropGrid, cell_px: int) -> tuple[Tensor, Tensor]:
    """Return logits (n, K) of every fourth cell in telling crops, and which classes are possible there (n, K)."""
    labels = torch.from_numpy(grid.labels)
    classes, rows, columns = labels.shape
    if not rows * columns:
        return torch.empty(0, classes), torch.empty(0, classes, dtype=torch.bool)
    cells, step = grid.size // cell_px, grid.step // cell_px
    patches = scores.unfold(1, cells, step).unfold(2, cells, step)[:, :rows, :columns, ::4, ::4].flatten(3)
    absent = labels == ABSENT
    tells = (labels != UNKNOWN).all(0) & absent.any(0) & ~absent.all(0)
    chosen = patches[:, tells]  # (K, crops, places)
    return chosen.permute(1, 2, 0).flatten(0, 1), ~absent[:, tells].T.repeat_interleave(chosen.shape[2], 0)
