"""The label map as OME-TIFF, read back by tifffile and ome-types."""

from __future__ import annotations

import tracemalloc

import numpy as np
import ome_types
import pytest
import tifffile

from dualproto_wsi.vector.export.ome_tiff import CHANNEL, NAMESPACE


@pytest.fixture(scope="module")
def path(made):
    return made.export("ome-tiff")


def test_every_level_has_the_cells_of_the_label_map(made, path):
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert tiff.series[0].axes == "YX"
        assert tiff.series[0].dtype == np.uint8
        levels = [level.asarray() for level in tiff.series[0].levels]
    assert len(levels) == 3
    for index, level in enumerate(levels):
        np.testing.assert_array_equal(level, made.labels[:: 2**index, :: 2**index])


def test_coarser_levels_are_sub_ifds_of_tiles(path):
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 1
        assert len(tiff.pages[0].subifds) == 2
        assert all(page.is_tiled for page in (tiff.pages[0], *tiff.pages[0].pages))


def test_pixel_size_and_names_are_in_the_ome_xml(made, path):
    ome = ome_types.from_tiff(path)
    (image,) = ome.images
    assert image.name == "ü.svs tissue classes"
    pixels = image.pixels
    assert (pixels.physical_size_x, pixels.physical_size_y) == (4.0, 4.0)
    assert pixels.physical_size_x_unit.value == pixels.physical_size_y_unit.value == "µm"
    assert (pixels.size_x, pixels.size_y, pixels.size_c) == (1100, 700, 1)
    assert [channel.name for channel in pixels.channels] == [CHANNEL]
    (named,) = ome.structured_annotations.map_annotations
    assert named.namespace == NAMESPACE
    assert {pair.k: pair.value for pair in named.value.ms} == {
        "0": "not analysed",
        "1": "Tumor",
        "2": "Stroma",
        "3": "lymphocytes",
        "4": "Fat \\ µ",
        "255": "Unsure",
    }


def test_the_colour_map_has_the_colours_of_the_classes(made, path):
    with tifffile.TiffFile(path) as tiff:
        colours = tiff.pages[0].colormap
        assert tiff.pages[0].photometric == tifffile.PHOTOMETRIC.PALETTE
    for kind in made.source.classes:
        assert tuple(colours[:, kind.id] // 257) == kind.colour
    assert not colours[:, 0].any()


def test_the_same_map_gives_the_same_bytes(made, path):
    before = path.read_bytes()
    assert made.export("ome-tiff").read_bytes() == before


def test_memory_holds_few_tiles(make_source, tmp_path):
    generator = np.random.default_rng(0)
    labels = np.zeros((4096, 4096), np.uint8)
    labels[100:120, 100:120] = 1
    made = make_source(tmp_path, labels)
    with tifffile.TiffWriter(made.source.labels) as tiff:  # a map that hardly packs: 16 MB
        noise = generator.integers(0, 5, labels.shape, dtype=np.uint8)
        tiff.write(noise, tile=(512, 512), compression="zlib", metadata=None, photometric="minisblack")
    tracemalloc.start()
    path = made.export("ome-tiff")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 4_000_000
    assert peak < 1_500_000
    np.testing.assert_array_equal(tifffile.imread(path), noise)
