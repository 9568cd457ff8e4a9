from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dualproto_wsi.errors import OutputError
from dualproto_wsi.workflow.batch.claims import RUNS, claimed, run_announced, run_states, tidy
from dualproto_wsi.workflow.batch.outcome import SlideOutcome, SlideTable

HOLD = """
import sys
from pathlib import Path
from dualproto_wsi.workflow.batch.claims import claimed, run_announced
with run_announced(Path(sys.argv[1])) as state, claimed(Path(sys.argv[1]), "a.svs") as mine:
    state.write_text("{}")
    print(mine, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the claim on a.svs."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_claim_is_another_processs_until_it_is_killed(tmp_path, holder):
    with claimed(tmp_path, "a.svs") as mine, claimed(tmp_path, "b.svs") as free:
        assert (mine, free) == (False, True)
    assert [alive for _, alive in run_states(tmp_path)] == [True]
    holder.kill()
    holder.wait()
    with claimed(tmp_path, "a.svs") as mine:
        assert mine
    assert [alive for _, alive in run_states(tmp_path)] == [False]
    tidy(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_behind_by_a_run_that_ends(tmp_path):
    with run_announced(tmp_path) as state:
        state.write_text("{}")
        with claimed(tmp_path, "ä b.svs"):
            assert len(list((tmp_path / RUNS).iterdir())) == 3
    assert list(tmp_path.iterdir()) == []


def test_where_no_file_can_be_made(tmp_path):
    (tmp_path / RUNS).touch()
    with pytest.raises(OutputError, match=r"\.run: cannot be locked"), claimed(tmp_path, "a.svs"):
        pass


ADD = """
import sys
from pathlib import Path
from dualproto_wsi.workflow.batch.outcome import SlideOutcome, SlideTable
table = SlideTable(Path(sys.argv[1]))
for index in range(25):
    table.add(SlideOutcome(Path(f"/x/{sys.argv[2]}{index}.svs"), None, "failed", error="no"))
"""


def test_rows_of_two_processes_are_all_in_the_table(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", ADD, tmp_path, name]) for name in "ab"]
    assert [process.wait() for process in processes] == [0, 0]
    rows = SlideTable(tmp_path).rows()
    assert set(rows) == {f"/x/{name}{index}.svs" for name in "ab" for index in range(25)}
    assert list(rows) == sorted(rows)


def test_an_equal_row_is_not_written_again(tmp_path):
    table, outcome = SlideTable(tmp_path), SlideOutcome(Path("/x/a.svs"), None, "failed", error="no")
    table.add(outcome)
    before = table.path.stat().st_mtime_ns
    table.add(outcome)
    assert table.path.stat().st_mtime_ns == before
