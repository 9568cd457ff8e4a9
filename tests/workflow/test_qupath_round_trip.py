"""The whole way through QuPath, wherever `find_qupath` finds one: it cannot be had from a package registry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.errors import MissingDependency
from dualproto_wsi.vector.geojson import read_features
from dualproto_wsi.workflow.qupath import find_qupath


@pytest.fixture(scope="module")
def real_qupath():
    try:
        return find_qupath()
    except MissingDependency as error:
        pytest.skip(f"the whole way through QuPath: {error}")


def areas(path: Path) -> dict[str, float]:
    """Area of every polygon in a file by its id, px²: shell less holes, by the shoelace formula."""
    found = {}
    for feature in read_features(path):
        geometry = feature["geometry"]
        parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        found[feature["id"]] = sum(
            (-1 if number else 1) * ring_area(np.array(ring)) for rings in parts for number, ring in enumerate(rings)
        )
    return found


def ring_area(ring: np.ndarray) -> float:
    x, y = (ring - ring[0]).T
    return abs(float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())) / 2


@pytest.mark.qupath
def test_round_trip(real_qupath, make_slide, tmp_path):
    """Segment, make a project, import twice, export: all in QuPath; counts, ids, classes and areas are the file's."""

    def run(*words: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, [str(word) for word in words])
        return result.exit_code, result.output

    (tmp_path / "my slides").mkdir()
    slides = [make_slide(tmp_path / "my slides" / name, mpp=mpp) for name, mpp in (("é 1.a.tif", 0.5), ("B.tif", None))]
    out, project = tmp_path / "results", tmp_path / "new project" / "p.qpproj"
    segmented = run("segment", *slides, "--mpp", 0.5, "-o", out, "--device", "cpu", "--no-overlay")
    assert segmented[0] == 0, segmented
    records = {path.parent.name: json.loads(path.read_text("utf-8")) for path in out.glob("*/record.json")}
    importing = ("qupath", "import", "--project", project, out, "--qupath", real_qupath)

    code, text = run(*importing, "--create")
    assert code == 0, text
    assert "DualProto project: 2 added" in text
    assert "DualProto import: 2 imported" in text
    code, text = run(*importing)
    assert code == 0, text
    for name, record in records.items():
        (line,) = (line for line in text.splitlines() if line.startswith(name + "  "))
        count = str(record["regions"])
        assert line.removeprefix(name).split()[-3:] == [count, count, "0"]  # added, replaced, kept

    exporting = ("qupath", "export", "--project", project, "-o", tmp_path / "o", "--results", out)
    code, text = run(*exporting, "--qupath", real_qupath)
    assert code == 0, text
    for name, record in records.items():
        written, read = tmp_path / "o" / f"{name}.geojson", out / name / f"{name}.geojson"
        about = json.loads(written.read_text("utf-8"))["dualproto"]
        assert about["origins"] == {"unchanged": record["regions"]}
        assert about["image"]["width"] == record["slide"]["width"]
        assert about["image"]["mpp_x"] == pytest.approx(0.5)
        before, after = areas(read), areas(written)
        assert after == pytest.approx(before, rel=1e-3)

    slides[1].unlink()
    code, text = run(*importing)
    assert code == 1, text
    assert {"1 imported", "1 FAILED"} == set(text.splitlines()[-1].removeprefix("DualProto import: ").split(", "))
