from __future__ import annotations

import math

import numpy as np
import pytest
import tifffile

from dualproto_wsi.slide.pixel_size import Candidate, PixelSize, choose, from_openslide, from_tiff


def test_oblong_pixels_have_the_geometric_mean():
    assert choose(None, [Candidate("a", 0.4, 0.9)]).mpp == pytest.approx(0.6)


def test_the_first_believable_candidate_wins_and_the_option_beats_all():
    candidates = [Candidate("none", None, None), Candidate("zero", 0.0, 0.0), Candidate("good", 0.5, 0.5)]
    assert choose(None, candidates, 40) == PixelSize(0.5, "good")
    assert choose(0.3, candidates, 40) == PixelSize(0.3, "option --mpp")


@pytest.mark.parametrize("value", [0.0, -0.5, 25_400.0, 352.8, 84.7, 0.001, math.nan])
def test_what_no_scanner_has_counts_as_missing(value):
    found = choose(None, [Candidate("tag", value, value)])
    assert (found.mpp, found.source) == (None, "missing")
    assert found.hint == f"tag of {value:g} µm is not a slide's"


def test_openslide_properties():
    vendor = {"openslide.vendor": "aperio", "openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}
    tags = {"tiff.XResolution": "20000", "tiff.YResolution": "20000", "tiff.ResolutionUnit": "centimeter"}
    assert from_openslide(None, vendor | tags) == PixelSize(0.25, "openslide.mpp-x")
    assert from_openslide(None, {"openslide.vendor": "aperio"} | tags) == PixelSize(0.5, "tiff resolution tag")
    bad = {"openslide.mpp-x": "n/a", "openslide.mpp-y": "0,25", "openslide.objective-power": "20"}
    assert from_openslide(None, bad) == PixelSize(None, "missing", "objective power 20x suggests --mpp 0.5")


@pytest.mark.parametrize(("value", "unit", "mpp"), [(0.25, "µm", 0.25), (250, "nm", 0.25), (5e-4, "mm", 0.5)])
def test_ome_units(tmp_path, value, unit, mpp):
    path = tmp_path / "a.ome.tif"
    size = {f"PhysicalSize{axis}": value for axis in "XY"} | {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb", metadata={"axes": "YXS"} | size)
    assert from_tiff(None, path) == PixelSize(pytest.approx(mpp), "OME PhysicalSizeX")


def test_aperio_description_of_a_tiff(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.zeros((64, 64, 3), np.uint8),
        photometric="rgb",
        metadata=None,
        description="Aperio Image Library v1\n64x64|AppMag = 20|MPP = 0.4990",
    )
    assert from_tiff(None, path) == PixelSize(0.499, "aperio.MPP")
