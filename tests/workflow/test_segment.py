from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import SlideNotFound
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.settings import OutputSettings, ReadSettings, SegmentSettings, TilingSettings
from dualproto_wsi.slide.reader import open_slide
from dualproto_wsi.vector.geojson import read_regions
from dualproto_wsi.vector.raster import read_raster
from dualproto_wsi.vector.rasterise import rasterise
from dualproto_wsi.workflow.listener import Listener
from dualproto_wsi.workflow.segment import segment_slides


def grid_of(record: dict) -> LabelGrid:
    grid, bounds = record["grid"], record["slide"]["bounds"]
    x, y = (0.0, 0.0) if record["frame"] == "qupath" else (bounds["x"], bounds["y"])
    return LabelGrid(x, y, grid["scale_px"], grid["cell_um"], grid["columns"], grid["rows"])


def load(folder: Path):
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    scheme = ClassScheme.from_json(record["classes"])
    regions = list(read_regions(folder / (record["slide"]["file"] + ".geojson"), scheme))
    return record, regions, read_raster(folder / "labels.tif")


def check(folder: Path) -> tuple[dict, list, np.ndarray]:
    """Polygons, label map and record of a slide agree exactly."""
    record, regions, labels = load(folder)
    assert np.array_equal(rasterise(regions, grid_of(record)), labels)
    assert len(regions) == record["regions"]
    assert len({region.id for region in regions}) == len(regions)
    cell = record["grid"]["cell_um"] ** 2 * 1e-6
    counted = Counter(labels.ravel().tolist())
    for item in record["classes"]:
        assert record["mm2"][item["name"]] == pytest.approx(counted[item["id"]] * cell)
    return record, regions, labels


@pytest.fixture(scope="module")
def done(small_slide, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    (outcome,) = segment_slides([small_slide], out, SegmentSettings())
    assert outcome.status == "done", outcome.error
    return outcome


def test_polygons_label_map_and_record_agree(done):
    record, regions, _ = check(done.folder)
    assert done.regions == len(regions) > 0
    assert record["slide"]["mpp"] == 0.5
    assert record["model"]["card"]["name"]
    assert len(record["model"]["sha256"]) == 64
    assert record["peak_memory_bytes"] > 0
    assert {"tissue", "read", "infer", "blend", "trace", "write", "total"} <= set(record["seconds"])
    assert sum(done.fractions.values()) == pytest.approx(1)


def test_glass_is_not_analysed_and_tissue_is(done):
    _, _, labels = load(done.folder)
    assert not labels[:8, :8].any()
    middle = labels[labels.shape[0] // 2 - 10 :, labels.shape[1] // 2 - 10 :][:20, :20]
    assert middle.all()
    assert done.analysed_mm2 == pytest.approx(np.pi * (0.42 * 700 * 0.5e-3) ** 2, rel=0.05)


def test_the_same_run_gives_the_same_bytes(done, small_slide, tmp_path):
    (again,) = segment_slides([small_slide], tmp_path, SegmentSettings())
    for name in ("small.tif.geojson", "labels.tif", "overlay.png"):
        assert (again.folder / name).read_bytes() == (done.folder / name).read_bytes(), name


def test_overlap_and_batch_leave_no_trace_of_windows(done, small_slide, tmp_path):
    (other,) = segment_slides([small_slide], tmp_path, SegmentSettings(tiling=TilingSettings(0.5)))
    first, second = load(done.folder)[2], load(other.folder)[2]
    assert (first == second).mean() > 0.97


def test_a_slide_of_glass_is_empty_and_has_its_files(tmp_path, make_slide):
    import tifffile

    glass = np.full((600, 600, 3), 243, np.uint8)
    tifffile.imwrite(tmp_path / "glass.tif", glass, tile=(256, 256), resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    (outcome,) = segment_slides([tmp_path / "glass.tif"], tmp_path / "out", SegmentSettings())
    assert (outcome.status, outcome.tiles, outcome.regions, outcome.analysed_mm2) == ("empty", 0, 0, 0)
    _, regions, labels = check(outcome.folder)
    assert regions == []
    assert not labels.any()
    assert (outcome.folder / "overlay.png").exists()


def test_a_slide_smaller_than_a_window_and_one_smaller_than_a_cell(tmp_path, make_slide):
    slides = [make_slide(tmp_path / "a.tif", 400, 420), make_slide(tmp_path / "b.tif", 2, 3)]
    outcomes = list(segment_slides(slides, tmp_path / "out", SegmentSettings()))
    assert [outcome.status for outcome in outcomes] == ["done", "failed"], [o.error for o in outcomes]
    assert outcomes[1].error.startswith("b.tif: 3 x 2 px at 0.5 µm/px is smaller than a cell of the label map (2 µm)")
    check(outcomes[0].folder)


def test_two_slides_of_one_name_do_not_collide(tmp_path, make_slide):
    slides = []
    for side, height in (("left", 300), ("right", 400)):
        (tmp_path / side).mkdir()
        slides.append(make_slide(tmp_path / side / "a.tif", height, 300))
    outcomes = list(segment_slides(slides, tmp_path / "out", SegmentSettings()))
    assert len({outcome.folder for outcome in outcomes}) == 2
    for outcome, height in zip(outcomes, (300, 400), strict=True):
        assert check(outcome.folder)[0]["slide"]["height"] == height


def test_results_inside_the_slide_folder_are_not_taken_for_slides(tmp_path, make_slide):
    make_slide(tmp_path / "a.tif", 300, 300)
    for _ in range(2):
        (outcome,) = segment_slides([tmp_path], tmp_path / "out", SegmentSettings())
        assert outcome.slide.name == "a.tif"


def test_a_slide_named_in_another_way_is_the_same_slide(tmp_path, make_slide, monkeypatch):
    make_slide(tmp_path / "a.tif", 300, 300)
    monkeypatch.chdir(tmp_path)
    for path in (Path("a.tif"), tmp_path / "a.tif", Path("out") / ".." / "a.tif"):
        (outcome,) = segment_slides([path], tmp_path / "out", SegmentSettings())
        assert outcome.status == "done", outcome.error
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.tif", "slides.csv"]
    assert len((tmp_path / "out" / "slides.csv").read_text().splitlines()) == 2


def test_no_slides_at_all(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SlideNotFound, match="no slides found; name slide files, or folders that hold some"):
        list(segment_slides([tmp_path], tmp_path / "out", SegmentSettings()))


def test_listener_hears_of_everything(tmp_path, small_slide):
    class Log(Listener):
        def __init__(self):
            self.tiles = 0
            self.heard = []

        def run_started(self, slides, engine):
            self.heard.append(("run", len(slides), engine))

        def slide_planned(self, slide, tiles):
            self.heard.append(("planned", slide.name, tiles))

        def tiles_done(self, slide, count):
            self.tiles += count

        def slide_finished(self, outcome):
            self.heard.append(("finished", outcome.status))

    log = Log()
    (outcome, _) = segment_slides([small_slide, tmp_path / "no.svs"], tmp_path / "out", SegmentSettings(), log)
    assert log.heard[0][:2] == ("run", 2)
    assert " on " in log.heard[0][2]
    assert log.heard[1:] == [("planned", "small.tif", outcome.tiles), ("finished", "done"), ("finished", "failed")]
    assert log.tiles == outcome.tiles


def test_an_unexpected_error_costs_one_slide_and_is_logged(tmp_path, small_slide, monkeypatch, caplog):
    from dualproto_wsi.workflow.mapping import job as slide_job

    real = slide_job.look_at
    calls = iter([True, False])

    def fails_once(*arguments):
        if next(calls):
            raise ZeroDivisionError("by nothing")
        return real(*arguments)

    monkeypatch.setattr(slide_job, "look_at", fails_once)
    slides = [small_slide, tmp_path / "small2.tif"]
    slides[1].write_bytes(small_slide.read_bytes())
    first, second = segment_slides(slides, tmp_path / "out", SegmentSettings())
    assert first.error == "small.tif: unexpected ZeroDivisionError: by nothing"
    assert second.status == "done"
    assert "Traceback" in caplog.text


def test_frames_differ_by_the_bounds(tmp_path, shared, monkeypatch):
    from dualproto_wsi.workflow.mapping import job as slide_job

    def open_in_pink(path, settings):
        """Open the slide, and show its square in the colour of tissue: it is red, and red counts as ink."""
        reader = open_slide(path, settings)
        read = reader.read

        def read_in_pink(box, size):
            pixels = read(box, size)
            pixels[pixels[..., 1] < 128] = (214, 150, 190)
            return pixels

        reader.read = read_in_pink
        return reader

    monkeypatch.setattr(slide_job, "open_slide", open_in_pink)
    slide = shared / "data" / "slides" / "bounds.scn"
    read = ReadSettings(mpp=2.0)
    frames = {}
    for frame in ("qupath", "slide"):
        settings = SegmentSettings(read=read, output=OutputSettings(frame=frame))
        (outcome,) = segment_slides([slide], tmp_path / frame, settings)
        assert outcome.status == "done", outcome.error
        frames[frame] = check(outcome.folder)
    bounds = frames["qupath"][0]["slide"]["bounds"]
    assert (bounds["x"], bounds["y"]) == (1000, 600)
    for cropped, whole in zip(frames["qupath"][1], frames["slide"][1], strict=True):
        assert cropped.id == whole.id
        np.testing.assert_allclose(whole.rings[0] - cropped.rings[0], [[1000, 600]] * len(whole.rings[0]), atol=0.011)
