from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def done(make_slide, tmp_path_factory) -> Path:
    """The results of a slide that was named from another folder."""
    folder = tmp_path_factory.mktemp("work")
    make_slide(folder / "a.tif", 320, 300)
    result = run(
        "segment", folder / "a.tif", "-o", folder / "out", "--device", "cpu", "--no-isolate", "--batch-size", 3,
        "--min-area", 40, "--confidence",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder / "out" / "a.tif"


@pytest.fixture
def copy(done, tmp_path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "copy"))


def change(folder: Path, **values: object) -> None:
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    for path, value in values.items():
        section, name = path.split("__")
        record[section][name] = value
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")


def test_a_record_says_what_it_takes_to_repeat_it(done):
    record = json.loads((done / "record.json").read_text(encoding="utf-8"))
    assert set(record["outputs"]) == {"labels.tif", "overlay.png", "confidence.tif", "a.tif.geojson"}
    assert record["fingerprint"]["device"] == "cpu"
    assert record["batch_size"] == 3
    assert record["command"]["cwd"] == str(Path.cwd())
    assert record["settings"]["labels"]["min_area_um2"] == 40


def test_the_same_slide_gives_the_same_bytes(done, tmp_path):
    result = run("rerun", done / "record.json", "-o", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert sorted(result.stdout.splitlines()) == [
        "equal  a.tif.geojson", "equal  confidence.tif", "equal  labels.tif", "equal  overlay.png",
    ]  # fmt: skip
    record = tmp_path / "new" / "a.tif" / "record.json"
    before = record.stat().st_mtime_ns
    assert run("rerun", done / "record.json", "-o", tmp_path / "new").exit_code == 0
    assert record.stat().st_mtime_ns > before  # results of before are no repetition


def test_other_bytes_and_other_versions_are_told(copy):
    record = json.loads((copy / "record.json").read_text(encoding="utf-8"))
    record["outputs"]["labels.tif"]["sha256"] = "0" * 64
    record["versions"]["torch"] = "0.1"
    (copy / "record.json").write_text(json.dumps(record), encoding="utf-8")
    result = run("rerun", copy)
    assert result.exit_code == 1
    assert "DIFFERS  labels.tif" in result.stdout
    assert "equal  overlay.png" in result.stdout
    assert result.stdout.startswith("torch: 0.1 recorded, ")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("fingerprint__slide", "a.tif: another file now than the one in "),
        ("fingerprint__model", "model builtin is another now than the one recorded"),
    ],
)
def test_what_changed_is_refused_by_name(copy, part, message):
    change(copy, **{part: "0" * 64})
    result = run("rerun", copy)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "map the slide anew with `dualproto-wsi segment`" in result.stderr


def test_a_slide_that_is_gone(copy):
    change(copy, slide__path="/nowhere/a.tif")
    result = run("rerun", copy)
    assert result.exit_code == 2
    assert "/nowhere/a.tif: no such slide; " in result.stderr


def test_what_is_no_record(tmp_path, done):
    assert "no such record; name a record.json" in run("rerun", tmp_path / "record.json").stderr
    (tmp_path / "record.json").write_text("[]")
    assert "no record of this program" in run("rerun", tmp_path).stderr
    (tmp_path / "record.json").write_text("{")
    assert "not a record of this program (" in run("rerun", tmp_path).stderr
    assert "holds the results to compare with; choose another -o" in run("rerun", done, "-o", done.parent).stderr
