"""Tiles are cut from made-up slides with known annotations; one test reads a real slide."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.data.images import BACKGROUND, NOT_LABELLED
from dualproto_wsi.data.layouts import read_dataset
from dualproto_wsi.errors import DataError, OutputError, SettingsError
from dualproto_wsi.geometry import Box
from dualproto_wsi.slide.reader import open_slide
from dualproto_wsi.workflow.tiles import CutSettings, cut_tiles

SETTINGS = CutSettings(size=100)


def box(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def feature(name: str, *rings: list[list[float]], origin: str = "") -> dict:
    properties = {"objectType": "annotation", "origin": origin} | (
        {"classification": {"name": name, "color": [1, 2, 3]}} if name else {}
    )
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": rings}, "properties": properties}


def annotate(path: Path, *features: dict, **about: object) -> Path:
    collection = {"type": "FeatureCollection"} | ({"dualproto": about} if about else {}) | {"features": features}
    path.write_text(json.dumps(collection), encoding="utf-8")
    return path


def scheme(*names: str) -> ClassScheme:
    return ClassScheme(tuple(TissueClass(i, name, (i, 0, 0)) for i, name in enumerate(names, start=1)))


def table(out: Path) -> dict[str, list[str]]:
    """Return the labels of each tile, by its place."""
    with (out / "labels.csv").open(encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    assert columns[:5] == ["path", "mask", "patient", "group", "mpp"]
    return {Path(row[0]).stem: row[5:] for row in rows}


@pytest.fixture
def slide(tmp_path: Path, make_slide) -> Path:
    """A slide of 450 x 320 px at 0.5 µm/px: 4 x 3 tiles of 100 px."""
    return make_slide(tmp_path / "a.tif", 320, 450)


def test_labels_follow_from_the_outlines(slide, tmp_path):
    file = annotate(
        tmp_path / "a.tif.geojson",
        feature("Tumor", box(0, 0, 200, 100)),
        feature("Stroma", box(200, 0, 300, 100), box(250, 0, 300, 90)),  # a hole
        feature("Stroma", box(96, 0, 100, 100)),  # 4 % of a tile
        feature("Tumor", box(300, 0, 400, 97)),  # 3 % of the tile left open
        feature("Fat", box(0, 100, 100, 200)),
        feature("Ignore*", box(0, 0, 50, 50)),
        feature("", box(100, 200, 200, 300)),
    )
    (outcome,), unmatched = cut_tiles(
        [slide], file, tmp_path / "out", CutSettings(size=100, classes=("Tumor", "Stroma"))
    )
    assert (unmatched, outcome.error, outcome.tiles, dict(outcome.other)) == ([], "", 5, {"Fat": 1})
    assert table(tmp_path / "out") == {
        "x0_y0": ["1", "?"],  # 4 % of stroma is too little for yes and too much for no
        "x100_y0": ["1", "0"],
        "x200_y0": ["?", "1"],  # nobody drew what is in the hole
        "x300_y0": ["1", "0"],
        "x0_y100": ["0", "0"],
    }
    assert (dict(outcome.present), dict(outcome.absent)) == ({"Tumor": 3, "Stroma": 1}, {"Tumor": 1, "Stroma": 3})


def test_pixels_and_masks_are_those_of_the_slide_and_train_reads_them(slide, tmp_path):
    file = annotate(
        tmp_path / "export.geojson",
        feature("Stroma", box(30, 40, 60, 80)),  # drawn inside the tumor, and written before it
        feature("TUM", box(0, 0, 100, 100)),
        feature("Fat", box(50, 50, 60, 60)),
        feature("Ignore*", box(90, 0, 100, 10)),
    )
    cut_tiles([slide], file, tmp_path / "out", CutSettings(size=100, classes=("Stroma", "Tumor")))
    dataset = read_dataset(tmp_path / "out", "table", "train", scheme("Tumor", "Stroma"))
    (image,) = dataset.images
    assert (dataset.mpp, image.patient, image.labels.tolist()) == (0.5, "a", [1, 1])
    pixels = tifffile.imread(slide)
    assert np.array_equal(image.read_pixels(), pixels[:100, :100])
    expected = np.zeros((100, 100), int)
    expected[40:80, 30:60] = 1
    expected[50:60, 50:60] = BACKGROUND
    expected[:10, 90:] = NOT_LABELLED
    assert np.array_equal(image.read_mask(), expected)


def test_tiles_are_brought_to_their_resolution_and_may_overlap(slide, tmp_path):
    file = annotate(tmp_path / "a.tif.geojson", feature("Tumor", box(0, 0, 450, 320)))
    (outcome,), _ = cut_tiles([slide], file, tmp_path / "out", CutSettings(tile_mpp=1.0, size=100, stride=25))
    assert outcome.tiles == 6 * 3
    assert set(table(tmp_path / "out")) == {f"x{x}_y{y}" for x in range(0, 251, 50) for y in (0, 50, 100)}
    with open_slide(slide) as reader:
        expected = reader.read(Box(250, 100, 200, 200), (100, 100))
    written = cv2.imread(str(tmp_path / "out" / "tiles" / "a.tif" / "x250_y100.png"))[..., ::-1]
    assert np.array_equal(written, expected)


def test_regions_of_the_model_count_once_they_are_reviewed(slide, tmp_path):
    file = annotate(tmp_path / "a.tif.geojson", feature("Tumor", box(0, 0, 100, 100), origin="unchanged"),
                    feature("Tumor", box(100, 0, 200, 100), origin="drawn"))  # fmt: skip
    assert set(_cut(slide, file, tmp_path / "one")) == {"x100_y0"}
    reviewed = CutSettings(size=100, reviewed=True)
    assert set(_cut(slide, file, tmp_path / "two", reviewed)) == {"x0_y0", "x100_y0"}


def _cut(slide: Path, file: Path, out: Path, settings: CutSettings = SETTINGS) -> dict[str, list[str]]:
    cut_tiles([slide], file, out, settings)
    return table(out)


def test_a_slide_that_fails_stops_no_other(tmp_path, make_slide):
    slides = [
        make_slide(tmp_path / f"{name}.tif", 220, 220, mpp) for name, mpp in (("a", 0.5), ("b", None), ("c", 0.5))
    ]
    slides += [
        tmp_path / "gone.tif",
        make_slide(tmp_path / "d.tif", 220, 220),
        make_slide(tmp_path / "e.tif", 220, 220, 2),
    ]
    folder = tmp_path / "annotations"
    folder.mkdir()
    for name in ("a", "b", "gone", "e", "stranger"):
        annotate(folder / f"{name}.tif.geojson", feature("Tumor", box(0, 0, 220, 220)))
    annotate(folder / "d.tif.geojson", feature("Tumor", box(0, 0, 220, 220)[:-1]))
    told = []
    outcomes, unmatched = cut_tiles(slides, folder, tmp_path / "out", SETTINGS, told.append)
    assert [path.name for path in unmatched] == ["stranger.tif.geojson"]
    assert told == outcomes
    assert [outcome.tiles for outcome in outcomes] == [4, 0, 0, 0, 0, 0]
    assert [outcome.error.replace(str(tmp_path), "") for outcome in outcomes] == [
        "",
        outcomes[1].error,
        "/c.tif: no annotations of it at /annotations; name the file c.tif.geojson",
        "/gone.tif: no such slide; check the path",
        "/annotations/d.tif.geojson: feature 0 has an outline that is not closed; export it again",
        "/e.tif: has 2 µm/px, coarser than tiles of 0.5; choose coarser tiles",
    ]
    assert outcomes[1].error.startswith("b.tif: no pixel size in the file; pass --mpp (microns per pixel)")
    assert len(table(tmp_path / "out")) == 4


def test_a_table_of_slides_says_patients_groups_and_pixel_sizes(tmp_path, make_slide):
    for name in ("a", "b"):
        make_slide(tmp_path / f"{name}.tif", 220, 220, None)
        annotate(tmp_path / f"{name}.tif.geojson", feature("Tumor", box(0, 0, 220, 220)))
    slides = tmp_path / "slides.csv"
    slides.write_text("path,mpp,Patient,group\na.tif,0.5,P7,north\nb.tif,0.5,P7,\n")
    annotations = tmp_path / "annotations"
    annotations.mkdir()
    for path in tmp_path.glob("*.geojson"):
        path.rename(annotations / path.name)
    cut_tiles([slides], annotations, tmp_path / "out", SETTINGS)
    images = read_dataset(tmp_path / "out", "table", "train", scheme("Tumor")).images
    assert {(image.patient, image.group) for image in images} == {("P7", "north"), ("P7", "")}


def test_what_is_refused_before_any_slide(slide, tmp_path):
    file = annotate(tmp_path / "a.tif.geojson", feature("Ignore*", box(0, 0, 9, 9)))
    with pytest.raises(
        DataError, match=r"a\.tif\.geojson: no outline of a class for these slides; set classes in QuPath"
    ):
        cut_tiles([slide], file, tmp_path / "out")
    with pytest.raises(DataError, match="no such file or folder of annotations"):
        cut_tiles([slide], tmp_path / "gone", tmp_path / "out")
    with pytest.raises(SettingsError, match=r"a\.tif: two slides have this name, so annotations may be of either"):
        cut_tiles([slide, tmp_path / "sub" / "a.tif"], file, tmp_path / "out")
    annotate(file, feature("Tumor", box(0, 0, 100, 100)))
    assert _cut(slide, file, tmp_path / "out")
    with pytest.raises(OutputError, match=r"out.labels\.csv: is there already; name a new folder"):
        cut_tiles([slide], file, tmp_path / "out")
    with pytest.raises(OutputError, match="cannot be written"):
        cut_tiles([slide], file, slide / "out", SETTINGS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tile_mpp": 0}, "tile_mpp is 0; microns per pixel lie between 0.01 and 100"),
        ({"size": 8}, "size is 8; it must be at least 16 px"),
        ({"stride": -1}, "stride is -1; it must be 0, for the size, or more"),
        ({"min_share": 0}, "min_share is 0; it must be above 0 and at most 1"),
        ({"classes": ("Tumor", "TUM")}, "classes are Tumor, TUM; name each once, and at most 253"),
        ({"classes": ("Group",)}, "class 'Group' has the name of a column of the table; rename it in QuPath"),
    ],
)
def test_wrong_settings(given, message):
    with pytest.raises(SettingsError) as error:
        CutSettings(**given)
    assert str(error.value) == message


class TestFrame:
    """QuPath crops some slides to what was scanned; its coordinates begin there."""

    def test_the_corner_of_what_qupath_shows(self, shared, tmp_path):
        slide = shared / "data" / "slides" / "bounds.scn"
        with open_slide(slide) as reader:
            info = reader.info
            mpp = info.mpp or 0.5
            assert (info.content.x, info.content.y) != (0, 0)
            expected = reader.read(Box(info.content.x, info.content.y, 64, 64), (64, 64))
        settings = CutSettings(tile_mpp=mpp, size=64, mpp=mpp)
        name = f"x{info.content.x:.0f}_y{info.content.y:.0f}"
        cropped, whole = (info.content.width, info.content.height), (info.width, info.height)
        for case, (corner, about) in enumerate((
            ((0, 0), {}),
            ((0, 0), {"image": {"width": cropped[0], "height": cropped[1]}}),
            ((info.content.x, info.content.y), {"image": {"width": whole[0], "height": whole[1]}}),
            ((-5, -3), {"image": {}, "offset": [info.content.x + 5, info.content.y + 3]}),
        )):  # fmt: skip
            x, y = corner
            file = annotate(tmp_path / "bounds.scn.geojson", feature("Tumor", box(x, y, x + 64, y + 64)), **about)
            assert _cut(slide, file, tmp_path / f"{case}", settings) == {name: ["1"]}
            written = cv2.imread(str(tmp_path / f"{case}" / "tiles" / "bounds.scn" / f"{name}.png"))[..., ::-1]
            assert np.array_equal(written, expected)

    def test_annotations_of_another_or_turned_image_are_refused(self, slide, tmp_path):
        path = tmp_path / "a.tif.geojson"
        shape = feature("Tumor", box(0, 0, 100, 100))
        annotate(path, shape, image={"width": 900, "height": 640})
        (outcome,), _ = cut_tiles([slide], path, tmp_path / "out")
        assert outcome.error == (
            f"{path}: is of an image of 900 x 640 px, the slide a.tif has 450 x 320: it is another slide of that name,"
            " or was exported at another size"
        )
        annotate(path, shape, image={}, turned=True)
        (outcome,), _ = cut_tiles([slide], path, tmp_path / "out")
        assert outcome.error == f"{path}: was drawn on a rotated or mirrored image; add the slide to QuPath unturned"


def test_a_real_slide(shared, tmp_path):
    slide = shared / "data" / "slides" / "CMU-1-Small-Region.svs"
    file = annotate(tmp_path / "CMU-1-Small-Region.svs.geojson", feature("Tumor", box(500, 700, 1400, 1600)))
    (outcome,), _ = cut_tiles([slide], file, tmp_path / "out", CutSettings(size=128))
    with open_slide(slide) as reader:
        scale = 0.5 / reader.info.require_mpp()
    side, found = 128 * scale, table(tmp_path / "out")
    assert outcome.tiles == len(found)
    columns, rows = (int(length / side + 1e-6) for length in (2220, 2967))
    expected = {}
    for row in range(rows):
        for column in range(columns):
            x, y = column * side, row * side
            area = max(0, min(x + side, 1400) - max(x, 500)) * max(0, min(y + side, 1600) - max(y, 700))
            expected[f"x{round(x)}_y{round(y)}"] = area / side**2
    assert set(found) == {name for name, share in expected.items() if share >= 0.05}
    assert all(labels == ["1"] for labels in found.values())
