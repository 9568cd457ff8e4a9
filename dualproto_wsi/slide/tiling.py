"""Where windows lie: on the label grid, only over tissue, grouped into blocks that are read once.

Windows start at whole cells and step by whole cells, so every window's scores fall on the grid without resampling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from dualproto_wsi.geometry import Box, LabelGrid

Pixels = npt.NDArray[np.uint8]


class Tissue(Protocol):
    """What the plan asks of a tissue mask."""

    def overlaps(self, box: Box) -> bool:
        """Tell whether any tissue lies in a box, level-0 px."""
        ...


@dataclass(frozen=True, slots=True)
class Tile:
    """Where a window lies.

    Parameters
    ----------
    row, column : int
        Top left cell of the window in the label grid. Windows of the last row and column may reach beyond the grid.
    """

    row: int
    column: int


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring windows that are cut from one read.

    Parameters
    ----------
    tiles : tuple of Tile
        The windows, row by row.
    box : Box
        What to read, level-0 px: the smallest box around the windows, as far as the grid goes.
    size : tuple of int
        (width, height) of that read, model px.
    window_px : int
        Side of a window, model px.
    stride_px : int
        Side of a cell, model px.
    final_row : int
        Once this block and all before it are done, cells of rows above this one get no more scores.
    """

    tiles: tuple[Tile, ...]
    box: Box
    size: tuple[int, int]
    window_px: int
    stride_px: int
    final_row: int

    def colours(self, pixels: Pixels) -> Pixels:
        """Return the mean colour of every cell of the block, uint8 (rows, columns, 3); `pixels` as for :meth:`cut`."""
        size = (self.size[0] // self.stride_px, self.size[1] // self.stride_px)
        return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))

    def cut(self, pixels: Pixels) -> Pixels:
        """Cut the windows out of the block; beyond the end of the grid they see the picture mirrored.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (height, width, 3)
            ``reader.read(block.box, block.size)``.

        Returns
        -------
        ndarray of uint8, shape (n, window_px, window_px, 3)
            In the order of ``tiles``.
        """
        rows, columns = [tile.row for tile in self.tiles], [tile.column for tile in self.tiles]
        row, column = min(rows), min(columns)
        below = (max(rows) - row) * self.stride_px + self.window_px - pixels.shape[0]
        right = (max(columns) - column) * self.stride_px + self.window_px - pixels.shape[1]
        if below or right:
            pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="symmetric")
        windows = np.empty((len(self.tiles), self.window_px, self.window_px, 3), np.uint8)
        for window, tile in zip(windows, self.tiles, strict=True):
            y, x = (tile.row - row) * self.stride_px, (tile.column - column) * self.stride_px
            window[:] = pixels[y : y + self.window_px, x : x + self.window_px]
        return windows


@dataclass(frozen=True, slots=True)
class TilePlan:
    """All windows of a slide.

    Parameters
    ----------
    blocks : tuple of Block
        Top to bottom, left to right.
    """

    blocks: tuple[Block, ...]

    @property
    def tiles(self) -> int:
        """Number of windows."""
        return sum(len(block.tiles) for block in self.blocks)


def plan_tiles(
    grid: LabelGrid,
    tissue: Tissue,
    window_px: int,
    stride_px: int,
    overlap: float,
    block: tuple[int, int] = (2, 4),
    lattice_px: int = 1,
) -> TilePlan:
    """Lay windows over the tissue of a slide.

    Parameters
    ----------
    grid : LabelGrid
        The cells to be scored.
    tissue : Tissue
        Tells where tissue is; a window without any is left out.
    window_px : int
        Side of a window, model px; a multiple of `stride_px`.
    stride_px : int
        Side of a cell, model px.
    overlap : float
        Share of a window's side that neighbours have in common, 0 to below 1; rounded to the lattice.
    block : tuple of int
        (rows, columns) of windows that are read at once.
    lattice_px : int
        Windows start at multiples of this, model px, and their side is one: with an encoder whose features step by so
        many pixels, every window then sees a place at the same phase.

    Returns
    -------
    TilePlan
        Every cell with tissue lies in at least one window.

    Raises
    ------
    ValueError
        If `window_px` is no multiple of `stride_px` and `lattice_px`.
    """
    if window_px % stride_px:
        raise ValueError(f"a window of {window_px} px is no whole number of cells of {stride_px} px")
    window = window_px // stride_px
    lattice = math.lcm(lattice_px, stride_px) // stride_px
    if window % lattice:
        raise ValueError(f"a window of {window_px} px is no multiple of the lattice of {lattice_px} px")
    step = lattice * max(1, round(window * (1 - overlap) / lattice))
    rows = _groups(_starts(grid.rows, window, step), block[0])
    columns = _groups(_starts(grid.columns, window, step), block[1])
    found = []
    for row_group in rows:
        for column_group in columns:
            tiles = tuple(
                Tile(row, column)
                for row in row_group
                for column in column_group
                if tissue.overlaps(_cells(grid, row, column, window, window).intersection(grid.box))
            )
            if tiles:
                found.append(tiles)
    return TilePlan(tuple(_blocks(found, grid, window, stride_px)))


def _starts(cells: int, window: int, step: int) -> range:
    """Return the first cell of each window along one side; the last one may reach beyond it."""
    count = max(1, math.ceil((cells - window) / step) + 1) if cells else 0
    return range(0, count * step, step)


def _groups(starts: range, size: int) -> list[list[int]]:
    return [[start for _, start in group] for _, group in groupby(enumerate(starts), lambda item: item[0] // size)]


def _cells(grid: LabelGrid, row: int, column: int, rows: int, columns: int) -> Box:
    """Return the box of some cells, level-0 px."""
    return Box(grid.x + column * grid.scale, grid.y + row * grid.scale, columns * grid.scale, rows * grid.scale)


def _blocks(groups: list[tuple[Tile, ...]], grid: LabelGrid, window: int, stride_px: int) -> Iterable[Block]:
    firsts = [min(tile.row for tile in tiles) for tiles in groups]
    final = [*np.minimum.accumulate(firsts[::-1])[::-1][1:].tolist(), grid.rows] if groups else []
    for tiles, first, final_row in zip(groups, firsts, final, strict=True):
        left = min(tile.column for tile in tiles)
        rows = min(max(tile.row for tile in tiles) + window, grid.rows) - first
        columns = min(max(tile.column for tile in tiles) + window, grid.columns) - left
        yield Block(
            tiles=tiles,
            box=_cells(grid, first, left, rows, columns),
            size=(columns * stride_px, rows * stride_px),
            window_px=window * stride_px,
            stride_px=stride_px,
            final_row=final_row,
        )
