from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "slides.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_slide_and_three_broken_ones(small_slide, tmp_path):
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "good.tif").write_bytes(small_slide.read_bytes())
    (slides / "empty.svs").touch()
    (slides / "text.svs").write_text("not a slide\n" * 100)
    missing = tmp_path / "gone.svs"
    result = run("segment", slides, missing, "-o", tmp_path / "out", "--device", "cpu", "--no-isolate")
    assert result.exit_code == 1
    found = {row["slide"]: row for row in rows(tmp_path / "out")}
    assert {name: row["status"] for name, row in found.items()} == {
        "good.tif": "done", "empty.svs": "failed", "text.svs": "failed", "gone.svs": "failed",
    }  # fmt: skip
    assert "the file is empty" in found["empty.svs"]["error"]
    assert "no reader knows this file" in found["text.svs"]["error"]
    assert "no such slide" in found["gone.svs"]["error"]
    assert all("\n" not in row["error"] for row in found.values())
    folder = tmp_path / "out" / "good.tif"
    assert sorted(path.name for path in folder.iterdir()) == [
        "good.tif.geojson", "labels.tif", "overlay.png", "record.json",
    ]  # fmt: skip
    assert "gone.svs: no such slide" in result.stderr
    assert result.stdout.strip().endswith("slides.csv")


def test_formats_object_type_and_overlay_are_as_asked(small_slide, tmp_path):
    result = run(
        "segment", small_slide, "-o", tmp_path, "--formats", "geojson.gz", "--object-type", "detection", "--no-overlay",
        "--batch-size", 3, "--overlap", 0.5, "--device", "cpu", "--no-isolate",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    folder = tmp_path / "small.tif"
    assert sorted(path.name for path in folder.iterdir()) == ["labels.tif", "record.json", "small.tif.geojson.gz"]
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert record["settings"]["output"]["object_type"] == "detection"
    assert record["settings"]["tiling"]["overlap"] == 0.5


def test_a_slide_without_pixel_size_needs_mpp(tmp_path, make_slide):
    slide = make_slide(tmp_path / "bare.tif", 300, 300, mpp=None)
    result = run("segment", slide, "-o", tmp_path / "a", "--device", "cpu", "--no-isolate")
    assert result.exit_code == 1
    assert rows(tmp_path / "a")[0]["error"].startswith("bare.tif: no pixel size in the file; pass --mpp")
    result = run("segment", slide, "-o", tmp_path / "b", "--device", "cpu", "--mpp", 0.5, "--no-isolate")
    assert result.exit_code == 0
    assert rows(tmp_path / "b")[0]["mpp_source"] == "option --mpp"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nothing"], "nothing"),
        (["--device", "cuda:99"], "--device cuda:99: torch"),
        (["--device", "tpu"], "device is 'tpu'; use auto, cpu, cuda or cuda:N"),
        (["--mpp", "0"], "mpp is 0.0; microns per pixel"),
        (["--overlap", "0.9"], "overlap is 0.9"),
        (["--formats", "kml"], "'kml' is not known; choose from geojson, geojson.gz"),
        (["--formats", ","], "the list is empty"),
        (["--workers", "-1"], "workers is -1"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(small_slide, tmp_path, arguments, message):
    result = run("segment", small_slide, "-o", tmp_path / "out", "--no-isolate", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_out_that_is_a_file(small_slide, tmp_path):
    (tmp_path / "out").touch()
    result = run("segment", small_slide, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "is a file; -o needs a folder" in result.stderr


def test_debug_shows_the_traceback(small_slide, tmp_path):
    from dualproto_wsi.errors import ModelNotFound

    result = run("--debug", "segment", small_slide, "-o", tmp_path / "out", "--model", "nothing", "--no-isolate")
    assert isinstance(result.exception, ModelNotFound)
