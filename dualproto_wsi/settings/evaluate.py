"""Settings of the evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from dualproto_wsi.settings.checks import one_of, require
from dualproto_wsi.settings.refine import PRESETS, REFINERS
from dualproto_wsi.settings.train import LAYOUTS

GATES = ("none", "oracle", "predicted")
"""What is known of an image's classes before its map is made.

``none``: nothing. ``oracle``: its true image-level labels, as in the published evaluation; a slide has none.
``predicted``: the model's own answer, its presence gate at strength 1.
"""

BACKGROUNDS = ("excluded", "glass", "released")
"""What becomes of places that the truth says are no class.

``excluded``: they are not counted. ``glass``: background is one more class, predicted where the tissue mask says glass
(and all over an image that holds no class of the model, where the gate is ``oracle``).
``released``: background is one more class, and the whole map is decoded as the published code does it: scores of each
image and class stretched to 0…1, background ``(1 - maximum)^10``. Means are over the classes of the model in each.
"""


@dataclass(frozen=True, slots=True)
class EvaluateSettings:
    """How a model is scored on labelled images: one row of figures for every gate, background, and refinement.

    Parameters
    ----------
    layout : str
        How the data lies on disk.
    split : str
        Images to score.
    mpp : float or None
        Resolution of the images, µm per px, where the layout does not say it or to replace what it says.
    gates : tuple of str
        Of :data:`GATES`.
    backgrounds : tuple of str
        Of :data:`BACKGROUNDS`; empty: ``excluded``, and ``glass`` too where masks have background.
    refiners : tuple of str
        Of ``none``, ``fast`` and ``crf``.
    refine_preset : str
        Parameters of the refiners.
    tta : bool
        Also score the mean of the probabilities of the eight orientations of each image.
    threshold : float
        Probability from which a class counts as present in an image.
    boundary_um : float
        Distance up to which a predicted and a true boundary meet, µm.
    small_um2 : float
        Regions below this area are small, µm².
    bootstrap : int
        Samples of patients that intervals are made of; 0: no intervals.
    probe_split : str
        Also score a linear classifier on the encoder's frozen features, trained on the masks or points of this split;
        empty: none.
    seed : int
        Of everything that is left to chance.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    layout: str = "brca-m2c"
    split: str = "val"
    mpp: float | None = None
    gates: tuple[str, ...] = GATES
    backgrounds: tuple[str, ...] = ()
    refiners: tuple[str, ...] = ("none",)
    refine_preset: str = "default"
    tta: bool = False
    threshold: float = 0.5
    boundary_um: float = 4.0
    small_um2: float = 2000.0
    bootstrap: int = 1000
    probe_split: str = ""
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        one_of("layout", self.layout, LAYOUTS)
        one_of("refine preset", self.refine_preset, tuple(PRESETS))
        for name, given, known in (
            ("gate", self.gates, GATES),
            ("background", self.backgrounds, BACKGROUNDS),
            ("refine", self.refiners, REFINERS),
        ):
            for value in given:
                one_of(name, value, known)
            require(len(set(given)) == len(given), f"{name} is {', '.join(given)}; name each once")
        for name, given in (("gates", self.gates), ("refiners", self.refiners)):
            require(bool(given), f"{name} is empty; name at least one")
        require(
            self.refine_preset == "default" or self.refiners != ("none",),
            f"refine preset is {self.refine_preset!r}, but nothing is refined; choose fast or crf (--refine)",
        )
        require(self.mpp is None or 0.01 <= self.mpp <= 100, f"mpp is {self.mpp}; use 0.01 to 100 (µm per px)")
        require(0 < self.threshold < 1, f"threshold is {self.threshold}; use above 0 to below 1")
        require(0 < self.boundary_um <= 1000, f"boundary_um is {self.boundary_um}; use above 0 to 1000")
        require(self.small_um2 > 0, f"small_um2 is {self.small_um2}; it must be above 0")
        require(
            self.bootstrap == 0 or self.bootstrap >= 100,
            f"bootstrap is {self.bootstrap}; use 0 (no intervals), or 100 and more",
        )
