"""What a long job tells whoever watches it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dualproto_wsi.workflow.outcome import SlideOutcome


class Listener:
    """Hears of a run's progress; every method does nothing until it is overridden."""

    def run_started(self, slides: list[Path], engine: str) -> None:
        """Hear that the slides are known and the model is ready; ``engine`` says which one and where it runs."""

    def slide_planned(self, slide: Path, tiles: int) -> None:
        """Hear how many windows a slide needs."""

    def tiles_done(self, count: int) -> None:
        """Hear that so many more windows went through the model."""

    def slide_finished(self, outcome: SlideOutcome) -> None:
        """Hear what became of a slide."""


class TrainListener:
    """Hears of a training's progress; every method does nothing until it is overridden."""

    def fit_started(self, title: str, epochs: int) -> None:
        """Hear that a fit begins: a fold's, or the final one."""

    def epoch_done(self, loss: float) -> None:
        """Hear the mean loss of an epoch."""
