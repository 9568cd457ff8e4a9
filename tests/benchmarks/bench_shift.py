"""Does a place keep its label when the windows lie elsewhere? Agreement and cost over the overlap.

The same part of a slide is mapped several times, the grid shifted by some cells: by a multiple of the encoder's
coarsest step (16 px: 4 cells of the built-in model), so that only the windows' borders move, and by other numbers, so
that the encoder's own grid moves over the picture too. Printed is the share of analysed cells that keep their label,
and the number of windows relative to the first overlap.

    python tests/benchmarks/bench_shift.py SLIDE [--mpp X] [--model NAME|FILE] [--side-mm 2] [--overlaps 0,0.125,0.25]
        [--gate STRENGTH]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from dualproto_wsi.geometry import Box, LabelGrid
from dualproto_wsi.model.checkpoint import load_model
from dualproto_wsi.settings import InferenceSettings, ReadSettings, TissueSettings
from dualproto_wsi.slide.reader import open_slide
from dualproto_wsi.slide.tiling import plan_tiles
from dualproto_wsi.slide.tissue import find_tissue
from dualproto_wsi.vector.mosaic import ScoreMosaic
from dualproto_wsi.workflow.mapping.engine import Engine
from dualproto_wsi.workflow.mapping.inference import predict, read_ahead
from dualproto_wsi.workflow.stopwatch import Stopwatch

SHIFTS = ((0, 0), (36, 24), (12, 52), (37, 23), (2, 1))
"""(columns, rows) that the grid of windows is moved by, cells."""


def densest(tissue, content: Box, side: float) -> Box:
    """Return the square with the most tissue, level-0 px."""
    width, height = min(side, content.width), min(side, content.height)
    boxes = [
        Box(content.x + x, content.y + y, width, height)
        for y in np.arange(0, content.height - height + 1, max(height / 4, 1))
        for x in np.arange(0, content.width - width + 1, max(width / 4, 1))
    ]
    return max(
        boxes,
        key=lambda box: tissue.sample(LabelGrid.over(box, tissue.mpp, 32.0), 0, int(height * tissue.mpp / 32)).mean(),
    )


def label(reader, engine, tissue, grid: LabelGrid, overlap: float) -> tuple[np.ndarray, int]:
    """Return the labels of a grid, 0 off tissue, and the number of windows."""
    model = engine.model
    plan = plan_tiles(grid, tissue, model.window_px, model.stride_px, overlap, lattice_px=model.encoder.step_px)
    mosaic = ScoreMosaic(grid.columns, grid.rows, len(model.classes), model.window_px // model.stride_px)
    for blocks, (logits, _) in predict(engine, read_ahead(reader, plan.blocks, 2), Stopwatch()):
        for tile, scores in zip((t for b in blocks for t in b.tiles), logits, strict=True):
            mosaic.add(tile.row, tile.column, scores)
    _, logits, covered = mosaic.release(grid.rows)
    analysed = covered & tissue.sample(grid, 0, grid.rows)
    return np.where(analysed, logits.argmax(0) + 1, 0), plan.tiles


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--mpp", type=float)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--side-mm", type=float, default=2.0)
    parser.add_argument(
        "--at", metavar="X,Y", help="top left of the square, level-0 px; default: where tissue is densest"
    )
    parser.add_argument("--overlaps", default="0,0.0625,0.125,0.25,0.5")
    parser.add_argument("--gate", type=float, help="strength of the presence gate instead of the bundle's")
    given = parser.parse_args()
    model = load_model(given.model)
    if given.gate is not None:
        model.gate = given.gate
    engine = Engine(model, InferenceSettings(device="auto", precision=given.precision))
    cell_um = engine.model.stride_px * engine.model.mpp
    with open_slide(given.slide, ReadSettings(given.mpp)) as reader:
        mpp = reader.info.require_mpp()
        tissue = find_tissue(reader, TissueSettings(), mpp)
        side = given.side_mm * 1000 / mpp
        box = densest(tissue, reader.info.content, side)
        if given.at:
            box = Box(*map(float, given.at.split(",")), side, side)
        size = f"{box.width * mpp / 1000:.2f} x {box.height * mpp / 1000:.2f} mm"
        print(f"{given.slide.name}: {size} at {box.x:.0f}, {box.y:.0f}")
        print(
            f"overlap  windows  cost   agreement with the unshifted grid, shifts of {', '.join(map(str, SHIFTS[1:]))}"
        )
        first_cost = 0
        for overlap in map(float, given.overlaps.split(",")):
            maps, cost = [], 0
            for dx, dy in SHIFTS:
                scale = cell_um / mpp
                shifted = Box(box.x + dx * scale, box.y + dy * scale, box.width - dx * scale, box.height - dy * scale)
                labels, tiles = label(reader, engine, tissue, LabelGrid.over(shifted, mpp, cell_um), overlap)
                maps.append(labels)
                cost = max(cost, tiles)
            if not first_cost:
                counts = np.bincount(maps[0].ravel())[1:]
                print(f"shares of the classes: {', '.join(f'{share:.1%}' for share in counts / counts.sum())}")
            first_cost = first_cost or cost
            shares = []
            for (dx, dy), other in zip(SHIFTS[1:], maps[1:], strict=True):
                here = maps[0][dy : dy + other.shape[0], dx : dx + other.shape[1]]
                other = other[: here.shape[0], : here.shape[1]]
                both = (here > 0) & (other > 0)
                shares.append(f"{(here == other)[both].mean():.4f}")
            print(f"{overlap:7.4f}  {cost:7d}  {cost / first_cost:4.2f}   {'  '.join(shares)}", flush=True)


if __name__ == "__main__":
    main()
