"""The shape of a head."""

from __future__ import annotations

from dataclasses import dataclass

from dualproto_wsi.settings.checks import one_of, require

KINDS = ("dual", "cam")
NORMS = ("group", "pixel")
MERGES = ("softmax", "mean", "logsumexp")
MAPS = ("mean", "finest")

_LEVELS = 4  # of an encoder


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """Shape of a head; the defaults are the published model's.

    Parameters
    ----------
    kind : str
        ``dual``: text and image prototypes; ``cam``: the baseline of plain class activation maps, a linear classifier
        of the deepest level, for which of the other settings only ``upsampling`` counts.
    text_dim : int
        Length of a text feature.
    prototype_dim : int
        Length of a prototype and of a refined feature.
    refiner_width, refiner_blocks : int
        Channels and number of residual blocks of the refiner.
    refiner_groups, pyramid_groups : int
        Groups of the group normalisation.
    norm : str
        ``group`` (statistics over the window, as published) or ``pixel`` (statistics over the channels of a group at
        each place, so that a score does not depend on the window around it).
    upsampling : tuple of int
        Side of each scale's map as a multiple of the encoder's grid; n scales, 1 to 4, take the encoder's n deepest
        levels.
    channels : tuple of int
        Channels of each scale.
    text, image : bool
        Which prototypes are in the bank; at least one.
    merge : str
        How the prototypes of a class become its score: ``softmax`` (softmax-weighted sum), ``mean`` or ``logsumexp``.
    map : str
        How the scales become the map: ``mean`` of all, brought to the finest one, or the ``finest`` alone.
    dropout : float
        Dropout in the refiner while training.
    """

    kind: str = "dual"
    text_dim: int = 512
    prototype_dim: int = 512
    refiner_width: int = 256
    refiner_blocks: int = 8
    refiner_groups: int = 16
    pyramid_groups: int = 16
    norm: str = "group"
    upsampling: tuple[int, ...] = (2, 4, 8, 16)
    channels: tuple[int, ...] = (256, 128, 64, 32)
    text: bool = True
    image: bool = True
    merge: str = "softmax"
    map: str = "mean"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        one_of("norm", self.norm, NORMS)
        one_of("merge", self.merge, MERGES)
        one_of("map", self.map, MAPS)
        require(
            self.text or self.image,
            "text and image are both off; a head needs prototypes of one kind at least",
        )
        require(
            len(self.upsampling) == len(self.channels) > 0,
            f"upsampling {self.upsampling} and channels {self.channels} must name the same number of scales",
        )
        require(
            len(self.upsampling) <= _LEVELS,
            f"upsampling {self.upsampling} names {len(self.upsampling)} scales; an encoder has {_LEVELS} levels, and a "
            "scale needs one of its own",
        )
        require(0 <= self.dropout < 1, f"dropout is {self.dropout}; use 0 to below 1")
        require(self.refiner_blocks >= 0, f"refiner_blocks is {self.refiner_blocks}; it cannot be negative")
        for name, number in {"text_dim": self.text_dim, "upsampling": min(self.upsampling)}.items():
            require(number >= 1, f"{name} is {number}; it must be 1 or more")
        least = 4 if self.norm == "pixel" else 1
        grouped = [("refiner_width", self.refiner_width, self.refiner_groups)]
        grouped += [("prototype_dim", self.prototype_dim, self.refiner_groups)]
        grouped += [("channels", channels, self.pyramid_groups) for channels in self.channels]
        for name, size, groups in grouped:
            require(
                groups >= 1 and size % groups == 0 and size // groups >= least,
                f"{name} {size} does not divide into {groups} groups of {least} or more, as norm {self.norm!r} needs",
            )

    @property
    def uses_text(self) -> bool:
        """Whether text features make a difference to the head."""
        return self.kind == "dual" and self.text
