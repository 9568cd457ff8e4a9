from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualproto_wsi.geometry import Box, LabelGrid
from dualproto_wsi.slide.reader import open_slide
from dualproto_wsi.slide.tiling import Tile, plan_tiles
from dualproto_wsi.slide.tissue import TissueMask


def mask_of(field: np.ndarray, box: Box) -> TissueMask:
    return TissueMask(np.zeros((*field.shape, 3), np.uint8), box, 0.5, field)


def all_tissue(box: Box) -> TissueMask:
    return mask_of(np.full((8, 8), 255, np.uint8), box)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    density=st.sampled_from([0.0, 0.01, 0.1, 1.0]),
    columns=st.integers(1, 150),
    rows=st.integers(1, 150),
    window=st.integers(1, 40),
    overlap=st.floats(0, 0.75),
    block=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    scale=st.floats(0.3, 9),
)
def test_every_tissue_cell_is_covered_and_rows_become_final(
    seed, density, columns, rows, window, overlap, block, scale
):
    stride = 4
    box = Box(31.5, 7.0, (columns + 0.4) * scale, (rows + 0.7) * scale)
    grid = LabelGrid(box.x, box.y, scale, 2.0, columns, rows)
    generator = np.random.default_rng(seed)
    tissue = mask_of((generator.random((19, 23)) < density).astype(np.uint8) * 255, box)
    plan = plan_tiles(grid, tissue, window * stride, stride, overlap, block)

    tiles = [tile for part in plan.blocks for tile in part.tiles]
    assert len(set(tiles)) == len(tiles) == plan.tiles
    covered = np.zeros((rows, columns), bool)
    for tile in tiles:
        assert 0 <= tile.row < rows
        assert 0 <= tile.column < columns
        covered[tile.row : tile.row + window, tile.column : tile.column + window] = True
    cells = tissue.sample(grid, 0, rows)
    assert not (cells & ~covered).any()
    if not cells.any() and density == 0:
        assert plan.tiles == 0

    for i, part in enumerate(plan.blocks):
        assert 0 < len(part.tiles) <= block[0] * block[1]
        later = [tile.row for rest in plan.blocks[i + 1 :] for tile in rest.tiles]
        assert part.final_row == min(later, default=rows)  # exact: not a row earlier or later
    finals = [part.final_row for part in plan.blocks]
    assert finals == sorted(finals)


@given(columns=st.integers(1, 300), window=st.integers(1, 60), overlap=st.floats(0, 0.75), block=st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_windows_step_by_whole_cells_and_none_is_superfluous(columns, window, overlap, block):
    grid = LabelGrid(0, 0, 4.0, 2.0, columns, 1)
    plan = plan_tiles(grid, all_tissue(grid.box), window * 4, 4, overlap, (1, block))
    starts = [tile.column for part in plan.blocks for tile in part.tiles]
    steps = set(np.diff(starts).tolist())
    assert steps <= {max(1, round(window * (1 - overlap)))}
    assert starts[0] == 0
    assert starts[-1] + window >= columns  # the end is reached
    assert len(starts) == 1 or starts[-2] + window < columns  # and was not reached before


def test_a_block_reads_the_extent_of_its_windows_only():
    grid = LabelGrid(1000.0, 600.0, 4.5, 2.0, 200, 200)
    field = np.zeros((200, 200), np.uint8)
    field[45:50, 64:67] = 255
    plan = plan_tiles(grid, mask_of(field, grid.box), 160, 4, 0.25, (2, 4))
    (part,) = plan.blocks
    assert part.tiles == (Tile(30, 30), Tile(30, 60))
    assert part.box == Box(1000 + 30 * 4.5, 600 + 30 * 4.5, 70 * 4.5, 40 * 4.5)
    assert part.size == (280, 160)
    assert part.final_row == 200


def test_a_slide_smaller_than_a_window_gets_one_window():
    grid = LabelGrid.over(Box(0, 0, 300, 200), 0.5, 2.0)
    plan = plan_tiles(grid, all_tissue(grid.box), 448, 4, 0.25)
    assert [part.tiles for part in plan.blocks] == [(Tile(0, 0),)]
    assert plan.blocks[0].size == (300, 200)
    assert plan.blocks[0].box == grid.box


def test_beyond_the_grid_a_window_sees_the_picture_mirrored():
    grid = LabelGrid.over(Box(0, 0, 300, 200), 0.5, 2.0)
    (part,) = plan_tiles(grid, all_tissue(grid.box), 448, 4, 0.25).blocks
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    (window,) = part.cut(pixels)
    assert np.array_equal(window[:200, :300], pixels)
    assert np.array_equal(window[:200, 300:], pixels[:, :-149:-1])
    assert np.array_equal(window[200:400, :300], pixels[::-1])
    assert np.array_equal(window[400:, :300], pixels[:48])


@pytest.mark.parametrize("size", [(0, 0), (3, 50), (50, 3)])
def test_a_slide_smaller_than_a_cell_gets_none(size):
    box = Box(0, 0, *size)
    grid = LabelGrid.over(box, 0.5, 2.0)
    plan = plan_tiles(grid, all_tissue(Box(0, 0, 100, 100)), 448, 4, 0.25)
    assert (plan.tiles, plan.blocks) == (0, ())


@pytest.mark.parametrize("overlap", [0, 0.1, 0.125, 0.25, 0.7])
def test_windows_start_on_the_encoders_lattice(overlap):
    grid = LabelGrid(0, 0, 4.0, 2.0, 500, 500)
    plan = plan_tiles(grid, all_tissue(grid.box), 448, 4, overlap, lattice_px=16)
    starts = {start for part in plan.blocks for tile in part.tiles for start in (tile.row, tile.column)}
    assert all(start % 4 == 0 for start in starts)
    step = sorted(starts)[1]
    assert abs(step - 112 * (1 - overlap)) <= 2


def test_a_window_of_part_cells_is_refused():
    grid = LabelGrid(0, 0, 4.0, 2.0, 10, 10)
    with pytest.raises(ValueError, match="a window of 450 px is no whole number of cells of 4 px"):
        plan_tiles(grid, all_tissue(grid.box), 450, 4, 0.25)
    with pytest.raises(ValueError, match="a window of 456 px is no multiple of the lattice of 16 px"):
        plan_tiles(grid, all_tissue(grid.box), 456, 4, 0.25, lattice_px=16)


@pytest.mark.parametrize("model_mpp", [0.5, 0.5056, 0.25, 1.0, 1.137])
def test_cutting_a_block_gives_what_reading_each_window_gives(wave_slide, model_mpp):
    with open_slide(wave_slide) as slide:
        mpp = slide.info.require_mpp()
        grid = LabelGrid.over(slide.info.content, mpp, 4 * model_mpp)
        plan = plan_tiles(grid, all_tissue(slide.info.content), 96, 4, 0.25)
        for part in plan.blocks[:: max(1, len(plan.blocks) // 6)]:
            windows = part.cut(slide.read(part.box, part.size))
            assert windows.shape == (len(part.tiles), 96, 96, 3)
            for tile, window in zip(part.tiles, windows, strict=True):
                x, y = grid.x + tile.column * grid.scale, grid.y + tile.row * grid.scale
                rows, columns = min(24, grid.rows - tile.row), min(24, grid.columns - tile.column)
                alone = slide.read(Box(x, y, columns * grid.scale, rows * grid.scale), (columns * 4, rows * 4))
                assert np.abs(window[: rows * 4, : columns * 4].astype(int) - alone).max() <= 1


def test_real_windows_from_a_block(shared):
    with open_slide(shared / "data/slides/CMU-1-Small-Region.svs") as slide:
        grid = LabelGrid.over(slide.info.content, slide.info.require_mpp(), 4 * 0.5056)
        plan = plan_tiles(grid, all_tissue(slide.info.content), 448, 4, 0.25)
        part = plan.blocks[-1]
        windows = part.cut(slide.read(part.box, part.size)).astype(int)
        for tile, window in zip(part.tiles, windows, strict=True):
            rows, columns = min(112, grid.rows - tile.row), min(112, grid.columns - tile.column)
            box = Box(tile.column * grid.scale, tile.row * grid.scale, columns * grid.scale, rows * grid.scale)
            alone = slide.read(box, (columns * 4, rows * 4))
            assert np.abs(window[: rows * 4, : columns * 4] - alone).max() <= 1
    assert math.isclose(part.box.width / part.size[0], 0.5056 / 0.499)
