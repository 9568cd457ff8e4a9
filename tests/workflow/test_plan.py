from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dualproto_wsi.errors import ModelNotFound, SlideNotFound
from dualproto_wsi.geometry import Box, LabelGrid
from dualproto_wsi.settings import (
    InferenceSettings,
    LabelSettings,
    OutputSettings,
    RefineSettings,
    RunSettings,
    SegmentSettings,
)
from dualproto_wsi.slide.reader import SlideInfo
from dualproto_wsi.workflow.batch.estimate import Load, result_bytes, temporary_bytes
from dualproto_wsi.workflow.batch.plan import _about_disk, _warnings, plan_slides
from dualproto_wsi.workflow.batch.run_plan import RunPlan, SlidePlan
from dualproto_wsi.workflow.segment import segment_slides

SETTINGS = SegmentSettings(inference=InferenceSettings(device="cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_slide):
    """Slides with something to say about each."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    make_slide(folder / "a" / "good.tif")
    make_slide(folder / "b" / "GOOD.tif", 400, 500)
    make_slide(folder / "bare.tif", 300, 300, mpp=None)
    make_slide(folder / "coarse.tif", 400, 400, mpp=1.0)
    make_slide(folder / "tiny.tif", 300, 300)
    make_slide(folder / "fine.tif", 900, 900, mpp=0.05)
    glass = np.full((400, 400, 3), 243, np.uint8)
    size = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "glass.tif", glass, tile=(256, 256), photometric="rgb", metadata=None, **size)
    (folder / "empty.svs").touch()
    good = (folder / "a" / "good.tif").read_bytes()
    (folder / "cut.tif").write_bytes(good[:20_000] + bytes(len(good) - 20_000))
    (folder / "text.svs").write_text("not a slide\n" * 100)
    make_slide(folder / "listed.tif", 300, 300, mpp=None)
    (folder / "table.csv").write_text("path,mpp\nlisted.tif,0.5\n")
    return folder


@pytest.fixture(scope="module")
def before(folder):
    return sorted(folder.rglob("*"))


@pytest.fixture(scope="module")
def plan(folder, before) -> RunPlan:
    heard = []
    plan = plan_slides(
        [folder, folder / "table.csv", folder / "gone.svs"],
        SETTINGS,
        heard=lambda *done: heard.append(done),
        loading_s=1000.0,
    )
    assert heard == [(number, len(plan.slides)) for number in range(1, len(plan.slides) + 1)]
    return plan


@pytest.fixture(scope="module")
def by_name(plan) -> dict[str, SlidePlan]:
    return {slide.slide.name: slide for slide in plan.slides}


def test_nothing_is_written(plan, folder, before):
    assert sorted(folder.rglob("*")) == before


def test_a_good_slide(by_name):
    good = by_name["good.tif"]
    assert (good.mpp, good.mpp_source, good.error) == (pytest.approx(0.5), "tiff resolution tag", "")
    assert good.tissue_mm2 == pytest.approx(np.pi * (0.42 * 700 * 0.5e-3) ** 2, rel=0.1)
    assert good.windows == 4
    assert good.seconds > 1
    assert good.memory_bytes > 300e6
    assert 3e6 < good.disk_bytes < 5e6
    assert good.temporary_bytes == round(225 * 175 * 4 / 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bare.tif", "bare.tif: no pixel size in the file; pass --mpp (microns per pixel)"),
        ("empty.svs", "the file is empty"),
        ("text.svs", "no reader knows this file"),
        ("cut.tif", "cut.tif"),
        ("gone.svs", "gone.svs: no such slide; check the path"),
    ],
)
def test_what_would_fail(by_name, plan, name, message):
    assert message in by_name[name].error
    assert "\n" not in by_name[name].error
    assert by_name[name].seconds == by_name[name].windows == by_name[name].disk_bytes == 0
    assert plan.failing == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("good.tif", "2 slides have this name: the folders of their results get a suffix"),
        ("GOOD.tif", "2 slides have this name"),
        ("glass.tif", "no tissue found; its results would be empty"),
        ("tiny.tif", "only 0.013 mm² of tissue found; is the stain very pale, or the pixel size right?"),
        ("coarse.tif", "1 µm/px is coarser than the model's 0.5: enlarged 2.0x, it lacks detail"),
        ("fine.tif", "0.05 µm/px is unusual for a slide (0.1 to 2); is it right?"),
    ],
)
def test_what_to_look_at(by_name, name, message):
    assert any(message in text for text in by_name[name].warnings), by_name[name].warnings


@pytest.mark.parametrize(
    ("reader", "mpp", "cells", "message"),
    [
        ("jpeg", 0.25, 10**8, None),
        ("openslide", 0.64, 10**8, None),
        ("tiatoolbox", 0.25, 10**8, "only TIAToolbox reads this format: several times slower to read than others"),
        ("jpeg", 0.66, 10**8, "0.66 µm/px is coarser than the model's 0.5: enlarged 1.3x, it lacks detail"),
        ("jpeg", 0.25, 10**9, "a very large label map of 1,000 million cells: 1.3 GB of disk until it is finished; is"),
    ],
)
def test_what_to_look_at_on_slides_too_large_or_slow_for_a_test(reader, mpp, cells, message):
    info = SlideInfo(Path("a.svs"), 10, 10, mpp, "", (1.0,), Box(0, 0, 10, 10), "", reader)
    plan = SlidePlan(info.path, tissue_mm2=30, windows=2000, temporary_bytes=1_333_333_333)
    found = _warnings(info, plan, cells, 0.5)
    assert len(found) == (message is not None)
    assert all(text.startswith(message) for text in found)


def test_totals_count_everything_once(plan):
    totals = plan.totals()
    assert totals["slides"] == len(plan.slides) == 12
    assert totals["seconds"] == pytest.approx(plan.start_s + sum(slide.seconds for slide in plan.slides))
    assert plan.start_s > 1000
    assert totals["windows"] == sum(slide.windows for slide in plan.slides)
    assert totals["memory_bytes"] == max(slide.memory_bytes or 0 for slide in plan.slides)
    assert plan.measured_windows >= 4
    assert json.loads(json.dumps(plan.to_data()))["totals"] == totals


def test_what_is_done_is_left_out(make_slide, tmp_path):
    for name in ("a.tif", "b.tif"):
        make_slide(tmp_path / name, 300, 300)
    out = tmp_path / "out"
    list(segment_slides([tmp_path / "a.tif"], out, SETTINGS))
    plan = plan_slides([tmp_path], SETTINGS, out)
    assert [slide.done for slide in plan.slides] == [True, False]
    assert plan.totals()["skipped"] == 1
    assert plan.totals()["windows"] == plan.slides[1].windows > 0
    assert plan.totals()["disk_bytes"] == plan.slides[1].disk_bytes
    for run in (SETTINGS, dataclasses.replace(SETTINGS, labels=LabelSettings(0.5))):
        forced = dataclasses.replace(run, run=RunSettings(force=run is SETTINGS))
        assert plan_slides([tmp_path], forced, out).skipped == 0


def test_several_gpus_share_the_slides():
    slides = [SlidePlan(Path(f"{s}.svs"), seconds=s, memory_bytes=s, temporary_bytes=10 * s) for s in (5, 4, 3, 2)]
    for processes, seconds, memory in ((1, 14, 5), (2, 7, 9), (3, 5, 12), (9, 5, 14)):
        totals = RunPlan(slides, "", 100, 0, processes).totals()
        assert (totals["seconds"], totals["memory_bytes"]) == (100 + seconds, memory)
        assert totals["temporary_bytes"] == 10 * memory


def test_a_cluster_is_told(make_slide, tmp_path):
    settings = dataclasses.replace(SETTINGS, run=RunSettings(cluster="local:2"))
    plan = plan_slides([make_slide(tmp_path / "a.tif", 300, 300)], settings)
    assert plan.warnings == ["measured in one process on this machine; workers of local:2 share the slides"]


def test_a_table_gives_the_pixel_size_of_one_slide(by_name):
    slide = by_name["listed.tif"]
    assert (slide.mpp, slide.mpp_source, slide.error) == (0.5, "option --mpp", "")


def test_a_run_that_cannot_start(tmp_path, folder):
    with pytest.raises(SlideNotFound, match="no slides found; name slide files, or folders that hold some"):
        plan_slides([tmp_path], SETTINGS)
    with pytest.raises(ModelNotFound):
        plan_slides([folder], SegmentSettings(inference=InferenceSettings(model="nothing")))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_slide_without_permission(folder, tmp_path):
    slide = shutil.copy(folder / "tiny.tif", tmp_path)
    slide.chmod(0)
    assert "cannot be opened" in plan_slides([slide], SETTINGS).slides[0].error


def test_room_on_the_disk(tmp_path):
    needs = SlidePlan(Path("a.svs"), disk_bytes=10**18, temporary_bytes=10**17)
    plan = RunPlan([needs, SlidePlan(Path("b.svs"), temporary_bytes=10**16)], "", 0, 0)
    (warning,) = _about_disk(plan, tmp_path / "not" / "there")
    assert warning.startswith(f"{tmp_path / 'not' / 'there'}: ")
    assert warning.endswith(" GB free, about 1100000000.0 GB needed; make room, or choose another -o")
    assert _about_disk(plan, None) == []
    assert _about_disk(RunPlan([], "", 0, 0), Path("out")) == []


def test_all_options_of_the_map_are_measured(folder, tmp_path):
    settings = dataclasses.replace(
        SETTINGS,
        refine=RefineSettings("fast"),
        labels=LabelSettings(0.6, 200, 200),
        output=OutputSettings(("geojson.gz",), "tile", outline=True, simplify_um=2, confidence=True, overlay=False),
    )
    (slide,) = plan_slides([folder / "a" / "good.tif"], settings).slides
    assert slide.error == ""
    assert slide.seconds > 0
    assert slide.disk_bytes < 1e6
    assert slide.temporary_bytes == round(2 * 225 * 175 * 4 / 3)


BREAST = LabelGrid(0, 0, 2 / 0.5056, 2.0, 14855, 6983)


def test_formulas_agree_with_a_real_run():
    """58764 x 27624 px: 5.9 MB of polygons, 0.54 MB of labels, 0.6 MB of overlay; some 0.5 GB beyond a small slide."""
    assert 0.4e9 < Load(BREAST, 3, 448, 4, 24_000_000, 2, 2).memory_bytes(SETTINGS) - 150e6 < 0.8e9
    assert 6.5e6 < result_bytes(BREAST, 38.71, 5.9e6, SETTINGS) < 12e6
    assert temporary_bytes(BREAST, SETTINGS) == round(14855 * 6983 * 4 / 3)


def test_more_work_takes_more_memory_and_disk():
    load = Load(BREAST, 3, 448, 4, 1_000_000, 2, 2)
    more = dataclasses.replace(SETTINGS, refine=RefineSettings("fast"), labels=LabelSettings(min_area_um2=100))
    assert load.memory_bytes(more) > load.memory_bytes(SETTINGS) + 100e6
    confident = dataclasses.replace(SETTINGS, output=OutputSettings(confidence=True))
    assert temporary_bytes(BREAST, confident) == pytest.approx(2 * temporary_bytes(BREAST, SETTINGS))
    assert result_bytes(BREAST, 38.71, 0, confident) > result_bytes(BREAST, 38.71, 0, SETTINGS)
