"""News of a run on the terminal: bars where there is one, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dualproto_wsi.workflow.listener import Listener, TrainListener

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from dualproto_wsi.workflow.outcome import SlideOutcome


def describe(outcome: SlideOutcome) -> str:
    """Return one line on what became of a slide."""
    if outcome.status == "failed":
        return f"failed: {outcome.error}"
    if outcome.status == "empty":
        return f"{outcome.slide.name}: empty (no tissue found)  {outcome.seconds:.1f} s"
    shares = ", ".join(f"{name} {share:.0%}" for name, share in outcome.fractions.items())
    return (
        f"{outcome.slide.name}: {outcome.analysed_mm2:.2f} mm² analysed: {shares}; "
        f"{outcome.regions} regions, {outcome.tiles} windows, {outcome.seconds:.1f} s"
    )


class BarListener(Listener):
    """Shows a bar for the slides and one for the windows of the slide at hand."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._slides: TaskID | None = None
        self._tiles: TaskID | None = None

    def run_started(self, slides: list[Path], engine: str) -> None:
        """Say what runs where, and begin the bar of the slides."""
        self._progress.console.print(f"{len(slides)} slide(s), {engine}", highlight=False)
        self._slides = self._progress.add_task("slides", total=len(slides))

    def slide_planned(self, slide: Path, tiles: int) -> None:
        """Begin the bar of a slide's windows."""
        self._tiles = self._progress.add_task(slide.name, total=tiles)

    def tiles_done(self, count: int) -> None:
        """Move the bar."""
        if self._tiles is not None:
            self._progress.advance(self._tiles, count)

    def slide_finished(self, outcome: SlideOutcome) -> None:
        """Print the outcome and drop the slide's bar."""
        if self._tiles is not None:
            self._progress.remove_task(self._tiles)
            self._tiles = None
        self._progress.console.print(describe(outcome), highlight=False, markup=False, soft_wrap=True)
        if self._slides is not None:
            self._progress.advance(self._slides)


class LineListener(Listener):
    """Prints a line when something happens, and now and then how far a long slide is; for logs and pipes."""

    def __init__(self, write: Callable[[str], None], every_s: float = 30.0) -> None:
        self._write = write
        self._every_s = every_s
        self._slide = ""
        self._total = self._done = 0
        self._started = self._told = 0.0

    def run_started(self, slides: list[Path], engine: str) -> None:
        """Say what runs where."""
        self._write(f"{len(slides)} slide(s), {engine}")

    def slide_planned(self, slide: Path, tiles: int) -> None:
        """Say how much there is to do."""
        self._slide, self._total, self._done = slide.name, tiles, 0
        self._started = self._told = time.monotonic()
        self._write(f"{slide.name}: {tiles} windows …")

    def tiles_done(self, count: int) -> None:
        """Say how far it is, if the last word is some time ago."""
        self._done += count
        now = time.monotonic()
        if now - self._told >= self._every_s:
            self._told = now
            left = (now - self._started) / self._done * (self._total - self._done)
            self._write(f"{self._slide}: {self._done} of {self._total} windows, about {left / 60:.1f} min left")

    def slide_finished(self, outcome: SlideOutcome) -> None:
        """Print the outcome."""
        self._write(describe(outcome))


class ConsoleTrainListener(TrainListener):
    """Shows a bar for the epochs of the fit at hand, on standard error."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._title = ""
        self._task: TaskID | None = None

    def fit_started(self, title: str, epochs: int) -> None:
        """Begin the bar of a fit."""
        self._title = title
        self._task = self._progress.add_task(title, total=epochs)

    def epoch_done(self, loss: float) -> None:
        """Move the bar; where there is none, print a line."""
        if self._task is not None:
            self._progress.update(self._task, advance=1, description=f"{self._title}, loss {loss:.4f}")
        if not self._progress.console.is_terminal:
            self._progress.console.print(f"{self._title}: loss {loss:.4f}", highlight=False)


@contextmanager
def console_listener() -> Iterator[Listener]:
    """Show a run on standard error while inside the ``with``."""
    with console_progress() as progress:
        terminal = progress.console.is_terminal
        yield BarListener(progress) if terminal else LineListener(partial(click.echo, err=True))


@contextmanager
def training_listener() -> Iterator[TrainListener]:
    """Show a training on standard error while inside the ``with``."""
    with console_progress() as progress:
        yield ConsoleTrainListener(progress)


@contextmanager
def console_progress() -> Iterator[Progress]:
    """Show bars on standard error while inside the ``with``; none where it is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with progress:
        yield progress
