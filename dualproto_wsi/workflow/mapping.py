"""From scores of windows to the files of one slide, band by band."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import NOT_ANALYSED, ClassScheme
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.stats.areas import AreaTally
from dualproto_wsi.vector.geojson import GeoJsonWriter, to_region
from dualproto_wsi.vector.label_map import LabelMapWriter
from dualproto_wsi.vector.mosaic import ScoreMosaic
from dualproto_wsi.vector.polygons import RegionTracer, TracedRegion

if TYPE_CHECKING:
    from dualproto_wsi.slide.tiling import Tile
    from dualproto_wsi.slide.tissue import TissueMask
    from dualproto_wsi.workflow.stopwatch import Stopwatch

BAND = 256
"""Rows of the label map that are finished at a time; bounds the memory on wide slides."""


@dataclass(frozen=True, slots=True)
class MapFiles:
    """Where the results of a slide go.

    Parameters
    ----------
    labels : Path
        The label map, TIFF.
    regions : tuple of Path
        Polygon files; each holds the same regions.
    object_type : str
        QuPath's object type.
    offset : tuple of float
        (x, y) taken off every coordinate, level-0 px.
    identity : str
        What the region ids are derived from.
    """

    labels: Path
    regions: tuple[Path, ...]
    object_type: str
    offset: tuple[float, float]
    identity: str


class SlideMapper:
    """Blends scores, and turns every finished row into labels, areas and polygons at once.

    Use it as a context manager: files appear when :meth:`finish` was reached, and nothing is left behind otherwise.

    Parameters
    ----------
    grid : LabelGrid
    scheme : ClassScheme
    window_cells : int
        Side of a window's scores, cells.
    tissue : TissueMask
        Cells outside it get no class.
    files : MapFiles
    clock : Stopwatch
        Gets the seconds of ``blend``, ``trace`` and ``write``.
    """

    def __init__(
        self,
        grid: LabelGrid,
        scheme: ClassScheme,
        window_cells: int,
        tissue: TissueMask,
        files: MapFiles,
        clock: Stopwatch,
    ) -> None:
        self._grid, self._scheme, self._tissue, self._files, self._clock = grid, scheme, tissue, files, clock
        self._mosaic = ScoreMosaic(grid.columns, grid.rows, len(scheme), window_cells)
        self._tracer = RegionTracer(grid.columns, len(scheme))
        self.tally = AreaTally(scheme, grid.cell_mm2)
        self.regions = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._labels = stack.enter_context(LabelMapWriter(self._files.labels, self._grid))
            self._writers = [
                stack.enter_context(GeoJsonWriter(path, self._files.object_type, self._files.offset))
                for path in self._files.regions
            ]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, tiles: Iterable[Tile], logits: NDArray[np.float32]) -> None:
        """Blend the logits of windows, float32 (n, K, h, w), into the open band."""
        with self._clock("blend"):
            for tile, scores in zip(tiles, logits, strict=True):
                self._mosaic.add(tile.row, tile.column, scores)

    def release(self, final_row: int) -> None:
        """Finish all rows above ``final_row``: no window to come touches them."""
        final_row = min(final_row, self._grid.rows)
        while self._mosaic.released < final_row:
            self._finish_band(min(self._mosaic.released + BAND, final_row))

    def finish(self) -> None:
        """Finish all rows and complete the label map; polygon files complete when the context closes."""
        self.release(self._grid.rows)
        with self._clock("trace"):
            rest = self._tracer.finish()
        self._write(rest)
        with self._clock("write"):
            self._labels.finish()

    def _finish_band(self, until_row: int) -> None:
        with self._clock("blend"):
            first, logits, covered = self._mosaic.release(until_row)
            probabilities = softmax(logits)
            analysed = covered & self._tissue.sample(self._grid, first, until_row - first)
            labels = np.where(analysed, probabilities.argmax(axis=0) + 1, NOT_ANALYSED).astype(np.uint8)
        self.tally.add(labels)
        with self._clock("trace"):
            traced = self._tracer.feed(labels, probabilities)
        self._write(traced)
        with self._clock("write"):
            self._labels.append(labels)

    def _write(self, traced: list[TracedRegion]) -> None:
        with self._clock("write"):
            for item in traced:
                region = to_region(item, self._grid, self._scheme, self._files.identity)
                for writer in self._writers:
                    writer.write(region)
        self.regions += len(traced)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities over the first axis.

    Parameters
    ----------
    logits : ndarray of float32, shape (K, rows, columns)

    Returns
    -------
    ndarray of float32, same shape
        Sums to 1 over the first axis.
    """
    powers: NDArray[np.float32] = np.exp(logits - logits.max(axis=0, keepdims=True))
    powers /= powers.sum(axis=0, keepdims=True)
    return powers
