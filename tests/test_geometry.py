from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualproto_wsi.geometry import Box, LabelGrid


def test_box_edges_and_area():
    box = Box(1.5, 2, 3, 4)
    assert (box.right, box.bottom, box.area) == (4.5, 6, 12)


def test_intersection_of_boxes_that_do_not_meet_has_no_area():
    assert Box(0, 0, 2, 2).intersection(Box(5, 0, 2, 2)).area == 0
    assert Box(0, 0, 4, 4).intersection(Box(3, 1, 9, 1)) == Box(3, 1, 1, 1)


def test_negative_extent_is_refused():
    with pytest.raises(ValueError, match="a box cannot be -1 x 2 px"):
        Box(0, 0, -1, 2)


def test_grid_of_a_slide_at_quarter_micron():
    grid = LabelGrid.over(Box(10, 20, 803, 400), slide_mpp=0.25, cell_um=2.0)
    assert (grid.scale, grid.shape) == (8.0, (50, 100))
    assert grid.box == Box(10, 20, 800, 400)
    assert grid.cell_mm2 == pytest.approx(4e-6)


@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.floats(0.1, 4),
    st.floats(0.5, 16),
    st.floats(0, 1e5),
    st.floats(0, 1e5),
)
def test_cells_lie_inside_the_content_and_no_cell_that_fits_is_lost(columns, rows, mpp, cell_um, x, y):
    scale = cell_um / mpp
    grid = LabelGrid.over(Box(x, y, columns * scale, rows * scale), mpp, cell_um)
    assert grid.shape == (rows, columns)
    larger = LabelGrid.over(Box(x, y, (columns + 0.99) * scale, (rows + 0.99) * scale), mpp, cell_um)
    assert larger.shape == (rows, columns)
