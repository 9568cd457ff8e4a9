"""Time of the sieve and what it does, against rasterio.features.sieve.

python tests/benchmarks/bench_sieve.py --size 16384

Prints one table, in processor time. The map is Gaussian-filtered noise cut into classes and label 0; ``--smooth`` is
the filter's width in cells. The two do not do the same: rasterio's takes the label of the largest neighbour, and needs
the whole map.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import rasterio.features
from scipy.ndimage import gaussian_filter

from dualproto_wsi.vector.sieve import LabelSieve

CLASSES = 5
BAND = 256


def make_labels(size: int, smooth: float) -> np.ndarray:
    """Return a blobby label map of labels 0…5 in no order, from a tile of noise that wraps around."""
    tile = min(size, 4096)
    noise = np.random.default_rng(0).standard_normal((tile, tile), dtype=np.float32)
    noise = gaussian_filter(noise, smooth, output=np.float32, mode="wrap") if smooth else noise
    levels = np.quantile(noise[::8, ::8], np.arange(1, CLASSES + 1) / (CLASSES + 1))
    labels = np.array([3, 1, 0, 5, 2, 4], np.uint8)[np.digitize(noise, levels)]
    return np.tile(labels, (-(-size // tile),) * 2)[:size, :size]


def sieve(labels: np.ndarray, min_cells: int, max_hole_cells: int) -> tuple[np.ndarray, int, int]:
    """Sieve band by band; return the map, the longest delay in rows and the most memory between bands."""
    step = LabelSieve(labels.shape[1], min_cells, max_hole_cells)
    result, row, delay, held = np.empty_like(labels), 0, 0, 0
    for begin in range(0, len(labels), BAND):
        part = step.feed(labels[begin : begin + BAND])
        result[row : row + len(part)] = part
        row, delay, held = row + len(part), max(delay, step.delayed), max(held, step.nbytes)
    result[row:] = step.finish()
    return result, delay, held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="side of the label map, cells")
    parser.add_argument("--min-cells", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=2, help="runs of each; the best one counts")
    parser.add_argument("--smooth", type=float, nargs="+", default=[24, 8, 4], help="widths of the filter, cells")
    options = parser.parse_args()
    sieve(np.zeros((2, 2), np.uint8), 2, 2)  # compiles
    sys.stdout.write(
        f"{options.size}² cells, {CLASSES} classes and 0, limit {options.min_cells} cells, processor time\n\n"
        f"{'filter':>6}{'step':>26}{'seconds':>9}{'ratio':>7}{'changed':>9}{'delay':>7}{'MB held':>9}\n"
    )
    for smooth in options.smooth:
        labels = make_labels(options.size, smooth)
        base = 0.0
        for name, limits in {
            "holes, then classes": (1, 1),
            "holes": (0, 1),
            "classes": (1, 0),
            "rasterio": None,
        }.items():
            best, delay, held = np.inf, 0, 0
            for _ in range(options.repeats):
                begin = time.process_time()
                if limits:
                    result, delay, held = sieve(labels, *(options.min_cells * limit for limit in limits))
                else:
                    result = rasterio.features.sieve(labels, options.min_cells, connectivity=4)
                best = min(best, time.process_time() - begin)
            base = base or best
            sys.stdout.write(
                f"{smooth:6g}{name:>26}{best:9.2f}{best / base:7.2f}{np.mean(result != labels):9.2%}{delay:7d}"
                f"{held / 1e6:9.1f}\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
