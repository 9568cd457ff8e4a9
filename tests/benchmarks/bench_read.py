"""Time per 448 px window: OpenSlide alone, our reader window by window, and our reader block by block.

Each cell is processor time / wall time in ms; on a busy machine only the first means something. ``gain`` is OpenSlide
alone against blocks, in processor time.

Run it with slides to read::

    python tests/benchmarks/bench_read.py slide.svs other.tif
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import openslide
from PIL import Image

from dualproto_wsi.geometry import Box, LabelGrid
from dualproto_wsi.settings import ReadSettings, TissueSettings
from dualproto_wsi.slide.reader import SlideReader, open_slide
from dualproto_wsi.slide.tiling import Block, Tile, plan_tiles
from dualproto_wsi.slide.tissue import find_tissue

WINDOW_PX, STRIDE_PX, OVERLAP = 448, 4, 0.25
ROW = "{:<34} {:>7} {:>8} {:>8} {:>15} {:>15} {:>15} {:>7}\n"


def raw_window(path: Path, grid: LabelGrid) -> Callable[[Tile], np.ndarray]:
    """What a few lines around OpenSlide do: read at level 0, resize."""
    slide = openslide.OpenSlide(path)
    side = round(WINDOW_PX // STRIDE_PX * grid.scale)

    def read(tile: Tile) -> np.ndarray:
        where = round(grid.x + tile.column * grid.scale), round(grid.y + tile.row * grid.scale)
        image = slide.read_region(where, 0, (side, side)).convert("RGB")
        if side != WINDOW_PX:
            image = image.resize((WINDOW_PX, WINDOW_PX), Image.Resampling.BILINEAR)
        return np.asarray(image)

    return read


def own_window(slide: SlideReader, grid: LabelGrid) -> Callable[[Tile], np.ndarray]:
    side = WINDOW_PX // STRIDE_PX * grid.scale

    def read(tile: Tile) -> np.ndarray:
        box = Box(grid.x + tile.column * grid.scale, grid.y + tile.row * grid.scale, side, side)
        return slide.read(box, (WINDOW_PX, WINDOW_PX))

    return read


def own_block(slide: SlideReader) -> Callable[[Block], np.ndarray]:
    return lambda block: block.cut(slide.read(block.box, block.size))


def milliseconds(work: Callable[..., np.ndarray], items: Iterable[object], windows: int, threads: int) -> np.ndarray:
    """Processor and wall time per window."""
    with ThreadPoolExecutor(threads) as pool:
        start = np.array([time.process_time(), time.perf_counter()])
        for _ in pool.map(work, items):
            pass
        return (np.array([time.process_time(), time.perf_counter()]) - start) / windows * 1e3


def measure(path: Path, factor: float, threads: int, limit: int) -> list[object]:
    """One row of the table: a slide at `factor` times its own pixel size."""
    with open_slide(path, ReadSettings()) as slide:
        mpp = slide.info.require_mpp()
        grid = LabelGrid.over(slide.info.content, mpp, STRIDE_PX * mpp * factor)
        plan = plan_tiles(grid, find_tissue(slide, TissueSettings(), mpp), WINDOW_PX, STRIDE_PX, OVERLAP)
        middle = max(0, len(plan.blocks) - limit // 6) // 2
        blocks = plan.blocks[middle : middle + max(1, limit // 6)]
        tiles = [tile for block in blocks for tile in block.tiles]
        raw = milliseconds(raw_window(path, grid), tiles, len(tiles), threads)
    with open_slide(path) as slide:  # a fresh handle: OpenSlide keeps decoded tiles
        single = milliseconds(own_window(slide, grid), tiles, len(tiles), threads)
    with open_slide(path) as slide:
        block = milliseconds(own_block(slide), blocks, len(tiles), threads)
    times = [f"{cpu:.2f} / {wall:.2f}" for cpu, wall in (raw, single, block)]
    return [path.name[:34], f"{factor:g}", threads, len(tiles), *times, f"{raw[0] / block[0]:.2f}x"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slides", nargs="+", type=Path)
    parser.add_argument("--windows", type=int, default=240, help="about so many windows a row")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sys.stdout.write(ROW.format("slide", "factor", "threads", "windows", "openslide", "window", "block", "gain"))
    for path in options.slides:
        for factor in (1.0, 2.0, 1.0112):
            for threads in (1, 2):
                sys.stdout.write(ROW.format(*measure(path, factor, threads, options.windows)))


if __name__ == "__main__":
    main()
