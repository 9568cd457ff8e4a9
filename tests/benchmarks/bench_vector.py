"""Time and exactness of tracing and writing, against what else could do it.

python tests/benchmarks/bench_vector.py --size 4096

Prints one table, in processor time. The map is Gaussian-filtered noise cut into classes; ``--smooth`` is the filter's
width in cells, and the smaller it is, the more vertices a map has. Peers that take long are left out above 4096 cells,
or by ``--quick``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import rasterio.features
import rasterio.transform
import shapely
import shapely.geometry
from scipy.ndimage import gaussian_filter

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.geojson import GeoJsonWriter, Region, to_region
from dualproto_wsi.vector.polygons import RegionTracer, TracedRegion
from dualproto_wsi.vector.rasterise import rasterise

CLASSES = 5
BAND = 256
SCHEME = ClassScheme(tuple(TissueClass(i, f"class {i}", (40 * i, 0, 0)) for i in range(1, CLASSES + 1)))


def make_labels(size: int, smooth: float) -> np.ndarray:
    """Return a blobby label map of classes 1…5."""
    noise = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    noise = gaussian_filter(noise, smooth, output=np.float32)
    levels = np.quantile(noise[::8, ::8], np.arange(1, CLASSES) / CLASSES)
    return np.digitize(noise, levels).astype(np.uint8) + np.uint8(1)


def seconds(function: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Return the best processor time of some runs, and the result."""
    best, result = np.inf, None
    for _ in range(repeats):
        result = None
        start = time.process_time()
        result = function()
        best = min(best, time.process_time() - start)
    return best, result


def trace(labels: np.ndarray, probabilities: np.ndarray | None = None) -> tuple[list[TracedRegion], int]:
    """Trace band by band; return the regions and the most memory held between bands."""
    tracer = RegionTracer(labels.shape[1], 0 if probabilities is None else len(probabilities))
    regions, held = [], 0
    for row in range(0, len(labels), BAND):
        part = None if probabilities is None else probabilities[:, row : row + BAND]
        regions += tracer.feed(labels[row : row + BAND], part)
        held = max(held, tracer.nbytes)
    return regions + tracer.finish(), held


def trace_rasterio(labels: np.ndarray) -> list[object]:
    return list(rasterio.features.shapes(labels, connectivity=4))


def trace_opencv(labels: np.ndarray) -> list[tuple[int, list[np.ndarray], np.ndarray]]:
    return [
        (label, *cv2.findContours((labels == label).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE))
        for label in range(1, CLASSES + 1)
    ]


def wrong_share_opencv(labels: np.ndarray, found: list[tuple[int, list[np.ndarray], np.ndarray]]) -> float:
    """Take the contours as the polygons that they are, through the middle of border cells, fill them and compare."""
    shapes = []
    for label, contours, hierarchy in found:
        holes: dict[int, list[np.ndarray]] = {}
        for contour, links in zip(contours, hierarchy[0], strict=True):
            if links[3] >= 0 and len(contour) > 2:
                holes.setdefault(links[3], []).append(contour[:, 0] + 0.5)
        for number, (contour, links) in enumerate(zip(contours, hierarchy[0], strict=True)):
            if links[3] < 0 and len(contour) > 2:
                area = shapely.Polygon(contour[:, 0] + 0.5, holes.get(number, ())).buffer(0)
                shapes += [] if area.is_empty else [(area, label)]
    return float(np.mean(rasterio.features.rasterize(shapes, labels.shape, dtype=np.uint8) != labels))


def trace_tiles(labels: np.ndarray, tile: int = 512) -> list[object]:
    """Trace tiles on their own and unite what belongs together."""
    parts: dict[int, list[object]] = {}
    for row in range(0, len(labels), tile):
        for column in range(0, len(labels), tile):
            shift = rasterio.transform.from_origin(column, -row, 1, -1)
            part = np.ascontiguousarray(labels[row : row + tile, column : column + tile])
            for shape, value in rasterio.features.shapes(part, connectivity=4, transform=shift):
                parts.setdefault(int(value), []).append(shapely.geometry.shape(shape))
    return [shapely.union_all(shapes) for shapes in parts.values()]


def write(path: Path, regions: list[Region]) -> int:
    with GeoJsonWriter(path) as writer:
        for region in regions:
            writer.write(region)
    return path.stat().st_size


def write_json(path: Path, regions: list[Region]) -> int:
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
    return path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="side of the label map, cells")
    parser.add_argument("--smooth", type=float, default=24, help="width of the filter that makes the map, cells")
    parser.add_argument("--scale", type=float, default=4.0, help="side of a cell in the file, level-0 px")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the best one counts")
    parser.add_argument("--quick", action="store_true", help="leave out the slow peers")
    options = parser.parse_args()
    slow = not options.quick and options.size <= 4096

    labels = make_labels(options.size, options.smooth)
    grid = LabelGrid(0, 0, options.scale, options.scale / 2, *labels.shape[::-1])
    trace(labels[:300])  # compiles
    took, (regions, held) = seconds(lambda: trace(labels), options.repeats)
    vertices = sum(len(ring) for region in regions for ring in region.rings)
    areas = [to_region(region, grid, SCHEME) for region in regions]
    wrong = np.mean(rasterise(areas, grid) != labels)
    sys.stdout.write(
        f"{options.size}² cells, {CLASSES} classes, filter {options.smooth:g}: {len(regions):,} regions, "
        f"{vertices:,} vertices; tracer's memory {held / 1e6:.1f} MB\n\n"
        f"{'':34}{'seconds':>9}{'ratio':>8}  remark\n"
    )

    def row(name: str, time_s: float, base_s: float, remark: str = "") -> None:
        sys.stdout.write(f"{name:34}{time_s:9.3f}{time_s / base_s:8.1f}  {remark}\n")
        sys.stdout.flush()

    row("trace", took, took, f"{wrong:.2%} of cells wrong")
    if slow:
        probabilities = np.random.default_rng(0).random((CLASSES, *labels.shape), dtype=np.float32)
        row("trace, with probabilities", seconds(lambda: trace(labels, probabilities), options.repeats)[0], took)
        del probabilities
    row("rasterio.features.shapes", seconds(lambda: trace_rasterio(labels), options.repeats)[0], took, "exact")
    time_s, found = seconds(lambda: trace_opencv(labels), options.repeats)
    row("cv2.findContours", time_s, took, f"{wrong_share_opencv(labels, found):.2%} of cells wrong" if slow else "")
    if slow:
        row("rasterio in tiles + union_all", seconds(lambda: trace_tiles(labels), 1)[0], took, "once")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        base, size = seconds(lambda: write(path / "a.geojson", areas), options.repeats)
        row("write .geojson", base, base, f"{size / 1e6:.0f} MB, {vertices / base / 1e6:.1f} M vertices/s")
        time_s, size = seconds(lambda: write(path / "a.geojson.gz", areas), 1)
        row("write .geojson.gz", time_s, base, f"{size / 1e6:.0f} MB")
        if slow:
            time_s, size = seconds(lambda: write_json(path / "b.geojson", areas), 1)
            row("json.dump", time_s, base, f"{size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
