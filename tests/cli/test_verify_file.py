from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_folder_is_a_run_and_an_empty_one_is_told_of(tmp_path, options):
    (tmp_path / "slides.csv").write_text("slide,status,folder\n", encoding="utf-8")
    result = CliRunner().invoke(main, ["verify", str(tmp_path), *options])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "slides.csv: there is nothing to check: it has no slides; run `dualproto-wsi segment` again" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_is_told_in_a_line(tmp_path, options):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(FEATURE), encoding="utf-8")
    command = [sys.executable, "-m", "dualproto_wsi", "verify", str(path), *options]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the verdict cannot be written (No space left on device)")
    assert "Traceback" not in done.stderr


def test_no_such_file(tmp_path):
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "none.geojson")])
    assert result.exit_code == 2
    assert "none.geojson: no such file or folder" in result.stderr
