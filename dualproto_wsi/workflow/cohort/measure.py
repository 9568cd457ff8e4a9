"""One slide's label map, measured while it is read: memory does not grow with its height."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import NOT_ANALYSED
from dualproto_wsi.errors import DataError
from dualproto_wsi.stats.cohort.definitions import NECROSIS, TUMOR, Definitions
from dualproto_wsi.stats.cohort.front import FrontBand, FrontDistances
from dualproto_wsi.stats.cohort.quantities import ANALYSED, Quantities, block_table
from dualproto_wsi.stats.cohort.regions import RegionAreas
from dualproto_wsi.stats.cohort.squares import BorderLengths, ZoneCounts
from dualproto_wsi.vector.geojson.reader import read_features
from dualproto_wsi.vector.region import AREA, MEAN_SCORE
from dualproto_wsi.vector.sieve import LabelSieve
from dualproto_wsi.workflow.batch.record import CONFIDENCE, LABELS
from dualproto_wsi.workflow.checks.verify_record import Told
from dualproto_wsi.workflow.cohort.rasters import read_bands

Labels = NDArray[np.uint8]


def measure_slide(folder: Path, told: Told, definitions: Definitions) -> Quantities:
    """Measure a slide's label map.

    Parameters
    ----------
    folder : Path
        The slide's results.
    told : Told
        Its record.
    definitions : Definitions

    Returns
    -------
    Quantities

    Raises
    ------
    DataError
        If a file is missing or damaged, or the map is not what the record tells of.
    """
    meter = MapMeter(told.grid.shape, told.grid.cell_um, definitions)
    for labels in read_bands(folder / LABELS, told.grid):
        meter.add(labels)
    found = meter.finish(_mean_confidence(folder, told))
    analysed = float(found.blocks[:, found.names.index(ANALYSED)].sum())
    recorded = float(told.data["analysed_mm2"])
    if not math.isclose(analysed, recorded, rel_tol=1e-6, abs_tol=1e-9):
        raise DataError(
            f"{folder / LABELS}: has {analysed:.6g} mm² of tissue, record.json says {recorded:.6g} mm²; see "
            "`dualproto-wsi verify`, and run `segment` again"
        )
    return found


class MapMeter:
    """Takes a label map from top to bottom and measures it; how it is cut into bands does not matter.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns) of the map.
    cell_um : float
        Side of a cell, µm.
    definitions : Definitions
    """

    def __init__(self, shape: tuple[int, int], cell_um: float, definitions: Definitions) -> None:
        self._definitions, self._cell_um = definitions, cell_um
        side = max(1, round(definitions.square_um / cell_um))
        classes = len(definitions.classes)
        limits = tuple(limit / cell_um for limit in definitions.margins_um)
        self._tumor = definitions.roles.get(TUMOR, 0)
        self._zones = ZoneCounts(shape, side, classes, limits)
        self._borders = BorderLengths(shape, side, classes, self._tumor)
        self._regions = RegionAreas(shape[1], classes)
        self._in_body = np.zeros(256, np.uint8)
        self._in_body[[definitions.roles[role] for role in (TUMOR, NECROSIS) if role in definitions.roles]] = 1
        self._front = FrontDistances(shape[1], limits[-1])
        least = round(definitions.front_mm2 / (cell_um * cell_um * 1e-6))
        self._sieve = LabelSieve(shape[1], least, least)
        self._waiting = np.empty((0, shape[1]), np.uint8)
        self._row = 0

    def add(self, labels: Labels) -> None:
        """Take the next rows, uint8 (n, columns)."""
        self._borders.add(labels)
        self._regions.add(labels)
        if not self._tumor:
            self._zones.add(FrontBand(self._row, labels, np.zeros(labels.shape, np.bool_), None))
            self._row += len(labels)
            return
        self._waiting = np.concatenate((self._waiting, labels))
        self._pass_on(self._sieve.feed(self._in_body[labels]))

    def _pass_on(self, body: Labels) -> None:
        labels, self._waiting = self._waiting[: len(body)], self._waiting[len(body) :]
        self._count(self._front.feed(labels, (body == 1) & (labels != NOT_ANALYSED)))

    def _count(self, bands: Iterator[FrontBand]) -> None:
        for band in bands:
            self._zones.add(band)

    def finish(self, confidence: tuple[float, float] = (0.0, 0.0)) -> Quantities:
        """End the map and return what was counted; ``confidence``: the sum of probability times area, and the area."""
        if self._tumor:
            self._pass_on(self._sieve.finish())
            self._count(self._front.finish())
        names, blocks = block_table(self._zones.counts, self._borders.lengths, self._definitions, self._cell_um)
        cell_mm2 = self._cell_um * self._cell_um * 1e-6
        return Quantities(
            names, blocks, tuple(cells.astype(np.float64) * cell_mm2 for cells in self._regions.finish()), confidence
        )


def _mean_confidence(folder: Path, told: Told) -> tuple[float, float]:
    if told.output.confidence and (folder / CONFIDENCE).exists():
        percent = cells = 0
        for labels, values in zip(
            read_bands(folder / LABELS, told.grid), read_bands(folder / CONFIDENCE, told.grid), strict=True
        ):
            analysed = labels != NOT_ANALYSED
            percent += int(values[analysed].sum(dtype=np.int64))
            cells += int(analysed.sum())
        return percent / 100 * told.grid.cell_mm2, cells * told.grid.cell_mm2
    files = [folder / f"{told.file}.{suffix}" for suffix in told.output.formats]
    kept = [file for file in files if file.exists()]
    return _of_regions(kept[0]) if kept else (0.0, 0.0)


def _of_regions(file: Path) -> tuple[float, float]:
    part = whole = 0.0
    for feature in read_features(file):
        measurements = feature["properties"].get("measurements") or {}
        area, score = measurements.get(AREA), measurements.get(MEAN_SCORE)
        if isinstance(area, float | int) and isinstance(score, float | int):
            part += area * score
            whole += area
    return part, whole
