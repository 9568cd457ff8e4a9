"""Calibration from held-out patients' image-level labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dualproto_wsi.data.crops import ABSENT, CropGrid


def fit_calibration(
    maps: Sequence[Tensor], crops: Sequence[Sequence[CropGrid]], cell_px: int
) -> tuple[float, list[float]]:
    """Fit a temperature and a bias per class so that places get probability only for classes that their crop holds.

    Minimises the mean over places of -log of the summed probability of the classes that are present in the smallest
    crop around it; crops with a class unknown, and crops that hold every class, tell nothing and are left out.

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
    temperature : float
    bias : list of float
        To add to logits / temperature; sums to 0.
    """
    logits, possible = _places(maps, crops, cell_px)
    classes = maps[0].shape[0]
    if not len(logits):
        return 1.0, [0.0] * classes
    log_temperature = torch.zeros((), requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        log_probability = (logits / log_temperature.exp() + bias).log_softmax(1)
        loss = -log_probability.masked_fill(~possible, -torch.inf).logsumexp(1).mean() + 1e-4 * bias.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    centred = (bias - bias.mean()).detach()
    return float(log_temperature.detach().exp()), [float(value) for value in centred]


def _places(maps: Sequence[Tensor], crops: Sequence[Sequence[CropGrid]], cell_px: int) -> tuple[Tensor, Tensor]:
    logits, possible = [], []
    for scores, grids in zip(maps, crops, strict=True):
        if not grids:
            continue
        grid = min(grids, key=lambda g: g.size)
        cells, step = grid.size // cell_px, grid.step // cell_px
        patches = scores.unfold(1, cells, step).unfold(2, cells, step)[..., ::4, ::4].flatten(3)
        labels = torch.from_numpy(grid.labels)
        patches = patches[:, : labels.shape[1], : labels.shape[2]]
        tells = (labels >= 0).all(0) & (labels == ABSENT).any(0) & (labels != ABSENT).any(0)
        chosen = patches[:, tells]  # (K, crops, places)
        logits.append(chosen.permute(1, 2, 0).flatten(0, 1))
        possible.append((labels != ABSENT)[:, tells].T.repeat_interleave(chosen.shape[2], 0))
    if not logits:
        return torch.empty(0, 0), torch.empty(0, 0, dtype=torch.bool)
    return torch.cat(logits), torch.cat(possible)
