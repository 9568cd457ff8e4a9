"""From scores of windows to the final labels of one slide, band by band."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.settings import LabelSettings, SegmentSettings
from dualproto_wsi.vector.labelling import label_cells, probabilities_of
from dualproto_wsi.vector.mosaic import ColourMosaic, ScoreMosaic
from dualproto_wsi.vector.sieve import LabelSieve
from dualproto_wsi.workflow.features.reuse import places
from dualproto_wsi.workflow.mapping.inference import Loaded, predict, read_ahead
from dualproto_wsi.workflow.mapping.outputs import MapFiles, SlideOutputs
from dualproto_wsi.workflow.mapping.refine import BandRefiner, build_refiner

if TYPE_CHECKING:
    from dualproto_wsi.slide.quality import FocusTally
    from dualproto_wsi.slide.reader import SlideReader
    from dualproto_wsi.slide.tiling import TilePlan
    from dualproto_wsi.slide.tissue import TissueMask
    from dualproto_wsi.workflow.features.keep import FeatureKeeper
    from dualproto_wsi.workflow.features.store import StoredFeatures
    from dualproto_wsi.workflow.mapping.engine import Engine
    from dualproto_wsi.workflow.stopwatch import Stopwatch

BAND = 256
"""Rows of the label map that are finished at a time; bounds the memory on wide slides."""


class SlideMapper:
    """Blends scores, and turns every finished row into labels at once.

    A band of rows goes through blend, softmax, refinement, labels and sieve; the last three only where asked for, and
    refinement and sieve hold rows back until enough below them is known.

    Parameters
    ----------
    grid : LabelGrid
    classes : int
        K, planes of the scores.
    window_cells : int
        Side of a window's scores, cells.
    tissue : TissueMask
        Cells outside it get no class.
    settings : LabelSettings
    refiner : BandRefiner or None
    outputs : SlideOutputs
        Gets every final row.
    clock : Stopwatch
        Gets the seconds of ``blend``, ``refine``, ``label`` and ``sieve``.
    """

    def __init__(
        self,
        grid: LabelGrid,
        classes: int,
        window_cells: int,
        tissue: TissueMask,
        settings: LabelSettings,
        refiner: BandRefiner | None,
        outputs: SlideOutputs,
        clock: Stopwatch,
    ) -> None:
        self._grid, self._tissue, self._outputs, self._clock = grid, tissue, outputs, clock
        self._unsure_below = settings.unsure_below
        self._mosaic = ScoreMosaic(grid.columns, grid.rows, classes, window_cells)
        self._refiner = refiner
        self._colours = ColourMosaic(grid.columns, grid.rows) if refiner else None
        self._sieve = _sieve(grid, settings)
        self._held = HeldProbabilities()

    def add(self, loaded: list[Loaded], logits: NDArray[np.float32]) -> None:
        """Take the logits of all windows of some blocks, float32 (n, K, h, w), and finish the rows that get no more."""
        with self._clock("blend"):
            tiles = (tile for item in loaded for tile in item.tiles)
            for tile, scores in zip(tiles, logits, strict=True):
                self._mosaic.add(tile.row, tile.column, scores)
            for item in loaded:
                if self._colours and item.colours is not None:
                    self._colours.add(min(t.row for t in item.tiles), min(t.column for t in item.tiles), item.colours)
        self._release(loaded[-1].block.final_row)

    def finish(self) -> None:
        """Finish all rows."""
        self._release(self._grid.rows)
        if self._refiner:
            with self._clock("refine"):
                bands = list(self._refiner.finish())
            for band in bands:
                self._label(band.probabilities, band.calibrated, band.analysed)
        if self._sieve:
            with self._clock("sieve"):
                rest = self._sieve.finish()
            self._outputs.append(rest, self._held.take(len(rest)))

    def _release(self, final_row: int) -> None:
        final_row = min(final_row, self._grid.rows)
        while self._mosaic.released < final_row:
            self._finish_band(min(self._mosaic.released + BAND, final_row))

    def _finish_band(self, until_row: int) -> None:
        with self._clock("blend"):
            first, logits, covered = self._mosaic.release(until_row)
        with self._clock("label"):
            probabilities = probabilities_of(logits, covered)
            analysed = covered
            if covered.any():
                analysed = covered & self._tissue.sample(self._grid, first, until_row - first)
        if self._refiner is None or self._colours is None:
            self._label(probabilities, probabilities, analysed)
            return
        with self._clock("refine"):
            bands = list(self._refiner.feed(probabilities, analysed, self._colours.release(until_row)))
        for band in bands:
            self._label(band.probabilities, band.calibrated, band.analysed)

    def _label(
        self, scores: NDArray[np.float32], probabilities: NDArray[np.float32], analysed: NDArray[np.bool_]
    ) -> None:
        """Label rows by their scores, which may be refined; measurements and "unsure" go by the probabilities."""
        with self._clock("label"):
            labels = label_cells(scores, analysed, self._unsure_below, probabilities)
        if self._sieve:
            with self._clock("sieve"):
                self._held.put(probabilities)
                labels = self._sieve.feed(labels)
                probabilities = self._held.take(len(labels))
        self._outputs.append(labels, probabilities)


def _sieve(grid: LabelGrid, settings: LabelSettings) -> LabelSieve | None:
    """Return the sieve that the settings ask for: a region of exactly the least area stays."""
    cell_um2 = grid.cell_um**2
    least = [int(np.ceil(area / cell_um2 - 1e-9)) for area in (settings.min_area_um2, settings.fill_holes_um2)]
    return LabelSieve(grid.columns, *least) if max(least) > 1 else None


class HeldProbabilities:
    """Probabilities of rows whose labels are not final yet, in half precision."""

    def __init__(self) -> None:
        self._rows: deque[NDArray[np.float16]] = deque()

    def put(self, probabilities: NDArray[np.float32]) -> None:
        """Add rows, float32 (K, n, columns)."""
        self._rows.extend(probabilities.astype(np.float16).swapaxes(0, 1))

    def take(self, count: int) -> NDArray[np.float32]:
        """Return the next rows, float32 (K, count, columns), and forget them."""
        rows = [self._rows.popleft() for _ in range(count)]
        if not rows:
            return np.zeros((0, 0, 0), np.float32)
        return np.stack(rows, axis=1).astype(np.float32)


def map_slide(
    reader: SlideReader,
    grid: LabelGrid,
    tissue: TissueMask,
    plan: TilePlan,
    engine: Engine,
    settings: SegmentSettings,
    files: MapFiles,
    clock: Stopwatch,
    tiles_done: Callable[[int], None] = lambda count: None,
    stored: StoredFeatures | None = None,
    keeper: FeatureKeeper | None = None,
    focus: FocusTally | None = None,
) -> SlideOutputs:
    """Run the windows of a plan through the model, and write what comes of them.

    Parameters
    ----------
    reader : SlideReader
    grid : LabelGrid
        The cells to label.
    tissue : TissueMask
    plan : TilePlan
        Windows on that grid.
    engine : Engine
    settings : SegmentSettings
    files : MapFiles
        Where the results go.
    clock : Stopwatch
        Gets the seconds of every step.
    tiles_done : callable
        Hears how many more windows went through the model.
    stored : StoredFeatures or None
        The features of all windows, to be scored without the encoder.
    keeper : FeatureKeeper or None
        Gets the features of all windows.
    focus : FocusTally or None
        Gets the pixels of all windows.

    Returns
    -------
    SlideOutputs
        Closed; has areas and the number of regions.

    Raises
    ------
    SlideUnreadable
        If the pixels cannot be decoded.
    OutputError
        If a file cannot be written.
    """
    model, classes = engine.model, len(engine.model.classes)
    with ExitStack() as stack:
        made = None
        if settings.refine.method != "none":
            made = build_refiner(settings.refine, engine.device, model.stride_px, tissue.colours)
        refiner = stack.enter_context(BandRefiner(made, grid.columns, classes, workers=engine.cores)) if made else None
        unsure = settings.labels.unsure_below > 0
        outputs = stack.enter_context(SlideOutputs(grid, model.classes, files, settings.output, unsure, clock))
        window = model.window_px // model.stride_px
        mapper = SlideMapper(grid, classes, window, tissue, settings.labels, refiner, outputs, clock)
        readers = engine.readers(settings.read.workers)
        blocks_read = read_ahead(reader, plan.blocks, readers, refiner is not None, stored)
        loaded = stack.enter_context(closing(blocks_read))  # no thread may read when the slide is closed
        level = stored.header.key.level if stored else ""
        named = (lambda: keeper.level) if keeper else (lambda: level)
        for blocks, (logits, features) in predict(engine, loaded, clock, named, keep=keeper is not None):
            mapper.add(blocks, logits)
            if focus:
                with clock("qc"):
                    for item in blocks:
                        focus.add(item.tiles, np.asarray(item.windows))
            if keeper:
                with clock("cache"):
                    keeper.keep([place for item in blocks for place in places(item.block)], features)
            tiles_done(len(logits))
        mapper.finish()
        outputs.finish()
    return outputs
