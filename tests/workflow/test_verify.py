from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.errors import DataError
from dualproto_wsi.settings import OutputSettings, SegmentSettings
from dualproto_wsi.vector.raster import RasterWriter, read_raster
from dualproto_wsi.workflow.segment import segment_slides
from dualproto_wsi.workflow.verify import frame_of, verify_run


@pytest.fixture(scope="module")
def run(small_slide, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    settings = SegmentSettings(output=OutputSettings(formats=("geojson", "geojson.gz")))
    list(segment_slides([small_slide, out / "missing.svs"], out, settings))
    return out


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def problems(out):
    (verdict,) = verify_run(out)
    return " | ".join(verdict.problems)


def change_features(out, change):
    file = out / "small.tif" / "small.tif.geojson"
    data = json.loads(file.read_text(encoding="utf-8"))
    change(data["features"])
    file.write_text(json.dumps(data), encoding="utf-8")


def test_an_untouched_run_agrees(run):
    (verdict,) = verify_run(run)
    assert verdict.problems == ()
    assert verdict.slide == "small.tif"
    assert "geojson: " in verdict.checked
    assert "geojson.gz: " in verdict.checked
    result = CliRunner().invoke(main, ["verify", str(run)])
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "1 slide(s) checked, 0 with problems")


def test_a_lost_region_is_found(copy):
    change_features(copy, lambda features: features.pop())
    assert "cells differ between polygons and label map; the first is row" in problems(copy)
    assert "record.json says" in problems(copy)
    assert CliRunner().invoke(main, ["verify", str(copy)]).exit_code == 1


def test_a_doubled_region_is_an_overlap(copy):
    change_features(copy, lambda features: features.append(features[0]))
    assert "1 regions share an id with another" in problems(copy)
    assert "regions overlap: they fill" in problems(copy)


def test_a_crossing_ring_is_invalid(copy):
    def cross(features):
        ring = features[0]["geometry"]["coordinates"][0]
        ring[1], ring[2] = ring[2], ring[1]

    change_features(copy, cross)
    assert "Self-intersection" in problems(copy) or "cells differ" in problems(copy)


def test_a_wrong_measurement_is_found(copy):
    change_features(copy, lambda features: features[0]["properties"]["measurements"].update({"DualProto area mm^2": 9}))
    assert "its 'DualProto area mm^2' is 9, its cells have" in problems(copy)


def test_a_changed_label_map_is_found(copy):
    folder = copy / "small.tif"
    labels = read_raster(folder / "labels.tif").copy()
    labels[0, 0] = 1
    with RasterWriter(folder / "labels.tif", frame_of(json.loads((folder / "record.json").read_text()))) as writer:
        writer.append(labels)
        writer.finish()
    assert (
        "1 cells differ between polygons and label map; the first is row 0, column 0: 0 in the polygons, 1"
        in problems(copy)
    )


def test_a_changed_table_is_found(copy):
    table = copy / "slides.csv"
    record = json.loads((copy / "small.tif" / "record.json").read_text())
    table.write_text(table.read_text().replace(f"{record['analysed_mm2']:.6g}", "7"))
    assert f"slides.csv: analysed_mm2 is 7, record.json says {record['analysed_mm2']:.6g}" in problems(copy)


def test_missing_and_damaged_files_are_problems_of_that_slide(copy):
    folder = copy / "small.tif"
    (folder / "small.tif.geojson").write_text('{"type": "FeatureCollection", "features": [')
    assert "not GeoJSON, or cut off" in problems(copy)
    (folder / "labels.tif").unlink()
    assert "FileNotFoundError" in problems(copy)
    (folder / "record.json").unlink()
    assert "record.json" in problems(copy)


def test_a_label_map_of_another_size(copy):
    record = copy / "small.tif" / "record.json"
    data = json.loads(record.read_text())
    data["grid"]["rows"] += 1
    record.write_text(json.dumps(data))
    rows, columns = np.add((data["grid"]["rows"], data["grid"]["columns"]), (-1, 0))
    assert f"labels.tif is ({rows}, {columns}), record.json says" in problems(copy)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(DataError, match=r"slides\.csv: no such file; name a folder that"):
        list(verify_run(tmp_path))
    assert CliRunner().invoke(main, ["verify", str(tmp_path)]).exit_code == 2
