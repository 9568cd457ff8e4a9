"""Processor time per 448 px window of tissue, in ms: the floor, our readers, and what others do.

``floor`` is libjpeg-turbo alone: every tile that the windows need decoded once, at reduced size where that is enough.
``jpeg`` and ``openslide`` are our readers, block by block as a slide is segmented (8 windows a read); ``openslide
alone`` and ``tiatoolbox`` are a few lines around these libraries, window by window. Factors are of the slide's own
pixel size: 1 its own, 2 half resolution, 1.0112 and 0.9889 what a model with other pixels asks for.

Run it with slides to read::

    python tests/benchmarks/bench_read.py slide.svs other.tif
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import openslide
from PIL import Image
from tiatoolbox.wsicore.wsireader import WSIReader

from dualproto_wsi.errors import SlideError
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.settings import ReadSettings, TissueSettings
from dualproto_wsi.slide import jpeg_reader
from dualproto_wsi.slide.reader import open_slide
from dualproto_wsi.slide.tiling import Block, Tile, plan_tiles
from dualproto_wsi.slide.tissue import find_tissue

WINDOW_PX, STRIDE_PX, OVERLAP = 448, 4, 0.25
FACTORS = (1.0, 2.0, 1.0112, 0.9889)
COLUMNS = ("floor", "jpeg", "openslide", "openslide alone", "tiatoolbox")
ROW = "{:<26} {:>7} {:>8} {:>7} {:>7} {:>10} {:>16} {:>11} {:>11} {:>15} {:>16}\n"


def seconds(work: Callable[[], object]) -> float:
    """Processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def read_blocks(path: Path, reader: str, blocks: Sequence[Block]) -> float:
    """Processor time without opening: that is a few ms a slide."""

    def work() -> None:
        for block in blocks:
            block.cut(slide.read(block.box, block.size))

    with open_slide(path, ReadSettings(reader=reader)) as slide:  # a fresh one: readers keep decoded tiles
        return seconds(work)


def decode_only(path: Path, blocks: Sequence[Block]) -> Callable[[], float]:
    """Gather what the reader hands to libjpeg-turbo; return what decodes it again."""
    calls: list[tuple[object, ...]] = []
    decode = jpeg_reader._decoded
    with mock.patch.object(jpeg_reader, "_decoded", lambda *what: calls.append(what) or decode(*what)):
        read_blocks(path, "jpeg", blocks)
    return lambda: seconds(lambda: [decode(*what) is None for what in calls])


def openslide_alone(path: Path, grid: LabelGrid, tiles: Sequence[Tile]) -> float:
    side = round(WINDOW_PX // STRIDE_PX * grid.scale)

    def work() -> None:
        for tile in tiles:
            where = round(grid.x + tile.column * grid.scale), round(grid.y + tile.row * grid.scale)
            image = slide.read_region(where, 0, (side, side)).convert("RGB")
            np.asarray(image.resize((WINDOW_PX, WINDOW_PX), Image.Resampling.BILINEAR))

    with openslide.OpenSlide(path) as slide:
        return seconds(work)


def tiatoolbox_alone(path: Path, grid: LabelGrid, mpp: float, tiles: Sequence[Tile]) -> float:
    slide = WSIReader.open(path, mpp=(mpp, mpp))
    wanted = grid.scale * mpp / STRIDE_PX

    def work() -> None:
        for tile in tiles:
            where = round(grid.x + tile.column * grid.scale), round(grid.y + tile.row * grid.scale)
            slide.read_rect(where, (WINDOW_PX, WINDOW_PX), resolution=wanted, units="mpp")

    return seconds(work)


def measure(path: Path, factor: float, limit: int, rounds: int) -> list[object]:
    """One row of the table: a slide at `factor` times its own pixel size."""
    with open_slide(path) as slide:
        mpp = slide.info.require_mpp()
        grid = LabelGrid.over(slide.info.content, mpp, STRIDE_PX * mpp * factor)
        plan = plan_tiles(grid, find_tissue(slide, TissueSettings(), mpp), WINDOW_PX, STRIDE_PX, OVERLAP)
    middle = max(0, len(plan.blocks) - limit // 6) // 2
    blocks = plan.blocks[middle : middle + max(1, limit // 6)]
    tiles = [tile for block in blocks for tile in block.tiles]
    floor = decode_only(path, blocks)
    ways = (
        floor,
        lambda: read_blocks(path, "jpeg", blocks),
        lambda: read_blocks(path, "openslide", blocks),
        lambda: openslide_alone(path, grid, tiles),
        lambda: tiatoolbox_alone(path, grid, mpp, tiles),
    )
    times = [min(column) for column in zip(*([way() for way in ways] for _ in range(rounds)), strict=True)]
    shares = [times[1] / times[0], times[2] / times[1], times[4] / times[1]]
    return [
        path.name[:26],
        f"{factor:g}",
        len(tiles),
        *(f"{spent / len(tiles) * 1e3:.2f}" for spent in times),
        *(f"{share:.2f}x" for share in shares),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slides", nargs="+", type=Path)
    parser.add_argument("--windows", type=int, default=240, help="about so many windows a row")
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many runs")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    heads = ("jpeg/floor", "openslide/jpeg", "tiatoolbox/jpeg")
    sys.stdout.write(ROW.format("slide", "factor", "windows", *COLUMNS, *heads))
    for path in options.slides:
        for factor in FACTORS:
            try:
                sys.stdout.write(ROW.format(*measure(path, factor, options.windows, options.rounds)))
            except SlideError as error:  # not made of JPEG tiles, or without pixel size
                sys.stdout.write(f"{error}\n")
                break


if __name__ == "__main__":
    main()
