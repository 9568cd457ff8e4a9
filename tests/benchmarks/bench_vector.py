"""Time and exactness of tracing, against what else could do it; bench_write.py has the writing.

python tests/benchmarks/bench_vector.py --size 4096

Prints one table, in processor time. The map is Gaussian-filtered noise cut into classes; ``--smooth`` is the filter's
width in cells, and the smaller it is, the more vertices a map has. Maps above 4096 cells repeat that of 4096, mirrored.
Peers that take long are left out above 4096 cells, or by ``--quick``.

python tests/benchmarks/bench_vector.py --memory

prints what the tracer holds at most, and its time, for maps of growing size that nobody holds: bands are made one by
one and regions are thrown away.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import rasterio.features
import rasterio.transform
import shapely
import shapely.geometry
from scipy.ndimage import gaussian_filter

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.polygons import RegionTracer, TracedRegion
from dualproto_wsi.vector.rasterise import rasterise
from dualproto_wsi.vector.region import to_region

CLASSES = 5
BAND, TILE = 256, 4096
SCHEME = ClassScheme(tuple(TissueClass(i, f"class {i}", (40 * i, 0, 0)) for i in range(1, CLASSES + 1)))


def make_tile(size: int, smooth: float) -> np.ndarray:
    """Return a blobby label map of classes 1…5."""
    noise = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    noise = gaussian_filter(noise, smooth, output=np.float32)
    levels = np.quantile(noise[::8, ::8], np.arange(1, CLASSES) / CLASSES)
    return np.digitize(noise, levels).astype(np.uint8) + np.uint8(1)


def make_bands(size: int, smooth: float) -> Iterator[np.ndarray]:
    """Yield a map of any size, the tile of 4096 mirrored over and over, band by band."""
    tile = make_tile(min(size, TILE), smooth)
    place = np.arange(size) % (2 * TILE)
    fold = np.minimum(place, 2 * TILE - 1 - place)
    for row in range(0, size, BAND):
        yield tile[np.ix_(fold[row : row + BAND], fold)]


def seconds(function: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Return the best processor time of some runs, and the result."""
    best, result = np.inf, None
    for _ in range(repeats):
        result = None
        start = time.process_time()
        result = function()
        best = min(best, time.process_time() - start)
    return best, result


def trace(labels: np.ndarray, probabilities: np.ndarray | None = None, simplify: float = 0) -> list[TracedRegion]:
    """Trace band by band."""
    tracer = RegionTracer(labels.shape[1], 0 if probabilities is None else len(probabilities), simplify)
    regions = []
    for row in range(0, len(labels), BAND):
        part = None if probabilities is None else probabilities[:, row : row + BAND]
        regions += tracer.feed(labels[row : row + BAND], part)
    return regions + tracer.finish()


def held_and_seconds(size: int, smooth: float, simplify: float) -> tuple[int, float, int]:
    """Trace a map that nobody holds; return the most memory held by the tracer, its time and the number of regions."""
    tracer, held, took, count = RegionTracer(size, CLASSES, simplify), 0, 0.0, 0
    probabilities = np.full((CLASSES, BAND, size), 0.2, np.float32)
    for band in make_bands(size, smooth):
        start = time.process_time()
        count += len(tracer.feed(band, probabilities[:, : len(band)]))
        took += time.process_time() - start
        held = max(held, tracer.nbytes)
    start = time.process_time()
    count += len(tracer.finish())
    return held, took + time.process_time() - start, count


def memory_table(smooth: float) -> None:
    sys.stdout.write(f"filter {smooth:g}, {CLASSES} classes with probabilities\n")
    sys.stdout.write(f"{'cells':>8}{'simplify':>10}{'MB held':>10}{'seconds':>10}{'regions':>10}\n")
    for simplify in (0, 1):
        for size in (4096, 16384, 32768):
            held, took, count = held_and_seconds(size, smooth, simplify)
            sys.stdout.write(f"{size:>7}²{simplify:>10}{held / 1e6:>10.1f}{took:>10.2f}{count:>10}\n")
            sys.stdout.flush()


def kept_of(labels: np.ndarray, exact: list[TracedRegion], regions: list[TracedRegion]) -> str:
    """Tell what simplification kept, how it changed areas, and whether all is valid and shared."""
    areas = np.array([shapely.Polygon(region.rings[0], region.rings[1:]) for region in regions], dtype=object)
    of = np.array([region.label for region in regions])
    cells = np.bincount(labels.ravel(), minlength=CLASSES + 1)
    errors = [shapely.area(areas[of == label]).sum() / cells[label] - 1 for label in range(1, CLASSES + 1)]
    wrong = shapely.is_valid(areas).sum() != len(areas) or not shapely.coverage_is_valid(areas)
    told = " ".join(f"{error:+.2%}" for error in errors)
    return f"{count_vertices(regions) / count_vertices(exact):.1%} of vertices, areas {told}, " + (
        "NOT VALID" if wrong else "all valid, no gap or overlap"
    )


def count_vertices(regions: list[TracedRegion]) -> int:
    return sum(len(ring) for region in regions for ring in region.rings)


def simplify_shapely(labels: np.ndarray, tolerance: float, tile: int = 256) -> int:
    """Trace squares with rasterio and simplify each as a coverage with a fixed border; return the vertices kept."""
    kept = 0
    for row in range(0, len(labels), tile):
        for column in range(0, len(labels), tile):
            part = np.ascontiguousarray(labels[row : row + tile, column : column + tile])
            shapes = [shapely.geometry.shape(s) for s, _ in rasterio.features.shapes(part, connectivity=4)]
            simple = shapely.coverage_simplify(shapes, tolerance, simplify_boundary=False)
            kept += int(shapely.get_num_coordinates(simple).sum())
    return kept


def trace_tiatoolbox(labels: np.ndarray) -> tuple[int, float]:
    """Let TIAToolbox make its QuPath features; return how many, and the largest error of a class's area.

    It fills holes and runs through the middle of border cells.
    """
    from tiatoolbox.utils.misc import dict_to_store_semantic_segmentor

    output = {"predictions": labels}
    features = dict_to_store_semantic_segmentor(output, (1.0, 1.0), "qupath", verbose=False)["features"]
    areas = np.zeros(CLASSES + 1)
    for feature in features:
        areas[feature["class_value"]] += shapely.geometry.shape(feature["geometry"]).area
    cells = np.bincount(labels.ravel(), minlength=CLASSES + 1)
    return len(features), float(np.abs(areas[1:] / cells[1:] - 1).max())


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="side of the label map, cells")
    parser.add_argument("--smooth", type=float, default=24, help="width of the filter that makes the map, cells")
    parser.add_argument("--scale", type=float, default=4.0, help="side of a cell in the file, level-0 px")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the best one counts")
    parser.add_argument("--quick", action="store_true", help="leave out the slow peers")
    parser.add_argument("--memory", action="store_true", help="only measure what the tracer holds")
    options = parser.parse_args()
    slow = not options.quick and options.size <= TILE
    trace(np.eye(300, dtype=np.uint8), np.zeros((1, 300, 300), np.float32), 1)  # compiles
    if options.memory:
        memory_table(options.smooth)
        return

    labels = np.concatenate(list(make_bands(options.size, options.smooth)))
    grid = LabelGrid(0, 0, options.scale, options.scale / 2, *labels.shape[::-1])
    took, regions = seconds(lambda: trace(labels), options.repeats)
    vertices = count_vertices(regions)
    areas = [to_region(region, grid, SCHEME) for region in regions]
    wrong = np.mean(rasterise(areas, grid) != labels)
    sys.stdout.write(
        f"{options.size}² cells, {CLASSES} classes, filter {options.smooth:g}: {len(regions):,} regions, "
        f"{vertices:,} vertices\n\n"
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
    for cells in (1, 1.5, 2):
        time_s, simple = seconds(lambda cells=cells: trace(labels, simplify=cells), options.repeats)
        remark = kept_of(labels, regions, simple) if slow else f"{count_vertices(simple) / vertices:.1%} kept"
        row(f"trace, simplified by {cells:g}", time_s, took, remark)
    row("rasterio.features.shapes", seconds(lambda: trace_rasterio(labels), options.repeats)[0], took, "exact")
    time_s, found = seconds(lambda: trace_opencv(labels), options.repeats)
    row("cv2.findContours", time_s, took, f"{wrong_share_opencv(labels, found):.2%} of cells wrong" if slow else "")
    if slow:
        row("rasterio in tiles + union_all", seconds(lambda: trace_tiles(labels), 1)[0], took, "once")
        time_s, kept = seconds(lambda: simplify_shapely(labels, 1), 1)
        row(
            "shapely.coverage_simplify by 1",
            time_s,
            took,
            f"{kept / vertices:.1%} of vertices, in squares; once",
        )
        time_s, (count, error) = seconds(lambda: trace_tiatoolbox(labels), 1)
        row("tiatoolbox to QuPath", time_s, took, f"{count} features, areas wrong by up to {error:.0%}; once")


if __name__ == "__main__":
    main()
