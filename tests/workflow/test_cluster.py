"""Slides on a cluster: real clusters of processes on this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import dualproto_wsi
from dualproto_wsi.errors import ClusterError
from dualproto_wsi.settings import InferenceSettings, RunSettings, SegmentSettings
from dualproto_wsi.workflow.batch.outcome import SlideTable
from dualproto_wsi.workflow.batch.status import read_status
from dualproto_wsi.workflow.cluster import connect
from dualproto_wsi.workflow.cluster.run import segment_on_cluster
from dualproto_wsi.workflow.listener import Listener

distributed = pytest.importorskip("distributed", reason="pip install 'dualproto-wsi[cluster]'")
psutil = pytest.importorskip("psutil")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def on(cluster: str, **run: object) -> SegmentSettings:
    return SegmentSettings(inference=InferenceSettings(device="cpu"), run=RunSettings(cluster=cluster, **run))


def slide_process(slide: Path, out: Path):
    """The process that has claimed a slide, on whichever worker."""
    claim = str(out / ".run" / f"{slide.name}.claim")
    for process in psutil.Process().children(recursive=True):
        try:
            if claim in [file.path for file in process.open_files()]:
                return process
        except psutil.Error:  # it ends this very moment
            continue
    raise AssertionError(f"nobody is at {slide}")


class Watcher(Listener):
    """Counts what it hears, and does something to the process of a slide when its windows are known."""

    def __init__(self, out: Path, name: str = "", harm=None) -> None:
        self._out, self._name, self._harm = out, name, harm
        self.heard: Counter[tuple[str, str]] = Counter()
        self.engine = ""
        self.running: list[dict[str, object]] = []

    def run_started(self, slides, engine):
        self.engine = engine
        self.heard["slides", "started"] = len(slides)

    def slide_started(self, slide):
        self.heard[slide.name, "started"] += 1

    def slide_planned(self, slide, tiles):
        self.heard[slide.name, "planned"] += tiles
        if slide.name == self._name:
            self._harm(slide_process(slide, self._out))

    def tiles_done(self, slide, count):
        self.heard[slide.name, "done"] += count

    def slide_finished(self, outcome):
        self.heard[outcome.slide.name, "finished"] += 1
        self.running = list(read_status(self._out).running)


def crash(process) -> None:
    process.send_signal(signal.SIGSEGV)


def kill_worker(process) -> None:
    """Kill a Dask worker; its slide process is left to end by itself."""
    process.parent().kill()


def kill_machine(process) -> None:
    """Kill a Dask worker and its slide process at once, as a power cut does."""
    worker = process.parent()
    worker.suspend()
    process.kill()
    worker.kill()


@pytest.mark.parametrize("cluster", ["local:1", pytest.param("local:2", marks=pytest.mark.slow)])
def test_a_cluster_gives_what_a_run_without_it_gives(
    three_slides, undisturbed, tmp_path, contents, monkeypatch, cluster
):
    monkeypatch.chdir(three_slides)
    out, missing = tmp_path / "out", tmp_path / "missing.svs"
    watcher = Watcher(out)
    slides = [Path("a.tif"), missing, Path("b ü.tif"), Path("c.tif")]
    outcomes = {o.slide.name: o for o in segment_on_cluster(slides, out, on(cluster), watcher)}
    assert outcomes.pop("missing.svs").error == f"{missing}: no such slide; check the path"
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    found, clean = contents(out), contents(undisturbed)
    assert [row for row in found.pop("slides.csv") if row["status"] == "done"] == clean.pop("slides.csv")
    assert found == clean
    assert watcher.engine.endswith(f" cores, on {cluster}")
    assert watcher.heard["slides", "started"] == 4
    assert watcher.running[0]["pid"] == os.getpid()
    assert set(outcomes) == {"a.tif", "b ü.tif", "c.tif"}
    for name, outcome in outcomes.items():
        assert watcher.heard[name, "started"] == watcher.heard[name, "finished"] == 1
        assert watcher.heard[name, "planned"] == watcher.heard[name, "done"] == outcome.tiles > 0
    assert _ends(lambda: not multiprocessing.active_children())


def _ends(condition) -> bool:
    """Wait a little for what happens a moment after a run."""
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("harm", [kill_worker, kill_machine])
def test_a_worker_that_is_killed_loses_and_repeats_nothing(three_slides, undisturbed, tmp_path, contents, harm):
    out, killed = tmp_path / "out", []

    def once(process):
        if not killed:
            killed.append(process.parent().pid)
            harm(process)

    watcher = Watcher(out, "b ü.tif", once)
    outcomes = list(segment_on_cluster([three_slides], out, on("local:2"), watcher))
    assert len(killed) == 1
    assert sorted((o.slide.name, o.status, o.skipped) for o in outcomes) == [
        (name, "done", False) for name in ("a.tif", "b ü.tif", "c.tif")
    ]
    assert [watcher.heard[name, "started"] for name in ("a.tif", "c.tif")] == [1, 1]
    assert watcher.heard["b ü.tif", "started"] == 2
    assert contents(out) == contents(undisturbed)
    assert sorted(path.name for path in out.iterdir()) == ["a.tif", "b ü.tif", "c.tif", "slides.csv"]


@pytest.mark.slow
def test_a_crash_costs_one_slide_and_is_told_as_without_a_cluster(three_slides, undisturbed, tmp_path, contents):
    out = tmp_path / "out"
    outcomes = list(segment_on_cluster([three_slides], out, on("local:1"), Watcher(out, "b ü.tif", crash)))
    assert Counter(outcome.status for outcome in outcomes) == {"done": 2, "failed": 1}
    (error,) = [outcome.error for outcome in outcomes if outcome.error]
    assert error == (
        "b ü.tif: the process died (signal 11, segmentation fault) while it was at this slide; is the file intact?"
    )
    assert not (out / "b ü.tif").exists()
    assert contents(out)["a.tif/labels.tif"] == contents(undisturbed)["a.tif/labels.tif"]


@pytest.mark.slow
def test_a_slide_that_loses_every_worker_fails_alone(three_slides, tmp_path):
    out = tmp_path / "out"
    outcomes = list(segment_on_cluster([three_slides], out, on("local:2"), Watcher(out, "c.tif", kill_machine)))
    assert {outcome.slide.name: outcome.status for outcome in outcomes} == {
        "a.tif": "done", "b ü.tif": "done", "c.tif": "failed"
    }  # fmt: skip
    (row,) = [row for row in SlideTable(out).rows().values() if row["status"] == "failed"]
    assert row["error"].startswith("c.tif: 4 workers were lost while they were at this slide, the last one tcp://")
    assert row["error"].endswith("; is the file intact, and their memory large enough?")
    assert not (out / "c.tif").exists()


@pytest.mark.slow
def test_a_slide_that_is_late_is_stopped(three_slides, tmp_path):
    os.mkfifo(tmp_path / "hang.svs")
    slides = [tmp_path / "hang.svs", three_slides / "a.tif"]
    outcomes = {o.slide.name: o for o in segment_on_cluster(slides, tmp_path / "out", on("local:1", timeout_s=6))}
    assert outcomes["hang.svs"].error.startswith("hang.svs: stopped after 6 s; give it longer with --timeout")
    assert outcomes["a.tif"].status == "done"


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """Address of a Dask scheduler with one worker that is started as users start them."""
    folder = tmp_path_factory.mktemp("dask")
    with (folder / "scheduler.log").open("w") as log:
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(folder / "s.json")]
        processes = [subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_scheduler", *options], stderr=log)]
        while not (folder / "s.json").exists():
            time.sleep(0.1)
        address = json.loads((folder / "s.json").read_text())["address"]
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
        processes.append(subprocess.Popen([*worker, "--local-directory", str(folder)], stderr=log, cwd=folder))
        yield address.replace("tcp://", "dask://")
        for process in reversed(processes):
            process.terminate()
            process.wait()


@pytest.mark.slow
def test_a_cluster_that_runs_already(scheduler, three_slides, undisturbed, tmp_path, contents):
    """Twice: by the command line, and what is there already is skipped."""
    command = [sys.executable, "-m", "dualproto_wsi", "segment", ".", "-o", str(tmp_path / "out"), "--device", "cpu"]
    command += ["--cluster", scheduler]
    done = subprocess.run(command, cwd=three_slides, capture_output=True, text=True, check=True)
    told = done.stderr.splitlines()
    assert told[0] == f"waiting for a worker of {scheduler} …"
    assert told[1].startswith("3 slide(s), ")
    assert told[-1] == "3 slide(s): 3 done"
    assert contents(tmp_path / "out") == contents(undisturbed)
    record = json.loads((tmp_path / "out" / "a.tif" / "record.json").read_text(encoding="utf-8"))
    assert record["command"]["argv"][1:] == command[3:]
    assert record["command"]["cwd"] == str(three_slides)
    again = subprocess.run(command, cwd=three_slides, capture_output=True, text=True, check=True)
    assert again.stderr.splitlines()[-1] == "3 slide(s): 3 done (3 of them were there already)"


@pytest.mark.slow
def test_a_run_that_is_closed_stops_its_slides_on_the_workers(scheduler, three_slides, undisturbed, tmp_path, contents):
    out = tmp_path / "out"

    class Stop(Listener):
        def slide_planned(self, slide, tiles):
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        closing(segment_on_cluster([three_slides], out, on(scheduler), Stop())) as run,
    ):
        list(run)
    assert not list(out.rglob("*.tmp"))
    assert not (out / ".run").exists()
    outcomes = list(segment_on_cluster([three_slides], out, on(scheduler)))
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    assert contents(out) == contents(undisturbed)


@pytest.mark.slow
def test_what_workers_lack_is_told(scheduler, three_slides, tmp_path, monkeypatch):
    def refused(settings: SegmentSettings) -> str:
        with pytest.raises(ClusterError) as error:
            list(segment_on_cluster([three_slides], tmp_path / "out", settings))
        assert not (tmp_path / "out").exists()
        return str(error.value)

    settings = on(scheduler)
    worker = "worker tcp://127.0.0.1:"
    told = refused(replace(settings, inference=InferenceSettings(model="nothing.pt", device="cpu")))
    assert told.startswith(worker)
    assert "nothing.pt" in told
    assert told.endswith("; models must be where all machines see them")
    told = refused(replace(settings, inference=InferenceSettings(device="cuda")))
    assert told == (
        f"{scheduler}: no worker offers a GPU, and --device is cuda; start workers with "
        f"`dask worker {scheduler[7:]} --nthreads 1 --resources GPU=1`"
    )
    has = dualproto_wsi.__version__
    monkeypatch.setattr(dualproto_wsi, "__version__", "9.9")
    told = refused(settings)
    assert told.startswith(worker)
    assert told.endswith(f" has dualproto-wsi {has}, and here it is 9.9; install the same version on all machines")


WITHOUT = """
import sys
sys.modules["dualproto_wsi"] = None  # as if it were not installed
from distributed.cli.dask_worker import main
main([sys.argv[1], "--no-nanny", "--nthreads", "1", "--no-dashboard"])
"""


@pytest.mark.slow
def test_a_worker_without_this_package_is_told(three_slides, tmp_path):
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        address = cluster.scheduler_address
        worker = subprocess.Popen([sys.executable, "-c", WITHOUT, address], cwd=tmp_path, stderr=subprocess.DEVNULL)
        try:
            spec = address.replace("tcp://", "dask://")
            with pytest.raises(ClusterError) as error:
                list(segment_on_cluster([three_slides], tmp_path / "out", on(spec)))
        finally:
            worker.terminate()
            worker.wait()
    assert str(error.value).startswith("worker tcp://127.0.0.1:")
    assert str(error.value).endswith(
        f" has no dualproto-wsi, and here it is {dualproto_wsi.__version__}; install the same version on all machines"
    )


@pytest.mark.slow
def test_a_cluster_without_workers_is_told(three_slides, tmp_path, monkeypatch):
    monkeypatch.setattr(connect, "ANSWER_S", 1.0)
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        target = cluster.scheduler_address.removeprefix("tcp://")
        with pytest.raises(ClusterError) as error:
            list(segment_on_cluster([three_slides], tmp_path / "out", on(f"dask://{target}")))
    assert str(error.value) == (
        f"dask://{target}: the scheduler has no workers; start some with `dask worker {target} --nthreads 1`"
    )


@pytest.mark.slow
def test_ctrl_c_ends_a_local_cluster(three_slides, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dualproto_wsi", "segment", str(three_slides), "-o", str(out), "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--cluster", "local:2"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while "windows …" not in (line := process.stderr.readline()):
        assert line
    os.killpg(process.pid, signal.SIGINT)
    told = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 130
    assert told[-1] == "stopped; what was finished stays, and the same command goes on"
    assert told[-2].startswith("3 slide(s): ")
    assert not list(out.rglob("*.tmp"))
    assert not (out / ".run").exists()
    assert _ends(lambda: _is_gone(process.pid))


def _is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
def test_a_scheduler_that_goes_ends_the_run(three_slides, tmp_path):
    """The slides that were done stay."""
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0")
    spec, out = cluster.scheduler_address.replace("tcp://", "dask://"), tmp_path / "out"
    running = segment_on_cluster([three_slides], out, on(spec))
    assert next(running).status == "done"
    cluster.close()
    with pytest.raises(ClusterError) as error:
        list(running)
    assert str(error.value) == f"{spec}: the scheduler is gone; the same command goes on"
    assert len(SlideTable(out).rows()) == 1
    assert _ends(lambda: not list(out.rglob("*.tmp")))


def test_nobody_answers(three_slides, tmp_path, monkeypatch):
    monkeypatch.setattr(connect, "ANSWER_S", 0.5)
    with pytest.raises(ClusterError) as error:
        list(segment_on_cluster([three_slides], tmp_path / "out", on("dask://127.0.0.1:9")))
    assert str(error.value) == (
        "dask://127.0.0.1:9: no Dask scheduler answers there; start one with `dask scheduler`, and check host and port"
    )
    assert not (tmp_path / "out").exists()
