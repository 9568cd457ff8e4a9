from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest
import torch

from dualproto_wsi.errors import ModelNotFound, SettingsError, SlideNotFound
from dualproto_wsi.settings import InferenceSettings, RefineSettings, RunSettings, SegmentSettings
from dualproto_wsi.workflow.batch.claims import tidy
from dualproto_wsi.workflow.batch.messages import Duty
from dualproto_wsi.workflow.batch.outcome import SlideTable
from dualproto_wsi.workflow.batch.status import read_status
from dualproto_wsi.workflow.batch.tasks import list_tasks, make_folder
from dualproto_wsi.workflow.batch.workers import Crew, segment_in_workers
from dualproto_wsi.workflow.cores import reading_threads, usable_cores
from dualproto_wsi.workflow.listener import Listener

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes of POSIX")

CPU = InferenceSettings(device="cpu")


class Killer(Listener):
    """Sends a signal to the process that is at a slide of a name: a real death, as a crash in a reader is."""

    def __init__(self, name: str, number: int = signal.SIGSEGV) -> None:
        self._name, self._number, self._done = name, number, False
        self.engines: list[str] = []

    def run_started(self, slides, engine):
        self.engines.append(engine)

    def tiles_done(self, slide, count):
        if slide.name == self._name and not self._done:  # files of results are open then
            self._done = True
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid, self._number)


def test_a_crash_and_a_hang_cost_one_slide_each(three_slides, undisturbed, tmp_path, contents):
    crash, hang, out = tmp_path / "crash.tif", tmp_path / "hang.svs", tmp_path / "out"
    slides = [three_slides / "a.tif", crash, three_slides / "c.tif", hang]
    crash.symlink_to(three_slides / "b ü.tif")
    os.mkfifo(hang)  # opening it waits for ever, as a dead network share does
    settings = SegmentSettings(inference=CPU, run=RunSettings(timeout_s=8))
    listener = Killer("crash.tif")
    with closing(segment_in_workers(slides, out, settings, listener)) as running:
        outcomes = list(running)
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done", "failed"]
    assert outcomes[1].error == (
        "crash.tif: the process died (signal 11, segmentation fault) while it was at this slide; is the file intact?"
    )
    assert outcomes[3].error.startswith("hang.svs: stopped after 8 s; give it longer with --timeout")
    assert 8 <= outcomes[3].seconds < 12
    rows = SlideTable(out).rows()
    assert [row["error"] for row in rows.values() if row["status"] == "failed"] == [o.error for o in outcomes[1::2]]
    assert multiprocessing.active_children() == []
    assert sorted(path.name for path in out.iterdir()) == ["a.tif", "c.tif", "slides.csv"]
    clean = contents(undisturbed)
    for name, content in contents(out).items():
        if name != "slides.csv":
            assert content == clean[name], name
    assert "on cpu in " in listener.engines[0]


def test_what_makes_all_impossible_is_raised_and_makes_no_folder(three_slides, tmp_path):
    settings = SegmentSettings(inference=InferenceSettings(model="nothing", device="cpu"))
    with pytest.raises(ModelNotFound, match="nothing"):
        list(segment_in_workers([three_slides], tmp_path / "out", settings))
    assert not (tmp_path / "out").exists()
    assert multiprocessing.active_children() == []


def test_a_timeout_needs_a_process_of_its_own():
    with pytest.raises(SettingsError, match="timeout needs isolate"):
        RunSettings(isolate=False, timeout_s=5)


def _ends(group: int) -> bool:
    """Wait a little until no process of a group is left; Python's own helper ends a moment after the others."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_ctrl_c_ends_at_once_with_a_summary_and_leaves_nothing(three_slides, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log.jsonl"
    command = [sys.executable, "-m", "dualproto_wsi", "segment", three_slides, "-o", out, "--device", "cpu"]
    process = subprocess.Popen(
        [*map(str, command), "--log-file", str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while "windows …" not in (line := process.stderr.readline()):
        assert line
    (state,) = read_status(out).running
    assert state["pid"] == process.pid
    assert state["slides"] == 3
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
    _, told = process.communicate(timeout=30)
    assert time.monotonic() - started < 12
    assert process.returncode == 130
    summary, stopped = told.splitlines()[-2:]
    assert summary.startswith("3 slide(s): ")
    assert summary.split(", ")[-1].split(": ")[-1].endswith("left")
    assert stopped == "stopped; what was finished stays, and the same command goes on"
    assert not list(out.rglob("*.tmp"))
    assert not (out / ".run").exists()
    assert _ends(process.pid)
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [event["event"] for event in events][:3] == ["run_started", "slide_started", "slide_planned"]
    assert events[-1]["event"] == "run_ended"
    assert events[-1]["left"] >= 2


PARENT = """
import sys
from dualproto_wsi.cli.main import main
if __name__ == "__main__":
    try:
        main(["segment", sys.argv[1], "-o", sys.argv[2], "--device", "cpu"])
    except SystemExit as end:
        print(end.code, "torch" in sys.modules)
"""


@pytest.mark.slow
def test_the_parent_needs_no_torch(three_slides, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, script, three_slides, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"


@pytest.mark.slow
def test_a_worker_that_is_asked_to_end_removes_what_it_was_writing(three_slides, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "dualproto_wsi", "segment", str(three_slides), "-o", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
    )
    while "windows …" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert not list((tmp_path / "out").rglob("*.tmp"))


@pytest.mark.slow
def test_a_run_goes_on_after_a_hang(three_slides, tmp_path):
    os.mkfifo(tmp_path / "hang.svs")
    settings = SegmentSettings(inference=CPU, run=RunSettings(timeout_s=10))
    outcomes = list(segment_in_workers([tmp_path / "hang.svs", three_slides], tmp_path / "out", settings))
    assert [outcome.status for outcome in outcomes] == ["failed", "done", "done", "done"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_other_deaths_are_named(three_slides, tmp_path, number):
    outcomes = list(
        segment_in_workers([three_slides], tmp_path / "out", SegmentSettings(inference=CPU), Killer("b ü.tif", number))
    )
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done"]
    hint = {signal.SIGKILL: "want of memory", signal.SIGABRT: "aborted"}[number]
    assert hint in outcomes[1].error


@pytest.mark.slow
def test_two_processes_of_a_crew_share_the_slides(three_slides, undisturbed, tmp_path, contents):
    """Two processes on the CPU stand in for two on GPUs."""
    settings, out = SegmentSettings(inference=CPU), tmp_path / "out"
    tasks = list_tasks([three_slides], out, settings)
    make_folder(out)
    with Crew(Duty(out, settings)) as crew:
        for worker in [crew.hire("cpu", 2), crew.hire("cpu", 2)]:
            assert crew.wait_until_ready(worker).devices == ("cpu",)
        outcomes = list(crew.do(tasks, Listener()))
    tidy(out)
    assert sorted(outcome.slide.name for outcome in outcomes) == ["a.tif", "b ü.tif", "c.tif"]
    assert not any(outcome.skipped for outcome in outcomes)
    assert contents(out) == contents(undisturbed)


@pytest.mark.slow
def test_a_process_that_waits_for_others_is_not_late(three_slides, tmp_path):
    """Of two processes one is done at once, and waits for longer than a slide may take."""
    os.mkfifo(tmp_path / "hang.svs")
    settings, out = SegmentSettings(inference=CPU, run=RunSettings(timeout_s=8)), tmp_path / "out"
    tasks = list_tasks([tmp_path / "hang.svs", three_slides / "a.tif"], out, settings)
    make_folder(out)
    with Crew(Duty(out, settings)) as crew:
        for _ in range(2):
            crew.wait_until_ready(crew.hire("cpu", 2))
        assert {outcome.status for outcome in crew.do(tasks, Listener())} == {"done", "failed"}


@pytest.mark.slow
def test_refinement_by_processes_runs_in_a_process_of_its_own(three_slides, tmp_path):
    pytest.importorskip("pydensecrf")
    settings = SegmentSettings(inference=CPU, refine=RefineSettings("crf"))
    (outcome,) = segment_in_workers([three_slides / "a.tif"], tmp_path / "out", settings)
    assert outcome.error == ""
    assert multiprocessing.active_children() == []


def test_processes_share_the_cores(three_slides, tmp_path):
    """What the record tells: a third of the cores, at least one; the rule for threads that read is another test's."""
    settings = SegmentSettings(inference=CPU)
    (task,) = list_tasks([three_slides / "a.tif"], tmp_path, settings)
    with Crew(Duty(tmp_path, settings, processes=3)) as crew:
        assert crew.do_one(task, False, Listener()).status == "done"
    record = json.loads((tmp_path / "a.tif" / "record.json").read_text(encoding="utf-8"))
    cores = max(1, min(torch.get_num_threads(), usable_cores()) // 3)
    assert record["hardware"]["cores_used"] == cores
    assert record["hardware"]["readers"] == reading_threads(cores, on_gpu=False)


@pytest.mark.gpu
def test_every_gpu_gets_a_process(three_slides, tmp_path):
    listener = Killer("none")
    settings = SegmentSettings(inference=InferenceSettings(device="cuda"))
    outcomes = list(segment_in_workers([three_slides], tmp_path / "out", settings, listener))
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    assert "on cuda" in listener.engines[0]
    device = json.loads((tmp_path / "out" / "a.tif" / "record.json").read_text())["hardware"]["device"]
    assert device.startswith("cuda")


def test_paths_are_listed_before_any_process_is_started(tmp_path):
    with pytest.raises(SlideNotFound):
        next(segment_in_workers([tmp_path], tmp_path / "out", SegmentSettings()))
    assert not (tmp_path / "out").exists()
