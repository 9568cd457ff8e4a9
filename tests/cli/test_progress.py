from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from dualproto_wsi.cli.progress import BarListener, LineListener, console_listener, describe
from dualproto_wsi.errors import OutputError
from dualproto_wsi.workflow.batch.outcome import SlideOutcome

DONE = SlideOutcome(
    Path("x/a.svs"),
    Path("out/a.svs"),
    "done",
    tiles=4,
    regions=7,
    analysed_mm2=1.234,
    fractions={"Tumor": 0.25},
    seconds=2,
)


def play(listener, *more: Path):
    listener.run_started([Path("x/a.svs"), Path("b.svs"), Path("c.svs"), *more], "model on cpu in fp32")
    listener.slide_planned(Path("x/a.svs"), 4)
    listener.tiles_done(Path("x/a.svs"), 1)
    listener.tiles_done(Path("x/a.svs"), 3)
    listener.slide_finished(DONE)
    listener.slide_finished(SlideOutcome(Path("b.svs"), None, "failed", error="b.svs: the file is empty"))
    listener.slide_finished(SlideOutcome(Path("c.svs"), Path("out/c.svs"), "empty", seconds=1))


def end(listener):
    listener.slide_finished(SlideOutcome(Path("d.svs"), Path("out/d.svs"), "done", skipped=True))
    listener.waiting([Path("e.svs")])
    listener.run_ended()


ENDING = [
    "d.svs: skipped (done before, unchanged)",
    "waiting for 1 slide(s) that another process works on: e.svs …",
    "4 slide(s): 2 done, 1 empty, 1 failed (1 of them were there already)",
]
OUTCOMES = [
    "a.svs: 1.23 mm² analysed: Tumor 25%; 7 regions, 4 windows, 2.0 s",
    "failed: b.svs: the file is empty",
    "c.svs: empty (no tissue found)  1.0 s",
]


def test_lines():
    lines: list[str] = []
    play(LineListener(lines.append, every_s=0))
    assert lines[:2] == ["3 slide(s), model on cpu in fp32", "a.svs: 4 windows …"]
    assert lines[2].startswith("a.svs: 1 of 4 windows; 0 of 3 slides, 0 failed, ")
    assert lines[-3:] == OUTCOMES


def test_lines_are_rare_on_a_fast_slide():
    lines: list[str] = []
    play(LineListener(lines.append))
    assert lines[2:] == OUTCOMES


def test_bars_print_the_outcomes_and_end_full():
    progress = Progress(console=Console(file=io.StringIO(), force_terminal=True, width=200))
    with progress:
        play(BarListener(progress))
    text = progress.console.file.getvalue()
    assert all(outcome in text for outcome in OUTCOMES)
    (slides,) = progress.tasks
    assert (slides.completed, slides.total) == (3, 3)


def test_the_end_is_told_in_lines_and_below_bars():
    lines: list[str] = []
    listener = LineListener(lines.append)
    play(listener, Path("d.svs"))
    end(listener)
    assert lines[-3:] == ENDING
    progress = Progress(console=Console(file=io.StringIO(), force_terminal=True, width=200))
    with progress:
        listener = BarListener(progress)
        play(listener, Path("d.svs"))
        end(listener)
    text = progress.console.file.getvalue()
    assert all(line in text for line in ENDING)
    assert "slides, 1 failed, " in text


def test_what_a_cluster_does_besides():
    """It is waited for, and a slide begins anew when its worker is lost."""
    lines: list[str] = []
    progress = Progress(console=Console(file=io.StringIO(), force_terminal=True, width=200))
    with progress:
        for listener in (LineListener(lines.append), BarListener(progress)):
            listener.preparing("waiting for a worker of local:2")
            listener.run_started([Path("a.svs")], "model on cpu in fp32, on local:2")
            for _ in range(2):
                listener.slide_started(Path("a.svs"))
                listener.slide_planned(Path("a.svs"), 4)
                listener.tiles_done(Path("a.svs"), 3)
            assert listener.current == {Path("a.svs"): (4, 3)}
        assert sorted(task.description.split(",")[0] for task in progress.tasks) == ["a.svs", "slides"]
        assert progress.tasks[-1].completed == 3
    assert lines[0] == "waiting for a worker of local:2 …"
    assert "waiting for a worker of local:2 …" in progress.console.file.getvalue()


def test_a_log_file_that_cannot_be_made(tmp_path):
    with pytest.raises(OutputError, match=r"--log-file .*: cannot be written"), console_listener(tmp_path):
        pass


def test_a_slide_of_which_the_sieve_left_nothing_is_told_without_shares():
    nothing = SlideOutcome(Path("a.svs"), Path("o/a.svs"), "done", fractions={"Tumor": float("nan")}, tiles=1)
    assert describe(nothing) == "a.svs: 0.00 mm² analysed: nothing is left; 0 regions, 1 windows, 0.0 s"
