"""What held-out images say of a trained head: its calibration, its gate, and its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dualproto_wsi.errors import SettingsError
from dualproto_wsi.model.card import ModelCard, PresenceGate
from dualproto_wsi.settings import TrainSettings, ValidationSettings
from dualproto_wsi.stats.metrics import ConfusionMatrix
from dualproto_wsi.workflow.training.calibrate import FITS, Calibration, HeldOut, compare_fits, fit_gate, unsure_curve
from dualproto_wsi.workflow.training.datasets import Splits
from dualproto_wsi.workflow.training.held_out import Measures, places_of
from dualproto_wsi.workflow.training.windows import Sample

_MOST = 512  # held-out images whose maps are kept in memory

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What was found on held-out images.

    Parameters
    ----------
    calibration : Calibration
    gate : PresenceGate
    folds : ConfusionMatrix or None
        At the points or mask px of images of all folds, by heads that have not seen their patients.
    found : dict
        What else was found, plain data.
    """

    calibration: Calibration = field(default_factory=Calibration)
    gate: PresenceGate = field(default_factory=PresenceGate)
    folds: ConfusionMatrix | None = None
    found: dict[str, Any] = field(default_factory=dict)

    def to_json(self, settings: TrainSettings) -> dict[str, Any]:
        """Return the scores as plain data."""
        scores: dict[str, Any] = {}
        if self.folds:
            told = {"split": settings.data.split, "folds": settings.validation.folds}
            scores["cross_validation"] = {**told, **self.folds.to_json()}
        return scores | self.found


def judge(
    held: Sequence[HeldOut],
    parts: Sequence[Sequence[int]],
    names: Sequence[str],
    settings: ValidationSettings,
    first: ModelCard | None = None,
) -> Verdict:
    """Fit the calibration and the gate on held-out images, and score them.

    Parameters
    ----------
    held : sequence of HeldOut
        None: nothing is fitted.
    parts : sequence of sequence of int
        The folds, by positions in ``held``; none where one head is judged.
    names : sequence of str
        The K classes.
    settings : ValidationSettings
    first : ModelCard or None
        Of the model that was continued: its calibration stays where none is asked for, and its gate likewise.
    """
    before = Verdict()
    if first:
        before = Verdict(Calibration(first.temperature, first.bias), first.gate)
    if not held:
        return before
    pointed = all(one.sample.image.points is not None for one in held)
    fitted = before.calibration if settings.calibration == "none" else FITS[settings.calibration](held)
    found: dict[str, Any] = {"calibration": {"chosen": settings.calibration}}
    if pointed:
        if parts:
            found["calibration"]["cross_validated"] = compare_fits(held, parts, names)
        found["unsure"] = unsure_curve(held, fitted)
    gate = before.gate if first and not settings.gate else fit_gate(held, settings.gate)
    return Verdict(fitted, gate, _score_folds(held, fitted, names) if parts else None, found)


def check_truth(samples: Sequence[Sample], held_out: Sequence[Sample], settings: ValidationSettings) -> None:
    """Refuse a calibration or a selection that the data cannot give.

    Raises
    ------
    SettingsError
        If the calibration needs points, or the selection masks, and there are none.
    """
    judged = held_out or samples
    if settings.calibration == "points" and any(sample.image.points is None for sample in judged):
        raise SettingsError("validation.calibration is 'points', but the data has none; use temperature or presence")
    if settings.select == "masks" and all(s.image.points is None and s.image.mask is None for s in judged):
        raise SettingsError(
            "validation.select is 'masks', but no held-out image has a mask; set it to auc, loss or last"
        )


def _score_folds(held: Sequence[HeldOut], calibration: Calibration, names: Sequence[str]) -> ConfusionMatrix | None:
    folds = ConfusionMatrix(names)
    for one in held:
        folds.add(*places_of(one, calibration))
    return folds if folds.total else None


def split_scores(test: Measures | None, splits: Splits, settings: TrainSettings) -> dict[str, Any]:
    """Return what the test split says, and how places are scored, as plain data."""
    image = splits.train.images[0]
    truth = "the label map under each labelled nucleus; points are not masks"
    if image.points is None:
        truth = "the label map at each px that a mask gives one of the classes; no oracle gate"
    told = {"split": settings.data.test_split, "left_out": list(splits.left_out)}
    return {"measured": truth} | ({"test": told | test.to_json()} if test else {})


def spread(items: Sequence[T]) -> list[T]:
    """Return at most 512 of the items, evenly chosen, in order."""
    count = min(len(items), _MOST)
    return [items[i * len(items) // count] for i in range(count)]
