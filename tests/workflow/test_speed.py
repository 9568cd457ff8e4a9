from __future__ import annotations

import json
import tempfile
from types import SimpleNamespace

import pytest
import torch

from dualproto_wsi.settings import InferenceSettings, SegmentSettings
from dualproto_wsi.slide.reader import open_slide
from dualproto_wsi.slide.tiling import TilePlan
from dualproto_wsi.slide.tissue import find_tissue
from dualproto_wsi.workflow.batch.plan import plan_slides
from dualproto_wsi.workflow.batch.speed import LEAST_WINDOWS, Speed, map_piece, seconds_to_read
from dualproto_wsi.workflow.mapping.engine import Engine
from dualproto_wsi.workflow.mapping.layout import label_grid, tile_plan
from dualproto_wsi.workflow.models import prepare_model
from dualproto_wsi.workflow.segment import segment_slides

SETTINGS = SegmentSettings(inference=InferenceSettings(device="cpu"))


@pytest.fixture(scope="module")
def engine():
    return Engine(prepare_model(SETTINGS.inference)[0], SETTINGS.inference)


@pytest.fixture(scope="module")
def slide(tmp_path_factory, make_slide, engine):
    path = make_slide(tmp_path_factory.mktemp("speed") / "x.tif", 1800, 2000)
    with open_slide(path) as reader:
        tissue = find_tissue(reader, SETTINGS.tissue, 0.5)
        grid = label_grid(reader.info, engine.model)
        yield reader, grid, tissue, tile_plan(grid, tissue, engine.model, 0.25)


def test_a_piece_is_a_small_part_and_leaves_nothing(slide, engine, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for place in (0.0, 0.5, 0.99):
        piece = map_piece(*slide, place, engine, SETTINGS)
        assert 1 <= piece.windows < slide[3].tiles
        assert piece.seconds > 0
        assert piece.polygon_bytes > 1000
    assert map_piece(*slide, 0.5, engine, SETTINGS).windows >= LEAST_WINDOWS
    assert list(tmp_path.iterdir()) == []


def test_only_so_many_slides_are_measured(slide, engine):
    speed = Speed(engine, SETTINGS, slides=2, seconds=0.0)
    assert (speed.windows, speed.warm_up_s, speed.window_s, speed.window_polygon_bytes) == (0, 0.0, 0.0, 0.0)
    speed.measure(*slide[:3], TilePlan(()))
    assert speed.windows == 0
    for _ in range(3):
        speed.measure(*slide)
    assert speed.windows == 2 * map_piece(*slide, 0.5, engine, SETTINGS).windows
    assert speed.window_s > 0
    assert speed.window_polygon_bytes > 100


def test_reading_shares_the_processor_but_not_the_gpu(slide, engine):
    speed = Speed(engine, SETTINGS, slides=1, seconds=0.0)
    speed.measure(*slide)
    window = speed.window_s
    speed._engine = SimpleNamespace(device=torch.device("cpu"), cores=8, readers=lambda asked: asked or 2)
    assert speed.seconds(100, 0.0) == pytest.approx(100 * window)
    assert speed.seconds(100, 2 * window) == pytest.approx(200 * window)
    speed._engine.cores = 1
    assert speed.seconds(100, 2 * window) == pytest.approx(300 * window)
    speed._engine = SimpleNamespace(device=torch.device("cuda"), cores=8, readers=lambda asked: asked or 2)
    assert speed.seconds(100, 2 * window) == pytest.approx(100 * window)
    assert speed.seconds(100, 4 * window) == pytest.approx(200 * window)


def test_seconds_to_read(slide):
    reader, _, _, plan = slide
    assert 0 < seconds_to_read(reader, plan) < 1
    assert seconds_to_read(reader, TilePlan(())) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "breast-lobular-carcinoma-20x.tif"])
def test_estimates_are_within_twice_of_a_run(shared, tmp_path, name):
    path = shared / "data" / "slides" / name
    plan = plan_slides([path], SETTINGS)
    (outcome,) = segment_slides([path], tmp_path, SETTINGS)
    assert outcome.status == "done", outcome.error
    record = json.loads((tmp_path / path.name / "record.json").read_text(encoding="utf-8"))
    totals = plan.totals()
    assert outcome.tiles == totals["windows"]
    assert outcome.seconds / 2 < plan.slides[0].seconds < outcome.seconds * 2
    assert totals["memory_bytes"] == pytest.approx(record["peak_memory_bytes"], rel=0.4)
    size = sum(file.stat().st_size for file in (tmp_path / path.name).iterdir())
    assert size / 2 < totals["disk_bytes"] < size * 2
