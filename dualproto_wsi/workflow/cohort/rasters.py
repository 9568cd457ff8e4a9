"""Rasters of the label grid, read band by band."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from dualproto_wsi.errors import DataError
from dualproto_wsi.geometry import LabelGrid


def read_bands(path: Path, grid: LabelGrid) -> Iterator[NDArray[np.uint8]]:
    """Read a raster from top to bottom, a row of TIFF tiles at a time.

    Parameters
    ----------
    path : Path
        What :class:`~dualproto_wsi.vector.raster.RasterWriter` wrote.
    grid : LabelGrid
        Which size it must have.

    Yields
    ------
    ndarray of uint8, shape (n, columns)

    Raises
    ------
    DataError
        If it is not there, not of that size, or damaged.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            if page.shape != grid.shape or page.dtype != np.uint8 or not page.is_tiled:
                raise DataError(
                    f"{path}: is {page.dtype} {page.shape}, record.json says uint8 {grid.shape}; run `segment` again"
                )
            yield from _bands(page, grid)
    except FileNotFoundError as error:
        raise DataError(f"{path}: is not there; run `segment` again") from error
    except DataError:
        raise
    except (
        OSError,
        ValueError,
        RuntimeError,
        TypeError,
        struct.error,
    ) as error:  # what decoders raise on damaged files
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"{path}: cannot be read, is it damaged? ({reason:.120}); run `segment` again") from error


def _bands(page: tifffile.TiffPage, grid: LabelGrid) -> Iterator[NDArray[np.uint8]]:
    height = page.tilelength
    band = np.zeros((0, grid.columns), np.uint8)
    for tile, (_, _, top, left, _), _ in page.segments(maxworkers=1):
        if left == 0:
            if len(band):
                yield band
            band = np.zeros((min(height, grid.rows - top), grid.columns), np.uint8)
        if tile is None:  # a tile that the file leaves out
            continue
        values = tile.reshape(tile.shape[-3], tile.shape[-2])[: len(band), : grid.columns - left]
        band[: values.shape[0], left : left + values.shape[1]] = values
    if len(band):
        yield band
