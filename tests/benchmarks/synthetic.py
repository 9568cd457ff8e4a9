"""Made-up slides of any size whose tissue map is known, for benchmarks.

python tests/benchmarks/synthetic.py SIDE FILE

A slide is a JPEG-tiled, pyramidal TIFF at 0.5 µm/px that every reader opens: tissue with a smooth random outline on
glass, in it patches of three classes, each with nuclei of its own size and density. It is made tile row by tile row, so
the side may be 100,000 px. It looks like tissue to the tissue finder; no model is expected to know its classes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile

TILE = 512
MPP = 0.5
PATCH = 2048  # side of the textures, px; they repeat
CELLS = 8  # px of the slide per px of the maps that outline tissue and classes

#: Colour of the ground, colour of the nuclei, their radius in px and number per 100 x 100 px.
CLASSES = {
    "tumor": ((205, 150, 195), (110, 65, 145), 9, 12),
    "stroma": ((228, 165, 195), (130, 90, 160), 4, 3),
    "lymphocyte": ((200, 160, 205), (70, 45, 120), 6, 30),
}
GLASS = (243, 242, 244)


def texture(name: str) -> np.ndarray:
    """Return the look of a class, uint8 (PATCH, PATCH, 3); its edges fit together."""
    ground, nucleus, radius, density = CLASSES[name]
    generator = np.random.default_rng(len(name))
    picture = np.empty((PATCH, PATCH, 3), np.uint8)
    picture[:] = ground
    for x, y in generator.integers(0, PATCH, (density * PATCH * PATCH // 10_000, 2)).tolist():
        for dx in (-PATCH, 0, PATCH):
            for dy in (-PATCH, 0, PATCH):
                if -radius <= x + dx <= PATCH + radius and -radius <= y + dy <= PATCH + radius:
                    cv2.circle(picture, (x + dx, y + dy), radius, nucleus, -1, cv2.LINE_AA)
    return np.clip(picture + generator.normal(0, 5, picture.shape), 0, 255).astype(np.uint8)


def smooth_field(side: int, blobs: int, seed: int) -> np.ndarray:
    """Return a smooth random field, float32 (side, side), with about so many blobs along a side."""
    noise = np.random.default_rng(seed).standard_normal((blobs + 3, blobs + 3)).astype(np.float32)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)


def truth(side: int) -> np.ndarray:
    """Return the map that a slide of this side is made from: 0 glass, 1…3 classes; uint8 (n, n), CELLS px a cell."""
    cells = -(-side // CELLS)
    blobs = max(2, side // 3000)
    y, x = np.mgrid[:cells, :cells] / cells - 0.5
    tissue = 0.16 - x * x - y * y + 0.03 * smooth_field(cells, blobs, 0) > 0
    fields = np.stack([smooth_field(cells, 3 * blobs, seed) for seed in (1, 2, 3)])
    return np.where(tissue, fields.argmax(axis=0) + 1, 0).astype(np.uint8)


def tiles(side: int, step: int, textures: list[np.ndarray], classes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the tiles of a level, left to right and top to bottom."""
    small = [cv2.resize(t, (PATCH // step,) * 2, interpolation=cv2.INTER_AREA) for t in textures]
    period, level_side = PATCH // step, -(-side // step)
    for top in range(0, level_side, TILE):
        for left in range(0, level_side, TILE):
            x = np.arange(left, left + TILE)
            y = np.arange(top, top + TILE)
            row, column = (np.minimum(c * step // CELLS, len(classes) - 1) for c in (y, x))
            label = classes[np.ix_(row, column)]
            tile = np.empty((TILE, TILE, 3), np.uint8)
            tile[:] = GLASS
            for number, look in enumerate(small, 1):
                if (label == number).any():
                    tile = np.where((label == number)[..., None], look[np.ix_(y % period, x % period)], tile)
            yield tile


def write_slide(path: Path, side: int) -> None:
    """Write a slide of side x side px with levels down to a tile."""
    textures, classes = [texture(name) for name in CLASSES], truth(side)
    with tifffile.TiffWriter(path, bigtiff=side > 20_000) as tiff:
        step = 1
        while step == 1 or (side // step > TILE and step < PATCH):
            level_side = -(-side // step)
            tiff.write(
                tiles(side, step, textures, classes),
                shape=(level_side, level_side, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 80},
                resolution=(1e4 / (MPP * step),) * 2,
                resolutionunit="CENTIMETER",
                subfiletype=0 if step == 1 else 1,
                metadata=None,
            )
            step *= 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", type=int, help="px")
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    write_slide(options.file, options.side)


if __name__ == "__main__":
    main()
