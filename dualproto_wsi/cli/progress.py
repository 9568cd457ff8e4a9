"""News of a run on the terminal: bars where there is one, plain lines elsewhere; and as JSON lines in a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dualproto_wsi.errors import OutputError
from dualproto_wsi.workflow.batch.progress import JsonLog, RunTally
from dualproto_wsi.workflow.listener import Listener, Listeners, TrainListener

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from dualproto_wsi.workflow.batch.outcome import SlideOutcome


def describe(outcome: SlideOutcome) -> str:
    """Return one line on what became of a slide."""
    if outcome.status == "failed":
        return f"failed: {outcome.error}"
    if outcome.skipped:
        return f"{outcome.slide.name}: skipped ({outcome.status} before, unchanged)"
    if outcome.status == "empty":
        return f"{outcome.slide.name}: empty (no tissue found)  {outcome.seconds:.1f} s"
    shares = ", ".join(f"{name} {share:.0%}" for name, share in outcome.fractions.items() if outcome.analysed_mm2)
    return (
        f"{outcome.slide.name}: {outcome.analysed_mm2:.2f} mm² analysed: {shares or 'nothing is left'}; "
        f"{outcome.regions} regions, {outcome.tiles} windows, {outcome.seconds:.1f} s"
    )


def describe_waiting(slides: list[Path]) -> str:
    """Return one line on slides that other processes work on."""
    return (
        f"waiting for {len(slides)} slide(s) that another process works on: {', '.join(s.name for s in slides[:3])} …"
    )


class BarListener(RunTally):
    """Shows a bar for the slides, with failures and pace, and one for the windows of each slide under way."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._slides: TaskID | None = None
        self._bars: dict[Path, TaskID] = {}

    def preparing(self, what: str) -> None:
        """Print it."""
        self._progress.console.print(f"{what} …", highlight=False, markup=False)

    def run_started(self, slides: list[Path], engine: str) -> None:
        """Say what runs where, and begin the bar of the slides."""
        super().run_started(slides, engine)
        self._progress.console.print(f"{len(slides)} slide(s), {engine}", highlight=False)
        self._slides = self._progress.add_task("slides", total=len(slides))

    def slide_planned(self, slide: Path, tiles: int) -> None:
        """Begin the bar of a slide's windows."""
        super().slide_planned(slide, tiles)
        if slide in self._bars:  # its worker was lost, and another begins anew
            self._progress.remove_task(self._bars.pop(slide))
        self._bars[slide] = self._progress.add_task(slide.name, total=tiles)

    def tiles_done(self, slide: Path, count: int) -> None:
        """Move the bars."""
        super().tiles_done(slide, count)
        if slide in self._bars:
            self._progress.advance(self._bars[slide], count)
        self._show()

    def slide_finished(self, outcome: SlideOutcome) -> None:
        """Print the outcome and drop the slide's bar."""
        super().slide_finished(outcome)
        if outcome.slide in self._bars:
            self._progress.remove_task(self._bars.pop(outcome.slide))
        self._progress.console.print(describe(outcome), highlight=False, markup=False, soft_wrap=True)
        self._show()

    def waiting(self, slides: list[Path]) -> None:
        """Print it."""
        self._progress.console.print(describe_waiting(slides), highlight=False, markup=False)

    def run_ended(self) -> None:
        """Print the summary, below the last state of the bars."""
        self._progress.stop()
        self._progress.console.print(self.summary(), highlight=False)

    def _show(self) -> None:
        if self._slides is not None:
            told = [f"{self.finished['failed']} failed"] if self.finished["failed"] else []
            told += [f"{self.windows_per_s:.1f} windows/s"] if self.windows_per_s else []
            self._progress.update(
                self._slides, completed=self.share, description=", ".join(["slides", *told])
            )  # parts of slides count, so that the time left is right when they are large


class LineListener(RunTally):
    """Prints a line when something happens, and now and then how far a long slide is; for logs and pipes."""

    def __init__(self, write: Callable[[str], None], every_s: float = 30.0) -> None:
        super().__init__()
        self._write = write
        self._every_s = every_s
        self._told = time.monotonic()

    def preparing(self, what: str) -> None:
        """Print it."""
        self._write(f"{what} …")

    def run_started(self, slides: list[Path], engine: str) -> None:
        """Say what runs where."""
        super().run_started(slides, engine)
        self._write(f"{len(slides)} slide(s), {engine}")

    def slide_planned(self, slide: Path, tiles: int) -> None:
        """Say how much there is to do."""
        super().slide_planned(slide, tiles)
        self._write(f"{slide.name}: {tiles} windows …")

    def tiles_done(self, slide: Path, count: int) -> None:
        """Say how far it is, if the last word is some time ago."""
        super().tiles_done(slide, count)
        if time.monotonic() - self._told >= self._every_s:
            self._told = time.monotonic()
            needed, done = self.current[slide]
            finished = f"{self.finished.total()} of {self.slides} slides, {self.finished['failed']} failed"
            self._write(f"{slide.name}: {done} of {needed} windows; {finished}, {self.pace()}")

    def slide_finished(self, outcome: SlideOutcome) -> None:
        """Print the outcome."""
        super().slide_finished(outcome)
        self._write(describe(outcome))

    def waiting(self, slides: list[Path]) -> None:
        """Print it."""
        self._write(describe_waiting(slides))

    def run_ended(self) -> None:
        """Print the summary."""
        self._write(self.summary())


class ConsoleTrainListener(TrainListener):
    """Shows a bar for the epochs of the fit at hand, and one for features that are kept, on standard error."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._title = ""
        self._task: TaskID | None = None
        self._features: TaskID | None = None

    def features_done(self, done: int, total: int) -> None:
        """Move the bar of the features."""
        if self._features is None:
            self._features = self._progress.add_task("features", total=total)
        self._progress.update(self._features, completed=done, total=total)

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
def console_listener(log_file: Path | None = None) -> Iterator[Listener]:
    """Show a run on standard error while inside the ``with``.

    Parameters
    ----------
    log_file : Path or None
        Gets a line of JSON for every event, after what is in it.

    Raises
    ------
    OutputError
        If the log cannot be written.
    """
    with ExitStack() as stack:
        log: Listener = Listener()
        if log_file:
            try:
                log_file.parent.mkdir(parents=True, exist_ok=True)
                log = JsonLog(stack.enter_context(log_file.open("a", encoding="utf-8")))
            except OSError as error:
                raise OutputError(f"--log-file {log_file}: cannot be written ({error.strerror})") from error
        progress = stack.enter_context(console_progress())
        terminal = progress.console.is_terminal
        yield Listeners(log, BarListener(progress) if terminal else LineListener(partial(click.echo, err=True)))


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
