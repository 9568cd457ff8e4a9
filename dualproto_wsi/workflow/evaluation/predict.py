"""Maps of whole images, of any size, and what the model says of the classes they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dualproto_wsi.model.released import released_probabilities
from dualproto_wsi.model.segmenter import DualProtoSegmenter
from dualproto_wsi.vector.mosaic import ScoreMosaic
from dualproto_wsi.workflow.training.windows import pad

MOST_WINDOWS = 2.0
"""An image with a side longer than so many windows is cut into windows that overlap."""

OVERLAP = 0.125
"""Share of a window's side that its neighbour sees too, as on slides."""

Maps = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a model says of an image.

    Parameters
    ----------
    scores : ndarray of float32, shape (K, h, w)
        The head's, before calibration.
    plain, gated : ndarray of float32, shape (K, h, w)
        Calibrated probabilities of each cell, without the presence gate and with it at strength 1.
    presence : ndarray of float32, shape (K,)
        Probability that the image holds each class; of an image in several windows, the largest of these.
    """

    scores: Maps
    plain: Maps
    gated: Maps
    presence: NDArray[np.float32]

    def probabilities(self, gate: str, present: NDArray[np.bool_]) -> Maps:
        """Return the probabilities of each cell under a gate, float32 (K, h, w).

        Parameters
        ----------
        gate : str
            Of :data:`~dualproto_wsi.settings.evaluate.GATES`.
        present : ndarray of bool, shape (K,)
            The classes that the image holds in truth, or may hold. ``oracle`` sets all others to 0; the rest sums to 1.
        """
        if gate != "oracle":
            return self.gated if gate == "predicted" else self.plain
        kept = self.plain * present[:, None, None]
        return np.asarray(kept / np.maximum(kept.sum(0), np.finfo(np.float32).tiny), np.float32)

    def released(self, gate: str, present: NDArray[np.bool_]) -> Maps:
        """Return the probabilities that the published code would, background last: float32 (K + 1, h, w)."""
        labels = {"none": np.ones(len(present)), "oracle": present, "predicted": self.presence}[gate]
        factors = torch.from_numpy(labels.astype(np.float32))[None]
        return np.asarray(released_probabilities(torch.from_numpy(self.scores)[None], factors)[0].numpy(), np.float32)


@torch.inference_mode()
def predict_images(model: DualProtoSegmenter, images: Tensor, tta: bool) -> Iterator[dict[bool, Prediction]]:
    """Predict images of one size.

    Borders on the right and below are mirrored up to a multiple of the encoder's step; cells there are in the result.

    Parameters
    ----------
    model : DualProtoSegmenter
        Its own gate is not asked.
    images : Tensor of float32, shape (N, 3, H, W)
        RGB, 0…1, at the model's resolution.
    tta : bool
        Whether the means over eight orientations are wanted, too.

    Yields
    ------
    dict of bool to Prediction
        For each image, without (False) and, if wanted, with (True) the orientations.
    """
    images = pad(images, model.encoder.step_px).to(model.bias.device)
    first = _predict(model, images)
    if not tta:
        for one in range(len(images)):
            yield {False: _to_prediction(first, one)}
        return
    total = first
    for turns, mirrored in [(t, m) for t in range(4) for m in (False, True)][1:]:
        turned = torch.rot90(images.flip(3) if mirrored else images, turns, (2, 3)).contiguous()
        total = [a + _turn_back(b, turns, mirrored) for a, b in zip(total, _predict(model, turned), strict=True)]
    mean = [values / 8 for values in total]
    for one in range(len(images)):
        yield {False: _to_prediction(first, one), True: _to_prediction(mean, one)}


def _turn_back(values: Tensor, turns: int, mirrored: bool) -> Tensor:
    if values.ndim < 4:
        return values
    back = torch.rot90(values, -turns, (2, 3))
    return back.flip(3) if mirrored else back


def _to_prediction(parts: Sequence[Tensor], one: int) -> Prediction:
    return Prediction(*(part[one].numpy() for part in parts))


def _predict(model: DualProtoSegmenter, images: Tensor) -> list[Tensor]:
    """Return scores, plain and gated probabilities (N, K, h, w) and presence (N, K), on the CPU."""
    if max(images.shape[2:]) > MOST_WINDOWS * model.window_px:
        found = [_predict_in_windows(model, image) for image in images]
        scores, gate, presence = (torch.stack(part) for part in zip(*found, strict=True))
    else:
        scores, presence = score_window(model, images)
        gate = _gate(model, presence)[:, :, None, None]
    logits = scores / model.temperature.cpu() + model.bias.cpu()
    return [scores, logits.softmax(1), (logits + gate).softmax(1), presence.sigmoid()]


def score_window(model: DualProtoSegmenter, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the head's scores (N, K, h, w) and the calibrated logits of the presence (N, K), float32, on the CPU."""
    scores, pooled = model.head.map_and_presence(model.encoder.encode(images))
    presence = model.card.gate.scale * pooled.float() + model.presence_bias
    return scores.float().cpu(), presence.cpu()


def _gate(model: DualProtoSegmenter, presence: Tensor) -> Tensor:
    """Return what the gate adds to the logits at strength 1; the model's own strength is left aside."""
    return F.logsigmoid(presence).clamp_min(model.card.gate.floor)


def _predict_in_windows(model: DualProtoSegmenter, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores and what the gate adds (K, h, w), blended as on slides, and the largest presence (K,)."""
    window, cell = model.window_px, model.stride_px
    rows, columns = (size // cell for size in image.shape[1:])
    padded = pad(image[None], model.encoder.step_px, least=window)
    classes = len(model.classes)
    mosaic = ScoreMosaic(columns, rows, 2 * classes, window // cell)
    presences = []
    for top in _starts(padded.shape[2], window, cell):
        for left in _starts(padded.shape[3], window, cell):
            scores, presence = score_window(model, padded[:, :, top : top + window, left : left + window])
            gate = _gate(model, presence)[0][:, None, None].expand(scores.shape[1:])
            mosaic.add(top // cell, left // cell, torch.cat((scores[0], gate)).numpy())
            presences.append(presence[0])
    blended = torch.from_numpy(mosaic.release(rows)[1])
    return blended[:classes], blended[classes:], torch.stack(presences).amax(0)


def _starts(size: int, window: int, cell: int) -> list[int]:
    """Return where windows begin along a side, px, multiples of a cell: evenly, overlapping, the last at the end."""
    count = 1 + -(-(size - window) // int(window * (1 - OVERLAP)))
    places = np.linspace(0, (size - window) // cell, count).round().astype(int) * cell
    return [int(place) for place in places]
