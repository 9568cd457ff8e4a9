from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.errors import DataError
from dualproto_wsi.settings import OutputSettings, SegmentSettings
from dualproto_wsi.vector.raster import RasterWriter, read_raster
from dualproto_wsi.vector.region import AREA, MEAN_SCORE, RUNNER_UP
from dualproto_wsi.workflow.checks.verify import MOST_TOLD, verify_run
from dualproto_wsi.workflow.checks.verify_record import read_told
from dualproto_wsi.workflow.segment import segment_slides


def segmented(slides, out, **output):
    output = {"formats": ("geojson", "geojson.gz"), "outline": True, "confidence": True} | output
    return list(segment_slides(slides, out, SegmentSettings(output=OutputSettings(**output))))


@pytest.fixture(scope="module")
def run(small_slide, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    segmented([small_slide, out / "missing.svs"], out)
    return out


@pytest.fixture(scope="module")
def simplified(small_slide, tmp_path_factory):
    out = tmp_path_factory.mktemp("simplified")
    segmented([small_slide], out, simplify_um=3, formats=("geojson",), overlay=False)
    return out


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def problems(out):
    (verdict,) = verify_run(out)
    return " | ".join(verdict.problems)


def change_json(out, change):
    file = out / "small.tif" / "small.tif.geojson"
    data = json.loads(file.read_text(encoding="utf-8"))
    change(data)
    file.write_text(json.dumps(data), encoding="utf-8")


def change_features(out, change):
    change_json(out, lambda data: change(data["features"]))


def change_record(out, change):
    file = out / "small.tif" / "record.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(change(data) or data), encoding="utf-8")


def change_raster(out, name, change):
    folder = out / "small.tif"
    values = read_raster(folder / name).copy()
    change(values)
    with RasterWriter(folder / name, read_told(folder).grid) as writer:
        writer.append(values)
        writer.finish()


def change_row(out, **cells):
    with (out / "slides.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    next(row for row in rows if row["slide"] == "small.tif").update(cells)
    with (out / "slides.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("which", ["run", "simplified"])
def test_an_untouched_run_agrees(which, request):
    (verdict,) = verify_run(request.getfixturevalue(which))
    assert verdict.problems == ()
    assert verdict.slide == "small.tif"
    assert "geojson: " in verdict.checked


def test_an_untouched_run_is_told_in_a_line_a_slide(run):
    result = CliRunner().invoke(main, ["verify", str(run)])
    assert result.exit_code == 0
    first, last = result.output.splitlines()
    assert re.fullmatch(r"ok    small\.tif  39375 cells; geojson: \d+ features; geojson\.gz: \d+ features", first)
    assert last == "1 slide(s) checked, 0 with problems"


def test_an_empty_slide_agrees(tmp_path):
    tifffile.imwrite(
        tmp_path / "glass.tif",
        np.full((300, 300, 3), 244, np.uint8),
        tile=(256, 256),
        photometric="rgb",
        resolution=(2e4, 2e4),
        resolutionunit="CENTIMETER",
    )
    (outcome,) = segmented([tmp_path / "glass.tif"], tmp_path / "out")
    assert outcome.status == "empty"
    assert problems(tmp_path / "out") == ""
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "out")]).exit_code == 0


def test_a_lost_region_is_found(copy):
    change_features(copy, lambda features: features.pop(0))
    assert "cells differ between polygons and label map; the first is row" in problems(copy)
    assert "record.json says" in problems(copy)
    assert CliRunner().invoke(main, ["verify", str(copy)]).exit_code == 1


def test_a_doubled_region_is_an_overlap(copy):
    change_features(copy, lambda features: features.append(features[0]))
    assert "1 regions share an id with another" in problems(copy)
    assert "regions overlap: they fill" in problems(copy)


def test_a_crossing_ring_is_refused(copy):
    def cross(features):
        features[0]["geometry"]["coordinates"] = [[[0, 0], [40, 40], [40, 0], [0, 80], [0, 0]]]

    change_features(copy, cross)
    assert "QuPath (0.6.0, 0.7.0): refuses the file: feature 0 " in problems(copy)
    assert "Self-intersection" in problems(copy)


def shift(by):
    def change(features):
        for feature in features:
            parts = feature["geometry"]["coordinates"]
            for ring in parts if feature["geometry"]["type"] == "Polygon" else [r for part in parts for r in part]:
                ring[:] = [[x + by, y + by] for x, y in ring]

    return change


@pytest.mark.parametrize("which", ["run", "simplified"])
@pytest.mark.parametrize("by", [0.5, 1.9, 4])  # px; a cell has 4
def test_a_shifted_layer_is_found(which, by, request, tmp_path):
    out = Path(shutil.copytree(request.getfixturevalue(which), tmp_path / "run"))
    change_features(out, shift(by))
    assert "vertices lie on no corner of their regions' cells; the first is x" in problems(out)


def first(*keys, to, which=0):
    """Change a member of a feature, by its place; without a value, take it out."""

    def change(features):
        place = features[which]
        for key in keys[:-1]:
            place = place[key]
        if to is ...:
            del place[keys[-1]]
        else:
            place[keys[-1]] = to

    return change


CLASS = ("properties", "classification")
MEASURED = ("properties", "measurements")
RING = ("geometry", "coordinates", 0)
NOT_OURS = "small.tif.geojson: feature 0 is not one of ours: "


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (first("id", to=None), "its id is None, no UUID"),
        (first("id", to=[1]), "its id is [1], no UUID"),
        (first("id", to="hello"), "its id is 'hello', no UUID"),
        (first("geometry", to=None), "the geometry is None, an object is expected"),
        (first("geometry", to=[]), "the geometry is [], an object is expected"),
        (first("geometry", "type", to="Point"), "KeyError('Point')"),
        (first("geometry", "type", to=[]), "TypeError"),
        (first("geometry", "coordinates", to=None), "TypeError"),
        (first("geometry", "coordinates", to=[]), "it has no polygon, or one without a ring"),
        (first("geometry", "coordinates", to=[[]]), "a ring is not a list of four or more points [x, y]"),
        (first("geometry", "coordinates", to=7), "TypeError"),
        (first("geometry", "plane", to={"c": -1, "z": 3, "t": 0}), "the geometry has an unknown member 'plane'"),
        (first("geometry", "isEllipse", to=True), "the geometry has an unknown member 'isEllipse'"),
        (first("nucleusGeometry", to={}), "the Feature has an unknown member 'nucleusGeometry'"),
        (first(*RING, to=[[0, 0], [9, 0], [0, 0]]), "a ring is not a list of four or more points [x, y]"),
        (first(*RING, 0, to=None), "a ring is not a list of four or more points [x, y]"),
        (first(*RING, 1, 0, to=None), "a ring is not a list of four or more points [x, y]"),
        (first(*RING, 1, 1, to="nan"), "a ring is not a list of four or more points [x, y]"),
        (first(*RING, 1, 1, to="inf"), "a ring is not a list of four or more points [x, y]"),
        (first(*RING, 1, 1, to=1e300), "a coordinate is not finite, or beyond 1e+09 px"),
        (first(*RING, -1, to=...), "a ring is not closed: its last point is not its first"),
        (first("properties", to=None), "the properties is None, an object is expected"),
        (first("properties", "name", to=None), "its name is None, isLocked False"),
        (first("properties", "isLocked", to="x"), "its name is '', isLocked 'x'"),
        (first("properties", "childObjects", to=[]), "the properties has an unknown member 'childObjects'"),
        (first("properties", "objectType", to=...), "KeyError('objectType')"),
        (first(*CLASS, to=None), "the classification is None, an object is expected"),
        (first(*CLASS, "color", to=None), "TypeError"),
        (first(*CLASS, "color", to=...), "KeyError('color')"),
        (first(*CLASS, "color", to=["a", 1, 2]), "must be three integers"),
        (first(*CLASS, "name", to="Tum"), "it has the class 'Tum'; the classes are "),
        (first(*CLASS, "name", to=[]), "TypeError"),
        (first(*MEASURED, to=None), "its measurements are None, an object is expected"),
        (first(*MEASURED, to=[]), "its measurements are [], an object is expected"),
        (first(*MEASURED, AREA, to="x"), "its 'DualProto area mm^2' is 'x', no number"),
        (first(*MEASURED, MEAN_SCORE, to="NaN"), "its 'DualProto mean score' is 'NaN', no number"),
        (first(*MEASURED, "Area px^2", to=1), "it has a measurement 'Area px^2', not one of ours"),
    ],
)
def test_a_feature_that_is_not_ours_is_named(copy, change, text):
    change_features(copy, change)
    found = problems(copy)
    assert NOT_OURS in found
    assert text in found


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (first(*CLASS, "color", to=[1, 2, 3]), "1 features have another colour than record.json gives their class"),
        (first("properties", "objectType", to="detection"), "1 features are not of the type annotation"),
        (first("properties", "objectType", to="thing"), "QuPath: the objectType is not known; an annotation: 1 object"),
        (first("properties", "isLocked", to=True), "1 features have a name or are locked; the first is "),
        (first(*MEASURED, AREA, to=9), "its 'DualProto area mm^2' is 9, its cells have"),
        (first(*MEASURED, AREA, to=...), "its 'DualProto area mm^2' is nan, its cells have"),
        (first(*MEASURED, MEAN_SCORE, to=0.02), "the confidence of its cells 0."),
        (first(*MEASURED, MEAN_SCORE, to=99), "its scores are 99 and"),
        (first(*MEASURED, MEAN_SCORE, to=...), "its scores are nan and"),
        (first(*MEASURED, RUNNER_UP, to=-0.1), "-0.1; they are shares of 1"),
        (first(*MEASURED, MEAN_SCORE, to=0.001), "its second class has a higher score, 0."),
        (first(*CLASS, to=...), "2 features without a class; the outline of what was analysed should be 1"),
        (lambda features: features.pop(), "0 features without a class; the outline of what was analysed should be 1"),
        (first(*MEASURED, AREA, to=9, which=-1), "outline: region"),
        (first(*MEASURED, "DualProto Unsure share", to=0.5, which=-1), "outline: its 'DualProto Unsure share' is 0.5"),
        (first("properties", "name", to="x", which=-1), "the outline is 'x', 'annotation', locked: True; not as it"),
        (first(*RING, to=[[0, 0], [0, 8], [8, 8], [8, 0], [0, 0]], which=-1), "outline: "),
        (lambda features: features.insert(0, {"type": "Point", "coordinates": [1, 2]}), "entry 0 is not a Feature"),
    ],
)
def test_a_wrong_feature_is_found(copy, change, text):
    change_features(copy, change)
    assert text in problems(copy)


def test_a_lone_part_is_refused_by_the_versions_that_refuse_it(copy):
    def wrap(features):
        feature = next(feature for feature in features if feature["geometry"]["type"] == "Polygon")
        feature["geometry"] = {"type": "MultiPolygon", "coordinates": [feature["geometry"]["coordinates"]]}

    change_features(copy, wrap)
    assert "QuPath (0.4.4, 0.5.1): refuses the file: feature 0 " in problems(copy)


def test_an_outline_that_was_not_asked_for_is_found(copy):
    change_record(copy, lambda record: record["settings"]["output"].update(outline=False))
    assert "1 features have no class; the first is " in problems(copy)


def test_a_simplified_outline_is_checked_too(simplified, tmp_path):
    out = Path(shutil.copytree(simplified, tmp_path / "run"))
    change_features(out, first(*RING, to=[[0, 0], [0, 400], [400, 400], [400, 0], [0, 0]], which=-1))
    assert "outline: " in problems(out)


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda p: p.write_text('{"type": "FeatureCollection", "features": ['), "not GeoJSON, or cut off"),
        (lambda p: p.write_text("[" * 100_000), "its JSON is nested too deep"),
        (lambda p: p.write_bytes(p.read_bytes()[:-200]), "not GeoJSON, or cut off"),
        (lambda p: p.write_bytes(b""), "there are no objects in it"),
        (lambda p: p.unlink(), "small.tif.geojson: no such file"),
        (lambda p: p.write_text(p.read_text().rstrip()[:-1] + ',"features":[]}'), "has two lists of features"),
    ],
)
def test_a_damaged_polygon_file_costs_that_file(copy, write, text):
    write(copy / "small.tif" / "small.tif.geojson")
    (verdict,) = verify_run(copy)
    assert text in " | ".join(verdict.problems)
    assert "geojson.gz: " in verdict.checked


def test_one_mistake_in_every_feature_is_cut_short(copy):
    def change(features):
        for feature in features[:-1]:
            feature["properties"]["measurements"][MEAN_SCORE] = 2

    change_features(copy, change)
    (verdict,) = verify_run(copy)
    assert len(verdict.problems) == MOST_TOLD + 1
    assert re.fullmatch(r"and \d+ more problems", verdict.problems[-1])


def test_a_changed_label_map_is_found(copy):
    change_raster(copy, "labels.tif", lambda labels: labels.__setitem__((0, 0), 1))
    found = problems(copy)
    text = "1 cells differ between polygons and label map; the first is row 0, column 0: 0 in the polygons, 1"
    assert text in found
    assert "record.json: labels.tif was changed after it was written: its size or SHA-256 is another" in found
    assert "confidence.tif: has 0 to " in found
    change_raster(copy, "labels.tif", lambda labels: labels.__setitem__((0, 0), 77))
    assert "labels.tif has the label 77, which is no class" in problems(copy)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c.__setitem__(c > 0, 50), "the confidence of its cells 0.5"),
        (lambda c: c.__setitem__(c > 0, 1), "confidence.tif: has 1 to 1 percent; the best of "),
        (lambda c: c.__setitem__(np.unravel_index(c.argmax(), c.shape), 101), " to 101 percent; the best of "),
        (lambda c: c.__setitem__((0, 0), 60), "confidence.tif: and labels.tif disagree on 1 cells being analysed"),
    ],
)
def test_a_changed_confidence_is_found(copy, change, text):
    change_raster(copy, "confidence.tif", change)
    assert text in problems(copy)


@pytest.mark.parametrize("name", ["labels.tif", "confidence.tif"])
@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda p, v: p.write_bytes(b"hello"), "cannot be checked, is it damaged? TiffFileError"),
        (lambda p, v: p.write_bytes(b""), "is it damaged?"),
        (lambda p, v: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "is it damaged?"),
        (lambda p, v: p.unlink(), "is not there"),
        (lambda p, v: tifffile.imwrite(p, v.astype(np.uint16)), "is uint16 (175, 225), record.json says uint8"),
        (lambda p, v: tifffile.imwrite(p, np.zeros((9, 9, 3), np.uint8)), "is uint8 (9, 9, 3), record.json says uint8"),
        (lambda p, v: tifffile.imwrite(p, v, resolution=(1, 1)), "XResolution"),
        (lambda p, v: tifffile.imwrite(p, np.stack((v, v)), photometric="minisblack"), "has 2 levels; of this size"),
    ],
)
def test_a_damaged_raster_costs_that_slide(copy, name, write, text):
    path = copy / "small.tif" / name
    write(path, read_raster(path))
    found = problems(copy)
    assert f"{name}" in found
    assert text in found


def test_coarser_levels_are_checked(tmp_path):
    from dualproto_wsi.geometry import LabelGrid
    from dualproto_wsi.workflow.checks.verify_rasters import read_checked

    grid = LabelGrid(0, 0, 4, 2, 700, 600)
    values = np.random.default_rng(0).integers(0, 5, grid.shape, np.uint8)
    with RasterWriter(tmp_path / "a.tif", grid) as writer:
        writer.append(values)
        writer.finish()
    assert np.array_equal(read_checked(tmp_path / "a.tif", grid), values)
    per_cm = {"resolutionunit": "CENTIMETER", "photometric": "minisblack"}
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(values, resolution=(5e3, 5e3), **per_cm)
        tiff.write(values[1::2, ::2], resolution=(2.5e3, 2.5e3), **per_cm)
    with pytest.raises(DataError, match=r"a.tif: level of step 2 is not every 2th cell of the first"):
        read_checked(tmp_path / "a.tif", grid)


def test_the_overlay_is_a_whole_picture(copy):
    path = copy / "small.tif" / "overlay.png"
    path.write_bytes(path.read_bytes()[:-9])
    assert "overlay.png: is no PNG, or cut off" in problems(copy)
    path.unlink()
    assert "overlay.png: is not there" in problems(copy)


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ({"analysed_mm2": "7"}, "slides.csv: analysed_mm2 is 7, record.json says 0."),
        ({"analysed_mm2": "nan"}, "slides.csv: analysed_mm2 is nan, record.json says 0."),
        ({"unsure_mm2": ""}, "slides.csv: unsure_mm2 is , record.json says 0"),
        ({"Tumor_mm2": "inf"}, "slides.csv: Tumor_mm2 is inf, record.json says"),
        ({"Tumor_fraction": "0.99"}, "slides.csv: Tumor_fraction is 0.99, record.json says"),
        ({"Stroma_fraction": "nan"}, "slides.csv: Stroma_fraction is nan, record.json says"),
        ({"tiles": "1000"}, "slides.csv: tiles is 1000, record.json says"),
        ({"regions": "x"}, "slides.csv: regions is x, record.json says"),
        ({"mpp": "0.25"}, "slides.csv: mpp is 0.25, record.json says 0.5"),
        ({"mpp_source": "x"}, "slides.csv: mpp_source is x, record.json says"),
        ({"seconds": "-5"}, "slides.csv: seconds is -5, record.json says"),
        ({"status": "xyz"}, "slides.csv: status is xyz, record.json says done"),
        ({"slide": "other.svs"}, None),
        ({"path": "/etc/passwd"}, "slides.csv: path is '/etc/passwd', record.json says '"),
        ({"path": "/none/small.tif"}, "slides.csv: path is '/none/small.tif', record.json says '"),
        ({"error": "boom"}, "slides.csv: error is boom, record.json says "),
    ],
)
def test_a_changed_cell_of_the_table_is_found(copy, cells, text):
    change_row(copy, **cells)
    assert (text or "slides.csv: slide is other.svs, record.json says small.tif") in problems(copy)


@pytest.mark.parametrize("folder", ["", "..", "../run/small.tif", "/", "a\\b", "nope"])
def test_a_folder_elsewhere_is_not_looked_into(copy, folder):
    change_row(copy, folder=folder)
    verdict, stray = verify_run(copy)
    told = " | ".join(verdict.problems)
    assert (
        "record.json: cannot be read" if folder == "nope" else f"slides.csv: folder is {folder!r}; it must be"
    ) in told
    assert stray.problems == ("record.json is whole, but slides.csv has no row of it; run `segment` again",)


def test_a_failed_slide_with_whole_results_is_a_contradiction(copy):
    change_row(copy, status="failed")
    assert problems(copy) == "record.json is whole, but slides.csv says that the slide failed; run `segment` again"


def test_rows_that_are_doubled_short_or_long(copy):
    table = copy / "slides.csv"
    text = table.read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if "small.tif," in line)
    table.write_text(f"{text}{row}\n", encoding="utf-8")
    one, two = verify_run(copy)
    assert "slides.csv: two rows have the folder 'small.tif'" in one.problems
    assert one.problems == two.problems
    table.write_text(text.replace(row, row + ",7"), encoding="utf-8")
    assert "slides.csv: its row has more or fewer cells than the table has columns" in problems(copy)
    table.write_text(text.replace(row, row.rsplit(",", 3)[0]), encoding="utf-8")
    assert "slides.csv: its row has more or fewer cells than the table has columns" in problems(copy)
    table.write_text(text.replace(row, "a,b"), encoding="utf-8")
    assert [verdict.slide for verdict in verify_run(copy)] == ["a", "small.tif"]


def swap_names(record):
    one, two, *_ = record["classes"]
    one["name"], two["name"] = two["name"], one["name"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda r: [1], "record.json: is damaged or not of this program: TypeError"),
        (lambda r: "x", "record.json: is damaged or not of this program: TypeError"),
        (lambda r: r.update(settings=None), "record.json: is damaged or not of this program: TypeError"),
        (lambda r: r.update(grid=None), "record.json: is damaged or not of this program: TypeError"),
        (lambda r: r["grid"].update(cell_um=0), "record.json: cell_um is 0; it must be a number from 1e-06 on"),
        (lambda r: r["grid"].update(cell_um="2"), "record.json: cell_um is '2'; it must be a number from"),
        (lambda r: r["grid"].update(rows=2.5), "record.json: rows is 2.5; it must be a whole number"),
        (
            lambda r: r["grid"].update(rows=10**12),
            "labels.tif has 1 levels; of this size it has 32",
        ),
        (
            lambda r: r["grid"].update(scale_px=4.002),
            "record.json: scale_px is 4.002; cells of 2 µm at 0.5 µm/px have 4",
        ),
        (lambda r: r["slide"].update(mpp=0.25), "record.json: scale_px is 4; cells of 2 µm at 0.25 µm/px have 8"),
        (lambda r: r["slide"]["bounds"].update(x=100), "leave the slide of 900 x 700 px"),
        (lambda r: r["slide"].update(file="../x"), "record.json: the slide's file is '../x', no file name"),
        (lambda r: r.update(frame="slide"), "record.json: frame is 'slide', its settings say 'qupath'"),
        (lambda r: r.update(frame="xyz"), "record.json: frame is 'xyz', its settings say 'qupath'"),
        (lambda r: r.update(formats=[]), "record.json: formats is [], its settings say ['geojson', 'geojson.gz']"),
        (lambda r: r["settings"]["output"].update(formats=[]), "record.json: settings.output: formats is empty"),
        (lambda r: r["settings"]["output"].update(formats=["geojson"]), "does not tell of small.tif.geojson.gz, which"),
        (lambda r: r["settings"]["output"].update(zzz=1), "record.json: settings.output: unknown key 'zzz'"),
        (lambda r: r.update(classes=[5]), "record.json: class scheme"),
        (lambda r: r["classes"][0].update(id=2), "record.json: class ids must be"),
        (swap_names, "cells differ between polygons and label map"),
        (lambda r: r["mm2"].update(Tumor=float("nan")), "record.json: Tumor is nan; it must be a number from 0 on"),
        (lambda r: r.update(mm2={}), "record.json: mm2 has "),
        (lambda r: r.update(mm2=None), "record.json: is damaged or not of this program: TypeError"),
        (lambda r: r.update(analysed_mm2=9), "record.json: analysed has 9 mm², labels.tif 0."),
        (lambda r: r["settings"]["labels"].update(unsure_below=0.6), "are unsure or not against the threshold of 60 p"),
        (lambda r: r["settings"]["output"].update(merge_per_class=True), "a class has more than one feature"),
        (lambda r: r["settings"]["output"].update(merge_per_class=True), "number of polygons than 'DualProto regions'"),
        (lambda r: r["settings"]["output"].update(object_type="tile"), "the label map has "),
        (lambda r: r.update(regions=9), "regions, record.json says 9"),
        (lambda r: r.update(tiles=0), "record.json: status is 'done', but 0 windows went through the model: empty"),
        (lambda r: r.update(format=99), "record.json: format is 99; this version knows 1"),
        (lambda r: r["outputs"].update({"../x": {}}), "record.json: tells of a file '../x', which is not there"),
        (lambda r: r.update(outputs=[]), "record.json: cannot be checked, is it damaged? AttributeError"),
    ],
)
def test_a_changed_record_is_found(copy, change, text):
    change_record(copy, change)
    assert text in problems(copy)


@pytest.mark.parametrize("text", ["", "\0", "[" * 100_000, '{"slide": ', "\udcff"])
def test_a_damaged_record_costs_that_slide(copy, text):
    (copy / "small.tif" / "record.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert "record.json: is damaged or not of this program: " in problems(copy)


def test_the_next_slides_are_checked_all_the_same(small_slide, tmp_path):
    shutil.copy(small_slide, tmp_path / "b.tif")
    out = tmp_path / "out"
    segmented([small_slide, tmp_path / "b.tif"], out, outline=False, confidence=False, overlay=False)
    (out / "b.tif" / "labels.tif").write_bytes(b"junk")
    bad, good = sorted(verify_run(out), key=lambda verdict: verdict.slide)
    assert (bad.slide, good.slide, good.problems) == ("b.tif", "small.tif", ())
    assert "labels.tif: cannot be checked, is it damaged?" in " | ".join(bad.problems)


def test_nothing_to_check(copy, tmp_path):
    def message(out):
        with pytest.raises(DataError) as caught:
            list(verify_run(out))
        result = CliRunner().invoke(main, ["verify", str(out)])
        assert (result.exit_code, result.stdout) == (2, "")
        return str(caught.value)

    (tmp_path / "none").mkdir()
    assert "slides.csv: no such file; name a folder that" in message(tmp_path / "none")
    shutil.rmtree(copy / "small.tif")
    change_row(copy, status="failed")
    assert re.search(r"there is nothing to check: none of its \d slide\(s\) was done, see its column", message(copy))
    table = copy / "slides.csv"
    table.write_text(table.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    assert "slides.csv: there is nothing to check: it has no slides" in message(copy)
    table.write_bytes(b"")
    assert "slides.csv: there is nothing to check: it has no slides" in message(copy)
    table.write_bytes(b"\xff\xfe\x00 random")
    assert "slides.csv: cannot be read" in message(copy)
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    assert "slides.csv: has no column 'folder'; is it of `dualproto-wsi segment`?" in message(copy)
