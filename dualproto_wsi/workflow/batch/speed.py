"""How fast a job runs here: small pieces of real slides, mapped as in a run, into a temporary folder."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.settings import SegmentSettings
from dualproto_wsi.slide.reader import SlideReader
from dualproto_wsi.slide.tiling import TilePlan
from dualproto_wsi.slide.tissue import TissueMask
from dualproto_wsi.workflow.mapping.engine import Engine
from dualproto_wsi.workflow.mapping.layout import tile_plan
from dualproto_wsi.workflow.mapping.mapper import map_slide
from dualproto_wsi.workflow.mapping.outputs import MapFiles
from dualproto_wsi.workflow.stopwatch import Stopwatch

LEAST_WINDOWS = 6
"""Of a piece; as many as keep the device busy where that is more."""

PLACES = (0.5, 0.25, 0.75)
"""Where pieces of a slide lie, as a share of its blocks."""

READ_BLOCKS = 3
"""Blocks of each slide that are read to see how long that takes."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What the mapping of a piece of a slide took.

    Parameters
    ----------
    windows : int
    seconds : float
        Without the wait for pixels.
    polygon_bytes : int
        Size of the polygon files.
    """

    windows: int
    seconds: float
    polygon_bytes: int


def seconds_to_read(reader: SlideReader, plan: TilePlan) -> float:
    """Read some blocks, one after the other; return the seconds a window, without any help of other threads."""
    count = min(READ_BLOCKS, len(plan.blocks))
    blocks = [plan.blocks[(2 * i + 1) * len(plan.blocks) // (2 * count)] for i in range(count)]
    start = time.perf_counter()
    for block in blocks:
        block.cut(reader.read(block.box, block.size))
    windows = sum(len(block.tiles) for block in blocks)
    return (time.perf_counter() - start) / windows if windows else 0.0


def map_piece(
    reader: SlideReader,
    grid: LabelGrid,
    tissue: TissueMask,
    plan: TilePlan,
    place: float,
    engine: Engine,
    settings: SegmentSettings,
) -> Piece:
    """Map a piece of a slide as a run does, and throw the results away.

    Parameters
    ----------
    reader : SlideReader
    grid : LabelGrid
        Of the whole slide.
    tissue : TissueMask
    plan : TilePlan
        Of the whole slide; has windows.
    place : float
        Which part, 0 (top) to below 1.
    engine : Engine
    settings : SegmentSettings

    Returns
    -------
    Piece

    Raises
    ------
    SlideUnreadable
        If the pixels cannot be decoded.
    """
    part = _part(grid, plan, place, engine, settings.tiling.overlap)
    windows = tile_plan(part, tissue, engine.model, settings.tiling.overlap)
    clock = Stopwatch()
    with TemporaryDirectory(prefix="dualproto-") as folder:
        files = MapFiles(Path(folder), "piece", (0.0, 0.0), "piece")
        map_slide(reader, part, tissue, windows, engine, settings, files, clock)
        polygons = sum(path.stat().st_size for path in Path(folder).iterdir() if "geojson" in path.name)
    return Piece(windows.tiles, clock.total - clock.seconds.get("read", 0.0), polygons)


def _part(grid: LabelGrid, plan: TilePlan, place: float, engine: Engine, overlap: float) -> LabelGrid:
    """Return the part of a grid that holds windows enough, from a block of the plan on."""
    model = engine.model
    window = model.window_px // model.stride_px
    side = math.ceil(math.sqrt(max(LEAST_WINDOWS, engine.windows_at_once)))
    cells = window + math.floor((side - 1) * window * (1 - overlap))
    columns, rows = min(cells, grid.columns), min(cells, grid.rows)
    tile = plan.blocks[int(place * len(plan.blocks))].tiles[0]
    column, row = min(tile.column, grid.columns - columns), min(tile.row, grid.rows - rows)
    return LabelGrid(grid.x + column * grid.scale, grid.y + row * grid.scale, grid.scale, grid.cell_um, columns, rows)


class Speed:
    """Gathers how fast pieces of slides were mapped.

    Parameters
    ----------
    engine : Engine
    settings : SegmentSettings
    slides : int
        On how many slides to measure, the first that have tissue.
    seconds : float
        How long to measure on one of them, at least one piece.

    Attributes
    ----------
    warm_up_s : float
        What the first piece took more than such a piece does later.
    windows : int
        On how many windows the figures rest.
    """

    def __init__(self, engine: Engine, settings: SegmentSettings, slides: int = 3, seconds: float = 2.0) -> None:
        self._engine, self._settings = engine, settings
        self._slides, self._seconds = slides, seconds
        self._pieces: list[Piece] = []
        self._first: Piece | None = None

    def measure(self, reader: SlideReader, grid: LabelGrid, tissue: TissueMask, plan: TilePlan) -> None:
        """Measure on a slide, unless enough were measured, or it has no windows.

        Raises
        ------
        SlideUnreadable
            If the pixels cannot be decoded.
        """
        if not self._slides or not plan.blocks:
            return
        self._slides -= 1
        if self._first is None:
            self._first = map_piece(reader, grid, tissue, plan, PLACES[0], self._engine, self._settings)
        spent = 0.0
        for place in PLACES:
            self._pieces.append(map_piece(reader, grid, tissue, plan, place, self._engine, self._settings))
            spent += self._pieces[-1].seconds
            if spent >= self._seconds:
                break

    @property
    def windows(self) -> int:
        """On how many windows the figures rest."""
        return sum(piece.windows for piece in self._pieces)

    @property
    def warm_up_s(self) -> float:
        """What the first piece took more than such a piece does later, seconds."""
        return max(0.0, self._first.seconds - self._first.windows * self.window_s) if self._first else 0.0

    @property
    def window_s(self) -> float:
        """Seconds a window, without reading."""
        return sum(piece.seconds for piece in self._pieces) / max(1, self.windows)

    @property
    def window_polygon_bytes(self) -> float:
        """Bytes a window in the polygon files."""
        return sum(piece.polygon_bytes for piece in self._pieces) / max(1, self.windows)

    def seconds(self, windows: int, read_s: float) -> float:
        """Estimate the seconds that windows take; `read_s`: to read one, in one thread.

        A processor that runs the model has its cores share both; a GPU computes while others read.
        """
        threads = min(self._engine.readers(self._settings.read.workers), self._engine.cores)
        if self._engine.device.type == "cpu":
            return windows * (self.window_s + read_s / threads)
        return windows * max(self.window_s, read_s / threads)
