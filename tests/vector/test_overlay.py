from __future__ import annotations

import numpy as np
from PIL import Image

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.geometry import Box, LabelGrid
from dualproto_wsi.vector.overlay import draw_overlay, labels_at, save_png

SCHEME = ClassScheme((TissueClass(1, "Tumor", (200, 0, 0)), TissueClass(2, "Stroma", (0, 0, 200))))


def test_labels_are_sampled_at_pixel_centres_and_are_zero_outside_the_map():
    labels = np.array([[1, 2], [2, 1]], np.uint8)
    grid = LabelGrid(x=100, y=50, scale=10, cell_um=1, columns=2, rows=2)
    sampled = labels_at(labels, grid, Box(100, 50, 25, 20), (5, 4))
    assert sampled.tolist() == [[1, 1, 2, 2, 0], [1, 1, 2, 2, 0], [2, 2, 1, 1, 0], [2, 2, 1, 1, 0]]


def test_a_coarser_level_lies_in_the_same_place():
    labels = np.repeat(np.repeat(np.array([[1, 2], [2, 1]], np.uint8), 64, 0), 64, 1)
    grid = LabelGrid(0, 0, 4, 1, 128, 128)
    full = labels_at(labels, grid, grid.box, (32, 32))
    assert np.array_equal(full, labels_at(labels[::4, ::4], grid, grid.box, (32, 32)))
    assert full[0, 0] == 1
    assert full[0, 31] == 2


def test_regions_are_outlined_and_tinted_and_the_rest_is_untouched(tmp_path):
    thumbnail = np.full((200, 300, 3), 240, np.uint8)
    labels = np.zeros((200, 300), np.uint8)
    labels[50:150, 50:150] = 1
    picture = draw_overlay(thumbnail, labels, SCHEME.classes, {"Tumor": "1 mm²"}, "a slide")
    pixels = np.asarray(picture)
    assert tuple(pixels[50, 100]) == (200, 0, 0)
    assert tuple(pixels[10, 10]) == (240, 240, 240)
    inside = pixels[100, 100].astype(int)
    assert inside[0] > inside[1] > 100
    assert pixels.shape[0] > 200  # the legend
    save_png(picture, tmp_path / "overlay.png")
    assert [p.name for p in tmp_path.iterdir()] == ["overlay.png"]
    assert Image.open(tmp_path / "overlay.png").size == picture.size
