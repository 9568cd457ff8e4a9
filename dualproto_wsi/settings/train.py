"""Settings of the training job, a section a concern."""

from __future__ import annotations

from dataclasses import dataclass, field

from dualproto_wsi.settings.checks import one_of, require
from dualproto_wsi.settings.head import HeadSettings
from dualproto_wsi.settings.learning import AugmentSettings, ContinueSettings, ObjectiveSettings, OptimiserSettings
from dualproto_wsi.settings.segment import PRECISIONS, InferenceSettings
from dualproto_wsi.settings.text import TextSettings

LAYOUTS = ("brca-m2c", "bcss-wsss", "luad-histoseg", "wsss4luad", "table")
CALIBRATIONS = ("none", "temperature", "presence", "points")
SELECTIONS = ("last", "auc", "loss", "masks")
ADAPTABLE = "compact"
"""The encoder whose weights training may adapt."""


@dataclass(frozen=True, slots=True)
class DataSettings:
    """What is trained on.

    Parameters
    ----------
    layout : str
        How the data lies on disk: one of :data:`LAYOUTS`.
    split, test_split : str
        Which images to train on, and which to score once at the end (those of patients not trained on); no name: none.
    mpp : float or None
        µm per px of the images; None: as the layout says.
    vocabulary : str
        Name of a built-in vocabulary or path of one; it says names, colours and descriptions. Empty where a model is
        continued: it says them.
    classes : tuple of str
        Classes of the vocabulary to train, in this order; empty takes all.
    descriptions : int
        How many descriptions of each class to use, from the first; 0: all.
    crop_sizes : tuple of int
        Sides of the crops that points label, px; empty, or without points: each image is one crop, itself.
    min_points : int
        Points from which on a class counts as present in a crop.
    window_px : int
        Side of the window cut from each image in each step where there are crops, and of the tiles cut under
        corrections, px; inference is not tied to it.
    workers : int
        Threads that read images ahead.
    """

    layout: str = "brca-m2c"
    split: str = "train"
    test_split: str = "val"
    mpp: float | None = None
    vocabulary: str = "bcss"
    classes: tuple[str, ...] = ("Tumor", "Stroma", "Lymphocyte")
    descriptions: int = 0
    crop_sizes: tuple[int, ...] = (64, 96)
    min_points: int = 2
    window_px: int = 224
    workers: int = 4

    def __post_init__(self) -> None:
        one_of("layout", self.layout, LAYOUTS)
        require(bool(self.split), "split is empty; name the images to train on")
        require(
            self.mpp is None or 0.01 <= self.mpp <= 100,
            f"mpp is {self.mpp}; microns per pixel lie between 0.01 and 100",
        )
        require(
            min(self.crop_sizes, default=8) >= 8,
            f"crop_sizes is {self.crop_sizes}; name sizes of at least 8 px, or none for whole images",
        )
        require(
            self.window_px >= min(self.crop_sizes, default=0),
            f"window_px is {self.window_px}; the smallest of crop_sizes {self.crop_sizes} must fit into it",
        )
        require(self.min_points >= 1, f"min_points is {self.min_points}; it must be at least 1")
        require(self.descriptions >= 0, f"descriptions is {self.descriptions}; use 0 (all) or more")
        require(1 <= self.workers <= 256, f"workers is {self.workers}; use 1 to 256")


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """The image encoder.

    Parameters
    ----------
    name : str
        ``compact``, ``conch``, ``conch-released`` or ``open_clip:MODEL[:PRETRAINED|FILE]``.
    weights, tokenizer : str
        The user's files of a gated encoder; empty looks in the usual places.
    precision : str
        Of the encoder while training: ``auto`` (bf16 where the GPU or CPU has it; else fp16 on a GPU, fp32 on a CPU),
        ``fp32``, ``bf16`` or ``fp16``. The head is trained in fp32.
    cache : str
        Folder that keeps the encoder's features of whole images in half precision, so that each is computed once for
        each orientation; empty: none.
    adapt : float
        Learning rate of the encoder's own weights, as a multiple of the head's; they become part of the bundle. 0: the
        encoder is frozen, as published. Only ``compact`` can be adapted.
    """

    name: str = "compact"
    weights: str = ""
    tokenizer: str = ""
    precision: str = "fp32"
    cache: str = ""
    adapt: float = 0.0

    def __post_init__(self) -> None:
        require(bool(self.name), "encoder.name is empty; use compact, conch, or open_clip:MODEL")
        one_of("precision", self.precision, PRECISIONS)
        require(0 <= self.adapt <= 1, f"encoder.adapt is {self.adapt}; use 0 (frozen) to 1")
        require(
            not self.adapt or self.name == ADAPTABLE,
            f"encoder.adapt is {self.adapt}, but the encoder {self.name} stays frozen; set it to 0, or train on "
            f"{ADAPTABLE}",
        )
        require(
            not self.adapt or self.precision in ("fp32", "bf16"),
            f"encoder.adapt is {self.adapt}, but precision is {self.precision!r}, in which the encoder's gradients may "
            "vanish; use fp32 or bf16",
        )


@dataclass(frozen=True, slots=True)
class ValidationSettings:
    """What is held out, and what for.

    Parameters
    ----------
    folds : int
        Patient-wise folds that give the calibration and the cross-validated scores; 0 does without.
    split : str
        Split of the data that is scored after every epoch; empty: none.
    share : float
        Share of the training split's patients that is held out and scored after every epoch, 0…0.5; 0: none.
    select : str
        Which epoch's head is kept: the ``last``; the one with the highest mean image-level ``auc`` (of several, that
        with the least loss) or the least image-level ``loss`` on the held-out images, for which image-level labels
        suffice; or the one with the highest mean IoU on their ``masks``.
    patience : int
        Epochs without a better one after which training stops; 0: never.
    calibration : str
        What is fitted on held-out patients: ``none``; ``temperature``, by crops' labels; ``presence``, that and a bias
        a class, by crops' labels; ``points``, both by the classes of the points themselves.
    gate : float
        How far the classes that a window holds count in its map; 0: not at all.
    """

    folds: int = 4
    split: str = ""
    share: float = 0.0
    select: str = "last"
    patience: int = 0
    calibration: str = "temperature"
    gate: float = 0.0

    def __post_init__(self) -> None:
        one_of("select", self.select, SELECTIONS)
        one_of("calibration", self.calibration, CALIBRATIONS)
        require(self.folds == 0 or self.folds >= 2, f"folds is {self.folds}; use 0, or 2 and more")
        require(0 <= self.share <= 0.5, f"share is {self.share}; use 0 to 0.5 of the patients")
        require(not (self.split and self.share), f"split {self.split!r} and share {self.share} are both set; use one")
        require(self.gate >= 0, f"gate is {self.gate}; it cannot be negative")
        require(
            self.held_out or self.folds > 0 or not self.gate,
            f"gate is {self.gate}, but nothing is held out to calibrate it on; set folds, split or share",
        )
        require(self.patience >= 0, f"patience is {self.patience}; it cannot be negative")
        for name, value in (("select", self.select != "last"), ("patience", self.patience)):
            require(
                self.held_out or not value,
                f"{name} is {getattr(self, name)!r}, but nothing is held out; set validation.split or validation.share",
            )
        require(
            not self.patience or self.select != "last",
            f"patience is {self.patience}: it needs a rule for what is better; set select to auc, loss or masks",
        )
        require(
            not (self.held_out and self.folds),
            f"folds is {self.folds}, and images are held out by split or share as well; use one of the two",
        )

    @property
    def held_out(self) -> bool:
        """Whether images are scored after every epoch."""
        return bool(self.split or self.share)


def adapted_compact() -> EncoderSettings:
    """Return the encoder ``compact`` as the default recipe trains it: adapted, far more slowly than the head."""
    return EncoderSettings(ADAPTABLE, adapt=0.15)


def compact_head() -> HeadSettings:
    """Return the shape of the built-in model's head, for the encoder ``compact``."""
    return HeadSettings(
        text_dim=384,
        prototype_dim=128,
        refiner_width=64,
        refiner_blocks=0,
        refiner_groups=8,
        pyramid_groups=8,
        norm="pixel",
        upsampling=(1, 1, 2, 2),
        channels=(64, 64, 64, 64),
        map="finest",
    )


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a head is trained from image-level labels; the defaults are the built-in model's.

    Parameters
    ----------
    preset : str
        The recipe that the other values started from; told in the card.
    data, encoder, text, head, optimiser, objective, augment, validation, continuing
        A section a concern.
    seed : int
        Of everything that is left to chance.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    preset: str = "default"
    data: DataSettings = field(default_factory=DataSettings)
    encoder: EncoderSettings = field(default_factory=adapted_compact)
    text: TextSettings = field(default_factory=TextSettings)
    head: HeadSettings = field(default_factory=compact_head)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    continuing: ContinueSettings = field(default_factory=ContinueSettings)
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"seed is {self.seed}; it cannot be negative")
        InferenceSettings(device=self.device)
        one_of("continuing.replay_layout", self.continuing.replay_layout, ("", *LAYOUTS))
        varied = {f"augment.{name}": getattr(self.augment, name) for name in ("stain", "tone", "blur", "zoom")}
        varied |= {"objective.steadiness": self.objective.steadiness, "encoder.adapt": self.encoder.adapt}
        changing = ", ".join(f"{name} is {value:g}" for name, value in varied.items() if value)
        require(
            not (self.encoder.cache and changing),
            f"encoder.cache is {self.encoder.cache!r}, but {changing}: features then change at every step, and cannot "
            "be kept; set that to 0, or leave the cache out",
        )
        empty: dict[str, object] = {"vocabulary": "", "classes": (), "descriptions": 0}
        for name, nothing in empty.items():
            found = getattr(self.data, name)
            require(
                not self.continuing.model or found == nothing,
                f"data.{name} is {found!r}, but classes and descriptions come from the model that is continued, "
                f"{self.continuing.model}; set it to {nothing!r}",
            )
        require(
            not (self.continuing.model and self.encoder.adapt),
            f"encoder.adapt is {self.encoder.adapt}, but the encoder of a model that is continued stays as it is; set "
            "it to 0",
        )
