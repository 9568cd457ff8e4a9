"""How a head learns: optimiser, loss and augmentation, and how it goes on from one that is there."""

from __future__ import annotations

from dataclasses import dataclass, fields

from dualproto_wsi.settings.checks import one_of, require
from dualproto_wsi.settings.head import MERGES

POOLINGS = ("logmeanexp", "average")
SCHEDULES = ("cosine", "linear")
SCALE_SUMS = ("mean", "sum")
STARTS = ("default", "released")


@dataclass(frozen=True, slots=True)
class OptimiserSettings:
    """How the head is fitted: AdamW.

    Parameters
    ----------
    epochs, batch_size : int
        Passes over the images, and images a step; with several processes they share the batch.
    learning_rate, weight_decay : float
        Of AdamW.
    schedule : str
        How the rate falls to 0 over all steps: along a ``cosine`` or a ``linear`` one.
    warm_up : int
        Steps in which the rate rises first; 0: none.
    gradient_norm : float
        Longer gradients are cut to this length; 0: none is.
    start : str
        First values of a dual head's weights: this project's ``default``, or drawn as the ``released`` code does.
    """

    epochs: int = 40
    batch_size: int = 3
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    warm_up: int = 20
    gradient_norm: float = 5.0
    start: str = "default"

    def __post_init__(self) -> None:
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("start", self.start, STARTS)
        for name in ("epochs", "batch_size"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}; it must be above 0")
        for name in ("weight_decay", "warm_up", "gradient_norm"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it cannot be negative")


@dataclass(frozen=True, slots=True)
class ObjectiveSettings:
    """What is minimised.

    Parameters
    ----------
    pooling : str
        How the scores of a crop become one: ``logmeanexp``, log(mean(exp(r · score))) / r, or their ``average``.
    sharpness : float
        r of ``logmeanexp``.
    merge : str
        How prototypes become a class while training, as :attr:`HeadSettings.merge`; empty: as the head does afterwards.
    scales : str
        Whether the loss is the ``mean`` or the ``sum`` over the head's scales.
    balance : float
        0: all crops weigh alike; 1: crops with and without a class weigh the same in sum.
    absence : float
        Weight of the term that keeps every place free of classes that a crop around it does not hold.
    diversity : float
        Weight of the term that keeps prototypes of a class apart.
    steadiness : float
        Weight of the term that keeps the map the same when the window moves by less than the encoder's step.
    """

    pooling: str = "logmeanexp"
    sharpness: float = 1.0
    merge: str = ""
    scales: str = "mean"
    balance: float = 0.5
    absence: float = 0.8
    diversity: float = 0.1
    steadiness: float = 0.3

    def __post_init__(self) -> None:
        one_of("pooling", self.pooling, POOLINGS)
        one_of("merge", self.merge, ("", *MERGES))
        one_of("scales", self.scales, SCALE_SUMS)
        require(self.sharpness > 0, f"sharpness is {self.sharpness}; it must be above 0")
        for name in ("balance", "absence", "diversity", "steadiness"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it cannot be negative")


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """How training images are varied.

    Parameters
    ----------
    orientations : int
        From how many of the 8 orientations chance draws: 1 none, 4 quarter turns, 8 these and their mirror images.
    alike : bool
        Whether the images of a batch are turned alike.
    stain : float
        Strength of the stain augmentation: how far the amounts of haematoxylin and eosin vary.
    tone : float
        Strength of the tone augmentation: how far brightness, contrast, saturation and white balance vary.
    blur : float
        Share of the images that are shown less sharp, as if scanned with pixels up to 2.5 times as large; 0 to 1.
    zoom : float
        How far the size of the images varies: e to the power of ± zoom. Cells of other organs have other sizes.
    """

    orientations: int = 8
    alike: bool = True
    stain: float = 0.3
    tone: float = 0.3
    blur: float = 0.4
    zoom: float = 0.1

    def __post_init__(self) -> None:
        require(self.orientations in (1, 4, 8), f"orientations is {self.orientations}; use 1, 4 or 8")
        for name in ("stain", "tone"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it cannot be negative")
        for name in ("blur", "zoom"):
            require(0 <= getattr(self, name) <= 1, f"{name} is {getattr(self, name)}; use 0 (none) to 1")


@dataclass(frozen=True, slots=True)
class ContinueSettings:
    """How the training of a model goes on; without a model all else is as by default.

    Parameters
    ----------
    model : str
        Bundle or built-in model whose head is the first one; encoder, classes, descriptions and the shape of the head
        are its. Empty: a new head.
    keep : float
        Weight of the term that keeps the map as the first head makes it, on images of which no label is known.
    corrections : str
        What a person corrected: GeoJSON as ``qupath export`` writes it, a file or a folder with one a slide; the data
        is then slides. Empty: the data is labelled images.
    reviewed : bool
        Whether regions that the model made and nobody changed count as corrections, because a person looked at all.
    windows : int
        Windows a slide that are cut from tissue outside the corrections, for the term that keeps the map; 0: none.
    replay : str
        Labelled images that the model was trained on before, or others like them, to be learned from again beside the
        new ones, so that they are not forgotten; empty: none.
    replay_layout : str
        How they lie on disk; empty: as the data of the model's own training.
    """

    model: str = ""
    keep: float = 3.0
    corrections: str = ""
    reviewed: bool = False
    windows: int = 100
    replay: str = ""
    replay_layout: str = ""

    def __post_init__(self) -> None:
        changed = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        for name, value in changed.items():
            require(
                bool(self.model),
                f"continuing.{name} is {value!r}, but no model is continued; name one with --continue",
            )
            require(
                name not in ("reviewed", "windows") or bool(self.corrections),
                f"continuing.{name} is {value!r}, but there are no corrections; name them with --corrections",
            )
        require(
            not self.replay_layout or bool(self.replay),
            f"replay_layout is {self.replay_layout!r}, but no images are replayed; name them with --replay",
        )
        require(self.keep >= 0, f"keep is {self.keep}; it cannot be negative")
        require(self.windows >= 0, f"windows is {self.windows}; it cannot be negative")
        require(
            bool(self.keep) or "windows" not in changed,
            f"windows is {self.windows}, but keep is 0, so nothing is learned from them; leave one of the two out",
        )
