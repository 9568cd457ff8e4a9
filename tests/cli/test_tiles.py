from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    ring = [[0, 0], [500, 0], [500, 300], [0, 300], [0, 0]]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": {"name": name, "color": [1, 2, 3]}},
        }
        for name in ("Tumor", "Fat")
    ]
    folder = tmp_path / "annotations"
    folder.mkdir()
    for name in ("small.tif", "other.tif"):
        (folder / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return folder


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["tiles", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_tiles_are_told_and_counted(small_slide: Path, annotations: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, told, news = run(
        small_slide, "--annotations", annotations, "-o", out, "--classes", "Tumor,Stroma", "--size", 100
    )
    assert code == 0
    assert told.splitlines() == [
        "small.tif: 15 tiles: Stroma in 0, not in 15, Tumor in 0, not in 15; taken for background: Fat (1)",
        f"15 tiles of 1 slide(s): {out}",
    ]
    assert news == f"{annotations / 'other.tif.geojson'}: annotations of none of these slides\n"
    assert len(list((out / "tiles" / "small.tif").iterdir())) == 15


def test_a_failed_slide_is_exit_code_1(small_slide: Path, annotations: Path, tmp_path: Path) -> None:
    (annotations / "other.tif.geojson").unlink()
    gone = tmp_path / "gone.tif"
    code, told, _ = run(small_slide, gone, "--annotations", annotations, "-o", tmp_path / "out")
    assert code == 1
    assert f"failed: {gone}: no annotations of it at {annotations}; name the file gone.tif.geojson" in told
    assert told.splitlines()[-1] == f"6 tiles of 2 slide(s), 1 failed: {tmp_path / 'out'}"


def test_wrong_usage_is_exit_code_2(small_slide: Path, annotations: Path, tmp_path: Path) -> None:
    code, _, news = run(small_slide, "--annotations", annotations, "-o", tmp_path / "out", "--min-share", "2")
    assert (code, news) == (2, "error: min_share is 2.0; it must be above 0 and at most 1\n")
