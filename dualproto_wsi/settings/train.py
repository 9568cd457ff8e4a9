"""Settings of the training job."""

from __future__ import annotations

from dataclasses import dataclass, field

from dualproto_wsi.settings.checks import one_of, require
from dualproto_wsi.settings.head import HeadSettings

LAYOUTS = ("brca-m2c",)
CALIBRATIONS = ("none", "temperature", "presence", "points")
TRAINABLE_ON = ("compact",)
"""Encoders that the training job knows the text side and the grid of."""


def _compact_head() -> HeadSettings:
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
    """How a head is trained from the image-level labels of crops.

    Parameters
    ----------
    layout : str
        How the training data lies on disk: ``brca-m2c``.
    split, test_split : str
        Which images to train on, and which to score once at the end (those of patients not trained on).
    vocabulary : str
        Name of a built-in vocabulary or path of one; it says names, colours and descriptions.
    classes : tuple of str
        Classes of the vocabulary to train, in this order; empty takes all.
    encoder : str
        Frozen image encoder; so far ``compact``.
    head : HeadSettings
        Shape of the head.
    crop_sizes : tuple of int
        Sides of the labelled crops, px.
    min_points : int
        Points from which on a class counts as present in a crop.
    window_px : int
        Side of the window cut from each image in each step, px; inference is not tied to it.
    epochs, batch_size : int
        Passes over the images, and images a step.
    learning_rate, weight_decay : float
        Of AdamW; the rate falls to 0 along a cosine.
    sharpness : float
        How scores are pooled over a crop: r of log(mean(exp(r · score))) / r.
    balance : float
        0: all crops weigh alike; 1: crops with and without a class weigh the same in sum.
    absence : float
        Weight of the term that keeps every place free of classes that a crop around it does not hold.
    diversity : float
        Weight of the term that keeps prototypes of a class apart.
    steadiness : float
        Weight of the term that keeps the map the same when the window moves by less than the encoder's step.
    stain : float
        Strength of the stain augmentation.
    calibration : str
        What is fitted on held-out patients: ``none``; ``temperature``, by crops' labels; ``presence``, that and a bias
        a class, by crops' labels; ``points``, both by the classes of the points themselves.
    gate : float
        How far the classes that a window holds count in its map; 0: not at all.
    folds : int
        Patient-wise folds that give the calibration and the cross-validated scores; 0 does without.
    seed : int
        Of everything that is left to chance.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    layout: str = "brca-m2c"
    split: str = "train"
    test_split: str = "val"
    vocabulary: str = "bcss"
    classes: tuple[str, ...] = ("Tumor", "Stroma", "Lymphocyte")
    encoder: str = "compact"
    head: HeadSettings = field(default_factory=_compact_head)
    crop_sizes: tuple[int, ...] = (64, 96)
    min_points: int = 2
    window_px: int = 224
    epochs: int = 40
    batch_size: int = 3
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    sharpness: float = 1.0
    balance: float = 0.5
    absence: float = 0.3
    diversity: float = 0.1
    steadiness: float = 0.3
    stain: float = 0.15
    calibration: str = "temperature"
    gate: float = 0.0
    folds: int = 4
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        one_of("layout", self.layout, LAYOUTS)
        one_of("calibration", self.calibration, CALIBRATIONS)
        one_of("encoder", self.encoder, TRAINABLE_ON)
        require(
            bool(self.crop_sizes) and min(self.crop_sizes) >= 8,
            f"crop_sizes is {self.crop_sizes}; name sizes of at least 8 px",
        )
        require(
            self.window_px >= min(self.crop_sizes, default=0),
            f"window_px is {self.window_px}; the smallest of crop_sizes {self.crop_sizes} must fit into it",
        )
        for name in ("min_points", "epochs", "batch_size"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "sharpness"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("weight_decay", "balance", "absence", "diversity", "steadiness", "stain", "gate"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it cannot be negative")
        require(self.folds == 0 or self.folds >= 2, f"folds is {self.folds}; use 0, or 2 and more")
