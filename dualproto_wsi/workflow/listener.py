"""What a long job tells whoever watches it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dualproto_wsi.workflow.batch.outcome import SlideOutcome


class Listener:
    """Hears of a run's progress; every method does nothing until it is overridden.

    Several slides may be under way at a time.
    """

    def preparing(self, what: str) -> None:
        """Hear what is waited for before slides can be done, or go on."""

    def run_started(self, slides: list[Path], engine: str) -> None:
        """Hear that the slides are known and the model is ready; ``engine`` says which one and where it runs."""

    def slide_started(self, slide: Path) -> None:
        """Hear that a slide is looked at."""

    def slide_planned(self, slide: Path, tiles: int) -> None:
        """Hear how many windows a slide needs."""

    def tiles_done(self, slide: Path, count: int) -> None:
        """Hear that so many more windows of a slide went through the model."""

    def slide_finished(self, outcome: SlideOutcome) -> None:
        """Hear what became of a slide."""

    def waiting(self, slides: list[Path]) -> None:
        """Hear that these slides are all that is left, and that other processes work on them."""

    def run_ended(self) -> None:
        """Hear that there is no more to come, also when the run is stopped before all slides are finished."""


class Listeners(Listener):
    """Tells several listeners.

    Parameters
    ----------
    *listeners : Listener
    """

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def preparing(self, what: str) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.preparing(what)

    def run_started(self, slides: list[Path], engine: str) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.run_started(slides, engine)

    def slide_started(self, slide: Path) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.slide_started(slide)

    def slide_planned(self, slide: Path, tiles: int) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.slide_planned(slide, tiles)

    def tiles_done(self, slide: Path, count: int) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.tiles_done(slide, count)

    def slide_finished(self, outcome: SlideOutcome) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.slide_finished(outcome)

    def waiting(self, slides: list[Path]) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.waiting(slides)

    def run_ended(self) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.run_ended()


class TrainListener:
    """Hears of a training's progress; every method does nothing until it is overridden."""

    def features_done(self, done: int, total: int) -> None:
        """Hear how many features of all that are to be kept are there."""

    def fit_started(self, title: str, epochs: int) -> None:
        """Hear that a fit begins: a fold's, or the final one."""

    def epoch_done(self, loss: float) -> None:
        """Hear the mean loss of an epoch."""
