"""Where the label map of a slide, its tissue and the windows over it lie, for a model."""

from __future__ import annotations

from pathlib import Path

from dualproto_wsi.errors import SlideUnreadable
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.model.segmenter import Segmenter
from dualproto_wsi.settings import TissueSettings
from dualproto_wsi.slide.reader import SlideInfo, SlideReader
from dualproto_wsi.slide.tiling import TilePlan, plan_tiles
from dualproto_wsi.slide.tissue import TissueMask, find_tissue
from dualproto_wsi.workflow.mapping.parts import read_part


def label_grid(info: SlideInfo, model: Segmenter) -> LabelGrid:
    """Lay the label map over a slide.

    Raises
    ------
    MissingPixelSize
        If the slide's pixel size is not known.
    SlideUnreadable
        If the slide is smaller than a cell.
    """
    mpp = info.require_mpp()
    grid = LabelGrid.over(info.content, mpp, model.stride_px * model.mpp)
    if not grid.columns or not grid.rows:
        raise SlideUnreadable(
            f"{info.name}: {info.width} x {info.height} px at {mpp:g} µm/px is smaller than a cell of the label map"
            f" ({grid.cell_um:g} µm); is this the slide, and is --mpp right?"
        )
    return grid


def analysed_tissue(
    reader: SlideReader, settings: TissueSettings, part: Path | None = None, found: TissueMask | None = None
) -> TissueMask:
    """Find the tissue of a slide, or of the part that the user drew.

    Parameters
    ----------
    reader : SlideReader
    settings : TissueSettings
    part : Path or None
        GeoJSON with the outlines of that part, in QuPath's frame.
    found : TissueMask or None
        The tissue of the slide, where it is known.

    Raises
    ------
    SlideError
        If the pixel size is not known or the pixels cannot be read.
    DataError
        If the file holds no outlines.
    """
    info = reader.info
    tissue = found or find_tissue(reader, settings, info.require_mpp())
    return tissue.within(read_part(part, (info.content.x, info.content.y))) if part else tissue


def tile_plan(grid: LabelGrid, tissue: TissueMask, model: Segmenter, overlap: float) -> TilePlan:
    """Lay the model's windows over the tissue of a grid; neighbours share `overlap` of their side."""
    return plan_tiles(grid, tissue, model.window_px, model.stride_px, overlap, lattice_px=model.encoder.step_px)
