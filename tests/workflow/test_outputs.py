from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from dualproto_wsi.classes import UNSURE, UNSURE_NAME, ClassScheme
from dualproto_wsi.settings import InferenceSettings, LabelSettings, OutputSettings, RefineSettings, SegmentSettings
from dualproto_wsi.vector.geojson import read_features, read_regions
from dualproto_wsi.vector.geojson.merge import ANALYSED_NAME, REGIONS
from dualproto_wsi.vector.geojson.squares import ANALYSED
from dualproto_wsi.vector.raster import read_raster
from dualproto_wsi.vector.region import AREA
from dualproto_wsi.workflow.checks.verify import verify_run
from dualproto_wsi.workflow.segment import segment_slides

PLAIN = LabelSettings()


def run(
    slide: Path,
    out: Path,
    labels: LabelSettings = PLAIN,
    refine: str = "none",
    gate: float | None = None,
    **output: object,
):
    """Map a slide; polygons, rasters, table and record agree, whatever the settings."""
    settings = SegmentSettings(
        inference=InferenceSettings(gate=gate),
        labels=labels,
        refine=RefineSettings(refine),
        output=OutputSettings(overlay=False, **output),
    )
    (outcome,) = segment_slides([slide], out, settings)
    assert outcome.status == "done", outcome.error
    (verdict,) = verify_run(out)
    assert verdict.problems == ()
    record = json.loads((outcome.folder / "record.json").read_text(encoding="utf-8"))
    file = outcome.folder / "small.tif.geojson"
    regions = list(read_regions(file, ClassScheme.from_json(record["classes"])))
    return outcome, regions, read_raster(outcome.folder / "labels.tif")


@pytest.fixture(scope="module")
def plain(small_slide, tmp_path_factory):
    return run(small_slide, tmp_path_factory.mktemp("plain"))


def test_small_regions_join_their_neighbours_and_areas_follow(plain, small_slide, tmp_path):
    outcome, regions, labels = run(small_slide, tmp_path, LabelSettings(min_area_um2=200, fill_holes_um2=300))
    assert min(region.measurements[AREA] for region in plain[1]) * 1e6 < 200
    assert min(region.measurements[AREA] for region in regions) * 1e6 >= 200 - 1e-9
    assert len(regions) < len(plain[1])
    assert (labels != plain[2]).mean() < 0.1
    assert sum(outcome.mm2.values()) == pytest.approx(outcome.analysed_mm2)


def test_unsure_tissue_is_a_class_of_its_own(plain, small_slide, tmp_path):
    outcome, regions, labels = run(small_slide, tmp_path, LabelSettings(unsure_below=0.7))
    unsure = labels == UNSURE
    assert 0 < unsure.sum() < (labels > 0).sum()
    assert np.array_equal(np.where(unsure, 0, labels), np.where(unsure, 0, plain[2]))
    assert outcome.unsure_mm2 == pytest.approx(unsure.sum() * 4e-6)
    assert outcome.analysed_mm2 == pytest.approx(plain[0].analysed_mm2)
    assert sum(outcome.fractions.values()) == pytest.approx(1 - outcome.unsure_mm2 / outcome.analysed_mm2)
    assert any(region.tissue_class.name == UNSURE_NAME for region in regions)
    with (tmp_path / "slides.csv").open(encoding="utf-8", newline="") as file:
        assert float(next(csv.DictReader(file))["unsure_mm2"]) == pytest.approx(outcome.unsure_mm2, rel=1e-4)


@pytest.mark.parametrize("method", ["fast", "crf"])
def test_refinement_moves_borders_and_keeps_confidence(plain, small_slide, tmp_path, method):
    pytest.importorskip("pydensecrf") if method == "crf" else None
    labels = LabelSettings(unsure_below=0.5, min_area_um2=50)
    outcome, _, refined = run(small_slide, tmp_path, labels, method)
    assert np.array_equal(refined > 0, plain[2] > 0)
    assert 0.001 < (refined != plain[2]).mean() < 0.3
    assert outcome.analysed_mm2 == pytest.approx(plain[0].analysed_mm2)


def test_the_gate_lowers_classes_that_a_window_does_not_seem_to_hold(plain, small_slide, tmp_path):
    _, _, gated = run(small_slide, tmp_path, gate=5.0)
    assert np.array_equal(gated > 0, plain[2] > 0)
    assert (gated != plain[2]).mean() > 0.001


def test_one_feature_a_class(plain, small_slide, tmp_path):
    outcome, regions, labels = run(small_slide, tmp_path, merge_per_class=True)
    assert np.array_equal(labels, plain[2])
    assert [region.tissue_class.id for region in regions] == sorted(set(labels.ravel().tolist()) - {0})
    assert sum(region.measurements[REGIONS] for region in regions) == outcome.regions == len(plain[1])
    for region in regions:
        assert region.measurements[AREA] == pytest.approx(outcome.mm2[region.tissue_class.name])


def test_grid_squares_hold_the_shares(plain, small_slide, tmp_path):
    outcome, squares, labels = run(small_slide, tmp_path, object_type="tile", square_um=50)
    assert np.array_equal(labels, plain[2])
    assert outcome.regions == len(squares) > 10
    (feature, *_) = read_features(outcome.folder / "small.tif.geojson")
    assert feature["properties"]["objectType"] == "tile"
    analysed = sum(square.measurements[ANALYSED] * (np.ptp(square.rings[0], 0) * 0.5e-3).prod() for square in squares)
    assert analysed == pytest.approx(outcome.analysed_mm2, rel=1e-3)


def test_an_outline_around_all_that_was_analysed(plain, small_slide, tmp_path):
    outcome, regions, _ = run(small_slide, tmp_path, object_type="detection", outline=True)
    assert len(regions) == len(plain[1])
    (outline,) = [
        feature["properties"]
        for feature in read_features(outcome.folder / "small.tif.geojson")
        if "classification" not in feature["properties"]
    ]
    assert (outline["name"], outline["objectType"], outline["isLocked"]) == (ANALYSED_NAME, "annotation", True)
    assert outline["measurements"][AREA] == pytest.approx(outcome.analysed_mm2)


def test_confidence_is_percent_where_analysed(plain, small_slide, tmp_path):
    outcome, _, labels = run(small_slide, tmp_path, confidence=True)
    confidence = read_raster(outcome.folder / "confidence.tif")
    assert np.array_equal(confidence == 0, labels == 0)
    assert 33 <= confidence[labels > 0].min() <= confidence.max() <= 100


def test_simplified_outlines_have_fewer_vertices_and_the_same_map(plain, small_slide, tmp_path):
    _, regions, labels = run(small_slide, tmp_path, simplify_um=2)
    assert np.array_equal(labels, plain[2])
    assert len(regions) == len(plain[1])
    before, after = (sum(len(ring) for region in found for ring in region.rings) for found in (plain[1], regions))
    assert after < 0.8 * before


def test_files_of_an_earlier_run_that_are_not_made_again_go(small_slide, tmp_path):
    run(small_slide, tmp_path, confidence=True, formats=("geojson", "geojson.gz"))
    outcome, _, _ = run(small_slide, tmp_path)
    assert sorted(path.name for path in outcome.folder.iterdir()) == ["labels.tif", "record.json", "small.tif.geojson"]


def test_outlines_cannot_be_simplified_without_end(small_slide, tmp_path):
    (outcome,) = segment_slides([small_slide], tmp_path, SegmentSettings(output=OutputSettings(simplify_um=50)))
    assert outcome.error == "simplify_um is 50; with cells of 2 µm use 0 to 16"
