"""What an evaluation found, as plain data and as a table."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.data.images import LabelledImage
from dualproto_wsi.errors import OutputError
from dualproto_wsi.files import replacing
from dualproto_wsi.settings import EvaluateSettings, to_data
from dualproto_wsi.stats.metrics import by_class
from dualproto_wsi.stats.presence import PresenceScores
from dualproto_wsi.workflow.batch.record import write_json
from dualproto_wsi.workflow.evaluation.score import Scores

FORMAT = 1
"""Version of the layout of the JSON."""


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationReport:
    """What the evaluation of models on labelled images found.

    Parameters
    ----------
    data : str
        Name of the data.
    settings : EvaluateSettings
    mpp : float
        Resolution of the images, µm per px.
    classes : tuple of str
    colours : tuple of tuple of int
        Of the classes, RGB.
    model_mpp : float
        Resolution of the first model, µm per model px, …
    cell_px : int
        … and the side of a cell of its maps, model px.
    images : tuple of LabelledImage
        Those that were scored.
    places : int
        Labelled pixels (of masks) or points of the classes.
    kind : str
        ``pixels`` or ``points``.
    left_out : tuple of str
        Patients of the split that a model was trained on; not scored.
    rows : tuple of Scores
        One a model and protocol, the probe last.
    presence : mapping of str to PresenceScores
        Of each model.
    """

    data: str
    settings: EvaluateSettings
    mpp: float
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    model_mpp: float
    cell_px: int
    images: tuple[LabelledImage, ...]
    places: int
    kind: str
    left_out: tuple[str, ...]
    rows: tuple[Scores, ...]
    presence: Mapping[str, PresenceScores] = field(default_factory=dict)

    @property
    def patients(self) -> tuple[str, ...]:
        """Of the images that were scored, sorted."""
        return tuple(sorted({image.patient for image in self.images}))

    def to_json(self) -> dict[str, Any]:
        """Return plain data; undefined is None."""
        return {
            "format": FORMAT,
            "data": self.data,
            "settings": to_data(self.settings),
            "mpp": self.mpp,
            "classes": list(self.classes),
            "images": len(self.images),
            "patients": len(self.patients),
            "left_out": list(self.left_out),
            self.kind: self.places,
            "rows": [row.to_json() for row in self.rows],
            "presence": {
                model: {
                    "threshold": scores.threshold,
                    "auc": by_class(self.classes, scores.auc),
                    "f1": by_class(self.classes, scores.f1),
                    "present": dict(zip(self.classes, scores.present.tolist(), strict=True)),
                    "absent": dict(zip(self.classes, scores.absent.tolist(), strict=True)),
                }
                for model, scores in self.presence.items()
            },
        }


def write_report(path: Path, data: dict[str, Any]) -> None:
    """Write an evaluation as JSON, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); name another file for --json") from error


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of plain data as CSV, whole or not at all; what is said by class gets a column a class.

    Parameters
    ----------
    path : Path
    rows : sequence of mapping
        As ``to_json`` returns them; undefined is an empty cell, lists (confusion matrices) are left out.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    flat = [flatten(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(flat)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); name another file for --csv") from error


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested plain data as one level, names joined by blanks: a pair is an interval, other lists are dropped."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            inner = "" if name == "intervals" else f"{name} "
            flat |= flatten(value, f"{prefix}{inner}")
        elif not isinstance(value, list):
            flat[f"{prefix}{name}"] = value
        elif len(value) == 2 and not isinstance(value[0], list):
            flat |= {f"{prefix}{name} low": value[0], f"{prefix}{name} high": value[1]}
    return flat


def choose_images(accuracies: NDArray[np.float64], count: int, seed: int) -> list[int]:
    """Choose images from the worst to the best, evenly spaced in rank; ties are in an order drawn by the seed.

    Parameters
    ----------
    accuracies : ndarray of float64, shape (N,)
        Images with NaN, nothing to compare, are not chosen.
    count : int
    seed : int

    Returns
    -------
    list of int
        At most ``count``, worst first.
    """
    order = np.random.default_rng(seed).permutation(len(accuracies))
    order = order[~np.isnan(accuracies[order])]
    ranked = order[np.argsort(accuracies[order], kind="stable")]
    places = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(np.int64))
    return [int(i) for i in ranked[places]]
