from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dualproto_wsi.errors import OutputError, SlideNotFound
from dualproto_wsi.settings import InferenceSettings, LabelSettings, ReadSettings, RunSettings, SegmentSettings
from dualproto_wsi.workflow.mapping.job import SlideJob
from dualproto_wsi.workflow.segment import segment_slides

CPU = SegmentSettings(inference=InferenceSettings(device="cpu"))


FORCE = RunSettings(force=True)


def run(paths, out, settings=CPU):
    return {outcome.slide.name: outcome for outcome in segment_slides(paths, out, settings)}


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start the command line in a process of its own."""
    command = [sys.executable, "-m", "dualproto_wsi", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def skipped(outcomes) -> list[bool]:
    return [outcome.skipped for outcome in outcomes.values()]


def copy_of(undisturbed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(undisturbed, tmp_path / "out"))


def test_what_is_done_is_skipped_and_keeps_its_bytes(three_slides, undisturbed, tmp_path, contents):
    out = copy_of(undisturbed, tmp_path)
    before = (out / "slides.csv").stat().st_mtime_ns
    outcomes = run([three_slides], out)
    assert skipped(outcomes) == [True, True, True]
    assert contents(out) == contents(undisturbed)
    assert (out / "slides.csv").stat().st_mtime_ns == before


def test_a_row_that_was_lost_comes_back_from_the_record(three_slides, undisturbed, tmp_path):
    out = copy_of(undisturbed, tmp_path)
    rows = (out / "slides.csv").read_text()
    (out / "slides.csv").unlink()
    assert skipped(run([three_slides], out)) == [True, True, True]
    assert (out / "slides.csv").read_text() == rows


@pytest.mark.parametrize("harm", ["record", "cut", "gone"])
def test_half_written_results_do_not_count(three_slides, undisturbed, tmp_path, contents, harm):
    out = copy_of(undisturbed, tmp_path)
    labels = out / "a.tif" / "labels.tif"
    if harm == "record":
        (out / "a.tif" / "record.json").unlink()
    elif harm == "cut":
        labels.write_bytes(labels.read_bytes()[:-1])
    else:
        labels.unlink()
    (out / "a.tif" / "labels.tif.4711.tmp").touch()
    assert skipped(run([three_slides], out)) == [False, True, True]
    assert contents(out) == contents(undisturbed)


def test_changed_settings_and_changed_slides_are_done_again(make_slide, tmp_path):
    slide, out = make_slide(tmp_path / "a.tif", 300, 300), tmp_path / "out"
    first, faster = CPU, replace(CPU, read=ReadSettings(workers=1))
    assert skipped(run([slide], out, first)) == [False]
    assert skipped(run([slide], out, faster)) == [True]
    make_slide(slide, 300, 320)
    assert skipped(run([slide], out, faster)) == [False]
    assert json.loads((out / "a.tif" / "record.json").read_text())["slide"]["width"] == 320
    assert skipped(run([slide], out, replace(CPU, labels=LabelSettings(min_area_um2=50)))) == [False]
    assert skipped(run([slide], out, replace(CPU, labels=LabelSettings(min_area_um2=50), run=FORCE))) == [False]


def test_a_slide_that_was_moved_is_skipped_in_its_folder(make_slide, tmp_path):
    (tmp_path / "x").mkdir()
    slide = make_slide(tmp_path / "x" / "a.tif", 300, 300)
    run([slide], tmp_path / "out")
    moved = slide.rename(tmp_path / "a.tif")
    (outcome,) = segment_slides([moved], tmp_path / "out", CPU)
    assert outcome.skipped
    assert outcome.folder == tmp_path / "out" / "a.tif"
    table = (tmp_path / "out" / "slides.csv").read_text().splitlines()
    assert len(table) == 2
    assert str(moved) in table[1]


def test_a_folder_that_another_run_took_meanwhile_is_left_to_it(make_slide, tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    first, second = make_slide(tmp_path / "x" / "a.tif", 300, 300), make_slide(tmp_path / "y" / "a.tif", 310, 300)
    running = segment_slides([tmp_path / "missing.tif", second], tmp_path / "out", CPU)
    next(running)
    run([first], tmp_path / "out")
    (outcome,) = running
    assert outcome.folder.name.startswith("a.tif--")
    record = json.loads((tmp_path / "out" / "a.tif" / "record.json").read_text(encoding="utf-8"))
    assert record["slide"]["height"] == 300


def test_failed_slides_are_tried_again_and_alone_where_asked(make_slide, tmp_path):
    slides, out = [tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "out"
    make_slide(slides[0], 300, 300)
    assert [o.status for o in run(slides, out).values()] == ["done", "failed"]
    assert skipped(run(slides, out)) == [True, False]
    make_slide(slides[1], 300, 300)
    retry = replace(CPU, run=RunSettings(retry_failed=True))
    outcomes = run(slides, out, retry)
    assert list(outcomes) == ["b.tif"]
    assert outcomes["b.tif"].status == "done"
    with pytest.raises(SlideNotFound, match=r"none of these 2 slide\(s\) failed there; leave out --retry-failed"):
        run(slides, out, retry)


def test_columns_that_another_slide_brings_make_no_new_failure(make_slide, tmp_path):
    """A failed row is told again, with more empty columns, after a slide before it is done."""
    slides, out = [tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "out"
    run(slides, out)
    for slide in slides:
        make_slide(slide, 300, 300)
    assert [outcome.status for outcome in run(slides, out).values()] == ["done", "done"]


def test_a_place_without_room_or_that_is_taken_costs_one_slide(three_slides, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.tif").touch()
    outcomes = run([three_slides], out)
    assert [outcome.status for outcome in outcomes.values()] == ["failed", "done", "done"]
    assert outcomes["a.tif"].error.startswith(f"a.tif: its results cannot be written to {out / 'a.tif'} (")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_files_that_find_no_room_are_told_and_leave_nothing(three_slides, tmp_path):
    """A limit on the size of files stands in for a full disk: the same calls fail, with a like error."""
    import resource

    out, (soft, hard) = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, hard))
    try:
        outcomes = run([three_slides], out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = outcomes["b ü.tif"].error
    assert len(outcomes) == 3
    assert error.startswith(f"b ü.tif: no room for its results in {out / 'b ü.tif'} (")
    assert error.endswith("make room and run again")
    assert not (out / "b ü.tif").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system of Linux")
def test_a_real_disk_that_is_full(three_slides, undisturbed, tmp_path, contents):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system")
    try:
        outcomes = run([three_slides], disk / "out")
        assert "failed" in [outcome.status for outcome in outcomes.values()]
        assert all("No space left" in outcome.error for outcome in outcomes.values() if outcome.status == "failed")
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert [outcome.error for outcome in run([three_slides], disk / "out").values()] == ["", "", ""]
        assert contents(disk / "out") == contents(undisturbed)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system of Linux")
def test_slides_on_a_disk_that_cannot_be_written(three_slides, undisturbed, tmp_path, contents):
    """Also for root, whom rights on folders do not stop."""
    before = contents(three_slides)
    if subprocess.run(["mount", "--bind", str(three_slides), str(three_slides)], check=False).returncode:
        pytest.skip("may not mount a file system")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(three_slides)], check=True)
        with pytest.raises(OSError, match="Read-only"):
            (three_slides / "new").touch()
        assert {outcome.status for outcome in run([three_slides], tmp_path / "out").values()} == {"done"}
    finally:
        subprocess.run(["umount", str(three_slides)], check=True)
    assert contents(three_slides) == before
    assert contents(tmp_path / "out") == contents(undisturbed)


def test_a_table_that_finds_no_room_ends_the_run(three_slides, tmp_path):
    (tmp_path / "slides.csv").mkdir()
    with pytest.raises(OSError, match=r"slides\.csv"):
        run([three_slides], tmp_path)


def test_links_spaces_and_input_that_may_not_be_written(three_slides, tmp_path):
    links = tmp_path / "links to slides"
    links.mkdir()
    (links / "first.tif").symlink_to(three_slides / "a.tif")
    (links / "zweiter läufer 切片.tif").symlink_to(three_slides / "a.tif")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in [three_slides, *three_slides.iterdir()])
    three_slides.chmod(0o555)
    links.chmod(0o555)
    try:
        outcomes = run([links], tmp_path / "out put")
    finally:
        links.chmod(0o755)
        three_slides.chmod(0o755)
    assert {name: o.folder.name for name, o in outcomes.items()} == {name: name for name in outcomes}
    assert len(outcomes) == 2
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in [three_slides, *three_slides.iterdir()])


def test_a_run_that_is_stopped_leaves_no_half_slide(three_slides, tmp_path, monkeypatch, contents, undisturbed):
    out = tmp_path / "out"
    outcomes = segment_slides([three_slides], out, CPU)
    assert next(outcomes).slide.name == "a.tif"

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SlideJob, "_draw", stop)
        with pytest.raises(KeyboardInterrupt):
            next(outcomes)
    assert not (out / ".run").exists()
    assert not list(out.rglob("*.tmp"))
    assert not list(out.rglob("b ü.tif/record.json"))
    assert skipped(run([three_slides], out)) == [True, False, False]
    assert contents(out) == contents(undisturbed)


def test_two_processes_share_the_slides(three_slides, undisturbed, tmp_path, contents):
    out, log = tmp_path / "out", tmp_path / "log.jsonl"
    other = start("segment", three_slides, "-o", out, "--device", "cpu", "--no-isolate", "--log-file", log)
    assert " on cpu in " in other.stderr.readline()
    outcomes = run([three_slides], out)
    assert other.wait() == 0
    other.stderr.close()
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    theirs = {event["slide"] for event in events if event["event"] == "slide_finished" and not event["skipped"]}
    ours = {name for name, outcome in outcomes.items() if not outcome.skipped}
    assert theirs | ours == set(outcomes)
    assert not theirs & ours
    assert theirs
    assert contents(out) == contents(undisturbed)


@pytest.mark.slow
def test_two_forced_processes_share_the_slides_too(three_slides, undisturbed, tmp_path, contents):
    """The second begins when the first has done a slide anew: it keeps that one, and does the rest with it."""
    out = copy_of(undisturbed, tmp_path)
    started = {name: (out / name / "record.json").stat().st_mtime_ns for name in ("a.tif", "b ü.tif", "c.tif")}
    forced = replace(CPU, run=FORCE)
    first, second = (segment_slides([three_slides], out, forced) for _ in range(2))
    done = next(first)
    assert (done.slide.name, done.skipped) == ("a.tif", False)
    ours = {outcome.slide.name: outcome.skipped for outcome in second}
    assert ours == {"a.tif": True, "b ü.tif": False, "c.tif": False}
    assert {outcome.slide.name: outcome.skipped for outcome in first} == {"b ü.tif": True, "c.tif": True}
    assert all((out / name / "record.json").stat().st_mtime_ns > before for name, before in started.items())
    assert skipped(run([three_slides], out, forced)) == [False] * 3
    assert contents(out) == contents(undisturbed)


def test_a_forced_run_alone_does_everything_again(make_slide, tmp_path):
    slide, out, forced = make_slide(tmp_path / "a.tif", 300, 300), tmp_path / "out", replace(CPU, run=FORCE)
    assert skipped(run([slide], out)) == [False]
    assert skipped(run([slide], out, forced)) == [False]
    assert skipped(run([slide], out, forced)) == [False]


def _kill_and_resume(three_slides: Path, out: Path, moment: float | None, all_at_once: bool = False) -> None:
    """Kill a run some seconds after it began with a slide, or as soon as it did; then run again.

    The process that is at the slide ends by itself when it loses its parent; or is killed with it, as by a power cut.
    """
    process = start("segment", three_slides, "-o", out, "--device", "cpu")
    while "windows …" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(moment or 0.0)
    (os.killpg if all_at_once else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    outcomes = run([three_slides], out)
    assert [outcome.status for outcome in outcomes.values()] == ["done"] * 3


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_run_that_is_killed_is_continued(three_slides, undisturbed, tmp_path, contents):
    _kill_and_resume(three_slides, tmp_path / "out", 0.3, all_at_once=True)
    assert contents(tmp_path / "out") == contents(undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", range(10))
def test_a_run_that_is_killed_at_a_random_moment_is_continued(three_slides, undisturbed, tmp_path, contents, number):
    _kill_and_resume(three_slides, tmp_path / "out", random.Random(number).uniform(0, 3), all_at_once=number % 2 == 1)
    assert contents(tmp_path / "out") == contents(undisturbed)


@pytest.mark.slow
def test_sixty_slides_of_which_six_are_broken(small_slide, tmp_path):
    slides = tmp_path / "slides"
    slides.mkdir()
    for index in range(60):
        slide = slides / f"{index:02}.tif"
        shutil.copy(small_slide, slide)
        if index % 10 == 3:
            slide.write_bytes([b"", b"not a slide", slide.read_bytes()[:500]][index // 10 % 3])
    process = start("segment", slides, "-o", tmp_path / "out", "--device", "cpu")
    _, told = process.communicate()
    assert process.returncode == 1
    assert told.splitlines()[-1] == "60 slide(s): 54 done, 6 failed"
    rows = (tmp_path / "out" / "slides.csv").read_text(encoding="utf-8").splitlines()
    assert sum(",failed," in row for row in rows) == 6


def test_an_unwritable_output_folder_is_told(three_slides):
    with pytest.raises(OutputError, match="cannot be"):
        run([three_slides], Path("/proc/results"))
