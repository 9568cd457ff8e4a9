"""Rasters of the label grid on disk, as the label map: written band by band, finished as a pyramidal TIFF."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import tifffile
from numpy.typing import NDArray

from dualproto_wsi.files import replacing
from dualproto_wsi.geometry import LabelGrid

TILE = 512
"""Side of a TIFF tile, cells."""


class RasterWriter:
    """Writes a TIFF of one byte a cell: deflate tiles, levels of half size each, pixel size in its tags.

    Rows arrive from top to bottom; memory holds one row of tiles. A level keeps every second cell of the level above
    (top left of each 2 × 2), so every value is one that the raster really has there, also where values are class ids.

    Parameters
    ----------
    path : Path
        The TIFF to make. It appears when :meth:`finish` is done, never half-written.
    grid : LabelGrid
        Frame and size of the raster.
    """

    def __init__(self, path: Path, grid: LabelGrid) -> None:
        self._path = path
        self._grid = grid
        self._row = 0
        self._stack = ExitStack()
        self._steps = [1]
        while max(grid.shape) // self._steps[-1] > TILE:
            self._steps.append(self._steps[-1] * 2)
        self._parts = [path.with_name(f"{path.name}.{os.getpid()}.{step}.tmp") for step in self._steps]
        self._files: list[BinaryIO] = [self._stack.enter_context(part.open("wb")) for part in self._parts]

    def append(self, values: NDArray[np.uint8]) -> None:
        """Add the next rows, uint8 (n, columns)."""
        for step, file in zip(self._steps, self._files, strict=True):
            first = -self._row % step
            file.write(np.ascontiguousarray(values[first::step, ::step]).tobytes())
        self._row += len(values)

    def finish(self) -> None:
        """Write the TIFF from the collected rows.

        Raises
        ------
        ValueError
            If not all rows of the grid were given.
        """
        if self._row != self._grid.rows:
            raise ValueError(f"{self._path.name} has {self._row} of {self._grid.rows} rows")
        self._stack.close()
        per_cm = 1e4 / self._grid.cell_um
        big = sum(part.stat().st_size for part in self._parts) > 2**31
        with replacing(self._path) as temporary, tifffile.TiffWriter(temporary, bigtiff=big) as tiff:
            for step, part in zip(self._steps, self._parts, strict=True):
                shape = (-(-self._grid.rows // step), -(-self._grid.columns // step))
                tiff.write(
                    _tiles(part, shape),
                    shape=shape,
                    dtype=np.uint8,
                    tile=(TILE, TILE),
                    compression="zlib",
                    photometric="minisblack",
                    subfiletype=0 if step == 1 else 1,
                    resolution=(per_cm / step, per_cm / step),
                    resolutionunit="CENTIMETER",
                    software="dualproto-wsi",
                    metadata=None,
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for part in self._parts:
            part.unlink(missing_ok=True)


def _tiles(part: Path, shape: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    rows, columns = shape
    with part.open("rb") as file:
        for top in range(0, rows, TILE):
            height = min(TILE, rows - top)
            band = np.frombuffer(file.read(height * columns), np.uint8).reshape(height, columns)
            for left in range(0, columns, TILE):
                tile = np.zeros((TILE, TILE), np.uint8)
                piece = band[:, left : left + TILE]
                tile[: piece.shape[0], : piece.shape[1]] = piece
                yield tile


def read_raster(path: Path, step: int = 1) -> NDArray[np.uint8]:
    """Read a raster, or a coarser level of it.

    Parameters
    ----------
    path : Path
        What :class:`RasterWriter` wrote.
    step : int
        Keep about every ``step``-th cell: the coarsest level that is at least as fine is taken.

    Returns
    -------
    ndarray of uint8, shape (rows, columns)
        The cells; of a label map, class ids and 0 for "not analysed".
    """
    with tifffile.TiffFile(path) as tiff:
        level = min(max(step, 1).bit_length() - 1, len(tiff.pages) - 1)
        values: NDArray[np.uint8] = tiff.pages[level].asarray()
    return values
