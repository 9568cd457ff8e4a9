from __future__ import annotations

import numpy as np
import openslide
import pytest
import tifffile

from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.raster import RasterWriter, read_raster


def grid(rows: int, columns: int) -> LabelGrid:
    return LabelGrid(0, 0, 8.0, 2.0, columns, rows)


@pytest.mark.parametrize("shape", [(1, 1), (700, 513), (2100, 1500)])
def test_what_was_written_is_read_back(tmp_path, shape):
    labels = np.random.default_rng(1).integers(0, 4, shape).astype(np.uint8)
    path = tmp_path / "labels.tif"
    with RasterWriter(path, grid(*shape)) as writer:
        for row in range(0, shape[0], 77):
            writer.append(labels[row : row + 77])
        writer.finish()
    assert np.array_equal(read_raster(path), labels)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.tif"]


def test_levels_and_pixel_size(tmp_path):
    labels = np.random.default_rng(1).integers(0, 4, (2100, 1500)).astype(np.uint8)
    path = tmp_path / "labels.tif"
    with RasterWriter(path, grid(2100, 1500)) as writer:
        for row in range(0, 2100, 101):
            writer.append(labels[row : row + 101])
        writer.finish()
    with tifffile.TiffFile(path) as tiff:
        assert [page.shape for page in tiff.pages] == [(2100, 1500), (1050, 750), (525, 375), (263, 188)]
        assert tiff.pages[0].resolution == pytest.approx((5000, 5000))  # 2 µm
    assert np.array_equal(read_raster(path, 2), labels[::2, ::2])
    assert np.array_equal(read_raster(path, 5), labels[::4, ::4])
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((1500, 2100), (750, 1050), (375, 525), (188, 263))
        assert np.array_equal(np.asarray(slide.read_region((10, 20), 0, (30, 40)))[..., 0], labels[20:60, 10:40])


def test_too_few_rows_are_an_error_and_leave_nothing(tmp_path):
    with (
        pytest.raises(ValueError, match=r"labels\.tif has 2 of 3 rows"),
        RasterWriter(tmp_path / "labels.tif", grid(3, 2)) as writer,
    ):
        writer.append(np.zeros((2, 2), np.uint8))
        writer.finish()
    assert list(tmp_path.iterdir()) == []
