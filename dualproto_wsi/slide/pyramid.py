"""Reading any box at any size from a pyramid of levels: the part that all readers share.

Pixel ``k`` of a level with downsample ``d`` covers level-0 pixels ``d*k`` to ``d*(k+1)``; a sample of the result stands
for the centre of its share of the box. So neighbouring boxes join without shift, whatever the ratio.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from dualproto_wsi.errors import SlideUnreadable
from dualproto_wsi.geometry import Box
from dualproto_wsi.slide.reader import SlideInfo

Pixels = npt.NDArray[np.uint8]
SAME = 1e-6  # relative difference below which two scales are one
ALIGNED_PX = 1e-3  # offset from a whole pixel below which no resampling is needed
MARGIN = 2  # pixels that a resampled pixel may take beside its own place: one to smooth, one to interpolate
LEVEL_TOLERANCE = 0.02  # a level this much coarser than asked for is still used
LARGEST_READ_PX = 1 << 24  # level pixels; more are read in parts, so that a thumbnail never takes a slide's memory
LONGEST_READ_PX = 30_000  # level pixels along a side; cv2.warpAffine takes less than 2¹⁵


def exact_downsample(level: tuple[int, int], base: tuple[int, int], reported: float) -> float:
    """Return the factor that a pyramid was built with.

    Readers report the ratio of the sides, which is off when the sides are no multiple of the factor: 58764 / 3673 is
    15.9989 where 16 was meant, half a level-3 pixel at the far end of a slide.

    Parameters
    ----------
    level, base : tuple of int
        (width, height) of the level and of level 0, px.
    reported : float
        What the reader says.

    Returns
    -------
    float
        The nearest whole number if both sides agree with it, else `reported`.
    """
    factor = round(reported)
    fits = factor >= 1 and all(abs(side * factor - full) < factor for side, full in zip(level, base, strict=True))
    return float(factor) if fits else reported


class PyramidReader(ABC):
    """A slide as a pyramid; a subclass supplies whole pixels of one level.

    Parameters
    ----------
    info : SlideInfo
        What is known of the slide.
    level_sizes : tuple of (int, int)
        (width, height) of each level that can be read, px.
    downsamples : tuple of float, optional
        Level-0 px per px of each of them; ``info.downsamples`` if it is not given.
    """

    def __init__(
        self,
        info: SlideInfo,
        level_sizes: tuple[tuple[int, int], ...],
        downsamples: tuple[float, ...] | None = None,
    ) -> None:
        self.info = info
        self._level_sizes = level_sizes
        self._downsamples = info.downsamples if downsamples is None else downsamples

    @abstractmethod
    def _read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Read whole pixels that lie inside the level: uint8 (height, width, 3), transparent ones white."""

    def _drift(self, level: int, x: int, y: int) -> tuple[float, float]:
        """Return how far right and down of pixel (x, y) a read of it really starts, level px."""
        return 0.0, 0.0

    @abstractmethod
    def close(self) -> None:
        """Let go of the file; harmless when done twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, box: Box, size: tuple[int, int]) -> Pixels:
        """Read a box of the slide at a size of one's choice.

        Parameters
        ----------
        box : Box
            Level-0 px, fractions allowed; may reach beyond the slide.
        size : tuple of int
            (width, height) of the result, px.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
            RGB, antialiased; white outside the slide and where the slide is transparent.

        Raises
        ------
        SlideUnreadable
            If the pixels cannot be decoded.
        ValueError
            If the box or the size is empty.
        """
        if min(size) < 1 or box.area <= 0:
            raise ValueError(f"cannot read {box} at {size[0]} x {size[1]} px: both must have an extent")
        level = self._level_for(min(box.width / size[0], box.height / size[1]))
        downsample = self._downsamples[level]
        on_level = Box(box.x / downsample, box.y / downsample, box.width / downsample, box.height / downsample)
        too_large = on_level.area > LARGEST_READ_PX or max(on_level.width, on_level.height) > LONGEST_READ_PX
        if too_large and max(size) > 1:
            return self._in_halves(box, size)
        step = _whole_step(on_level, size)
        x, y = round(on_level.x), round(on_level.y)
        if step and max(map(abs, self._drift(level, x, y))) <= ALIGNED_PX:
            pixels = self._padded(level, x, y, size[0] * step, size[1] * step)
            return pixels if step == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        return self._resampled(level, on_level, size)

    def _in_halves(self, box: Box, size: tuple[int, int]) -> Pixels:
        """Read the two halves along the longer side one after the other."""
        width, height = size
        if width > height:
            first = width // 2
            x = box.x + box.width * first / width
            left, right = Box(box.x, box.y, x - box.x, box.height), Box(x, box.y, box.right - x, box.height)
            return np.hstack((self.read(left, (first, height)), self.read(right, (width - first, height))))
        first = height // 2
        y = box.y + box.height * first / height
        upper, lower = Box(box.x, box.y, box.width, y - box.y), Box(box.x, y, box.width, box.bottom - y)
        return np.vstack((self.read(upper, (width, first)), self.read(lower, (width, height - first))))

    def _resampled(self, level: int, box: Box, size: tuple[int, int]) -> Pixels:
        """Read a box given in the level's pixels: whole pixels averaged first, the rest of the ratio by a triangle."""
        step_x, step_y = (max(1, int(ratio + SAME)) for ratio in (box.width / size[0], box.height / size[1]))
        # Multiples of the step, that a place be averaged with the same neighbours whatever the box.
        x = (math.floor(box.x / step_x) - MARGIN) * step_x
        y = (math.floor(box.y / step_y) - MARGIN) * step_y
        columns = math.ceil((box.right - x) / step_x) + MARGIN
        rows = math.ceil((box.bottom - y) / step_y) + MARGIN
        pixels = self._padded(level, x, y, columns * step_x, rows * step_y)
        if step_x * step_y > 1:
            pixels = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA)
        drift_x, drift_y = self._drift(level, max(x, 0), max(y, 0))
        left, top = (box.x - x - drift_x) / step_x, (box.y - y - drift_y) / step_y
        return triangle_resize(pixels, Box(left, top, box.width / step_x, box.height / step_y), size)

    def _padded(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Read whole pixels of a level, white outside of it."""
        full_width, full_height = self._level_sizes[level]
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, full_width), min(y + height, full_height)
        if (left, top, right, bottom) == (x, y, x + width, y + height):
            return self._checked(level, x, y, width, height)
        pixels = np.full((height, width, 3), 255, np.uint8)
        if right > left and bottom > top:
            part = self._checked(level, left, top, right - left, bottom - top)
            pixels[top - y : bottom - y, left - x : right - x] = part
        return pixels

    def _checked(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        pixels = self._read_level(level, x, y, width, height)
        if pixels.shape != (height, width, 3) or pixels.dtype != np.uint8:
            raise SlideUnreadable(
                f"{self.info.name}: pixels of shape {pixels.shape} and type {pixels.dtype} are not 8-bit RGB; "
                "convert the slide to a brightfield RGB image"
            )
        return pixels

    def _level_for(self, downsample: float) -> int:
        """Return the coarsest level that is at least as fine as asked for."""
        fits = [i for i, d in enumerate(self._downsamples) if d <= downsample * (1 + LEVEL_TOLERANCE)]
        return max(fits, key=lambda i: self._downsamples[i], default=0)


def triangle_resize(pixels: Pixels, box: Box, size: tuple[int, int]) -> Pixels:
    """Resample a part of a picture by a ratio of at most 2, fractions of a pixel honoured.

    What Pillow's ``BILINEAR`` with a box does, 3 to 4 times faster. Its filter is a triangle as wide as the ratio
    ``r``; linear interpolation is one as wide as 1. Weights ``(a, 1 - 2a, a)`` with ``a = (r² - 1) / 12`` laid over the
    picture first make up for the difference: mean and variance are the wide triangle's at every ratio, and at 1 and 2
    the filters are the same.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
        The picture, with 2 px to spare around the box.
    box : Box
        What to take, in the picture's pixels.
    size : tuple of int
        (width, height) of the result, px; not less than half of the box.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
    """
    ratio_x, ratio_y = box.width / size[0], box.height / size[1]
    # In whole 1/256, as cv2 rounds them: only so do the three weights sum to 1 and white stays white.
    side_x, side_y = (max(0, round((ratio**2 - 1) / 12 * 256)) / 256 for ratio in (ratio_x, ratio_y))
    if max(side_x, side_y) > 0:
        weights_x, weights_y = (np.array([side, 1 - 2 * side, side], np.float32) for side in (side_x, side_y))
        pixels = cv2.sepFilter2D(pixels, -1, weights_x, weights_y)
    # The centre of result pixel (0, 0) lies half a result pixel inside the box; that of pixel (0, 0) at 0.5, not at 0.
    places = np.array([[ratio_x, 0, box.x + ratio_x / 2 - 0.5], [0, ratio_y, box.y + ratio_y / 2 - 0.5]])
    result: Pixels = cv2.warpAffine(pixels, places, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return result


def _whole_step(box: Box, size: tuple[int, int]) -> int:
    """Return how many level pixels a result pixel takes, if that is a whole number on whole pixels; else 0."""
    step = round(box.width / size[0])
    same_scale = all(
        abs(extent - step * count) <= SAME * extent for extent, count in zip((box.width, box.height), size, strict=True)
    )
    aligned = max(abs(box.x - round(box.x)), abs(box.y - round(box.y))) <= ALIGNED_PX
    return step if step >= 1 and same_scale and aligned else 0
