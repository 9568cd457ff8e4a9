"""Memory and disk that a slide takes, from the size of its grid; checked against the records of real runs."""

from __future__ import annotations

from dataclasses import dataclass

from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.settings import SegmentSettings
from dualproto_wsi.workflow.mapping.mapper import BAND

LOADED_LATER_BYTES = 150_000_000
"""Compiled loops, drawing and what else a program loads once it is past its model."""
THUMBNAIL_BYTES = 20
"""A thumbnail pixel, while tissue is found on it."""
KEPT_BYTES = 4
"""A thumbnail pixel, from then on."""
BAND_COPIES = 10
"""Arrays of a band's scores that are alive at once: logits, probabilities, what softmax and output make of them."""
REFINE_BYTES = 3_700
"""A column and class, where borders are refined; besides, ``REFINE_WORKER_BYTES`` each core."""
REFINE_WORKER_BYTES = 50_000_000
SIEVE_ROWS = 512
"""Rows held back by the sieve on usual slides."""
PIXEL_COPIES = 2
"""A block's pixels as read, and cut into windows."""
BLOCK_WINDOWS = 8

RASTER_PYRAMID = 4 / 3
"""Cells of all levels a cell of the first."""
LABELS_BYTES, CONFIDENCE_BYTES = 0.08, 0.8
"""A cell with tissue, compressed."""
GLASS_BYTES = 0.002
"""A cell without, in either raster."""
OVERLAY_BYTES, RECORD_BYTES = 3_000_000, 15_000


@dataclass(frozen=True, slots=True)
class Load:
    """What decides on the memory of a slide.

    Parameters
    ----------
    grid : LabelGrid
    classes : int
    window_px, stride_px : int
        Of the model.
    thumbnail_px : int
        Of the picture that tissue is found on.
    readers : int
        Threads that read ahead.
    cores : int
        That refine borders.
    """

    grid: LabelGrid
    classes: int
    window_px: int
    stride_px: int
    thumbnail_px: int
    readers: int
    cores: int

    def memory_bytes(self, settings: SegmentSettings) -> int:
        """Estimate the memory of the slide at its peak, beyond the program and its model, bytes."""
        scores = 4 * self.classes * self.grid.columns
        window = self.window_px // self.stride_px
        mosaic = (scores + 4 * self.grid.columns) * 3 * window
        bands = BAND_COPIES * scores * BAND
        reading = 2 * self.readers * PIXEL_COPIES * 3 * BLOCK_WINDOWS * self.window_px**2
        refine = sieve = 0
        if settings.refine.method != "none":
            refine = REFINE_BYTES * self.classes * self.grid.columns + self.cores * REFINE_WORKER_BYTES
        if settings.labels.min_area_um2 or settings.labels.fill_holes_um2:
            sieve = SIEVE_ROWS * scores
        mapping = KEPT_BYTES * self.thumbnail_px + mosaic + bands + reading + refine + sieve
        return LOADED_LATER_BYTES + max(THUMBNAIL_BYTES * self.thumbnail_px, mapping)


def result_bytes(grid: LabelGrid, tissue_mm2: float, polygon_bytes: float, settings: SegmentSettings) -> int:
    """Estimate the size of a slide's results.

    Parameters
    ----------
    grid : LabelGrid
    tissue_mm2 : float
    polygon_bytes : float
        Of its polygon files.
    settings : SegmentSettings
    """
    cells = tissue_mm2 / grid.cell_mm2
    rasters = LABELS_BYTES * cells + GLASS_BYTES * grid.columns * grid.rows
    if settings.output.confidence:
        rasters += CONFIDENCE_BYTES * cells + GLASS_BYTES * grid.columns * grid.rows
    return round(polygon_bytes + rasters + RECORD_BYTES + (OVERLAY_BYTES if settings.output.overlay else 0))


def temporary_bytes(grid: LabelGrid, settings: SegmentSettings) -> int:
    """Return the size of the files that a slide needs while it is mapped: the rasters, not yet compressed."""
    rasters = 2 if settings.output.confidence else 1
    return round(RASTER_PYRAMID * grid.columns * grid.rows * rasters)
