"""Made-up slides whose every pixel is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

WIDTH, HEIGHT = 1203, 901  # no multiple of 4: the sides' ratio to the level below is not the factor


def wave(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Colour as a smooth function of the place (level-0 px), RGB, not rounded."""
    red = 128 + 80 * np.sin(x / 25) * np.cos(y / 30)
    green = 128 + 80 * np.cos(x / 22 + y / 41 + 0.3)
    blue = 128 + 80 * np.sin(y / 26 - x / 53)
    return np.stack(np.broadcast_arrays(red, green, blue), axis=-1)


def sampled(x: float, y: float, step: float, size: tuple[int, int]) -> np.ndarray:
    """The wave at the centres of `size` (width, height) squares of side `step` from (x, y) on."""
    columns = x + (np.arange(size[0]) + 0.5) * step
    rows = y + (np.arange(size[1]) + 0.5) * step
    return wave(columns[None, :], rows[:, None])


def write_pyramid(path: Path, levels: list[np.ndarray], mpp: float | None = 0.5, **options: object) -> Path:
    """Write a tiled TIFF with a page per level."""
    where = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    common = {"tile": (128, 128), "photometric": "rgb", "compression": "deflate", "metadata": None} | options
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(levels[0], **common, **where)
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, **common)
    return path


@pytest.fixture(scope="session")
def wave_levels() -> list[np.ndarray]:
    """Levels 1 and 4 of the wave, uint8; the second with a part pixel at its far sides, as scanners write it."""
    noise = np.random.default_rng(0)

    def level(step: int) -> np.ndarray:
        exact = sampled(0, 0, step, (-(-WIDTH // step), -(-HEIGHT // step)))
        # Noise keeps the rounding of slow slopes from looking like a shift.
        return np.rint(exact + noise.uniform(-1, 1, exact.shape)).astype(np.uint8)

    return [level(1), level(4)]


@pytest.fixture(scope="session")
def wave_slide(tmp_path_factory: pytest.TempPathFactory, wave_levels: list[np.ndarray]) -> Path:
    return write_pyramid(tmp_path_factory.mktemp("wave") / "wave.tif", wave_levels)


@pytest.fixture(scope="session")
def write_slide() -> Callable[..., Path]:
    """Write RGB pixels as a tiled TIFF pyramid of levels 1 and 4."""

    def write(path: Path, pixels: np.ndarray, mpp: float | None = 0.5, **options: object) -> Path:
        small = cv2.resize(pixels, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        return write_pyramid(path, [pixels, small], mpp, **options)

    return write


@pytest.fixture(scope="session")
def wave_at() -> Callable[..., np.ndarray]:
    return sampled
