from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.workflow.batch.claims import RUNS, run_announced
from dualproto_wsi.workflow.batch.outcome import SlideOutcome, SlideTable
from dualproto_wsi.workflow.batch.progress import StateFile


def status(*arguments: object):
    return CliRunner().invoke(main, ["status", *map(str, arguments)])


@pytest.fixture
def out(tmp_path):
    table = SlideTable(tmp_path)
    table.add(SlideOutcome(Path("/x/a.svs"), tmp_path / "a.svs", "done"))
    table.add(SlideOutcome(Path("/x/b.svs"), None, "failed", error="b.svs: the file is empty"))
    return tmp_path


def play(state: StateFile) -> None:
    state.run_started([Path("/x/a.svs"), Path("/x/b.svs"), Path("/x/c.svs")], "model on cpu")
    state.slide_started(Path("/x/a.svs"))
    state.slide_finished(SlideOutcome(Path("/x/a.svs"), None, "done"))
    state.slide_planned(Path("/x/c.svs"), 10)
    state.tiles_done(Path("/x/c.svs"), 4)


def test_a_folder_where_nothing_runs(out):
    result = status(out)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["in slides.csv: 1 done, 1 failed", "failed:  b.svs: the file is empty"]


def test_a_run_that_is_alive_and_one_that_was_killed(out):
    with run_announced(out) as path:
        play(StateFile(path, every_s=0))
        (path.parent / "elsewhere-1.json").write_text(path.read_text())
        lines = status(out).stdout.splitlines()
        data = json.loads(status(out, "--json").stdout)
    running, window, killed = lines[1:4]
    assert running.startswith("running: ")
    assert "1 of 3 slide(s), 0 failed, " in running
    assert running.endswith(" left")
    assert window == "    c.svs: 4 of 10 windows"
    assert killed.startswith("killed:  ")
    assert killed.endswith("1 of 3 slide(s), 0 failed; the same command goes on")
    assert data["slides"] == {"done": 1, "failed": 1}
    assert data["running"][0]["current"] == [{"slide": "/x/c.svs", "tiles": 10, "tiles_done": 4}]
    assert not (out / RUNS).exists()


def test_a_folder_that_is_none_of_ours(tmp_path):
    result = status(tmp_path)
    assert result.exit_code == 2
    assert "no slides.csv and no run in it; name a folder that `dualproto-wsi segment` writes" in result.stderr
