from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from dualproto_wsi.cli.progress import BarListener, LineListener
from dualproto_wsi.workflow.outcome import SlideOutcome

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


def play(listener):
    listener.run_started([Path("x/a.svs"), Path("b.svs"), Path("c.svs")], "model on cpu in fp32")
    listener.slide_planned(Path("x/a.svs"), 4)
    listener.tiles_done(1)
    listener.tiles_done(3)
    listener.slide_finished(DONE)
    listener.slide_finished(SlideOutcome(Path("b.svs"), None, "failed", error="b.svs: the file is empty"))
    listener.slide_finished(SlideOutcome(Path("c.svs"), Path("out/c.svs"), "empty", seconds=1))


OUTCOMES = [
    "a.svs: 1.23 mm² analysed: Tumor 25%; 7 regions, 4 windows, 2.0 s",
    "failed: b.svs: the file is empty",
    "c.svs: empty (no tissue found)  1.0 s",
]


def test_lines():
    lines: list[str] = []
    play(LineListener(lines.append, every_s=0))
    assert lines[:2] == ["3 slide(s), model on cpu in fp32", "a.svs: 4 windows …"]
    assert lines[2].startswith("a.svs: 1 of 4 windows, about ")
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
