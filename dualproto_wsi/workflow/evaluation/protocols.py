"""From what a model says of an image to labels, by a protocol that is always named."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dualproto_wsi.data.images import ABSENT
from dualproto_wsi.settings import EvaluateSettings, RefineSettings, TissueSettings
from dualproto_wsi.slide.tissue import tissue_colours
from dualproto_wsi.workflow.evaluation.predict import Maps, Prediction
from dualproto_wsi.workflow.evaluation.truth import Sample
from dualproto_wsi.workflow.mapping.refine import build_refiner

THUMBNAIL_MPP = TissueSettings().mpp
"""Resolution at which glass is told from tissue, as on slides, µm per px."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """How labels are made and which places count; every figure names it.

    Parameters
    ----------
    gate, background : str
        Of :data:`~dualproto_wsi.settings.evaluate.GATES` and :data:`~dualproto_wsi.settings.evaluate.BACKGROUNDS`.
    tta : bool
        Whether probabilities are means over eight orientations.
    refine : str
        ``none``, ``fast`` or ``crf``.
    """

    gate: str = "none"
    background: str = "excluded"
    tta: bool = False
    refine: str = "none"

    @property
    def calibrated(self) -> bool:
        """Whether labels come from the calibrated probabilities themselves."""
        return self.refine == "none" and self.background != "released"


def list_protocols(settings: EvaluateSettings, masks: bool) -> list[Protocol]:
    """Return all combinations that the settings ask for, for data with masks or without."""
    backgrounds = settings.backgrounds or (("excluded", "glass") if masks else ("excluded",))
    orientations = (False, True) if settings.tta else (False,)
    return [Protocol(*values) for values in product(settings.gates, backgrounds, orientations, settings.refiners)]


class Labeller:
    """Makes the labels of one image by any protocol.

    Parameters
    ----------
    sample : Sample
    predictions : dict of bool to Prediction
        Without and with test-time augmentation.
    cell_px : int
        Side of a cell, model px.
    mpp : float
        µm per model px.
    preset : str
        Parameters of the refiners.
    device : torch.device
        Where ``fast`` runs.
    """

    def __init__(
        self,
        sample: Sample,
        predictions: dict[bool, Prediction],
        cell_px: int,
        mpp: float,
        preset: str,
        device: torch.device,
    ) -> None:
        self._sample, self._predictions, self._cell_px, self._mpp = sample, predictions, cell_px, mpp
        self._preset, self._device = preset, device
        self._present = sample.image.labels != ABSENT  # a class of which nothing is known may be there
        self._glass: NDArray[np.bool_] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the map."""
        height, width = self._predictions[False].plain.shape[1:]
        return height, width

    def probabilities(self, protocol: Protocol) -> Maps:
        """Return what labels are made of, before any refinement: float32 (K, h, w), (K + 1, …) for ``released``."""
        prediction = self._predictions[protocol.tta]
        if protocol.background == "released":
            return prediction.released(protocol.gate, self._present)
        return prediction.probabilities(protocol.gate, self._present)

    def labels(self, protocol: Protocol) -> NDArray[np.uint8]:
        """Return the label of each cell, uint8 (h, w): 0…K-1, K for background."""
        scores = self.probabilities(protocol)
        classes = len(self._present)
        if protocol.refine != "none":
            scores = self._refine(scores, protocol.refine)
            if protocol.gate == "oracle":  # the refiners give every class some probability
                scores[:classes] *= self._present[:, None, None]
        labels: NDArray[np.uint8] = scores.argmax(0).astype(np.uint8)
        if protocol.background == "glass":  # and where the oracle says that the image holds none of the classes
            labels[self._find_glass() | (scores.max(0) == 0)] = classes
        return labels

    def _refine(self, scores: Maps, method: str) -> Maps:
        """Return refined scores; each image is refined as a whole, glass included."""
        colours = self._mean_colours()
        settings = RefineSettings(method, self._preset)
        refiner = build_refiner(settings, self._device, self._cell_px, colours.reshape(-1, 3))
        if refiner is None:
            return scores.copy()
        return refiner.refine(scores, np.ones(self.shape, np.bool_), colours)

    def _mean_colours(self) -> NDArray[np.uint8]:
        height, width = self.shape
        pixels = self._sample.pixels
        below, right = height * self._cell_px - len(pixels), width * self._cell_px - pixels.shape[1]
        padded = cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REFLECT_101)
        return np.asarray(cv2.resize(padded, (width, height), interpolation=cv2.INTER_AREA), np.uint8)

    def _find_glass(self) -> NDArray[np.bool_]:
        if self._glass is None:
            height, width = self._sample.pixels.shape[:2]
            small = tuple(max(1, round(side * self._mpp / THUMBNAIL_MPP)) for side in (width, height))
            thumbnail = cv2.resize(self._sample.pixels, small, interpolation=cv2.INTER_AREA)
            tissue = tissue_colours(np.asarray(thumbnail, np.uint8), THUMBNAIL_MPP)
            middles = [(np.arange(count) + 0.5) * self._cell_px for count in self.shape]
            rows, columns = (
                np.minimum((middle / side * length).astype(np.int64), length - 1)
                for middle, side, length in zip(middles, (height, width), tissue.shape, strict=True)
            )
            self._glass = np.asarray(~tissue[rows[:, None], columns[None, :]])
        return self._glass
