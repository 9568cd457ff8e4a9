"""Collects the figures of a model over images, for every protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.stats.bootstrap import bootstrap_intervals
from dualproto_wsi.stats.boundary import TrueBoundaries, mean_over_images
from dualproto_wsi.stats.calibration import CalibrationTally
from dualproto_wsi.stats.metrics import ConfusionMatrix, by_class, measure, plain
from dualproto_wsi.stats.small_regions import SmallRegions, recall_of
from dualproto_wsi.workflow.evaluation.protocols import Labeller, Protocol
from dualproto_wsi.workflow.evaluation.truth import Truth

BACKGROUND_NAME = "Background"


@dataclass(slots=True, eq=False)
class Scores:
    """The figures of one model by one protocol.

    Parameters
    ----------
    title : str
        Which model.
    protocol : Protocol
    classes : tuple of str
        The K classes.
    counts : list of ndarray of int64, (C, C)
        Confusion matrix of each image; C is K, or K + 1 where background counts.
    maps : list of ndarray of uint8, (h, w)
        Labels of the cells of each image, where they were to be kept.
    calibration : CalibrationTally or None
        At labelled pixels or points of the K classes; None where the labels come from something else than calibrated
        probabilities.
    boundaries : list of ndarray of float64, (K,)
        Boundary F1 of each image with a mask.
    small, small_found : ndarray of int64, shape (K,)
        Small regions of each class, and how many were found.
    intervals : dict of str to ndarray
        See :func:`~dualproto_wsi.stats.bootstrap.bootstrap_intervals`; empty until asked for.
    """

    title: str
    protocol: Protocol
    classes: tuple[str, ...]
    counts: list[NDArray[np.int64]] = field(default_factory=list)
    maps: list[NDArray[np.uint8]] = field(default_factory=list)
    calibration: CalibrationTally | None = None
    boundaries: list[NDArray[np.float64]] = field(default_factory=list)
    small: NDArray[np.int64] = field(init=False)
    small_found: NDArray[np.int64] = field(init=False)
    intervals: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.small, self.small_found = np.zeros((2, len(self.classes)), np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes of the confusion matrix."""
        return self.classes if self.protocol.background == "excluded" else (*self.classes, BACKGROUND_NAME)

    @property
    def matrix(self) -> ConfusionMatrix:
        """Pooled over the images."""
        matrix = ConfusionMatrix(self.names, len(self.classes))
        matrix.counts += np.sum(self.counts, axis=0, dtype=np.int64) if self.counts else 0
        return matrix

    @property
    def boundary(self) -> NDArray[np.float64]:
        """Boundary F1 of each class, float64 (K,); NaN without masks."""
        return mean_over_images(self.boundaries, len(self.classes))

    def add_intervals(self, patients: Sequence[str], samples: int, seed: int) -> None:
        """Find intervals by drawing patients, one named for each image."""
        if self.counts:
            counts = np.stack(self.counts)
            self.intervals = bootstrap_intervals(counts, patients, len(self.classes), samples, seed)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; undefined is None."""
        protocol = self.protocol
        data: dict[str, Any] = {
            "model": self.title,
            "gate": protocol.gate,
            "background": protocol.background,
            "tta": protocol.tta,
            "refine": protocol.refine,
            **self.matrix.to_json(),
        }
        if self.calibration:
            data["expected_calibration_error"] = plain(self.calibration.expected_calibration_error)
            data["log_loss"], data["brier"] = plain(self.calibration.log_loss), plain(self.calibration.brier)
        if self.boundaries:
            data["mean_boundary_f1"] = plain(self.boundary.mean())
            data["boundary_f1"] = by_class(self.classes, self.boundary)
            data["small_regions"] = dict(zip(self.classes, self.small.tolist(), strict=True))
            data["small_region_recall"] = by_class(self.classes, recall_of(self.small_found, self.small))
        if self.intervals:
            data["intervals"] = {
                name: [plain(v) for v in limits]
                if limits.ndim == 1
                else {n: [plain(v) for v in pair] for n, pair in zip(self.names, limits.T, strict=True)}
                for name, limits in self.intervals.items()
            }
        return data


class ScoreBoard:
    """The scores of a model by all protocols, collected image by image.

    Parameters
    ----------
    title : str
    protocols : sequence of Protocol
    classes : tuple of str
    tolerance_px, small_px : float
        Distance at which boundaries meet, px, and area below which regions are small, px², of the images on disk.
    keep_maps : bool
        Whether the labels by the first protocol are kept.
    """

    def __init__(
        self,
        title: str,
        protocols: Sequence[Protocol],
        classes: tuple[str, ...],
        tolerance_px: float,
        small_px: float,
        keep_maps: bool,
    ) -> None:
        self.rows = [
            Scores(title, protocol, classes, calibration=CalibrationTally() if protocol.calibrated else None)
            for protocol in protocols
        ]
        self._classes, self._keep_maps = len(classes), keep_maps
        self._tolerance_px, self._small_px = tolerance_px, small_px

    def add(self, labeller: Labeller, truth: Truth) -> None:
        """Score one image by every protocol."""
        measures = _MaskMeasures(truth, self._classes, self._tolerance_px, self._small_px)
        for row in self.rows:
            labels = labeller.labels(row.protocol)
            row.counts.append(count_cells(truth.cells[: len(row.names)], labels))
            if row.calibration:
                places = truth.cells[: self._classes].reshape(self._classes, -1)
                row.calibration.add(labeller.probabilities(row.protocol).reshape(self._classes, -1), places)
            measures.add(row, labels)
        if self._keep_maps:
            self.rows[0].maps.append(labeller.labels(self.rows[0].protocol))


class _MaskMeasures:
    """What only a mask can tell, of one image; its own part is done once for all protocols."""

    def __init__(self, truth: Truth, classes: int, tolerance_px: float, small_px: float) -> None:
        self._truth, self._classes, self._tolerance_px = truth, classes, tolerance_px
        self._boundaries: dict[bool, TrueBoundaries] = {}
        self._small = SmallRegions(truth.mask, classes, small_px) if truth.mask is not None else None

    def add(self, row: Scores, labels: NDArray[np.uint8]) -> None:
        """Add them to the scores by a protocol that gave these labels, uint8 (h, w)."""
        if self._truth.mask is None or self._small is None:
            return
        pixels = self._truth.to_pixels(labels)
        counted = row.protocol.background != "excluded"
        if counted not in self._boundaries:
            labelled = self._truth.mask < len(row.names)
            self._boundaries[counted] = TrueBoundaries(self._truth.mask, labelled, self._classes, self._tolerance_px)
        row.boundaries.append(self._boundaries[counted].score(pixels))
        row.small += self._small.counts
        row.small_found += self._small.found(pixels)


def count_cells(truth: NDArray[np.int64], labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the confusion matrix of labelled cells.

    Parameters
    ----------
    truth : ndarray of int64, shape (C, h, w)
        Labelled places of each class in each cell.
    labels : ndarray of uint8, shape (h, w)
        0…C-1.

    Returns
    -------
    ndarray of int64, shape (C, C)
        ``[t, p]``: truth t, prediction p.
    """
    classes = len(truth)
    rows = [np.bincount(labels.ravel(), row.ravel(), classes) for row in truth]
    return np.array(rows).astype(np.int64)


def accuracy_of(counts: NDArray[np.int64]) -> float:
    """Return the share on the diagonal; NaN without a place."""
    return float(measure(counts, len(counts))["accuracy"])
