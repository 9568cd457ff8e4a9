"""Focus, stain and ink: sharp slides pass, spoilt copies of them are flagged."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
import tifffile

from dualproto_wsi.geometry import Box, LabelGrid
from dualproto_wsi.settings import ReadSettings, TissueSettings
from dualproto_wsi.slide.quality import (
    BLURRED_BELOW,
    MOST_WINDOWS,
    FocusTally,
    focus_of,
    measure_quality,
    tissue_share,
)
from dualproto_wsi.slide.reader import open_slide
from dualproto_wsi.slide.tiling import plan_tiles
from dualproto_wsi.slide.tissue import TissueMask, find_tissue, ink_colours, tissue_colours

MODEL_UM, WINDOW, STRIDE = 0.5, 224, 4
CMU, BREAST, TCGA = "CMU-1-Small-Region.svs", "breast-lobular-carcinoma-20x.tif", "tcga-cr-7395-01a-01-ts1.svs"


def looked_at(path, mpp=None, most=40):
    """Measure a slide as a run does, by `most` of its blocks at most."""
    with open_slide(path, ReadSettings(mpp=mpp)) as reader:
        info = reader.info
        tissue = find_tissue(reader, TissueSettings(), info.require_mpp())
        grid = LabelGrid.over(info.content, info.require_mpp(), MODEL_UM * STRIDE)
        plan = plan_tiles(grid, tissue, WINDOW, STRIDE, 0.125)
        focus = FocusTally(plan, grid, tissue, MODEL_UM)
        chosen = [block for block in plan.blocks if focus._chosen & set(block.tiles)]
        for block in chosen[:: max(1, len(chosen) // most)]:
            focus.add(block.tiles, block.cut(reader.read(block.box, block.size)))
        return measure_quality(tissue, tissue.thumbnail, focus.values, tissue.area_mm2 / 2)


def spoilt(folder, source, spoil):
    """Write a copy of a slide with its pixels changed."""
    with open_slide(source) as reader:
        info = reader.info
        pixels = reader.read(info.content, (info.width, info.height))
        per_cm = 1e4 / info.require_mpp()
    path = folder / "spoilt.tif"
    tifffile.imwrite(
        path, spoil(pixels), tile=(256, 256), photometric="rgb", compression="jpeg",
        resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", metadata=None,
    )  # fmt: skip
    return path


@pytest.mark.parametrize(("name", "mpp"), [(CMU, None), (BREAST, None), (TCGA, 0.25)])
def test_real_slides_have_no_flag_and_are_far_from_blurred(shared, name, mpp):
    found = looked_at(shared / "data" / "slides" / name, mpp)
    assert found.flags == ()
    assert found.focus > 5 * BLURRED_BELOW
    assert found.blurred_share < 0.05
    assert found.ink_share == 0
    assert found.analysed_share == 0.5
    assert found.focus_windows > 5


@pytest.mark.parametrize("sigma_um", [1.0, 2.0, 4.0])
def test_a_blurred_copy_is_flagged(shared, tmp_path, sigma_um):
    path = spoilt(
        tmp_path, shared / "data" / "slides" / CMU, lambda rgb: cv2.GaussianBlur(rgb, (0, 0), sigma_um / 0.499)
    )
    found = looked_at(path)
    assert found.flags == ("blurred",)
    assert found.blurred_share > 0.8
    assert found.focus < BLURRED_BELOW


def test_a_pale_copy_is_flagged_and_its_stains_are_paler_in_proportion(shared, tmp_path):
    def pale(rgb):
        return (255 * (rgb / 255.0) ** 0.15).astype(np.uint8)

    before, after = (
        looked_at(shared / "data" / "slides" / CMU),
        looked_at(spoilt(tmp_path, shared / "data" / "slides" / CMU, pale)),
    )
    assert "pale" in after.flags
    assert after.density == pytest.approx(0.15 * before.density, rel=0.35)
    assert after.haematoxylin_od < 0.3 * before.haematoxylin_od


@pytest.mark.parametrize("ink", [(40, 95, 190), (30, 120, 70), (200, 40, 40)], ids=["blue", "green", "red"])
def test_a_copy_with_a_pen_mark_is_flagged(shared, tmp_path, ink):
    def marked(rgb):
        rgb = rgb.copy()
        cv2.line(rgb, (100, 200), (2100, 500), ink, 240)
        return rgb

    found = looked_at(spoilt(tmp_path, shared / "data" / "slides" / CMU, marked))
    assert "pen" in found.flags
    assert found.ink_share > 0.05


def mask_of(picture, inside, mpp=4.0):
    box = Box(0, 0, picture.shape[1] * mpp / 0.5, picture.shape[0] * mpp / 0.5)
    return TissueMask(picture, box, 0.5, inside.astype(np.uint8) * 255)


def test_stains_are_those_that_were_put_in():
    picture = np.full((200, 300, 3), 255, np.uint8)
    haematoxylin, eosin = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])
    density = 0.3 * haematoxylin / np.linalg.norm(haematoxylin) + 0.2 * eosin / np.linalg.norm(eosin)
    picture[50:150, 50:250] = np.round(256 * 10**-density - 1)
    inside = picture[..., 1] < 255
    found = measure_quality(mask_of(picture, inside), picture, [100.0], 0.1)
    assert found.haematoxylin_od == pytest.approx(0.3, abs=0.01)
    assert found.eosin_od == pytest.approx(0.2, abs=0.01)
    assert found.haematoxylin_sd == pytest.approx(0, abs=1e-4)
    assert found.density == pytest.approx(density.mean(), abs=0.005)
    assert found.tissue_mm2 == pytest.approx(0.1 * 0.2 * 16)
    assert found.analysed_share == pytest.approx(0.1 / found.tissue_mm2)


def test_less_than_a_field_of_tissue_is_flagged_and_no_tissue_has_no_stain():
    picture = np.full((100, 100, 3), 240, np.uint8)
    none = measure_quality(mask_of(picture, np.zeros((100, 100), bool)), picture, [], 0.0)
    assert none.flags == ("little tissue",)
    assert (none.focus, none.blurred_share, none.density, none.ink_share, none.analysed_share) == (None,) * 5
    few = np.zeros((100, 100), bool)
    few[:50] = True  # 0.2 × 0.4 mm
    assert "little tissue" in measure_quality(mask_of(picture, few), picture, [], 0.0).flags


def test_json_has_six_digits_and_plain_types():
    picture = np.full((10, 10, 3), 200, np.uint8)
    data = measure_quality(mask_of(picture, np.ones((10, 10), bool)), picture, [1 / 3, 1 / 3], 1.0).to_json()
    assert data["focus"] == 0.333333
    assert data["flags"] == ["blurred", "little tissue", "pale"] or set(data["flags"]) >= {"blurred", "little tissue"}
    assert all(type(value) in (float, int, list, type(None)) for value in data.values())


def test_focus_is_measured_at_one_pixel_size():
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 255, (100, 100, 3), dtype=np.uint8)
    fine = np.repeat(np.repeat(coarse, 2, 0), 2, 1)
    assert focus_of(fine, 0.25) == pytest.approx(focus_of(coarse, 0.5))
    assert focus_of(np.full((50, 50, 3), 99, np.uint8), 0.5) == 0


def test_windows_too_coarse_say_nothing_and_large_slides_are_sampled():
    tissue = TissueMask(
        np.zeros((500, 500, 3), np.uint8), Box(0, 0, 50_000, 50_000), 0.5, np.full((500, 500), 255, np.uint8)
    )
    grid = LabelGrid.over(tissue.box, 0.5, 2.0)
    plan = plan_tiles(grid, tissue, WINDOW, STRIDE, 0.125)
    tiles = [tile for block in plan.blocks for tile in block.tiles]
    windows = np.zeros((len(tiles), 8, 8, 3), np.uint8)
    fine, coarse = (FocusTally(plan, grid, tissue, mpp) for mpp in (0.5, 1.0))
    for tally in (fine, coarse):
        tally.add(tiles, windows)
    assert MOST_WINDOWS / 2 <= len(fine.values) <= MOST_WINDOWS
    assert coarse.values == []


def test_tissue_share_of_a_box():
    field = np.zeros((100, 100), np.uint8)
    field[:, :50] = 255
    tissue = TissueMask(np.zeros((100, 100, 3), np.uint8), Box(0, 0, 1000, 1000), 0.5, field)
    assert tissue_share(tissue, Box(0, 0, 400, 400)) == 1
    assert tissue_share(tissue, Box(300, 300, 400, 400)) == pytest.approx(0.5, abs=0.05)
    assert tissue_share(tissue, Box(800, 0, 400, 400)) == 0


def test_ink_is_no_tissue():
    picture = np.full((300, 300, 3), 240, np.uint8)
    picture[100:160, 50:250] = (40, 95, 190)
    ink = ink_colours(picture, 4.0)
    assert ink[110:150, 60:240].all()
    assert not ink[:60].any()
    assert not (tissue_colours(picture, 4.0) & ink).any()


def test_it_costs_little(shared):
    """Beside finding the tissue, which reads the overview, and beside decoding the windows."""
    with open_slide(shared / "data" / "slides" / BREAST) as reader:
        start = time.process_time()
        tissue = find_tissue(reader, TissueSettings(), reader.info.require_mpp())
        found = time.process_time() - start
    start = time.process_time()
    measure_quality(tissue, tissue.thumbnail, [100.0], 1.0)
    window = np.random.default_rng(0).integers(0, 255, (448, 448, 3), dtype=np.uint8)
    for _ in range(MOST_WINDOWS):
        focus_of(window, 0.5)
    assert time.process_time() - start < 0.5 * found
