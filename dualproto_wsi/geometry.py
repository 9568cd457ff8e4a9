"""Boxes and scale arithmetic; pure functions, no dependencies.

Two frames, both with the origin at the top left and x to the right:

``level0``
    Pixels of the slide's full resolution, as the reader sees the whole file. Every public coordinate is in this frame.
``grid``
    Cells of the label map. Cell ``(column, row)`` covers ``scale`` × ``scale`` level-0 pixels; the map's origin is the
    top left of the slide's content box (see :attr:`dualproto_wsi.slide.reader.SlideInfo.content`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned rectangle.

    Parameters
    ----------
    x, y : float
        Top left corner, level-0 px.
    width, height : float
        Extent, level-0 px; not negative.
    """

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        if self.width < 0 or self.height < 0:
            raise ValueError(f"a box cannot be {self.width} x {self.height} px")

    @property
    def right(self) -> float:
        """X of the right edge, level-0 px."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Y of the lower edge, level-0 px."""
        return self.y + self.height

    @property
    def area(self) -> float:
        """Area, level-0 px²."""
        return self.width * self.height

    def intersection(self, other: Box) -> Box:
        """Return the common part; of zero width or height where there is none."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        return Box(x, y, max(0.0, min(self.right, other.right) - x), max(0.0, min(self.bottom, other.bottom) - y))


@dataclass(frozen=True, slots=True)
class LabelGrid:
    """The raster of the label map and where it lies on the slide.

    Only cells that lie wholly inside the content box are part of the grid: every cell has the same area.

    Parameters
    ----------
    x, y : float
        Top left of cell (0, 0), level-0 px.
    scale : float
        Side of a cell, level-0 px.
    cell_um : float
        Side of a cell, µm.
    columns, rows : int
        Number of cells.
    """

    x: float
    y: float
    scale: float
    cell_um: float
    columns: int
    rows: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows, self.columns

    @property
    def cell_mm2(self) -> float:
        """Area of a cell, mm²."""
        return self.cell_um * self.cell_um * 1e-6

    @property
    def box(self) -> Box:
        """The whole grid, level-0 px."""
        return Box(self.x, self.y, self.columns * self.scale, self.rows * self.scale)

    @classmethod
    def over(cls, content: Box, slide_mpp: float, cell_um: float) -> LabelGrid:
        """Lay a grid over a content box.

        Parameters
        ----------
        content : Box
            The part of the slide to cover, level-0 px.
        slide_mpp : float
            µm per level-0 px.
        cell_um : float
            Side of a cell, µm.

        Returns
        -------
        LabelGrid
            With as many whole cells as fit; possibly none.
        """
        scale = cell_um / slide_mpp
        slack = 1e-6  # a box that is an exact multiple must not lose a cell to rounding
        columns = math.floor(content.width / scale + slack)
        rows = math.floor(content.height / scale + slack)
        return cls(content.x, content.y, scale, cell_um, columns, rows)
