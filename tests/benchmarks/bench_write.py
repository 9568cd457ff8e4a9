"""Time, size and memory of writing and reading GeoJSON, against what else could do it.

python tests/benchmarks/bench_write.py

Prints one table, in processor time; ratios are to the plain file of the regions, and of squares to their sums. "Copy"
writes the same bytes from memory. Memory is the peak of the process beyond what it held before, each row in a process
of its own (Linux; the peak of all so far elsewhere).
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import orjson
from scipy.ndimage import gaussian_filter

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.geojson import GeoJsonWriter, read_features
from dualproto_wsi.vector.geojson.merge import ClassMerger
from dualproto_wsi.vector.geojson.squares import SquareTally
from dualproto_wsi.vector.polygons import RegionTracer, TracedRegion
from dualproto_wsi.vector.region import Region, to_region

CLASSES = 5
BAND = 256
_STATUS = Path("/proc/self/status")
SCHEME = ClassScheme(tuple(TissueClass(i, f"Tissue class {i}", (40 * i, 0, 0)) for i in range(1, CLASSES + 1)))


def make_map(size: int, smooth: float) -> tuple[np.ndarray, np.ndarray]:
    """Return blobby probabilities of the classes, and the label map of the strongest."""
    random = np.random.default_rng(0)
    scores = np.empty((CLASSES, size, size), np.float32)
    for plane in scores:
        plane[:] = gaussian_filter(random.standard_normal((size, size), np.float32), smooth) * smooth * 10
    scores = np.exp(scores)
    scores /= scores.sum(axis=0)
    return scores.argmax(axis=0).astype(np.uint8) + np.uint8(1), scores


def traced(labels: np.ndarray, scores: np.ndarray) -> Iterator[list[TracedRegion]]:
    tracer = RegionTracer(labels.shape[1], CLASSES)
    for row in range(0, len(labels), BAND):
        yield tracer.feed(labels[row : row + BAND], scores[:, row : row + BAND])
    yield tracer.finish()


def squares(labels: np.ndarray, scores: np.ndarray, grid: LabelGrid, side: int) -> Iterator[list[Region]]:
    tally = SquareTally(grid, SCHEME, side)
    for row in range(0, len(labels), BAND):
        yield tally.add(labels[row : row + BAND], scores[:, row : row + BAND])


def write(paths: list[Path], bands: Iterable[Iterable[Region]], object_type: str = "annotation") -> None:
    with GeoJsonWriter(paths, object_type) as writer:
        for regions in bands:
            writer.write_all(regions)


def write_merged(path: Path, bands: Iterable[list[TracedRegion]], grid: LabelGrid) -> None:
    with GeoJsonWriter(path) as writer:
        merger = ClassMerger(writer, grid, SCHEME)
        for regions in bands:
            merger.add(regions)
        merger.finish()


def write_json(path: Path, regions: list[Region]) -> None:
    features = [
        {
            "type": "Feature",
            "id": region.id,
            "geometry": {"type": "Polygon", "coordinates": [ring.round(2).tolist() for ring in region.rings]},
            "properties": {
                "objectType": "annotation",
                "classification": {"name": region.tissue_class.name, "color": region.tissue_class.colour},
                "measurements": region.measurements,
            },
        }
        for region in regions
    ]
    with path.open("w") as file:
        json.dump({"type": "FeatureCollection", "features": features}, file)


def _measure(function: Callable[[], object], answer: multiprocessing.Queue[tuple[float, float]]) -> None:
    """Run a function in this process; tell seconds and peak memory, MB."""
    if _STATUS.exists():
        _STATUS.with_name("clear_refs").write_text("5")  # forgets the peak inherited from the parent
    before = _peak()
    start = time.process_time()
    function()
    answer.put((time.process_time() - start, _peak() - before))


def _peak() -> float:
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(function: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the best processor time, s, and the peak memory, MB, of some runs, each in a new process."""
    context = multiprocessing.get_context("fork")
    results = []
    for _ in range(repeats):
        answer: multiprocessing.Queue[tuple[float, float]] = context.Queue()
        process = context.Process(target=_measure, args=(function, answer))
        process.start()
        results.append(answer.get())
        process.join()
    return min(r[0] for r in results), min(r[1] for r in results)


class Table:
    """Prints rows as they are measured."""

    def __init__(self, repeats: int) -> None:
        self._repeats, self._base = repeats, 1.0
        print(f"{'':46}{'seconds':>9}{'ratio':>8}{'MB':>8}{'memory MB':>11}")

    def row(self, name: str, function: Callable[[], object], paths: Iterable[Path] = (), first: bool = False) -> None:
        took, memory = measure(function, 1 if name.startswith("json.dump") else self._repeats)
        self._base = took if first else self._base
        size = " + ".join(f"{p.stat().st_size / 1e6:.0f}" for p in paths)
        print(f"{name:46}{took:9.2f}{took / self._base:8.2f}{size:>8}{memory:11.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="side of the label map, cells")
    parser.add_argument("--smooth", type=float, default=8, help="width of the filter that makes the map, cells")
    parser.add_argument("--scale", type=float, default=3.977, help="side of a cell in the file, level-0 px")
    parser.add_argument("--square", type=int, default=9, help="side of a square of the heat map, cells")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the best one counts")
    options = parser.parse_args()

    labels, scores = make_map(options.size, options.smooth)
    grid = LabelGrid(0, 0, options.scale, 2.0, options.size, options.size)
    bands = list(traced(labels, scores))
    regions = [to_region(region, grid, SCHEME) for band in bands for region in band]
    tiles = [region for band in squares(labels, scores, grid, options.square) for region in band]
    vertices = sum(len(ring) for region in regions for ring in region.rings)
    with tempfile.TemporaryDirectory() as folder:
        plain, packed, other = (Path(folder) / name for name in ("a.geojson", "a.geojson.gz", "b.geojson"))
        write([plain, packed], [regions[:9]])  # compiles
        list(read_features(plain))
        print(f"{len(regions):,} regions, {vertices:,} vertices; {len(tiles):,} squares\n")
        table = Table(options.repeats)
        table.row(".geojson", lambda: write([plain], [regions]), [plain], first=True)
        table.row(".geojson, ten times the features", lambda: write([other], [regions] * 10), [other])
        table.row(".geojson.gz", lambda: write([packed], [regions]), [packed])
        table.row("both at once", lambda: write([plain, packed], [regions]), [plain, packed])
        table.row("merged per class, .geojson", lambda: write_merged(other, bands, grid), [other])
        text = plain.read_bytes()
        table.row("copy of the .geojson", lambda: other.write_bytes(text), [other])
        table.row("gzip of it, zlib level 6", lambda: gzip.compress(text, 6))
        table.row("json.dump", lambda: write_json(other, regions), [other])
        table.row("read_features, .geojson", lambda: sum(1 for _ in read_features(plain)))
        table.row("read_features, .geojson.gz", lambda: sum(1 for _ in read_features(packed)))
        table.row("orjson.loads of the whole .geojson", lambda: orjson.loads(plain.read_bytes()))
        table.row("squares, tally", lambda: sum(map(len, squares(labels, scores, grid, options.square))), first=True)
        table.row("squares, .geojson.gz", lambda: write([packed], [tiles], "tile"), [packed])
        table.row("squares, both at once", lambda: write([plain, packed], [tiles], "tile"), [plain, packed])
        table.row("squares, read_features of .geojson", lambda: sum(1 for _ in read_features(plain)))


if __name__ == "__main__":
    sys.exit(main())
