"""What a window costs, step by step, beside the limit of each step: one table.

python tests/benchmarks/bench_steps.py [SLIDE] [--mpp X] [--model NAME|FILE] [--device cuda]

Without a slide, the sample slide of ``demo`` is taken. Every step runs on the slide's own windows, on one thread; times
are processor time for a window of tissue (on a GPU: time of the device). ``limit`` is what the step could cost at best,
named in the last column, and measured in the same run.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import rasterio.features
import torch
from torch.utils.flop_counter import FlopCounterMode

from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.model.checkpoint import load_model
from dualproto_wsi.settings import ReadSettings, TissueSettings
from dualproto_wsi.slide.reader import open_slide
from dualproto_wsi.slide.tiling import plan_tiles
from dualproto_wsi.slide.tissue import find_tissue
from dualproto_wsi.vector.geojson import GeoJsonWriter
from dualproto_wsi.vector.labelling import label_cells, probabilities_of
from dualproto_wsi.vector.mosaic import ScoreMosaic
from dualproto_wsi.vector.polygons import RegionTracer
from dualproto_wsi.vector.region import to_region
from dualproto_wsi.vector.sieve import LabelSieve
from dualproto_wsi.workflow.mapping.inference import read_ahead

OVERLAP = 0.125
MIN_AREA_UM2 = 200.0


def best(function: Callable[[], object], repeats: int = 3) -> float:
    """Return the least processor time of some runs, s; the first one only compiles and warms up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def device_time(function: Callable[[], object], device: str, repeats: int = 5) -> float:
    """Return the least time of some runs on a device, s."""
    if device == "cpu":
        return best(function, repeats)
    function()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def flops(function: Callable[[], object]) -> int:
    """Return the floating-point operations of a call."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def peak_flops(device: str, dtype: torch.dtype) -> float:
    """Return the operations a second of a large matrix product, the peak that a network can come near to."""
    side = 1024 if device == "cpu" else 8192
    a = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / device_time(lambda: a @ a, device)


class Table:
    """Prints rows as they are measured."""

    def __init__(self) -> None:
        sys.stdout.write(f"{'step':22}{'ms/window':>10}{'limit':>9}{'ratio':>7}  limit is\n")

    def row(self, step: str, seconds: float, limit: float, remark: str) -> None:
        ratio = f"{seconds / limit:7.1f}" if limit else " " * 7
        shown = f"{limit * 1e3:9.3f}" if limit else " " * 9
        sys.stdout.write(f"{step:22}{seconds * 1e3:10.3f}{shown}{ratio}  {remark}\n")
        sys.stdout.flush()


def copy_time(size: int) -> float:
    """Return the time of copying so many bytes in memory, s."""
    source = np.ones(size, np.uint8)
    target = np.empty_like(source)
    return best(lambda: np.copyto(target, source))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path, nargs="?")
    parser.add_argument("--mpp", type=float)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.slide is None:
        from dualproto_wsi.workflow.sample import fetch_sample

        given.slide = fetch_sample()
    model = load_model(given.model).to(given.device)
    table = Table()
    with open_slide(given.slide, ReadSettings(given.mpp)) as reader:
        mpp = reader.info.require_mpp()
        tissue = find_tissue(reader, TissueSettings(), mpp)
        grid = LabelGrid.over(reader.info.content, mpp, model.stride_px * model.mpp)
        plan = plan_tiles(grid, tissue, model.window_px, model.stride_px, OVERLAP, lattice_px=model.encoder.step_px)
        loaded = list(read_ahead(reader, plan.blocks, 1))

    def read() -> None:
        with open_slide(given.slide, ReadSettings(given.mpp)) as fresh:
            for block in plan.blocks:
                fresh.read(block.box, block.size)

    windows = np.concatenate([item.windows for item in loaded])[:16]
    table.row(
        "read",
        best(read) / plan.tiles,
        copy_time(windows[0].nbytes),
        "copying a window's pixels (bench_read.py: the decoder's)",
    )
    logits = network_rows(table, model, windows, given.device)
    map_rows(table, grid, tissue, model, plan, logits)


def network_rows(table: Table, model: torch.nn.Module, windows: np.ndarray, device: str) -> np.ndarray:
    """Measure encoder and head; return logits of the windows."""
    few = windows[: 2 if device == "cpu" else None]
    images = torch.from_numpy(few).to(device).permute(0, 3, 1, 2).float() / 255
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        peak = peak_flops(device, dtype)
        with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16, enabled=name == "bf16"):
            levels = model.encoder.encode(images)
            steps = {"encoder": partial(model.encoder.encode, images), "head": partial(model.head.logits, levels)}
            for step, run in steps.items():
                work = flops(run) / len(few)
                remark = f"{work / 1e9:.2f} GFLOP at the speed of a matrix product"
                table.row(f"{step}, {name}", device_time(run, device) / len(few), work / peak, remark)
    with torch.inference_mode():
        return model(torch.from_numpy(windows).to(device)).float().cpu().numpy()


def map_rows(table: Table, grid: LabelGrid, tissue, model, plan, logits: np.ndarray) -> None:
    """Measure everything behind the model on the whole slide's grid, with the scores of the first windows repeated."""
    tiles = [tile for block in plan.blocks for tile in block.tiles]
    classes, count = len(model.classes), len(tiles)

    def blend() -> tuple[int, np.ndarray, np.ndarray]:
        mosaic = ScoreMosaic(grid.columns, grid.rows, classes, model.window_px // model.stride_px)
        for number, tile in enumerate(tiles):
            mosaic.add(tile.row, tile.column, logits[number % len(logits)])
        return mosaic.release(grid.rows)

    table.row("blend", best(blend) / count, copy_time(logits[0].nbytes), "copying a window's scores")
    _, scores, covered = blend()
    analysed = covered & tissue.sample(grid, 0, grid.rows)
    copied = copy_time(scores.nbytes) / count
    table.row("softmax, labels", best(lambda: label_cells(probabilities_of(scores.copy(), covered), analysed)) / count,
              copied, "copying the slide's scores")  # fmt: skip
    probabilities = probabilities_of(scores, covered)
    labels = label_cells(probabilities, analysed)

    def sieve() -> np.ndarray:
        step = LabelSieve(grid.columns, round(MIN_AREA_UM2 / grid.cell_um**2), 0)
        return np.concatenate((step.feed(labels), step.finish()))

    least = round(MIN_AREA_UM2 / grid.cell_um**2)
    peer = best(lambda: rasterio.features.sieve(labels, least)) / count
    table.row(f"sieve, {MIN_AREA_UM2:g} µm²", best(sieve) / count, peer, "rasterio's sieve (another rule)")

    def trace(simplify: float = 0.0) -> list:
        tracer = RegionTracer(grid.columns, classes, simplify)
        return tracer.feed(labels, probabilities) + tracer.finish()

    peer = best(lambda: list(rasterio.features.shapes(labels, mask=labels > 0, connectivity=4))) / count
    table.row("trace", best(trace) / count, peer, "rasterio's shapes")
    table.row("trace, simplified", best(lambda: trace(1.0)) / count, peer, "rasterio's shapes, exact")
    regions = [to_region(item, grid, model.classes, "slide") for item in trace()]
    write_rows(table, regions, count)


def write_rows(table: Table, regions: list, count: int) -> None:
    """Measure writing, against the standard library."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("geojson", "geojson.gz"):
            path = Path(folder) / f"a.{suffix}"

            def write(path: Path = path) -> None:
                with GeoJsonWriter(path) as writer:
                    writer.write_all(regions)

            def peer(suffix: str = suffix) -> None:
                features = [
                    {"geometry": {"coordinates": [ring.tolist() for ring in region.rings]}, "id": region.id}
                    for region in regions
                ]
                text = json.dumps(features).encode()
                io.BytesIO(gzip.compress(text) if suffix.endswith("gz") else text)

            name = "json.dumps and gzip" if suffix.endswith("gz") else "json.dumps"
            table.row(f"write .{suffix}", best(write) / count, best(peer) / count, f"{name} of the same vertices")


if __name__ == "__main__":
    main()
