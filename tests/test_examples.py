"""The examples do what their first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dualproto_wsi.settings import SegmentSettings, load_toml

EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = sorted((EXAMPLES / "settings").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_settings_files_load_and_change_something(path: Path) -> None:
    assert load_toml(SegmentSettings, path) != SegmentSettings()
    assert f"--config examples/settings/{path.name}" in path.read_text(encoding="utf-8")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_cohort_is_made_reported_and_read(tmp_path: Path) -> None:
    run(EXAMPLES / "cohort_synthetic.py", "cohort", "8", cwd=tmp_path)
    cohort = tmp_path / "cohort"
    verb = ("-m", "dualproto_wsi", "cohort", "results", "--metadata", "patients.csv", "--by", "arm", "-o", "report")
    run(*verb, cwd=cohort)
    told = run(EXAMPLES / "read_results.py", "cohort/results", "cohort/report", cwd=tmp_path)
    assert "done      8\nempty     1\nfailed    1" in told
    assert "tumor_fraction" in told and "treated" in told and "a cell is" in told
    assert "<html" in (cohort / "report" / "report.html").read_text(encoding="utf-8")
