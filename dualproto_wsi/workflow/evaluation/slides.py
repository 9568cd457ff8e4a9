"""Maps of whole slides against annotations of a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import NOT_ANALYSED, UNSURE, UNSURE_NAME
from dualproto_wsi.errors import DataError
from dualproto_wsi.stats.bootstrap import bootstrap_intervals
from dualproto_wsi.stats.metrics import ConfusionMatrix, plain
from dualproto_wsi.vector.raster import read_raster
from dualproto_wsi.vector.rasterise import rasterise
from dualproto_wsi.workflow.batch.record import LABELS, RECORD
from dualproto_wsi.workflow.checks.verify_record import Told, read_told
from dualproto_wsi.workflow.evaluation.annotations import (
    Annotations,
    find_annotations,
    match_slides,
    read_annotations,
)

NOT_ANALYSED_NAME = "Not analysed"

BAND = 1024
"""Rows that are compared at a time; bounds the memory on large slides."""


@dataclass(frozen=True, slots=True, eq=False)
class SlideScores:
    """One slide against its annotations.

    Parameters
    ----------
    slide : str
        Name of its folder.
    truth : Path
        The annotations.
    matrix : ConfusionMatrix
        Cells; the classes, then :data:`~dualproto_wsi.classes.UNSURE_NAME` and :data:`NOT_ANALYSED_NAME`, which are
        never true: they count as misses of the true class.
    cell_mm2 : float
        Area of a cell, mm².
    unknown : dict of str to int
        Outlines of classes that the model does not have, by name; not counted.
    of_the_model : int
        Outlines that the model made and nobody changed; not counted.
    """

    slide: str
    truth: Path
    matrix: ConfusionMatrix
    cell_mm2: float
    unknown: dict[str, int]
    of_the_model: int

    @property
    def mm2(self) -> float:
        """Annotated area that was compared, mm²."""
        return self.matrix.total * self.cell_mm2

    def to_json(self) -> dict[str, Any]:
        """Return plain data; undefined is None."""
        about = {"slide": self.slide, "truth": self.truth.name, "mm2": self.mm2}
        about |= {"unknown_classes": self.unknown, "left_as_the_model_made": self.of_the_model}
        return {**about, **self.matrix.to_json()}


@dataclass(frozen=True, slots=True, eq=False)
class SlidesReport:
    """What the evaluation of whole slides found.

    Parameters
    ----------
    classes : tuple of str
        Of the model.
    slides : tuple of SlideScores
    pooled : ConfusionMatrix
        Cells of all slides.
    without : tuple of str
        Annotation files that are of no slide of the run.
    intervals : dict of str to ndarray
        Of the pooled figures, slides drawn; empty where not asked for.
    """

    classes: tuple[str, ...]
    slides: tuple[SlideScores, ...]
    pooled: ConfusionMatrix
    without: tuple[str, ...]
    intervals: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; undefined is None."""
        pooled = self.pooled.to_json()
        if self.intervals:
            pooled["intervals"] = {
                name: [plain(limit) for limit in limits] for name, limits in self.intervals.items() if limits.ndim == 1
            }
        return {
            "format": 1,
            "classes": list(self.classes),
            "rows": [slide.to_json() for slide in self.slides],
            "pooled": pooled,
            "annotations_of_no_slide": list(self.without),
        }


def evaluate_slides(
    out: Path,
    truth: Path,
    *,
    reviewed: bool = False,
    bootstrap: int = 0,
    seed: int = 0,
    on_slide: Callable[[], None] = lambda: None,
) -> SlidesReport:
    """Compare the label maps of a run with annotations, cell by cell, where there are annotations.

    Parameters
    ----------
    out : Path
        A folder that ``segment`` wrote, or one slide's folder in it.
    truth : Path
        A GeoJSON file of annotations, or a folder of such as ``qupath export`` writes.
    reviewed : bool
        Whether regions that the model made and nobody changed count as true, because a person looked at all of them.
    bootstrap, seed : int
        Samples of slides for intervals (0: none), and of what is left to chance.
    on_slide : callable
        Called after each slide.

    Raises
    ------
    DataError
        If there is no such run, no annotation of one of its slides, or the slides have different classes.
    """
    folders = _result_folders(out)
    tolds = [read_told(folder) for folder in folders]
    files = find_annotations(truth)
    places = match_slides(files, [told.file for told in tolds])
    slides, scheme = [], tolds[0].classes
    for file, place in zip(files, places, strict=True):
        if place is None:
            continue
        told = tolds[place]
        if told.classes.names != scheme.names:
            raise DataError(
                f"{folders[place].name}: was mapped to {', '.join(told.classes.names)}, {folders[0].name} to "
                f"{', '.join(scheme.names)}; evaluate them one by one"
            )
        slides.append(_score_slide(folders[place], told, read_annotations(file, told, reviewed=reviewed)))
        on_slide()
    if not slides:
        raise DataError(
            f"{truth}: of none of the {len(tolds)} slide(s) in {out}; a file is matched by the image that it names, "
            "or by its own name, as a.svs.geojson"
        )
    if not any(slide.matrix.total for slide in slides):
        raise DataError(f"{truth}: nothing in it can be compared: {_why_nothing(slides)}")
    pooled = _matrix(scheme.names)
    for slide in slides:
        pooled.counts += slide.matrix.counts
    without = tuple(file.name for file, place in zip(files, places, strict=True) if place is None)
    report = SlidesReport(scheme.names, tuple(slides), pooled, without)
    if not bootstrap:
        return report
    counts = np.stack([slide.matrix.counts for slide in slides])
    names = [slide.slide for slide in slides]
    return replace(report, intervals=bootstrap_intervals(counts, names, len(scheme), bootstrap, seed))


def _why_nothing(slides: list[SlideScores]) -> str:
    unknown = sorted({name for slide in slides for name in slide.unknown})
    own = sum(slide.of_the_model for slide in slides)
    if unknown:
        return f"the model has no class {', '.join(unknown)}"
    if own:
        return f"its {own} region(s) are as the model made them; with --reviewed they count as true"
    return "no outline of a class lies on the slide; draw some in QuPath and export them"


def _result_folders(out: Path) -> list[Path]:
    if not out.is_dir():
        raise DataError(f"{out}: no such folder; with --truth name the folder that `dualproto-wsi segment` wrote")
    if (out / RECORD).is_file():
        return [out]
    folders = sorted(path.parent for path in out.glob(f"*/{RECORD}"))
    if not folders:
        raise DataError(f"{out}: no results in it; with --truth name the folder that `dualproto-wsi segment` wrote")
    return folders


def _matrix(classes: tuple[str, ...]) -> ConfusionMatrix:
    return ConfusionMatrix((*classes, UNSURE_NAME, NOT_ANALYSED_NAME), len(classes))


def _score_slide(folder: Path, told: Told, annotations: Annotations) -> SlideScores:
    """Count the annotated cells of a slide."""
    grid = replace(told.grid, x=told.bounds.x, y=told.bounds.y)  # level-0 px, whatever the frame of the polygon files
    labels = read_raster(folder / LABELS)
    if labels.shape != grid.shape:
        raise DataError(f"{folder / LABELS}: is {labels.shape}, record.json says {grid.shape}; run `segment` again")
    truth = rasterise(annotations.regions, grid)
    if annotations.ignored:
        truth[rasterise(annotations.ignored, grid) > 0] = NOT_ANALYSED
    matrix = _matrix(told.classes.names)
    classes = len(told.classes)
    # Ids 1…K become 0…K-1, then unsure and not analysed.
    code = np.full(256, classes + 1, np.uint8)
    code[1 : classes + 1] = np.arange(classes)
    code[UNSURE] = classes
    for true, found in _bands(truth, labels):
        matrix.add(code[true], code[found])
    return SlideScores(
        folder.name, annotations.path, matrix, grid.cell_mm2, dict(annotations.unknown), annotations.of_the_model
    )


def _bands(truth: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], ...]]:
    """Yield truth and labels of the annotated cells, some rows at a time."""
    for first in range(0, len(truth), BAND):
        band = slice(first, first + BAND)
        annotated = truth[band] != NOT_ANALYSED
        yield truth[band][annotated], labels[band][annotated]
