"""Exports and quality of runs: made once, told in the record, checked, and no reason to map a slide again."""

from __future__ import annotations

import csv
import json
import shutil

import highdicom
import numpy as np
import pytest
import shapely
import tifffile
from click.testing import CliRunner
from pyarrow import parquet

from dualproto_wsi.cli.main import main
from dualproto_wsi.errors import DataError, MissingDependency
from dualproto_wsi.settings import EXPORTS, FeatureSettings, InferenceSettings, OutputSettings, SegmentSettings
from dualproto_wsi.vector.export import kinds as export_kinds
from dualproto_wsi.vector.export.dicom_slide import described_slide
from dualproto_wsi.vector.raster import read_raster
from dualproto_wsi.workflow.batch.claims import claimed
from dualproto_wsi.workflow.batch.fingerprint import slide_sha256
from dualproto_wsi.workflow.batch.outcome import QC_COLUMNS, SlideTable
from dualproto_wsi.workflow.batch.rerun import rerun_slide
from dualproto_wsi.workflow.checks.verify import verify_run
from dualproto_wsi.workflow.checks.verify_record import read_told
from dualproto_wsi.workflow.mapping.exports import _source, export_run, export_slide
from dualproto_wsi.workflow.segment import segment_slides

CPU = InferenceSettings(device="cpu")
LIGHT = ("ome-tiff", "parquet")


def mapped(slides, out, **output):
    return list(segment_slides(slides, out, SegmentSettings(inference=CPU, output=OutputSettings(**output))))


def record_of(folder):
    return json.loads((folder / "record.json").read_text(encoding="utf-8"))


def problems(out):
    return " | ".join(text for verdict in verify_run(out) for text in verdict.problems)


@pytest.fixture(scope="module")
def run(small_slide, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports")
    (outcome,) = mapped([small_slide], out, exports=EXPORTS)
    assert outcome.status == "done", outcome.error
    return out


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_makes_all_exports_tells_of_them_and_verifies(run):
    folder = run / "small.tif"
    told = record_of(folder)["exports"]
    assert tuple(told) == EXPORTS
    assert all((folder / export["file"]).stat().st_size == export["bytes"] for export in told.values())
    assert problems(run) == ""
    labels = read_raster(folder / "labels.tif")
    np.testing.assert_array_equal(tifffile.imread(folder / "labels.ome.tif"), labels)
    image = highdicom.seg.segread(folder / "labels.seg.dcm")
    np.testing.assert_array_equal(image.get_total_pixel_matrix(combine_segments=True), labels)
    areas = record_of(folder)["mm2"]
    table = parquet.read_table(folder / "small.tif.parquet").to_pydict()
    for name, area in areas.items():
        found = sum(mm2 for kind, mm2 in zip(table["class"], table["area_mm2"], strict=True) if kind == name)
        assert found == pytest.approx(area, rel=1e-9)
    assert not list(folder.glob("*tmp*"))


def test_an_export_asked_for_later_does_not_map_the_slide_again(small_slide, tmp_path):
    mapped([small_slide], tmp_path)
    folder = tmp_path / "small.tif"
    before = (folder / "labels.tif").stat().st_mtime_ns
    (outcome,) = mapped([small_slide], tmp_path, exports=LIGHT)
    assert outcome.skipped
    assert (folder / "labels.tif").stat().st_mtime_ns == before
    assert tuple(record_of(folder)["exports"]) == LIGHT
    assert problems(tmp_path) == ""


def test_a_slide_mapped_anew_keeps_no_export_of_its_earlier_map(copy, small_slide):
    (outcome,) = mapped([small_slide], copy, simplify_um=2.0)
    assert not outcome.skipped
    folder = copy / "small.tif"
    assert "exports" not in record_of(folder)
    names = {path.name for path in folder.iterdir()}
    assert not names & {"labels.ome.tif", "labels.seg.dcm", "small.tif.db", "small.tif.parquet"}


def test_an_export_that_was_changed_is_told_and_one_that_is_gone_is_made_again(copy, small_slide):
    folder = copy / "small.tif"
    with (folder / "labels.ome.tif").open("r+b") as file:
        file.seek(500)
        file.write(b"\x55\xaa")
    assert "labels.ome.tif was changed after it was written" in problems(copy)
    (folder / "labels.ome.tif").unlink()
    assert "'labels.ome.tif', which is not there" in problems(copy)
    (outcome,) = mapped([small_slide], copy, exports=("ome-tiff",))
    assert outcome.skipped
    assert problems(copy) == ""


def test_a_rerun_compares_what_the_model_makes(run, tmp_path):
    rerun = rerun_slide(run / "small.tif", tmp_path)
    assert rerun.agrees
    ours, theirs = ((out / "small.tif" / "labels.ome.tif").read_bytes() for out in (run, tmp_path))
    assert ours == theirs


@pytest.mark.parametrize(("frame", "moved"), [("qupath", (100, 60)), ("slide", (0, 0))])
def test_regions_lie_in_the_whole_file_whatever_the_frame(copy, frame, moved):
    folder = copy / "small.tif"
    record = record_of(folder)
    before = parquet.read_table(folder / "small.tif.parquet")["geometry"].to_pylist()
    # As of a slide that QuPath crops; with frame "slide" its polygons have the whole file's coordinates already.
    record["slide"]["bounds"] |= {"x": 100, "y": 60}
    record["frame"] = record["settings"]["output"]["frame"] = frame
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    export_slide(folder, ["parquet", "dicom-seg"], force=True)
    after = parquet.read_table(folder / "small.tif.parquet")["geometry"].to_pylist()
    expected = shapely.affinity.translate(shapely.GeometryCollection(list(shapely.from_wkb(before))), *moved)
    assert shapely.GeometryCollection(list(shapely.from_wkb(after))).equals_exact(expected, 1e-9)
    origin = highdicom.seg.segread(folder / "labels.seg.dcm").TotalPixelMatrixOriginSequence[0]
    assert float(origin.XOffsetInSlideCoordinateSystem) == pytest.approx((100 + 1.5) * 0.5e-3)
    assert float(origin.YOffsetInSlideCoordinateSystem) == pytest.approx((60 + 1.5) * 0.5e-3)


def test_merged_classes_and_grid_squares_are_exported(small_slide, tmp_path):
    merged, squares = (tmp_path / name for name in ("merged", "squares"))
    mapped([small_slide], merged, merge_per_class=True, outline=True, exports=("parquet", "annotationstore"))
    table = parquet.read_table(merged / "small.tif" / "small.tif.parquet")
    areas = dict(zip(table["class"].to_pylist(), table["area_mm2"].to_pylist(), strict=True))
    assert areas == pytest.approx({name: mm2 for name, mm2 in record_of(merged / "small.tif")["mm2"].items() if mm2})
    shapes = shapely.from_wkb(table["geometry"].to_pylist())
    assert "MultiPolygon" in {shape.geom_type for shape in shapes}
    mapped([small_slide], squares, object_type="tile", exports=("parquet", "annotationstore"))
    table = parquet.read_table(squares / "small.tif" / "small.tif.parquet")
    assert table.num_rows == record_of(squares / "small.tif")["regions"]
    assert set(table["area_mm2"].to_pylist()) == {None}
    assert 0 < json.loads(table["measurements"][0].as_py())["DualProto share analysed"] <= 1


@pytest.fixture
def dicom(copy):
    """The results as if they were of a DICOM slide."""
    slide = described_slide(_source(copy / "small.tif", read_told(copy / "small.tif"), needs_slide=False))
    file = copy.parent / "slide.dcm"
    slide.save_as(file, enforce_file_format=True)
    record = record_of(copy / "small.tif")
    record["slide"] |= {"path": str(file), "vendor": "dicom"}
    record["fingerprint"]["slide"] = slide_sha256(file)
    (copy / "small.tif" / "record.json").write_text(json.dumps(record), encoding="utf-8")
    return copy / "small.tif", file, slide


def test_a_segmentation_of_a_dicom_slide_refers_to_its_file(dicom):
    folder, _, slide = dicom
    export_slide(folder, ["dicom-seg"], force=True)
    image = highdicom.seg.segread(folder / "labels.seg.dcm")
    (series,) = image.ReferencedSeriesSequence
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == slide.SOPInstanceUID
    assert image.StudyInstanceUID == slide.StudyInstanceUID


def test_a_dicom_slide_that_is_gone_or_another_is_told(dicom):
    folder, file, _ = dicom
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(DataError, match=r"slide\.dcm: is another file now .*or leave dicom-seg out"):
        export_slide(folder, ["dicom-seg"], force=True)
    file.unlink()
    with pytest.raises(DataError, match=r"slide\.dcm: cannot be read .*bring it back, or leave dicom-seg out"):
        export_slide(folder, ["dicom-seg"], force=True)
    export_slide(folder, ["ome-tiff"], force=True)


def test_a_slide_without_tissue_is_exported(tmp_path):
    glass = np.full((600, 600, 3), 244, np.uint8)
    size = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "glass.tif", glass, tile=(256, 256), photometric="rgb", metadata=None, **size)
    (outcome,) = mapped([tmp_path / "glass.tif"], tmp_path / "out", exports=EXPORTS)
    assert outcome.status == "empty"
    assert problems(tmp_path / "out") == ""
    assert parquet.read_table(tmp_path / "out" / "glass.tif" / "glass.tif.parquet").num_rows == 0
    assert outcome.qc["flags"] == ["little tissue"]
    assert outcome.qc["focus"] is None


def test_results_that_are_not_whole_are_refused_and_cost_that_slide_alone(copy, small_slide, tmp_path):
    (copy / "small.tif" / "labels.tif").unlink()
    with pytest.raises(DataError, match="its results are not whole; run `dualproto-wsi segment` again"):
        export_slide(copy / "small.tif", ["parquet"])
    (exported,) = export_run(copy, ["parquet"])
    assert exported.files == ()
    assert "not whole" in exported.error


def test_a_slide_that_another_process_works_on_is_left_to_it(copy):
    with claimed(copy, "small.tif"):
        (exported,) = export_run(copy, ["parquet"], force=True)
    assert (exported.files, exported.error) == ((), "another process works on it")


def test_a_table_that_names_a_folder_elsewhere_is_told(copy):
    table = (copy / "slides.csv").read_text(encoding="utf-8")
    (copy / "slides.csv").write_text(table.replace(",small.tif,done", ",../small.tif,done"), encoding="utf-8")
    (exported,) = export_run(copy, ["parquet"])
    assert exported.error == "folder is '../small.tif'; it must be one in the output folder"


def test_a_missing_package_stops_a_run_before_it_begins(monkeypatch, small_slide, tmp_path):
    monkeypatch.setattr(export_kinds, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="dicom-seg needs highdicom"):
        mapped([small_slide], tmp_path, exports=("dicom-seg",))
    assert not (tmp_path / "small.tif").exists()


def test_what_cannot_be_written_fails_that_slide_and_the_next_run_goes_on(copy, small_slide):
    folder = copy / "small.tif"
    (folder / "labels.ome.tif").unlink()
    (folder / "labels.ome.tif").mkdir()
    (outcome,) = mapped([small_slide], copy, exports=("ome-tiff",))
    assert outcome.status == "failed"
    assert "labels.ome.tif: cannot be written" in outcome.error
    (folder / "labels.ome.tif").rmdir()
    (outcome,) = mapped([small_slide], copy, exports=("ome-tiff",))
    assert outcome.status == "done"
    assert problems(copy) == ""


def test_the_verb_exports_and_tells(copy):
    folder = copy / "small.tif"
    (folder / "labels.ome.tif").unlink()
    result = CliRunner().invoke(main, ["export", str(copy), "--to", "ome-tiff,parquet"])
    assert (result.exit_code, result.stdout.split()) == (0, [str(folder / "labels.ome.tif")])
    result = CliRunner().invoke(main, ["export", str(copy), "--to", "parquet", "--force"])
    assert result.stdout.split() == [str(folder / "small.tif.parquet")]
    assert problems(copy) == ""
    (folder / "labels.tif").unlink()
    result = CliRunner().invoke(main, ["export", str(copy), "--to", "parquet"])
    assert result.exit_code == 1
    assert "small.tif: " in result.stderr and "not whole" in result.stderr
    result = CliRunner().invoke(main, ["export", str(copy), "--to", "svg"])
    assert result.exit_code == 2
    assert "'svg' is not known; choose from ome-tiff, dicom-seg" in result.stderr
    result = CliRunner().invoke(main, ["export", str(copy / "nothing"), "--to", "parquet"])
    assert result.exit_code == 2


def test_quality_is_in_record_and_table(run):
    qc = record_of(run / "small.tif")["qc"]
    with (run / "slides.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert [name for name in row if name.startswith("qc_")] == list(QC_COLUMNS)
    assert float(row["qc_focus"]) == qc["focus"] > 100
    assert float(row["qc_ink"]) == qc["ink_share"] == 0
    assert row["qc_flags"] == ";".join(qc["flags"]) == "little tissue"
    assert qc["tissue_mm2"] == pytest.approx(record_of(run / "small.tif")["tissue_mm2"], rel=1e-5)


def test_a_table_and_a_record_from_before_are_read_as_they_were(copy, small_slide):
    folder = copy / "small.tif"
    record = record_of(folder)
    del record["qc"], record["exports"]
    record["settings"]["output"].pop("exports")
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    with (copy / "slides.csv").open(encoding="utf-8", newline="") as file:
        rows = [{name: cell for name, cell in row.items() if name not in QC_COLUMNS} for row in csv.DictReader(file)]
    with (copy / "slides.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    before = (copy / "slides.csv").read_bytes()
    assert problems(copy) == ""
    (outcome,) = mapped([small_slide], copy)
    assert outcome.skipped
    assert outcome.qc is None
    assert (copy / "slides.csv").read_bytes() == before
    assert SlideTable(copy).row(small_slide)["status"] == "done"


def test_scored_features_have_no_focus_but_stain_and_ink_of_their_overview(run, small_slide, tmp_path):
    for features, out in (
        (FeatureSettings(cache=str(tmp_path / "kept")), "a"),
        (FeatureSettings(source=str(tmp_path / "kept")), "b"),
    ):
        (outcome,) = segment_slides([small_slide], tmp_path / out, SegmentSettings(inference=CPU, features=features))
    encoded, scored = record_of(run / "small.tif")["qc"], outcome.qc
    assert (scored["focus"], scored["blurred_share"], scored["focus_windows"]) == (None, None, 0)
    assert outcome.row()["qc_focus"] == ""
    assert scored["density"] == pytest.approx(encoded["density"], rel=0.1)
    assert scored["ink_share"] == encoded["ink_share"] == 0
    assert scored["tissue_mm2"] == encoded["tissue_mm2"]
    assert problems(tmp_path / "b") == ""
