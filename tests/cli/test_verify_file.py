from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main

FEATURE = {
    "type": "Feature",
    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]},
    "properties": {"classification": {"name": "Tumör", "color": [1, 2, 3]}},
}


@pytest.fixture
def verify(tmp_path):
    def run(*features, options=()):
        path = tmp_path / "regions.geojson"
        path.write_text(json.dumps(features), encoding="utf-8")
        return CliRunner().invoke(main, ["verify", str(path), *options])

    return run


def test_a_file_that_all_versions_read(verify):
    result = verify(FEATURE)
    assert result.exit_code == 0
    first, second, *_ = result.output.splitlines()
    assert first == "ok    regions.geojson"
    assert second == "      QuPath 0.4.4: reads 1 object: 1 annotation (Tumör 1)"
    assert len(result.output.splitlines()) == 5


def test_a_file_that_is_refused(verify):
    result = verify(FEATURE, {"type": "Feature", "id": "x", "geometry": None})
    assert result.exit_code == 1
    assert result.output.startswith("FAIL  regions.geojson\n")
    assert "QuPath 0.7.0: refuses the file: feature 1 (id x): its geometry is null" in result.output


def test_nothing_read_is_a_failure(verify):
    assert verify().exit_code == 1


def test_as_json(verify):
    result = verify(FEATURE, options=["--json"])
    assert result.exit_code == 0
    (verdict,) = json.loads(result.output)
    assert [version["version"] for version in verdict["versions"]] == ["0.4.4", "0.5.1", "0.6.0", "0.7.0"]
    assert verdict["versions"][0]["types"] == {"annotation": {"Tumör": 1}}
    assert verdict["versions"][0]["refusal"] is None


def test_a_folder_is_a_run_as_before(tmp_path):
    (tmp_path / "slides.csv").write_text("slide,status,folder\n", encoding="utf-8")
    assert CliRunner().invoke(main, ["verify", str(tmp_path)]).output == "0 slide(s) checked, 0 with problems\n"
    assert json.loads(CliRunner().invoke(main, ["verify", str(tmp_path), "--json"]).output) == []


def test_no_such_file(tmp_path):
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "none.geojson")])
    assert result.exit_code == 2
    assert "none.geojson: no such file or folder" in result.stderr
