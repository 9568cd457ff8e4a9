from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from dualproto_wsi.errors import OutputError
from dualproto_wsi.settings import InferenceSettings, SegmentSettings
from dualproto_wsi.vector.raster import read_raster
from dualproto_wsi.workflow.batch.tasks import make_folder
from dualproto_wsi.workflow.segment import segment_slides

CPU = SegmentSettings(inference=InferenceSettings(device="cpu"))


def test_what_a_table_says_of_a_slide_is_used_and_kept(make_slide, tmp_path):
    make_slide(tmp_path / "a.tif", 300, 300, mpp=None)
    make_slide(tmp_path / "b.tif", 300, 300)
    (tmp_path / "slides.csv").write_text("path,id,mpp,group,stain\na.tif,P1,0.6,case,H&E\nb.tif,P2,,control,\n")
    out = tmp_path / "out"
    for _ in range(2):  # the second time from the records
        first, second = segment_slides([tmp_path / "slides.csv"], out, CPU)
        assert (first.mpp, second.mpp) == (0.6, 0.5)
        with (out / "slides.csv").open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        assert reader.fieldnames[:6] == ["slide", "path", "id", "group", "stain", "folder"]
        assert [(row["id"], row["group"], row["stain"]) for row in rows] == [
            ("P1", "case", "H&E"),
            ("P2", "control", ""),
        ]
    assert second.skipped


def test_only_the_part_that_was_drawn_is_mapped(make_slide, tmp_path):
    make_slide(tmp_path / "a.tif", 600, 600)
    ring = [[100, 100], [300, 100], [300, 400], [100, 400], [100, 100]]
    drawn = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (tmp_path / "part.geojson").write_text(json.dumps(drawn))
    (tmp_path / "slides.csv").write_text("path,regions\na.tif,part.geojson\n")
    (outcome,) = segment_slides([tmp_path / "slides.csv"], tmp_path / "out", CPU)
    assert outcome.status == "done", outcome.error
    labels = read_raster(outcome.folder / "labels.tif")
    rows, columns = np.nonzero(labels)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((25, 99, 25, 74), abs=2)
    record = json.loads((outcome.folder / "record.json").read_text())
    assert record["regions_file"].endswith("part.geojson")
    (again,) = segment_slides([tmp_path / "slides.csv"], tmp_path / "out", CPU)
    assert again.skipped
    (tmp_path / "part.geojson").write_text(json.dumps(drawn | {"id": "x"}))
    (again,) = segment_slides([tmp_path / "slides.csv"], tmp_path / "out", CPU)
    assert not again.skipped


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        make_folder(tmp_path / "file" / "out")
