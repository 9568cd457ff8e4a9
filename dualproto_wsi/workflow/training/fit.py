"""Fits a head epoch by epoch, keeps the best or the last, and goes on where it was stopped.

One loop for every recipe: what differs lies in the settings.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dualproto_wsi.errors import DataError
from dualproto_wsi.model.heads import Head
from dualproto_wsi.settings import ValidationSettings
from dualproto_wsi.workflow.training.checkpoints import TrainingFolder
from dualproto_wsi.workflow.training.features import Features
from dualproto_wsi.workflow.training.held_out import Measures, predict
from dualproto_wsi.workflow.training.learner import Learner, Teaching
from dualproto_wsi.workflow.training.log import Row, TrainingLog
from dualproto_wsi.workflow.training.windows import Sample

BETTER: dict[str, Callable[[Row], tuple[float, ...]]] = {
    "auc": lambda row: (row["valid_auc"], -row["valid_loss"]),
    "loss": lambda row: (-row["valid_loss"],),
    "masks": lambda row: (row["valid_mean_iou"],),
}
"""What is to be highest, ties settled by what comes next, for each :attr:`~dualproto_wsi.settings.SELECTIONS`."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What came out of a fit.

    Parameters
    ----------
    head : Head
        In evaluation mode.
    features : Features
        The encoder that the head goes with.
    epochs : int
        That it took.
    kept : int
        The epoch that the head is of, from 1.
    seconds : float
        Of all epochs, also those before a stop.
    started_from : str
        Hash of the head that it began with.
    """

    head: Head
    features: Features
    epochs: int
    kept: int
    seconds: float
    started_from: str


@dataclass(slots=True, eq=False)
class Course:
    """How far a fit is, and its best epoch so far.

    Parameters
    ----------
    settings : ValidationSettings
        The rule by which an epoch is better.
    rows : list of dict
        Figures of each epoch.
    kept : int
        The best epoch, from 1; without a rule the last.
    weights : dict or None
        The best epoch's; None without a rule.
    """

    settings: ValidationSettings
    rows: list[Row] = field(default_factory=list)
    kept: int = 0
    weights: dict[str, Any] | None = None

    def note(self, row: Row, learner: Learner) -> None:
        """Take in an epoch."""
        self.rows.append(row)
        if self.settings.select == "last":
            self.kept = len(self.rows)
            return
        value = BETTER[self.settings.select]
        if not self.kept or value(row) > value(self.rows[self.kept - 1]):
            self.kept, self.weights = len(self.rows), learner.weights()

    def is_over(self, epochs: int) -> bool:
        """Tell whether there is no epoch to come."""
        patience = self.settings.patience
        return len(self.rows) >= epochs or bool(patience and len(self.rows) - self.kept >= patience)

    def state(self) -> dict[str, Any]:
        """Return it as tensors, numbers and text."""
        return {"rows": self.rows, "kept": self.kept, "weights": self.weights}


class Fitter:
    """Fits heads.

    Parameters
    ----------
    teaching : Teaching
    held_out : sequence of Sample
        Scored after every epoch; none: nothing is.
    folder : TrainingFolder
        Keeps what a stopped fit needs.
    log : TrainingLog
    """

    def __init__(
        self, teaching: Teaching, held_out: Sequence[Sample], folder: TrainingFolder, log: TrainingLog
    ) -> None:
        self._teaching, self._held_out, self._folder, self._log = teaching, held_out, folder, log
        self._text_start = {name: value.clone() for name, value in teaching.text.state_dict().items()}

    def fit(self, title: str, samples: Sequence[Sample], on_epoch: Callable[[float], None]) -> Fitted:
        """Fit a head, or go on with one.

        Parameters
        ----------
        title : str
            Which fit of the training.
        samples : sequence of Sample
        on_epoch : callable
            Gets the mean loss of each epoch, also of those before a stop.

        Raises
        ------
        DataError
            If a class is in no crop, or in every one; if the held-out images do not tell which epoch is better.
        OutputError
            If a checkpoint or the log cannot be written.
        """
        settings = self._teaching.settings
        learner = Learner(self._teaching, samples, self._text_start)
        course = self._resume(title, learner)
        self._log.note(title, course.rows, 0)
        for row in course.rows:
            on_epoch(row["loss"])
        while not course.is_over(settings.optimiser.epochs):
            started = time.monotonic()
            row = {"epoch": len(course.rows) + 1, **learner.epoch(), **self._measure(learner)}
            row["seconds"] = round(time.monotonic() - started, 3)
            course.note(row, learner)
            self._folder.save(title, {"course": course.state(), "learner": learner.state()})
            self._log.note(title, course.rows, 1)
            on_epoch(row["loss"])
        if course.weights is not None:
            learner.load_weights(course.weights)
        self._teaching.processes.wait()
        seconds = sum(row["seconds"] for row in course.rows)
        head, features = learner.ready(), learner.features
        if settings.encoder.adapt:
            features.encoder.settle()
        return Fitted(head, features, len(course.rows), course.kept, seconds, learner.started_from)

    def _resume(self, title: str, learner: Learner) -> Course:
        course = Course(self._teaching.settings.validation)
        state = self._folder.load(title)
        if state:
            course.rows, course.kept, course.weights = (state["course"][name] for name in ("rows", "kept", "weights"))
            learner.restore(state["learner"])
        self._teaching.processes.wait()  # no one may write before all have read
        return course

    def _measure(self, learner: Learner) -> Row:
        if not self._held_out:
            return {}
        teaching = self._teaching
        head, chance = learner.ready(), torch.get_rng_state()
        measures = Measures(teaching.names, average=teaching.settings.objective.pooling == "average")
        threads = teaching.settings.data.workers
        for held in predict(learner.features, head, self._held_out, teaching.cache, threads):
            measures.add(held)
        torch.set_rng_state(chance)
        learner.go_on()
        row = {"valid_loss": measures.loss, "valid_auc": measures.auc}
        if math.isnan(row["valid_auc"]) and teaching.settings.validation.select == "auc":
            raise DataError(
                "validation.select is 'auc', but each class is in all of the held-out images or in none; hold out "
                "others, or set it to loss or last"
            )
        if measures.places.total:
            row["valid_mean_iou"] = measures.places.mean_iou
        return row
