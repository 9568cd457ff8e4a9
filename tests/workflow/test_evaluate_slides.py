from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualproto_wsi.errors import DataError
from dualproto_wsi.geometry import Box
from dualproto_wsi.vector.raster import read_raster
from dualproto_wsi.workflow.checks.verify_record import Told, read_told
from dualproto_wsi.workflow.evaluation.annotations import match_slides, read_annotations
from dualproto_wsi.workflow.evaluation.slides import evaluate_slides

Write = Callable[..., Path]
CELL = 4.0  # level-0 px: the slides have 0.5 µm/px, cells 2 µm


def rectangle(name: str, x: float, y: float, width: float, height: float, **more: Any) -> dict[str, Any]:
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    properties = {"objectType": "annotation", **more}
    if name:
        properties["classification"] = {"name": name, "color": [1, 2, 3]}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners]}, "properties": properties}


@pytest.fixture
def write(tmp_path) -> Write:
    """Write annotations as `qupath export` does, or without what it says of the image."""

    def make(name: str, features: Sequence[dict[str, Any]], about: dict[str, Any] | None = None) -> Path:
        data: dict[str, Any] = {"type": "FeatureCollection"}
        if about is not None:
            data["dualproto"] = {"content": "annotations of QuPath", "version": 1, "frame": "qupath", **about}
        data["features"] = list(features)
        path = tmp_path / "truth" / name
        path.parent.mkdir(exist_ok=True)
        text = json.dumps(data).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return path

    return make


@pytest.fixture(scope="module")
def labels(undisturbed) -> np.ndarray:
    return read_raster(undisturbed / "b ü.tif" / "labels.tif")


def columns_of(matrix: np.ndarray, row: int) -> list[int]:
    return [int(value) for value in matrix[row]]


def expected(labels: np.ndarray, rows: slice, columns: slice) -> list[int]:
    part = labels[rows, columns]
    return [int((part == value).sum()) for value in (1, 2, 3, 255, 0)]


def test_cells_under_an_annotation_are_counted_and_nothing_is_hidden(undisturbed, labels, write) -> None:
    truth = write("b ü.tif.geojson", [rectangle("stroma", 40, 80, 200, 160)])
    report = evaluate_slides(undisturbed, truth)
    (slide,) = report.slides
    assert slide.slide == "b ü.tif"
    counts = slide.matrix.counts
    assert columns_of(counts, 1) == expected(labels, slice(20, 60), slice(10, 60))
    assert counts[1, 4] > 0  # part of it is glass: not analysed, and told
    assert counts.sum() == 40 * 50
    assert slide.mm2 == pytest.approx(2000 * 4e-6)
    assert slide.matrix.recall[1] == counts[1, 1] / 2000
    assert np.array_equal(report.pooled.counts, counts)
    assert report.pooled.names == ("Tumor", "Stroma", "Lymphocyte", "Unsure", "Not analysed")
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["rows"][0]["truth"] == "b ü.tif.geojson"


def test_what_is_drawn_inside_counts_and_ignored_area_does_not(undisturbed, labels, write) -> None:
    features = [
        rectangle("Tumor", 160, 160, 40, 40),  # inside the larger one, and before it in the file
        rectangle("Stroma", 120, 120, 200, 200),
        rectangle("Ignore*", 280, 120, 40, 200),
        rectangle("", 0, 0, 400, 400),
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}, "properties": {}},
    ]
    truth = write("b ü.tif.geojson", features)
    counts = evaluate_slides(undisturbed, truth).pooled.counts
    assert columns_of(counts, 0) == expected(labels, slice(40, 50), slice(40, 50))
    large, inner = (np.array(expected(labels, *cut)) for cut in ((slice(30, 80), slice(30, 70)), (slice(40, 50),) * 2))
    assert columns_of(counts, 1) == (large - inner).tolist()


def test_regions_of_the_model_do_not_prove_the_model(undisturbed, write) -> None:
    features = [
        rectangle("Stroma", 120, 120, 40, 40, origin="unchanged"),
        rectangle("Stroma", 160, 120, 40, 40, origin="model"),
        rectangle("Stroma", 200, 120, 40, 40, origin="changed"),
        rectangle("Fat", 240, 120, 40, 40, origin="drawn"),
    ]
    truth = write("b ü.tif.geojson", features)
    report = evaluate_slides(undisturbed, truth)
    assert report.pooled.total == 100
    assert (report.slides[0].of_the_model, report.slides[0].unknown) == (2, {"Fat": 1})
    assert evaluate_slides(undisturbed, truth, reviewed=True).pooled.total == 300


def test_a_folder_of_an_export_with_intervals_by_slide(undisturbed, write) -> None:
    for name, side in (("a.tif", 300), ("b ü.tif", 500), ("c.tif", 360)):
        about = {"image": {"file": name, "width": side, "height": side}, "offset": [0, 0]}
        write(f"{name[0]}.geojson.gz", [rectangle("Stroma", 100, 100, 80, 80)], about)
    folder = write("elsewhere.svs.geojson", [rectangle("Stroma", 0, 0, 8, 8)]).parent
    report = evaluate_slides(undisturbed, folder, bootstrap=100)
    assert [slide.slide for slide in report.slides] == ["a.tif", "b ü.tif", "c.tif"]
    assert report.without == ("elsewhere.svs.geojson",)
    assert report.pooled.total == 3 * 400
    low, high = report.intervals["accuracy"]
    assert low <= report.pooled.accuracy <= high
    assert report.to_json()["pooled"]["intervals"]["accuracy"] == [round(low, 4), round(high, 4)]


def test_one_slide_and_one_file_belong_together(undisturbed, write) -> None:
    truth = write("mine.geojson", [rectangle("Stroma", 100, 100, 80, 80)])
    assert evaluate_slides(undisturbed / "a.tif", truth).slides[0].slide == "a.tif"
    with pytest.raises(DataError, match=r"mine.geojson: of none of the 3 slide\(s\) in .*; a file is matched by"):
        evaluate_slides(undisturbed, truth)


def test_a_name_with_an_accent_written_another_way(write) -> None:
    truth = write("x.geojson", [], {"image": {"file": "b u\u0308.tif"}})
    assert match_slides([truth], ["a.tif", "b ü.tif"]) == [1]


@pytest.fixture
def cropped(undisturbed) -> Told:
    """A record of a slide that QuPath crops."""
    told = read_told(undisturbed / "a.tif")
    slide = {**told.data["slide"], "width": 2000, "height": 1000}
    return replace(told, bounds=Box(100, 60, 300, 300), data={**told.data, "slide": slide})


@pytest.mark.parametrize(
    ("about", "corner"),
    [
        (None, (110, 80)),
        ({"image": {"file": "a.tif", "width": 300, "height": 300}, "offset": [100, 60]}, (110, 80)),
        ({"image": {"file": "a.tif", "width": 300, "height": 300}}, (110, 80)),
        ({"image": {"file": "a.tif", "width": 2000, "height": 1000}, "offset": [0, 0]}, (10, 20)),
        ({"image": {"file": "a.tif", "width": 2000, "height": 1000}}, (10, 20)),
    ],
)
def test_frames(cropped, write, about, corner) -> None:
    truth = write("a.tif.geojson", [rectangle("Tumor", 10, 20, 8, 8)], about)
    (region,) = read_annotations(truth, cropped, reviewed=False).regions
    assert region.rings[0][0].tolist() == list(corner)


@pytest.mark.parametrize(
    ("about", "feature", "message"),
    [
        ({"turned": True, "image": {}}, {}, "a.tif.geojson: was drawn on a rotated or mirrored image; add the slide"),
        (
            {"image": {"file": "a.tif", "width": 30, "height": 20}},
            {},
            "a.tif.geojson: is of an image of 30 x 20 px, the slide a.tif has 2000 x 1000: it is another slide",
        ),
        ({"image": 3}, None, None),
        (
            {"version": 2},
            None,
            "a.tif.geojson: what it says of its image is damaged: KeyError('image'); export",
        ),
        (None, {"geometry": {}}, "a.tif.geojson: feature 0 is no outline: KeyError('type')"),
        (None, {"geometry": {"type": "Polygon", "coordinates": [[["a", 0]]]}}, "feature 0 is no outline: ValueError("),
        (
            None,
            {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [None, 0], [0, 0]]]}},
            "a.tif.geojson: feature 0 has a coordinate that is no number",
        ),
    ],
)
def test_annotations_that_are_refused(cropped, write, about, feature, message) -> None:
    truth = write("a.tif.geojson", [rectangle("Tumor", 10, 20, 8, 8) | (feature or {})], about)
    if message is None:
        assert len(read_annotations(truth, cropped, reviewed=False).regions) == 1
        return
    with pytest.raises(DataError) as error:
        read_annotations(truth, cropped, reviewed=False)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_be_compared_is_refused(undisturbed, write, tmp_path) -> None:
    fat = write("a.tif.geojson", [rectangle("Fat", 0, 0, 8, 8)])
    with pytest.raises(DataError, match=r"nothing in it can be compared: the model has no class Fat$"):
        evaluate_slides(undisturbed, fat)
    own = write("a.tif.geojson", [rectangle("Tumor", 0, 0, 8, 8, origin="model")])
    with pytest.raises(DataError, match=r"its 1 region\(s\) are as the model made them; with --reviewed they count"):
        evaluate_slides(undisturbed, own)
    outside = write("a.tif.geojson", [rectangle("Tumor", 9000, 0, 8, 8)])
    with pytest.raises(DataError, match=r"no outline of a class lies on the slide; draw some in QuPath and export"):
        evaluate_slides(undisturbed, outside)
    twice = write("b.geojson", [], {"image": {"file": "a.tif"}}).parent
    with pytest.raises(
        DataError, match=r"a.tif: a.tif.geojson and b.geojson are both of this slide; leave one of them"
    ):
        evaluate_slides(undisturbed, twice)
    with pytest.raises(
        DataError, match=r"x.geojson: 2 slides are named a.tif; name the folder of one of them in place of OUT"
    ):
        match_slides([write("x.geojson", [], {"image": {"file": "a.tif"}})], ["a.tif", "a.tif"])


def test_places_that_hold_nothing_are_refused(undisturbed, write, tmp_path) -> None:
    truth = write("a.tif.geojson", [rectangle("Tumor", 0, 0, 8, 8)])
    empty = tmp_path / "empty"
    empty.mkdir()
    for out, given, message in (
        (tmp_path / "no", truth, "no: no such folder; with --truth name the folder that `dualproto-wsi segment` wrote"),
        (empty, truth, "empty: no results in it; with --truth name the folder that `dualproto-wsi segment` wrote"),
        (undisturbed, empty, "empty: no annotations in it (.geojson, .geojson.gz, .json, .json.gz); `qupath export`"),
        (undisturbed, tmp_path / "no.geojson", "no.geojson: no such file or folder of annotations"),
        (
            undisturbed,
            undisturbed / "slides.csv",
            "slides.csv: annotations are GeoJSON; name a file ending in",
        ),
    ):
        with pytest.raises(DataError) as error:
            evaluate_slides(out, given)
        assert message in str(error.value)


def test_runs_with_other_classes_and_changed_rasters_are_refused(undisturbed, write, tmp_path) -> None:
    out = tmp_path / "out"
    for name in ("a.tif", "c.tif"):
        shutil.copytree(undisturbed / name, out / name)
        write(f"{name}.geojson", [rectangle("Stroma", 100, 100, 80, 80)])
    record = json.loads((out / "c.tif" / "record.json").read_text())
    record["classes"][0]["name"] = "Necrosis"
    (out / "c.tif" / "record.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"c.tif: was mapped to Necrosis, Stroma, Lymphocyte, a.tif to Tumor, Stroma"):
        evaluate_slides(out, tmp_path / "truth")
    shutil.copy(out / "c.tif" / "labels.tif", out / "a.tif" / "labels.tif")
    with pytest.raises(DataError, match=r"labels.tif: is \(90, 90\), record.json says \(75, 75\); run `segment` again"):
        evaluate_slides(out, tmp_path / "truth" / "a.tif.geojson")
